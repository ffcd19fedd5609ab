//! Compaction: what is dropped, what stays, and what everybody sees of it meanwhile.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is a failed test")]

#[path = "compaction/copies.rs"]
mod copies;
#[path = "compaction/erasing.rs"]
mod erasing;
#[path = "compaction/kept.rs"]
mod kept;
#[path = "compaction/meanwhile.rs"]
mod meanwhile;
#[path = "compaction/rounds.rs"]
mod rounds;
