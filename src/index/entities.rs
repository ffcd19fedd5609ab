//! The directory of entities: generation and newest entry of each.
//!
//! The heap holds the entities touched since the store was opened or the file was written, in shards, so that a
//! table that grows moves a small part of itself; the others are searched in place, in what is settled. A page of
//! the file that does not check out is in doubt, and the caller asks the segments instead.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::error::Result;
use crate::format::index::EntityHash;
use crate::id::EntryAt;
use crate::index::entity_file::EntityFile;
use crate::index::settled::Settled;

/// What is known of one entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) generation: u64,
    pub(crate) newest: EntryAt,
}

impl Known {
    /// In the place of what is known of an entity that was forgotten, while a file may still know it.
    const NOTHING: Self = Self { generation: 0, newest: EntryAt::NONE };

    /// False for an entity that was forgotten.
    fn is_one(&self) -> bool {
        *self != Self::NOTHING
    }
}

/// What is settled at one moment, for whoever touches many entities; `None`: nothing is.
#[derive(Debug)]
pub(crate) struct Before {
    /// How many files had come into use before.
    files: u64,
    settled: Option<Arc<Settled>>,
}

/// What is settled of an entity that was not on the heap when it was touched, and how many files had come into use by
/// then: as long as no other has, whoever writes the entity need not look it up again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Touched(Option<(u64, Option<Known>)>);

const SHARDS: usize = 256;

/// A hash table whose keys are hashes already.
type Shard = HashMap<EntityHash, Known, BuildHasherDefault<UpperHalf>>;

/// Takes the upper half of an entity's hash as its hash.
#[derive(Debug, Default)]
pub(crate) struct UpperHalf(u64);

impl Hasher for UpperHalf {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the upper half of a u128 fits a u64")]
    fn write_u128(&mut self, hash: u128) {
        self.0 = (hash >> 64) as u64;
    }
}

/// The directory.
#[derive(Debug)]
pub(crate) struct Entities {
    shards: Box<[RwLock<Shard>]>,
    settled: RwLock<Arc<Settled>>,
    /// Something is: spares the append path a lock while nothing is.
    has_settled: AtomicBool,
    /// Files that came into use. It rises behind `settled`, and before anything that the file knows goes from the heap:
    /// what is not on the heap, while no file has come since it was looked up, is as it was found.
    files: AtomicU64,
    /// Entities that are on the heap.
    on_heap: AtomicU64,
    /// Those of them that are in nothing that is settled.
    added: AtomicU64,
}

/// Asked where the file is in doubt: looks the entity up in the segments.
pub(crate) trait Fallback {
    fn search(&self, hash: EntityHash) -> Result<Option<Known>>;
}

impl Entities {
    pub(crate) fn new(settled: Settled) -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        let has_settled = AtomicBool::new(!settled.is_empty());
        let settled = RwLock::new(Arc::new(settled));
        let [files, on_heap, added] = [const { AtomicU64::new(0) }; 3];
        Self { shards, settled, has_settled, files, on_heap, added }
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the low bits of the hash choose the shard")]
    fn shard(&self, hash: EntityHash) -> &RwLock<Shard> {
        static NONE: std::sync::LazyLock<RwLock<Shard>> = std::sync::LazyLock::new(RwLock::default);
        self.shards.get(hash as usize % SHARDS).unwrap_or(&NONE)
    }

    /// What is known of an entity; `None`: it was never written.
    pub(crate) fn get(&self, hash: EntityHash, fallback: &dyn Fallback) -> Result<Option<Known>> {
        if let Some(known) = self.shard(hash).read().get(&hash) {
            return Ok(Some(*known).filter(Known::is_one));
        }
        // Not held across the search, which may take long: who brings a new file would wait for
        // it, and every append behind that one.
        match self.settled().find(hash) {
            Ok(found) => Ok(found),
            Err(InDoubt) => fallback.search(hash),
        }
    }

    /// Something is settled. False: what is not on the heap is not known.
    #[inline]
    pub(crate) fn has_settled(&self) -> bool {
        self.has_settled.load(Ordering::Acquire)
    }

    /// Knows nothing any more of an entity that is still as it was known.
    pub(crate) fn forget(&self, hash: EntityHash, known: Known) {
        match self.shard(hash).write().entry(hash) {
            Entry::Occupied(mut slot) => {
                if *slot.get() == known {
                    slot.insert(Known::NOTHING);
                }
            }
            Entry::Vacant(slot) => {
                // A file that came since may know it otherwise.
                if !matches!(self.settled.read().find(hash), Ok(Some(now)) if now != known) {
                    slot.insert(Known::NOTHING);
                    self.on_heap.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// What is settled now.
    pub(crate) fn before(&self) -> Before {
        // In this order: a file that comes in between is not counted, and whoever has it looks again.
        let files = self.files.load(Ordering::Acquire);
        let settled = self.has_settled().then(|| self.settled());
        Before { files, settled }
    }

    /// Makes sure that [`advance`](Self::advance) finds what is known of an entity, and answers that: loads it onto
    /// the heap where the file is in doubt about it. `before` is asked only for one that is not on the heap.
    #[inline]
    pub(crate) fn touch<B: Borrow<Before>>(
        &self,
        hash: EntityHash,
        before: impl FnOnce() -> B,
        fallback: &dyn Fallback,
    ) -> Result<(Touched, Option<Known>)> {
        if let Some(known) = self.shard(hash).read().get(&hash) {
            return Ok((Touched::default(), Some(*known).filter(Known::is_one)));
        }
        let before = before();
        let Before { files, settled: Some(settled) } = before.borrow() else { return Ok(Default::default()) };
        if let Ok(known) = settled.find(hash) {
            return Ok((Touched(Some((*files, known))), known));
        }
        let Some(known) = fallback.search(hash)? else { return Ok(Default::default()) };
        let mut shard = self.shard(hash).write();
        // A file that came meanwhile was checked in full, and may know of later entries.
        if Arc::ptr_eq(&self.settled(), settled) {
            shard.entry(hash).or_insert_with(|| {
                self.on_heap.fetch_add(1, Ordering::Relaxed);
                known
            });
        }
        Ok((Touched::default(), Some(known)))
    }

    /// Moves an entity that was touched on to its next entry, under one lock: `next` is told
    /// what was known, and answers what is now. Only the writer calls it.
    /// Answers the new generation.
    #[inline]
    pub(crate) fn advance(
        &self,
        (hash, touched): (EntityHash, Touched),
        next: impl FnOnce(Option<Known>) -> Known,
    ) -> u64 {
        match self.shard(hash).write().entry(hash) {
            Entry::Occupied(mut slot) => {
                let known = next(Some(*slot.get()).filter(Known::is_one));
                slot.insert(known);
                known.generation
            }
            Entry::Vacant(slot) => {
                let before = match touched.0 {
                    Some((files, known)) if files == self.files.load(Ordering::Acquire) => known,
                    _ => self.settled_before(hash),
                };
                self.on_heap.fetch_add(1, Ordering::Relaxed);
                self.added.fetch_add(u64::from(before.is_none()), Ordering::Relaxed);
                slot.insert(next(before)).generation
            }
        }
    }

    /// What is known of an entity that is not on the heap. A new file may have taken it over since it was touched;
    /// such a file was checked in full before it came into use, so that no page of it is in doubt.
    fn settled_before(&self, hash: EntityHash) -> Option<Known> {
        if !self.has_settled() {
            return None;
        }
        self.settled.read().find(hash).ok().flatten()
    }

    /// Takes an advance back.
    pub(crate) fn restore(&self, hash: EntityHash, before: Option<Known>) {
        let mut shard = self.shard(hash).write();
        match before {
            Some(known) => {
                shard.insert(hash, known);
            }
            None => {
                shard.remove(&hash);
                self.on_heap.fetch_sub(1, Ordering::Relaxed);
                self.no_longer_added(1);
            }
        }
    }

    /// Learns of a frame from the log: the newest entry wins. Answers what was known before.
    pub(crate) fn learn(&self, hash: EntityHash, known: Known) -> Result<Option<Known>, InDoubt> {
        match self.shard(hash).write().entry(hash) {
            Entry::Occupied(mut slot) => {
                let before = *slot.get();
                if before.newest < known.newest {
                    slot.insert(known);
                }
                Ok(Some(before))
            }
            Entry::Vacant(slot) => {
                slot.insert(known);
                self.on_heap.fetch_add(1, Ordering::Relaxed);
                let before = self.settled.read().find(hash);
                self.added.fetch_add(u64::from(matches!(before, Ok(None))), Ordering::Relaxed);
                before
            }
        }
    }

    fn no_longer_added(&self, entities: u64) {
        let less = |added: u64| Some(added.saturating_sub(entities));
        // It always succeeds: there is no value that is not wanted.
        let _ = self.added.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Entities in all.
    pub(crate) fn count(&self) -> u64 {
        self.settled().count() + self.added.load(Ordering::Relaxed)
    }

    /// Entities on the heap.
    pub(crate) fn on_heap(&self) -> u64 {
        self.on_heap.load(Ordering::Relaxed)
    }

    pub(crate) fn settled(&self) -> Arc<Settled> {
        Arc::clone(&self.settled.read())
    }

    /// Goes on over a new file, whose pages were all checked, and forgets from the heap what
    /// it covers. One that covers less than the file before it is not used.
    pub(crate) fn use_file(&self, file: EntityFile) {
        let covered = file.covered;
        let (before, settled) = {
            let before = self.settled();
            if before.file.as_ref().is_some_and(|current| current.covered > covered) {
                return;
            }
            let settled = Arc::new(before.with_file(file));
            *self.settled.write() = Arc::clone(&settled);
            (before, settled)
        };
        // Before anything is forgotten from the heap.
        self.files.fetch_add(1, Ordering::Release);
        self.has_settled.store(true, Ordering::Release);
        // What the file knows beyond the one before was counted as added when it was written.
        self.no_longer_added(settled.count().saturating_sub(before.count()));
        for shard in &self.shards {
            let mut shard = shard.write();
            let length = shard.len();
            shard.retain(|_, known| known.newest >= covered);
            self.on_heap.fetch_sub((length - shard.len()) as u64, Ordering::Relaxed);
            shard.shrink_to_fit();
        }
    }
}

/// A page of the file does not check out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InDoubt;

#[cfg(test)]
mod tests;
