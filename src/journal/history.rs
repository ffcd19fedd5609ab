//! The history of one entity: its frames alone, found by the index, from both ends.

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;

use zerocopy::little_endian::U32;

use crate::error::{Error, Result};
use crate::format::index::{EntityHash, EntityRecord};
use crate::id::{EntryAt, KindId};
use crate::index::catalog::IndexRef;
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
    members: Members<'v>,
    first: usize,
    end: usize,
}

/// Ordinals in one segment, ascending.
#[derive(Clone)]
enum Members<'v> {
    /// Gathered from the arrays of a segment that is being written.
    Gathered(Box<[u32]>),
    /// In place in the index file.
    InIndex(&'v [U32]),
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
        while let Some(at) = newest {
            let section = self.view.catalog.at(at.segment()).map(|row| Loaded::open(self.view, row));
            let before = match section.transpose()?.flatten() {
                Some(section) => {
                    let (span, before) = self.span(section, at, hash);
                    if span.first < span.end {
                        spans.push_front(span);
                    }
                    before
                }
                // Behind the end of the view: the chain leads into it.
                None => self.before_segment(at, hash)?,
            };
            if before.is_some_and(|before| before.segment() >= at.segment()) {
                return Err(Error::corrupt(format!("follow an entity back from segment {}", at.segment()))
                    .sides("an older segment", before.map_or(0, EntryAt::segment)));
            }
            newest = before;
        }
        Ok(spans)
    }

    /// The entity's newest entry before a segment that is newer than the view.
    fn before_segment(&self, newest: EntryAt, hash: EntityHash) -> Result<Option<EntryAt>> {
        let catalog = self.view.index().catalog();
        let Some(section) = catalog.section(newest.segment()) else { return Ok(None) };
        let opened = section.open()?;
        Ok(match opened.index() {
            IndexRef::Sealed(index, _) => index.find(hash).and_then(somewhere_before),
            IndexRef::Live(live) => self.walk(&opened.segment, &live, newest, hash, |_| {}),
        })
    }

    /// The entity's frames in one segment, and its newest entry before it.
    fn span(&self, section: Loaded<'v>, newest: EntryAt, hash: EntityHash) -> (Span<'v>, Option<EntryAt>) {
        match section.index.clone() {
            IndexRef::Sealed(index, _) => {
                let Some(record) = index.find(hash) else {
                    return (
                        Span { section, members: Members::Gathered(Box::default()), first: 0, end: 0 },
                        None,
                    );
                };
                let members = index.members(record);
                let end = members.partition_point(|ordinal| ordinal.get() < section.count);
                (
                    Span { section, members: Members::InIndex(members), first: 0, end },
                    somewhere_before(record),
                )
            }
            IndexRef::Live(live) => {
                let mut ordinals = Vec::new();
                let before = self.walk(section.segment(), &live, newest, hash, |ordinal| {
                    if ordinal < section.count {
                        ordinals.push(ordinal);
                    }
                });
                ordinals.reverse();
                let (end, members) = (ordinals.len(), Members::Gathered(ordinals.into_boxed_slice()));
                (Span { section, members, first: 0, end }, before)
            }
        }
    }

    /// Walks back over the entity's entries in the arrays of a segment, to its newest one before.
    fn walk(
        &self,
        segment: &Segment,
        live: &LiveIndex,
        newest: EntryAt,
        hash: EntityHash,
        mut visit: impl FnMut(u32),
    ) -> Option<EntryAt> {
        let mut at = if newest.ordinal() == EntryAt::SOMEWHERE {
            self.newest_in(segment, live, hash)
        } else {
            Some(newest)
        };
        while let Some(here) = at.filter(|at| at.segment() == segment.number()) {
            wait_for(live, here.ordinal());
            visit(here.ordinal());
            at = live.previous(here.ordinal()).filter(|previous| *previous < here);
        }
        at
    }

    /// An index file of a newer segment names this one, but no place in it: search the headers.
    fn newest_in(&self, segment: &Segment, live: &LiveIndex, hash: EntityHash) -> Option<EntryAt> {
        (0..live.count()).rev().find_map(|ordinal| {
            let offset = live.offset(ordinal).filter(|offset| *offset != 0)?;
            let frame = segment.frame(offset)?;
            let same = self.view.index().hash(frame.header.kind.get(), frame.key()) == hash;
            same.then(|| EntryAt::new(segment.number(), ordinal))
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

/// The segment that an index record names, without a place in it.
fn somewhere_before(record: &EntityRecord) -> Option<EntryAt> {
    (record.previous_segment() != 0).then(|| EntryAt::new(record.previous_segment(), EntryAt::SOMEWHERE))
}

/// The directory knows of an entry a moment before the arrays do: the writer is storing it now.
fn wait_for(live: &LiveIndex, ordinal: u32) {
    /// More looks than any writer needs between two stores; a dead one never comes.
    const LOOKS: usize = 10_000;
    for _ in 0..LOOKS {
        if ordinal < live.count() {
            return;
        }
        std::thread::yield_now();
    }
}

/// How many frames ahead the processor is told what will be read.
const AHEAD: usize = 8;

impl Span<'_> {
    /// The next ordinal from one end.
    #[inline]
    fn take(&mut self, from_back: bool) -> Option<u32> {
        if self.first >= self.end {
            return None;
        }
        let (at, ahead) = if from_back {
            self.end -= 1;
            (self.end, self.end.checked_sub(AHEAD))
        } else {
            self.first += 1;
            (self.first - 1, Some(self.first - 1 + AHEAD))
        };
        if let Some(ahead) = ahead.and_then(|ahead| self.members.get(ahead)) {
            self.section.prefetch(ahead);
        }
        self.members.get(at)
    }
}

impl Members<'_> {
    #[inline]
    fn get(&self, at: usize) -> Option<u32> {
        match self {
            Self::Gathered(ordinals) => ordinals.get(at).copied(),
            Self::InIndex(ordinals) => ordinals.get(at).map(|ordinal| ordinal.get()),
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
