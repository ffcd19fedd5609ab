//! From visible to durable: who waits for the disk, the sync that is shared, and what becomes of a
//! log whose disk has failed.

use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::error::Result;
use crate::feed::shard::Touched;
use crate::format::lock::Cell;
use crate::format::segment::file_name;
use crate::id::Position;
use crate::journal::core::Core;
use crate::log::commit::Stopped;
use crate::options::Durability;
use crate::trace;

impl Core {
    /// Waits as the journal's durability says.
    pub(crate) fn wait_as_configured(&self, end: Position) -> Result<()> {
        match self.options.durability {
            Durability::Sync => self.wait_durable(end),
            // No thread could be had that would sync at the interval.
            Durability::Interval(_) if self.alone.load(Ordering::Relaxed) => self.wait_durable(end),
            Durability::Interval(_) | Durability::Os => Ok(()),
        }
    }

    /// Waits until everything below `end` is durable.
    pub(crate) fn wait_durable(&self, end: Position) -> Result<()> {
        let mut touched = Touched::default();
        let waited = self.wait_with(end, || {
            let (end, fresh) = self.feed.take(&self.commit);
            touched.add_all(&fresh);
            self.sync_below(end)
        });
        self.feed.durable.wake(&touched);
        waited
    }

    /// Waits until everything in segments before `number` is durable, without a sync of the
    /// one that is being written.
    pub(crate) fn wait_for_segments_before(&self, number: u32) -> Result<()> {
        let end = Position::new(number, 0);
        let waited = self.wait_with(end, || self.sync_below(end));
        // They stay: this sync may not have covered all of it.
        self.feed.durable.wake(&self.feed.pending());
        waited
    }

    /// Syncs the older half of the full segments where a durability that leaves that to the system has let many come together:
    /// until then each needs its descriptor, by which the system tells that it could not be written. Most of them it has
    /// written by now.
    pub(crate) fn bound_unsynced(&self) -> Result<()> {
        const UNSYNCED_MAX: usize = 64;
        let middle = {
            let unsynced = self.unsynced.lock();
            unsynced
                .get(UNSYNCED_MAX / 2)
                .filter(|_| unsynced.len() >= UNSYNCED_MAX)
                .map(|middle| middle.number())
        };
        middle.map_or(Ok(()), |middle| self.wait_for_segments_before(middle))
    }

    fn wait_with(
        &self,
        end: Position,
        sync: impl FnMut() -> std::result::Result<Position, String>,
    ) -> Result<()> {
        self.check_not_forked("wait for the disk")?;
        // Also if the sync panics, which poisons.
        let told = TellOfPoison(self);
        let waited = self.commit.wait(end, sync);
        drop(told);
        self.lock.show_at_least(Cell::Durable, self.commit.durable().word());
        waited.map_err(|stopped| self.stopped(stopped, "wait for an append to be durable"))
    }

    /// Brings every segment with unsynced bytes below `end` to the disk, oldest first. Only the
    /// syncer's turn calls this.
    fn sync_below(&self, end: Position) -> std::result::Result<Position, String> {
        let mut segments = self.unsynced.lock().clone();
        // A mark at the start of a segment is one at the end of the segment before.
        segments.retain(|segment| segment.position(0) < end);
        let begun = Instant::now();
        for segment in &segments {
            let synced = segment.file(&*self.directory).and_then(|file| file.sync());
            synced.map_err(|error| {
                let path = self.directory.path().join(file_name(segment.number()));
                format!("sync {}: {error}", path.display())
            })?;
        }
        let took = begun.elapsed();
        self.counters.syncs.count(took);
        trace::synced(self.directory.path(), took);
        self.unsynced.lock().retain(|segment| {
            let is_left = segment.number() >= end.segment();
            if !is_left {
                segment.let_go();
            }
            is_left
        });
        if segments.first().is_some_and(|first| first.number() < end.segment()) {
            // There is something to index.
            self.keeper.wake();
        }
        Ok(end)
    }

    /// Nothing more is appended, and everybody is told.
    pub(crate) fn poison(&self, reason: &str) {
        self.commit.poison(reason);
        drop(TellOfPoison(self));
    }
}

/// Tells everybody, here and in other processes, once the log is poisoned.
struct TellOfPoison<'a>(&'a Core);

impl Drop for TellOfPoison<'_> {
    fn drop(&mut self) {
        let Self(core) = self;
        if core.commit.is_poisoned() {
            core.lock.show(Cell::Poison, 1);
            core.feed.wake_all();
            if !core.counters.poison_told.swap(true, Ordering::Relaxed)
                && let Some(Stopped::Poisoned(why)) = core.commit.stopped()
            {
                trace::poisoned(core.directory.path(), &why);
            }
        }
    }
}

/// A panic between the first stored byte and the publishing store leaves the index ahead of
/// the log: nothing may be written after it.
pub(crate) struct PoisonIfDropped<'a>(pub(crate) &'a Core);

impl Drop for PoisonIfDropped<'_> {
    fn drop(&mut self) {
        self.0.poison("a panic while a batch was being stored");
    }
}

#[cfg(test)]
#[cfg(not(miri))]
mod tests {
    use crate::journal::record::Record;
    use crate::options::{Durability, Options};

    /// Nobody asks for a sync, and there may be more segments than a process may open files.
    #[test]
    fn a_writer_that_leaves_syncing_to_the_system_does_not_hold_a_descriptor_for_each_segment() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options::new().segment_bytes(4096).durability(Durability::Os).background(false);
        let journal = options.open(directory.path()).unwrap();
        let note = journal.kind("note").unwrap();
        while journal.stats().segments < 150 {
            journal.append(Record::new(note, b"k", &[7; 900])).unwrap();
            assert!(journal.core().unsynced.lock().len() <= 64);
        }
        journal.close().unwrap();
    }
}
