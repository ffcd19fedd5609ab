//! What files know of entities: the directory's own, and the indexes of segments that lie behind what it covers.
//!
//! An opening learns nothing from those indexes: they are searched in place, so that it costs as little with a
//! million entities behind the file as with none.

use std::sync::Arc;

use crate::format::index::{EntityHash, EntityRecord};
use crate::id::EntryAt;
use crate::index::entities::{InDoubt, Known};
use crate::index::entity_file::EntityFile;
use crate::index::sealed::SealedIndex;

/// The index of a segment behind what the directory's file covers, as it was when the store was opened.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) number: u32,
    pub(crate) index: SealedIndex,
}

impl Run {
    /// Every entry before it is accounted for in this one and those before.
    fn covered(&self) -> EntryAt {
        EntryAt::new(self.number, self.index.count())
    }

    fn find(&self, hash: EntityHash) -> Option<Known> {
        let (generation, last) = self.index.newest(self.index.find(hash)?);
        Some(Known { generation, newest: EntryAt::new(self.number, last) })
    }

    /// Entities that have their first entry here, behind what a file covers: it may end in the midst of a segment.
    fn added(&self, covered: EntryAt) -> u64 {
        let is_behind = |record: &EntityRecord| {
            let first = self.index.members(record).first().map_or(0, |first| first.get());
            EntryAt::new(self.number, first) >= covered
        };
        let begins_here = |record: &&EntityRecord| record.previous_segment() == 0 && is_behind(record);
        self.index.entities().iter().filter(begins_here).count() as u64
    }
}

/// A file, and the runs behind what it covers.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub(crate) file: Option<Arc<EntityFile>>,
    /// Oldest first.
    runs: Vec<Run>,
}

impl Settled {
    pub(crate) fn new(file: Option<EntityFile>, runs: Vec<Run>) -> Self {
        Self { file: file.map(Arc::new), runs }
    }

    /// The same with a new file, and without the runs that it covers.
    pub(crate) fn with_file(&self, file: EntityFile) -> Self {
        let covered = file.covered;
        let runs = self.runs.iter().filter(|run| run.covered() > covered).cloned().collect();
        Self { file: Some(Arc::new(file)), runs }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.file.is_none() && self.runs.is_empty()
    }

    /// Entities in the file.
    pub(crate) fn in_file(&self) -> u64 {
        self.file.as_ref().map_or(0, |file| file.entities)
    }

    /// Entities in the runs that are not in the file.
    pub(crate) fn added(&self) -> u64 {
        let covered = self.file.as_ref().map_or(EntryAt::NONE, |file| file.covered);
        self.runs.iter().map(|run| run.added(covered)).sum()
    }

    /// What is known of an entity by the newest of the files that knows it.
    pub(crate) fn find(&self, hash: EntityHash) -> Result<Option<Known>, InDoubt> {
        match self.runs.iter().rev().find_map(|run| run.find(hash)) {
            Some(known) => Ok(Some(known)),
            None => self.file.as_ref().map_or(Ok(None), |file| file.find(hash)),
        }
    }
}
