//! What is done to a store, to its mirror, and to the mirror's target.

use super::{KEYS, SOURCES};

/// One operation of a source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Saying {
    pub(crate) source: usize,
    pub(crate) key: usize,
    /// `None`: it retracts.
    pub(crate) a: Option<u8>,
}

/// Where a call of the target ends otherwise than well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    AtToken,
    /// Behind so many rows or changes.
    Behind(usize),
    BeforeCommit,
    AfterCommit,
}

#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Say(Saying),
    Flush,
    /// A round, in which the target fails or panics, and during which something is flushed or compacted.
    CatchUp {
        fault: Fault,
        panics: bool,
        during: Option<Saying>,
        compacts: bool,
    },
    Compact,
    /// The process ends in order, and the mirror begins anew, under a name or without.
    Close {
        named: bool,
    },
    /// The process is killed.
    Kill {
        named: bool,
    },
    /// The power is cut.
    Crash {
        seed: u64,
        named: bool,
    },
    /// The store goes back to an earlier moment, and to another era.
    Repair {
        back: usize,
        named: bool,
    },
    /// The target goes back to an earlier transaction, as from a backup.
    PutBack {
        back: usize,
    },
    /// The kind's rows get other values.
    Upgrade {
        named: bool,
    },
}

/// How often each operation is drawn.
const WEIGHTS: [usize; 10] = [14, 8, 8, 3, 1, 1, 1, 1, 1, 1];

impl Operation {
    /// One from numbers: `below(n)` gives one below `n`.
    pub(crate) fn drawn(below: &mut dyn FnMut(usize) -> usize) -> Self {
        let mut left = below(WEIGHTS.iter().sum());
        let drawn = WEIGHTS.iter().position(|weight| {
            let is_it = left < *weight;
            left = left.saturating_sub(*weight);
            is_it
        });
        let saying = |below: &mut dyn FnMut(usize) -> usize| Saying {
            source: below(SOURCES.len()),
            key: below(KEYS.len()),
            a: Some(below(5)).filter(|a| *a < 3).and_then(|a| u8::try_from(a).ok()),
        };
        match drawn.unwrap_or(0) {
            0 => Self::Say(saying(below)),
            1 => Self::Flush,
            2 => Self::CatchUp {
                fault: match below(8) {
                    0 => Fault::AtToken,
                    1 => Fault::Behind(1 + below(3)),
                    2 => Fault::BeforeCommit,
                    3 => Fault::AfterCommit,
                    _ => Fault::None,
                },
                panics: below(2) == 0,
                during: (below(2) == 0).then(|| saying(below)),
                compacts: below(3) == 0,
            },
            3 => Self::Compact,
            4 => Self::Close { named: below(2) == 0 },
            5 => Self::Kill { named: below(2) == 0 },
            6 => Self::Crash {
                named: below(2) == 0,
                seed: (0..4).fold(0, |seed, _| seed << 8 | below(256) as u64),
            },
            7 => Self::Repair { back: below(40), named: below(2) == 0 },
            8 => Self::PutBack { back: below(8) },
            _ => Self::Upgrade { named: below(2) == 0 },
        }
    }
}
