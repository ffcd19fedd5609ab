//! The frames of a segment, counted: those of a large one from its beginning and from its middle at once.
//!
//! Where the second half begins is a guess. The walk from the beginning tells: if it comes to exactly that place, and
//! knows there what the other walk began with, the two are one. Else it goes on from where it is to the end, as if there
//! had been no other; nothing is read again. So what is counted is what one walk counts, whatever is in the segment.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, scope};

use crate::disk::Directory;
use crate::dump::frame::FrameInfo;
use crate::dump::walk::{Ends, Frames, Lent, Stretch, good_from};
use crate::error::{Error, Result};
use crate::format::segment::{FIRST_FRAME, SegmentHeader, file_name};
use crate::format::system::System;
use crate::id::{FRAME_ALIGN, StoreId};

/// A segment with fewer bytes of frames is not worth a thread.
const WORTH_A_THREAD: u64 = 8 << 20;

/// What is counted of the frames of a segment.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Counted {
    /// The Seq of the first entry whose content is good.
    pub(super) first_seq: Option<u64>,
    /// The Seq of the last one.
    pub(super) last_seq: Option<u64>,
    /// How many there are.
    pub(super) entries: u64,
    /// Where the last frame ends.
    pub(super) end: Option<u64>,
    /// Places where no frame validates, and frames whose content does not.
    pub(super) damaged: u64,
    /// The last Seq before the first frame, if that says it in its header: a preamble has more to say.
    seq_before: Option<u64>,
    /// The last frame is a seal, behind which nothing counts.
    is_sealed: bool,
}

impl Counted {
    /// Counts the frames of a stretch, in two halves if it is worth it.
    pub(super) fn of(directory: &Arc<dyn Directory>, store: StoreId, stretch: &Stretch) -> Result<Self> {
        Ok(in_halves(directory, store, stretch, WORTH_A_THREAD)?.0)
    }

    fn add(&mut self, frame: &FrameInfo) {
        if self.end.is_none() && frame.system() != Some(System::Preamble) {
            self.seq_before = Some(frame.seq_before());
        }
        self.is_sealed = frame.system() == Some(System::Seal);
        self.end = Some(frame.position.offset() + frame.frame_bytes);
        self.damaged += u64::from(!frame.body_good);
        if !frame.is_system() && frame.body_good {
            self.first_seq = self.first_seq.or(Some(frame.seq));
            self.last_seq = Some(frame.seq);
            self.entries += 1;
        }
    }

    /// With what stands right behind it.
    fn with(self, behind: Self) -> Self {
        Self {
            first_seq: self.first_seq.or(behind.first_seq),
            last_seq: behind.last_seq.or(self.last_seq),
            entries: self.entries + behind.entries,
            end: behind.end,
            damaged: self.damaged + behind.damaged,
            seq_before: self.seq_before,
            is_sealed: behind.is_sealed,
        }
    }
}

/// A walk, and what is counted of it so far.
struct Counting {
    frames: Frames,
    counted: Counted,
}

impl Counting {
    fn of(directory: &Arc<dyn Directory>, store: StoreId, stretch: Stretch) -> Self {
        let frames = Frames::over(Arc::clone(directory), store, VecDeque::from([stretch]));
        Self { frames: frames.heads(), counted: Counted::default() }
    }

    /// Counts what stands next; false if nothing does.
    fn next(&mut self) -> Result<bool> {
        let Some(item) = self.frames.lend() else { return Ok(false) };
        match item? {
            Lent::Frame(frame) => self.counted.add(frame),
            Lent::Damage(_) => self.counted.damaged += 1,
        }
        Ok(true)
    }

    /// Goes on until a frame ends at this place or behind it. False: the frames end before that, or with that.
    fn to(&mut self, place: u64) -> Result<bool> {
        while self.counted.end < Some(place) {
            if !self.next()? {
                return Ok(false);
            }
        }
        Ok(!self.counted.is_sealed)
    }

    fn go_to_the_end(mut self) -> Result<Counted> {
        while self.next()? {}
        Ok(self.counted)
    }
}

/// About where the middle of a stretch is, and where its frames end at the latest, if two halves are worth it. A part is
/// judged as a whole.
fn about_the_middle(stretch: &Stretch, worth: u64) -> Option<(&SegmentHeader, u64, u64)> {
    let header = stretch.header.as_ref().ok().filter(|_| stretch.cover.is_none())?;
    let until = match stretch.ends {
        Ends::At(end) => end.min(header.bytes),
        _ => header.bytes,
    };
    let bytes = until.checked_sub(stretch.from).filter(|bytes| *bytes >= worth)?;
    let about = (stretch.from + bytes / 2).next_multiple_of(FRAME_ALIGN).max(FIRST_FRAME);
    Some((header, about, until))
}

/// Counts a stretch; answers also whether the second half was counted by itself.
fn in_halves(
    directory: &Arc<dyn Directory>,
    store: StoreId,
    stretch: &Stretch,
    worth: u64,
) -> Result<(Counted, bool)> {
    let mut first = Counting::of(directory, store, stretch.clone());
    let Some((header, about, until)) = about_the_middle(stretch, worth) else {
        return Ok((first.go_to_the_end()?, false));
    };
    let middle = match good_from(&**directory, header, about, until) {
        Ok(Some(middle)) => middle,
        Ok(None) => return Ok((first.go_to_the_end()?, false)),
        Err(error) => {
            // Nobody needs what is behind a seal. Else the device is not asked again for what it has refused.
            let before = Stretch { ends: Ends::At(about), ..stretch.clone() };
            let counted = Counting::of(directory, store, before).go_to_the_end()?;
            if counted.is_sealed {
                return Ok((counted, false));
            }
            let path = directory.path().join(file_name(header.number));
            return Err(Error::io("read a segment", error).at(path));
        }
    };
    let stretch = Stretch { from: middle, rest_of: None, ..stretch.clone() };
    let mut second = Counting::of(directory, store, stretch);
    let is_wanted = AtomicBool::new(true);
    let (goes_on, is_there, second) = scope(|scope| {
        let count = || {
            loop {
                if !is_wanted.load(Ordering::Relaxed) || !second.next()? {
                    return Ok(second.counted);
                }
            }
        };
        let Ok(other) = Builder::new().name("esker-count".into()).spawn_scoped(scope, count) else {
            return (Ok(true), false, Ok(Counted::default()));
        };
        let goes_on = first.to(middle);
        let is_there = matches!(goes_on, Ok(true)) && first.counted.end == Some(middle);
        is_wanted.store(is_there, Ordering::Relaxed);
        (goes_on, is_there, other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    if !goes_on? {
        return Ok((first.counted, false));
    }
    let second = second?;
    // Whoever walks on remembers the last Seq, and nothing else.
    match is_there && first.frames.last_seq() == second.seq_before {
        true => Ok((first.counted.with(second), true)),
        false => Ok((first.go_to_the_end()?, false)),
    }
}

#[cfg(test)]
#[path = "halves_tests.rs"]
mod tests;
