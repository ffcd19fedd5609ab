//! Where a segment ends before one of which nobody says any more what it follows.
//!
//! A crash may have left whole segments behind a torn end, dead ones, whose headers lead back to it as if they were the log. The
//! header of the segment that went on behind the end says so; where that is lost, the marks tell: what was written before a
//! crash names no durable mark behind what the crash has torn.

use super::Walk;
use crate::id::Position;
use crate::log::behind::{Behind, begins_behind, end_before_headless, last_seq_of};
use crate::log::grid::{bound_behind, last_nonzero};
use crate::log::segment::Segment;
use crate::log::tail::Tail;
use crate::log::visitor::Purpose;

/// Where a segment ends, as far as that is known.
#[derive(Clone, Copy, Default)]
pub(super) struct Ends {
    /// What stands behind is none of the log.
    pub(super) limit: Option<u64>,
    /// A later header says so: what stands before it was durable. Else the Seq of the next segment does.
    pub(super) is_said: bool,
    /// Where the first of the later segments stands among them of which nobody says what it follows.
    pub(super) doubt: Option<usize>,
}

impl Walk<'_> {
    /// Where a segment ends that is read from here. `said`: what a later header says.
    pub(super) fn ends(
        &mut self,
        (segment, tail, from): (&Segment, &Tail, u64),
        said: Option<u64>,
        later: &[u32],
    ) -> Ends {
        if said.is_some() {
            return Ends { limit: said, is_said: true, doubt: None };
        }
        let chain = self.chain;
        let is_guess = |next: &u32| chain.headless.contains(next) || chain.is_behind_missing(*next);
        let doubt = later.iter().position(is_guess);
        let next = later.first().filter(|next| doubt == Some(0) && chain.headless.contains(next));
        let next = next.filter(|_| self.behind(later).may_go_on);
        let known = (from, self.last_seq);
        let limit = next
            .and_then(|next| end_before_headless(self.directory, self.store, *next, (segment, tail, known)));
        Ends { limit, is_said: false, doubt }
    }

    /// True if anything stands at a bad place or behind it. A kill leaves no zeros where something was.
    pub(super) fn is_something(&mut self, bytes: &[u8], at: u64, later: &[u32]) -> bool {
        let here = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        last_nonzero(here) > 0 || self.behind(later).cut > 0
    }

    /// True if a file is missing between those behind it: then the log has gone on.
    pub(super) fn went_on(&self, ends: Ends, later: &[u32]) -> bool {
        let next = ends.doubt.and_then(|at| later.get(at));
        next.is_some_and(|next| self.chain.is_behind_missing(*next))
    }

    /// True if a batch with a bad place may be what a crash has torn: then what stands behind it is dead, up to the segment of
    /// which nobody says what it follows.
    pub(super) fn may_be_torn(
        &mut self,
        (segment, bytes): (&Segment, &[u8]),
        (start, at): (u64, u64),
        ends: Ends,
        later: &[u32],
    ) -> bool {
        let is_doubtful = self.chain.has_lost_end
            || self.chain.has_lost_newest()
            || self.went_on(ends, later)
            || ends.doubt.is_some() && self.behind(later).may_go_on;
        is_doubtful
            && self.may_be_dead(ends, later)
            && !self.was_durable((segment, bytes), (start, at), ends, later)
    }

    /// False if the segment in doubt begins with the Seq behind all that stands in the one right before it. Whatever is dead has
    /// Seqs that were given again.
    fn may_be_dead(&mut self, ends: Ends, later: &[u32]) -> bool {
        let Some((before, [next, ..])) = ends.doubt.and_then(|at| later.split_at_checked(at)) else {
            return true;
        };
        let Some(last) = before.last().filter(|last| *last + 1 == *next) else { return true };
        if !self.chain.headless.contains(next) {
            return true;
        }
        if let Some((_, is_of_it)) = self.is_of_it.filter(|(asked, _)| asked == next) {
            return !is_of_it;
        }
        let begins = begins_behind(self.directory, self.store, *next);
        let ends = last_seq_of(self.directory, self.store, *last);
        let is_of_it = match (begins, ends) {
            (Ok(begins), Ok(ends)) => begins.is_some_and(|begins| ends.is_some_and(|ends| ends <= begins)),
            (Err(error), _) | (_, Err(error)) => {
                self.passing.get_or_insert(error);
                false
            }
        };
        self.is_of_it = Some((*next, is_of_it));
        !is_of_it
    }

    /// True if something says that a batch was durable which was written before the segment in doubt.
    fn was_durable(
        &mut self,
        (segment, bytes): (&Segment, &[u8]),
        (start, at): (u64, u64),
        ends: Ends,
        later: &[u32],
    ) -> bool {
        let start = segment.position(start);
        let here = |said: Position| start < said;
        if here(self.said) || here(bound_behind(segment, bytes, at, self.written)) {
            return true;
        }
        let before = later.get(..ends.doubt.unwrap_or(later.len())).unwrap_or_default();
        match Behind::of(self.directory, self.store, Purpose::Write, before) {
            Ok(behind) => here(behind.bound),
            Err(error) => {
                self.passing.get_or_insert(error);
                false
            }
        }
    }

    /// What stands between here and the segment in doubt is none of the log, as far as anybody can tell.
    pub(super) fn pass_over_what_is_dead(&mut self, ends: Ends, later: &[u32]) {
        if !self.may_be_dead(ends, later) {
            return;
        }
        let next = ends
            .doubt
            .map_or_else(|| self.chain.has_lost_newest().then_some(u32::MAX), |at| later.get(at).copied());
        self.goes_on_at = next;
    }
}
