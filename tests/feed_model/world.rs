//! A journal on the simulated disk beside its model: every operation is done to both, and after
//! each of them both must say the same.
//!
//! What holds: a watcher is shown every entry of its region from where its cursor says, in order
//! and without a gap; a subscriber is shown what it was not told that it missed; nobody is shown
//! as durable what a crash then takes; a crash leaves one moment of the log as a whole, so that no
//! cursor is ahead of it, none is behind an acknowledged checkpoint, and a batch moved its cursor
//! if and only if it is there.

use std::collections::BTreeMap;

use esker::{Durability, ErrorKind, Journal, KindId, Options, Seq, Simulator};

use super::operation::{KEYS, NAMES, Operation, Saying, Waits};
use super::plain::{Change, Checked, Plain, Trouble, cursors_of, ensure, met, region};
use super::readers::{Subscribing, Truth, Watching};
use super::writing::{Keyed, Prepared};

/// How a store is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) segment_bytes: u64,
    pub(crate) durability: Durability,
    /// Frames are written by calls, which may fail.
    pub(crate) copy_on_write: bool,
}

impl Manner {
    pub(crate) fn open(self, disk: &Simulator) -> esker::Result<Journal> {
        disk.copy_on_write(self.copy_on_write);
        let options = Options::new().background(false);
        options.segment_bytes(self.segment_bytes).durability(self.durability).open_in(disk)
    }
}

/// What was promised and begun when the disk had done so much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Note {
    pub(crate) operations: usize,
    pub(crate) durable: usize,
    pub(crate) moments: usize,
}

pub(crate) struct World {
    pub(crate) disk: Simulator,
    pub(crate) plain: Plain,
    /// What held before each operation, and behind it.
    pub(crate) notes: Vec<(Note, Note)>,
    pub(super) manner: Manner,
    pub(super) journal: Journal,
    pub(crate) kinds: Vec<KindId>,
    pub(super) watchers: BTreeMap<usize, Watching>,
    pub(super) subscribers: BTreeMap<usize, Subscribing>,
    pub(super) prepared: Option<Prepared>,
    pub(super) keyed: Option<Keyed>,
    /// The greatest revision of each name that was retired in this opening.
    pub(super) retired: BTreeMap<usize, u64>,
    /// So many entries were made, lost ones included.
    pub(super) numbers: u64,
    /// A write may fail, or there may be no space for one: in the next operation.
    pub(super) may_refuse: bool,
    /// Only so much can be allocated.
    pub(super) is_full: bool,
    /// A sync may fail.
    pub(super) may_poison: bool,
    /// The notes are about a disk that is no more.
    pub(super) is_another_disk: bool,
}

pub(super) fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap_or(Seq::FIRST)
}

impl World {
    /// Begins on an empty disk.
    pub(crate) fn new(manner: Manner) -> Checked<Self> {
        Self::resume(Simulator::new(), manner, Plain::new(), 0)
    }

    /// Begins with what a crash left, which is one of the model's moments from `least` on.
    pub(crate) fn resume(disk: Simulator, manner: Manner, plain: Plain, least: usize) -> Checked<Self> {
        let journal = manner.open(&disk)?;
        let numbers = plain.moments.len() as u64 * 1000;
        let mut world = Self {
            disk,
            plain,
            notes: Vec::new(),
            manner,
            kinds: Vec::new(),
            journal,
            watchers: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            prepared: None,
            keyed: None,
            retired: BTreeMap::new(),
            numbers,
            may_refuse: false,
            is_full: false,
            may_poison: false,
            is_another_disk: false,
        };
        world.recognise(least)?;
        // Of this disk, all that there was is durable.
        let begun = Note { operations: 0, ..world.note() };
        world.notes.push((begun, begun));
        Ok(world)
    }

    pub(super) fn truth(&self) -> Truth<'_> {
        Truth { plain: &self.plain, journal: &self.journal, kinds: &self.kinds }
    }

    pub(super) fn note(&self) -> Note {
        let (durable, moments) = (self.plain.durable, self.plain.moments.len());
        Note { operations: self.disk.events(), durable, moments }
    }

    /// Does one operation to both, and compares them.
    pub(crate) fn step(&mut self, operation: &Operation) -> Result<(), String> {
        let before = self.note();
        let done = self.apply(operation).or_else(|trouble| self.forgive(trouble));
        let done = done.and_then(|()| self.settle_faults(operation)).and_then(|()| self.check());
        let after = self.note();
        if std::mem::take(&mut self.is_another_disk) {
            self.notes.clear();
            self.notes.push((after, after));
        } else {
            self.notes.push((before, after));
        }
        done.map_err(|trouble| match trouble {
            Trouble::Wrong(text) => format!("{operation:?}: {text}"),
            Trouble::Refused(error) => format!("{operation:?}: {error}"),
        })
    }

    /// A sick disk may refuse, and then nothing has changed.
    pub(super) fn forgive(&self, trouble: Trouble) -> Checked {
        let Trouble::Refused(error) = &trouble else { return Err(trouble) };
        let is_poisoned = self.journal.stats().poisoned;
        met(if is_poisoned { "a sync failed" } else { "a full disk refused" });
        match error.kind() {
            ErrorKind::NoSpace if self.may_refuse && !is_poisoned => Ok(()),
            // A sync of a segment that is being made is nobody's.
            ErrorKind::Io if (self.may_refuse || self.may_poison) && !is_poisoned => Ok(()),
            ErrorKind::NoSpace | ErrorKind::Io | ErrorKind::Poisoned if self.may_poison && is_poisoned => {
                Ok(())
            }
            _ => Err(trouble),
        }
    }

    fn settle_faults(&mut self, operation: &Operation) -> Checked {
        if !matches!(operation, Operation::FailWrite(_)) {
            self.disk.fail_writes(0, 0);
            self.may_refuse = self.is_full;
        }
        if self.journal.stats().poisoned { self.end_by_poison() } else { Ok(()) }
    }

    fn apply(&mut self, operation: &Operation) -> Checked {
        match operation {
            Operation::Append(saying, waits) => self.append(*saying, *waits),
            Operation::Fill(count, length) => (0..*count).try_for_each(|at| {
                let saying = Saying { kind: at % 2, key: at * at % KEYS.len(), length: *length };
                self.append(saying, Waits::Not)
            }),
            // One such log is enough, and each step reads all of it.
            Operation::Flood(_) if self.plain.entries.len() > 400 => Ok(()),
            Operation::Flood(saying) => (0..300).try_for_each(|_| self.append(*saying, Waits::Not)),
            Operation::Batch(sayings, moves, waits) => self.batch(sayings, moves, *waits),
            Operation::Keyed(saying) => self.keyed(*saying),
            Operation::Repeat(going) => self.repeat(*going),
            Operation::Prepare(going) => self.prepare(*going),
            Operation::CommitPrepared => self.commit_prepared(),
            Operation::Sync => {
                self.journal.sync()?;
                self.plain.all_is_durable();
                Ok(())
            }
            Operation::Watch { name, region, from, visible, bounded } => {
                self.watch(*name, *region, *from, *visible, *bounded)
            }
            Operation::Read { watcher, steps, how } => self.read(*watcher, *steps, *how),
            Operation::Checkpoint(watcher) => self.checkpoint(*watcher),
            Operation::Drop(watcher) => {
                let name = self.in_hand(*watcher);
                name.map(|name| self.watchers.remove(&name));
                Ok(())
            }
            Operation::Reset { name, to, lets_go } => self.reset(*name, *to, *lets_go),
            Operation::Retire { name, lets_go } => self.retire(*name, *lets_go),
            Operation::Subscribe { slot, region, from, visible, limit } => {
                self.subscribe(*slot, *region, *from, *visible, *limit)
            }
            Operation::Take { slot, items, waits } => self.take(*slot, *items, *waits),
            Operation::Close => self.close(),
            Operation::Kill(back) => self.kill(*back),
            Operation::Crash(back, seed) => self.crash(*back, *seed),
            Operation::FailSync { after, forgets: false } => {
                self.disk.fail_sync_after(*after);
                self.may_poison = true;
                Ok(())
            }
            Operation::FailSync { after, forgets: true } => {
                self.disk.forget_sync_after(*after);
                self.may_poison = true;
                Ok(())
            }
            Operation::FailWrite(number) => {
                self.disk.fail_writes(*number, 1);
                self.may_refuse = true;
                Ok(())
            }
            Operation::Space(bytes) => {
                self.disk.limit_space(*bytes);
                self.is_full = bytes.is_some();
                Ok(())
            }
        }
    }

    /// After every operation: as many entries, and of every cursor what is to be known of it.
    pub(super) fn check(&mut self) -> Checked {
        let entries = self.journal.stats().entries;
        ensure!(entries == self.plain.newest(), "{entries} of {} entries", self.plain.newest());
        let durable = self.plain.entries_before(self.journal.durable());
        let promised = self.plain.moments[self.plain.durable].entries as u64;
        ensure!(durable >= promised, "{durable} are durable, and {promised} were promised");
        if self.journal.stats().rotations > 0 && !self.plain.now().cursors.is_empty() {
            met("a preamble restated cursors");
        }
        if self.journal.stats().segments > 4 {
            met("a log of five segments");
        }
        let found = self.journal.cursors()?;
        ensure!(found.len() == self.plain.now().cursors.len(), "{found:?}, not {:?}", self.plain.now());
        for info in &found {
            let name = NAMES.iter().position(|name| *name == info.name).unwrap_or(usize::MAX);
            let Some(cursor) = self.plain.now().cursors.get(&name) else {
                return Err(Trouble::Wrong(format!("nobody made {info:?}")));
            };
            let region = (0..).find(|number| region(*number, &self.kinds) == info.region).unwrap();
            let mut unseen = self.plain.between(region, cursor.seq, self.plain.newest());
            let next = unseen.next();
            let behind = next.into_iter().count() + unseen.count();
            let next_time =
                next.and_then(|next| self.plain.entries[usize::try_from(next).unwrap() - 1].place);
            let told = (info.seq.map_or(0, Seq::get), info.next.map(Seq::get), info.behind, info.next_time);
            let is = (cursor.seq, next, behind as u64, next_time.map(|(_, time)| time));
            ensure!(told == is, "told {told:?}, and is {is:?}: {info:?}");
            let (revision, held) = (cursor.revision, self.watchers.contains_key(&name));
            ensure!(cursor.region == info.region && cursor.hold == info.hold, "{info:?}, not {cursor:?}");
            ensure!(Some(info.revision) == revision, "{info:?}, not of revision {revision:?}");
            ensure!(info.held == held && (info.held_bytes > 0) == (behind > 0), "held: {held}; {info:?}");
        }
        Ok(())
    }

    /// Notes what the journal's answer to a change comes to. One that failed with a sync may be
    /// in the log all the same.
    pub(super) fn settle<T>(&mut self, answer: esker::Result<T>, change: Change) -> Checked<T> {
        let changes = !change.said.is_empty() || !change.cursors.is_empty();
        let names: Vec<usize> = change.cursors.iter().map(|(name, _)| *name).collect();
        if changes && (answer.is_ok() || self.journal.stats().poisoned) {
            self.plain.happened(change);
        }
        let done = answer?;
        self.note_places()?;
        names.into_iter().try_for_each(|name| self.note_revision(name))?;
        Ok(done)
    }

    fn note_places(&mut self) -> Checked {
        let view = self.journal.view();
        let placed = self.plain.entries.iter().rposition(|said| said.place.is_some()).map_or(0, |at| at + 1);
        for (said, number) in self.plain.entries[placed..].iter_mut().zip(placed as u64 + 1..) {
            let Some(entry) = view.get(seq(number))? else {
                return Err(Trouble::Wrong(format!("entry {number} was appended, and is not there")));
            };
            said.same(&entry, &self.kinds)?;
            said.place = Some((entry.position(), entry.time()));
        }
        Ok(())
    }

    /// A revision is the library's to give, as long as it rises.
    fn note_revision(&mut self, name: usize) -> Checked {
        let count = self.plain.moments.len();
        let before = self.plain.moments[count - 2].cursors.get(&name).and_then(|cursor| cursor.revision);
        let before = before.or(self.retired.get(&name).copied());
        let Some(cursor) = self.plain.moments[count - 1].cursors.get_mut(&name) else {
            self.retired.extend(before.map(|revision| (name, revision)));
            return Ok(());
        };
        let found = cursors_of(&self.journal)?;
        cursor.revision = found.get(&name).and_then(|found| found.revision);
        if self.retired.remove(&name).is_some() {
            met("a name that was retired came again");
        }
        ensure!(cursor.revision > before, "{cursor:?} goes on behind revision {before:?}");
        Ok(())
    }
}
