//! The seventh picture: what a verification says of each file, and what to do about what it found.

use std::path::Path;

use esker::{Check, Finding, Severity};

use super::model::Model;
use super::page::section;
use super::svg::{Anchor, Area, Svg, Tenths, WIDTH, grouped, legend, table, text};
use crate::typed::on;

const LEFT: u64 = 14;
const TOP: u64 = 10;
const HEIGHT: u64 = 34;
/// Findings in the table.
const LISTED_MAX: usize = 100;

/// The class of a cell, the sign in it, and the word.
fn signs(severity: Option<Severity>) -> (&'static str, &'static str, &'static str) {
    match severity {
        None => ("good", "✓", "good"),
        Some(Severity::Damage) => ("damaged", "✕", "damage"),
        Some(Severity::Derived) => ("derived", "~", "derived"),
        Some(Severity::Unread) => ("unread", "?", "unread"),
        Some(Severity::Note) => ("good", "i", "note"),
        // A later library's.
        Some(_) => ("unread", "?", "other"),
    }
}

fn rank(severity: Severity) -> u8 {
    match severity {
        Severity::Damage => 4,
        Severity::Derived => 3,
        Severity::Unread => 2,
        Severity::Note => 1,
        _ => 0,
    }
}

/// A cell of the strip.
struct Cell {
    name: String,
    first: Option<u64>,
    worst: Option<Severity>,
    count: u64,
}

pub(super) fn draw(model: &Model) -> String {
    let verification = &model.verification;
    let cells = cells(model);
    let figures = [
        ("verdict", verification.verdict.to_string()),
        ("findings", verification.findings.len().to_string()),
        ("damage", model.count(Severity::Damage).to_string()),
        ("derived", model.count(Severity::Derived).to_string()),
        ("lost", verification.lost.to_string()),
        ("cells", cells.len().to_string()),
    ];
    let label = format!("Verified: {}, {} findings", verification.verdict, verification.findings.len());
    let mut svg = Svg::new("verify", &label, TOP + HEIGHT + 30, &figures);
    let pitch = Tenths(((WIDTH - 2 * LEFT) * 10 / cells.len().max(1) as u64).min(700));
    for (at, cell) in cells.iter().enumerate() {
        let (class, sign, word) = signs(cell.worst);
        let x = Tenths::of(LEFT) + Tenths(pitch.0 * at as u64);
        let (width, height) = (Tenths(pitch.0 * 9 / 10), Tenths::of(HEIGHT));
        let title = match cell.count {
            0 => format!("{}: {word}", cell.name),
            count => format!("{}: {word}, {count} findings", cell.name),
        };
        svg.area(class, Area { x, y: Tenths::of(TOP), width, height }, &title, &[("sign", word.to_owned())]);
        let middle = x + Tenths(width.0 / 2);
        svg.label("sign", (middle, Tenths::of(TOP + 22)), Anchor::Middle, sign);
        let is_last = at + 1 == cells.len();
        let every = cells.len().div_ceil(12);
        if (at.is_multiple_of(every) && at + every / 2 < cells.len()) || is_last {
            let at = (middle, Tenths::of(TOP + HEIGHT + 16));
            svg.cut_label("quiet", at, Anchor::Middle, (&cell.label(), 8));
        }
    }
    let note = format!(
        "Verdict: {}. {}",
        verification.verdict,
        match model.check {
            Check::Quick =>
                "A quick look: headers, the manifest, derived files and the end of the log. Frames were not checked.",
            _ => "Every frame was read, and what is derived of them was compared with them.",
        }
    );
    let legend = legend(&[
        ("good", "✓ good"),
        ("damaged", "✕ damage"),
        ("derived", "~ derived file"),
        ("unread", "? could not be read"),
    ]);
    section("verify", "Verification", &note, &(legend + &svg.end() + &numbers(model)))
}

impl Cell {
    fn label(&self) -> String {
        self.first
            .map_or_else(|| "others".to_owned(), |_| self.name.split(' ').next().unwrap_or("-").to_owned())
    }
}

/// A cell for each bar of the segment map, and one for all other files.
fn cells(model: &Model) -> Vec<Cell> {
    let findings = &model.verification.findings;
    let mut cells: Vec<Cell> = Vec::new();
    let mut placed = 0;
    for (at, bar) in model.bars.iter().enumerate() {
        let is_of = |finding: &&Finding| {
            let name = finding.segment.map(esker::dump::segment_text).or_else(|| segment_of(&finding.file));
            name.is_some_and(|name| bar.segments.contains(&name))
        };
        let here: Vec<&Finding> = findings.iter().filter(is_of).collect();
        placed += here.len();
        let worst = here.iter().map(|finding| finding.severity).max_by_key(|severity| rank(*severity));
        cells.push(Cell { name: bar.name(), first: Some(at as u64), worst, count: here.len() as u64 });
    }
    let others = findings.iter().filter(|finding| {
        let name = finding.segment.map(esker::dump::segment_text).or_else(|| segment_of(&finding.file));
        !name.is_some_and(|name| model.bars.iter().any(|bar| bar.segments.contains(&name)))
    });
    let worst = others.map(|finding| finding.severity).max_by_key(|severity| rank(*severity));
    let count = (findings.len() - placed.min(findings.len())) as u64;
    cells.push(Cell { name: "other files".to_owned(), first: None, worst, count });
    cells
}

/// The segment or part that a file is of.
fn segment_of(file: &str) -> Option<String> {
    let (digits, rest) = file.split_at_checked(10)?;
    let number: u32 = digits.parse().ok()?;
    match rest {
        ".seg" | ".idx" => Some(number.to_string()),
        ".snap" | ".snap.idx" => Some(format!("part-{number}")),
        _ => None,
    }
}

/// What to run for a finding.
pub(super) fn next(severity: Severity, path: &Path) -> String {
    match severity {
        Severity::Damage => format!("{} --output NEW", on("repair", path)),
        Severity::Derived => "remove this file while nobody has the store open: it is built again".to_owned(),
        Severity::Unread => format!("make it readable, then {}", on("verify", path)),
        Severity::Note => "nothing".to_owned(),
        // A later library's.
        _ => on("verify", path),
    }
}

fn numbers(model: &Model) -> String {
    let findings = &model.verification.findings;
    let rows: Vec<Vec<String>> = findings
        .iter()
        .take(LISTED_MAX)
        .map(|finding| {
            let lost = finding
                .lost
                .as_ref()
                .map_or_else(|| "-".to_owned(), |lost| crate::store::seqs(*lost.start(), *lost.end()));
            let (_, sign, word) = signs(Some(finding.severity));
            vec![
                format!("{sign} {word}"),
                finding.file.clone(),
                finding.offset.map_or_else(|| "-".to_owned(), grouped),
                lost,
                what(finding),
                next(finding.severity, &model.path),
            ]
        })
        .collect();
    let heading = ["severity", "file", "offset", "seq lost", "what", "what next"];
    let mut out = table("verify", "Findings", &heading, &rows);
    if let Some(more @ 1..) = findings.len().checked_sub(LISTED_MAX) {
        let verify = text(&on("verify", &model.path));
        out += &format!("<p class=\"more\">{more} more: <code>{verify}</code> lists all.</p>\n");
    }
    out
}

fn what(finding: &Finding) -> String {
    match (&finding.expected, &finding.found) {
        (Some(expected), Some(found)) => format!("{}: expected {expected}, found {found}", finding.what),
        _ => finding.what.clone(),
    }
}
