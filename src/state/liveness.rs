//! Who has been silent for how long, and whose time is up: arithmetic over a monotonic clock, and nothing else.
//!
//! A *countdown* runs for each source whose assertions are to be taken back when it falls silent: from its last sign
//! of life on. It has run out when its deadline is reached, not a moment before. Whoever notices that much later (the
//! process was stopped in between, or nobody looked) cannot tell silence from having been kept from speaking: then the
//! source is given one *heartbeat*, half of its deadline, from that moment on; once, until its next sign of life.
//!
//! ```text
//! sign of life ────────── deadline ───── + a heartbeat ──────────
//!              noticed:  │ nothing      │ it has run out          │ late: one heartbeat more from here, and then for good
//! ```
//!
//! No wall clock is looked at: one that jumps changes nothing here.

use std::time::Duration;

use crate::format::source::SOURCES_MAX;
use crate::state::reading::SourceSet;

/// The countdowns that run.
#[derive(Debug)]
pub(crate) struct Countdowns {
    by_source: [Option<Countdown>; SOURCES_MAX],
    /// No countdown runs out before this. It may be earlier than need be, so that a sign of life costs no search.
    next: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Countdown {
    deadline: Duration,
    due: Duration,
    /// It was given a heartbeat more.
    is_granted: bool,
}

impl Default for Countdowns {
    fn default() -> Self {
        Self { by_source: [None; SOURCES_MAX], next: None }
    }
}

/// How often a source with this deadline should give a sign of life.
pub(crate) fn heartbeat(deadline: Duration) -> Duration {
    deadline / 2
}

impl Countdowns {
    /// A source gave a sign of life: its countdown begins anew.
    pub(crate) fn begin(&mut self, source: u8, deadline: Duration, now: Duration) {
        let countdown = Countdown { deadline, due: now.saturating_add(deadline), is_granted: false };
        self.put(source, Some(countdown));
    }

    /// A countdown that runs begins anew.
    pub(crate) fn renew(&mut self, source: u8, now: Duration) {
        if let Some(running) = self.by_source.get(usize::from(source)).copied().flatten() {
            self.begin(source, running.deadline, now);
        }
    }

    /// A source needs no sign of life any more. Answers the countdown that ran.
    pub(crate) fn stop(&mut self, source: u8) -> Option<Countdown> {
        let running = self.by_source.get(usize::from(source)).copied().flatten();
        self.put(source, None);
        running
    }

    /// A countdown that was stopped goes on as if it had not been.
    pub(crate) fn go_on(&mut self, source: u8, stopped: Countdown) {
        self.put(source, Some(stopped));
    }

    /// A source's time is up, and it has not given a sign of life since.
    #[inline]
    pub(crate) fn has_run_out(&self, source: u8, now: Duration) -> bool {
        // Hardly ever is anybody's.
        self.next.is_some_and(|next| next <= now)
            && self.by_source.get(usize::from(source)).copied().flatten().is_some_and(|it| it.due <= now)
    }

    /// What is due cannot be done as long as something else runs: until then nobody looks at it.
    pub(crate) fn put_off(&mut self, source: u8, deadline: Duration) {
        self.put(source, Some(Countdown { deadline, due: Duration::MAX, is_granted: true }));
    }

    /// That runs no more: what was put off is due now, unless there was a sign of life.
    pub(crate) fn take_up(&mut self, source: u8, now: Duration) {
        let running = self.by_source.get(usize::from(source)).copied().flatten();
        if let Some(put_off) = running.filter(|countdown| countdown.due == Duration::MAX) {
            self.put(source, Some(Countdown { due: now, ..put_off }));
        }
    }

    /// What was due could not be done: it is due again in a heartbeat, for good.
    pub(crate) fn postpone(&mut self, source: u8, deadline: Duration, now: Duration) {
        let due = now.saturating_add(heartbeat(deadline));
        self.put(source, Some(Countdown { deadline, due, is_granted: true }));
    }

    /// When to look next, if any countdown may run.
    #[inline]
    pub(crate) fn next(&self) -> Option<Duration> {
        self.next
    }

    /// Takes out whose countdown has run out. Those for whom that is noticed late are given a heartbeat more instead.
    pub(crate) fn take_due(&mut self, now: Duration) -> SourceSet {
        let mut due = 0;
        for (source, slot) in (0u8..).zip(&mut self.by_source) {
            let Some(countdown) = slot.filter(|countdown| countdown.due <= now) else { continue };
            *slot = countdown.granted(now);
            due |= u64::from(slot.is_none()) << source;
        }
        self.next = self.by_source.iter().flatten().map(|countdown| countdown.due).min();
        SourceSet(due)
    }

    fn put(&mut self, source: u8, countdown: Option<Countdown>) {
        let Some(slot) = self.by_source.get_mut(usize::from(source)) else { return };
        *slot = countdown;
        self.next = countdown.map(|countdown| countdown.due).into_iter().chain(self.next).min();
    }
}

impl Countdown {
    /// What it becomes when it is noticed now that it has run out; `None`: it is over.
    fn granted(self, now: Duration) -> Option<Self> {
        let late = now.saturating_sub(self.due);
        let more = heartbeat(self.deadline);
        let is_granted = !self.is_granted && late > more;
        is_granted.then(|| Self { due: now.saturating_add(more), is_granted, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn due(countdowns: &mut Countdowns, millis: u64) -> Vec<u8> {
        countdowns.take_due(at(millis)).ids().collect()
    }

    fn begun(source: u8) -> Countdowns {
        let mut countdowns = Countdowns::default();
        countdowns.begin(source, DEADLINE, at(0));
        countdowns
    }

    #[test]
    fn a_millisecond_before_its_deadline_nothing_is_due_and_at_it_the_source_is() {
        let mut countdowns = begun(63);
        assert_eq!(due(&mut countdowns, 29_999), [0; 0]);
        assert_eq!(countdowns.next(), Some(at(30_000)));
        assert_eq!(due(&mut countdowns, 30_000), [63]);
        assert_eq!((due(&mut countdowns, 90_000), countdowns.next()), (vec![], None), "once");
    }

    #[test]
    fn a_sign_of_life_begins_the_countdown_anew() {
        let mut countdowns = begun(0);
        countdowns.begin(0, DEADLINE, at(29_999));
        assert_eq!(due(&mut countdowns, 59_998), [0; 0]);
        assert_eq!(due(&mut countdowns, 59_999), [0]);
    }

    #[test]
    fn what_is_noticed_a_heartbeat_late_is_due_and_later_than_that_gets_a_heartbeat_more() {
        assert_eq!(due(&mut begun(0), 45_000), [0], "exactly a heartbeat late");
        let mut countdowns = begun(0);
        assert_eq!(due(&mut countdowns, 45_001), [0; 0]);
        assert_eq!(countdowns.next(), Some(at(60_001)));
        assert_eq!(due(&mut countdowns, 60_000), [0; 0]);
        assert_eq!(due(&mut countdowns, 60_001), [0]);
    }

    #[test]
    fn a_heartbeat_more_is_given_once_until_the_next_sign_of_life() {
        let mut countdowns = begun(0);
        assert_eq!(due(&mut countdowns, 1_000_000), [0; 0]);
        assert_eq!(due(&mut countdowns, 2_000_000), [0], "however late it is noticed again");
        countdowns.begin(0, DEADLINE, at(2_000_000));
        assert_eq!(due(&mut countdowns, 3_000_000), [0; 0], "of a new silence");
        countdowns.begin(0, DEADLINE, at(3_000_001));
        assert_eq!(due(&mut countdowns, 3_030_000), [0; 0]);
        assert_eq!(due(&mut countdowns, 3_030_001), [0]);
    }

    #[test]
    fn each_source_has_its_own_deadline_and_whoever_is_done_has_none() {
        let mut countdowns = begun(0);
        countdowns.begin(1, DEADLINE * 2, at(0));
        countdowns.begin(2, DEADLINE, at(10_000));
        countdowns.begin(3, DEADLINE, at(0));
        countdowns.stop(3);
        assert_eq!(due(&mut countdowns, 40_000), [0, 2]);
        assert_eq!(countdowns.next(), Some(at(60_000)));
        countdowns.stop(1);
        assert_eq!(due(&mut countdowns, 60_000), [0; 0]);
        assert_eq!(countdowns.next(), None);
    }

    #[test]
    fn what_could_not_be_done_is_due_a_heartbeat_later_for_good() {
        let mut countdowns = begun(0);
        assert_eq!(due(&mut countdowns, 30_000), [0]);
        countdowns.postpone(0, DEADLINE, at(30_000));
        assert_eq!(countdowns.next(), Some(at(45_000)));
        assert_eq!(due(&mut countdowns, 999_999), [0]);
    }

    #[test]
    fn what_was_put_off_is_due_when_it_is_taken_up_unless_there_was_a_sign_of_life() {
        let mut countdowns = begun(0);
        countdowns.begin(1, DEADLINE, at(0));
        assert_eq!(due(&mut countdowns, 30_000), [0, 1]);
        [0, 1].iter().for_each(|source| countdowns.put_off(*source, DEADLINE));
        assert_eq!(due(&mut countdowns, 999_999), [0; 0]);
        assert!(!countdowns.has_run_out(0, at(999_999)));
        countdowns.begin(1, DEADLINE, at(999_999));
        [0, 1].iter().for_each(|source| countdowns.take_up(*source, at(1_000_000)));
        assert!(countdowns.has_run_out(0, at(1_000_000)) && !countdowns.has_run_out(1, at(1_000_000)));
        assert_eq!(due(&mut countdowns, 1_000_000), [0], "and no heartbeat more is given");
    }

    #[test]
    fn a_countdown_that_was_stopped_may_go_on_as_it_was() {
        let mut countdowns = begun(0);
        let stopped = countdowns.stop(0).unwrap();
        assert_eq!((due(&mut countdowns, 90_000), countdowns.stop(0)), (vec![], None));
        countdowns.go_on(0, stopped);
        assert!(!countdowns.has_run_out(0, at(29_999)) && countdowns.has_run_out(0, at(30_000)));
        assert_eq!(due(&mut countdowns, 30_000), [0]);
    }

    #[test]
    fn a_deadline_at_the_end_of_time_and_a_number_that_no_source_has_are_no_trouble() {
        let mut countdowns = Countdowns::default();
        countdowns.begin(0, Duration::MAX, Duration::MAX);
        countdowns.begin(64, DEADLINE, at(0));
        assert_eq!(countdowns.next(), Some(Duration::MAX));
        assert_eq!(countdowns.take_due(Duration::MAX), SourceSet(1));
    }
}
