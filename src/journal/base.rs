//! Where an opening begins: behind the newest segment whose index checks out.

use std::sync::Arc;

use crate::disk::Directory;
use crate::error::{Error, Result};
use crate::format::compacted::Compacted;
use crate::format::frame::FRAME_BYTES;
use crate::format::index as index_format;
use crate::format::system::System;
use crate::id::StoreId;
use crate::index::sealed::SealedIndex;
use crate::log::segment::Segment;
use crate::log::visitor::Covered;

/// The newest segment whose index checks out.
pub(crate) struct Base {
    pub(crate) segment: Arc<Segment>,
    pub(crate) index: SealedIndex,
    pub(crate) covered: Covered,
}

/// Finds it, if there is one.
pub(crate) fn newest_indexed(
    directory: &dyn Directory,
    store: StoreId,
    compacted: &Compacted,
) -> Result<Option<Base>> {
    let names = directory.list().map_err(|e| Error::io("list the store", e).at(directory.path()))?;
    let mut numbers: Vec<u32> =
        names.iter().filter_map(|entry| index_format::number_of(&entry.name)).collect();
    // What a compaction has replaced may still be there.
    numbers.retain(|number| compacted.covering(*number).is_none());
    numbers.sort_unstable();
    for number in numbers.into_iter().rev() {
        // Whatever is wrong with an index or its segment: the next older one, and reading, will do.
        let Ok(segment) = Segment::open(directory, store, number) else { continue };
        let Ok(index) = SealedIndex::open(directory, store, number, segment.header.salt) else { continue };
        if let Some(base) = Base::of(segment, index) {
            return Ok(Some(base));
        }
    }
    Ok(None)
}

impl Base {
    /// Trusts an index if the last frame that it covers is there.
    fn of(segment: Segment, index: SealedIndex) -> Option<Self> {
        // Nothing of a segment may have survived: without its preamble it is no place to begin.
        index.system().next()?;
        let end = index.layout.end;
        segment.map.raise(usize::try_from(end).ok().filter(|end| *end <= segment.map.bytes())?);
        let is_good =
            |at| segment.frame(at).is_some_and(|f| f.is_good(segment.header.salt, segment.position(at)));
        // What the registry and the next Seq are read from; else an older segment is asked.
        if !index.system().all(is_good) || !index.agrees_with(&segment) {
            return None;
        }
        let at = end.checked_sub(FRAME_BYTES as u64)?;
        let frame =
            segment.frame(at).filter(|frame| frame.is_good(segment.header.salt, segment.position(at)));
        let last = frame
            .filter(|frame| frame.header.is_system())
            .and_then(|frame| System::of(frame.header.operation));
        let covered = Covered {
            segment: segment.number(),
            end,
            last_seq: index.layout.first_seq.checked_add(index.layout.frames as u64)?.checked_sub(1)?,
            last_life: index.layout.last_life,
            last,
        };
        segment.let_go();
        Some(Self { segment: Arc::new(segment), index, covered })
    }
}
