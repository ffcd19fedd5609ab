//! What was dropped before it was consumed, and offsets that mean something else.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use esker::backplane::Offset;
use esker::{BackupBy, ConsumerHaltReason, ConsumerState, ErrorKind, OnEraChange, OnLost, Store};

use crate::world::{Meddled, NUMBERS, Script, World, held, options, until, until_asleep, until_at, worlds};

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
        assert_eq!(halted(&consumer), (ConsumerHaltReason::Lost, Some(floor)), "{}", world.name);
        assert_eq!(lost.events(), [10]);
        let options = options().on_lost(OnLost::Reseed);
        let again = store.on_event(NUMBERS, "ship", options, reseeded.handler()).unwrap();
        until_at(&again, last);
        // Behind a restart it knows nothing of what came before.
        assert_eq!(reseeded.events(), [2, 3]);
    }
}

fn shifted(world: &World) -> (Arc<Meddled>, Store) {
    let shifted = Meddled::over(world);
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
fn behind_a_restore_a_consumer_halts_says_how_to_go_on_and_goes_on_as_it_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let [path, copy, restored] = ["s.esker", "copy.esker", "r.esker"].map(|name| directory.path().join(name));
    let run = |store: &Store, options: esker::ConsumerOptions| {
        let topic = store.topic(NUMBERS, "a").unwrap();
        let (script, last) = (Script::default(), topic.head().unwrap());
        let consumer = topic.on_event("ship", options, script.handler()).unwrap();
        until("an end", || {
            let status = consumer.status();
            (status.committed >= last || status.has_ended()).then_some(())
        });
        consumer.close().unwrap();
        (script.events(), consumer.status().state)
    };
    let store = Store::open(&path).unwrap();
    store.topic(NUMBERS, "a").unwrap().append(&1).unwrap();
    assert_eq!(run(&store, options()).0, [1]);
    store.journal().backup(&copy, BackupBy::Copy).unwrap();
    store.close().unwrap();
    esker::restore(&copy, &restored).unwrap();
    let store = Store::open(&restored).unwrap();
    store.topic(NUMBERS, "a").unwrap().append(&2).unwrap();
    let ConsumerState::Halted(halt) = run(&store, options()).1 else { panic!("it goes on by itself") };
    assert_eq!(halt.why, ConsumerHaltReason::EraChanged);
    let text = halt.to_string();
    assert!(text.contains("`OnEraChange::KeepPlace`") && text.contains("`OnEraChange::StartOver`"), "{text}");
    assert_eq!(run(&store, options().on_era_change(OnEraChange::KeepPlace)).0, [2]);
    assert_eq!(run(&store, options()).0, Vec::<u64>::new(), "it is of this era now");
    store.close().unwrap();
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

#[test]
fn what_a_feed_leaves_out_and_is_there_is_read_again_whatever_is_done_about_losses() {
    for (world, on_lost) in worlds().into_iter().flat_map(|world| {
        let world = Arc::new(world);
        [OnLost::Halt, OnLost::Reseed].map(|on_lost| (Arc::clone(&world), on_lost))
    }) {
        let plane = Meddled::over(&world);
        *plane.left_out.lock().unwrap() = Some(vec![3]);
        let store = world.store_on(plane.clone());
        let key = format!("{on_lost:?}");
        let topic = store.topic(NUMBERS, &key).unwrap();
        let last = (1..=5).fold(Offset::BEGINNING, |_, n| topic.append(&n).unwrap());
        let script = Script::default();
        let consumer = topic.on_event("ship", options().on_lost(on_lost), script.handler()).unwrap();
        until("an end", || {
            (consumer.status().has_ended() || consumer.status().committed >= last).then_some(())
        });
        assert!(plane.left_out.lock().unwrap().is_none(), "it was left out");
        let status = consumer.status();
        assert_eq!(
            (script.events(), status.reseeded),
            (vec![1, 2, 3, 4, 5], 0),
            "{}: {status:?}",
            world.name
        );
    }
}

#[test]
fn a_place_of_the_era_before_is_not_written_into_one_that_another_process_has_begun() {
    for world in worlds() {
        let plane = Meddled::over(&world);
        let stores = [(); 3].map(|()| world.store_on(plane.clone()));
        let topics = stores.each_ref().map(|store| store.topic(NUMBERS, "a").unwrap());
        let over = || options().on_era_change(OnEraChange::StartOver);
        let offsets: Vec<Offset> = (1..=5).map(|n| topics[0].append(&n).unwrap()).collect();
        let (handler, called, go_on) = held();
        let of_old = topics[0].on_event("ship", over(), handler).unwrap();
        for n in 1..=4 {
            assert_eq!(called.recv().unwrap(), n);
            go_on.send(()).unwrap();
        }
        assert_eq!(called.recv().unwrap(), 5, "it is in its handler, with the last of the old era");
        plane.shift.store(1, Ordering::SeqCst);
        let (handler, called_anew, go_on_anew) = held();
        let _of_new = topics[1].on_event("ship", over(), handler).unwrap();
        assert_eq!(called_anew.recv().unwrap(), 1);
        go_on_anew.send(()).unwrap();
        assert_eq!(called_anew.recv().unwrap(), 2);
        go_on.send(()).unwrap();
        // It has 2 of the new era before it, and not what it had in hand of the old one.
        assert_eq!(called.recv().unwrap(), 2, "{}", world.name);
        let info = topics[0].consumers().unwrap().remove(0);
        assert_eq!(info.position, offsets[0], "{}: {info:?}", world.name);
        assert_eq!(of_old.status().position, offsets[0]);
        drop((go_on, go_on_anew));
    }
}

#[test]
fn a_new_consumer_of_a_stream_that_was_compacted_is_lost_with_the_floor() {
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        let offsets: Vec<Offset> = (1..=5).map(|n| topic.append(&n).unwrap()).collect();
        assert_eq!(topic.compact(offsets[3]).unwrap(), offsets[3]);
        let script = Script::default();
        let consumer = store.on_event(NUMBERS, "ship", options(), script.handler()).unwrap();
        assert_eq!(halted(&consumer), (ConsumerHaltReason::Lost, Some(offsets[3])), "{}", world.name);
        let reseeding = options().on_lost(OnLost::Reseed);
        let consumer = store.on_event(NUMBERS, "ship", reseeding, script.handler()).unwrap();
        until_at(&consumer, offsets[4]);
        assert_eq!((script.events(), consumer.status().reseeded), (vec![4, 5], 1));
    }
}

#[test]
fn a_consumer_that_was_retired_does_not_go_on_as_the_next_one_of_its_name() {
    for world in worlds() {
        let stores = [world.store(), world.store()];
        let topics = stores.each_ref().map(|store| store.topic(NUMBERS, "a").unwrap());
        let script = Script::default();
        let first = topics[0].on_event("ship", options(), script.handler()).unwrap();
        let last = (1..=3).fold(Offset::BEGINNING, |_, n| topics[0].append(&n).unwrap());
        until_at(&first, last);
        until_asleep(&first);
        assert!(topics[1].retire_consumer("ship").unwrap());
        let (handler, called, go_on) = held();
        let second = topics[1].on_event("ship", options(), handler).unwrap();
        assert_eq!(called.recv().unwrap(), 1);
        let last = topics[1].append(&4).unwrap();
        assert_eq!(halted(&first).0, ConsumerHaltReason::Retired, "{}", world.name);
        (1..=4).for_each(|_| go_on.send(()).unwrap());
        until_at(&second, last);
        assert_eq!(called.try_iter().collect::<Vec<_>>(), [2, 3, 4]);
    }
}

#[test]
fn a_name_that_is_taken_up_while_it_is_retired_is_on_the_list_or_gone() {
    for world in worlds() {
        let plane = Meddled::over(&world);
        let (retiring, starting) = (world.store_on(plane.clone()), world.store());
        let topic = retiring.topic(NUMBERS, "a").unwrap();
        let old =
            starting.topic(NUMBERS, "a").unwrap().on_event("ship", options(), Script::default().handler());
        old.unwrap().close().unwrap();
        // The first commit empties the cell; before the second one, which takes the name off the list, it is taken up.
        let own = starting.clone();
        let starts = Box::new(move || {
            let topic = own.topic(NUMBERS, "a").unwrap();
            topic.on_event("ship", options(), Script::failing([1]).handler()).unwrap();
        });
        plane.before_commits.lock().unwrap().extend([Box::new(|| {}) as Box<dyn FnOnce() + Send>, starts]);
        assert!(topic.retire_consumer("ship").unwrap());
        assert_eq!(topic.consumers().unwrap().len(), 1, "{}", world.name);
        topic.append(&1).unwrap();
        let last = topic.append(&2).unwrap();
        assert!(topic.compact(last).unwrap() <= Offset::from_raw(1), "it has done nothing yet");
    }
}

#[test]
fn a_place_behind_the_end_of_the_log_is_a_gap_also_where_the_backplane_calls_it_another_era() {
    for world in worlds() {
        let plane = Meddled::over(&world);
        let store = world.store_on(Arc::clone(&plane) as _);
        let topic = store.topic(NUMBERS, "a").unwrap();
        let last = topic.append(&1).unwrap();
        let script = Script::default();
        let consumer = topic.on_event("ship", options(), script.handler()).unwrap();
        until_at(&consumer, last);
        consumer.close().unwrap();
        plane.is_confused.store(true, Ordering::SeqCst);
        let consumer = topic.on_event("ship", options(), script.handler()).unwrap();
        assert_eq!(halted(&consumer).0, ConsumerHaltReason::Gap, "{}", world.name);
        consumer.close().unwrap();
        plane.is_confused.store(false, Ordering::SeqCst);
        let consumer = topic.on_event("ship", options(), script.handler()).unwrap();
        let next = topic.append(&2).unwrap();
        until_at(&consumer, next);
        assert_eq!(script.events(), [1, 2]);
    }
}
