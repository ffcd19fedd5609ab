//! A view: the log as it was at one moment, read while others write.

use std::fmt;
use std::iter::FusedIterator;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::flag;
use crate::format::index::Keyed;
use crate::format::segment::file_name;
use crate::id::{KindId, Position, Seq};
use crate::index::catalog::{Catalog, IndexRef, Opened};
use crate::index::finder::Index;
use crate::journal::entry::{Entry, OwnedEntry};
use crate::journal::history::{Asked, History};
use crate::journal::region::{Region, RegionEntries};
use crate::log::segment::Segment;

/// The log up to one moment: what is appended later is not in it.
///
/// Holding a view costs a mark and two counted references, and maps: of what compaction unlinks meanwhile of the files that
/// it has looked into, the disk has the space back when it is dropped (`Stats::unlinked_bytes`).
///
/// ```
/// # fn main() -> esker::Result<()> {
/// use esker::{Journal, Record};
/// let journal = Journal::in_memory()?;
/// let note = journal.kind("note")?;
/// journal.append(Record::new(note, b"a", b"1"))?;
/// let view = journal.view();
/// journal.append(Record::new(note, b"b", b"2"))?;
/// assert_eq!(view.range(..).count(), 1);
/// assert_eq!(journal.view().range(..).count(), 2);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct View {
    index: Arc<Index>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) mark: Position,
    /// Nothing behind this Seq is shown: a view of the past ends there, and not at the mark.
    pub(crate) through: u64,
}

impl View {
    pub(crate) fn new(index: Arc<Index>, mark: Position) -> Self {
        // The mark was read before the row of segments: the row has every segment below it.
        let catalog = index.catalog();
        // What was compacted since was durable, whatever the mark was a moment ago.
        let mark = mark.max(catalog.compacted_through());
        Self { index, catalog, mark, through: u64::MAX }
    }

    /// Where the view ends: every entry in it stands below.
    #[must_use]
    pub fn end(&self) -> Position {
        self.mark
    }

    /// The entry with this Seq, or `None` if the view has none.
    ///
    /// # Errors
    ///
    /// `Compacted` if it was dropped; `Corrupt` if its bytes are damaged, `Io` if its segment cannot be
    /// opened.
    pub fn get(&self, seq: Seq) -> Result<Option<Entry<'_>>> {
        if seq.get() > self.through {
            return Ok(None);
        }
        if let Some(section) = self.load(seq.get())?
            && let Some(ordinal) = section.ordinal(seq.get())
        {
            return section.entry(ordinal).map(Some);
        }
        match self.catalog.compacted.holding(seq.get()) {
            Some(_) => Err(compacted(format!("read entry {seq}"), self.catalog.compacted.floor_of_all())),
            None => self.check_gap(seq.get() - 1, seq.get().saturating_add(1)).map(|()| None),
        }
    }

    /// The first Seq of a region from which on every entry is there; `None`: nothing of it was dropped.
    /// Below it stands what compaction kept.
    #[must_use]
    pub fn floor(&self, region: &Region) -> Option<Seq> {
        let compacted = &self.catalog.compacted;
        Seq::new(match region {
            Region::All => compacted.floor_of_shown(),
            Region::Kind(kind) | Region::Entity(kind, _) | Region::Prefix(kind, _) => compacted.floor(kind.0),
        })
    }

    /// The newest entry's Seq, damaged or not; `None` if the view is empty.
    ///
    /// # Errors
    ///
    /// `Io` or `Corrupt` if the last segment cannot be opened.
    pub fn last_seq(&self) -> Result<Option<Seq>> {
        let newest = self.last_seq_in_files()?;
        // Where nothing is left of the last ones, and the segment behind them went with a crash, no file tells of them.
        let dropped = self.catalog.compacted.covers.last().and_then(|cover| Seq::new(cover.last_seq));
        Ok(newest.max(dropped).and_then(|newest| Seq::new(newest.get().min(self.through))))
    }

    fn last_seq_in_files(&self) -> Result<Option<Seq>> {
        let mut before = None;
        for at in (0..self.catalog.sections.len()).rev() {
            match (Loaded::open(self, at), before) {
                (Ok(None), _) => {}
                (Ok(Some(section)), _) if section.count > 0 => return Ok(Seq::new(section.end() - 1)),
                (Ok(Some(section)), _) => before = before.or(section.first_seq.checked_sub(1)),
                // What it held ended where the next one begins.
                (Err(_), Some(before)) => return Ok(Seq::new(before)),
                (Err(error), None) => return Err(error),
            }
        }
        // Nothing is left of all that was before the last segment.
        Ok(before.and_then(Seq::new))
    }

    /// The segment that holds a Seq; or the one before, where a repair left a gap or nothing
    /// follows.
    ///
    /// # Errors
    ///
    /// `Corrupt` with the lost numbers if damage took what held it.
    #[inline]
    pub(crate) fn load(&self, seq: u64) -> Result<Option<Loaded<'_>>> {
        let Some(at) = self.catalog.holding(seq) else { return Ok(None) };
        let Some(section) = Loaded::open(self, at)? else { return Ok(None) };
        if (section.first_seq..section.end()).contains(&seq) {
            Ok(Some(section))
        } else {
            self.gap(section, seq)
        }
    }

    /// Tells a gap that a repair left, and the end of the log, from what is lost by damage.
    #[cold]
    fn gap<'v>(&'v self, section: Loaded<'v>, seq: u64) -> Result<Option<Loaded<'v>>> {
        let segment = &section.opened.segment;
        let error = |what: &str| {
            let path = self.index.place.directory.path().join(file_name(segment.number()));
            Error::corrupt(format!("read entry {seq}: {what}")).at(path)
        };
        if seq < section.first_seq {
            return Err(error("the segment that should hold it begins behind it").place(segment.number(), 0));
        }
        if self.catalog.compacted.holding(seq).is_some() {
            return Ok(Some(section));
        }
        let Some(damage) = self.catalog.damage_behind(section.at) else { return Ok(Some(section)) };
        let next = self.catalog.sections.get(section.at + 1).and_then(|next| next.first_seq().ok());
        let last = next.map_or(seq, |next| next.saturating_sub(1).max(seq));
        Err(error(&damage.what).place(damage.segment, damage.offset).lost(section.end().min(seq)..=last))
    }

    /// The entries of a range of Seq, in order; double-ended. A range without a start begins with what
    /// compaction kept; one that starts where compaction has dropped something is `Compacted`.
    ///
    /// After an error the iterator has ended: start another behind the damage to go on, which
    /// [`Error::seqs`] names.
    pub fn range(&self, seqs: impl RangeBounds<Seq>) -> Entries<'_> {
        let starts_somewhere = !matches!(seqs.start_bound(), Bound::Unbounded);
        let mut entries = self.entries(bounds(seqs), None);
        entries.must_be_whole = starts_somewhere;
        entries
    }

    /// The entries of a kind, in order; double-ended. Segments without the kind are passed over. Below the
    /// kind's [`floor`](Self::floor) those that compaction kept.
    #[must_use]
    pub fn kind(&self, kind: KindId) -> Entries<'_> {
        self.entries((1, u64::MAX), Some(Filter::Kind(kind)))
    }

    /// The history of one entity, oldest first; double-ended. Nothing else is scanned.
    ///
    /// Where compaction has dropped older entries, it is `Compacted` before the oldest that is left: from
    /// the front at once, from the back behind that one; also if what stood there was lost, because nobody
    /// can tell. Behind the kind's floor what is lost is `Corrupt`, or what a repair said. A history that compaction dropped as a whole is
    /// empty, and begins anew with the next entry.
    ///
    /// After an error the iterator has ended: what lies behind the damage comes from the other end.
    #[must_use]
    pub fn entity(&self, kind: KindId, key: &[u8]) -> History<'_> {
        History::new(self, kind, key, 0).whole()
    }

    /// The entries of an entity that there are behind a Seq, oldest first.
    pub(crate) fn entity_behind(&self, kind: KindId, key: &[u8], seq: u64) -> History<'_> {
        History::new(self, kind, key, seq).asked(Asked::Behind)
    }

    /// The entries of a region, in order; double-ended.
    #[must_use]
    pub fn region(&self, region: &Region) -> RegionEntries<'_> {
        match region {
            Region::All => RegionEntries::Scan(self.entries((1, u64::MAX), Some(Filter::Shown))),
            Region::Kind(kind) => RegionEntries::Scan(self.kind(*kind)),
            Region::Entity(kind, key) => RegionEntries::History(self.entity(*kind, key)),
            Region::Prefix(kind, prefix) => {
                let filter = Filter::Prefix(*kind, prefix.clone());
                RegionEntries::Scan(self.entries((1, u64::MAX), Some(filter)))
            }
        }
    }

    /// The entries of a region that there are behind a Seq.
    pub(crate) fn region_behind(&self, region: &Region, behind: u64) -> Entries<'_> {
        let first = behind.saturating_add(1);
        let filter = match region {
            Region::All => Some(Filter::Shown),
            Region::Kind(kind) => Some(Filter::Kind(*kind)),
            Region::Entity(kind, key) | Region::Prefix(kind, key) => Some(Filter::Prefix(*kind, key.clone())),
        };
        self.entries((first, u64::MAX), filter)
    }

    /// All entries from one Seq to another, both included, those that stand aside too.
    pub(crate) fn between(&self, first: u64, last: u64) -> Entries<'_> {
        self.entries((first, last), None)
    }

    /// All entries behind a Seq, those that stand aside too.
    pub(crate) fn all_behind(&self, behind: u64) -> Entries<'_> {
        self.entries((behind.saturating_add(1), u64::MAX), None)
    }

    /// What a keyed batch was answered, if its entries were compacted.
    pub(crate) fn answer_to(&self, first: &Keyed) -> Result<Option<Vec<u64>>> {
        let Some(cover) = self.catalog.compacted.holding(first.first_seq) else { return Ok(None) };
        let Some(section) = self.catalog.section(cover.last) else { return Ok(None) };
        section.open()?.answer(first)
    }

    fn entries(&self, (first, last): (u64, u64), filter: Option<Filter>) -> Entries<'_> {
        Entries {
            view: self,
            first,
            last,
            filter,
            front: None,
            back: None,
            ahead: ReadAhead::default(),
            is_open: last == u64::MAX,
            must_be_whole: false,
            started: false,
            back_checked: false,
            ended: false,
        }
    }

    /// Changes whenever something was compacted.
    pub(crate) fn compactions(&self) -> u32 {
        self.catalog.compacted.parts_numbered
    }

    /// True if something was compacted since it was taken.
    pub(crate) fn is_older_than_the_row(&self) -> bool {
        !Arc::ptr_eq(&self.catalog.compacted, &self.index.catalog().compacted)
    }

    /// Opens whatever it shows behind a Seq, so that it stays although its files are removed.
    ///
    /// # Errors
    ///
    /// `Compacted` for a file that is removed already. Damage is told where it is met.
    pub(crate) fn map_behind(&self, seq: u64) -> Result<()> {
        let is_gone = |opened: &Result<_>| {
            opened.as_ref().is_err_and(|error: &Error| error.kind() == ErrorKind::Compacted)
        };
        let first = self.catalog.holding(seq.saturating_add(1)).unwrap_or(0);
        let mut sections = (first..self.catalog.sections.len()).map(|at| Loaded::open(self, at).map(drop));
        sections.find(is_gone).unwrap_or(Ok(()))
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View(up to {})", self.mark)
    }
}

/// Something that was asked for is not there any more.
#[cold]
pub(crate) fn compacted(doing: impl Into<String>, floor: u64) -> Error {
    Error::new(ErrorKind::Compacted, doing).floored_at(floor)
}

/// The first and last Seq of a range, both inclusive.
fn bounds(seqs: impl RangeBounds<Seq>) -> (u64, u64) {
    let first = match seqs.start_bound() {
        Bound::Included(seq) => seq.get(),
        Bound::Excluded(seq) => seq.get().saturating_add(1),
        Bound::Unbounded => 1,
    };
    let last = match seqs.end_bound() {
        Bound::Included(seq) => seq.get(),
        Bound::Excluded(seq) => seq.get() - 1,
        Bound::Unbounded => u64::MAX,
    };
    (first, last)
}

/// A segment of the row, open, with the number of its frames that the view may see.
#[derive(Clone)]
pub(crate) struct Loaded<'v> {
    pub(crate) at: usize,
    opened: &'v Opened,
    pub(crate) index: IndexRef<'v>,
    first_seq: u64,
    pub(crate) count: u32,
    /// The Seq behind the last that it holds, or held before it was compacted.
    end: u64,
    /// It is a part: its Seqs have gaps.
    pub(crate) is_part: bool,
}

impl<'v> Loaded<'v> {
    /// `None` if the segment lies behind the end of the view.
    pub(crate) fn open(view: &'v View, at: usize) -> Result<Option<Self>> {
        let Some(section) = view.catalog.sections.get(at) else { return Ok(None) };
        if section.number > view.mark.segment() {
            return Ok(None);
        }
        let opened = section.open().map_err(|error| view.unopened(at, section, error))?;
        let index = opened.index();
        let count = if section.number == view.mark.segment() {
            index.count_below(view.mark.offset())
        } else {
            index.count()
        };
        let first_seq = opened.first_seq();
        let dense = first_seq.saturating_add(u64::from(count));
        let end = section.cover.map_or(dense, |cover| cover.last_seq + 1);
        let is_part = section.cover.is_some();
        let loaded = Self { at, opened, index, first_seq, count, end, is_part };
        Ok(if view.through < end { loaded.up_to(view.through) } else { Some(loaded) })
    }

    /// Without what lies behind a Seq; `None`: that is all of it.
    #[cold]
    fn up_to(self, seq: u64) -> Option<Self> {
        let count = self.index.at_or_behind(self.first_seq, seq.saturating_add(1)).min(self.count);
        (self.first_seq <= seq).then(|| Self { count, end: self.end.min(seq.saturating_add(1)), ..self })
    }

    pub(crate) fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// The first Seq that its damage took; 0: there is none.
    pub(crate) fn lost_from(&self) -> u64 {
        self.opened.damage().map_or(0, |damage| damage.first_seq)
    }

    /// Why an entity may be in it that its index does not name; `None`: it is not.
    pub(crate) fn doubt(&self, view: &View) -> Option<Error> {
        let number = view.catalog.sections.get(self.at)?.number;
        self.opened.doubt(|| view.catalog.end_of_gap(number))
    }

    pub(crate) fn segment(&self) -> &'v Arc<Segment> {
        &self.opened.segment
    }

    /// The Seq behind the last one that the view may see.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    #[inline]
    pub(crate) fn ordinal(&self, seq: u64) -> Option<u32> {
        if self.is_part {
            return self.at_or_behind(seq).filter(|ordinal| self.seq(*ordinal) == seq);
        }
        u32::try_from(seq.checked_sub(self.first_seq)?).ok().filter(|ordinal| *ordinal < self.count)
    }

    /// The Seq of a frame.
    #[inline]
    pub(crate) fn seq(&self, ordinal: u32) -> u64 {
        self.index.seq(self.first_seq, ordinal)
    }

    /// The first frame with this Seq or a later one.
    #[inline]
    pub(crate) fn at_or_behind(&self, seq: u64) -> Option<u32> {
        Some(self.index.at_or_behind(self.first_seq, seq)).filter(|ordinal| *ordinal < self.count)
    }

    /// The last frame with this Seq or an earlier one.
    #[inline]
    pub(crate) fn at_or_before(&self, seq: u64) -> Option<u32> {
        let behind = self.index.at_or_behind(self.first_seq, seq.saturating_add(1));
        behind.min(self.count).checked_sub(1)
    }

    /// Tells the processor that a small frame, or the start of a large one, will be read soon.
    #[inline]
    pub(crate) fn prefetch(&self, ordinal: u32, lines: usize) {
        if let Some(offset) = self.index.offset(ordinal) {
            self.opened.segment.map.prefetch(usize::try_from(offset).unwrap_or(0), lines);
        }
    }

    #[inline]
    pub(crate) fn entry(&self, ordinal: u32) -> Result<Entry<'v>> {
        let (offset, frame) = self.opened.frame(&self.index, self.first_seq, ordinal)?;
        Ok(Entry::new(&self.opened.segment, offset, frame))
    }
}

#[derive(Clone)]
enum Filter {
    /// Whatever does not stand aside.
    Shown,
    Kind(KindId),
    Prefix(KindId, Box<[u8]>),
}

impl Filter {
    fn may_be_in(&self, index: &IndexRef<'_>) -> bool {
        match self {
            Self::Shown => true,
            Self::Kind(kind) | Self::Prefix(kind, _) => index.may_hold(kind.0),
        }
    }

    fn accepts(&self, entry: &Entry<'_>) -> bool {
        match self {
            Self::Shown => !entry.frame().header.has(flag::ASIDE),
            Self::Kind(kind) => entry.kind() == *kind,
            Self::Prefix(kind, prefix) => entry.kind() == *kind && entry.key().starts_with(prefix),
        }
    }
}

/// Entries in the order of the log; see [`View::range`].
#[derive(Clone)]
pub struct Entries<'v> {
    view: &'v View,
    /// The range that is left, both inclusive; the iterator narrows it as it goes.
    first: u64,
    last: u64,
    filter: Option<Filter>,
    front: Option<Loaded<'v>>,
    back: Option<Loaded<'v>>,
    ahead: ReadAhead,
    /// Nothing of the range may be missing.
    must_be_whole: bool,
    /// Up to the end of the view, whatever that is.
    is_open: bool,
    started: bool,
    /// Whoever begins at the back was told what is missing there.
    back_checked: bool,
    ended: bool,
}

impl<'v> Entries<'v> {
    /// Clips the range to what the view holds, once.
    fn start(&mut self) -> Result<()> {
        if self.started {
            return Ok(());
        }
        self.started = true;
        let floor = self.view.catalog.compacted.floor_of_all();
        let has_gaps = || self.view.catalog.compacted.overlaps(self.first, self.last);
        if self.must_be_whole && self.first < floor && has_gaps() {
            return Err(compacted(format!("read entries from {} on", self.first), floor));
        }
        let newest = self.view.last_seq()?.map_or(0, Seq::get);
        self.last = self.last.min(newest);
        let oldest = self.view.catalog.sections.first();
        // Where nobody can tell, the search will say so.
        if let Some(first_seq) = oldest.and_then(|section| section.first_seq().ok())
            && self.view.check_gap(self.first - 1, first_seq).is_ok()
        {
            self.first = self.first.max(first_seq);
        }
        Ok(())
    }

    /// The segment with this Seq, starting the search at the one that was used last.
    fn load(&self, held: Option<Loaded<'v>>, seq: u64) -> Result<Option<Loaded<'v>>> {
        match held.filter(|held| (held.first_seq..held.end).contains(&seq)) {
            Some(held) => Ok(Some(held)),
            None => self.view.load(seq),
        }
    }

    /// False if the filter knows that nothing of a segment can pass.
    fn may_hold(&self, section: &Loaded<'_>) -> bool {
        let is_known = section.opened.damage().is_none();
        !is_known || self.filter.as_ref().is_none_or(|filter| filter.may_be_in(&section.index))
    }

    fn accepts(&self, entry: &Entry<'_>) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.accepts(entry))
    }

    #[inline(never)]
    fn step_front(&mut self) -> Result<Option<Entry<'v>>> {
        self.start()?;
        while self.first <= self.last {
            let held = self.front.take();
            let before = held.as_ref().map(|held| held.at);
            let Some(section) = self.load(held, self.first)? else { return self.end_before_all() };
            if before != Some(section.at) {
                self.ahead.enter_segment();
            }
            if section.end() <= self.first || !self.may_hold(&section) {
                // A gap that a repair left, or nothing to find: go on behind the segment.
                let next = self.after(section.at);
                let through = next.map_or(0, |next| next.min(self.last + 1));
                self.view.check_gap(section.end().max(self.first) - 1, through)?;
                self.first = section.end().max(self.first + 1).max(next.unwrap_or(0));
                continue;
            }
            while let Some(ordinal) = section.at_or_behind(self.first) {
                let seq = section.seq(ordinal);
                if seq > self.last {
                    break;
                }
                let entry = section.entry(ordinal)?;
                self.ahead.reach(section.segment(), entry.offset());
                self.first = seq + 1;
                if self.accepts(&entry) {
                    self.front = Some(section);
                    return Ok(Some(entry));
                }
            }
            self.first = self.first.max(section.end());
        }
        if self.is_open { self.view.check_end(self.first.saturating_sub(1)).map(|()| None) } else { Ok(None) }
    }

    /// The first Seq of the segment behind the one at `at`, if there is one that says so. What lies
    /// before it is a gap only if the segment at `at` was all that there is.
    fn after(&self, at: usize) -> Option<u64> {
        let next = self.view.catalog.sections.get(at + 1)?;
        next.first_seq().ok().filter(|_| next.number <= self.view.mark.segment())
    }

    fn step_back(&mut self) -> Result<Option<Entry<'v>>> {
        self.start()?;
        if self.is_open && !std::mem::replace(&mut self.back_checked, true) {
            self.view.check_end(self.last)?;
        }
        while self.first <= self.last {
            let held = self.back.take();
            let Some(section) = self.load(held, self.last)? else { return self.end_before_all() };
            self.view.check_gap(section.end().max(self.first) - 1, self.last + 1)?;
            if section.count == 0 || !self.may_hold(&section) {
                self.last = section.first_seq.min(self.last).saturating_sub(1);
                continue;
            }
            // A gap that a repair left lies between the segment's newest and where we stand.
            self.last = self.last.min(section.end() - 1);
            while let Some(ordinal) = section.at_or_before(self.last) {
                let seq = section.seq(ordinal);
                if seq < self.first {
                    break;
                }
                let entry = section.entry(ordinal)?;
                self.last = seq - 1;
                if self.accepts(&entry) {
                    self.back = Some(section);
                    return Ok(Some(entry));
                }
            }
            self.last = self.last.min(section.first_seq.saturating_sub(1));
        }
        Ok(None)
    }

    /// There is nothing before the first segment: it may be missing.
    fn end_before_all(&self) -> Result<Option<Entry<'v>>> {
        self.view.check_gap(self.first - 1, self.last + 1).map(|()| None)
    }

    fn end_with<T>(&mut self, outcome: Result<Option<T>>) -> Option<Result<T>> {
        self.ended = !matches!(outcome, Ok(Some(_)));
        outcome.transpose()
    }
}

/// Has the kernel read ahead of a scan, further each time: maps are set up for point reads.
#[derive(Clone, Copy, Debug)]
struct ReadAhead {
    /// The offset in the segment at which more is asked for.
    next: u64,
    bytes: u64,
}

impl Default for ReadAhead {
    fn default() -> Self {
        Self { next: 0, bytes: Self::BYTES_MIN }
    }
}

impl ReadAhead {
    const BYTES_MIN: u64 = 64 << 10;
    const BYTES_MAX: u64 = 4 << 20;

    /// The scan has come to an offset in a segment.
    #[inline]
    fn reach(&mut self, segment: &Segment, offset: u64) {
        if offset >= self.next {
            self.ask(segment, offset);
        }
    }

    /// Asks for the next bytes, and will again when the scan is half way through them.
    #[inline(never)]
    fn ask(&mut self, segment: &Segment, offset: u64) {
        segment.will_need(offset, offset + self.bytes);
        self.next = offset + self.bytes / 2;
        self.bytes = (self.bytes * 2).min(Self::BYTES_MAX);
    }

    /// The scan goes on in another segment.
    fn enter_segment(&mut self) {
        self.next = 0;
    }
}

/// How many frames ahead of a scan the processor is told what will be read.
const AHEAD: u32 = 8;

impl<'v> Iterator for Entries<'v> {
    type Item = Result<Entry<'v>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        // The common case, without a search: the next frame of the segment that is open.
        if let Some(section) = &self.front
            && self.filter.is_none()
            && self.first <= self.last
            && let Some(ordinal) = section.ordinal(self.first)
        {
            section.prefetch(ordinal.saturating_add(AHEAD), 2);
            let entry = section.entry(ordinal);
            self.ahead.reach(section.segment(), entry.as_ref().map_or(0, Entry::offset));
            self.first += 1;
            self.ended = entry.is_err();
            return Some(entry);
        }
        let outcome = self.step_front();
        self.end_with(outcome)
    }
}

impl DoubleEndedIterator for Entries<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let outcome = self.step_back();
        self.end_with(outcome)
    }
}

impl FusedIterator for Entries<'_> {}

impl fmt::Debug for Entries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entries({}..={} of {:?})", self.first, self.last, self.view)
    }
}

/// The entries of an iterator, owned.
pub(crate) fn owned<'v>(
    entries: impl Iterator<Item = Result<Entry<'v>>>,
) -> impl Iterator<Item = Result<OwnedEntry>> {
    entries.map(|entry| entry.map(|entry| entry.to_owned()))
}
