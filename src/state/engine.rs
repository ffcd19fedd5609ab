//! When windows are flushed, by whom, and who waits for it.
//!
//! One for each open journal, whatever the number of `Store`s over it. Operations are accepted under one lock,
//! under which the window is also appended, so that no operation ever sees half a flush; the sync that
//! follows is waited for outside of it. A window that cannot be appended for want of space stays as it is and
//! is tried again. What the journal refuses for good, every ticket of the window is told.
//!
//! The thread that flushes when nobody waits is called *pulse*. It runs no code of the user.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::clock::Moved;
use crate::error::{Error, ErrorKind, Result, entity_text};
use crate::format::count::EventCount;
use crate::format::frame::{KEY_BYTES_MAX, METADATA_BYTES_MAX, PAYLOAD_BYTES_MAX, flag};
use crate::format::index::EntityHash;
use crate::id::{KindId, Position};
use crate::journal::core::Core;
use crate::journal::lodger::Lodger;
use crate::journal::rows::{Appended, EPOCH_BYTES_MAX, OperationFrame, Together};
use crate::journal::waiting::Until;
use crate::options::Window as Every;
use crate::state::ending::abandoned;
use crate::state::epoch::Epochs;
use crate::state::operations::Numbering;
use crate::state::recent::Recent;
use crate::state::row::{Said, current};
use crate::state::schema::{Bound, Schemas};
use crate::state::sessions::{Sessions, Speaker};
use crate::state::window::{Base, BaseRow, Committed, Outcome, Saying, Standing, Utterance, Window};

/// The state layer of a journal.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) schemas: Schemas,
    pub(crate) open: Mutex<Open>,
    /// Something is pending that was not, or much is; or there is a deadline to look at earlier than before.
    pub(crate) bell: Condvar,
}

#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) window: Window,
    last_flush: Instant,
    /// The window has as much as should wait.
    is_full: bool,
    /// Where the log ended behind the last flush.
    end: Position,
    /// A flush that nobody waited for failed: the next call is told.
    pub(crate) failure: Option<Error>,
    /// Nothing is accepted any more.
    has_ended: bool,
    pub(crate) pulse: Pulse,
    done: Done,
    pub(crate) epochs: Epochs,
    pub(crate) recent: Recent,
    pub(crate) sessions: Sessions,
}

#[derive(Clone, Copy, Debug, Default)]
struct Done {
    operations: u64,
    rows: u64,
    flushes: u64,
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

/// An operation that was accepted.
///
/// It is visible when its window was flushed, which is soon behind a window's length or at once when somebody waits
/// for it, and durable as the store's [`Durability`](crate::Durability) says: under `Sync` with the sync that follows
/// the flush. Without a thread of its own ([`Options::background`](crate::Options::background)) a window is flushed by
/// the next operation behind its time.
#[derive(Clone)]
pub struct StateTicket {
    core: Arc<Core>,
    state: Arc<State>,
    outcome: Arc<Outcome>,
    entity: u32,
}

impl StateTicket {
    /// Waits until the operation's window is in the log, or on the disk too, and flushes it if nobody else does.
    ///
    /// ```
    /// use esker::{Kind, Made, Store, Until};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Vessel { name: String }
    /// # const VESSEL: Kind<Vessel> = Kind::new("vessel");
    /// # fn main() -> esker::Result<()> {
    /// let store = Store::in_memory()?;
    /// let radar = store.source("radar")?;
    /// let ticket = radar.assert(VESSEL, "mmsi:2190", &Vessel { name: "Ada".into() })?;
    /// let committed = ticket.wait(Until::Durable)?;
    /// assert_eq!((committed.change, committed.version), (Made::Created, 1));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// `NoSpace` or `Io`: it is still pending, and is tried again. `Poisoned`: the outcome is unknown. `Closed`:
    /// the store was closed before it could be appended.
    pub fn wait(&self, until: Until) -> Result<Committed> {
        if self.outcome.of(self.entity).is_none() {
            self.state.append(&self.core)?;
        }
        match self.outcome.of(self.entity) {
            Some(Some((end, committed))) => {
                if until == Until::Durable {
                    self.core.wait_durable(end)?;
                }
                Ok(committed)
            }
            // Whatever refused it refuses everything.
            _ => Err(self.core.stopped_now("flush a window")),
        }
    }

    /// True once it is in the log.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.outcome.of(self.entity).is_some_and(|flushed| flushed.is_some())
    }
}

impl fmt::Debug for StateTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateTicket({:?})", self.outcome.of(self.entity))
    }
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
    /// What an operation says here and now.
    pub(crate) fn utterance<'a>(&self, bound: &Bound, operation: &Operation<'a>) -> Utterance<'a> {
        let Operation { speaker: Speaker { source, .. }, saying, metadata, .. } = *operation;
        let is_event = bound.events.is_none() || !self.epochs.has(source, bound.id);
        let suppressed = if is_event { 0 } else { flag::IN_EPOCH };
        Utterance { source, saying, metadata, suppressed }
    }

    /// The frames of what was said of kinds with events, and what the numbers of events come to with them.
    fn told(&self, core: &Core) -> (Vec<OperationFrame<'_>>, Vec<EventCount>) {
        if !self.window.has_spoken() {
            return (Vec::new(), Vec::new());
        }
        let registry = core.registry.read();
        let mut numbering = Numbering::behind(registry.last_event());
        let hash = |kind: KindId, key: &[u8]| core.index.hash(kind.get(), key);
        let number = |kind, is_event| numbering.number(kind, is_event, || registry.last_event_of(kind));
        let told = self.window.told(hash, number);
        (told, numbering.counts())
    }

    /// When what is pending is to be flushed, if nobody waits for it before.
    fn flush_due(&self, window: Every) -> Option<Instant> {
        let Every::Every(every) = window else { return None };
        let due = if self.is_full { None } else { self.last_flush.checked_add(every) };
        (!self.window.is_empty()).then(|| due.unwrap_or(self.last_flush))
    }

    /// How an entity is in the log.
    pub(crate) fn take_base(
        &mut self,
        core: &Arc<Core>,
        bound: &Bound,
        hash: EntityHash,
        key: &[u8],
    ) -> Result<Base> {
        self.recent.take(hash).map_or_else(|| base_of(core, bound, key), Ok)
    }
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
                last_flush: Instant::now(),
                is_full: false,
                end: core.commit.visible(),
                failure: None,
                has_ended: false,
                pulse: Pulse::NotYet,
                done: Done::default(),
                epochs: Epochs::default(),
                recent: Recent::default(),
                sessions: Sessions::default(),
            }),
            bell: Condvar::new(),
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
        let mut open = self.enter_alive(core, std::iter::once(operation.speaker))?;
        // Before anything is taken in: what is refused leaves no trace.
        let base = match open.window.find(hash) {
            Some(entity) => {
                if !operation.may_go_on(bound, &open.window.standing(entity))? {
                    return Ok(Accepted::Moved);
                }
                None
            }
            None => {
                let base = open.take_base(core, bound, hash, operation.key)?;
                if !operation.may_go_on(bound, &base.standing())? {
                    return Ok(Accepted::Moved);
                }
                Some(base)
            }
        };
        let entity = self.room_for(core, &mut open, (bound, hash), base, operation)?;
        let was_idle = open.window.operations() == 0;
        let utterance = open.utterance(bound, operation);
        open.window.say(entity, &utterance);
        open.epochs.touch(operation.speaker.source, bound.id, hash);
        open.sessions.endings.touch(operation.speaker.source, hash);
        let ticket = StateTicket {
            core: Arc::clone(core),
            state: Arc::clone(self),
            outcome: open.window.outcome(),
            entity,
        };
        self.see_to_the_flush(core, open, was_idle);
        Ok(Accepted::Done(ticket))
    }

    /// The place of an operation's entity, in a window that the operation fits into.
    fn room_for(
        &self,
        core: &Arc<Core>,
        open: &mut Open,
        (bound, hash): (&Arc<Bound>, EntityHash),
        mut base: Option<Base>,
        operation: &Operation<'_>,
    ) -> Result<u32> {
        let most = core.options.batch_bytes_max();
        loop {
            let entity = match open.window.find(hash) {
                Some(entity) => entity,
                None => {
                    // Another one than before, if the window was flushed since.
                    let base = match base.take() {
                        Some(base) => base,
                        None => open.take_base(core, bound, hash, operation.key)?,
                    };
                    open.window.enter(Arc::clone(bound), hash, operation.key, base)
                }
            };
            let bytes = open.window.bytes_with(entity, &open.utterance(bound, operation));
            if bytes <= most {
                return Ok(entity);
            }
            let is_alone = open.window.has_only(entity) && open.window.operations() == 0;
            // A window is one batch: what would not fit begins the next one.
            self.append_in(core, open)?;
            if is_alone {
                let doing = format!("say something of {}", entity_text(&bound.name, operation.key));
                return Err(Error::new(ErrorKind::BatchTooLarge, doing)
                    .sides(format!("at most {most} bytes"), format!("{bytes} bytes")));
            }
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

    /// Retracts what an epoch has not touched, in one window of its own. Answers how many that were.
    pub(crate) fn retract_stale(
        &self,
        core: &Arc<Core>,
        bound: &Arc<Bound>,
        (speaker, epoch): (Speaker<'_>, u64),
        stale: &[Box<[u8]>],
    ) -> Result<u64> {
        let mut open = self.enter_whatever_failed(core)?;
        if !open.epochs.is_open(epoch) {
            return Err(abandoned(core, speaker.name, &bound.name));
        }
        self.append_in(core, &mut open)?;
        let most = EPOCH_BYTES_MAX;
        // Nobody else says anything meanwhile: all of them or none.
        let mut window = open.window.successor();
        let mut retracted = 0;
        for key in stale {
            let hash = core.index.hash(bound.id.get(), key);
            if open.epochs.has_touched(epoch, hash) {
                continue;
            }
            let base = open.take_base(core, bound, hash, key)?;
            let entity = window.enter(Arc::clone(bound), hash, key, base);
            let (source, saying, suppressed) = (speaker.source, Saying::Retract, flag::SYNTHETIC);
            window.say(entity, &Utterance { source, saying, metadata: &[], suppressed });
            retracted += 1;
            if window.bytes() > most {
                let doing = format!("retract {} entities of the kind {:?} at once", stale.len(), bound.name);
                return Err(Error::new(ErrorKind::BatchTooLarge, doing)
                    .sides(format!("at most {most} bytes"), format!("{} bytes or more", window.bytes())));
            }
        }
        open.window.take_over(window);
        if let Err(error) = self.append_in(core, &mut open) {
            // What answers an error was not taken.
            open.window.withdraw();
            return Err(error);
        }
        Ok(retracted)
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
        if let Some(entity) = open.window.find(hash) {
            return then(open.window.standing(entity));
        }
        if let Some(base) = open.recent.get(hash) {
            return then(base.standing());
        }
        // Nobody writes rows but under this lock.
        then(base_of(core, bound, key)?.standing())
    }

    /// Appends what is pending, and waits as the journal's durability says; when whoever was silent for too long has been
    /// ended.
    pub(crate) fn flush(&self, core: &Arc<Core>) -> Result<()> {
        self.tend_if_due(core)?;
        self.flush_alone(core)
    }

    /// The same of what is pending alone: nobody is ended in the thread of a source that speaks.
    pub(crate) fn flush_alone(&self, core: &Arc<Core>) -> Result<()> {
        let end = self.append(core)?;
        core.wait_as_configured(end)
    }

    /// Appends what is pending. Answers behind what everything is that was accepted before.
    pub(crate) fn append(&self, core: &Arc<Core>) -> Result<Position> {
        core.check_not_forked("flush a window")?;
        let mut open = self.enter_whatever_failed(core)?;
        self.append_in(core, &mut open)?;
        Ok(open.end)
    }

    pub(crate) fn append_in(&self, core: &Core, open: &mut Open) -> Result<()> {
        open.last_flush = Instant::now();
        if open.window.is_empty() {
            return Ok(());
        }
        self.append_with(core, open, Together::default()).map(drop)
    }

    /// Appends the window, and something else in the same batch.
    pub(crate) fn append_with(
        &self,
        core: &Core,
        open: &mut Open,
        together: Together<'_>,
    ) -> Result<Appended> {
        if open.window.has_spoken() {
            open.window.begin_versions_with(core.first_version());
        }
        let (places, frames): (Vec<usize>, Vec<_>) = open.window.frames().unzip();
        let (told, counts) = open.told(core);
        let appended = if frames.is_empty() && told.is_empty() && together.is_empty() {
            Ok((Vec::new(), Appended { facts: Vec::new(), last: None, end: open.end }))
        } else {
            core.append_rows(told.into_iter(), frames.into_iter(), &counts, together)
        };
        match appended {
            Ok((receipts, appended)) => {
                let end = appended.end;
                // What failed before has been made good.
                open.failure = None;
                open.end = end;
                open.is_full = false;
                let Open { window, recent, .. } = open;
                let operations = window.flushed(&places, &receipts, end, |hash, base| recent.put(hash, base));
                open.done.flushes += 1;
                open.done.operations += operations;
                open.done.rows += receipts.len() as u64;
                Ok(appended)
            }
            Err(error) => {
                if core.check_writable().is_err() {
                    open.recent.forget();
                    open.window.failed();
                }
                Err(error)
            }
        }
    }

    /// Tells whoever comes first of a flush that failed while nobody waited. Nothing of its own is done then.
    pub(crate) fn enter(&self, core: &Core) -> Result<MutexGuard<'_, Open>> {
        told_of_failure(self.enter_whatever_failed(core)?)
    }

    pub(crate) fn enter_whatever_failed(&self, core: &Core) -> Result<MutexGuard<'_, Open>> {
        let open = self.open.lock();
        core.check_writable()?;
        if open.has_ended {
            return Err(core.stopped_now("say something of an entity"));
        }
        Ok(open)
    }

    /// Sees to it that the window is flushed when it is time.
    fn see_to_the_flush(self: &Arc<Self>, core: &Arc<Core>, mut open: MutexGuard<'_, Open>, was_idle: bool) {
        let is_full = open.window.bytes() >= core.options.batch_bytes_max() / 4;
        let is_news = was_idle || is_full && !open.is_full;
        open.is_full = is_full;
        if matches!(open.pulse, Pulse::NotYet) && core.options.window != Every::Manual {
            open.pulse = self.start(core);
        }
        let is_time = match (&open.pulse, core.options.window) {
            (Pulse::Runs(_), Every::Every(_)) => {
                drop(open);
                if is_news {
                    self.bell.notify_one();
                }
                return;
            }
            (_, Every::Every(every)) => is_full || open.last_flush.elapsed() >= every,
            (_, Every::Manual) => is_full,
        };
        if is_time {
            self.flush_for_nobody(core, &mut open);
        }
    }

    /// Appends the window, and waits as the journal's durability says. Whoever comes next is told if that fails; a
    /// window that is still there is tried again.
    pub(crate) fn flush_for_nobody(&self, core: &Core, open: &mut MutexGuard<'_, Open>) {
        let flushed = self.append_in(core, open).map(|()| open.end);
        let flushes = open.done.flushes;
        let waited = MutexGuard::unlocked(open, || core.wait_as_configured(flushed?));
        if let Err(error) = waited {
            // Unless somebody has made it good meanwhile.
            if open.done.flushes == flushes || core.check_writable().is_err() {
                open.failure = Some(error);
            }
            open.is_full = false;
        }
    }

    pub(crate) fn start(self: &Arc<Self>, core: &Arc<Core>) -> Pulse {
        if !core.options.background || core.alone.load(Ordering::Relaxed) {
            return Pulse::None;
        }
        let moved: Arc<dyn Moved> = Arc::<Self>::clone(self);
        core.options.clock.tell(Arc::downgrade(&moved));
        let (state, core) = (Arc::clone(self), Arc::clone(core));
        let started = Builder::new().name("esker pulse".to_owned()).spawn(move || state.pulse(&core));
        started.map_or(Pulse::None, Pulse::Runs)
    }

    /// Flushes a window when its time has come, and ends who was silent for too long, until the end.
    fn pulse(&self, core: &Arc<Core>) {
        let mut open = self.open.lock();
        while !open.has_ended {
            let flush = open.flush_due(core.options.window);
            if flush.is_some_and(|due| due <= Instant::now()) {
                self.flush_for_nobody(core, &mut open);
            } else if self.is_due(core, &open) {
                MutexGuard::unlocked(&mut open, || self.tend_for_nobody(core));
            } else {
                match flush.into_iter().chain(self.next_look(core, &open)).min() {
                    Some(due) => _ = self.bell.wait_until(&mut open, due),
                    None => self.bell.wait(&mut open),
                }
            }
        }
    }

    /// Flushes the window if its time has come.
    pub(crate) fn flush_if_due(&self, core: &Core) {
        let mut open = self.open.lock();
        if !open.has_ended && open.flush_due(core.options.window).is_some_and(|due| due <= Instant::now()) {
            self.flush_for_nobody(core, &mut open);
        }
    }

    pub(crate) fn stats(&self, core: &Core) -> Result<StateStats> {
        core.check_not_forked("look at what is pending")?;
        let open = self.open.lock();
        let Done { operations, rows, flushes } = open.done;
        let (pending, pending_bytes) = (open.window.operations(), open.window.bytes());
        Ok(StateStats { operations, rows, flushes, pending, pending_bytes })
    }
}

impl Lodger for State {
    fn end(&self, core: &Arc<Core>) -> Result<()> {
        let mut open = self.open.lock();
        if std::mem::replace(&mut open.has_ended, true) {
            return Ok(());
        }
        let pulse = std::mem::replace(&mut open.pulse, Pulse::None);
        let ended = self.append_in(core, &mut open);
        while self.write_news(core, &mut open) {}
        let failure = open.failure.take();
        open.window.failed();
        drop(open);
        self.bell.notify_all();
        if let Pulse::Runs(thread) = pulse {
            // It runs no code that could panic or end here.
            let _ = thread.join();
        }
        match failure {
            Some(error) if core.check_writable().is_ok() => Err(error),
            _ => ended,
        }
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// Tells of a flush that failed while nobody waited.
pub(crate) fn told_of_failure(mut open: MutexGuard<'_, Open>) -> Result<MutexGuard<'_, Open>> {
    open.failure.take().map_or(Ok(open), Err)
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

/// How an entity is in the log, its row brought to the kind's version.
fn base_of(core: &Arc<Core>, bound: &Bound, key: &[u8]) -> Result<Base> {
    let view = core.view();
    let Some(entry) = view.latest(bound.id, key)? else { return Ok(Base::default()) };
    let said = Said::of(&entry)?;
    let base = Base {
        alive: said.is_alive(),
        version: said.version,
        generation: entry.generation().get(),
        sources: said.mark.sources,
        row: BaseRow::None,
        schema: bound.version,
        is_stuck: false,
    };
    if !said.is_alive() {
        return Ok(base);
    }
    Ok(match current(&bound.name, bound.version, bound.steps, &entry, said.mark.schema) {
        Ok(Cow::Borrowed(_)) => Base { row: BaseRow::Logged(entry.to_owned()), ..base },
        Ok(Cow::Owned(row)) if row.len() <= PAYLOAD_BYTES_MAX => Base { row: BaseRow::Brought(row), ..base },
        // Who asserts the row anew, or retracts it, need not know what it is.
        Ok(Cow::Owned(_)) | Err(_) => {
            Base { row: BaseRow::Logged(entry.to_owned()), schema: said.mark.schema, is_stuck: true, ..base }
        }
    })
}
