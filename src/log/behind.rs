//! What segments say that recovery has not come to yet.

use crate::disk::{Access, Directory};
use crate::error::{Error, Result, is_passing};
use crate::format::frame::{Frame, flag};
use crate::format::header::HEADER_BYTES;
use crate::format::segment::{FIRST_FRAME, file_name};
use crate::id::{Position, SEQ_MAX, StoreId};
use crate::log::grid::{last_nonzero, read_part, valid_frames};
use crate::log::lock::SeenLock;
use crate::log::salvage::{has_index, salvage};
use crate::log::segment::{Segment, look_at_preamble};
use crate::log::tail::{Source, Tail};
use crate::log::visitor::Purpose;

/// What stands in the segments behind the one in which the log ends. Most are spares, all zeros.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Behind {
    /// Bytes up to the last that is not zero, behind the headers.
    pub(crate) cut: u64,
    /// Frames that are whole.
    pub(crate) frames: u64,
    /// The greatest durable mark that they name.
    pub(crate) bound: Position,
    /// The log may go on in one of them, for whoever serves what is left: what it follows cannot be read, and it is no spare.
    pub(crate) may_go_on: bool,
}

impl Behind {
    /// # Errors
    ///
    /// One that passes: what could not be looked at for that may be what says that the log goes on.
    pub(crate) fn of(
        directory: &dyn Directory,
        store: StoreId,
        purpose: Purpose,
        later: &[u32],
    ) -> Result<Self> {
        let mut behind = Self::default();
        let mut tail = Tail::default();
        for number in later {
            let whole = whole(directory, store, purpose, *number, &mut tail);
            let may_go_on = match &whole {
                _ if purpose == Purpose::Write => false,
                Ok((_, has_header)) => !has_header,
                Err(error) if error.is_not_found() => has_index(directory, *number)?,
                Err(_) => !is_spare(directory, *number)?,
            };
            behind.may_go_on |= may_go_on && !is_ahead(directory, store, *number)?;
            let segment = match whole {
                Ok((segment, _)) => segment,
                Err(error) if error.is_passing() => return Err(error),
                Err(_) => continue,
            };
            let written = tail.written();
            behind.cut += last_nonzero(tail.bytes().get(HEADER_BYTES..written).unwrap_or_default());
            for (_, frame) in valid_frames(&segment, tail.bytes(), FIRST_FRAME, written) {
                behind.frames += 1;
                behind.bound = behind.bound.max(frame.header.durable());
            }
        }
        Ok(behind)
    }
}

/// The last Seq before the first frame that segments still hold.
///
/// # Errors
///
/// One that passes.
pub(crate) fn seq_before_all(
    directory: &dyn Directory,
    store: StoreId,
    purpose: Purpose,
    later: &[u32],
) -> Result<Option<u64>> {
    let mut tail = Tail::default();
    for number in later {
        let Some(segment) = left_of(directory, store, purpose, *number, &mut tail)? else { continue };
        let mut frames = valid_frames(&segment, tail.bytes(), FIRST_FRAME, tail.written());
        if let Some((_, frame)) = frames.next() {
            return Ok(Some(seq_before(&frame)));
        }
    }
    Ok(None)
}

/// As [`whole`]; `None`: nothing of it can be had. An error is one that passes.
fn left_of(
    directory: &dyn Directory,
    store: StoreId,
    purpose: Purpose,
    number: u32,
    tail: &mut Tail,
) -> Result<Option<Segment>> {
    match whole(directory, store, purpose, number, tail) {
        Ok((segment, _)) => Ok(Some(segment)),
        Err(error) if error.is_passing() => Err(error),
        Err(_) => Ok(None),
    }
}

/// All of a segment that can be had, and whether its header is as it was.
fn whole(
    directory: &dyn Directory,
    store: StoreId,
    purpose: Purpose,
    number: u32,
    tail: &mut Tail,
) -> Result<(Segment, bool)> {
    if purpose != Purpose::Salvage {
        match Segment::open(directory, store, number) {
            Ok(segment) => {
                let read = segment
                    .file(directory)
                    .and_then(|file| tail.read(&*file, 0, segment.header.bytes, Source::Cache));
                read.map_err(|error| Error::io("read a segment", error))?;
                return Ok((segment, true));
            }
            Err(error) if purpose == Purpose::Read && error.is_corruption() => {}
            Err(error) => return Err(error),
        }
    }
    let salvaged = salvage(directory, store, number)?;
    *tail = Tail::of(salvaged.bytes);
    Ok((salvaged.segment, salvaged.header_error.is_none()))
}

/// True if a writer has the store, and has not come to a segment.
fn is_ahead(directory: &dyn Directory, store: StoreId, number: u32) -> Result<bool> {
    let marks = SeenLock::look(directory, store)?.and_then(|lock| lock.marks());
    Ok(marks.is_some_and(|marks| marks.visible.max(marks.durable).segment() < number))
}

/// True of a segment that was made ahead and never used, whatever has become of its header: no frame begins where the first would.
fn is_spare(directory: &dyn Directory, number: u32) -> Result<bool> {
    const PAGE: u64 = 4096;
    let page = directory.open(&file_name(number), Access::Read).and_then(|file| {
        let length = usize::try_from(file.len()?.min(PAGE)).unwrap_or(0);
        read_part(&*file, 0, length)
    });
    match page {
        // Of one that begins with nothing but zeros nobody can tell what it was.
        Ok(page) => Ok((1..=HEADER_BYTES as u64).contains(&last_nonzero(&page))),
        Err(error) if is_passing(&error) => Err(Error::io("look for a spare", error)),
        Err(_) => Ok(false),
    }
}

/// The last Seq before a segment that has lost its header, as its first frame says.
///
/// # Errors
///
/// One that passes.
pub(crate) fn begins_behind(directory: &dyn Directory, store: StoreId, number: u32) -> Result<Option<u64>> {
    let mut tail = Tail::default();
    let Some(segment) = left_of(directory, store, Purpose::Salvage, number, &mut tail)? else {
        return Ok(None);
    };
    let first = valid_frames(&segment, tail.bytes(), FIRST_FRAME, tail.written()).next();
    Ok(first.filter(|(at, _)| *at == FIRST_FRAME).map(|(_, frame)| seq_before(&frame)))
}

/// The greatest Seq that anything in a segment has.
///
/// # Errors
///
/// One that passes.
pub(crate) fn last_seq_of(directory: &dyn Directory, store: StoreId, number: u32) -> Result<Option<u64>> {
    let mut tail = Tail::default();
    let Some(segment) = left_of(directory, store, Purpose::Salvage, number, &mut tail)? else {
        return Ok(None);
    };
    let frames = valid_frames(&segment, tail.bytes(), FIRST_FRAME, tail.written());
    Ok(frames.map(|(_, frame)| frame.header.seq.get()).max())
}

/// Where a segment ends before one that has lost its header, and with it what it follows: where the last Seq is reached before
/// what that one's preamble begins with.
pub(crate) fn end_before_headless(
    directory: &dyn Directory,
    store: StoreId,
    next: u32,
    (segment, tail, known): (&Segment, &Tail, (u64, Option<u64>)),
) -> Option<u64> {
    let mut behind = Tail::default();
    let (headless, _) = whole(directory, store, Purpose::Salvage, next, &mut behind).ok()?;
    let (at, frame) = valid_frames(&headless, behind.bytes(), FIRST_FRAME, behind.written()).next()?;
    (at == FIRST_FRAME).then(|| end_by_seq(segment, tail, known, seq_before(&frame)))
}

/// Where the last batch ends up to a Seq; where it is not reached, where the first batch begins that is behind it, and so not of
/// the log any more, or where the segment ends. `known` is the last Seq before `from`.
fn end_by_seq(segment: &Segment, tail: &Tail, (from, known): (u64, Option<u64>), through: u64) -> u64 {
    let (mut end, mut reached, mut start) = (from, known, None);
    for (at, frame) in valid_frames(segment, tail.bytes(), from, tail.written()) {
        let batch = *start.get_or_insert(at);
        if frame.header.seq.get() > through {
            return if reached == Some(through) { end } else { batch };
        }
        if !frame.header.has(flag::MORE) {
            (end, reached, start) = (at + frame.len() as u64, Some(frame.header.seq.get()), None);
        }
    }
    if reached == Some(through) { end } else { segment.header.bytes }
}

/// The Seq of the last user frame before this one.
pub(crate) fn seq_before(frame: &Frame<'_>) -> u64 {
    let before = frame.header.seq.get().saturating_sub(u64::from(!frame.header.is_system()));
    // More than that nobody writes, and nobody counts on from there.
    before.min(SEQ_MAX)
}

/// The greatest durable mark in the first frames of the segments. It was true when it was written, so
/// what it covers was synced, whether the frame that says so ever reached the disk or not.
pub(crate) fn named_durable(directory: &dyn Directory, store: StoreId, segments: &[u32]) -> Position {
    let named =
        |number: &u32| look_at_preamble(directory, store, *number, |frame| Some(frame.header.durable()));
    segments.iter().filter_map(named).max().unwrap_or_default()
}
