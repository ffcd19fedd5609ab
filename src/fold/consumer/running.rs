//! The consumers that run in one store: each name once, and with the store they end.
//!
//! Whoever starts one has the name to itself while the backplane is asked, and holds no lock meanwhile: a close, and other
//! starts, do not wait for that.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::backplane::Backplane;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::fold::consumer::delivery::Handler;
use crate::fold::consumer::handle::{Consumer, Inner, Shown};
use crate::fold::consumer::options::ConsumerOptions;
use crate::fold::consumer::progress::Identity;
use crate::fold::consumer::telling::metered;
use crate::fold::consumer::working::{Setting, Trouble, Working};
use crate::fold::pool::{Pool, is_on_one};
use crate::meter::Meter;

/// Who is idle is given so long to write down its end, also where no handler is waited for.
pub(super) const IDLE_GRACE: Duration = Duration::from_secs(1);

/// The consumers that run in one store. With it they end.
#[derive(Default)]
pub(crate) struct Consumers {
    state: Mutex<State>,
    /// A start has come to its end.
    started: Condvar,
}

#[derive(Default)]
struct State {
    /// Those that have ended are on it until somebody looks.
    running: HashMap<Identity, Slot>,
    is_closed: bool,
}

enum Slot {
    Starting,
    Running(Arc<Inner>),
}

/// A name that is being taken up; it is free again where nothing comes of that.
struct Start<'a> {
    consumers: &'a Consumers,
    of: Identity,
    /// The name is that of a consumer now, or of the next one behind that.
    is_done: bool,
}

impl Drop for Start<'_> {
    fn drop(&mut self) {
        let mut state = self.consumers.state.lock();
        if !self.is_done {
            state.running.remove(&self.of);
        }
        self.consumers.started.notify_all();
    }
}

impl State {
    fn running(&self) -> impl Iterator<Item = &Arc<Inner>> {
        self.running.values().filter_map(|slot| match slot {
            Slot::Running(inner) => Some(inner),
            Slot::Starting => None,
        })
    }

    fn forget_ended(&mut self) {
        self.running.retain(|_, slot| !matches!(slot, Slot::Running(inner) if inner.has_ended()));
    }

    fn is_starting(&self) -> bool {
        self.running.values().any(|slot| matches!(slot, Slot::Starting))
    }
}

impl Consumers {
    /// Starts a consumer.
    pub(crate) fn start(
        &self,
        (pool, meter): (&Arc<Pool>, &Meter),
        (plane, clock): (&Arc<dyn Backplane>, &Clock),
        of: Identity,
        options: ConsumerOptions,
        handler: Handler,
    ) -> Result<Consumer> {
        options.check(&of.name, of.key.is_some())?;
        let doing = || format!("start the consumer {:?} of {}", of.name, of.filter());
        let mut working = Working::new(handler.0)?;
        let mut start = self.begin(&of, &doing)?;
        let setting = Setting { plane: Arc::clone(plane), clock: clock.clone(), of: of.clone(), options };
        // From here on compaction asks it, and what is appended is behind its place. A backplane that cannot be reached is asked
        // again by the task.
        match working.begin(&setting) {
            Err(Trouble::Error(error)) if error.kind() != ErrorKind::Disconnected => return Err(error),
            _ => {}
        }
        let mut state = self.state.lock();
        if state.is_closed {
            drop(state);
            // Who closes waits for that.
            working.finish(&setting);
            return Err(Error::new(ErrorKind::Closed, doing()));
        }
        let inner = Inner::start(setting, working, metered(meter, &of, plane), pool)?;
        state.running.insert(of.clone(), Slot::Running(Arc::clone(&inner)));
        start.is_done = true;
        drop(state);
        drop(start);
        Ok(Consumer { inner })
    }

    fn begin(&self, of: &Identity, doing: &dyn Fn() -> String) -> Result<Start<'_>> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(Error::new(ErrorKind::Closed, doing()));
        }
        state.forget_ended();
        if state.running.contains_key(of) {
            return Err(Error::new(ErrorKind::CursorInUse, doing())
                .noting("close the one that runs under this name first".to_owned()));
        }
        state.running.insert(of.clone(), Slot::Starting);
        Ok(Start { consumers: self, of: of.clone(), is_done: false })
    }

    /// Stops all of them, and waits as long as each says, for all at a time; tells those that run on, each time anew.
    pub(crate) fn close(&self) -> Result<()> {
        let told = Instant::now();
        let running: Vec<Arc<Inner>> = {
            let mut state = self.state.lock();
            // Whoever starts one looks at it under the same lock.
            state.is_closed = true;
            state.running().map(Arc::clone).collect()
        };
        running.iter().for_each(|inner| inner.cancel());
        finish_all(&running, told);
        if is_on_one() {
            // One of them is the one that waits: it ends behind that.
            return Ok(());
        }
        let ended = |shown: &Shown| shown.status.has_ended();
        let late: Vec<Error> = running.iter().filter_map(|inner| inner.wait(told, ended).err()).collect();
        self.wait_for_starts(told);
        self.state.lock().forget_ended();
        let names: Vec<String> = late.iter().map(|error| error.attempted().to_owned()).collect();
        match late.into_iter().next() {
            Some(first) if names.len() > 1 => Err(first.noting(names.join("; "))),
            Some(first) => Err(first),
            None => Ok(()),
        }
    }

    /// Those that were being started see that it is closed, and take back what they have written.
    fn wait_for_starts(&self, told: Instant) {
        let mut state = self.state.lock();
        while state.is_starting() {
            if self.started.wait_until(&mut state, told + IDLE_GRACE).timed_out() {
                return;
            }
        }
    }
}

/// Ends those that are idle, as the threads of the pool may all be in handlers of others; waits for that as long as one of them may
/// take. A backplane that does not answer would hold up whoever waits for each try of each.
pub(super) fn finish_all(running: &[Arc<Inner>], told: Instant) {
    let Some(first) = running.first() else { return };
    let graces = running.iter().map(|inner| inner.setting.options.grace);
    let grace = graces.max().unwrap_or_default().max(IDLE_GRACE);
    let (finished, all_finished) = channel::<()>();
    let all = running.to_vec();
    let finish = move || {
        all.iter().for_each(|inner| inner.finish_if_idle());
        drop(finished);
    };
    // A child that was forked has nobody to wait for: there every try fails at once.
    let is_elsewhere = !first.pool.is_forked()
        && std::thread::Builder::new().name("esker-close".to_owned()).spawn(finish).is_ok();
    if !is_elsewhere {
        return running.iter().for_each(|inner| inner.finish_if_idle());
    }
    // Nothing is ever sent: either it has ended, or the time has.
    let _ = all_finished.recv_timeout(grace.saturating_sub(told.elapsed()));
}

impl Drop for Consumers {
    fn drop(&mut self) {
        // Those that run on were waited for then.
        if !self.state.lock().is_closed {
            // Nobody is left to tell.
            let _ = self.close();
        }
    }
}

impl fmt::Debug for Consumers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Consumers({} running)", self.state.lock().running().count())
    }
}
