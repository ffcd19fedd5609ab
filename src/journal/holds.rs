//! What holds compaction back: what cursors have not seen, and what is pinned without a name.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use serde::Serialize;

use crate::cursor::Incarnation;
use crate::error::{Error, ErrorKind, Result};
use crate::format::compacted::Cover;
use crate::format::cursor::CursorState;
use crate::id::{Position, Seq};
use crate::index::catalog::Section;
use crate::journal::core::Core;
use crate::journal::cursors::{How, Move, region_of};
use crate::journal::entry::Entry;
use crate::journal::pins::PinnedBy;
use crate::journal::region::Region;
use crate::journal::registry::Registry;
use crate::journal::view::View;
use crate::trace;

/// Something that compaction may not pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HeldBack {
    /// What it is.
    pub by: PinnedBy,
    /// The first entry that it holds back.
    pub from: Seq,
    /// Bytes of log from there to the end.
    pub bytes: u64,
}

/// Everything that holds the log back, at one moment.
pub(crate) struct Holds {
    cursors: HashMap<String, Held>,
    /// The first Seq that each holds back, by cursors' names or as pinned.
    held: Vec<HeldBack>,
    first_held: u64,
}

struct Held {
    incarnation: Option<Incarnation>,
    seq: u64,
    /// The first entry of its region that it has not seen.
    next: u64,
    /// It may not hold back as much as it does.
    is_over: bool,
}

impl Holds {
    pub(crate) fn of(core: &Core, view: &View) -> Result<Self> {
        Self::of_these(core.pins.held(|behind| view.bytes_from(behind + 1).ok()), &core.registry, view)
    }

    /// What these hold back, and the cursors that are registered.
    pub(crate) fn of_these(
        pinned: Vec<(PinnedBy, u64)>,
        registry: &RwLock<Registry>,
        view: &View,
    ) -> Result<Self> {
        let cursors: Vec<(CursorState, Option<Incarnation>)> = {
            let registry = registry.read();
            let known = &registry.cursors;
            known.iter().map(|cursor| (cursor.clone(), known.incarnation(&cursor.name))).collect()
        };
        let mut holds = Self { cursors: HashMap::new(), held: Vec::new(), first_held: u64::MAX };
        for (by, behind) in pinned {
            let next = view.next_behind(behind);
            holds.add(by, next, view)?;
        }
        for (cursor, incarnation) in cursors {
            let next = if cursor.lost { u64::MAX } else { view.next_of(&region_of(&cursor), cursor.seq) };
            let is_over = cursor.hold != 0 && next != u64::MAX && view.bytes_from(next)? > cursor.hold;
            if !is_over {
                holds.add(PinnedBy::Cursor(cursor.name.clone()), next, view)?;
            }
            let held = Held { incarnation, seq: cursor.seq, next, is_over };
            holds.cursors.insert(cursor.name, held);
        }
        holds.held.sort_by_key(|held| held.from);
        Ok(holds)
    }

    fn add(&mut self, by: PinnedBy, next: u64, view: &View) -> Result<()> {
        if let Some(from) = Seq::new(next).filter(|_| next != u64::MAX) {
            self.first_held = self.first_held.min(next);
            self.held.push(HeldBack { by, from, bytes: view.bytes_from(next)? });
        }
        Ok(())
    }

    /// The first Seq that somebody holds back.
    pub(crate) fn first_held(&self) -> u64 {
        self.first_held
    }

    /// Those who hold back something before a Seq.
    pub(crate) fn holding_back(&self, reach: u64) -> Vec<HeldBack> {
        self.held.iter().filter(|held| held.from.get() < reach).cloned().collect()
    }

    /// The first Seq that each pin holds back by now.
    pub(crate) fn pins_now(&self, core: &Core) -> Vec<u64> {
        let view = core.view();
        let held = core.pins.held(|behind| view.bytes_from(behind + 1).ok());
        held.into_iter().map(|(_, behind)| view.next_behind(behind)).collect()
    }

    /// False if somebody has come to need a stretch of the log since this was made. `may_lose`: those that
    /// may not hold it back any more are yet to be told so.
    pub(crate) fn still_allow(&self, core: &Core, cover: &Cover, pins: &[u64], may_lose: bool) -> bool {
        let registry = core.registry.read();
        pins.iter().all(|next| *next > cover.last_seq)
            && registry.cursors.iter().all(|cursor| {
                if cursor.lost || cursor.seq >= cover.last_seq {
                    return true;
                }
                let incarnation = registry.cursors.incarnation(&cursor.name);
                self.cursors.get(&cursor.name).is_some_and(|held| {
                    let is_as_it_was = held.incarnation == incarnation && held.seq <= cursor.seq;
                    is_as_it_was && (held.next > cover.last_seq || may_lose && held.is_over)
                })
            })
    }

    /// Cursors that held back more than they may, and still do.
    fn are_over(&self, core: &Core, view: &View) -> Vec<CursorState> {
        let registry = core.registry.read();
        let is_over = |cursor: &&CursorState| {
            let held = self.cursors.get(&cursor.name);
            held.is_some_and(|held| {
                // One that has read on since holds back less.
                let is_where_it_was = cursor.seq < held.next;
                held.is_over
                    && (is_where_it_was
                        || view.bytes_from(cursor.seq + 1).is_ok_and(|bytes| bytes > cursor.hold))
            })
        };
        registry.cursors.iter().filter(|cursor| !cursor.lost).filter(is_over).cloned().collect()
    }
}

/// A cursor is written down anew when there is at least so much between it and its next entry.
const SEQS_WORTH_A_MOVE: u64 = 4096;

impl Core {
    /// Moves cursors over entries that are not of their region, so that those are not looked at again.
    pub(crate) fn move_quiet_cursors(&self) -> Result<()> {
        let view = self.view();
        let newest = view.last_seq()?.map_or(0, Seq::get);
        let cursors: Vec<(CursorState, Incarnation)> = {
            let registry = self.registry.read();
            let known = &registry.cursors;
            known.iter().filter_map(|c| Some((c.clone(), known.incarnation(&c.name)?))).collect()
        };
        let mut moves = Vec::new();
        for (cursor, incarnation) in cursors {
            if cursor.lost || cursor.era != self.manifest.era || cursor.seq + SEQS_WORTH_A_MOVE > newest {
                continue;
            }
            let next = view.next_of(&region_of(&cursor), cursor.seq);
            let seq = next.saturating_sub(1).min(newest);
            if seq >= cursor.seq + SEQS_WORTH_A_MOVE {
                moves.push(Move { state: CursorState { seq, ..cursor }, how: How::Step(incarnation) });
            }
        }
        for step in moves {
            match self.move_cursors(&[step]) {
                // It was retired or put back meanwhile.
                Err(error) if error.kind() == ErrorKind::UnknownCursor => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Writes down that cursors lose what they have not seen up to a Seq, before it is dropped: those that may
    /// not hold it back any more.
    pub(crate) fn leave_behind(&self, holds: &Holds, through: u64) -> Result<()> {
        for state in holds.are_over(self, &self.view()) {
            let name = state.name.clone();
            self.move_cursors(&[Move { state, how: How::Lose { through } }])?;
            trace::cursor_lost(self.directory.path(), &name);
        }
        Ok(())
    }
}

/// A cursor may not go on: compaction went past it.
pub(crate) fn lost(name: &str, floor: u64) -> Error {
    Error::new(ErrorKind::Lost, format!("go on with the cursor {name:?}")).floored_at(floor)
}

fn seq_of(found: Option<Result<Entry<'_>>>, behind: u64) -> u64 {
    match found {
        None => u64::MAX,
        Some(Ok(entry)) => entry.seq().get(),
        Some(Err(_)) => behind + 1,
    }
}

impl View {
    /// The Seq of the first entry of a region behind a Seq; the greatest there is if there is none. Where
    /// that cannot be told for damage, nothing behind the Seq may go.
    pub(crate) fn next_of(&self, region: &Region, behind: u64) -> u64 {
        let found = match region {
            Region::Entity(kind, key) => self.entity_behind(*kind, key, behind).next(),
            region => self.region_behind(region, behind).next(),
        };
        seq_of(found, behind)
    }

    /// The Seq of the first entry behind one, whether it stands aside or not.
    pub(crate) fn next_behind(&self, behind: u64) -> u64 {
        seq_of(self.all_behind(behind).next(), behind)
    }

    /// Bytes of log from an entry to the end of the view: what somebody holds back who has not seen it. What
    /// cannot be opened counts as none.
    ///
    /// # Errors
    ///
    /// `Io` or `Corrupt` if nobody can tell where the entry is.
    pub fn bytes_behind(&self, seq: Seq) -> Result<u64> {
        self.bytes_from(seq.get())
    }

    pub(crate) fn bytes_from(&self, seq: u64) -> Result<u64> {
        Ok(self.bytes_from_each(&[seq])?.first().copied().unwrap_or(0))
    }

    /// The same for many, of which none is greater than the one before it: a segment is looked at once for all of them.
    pub(crate) fn bytes_from_each(&self, seqs: &[u64]) -> Result<Vec<u64>> {
        let mut found = Vec::with_capacity(seqs.len());
        let mut bytes = 0;
        for section in self.catalog.sections.iter().rev().filter(|s| s.number <= self.mark.segment()) {
            if found.len() == seqs.len() {
                break;
            }
            let Ok(opened) = section.open() else { continue };
            let is_last = section.number == self.mark.segment();
            let end = if is_last { self.mark.offset() } else { opened.segment.map.limit() as u64 };
            let first_seq = section.first_seq()?;
            while let Some(seq) = seqs.get(found.len()).filter(|seq| first_seq <= **seq) {
                let index = opened.index();
                let at = index.at_or_behind(opened.first_seq(), *seq);
                let from = index.offset(at).filter(|_| at < index.count()).unwrap_or(end);
                found.push(bytes + end.saturating_sub(from));
            }
            bytes += end;
        }
        found.resize(seqs.len(), bytes);
        Ok(found)
    }

    /// Bytes of log between two places in it. What cannot be opened counts as none.
    pub(crate) fn bytes_between(&self, from: Position, to: Position) -> u64 {
        let numbers = from.segment()..=to.segment();
        let sections = self.catalog.sections.iter().filter(|section| numbers.contains(&section.number));
        let bytes_of = |section: &Arc<Section>| {
            let begin = if section.number == from.segment() { from.offset() } else { 0 };
            let end = match section.open() {
                _ if section.number == to.segment() => to.offset(),
                Ok(opened) => opened.segment.map.limit() as u64,
                Err(_) => begin,
            };
            end.saturating_sub(begin)
        };
        sections.map(bytes_of).sum()
    }
}
