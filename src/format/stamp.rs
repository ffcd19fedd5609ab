//! Who appended an entry, and as the how manieth of its entity: what an append is known by when it is repeated.
//!
//! Sixteen bytes in a frame's extensions. With the entity they name the append, so that the window of
//! idempotency keys remembers it as it does a batch.

use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher24};

use crate::format::extension::{Id, find};
use crate::id::IdempotencyKey;

/// A writer and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StampBytes {
    pub(crate) writer: u64,
    pub(crate) n: u64,
}

impl StampBytes {
    /// As it stands in a row of extensions.
    pub(crate) fn encode(self) -> [u8; 16] {
        (u128::from(self.n) << 64 | u128::from(self.writer)).to_le_bytes()
    }

    /// The stamp in a row, if it has a whole one.
    pub(crate) fn read(row: &[u8]) -> Option<Self> {
        let word = u128::from_le_bytes(find(row, Id::Writer)?.try_into().ok()?);
        let [writer, n] = [word, word >> 64].map(|half| {
            u64::try_from(half & u128::from(u64::MAX)).unwrap_or_else(|_| panic!("it is masked"))
        });
        Some(Self { writer, n })
    }

    /// What an append with this stamp to an entity is remembered by.
    pub(crate) fn key_for(self, kind: u16, key: &[u8]) -> IdempotencyKey {
        // Not keyed by the store: whoever reads a frame has to come to the same.
        let mut hasher = SipHasher24::new_with_keys(0x6573_6b65_722e_7374, 0x616d_7065_6421_0001);
        hasher.write(&kind.to_le_bytes());
        hasher.write(&self.encode());
        hasher.write(key);
        IdempotencyKey(hasher.finish128().as_u128().to_le_bytes())
    }
}

/// Bytes as one number, the same in every process.
pub(crate) fn mixed(bytes: &[u8]) -> u128 {
    let mut hasher = SipHasher24::new();
    hasher.write(bytes);
    hasher.finish128().as_u128()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::extension::Extensions;

    #[test]
    fn a_stamp_is_read_as_it_was_written_and_a_short_one_is_none() {
        let stamp = StampBytes { writer: 0x0102_0304_0506_0708, n: u64::MAX - 1 };
        let mut row = Extensions::default();
        row.push(Id::Writer, &stamp.encode());
        assert_eq!(StampBytes::read(row.as_bytes()), Some(stamp));
        assert_eq!(StampBytes::read(&[9, 3, 1, 2, 3, 0, 0, 0]), None);
    }

    #[test]
    fn each_part_of_what_names_an_append_tells_it_from_others() {
        let stamp = StampBytes { writer: 1, n: 2 };
        let name = stamp.key_for(3, b"k");
        assert_eq!(name, stamp.key_for(3, b"k"));
        let others = [
            StampBytes { writer: 2, n: 2 }.key_for(3, b"k"),
            StampBytes { writer: 1, n: 1 }.key_for(3, b"k"),
            stamp.key_for(4, b"k"),
            stamp.key_for(3, b"l"),
        ];
        assert!(others.iter().all(|other| *other != name));
    }

    #[test]
    fn bytes_are_the_same_number_in_every_build() {
        // A backplane knows its era, and a bridge its topics, by such numbers.
        assert_eq!(mixed(b""), 0xf4f2_ced4_47ab_0242_7de0_a380_47d7_4950);
        assert_eq!(mixed(b"esker"), 0x51fc_2613_5d7d_d2c2_4589_403e_81a3_c22b);
    }
}
