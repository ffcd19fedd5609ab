//! Ends: as they should be, of a handler that runs on, and without a word.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use esker::{Consumer, ConsumerOptions, ConsumerState, Delivery, ErrorKind, Store};

use crate::world::{
    Meddled, NUMBERS, PATIENCE, Script, World, held, options, until, until_asleep, until_at, worlds,
};

#[test]
fn a_close_tells_the_handler_and_names_who_runs_on() {
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        topic.append(&1).unwrap();
        let (handler, called, go_on) = held();
        let consumer = topic.on_event("ship", options().grace(Duration::ZERO), handler).unwrap();
        called.recv().unwrap();
        let error = consumer.close().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains("\"ship\" of number/a"), "{error}");
        let error = topic.on_event("ship", options(), Script::default().handler()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CursorInUse, "its handler still runs: {error}");
        go_on.send(()).unwrap();
        until("its end", || consumer.status().has_ended().then_some(()));
        assert_eq!(consumer.status().state, ConsumerState::Stopped);
        let info = &topic.consumers().unwrap()[0];
        assert!(!info.is_open && info.position == consumer.status().position, "{info:?}");
        let script = Script::default();
        let again = topic.on_event("ship", options(), script.handler()).unwrap();
        let last = topic.append(&2).unwrap();
        until_at(&again, last);
        assert_eq!(script.events(), [2], "{}: what was done when it ended is done", world.name);
    }
}

#[test]
fn nothing_is_started_in_a_store_that_was_closed() {
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        store.close().unwrap();
        let script = Script::default();
        let refused = topic.on_event("ship", options(), script.handler()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Closed, "{}: {refused}", world.name);
        let others = world.store();
        let last = others.topic(NUMBERS, "a").unwrap().append(&1).unwrap();
        let theirs = Script::default();
        let consumer =
            others.topic(NUMBERS, "a").unwrap().on_event("ship", options(), theirs.handler()).unwrap();
        until_at(&consumer, last);
        assert_eq!((script.events().len(), theirs.events().len()), (0, 1), "{}", world.name);
    }
}

#[test]
fn a_store_whose_backplane_does_not_answer_is_closed_within_the_grace_of_its_consumers() {
    const CONSUMERS: usize = 16;
    const TRY: Duration = Duration::from_millis(200);
    for world in worlds() {
        let plane = Meddled::over(&world);
        let store = world.store_on(Arc::clone(&plane) as _);
        let topic = store.topic(NUMBERS, "a").unwrap();
        let grace = options().grace(Duration::from_millis(100));
        let consumers: Vec<Consumer> = (0..CONSUMERS)
            .map(|n| topic.on_event(&format!("c{n}"), grace.clone(), Script::default().handler()).unwrap())
            .collect();
        consumers.iter().for_each(until_asleep);
        *plane.unreachable_for.lock().unwrap() = Some(TRY);
        let begun = Instant::now();
        let error = store.close().unwrap_err();
        // One behind the other they take four tries each.
        assert!(begun.elapsed() < TRY * 12, "{}: {:?}", world.name, begun.elapsed());
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(error.to_string().contains("of number/a"), "{error}");
        *plane.unreachable_for.lock().unwrap() = None;
        until("their end", || consumers.iter().all(|one| one.status().has_ended()).then_some(()));
    }
}

#[test]
fn a_consumer_that_is_closed_while_its_backplane_does_not_answer_says_so_and_is_not_waited_for() {
    const TRY: Duration = Duration::from_secs(1);
    for world in worlds() {
        let plane = Meddled::over(&world);
        let store = world.store_on(Arc::clone(&plane) as _);
        let topic = store.topic(NUMBERS, "a").unwrap();
        let options = options().grace(Duration::from_millis(100));
        let consumer = topic.on_event("ship", options, Script::default().handler()).unwrap();
        until_asleep(&consumer);
        *plane.unreachable_for.lock().unwrap() = Some(TRY);
        let begun = Instant::now();
        let error = consumer.close().unwrap_err();
        assert!(begun.elapsed() < TRY * 3, "{}: {:?}", world.name, begun.elapsed());
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(error.to_string().contains("a backplane that does not answer"), "{error}");
        *plane.unreachable_for.lock().unwrap() = None;
        until("its end", || consumer.status().has_ended().then_some(()));
        consumer.close().unwrap();
    }
}

/// Something that happens before a commit: it says so, and goes on when it is told.
fn held_commit(plane: &Meddled) -> (Receiver<()>, Sender<()>) {
    let ((tell, begun), (go_on, wait)) = (channel(), channel());
    plane.before_commits.lock().unwrap().push_back(Box::new(move || {
        let _ = tell.send(());
        let _ = wait.recv();
    }));
    (begun, go_on)
}

#[test]
fn a_consumer_that_is_writing_down_its_end_is_not_named_whatever_its_grace() {
    for world in worlds() {
        let plane = Meddled::over(&world);
        let store = world.store_on(Arc::clone(&plane) as _);
        let topic = store.topic(NUMBERS, "a").unwrap();
        let options = options().grace(Duration::ZERO);
        let consumer = topic.on_event("ship", options, Script::default().handler()).unwrap();
        until_asleep(&consumer);
        let (begun, go_on) = held_commit(&plane);
        consumer.stop();
        // A thread of the pool has it in hand.
        begun.recv_timeout(PATIENCE).unwrap();
        let closed = std::thread::scope(|threads| {
            let closing = threads.spawn(|| store.close());
            std::thread::sleep(Duration::from_millis(100));
            go_on.send(()).unwrap();
            closing.join().unwrap()
        });
        closed.unwrap_or_else(|error| panic!("{}: {error}", world.name));
        assert_eq!(consumer.status().state, ConsumerState::Stopped);
    }
}

#[test]
fn a_start_that_waits_for_the_backplane_holds_up_neither_other_starts_nor_a_close_and_ends_behind_that() {
    for world in worlds() {
        let plane = Meddled::over(&world);
        let store = world.store_on(Arc::clone(&plane) as _);
        let topic = store.topic(NUMBERS, "a").unwrap();
        let (begun, go_on) = held_commit(&plane);
        std::thread::scope(|threads| {
            let start = || topic.on_event("slow", options(), Script::default().handler());
            let slow = threads.spawn(start);
            begun.recv_timeout(PATIENCE).unwrap();
            let (tell, told) = channel();
            let (topic, store) = (&topic, &store);
            threads.spawn(move || {
                let other = topic.on_event("other", options(), Script::default().handler());
                let taken = topic.on_event("slow", options(), Script::default().handler());
                _ = tell.send((other.map(drop), taken.map(drop), store.close()));
            });
            let answered = told.recv_timeout(Duration::from_secs(10));
            go_on.send(()).unwrap();
            let (other, taken, closed) = answered.expect("nobody waits for it");
            other.unwrap();
            assert_eq!(taken.unwrap_err().kind(), ErrorKind::CursorInUse, "{}", world.name);
            closed.unwrap();
            assert_eq!(slow.join().unwrap().unwrap_err().kind(), ErrorKind::Closed, "{}", world.name);
        });
        let written = world.store().topic(NUMBERS, "a").unwrap().consumers().unwrap();
        assert!(written.len() == 2 && written.iter().all(|one| !one.is_open), "{written:?}");
    }
}

#[test]
fn a_handler_that_looks_is_cancelled_and_what_it_answers_then_is_no_failure() {
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        topic.append(&1).unwrap();
        let (tell, called) = channel();
        let consumer = topic
            .on_event("ship", options(), move |delivery: &Delivery<'_, u64>| {
                tell.send(())?;
                while !delivery.cancelled() {
                    std::thread::yield_now();
                }
                Err("cancelled".into())
            })
            .unwrap();
        called.recv().unwrap();
        store.close().unwrap();
        assert_eq!((consumer.status().state, consumer.status().errors), (ConsumerState::Stopped, 0));
        let info = &world.store().topic(NUMBERS, "a").unwrap().consumers().unwrap()[0];
        assert_eq!((info.attempts, info.is_open), (0, false), "{}", world.name);
    }
}

#[test]
fn a_handler_that_waits_for_its_own_end_is_told_and_one_that_stops_itself_ends_behind_itself() {
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        let own: Arc<Mutex<Option<Consumer>>> = Arc::default();
        let (tell, told) = channel();
        let handle = Arc::clone(&own);
        let consumer = topic
            .on_event("ship", options(), move |_: &Delivery<'_, u64>| {
                let own = handle.lock().unwrap().take().ok_or("not yet")?;
                tell.send(own.close().unwrap_err().kind())?;
                Ok(())
            })
            .unwrap();
        *own.lock().unwrap() = Some(consumer.clone());
        let offset = topic.append(&1).unwrap();
        assert_eq!(told.recv().unwrap(), ErrorKind::WouldDeadlock);
        until("its end", || consumer.status().has_ended().then_some(()));
        assert_eq!(consumer.status().committed, offset, "{}", world.name);
    }
}

#[test]
fn the_last_handle_of_a_store_ends_its_consumers_as_they_should_be() {
    for world in worlds() {
        let store = world.store();
        let offset = store.topic(NUMBERS, "a").unwrap().append(&1).unwrap();
        let script = Script::default();
        let consumer =
            store.topic(NUMBERS, "a").unwrap().on_event("ship", options(), script.handler()).unwrap();
        until_at(&consumer, offset);
        drop(store);
        assert_eq!(consumer.status().state, ConsumerState::Stopped, "{}", world.name);
        assert!(!world.store().topic(NUMBERS, "a").unwrap().consumers().unwrap()[0].is_open);
    }
}

/// A process that ends in the handler: it never comes back from there, and nobody of it says anything any more.
struct Crashed {
    _store: Store,
    _go_on: Sender<()>,
}

fn crash_in_handler(world: &World, options: ConsumerOptions) -> Option<Crashed> {
    let store = world.store_of_one_that_ended();
    let (handler, called, go_on) = held();
    let topic = store.topic(NUMBERS, "a").unwrap();
    let consumer = topic.on_event("ship", options.grace(Duration::ZERO), handler).unwrap();
    until("a call or a stop", || match called.try_recv() {
        Ok(_) => Some(Some(())),
        Err(_) => (consumer.status().state == ConsumerState::Suspended).then_some(None),
    })?;
    Some(Crashed { _store: store, _go_on: go_on })
}

#[test]
fn a_process_that_ends_in_the_handler_sets_nothing_aside_and_five_in_a_row_suspend() {
    for world in worlds() {
        world.store().topic(NUMBERS, "a").unwrap().append(&1).unwrap();
        let options = || options().max_attempts(1);
        let crashed: Vec<Option<Crashed>> = (0..6).map(|_| crash_in_handler(&world, options())).collect();
        assert_eq!(crashed.iter().filter(|crashed| crashed.is_some()).count(), 5, "{}", world.name);
        let info = world.store().topic(NUMBERS, "a").unwrap().consumers().unwrap().remove(0);
        assert_eq!((info.crashes, info.attempts, info.poisoned), (5, 0, 0));
        assert!(info.suspended.as_ref().unwrap().contains("crash loop"), "{info:?}");

        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        let last = topic.append(&2).unwrap();
        let script = Script::default();
        let consumer = topic.on_event("ship", options(), script.handler()).unwrap();
        until("the state", || (consumer.status().state == ConsumerState::Suspended).then_some(()));
        until_asleep(&consumer);
        assert!(script.events().is_empty());
        assert!(consumer.resume().unwrap());
        until_at(&consumer, last);
        assert_eq!(script.events(), [1, 2], "nothing was dropped");
        assert!(!consumer.resume().unwrap());
        assert_eq!(consumer.status().crashes, 0);
    }
}

#[test]
fn a_crash_is_counted_once_also_where_the_answer_to_that_is_lost() {
    /// As often as a commit is repeated.
    const TRIES: u32 = 4;
    for world in worlds() {
        world.store().topic(NUMBERS, "a").unwrap().append(&1).unwrap();
        let crashed = crash_in_handler(&world, options()).unwrap();
        let plane = Meddled::over(&world);
        *plane.lost.lock().unwrap() = (b"\xa7crashes\x01".to_vec(), TRIES);
        let store = world.store_on(Arc::clone(&plane) as _);
        let topic = store.topic(NUMBERS, "a").unwrap();
        let (handler, called, go_on) = held();
        let consumer = topic.on_event("ship", options(), handler).unwrap();
        world.pass_the_pause_of(&consumer);
        called.recv().unwrap();
        assert_eq!(plane.lost.lock().unwrap().1, 0, "{}: it was another one", world.name);
        assert_eq!(topic.consumers().unwrap()[0].crashes, 1, "{}", world.name);
        go_on.send(()).unwrap();
        until("the end of the row", || (consumer.status().crashes == 0).then_some(()));
        drop(crashed);
    }
}

#[test]
fn starts_while_a_handler_of_the_name_runs_are_no_row_of_crashes() {
    for world in worlds() {
        let first = world.store().topic(NUMBERS, "a").unwrap().append(&1).unwrap();
        let mut live = Vec::new();
        for n in 0..8 {
            let store = world.store();
            let (handler, called, go_on) = held();
            let consumer = store.topic(NUMBERS, "a").unwrap().on_event("ship", options(), handler).unwrap();
            until("a call", || {
                assert_ne!(consumer.status().state, ConsumerState::Suspended, "{}: {n}", world.name);
                called.try_recv().ok()
            });
            assert_eq!(consumer.status().crashes, 0, "{}: {n}", world.name);
            live.push((store, consumer, go_on));
        }
        // One of them ends without a word, and counts once; those that are there do not.
        let crashed = crash_in_handler(&world, options()).unwrap();
        let last = crash_in_handler(&world, options()).unwrap();
        let info = live[0].0.topic(NUMBERS, "a").unwrap().consumers().unwrap().remove(0);
        assert_eq!((info.crashes, info.suspended, info.is_open), (1, None, true), "{}", world.name);
        live[0].2.send(()).unwrap();
        until_at(&live[0].1, first);
        live.iter().for_each(|(_, _, go_on)| _ = go_on.send(()));
        drop((crashed, last));
    }
}

#[test]
fn an_event_that_is_done_ends_a_row_of_crashes() {
    for world in worlds() {
        world.store().topic(NUMBERS, "a").unwrap().append(&1).unwrap();
        let _crashed: Vec<_> = (0..4).map(|_| crash_in_handler(&world, options())).collect();
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        let last = topic.append(&2).unwrap();
        let consumer = topic.on_event("ship", options(), Script::default().handler()).unwrap();
        until_at(&consumer, last);
        assert_eq!(
            (consumer.status().crashes, &consumer.status().state),
            (0, &ConsumerState::Running),
            "{}",
            world.name
        );
    }
}

#[test]
fn processes_that_end_behind_what_they_have_done_are_no_row_of_crashes() {
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        let mut killed = Vec::new();
        for n in 1..=8 {
            let last = topic.append(&n).unwrap();
            let store = world.store_of_one_that_ended();
            let options = options().commit_every(100);
            let consumer =
                store.topic(NUMBERS, "a").unwrap().on_event("ship", options, |_: &Delivery<'_, u64>| Ok(()));
            let consumer = consumer.unwrap();
            until("the last", || {
                assert_ne!(consumer.status().state, ConsumerState::Suspended, "{}: {n}", world.name);
                (consumer.status().position == last).then_some(())
            });
            until_asleep(&consumer);
            // It is never told to end.
            killed.push((store, consumer));
        }
        let info = topic.consumers().unwrap().remove(0);
        assert!(info.crashes <= 1 && info.suspended.is_none(), "{info:?}");
        killed.into_iter().for_each(std::mem::forget);
    }
}

#[test]
fn who_was_suspended_goes_on_when_one_of_those_answers_that_were_taken_for_crashed() {
    for world in worlds() {
        let stores: Vec<Store> = (0..6).map(|_| world.store_of_one_that_ended()).collect();
        let topics: Vec<_> = stores.iter().map(|store| store.topic(NUMBERS, "a").unwrap()).collect();
        let first = topics[0].append(&1).unwrap();
        let mut live = Vec::new();
        for topic in &topics {
            let (handler, called, go_on) = held();
            let consumer = topic.on_event("ship", options(), handler).unwrap();
            until("a call or a stop", || {
                let is_suspended = consumer.status().state == ConsumerState::Suspended;
                (called.try_recv().is_ok() || is_suspended).then_some(())
            });
            live.push((consumer, go_on));
        }
        let (last, _) = live.last().unwrap();
        assert_eq!(last.status().state, ConsumerState::Suspended, "{}", world.name);
        live[0].1.send(()).unwrap();
        until("the one that was suspended", || {
            world.clock.advance(Duration::from_secs(1));
            (last.status().state == ConsumerState::Running && last.status().position == first).then_some(())
        });
        let info = topics[0].consumers().unwrap().remove(0);
        assert_eq!((info.suspended, info.position), (None, first));
        live.iter().for_each(|(_, go_on)| _ = go_on.send(()));
    }
}

#[test]
fn a_close_of_the_store_names_only_those_whose_handlers_run_on_and_does_so_each_time() {
    for world in worlds() {
        let store = world.store();
        let run = |name: &str| {
            let (handler, called, go_on) = held();
            let topic = store.topic(NUMBERS, name).unwrap();
            let options = options().grace(Duration::from_millis(20));
            let consumer = topic.on_event(name, options, handler).unwrap();
            topic.append(&1).unwrap();
            (consumer, called, go_on)
        };
        // They take all the threads that there are.
        let hanging = ["hangs 1", "hangs 2"].map(run);
        hanging.iter().for_each(|(_, called, _)| _ = called.recv().unwrap());
        let idle = ["idle 1", "idle 2", "idle 3"].map(run);
        for _ in 0..2 {
            let error = store.close().unwrap_err();
            let text = error.to_string();
            assert_eq!(error.kind(), ErrorKind::Timeout, "{text}");
            let names = ["hangs 1", "hangs 2", "idle"].map(|name| text.contains(name));
            assert_eq!(names, [true, true, false], "{}: {text}", world.name);
            assert!(idle.iter().all(|(consumer, ..)| consumer.status().state == ConsumerState::Stopped));
        }
        hanging.iter().for_each(|(_, _, go_on)| go_on.send(()).unwrap());
        for (consumer, ..) in &hanging {
            until("its end", || consumer.status().has_ended().then_some(()));
        }
        store.close().unwrap();
    }
}

#[test]
fn a_consumer_that_has_ended_lets_go_of_what_its_handler_has_in_hand() {
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        let in_hand = Arc::new(());
        let run = |name: &str| {
            let in_hand = Arc::clone(&in_hand);
            let handler = move |_: &Delivery<'_, u64>| {
                let _in_hand = &in_hand;
                Ok(())
            };
            topic.on_event(name, options(), handler).unwrap()
        };
        let (closed, retired) = (run("ship"), run("count"));
        let last = topic.append(&1).unwrap();
        until_at(&closed, last);
        closed.close().unwrap();
        assert_eq!(Arc::strong_count(&in_hand), 2, "{}", world.name);
        until_at(&retired, last);
        topic.retire_consumer("count").unwrap();
        topic.append(&2).unwrap();
        until("the end of the handler", || (Arc::strong_count(&in_hand) == 1).then_some(()));
        assert!(retired.status().has_ended());
    }
}

#[test]
fn the_last_store_may_go_with_the_handler_of_a_consumer_that_is_closed() {
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        let (own, script) = (store.clone(), Script::default());
        let called = script.handler();
        let consumer = topic
            .on_event("ship", options(), move |delivery: &Delivery<'_, u64>| {
                let _own = &own;
                called(delivery)
            })
            .unwrap();
        let last = topic.append(&1).unwrap();
        until_at(&consumer, last);
        drop(store);
        consumer.close().unwrap();
        assert_eq!((consumer.status().state, script.events()), (ConsumerState::Stopped, vec![1]));
    }
}
