//! The store as it was at an earlier moment: what is answered is what was there, or `Compacted`.
//!
//! `ESKER_AT_CASES=20000 cargo test --release --test at` looks longer; a failure is shrunk and shown.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[path = "at/model.rs"]
mod model;
#[path = "at/moments.rs"]
mod moments;

use esker::Durability;
use model::{MET, Operation, World};
use proptest::collection::vec;
use proptest::prelude::*;

/// Each operation from a row of numbers of its own, so that one can be left out of a failure and the others stay as
/// they are.
fn operation() -> impl Strategy<Value = Operation> {
    any::<[u8; 11]>().prop_map(|numbers| {
        let mut numbers = numbers.into_iter();
        Operation::drawn(&mut |n| usize::from(numbers.next().unwrap_or(0)) % n)
    })
}

/// What the model must not miss.
const RARE: [&str; 10] = [
    "a moment before a compaction was answered",
    "a kind was compacted at a moment at which another one was answered",
    "an entity was compacted at a moment at which another one was answered",
    "a moment in the middle of a batch was answered",
    "all rows of a compacted kind were answered",
    "a deletion was told at a moment",
    "a crash took moments",
    "a fact was told of a kind that keeps none",
    "no fact was told",
    "of a kind that keeps nothing a fact was compacted",
];

fn run(durability: Durability, alone: bool, operations: &[Operation]) -> Result<(), String> {
    let mut world = World::new(durability, alone);
    for (at, operation) in operations.iter().enumerate() {
        world.step(operation).map_err(|error| format!("operation {at}, {operation:?}: {error}"))?;
    }
    world.look_at_all()
}

#[test]
fn what_is_answered_of_a_moment_is_what_was_there() {
    let cases = std::env::var("ESKER_AT_CASES").ok().map_or(300, |value| value.parse().expect("a number"));
    let config = ProptestConfig {
        cases,
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    runner
        .run(&(any::<bool>(), any::<bool>(), vec(operation(), 1..120)), |(syncs, alone, operations)| {
            let durability = if syncs { Durability::Sync } else { Durability::Os };
            run(durability, alone, &operations).map_err(TestCaseError::fail)
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    let met = MET.lock().unwrap();
    let counts: Vec<_> = RARE.iter().map(|rare| (*rare, met.get(rare).copied().unwrap_or(0))).collect();
    assert!(counts.iter().all(|(_, count)| *count > 0), "{counts:?}");
}
