//! What fails is tried again, behind pauses, and nothing overtakes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use esker::backplane::Offset;
use esker::{ConsumeFrom, ConsumerState, Delivery, ErrorKind, Handled, ManualClock, Options, Store};

use crate::world::{NUMBERS, Script, options, until, until_asleep, until_at, worlds};

#[test]
fn events_come_once_and_in_order_and_behind_a_restart_those_that_are_new() {
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        let others = store.topic(NUMBERS, "b").unwrap();
        topic.append(&1).unwrap();
        others.append(&100).unwrap();
        let script = Script::default();
        let consumer = topic.on_event("ship", options(), script.handler()).unwrap();
        let last = (2..=40).fold(Offset::BEGINNING, |_, n| topic.append(&n).unwrap());
        until_at(&consumer, last);
        assert_eq!(consumer.lag().unwrap(), 0);
        store.close().unwrap();
        assert_eq!(consumer.status().state, ConsumerState::Stopped);

        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        let last = topic.append(&41).unwrap();
        let consumer = topic.on_event("ship", options(), script.handler()).unwrap();
        until_at(&consumer, last);
        assert_eq!(script.events(), (1..=41).collect::<Vec<u64>>(), "{}", world.name);
        let keys: std::collections::BTreeSet<_> =
            script.calls().iter().map(|call| call.idempotency).collect();
        assert_eq!(keys.len(), 41, "each event has a key of its own");
        assert!(script.calls().iter().all(|call| call.attempt == 1 && call.key == b"a"));
        let info = &topic.consumers().unwrap()[0];
        assert_eq!((info.name.as_str(), info.position, info.is_open), ("ship", last, true));
        store.close().unwrap();
        let info = &world.store().topic(NUMBERS, "a").unwrap().consumers().unwrap()[0];
        assert!(!info.is_open, "it ended as it should");
    }
}

#[test]
fn a_new_name_begins_where_it_is_told() {
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        let first = topic.append(&1).unwrap();
        topic.append(&2).unwrap();
        let (newest, behind) = (Script::default(), Script::default());
        let from_newest = options().from(ConsumeFrom::Newest);
        let newest_one = topic.on_event("newest", from_newest, newest.handler()).unwrap();
        until("its place", || (newest_one.status().committed > first).then_some(()));
        let from_first = options().from(ConsumeFrom::Behind(first));
        let behind_one = topic.on_event("behind", from_first, behind.handler()).unwrap();
        let last = topic.append(&3).unwrap();
        until_at(&newest_one, last);
        until_at(&behind_one, last);
        assert_eq!((newest.events(), behind.events()), (vec![3], vec![2, 3]), "{}", world.name);
    }
}

#[test]
fn pauses_double_between_a_half_and_all_of_it_and_nothing_is_delivered_before_they_are_over() {
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        topic.append(&1).unwrap();
        let last = topic.append(&2).unwrap();
        let script = Script::failing([1]);
        let warned = Arc::new(AtomicU32::new(0));
        let warnings = Arc::clone(&warned);
        let options = options().on_stuck(move |status| {
            assert_eq!(status.stuck, 8);
            warnings.fetch_add(1, Ordering::SeqCst);
        });
        let consumer = topic.on_event("ship", options, script.handler()).unwrap();
        for attempt in 1..=12_u32 {
            until("an attempt", || (consumer.status().stuck == attempt).then_some(()));
            until_asleep(&consumer);
            let status = consumer.status();
            let whole = Duration::from_millis(10 << (attempt - 1)).min(Duration::from_secs(1));
            let pause = status.pause.unwrap();
            assert!((whole / 2..=whole).contains(&pause), "{attempt}: {pause:?} of {whole:?}");
            assert!(matches!(status.state, ConsumerState::Retrying { attempts, .. } if attempts == attempt));
            // Up to the last nanosecond nothing happens.
            world.clock.advance(pause - Duration::from_nanos(1));
            until_asleep(&consumer);
            assert_eq!(script.events().len(), attempt as usize, "{}: before its time", world.name);
            assert_eq!(warned.load(Ordering::SeqCst), u32::from(attempt >= 8));
            if attempt == 12 {
                script.mend();
            }
            world.clock.advance(Duration::from_nanos(1));
        }
        until_at(&consumer, last);
        let status = consumer.status();
        assert_eq!((status.stuck, status.errors, status.poisoned), (0, 12, 0));
        assert_eq!(status.state, ConsumerState::Running);
        let mut expected = vec![1; 13];
        expected.push(2);
        assert_eq!(script.events(), expected, "2 waits for 1");
        let calls = script.calls();
        assert!(calls[..13].iter().zip(1..).all(|(call, attempt)| call.attempt == attempt));
        assert!(calls[..13].iter().all(|call| call.idempotency == calls[0].idempotency));
    }
}

#[test]
fn a_failed_attempt_writes_one_frame_and_waiting_for_the_next_one_none() {
    let clock = ManualClock::new();
    let journal = Options::new().background(false).clock(clock.clone()).in_memory().unwrap();
    let store = Store::over(journal);
    let topic = store.topic(NUMBERS, "a").unwrap();
    let last = topic.append(&1).unwrap();
    let script = Script::failing([1]);
    let consumer = topic.on_event("ship", options(), script.handler()).unwrap();
    let until_failed = |attempt: u32| {
        until("an attempt", || (consumer.status().stuck == attempt).then_some(()));
        until_asleep(&consumer);
        store.journal().stats().appends
    };
    let mut appends = until_failed(1);
    for attempt in 2..=12 {
        let pause = consumer.status().pause.unwrap();
        clock.advance(pause / 2);
        until_asleep(&consumer);
        assert_eq!(store.journal().stats().appends, appends, "{attempt}: before its time");
        clock.advance(pause / 2 + Duration::from_nanos(1));
        appends += 1;
        assert_eq!(until_failed(attempt), appends, "{attempt}");
    }
    script.mend();
    clock.advance(Duration::from_secs(1));
    until_at(&consumer, last);
    assert_eq!(store.journal().stats().appends, appends + 1, "and one that it is done");
}

#[test]
fn failed_attempts_are_counted_through_restarts_and_a_panic_is_one() {
    for world in worlds() {
        let script = Script::panicking([1]);
        for restart in 0..4_u32 {
            let store = world.store();
            let topic = store.topic(NUMBERS, "a").unwrap();
            if restart == 0 {
                topic.append(&1).unwrap();
            }
            let consumer = topic.on_event("ship", options(), script.handler()).unwrap();
            until("an attempt", || (consumer.status().stuck == restart + 1).then_some(()));
            let info = &topic.consumers().unwrap()[0];
            assert_eq!((info.attempts, info.position), (restart + 1, Offset::BEGINNING));
            assert!(info.last_error.as_ref().unwrap().contains("1 panics"), "{info:?}");
            store.close().unwrap();
        }
        let attempts: Vec<u32> = script.calls().iter().map(|call| call.attempt).collect();
        assert_eq!(attempts, [1, 2, 3, 4], "{}", world.name);
    }
}

#[test]
fn what_is_done_is_written_down_so_often_as_it_was_told() {
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        let offsets: Vec<Offset> = (1..=5).map(|n| topic.append(&n).unwrap()).collect();
        let script = Script::default();
        let consumer = topic.on_event("ship", options().commit_every(3), script.handler()).unwrap();
        until("five", || (consumer.status().position == offsets[4]).then_some(()));
        until_asleep(&consumer);
        assert_eq!(consumer.status().committed, offsets[2], "{}", world.name);
        world.clock.advance(Duration::from_millis(999));
        until_asleep(&consumer);
        assert_eq!(consumer.status().committed, offsets[2]);
        world.clock.advance(Duration::from_millis(1));
        until_at(&consumer, offsets[4]);

        let every = Duration::from_secs(7);
        let slow = topic.on_event("slow", options().commit_every(every), script.handler()).unwrap();
        until("five", || (slow.status().position == offsets[4]).then_some(()));
        until_asleep(&slow);
        assert_eq!(slow.status().committed, Offset::BEGINNING);
        world.clock.advance(every);
        until_at(&slow, offsets[4]);
        let last = topic.append(&6).unwrap();
        until("six", || (slow.status().position == last).then_some(()));
        slow.close().unwrap();
        assert_eq!(topic.consumers().unwrap()[1].position, last, "an end writes down the rest");
    }
}

#[test]
fn what_cannot_be_meant_is_refused_with_all_that_is_wrong() {
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        let options = options().max_attempts(0).crashes_max(0).commit_every(0).shard(3, 3);
        let error = topic.on_event("", options, Script::default().handler()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        let text = error.to_string();
        for part in ["0 bytes", "max_attempts is 0", "crashes_max is 0", "commit_every is 0", "part 3 of 3"] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        let part = crate::world::options().shard(0, 2);
        let error = topic.on_event("ship", part, Script::default().handler()).unwrap_err();
        assert!(error.to_string().contains("Store::on_event"), "{error}");
    }
}

#[test]
fn who_asks_while_a_handler_runs_does_not_wait_for_the_pause_that_comes_of_it() {
    for world in worlds() {
        let store = world.store();
        let topics = ["x", "y"].map(|key| store.topic(NUMBERS, key).unwrap());
        let hour = Duration::from_secs(3600);
        let ((tell, called), (go_on, wait)) = (channel(), channel::<()>());
        let fails = Arc::new(AtomicBool::new(true));
        let failing = Arc::clone(&fails);
        let handler = move |delivery: &Delivery<'_, u64>| -> Handled {
            match delivery.event {
                1 if failing.load(Ordering::SeqCst) => Err("no".into()),
                1 => Ok(tell.send(1)?),
                other => {
                    tell.send(other)?;
                    wait.recv()?;
                    Err("no".into())
                }
            }
        };
        let options = options().retry_between(hour, hour).max_attempts(2).park();
        let consumer = store.on_event(NUMBERS, "ship", options, handler).unwrap();
        let first = topics[0].append(&1).unwrap();
        world.pass_the_pause_of(&consumer);
        until_at(&consumer, first);
        topics[1].append(&2).unwrap();
        assert_eq!(called.recv().unwrap(), 2);
        fails.store(false, Ordering::SeqCst);
        assert!(consumer.retry("x").unwrap(), "while the handler of y runs");
        go_on.send(()).unwrap();
        // The clock stands.
        assert_eq!(called.recv_timeout(crate::world::PATIENCE).unwrap(), 1, "{}", world.name);
        drop(go_on);
    }
}
