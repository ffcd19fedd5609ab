//! What was measured, for people (Markdown tables with ratios) and for programs (JSON lines).

use crate::clock::{median, spread_percent};
use crate::conductor::{Cell, Series, line};
use crate::engines::{ROWS, Role, Row};
use crate::works::{Work, more_is_better};

/// Medians; then, where there were several runs, their spread; what others used; and how many events.
pub fn json(cells: &[Cell]) {
    for cell in cells {
        let (work, engine) = (cell.work.name(), cell.row.name);
        for series in &cell.series {
            println!("{}", line(work, engine, &series.metric, median(&series.values), &series.unit));
            let spread = format!("{} spread", series.metric);
            println!("{}", line(work, engine, &spread, spread_percent(&series.values), "%"));
        }
        for to in REFERENCES {
            if let Some(ratio) = ratio(cells, cell, to) {
                println!("{}", line(work, engine, &format!("ratio to {to}"), ratio, "x"));
            }
        }
        println!("{}", line(work, engine, "events", cell.events as f64, "events"));
        println!("{}", line(work, engine, "used by others", cell.others.percent(), "%"));
    }
}

pub fn tables(cells: &[Cell], works: &[Work], engines: &[&'static Row], asked: u64) {
    for &work in works {
        let of_work: Vec<_> = cells.iter().filter(|cell| cell.work == work).collect();
        println!("\n### {}\n\n{}; {}\n", work.name(), work.what(), direction(&of_work));
        let to =
            REFERENCES.into_iter().filter(|to| of_work.iter().any(|cell| ratio(cells, cell, to).is_some()));
        let to: Vec<_> = to.collect();
        let columns: String = to.iter().map(|to| format!(" x {to} |")).collect();
        println!("| engine | measured (median, spread) |{columns} used by others |");
        println!("| --- | --- |{} --- |", " --- |".repeat(to.len()));
        for row in engines {
            let cell = of_work.iter().find(|cell| cell.row.name == row.name);
            match cell {
                Some(cell) if cell.failure.is_none() => println!("{}", measured_row(cells, cell, &to, asked)),
                Some(_) => println!("| {} | failed |{} - |", row.name, " - |".repeat(to.len())),
                None if row.is_expected(work)
                    && !of_work.iter().any(|cell| cell.row.version() == row.version()) =>
                {
                    println!("| {} | - |{} - |", row.name, " - |".repeat(to.len()))
                }
                None => {}
            }
        }
    }
}

pub fn versions(engines: &[&'static Row]) -> String {
    let mut seen = Vec::new();
    for row in engines.iter().filter(|row| row.role != Role::Floor) {
        let (name, version) = row.version();
        let line = format!("{name} {version}");
        if !seen.contains(&line) {
            seen.push(line);
        }
    }
    seen.join(", ")
}

pub fn list() {
    println!("works:");
    for work in Work::ALL {
        println!("  {:28} {}", work.name(), work.what());
    }
    println!("engines:");
    for row in ROWS {
        let (name, version) = row.version();
        println!("  {:28} {name} {version}", row.name);
    }
}

fn direction(of_work: &[&Cell]) -> &'static str {
    let unit = of_work.iter().find_map(|cell| cell.series.first()).map_or("", |series| &series.unit);
    if more_is_better(unit) { "more is better" } else { "less is better" }
}

fn measured_row(cells: &[Cell], cell: &Cell, to: &[&str], asked: u64) -> String {
    let measured: Vec<_> = cell.series.iter().map(in_words).collect();
    let fewer = if cell.events < asked {
        format!(" (over {} events)", grouped(cell.events as f64))
    } else {
        String::new()
    };
    let ratios: String = to
        .iter()
        .map(|to| ratio(cells, cell, to).map_or(" - |".into(), |ratio| format!(" {} |", grouped(ratio))))
        .collect();
    let (name, measured, others) = (cell.row.name, measured.join(", "), cell.others.percent());
    format!("| {name} | {measured}{fewer} |{ratios} {others:.0} % |")
}

fn in_words(series: &Series) -> String {
    let name = if matches!(series.metric.as_str(), "mean" | "rate" | "each" | "open") {
        String::new()
    } else {
        format!("{} ", series.metric)
    };
    let spread = if series.values.len() > 1 {
        format!(" ±{:.0} %", spread_percent(&series.values))
    } else {
        String::new()
    };
    format!("{name}{} {}{spread}", grouped(median(&series.values)), series.unit)
}

/// What a cell is compared with.
const REFERENCES: [&str; 6] =
    ["best peer", "best indexed peer", "best queue", "floor", "keyed-floor", "raw-fdatasync"];

/// The first metric of a cell over that of a reference in the same work.
fn ratio(cells: &[Cell], cell: &Cell, to: &str) -> Option<f64> {
    let of_work = || cells.iter().filter(|other| other.work == cell.work && other.failure.is_none());
    let more = more_is_better(&cell.series.first()?.unit);
    let best_of = |roles: &[Role]| {
        let peers = of_work().filter(|other| roles.contains(&other.row.role)).filter_map(first_median);
        peers.reduce(|a, b| if more { a.max(b) } else { a.min(b) })
    };
    let reference = match to {
        "best peer" => best_of(&[Role::Peer, Role::Unindexed]),
        "best indexed peer" => best_of(&[Role::Peer]),
        "best queue" => best_of(&[Role::Queue]),
        _ => of_work().find(|other| other.row.name == to).and_then(first_median),
    };
    reference.filter(|&value| value > 0.0).and_then(|value| Some(first_median(cell)? / value))
}

fn first_median(cell: &Cell) -> Option<f64> {
    cell.series.first().map(|series| median(&series.values))
}

/// Three digits that count, and thousands apart.
fn grouped(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.*}", if value < 10.0 { 2 } else { 1 });
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
