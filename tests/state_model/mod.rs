//! A store with live state on a simulated disk beside its model; see [`oracle`].

pub(crate) mod events;
mod failing;
mod follower;
pub(crate) mod operation;
mod oracle;
mod silence;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use esker::{
    Behind, Check, CompactOptions, Durability, ErrorKind, EventOperation, Kind, Made, Options, Patch,
    RowFields, Simulator, Source, Status, Store, Token, Until, Upcaster, Verdict, Window,
};

use events::Suppressed;
use follower::{Follower, Gathered};
use operation::{EpochEnd, Operation};
use oracle::{Entity, Moment, Oracle, Row};
use silence::{DEADLINE, Silence};

impl Row {
    /// One with all its fields.
    fn new(a: u8, b: Option<String>) -> Self {
        Self { a, b, c: (0..a).map(|n| (n, n)).collect() }
    }

    /// As the next version of the kind has it.
    fn age(&mut self) {
        *self = Self::new((self.a + 1) % 3, self.b.take());
    }
}

/// The same of a row as it was written. Its fields come in another order too.
const AGE: Upcaster = |fields: &mut RowFields| {
    let b: Option<String> = fields.get("b")?.flatten();
    let mut row = Row { a: fields.get("a")?.unwrap_or_default(), b, ..Row::default() };
    row.age();
    fields.remove("b");
    fields.set("a", &row.a)?;
    fields.set("c", &row.c)?;
    fields.set("b", &row.b)?;
    Ok(())
};

const VERSIONS: u16 = 3;
const KINDS: [Kind<Row>; VERSIONS as usize] = [
    Kind::new("row"),
    Kind::new("row").version(2).upcasts(&[(1, AGE)]),
    Kind::new("row").version(3).upcasts(&[(1, AGE), (2, AGE)]),
];
pub(crate) const KEYS: [&str; 4] = ["a", "b", "c", "d"];
pub(crate) const SOURCES: [&str; 3] = ["one", "two", "three"];

/// What is rare, and how often it was met.
pub(crate) static MET: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

fn met(what: &'static str) {
    *MET.lock().unwrap().entry(what).or_default() += 1;
}

pub(crate) struct World {
    kind: Kind<Row>,
    durability: Durability,
    /// Epochs end in more than one batch.
    in_parts: bool,
    disk: Simulator,
    store: Store,
    sources: [Option<Source>; SOURCES.len()],
    oracle: Oracle,
    silence: Silence,
    /// Who has an epoch open.
    epoch_of: Option<usize>,
    /// Windows that this opening has flushed, as far as the model knows.
    flushes: u64,
    /// A flush failed, and what it was to append is pending.
    has_failed: bool,
    /// Entities that compaction has left nothing of.
    forgotten: BTreeSet<&'static str>,
    follower: Option<Follower>,
    /// A follower that was ended: how far it came, and what it had gathered.
    left: Option<(Token, Gathered)>,
}

fn text(error: esker::Error) -> String {
    error.to_string()
}

fn open(disk: &Simulator, durability: Durability, silence: &Silence, in_parts: bool) -> Store {
    let options = Options::new().durability(durability).background(false).window(Window::Manual);
    let options = if in_parts { options.epoch_batch_bytes(0) } else { options };
    Store::over(options.segment_bytes(4096).clock(silence.clock.clone()).open_in(disk).unwrap())
}

impl World {
    pub(crate) fn new(durability: Durability, logged: bool, in_parts: bool) -> Result<Self, String> {
        let (disk, silence) = (Simulator::new(), Silence::default());
        let store = open(&disk, durability, &silence, in_parts);
        let kind = if logged { KINDS[0].events() } else { KINDS[0] };
        let mut world = Self {
            kind,
            durability,
            in_parts,
            disk,
            store,
            sources: Default::default(),
            oracle: Oracle::new(),
            silence,
            epoch_of: None,
            flushes: 0,
            has_failed: false,
            forgotten: BTreeSet::new(),
            follower: None,
            left: None,
        };
        // Each has the number of its place, for good.
        (0..SOURCES.len()).try_for_each(|at| world.source(at).map(drop))?;
        world.store.journal().sync().map_err(text)?;
        Ok(world)
    }

    pub(crate) fn step(&mut self, operation: &Operation) -> Result<(), String> {
        match *operation {
            Operation::Assert { source, key, a, b } => {
                // One that does not fit the window of another.
                let most = if self.kind.has_events() { 300 } else { 700 };
                let text = b.then(|| "x".repeat(if a == 0 { 20 } else { most }));
                self.assert(source, KEYS[key], Row::new(a, text))?;
            }
            Operation::Repeat { source, key } => {
                let row = self.oracle.row(KEYS[key]).unwrap_or_default();
                self.assert(source, KEYS[key], row)?;
            }
            Operation::Patch { source, key, a, other } => self.patch(source, KEYS[key], a, other)?,
            Operation::Update { source, key } => self.update(source, KEYS[key])?,
            Operation::Retract { source, key } => {
                let session = self.source(source)?;
                let tended = self.speaks(source);
                session.retract(self.kind, KEYS[key]).map_err(text)?;
                self.said(tended, |world| world.unsay(KEYS[key], source))?;
            }
            Operation::Epoch { source, keys, a, end } => self.epoch(source, keys, a, end)?,
            Operation::CutEpoch { source, keys, part } => self.cut_an_epoch(source, keys, part)?,
            Operation::Pass { time, looks, killed } => self.pass(time, looks, killed)?,
            Operation::Heartbeat { source } => {
                let session = self.source(source)?;
                self.speaks(source);
                session.heartbeat().map_err(text)?;
                self.count_flushes();
            }
            Operation::LetGo { source } => self.let_go(source),
            Operation::Flush => self.flush()?,
            Operation::Wait => self.wait()?,
            Operation::Follow { behind, capacity, resume, catches_up } => {
                self.follow(behind, capacity, resume)?;
                self.read(if catches_up { 10_000 } else { 0 })?;
            }
            Operation::Read { items } => {
                self.read(items)?;
                self.check_told()?;
            }
            Operation::StayAway { source, key, changes } => self.stay_away(source, key, changes)?,
            Operation::Compact { thorough } => self.compact(thorough)?,
            Operation::FullDisk { source, key, says } => self.fill_the_disk(source, key, says)?,
            Operation::FailSync { source, after, forgets, crash } => {
                self.fail_a_sync(source, after, forgets, crash)?;
            }
            Operation::Close => self.close(|_| {})?,
            Operation::Upgrade => self.close(Self::upgrade)?,
            Operation::Kill => {
                self.leave();
                let killed = self.disk.kill(self.disk.events());
                self.die(killed)?;
            }
            Operation::Scan => self.scan()?,
            Operation::Crash { seed, leaves } => {
                if leaves {
                    self.leave();
                }
                self.cut_power(seed)?;
            }
        }
        self.check()
    }

    /// A follower leaves, so much changes, compaction drops what it can, and the follower comes back.
    fn stay_away(&mut self, source: usize, key: usize, changes: u8) -> Result<(), String> {
        self.follow(Behind::Resume, 4096, true)?;
        self.read(10_000)?;
        self.leave();
        // Nothing of another entity need be left, which comes back then.
        let other = (key + 1) % KEYS.len();
        let goes = changes > 5;
        for source in (0..SOURCES.len()).filter(|_| goes) {
            self.step(&Operation::Retract { source, key: other })?;
        }
        for n in 0..changes {
            self.step(&Operation::Assert { source, key, a: 1 + n % 2, b: true })?;
            self.flush()?;
        }
        self.compact(true)?;
        if goes {
            self.step(&Operation::Patch { source, key: other, a: 1, other: false })?;
            self.flush()?;
        }
        self.follow(Behind::Resume, 4096, true)?;
        self.read(10_000)
    }

    fn assert(&mut self, source: usize, key: &'static str, row: Row) -> Result<(), String> {
        let session = self.source(source)?;
        let tended = self.speaks(source);
        if self.oracle.row(key).as_ref() == Some(&row) && self.is_older(key)? {
            met("a row of an older schema was said again");
        }
        session.assert(self.kind, key, &row).map_err(text)?;
        self.said(tended, |world| world.say(key, source, row, EventOperation::Assert))
    }

    fn patch(&mut self, source: usize, key: &'static str, a: u8, other: bool) -> Result<(), String> {
        let session = self.source(source)?;
        let tended = self.speaks(source);
        let before = self.oracle.row(key);
        let is_remembered = || matches!(self.store.status(self.kind, key), Ok(Status::Tombstone { .. }));
        if before.is_none() && !self.oracle.is_touched(key) && is_remembered() {
            met("a patch made again what had been deleted");
        } else if self.is_older(key)? {
            met("a row of an older schema was patched");
        }
        let mut row = Row { a, ..before.unwrap_or_default() };
        let mut patch = Patch::new().set("a", &a).map_err(text)?;
        if other {
            row.b = Some("patched".into());
            patch = patch.set("b", &row.b).map_err(text)?;
        }
        session.patch(self.kind, key, &patch).map_err(text)?;
        self.said(tended, |world| world.say(key, source, row, EventOperation::Patch))
    }

    fn update(&mut self, source: usize, key: &'static str) -> Result<(), String> {
        let session = self.source(source)?;
        let tended = self.speaks(source);
        let row = self.oracle.row(key).unwrap_or_default();
        let next = Row { a: (row.a + 1) % 3, ..row.clone() };
        let mut seen = None;
        let change = |row: Option<Row>| {
            let row = row.unwrap_or_default();
            seen = Some(row.clone());
            Row { a: (row.a + 1) % 3, ..row }
        };
        session.update(self.kind, key, change).map_err(text)?;
        ensure(seen == Some(row), "an update sees what is pending")?;
        self.said(tended, |world| world.say(key, source, next, EventOperation::Patch))
    }

    /// True if what is visible of an entity was written by an older version, and nothing of it is pending.
    fn is_older(&self, key: &str) -> Result<bool, String> {
        let row = self.store.get(self.kind, key).map_err(text)?;
        let version = row.map(|row| row.row().schema_version());
        Ok(version.is_some_and(|version| version < self.kind.schema_version())
            && !self.oracle.is_touched(key))
    }

    fn wait(&mut self) -> Result<(), String> {
        let key = KEYS[0];
        let session = self.source(0)?;
        let tended = self.speaks(0);
        let ticket = session.retract(self.kind, key).map_err(text)?;
        self.said(tended, |world| world.unsay(key, 0))?;
        if self.store.state_stats().unwrap().pending == 0 {
            return Ok(());
        }
        let before = self.oracle.visible().state.get(key).cloned();
        let committed = ticket.wait(Until::Durable).map_err(text)?;
        let expected = match (before, self.oracle.now.get(key)) {
            (None, None) => Made::Nothing,
            (None, Some(_)) => Made::Created,
            (Some(_), None) => Made::Deleted,
            (Some(before), Some(now)) if before.row != now.row => Made::Updated,
            (Some(before), Some(now)) if before.sources != now.sources => Made::SourcesOnly,
            _ => Made::Nothing,
        };
        ensure(committed.change == expected, &format!("{committed:?}, expected {expected:?}"))?;
        self.flush()?;
        self.all_is_durable()
    }

    fn epoch(&mut self, source: usize, keys: u8, a: u8, end: EpochEnd) -> Result<(), String> {
        let session = self.source(source)?;
        self.speaks(source);
        let epoch = session.epoch(self.kind).map_err(text)?;
        self.count_flushes();
        self.epoch_of = Some(source);
        let is_said = |at: usize| keys & 1 << at != 0;
        for key in (0..KEYS.len()).filter(|at| is_said(*at)) {
            self.step(&Operation::Assert { source, key, a, b: false })?;
        }
        self.epoch_of = None;
        match end {
            EpochEnd::Drops => return Ok(()),
            EpochEnd::FallsSilent if silence::speaks_for_itself(source) => {
                self.pass(DEADLINE, false, None)?;
                self.speaks(source);
                let refused = epoch.commit().err().map(|error| error.kind());
                self.count_flushes();
                met("an epoch was abandoned by silence");
                return ensure(
                    refused == Some(ErrorKind::SourceEnded),
                    &format!("an epoch of silence: {refused:?}"),
                );
            }
            _ => {}
        }
        // What is pending goes first.
        let first = self.store.state_stats().unwrap();
        let first = first.flushes + u64::from(first.pending > 0);
        let begun = self.disk.events();
        let outcome = epoch.commit().map_err(text)?;
        self.count_flushes();
        self.oracle.flushed();
        let (batches, mut retracted, mut left) = (self.flushes - first, 0, false);
        for (_, key) in KEYS.iter().enumerate().filter(|(at, _)| !is_said(*at)) {
            if self.oracle.now.get(key).is_some_and(|entity| entity.sources.contains(&source)) {
                self.take_back(key, source, Suppressed::Synthetic);
                retracted += 1;
                let is_left = self.oracle.now.contains_key(key);
                met(match is_left {
                    true => "an epoch left what others assert",
                    false => "an epoch took something back",
                });
                left |= is_left;
            }
        }
        ensure(outcome.retracted == retracted, &format!("{outcome:?}, expected {retracted}"))?;
        match end {
            EpochEnd::Killed(part) => {
                self.oracle.flushed();
                self.kill_within(begun, part, "killed while an epoch ended")?;
                // Some of its batches were there, and the opening has carried on the others.
                if self.in_parts && left && (1..batches).contains(&self.flushes) {
                    met("an epoch that left what others assert was cut between its batches");
                }
                Ok(())
            }
            _ => self.has_flushed(),
        }
    }

    /// Its rows are so large that a batch takes back one or two.
    fn cut_an_epoch(&mut self, source: usize, keys: u8, part: u8) -> Result<(), String> {
        let other = (source + 1) % SOURCES.len();
        for key in 0..KEYS.len() {
            self.step(&Operation::Assert { source, key, a: 1, b: true })?;
            if keys & 1 << key != 0 {
                self.step(&Operation::Patch { source: other, key, a: 1, other: false })?;
            }
        }
        self.epoch(source, keys & 1, 2, EpochEnd::Killed(part))
    }

    fn say(&mut self, key: &'static str, source: usize, row: Row, operation: EventOperation) {
        let before = self.oracle.row(key);
        self.oracle.say(key, source, row);
        self.tell(key, source, operation, before, self.suppressed(source));
    }

    fn suppressed(&self, source: usize) -> Suppressed {
        if self.epoch_of == Some(source) { Suppressed::InEpoch } else { Suppressed::No }
    }

    fn unsay(&mut self, key: &'static str, source: usize) {
        self.take_back(key, source, self.suppressed(source));
    }

    fn take_back(&mut self, key: &'static str, source: usize, suppressed: Suppressed) {
        self.oracle.unsay(key, source);
        self.tell(key, source, EventOperation::Retract, None, suppressed);
    }

    /// Does what an operation does. It may have ended the window before it, for which it was too large, and the one
    /// that it is in, which should not wait. Where others were ended on the way, nothing was pending before it.
    fn said(&mut self, tended: bool, say: impl FnOnce(&mut Self)) -> Result<(), String> {
        let stats = self.store.state_stats().unwrap();
        let flushes = stats.flushes - std::mem::replace(&mut self.flushes, stats.flushes);
        let ends_its_own = stats.pending == 0;
        if !tended && flushes > u64::from(ends_its_own) {
            met("a window ended before an operation");
            self.oracle.flushed();
        }
        say(self);
        if ends_its_own { self.has_flushed() } else { Ok(()) }
    }

    fn count_flushes(&mut self) {
        self.flushes = self.store.state_stats().unwrap().flushes;
    }

    fn flush(&mut self) -> Result<(), String> {
        self.store.flush().map_err(text)?;
        self.looks();
        self.has_flushed()
    }

    /// A flush was waited for as the durability says.
    fn has_flushed(&mut self) -> Result<(), String> {
        self.count_flushes();
        if std::mem::take(&mut self.has_failed) {
            met("what had failed for want of space came later");
        }
        self.oracle.flushed();
        if self.durability == Durability::Sync { self.all_is_durable() } else { Ok(()) }
    }

    fn all_is_durable(&mut self) -> Result<(), String> {
        for key in KEYS {
            if self.oracle.visible().state.contains_key(key) && self.forgotten.remove(key) {
                met("what was forgotten came back");
            }
        }
        let (store, kind) = (&self.store, self.kind);
        self.oracle.acknowledge(|key| match store.status(kind, key).map_err(text)? {
            Status::Alive { version, .. } | Status::Tombstone { version } => Ok(Some(version)),
            _ => Ok(None),
        })
    }

    fn compact(&mut self, thorough: bool) -> Result<(), String> {
        // Every tombstone is older than now: that is a matter of the wall clock alone.
        let clock = &self.silence.clock;
        clock.set(clock.now() + 1_000_000);
        let options = CompactOptions::new().thorough(thorough).keep_tombstones_for(Duration::ZERO);
        let done = self.store.journal().compact(&options).map_err(text)?;
        if done.entries_dropped > 0 {
            met("something was compacted");
            self.oracle.forgets = true;
        }
        let journal = self.store.journal();
        if let Some(rows) = journal.kind_named(self.kind.name()) {
            let view = journal.view();
            let is_gone = |key: &&&str| {
                self.oracle.knows(key) && matches!(view.latest(rows.id, key.as_bytes()), Ok(None))
            };
            self.forgotten = KEYS.iter().filter(is_gone).copied().collect();
        }
        Ok(())
    }

    fn close(&mut self, between: impl FnOnce(&mut Self)) -> Result<(), String> {
        self.leave();
        self.sources = Default::default();
        self.store.close().map_err(text)?;
        self.oracle.flushed();
        self.oracle.acknowledged = self.oracle.flushes.len() - 1;
        between(self);
        self.reopen(self.disk.clone())
    }

    /// The next version of the kind, if there is one.
    fn upgrade(&mut self) {
        let Some(next) = KINDS.get(usize::from(self.kind.schema_version())) else { return };
        self.kind = if self.kind.has_events() { next.events() } else { *next };
        self.oracle.upgrade(Row::age);
        // Who follows knows the new version too.
        self.left.iter_mut().for_each(|(_, gathered)| gathered.age());
    }

    /// The process ends: what is pending is gone, and what was not acknowledged may be.
    fn die(&mut self, disk: Simulator) -> Result<(), String> {
        self.sources = Default::default();
        self.reopen(disk)
    }

    fn reopen(&mut self, disk: Simulator) -> Result<(), String> {
        self.disk = disk;
        self.silence = Silence::default();
        self.store = open(&self.disk, self.durability, &self.silence, self.in_parts);
        self.has_failed = false;
        self.count_flushes();
        if self.flushes > 0 {
            met("an opening carried on the end of an epoch");
        }
        let (found, told) = (self.shown()?, self.count_told());
        self.oracle.reopened(found, told)?;
        for source in self.store.journal().sources().iter().filter(|source| source.settled) {
            let asserts = |entity: &Entity| entity.sources.contains(&usize::from(source.id));
            ensure(!self.oracle.now.values().any(asserts), "who is settled asserts nothing")?;
        }
        self.check_told()
    }

    /// The state as the store has it, with what every way of reading says of it.
    fn shown(&self) -> Result<Moment, String> {
        let mut found = Moment::new();
        for key in KEYS {
            let row = self.store.get(self.kind, key).map_err(text)?;
            let status = self.store.status(self.kind, key).map_err(text)?;
            let Some(row) = row else {
                ensure(!matches!(status, Status::Alive { .. }), "a status of what is not there")?;
                continue;
            };
            let sources = row.sources().ids().map(usize::from).collect();
            ensure(
                status == Status::Alive { version: row.version(), sources: row.sources() },
                "a status is what the row says",
            )?;
            found.insert(key, Entity { row: row.value().map_err(text)?, sources });
        }
        Ok(found)
    }

    fn check(&self) -> Result<(), String> {
        let (found, expected) = (self.shown()?, &self.oracle.visible().state);
        ensure(found == *expected, &format!("{found:?} is visible, expected {expected:?}"))
    }

    fn scan(&mut self) -> Result<(), String> {
        let scanned = self.store.scan(self.kind).map_err(text)?;
        // A scan makes what it shows durable.
        self.all_is_durable()?;
        let found = &self.oracle.visible().state;
        let mut keys = BTreeSet::new();
        for row in scanned {
            let row = row.map_err(text)?;
            let key = *KEYS.iter().find(|key| key.as_bytes() == row.key()).unwrap();
            ensure(keys.insert(key), "a row comes once")?;
            ensure(row.value().unwrap() == found[key].row, "a scan shows what is there")?;
        }
        ensure(keys.len() == found.len(), "a scan shows all that is there")
    }

    pub(crate) fn finish(mut self) -> Result<(), String> {
        self.flush()?;
        self.read(10_000)?;
        self.scan()?;
        self.check_told()?;
        drop(self.follower.take());
        self.sources = Default::default();
        self.store.close().map_err(text)?;
        let verified = esker::verify_in(&self.disk, Check::Full).map_err(text)?;
        ensure(verified.verdict == Verdict::Valid, &format!("{:?}", verified.findings))
    }
}

fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}
