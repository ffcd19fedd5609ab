//! What stands on the backplane, as the tool shows it: topics and their folds, cells, consumers and what they set aside.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;

#[path = "plane/cells.rs"]
mod cells;
#[path = "plane/compacting.rs"]
mod compacting;
#[path = "plane/consumers.rs"]
mod consumers;
#[path = "plane/health.rs"]
mod health;
#[path = "plane/topics.rs"]
mod topics;
#[path = "plane/world.rs"]
mod world;
