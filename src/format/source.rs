//! The payload of a source frame: who may say what is true, by number and name.
//!
//! ```text
//! id 1 | flags 1 | name length 1 | reserved 5 | claimed 8 | name
//! ```
//!
//! Of two frames about one number the later one is right. A row names the sources that assert it by
//! one bit each, so there are 64.

use zerocopy::little_endian::I64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A store has at most this many sources at a time: a row has one bit for each.
pub const SOURCES_MAX: usize = 64;
/// A source's name is 1 to this many bytes of UTF-8.
pub const SOURCE_NAME_BYTES_MAX: usize = 255;

/// A source, as a frame states it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct SourceInfo {
    /// Its number, from 0 to 63: the bit that it has in a row's set of sources.
    pub id: u8,
    /// Its name.
    pub name: String,
    /// When it was first claimed, in nanoseconds since 1970.
    pub claimed: i64,
    /// It is no more: number and name are free.
    #[serde(skip)]
    pub(crate) retired: bool,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SourceBytes {
    id: u8,
    flags: u8,
    name_bytes: u8,
    reserved: [u8; 5],
    claimed: I64,
}

const RETIRED: u8 = 1;

impl SourceInfo {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let fixed = SourceBytes {
            id: self.id,
            flags: if self.retired { RETIRED } else { 0 },
            name_bytes: u8::try_from(self.name.len()).unwrap_or_else(|_| panic!("checked against its limit")),
            reserved: [0; 5],
            claimed: I64::new(self.claimed),
        };
        [fixed.as_bytes(), self.name.as_bytes()].concat()
    }

    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let (fixed, rest) = SourceBytes::read_from_prefix(payload).ok()?;
        let name = rest.get(..usize::from(fixed.name_bytes))?;
        Some(Self {
            id: Some(fixed.id).filter(|id| usize::from(*id) < SOURCES_MAX)?,
            name: String::from_utf8(name.to_vec()).ok().filter(|name| !name.is_empty())?,
            claimed: fixed.claimed.get(),
            retired: fixed.flags & RETIRED != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_gives_back_what_was_written_and_refuses_every_truncation() {
        let source = SourceInfo { id: 63, name: "radar-7".into(), claimed: -5, retired: true };
        let bytes = source.encode();
        assert_eq!(SourceInfo::read(&bytes), Some(source));
        assert!((0..bytes.len()).all(|cut| SourceInfo::read(&bytes[..cut]).is_none()));
        let mut beyond = bytes;
        beyond[0] = 64;
        assert_eq!(SourceInfo::read(&beyond), None);
    }
}
