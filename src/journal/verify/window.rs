//! A piece of a file in memory, which moves over the file.

use std::io;
use std::sync::Arc;

use zerocopy::FromBytes;

use crate::disk::File;
use crate::format::frame::{FRAME_BYTES, FrameHeader};

/// So much is read at a time.
pub(crate) const PIECE: u64 = 1 << 20;

/// A piece of a file in memory.
#[derive(Debug)]
pub(crate) struct Window {
    file: Arc<dyn File>,
    until: u64,
    piece: u64,
    base: u64,
    bytes: Arc<Vec<u8>>,
    /// What was held before, which others may hold still.
    lent: Vec<Arc<Vec<u8>>>,
}

impl Window {
    pub(crate) fn new(file: Arc<dyn File>, until: u64) -> Self {
        Self::by_pieces(file, until, PIECE)
    }

    /// As [`new`](Self::new), with pieces of so many bytes, which are never 0.
    pub(crate) fn by_pieces(file: Arc<dyn File>, until: u64, piece: u64) -> Self {
        Self { file, until, piece: piece.max(1), base: 0, bytes: Arc::default(), lent: Vec::new() }
    }

    /// All of it will be read, from one end to the other: the system is told.
    pub(crate) fn in_order(self) -> Self {
        self.file.will_be_read_in_order();
        self
    }

    pub(crate) fn until(&self) -> u64 {
        self.until
    }

    /// The bytes from `at`, enough for the frame that stands there if it fits.
    #[inline]
    pub(crate) fn frame(&mut self, at: u64) -> io::Result<&[u8]> {
        self.frame_behind(at, at, self.until)
    }

    /// As [`frame`](Self::frame), for who looks for a frame place by place: what stands there may claim any length, and the next
    /// place is asked with what was read for this one.
    #[inline]
    pub(crate) fn candidate(&mut self, at: u64) -> io::Result<&[u8]> {
        self.frame_within((at, at), self.until, true)
    }

    /// As [`frame`](Self::frame), with all from `start` on in memory, and nothing behind `until`.
    #[inline]
    pub(crate) fn frame_behind(&mut self, start: u64, at: u64, until: u64) -> io::Result<&[u8]> {
        self.frame_within((start, at), until.min(self.until), at > start)
    }

    #[inline]
    fn frame_within(
        &mut self,
        (start, at): (u64, u64),
        until: u64,
        may_need_more: bool,
    ) -> io::Result<&[u8]> {
        let before = at.saturating_sub(start);
        let head = self.held_until(start, before + FRAME_BYTES as u64, until, may_need_more)?;
        let head = usize::try_from(before).ok().and_then(|before| head.get(before..)).unwrap_or_default();
        let length = FrameHeader::ref_from_prefix(head).map_or(0, |(header, _)| header.lengths().frame());
        let all = self.held_until(start, before + length as u64, until, may_need_more)?;
        Ok(usize::try_from(before).ok().and_then(|before| all.get(before..)).unwrap_or_default())
    }

    /// All that is in memory, and where it begins in the file. It stays as it is for as long as it is held.
    pub(crate) fn held(&self) -> (u64, &Arc<Vec<u8>>) {
        (self.base, &self.bytes)
    }

    /// The bytes from `at`: `need` of them or more, or all there are.
    pub(crate) fn from(&mut self, at: u64, need: u64) -> io::Result<&[u8]> {
        self.held_until(at, need, self.until, true)
    }

    /// Takes so many bytes out of what is in memory, which is not there any more then: they are not copied where nobody else
    /// holds them.
    pub(crate) fn take(&mut self, at: u64, count: usize) -> Vec<u8> {
        let start = usize::try_from(at.saturating_sub(self.base)).unwrap_or(usize::MAX).min(self.bytes.len());
        let mut bytes = Arc::unwrap_or_clone(std::mem::take(&mut self.bytes));
        bytes.truncate(start.saturating_add(count));
        bytes.drain(..start);
        bytes
    }

    #[inline]
    fn held_until(&mut self, at: u64, need: u64, until: u64, may_need_more: bool) -> io::Result<&[u8]> {
        let left = until.saturating_sub(at);
        let need = need.min(left);
        let held = self.base..self.base + self.bytes.len() as u64;
        if at < held.start || at + need > held.end {
            self.read(at, need, may_need_more)?;
        }
        let start = usize::try_from(at - self.base).unwrap_or(usize::MAX);
        let end = usize::try_from(until.saturating_sub(self.base)).unwrap_or(usize::MAX);
        let bytes = self.bytes.get(..end.min(self.bytes.len())).unwrap_or_default();
        Ok(bytes.get(start..).unwrap_or_default())
    }

    #[cold]
    fn read(&mut self, at: u64, need: u64, may_need_more: bool) -> io::Result<()> {
        let left = self.until.saturating_sub(at);
        let piece = match need <= self.piece {
            true => self.piece,
            // Twice as much each time that more is needed of the same place. Of one large frame all is needed, and no more.
            false if may_need_more => need.saturating_mul(2),
            false => need,
        };
        let size = usize::try_from(piece.min(left)).unwrap_or(usize::MAX);
        // Emptied first: a read that fails leaves no bytes of another place behind.
        let before = std::mem::take(&mut self.bytes);
        // What a large batch took is given back, before as much is taken again.
        if before.capacity() as u64 <= self.piece {
            self.lent.push(before);
        } else {
            drop(before);
        }
        let mut bytes = self.take_back();
        if size > bytes.capacity() {
            bytes = Vec::new();
        }
        bytes.resize(size, 0);
        self.file.read_at(&mut bytes, at)?;
        (self.base, self.bytes) = (at, Arc::new(bytes));
        Ok(())
    }

    /// The memory of a piece that nobody else holds any more, if there is one.
    fn take_back(&mut self) -> Vec<u8> {
        let free = self.lent.iter().position(|bytes| Arc::strong_count(bytes) == 1);
        let bytes = free.and_then(|at| Arc::into_inner(self.lent.swap_remove(at)));
        bytes.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::disk::memory::MemoryDirectory;
    use crate::disk::refusing::Refusing;
    use crate::disk::{Access, Directory};

    #[test]
    fn whoever_looks_for_a_frame_place_by_place_reads_no_byte_many_times() {
        // Each place claims a payload of 16 KiB.
        let bytes = [1, 1, 0, 0, 0, 0x40, 0, 0].repeat(32 << 10);
        let until = bytes.len() as u64;
        let files = MemoryDirectory::with(BTreeMap::from([("a".to_owned(), bytes)]), None);
        let directory = Refusing::of(files, String::new(), Vec::new());
        let mut window = Window::by_pieces(directory.open("a", Access::Read).unwrap(), until, 64);
        for at in (0..until).step_by(8) {
            window.candidate(at).unwrap();
        }
        let read = directory.read.load(Ordering::Relaxed);
        assert!(read <= 3 * until, "{read} bytes were read of {until}");
    }
}
