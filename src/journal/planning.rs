//! What a compaction would go over, and what it would find there: judged before anything is done, and said
//! also by whoever only reads the store.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use crate::compact::choose::{Worth, choose};
use crate::compact::judge::{Judged, Rules};
use crate::compact::policy::CompactOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::format::floor::Floor;
use crate::format::index::EntityHash;
use crate::format::segment::FIRST_FRAME;
use crate::format::system::KindInfo;
use crate::id::{Position, Seq};
use crate::index::build::index_parts;
use crate::index::catalog::{IndexRef, Opened, Section};
use crate::index::finder::Index;
use crate::index::sealed::SealedIndex;
use crate::journal::compaction::{Compacting, Compaction, Do};
use crate::journal::erasing::rules_of;
use crate::journal::holds::Holds;
use crate::journal::reader::Reader;
use crate::journal::registry::Registry;
use crate::journal::view::View;
use crate::log::lock::now;
use crate::options::Options;

impl Reader {
    /// Says what [`Journal::compact`](crate::Journal::compact) would do, beside a live writer or without one;
    /// see [`Journal::plan_compaction`](crate::Journal::plan_compaction). Nothing is written.
    ///
    /// Beside a live writer it is about what is durable, and about cursors: watchers without a name and
    /// backups that hold something back are known to the process that has them.
    ///
    /// # Errors
    ///
    /// As [`view`](Self::view), and `Corrupt` if the entities of damaged files cannot be told.
    pub fn plan_compaction(&self, options: &CompactOptions) -> Result<Compaction> {
        const LOOKS: usize = 16;
        let mut view = self.view()?;
        for _ in 1..LOOKS {
            let plan = self.plan(&view, options);
            let is_clean = plan.as_ref().is_ok_and(|plan| plan.damaged == 0);
            let now = self.view()?;
            // What the writer has compacted meanwhile cannot be opened, and is no damage.
            if is_clean || now.catalog.compacted == view.catalog.compacted {
                return plan;
            }
            view = now;
        }
        self.plan(&view, options)
    }

    fn plan(&self, view: &View, options: &CompactOptions) -> Result<Compaction> {
        let durable = self.durable().map_or(view.mark, |durable| durable.min(view.mark));
        for section in &view.catalog.sections {
            if section.number < durable.segment() && section.cover.is_none() {
                // What cannot be opened or read is left alone, and counted.
                let _ = section.open().and_then(|opened| self.index_in_memory(view, opened));
            }
        }
        let holds = Holds::of_these(Vec::new(), self.registry(), view)?;
        let ground = Ground {
            index: self.index(),
            registry: self.registry(),
            // The size that the writer opens with is not written down.
            segment_bytes: Options::new().segment_bytes,
            now: now(),
            compacting: None,
        };
        let job = Job::new(&ground, (options, Do::Nothing), view, durable, &holds)?;
        let mut outcome = job.outcome(view, &holds)?;
        for run in job.runs(options) {
            job.count(run, &mut outcome);
        }
        outcome.floor = Seq::new(view.catalog.compacted.floor_of_all());
        Ok(outcome)
    }

    /// A segment is judged by its index: one that has none yet gets it here, and not on disk.
    fn index_in_memory(&self, view: &View, opened: &Opened) -> Result<()> {
        let IndexRef::Live(live) = opened.index() else { return Ok(()) };
        if opened.damage().is_some() {
            return Ok(());
        }
        let place = &self.index().place;
        let before = |hash| {
            let found = view.catalog.search_below(opened.segment.number(), &place.hasher, hash)?;
            Ok(found.map_or(0, |known| known.newest.segment()))
        };
        let end = opened.segment.map.limit() as u64;
        let parts = index_parts(place, &opened.segment, &live, end, &before)?;
        opened.use_index(SealedIndex::of_parts(&parts, place.store)?);
        Ok(())
    }
}

/// The segment that begins with the last preamble that is durable. It restates what the log says of itself, so
/// only what stands before it can go: one of which nothing is durable restates nothing.
fn behind_what_may_go(view: &View, durable: Position) -> u32 {
    if durable.offset() > FIRST_FRAME {
        return durable.segment();
    }
    let before = view.catalog.sections.iter().rev().find(|section| section.number < durable.segment());
    before.map_or(0, |section| section.number)
}

/// What is compacted, or only planned to be.
pub(crate) struct Ground<'a> {
    pub(crate) index: &'a Index,
    pub(crate) registry: &'a RwLock<Registry>,
    /// No part grows much longer.
    pub(crate) segment_bytes: u64,
    /// Nanoseconds since 1970.
    pub(crate) now: i64,
    /// Who may say that it is to end.
    pub(crate) compacting: Option<&'a Compacting>,
}

/// One compaction.
pub(crate) struct Job<'a> {
    ground: &'a Ground<'a>,
    pub(crate) rules: Rules<'a>,
    /// Everything in the row that is durable, and what may be touched of it.
    pub(crate) row: Vec<Judged>,
    free: Vec<bool>,
    damaged: u64,
}

impl<'a> Job<'a> {
    pub(crate) fn new(
        ground: &'a Ground<'a>,
        (options, what): (&CompactOptions, Do),
        view: &View,
        durable: Position,
        holds: &Holds,
    ) -> Result<Self> {
        let nanos = |age: Duration| i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
        let kept = |kind: &Arc<KindInfo>| (kind.id.0, kind.keep);
        let keep = match what {
            // Nothing else goes.
            Do::Erase => HashMap::new(),
            _ => ground.registry.read().iter().map(kept).collect(),
        };
        let rules = Rules {
            index: ground.index,
            keep,
            durable,
            floors: match what {
                Do::Erase => HashMap::new(),
                _ => floors_of(ground, view, durable)?,
            },
            tombstones_until: ground.now.saturating_sub(nanos(options.keep_tombstones_for)),
            found: std::cell::RefCell::default(),
            erasing: rules_of(&view.catalog.compacted),
        };
        let mut job = Job { ground, rules, row: Vec::new(), free: Vec::new(), damaged: 0 };
        let limits = Limits {
            // A policy that keeps nothing of the newest looks at everything.
            appended_before: (!options.keep_for.is_zero())
                .then(|| ground.now.saturating_sub(nanos(options.keep_for))),
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
        let end = behind_what_may_go(view, durable);
        for section in view.catalog.sections.iter().take_while(|section| section.number < end) {
            if self.ground.compacting.is_some_and(|compacting| compacting.is_stopped()) {
                let path = self.ground.index.place.directory.path();
                return Err(Error::new(ErrorKind::Closed, "compact the log").at(path));
            }
            let opened = match section.open() {
                // Nothing is known of it, and it is not for that to be left alone.
                Err(error) if error.is_passing() => return Err(error),
                opened => opened.ok(),
            };
            bytes_through += opened.map_or(0, |opened| opened.segment.header.bytes);
            if total.saturating_sub(bytes_through) < limits.bytes_kept || !limits.allow(section)? {
                break;
            }
            let is_whole = opened.is_some_and(|opened| {
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
        // The last one may be one that cannot be opened.
        let through = self.row.iter().rev().find_map(|judged| end_of(&judged.section).ok());
        let through = through.and_then(|end| Seq::new(end.saturating_sub(1)));
        let reach = match view
            .catalog
            .sections
            .iter()
            .rev()
            .find(|section| section.number < behind_what_may_go(view, self.rules.durable))
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

    pub(crate) fn runs(&self, options: &CompactOptions) -> Vec<Range<usize>> {
        let worth = |at: usize, judged: &Judged, is_free: bool| Worth {
            kept: judged.bytes_kept,
            garbage: judged.garbage,
            is_part: judged.section.cover.is_some(),
            must_go: judged.must_go,
            is_free,
            is_behind_gap: self.is_behind_gap(at),
        };
        let row = self.row.iter().zip(&self.free).enumerate();
        let row: Vec<Worth> = row.map(|(at, (judged, is_free))| worth(at, judged, *is_free)).collect();
        choose(&row, self.ground.segment_bytes, options.thorough)
    }

    /// True if Seqs that nothing stands for lie between one of the row and the one before.
    fn is_behind_gap(&self, at: usize) -> bool {
        let before = at.checked_sub(1).and_then(|at| end_of(&self.row.get(at)?.section).ok());
        let first = self.row.get(at).and_then(|judged| judged.section.first_seq().ok());
        let (Some(before), Some(first)) = (before, first) else { return false };
        self.rules.index.catalog().compacted.dense_from(first, before) > before
    }

    /// What a run would come to.
    pub(crate) fn count(&self, run: Range<usize>, outcome: &mut Compaction) {
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
}

/// The entities that have a floor, each with the first Seq that is still shown. Only what is durable says so: a power
/// cut must not bring back a history without the floor that explains what is missing.
fn floors_of(ground: &Ground<'_>, view: &View, durable: Position) -> Result<HashMap<EntityHash, u64>> {
    let mut floors = HashMap::new();
    let floored = ground.registry.read().floored();
    for (kind, floors_kind) in floored {
        for entry in view.kind(floors_kind) {
            let entry = entry?;
            let is_durable = entry.position().is_in_part() || entry.position() < durable;
            if let Some(floor) = Floor::read(entry.payload()).filter(|_| is_durable) {
                let first: &mut u64 = floors.entry(ground.index.hash(kind.0, entry.key())).or_default();
                *first = (*first).max(floor.first);
            }
        }
    }
    Ok(floors)
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
pub(crate) fn log_bytes(view: &View) -> u64 {
    let bytes = |section: &Arc<Section>| section.open().map_or(0, |opened| opened.segment.header.bytes);
    view.catalog.sections.iter().map(bytes).sum()
}
