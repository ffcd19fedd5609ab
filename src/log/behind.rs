//! What segments say that recovery has not come to yet.

use crate::disk::Directory;
use crate::format::frame::Frame;
use crate::format::header::HEADER_BYTES;
use crate::format::segment::FIRST_FRAME;
use crate::id::{Position, SEQ_MAX, StoreId};
use crate::log::grid::{last_nonzero, valid_frames};
use crate::log::salvage::salvage;
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
}

impl Behind {
    pub(crate) fn of(directory: &dyn Directory, store: StoreId, purpose: Purpose, later: &[u32]) -> Self {
        let mut behind = Self::default();
        let mut tail = Tail::default();
        for number in later {
            let Some(segment) = whole(directory, store, purpose, *number, &mut tail) else { continue };
            let written = tail.written();
            behind.cut += last_nonzero(tail.bytes().get(HEADER_BYTES..written).unwrap_or_default());
            for (_, frame) in valid_frames(&segment, tail.bytes(), FIRST_FRAME, written) {
                behind.frames += 1;
                behind.bound = behind.bound.max(frame.header.durable());
            }
        }
        behind
    }
}

/// The last Seq before the first frame that segments still hold.
pub(crate) fn seq_before_all(
    directory: &dyn Directory,
    store: StoreId,
    purpose: Purpose,
    later: &[u32],
) -> Option<u64> {
    let mut tail = Tail::default();
    later.iter().find_map(|number| {
        let segment = whole(directory, store, purpose, *number, &mut tail)?;
        let mut frames = valid_frames(&segment, tail.bytes(), FIRST_FRAME, tail.written());
        frames.next().map(|(_, frame)| seq_before(&frame))
    })
}

/// All of a segment that can be had.
fn whole(
    directory: &dyn Directory,
    store: StoreId,
    purpose: Purpose,
    number: u32,
    tail: &mut Tail,
) -> Option<Segment> {
    if purpose == Purpose::Salvage {
        let salvaged = salvage(directory, store, number).ok()?;
        *tail = Tail::of(salvaged.bytes);
        return Some(salvaged.segment);
    }
    let segment = Segment::open(directory, store, number).ok()?;
    tail.read(&*segment.file(directory).ok()?, 0, segment.header.bytes, Source::Cache).ok()?;
    Some(segment)
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
