//! A log that is compacted, beside a vector that never forgets: what may be missing, and what may not.

use std::collections::BTreeMap;
use std::time::Duration;

use esker::{
    Check, CompactOptions, Durability, ErrorKind, IdempotencyKey, Journal, Keep, KindId, Options, Record,
    Region, Seq, Severity, Simulator, Start, View, WatchOptions, Watcher, verify_in,
};

use crate::choices::Dice;

/// A kind keeps the same for ever, so that what may be missing is known.
pub(crate) const KINDS: [(&str, Keep); 3] =
    [("audit", Keep::All), ("row", Keep::Latest), ("metric", Keep::Nothing)];

#[derive(Clone, Debug)]
pub(crate) struct Said {
    kind: usize,
    key: Vec<u8>,
    payload: Vec<u8>,
    generation: u64,
    is_tombstone: bool,
}

/// What a keyed batch was: where it begins, and how many entries it has.
type Keyed = BTreeMap<u8, (usize, usize)>;

/// What was once true: how much of the disk's work it took, and how much of the log there was.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) operations: usize,
    pub(crate) visible: usize,
    pub(crate) durable: usize,
    /// Which entries were still there.
    there: Vec<bool>,
    /// How far each cursor was durably.
    cursors: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) segment_bytes: u64,
    pub(crate) durability: Durability,
    pub(crate) copy_on_write: bool,
}

impl Manner {
    pub(crate) fn drawn(dice: &mut Dice) -> Self {
        Self {
            segment_bytes: if dice.one_in(3) { 16 << 10 } else { 4096 },
            durability: if dice.one_in(2) { Durability::Sync } else { Durability::Os },
            copy_on_write: dice.one_in(4),
        }
    }

    pub(crate) fn open(&self, disk: &Simulator) -> Result<Journal, String> {
        let options = Options::new().background(false).segment_bytes(self.segment_bytes);
        options.durability(self.durability).open_in(disk).map_err(|error| format!("open: {error}"))
    }
}

pub(crate) struct World {
    pub(crate) disk: Simulator,
    pub(crate) manner: Manner,
    journal: Option<Journal>,
    pub(crate) said: Vec<Said>,
    /// Which entries were there when it was last looked.
    there: Vec<bool>,
    durable: usize,
    keyed: Keyed,
    /// Where cursors are durably.
    cursors: BTreeMap<String, u64>,
    /// What was there when a cursor was made: it begins with that.
    born: BTreeMap<String, Vec<bool>>,
    /// What was to be erased: an entity, up to how many entries of the log.
    erased: BTreeMap<(usize, Vec<u8>), usize>,
    held: Vec<(View, Vec<u64>)>,
    watcher: Option<(String, Watcher)>,
    pub(crate) notes: Vec<Note>,
    /// How often something was dropped.
    pub(crate) dropped: u64,
}

pub(crate) type Checked = Result<(), String>;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl World {
    pub(crate) fn new(manner: Manner) -> Result<Self, String> {
        let disk = Simulator::new();
        disk.copy_on_write(manner.copy_on_write);
        Self::resume(disk, manner, Vec::new(), Vec::new(), Keyed::new())
    }

    fn resume(
        disk: Simulator,
        manner: Manner,
        said: Vec<Said>,
        there: Vec<bool>,
        keyed: Keyed,
    ) -> Result<Self, String> {
        let durable = said.len();
        let mut world = Self {
            disk,
            manner,
            journal: None,
            said,
            there,
            durable,
            keyed,
            cursors: BTreeMap::new(),
            born: BTreeMap::new(),
            erased: BTreeMap::new(),
            held: Vec::new(),
            watcher: None,
            notes: Vec::new(),
            dropped: 0,
        };
        world.open()?;
        Ok(world)
    }

    fn open(&mut self) -> Checked {
        let journal = self.manner.open(&self.disk)?;
        for (name, keep) in KINDS {
            let kind = journal.kind(name).map_err(text)?;
            journal.keep(kind, keep).map_err(text)?;
        }
        journal.sync().map_err(text)?;
        self.durable = self.said.len();
        self.cursors = cursors_of(&journal)?;
        self.journal = Some(journal);
        self.note();
        Ok(())
    }

    pub(crate) fn journal(&self) -> &Journal {
        self.journal.as_ref().expect("a journal is open between operations")
    }

    fn note(&mut self) {
        self.notes.push(Note {
            operations: self.disk.events(),
            visible: self.said.len(),
            durable: self.durable,
            there: self.there.clone(),
            cursors: self.cursors.clone(),
        });
    }

    pub(crate) fn step(&mut self, dice: &mut Dice) -> Checked {
        match dice.below(40) {
            0..=19 => self.append(dice, None)?,
            20..=23 => {
                let key = u8::try_from(dice.below(12)).unwrap_or(0);
                self.append(dice, Some(key))?;
            }
            24..=26 => self.repeat(dice)?,
            27..=30 => self.compact(dice)?,
            31 => self.derived_files_are_lost(dice)?,
            32 => self.reopen(true)?,
            33 => self.reopen(false)?,
            34 => {
                let view = self.journal().view();
                let seqs = seqs_of(view.range(..))?;
                self.held.push((view, seqs));
            }
            35..=37 => self.watch(dice)?,
            38 => self.crash(dice)?,
            39 if dice.one_in(2) => self.erase(dice)?,
            _ => {
                self.journal().sync().map_err(text)?;
                self.durable = self.said.len();
            }
        }
        self.note();
        Ok(())
    }

    fn append(&mut self, dice: &mut Dice, key: Option<u8>) -> Checked {
        let key = key.filter(|key| !self.keyed.contains_key(key));
        let journal = self.journal().clone();
        let count = if dice.one_in(3) { 1 + dice.below(4) } else { 1 };
        let mut batch = Vec::new();
        for _ in 0..count {
            let kind = dice.below(KINDS.len());
            let own = format!("k{}", dice.below(6)).into_bytes();
            let is_tombstone = kind == 1 && dice.one_in(6);
            let length = if dice.one_in(5) { 150 } else { 40 };
            let payload = if is_tombstone { Vec::new() } else { vec![dice.word() as u8; dice.below(length)] };
            batch.push(Said { kind, key: own, payload, generation: 0, is_tombstone });
        }
        let mut records = journal.batch();
        if let Some(key) = key {
            records = records.idempotency_key(IdempotencyKey([key; 16]));
        }
        let kinds: Vec<KindId> =
            KINDS.iter().map(|(name, _)| journal.kind(name)).collect::<Result<_, _>>().map_err(text)?;
        for said in &batch {
            let record = match said.is_tombstone {
                true => Record::tombstone(kinds[said.kind], &said.key),
                false => Record::new(kinds[said.kind], &said.key, &said.payload),
            };
            records.push(record);
        }
        let receipt = records.commit().map_err(text)?;
        if let Some(key) = key {
            self.keyed.insert(key, (self.said.len(), batch.len()));
        }
        for (mut said, receipt) in batch.into_iter().zip(&receipt.receipts) {
            if receipt.seq.get() != self.said.len() as u64 + 1 {
                return Err(format!("{receipt:?}, behind {} entries", self.said.len()));
            }
            said.generation = receipt.generation.get();
            let of_it = |(_, own): &(usize, &Said)| own.kind == said.kind && own.key == said.key;
            let before = self.said.iter().enumerate().rev().find(of_it);
            let newest = before.map_or(0, |(_, before)| before.generation);
            // A history goes on while its newest entry is there, and begins anew at the Seq if not.
            let goes_on = before.is_some_and(|(at, _)| self.there[at]);
            let is_right = said.generation > newest
                && match before {
                    Some(_) if goes_on => said.generation == newest + 1,
                    Some(_) => said.generation == receipt.seq.get(),
                    None => said.generation == 1 || said.generation == receipt.seq.get(),
                }
                && said.generation <= receipt.seq.get();
            if !is_right {
                return Err(format!("generation {} behind {newest}, {goes_on}", said.generation));
            }
            self.said.push(said);
            self.there.push(true);
        }
        if self.manner.durability == Durability::Sync {
            self.durable = self.said.len();
        }
        Ok(())
    }

    /// A keyed batch again: its answer is that of then, whatever became of its entries.
    fn repeat(&mut self, dice: &mut Dice) -> Checked {
        let keys: Vec<u8> = self.keyed.keys().copied().collect();
        if keys.is_empty() {
            return Ok(());
        }
        let key = keys[dice.below(keys.len())];
        let (start, count) = self.keyed[&key];
        let journal = self.journal().clone();
        let mut records = journal.batch().idempotency_key(IdempotencyKey([key; 16]));
        let said = self.said[start..start + count].to_vec();
        for said in &said {
            let kind = journal.kind(KINDS[said.kind].0).map_err(text)?;
            records.push(match said.is_tombstone {
                true => Record::tombstone(kind, &said.key),
                false => Record::new(kind, &said.key, &said.payload),
            });
        }
        let receipt = records.commit().map_err(|error| format!("repeat key {key}: {error}"))?;
        let is_right = receipt.repeated
            && receipt.receipts.iter().zip(start as u64 + 1..).zip(&said).all(|((receipt, seq), said)| {
                receipt.seq.get() == seq && receipt.generation.get() == said.generation
            });
        if is_right { Ok(()) } else { Err(format!("key {key} was answered {receipt:?}, said {said:?}")) }
    }

    fn compact(&mut self, dice: &mut Dice) -> Checked {
        let mut options = CompactOptions::new().thorough(dice.one_in(3));
        if dice.one_in(2) {
            options = options.keep_tombstones_for(Duration::ZERO);
        }
        if dice.one_in(5) {
            options = options.keep_entries(dice.below(40) as u64);
        }
        let journal = self.journal().clone();
        let done = journal.compact(&options).map_err(|error| format!("compact: {error}"))?;
        self.durable = self.said.len();
        let there = self.look(&journal, self.said.len()).map_err(|e| format!("behind {done:?}: {e}"))?;
        let count = |there: &[bool]| there.iter().filter(|there| **there).count() as u64;
        // What could not be erased then may be now.
        if count(&self.there) - count(&there) != done.entries_dropped {
            return Err(format!("{} entries went, {done:?}", count(&self.there) - count(&there)));
        }
        if done.damaged > 0 {
            return Err(format!("{done:?}"));
        }
        self.dropped += done.entries_dropped;
        self.there = there;
        self.check_held()
    }

    fn erase(&mut self, dice: &mut Dice) -> Checked {
        let (kind, key) = (dice.below(KINDS.len()), format!("k{}", dice.below(6)).into_bytes());
        let journal = self.journal().clone();
        let id = journal.kind(KINDS[kind].0).map_err(text)?;
        // From now on it may be gone.
        self.erased.insert((kind, key.clone()), self.said.len());
        let done = journal.erase(id, &key).map_err(|error| format!("erase: {error}"))?;
        self.durable = if done.through.is_some() { self.said.len() } else { self.durable };
        let there = self.look(&journal, self.said.len()).map_err(|e| format!("behind {done:?}: {e}"))?;
        let is_of = |at: &usize| self.said[*at].kind == kind && self.said[*at].key == key;
        let left = (0..there.len()).filter(is_of).filter(|at| there[*at]).count();
        if done.erased != (left == 0) || !done.erased && done.waiting_for.is_empty() {
            return Err(format!("{left} entries are left, {done:?}"));
        }
        self.there = there;
        self.check_held()
    }

    fn may_be_erased(&self, at: usize) -> bool {
        let said = &self.said[at];
        self.erased.get(&(said.kind, said.key.clone())).is_some_and(|through| at < *through)
    }

    /// An old view shows what it showed.
    fn check_held(&self) -> Checked {
        for (view, seqs) in &self.held {
            if seqs_of(view.range(..))? != *seqs {
                return Err("a view has changed".to_owned());
            }
        }
        Ok(())
    }

    fn watch(&mut self, dice: &mut Dice) -> Checked {
        // Who looks at everything holds back everything: not too often.
        let name = format!("c{}", if dice.one_in(8) { 0 } else { 1 + dice.below(2) });
        if self.watcher.as_ref().is_none_or(|(own, _)| *own != name) || dice.one_in(3) {
            self.watcher = None;
            let journal = self.journal().clone();
            if dice.one_in(if name == "c0" { 2 } else { 6 }) && journal.retire_cursor(&name).is_ok() {
                self.cursors.remove(&name);
                self.durable = self.said.len();
                return Ok(());
            }
            let kind = journal.kind(KINDS[dice.below(KINDS.len())].0).map_err(text)?;
            let region = match name.as_str() {
                "c0" => Region::all(),
                "c1" => Region::kind(journal.kind("row").map_err(text)?),
                _ => Region::entity(journal.kind("row").map_err(text)?, "k1"),
            };
            let _ = kind;
            let start = if dice.one_in(2) { Start::Oldest } else { Start::Newest };
            let options = WatchOptions::new().from(start).until(esker::Until::Visible);
            let watcher = journal.watch_with(&name, region, options).map_err(|e| format!("watch: {e}"))?;
            let place = watcher.position().map_or(0, Seq::get);
            if !self.cursors.contains_key(&name) {
                // It was made just now, durably.
                self.cursors.insert(name.clone(), place);
                self.born.insert(name.clone(), self.there.clone());
                self.durable = self.said.len();
            }
            self.watcher = Some((name, watcher));
        }
        let Some((name, watcher)) = &mut self.watcher else { return Ok(()) };
        for _ in 0..dice.below(120) {
            let before = watcher.position().map_or(0, Seq::get);
            if !watcher.advance().map_err(|error| format!("a watcher: {error}"))? {
                break;
            }
            let entry = watcher.entry();
            let seq = entry.seq().get();
            if before >= seq || self.said[seq as usize - 1].payload != entry.payload() {
                return Err(format!("{entry:?} behind {before}"));
            }
        }
        if dice.one_in(2) {
            watcher.checkpoint().map_err(|error| format!("checkpoint: {error}"))?;
            let place = watcher.position().map_or(0, Seq::get);
            if self.cursors.insert(name.clone(), place).is_some_and(|before| before < place) {
                self.durable = self.said.len();
            }
        }
        Ok(())
    }

    fn reopen(&mut self, in_order: bool) -> Checked {
        self.let_go();
        if let Some(journal) = self.journal.take().filter(|_| in_order) {
            journal.close().map_err(text)?;
        }
        if in_order {
            self.open()?;
        } else {
            let disk = self.disk.kill(self.disk.events());
            disk.copy_on_write(self.manner.copy_on_write);
            self.disk = disk;
            self.notes.clear();
            self.open()?;
        }
        let journal = self.journal().clone();
        self.there = self.look(&journal, self.said.len())?;
        Ok(())
    }

    /// Readers hold on to the journal that they are of.
    fn let_go(&mut self) {
        self.watcher = None;
        self.held.clear();
    }

    /// Indexes and the directory of entities can be made again.
    fn derived_files_are_lost(&mut self, dice: &mut Dice) -> Checked {
        self.let_go();
        drop(self.journal.take());
        let mut files = self.disk.kill(self.disk.events()).files();
        let all = dice.one_in(3);
        files.retain(|name, _| {
            let is_derived = name.ends_with(".idx") || name == "entities";
            !(is_derived && (all || dice.one_in(2)))
        });
        self.disk = Simulator::with(files);
        self.disk.copy_on_write(self.manner.copy_on_write);
        self.notes.clear();
        self.open()?;
        let journal = self.journal().clone();
        self.there = self.look(&journal, self.said.len())?;
        Ok(())
    }

    fn crash(&mut self, dice: &mut Dice) -> Checked {
        self.let_go();
        drop(self.journal.take());
        let files = self.disk.crash_image(self.disk.events(), &mut |n| dice.below(n));
        self.survive(files)
    }

    /// Goes on with what a crash left of the last moment.
    fn survive(&mut self, files: BTreeMap<String, Vec<u8>>) -> Checked {
        self.disk = Simulator::with(files);
        self.disk.copy_on_write(self.manner.copy_on_write);
        let journal = self.manner.open(&self.disk)?;
        let count = newest(&journal)?;
        if count < self.durable || count > self.said.len() {
            return Err(format!("{count} entries of {}, {} durable", self.said.len(), self.durable));
        }
        drop(journal);
        self.said.truncate(count);
        self.there.truncate(count);
        self.keyed.retain(|_, (start, _)| *start < count);
        self.notes.clear();
        self.open()?;
        let journal = self.journal().clone();
        self.there = self.look(&journal, count)?;
        Ok(())
    }

    /// What a crash behind so many operations of the disk left is opened, and judged.
    pub(crate) fn judge(
        &self,
        files: BTreeMap<String, Vec<u8>>,
        at: usize,
        goes_on: bool,
        dice: &mut Dice,
    ) -> Checked {
        let done = self.notes.iter().rev().find(|note| note.operations <= at);
        let (least, mut there, cursors) = done
            .map_or_else(Default::default, |note| (note.durable, note.there.clone(), note.cursors.clone()));
        let most =
            self.notes.iter().find(|note| note.operations >= at).map_or(self.said.len(), |n| n.visible);
        let disk = Simulator::with(files);
        disk.copy_on_write(self.manner.copy_on_write);
        let journal = self.manner.open(&disk)?;
        let count = newest(&journal)?;
        if count < least || count > most {
            return Err(format!("{count} entries, where {least} to {most} were to be"));
        }
        there.resize(count, true);
        let found = self.look(&journal, count)?;
        if found.iter().zip(&there).any(|(found, there)| *found && !*there) {
            return Err("an entry came back that was dropped".to_owned());
        }
        let now = cursors_of(&journal)?;
        for (name, place) in &cursors {
            // It may have been retired, or moved on, by what was under way.
            if now.get(name).is_some_and(|now| now < place) {
                return Err(format!("cursor {name} at {:?}, which was at {place}", now.get(name)));
            }
        }
        drop(journal);
        if goes_on {
            let mut said = self.said.clone();
            said.truncate(count);
            let mut keyed = self.keyed.clone();
            keyed.retain(|_, (start, _)| *start < count);
            let mut next = Self::resume(disk, self.manner, said, found, keyed)?;
            next.erased = self.erased.clone();
            for _ in 0..12 {
                next.step(dice).map_err(|error| format!("in a further life: {error}"))?;
            }
            next.compact(dice)?;
            next.is_valid()?;
        }
        Ok(())
    }

    pub(crate) fn is_valid(&mut self) -> Checked {
        let journal = self.journal().clone();
        let there = self.look(&journal, self.said.len())?;
        if there != self.there {
            return Err("entries went without a compaction".to_owned());
        }
        journal.sync().map_err(text)?;
        let mut findings = verify_in(&self.disk, Check::Full).map_err(text)?.findings;
        findings.retain(|finding| finding.severity != Severity::Note && finding.file != "LOCK");
        if findings.is_empty() { Ok(()) } else { Err(format!("{findings:#?}")) }
    }

    /// Reads everything in every way, and answers which entries are there.
    fn look(&self, journal: &Journal, count: usize) -> Result<Vec<bool>, String> {
        let view = journal.view();
        let mut there = vec![false; count];
        let mut last = 0;
        for entry in view.range(..) {
            let entry = entry.map_err(text)?;
            let seq = entry.seq().get();
            let said = self.said.get(seq as usize - 1).filter(|_| seq > last && seq <= count as u64);
            let is_right = said.is_some_and(|said| {
                entry.key() == said.key
                    && entry.payload() == said.payload
                    && entry.generation().get() == said.generation
                    && entry.is_tombstone() == said.is_tombstone
            });
            if !is_right {
                return Err(format!("{entry:?} behind {last}, where {said:?} was appended"));
            }
            there[seq as usize - 1] = true;
            last = seq;
        }
        let is_there: Vec<u64> = (1..).zip(&there).filter(|(_, there)| **there).map(|(seq, _)| seq).collect();
        let mut backward = seqs_of(view.range(..).rev())?;
        backward.reverse();
        if backward != is_there {
            return Err(format!("backward {backward:?}, forward {is_there:?}"));
        }
        for (at, there) in there.iter().enumerate() {
            let seq = Seq::new(at as u64 + 1).expect("from one on");
            let is_right = match view.get(seq) {
                Ok(Some(entry)) => *there && entry.payload() == self.said[at].payload,
                Ok(None) => false,
                Err(error) => !there && error.kind() == ErrorKind::Compacted,
            };
            if !is_right {
                return Err(format!("get {seq}: {:?}, there: {there}", view.get(seq)));
            }
        }
        for (number, (name, keep)) in KINDS.into_iter().enumerate() {
            let Some(kind) = journal.kind_named(name) else { continue };
            self.look_at_kind(&view, kind.id, number, keep, &there)?;
        }
        self.look_from_cursors(journal, &there)?;
        Ok(there)
    }

    fn look_at_kind(&self, view: &View, kind: KindId, number: usize, keep: Keep, there: &[bool]) -> Checked {
        let floor = view.floor(&Region::kind(kind)).map_or(0, Seq::get);
        let of_kind: Vec<usize> = (0..there.len()).filter(|at| self.said[*at].kind == number).collect();
        let is_there: Vec<u64> = of_kind.iter().filter(|at| there[**at]).map(|at| *at as u64 + 1).collect();
        if seqs_of(view.kind(kind))? != is_there {
            return Err(format!("the entries of kind {number}"));
        }
        let is_gone = |at: &&usize| !there[**at] && !self.may_be_erased(**at);
        let is_erased = self.erased.keys().any(|(kind, _)| *kind == number);
        if keep == Keep::All && (of_kind.iter().any(|at| is_gone(&at)) || floor > 0 && !is_erased) {
            return Err("something was dropped that is kept for ever".to_owned());
        }
        if let Some(gone) = of_kind.iter().find(|at| !there[**at] && **at as u64 + 1 >= floor) {
            return Err(format!("entry {} is not there, above the floor {floor}", gone + 1));
        }
        for key in 0..6 {
            let key = format!("k{key}").into_bytes();
            let history: Vec<usize> =
                of_kind.iter().copied().filter(|at| self.said[*at].key == key).collect();
            self.look_at_entity(view, (kind, &key), &history, keep, there)?;
        }
        Ok(())
    }

    fn look_at_entity(
        &self,
        view: &View,
        (kind, key): (KindId, &[u8]),
        history: &[usize],
        keep: Keep,
        there: &[bool],
    ) -> Checked {
        let Some(newest) = history.last() else { return Ok(()) };
        let name = || format!("{kind}/{}", String::from_utf8_lossy(key));
        let left: Vec<usize> = history.iter().copied().filter(|at| there[*at]).collect();
        if !left.is_empty() && !there[*newest] {
            return Err(format!("{}: its newest entry is gone, and {left:?} are left", name()));
        }
        let may_be_gone = self.said[*newest].is_tombstone || self.may_be_erased(*newest);
        if keep == Keep::Latest && left.is_empty() && !may_be_gone {
            return Err(format!("{}: nothing is left of a row that lives", name()));
        }
        let latest = view.latest(kind, key).map_err(text)?.map(|entry| entry.seq().get() as usize - 1);
        if latest != left.last().copied() {
            return Err(format!("{}: the latest is {latest:?}, of {left:?}", name()));
        }
        // What is dense up to the newest, and from there back to a first one, is the history.
        let mut dense = Vec::new();
        let mut next: Option<usize> = None;
        for at in left.iter().rev() {
            if let Some(next) = next {
                let (one, other) = (&self.said[*at], &self.said[next]);
                let is_first = other.generation == next as u64 + 1 || other.generation == 1;
                if other.generation != one.generation + 1 && !is_first {
                    break;
                }
            }
            dense.push(*at as u64 + 1);
            next = Some(*at);
        }
        let mut found = Vec::new();
        let mut error = None;
        for entry in view.entity(kind, key).rev() {
            match entry {
                Ok(entry) => found.push(entry.seq().get()),
                Err(other) => error = Some(other.kind()),
            }
        }
        if error.is_some_and(|kind| kind != ErrorKind::Compacted) || found != dense {
            return Err(format!("{}: backward {found:?} and {error:?}, not {dense:?}", name()));
        }
        let whole = view.entity(kind, key).collect::<Result<Vec<_>, _>>();
        let is_erased = history.iter().any(|at| self.may_be_erased(*at));
        if keep == Keep::All && !is_erased && whole.as_ref().map_or(0, Vec::len) != history.len() {
            return Err(format!("{}: {whole:?} of {history:?}", name()));
        }
        match (&whole, error) {
            (Ok(entries), None) if entries.len() == left.len() => Ok(()),
            (Err(error), Some(_)) if error.kind() == ErrorKind::Compacted => Ok(()),
            _ => Err(format!("{}: forward {whole:?}, backward {error:?}", name())),
        }
    }

    /// Nobody who reads under a name has lost anything.
    fn look_from_cursors(&self, journal: &Journal, there: &[bool]) -> Checked {
        for cursor in journal.cursors().map_err(text)? {
            let seen = cursor.seq.map_or(0, Seq::get) as usize;
            // Of one that another life made nothing is known here.
            let Some(born) = self.born.get(&cursor.name) else { continue };
            let was_there = |at: usize| born.get(at).copied().unwrap_or(true);
            let is_of = |said: &Said| match &cursor.region {
                Region::All => true,
                Region::Kind(_) => said.kind == 1,
                _ => said.kind == 1 && said.key == b"k1",
            };
            let gone = (seen..there.len()).find(|at| !there[*at] && was_there(*at) && is_of(&self.said[*at]));
            if let Some(gone) = gone {
                return Err(format!(
                    "entry {} is gone, which {} has not seen: {cursor:?}",
                    gone + 1,
                    cursor.name
                ));
            }
        }
        Ok(())
    }
}

fn newest(journal: &Journal) -> Result<usize, String> {
    Ok(journal.view().last_seq().map_err(text)?.map_or(0, Seq::get) as usize)
}

fn cursors_of(journal: &Journal) -> Result<BTreeMap<String, u64>, String> {
    let cursors = journal.cursors().map_err(text)?;
    Ok(cursors.into_iter().map(|cursor| (cursor.name, cursor.seq.map_or(0, Seq::get))).collect())
}

fn seqs_of<'v>(entries: impl Iterator<Item = esker::Result<esker::Entry<'v>>>) -> Result<Vec<u64>, String> {
    entries.map(|entry| entry.map(|entry| entry.seq().get()).map_err(text)).collect()
}
