//! Locks and atomics: parking_lot's and std's, or loom's behind the same signatures.
//!
//! `log/commit.rs` and `feed/sleepers.rs` build on the loom half: under `cfg(loom)`, which the package in
//! `tests/loom` sets, those very files are explored over every interleaving that their tests allow, not copies of them.

#[cfg(not(loom))]
pub(crate) use real::{AtomicU64, Condvar, Mutex, MutexGuard, Ordering, Stopwatch, fence, yield_now};

#[cfg(loom)]
pub(crate) use modelled::{AtomicU64, Condvar, Mutex, MutexGuard, Ordering, Stopwatch, fence, yield_now};

#[cfg(not(loom))]
mod real {
    pub(crate) use parking_lot::{Mutex, MutexGuard};
    pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};
    pub(crate) use std::thread::yield_now;
    use std::time::{Duration, Instant};

    /// Measures how long something takes.
    #[derive(Debug)]
    pub(crate) struct Stopwatch(Instant);

    impl Stopwatch {
        pub(crate) fn start() -> Self {
            Self(Instant::now())
        }

        pub(crate) fn elapsed(&self) -> Duration {
            self.0.elapsed()
        }
    }

    /// A condition variable whose `wait` takes and returns the guard.
    #[derive(Debug, Default)]
    pub(crate) struct Condvar(parking_lot::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(parking_lot::Condvar::new())
        }

        pub(crate) fn wait<'a, T>(&self, mut guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            self.0.wait(&mut guard);
            guard
        }

        /// Waits at most so long; `None`: for ever. True: the time is over.
        pub(crate) fn wait_at_most<'a, T>(
            &self,
            mut guard: MutexGuard<'a, T>,
            timeout: Option<Duration>,
        ) -> (MutexGuard<'a, T>, bool) {
            let Some(timeout) = timeout else { return (self.wait(guard), false) };
            let is_over = self.0.wait_for(&mut guard, timeout).timed_out();
            (guard, is_over)
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}

#[cfg(loom)]
mod modelled {
    pub(crate) use loom::sync::MutexGuard;
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
    pub(crate) use loom::thread::yield_now;
    use std::time::Duration;

    /// loom's executions must repeat exactly: no time passes in them.
    #[derive(Debug)]
    pub(crate) struct Stopwatch;

    impl Stopwatch {
        pub(crate) fn start() -> Self {
            Self
        }

        pub(crate) fn elapsed(&self) -> Duration {
            Duration::ZERO
        }
    }

    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }

    #[derive(Debug)]
    pub(crate) struct Condvar(loom::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(loom::sync::Condvar::new())
        }

        pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            self.0.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner)
        }

        /// As without a timeout: no time passes here.
        pub(crate) fn wait_at_most<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
            _timeout: Option<Duration>,
        ) -> (MutexGuard<'a, T>, bool) {
            (self.wait(guard), false)
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}
