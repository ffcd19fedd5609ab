//! Live state against a model on one page: a map from keys to rows and sets of sources, and a list of what was said,
//! beside a store on a simulated disk. Among the operations are windows, epochs, deadlines, newer schemas, subscriptions,
//! compaction, full disks and failed syncs, closings, kills and power cuts, also in the middle of something.
//!
//! `ESKER_STATE_CASES=100000 cargo test --release --test state_model` looks longer; a failure is shrunk and shown.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[path = "state_model/mod.rs"]
mod state_model;

use esker::Durability;
use proptest::collection::vec;
use proptest::prelude::*;
use state_model::operation::Operation;
use state_model::{MET, World};

/// Each operation from a row of numbers of its own, so that one can be left out of a failure and the others stay as
/// they are.
fn operation() -> impl Strategy<Value = Operation> {
    any::<[u8; 16]>().prop_map(|numbers| {
        let mut numbers = numbers.into_iter();
        Operation::drawn(&mut |n| usize::from(numbers.next().unwrap_or(0)) % n)
    })
}

fn run(
    durability: Durability,
    (logged, in_parts): (bool, bool),
    operations: &[Operation],
) -> Result<(), String> {
    let mut world = World::new(durability, logged, in_parts)?;
    for (at, operation) in operations.iter().enumerate() {
        world.step(operation).map_err(|error| format!("operation {at}, {operation:?}: {error}"))?;
    }
    world.finish()
}

fn cases() -> u32 {
    std::env::var("ESKER_STATE_CASES").ok().map_or(2000, |value| value.parse().expect("a number"))
}

/// What the model must not miss.
const RARE: [&str; 36] = [
    "a crash cut an ending",
    "a crash took a flush",
    "a deadline left what others assert",
    "a flush failed for want of space",
    "a follower began anew",
    "a follower caught up",
    "a follower left with a token",
    "a patch made again what had been deleted",
    "a row of an older schema was patched",
    "a row of an older schema was said again",
    "a set of sources changed alone, then a reopen",
    "a source came back before its deadline",
    "a sync failed",
    "a window came to nothing",
    "a window ended before an operation",
    "an epoch left what others assert",
    "an epoch that left what others assert was cut between its batches",
    "an epoch took something back",
    "an epoch was abandoned by silence",
    "an opening carried on the end of an epoch",
    "events were suppressed",
    "events were told again",
    "killed while an epoch ended",
    "killed while deadlines were looked at",
    "made and taken back in one window",
    "only a set of sources changed",
    "something was compacted",
    "taken back and made again in one window",
    "the last bit fell at a deadline",
    "what a token needs was compacted",
    "what changes come to was told",
    "what had failed for want of space came later",
    "what was forgotten came back",
    "what was not there is not there",
    "what was said on a full disk was refused",
    "who was noticed late was given a heartbeat more",
];

#[test]
fn the_store_says_what_the_model_says() {
    let config = ProptestConfig {
        cases: cases(),
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    runner
        .run(&(any::<[bool; 3]>(), vec(operation(), 1..150)), |([syncs, logged, in_parts], operations)| {
            let durability = if syncs { Durability::Sync } else { Durability::Os };
            run(durability, (logged, in_parts), &operations).map_err(TestCaseError::fail)
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    let met = MET.lock().unwrap();
    // So many cases as `.ci/run` has meet each a thousand times.
    let least = if cases() >= 30_000 { 1000 } else { 1 };
    let counts: Vec<_> = RARE.iter().map(|rare| (*rare, met.get(rare).copied().unwrap_or(0))).collect();
    println!("{counts:?}");
    assert!(counts.iter().all(|(_, count)| *count >= least), "met less than {least} times: {counts:?}");
}
