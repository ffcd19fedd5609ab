//! Threads that run the user's code over a journal: made on request, ended by its close.

use std::fmt;
use std::thread::{Builder, JoinHandle};

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::journal::waiting::Stopper;

/// The threads of one journal.
#[derive(Default)]
pub(crate) struct Tasks {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Nothing is started any more.
    closing: bool,
    running: Vec<Task>,
}

struct Task {
    stopper: Stopper,
    thread: JoinHandle<()>,
}

impl Tasks {
    /// Starts a thread that ends soon after `stopper` says so.
    pub(crate) fn start(
        &self,
        name: &str,
        stopper: Stopper,
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
        state.running.push(Task { stopper, thread });
        Ok(())
    }

    /// True on one of these threads, which cannot wait for its own end.
    pub(crate) fn is_on_one(&self) -> bool {
        let me = std::thread::current().id();
        self.state.lock().running.iter().any(|task| task.thread.thread().id() == me)
    }

    /// Tells all of them to end.
    pub(crate) fn tell_to_stop(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        state.running.iter().for_each(|task| task.stopper.stop());
    }

    /// Waits for their ends, but for that of the calling thread.
    pub(crate) fn join(&self) {
        let running = std::mem::take(&mut self.state.lock().running);
        let me = std::thread::current().id();
        for task in running.into_iter().filter(|task| task.thread.thread().id() != me) {
            // What went wrong in it, its handle tells.
            let _ = task.thread.join();
        }
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tasks({} threads)", self.state.lock().running.len())
    }
}
