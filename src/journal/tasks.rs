//! Threads that run the user's code over a journal: made on request, ended by its close.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle, ThreadId};

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, ErrorKind, Result};
use crate::journal::waiting::Stopper;

/// The threads of one journal.
#[derive(Default)]
pub(crate) struct Tasks {
    state: Mutex<State>,
    /// Somebody has joined all of them.
    joined: Condvar,
}

#[derive(Default)]
struct State {
    /// Nothing is started any more.
    closing: bool,
    running: Vec<Task>,
    /// The threads that run and are not in `running` any more: somebody waits for their ends.
    joining: Vec<ThreadId>,
}

struct Task {
    stopper: Stopper,
    progress: Option<Progress>,
    thread: JoinHandle<()>,
}

/// Up to which Seq the work under a cursor is done.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) cursor: String,
    pub(crate) done: Arc<AtomicU64>,
}

impl Tasks {
    /// Starts a thread that ends soon after `stopper` says so.
    pub(crate) fn start(
        &self,
        name: &str,
        stopper: Stopper,
        progress: Option<Progress>,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<()> {
        let mut state = self.state.lock();
        if state.closing {
            return Err(Error::new(ErrorKind::Closed, format!("start {name}")));
        }
        state.running.retain(|task| !task.thread.is_finished());
        let thread = Builder::new()
            .name(name.to_owned())
            .spawn(work)
            .map_err(|cause| Error::io(format!("start the thread {name:?}"), cause))?;
        state.running.push(Task { stopper, progress, thread });
        Ok(())
    }

    /// True on one of these threads, which cannot wait for its own end.
    pub(crate) fn is_on_one(&self) -> bool {
        let me = std::thread::current().id();
        let state = self.state.lock();
        state.joining.contains(&me) || state.running.iter().any(|task| task.thread.thread().id() == me)
    }

    /// How far each has come that has a cursor.
    pub(crate) fn progress(&self) -> Vec<(String, u64)> {
        let state = self.state.lock();
        let known = state.running.iter().filter_map(|task| task.progress.as_ref());
        known.map(|progress| (progress.cursor.clone(), progress.done.load(Ordering::Acquire))).collect()
    }

    /// Tells all of them to end.
    pub(crate) fn tell_to_stop(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        state.running.iter().for_each(|task| task.stopper.stop());
    }

    /// Waits for their ends, whoever else does; on one of them it does not wait.
    pub(crate) fn join(&self) {
        let me = std::thread::current().id();
        let mut state = self.state.lock();
        if state.joining.contains(&me) {
            return;
        }
        let running = std::mem::take(&mut state.running);
        state.joining.extend(running.iter().map(|task| task.thread.thread().id()));
        let is_on_one = state.joining.contains(&me);
        drop(state);
        for task in running {
            let id = task.thread.thread().id();
            if id != me {
                // What went wrong in it, its handle tells.
                let _ = task.thread.join();
            }
            self.state.lock().joining.retain(|joining| *joining != id);
            self.joined.notify_all();
        }
        let mut state = self.state.lock();
        while !is_on_one && !state.joining.is_empty() {
            self.joined.wait(&mut state);
        }
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tasks({} threads)", self.state.lock().running.len())
    }
}
