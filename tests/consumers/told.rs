//! What metrics tell of a consumer, also where its backplane is across a network.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use esker::Store;
use esker::metrics::{Value, samples};

use crate::world::{Meddled, NUMBERS, Script, options, until, until_asleep, until_at, worlds};

/// What a metric says that has one value.
fn told(store: &Store, name: &str) -> Option<f64> {
    let found = samples(&store.journal().stats()).into_iter().find(|sample| sample.metric.name == name)?;
    match found.value {
        Value::Number(number) => Some(number),
        _ => None,
    }
}

#[test]
fn how_far_a_consumer_is_behind_is_told_on_every_backplane() {
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        let idle = store.topic(NUMBERS, "nothing").unwrap();
        let idle = idle.on_event("ship", options(), Script::default().handler()).unwrap();
        until_asleep(&idle);
        assert_eq!(told(&store, "esker_consumer_lag"), Some(0.0), "{}: of a topic with nothing", world.name);
        idle.close().unwrap();
        (1..=3).for_each(|n| _ = topic.append(&n).unwrap());
        let script = Script::failing([1]);
        let consumer = topic.on_event("ship", options(), script.handler()).unwrap();
        let is_behind = |lag: u64| {
            assert!(!consumer.status().has_ended());
            (told(&store, "esker_consumer_lag") == Some(lag as f64)).then_some(())
        };
        until("a pause", || consumer.status().pause);
        until("the first lag", || is_behind(consumer.lag().unwrap()));
        let last = topic.append(&4).unwrap();
        until("the next lag", || {
            // A backplane across a network is asked again some seconds later.
            world.clock.advance(Duration::from_secs(1));
            is_behind(consumer.lag().unwrap())
        });
        script.mend();
        // Its pause may have passed meanwhile.
        until("the position", || {
            world.clock.advance(Duration::from_secs(1));
            (consumer.status().committed >= last).then_some(())
        });
        until("no lag", || {
            world.clock.advance(Duration::from_secs(1));
            is_behind(0)
        });
    }
}

#[test]
fn what_was_said_of_another_era_is_not_told_as_a_lag_and_nobody_who_looks_at_numbers_waits_for_a_network() {
    for world in worlds() {
        let plane = Meddled::over(&world);
        let store = world.store_on(Arc::clone(&plane) as _);
        let topic = store.topic(NUMBERS, "a").unwrap();
        let consumer = topic.on_event("ship", options(), Script::default().handler()).unwrap();
        let last = topic.append(&1).unwrap();
        until_at(&consumer, last);
        until("a lag", || told(&store, "esker_consumer_lag"));
        // It has to subscribe anew to find out.
        *plane.unreachable_for.lock().unwrap() = Some(Duration::ZERO);
        world.append_raw(b"a", b"\x02", 1);
        until("no answer", || (told(&store, "esker_backplane_feeds_down") == Some(1.0)).then_some(()));
        plane.shift.store(1, Ordering::SeqCst);
        *plane.unreachable_for.lock().unwrap() = None;
        until("a halt", || {
            world.clock.advance(Duration::from_secs(1));
            consumer.status().has_ended().then_some(())
        });
        until("no lag", || told(&store, "esker_consumer_lag").is_none().then_some(()));
        let asked_by = plane.asked_by.lock().unwrap();
        assert!(!asked_by.is_empty() && !asked_by.contains(&std::thread::current().id()), "{}", world.name);
    }
}

#[test]
fn a_consumer_whose_backplane_does_not_answer_is_told_as_one_that_is_down_and_then_as_one_that_came_again() {
    for world in worlds() {
        let plane = Meddled::over(&world);
        let store = world.store_on(Arc::clone(&plane) as _);
        let topic = store.topic(NUMBERS, "a").unwrap();
        let consumer = topic.on_event("ship", options(), Script::default().handler()).unwrap();
        until_asleep(&consumer);
        let are = |down: f64| {
            let all = ["esker_backplane_feeds_down", "esker_backplane_consumer_up"];
            (all.map(|name| told(&store, name)) == [Some(down), Some(1.0 - down)]).then_some(())
        };
        until("the first answer", || are(0.0));
        assert_eq!(told(&store, "esker_backplane_reconnect_total"), Some(0.0), "{}", world.name);
        let last = topic.append(&1).unwrap();
        until_at(&consumer, last);
        *plane.unreachable_for.lock().unwrap() = Some(Duration::ZERO);
        world.append_raw(b"a", b"\x02", 1);
        until("no answer", || are(1.0));
        *plane.unreachable_for.lock().unwrap() = None;
        until("an answer", || {
            world.clock.advance(Duration::from_secs(1));
            are(0.0)
        });
        let all = ["esker_backplane_reconnect_total", "esker_backplane_consumer_reconnect_total"];
        until("the count", || all.iter().all(|name| told(&store, name) >= Some(1.0)).then_some(()));
        consumer.close().unwrap();
        assert!(told(&store, all[0]) >= Some(1.0), "a counter never goes back");
    }
}
