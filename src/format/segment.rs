//! The header of a segment: which one it is, and what it follows.
//!
//! `number` is the segment's own; word 0 is *follows*: a position, or `(number - 1, 0)` for
//! "the seal of the one before", or zero for the first segment of a store. Word 1 is the
//! length of the file, word 2 the time it was made.
//!
//! A gap in the numbers is legal only where a header says *follows k at e*: there the log
//! went on after a crash, and what lies behind e in segment k, and the segments between, are
//! dead.

use crate::error::{Error, Result};
use crate::format::header::{FileHeader, FileType, HEADER_BYTES};
use crate::id::{PART, Position, StoreId};

/// The offset of a segment's first frame.
pub(crate) const FIRST_FRAME: u64 = HEADER_BYTES as u64;

/// No segment is longer: a file that is was not made here, and is not read into memory.
pub(crate) const FILE_BYTES_MAX: u64 = 4 << 30;

/// What a segment's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) number: u32,
    pub(crate) salt: u64,
    pub(crate) follows: Position,
    pub(crate) bytes: u64,
    pub(crate) created: i64,
}

impl SegmentHeader {
    pub(crate) fn encode(&self, store: StoreId) -> FileHeader {
        let words = [self.follows.word(), self.bytes, self.created.cast_unsigned(), 0, 0, 0, 0, 0];
        FileHeader::new(FileType::Segment, store, u64::from(self.number), self.salt, words)
    }

    /// Reads the header of segment `number` in a file of `file_bytes`.
    pub(crate) fn read(bytes: &[u8], store: StoreId, number: u32, file_bytes: u64) -> Result<Self> {
        let header = FileHeader::read_of(bytes, FileType::Segment, store)?;
        let doing = "read the header of a segment file";
        if header.number.get() != u64::from(number) {
            let found = format!("segment {}", header.number);
            return Err(Error::corrupt(doing).sides(format!("segment {number}"), found));
        }
        let segment = Self {
            number,
            salt: header.salt.get(),
            follows: Position::from_word(header.word(0)),
            bytes: header.word(1),
            created: header.word(2).cast_signed(),
        };
        let is_a_length =
            (FIRST_FRAME..=FILE_BYTES_MAX).contains(&segment.bytes) && segment.bytes.is_multiple_of(8);
        if segment.bytes != file_bytes || !is_a_length {
            let sides = (format!("{} bytes", segment.bytes), format!("{file_bytes} bytes"));
            return Err(Error::corrupt("compare a segment's length with its header").sides(sides.0, sides.1));
        }
        if segment.follows.segment() >= number {
            let sides = (format!("a segment before {number}"), segment.follows);
            return Err(Error::corrupt("read what a segment follows").sides(sides.0, sides.1));
        }
        Ok(segment)
    }

    /// The *follows* of a segment that goes on behind the seal of the one before.
    pub(crate) fn after_seal_of(number: u32) -> Position {
        Position::new(number, 0)
    }
}

/// The name of the file of a segment, or of a part.
pub(crate) fn file_name(number: u32) -> String {
    match number & PART {
        0 => format!("{number:010}.seg"),
        _ => format!("{:010}.snap", number & !PART),
    }
}

/// The number in a segment's file name.
pub(crate) fn number_of(name: &str) -> Option<u32> {
    number_before(name, ".seg")
}

/// The number in the name of a part's file, with the bit that says so.
pub(crate) fn part_number_of(name: &str) -> Option<u32> {
    number_before(name, ".snap").map(|number| number | PART)
}

/// Ten digits before a suffix: a number from 1 to below the bit of parts.
pub(crate) fn number_before(name: &str, suffix: &str) -> Option<u32> {
    let digits = name.strip_suffix(suffix)?;
    let is_number = digits.len() == 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|number| is_number && (1..PART).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    const STORE: StoreId = StoreId([7; 16]);

    fn header() -> SegmentHeader {
        SegmentHeader { number: 5, salt: 9, follows: Position::new(4, 640), bytes: 4096, created: -3 }
    }

    fn read(segment: SegmentHeader, number: u32, file_bytes: u64) -> Option<SegmentHeader> {
        SegmentHeader::read(segment.encode(STORE).as_bytes(), STORE, number, file_bytes).ok()
    }

    #[test]
    fn a_header_is_read_in_its_own_file_alone() {
        assert_eq!(read(header(), 5, 4096), Some(header()));
        assert_eq!(read(header(), 6, 4096), None, "another number");
        assert_eq!(read(header(), 5, 4104), None, "another length");
        assert!(SegmentHeader::read(header().encode(STORE).as_bytes(), StoreId([8; 16]), 5, 4096).is_err());
    }

    #[test]
    fn lengths_that_no_segment_has_are_refused() {
        let of = |bytes| read(SegmentHeader { bytes, ..header() }, 5, bytes).is_some();
        assert!(of(FIRST_FRAME) && of(FILE_BYTES_MAX));
        assert!(!of(FIRST_FRAME - 8) && !of(FILE_BYTES_MAX + 8) && !of(4100));
    }

    #[test]
    fn a_segment_follows_one_with_a_lesser_number() {
        let of = |follows| read(SegmentHeader { follows, ..header() }, 5, 4096).is_some();
        assert!(of(Position::ZERO) && of(SegmentHeader::after_seal_of(4)));
        assert!(!of(Position::new(5, 0)) && !of(Position::new(6, 0)));
    }

    #[test]
    fn names_of_segments_and_parts_say_their_numbers_and_no_other_name_does() {
        for number in [1, 42, PART - 1] {
            let name = file_name(number);
            assert_eq!((number_of(&name), part_number_of(&name)), (Some(number), None), "{name}");
            let name = file_name(number | PART);
            assert_eq!((number_of(&name), part_number_of(&name)), (None, Some(number | PART)), "{name}");
        }
        let others = [
            "0000000000.seg",
            "2147483648.seg",
            "000000001.seg",
            "00000000001.seg",
            "+000000001.seg",
            "0000000001",
        ];
        for name in others {
            assert_eq!(number_of(name), None, "{name}");
        }
    }
}
