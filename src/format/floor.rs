//! The floor of one entity of facts: the payload of an entry of the floors of its kind.

use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Three numbers; what stands behind them a later build may have added.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct FloorBytes {
    first: U64,
    hidden: U64,
    generation: U64,
}

/// Below which entry nothing is shown any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Floor {
    /// Nothing with a lower Seq is shown.
    pub(crate) first: u64,
    /// The last entry that is not shown: whoever has come to it misses nothing.
    pub(crate) hidden: u64,
    /// Its generation: the history goes on behind it.
    pub(crate) generation: u64,
}

impl Floor {
    pub(crate) fn encode(self) -> [u8; 24] {
        let bytes = FloorBytes {
            first: self.first.into(),
            hidden: self.hidden.into(),
            generation: self.generation.into(),
        };
        zerocopy::transmute!(bytes)
    }

    /// `None`: too short, or a floor that hides what it shows.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let (bytes, _) = FloorBytes::read_from_prefix(payload).ok()?;
        let (first, hidden, generation) = (bytes.first.get(), bytes.hidden.get(), bytes.generation.get());
        let floor = Self { first, hidden, generation };
        Some(floor).filter(|floor| floor.hidden < floor.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_read_as_it_was_written_and_nonsense_is_none() {
        let floor = Floor { first: 9, hidden: 5, generation: 2 };
        assert_eq!(Floor::read(&floor.encode()), Some(floor));
        let longer: Vec<u8> = floor.encode().into_iter().chain([1, 2]).collect();
        assert_eq!(Floor::read(&longer), Some(floor));
        assert_eq!(Floor::read(&floor.encode()[..23]), None);
        assert_eq!(Floor::read(&Floor { first: 5, hidden: 5, generation: 2 }.encode()), None);
    }
}
