//! Cursors: durable, named places. They stand in the log as system frames, behind what they say was
//! seen, and in every preamble.

mod unseen;

use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::cursor::{Cursors, Incarnation};
use crate::error::{Error, ErrorKind, Result, entity_text};
use crate::format::cursor::{CURSOR_NAME_BYTES_MAX, CURSORS_MAX, CursorState, Part};
use crate::id::{KindId, Seq};
use crate::journal::Journal;
use crate::journal::core::{Beside, Core};
use crate::journal::cursors::unseen::Unseen;
use crate::journal::holds::lost;
use crate::journal::region::Region;
use crate::journal::subscriber::Start;
use crate::journal::view::View;

/// How much log a cursor holds back that its reader has not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub enum Hold {
    /// As much as it takes: nothing is ever lost to it, and everybody can see who holds what.
    #[default]
    Forever,
    /// At most so many bytes. Compaction goes past a cursor that would hold back more: its watcher is then
    /// told that it is `Lost`, until somebody resets the cursor.
    UpTo(u64),
}

/// What is known of a cursor. Times are nanoseconds since 1970, sizes bytes of log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CursorInfo {
    /// Its name.
    pub name: String,
    /// What it reads.
    pub region: Region,
    /// Everything of its region up to this Seq was seen; `None`: nothing yet.
    pub seq: Option<Seq>,
    /// Rises with each checkpoint.
    pub revision: u64,
    /// The store's era when it was written. Under another one than the store's nobody watches before
    /// the cursor is reset.
    #[serde(serialize_with = "crate::journal::stats::as_text")]
    pub era: u64,
    /// How much it may hold back.
    pub hold: Hold,
    /// When it last moved.
    pub moved_at: i64,
    /// Compaction went past it, because it may not hold back more: nobody watches under it before it is reset.
    pub lost: bool,
    /// A watcher of this process has it in hand.
    pub held: bool,
    /// How often in a row the reactor that reads under it has failed at `next`; 0: it goes on.
    pub failures: u32,
    /// The first entry of its region that it has not seen; `None`: it has seen all of them.
    pub next: Option<Seq>,
    /// When that was appended.
    pub next_time: Option<i64>,
    /// How many entries of its region it has not seen.
    pub behind: u64,
    /// How many entries behind its place cannot be read for damage, of whatever region they are. They
    /// count nowhere else here.
    pub damaged: u64,
    /// Bytes of log from its next entry to the end: what it holds back.
    pub held_bytes: u64,
}

/// What a reset did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CursorReset {
    /// Where the cursor was.
    pub from: Option<Seq>,
    /// Where it is now.
    pub to: Option<Seq>,
}

/// A cursor that a watcher of this process has in hand, until it is dropped.
pub(crate) struct HeldCursor {
    core: Arc<Core>,
    name: String,
}

impl HeldCursor {
    /// Takes a cursor in hand, and makes it if there is none. Answers up to where it has seen. The caller holds
    /// what compaction puts in place still, until the reader stands.
    pub(crate) fn hold(
        core: &Arc<Core>,
        name: &str,
        region: &Region,
        hold: Hold,
        start: Start,
    ) -> Result<(Self, u64)> {
        core.check_not_forked("watch")?;
        core.check_writable()?;
        check_name(name)?;
        let doing = || format!("watch under the name {name:?}");
        // From here on the name is let go of whatever happens.
        let held = Self::take(core, name, &doing())?;
        let known = core.registry.read().cursors.get(name).cloned();
        let Some(known) = known else {
            let seq = core.view().behind_start(start, region)?;
            if core.registry.read().cursors.len() >= CURSORS_MAX {
                return Err(Error::new(ErrorKind::LimitReached, doing())
                    .at(core.directory.path())
                    .sides(format!("at most {CURSORS_MAX} cursors"), CURSORS_MAX + 1));
            }
            let state = CursorState { seq, ..new_cursor(name, region, hold, core.manifest.era) };
            core.move_cursors(&[Move { state, how: How::Decided }])?;
            return Ok((held, seq));
        };
        if known.era != core.manifest.era {
            return Err(Error::new(ErrorKind::EraChanged, doing())
                .at(core.directory.path())
                .sides(format!("era {}", core.manifest.era), format!("a cursor of era {}", known.era)));
        }
        if known.lost {
            return Err(lost(name, core.view().floor(region).map_or(0, Seq::get)).at(core.directory.path()));
        }
        let its_own = region_of(&known);
        if its_own != *region {
            return Err(Error::new(ErrorKind::CursorMismatch, doing()).at(core.directory.path()).sides(
                format!("{}, as when it was made", region_text(core, &its_own)),
                region_text(core, region),
            ));
        }
        Ok((held, known.seq))
    }

    /// Takes a name in hand that nobody has.
    fn take(core: &Arc<Core>, name: &str, doing: &str) -> Result<Self> {
        match core.cursors_held.lock().entry(name.to_owned()) {
            Entry::Occupied(_) => Err(Error::new(ErrorKind::CursorInUse, doing).at(core.directory.path())),
            Entry::Vacant(free) => {
                free.insert(0);
                Ok(Self { core: Arc::clone(core), name: name.to_owned() })
            }
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// True if compaction went past it.
    pub(crate) fn is_lost(&self) -> bool {
        self.core.registry.read().cursors.get(&self.name).is_some_and(|known| known.lost)
    }

    /// Says for [`CursorInfo`] how often in a row its reader has failed at one entry.
    pub(crate) fn note_failures(&self, count: u32) {
        if let Some(failures) = self.core.cursors_held.lock().get_mut(&self.name) {
            *failures = count;
        }
    }

    /// The move to a Seq, as a part of a batch.
    pub(crate) fn step_to(&self, seq: u64) -> Result<Move> {
        self.core.step_to(&self.name, seq)
    }

    /// True if it is one of this store.
    pub(crate) fn is_of(&self, core: &Arc<Core>) -> bool {
        Arc::ptr_eq(&self.core, core)
    }

    /// Moves it to a Seq, durably.
    pub(crate) fn move_to(&self, seq: u64) -> Result<()> {
        let step = self.step_to(seq)?;
        let (known, moved_at) = {
            let registry = self.core.registry.read();
            (
                registry.cursors.get(&self.name).map_or(0, |known| known.seq),
                registry.cursors.moved_at(&self.name),
            )
        };
        if known < seq {
            return self.core.move_cursors(&[step]);
        }
        // A batch has moved it there, for which nobody has waited yet.
        self.core.wait_durable(moved_at)
    }
}

impl Drop for HeldCursor {
    fn drop(&mut self) {
        self.core.cursors_held.lock().remove(&self.name);
    }
}

impl fmt::Debug for HeldCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeldCursor({:?})", self.name)
    }
}

/// Where a cursor is to go. What becomes of it is decided under the writer's lock.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    pub(crate) state: CursorState,
    pub(crate) how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Forward, if it is still the cursor that it was.
    Step(Incarnation),
    /// Made, put somewhere else, or retired, by somebody who has the name in hand.
    Decided,
    /// Lost, if it has not seen everything up to here; where it is, it stays.
    Lose { through: u64 },
}

impl Move {
    /// The frame that says so; `None`: the cursor is there already.
    fn state_behind(&self, core: &Core, cursors: &Cursors, time: i64) -> Result<Option<CursorState>> {
        let name = &self.state.name;
        let known = cursors.get(name);
        let template = match (self.how, known) {
            (How::Step(incarnation), Some(known)) if cursors.incarnation(name) == Some(incarnation) => {
                if self.state.seq <= known.seq {
                    return Ok(None);
                }
                known
            }
            (How::Step(_), _) => return Err(core.unknown_cursor(name, "move")),
            (How::Lose { through }, Some(known)) if !known.lost && known.seq < through => {
                let revision = known.revision.saturating_add(1);
                return Ok(Some(CursorState { revision, time, lost: true, ..known.clone() }));
            }
            (How::Lose { .. }, _) => return Ok(None),
            (How::Decided, _) => &self.state,
        };
        let revision = known.map_or(cursors.first_revision(), |known| known.revision).saturating_add(1);
        Ok(Some(CursorState { revision, seq: self.state.seq, time, ..template.clone() }))
    }
}

fn check_name(name: &str) -> Result<()> {
    if (1..=CURSOR_NAME_BYTES_MAX).contains(&name.len()) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidInput, "name a cursor")
        .sides(format!("1 to {CURSOR_NAME_BYTES_MAX} bytes"), name.len()))
}

fn new_cursor(name: &str, region: &Region, hold: Hold, era: u64) -> CursorState {
    let (part, kind, key): (Part, u16, &[u8]) = match region {
        Region::All => (Part::All, 0, &[]),
        Region::Kind(kind) => (Part::Kind, kind.0, &[]),
        Region::Entity(kind, key) => (Part::Entity, kind.0, key),
        Region::Prefix(kind, key) => (Part::Prefix, kind.0, key),
    };
    CursorState {
        name: name.to_owned(),
        revision: 0,
        seq: 0,
        era,
        hold: match hold {
            Hold::Forever => 0,
            Hold::UpTo(bytes) => bytes.max(1),
        },
        time: 0,
        part,
        kind,
        key: key.into(),
        retired: false,
        lost: false,
    }
}

/// A region as people write it.
fn region_text(core: &Core, region: &Region) -> String {
    let registry = core.registry.read();
    let name = |kind: KindId| registry.get(kind).map_or_else(|| kind.to_string(), |kind| kind.name.clone());
    match region {
        Region::All => "all entries".to_owned(),
        Region::Kind(kind) => format!("the kind {:?}", name(*kind)),
        Region::Entity(kind, key) => format!("the entity {}", entity_text(&name(*kind), key)),
        Region::Prefix(kind, prefix) => {
            format!("the entities that begin with {}", entity_text(&name(*kind), prefix))
        }
    }
}

/// The region that a cursor is about.
pub(crate) fn region_of(cursor: &CursorState) -> Region {
    let kind = KindId(cursor.kind);
    match cursor.part {
        Part::All => Region::All,
        Part::Kind => Region::Kind(kind),
        Part::Entity => Region::Entity(kind, cursor.key.clone()),
        Part::Prefix => Region::Prefix(kind, cursor.key.clone()),
    }
}

/// What is known of cursors, and of what they have not seen. `failures`: how often who has one in hand failed.
pub(crate) fn infos_of(
    cursors: &[CursorState],
    view: &View,
    failures: impl Fn(&str) -> Option<u32>,
) -> Result<Vec<CursorInfo>> {
    let unseen = unseen::of_all(cursors, view)?;
    let with = cursors.iter().zip(unseen);
    with.map(|(cursor, unseen)| info_of(cursor, unseen, view, failures(&cursor.name))).collect()
}

fn info_of(cursor: &CursorState, unseen: Unseen, view: &View, failures: Option<u32>) -> Result<CursorInfo> {
    let first = unseen.first;
    Ok(CursorInfo {
        name: cursor.name.clone(),
        region: region_of(cursor),
        seq: Seq::new(cursor.seq),
        revision: cursor.revision,
        era: cursor.era,
        hold: if cursor.hold == 0 { Hold::Forever } else { Hold::UpTo(cursor.hold) },
        moved_at: cursor.time,
        lost: cursor.lost,
        held: failures.is_some(),
        failures: failures.unwrap_or(0),
        next: first.map(|(seq, _)| seq),
        next_time: first.map(|(_, time)| time),
        behind: unseen.entries,
        damaged: unseen.damaged,
        held_bytes: match first {
            Some((seq, _)) if !cursor.lost => view.bytes_from(seq.get())?,
            _ => 0,
        },
    })
}

impl Journal {
    /// The cursors of the store, by name, and how far each is behind what is visible. Reads the
    /// headers of what they have not seen. Damage there is passed over, and counted.
    ///
    /// # Errors
    ///
    /// `Io` if that cannot be read; `Corrupt` for damage that does not say which entries it took.
    pub fn cursors(&self) -> Result<Vec<CursorInfo>> {
        let core = self.core();
        let view = core.view();
        let states: Vec<CursorState> = core.registry.read().cursors.iter().cloned().collect();
        let failures = |name: &str| core.cursors_held.lock().get(name).copied();
        infos_of(&states, &view, failures)
    }

    /// Puts a cursor somewhere else, forward or back, and under this era of the store. Durable when
    /// it returns. Whatever it passes over its reader will not see; whatever it goes back to its
    /// reader will see again.
    ///
    /// # Errors
    ///
    /// `UnknownCursor`; `CursorInUse` while a watcher has it; `InvalidInput` for a place behind the
    /// end of the log; and what [`append`](Self::append) answers.
    pub fn reset_cursor(&self, name: &str, to: Start) -> Result<CursorReset> {
        let core = self.appending();
        let (_held, state) = core.idle_cursor(name, "reset")?;
        let _steady = core.compacting.steady.read();
        let seq = core.view().behind_start(to, &region_of(&state))?;
        let from = Seq::new(state.seq);
        let state = CursorState { era: core.manifest.era, seq, lost: false, ..state };
        core.move_cursors(&[Move { state, how: How::Decided }])?;
        Ok(CursorReset { from, to: Seq::new(seq) })
    }

    /// Forgets a cursor: it holds nothing back any more, and its name is free. Durable when it returns.
    ///
    /// # Errors
    ///
    /// `UnknownCursor`; `CursorInUse` while a watcher has it; and what [`append`](Self::append) answers.
    pub fn retire_cursor(&self, name: &str) -> Result<()> {
        let core = self.appending();
        let (_held, state) = core.idle_cursor(name, "retire")?;
        core.move_cursors(&[Move { state: CursorState { retired: true, ..state }, how: How::Decided }])
    }
}

impl Core {
    /// Takes a cursor in hand that nobody has.
    fn idle_cursor(self: &Arc<Self>, name: &str, doing: &str) -> Result<(HeldCursor, CursorState)> {
        let what = || format!("{doing} the cursor {name:?}");
        self.check_not_forked(doing)?;
        let held = HeldCursor::take(self, name, &what())?;
        let known = self.registry.read().cursors.get(name).cloned();
        known.map(|known| (held, known)).ok_or_else(|| self.unknown_cursor(name, doing))
    }

    /// The move of a cursor to a Seq.
    fn step_to(&self, name: &str, seq: u64) -> Result<Move> {
        let registry = self.registry.read();
        let cursors = &registry.cursors;
        match (cursors.get(name).cloned(), cursors.incarnation(name)) {
            (Some(state), Some(known)) => {
                Ok(Move { state: CursorState { seq, ..state }, how: How::Step(known) })
            }
            _ => Err(self.unknown_cursor(name, "move")),
        }
    }

    /// Writes down how far reactors have come, which they do themselves only now and then.
    pub(crate) fn save_progress(&self) -> Result<()> {
        let places = self.tasks.progress();
        let moves: Vec<Move> =
            places.iter().filter_map(|(name, seq)| self.step_to(name, *seq).ok()).collect();
        if moves.is_empty() { Ok(()) } else { self.move_cursors(&moves) }
    }

    fn unknown_cursor(&self, name: &str, doing: &str) -> Error {
        Error::new(ErrorKind::UnknownCursor, format!("{doing} the cursor {name:?}")).at(self.directory.path())
    }

    /// The frames that moves come to. Under the writer's lock, which orders all moves.
    pub(crate) fn states_behind(&self, moves: &[Move], last_seq: u64, time: i64) -> Result<Vec<CursorState>> {
        if moves.is_empty() {
            return Ok(Vec::new());
        }
        let registry = self.registry.read();
        let mut states = Vec::new();
        for step in moves {
            // Whatever went wrong before: no cursor is ever ahead of the log.
            if step.state.seq > last_seq {
                let doing = format!("move the cursor {:?}", step.state.name);
                return Err(Error::new(ErrorKind::InvalidInput, doing)
                    .at(self.directory.path())
                    .sides(format!("a Seq up to {last_seq}"), step.state.seq));
            }
            states.extend(step.state_behind(self, &registry.cursors, time)?);
        }
        Ok(states)
    }

    /// Writes down where cursors are, durably: one batch.
    pub(crate) fn move_cursors(&self, moves: &[Move]) -> Result<()> {
        match self.append_items(&[], Beside { moves, ..Beside::default() }, &mut |_| {}) {
            Ok((end, _)) => self.wait_durable(end),
            Err(error) if error.kind() == ErrorKind::NoSpace => self.move_cursors_in_manifest(moves, error),
            Err(error) => Err(error),
        }
    }
}
