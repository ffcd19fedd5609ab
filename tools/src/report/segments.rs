//! The first picture: what the bytes of the files hold.

use super::model::{Bar, Model};
use super::page::section;
use super::svg::{Anchor, Area, Svg, Tenths, WIDTH, bytes, grouped, legend, table};
use crate::store::seqs;

const LEFT: u64 = 62;
const TOP: u64 = 14;
const HEIGHT: u64 = 170;

/// A bar's slices from below: the class, the word, and how much.
fn slices(bar: &Bar) -> [(&'static str, &'static str, u64); 7] {
    [
        ("snapshot", "snapshot", bar.snapshot),
        ("live", "live", bar.live),
        ("superseded", "superseded", bar.superseded),
        ("retracted", "retracted", bar.retracted),
        ("own", "the log's own", bar.own),
        ("damaged", "damaged", bar.damaged),
        ("free", "free", bar.free),
    ]
}

pub(super) fn draw(model: &Model) -> String {
    let sum = |of: fn(&Bar) -> u64| model.bars.iter().map(of).sum::<u64>();
    let file = sum(|bar| bar.file);
    let figures = [
        ("bars", model.bars.len() as u64),
        ("file", file),
        ("live", sum(|bar| bar.live)),
        ("superseded", sum(|bar| bar.superseded)),
        ("retracted", sum(|bar| bar.retracted)),
        ("snapshot", sum(|bar| bar.snapshot)),
        ("own", sum(|bar| bar.own)),
        ("free", sum(|bar| bar.free)),
        ("damaged", sum(|bar| bar.damaged)),
    ];
    let figures = figures.map(|(name, number)| (name, number.to_string()));
    let label = format!(
        "The files of {} segments and parts, {} in all, by what they hold",
        model.bars.iter().map(|bar| bar.segments.len()).sum::<usize>(),
        bytes(file)
    );
    let mut svg = Svg::new("segments", &label, TOP + HEIGHT + 34, &figures);
    bars(&mut svg, model);
    let mut note = "A bar is a file, oldest first, as high as the file is long. Live is the newest entry of each \
                    entity; superseded is what a newer one stands for; retracted is a tombstone that is the newest; a \
                    snapshot is a part, which holds what compaction kept; free is what is made ahead or not in use. \
                    What a kind keeps decides what of this compaction may drop."
        .to_owned();
    if model.one_in > 1 {
        note += &format!(
            " There are so many entities that one in {} was looked at: live, superseded and retracted are \
             estimates within each bar's exact sum.",
            model.one_in
        );
    }
    let legend = legend(&[
        ("live", "live"),
        ("superseded", "superseded"),
        ("retracted", "retracted"),
        ("snapshot", "snapshot"),
        ("own", "the log's own"),
        ("free", "free"),
        ("damaged", "damaged"),
    ]);
    section("segments", "Segment map", &note, &(legend + &svg.end() + &numbers(model)))
}

fn bars(svg: &mut Svg, model: &Model) {
    let (left, top, height) = (Tenths::of(LEFT), Tenths::of(TOP), Tenths::of(HEIGHT));
    let floor = top + height;
    let longest = model.bars.iter().map(|bar| bar.file).max().unwrap_or(0);
    svg.line("axis", (left, floor), (Tenths::of(WIDTH), floor), "");
    svg.line("grid", (left, top), (Tenths::of(WIDTH), top), "");
    svg.line("grid", (left, top + height.share(1, 2)), (Tenths::of(WIDTH), top + height.share(1, 2)), "");
    let marks = [(longest, top), (longest / 2, top + height.share(1, 2)), (0, floor)];
    for (mark, at) in marks.into_iter().filter(|(mark, at)| *mark > 0 || *at == floor) {
        let at = (left - Tenths::of(6), at + Tenths::of(4));
        svg.label("quiet", at, Anchor::End, &bytes(mark));
    }
    let count = model.bars.len().max(1) as u64;
    let pitch = Tenths(((WIDTH - LEFT) * 10 / count).min(640));
    let every = count.div_ceil(12);
    for (at, bar) in model.bars.iter().enumerate() {
        let at = at as u64;
        let x = left + Tenths(pitch.0 * at + pitch.0 / 10);
        let width = Tenths(pitch.0 * 8 / 10);
        let mut y = floor;
        for (class, word, part) in slices(bar) {
            if part == 0 {
                continue;
            }
            let mut slice = height.share(part, longest);
            if class == "damaged" {
                // However small, it is to be seen.
                slice = slice.max(Tenths::of(3));
            }
            y = (y - slice).max(top);
            let title = format!("{}: {word}, {} ({} bytes)", bar.name(), bytes(part), grouped(part));
            svg.area(class, Area { x, y, width, height: slice }, &title, &[]);
        }
        if at.is_multiple_of(every) {
            let words = bar.segments.first().map_or("-", |name| name);
            let place = (x + Tenths(width.0 / 2), floor + Tenths::of(18));
            svg.label("quiet", place, Anchor::Middle, words);
        }
    }
}

fn numbers(model: &Model) -> String {
    let rows: Vec<Vec<String>> = model
        .bars
        .iter()
        .map(|bar| {
            let mut states: Vec<String> = bar.states.iter().map(ToString::to_string).collect();
            states.dedup();
            let range = match (bar.first_seq, bar.last_seq) {
                (Some(first), Some(last)) => seqs(first, last),
                _ => "-".to_owned(),
            };
            let mut row = vec![bar.name(), states.join(", "), range, grouped(bar.entries), grouped(bar.file)];
            row.extend(
                [bar.live, bar.superseded, bar.retracted, bar.snapshot, bar.own, bar.free, bar.damaged]
                    .map(grouped),
            );
            row
        })
        .collect();
    let heading = [
        "segment",
        "state",
        "seq",
        "entries",
        "file",
        "live",
        "superseded",
        "retracted",
        "snapshot",
        "own",
        "free",
        "damaged",
    ];
    table("segments", "Bytes of each segment and part", &heading, &rows)
}
