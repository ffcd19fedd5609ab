//! Power cuts of a disk that was recorded (R6), under a file system of the kernel.
//!
//! A disk in memory stands behind FUSE and a loop device, with ext4, XFS or btrfs on it. It keeps a log of each write and flush, and
//! of what a process that writes a store said meanwhile: what it began, what was acknowledged, where a cursor was put, what a
//! follower was shown. Then the disk is made as a power cut would have left it: all that a flush covers, and of what came behind
//! it the first so many writes, or any of them, some only in part. That is mounted, and the store opened and judged; so is what a
//! second power cut leaves of that life.
//!
//! It mounts, so it takes root, and runs only where `ESKER_BLOCKS` names the file systems: `ext4,xfs,btrfs`. `ESKER_BLOCKS_SECONDS`
//! is how long it goes on, `ESKER_BLOCKS_SEED` where it begins; what it finds is kept in `ESKER_BLOCKS_EVIDENCE`.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "some of it only the cuts of a machine need")]
mod blocks;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use blocks::device::{Device, FileSystem};
use blocks::disk::{Event, Layer, put};
use blocks::known::Known;
use blocks::random::Random;
use blocks::roles::{Judge, live_apart};
use blocks::survivors::{Choice, is_torn, survivors};
use blocks::workload::Life;

/// Not a test of its own: what a child process does, which is this same program.
#[test]
fn role_of_a_child_process() {
    blocks::roles::play();
}

/// What was found.
#[derive(Debug, Default)]
struct Tally {
    /// Of a life, and of what whoever judged one of those has written.
    first_cuts: usize,
    second_cuts: usize,
    /// How many of both had a write in them that the disk has a part of.
    torn: usize,
    classes: BTreeMap<String, usize>,
    violations: Vec<String>,
}

impl Tally {
    const fn states(&self) -> usize {
        self.first_cuts + self.second_cuts
    }

    fn add(&mut self, mut other: Self) {
        self.first_cuts += other.first_cuts;
        self.second_cuts += other.second_cuts;
        self.torn += other.torn;
        for (class, count) in other.classes {
            *self.classes.entry(class).or_default() += count;
        }
        self.violations.append(&mut other.violations);
    }

    fn tell(&self, file_system: FileSystem, seeds: u64, seconds: u64) {
        let Self { first_cuts, second_cuts, torn, .. } = self;
        let (name, states, violations) = (file_system.name(), self.states(), self.violations.len());
        let told = format!(
            "{{\"rung\":\"R6\",\"file_system\":\"{name}\",\"seeds\":{seeds},\"first_cuts\":{first_cuts},\
             \"second_cuts\":{second_cuts},\"torn\":{torn},\"states\":{states},\"violations\":{violations},\
             \"seconds\":{seconds}}}\n{name}: {:?}\n",
            self.classes
        );
        std::io::stdout().write_all(told.as_bytes()).unwrap();
    }
}

/// About so many power cuts are looked at of a disk, all over its log, before another is recorded; and so many of what one who
/// judged has written.
const FIRST_CUTS: u64 = 120;
const SECOND_CUTS: u64 = 8;
/// Behind so many there is no need of more.
const VIOLATIONS: usize = 3;
const MILLION: u64 = 1_000_000;

struct Explorer<'a> {
    device: &'a Device,
    judge: Judge,
    random: Random,
    tally: Tally,
    /// So many of a million cuts are looked at.
    share: u64,
    until: Instant,
    what: String,
}

/// One power cut.
struct Cut<'a> {
    known: &'a Known,
    /// What came since the last flush.
    flying: &'a [(usize, &'a [u8])],
    /// In thousandths: how many of them reached the disk.
    kept: u64,
    is_torn: bool,
}

impl Explorer<'_> {
    /// All cuts of a log that begins above `settled` (and the base, which goes along where `is_deep` is false).
    fn explore(&mut self, log: &[Event], known: &Known, settled: &mut Layer, is_deep: bool) {
        let mut known = known.clone();
        let wanted = if is_deep { SECOND_CUTS } else { FIRST_CUTS };
        let share_before = std::mem::replace(&mut self.share, wanted * MILLION / cuts(log));
        let mut first = 0;
        while first < log.len() && Instant::now() < self.until && self.tally.violations.len() < VIOLATIONS {
            let flush = log[first..].iter().position(|event| matches!(event, Event::Flush));
            let end = flush.map_or(log.len(), |flush| first + flush);
            let epoch = &log[first..end];
            self.epoch(epoch, &mut known, settled, is_deep);
            for event in epoch {
                let Event::Write { at, bytes } = event else { continue };
                let base = &mut self.device.disk().base;
                if is_deep {
                    put(settled, base, *at, bytes);
                } else {
                    base[*at..*at + bytes.len()].copy_from_slice(bytes);
                }
            }
            first = end + 1;
        }
        self.share = share_before;
    }

    /// The cuts between two flushes.
    fn epoch(&mut self, epoch: &[Event], known: &mut Known, settled: &Layer, is_deep: bool) {
        let mut flying: Vec<(usize, &[u8])> = Vec::new();
        for event in epoch {
            match event {
                Event::Mark(line) => known.learn(line),
                Event::Write { at, bytes } => {
                    flying.push((*at, bytes));
                    let cut = Cut { known, flying: &flying, kept: 1000, is_torn: false };
                    self.cut(&cut, settled, is_deep);
                }
                Event::Flush => {}
            }
        }
        // What was said last is known, and nothing or something of what is on its way is there.
        self.cut(&Cut { known, flying: &[], kept: 0, is_torn: false }, settled, is_deep);
        if !flying.is_empty() {
            for _ in 0..subsets(flying.len()) {
                let kept = [150, 500, 850][usize::try_from(self.random.below(3)).unwrap()];
                self.cut(&Cut { known, flying: &flying, kept, is_torn: true }, settled, is_deep);
            }
        }
    }

    fn cut(&mut self, cut: &Cut<'_>, settled: &Layer, is_deep: bool) {
        if self.random.below(MILLION) >= self.share || Instant::now() >= self.until {
            return;
        }
        let mut state = settled.clone();
        let atom = cut.is_torn.then(|| self.device.file_system.atom());
        let chosen = survivors(cut.flying, Choice { kept: cut.kept, atom }, &mut self.random);
        self.tally.torn += usize::from(is_torn(cut.flying, &chosen));
        {
            let mut disk = self.device.disk();
            for (at, bytes) in &chosen {
                put(&mut state, &disk.base, *at, bytes);
            }
            disk.over = state.clone();
            disk.log.clear();
            disk.is_recorded = !is_deep && self.random.below(8) == 0;
        }
        let verdict = self.judge.judge(cut.known);
        // What the kernel does not take for its file system nobody has judged.
        let judged = usize::from(!verdict.starts_with("unmountable"));
        *(if is_deep { &mut self.tally.second_cuts } else { &mut self.tally.first_cuts }) += judged;
        let (word, rest) = verdict.split_once(' ').unwrap_or((&verdict, ""));
        let class = match word {
            "right" => rest,
            "unmountable" => &verdict,
            _ => word,
        };
        let class = format!("{class}{}", if is_deep { " again" } else { "" });
        *self.tally.classes.entry(class).or_default() += 1;
        let log = std::mem::take(&mut self.device.disk().log);
        if word == "wrong" {
            self.keep(&state, cut, rest);
        } else if word == "right" && !log.is_empty() {
            self.explore(&log, cut.known, &mut state, true);
        }
    }

    fn keep(&mut self, state: &Layer, cut: &Cut<'_>, what: &str) {
        let number = self.tally.violations.len();
        let story = format!("{}: {what}; known was {}; {} in flight", self.what, cut.known, cut.flying.len());
        eprintln!("violation: {story}");
        self.tally.violations.push(story);
        let Ok(directory) = std::env::var("ESKER_BLOCKS_EVIDENCE") else { return };
        let name = format!("{}-{number}", self.what.replace(' ', "-"));
        let mut disk = self.device.disk();
        disk.over.clone_from(state);
        _ = std::fs::create_dir_all(&directory);
        _ = std::fs::write(format!("{directory}/{name}.image"), disk.image());
        _ = std::fs::write(format!("{directory}/{name}.txt"), self.tally.violations[number].as_bytes());
    }
}

/// How many subsets of the writes between two flushes are tried.
const fn subsets(writes: usize) -> usize {
    if writes < 5 { 1 + writes } else { 6 }
}

/// How many cuts there are of a log.
fn cuts(log: &[Event]) -> u64 {
    let epochs = log.split(|event| matches!(event, Event::Flush));
    let of_an_epoch = |epoch: &[Event]| {
        let writes = epoch.iter().filter(|event| matches!(event, Event::Write { .. })).count();
        if writes == 0 { 1 } else { 1 + writes + subsets(writes) }
    };
    epochs.map(of_an_epoch).sum::<usize>() as u64
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// Four lives on a new file system; answers the log of the disk.
fn record(device: &Device, seed: u64) -> Vec<Event> {
    let place = device.place();
    device.disk().settle();
    place.mount().unwrap();
    let mut random = Random::new(seed);
    for life in 0..4 {
        let (is_lazy, is_closed) = (random.below(3) == 0, random.below(3) == 0);
        let life = Life { seed: seed * 10 + life, batches: 20, is_lazy, is_closed };
        live_apart(&place, life).unwrap();
    }
    place.unmount().unwrap();
    std::mem::take(&mut device.disk().log)
}

fn file_systems() -> Option<Vec<FileSystem>> {
    let Ok(names) = std::env::var("ESKER_BLOCKS") else {
        eprintln!("not run: ESKER_BLOCKS names no file systems to mount");
        return None;
    };
    Some(
        names.split(',').map(|name| FileSystem::named(name).unwrap_or_else(|| panic!("no {name}"))).collect(),
    )
}

#[test]
fn after_a_power_cut_everything_acknowledged_is_there_and_nothing_else() {
    let Some(file_systems) = file_systems() else { return };
    let seconds = number("ESKER_BLOCKS_SECONDS", 60);
    let first = number("ESKER_BLOCKS_SEED", 1);
    let mut violations = Vec::new();
    for file_system in &file_systems {
        let begun = Instant::now();
        let until = begun + Duration::from_secs(seconds / file_systems.len() as u64);
        let mut total = Tally::default();
        let mut seeds = 0;
        while Instant::now() < until && total.violations.is_empty() {
            let seed = first + seeds;
            seeds += 1;
            let device = Device::new(*file_system).unwrap();
            let base = device.disk().base.clone();
            let log = record(&device, seed);
            device.disk().base = base;
            let mut explorer = Explorer {
                judge: Judge::new(device.place()),
                device: &device,
                random: Random::new(seed),
                tally: Tally::default(),
                share: 0,
                until,
                what: format!("{} seed {seed}", file_system.name()),
            };
            explorer.explore(&log, &Known::default(), &mut Layer::new(), false);
            total.add(std::mem::take(&mut explorer.tally));
        }
        total.tell(*file_system, seeds, begun.elapsed().as_secs());
        assert!(total.states() > 0, "{}: in {seconds} seconds no state was looked at", file_system.name());
        violations.append(&mut total.violations);
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}
