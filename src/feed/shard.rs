//! The part of the log that a reader waits for, and the parts that batches touch.
//!
//! A batch touches everything, its kinds, and its entities. A few of these are remembered as what they
//! are; of more there is only one bit among many. Different entities may share a bit; whoever is woken
//! for another looks, and lies down again.

/// How many bits there are. loom explores fewer.
const SHARDS: usize = if cfg!(loom) { 64 } else { 1024 };
pub(crate) const WORDS: usize = SHARDS / 64;

/// What a reader waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Interest(u128);

/// Numbers below are not those of entities.
const ENTITIES: u128 = 1 << 17;

impl Interest {
    /// Everything.
    pub(crate) const ALL: Self = Self(0);

    /// A kind.
    pub(crate) fn of_kind(kind: u16) -> Self {
        Self(1 + u128::from(kind))
    }

    /// An entity, by its hash.
    pub(crate) fn of_entity(hash: u128) -> Self {
        Self(hash.max(ENTITIES))
    }

    #[allow(clippy::cast_possible_truncation, reason = "some bits of the hash are wanted")]
    pub(crate) fn shard(self) -> Shard {
        match self.0 {
            0 => Shard(0),
            kind if kind < ENTITIES => Shard::spread(kind as u64),
            hash => Shard::spread((hash >> 32) as u64),
        }
    }
}

/// One bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shard(u16);

impl Shard {
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

/// So many interests are remembered as what they are.
const EXACT_MAX: usize = 48;

/// What batches have touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Touched {
    bits: [u64; WORDS],
    /// `None`: there were too many.
    exact: Option<Vec<Interest>>,
}

impl Default for Touched {
    fn default() -> Self {
        Self { bits: [0; WORDS], exact: Some(Vec::new()) }
    }
}

impl Touched {
    pub(crate) fn everything() -> Self {
        Self { bits: [u64::MAX; WORDS], exact: None }
    }

    #[inline]
    pub(crate) fn add(&mut self, interest: Interest) {
        let shard = interest.shard();
        if let Some(word) = self.bits.get_mut(shard.word()) {
            *word |= shard.bit();
        }
        match &mut self.exact {
            Some(exact) if exact.contains(&interest) => {}
            Some(exact) if exact.len() < EXACT_MAX => exact.push(interest),
            _ => self.exact = None,
        }
    }

    pub(crate) fn add_all(&mut self, other: &Self) {
        match &other.exact {
            Some(exact) => exact.iter().for_each(|interest| self.add(*interest)),
            None => self.exact = None,
        }
        self.bits.iter_mut().zip(other.bits).for_each(|(word, more)| *word |= more);
    }

    /// All interests that were touched, if they are known.
    pub(crate) fn exact(&self) -> Option<&[Interest]> {
        self.exact.as_deref()
    }

    pub(crate) fn words(&self) -> impl Iterator<Item = u64> + '_ {
        self.bits.iter().copied()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_found_again_in_the_word_that_holds_it_and_none_but_all_is_bit_zero() {
        let interests =
            (1..5000).flat_map(|n: u16| [Interest::of_kind(n), Interest::of_entity(u128::from(n) << 40)]);
        let mut met = std::collections::HashSet::new();
        for shard in interests.map(Interest::shard) {
            assert_ne!(shard, Interest::ALL.shard());
            assert_eq!(Shard::of_word(shard.word(), shard.bit()).collect::<Vec<_>>(), [shard]);
            met.insert(shard);
        }
        assert!(met.len() > SHARDS * 9 / 10, "only {} shards are used", met.len());
    }

    #[test]
    fn a_few_interests_are_known_exactly_and_of_many_the_bits_are_left() {
        let (mut a, mut b) = (Touched::default(), Touched::default());
        a.add(Interest::ALL);
        b.add(Interest::of_kind(7));
        b.add(Interest::of_kind(7));
        a.add_all(&b);
        assert_eq!(a.exact(), Some(&[Interest::ALL, Interest::of_kind(7)][..]));
        let shards = |touched: &Touched| -> Vec<Shard> {
            touched.words().enumerate().flat_map(|(at, bits)| Shard::of_word(at, bits)).collect()
        };
        assert_eq!(shards(&a), [Interest::ALL.shard(), Interest::of_kind(7).shard()]);
        (0..100).for_each(|n| b.add(Interest::of_entity(n << 64)));
        assert_eq!(b.exact(), None);
        a.add_all(&b);
        assert_eq!(a.exact(), None);
        for n in 0..100 {
            assert!(shards(&a).contains(&Interest::of_entity(n << 64).shard()), "{n}");
        }
        assert_eq!(Touched::everything().exact(), None);
    }
}
