//! Numbers about a store, always counted.

use std::sync::atomic::Ordering;

use serde::Serialize;

use crate::journal::core::Core;

/// Numbers about a store and this opening of it. Sizes are bytes, times nanoseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// User entries in the log, up to what is visible.
    pub entries: u64,
    /// Entities that were ever written.
    pub entities: u64,
    /// Entities whose place is kept on the heap; the others are found in a mapped file.
    pub entities_on_heap: u64,
    /// Kinds that are registered.
    pub kinds: u64,
    /// Segments of the log.
    pub segments: u64,
    /// Bytes of log, dead ends of segments not counted.
    pub log_bytes: u64,
    /// Entries appended by this opening.
    pub appends: u64,
    /// Batches appended by this opening; a single append is one.
    pub batches: u64,
    /// Bytes of frames appended by this opening.
    pub appended_bytes: u64,
    /// Syncs of segment files by this opening.
    pub syncs: u64,
    /// Segments left for the next one by this opening.
    pub rotations: u64,
    /// Idempotency keys that are remembered.
    pub keyed_batches: u64,
    /// From here on every entry is there; zero: nothing was ever dropped.
    pub floor: u64,
    /// Parts that compaction has made of the log.
    pub parts: u64,
    /// Bytes that compaction could have freed when it was last asked to, or to plan.
    pub reclaimable: u64,
    /// The cursor that is farthest behind in the log; [`Journal::cursors`](crate::Journal::cursors) says for
    /// each what it really holds back.
    pub pinned_by: Option<String>,
    /// Bytes of log behind that cursor.
    pub pinned_bytes: u64,
    /// Bytes of segments that were removed, and that views and entries of this process still hold.
    pub unlinked_bytes: u64,
    /// Compactions of this opening.
    pub compactions: u64,
    /// Compactions in the background that failed.
    pub compactions_failed: u64,
    /// When the last entry was appended by this opening; zero: none was.
    pub last_append: i64,
    /// A sync failed in this opening.
    pub poisoned: bool,
    /// Free space on the file system.
    pub free_bytes: u64,
}

impl Stats {
    pub(crate) fn of(core: &Core) -> Self {
        let (entries, log_bytes, keyed) = {
            let writer = core.writer.lock();
            let end = core.commit.visible();
            (writer.last_seq, writer.log_bytes + end.offset(), writer.keyed.len() as u64)
        };
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let view = core.view();
        let farthest = core.registry.read().cursors.farthest_behind().map(|c| (c.name.clone(), c.seq));
        let (pinned_by, behind) = farthest.map_or((None, u64::MAX), |(name, seq)| (Some(name), seq));
        let compacted = &view.catalog.compacted;
        Self {
            floor: compacted.floor_of_all(),
            parts: compacted.parts().count() as u64,
            reclaimable: load(&core.compacting.reclaimable),
            pinned_bytes: view.bytes_from(behind.saturating_add(1)).unwrap_or(0),
            pinned_by,
            unlinked_bytes: core.index.unlinked_bytes(),
            compactions: load(&core.compacting.done),
            compactions_failed: load(&core.compacting.failed),
            entries,
            entities: core.index.entities.count(),
            entities_on_heap: core.index.entities.on_heap(),
            kinds: core.registry.read().iter().count() as u64,
            segments: core.index.catalog().sections.len() as u64,
            log_bytes,
            appends: load(&core.counters.appends),
            batches: load(&core.counters.batches),
            appended_bytes: load(&core.counters.appended_bytes),
            syncs: load(&core.counters.syncs),
            rotations: load(&core.counters.rotations),
            keyed_batches: keyed,
            last_append: load(&core.counters.last_append).cast_signed(),
            poisoned: core.commit.is_poisoned(),
            free_bytes: core.directory.free_bytes().unwrap_or(0),
        }
    }
}
