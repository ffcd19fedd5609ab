//! The directory of entities: generation and newest entry of each.
//!
//! The heap holds the entities touched since the file was written, in shards, so that a table
//! that grows moves a small part of itself; the file is searched in place from its map, each
//! page checked when it is first touched. A page that does not check out is in doubt, and the
//! caller asks the segments instead.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::disk::map::Map;
use crate::disk::{Access, Directory, File};
use crate::error::{Error, Result};
use crate::format::directory::{self as page, FILE_NAME, PAGE_BYTES, PAGES_AT, SLOTS};
use crate::format::header::{FileHeader, FileType, HEADER_BYTES};
use crate::format::index::EntityHash;
use crate::id::{EntryAt, StoreId};

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
    file: RwLock<Option<Arc<EntityFile>>>,
    /// There is a file: spares the append path a lock while there is none.
    has_file: AtomicBool,
    /// Entities that are on the heap.
    on_heap: AtomicU64,
    /// Those of them that are not in the file.
    added: AtomicU64,
}

/// Asked where the file is in doubt: looks the entity up in the segments.
pub(crate) trait Fallback {
    fn search(&self, hash: EntityHash) -> Result<Option<Known>>;
}

impl Entities {
    pub(crate) fn new(file: Option<EntityFile>) -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        let has_file = AtomicBool::new(file.is_some());
        let file = RwLock::new(file.map(Arc::new));
        Self { shards, file, has_file, on_heap: AtomicU64::new(0), added: AtomicU64::new(0) }
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
        self.in_file(hash, fallback)
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
                slot.insert(Known::NOTHING);
                self.on_heap.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn in_file(&self, hash: EntityHash, fallback: &dyn Fallback) -> Result<Option<Known>> {
        // Not held across the search, which may take long: who brings a new file would wait for
        // it, and every append behind that one.
        match self.file().map_or(Ok(None), |file| file.find(hash)) {
            Ok(found) => Ok(found),
            Err(InDoubt) => fallback.search(hash),
        }
    }

    /// Makes sure that [`advance`](Self::advance) finds what is known of an entity: loads it onto
    /// the heap where the file is in doubt about it.
    #[inline]
    pub(crate) fn touch(&self, hash: EntityHash, fallback: &dyn Fallback) -> Result<()> {
        if !self.has_file.load(Ordering::Acquire) || self.shard(hash).read().contains_key(&hash) {
            return Ok(());
        }
        let Some(file) = self.file().filter(|file| file.find(hash).is_err()) else { return Ok(()) };
        let Some(known) = fallback.search(hash)? else { return Ok(()) };
        let mut shard = self.shard(hash).write();
        // A file that came meanwhile was checked in full, and may know of later entries.
        if self.file().is_some_and(|now| Arc::ptr_eq(&now, &file)) {
            shard.entry(hash).or_insert_with(|| {
                self.on_heap.fetch_add(1, Ordering::Relaxed);
                known
            });
        }
        Ok(())
    }

    /// Moves an entity that was touched on to its next entry, under one lock: `next` is told
    /// what was known, and answers what is now. Only the writer calls it.
    /// Answers the new generation.
    #[inline]
    pub(crate) fn advance(&self, hash: EntityHash, next: impl FnOnce(Option<Known>) -> Known) -> u64 {
        match self.shard(hash).write().entry(hash) {
            Entry::Occupied(mut slot) => {
                let known = next(Some(*slot.get()).filter(Known::is_one));
                slot.insert(known);
                known.generation
            }
            Entry::Vacant(slot) => {
                let before = self.forgotten_since_touched(hash);
                self.on_heap.fetch_add(1, Ordering::Relaxed);
                self.added.fetch_add(u64::from(before.is_none()), Ordering::Relaxed);
                slot.insert(next(before)).generation
            }
        }
    }

    /// A new file may have taken an entity over since it was touched. Such a file was checked
    /// in full before it came into use, so that no page of it is in doubt.
    fn forgotten_since_touched(&self, hash: EntityHash) -> Option<Known> {
        if !self.has_file.load(Ordering::Acquire) {
            return None;
        }
        self.file.read().as_ref().and_then(|file| file.find(hash).ok().flatten())
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
                let file = self.file.read();
                let before = file.as_ref().map_or(Ok(None), |file| file.find(hash));
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
        self.in_file_count() + self.added.load(Ordering::Relaxed)
    }

    pub(crate) fn in_file_count(&self) -> u64 {
        self.file.read().as_ref().map_or(0, |file| file.entities)
    }

    /// Entities on the heap.
    pub(crate) fn on_heap(&self) -> u64 {
        self.on_heap.load(Ordering::Relaxed)
    }

    pub(crate) fn file(&self) -> Option<Arc<EntityFile>> {
        self.file.read().clone()
    }

    /// Goes on over a new file, whose pages were all checked, and forgets from the heap what
    /// it covers. One that covers less than the file before it is not used.
    pub(crate) fn use_file(&self, file: EntityFile) {
        let (covered, entities) = (file.covered, file.entities);
        let before = {
            let mut current = self.file.write();
            if current.as_ref().is_some_and(|current| current.covered > covered) {
                return;
            }
            current.replace(Arc::new(file)).map_or(0, |old| old.entities)
        };
        self.has_file.store(true, Ordering::Release);
        // What the file knows beyond the one before was counted as added when it was written.
        self.no_longer_added(entities.saturating_sub(before));
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

/// The mapped file of entities.
#[derive(Debug)]
pub(crate) struct EntityFile {
    map: Map,
    homes: u64,
    pages: u64,
    pub(crate) entities: u64,
    /// Every entry before it is accounted for in the file.
    pub(crate) covered: EntryAt,
    /// One bit a page: checked, and good.
    checked: Box<[AtomicU64]>,
}

/// The words of the file's header.
const COVERED: usize = 0;
const ENTITIES: usize = 1;
const HOMES: usize = 2;

impl EntityFile {
    /// The header of a file with so many pages.
    pub(crate) fn header(
        store: StoreId,
        homes: u64,
        pages: u64,
        entities: u64,
        covered: EntryAt,
    ) -> FileHeader {
        let words = [covered.word(), entities, homes, 0, 0, 0, 0, 0];
        FileHeader::new(FileType::Directory, store, pages, 0, words)
    }

    /// Opens the file, if it is there and belongs to the store.
    pub(crate) fn open(directory: &dyn Directory, store: StoreId) -> Result<Self> {
        Self::open_with(directory, store, |file, bytes| file.map(bytes))
    }

    /// As [`open`](Self::open), on a copy: for a file that may be damaged.
    pub(crate) fn open_copy(directory: &dyn Directory, store: StoreId) -> Result<Self> {
        Self::open_with(directory, store, |file, bytes| {
            let mut copy = vec![0; bytes];
            file.read_at(&mut copy, 0)?;
            Ok(Map::of_bytes(&copy))
        })
    }

    fn open_with(
        directory: &dyn Directory,
        store: StoreId,
        map: impl FnOnce(&dyn File, usize) -> std::io::Result<Map>,
    ) -> Result<Self> {
        let path = directory.path().join(FILE_NAME);
        let doing = |e| Error::io("open the directory of entities", e).at(path.clone());
        let file = directory.open(FILE_NAME, Access::Read).map_err(doing)?;
        let length = file.len().map_err(doing)?;
        if length < PAGES_AT as u64 {
            return Err(Error::corrupt("open the directory of entities").at(path).sides("a header", length));
        }
        let mut head = [0; PAGES_AT];
        file.read_at(&mut head, 0).map_err(doing)?;
        let header = FileHeader::read_of(&head, FileType::Directory, store)?;
        if head.iter().skip(HEADER_BYTES).any(|byte| *byte != 0) {
            return Err(Error::corrupt("open the directory of entities")
                .at(path)
                .sides("zeros", "something else"));
        }
        let (pages, homes) = (header.number.get(), header.word(HOMES));
        let bytes = pages.checked_mul(PAGE_BYTES as u64).and_then(|bytes| bytes.checked_add(PAGES_AT as u64));
        if bytes != Some(length) || homes > pages || homes == 0 {
            return Err(
                Error::corrupt("open the directory of entities").sides(format!("{pages} pages"), length)
            );
        }
        let bytes = usize::try_from(length).unwrap_or(usize::MAX);
        let map = map(&*file, bytes).map_err(doing)?;
        map.raise(bytes);
        let checked = (0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let covered = EntryAt::from_word(header.word(COVERED));
        Ok(Self { map, homes, pages, entities: header.word(ENTITIES), covered, checked })
    }

    pub(crate) fn pages(&self) -> u64 {
        self.pages
    }

    /// The slots of a page, checked the first time.
    pub(crate) fn page(&self, number: u64) -> Result<&[page::Slot], InDoubt> {
        let start =
            usize::try_from(number).ok().and_then(|n| n.checked_mul(PAGE_BYTES)).ok_or(InDoubt)? + PAGES_AT;
        let bytes = self.map.slice(start..start + PAGE_BYTES).ok_or(InDoubt)?;
        let word = usize::try_from(number / 64).ok().and_then(|at| self.checked.get(at)).ok_or(InDoubt)?;
        let bit = 1 << (number % 64);
        if word.load(Ordering::Relaxed) & bit != 0 {
            return Ok(page::checked_page_slots(bytes));
        }
        let slots = page::page_slots(bytes).ok_or(InDoubt)?;
        word.fetch_or(bit, Ordering::Relaxed);
        Ok(slots)
    }

    pub(crate) fn find(&self, hash: EntityHash) -> Result<Option<Known>, InDoubt> {
        for number in page::home(hash, self.homes)..self.pages {
            let slots = self.page(number)?;
            if let Ok(at) = slots.binary_search_by_key(&hash, page::Slot::hash) {
                let known = slots.get(at).map(|s| Known { generation: s.generation(), newest: s.newest() });
                return Ok(known);
            }
            if slots.len() < SLOTS {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Reads every page, so that a file in doubt is noticed now.
    pub(crate) fn check_all(&self) -> Result<(), InDoubt> {
        const PAGES_AHEAD: usize = 1024;
        (0..self.pages).try_for_each(|number| {
            if number.is_multiple_of(PAGES_AHEAD as u64) {
                // Maps are set up for point reads.
                let start = usize::try_from(number).unwrap_or(0).saturating_mul(PAGE_BYTES) + PAGES_AT;
                let end = start.saturating_add(2 * PAGES_AHEAD * PAGE_BYTES).min(self.map.bytes());
                self.map.will_need(start.min(end)..end);
            }
            self.page(number).map(|_| ())
        })
    }
}
