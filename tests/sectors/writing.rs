//! Sectors that cannot be written, while a store works; then the restart that does not cure it, and a cache that is dropped.

use std::collections::BTreeSet;

use crate::blocks::device::Device;
use crate::blocks::disk::{Event, Layer, SECTOR};
use crate::blocks::fault::{Fault, Trouble};
use crate::blocks::known::Known;

use super::child::{Child, Ended};
use super::layout::{Sector, sectors};
use super::tally::Tally;

/// Rounds of batches; it compacts behind each twelfth.
const BATCHES: u64 = 36;
const BATCHES_BEFORE_COMPACTION: u64 = 23;

/// A life in which nothing fails: the sectors that it writes to, and how often.
pub(crate) fn written(device: &Device) -> Vec<(Sector, usize)> {
    let mut all = BTreeSet::new();
    let mut log = Vec::new();
    for batches in [BATCHES_BEFORE_COMPACTION, BATCHES] {
        begin(device, None);
        let place = device.place();
        place.mount().unwrap();
        let child = Child::run("works", &place, &batches.to_string());
        assert!(child.ended == Ended::Well && child.first("failed").is_none(), "{:?}", child.said);
        assert_eq!(child.said.last().map(String::as_str), Some("through"));
        place.unmount().unwrap();
        log = std::mem::take(&mut device.disk().log);
        // Nothing of it is in the cache.
        place.mount().unwrap();
        all.extend(sectors(device).unwrap());
        place.unmount().unwrap();
    }
    let times = |sector: &Sector| {
        let is_in = |at: usize, length: usize| (at..at + length).contains(&(sector.on_disk * SECTOR));
        let writes =
            log.iter().filter(|event| matches!(event, Event::Write { at, bytes } if is_in(*at, bytes.len())));
        writes.count()
    };
    all.into_iter().map(|sector| (times(&sector), sector)).map(|(times, sector)| (sector, times)).collect()
}

/// Which of the writes of a sector fails first, and whether those behind it do too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// The first one alone: a file is being made.
    FirstOnce,
    /// From one in the middle on.
    MiddleOn,
    /// The last one that there was in a life without a failure, alone.
    LastOnce,
}

impl When {
    pub(crate) const ALL: [Self; 3] = [Self::FirstOnce, Self::MiddleOn, Self::LastOnce];

    /// How many writes are spared before.
    const fn spared(self, times: usize) -> usize {
        match self {
            Self::FirstOnce => 0,
            Self::MiddleOn => times / 2,
            Self::LastOnce => times.saturating_sub(1),
        }
    }
}

/// The disk as it was made, and what it will refuse.
fn begin(device: &Device, fault: Option<Fault>) {
    let mut disk = device.disk();
    disk.over.clear();
    disk.log.clear();
    (disk.is_recorded, disk.fault) = (true, fault);
}

/// What is known from outside, by the marks.
fn known(device: &Device) -> Known {
    let mut known = Known::default();
    for event in std::mem::take(&mut device.disk().log) {
        if let Event::Mark(line) = event {
            known.learn(&line);
        }
    }
    known
}

pub(crate) fn try_each(
    device: &Device,
    sectors: &[(Sector, usize)],
    trouble: Trouble,
    when: When,
    tally: &mut Tally,
) {
    for (sector, times) in sectors {
        if tally.is_enough() {
            return;
        }
        let (spared, is_once) = (when.spared(*times), when != When::MiddleOn);
        if when == When::LastOnce && spared == 0 {
            // It was tried.
            continue;
        }
        let shown = format!("{trouble:?}, {when:?} of {times}, {sector:?}");
        let fault = Fault { sector: sector.on_disk, trouble, spared, is_once, hits: 0 };
        begin(device, Some(fault));
        let place = device.place();
        place.mount().unwrap();
        let tried = one(device, tally);
        _ = place.unmount();
        device.disk().fault = None;
        if let Err(what) = tried {
            tally.violation(format!("{}: {shown}: {what}", device.file_system.name()));
        }
    }
}

fn hits(device: &Device) -> usize {
    device.disk().fault.map_or(0, |fault| fault.hits)
}

/// A life on a disk that fails, a restart above the same cache, and one behind a power cut.
fn one(device: &Device, tally: &mut Tally) -> Result<(), String> {
    let place = device.place();
    let worked = Child::run("works", &place, &BATCHES.to_string());
    let known = known(device);
    let class = judge_the_life(&worked)?;
    let restarted = Child::run("recovers", &place, &known.to_string());
    if hits(device) == 0 {
        // It was not written in this life: the file system has put something else there, or nothing.
        tally.count("not met");
        return Ok(());
    }
    tally.states += 1;
    let (expected, again) = judge_the_restart(&restarted, &known)?;
    tally.count(format!("{class}, {again}"));
    // The power is cut: what is in the cache and not on the disk is gone. The sector is as good as new.
    let state: Layer = device.disk().over.clone();
    _ = place.unmount();
    {
        let mut disk = device.disk();
        (disk.over, disk.fault) = (state, None);
        disk.log.clear();
    }
    if let Err(error) = place.mount() {
        tally.count(format!("not judged: {error}"));
        return Ok(());
    }
    let judged = Child::run("judges", &place, &expected.to_string());
    let verdict = judged.said.first().cloned().unwrap_or_default();
    if judged.ended == Ended::Well && verdict.starts_with("right ") {
        return Ok(());
    }
    let ended = if judged.ended == Ended::Well { String::new() } else { format!("{:?}", judged.ended) };
    Err(format!(
        "{class}; {again} and found {expected}; without its cache: {verdict} {ended}; it said {:?}",
        worked.said
    ))
}

/// An error that names what the operating system said, or that the file system takes no more writes.
pub(crate) fn is_of_a_disk(error: &str) -> bool {
    ["io ", "no-space ", "permission-denied "].iter().any(|kind| error.starts_with(kind))
}

/// Whoever wrote was told what holds.
pub(crate) fn judge_the_life(worked: &Child) -> Result<&'static str, String> {
    if worked.ended != Ended::Well {
        return Err(format!("it ended by {:?} behind {:?}", worked.ended, worked.said));
    }
    if let Some(what) = worked.first("wrong") {
        return Err(what.to_owned());
    }
    let of_a_call = worked.all("failed").filter_map(|failed| Some(failed.split_once(' ')?.1));
    let of_all = worked.all("unopened").chain(worked.all("gave up"));
    if let Some(failed) = of_a_call.chain(of_all).find(|failed| !is_of_a_disk(failed)) {
        return Err(format!("no error of a disk: {failed}"));
    }
    if let Some(poisoned) = worked.first("poisoned") {
        if !poisoned.contains("reopen the store and repeat with the same idempotency key") {
            return Err(format!("it does not say what to do: {poisoned}"));
        }
        return Ok("poisoned");
    }
    let has = |word| worked.first(word).is_some();
    let is_through = worked.said.iter().any(|line| line == "through");
    match () {
        () if has("unopened") => Ok("not opened"),
        () if has("gave up") => Ok("gave up"),
        () if is_through && has("failed") => Ok("went on"),
        () if is_through => Ok("not noticed"),
        () => Err(format!("it neither went on nor failed: {:?}", worked.said)),
    }
}

/// What is found above the same cache is what has to be there from now on.
pub(crate) fn judge_the_restart(restarted: &Child, known: &Known) -> Result<(Known, &'static str), String> {
    if restarted.ended != Ended::Well {
        return Err(format!("the restart ended by {:?}", restarted.ended));
    }
    if let Some(found) = restarted.first("found") {
        return Ok((Known::parse(found), "opened again"));
    }
    let Some(refused) = restarted.first("unopened") else {
        return Err(format!("the restart found {:?}", restarted.said));
    };
    // Of a store that never came to be there may be anything.
    let is_nothing =
        !known.is_opened && (refused.starts_with("not-found ") || refused.starts_with("not-a-store "));
    if is_of_a_disk(refused) || is_nothing {
        return Ok((known.clone(), "not opened again"));
    }
    Err(format!("the restart was refused: {refused}"))
}
