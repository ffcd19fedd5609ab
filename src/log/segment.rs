//! A segment: one preallocated, mapped file, and how it is made.
//!
//! **Protocol P1.** Under a temporary name, exclusive: allocate for real, write the header,
//! sync, rename, sync the directory. A segment that can be found has a header that is durable;
//! one that cannot be finished gives its space back. Files are never recycled or truncated
//! under their name.

use std::io::{self, ErrorKind as Io};
use std::sync::Arc;

use parking_lot::Mutex;
use zerocopy::IntoBytes;

use crate::disk::map::{Map, MapWriter};
use crate::disk::{Access, Directory, File, Through, temporary_name};
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::{FRAME_BYTES, Frame};
use crate::format::header::HEADER_BYTES;
use crate::format::segment::{FIRST_FRAME, SegmentHeader, file_name};
use crate::format::system::System;
use crate::id::{Position, StoreId};
use crate::log::grid::read_part;

/// True of a frame with which a segment ends.
pub(crate) fn is_good_seal(frame: &Frame<'_>, salt: u64, position: Position) -> bool {
    let is_seal = frame.header.is_system() && System::of(frame.header.operation) == Some(System::Seal);
    is_seal && frame.is_good(salt, position)
}

/// A segment, mapped. Frames can be read below the map's limit.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    pub(crate) map: Arc<Map>,
    /// Until it is let go of.
    file: Mutex<Option<Arc<dyn File>>>,
}

impl Segment {
    pub(crate) fn new(header: SegmentHeader, map: Arc<Map>, file: Arc<dyn File>) -> Self {
        Self { header, map, file: Mutex::new(Some(file)) }
    }

    /// The same over a copy of its bytes.
    pub(crate) fn read_from(self, copy: Map) -> Self {
        Self { map: Arc::new(copy), ..self }
    }

    /// The descriptor under which it was written, or opened first. Only this one tells what the system could not write since: one
    /// that is opened later begins behind what others were told.
    pub(crate) fn held(&self) -> Option<Arc<dyn File>> {
        self.file.lock().clone()
    }

    /// Its file: the one that it holds, or else opened again for reading. A segment of the log keeps its number; a spare's may
    /// be given again by the next life, and nobody asks for the file of one that is no part of the log.
    pub(crate) fn file(&self, directory: &dyn Directory) -> io::Result<Arc<dyn File>> {
        self.held().map_or_else(|| directory.open(&file_name(self.number()), Access::Read), Ok)
    }

    /// The same for somebody else alone: it holds none any more.
    pub(crate) fn take_file(&self, directory: &dyn Directory) -> io::Result<Arc<dyn File>> {
        let held = self.file.lock().take();
        held.map_or_else(|| directory.open(&file_name(self.number()), Access::Read), Ok)
    }

    /// Holds no descriptor any more: of those a process has few, and what is mapped is read without one.
    pub(crate) fn let_go(&self) {
        *self.file.lock() = None;
    }

    pub(crate) fn number(&self) -> u32 {
        self.header.number
    }

    pub(crate) fn position(&self, offset: u64) -> Position {
        Position::new(self.header.number, offset)
    }

    /// The frame at an offset below the limit; `None` where none fits.
    #[inline]
    pub(crate) fn frame(&self, offset: u64) -> Option<Frame<'_>> {
        Frame::parse(self.map.slice_from(usize::try_from(offset).ok()?)?)
    }

    /// True if the last frame before this offset is a good seal: the log goes on in another segment.
    pub(crate) fn is_sealed_at(&self, end: u64) -> bool {
        let at = end.checked_sub(FRAME_BYTES as u64);
        let seal = at.zip(at.and_then(|at| self.frame(at)));
        seal.is_some_and(|(at, frame)| is_good_seal(&frame, self.header.salt, self.position(at)))
    }

    /// Asks the kernel to read a range of bytes ahead.
    pub(crate) fn will_need(&self, from: u64, to: u64) {
        let end = mapped_length(to).min(self.map.bytes());
        self.map.will_need(mapped_length(from).min(end)..end);
    }

    /// Takes the faults of the first stores into a range of bytes now.
    pub(crate) fn make_writable(&self, from: u64, to: u64) {
        self.map.make_writable(mapped_length(from)..mapped_length(to));
    }

    /// True if nothing but zeros is read from here on. Recovery judged what the *disk* has; the
    /// page cache may still show frames that the disk refused. Whoever wrote into those pages
    /// would bring the rest of them to the disk with it: they would stand in the padding of new
    /// frames, where zeros are summed up, and behind the end of the log.
    pub(crate) fn is_untouched_from(
        &self,
        directory: &dyn Directory,
        offset: u64,
        through: Through,
    ) -> io::Result<bool> {
        const PIECE: u64 = 1 << 20;
        let file = self.file(directory)?;
        let mut bytes = Vec::new();
        // First the rest of the page.
        let (mut at, mut end) = (offset, (offset + 1).next_multiple_of(4096));
        while at < self.header.bytes {
            bytes.resize(mapped_length(end.min(self.header.bytes) - at), 0);
            file.read_at(&mut bytes, at)?;
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at = end;
            // What a close punched need not be read: the kernel looks for cached pages in space
            // that was never written. Those that write by `pwrite` are not known to.
            if through == Through::Map
                && let Ok(found) = file.next_data(at)
            {
                at = at.max(found.unwrap_or(self.header.bytes));
            }
            end = at + PIECE;
        }
        Ok(true)
    }

    /// Opens a segment for reading. Nothing is readable until the caller raises the map's limit.
    pub(crate) fn open(directory: &dyn Directory, store: StoreId, number: u32) -> Result<Self> {
        let name = file_name(number);
        let (file, header) = open_header(directory, store, number, Access::Read)?;
        let bytes = usize::try_from(header.bytes).unwrap_or(usize::MAX);
        let map =
            file.map(bytes).map_err(|e| Error::io("map a segment", e).at(directory.path().join(name)))?;
        Ok(Self::new(header, Arc::new(map), file))
    }

    /// Opens a segment for its writer, who goes on at `end`.
    pub(crate) fn open_for_writing(
        directory: &dyn Directory,
        store: StoreId,
        number: u32,
        end: u64,
        through: Through,
    ) -> Result<(Self, MapWriter)> {
        let (file, header) = open_header(directory, store, number, Access::Write)?;
        let doing =
            |e| Error::io("map a segment for writing", e).at(directory.path().join(file_name(number)));
        let (bytes, from) = (mapped_length(header.bytes), mapped_length(end));
        // What the last close punched out is allocated again before anything is stored there.
        allocate(&*file, header.bytes).map_err(doing)?;
        let (map, writer) = file.map_for_writing(bytes, from, through).map_err(doing)?;
        Ok((Self::new(header, map, file), writer))
    }
}

fn mapped_length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Opens a segment's file and reads its header.
pub(crate) fn open_header(
    directory: &dyn Directory,
    store: StoreId,
    number: u32,
    access: Access,
) -> Result<(Arc<dyn File>, SegmentHeader)> {
    let path = || directory.path().join(file_name(number));
    let doing = |e| Error::io("open a segment", e).at(path()).place(number, 0);
    let file = directory.open(&file_name(number), access).map_err(doing)?;
    let length = file.len().map_err(doing)?;
    let mut bytes = [0; HEADER_BYTES];
    if length < HEADER_BYTES as u64 {
        return Err(Error::corrupt("read a segment's header")
            .at(path())
            .place(number, 0)
            .sides(format!("{HEADER_BYTES} bytes or more"), length));
    }
    file.read_at(&mut bytes, 0).map_err(doing)?;
    let header =
        SegmentHeader::read(&bytes, store, number, length).map_err(|e| e.at(path()).place(number, 0))?;
    Ok((file, header))
}

/// What a segment's first frame says: its preamble. `None` if it is not whole.
pub(crate) fn look_at_preamble<T>(
    directory: &dyn Directory,
    store: StoreId,
    number: u32,
    look: impl FnOnce(&Frame<'_>) -> Option<T>,
) -> Option<T> {
    const ENOUGH_BYTES: usize = 512;
    let (file, header) = open_header(directory, store, number, Access::Read).ok()?;
    let bytes = read_part(&*file, FIRST_FRAME, ENOUGH_BYTES).ok()?;
    let frame = Frame::parse(&bytes).filter(|frame| frame.header.operation == System::Preamble as u8)?;
    let is_one = frame.header.is_system() && frame.is_good(header.salt, Position::new(number, FIRST_FRAME));
    look(&frame).filter(|_| is_one)
}

/// How segments are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Making {
    pub(crate) zeros: Zeros,
    pub(crate) through: Through,
}

/// Whether zeros are written over allocated space, which reads as zeros anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zeros {
    /// No: a sync has then to note in the file system's own records what came to be used.
    Allocated,
    /// Yes, so that a small sync writes nothing but the pages of the frames.
    ///
    /// The page cache keeps them in the pieces in which they are written, and a sync of one small
    /// frame writes a whole piece: so `at_a_time` is small. `sync_every` so many bytes keeps the
    /// syncs of others from being held up by one long one; `None` leaves that to the kernel.
    Written { at_a_time: usize, sync_every: Option<usize> },
}

/// Makes segment `header.number`, durable under its name, ready for its writer.
pub(crate) fn make(
    directory: &dyn Directory,
    store: StoreId,
    header: SegmentHeader,
    making: Making,
) -> Result<(Arc<Segment>, MapWriter)> {
    let name = file_name(header.number);
    let doing = |e: io::Error| {
        let error = Error::io(format!("make a segment of {} bytes", header.bytes), e);
        let free = directory.free_bytes().unwrap_or(0);
        match error.kind() {
            ErrorKind::NoSpace => {
                error.sides(format!("{} bytes free", header.bytes), format!("{free} bytes"))
            }
            _ => error,
        }
        .at(directory.path().join(&name))
        .place(header.number, 0)
    };
    let temporary = temporary_name(&name);
    // What a crash left half made: only who holds the lock comes here.
    let create = || match directory.create(&temporary) {
        Err(error) if error.kind() == Io::AlreadyExists => {
            directory.remove(&temporary)?;
            directory.create(&temporary)
        }
        other => other,
    };
    let file = create().map_err(doing)?;
    if let Err(error) =
        fill(&*file, store, &header, making).and_then(|()| directory.rename(&temporary, &name))
    {
        // ext4 keeps what a failed allocation got until the file is truncated.
        let _ = file.truncate(0);
        let _ = directory.remove(&temporary);
        return Err(doing(error));
    }
    directory.sync().map_err(doing)?;
    let bytes = mapped_length(header.bytes);
    let (map, writer) =
        file.map_for_writing(bytes, mapped_length(FIRST_FRAME), making.through).map_err(doing)?;
    Ok((Arc::new(Segment::new(header, map, file)), writer))
}

fn fill(file: &dyn File, store: StoreId, header: &SegmentHeader, making: Making) -> io::Result<()> {
    allocate(file, header.bytes)?;
    file.write_at(header.encode(store).as_bytes(), 0)?;
    file.sync()?;
    let (at_a_time, sync_every) = match making.zeros {
        Zeros::Written { at_a_time, sync_every } if making.through == Through::Map => (at_a_time, sync_every),
        _ => return Ok(()),
    };
    let zeros = vec![0; at_a_time];
    let (mut offset, mut unsynced) = (FIRST_FRAME, 0);
    while offset < header.bytes {
        // The first piece ends where the later ones are aligned.
        let piece = zeros.len() as u64 - offset % zeros.len() as u64;
        let piece = piece.min(header.bytes - offset);
        file.write_at(zeros.get(..mapped_length(piece)).unwrap_or_default(), offset)?;
        offset += piece;
        unsynced += mapped_length(piece);
        if sync_every.is_some_and(|limit| unsynced >= limit || offset == header.bytes) {
            file.sync()?;
            unsynced = 0;
        }
    }
    Ok(())
}

/// Real space for the whole file; written zeros where the file system cannot promise it.
fn allocate(file: &dyn File, bytes: u64) -> io::Result<()> {
    match file.allocate(bytes) {
        Err(error) if error.kind() == Io::Unsupported => {
            let zeros = [0; 4096];
            let mut offset = file.len()?;
            while offset < bytes {
                let piece = (bytes - offset).min(zeros.len() as u64);
                file.write_at(zeros.get(..mapped_length(piece)).unwrap_or_default(), offset)?;
                offset += piece;
            }
            Ok(())
        }
        other => other,
    }
}
