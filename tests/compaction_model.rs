//! The log under compaction against a vector that never forgets, and every moment at which the power can
//! fail in it.
//!
//! What must hold, always: *every entry that is there is as it was appended; above a kind's floor all are
//! there; what is kept for ever is; the newest of a row that lives is; nothing that was dropped comes back;
//! nobody who reads under a name has lost anything; generations never go back; a repeated batch is answered
//! as before; a view shows what it showed; and a verification finds nothing.*
//!
//! `ESKER_COMPACT_STEPS` and `ESKER_COMPACT_STATES` look longer; `ESKER_COMPACT_SEED` begins elsewhere.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]
#![allow(clippy::cast_possible_truncation, reason = "numbers here are small")]

#[path = "crash/choices.rs"]
mod choices;
#[path = "compaction_model/mod.rs"]
mod compaction_model;

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use choices::{Dice, each_outcome, fingerprint};
use compaction_model::{Manner, World};

fn from_environment(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |value| value.parse().expect("a number"))
}

/// Runs seeds on every processor until there is enough, or something is wrong.
fn explore(wanted: usize, one_seed: impl Fn(u64) -> Result<usize, String> + Sync) -> usize {
    let first = from_environment("ESKER_COMPACT_SEED", 1) as u64;
    let (done, seeds) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let violation = Mutex::new(None);
    let search = || {
        while done.load(Ordering::Relaxed) < wanted && violation.lock().unwrap().is_none() {
            let seed = first + seeds.fetch_add(1, Ordering::Relaxed) as u64;
            match one_seed(seed) {
                Ok(found) => _ = done.fetch_add(found, Ordering::Relaxed),
                Err(error) => *violation.lock().unwrap() = Some(format!("seed {seed}: {error}")),
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(search))));
    if let Some(violation) = violation.into_inner().unwrap() {
        panic!("{violation}");
    }
    done.into_inner()
}

#[test]
fn whatever_happens_the_log_holds_what_it_must_and_nothing_else() {
    let dropped = AtomicUsize::new(0);
    let steps = explore(from_environment("ESKER_COMPACT_STEPS", 20_000), |seed| {
        let mut dice = Dice::new(seed);
        let manner = Manner::drawn(&mut dice);
        let mut world = World::new(manner)?;
        for step in 0..200 {
            world.step(&mut dice).map_err(|error| format!("step {step}: {error}"))?;
        }
        world.is_valid()?;
        dropped.fetch_add(world.dropped as usize, Ordering::Relaxed);
        Ok(200)
    });
    // A compaction that never drops anything proves nothing.
    let dropped = dropped.into_inner();
    assert!(dropped > steps / 10, "{dropped} entries dropped in {steps} steps");
}

#[test]
fn every_crash_leaves_all_that_must_be_there() {
    let states = explore(from_environment("ESKER_COMPACT_STATES", 20_000), |seed| {
        let mut dice = Dice::new(seed ^ 0x5eed);
        let manner = Manner::drawn(&mut dice);
        let mut world = World::new(manner)?;
        for step in 0..60 {
            world.step(&mut dice).map_err(|error| format!("step {step}: {error}"))?;
        }
        let first = world.notes.first().map_or(0, |note| note.operations);
        let mut judged = HashSet::new();
        for at in first..=world.disk.events() {
            let mut images = Vec::new();
            let crash = |choose: &mut dyn FnMut(usize) -> usize| world.disk.crash_image(at, choose);
            each_outcome(8, 4, &mut dice, crash, |image| images.push(image));
            for image in images.into_iter().filter(|image| judged.insert(fingerprint(image))) {
                let goes_on = dice.one_in(40);
                world
                    .judge(image, at, goes_on, &mut dice)
                    .map_err(|error| format!("behind {at} operations of the disk: {error}"))?;
            }
        }
        Ok(judged.len())
    });
    println!("{{\"rung\":\"R2\",\"compaction_states\":{states},\"violations\":0}}");
}
