//! What a recovery has to say.

use std::path::Path;

use serde::Serialize;

use crate::trace;

/// What opening a store found out about the end of its log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The last life ended with `close`, and nothing follows.
    pub clean: bool,
    /// Segments whose frames were read one by one.
    pub segments_scanned: u64,
    /// Bytes that were read to find the end.
    pub bytes_scanned: u64,
    /// Bytes between the end and the last byte that is not zero: a torn batch, cut off.
    pub cut: u64,
    /// Frames behind the end that were whole: never acknowledged as durable, and dropped.
    pub valid_after_hole: u64,
    /// Something was cut, and nothing that survived says whether it had been durable: after a
    /// power cut a torn last group looks like a rotten one.
    pub ambiguous: bool,
    /// The file system cannot be read past its cache: what the disk refused before a restart
    /// cannot be told from what it holds.
    pub cache_not_verified: bool,
    /// Bytes that the device would not give back, where the caller asked for what is left.
    pub unreadable: u64,
    /// Damage below the end, where the caller asked for what is left.
    pub damage: Vec<Damage>,
}

impl RecoveryReport {
    /// Tells an operator what the opening of a store found.
    pub(crate) fn tell(&self, store: &Path) {
        if self.cut > 0 || self.valid_after_hole > 0 || self.ambiguous {
            trace::cut(store, self.cut, self.valid_after_hole, self.ambiguous);
        }
        trace::opened(store, self.clean, self.segments_scanned, self.bytes_scanned);
    }
}

/// A range of the log that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Damage {
    /// The segment.
    pub segment: u32,
    /// Where the place begins that does not validate, in bytes.
    pub offset: u64,
    /// Where what is lost begins: the start of the batch that the bad place belongs to.
    pub lost_from: u64,
    /// Where the next good frame begins, if one follows in this segment.
    pub next_good: Option<u64>,
    /// The first Seq that is lost.
    pub first_seq: u64,
    /// The last Seq that is lost; smaller than the first if no user frame is.
    pub last_seq: u64,
    /// What is wrong there.
    pub what: String,
    /// The device would not give the bytes back: what they are is not known.
    pub unreadable: bool,
}

impl Damage {
    /// No user frame went with it: the next one says so.
    pub(crate) fn took_nothing(&self) -> bool {
        self.first_seq > self.last_seq && self.next_good.is_some()
    }
}
