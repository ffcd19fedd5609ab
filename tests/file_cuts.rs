//! Power cuts and refusals of a disk, as a file system sees them (R5): each write of a file, each sync and each name was recorded.
//!
//! A file system in memory stands behind FUSE; the kernel keeps its pages, maps them and writes them back as it does for any
//! other. It keeps a log of what comes, and of what a process that writes a store said meanwhile: what it began, what was
//! acknowledged, where a cursor was put, what a follower was shown. Behind each point of that log the files are made as a power
//! cut may leave them: all that syncs cover, and of the rest the first so many events, or any of them, with pages that are torn
//! between their versions, and each change of a name kept or lost for itself. That is what POSIX promises, and no file system
//! of the kernel does as little. What is left is put into a plain directory, opened and judged; so is what a second power cut
//! leaves of that life. And the n-th write, sync or read is refused, for each n of a small life.
//!
//! esker writes by calls where it finds FUSE. What goes through mappings is recorded too, where strace is there to say that this
//! is another file system (see [`files::workshop`]).
//!
//! It mounts, so it takes root, and runs only where `ESKER_FILES` is set. `ESKER_FILES_STATES` is how many power cuts are tried,
//! in `ESKER_FILES_SECONDS` at most, `ESKER_FILES_STEP` takes only each so many-th refusal, `ESKER_FILES_SEED` is where it begins; what it finds is kept in
//! `ESKER_FILES_EVIDENCE`.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "some of it only a disk of blocks needs")]
mod blocks;
mod files;
#[allow(dead_code, reason = "some of it only a bad sector needs")]
mod sectors;

use std::collections::HashSet;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use blocks::known::Known;
use blocks::random::Random;
use blocks::roles::{Judge, live_by};
use blocks::workload::Life;
use files::budget::Budget;
use files::failing::{Failing, cases};
use files::model::{Fate, Lie, Model};
use files::number;
use files::tally::Tally;
use files::tree::{Asked, Event, Files};
use files::workshop::{Manner, Recorder, STORE, Workshop, has_strace, model};

/// Not a test of its own: what a child process does, which is this same program.
#[test]
fn role_of_a_child_process() {
    sectors::child::play();
    blocks::roles::play();
}

/// Another one on each run, unless it is given; it is told with what was found.
fn seed() -> u64 {
    let drawn = RandomState::new().hash_one(0) % 1_000_000;
    number("ESKER_FILES_SEED", usize::try_from(drawn).unwrap()) as u64
}

/// The ways to write that can be tried here; none where nobody asked.
fn manners() -> Vec<Manner> {
    if std::env::var_os("ESKER_FILES").is_none() {
        eprintln!("not run: ESKER_FILES is not set, and files are recorded only where they may be mounted");
        return Vec::new();
    }
    let has_strace = has_strace();
    if !has_strace {
        eprintln!("not run: strace does not work here, and so no store is written through mappings");
    }
    let all = [(true, false), (true, true), (false, true), (false, false)];
    let all = all.map(|(is_mapped, holds_writes_back)| Manner { is_mapped, holds_writes_back });
    all.into_iter().filter(|manner| has_strace || !manner.is_mapped).collect()
}

/// About so many power cuts are looked at of one record, all over it, before another is made; and so many of what one who
/// judged has written, which is recorded once for so many of the first.
const FIRST_CUTS: usize = 1200;
const SECOND_CUTS: usize = 60;
const CUTS_WITH_A_SECOND: u64 = 150;
/// Behind each event so many are to be had, of which some are taken.
const FATES: usize = 6;
/// What came long before is synced: a prefix ends among so many.
const NEWEST: usize = 48;
const MILLION: u64 = 1_000_000;

struct Explorer<'a> {
    workshop: &'a Workshop,
    manner: Manner,
    plain: Judge,
    recorded: Judge,
    random: Random,
    tally: Tally,
    looked_at: HashSet<u64>,
    /// So many of a million cuts are looked at.
    share: u64,
    budget: &'a Budget,
    what: String,
}

impl Explorer<'_> {
    /// All cuts of a log that begins with what the model says.
    fn explore(&mut self, log: &[Event], known: &Known, mut model: Model, is_deep: bool) {
        let mut known = known.clone();
        let wanted = if is_deep { SECOND_CUTS } else { FIRST_CUTS };
        let share = (wanted as u64 * MILLION) / (log.len() * FATES).max(1) as u64;
        let share_before = std::mem::replace(&mut self.share, share);
        for event in log {
            if self.budget.is_spent() || self.tally.is_enough() {
                break;
            }
            model.apply(event);
            if let Event::Mark(line) = event {
                known.learn(line);
            }
            self.behind_an_event(&model, &known, is_deep);
        }
        self.share = share_before;
    }

    fn behind_an_event(&mut self, model: &Model, known: &Known, is_deep: bool) {
        // Where nothing is on its way there is one.
        for number in 0..if model.flying == 0 { 1 } else { FATES } {
            if self.random.below(MILLION) >= self.share {
                continue;
            }
            let left = self.fate(number, model);
            self.cut(left, known, is_deep);
        }
    }

    /// Nothing on its way arrives, or all of it, or what came first, or anything.
    fn fate(&mut self, number: usize, model: &Model) -> Option<Files> {
        let random = &mut self.random;
        let mut fate = match number {
            0 => Fate::Prefix(0),
            1 => Fate::Prefix(model.order()),
            2 => {
                let newest = model.order().min(NEWEST) as u64;
                Fate::Prefix(model.order() - usize::try_from(random.below(newest)).unwrap())
            }
            _ => {
                let share = [0, 150, 500, 850, 1000];
                let mut draw = || share[usize::try_from(random.below(5)).unwrap()];
                let (names, pages) = (draw(), draw());
                Fate::Any { names, pages, is_torn: number != 3, random }
            }
        };
        model.left(STORE, &mut fate)
    }

    fn cut(&mut self, left: Option<Files>, known: &Known, is_deep: bool) {
        let mut hasher = DefaultHasher::new();
        (&left, known.to_string()).hash(&mut hasher);
        if !self.looked_at.insert(hasher.finish()) {
            // The same files, of which the same is known.
            return;
        }
        if !self.budget.take() {
            return;
        }
        self.tally.count("states", 1);
        self.tally.count(if is_deep { "second_cuts" } else { "first_cuts" }, 1);
        let has_a_second = !is_deep && self.random.below(CUTS_WITH_A_SECOND) == 0;
        let (verdict, log) = if has_a_second {
            let recorder = Recorder::new(self.workshop, self.manner, left.as_ref()).unwrap();
            let verdict = self.recorded.judge(known);
            (verdict, recorder.log())
        } else {
            self.workshop.put(left.as_ref()).unwrap();
            (self.plain.judge(known), Vec::new())
        };
        match verdict.split_once(' ') {
            Some(("right", class)) => {
                self.tally.class(format!("{class}{}", if is_deep { " again" } else { "" }));
                if has_a_second {
                    self.explore(&log, known, model(left.as_ref()), true);
                }
            }
            _ => {
                let again = if is_deep { ", again" } else { "" };
                let story = format!("{}{again}: {verdict}; known was {known}", self.what);
                self.tally.violation(story, left.as_ref());
            }
        }
    }
}

/// Four lives on a new file system; answers what was recorded, and how many pages of it were written back.
fn record(workshop: &Workshop, manner: Manner, seed: u64) -> (Vec<Event>, usize) {
    let recorder = Recorder::new(workshop, manner, None).unwrap();
    let mut random = Random::new(seed);
    for number in 0..4 {
        let (is_lazy, is_closed) = (random.below(3) == 0, random.below(3) == 0);
        let life = Life { seed: seed * 10 + number, batches: 20, is_lazy, is_closed };
        // strace ends by the signal of whom it looks at.
        live_by(manner.command(), &workshop.recorded(), life).unwrap();
    }
    let written_back = recorder.tree().written_back;
    // What calls write comes from the cache only where the kernel holds it back: it shows which way was taken.
    if !manner.holds_writes_back {
        assert_eq!(manner.is_mapped, written_back > 0, "{}: {written_back} pages", manner.name());
    }
    (recorder.log(), written_back)
}

/// The power cuts of one record, made of it by a disk that may lie.
fn one_seed(workshop: &Workshop, manner: Manner, seed: u64, budget: &Budget, lie: Option<Lie>) -> Tally {
    let (log, written_back) = record(workshop, manner, seed);
    let by_calls = Manner { is_mapped: false, ..manner };
    let mut explorer = Explorer {
        workshop,
        manner,
        plain: Judge::as_it_stands(workshop.plain(), move || by_calls.command()),
        recorded: Judge::as_it_stands(workshop.recorded(), move || manner.command()),
        random: Random::new(seed),
        tally: Tally::quiet(lie.is_some()),
        looked_at: HashSet::new(),
        share: 0,
        budget,
        what: format!("{}, seed {seed}", manner.name()),
    };
    explorer.tally.count("records", 1);
    explorer.tally.count("pages_written_back", written_back);
    explorer.tally.class(manner.name());
    let mut disk = model(None);
    disk.lie = lie;
    explorer.explore(&log, &Known::default(), disk, false);
    std::mem::take(&mut explorer.tally)
}

/// Runs as many workers as there are processors, and adds up what they tell.
fn together(work: impl Fn(usize) -> Tally + Sync) -> Tally {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let mut total = Tally::default();
    std::thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = (0..workers).map(|worker| scope.spawn(move || work(worker))).collect();
        running.into_iter().for_each(|worker| total.add(worker.join().unwrap()));
    });
    total
}

#[test]
fn what_a_power_cut_may_leave_of_the_files_is_everything_acknowledged_and_nothing_else() {
    let manners = manners();
    if manners.is_empty() {
        return;
    }
    let (begun, first) = (Instant::now(), seed());
    let (budget, next) = (Budget::new(number("ESKER_FILES_STATES", 20_000)), AtomicUsize::new(0));
    let total = together(|_| {
        let workshop = Workshop::new().unwrap();
        let mut tally = Tally::default();
        while !budget.is_spent() && !tally.is_enough() {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            tally.add(one_seed(&workshop, manners[turn % manners.len()], first + turn as u64, &budget, None));
        }
        // One is enough for all.
        if !tally.violations.is_empty() {
            budget.end();
        }
        tally
    });
    total.tell("power cuts", first, begun.elapsed().as_secs());
    assert!(total.counts.get("states").is_some_and(|states| *states > 0), "no state was looked at");
    assert!(total.violations.is_empty(), "{}", total.violations.join("\n"));
}

/// As bugs that are planted: who does not sync what has to be synced is left with the same.
#[test]
fn a_sync_of_files_or_of_names_that_does_nothing_is_noticed() {
    let Some(manner) = manners().into_iter().next() else { return };
    let (first, workshop) = (seed(), Workshop::new().unwrap());
    for lie in [Lie::OfFiles, Lie::OfDirectories] {
        let budget = Budget::new(number("ESKER_FILES_STATES", 20_000));
        let mut noticed = Tally::quiet(true);
        for seed in first.. {
            if budget.is_spent() || noticed.is_enough() {
                break;
            }
            noticed.add(one_seed(&workshop, manner, seed, &budget, Some(lie)));
        }
        let looked_at = noticed.counts.get("states").copied().unwrap_or_default();
        assert!(!noticed.violations.is_empty(), "{lie:?}, seed {first}: not noticed by {looked_at}");
        eprintln!("{lie:?}: noticed {} times of {looked_at}", noticed.violations.len());
    }
}

#[test]
fn a_write_a_sync_or_a_read_that_is_refused_takes_nothing_that_was_acknowledged() {
    // Where calls write through, FUSE forgets a page of which a call was refused, with what a mapping has stored in it since:
    // a way to lose bytes in silence that file systems do not have on which esker maps.
    let manners = manners().into_iter().filter(|manner| !manner.is_mapped || manner.holds_writes_back);
    let step = number("ESKER_FILES_STEP", 1).max(1);
    for manner in manners {
        let (begun, seed) = (Instant::now(), seed());
        let (budget, next) = (Budget::new(usize::MAX), AtomicUsize::new(0));
        let total = together(|worker| {
            let workshop = Workshop::new().unwrap();
            let by_calls = Manner { is_mapped: false, ..manner };
            let judge = Judge::as_it_stands(workshop.plain(), move || by_calls.command());
            let mut failing = Failing {
                workshop: &workshop,
                manner,
                judge,
                random: Random::new(seed),
                tally: Tally::default(),
            };
            let (counts, sound) = failing.sound();
            let reads = [(Asked::Read, failing.reads(&sound))].into();
            let first = usize::try_from(seed).unwrap();
            let (written, read) = (cases(&counts, step, first), cases(&reads, step, first));
            if worker == 0 {
                failing.tally.class(format!("asked of the disk: {counts:?}, and to be read: {reads:?}"));
            }
            while !budget.is_spent() {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                match (written.get(turn), turn.checked_sub(written.len()).map(|turn| read.get(turn))) {
                    (Some(case), _) => failing.write(*case),
                    (None, Some(Some(case))) => failing.read(*case, &sound),
                    _ => break,
                }
                if failing.tally.is_enough() {
                    break;
                }
            }
            std::mem::take(&mut failing.tally)
        });
        total.tell(&format!("refusals, {}", manner.name()), seed, begun.elapsed().as_secs());
        assert!(total.counts.get("states").is_some_and(|states| *states > 0), "nothing was refused");
        assert!(total.violations.is_empty(), "{}", total.violations.join("\n"));
    }
}
