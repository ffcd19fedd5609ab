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
