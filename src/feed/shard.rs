//! The part of the log that a reader waits for, as one bit among many.
//!
//! A batch touches the bits of everything in it: all, its kinds, its entities. Different
//! entities may share a bit; whoever is woken for another looks, and lies down again.

/// How many bits there are. loom explores fewer.
const SHARDS: usize = if cfg!(loom) { 64 } else { 1024 };
pub(crate) const WORDS: usize = SHARDS / 64;

/// One bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shard(u16);

impl Shard {
    /// The readers of everything.
    pub(crate) const ALL: Self = Self(0);

    /// The readers of a kind.
    pub(crate) fn of_kind(kind: u16) -> Self {
        Self::spread(u64::from(kind))
    }

    /// The readers of an entity, by its hash.
    #[allow(clippy::cast_possible_truncation, reason = "some bits of the hash are wanted")]
    pub(crate) fn of_entity(hash: u128) -> Self {
        Self::spread((hash >> 32) as u64)
    }

    #[allow(clippy::cast_possible_truncation, reason = "the remainder fits")]
    fn spread(word: u64) -> Self {
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        // Bit 0 stays with those who wait for everything: they are woken most.
        Self(((word.wrapping_mul(SPREAD) >> 40) % (SHARDS as u64 - 1) + 1) as u16)
    }

    pub(crate) fn word(self) -> usize {
        usize::from(self.0 / 64)
    }

    pub(crate) fn bit(self) -> u64 {
        1 << (self.0 % 64)
    }

    /// The shards of the bits of one word.
    pub(crate) fn of_word(word: usize, bits: u64) -> impl Iterator<Item = Self> {
        let first = u16::try_from(word * 64).unwrap_or(0);
        (0..64).filter(move |bit| bits >> bit & 1 != 0).map(move |bit| Self(first + bit))
    }
}

/// A set of shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Touched([u64; WORDS]);

impl Default for Touched {
    fn default() -> Self {
        Self([0; WORDS])
    }
}

impl Touched {
    pub(crate) fn everything() -> Self {
        Self([u64::MAX; WORDS])
    }

    #[inline]
    pub(crate) fn add(&mut self, shard: Shard) {
        if let Some(word) = self.0.get_mut(shard.word()) {
            *word |= shard.bit();
        }
    }

    pub(crate) fn add_all(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(word, more)| *word |= more);
    }

    pub(crate) fn words(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().copied()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_found_again_in_the_word_that_holds_it_and_none_but_all_is_bit_zero() {
        let shards = (1..5000).flat_map(|n: u16| [Shard::of_kind(n), Shard::of_entity(u128::from(n) << 40)]);
        let mut met = std::collections::HashSet::new();
        for shard in shards {
            assert_ne!(shard, Shard::ALL);
            assert_eq!(Shard::of_word(shard.word(), shard.bit()).collect::<Vec<_>>(), [shard]);
            met.insert(shard);
        }
        assert!(met.len() > SHARDS * 9 / 10, "only {} shards are used", met.len());
    }

    #[test]
    fn sets_are_joined() {
        let (mut a, mut b) = (Touched::default(), Touched::default());
        a.add(Shard::ALL);
        b.add(Shard::of_kind(7));
        a.add_all(&b);
        let shards: Vec<Shard> =
            a.words().enumerate().flat_map(|(at, bits)| Shard::of_word(at, bits)).collect();
        assert_eq!(shards, [Shard::ALL, Shard::of_kind(7)]);
    }
}
