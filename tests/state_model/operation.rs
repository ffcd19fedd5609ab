//! What is done to a store and to its model.

use esker::Behind;

use super::silence::DEADLINE;
use super::{KEYS, SOURCES};

#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Assert {
        source: usize,
        key: usize,
        a: u8,
        b: bool,
    },
    /// Asserts the row that is there.
    Repeat {
        source: usize,
        key: usize,
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
        end: EpochEnd,
    },
    /// A source says it all, and another one some of it; then it begins an epoch in which it says no more than one of them, and
    /// the process is killed behind a part of what its commit tells the disk.
    CutEpoch {
        source: usize,
        keys: u8,
        part: u8,
    },
    /// So many milliseconds go by; somebody looks at deadlines, and may be killed behind a part of that.
    Pass {
        time: u64,
        looks: bool,
        killed: Option<u8>,
    },
    Heartbeat {
        source: usize,
    },
    /// A session ends.
    LetGo {
        source: usize,
    },
    Flush,
    Wait,
    Follow {
        behind: Behind,
        capacity: u64,
        resume: bool,
        catches_up: bool,
    },
    Read {
        items: usize,
    },
    /// A follower leaves; so many changes later compaction drops what it has not seen, and it comes back.
    StayAway {
        source: usize,
        key: usize,
        changes: u8,
    },
    Compact {
        thorough: bool,
    },
    /// So much is said while the disk is full.
    FullDisk {
        source: usize,
        key: usize,
        says: u8,
    },
    /// A sync fails behind so many; then the process ends, with the machine or alone.
    FailSync {
        source: usize,
        after: usize,
        forgets: bool,
        crash: Option<u64>,
    },
    Close,
    /// The next program knows a newer version of the kind.
    Upgrade,
    Kill,
    /// A power cut; whoever follows leaves with a token before that, or without one.
    Crash {
        seed: u64,
        leaves: bool,
    },
    Scan,
}

/// How an epoch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EpochEnd {
    Commits,
    Drops,
    /// Its source is silent for too long before that.
    FallsSilent,
    /// The process is killed behind a part of what its commit tells the disk.
    Killed(u8),
}

/// How often each operation is drawn, of 256: what a byte can say.
const WEIGHTS: [usize; 22] = [53, 8, 24, 45, 8, 12, 12, 2, 4, 26, 4, 15, 14, 8, 4, 2, 2, 3, 1, 3, 2, 4];

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
            1 => Self::Repeat { source, key },
            2 => Self::Patch { source, key, a, other: yes },
            3 => Self::Retract { source, key },
            4 => Self::Update { source, key },
            5 => {
                let end = match below(6) {
                    0..3 => EpochEnd::Commits,
                    3 => EpochEnd::Drops,
                    4 => EpochEnd::FallsSilent,
                    _ => EpochEnd::Killed(byte(below(256))),
                };
                Self::Epoch { source, keys: byte(below(16)), a, end }
            }
            6 if below(2) == 0 => Self::Pass { time: DEADLINE, looks: true, killed: Some(byte(below(256))) },
            6 => {
                let times = [DEADLINE / 3, DEADLINE - 1, DEADLINE, DEADLINE, DEADLINE + 1, DEADLINE * 2];
                Self::Pass { time: times[below(6)], looks: yes, killed: None }
            }
            7 => Self::Heartbeat { source },
            8 => Self::LetGo { source },
            9 => Self::Flush,
            10 => Self::Wait,
            11 => {
                let behind = [Behind::Resume, Behind::Full, Behind::Conflate, Behind::Full][below(4)];
                Self::Follow {
                    behind,
                    capacity: if below(3) == 0 { 4096 } else { 1 },
                    resume: yes,
                    catches_up: a > 0,
                }
            }
            12 => Self::Read { items: below(12) },
            13 => Self::StayAway { source, key, changes: byte(below(12)) },
            14 => Self::Compact { thorough: yes },
            15 => Self::FullDisk { source, key, says: byte(below(12)) },
            16 => {
                let crash = if below(2) == 0 { Some(seed(below)) } else { None };
                Self::FailSync { source, after: below(3), forgets: yes, crash }
            }
            17 => Self::Close,
            18 => Self::Upgrade,
            19 => Self::Kill,
            20 => Self::CutEpoch { source, keys: byte(below(16)), part: byte(below(256)) },
            _ if yes => Self::Crash { seed: seed(below), leaves: a == 0 },
            _ => Self::Scan,
        }
    }
}

fn seed(below: &mut dyn FnMut(usize) -> usize) -> u64 {
    (0..3).fold(0, |seed, _| seed << 8 | below(256) as u64)
}
