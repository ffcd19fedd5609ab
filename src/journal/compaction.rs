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

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};
use serde::Serialize;

use crate::compact::judge::{Judged, is_below};
use crate::compact::policy::CompactOptions;
use crate::compact::write::{Pace, Written, write_run};
use crate::disk::{Directory, replace};
use crate::error::{Error, ErrorKind, Result};
use crate::format::compacted::{Compacted, Cover};
use crate::format::index as index_format;
use crate::format::index::{IndexParts, Keyed};
use crate::format::lock::Cell;
use crate::format::manifest::{CursorTable, Manifest};
use crate::format::segment::{FIRST_FRAME, file_name, part_number_of};
use crate::format::system::Keep;
use crate::id::{PART, Position, Seq};
use crate::index::catalog::Section;
use crate::index::sealed::SealedIndex;
use crate::journal::Journal;
use crate::journal::core::Core;
use crate::journal::holds::{HeldBack, Holds};
use crate::journal::opening::read_manifest;
use crate::journal::planning::{Ground, Job, log_bytes};
use crate::log::lock::random;
use crate::trace;

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

/// What is to be done about what could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Do {
    Nothing,
    Everything,
    /// What is to be erased, and nothing else.
    Erase,
    /// If it frees so many bytes at least.
    IfItFrees(u64),
}

/// What goes on, or is to end.
#[derive(Debug, Default)]
pub(crate) struct Compacting {
    /// Held by whoever compacts: the first of all locks.
    pub(crate) turn: Mutex<()>,
    /// Held while what is compacted is put in place, and by whoever makes or puts a cursor somewhere: it
    /// begins either before, and counts, or with what is left.
    pub(crate) steady: RwLock<()>,
    /// How often something was put in place: views of before show what may be gone.
    pub(crate) changes: AtomicU64,
    /// A manifest was replaced, and not for certain: in this life nothing more is removed.
    unsure: AtomicBool,
    /// The greatest number of a part that is there, or was in this opening.
    pub(crate) greatest_part: AtomicU32,
    /// Bytes that could have been freed when it was last looked.
    pub(crate) reclaimable: AtomicU64,
    pub(crate) done: AtomicU64,
    pub(crate) failed: AtomicU64,
    stop: AtomicBool,
    state: Mutex<()>,
    told: Condvar,
}

impl Compacting {
    /// No part gets a number again, nor that of one which a crash left.
    pub(crate) fn begin(&self, parts_numbered: u32, left: &[String]) {
        let number = |name: &String| part_number_of(name.strip_suffix(".tmp").unwrap_or(name));
        let greatest = left.iter().filter_map(number).map(|number| number & !PART).max().unwrap_or(0);
        self.greatest_part.store(greatest.max(parts_numbered), Ordering::Relaxed);
    }

    /// The compaction under way, if there is one, ends soon.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        let _state = self.state.lock();
        self.told.notify_all();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Waits so long, or until told to stop. False: stop.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        let mut state = self.state.lock();
        // What is beyond all time is not waited for, but until told.
        let end = Instant::now().checked_add(time);
        while !self.stop.load(Ordering::Acquire) && end.is_none_or(|end| Instant::now() < end) {
            match end {
                Some(end) => _ = self.told.wait_until(&mut state, end),
                None => self.told.wait(&mut state),
            }
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
    /// Where a kind keeps what its folds need ([`Keep::Fold`]), floors rise first to what their images cover; that is done for a
    /// journal under a [`Store`](crate::Store).
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
        self.appending().compact(options, Do::Everything)
    }

    /// Says what [`compact`](Self::compact) would do, and drops nothing; what was appended is made durable,
    /// and indexed. What it would free is an estimate: the newest entries of entities that older parts still
    /// know stay, and floors that would rise first have not.
    ///
    /// # Errors
    ///
    /// As [`compact`](Self::compact).
    pub fn plan_compaction(&self, options: &CompactOptions) -> Result<Compaction> {
        self.core().compact(options, Do::Nothing)
    }
}

impl Core {
    /// Compacts if that frees so many bytes at least, and counts what fails.
    pub(crate) fn compact_if(&self, options: &CompactOptions, min_garbage: u64) -> Result<Compaction> {
        let done = self.compact(options, Do::IfItFrees(min_garbage));
        if let Some(error) = done.as_ref().err().filter(|error| error.kind() != ErrorKind::Closed) {
            self.compacting.failed.fetch_add(1, Ordering::Relaxed);
            trace::not_compacted(self.directory.path(), &error.to_string());
        }
        done
    }

    pub(crate) fn compact(&self, options: &CompactOptions, what: Do) -> Result<Compaction> {
        self.check_not_forked("compact the log")?;
        if matches!(what, Do::Everything | Do::IfItFrees(_)) {
            self.check_writable()?;
            self.raise_floors()?;
        }
        let _span = trace::compacting(self.directory.path());
        let done = self.compact_now(options, what)?;
        if done.entries_dropped > 0 && what != Do::Nothing {
            let (before, after) = (done.bytes_before, done.bytes_after);
            trace::compacted(self.directory.path(), done.entries_dropped, before, after);
        }
        Ok(done)
    }

    fn compact_now(&self, options: &CompactOptions, what: Do) -> Result<Compaction> {
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
        if what != Do::Nothing {
            self.remove_left();
            self.move_quiet_cursors()?;
        }
        // Before the sync, so that no cursor has let go of anything by a move that a power cut takes.
        let holds = Holds::of(self, &self.view())?;
        // What is durable makes what came before it superfluous.
        self.wait_durable(self.commit.visible())?;
        let durable = self.commit.durable();
        self.seal_for_compaction(durable)?;
        let view = self.view();
        let ground = Ground {
            index: &self.index,
            registry: &self.registry,
            segment_bytes: self.options.segment_bytes,
            now: self.options.clock.now(),
            compacting: Some(&self.compacting),
        };
        let job = Job::new(&ground, (options, what), &view, durable, &holds)?;
        let mut outcome = job.outcome(&view, &holds)?;
        let runs = job.runs(options);
        let mut plan = outcome.clone();
        runs.iter().for_each(|run| job.count(run.clone(), &mut plan));
        let frees = plan.bytes_before.saturating_sub(plan.bytes_after);
        self.compacting.reclaimable.store(frees, Ordering::Relaxed);
        match what {
            Do::Nothing => outcome = plan,
            Do::IfItFrees(least) if frees < least => {}
            Do::IfItFrees(_) | Do::Everything | Do::Erase => {
                job.execute(self, &runs, &holds, options, &mut outcome)?;
                self.forget_what_is_erased()?;
                outcome.bytes_after = log_bytes(&self.view());
                let freed = outcome.bytes_before.saturating_sub(outcome.bytes_after);
                self.compacting.reclaimable.store(frees.saturating_sub(freed), Ordering::Relaxed);
                self.compacting.done.fetch_add(1, Ordering::Relaxed);
            }
        }
        outcome.floor = Seq::new(self.index.catalog().compacted.floor_of_all());
        Ok(outcome)
    }

    /// Every durable segment gets its index, which is what it is judged by.
    fn seal_for_compaction(&self, durable: Position) -> Result<()> {
        let _indexing = self.keeper.indexing.lock();
        for section in &self.index.catalog().sections {
            if section.number < durable.segment() && section.cover.is_none() {
                // What cannot be opened or sealed is left alone.
                if let Ok(opened) = section.open()
                    && self.seal(opened).is_err()
                {
                    let _ = self.seal_in_memory(opened);
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
        let catalog = self.index.catalog();
        let is_in_use = |name: &str| {
            let number = part_number_of(name).or_else(|| index_format::part_number_of(name));
            number.is_some_and(|number| catalog.compacted.parts().any(|(_, part)| part.number == number))
        };
        // Oldest first, and what cannot be removed stays for the next time.
        left.retain(|name| !is_in_use(name));
        left.retain(|name| match self.directory.remove(name) {
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
            Ok(()) => false,
        });
        let _ = self.directory.sync();
    }
}

/// A run that was copied, and does not count yet.
struct Ready {
    cover: Cover,
    part: Option<Section>,
    index: Option<IndexParts>,
    /// What it stands for.
    judged: Vec<Judged>,
}

impl Ready {
    fn entries_dropped(&self) -> u64 {
        self.judged.iter().map(|judged| judged.entries - judged.entries_kept).sum()
    }
}

/// So many runs are put in place by one manifest.
const RUNS_AT_ONCE: usize = 16;

impl Job<'_> {
    /// Copies runs and puts them in place, some at a time.
    fn execute(
        &self,
        core: &Core,
        runs: &[Range<usize>],
        holds: &Holds,
        options: &CompactOptions,
        outcome: &mut Compaction,
    ) -> Result<()> {
        let mut pace = Copying::new(core, options);
        for runs in runs.chunks(RUNS_AT_ONCE) {
            let mut ready = Vec::new();
            let copied = runs.iter().try_for_each(|run| {
                let copied = self.copy(core, run.clone(), &ready, &mut pace, outcome)?;
                ready.extend(copied);
                Ok(())
            });
            // What was copied before an error counts.
            let covers: Vec<Cover> = ready.iter().map(|one| one.cover).collect();
            let put = core.put_in_place(ready, holds, outcome);
            if put.is_err() {
                covers.iter().for_each(|cover| core.leave_part(cover));
            }
            core.remove_left();
            copied.and(put)?;
        }
        outcome.bytes_copied = pace.bytes;
        Ok(())
    }

    /// Copies a run. `None`: there is nothing to drop in it after all, or it is damaged.
    fn copy(
        &self,
        core: &Core,
        run: Range<usize>,
        before: &[Ready],
        pace: &mut Copying<'_>,
        outcome: &mut Compaction,
    ) -> Result<Option<Ready>> {
        let catalog = core.index.catalog();
        let sections = self.row.get(run).unwrap_or_default().iter().map(|judged| &judged.section);
        let sections: Vec<&Arc<Section>> = sections.collect();
        let Some(first) = sections.first().map(|section| section.first_number()) else { return Ok(None) };
        let mut judged = Vec::new();
        for section in &sections {
            // Those come to count with this one, or none of them does.
            let instead = before.iter().map(|one| (&one.cover, one.part.as_ref()));
            let below = |hash, kind| is_below(&catalog, instead.clone(), first, (hash, kind));
            judged.extend(self.rules.judge(section, &below)?);
        }
        if judged.len() != sections.len() || judged.iter().all(|judged| judged.garbage == 0) {
            return Ok(None);
        }
        let number = core.next_part(&catalog.compacted)?;
        let salt = u64::from_le_bytes(random().map_err(|e| Error::io("draw a part's salt", e))?);
        let place = &core.index.place;
        let Written { cover, index } = match write_run(place, &judged, number | PART, salt, pace) {
            Ok(written) => written,
            Err(error) if error.is_corruption() => {
                outcome.damaged += 1;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let part = match (cover.part, &index) {
            (Some(part), Some(index)) => {
                let index = SealedIndex::of_parts(index, core.manifest.store);
                let index = index.inspect_err(|_| core.leave_part(&cover))?;
                let section = Section::part_with(Arc::clone(place), cover, part, index);
                Some(section.inspect_err(|_| core.leave_part(&cover))?)
            }
            _ => None,
        };
        Ok(Some(Ready { cover, part, index, judged }))
    }
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
    /// The number of the next part: none that was ever given, nor one that a crash left in the directory.
    fn next_part(&self, compacted: &Compacted) -> Result<u32> {
        let greatest = &self.compacting.greatest_part;
        let number = compacted.parts_numbered.max(greatest.load(Ordering::Relaxed)) + 1;
        if number >= PART {
            return Err(Error::new(ErrorKind::LimitReached, "number a part")
                .sides(format!("numbers up to {}", PART - 1), number));
        }
        greatest.store(number, Ordering::Relaxed);
        Ok(number)
    }

    /// Makes what was copied count: the manifest first, then everything in memory, and only then are the old
    /// files unlinked. What somebody has come to need meanwhile stays as it is.
    fn put_in_place(&self, mut ready: Vec<Ready>, holds: &Holds, outcome: &mut Compaction) -> Result<()> {
        if ready.is_empty() {
            return Ok(());
        }
        // A manifest names only what is there for good.
        self.directory
            .sync()
            .map_err(|e| Error::io("make the names of parts durable", e).at(self.directory.path()))?;
        let _moving = self.compacting.steady.write();
        let pins = holds.pins_now(self);
        let allow = |ready: &mut Vec<Ready>, may_lose| {
            ready.retain(|one| {
                let is_allowed = holds.still_allow(self, &one.cover, &pins, may_lose);
                if !is_allowed {
                    self.leave_part(&one.cover);
                }
                is_allowed
            });
        };
        allow(&mut ready, true);
        self.leave_behind(holds, ready.iter().map(|one| one.cover.last_seq).max().unwrap_or(0))?;
        let mut writer = self.writer.lock();
        self.check_writable()?;
        allow(&mut ready, false);
        if ready.is_empty() {
            return Ok(());
        }
        // From now on an entity that is not known may have been dropped.
        writer.forgot = true;
        let preamble_at = writer.preamble_at;
        drop(writer);
        let mut compacted = (*self.index.catalog().compacted).clone();
        compacted.parts_numbered = self.compacting.greatest_part.load(Ordering::Relaxed);
        for one in &ready {
            compacted.replace(one.cover);
            for (kind, seq) in one.judged.iter().flat_map(|judged| &judged.dropped) {
                compacted.raise_floor(*kind, *seq);
            }
        }
        compacted.aside = self.registry.read().aside();
        let mut table = self.table.lock();
        let durable = self.commit.durable();
        if !table.is_news(preamble_at) && durable > Position::new(preamble_at, FIRST_FRAME) {
            // Restated by that segment.
            *table = CursorTable::default();
        }
        match self.replace_manifest(&compacted, &table)? {
            InPlace::Old(error) => return Err(error),
            InPlace::New(error) => {
                for one in &mut ready {
                    self.index.replace(&one.cover, one.part.take(), compacted.clone());
                }
                self.compacting.changes.fetch_add(1, Ordering::Release);
                self.lock.show(Cell::Compactions, compacted.parts_numbered.into());
                drop(table);
                error.map_or(Ok(()), Err)?;
            }
        }
        for one in ready {
            self.finish(one, outcome);
        }
        Ok(())
    }

    /// What can be made again: an index; and what is not needed any more.
    fn finish(&self, done: Ready, outcome: &mut Compaction) {
        outcome.entries_dropped += done.entries_dropped();
        outcome.segments_removed += done.judged.len() as u64;
        outcome.parts_written += u64::from(done.cover.part.is_some());
        if let (Some(part), Some(index)) = (done.cover.part, done.index) {
            let name = index_format::file_name(part.number);
            let _ = replace(&*self.directory, &name, &[&index.encode(self.manifest.store)]);
        }
        let number = |section: &Section| match section.cover.and_then(|cover| cover.part) {
            Some(part) => part.number,
            None => section.number,
        };
        // Oldest first.
        let names = done.judged.iter().flat_map(|judged| {
            let number = number(&judged.section);
            [file_name(number), index_format::file_name(number)]
        });
        self.left.lock().extend(names);
    }

    /// Replaces the manifest. Where that fails, what is in place is looked up: nothing may be removed that
    /// a manifest names which a crash may yet bring back.
    fn replace_manifest(&self, compacted: &Compacted, table: &CursorTable) -> Result<InPlace> {
        let (compacted, table) = (compacted.clone(), table.clone());
        let manifest = Manifest { compacted, table, ..self.manifest.clone() };
        let Err(error) = self.write_with_reserve(&manifest) else { return Ok(InPlace::New(None)) };
        match read_manifest(&*self.directory) {
            Ok(Some(found)) if found.compacted != manifest.compacted => Ok(InPlace::Old(error)),
            found => {
                self.compacting.unsure.store(true, Ordering::Release);
                if matches!(found, Ok(Some(_))) { Ok(InPlace::New(Some(error))) } else { Err(error) }
            }
        }
    }

    /// Replaces the manifest, where the row of segments stays as it is. The caller has the turn.
    pub(crate) fn change_manifest(&self, compacted: Compacted) -> Result<()> {
        let table = self.table.lock();
        match self.replace_manifest(&compacted, &table)? {
            InPlace::New(error) => {
                self.index.change(compacted);
                error.map_or(Ok(()), Err)
            }
            InPlace::Old(error) => Err(error),
        }
    }

    /// A part that did not come to count. It is there until it is removed: what was to be erased may be in it.
    fn leave_part(&self, cover: &Cover) {
        self.left.lock().extend(cover.part.map(|part| file_name(part.number)));
    }
}

/// Files that a compaction had replaced, or had not come to use, when it was ended by a crash: oldest first.
pub(crate) fn left_by_compaction(
    directory: &dyn Directory,
    manifest: &Manifest,
    segments: &[u32],
) -> Vec<String> {
    let names = directory.list().unwrap_or_default();
    let is_known = |number| manifest.compacted.parts().any(|(_, part)| part.number == number);
    let part_of = |name: &str| {
        let name = name.strip_suffix(".tmp").unwrap_or(name);
        part_number_of(name).or_else(|| index_format::part_number_of(name))
    };
    let is_left = |name: &str| {
        let of_segment = index_format::number_of(name);
        of_segment.is_some_and(|number| manifest.compacted.covering(number).is_some())
            || part_of(name).is_some_and(|number| name.ends_with(".tmp") || !is_known(number))
    };
    let others = names.into_iter().map(|entry| entry.name).filter(|name| is_left(name));
    segments.iter().map(|number| file_name(*number)).chain(others).collect()
}

#[cfg(test)]
#[cfg(not(miri))]
#[path = "compaction_tests.rs"]
mod tests;
