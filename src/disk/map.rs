//! The mapping, and all `unsafe` of this crate.
//!
//! # The four rules
//!
//! 1. The file is really allocated and never shrinks while it is mapped: files are only
//!    unlinked, or punched past an end that no reader may pass.
//! 2. Bytes below a map's *limit* never change, while the journal is not poisoned. A writer
//!    stores only at or above it, and a map for reading is given a limit only over frames that
//!    were published or validated, which the log never writes again. (After a failed sync the
//!    kernel may give back what the disk has: readers are then held to the durable mark, and
//!    whoever still holds an entry above it holds bytes that may change under it.)
//! 3. The limit moves with Release and is read with Acquire: who sees it sees the bytes below.
//! 4. The directory lock keeps other writers out, and each mapping has one [`MapWriter`], which
//!    is not `Clone` and stores through `&mut self`.
//!
//! Slices are made of `[start, end)` with `end` at or below the limit only: no `&[u8]` and no
//! `&mut [u8]` ever covers bytes that somebody may still write.
#![allow(unsafe_code, reason = "the one place for it: every block cites the rule that it relies on")]

use std::cell::UnsafeCell;
use std::fmt;
use std::io;
use std::ops::Range;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use memmap2::{Advice, MmapOptions, MmapRaw};
use zerocopy::FromZeros;

use crate::disk::{File, Through};
use crate::format::lock::{CELLS_AT, Cell, PAGE_BYTES};

/// The bytes of one file, mapped or on the heap: readable below a limit that only grows.
pub(crate) struct Map {
    backing: Backing,
    bytes: usize,
    limit: AtomicUsize,
}

enum Backing {
    File(MmapRaw),
    Heap(Arc<HeapBytes>),
}

/// Bytes on the heap that one writer fills while others read what lies below the limit.
pub(crate) struct HeapBytes {
    cells: Box<[UnsafeCell<u8>]>,
    /// Everything below is written for good; all of it once the writer is gone.
    written: AtomicUsize,
    writer_is_gone: AtomicBool,
}

// SAFETY: the cells are written only by the one `MapWriter` (rule 4), at or above `written`
// (asserted there), and read only below `written` or after the writer is gone; both are
// published with Release and read with Acquire (rule 3). So no cell is read and written at once.
unsafe impl Sync for HeapBytes {}
// SAFETY: as above; bytes have no thread of their own.
unsafe impl Send for HeapBytes {}

/// Somebody who sees every store into bytes on the heap: the crash simulator.
pub(crate) trait Tape: Send + Sync {
    fn stored(&self, offset: usize, bytes: &[u8]);
    /// A call that writes: answers how much of it was written, which is all if it went well.
    fn written(&self, offset: usize, bytes: &[u8]) -> (usize, io::Result<()>);
}

impl HeapBytes {
    /// A copy of `content`, followed by zeros up to `bytes`; a writer may go on at `from`.
    fn for_writing(content: &[u8], bytes: usize, from: usize) -> io::Result<Self> {
        let cells = <[UnsafeCell<u8>]>::new_box_zeroed_with_elems(bytes)
            .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let mut heap =
            Self { cells, written: AtomicUsize::new(from), writer_is_gone: AtomicBool::new(false) };
        heap.cells.iter_mut().zip(content).for_each(|(cell, byte)| *cell.get_mut() = *byte);
        Ok(heap)
    }

    /// A copy of `content` that nobody will write.
    fn frozen(content: &[u8]) -> Self {
        let cells = content.iter().map(|byte| UnsafeCell::new(*byte)).collect::<Box<[_]>>();
        Self { written: AtomicUsize::new(cells.len()), cells, writer_is_gone: AtomicBool::new(true) }
    }

    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// How many bytes from the start are written for good.
    fn settled(&self) -> usize {
        if self.writer_is_gone.load(Ordering::Acquire) {
            self.cells.len()
        } else {
            self.written.load(Ordering::Acquire)
        }
    }

    /// What is written for good, copied.
    pub(crate) fn copy(&self) -> Vec<u8> {
        let settled = self.settled();
        let mut bytes = vec![0; self.cells.len()];
        if let Some(written) = bytes.get_mut(..settled) {
            written.copy_from_slice(self.slice(0..settled));
        }
        bytes
    }

    fn slice(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.settled(), "read past what is written");
        let start = self.cells.as_ptr().wrapping_add(range.start).cast::<u8>();
        // SAFETY: the range lies inside `cells` (`settled` never exceeds its length), and below
        // what is written for good, which nobody stores into again (rule 2); Acquire in
        // `settled` orders this read after those stores (rule 3).
        unsafe { std::slice::from_raw_parts(start, range.end - range.start) }
    }
}

impl Map {
    /// Maps `bytes` of a file for reading. Nothing is readable before [`raise`](Self::raise).
    pub(crate) fn of_file(file: &std::fs::File, bytes: usize) -> io::Result<Self> {
        let mapping = MmapOptions::new().len(bytes).map_raw_read_only(file)?;
        // Point reads would else read megabytes around each page that they miss; whoever reads in
        // order asks for more with `will_need`. A hint, like that one.
        let _ = mapping.advise(Advice::Random);
        Ok(Self { backing: Backing::File(mapping), bytes, limit: AtomicUsize::new(0) })
    }

    /// Bytes that nobody will write.
    pub(crate) fn of_bytes(content: &[u8]) -> Self {
        let heap = HeapBytes::frozen(content);
        Self { bytes: content.len(), backing: Backing::Heap(Arc::new(heap)), limit: AtomicUsize::new(0) }
    }

    /// The length of the mapping.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Everything below is readable.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Acquire)
    }

    /// Makes everything below `limit` readable. The caller has validated those bytes, or they
    /// were published: they never change (rule 2).
    pub(crate) fn raise(&self, limit: usize) {
        assert!(limit <= self.bytes, "a limit of {limit} past a mapping of {} bytes", self.bytes);
        self.limit.fetch_max(limit, Ordering::AcqRel);
    }

    /// The bytes of a range; `None` if it reaches past the limit.
    #[inline]
    pub(crate) fn slice(&self, range: Range<usize>) -> Option<&[u8]> {
        if range.start > range.end || range.end > self.limit.load(Ordering::Acquire) {
            return None;
        }
        match &self.backing {
            Backing::Heap(heap) => Some(heap.slice(range)),
            Backing::File(mapping) => {
                let start = mapping.as_ptr().wrapping_add(range.start);
                // SAFETY: `range.end <= limit <= bytes`, the mapping's length (asserted where the
                // limit is raised), and the file does not shrink (rule 1). Bytes below the limit
                // never change (rule 2), and were stored before the limit that was just read
                // with Acquire (rule 3). The slice lives as long as `&self`, which owns the map.
                Some(unsafe { std::slice::from_raw_parts(start, range.end - range.start) })
            }
        }
    }

    /// The bytes from `start` up to the limit.
    #[inline]
    pub(crate) fn slice_from(&self, start: usize) -> Option<&[u8]> {
        self.slice(start..self.limit.load(Ordering::Acquire))
    }

    /// Tells the processor that so many cache lines from `offset` on will be read soon.
    #[inline]
    pub(crate) fn prefetch(&self, offset: usize, lines: usize) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if let Backing::File(mapping) = &self.backing {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            const LINE_BYTES: usize = 64;
            for line in 0..lines {
                let at =
                    mapping.as_ptr().wrapping_add((offset + line * LINE_BYTES).min(self.bytes)).cast::<i8>();
                // SAFETY: a prefetch is a hint: it reads nothing that the program can see, and an
                // address that cannot be read is ignored. This one lies in the mapping or at its end.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(at) }
            }
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = (offset, lines);
    }

    /// Takes the faults of the first stores into a range now, without storing anything.
    pub(crate) fn make_writable(&self, range: Range<usize>) {
        if let Backing::File(mapping) = &self.backing {
            // A hint: where it fails (an old kernel, a map for reading), the stores take the faults.
            let bytes = range.end.min(self.bytes).saturating_sub(range.start);
            let _ = mapping.advise_range(Advice::PopulateWrite, range.start, bytes);
        }
    }

    /// Asks the kernel to read a range ahead.
    pub(crate) fn will_need(&self, range: Range<usize>) {
        if let Backing::File(mapping) = &self.backing {
            // A hint: if it fails, reading is slower and nothing else.
            let _ =
                mapping.advise_range(Advice::WillNeed, range.start, range.end.saturating_sub(range.start));
        }
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if matches!(self.backing, Backing::File(_)) { "file" } else { "heap" };
        write!(f, "Map({kind}, {} of {} bytes)", self.limit.load(Ordering::Relaxed), self.bytes)
    }
}

/// The one writer of a mapping (rule 4).
pub(crate) struct MapWriter {
    map: Arc<Map>,
    /// The map's limit, as this writer left it: the first byte that it may store.
    published: usize,
    behind: Behind,
    through: Through,
    /// This batch is gathered, and written by one call.
    gathers: bool,
    /// The bytes of such a batch, from `published` on.
    gathered: Vec<u8>,
}

/// Who is behind the bytes that are stored.
enum Behind {
    Nobody,
    File(Arc<dyn File>),
    /// Sees every store and every call, and may refuse a call.
    Tape(Arc<dyn Tape>),
}

/// A batch of so many bytes goes by one call, whatever the file system: each page that is stored
/// into is a fault, and with the next sync an interrupt of the other processors. In a small
/// segment an eighth of it is large, so that small tests go both ways.
const LARGE_BATCH_BYTES: usize = 32 << 10;
/// So much of the memory for batches is kept.
const GATHERED_BYTES_KEPT: usize = 1 << 20;

/// A batch that was not brought to the file.
#[derive(Debug)]
pub(crate) struct Unfinished {
    pub(crate) error: io::Error,
    /// What is there cannot be told.
    pub(crate) may_be_there: bool,
}

/// Maps `bytes` of a file for its one writer, who goes on at `from`; everything below is readable.
pub(crate) fn file_for_writing(
    file: &std::fs::File,
    handle: Arc<dyn File>,
    bytes: usize,
    from: usize,
    through: Through,
) -> io::Result<(Arc<Map>, MapWriter)> {
    assert!(from <= bytes, "a writer past the end of its mapping");
    let mapping = MmapOptions::new().len(bytes).map_raw(file)?;
    // A forked child must not store into the log: its copy of the map is not there.
    mapping.advise(Advice::DontFork)?;
    // No `Advice::Random` here: pages that the kernel makes by the megabyte cost a fifth less an append
    // than single ones. The price is that a kill leaves more of them for the recovery to wait for.
    let map = Map { backing: Backing::File(mapping), bytes, limit: AtomicUsize::new(from) };
    let map = Arc::new(map);
    Ok((Arc::clone(&map), MapWriter::new(map, from, Behind::File(handle), through)))
}

/// Bytes on the heap for one writer, who goes on at `from` behind `content`.
pub(crate) fn heap_for_writing(
    content: &[u8],
    bytes: usize,
    from: usize,
    through: Through,
    tape: Option<Arc<dyn Tape>>,
) -> io::Result<(Arc<HeapBytes>, Arc<Map>, MapWriter)> {
    assert!(from <= bytes, "a writer past the end of its mapping");
    let heap = Arc::new(HeapBytes::for_writing(content, bytes, from)?);
    let map =
        Arc::new(Map { backing: Backing::Heap(Arc::clone(&heap)), bytes, limit: AtomicUsize::new(from) });
    let behind = tape.map_or(Behind::Nobody, Behind::Tape);
    Ok((heap, Arc::clone(&map), MapWriter::new(map, from, behind, through)))
}

impl MapWriter {
    fn new(map: Arc<Map>, published: usize, behind: Behind, through: Through) -> Self {
        let mut writer = Self { map, published, behind, through, gathers: false, gathered: Vec::new() };
        writer.gathers = writer.always_gathers();
        writer
    }

    fn always_gathers(&self) -> bool {
        self.through == Through::Pwrite && !matches!(self.behind, Behind::Nobody)
    }

    /// The next batch has so many bytes. True: it goes by a call, which may fail.
    #[inline]
    pub(crate) fn begin_batch(&mut self, bytes: u64) -> bool {
        let large = LARGE_BATCH_BYTES.min(self.map.bytes / 8) as u64;
        self.gathers |= bytes >= large && !matches!(self.behind, Behind::Nobody);
        self.gathers
    }

    /// Stores bytes at an offset at or above what is published. Every store of the log goes
    /// through here.
    ///
    /// # Panics
    ///
    /// If the range is not within `[published, length)`: that is a bug of the log's.
    #[inline]
    pub(crate) fn write_at(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset.checked_add(bytes.len());
        assert!(
            offset >= self.published && end.is_some_and(|end| end <= self.map.bytes),
            "a store of {} bytes at {offset}, outside {}..{}",
            bytes.len(),
            self.published,
            self.map.bytes
        );
        if self.gathers {
            return put(&mut self.gathered, offset - self.published, bytes);
        }
        if let Behind::Tape(tape) = &self.behind {
            tape.stored(offset, bytes);
        }
        self.store(offset, bytes);
    }

    /// Stores bytes within `[published, length)`.
    #[inline]
    fn store(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset >= self.published && bytes.len() <= self.map.bytes.saturating_sub(offset));
        let target = match &self.map.backing {
            Backing::File(mapping) => mapping.as_mut_ptr().wrapping_add(offset),
            // Through `UnsafeCell`, so that a shared reference to the cells may be stored through.
            Backing::Heap(heap) => UnsafeCell::raw_get(heap.cells.as_ptr().wrapping_add(offset)),
        };
        // SAFETY: the range lies inside the mapping, which is writable and does not shrink
        // (asserted above; rule 1), and at or above the limit, so no reader has a slice of it
        // (rule 2); this is the only writer, through `&mut self` (rule 4). `bytes` is a slice of
        // other memory, because slices of the map end at the limit.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) }
    }

    /// Brings a batch to the file where that needs a call. If it fails, nothing was published.
    pub(crate) fn finish_batch(&mut self) -> Result<(), Unfinished> {
        if !self.gathers {
            return Ok(());
        }
        let mut batch = std::mem::take(&mut self.gathered);
        let written = if batch.is_empty() { Ok(()) } else { self.call(self.published, &batch) };
        batch.clear();
        batch.shrink_to(GATHERED_BYTES_KEPT);
        self.gathered = batch;
        self.gathers = self.always_gathers();
        written
    }

    /// Writes to the file by a call. One that failed has done its work if all of the bytes are
    /// there: what it did not come to were zeros, as is all that was never written. Who took that
    /// for nothing would see it again after a crash.
    fn call(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Unfinished> {
        let (outcome, is_there) = match &self.behind {
            Behind::Nobody => return Ok(()),
            Behind::File(file) => {
                let outcome = file.write_at(bytes, offset as u64);
                let is_there = outcome.is_ok().then_some(true).or_else(|| holds(&**file, offset, bytes));
                (outcome, is_there)
            }
            Behind::Tape(tape) => {
                let (written, outcome) = tape.written(offset, bytes);
                self.store(offset, bytes.get(..written).unwrap_or_default());
                let rest = bytes.get(written..).unwrap_or_default();
                (outcome, Some(rest.iter().all(|byte| *byte == 0)))
            }
        };
        match (outcome, is_there) {
            (Ok(()), _) | (Err(_), Some(true)) => Ok(()),
            (Err(error), is_there) => Err(Unfinished { error, may_be_there: is_there.is_none() }),
        }
    }

    /// Makes everything below `limit` readable.
    #[inline]
    pub(crate) fn publish(&mut self, limit: usize) {
        assert!(limit >= self.published && limit <= self.map.bytes, "a limit that goes back or past the end");
        self.published = limit;
        if let Backing::Heap(heap) = &self.map.backing {
            heap.written.store(limit, Ordering::Release);
        }
        // Only this writer moves the limit of its map, so a store is enough.
        self.map.limit.store(limit, Ordering::Release);
    }
}

/// True if the file has these bytes at an offset; `None` if it does not say.
fn holds(file: &dyn File, offset: usize, bytes: &[u8]) -> Option<bool> {
    let mut there = vec![0; bytes.len()];
    file.read_at(&mut there, offset as u64).is_ok().then(|| there == bytes)
}

/// Puts bytes behind those of a batch; what is skipped over is zero.
fn put(batch: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    assert!(at >= batch.len(), "a batch is stored in order");
    batch.resize(at, 0);
    batch.extend_from_slice(bytes);
}

impl Drop for MapWriter {
    fn drop(&mut self) {
        if let Backing::Heap(heap) = &self.map.backing {
            heap.writer_is_gone.store(true, Ordering::Release);
        }
    }
}

impl fmt::Debug for MapWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MapWriter({} published of {:?})", self.published, self.map)
    }
}

/// One page shared with other processes, as atomic cells.
pub(crate) enum SharedPage {
    File { mapping: MmapRaw, writable: bool },
    Heap(Box<[AtomicU64]>),
}

const CELLS: usize = 4;
const _: () = assert!(
    CELLS_AT.is_multiple_of(8) && CELLS_AT + CELLS * 8 <= PAGE_BYTES && Cell::Poison as usize == CELLS - 1
);

impl SharedPage {
    /// Shares the first page of a file, which must be at least that long.
    pub(crate) fn of_file(file: &std::fs::File, writable: bool) -> io::Result<Self> {
        if file.metadata()?.len() < PAGE_BYTES as u64 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "shorter than one page"));
        }
        let mut options = MmapOptions::new();
        let options = options.len(PAGE_BYTES);
        let mapping = if writable { options.map_raw(file)? } else { options.map_raw_read_only(file)? };
        Ok(Self::File { mapping, writable })
    }

    /// A page that only this process sees.
    pub(crate) fn on_heap() -> Self {
        Self::Heap((0..CELLS).map(|_| AtomicU64::new(0)).collect())
    }

    fn with<T>(&self, cell: Cell, use_it: impl FnOnce(&AtomicU64) -> T) -> T {
        static NONE: AtomicU64 = AtomicU64::new(0);
        match self {
            Self::Heap(cells) => use_it(cells.get(cell as usize).unwrap_or(&NONE)),
            Self::File { mapping, .. } => {
                let at = mapping.as_mut_ptr().wrapping_add(CELLS_AT + cell as usize * 8).cast::<u64>();
                // SAFETY: the cell lies inside the page (asserted at compile time), aligned to
                // eight bytes (a mapping starts at a page); everybody accesses it as an atomic
                // of this size, here and in other processes, and stores happen only through
                // `store`, which refuses a page that is mapped for reading.
                use_it(unsafe { AtomicU64::from_ptr(at) })
            }
        }
    }

    pub(crate) fn load(&self, cell: Cell) -> u64 {
        self.with(cell, |cell| cell.load(Ordering::Relaxed))
    }

    /// Stores a value that is greater than what is there.
    pub(crate) fn raise(&self, cell: Cell, value: u64) {
        if !matches!(self, Self::File { writable: false, .. }) {
            self.with(cell, |cell| cell.fetch_max(value, Ordering::AcqRel));
        }
    }

    pub(crate) fn store(&self, cell: Cell, value: u64) {
        if !matches!(self, Self::File { writable: false, .. }) {
            self.with(cell, |cell| cell.store(value, Ordering::Release));
        }
    }
}

impl fmt::Debug for SharedPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedPage")
    }
}

/// Knows, for the price of one load, whether this process is the one that made it.
#[derive(Debug)]
pub(crate) struct ForkGuard(Option<memmap2::MmapMut>);

impl ForkGuard {
    /// A private page that the kernel gives to a forked child as zeros. Where it cannot
    /// (Miri, other systems), nothing is noticed.
    pub(crate) fn new() -> Self {
        Self(Self::guard_page().ok())
    }

    #[cfg(all(target_os = "linux", not(miri)))]
    fn guard_page() -> io::Result<memmap2::MmapMut> {
        let mut page = MmapOptions::new().len(PAGE_BYTES).map_anon()?;
        let start = page.as_mut_ptr().cast();
        // SAFETY: the range is exactly the private anonymous mapping that was just made, and
        // `MADV_WIPEONFORK` changes nothing in this process.
        unsafe { rustix::mm::madvise(start, PAGE_BYTES, rustix::mm::Advice::LinuxWipeOnFork)? };
        page.fill(1);
        Ok(page)
    }

    #[cfg(not(all(target_os = "linux", not(miri))))]
    fn guard_page() -> io::Result<memmap2::MmapMut> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// True in a process that came from a `fork` after this was made.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.0.as_ref().is_some_and(|page| page.first() == Some(&0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_readable_before_it_is_published_and_nothing_published_is_stored_into() {
        let (heap, map, mut writer) = heap_for_writing(b"head", 64, 4, Through::Map, None).unwrap();
        assert_eq!(map.slice(0..4), Some(&b"head"[..]));
        writer.write_at(8, b"abc");
        assert_eq!(map.slice(4..8), None);
        writer.publish(16);
        assert_eq!(map.slice(8..11), Some(&b"abc"[..]));
        let stored = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| writer.write_at(15, b"x")));
        assert!(stored.is_err(), "a store below the limit is a bug and must not happen");
        drop(writer);
        assert_eq!(heap.copy().len(), 64);
    }

    #[test]
    fn readers_see_whole_batches_while_the_writer_goes_on() {
        const BATCH: usize = 16;
        let rounds = if cfg!(miri) { 20 } else { 2_000 };
        let tag = |round: usize| u8::try_from(round % 251).unwrap();
        let (_, map, mut writer) = heap_for_writing(&[], BATCH * rounds, 0, Through::Map, None).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut seen = 0;
                while seen < BATCH * rounds {
                    let all = map.slice_from(0).unwrap();
                    assert!(all.len() % BATCH == 0 && all.len() >= seen);
                    assert!(
                        all.chunks(BATCH).enumerate().all(|(at, chunk)| chunk.iter().all(|b| *b == tag(at)))
                    );
                    seen = all.len();
                }
            });
            for round in 0..rounds {
                writer.write_at(round * BATCH, &[tag(round); BATCH]);
                writer.publish((round + 1) * BATCH);
            }
        });
    }
}
