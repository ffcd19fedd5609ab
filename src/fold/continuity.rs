//! The proof that nothing is missing between what was folded and the next record.
//!
//! Two things prove it. Each record says by whom it is and as the how manieth of its topic ([`Stamp`]): these numbers are
//! dense. And where the log is this process's own, each entry has the place in its entity's history, which is dense too;
//! that holds also for what has no stamp.

use std::collections::BTreeMap;

use crate::backplane::{Stamp, StreamRecord, WriterId};

/// Where the log itself proves that nothing is missing, the last numbers of so many writers are remembered.
///
/// Elsewhere those of all are: a writer says nothing when it ends, so that any of them may append its next record at any
/// time, also when its last one was dropped; and without its number, a record that is missing before that one, or one
/// that was appended again, would go unnoticed.
const WRITERS_MAX: usize = 1024;

/// What was folded, as far as the next record has to fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Continuity {
    /// How many records there were, or the generation of the last where the log says it.
    pub(super) count: u64,
    pub(super) writers: BTreeMap<WriterId, Last>,
    /// Not every writer is known: the history begins behind an erasure or with what is left of it, or some were forgotten. One that
    /// is not does not begin at 1 then.
    pub(super) is_partial: bool,
    /// So often what was dropped was taken for lost, by somebody who said so.
    pub(super) begun_anew: u64,
}

/// The last record of a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Last {
    n: u64,
    /// The how manieth of all it was, or any number that orders the writers likewise.
    at: u64,
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
    /// Judges a record that stands behind all that were taken, if nothing but these was before it. [Where it says that the topic
    /// was erased](Judged::Anew), the backplane is asked [whether that is so](crate::fold::lost::judged).
    pub(super) fn judge(&self, record: &StreamRecord) -> Judged {
        match record.place_in_topic().filter(|place| place.is_first) {
            Some(_) if self.count == 0 => Judged::Next,
            Some(_) => Judged::Anew,
            None => self.judge_behind(record),
        }
    }

    /// The same of a record of a history that has not begun with it.
    pub(super) fn judge_behind(&self, record: &StreamRecord) -> Judged {
        let Some(place) = record.place_in_topic() else { return self.judge_stamp(record.counted()) };
        if place.generation != self.count.saturating_add(1) {
            return Judged::Gap {
                expected: format!("generation {}", self.count.saturating_add(1)),
                found: format!("generation {}", place.generation),
            };
        }
        // Its place proves that nothing is missing before the first of a writer, whatever number that begins with.
        let is_first = record.counted().is_some_and(|stamp| !self.writers.contains_key(&stamp.writer));
        if is_first { Judged::Next } else { self.judge_stamp(record.counted()) }
    }

    fn judge_stamp(&self, stamp: Option<Stamp>) -> Judged {
        let Some(stamp) = stamp else { return Judged::Next };
        let last = self.writers.get(&stamp.writer).map_or(0, |last| last.n);
        if last == 0 && self.is_partial {
            return Judged::Next;
        }
        if stamp.n <= last {
            return Judged::Again;
        }
        if stamp.n > last + 1 {
            let expected = Stamp::new(stamp.writer, last + 1);
            return Judged::Gap { expected: format!("record {expected}"), found: format!("record {stamp}") };
        }
        Judged::Next
    }

    /// True if the next record has a number that one of those has which were folded: these were lost, and others came in their place.
    pub(super) fn is_contradicted(count: u64, next: &StreamRecord) -> bool {
        next.place_in_topic().is_some_and(|place| !place.is_first && place.generation <= count)
    }

    /// Takes a record for folded.
    pub(super) fn take(&mut self, record: &StreamRecord) {
        self.count = self.count_with(record);
        if let Some(place) = record.place_in_topic().filter(|place| place.is_first) {
            // The first history that there is begins at 1.
            self.is_partial = place.generation > 1;
        }
        if let Some(stamp) = record.counted() {
            let last = self.writers.entry(stamp.writer).or_insert(Last { n: 0, at: 0 });
            *last = Last { n: stamp.n.max(last.n), at: self.count };
            if record.place_in_topic().is_some() {
                self.forget_some();
            }
        }
    }

    /// Keeps those who appended last, where there are too many. Generations are dense all the same.
    fn forget_some(&mut self) {
        if self.writers.len() <= WRITERS_MAX {
            return;
        }
        let mut last: Vec<u64> = self.writers.values().map(|last| last.at).collect();
        // Half of them, so that it is not done for each.
        last.sort_unstable();
        let first_kept = last.get(last.len() / 2).copied().unwrap_or(0);
        self.writers.retain(|_, last| last.at >= first_kept);
        self.is_partial = true;
    }

    /// The last numbers of the writers, in the order in which these appended last.
    pub(super) fn writers(&self) -> Vec<(u64, u64)> {
        let mut writers: Vec<_> = self.writers.iter().collect();
        writers.sort_unstable_by_key(|(_, last)| last.at);
        writers.into_iter().map(|(writer, last)| (writer.raw(), last.n)).collect()
    }

    /// The same, with the writers that it gave.
    pub(super) fn with_writers(self, writers: &[(u64, u64)]) -> Self {
        // No more than there were records, so that who appends now is behind them.
        let at = |index: usize| (index as u64).min(self.count);
        let last = |(index, (writer, n)): (usize, &(u64, u64))| {
            (WriterId::from_raw(*writer), Last { n: *n, at: at(index) })
        };
        Self { writers: writers.iter().enumerate().map(last).collect(), ..self }
    }

    /// How many there are with a record.
    pub(super) fn count_with(&self, record: &StreamRecord) -> u64 {
        let generation = record.place_in_topic().map(|place| place.generation);
        generation.unwrap_or_else(|| self.count.saturating_add(1))
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a panic is a failed test")]
mod tests {
    use super::*;
    use crate::backplane::{Append, Backplane, Filter, Local, Offset, Step};
    use crate::journal::Journal;

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

    fn own_records(stamps: &[(u64, u64)]) -> Vec<StreamRecord> {
        let journal = crate::journal::Journal::in_memory().unwrap();
        let plane = Local::over(&journal).unwrap();
        for (writer, n) in stamps {
            let stamp = Stamp::new(WriterId::from_raw(*writer), *n);
            plane.commit(&[Step::Append(Append::new("s", b"k", b"", stamp))]).unwrap();
        }
        let mut feed = plane.subscribe(Filter::topic("s", b"k"), Offset::BEGINNING).unwrap();
        std::iter::from_fn(|| feed.try_next().unwrap()).collect()
    }

    #[test]
    fn where_the_log_says_the_place_a_writer_begins_with_any_number_and_leaves_none_out() {
        let records = own_records(&[(1, 3), (2, 2), (1, 4), (1, 6)]);
        let mut known = Continuity::default();
        for record in &records[..3] {
            assert_eq!(known.judge(record), Judged::Next, "{record:?}");
            known.take(record);
        }
        assert!(
            matches!(known.judge(&records[3]), Judged::Gap { .. }),
            "its 5 was acknowledged and is not there"
        );
    }

    #[test]
    fn writers_are_forgotten_only_where_the_log_itself_proves_that_nothing_is_missing() {
        let mut known = Continuity::default();
        let writers = WRITERS_MAX as u64 * 3;
        for writer in 1..=writers {
            known.take(&record(writer, writer, 1));
        }
        assert_eq!(known.writers.len(), WRITERS_MAX * 3, "without generations a number is the only proof");
        assert_eq!(known.judge(&record(writers + 1, 1, 1)), Judged::Again);

        let journal = Journal::in_memory().unwrap();
        let plane = Local::over(&journal).unwrap();
        for writer in 1..=writers {
            let stamp = Stamp::new(WriterId::from_raw(writer), 1);
            plane.commit(&[Step::Append(Append::new("s", b"k", b"", stamp))]).unwrap();
        }
        let late = Stamp::new(WriterId::from_raw(1), 2);
        plane.commit(&[Step::Append(Append::new("s", b"k", b"", late))]).unwrap();
        let mut feed = plane.subscribe(Filter::topic("s", b"k"), Offset::BEGINNING).unwrap();
        let records: Vec<_> = std::iter::from_fn(|| feed.try_next().unwrap()).collect();
        let mut known = Continuity::default();
        for record in &records {
            assert_eq!(known.judge(record), Judged::Next, "{record:?}");
            known.take(record);
            assert!(known.writers.len() <= WRITERS_MAX);
        }
        assert!(known.is_partial && known.writers.contains_key(&late.writer), "it has come again");
        // What an image has of it is in the same order.
        let read = Continuity { writers: BTreeMap::new(), ..known.clone() }.with_writers(&known.writers());
        assert_eq!(read.writers(), known.writers());
        let mut misses_one = Continuity::default();
        misses_one.take(&records[0]);
        misses_one.is_partial = true;
        assert!(matches!(misses_one.judge(&records[2]), Judged::Gap { .. }), "a generation is missing");
    }
}
