//! Where a reader goes on: in the segment that follows, or in the next one that can be read, behind damage that it comes to while
//! it follows the log. That is a hole of the row from then on, as if opening had met it.

use std::io;
use std::sync::Arc;

use crate::disk::Access;
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::Frame;
use crate::format::segment::{FIRST_FRAME, file_name, number_of};
use crate::format::system::{Preamble, System};
use crate::id::{EntryAt, Life, Position, SEQ_MAX};
use crate::index::holes::Hole;
use crate::journal::reader::behind::{DOES_NOT_VALIDATE, damage_at};
use crate::journal::reader::{Follow, Shared};
use crate::log::grid::read_part;
use crate::log::lock::{LiveMarks, SeenLock};
use crate::log::report::Damage;
use crate::log::segment::{Segment, open_header};

/// How far a log has gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct WentOn {
    pub(super) durable: Position,
    /// Everything before it was written.
    end: Position,
}

/// With what it goes on.
#[derive(Clone, Copy, Debug)]
struct GoesOn {
    /// The first segment that can be read, and the Seq that it begins with.
    first: Option<(u32, u64)>,
    /// Where the segment before ends, if somebody says so: behind that may stand what is dead.
    end: Option<u64>,
}

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

    /// `None` if it is not there, or damaged: that can be no reason to withhold what stands before it. What the device or the
    /// system refuses may be had another time.
    pub(super) fn try_open(&self, number: u32) -> Result<Option<Arc<Segment>>> {
        if self.is_left_out(number) {
            return Ok(None);
        }
        let opened = Segment::open(&*self.directory, self.manifest.store, number);
        Ok(self.if_intact(number, opened)?.map(Arc::new))
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

    /// How far the log has gone, as a writer says who has the store, or the last one since the machine was started: what a power
    /// cut left behind a torn end is whole frames too, and dead.
    pub(super) fn went_on(&self, follow: &Follow, marks: Option<LiveMarks>) -> Option<WentOn> {
        if let Some(LiveMarks { visible, durable, poisoned, .. }) = marks {
            let end = if poisoned { durable } else { visible.max(durable) };
            return Some(WentOn { durable, end });
        }
        let words = follow.lock.as_ref()?.last_words();
        words.is_of_this_boot.then_some(WentOn { durable: words.durable, end: words.durable })
    }

    /// Goes on behind what cannot be read, where a writer has gone on there. False: it has not, or not yet.
    pub(super) fn go_on_behind_damage(&self, follow: &mut Follow) -> Result<bool> {
        let goes_on = self.go_on_if_somebody_has(follow)?;
        if !goes_on && follow.sealed {
            self.check_not_refused(follow.segment.number())?;
        }
        Ok(goes_on)
    }

    fn go_on_if_somebody_has(&self, follow: &mut Follow) -> Result<bool> {
        let number = follow.segment.number();
        let through = self.went_on(follow, follow.marks()).map(|went_on| went_on.end.segment());
        let Some(through) = through.filter(|through| *through > number) else { return Ok(false) };
        let Some(on) = self.goes_on_in(follow, through)? else { return Ok(false) };
        // Whoever began that one had ended this one before: all of it can be seen by now.
        let was = (follow.at, follow.sealed);
        while !follow.sealed && self.read_piece(follow)? {}
        if was != (follow.at, follow.sealed) {
            return Ok(true);
        }
        // What compaction has removed is not damaged. It says so before it removes anything.
        self.check_not_left_behind(follow)?;
        if !follow.sealed
            && let Some(end) = on.end.filter(|end| *end > follow.at)
            && self.skip_to_a_batch_below(follow, end)?
        {
            return Ok(true);
        }
        let Some((next, next_seq)) = on.first.filter(|(first, _)| *first <= through) else {
            return Ok(false);
        };
        let Some(segment) = self.try_open(next)? else { return Ok(false) };
        let follows = segment.header.follows;
        let goes_back = follows.segment() < number
            || follows.segment() == number && follows.offset() != 0 && follows.offset() < follow.at;
        if goes_back || next_seq <= follow.last_seq {
            // The log went back, which the next look finds: this one listed what follows before that was there.
            return Ok(false);
        }
        self.lose_up_to(follow, &segment, next_seq)?;
        follow.last_seq = follow.last_seq.max(next_seq.saturating_sub(1));
        self.enter(follow, segment)
    }

    /// With what the log goes on behind the segment that is followed: up to the one that a writer has come to, as far as those
    /// behind that say what they follow. A spare is no part of it, nor is what no later one names: that may be dead.
    fn goes_on_in(&self, follow: &Follow, through: u32) -> Result<Option<GoesOn>> {
        let number = follow.segment.number();
        // What the one who writes has begun itself is of the log.
        let life = follow.lock.as_ref().and_then(SeenLock::holder).map(|holder| Life(holder.life));
        let mut newest = None;
        for other in self.numbers_behind(number)?.into_iter().rev() {
            let begins = match self.begins_with(other) {
                // Nobody has come to a spare.
                Err(error) if other > through && !error.is_passing() => {
                    self.refused.lock().remove(&other);
                    continue;
                }
                begins => begins?,
            };
            let is_of_it = match begins {
                // One behind that has come since the writer was asked.
                Some((_, begun_by)) => other >= through || Some(begun_by) == life,
                None => other == through && self.follows(other)?.is_some(),
            };
            if is_of_it {
                newest = Some((other, begins));
                break;
            }
        }
        let Some((mut at, begins)) = newest else { return Ok(None) };
        let mut on = GoesOn { first: begins.map(|(next_seq, _)| (at, next_seq)), end: None };
        while let Some(follows) = self.follows(at)? {
            let before = follows.segment();
            if before == number {
                on.end = Some(Some(follows.offset()).filter(|end| *end != 0).unwrap_or(u64::MAX));
            }
            if before <= number || before >= at {
                break;
            }
            let Some((next_seq, _)) = self.begins_with(before)? else { break };
            (at, on.first) = (before, Some((before, next_seq)));
        }
        Ok(Some(on))
    }

    /// What a segment says it follows; `None` if it is not there, or damaged.
    fn follows(&self, number: u32) -> Result<Option<Position>> {
        if self.is_left_out(number) {
            return Ok(None);
        }
        let opened = open_header(&*self.directory, self.manifest.store, number, Access::Read);
        Ok(self.if_intact(number, opened)?.map(|(_, header)| header.follows))
    }

    /// The Seq that a segment's preamble begins with, and the life that wrote it; `None`: there is none that is whole.
    fn begins_with(&self, number: u32) -> Result<Option<(u64, Life)>> {
        const ENOUGH_BYTES: usize = 512;
        if self.is_left_out(number) {
            return Ok(None);
        }
        let opened = open_header(&*self.directory, self.manifest.store, number, Access::Read);
        let Some((file, header)) = self.if_intact(number, opened)? else { return Ok(None) };
        let path = || self.directory.path().join(file_name(number));
        let bytes = match read_part(&*file, FIRST_FRAME, ENOUGH_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            bytes => bytes.map_err(|e| Error::io("read a segment's first frame", e).at(path()))?,
        };
        let frame = Frame::parse(&bytes).filter(|frame| {
            let is_preamble = frame.header.is_system() && frame.header.operation == System::Preamble as u8;
            is_preamble && frame.is_good(header.salt, Position::new(number, FIRST_FRAME))
        });
        Ok(frame.and_then(|frame| {
            let next_seq = Preamble::read(frame.payload())?.next_seq;
            (1..=SEQ_MAX).contains(&next_seq).then(|| (next_seq, frame.header.life()))
        }))
    }

    /// Leaves what is lost between the end of what was read and a segment, if somebody was not told of it.
    fn lose_up_to(&self, follow: &mut Follow, next: &Segment, next_seq: u64) -> Result<()> {
        let number = follow.segment.number();
        let last = next.header.follows.segment().max(number);
        if let Some(lost) = self.lost_here(follow) {
            if last > number {
                let more = Hole { last, through: EntryAt::new(last, u32::MAX), ..lost.clone() };
                self.index.leave_instead(&lost, Some(more.clone()));
                follow.lost = Some(more);
            }
            return Ok(());
        }
        let (first_seq, last_seq) = (follow.last_seq + 1, next_seq.saturating_sub(1));
        let first = if follow.sealed { (number + 1).min(last) } else { number };
        if first_seq > last_seq || last > number && self.is_left_out(last) {
            return Ok(());
        }
        let is_refused = self.refused.lock().contains(&first);
        let (offset, what) = match follow.sealed {
            true if is_refused => (0, "the device refuses to read its header"),
            true => (0, "its header does not match what was written, or the file is missing"),
            false => (follow.at, DOES_NOT_VALIDATE),
        };
        let damage =
            Damage { last_seq, unreadable: is_refused, ..damage_at((first, offset), first_seq, what) };
        let through = match last == number {
            true => EntryAt::new(number, self.live(follow)?.count()),
            false => EntryAt::new(last, u32::MAX),
        };
        self.index.leave(Hole { through, ..Hole::of(first, last, damage) });
        Ok(())
    }

    /// What is damaged, or not there, is told as a hole. What the device refuses may be had another time: it is an error, and if it
    /// is refused again, and the log goes on behind it, a hole too. Anything else passes, or is for somebody to mend.
    fn if_intact<T>(&self, number: u32, opened: Result<T>) -> Result<Option<T>> {
        match opened {
            Err(error) if error.is_corruption() || error.is_not_found() => Ok(None),
            Err(error) if error.kind() == ErrorKind::Io && !error.is_passing() => {
                let is_known = !self.refused.lock().insert(number);
                if is_known { Ok(None) } else { Err(error) }
            }
            opened => {
                self.refused.lock().remove(&number);
                opened.map(Some)
            }
        }
    }

    /// Where nobody could go on: an error if that is for what the device refuses.
    fn check_not_refused(&self, behind: u32) -> Result<()> {
        let refused = self.refused.lock().range(behind.saturating_add(1)..).next().copied();
        let Some(number) = refused else { return Ok(()) };
        match open_header(&*self.directory, self.manifest.store, number, Access::Read) {
            Err(error) if error.kind() == ErrorKind::Io => Err(error),
            _ => {
                self.refused.lock().remove(&number);
                Ok(())
            }
        }
    }
}
