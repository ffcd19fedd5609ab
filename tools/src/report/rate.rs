//! The sixth picture: entries and bytes over time, by kind.

use super::counted::COLUMNS;
use super::heat::{entries, time_axis};
use super::model::{Model, Series};
use super::page::section;
use super::svg::{Anchor, Area, Svg, Tenths, WIDTH, bytes, grouped, legend, table};
use crate::span::Span;

const LEFT: u64 = 74;
const HEIGHT: u64 = 110;
const GAP: u64 = 34;

/// What is stacked in a chart.
struct Chart {
    top: u64,
    heading: &'static str,
    cells: fn(&Series) -> &[u64; COLUMNS],
    words: fn(u64) -> String,
    mark: fn(u64) -> String,
}

pub(super) fn draw(model: &Model) -> String {
    let figures = [
        ("kinds", model.kinds.to_string()),
        ("entries", model.entries.to_string()),
        ("bytes", model.bytes.to_string()),
        ("columns", model.used_columns.to_string()),
    ];
    let label = format!("{} and {} over time, by kind", entries(model.entries), bytes(model.bytes));
    let height = 2 * (HEIGHT + GAP) + 12;
    let mut svg = Svg::new("rate", &label, height, &figures);
    let charts = [
        Chart { top: 20, heading: "entries", cells: |series| &series.rates, words: entries, mark: grouped },
        Chart {
            top: 20 + HEIGHT + GAP,
            heading: "bytes",
            cells: |series| &series.sizes,
            words: bytes,
            mark: bytes,
        },
    ];
    if model.entries == 0 {
        svg.label("quiet", (Tenths::of(14), Tenths::of(20)), Anchor::Start, "no entry yet");
    } else {
        charts.iter().for_each(|chart| draw_chart(&mut svg, model, chart));
        time_axis(&mut svg, model, (LEFT, WIDTH), 20 + 2 * HEIGHT + GAP);
    }
    let span = Span::between(0, model.columns.width);
    let note = format!(
        "A column is {}. What was dropped by compaction is not counted: the past may have been busier than it looks.",
        if model.columns.width < 1_000_000 { "less than a millisecond".to_owned() } else { span.to_string() }
    );
    let classes: Vec<String> = (1..=model.series.len()).map(|at| format!("s{at}")).collect();
    let keys: Vec<(&str, &str)> =
        classes.iter().zip(&model.series).map(|(class, series)| (&**class, &*series.name)).collect();
    section("rate", "Rate and size by kind", &note, &(legend(&keys) + &svg.end() + &numbers(model)))
}

fn draw_chart(svg: &mut Svg, model: &Model, chart: &Chart) {
    let columns = model.used_columns.clamp(1, COLUMNS);
    let sum = |column: usize| -> u64 {
        model.series.iter().filter_map(|series| (chart.cells)(series).get(column)).sum()
    };
    let most = (0..columns).map(sum).max().unwrap_or(0);
    let (left, top, height) = (Tenths::of(LEFT), Tenths::of(chart.top), Tenths::of(HEIGHT));
    let floor = top + height;
    let width = Tenths::of(WIDTH - LEFT);
    svg.line("grid", (left, top), (Tenths::of(WIDTH), top), "");
    svg.line("axis", (left, floor), (Tenths::of(WIDTH), floor), "");
    let mark = left - Tenths::of(6);
    svg.label("quiet", (mark, top + Tenths::of(4)), Anchor::End, &(chart.mark)(most));
    svg.label("quiet", (mark, floor), Anchor::End, "0");
    svg.label("quiet", (left, top - Tenths::of(7)), Anchor::Start, &format!("{} a column", chart.heading));
    for column in 0..columns {
        let x = left + width.share(column as u64, columns as u64);
        let end = left + width.share(column as u64 + 1, columns as u64);
        let mut below = 0;
        for (at, series) in model.series.iter().enumerate() {
            let cell = (chart.cells)(series).get(column).copied().unwrap_or(0);
            if cell == 0 {
                continue;
            }
            let (from, to) = (height.share(below, most), height.share(below + cell, most));
            below += cell;
            let area = Area { x, y: floor - to, width: end - x - Tenths(15), height: to - from };
            let when = Model::when(model.columns.begin(column));
            let title = format!("{}: {} from {when}", series.name, (chart.words)(cell));
            svg.area(&format!("s{}", at + 1), area, &title, &[]);
        }
    }
}

fn numbers(model: &Model) -> String {
    let rows: Vec<Vec<String>> = model
        .series
        .iter()
        .map(|series| {
            let average = series.bytes / series.entries.max(1);
            let size = bytes(series.bytes);
            vec![series.name.clone(), grouped(series.entries), grouped(series.bytes), size, grouped(average)]
        })
        .collect();
    table("rate", "The kinds", &["kind", "entries", "bytes", "size", "bytes an entry"], &rows)
}
