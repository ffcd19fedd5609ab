//! What was dropped before it was consumed, and offsets that mean something else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use esker::backplane::Offset;
use esker::{ConsumerHaltReason, ConsumerState, ErrorKind, OnEraChange, OnLost, Store};

use crate::world::{NUMBERS, Script, Shifted, World, options, until, until_at, worlds};

fn halted(consumer: &esker::Consumer) -> (ConsumerHaltReason, Option<Offset>) {
    until("a halt", || match consumer.status().state {
        ConsumerState::Halted(halt) => Some((halt.why, halt.floor)),
        _ => None,
    })
}

#[test]
fn compaction_drops_nothing_that_a_consumer_has_not_done_whether_it_runs_or_not() {
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        let offsets: Vec<Offset> = (1..=6).map(|n| topic.append(&n).unwrap()).collect();
        let script = Script::failing([3]);
        let consumer = topic.on_event("ship", options(), script.handler()).unwrap();
        until("an attempt", || (consumer.status().stuck == 1).then_some(()));
        let of_all = store.on_event(NUMBERS, "count", options(), Script::default().handler()).unwrap();
        until_at(&of_all, offsets[5]);
        for is_running in [true, false] {
            let before = topic.compact(offsets[5]).unwrap();
            assert!(before > offsets[1] && before <= offsets[2], "{} {is_running}: {before}", world.name);
            assert_eq!(topic.lowest_retained().unwrap(), offsets[2]);
            consumer.close().unwrap();
        }
        script.mend();
        let consumer = topic.on_event("ship", options(), script.handler()).unwrap();
        until_at(&consumer, offsets[5]);
        assert_eq!(script.events(), [1, 2, 3, 3, 4, 5, 6]);
        assert_eq!(topic.compact(offsets[5]).unwrap(), offsets[5]);
        // One that is not needed any more is retired, and holds nothing back; one that runs is told.
        let idle = topic.on_event("idle", options(), Script::failing([6]).handler());
        assert_eq!(halted(&idle.unwrap()).0, ConsumerHaltReason::Lost);
        let last = topic.append(&7).unwrap();
        assert_eq!(topic.compact(last).unwrap(), Offset::from_raw(1));
        assert!(topic.retire_consumer("idle").unwrap() && !topic.retire_consumer("idle").unwrap());
        until_at(&consumer, last);
        until_at(&of_all, last);
        assert_eq!(topic.compact(last).unwrap(), last);
        assert_eq!(topic.consumers().unwrap().len(), 2);
        assert!(store.retire_consumer(NUMBERS, "count", None).unwrap());
        topic.append(&8).unwrap();
        assert_eq!(halted(&of_all).0, ConsumerHaltReason::Retired);
    }
}

#[test]
fn a_consumer_whose_next_record_is_gone_is_lost_with_the_floor_or_goes_on_from_there_if_told() {
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        let offsets: Vec<Offset> = (1..=4).map(|n| topic.append(&n).unwrap()).collect();
        // Not through the store: nobody asks the consumers.
        world.plane.compactor().unwrap().compact("number", b"a", offsets[2]).unwrap();
        let (lost, reseeded) = (Script::default(), Script::default());
        let consumer = topic.on_event("ship", options(), lost.handler()).unwrap();
        assert_eq!(halted(&consumer), (ConsumerHaltReason::Lost, Some(offsets[2])), "{}", world.name);
        assert!(lost.events().is_empty(), "it never begins at the floor in silence");
        let again = topic.on_event("ship", options().on_lost(OnLost::Reseed), reseeded.handler()).unwrap();
        until_at(&again, offsets[3]);
        assert_eq!((reseeded.events(), again.status().reseeded), (vec![3, 4], 1));
    }
}

#[test]
fn a_consumer_of_all_topics_finds_by_the_numbers_that_records_of_one_are_gone() {
    for world in worlds() {
        let store = world.store();
        let [a, b] = ["a", "b"].map(|key| store.topic(NUMBERS, key).unwrap());
        b.append(&10).unwrap();
        a.append(&1).unwrap();
        let floor = a.append(&2).unwrap();
        let last = a.append(&3).unwrap();
        world.plane.compactor().unwrap().compact("number", b"a", floor).unwrap();
        let (lost, reseeded) = (Script::default(), Script::default());
        let consumer = store.on_event(NUMBERS, "ship", options(), lost.handler()).unwrap();
        assert_eq!(halted(&consumer).0, ConsumerHaltReason::Gap, "{}", world.name);
        assert_eq!(lost.events(), [10]);
        let options = options().on_lost(OnLost::Reseed);
        let again = store.on_event(NUMBERS, "ship", options, reseeded.handler()).unwrap();
        until_at(&again, last);
        // Behind a restart it knows nothing of what came before.
        assert_eq!(reseeded.events(), [2, 3]);
    }
}

fn shifted(world: &World) -> (Arc<Shifted>, Store) {
    let shifted = Arc::new(Shifted { inner: Arc::clone(&world.plane), shift: AtomicU64::new(0) });
    let store = world.store_on(shifted.clone());
    (shifted, store)
}

#[test]
fn in_another_era_it_halts_or_starts_over_also_where_records_are_gone_or_keeps_its_place() {
    for world in worlds() {
        let (plane, store) = shifted(&world);
        let topic = store.topic(NUMBERS, "a").unwrap();
        let offsets: Vec<Offset> = (1..=4).map(|n| topic.append(&n).unwrap()).collect();
        let run = |options: esker::ConsumerOptions, last: Offset| {
            let script = Script::default();
            let consumer = topic.on_event("ship", options, script.handler()).unwrap();
            until("an end", || {
                let status = consumer.status();
                (status.committed >= last || status.has_ended()).then_some(())
            });
            consumer.close().unwrap();
            (script.events(), consumer.status().state)
        };
        assert_eq!(run(options(), offsets[3]).0, [1, 2, 3, 4]);
        world.plane.compactor().unwrap().compact("number", b"a", offsets[1]).unwrap();
        plane.shift.store(1, Ordering::SeqCst);
        let last = topic.append(&5).unwrap();
        let (events, state) = run(options(), last);
        let ConsumerState::Halted(halt) = state else { panic!("{state:?}") };
        assert_eq!((events, halt.why), (vec![], ConsumerHaltReason::EraChanged), "{}", world.name);
        assert_eq!(topic.compact(last).unwrap(), Offset::BEGINNING, "its place means nothing now");

        let keeping = options().on_era_change(OnEraChange::KeepPlace);
        assert_eq!(run(keeping, last).0, [5]);
        plane.shift.store(2, Ordering::SeqCst);
        let over = options().on_era_change(OnEraChange::StartOver);
        assert_eq!(run(over, last).0, [2, 3, 4, 5], "from the oldest that is left");
        assert_eq!(run(options(), last).0, Vec::<u64>::new(), "and once");
    }
}

#[test]
fn a_place_that_is_damaged_is_an_error_and_never_written_over() {
    let world = &worlds()[0];
    let store = world.store();
    let topic = store.topic(NUMBERS, "a").unwrap();
    let first = topic.append(&1).unwrap();
    let consumer = topic.on_event("ship", options(), Script::default().handler()).unwrap();
    until_at(&consumer, first);
    let cells = world.cells();
    let ours = cells.iter().filter(|key| key.starts_with(b"\xffesker."));
    let mut count = 0;
    for key in ours {
        count += 1;
        let cell = world.plane.load(key).unwrap();
        world.put_raw(key, cell.revision, b"\xc1");
    }
    assert_eq!(count, 2, "the place, and the list of names");
    topic.append(&2).unwrap();
    assert_eq!(halted(&consumer).0, ConsumerHaltReason::Damaged);
    let damaged = [
        topic.on_event("ship", options(), Script::default().handler()).map(drop),
        topic.on_event("new", options(), Script::default().handler()).map(drop),
        topic.compact(first).map(drop),
        topic.consumers().map(drop),
        topic.retire_consumer("ship").map(drop),
    ];
    for outcome in damaged {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Corrupt);
    }
    assert!(world.cells().iter().all(|key| world.plane.load(key).unwrap().bytes.as_deref() == Some(b"\xc1")));
}
