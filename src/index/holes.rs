//! What a reader goes on without: stretches of the log that it could not read, and has learned nothing of.
//!
//! A writer goes on with none. Of an entity whose newest known entry stands behind a hole that has nothing newer; of any other
//! the reader cannot tell what it is. They belong to the row as it was: a view from before compaction has made something of
//! one has that one still. Each hole is kept, so whoever follows an entity is told of those between the entries that he is
//! shown, and goes on behind each.

use std::sync::Arc;

use crate::error::Error;
use crate::format::compacted::Cover;
use crate::format::segment::{FIRST_FRAME, file_name};
use crate::id::EntryAt;
use crate::index::catalog::{Catalog, IndexRef, Place, Section};
use crate::index::entities::Known;
use crate::log::report::Damage;

/// A stretch of the log that was left unread.
#[derive(Clone, Debug)]
pub(crate) struct Hole {
    /// The first and the last segment that something of it was in.
    pub(crate) first: u32,
    pub(crate) last: u32,
    /// What is known begins here behind it.
    pub(crate) through: EntryAt,
    pub(crate) damage: Damage,
    /// The directory of entities tells which of them have their newest entry in it.
    pub(crate) is_accounted: bool,
}

impl Hole {
    /// Something in one section, before an entry of it; `None`: nothing of it was read.
    pub(crate) fn within(number: u32, damage: Damage, before: Option<u32>) -> Self {
        let through = EntryAt::new(number, before.unwrap_or(u32::MAX));
        Self { first: number, last: number, through, damage, is_accounted: false }
    }

    /// Whole segments.
    pub(crate) fn of(first: u32, last: u32, damage: Damage) -> Self {
        Self { first, last, through: EntryAt::new(last, u32::MAX), damage, is_accounted: false }
    }

    /// The Seqs of what stood in it: without an end where nobody behind it says where he begins.
    fn seqs(&self, catalog: &Catalog) -> (u64, Option<u64>) {
        let Damage { first_seq, last_seq, offset, .. } = self.damage;
        if first_seq <= last_seq {
            return (first_seq, Some(last_seq));
        }
        // What was read of the segment stands before it.
        let first = if offset >= FIRST_FRAME { first_seq } else { catalog.begin_of_gap(self.last) };
        (first, catalog.end_of_gap(self.last))
    }

    /// True if nothing of its segments was read.
    pub(crate) fn is_of_whole_segments(&self) -> bool {
        self.damage.offset < FIRST_FRAME && self.through.ordinal() == u32::MAX
    }

    fn may_have_newer(&self, known: Option<Known>) -> bool {
        let is_before = known.is_none_or(|known| known.newest < self.through);
        is_before && (!self.is_accounted || known.is_some_and(|known| self.first <= known.newest.segment()))
    }

    /// True if something of it may stand between two Seqs. Of one that is empty, as what stands behind it says, nothing does.
    fn is_between(&self, catalog: &Catalog, after: u64, before: u64) -> bool {
        let (first, last) = self.seqs(catalog);
        first < before && last.is_none_or(|last| first <= last && last > after)
    }

    /// True if covers stand for all of it: numbers between a cover and what it follows were never of the log.
    pub(crate) fn is_in(&self, covers: &[Cover]) -> bool {
        let mut at = self.last;
        while let Some(cover) = covers.iter().find(|cover| (cover.first..=cover.last).contains(&at)) {
            at = cover.follows.segment().min(cover.first.saturating_sub(1));
            if at < self.first {
                return true;
            }
        }
        false
    }

    /// Why something of an entity may be missing.
    #[cold]
    fn error(&self, place: &Place, catalog: &Catalog) -> Error {
        let damage = &self.damage;
        let file = place.directory.path().join(file_name(damage.segment));
        let error = Error::corrupt("look for an entity, of which something may stand in what cannot be read")
            .at(file)
            .place(damage.segment, damage.offset)
            .noting(damage.what.clone());
        match self.seqs(catalog) {
            (first, Some(last)) if first <= last => error.lost(first..=last),
            _ => error,
        }
    }
}

impl Catalog {
    /// True if something was left unread that may have something newer of an entity.
    #[inline]
    pub(crate) fn may_be_unread(&self, known: Option<Known>) -> bool {
        self.holes.iter().any(|hole| hole.may_have_newer(known))
    }

    /// Why what a search has found may not be the newest, where it was the directory that could not tell.
    pub(crate) fn unread_without_directory(&self, place: &Place, found: Option<Known>) -> Option<Error> {
        let is_before = |hole: &Hole| found.is_none_or(|found| found.newest < hole.through);
        self.first_hole(place, |hole| hole.is_accounted && is_before(hole))
    }

    fn first_hole(&self, place: &Place, is_it: impl Fn(&Hole) -> bool) -> Option<Error> {
        self.holes.iter().find(|hole| is_it(hole)).map(|hole| hole.error(place, self))
    }

    /// Why nobody can tell what an entity has behind a Seq and up to another, if so. `has_end`: only of a hole of which it is
    /// known how far it goes.
    pub(crate) fn unread(
        &self,
        place: &Place,
        known: Option<Known>,
        (behind, through): (u64, u64),
        has_end: bool,
    ) -> Option<Error> {
        let is_asked = |hole: &Hole| !has_end || hole.seqs(self).1.is_some();
        let is_there = |hole: &Hole| hole.is_between(self, behind, through.saturating_add(1));
        self.first_hole(place, |hole| hole.may_have_newer(known) && is_asked(hole) && is_there(hole))
    }

    /// Why there may be something between two Seqs, if so.
    pub(crate) fn unread_between(&self, place: &Place, after: u64, before: u64) -> Option<Error> {
        self.first_hole(place, |hole| hole.is_between(self, after, before))
    }

    /// True if there may be.
    pub(crate) fn has_hole_between(&self, after: u64, before: u64) -> bool {
        self.holes.iter().any(|hole| hole.is_between(self, after, before))
    }

    /// The first Seq that a segment can have had: behind all that stands before it.
    fn begin_of_gap(&self, number: u32) -> u64 {
        let before = self.sections.partition_point(|section| section.number < number);
        let end = (0..before).rev().find_map(|at| self.end_of(at));
        let covers = self.compacted.covers.iter().filter(|cover| cover.last < number);
        let dropped = covers.map(|cover| cover.last_seq + 1).max();
        end.max(dropped).unwrap_or(1)
    }

    /// The last Seq that a segment can have had: before the first that what stands behind it says it begins with.
    pub(crate) fn end_of_gap(&self, number: u32) -> Option<u64> {
        let behind = self.sections.partition_point(|section| section.first_number() <= number);
        let says = self.sections.iter().skip(behind).find_map(says_where_it_begins);
        let covers = self.compacted.covers.iter().find(|cover| cover.first > number);
        let first = says.into_iter().chain(covers.map(|cover| cover.first_seq)).min();
        first.map(|first| first.saturating_sub(1))
    }
}

/// The first Seq of a section, if that is in it, and not only where the one before it ended as far as it was read.
fn says_where_it_begins(section: &Arc<Section>) -> Option<u64> {
    let first = section.first_seq().ok()?;
    let Some(opened) = section.if_open() else { return Some(first) };
    match opened.index() {
        IndexRef::Live(live) if live.count() == 0 && live.system.lock().is_empty() => None,
        _ => Some(first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Position;

    #[test]
    fn a_hole_is_in_covers_that_stand_for_each_of_its_segments_or_pass_over_it() {
        let cover = |first, last, follows| Cover {
            first,
            last,
            follows: Position::new(follows, 512),
            first_seq: 1,
            last_seq: 2,
            part: None,
        };
        let what = String::new();
        let damage = Damage {
            segment: 7,
            offset: 0,
            lost_from: 0,
            next_good: None,
            first_seq: 1,
            last_seq: 0,
            what,
            unreadable: false,
        };
        let hole = Hole::of(5, 7, damage);
        assert!(hole.is_in(&[cover(7, 7, 4)]), "5 and 6 were dead");
        assert!(hole.is_in(&[cover(3, 5, 2), cover(6, 7, 5)]) && hole.is_in(&[cover(1, 9, 0)]));
        assert!(!hole.is_in(&[cover(7, 7, 6)]) && !hole.is_in(&[cover(3, 5, 2)]) && !hole.is_in(&[]));
        // A number that nobody writes leads nowhere, and ends.
        assert!(!hole.is_in(&[cover(7, 7, 7)]));
    }
}
