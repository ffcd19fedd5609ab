//! What a reader goes on without: stretches of the log that it could not read, and has learned nothing of.
//!
//! A writer goes on with none. Of an entity whose newest known entry stands behind a hole that has nothing newer; of any other
//! the reader cannot tell what it is. Each hole is kept: whoever follows an entity is told of those between the entries that
//! he is shown, and goes on behind each.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::error::Error;
use crate::format::compacted::{Compacted, Cover};
use crate::format::segment::file_name;
use crate::id::EntryAt;
use crate::index::catalog::{Catalog, Place};
use crate::index::entities::Known;
use crate::log::report::Damage;

/// A stretch of the log that was left unread.
#[derive(Clone, Debug)]
struct Hole {
    /// The section that it is in, or that is missing.
    number: u32,
    /// What is known begins here behind it.
    through: EntryAt,
    /// There is nothing in the row that a walk would come by.
    is_missing: bool,
    damage: Damage,
}

impl Hole {
    /// The Seqs of what stood in it; without an end where nothing is known behind it.
    fn seqs(&self, catalog: &Catalog) -> (u64, Option<u64>) {
        let Damage { first_seq, last_seq, .. } = self.damage;
        if first_seq <= last_seq { (first_seq, Some(last_seq)) } else { catalog.around(self.number) }
    }

    fn may_have_newer(&self, known: Option<Known>) -> bool {
        known.is_none_or(|known| known.newest < self.through)
    }

    fn is_covered_by(&self, cover: &Cover) -> bool {
        (cover.first..=cover.last).contains(&self.number)
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

/// All of them, in the order of the log.
#[derive(Debug, Default)]
pub(crate) struct Holes {
    list: Mutex<Vec<Hole>>,
    /// Where what is known begins behind the last one; 0: there is none.
    through: AtomicU64,
}

impl Holes {
    /// Goes on without what was in some place of a section, before an entry of it; `None`: nothing of it was read.
    pub(crate) fn leave(&self, number: u32, damage: Damage, before: Option<u32>, is_missing: bool) {
        let through = EntryAt::new(number, before.unwrap_or(u32::MAX));
        let mut list = self.list.lock();
        list.push(Hole { number, through, is_missing, damage });
        list.sort_by_key(|hole| hole.through);
        self.note(&list);
    }

    fn note(&self, list: &[Hole]) {
        self.through.store(list.last().map_or(0, |hole| hole.through.word()), Ordering::Release);
    }

    /// True if there are none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.through.load(Ordering::Acquire) == 0
    }

    /// True if one of them may have something newer of an entity.
    #[inline]
    pub(crate) fn may_have_newer(&self, known: Option<Known>) -> bool {
        let through = self.through.load(Ordering::Acquire);
        through != 0 && known.is_none_or(|known| known.newest.word() < through)
    }

    fn first(&self, place: &Place, catalog: &Catalog, is_it: impl Fn(&Hole) -> bool) -> Option<Error> {
        if self.is_empty() {
            return None;
        }
        self.list.lock().iter().find(|hole| is_it(hole)).map(|hole| hole.error(place, catalog))
    }

    /// Why nobody can tell the newest of an entity, if so.
    pub(crate) fn newer(&self, place: &Place, catalog: &Catalog, known: Option<Known>) -> Option<Error> {
        let is_empty = |hole: &Hole| matches!(hole.seqs(catalog), (first, Some(last)) if first > last);
        self.first(place, catalog, |hole| hole.may_have_newer(known) && !is_empty(hole))
    }

    /// The same for whoever wants what stands behind a Seq.
    pub(crate) fn newer_behind(
        &self,
        place: &Place,
        catalog: &Catalog,
        known: Option<Known>,
        seq: u64,
    ) -> Option<Error> {
        let is_behind = |hole: &Hole| match hole.seqs(catalog) {
            (first, Some(last)) => first <= last && last > seq,
            // Nobody knows how far it went: who has come to what is known was told of it.
            (_, None) => seq == 0,
        };
        self.first(place, catalog, |hole| hole.may_have_newer(known) && is_behind(hole))
    }

    /// Why there may be something between two Seqs, if so.
    pub(crate) fn between(&self, place: &Place, catalog: &Catalog, after: u64, before: u64) -> Option<Error> {
        let is_between = |hole: &Hole| {
            let (first, last) = hole.seqs(catalog);
            first < before && last.is_none_or(|last| first <= last && last > after)
        };
        self.first(place, catalog, is_between)
    }

    /// The same as [`newer`](Self::newer) of holes that no walk through a view of the log until a Seq comes by.
    pub(crate) fn missing(
        &self,
        place: &Place,
        catalog: &Catalog,
        known: Option<Known>,
        through: u64,
    ) -> Option<Error> {
        let is_in_view = |hole: &Hole| hole.is_missing && hole.seqs(catalog).0 <= through;
        self.first(place, catalog, |hole| hole.may_have_newer(known) && is_in_view(hole))
    }

    /// What is missing behind all that there is, for a walk through a view of the log until a Seq. It has Seqs, so that the
    /// walk goes on.
    pub(crate) fn at_the_end(&self, place: &Place, catalog: &Catalog, through: u64) -> Option<Error> {
        let list = self.list.lock();
        let end = catalog.sections.last().map_or(0, |section| section.number);
        let hole = list.last().filter(|hole| hole.is_missing && hole.number >= end)?;
        let (first, last) = hole.seqs(catalog);
        (first <= through).then(|| hole.error(place, catalog).lost(first..=last.unwrap_or(first)))
    }

    /// The covers that stand for something that was left unread: by now there may be more to learn.
    pub(crate) fn covers(&self, compacted: &Compacted) -> Vec<Cover> {
        let list = self.list.lock();
        let covers =
            compacted.covers.iter().filter(|cover| list.iter().any(|hole| hole.is_covered_by(cover)));
        covers.copied().collect()
    }

    /// What a cover stands for is known.
    pub(crate) fn fill(&self, cover: &Cover) {
        let mut list = self.list.lock();
        list.retain(|hole| !hole.is_covered_by(cover));
        self.note(&list);
    }

    /// What stands in a cover is not known either.
    pub(crate) fn stays(&self, cover: &Cover, damage: &Damage) {
        let mut list = self.list.lock();
        for hole in list.iter_mut().filter(|hole| hole.is_covered_by(cover)) {
            (hole.number, hole.through) = (cover.last, EntryAt::new(cover.last, u32::MAX));
            (hole.damage, hole.is_missing) = (damage.clone(), false);
        }
        self.note(&list);
    }
}
