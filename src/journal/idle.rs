//! Telling the sync thread that something happened, for the price of one load while it is awake.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::error::Result;
use crate::format::system::System;
use crate::id::Position;
use crate::journal::core::{Core, Stage};
use crate::log::writer::Draft;

/// The sync thread's bed.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    asleep: AtomicBool,
    /// Somebody waits for what is visible to become durable.
    sync_wanted: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    busy: bool,
    stop: bool,
}

impl Idle {
    /// Called after every append, behind the store of its mark: wakes the thread if it sleeps.
    #[inline]
    pub(crate) fn busy(&self) {
        // Pairs with the fence in `wait`: this load sees the thread asleep, or the thread sees the mark.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) {
            self.state.lock().busy = true;
            self.changed.notify_all();
        }
    }

    /// Asks for a sync soon, of whatever is visible.
    pub(crate) fn want_sync(&self) {
        if !self.sync_wanted.swap(true, Ordering::SeqCst) {
            self.state.lock().busy = true;
            self.changed.notify_all();
        }
    }

    /// True if a sync was asked for since this was last called.
    pub(crate) fn is_sync_wanted(&self) -> bool {
        self.sync_wanted.swap(false, Ordering::SeqCst)
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    /// Sleeps while `nothing_new`, until somebody says otherwise. False: stop.
    ///
    /// What was appended before the thread lay down woke nobody, so it looks once more itself.
    pub(crate) fn wait(&self, nothing_new: impl Fn() -> bool) -> bool {
        let mut state = self.state.lock();
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        while !state.busy && !state.stop && nothing_new() {
            self.changed.wait(&mut state);
        }
        self.asleep.store(false, Ordering::Relaxed);
        state.busy = false;
        !state.stop
    }

    /// Sleeps for a while, whatever happens meanwhile, or until told to stop. False: stop.
    pub(crate) fn rest(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        let mut state = self.state.lock();
        while !state.stop && Instant::now() < end {
            self.changed.wait_until(&mut state, end);
        }
        !state.stop
    }

    /// Sleeps for a while, or until a sync is wanted, or until told to stop. False: stop.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.stop && !self.sync_wanted.load(Ordering::SeqCst) {
            self.changed.wait_for(&mut state, time);
        }
        !state.stop
    }
}

impl Core {
    /// The log went idle: a frame names the durable mark, so that the last group of appends
    /// can be told from a torn one after a power cut. Answers how far the log was
    /// looked at: `seen`, or behind the mark.
    pub(crate) fn mark_idle(&self, seen: Position) -> Result<Position> {
        let mut writer = self.writer.lock();
        self.check_writable()?;
        let Stage::Writing(active) = &writer.stage else { return Ok(seen) };
        let draft = Draft::system(System::Mark, &[]);
        let everything_is_durable = self.commit.durable() == active.log.end();
        if !everything_is_durable || !active.log.has_room(draft.bytes()) {
            return Ok(seen);
        }
        self.push_system(&mut writer, &draft)?;
        let end = self.commit.visible();
        drop(writer);
        self.wait_durable(end)?;
        Ok(end)
    }
}
