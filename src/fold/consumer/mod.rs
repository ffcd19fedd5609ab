//! Consumers: named, in order, at least once, over the records of a topic or of all topics of a stream.
//!
//! A consumer is a task of the pool of folds; its place is a cell of the backplane. What it sets aside goes there in one
//! commit with the step over it, where commits are atomic. Where they are not, a copy comes first and the place last, under a
//! stamp to which every process comes: a process that ends in between leaves a copy, and the record is
//! tried, or set aside, once more; the copy is not written again, as long as the backplane knows its stamp (on NATS that is
//! the duplicate window; behind it there are two).

mod aside;
pub(crate) mod delivery;
pub(crate) mod erasing;
pub(crate) mod giving_up;
pub(crate) mod handle;
pub(crate) mod info;
pub(crate) mod options;
mod order;
pub(crate) mod progress;
pub(crate) mod running;
mod session;
mod telling;
pub(crate) mod working;
pub(crate) mod written;
