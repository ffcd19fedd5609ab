//! A part: the file with what compaction kept of a stretch of the log.
//!
//! The frames are those of the log, with the numbers, the life and the time that they had, in the order of
//! their Seqs; only their place is another, and so is the checksum of their headers. Behind them stand the
//! answers to batches whose idempotency key is still remembered. The file ends with its last frame.
//!
//! The header's words say again what the manifest says of the part, for whoever has to do without that:
//! what the first segment followed, the length of the file, when it was made, the first and the last
//! segment, the first and the last Seq, and how many user frames there are.
//!
//! ```text
//! answer    key 16 | first Seq 8 | digest 8 | time 8 | frames 4 | from 4 | generations 8 each
//! ```
//!
//! The generations of a long batch take several such frames, each saying from which entry it goes on.

use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Error, Result};
use crate::format::compacted::{Cover, Part};
use crate::format::header::{FileHeader, FileType};
use crate::format::index::Keyed;
use crate::id::{IdempotencyKey, Position, StoreId};

/// The header of a part's file.
pub(crate) fn header_of(store: StoreId, cover: &Cover, part: &Part, created: i64) -> FileHeader {
    let words = [
        cover.follows.word(),
        part.bytes,
        created.cast_unsigned(),
        u64::from(cover.first) << 32 | u64::from(cover.last),
        cover.first_seq,
        cover.last_seq,
        part.entries,
        0,
    ];
    FileHeader::new(FileType::Part, store, u64::from(part.number), part.salt, words)
}

/// What the header of a part's file says.
pub(crate) fn read_header(
    bytes: &[u8],
    store: StoreId,
    number: u32,
    file_bytes: u64,
) -> Result<(Cover, i64)> {
    let header = FileHeader::read_of(bytes, FileType::Part, store)?;
    let doing = "read the header of a part";
    if header.number.get() != u64::from(number) {
        return Err(Error::corrupt(doing).sides(number, header.number));
    }
    if header.word(1) != file_bytes {
        let sides = (format!("{} bytes", header.word(1)), format!("{file_bytes} bytes"));
        return Err(Error::corrupt("compare a part's length with its header").sides(sides.0, sides.1));
    }
    let part = Part { number, salt: header.salt.get(), bytes: file_bytes, entries: header.word(6) };
    let segments = Position::from_word(header.word(3));
    let cover = Cover {
        first: segments.segment(),
        last: u32::try_from(header.word(3) & u64::from(u32::MAX)).unwrap_or(u32::MAX),
        follows: Position::from_word(header.word(0)),
        first_seq: header.word(4),
        last_seq: header.word(5),
        part: Some(part),
    };
    if !cover.is_possible() {
        return Err(Error::corrupt(doing).sides("segments and Seqs in their order", format!("{cover:?}")));
    }
    Ok((cover, header.word(2).cast_signed()))
}

/// What a keyed batch was answered, or a piece of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) keyed: Keyed,
    /// Which of the batch's entries the first generation is of.
    pub(crate) from: u32,
    pub(crate) generations: Vec<u64>,
}

/// So many generations stand in one frame.
pub(crate) const GENERATIONS_AT_ONCE: usize = 1 << 16;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct AnswerBytes {
    key: [u8; 16],
    first_seq: U64,
    digest: U64,
    time: I64,
    frames: U32,
    from: U32,
}

impl Answer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Keyed { key, first_seq, frames, digest, time } = self.keyed;
        let fixed = AnswerBytes {
            key: key.0,
            first_seq: U64::new(first_seq),
            digest: U64::new(digest),
            time: I64::new(time),
            frames: U32::new(frames),
            from: U32::new(self.from),
        };
        let mut bytes = fixed.as_bytes().to_vec();
        bytes.extend(self.generations.iter().flat_map(|generation| generation.to_le_bytes()));
        bytes
    }

    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let (fixed, rest) = AnswerBytes::ref_from_prefix(payload).ok()?;
        let generations = <[U64]>::ref_from_bytes(rest).ok()?;
        let frames = fixed.frames.get();
        let count = u32::try_from(generations.len()).ok()?;
        if count == 0 || fixed.from.get().checked_add(count)? > frames {
            return None;
        }
        Some(Self {
            keyed: Keyed {
                key: IdempotencyKey(fixed.key),
                first_seq: fixed.first_seq.get(),
                frames,
                digest: fixed.digest.get(),
                time: fixed.time.get(),
            },
            from: fixed.from.get(),
            generations: generations.iter().map(|generation| generation.get()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PART;
    use zerocopy::IntoBytes;

    #[test]
    fn a_part_s_header_and_answers_give_back_what_was_written() {
        let store = StoreId([4; 16]);
        let part = Part { number: PART | 7, salt: 99, bytes: 512, entries: 3 };
        let cover = Cover {
            first: 2,
            last: 5,
            follows: Position::new(1, 640),
            first_seq: 10,
            last_seq: 90,
            part: Some(part),
        };
        let header = header_of(store, &cover, &part, 77);
        assert_eq!(read_header(header.as_bytes(), store, PART | 7, 512).unwrap(), (cover, 77));
        assert!(read_header(header.as_bytes(), store, PART | 7, 520).is_err(), "another length");
        assert!(read_header(header.as_bytes(), store, PART | 8, 512).is_err(), "another number");

        let keyed = Keyed { key: IdempotencyKey([3; 16]), first_seq: 8, frames: 3, digest: 5, time: -1 };
        let answer = Answer { keyed, from: 1, generations: vec![4, 1 << 40] };
        let bytes = answer.encode();
        assert_eq!(Answer::read(&bytes), Some(answer));
        assert!((0..bytes.len()).all(|cut| cut == bytes.len() - 8 || Answer::read(&bytes[..cut]).is_none()));
    }

    #[test]
    fn a_piece_of_an_answer_lies_within_its_batch() {
        let keyed = Keyed { key: IdempotencyKey([3; 16]), first_seq: 8, frames: 3, digest: 5, time: -1 };
        let read = |from: u32, count: usize| {
            Answer::read(&Answer { keyed, from, generations: vec![4; count] }.encode()).is_some()
        };
        assert!(read(0, 1) && read(2, 1) && read(0, 3));
        assert!(!read(0, 0) && !read(0, 4) && !read(2, 2) && !read(u32::MAX, 1));
    }
}
