//! A feed as plain as can be: a vector of what was said, and after each change of the log what it
//! came to. Whatever a crash leaves must be one of those moments, as a whole.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use esker::{Entry, Hold, Journal, KindId, Position, Region};

use super::operation::{KEYS, KINDS, NAMES, Saying};

/// What goes wrong in a step.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The library did something that it must not.
    Wrong(String),
    /// It refused: the world knows whether it may.
    Refused(esker::Error),
}

impl From<esker::Error> for Trouble {
    fn from(error: esker::Error) -> Self {
        Self::Refused(error)
    }
}

pub(crate) type Checked<T = ()> = Result<T, Trouble>;

macro_rules! ensure {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err($crate::feed_model::plain::Trouble::Wrong(format!($($text)+)));
        }
    };
}
pub(crate) use ensure;

thread_local! {
    static MET: RefCell<BTreeSet<&'static str>> = const { RefCell::new(BTreeSet::new()) };
}

/// Notes that a rare thing has happened, so that a test can prove that it does.
pub(crate) fn met(what: &'static str) {
    MET.with_borrow_mut(|met| _ = met.insert(what));
}

/// The rare things that have happened in this thread.
pub(crate) fn all_met() -> BTreeSet<&'static str> {
    MET.with_borrow(BTreeSet::clone)
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) kind: usize,
    pub(crate) key: usize,
    /// Begins with a number that no other entry of this test has, lost ones included.
    pub(crate) payload: Vec<u8>,
    /// As the log says, once it could be asked.
    pub(crate) place: Option<(Position, i64)>,
}

impl Said {
    pub(crate) fn new(saying: Saying, number: u64) -> Self {
        let mut payload = number.to_le_bytes().to_vec();
        payload.resize(8 + saying.length, 7);
        Self { kind: saying.kind, key: saying.key, payload, place: None }
    }

    fn is_in(&self, region: usize) -> bool {
        let (kind, key) = (self.kind, KEYS[self.key]);
        match region {
            0 => true,
            1 => kind == 0,
            2 => kind == 1,
            3 => kind == 0 && key == "a1",
            4 => kind == 1 && key == "b2",
            5 => kind == 0 && key.starts_with('a'),
            _ => kind == 1 && key.starts_with("b1"),
        }
    }

    pub(crate) fn same(&self, entry: &Entry<'_>, kinds: &[KindId]) -> Checked {
        let is_it = kinds[self.kind] == entry.kind()
            && KEYS[self.key].as_bytes() == entry.key()
            && self.payload == entry.payload()
            && self.place.is_none_or(|place| place == (entry.position(), entry.time()));
        ensure!(is_it, "{entry:?} in the place of {self:?}");
        Ok(())
    }
}

/// A region of which the model knows what is in it.
pub(crate) fn region(number: usize, kinds: &[KindId]) -> Region {
    match number {
        0 => Region::all(),
        1 | 2 => Region::kind(kinds[number - 1]),
        3 => Region::entity(kinds[0], "a1"),
        4 => Region::entity(kinds[1], "b2"),
        5 => Region::prefix(kinds[0], "a"),
        _ => Region::prefix(kinds[1], "b1"),
    }
}

/// A durable place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) region: Region,
    pub(crate) seq: u64,
    pub(crate) hold: Hold,
    /// `None`: the library did not come to say so.
    pub(crate) revision: Option<u64>,
}

impl Cursor {
    fn may_be(&self, found: &Self) -> bool {
        let revision = self.revision.or(found.revision);
        Self { revision, ..self.clone() } == *found
    }
}

/// The cursors of a store by the numbers of their names.
pub(crate) type Cursors = BTreeMap<usize, Cursor>;

/// The log behind one of its changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moment {
    pub(crate) entries: usize,
    pub(crate) cursors: Cursors,
}

/// One change of the log: a batch, which is there as a whole or not at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub(crate) said: Vec<Said>,
    pub(crate) cursors: Vec<(usize, Option<Cursor>)>,
}

/// The log and all that it was.
#[derive(Clone, Debug)]
pub(crate) struct Plain {
    pub(crate) entries: Vec<Said>,
    pub(crate) moments: Vec<Moment>,
    /// The last moment that no crash may take back.
    pub(crate) durable: usize,
}

impl Plain {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), moments: vec![Moment::default()], durable: 0 }
    }

    pub(crate) fn now(&self) -> &Moment {
        &self.moments[self.moments.len() - 1]
    }

    pub(crate) fn newest(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn happened(&mut self, change: Change) {
        let mut now = self.now().clone();
        for (name, cursor) in change.cursors {
            match cursor {
                Some(cursor) => _ = now.cursors.insert(name, cursor),
                None => _ = now.cursors.remove(&name),
            }
        }
        self.entries.extend(change.said);
        now.entries = self.entries.len();
        self.moments.push(now);
    }

    pub(crate) fn all_is_durable(&mut self) {
        self.durable = self.moments.len() - 1;
    }

    /// Somebody was told that this entry survives.
    pub(crate) fn is_durable_through(&mut self, seq: u64) {
        let holds = self.moments.iter().position(|moment| moment.entries as u64 >= seq);
        self.durable = self.durable.max(holds.unwrap_or(usize::MAX));
    }

    /// Somebody was told that a cursor stays where it is.
    pub(crate) fn is_durable_with(&mut self, name: usize) {
        let here = |moment: &Moment| moment.cursors.get(&name) == self.now().cursors.get(&name);
        let since = self.moments.iter().rposition(|moment| !here(moment)).map_or(0, |before| before + 1);
        self.durable = self.durable.max(since);
    }

    /// The moment that a log with these entries and cursors is, of those from `least` to `most`.
    pub(crate) fn moment_of(
        &self,
        entries: u64,
        cursors: &Cursors,
        least: usize,
        most: usize,
    ) -> Option<usize> {
        let is_it = |moment: &Moment| {
            moment.entries as u64 == entries
                && moment.cursors.keys().eq(cursors.keys())
                && moment.cursors.values().zip(cursors.values()).all(|(own, found)| own.may_be(found))
        };
        (least..=most).rev().find(|at| self.moments.get(*at).is_some_and(is_it))
    }

    /// What a crash left: the log as it was then, and all of that is durable.
    pub(crate) fn go_back_to(&mut self, moment: usize, cursors: Cursors) {
        if self.moments[moment].entries < self.entries.len() {
            met("a crash took entries");
        }
        if self.moments[moment].cursors != self.now().cursors {
            met("a crash took the move of a cursor");
        }
        self.moments.truncate(moment + 1);
        self.entries.truncate(self.moments[moment].entries);
        self.moments[moment].cursors = cursors;
        self.durable = moment;
    }

    /// The entries of a region behind a Seq, up to another.
    pub(crate) fn between(&self, region: usize, behind: u64, to: u64) -> impl Iterator<Item = u64> + '_ {
        let numbered = (1u64..).zip(&self.entries);
        numbered
            .filter(move |(seq, said)| (behind + 1..=to).contains(seq) && said.is_in(region))
            .map(|(seq, _)| seq)
    }

    /// How many entries begin before this mark.
    pub(crate) fn entries_before(&self, mark: Position) -> u64 {
        let is_before = |said: &Said| said.place.is_some_and(|(position, _)| position < mark);
        self.entries.partition_point(is_before) as u64
    }

    /// Everything that the journal shows is what was said first; answers where each entry stands.
    pub(crate) fn is_prefixed_by(
        &self,
        journal: &Journal,
        kinds: &[KindId],
    ) -> Checked<Vec<(Position, i64)>> {
        let mut places = Vec::new();
        for entry in journal.view().range(..) {
            let entry = entry?;
            let Some(said) = self.entries.get(places.len()) else {
                return Err(Trouble::Wrong(format!("{entry:?} was never appended")));
            };
            said.same(&entry, kinds)?;
            places.push((entry.position(), entry.time()));
            ensure!(entry.seq().get() == places.len() as u64, "{entry:?} in the place of {}", places.len());
        }
        Ok(places)
    }

    /// The same, and nothing is missing; notes where each entry stands.
    pub(crate) fn check_log(&mut self, journal: &Journal, kinds: &[KindId]) -> Checked {
        let places = self.is_prefixed_by(journal, kinds)?;
        ensure!(places.len() == self.entries.len(), "{} of {} entries", places.len(), self.entries.len());
        self.entries.iter_mut().zip(places).for_each(|(said, place)| said.place = Some(place));
        Ok(())
    }
}

/// The cursors that a journal says there are.
pub(crate) fn cursors_of(journal: &Journal) -> Checked<Cursors> {
    let mut found = Cursors::new();
    for info in journal.cursors()? {
        let number = NAMES.iter().position(|name| *name == info.name);
        let Some(number) = number else {
            return Err(Trouble::Wrong(format!("nobody made the cursor {info:?}")));
        };
        let seq = info.seq.map_or(0, esker::Seq::get);
        let cursor = Cursor { region: info.region, seq, hold: info.hold, revision: Some(info.revision) };
        found.insert(number, cursor);
    }
    Ok(found)
}

/// The kinds of the model, registered in this order so that regions mean the same in each life.
pub(crate) fn register(journal: &Journal) -> esker::Result<Vec<KindId>> {
    KINDS.iter().map(|name| journal.kind(name)).collect()
}
