//! The crash states of cursors: every moment at which the power can fail in short lives full of
//! checkpoints and of batches that move a cursor, with every outcome where they are few.
//!
//! What must hold of each: *no cursor is ahead of the recovered log, none is behind a checkpoint
//! that had returned, and what a batch appended is there if and only if its cursor has moved.* The
//! last follows from more: log and cursors are together as they once were, behind one batch.
//!
//! `ESKER_FEED_STATES=1000000 cargo test --release --test feed_crash` looks at a million states;
//! `ESKER_FEED_SEED` begins elsewhere (a failure names the seed that shows it again, with
//! `ESKER_FEED_STATES=1`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[path = "crash/choices.rs"]
mod choices;
#[path = "feed_model/mod.rs"]
#[allow(dead_code, reason = "shared with the model of the feed, which uses all of it")]
mod feed_model;

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use choices::{Dice, each_outcome, fingerprint};
use esker::{Durability, Simulator};
use feed_model::lives::{recognised, shown};
use feed_model::operation::Operation;
use feed_model::plain::{Cursors, Trouble};
use feed_model::world::{Manner, Note, World};

type Files = BTreeMap<String, Vec<u8>>;
/// What was found in the files with this fingerprint.
type Judged = HashMap<u64, (u64, Cursors)>;

fn from_environment(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |value| value.parse().expect("a number"))
}

/// How far one seed is explored.
struct Search {
    dice: Dice,
    manner: Manner,
    states: usize,
    /// How many lives there were before this one.
    depth: usize,
}

/// Every combination is tried where there are at most so many.
const ALL: usize = 8;
/// How many are tried where there are more.
const SOME: usize = 5;
/// One state in so many lives on.
const LIVES_ON: usize = 400;

fn told(trouble: Trouble) -> String {
    match trouble {
        Trouble::Wrong(text) => text,
        Trouble::Refused(error) => error.to_string(),
    }
}

impl Search {
    fn one_seed(seed: u64) -> Result<usize, String> {
        let mut dice = Dice::new(seed);
        let durability = if dice.one_in(2) { Durability::Sync } else { Durability::Os };
        let segment_bytes = if dice.one_in(4) { 16 << 10 } else { 4096 };
        let manner = Manner { segment_bytes, durability, copy_on_write: dice.one_in(3) };
        let mut search = Self { dice, manner, states: 0, depth: 0 };
        let mut world = World::new(manner).map_err(told)?;
        // A long life leaves several segments for a crash to take.
        let operations = if search.dice.one_in(8) { 120 } else { 30 };
        search.live(&mut world, operations)?;
        search.crashes(&world)?;
        Ok(search.states)
    }

    /// Appends, reads, checkpoints; now and then a close, or the process is killed.
    fn live(&mut self, world: &mut World, operations: usize) -> Result<(), String> {
        for _ in 0..operations {
            let operation = Operation::drawn(&mut |n| self.dice.below(n));
            world.step(&operation)?;
        }
        Ok(())
    }

    /// Lets the power fail behind each operation of the disk.
    fn crashes(&mut self, world: &World) -> Result<(), String> {
        let mut judged = Judged::new();
        for at in 0..=world.disk.events() {
            let mut images = Vec::new();
            let crash = |choose: &mut dyn FnMut(usize) -> usize| world.disk.crash_image(at, choose);
            each_outcome(ALL, SOME, &mut self.dice, crash, |image| images.push(image));
            for image in images {
                self.state(world, at, image, &mut judged)
                    .map_err(|error| format!("behind {at} operations of the disk: {error}"))?;
            }
        }
        Ok(())
    }

    /// Opens what a crash left, and judges it.
    fn state(&mut self, world: &World, at: usize, image: Files, judged: &mut Judged) -> Result<(), String> {
        let (least, most) = bounds(world, at);
        let fingerprint = fingerprint(&image);
        if let Some(found) = judged.get(&fingerprint) {
            // Seen before: the same files give the same log, and more may be promised by now.
            return recognised(&world.plain, found, least, most).map(drop).map_err(told);
        }
        self.states += 1;
        let disk = Simulator::with(image);
        let journal = self.manner.open(&disk).map_err(|error| format!("open: {error}"))?;
        let found = shown(&journal).map_err(told)?;
        recognised(&world.plain, &found, least, most).map_err(told)?;
        world.plain.is_prefixed_by(&journal, &world.kinds).map_err(told)?;
        drop(journal);
        if self.dice.one_in(8) {
            let journal = self.manner.open(&disk).map_err(|error| format!("open again: {error}"))?;
            if shown(&journal).map_err(told)? != found {
                return Err("a second recovery found something else".to_owned());
            }
        }
        judged.insert(fingerprint, found);
        if self.depth == 0 && self.dice.one_in(LIVES_ON) {
            self.depth += 1;
            self.next_life(world, disk, least).map_err(|error| format!("in the next life, {error}"))?;
            self.depth -= 1;
        }
        Ok(())
    }

    fn next_life(&mut self, world: &World, disk: Simulator, least: usize) -> Result<(), String> {
        let mut next = World::resume(disk, self.manner, world.plain.clone(), least).map_err(told)?;
        self.live(&mut next, 10)?;
        self.crashes(&next)?;
        next.finish()
    }
}

/// The moments of which one must be left of a crash behind so many operations of the disk.
fn bounds(world: &World, at: usize) -> (usize, usize) {
    let least = |note: &Note| (note.operations <= at).then_some(note.durable);
    let most = |begun: &Note, done: &Note| (begun.operations <= at).then_some(done.moments - 1);
    (
        world.notes.iter().filter_map(|(_, done)| least(done)).max().unwrap_or(0),
        world.notes.iter().filter_map(|(begun, done)| most(begun, done)).max().unwrap_or(0),
    )
}

/// Explores seeds on every processor until enough states were looked at.
fn explore(wanted: usize) -> usize {
    let first = from_environment("ESKER_FEED_SEED", 1) as u64;
    let (states, seeds) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let violation = Mutex::new(None);
    let search = || {
        while states.load(Ordering::Relaxed) < wanted && violation.lock().unwrap().is_none() {
            let seed = first + seeds.fetch_add(1, Ordering::Relaxed) as u64;
            match Search::one_seed(seed) {
                Ok(found) => _ = states.fetch_add(found, Ordering::Relaxed),
                Err(error) => *violation.lock().unwrap() = Some(format!("seed {seed}: {error}")),
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(search))));
    if let Some(violation) = violation.into_inner().unwrap() {
        panic!("{violation}");
    }
    states.into_inner()
}

#[test]
fn every_crash_leaves_a_log_and_its_cursors_as_they_were_together() {
    let states = explore(from_environment("ESKER_FEED_STATES", 30_000));
    println!("{{\"rung\":\"R2\",\"cursor_states\":{states},\"violations\":0}}");
}
