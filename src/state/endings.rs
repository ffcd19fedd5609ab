//! Whose assertions are being taken back, and what these sources have said meanwhile.
//!
//! Those whose time is up are ended in *rounds*: all that one look finds due, in one walk over the rows. Rounds of
//! several threads may run side by side, but never two endings of one source: each ending spares what its source has
//! said since it began, and one that knows nothing of that would take it back.
//!
//! Whoever closes or retires a source holds it, so that nobody speaks for it: nothing is spared then, and what ran of
//! the source's endings is cancelled.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;
use std::time::Duration;

use crate::format::index::EntityHash;
use crate::state::reading::SourceSet;
use crate::state::window::AsItIs;

/// The endings that run.
#[derive(Debug, Default)]
pub(crate) struct Endings {
    running: Vec<Ending>,
    /// Rounds ever, so that none is taken for another.
    begun: u64,
}

/// A source whose assertions are being taken back.
#[derive(Debug)]
pub(crate) struct Ending {
    round: u64,
    pub(crate) source: u8,
    pub(crate) deadline: Option<Duration>,
    /// The source came back meanwhile: what becomes of it is decided by that, and not by this. What it asserted before
    /// is taken back all the same.
    pub(crate) is_overtaken: bool,
    touched: HashSet<EntityHash, BuildHasherDefault<AsItIs>>,
}

/// Endings that were begun together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Round(u64);

/// From whom something is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// From those of a round whose endings run still, but for what they have said since these began.
    Ended(Round),
    /// From a source that somebody holds, whatever it has said.
    Held(u8),
}

impl Endings {
    /// A round without an ending.
    pub(crate) fn round(&mut self) -> Round {
        self.begun += 1;
        Round(self.begun)
    }

    /// Begins to take back what a source asserts, in a round. False: that is under way already.
    pub(crate) fn begin(&mut self, Round(round): Round, source: u8, deadline: Option<Duration>) -> bool {
        let may_begin = self.running.iter().all(|ending| ending.source != source);
        if may_begin {
            let touched = HashSet::default();
            self.running.push(Ending { round, source, deadline, is_overtaken: false, touched });
        }
        may_begin
    }

    /// The source is there again.
    pub(crate) fn overtake(&mut self, source: u8) {
        self.of(source).for_each(|ending| ending.is_overtaken = true);
    }

    /// Takes note of an operation: what a source says while it is being ended stays said.
    #[inline]
    pub(crate) fn touch(&mut self, source: u8, hash: EntityHash) {
        self.of(source).for_each(|ending| _ = ending.touched.insert(hash));
    }

    /// From whom anything is to be taken back.
    pub(crate) fn sources(&self, whose: Whose) -> SourceSet {
        self.those(whose, |_| true)
    }

    /// Whose assertion of an entity is to be taken back.
    pub(crate) fn to_take_back(&self, whose: Whose, hash: EntityHash) -> SourceSet {
        self.those(whose, |ending| !ending.touched.contains(&hash))
    }

    /// Ends what runs for a source before it is done. Answers the ending, if there was one.
    pub(crate) fn cancel(&mut self, source: u8) -> Option<Ending> {
        let place = self.running.iter().position(|ending| ending.source == source)?;
        Some(self.running.swap_remove(place))
    }

    /// Ends a round. Answers those of it that were not cancelled.
    pub(crate) fn finish(&mut self, Round(round): Round) -> Vec<Ending> {
        let running = std::mem::take(&mut self.running);
        let (done, others) = running.into_iter().partition(|ending| ending.round == round);
        self.running = others;
        done
    }

    fn of(&mut self, source: u8) -> impl Iterator<Item = &mut Ending> {
        self.running.iter_mut().filter(move |ending| ending.source == source)
    }

    fn those(&self, whose: Whose, which: impl Fn(&Ending) -> bool) -> SourceSet {
        let bit = |source: u8| 1 << (source % 64);
        match whose {
            Whose::Held(source) => SourceSet(bit(source)),
            Whose::Ended(Round(round)) => {
                let those = self.running.iter().filter(|ending| ending.round == round && which(ending));
                SourceSet(those.fold(0, |bits, ending| bits | bit(ending.source)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: EntityHash = 1;
    const GRACE: EntityHash = 2;

    fn begun(sources: &[u8]) -> (Endings, Round) {
        let mut endings = Endings::default();
        let round = endings.round();
        sources.iter().for_each(|source| assert!(endings.begin(round, *source, None)));
        (endings, round)
    }

    #[test]
    fn what_a_source_says_while_it_is_being_ended_is_spared_by_its_own_ending_and_by_no_other() {
        let (mut endings, round) = begun(&[0, 63]);
        endings.touch(63, ADA);
        endings.touch(5, GRACE);
        assert_eq!(endings.to_take_back(Whose::Ended(round), ADA), SourceSet(1));
        assert_eq!(endings.to_take_back(Whose::Ended(round), GRACE), SourceSet(1 | 1 << 63));
        assert_eq!(endings.to_take_back(Whose::Held(63), ADA), SourceSet(1 << 63), "whoever holds it");
        let another = endings.round();
        assert!(endings.begin(another, 5, None));
        assert_eq!(endings.to_take_back(Whose::Ended(another), ADA), SourceSet(1 << 5));
    }

    #[test]
    fn a_source_is_not_ended_twice_at_once_and_a_round_ends_no_other() {
        let (mut endings, first) = begun(&[0, 1]);
        endings.overtake(0);
        let second = endings.round();
        assert!(!endings.begin(second, 0, None), "also one that has come back, and was silent again");
        assert!(endings.begin(second, 2, None));
        let finished = |ended: Vec<Ending>| -> Vec<_> {
            ended.iter().map(|ending| (ending.source, ending.is_overtaken)).collect()
        };
        assert_eq!(finished(endings.finish(first)), [(0, true), (1, false)]);
        assert_eq!(endings.sources(Whose::Ended(first)), SourceSet::EMPTY);
        assert_eq!(endings.sources(Whose::Ended(second)), SourceSet(1 << 2));
        assert!(endings.begin(second, 0, None), "now it may");
    }

    #[test]
    fn from_a_source_whose_ending_was_cancelled_nothing_more_is_taken() {
        let (mut endings, round) = begun(&[0, 1]);
        endings.overtake(1);
        assert!(endings.cancel(1).is_some_and(|ending| ending.is_overtaken));
        assert!(endings.cancel(1).is_none());
        assert_eq!(endings.to_take_back(Whose::Ended(round), ADA), SourceSet(1));
        assert_eq!(endings.finish(round).len(), 1);
    }
}
