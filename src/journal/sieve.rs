//! Which entries of a segment a walk over a kind need not look at: told by the index, before a frame is touched.
//!
//! Who looks for what is true of a kind now meets its past: of an entity that was written a thousand times, a thousand
//! entries. But the index of a segment names the last entry that each entity has in it, and the directory of entities the
//! last one in the log. An index is in the order of hashes, as the pages of the directory's file are.

use std::ops::Range;

use crate::format::index::EntityRecord;
use crate::id::{EntryAt, KindId};
use crate::index::catalog::{IndexRef, Opened};
use crate::index::entities::Known;
use crate::index::sealed::SealedIndex;
use crate::journal::view::{Loaded, View};

/// Where there are so many times as many entities in an index as entries to look at, it is not read for them.
const FEW: usize = 4;

/// What there is to look at in a segment.
#[derive(Debug)]
pub(crate) enum Sieve {
    /// Every entry: what its index says is not enough, or everything is wanted.
    Everything,
    /// It holds nothing of the kind.
    Nothing,
    /// What may be an entity's newest.
    Newest(Candidates),
}

/// Entries of a segment, by ordinal.
#[derive(Debug)]
pub(crate) struct Candidates {
    /// Those that may be the newest of their entities in the view.
    possible: Bits,
    /// Those of them that are.
    certain: Bits,
}

impl Sieve {
    /// For a walk over a kind through what an index shows up to an ordinal.
    pub(crate) fn of_kind(opened: &Opened, kind: KindId) -> Self {
        match known_index(opened) {
            Some(index) if !index.kinds().iter().any(|count| count.kind.get() == kind.0) => Self::Nothing,
            _ => Self::Everything,
        }
    }

    /// For one that looks only for the newest of each entity in a view, among these entries of the segment.
    pub(crate) fn of_newest(view: &View, opened: &Opened, kind: KindId, shown: Range<u32>) -> Self {
        let Some(index) = known_index(opened) else { return Self::Everything };
        if matches!(Self::of_kind(opened, kind), Self::Nothing) {
            return Self::Nothing;
        }
        if shown.len() < index.entities().len() / FEW {
            return Self::Everything;
        }
        let count = shown.end;
        let mut candidates = Candidates { possible: Bits::of(count), certain: Bits::of(count) };
        let mut last = LastSegment { view, loaded: None };
        for record in index.entities().iter().filter(|record| record.may_be_of(kind.0)) {
            let newest = newest_below(index, record, count).filter(|(ordinal, _)| *ordinal >= shown.start);
            let Some((ordinal, generation)) = newest else { continue };
            // Of one of which nothing can be learned here the walk says why when it comes to it.
            let known = view.index().last_known(record.hash()).ok().flatten();
            let is_unread = || view.catalog.may_be_unread(known);
            match known {
                Some(known) if known.generation == generation && !is_unread() => {
                    candidates.certain.set(ordinal)
                }
                Some(known) if known.generation > generation && last.shows(record, known) => continue,
                _ => {}
            }
            candidates.possible.set(ordinal);
        }
        Self::Newest(candidates)
    }

    /// The first entry to look at from an ordinal on.
    pub(crate) fn next(&self, ordinal: u32) -> Option<u32> {
        match self {
            Self::Everything => Some(ordinal),
            Self::Nothing => None,
            Self::Newest(candidates) => candidates.possible.next(ordinal),
        }
    }

    /// True if an entry that is to be looked at is the newest of its entity; false: nobody has asked, or it may be.
    pub(crate) fn is_certain(&self, ordinal: u32) -> bool {
        matches!(self, Self::Newest(candidates) if candidates.certain.has(ordinal))
    }
}

/// The index of a segment, where it knows of each entry whose it is.
fn known_index(opened: &Opened) -> Option<&SealedIndex> {
    match opened.index() {
        IndexRef::Sealed(index, _) if opened.damage().is_none() && !index.has_lost() => Some(index),
        _ => None,
    }
}

/// The ordinal and the generation of the last entry of an entity that a view shows of a segment.
fn newest_below(index: &SealedIndex, record: &EntityRecord, count: u32) -> Option<(u32, u64)> {
    let members = index.members(record);
    let shown = match members.last() {
        Some(last) if last.get() < count => members.len(),
        _ => members.partition_point(|ordinal| ordinal.get() < count),
    };
    let behind = u64::try_from(members.len() - shown).unwrap_or(u64::MAX);
    let ordinal = members.get(shown.checked_sub(1)?)?.get();
    Some((ordinal, record.last_generation().saturating_sub(behind)))
}

/// The segment in which a view ends: of entries there it may show some and not others.
struct LastSegment<'v> {
    view: &'v View,
    /// Once it was wanted: `None` if it is not there, or cannot be opened.
    loaded: Option<Option<Loaded<'v>>>,
}

impl LastSegment<'_> {
    /// True if the view shows the entry that is known as an entity's last, or one behind it, for certain.
    fn shows(&mut self, record: &EntityRecord, known: Known) -> bool {
        let view = self.view;
        // A view of the past may end before.
        if view.through != u64::MAX {
            return false;
        }
        let at: EntryAt = known.newest;
        if at.segment() != view.mark.segment() {
            return at.segment() < view.mark.segment();
        }
        // What a compaction has moved since has another ordinal, and another entry stands where it is now.
        let open = || Loaded::open(view, view.catalog.at(view.mark.segment())?).ok().flatten();
        let loaded = self.loaded.get_or_insert_with(open).as_ref();
        let Some(loaded) = loaded.filter(|loaded| at.ordinal() < loaded.count) else {
            return false;
        };
        let Ok(entry) = loaded.entry(at.ordinal()) else { return false };
        entry.generation().get() == known.generation
            && view.index().hash(entry.kind().0, entry.key()) == record.hash()
    }
}

/// A set of ordinals, one bit each.
#[derive(Debug)]
struct Bits(Box<[u64]>);

impl Bits {
    /// None of so many.
    fn of(count: u32) -> Self {
        Self(vec![0; (count as usize).div_ceil(64)].into_boxed_slice())
    }

    fn set(&mut self, ordinal: u32) {
        if let Some(word) = self.0.get_mut(ordinal as usize / 64) {
            *word |= 1 << (ordinal % 64);
        }
    }

    fn has(&self, ordinal: u32) -> bool {
        self.0.get(ordinal as usize / 64).is_some_and(|word| word & 1 << (ordinal % 64) != 0)
    }

    /// The first that is in it, from an ordinal on.
    fn next(&self, ordinal: u32) -> Option<u32> {
        let first = ordinal as usize / 64;
        let words = self.0.get(first..)?;
        let above = |at: usize, word: u64| if at == 0 { word & u64::MAX << (ordinal % 64) } else { word };
        let found =
            words.iter().enumerate().map(|(at, word)| (at, above(at, *word))).find(|(_, word)| *word != 0);
        let (at, word) = found?;
        u32::try_from((first + at) * 64).ok().map(|start| start + word.trailing_zeros())
    }
}

#[cfg(test)]
mod tests;
