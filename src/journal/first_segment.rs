//! The segment with which a log begins.

use std::io;

use crate::disk::{Directory, Through};
use crate::error::{Error, Result};
use crate::format::segment::{SegmentHeader, file_name};
use crate::id::StoreId;
use crate::log::lock::{now, random};
use crate::log::segment::{Making, Zeros, make};
use crate::options::{Durability, Options};

/// Removes the first segment of a store that did not come to be, if there is one. A manifest that was removed may come back
/// with a power cut as long as its directory was not synced, and then its segment has to be there.
pub(crate) fn remove_first_segment(directory: &dyn Directory) -> io::Result<()> {
    let name = file_name(1);
    if !directory.list()?.iter().any(|entry| entry.name == name) {
        return Ok(());
    }
    directory.sync()?;
    directory.remove(&name)
}

/// Makes the segment with which a log begins, or what is left of it behind what was compacted.
pub(crate) fn make_first_segment(
    directory: &dyn Directory,
    store: StoreId,
    options: &Options,
    behind: u32,
) -> Result<()> {
    let salt = u64::from_le_bytes(random().map_err(|e| Error::io("draw a segment's salt", e))?);
    let bytes = options.segment_bytes.min(1 << 20);
    let (number, follows) = (behind + 1, SegmentHeader::after_seal_of(behind));
    let header = SegmentHeader { number, salt, follows, bytes, created: now() };
    let through = if directory.file_system().copy_on_write { Through::Pwrite } else { Through::Map };
    let making = Making { zeros: zeros_for(options.durability), through };
    make(directory, store, header, making).map(|_| ())
}

/// How segments are made for a writer that syncs this often.
pub(crate) fn zeros_for(durability: Durability) -> Zeros {
    match durability {
        Durability::Sync => Zeros::Written { at_a_time: 16 << 10, sync_every: Some(1 << 20) },
        // Longer pieces, fewer faults.
        Durability::Interval(_) => Zeros::Written { at_a_time: 64 << 10, sync_every: None },
        Durability::Os => Zeros::Allocated,
    }
}
