//! Where a reader goes on: in the segment that follows, or in the next one that can be read, behind damage that it comes to while
//! it follows the log. That is a hole of the row from then on, as if opening had met it.

use std::sync::Arc;

use crate::disk::Access;
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::Frame;
use crate::format::segment::number_of;
use crate::format::system::Preamble;
use crate::id::{EntryAt, SEQ_MAX};
use crate::index::holes::Hole;
use crate::journal::reader::{Follow, Shared};
use crate::log::report::Damage;
use crate::log::segment::{Segment, look_at_preamble, open_header};

impl Shared {
    /// The newest segment that says it follows the one being read; or something before that one,
    /// which is then no part of the log any more: the disk lost what this reader saw of it.
    pub(super) fn follower_of(&self, follow: &Follow) -> Result<Option<Arc<Segment>>> {
        let number = follow.segment.number();
        for other in self.numbers_behind(number)?.into_iter().rev() {
            if let Some(segment) = self.try_open(other)?
                && segment.header.follows.segment() <= number
            {
                return Ok(Some(segment));
            }
        }
        Ok(None)
    }

    /// `None` if it is not there, or damaged: that can be no reason to withhold what stands before it.
    pub(super) fn try_open(&self, number: u32) -> Result<Option<Arc<Segment>>> {
        if self.is_left_out(number) {
            return Ok(None);
        }
        match Segment::open(&*self.directory, self.manifest.store, number) {
            Ok(segment) => Ok(Some(Arc::new(segment))),
            Err(error) if error.is_passing() || error.kind() == ErrorKind::FormatTooNew => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// The segments behind one, oldest first.
    fn numbers_behind(&self, number: u32) -> Result<Vec<u32>> {
        let names = self.directory.list();
        let names = names.map_err(|e| Error::io("list the store", e).at(self.directory.path()))?;
        let numbers = names.iter().filter_map(|entry| number_of(&entry.name)).filter(|other| *other > number);
        let mut numbers: Vec<u32> = numbers.collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// True of a segment of which nothing could be read.
    fn is_left_out(&self, number: u32) -> bool {
        let is_in = |hole: &Hole| (hole.first..=hole.last).contains(&number) && hole.is_of_whole_segments();
        self.index.catalog().holes.iter().any(is_in)
    }

    /// The segment up to which the log has gone, as a writer says who has the store, or the last one since the machine was started:
    /// what a power cut left behind a torn end is whole frames too, and dead.
    fn went_on_to(&self, follow: &Follow) -> Option<u32> {
        let lock = follow.lock.as_ref()?;
        if let Some(marks) = lock.marks() {
            return Some(marks.visible.segment());
        }
        let words = lock.last_words();
        (!words.is_of_another_boot).then(|| words.durable.segment())
    }

    /// Goes on behind what cannot be read, where a writer has gone on there. False: it has not, or not yet.
    pub(super) fn go_on_behind_damage(&self, follow: &mut Follow) -> Result<bool> {
        let number = follow.segment.number();
        let Some(through) = self.went_on_to(follow).filter(|through| *through > number) else {
            return Ok(false);
        };
        let Some((next, next_seq)) = self.next_readable(number)?.filter(|(next, _)| *next <= through) else {
            return Ok(false);
        };
        // Whoever began that one had ended this one before: all of it can be seen by now.
        let was = (follow.at, follow.sealed);
        while !follow.sealed && self.read_piece(follow)? {}
        if was != (follow.at, follow.sealed) {
            return Ok(true);
        }
        // What compaction has removed is not damaged. It says so before it removes anything.
        self.check_not_left_behind(follow)?;
        let Some(segment) = self.try_open(next)? else { return Ok(false) };
        let follows = segment.header.follows;
        let goes_back = follows.segment() < number
            || follows.segment() == number && follows.offset() != 0 && follows.offset() < follow.at;
        if goes_back || next_seq <= follow.last_seq {
            // The log went back, which the next look finds: this one listed what follows before that was there.
            return Ok(false);
        }
        if let Some(hole) = self.hole_before(follow, &segment, next_seq)? {
            self.index.leave(hole);
        }
        follow.last_seq = follow.last_seq.max(next_seq.saturating_sub(1));
        self.enter(follow, segment)
    }

    /// The first segment behind one with which the log goes on, as far as those behind that say what they follow; and the Seq that
    /// it begins with. A spare is none, nor is what no later one names.
    fn next_readable(&self, number: u32) -> Result<Option<(u32, u64)>> {
        let (directory, store) = (&*self.directory, self.manifest.store);
        let numbers = self.numbers_behind(number)?;
        let begins_with = |other: u32| {
            let next_seq = |frame: &Frame<'_>| {
                let next_seq = Preamble::read(frame.payload())?.next_seq;
                (1..=SEQ_MAX).contains(&next_seq).then_some(next_seq)
            };
            if self.is_left_out(other) { None } else { look_at_preamble(directory, store, other, next_seq) }
        };
        let newest = numbers.iter().rev().find_map(|other| Some((*other, begins_with(*other)?)));
        let Some(mut found) = newest else { return Ok(None) };
        loop {
            let (_, header) = match open_header(directory, store, found.0, Access::Read) {
                // A writer may have taken it back meanwhile.
                Err(error) if error.is_not_found() => return Ok(None),
                header => header?,
            };
            let before = header.follows.segment();
            match begins_with(before).filter(|_| before > number && before < found.0) {
                Some(next_seq) => found = (before, next_seq),
                None => return Ok(Some(found)),
            }
        }
    }

    /// What is lost between the end of what was read and a segment; `None`: nothing, or somebody was told of it.
    fn hole_before(&self, follow: &mut Follow, next: &Segment, next_seq: u64) -> Result<Option<Hole>> {
        let number = follow.segment.number();
        let (first_seq, last_seq) = (follow.last_seq + 1, next_seq.saturating_sub(1));
        let last = next.header.follows.segment().max(number);
        let first = if follow.sealed { (number + 1).min(last) } else { number };
        if first_seq > last_seq || last > number && self.is_left_out(last) {
            return Ok(None);
        }
        let (offset, what) = match follow.sealed {
            true => (0, "its header does not match what was written, or the file is missing"),
            false => (follow.at, "a place that does not validate, and the log goes on behind it"),
        };
        let what = what.to_owned();
        let damage = Damage {
            segment: first,
            offset,
            lost_from: offset,
            next_good: None,
            first_seq,
            last_seq,
            what,
            unreadable: false,
        };
        let through = match last == number {
            true => EntryAt::new(number, self.live(follow)?.count()),
            false => EntryAt::new(last, u32::MAX),
        };
        Ok(Some(Hole { through, ..Hole::of(first, last, damage) }))
    }
}
