//! The proof that a feed leaves nothing out, as far as a consumer can have it: it remembers what it has seen since it began,
//! and nothing of what was before.

use std::collections::{BTreeMap, HashMap};

use crate::backplane::{StreamRecord, WriterId};

/// Of so many topics it is remembered what came. When there are more all are forgotten, and each begins where it is.
const TOPICS_MAX: usize = 65_536;

pub(super) struct Order {
    /// There was nothing before what was seen.
    is_whole: bool,
    topics: HashMap<Box<[u8]>, Seen>,
}

#[derive(Default)]
struct Seen {
    /// It begins behind an erasure: there a writer does not begin at 1.
    is_anew: bool,
    generation: Option<u64>,
    writers: BTreeMap<WriterId, u64>,
}

/// How a record stands to those that came before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    Next,
    /// It came before, and was appended again.
    Again,
    /// Something is missing in between.
    Gap {
        expected: String,
        found: String,
    },
}

impl Order {
    /// Before the first record, if nothing was ever there before it.
    pub(super) fn new(is_whole: bool) -> Self {
        Self { is_whole, topics: HashMap::new() }
    }

    /// Forgets what came of a topic: it begins where it is.
    pub(super) fn forget(&mut self, key: &[u8]) {
        self.is_whole = false;
        self.topics.remove(key);
    }

    /// True if it is told for the first of its topic, where others have come.
    pub(super) fn begins_again(&self, record: &StreamRecord) -> bool {
        let has_come = self.topics.get(record.key()).is_some_and(|seen| seen.generation.is_some());
        has_come && record.place_in_topic().is_some_and(|place| place.is_first)
    }

    /// Judges a record; one with others before it, which are left, is no first one, whatever it is told for.
    pub(super) fn judge(&self, record: &StreamRecord, is_behind_others: bool) -> Judged {
        let seen = self.topics.get(record.key());
        let mut place = record.place_in_topic();
        if let Some(place) = &mut place {
            place.is_first &= !is_behind_others;
        }
        let is_anew = place.is_some_and(|place| place.is_first && place.generation > 1);
        let begins_at_one = self.is_whole && !is_anew && !seen.is_some_and(|seen| seen.is_anew);
        let last = |writer| seen.and_then(|seen| seen.writers.get(writer)).copied();
        if let Some(place) = place {
            let expected = match seen.and_then(|seen| seen.generation) {
                Some(generation) => Some(generation.saturating_add(1)),
                None => self.is_whole.then_some(1),
            };
            // One that is the first of its topic stands behind an erasure, or nothing.
            if let Some(expected) =
                expected.filter(|expected| !place.is_first && place.generation != *expected)
            {
                return Judged::Gap {
                    expected: format!("generation {expected}"),
                    found: format!("generation {}", place.generation),
                };
            }
        }
        let Some(stamp) = record.counted() else { return Judged::Next };
        match last(&stamp.writer) {
            Some(last) if stamp.n <= last => Judged::Again,
            Some(last) if stamp.n > last + 1 => Judged::Gap {
                expected: format!("record {}:{}", stamp.writer, last + 1),
                found: format!("record {stamp}"),
            },
            None if begins_at_one && stamp.n > 1 => Judged::Gap {
                expected: format!("record {}:1", stamp.writer),
                found: format!("record {stamp}"),
            },
            _ => Judged::Next,
        }
    }

    pub(super) fn take(&mut self, record: &StreamRecord) {
        if self.topics.len() >= TOPICS_MAX && !self.topics.contains_key(record.key()) {
            self.topics.clear();
            self.is_whole = false;
        }
        let seen = self.topics.entry(record.key().into()).or_default();
        if let Some(place) = record.place_in_topic() {
            seen.is_anew = if place.is_first { place.generation > 1 } else { seen.is_anew };
            seen.generation = Some(place.generation);
        }
        if let Some(stamp) = record.counted() {
            let last = seen.writers.entry(stamp.writer).or_default();
            *last = stamp.n.max(*last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backplane::{Offset, Stamp};

    fn record(offset: u64, writer: u64, n: u64) -> StreamRecord {
        let stamp = Stamp::new(WriterId::from_raw(writer), n);
        StreamRecord::new(Offset::from_raw(offset), Some(stamp), 0, &b"k"[..], &b""[..])
    }

    #[test]
    fn what_is_missing_is_found_from_the_first_record_on_or_from_the_first_that_was_seen() {
        for is_whole in [true, false] {
            let mut order = Order::new(is_whole);
            assert_eq!(matches!(order.judge(&record(1, 1, 2), false), Judged::Gap { .. }), is_whole);
            order.take(&record(1, 1, 1));
            assert_eq!(order.judge(&record(5, 1, 1), false), Judged::Again);
            assert!(matches!(order.judge(&record(5, 1, 3), false), Judged::Gap { .. }));
            assert_eq!(order.judge(&record(5, 1, 2), false), Judged::Next);
            order.forget(b"k");
            assert_eq!(order.judge(&record(9, 1, 9), false), Judged::Next, "it begins where it is");
        }
    }
}
