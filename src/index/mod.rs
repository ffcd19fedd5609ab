//! Who an entity is, where its newest frame stands, and where each Seq does.
//!
//! * [`entities`] — entity → generation and newest position: recent ones on the heap, over what is settled
//! * [`settled`] — what files know of entities: the [`entity_file`], and indexes behind what it covers
//! * [`live`] — the two flat arrays of a segment that is being written
//! * [`sealed`] — the `.idx` file of a segment that is not
//! * [`catalog`] — the row of segments, each opened on first touch
//! * [`finder`] — all of these together: what finds an entry
//! * [`holes`] — what a reader could not read, and goes on without
//! * [`keyed`] — the batches that were given an idempotency key
//! * [`part`] — the index of a part, which is made by reading it
//! * [`build`] — making derived files from sealed segments
//!
//! Every file here is derived: one that is missing or in doubt is rebuilt from the log, and
//! never stops a store from opening.

pub(crate) mod build;
pub(crate) mod catalog;
pub(crate) mod entities;
pub(crate) mod entity_file;
pub(crate) mod finder;
pub(crate) mod holes;
pub(crate) mod keyed;
pub(crate) mod live;
pub(crate) mod part;
pub(crate) mod sealed;
pub(crate) mod settled;

use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher24};

use crate::format::frame::{Frame, KEY_BYTES_MAX};
use crate::format::index::EntityHash;
use crate::id::StoreId;

/// Names entities by a hash of 128 bits, keyed with the store's id: nobody who does not know
/// the id can choose keys that collide.
#[derive(Clone, Debug)]
pub(crate) struct EntityHasher(SipHasher24);

impl EntityHasher {
    pub(crate) fn new(store: StoreId) -> Self {
        Self(SipHasher24::new_with_key(store.bytes()))
    }

    #[inline]
    pub(crate) fn hash(&self, kind: u16, key: &[u8]) -> EntityHash {
        let mut hasher = self.0;
        hasher.write(&kind.to_le_bytes());
        hasher.write(key.get(..KEY_BYTES_MAX).unwrap_or(key));
        hasher.finish128().as_u128()
    }

    /// That of the entity whose entry it is, if it is one.
    #[inline]
    pub(crate) fn of_frame(&self, frame: &Frame<'_>) -> Option<EntityHash> {
        let header = frame.header;
        (!header.is_system()).then(|| self.hash(header.kind.get(), frame.key()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_is_hashed_as_its_kind_and_its_key_behind_each_other() {
        let store = StoreId::from_bytes([7; 16]);
        let hasher = EntityHasher::new(store);
        for length in [0, 1, 5, 6, 7, 8, 61, KEY_BYTES_MAX] {
            let key: Vec<u8> = (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect();
            let whole = [&0x0102_u16.to_le_bytes()[..], &key].concat();
            let expected = SipHasher24::new_with_key(store.bytes()).hash(&whole).as_u128();
            assert_eq!(hasher.hash(0x0102, &key), expected, "{length} bytes");
        }
    }
}
