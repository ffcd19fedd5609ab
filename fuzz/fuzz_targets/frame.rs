//! Any bytes, where a frame could be: no panic, no read past the end, and a frame whose
//! checksums were mended is good at its place and at no other.
#![no_main]

use esker::Position;
use esker::simulator::{judge_frame, mend_frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u64, u32, u32, Vec<u8>)| {
    let (salt, segment, units, mut bytes) = input;
    let place = Position::new(segment, u64::from(units) * 8);
    let _ = judge_frame(&bytes, salt, place);
    let Some(length) = mend_frame(&mut bytes, salt, place) else { return };
    // An operation of zero is untouched space or a frame that nobody writes.
    if bytes[0] == 0 {
        assert_eq!(judge_frame(&bytes, salt, place), None);
        return;
    }
    assert_eq!(judge_frame(&bytes, salt, place), Some(length));
    assert_eq!(judge_frame(&bytes, salt, Position::new(segment ^ 1, place.offset())), None);
    assert_eq!(judge_frame(&bytes[..length - 1], salt, place), None);
    for at in [0, 8, length / 2, length - 1] {
        let mut damaged = bytes[..length].to_vec();
        damaged[at] ^= 0x10;
        assert_eq!(judge_frame(&damaged, salt, place), None, "a flipped bit in byte {at}");
    }
});
