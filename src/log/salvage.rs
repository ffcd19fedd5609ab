//! Reading a segment for those who look for what is left of it: around sectors that cannot be
//! read, under a damaged header, and from the next whole batch on.

use std::io;
use std::sync::Arc;

use crate::disk::map::Map;
use crate::disk::{Access, DIRECT_ALIGN, Directory, File};
use crate::error::{Error, ErrorKind, Result, is_passing};
use crate::format::checksum::Sum;
use crate::format::compacted::{Cover, Part};
use crate::format::extension::idempotency_key;
use crate::format::frame::{Frame, flag};
use crate::format::header::{FileHeader, FileType, HEADER_BYTES};
use crate::format::index::Layout;
use crate::format::segment::{FILE_BYTES_MAX, FIRST_FRAME, SegmentHeader, file_name};
use crate::format::system::{Open, System};
use crate::id::{Position, StoreId};
use crate::log::grid::valid_frames;
use crate::log::part::open_part_file;
use crate::log::segment::{Segment, open_header};

/// A copy of a segment, as far as it can be had.
pub(crate) struct Salvaged {
    pub(crate) segment: Segment,
    pub(crate) bytes: Vec<u8>,
    /// What is wrong with the header, if its frames validate all the same.
    pub(crate) header_error: Option<Error>,
    /// Ranges that the device refused, which are zero in the copy.
    pub(crate) unreadable: Vec<(u64, u64, io::Error)>,
}

/// Reads a segment for those who look for what is left of it.
///
/// A damaged header is replaced by what the file's name, its length and its index say, if a
/// frame validates with that: 64 bits match. A good header of another segment or store is not.
pub(crate) fn salvage(directory: &dyn Directory, store: StoreId, number: u32) -> Result<Salvaged> {
    let path = || directory.path().join(file_name(number));
    let doing = |e| Error::io("open a segment", e).at(path()).place(number, 0);
    let file = directory.open(&file_name(number), Access::Read).map_err(doing)?;
    let length = file.len().map_err(doing)?;
    if length > FILE_BYTES_MAX {
        let error = Error::corrupt("open a segment").at(path()).place(number, 0);
        return Err(error.sides(format!("at most {FILE_BYTES_MAX} bytes"), length));
    }
    let (bytes, unreadable) = read_around_errors(&*file, length);
    let with = |header| Segment::new(header, Arc::new(Map::of_bytes(&[])), Arc::clone(&file));
    let error = match SegmentHeader::read(&bytes, store, number, length) {
        Ok(header) => return Ok(Salvaged { segment: with(header), bytes, header_error: None, unreadable }),
        Err(error) => error.at(path()).place(number, 0),
    };
    let candidates = match FileHeader::read(&bytes, FileType::Segment) {
        Ok(header) if header.store() != store || header.number.get() != u64::from(number) => {
            return Err(error);
        }
        Ok(header) => [Some(header.salt.get()), None],
        Err(_) if error.kind() == ErrorKind::FormatTooNew => return Err(error),
        Err(_) => {
            let index = index_says(directory, store, number);
            [FileHeader::salt_if_of(&bytes, store), index.map(|index| index.salt)]
        }
    };
    for salt in candidates.into_iter().flatten() {
        let header =
            SegmentHeader { number, salt, follows: Position::ZERO, bytes: length / 8 * 8, created: 0 };
        let segment = with(header);
        if valid_frames(&segment, &bytes, FIRST_FRAME, bytes.len()).next().is_some() {
            return Ok(Salvaged { segment, bytes, header_error: Some(error), unreadable });
        }
    }
    match unreadable.into_iter().next() {
        // What stands there nobody knows.
        Some((0, _, refused)) => {
            Err(Error::io("read the header of a segment file", refused).at(path()).place(number, 0))
        }
        _ => Err(error),
    }
}

/// The header of a segment of which the header, or the length, is not as it was, for what validates of its frames; `None`:
/// nothing does.
pub(crate) fn header_for_the_rest(
    directory: &dyn Directory,
    store: StoreId,
    number: u32,
) -> Option<SegmentHeader> {
    let Salvaged { segment, header_error, .. } = salvage(directory, store, number).ok()?;
    header_error.map(|_| segment.header)
}

/// What a segment follows whose header cannot be read, if a life began with it: the first frame of that life says where the
/// log had ended. Segments before it, down to there, are dead, however good they look.
///
/// # Errors
///
/// One that passes.
pub(crate) fn follows_by_its_frames(
    directory: &dyn Directory,
    store: StoreId,
    number: u32,
) -> Result<Option<Position>> {
    let Salvaged { segment, bytes, .. } = match salvage(directory, store, number) {
        Ok(salvaged) => salvaged,
        Err(error) if error.is_passing() => return Err(error),
        Err(_) => return Ok(None),
    };
    let mut next = FIRST_FRAME;
    for (at, frame) in valid_frames(&segment, &bytes, FIRST_FRAME, bytes.len()) {
        // Behind a gap, or behind an entry, may begin a life that went on in the segment.
        if at != next || !frame.header.is_system() {
            break;
        }
        next += frame.len() as u64;
        if System::of(frame.header.operation) == Some(System::Open) {
            let end = Open::read(frame.payload()).map(|open| open.recovered_end);
            return end
                .filter(|end| end.segment() < number)
                .map_or(Ok(None), |end| behind(directory, store, end));
        }
    }
    Ok(None)
}

/// What goes on at an end. Where that is the beginning of a segment, of which nothing was written, it follows what that follows.
fn behind(directory: &dyn Directory, store: StoreId, end: Position) -> Result<Option<Position>> {
    if end.offset() != FIRST_FRAME {
        return Ok(Some(end));
    }
    match open_header(directory, store, end.segment(), Access::Read) {
        Ok((_, header)) => Ok(Some(header.follows)),
        Err(error) if error.is_passing() => Err(error),
        Err(_) => Ok(None),
    }
}

/// As [`salvage`], for a part: of one whose header cannot be read the manifest says what it is.
pub(crate) fn salvage_part(
    directory: &dyn Directory,
    store: StoreId,
    cover: &Cover,
    part: Part,
) -> Result<Salvaged> {
    let (file, created) = match open_part_file(directory, store, part.number) {
        Ok((file, found, created)) if found == *cover => (file, created),
        Ok((_, found, _)) => {
            return Err(Error::corrupt("compare a part with the manifest")
                .at(directory.path().join(file_name(part.number)))
                .sides(format!("{cover:?}"), format!("{found:?}")));
        }
        Err(error) if error.kind() == ErrorKind::Io && !error.is_not_found() => {
            let file = directory.open(&file_name(part.number), Access::Read).map_err(|_| error)?;
            (file, 0)
        }
        Err(error) => return Err(error),
    };
    let (bytes, unreadable) = read_around_errors(&*file, part.bytes);
    let Part { number, salt, bytes: length, .. } = part;
    let header = SegmentHeader { number, salt, follows: cover.follows, bytes: length, created };
    let segment = Segment::new(header, Arc::new(Map::of_bytes(&[])), file);
    Ok(Salvaged { segment, bytes, header_error: None, unreadable })
}

/// What the index of a segment says of it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Indexed {
    pub(crate) salt: u64,
    pub(crate) end: u64,
    pub(crate) last_seq: u64,
}

/// Reads what an index that checks out says of its segment, whatever has become of that.
pub(crate) fn index_says(directory: &dyn Directory, store: StoreId, number: u32) -> Option<Indexed> {
    let file = directory.open(&crate::format::index::file_name(number), Access::Read).ok()?;
    let length = file.len().ok().filter(|length| *length <= FILE_BYTES_MAX)?;
    let Checked { layout, salt } = check_index(&*file, length, store, number, None).ok()?.ok()?;
    let last_seq = (layout.first_seq + layout.frames as u64).saturating_sub(1);
    Some(Indexed { salt, end: layout.end, last_seq })
}

/// True if there is an index of a segment, whatever has become of both: then the segment was there.
///
/// # Errors
///
/// One that passes.
pub(crate) fn has_index(directory: &dyn Directory, number: u32) -> Result<bool> {
    match directory.open(&crate::format::index::file_name(number), Access::Read) {
        Err(error) if is_passing(&error) => Err(Error::io("look for an index", error)),
        opened => Ok(opened.is_ok()),
    }
}

/// What is known of the file of an index whose checksums are right.
pub(crate) struct Checked {
    pub(crate) layout: Layout,
    /// The salt of its segment.
    pub(crate) salt: u64,
}

/// Checks the file of an index of so many bytes, of the segment with that salt, or with any. The file is read by pieces: it
/// may be as large as a part of its segment.
///
/// # Errors
///
/// An error of reading, and within it what does not check out.
pub(crate) fn check_index(
    file: &dyn File,
    length: u64,
    store: StoreId,
    number: u32,
    salt: Option<u64>,
) -> io::Result<Result<Checked>> {
    const PIECE: usize = 256 << 10;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let mut piece = vec![0; length.min(HEADER_BYTES)];
    file.will_be_read_in_order();
    file.read_at(&mut piece, 0)?;
    let own = FileHeader::read_of(&piece, FileType::Index, store).map(|header| header.salt.get());
    let read = own.and_then(|own| {
        let salt = salt.unwrap_or(own);
        Ok((salt, Layout::of_header(&piece, length, store, number, salt)?))
    });
    let (mut sum, mut at) = (Sum::default(), piece.len());
    while at < length {
        piece.resize(PIECE.min(length - at), 0);
        file.read_at(&mut piece, at as u64)?;
        sum.add(&piece);
        at += piece.len();
    }
    Ok(read.and_then(|(salt, (layout, crc))| match crc == sum.crc() {
        true => Ok(Checked { layout, salt }),
        false => Err(Error::corrupt("read an index: checksum of the body")),
    }))
}

/// The ranges of a segment's file that the device refuses.
pub(crate) fn unreadable(directory: &dyn Directory, number: u32) -> Vec<(u64, u64, io::Error)> {
    let file = directory.open(&file_name(number), Access::Read);
    let file = file.and_then(|file| Ok((file.len()?, file)));
    file.map_or_else(
        |_| Vec::new(),
        |(length, file)| read_around_errors(&*file, length.min(FILE_BYTES_MAX)).1,
    )
}

/// The whole file, page by page where it cannot be read at once. The kernel's cache takes many pages for one, and refuses
/// all of them where the device refuses one: so what it does not give is asked for past it, too.
pub(crate) fn read_around_errors(file: &dyn File, length: u64) -> (Vec<u8>, Vec<(u64, u64, io::Error)>) {
    const PAGE: usize = DIRECT_ALIGN;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let mut unreadable: Vec<(u64, u64, io::Error)> = Vec::new();
    if file.read_at(&mut bytes, 0).is_ok() {
        return (bytes, unreadable);
    }
    let mut memory = vec![0; 2 * PAGE];
    let start = memory.as_ptr().align_offset(PAGE).min(PAGE);
    for (page, at) in bytes.chunks_mut(PAGE).zip((0..).step_by(PAGE)) {
        let Err(error) = file.read_at(page, at) else { continue };
        let alone = memory.get_mut(start..start + PAGE).filter(|_| page.len() == PAGE);
        if let Some(alone) = alone
            && file.read_uncached(alone, at).is_ok()
        {
            page.copy_from_slice(alone);
            continue;
        }
        page.fill(0);
        let end = at + page.len() as u64;
        match unreadable.last_mut() {
            Some((_, last, _)) if *last == at => *last = end,
            _ => unreadable.push((at, end, error)),
        }
    }
    (bytes, unreadable)
}

/// Reads the rest of a segment once more, if what stands at a bad place in it is not as it was. True if so.
pub(crate) fn read_again(
    directory: &dyn Directory,
    segment: &Segment,
    bytes: &mut [u8],
    from: u64,
    bad: u64,
) -> bool {
    /// So much is compared, and all of a frame that is longer: there may be many bad places.
    const LOOK: usize = 16 << 10;
    let behind = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    let Some(here) = bytes.get(behind(bad)..) else { return false };
    let frame = Frame::parse(here).map_or(0, |frame| frame.len());
    let here = here.get(..LOOK.max(frame)).unwrap_or(here);
    let mut again = vec![0; here.len()];
    let Ok(file) = segment.file(directory) else { return false };
    if file.read_at(&mut again, bad).is_err() || again == here {
        return false;
    }
    let Some(rest) = bytes.get_mut(behind(from)..) else { return false };
    again.clear();
    again.resize(rest.len(), 0);
    if file.read_at(&mut again, from).is_err() {
        return false;
    }
    rest.copy_from_slice(&again);
    true
}

/// Where whole batches begin again: `next`, the first good frame behind the bad place `at`, may
/// be in the middle of the batch that the bad place was part of, whose rest is lost with it.
pub(crate) fn whole_batch_from(
    segment: &Segment,
    bytes: &[u8],
    at: u64,
    next: u64,
    last_of_open_batch: Option<u64>,
) -> Option<u64> {
    let frame_at = |at: u64| usize::try_from(at).ok().and_then(|at| bytes.get(at..)).and_then(Frame::parse);
    let Some(found) = frame_at(next) else { return Some(next) };
    // If the bad frame's lengths lead to the good one, its flags are as good as they.
    let bad = frame_at(at).filter(|bad| at + bad.len() as u64 == next);
    // Else only the clock can tell: it is read once a batch.
    let open = last_of_open_batch.and_then(frame_at);
    let is_rest = match (bad, open) {
        (Some(bad), _) => bad.header.has(flag::MORE),
        (None, Some(open)) => open.header.time.get() == found.header.time.get(),
        (None, None) => false,
    };
    if !is_rest || found.header.is_system() || idempotency_key(found.extensions()).is_some() {
        return Some(next);
    }
    let mut more = true;
    for (offset, frame) in valid_frames(segment, bytes, next, bytes.len()) {
        if !more {
            return Some(offset);
        }
        more = frame.header.has(flag::MORE);
    }
    None
}
