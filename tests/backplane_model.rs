//! The backplane over a journal against the one in memory, which shares nothing with it: whatever is asked of both, they
//! answer the same, over reopenings, compactions, and crashes in the middle of a commit.
//!
//! Offsets differ (those in memory have holes), so records are told apart by the order in which they came to be.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use esker::backplane::{
    Append, Backplane, Compactor, Done, Feed, Filter, InMemory, Local, Offset, Put, Revision, Stamp, Step,
    StepDone, WriterId,
};
use esker::conformance::Random;
use esker::{Check, CompactOptions, Error, ErrorKind, Options, Simulator, Verdict};
use proptest::prelude::*;
use proptest::test_runner::Config;

const STREAMS: [&str; 2] = ["order", "note"];
const KEYS: [&[u8]; 3] = [b"a", b"b", b"\0*.>\xff"];
const CELLS: [&[u8]; 2] = [b"cell", b"other"];
/// As a step expects what is there, what was there before, or nothing.
#[derive(Clone, Copy, Debug)]
enum Expected {
    Anything,
    Now,
    Before,
    Nothing,
}

#[derive(Clone, Debug)]
enum Wish {
    Append {
        stream: usize,
        key: usize,
        bytes: usize,
        expected: Expected,
        schema: u16,
    },
    Put {
        cell: usize,
        bytes: Option<usize>,
        expected: Expected,
    },
    /// A step of before, with the same or with other content.
    Again {
        which: usize,
        alters: bool,
    },
}

#[derive(Clone, Debug)]
enum Operation {
    Commit(Vec<Wish>),
    Floor {
        stream: usize,
        key: usize,
        at: usize,
    },
    Follow {
        stream: usize,
        key: Option<usize>,
        at: usize,
    },
    Poll {
        which: usize,
        count: usize,
    },
    Compact,
    Reopen,
    Kill {
        seed: u64,
    },
    /// A crash in the middle of what the next commit writes, which is then repeated.
    KillInside {
        wishes: Vec<Wish>,
        seed: u64,
    },
}

fn expected() -> impl Strategy<Value = Expected> {
    prop_oneof![
        4 => Just(Expected::Anything),
        3 => Just(Expected::Now),
        1 => Just(Expected::Before),
        1 => Just(Expected::Nothing),
    ]
}

fn wish() -> impl Strategy<Value = Wish> {
    let bytes = || prop_oneof![Just(0), 1..40usize, 100..400usize];
    prop_oneof![
        6 => (0..2usize, 0..3usize, bytes(), expected(), 0..3u16).prop_map(
            |(stream, key, bytes, expected, schema)| Wish::Append { stream, key, bytes, expected, schema }
        ),
        3 => (0..2usize, prop::option::of(bytes()), expected())
            .prop_map(|(cell, bytes, expected)| Wish::Put { cell, bytes, expected }),
        2 => (any::<usize>(), prop::bool::weighted(0.2))
            .prop_map(|(which, alters)| Wish::Again { which, alters }),
    ]
}

fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    prop::collection::vec(wish(), 1..4)
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        12 => wishes().prop_map(Operation::Commit),
        3 => (0..2usize, 0..3usize, any::<usize>())
            .prop_map(|(stream, key, at)| Operation::Floor { stream, key, at }),
        2 => (0..2usize, prop::option::of(0..3usize), any::<usize>())
            .prop_map(|(stream, key, at)| Operation::Follow { stream, key, at }),
        4 => (any::<usize>(), 1..6usize).prop_map(|(which, count)| Operation::Poll { which, count }),
        2 => Just(Operation::Compact),
        1 => Just(Operation::Reopen),
        1 => any::<u64>().prop_map(|seed| Operation::Kill { seed }),
        2 => (wishes(), any::<u64>()).prop_map(|(wishes, seed)| Operation::KillInside { wishes, seed }),
    ]
}

/// A step that owns what it says.
#[derive(Clone, Debug)]
enum Made {
    Append { stream: usize, key: usize, payload: Vec<u8>, stamp: Stamp, expect: Option<usize>, schema: u16 },
    Put { cell: usize, value: Option<Vec<u8>>, stamp: Stamp, expect: usize },
}

/// No record: what an expectation of none is among indices of records.
const NONE: usize = usize::MAX;

struct World {
    disk: Simulator,
    local: Local,
    memory: InMemory,
    /// The records in the order in which they came to be: where each is on both.
    records: Vec<(Offset, Offset)>,
    /// By stream and key, the indices of its records.
    topics: BTreeMap<(usize, usize), Vec<usize>>,
    /// By cell, the revisions that it has had: on both.
    revisions: [Vec<(Revision, Revision)>; 2],
    made: Vec<Made>,
    numbers: BTreeMap<String, u64>,
    feeds: Vec<(Box<dyn Feed>, Box<dyn Feed>)>,
    dropped: u64,
}

fn options() -> Options {
    Options::new().segment_bytes(8192).background(false)
}

fn kind_of<T>(result: &Result<T, Error>) -> Option<ErrorKind> {
    result.as_ref().err().map(Error::kind)
}

impl World {
    fn new() -> Self {
        let disk = Simulator::new();
        let local = Local::owning(options().open_in(&disk).unwrap()).unwrap();
        Self {
            disk,
            local,
            memory: InMemory::new(),
            records: Vec::new(),
            topics: BTreeMap::new(),
            revisions: [Vec::new(), Vec::new()],
            made: Vec::new(),
            numbers: BTreeMap::new(),
            feeds: Vec::new(),
            dropped: 0,
        }
    }

    fn stamp(&mut self, of: String) -> Stamp {
        let number = self.numbers.entry(of).or_default();
        *number += 1;
        Stamp::new(WriterId::from_raw(1), *number)
    }

    fn make(&mut self, wish: &Wish) -> Option<Made> {
        Some(match *wish {
            Wish::Append { stream, key, bytes, expected, schema } => {
                let stamp = self.stamp(format!("{stream}/{key}"));
                let own = self.topics.get(&(stream, key)).map_or(&[][..], Vec::as_slice);
                let expect = match expected {
                    Expected::Anything => None,
                    Expected::Now => Some(own.last().copied().unwrap_or(NONE)),
                    Expected::Before => Some(own.iter().rev().nth(1).copied().unwrap_or(NONE)),
                    Expected::Nothing => Some(NONE),
                };
                let payload = vec![u8::try_from(stamp.n % 251).unwrap(); bytes];
                Made::Append { stream, key, payload, stamp, expect, schema }
            }
            Wish::Put { cell, bytes, expected } => {
                let now = self.revisions[cell].len().checked_sub(1).unwrap_or(NONE);
                let expect = match expected {
                    Expected::Anything | Expected::Now => now,
                    Expected::Before => now.checked_sub(1).unwrap_or(NONE),
                    Expected::Nothing => NONE,
                };
                let stamp = self.stamp(format!("cell {cell}"));
                Made::Put { cell, value: bytes.map(|bytes| vec![3; bytes]), stamp, expect }
            }
            Wish::Again { which, alters } => {
                let mut again = self.made.get(which.checked_rem(self.made.len())?)?.clone();
                if alters {
                    match &mut again {
                        Made::Append { payload, .. } => payload.push(b'!'),
                        Made::Put { value, .. } => value.get_or_insert_default().push(b'!'),
                    }
                }
                again
            }
        })
    }

    /// What both are asked to do.
    fn steps<'a>(&self, made: &'a [Made], is_local: bool) -> Vec<Step<'a>> {
        let offset = |index: usize| match self.records.get(index) {
            Some((local, memory)) => {
                if is_local {
                    *local
                } else {
                    *memory
                }
            }
            None => Offset::BEGINNING,
        };
        made.iter()
            .map(|made| match made {
                Made::Append { stream, key, payload, stamp, expect, schema } => {
                    let append = Append::new(STREAMS[*stream], KEYS[*key], payload, *stamp).schema(*schema);
                    Step::Append(expect.map_or(append, |index| append.expect(offset(index))))
                }
                Made::Put { cell, value, stamp, expect } => {
                    let known = self.revisions[*cell].get(*expect);
                    let expect = known
                        .map_or(Revision::NEVER, |(local, memory)| if is_local { *local } else { *memory });
                    Step::Put(Put::new(CELLS[*cell], expect, value.as_deref(), *stamp))
                }
            })
            .collect()
    }

    fn commit(&mut self, wishes: &[Wish]) {
        let made: Vec<Made> = wishes.iter().filter_map(|wish| self.make(wish)).collect();
        let local = self.local.commit(&self.steps(&made, true));
        self.compare(made, local);
    }

    /// Has the memory do what the journal has done, and compares.
    fn compare(&mut self, made: Vec<Made>, local: Result<Done, Error>) {
        let memory = self.memory.commit(&self.steps(&made, false));
        // Of two steps that are refused for different reasons, either may be told.
        let either = [Some(ErrorKind::Conflict), Some(ErrorKind::KeyReused)];
        let kinds = [kind_of(&local), kind_of(&memory)];
        let is_alike = kinds[0] == kinds[1] || kinds.iter().all(|kind| either.contains(kind));
        assert!(is_alike, "{local:?} for {memory:?} of {made:?}");
        let (Ok(local), Ok(memory)) = (local, memory) else { return };
        assert_eq!(local.steps.len(), memory.steps.len());
        for ((local, memory), made) in local.steps.iter().zip(&memory.steps).zip(&made) {
            match (local, memory) {
                (
                    StepDone::Appended { offset: here, repeated },
                    StepDone::Appended { offset: there, repeated: also },
                ) => {
                    assert_eq!(repeated, also, "{made:?}");
                    if *repeated {
                        assert!(self.records.contains(&(*here, *there)), "{made:?} was elsewhere");
                    } else {
                        let Made::Append { stream, key, .. } = made else { panic!("{made:?} appended") };
                        self.topics.entry((*stream, *key)).or_default().push(self.records.len());
                        self.records.push((*here, *there));
                    }
                }
                (
                    StepDone::Put { revision: here, repeated },
                    StepDone::Put { revision: there, repeated: also },
                ) => {
                    assert_eq!(repeated, also, "{made:?}");
                    let Made::Put { cell, .. } = made else { panic!("{made:?} changed a cell") };
                    let known = &mut self.revisions[*cell];
                    if *repeated {
                        assert!(known.contains(&(*here, *there)), "{made:?} was another revision");
                    } else {
                        let rises = known.last().is_none_or(|last| *here > last.0 && *there > last.1);
                        assert!(rises, "{made:?}: {here} and {there} behind {known:?}");
                        known.push((*here, *there));
                    }
                }
                _ => panic!("{made:?} came to {local:?} and {memory:?}"),
            }
        }
        self.made.extend(made);
    }

    /// The offsets of a record, or of the beginning, on both.
    fn at(&self, at: usize) -> (Offset, Offset) {
        match at % (self.records.len() + 1) {
            0 => (Offset::BEGINNING, Offset::BEGINNING),
            index => self.records[index - 1],
        }
    }

    fn filter(stream: usize, key: Option<usize>) -> Filter<'static> {
        Filter { stream: STREAMS[stream], key: key.map(|key| KEYS[key]) }
    }

    fn compare_polls(&mut self, which: usize, count: usize) {
        for _ in 0..count {
            let Some(which) = which.checked_rem(self.feeds.len()) else { return };
            let (local, memory) = &mut self.feeds[which];
            let (here, there) = (local.try_next(), memory.try_next());
            assert_eq!(kind_of(&here), kind_of(&there), "{here:?} for {there:?}");
            match (here, there) {
                (Ok(Some(here)), Ok(Some(there))) => {
                    let found = (here.offset(), there.offset());
                    assert!(self.records.contains(&found), "{here:?} for {there:?}");
                    assert_eq!((here.key(), here.payload()), (there.key(), there.payload()));
                    assert_eq!((here.stamp(), here.schema()), (there.stamp(), there.schema()));
                    assert_eq!((local.position(), memory.position()), found);
                }
                (Ok(None), Ok(None)) => return,
                (Err(_), Err(_)) => return drop(self.feeds.swap_remove(which)),
                (here, there) => panic!("{here:?} for {there:?}"),
            }
        }
    }

    fn follow(&mut self, stream: usize, key: Option<usize>, at: usize) -> bool {
        let ((here, there), filter) = (self.at(at), Self::filter(stream, key));
        let (local, memory) = (self.local.subscribe(filter, here), self.memory.subscribe(filter, there));
        let kinds = (local.as_ref().err().map(Error::kind), memory.as_ref().err().map(Error::kind));
        assert_eq!(kinds.0, kinds.1, "{filter} behind {here} and {there}");
        if let (Ok(local), Ok(memory)) = (local, memory) {
            self.feeds.push((local, memory));
            return true;
        }
        false
    }

    fn compare_all(&mut self) {
        for stream in 0..STREAMS.len() {
            for key in std::iter::once(None).chain((0..KEYS.len()).map(Some)) {
                let filter = Self::filter(stream, key);
                for (here, there) in [
                    (self.local.head(filter).unwrap(), self.memory.head(filter).unwrap()),
                    (
                        self.local.lowest_retained(filter).unwrap(),
                        self.memory.lowest_retained(filter).unwrap(),
                    ),
                ] {
                    let is_none = here == Offset::BEGINNING && there == Offset::BEGINNING;
                    assert!(is_none || self.records.contains(&(here, there)), "{filter}: {here} for {there}");
                }
                for at in [0, self.records.len() / 3, self.records.len() / 2] {
                    let others = std::mem::take(&mut self.feeds);
                    if self.follow(stream, key, at) {
                        self.compare_polls(0, usize::MAX);
                    }
                    self.feeds = others;
                }
            }
        }
        for (at, cell) in CELLS.into_iter().enumerate() {
            let (here, there) = (self.local.load(cell).unwrap(), self.memory.load(cell).unwrap());
            assert_eq!(here.bytes, there.bytes);
            let known = self.revisions[at].last().copied().unwrap_or_default();
            assert_eq!((here.revision, there.revision), known);
        }
    }

    /// The disk as a crash leaves it that happens at some event.
    fn crash(&mut self, at: usize, seed: u64) {
        let mut random = Random::new(seed);
        let crashed = self.disk.crash(at, &mut |n| random.below(n));
        self.feeds.clear();
        self.local = Local::owning(options().open_in(&crashed).unwrap()).unwrap();
        self.disk = crashed;
    }

    fn kill_inside(&mut self, wishes: &[Wish], seed: u64) {
        let made: Vec<Made> = wishes.iter().filter_map(|wish| self.make(wish)).collect();
        let before = self.disk.events();
        let first = self.local.commit(&self.steps(&made, true));
        let behind = self.disk.events();
        let at = before + Random::new(seed).below(behind - before + 1);
        self.crash(at, seed ^ 1);
        let again = self.local.commit(&self.steps(&made, true));
        assert_eq!(kind_of(&first), kind_of(&again), "{first:?}, and again {again:?}");
        let again = again.map(|again| as_at_first(again, &first.unwrap()));
        self.compare(made, again);
    }

    fn run(&mut self, operation: &Operation) {
        match operation {
            Operation::Commit(wishes) => self.commit(wishes),
            Operation::Floor { stream, key, at } => {
                let (here, there) = self.at(*at);
                self.local.compact(STREAMS[*stream], KEYS[*key], here).unwrap();
                self.memory.compact(STREAMS[*stream], KEYS[*key], there).unwrap();
            }
            Operation::Follow { stream, key, at } => _ = self.follow(*stream, *key, *at),
            Operation::Poll { which, count } => self.compare_polls(*which, *count),
            Operation::Compact => {
                let done = self.local.journal().compact(&CompactOptions::new().thorough(true)).unwrap();
                self.dropped += done.entries_dropped;
            }
            Operation::Reopen => {
                self.feeds.clear();
                self.local.close().unwrap();
                self.local = Local::owning(options().open_in(&self.disk).unwrap()).unwrap();
            }
            Operation::Kill { seed } => self.crash(self.disk.events(), *seed),
            Operation::KillInside { wishes, seed } => self.kill_inside(wishes, *seed),
        }
    }
}

/// The answer to a commit that was repeated behind a crash, as if it had been the first one. All that was new of it has
/// survived, or nothing of it.
fn as_at_first(mut again: Done, first: &Done) -> Done {
    let mut survived = Vec::new();
    for (again, first) in again.steps.iter_mut().zip(&first.steps) {
        match (again, first) {
            (StepDone::Appended { repeated, .. }, StepDone::Appended { repeated: before, .. })
            | (StepDone::Put { repeated, .. }, StepDone::Put { repeated: before, .. }) => {
                if !before {
                    survived.push(*repeated);
                }
                *repeated = *before;
            }
            (again, first) => panic!("{again:?} for {first:?}"),
        }
    }
    assert!(survived.windows(2).all(|two| two[0] == two[1]), "a part of a commit survived: {survived:?}");
    again
}

fn cases() -> u32 {
    std::env::var("ESKER_BACKPLANE_CASES").ok().map_or(512, |text| text.parse().unwrap())
}

static DROPPED: AtomicU64 = AtomicU64::new(0);

proptest! {
    #![proptest_config(Config { cases: cases(), failure_persistence: None, ..Config::default() })]

    fn both_answer_alike(operations in prop::collection::vec(operation(), 1..60)) {
        let mut world = World::new();
        for operation in &operations {
            world.run(operation);
        }
        world.compare_all();
        world.run(&Operation::Compact);
        world.compare_all();
        let verified = world.local.journal().verify(Check::Full).unwrap();
        prop_assert_eq!(verified.verdict, Verdict::Valid, "{:?}", verified.findings);
        DROPPED.fetch_add(world.dropped, Ordering::Relaxed);
    }
}

#[test]
fn the_journal_and_the_memory_answer_alike_whatever_happens() {
    both_answer_alike();
    // A run in which compaction never drops anything shows nothing of it.
    let dropped = DROPPED.load(Ordering::Relaxed);
    assert!(dropped > u64::from(cases()) / 4, "{dropped} entries dropped in {} cases", cases());
}
