//! The history of one entity: its frames alone, found by the index, from both ends.

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::ops::RangeInclusive;

use zerocopy::little_endian::U32;

use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::flag;
use crate::format::index::{EntityHash, EntityRecord};
use crate::id::{EntryAt, KindId};
use crate::index::catalog::IndexRef;
use crate::index::entities::Known;
use crate::index::live::LiveIndex;
use crate::index::sealed::SealedIndex;
use crate::journal::entry::Entry;
use crate::journal::view::{Loaded, View, compacted};
use crate::log::segment::Segment;

/// The entries of one entity, oldest first; see [`View::entity`].
#[derive(Clone)]
pub struct History<'v> {
    view: &'v View,
    kind: KindId,
    key: Box<[u8]>,
    /// Only entries behind this Seq.
    behind: u64,
    asked: Asked,
    /// The generation of its newest entry, as far as it is known.
    newest: Option<u64>,
    /// It has to be dense: what compaction dropped is an error, and where that is possible at all.
    floor: Option<u64>,
    parts: Option<VecDeque<Part<'v>>>,
    /// The Seqs that were lost of segments that show some of it and do not know whose those were, and where in the row they are.
    doubts: Vec<(RangeInclusive<u64>, usize)>,
    /// What came last from each end: its generation, and whether a history may begin with it.
    front: Option<Came>,
    back: Option<Came>,
    ended: bool,
}

/// The generation of an entry that was shown, and whether nothing need stand before it.
#[derive(Clone, Copy, Debug)]
struct Came {
    seq: u64,
    generation: u64,
    is_first: bool,
}

impl Came {
    fn of(entry: &Entry<'_>) -> Self {
        Self { seq: entry.seq().get(), generation: entry.generation().get(), is_first: entry.is_first() }
    }

    /// True if this may stand right before `next`.
    fn precedes(self, next: Self) -> bool {
        next.is_first || self.generation.checked_add(1) == Some(next.generation)
    }
}

/// What of a history is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    All,
    /// What stands behind a Seq.
    Behind,
    /// The same by somebody who is told otherwise of what is missing behind everything.
    Followed,
    /// The first of that which is there, whatever may be missing before it.
    First,
}

/// One segment's part in the history.
#[derive(Clone)]
enum Part<'v> {
    Here(Span<'v>),
    /// The segment at this place in the row could not be opened, and may hold some of it.
    Unopened(usize),
    /// The one at this place is damaged, has no index, and is said to hold some of it.
    InDoubt(usize),
    /// Something newer than this may stand in what a reader has left unread.
    Unread(Option<Known>),
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

impl View {
    /// The entries of an entity behind a Seq, for somebody who is told by others of what is missing behind everything.
    pub(crate) fn entity_followed(&self, kind: KindId, key: &[u8], seq: u64) -> History<'_> {
        History::new(self, kind, key, seq).asked(Asked::Followed)
    }

    /// The first of them, whatever may be missing before it.
    pub(crate) fn first_of_entity_behind(
        &self,
        kind: KindId,
        key: &[u8],
        seq: u64,
    ) -> Result<Option<Entry<'_>>> {
        History::new(self, kind, key, seq).asked(Asked::First).next().transpose()
    }
}

impl<'v> History<'v> {
    pub(crate) fn new(view: &'v View, kind: KindId, key: &[u8], behind: u64) -> Self {
        let key = key.into();
        let (front, back, doubts) = (None, None, Vec::new());
        let (asked, newest, floor, parts, ended) = (Asked::All, None, None, None, false);
        Self { view, kind, key, behind, asked, newest, floor, parts, doubts, front, back, ended }
    }

    /// The same for somebody who asks for a part of it.
    pub(crate) fn asked(self, asked: Asked) -> Self {
        Self { asked, ..self }
    }

    /// The same, and `Compacted` where entries are missing.
    pub(crate) fn whole(mut self) -> Self {
        self.floor = Some(self.view.catalog.compacted.floor(self.kind.0)).filter(|floor| *floor > 0);
        self
    }

    /// Finds the segments with frames of the entity, by the chain from the newest backward.
    ///
    /// One that cannot be opened ends nothing here: what lies before it and behind it is served
    /// from both ends, and the error comes where it stands.
    fn find_parts(&mut self, hash: EntityHash) -> Result<VecDeque<Part<'v>>> {
        let mut parts = VecDeque::new();
        // What was dropped since, and forgotten, may be in a view from before. Asked behind each look at what is there now: a
        // compaction may have come between.
        let is_old = || self.view.is_older_than_the_row();
        let index = self.view.index();
        let mut known = index.find(hash)?;
        if known.is_none() && is_old() {
            known = self.view.index().last_known(hash)?;
        }
        self.newest = known.map(|known| known.generation);
        let mut newest = known.map(|known| if is_old() { self.place_of(known, hash) } else { known.newest });
        if newest.is_none() && is_old() {
            newest = self.search_below(u32::MAX, hash);
        }
        if self.unread_behind(known).is_some() {
            parts.push_back(Part::Unread(known));
        }
        while let Some(at) = newest {
            let row = self.view.catalog.at(at.segment());
            let mut is_shown = false;
            let before = match row.map(|row| (row, Loaded::open(self.view, row))) {
                Some((row, Ok(Some(section)))) => {
                    let first_seq = section.first_seq();
                    // Whoever has gone on behind what is damaged was told of it.
                    // And of what came behind the view's moment nothing is asked.
                    let is_asked = |lost: RangeInclusive<u64>| {
                        *lost.end() > self.behind && *lost.start() <= self.view.through
                    };
                    let is_news = |doubt: &Error| doubt.seqs().is_none_or(is_asked);
                    let doubt = section.doubt(self.view).filter(is_news);
                    let lost_from = section.lost_from();
                    let (mut span, before) = self.span(section, at, hash);
                    is_shown = span.end > 0;
                    match doubt {
                        Some(_) if !is_shown => parts.push_front(Part::InDoubt(row)),
                        Some(doubt) => {
                            let lost = doubt.seqs().unwrap_or(lost_from..=u64::MAX);
                            self.doubts.push((lost, row));
                        }
                        None => {}
                    }
                    span.skip_to_behind(self.behind);
                    if span.first < span.end {
                        parts.push_front(Part::Here(span));
                    }
                    if first_seq <= self.behind.saturating_add(1) {
                        // Whatever is older was not asked for.
                        return Ok(parts);
                    }
                    before
                }
                Some((row, Err(_))) => {
                    let next = self.view.catalog.sections.get(row + 1).map(|next| next.first_seq());
                    if matches!(next, Some(Ok(next)) if next <= self.behind.saturating_add(1)) {
                        // All of it was looked at, or not asked for.
                        return Ok(parts);
                    }
                    parts.push_front(Part::Unopened(row));
                    Before::Unknown
                }
                // Behind the end of the view: the chain leads into it.
                Some((_, Ok(None))) | None => self.before_segment(at, hash),
            };
            let before = match before {
                Before::At(before) => Some(before),
                // Behind the view it may have begun anew.
                Before::Nothing if !is_shown && is_old() => self.search_below(at.segment(), hash),
                Before::Nothing => None,
                Before::Unknown => self.search_below(at.segment(), hash),
            };
            if before.is_some_and(|before| before.segment() >= at.segment()) {
                return Err(Error::corrupt(format!("follow an entity back from segment {}", at.segment()))
                    .sides("an older segment", before.map_or(0, EntryAt::segment)));
            }
            newest = before;
        }
        Ok(parts)
    }

    /// Why something newer than what is known may be missing, if so.
    fn unread_behind(&self, known: Option<Known>) -> Option<Error> {
        let catalog = &self.view.catalog;
        if !catalog.may_be_unread(known) {
            return None;
        }
        let asked = (self.behind, self.view.asked_through());
        catalog.unread(&self.view.index().place, known, asked, self.asked == Asked::Followed)
    }

    /// Where its newest entry is. What is known may be its place in a part that came since, which is none in the segment that this
    /// view reads.
    fn place_of(&self, known: Known, hash: EntityHash) -> EntryAt {
        let at = known.newest;
        let generation = || {
            let opened = self.view.catalog.section(at.segment())?.open().ok()?;
            let IndexRef::Live(live) = opened.index() else { return Some(known.generation) };
            let offset = live.offset(at.ordinal()).filter(|offset| *offset != 0)?;
            let frame = opened.segment.frame(offset)?;
            // That of another entity may be the same.
            let is_its_own = self.view.index().hash(frame.header.kind.get(), frame.key()) == hash;
            is_its_own.then_some(frame.header.generation.get())
        };
        if generation() == Some(known.generation) {
            at
        } else {
            EntryAt::new(at.segment(), EntryAt::SOMEWHERE)
        }
    }

    /// The entity's newest entry before a segment that is newer than the view.
    fn before_segment(&self, newest: EntryAt, hash: EntityHash) -> Before {
        let catalog = self.view.index().catalog();
        let opened = catalog.section(newest.segment()).and_then(|section| section.open().ok());
        let Some(opened) = opened else { return Before::Unknown };
        match opened.index() {
            IndexRef::Sealed(index, _) => {
                let record = index.find(hash);
                record.map_or(Before::Unknown, |record| before_index(&opened.segment, index, record))
            }
            IndexRef::Live(live) => self.walk(&opened.segment, &live, newest, hash, 0, |_| {}),
        }
    }

    /// The entity's newest entry in the segments below one. Needed where an index was lost: one
    /// that was made again from its segment alone does not know what stands before it.
    fn search_below(&self, number: u32, hash: EntityHash) -> Option<EntryAt> {
        let mut below = self.view.catalog.sections.iter().rev().filter(|section| section.number < number);
        below.find_map(|section| {
            let somewhere = EntryAt::new(section.number, EntryAt::SOMEWHERE);
            // One that cannot be opened may hold it: whoever goes there learns what is wrong.
            let Ok(opened) = section.open() else { return Some(somewhere) };
            match opened.index() {
                IndexRef::Sealed(..) => opened.may_have(hash).then_some(somewhere),
                IndexRef::Live(live) => {
                    let in_doubt = opened.damage().map(|_| somewhere);
                    self.newest_in(&opened.segment, &live, hash).or(in_doubt)
                }
            }
        })
    }

    /// The entity's frames in one segment, and its newest entry before it.
    fn span(&self, section: Loaded<'v>, newest: EntryAt, hash: EntityHash) -> (Span<'v>, Before) {
        match section.index.clone() {
            IndexRef::Sealed(index, _) => {
                let Some(record) = index.find(hash) else {
                    return (
                        Span { section, members: Members::Gathered(Box::default()), first: 0, end: 0 },
                        Before::Unknown,
                    );
                };
                let members = index.members(record);
                let end = members.partition_point(|ordinal| ordinal.get() < section.count);
                let before = before_index(section.segment(), index, record);
                (Span { section, members: Members::InIndex(members), first: 0, end }, before)
            }
            IndexRef::Live(live) => {
                let mut ordinals = Vec::new();
                // A reader that follows the log asks for the last few of many.
                let wanted = (self.behind + 1).saturating_sub(section.first_seq());
                let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
                let before = self.walk(section.segment(), &live, newest, hash, wanted, |ordinal| {
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

    /// Walks back over the entity's entries in the arrays of a segment, to its newest one before the
    /// segment, or to one that is older than `wanted`.
    fn walk(
        &self,
        segment: &Segment,
        live: &LiveIndex,
        newest: EntryAt,
        hash: EntityHash,
        wanted: u32,
        mut visit: impl FnMut(u32),
    ) -> Before {
        let mut at = if newest.ordinal() == EntryAt::SOMEWHERE {
            self.newest_in(segment, live, hash)
        } else {
            Some(newest)
        };
        let mut oldest = None;
        while let Some(here) = at.filter(|at| at.segment() == segment.number()) {
            if here.ordinal() < wanted {
                return Before::Nothing;
            }
            wait_for(live, here.ordinal());
            visit(here.ordinal());
            oldest = Some(here.ordinal());
            at = live.previous(here.ordinal()).filter(|previous| *previous < here);
        }
        match at {
            Some(before) => Before::At(before),
            None => before_first(segment, oldest.and_then(|oldest| live.offset(oldest))),
        }
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
        if self.parts.is_none() {
            let hash = self.view.index().hash(self.kind.0, &self.key);
            self.parts = Some(self.find_parts(hash)?);
        }
        loop {
            let Some(parts) = self.parts.as_mut() else { return Ok(None) };
            let Some(part) = (if from_back { parts.back_mut() } else { parts.front_mut() }) else {
                return self.check_ends().map(|()| None);
            };
            let span = match part {
                Part::Here(span) => span,
                Part::Unopened(row) | Part::InDoubt(row) => return Err(unreadable(self.view, *row)),
                Part::Unread(known) => {
                    let known = *known;
                    return self.unread_behind(known).map_or(Ok(None), Err);
                }
            };
            let Some(ordinal) = span.take(from_back) else {
                if from_back {
                    parts.pop_back()
                } else {
                    parts.pop_front()
                };
                continue;
            };
            let entry = span.section.entry(ordinal)?;
            // The hash says who it is; the key says so for certain.
            if entry.kind() == self.kind && entry.key() == &*self.key {
                self.note(Came::of(&entry), from_back)?;
                return Ok(Some(entry));
            }
        }
    }

    /// Notes what is about to be shown, if nothing is missing between it and what came from this end before.
    fn note(&mut self, came: Came, from_back: bool) -> Result<()> {
        let is_dense = match (from_back, self.front, self.back) {
            (true, _, Some(next)) => came.precedes(next),
            (true, _, None) => true,
            (false, Some(before), _) => before.precedes(came),
            (false, None, _) => came.is_first,
        };
        let is_unasked = self.asked == Asked::First && self.front.is_none();
        // What the directory knows as the newest has nothing behind it.
        let is_last = from_back && self.back.is_none() && self.newest != Some(came.generation);
        if (!is_dense || is_last) && !is_unasked {
            let (after, before) = match from_back {
                // Behind the last there is the end of the view.
                true => (came.seq, self.back.map_or(self.end(), |next| next.seq)),
                // Before the first behind a place there is what came until there.
                false => (self.front.map_or(self.behind, |before| before.seq), came.seq),
            };
            self.check_missing(after, before, is_dense)?;
        }
        *(if from_back { &mut self.back } else { &mut self.front }) = Some(came);
        Ok(())
    }

    /// There is nothing between what came from both ends: is that right?
    fn check_ends(&self) -> Result<()> {
        let is_dense = match (self.front, self.back) {
            (Some(front), Some(back)) => front.precedes(back),
            (None, Some(back)) => back.is_first,
            // It may be known from behind the view alone.
            (None, None) if self.asked == Asked::All => return self.check_read(self.behind, self.end()),
            (Some(front), None) if self.asked == Asked::All && self.newest != Some(front.generation) => {
                return self.check_read(front.seq, self.end());
            }
            (_, None) => true,
        };
        if is_dense {
            return Ok(());
        }
        let after = self.front.map_or(self.behind, |front| front.seq);
        self.back.map_or(Ok(()), |back| self.check_missing(after, back.seq, false))
    }

    /// As [`check_read`](Self::check_read), and `Compacted` where entries between two Seqs may have been dropped, if it is not dense
    /// there. Of what stood before the floor nobody can tell whether it was lost or dropped.
    fn check_missing(&self, after: u64, before: u64, is_dense: bool) -> Result<()> {
        let floor = self.floor.filter(|floor| !is_dense && after.saturating_add(1) < *floor);
        self.check_read(floor.map_or(after, |floor| after.max(floor - 1)), before)?;
        let doing = || format!("read the history of kind {}/{}", self.kind, self.key.escape_ascii());
        floor.map_or(Ok(()), |floor| Err(compacted(doing(), floor)))
    }

    /// Entries are missing between two Seqs: an error where something of that could not be read.
    fn check_read(&self, after: u64, before: u64) -> Result<()> {
        if before <= self.view.catalog.compacted.floor(self.kind.0) {
            return Ok(());
        }
        if let Some(row) = self.doubts.iter().find(|(lost, _)| *lost.start() < before && *lost.end() > after)
        {
            return Err(unreadable(self.view, row.1));
        }
        self.view.check_gap(after, before)
    }

    /// The Seq behind all that the view shows.
    fn end(&self) -> u64 {
        let is_whole = self.view.catalog.holes.is_empty();
        let through = if is_whole { self.view.through } else { self.view.asked_through() };
        through.saturating_add(1)
    }

    fn end_with(&mut self, outcome: Result<Option<Entry<'v>>>) -> Option<Result<Entry<'v>>> {
        self.ended = !matches!(outcome, Ok(Some(_)));
        outcome.transpose()
    }
}

/// Why a segment could not be opened, or what is wrong with it.
#[cold]
fn unreadable(view: &View, row: usize) -> Error {
    let again = Loaded::open(view, row).map(|section| section.and_then(|section| section.doubt(view)));
    let works = || Error::new(ErrorKind::Io, "open a segment, which works by now");
    again.map_or_else(|error| error, |doubt| doubt.unwrap_or_else(works))
}

/// What stands before an entity's entries in one segment.
enum Before {
    At(EntryAt),
    /// The history begins in this segment.
    Nothing,
    /// It does not begin here, and where it goes on was not written down.
    Unknown,
}

/// The segment that an index record names, without a place in it.
fn before_index(segment: &Segment, index: &SealedIndex, record: &EntityRecord) -> Before {
    match record.previous_segment() {
        0 => {
            let first = index.members(record).first().and_then(|first| index.offset(first.get()));
            before_first(segment, first)
        }
        number => Before::At(EntryAt::new(number, EntryAt::SOMEWHERE)),
    }
}

/// What stands before an entry behind which the chain leads no further: its own header says
/// whether the history begins with it.
fn before_first(segment: &Segment, offset: Option<u64>) -> Before {
    match offset.and_then(|offset| segment.frame(offset)) {
        Some(frame) if frame.header.has(flag::FIRST) => Before::Nothing,
        _ => Before::Unknown,
    }
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
/// How much of each, in cache lines: a small frame whole, of a large one the header and the key.
const LINES: usize = 4;

impl Span<'_> {
    /// Leaves out the entries up to a Seq.
    fn skip_to_behind(&mut self, seq: u64) {
        let first = self.section.index.at_or_behind(self.section.first_seq(), seq.saturating_add(1));
        let skipped = match &self.members {
            Members::Gathered(ordinals) => ordinals.partition_point(|ordinal| *ordinal < first),
            Members::InIndex(ordinals) => ordinals.partition_point(|ordinal| ordinal.get() < first),
        };
        self.first = self.first.max(skipped);
    }

    /// The next ordinal from one end.
    #[inline]
    fn take(&mut self, from_back: bool) -> Option<u32> {
        if self.first >= self.end {
            return None;
        }
        let at = if from_back { self.end - 1 } else { self.first };
        let ahead = |frames: usize| {
            let ahead = if from_back { at.checked_sub(frames)? } else { at + frames };
            self.members.get(ahead)
        };
        // First where the frame stands, which is a miss by itself, and then the frame.
        if let Some(ordinal) = ahead(2 * AHEAD) {
            self.section.index.prefetch(ordinal);
        }
        if let Some(ordinal) = ahead(AHEAD) {
            self.section.prefetch(ordinal, LINES);
        }
        if from_back {
            self.end -= 1
        } else {
            self.first += 1
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
