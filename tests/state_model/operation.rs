//! What is done to a store and to its model.

use esker::Behind;

use super::{KEYS, SOURCES};

#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Assert {
        source: usize,
        key: usize,
        a: u8,
        b: bool,
    },
    Patch {
        source: usize,
        key: usize,
        a: u8,
        other: bool,
    },
    Retract {
        source: usize,
        key: usize,
    },
    Update {
        source: usize,
        key: usize,
    },
    /// Says some again, and takes back what it does not.
    Epoch {
        source: usize,
        keys: u8,
        a: u8,
        commits: bool,
    },
    Flush,
    Wait,
    Follow {
        behind: Behind,
        capacity: u64,
        resume: bool,
    },
    Read {
        items: usize,
    },
    Compact {
        thorough: bool,
    },
    Close,
    Kill,
    /// A power cut; whoever follows leaves with a token before that, or without one.
    Crash {
        seed: u64,
        leaves: bool,
    },
    Scan,
}

/// How often each operation is drawn.
const WEIGHTS: [usize; 14] = [6, 3, 5, 1, 1, 6, 1, 2, 3, 1, 1, 1, 1, 1];

impl Operation {
    /// One from numbers: `below(n)` gives one below `n`.
    pub(crate) fn drawn(below: &mut dyn FnMut(usize) -> usize) -> Self {
        let mut left = below(WEIGHTS.iter().sum());
        let drawn = WEIGHTS.iter().position(|weight| {
            let is_it = left < *weight;
            left = left.saturating_sub(*weight);
            is_it
        });
        let byte = |n: usize| u8::try_from(n).unwrap_or(0);
        let (source, key, a, yes) = (below(SOURCES.len()), below(KEYS.len()), byte(below(3)), below(2) == 1);
        match drawn.unwrap_or(0) {
            0 => Self::Assert { source, key, a, b: yes },
            1 => Self::Patch { source, key, a, other: yes },
            2 => Self::Retract { source, key },
            3 => Self::Update { source, key },
            4 => Self::Epoch { source, keys: byte(below(16)), a, commits: yes },
            5 => Self::Flush,
            6 => Self::Wait,
            7 => {
                let behind = [Behind::Resume, Behind::Full, Behind::Conflate, Behind::Full][below(4)];
                Self::Follow { behind, capacity: if below(2) == 0 { 2 } else { 4096 }, resume: yes }
            }
            8 => Self::Read { items: below(12) },
            9 => Self::Compact { thorough: yes },
            10 => Self::Close,
            11 => Self::Kill,
            12 => Self::Crash { seed: (0..4).fold(0, |seed, _| seed << 8 | below(256) as u64), leaves: yes },
            _ => Self::Scan,
        }
    }
}
