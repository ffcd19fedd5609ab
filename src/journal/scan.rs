//! A reader's place in the log: forward through a region, from one view to the next.
//!
//! Unlike an iterator over a view it owns what it reads, so that it can go on when the log has
//! grown. It remembers up to which Seq it has *looked*: also at entries that are not of its region, and at what the index of
//! a segment says need not be looked at.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::feed::shard::Interest;
use crate::format::frame::flag;
use crate::format::index::EntityHash;
use crate::id::{KindId, Position, Seq};
use crate::index::catalog::{IndexRef, Section};
use crate::index::live::LiveIndex;
use crate::journal::entry::Entry;
use crate::journal::region::Region;
use crate::journal::sieve::Sieve;
use crate::journal::view::View;

/// A place in a region.
#[derive(Debug)]
pub(crate) struct Scan {
    region: Region,
    hash: EntityHash,
    view: View,
    /// Everything up to this Seq was looked at.
    looked: u64,
    /// The floor of the region that the reader knows of.
    floor: u64,
    /// What was dropped since it last looked, before it could look at it.
    dropped: Option<RangeInclusive<u64>>,
    here: Option<Here>,
    /// For an entity: its next entries, by the index.
    found: VecDeque<u64>,
    /// So many are looked up next.
    wanted: usize,
    /// There are no more of them in this view.
    is_searched: bool,
    /// The view has nothing more.
    is_spent: bool,
    /// Where it was told that something is missing behind all that there is.
    told_end: Option<u64>,
    /// Of each entity no more is wanted than its newest entry in the view, and what may be that.
    only_newest: bool,
}

/// The segment that is being read.
#[derive(Debug)]
struct Here {
    section: Arc<Section>,
    /// Its arrays, if it has no index file yet.
    live: Option<Arc<LiveIndex>>,
    first_seq: u64,
    /// The Seq behind the last that the view shows of it.
    end: u64,
    /// Entries that the view shows of it.
    count: u32,
    /// What of it is looked at.
    sieve: Sieve,
    /// Which entry the scan is at, and where that stands.
    ordinal: u32,
    offset: u64,
}

/// How many entries of an entity are looked up at a time, at first and at most: in a segment that is being written each look-up
/// begins with the newest, so that many of them for a long history would be as many walks over all of it.
const FOUND_AT_ONCE: RangeInclusive<usize> = 256..=1 << 16;

impl Scan {
    /// Behind `looked`, in a view.
    pub(crate) fn new(region: Region, view: View, looked: u64) -> Self {
        let hash = match &region {
            Region::Entity(kind, key) => view.index().hash(kind.0, key),
            _ => 0,
        };
        // Whoever begins with what is new has nothing to look at yet.
        let is_spent = view.last_seq().is_ok_and(|newest| newest.map_or(0, Seq::get) <= looked);
        let floor = view.floor(&region).map_or(0, Seq::get);
        Self {
            region,
            hash,
            view,
            looked,
            floor,
            dropped: None,
            here: None,
            found: VecDeque::new(),
            wanted: *FOUND_AT_ONCE.start(),
            is_searched: false,
            is_spent,
            told_end: None,
            only_newest: false,
        }
    }

    /// The same over a kind, leaving out most of what is not the newest entry of its entity in the view.
    pub(crate) fn of_newest(kind: KindId, view: View, looked: u64) -> Self {
        Self { only_newest: true, ..Self::new(Region::Kind(kind), view, looked) }
    }

    /// True if the entry at which the scan is is known to be the newest of its entity in the view. False: it may be.
    pub(crate) fn is_certainly_newest(&self) -> bool {
        self.here.as_ref().is_some_and(|here| here.sieve.is_certain(here.ordinal))
    }

    /// Who has to be woken for more.
    pub(crate) fn interest(&self) -> Interest {
        match &self.region {
            Region::All => Interest::ALL,
            Region::Kind(kind) | Region::Prefix(kind, _) => Interest::of_kind(kind.0),
            Region::Entity(..) => Interest::of_entity(self.hash),
        }
    }

    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    /// Where the view ends.
    pub(crate) fn mark(&self) -> Position {
        self.view.mark
    }

    /// Everything up to this Seq was looked at.
    pub(crate) fn looked(&self) -> u64 {
        self.looked
    }

    /// Stands where it stood before.
    pub(crate) fn go_back_to(&mut self, looked: u64) {
        self.looked = looked;
        self.found.clear();
        self.is_searched = false;
        self.is_spent = false;
        self.told_end = None;
    }

    /// Goes on in another region behind a Seq; what was dropped of it behind that is told.
    pub(crate) fn turn_to(&mut self, region: Region, looked: u64) {
        let view = self.view.clone();
        *self = Self { floor: 0, ..Self::new(region, view.clone(), looked) };
        self.go_on_in(view);
    }

    /// Whoever asked what was dropped knows it.
    pub(crate) fn has_told_dropped(&mut self) {
        self.dropped = None;
    }

    /// What was dropped before it could look at it. The floor of a kind rises with what is dropped of any entity: of one it can be
    /// told whether something of it was.
    pub(crate) fn dropped(&mut self) -> Result<Option<&RangeInclusive<u64>>> {
        if self.dropped.is_some()
            && let Region::Entity(kind, key) = &self.region
            && self.view.has_all_behind(*kind, key, self.looked)?
        {
            self.dropped = None;
        }
        Ok(self.dropped.as_ref())
    }

    /// How many entries there are in a range of which some were dropped, of whatever region they are.
    pub(crate) fn left_of(&self, seqs: &RangeInclusive<u64>) -> Result<u64> {
        self.view.count_between(*seqs.start(), *seqs.end())
    }

    /// The view may hold more than was shown.
    pub(crate) fn may_have_more(&self) -> bool {
        !self.is_spent
    }

    /// Goes on behind what could not be read. False: the error does not say what that is.
    pub(crate) fn pass_over(&mut self, error: &Error) -> bool {
        let Some(lost) = error.seqs() else { return false };
        let moved = *lost.end() > self.looked;
        self.looked = self.looked.max(*lost.end());
        self.found.retain(|seq| *seq > *lost.end());
        moved || lost.contains(&self.looked)
    }

    /// Goes on in a later view.
    pub(crate) fn go_on_in(&mut self, view: View) {
        let floor = view.floor(&self.region).map_or(0, Seq::get);
        let first = (self.looked + 1).max(self.floor);
        if floor > first {
            let first = self.dropped.as_ref().map_or(first, |dropped| *dropped.start());
            self.dropped = Some(first..=floor - 1);
        }
        self.floor = self.floor.max(floor);
        self.view = view;
        self.is_searched = false;
        self.is_spent = false;
        // How much there is of the segment has changed with the view.
        self.here = None;
    }

    /// Steps to the next entry of the region. False: the view has no more.
    ///
    /// After an error the place is behind the entry that could not be read, so that the next
    /// call goes on there; the error names what was passed.
    pub(crate) fn advance(&mut self) -> Result<bool> {
        // Also behind an error there may be more.
        self.is_spent = false;
        let found = self.step()?;
        self.is_spent = !found;
        Ok(found)
    }

    #[inline]
    fn step(&mut self) -> Result<bool> {
        if matches!(self.region, Region::Entity(..)) {
            return self.advance_in_entity();
        }
        while let Some(ordinal) = self.load(self.looked + 1)? {
            if self.step_to(ordinal)? {
                return Ok(true);
            }
        }
        self.end()
    }

    /// True if it was told that what comes next is missing.
    pub(crate) fn is_at_the_end(&self) -> bool {
        self.told_end == Some(self.looked)
    }

    /// There is no more: an error, once, where what comes next is missing. It may go missing also behind one that was here before.
    fn end(&mut self) -> Result<bool> {
        if self.told_end != Some(self.looked) {
            self.view.check_end(self.looked).inspect_err(|_| self.told_end = Some(self.looked))?;
        }
        Ok(false)
    }

    /// The entry at which the scan is.
    pub(crate) fn entry(&self) -> Option<Entry<'_>> {
        let here = self.here.as_ref()?;
        let segment = &here.section.if_open()?.segment;
        Some(Entry::new(segment, here.offset, segment.frame(here.offset)?))
    }

    fn advance_in_entity(&mut self) -> Result<bool> {
        if self.found.is_empty() && !self.is_searched {
            self.find_more()?;
        }
        let Some(seq) = self.found.pop_front() else {
            // Nothing of it is between here and the end of the view. Whoever lies idle takes no more than a place.
            self.found = VecDeque::new();
            self.looked = self.view.last_seq()?.map_or(self.looked, |last| last.get().max(self.looked));
            return self.end();
        };
        // Also what cannot be read was looked at then, but for what can be another time.
        let looked = std::mem::replace(&mut self.looked, seq);
        match self.load(seq) {
            Ok(Some(ordinal)) => self.step_to(ordinal),
            Ok(None) => Ok(false),
            Err(error) => {
                if error.is_passing() {
                    self.looked = looked;
                    self.found.push_front(seq);
                }
                Err(error)
            }
        }
    }

    /// Looks up the entity's next entries behind what was looked at.
    fn find_more(&mut self) -> Result<()> {
        let Region::Entity(kind, key) = &self.region else { return Ok(()) };
        let wanted = self.wanted;
        for entry in self.view.entity_followed(*kind, key, self.looked).take(wanted) {
            match entry {
                Ok(entry) => self.found.push_back(entry.seq().get()),
                Err(error) if self.found.is_empty() => return Err(error),
                // What stands before it is shown first.
                Err(_) => return Ok(()),
            }
        }
        self.is_searched = self.found.len() < wanted;
        if self.is_searched {
            // What it took for the many is given back before it lies idle.
            self.wanted = *FOUND_AT_ONCE.start();
        } else {
            self.wanted = (wanted * 2).min(*FOUND_AT_ONCE.end());
        }
        Ok(())
    }

    /// Makes `here` the segment with the first entry at or behind this Seq, and says which of its entries
    /// that is. `None`: the view has no more.
    fn load(&mut self, seq: u64) -> Result<Option<u32>> {
        let mut seq = seq;
        loop {
            if let Some(here) = self.here.as_ref().filter(|here| (here.first_seq..here.end).contains(&seq)) {
                if let Some(ordinal) = here.at_or_behind(seq)? {
                    return Ok(Some(ordinal));
                }
                // What the sieve holds back, and what is missing at the end of a part, was looked at.
                self.looked = self.looked.max(here.end - 1);
                seq = here.end;
            }
            self.here = None;
            let Some(shown) = self.view.section_at_or_behind(seq)? else {
                // What was dropped at the end was looked at.
                self.looked = self.looked.max(self.view.compacted_behind(seq));
                return Ok(None);
            };
            let first_seq = shown.first_seq;
            self.here = Some(self.enter(shown, seq)?);
            self.view.check_gap(self.looked, first_seq)?;
            // A repair leaves gaps in the numbers: what is not there was looked at.
            self.looked = self.looked.max(first_seq.saturating_sub(1));
            seq = seq.max(first_seq);
        }
    }

    fn enter(&self, shown: Shown, seq: u64) -> Result<Here> {
        let Shown { section, first_seq, end, count } = shown;
        let opened = section.open()?;
        let live = match opened.index() {
            IndexRef::Live(live) => Some(live),
            IndexRef::Sealed(..) => None,
        };
        let sieve = match &self.region {
            Region::Kind(kind) if self.only_newest => {
                let first = opened.index().at_or_behind(first_seq, seq);
                Sieve::of_newest(&self.view, opened, *kind, first..count)
            }
            Region::Kind(kind) | Region::Prefix(kind, _) => Sieve::of_kind(opened, *kind),
            Region::All | Region::Entity(..) => Sieve::Everything,
        };
        Ok(Here { section, live, first_seq, end, count, sieve, ordinal: 0, offset: 0 })
    }

    /// Reads an entry of the segment that is loaded. True: it is of the region.
    fn step_to(&mut self, ordinal: u32) -> Result<bool> {
        let Some(here) = self.here.as_mut() else { return Ok(false) };
        let opened = here.section.open()?;
        // Also what cannot be read was looked at then.
        self.looked = match &here.live {
            Some(_) => here.first_seq + u64::from(ordinal),
            None => opened.index().seq(here.first_seq, ordinal),
        };
        let (offset, frame) = match &here.live {
            Some(live) => opened.frame_at(live.offset(ordinal), here.first_seq, ordinal)?,
            None => opened.frame(&opened.index(), here.first_seq, ordinal)?,
        };
        (here.ordinal, here.offset) = (ordinal, offset);
        Ok(match &self.region {
            Region::All => !frame.header.has(flag::ASIDE),
            Region::Kind(kind) => frame.header.kind.get() == kind.0,
            Region::Prefix(kind, prefix) => {
                frame.header.kind.get() == kind.0 && frame.key().starts_with(prefix)
            }
            Region::Entity(kind, key) => frame.header.kind.get() == kind.0 && frame.key() == &**key,
        })
    }
}

impl Here {
    /// The first of its entries with this Seq or a later one, of those that are looked at.
    fn at_or_behind(&self, seq: u64) -> Result<Option<u32>> {
        let ordinal = match &self.live {
            Some(_) => u32::try_from(seq.saturating_sub(self.first_seq)).unwrap_or(u32::MAX),
            None => self.section.open()?.index().at_or_behind(self.first_seq, seq),
        };
        Ok(self.sieve.next(ordinal).filter(|ordinal| *ordinal < self.count))
    }
}

/// A segment that a view shows a part of.
pub(crate) struct Shown {
    pub(crate) section: Arc<Section>,
    pub(crate) first_seq: u64,
    pub(crate) end: u64,
    pub(crate) count: u32,
}

impl View {
    /// The segment that holds this Seq, or the next one that the view shows anything of.
    fn section_at_or_behind(&self, seq: u64) -> Result<Option<Shown>> {
        let newest = self.last_seq()?.map_or(0, Seq::get);
        if seq > newest {
            return Ok(None);
        }
        let mut at = self.catalog.holding(seq).unwrap_or(0);
        while let Some(loaded) = crate::journal::view::Loaded::open(self, at)? {
            let (first_seq, end, count) = (loaded.first_seq(), loaded.end(), loaded.count);
            if loaded.at_or_behind(seq).is_some() {
                // A gap in the numbers: damage took what was there, or a repair left it.
                let is_lost = seq < first_seq && self.catalog.compacted.holding(seq).is_none();
                let gap = at.checked_sub(1).filter(|_| is_lost);
                if let Some(damage) = gap.and_then(|before| self.catalog.damage_behind(before)) {
                    return Err(Error::corrupt(format!("read entry {seq}: {}", damage.what))
                        .place(damage.segment, damage.offset)
                        .lost(seq..=first_seq - 1));
                }
                let section =
                    Arc::clone(self.catalog.sections.get(at).unwrap_or_else(|| panic!("it was opened")));
                return Ok(Some(Shown { section, first_seq, end, count }));
            }
            at += 1;
        }
        Ok(None)
    }

    /// The last Seq at or behind this one that was dropped, where nothing is left behind it; 0: none.
    fn compacted_behind(&self, seq: u64) -> u64 {
        let last = self.catalog.compacted.covers.last().map_or(0, |cover| cover.last_seq);
        if last >= seq { last } else { 0 }
    }

    /// True if nothing is missing of an entity's history behind a Seq.
    fn has_all_behind(&self, kind: KindId, key: &[u8], seq: u64) -> Result<bool> {
        let mut next: Option<Entry<'_>> = None;
        for entry in self.entity_behind(kind, key, 0).rev() {
            let entry = match entry {
                // Whoever goes on is told of that where it stands.
                Err(error) if error.is_corruption() => return Ok(false),
                entry => entry?,
            };
            let is_dense = next.is_none_or(|next| {
                next.is_first() || entry.generation().get() + 1 == next.generation().get()
            });
            if !is_dense {
                return Ok(false);
            }
            if entry.seq().get() <= seq {
                return Ok(true);
            }
            next = Some(entry);
        }
        // Of one of which nothing is left, nobody knows what there was.
        Ok(next.is_some_and(|next| next.is_first() && next.generation().get() == 1))
    }

    /// How many entries there are between two Seqs, both included, as far as they can be read.
    fn count_between(&self, first: u64, last: u64) -> Result<u64> {
        let mut count = 0;
        let mut at = self.catalog.holding(first).unwrap_or(0);
        loop {
            let loaded = match crate::journal::view::Loaded::open(self, at) {
                // Whoever comes to it is told what is lost.
                Err(error) if !error.is_passing() && error.kind() != ErrorKind::Compacted => {
                    at += 1;
                    continue;
                }
                loaded => loaded?,
            };
            let Some(loaded) = loaded.filter(|loaded| loaded.first_seq() <= last) else { break };
            let place = |seq| loaded.at_or_behind(seq).unwrap_or(loaded.count);
            count += u64::from(place(last + 1)) - u64::from(place(first));
            at += 1;
        }
        Ok(count)
    }
}
