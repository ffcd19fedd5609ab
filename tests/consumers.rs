//! Consumers of topics, row by row of what may happen to them: on the store's own journal, in memory, and where commits are
//! done step by step; with a clock that the tests move.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[path = "consumers/aside.rs"]
mod aside;
#[path = "consumers/backoff.rs"]
mod backoff;
#[path = "consumers/ending.rs"]
mod ending;
#[path = "consumers/erasing.rs"]
mod erasing;
#[path = "consumers/lost.rs"]
mod lost;
#[path = "consumers/model.rs"]
mod model;
#[path = "consumers/sharing.rs"]
mod sharing;
#[path = "consumers/told.rs"]
mod told;
#[path = "consumers/world.rs"]
mod world;
