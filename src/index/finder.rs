//! Everything that finds an entry: the row of segments, the directory of entities, and the hasher.

use std::borrow::Borrow;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

use crate::error::Result;
use crate::format::compacted::{Compacted, Cover};
use crate::format::index::EntityHash;
use crate::id::EntryAt;
use crate::index::EntityHasher;
use crate::index::catalog::{Catalog, IndexRef, Place, Section};
use crate::index::entities::{Before, Entities, Fallback, InDoubt, Known, Touched};
use crate::index::holes::Hole;

/// The row of segments, the directory over them, and the hasher: everything that finds an entry.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) place: Arc<Place>,
    pub(crate) entities: Entities,
    catalog: RwLock<Arc<Catalog>>,
    /// The last segment that was compacted: what an entity has up to there may be gone.
    compacted_through: AtomicU32,
    /// Segments that were removed, as long as somebody has them.
    removed: Mutex<Vec<Weak<Section>>>,
}

impl Index {
    pub(crate) fn new(place: Arc<Place>, entities: Entities, catalog: Catalog) -> Self {
        let compacted_through = AtomicU32::new(catalog.compacted.last_segment());
        let (catalog, removed) = (RwLock::new(Arc::new(catalog)), Mutex::default());
        Self { place, entities, catalog, compacted_through, removed }
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read())
    }

    /// Adds a segment behind the last one, or puts it in the place of the one with its number.
    pub(crate) fn add(&self, section: Section) {
        let mut catalog = self.catalog.write();
        let mut sections = catalog.sections.clone();
        match catalog.at(section.number) {
            Some(at) => {
                if let Some(slot) = sections.get_mut(at) {
                    *slot = Arc::new(section);
                }
            }
            None => {
                // Behind the last one, but for what opening finds between parts.
                let at = sections.partition_point(|other| other.number < section.number);
                if let Some(before) = at.checked_sub(1).and_then(|before| sections.get(before)) {
                    before.set_next(section.number);
                }
                sections.insert(at, Arc::new(section));
            }
        }
        *catalog = catalog.with(sections, Arc::clone(&catalog.compacted));
    }

    /// Puts what compaction made in the place of a stretch of the row. Who has the row as it was keeps it.
    pub(crate) fn replace(&self, cover: &Cover, part: Option<Section>, compacted: Compacted) {
        let mut catalog = self.catalog.write();
        let mut sections = catalog.sections.clone();
        let first = sections.partition_point(|section| section.number < cover.first);
        let last = sections.partition_point(|section| section.number <= cover.last);
        if let Some(before) = first.checked_sub(1).and_then(|before| sections.get(before)) {
            before.set_limit(cover.follows);
        }
        let replaced: Vec<_> = sections.splice(first..last, part.map(Arc::new)).collect();
        let mut removed = self.removed.lock();
        removed.retain(|section| section.strong_count() > 0);
        removed.extend(replaced.iter().map(Arc::downgrade));
        drop(removed);
        self.compacted_through.store(compacted.last_segment(), Ordering::Release);
        *catalog = catalog.with(sections, Arc::new(compacted));
    }

    /// Goes by what compaction has written down since, over the same row.
    pub(crate) fn change(&self, compacted: Compacted) {
        let mut catalog = self.catalog.write();
        let sections = catalog.sections.clone();
        *catalog = catalog.with(sections, Arc::new(compacted));
    }

    /// The bytes of what was removed and is still held by views or entries.
    pub(crate) fn unlinked_bytes(&self) -> u64 {
        let removed = self.removed.lock();
        let held = removed.iter().filter_map(Weak::upgrade);
        held.filter_map(|section| Some(section.if_open()?.segment.header.bytes)).sum()
    }

    /// Takes over what somebody else has made of the log: everything that a cover stands for goes, and parts
    /// that are new come.
    pub(crate) fn adopt(&self, compacted: Compacted) {
        let mut catalog = self.catalog.write();
        let is_as_it_was = |section: &&Arc<Section>| match &section.cover {
            Some(cover) => compacted.covers.contains(cover),
            None => compacted.covering(section.number).is_none(),
        };
        let mut sections: Vec<Arc<Section>> = catalog.sections.iter().filter(is_as_it_was).cloned().collect();
        for (cover, _) in compacted.parts() {
            let at = sections.partition_point(|section| section.number < cover.last);
            if sections.get(at).is_none_or(|section| section.number != cover.last) {
                sections.insert(at, Arc::new(Section::part(Arc::clone(&self.place), *cover)));
            }
        }
        for cover in &compacted.covers {
            let at = sections.partition_point(|section| section.number < cover.first);
            if let Some(before) = at.checked_sub(1).and_then(|at| sections.get(at)) {
                before.set_limit(cover.follows);
            }
        }
        self.compacted_through.store(compacted.last_segment(), Ordering::Release);
        *catalog = catalog.with(sections, Arc::new(compacted));
    }

    /// Drops the segments behind this one from the row: nothing of them is in the log.
    pub(crate) fn drop_behind(&self, number: u32) {
        let mut catalog = self.catalog.write();
        let kept = catalog.sections.iter().filter(|section| section.number <= number);
        let (sections, compacted) = (kept.cloned().collect(), Arc::clone(&catalog.compacted));
        *catalog = catalog.with(sections, compacted);
    }

    pub(crate) fn hash(&self, kind: u16, key: &[u8]) -> EntityHash {
        self.place.hasher.hash(kind, key)
    }

    /// Learns of a frame that is about to be entered into the arrays of its segment. Answers what
    /// was known of its entity before.
    pub(crate) fn learn(&self, hash: EntityHash, known: Known) -> Result<Option<Known>> {
        match self.entities.learn(hash, known) {
            Ok(before) => Ok(before),
            Err(InDoubt) => self.search(hash),
        }
    }

    /// As [`learn`](Self::learn), for a reader: where what was known before cannot be looked up, nothing was, and whoever reads the
    /// history searches for himself.
    pub(crate) fn learn_to_read(&self, hash: EntityHash, known: Known) -> Result<Option<Known>> {
        match self.learn(hash, known) {
            Err(error) if !error.is_passing() => Ok(None),
            learned => learned,
        }
    }

    /// Goes on without a stretch of the log.
    pub(crate) fn leave(&self, hole: Hole) {
        let mut catalog = self.catalog.write();
        let holes = catalog.holes.iter().cloned().chain(std::iter::once(hole)).collect();
        *catalog = catalog.with_holes(holes);
    }

    /// Puts what is known by now of a hole in its place; `None`: there was nothing in it.
    pub(crate) fn leave_instead(&self, of: &Hole, hole: Option<Hole>) {
        let mut catalog = self.catalog.write();
        let is_other = |other: &&Hole| other.through != of.through || other.damage != of.damage;
        let holes = catalog.holes.iter().filter(is_other).cloned().chain(hole).collect();
        *catalog = catalog.with_holes(holes);
    }

    /// Goes on with what these covers stand for, all of which is known by now, and without what could not be read of others.
    pub(crate) fn fill(&self, known: &[Cover], unread: Vec<Hole>) {
        let mut catalog = self.catalog.write();
        let holes = catalog.holes.iter().filter(|hole| !hole.is_in(known)).cloned().chain(unread).collect();
        *catalog = catalog.with_holes(holes);
    }

    /// What is known of an entity; `None` also if compaction left nothing of it.
    pub(crate) fn find(&self, hash: EntityHash) -> Result<Option<Known>> {
        let known = self.entities.get(hash, self)?;
        Ok(match known {
            Some(known) if !self.is_there(hash, known)? => None,
            known => known,
        })
    }

    /// What was known of an entity last, also if compaction has left nothing of it since.
    pub(crate) fn last_known(&self, hash: EntityHash) -> Result<Option<Known>> {
        self.entities.get(hash, self)
    }

    /// Makes sure that the writer finds what is known of an entity, and nothing of one of which compaction
    /// left nothing.
    #[inline]
    pub(crate) fn touch(&self, hash: EntityHash) -> Result<Touched> {
        self.touch_by(hash, || self.entities.before())
    }

    /// The same, by what was settled a moment ago.
    #[inline]
    pub(crate) fn touch_behind(&self, before: &Before, hash: EntityHash) -> Result<Touched> {
        self.touch_by(hash, || before)
    }

    #[inline]
    fn touch_by<B: Borrow<Before>>(&self, hash: EntityHash, before: impl FnOnce() -> B) -> Result<Touched> {
        if self.compacted_through.load(Ordering::Acquire) == 0 && !self.entities.has_settled() {
            // Then the writer finds on the heap whatever is known, and all of it is there.
            return Ok(Touched::default());
        }
        let (touched, known) = self.entities.touch(hash, before, self)?;
        if let Some(known) = known
            && !self.is_there(hash, known)?
        {
            self.entities.forget(hash, known);
        }
        Ok(touched)
    }

    /// False if what is known of an entity was dropped. Compaction keeps the newest entry of an entity as
    /// long as it keeps any.
    fn is_there(&self, hash: EntityHash, known: Known) -> Result<bool> {
        let number = known.newest.segment();
        if number > self.compacted_through.load(Ordering::Acquire) {
            return Ok(true);
        }
        self.catalog().has_some_of(hash, number)
    }
}

impl Catalog {
    /// Searches the segments below `number` for an entity's newest frame, newest segment first.
    pub(crate) fn search_below(
        &self,
        number: u32,
        hasher: &EntityHasher,
        hash: EntityHash,
    ) -> Result<Option<Known>> {
        for section in self.sections.iter().rev().filter(|section| section.number < number) {
            let opened = section.open()?;
            let found = match opened.index() {
                IndexRef::Sealed(index, _) => index.find(hash).map(|record| {
                    let (generation, last) = index.newest(record);
                    Known { generation, newest: EntryAt::new(section.number, last) }
                }),
                IndexRef::Live(live) => (0..live.count()).rev().find_map(|ordinal| {
                    let offset = live.offset(ordinal).filter(|offset| *offset != 0)?;
                    let frame = opened.segment.frame(offset)?;
                    let same = hasher.hash(frame.header.kind.get(), frame.key()) == hash;
                    let newest = EntryAt::new(section.number, ordinal);
                    same.then_some(Known { generation: frame.header.generation.get(), newest })
                }),
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

impl Fallback for Index {
    fn search(&self, hash: EntityHash) -> Result<Option<Known>> {
        let catalog = self.catalog();
        let found = catalog.search_below(u32::MAX, &self.place.hasher, hash)?;
        catalog.unread_without_directory(&self.place, found).map_or(Ok(found), Err)
    }
}
