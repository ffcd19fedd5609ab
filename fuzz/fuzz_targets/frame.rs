//! Any bytes, where a frame could be: no panic, no read past the end, and a frame whose
//! checksums were mended is good at its place and at no other.
//!
//! The bytes are taken as they are, so that the seeds are frames of a log and what the fuzzer makes of them are nearly frames.
#![no_main]

use esker::Position;
use esker::simulator::{judge_frame, mend_frame};
use libfuzzer_sys::fuzz_target;

/// In front of them: the salt, the segment and where in it they stand, in units of eight bytes.
const PLACE_BYTES: usize = 16;

fuzz_target!(|input: &[u8]| {
    let Some((place, bytes)) = input.split_first_chunk::<PLACE_BYTES>() else { return };
    let number = |at: usize| u32::from_le_bytes([place[at], place[at + 1], place[at + 2], place[at + 3]]);
    let (salt, segment, units) = (u64::from(number(0)) << 32 | u64::from(number(4)), number(8), number(12));
    let place = Position::new(segment, u64::from(units) * 8);
    let _ = judge_frame(bytes, salt, place);
    let mut bytes = bytes.to_vec();
    let Some(length) = mend_frame(&mut bytes, salt, place) else { return };
    // An operation of zero is untouched space or a frame that nobody writes.
    if bytes[0] == 0 {
        assert_eq!(judge_frame(&bytes, salt, place), None);
        return;
    }
    assert_eq!(judge_frame(&bytes, salt, place), Some(length));
    for (segment, units) in [(segment ^ 1, units), (segment, units ^ 1)] {
        let elsewhere = Position::new(segment, u64::from(units) * 8);
        assert_eq!(judge_frame(&bytes, salt, elsewhere), None, "good at {elsewhere:?} too");
    }
    assert_eq!(judge_frame(&bytes, salt ^ 1, place), None, "good in another store too");
    assert_eq!(judge_frame(&bytes[..length - 1], salt, place), None);
    for at in [0, 8, length / 2, length - 1] {
        let mut damaged = bytes[..length].to_vec();
        damaged[at] ^= 0x10;
        assert_eq!(judge_frame(&damaged, salt, place), None, "a flipped bit in byte {at}");
    }
});
