//! Finding frames again behind a hole: they begin at multiples of eight bytes, and one that
//! stands where it was written validates by 64 bits.

use std::io;

use crate::disk::File;
use crate::format::frame::{Found, Frame, flag};
use crate::id::{FRAME_ALIGN, Position};
use crate::log::segment::Segment;

/// Frames begin at multiples of this.
#[allow(clippy::cast_possible_truncation, reason = "eight fits any word")]
pub(crate) const GRID: usize = FRAME_ALIGN as usize;

/// The valid frames at or after `from`, found again on the eight-byte grid behind every hole. None
/// begins at or behind `written`: there is nothing but zeros, which need not be looked at.
pub(crate) fn valid_frames<'a>(
    segment: &'a Segment,
    bytes: &'a [u8],
    from: u64,
    written: usize,
) -> impl Iterator<Item = (u64, Frame<'a>)> + use<'a> {
    let mut at = usize::try_from(from).unwrap_or(usize::MAX);
    std::iter::from_fn(move || {
        loop {
            at += zeros_at(bytes.get(at..written.min(bytes.len()))?);
            let rest = bytes.get(at..)?;
            let position = segment.position(at as u64);
            match Frame::find(rest) {
                Found::Frame(frame) if frame.is_good(segment.header.salt, position) => {
                    let found = at as u64;
                    at += frame.len();
                    return Some((found, frame));
                }
                _ => at += GRID,
            }
        }
    })
}

const PAGE: usize = 4096;
/// Untouched space, to compare with page by page: most of a tail is this.
static ZEROS: [u8; PAGE] = [0; PAGE];

/// How many zero bytes stand at the start, in whole units of the grid.
pub(crate) fn zeros_at(bytes: &[u8]) -> usize {
    let pages = bytes.chunks_exact(PAGE).take_while(|page| *page == ZEROS).count();
    let rest = bytes.get(pages * PAGE..).unwrap_or_default();
    let words = rest.chunks_exact(GRID).take_while(|word| word.iter().all(|byte| *byte == 0)).count();
    pages * PAGE + words * GRID
}

pub(crate) fn last_nonzero(bytes: &[u8]) -> u64 {
    let zeros = bytes.rchunks_exact(PAGE).take_while(|page| *page == ZEROS).count();
    let rest = bytes.get(..bytes.len() - zeros * PAGE).unwrap_or_default();
    rest.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1)
}

pub(crate) fn bound_behind(segment: &Segment, bytes: &[u8], from: u64, written: usize) -> Position {
    valid_frames(segment, bytes, from, written)
        .map(|(_, frame)| frame.header.durable())
        .max()
        .unwrap_or_default()
}

pub(crate) fn next_good(segment: &Segment, bytes: &[u8], from: u64, written: usize) -> Option<u64> {
    valid_frames(segment, bytes, from, written).next().map(|(offset, _)| offset)
}

/// For readers that follow a log: the length of the whole batch at `at`, if it validates.
pub(crate) fn whole_batch(segment: &Segment, bytes: &[u8], at: u64, base: u64) -> Option<u64> {
    let mut offset = at;
    loop {
        let place = usize::try_from(offset - base).ok().and_then(|at| bytes.get(at..))?;
        let Found::Frame(frame) = Frame::find(place) else { return None };
        if !frame.is_good(segment.header.salt, segment.position(offset)) {
            return None;
        }
        offset += frame.len() as u64;
        if !frame.header.has(flag::MORE) {
            return Some(offset - at);
        }
    }
}

/// Reads part of a file that somebody else may be writing.
pub(crate) fn read_part(file: &dyn File, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
    let mut part = vec![0; bytes];
    file.read_at(&mut part, offset)?;
    Ok(part)
}

/// False where a frame of the piece is not there, or not whole in itself: no use to read on.
pub(crate) fn may_go_on(segment: &Segment, piece: &[u8], at: u64) -> bool {
    let mut from = 0;
    while let Some(rest) = piece.get(from..).filter(|rest| !rest.is_empty()) {
        match Frame::find(rest) {
            Found::Frame(frame) if frame.is_good(segment.header.salt, segment.position(at + from as u64)) => {
                from += frame.len();
            }
            found => return matches!(found, Found::DoesNotFit),
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_counted_in_whole_words_over_pages_and_within_one() {
        for at in [0, 7, 8, 100, PAGE - 1, PAGE, PAGE + 15, 2 * PAGE, 3 * PAGE + 1] {
            let mut bytes = vec![0; 3 * PAGE + 16];
            bytes[at] = 1;
            assert_eq!(zeros_at(&bytes), at / GRID * GRID, "{at}");
        }
        assert_eq!((zeros_at(&[0; 2 * PAGE]), zeros_at(&[0; 12]), zeros_at(&[])), (2 * PAGE, 8, 0));
    }

    #[test]
    fn the_last_byte_that_is_not_zero_is_found_over_pages_and_within_one() {
        for at in [0, 7, 100, PAGE - 1, PAGE, 2 * PAGE + 15, 3 * PAGE + 4] {
            let mut bytes = vec![0; 3 * PAGE + 5];
            (bytes[0], bytes[at]) = (1, 1);
            assert_eq!(last_nonzero(&bytes), at as u64 + 1, "{at}");
        }
        assert_eq!((last_nonzero(&[0; 2 * PAGE + 3]), last_nonzero(&[])), (0, 0));
    }
}
