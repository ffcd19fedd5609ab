//! What live state promises, statement by statement: `s01_…` to `s32_…`.
//!
//! Windows are flushed by hand here, so that every test says what is in one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[path = "state/bad_input.rs"]
mod bad_input;
#[path = "state/batches.rs"]
mod batches;
#[path = "state/beside.rs"]
mod beside;
#[path = "state/beside_visible.rs"]
mod beside_visible;
#[path = "state/conflating.rs"]
mod conflating;
#[path = "state/epochs.rs"]
mod epochs;
#[path = "state/epochs_in_parts.rs"]
mod epochs_in_parts;
#[path = "state/events.rs"]
mod events;
#[path = "state/events_kept.rs"]
mod events_kept;
#[path = "state/faults.rs"]
mod faults;
#[path = "state/following.rs"]
mod following;
#[path = "state/harbour.rs"]
mod harbour;
#[path = "state/lagging.rs"]
mod lagging;
#[path = "state/liveness.rs"]
mod liveness;
#[path = "state/mirror.rs"]
mod mirror;
#[path = "state/mirror_beside.rs"]
mod mirror_beside;
#[path = "state/mirror_schema.rs"]
mod mirror_schema;
#[path = "state/reviewed.rs"]
mod reviewed;
#[path = "state/schema.rs"]
mod schema;
#[path = "state/set_alone.rs"]
mod set_alone;
#[path = "state/table.rs"]
mod table;
#[path = "state/under_writers.rs"]
mod under_writers;
#[path = "state/unreadable.rs"]
mod unreadable;
#[path = "state/writing.rs"]
mod writing;
