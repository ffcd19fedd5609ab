//! The least group commit: whoever finds nobody syncing syncs for all who wait.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};

use super::log::{MappedLog, Position};
use super::segment::Segment;

#[derive(Default)]
pub struct Durable {
    /// Frames below this position are on the disk.
    mark: AtomicU64,
    syncing: Mutex<bool>,
    finished: Condvar,
}

impl Durable {
    /// Returns when the frame at `position` is on the disk. `pending` says what to sync to get to the
    /// end of the log as it stands, from the mark on.
    pub fn reach(
        &self,
        position: Position,
        pending: impl FnOnce(Position) -> (Vec<Arc<Segment>>, Position),
    ) -> io::Result<()> {
        let mut syncing = self.syncing.lock();
        loop {
            if self.mark.load(Ordering::Acquire) > position.0 {
                return Ok(());
            }
            if !*syncing {
                break;
            }
            self.finished.wait(&mut syncing);
        }
        *syncing = true;
        drop(syncing);
        let (segments, end) = pending(Position(self.mark.load(Ordering::Acquire)));
        let synced = segments.iter().try_for_each(|segment| segment.sync());
        if synced.is_ok() {
            self.mark.store(end.0, Ordering::Release);
        }
        *self.syncing.lock() = false;
        self.finished.notify_all();
        synced
    }
}

/// The `pending` of a log.
pub fn pending_in(log: &MappedLog, mark: Position) -> (Vec<Arc<Segment>>, Position) {
    (log.segments_from(mark), log.end())
}
