//! A store beside a list of whole states, one behind each batch.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use esker::{
    CompactOptions, Durability, ErrorKind, Facts, Keep, Kind, ManualClock, Options, Seq, Simulator, Source,
    Status, Store, StoreView, Version, Window,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    a: u8,
    text: String,
}

impl Row {
    pub(crate) fn new(a: u8) -> Self {
        Self { a, text: "x".repeat(usize::from(a) * 20) }
    }

    pub(crate) fn a(&self) -> u8 {
        self.a
    }
}

/// Of one kind the newest row of each entity is kept, of the other one all.
const ROWS: [Kind<Row>; 2] = [Kind::new("newest"), Kind::new("all")];
/// Of these too, of the third one nothing, and of the noise, which makes the log long.
const FACTS: [Facts<u64>; 3] = [Facts::new("newest fact"), Facts::new("every fact"), Facts::new("no fact")];
const NOISE: Facts<String> = Facts::new("noise");
const KEYS: [&str; 4] = ["a", "b", "c", "d"];
const SOURCES: [&str; 2] = ["one", "two"];

#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Assert {
        source: usize,
        kind: usize,
        key: usize,
        a: u8,
    },
    Retract {
        source: usize,
        kind: usize,
        key: usize,
    },
    Flush,
    Fact {
        kind: usize,
        key: usize,
    },
    Noise {
        bytes: usize,
    },
    /// A fact, rows of both kinds and noise, in this order or another.
    Batch {
        key: usize,
        other: usize,
        a: u8,
        noise_first: bool,
    },
    Compact {
        thorough: bool,
    },
    /// Of the kind of which all else is kept, so that it is told apart.
    Erase {
        key: usize,
    },
    Wait {
        seconds: u64,
    },
    Close,
    Crash {
        seed: u64,
    },
    Look {
        at: usize,
    },
}

/// How often each operation is drawn.
const WEIGHTS: [usize; 12] = [6, 3, 6, 4, 4, 3, 3, 1, 1, 1, 2, 4];

impl Operation {
    /// One from numbers: `below(n)` gives one below `n`.
    pub(crate) fn drawn(below: &mut dyn FnMut(usize) -> usize) -> Self {
        let mut left = below(WEIGHTS.iter().sum());
        let drawn = WEIGHTS.iter().position(|weight| {
            let is_it = left < *weight;
            left = left.saturating_sub(*weight);
            is_it
        });
        let (source, kind, key, yes) = (below(2), below(2), below(KEYS.len()), below(2) == 1);
        let a = u8::try_from(below(4)).unwrap();
        match drawn.unwrap() {
            0 => Self::Assert { source, kind, key, a },
            1 => Self::Retract { source, kind, key },
            2 => Self::Flush,
            3 => Self::Fact { kind: (kind + below(2)) % FACTS.len(), key },
            4 => Self::Noise { bytes: 1000 + 2000 * usize::from(yes) },
            5 => Self::Batch { key, other: below(KEYS.len()), a, noise_first: yes },
            6 => Self::Compact { thorough: yes },
            7 => Self::Close,
            8 => Self::Crash { seed: (0..4).fold(1, |seed, _| seed << 8 | below(256) as u64) },
            9 => Self::Erase { key },
            10 => Self::Wait { seconds: 1 + 400 * u64::from(yes) },
            _ => Self::Look { at: below(256) << 8 | below(256) },
        }
    }
}

/// How an entity is, and every version that it ever had.
#[derive(Clone, Debug, Default)]
struct Entity {
    row: Option<Row>,
    status: Option<Status>,
    /// Versions, and their rows; `None`: it was deleted.
    versions: Vec<(u64, Option<Row>)>,
}

/// All that there was behind a batch.
#[derive(Clone, Debug, Default)]
struct Moment {
    /// The last Seq of the batch.
    through: u64,
    entities: BTreeMap<(usize, &'static str), Entity>,
    facts: BTreeMap<(usize, &'static str), Vec<u64>>,
}

/// What is rare, and how often it was met.
pub(crate) static MET: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

fn met(what: &'static str) {
    *MET.lock().unwrap().entry(what).or_default() += 1;
}

pub(crate) struct World {
    durability: Durability,
    /// Each entry is a batch by itself, so that none is told to be compacted for what another kind has lost.
    alone: bool,
    disk: Simulator,
    clock: ManualClock,
    store: Store,
    /// Facts of this kind were erased.
    has_erased: bool,
    has_waited: bool,
    sources: Vec<Source>,
    /// One behind each batch, the empty store first.
    moments: Vec<Moment>,
    /// Something was dropped.
    is_compacted: bool,
    facts: u64,
    /// Operations that are pending.
    said: u32,
}

fn open(disk: &Simulator, clock: &ManualClock, durability: Durability) -> Store {
    let options =
        Options::new().durability(durability).background(false).window(Window::Manual).segment_bytes(16384);
    Store::over(options.clock(clock.clone()).open_in(disk).unwrap())
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

fn text(error: esker::Error) -> String {
    error.to_string()
}

impl World {
    pub(crate) fn new(durability: Durability, alone: bool) -> Self {
        let disk = Simulator::new();
        let clock = ManualClock::new();
        let store = open(&disk, &clock, durability);
        let mut world = Self {
            durability,
            alone,
            disk,
            clock,
            store,
            has_erased: false,
            has_waited: false,
            sources: Vec::new(),
            moments: vec![Moment::default()],
            is_compacted: false,
            facts: 0,
            said: 0,
        };
        world.claim();
        // A kind is known from its first use on.
        for kind in ROWS {
            world.sources[0].assert(kind, KEYS[0], &Row::new(0)).unwrap();
            world.flush().unwrap();
        }
        for kind in [0, 2] {
            world.store.append(FACTS[kind], KEYS[0], &0).unwrap();
            world.note_fact(kind, KEYS[0], 0);
        }
        world.store.append(NOISE, "noise", &String::new()).unwrap();
        world.note();
        let journal = world.store.journal();
        let id = |name| journal.kind_named(name).unwrap().id;
        journal.keep(id(ROWS[1].name()), Keep::All).unwrap();
        journal.keep(id(FACTS[0].name()), Keep::Latest).unwrap();
        journal.keep(id(FACTS[2].name()), Keep::Nothing).unwrap();
        journal.keep(id(NOISE.name()), Keep::Nothing).unwrap();
        world.store.sync().unwrap();
        world
    }

    fn claim(&mut self) {
        self.sources = SOURCES.iter().map(|name| self.store.source(name).unwrap()).collect();
    }

    fn newest(&self) -> u64 {
        self.store.journal().view().last_seq().unwrap().map_or(0, Seq::get)
    }

    pub(crate) fn step(&mut self, operation: &Operation) -> Result<(), String> {
        match operation {
            Operation::Assert { source, kind, key, a } => {
                self.sources[*source].assert(ROWS[*kind], KEYS[*key], &Row::new(*a)).map_err(text)?;
                self.flush_if_much()
            }
            Operation::Retract { source, kind, key } => {
                self.sources[*source].retract(ROWS[*kind], KEYS[*key]).map_err(text)?;
                self.flush_if_much()
            }
            Operation::Flush => self.flush(),
            Operation::Fact { kind, key } => {
                self.flush()?;
                self.facts += 1;
                self.store.append(FACTS[*kind], KEYS[*key], &self.facts).map_err(text)?;
                self.note_fact(*kind, KEYS[*key], self.facts);
                Ok(())
            }
            Operation::Noise { bytes } => {
                self.flush()?;
                self.store.append(NOISE, "noise", &"n".repeat(*bytes)).map_err(text)?;
                self.note();
                Ok(())
            }
            Operation::Batch { .. } if self.alone => Ok(()),
            Operation::Batch { key, other, a, noise_first } => {
                self.batch(KEYS[*key], KEYS[*other], *a, *noise_first)
            }
            Operation::Compact { thorough } => {
                let options = CompactOptions::new().thorough(*thorough).keep_tombstones_for(Duration::ZERO);
                let done = self.store.journal().compact(&options).map_err(text)?;
                self.is_compacted |= done.entries_dropped > 0;
                Ok(())
            }
            Operation::Erase { key } => {
                self.flush()?;
                let Some(kind) = self.store.journal().kind_named(FACTS[1].name()) else { return Ok(()) };
                let erasure = self.store.journal().erase(kind.id, KEYS[*key].as_bytes()).map_err(text)?;
                self.has_erased |= erasure.through.is_some();
                self.is_compacted |= erasure.through.is_some();
                Ok(())
            }
            Operation::Wait { seconds } => {
                self.flush()?;
                self.has_waited = true;
                self.clock.advance(Duration::from_secs(*seconds));
                Ok(())
            }
            Operation::Close => {
                self.flush()?;
                self.sources.clear();
                self.store.close().map_err(text)?;
                self.reopen(self.disk.clone())
            }
            Operation::Crash { seed } => {
                let mut state = *seed | 1;
                let crashed = self.disk.crash(self.disk.events(), &mut |n| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    usize::try_from(state >> 11).unwrap_or(0) % n.max(1)
                });
                // What was said last may be in the log, and need not.
                self.reopen(crashed)
            }
            Operation::Look { at } => {
                let newest = self.moments.last().unwrap().through;
                self.look(*at as u64 % (newest + 1))
            }
        }
    }

    /// So that no window ends by itself.
    fn flush_if_much(&mut self) -> Result<(), String> {
        self.said += 1;
        if self.said >= 3 || self.alone { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), String> {
        ensure(self.newest() == self.moments.last().unwrap().through, || "a window ended by itself".into())?;
        self.said = 0;
        self.store.flush().map_err(text)?;
        self.note();
        Ok(())
    }

    fn batch(
        &mut self,
        key: &'static str,
        other: &'static str,
        a: u8,
        noise_first: bool,
    ) -> Result<(), String> {
        self.flush()?;
        self.facts += 1;
        let mut batch = self.store.batch();
        let noise = "n".repeat(1500);
        if noise_first {
            batch.append(NOISE, "noise", &noise).map_err(text)?;
        }
        for (kind, facts) in FACTS.into_iter().take(2).enumerate() {
            batch.append(facts, if kind == 0 { key } else { other }, &self.facts).map_err(text)?;
        }
        batch.assert(&self.sources[0], ROWS[0], key, &Row::new(a)).map_err(text)?;
        batch.assert(&self.sources[0], ROWS[1], other, &Row::new(a)).map_err(text)?;
        if !noise_first {
            batch.append(NOISE, "noise", &noise).map_err(text)?;
        }
        batch.commit().map_err(text)?;
        let mut next = self.next();
        next.facts.entry((0, key)).or_default().push(self.facts);
        next.facts.entry((1, other)).or_default().push(self.facts);
        self.moments.push(next);
        Ok(())
    }

    fn note_fact(&mut self, kind: usize, key: &'static str, fact: u64) {
        let mut next = self.next();
        next.facts.entry((kind, key)).or_default().push(fact);
        self.moments.push(next);
    }

    /// What there is behind a batch, if there was one.
    fn note(&mut self) {
        let next = self.next();
        if next.through > self.moments.last().unwrap().through {
            self.moments.push(next);
        }
    }

    /// The state as it is said to be now: a moment is compared with what was answered while it was the present.
    fn next(&self) -> Moment {
        let mut next = Moment { through: self.newest(), ..self.moments.last().unwrap().clone() };
        for (at, kind) in ROWS.into_iter().enumerate() {
            for key in KEYS {
                let entity = next.entities.entry((at, key)).or_default();
                let row = self.store.get(kind, key).unwrap();
                entity.status = Some(self.store.status(kind, key).unwrap());
                entity.row = row.as_ref().map(|row| row.value().unwrap());
                let version = match entity.status {
                    Some(Status::Alive { version, .. } | Status::Tombstone { version }) => version,
                    _ => continue,
                };
                if entity.versions.last().is_none_or(|(last, _)| *last < version) {
                    entity.versions.push((version, entity.row.clone()));
                }
            }
        }
        next
    }

    fn reopen(&mut self, disk: Simulator) -> Result<(), String> {
        self.sources.clear();
        self.disk = disk;
        self.store = open(&self.disk, &self.clock, self.durability);
        self.said = 0;
        let newest = self.newest();
        let there = self.moments.len();
        self.moments.retain(|moment| moment.through <= newest);
        if self.moments.len() < there {
            met("a crash took moments");
        }
        ensure(self.moments.last().unwrap().through == newest, || format!("{newest} ends no batch"))?;
        self.claim();
        Ok(())
    }

    pub(crate) fn look_at_all(&mut self) -> Result<(), String> {
        self.flush()?;
        let newest = self.newest();
        (0..=newest).try_for_each(|seq| self.look(seq))?;
        let beyond = self.store.at(Seq::new(newest + 1)).unwrap_err();
        ensure(beyond.kind() == ErrorKind::InvalidInput, || beyond.to_string())
    }

    /// The same of a history, which has no beginning in the present either once that was dropped.
    fn answered_of_history<T>(
        &self,
        seq: u64,
        read: impl Fn(&StoreView) -> esker::Result<T>,
    ) -> Result<Option<T>, String> {
        match read(&self.store.at(Seq::new(seq)).map_err(text)?) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == ErrorKind::Compacted && error.floor().is_some() => Ok(None),
            Err(error) => Err(text(error)),
        }
    }

    /// What is answered at a moment; `None`: it was compacted. Whoever follows the errors comes to an answer.
    fn answered<T>(
        &self,
        seq: u64,
        read: impl Fn(&StoreView) -> esker::Result<T>,
    ) -> Result<Option<T>, String> {
        let mut at = seq;
        loop {
            match read(&self.store.at(Seq::new(at)).map_err(text)?) {
                Ok(found) => return Ok(Some(found).filter(|_| at == seq)),
                Err(error) if error.kind() == ErrorKind::Compacted && error.floor() > Some(at) => {
                    at = error.floor().unwrap_or(at);
                }
                Err(error) => return Err(format!("at {seq}, and then at {at}: {error}")),
            }
        }
    }

    /// Compares every read of a moment with what it was.
    fn look(&self, seq: u64) -> Result<(), String> {
        let view = self.store.at(Seq::new(seq)).map_err(text)?;
        let moment = self.moments.iter().rev().find(|moment| moment.through <= seq).unwrap();
        let mut looked = Looked::default();
        for (at, kind) in ROWS.into_iter().enumerate() {
            let mut of_kind = 0;
            for key in KEYS {
                of_kind += u32::from(self.look_at_entity(seq, (at, kind), key, moment, &mut looked)?);
            }
            let rows = self.answered(seq, |view| view.rows(kind)?.collect::<esker::Result<Vec<_>>>())?;
            looked.read(at, &rows);
            looked.kinds[at] = of_kind + u32::from(rows.is_some());
            if let Some(rows) = rows {
                let found: BTreeMap<&[u8], Row> =
                    rows.iter().map(|row| (row.key(), row.value().unwrap())).collect();
                let there = moment.entities.iter().filter(|((of, _), _)| *of == at);
                let expected: BTreeMap<&[u8], Row> = there
                    .filter_map(|((_, key), entity)| Some((key.as_bytes(), entity.row.clone()?)))
                    .collect();
                ensure(found == expected, || format!("rows at {seq}: {found:?}, expected {expected:?}"))?;
                ensure(rows.len() == found.len(), || format!("a row twice at {seq}"))?;
                if at == 0
                    && self.is_compacted
                    && view.entries().floor(&view_region(&self.store, kind)).is_some()
                {
                    met("all rows of a compacted kind were answered");
                }
            }
        }
        for (at, kind) in FACTS.into_iter().enumerate() {
            for key in KEYS {
                self.look_at_facts(seq, (at, kind), key, moment, &mut looked)?;
            }
        }
        ensure(!self.alone || looked.lost_of_whole_kinds == 0, || {
            format!("what keeps all is compacted at {seq}")
        })?;
        looked.check(self.is_compacted, seq, moment.through)
    }

    fn look_at_facts(
        &self,
        seq: u64,
        (at, kind): (usize, Facts<u64>),
        key: &'static str,
        moment: &Moment,
        looked: &mut Looked,
    ) -> Result<(), String> {
        let expected = moment.facts.get(&(at, key)).cloned().unwrap_or_default();
        let latest =
            self.answered(seq, |view| view.latest(kind, key)?.map(|fact| fact.value()).transpose())?;
        let history = self.answered_of_history(seq, |view| {
            view.history(kind, key).map(|fact| fact?.value()).collect::<esker::Result<Vec<_>>>()
        })?;
        if at != 1 || !self.has_erased {
            looked.read(at, &latest);
            looked.read(at, &history);
        }
        // The present is what is left.
        let (now, is_present) = (self.store.view(), seq == self.newest());
        if is_present && let Some(latest) = latest {
            let left = now.latest(kind, key).map_err(text)?.map(|fact| fact.value().unwrap());
            ensure(latest == left, || format!("{kind:?}/{key} in the present: {latest:?}, not {left:?}"))?;
        } else if let Some(latest) = latest {
            ensure(latest == expected.last().copied(), || {
                format!("{kind:?}/{key} at {seq}: {latest:?}, expected {expected:?}")
            })?;
            if at == 2 && self.is_compacted {
                met(if latest.is_some() {
                    "a fact was told of a kind that keeps none"
                } else {
                    "no fact was told"
                });
            }
        } else if at == 2 {
            met("of a kind that keeps nothing a fact was compacted");
        }
        if let Some(history) = history {
            // One that was dropped as a whole begins anew, as in the present.
            let may_begin_anew = at == 2 || at == 1 && self.has_erased;
            let is_it = if may_begin_anew && (is_present || !history.is_empty()) {
                expected.ends_with(&history)
            } else {
                expected == history
            };
            ensure(is_it, || {
                format!("history of {kind:?}/{key} at {seq}: {history:?}, expected {expected:?}")
            })?;
        }
        Ok(())
    }

    /// True if it was answered.
    fn look_at_entity(
        &self,
        seq: u64,
        (at, kind): (usize, Kind<Row>),
        key: &'static str,
        moment: &Moment,
        looked: &mut Looked,
    ) -> Result<bool, String> {
        let through = moment.through;
        let expected = moment.entities.get(&(at, key)).cloned().unwrap_or_default();
        let row = self.answered(seq, |view| view.get(kind, key)?.map(|row| row.value()).transpose())?;
        looked.read(at, &row);
        if let Some(row) = &row {
            ensure(*row == expected.row, || {
                format!("{kind:?}/{key} at {through}: {row:?}, expected {expected:?}")
            })?;
        }
        let status = self.answered(seq, |view| view.status(kind, key))?;
        // When a moment was may be gone with an entry of another kind.
        if !self.has_waited {
            looked.read(at, &status);
        }
        if let Some(status) = status {
            // Compaction forgets that there was a deletion, as it does in the present.
            let was = expected.status.unwrap_or(Status::NotFound);
            let is_forgotten =
                seq == self.newest() && matches!((status, was), (Status::NotFound, Status::Tombstone { .. }));
            ensure(status == was || is_forgotten, || {
                format!("{kind:?}/{key} at {through}: {status:?}, was {was:?}")
            })?;
            if matches!(status, Status::Tombstone { .. }) && seq < self.newest() {
                met("a deletion was told at a moment");
            }
            ensure(row.is_some(), || format!("{kind:?}/{key} at {through} has a status, and no answer"))?;
        }
        let versions = self.answered_of_history(seq, |view| view.versions(kind, key))?;
        looked.read(at, &versions);
        if let Some(versions) = versions {
            let found: Vec<_> = versions.iter().map(version).collect();
            let forgotten = expected.versions.len().checked_sub(found.len());
            let begins = forgotten.filter(|from| expected.versions[*from..] == found[..]);
            // One that was forgotten begins anew behind its deletion.
            let is_whole = |from: usize| from == 0 || expected.versions[from - 1].1.is_none();
            ensure(begins.is_some_and(is_whole), || {
                format!(
                    "versions of {kind:?}/{key} at {through}: {found:?}, expected {:?}",
                    expected.versions
                )
            })?;
        }
        Ok(row.is_some())
    }
}

fn version(version: &Version<Row>) -> (u64, Option<Row>) {
    match version {
        Version::Row(row) => (row.version(), Some(row.value().unwrap())),
        Version::Deleted { version, .. } => (*version, None),
        other => panic!("{other:?}"),
    }
}

fn view_region(store: &Store, kind: Kind<Row>) -> esker::Region {
    esker::Region::kind(store.journal().kind_named(kind.name()).unwrap().id)
}

/// How many reads of a moment were answered, and how many were not.
#[derive(Default)]
struct Looked {
    answered: u32,
    compacted: u32,
    kinds: [u32; 2],
    /// Of those of which nothing is dropped.
    lost_of_whole_kinds: u32,
}

impl Looked {
    /// Of the first of two kinds the newest is kept, of the second all.
    fn read<T>(&mut self, kind: usize, read: &Option<T>) {
        *(if read.is_some() { &mut self.answered } else { &mut self.compacted }) += 1;
        self.lost_of_whole_kinds += u32::from(read.is_none() && kind == 1);
    }

    fn check(&self, is_compacted: bool, seq: u64, through: u64) -> Result<(), String> {
        ensure(self.compacted == 0 || is_compacted, || {
            format!("{} reads at {seq} are said to be compacted", self.compacted)
        })?;
        if is_compacted && self.answered > 0 {
            met("a moment before a compaction was answered");
        }
        if self.kinds[0] == 0 && self.kinds[1] > 0 {
            met("a kind was compacted at a moment at which another one was answered");
        }
        if (1..5).contains(&self.kinds[0]) {
            met("an entity was compacted at a moment at which another one was answered");
        }
        if seq > through && self.answered > 0 {
            met("a moment in the middle of a batch was answered");
        }
        Ok(())
    }
}
