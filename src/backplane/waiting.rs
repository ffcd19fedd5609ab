//! Waiting in a thread for what is polled.

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::error::Result;

/// A thread that waits.
#[derive(Debug, Default)]
struct Waiter {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Waiter {
    fn wake(self: Arc<Self>) {
        *self.woken.lock() = true;
        self.changed.notify_all();
    }
}

/// Polls until there is something; `None`: the time is over.
pub(super) fn wait_for<T>(
    deadline: Option<Instant>,
    mut poll: impl FnMut(&Waker) -> Result<Option<T>>,
) -> Result<Option<T>> {
    let waiter = Arc::new(Waiter::default());
    let waker = Waker::from(Arc::clone(&waiter));
    loop {
        if let Some(found) = poll(&waker)? {
            return Ok(Some(found));
        }
        let mut woken = waiter.woken.lock();
        while !std::mem::take(&mut *woken) {
            match deadline {
                None => waiter.changed.wait(&mut woken),
                Some(deadline) if Instant::now() >= deadline => return Ok(None),
                Some(deadline) => _ = waiter.changed.wait_until(&mut woken, deadline),
            }
        }
    }
}
