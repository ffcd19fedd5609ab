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
        Self {
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
