//! The index of a segment while it is written: two flat arrays, by Seq.
//!
//! Made ahead, off the append path, so that nothing is allocated under the lock; stored by the
//! writer before it publishes, so that readers need no lock.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use zerocopy::FromZeros;

use crate::format::frame::FRAME_BYTES;
use crate::format::index::Keyed;
use crate::id::{EntryAt, FRAME_ALIGN};
use crate::index::sealed::SealedIndex;

/// The smallest user frame: a header and a key of one byte.
const FRAME_BYTES_MIN: u64 = (FRAME_BYTES as u64 + 1).next_multiple_of(FRAME_ALIGN);

/// Where each user frame of the segment stands, and the one before it of the same entity.
pub(crate) struct LiveIndex {
    first_seq: Arc<AtomicU64>,
    count: AtomicU32,
    /// In units of eight bytes; zero: lost.
    offsets: Box<[AtomicU32]>,
    /// The entity's entry before; zero: there is none.
    previous: Box<[AtomicU64]>,
    /// The places of preamble and kind frames, in units of eight bytes.
    pub(crate) system: Mutex<Vec<u32>>,
    pub(crate) keyed: Mutex<Vec<Keyed>>,
}

impl LiveIndex {
    /// For a segment of `bytes`; nothing is touched until it is used.
    pub(crate) fn for_segment(bytes: u64) -> Self {
        let frames = usize::try_from(bytes / FRAME_BYTES_MIN + 1).unwrap_or(usize::MAX);
        Self {
            first_seq: Arc::default(),
            count: AtomicU32::new(0),
            offsets: zeroed(frames),
            previous: zeroed(frames),
            system: Mutex::default(),
            keyed: Mutex::default(),
        }
    }

    /// The arrays of a segment with an index file, for a writer that goes on in it.
    pub(crate) fn from_sealed(index: &SealedIndex, number: u32, bytes: u64) -> Self {
        let live = Self::for_segment(bytes);
        live.begin(index.layout.first_seq);
        let mut previous = vec![EntryAt::NONE; index.count() as usize];
        for record in index.entities() {
            // Of the frame before the first only the segment is known, and no more is needed.
            let mut before = match record.previous_segment() {
                0 => EntryAt::NONE,
                segment => EntryAt::new(segment, EntryAt::SOMEWHERE),
            };
            for ordinal in index.members(record) {
                if let Some(slot) = previous.get_mut(ordinal.get() as usize) {
                    *slot = before;
                }
                before = EntryAt::new(number, ordinal.get());
            }
        }
        for (ordinal, before) in (0..).zip(previous) {
            live.push(index.offset(ordinal).unwrap_or(0), before);
        }
        live.system.lock().extend(index.system().map(units));
        *live.keyed.lock() = index.keyed();
        live
    }

    /// Says which Seq the first frame will have.
    pub(crate) fn begin(&self, first_seq: u64) {
        self.first_seq.store(first_seq, Ordering::Release);
    }

    pub(crate) fn first_seq(&self) -> u64 {
        self.first_seq.load(Ordering::Acquire)
    }

    /// The first Seq, for those who look it up often.
    pub(crate) fn share_first_seq(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.first_seq)
    }

    /// How many user frames there are, lost ones included. May be ahead of what is visible.
    pub(crate) fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// Adds the next frame. Only the writer calls it, before it publishes.
    #[inline]
    pub(crate) fn push(&self, offset: u64, previous: EntryAt) {
        let at = self.count.load(Ordering::Relaxed);
        let index = at as usize;
        if let (Some(slot), Some(before)) = (self.offsets.get(index), self.previous.get(index)) {
            slot.store(units(offset), Ordering::Relaxed);
            before.store(previous.word(), Ordering::Relaxed);
            self.count.store(at + 1, Ordering::Release);
        }
    }

    /// Makes room for frames that are lost, so that the next one is number `seq`.
    pub(crate) fn skip_to(&self, seq: u64) {
        let missing = seq.saturating_sub(self.first_seq() + u64::from(self.count()));
        let room = self.offsets.len() as u64 - u64::from(self.count()).min(self.offsets.len() as u64);
        for _ in 0..missing.min(room) {
            self.push(0, EntryAt::NONE);
        }
    }

    /// Takes back everything from frame `count` on.
    pub(crate) fn truncate(&self, count: u32) {
        self.count.store(count, Ordering::Release);
    }

    #[inline]
    pub(crate) fn offset(&self, ordinal: u32) -> Option<u64> {
        let slot = self.offsets.get(ordinal as usize)?;
        Some(u64::from(slot.load(Ordering::Relaxed)) * FRAME_ALIGN)
    }

    /// The entity's entry before this one.
    #[inline]
    pub(crate) fn previous(&self, ordinal: u32) -> Option<EntryAt> {
        let word = self.previous.get(ordinal as usize)?.load(Ordering::Relaxed);
        (word != 0).then_some(EntryAt::from_word(word))
    }
}

/// An offset in units of eight bytes. Segments are small enough by the options' limit.
pub(crate) fn units(offset: u64) -> u32 {
    u32::try_from(offset / FRAME_ALIGN).unwrap_or(u32::MAX)
}

/// Zeroed memory that the system hands out untouched.
fn zeroed<T: FromZeros>(count: usize) -> Box<[T]>
where
    [T]: FromZeros + zerocopy::KnownLayout<PointerMetadata = usize>,
{
    <[T]>::new_box_zeroed_with_elems(count)
        .unwrap_or_else(|_| std::alloc::handle_alloc_error(std::alloc::Layout::new::<T>()))
}

impl fmt::Debug for LiveIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LiveIndex({} frames from seq {})", self.count(), self.first_seq())
    }
}
