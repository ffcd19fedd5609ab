//! Where a reader goes on in the segment that it is in, behind a place in it that does not validate: with the next whole batch,
//! as far as somebody says that this is of the log. What stands between is a hole.

use crate::error::Result;
use crate::format::frame::Frame;
use crate::id::FRAME_ALIGN;
use crate::index::holes::Hole;
use crate::journal::reader::damaged::WentOn;
use crate::journal::reader::{Follow, Shared};
use crate::log::behind::seq_before;
use crate::log::grid::{next_good, whole_batch};
use crate::log::lock::LiveMarks;
use crate::log::report::Damage;
use crate::log::salvage::whole_batch_from;
use crate::log::segment::Segment;

pub(super) const DOES_NOT_VALIDATE: &str = "a place that does not validate, and the log goes on behind it";

impl Shared {
    /// Goes on behind what is damaged in the segment that the writer is in, or was in last. What it calls durable was written
    /// before: if that does not validate it is no batch half written. False: there is nothing of it that was not read.
    pub(super) fn go_on_in_the_segment(&self, follow: &mut Follow, marks: Option<LiveMarks>) -> Result<bool> {
        let here = follow.segment.position(follow.at);
        let Some(WentOn { durable, .. }) = self.went_on(follow, marks) else { return Ok(false) };
        let is_in_it = durable.segment() == here.segment() && durable.offset() <= follow.segment.header.bytes;
        if !is_in_it || durable <= here {
            return Ok(false);
        }
        // It may have come since this reader looked last.
        if self.read_piece(follow)? {
            return Ok(true);
        }
        self.check_not_left_behind(follow)?;
        if !self.skip_to_a_batch_below(follow, durable.offset())? {
            // A mark stands between two batches: behind it the next one says how much this was.
            self.lose_from_here(follow)?;
            follow.at = durable.offset();
        }
        Ok(true)
    }

    /// Goes on with the next whole batch below `end`. False: there is none.
    pub(super) fn skip_to_a_batch_below(&self, follow: &mut Follow, end: u64) -> Result<bool> {
        let end = end.min(follow.segment.header.bytes);
        let mut bytes = vec![0; usize::try_from(end).unwrap_or(0)];
        let rest = usize::try_from(follow.at).ok().and_then(|at| bytes.get_mut(at..)).unwrap_or_default();
        let read = follow.file.read_at(rest, follow.at);
        read.map_err(|e| self.io("follow the log", &follow.segment, follow.at, e))?;
        let next = next_batch(&follow.segment, &bytes, follow.at);
        // One with an earlier Seq nobody writes behind this.
        let Some((next, before)) = next.filter(|(_, before)| *before >= follow.last_seq) else {
            return Ok(false);
        };
        self.lose_from_here(follow)?;
        self.lose_before(follow, before)?;
        follow.at = next;
        Ok(true)
    }

    /// Something is lost from here on: what comes behind it says how much.
    fn lose_from_here(&self, follow: &mut Follow) -> Result<()> {
        follow.lost = self.lost_here(follow);
        if follow.lost.is_none() {
            let number = follow.segment.number();
            let damage = damage_at((number, follow.at), follow.last_seq + 1, DOES_NOT_VALIDATE);
            let hole = Hole::within(number, damage, Some(self.live(follow)?.count()));
            self.index.leave(hole.clone());
            follow.lost = Some(hole);
        }
        Ok(())
    }

    /// What was told already of something that begins, or ended without an end, where this reader is.
    pub(super) fn lost_here(&self, follow: &Follow) -> Option<Hole> {
        let number = follow.segment.number();
        let is_it = |hole: &&Hole| {
            let Damage { segment, lost_from, next_good, .. } = hole.damage;
            (segment, lost_from, next_good) == (number, follow.at, None)
        };
        follow.lost.clone().or_else(|| self.index.catalog().holes.iter().find(is_it).cloned())
    }

    /// What comes next says which Seq was the last of what was lost before it.
    pub(super) fn lose_before(&self, follow: &mut Follow, through: u64) -> Result<()> {
        let live = self.live(follow)?;
        let Some(lost) = follow.lost.take() else { return Ok(()) };
        let last_seq = through.max(lost.damage.last_seq);
        if follow.began {
            live.skip_to(last_seq.saturating_add(1));
        }
        follow.last_seq = follow.last_seq.max(last_seq);
        let is_any = lost.damage.first_seq <= last_seq;
        let known = Hole { damage: Damage { last_seq, ..lost.damage.clone() }, ..lost.clone() };
        self.index.leave_instead(&lost, is_any.then_some(known));
        Ok(())
    }
}

/// Damage of which nobody has said yet how much it took.
pub(super) fn damage_at((segment, offset): (u32, u64), first_seq: u64, what: &str) -> Damage {
    let (next_good, last_seq, what) = (None, first_seq.saturating_sub(1), what.to_owned());
    Damage { segment, offset, lost_from: offset, next_good, first_seq, last_seq, what, unreadable: false }
}

/// Where whole batches begin again behind one that does not validate, and the last Seq before that.
fn next_batch(segment: &Segment, bytes: &[u8], start: u64) -> Option<(u64, u64)> {
    let frame_at = |at: u64| Frame::parse(bytes.get(usize::try_from(at).ok()?..)?);
    let mut start = start;
    loop {
        let (mut bad, mut open) = (start, None);
        while let Some(frame) = frame_at(bad)
            && frame.is_good(segment.header.salt, segment.position(bad))
        {
            (open, bad) = (Some(bad), bad + frame.len() as u64);
        }
        let next = next_good(segment, bytes, bad + FRAME_ALIGN, bytes.len())?;
        let next = whole_batch_from(segment, bytes, bad, next, open)?;
        if whole_batch(segment, bytes, next, 0).is_some() {
            return Some((next, seq_before(&frame_at(next)?)));
        }
        // Something else of it is damaged.
        start = next;
    }
}
