//! How operations are accepted into a window.
//!
//! One state layer for each open journal, whatever the number of `Store`s over it. Operations are accepted under one
//! lock, in an order that is that of the log.

use std::borrow::Cow;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::error::{Error, ErrorKind, Result, entity_text};
use crate::format::frame::{KEY_BYTES_MAX, METADATA_BYTES_MAX, PAYLOAD_BYTES_MAX, flag};
use crate::format::index::EntityHash;
use crate::id::{KindId, Position};
use crate::journal::core::Core;
use crate::state::ending::abandoned;
use crate::state::epoch::Epochs;
use crate::state::epoch::in_parts::Whom;
use crate::state::flushing::Closed;
use crate::state::pending::{Base, BaseMetadata, BaseRow, Pending, Saying, Standing, Utterance};
use crate::state::recent::Recent;
use crate::state::row::{Said, brought_to, current};
use crate::state::schema::{Bound, Schemas};
use crate::state::sessions::{Sessions, Speaker};
use crate::state::ticket::StateTicket;
use crate::state::untold::Untold;
use crate::state::window::Window;

/// The state layer of a journal.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) schemas: Schemas,
    pub(crate) open: Mutex<Open>,
    /// Something is pending that was not, or much is; or there is a deadline to look at earlier than before.
    pub(crate) bell: Condvar,
    /// A window that was on its way is not any more.
    pub(crate) settled: Condvar,
    /// Had by whoever decides or carries out an end of an epoch that takes more than one batch.
    pub(crate) ends: Mutex<()>,
    /// What an earlier opening has left of these was looked for.
    pub(crate) has_looked: Mutex<bool>,
}

#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) window: Window,
    /// The one before it, if that is not in the log yet.
    pub(crate) closed: Option<Closed>,
    pub(crate) last_flush: Instant,
    /// The window has as much as should wait.
    pub(crate) is_full: bool,
    /// Where the log ended behind the last flush.
    pub(crate) end: Position,
    /// What failed while nobody waited: the next call is told.
    pub(crate) untold: Untold,
    /// Nothing is accepted any more.
    pub(crate) has_ended: bool,
    pub(crate) pulse: Pulse,
    pub(crate) done: Done,
    pub(crate) epochs: Epochs,
    pub(crate) recent: Recent,
    pub(crate) sessions: Sessions,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) operations: u64,
    pub(crate) rows: u64,
    pub(crate) flushes: u64,
}

/// What the sources of this opening have said, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct StateStats {
    /// Operations that were flushed.
    pub operations: u64,
    /// Row frames that they came to.
    pub rows: u64,
    /// Windows that were flushed.
    pub flushes: u64,
    /// Operations that are pending.
    pub pending: u64,
    /// The bytes of log that they come to at most.
    pub pending_bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) enum Pulse {
    #[default]
    NotYet,
    Runs(JoinHandle<()>),
    /// The options want none, or the system refused one: writers flush when it is time.
    None,
}

/// An operation before it is accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation<'a> {
    pub(crate) speaker: Speaker<'a>,
    pub(crate) key: &'a [u8],
    pub(crate) saying: Saying<'a>,
    pub(crate) metadata: &'a [u8],
    pub(crate) only_if: OnlyIf,
}

impl Operation<'_> {
    /// True if what it was made for holds. False: it is to be made anew.
    fn may_go_on(&self, bound: &Bound, standing: &Standing<'_>) -> Result<bool> {
        match self.only_if {
            OnlyIf::Whatever => Ok(true),
            OnlyIf::Tick(tick, version) => Ok((standing.tick, standing.version) == (tick, version)),
            OnlyIf::Version(version) => {
                let others = standing.touched & !(1 << (self.speaker.source % 64));
                if standing.version == version && others == 0 {
                    return Ok(true);
                }
                let found = if others == 0 { "" } else { ", and another source's operation is pending" };
                let doing = format!("assert the row {}", entity_text(&bound.name, self.key));
                Err(Error::new(ErrorKind::Conflict, doing)
                    .sides(format!("version {version}"), format!("version {}{found}", standing.version)))
            }
        }
    }
}

impl Open {
    /// The place of an operation's entity in the window. `None`: the operation does not fit into it any more, and has left no
    /// trace there.
    fn room_for(
        &mut self,
        core: &Arc<Core>,
        bound: &Bound,
        found: Found,
        operation: &Operation<'_>,
    ) -> Result<Option<u32>> {
        let utterance = self.utterance(bound, operation);
        let bytes = match &found {
            Found::Touched(entity) => self.window.bytes_with(*entity, &utterance),
            Found::AtRest(entity) => self.window.bytes() + entity.bytes_with(&utterance),
        };
        // One that is larger than a window is one by itself.
        let is_alone = self.window.is_empty();
        let options = &core.options;
        let most = if is_alone { options.batch_bytes_max() } else { options.window_bytes_max() };
        if bytes <= most {
            return Ok(Some(match found {
                Found::Touched(entity) => entity,
                Found::AtRest(entity) => self.window.enter(entity),
            }));
        }
        if is_alone {
            let doing = format!("say something of {}", entity_text(&bound.name, operation.key));
            return Err(Error::new(ErrorKind::BatchTooLarge, doing)
                .sides(format!("at most {most} bytes"), format!("{bytes} bytes")));
        }
        Ok(None)
    }

    /// What an operation says here and now.
    pub(crate) fn utterance<'a>(&self, bound: &Bound, operation: &Operation<'a>) -> Utterance<'a> {
        let Operation { speaker: Speaker { source, .. }, saying, metadata, .. } = *operation;
        let is_event = bound.events.is_none() || !self.epochs.has(source, bound.id);
        let suppressed = if is_event { 0 } else { flag::IN_EPOCH };
        Utterance { source, saying, metadata, suppressed }
    }

    /// True if what an operation was made for holds of its entity. False: it is to be made anew.
    fn may_go_on(
        &self,
        bound: &Bound,
        hash: EntityHash,
        found: &Found,
        operation: &Operation<'_>,
    ) -> Result<bool> {
        let standing = match (found, self.on_its_way(hash)) {
            (Found::Touched(at), closed) => with_both(self.window.standing(*at), closed),
            (Found::AtRest(_), Some(closed)) => closed,
            (Found::AtRest(entity), None) => entity.standing(),
        };
        operation.may_go_on(bound, &standing)
    }

    /// How an entity is with all that is pending, if anything of it is.
    fn pending(&self, hash: EntityHash) -> Option<Standing<'_>> {
        let closed = self.on_its_way(hash);
        match self.window.standing_of(hash) {
            Some(open) => Some(with_both(open, closed)),
            None => closed,
        }
    }

    /// How an entity is behind the closed window, if that has touched it.
    fn on_its_way(&self, hash: EntityHash) -> Option<Standing<'_>> {
        self.closed.as_ref()?.window.standing_of(hash)
    }

    /// An entity at rest, as it is in the log or will be behind the window that is on its way.
    ///
    /// # Errors
    ///
    /// Where a frame of it could not be appended, also one of its operations: found out later, that would be an error of the
    /// whole window, and of all behind it.
    pub(crate) fn take(
        &mut self,
        core: &Arc<Core>,
        bound: &Arc<Bound>,
        hash: EntityHash,
        key: &[u8],
    ) -> Result<Box<Pending>> {
        bound.events.map_or(Ok(()), |events| touch(core, events, key))?;
        if let Some(before) = self.closed.as_ref().and_then(|closed| closed.window.get(hash)) {
            return Ok(before.successor(bound, self.recent.room()));
        }
        match self.recent.take(bound, hash) {
            Some(entity) => Ok(entity),
            None => {
                let base = base_of(core, bound, hash, key)?;
                Ok(Pending::at_rest(bound, hash, key, base, self.recent.room()))
            }
        }
    }
}

/// Sees to it that the history of an entity of some kind can be gone on with.
pub(crate) fn touch(core: &Core, kind: KindId, key: &[u8]) -> Result<()> {
    core.index.touch(core.index.hash(kind.get(), key)).map(drop)
}

/// How an entity is that the open window has touched, and perhaps the closed one before it.
fn with_both<'w>(open: Standing<'w>, closed: Option<Standing<'_>>) -> Standing<'w> {
    Standing { touched: open.touched | closed.map_or(0, |closed| closed.touched), ..open }
}

/// An operation's entity, looked up once.
enum Found {
    /// Its place in the open window.
    Touched(u32),
    /// It is not in it.
    AtRest(Box<Pending>),
}

/// What must hold of an entity when an operation is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnlyIf {
    Whatever,
    /// Its version in the log is this, and no other source has said anything since.
    Version(u64),
    /// This operation on it is the last that is pending, and its version in the log is this.
    Tick(u64, u64),
}

/// What came of an operation.
pub(crate) enum Accepted {
    Done(StateTicket),
    /// What it was made for has changed.
    Moved,
}

impl State {
    /// That of a journal.
    pub(crate) fn of(core: &Core) -> Arc<Self> {
        core.lodger(|| Self {
            schemas: Schemas::default(),
            open: Mutex::new(Open {
                window: Window::default(),
                closed: None,
                last_flush: Instant::now(),
                is_full: false,
                end: core.commit.visible(),
                untold: Untold::default(),
                has_ended: false,
                pulse: Pulse::NotYet,
                done: Done::default(),
                epochs: Epochs::default(),
                recent: Recent::default(),
                sessions: Sessions::default(),
            }),
            bell: Condvar::new(),
            settled: Condvar::new(),
            ends: Mutex::new(()),
            has_looked: Mutex::new(false),
        })
    }

    /// Takes an operation into the window.
    pub(crate) fn accept(
        self: &Arc<Self>,
        core: &Arc<Core>,
        bound: &Arc<Bound>,
        operation: &Operation<'_>,
    ) -> Result<Accepted> {
        check(&bound.name, operation)?;
        core.check_not_forked("say something of an entity")?;
        let hash = core.index.hash(bound.id.get(), operation.key);
        loop {
            let mut open = self.enter_alive(core, std::iter::once(operation.speaker), Self::enter_beside)?;
            let whom = (operation.speaker.source, bound.id);
            if open.epochs.is_held(whom) {
                drop(open);
                self.wait_for_end(core, whom)?;
                continue;
            }
            if matches!(operation.only_if, OnlyIf::Version(_)) && open.is_on_its_way() {
                // Which version the entity will have there nobody knows yet.
                self.settle(&mut open);
                drop(open);
                continue;
            }
            let found = match open.window.find(hash) {
                Some(entity) => Found::Touched(entity),
                None => Found::AtRest(open.take(core, bound, hash, operation.key)?),
            };
            // Before anything is taken in: what is refused leaves no trace.
            if operation.only_if != OnlyIf::Whatever && !open.may_go_on(bound, hash, &found, operation)? {
                return Ok(Accepted::Moved);
            }
            let was_idle = open.window.operations() == 0;
            let Some(entity) = open.room_for(core, bound, found, operation)? else {
                // A window is one batch: what would not fit begins the next one.
                drop(open);
                self.append(core)?;
                continue;
            };
            let utterance = open.utterance(bound, operation);
            open.window.say(entity, &utterance);
            open.epochs.touch(operation.speaker.source, bound.id, hash);
            open.sessions.endings.touch(operation.speaker.source, hash);
            let ticket = StateTicket::of(open.window.outcome(), core, entity);
            self.see_to_the_flush(core, open, was_idle);
            return Ok(Accepted::Done(ticket));
        }
    }

    pub(crate) fn with_epochs<R>(&self, core: &Core, then: impl FnOnce(&mut Epochs) -> R) -> Result<R> {
        core.check_not_forked("look at an epoch")?;
        Ok(then(&mut self.enter_whatever_failed(core)?.epochs))
    }

    /// Ends an epoch whatever became of the store.
    pub(crate) fn end_epoch(&self, core: &Core, then: impl FnOnce(&mut Epochs)) {
        // In a forked child a thread of the parent, which is not there, may have the lock.
        if core.check_not_forked("end an epoch").is_ok() {
            then(&mut self.open.lock().epochs);
        }
    }

    /// Retracts what an epoch has not touched, in one window of its own. Answers how many that were; `None`: it is too much for
    /// one, and nothing was.
    pub(crate) fn retract_stale(
        &self,
        core: &Arc<Core>,
        bound: &Arc<Bound>,
        (speaker, epoch): (Speaker<'_>, u64),
        stale: &[Box<[u8]>],
    ) -> Result<Option<u64>> {
        let mut open = self.enter_unheld(core, (speaker.source, bound.id))?;
        if !open.epochs.is_open(epoch) {
            return Err(abandoned(core, speaker.name, &bound.name));
        }
        self.append_in(core, &mut open)?;
        let most = core.options.epoch_bytes_max();
        // Nobody else says anything meanwhile: all of them or none.
        let mut window = open.window.successor();
        let mut retracted = 0;
        for key in stale {
            let hash = core.index.hash(bound.id.get(), key);
            if open.epochs.has_touched(epoch, hash) {
                continue;
            }
            let entity = window.enter(open.take(core, bound, hash, key)?);
            let (source, saying, suppressed) = (speaker.source, Saying::Retract, flag::SYNTHETIC);
            window.say(entity, &Utterance { source, saying, metadata: &[], suppressed });
            retracted += 1;
            if window.bytes() > most {
                return Ok(None);
            }
        }
        open.window.take_over(window);
        if let Err(error) = self.append_in(core, &mut open) {
            // What answers an error was not taken.
            open.window.withdraw();
            return Err(error);
        }
        Ok(Some(retracted))
    }

    /// Enters when what was decided of a source and a kind is carried out, and no window is on its way.
    fn enter_unheld(&self, core: &Arc<Core>, whom: Whom) -> Result<MutexGuard<'_, Open>> {
        loop {
            let open = self.enter_whatever_failed(core)?;
            if !open.epochs.is_held(whom) {
                return Ok(open);
            }
            drop(open);
            self.wait_for_end(core, whom)?;
        }
    }

    /// Looks at an entity as it is with all that is pending, under the lock.
    pub(crate) fn look<R>(
        self: &Arc<Self>,
        core: &Arc<Core>,
        bound: &Arc<Bound>,
        key: &[u8],
        then: impl FnOnce(Standing<'_>) -> R,
    ) -> Result<R> {
        core.check_not_forked("look at an entity")?;
        let hash = core.index.hash(bound.id.get(), key);
        let open = self.enter(core)?;
        let then = |standing: Standing<'_>| {
            if standing.is_stuck { Err(stuck(bound, key)) } else { Ok(then(standing)) }
        };
        if let Some(standing) = open.pending(hash) {
            return then(standing);
        }
        if let Some(base) = open.recent.get(hash) {
            return then(base.standing());
        }
        // Nobody writes rows but under this lock, or by way of the closed window, which was asked before.
        then(base_of(core, bound, hash, key)?.standing())
    }

    /// Tells whoever comes first of a flush that failed while nobody waited. Nothing of its own is done then.
    pub(crate) fn enter(&self, core: &Core) -> Result<MutexGuard<'_, Open>> {
        told_of_failure(self.enter_beside(core)?)
    }

    /// Enters when no window is on its way: to append, or to look at what only an append behind it makes true.
    pub(crate) fn enter_whatever_failed(&self, core: &Core) -> Result<MutexGuard<'_, Open>> {
        let mut open = self.open.lock();
        self.settle(&mut open);
        self.admitting(core, open)
    }

    /// Enters also while a window is on its way.
    pub(crate) fn enter_beside(&self, core: &Core) -> Result<MutexGuard<'_, Open>> {
        self.admitting(core, self.open.lock())
    }

    fn admitting<'s>(&'s self, core: &Core, open: MutexGuard<'s, Open>) -> Result<MutexGuard<'s, Open>> {
        core.check_writable()?;
        if open.has_ended {
            return Err(core.stopped_now("say something of an entity"));
        }
        Ok(open)
    }

    pub(crate) fn stats(&self, core: &Core) -> Result<StateStats> {
        core.check_not_forked("look at what is pending")?;
        let open = self.open.lock();
        let Done { operations, rows, flushes } = open.done;
        let closed = open.closed.as_ref().map(|closed| &*closed.window);
        let windows = || closed.into_iter().chain([&open.window]);
        let pending = windows().map(Window::operations).sum();
        let pending_bytes = windows().map(Window::bytes).sum();
        Ok(StateStats { operations, rows, flushes, pending, pending_bytes })
    }
}

/// Tells of a flush that failed while nobody waited.
pub(crate) fn told_of_failure(mut open: MutexGuard<'_, Open>) -> Result<MutexGuard<'_, Open>> {
    open.untold.take().map_or(Ok(open), Err)
}

pub(crate) fn check(kind: &str, operation: &Operation<'_>) -> Result<()> {
    let check = |what: &str, found: usize, least: usize, most: usize| {
        if (least..=most).contains(&found) {
            return Ok(());
        }
        let doing = format!("say something of {}: the {what}", entity_text(kind, operation.key));
        Err(Error::new(ErrorKind::InvalidInput, doing).sides(format!("{least} to {most} bytes"), found))
    };
    check("key", operation.key.len(), 1, KEY_BYTES_MAX)?;
    check("metadata", operation.metadata.len(), 0, METADATA_BYTES_MAX)?;
    operation.saying.row().map_or(Ok(()), |row| check("row", row.len(), 0, PAYLOAD_BYTES_MAX))
}

/// What is changed has to be known first.
pub(crate) fn stuck(bound: &Bound, key: &[u8]) -> Error {
    let entity = entity_text(&bound.name, key);
    Error::new(ErrorKind::Codec, format!("bring the row {entity} to version {}", bound.version))
        .sides("steps that take it there", "one that answers an error, or a row over its limit")
        .noting("assert the whole row, or retract it; reading it says what is wrong".to_owned())
}

/// How an entity is in the log, its row brought to the kind's version. Under the lock under which rows are written, and of
/// an entity that the closed window has not touched: nobody writes it meanwhile.
fn base_of(core: &Core, bound: &Bound, hash: EntityHash, key: &[u8]) -> Result<Base> {
    // Of one that is new, which many may be, nothing else is looked at.
    let Some(known) = core.index.find(hash)? else { return Ok(Base::default()) };
    let view = core.view();
    // It was looked up before the view was taken: see above.
    let newest = view.latest_known(Some(known), hash, bound.id, key)?;
    let Some(entry) = newest else { return Ok(Base::default()) };
    let said = Said::of(&entry)?;
    let base = Base {
        alive: said.is_alive(),
        version: said.version,
        generation: entry.generation().get(),
        sources: said.mark.sources,
        metadata: if said.is_alive() { BaseMetadata::of(&entry) } else { BaseMetadata::default() },
        row: BaseRow::None,
        schema: said.mark.schema,
        is_stuck: false,
    };
    if !said.is_alive() {
        return Ok(base);
    }
    Ok(match current(&bound.name, bound.version, bound.steps, &entry, said.mark.schema) {
        // Bytes that no step has touched are those of the version that wrote them: a step may be added later.
        Ok(Cow::Borrowed(_)) => Base { row: BaseRow::Logged(entry.to_owned()), ..base },
        Ok(Cow::Owned(row)) if row.len() <= PAYLOAD_BYTES_MAX => {
            // Behind the last step that there is: one for a version behind that may be added too.
            let schema = brought_to(bound.steps, bound.version).unwrap_or(bound.version);
            Base { row: BaseRow::Brought(row), schema, ..base }
        }
        // Who asserts the row anew, or retracts it, need not know what it is.
        Ok(Cow::Owned(_)) | Err(_) => Base { row: BaseRow::Logged(entry.to_owned()), is_stuck: true, ..base },
    })
}
