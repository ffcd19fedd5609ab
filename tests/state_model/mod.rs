//! A store with live state on a simulated disk beside its model: a map from keys to rows and sets of sources.

pub(crate) mod events;
pub(crate) mod operation;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use esker::{
    ChangeKind, Check, CompactOptions, Durability, EventOperation, Kind, Made, Marker, Options, Patch,
    Simulator, Source, StateItem, Store, Subscription, Token, Until, Verdict, Window,
};
use serde::{Deserialize, Serialize};

use events::{Suppressed, Told};
use operation::Operation;

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Row {
    #[serde(default)]
    a: u8,
    #[serde(default)]
    b: Option<String>,
    #[serde(default)]
    c: BTreeMap<u8, u8>,
}

const KIND: Kind<Row> = Kind::new("row");
const LOGGED: Kind<Row> = Kind::new("row").events();
pub(crate) const KEYS: [&str; 4] = ["a", "b", "c", "d"];
pub(crate) const SOURCES: [&str; 3] = ["one", "two", "three"];

/// An entity as the model has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entity {
    row: Row,
    sources: BTreeSet<usize>,
}

/// Those that are there.
type Moment = BTreeMap<&'static str, Entity>;

/// What somebody has gathered who follows: versions and rows by key.
type Folded = BTreeMap<Vec<u8>, (u64, Row)>;

/// What is rare, and how often it was met.
pub(crate) static MET: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

fn met(what: &'static str) {
    *MET.lock().unwrap().entry(what).or_default() += 1;
}

pub(crate) struct World {
    kind: Kind<Row>,
    durability: Durability,
    disk: Simulator,
    store: Store,
    sources: Vec<Source>,
    /// With all that is pending.
    now: Moment,
    /// The state behind each flush; the last one is what is visible.
    moments: Vec<Moment>,
    /// What was said, with all that is pending; and how much of it there was at each of the moments.
    told: Vec<Told>,
    told_until: Vec<usize>,
    /// Who has an epoch open.
    epoch_of: Option<usize>,
    /// Up to which of them a flush was acknowledged.
    acknowledged: usize,
    touched: BTreeSet<&'static str>,
    /// Windows that this opening has flushed, as far as the model knows.
    flushes: u64,
    /// The greatest version that each entity ever had.
    versions: BTreeMap<&'static str, u64>,
    follower: Option<(Subscription<Row>, Folded)>,
    /// A follower that was ended: how far it came, and what it had gathered.
    left: Option<(Token, Folded)>,
}

fn open(disk: &Simulator, durability: Durability) -> Store {
    let options =
        Options::new().durability(durability).background(false).window(Window::Manual).segment_bytes(4096);
    Store::over(options.open_in(disk).unwrap())
}

impl World {
    pub(crate) fn new(durability: Durability, logged: bool) -> Self {
        let disk = Simulator::new();
        let store = open(&disk, durability);
        let mut world = Self {
            kind: if logged { LOGGED } else { KIND },
            durability,
            disk,
            store,
            sources: Vec::new(),
            now: Moment::new(),
            moments: vec![Moment::new()],
            told: Vec::new(),
            told_until: vec![0],
            epoch_of: None,
            acknowledged: 0,
            touched: BTreeSet::new(),
            flushes: 0,
            versions: BTreeMap::new(),
            follower: None,
            left: None,
        };
        world.claim();
        world
    }

    fn claim(&mut self) {
        self.sources = SOURCES.iter().map(|name| self.store.source(name).unwrap()).collect();
    }

    pub(crate) fn step(&mut self, operation: &Operation) -> Result<(), String> {
        match operation {
            Operation::Assert { source, key, a, b } => {
                // One that does not fit the window of another.
                let most = if self.kind.has_events() { 300 } else { 700 };
                let text = b.then(|| "x".repeat(if *a == 2 { most } else { 20 }));
                let row = Row { a: *a, b: text, c: (0..*a).map(|n| (n, n)).collect() };
                self.sources[*source]
                    .assert(self.kind, KEYS[*key], &row)
                    .map_err(|error| error.to_string())?;
                self.said(|world| world.say(KEYS[*key], *source, row, EventOperation::Assert));
            }
            Operation::Patch { source, key, a, other } => {
                let mut row = self.now.get(KEYS[*key]).map(|entity| entity.row.clone()).unwrap_or_default();
                let mut patch = Patch::new().set("a", a).unwrap();
                row.a = *a;
                if *other {
                    patch = patch.set("b", &Some("patched")).unwrap();
                    row.b = Some("patched".into());
                }
                self.sources[*source]
                    .patch(self.kind, KEYS[*key], &patch)
                    .map_err(|error| error.to_string())?;
                self.said(|world| world.say(KEYS[*key], *source, row, EventOperation::Patch));
            }
            Operation::Update { source, key } => {
                let row = self.now.get(KEYS[*key]).map(|entity| entity.row.clone()).unwrap_or_default();
                let next = Row { a: row.a.wrapping_add(1) % 3, ..row.clone() };
                let seen = std::cell::RefCell::new(None);
                let change = |row: Option<Row>| {
                    let row = row.unwrap_or_default();
                    *seen.borrow_mut() = Some(row.clone());
                    Row { a: row.a.wrapping_add(1) % 3, ..row }
                };
                self.sources[*source]
                    .update(self.kind, KEYS[*key], change)
                    .map_err(|error| error.to_string())?;
                ensure(seen.into_inner() == Some(row), "an update sees what is pending")?;
                self.said(|world| world.say(KEYS[*key], *source, next, EventOperation::Patch));
            }
            Operation::Retract { source, key } => {
                self.sources[*source].retract(self.kind, KEYS[*key]).map_err(|error| error.to_string())?;
                self.said(|world| world.unsay(KEYS[*key], *source));
            }
            Operation::Epoch { source, keys, a, commits } => self.epoch(*source, *keys, *a, *commits)?,
            Operation::Flush => self.flush()?,
            Operation::Wait => {
                let key = KEYS[0];
                let ticket = self.sources[0].retract(self.kind, key).map_err(|error| error.to_string())?;
                if self.store.state_stats().unwrap().pending == 0 {
                    self.said(|world| world.unsay(key, 0));
                    return self.check();
                }
                self.said(|world| world.unsay(key, 0));
                let before = self.moments.last().unwrap().get(key).cloned();
                let committed = ticket.wait(Until::Durable).map_err(|error| error.to_string())?;
                let expected = match (before, self.now.get(key)) {
                    (None, None) => Made::Nothing,
                    (None, Some(_)) => Made::Created,
                    (Some(_), None) => Made::Deleted,
                    (Some(before), Some(now)) if before.row != now.row => Made::Updated,
                    (Some(before), Some(now)) if before.sources != now.sources => Made::SourcesOnly,
                    _ => Made::Nothing,
                };
                ensure(committed.change == expected, &format!("{committed:?}, expected {expected:?}"))?;
                self.flush()?;
                self.all_is_durable();
            }
            Operation::Follow { behind, capacity, resume } => {
                self.leave();
                let builder = self.store.subscription(self.kind).behind(*behind).capacity(*capacity);
                let (builder, folded) = match self.left.take().filter(|_| *resume) {
                    Some((token, folded)) => (builder.resume(token), folded),
                    None => (builder, Folded::new()),
                };
                let follower = builder.start().map_err(|error| error.to_string())?;
                self.follower = Some((follower, folded));
            }
            Operation::Read { items } => {
                self.read(*items)?;
                self.check_told()?;
            }
            Operation::Compact { thorough } => {
                let options = CompactOptions::new().thorough(*thorough).keep_tombstones_for(Duration::ZERO);
                let done = self.store.journal().compact(&options).map_err(|error| error.to_string())?;
                if done.entries_dropped > 0 {
                    met("something was compacted");
                }
            }
            Operation::Close => {
                self.leave();
                self.sources.clear();
                self.store.close().map_err(|error| error.to_string())?;
                self.flushed();
                self.all_is_durable();
                self.reopen(self.disk.clone())?;
            }
            Operation::Kill => {
                self.leave();
                let killed = self.disk.kill(self.disk.events());
                self.die(killed)?;
            }
            Operation::Scan => self.scan()?,
            Operation::Crash { seed, leaves } => {
                if *leaves {
                    self.leave();
                }
                self.follower = None;
                let mut state = *seed | 1;
                let crashed = self.disk.crash(self.disk.events(), &mut |n| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    usize::try_from(state >> 11).unwrap_or(0) % n.max(1)
                });
                self.die(crashed)?;
            }
        }
        self.check()
    }

    fn epoch(&mut self, source: usize, keys: u8, a: u8, commits: bool) -> Result<(), String> {
        let epoch = self.sources[source].epoch(self.kind).map_err(|error| error.to_string())?;
        self.epoch_of = Some(source);
        let is_said = |at: usize| keys & 1 << at != 0;
        for key in (0..KEYS.len()).filter(|at| is_said(*at)) {
            self.step(&Operation::Assert { source, key, a, b: false })?;
        }
        self.epoch_of = None;
        if !commits {
            return Ok(());
        }
        let outcome = epoch.commit();
        self.flushes = self.store.state_stats().unwrap().flushes;
        self.flushed();
        let outcome = outcome.map_err(|error| error.to_string())?;
        let mut retracted = 0;
        for (_, key) in KEYS.iter().enumerate().filter(|(at, _)| !is_said(*at)) {
            if self.now.get(key).is_some_and(|entity| entity.sources.contains(&source)) {
                self.take_back(key, source, Suppressed::Synthetic);
                retracted += 1;
            }
        }
        if retracted > 0 {
            met("an epoch took something back");
        }
        ensure(outcome.retracted == retracted, &format!("{outcome:?}, expected {retracted}"))?;
        self.flushed();
        self.wait_as_configured();
        Ok(())
    }

    fn say(&mut self, key: &'static str, source: usize, row: Row, operation: EventOperation) {
        self.touched.insert(key);
        let before = self.now.get(key).map(|entity| entity.row.clone());
        let entity = self.now.entry(key).or_default();
        entity.row = row;
        entity.sources.insert(source);
        self.tell(key, source, operation, before, self.suppressed(source));
    }

    fn suppressed(&self, source: usize) -> Suppressed {
        if self.epoch_of == Some(source) { Suppressed::InEpoch } else { Suppressed::No }
    }

    fn unsay(&mut self, key: &'static str, source: usize) {
        self.take_back(key, source, self.suppressed(source));
    }

    fn take_back(&mut self, key: &'static str, source: usize, suppressed: Suppressed) {
        self.touched.insert(key);
        self.forget_source(key, source);
        self.tell(key, source, EventOperation::Retract, None, suppressed);
    }

    fn forget_source(&mut self, key: &'static str, source: usize) {
        if let Some(entity) = self.now.get_mut(key) {
            entity.sources.remove(&source);
            if entity.sources.is_empty() {
                self.now.remove(key);
            }
        }
    }

    /// Does what an operation does. It may have ended the window before it, for which it was too large, and the one
    /// that it is in, which should not wait.
    fn said(&mut self, say: impl FnOnce(&mut Self)) {
        let stats = self.store.state_stats().unwrap();
        let flushes = stats.flushes - std::mem::replace(&mut self.flushes, stats.flushes);
        let at_its_end = u64::from(flushes > 0 && stats.pending == 0);
        if flushes > at_its_end {
            met("a window ended before an operation");
            self.flushed();
        }
        say(self);
        if at_its_end > 0 {
            self.flushed();
            self.wait_as_configured();
        }
    }

    fn flush(&mut self) -> Result<(), String> {
        self.store.flush().map_err(|error| error.to_string())?;
        self.flushes = self.store.state_stats().unwrap().flushes;
        self.flushed();
        self.wait_as_configured();
        Ok(())
    }

    fn wait_as_configured(&mut self) {
        if self.durability == Durability::Sync {
            self.all_is_durable();
        }
    }

    fn all_is_durable(&mut self) {
        self.acknowledged = self.moments.len() - 1;
    }

    /// What is pending is visible now.
    fn flushed(&mut self) {
        let before = self.moments.last().unwrap().clone();
        for key in std::mem::take(&mut self.touched) {
            match (before.get(key), self.now.get(key)) {
                (Some(before), Some(now)) if before.row == now.row && before.sources != now.sources => {
                    met("only a set of sources changed");
                }
                (Some(before), Some(now)) if before == now => met("a window came to nothing"),
                (None, None) => met("what was not there is not there"),
                _ => {}
            }
        }
        let told = self.told.len();
        if before != self.now || self.told_until.last() != Some(&told) {
            self.moments.push(self.now.clone());
            self.told_until.push(told);
        }
    }

    /// The process ends: what is pending is gone, and what was not acknowledged may be.
    fn die(&mut self, disk: Simulator) -> Result<(), String> {
        self.sources.clear();
        self.touched.clear();
        self.reopen(disk)
    }

    fn reopen(&mut self, disk: Simulator) -> Result<(), String> {
        self.disk = disk;
        self.store = open(&self.disk, self.durability);
        self.flushes = 0;
        let found = self.visible()?;
        let told = self.count_told();
        let is_it =
            |at: &usize| self.moments[*at] == found && told.is_none_or(|told| self.told_until[*at] == told);
        let moment = (0..self.moments.len()).rev().find(is_it);
        let Some(moment) = moment.filter(|moment| *moment >= self.acknowledged) else {
            return Err(format!(
                "found {found:?}, which is none of the moments from {} on: {:?}",
                self.acknowledged,
                &self.moments[self.acknowledged..]
            ));
        };
        if moment + 1 < self.moments.len() {
            met("a crash took a flush");
        }
        self.moments.truncate(moment + 1);
        self.told_until.truncate(moment + 1);
        self.told.truncate(self.told_until[moment]);
        self.acknowledged = moment;
        self.now = found;
        self.touched.clear();
        self.claim();
        self.check_told()
    }

    /// The state as the store has it, with what every way of reading says of it.
    fn visible(&mut self) -> Result<Moment, String> {
        let mut found = Moment::new();
        for key in KEYS {
            let row = self.store.get(self.kind, key).map_err(|error| error.to_string())?;
            let status = self.store.status(self.kind, key).map_err(|error| error.to_string())?;
            let Some(row) = row else {
                ensure(!matches!(status, esker::Status::Alive { .. }), "a status of what is not there")?;
                continue;
            };
            let sources = row.sources().ids().map(usize::from).collect();
            ensure(
                status == esker::Status::Alive { version: row.version(), sources: row.sources() },
                "a status is what the row says",
            )?;
            found.insert(key, Entity { row: row.value().map_err(|error| error.to_string())?, sources });
        }
        Ok(found)
    }

    fn check(&mut self) -> Result<(), String> {
        let found = self.visible()?;
        ensure(
            found == *self.moments.last().unwrap(),
            &format!("{found:?} is visible, expected {:?}", self.moments.last()),
        )
    }

    fn scan(&mut self) -> Result<(), String> {
        let found = self.moments.last().unwrap().clone();
        let scanned = self.store.scan(self.kind).map_err(|error| error.to_string())?;
        // A scan makes what it shows durable.
        self.all_is_durable();
        let mut keys = BTreeSet::new();
        for row in scanned {
            let row = row.map_err(|error| error.to_string())?;
            let key = *KEYS.iter().find(|key| key.as_bytes() == row.key()).unwrap();
            ensure(keys.insert(key), "a row comes once")?;
            ensure(row.value().unwrap() == found[key].row, "a scan shows what is there")?;
            let known = self.versions.entry(key).or_default();
            ensure(row.version() >= *known, &format!("{key}: version {} behind {known}", row.version()))?;
            *known = row.version();
        }
        ensure(keys.len() == found.len(), "a scan shows all that is there")
    }

    /// Ends the follower; what it has gathered can be resumed from its token.
    fn leave(&mut self) {
        if let Some((follower, folded)) = self.follower.take()
            && let Some(token) = follower.token().unwrap()
        {
            met("a follower left with a token");
            // Between rounds, what a part of a round told is more than the token says: it is told again.
            self.left = Some((token, folded));
        }
    }

    /// Reads on. What it has gathered when there is nothing more is the state.
    fn read(&mut self, items: usize) -> Result<(), String> {
        if self.follower.is_none() {
            return Ok(());
        }
        // A window that ended for the next one's sake is visible, and durable with the next sync.
        self.store.journal().sync().map_err(|error| error.to_string())?;
        self.all_is_durable();
        let Some((follower, folded)) = &mut self.follower else { return Ok(()) };
        for _ in 0..items {
            let Some(item) = follower.try_next().map_err(|error| error.to_string())? else {
                let gathered: BTreeMap<&str, &Row> =
                    folded.iter().map(|(key, (_, row))| (std::str::from_utf8(key).unwrap(), row)).collect();
                let expected: BTreeMap<&str, &Row> =
                    self.moments.last().unwrap().iter().map(|(key, entity)| (*key, &entity.row)).collect();
                met("a follower caught up");
                return ensure(
                    gathered == expected,
                    &format!("gathered {gathered:?}, expected {expected:?}"),
                );
            };
            match item {
                StateItem::Marker(Marker::BootstrapBegin { rebootstrap, because }) => {
                    if rebootstrap {
                        met("a follower began anew");
                    }
                    if because == Some(esker::Because::Compacted) {
                        met("what a token needs was compacted");
                    }
                    folded.clear();
                }
                StateItem::Marker(_) => {}
                StateItem::Change(change) => {
                    let version = change.version();
                    let before = folded.get(change.key()).map(|(version, _)| *version);
                    ensure(
                        before.is_none_or(|before| before <= version),
                        &format!("{change:?} behind version {before:?}"),
                    )?;
                    match change.kind() {
                        ChangeKind::Deleted => {
                            folded.remove(change.key());
                        }
                        _ => {
                            let row = change.value().map_err(|error| error.to_string())?.unwrap();
                            folded.insert(change.key().to_vec(), (version, row));
                        }
                    }
                }
                other => return Err(format!("{other:?}")),
            }
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<(), String> {
        self.flush()?;
        self.read(10_000)?;
        self.scan()?;
        self.check_told()?;
        drop(self.follower.take());
        self.sources.clear();
        self.store.close().map_err(|error| error.to_string())?;
        let verified = esker::verify_in(&self.disk, Check::Full).map_err(|error| error.to_string())?;
        ensure(verified.verdict == Verdict::Valid, &format!("{:?}", verified.findings))
    }
}

fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}
