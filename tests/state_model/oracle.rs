//! The model of live state, on one page: who says what of which entity, what that comes to, and what may be found of it
//! when the disk has lost some.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::events::Told;
use super::{ensure, met};

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Row {
    #[serde(default)]
    pub(crate) a: u8,
    #[serde(default)]
    pub(crate) b: Option<String>,
    #[serde(default)]
    pub(crate) c: BTreeMap<u8, u8>,
}

/// An entity: its row, and who asserts it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entity {
    pub(crate) row: Row,
    pub(crate) sources: BTreeSet<usize>,
}

/// Those that are there.
pub(crate) type Moment = BTreeMap<&'static str, Entity>;

/// The state behind a flush, and how much had been said until then.
#[derive(Debug)]
pub(crate) struct Flush {
    pub(crate) state: Moment,
    pub(crate) told: usize,
    /// It was reached from the flush before entity by entity, in any order: a crash may show any part of it.
    by_parts: bool,
}

/// What an entity was at any time in a window: there, not there, other than before the window.
#[derive(Clone, Copy, Debug, Default)]
struct Touched {
    was_there: bool,
    was_not: bool,
    was_other: bool,
}

#[derive(Debug)]
pub(crate) struct Oracle {
    /// With all that is pending.
    pub(crate) now: Moment,
    /// The last one is what is visible.
    pub(crate) flushes: Vec<Flush>,
    /// Up to which of them a flush was acknowledged.
    pub(crate) acknowledged: usize,
    /// What was said, with all that is pending.
    pub(crate) told: Vec<Told>,
    /// What the window has touched.
    touched: BTreeMap<&'static str, Touched>,
    /// The last version that each entity is known to have for good, and the row that has it, if it has any.
    last: BTreeMap<&'static str, (u64, Option<Row>)>,
    /// Behind which flush that is, and how often the rows of those had changed of which there was no version to be seen.
    looked: usize,
    unseen: BTreeMap<&'static str, u64>,
    /// A crash may have taken changes of them, and nobody knows which.
    unsure: BTreeSet<&'static str>,
    /// Compaction has dropped something: who is not there may be one that is forgotten, and begins anew.
    pub(crate) forgets: bool,
    /// Only who asserts something has changed with the last flush.
    only_sources: bool,
}

impl Oracle {
    pub(crate) fn new() -> Self {
        Self {
            now: Moment::new(),
            flushes: vec![Flush { state: Moment::new(), told: 0, by_parts: false }],
            acknowledged: 0,
            told: Vec::new(),
            touched: BTreeMap::new(),
            last: BTreeMap::new(),
            looked: 0,
            unseen: BTreeMap::new(),
            unsure: BTreeSet::new(),
            forgets: false,
            only_sources: false,
        }
    }

    pub(crate) fn visible(&self) -> &Flush {
        self.flushes.last().unwrap()
    }

    pub(crate) fn is_touched(&self, key: &str) -> bool {
        self.touched.contains_key(key)
    }

    pub(crate) fn row(&self, key: &str) -> Option<Row> {
        self.now.get(key).map(|entity| entity.row.clone())
    }

    /// A source states the whole of an entity.
    pub(crate) fn say(&mut self, key: &'static str, source: usize, row: Row) {
        self.touch(key);
        let entity = self.now.entry(key).or_default();
        entity.row = row;
        entity.sources.insert(source);
        self.touch(key);
    }

    /// A source asserts an entity no more. Answers whether it did.
    pub(crate) fn unsay(&mut self, key: &'static str, source: usize) -> bool {
        self.touch(key);
        let Some(entity) = self.now.get_mut(key) else { return false };
        let was = entity.sources.remove(&source);
        if entity.sources.is_empty() {
            self.now.remove(key);
        }
        self.touch(key);
        was
    }

    fn touch(&mut self, key: &'static str) {
        let (is, visible) = (self.now.get(key), self.visible().state.get(key));
        let (is_there, is_other) = (is.is_some(), is != visible);
        let touched = self.touched.entry(key).or_default();
        touched.was_there |= is_there;
        touched.was_not |= !is_there;
        touched.was_other |= is_other;
    }

    /// What is pending is visible now.
    pub(crate) fn flushed(&mut self) {
        self.flush(false);
    }

    /// The same of what was taken back batch by batch.
    pub(crate) fn ended(&mut self) {
        self.flush(true);
    }

    fn flush(&mut self, by_parts: bool) {
        let (state, told) = (self.now.clone(), self.told.len());
        let touched = std::mem::take(&mut self.touched);
        let before = &self.visible().state;
        let mut only_sources = false;
        for (key, Touched { was_there, was_not, was_other }) in touched {
            match (before.get(key), state.get(key)) {
                (Some(before), Some(now)) if before.row == now.row && before.sources != now.sources => {
                    met("only a set of sources changed");
                    only_sources = true;
                }
                (Some(before), Some(now)) if before == now && was_other && !was_not => {
                    met("a window came to nothing");
                }
                (None, None) => met("what was not there is not there"),
                _ => {}
            }
            match (before.contains_key(key), state.contains_key(key)) {
                (false, false) if was_there => met("made and taken back in one window"),
                (true, true) if was_not => met("taken back and made again in one window"),
                _ => {}
            }
        }
        if *before != state || self.visible().told != told {
            self.only_sources = only_sources;
            self.flushes.push(Flush { state, told, by_parts });
        }
    }

    /// What is visible is durable too. Of each entity the version that it has, `None`: none is remembered.
    pub(crate) fn acknowledge(
        &mut self,
        version: impl Fn(&str) -> Result<Option<u64>, String>,
    ) -> Result<(), String> {
        self.acknowledged = self.flushes.len() - 1;
        for key in super::KEYS {
            let changes = self.changes(key) + self.unseen.remove(key).unwrap_or(0);
            let Some(version) = version(key)? else {
                self.unseen.insert(key, changes);
                continue;
            };
            let row = self.visible().state.get(key).map(|entity| entity.row.clone());
            let (last, known) = self.last.get(key).cloned().unwrap_or_default();
            let begins_anew = self.forgets && changes > 0 || self.unsure.remove(key);
            let is_next = version == last + changes || version > last && begins_anew;
            ensure(
                is_next || version == last && row == known && begins_anew,
                &format!("{key}: version {version} of {row:?}, {changes} changes behind {last} of {known:?}"),
            )?;
            self.last.insert(key, (version, row));
        }
        self.looked = self.acknowledged;
        Ok(())
    }

    /// How often the row of an entity has changed since its version was looked at.
    fn changes(&self, key: &str) -> u64 {
        let row = |flush: &Flush| flush.state.get(key).map(|entity| entity.row.clone());
        let flushes = &self.flushes[self.looked..];
        flushes.windows(2).map(|pair| u64::from(row(&pair[0]) != row(&pair[1]))).sum()
    }

    /// True if the entity was there at some time, for good.
    pub(crate) fn knows(&self, key: &str) -> bool {
        self.last.contains_key(key)
    }

    /// The store was opened, and this is there: what was acknowledged, and what was flushed behind that up to some place.
    pub(crate) fn reopened(&mut self, found: Moment, told: Option<usize>) -> Result<(), String> {
        let is_it = |flush: &Flush| flush.state == found && told.is_none_or(|told| flush.told == told);
        let at = match (self.acknowledged..self.flushes.len()).rev().find(|at| is_it(&self.flushes[*at])) {
            Some(at) => at,
            None => self.cut(&found, told).ok_or_else(|| {
                let expected = &self.flushes[self.acknowledged..];
                format!("found {found:?} with {told:?} told, expected one of {expected:?}")
            })?,
        };
        if self.acknowledged + 1 < self.flushes.len() {
            self.unsure.extend(super::KEYS);
        }
        if at + 1 < self.flushes.len() {
            met("a crash took a flush");
        } else if std::mem::take(&mut self.only_sources) {
            met("a set of sources changed alone, then a reopen");
        }
        self.flushes.truncate(at + 1);
        self.told.truncate(self.visible().told);
        (self.acknowledged, self.now) = (at, found);
        self.touched.clear();
        Ok(())
    }

    /// Puts a part of an ending in the place of the whole. Answers where, if it is one.
    fn cut(&mut self, found: &Moment, told: Option<usize>) -> Option<usize> {
        let at = (self.acknowledged + 1..self.flushes.len()).rev().find(|at| {
            let (before, after) = (&self.flushes[at - 1].state, &self.flushes[*at].state);
            let is_one = |key| found.get(key) == before.get(key) || found.get(key) == after.get(key);
            self.flushes[*at].by_parts && super::KEYS.iter().all(is_one)
        })?;
        let (before, after) = (self.flushes[at - 1].told, &self.flushes[at]);
        let mut said = self.told.split_off(before);
        said.truncate(after.told - before);
        said.retain(|told| found.get(told.key) == after.state.get(told.key));
        self.told.append(&mut said);
        self.flushes.truncate(at);
        self.flushes.push(Flush { state: found.clone(), told: self.told.len(), by_parts: true });
        met("a crash cut an ending");
        told.is_none_or(|told| told == self.told.len()).then_some(at)
    }

    /// Each row as its type's next version has it.
    pub(crate) fn upgrade(&mut self, step: impl Fn(&mut Row)) {
        // Two that differed may be the same in the next version.
        for key in super::KEYS {
            let changes = self.changes(key);
            *self.unseen.entry(key).or_default() += changes;
        }
        self.looked = self.flushes.len() - 1;
        let states = self.flushes.iter_mut().map(|flush| &mut flush.state).chain([&mut self.now]);
        states.flat_map(BTreeMap::values_mut).for_each(|entity| step(&mut entity.row));
        self.last.values_mut().filter_map(|(_, row)| row.as_mut()).for_each(&step);
        self.told.iter_mut().flat_map(Told::rows).for_each(step);
    }
}
