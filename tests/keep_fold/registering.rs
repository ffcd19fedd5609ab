//! Who needs a topic's events says so at the same time as others raise its floor, retire it, or erase it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use esker::backplane::{Backplane, Local};
use esker::{ConsumerOptions, Durability, Facts, Options, Store};

use crate::{
    First, NUMBERS, PATIENCE, Second, compact, fold, leave_the_segment, left, over, save, small, value,
};

const KEYS: u8 = 250;
/// So often who registers runs beside floors that rise: not each time they meet.
const ROUNDS: u32 = 20;
const FLOORS: &str = "esker.floors.number";

/// Many topics that may go, in segments that are written no more.
fn many_topics() -> Store {
    let options = Options::new().segment_bytes(256 << 10).background(false).durability(Durability::Os);
    let store = over(options.in_memory().unwrap());
    for key in 0..KEYS {
        let topic = store.topic(NUMBERS, [key]).unwrap();
        (0..3).for_each(|n| _ = topic.append(&n).unwrap());
        save::<First>(&store, key);
    }
    (0..40).for_each(|_| leave_the_segment(&store));
    store
}

/// Compacts in another thread; returns when the first floor is put, and then calls. What it answers, if the last topic was whole
/// behind that.
fn while_floors_rise<R>(store: &Store, then: impl FnOnce() -> R) -> Option<R> {
    let last = store.topic(NUMBERS, [KEYS - 1]).unwrap();
    let first_offset = last.lowest_retained().unwrap();
    std::thread::scope(|threads| {
        let compacting = threads.spawn(|| compact(store));
        // What is needed was looked up by then.
        while store.journal().kind_named(FLOORS).is_none() && !compacting.is_finished() {
            std::hint::spin_loop();
        }
        let found = then();
        let was_whole = last.lowest_retained().unwrap() == first_offset;
        compacting.join().unwrap();
        was_whole.then_some(found)
    })
}

#[test]
fn a_fold_that_registers_while_floors_rise_has_all_or_finds_the_floor() {
    for _ in 0..ROUNDS {
        let store = many_topics();
        let registered = while_floors_rise(&store, || drop(fold::<Second>(&store, KEYS - 1)));
        let found = fold::<Second>(&store, KEYS - 1).read();
        match registered {
            Some(()) => assert_eq!(found.unwrap().value, [0, 1, 2]),
            None => assert!(found.is_err(), "it had gone before"),
        }
    }
}

#[test]
fn a_consumer_that_registers_while_floors_rise_gets_all_or_finds_the_floor() {
    for _ in 0..ROUNDS {
        let store = many_topics();
        let topic = store.topic(NUMBERS, [KEYS - 1]).unwrap();
        let (seen, may): (Arc<Mutex<Vec<u64>>>, Arc<AtomicBool>) = Default::default();
        let (theirs, is_let) = (Arc::clone(&seen), Arc::clone(&may));
        let started = while_floors_rise(&store, || {
            let retry = Duration::from_millis(1);
            let options = ConsumerOptions::new().retry_between(retry, retry);
            let consumer = topic.on_event("ship", options, move |delivery| {
                if !is_let.load(Ordering::SeqCst) {
                    return Err("not yet".into());
                }
                theirs.lock().unwrap().push(delivery.event);
                Ok(())
            });
            (consumer.unwrap(), topic.consumers().unwrap().len() == 1)
        });
        may.store(true, Ordering::SeqCst);
        let Some((consumer, true)) = started else { continue };
        let (begun, head) = (Instant::now(), topic.head().unwrap());
        while consumer.status().committed < head && !consumer.status().has_ended() {
            assert!(begun.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
        assert_eq!(*seen.lock().unwrap(), [0, 1, 2], "{:?}", consumer.status());
    }
}

fn ten_events_with_an_image() -> Store {
    let store = over(small().in_memory().unwrap());
    let topic = store.topic(NUMBERS, [0]).unwrap();
    (0..10).for_each(|n| _ = topic.append(&n).unwrap());
    save::<First>(&store, 0);
    store
}

fn keeps_all_for_the_second(store: &Store) {
    leave_the_segment(store);
    compact(store);
    assert_eq!(left(store, 0).len(), 10);
    assert_eq!(value::<Second>(store, 0), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_fold_that_another_store_over_the_journal_retired_registers_anew() {
    let store = ten_events_with_an_image();
    let other = Store::over(store.journal().clone());
    let registered = || other.registered_folds(NUMBERS).unwrap();
    let [first, second] = ["first", "second"].map(|name| (name.to_owned(), 1));
    drop(fold::<Second>(&store, 0));
    assert_eq!(registered(), [first.clone(), second.clone()]);
    other.retire_fold(NUMBERS, "second").unwrap();
    assert_eq!(registered(), [first]);
    drop(fold::<Second>(&store, 0));
    keeps_all_for_the_second(&store);
}

#[test]
fn a_fold_that_is_taken_up_behind_its_retirement_is_registered_whoever_took_it_up_meanwhile() {
    for _ in 0..50 {
        let store = ten_events_with_an_image();
        drop(fold::<Second>(&store, 0));
        std::thread::scope(|threads| {
            let retiring = threads.spawn(|| store.retire_fold(NUMBERS, "second").unwrap());
            while !retiring.is_finished() {
                drop(fold::<Second>(&store, 0));
            }
        });
        drop(fold::<Second>(&store, 0));
        keeps_all_for_the_second(&store);
    }
}

#[test]
fn a_fold_registers_over_a_journal_that_was_given_as_the_backplane_too() {
    let store = ten_events_with_an_image();
    let given: Arc<dyn Backplane> = Arc::new(Local::over(store.journal()).unwrap());
    let other = Store::over(store.journal().clone()).with_backplane(given);
    drop(fold::<Second>(&other, 0));
    keeps_all_for_the_second(&store);
}

#[test]
fn what_is_erased_while_floors_rise_does_not_come_back_in_a_floor() {
    let mut erased = 0;
    for _ in 0..6 {
        let store = many_topics();
        let last = [KEYS - 1];
        let number = Facts::<u64>::new("number");
        let found = while_floors_rise(&store, || store.erase(number, last).unwrap().erased);
        let journal = store.journal();
        let newest = |kind: &str| journal.latest(journal.kind_named(kind).unwrap().id, &last).unwrap();
        if found.is_some() || newest("number").is_none() {
            erased += 1;
            assert!(newest(FLOORS).is_none());
        }
    }
    assert!(erased > 0);
}
