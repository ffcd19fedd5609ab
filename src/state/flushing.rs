//! When windows are appended, by whom, and who waits for it.
//!
//! A window that nobody waits for is *closed* first: what is said meanwhile goes into the next one, worked out from
//! what the closed one will have come to, and whoever says it does not wait for the append. Everybody else (who waits
//! for a window, or has something of his own to append in its place) appends under the lock under which operations are
//! accepted, when no closed window is on its way any more. So windows stand in the log in their order, and no operation
//! ever sees half a flush.
//!
//! A window that cannot be appended for want of space stays as it is and is tried again, before those behind it. What
//! the journal refuses for good, every ticket is told.
//!
//! The thread that flushes when nobody waits is called *pulse*. It runs no code of the user.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::Builder;
use std::time::Instant;

use parking_lot::MutexGuard;

use crate::clock::Moved;
use crate::error::Result;
use crate::format::count::EventCount;
use crate::format::row::RowOperation;
use crate::id::{KindId, Position};
use crate::journal::core::Core;
use crate::journal::lodger::Lodger;
use crate::journal::record::Receipt;
use crate::journal::rows::{Appended, OperationFrame, Together};
use crate::options::Window as Every;
use crate::state::engine::{Open, Pulse, State};
use crate::state::operations::Numbering;
use crate::state::window::Window;

/// A window that takes nothing more and is not in the log yet.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) window: Arc<Window>,
    /// Somebody appends it now, and does not hold the lock.
    is_on_its_way: bool,
}

/// A window in the log.
struct InLog {
    /// Whose frames they are, by the place of the entity in the window, and what they say.
    frames: Vec<(usize, RowOperation)>,
    rows: Vec<Receipt>,
    /// What entities begin with that the log did not know.
    first_version: u64,
    appended: Appended,
}

/// Appends a window, and something else in the same batch.
fn append(core: &Core, window: &Window, end: Position, together: Together<'_>) -> Result<InLog> {
    let first_version = if window.has_spoken() { core.first_version() } else { 0 };
    let mut places = Vec::new();
    let frames = window.frames(first_version).map(|(place, frame)| {
        places.push(place);
        frame
    });
    let mut frames = frames.peekable();
    let (told, counts) = told(core, window, first_version);
    let (rows, appended) = if told.is_empty() && together.is_empty() && frames.peek().is_none() {
        (Vec::new(), Appended { facts: Vec::new(), last: None, end })
    } else {
        core.append_rows(told.into_iter(), frames, &counts, together)?
    };
    Ok(InLog { frames: places, rows, first_version, appended })
}

/// The frames of what was said of kinds with events, and what the numbers of events come to with them.
fn told<'w>(
    core: &Core,
    window: &'w Window,
    first_version: u64,
) -> (Vec<OperationFrame<'w>>, Vec<EventCount>) {
    if !window.has_spoken() {
        return (Vec::new(), Vec::new());
    }
    let registry = core.registry.read();
    let mut numbering = Numbering::behind(registry.last_event());
    let hash = |kind: KindId, key: &[u8]| core.index.hash(kind.get(), key);
    let number = |kind, is_event| numbering.number(kind, is_event, || registry.last_event_of(kind));
    let told = window.told(first_version, hash, number);
    (told, numbering.counts())
}

impl Open {
    /// When what is pending is to be flushed, if nobody waits for it before.
    fn flush_due(&self, window: Every) -> Option<Instant> {
        let Every::Every(every) = window else { return None };
        let due = if self.is_full { None } else { self.last_flush.checked_add(every) };
        let is_pending = self.closed.is_some() || !self.window.is_empty();
        is_pending.then(|| due.unwrap_or(self.last_flush))
    }

    pub(crate) fn is_on_its_way(&self) -> bool {
        self.closed.as_ref().is_some_and(|closed| closed.is_on_its_way)
    }

    /// Notes that a window is in the log, and how its entities are there now.
    fn note(&mut self, mut window: Window, log: InLog) -> Appended {
        let InLog { frames, rows, first_version, appended } = log;
        // What failed before has been made good, but for rows that cannot be read.
        self.untold.is_made_good();
        self.end = appended.end;
        let Self { window: open, recent, .. } = self;
        let operations =
            window.flushed((&frames, &rows), first_version, appended.end, |entity, was_known| {
                // It may have been touched again while the window was on its way. Whether one that is new will be is not known:
                // many may come of which each is written once.
                if open.rebase(&entity) || !was_known {
                    recent.retire(entity);
                } else {
                    recent.put(entity);
                }
            });
        self.done.flushes += 1;
        self.done.operations += operations;
        self.done.rows += rows.len() as u64;
        appended
    }

    /// Opens a window again that could not be appended, if nothing was said since.
    fn reopen(&mut self) {
        if self.window.is_empty()
            && let Some(closed) = self.closed.take()
        {
            match Arc::try_unwrap(closed.window) {
                Ok(window) => self.window = window,
                Err(window) => self.closed = Some(Closed { window, ..closed }),
            }
        }
    }

    /// Whatever was pending will never be appended, if the store says so.
    fn give_up(&mut self, core: &Core) {
        if core.check_writable().is_err() {
            self.recent.forget();
            self.fail();
        }
    }

    /// Nothing of what is pending will ever be appended.
    fn fail(&mut self) {
        if let Some(closed) = self.closed.take_if(|closed| !closed.is_on_its_way) {
            closed.window.failed();
        }
        self.window.fail();
    }
}

impl State {
    /// Appends what is pending, and waits as the journal's durability says; when whoever was silent for too long has been
    /// ended.
    pub(crate) fn flush(&self, core: &Arc<Core>) -> Result<()> {
        self.tend_if_due(core)?;
        self.carry_on_held(core);
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

    /// The same under the lock, where no window is on its way.
    pub(crate) fn append_in(&self, core: &Core, open: &mut Open) -> Result<()> {
        open.last_flush = Instant::now();
        self.append_closed(core, open)?;
        if open.window.is_empty() {
            return Ok(());
        }
        // What is in it was held to the limit when it was accepted: refused now, it would be refused for ever.
        self.append_with(core, open, Together::alone()).map(drop)
    }

    /// Appends the window that is open, and something else in the same batch. None is closed.
    pub(crate) fn append_with(
        &self,
        core: &Core,
        open: &mut Open,
        together: Together<'_>,
    ) -> Result<Appended> {
        match append(core, &open.window, open.end, together) {
            Ok(log) => {
                open.is_full = false;
                let successor = open.window.successor();
                let window = std::mem::replace(&mut open.window, successor);
                Ok(open.note(window, log))
            }
            Err(error) => {
                open.give_up(core);
                Err(error)
            }
        }
    }

    /// Appends the window that could not be appended before.
    fn append_closed(&self, core: &Core, open: &mut Open) -> Result<()> {
        debug_assert!(!open.is_on_its_way(), "it was waited for");
        let Some(closed) = &open.closed else { return Ok(()) };
        let window = Arc::clone(&closed.window);
        let appended = append(core, &window, open.end, Together::alone());
        self.end_closed(core, open, window, appended)
    }

    /// Closes the window and appends it, not under the lock; first the one that could not be appended before.
    fn append_beside(&self, core: &Core, open: &mut MutexGuard<'_, Open>) -> Result<Position> {
        self.settle(open);
        open.last_flush = Instant::now();
        if open.closed.is_some() {
            self.send_closed(core, open)?;
            // Others may have come in between.
            self.settle(open);
        }
        if open.closed.is_none() && !open.window.is_empty() {
            let successor = open.window.successor();
            let window = Arc::new(std::mem::replace(&mut open.window, successor));
            open.is_full = false;
            open.closed = Some(Closed { window, is_on_its_way: false });
            self.send_closed(core, open)?;
        }
        Ok(open.end)
    }

    /// Appends the closed window, not under the lock.
    fn send_closed(&self, core: &Core, open: &mut MutexGuard<'_, Open>) -> Result<()> {
        let Some(closed) = &mut open.closed else { return Ok(()) };
        closed.is_on_its_way = true;
        let (window, end) = (Arc::clone(&closed.window), open.end);
        let appended = MutexGuard::unlocked(open, || {
            catch_unwind(AssertUnwindSafe(|| append(core, &window, end, Together::alone())))
        });
        match appended {
            Ok(appended) => self.end_closed(core, open, window, appended),
            Err(panic) => {
                // Nobody waits for ever because of a bug: what was not stored is still pending, and where some of it was
                // the store is poisoned.
                self.keep_closed(core, open, window);
                resume_unwind(panic)
            }
        }
    }

    /// The closed window is in the log, or stays to be tried again.
    fn end_closed(
        &self,
        core: &Core,
        open: &mut Open,
        window: Arc<Window>,
        log: Result<InLog>,
    ) -> Result<()> {
        let closed = open.closed.take();
        self.settled.notify_all();
        match log {
            Ok(log) => {
                drop(closed);
                // Others look at it under the lock alone.
                let window =
                    Arc::into_inner(window).unwrap_or_else(|| panic!("a closed window is nobody else's"));
                open.note(window, log);
                Ok(())
            }
            Err(error) => {
                drop(closed);
                self.keep_closed(core, open, window);
                Err(error)
            }
        }
    }

    /// The closed window is not on its way any more, and not in the log.
    fn keep_closed(&self, core: &Core, open: &mut Open, window: Arc<Window>) {
        open.closed = Some(Closed { window, is_on_its_way: false });
        self.settled.notify_all();
        open.reopen();
        open.give_up(core);
    }

    /// Waits until no window is on its way.
    pub(crate) fn settle(&self, open: &mut MutexGuard<'_, Open>) {
        while open.is_on_its_way() {
            self.settled.wait(open);
        }
    }

    /// Sees to it that the window is flushed when it is time.
    pub(crate) fn see_to_the_flush(
        self: &Arc<Self>,
        core: &Arc<Core>,
        mut open: MutexGuard<'_, Open>,
        was_idle: bool,
    ) {
        let is_full = open.window.bytes() >= core.options.window_bytes_max() / 4;
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

    /// Closes the window and appends it, and waits as the journal's durability says. Whoever comes next is told if that
    /// fails; a window that is still there is tried again.
    pub(crate) fn flush_for_nobody(&self, core: &Core, open: &mut MutexGuard<'_, Open>) {
        let flushed = self.append_beside(core, open);
        let flushes = open.done.flushes;
        let waited = MutexGuard::unlocked(open, || core.wait_as_configured(flushed?));
        if let Err(error) = waited {
            // Unless somebody has made it good meanwhile.
            if open.done.flushes == flushes || core.check_writable().is_err() {
                open.untold.put(error);
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
}

impl Lodger for State {
    fn end(&self, core: &Arc<Core>) -> Result<()> {
        let mut open = self.open.lock();
        if std::mem::replace(&mut open.has_ended, true) {
            return Ok(());
        }
        self.settle(&mut open);
        let pulse = std::mem::replace(&mut open.pulse, Pulse::None);
        let ended = self.append_in(core, &mut open);
        while self.write_news(core, &mut open) {}
        let failure = open.untold.take();
        open.fail();
        drop(open);
        self.bell.notify_all();
        if let Pulse::Runs(thread) = pulse {
            // It runs no code that could panic or end here.
            let _ = thread.join();
        }
        match failure {
            // What was pending and is not in the log counts for more than what failed before.
            Some(error) if ended.is_ok() && core.check_writable().is_ok() => Err(error),
            _ => ended,
        }
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

#[cfg(test)]
mod tests;
