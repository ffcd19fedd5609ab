//! This process's copies of the cells that somebody follows.
//!
//! A copy only moves forward: what comes to be known of a cell is taken if its revision is greater. Whoever changes a cell
//! says so on a channel ([`CELLS_CHANNEL`]), which is heard as far as it goes; what was not heard a sweep finds out. Both
//! are done by one task on the threads that fold, which is there while somebody follows a cell.
//!
//! Lock order: `table`, then that of a copy. The backplane is called under neither.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::backplane::{Backplane, Broadcast, CELLS_CHANNEL, CellState, Era, Listener, Revision};
use crate::error::{Error, ErrorKind, Result};
use crate::fold::pool::{Next, Pool, Work};
use crate::fold::retry::Retry;

/// So much is heard in one turn.
const TURN_MESSAGES: usize = 256;

/// The copies of one store.
pub(crate) struct Copies {
    pool: Arc<Pool>,
    /// How often all are looked up; zero: never.
    sweep: Duration,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    table: Mutex<Table>,
    /// That of the task.
    waker: Mutex<Option<Waker>>,
}

#[derive(Default)]
struct Table {
    copies: HashMap<Box<[u8]>, Weak<CellCopy>>,
    /// When there are so many, those that are gone are let go of.
    look_at: usize,
    is_fed: bool,
    era: Option<Era>,
}

/// What this process knows of one cell.
pub(crate) struct CellCopy {
    key: Box<[u8]>,
    state: Mutex<Known>,
    changed: Condvar,
    shared: Weak<Shared>,
}

#[derive(Default)]
struct Known {
    /// `None` before anything is.
    cell: Option<CellState>,
    /// Rises with each change.
    number: u64,
    /// What revisions mean has changed since.
    is_stale: bool,
    is_closed: bool,
}

impl Copies {
    pub(crate) fn new(pool: Arc<Pool>, sweep: Duration) -> Self {
        Self { pool, sweep, shared: Arc::default() }
    }

    /// The copy of a cell, which is fed from now on. Where nothing is known of it yet, whoever asks looks it up.
    ///
    /// # Errors
    ///
    /// `Io` if there is no thread to feed it and none can be started.
    pub(crate) fn follow(&self, plane: &Arc<dyn Backplane>, key: &[u8]) -> Result<Arc<CellCopy>> {
        let (copy, is_fed) = self.shared.follow(key);
        if !is_fed {
            let shared = Arc::clone(&self.shared);
            let plane = Arc::clone(plane);
            let feeder = Feeder {
                plane,
                shared,
                listener: None,
                sweep: self.sweep,
                due: None,
                failures: 0,
                is_done: false,
            };
            // One that cannot be taken on is dropped, and says so to those who would wait for it.
            self.pool.add(Box::new(feeder))?;
        }
        Ok(copy)
    }

    /// Ends with the backplane, at once: nobody reads in a copy what can be read nowhere else any more.
    pub(crate) fn close(&self) {
        self.shared.close();
    }

    /// Looks a cell up of which nothing is known.
    pub(crate) fn look_up_first(&self, plane: &dyn Backplane, copy: &CellCopy) -> Result<()> {
        // Before it, so that a sweep sees when the era has changed since.
        self.shared.note_era(plane.era()?);
        copy.learn(&plane.load(&copy.key)?);
        Ok(())
    }

    /// Takes in what somebody came to know of a cell, if there is a copy of it.
    pub(crate) fn learn(&self, key: &[u8], cell: &CellState) {
        let copy = self.shared.table.lock().copies.get(key).and_then(Weak::upgrade);
        if let Some(copy) = copy {
            copy.learn(cell);
        }
    }

    /// Takes in how a cell was changed here, and tells others.
    pub(crate) fn changed(&self, plane: &dyn Backplane, key: &[u8], cell: &CellState) {
        self.learn(key, cell);
        // Whoever does not hear it finds out by a sweep.
        let _ = plane.broadcast(CELLS_CHANNEL, &[&cell.revision.raw().to_le_bytes(), key].concat());
    }
}

impl Shared {
    /// The copy of a cell, and whether it is fed already; if not, whoever asks sees to it.
    fn follow(self: &Arc<Self>, key: &[u8]) -> (Arc<CellCopy>, bool) {
        let mut table = self.table.lock();
        let known = table.copies.get(key).and_then(Weak::upgrade);
        let copy = known.filter(|copy| !copy.state.lock().is_closed).unwrap_or_else(|| {
            let copy = Arc::new(CellCopy {
                key: key.into(),
                state: Mutex::default(),
                changed: Condvar::new(),
                shared: Arc::downgrade(self),
            });
            if table.copies.len() >= table.look_at {
                table.copies.retain(|_, copy| copy.strong_count() > 0);
                table.look_at = table.copies.len() * 2 + 64;
            }
            table.copies.insert(key.into(), Arc::downgrade(&copy));
            copy
        });
        (copy, std::mem::replace(&mut table.is_fed, true))
    }

    /// False if nobody follows a cell any more: whoever feeds them has nothing to do then.
    fn is_followed(&self, waker: &Waker) -> bool {
        *self.waker.lock() = Some(waker.clone());
        let mut table = self.table.lock();
        table.copies.retain(|_, copy| copy.strong_count() > 0);
        table.is_fed = !table.copies.is_empty();
        table.is_fed
    }

    fn all(&self) -> Vec<Arc<CellCopy>> {
        self.table.lock().copies.values().filter_map(Weak::upgrade).collect()
    }

    /// In another era revisions begin anew.
    fn note_era(&self, era: Era) {
        if self.table.lock().era.replace(era).is_some_and(|known| known != era) {
            self.all().iter().for_each(|copy| copy.state.lock().is_stale = true);
        }
    }

    fn close(&self) {
        self.table.lock().is_fed = false;
        for copy in self.all() {
            copy.state.lock().is_closed = true;
            copy.changed.notify_all();
        }
    }
}

impl CellCopy {
    /// What is known; `None`: nothing yet.
    pub(crate) fn known(&self) -> Result<Option<CellState>> {
        let known = self.state.lock();
        if known.is_closed { Err(self.closed()) } else { Ok(known.cell.clone()) }
    }

    /// Takes in what came to be known, unless something newer is.
    pub(crate) fn learn(&self, cell: &CellState) {
        let mut known = self.state.lock();
        let is_newer = known.cell.as_ref().is_none_or(|known| known.revision < cell.revision);
        if is_newer || std::mem::take(&mut known.is_stale) {
            known.is_stale = false;
            known.cell = Some(cell.clone());
            known.number += 1;
            self.changed.notify_all();
        }
    }

    fn is_behind(&self, revision: Revision) -> bool {
        self.state.lock().cell.as_ref().is_none_or(|known| known.revision < revision)
    }

    /// Waits for something that was not told yet; `None`: the time is over.
    pub(crate) fn wait(&self, told: &mut u64, deadline: Option<Instant>) -> Result<Option<CellState>> {
        let mut known = self.state.lock();
        loop {
            if known.number != *told
                && let Some(cell) = &known.cell
            {
                *told = known.number;
                return Ok(Some(cell.clone()));
            }
            if known.is_closed {
                return Err(self.closed());
            }
            match deadline {
                None => self.changed.wait(&mut known),
                Some(deadline) if Instant::now() >= deadline => return Ok(None),
                Some(deadline) => _ = self.changed.wait_until(&mut known, deadline),
            }
        }
    }

    fn closed(&self) -> Error {
        let key = String::from_utf8_lossy(&self.key);
        Error::new(ErrorKind::Closed, format!("follow the cell {}", key.escape_debug()))
    }
}

impl Drop for CellCopy {
    fn drop(&mut self) {
        // If it was the last, the task ends. That only puts it into a queue.
        let waker = self.shared.upgrade().and_then(|shared| shared.waker.lock().clone());
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The task that hears what is told, and sweeps.
struct Feeder {
    plane: Arc<dyn Backplane>,
    shared: Arc<Shared>,
    listener: Option<Box<dyn Listener>>,
    sweep: Duration,
    /// When all are looked up.
    due: Option<Instant>,
    failures: u32,
    /// Nobody follows a cell any more.
    is_done: bool,
}

impl Work for Feeder {
    fn run(&mut self, waker: &Waker) -> Next {
        if !self.shared.is_followed(waker) {
            self.is_done = true;
            return Next::Done;
        }
        match self.go_on(waker) {
            Ok(next) => {
                self.failures = 0;
                next
            }
            Err(error) if is_the_end(&error) => Next::Done,
            Err(_) => {
                self.listener = None;
                self.failures = self.failures.saturating_add(1);
                Next::After(Retry::DEFAULT.pause(self.failures))
            }
        }
    }
}

impl Feeder {
    fn go_on(&mut self, waker: &Waker) -> Result<Next> {
        let mut listener = match self.listener.take() {
            Some(listener) => listener,
            None => {
                // What was told before it listens is looked up.
                let listener = self.plane.listen(CELLS_CHANNEL)?;
                self.due = Some(Instant::now());
                listener
            }
        };
        let is_drained = self.hear(&mut *listener, waker)?;
        self.listener = Some(listener);
        if self.due.is_some_and(|due| due <= Instant::now()) {
            self.look_all_up()?;
            self.due = (!self.sweep.is_zero()).then(|| Instant::now().checked_add(self.sweep)).flatten();
        }
        Ok(match self.due {
            _ if !is_drained => Next::Again,
            Some(due) => Next::After(due.saturating_duration_since(Instant::now())),
            None => Next::Asleep,
        })
    }

    /// True if there is nothing more to hear now.
    fn hear(&mut self, listener: &mut dyn Listener, waker: &Waker) -> Result<bool> {
        for _ in 0..TURN_MESSAGES {
            match listener.poll(waker)? {
                Some(Broadcast::Message(message)) => self.take(&message)?,
                Some(Broadcast::Missed(_)) => self.due = Some(Instant::now()),
                None => return Ok(true),
            }
        }
        Ok(false)
    }

    fn take(&self, message: &[u8]) -> Result<()> {
        let Some((revision, key)) = message.split_first_chunk::<8>() else { return Ok(()) };
        let copy = self.shared.table.lock().copies.get(key).and_then(Weak::upgrade);
        match copy.filter(|copy| copy.is_behind(Revision::from_raw(u64::from_le_bytes(*revision)))) {
            Some(copy) => self.look_up(&copy),
            None => Ok(()),
        }
    }

    fn look_all_up(&self) -> Result<()> {
        self.shared.note_era(self.plane.era()?);
        self.shared.all().iter().try_for_each(|copy| self.look_up(copy))
    }

    /// What cannot be read now stays as it is known.
    fn look_up(&self, copy: &CellCopy) -> Result<()> {
        match self.plane.load(&copy.key) {
            Ok(cell) => copy.learn(&cell),
            Err(error) if is_the_end(&error) || error.kind() == ErrorKind::Disconnected => return Err(error),
            Err(_) => {}
        }
        Ok(())
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        if !self.is_done {
            self.shared.close();
        }
    }
}

fn is_the_end(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Closed | ErrorKind::Poisoned | ErrorKind::Forked)
}

impl fmt::Debug for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Copies({}, swept every {:?})", self.shared.table.lock().copies.len(), self.sweep)
    }
}

impl fmt::Debug for CellCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.state.lock();
        write!(f, "revision {:?}", known.cell.as_ref().map(|cell| cell.revision))
    }
}
