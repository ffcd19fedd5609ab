//! Pieces of a saved value: the payload of a record of the stream of images.
//!
//! A value is cut into pieces that fit a record. Each says of which value it is, as the how manieth of how many, and
//! has two checksums: of itself, and of the whole value.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first bytes of each.
const MAGIC: [u8; 4] = *b"eimg";
/// The form of what stands here.
const FORMAT: u16 = 1;
/// So many bytes stand before the piece.
pub(crate) const HEAD_BYTES: usize = size_of::<HeadBytes>();
/// A value has at most so many pieces.
pub(crate) const PIECES_MAX: u32 = 1 << 16;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct HeadBytes {
    magic: [u8; 4],
    format: U16,
    reserved: U16,
    value: U64,
    index: U32,
    count: U32,
    whole_crc: U32,
    /// Of everything else here, and of the piece.
    crc: U32,
}

/// One piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk<'a> {
    /// Tells one value from another.
    pub(crate) value: u64,
    /// From 0.
    pub(crate) index: u32,
    pub(crate) count: u32,
    pub(crate) whole_crc: u32,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Chunk<'a> {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut head = HeadBytes {
            magic: MAGIC,
            format: FORMAT.into(),
            reserved: 0.into(),
            value: self.value.into(),
            index: self.index.into(),
            count: self.count.into(),
            whole_crc: self.whole_crc.into(),
            crc: 0.into(),
        };
        head.crc = crc_of(head, self.bytes).into();
        [head.as_bytes(), self.bytes].concat()
    }

    /// `None`: these bytes are not what was written, or of another form.
    pub(crate) fn read(payload: &'a [u8]) -> Option<Self> {
        let (head, bytes) = HeadBytes::read_from_prefix(payload).ok()?;
        let is_whole = head.magic == MAGIC
            && head.format.get() == FORMAT
            && head.crc.get() == crc_of(HeadBytes { crc: 0.into(), ..head }, bytes);
        let (index, count) = (head.index.get(), head.count.get());
        (is_whole && index < count && count <= PIECES_MAX).then_some(Self {
            value: head.value.get(),
            index,
            count,
            whole_crc: head.whole_crc.get(),
            bytes,
        })
    }
}

fn crc_of(head: HeadBytes, bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(head.as_bytes());
    crc.update(bytes);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_read_as_it_was_written_and_no_bit_of_it_may_differ() {
        let chunk = Chunk { value: 7, index: 1, count: 3, whole_crc: 9, bytes: b"piece" };
        let written = chunk.encode();
        assert_eq!(written.len(), HEAD_BYTES + 5);
        assert_eq!(Chunk::read(&written), Some(chunk));
        for bit in 0..written.len() * 8 {
            let mut flipped = written.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Chunk::read(&flipped), None, "bit {bit}");
        }
        for end in 0..written.len() {
            assert_eq!(Chunk::read(&written[..end]), None, "{end} bytes");
        }
        assert_eq!(Chunk::read(&Chunk { index: 3, ..chunk }.encode()), None, "behind the last");
        assert_eq!(Chunk::read(&Chunk { count: PIECES_MAX + 1, ..chunk }.encode()), None);
    }

    #[test]
    fn a_piece_of_another_form_is_none_although_its_checksum_is_right() {
        let chunk = Chunk { value: 7, index: 1, count: 3, whole_crc: 9, bytes: b"piece" };
        for at in [0, 4] {
            let mut other = chunk.encode();
            other[at] ^= 1;
            let (head, _) = HeadBytes::read_from_prefix(&other[..]).unwrap();
            let crc = crc_of(HeadBytes { crc: 0.into(), ..head }, chunk.bytes);
            other[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
            assert_eq!(Chunk::read(&other), None, "byte {at}");
        }
    }
}
