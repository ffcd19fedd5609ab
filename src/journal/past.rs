//! A view of an earlier moment: the log as it was behind the last whole batch up to a Seq.
//!
//! Where nothing was compacted that is a matter of looking where a batch ends. Compaction leaves two questions, and what
//! cannot be answered is `Compacted`, for the kind or the entity that it is about and for no other:
//!
//! * **Is everything there that was the newest then?** Of a kind everything from its floor on is there; but what stood
//!   below it may have been dropped for something that came later than the moment. The entity's next entry tells: right
//!   before it there has to be one, or it is the first of all. Where nothing of an entity is left, nobody can tell.
//! * **Where did the batch end?** A segment says so. What compaction has copied says of an entry that its batch ended with
//!   it, or that it goes on with the next one; where neither is said, the rest was dropped, and nobody knows how far it
//!   went. (What was copied before that was said: of two neighbours the first tells whether they are of one batch.)
//!
//! ```text
//!   Seq       11    12    13    .     .     16    17
//!             more  ends              14 and 15 were dropped: the batch of 13 ended with one of them, or
//!                                     goes on with 16
//!                   ^     at(12): all up to 12
//!                   `------------ at(15): of a kind that has nothing from 13 to 15 the same; of another one nobody knows
//! ```

use crate::error::{Error, ErrorKind, Result, entity_text};
use crate::id::{Generation, KindId, Position, Seq};
use crate::journal::entry::Entry;
use crate::journal::region::Region;
use crate::journal::view::{Loaded, View, compacted};

/// An earlier moment, and what came behind it, which says whether what is left of it is all that there was.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    /// With all that came later.
    whole: View,
    /// The moment that was asked for.
    asked: u64,
    /// The last Seq up to then at which a batch ends for certain.
    through: u64,
    /// The Seq is none of this store: an import or a repair left it out.
    is_left_out: bool,
}

impl View {
    /// The view as it was behind the last whole batch up to a Seq.
    ///
    /// # Errors
    ///
    /// `InvalidInput` with both numbers for a Seq that the view does not have; `Corrupt` or `Io` if nobody can tell where
    /// a batch ends.
    pub(crate) fn at(&self, seq: u64) -> Result<(Self, Past)> {
        check_is_earlier(seq, self.last_seq()?.map_or(0, Seq::get))?;
        let is_left_out = self.is_left_out(seq)?;
        // A gap lies between batches, whatever stands before it.
        let through = if is_left_out { seq } else { self.end_of_whole_batch(seq)? };
        let past = Past { whole: self.clone(), asked: seq, through, is_left_out };
        let mut view = self.clone();
        (view.mark, view.through) = (self.end_behind(through)?, through);
        Ok((view, past))
    }

    /// True in a gap that an import or a repair left.
    fn is_left_out(&self, seq: u64) -> Result<bool> {
        if seq == 0 || self.catalog.compacted.holding(seq).is_some() {
            return Ok(false);
        }
        let is_left_out = self.load(seq)?.is_none_or(|section| seq >= section.end());
        if is_left_out {
            // Or it was in what a reader could not read.
            self.check_gap(seq - 1, seq.saturating_add(1))?;
        }
        Ok(is_left_out)
    }

    /// True if an import or a repair left out a Seq from one to another, both included, or nobody can tell.
    fn has_gap(&self, (from, to): (u64, u64)) -> Result<bool> {
        let meets =
            |first: u64, missing: u64| missing > 0 && first > from && first - missing.min(first) <= to;
        if self.catalog.has_hole_between(from.saturating_sub(1), to.saturating_add(1)) {
            return Ok(true);
        }
        for cover in self.catalog.compacted.covers.iter().filter(|cover| cover.last_seq >= from) {
            if meets(cover.first_seq, self.missing_between(cover.first_seq)) {
                return Ok(true);
            }
        }
        let holding = self.catalog.holding(from).unwrap_or(0);
        let sections = self.catalog.sections.iter().enumerate().skip(holding);
        for (at, section) in sections.filter(|(_, section)| section.cover.is_none()) {
            let Ok(first) = section.first_seq() else {
                // Of one that cannot be read nobody can tell, if what stands before it does not reach so far.
                let end = at.checked_sub(1).and_then(|before| self.catalog.end_of(before));
                return Ok(end.is_none_or(|end| end <= to));
            };
            if first > from
                && meets(first, section.missing_before().unwrap_or_else(|| self.missing_between(first)))
            {
                return Ok(true);
            }
            if first > to {
                break;
            }
        }
        Ok(false)
    }

    /// How many Seqs are missing between one and what stands before it, where no preamble says it.
    fn missing_between(&self, first: u64) -> u64 {
        if first <= 1 || self.catalog.compacted.holding(first - 1).is_some() {
            return 0;
        }
        let before = self.catalog.holding(first - 1).and_then(|before| self.catalog.end_of(before));
        first.saturating_sub(before.unwrap_or(1))
    }

    /// The first Seq from this one on at which a batch ends for certain, as far as there is one.
    #[cold]
    fn next_end_of_batch(&self, seq: u64) -> Result<u64> {
        let Some(section) = self.load(seq)? else { return Ok(seq) };
        let Some(from) = section.at_or_behind(seq).filter(|_| seq < section.end()) else {
            // A stretch that was compacted, and a gap, end between batches.
            return Ok(self.catalog.compacted.holding(seq).map_or(seq, |cover| cover.last_seq));
        };
        for ordinal in from..section.count {
            let (here, entry) = (section.seq(ordinal), section.entry(ordinal)?);
            if if section.is_part { ends_in_part(&section, ordinal, &entry) } else { !entry.has_more() } {
                return Ok(here);
            }
        }
        Ok(section.end().saturating_sub(1).max(seq))
    }

    /// The last Seq up to this one at which a batch ends for certain; 0: there is none.
    fn end_of_whole_batch(&self, seq: u64) -> Result<u64> {
        let cover = self.catalog.compacted.holding(seq);
        let before = match cover {
            Some(cover) if cover.last_seq == seq => return Ok(seq),
            // Nothing of it is left.
            Some(cover) if cover.part.is_none() => return Ok(cover.first_seq - 1),
            Some(cover) => cover.first_seq - 1,
            None => 0,
        };
        let Some(section) = self.load(seq)? else { return Ok(seq) };
        if section.is_part {
            return Ok(end_in_part(&section, seq)?.unwrap_or(before));
        }
        let Some(newest) = section.ordinal(seq) else { return Ok(seq) };
        for ordinal in (0..=newest).rev() {
            if !section.entry(ordinal)?.has_more() {
                return Ok(section.seq(ordinal));
            }
        }
        Ok(section.first_seq().saturating_sub(1))
    }

    /// Where the log ends that ends with this Seq.
    fn end_behind(&self, seq: u64) -> Result<Position> {
        let Some(section) = self.load(seq)? else { return Ok(Position::ZERO) };
        Ok(match section.ordinal(seq).filter(|_| !section.is_part) {
            Some(ordinal) => {
                let entry = section.entry(ordinal)?;
                let start = entry.position();
                Position::new(start.segment(), start.offset() + entry.frame_bytes() as u64)
            }
            // All that is left of what held it.
            None => {
                let section = self.catalog.sections.get(section.at);
                section.map_or(Position::ZERO, |section| Position::new(section.number + 1, 0))
            }
        })
    }
}

fn check_is_earlier(seq: u64, newest: u64) -> Result<()> {
    if seq <= newest {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidInput, "read what there was at an earlier moment")
        .sides(format!("a Seq up to {newest}"), seq))
}

/// The last Seq up to one at which a batch ends for certain.
fn end_in_part(part: &Loaded<'_>, seq: u64) -> Result<Option<u64>> {
    let Some(newest) = part.at_or_before(seq) else { return Ok(None) };
    for ordinal in (0..=newest).rev() {
        if ends_in_part(part, ordinal, &part.entry(ordinal)?) {
            return Ok(Some(part.seq(ordinal)));
        }
    }
    Ok(None)
}

/// True if a batch ends for certain with an entry of a part.
fn ends_in_part(part: &Loaded<'_>, ordinal: u32, entry: &Entry<'_>) -> bool {
    let is_followed = || ordinal + 1 < part.count && part.seq(ordinal + 1) == part.seq(ordinal) + 1;
    entry.ends_batch() || !entry.has_more() && is_followed()
}

impl Past {
    /// A view of a moment that is earlier still.
    pub(crate) fn at(&self, seq: u64) -> Result<(View, Self)> {
        check_is_earlier(seq, self.asked)?;
        self.whole.at(seq)
    }

    /// The first entry of an entity behind the moment.
    pub(crate) fn next_of(&self, kind: KindId, key: &[u8]) -> Result<Option<Entry<'_>>> {
        self.whole.first_of_entity_behind(kind, key, self.through)
    }

    /// The entries of a kind that came behind the moment, in order.
    pub(crate) fn behind(&self, kind: KindId) -> impl Iterator<Item = Result<Entry<'_>>> {
        self.whole.region_behind(&Region::Kind(kind), self.through)
    }

    /// True if nothing of a kind is missing that there was up to the moment.
    fn is_whole(&self, kind: KindId) -> Result<bool> {
        Ok(self.floor(kind) == 0 && !self.whole.has_gap((1, self.through))?)
    }

    /// True if something of a kind may be missing that there was up to the moment: its entities' next entries have to be asked.
    pub(crate) fn may_miss(&self, kind: KindId) -> Result<bool> {
        Ok(!self.is_whole(kind)?)
    }

    /// True if what an entity's first entry behind the moment says of what stood before it is how it was at the moment:
    /// nothing of it is missing in between, or nothing from before that.
    pub(crate) fn leads_to(&self, next: &Entry<'_>) -> Result<bool> {
        let between = (self.through.saturating_add(1), next.seq().get() - 1);
        Ok(!self.whole.has_gap(between)? || self.is_whole(next.kind())?)
    }

    /// True if an entity of which a view of the moment shows nothing had nothing, for all that there is to prove it: `next`
    /// is its first entry behind the moment.
    pub(crate) fn had_nothing(&self, kind: KindId, next: Option<&Entry<'_>>) -> Result<bool> {
        match next {
            Some(next) if next.generation() == Generation::FIRST => Ok(true),
            // What begins behind a gap, and what begins anew when it was forgotten, look alike.
            Some(next) => {
                let begins = next.is_first() && next.generation().get() == next.seq().get();
                Ok(begins && self.is_whole(kind)?)
            }
            // One that was dropped as a whole leaves no trace; of what was lost the present knows as little.
            None => Ok(self.floor(kind) == 0 || self.is_the_newest()?),
        }
    }

    /// True if there is nothing behind the moment.
    fn is_the_newest(&self) -> Result<bool> {
        Ok(self.whole.last_seq()?.is_none_or(|newest| newest.get() <= self.asked))
    }

    /// # Errors
    ///
    /// `Compacted` if nobody can tell any more what there was of a kind at the moment.
    pub(crate) fn check_kind(&self, kind: KindId, name: &str) -> Result<()> {
        if self.is_left_out {
            return Err(self.dropped(name, self.behind_gap()?)?);
        }
        let floor = self.floor(kind);
        if self.asked.saturating_add(1) < floor {
            return Err(self.dropped(name, floor - 1)?);
        }
        if self.through == self.asked {
            return Ok(());
        }
        // Somewhere between the two the batch ended. If nothing of the kind is there, and was, it does not matter where.
        let next = self.behind(kind).next().transpose()?;
        let is_same = next.is_none_or(|next| next.seq().get() > self.asked);
        match self.whole.catalog.compacted.holding(self.asked) {
            Some(cover) if !is_same || self.through.saturating_add(1) < floor => {
                Err(self.dropped(name, cover.last_seq)?)
            }
            _ => Ok(()),
        }
    }

    /// # Errors
    ///
    /// `Compacted` if what a view of the moment has as the newest entry of an entity may not be what it was.
    pub(crate) fn check_entity(&self, view: &View, kind: KindId, name: &str, key: &[u8]) -> Result<()> {
        let next = self.next_of(kind, key)?;
        let is_told = match (view.latest(kind, key)?, &next) {
            (Some(newest), Some(next)) => next.follows(&newest),
            (Some(_), None) => true,
            (None, next) => self.had_nothing(kind, next.as_ref())?,
        };
        if is_told { Ok(()) } else { Err(self.dropped_of(name, key, next.as_ref())?) }
    }

    /// What an entity was is gone: what its first entry behind the moment goes on from, or all of it.
    #[cold]
    pub(crate) fn dropped_of(&self, name: &str, key: &[u8], next: Option<&Entry<'_>>) -> Result<Error> {
        let floor = match next {
            Some(next) => Some(next.seq()),
            None => self.whole.last_seq()?,
        };
        self.dropped(&entity_text(name, key), floor.map_or(self.asked, Seq::get))
    }

    /// Between which two times the moment was, which is shown by a view.
    pub(crate) fn times(&self, view: &View, now: i64) -> Result<(i64, i64)> {
        let newest = view.all_behind(0).next_back().transpose()?;
        let from = newest.as_ref().map_or(i64::MIN, Entry::time);
        let is_last = newest.is_some_and(|newest| newest.seq().get() == self.through);
        // Where the batch has lost its end, nobody knows whether a later one was whole by then.
        if is_last
            && (self.through == self.asked || self.whole.catalog.compacted.holding(self.asked).is_none())
        {
            return Ok((from, from));
        }
        let next = self.whole.all_behind(self.asked).next().transpose()?;
        // Behind which there is nothing, that is the present.
        let to = next.map_or(now, |next| next.time());
        Ok(if self.is_the_newest()? { (now, now) } else { (from, to) })
    }

    /// When the moment was is gone.
    #[cold]
    pub(crate) fn dropped_time(&self, name: &str, key: &[u8]) -> Result<Error> {
        let next = self.whole.all_behind(self.asked).next().transpose()?;
        let next = match next {
            Some(next) => Some(next.seq()),
            None => self.whole.last_seq()?,
        };
        self.dropped(&entity_text(name, key), next.map_or(self.asked, Seq::get))
    }

    /// The first Seq behind the gap that the moment lies in.
    #[cold]
    fn behind_gap(&self) -> Result<u64> {
        let next = self.whole.all_behind(self.asked).next().transpose()?;
        Ok(next.map_or(self.asked, |next| next.seq().get()))
    }

    fn floor(&self, kind: KindId) -> u64 {
        self.whole.catalog.compacted.floor(kind.0)
    }

    /// It can be told behind the batch with an entry.
    #[cold]
    fn dropped(&self, what: &str, from: u64) -> Result<Error> {
        let floor = self.whole.next_end_of_batch(from)?;
        Ok(compacted(format!("read {what} as it was at entry {}", self.asked), floor))
    }
}
