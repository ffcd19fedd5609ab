//! What is counted of a store while it is open, whoever counts it.
//!
//! Everything here is an atomic that somebody adds to, and that [`Stats`](crate::Stats) reads. It names nothing above it,
//! so each layer counts where it knows. A new family is three things: what is counted, here; a field of `Stats`; and its
//! rows in `metrics::table`, which give it a name outside.

mod consumers;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

pub use crate::meter::consumers::ConsumerReading;
pub(crate) use crate::meter::consumers::{ConsumerMeter, STOPPED};

/// How many of each size there were.
///
/// ```
/// # fn main() -> esker::Result<()> {
/// let journal = esker::Journal::in_memory()?;
/// let note = journal.kind("note")?;
/// journal.append(esker::Record::new(note, b"a", b"1"))?;
/// let sizes = journal.stats().batch_entries;
/// assert_eq!((sizes.count(), sizes.sum, sizes.bounds[0], sizes.counts[0]), (1, 1, 1, 1));
/// # journal.close() }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Histogram {
    /// The greatest size that falls into each place, rising.
    pub bounds: &'static [u64],
    /// How many fell into each place alone; one place more than bounds, for what is greater than all.
    pub counts: Vec<u64>,
    /// The sum of all sizes.
    pub sum: u64,
}

impl Histogram {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// Entries of a batch: each bound is twice the one before, so that a place is found without a search.
#[allow(clippy::indexing_slicing, reason = "a panic here is an error of the build")]
const BATCH_BOUNDS: [u64; 17] = {
    let mut bounds = [1; 17];
    let mut at = 1;
    while at < 17 {
        bounds[at] = bounds[at - 1] * 2;
        at += 1;
    }
    bounds
};

/// Sizes of batches. Only the holder of the writer's lock counts: what it adds to stays where it is meanwhile, and a
/// plain store is enough.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    counts: [AtomicU64; BATCH_BOUNDS.len() + 1],
    entries: AtomicU64,
}

impl Batches {
    #[inline]
    pub(crate) fn count(&self, entries: u64) {
        let place = (u64::BITS - entries.saturating_sub(1).leading_zeros()) as usize;
        // Out of the array only for what is greater than all bounds.
        let [.., greatest] = &self.counts;
        add(self.counts.get(place).unwrap_or(greatest), 1);
        add(&self.entries, entries);
    }

    pub(crate) fn read(&self) -> Histogram {
        Histogram {
            bounds: &BATCH_BOUNDS,
            counts: self.counts.iter().map(load).collect(),
            sum: load(&self.entries),
        }
    }
}

/// For a counter that one thread at a time adds to.
#[inline]
pub(crate) fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

const MICRO: u64 = 1_000;
const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// Nanoseconds of a sync: from what memory takes to what a dying disk does.
const SYNC_BOUNDS: [u64; 18] = [
    10 * MICRO,
    25 * MICRO,
    50 * MICRO,
    100 * MICRO,
    250 * MICRO,
    500 * MICRO,
    MILLI,
    2_500 * MICRO,
    5 * MILLI,
    10 * MILLI,
    25 * MILLI,
    50 * MILLI,
    100 * MILLI,
    250 * MILLI,
    500 * MILLI,
    SECOND,
    2_500 * MILLI,
    10 * SECOND,
];

#[allow(clippy::indexing_slicing, reason = "a panic here is an error of the build")]
const _: () = {
    let mut at = 1;
    while at < SYNC_BOUNDS.len() {
        assert!(SYNC_BOUNDS[at - 1] < SYNC_BOUNDS[at], "bounds rise");
        at += 1;
    }
};

/// How long syncs took that succeeded.
#[derive(Debug, Default)]
pub(crate) struct Syncs {
    counts: [AtomicU64; SYNC_BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Syncs {
    pub(crate) fn count(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let place = SYNC_BOUNDS.partition_point(|bound| *bound < nanos);
        if let Some(count) = self.counts.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Histogram {
        Histogram {
            bounds: &SYNC_BOUNDS,
            counts: self.counts.iter().map(load).collect(),
            sum: load(&self.nanos),
        }
    }
}

/// What the layers above the log count.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Entries that subscribers were told they missed.
    pub(crate) missed: AtomicU64,
    /// Subscribers that were ended because they lagged.
    pub(crate) disconnected: AtomicU64,
    folds: Mutex<FoldTable>,
    fold_counts: Mutex<FoldCounts>,
    consumers: Mutex<Vec<Weak<ConsumerMeter>>>,
    /// Feeds of consumers that were subscribed to anew, those included that have ended.
    pub(crate) consumer_reconnects: Arc<AtomicU64>,
    /// The backplane that a store over the journal was given last drops nothing.
    pub(crate) backplane_only_grows: AtomicBool,
}

#[derive(Debug, Default)]
struct FoldTable {
    folds: Vec<Weak<FoldMeter>>,
    /// When there are so many, those that are gone are let go of.
    look_at: usize,
}

/// What folds over topics have come to since the store was opened, those included that nobody holds any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FoldCounts {
    /// Records that were taken in.
    pub folded: u64,
    /// Folds that halted, for whatever reason.
    pub halts: u64,
    /// Folds that halted because folded twice they came to two values.
    pub divergences: u64,
    /// Folds that halted because something is missing, and no image bridges that.
    pub gap_halts: u64,
    /// Folds that went on from an image, over records that were missing.
    pub reseeds: u64,
    /// Times that what offsets mean had changed under a fold.
    pub era_resets: u64,
    /// Folds that halted at a record that is no value of their type, or none at all.
    pub undecodable: u64,
    /// Folds that halted at a record of a later build.
    pub forward_incompatible: u64,
    /// Images that were saved.
    pub images_written: u64,
    /// Bytes of values in them.
    pub image_bytes: u64,
    /// Images that could not be saved.
    pub images_failed: u64,
    /// Folds that halted because records were dropped, and no image that can be used is from behind there.
    pub unbridgeable: u64,
    /// Feeds that were subscribed to anew.
    pub reconnects: u64,
}

impl FoldCounts {
    /// Each with what it adds to.
    fn all(&mut self, more: Self) -> [(&mut u64, u64); 13] {
        [
            (&mut self.folded, more.folded),
            (&mut self.halts, more.halts),
            (&mut self.divergences, more.divergences),
            (&mut self.gap_halts, more.gap_halts),
            (&mut self.reseeds, more.reseeds),
            (&mut self.era_resets, more.era_resets),
            (&mut self.undecodable, more.undecodable),
            (&mut self.forward_incompatible, more.forward_incompatible),
            (&mut self.images_written, more.images_written),
            (&mut self.image_bytes, more.image_bytes),
            (&mut self.images_failed, more.images_failed),
            (&mut self.unbridgeable, more.unbridgeable),
            (&mut self.reconnects, more.reconnects),
        ]
    }
}

/// A fold over one topic that somebody holds.
#[derive(Debug)]
pub(crate) struct FoldMeter {
    pub(crate) fold: &'static str,
    pub(crate) version: u32,
    pub(crate) stream: String,
    pub(crate) key: Vec<u8>,
    offset: AtomicU64,
    reconnects: AtomicU64,
    is_up: AtomicBool,
    halted: OnceLock<&'static str>,
    sample: Mutex<Option<FoldDigest>>,
}

/// A checksum of a fold's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FoldDigest {
    /// Behind which record the value was.
    pub offset: u64,
    /// The CRC-32 of the encoded value.
    pub crc: u32,
}

/// How a fold over a topic stands that somebody holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FoldReading {
    /// The fold's name.
    pub fold: &'static str,
    /// The fold's version.
    pub version: u32,
    /// The stream of its topic.
    pub stream: String,
    /// The key of its topic.
    pub key: Vec<u8>,
    /// Everything up to here is in its value.
    pub offset: u64,
    /// Of the last image that it saved or began with. It is taken where the value is encoded anyway, and equal in two
    /// processes only for a value that is always encoded in the same way: one with a `HashMap` in it is not.
    pub digest: Option<FoldDigest>,
    /// Why it halted, in one word, if it has.
    pub halted: Option<&'static str>,
    /// Its backplane answered when it last asked.
    pub is_up: bool,
    /// How often its feed was subscribed to anew.
    pub reconnects: u64,
}

/// How folds stand: all of them in numbers, some by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FoldsNow {
    pub(crate) running: u64,
    pub(crate) halted: u64,
    pub(crate) down: u64,
    pub(crate) readings: Vec<FoldReading>,
}

impl Meter {
    /// Takes part in what is told, as long as the answer lives.
    pub(crate) fn add_fold(
        &self,
        fold: &'static str,
        version: u32,
        stream: &str,
        key: &[u8],
    ) -> Arc<FoldMeter> {
        let meter = Arc::new(FoldMeter {
            fold,
            version,
            stream: stream.to_owned(),
            key: key.to_vec(),
            offset: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            is_up: AtomicBool::new(true),
            halted: OnceLock::new(),
            sample: Mutex::default(),
        });
        let mut table = self.folds.lock();
        if table.folds.len() >= table.look_at {
            table.folds.retain(|fold| fold.strong_count() > 0);
            table.look_at = table.folds.len() * 2 + 64;
        }
        table.folds.push(Arc::downgrade(&meter));
        meter
    }

    /// Adds what a fold has done to what all have.
    pub(crate) fn add_counts(&self, more: FoldCounts) {
        if more != FoldCounts::default() {
            self.fold_counts.lock().all(more).into_iter().for_each(|(count, more)| *count += more);
        }
    }

    pub(crate) fn fold_counts(&self) -> FoldCounts {
        *self.fold_counts.lock()
    }

    /// How folds stand now. By name at most so many: first those that halted or are cut off, then the oldest.
    pub(crate) fn folds_now(&self, most: usize) -> FoldsNow {
        let mut folds: Vec<_> = self.folds.lock().folds.iter().filter_map(Weak::upgrade).collect();
        let count =
            |is_so: &dyn Fn(&FoldMeter) -> bool| folds.iter().filter(|fold| is_so(fold)).count() as u64;
        let mut now = FoldsNow {
            running: count(&|fold| fold.halted.get().is_none()),
            halted: count(&|fold| fold.halted.get().is_some()),
            down: count(&|fold| !fold.is_up.load(Ordering::Relaxed)),
            readings: Vec::new(),
        };
        folds.sort_by_key(|fold| fold.halted.get().is_none() && fold.is_up.load(Ordering::Relaxed));
        now.readings = folds.iter().take(most).map(|fold| fold.read()).collect();
        now
    }
}

impl FoldMeter {
    /// Notes where it stands behind a turn.
    pub(crate) fn stands(&self, offset: u64, is_up: bool, reconnects: u64) {
        self.offset.store(offset, Ordering::Relaxed);
        self.is_up.store(is_up, Ordering::Relaxed);
        self.reconnects.store(reconnects, Ordering::Relaxed);
    }

    pub(crate) fn halts(&self, why: &'static str) {
        self.halted.get_or_init(|| why);
    }

    pub(crate) fn sample(&self, offset: u64, crc: u32) {
        *self.sample.lock() = Some(FoldDigest { offset, crc });
    }

    fn read(&self) -> FoldReading {
        FoldReading {
            fold: self.fold,
            version: self.version,
            stream: self.stream.clone(),
            key: self.key.clone(),
            offset: load(&self.offset),
            digest: *self.sample.lock(),
            halted: self.halted.get().copied(),
            is_up: self.is_up.load(Ordering::Relaxed),
            reconnects: load(&self.reconnects),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The place of a size by the definition of bounds.
    fn place(bounds: &[u64], size: u64) -> usize {
        bounds.iter().position(|bound| size <= *bound).unwrap_or(bounds.len())
    }

    proptest! {
        #[test]
        fn every_size_falls_into_the_first_place_whose_bound_it_does_not_pass(
            sizes in prop::collection::vec(prop_oneof![0u64..70, 0u64..200_000, any::<u32>().prop_map(u64::from)], 0..200),
        ) {
            let (batches, syncs) = (Batches::default(), Syncs::default());
            let mut batch_places = vec![0; BATCH_BOUNDS.len() + 1];
            let mut sync_places = vec![0; SYNC_BOUNDS.len() + 1];
            for size in &sizes {
                batches.count(*size);
                syncs.count(Duration::from_nanos(*size * 7));
                batch_places[place(&BATCH_BOUNDS, *size)] += 1;
                sync_places[place(&SYNC_BOUNDS, *size * 7)] += 1;
            }
            let sum: u64 = sizes.iter().sum();
            prop_assert_eq!((batches.read().counts, batches.read().sum), (batch_places, sum));
            prop_assert_eq!((syncs.read().counts, syncs.read().sum), (sync_places, sum * 7));
            prop_assert_eq!(batches.read().count(), sizes.len() as u64);
        }
    }

    #[test]
    fn halted_folds_are_named_before_all_others_and_those_that_are_gone_are_not() {
        let meter = Meter::default();
        let mut all: Vec<_> = (0..200).map(|n| meter.add_fold("f", 1, "s", &[n])).collect();
        all[150].halts("gap");
        all[150].halts("damaged");
        all[151].stands(7, false, 2);
        all[151].sample(5, 9);
        let now = meter.folds_now(3);
        assert_eq!((now.running, now.halted, now.down), (199, 1, 1));
        let named: Vec<_> = now.readings.iter().map(|one| (one.key[0], one.halted, one.is_up)).collect();
        assert_eq!(named, [(150, Some("gap"), true), (151, None, false), (0, None, true)]);
        let cut_off = &now.readings[1];
        assert_eq!((cut_off.offset, cut_off.reconnects), (7, 2));
        assert_eq!(cut_off.digest, Some(FoldDigest { offset: 5, crc: 9 }));
        all.truncate(10);
        let kept = meter.add_fold("f", 1, "s", b"new");
        assert_eq!((meter.folds_now(300).running, meter.folds_now(300).readings.len()), (11, 11));
        drop((all, kept));
        assert_eq!(meter.folds_now(300), FoldsNow::default());
    }

    #[test]
    fn what_folds_have_done_is_added_field_by_field() {
        let meter = Meter::default();
        let mut one = FoldCounts::default();
        one.all(FoldCounts::default()).into_iter().zip(1..).for_each(|((count, _), n)| *count = n);
        meter.add_counts(one);
        meter.add_counts(one);
        let mut twice = meter.fold_counts();
        assert!(twice.all(one).into_iter().all(|(both, one)| *both == 2 * one && one > 0));
    }
}
