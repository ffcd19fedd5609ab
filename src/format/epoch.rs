//! The ends of epochs that take more than one batch: entries of a kind of the library's own.
//!
//! ```text
//! list     key "list/<source>/<kind>/<number>"; hashes of entities 16 each, whose retraction is decided. Empty: it is done
//! commit   key "commit/<source>/<kind>"; lists 4 | entities 8 | the source's name. Empty: it is done
//! ```
//!
//! The lists come first. Only with the commit behind them do they count; what is listed and was not committed is nothing.
//! Only the newest entry under a key counts, and compaction keeps no other.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::format::index::EntityHash;
use crate::id::KindId;

/// Of a list, so that it is a small part of a batch.
pub(crate) const LIST_ENTITIES_MAX: usize = 1 << 16;
pub(crate) const HASH_BYTES: usize = size_of::<EntityHash>();

/// That the end of an epoch is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EpochCommit {
    /// There are so many lists.
    pub(crate) lists: u32,
    /// They name so many entities.
    pub(crate) entities: u64,
    /// Whose epoch it was: the source's number may have gone to another one since.
    pub(crate) source: String,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Head {
    lists: U32,
    entities: U64,
}

pub(crate) fn commit_key(source: u8, kind: KindId) -> Vec<u8> {
    format!("commit/{source}/{}", kind.get()).into_bytes()
}

pub(crate) fn list_key(source: u8, kind: KindId, number: u32) -> Vec<u8> {
    format!("list/{source}/{}/{number}", kind.get()).into_bytes()
}

impl EpochCommit {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let head = Head { lists: U32::new(self.lists), entities: U64::new(self.entities) };
        [head.as_bytes(), self.source.as_bytes()].concat()
    }

    /// `None`: these are no such bytes.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (head, name) = Head::ref_from_prefix(bytes).ok()?;
        let source = std::str::from_utf8(name).ok()?.to_owned();
        Some(Self { lists: head.lists.get(), entities: head.entities.get(), source })
    }
}

/// The hashes of a list. `None`: these are no such bytes.
pub(crate) fn hashes(bytes: &[u8]) -> Option<impl Iterator<Item = EntityHash>> {
    let whole = <[[u8; HASH_BYTES]]>::ref_from_bytes(bytes).ok()?;
    Some(whole.iter().map(|hash| EntityHash::from_le_bytes(*hash)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_other_bytes_are_not() {
        let commit = EpochCommit { lists: 3, entities: 150_000, source: "radar-7".to_owned() };
        let bytes = commit.encode();
        assert_eq!(EpochCommit::read(&bytes), Some(commit));
        assert_eq!(EpochCommit::read(&bytes[..11]), None);
        assert_eq!(EpochCommit::read(&[&bytes[..12], &[0xff]].concat()), None);
        let listed = [7 as EntityHash, 1 << 127].map(EntityHash::to_le_bytes).concat();
        assert_eq!(hashes(&listed).unwrap().collect::<Vec<_>>(), [7, 1 << 127]);
        assert!(hashes(&listed[..31]).is_none());
        assert_eq!(hashes(&[]).unwrap().count(), 0);
    }
}
