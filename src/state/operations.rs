//! The operations of a window on kinds with events: one frame each, in the order in which they were said.
//!
//! An event says what an operation did to the row as it was with all that had been said before, while the rows of the
//! window say only what came of it.

use std::collections::BTreeMap;

use crate::format::count::EventCount;
use crate::format::frame::{FRAME_BYTES, flag};
use crate::format::operation::{EventOperation, OPERATION_EXTENSION_BYTES_MAX};
use crate::id::KindId;

/// An operation that is to be told.
#[derive(Debug)]
pub(crate) struct Spoken {
    /// Its entity's place in the window.
    pub(crate) entity: u32,
    pub(crate) operation: EventOperation,
    pub(crate) source: u8,
    /// Why it is no event, as a flag of its frame; 0: it is one.
    pub(crate) suppressed: u16,
    /// Who asserts the entity behind it.
    pub(crate) sources: u64,
    /// Which fields it changed; `None`: there was no row, or it retracts.
    pub(crate) changed: Option<u64>,
    /// Which fields a patch named.
    pub(crate) present: Option<u64>,
    /// The row behind it; empty of a retraction.
    pub(crate) row: Vec<u8>,
    pub(crate) metadata: Vec<u8>,
}

impl Spoken {
    pub(crate) fn is_event(&self) -> bool {
        self.suppressed & (flag::SYNTHETIC | flag::IN_EPOCH) == 0
    }
}

/// What an operation frame takes of the log at most.
pub(crate) fn operation_bytes(key: usize, metadata: usize, row: usize) -> u64 {
    (FRAME_BYTES + OPERATION_EXTENSION_BYTES_MAX + key + metadata + row + 8) as u64
}

/// Gives events their numbers, behind the last ones.
#[derive(Debug)]
pub(crate) struct Numbering {
    store: u64,
    kinds: BTreeMap<KindId, u64>,
}

impl Numbering {
    /// Behind so many events of the store.
    pub(crate) fn behind(store: u64) -> Self {
        Self { store, kinds: BTreeMap::new() }
    }

    /// The numbers of an operation; of one that is no event, those of the last event. `last`: of the kind.
    pub(crate) fn number(&mut self, kind: KindId, is_event: bool, last: impl FnOnce() -> u64) -> (u64, u64) {
        let of_kind = self.kinds.entry(kind).or_insert_with(last);
        let step = u64::from(is_event);
        (self.store, *of_kind) = (self.store.saturating_add(step), of_kind.saturating_add(step));
        (self.store, *of_kind)
    }

    /// What the numbers have come to.
    pub(crate) fn counts(&self) -> Vec<EventCount> {
        let count =
            |(kind, of_kind): (&KindId, &u64)| EventCount { kind: *kind, sequence: (self.store, *of_kind) };
        self.kinds.iter().map(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_numbered_without_a_hole_and_what_is_none_takes_no_number() {
        let mut numbering = Numbering::behind(10);
        let (one, other) = (KindId(1), KindId(2));
        assert_eq!(numbering.number(one, true, || 4), (11, 5));
        assert_eq!(numbering.number(other, false, || 6), (11, 6));
        assert_eq!(numbering.number(other, true, || panic!("it is known")), (12, 7));
        assert_eq!(numbering.number(one, true, || panic!("it is known")), (13, 6));
        let counts: Vec<_> = numbering.counts().iter().map(|count| (count.kind, count.sequence)).collect();
        assert_eq!(counts, [(one, (13, 6)), (other, (13, 7))]);
    }
}
