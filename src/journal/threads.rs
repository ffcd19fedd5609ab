//! The threads of a journal; see the list in [`crate::journal`].

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

use crate::id::Position;
use crate::journal::core::Core;
use crate::options::Durability;

/// The threads, once they are needed.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    started: OnceLock<()>,
    stopping: AtomicBool,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

/// A log is idle when nothing was appended for this long after a sync.
const IDLE: Duration = Duration::from_millis(10);

impl Threads {
    /// Starts them with the first append. Where the system refuses a thread, the appending
    /// calls do the work themselves, as with `background(false)`.
    #[inline]
    pub(crate) fn start(&self, core: &Arc<Core>) {
        if self.started.get().is_none() && core.options.background && !core.fork.is_forked() {
            self.started.get_or_init(|| self.start_now(core));
        }
    }

    fn start_now(&self, core: &Arc<Core>) {
        let mut handles = self.handles.lock();
        if self.stopping.load(Ordering::Acquire) {
            return;
        }
        let keeper = Arc::clone(core);
        let keeper = Builder::new().name("esker-keeper".into()).spawn(move || keep(&keeper));
        let syncer = Arc::clone(core);
        let work = if core.options.durability == Durability::Os { settle } else { sync };
        let syncer = Builder::new().name("esker-sync".into()).spawn(move || work(&syncer));
        core.alone.store(keeper.is_err() || syncer.is_err(), Ordering::Relaxed);
        handles.extend([keeper, syncer].into_iter().flatten());
        if core.options.auto_compact.is_some() {
            let compacter = Arc::clone(core);
            handles.extend(Builder::new().name("esker-compact".into()).spawn(move || compact(&compacter)));
        }
        core.keeper.wake();
    }

    /// Ends and joins them.
    pub(crate) fn stop(&self, core: &Core) {
        self.stopping.store(true, Ordering::Release);
        core.keeper.stop();
        core.compacting.stop();
        core.idle.stop();
        let me = std::thread::current().id();
        for handle in std::mem::take(&mut *self.handles.lock()) {
            if handle.thread().id() != me {
                let _ = handle.join();
            }
        }
    }
}

/// The keeper: works when it is woken, and again a little later if that failed (a full disk).
fn keep(core: &Core) {
    const AGAIN: Duration = Duration::from_millis(500);
    while let Some(wanted) = core.keeper.wait() {
        core.make_pages_writable();
        while wanted.files && core.maintain().is_err() && !core.is_closed() {
            if !core.keeper.pause(AGAIN) {
                return;
            }
        }
    }
}

/// Compacts at the interval. What fails is tried again at the next one, and counted.
fn compact(core: &Core) {
    let Some(auto) = &core.options.auto_compact else { return };
    while core.compacting.pause(auto.interval) {
        let _ = core.compact_if(&auto.options, auto.min_garbage);
    }
}

/// The syncer: at the interval, and once more when the log went idle.
fn sync(core: &Core) {
    let mut looked_at = Position::ZERO;
    while core.idle.wait(|| core.commit.visible() == looked_at) {
        let mut seen = core.commit.visible();
        loop {
            let pause = match core.options.durability {
                Durability::Interval(interval) => interval,
                Durability::Sync | Durability::Os => IDLE,
            };
            if !core.idle.pause(pause) {
                return;
            }
            let Some(wanted) = readers_want_a_sync(core) else { return };
            let at_the_interval = matches!(core.options.durability, Durability::Interval(_));
            if (wanted || at_the_interval) && core.wait_durable(core.commit.visible()).is_err() {
                return;
            }
            let now = core.commit.visible();
            if now == seen {
                break;
            }
            seen = now;
        }
        // Whatever goes wrong here is told to the next caller who waits.
        let _ = core.wait_for_segments_before(core.commit.visible().segment());
        looked_at = core.mark_idle(seen).unwrap_or(seen);
    }
}

/// Whether a reader of what is durable sleeps. If so it is told soon, and those with it, instead of
/// each behind a sync of its own. `None`: stop.
fn readers_want_a_sync(core: &Core) -> Option<bool> {
    if !core.idle.is_sync_wanted() {
        return Some(false);
    }
    let go_on = core.idle.rest(IDLE);
    // Whoever asked meanwhile is served by the same sync.
    core.idle.is_sync_wanted();
    go_on.then_some(true)
}

/// Syncs if a reader wants it. False: stop.
fn sync_for_readers(core: &Core) -> bool {
    readers_want_a_sync(core)
        .is_some_and(|wanted| !wanted || core.wait_durable(core.commit.visible()).is_ok())
}

/// The syncer of a log that nobody syncs: brings full segments to the disk once the log went
/// idle, or a few seconds behind a writer that never rests. Sooner, and it would hold up the
/// making of segments by the writes that the kernel would have spread over time.
fn settle(core: &Core) {
    const LOOK: Duration = Duration::from_secs(1);
    const LOOKS_AT_MOST: u32 = 5;
    let settled = || core.commit.durable() >= Position::new(core.commit.visible().segment(), 0);
    while core.idle.wait(settled) {
        let (mut seen, mut looks) = (core.commit.visible(), 0);
        if !sync_for_readers(core) {
            return;
        }
        while !settled() {
            if !core.idle.pause(LOOK) {
                return;
            }
            if !sync_for_readers(core) {
                return;
            }
            let now = core.commit.visible();
            looks += 1;
            if now == seen || looks == LOOKS_AT_MOST {
                if core.wait_for_segments_before(now.segment()).is_err() {
                    return;
                }
                looks = 0;
            }
            seen = now;
        }
    }
}
