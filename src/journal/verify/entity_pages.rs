//! The directory of entities, compared with the log as far as it covers that.
//!
//! Its pages are in the order of hashes, and so are entities compared with it: it is read from its beginning to its end,
//! through a window.

use crate::disk::Directory;
use crate::error::Result;
use crate::format::directory::{self as page, FILE_NAME, PAGE_BYTES, PAGES_AT, SLOTS};
use crate::format::index::EntityHash;
use crate::id::{EntryAt, StoreId};
use crate::index::entities::Known;
use crate::index::entity_file::{Head, failed};
use crate::journal::finding::{Finding, Severity};
use crate::journal::verify::histories::Entities;
use crate::journal::verify::window::Window;

/// So many entities of which it says something else are told.
const SHOWN: usize = 16;

/// The pages of the directory.
#[derive(Debug)]
pub(super) struct EntityPages {
    window: Window,
    homes: u64,
    pages: u64,
    entities: u64,
    /// Every entry before it is accounted for.
    pub(super) covered: EntryAt,
}

impl EntityPages {
    /// Reads all pages. Answers those that are damaged, too, by their offsets.
    ///
    /// # Errors
    ///
    /// As opening the file does, and `Io` if a page cannot be read.
    pub(super) fn open(directory: &dyn Directory, store: StoreId) -> Result<(Self, Vec<u64>)> {
        let Head { file, bytes, homes, pages, entities, covered } = Head::open(directory, store)?;
        let mut all = Self { window: Window::new(file, bytes).in_order(), homes, pages, entities, covered };
        let mut damaged = Vec::new();
        for number in 0..pages {
            let bytes = all.bytes(number).map_err(|e| failed(directory, e))?;
            if page::page_slots(bytes).is_none() {
                damaged.push(offset(number));
            }
        }
        Ok((all, damaged))
    }

    fn bytes(&mut self, number: u64) -> std::io::Result<&[u8]> {
        let bytes = self.window.from(offset(number), PAGE_BYTES as u64)?;
        Ok(bytes.get(..PAGE_BYTES).unwrap_or_default())
    }

    /// What it says of an entity.
    fn find(&mut self, hash: EntityHash) -> Option<Known> {
        for number in page::home(hash, self.homes)..self.pages {
            // All were checked.
            let slots = page::checked_page_slots(self.bytes(number).ok()?);
            if let Ok(at) = slots.binary_search_by_key(&hash, page::Slot::hash) {
                return slots.get(at).map(|s| Known { generation: s.generation(), newest: s.newest() });
            }
            if slots.len() < SLOTS {
                return None;
            }
        }
        None
    }
}

fn offset(page: u64) -> u64 {
    page.saturating_mul(PAGE_BYTES as u64).saturating_add(PAGES_AT as u64)
}

/// The directory beside what the log says, a range of hashes at a time.
#[derive(Debug)]
pub(super) struct Comparison {
    pages: EntityPages,
    /// The last segment that was compacted; 0: none.
    compacted: u32,
    entities: u64,
    wrong: Vec<Finding>,
}

impl Comparison {
    pub(super) fn new(pages: EntityPages, compacted: u32) -> Self {
        Self { pages, compacted, entities: 0, wrong: Vec::new() }
    }

    /// Looks for the entities of the next range of hashes.
    pub(super) fn look_for(&mut self, entities: &Entities) {
        self.entities += entities.len() as u64;
        let mut hashes: Vec<EntityHash> = entities.keys().copied().collect();
        hashes.sort_unstable();
        for hash in hashes {
            if self.wrong.len() == SHOWN {
                return;
            }
            let found = self.pages.find(hash);
            if let Some(entity) = entities.get(&hash)
                && !found.is_some_and(|found| self.is_as_it_was(entity.known, found))
            {
                self.wrong.push(is_otherwise(hash, entity.known, found));
            }
        }
    }

    fn is_as_it_was(&self, known: Known, found: Known) -> bool {
        // Where an entry stood before it was moved is as good; so is one that was dropped for a newer one which the file
        // does not cover.
        let was_compacted = |known: Known| known.newest.segment() <= self.compacted;
        found == known || was_compacted(known) && was_compacted(found) && found.generation >= known.generation
    }

    /// What was found, once all ranges were looked at.
    pub(super) fn findings(self) -> impl Iterator<Item = Finding> {
        let is_wrong = self.compacted == 0 && self.pages.entities != self.entities;
        let how_many = is_wrong.then(|| {
            let finding = Finding::new(Severity::Derived, FILE_NAME, "how many entities there are").at(0);
            finding.sides(self.entities, self.pages.entities)
        });
        how_many.into_iter().chain(self.wrong)
    }
}

fn is_otherwise(hash: EntityHash, known: Known, found: Option<Known>) -> Finding {
    let text = |known: Known| format!("generation {} in {:?}", known.generation, known.newest);
    let found = found.map_or_else(|| "nothing".to_owned(), text);
    let finding = Finding::new(Severity::Derived, FILE_NAME, format!("entity {hash:032x}"));
    finding.at(PAGES_AT as u64).sides(text(known), found)
}
