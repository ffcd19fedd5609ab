//! What compaction has made of a log: which stretches of it were replaced, by what, and from which
//! entry on each kind is whole. A section of the manifest.
//!
//! ```text
//! next part 4 | reserved 4 | covers 4 | floors 4 | erasures 4 | reserved 4
//! cover     first segment 4 | last segment 4 | follows 8 | first Seq 8 | last Seq 8 | part 4 | reserved 4 |
//!           salt 8 | bytes 8 | entries 8
//! floor     kind 2 | flags 2 | reserved 4 | Seq 8
//! erasure   hash of the entity 16 | through Seq 8
//! ```
//!
//! Covers stand in the order of the log and do not overlap. One without a part kept nothing.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Error, Result};
use crate::format::header::HEADER_BYTES;
use crate::format::index::EntityHash;
use crate::format::segment::FILE_BYTES_MAX;
use crate::id::{KINDS_MAX, PART, Position, SEQ_MAX};

/// A stretch of the log that was replaced: by a part with what was kept of it, or by nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cover {
    /// The first and the last segment that it stands for.
    pub(crate) first: u32,
    pub(crate) last: u32,
    /// What the first of them followed.
    pub(crate) follows: Position,
    /// The Seqs that they held.
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    /// The file with what was kept; `None`: nothing was.
    pub(crate) part: Option<Part>,
}

/// The file of a cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its number, with the bit of parts.
    pub(crate) number: u32,
    pub(crate) salt: u64,
    /// The length of the file.
    pub(crate) bytes: u64,
    /// User frames in it.
    pub(crate) entries: u64,
}

/// An entity of which nothing up to a Seq may be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Erasing {
    pub(crate) hash: EntityHash,
    pub(crate) through: u64,
}

/// What compaction has made of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Compacted {
    /// In the order of the log.
    pub(crate) covers: Vec<Cover>,
    /// By kind: every entry of it from this Seq on is there.
    pub(crate) floors: BTreeMap<u16, u64>,
    /// Of these kinds, those whose entries stand aside.
    pub(crate) aside: BTreeSet<u16>,
    pub(crate) erasing: Vec<Erasing>,
    /// How many parts were ever numbered.
    pub(crate) parts_numbered: u32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct HeadBytes {
    parts_numbered: U32,
    reserved: U32,
    covers: U32,
    floors: U32,
    erasing: U32,
    reserved_too: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct CoverBytes {
    first: U32,
    last: U32,
    follows: U64,
    first_seq: U64,
    last_seq: U64,
    part: U32,
    reserved: U32,
    salt: U64,
    bytes: U64,
    entries: U64,
}

/// A floor is of a kind whose entries stand aside.
const ASIDE: u16 = 1;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct FloorBytes {
    kind: U16,
    flags: U16,
    reserved: [u8; 4],
    seq: U64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct ErasingBytes {
    hash: [u8; 16],
    through: U64,
}

impl Compacted {
    /// Notes what is to go of an entity. What was to go before goes too.
    pub(crate) fn erase(&mut self, erasing: Erasing) {
        let known = self.erasing.iter().find(|known| known.hash == erasing.hash);
        let through = known.map_or(erasing.through, |known| known.through.max(erasing.through));
        self.erasing.retain(|known| known.hash != erasing.hash);
        self.erasing.push(Erasing { hash: erasing.hash, through });
    }

    /// Nothing was ever compacted.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The last segment that was replaced; 0: none was.
    pub(crate) fn last_segment(&self) -> u32 {
        self.covers.last().map_or(0, |cover| cover.last)
    }

    /// The cover that stands for a segment.
    pub(crate) fn covering(&self, segment: u32) -> Option<&Cover> {
        let at = self.covers.partition_point(|cover| cover.last < segment);
        self.covers.get(at).filter(|cover| cover.first <= segment)
    }

    /// The cover that stands for what held a Seq.
    pub(crate) fn holding(&self, seq: u64) -> Option<&Cover> {
        let at = self.covers.partition_point(|cover| cover.last_seq < seq);
        self.covers.get(at).filter(|cover| cover.first_seq <= seq)
    }

    /// Where the covers begin that lie right before a Seq, one after the other, as far back as another one; the Seq itself
    /// if there is none.
    pub(crate) fn dense_from(&self, mut seq: u64, back_to: u64) -> u64 {
        while let Some(cover) =
            seq.checked_sub(1).filter(|_| seq > back_to).and_then(|last| self.holding(last))
        {
            seq = cover.first_seq;
        }
        seq
    }

    /// True if a cover stands for any of these Seqs.
    pub(crate) fn overlaps(&self, first: u64, last: u64) -> bool {
        self.covers.iter().any(|cover| cover.first_seq <= last && cover.last_seq >= first)
    }

    /// From which Seq on every entry of a kind is there; 0: nothing of it was dropped.
    pub(crate) fn floor(&self, kind: u16) -> u64 {
        self.floors.get(&kind).copied().unwrap_or(0)
    }

    /// From which Seq on everything is there that does not stand aside.
    pub(crate) fn floor_of_shown(&self) -> u64 {
        let shown = self.floors.iter().filter(|(kind, _)| !self.aside.contains(kind));
        shown.map(|(_, floor)| *floor).max().unwrap_or(0)
    }

    /// From which Seq on everything is there; 0: nothing was dropped.
    pub(crate) fn floor_of_all(&self) -> u64 {
        self.floors.values().copied().max().unwrap_or(0)
    }

    /// The numbers of the files that hold what was kept.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&Cover, Part)> + '_ {
        self.covers.iter().filter_map(|cover| Some((cover, cover.part?)))
    }

    /// Puts a cover in the place of those that it stands for. Neighbours of which nothing is left become
    /// one.
    pub(crate) fn replace(&mut self, cover: Cover) {
        self.covers.retain(|old| old.last < cover.first || cover.last < old.first);
        let at = self.covers.partition_point(|old| old.last < cover.first);
        self.covers.insert(at, cover);
        let mut at = 1;
        while let (Some(before), Some(here)) =
            (self.covers.get(at - 1).copied(), self.covers.get(at).copied())
        {
            let is_next = here.follows == Position::new(before.last, 0) || here.first == before.last + 1;
            // A gap is not what was dropped.
            let is_next = is_next && here.first_seq == before.last_seq + 1;
            if before.part.is_none() && here.part.is_none() && is_next {
                let Cover { last, last_seq, .. } = here;
                self.covers.remove(at);
                if let Some(before) = self.covers.get_mut(at - 1) {
                    (before.last, before.last_seq) = (last, last_seq);
                }
            } else {
                at += 1;
            }
        }
    }

    /// Notes that an entry of a kind was dropped.
    pub(crate) fn raise_floor(&mut self, kind: u16, dropped: u64) {
        let floor = self.floors.entry(kind).or_default();
        *floor = (*floor).max(dropped + 1);
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let count = |length: usize| U32::new(u32::try_from(length).unwrap_or(u32::MAX));
        let head = HeadBytes {
            parts_numbered: U32::new(self.parts_numbered),
            reserved: U32::ZERO,
            covers: count(self.covers.len()),
            floors: count(self.floors.len()),
            erasing: count(self.erasing.len()),
            reserved_too: U32::ZERO,
        };
        let mut bytes = head.as_bytes().to_vec();
        for cover in &self.covers {
            let part = cover.part.unwrap_or(Part { number: 0, salt: 0, bytes: 0, entries: 0 });
            let cover = CoverBytes {
                first: U32::new(cover.first),
                last: U32::new(cover.last),
                follows: U64::new(cover.follows.word()),
                first_seq: U64::new(cover.first_seq),
                last_seq: U64::new(cover.last_seq),
                part: U32::new(part.number),
                reserved: U32::ZERO,
                salt: U64::new(part.salt),
                bytes: U64::new(part.bytes),
                entries: U64::new(part.entries),
            };
            bytes.extend_from_slice(cover.as_bytes());
        }
        for (kind, seq) in &self.floors {
            let flags = U16::new(if self.aside.contains(kind) { ASIDE } else { 0 });
            let floor = FloorBytes { kind: U16::new(*kind), flags, reserved: [0; 4], seq: U64::new(*seq) };
            bytes.extend_from_slice(floor.as_bytes());
        }
        for Erasing { hash, through } in &self.erasing {
            let erasing = ErasingBytes { hash: hash.to_le_bytes(), through: U64::new(*through) };
            bytes.extend_from_slice(erasing.as_bytes());
        }
        bytes
    }

    /// # Errors
    ///
    /// `Corrupt` for anything that no compaction writes.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self> {
        let bad = |what: &str| Error::corrupt(format!("read what compaction wrote down: {what}"));
        let (head, rest) = HeadBytes::ref_from_prefix(bytes).map_err(|_| bad("its length"))?;
        let count = |count: U32| usize::try_from(count.get()).unwrap_or(usize::MAX);
        let (covers, rest) = <[CoverBytes]>::ref_from_prefix_with_elems(rest, count(head.covers))
            .map_err(|_| bad("its covers"))?;
        let (floors, rest) = <[FloorBytes]>::ref_from_prefix_with_elems(rest, count(head.floors))
            .map_err(|_| bad("its floors"))?;
        let erasing = <[ErasingBytes]>::ref_from_bytes_with_elems(rest, count(head.erasing))
            .map_err(|_| bad("what it erases"))?;
        let mut compacted = Self { parts_numbered: head.parts_numbered.get(), ..Self::default() };
        let mut parts = HashSet::new();
        for cover in covers {
            let cover = cover.cover().ok_or_else(|| bad("a cover"))?;
            let last = compacted.covers.last();
            let follows_the_last =
                last.is_none_or(|last| last.last < cover.first && last.last_seq < cover.first_seq);
            let is_numbered = cover.part.is_none_or(|part| part.number & !PART <= compacted.parts_numbered);
            let is_its_own = cover.part.is_none_or(|part| parts.insert(part.number));
            if !follows_the_last || !is_numbered || !is_its_own {
                return Err(bad("the order of its covers"));
            }
            compacted.covers.push(cover);
        }
        for floor in floors {
            let (kind, seq) = (floor.kind.get(), floor.seq.get());
            if !(1..=KINDS_MAX).contains(&kind) || seq > SEQ_MAX + 1 {
                return Err(bad("a floor"));
            }
            compacted.floors.insert(kind, seq);
            if floor.flags.get() & ASIDE != 0 {
                compacted.aside.insert(kind);
            }
        }
        compacted.erasing = erasing
            .iter()
            .map(|erasing| Erasing {
                hash: EntityHash::from_le_bytes(erasing.hash),
                through: erasing.through.get(),
            })
            .collect();
        Ok(compacted)
    }
}

impl CoverBytes {
    /// `None` for what is no cover.
    fn cover(&self) -> Option<Cover> {
        let part = (self.part.get() != 0).then(|| Part {
            number: self.part.get(),
            salt: self.salt.get(),
            bytes: self.bytes.get(),
            entries: self.entries.get(),
        });
        let cover = Cover {
            first: self.first.get(),
            last: self.last.get(),
            follows: Position::from_word(self.follows.get()),
            first_seq: self.first_seq.get(),
            last_seq: self.last_seq.get(),
            part,
        };
        cover.is_possible().then_some(cover)
    }
}

impl Cover {
    pub(crate) fn stands_for(&self, segment: u32) -> bool {
        (self.first..=self.last).contains(&segment)
    }

    /// False for what nobody can have written.
    pub(crate) fn is_possible(&self) -> bool {
        let is_part = |part: Part| {
            part.number & PART != 0
                && part.number != PART
                && (HEADER_BYTES as u64..=FILE_BYTES_MAX).contains(&part.bytes)
                && part.entries <= self.last_seq.saturating_add(1).saturating_sub(self.first_seq)
        };
        let are_segments = 0 < self.first && self.first <= self.last && self.last < PART;
        let are_seqs = 0 < self.first_seq && self.last_seq <= SEQ_MAX && self.first_seq <= self.last_seq + 1;
        let is_behind = self.follows.segment() < self.first;
        are_segments && are_seqs && is_behind && self.part.is_none_or(is_part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cover(first: u32, last: u32, part: Option<u32>) -> Cover {
        Cover {
            first,
            last,
            follows: Position::new(first - 1, 0),
            first_seq: u64::from(first) * 10,
            last_seq: u64::from(last) * 10 + 9,
            part: part.map(|number| Part { number: number | PART, salt: 7, bytes: 4096, entries: 3 }),
        }
    }

    #[test]
    fn what_was_compacted_is_read_as_it_was_written_and_every_truncation_is_refused() {
        let compacted = Compacted {
            covers: vec![cover(1, 3, None), cover(4, 4, Some(1)), cover(7, 9, Some(2))],
            floors: BTreeMap::from([(1, 12), (7, 40)]),
            aside: BTreeSet::from([7]),
            erasing: vec![Erasing { hash: 5 << 90, through: 8 }],
            parts_numbered: 2,
        };
        let bytes = compacted.encode();
        assert_eq!(Compacted::read(&bytes).unwrap(), compacted);
        assert_eq!((compacted.floor_of_all(), compacted.floor_of_shown()), (40, 12));
        assert!((0..bytes.len()).all(|cut| Compacted::read(&bytes[..cut]).is_err()));
        let mut overlapping = compacted.clone();
        overlapping.covers[1].first = 3;
        assert!(Compacted::read(&overlapping.encode()).is_err());
        let unnumbered = Compacted { parts_numbered: 1, ..compacted };
        assert!(Compacted::read(&unnumbered.encode()).is_err());
    }

    #[test]
    fn a_cover_replaces_those_that_it_stands_for_and_empty_neighbours_become_one() {
        let mut compacted = Compacted::default();
        compacted.replace(cover(1, 2, None));
        compacted.replace(cover(3, 3, Some(1)));
        compacted.replace(cover(4, 5, None));
        assert_eq!(compacted.covers.len(), 3);
        assert_eq!(compacted.covering(3).unwrap().part.unwrap().number, PART | 1);
        compacted.replace(cover(3, 3, None));
        assert_eq!(compacted.covers, [Cover { last: 5, last_seq: 59, ..cover(1, 2, None) }]);
        let mut gap = compacted.clone();
        gap.replace(Cover { first_seq: 63, ..cover(6, 7, None) });
        assert_eq!((gap.covers.len(), gap.dense_from(80, 1), gap.dense_from(60, 1)), (2, 63, 10));
        assert_eq!(gap.dense_from(60, 60), 60, "that is as far back as was asked");
        assert!(compacted.covering(6).is_none() && compacted.holding(59).is_some());
        assert!(compacted.holding(60).is_none() && compacted.holding(9).is_none());
    }

    #[test]
    fn a_cover_that_nobody_can_have_written_is_refused_and_the_widest_is_not() {
        let good = cover(4, 6, Some(1));
        let of = |part: Part| Cover { part: Some(part), ..good };
        let part = good.part.unwrap();
        let last_segment = PART - 1;
        let possible = [
            Cover { last: good.first, ..good },
            Cover { last: last_segment, ..good },
            Cover { first: 1, follows: Position::ZERO, ..good },
            Cover { first_seq: 1, ..good },
            Cover { last_seq: SEQ_MAX, ..good },
            // All that its segments held were system frames.
            Cover { first_seq: good.last_seq + 1, part: None, ..good },
            of(Part { bytes: HEADER_BYTES as u64, ..part }),
            of(Part { bytes: FILE_BYTES_MAX, ..part }),
            of(Part { entries: good.last_seq - good.first_seq + 1, ..part }),
        ];
        for cover in possible {
            let compacted = Compacted { covers: vec![cover], parts_numbered: 1, ..Compacted::default() };
            assert_eq!(Compacted::read(&compacted.encode()).unwrap(), compacted);
        }
        let impossible = [
            Cover { first: 0, last: 0, follows: Position::ZERO, ..good },
            Cover { last: good.first - 1, ..good },
            Cover { last: PART, ..good },
            Cover { follows: Position::new(good.first, 0), ..good },
            Cover { first_seq: 0, ..good },
            Cover { last_seq: SEQ_MAX + 1, ..good },
            Cover { first_seq: good.last_seq + 2, ..good },
            of(Part { number: 1, ..part }),
            of(Part { number: PART, ..part }),
            of(Part { bytes: HEADER_BYTES as u64 - 1, ..part }),
            of(Part { bytes: FILE_BYTES_MAX + 1, ..part }),
            of(Part { entries: good.last_seq - good.first_seq + 2, ..part }),
        ];
        for cover in impossible {
            let compacted = Compacted { covers: vec![cover], parts_numbered: 1, ..Compacted::default() };
            assert!(Compacted::read(&compacted.encode()).is_err(), "{cover:?}");
        }
    }

    #[test]
    fn covers_that_share_a_segment_a_seq_or_a_file_are_refused_and_so_is_a_floor_of_nothing() {
        let read = |covers: [Cover; 2]| {
            Compacted::read(
                &Compacted { covers: covers.into(), parts_numbered: 2, ..Compacted::default() }.encode(),
            )
        };
        let (first, second) = (cover(1, 3, Some(1)), cover(4, 5, Some(2)));
        assert!(read([first, second]).is_ok());
        assert!(read([first, Cover { first: 3, follows: Position::new(2, 0), ..second }]).is_err());
        assert!(read([first, Cover { first_seq: first.last_seq, ..second }]).is_err());
        assert!(read([first, Cover { part: first.part, ..second }]).is_err());

        let floor = |kind: u16, seq: u64| {
            Compacted::read(
                &Compacted { floors: BTreeMap::from([(kind, seq)]), ..Compacted::default() }.encode(),
            )
        };
        assert!(floor(1, SEQ_MAX + 1).is_ok() && floor(KINDS_MAX, 0).is_ok());
        assert!(floor(1, SEQ_MAX + 2).is_err() && floor(0, 1).is_err() && floor(KINDS_MAX + 1, 1).is_err());
    }

    #[test]
    fn a_cover_stands_for_its_own_segments_and_overlaps_its_own_seqs() {
        let mut compacted = Compacted::default();
        assert!(compacted.is_empty() && compacted.last_segment() == 0);
        compacted.replace(cover(3, 5, None));
        assert!(!compacted.is_empty() && compacted.last_segment() == 5);
        let here = compacted.covers[0];
        assert_eq!([2, 3, 5, 6].map(|segment| here.stands_for(segment)), [false, true, true, false]);
        assert!(compacted.overlaps(30, 30) && compacted.overlaps(59, 70) && compacted.overlaps(1, 90));
        assert!(!compacted.overlaps(1, 29) && !compacted.overlaps(60, 70));
    }

    #[test]
    fn only_the_floor_of_the_kind_that_lost_an_entry_rises_and_it_never_falls() {
        let mut compacted = Compacted::default();
        compacted.raise_floor(2, 7);
        assert_eq!((compacted.floor(2), compacted.floor(3)), (8, 0));
        compacted.raise_floor(2, 4);
        assert_eq!(compacted.floor(2), 8);
    }

    #[test]
    fn empty_neighbours_become_one_behind_a_segment_that_a_crash_cut() {
        let mut compacted = Compacted::default();
        compacted.replace(cover(1, 2, None));
        // The log went on within segment 2, so the next header names a place in it and no seal.
        compacted.replace(Cover { follows: Position::new(2, 640), ..cover(3, 4, None) });
        assert_eq!(compacted.covers, [Cover { last: 4, last_seq: 49, ..cover(1, 2, None) }]);
        // Dead segments lie between.
        compacted.replace(Cover { follows: Position::new(4, 0), first_seq: 50, ..cover(7, 8, None) });
        assert_eq!(compacted.covers, [Cover { last: 8, last_seq: 89, ..cover(1, 2, None) }]);
    }
}
