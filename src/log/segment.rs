//! A segment: one preallocated, mapped file, and how it is made.
//!
//! **Protocol P1.** Under a temporary name, exclusive: allocate for real, write the header,
//! sync, rename, sync the directory. A segment that can be found has a header that is durable;
//! one that cannot be finished gives its space back. Files are never recycled or truncated
//! under their name.

use std::io::{self, ErrorKind as Io};
use std::sync::Arc;

use zerocopy::IntoBytes;

use crate::disk::map::{Map, MapWriter};
use crate::disk::{Access, Directory, File, Through, temporary_name};
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::Frame;
use crate::format::header::HEADER_BYTES;
use crate::format::segment::{FIRST_FRAME, SegmentHeader, file_name};
use crate::id::{Position, StoreId};

/// A segment, mapped. Frames can be read below the map's limit.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    pub(crate) map: Arc<Map>,
    pub(crate) file: Arc<dyn File>,
}

impl Segment {
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

    /// True if nothing but zeros is read from here on. Recovery judged what the *disk* has; the
    /// page cache may still show frames that the disk refused. Whoever wrote into those pages
    /// would bring the rest of them to the disk with it: they would stand in the padding of new
    /// frames, where zeros are summed up, and behind the end of the log.
    pub(crate) fn is_untouched_from(&self, offset: u64, through: Through) -> io::Result<bool> {
        const PIECE: u64 = 1 << 20;
        let mut bytes = Vec::new();
        // First the rest of the page.
        let (mut at, mut end) = (offset, (offset + 1).next_multiple_of(4096));
        while at < self.header.bytes {
            bytes.resize(mapped_length(end.min(self.header.bytes) - at), 0);
            self.file.read_at(&mut bytes, at)?;
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at = end;
            // What a close punched need not be read: the kernel looks for cached pages in space
            // that was never written. Those that write by `pwrite` are not known to.
            if through == Through::Map
                && let Ok(found) = self.file.next_data(at)
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
        Ok(Self { header, map: Arc::new(map), file })
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
        Ok((Self { header, map, file }, writer))
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

/// How segments are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Making {
    /// Zeros are written so many bytes at a time. The page cache keeps them in pieces of that
    /// size, and a sync of one small frame writes a whole piece: 16 KiB where frames are synced
    /// one by one, 64 KiB (fewer faults) where they are not.
    pub(crate) zeros_at_a_time: usize,
    /// Sync after each so many bytes of zeros, so that the syncs of others are not held up
    /// by one long one; `None`: leave them to the kernel (allocated space reads as zeros anyway).
    pub(crate) sync_zeros_every: Option<usize>,
    pub(crate) through: Through,
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
    Ok((Arc::new(Segment { header, map, file }), writer))
}

fn fill(file: &dyn File, store: StoreId, header: &SegmentHeader, making: Making) -> io::Result<()> {
    allocate(file, header.bytes)?;
    file.write_at(header.encode(store).as_bytes(), 0)?;
    file.sync()?;
    if making.through == Through::Pwrite {
        return Ok(());
    }
    let zeros = vec![0; making.zeros_at_a_time];
    let (mut offset, mut unsynced) = (FIRST_FRAME, 0);
    while offset < header.bytes {
        // The first piece ends where the later ones are aligned.
        let piece = zeros.len() as u64 - offset % zeros.len() as u64;
        let piece = piece.min(header.bytes - offset);
        file.write_at(zeros.get(..mapped_length(piece)).unwrap_or_default(), offset)?;
        offset += piece;
        unsynced += mapped_length(piece);
        if making.sync_zeros_every.is_some_and(|limit| unsynced >= limit || offset == header.bytes) {
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
