//! What both floors share: a log of mapped segments, made ahead by a helper thread, and a flat index.
//!
//! ```text
//! 0000000000.seg   frames from the start, zeros behind; allocated and made writable before use
//! 0000000001.seg   …
//! index            written by a close in good order, mapped and removed by the next open
//! ```
//!
//! This is no engine to keep data in: it has no checks beyond what its measurements need.

mod durable;
mod index;
mod log;
mod segment;

pub use durable::{Durable, pending_in};
pub use index::{NONE, PlaceIndex};
pub use log::{MappedLog, Position};
pub use segment::Readiness;
