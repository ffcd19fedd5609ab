//! How much is to be looked at, by all workers together, and until when.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::number;

#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicUsize,
    until: Option<Instant>,
}

impl Budget {
    /// So many states, and no more behind `ESKER_FILES_SECONDS`, where that is set.
    pub(crate) fn new(states: usize) -> Self {
        let seconds = number("ESKER_FILES_SECONDS", 0) as u64;
        let until = (seconds > 0).then(|| Instant::now() + Duration::from_secs(seconds));
        Self { left: AtomicUsize::new(states), until }
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0 || self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// One more is looked at. False: there were enough.
    pub(crate) fn take(&self) -> bool {
        let one_less = |left: usize| left.checked_sub(1);
        !self.is_spent() && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }

    /// Nobody needs more.
    pub(crate) fn end(&self) {
        self.left.store(0, Ordering::Relaxed);
    }
}
