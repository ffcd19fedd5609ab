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

/// So many segments are not synced before the keeper does it, in a log that nobody syncs; and so many before appends do, which
/// are ahead of it then.
pub(crate) const UNSYNCED_MAX: usize = 64;
pub(crate) const UNSYNCED_BY_APPENDS_MAX: usize = 2 * UNSYNCED_MAX;

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

    /// Syncs the older half of the full segments where a durability that leaves that to the system has let so many come
    /// together: until then each needs its descriptor, by which the system tells that it could not be written. Most of them it
    /// has written by now. The caller holds no lock.
    pub(crate) fn bound_unsynced(&self, most: usize) -> Result<()> {
        let middle = {
            let unsynced = self.unsynced.lock();
            unsynced.get(unsynced.len() / 2).filter(|_| unsynced.len() >= most).map(|middle| middle.number())
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
            let failed = |why: &dyn std::fmt::Display| {
                let path = self.directory.path().join(file_name(segment.number()));
                format!("sync {}: {why}", path.display())
            };
            // Another descriptor would not be told what this one has yet to be.
            let file = segment.held().ok_or_else(|| failed(&"its descriptor was let go of before"))?;
            file.sync().map_err(|error| failed(&error))?;
        }
        let took = begun.elapsed();
        self.counters.syncs.count(took);
        trace::synced(self.directory.path(), took);
        self.unsynced.lock().retain(|segment| segment.number() >= end.segment());
        // Closing a file can take its time, and nobody is to wait for that.
        segments
            .iter()
            .filter(|segment| segment.number() < end.segment())
            .for_each(|segment| segment.let_go());
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
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::error::ErrorKind;
    use crate::id::KindId;
    use crate::journal::Journal;
    use crate::journal::record::Record;
    use crate::options::Options;

    /// A log of small segments that nobody syncs.
    fn unsynced(directory: &tempfile::TempDir) -> (Journal, KindId) {
        let options = Options::new().segment_bytes(4096).durability(Durability::Os).background(false);
        let journal = options.open(directory.path()).unwrap();
        let note = journal.kind("note").unwrap();
        (journal, note)
    }

    fn fill(journal: &Journal, note: KindId, segments: u64) {
        while journal.stats().segments < segments {
            journal.append(Record::new(note, b"k", &[7; 900])).unwrap();
        }
    }

    /// Nobody asks for a sync, and there may be more segments than a process may open files.
    #[test]
    fn a_writer_that_leaves_syncing_to_the_system_does_not_hold_a_descriptor_for_each_segment() {
        let directory = tempfile::tempdir().unwrap();
        let (journal, note) = unsynced(&directory);
        for segments in 1..150 {
            fill(&journal, note, segments);
            let catalog = journal.core().index.catalog();
            let opened = catalog.sections.iter().filter_map(|section| section.if_open());
            let held = opened.filter(|opened| opened.segment.held().is_some()).count();
            // And the one that is written.
            assert!(held <= 65, "{held} descriptors for {segments} segments");
        }
        journal.close().unwrap();
    }

    #[test]
    fn nobody_waits_for_the_disk_while_he_keeps_others_from_making_segments() {
        let directory = tempfile::tempdir().unwrap();
        let (journal, note) = unsynced(&directory);
        fill(&journal, note, 10);
        let core = journal.core();
        let (began, has_begun) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let end = Position::new(5, 0);
                let slow = || {
                    began.send(()).unwrap();
                    may_go_on.recv().unwrap();
                    core.sync_below(end)
                };
                core.commit.wait(end, slow).unwrap();
            });
            has_begun.recv().unwrap();
            let writer = scope.spawn(|| fill(&journal, note, 150));
            let mut seen = Position::ZERO;
            let is_at_work = || core.unsynced.lock().len() < UNSYNCED_MAX && !writer.is_finished();
            while is_at_work() || core.commit.visible() != seen {
                seen = core.commit.visible();
                std::thread::park_timeout(Duration::from_millis(500));
            }
            let stands = !writer.is_finished();
            let is_free = core.keeper.making.try_lock_for(Duration::from_secs(10)).is_some();
            go_on.send(()).unwrap();
            assert!(stands, "so many are not left to the system");
            assert!(is_free, "a segment can be made while the disk is waited for");
        });
        journal.close().unwrap();
    }

    #[test]
    fn a_segment_that_was_let_go_of_too_soon_is_not_synced_through_another_descriptor() {
        let directory = tempfile::tempdir().unwrap();
        let (journal, note) = unsynced(&directory);
        fill(&journal, note, 3);
        let durable = journal.core().commit.durable();
        journal.core().unsynced.lock()[0].let_go();
        let refused = journal.sync().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Poisoned, "{refused}");
        assert_eq!(journal.core().commit.durable(), durable, "the mark does not move");
    }
}
