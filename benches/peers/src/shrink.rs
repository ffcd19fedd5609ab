//! What a store has to do that gives back the space of what is not needed any more.

use crate::engine::{Engine, Outcome, not_offered};

pub trait Shrinks: Engine {
    /// Whether others can append and read, or at least wait to, while it shrinks.
    const BESIDE_OTHERS: bool;

    /// Drops all but the newest event of every entity, which are the last `newest` of `events`, and gives
    /// their space back to the file system.
    fn shrink(&mut self, events: u64, newest: u64) -> Outcome;

    /// The same while others append and read.
    fn shrink_beside(&self, _events: u64, _newest: u64) -> Outcome {
        not_offered()
    }

    /// Shows the payload at a place in the log, while others append.
    fn get_shared(&self, _place: u64, _see: impl FnMut(&[u8])) -> Outcome {
        not_offered()
    }
}
