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
        // Also where it is woken all the time for nothing.
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(None);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_time_is_over_also_for_who_is_woken_for_nothing_all_the_time() {
        let mut polls = 0;
        let found = wait_for::<()>(Some(Instant::now() + Duration::from_millis(5)), |waker| {
            polls += 1;
            assert!(polls < 10_000_000, "it never looks at the time");
            waker.wake_by_ref();
            Ok(None)
        });
        assert!(found.unwrap().is_none() && polls > 0);
    }
}
