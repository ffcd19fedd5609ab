//! Numbers about a store, always counted.

use std::sync::atomic::Ordering;

use serde::{Serialize, Serializer};

use crate::id::Position;
use crate::journal::core::Core;
use crate::journal::view::View;
use crate::meter::{ConsumerReading, FoldCounts, FoldReading, Histogram};

/// So many cursors are named at most: those that are farthest behind.
const CURSORS_LISTED_MAX: usize = 64;
/// So many consumers of topics are named at most.
const CONSUMERS_LISTED_MAX: usize = 256;

/// So many folds over topics are named at most: those that halted or are cut off, and then the oldest.
const FOLDS_LISTED_MAX: usize = 256;

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
    /// Entries of the batches that this opening appended. A batch that only moves a cursor has none.
    pub batch_entries: Histogram,
    /// Syncs of segment files by this opening.
    pub syncs: u64,
    /// Nanoseconds that each of them took.
    pub sync_nanos: Histogram,
    /// Readers of this process may see everything below.
    #[serde(serialize_with = "as_text")]
    pub visible: Position,
    /// Everything below survives a power cut.
    #[serde(serialize_with = "as_text")]
    pub durable: Position,
    /// Bytes of log from there to what is visible: what a power cut takes.
    pub undurable_bytes: u64,
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
    /// Cursors that there are.
    pub cursors: u64,
    /// Those of them that compaction went past, and that must be reset.
    pub cursors_lost: u64,
    /// The cursors that are farthest behind in the log, at most 64, the farthest first.
    pub pins: Vec<CursorPin>,
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
    /// Entries that subscribers of this process were told they missed.
    pub subscribers_missed: u64,
    /// Subscribers of this process that were ended because they lagged.
    pub subscribers_disconnected: u64,
    /// Folds over topics that somebody holds and that go on.
    pub folds_running: u64,
    /// Folds over topics that somebody holds and that have halted.
    pub folds_halted: u64,
    /// Folds over topics whose backplane did not answer when they last asked.
    pub folds_down: u64,
    /// What folds over topics have come to in this opening.
    pub folds: FoldCounts,
    /// How folds over topics stand that somebody holds, at most 256: first those that halted or are cut off.
    pub fold_readings: Vec<FoldReading>,
    /// Consumers of topics that go on in this process.
    pub consumers_running: u64,
    /// Consumers of topics that halted in this process, or are suspended.
    pub consumers_halted: u64,
    /// Consumers of topics whose backplane did not answer when they last asked.
    pub consumers_down: u64,
    /// Times that a consumer subscribed anew behind a backplane that did not answer, in this opening.
    pub consumer_reconnects: u64,
    /// How consumers of topics stand in this process, at most 256: first those that halted or are suspended, then those whose
    /// record fails or that are cut off.
    pub consumer_readings: Vec<ConsumerReading>,
    /// The [backplane](crate::Store::with_backplane) that a store over this journal was given last drops nothing: its log only
    /// grows.
    pub backplane_only_grows: bool,
    /// When the last entry was appended by this opening; zero: none was.
    pub last_append: i64,
    /// A sync failed in this opening.
    pub poisoned: bool,
    /// Free space on the file system.
    pub free_bytes: u64,
}

/// A cursor, and how much log is behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CursorPin {
    /// Its name.
    pub name: String,
    /// Everything of its region up to this Seq was seen; zero: nothing yet.
    pub seq: u64,
    /// Bytes of log behind that, of whatever region; [`Journal::cursors`](crate::Journal::cursors) reads on and says what it
    /// really holds back.
    pub bytes: u64,
}

pub(crate) fn as_text<T: std::fmt::Display, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

impl Stats {
    /// Takes as long as there are segments behind the farthest cursor, and folds over topics; never as long as there are
    /// entries.
    pub(crate) fn of(core: &Core) -> Self {
        let (entries, log_bytes, keyed) = {
            let writer = core.writer.lock();
            let end = core.commit.visible();
            (writer.last_seq, writer.log_bytes + end.offset(), writer.keyed.len() as u64)
        };
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        // Before the view, which holds segments: heads of topics are looked up.
        let folds = core.meter.folds_now(FOLDS_LISTED_MAX);
        let consumers = core.meter.consumers_now(CONSUMERS_LISTED_MAX);
        let view = core.view();
        let (cursors, cursors_lost, pins) = cursors_of(core, &view);
        let farthest = pins.first();
        let (visible, durable) = (core.commit.visible(), core.commit.durable());
        let (batch_entries, sync_nanos) = (core.counters.batches.read(), core.counters.syncs.read());
        let compacted = &view.catalog.compacted;
        Self {
            floor: compacted.floor_of_all(),
            parts: compacted.parts().count() as u64,
            reclaimable: load(&core.compacting.reclaimable),
            pinned_bytes: farthest.map_or(0, |cursor| cursor.bytes),
            pinned_by: farthest.map(|cursor| cursor.name.clone()),
            cursors,
            cursors_lost,
            pins,
            visible,
            durable,
            undurable_bytes: view.bytes_between(durable, visible),
            subscribers_missed: load(&core.meter.missed),
            subscribers_disconnected: load(&core.meter.disconnected),
            folds_running: folds.running,
            folds_halted: folds.halted,
            folds_down: folds.down,
            folds: core.meter.fold_counts(),
            fold_readings: folds.readings,
            consumers_running: consumers.running,
            consumers_halted: consumers.halted,
            consumers_down: consumers.down,
            consumer_reconnects: load(&core.meter.consumer_reconnects),
            consumer_readings: consumers.readings,
            backplane_only_grows: core.meter.backplane_only_grows.load(Ordering::Relaxed),
            unlinked_bytes: core.index.unlinked_bytes(),
            compactions: load(&core.compacting.done),
            compactions_failed: load(&core.compacting.failed),
            entries,
            entities: core.index.entities.count(),
            entities_on_heap: core.index.entities.on_heap(),
            kinds: core.registry.read().iter().count() as u64,
            segments: core.index.catalog().sections.len() as u64,
            log_bytes,
            appends: batch_entries.sum,
            batches: batch_entries.count(),
            batch_entries,
            appended_bytes: load(&core.counters.appended_bytes),
            syncs: sync_nanos.count(),
            sync_nanos,
            rotations: load(&core.counters.rotations),
            keyed_batches: keyed,
            last_append: load(&core.counters.last_append).cast_signed(),
            poisoned: core.commit.is_poisoned(),
            free_bytes: core.directory.free_bytes().unwrap_or(0),
        }
    }
}

/// How many cursors there are, how many are lost, and those that are farthest behind.
fn cursors_of(core: &Core, view: &View) -> (u64, u64, Vec<CursorPin>) {
    let registry = core.registry.read();
    let cursors = &registry.cursors;
    let (all, lost) = (cursors.len() as u64, cursors.iter().filter(|cursor| cursor.lost).count() as u64);
    let farthest = cursors.farthest_behind(CURSORS_LISTED_MAX);
    let mut pins: Vec<CursorPin> = farthest
        .iter()
        .map(|cursor| CursorPin { name: cursor.name.clone(), seq: cursor.seq, bytes: 0 })
        .collect();
    drop(registry);
    let behind: Vec<u64> = pins.iter().map(|cursor| cursor.seq.saturating_add(1)).collect();
    // What cannot be told counts as nothing; `Journal::cursors` says why.
    let bytes = view.bytes_from_each(&behind).unwrap_or_default();
    pins.iter_mut().zip(bytes).for_each(|(cursor, bytes)| cursor.bytes = bytes);
    pins.reverse();
    (all, lost, pins)
}
