//! Compaction, as far as it needs no journal: what of a stretch of the log is kept, which stretches are
//! worth the copying, and the copying.
//!
//! The log is cleaned where it has garbage, and left alone where it has none. A *run* of neighbouring
//! segments and parts becomes one part with what is kept of them, or nothing. What a run costs, the bytes
//! that are kept and copied, is bounded by what was appended once and by what it frees: a segment is copied
//! once however little that frees, a part only again when that frees as much as it keeps.
//!
//! **As long as anything of an entity is kept, its newest entry is.** Whoever finds the newest entry of an
//! entity in what is left may believe its generation; and nothing older comes to light when a tombstone
//! has had its time.
//!
//! * [`judge`] — which entries of a segment or part are kept
//! * [`choose`] — which runs are worth it
//! * [`write`] — a run as a part
//! * [`policy`] — how far, how fast, and how often

pub(crate) mod choose;
pub(crate) mod judge;
pub(crate) mod policy;
pub(crate) mod write;
