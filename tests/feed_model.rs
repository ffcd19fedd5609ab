//! Readers that follow a log against a model on one page: random operations on a journal, its
//! watchers, subscribers and cursors, with closings, kills, power cuts and a sick disk among them.
//!
//! `ESKER_FEED_CASES=100000 cargo test --release --test feed_model` looks longer; a failure is
//! shrunk and shown.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[path = "crash/choices.rs"]
#[allow(dead_code, reason = "shared with the crash model, which uses all of it")]
mod choices;
#[path = "feed_model/mod.rs"]
mod feed_model;

use choices::Dice;
use esker::Durability;
use feed_model::operation::Operation;
use feed_model::plain;
use feed_model::world::{Manner, World};
use proptest::collection::vec;
use proptest::prelude::*;

fn cases() -> u32 {
    std::env::var("ESKER_FEED_CASES").ok().map_or(5000, |value| value.parse().expect("a number"))
}

/// Each operation from a row of numbers of its own, so that one can be left out of a failure and
/// the others stay as they are.
fn operation() -> impl Strategy<Value = Operation> {
    any::<[u8; 24]>().prop_map(|numbers| {
        let mut numbers = numbers.into_iter();
        Operation::drawn_with_faults(&mut |n| usize::from(numbers.next().unwrap_or(0)) % n)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn readers_see_what_a_vector_says_and_cursors_are_where_they_were_put(
        segment in prop_oneof![3 => Just(4096u64), 1 => Just(16384)],
        sync in any::<bool>(),
        copy_on_write in any::<bool>(),
        operations in vec(operation(), 1..120),
    ) {
        let durability = if sync { Durability::Sync } else { Durability::Os };
        let manner = Manner { segment_bytes: segment, durability, copy_on_write };
        let mut world = World::new(manner).map_err(|trouble| TestCaseError::fail(format!("{trouble:?}")))?;
        for operation in &operations {
            world.step(operation).map_err(TestCaseError::fail)?;
        }
        world.finish().map_err(TestCaseError::fail)?;
    }
}

/// What is rare in the model, and what it must not miss.
const RARE: [&str; 17] = [
    "a batch came behind a reset or a retirement",
    "a batch came late, and its cursor was further",
    "a batch moved two cursors",
    "a batch was repeated, and moved its cursor",
    "a checkpoint had nothing to write",
    "a crash took entries",
    "a crash took the move of a cursor",
    "a cursor was put back",
    "a full disk refused",
    "a log of five segments",
    "a name that was retired came again",
    "a preamble restated cursors",
    "a subscriber was told what it missed",
    "a subscriber was too far behind, and ended",
    "a sync failed",
    "a watcher read far into the history of an entity",
    "a watcher waited for what was not durable",
];

/// A model that never comes to the corners proves nothing of them.
#[test]
fn every_rare_thing_happens_in_a_few_hundred_random_lives() {
    for seed in 0..400u64 {
        let mut dice = Dice::new(seed);
        let durability = if dice.one_in(2) { Durability::Sync } else { Durability::Os };
        let manner = Manner { segment_bytes: 4096, durability, copy_on_write: dice.one_in(2) };
        let mut world = World::new(manner).unwrap();
        for _ in 0..100 {
            let operation = Operation::drawn_with_faults(&mut |n| dice.below(n));
            world.step(&operation).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
        world.finish().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    let met: Vec<&str> = plain::all_met().into_iter().collect();
    assert_eq!(met, RARE);
}
