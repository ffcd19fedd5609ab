//! Waking readers: who sleeps for which part of the log, and who is to be told that it moved.
//!
//! Nothing is queued for a reader: it pulls from mapped memory, and sleeps when there is nothing more.
//! All that is ever called is the waker of a runtime's task, which has a bell instead of a thread. A
//! writer pays one load while nobody has ever asked to sleep.

pub(crate) mod hub;
pub(crate) mod shard;
pub(crate) mod sleepers;

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::feed::shard::Touched;
use crate::feed::sleepers::Sleepers;
use crate::id::Position;
use crate::log::commit::Commit;

/// The sleepers of both marks, and what was touched since the last sync.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    pub(crate) visible: Sleepers,
    pub(crate) durable: Sleepers,
    /// Somebody reads who may sleep: from now on, appends say what they touch.
    in_use: AtomicBool,
    /// Moves together with the visible mark, so that who takes it knows up to where it is whole.
    pending: Mutex<Touched>,
}

impl Feed {
    #[inline]
    pub(crate) fn is_in_use(&self) -> bool {
        self.in_use.load(Ordering::Relaxed)
    }

    /// Called under the writer's lock, before the first reader may sleep. What was appended before
    /// said nothing of what it touched: the next sync is for everybody.
    pub(crate) fn begin_use(&self) {
        if !self.is_in_use() {
            let mut pending = self.pending.lock();
            *pending = Touched::everything();
            self.in_use.store(true, Ordering::Relaxed);
        }
    }

    /// Publishes a batch that touches what `touch` says.
    #[inline]
    pub(crate) fn publish(&self, commit: &Commit, end: Position, touch: impl FnOnce(&mut Touched)) {
        let mut pending = self.pending.lock();
        touch(&mut pending);
        commit.publish(end);
    }

    /// How far a sync that starts now will come, and what was touched below since the last one.
    ///
    /// While nobody reads, nobody says what is touched: whoever comes during that sync, and waits for
    /// what it covers, is woken all the same.
    pub(crate) fn take(&self, commit: &Commit) -> (Position, Touched) {
        let mut pending = self.pending.lock();
        let touched = std::mem::take(&mut *pending);
        (commit.visible(), if self.is_in_use() { touched } else { Touched::everything() })
    }

    /// What was touched since the last sync, for one that does not cover all of it.
    pub(crate) fn pending(&self) -> Touched {
        self.pending.lock().clone()
    }

    /// Nothing more is to come, or something that concerns all.
    pub(crate) fn wake_all(&self) {
        self.visible.wake_all();
        self.durable.wake_all();
    }
}
