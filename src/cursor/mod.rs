//! Cursors by name: what the log says of each, newest revision first.

use std::collections::BTreeMap;

use crate::format::cursor::CursorState;
use crate::id::Position;

/// The cursors of a store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cursors {
    by_name: BTreeMap<String, Known>,
    incarnations: u64,
    /// The greatest revision of a name that was retired: a new one begins above it.
    retired: u64,
}

#[derive(Clone, Debug)]
struct Known {
    state: CursorState,
    incarnation: Incarnation,
    /// Where the log ended behind the frame that says so.
    end: Position,
}

/// A cursor between its making, or the reset that put it back, and the next such event. Only of
/// this opening: who has one from before it was reset or retired moves nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Incarnation(u64);

impl Cursors {
    /// Learns what a frame of the log says of a cursor.
    pub(crate) fn learn(&mut self, cursor: CursorState) {
        self.learn_at(cursor, Position::ZERO);
    }

    /// The same, of a frame behind which the log ends there.
    pub(crate) fn learn_at(&mut self, cursor: CursorState, end: Position) {
        let known = self.by_name.get(&cursor.name);
        if known.is_some_and(|known| known.state.revision > cursor.revision) {
            return;
        }
        if cursor.retired {
            self.retired = self.retired.max(cursor.revision);
            self.by_name.remove(&cursor.name);
            return;
        }
        let goes_on = known.filter(|known| known.state.seq <= cursor.seq && known.state.era == cursor.era);
        let incarnation = goes_on.map_or(Incarnation(self.incarnations + 1), |known| known.incarnation);
        self.incarnations = self.incarnations.max(incarnation.0);
        self.by_name.insert(cursor.name.clone(), Known { state: cursor, incarnation, end });
    }

    /// Forgets all of them, before they are restated.
    pub(crate) fn begin_anew(&mut self) {
        self.by_name.clear();
    }

    /// Learns what is said elsewhere, if the log does not say more: of a name that it says was retired, with
    /// which revision.
    pub(crate) fn learn_later(&mut self, cursor: &CursorState, retired: Option<u64>) {
        let known = self.get(&cursor.name).map(|known| known.revision);
        if known.max(retired).is_none_or(|known| known < cursor.revision) {
            self.learn(cursor.clone());
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&CursorState> {
        self.by_name.get(name).map(|known| &known.state)
    }

    pub(crate) fn incarnation(&self, name: &str) -> Option<Incarnation> {
        self.by_name.get(name).map(|known| known.incarnation)
    }

    /// Where the log ended behind the last move; a wait for it makes that durable.
    pub(crate) fn moved_at(&self, name: &str) -> Position {
        self.by_name.get(name).map_or(Position::ZERO, |known| known.end)
    }

    /// With which revision a new cursor begins: above whatever is known of that name.
    pub(crate) fn first_revision(&self) -> u64 {
        self.retired
    }

    /// Those that have seen least, of those that hold anything back: at most so many, the farthest behind last.
    pub(crate) fn farthest_behind(&self, most: usize) -> Vec<&CursorState> {
        // By name where they stand at one place, so that two looks agree.
        fn place(cursor: &CursorState) -> (u64, &str) {
            (cursor.seq, &cursor.name)
        }
        let mut holding: Vec<&CursorState> = self.iter().filter(|cursor| !cursor.lost).collect();
        if holding.len() > most {
            holding.select_nth_unstable_by(most, |a, b| place(a).cmp(&place(b)));
            holding.truncate(most);
        }
        holding.sort_by(|a, b| place(b).cmp(&place(a)));
        holding
    }

    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// All of them, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &CursorState> {
        self.by_name.values().map(|known| &known.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::cursor::Part;

    fn cursor(revision: u64, seq: u64, retired: bool) -> CursorState {
        CursorState {
            name: "audit".into(),
            revision,
            seq,
            era: 1,
            hold: 0,
            time: 0,
            part: Part::All,
            kind: 0,
            key: Box::default(),
            retired,
            lost: false,
        }
    }

    #[test]
    fn the_greatest_revision_is_right_in_whatever_order_it_comes_and_a_retired_name_is_free() {
        let mut cursors = Cursors::default();
        cursors.learn(cursor(2, 20, false));
        cursors.learn(cursor(1, 10, false));
        assert_eq!(cursors.get("audit").unwrap().seq, 20);
        cursors.learn(cursor(3, 5, false));
        assert_eq!(cursors.get("audit").unwrap().seq, 5, "only a later revision goes back");
        cursors.learn(cursor(4, 5, true));
        assert!(cursors.get("audit").is_none() && cursors.iter().next().is_none());
        cursors.learn(cursor(1, 1, false));
        assert_eq!(cursors.iter().count(), 1);
    }

    fn named(name: &str, seq: u64) -> CursorState {
        CursorState { name: name.into(), ..cursor(1, seq, false) }
    }

    #[test]
    fn who_has_a_cursor_from_before_it_was_put_back_or_retired_or_of_another_era_has_another_one() {
        let mut cursors = Cursors::default();
        let mut learn = |cursor| {
            cursors.learn(cursor);
            cursors.incarnation("audit")
        };
        let made = learn(cursor(1, 10, false));
        assert!(made.is_some());
        assert_eq!(learn(cursor(2, 20, false)), made, "it has moved");
        assert_eq!(learn(cursor(2, 20, false)), made, "and is restated");
        let put_back = learn(cursor(3, 5, false));
        assert_ne!(put_back, made);
        let of_another_era = learn(CursorState { era: 2, ..cursor(4, 9, false) });
        assert!(of_another_era != put_back && of_another_era != made);
        assert_eq!(learn(cursor(5, 9, true)), None);
        let made_again = learn(cursor(6, 9, false));
        assert!(![made, put_back, of_another_era, None].contains(&made_again));
        learn(named("other", 1));
        assert_ne!(cursors.incarnation("other"), made_again);
    }

    #[test]
    fn a_new_cursor_begins_above_the_revision_with_which_its_name_was_retired() {
        let mut cursors = Cursors::default();
        cursors.learn(cursor(7, 5, true));
        cursors.learn(CursorState { name: "other".into(), ..cursor(4, 5, true) });
        assert_eq!((cursors.first_revision(), cursors.len()), (7, 0));
        cursors.learn_at(cursor(8, 5, false), Position::new(2, 640));
        cursors.learn(named("other", 1));
        assert_eq!((cursors.len(), cursors.moved_at("audit")), (2, Position::new(2, 640)));
        cursors.begin_anew();
        assert_eq!(
            (cursors.len(), cursors.first_revision(), cursors.moved_at("audit")),
            (0, 7, Position::ZERO)
        );
    }

    #[test]
    fn what_is_said_elsewhere_counts_only_if_the_log_says_nothing_later() {
        let later = |known: Option<u64>, retired: Option<u64>, revision: u64| {
            let mut cursors = Cursors::default();
            known.into_iter().for_each(|known| cursors.learn(cursor(known, 1, false)));
            cursors.learn_later(&cursor(revision, 9, false), retired);
            cursors.get("audit").map(|cursor| cursor.seq)
        };
        assert_eq!(later(None, None, 3), Some(9));
        assert_eq!(later(Some(2), None, 3), Some(9));
        assert_eq!((later(Some(3), None, 3), later(Some(4), None, 3)), (Some(1), Some(1)));
        assert_eq!((later(None, Some(2), 3), later(None, Some(3), 3)), (Some(9), None));
    }

    #[test]
    fn the_farthest_behind_are_those_that_have_seen_least_and_the_lost_hold_nothing() {
        let mut cursors = Cursors::default();
        for (name, seq) in [("c", 30), ("a", 10), ("b", 10), ("d", 40)] {
            cursors.learn(named(name, seq));
        }
        cursors.learn(CursorState { lost: true, ..named("lost", 1) });
        let names = |most| {
            cursors.farthest_behind(most).iter().map(|cursor| cursor.name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(names(9), ["d", "c", "b", "a"]);
        assert_eq!(
            (names(4), names(3), names(1)),
            (vec!["d", "c", "b", "a"], vec!["c", "b", "a"], vec!["a"])
        );
        assert!(names(0).is_empty());
    }
}
