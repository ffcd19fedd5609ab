//! The proof that nothing is missing between what was folded and the next record.
//!
//! Two things prove it. Each record says by whom it is and as the how manieth of its topic ([`Stamp`]): these numbers are
//! dense. And where the log is this process's own, each entry has the place in its entity's history, which is dense too;
//! that holds also for what has no stamp.

use std::collections::BTreeMap;

use crate::backplane::{Stamp, StreamRecord, WriterId};

/// What was folded, as far as the next record has to fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Continuity {
    /// How many records there were, or the generation of the last where the log says it.
    pub(super) count: u64,
    /// The last number of each writer.
    pub(super) writers: BTreeMap<WriterId, u64>,
    /// It begins behind an erasure: there a writer does not begin at 1.
    pub(super) is_anew: bool,
}

/// How a record stands to what was folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// Right behind it.
    Next,
    /// It is one of those that were folded, appended again.
    Again,
    /// The topic was erased, and this is the first record behind that.
    Anew,
    /// Something is missing in between.
    Gap { expected: String, found: String },
}

impl Continuity {
    /// Judges a record that stands behind all that were taken.
    pub(super) fn judge(&self, record: &StreamRecord) -> Judged {
        let Some(place) = record.place_in_topic() else { return self.judge_stamp(record.stamp()) };
        if place.is_first {
            return match (self.count, place.generation) {
                (0, 1) => self.judge_stamp(record.stamp()),
                (0, _) => Judged::Next,
                _ => Judged::Anew,
            };
        }
        if place.generation != self.count.saturating_add(1) {
            return Judged::Gap {
                expected: format!("generation {}", self.count.saturating_add(1)),
                found: format!("generation {}", place.generation),
            };
        }
        let is_known = record.stamp().is_some_and(|stamp| self.writers.contains_key(&stamp.writer));
        if is_known || !self.is_anew { self.judge_stamp(record.stamp()) } else { Judged::Next }
    }

    fn judge_stamp(&self, stamp: Option<Stamp>) -> Judged {
        let Some(stamp) = stamp else { return Judged::Next };
        let last = self.writers.get(&stamp.writer).copied().unwrap_or(0);
        if stamp.n <= last {
            return Judged::Again;
        }
        if stamp.n > last + 1 {
            let expected = Stamp::new(stamp.writer, last + 1);
            return Judged::Gap { expected: format!("record {expected}"), found: format!("record {stamp}") };
        }
        Judged::Next
    }

    /// Takes a record for folded.
    pub(super) fn take(&mut self, record: &StreamRecord) {
        self.count = self.count_with(record);
        if let Some(place) = record.place_in_topic().filter(|place| place.is_first) {
            // The first history that there is begins at 1.
            self.is_anew = place.generation > 1;
        }
        if let Some(stamp) = record.stamp() {
            let last = self.writers.entry(stamp.writer).or_default();
            *last = stamp.n.max(*last);
        }
    }

    /// How many there are with a record.
    pub(super) fn count_with(&self, record: &StreamRecord) -> u64 {
        let generation = record.place_in_topic().map(|place| place.generation);
        generation.unwrap_or_else(|| self.count.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backplane::Offset;

    fn record(offset: u64, writer: u64, n: u64) -> StreamRecord {
        let stamp = Stamp::new(WriterId::from_raw(writer), n);
        StreamRecord::new(Offset::from_raw(offset), Some(stamp), 0, &b"k"[..], &b""[..])
    }

    #[test]
    fn numbers_are_dense_by_writer_and_one_that_came_is_told_from_one_that_is_missing() {
        let mut known = Continuity::default();
        for (offset, writer, n) in [(1, 1, 1), (4, 2, 1), (5, 1, 2), (9, 2, 2)] {
            let record = record(offset, writer, n);
            assert_eq!(known.judge(&record), Judged::Next);
            known.take(&record);
        }
        assert_eq!(known.count, 4);
        assert_eq!(known.judge(&record(10, 1, 2)), Judged::Again);
        assert!(matches!(known.judge(&record(10, 1, 4)), Judged::Gap { .. }));
        assert!(matches!(known.judge(&record(10, 3, 2)), Judged::Gap { .. }), "a writer begins at 1");
        assert_eq!(known.judge(&record(10, 3, 1)), Judged::Next);
        let unstamped = StreamRecord::new(Offset::from_raw(11), None, 0, &b"k"[..], &b""[..]);
        assert_eq!(known.judge(&unstamped), Judged::Next);
    }
}
