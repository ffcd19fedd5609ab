//! The table of statements, backplanes and doubles, for whichever backplanes there are.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use esker::conformance::doubles::{Doubles, Fault};
use esker::conformance::part_a::STATEMENTS;
use esker::conformance::{Bench, Settings, Statement, check, part_b};

/// Makes what a backplane is tried on, from a seed.
pub(crate) type MakeBench = fn(u64) -> Box<dyn Bench>;

/// One row of the table: a statement, and what became of it on each backplane.
type Table = BTreeMap<(u8, String), Vec<String>>;

/// Part A: every statement holds on every backplane and on the doubles around it that keep the contract, and is broken by
/// those that it names. Answers what became of each, and what is not as it should be.
pub(crate) fn part_a(backplanes: &[(&str, MakeBench)], schedules: u64) -> (String, Vec<String>) {
    let mut table = Table::new();
    let mut problems = Vec::new();
    let settings = Settings::new().schedules(schedules);
    for (name, bench) in backplanes {
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
    (text_of(&table, backplanes), problems)
}

/// In how many schedules a statement finds a fault; `None`: in none.
pub(crate) fn schedules_until_broken(
    bench: &MakeBench,
    fault: Fault,
    statement: Statement,
    most: u64,
) -> Option<u64> {
    // Nothing that is waited for comes there: a close that is deaf.
    let settings = Settings::new().schedules(most).patience(Duration::from_millis(200));
    let bench = bench(99);
    let report = check(&Doubles::new(&*bench, fault, 1), &[statement], &settings);
    report.broken().next().map(|tried| tried.schedules)
}

fn text_of(table: &Table, backplanes: &[(&str, MakeBench)]) -> String {
    let mut text = format!("{:>2} {:<14}", "", "double");
    backplanes.iter().for_each(|(name, _)| write!(text, " {name:>10}").unwrap());
    for ((number, column), cells) in table {
        write!(text, "\n{number:>2} {column:<14}").unwrap();
        cells.iter().for_each(|cell| write!(text, " {cell:>10}").unwrap());
    }
    text
}

/// Part B: the same for what runs on a backplane. Each statement is broken by one of the doubles, and none of them makes a fold
/// come to another value.
pub(crate) fn part_b(backplanes: &[(&str, MakeBench)], schedules: u64) -> (String, Vec<String>) {
    let mut table = Table::new();
    let mut problems = Vec::new();
    let settings = Settings::new().schedules(schedules);
    for (name, bench) in backplanes {
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
            let few = settings.clone().schedules(schedules.div_ceil(3));
            let report = check(&doubles, WHATEVER_HAPPENS, &few);
            let is_green = report.broken().next().is_none();
            if !is_green {
                problems.push(format!("{name} {fault:?} {report}"));
            }
            let said = if is_green { "no other" } else { "ANOTHER" };
            table.entry((99, format!("{fault:?}"))).or_default().push(said.to_owned());
        }
    }
    (text_of(&table, backplanes), problems)
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
