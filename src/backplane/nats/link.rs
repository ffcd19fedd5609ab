//! The thread that drives the connection, and calls that wait for what happens there.

use std::future::Future;
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

use crate::backplane::name::closed;
use crate::backplane::waiting::wait_for;
use crate::error::{Error, ErrorKind, Result};

/// A runtime in a thread of its own, until it is closed.
///
/// Calls run in the threads of those who call; only timers, sockets and tasks are the runtime's. It ends when the last call
/// has: a timer must not outlive what drives it.
#[derive(Debug)]
pub(super) struct Link {
    handle: Handle,
    closed: watch::Sender<bool>,
    /// Held by each call.
    in_use: RwLock<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Link {
    pub(super) fn start() -> Result<Self> {
        let doing = "start the thread of a NATS connection";
        let (closed, mut closes) = watch::channel(false);
        let (ready, is_ready) = mpsc::sync_channel(1);
        let run = move || {
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(cause) => {
                    let _ = ready.send(Err(cause));
                    return;
                }
            };
            let _ = ready.send(Ok(runtime.handle().clone()));
            // Its end without a word is one too.
            let _ = runtime.block_on(closes.wait_for(|closed| *closed));
        };
        let spawned = std::thread::Builder::new().name("esker-nats".to_owned()).spawn(run);
        let thread = spawned.map_err(|cause| Error::io(doing, cause))?;
        let handle = match is_ready.recv() {
            Ok(started) => started.map_err(|cause| Error::io(doing, cause))?,
            Err(cause) => return Err(Error::new(ErrorKind::Io, doing).because(cause)),
        };
        Ok(Self { handle, closed, in_use: RwLock::new(()), thread: Mutex::new(Some(thread)) })
    }

    /// Waits in this thread for some work, or for the close.
    pub(super) fn call<T>(&self, doing: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let _in_use = self.in_use.read();
        let mut closes = self.closed.subscribe();
        let _runtime = self.handle.enter();
        let mut closes = pin!(closes.wait_for(|closed| *closed));
        let mut work = pin!(work);
        let done = wait_for(None, |waker| {
            let mut context = Context::from_waker(waker);
            if closes.as_mut().poll(&mut context).is_ready() {
                return Err(closed(doing));
            }
            match work.as_mut().poll(&mut context) {
                Poll::Ready(done) => done.map(Some),
                Poll::Pending => Ok(None),
            }
        })?;
        done.ok_or_else(|| closed(doing))
    }

    pub(super) fn check_open(&self, doing: &str) -> Result<()> {
        if *self.closed.borrow() { Err(closed(doing)) } else { Ok(()) }
    }

    /// Ends calls, then what they have given out, then tasks and the thread.
    pub(super) fn close_with(&self, end_the_rest: impl FnOnce()) {
        self.closed.send_replace(true);
        drop(self.in_use.write());
        end_the_rest();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close_with(|| {});
    }
}
