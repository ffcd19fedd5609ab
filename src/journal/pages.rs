//! Pages made writable ahead of the writer, where nobody syncs every append.
//!
//! The first store into each page of a mapped file is a fault, under the writer's lock: half a
//! microsecond for every twenty small entries. The keeper takes those faults instead, a window
//! ahead of the end of the log. Not the whole segment at once: every page made writable is dirty,
//! and what is never used would be written to the disk for nothing.
//!
//! Only speed depends on it: the writer that comes to a page first takes the fault itself.

use crate::disk::Through;
use crate::journal::core::{Active, Core};
use crate::options::Durability;

/// How far ahead of the end of the log pages are writable: so that a fast writer, whose segments are
/// large, seldom outruns the keeper while that is busy with a file; and no more, because after a
/// crash all of it is written before the store opens.
pub(crate) const fn window(segment_bytes: u64) -> u64 {
    const BYTES_MAX: u64 = 4 << 20;
    if segment_bytes / 4 < BYTES_MAX { segment_bytes / 4 } else { BYTES_MAX }
}

impl Core {
    /// False where each append is synced, which takes the pages' permission away again, and where
    /// frames are not stored through the mapping.
    pub(crate) fn keeps_pages_writable(&self) -> bool {
        self.options.background && self.options.durability != Durability::Sync && self.through == Through::Map
    }

    /// Makes the pages writable that the writer comes to next. Only the keeper calls it.
    pub(crate) fn make_pages_writable(&self) {
        if !self.keeps_pages_writable() || self.is_closed() {
            return;
        }
        let end = self.commit.visible();
        let catalog = self.index.catalog();
        let Some(opened) = catalog.section(end.segment()).and_then(|section| section.if_open()) else {
            return;
        };
        let bytes = opened.segment.header.bytes;
        let mut through = self.keeper.writable_through.lock();
        let from = (*through).max(end).offset();
        let to = (end.offset() + window(bytes)).min(bytes);
        opened.segment.make_writable(from, to);
        *through = opened.segment.position(to);
    }
}

impl Active {
    /// True once for each half window that the log has grown: the keeper is to be told.
    #[inline]
    pub(crate) fn nears_the_window(&mut self) -> bool {
        let end = self.log.end().offset();
        let nears = end >= self.tell_at;
        if nears {
            self.tell_at = end + window(self.log.segment.header.bytes) / 2;
        }
        nears
    }
}
