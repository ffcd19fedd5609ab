//! The contract of a backplane, on those of this crate, on doubles that keep it, and on doubles that break it: each
//! statement is shown red by the doubles that it has to find, in the same run in which it is green.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use esker::backplane::{Backplane, InMemory, Local};
use esker::conformance::doubles::{Double, Fault};
use esker::conformance::part_a::{LIMITS, STATEMENTS};
use esker::conformance::part_b;
use esker::conformance::{Bench, Random, Settings, check, contract};
use esker::{CompactOptions, Durability, ErrorKind, Journal, Options, Simulator};

#[path = "conformance/table.rs"]
mod table;

use table::{MakeBench, schedules_until_broken, schedules_until_red};

/// A journal on a simulated disk: a crash takes what was not synced, in any of the ways in which a disk may. Each opening
/// compacts, now and then.
struct Disk {
    disk: Mutex<Simulator>,
    random: Mutex<Random>,
}

/// So long a store may be held by threads that nobody waits for.
const PATIENCE: Duration = Duration::from_secs(20);

impl Disk {
    fn new(seed: u64) -> Self {
        Self { disk: Mutex::new(Simulator::new()), random: Mutex::new(Random::new(seed)) }
    }

    fn compacted(&self, journal: Journal) -> Journal {
        if self.random.lock().unwrap().one_in(2) {
            journal.compact(&CompactOptions::new().thorough(true)).unwrap();
        }
        journal
    }
}

impl Bench for Disk {
    fn open(&self) -> Arc<dyn Backplane> {
        let options = Options::new().segment_bytes(16 << 10).background(false);
        let begun = Instant::now();
        let journal = loop {
            match options.open_in(&self.disk.lock().unwrap()) {
                // A schedule that found something broken left in the middle: its threads let go of it soon.
                Err(error) if error.kind() == ErrorKind::Locked && begun.elapsed() < PATIENCE => {
                    std::thread::yield_now()
                }
                opened => break opened.unwrap(),
            }
        };
        Arc::new(Local::owning(self.compacted(journal)).unwrap())
    }

    fn kill(&self, plane: Arc<dyn Backplane>) -> Arc<dyn Backplane> {
        let crashed = {
            let mut random = self.random.lock().unwrap();
            let disk = self.disk.lock().unwrap();
            disk.crash(disk.events(), &mut |n| random.below(n))
        };
        *self.disk.lock().unwrap() = crashed;
        drop(plane);
        self.open()
    }
}

/// In memory: there is nothing that a crash could take.
struct Memory(InMemory);

impl Bench for Memory {
    fn open(&self) -> Arc<dyn Backplane> {
        Arc::new(self.0.reopened())
    }
}

const BACKPLANES: &[(&str, MakeBench)] = &[
    ("local", |seed| Box::new(Disk::new(seed))),
    ("memory", |_| Box::new(Memory(InMemory::new()))),
    ("stepwise", |_| Box::new(Memory(InMemory::stepwise()))),
];

/// Those that make whoever appends or tells wait, without end where nobody looks: an append has no time-out, so that a statement
/// would not end either.
const WAITING: &[Fault] = &[Fault::Backpressure, Fault::FeedBackpressure];

/// Those that do nothing there: nothing is opened or appended again in it, no dead letter is written, no image is unreadable, and
/// nobody makes the streams anew. Part B shows each of them red where it does, and `Narrow` is about limits.
const IDLE: &[Fault] = &[
    Fault::Narrow,
    Fault::RepeatsAsNew,
    Fault::ImagesInMemory,
    Fault::UnreadIsNone,
    Fault::CellsInMemory,
    Fault::LettersUnkept,
    Fault::SameEra,
];

fn schedules() -> u64 {
    std::env::var("ESKER_CONFORMANCE_SCHEDULES").ok().map_or(6, |text| text.parse().unwrap())
}

/// Those of folds take longer: each waits for projectors, and the doubles make them wait.
fn fold_schedules() -> u64 {
    std::env::var("ESKER_FOLD_SCHEDULES").ok().map_or(1, |text| text.parse().unwrap())
}

#[test]
fn every_statement_holds_on_every_backplane_and_kept_double_and_is_broken_by_those_that_it_names() {
    let (text, problems) = table::part_a(BACKPLANES, schedules());
    println!("{text}");
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn what_runs_on_a_backplane_holds_on_every_one_and_each_statement_is_broken_by_the_doubles_that_it_names() {
    let (text, problems) = table::part_b(BACKPLANES, fold_schedules());
    println!("{text}");
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn a_record_that_is_missing_is_found_in_each_of_many_schedules() {
    // What is stored grows from schedule to schedule, and is opened in each: so many share it.
    const TOGETHER: u64 = 100;
    let schedules: u64 = std::env::var("ESKER_GAP_SCHEDULES").map_or(200, |text| text.parse().unwrap());
    assert!(schedules > 0, "nothing would be tried");
    let statement = part_b::STATEMENTS.iter().find(|statement| statement.number == 12).unwrap();
    for (at, (name, bench)) in (1..).zip(BACKPLANES) {
        for first in (0..schedules).step_by(usize::try_from(TOGETHER).unwrap()) {
            let settings = Settings::new().schedules(TOGETHER.min(schedules - first));
            let settings = settings.seed(Random::new(first | at << 48).next());
            let report = check(&*bench(first), &[*statement], &settings);
            assert!(report.broken().next().is_none(), "{name} {settings:?} {report}");
        }
    }
}

#[test]
fn what_every_backplane_takes_is_taken_and_one_that_takes_less_is_found() {
    let local: MakeBench = |_| {
        let disk = Simulator::new();
        Box::new(move || -> Arc<dyn Backplane> {
            let options = Options::new().segment_bytes(4 << 20).background(false);
            Arc::new(Local::owning(options.open_in(&disk).unwrap()).unwrap())
        })
    };
    assert_eq!(Fault::Narrow.breaks(), Some(LIMITS.number));
    let (text, problems) = table::limits(&[("local", local), BACKPLANES[1], BACKPLANES[2]], 2);
    println!("{text}");
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn a_double_is_found_only_where_the_backplane_alone_is_not_red_too() {
    let broken: MakeBench = |_| {
        let plane = InMemory::new();
        Box::new(move || -> Arc<dyn Backplane> {
            Arc::new(Double::new(Arc::new(plane.reopened()), Fault::BlindPut, 1))
        })
    };
    let statement = STATEMENTS.iter().find(|statement| Some(statement.number) == Fault::BlindPut.breaks());
    let otherwise = schedules_until_broken(&broken, Fault::Delay, *statement.unwrap(), 50).unwrap_err();
    assert!(otherwise.contains("without the double too"), "{otherwise}");
}

#[test]
fn a_double_that_only_lets_nothing_be_appended_shows_no_statement_of_folds_red() {
    let mut red = part_b::REDS[0];
    red.fault = Fault::FailNext;
    let statement = part_b::STATEMENTS.iter().find(|statement| statement.number == red.number).unwrap();
    let otherwise = schedules_until_red(&BACKPLANES[1].1, *statement, &red, 8).unwrap_err();
    assert!(otherwise.contains("an error that nothing calls for"), "{otherwise}");
}

#[test]
fn every_statement_is_named_by_a_double_that_breaks_it() {
    for statement in STATEMENTS {
        let named = Fault::BROKEN.iter().any(|fault| fault.breaks() == Some(statement.number));
        assert!(named, "{statement:?} is one that nothing has ever failed");
    }
    for statement in part_b::STATEMENTS.iter().chain(table::WHATEVER_HAPPENS) {
        let mut reds = part_b::REDS.iter().filter(|red| red.number == statement.number);
        let tells = reds.next().map(|red| red.tells).expect("a double that breaks it");
        // Else whatever breaks it would be taken for what it is about.
        assert!(reds.map(|red| red.tells).chain([tells]).all(|tells| !statement.says.contains(tells)));
    }
    assert!(Fault::KEPT.iter().all(|fault| fault.breaks().is_none()));
    for fault in Fault::ALL {
        let lists = [Fault::KEPT, table::BREAKING_FOLDS, WAITING, IDLE];
        let times = lists.iter().filter(|list| list.contains(fault)).count();
        assert_eq!(times, 1, "{fault:?} is to be tried around folds, or it is to be said why not");
    }
}

#[test]
fn a_store_in_a_directory_keeps_the_contract_in_every_mode() {
    for durability in [Durability::Sync, Durability::Os] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("contract.esker");
        let open = || -> Arc<dyn Backplane> {
            let options = Options::new().segment_bytes(64 << 10).durability(durability);
            Arc::new(Local::owning(options.open(&path).unwrap()).unwrap())
        };
        let report = check(&open, STATEMENTS, &Settings::new().schedules(2).seed(7));
        assert!(report.broken().next().is_none(), "{durability:?}\n{report}");
    }
}

#[test]
fn a_backplane_over_a_journal_that_stays_open_keeps_the_contract() {
    let journal = Journal::in_memory().unwrap();
    let open = || -> Arc<dyn Backplane> { Arc::new(Local::over(&journal).unwrap()) };
    let report = check(&open, STATEMENTS, &Settings::new().schedules(schedules()));
    assert!(report.broken().next().is_none(), "{report}");
}

#[test]
fn the_contract_is_one_call() {
    let plane = InMemory::new();
    contract(&|| Arc::new(plane.reopened()));
}

#[test]
#[should_panic(expected = "the contract of a backplane is broken")]
fn the_contract_panics_where_it_is_broken() {
    let plane = InMemory::new();
    contract(&|| Arc::new(Double::new(Arc::new(plane.reopened()), Fault::BlindPut, 1)));
}
