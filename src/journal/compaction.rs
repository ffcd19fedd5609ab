//! Compaction: the log shrinks while everybody reads and appends.
//!
//! 1. *How far.* Whatever a cursor, a reader without a name or a backup has not seen stays, and so does
//!    what the caller wants to keep. Cursors are first moved over entries that are not of their region.
//! 2. *What of it.* Each segment and part up to there is judged by what its kinds keep
//!    ([`crate::compact`]); stretches that are worth it are copied, read back, and made durable.
//! 3. *In its place.* Under the writer's lock nobody new may begin below any more; then the manifest is
//!    replaced, which is the one step that counts; then the row in memory; then the old files are unlinked,
//!    oldest first. A crash between any two of these leaves files that the next opening for writing removes.
//!
//! Views and entries hold what they have mapped, also when its file is gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};
use serde::Serialize;

use crate::compact::choose::{Worth, choose};
use crate::compact::judge::{Judged, Rules, is_below};
use crate::compact::write::{Pace, Written, write_run};
use crate::disk::replace;
use crate::error::{Error, ErrorKind, Result};
use crate::format::compacted::{Compacted, Cover};
use crate::format::index as index_format;
use crate::format::index::Keyed;
use crate::format::lock::Cell;
use crate::format::manifest::Manifest;
use crate::format::segment::file_name;
use crate::format::system::Keep;
use crate::id::{PART, Position, Seq};
use crate::index::catalog::Section;
use crate::index::finder::Index;
use crate::index::sealed::SealedIndex;
use crate::journal::Journal;
use crate::journal::core::Core;
use crate::journal::holds::{HeldBack, Holds};
use crate::journal::opening::{read_manifest, write_manifest};
use crate::journal::registry::Registry;
use crate::journal::view::View;
use crate::log::lock::{now, random};

/// How far to compact, and how fast.
///
/// What is kept of what lies below is a matter of each kind: see [`Journal::keep`].
///
/// ```
/// use std::time::Duration;
/// use esker::{CompactOptions, Journal, Keep, Record};
/// # fn main() -> esker::Result<()> {
/// let journal = Journal::in_memory()?;
/// let reading = journal.kind("reading")?;
/// journal.keep(reading, Keep::Latest)?;
/// journal.append(Record::new(reading, b"sensor-7", b"20.5"))?;
/// // Of what is older than a day, the newest reading of each sensor.
/// let done = journal.compact(&CompactOptions::new().keep_for(Duration::from_secs(86_400)))?;
/// assert_eq!(done.entries_dropped, 0);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "options do nothing until `compact`"]
pub struct CompactOptions {
    keep_for: Duration,
    keep_bytes: u64,
    keep_entries: u64,
    keep_tombstones_for: Duration,
    bytes_per_second: Option<u64>,
    thorough: bool,
}

impl Default for CompactOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl CompactOptions {
    /// Everything but the segment that is being written, as fast as it goes.
    pub const fn new() -> Self {
        Self {
            keep_for: Duration::ZERO,
            keep_bytes: 0,
            keep_entries: 0,
            keep_tombstones_for: Duration::from_secs(300),
            bytes_per_second: None,
            thorough: false,
        }
    }

    /// Leaves alone what was appended within this time, by the clock that entries carry. Default: nothing.
    pub const fn keep_for(mut self, age: Duration) -> Self {
        self.keep_for = age;
        self
    }

    /// Leaves alone the newest so many bytes of log. Default: none.
    pub const fn keep_bytes(mut self, bytes: u64) -> Self {
        self.keep_bytes = bytes;
        self
    }

    /// Leaves alone the newest so many entries. Default: none.
    pub const fn keep_entries(mut self, entries: u64) -> Self {
        self.keep_entries = entries;
        self
    }

    /// Keeps a tombstone for so long. Default: 5 minutes.
    pub const fn keep_tombstones_for(mut self, age: Duration) -> Self {
        self.keep_tombstones_for = age;
        self
    }

    /// Copies at most so many bytes a second. Default: no limit.
    pub const fn bytes_per_second(mut self, bytes: u64) -> Self {
        self.bytes_per_second = Some(if bytes == 0 { 1 } else { bytes });
        self
    }

    /// Frees whatever can be freed, however much has to be copied for it. Default: false, so that no more
    /// is copied than was appended once and is freed.
    pub const fn thorough(mut self, yes: bool) -> Self {
        self.thorough = yes;
        self
    }
}

/// What a compaction did, or would do. Sizes are bytes of the files of segments and parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Compaction {
    /// Up to here the log was looked at; `None`: there was nothing that may be touched.
    pub through: Option<Seq>,
    /// From here on every entry is there; `None`: nothing was ever dropped.
    pub floor: Option<Seq>,
    /// The size of the log before.
    pub bytes_before: u64,
    /// The size of the log afterwards.
    pub bytes_after: u64,
    /// Bytes that were copied.
    pub bytes_copied: u64,
    /// Entries that were dropped.
    pub entries_dropped: u64,
    /// Segments and parts that were removed.
    pub segments_removed: u64,
    /// Parts that were written.
    pub parts_written: u64,
    /// Segments and parts that could not be read whole, and were left as they are: see
    /// [`verify`](crate::verify()).
    pub damaged: u64,
    /// What holds back something that could be looked at otherwise, the farthest behind first.
    pub held_back_by: Vec<HeldBack>,
}

/// What goes on, or is to end.
#[derive(Debug, Default)]
pub(crate) struct Compacting {
    /// Held by whoever compacts: the first of all locks.
    pub(crate) turn: Mutex<()>,
    /// Held while what is compacted is put in place, and by whoever makes or puts a cursor somewhere: it
    /// begins either before, and counts, or with what is left.
    pub(crate) steady: RwLock<()>,
    /// A manifest was replaced, and not for certain: in this life nothing more is removed.
    unsure: AtomicBool,
    stop: AtomicBool,
    state: Mutex<()>,
    told: Condvar,
}

impl Compacting {
    /// The compaction under way, if there is one, ends soon.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        let _state = self.state.lock();
        self.told.notify_all();
    }

    /// Waits so long, or until told to stop. False: stop.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        let mut state = self.state.lock();
        let end = Instant::now() + time;
        while !self.stop.load(Ordering::Acquire) && Instant::now() < end {
            self.told.wait_until(&mut state, end);
        }
        !self.stop.load(Ordering::Acquire)
    }
}

impl Journal {
    /// Says what compaction keeps of a kind, from now on. What was dropped is not brought back.
    ///
    /// # Errors
    ///
    /// `UnknownKind`, and as [`append`](Self::append).
    pub fn keep(&self, kind: crate::id::KindId, keep: Keep) -> Result<()> {
        let core = self.appending();
        let end = core.set_keep(kind, keep)?;
        core.wait_as_configured(end)
    }

    /// Compacts the log, while others append and read: drops what the kinds do not keep of what lies below
    /// everything that [`CompactOptions`], cursors, readers and backups hold on to. One at a time; others
    /// wait for their turn.
    ///
    /// Segments that are being written are not touched, so of a log within one segment nothing is dropped.
    /// Everything appended before is made durable first, in every mode.
    ///
    /// # Errors
    ///
    /// `NoSpace` with the bytes that are missing, `Io`, `Closed`, `Poisoned`: what was compacted before the
    /// error is, and the rest is as it was. `Corrupt` if the entities of damaged files cannot be told;
    /// damage elsewhere is left alone and counted.
    pub fn compact(&self, options: &CompactOptions) -> Result<Compaction> {
        self.appending().compact(options, true)
    }

    /// Says what [`compact`](Self::compact) would do, and does nothing. What it would free is an estimate:
    /// the newest entries of entities that older parts still know stay.
    ///
    /// # Errors
    ///
    /// As [`compact`](Self::compact).
    pub fn plan_compaction(&self, options: &CompactOptions) -> Result<Compaction> {
        self.core().compact(options, false)
    }
}

impl Core {
    pub(crate) fn compact(&self, options: &CompactOptions, execute: bool) -> Result<Compaction> {
        self.check_not_forked("compact the log")?;
        let _turn = self.compacting.turn.lock();
        self.check_writable()?;
        if self.compacting.unsure.load(Ordering::Acquire) {
            return Err(Error::new(
                ErrorKind::Io,
                "compact the log: the manifest could not be made durable before",
            )
            .at(self.directory.path())
            .sides("a store that was opened since", "this opening"));
        }
        if execute {
            self.remove_left();
            self.move_quiet_cursors()?;
        }
        // What is durable makes what came before it superfluous.
        self.wait_durable(self.commit.visible())?;
        let durable = self.commit.durable();
        self.seal_for_compaction(durable)?;
        let view = self.view();
        let holds = Holds::of(self, &view)?;
        let ground = Ground {
            index: &self.index,
            registry: &self.registry,
            segment_bytes: self.options.segment_bytes,
            compacting: Some(&self.compacting),
        };
        let job = Job::new(&ground, options, &view, durable, &holds)?;
        let mut outcome = job.outcome(&view, &holds)?;
        let mut pace = Copying::new(self, options);
        for run in job.runs(options) {
            if execute {
                job.execute(self, run, &holds, &mut pace, &mut outcome)?;
            } else {
                job.count(run, &mut outcome);
            }
        }
        outcome.bytes_after = if execute { log_bytes(&self.view()) } else { outcome.bytes_after };
        outcome.floor = Seq::new(self.index.catalog().compacted.floor_of_all());
        Ok(outcome)
    }

    /// Every durable segment gets its index, which is what it is judged by.
    fn seal_for_compaction(&self, durable: Position) -> Result<()> {
        let _indexing = self.keeper.indexing.lock();
        for section in &self.index.catalog().sections {
            if section.number < durable.segment() && section.cover.is_none() {
                // What cannot be opened or sealed is left alone.
                if let Ok(opened) = section.open() {
                    let _ = self.seal(opened);
                }
            }
        }
        Ok(())
    }

    /// Removes what an earlier compaction has replaced, or did not come to use.
    pub(crate) fn remove_left(&self) {
        let mut left = self.left.lock();
        // What says that they are not needed has to be durable.
        let is_unsure = || self.compacting.unsure.load(Ordering::Acquire);
        if left.is_empty() || is_unsure() || self.directory.sync().is_err() {
            return;
        }
        // Oldest first, and what cannot be removed stays for the next time.
        left.retain(|name| match self.directory.remove(name) {
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
            Ok(()) => false,
        });
        let _ = self.directory.sync();
    }
}

/// What is compacted, or only planned to be.
pub(crate) struct Ground<'a> {
    pub(crate) index: &'a Index,
    pub(crate) registry: &'a RwLock<Registry>,
    /// No part grows much longer.
    pub(crate) segment_bytes: u64,
    /// Who may say that it is to end.
    pub(crate) compacting: Option<&'a Compacting>,
}

/// One compaction.
pub(crate) struct Job<'a> {
    ground: &'a Ground<'a>,
    rules: Rules<'a>,
    /// Everything in the row that is durable, and what may be touched of it.
    row: Vec<Judged>,
    free: Vec<bool>,
    damaged: u64,
}

impl<'a> Job<'a> {
    pub(crate) fn new(
        ground: &'a Ground<'a>,
        options: &CompactOptions,
        view: &View,
        durable: Position,
        holds: &Holds,
    ) -> Result<Self> {
        let nanos = |age: Duration| i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
        let time = now();
        let keep = ground.registry.read().iter().map(|kind| (kind.id.0, kind.keep)).collect();
        let rules = Rules {
            index: ground.index,
            keep,
            durable,
            tombstones_before: time.saturating_sub(nanos(options.keep_tombstones_for)),
            erasing: HashMap::new(),
        };
        let mut job = Job { ground, rules, row: Vec::new(), free: Vec::new(), damaged: 0 };
        let limits = Limits {
            // A policy that keeps nothing of the newest looks at everything.
            appended_before: (!options.keep_for.is_zero())
                .then(|| time.saturating_sub(nanos(options.keep_for))),
            seq_before: holds.first_held().min(
                view.last_seq()?.map_or(0, Seq::get).saturating_add(1).saturating_sub(options.keep_entries),
            ),
            bytes_kept: options.keep_bytes,
        };
        job.look(view, durable, &limits)?;
        Ok(job)
    }

    /// Judges everything that may be touched.
    fn look(&mut self, view: &View, durable: Position, limits: &Limits) -> Result<()> {
        let total = log_bytes(view);
        let mut bytes_through = 0;
        for section in view.catalog.sections.iter().take_while(|section| section.number < durable.segment()) {
            if self.ground.compacting.is_some_and(|compacting| compacting.stop.load(Ordering::Acquire)) {
                let path = self.ground.index.place.directory.path();
                return Err(Error::new(ErrorKind::Closed, "compact the log").at(path));
            }
            bytes_through += section.open().map_or(0, |opened| opened.segment.header.bytes);
            if total - bytes_through < limits.bytes_kept || !limits.allow(section)? {
                break;
            }
            let is_whole = section.open().is_ok_and(|opened| {
                let index = opened.index();
                opened.damage().is_none() && (0..index.count()).all(|at| index.offset(at) != Some(0))
            });
            match is_whole.then(|| self.rules.judge(section, &|_, _| Ok(false))).transpose()?.flatten() {
                Some(judged) => {
                    self.row.push(judged);
                    self.free.push(true);
                }
                None => {
                    self.damaged += 1;
                    // Runs do not go across it.
                    self.row.push(Judged::nothing_of(section));
                    self.free.push(false);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn outcome(&self, view: &View, holds: &Holds) -> Result<Compaction> {
        let bytes = log_bytes(view);
        let through = match self.row.last() {
            Some(judged) => Seq::new(end_of(&judged.section)?.saturating_sub(1)),
            None => None,
        };
        let reach = match view
            .catalog
            .sections
            .iter()
            .rev()
            .find(|section| section.number < self.rules.durable.segment())
        {
            Some(last) => end_of(last).unwrap_or(0),
            None => 0,
        };
        Ok(Compaction {
            through,
            bytes_before: bytes,
            bytes_after: bytes,
            damaged: self.damaged,
            held_back_by: holds.holding_back(reach),
            ..Compaction::default()
        })
    }

    pub(crate) fn runs(&self, options: &CompactOptions) -> Vec<std::ops::Range<usize>> {
        let worth = |(judged, is_free): (&Judged, &bool)| Worth {
            kept: judged.bytes_kept,
            garbage: judged.garbage,
            is_part: judged.section.cover.is_some(),
            must_go: judged.must_go,
            is_free: *is_free,
        };
        let row: Vec<Worth> = self.row.iter().zip(&self.free).map(worth).collect();
        choose(&row, self.ground.segment_bytes, options.thorough)
    }

    /// What a run would come to.
    pub(crate) fn count(&self, run: std::ops::Range<usize>, outcome: &mut Compaction) {
        let judged = self.row.get(run).unwrap_or_default();
        // What is not dropped of a file of which no entry is kept, the log wrote about itself.
        let keeping = judged.iter().filter(|judged| judged.entries_kept > 0);
        let kept: u64 = keeping.map(|judged| judged.bytes_kept).sum();
        let file_bytes =
            |judged: &Judged| judged.section.open().map_or(0, |opened| opened.segment.header.bytes);
        outcome.bytes_copied += kept;
        outcome.entries_dropped +=
            judged.iter().map(|judged| judged.entries - judged.entries_kept).sum::<u64>();
        outcome.segments_removed += judged.len() as u64;
        outcome.parts_written += u64::from(kept > 0);
        outcome.bytes_after =
            outcome.bytes_after.saturating_sub(judged.iter().map(file_bytes).sum::<u64>()) + kept;
    }

    /// Copies a run, and puts the part in its place.
    fn execute(
        &self,
        core: &Core,
        run: std::ops::Range<usize>,
        holds: &Holds,
        pace: &mut Copying<'_>,
        outcome: &mut Compaction,
    ) -> Result<()> {
        let catalog = core.index.catalog();
        let sections: Vec<Arc<Section>> =
            self.row.get(run).unwrap_or_default().iter().map(|judged| Arc::clone(&judged.section)).collect();
        let Some(first) = sections.first().map(|section| section.first_number()) else { return Ok(()) };
        let mut again = Vec::new();
        for section in &sections {
            let below = |hash, kind| is_below(&catalog, first, hash, kind);
            again.extend(self.rules.judge(section, &below)?);
        }
        if again.len() != sections.len() || again.iter().all(|judged| judged.garbage == 0) {
            return Ok(());
        }
        let number = catalog.compacted.parts_numbered + 1;
        if number >= PART {
            return Err(Error::new(ErrorKind::LimitReached, "number a part")
                .sides(format!("numbers up to {}", PART - 1), number));
        }
        let salt = u64::from_le_bytes(random().map_err(|e| Error::io("draw a part's salt", e))?);
        let copied = pace.bytes;
        let Written { cover, index } = match write_run(&core.index.place, &again, number | PART, salt, pace) {
            Ok(written) => written,
            Err(error) if error.is_corruption() => {
                outcome.damaged += 1;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mut compacted = (*catalog.compacted).clone();
        compacted.parts_numbered = number;
        compacted.replace(cover);
        for (kind, seq) in again.iter().flat_map(|judged| &judged.dropped) {
            compacted.raise_floor(*kind, *seq);
        }
        let index = index.map(|parts| (SealedIndex::of_parts(&parts, core.manifest.store), parts));
        let part = match (cover.part, &index) {
            (Some(part), Some((Ok(index), _))) => {
                let place = Arc::clone(&core.index.place);
                Some(Section::part_with(place, cover, part, index.clone())?)
            }
            _ => None,
        };
        if !core.put_in_place(&cover, part, compacted, holds)? {
            // Somebody has come to need what was to go.
            return Ok(());
        }
        if let (Some(part), Some((_, parts))) = (cover.part, &index) {
            // Derived: the next opening makes it again if it is not there.
            let name = index_format::file_name(part.number);
            let _ = replace(&*core.directory, &name, &[&parts.encode(core.manifest.store)]);
        }
        core.unlink(&sections);
        outcome.bytes_copied += pace.bytes - copied;
        outcome.entries_dropped +=
            again.iter().map(|judged| judged.entries - judged.entries_kept).sum::<u64>();
        outcome.segments_removed += sections.len() as u64;
        outcome.parts_written += u64::from(cover.part.is_some());
        Ok(())
    }
}

/// How far a policy goes.
struct Limits {
    appended_before: Option<i64>,
    seq_before: u64,
    bytes_kept: u64,
}

impl Limits {
    /// True if all of a segment or part lies within.
    fn allow(&self, section: &Section) -> Result<bool> {
        let Ok(end) = end_of(section) else { return Ok(true) };
        if end > self.seq_before {
            return Ok(false);
        }
        let Some(before) = self.appended_before else { return Ok(true) };
        let opened = section.open()?;
        let index = opened.index();
        let last = index.count().checked_sub(1).and_then(|last| index.offset(last));
        let newest = last.and_then(|at| opened.segment.frame(at)).map(|frame| frame.header.time.get());
        Ok(newest.is_none_or(|time| time < before))
    }
}

/// The Seq behind the last that a segment or part holds, or held.
fn end_of(section: &Section) -> Result<u64> {
    if let Some(cover) = &section.cover {
        return Ok(cover.last_seq + 1);
    }
    let opened = section.open()?;
    Ok(opened.first_seq() + u64::from(opened.index().count()))
}

/// The bytes of the files of the log.
fn log_bytes(view: &View) -> u64 {
    let bytes = |section: &Arc<Section>| section.open().map_or(0, |opened| opened.segment.header.bytes);
    view.catalog.sections.iter().map(bytes).sum()
}

/// Keeps the copying within its rate, and ends it with the journal.
struct Copying<'a> {
    core: &'a Core,
    bytes_per_second: Option<u64>,
    began: Instant,
    bytes: u64,
    /// So many bytes there were when it last looked.
    told: u64,
}

impl<'a> Copying<'a> {
    fn new(core: &'a Core, options: &CompactOptions) -> Self {
        let (bytes_per_second, began) = (options.bytes_per_second, Instant::now());
        Self { core, bytes_per_second, began, bytes: 0, told: 0 }
    }
}

impl Pace for Copying<'_> {
    fn copied(&mut self, bytes: u64) -> Result<()> {
        const LOOK_EVERY: u64 = 256 << 10;
        self.bytes += bytes;
        if self.bytes - self.told < LOOK_EVERY {
            return Ok(());
        }
        self.told = self.bytes;
        let compacting = &self.core.compacting;
        let due = self.bytes_per_second.map_or(Duration::ZERO, |rate| {
            #[allow(clippy::cast_precision_loss, reason = "a rate need not be exact")]
            Duration::from_secs_f64(self.bytes as f64 / rate as f64).saturating_sub(self.began.elapsed())
        });
        if !compacting.pause(due) {
            return Err(Error::new(ErrorKind::Closed, "compact the log").at(self.core.directory.path()));
        }
        // A poisoned journal promises nothing of what it shows.
        self.core.check_writable()
    }

    fn remembers(&self, keyed: &Keyed) -> bool {
        let writer = self.core.writer.lock();
        writer.keyed.get(&keyed.key).is_some_and(|known| known.first_seq == keyed.first_seq)
    }
}

/// Which manifest is in place.
enum InPlace {
    /// The new one; with an error, nobody knows whether for good.
    New(Option<Error>),
    Old(Error),
}

impl Core {
    /// Makes what was written count: the manifest first, then everything in memory. False: something has
    /// come to hold it back meanwhile.
    fn put_in_place(
        &self,
        cover: &Cover,
        part: Option<Section>,
        compacted: Compacted,
        holds: &Holds,
    ) -> Result<bool> {
        let lost = holds.lost_to(cover);
        self.leave_behind(&lost)?;
        let _moving = self.compacting.steady.write();
        let mut writer = self.writer.lock();
        self.check_writable()?;
        if !holds.still_allow(self, cover, &lost) {
            drop(writer);
            self.remove_part(cover);
            return Ok(false);
        }
        // From now on an entity that is not known may have been dropped.
        writer.forgot = true;
        drop(writer);
        let replaced = self.replace_manifest(&compacted);
        if let Ok(InPlace::New(_)) = &replaced {
            self.index.replace(cover, part, compacted.clone());
            self.lock.show(Cell::Compactions, compacted.parts_numbered.into());
        }
        match replaced? {
            InPlace::New(None) => Ok(true),
            InPlace::New(Some(error)) => Err(error),
            InPlace::Old(error) => {
                self.remove_part(cover);
                Err(error)
            }
        }
    }

    /// Replaces the manifest. Where that fails, what is in place is looked up: nothing may be removed that
    /// a manifest names which a crash may yet bring back.
    fn replace_manifest(&self, compacted: &Compacted) -> Result<InPlace> {
        let manifest = Manifest { compacted: compacted.clone(), ..self.manifest.clone() };
        let Err(error) = write_manifest(&*self.directory, &manifest) else { return Ok(InPlace::New(None)) };
        match read_manifest(&*self.directory) {
            Ok(Some(found)) if found.compacted != *compacted => Ok(InPlace::Old(error)),
            found => {
                self.compacting.unsure.store(true, Ordering::Release);
                if matches!(found, Ok(Some(_))) { Ok(InPlace::New(Some(error))) } else { Err(error) }
            }
        }
    }

    fn remove_part(&self, cover: &Cover) {
        if let Some(part) = cover.part {
            let _ = self.directory.remove(&file_name(part.number));
        }
    }

    /// Unlinks what was replaced, oldest first. What cannot be now is tried again.
    fn unlink(&self, sections: &[Arc<Section>]) {
        let number = |section: &Section| match section.cover.and_then(|cover| cover.part) {
            Some(part) => part.number,
            None => section.number,
        };
        let names = sections
            .iter()
            .flat_map(|section| [file_name(number(section)), index_format::file_name(number(section))]);
        self.left.lock().extend(names);
        self.remove_left();
    }
}
