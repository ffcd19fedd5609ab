//! A batch of which recovery has met the first frames, and not the last.

use crate::id::Life;

/// The state of the batch that is being read.
#[derive(Default)]
pub(crate) struct OpenBatch {
    pub(crate) start: Option<u64>,
    /// The life of its first frame, which is that of all.
    pub(crate) life: Option<Life>,
    pub(crate) offsets: Vec<u64>,
    pub(crate) seqs: u64,
}

impl OpenBatch {
    /// For the next batch, in the same memory.
    pub(crate) fn clear(&mut self) {
        let mut offsets = std::mem::take(&mut self.offsets);
        offsets.clear();
        *self = Self { offsets, ..Self::default() };
    }
}
