//! The frame: one append on disk, and how it is judged.

use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::format::checksum;
use crate::id::{FRAME_ALIGN, Life, Position};

/// A key is 1 to this many bytes (system frames have none).
pub const KEY_BYTES_MAX: usize = 255;
/// Metadata is at most this many bytes.
pub const METADATA_BYTES_MAX: usize = 65_535;
/// A payload is at most this many bytes, and what fits a batch.
pub const PAYLOAD_BYTES_MAX: usize = (16 << 20) - 4096;
/// The most bytes of extensions that the header can name.
pub(crate) const EXTENSION_BYTES_MAX: usize = 255 * 8;

/// What a frame does. A user frame of this format is a [`FACT`]; the others are reserved
/// for the state layer. System frames (kind 0) have numbers of their own.
pub(crate) const FACT: u8 = 1;

/// The flags of a frame, in the low ten bits; the source is in the six above.
pub(crate) mod flag {
    /// The batch goes on behind this frame.
    pub(crate) const MORE: u16 = 1;
    /// The entity's history is dense from here on.
    pub(crate) const FIRST: u16 = 1 << 1;
    /// It stands beside the entries: only who asks for its kind is shown it.
    pub(crate) const ASIDE: u16 = 1 << 2;
    /// No source said it: an epoch or a deadline retracts.
    pub(crate) const SYNTHETIC: u16 = 1 << 3;
    /// Said in an epoch of its source.
    pub(crate) const IN_EPOCH: u16 = 1 << 4;
    /// The entity is no more: a later entry begins it again.
    pub(crate) const TOMBSTONE: u16 = 1 << 5;
    /// Its batch ended with it: said of what compaction has copied, where a frame without [`MORE`] may as well be one
    /// behind which the rest of its batch was dropped.
    pub(crate) const ENDS: u16 = 1 << 6;
    /// All flags of this format.
    pub(crate) const KNOWN: u16 = (1 << 7) - 1;
    pub(crate) const BITS: u16 = (1 << 10) - 1;
    pub(crate) const SOURCE_SHIFT: u16 = 10;
}

/// The fixed part of a frame.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct FrameHeader {
    pub(crate) operation: u8,
    key_bytes: u8,
    metadata_bytes: U16,
    lengths: U32,
    pub(crate) kind: U16,
    flags_source: U16,
    life: U32,
    pub(crate) seq: U64,
    pub(crate) generation: U64,
    pub(crate) time: I64,
    durable: U64,
    pub(crate) body_crc: U32,
    head_crc: U32,
}

/// The length of the fixed part.
pub(crate) const FRAME_BYTES: usize = size_of::<FrameHeader>();
const HEAD_CRC_AT: usize = FRAME_BYTES - size_of::<U32>();
const PAYLOAD_MASK: u32 = (1 << 24) - 1;
const _: () = {
    assert!(FRAME_BYTES == 56 && FRAME_BYTES.is_multiple_of(8));
    assert!(PAYLOAD_BYTES_MAX <= PAYLOAD_MASK as usize, "a payload's length has 24 bits");
    assert!(EXTENSION_BYTES_MAX == u8::MAX as usize * 8, "extensions are counted in units of eight");
};

/// The lengths of a frame's four parts, within their limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lengths {
    pub(crate) extensions: usize,
    pub(crate) key: usize,
    pub(crate) metadata: usize,
    pub(crate) payload: usize,
}

impl Lengths {
    /// The length of the whole frame, padding included.
    #[inline]
    pub(crate) fn frame(self) -> usize {
        (FRAME_BYTES + self.extensions + self.key + self.metadata + self.payload).next_multiple_of(8)
    }

    /// How many zero bytes follow the payload.
    pub(crate) fn padding(self) -> usize {
        self.frame() - (FRAME_BYTES + self.extensions + self.key + self.metadata + self.payload)
    }
}

/// Everything that the writer decides about a frame, before it is sealed for its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameFields {
    pub(crate) operation: u8,
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) source: u8,
    pub(crate) life: Life,
    pub(crate) seq: u64,
    pub(crate) generation: u64,
    pub(crate) time: i64,
    pub(crate) durable: Position,
    pub(crate) lengths: Lengths,
    pub(crate) body_crc: u32,
}

impl FrameHeader {
    /// Encodes a header for its place, with its checksum.
    ///
    /// # Panics
    ///
    /// If a length is over its limit, which the callers check against the user's input.
    #[inline]
    pub(crate) fn seal(fields: &FrameFields, extensions: &[u8], salt: u64, position: Position) -> Self {
        let Lengths { key, metadata, payload, .. } = fields.lengths;
        assert!(fields.operation != 0, "operation zero is untouched space");
        assert!(
            payload <= PAYLOAD_BYTES_MAX && extensions.len().is_multiple_of(8),
            "lengths over their limits"
        );
        let narrow =
            |value: usize, what: &str| u32::try_from(value).unwrap_or_else(|_| panic!("{what} too long"));
        let units = narrow(extensions.len() / 8, "extensions");
        let mut header = Self {
            operation: fields.operation,
            key_bytes: u8::try_from(key).unwrap_or_else(|_| panic!("key too long")),
            metadata_bytes: U16::new(u16::try_from(metadata).unwrap_or_else(|_| panic!("metadata too long"))),
            lengths: U32::new(narrow(payload, "payload") | units << 24),
            kind: U16::new(fields.kind),
            flags_source: U16::new(
                fields.flags & flag::BITS | u16::from(fields.source) << flag::SOURCE_SHIFT,
            ),
            life: U32::new(fields.life.0),
            seq: U64::new(fields.seq),
            generation: U64::new(fields.generation),
            time: I64::new(fields.time),
            durable: U64::new(fields.durable.word()),
            body_crc: U32::new(fields.body_crc),
            head_crc: U32::ZERO,
        };
        header.head_crc = U32::new(header.checksum(extensions, salt, position));
        header
    }

    /// The same header for another place, with these flags and its checksum there.
    pub(crate) fn moved(&self, flags: u16, extensions: &[u8], salt: u64, position: Position) -> Self {
        let flags_source = U16::new(self.flags_source.get() & !flag::BITS | flags & flag::BITS);
        let mut header = Self { flags_source, ..*self };
        header.head_crc = U32::new(header.checksum(extensions, salt, position));
        header
    }

    fn checksum(&self, extensions: &[u8], salt: u64, position: Position) -> u32 {
        let seed = checksum::seed(salt, self.life(), position);
        checksum::seeded(seed, self.as_bytes().get(..HEAD_CRC_AT).unwrap_or_default(), extensions)
    }

    /// Gives the header the checksums of what it and the rest of its frame say now.
    #[cfg(feature = "simulator")]
    pub(crate) fn mend(&mut self, frame: &Frame<'_>, salt: u64, position: Position) {
        self.body_crc = U32::new(checksum::crc(&[frame.body()]));
        self.head_crc = U32::new(self.checksum(frame.extensions(), salt, position));
    }

    #[inline]
    pub(crate) fn lengths(&self) -> Lengths {
        let word = self.lengths.get();
        Lengths {
            extensions: (word >> 24) as usize * 8,
            key: usize::from(self.key_bytes),
            metadata: usize::from(self.metadata_bytes.get()),
            payload: (word & PAYLOAD_MASK) as usize,
        }
    }

    pub(crate) fn life(&self) -> Life {
        Life(self.life.get())
    }

    pub(crate) fn durable(&self) -> Position {
        Position::from_word(self.durable.get())
    }

    pub(crate) fn has(&self, flag: u16) -> bool {
        self.flags_source.get() & flag != 0
    }

    pub(crate) fn flags(&self) -> u16 {
        self.flags_source.get() & flag::BITS
    }

    pub(crate) fn source(&self) -> u8 {
        u8::try_from(self.flags_source.get() >> flag::SOURCE_SHIFT).unwrap_or(0)
    }

    /// System frames have kind 0; no Seq is theirs.
    pub(crate) fn is_system(&self) -> bool {
        self.kind.get() == 0
    }
}

/// A frame borrowed from the bytes that hold it: its lengths fit, nothing else is judged yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) header: &'a FrameHeader,
    /// Extensions, key, metadata, payload and padding.
    content: &'a [u8],
}

/// What stands at a place where a frame could be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found<'a> {
    /// The first word is zero: untouched space.
    Empty,
    /// The lengths reach past the end of the bytes.
    DoesNotFit,
    Frame(Frame<'a>),
}

impl<'a> Frame<'a> {
    /// Looks at the start of `bytes`, which ends where the segment does.
    pub(crate) fn find(bytes: &'a [u8]) -> Found<'a> {
        match bytes.first_chunk::<8>() {
            None => return Found::Empty,
            Some(word) if *word == [0; 8] => return Found::Empty,
            Some(_) => {}
        }
        Self::parse(bytes).map_or(Found::DoesNotFit, Found::Frame)
    }

    /// The frame at the start of `bytes`, if its lengths fit.
    #[inline]
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = FrameHeader::ref_from_prefix(bytes).ok()?;
        let lengths = header.lengths();
        let content = rest.get(..lengths.frame() - FRAME_BYTES)?;
        Some(Self { header, content })
    }

    /// The length of the whole frame in bytes.
    pub(crate) fn len(&self) -> usize {
        FRAME_BYTES + self.content.len()
    }

    /// All that follows the header.
    pub(crate) fn content(&self) -> &'a [u8] {
        self.content
    }

    /// A copy of all of it.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        [self.header.as_bytes(), self.content].concat()
    }

    #[inline]
    pub(crate) fn extensions(&self) -> &'a [u8] {
        self.part(0, self.header.lengths().extensions)
    }

    #[inline]
    pub(crate) fn key(&self) -> &'a [u8] {
        let Lengths { extensions, key, .. } = self.header.lengths();
        self.part(extensions, key)
    }

    #[inline]
    pub(crate) fn metadata(&self) -> &'a [u8] {
        let Lengths { extensions, key, metadata, .. } = self.header.lengths();
        self.part(extensions + key, metadata)
    }

    #[inline]
    pub(crate) fn payload(&self) -> &'a [u8] {
        let Lengths { extensions, key, metadata, payload } = self.header.lengths();
        self.part(extensions + key + metadata, payload)
    }

    /// Where in the frame the payload begins.
    pub(crate) fn payload_at(&self) -> usize {
        let Lengths { extensions, key, metadata, .. } = self.header.lengths();
        FRAME_BYTES + extensions + key + metadata
    }

    /// Everything that the body's checksum covers.
    fn body(&self) -> &'a [u8] {
        self.content.get(self.header.lengths().extensions..).unwrap_or_default()
    }

    #[inline]
    fn part(&self, start: usize, length: usize) -> &'a [u8] {
        self.content.get(start..start + length).unwrap_or_default()
    }

    /// True if the header and the extensions are those that were written at this place.
    pub(crate) fn head_is_good(&self, salt: u64, position: Position) -> bool {
        self.header.operation != 0
            && self.header.head_crc.get() == self.header.checksum(self.extensions(), salt, position)
    }

    /// True if key, metadata, payload and padding are those that the header was sealed over.
    pub(crate) fn body_is_good(&self) -> bool {
        self.header.body_crc.get() == checksum::crc(&[self.body()])
    }

    pub(crate) fn is_good(&self, salt: u64, position: Position) -> bool {
        self.head_is_good(salt, position) && self.body_is_good()
    }
}

/// The zeros that fill a frame up to its alignment.
pub(crate) const PADDING: [u8; 7] = [0; 7];
const _: () = assert!(PADDING.len() as u64 == FRAME_ALIGN - 1);

/// The body checksum of a frame that is yet to be written.
pub(crate) fn body_crc(lengths: Lengths, key: &[u8], metadata: &[u8], payload: &[u8]) -> u32 {
    let padding = PADDING.get(..lengths.padding()).unwrap_or_default();
    checksum::crc(&[key, metadata, payload, padding])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PART;

    fn sample(payload: &[u8], salt: u64, position: Position) -> Vec<u8> {
        let lengths = Lengths { extensions: 0, key: 3, metadata: 2, payload: payload.len() };
        let fields = FrameFields {
            operation: FACT,
            kind: 7,
            flags: flag::MORE | flag::FIRST,
            source: 63,
            life: Life(9),
            seq: 5,
            generation: 4,
            time: -1,
            durable: Position::new(1, 128),
            lengths,
            body_crc: body_crc(lengths, b"key", b"md", payload),
        };
        let mut bytes = FrameHeader::seal(&fields, &[], salt, position).as_bytes().to_vec();
        bytes.extend_from_slice(b"keymd");
        bytes.extend_from_slice(payload);
        bytes.resize(lengths.frame(), 0);
        bytes
    }

    #[test]
    fn a_frame_gives_back_what_was_written() {
        let place = Position::new(2, 256);
        let bytes = sample(b"payload", 1, place);
        let frame = Frame::parse(&bytes).unwrap();
        assert!(frame.is_good(1, place));
        assert_eq!(
            (frame.key(), frame.metadata(), frame.payload()),
            (&b"key"[..], &b"md"[..], &b"payload"[..])
        );
        assert_eq!((frame.header.source(), frame.header.flags()), (63, flag::MORE | flag::FIRST));
        assert_eq!(frame.header.durable(), Position::new(1, 128));
        assert_eq!(frame.len(), bytes.len());
    }

    #[test]
    fn any_flipped_bit_and_any_other_place_is_noticed() {
        let place = Position::new(2, 256);
        let bytes = sample(b"payload", 1, place);
        for bit in (0..bytes.len() * 8).step_by(if cfg!(miri) { 13 } else { 1 }) {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let good = match Frame::find(&damaged) {
                Found::Frame(frame) => frame.is_good(1, place),
                Found::Empty | Found::DoesNotFit => false,
            };
            assert!(!good, "bit {bit}");
        }
        let frame = Frame::parse(&bytes).unwrap();
        assert!(!frame.head_is_good(2, place) && !frame.head_is_good(1, Position::new(2, 264)));
        assert!(!frame.head_is_good(1, Position::new(3, 256)));
    }

    #[test]
    fn untouched_space_is_empty_and_lengths_past_the_end_do_not_fit() {
        assert!(matches!(Frame::find(&[0; 64]), Found::Empty));
        assert!(matches!(Frame::find(&[]), Found::Empty));
        let bytes = sample(&[1; 100], 1, Position::ZERO);
        for cut in 8..bytes.len() {
            assert!(matches!(Frame::find(&bytes[..cut]), Found::DoesNotFit), "{cut}");
        }
        assert!(matches!(Frame::find(&[255; 64]), Found::DoesNotFit));
    }

    #[test]
    fn a_frame_that_was_moved_has_other_flags_and_is_good_where_it_stands_now() {
        let (there, here) = (Position::new(2, 256), Position::new(PART | 1, 128));
        let mut bytes = sample(b"payload", 1, there);
        let moved = Frame::parse(&bytes).unwrap().header.moved(flag::ENDS | flag::FIRST, &[], 8, here);
        bytes[..FRAME_BYTES].copy_from_slice(moved.as_bytes());
        let frame = Frame::parse(&bytes).unwrap();
        assert!(frame.is_good(8, here) && !frame.head_is_good(1, there));
        assert_eq!((frame.header.flags(), frame.header.source()), (flag::ENDS | flag::FIRST, 63));
        let has = [flag::MORE, flag::FIRST, flag::ASIDE, flag::ENDS].map(|flag| frame.header.has(flag));
        assert_eq!(has, [false, true, false, true]);
    }

    #[test]
    fn extensions_lie_before_the_key_and_belong_to_the_header() {
        let extensions = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0, 0, 0];
        let lengths = Lengths { extensions: extensions.len(), key: 1, metadata: 0, payload: 0 };
        assert_eq!((lengths.frame(), lengths.padding()), (FRAME_BYTES + 24, 7));
        let fields = FrameFields {
            operation: FACT,
            kind: 0,
            flags: 0,
            source: 0,
            life: Life(9),
            seq: 5,
            generation: 4,
            time: 0,
            durable: Position::ZERO,
            lengths,
            body_crc: body_crc(lengths, b"k", b"", b""),
        };
        let place = Position::new(1, 128);
        let header = FrameHeader::seal(&fields, &extensions, 1, place);
        let bytes = [header.as_bytes(), &extensions, b"k", &PADDING].concat();
        let frame = Frame::parse(&bytes).unwrap();
        assert!(frame.is_good(1, place) && frame.header.is_system());
        assert_eq!(
            (frame.header.lengths(), frame.extensions(), frame.key()),
            (lengths, &extensions[..], &b"k"[..])
        );
        assert_eq!((frame.content(), frame.to_bytes()), (&bytes[FRAME_BYTES..], bytes.clone()));
        let mut damaged = bytes.clone();
        damaged[FRAME_BYTES] ^= 1;
        let frame = Frame::parse(&damaged).unwrap();
        assert!(!frame.head_is_good(1, place) && frame.body_is_good());
    }

    #[test]
    #[should_panic(expected = "lengths over their limits")]
    fn a_payload_over_its_limit_is_never_sealed() {
        seal_lengths(PAYLOAD_BYTES_MAX + 1, &[]);
    }

    #[test]
    #[should_panic(expected = "lengths over their limits")]
    fn extensions_that_are_no_multiple_of_eight_are_never_sealed() {
        seal_lengths(PAYLOAD_BYTES_MAX, &[1; 9]);
    }

    fn seal_lengths(payload: usize, extensions: &[u8]) {
        let lengths = Lengths { extensions: 0, key: 1, metadata: 0, payload };
        let (life, durable) = (Life(1), Position::ZERO);
        let fields = FrameFields {
            operation: FACT,
            kind: 1,
            flags: 0,
            source: 0,
            life,
            seq: 1,
            generation: 1,
            time: 0,
            durable,
            lengths,
            body_crc: 0,
        };
        FrameHeader::seal(&fields, extensions, 1, Position::new(1, 128));
    }
}
