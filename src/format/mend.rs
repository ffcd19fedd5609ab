//! Checksums mended over damage, for the fuzzers: what a checksum would catch is let through,
//! so that the code behind it meets lengths, numbers and flags that nobody ever wrote.

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, IntoBytes};

use crate::format::checksum;
use crate::format::directory::{PAGE_BYTES, PAGES_AT};
use crate::format::extension::{Id, find, idempotency_key};
use crate::format::frame::{Found, Frame, FrameHeader};
use crate::format::header::{FileHeader, FileType, HEADER_BYTES};
use crate::format::index::LIFE_AND_CRC;
use crate::format::manifest::SECTIONS_CRC;
use crate::format::system::{KindInfo, Open, Preamble};
use crate::id::Position;

/// Reads every part of the frame at the start of `bytes`; its length if both checksums match.
#[must_use]
pub fn judge_frame(bytes: &[u8], salt: u64, position: Position) -> Option<usize> {
    let Found::Frame(frame) = Frame::find(bytes) else { return None };
    let lengths = frame.header.lengths();
    let parts = [frame.extensions(), frame.key(), frame.metadata(), frame.payload()].map(<[u8]>::len);
    assert_eq!(parts, [lengths.extensions, lengths.key, lengths.metadata, lengths.payload]);
    assert!(frame.len() == lengths.frame() && frame.len() <= bytes.len() && frame.len().is_multiple_of(8));
    // Whatever stands in them, nothing here may panic or read past the frame.
    let _ = (idempotency_key(frame.extensions()), find(frame.extensions(), Id::Writer));
    let _ = (Preamble::read(frame.payload()), Open::read(frame.payload()), KindInfo::read(frame.payload()));
    frame.is_good(salt, position).then(|| frame.len())
}

/// Gives the frame at the start of `bytes` the checksums of what it holds now; its length if
/// its lengths fit.
pub fn mend_frame(bytes: &mut [u8], salt: u64, position: Position) -> Option<usize> {
    let frame = Frame::parse(bytes)?;
    let (mut header, length) = (*frame.header, frame.len());
    header.mend(&frame, salt, position);
    bytes.get_mut(..size_of::<FrameHeader>())?.copy_from_slice(header.as_bytes());
    Some(length)
}

/// Gives a whole file the checksums of what it holds now: header, frames, pages, body.
pub fn mend_file(bytes: &mut [u8]) {
    let Ok((header, body)) = FileHeader::mut_from_prefix(bytes) else { return };
    let (number, salt) = (header.number.get(), header.salt.get());
    match header.file_type.get() {
        kind if kind == FileType::Segment as u16 || kind == FileType::Part as u16 => {
            mend_frames(body, salt, number);
        }
        kind if kind == FileType::Directory as u16 => {
            let pages = body.get_mut(PAGES_AT - HEADER_BYTES..).unwrap_or_default();
            pages.chunks_exact_mut(PAGE_BYTES).for_each(mend_page);
        }
        kind if kind == FileType::Index as u16 => {
            let word = header.word(LIFE_AND_CRC) >> 32 << 32 | u64::from(checksum::crc(&[body]));
            header.set_word(LIFE_AND_CRC, word);
        }
        kind if kind == FileType::Manifest as u16 => {
            header.set_word(SECTIONS_CRC, u64::from(checksum::crc(&[body])));
        }
        _ => {}
    }
    header.mend();
}

/// Frames as their lengths lead from one to the next.
fn mend_frames(mut frames: &mut [u8], salt: u64, number: u64) {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    let mut at = HEADER_BYTES;
    while frames.first_chunk::<8>().is_some_and(|word| *word != [0; 8])
        && let Some(length) = mend_frame(frames, salt, Position::new(number, at as u64))
    {
        at += length;
        frames = frames.split_at_mut_checked(length).map(|(_, rest)| rest).unwrap_or_default();
    }
}

fn mend_page(page: &mut [u8]) {
    if let Some((crc, rest)) = page.split_at_mut_checked(size_of::<U32>()) {
        crc.copy_from_slice(&checksum::crc(&[rest]).to_le_bytes());
    }
}
