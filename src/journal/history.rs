//! The history of one entity: its frames alone, found by the index, from both ends.

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;

use crate::error::{Error, Result};
use crate::format::index::{EntityHash, EntityRecord};
use crate::id::{KindId, Position};
use crate::index::catalog::SegmentIndex;
use crate::index::live::LiveIndex;
use crate::journal::entry::Entry;
use crate::journal::view::{Loaded, View};
use crate::log::segment::Segment;

/// The entries of one entity, oldest first; see [`View::entity`].
#[derive(Clone)]
pub struct History<'v> {
    view: &'v View,
    kind: KindId,
    key: Box<[u8]>,
    spans: Option<VecDeque<Span<'v>>>,
    ended: bool,
}

/// The entity's frames in one segment, and the part of them that is left.
#[derive(Clone)]
struct Span<'v> {
    section: Loaded<'v>,
    members: Members,
    first: usize,
    end: usize,
}

/// Ordinals in one segment, ascending.
#[derive(Clone)]
enum Members {
    /// Gathered from the arrays of a segment that is being written.
    Gathered(Box<[u32]>),
    /// In place in the index file.
    InIndex(EntityRecord),
}

impl<'v> History<'v> {
    pub(crate) fn new(view: &'v View, kind: KindId, key: &[u8]) -> Self {
        Self { view, kind, key: key.into(), spans: None, ended: false }
    }

    /// Finds the segments with frames of the entity, by the chain from the newest backward.
    fn find_spans(&self) -> Result<VecDeque<Span<'v>>> {
        let hash = self.view.index().hash(self.kind.0, &self.key);
        let mut spans = VecDeque::new();
        let mut newest = self.view.index().find(hash)?.map(|known| known.newest);
        while let Some(position) = newest {
            let at = self.view.catalog.at(position.segment());
            let section = at.map(|at| Loaded::open(self.view, at)).transpose()?.flatten();
            let before = match section {
                Some(section) => {
                    let (span, before) = self.span(section, position, hash);
                    if span.first < span.end {
                        spans.push_front(span);
                    }
                    before
                }
                // Behind the end of the view: the chain leads into it.
                None => self.before_segment(position, hash)?,
            };
            if before.is_some_and(|before| before.segment() >= position.segment()) {
                return Err(Error::corrupt(format!("follow an entity back from {position}"))
                    .sides("an older segment", before.unwrap_or_default()));
            }
            newest = before;
        }
        Ok(spans)
    }

    /// The entity's newest position before a segment that is newer than the view.
    fn before_segment(&self, newest: Position, hash: EntityHash) -> Result<Option<Position>> {
        let catalog = self.view.index().catalog();
        let Some(section) = catalog.section(newest.segment()) else { return Ok(None) };
        let opened = section.open()?;
        Ok(match opened.index() {
            SegmentIndex::Sealed(index) => index.find(hash).and_then(somewhere_before),
            SegmentIndex::Live(live) => {
                let mut at = self.start_in(&opened.segment, &live, newest, hash);
                while let Some(position) = at.filter(|at| at.segment() == newest.segment()) {
                    at = before(&opened.segment, &live, position);
                }
                at
            }
        })
    }

    /// The entity's frames in one segment, and its newest position before it.
    fn span(&self, section: Loaded<'v>, newest: Position, hash: EntityHash) -> (Span<'v>, Option<Position>) {
        match section.index.clone() {
            SegmentIndex::Sealed(index) => {
                let Some(record) = index.find(hash).copied() else {
                    return (
                        Span { section, members: Members::Gathered(Box::default()), first: 0, end: 0 },
                        None,
                    );
                };
                let end = index.members(&record).partition_point(|ordinal| ordinal.get() < section.count);
                let span = Span { section, members: Members::InIndex(record), first: 0, end };
                (span, somewhere_before(&record))
            }
            SegmentIndex::Live(live) => {
                let segment = section.segment();
                let mut ordinals = Vec::new();
                let mut at = self.start_in(segment, &live, newest, hash);
                while let Some(position) = at.filter(|at| at.segment() == segment.number()) {
                    if let Some(ordinal) = ordinal_of(segment, &live, position)
                        && ordinal < section.count
                    {
                        ordinals.push(ordinal);
                    }
                    at = before(segment, &live, position);
                }
                ordinals.reverse();
                let (end, members) = (ordinals.len(), Members::Gathered(ordinals.into_boxed_slice()));
                (Span { section, members, first: 0, end }, at)
            }
        }
    }

    /// Where to begin in a segment without an index file. An index file of a newer segment
    /// names the segment only (offset zero): then the headers are searched.
    fn start_in(
        &self,
        segment: &Segment,
        live: &LiveIndex,
        newest: Position,
        hash: EntityHash,
    ) -> Option<Position> {
        if newest.offset() != 0 {
            return Some(newest);
        }
        (0..live.count()).rev().find_map(|ordinal| {
            let offset = live.offset(ordinal).filter(|offset| *offset != 0)?;
            let frame = segment.frame(offset)?;
            let same = self.view.index().hash(frame.header.kind.get(), frame.key()) == hash;
            same.then(|| segment.position(offset))
        })
    }

    fn step(&mut self, from_back: bool) -> Result<Option<Entry<'v>>> {
        if self.spans.is_none() {
            self.spans = Some(self.find_spans()?);
        }
        loop {
            let Some(spans) = self.spans.as_mut() else { return Ok(None) };
            let Some(span) = (if from_back { spans.back_mut() } else { spans.front_mut() }) else {
                return Ok(None);
            };
            let Some(ordinal) = span.take(from_back) else {
                if from_back {
                    spans.pop_back()
                } else {
                    spans.pop_front()
                };
                continue;
            };
            let entry = span.section.entry(ordinal)?;
            // The hash says who it is; the key says so for certain.
            if entry.kind() == self.kind && entry.key() == &*self.key {
                return Ok(Some(entry));
            }
        }
    }

    fn end_with(&mut self, outcome: Result<Option<Entry<'v>>>) -> Option<Result<Entry<'v>>> {
        self.ended = !matches!(outcome, Ok(Some(_)));
        outcome.transpose()
    }
}

/// The segment that an index record names, as a position without a place in it.
fn somewhere_before(record: &EntityRecord) -> Option<Position> {
    (record.previous_segment() != 0).then(|| Position::new(record.previous_segment(), 0))
}

/// How often to look again for a frame that the writer is storing at this very moment.
const LOOKS: usize = 10_000;

/// The ordinal of the frame at a position, which may be one that nobody may see yet.
fn ordinal_of(segment: &Segment, live: &LiveIndex, position: Position) -> Option<u32> {
    if let Some(frame) = segment.frame(position.offset()) {
        return u32::try_from(frame.header.seq.get().checked_sub(live.first_seq())?).ok();
    }
    // The directory knows of a frame a moment before the arrays do.
    (0..LOOKS).find_map(|look| {
        if look > 0 {
            std::thread::yield_now();
        }
        live.ordinal_at(position.offset())
    })
}

/// The position of the entity's frame before the one at `position`.
fn before(segment: &Segment, live: &LiveIndex, position: Position) -> Option<Position> {
    live.previous(ordinal_of(segment, live, position)?).filter(|previous| *previous < position)
}

impl Span<'_> {
    /// The next ordinal from one end.
    fn take(&mut self, from_back: bool) -> Option<u32> {
        if self.first >= self.end {
            return None;
        }
        let at = if from_back {
            self.end -= 1;
            self.end
        } else {
            self.first += 1;
            self.first - 1
        };
        match (&self.members, &self.section.index) {
            (Members::Gathered(ordinals), _) => ordinals.get(at).copied(),
            (Members::InIndex(record), SegmentIndex::Sealed(index)) => {
                index.members(record).get(at).map(|ordinal| ordinal.get())
            }
            (Members::InIndex(_), SegmentIndex::Live(_)) => None,
        }
    }
}

impl<'v> Iterator for History<'v> {
    type Item = Result<Entry<'v>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let outcome = self.step(false);
        self.end_with(outcome)
    }
}

impl DoubleEndedIterator for History<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let outcome = self.step(true);
        self.end_with(outcome)
    }
}

impl FusedIterator for History<'_> {}

impl fmt::Debug for History<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "History({}/{})", self.kind, String::from_utf8_lossy(&self.key))
    }
}
