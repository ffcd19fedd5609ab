//! Consumers beside a plain list: whatever fails, and whenever it is started anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use esker::backplane::Offset;
use esker::{Consumer, Delivery, Handled, Store};
use proptest::prelude::*;

use crate::world::{NUMBERS, World, options, until, worlds};

const ATTEMPTS: u32 = 3;

#[derive(Clone, Debug)]
enum Operation {
    /// An event of this key that fails so often.
    Append(u8, u32),
    Close,
    /// The last handle of the store goes, wherever the consumer stands.
    Drop,
    Compact(u8),
    Settle,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => (0..3_u8, 0..5_u32).prop_map(|(key, fails)| Operation::Append(key, fails)),
        1 => Just(Operation::Close),
        1 => Just(Operation::Drop),
        1 => (0..3_u8).prop_map(Operation::Compact),
        2 => Just(Operation::Settle),
    ]
}

#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Called>>);

#[derive(Default)]
struct Called {
    fails: BTreeMap<u64, u32>,
    calls: Vec<(u64, bool)>,
}

impl Calls {
    fn handler(&self) -> impl Fn(&Delivery<'_, u64>) -> Handled + Send + 'static {
        let calls = Arc::clone(&self.0);
        move |delivery| {
            let mut called = calls.lock().unwrap();
            let left = called.fails.get_mut(&delivery.event).unwrap();
            let failed = *left > 0;
            *left = left.saturating_sub(1);
            called.calls.push((delivery.event, failed));
            if failed { Err("it is told to fail".into()) } else { Ok(()) }
        }
    }
}

struct Model {
    world: World,
    running: Option<(Store, Consumer)>,
    calls: Calls,
    /// The event, and how often it fails.
    sent: Vec<(u64, u32)>,
    offsets: Vec<(u8, Offset)>,
    /// The calls that were the last when the consumer was stopped.
    last_calls: BTreeSet<usize>,
}

impl Model {
    fn consumer(&mut self) -> &(Store, Consumer) {
        let (world, calls) = (&self.world, &self.calls);
        self.running.get_or_insert_with(|| {
            let store = world.store();
            let options = options().max_attempts(ATTEMPTS).crashes_max(u32::MAX);
            let consumer = store.on_event(NUMBERS, "ship", options, calls.handler()).unwrap();
            (store, consumer)
        })
    }

    fn settle(&mut self) {
        let last = self.offsets.last().map_or(Offset::BEGINNING, |(_, offset)| *offset);
        let clock = self.world.clock.clone();
        let (_, consumer) = self.consumer();
        until("all of it", || {
            clock.advance(Duration::from_millis(50));
            assert!(!consumer.status().has_ended(), "{consumer:?}");
            (consumer.status().committed >= last).then_some(())
        });
    }

    /// Each event is tried as often as it may be, and done or given up, before the one behind it is tried.
    fn check(&mut self) {
        self.settle();
        let calls = self.calls.0.lock().unwrap().calls.clone();
        let mut calls = calls.into_iter().enumerate().peekable();
        let mut dead = Vec::new();
        for ((event, fails), (_, offset)) in self.sent.iter().zip(&self.offsets) {
            let (mut failed, mut unsure, mut is_done) = (0, 0, false);
            while let Some((at, (_, has_failed))) = calls.next_if(|(_, (called, _))| called == event) {
                assert!(!is_done, "{}: event {event} was done already", self.world.name);
                failed += u32::from(has_failed);
                unsure += u32::from(has_failed && self.last_calls.contains(&at));
                is_done = !has_failed;
            }
            let shown = format!(
                "{}: event {event} failed {failed} times, {unsure} of them at a close",
                self.world.name
            );
            // At least so many of them count.
            let counted = failed - unsure;
            if is_done {
                assert!(failed == *fails && counted < ATTEMPTS, "{shown}");
            } else {
                assert!(failed >= ATTEMPTS && counted <= ATTEMPTS && failed <= *fails, "{shown}");
                dead.push(*offset);
            }
        }
        assert_eq!(calls.next(), None, "{}", self.world.name);
        let (_, consumer) = self.consumer();
        let letters: Vec<Offset> =
            consumer.dead_letters().unwrap().iter().map(|letter| letter.offset).collect();
        assert_eq!(letters, dead);
        assert_eq!(consumer.status().poisoned, dead.len() as u64);
    }

    /// Nothing runs any more. What the handler answered last may have come behind the word to stop, and then it does not count.
    fn has_stopped(&mut self) {
        self.last_calls.extend(self.calls.0.lock().unwrap().calls.len().checked_sub(1));
    }

    fn step(&mut self, operation: Operation) {
        match operation {
            Operation::Append(key, fails) => {
                let event = self.sent.len() as u64 + 1;
                self.calls.0.lock().unwrap().fails.insert(event, fails);
                let (store, _) = self.consumer();
                let offset = store.topic(NUMBERS, [key]).unwrap().append(&event).unwrap();
                self.sent.push((event, fails));
                self.offsets.push((key, offset));
            }
            Operation::Close => {
                if let Some((store, _)) = self.running.take() {
                    store.close().unwrap();
                    self.has_stopped();
                }
            }
            Operation::Drop => {
                drop(self.running.take());
                self.has_stopped();
            }
            Operation::Compact(key) => {
                let (store, consumer) = self.consumer();
                let done = consumer.status().committed;
                let before =
                    store.topic(NUMBERS, [key]).unwrap().compact(Offset::from_raw(u64::MAX)).unwrap();
                assert!(before > Offset::BEGINNING || done == Offset::BEGINNING);
            }
            Operation::Settle => self.settle(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn each_event_is_tried_as_often_as_it_may_be_before_the_next_whatever_comes_in_between(
        operations in proptest::collection::vec(operation(), 1..40),
    ) {
        for world in worlds() {
            let mut model = Model {
                world,
                running: None,
                calls: Calls::default(),
                sent: Vec::new(),
                offsets: Vec::new(),
                last_calls: BTreeSet::new(),
            };
            operations.iter().cloned().for_each(|operation| model.step(operation));
            model.check();
        }
    }
}
