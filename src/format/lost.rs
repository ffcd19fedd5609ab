//! What repairs could not save, range by range: a section of the manifest.
//!
//! ```text
//! first Seq 8 | last Seq 8 | entries 8
//! ```
//!
//! In the order of their Seqs. A range of which fewer entries are lost than it has numbers is one of a part: compaction
//! had dropped the others, and which ones those were nobody knows any more.

use serde::Serialize;

/// Entries that a repair could not save.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LostRange {
    /// The first Seq of the range.
    pub first_seq: u64,
    /// The last one.
    pub last_seq: u64,
    /// How many entries are lost. With fewer of them than there are numbers, compaction had dropped the rest.
    pub entries: u64,
}

/// A manifest names so many ranges; the last of more stands for the rest.
const RANGES_MAX: usize = 1 << 16;

impl LostRange {
    /// True if each number of the range is one of a lost entry.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.entries == (self.last_seq - self.first_seq).saturating_add(1)
    }

    pub(crate) fn new(first_seq: u64, last_seq: u64, entries: u64) -> Option<Self> {
        let numbers = last_seq.checked_sub(first_seq)?.saturating_add(1);
        Some(Self { first_seq, last_seq, entries: entries.min(numbers) }).filter(|range| range.entries > 0)
    }

    /// Those of earlier repairs and those of this one, in their order.
    pub(crate) fn put_together(ranges: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut ranges: Vec<Self> = ranges.into_iter().collect();
        ranges.sort_unstable_by_key(|range| (range.first_seq, range.last_seq));
        let mut together: Vec<Self> = Vec::new();
        for range in ranges {
            let is_full = together.len() == RANGES_MAX;
            let joins = |last: &Self| {
                range.first_seq <= last.last_seq
                    || is_full
                    || last.is_whole()
                        && range.is_whole()
                        && last.last_seq.checked_add(1) == Some(range.first_seq)
            };
            match together.last_mut().filter(|last| joins(last)) {
                Some(last) => {
                    last.last_seq = last.last_seq.max(range.last_seq);
                    let numbers = (last.last_seq - last.first_seq).saturating_add(1);
                    last.entries = last.entries.saturating_add(range.entries).min(numbers);
                }
                None => together.push(range),
            }
        }
        together
    }

    pub(crate) fn encode(self) -> impl Iterator<Item = u8> {
        [self.first_seq, self.last_seq, self.entries].into_iter().flat_map(u64::to_le_bytes)
    }

    /// `None` for what no repair writes.
    pub(crate) fn read_all(bytes: &[u8]) -> Option<Vec<Self>> {
        let (words, rest) = bytes.as_chunks::<8>();
        let (triples, odd) = words.as_chunks::<3>();
        let read = |words: &[[u8; 8]; 3]| {
            let [first, last, entries] = words.map(u64::from_le_bytes);
            Self::new(first, last, entries).filter(|range| range.entries == entries)
        };
        let ranges: Vec<Self> = triples.iter().map(read).collect::<Option<_>>()?;
        let in_order = ranges.is_sorted_by(|before, range| before.last_seq < range.first_seq);
        (rest.is_empty() && odd.is_empty() && in_order).then_some(ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u64, last: u64, entries: u64) -> LostRange {
        LostRange::new(first, last, entries).unwrap()
    }

    #[test]
    fn ranges_are_read_as_they_were_written_and_nothing_else_is() {
        let ranges = [range(3, 9, 2), range(10, 10, 1)];
        let bytes: Vec<u8> = ranges.iter().flat_map(|range| range.encode()).collect();
        assert_eq!(LostRange::read_all(&bytes).unwrap(), ranges);
        assert!((1..24).all(|cut| LostRange::read_all(&bytes[..24 + cut]).is_none()));
        let backward: Vec<u8> = ranges.iter().rev().flat_map(|range| range.encode()).collect();
        assert!(LostRange::read_all(&backward).is_none());
        for wrong in [[4_u64, 3, 1], [3, 4, 3], [3, 4, 0]] {
            let bytes: Vec<u8> = wrong.iter().flat_map(|word| word.to_le_bytes()).collect();
            assert!(LostRange::read_all(&bytes).is_none(), "{wrong:?}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "as many ranges as there can be take it minutes")]
    fn whole_neighbours_become_one_and_overlaps_too() {
        let together =
            LostRange::put_together([range(5, 6, 2), range(1, 4, 4), range(7, 9, 1), range(8, 12, 2)]);
        assert_eq!(together, [range(1, 6, 6), range(7, 12, 3)]);
        let many = (0..RANGES_MAX as u64 + 3).map(|n| range(10 * n + 1, 10 * n + 1, 1));
        let together = LostRange::put_together(many);
        assert_eq!(together.len(), RANGES_MAX);
        let last = together.last().unwrap();
        assert_eq!((last.last_seq, last.entries), (10 * (RANGES_MAX as u64 + 2) + 1, 4));
    }

    #[test]
    fn ranges_that_touch_in_one_entry_overlap() {
        assert_eq!(LostRange::put_together([range(3, 6, 2), range(6, 9, 4)]), [range(3, 9, 6)]);
        let bytes: Vec<u8> =
            [range(3, 6, 2), range(6, 9, 4)].iter().flat_map(|range| range.encode()).collect();
        assert!(LostRange::read_all(&bytes).is_none(), "a repair writes them as one");
        // Both say of the same entry that it is lost: it is one.
        assert_eq!(LostRange::put_together([range(3, 6, 4), range(4, 6, 3)]), [range(3, 6, 4)]);
    }
}
