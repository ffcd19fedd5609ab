//! Several who consume: parts of the entities, and processes of one name.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;

use esker::backplane::Offset;
use esker::{ConsumerState, Delivery, ErrorKind};

use crate::world::{NUMBERS, Script, held, options, until, until_asleep, until_at, worlds};

#[test]
fn parts_share_the_entities_and_each_has_a_place_of_its_own() {
    for world in worlds() {
        let store = world.store();
        let mut last = Offset::BEGINNING;
        for n in 0..60_u64 {
            last = store.topic(NUMBERS, (n % 20).to_le_bytes()).unwrap().append(&n).unwrap();
        }
        let scripts = [(); 3].map(|()| Script::default());
        let consumers: Vec<_> = (0..3)
            .map(|i| {
                let options = options().shard(i, 3);
                store.on_event(NUMBERS, "ship", options, scripts[i as usize].handler()).unwrap()
            })
            .collect();
        for consumer in &consumers {
            until("the end", || (consumer.status().position == last).then_some(()));
        }
        let mut all: Vec<u64> = scripts.iter().flat_map(Script::events).collect();
        assert!(scripts.iter().all(|script| !script.events().is_empty()), "twenty fall into each");
        for script in &scripts {
            assert!(script.events().is_sorted(), "in order");
            for call in script.calls() {
                let is_elsewhere = |other: &&Script| other.calls().iter().any(|found| found.key == call.key);
                assert_eq!(scripts.iter().filter(is_elsewhere).count(), 1, "an entity is in one part");
            }
        }
        all.sort_unstable();
        assert_eq!(all, (0..60).collect::<Vec<u64>>(), "{}", world.name);
        let infos = store.consumers(NUMBERS).unwrap();
        assert_eq!(infos.iter().map(|info| info.shard).collect::<Vec<_>>(), [0, 1, 2].map(|i| Some((i, 3))));
        assert!(store.retire_consumer(NUMBERS, "ship", Some((1, 3))).unwrap());
    }
}

#[test]
fn one_name_runs_once_in_a_store() {
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        let first = topic.on_event("ship", options(), Script::default().handler()).unwrap();
        let error = topic.on_event("ship", options(), Script::default().handler()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CursorInUse, "{error}");
        first.close().unwrap();
        topic.on_event("ship", options(), Script::default().handler()).unwrap();
        store.topic(NUMBERS, "b").unwrap().on_event("ship", options(), Script::default().handler()).unwrap();
    }
}

/// Says that it is over, also where a test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn of_two_processes_of_one_name_each_moves_on_and_the_place_never_goes_back() {
    for world in worlds() {
        let stores = [world.store(), world.store()];
        let topics = stores.each_ref().map(|store| store.topic(NUMBERS, "a").unwrap());
        let scripts = [Script::failing([7]), Script::failing([7])];
        let consumers: Vec<_> = (0..2)
            .map(|i| topics[i].on_event("ship", options().max_attempts(4), scripts[i].handler()).unwrap())
            .collect();
        let last = (1..=30).fold(Offset::BEGINNING, |_, n| topics[0].append(&n).unwrap());
        let (done, mut highest) = (AtomicBool::new(false), Offset::BEGINNING);
        let ends = Ends(&done);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    world.clock.advance(std::time::Duration::from_millis(5));
                    std::thread::yield_now();
                }
            });
            until("both", || {
                let infos = topics[0].consumers().unwrap();
                let position = infos.first().map_or(Offset::BEGINNING, |info| info.position);
                assert!(position >= highest, "it went back from {highest} to {position}");
                highest = position;
                consumers.iter().all(|consumer| consumer.status().position >= last).then_some(())
            });
            drop(ends);
        });
        for n in (1..=30).filter(|n| *n != 7) {
            let times = scripts.iter().flat_map(Script::events).filter(|event| *event == n).count();
            assert!((1..=2).contains(&times), "{}: {n} came {times} times", world.name);
        }
        assert!(scripts.iter().all(|script| script.events().is_sorted()));
        let failed: Vec<usize> = scripts
            .iter()
            .map(|script| script.events().iter().filter(|event| **event == 7).count())
            .collect();
        assert!(failed.iter().all(|failed| *failed <= 4) && failed.iter().sum::<usize>() >= 4, "{failed:?}");
        assert_eq!(consumers[0].dead_letters().unwrap().len(), 1, "it is set aside once");
        assert_eq!(topics[0].consumers().unwrap()[0].poisoned, 1);
    }
}

#[test]
fn one_that_was_overtaken_in_its_handler_leaves_the_place_where_the_other_has_brought_it() {
    for world in worlds() {
        let stores = [world.store(), world.store()];
        let topics = stores.each_ref().map(|store| store.topic(NUMBERS, "a").unwrap());
        let last = (1..=5).fold(Offset::BEGINNING, |_, n| topics[0].append(&n).unwrap());
        let ((tell, called), (go_on, wait)) = (channel(), channel::<()>());
        let slow = topics[0]
            .on_event("ship", options(), move |delivery: &Delivery<'_, u64>| {
                tell.send(delivery.event)?;
                wait.recv()?;
                Ok(())
            })
            .unwrap();
        assert_eq!(called.recv().unwrap(), 1);
        let goes = Script::default();
        let fast = topics[1].on_event("ship", options(), goes.handler()).unwrap();
        until_at(&fast, last);
        go_on.send(()).unwrap();
        until("the position", || (slow.status().position == last).then_some(()));
        until_asleep(&slow);
        assert_eq!(topics[0].consumers().unwrap()[0].position, last, "{}", world.name);
        assert_eq!((goes.events(), called.try_recv().ok()), (vec![1, 2, 3, 4, 5], None));
    }
}

#[test]
fn one_that_stands_moves_on_behind_the_other() {
    for world in worlds() {
        let stores = [world.store(), world.store()];
        let topics = stores.each_ref().map(|store| store.topic(NUMBERS, "a").unwrap());
        let last = (1..=3).fold(Offset::BEGINNING, |_, n| topics[0].append(&n).unwrap());
        let (stands, goes) = (Script::failing([1]), Script::default());
        let standing = topics[0].on_event("ship", options(), stands.handler()).unwrap();
        until("an attempt", || (standing.status().stuck == 1).then_some(()));
        let going = topics[1].on_event("ship", options(), goes.handler()).unwrap();
        until_at(&going, last);
        assert_eq!(goes.calls()[0].attempt, 2, "the first was the other's");
        world.pass_the_pause_of(&standing);
        until("the position", || (standing.status().position == last).then_some(()));
        assert_eq!((stands.events(), standing.status().stuck), (vec![1], 0), "{}", world.name);
    }
}

#[test]
fn a_handler_may_append_and_consume_and_one_that_is_slow_holds_only_its_own_thread() {
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        let (own, seen) = (store.clone(), Arc::new(Script::default()));
        let forward = topic
            .on_event("forward", options(), move |delivery: &Delivery<'_, u64>| {
                own.topic(NUMBERS, "b")?.append(&(delivery.event * 10))?;
                Ok(())
            })
            .unwrap();
        let reading = store.topic(NUMBERS, "b").unwrap().on_event("read", options(), seen.handler()).unwrap();
        (1..=20).for_each(|n| _ = topic.append(&n).unwrap());
        until("all of them", || (seen.events().len() == 20).then_some(()));
        assert!(seen.events().into_iter().eq((1..=20).map(|n| n * 10)), "{}", world.name);
        // The handler has a store in hand: it is closed by name.
        forward.close().unwrap();
        reading.close().unwrap();
        store.close().unwrap();
    }
}

#[test]
fn what_is_suspended_goes_on_in_each_process_when_it_is_resumed_in_one() {
    for world in worlds() {
        let stores = [world.store(), world.store(), world.store_of_one_that_ended()];
        let topics = stores.each_ref().map(|store| store.topic(NUMBERS, "a").unwrap());
        let first = topics[0].append(&1).unwrap();
        let (handler, called, go_on) = held();
        let _crashed = topics[2].on_event("ship", options(), handler).unwrap();
        called.recv().unwrap();
        let mut consumers = Vec::new();
        for topic in &topics[..2] {
            let consumer =
                topic.on_event("ship", options().crashes_max(1), Script::default().handler()).unwrap();
            until("suspension", || (consumer.status().state == ConsumerState::Suspended).then_some(()));
            consumers.push(consumer);
        }
        assert!(consumers[0].resume().unwrap());
        until_at(&consumers[0], first);
        until("the other", || {
            world.clock.advance(std::time::Duration::from_secs(1));
            (consumers[1].status().state == ConsumerState::Running).then_some(())
        });
        assert_eq!(consumers[1].status().position, first, "{}", world.name);
        drop(go_on);
    }
}

#[test]
fn a_consumer_of_a_topic_and_one_of_its_stream_of_the_same_name_have_other_idempotency_keys() {
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        let last = topic.append(&1).unwrap();
        let scripts = [Script::default(), Script::default()];
        let of_one = topic.on_event("ship", options(), scripts[0].handler()).unwrap();
        let of_all = store.on_event(NUMBERS, "ship", options(), scripts[1].handler()).unwrap();
        until_at(&of_one, last);
        until_at(&of_all, last);
        let [one, all] = scripts.map(|script| script.calls()[0].idempotency);
        assert_ne!(one, all, "{}", world.name);
    }
}
