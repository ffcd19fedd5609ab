//! Telling the sync thread that something happened, for the price of one load while it is awake.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::error::Result;
use crate::format::system::System;
use crate::journal::core::{Core, Stage};
use crate::log::writer::Draft;

/// The sync thread's bed.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    asleep: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    busy: bool,
    stop: bool,
}

impl Idle {
    /// Called after every append: wakes the thread if it sleeps.
    #[inline]
    pub(crate) fn busy(&self) {
        if self.asleep.load(Ordering::Relaxed) {
            self.state.lock().busy = true;
            self.changed.notify_all();
        }
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    /// Sleeps until something happens. False: stop.
    pub(crate) fn wait(&self) -> bool {
        let mut state = self.state.lock();
        self.asleep.store(true, Ordering::Relaxed);
        while !state.busy && !state.stop {
            self.changed.wait(&mut state);
        }
        self.asleep.store(false, Ordering::Relaxed);
        state.busy = false;
        !state.stop
    }

    /// Sleeps for a while, or until told to stop. False: stop.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.stop {
            self.changed.wait_for(&mut state, time);
        }
        !state.stop
    }
}

impl Core {
    /// The log went idle: a frame names the durable mark, so that the last group of appends
    /// can be told from a torn one after a power cut.
    pub(crate) fn mark_idle(&self) -> Result<()> {
        let mut writer = self.writer.lock();
        self.check_writable()?;
        let Stage::Writing(active) = &writer.stage else { return Ok(()) };
        let draft = Draft::system(System::Mark, &[]);
        let everything_is_durable = self.commit.durable() == active.log.end();
        if !everything_is_durable || !active.log.has_room(draft.bytes()) {
            return Ok(());
        }
        self.push_system(&mut writer, &draft)?;
        let end = self.commit.visible();
        drop(writer);
        self.wait_durable(end)
    }
}
