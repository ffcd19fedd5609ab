//! The payload of a cursor frame: a named place up to which a part of the log was seen.
//!
//! ```text
//! revision 8 | seq 8 | era 8 | hold 8 | time 8 | kind 2 | part 1 | flags 1 | lengths: name 1, key 1 | reserved 2
//! name | key
//! ```
//!
//! A cursor stands in the log behind everything that it says was seen, so it is never durable
//! before that. Of two frames about one name the greater revision is right.

use zerocopy::little_endian::{I64, U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::id::SEQ_MAX;

/// A cursor's name is 1 to this many bytes of UTF-8.
pub const CURSOR_NAME_BYTES_MAX: usize = 255;
/// How many cursors a store may have: every segment begins with all of them.
pub const CURSORS_MAX: usize = 65_536;

/// Which entries a cursor is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Part {
    All = 0,
    Kind = 1,
    Entity = 2,
    Prefix = 3,
}

/// A cursor, as a frame states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CursorState {
    pub(crate) name: String,
    /// Rises with each frame about the name.
    pub(crate) revision: u64,
    /// Everything of its part up to this Seq was seen; zero: nothing.
    pub(crate) seq: u64,
    /// The store's era when it was written.
    pub(crate) era: u64,
    /// It holds back at most so many bytes of log; zero: as many as it takes.
    pub(crate) hold: u64,
    /// When it was written.
    pub(crate) time: i64,
    pub(crate) part: Part,
    pub(crate) kind: u16,
    pub(crate) key: Box<[u8]>,
    /// It is no more: the name is free.
    pub(crate) retired: bool,
    /// Compaction went past it.
    pub(crate) lost: bool,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct CursorBytes {
    revision: U64,
    seq: U64,
    era: U64,
    hold: U64,
    time: I64,
    kind: U16,
    part: u8,
    flags: u8,
    name_bytes: u8,
    key_bytes: u8,
    reserved: [u8; 2],
}

const RETIRED: u8 = 1;
const LOST: u8 = 2;

impl CursorState {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let length =
            |bytes: usize| u8::try_from(bytes).unwrap_or_else(|_| panic!("checked against its limit"));
        let fixed = CursorBytes {
            revision: U64::new(self.revision),
            seq: U64::new(self.seq),
            era: U64::new(self.era),
            hold: U64::new(self.hold),
            time: I64::new(self.time),
            kind: U16::new(self.kind),
            part: self.part as u8,
            flags: if self.retired { RETIRED } else { 0 } | if self.lost { LOST } else { 0 },
            name_bytes: length(self.name.len()),
            key_bytes: length(self.key.len()),
            reserved: [0; 2],
        };
        [fixed.as_bytes(), self.name.as_bytes(), &self.key].concat()
    }

    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let (fixed, rest) = CursorBytes::read_from_prefix(payload).ok()?;
        let (name, rest) = rest.split_at_checked(usize::from(fixed.name_bytes))?;
        let key = rest.get(..usize::from(fixed.key_bytes))?;
        Some(Self {
            name: String::from_utf8(name.to_vec()).ok().filter(|name| !name.is_empty())?,
            revision: fixed.revision.get(),
            seq: Some(fixed.seq.get()).filter(|seq| *seq <= SEQ_MAX)?,
            era: fixed.era.get(),
            hold: fixed.hold.get(),
            time: fixed.time.get(),
            part: match fixed.part {
                0 => Part::All,
                1 => Part::Kind,
                2 => Part::Entity,
                3 => Part::Prefix,
                _ => return None,
            },
            kind: fixed.kind.get(),
            key: key.into(),
            retired: fixed.flags & RETIRED != 0,
            lost: fixed.flags & LOST != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_gives_back_what_was_written_and_refuses_every_truncation() {
        let cursor = CursorState {
            name: "räumung/../x".into(),
            revision: 3,
            seq: 9,
            era: 2,
            hold: 1 << 30,
            time: -5,
            part: Part::Prefix,
            kind: 7,
            key: Box::from(&b"k\0"[..]),
            retired: true,
            lost: true,
        };
        let bytes = cursor.encode();
        assert_eq!(CursorState::read(&bytes), Some(cursor));
        assert!((0..bytes.len()).all(|cut| CursorState::read(&bytes[..cut]).is_none()));
        let mut unknown = bytes.clone();
        unknown[42] = 9;
        assert_eq!(CursorState::read(&unknown), None);
        let mut beyond = bytes.clone();
        beyond[8..16].copy_from_slice(&(SEQ_MAX + 1).to_le_bytes());
        assert_eq!(CursorState::read(&beyond), None, "no entry has that number");
    }

    #[test]
    fn a_cursor_of_each_part_gives_back_its_part() {
        for part in [Part::All, Part::Kind, Part::Entity, Part::Prefix] {
            let cursor = CursorState {
                name: "x".into(),
                revision: 1,
                seq: 0,
                era: 1,
                hold: 0,
                time: 0,
                part,
                kind: 0,
                key: Box::default(),
                retired: false,
                lost: false,
            };
            assert_eq!(CursorState::read(&cursor.encode()), Some(cursor));
        }
    }
}
