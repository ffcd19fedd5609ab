//! What has to be done here to be followed by readers: by a queue, or by a store whose log is read on.
//!
//! A reader is handed payloads, in the order of publishing, and says when it was not handed some. Queues
//! keep nothing but what is on its way, and copy it in; a store has written it as well.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use crate::engine::{Engine, Outcome};
use crate::workload::{Event, Key};
use crate::works::Work;

/// How many entries a queue holds that a reader has not taken.
pub const QUEUE_ENTRIES: usize = 8_192;

/// What a reader does while there is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    Parks,
    Spins,
}

/// What a reader was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Entries,
    /// It was too slow for so many.
    Lost(u64),
    /// Nothing more will come.
    Ended,
}

pub trait Feed: Sized + Send {
    /// The crate in `Cargo.lock` whose version is reported.
    const CRATE: &'static str;

    /// Whether it can be published to with nobody there, because what is published is kept.
    const IS_STORE: bool = false;

    /// Whether a reader that is too slow loses entries. Who does not may not lose one here either.
    const LOSES: bool = false;

    type Reader: Reader;

    fn offers(work: Work) -> bool;

    /// The most events that are published in a work, so that a run ends in minutes.
    fn most_events(_work: Work) -> u64 {
        u64::MAX
    }

    /// A feed with readers of everything from now on.
    fn open(dir: &Path, readers: usize, waiting: Waiting) -> Outcome<(Self, Vec<Self::Reader>)>;

    /// Publishes one event; a queue that is full waits for its slowest reader, or loses.
    fn publish(&mut self, event: &Event<'_>) -> Outcome;

    /// Waits until everything is published, where publishing may return before.
    fn settle(&mut self) -> Outcome {
        Ok(())
    }

    fn close(self) -> Outcome;
}

pub trait Reader: Send + 'static {
    /// Waits for what comes next, and shows it.
    fn next(&mut self, see: impl FnMut(&[u8])) -> Outcome<Told>;
}

/// A store whose log can be followed from any place, by readers that it knows by name.
pub trait Followed: Engine {
    /// The most entries that are drained, so that a run ends in minutes.
    fn most_drained() -> u64 {
        u64::MAX
    }

    /// Whether entries can be drained without being copied into batches first.
    const DRAINS_ONE_BY_ONE: bool;

    type Sleeper: Send + 'static;

    /// Reads what there is from the oldest entry on under a new name, in batches of so many, or one by one.
    fn drain(&self, name: &str, batch: Option<usize>, see: impl FnMut(&[u8])) -> Outcome;

    /// A reader of one entity.
    fn sleeper(&self, key: &Key) -> Outcome<Self::Sleeper>;

    /// Waits until the log has ended; an error if something else came.
    fn sleep(sleeper: Self::Sleeper) -> Outcome;

    /// Reads on as a named reader that says durably where it is behind every single entry, until it is
    /// told to stop. How often it did.
    fn checkpoint_each(&self, stop: &AtomicBool) -> Outcome<u64>;

    /// Syncs of the log so far, where the store counts them.
    fn syncs(&self) -> Option<u64>;
}
