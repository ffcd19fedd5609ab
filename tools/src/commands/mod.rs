//! The commands, a file for each group.

pub(crate) mod backup;
pub(crate) mod cells;
pub(crate) mod check;
pub(crate) mod compact;
pub(crate) mod consumer;
pub(crate) mod consumers;
pub(crate) mod cursor;
pub(crate) mod cursors;
pub(crate) mod diff;
pub(crate) mod dump;
pub(crate) mod exchange;
pub(crate) mod hex;
mod holding;
pub(crate) mod info;
pub(crate) mod keep;
pub(crate) mod listing;
mod plane;
pub(crate) mod stats;
pub(crate) mod topics;
pub(crate) mod upgrade;
