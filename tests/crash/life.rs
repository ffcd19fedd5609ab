//! A store that is written to on a simulated disk, and the notes of what it promised when.

use std::collections::BTreeMap;

use esker::{Durability, IdempotencyKey, Journal, Options, Reader, Record, Seq, Simulator};

use crate::choices::Dice;
use crate::plain::{KINDS, Plain, Saying, is_as_said, kinds_of, same_entries, same_reads};

/// One line of a life's script.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    Append(Saying),
    AppendWithoutWaiting(Saying),
    Batch(Vec<Saying>, Option<IdempotencyKey>),
    /// A batch of which the write with this number fails, if it comes to that.
    Refused(Vec<Saying>, usize),
    Sync,
    CloseAndReopen,
    KillAndReopen,
}

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

/// Something that holds from a certain number of the disk's operations on.
#[derive(Clone, Copy, Debug)]
struct Since {
    operations: usize,
    entries: usize,
}

/// The time between a close and the next append.
#[derive(Clone, Copy, Debug)]
struct Closed {
    begun: usize,
    done: usize,
    until: usize,
    entries: usize,
}

/// A store on its disk, from one crash to the next.
pub(crate) struct Life {
    pub(crate) disk: Simulator,
    manner: Manner,
    journal: Option<Journal>,
    pub(crate) plain: Plain,
    /// The first operation that belongs to this life.
    pub(crate) born: usize,
    begun: Vec<Since>,
    returned: Vec<Since>,
    acknowledged: Vec<Since>,
    closed: Vec<Closed>,
    /// The last write failed: there is no place to say that this life ended in order.
    refused: bool,
}

impl Life {
    /// Begins on a disk whose log is known to hold `plain`, all of it durable.
    pub(crate) fn begin(disk: Simulator, manner: Manner, plain: Plain) -> Result<Self, String> {
        let born = disk.events();
        let recovered = Since { operations: born, entries: plain.entries.len() };
        let mut life = Self {
            disk,
            manner,
            journal: None,
            plain,
            born,
            begun: vec![recovered],
            returned: vec![recovered],
            acknowledged: vec![recovered],
            closed: Vec::new(),
            refused: false,
        };
        life.open()?;
        Ok(life)
    }

    fn now(&self, entries: usize) -> Since {
        Since { operations: self.disk.events(), entries }
    }

    fn open(&mut self) -> Result<(), String> {
        let journal = self.manner.open(&self.disk).map_err(|error| format!("open: {error}"))?;
        let entries = self.plain.entries.len();
        same_entries(&journal.view(), &kinds_of(&journal), &self.plain.entries).map_err(|error| {
            let files = self.disk.files();
            let names: Vec<_> = files.iter().map(|(name, bytes)| (name, bytes.len())).collect();
            format!("{error}; {:?}, {names:?}", journal.recovery())
        })?;
        // What was read is not taken back by a later crash.
        self.acknowledged.push(self.now(entries));
        self.journal = Some(journal);
        Ok(())
    }

    fn journal(&self) -> Result<&Journal, String> {
        self.journal.as_ref().ok_or_else(|| "no journal is open".to_owned())
    }

    pub(crate) fn act(&mut self, script: &[Line]) -> Result<(), String> {
        script.iter().try_for_each(|line| self.line(line).map_err(|error| format!("{line:?}: {error}")))
    }

    fn line(&mut self, line: &Line) -> Result<(), String> {
        match line {
            Line::Append(saying) => self.say(std::slice::from_ref(saying), None, true),
            Line::AppendWithoutWaiting(saying) => self.say(std::slice::from_ref(saying), None, false),
            Line::Batch(batch, named) => self.say(batch, *named, true),
            Line::Refused(batch, write) => {
                self.disk.fail_writes(*write, 1);
                let said = self.say(batch, None, true);
                self.disk.fail_writes(0, 0);
                let entries = self.journal()?.stats().entries;
                match said {
                    Err(error) if entries != self.plain.entries.len() as u64 => {
                        Err(format!("{error}, and something was appended"))
                    }
                    // Nothing of it: what comes next has the same numbers.
                    Err(error) if error.contains("no space") => {
                        self.refused = true;
                        Ok(())
                    }
                    said => said,
                }
            }
            Line::Sync => {
                self.journal()?.sync().map_err(|error| error.to_string())?;
                self.acknowledged.push(self.now(self.plain.entries.len()));
                Ok(())
            }
            Line::CloseAndReopen => {
                self.close()?;
                self.open()
            }
            Line::KillAndReopen => {
                let killed = self.disk.kill(self.disk.events());
                let old = std::mem::replace(&mut self.disk, killed);
                // Dropping closes: on the old disk, whose later operations nobody sees.
                self.journal = None;
                self.refused = false;
                drop(old);
                self.open()
            }
        }
    }

    /// Appends, and notes before and after what the disk may and must hold.
    fn say(&mut self, batch: &[Saying], named: Option<IdempotencyKey>, wait: bool) -> Result<(), String> {
        let after = self.plain.entries.len() + batch.len();
        if let Some(closed) = self.closed.last_mut() {
            closed.until = closed.until.min(self.disk.events());
        }
        self.begun.push(self.now(after));
        let journal = self.journal()?.clone();
        let kind = |saying: &Saying| journal.kind(saying.kind).map_err(|error| error.to_string());
        let kinds = batch.iter().map(kind).collect::<Result<Vec<_>, _>>()?;
        let record = |(saying, kind)| {
            let Saying { key, metadata, payload, .. }: &Saying = saying;
            Record::new(kind, key, payload).metadata(metadata)
        };
        let mut records = batch.iter().zip(kinds).map(record);
        let receipts: Vec<(u64, u64)> = if named.is_some() || batch.len() > 1 {
            let mut together = journal.batch();
            records.for_each(|record| {
                together.push(record);
            });
            if let Some(key) = named {
                together = together.idempotency_key(key);
            }
            let done = together.commit().map_err(|error| error.to_string())?;
            done.receipts.iter().map(|receipt| (receipt.seq.get(), receipt.generation.get())).collect()
        } else {
            let record = records.next().ok_or("an empty batch")?;
            if wait {
                let receipt = journal.append(record).map_err(|error| error.to_string())?;
                vec![(receipt.seq.get(), receipt.generation.get())]
            } else {
                let ticket = journal.append_nowait(record).map_err(|error| error.to_string())?;
                vec![(ticket.seq().get(), ticket.generation().get())]
            }
        };
        let before = self.plain.entries.len();
        self.plain.append(batch, named);
        for ((seq, generation), (said, expected)) in
            receipts.iter().zip(self.plain.entries[before..].iter().zip(before as u64 + 1..))
        {
            if (*seq, *generation) != (expected, said.generation) {
                return Err(format!("receipt {seq}/{generation}, not {expected}/{}", said.generation));
            }
        }
        self.refused = false;
        self.returned.push(self.now(after));
        if wait && self.manner.durability == Durability::Sync {
            self.acknowledged.push(self.now(after));
        }
        Ok(())
    }

    pub(crate) fn close(&mut self) -> Result<(), String> {
        let begun = self.disk.events();
        let journal = self.journal.take().ok_or("closed already")?;
        // A life that had to recover something says so too, though it appended nothing.
        let recovered = !journal.recovery().clean && journal.stats().log_bytes > 128;
        let refused = std::mem::take(&mut self.refused);
        let wrote = (journal.stats().appends > 0 || recovered) && !refused;
        journal.close().map_err(|error| format!("close: {error}"))?;
        let entries = self.plain.entries.len();
        let Since { operations: done, .. } = self.now(entries);
        if wrote {
            self.closed.push(Closed { begun, done, until: usize::MAX, entries });
        }
        self.acknowledged.push(self.now(entries));
        Ok(())
    }

    fn at(notes: &[Since], operations: usize) -> usize {
        notes
            .iter()
            .filter(|since| since.operations <= operations)
            .map(|since| since.entries)
            .max()
            .unwrap_or(0)
    }

    /// How many entries a crash behind so many operations must leave, and how many it may.
    pub(crate) fn bounds(&self, operations: usize) -> (usize, usize) {
        (Self::at(&self.acknowledged, operations), Self::at(&self.begun, operations))
    }

    /// How many entries a killed process must leave.
    pub(crate) fn visible(&self, operations: usize) -> usize {
        Self::at(&self.returned, operations)
    }

    /// What is recovered is a prefix in whole batches, holds what was acknowledged and nothing
    /// that was never written, and the report names the right class.
    pub(crate) fn judge(&self, journal: &Journal, operations: usize) -> Result<usize, String> {
        let count = usize::try_from(journal.stats().entries).map_err(|error| error.to_string())?;
        self.judge_count(count, operations)?;
        same_entries(&journal.view(), &kinds_of(journal), &self.plain.entries[..count])?;
        let report = journal.recovery();
        let closed = |moment: &Closed| (moment.done..=moment.until).contains(&operations);
        if self.closed.iter().any(closed) && (!report.clean || report.ambiguous) {
            return Err(format!("closed in order, and the report says {report:?}"));
        }
        let ended = |moment: &Closed| moment.begun <= operations && moment.entries == count;
        if report.clean && !self.closed.iter().any(ended) && count != self.begun[0].entries {
            return Err(format!("not closed behind {count} entries, and the report says {report:?}"));
        }
        if (report.cut > 0 || report.valid_after_hole > 0) != report.ambiguous
            || report.ambiguous && report.clean
            || report.cache_not_verified
            || !report.damage.is_empty()
        {
            return Err(format!("a crash alone, and the report says {report:?}"));
        }
        Ok(count)
    }

    /// What is left where syncs did nothing: perhaps less than was acknowledged, but a prefix in whole batches; each entry of it
    /// is as it was said, or `Corrupt`. Answers how many there are, and how many of them cannot be read.
    pub(crate) fn judge_lied(&self, journal: &Journal, operations: usize) -> Result<(usize, usize), String> {
        let count = usize::try_from(journal.stats().entries).map_err(|error| error.to_string())?;
        let (_, most) = self.bounds(operations);
        if count > most || !self.plain.ends_a_batch(count) {
            return Err(format!("{count} entries, where {most} were appended, in whole batches"));
        }
        let (view, kinds, mut damaged) = (journal.view(), kinds_of(journal), 0);
        for place in 1..=count {
            match view.get(Seq::new(place as u64).unwrap()) {
                Ok(Some(found)) => is_as_said(&found, place, &kinds, &self.plain.entries[..count])?,
                Ok(None) => return Err(format!("there is no entry {place}")),
                Err(error) if error.is_corruption() => damaged += 1,
                Err(error) => return Err(format!("entry {place}: {error}")),
            }
        }
        Ok((count, damaged))
    }

    /// What a reader serves there is as it was said, and is all up to the end that a writer finds; or the reader says that something
    /// may be missing. `end`: of a writer that was not refused.
    pub(crate) fn judge_lied_reader(&self, reader: &Reader, end: Option<usize>) -> Result<(), String> {
        let view = reader.view().map_err(|error| format!("a reader's view: {error}"))?;
        let named = |name: &str| KINDS.iter().copied().find(|known| *known == name);
        let kinds = reader.kinds();
        let mut kinds =
            kinds.iter().filter_map(|kind| Some((kind.id, named(&kind.name)?))).collect::<BTreeMap<_, _>>();
        let (mut served, mut first, mut is_told) = (Vec::new(), Seq::FIRST, false);
        let mut entries = view.range(first..);
        while let Some(entry) = entries.next() {
            match entry {
                Ok(found) => {
                    let place = usize::try_from(found.seq().get()).unwrap_or(usize::MAX);
                    if let Some(said) = self.plain.entries.get(place - 1) {
                        // What registered it may be among what is missing.
                        kinds.entry(found.kind()).or_insert(said.kind);
                    }
                    is_as_said(&found, place, &kinds, &self.plain.entries)?;
                    served.push(place);
                }
                Err(error) if error.is_corruption() => {
                    is_told = true;
                    let Some(behind) = error.seqs().and_then(|lost| Seq::new(lost.end() + 1)) else { break };
                    if behind <= first {
                        return Err(format!("a reader comes to the same again: {error}"));
                    }
                    first = behind;
                    entries = view.range(first..);
                }
                Err(error) => return Err(format!("a reader: {error}")),
            }
        }
        if !served.is_sorted_by(|one, next| one < next) {
            return Err(format!("a reader serves {served:?}"));
        }
        let is_whole = served.iter().copied().eq(1..=served.len()) && self.plain.ends_a_batch(served.len());
        let is_as_far = end.is_none_or(|end| end == served.len());
        let is_told = is_told || end.is_none() && !reader.recovery().damage.is_empty();
        if is_told || is_whole && is_as_far && end.is_some() {
            return Ok(());
        }
        Err(format!(
            "a reader serves {served:?}, a writer comes to {end:?}, and nothing is told: {:?}",
            reader.recovery()
        ))
    }

    pub(crate) fn judge_count(&self, count: usize, operations: usize) -> Result<(), String> {
        let (least, most) = self.bounds(operations);
        if !(least..=most).contains(&count) {
            return Err(format!("{count} entries, where {least} were acknowledged and {most} appended"));
        }
        if !self.plain.ends_a_batch(count) {
            return Err(format!("the batch around entry {count} is cut in two"));
        }
        Ok(())
    }

    /// One more life in order: an append, a close, and all of it there, read in every way.
    pub(crate) fn goes_on(disk: &Simulator, manner: Manner, mut plain: Plain) -> Result<(), String> {
        let mut life = Self::begin(disk.clone(), manner, std::mem::take(&mut plain))?;
        let saying =
            Saying { kind: KINDS[0], key: b"k1".to_vec(), metadata: Vec::new(), payload: b"on".to_vec() };
        life.act(&[Line::Append(saying)])?;
        life.close()?;
        life.open()?;
        let journal = life.journal()?;
        if !journal.recovery().clean {
            return Err(format!("closed in order, and the report says {:?}", journal.recovery()));
        }
        same_reads(&journal.view(), &kinds_of(journal), &life.plain.entries)
    }
}

/// A script of so many lines.
pub(crate) fn script(dice: &mut Dice, lines: usize, manner: Manner, disk: &Simulator) -> Vec<Line> {
    let budget = usize::try_from(manner.segment_bytes / 4).unwrap();
    let mut named = 0;
    let mut written = Vec::with_capacity(lines);
    for _ in 0..lines {
        if manner.copy_on_write && dice.one_in(5) {
            let mut batch: Vec<_> = (0..1 + dice.below(2)).map(|_| saying(dice, 200, disk)).collect();
            // One that ends in zeros looks whole when half of it was written. It is taken back at
            // once, but not synced: a power cut right then may bring it.
            batch.iter_mut().for_each(|saying| saying.payload.push(1));
            written.push(Line::Refused(batch, dice.below(4)));
            continue;
        }
        written.push(match dice.below(20) {
            0..=8 => Line::Append(saying(dice, budget.min(700) - 200, disk)),
            9..=11 => Line::AppendWithoutWaiting(saying(dice, budget.min(700) - 200, disk)),
            12..=15 => {
                let count = 2 + dice.below(3);
                let room = budget / count - 130;
                let batch = (0..count).map(|_| saying(dice, room, disk)).collect();
                let key = dice.one_in(2).then(|| {
                    named += 1;
                    IdempotencyKey((u128::from(dice.word()) << 8 | named).to_le_bytes())
                });
                Line::Batch(batch, key)
            }
            16 | 17 => Line::Sync,
            18 => Line::CloseAndReopen,
            _ => Line::KillAndReopen,
        });
    }
    written
}

fn saying(dice: &mut Dice, room: usize, disk: &Simulator) -> Saying {
    let kind = KINDS[dice.below(KINDS.len())];
    let key = format!("k{}", dice.below(12)).into_bytes();
    let metadata = if dice.one_in(4) { b"trace".to_vec() } else { Vec::new() };
    let length = if dice.one_in(2) { dice.below(40) } else { dice.below(room) };
    let filled = u8::try_from(dice.below(256)).unwrap();
    let mut payload = vec![filled; length];
    if dice.one_in(8) {
        // Whole frames of this very store, as content: they must never be taken for frames.
        let files = disk.files();
        let segment = files.iter().find(|(name, _)| name.ends_with(".seg"));
        let frames = segment.and_then(|(_, bytes)| bytes.get(128..128 + length)).unwrap_or_default();
        payload[..frames.len()].copy_from_slice(frames);
    }
    Saying { kind, key, metadata, payload }
}
