//! The third picture: entities against time.

use super::counted::COLUMNS;
use super::model::{Heat, HeatRow, Model};
use super::page::section;
use super::svg::{Anchor, Area, Svg, Tenths, WIDTH, bytes, grouped, table};

const LEFT: u64 = 214;
const RIGHT: u64 = 76;
const TOP: u64 = 8;
const ROW: u64 = 20;
/// So many letters of a name have room: digits are wider than most.
const LETTERS: usize = 26;
/// Steps of the scale.
const STEPS: u64 = 5;

pub(super) fn draw(model: &Model) -> String {
    let heat = &model.heat;
    let rows: Vec<&HeatRow> = heat.rows.iter().chain(&heat.rest).collect();
    let figures = [
        ("rows", heat.rows.len().to_string()),
        ("entities", heat.entities.to_string()),
        ("entries", model.entries.to_string()),
        ("rest", heat.rest.as_ref().map_or(0, |rest| rest.entries).to_string()),
    ];
    let label =
        format!("When the {} most written of {} entities were written", heat.rows.len(), heat.entities);
    let mut svg = Svg::new("heat", &label, TOP + rows.len() as u64 * ROW + 34, &figures);
    let hottest = heat.rows.iter().flat_map(|row| row.cells).max().unwrap_or(0);
    for (at, row) in rows.iter().enumerate() {
        let most = match at < heat.rows.len() {
            true => hottest,
            // All others together have a scale of their own.
            false => row.cells.iter().copied().max().unwrap_or(0),
        };
        draw_row(&mut svg, model, row, TOP + at as u64 * ROW, most);
    }
    if rows.is_empty() {
        svg.label("quiet", (Tenths::of(14), Tenths::of(TOP + 12)), Anchor::Start, "no entry yet");
    } else {
        time_axis(&mut svg, model, (LEFT, WIDTH - RIGHT), TOP + rows.len() as u64 * ROW);
    }
    section("heat", "Entities over time", &note(model, heat), &(svg.end() + &numbers(heat)))
}

fn note(model: &Model, heat: &Heat) -> String {
    let about = if heat.one_in > 1 { "about " } else { "" };
    let mut note = format!(
        "The most written of {about}{} entities, from left to right over {} columns: the higher and stronger, the \
         more entries in that time, by the square root.",
        grouped(heat.entities),
        model.used_columns
    );
    if heat.rest.is_some() {
        note += " The last row is all others together, on a scale of its own.";
    }
    if heat.error > 0 {
        note += &format!(
            " There are so many that the least written were forgotten on the way: up to {} entries of a row may be \
             among the others.",
            grouped(heat.error)
        );
    }
    note
}

fn draw_row(svg: &mut Svg, model: &Model, row: &HeatRow, top: u64, most: u64) {
    let baseline = Tenths::of(top + 14);
    svg.cut_label("name", (Tenths::of(LEFT - 10), baseline), Anchor::End, (&row.name, LETTERS));
    let columns = model.used_columns.clamp(1, COLUMNS);
    let width = Tenths::of(WIDTH - LEFT - RIGHT);
    let floor = Tenths::of(top + ROW - 2);
    svg.line("grid", (Tenths::of(LEFT), floor), (Tenths::of(WIDTH - RIGHT), floor), "");
    for (column, cell) in row.cells.iter().copied().enumerate().take(columns).filter(|(_, cell)| *cell > 0) {
        // By the root: one entry beside a thousand is still to be seen.
        let share = u128::from(cell) * 10_000 / u128::from(most.max(1));
        let root = u64::try_from(share.isqrt()).unwrap_or(100).clamp(1, 100);
        let step = (root * STEPS).div_ceil(100);
        let (from, to) = (column as u64, column as u64 + 1);
        let x = Tenths::of(LEFT) + width.share(from, columns as u64);
        let end = Tenths::of(LEFT) + width.share(to, columns as u64);
        let height = Tenths((root * 170 / 100).max(25));
        let area = Area { x, y: floor - height, width: end - x - Tenths(10), height };
        let title =
            format!("{}: {} from {}", row.name, entries(cell), Model::when(model.columns.begin(column)));
        svg.area(&format!("heat h{step}"), area, &title, &[]);
    }
    svg.label("quiet", (Tenths::of(WIDTH), baseline), Anchor::End, &grouped(row.entries));
}

/// `1 entry`, `2 entries`.
pub(super) fn entries(count: u64) -> String {
    match count {
        1 => "1 entry".to_owned(),
        count => format!("{} entries", grouped(count)),
    }
}

/// When the first column begins, and the last one ends.
pub(super) fn time_axis(svg: &mut Svg, model: &Model, (left, right): (u64, u64), y: u64) {
    let text = Tenths::of(y + 18);
    svg.label("quiet", (Tenths::of(left), text), Anchor::Start, &Model::when(model.columns.begin(0)));
    if let Some(newest) = model.newest {
        svg.label("quiet", (Tenths::of(right), text), Anchor::End, &Model::when(newest));
    }
}

fn numbers(heat: &Heat) -> String {
    let rows: Vec<Vec<String>> = heat
        .rows
        .iter()
        .chain(&heat.rest)
        .map(|row| {
            let last = if row.last_seq == 0 { "-".to_owned() } else { grouped(row.last_seq) };
            vec![row.name.clone(), grouped(row.entries), grouped(row.bytes), bytes(row.bytes), last]
        })
        .collect();
    table("heat", "The most written entities", &["entity", "entries", "bytes", "size", "last"], &rows)
}
