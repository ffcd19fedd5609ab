//! Reading a tail of the log into memory: as the disk has it, and around what was never written.
//!
//! One buffer serves all segments of a recovery. What the file system knows to be a hole is
//! not read: it holds zeros, and most of a segment that was made ahead is one.

use std::io;
use std::ops::Range;

use crate::disk::{DIRECT_ALIGN, File};

/// Where bytes are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The disk, past the page cache, which may hold what the disk refused; the cache where the
    /// file system has no way past it.
    Disk,
    /// The page cache.
    Cache,
}

/// A copy of a file from some offset on, in a buffer that is used again.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    buffer: Vec<u8>,
    start: usize,
    length: usize,
    /// Behind, the file is a hole.
    written: usize,
    /// Nothing behind was written to since the memory came, zeroed and not touched.
    dirty: usize,
}

impl Tail {
    /// The whole file; what lies before the offset that was asked for may be left zero.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.start + self.length).unwrap_or_default()
    }

    /// Everything from this offset on is zero, and its memory was not touched: no frame begins there,
    /// though one may end there, if it ends in zeros.
    pub(crate) fn written(&self) -> usize {
        self.written
    }

    /// To read all of it again: nothing is known of holes any more.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        (self.written, self.dirty) = (self.length, self.length.max(self.dirty));
        self.space()
    }

    fn space(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.start..self.start + self.length).unwrap_or_default()
    }

    /// A copy that somebody else made.
    pub(crate) fn of(buffer: Vec<u8>) -> Self {
        Self { length: buffer.len(), written: buffer.len(), dirty: buffer.len(), buffer, start: 0 }
    }

    /// Reads a file of `total` bytes from `from` on. True: nothing came from the cache that should
    /// have come from the disk.
    pub(crate) fn read(
        &mut self,
        file: &dyn File,
        from: u64,
        total: u64,
        mut source: Source,
    ) -> io::Result<bool> {
        let total = usize::try_from(total).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.make_room(total);
        let from = usize::try_from(from).unwrap_or(total).min(total) / DIRECT_ALIGN * DIRECT_ALIGN;
        let asked = source;
        let mut at = 0;
        for written in written_from(file, from, total) {
            self.clear(at..written.start);
            at = written.end;
            self.dirty = self.dirty.max(written.end);
            let (offset, bytes) = (written.start as u64, self.space().get_mut(written).unwrap_or_default());
            if source == Source::Disk {
                match file.read_uncached(bytes, offset) {
                    Ok(()) => continue,
                    Err(error) if error.kind() == io::ErrorKind::Unsupported => source = Source::Cache,
                    Err(error) => return Err(error),
                }
            }
            file.read_at(bytes, offset)?;
        }
        self.clear(at..total);
        self.written = at.max(from);
        Ok(source == asked)
    }

    fn make_room(&mut self, total: usize) {
        if self.buffer.len() < total + DIRECT_ALIGN {
            // Let go of the old one first, and get zeroed memory that is not touched yet.
            self.buffer = Vec::new();
            self.buffer = vec![0; total + DIRECT_ALIGN];
            self.dirty = 0;
        }
        self.start = self.buffer.as_ptr().align_offset(DIRECT_ALIGN).min(DIRECT_ALIGN);
        self.length = total;
    }

    fn clear(&mut self, range: Range<usize>) {
        let end = range.end.min(self.dirty);
        self.space().get_mut(range.start.min(end)..end).unwrap_or_default().fill(0);
    }
}

/// The ranges from `at` on that may hold something. All of them are asked for before any is read: the
/// kernel reads ahead, and what it has in its cache then counts as written.
fn written_from(file: &dyn File, mut at: usize, total: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    while at < total {
        let written = next_written(file, at, total);
        at = written.end;
        if !written.is_empty() {
            ranges.push(written);
        }
    }
    ranges
}

/// The next range at or behind `at` that may hold something, in whole blocks; empty at the end of
/// the file if nothing follows. Where the file system cannot tell, that is all of the rest.
fn next_written(file: &dyn File, at: usize, total: usize) -> Range<usize> {
    let whole = |offset: u64| usize::try_from(offset).unwrap_or(total).min(total);
    let start = match file.next_data(at as u64) {
        Ok(Some(data)) => whole(data / DIRECT_ALIGN as u64 * DIRECT_ALIGN as u64).max(at),
        Ok(None) => return total..total,
        Err(_) => return at..total,
    };
    let end =
        file.next_hole(start as u64).map_or(total, |hole| whole(hole.next_multiple_of(DIRECT_ALIGN as u64)));
    start..end.max((start + DIRECT_ALIGN).min(total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::memory::{Event, MemoryDirectory, Recorder};
    use crate::disk::{Access, Directory as _};

    const BLOCK: usize = DIRECT_ALIGN;

    /// A file of so many blocks, of which these are written.
    fn file(blocks: usize, written: &[usize]) -> (std::sync::Arc<dyn File>, Vec<u8>) {
        let file = MemoryDirectory::new().create("tail").unwrap();
        let mut bytes = vec![0; blocks * BLOCK];
        file.truncate(bytes.len() as u64).unwrap();
        for block in written {
            let at = block * BLOCK;
            bytes[at..at + BLOCK].fill(u8::try_from(*block).unwrap() + 1);
            file.write_at(&bytes[at..at + BLOCK], at as u64).unwrap();
        }
        (file, bytes)
    }

    #[test]
    #[cfg_attr(miri, ignore = "megabytes take it minutes")]
    fn what_is_read_is_what_the_file_holds_around_its_holes_whatever_the_buffer_held_before() {
        let mut tail = Tail::default();
        let shapes: [(usize, &[usize]); 7] = [
            (9, &[0, 1, 2, 3, 4, 5, 6, 7, 8]),
            (9, &[0, 4]),
            (6, &[5]),
            (3, &[]),
            (12, &[1, 2, 9]),
            (13, &[12]),
            (9, &[8]),
        ];
        for source in [Source::Disk, Source::Cache] {
            for (blocks, written) in shapes {
                let (file, bytes) = file(blocks, written);
                for from in [0, BLOCK + 8] {
                    tail.read(&*file, from as u64, bytes.len() as u64, source).unwrap();
                    assert_eq!(tail.bytes().len(), bytes.len());
                    assert!(tail.bytes()[from..] == bytes[from..], "{blocks} {written:?} from {from}");
                    let last = written.last().map_or(0, |last| (last + 1) * BLOCK);
                    assert_eq!(tail.written(), last.max(from / BLOCK * BLOCK), "{written:?} from {from}");
                }
            }
        }
    }

    #[test]
    fn a_single_byte_is_found_wherever_it_stands() {
        let mut tail = Tail::default();
        for at in [0, 100, BLOCK - 1, BLOCK, BLOCK + 100, 3 * BLOCK - 1, 3 * BLOCK + 9] {
            let (file, mut bytes) = file(4, &[]);
            bytes[at] = 1;
            file.write_at(&[1], at as u64).unwrap();
            tail.read(&*file, 0, bytes.len() as u64, Source::Disk).unwrap();
            assert!(tail.bytes() == bytes, "{at}");
            assert_eq!(tail.written(), (at + 1).next_multiple_of(BLOCK), "{at}");
        }
    }

    /// Past the cache, all files hold nines.
    struct Nines;

    impl Recorder for Nines {
        fn record(&self, _: Event) -> io::Result<()> {
            Ok(())
        }
        fn write(&self, _: u64, _: usize, bytes: &[u8]) -> (usize, io::Result<()>) {
            (bytes.len(), Ok(()))
        }
        fn grow(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn free(&self, _: usize) {}
        fn past_the_cache(&self, _: u64) -> Option<Vec<u8>> {
            Some(vec![9; 2 * BLOCK])
        }
    }

    #[test]
    fn what_is_judged_is_what_the_disk_has_where_that_is_asked_for() {
        let files = [("tail".to_owned(), vec![1; 2 * BLOCK])].into();
        let directory = MemoryDirectory::with(files, Some(std::sync::Arc::new(Nines)));
        let file = directory.open("tail", Access::Read).unwrap();
        for (source, byte) in [(Source::Disk, 9), (Source::Cache, 1)] {
            let mut tail = Tail::default();
            assert!(tail.read(&*file, 0, 2 * BLOCK as u64, source).unwrap(), "{source:?} was had");
            assert!(tail.bytes().iter().all(|read| *read == byte), "{source:?}");
        }
    }

    #[test]
    fn a_buffer_that_somebody_wrote_to_is_zero_again_where_the_next_file_has_a_hole() {
        let mut tail = Tail::default();
        let (first, bytes) = file(4, &[0]);
        tail.read(&*first, 0, bytes.len() as u64, Source::Cache).unwrap();
        tail.bytes_mut().fill(7);
        assert_eq!(tail.written(), bytes.len(), "nothing is known of holes any more");
        tail.read(&*first, 0, bytes.len() as u64, Source::Cache).unwrap();
        assert!(tail.bytes() == bytes && tail.written() == BLOCK);
        let copy = Tail::of(vec![1, 2, 3]);
        assert_eq!((copy.bytes(), copy.written()), (&[1, 2, 3][..], 3));
    }
}
