//! `export`, `import`, `diff` and `upgrade` as processes: nothing is lost on the way, and nothing bad comes in.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[path = "exchange/coming_back.rs"]
mod coming_back;
#[path = "exchange/comparing.rs"]
mod comparing;
#[path = "exchange/files.rs"]
mod files;
#[path = "exchange/place.rs"]
mod place;
#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;
