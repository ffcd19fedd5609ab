//! A store on a simulated disk with a mirror, and beside it a model: a map from keys to values and sets of sources.

pub(crate) mod operation;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use esker::{
    Because, CompactOptions, Durability, ErrorKind, Kind, Mirror, MirrorChanges, MirrorOutcome, MirrorRows,
    MirrorTarget, MirrorToken, Options, Simulator, Source, Start, Store, Window,
};
use serde::{Deserialize, Serialize};

use operation::{Fault, Operation, Saying};

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Row {
    a: u32,
    b: String,
}

/// Under the second version, rows of the first have another value.
const KINDS: [Kind<Row>; 2] = [
    Kind::new("row"),
    Kind::new("row").version(2).upcasts(&[(1, |fields| {
        let a: u32 = fields.get("a")?.ok_or("no a")?;
        Ok(fields.set("a", &(a + UPGRADE))?)
    })]),
];
const UPGRADE: u32 = 100;

pub(crate) const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];
pub(crate) const SOURCES: [&str; 2] = ["one", "two"];
pub(crate) const PANIC: &str = "the target panics";

/// Values and sets of sources of those that are there.
type Moment = BTreeMap<&'static str, (u32, BTreeSet<usize>)>;

/// What is rare, and was met.
pub(crate) static MET: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn met(what: impl Into<String>) {
    MET.lock().unwrap().insert(what.into());
}

/// What the store should say, shared with the target: something may be said while it is handed over.
struct Model {
    store: Store,
    sources: Vec<Source>,
    /// The version of the kind's schema, from 0.
    schema: usize,
    /// With all that is pending.
    now: Moment,
    /// The state behind each flush, by the last Seq of the log then.
    moments: BTreeMap<u64, Moment>,
    /// Windows that this opening has flushed.
    flushes: u64,
    /// Keys that were there once.
    known: BTreeSet<&'static str>,
}

impl Model {
    /// Does what a source says. It may end the window before it, for which it is too large, and the one that it is in, which
    /// should not wait.
    fn say(&mut self, saying: Saying) -> Result<(), String> {
        let (source, key) = (&self.sources[saying.source], KEYS[saying.key]);
        let kind = KINDS[self.schema];
        // Some are long, so that segments fill.
        let row = saying.a.map(|a| Row { a: u32::from(a), b: "x".repeat(if a == 2 { 600 } else { 60 }) });
        let said = match &row {
            Some(row) => source.assert(kind, key, row),
            None => source.retract(kind, key),
        };
        said.map_err(|error| error.to_string())?;
        let stats = self.store.state_stats().unwrap();
        let flushes = stats.flushes - std::mem::replace(&mut self.flushes, stats.flushes);
        let at_its_end = u64::from(flushes > 0 && stats.pending == 0);
        if flushes > at_its_end {
            // Of a window that held only this, there is one frame, or none if it came to nothing.
            self.moments.insert(last_seq(&self.store) - at_its_end, self.now.clone());
        }
        self.is_so(saying.source, key, row);
        if at_its_end > 0 {
            self.moments.insert(last_seq(&self.store), self.now.clone());
        }
        Ok(())
    }

    fn is_so(&mut self, source: usize, key: &'static str, row: Option<Row>) {
        let Some(row) = row else {
            if let Some(entity) = self.now.get_mut(key) {
                entity.1.remove(&source);
                if entity.1.is_empty() {
                    self.now.remove(key);
                }
            }
            return;
        };
        if !self.now.contains_key(key) && !self.known.insert(key) {
            met("an entity was made anew");
        }
        let (a, sources) = self.now.entry(key).or_default();
        if *a == row.a && !sources.is_empty() && !sources.contains(&source) {
            met("only a set of sources changed");
        }
        *a = row.a;
        sources.insert(source);
    }

    fn flush(&mut self) -> Result<(), String> {
        self.store.flush().map_err(|error| error.to_string())?;
        self.flushes = self.store.state_stats().unwrap().flushes;
        self.moments.insert(last_seq(&self.store), self.now.clone());
        Ok(())
    }

    /// What was true at a Seq.
    fn at(&self, seq: u64) -> Moment {
        self.moments.range(..=seq).next_back().map(|(_, moment)| moment.clone()).unwrap_or_default()
    }

    fn compact(&self) -> Result<(), String> {
        let options = CompactOptions::new().thorough(true).keep_tombstones_for(Duration::ZERO);
        let done = self.store.journal().compact(&options).map_err(|error| error.to_string())?;
        if done.entries_dropped > 0 {
            met("something was compacted");
        }
        if !done.held_back_by.is_empty() {
            met("a cursor held something back");
        }
        Ok(())
    }
}

fn last_seq(store: &Store) -> u64 {
    store.journal().view().last_seq().unwrap().map_or(0, |seq| seq.get())
}

/// What a table holds.
#[derive(Clone, Debug, Default)]
struct Content {
    /// Version, sources and value by key.
    rows: BTreeMap<Vec<u8>, (u64, u64, u32)>,
    token: Option<String>,
}

/// A table with transactions, which outlives every process.
struct Table {
    model: Arc<Mutex<Model>>,
    content: Content,
    /// What it held behind each transaction.
    commits: Vec<Content>,
    fault: Fault,
    panics: bool,
    during: Option<Saying>,
    compacts: bool,
    /// What is wrong with what it was told.
    drift: Option<String>,
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

impl Table {
    fn fails_at(&mut self, fault: Fault) -> Result<(), Failed> {
        if self.fault != fault {
            return Ok(());
        }
        self.fault = Fault::None;
        if self.panics {
            met("a target panicked");
            std::panic::panic_any(PANIC);
        }
        Err(format!("the target fails: {fault:?}").into())
    }

    /// Behind a row or a change.
    fn took(&mut self, taken: usize) -> Result<(), Failed> {
        if taken == 1 {
            let mut model = self.model.lock().unwrap();
            if let Some(saying) = self.during.take() {
                met("something was said while it was handed over");
                model.say(saying)?;
                model.flush()?;
            }
            if std::mem::take(&mut self.compacts) {
                model.compact()?;
            }
        }
        self.fails_at(Fault::Behind(taken))
    }

    /// Looks whether this is what was true at the place of its token.
    fn commit(&mut self, next: Content, token: MirrorToken) -> Result<(), Failed> {
        let moment = self.model.lock().unwrap().at(token.token().seq().map_or(0, |seq| seq.get()));
        if let Err(error) = is_equal(&next, &moment) {
            self.drift = Some(error.clone());
        }
        self.fails_at(Fault::BeforeCommit).inspect_err(|_| met("a target failed before its commit"))?;
        self.content = Content { token: Some(token.to_string()), ..next };
        self.commits.push(self.content.clone());
        self.fails_at(Fault::AfterCommit).inspect_err(|_| met("a target failed behind its commit"))
    }
}

/// Values and sources are those of a moment.
fn is_equal(content: &Content, moment: &Moment) -> Result<(), String> {
    let bits = |sources: &BTreeSet<usize>| sources.iter().fold(0, |bits, id| bits | 1u64 << id);
    let expected: BTreeMap<&[u8], (u64, u32)> =
        moment.iter().map(|(key, (a, sources))| (key.as_bytes(), (bits(sources), *a))).collect();
    let found: BTreeMap<&[u8], (u64, u32)> =
        content.rows.iter().map(|(key, (_, sources, a))| (&key[..], (*sources, *a))).collect();
    ensure(found == expected, || format!("the target has {found:?}, expected {expected:?}"))
}

impl MirrorTarget<Row> for Table {
    type Error = Failed;

    fn token(&mut self) -> Result<Option<MirrorToken>, Failed> {
        self.fails_at(Fault::AtToken)?;
        Ok(self.content.token.as_deref().map(str::parse).transpose()?)
    }

    fn replace_all(&mut self, rows: &mut MirrorRows<Row>) -> Result<(), Failed> {
        let mut next = Content::default();
        while let Some(row) = rows.next_row()? {
            let value = (row.version(), row.sources().bits(), row.value()?.a);
            if next.rows.insert(row.key().to_vec(), value).is_some() {
                self.drift = Some(format!("{row:?} came twice"));
            }
            self.took(next.rows.len())?;
        }
        self.commit(next, rows.token()?)
    }

    fn apply(&mut self, changes: &mut MirrorChanges<Row>) -> Result<(), Failed> {
        let mut next = self.content.clone();
        let mut taken = 0;
        while let Some(change) = changes.next_change()? {
            let key = change.key().to_vec();
            let before = match change.value()? {
                Some(row) => next.rows.insert(key, (change.version(), change.sources().bits(), row.a)),
                None => next.rows.remove(&key),
            };
            if before.is_some() == (change.kind() == esker::ChangeKind::Created) {
                self.drift = Some(format!("{change:?} over {before:?}"));
            }
            taken += 1;
            self.took(taken)?;
        }
        met("changes were applied");
        self.commit(next, changes.token()?)
    }
}

pub(crate) struct World {
    durability: Durability,
    disk: Simulator,
    /// The first moment of the disk at which it held the store as a whole: a repair that is under way is none.
    whole_since: usize,
    model: Arc<Mutex<Model>>,
    mirror: Option<Mirror<Row, Table>>,
    /// While no process runs.
    table: Option<Table>,
}

fn open(disk: &Simulator, durability: Durability) -> Result<Store, String> {
    let options =
        Options::new().durability(durability).background(false).window(Window::Manual).segment_bytes(4096);
    Ok(Store::over(options.open_in(disk).map_err(|error| error.to_string())?))
}

fn claim(store: &Store) -> Vec<Source> {
    SOURCES.iter().map(|name| store.source(name).unwrap()).collect()
}

impl World {
    pub(crate) fn new(durability: Durability) -> Self {
        let disk = Simulator::new();
        let store = open(&disk, durability).unwrap();
        let sources = claim(&store);
        let (now, known) = (Moment::new(), BTreeSet::new());
        let model = Model { store, sources, schema: 0, now, moments: BTreeMap::new(), flushes: 0, known };
        let model = Arc::new(Mutex::new(model));
        let table = Table {
            model: Arc::clone(&model),
            content: Content::default(),
            commits: Vec::new(),
            fault: Fault::None,
            panics: false,
            during: None,
            compacts: false,
            drift: None,
        };
        let mut world =
            Self { durability, whole_since: disk.events(), disk, model, mirror: None, table: Some(table) };
        world.start(false).unwrap();
        world
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }

    fn start(&mut self, named: bool) -> Result<(), String> {
        let model = self.model.lock().unwrap();
        let mut builder = model.store.mirror(KINDS[model.schema]);
        if named {
            builder = builder.named("target");
        } else if model.store.journal().cursors().unwrap().iter().any(|cursor| cursor.name == "target") {
            // Who gives the name up gives up what it held. One from before a repair may be ahead of the log.
            model.store.journal().reset_cursor("target", Start::Newest).map_err(|error| error.to_string())?;
            model.store.journal().retire_cursor("target").map_err(|error| error.to_string())?;
        }
        let table = self.table.take().unwrap();
        self.mirror = Some(builder.start(table).map_err(|error| error.to_string())?);
        Ok(())
    }

    pub(crate) fn step(&mut self, operation: &Operation) -> Result<(), String> {
        match operation {
            Operation::Say(saying) => self.model().say(*saying)?,
            Operation::Flush => self.model().flush()?,
            Operation::CatchUp { fault, panics, during, compacts } => {
                let table = self.mirror.as_mut().unwrap().target_mut();
                (table.fault, table.panics) = (*fault, *panics);
                (table.during, table.compacts) = (*during, *compacts);
                // What is pending would be flushed with it.
                if during.is_some() {
                    self.model().flush()?;
                }
                self.catch_up()?;
            }
            Operation::Compact => self.model().compact()?,
            Operation::Close { named } => self.close(*named, 0)?,
            Operation::Upgrade { named } => self.close(*named, 1)?,
            Operation::Kill { named } => {
                let killed = self.disk.kill(self.disk.events());
                self.die(killed, *named)?;
            }
            Operation::Crash { seed, named } => {
                let crashed = self.disk.crash(self.disk.events(), &mut chance(*seed));
                self.whole_since = 0;
                self.die(crashed, *named)?;
            }
            Operation::Repair { back, named } => {
                let moment = self.disk.events().saturating_sub(*back).max(self.whole_since);
                let repaired = Simulator::new();
                esker::repair_in(&self.disk.kill(moment), &repaired).map_err(|error| error.to_string())?;
                self.whole_since = repaired.events();
                self.die(repaired, *named)?;
            }
            Operation::PutBack { back } => {
                let table = self.mirror.as_mut().unwrap().target_mut();
                if let Some(at) = table.commits.len().checked_sub(1 + back) {
                    met("a target was put back");
                    table.content = table.commits[at].clone();
                }
            }
        }
        self.no_drift()
    }

    fn no_drift(&mut self) -> Result<(), String> {
        self.mirror.as_mut().unwrap().target_mut().drift.take().map_or(Ok(()), Err)
    }

    /// A round, whatever becomes of it. True: it succeeded.
    fn catch_up(&mut self) -> Result<bool, String> {
        match self.mirror.as_mut().unwrap().catch_up() {
            Ok(outcome) => {
                if let MirrorOutcome::Replaced { because: Some(because), .. } = outcome {
                    met(format!("all the rows: {because:?}"));
                    ensure(because != Because::OtherStore, || format!("{outcome:?}"))?;
                }
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::Target => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The process ends: behind what is pending, if in order.
    fn close(&mut self, named: bool, upgrades: usize) -> Result<(), String> {
        self.table = self.mirror.take().map(Mirror::into_target);
        {
            let mut model = self.model();
            model.flush()?;
            model.sources.clear();
            model.store.close().map_err(|error| error.to_string())?;
            let schema = (model.schema + upgrades).min(KINDS.len() - 1);
            if schema != std::mem::replace(&mut model.schema, schema) {
                let Model { now, moments, .. } = &mut *model;
                for entity in moments.values_mut().chain([now]).flat_map(BTreeMap::values_mut) {
                    entity.0 += UPGRADE;
                }
            }
        }
        self.begin(self.disk.clone(), named)
    }

    /// The process is gone, and with it what was pending.
    fn die(&mut self, disk: Simulator, named: bool) -> Result<(), String> {
        self.table = self.mirror.take().map(Mirror::into_target);
        self.model().sources.clear();
        self.begin(disk, named)
    }

    fn begin(&mut self, disk: Simulator, named: bool) -> Result<(), String> {
        self.disk = disk;
        let store = open(&self.disk, self.durability)?;
        {
            let mut model = self.model();
            let newest = last_seq(&store);
            let before = model.moments.len();
            model.moments.retain(|seq, _| *seq <= newest);
            if model.moments.len() < before {
                met("a crash took a flush");
            }
            model.now = model.at(newest);
            model.sources = claim(&store);
            model.store = store;
            model.flushes = 0;
        }
        self.start(named)
    }

    /// In the end the target is the state, versions included.
    pub(crate) fn finish(mut self) -> Result<(), String> {
        self.model().flush()?;
        let table = self.mirror.as_mut().unwrap().target_mut();
        (table.fault, table.during, table.compacts) = (Fault::None, None, false);
        ensure(self.catch_up()?, || "a target without a fault failed".into())?;
        self.no_drift()?;
        let content = self.mirror.take().unwrap().into_target().content;
        let model = self.model();
        is_equal(&content, &model.now)?;
        for (key, (version, sources, a)) in &content.rows {
            let row = model.store.get(KINDS[model.schema], key).unwrap().unwrap();
            let found = (row.version(), row.sources().bits(), row.value().unwrap().a);
            ensure(found == (*version, *sources, *a), || {
                format!("{key:?} is {found:?}, the target has {content:?}")
            })?;
        }
        Ok(())
    }
}

fn chance(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed | 1;
    move |n| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 11).unwrap_or(0) % n.max(1)
    }
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}
