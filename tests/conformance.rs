//! The contract of a backplane, on those of this crate, on doubles that keep it, and on doubles that break it: each
//! statement is shown red by the doubles that it has to find, in the same run in which it is green.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use esker::backplane::{Backplane, InMemory, Local};
use esker::conformance::doubles::{Double, Doubles, Fault};
use esker::conformance::part_a::STATEMENTS;
use esker::conformance::part_b;
use esker::conformance::{Bench, Random, Settings, Statement, check, contract};
use esker::{CompactOptions, Durability, Journal, Options, Simulator};

/// A journal on a simulated disk: a crash takes what was not synced, in any of the ways in which a disk may. Each opening
/// compacts, now and then.
struct Disk {
    disk: Mutex<Simulator>,
    random: Mutex<Random>,
}

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
        let journal = options.open_in(&self.disk.lock().unwrap()).unwrap();
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

type MakeBench = fn(u64) -> Box<dyn Bench>;

const BACKPLANES: &[(&str, MakeBench)] = &[
    ("local", |seed| Box::new(Disk::new(seed))),
    ("memory", |_| Box::new(Memory(InMemory::new()))),
    ("stepwise", |_| Box::new(Memory(InMemory::stepwise()))),
];

fn schedules() -> u64 {
    std::env::var("ESKER_CONFORMANCE_SCHEDULES").ok().map_or(6, |text| text.parse().unwrap())
}

/// Those of folds take longer: each waits for projectors, and the doubles make them wait.
fn fold_schedules() -> u64 {
    std::env::var("ESKER_FOLD_SCHEDULES").ok().map_or(1, |text| text.parse().unwrap())
}

/// One row of the table: a statement, and what became of it on each backplane.
type Table = BTreeMap<(u8, String), Vec<String>>;

#[test]
fn every_statement_holds_on_every_backplane_and_kept_double_and_is_broken_by_those_that_it_names() {
    let mut table = Table::new();
    let mut problems = Vec::new();
    let settings = Settings::new().schedules(schedules());
    for (name, bench) in BACKPLANES {
        let around = std::iter::once(None).chain(Fault::KEPT.iter().copied().map(Some));
        for (at, fault) in around.enumerate() {
            let bench = bench(at as u64);
            let report = match fault {
                None => check(&*bench, STATEMENTS, &settings),
                Some(fault) => check(&Doubles::new(&*bench, fault, at as u64), STATEMENTS, &settings),
            };
            assert_eq!(report.tried.len(), STATEMENTS.len());
            let column = fault.map_or("plain".to_owned(), |fault| format!("{fault:?}"));
            for tried in &report.tried {
                let is_green =
                    tried.broken.is_none() && !tried.absent && tried.schedules == settings.schedules;
                if !is_green {
                    problems.push(format!("{name} {column} {tried:?}"));
                }
                let said = if is_green { tried.schedules.to_string() } else { "BROKEN".to_owned() };
                table.entry((tried.number, column.clone())).or_default().push(said);
            }
        }
        for fault in Fault::BROKEN {
            let number = fault.breaks().unwrap();
            let statement = STATEMENTS.iter().find(|statement| statement.number == number).unwrap();
            let found = schedules_until_broken(bench, *fault, *statement, 50);
            if found.is_none() {
                problems.push(format!("{name} {fault:?} is not found by statement {number}"));
            }
            let said = found.map_or("NOT FOUND".to_owned(), |schedules| format!("red at {schedules}"));
            table.entry((number, format!("{fault:?}"))).or_default().push(said);
        }
    }
    println!("{}", text_of(&table));
    assert!(problems.is_empty(), "{problems:#?}");
}

/// In how many schedules a statement finds a fault; `None`: in none.
fn schedules_until_broken(bench: &MakeBench, fault: Fault, statement: Statement, most: u64) -> Option<u64> {
    // Nothing that is waited for comes there: a close that is deaf.
    let settings = Settings::new().schedules(most).patience(Duration::from_millis(200));
    let bench = bench(99);
    let report = check(&Doubles::new(&*bench, fault, 1), &[statement], &settings);
    report.broken().next().map(|tried| tried.schedules)
}

fn text_of(table: &Table) -> String {
    let mut text = format!("{:>2} {:<14}", "", "double");
    BACKPLANES.iter().for_each(|(name, _)| write!(text, " {name:>10}").unwrap());
    for ((number, column), cells) in table {
        write!(text, "\n{number:>2} {column:<14}").unwrap();
        cells.iter().for_each(|cell| write!(text, " {cell:>10}").unwrap());
    }
    text
}

#[test]
fn what_runs_on_a_backplane_holds_on_every_one_and_each_statement_is_broken_by_a_double() {
    let mut table = Table::new();
    let mut problems = Vec::new();
    let settings = Settings::new().schedules(fold_schedules());
    for (name, bench) in BACKPLANES {
        let around = std::iter::once(None).chain(Fault::KEPT.iter().copied().map(Some));
        for (at, fault) in around.enumerate() {
            let bench = bench(at as u64);
            let statements: Vec<Statement> =
                part_b::STATEMENTS.iter().copied().chain(WHATEVER_HAPPENS.iter().copied()).collect();
            let report = match fault {
                None => check(&*bench, &statements, &settings),
                Some(fault) => check(&Doubles::new(&*bench, fault, at as u64), &statements, &settings),
            };
            let column = fault.map_or("plain".to_owned(), |fault| format!("{fault:?}"));
            for tried in &report.tried {
                let is_green =
                    tried.broken.is_none() && !tried.absent && tried.schedules == settings.schedules;
                if !is_green {
                    problems.push(format!("{name} {column} {tried:?}"));
                }
                let said = if is_green { tried.schedules.to_string() } else { "BROKEN".to_owned() };
                table.entry((tried.number, column.clone())).or_default().push(said);
            }
        }
        for statement in part_b::STATEMENTS {
            let found = BREAKING_FOLDS
                .iter()
                .find_map(|fault| Some((fault, schedules_until_broken(bench, *fault, *statement, 4)?)));
            if found.is_none() {
                problems.push(format!("{name}: no double breaks {statement:?}"));
            }
            let said = found.map_or("NOT FOUND".to_owned(), |(fault, _)| format!("{fault:?}"));
            table.entry((statement.number, "red by".to_owned())).or_default().push(said);
        }
        for fault in BREAKING_FOLDS {
            let bench = bench(7);
            let doubles = Doubles::new(&*bench, *fault, 7);
            let few = settings.clone().schedules(fold_schedules().div_ceil(3));
            let report = check(&doubles, WHATEVER_HAPPENS, &few);
            let is_green = report.broken().next().is_none();
            if !is_green {
                problems.push(format!("{name} {fault:?} {report}"));
            }
            let said = if is_green { "no other" } else { "ANOTHER" };
            table.entry((99, format!("{fault:?}"))).or_default().push(said.to_owned());
        }
    }
    println!("{}", text_of(&table));
    assert!(problems.is_empty(), "{problems:#?}");
}

/// What holds on a backplane that breaks its contract too.
const WHATEVER_HAPPENS: &[Statement] = &[part_b::NO_OTHER_DIGEST, part_b::NOTHING_PASSED_OVER];

/// The doubles that break the contract in a way that a reader of stamps can notice. (`Aliased` swaps payloads: against that
/// only a checksum over the record would help.)
const BREAKING_FOLDS: &[Fault] = &[
    Fault::Reorder,
    Fault::DropOne,
    Fault::ForeignKey,
    Fault::Recreate,
    Fault::AckLost,
    Fault::FailNext,
    Fault::Unstored,
    Fault::SilentFloor,
    Fault::FloorInMemory,
    Fault::Overeager,
    Fault::DeafClose,
    Fault::BlindPut,
    Fault::BlindAppend,
];

#[test]
fn a_record_that_is_missing_is_found_in_each_of_many_schedules() {
    let schedules = std::env::var("ESKER_GAP_SCHEDULES").ok().map_or(500, |text| text.parse().unwrap());
    let statement = part_b::STATEMENTS.iter().find(|statement| statement.number == 12).unwrap();
    for (name, bench) in &BACKPLANES[1..2] {
        let report = check(&*bench(1), &[*statement], &Settings::new().schedules(schedules));
        assert!(report.broken().next().is_none(), "{name} {report}");
    }
}

#[test]
fn every_statement_is_named_by_a_double_that_breaks_it() {
    for statement in STATEMENTS {
        let named = Fault::BROKEN.iter().any(|fault| fault.breaks() == Some(statement.number));
        assert!(named, "{statement:?} is one that nothing has ever failed");
    }
    assert!(Fault::KEPT.iter().all(|fault| fault.breaks().is_none()));
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
