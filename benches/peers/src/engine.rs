//! What an engine has to do here: one small trait, implemented once an engine in `engines/`.
//!
//! Works are generic over the trait, so that an adapter costs no virtual call. Places in the log are
//! counted from 0 by the caller, in order of appending; an engine that numbers otherwise translates.

use std::path::PathBuf;

use crate::workload::{BATCH_EVENTS, Event, Key};
use crate::works::Work;

pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What a store is opened for.
#[derive(Clone, Debug)]
pub struct Setup {
    pub dir: PathBuf,
    pub durability: Durability,
    pub keyed: Keyed,
    /// An append may return before it is readable, as long as [`Engine::settle`] waits for it.
    pub pipelined: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// An append survives a power cut when it returns.
    Each,
    /// An append survives at least the next explicit sync; what a crash takes is the engine's business.
    None,
}

/// How a key-value store is asked to lay events out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyed {
    /// By place in the log; the event's key goes into the value.
    BySequence,
    /// By entity key and generation, so that one entity's history lies together.
    ByEntity,
}

pub trait Engine: Sized + Send + Sync {
    /// The crate in `Cargo.lock` whose version is reported.
    const CRATE: &'static str;

    /// Whether histories can be read without a layout of their own ([`Keyed::ByEntity`]).
    const HISTORIES_WHEN_PLAIN: bool = false;

    /// Whether this work can be asked for at all.
    fn offers(work: Work) -> bool;

    /// The most events that this engine is given for a work, so that a run ends in minutes.
    fn most_events(_work: Work) -> u64 {
        u64::MAX
    }

    /// The most point reads that are timed, for the same reason.
    fn most_reads() -> u64 {
        u64::MAX
    }

    /// How many events a batch has that fills the store of a work which reads.
    fn filled_by(_work: Work) -> usize {
        BATCH_EVENTS
    }

    /// Creates the store, or opens what is there.
    fn open(setup: &Setup) -> Outcome<Self>;

    /// Appends one event from the only thread that uses the store.
    fn append(&mut self, event: &Event<'_>) -> Outcome;

    /// Appends one event while other threads do the same.
    fn append_shared(&self, event: &Event<'_>) -> Outcome;

    /// Appends all or nothing, with one sync at the end if each append is to be durable.
    fn append_batch(&mut self, events: &[Event<'_>]) -> Outcome;

    /// Waits until every append is readable.
    fn settle(&mut self) -> Outcome {
        Ok(())
    }

    /// Makes everything appended so far durable.
    fn sync(&mut self) -> Outcome;

    /// Takes the snapshot that the reads below use, where an engine has such a thing.
    fn start_reading(&mut self) -> Outcome {
        Ok(())
    }

    /// Shows every payload, in order of appending.
    fn scan(&mut self, see: impl FnMut(&[u8])) -> Outcome;

    /// Shows one entity's payloads, in order of appending.
    fn history(&mut self, entity: u32, key: &Key, see: impl FnMut(&[u8])) -> Outcome;

    /// Shows the payload at a place in the log.
    fn get(&mut self, place: u64, see: impl FnMut(&[u8])) -> Outcome;

    /// Closes as an application would that stops in good order.
    fn close(self) -> Outcome;
}

/// The error of a call that [`Engine::offers`] should have prevented.
pub fn not_offered<T>() -> Outcome<T> {
    Err("this engine does not offer this work".into())
}
