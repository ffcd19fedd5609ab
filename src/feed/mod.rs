//! Waking readers: who sleeps for which part of the log, and who is to be told that it moved.
//!
//! Nothing is queued for a reader, and nobody calls it: it pulls from mapped memory, and sleeps
//! when there is nothing more. A writer pays one load while nobody sleeps.

pub(crate) mod shard;
pub(crate) mod sleepers;
