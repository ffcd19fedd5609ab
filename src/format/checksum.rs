//! The checksums: CRC-32 (IEEE), with and without a seed.

use crate::id::{Life, Position};

/// Plain CRC-32 of the parts, one after the other.
pub(crate) fn crc(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// The plain CRC-32 of what comes part by part.
#[derive(Debug, Default)]
pub(crate) struct Sum(crc32fast::Hasher);

impl Sum {
    pub(crate) fn add(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    pub(crate) fn crc(self) -> u32 {
        self.0.finalize()
    }
}

/// The seed of a frame's head checksum: where the frame stands, and in whose life.
///
/// A multiply and a fold spread every bit of the three over the 32 bits of the seed; two
/// different seeds give two different checksums for the same bytes.
pub(crate) fn seed(salt: u64, life: Life, position: Position) -> u32 {
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let place = (position.word().wrapping_mul(SPREAD) ^ salt).wrapping_mul(SPREAD.rotate_left(31));
    let mixed =
        (place ^ (place >> 29) ^ u64::from(life.0).wrapping_mul(SPREAD.rotate_left(17))).wrapping_mul(SPREAD);
    fold(mixed)
}

/// CRC-32 of the parts, started from `seed`.
pub(crate) fn seeded(seed: u32, head: &[u8], rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(head);
    if !rest.is_empty() {
        hasher.update(rest);
    }
    hasher.finalize()
}

#[allow(clippy::cast_possible_truncation, reason = "folding 64 bits into 32 is the purpose")]
fn fold(word: u64) -> u32 {
    (word ^ (word >> 32)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_of_a_frame_tells_salts_lives_and_places_apart() {
        let mut seeds = std::collections::BTreeSet::new();
        for salt in [0, 1, 1 << 40, u64::MAX] {
            for life in [1, 2, 3, u32::MAX] {
                for place in [Position::new(1, 128), Position::new(1, 136), Position::new(2, 128)] {
                    seeds.insert(seed(salt, Life(life), place));
                }
            }
        }
        assert_eq!(seeds.len(), 4 * 4 * 3, "two of them would take each other's frames for their own");
    }

    #[test]
    fn seeds_and_checksums_are_the_same_in_every_build() {
        let (life, place) = (Life(0x0102_0304), Position::new(3, 4096));
        let seed = super::seed(0x1122_3344_5566_7788, life, place);
        assert_eq!(seed, 0x4a51_ad69);
        assert_eq!(seeded(seed, b"head", b""), 0x05d4_44bd);
        assert_eq!(seeded(seed, b"head", b"rest"), 0xf0a1_661f);
        assert_eq!(seeded(seed, b"headrest", b""), seeded(seed, b"head", b"rest"));
    }
}
