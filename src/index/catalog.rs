//! The row of segments, oldest first; each opened, mapped and indexed when it is first touched.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use zerocopy::little_endian::U32;

use crate::disk::{Access, Directory};
use crate::error::{Error, Result};
use crate::format::compacted::{Compacted, Cover, Part};
use crate::format::frame::Frame;
use crate::format::index::{EntityHash, Keyed};
use crate::format::part::Answer;
use crate::format::segment::{FIRST_FRAME, file_name};
use crate::format::system::Preamble;
use crate::id::{FRAME_ALIGN, Position, StoreId};
use crate::index::EntityHasher;
use crate::index::build::{ByReading, index_by_reading};
use crate::index::holes::Hole;
use crate::index::live::LiveIndex;
use crate::index::part::read_part;
use crate::index::sealed::SealedIndex;
use crate::log::report::Damage;
use crate::log::segment::{Segment, look_at_preamble, open_header};

/// The index of one segment: in place where there is a file, else the arrays of its writing.
#[derive(Clone, Debug)]
pub(crate) enum IndexRef<'a> {
    Live(Arc<LiveIndex>),
    /// With the places of its frames, looked up once.
    Sealed(&'a SealedIndex, &'a [U32]),
}

impl IndexRef<'_> {
    pub(crate) fn count(&self) -> u32 {
        match self {
            Self::Live(live) => live.count(),
            Self::Sealed(sealed, _) => sealed.count(),
        }
    }

    /// Where a user frame stands; zero: it is lost.
    #[inline]
    pub(crate) fn offset(&self, ordinal: u32) -> Option<u64> {
        match self {
            Self::Live(live) => live.offset(ordinal),
            Self::Sealed(_, offsets) => {
                offsets.get(ordinal as usize).map(|units| u64::from(units.get()) * FRAME_ALIGN)
            }
        }
    }

    /// Tells the processor that the place of a frame will be looked up soon.
    #[inline]
    pub(crate) fn prefetch(&self, ordinal: u32) {
        if let Self::Sealed(sealed, _) = self {
            sealed.prefetch(ordinal);
        }
    }

    /// How many of the frames stand below `offset`.
    pub(crate) fn count_below(&self, offset: u64) -> u32 {
        let mut count = self.count();
        if count == 0 || self.offset(count - 1).is_some_and(|last| last < offset) {
            return count;
        }
        let mut low = 0;
        while low < count {
            let middle = low + (count - low) / 2;
            // Lost frames have no place of their own: they count with what follows them.
            if self.offset(middle).is_some_and(|at| at < offset) { low = middle + 1 } else { count = middle }
        }
        low
    }

    /// The Seq of a frame. Those of a segment are dense; those of a part stand in its index.
    #[inline]
    pub(crate) fn seq(&self, first_seq: u64, ordinal: u32) -> u64 {
        match self {
            Self::Sealed(sealed, _) if sealed.layout.is_of_part => {
                sealed.seq_in_part(ordinal).unwrap_or(u64::MAX)
            }
            _ => first_seq.saturating_add(u64::from(ordinal)),
        }
    }

    /// The first frame with this Seq or a later one; as many as there are, if there is none.
    #[inline]
    pub(crate) fn at_or_behind(&self, first_seq: u64, seq: u64) -> u32 {
        match self {
            Self::Sealed(sealed, _) if sealed.layout.is_of_part => sealed.ordinal_in_part(seq),
            _ => u32::try_from(seq.saturating_sub(first_seq)).unwrap_or(u32::MAX).min(self.count()),
        }
    }

    /// False where this index knows that the segment holds no frame of a kind.
    pub(crate) fn may_hold(&self, kind: u16) -> bool {
        match self {
            Self::Live(_) => true,
            Self::Sealed(sealed, _) => sealed.kinds().iter().any(|count| count.kind.get() == kind),
        }
    }
}

/// One segment of the row, or the part that stands for several.
pub(crate) struct Section {
    /// The number of the segment; of a part, the last one that it stands for.
    pub(crate) number: u32,
    /// What it stands for, if it is a part.
    pub(crate) cover: Option<Cover>,
    place: Arc<Place>,
    /// The number of the next live segment, which says where a torn one ends; 0: none.
    next: AtomicU32,
    /// Where it ends, if a segment said so that is not there any more.
    limit: OnceLock<Option<u64>>,
    /// The Seq that its preamble names, where the segment was asked for no more than that.
    begins_with: OnceLock<u64>,
    /// How many Seqs its preamble says are missing before it.
    missing: OnceLock<u64>,
    opening: Mutex<()>,
    opened: OnceLock<Opened>,
}

/// Where the segments of a store are.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) store: StoreId,
    pub(crate) hasher: EntityHasher,
}

/// A segment that was touched.
#[derive(Debug)]
pub(crate) struct Opened {
    place: Arc<Place>,
    pub(crate) segment: Arc<Segment>,
    /// The Seq of the first user frame, there or to come; the arrays may yet learn it.
    first_seq: Arc<AtomicU64>,
    /// Set once; from then on the arrays are not needed.
    sealed: OnceLock<SealedIndex>,
    live: RwLock<Option<Arc<LiveIndex>>>,
    /// What reading its frames met, where there was no index to spare that.
    damage: Option<Damage>,
    /// Frames before this ordinal need no checksum: a scan has checked them.
    checked: AtomicU32,
    /// Nor do frames from this ordinal on: this process wrote them, or read them one by one.
    own: AtomicU32,
}

impl Section {
    pub(crate) fn new(place: Arc<Place>, number: u32, next: u32) -> Self {
        Self {
            number,
            cover: None,
            place,
            next: AtomicU32::new(next),
            limit: OnceLock::new(),
            begins_with: OnceLock::new(),
            missing: OnceLock::new(),
            opening: Mutex::default(),
            opened: OnceLock::new(),
        }
    }

    /// A segment that was just made, or that recovery read from the frame `own` on: what stands
    /// before that an index file spared it.
    pub(crate) fn opened(place: Arc<Place>, segment: Arc<Segment>, index: Arc<LiveIndex>, own: u32) -> Self {
        let section = Self::new(place, segment.number(), 0);
        let _ = section.opened.set(Opened::live(Arc::clone(&section.place), segment, index, own));
        section
    }

    /// A segment whose index was checked already.
    pub(crate) fn indexed(place: Arc<Place>, segment: Arc<Segment>, index: SealedIndex) -> Self {
        let section = Self::new(place, segment.number(), 0);
        let _ = section.opened.set(Opened::sealed(Arc::clone(&section.place), segment, index));
        section
    }

    /// What was kept of a stretch of the log.
    pub(crate) fn part(place: Arc<Place>, cover: Cover) -> Self {
        Self { cover: Some(cover), ..Self::new(place, cover.last, 0) }
    }

    /// The same, of which the index was made just now.
    pub(crate) fn part_with(place: Arc<Place>, cover: Cover, part: Part, index: SealedIndex) -> Result<Self> {
        let segment = Segment::open_part(&*place.directory, place.store, &cover, part)?;
        segment.let_go();
        let section = Self::part(place, cover);
        let _ = section.opened.set(Opened::sealed(Arc::clone(&section.place), Arc::new(segment), index));
        Ok(section)
    }

    pub(crate) fn set_next(&self, next: u32) {
        self.next.store(next, Ordering::Release);
    }

    /// Says where the log goes on behind it: the segment that says so will not be there.
    pub(crate) fn set_limit(&self, follows: Position) {
        let is_here = follows.segment() == self.number && follows.offset() != 0;
        let _ = self.limit.set(is_here.then_some(follows.offset()));
    }

    /// The first segment that it stands for.
    pub(crate) fn first_number(&self) -> u32 {
        self.cover.map_or(self.number, |cover| cover.first)
    }

    pub(crate) fn if_open(&self) -> Option<&Opened> {
        self.opened.get()
    }

    /// The Seq of the first user frame, there or to come. Costs one small read of a segment that was
    /// not opened, so that a search over many segments opens only the one that it finds.
    pub(crate) fn first_seq(&self) -> Result<u64> {
        if let Some(cover) = &self.cover {
            return Ok(cover.first_seq);
        }
        if let Some(opened) = self.opened.get() {
            return Ok(opened.first_seq());
        }
        if let Some(named) = self.begins_with.get() {
            return Ok(*named);
        }
        let Place { directory, store, .. } = &*self.place;
        let next_seq = |frame: &Frame<'_>| Some(Preamble::read(frame.payload())?.next_seq);
        match look_at_preamble(&**directory, *store, self.number, next_seq) {
            Some(named) => Ok(*self.begins_with.get_or_init(|| named)),
            // Whatever is wrong with it, reading the segment will tell.
            None => Ok(self.open()?.first_seq()),
        }
    }

    /// How many Seqs an import or a repair left out right before it; `None` for a part, which has no preamble, and where
    /// that cannot be read. Costs one small read on the first call.
    pub(crate) fn missing_before(&self) -> Option<u64> {
        if self.cover.is_some() {
            return None;
        }
        if let Some(missing) = self.missing.get() {
            return Some(*missing);
        }
        let Place { directory, store, .. } = &*self.place;
        let lost = |frame: &Frame<'_>| Some(Preamble::read(frame.payload())?.lost);
        let missing = look_at_preamble(&**directory, *store, self.number, lost)?;
        Some(*self.missing.get_or_init(|| missing))
    }

    /// The segment and its index, opened on the first call.
    pub(crate) fn open(&self) -> Result<&Opened> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let _opening = self.opening.lock();
        if self.opened.get().is_none() {
            let opened = self.open_now()?;
            opened.segment.let_go();
            let _ = self.opened.set(opened);
        }
        let path = self.place.directory.path().join(file_name(self.number));
        self.opened.get().ok_or_else(|| Error::corrupt("open a segment").at(path))
    }

    fn open_now(&self) -> Result<Opened> {
        let Place { directory, store, .. } = &*self.place;
        if let Some(cover) = &self.cover {
            return Opened::part(&self.place, cover);
        }
        let segment = Segment::open(&**directory, *store, self.number)?;
        let index = match SealedIndex::open(&**directory, *store, self.number, segment.header.salt) {
            Err(error) if error.is_passing() => return Err(error),
            index => index.ok(),
        };
        let index = index.filter(|index| {
            segment.map.raise(usize::try_from(index.layout.end).unwrap_or(0).min(segment.map.bytes()));
            index.agrees_with(&segment)
        });
        let segment = Arc::new(segment);
        if let Some(index) = index.as_ref().filter(|index| self.goes_to_the_end(index, &segment)) {
            return Ok(Opened::sealed(Arc::clone(&self.place), segment, index.clone()));
        }
        // Missing or in doubt: the log itself says the same, only slower.
        let limit = match self.limit() {
            Err(error) if error.is_passing() => return Err(error),
            limit => limit,
        };
        let is_followed = self.next.load(Ordering::Acquire) != 0;
        let ByReading { live, damage, end } = index_by_reading(&self.place, &segment, (limit, is_followed))?;
        if let Some(index) = index.filter(|index| end <= index.layout.end) {
            // It is the segment's end that is damaged, and the index says what stood there.
            return Ok(Opened::sealed(Arc::clone(&self.place), segment, index));
        }
        if let Some(damage) = damage.as_ref().filter(|_| live.first_seq() <= 1 && live.count() == 0) {
            // Not even where it begins: who searches the row has to pass it over.
            return Err(Error::corrupt(format!("read a segment: {}", damage.what))
                .at(directory.path().join(file_name(self.number)))
                .place(self.number, damage.offset));
        }
        Ok(Opened { damage, ..Opened::live(Arc::clone(&self.place), segment, Arc::new(live), 0) })
    }

    /// False of an index from before its segment was written on: that of a close, which a copy or a crash has left, does not know
    /// what came behind it.
    fn goes_to_the_end(&self, index: &SealedIndex, segment: &Segment) -> bool {
        let end = index.layout.end;
        self.next.load(Ordering::Acquire) == 0
            || segment.is_sealed_at(end)
            || self.limit().is_ok_and(|limit| limit == Some(end))
    }

    /// Where the next segment says that this one ends; an error where it cannot be asked, or says it of another.
    fn limit(&self) -> Result<Option<u64>> {
        if let Some(limit) = self.limit.get() {
            return Ok(*limit);
        }
        let next = self.next.load(Ordering::Acquire);
        if next == 0 {
            return Ok(None);
        }
        let (_, header) = open_header(&*self.place.directory, self.place.store, next, Access::Read)?;
        let follows = header.follows;
        if follows.segment() != self.number {
            return Err(Error::corrupt("look where a segment ends").sides(self.number, follows));
        }
        Ok(Some(follows.offset()).filter(|limit| *limit != 0))
    }
}

impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Section({}, {:?})", self.number, self.opened.get())
    }
}

impl Opened {
    /// A segment whose frames from `own` on this process wrote or read one by one.
    fn live(place: Arc<Place>, segment: Arc<Segment>, live: Arc<LiveIndex>, own: u32) -> Self {
        let first_seq = live.share_first_seq();
        let (sealed, live) = (OnceLock::new(), RwLock::new(Some(live)));
        let (checked, own) = (AtomicU32::new(0), AtomicU32::new(own));
        Self { place, segment, first_seq, sealed, live, damage: None, checked, own }
    }

    /// A part: with its index, or one that is made by reading it.
    fn part(place: &Arc<Place>, cover: &Cover) -> Result<Self> {
        let Place { directory, store, .. } = &**place;
        let part = cover.part.ok_or_else(|| Error::corrupt("open a part of which there is none"))?;
        let segment = Arc::new(Segment::open_part(&**directory, *store, cover, part)?);
        if let Ok(index) = SealedIndex::open(&**directory, *store, part.number, part.salt)
            && (index.layout.end, u64::from(index.count())) == (part.bytes, part.entries)
            && index.layout.first_seq == cover.first_seq
        {
            return Ok(Self::sealed(Arc::clone(place), segment, index));
        }
        let bytes = segment.map.slice(0..segment.map.bytes()).unwrap_or_default();
        let (parts, damage) = read_part(&place.hasher, &segment, bytes, cover);
        let index = SealedIndex::of_parts(&parts, *store)?;
        Ok(Self { damage, ..Self::sealed(Arc::clone(place), segment, index) })
    }

    fn sealed(place: Arc<Place>, segment: Arc<Segment>, index: SealedIndex) -> Self {
        let (first_seq, live) = (Arc::new(AtomicU64::new(index.layout.first_seq)), RwLock::default());
        Self {
            place,
            segment,
            first_seq,
            sealed: OnceLock::from(index),
            live,
            damage: None,
            checked: AtomicU32::new(0),
            own: AtomicU32::new(u32::MAX),
        }
    }

    /// The frame from which on this process wrote them, or read them one by one.
    pub(crate) fn own(&self) -> u32 {
        match self.index() {
            IndexRef::Live(_) => self.own.load(Ordering::Relaxed),
            IndexRef::Sealed(index, _) => index.count(),
        }
    }

    pub(crate) fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// False if it has nothing of an entity for certain. An index that was made by reading does not know whose the frames are
    /// that could not be read; of one that is being written nobody knows without a search.
    pub(crate) fn may_have(&self, hash: EntityHash) -> bool {
        match self.index() {
            IndexRef::Sealed(index, _) => self.damage.is_some() || index.find(hash).is_some(),
            IndexRef::Live(_) => true,
        }
    }

    /// What an entity may have lost with frames that its index does not name, if there are such. `last` tells the last Seq that
    /// the section can have had, if what stands behind it says so.
    pub(crate) fn doubt(&self, last: impl FnOnce() -> Option<u64>) -> Option<Error> {
        let damage = self.damage.as_ref().filter(|damage| !damage.took_nothing())?;
        let first = damage.first_seq;
        let lost = if first <= damage.last_seq {
            Some(first..=damage.last_seq)
        } else {
            last().map(|last| first..=last)
        };
        if lost.as_ref().is_some_and(RangeInclusive::is_empty) {
            return None;
        }
        let doing = format!("look for an entity in a file without an index: {}", damage.what);
        let error = Error::corrupt(doing)
            .at(self.place.directory.path().join(file_name(self.segment.number())))
            .place(self.segment.number(), damage.offset);
        Some(match lost {
            Some(lost) => error.lost(lost),
            None => error,
        })
    }

    #[inline]
    pub(crate) fn first_seq(&self) -> u64 {
        self.first_seq.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn index(&self) -> IndexRef<'_> {
        loop {
            if let Some(sealed) = self.sealed.get() {
                return IndexRef::Sealed(sealed, sealed.offsets());
            }
            // Empty only if the file came into use since we looked for it.
            if let Some(live) = &*self.live.read() {
                return IndexRef::Live(Arc::clone(live));
            }
        }
    }

    /// The keyed batches of a segment; of a part, those to which it holds the answers.
    pub(crate) fn keyed(&self) -> Result<Vec<Keyed>> {
        match self.index() {
            IndexRef::Live(live) => Ok(live.keyed.lock().clone()),
            IndexRef::Sealed(index, _) if index.layout.is_of_part => {
                index.answers().map(|at| Ok(self.answer_at(at)?.keyed)).collect()
            }
            IndexRef::Sealed(index, _) => Ok(index.keyed()),
        }
    }

    /// The generations that a keyed batch was given, if this part holds the answer.
    pub(crate) fn answer(&self, first: &Keyed) -> Result<Option<Vec<u64>>> {
        let IndexRef::Sealed(index, _) = self.index() else { return Ok(None) };
        if !index.layout.is_of_part {
            return Ok(None);
        }
        let Some(mut at) = index.answer(&first.key, first.digest) else { return Ok(None) };
        let mut generations = Vec::new();
        while generations.len() < first.frames as usize {
            let answer = self.answer_at(at)?;
            if answer.keyed != *first || answer.from as usize != generations.len() {
                return Err(self.bad_answer(at));
            }
            generations.extend_from_slice(&answer.generations);
            at += self.segment.frame(at).map_or(0, |frame| frame.len() as u64);
        }
        Ok(Some(generations))
    }

    /// The answer that stands at a place in a part.
    pub(crate) fn answer_at(&self, at: u64) -> Result<Answer> {
        let frame = self.segment.frame(at).filter(|frame| {
            frame.header.is_system() && frame.is_good(self.segment.header.salt, self.segment.position(at))
        });
        let answer = frame.and_then(|frame| Answer::read(frame.payload()));
        answer.ok_or_else(|| self.bad_answer(at))
    }

    #[cold]
    fn bad_answer(&self, at: u64) -> Error {
        Error::corrupt("read what a batch was answered")
            .at(self.place.directory.path().join(file_name(self.segment.number())))
            .place(self.segment.number(), at)
    }

    /// Goes on over the file, and lets go of the arrays.
    pub(crate) fn use_index(&self, index: SealedIndex) {
        let _ = self.sealed.set(index);
        // From now on its pages may leave memory and come back from the disk.
        self.checked.store(0, Ordering::Relaxed);
        self.own.store(u32::MAX, Ordering::Relaxed);
        *self.live.write() = None;
    }

    /// The user frame with this ordinal, checked if it has to be.
    #[inline]
    pub(crate) fn frame(
        &self,
        index: &IndexRef<'_>,
        first_seq: u64,
        ordinal: u32,
    ) -> Result<(u64, Frame<'_>)> {
        self.frame_at(index.offset(ordinal), first_seq, ordinal)
    }

    /// As [`frame`](Self::frame), for one whose place was looked up.
    #[inline]
    pub(crate) fn frame_at(
        &self,
        offset: Option<u64>,
        first_seq: u64,
        ordinal: u32,
    ) -> Result<(u64, Frame<'_>)> {
        let Some(offset) = offset.filter(|offset| *offset != 0) else {
            return Err(self.lost(ordinal, 0, "the frame is lost"));
        };
        let Some(frame) = self.segment.frame(offset) else {
            return Err(self.lost(ordinal, offset, "no frame fits there"));
        };
        if ordinal >= self.checked.load(Ordering::Relaxed) && ordinal < self.own.load(Ordering::Relaxed) {
            self.check(first_seq, ordinal, offset, &frame)?;
        }
        Ok((offset, frame))
    }

    #[inline(never)]
    fn check(&self, first_seq: u64, ordinal: u32, offset: u64, frame: &Frame<'_>) -> Result<()> {
        let seq = self.index().seq(first_seq, ordinal);
        let position = self.segment.position(offset);
        if frame.header.seq.get() != seq || !frame.is_good(self.segment.header.salt, position) {
            return Err(self.lost(ordinal, offset, "its checksums do not match"));
        }
        if ordinal == self.checked.load(Ordering::Relaxed) {
            self.checked.store(ordinal + 1, Ordering::Relaxed);
        }
        Ok(())
    }

    #[cold]
    fn lost(&self, ordinal: u32, offset: u64, what: &str) -> Error {
        let seq = self.index().seq(self.first_seq(), ordinal);
        Error::corrupt(format!("read entry {seq}: {what}"))
            .at(self.place.directory.path().join(file_name(self.segment.number())))
            .place(self.segment.number(), offset)
            .lost(seq..=seq)
            .next_good_at(self.next_good(ordinal))
    }

    /// Where the next good user frame stands, if it is not far: a scan may ask at each lost one.
    fn next_good(&self, ordinal: u32) -> Option<u64> {
        const LOOKS: u32 = 64;
        let index = self.index();
        (ordinal.saturating_add(1)..index.count().min(ordinal.saturating_add(LOOKS))).find_map(|next| {
            let offset = index.offset(next).filter(|offset| *offset != 0)?;
            let frame = self.segment.frame(offset)?;
            frame.is_good(self.segment.header.salt, self.segment.position(offset)).then_some(offset)
        })
    }
}

/// The segments at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) sections: Vec<Arc<Section>>,
    /// What compaction has made of the log.
    pub(crate) compacted: Arc<Compacted>,
    /// What a reader could not read, in the order of the log.
    pub(crate) holes: Arc<[Hole]>,
}

impl Catalog {
    /// Other sections, of which compaction has made this.
    pub(crate) fn with(&self, sections: Vec<Arc<Section>>, compacted: Arc<Compacted>) -> Arc<Self> {
        Arc::new(Self { sections, compacted, holes: Arc::clone(&self.holes) })
    }

    /// The same row with other holes.
    pub(crate) fn with_holes(&self, mut holes: Vec<Hole>) -> Arc<Self> {
        holes.sort_by_key(|hole| hole.through);
        Arc::new(Self { holes: holes.into(), ..self.clone() })
    }

    /// Puts the parts where they belong between the segments.
    pub(crate) fn add_parts(&mut self, place: &Arc<Place>) {
        let compacted = Arc::clone(&self.compacted);
        for (cover, _) in compacted.parts() {
            let at = self.sections.partition_point(|section| section.number < cover.first);
            self.sections.insert(at, Arc::new(Section::part(Arc::clone(place), *cover)));
        }
        // Where a torn segment ends, the one behind it said, which is not there any more.
        for cover in &compacted.covers {
            let at = self.sections.partition_point(|section| section.number < cover.first);
            if let Some(before) = at.checked_sub(1).and_then(|at| self.sections.get(at)) {
                before.set_limit(cover.follows);
            }
        }
    }

    /// The place in the row of a segment's number, or of the part that stands for it.
    pub(crate) fn at(&self, number: u32) -> Option<usize> {
        let at = self.sections.partition_point(|section| section.number < number);
        self.sections.get(at).filter(|section| section.first_number() <= number).map(|_| at)
    }

    /// The floor of a view at least: everything up to here was durable when it was compacted.
    pub(crate) fn compacted_through(&self) -> Position {
        match self.compacted.last_segment() {
            0 => Position::ZERO,
            last => Position::new(last + 1, 0),
        }
    }

    pub(crate) fn section(&self, number: u32) -> Option<&Arc<Section>> {
        self.sections.get(self.at(number)?)
    }

    /// The last section whose first Seq is at or below `seq`. One of which nobody can tell where it
    /// begins is passed over: it is the answer only for what lies between those around it.
    pub(crate) fn holding(&self, seq: u64) -> Option<usize> {
        let (mut low, mut high) = (0, self.sections.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.first_known(middle, high) {
                Some((at, first)) if first <= seq => low = at + 1,
                _ => high = middle,
            }
        }
        let is_unknown = self.sections.get(low).is_some_and(|section| section.first_seq().is_err());
        let known = low.checked_sub(1);
        let is_behind = |at| self.end_of(at).is_some_and(|end| end <= seq);
        if is_unknown && known.is_none_or(is_behind) { Some(low) } else { known }
    }

    /// The first section of a part of the row that says where it begins, and with which Seq.
    fn first_known(&self, from: usize, to: usize) -> Option<(usize, u64)> {
        (from..to).find_map(|at| Some((at, self.sections.get(at)?.first_seq().ok()?)))
    }

    /// The Seq behind the last one of a section, if it can be opened.
    pub(crate) fn end_of(&self, at: usize) -> Option<u64> {
        let section = self.sections.get(at)?;
        if let Some(cover) = &section.cover {
            return Some(cover.last_seq + 1);
        }
        let opened = section.open().ok()?;
        Some(opened.first_seq().saturating_add(u64::from(opened.index().count())))
    }

    /// What is lost with a section that cannot be opened: the Seqs between those around it.
    pub(crate) fn lost_with(&self, at: usize) -> Option<RangeInclusive<u64>> {
        if let Some(cover) = &self.sections.get(at)?.cover {
            return Some(cover.first_seq..=cover.last_seq);
        }
        let named = self.sections.get(at)?.first_seq().ok();
        let first = named.or_else(|| (0..at).rev().find_map(|before| self.end_of(before))).unwrap_or(1);
        let (_, next) = self.first_known(at + 1, self.sections.len())?;
        let last = next.checked_sub(1)?;
        (first <= last).then_some(first..=last)
    }

    /// The damage that took what lies between a section's last frame and the next section's first:
    /// where there was none, a repair left the gap.
    pub(crate) fn damage_behind(&self, at: usize) -> Option<&Damage> {
        let damage = |at: usize| self.sections.get(at)?.if_open()?.damage();
        let here = damage(at).filter(|damage| damage.next_good.is_none());
        here.or_else(|| damage(at + 1).filter(|damage| damage.lost_from == FIRST_FRAME))
    }

    /// False if compaction left nothing of an entity whose newest entry was in this segment.
    pub(crate) fn has_some_of(&self, hash: EntityHash, number: u32) -> Result<bool> {
        match self.section(number) {
            None => Ok(self.compacted.covering(number).is_none()),
            Some(section) if section.cover.is_none() => Ok(true),
            Some(section) => Ok(section.open()?.may_have(hash)),
        }
    }
}
