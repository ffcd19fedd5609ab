//! Everything that finds an entry: the row of segments, the directory of entities, and the hasher.

use std::borrow::Borrow;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

use crate::error::{Error, Result};
use crate::format::compacted::{Compacted, Cover};
use crate::format::index::EntityHash;
use crate::format::segment::file_name;
use crate::id::EntryAt;
use crate::index::catalog::{Catalog, Place, Section};
use crate::index::entities::{Before, Entities, Fallback, InDoubt, Known, Touched};
use crate::log::report::Damage;

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
    /// What a reader could not read and has learned nothing of, of the last segment of which there is such a thing. A
    /// writer goes on with none.
    unread: Mutex<Option<Damage>>,
    /// Where what is known begins behind that; 0: there is no such thing.
    unread_through: AtomicU64,
    /// The last segment of which there is not even a file; 0: there is none.
    missing_through: AtomicU32,
}

impl Index {
    pub(crate) fn new(place: Arc<Place>, entities: Entities, catalog: Catalog) -> Self {
        let compacted_through = AtomicU32::new(catalog.compacted.last_segment());
        let (catalog, removed) = (RwLock::new(Arc::new(catalog)), Mutex::default());
        let (unread, unread_through) = (Mutex::default(), AtomicU64::new(0));
        let missing_through = AtomicU32::new(0);
        Self { place, entities, catalog, compacted_through, removed, unread, unread_through, missing_through }
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
        *catalog = Arc::new(Catalog { sections, compacted: Arc::clone(&catalog.compacted) });
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
        *catalog = Arc::new(Catalog { sections, compacted: Arc::new(compacted) });
    }

    /// Goes by what compaction has written down since, over the same row.
    pub(crate) fn change(&self, compacted: Compacted) {
        let mut catalog = self.catalog.write();
        let sections = catalog.sections.clone();
        *catalog = Arc::new(Catalog { sections, compacted: Arc::new(compacted) });
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
        *catalog = Arc::new(Catalog { sections, compacted: Arc::new(compacted) });
    }

    /// Drops the segments behind this one from the row: nothing of them is in the log.
    pub(crate) fn drop_behind(&self, number: u32) {
        let mut catalog = self.catalog.write();
        let kept = catalog.sections.iter().filter(|section| section.number <= number);
        let (sections, compacted) = (kept.cloned().collect(), Arc::clone(&catalog.compacted));
        *catalog = Arc::new(Catalog { sections, compacted });
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

    /// Goes on without what was in some place of a segment, before an entry of it; `None`: nothing of it was read.
    pub(crate) fn leave_unread(&self, damage: Damage, before: Option<u32>) {
        let through = EntryAt::new(damage.segment, before.unwrap_or(u32::MAX)).word();
        let mut unread = self.unread.lock();
        if self.unread_through.load(Ordering::Relaxed) < through {
            self.unread_through.store(through, Ordering::Release);
            *unread = Some(damage);
        }
    }

    /// Goes on without a segment whose file is missing.
    pub(crate) fn leave_missing(&self, damage: Damage) {
        self.missing_through.fetch_max(damage.segment, Ordering::AcqRel);
        self.leave_unread(damage, None);
    }

    /// True if something was left unread.
    #[inline]
    pub(crate) fn has_unread(&self) -> bool {
        self.unread_through.load(Ordering::Acquire) != 0
    }

    /// True if what was left unread may have something newer of an entity.
    #[inline]
    pub(crate) fn may_be_unread(&self, known: Option<Known>) -> bool {
        let through = self.unread_through.load(Ordering::Acquire);
        through != 0 && known.is_none_or(|known| known.newest.word() < through)
    }

    /// True if what was left unread may have something behind a Seq.
    pub(crate) fn may_be_unread_behind(&self, seq: u64) -> bool {
        let is_behind = |unread: &Damage| match unread.first_seq <= unread.last_seq {
            true => unread.last_seq > seq,
            // Nobody knows where it stood: who has come far was told of it.
            false => seq == 0,
        };
        self.unread.lock().as_ref().is_some_and(is_behind)
    }

    /// True if what may have something newer of an entity is not even in the row: no walk comes by it.
    pub(crate) fn may_be_missing(&self, known: Option<Known>) -> bool {
        let missing = self.missing_through.load(Ordering::Acquire);
        missing != 0 && known.is_none_or(|known| known.newest.segment() < missing)
    }

    /// Why something of an entity may be missing.
    #[cold]
    pub(crate) fn unread(&self) -> Error {
        let error = Error::corrupt("look for an entity, of which something may stand in what cannot be read");
        let Some(damage) = &*self.unread.lock() else { return error };
        let file = self.place.directory.path().join(file_name(damage.segment));
        let error = error.at(file).place(damage.segment, damage.offset).noting(damage.what.clone());
        if damage.first_seq <= damage.last_seq {
            error.lost(damage.first_seq..=damage.last_seq)
        } else {
            error
        }
    }

    /// What is known of an entity; `None` also if compaction left nothing of it.
    ///
    /// # Errors
    ///
    /// `Corrupt` for a reader that has left something unread which may have more of it.
    pub(crate) fn find(&self, hash: EntityHash) -> Result<Option<Known>> {
        let known = self.find_in_what_was_read(hash)?;
        if self.may_be_unread(known) { Err(self.unread()) } else { Ok(known) }
    }

    pub(crate) fn find_in_what_was_read(&self, hash: EntityHash) -> Result<Option<Known>> {
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

impl Fallback for Index {
    fn search(&self, hash: EntityHash) -> Result<Option<Known>> {
        self.catalog().search_below(u32::MAX, &self.place.hasher, hash)
    }
}
