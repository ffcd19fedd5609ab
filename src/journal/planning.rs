//! What a compaction would do, said by whoever only reads the store.

use crate::error::Result;
use crate::id::Seq;
use crate::index::build::index_parts;
use crate::index::catalog::{IndexRef, Opened};
use crate::index::sealed::SealedIndex;
use crate::journal::compaction::{CompactOptions, Compaction, Ground, Job};
use crate::journal::holds::Holds;
use crate::journal::reader::Reader;
use crate::journal::view::View;
use crate::options::Options;

impl Reader {
    /// Says what [`Journal::compact`](crate::Journal::compact) would do, beside a live writer or without one;
    /// see [`Journal::plan_compaction`](crate::Journal::plan_compaction). Nothing is written.
    ///
    /// Beside a live writer it is about what is durable, and about cursors: watchers without a name and
    /// backups that hold something back are known to the process that has them.
    ///
    /// # Errors
    ///
    /// As [`view`](Self::view), and `Corrupt` if the entities of damaged files cannot be told.
    pub fn plan_compaction(&self, options: &CompactOptions) -> Result<Compaction> {
        let view = self.view()?;
        let durable = self.durable().map_or(view.mark, |durable| durable.min(view.mark));
        for section in &view.catalog.sections {
            if section.number < durable.segment() && section.cover.is_none() {
                // What cannot be opened or read is left alone, and counted.
                let _ = section.open().and_then(|opened| self.index_in_memory(&view, opened));
            }
        }
        let holds = Holds::of_these(Vec::new(), self.registry(), &view)?;
        let ground = Ground {
            index: self.index(),
            registry: self.registry(),
            // The size that the writer opens with is not written down.
            segment_bytes: Options::new().segment_bytes,
            compacting: None,
        };
        let job = Job::new(&ground, options, &view, durable, &holds)?;
        let mut outcome = job.outcome(&view, &holds)?;
        for run in job.runs(options) {
            job.count(run, &mut outcome);
        }
        outcome.floor = Seq::new(view.catalog.compacted.floor_of_all());
        Ok(outcome)
    }

    /// A segment is judged by its index: one that has none yet gets it here, and not on disk.
    fn index_in_memory(&self, view: &View, opened: &Opened) -> Result<()> {
        let IndexRef::Live(live) = opened.index() else { return Ok(()) };
        if opened.damage().is_some() {
            return Ok(());
        }
        let place = &self.index().place;
        let before = |hash| {
            let found = view.catalog.search_below(opened.segment.number(), &place.hasher, hash)?;
            Ok(found.map_or(0, |known| known.newest.segment()))
        };
        let end = opened.segment.map.limit() as u64;
        let parts = index_parts(place, &opened.segment, &live, end, &before)?;
        opened.use_index(SealedIndex::of_parts(&parts, place.store)?);
        Ok(())
    }
}
