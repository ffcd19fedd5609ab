//! A store on a simulated disk, and readers beside it that follow a kind: whatever is said, lost, compacted and reopened, what was
//! gathered is the rows of the moment that its token names, by whichever door it was gathered and goes on.
//!
//! A simulated mapping shows what there was when it was made, so each look is a reader of its own, which goes on from the
//! token of the one before; `tests/state/beside.rs` has those that stay.
//!
//! `ESKER_BESIDE_CASES=10000 cargo test --release --test beside_model` looks longer; a failure is shrunk and shown.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use esker::{
    Because, Behind, ChangeKind, CompactOptions, Durability, EventItem, Kind, Marker, Options, Reader,
    Simulator, Source, Start, StateItem, Store, StoreView, SubscriptionBuilder, Token, Until, Window,
};
use proptest::collection::vec;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
struct Row {
    a: u32,
    b: String,
}

const ROW: Kind<Row> = Kind::new("row").events();
const KEYS: [&str; 4] = ["a", "b", "c", "d"];

/// Rows by key, with their versions.
type Moment = BTreeMap<Vec<u8>, (u64, Row)>;

#[derive(Clone, Copy, Debug)]
enum Operation {
    /// `None`: it is retracted.
    Say {
        key: usize,
        a: Option<u8>,
    },
    Flush,
    Sync,
    Compact,
    Reopen,
    /// The machine loses power, or only the process is killed.
    Crash {
        seed: u8,
        is_power_cut: bool,
    },
    /// Goes on beside the writer, or in its process; a small capacity is passed.
    Follow {
        follower: usize,
        beside: bool,
        behind: Behind,
        capacity: u64,
        /// Beside the writer it asked for what is visible.
        is_early: bool,
    },
    /// Takes so many steps of what it would be told beside the writer, and is gone: what it had gathered before is what counts.
    Stumble {
        follower: usize,
        steps: u8,
    },
}

fn operation() -> impl Strategy<Value = Operation> {
    let behind = prop_oneof![
        Just(Behind::End),
        Just(Behind::Full),
        Just(Behind::Resume),
        Just(Behind::LiveOnly),
        Just(Behind::Conflate),
    ];
    let capacity = prop_oneof![Just(0u64), Just(1), Just(4096)];
    let follow = (0..2usize, any::<bool>(), behind, capacity, any::<bool>());
    prop_oneof![
        20 => (0..KEYS.len(), proptest::option::weighted(0.7, 0..4u8)).prop_map(|(key, a)| Operation::Say { key, a }),
        12 => Just(Operation::Flush),
        3 => Just(Operation::Sync),
        4 => Just(Operation::Compact),
        2 => Just(Operation::Reopen),
        3 => any::<(u8, bool)>().prop_map(|(seed, is_power_cut)| Operation::Crash { seed, is_power_cut }),
        12 => follow.prop_map(|(follower, beside, behind, capacity, is_early)| {
            Operation::Follow { follower, beside, behind, capacity, is_early }
        }),
        2 => (0..2usize, any::<u8>()).prop_map(|(follower, steps)| Operation::Stumble { follower, steps }),
    ]
}

/// What is rare, and was met.
static MET: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn met(what: impl Into<String>) {
    MET.lock().unwrap().insert(what.into());
}

/// Somebody who keeps what he has gathered with the token that it is of: both, or what he had before.
#[derive(Default)]
struct Follower {
    gathered: Moment,
    token: Option<Token>,
    /// The number of the last event that it was told.
    events: u64,
}

struct World {
    disk: Simulator,
    durability: Durability,
    /// `None` only within a step.
    open: Option<(Store, Source)>,
    /// The rows behind each flush, by the last Seq of the log then.
    moments: BTreeMap<u64, Moment>,
    /// Up to here nothing is lost.
    durable: u64,
    followers: [Follower; 2],
}

fn open(disk: &Simulator, durability: Durability) -> (Store, Source) {
    let options = Options::new().background(false).window(Window::Manual).segment_bytes(8192);
    let store = Store::over(options.durability(durability).open_in(disk).unwrap());
    let source = store.source("radar").unwrap();
    (store, source)
}

/// What the disk has behind a start of the machine: what the lock page says is of another one.
fn started_anew(disk: &Simulator) -> Simulator {
    let mut files = disk.files();
    files.remove("LOCK");
    Simulator::with(files)
}

fn rows(view: &StoreView) -> Moment {
    let rows = view.rows(ROW).unwrap().map(Result::unwrap);
    rows.map(|row| (row.key().to_vec(), (row.version(), row.value().unwrap()))).collect()
}

fn last_seq(view: &StoreView) -> u64 {
    view.entries().last_seq().unwrap().map_or(0, u64::from)
}

type Checked = Result<(), String>;

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(what()) }
}

impl World {
    fn new(durability: Durability) -> Self {
        let disk = Simulator::new();
        let open = Some(open(&disk, durability));
        let moments = BTreeMap::from([(0, Moment::new())]);
        let followers = Default::default();
        Self { disk, durability, open, moments, durable: 0, followers }
    }

    fn store(&self) -> &Store {
        &self.open.as_ref().unwrap().0
    }

    fn step(&mut self, operation: Operation) -> Checked {
        let (store, source) = self.open.as_ref().unwrap();
        match operation {
            Operation::Say { key, a } => {
                match a {
                    // Some are long, so that segments fill. A window never holds so much that one operation ends two.
                    Some(a) => {
                        let b = "x".repeat(if a == 2 { 150 } else { 40 });
                        source.assert(ROW, KEYS[key], &Row { a: u32::from(a), b }).map(drop)
                    }
                    None => source.retract(ROW, KEYS[key]).map(drop),
                }
                .unwrap();
                self.note();
            }
            Operation::Flush => {
                store.flush().unwrap();
                self.note();
            }
            Operation::Sync => {
                store.sync().unwrap();
                self.note();
            }
            Operation::Compact => {
                let done = store.journal().compact(&CompactOptions::new()).unwrap();
                if done.entries_dropped > 0 {
                    met("something was compacted");
                    // Here no page tells readers how far the log was durable then: the next frame does.
                    source.assert(ROW, KEYS[0], &Row { a: 9, b: String::new() }).unwrap();
                    store.flush().unwrap();
                }
                self.note();
            }
            Operation::Reopen => {
                store.flush().unwrap();
                self.note();
                let (store, source) = self.open.take().unwrap();
                drop(source);
                store.close().unwrap();
                self.open = Some(open(&self.disk, self.durability));
                self.recognise()?;
            }
            Operation::Crash { seed, is_power_cut } => self.crash(seed, is_power_cut)?,
            Operation::Follow { follower, beside, behind, capacity, is_early } => {
                let until = if is_early { Until::Visible } else { Until::Durable };
                self.follow(follower, beside.then_some(until), behind, capacity, usize::MAX)?;
            }
            Operation::Stumble { follower, steps } => {
                let until = Some(Until::Durable);
                self.follow(follower, until, Behind::Resume, 2, usize::from(steps % 8))?;
            }
        }
        Ok(())
    }

    /// Remembers what there is, under the last Seq of the log.
    fn note(&mut self) {
        let view = self.store().view();
        let (last, rows) = (last_seq(&view), rows(&view));
        self.moments.insert(last, rows);
        let durable = self.store().journal().durable();
        if view.entries().end() <= durable {
            self.durable = last;
        }
    }

    /// What was opened is a moment, with everything in it that was durable, or told as that.
    fn recognise(&mut self) -> Checked {
        let view = self.store().view();
        let (last, rows) = (last_seq(&view), rows(&view));
        ensure(last >= self.durable, || format!("{last} of {} that were durable", self.durable))?;
        for (at, follower) in self.followers.iter().enumerate() {
            let seq = follower.token.and_then(|token| token.seq()).map_or(0, u64::from);
            ensure(seq <= last, || {
                format!("follower {at} has a token of {seq}, and the log ends with {last}")
            })?;
        }
        self.moments.retain(|seq, _| *seq <= last);
        let known = self.moments.values().next_back();
        ensure(known == Some(&rows), || format!("{rows:?} at {last}, not {known:?}"))?;
        self.note();
        Ok(())
    }

    fn crash(&mut self, seed: u8, is_power_cut: bool) -> Checked {
        let events = self.disk.events();
        let before = self.moments.len();
        let mut state = u64::from(seed) * 2 + 1;
        let crashed = if is_power_cut {
            self.disk.crash(events, &mut |n| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                usize::try_from(state >> 33).unwrap() % n
            })
        } else {
            self.disk.kill(events)
        };
        self.disk = if is_power_cut { started_anew(&crashed) } else { crashed };
        // Nobody has opened it yet.
        self.open = None;
        for follower in 0..self.followers.len() {
            self.follow_at_rest(follower)?;
        }
        self.open = Some(open(&self.disk, self.durability));
        self.recognise()?;
        if self.moments.len() < before {
            met("a crash took a flush");
        }
        Ok(())
    }

    /// Beside nobody: behind a crash, before the next opening.
    fn follow_at_rest(&mut self, follower: usize) -> Checked {
        let reader = Reader::open_on(&self.disk).unwrap();
        self.gather(follower, reader.subscription(ROW).behind(Behind::Resume), usize::MAX).map(drop)
    }

    /// `beside`: how far it sees of what another process writes; `None`: it is in the process that writes.
    fn follow(
        &mut self,
        follower: usize,
        beside: Option<Until>,
        behind: Behind,
        capacity: u64,
        steps: usize,
    ) -> Checked {
        let reader = beside.map(|_| Reader::open_on(&self.disk).unwrap());
        let builder = match (&reader, beside) {
            (Some(reader), Some(until)) => reader.subscription(ROW).until(until),
            _ => self.store().subscription(ROW),
        };
        let gathered = self.gather(follower, builder.behind(behind).capacity(capacity), steps)?;
        if beside != Some(Until::Durable) {
            let now = rows(&self.store().view());
            ensure(gathered.as_ref() == Some(&now), || format!("gathered {gathered:?} of {now:?}"))?;
        }
        if beside.is_none() {
            // It has asked for a sync.
            self.note();
        }
        if let (Some(reader), usize::MAX) = (reader, steps) {
            self.hear(follower, &reader)?;
        }
        Ok(())
    }

    /// Takes in what it is told, and keeps it if it comes to a place that a token names. Answers with it if it was told all.
    fn gather(
        &mut self,
        follower: usize,
        builder: SubscriptionBuilder<Row>,
        steps: usize,
    ) -> Result<Option<Moment>, String> {
        let Follower { gathered, token, .. } = &self.followers[follower];
        let builder = token.map_or(builder.clone(), |token| builder.resume(token));
        let mut changes = builder.start().unwrap();
        let mut gathered = gathered.clone();
        let mut is_all = false;
        for _ in 0..steps {
            let Some(item) = changes.try_next().unwrap() else {
                is_all = true;
                break;
            };
            take_in(&mut gathered, &item)?;
        }
        let told = is_all.then(|| gathered.clone());
        let Some(token) = changes.token().unwrap() else {
            met(if is_all { "it was told what is not durable" } else { "it was gone in the middle" });
            return Ok(told);
        };
        let seq = token.seq().map_or(0, u64::from);
        let (_, expected) = self.moments.range(..=seq).next_back().unwrap();
        ensure(gathered == *expected, || format!("gathered {gathered:?} at {seq}, not {expected:?}"))?;
        let before = self.followers[follower].token.replace(token).and_then(|token| token.seq());
        ensure(before <= token.seq(), || format!("it went back from {before:?} to {token}"))?;
        self.followers[follower].gathered = gathered;
        Ok(told)
    }

    /// Events are told without a hole, for all of them are kept, and those that were told as durable are never lost. (How far that
    /// is, nobody says behind an opening until there is a frame.)
    fn hear(&mut self, follower: usize, reader: &Reader) -> Checked {
        let (durable, visible) = (last_event(reader, Until::Durable)?, last_event(reader, Until::Visible)?);
        let before = self.followers[follower].events;
        ensure(durable <= visible && before <= visible, || {
            format!("{durable} and {visible} events, and it was told {before}")
        })?;
        self.followers[follower].events = durable.max(before);
        Ok(())
    }
}

fn last_event(reader: &Reader, until: Until) -> Result<u64, String> {
    let mut events = reader.events(ROW).from(Start::Oldest).until(until).start().unwrap();
    let mut last = 0;
    while let Some(item) = events.try_next().unwrap() {
        let EventItem::Event(event) = item else { return Err(format!("{item:?}")) };
        let number = event.sequence().unwrap();
        ensure(number == last + 1, || format!("event {number} behind {last}"))?;
        last = number;
    }
    Ok(last)
}

fn take_in(gathered: &mut Moment, item: &StateItem<'_, Row>) -> Checked {
    match item {
        StateItem::Marker(Marker::BootstrapBegin { because, .. }) => {
            // A token is of a moment that was durable.
            ensure(*because != Some(Because::Rewound) && *because != Some(Because::OtherStore), || {
                format!("{because:?}")
            })?;
            met(format!("all the rows: {because:?}"));
            gathered.clear();
        }
        StateItem::Marker(Marker::BootstrapComplete { .. }) => {}
        StateItem::Marker(marker) => return Err(format!("{marker:?}")),
        StateItem::Change(change) => {
            met(format!("{:?}", change.kind()));
            let key = change.key().to_vec();
            let row = change.value().unwrap().map(|value| (change.version(), value));
            let before = match &row {
                Some(row) => gathered.insert(key, row.clone()),
                None => gathered.remove(&key),
            };
            let was_there = matches!(change.kind(), ChangeKind::Updated | ChangeKind::Deleted);
            ensure(before.is_some() == was_there, || format!("{change:?} behind {before:?}"))?;
            ensure(before.is_none_or(|(version, _)| version < change.version()), || format!("{change:?}"))?;
        }
        other => return Err(format!("{other:?}")),
    }
    Ok(())
}

fn cases() -> u32 {
    std::env::var("ESKER_BESIDE_CASES").ok().map_or(300, |value| value.parse().expect("a number"))
}

/// What the model must not miss.
const RARE: [&str; 10] = [
    "Bootstrap",
    "Created",
    "Deleted",
    "Updated",
    "a crash took a flush",
    "all the rows: None",
    "all the rows: Some(Compacted)",
    "it was gone in the middle",
    "it was told what is not durable",
    "something was compacted",
];

#[test]
fn what_is_gathered_beside_a_writer_is_what_its_token_names() {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        max_shrink_iters: 4000,
        ..ProptestConfig::default()
    });
    let durability = prop_oneof![Just(Durability::Sync), Just(Durability::Os)];
    let worlds = (durability, vec(operation(), 1..120));
    let outcome = runner.run(&worlds, |(durability, operations)| {
        let mut world = World::new(durability);
        for (at, operation) in operations.into_iter().enumerate() {
            let stepped = world.step(operation);
            stepped
                .map_err(|error| TestCaseError::fail(format!("operation {at}, {operation:?}: {error}")))?;
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    let met = MET.lock().unwrap();
    let missed: Vec<_> = RARE.iter().filter(|rare| !met.contains(**rare)).collect();
    assert!(missed.is_empty(), "never met: {missed:?}, only {met:?}");
}
