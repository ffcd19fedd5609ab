//! The table of statements, backplanes and doubles, for whichever backplanes there are.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use esker::conformance::doubles::{Doubles, Fault};
use esker::conformance::part_a::{LIMITS, STATEMENTS};
use esker::conformance::part_b::{REDS, Red};
use esker::conformance::{Bench, Report, Settings, Statement, check, part_b};

/// Makes what a backplane is tried on, from a seed.
pub(crate) type MakeBench = fn(u64) -> Box<dyn Bench>;

/// One row of the table: a statement, and what became of it on each backplane.
type Table = BTreeMap<(u8, String), Vec<String>>;

/// Part A: every statement holds on every backplane and on the doubles around it that keep the contract, and is broken by
/// those that it names. Answers what became of each, and what is not as it should be.
pub(crate) fn part_a(backplanes: &[(&str, MakeBench)], schedules: u64) -> (String, Vec<String>) {
    assert!(schedules > 0, "a table of nothing");
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
            problems.extend(enter(&mut table, name, &column, &report, &settings));
        }
        for fault in Fault::BROKEN {
            let number = fault.breaks().unwrap();
            let statement = STATEMENTS.iter().find(|statement| statement.number == number).unwrap();
            let found = schedules_until_broken(bench, *fault, *statement, 50);
            problems.extend(enter_red(&mut table, name, (number, *fault), found));
        }
    }
    (text_of(&table, backplanes), problems)
}

/// Enters what became of each statement on a backplane. Answers those that did not hold, or were not tried in every schedule.
fn enter(table: &mut Table, name: &str, column: &str, report: &Report, settings: &Settings) -> Vec<String> {
    let mut problems = Vec::new();
    for tried in &report.tried {
        let is_green = tried.broken.is_none() && !tried.absent && tried.schedules == settings.schedules;
        if !is_green {
            problems.push(format!("{name} {column} {tried:?}"));
        }
        let said = if is_green { tried.schedules.to_string() } else { "BROKEN".to_owned() };
        table.entry((tried.number, column.to_owned())).or_default().push(said);
    }
    problems
}

/// Enters in how many schedules a statement found a fault. Answers if it did not.
fn enter_red(
    table: &mut Table,
    name: &str,
    (number, fault): (u8, Fault),
    found: Result<u64, String>,
) -> Option<String> {
    let said = found.as_ref().map_or("NOT FOUND".to_owned(), |schedules| format!("red at {schedules}"));
    table.entry((number, format!("{fault:?}"))).or_default().push(said);
    found.err().map(|otherwise| format!("{name} {fault:?} is not found by statement {number}: {otherwise}"))
}

/// So much more patience is had where a backplane is red without the double too: it is slow, and nothing is known of the double.
const MORE: u32 = 4;

/// In how many schedules a statement finds a fault, where it finds none in the same schedules without it; else why that is not
/// known.
pub(crate) fn schedules_until_broken(
    make: &MakeBench,
    fault: Fault,
    statement: Statement,
    most: u64,
) -> Result<u64, String> {
    let mut otherwise = String::new();
    // Nothing that is waited for comes there: a close that is deaf.
    let mut settings = Settings::new().schedules(most).patience(Duration::from_millis(200));
    let broken_at = |settings: &Settings| {
        let report = check(&Doubles::new(&*make(99), fault, 1), &[statement], settings);
        report.broken().next().map(|tried| tried.schedules)
    };
    while settings.patience <= Settings::new().patience {
        let Some(schedules) = broken_at(&settings) else {
            return Err(format!("it holds in {most} schedules"));
        };
        let plain = check(&*make(99), &[statement], &settings.clone().schedules(schedules));
        let holds = plain.broken().next().is_none();
        // A machine that stood still for a moment does not do so again.
        if holds && broken_at(&settings).is_some() {
            return Ok(schedules);
        }
        otherwise =
            if holds { "once, and not again".to_owned() } else { format!("without the double too: {plain}") };
        settings.patience *= MORE;
    }
    Err(otherwise)
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

/// Part B: the same for what runs on a backplane. Each statement is broken by the doubles that it names, in what it is about, and
/// no double makes a fold come to another value.
pub(crate) fn part_b(backplanes: &[(&str, MakeBench)], schedules: u64) -> (String, Vec<String>) {
    assert!(schedules > 0, "a table of nothing");
    let mut table = Table::new();
    let mut problems = Vec::new();
    let settings = Settings::new().schedules(schedules);
    for (name, bench) in backplanes {
        let around = std::iter::once(None).chain(Fault::KEPT.iter().copied().map(Some));
        for (at, fault) in around.enumerate() {
            let bench = bench(at as u64);
            let statements = statements_of_b();
            let report = match fault {
                None => check(&*bench, &statements, &settings),
                Some(fault) => check(&Doubles::new(&*bench, fault, at as u64), &statements, &settings),
            };
            let column = fault.map_or("plain".to_owned(), |fault| format!("{fault:?}"));
            problems.extend(enter(&mut table, name, &column, &report, &settings));
        }
        for statement in statements_of_b() {
            let reds: Vec<&Red> = REDS.iter().filter(|red| red.number == statement.number).collect();
            if reds.is_empty() {
                problems.push(format!("{statement:?} is one that nothing has ever failed"));
            }
            for red in reds {
                let found = schedules_until_red(bench, statement, red, 50);
                problems.extend(enter_red(&mut table, name, (red.number, red.fault), found));
            }
        }
        for fault in BREAKING_FOLDS {
            let bench = bench(7);
            let doubles = Doubles::new(&*bench, *fault, 7);
            let few = settings.clone().schedules(schedules.div_ceil(3));
            // What a double is to break is no news.
            let is_red = |number| REDS.iter().any(|red| red.fault == *fault && red.number == number);
            let held: Vec<_> =
                WHATEVER_HAPPENS.iter().copied().filter(|statement| !is_red(statement.number)).collect();
            let report = check(&doubles, &held, &few);
            problems.extend(enter(&mut table, name, &format!("{fault:?}"), &report, &few));
        }
    }
    (text_of(&table, backplanes), problems)
}

/// In how many schedules a double breaks what a statement is about, which holds in the last of them without it; else how it
/// broke it otherwise, which does not count.
pub(crate) fn schedules_until_red(
    make: &MakeBench,
    statement: Statement,
    red: &Red,
    most: u64,
) -> Result<u64, String> {
    let bench = make(99);
    let doubles = Doubles::new(&*bench, red.fault, 1);
    let mut otherwise = format!("it holds in {most} schedules");
    // Nothing that is waited for comes there: an era that is not told of.
    let mut patience = Duration::from_secs(1);
    for schedule in 1..=most {
        let settings = Settings::new().schedules(1).seed(schedule << 32).patience(patience);
        let report = check(&doubles, &[statement], &settings);
        let Some(broken) = report.tried.into_iter().find_map(|tried| tried.broken) else { continue };
        otherwise = format!("{broken}");
        if !otherwise.contains(red.tells) {
            continue;
        }
        let plain = check(&*make(99), &[statement], &settings);
        if plain.broken().next().is_none() {
            return Ok(schedule);
        }
        otherwise = format!("without the double too: {plain}");
        patience = (patience * MORE).min(Settings::new().patience);
    }
    Err(otherwise)
}

/// Those of part B, and what holds whatever happens.
fn statements_of_b() -> Vec<Statement> {
    part_b::STATEMENTS.iter().chain(WHATEVER_HAPPENS).copied().collect()
}

/// What holds on a backplane that breaks its contract too.
pub(crate) const WHATEVER_HAPPENS: &[Statement] =
    &[part_b::NO_OTHER_DIGEST, part_b::NOTHING_PASSED_OVER, part_b::NOTHING_STANDS_STILL];

/// The doubles that break the contract, and around which all this holds but for what they are to show red. (`Aliased` swaps
/// payloads: against that only a checksum over the record would help. It shows 28 and 29 red.)
pub(crate) const BREAKING_FOLDS: &[Fault] = &[
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
    Fault::FirstWaker,
    Fault::Unversioned,
    Fault::Lenient,
    Fault::OneChannel,
    Fault::SlowClose,
    Fault::Aliased,
    Fault::Unstamped,
    Fault::ImagesUnkept,
];

/// The statement about limits: on a backplane, and around it the double that takes less.
pub(crate) fn limits(backplanes: &[(&str, MakeBench)], schedules: u64) -> (String, Vec<String>) {
    let (mut table, mut problems) = (Table::new(), Vec::new());
    let settings = Settings::new().schedules(schedules);
    for (name, bench) in backplanes {
        let report = check(&*bench(1), &[LIMITS], &settings);
        problems.extend(enter(&mut table, name, "plain", &report, &settings));
        let found = schedules_until_broken(bench, Fault::Narrow, LIMITS, 1);
        problems.extend(enter_red(&mut table, name, (LIMITS.number, Fault::Narrow), found));
    }
    (text_of(&table, backplanes), problems)
}
