//! What files know of entities: the directory's own, and the indexes of segments that lie behind what it covers.
//!
//! An opening learns nothing from those indexes: it checks each, and they are searched in place. So a million entities
//! behind the file take no memory, and the time of one pass over their indexes.

use std::sync::{Arc, OnceLock};

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
    /// Where the first entry of an entity stands here.
    fn first_of(&self, record: &EntityRecord) -> EntryAt {
        EntryAt::new(self.number, self.index.members(record).first().map_or(0, |first| first.get()))
    }

    fn find(&self, hash: EntityHash) -> Option<Known> {
        let (generation, last) = self.index.newest(self.index.find(hash)?);
        Some(Known { generation, newest: EntryAt::new(self.number, last) })
    }
}

/// A file, and the runs behind what it covers.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub(crate) file: Option<Arc<EntityFile>>,
    /// Oldest first.
    runs: Vec<Run>,
    /// Something was compacted: what stands before an entry in its index may be gone.
    is_compacted: bool,
    /// Entities in the runs that are not in the file.
    added: OnceLock<u64>,
}

impl Settled {
    pub(crate) fn new(file: Option<EntityFile>, runs: Vec<Run>, is_compacted: bool) -> Self {
        Self { file: file.map(Arc::new), runs, is_compacted, added: OnceLock::new() }
    }

    /// The same with a new file, and without the runs that it covers.
    pub(crate) fn with_file(&self, file: EntityFile) -> Self {
        // By segments: what became of a run's segment in a compaction has other ordinals than the run.
        let through = file.covered.segment();
        let runs = self.runs.iter().filter(|run| run.number > through).cloned().collect();
        Self { file: Some(Arc::new(file)), runs, is_compacted: true, added: OnceLock::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.file.is_none() && self.runs.is_empty()
    }

    /// Entities in all. The first call behind a compaction looks each up that is in a run.
    pub(crate) fn count(&self) -> u64 {
        self.in_file() + *self.added.get_or_init(|| self.count_added())
    }

    /// Entities in the file.
    pub(crate) fn in_file(&self) -> u64 {
        self.file.as_ref().map_or(0, |file| file.entities)
    }

    fn count_added(&self) -> u64 {
        let covered = self.file.as_ref().map_or(EntryAt::NONE, |file| file.covered);
        let mut added = 0;
        for (at, run) in self.runs.iter().enumerate() {
            let older = self.runs.get(..at).unwrap_or_default();
            let is_new = |record: &&EntityRecord| {
                if self.is_compacted {
                    let is_older = older.iter().any(|run| run.index.find(record.hash()).is_some());
                    return !is_older && !self.is_in_file(record.hash());
                }
                // A file may end in the midst of a segment.
                record.previous_segment() == 0 && run.first_of(record) >= covered
            };
            added += run.index.entities().iter().filter(is_new).count() as u64;
        }
        added
    }

    fn is_in_file(&self, hash: EntityHash) -> bool {
        self.file.as_ref().is_some_and(|file| matches!(file.find(hash), Ok(Some(_))))
    }

    /// What is known of an entity by the newest of the files that knows it.
    pub(crate) fn find(&self, hash: EntityHash) -> Result<Option<Known>, InDoubt> {
        match self.runs.iter().rev().find_map(|run| run.find(hash)) {
            Some(known) => Ok(Some(known)),
            None => self.file.as_ref().map_or(Ok(None), |file| file.find(hash)),
        }
    }
}
