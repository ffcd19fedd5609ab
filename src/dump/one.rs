//! The frames of one entity, found by the index and not by a walk over all of the log.
//!
//! A frame says of itself whether its batch goes on behind it, and not where that began. For the same answer as that of a walk
//! over the segment, the frames before it are looked at, back to one with which a batch ends, and from there the headers forward.

use std::fmt;

use crate::dump::frame::FrameInfo;
use crate::error::{Error, Result};
use crate::format::frame::{Frame, flag};
use crate::format::segment::FIRST_FRAME;
use crate::id::{KindId, Position};
use crate::journal::entry::Entry;
use crate::journal::history::History;
use crate::journal::view::View;
use crate::log::segment::Segment;

/// The frames of one entity that there are, oldest first; double-ended. Nothing else is read.
///
/// Where compaction has dropped older ones they are those that it kept. A [`FrameInfo`] of it says the same as one of
/// [`Frames`](crate::dump::Frames), its batch included. One frame is in memory at a time, and of a segment that nobody has
/// indexed the places of the entity's frames.
///
/// After an error the iterator has ended. What lies behind it is found by a walk over everything:
/// [`Survey::frames_from`](crate::dump::Survey::frames_from).
///
/// ```
/// use esker::dump::EntityFrames;
/// use esker::{Journal, Record};
/// # fn main() -> esker::Result<()> {
/// let journal = Journal::in_memory()?;
/// let note = journal.kind("note")?;
/// for text in ["one", "two", "three"] {
///     journal.append(Record::new(note, b"a", text.as_bytes()))?;
/// }
/// let view = journal.view();
/// let newest = EntityFrames::behind(&view, note, b"a", 0).next_back().unwrap()?;
/// assert_eq!((newest.seq, &*newest.payload), (3, &b"three"[..]));
/// assert_eq!(newest.batch, Some(newest.position));
/// # Ok(()) }
/// ```
pub struct EntityFrames<'v> {
    view: &'v View,
    entries: History<'v>,
    batch: Option<Batch>,
    ended: bool,
}

/// The frames of a batch, all of one segment.
#[derive(Clone, Copy, Debug)]
struct Batch {
    segment: u32,
    first: u64,
    /// Where the last frame of it ends that was looked at.
    end: u64,
}

impl<'v> EntityFrames<'v> {
    /// Those behind a Seq; behind 0 are all.
    #[must_use]
    pub fn behind(view: &'v View, kind: KindId, key: &[u8], seq: u64) -> Self {
        Self { view, entries: view.entity_behind(kind, key, seq), batch: None, ended: false }
    }

    fn told(&mut self, entry: Result<Entry<'_>>) -> Result<FrameInfo> {
        let frame = entry.and_then(|entry| self.with_batch(&entry));
        self.ended = frame.is_err();
        frame
    }

    fn with_batch(&mut self, entry: &Entry<'_>) -> Result<FrameInfo> {
        let mut frame = FrameInfo::of_entry(entry);
        let (segment, offset) = (frame.position.segment(), frame.position.offset());
        let is_in = |batch: &Batch| batch.segment == segment && (batch.first..batch.end).contains(&offset);
        let batch = match self.batch.filter(is_in) {
            Some(batch) => batch,
            None => batch_of(self.view, frame.seq, offset)?,
        };
        self.batch = Some(batch);
        frame.batch = Some(Position::new(segment, batch.first));
        Ok(frame)
    }
}

/// The batch of the entry with this Seq, at this offset.
fn batch_of(view: &View, seq: u64, offset: u64) -> Result<Batch> {
    let missing = || Error::corrupt(format!("find the batch of entry {seq}: no index has it"));
    let section = view.load(seq)?.ok_or_else(missing)?;
    let ordinal = section.ordinal(seq).ok_or_else(missing)?;
    let segment = &**section.segment();
    let mut from = FIRST_FRAME;
    for before in (0..ordinal).rev() {
        let at = section.index.offset(before).unwrap_or(0);
        let frame = good_frame(segment, at)?;
        if !frame.header.has(flag::MORE) {
            from = at + frame.len() as u64;
            break;
        }
    }
    let first = first_of_batch(segment, from, offset)?;
    Ok(Batch { segment: segment.number(), first, end: end_of_batch(segment, offset) })
}

/// Where the batch of the frame at an offset begins, from a place on with which one does.
fn first_of_batch(segment: &Segment, from: u64, offset: u64) -> Result<u64> {
    let (mut first, mut at) = (from, from);
    while at < offset {
        let frame = good_frame(segment, at)?;
        at += frame.len() as u64;
        if !frame.header.has(flag::MORE) {
            first = at;
        }
    }
    Ok(first)
}

/// Where the batch of the frame at an offset ends, or what of it can be read does.
fn end_of_batch(segment: &Segment, offset: u64) -> u64 {
    let mut at = offset;
    while let Ok(frame) = good_frame(segment, at) {
        at += frame.len() as u64;
        if !frame.header.has(flag::MORE) {
            break;
        }
    }
    at.max(offset + 1)
}

/// A frame whose header is that which was written at this place.
fn good_frame(segment: &Segment, offset: u64) -> Result<Frame<'_>> {
    let position = segment.position(offset);
    let frame = segment.frame(offset).filter(|_| offset >= FIRST_FRAME);
    frame.filter(|frame| frame.head_is_good(segment.header.salt, position)).ok_or_else(|| {
        Error::corrupt("find where a batch begins: a frame before it does not validate")
            .place(position.segment(), offset)
    })
}

impl Iterator for EntityFrames<'_> {
    type Item = Result<FrameInfo>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let entry = self.entries.next()?;
        Some(self.told(entry))
    }
}

impl DoubleEndedIterator for EntityFrames<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let entry = self.entries.next_back()?;
        Some(self.told(entry))
    }
}

impl fmt::Debug for EntityFrames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntityFrames({:?})", self.entries)
    }
}
