//! The file of the directory of entities, searched in place from its map: each page is checked when it is first touched.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk::map::Map;
use crate::disk::{Access, Directory, File};
use crate::error::{Error, Result};
use crate::format::directory::{self as page, FILE_NAME, PAGE_BYTES, PAGES_AT, SLOTS};
use crate::format::header::{FileHeader, FileType, HEADER_BYTES};
use crate::format::index::EntityHash;
use crate::id::{EntryAt, StoreId};
use crate::index::entities::{InDoubt, Known};

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

/// The file, and what its header says of it.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) file: Arc<dyn File>,
    pub(crate) bytes: u64,
    pub(crate) homes: u64,
    pub(crate) pages: u64,
    pub(crate) entities: u64,
    /// Every entry before it is accounted for in the file.
    pub(crate) covered: EntryAt,
}

impl Head {
    /// Opens the file, if it is there and belongs to the store. No page of it is looked at.
    pub(crate) fn open(directory: &dyn Directory, store: StoreId) -> Result<Self> {
        let path = directory.path().join(FILE_NAME);
        let file = directory.open(FILE_NAME, Access::Read).map_err(|e| failed(directory, e))?;
        let bytes = file.len().map_err(|e| failed(directory, e))?;
        if bytes < PAGES_AT as u64 {
            return Err(Error::corrupt(OPEN).at(path).sides("a header", bytes));
        }
        let mut head = [0; PAGES_AT];
        file.read_at(&mut head, 0).map_err(|e| failed(directory, e))?;
        let header = FileHeader::read_of(&head, FileType::Directory, store)?;
        if head.iter().skip(HEADER_BYTES).any(|byte| *byte != 0) {
            return Err(Error::corrupt(OPEN).at(path).sides("zeros", "something else"));
        }
        let (pages, homes) = (header.number.get(), header.word(HOMES));
        let expected = pages.checked_mul(PAGE_BYTES as u64).and_then(|all| all.checked_add(PAGES_AT as u64));
        if expected != Some(bytes) || homes > pages || homes == 0 {
            return Err(Error::corrupt(OPEN).sides(format!("{pages} pages"), bytes));
        }
        let covered = EntryAt::from_word(header.word(COVERED));
        Ok(Self { file, bytes, homes, pages, entities: header.word(ENTITIES), covered })
    }
}

const OPEN: &str = "open the directory of entities";

/// It could not be read.
pub(crate) fn failed(directory: &dyn Directory, error: std::io::Error) -> Error {
    Error::io(OPEN, error).at(directory.path().join(FILE_NAME))
}

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
        let Head { file, bytes, homes, pages, entities, covered } = Head::open(directory, store)?;
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let map = file.map(bytes).map_err(|e| failed(directory, e))?;
        map.raise(bytes);
        let checked = (0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { map, homes, pages, entities, covered, checked })
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
            if let Some(slot) = page::find(slots, hash, self.homes) {
                return Ok(Some(Known { generation: slot.generation(), newest: slot.newest() }));
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
