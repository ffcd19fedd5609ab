//! The payload of a count frame: how many events there were, of the store and of a kind.
//!
//! ```text
//! kind 2 | reserved 6 | events of the store 8 | events of the kind 8
//! ```
//!
//! Preambles restate it, so that the numbers of events go on whatever compaction has dropped. They only rise.

use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::id::{KindId, SEQ_MAX};

/// The numbers of the last event of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventCount {
    /// The kind of the operation frames.
    pub(crate) kind: KindId,
    /// Among those of the store, and among those of the kind.
    pub(crate) sequence: (u64, u64),
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct CountBytes {
    kind: U16,
    reserved: [u8; 6],
    store: U64,
    of_kind: U64,
}

impl EventCount {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (store, of_kind) = self.sequence;
        let (store, of_kind) = (U64::new(store), U64::new(of_kind));
        CountBytes { kind: U16::new(self.kind.0), reserved: [0; 6], store, of_kind }.as_bytes().to_vec()
    }

    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let (bytes, _) = CountBytes::read_from_prefix(payload).ok()?;
        let sequence = (bytes.store.get(), bytes.of_kind.get());
        // There is an entry for each event.
        (sequence.0.max(sequence.1) <= SEQ_MAX).then_some(Self { kind: KindId(bytes.kind.get()), sequence })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_gives_back_what_was_written_and_refuses_every_truncation() {
        let count = EventCount { kind: KindId(7), sequence: (SEQ_MAX, 3) };
        let bytes = count.encode();
        assert_eq!(EventCount::read(&bytes), Some(count));
        assert!((0..bytes.len()).all(|cut| EventCount::read(&bytes[..cut]).is_none()));
        let beyond = EventCount { sequence: (3, SEQ_MAX + 1), ..count };
        assert_eq!(EventCount::read(&beyond.encode()), None);
    }
}
