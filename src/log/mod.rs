//! The log: order, marks, commit, rotation and recovery.
//!
//! A log is a row of segments. One writer appends frames to the *active* one; rotation leaves
//! it *full* (not yet synced) and goes on in a segment that was made ahead; once synced and
//! indexed it is *sealed*. Readers are bounded by the visible mark, promises by the durable one.
//!
//! * [`commit`] — the two marks, and the one owner of every sync
//! * [`segment`] — a mapped segment, and how one is made (protocol P1)
//! * [`writer`] — encoding frames into the active segment (protocol P2)
//! * [`rules`] — what a place in a log is, as a table over eight facts
//! * [`chain`] — which segments belong to the log
//! * [`part`] — what compaction kept of a stretch of it
//! * [`recovery`] — finding the end of a log (protocol P4), [`visitor`], who is shown it, and [`report`], what it says
//! * [`tail`], [`behind`] — reading what is to be judged, and what lies behind it
//! * [`grid`] — finding frames again behind a hole
//! * [`salvage`] — reading a segment around damage
//! * [`lock`] — the lock page

pub(crate) mod behind;
pub(crate) mod chain;
#[cfg(test)]
mod chain_tests;
pub(crate) mod commit;
pub(crate) mod grid;
pub(crate) mod lock;
mod open_batch;
pub(crate) mod part;
pub(crate) mod process;
pub(crate) mod recovery;
#[cfg(test)]
mod recovery_tests;
pub(crate) mod report;
pub(crate) mod rules;
pub(crate) mod salvage;
pub(crate) mod segment;
pub(crate) mod tail;
pub(crate) mod visitor;
pub(crate) mod writer;
