//! What a test does to a feed, made from any row of numbers: the property test, the exploration of
//! crashes and the fuzzer draw from different urns.

/// Answers one of `0..n`.
pub(crate) type Draw<'a> = &'a mut dyn FnMut(usize) -> usize;

/// The names of cursors, by number.
pub(crate) const NAMES: [&str; 3] = ["audit", "billing", "räumung"];
/// The names of kinds, by number.
pub(crate) const KINDS: [&str; 2] = ["note", "order"];
/// The keys of entities, by number: one begins as another does.
pub(crate) const KEYS: [&str; 5] = ["a1", "a2", "b1", "b12", "b2"];
/// How many regions are read.
pub(crate) const REGIONS: usize = 7;
/// How many subscribers there are at a time.
pub(crate) const SLOTS: usize = 3;

/// One entry that is to be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Saying {
    pub(crate) kind: usize,
    pub(crate) key: usize,
    /// Bytes of its payload behind its number.
    pub(crate) length: usize,
}

/// Where a reader begins; places are counted from the newest entry back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Oldest,
    Newest,
    After(usize),
    AfterWhatIsNotThere,
    AtTheTimeOf(usize),
    AtTheEndOfTime,
}

/// How an append waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    Not,
    AsConfigured,
    UntilDurable,
}

/// How a reader reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    OneByOne,
    InABatch,
    /// Asleep until there is something, where it is known that there will be.
    Waiting,
}

/// The cursor of a watcher that is there goes to where the watcher is, less `back`; one further than
/// it is, if `beyond`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Going {
    pub(crate) watcher: usize,
    pub(crate) back: usize,
    pub(crate) beyond: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Append(Saying, Waits),
    /// So many entries of this length in a row: readers fall behind, and segments fill up.
    Fill(usize, usize),
    /// More entries of one entity than a reader looks up at a time.
    Flood(Saying),
    Batch(Vec<Saying>, Vec<Going>, Waits),
    /// A batch under a key, which is remembered.
    Keyed(Saying),
    /// That batch once more, now with a move of a cursor.
    Repeat(Going),
    /// A batch that moves a cursor is made, and committed some time later.
    Prepare(Going),
    CommitPrepared,
    Sync,
    Watch {
        name: usize,
        region: usize,
        from: From,
        visible: bool,
        bounded: bool,
    },
    Read {
        watcher: usize,
        steps: usize,
        how: Reading,
    },
    Checkpoint(usize),
    Drop(usize),
    /// By name; somebody may have it in hand, if it is not let go of.
    Reset {
        name: usize,
        to: From,
        lets_go: bool,
    },
    Retire {
        name: usize,
        lets_go: bool,
    },
    Subscribe {
        slot: usize,
        region: usize,
        from: From,
        visible: Option<bool>,
        limit: Option<(usize, bool)>,
    },
    Take {
        slot: usize,
        items: usize,
        waits: bool,
    },
    Close,
    /// The process is killed so many operations of the disk ago, within the last call.
    Kill(usize),
    /// The power fails then, and the seed decides what is left.
    Crash(usize, u64),
    /// So many syncs succeed yet. Those behind the one that fails do so too, or they succeed without
    /// what it should have written.
    FailSync {
        after: usize,
        forgets: bool,
    },
    /// In the next operation, the write with this number fails.
    FailWrite(usize),
    /// Only so many bytes can be allocated from here on.
    Space(Option<usize>),
}

fn saying(draw: Draw<'_>) -> Saying {
    let (kind, key) = (draw(KINDS.len()), draw(KEYS.len()));
    // Now and then a large one, so that segments fill up.
    let length = if draw(4) == 0 { 3 * draw(250) } else { draw(60) };
    Saying { kind, key, length }
}

fn small(draw: Draw<'_>) -> Saying {
    Saying { length: draw(80), ..saying(draw) }
}

fn from(draw: Draw<'_>) -> From {
    match draw(10) {
        0..=3 => From::Oldest,
        4 | 5 => From::Newest,
        6 => From::After(draw(20)),
        7 => From::AtTheTimeOf(draw(20)),
        8 => From::AtTheEndOfTime,
        _ => From::AfterWhatIsNotThere,
    }
}

fn going(draw: Draw<'_>) -> Going {
    let back = if draw(2) == 0 { 0 } else { draw(12) };
    Going { watcher: draw(NAMES.len()), back, beyond: draw(10) == 9 }
}

fn waits(draw: Draw<'_>) -> Waits {
    [Waits::Not, Waits::AsConfigured, Waits::UntilDurable][draw(3)]
}

impl Operation {
    /// A small one of those that do nothing to the disk but what a caller may ask for.
    pub(crate) fn drawn(draw: Draw<'_>) -> Self {
        match draw(40) {
            0..=4 => Self::Append(saying(draw), waits(draw)),
            5..=7 => Self::Fill(1 + draw(12), if draw(3) == 2 { 700 } else { 8 }),
            8..=11 => {
                let moves = (0..draw(3)).map(|_| going(draw)).collect();
                let how = waits(draw);
                Self::Batch((0..1 + draw(3)).map(|_| small(draw)).collect(), moves, how)
            }
            12 => Self::Keyed(saying(draw)),
            13 => Self::Repeat(going(draw)),
            14 | 38 => Self::Prepare(going(draw)),
            15 => Self::CommitPrepared,
            16 => Self::Sync,
            17..=20 => Self::Watch {
                name: draw(NAMES.len()),
                region: draw(REGIONS),
                from: from(draw),
                visible: draw(2) == 0,
                bounded: draw(4) == 3,
            },
            21..=24 => Self::Read {
                watcher: draw(NAMES.len()),
                steps: if draw(3) == 0 { usize::MAX } else { 1 + draw(9) },
                how: [Reading::OneByOne, Reading::InABatch, Reading::Waiting][draw(3)],
            },
            25..=27 => Self::Checkpoint(draw(NAMES.len())),
            28 => Self::Drop(draw(NAMES.len())),
            29 => Self::Reset { name: draw(NAMES.len()), to: from(draw), lets_go: draw(4) > 0 },
            30 => Self::Retire { name: draw(NAMES.len()), lets_go: draw(4) > 0 },
            31 | 32 => Self::Subscribe {
                slot: draw(SLOTS),
                region: draw(REGIONS),
                from: from(draw),
                visible: [None, Some(true), Some(false)][draw(3)],
                limit: (draw(4) > 0).then(|| (draw(7), draw(4) == 3)),
            },
            33..=36 | 39 => Self::Take {
                slot: draw(SLOTS),
                items: if draw(3) == 0 { usize::MAX } else { 1 + draw(9) },
                waits: draw(3) == 2,
            },
            _ => match draw(3) {
                0 => Self::Kill(0),
                _ => Self::Close,
            },
        }
    }

    /// Now and then one that a process or a disk may not survive, or a large one.
    pub(crate) fn drawn_with_faults(draw: Draw<'_>) -> Self {
        if draw(16) < 15 {
            return Self::drawn(draw);
        }
        match draw(9) {
            8 => Self::Flood(Saying { length: 0, ..saying(draw) }),
            0 | 1 => Self::Kill(if draw(2) == 0 { 0 } else { draw(24) }),
            2..=4 => {
                let back = if draw(2) == 0 { 0 } else { draw(24) };
                Self::Crash(back, (draw(256) << 8 | draw(256)) as u64)
            }
            5 => Self::FailSync { after: draw(6), forgets: draw(2) == 1 },
            6 => Self::FailWrite(draw(4)),
            _ => Self::Space((draw(3) > 0).then(|| draw(256) << 6)),
        }
    }
}
