//! What holds compaction back beside cursors: readers without a name, and backups that are being made.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

/// What holds a part of the log back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum PinnedBy {
    /// The cursor of this name.
    Cursor(String),
    /// A watcher without a name.
    Watcher,
    /// A backup that is being made.
    Backup,
    /// A subscription of live state that has not caught up yet.
    Bootstrap,
}

/// Everything in this process that holds the log back without a name of its own.
#[derive(Debug, Default)]
pub(crate) struct Pins(Mutex<Vec<Arc<Held>>>);

#[derive(Debug)]
struct Held {
    by: PinnedBy,
    /// Everything behind this Seq is held back,
    behind: AtomicU64,
    /// if that is no more than so many bytes of log.
    most: u64,
}

/// Holds back everything behind a Seq until it is dropped.
#[derive(Debug)]
pub(crate) struct Pin {
    pins: Arc<Pins>,
    held: Arc<Held>,
}

impl Pins {
    pub(crate) fn pin(self: &Arc<Self>, by: PinnedBy, behind: u64) -> Pin {
        self.pin_at_most(by, behind, u64::MAX)
    }

    /// One that holds nothing back any more once that is more than so many bytes of log.
    pub(crate) fn pin_at_most(self: &Arc<Self>, by: PinnedBy, behind: u64, most: u64) -> Pin {
        let held = Arc::new(Held { by, behind: AtomicU64::new(behind), most });
        self.0.lock().push(Arc::clone(&held));
        Pin { pins: Arc::clone(self), held }
    }

    /// What is held back now, and by what: everything behind the Seq. `bytes` says how much log that is.
    pub(crate) fn held(&self, bytes: impl Fn(u64) -> Option<u64>) -> Vec<(PinnedBy, u64)> {
        let held: Vec<Arc<Held>> = self.0.lock().clone();
        let behind = |held: &Arc<Held>| held.behind.load(Ordering::Acquire);
        let may = |held: &Arc<Held>| {
            held.most == u64::MAX || bytes(behind(held)).is_none_or(|bytes| bytes <= held.most)
        };
        held.iter().filter(|held| may(held)).map(|held| (held.by.clone(), behind(held))).collect()
    }
}

impl Pin {
    #[inline]
    pub(crate) fn move_to(&self, behind: u64) {
        self.held.behind.store(behind, Ordering::Release);
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.pins.0.lock().retain(|held| !Arc::ptr_eq(held, &self.held));
    }
}
