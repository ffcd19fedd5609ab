//! Marks, the syncer's turn, and poison: one state machine without I/O.
//!
//! * *visible*: readers of this process may see everything below it.
//! * *durable*: everything below it survives a power cut.
//!
//! **One sync at a time in the process, whoever asks.** Linux reports a write-back error once
//! for each open file: of two overlapping callers one would be told that its lost data is
//! safe. So every sync goes through [`Commit::wait`]: who comes first takes the turn and
//! leads, the others wait for the mark to move (group commit).
//!
//! **A failed sync poisons.** The kernel has forgotten which pages it could not write; a second
//! call would succeed and mean nothing. The leader sets the poison before it gives up its turn;
//! nobody syncs after it, the durable mark never moves again, and it becomes the limit of every
//! reader.
//!
//! The waiters' predicate is the mark itself, so that a wake-up cannot be lost: the mark moves
//! under the lock that a waiter holds between looking at it and going to sleep.

use std::sync::Arc;
use std::time::Duration;

use crate::id::Position;
use crate::sync::{AtomicU64, Condvar, Mutex, MutexGuard, Ordering, Stopwatch, yield_now};

/// Why nothing will become durable any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// A sync or a write failed; the text is the first failure.
    Poisoned(Arc<str>),
    /// The journal was closed.
    Closed,
}

/// A value alone on its cache lines, so that the writer's stores do not slow down its readers.
#[derive(Debug)]
#[repr(align(128))]
struct Alone<T>(T);

const POISONED: u64 = 1;
const CLOSED: u64 = 2;

/// The marks and the turn.
#[derive(Debug)]
pub(crate) struct Commit {
    visible: Alone<AtomicU64>,
    durable: Alone<AtomicU64>,
    /// How the log has ended: bits of `POISONED` and `CLOSED`.
    ended: Alone<AtomicU64>,
    turn: Mutex<Turn>,
    moved: Condvar,
}

#[derive(Debug)]
struct Turn {
    /// Somebody is inside the sync.
    taken: bool,
    stopped: Option<Stopped>,
    /// Threads inside [`Commit::wait`].
    waiting: usize,
    /// How many the last sync satisfied: they are about to append again.
    satisfied: usize,
    last_sync: Duration,
}

impl Commit {
    /// Everything below `end` is visible and durable.
    pub(crate) fn new(end: Position) -> Self {
        let turn = Turn { taken: false, stopped: None, waiting: 0, satisfied: 0, last_sync: Duration::ZERO };
        Self {
            visible: Alone(AtomicU64::new(end.word())),
            durable: Alone(AtomicU64::new(end.word())),
            ended: Alone(AtomicU64::new(0)),
            turn: Mutex::new(turn),
            moved: Condvar::new(),
        }
    }

    /// The one publishing store of a batch. Only the writer calls it, under its lock.
    #[inline]
    pub(crate) fn publish(&self, end: Position) {
        self.visible.0.store(end.word(), Ordering::Release);
    }

    #[inline]
    pub(crate) fn visible(&self) -> Position {
        Position::from_word(self.visible.0.load(Ordering::Acquire))
    }

    #[inline]
    pub(crate) fn durable(&self) -> Position {
        Position::from_word(self.durable.0.load(Ordering::Acquire))
    }

    /// How far a reader may see: the visible mark, and after a failure the durable one.
    #[inline]
    pub(crate) fn readable(&self) -> Position {
        if self.is_poisoned() { self.durable() } else { self.visible() }
    }

    #[inline]
    pub(crate) fn is_poisoned(&self) -> bool {
        self.ended.0.load(Ordering::Acquire) & POISONED != 0
    }

    /// Why nothing more becomes durable, if so.
    pub(crate) fn stopped(&self) -> Option<Stopped> {
        if self.ended.0.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.turn.lock().stopped.clone()
    }

    /// Waits until everything below `target` is durable; whoever finds the turn free leads.
    ///
    /// `sync` reads the visible mark, brings what lies below to the disk, or less, and answers
    /// how far it came. It is called by one thread at a time, and never again after it failed.
    pub(crate) fn wait(
        &self,
        target: Position,
        mut sync: impl FnMut() -> Result<Position, String>,
    ) -> Result<(), Stopped> {
        if self.durable() >= target {
            return Ok(());
        }
        let mut turn = self.turn.lock();
        turn.waiting += 1;
        let outcome = loop {
            if self.durable() >= target {
                turn.satisfied += 1;
                break Ok(());
            }
            if let Some(stopped) = &turn.stopped {
                break Err(stopped.clone());
            }
            turn = if turn.taken { self.moved.wait(turn) } else { self.lead(turn, &mut sync) };
        };
        turn.waiting -= 1;
        outcome
    }

    /// Takes the turn, syncs everything visible, and moves the mark or poisons.
    fn lead<'a>(
        &'a self,
        mut turn: MutexGuard<'a, Turn>,
        sync: &mut impl FnMut() -> Result<Position, String>,
    ) -> MutexGuard<'a, Turn> {
        turn.taken = true;
        turn = self.let_the_satisfied_append(turn);
        turn.satisfied = 0;
        drop(turn);

        let panicked = PoisonIfDropped(self);
        let started = Stopwatch::start();
        let outcome = sync();
        std::mem::forget(panicked);

        let mut turn = self.turn.lock();
        turn.last_sync = started.elapsed();
        match outcome {
            // Somebody else may have poisoned meanwhile (a failed write): then nothing moves.
            Ok(end) if !self.is_poisoned() => {
                self.durable.0.store(end.max(self.durable()).word(), Ordering::Release);
            }
            Ok(_) => {}
            Err(reason) => self.poison_in(&mut turn, &reason),
        }
        turn.taken = false;
        self.moved.notify_all();
        turn
    }

    /// A leader gives those whom the last sync satisfied a moment to append again, so that
    /// they ride in this group and not in the next: at most a tenth of the last sync.
    fn let_the_satisfied_append<'a>(&'a self, mut turn: MutexGuard<'a, Turn>) -> MutexGuard<'a, Turn> {
        let (expected, limit) = (turn.satisfied, turn.last_sync / 10);
        let started = Stopwatch::start();
        while turn.waiting < expected && turn.stopped.is_none() && started.elapsed() < limit {
            drop(turn);
            yield_now();
            turn = self.turn.lock();
        }
        turn
    }

    /// Ends the life of this log: every waiter and later caller gets the first reason.
    pub(crate) fn poison(&self, reason: &str) {
        let mut turn = self.turn.lock();
        self.poison_in(&mut turn, reason);
        self.moved.notify_all();
    }

    fn poison_in(&self, turn: &mut Turn, reason: &str) {
        if !matches!(turn.stopped, Some(Stopped::Poisoned(_))) {
            turn.stopped = Some(Stopped::Poisoned(reason.into()));
        }
        self.ended.0.fetch_or(POISONED, Ordering::Release);
    }

    /// Nothing more becomes durable; waits for a sync that is under way.
    pub(crate) fn close(&self) {
        let mut turn = self.turn.lock();
        if turn.stopped.is_none() {
            turn.stopped = Some(Stopped::Closed);
        }
        self.ended.0.fetch_or(CLOSED, Ordering::Release);
        self.moved.notify_all();
        while turn.taken {
            turn = self.moved.wait(turn);
        }
    }
}

/// A panic inside a sync leaves its outcome unknown: that is a failure like any other.
struct PoisonIfDropped<'a>(&'a Commit);

impl Drop for PoisonIfDropped<'_> {
    fn drop(&mut self) {
        let mut turn = self.0.turn.lock();
        self.0.poison_in(&mut turn, "a panic inside a sync");
        turn.taken = false;
        self.0.moved.notify_all();
    }
}

#[cfg(test)]
#[path = "commit_tests.rs"]
mod tests;
