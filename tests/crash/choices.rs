//! Which of the possible contents a crash leaves: all of them where they are few, else a sample.

use std::collections::BTreeMap;

/// A small generator of numbers (SplitMix64): the same on every run.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.word() % n.max(1) as u64).unwrap()
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Everything that a crash decides, as a counter whose digits are found as it runs.
#[derive(Debug, Default)]
struct Odometer {
    /// The value and the number of possibilities of each decision.
    digits: Vec<(usize, usize)>,
}

impl Odometer {
    fn run<T>(&mut self, crash: &mut impl FnMut(&mut dyn FnMut(usize) -> usize) -> T) -> T {
        let mut at = 0;
        let digits = &mut self.digits;
        let outcome = crash(&mut |n| {
            if at == digits.len() {
                digits.push((0, n));
            }
            at += 1;
            digits[at - 1].0.min(n - 1)
        });
        digits.truncate(at);
        outcome
    }

    /// The next combination. False: that was the last one.
    fn advance(&mut self) -> bool {
        while let Some((value, n)) = self.digits.pop() {
            if value + 1 < n {
                self.digits.push((value + 1, n));
                return true;
            }
        }
        false
    }
}

/// Runs `crash` with nothing new, with everything new, and with every combination in between if
/// they are at most `all`, else with `some` of them.
pub(crate) fn each_outcome<T>(
    all: usize,
    some: usize,
    dice: &mut Dice,
    mut crash: impl FnMut(&mut dyn FnMut(usize) -> usize) -> T,
    mut look: impl FnMut(T),
) {
    let mut odometer = Odometer::default();
    let mut outcomes = vec![odometer.run(&mut crash)];
    // One decision may open up others, so that only counting shows how many there are.
    let mut more = odometer.advance();
    while more && outcomes.len() < all {
        outcomes.push(odometer.run(&mut crash));
        more = odometer.advance();
    }
    if !more {
        return outcomes.into_iter().for_each(look);
    }
    outcomes.truncate(1);
    outcomes.into_iter().for_each(&mut look);
    look(crash(&mut |n| n - 1));
    for turn in 0..some {
        // Some crashes lose little, some lose much, and some are tossed.
        let outcome = match turn % 3 {
            0 => crash(&mut |n| dice.below(n)),
            1 => crash(&mut |n| if dice.one_in(6) { dice.below(n) } else { n - 1 }),
            _ => crash(&mut |n| if dice.one_in(6) { dice.below(n) } else { 0 }),
        };
        look(outcome);
    }
}

/// Tells images apart, word by word: they are many, and mostly zeros.
pub(crate) fn fingerprint(files: &BTreeMap<String, Vec<u8>>) -> u64 {
    let mix = |sum: u64, word: u64| (sum.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    files.iter().fold(0, |sum, (name, bytes)| {
        let sum = name.bytes().fold(mix(sum, bytes.len() as u64), |sum, byte| mix(sum, u64::from(byte)));
        let (words, rest) = bytes.as_chunks::<8>();
        let sum = words.iter().fold(sum, |sum, word| mix(sum, u64::from_le_bytes(*word)));
        rest.iter().fold(sum, |sum, byte| mix(sum, u64::from(*byte)))
    })
}
