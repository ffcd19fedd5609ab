//! The second picture: the log as a ruler of Seqs, with what was compacted, where the cursors are, and what
//! could go.

use esker::PinnedBy;
use esker::dump::SegmentState;

use super::model::{Bar, Cursor, Model};
use super::page::section;
use super::svg::{Anchor, Area, Svg, Tenths, WIDTH, bytes, grouped, legend, table};
use crate::store::seqs;

const LEFT: u64 = 14;
const RIGHT: u64 = 14;
/// Flags with a name; of more cursors, the others are only marks.
const FLAGS_MAX: usize = 16;
const MARKS_MAX: usize = 48;
const LANE: u64 = 19;
const BAND: u64 = 30;

/// Where Seqs stand.
struct Scale {
    first: u64,
    last: u64,
}

impl Scale {
    fn at(&self, seq: u64) -> Tenths {
        let whole = self.last.saturating_sub(self.first).saturating_add(1);
        let part = seq.saturating_add(1).saturating_sub(self.first);
        Tenths::of(LEFT) + Tenths::of(WIDTH - LEFT - RIGHT).share(part, whole)
    }

    /// Where the first of a stretch begins.
    fn before(&self, seq: u64) -> Tenths {
        self.at(seq.saturating_sub(1)).max(Tenths::of(LEFT))
    }
}

/// A flag on its lane.
struct Flag<'a> {
    cursor: &'a Cursor,
    x: Tenths,
    lane: u64,
    is_left: bool,
}

pub(super) fn draw(model: &Model) -> String {
    let plan = &model.plan;
    let floor = plan.floor.map(esker::Seq::get);
    let through = plan.through.map(esker::Seq::get);
    let freed = plan.bytes_before.saturating_sub(plan.bytes_after);
    let number = |seq: Option<u64>| seq.map_or_else(|| "none".to_owned(), |seq| seq.to_string());
    let figures = [
        ("first-seq", model.first_seq.to_string()),
        ("last-seq", model.last_seq.to_string()),
        ("floor", number(floor)),
        ("through", number(through)),
        ("freed", freed.to_string()),
        ("dropped", plan.entries_dropped.to_string()),
        ("cursors", model.cursors.len().to_string()),
    ];
    let scale = Scale { first: model.first_seq, last: model.last_seq.max(model.first_seq) };
    let flags = flags(model, &scale);
    let lanes = flags.iter().map(|flag| flag.lane + 1).max().unwrap_or(0);
    let band = 12 + lanes * LANE + 8;
    let label =
        format!("The log from Seq {} to {}, its floor and its cursors", model.first_seq, model.last_seq);
    let mut svg = Svg::new("ruler", &label, band + BAND + 62, &figures);
    if model.last_seq == 0 {
        svg.label("quiet", (Tenths::of(LEFT), Tenths::of(band + 18)), Anchor::Start, "no entry yet");
    } else {
        bands(&mut svg, model, &scale, band);
        below(&mut svg, model, &scale, band + BAND);
        marks(&mut svg, model, &scale, band);
        flags.iter().for_each(|flag| raise(&mut svg, flag, band));
    }
    let note = format!(
        "Left is the oldest entry. A flag stands behind the last entry that its cursor has seen. Compaction may look \
         at the log {}; that would free about {} and drop {} entries, tombstones taken to have had their time.",
        through.map_or_else(|| "nowhere yet".to_owned(), |seq| format!("up to {}", grouped(seq))),
        bytes(freed),
        grouped(plan.entries_dropped),
    );
    let legend = legend(&[
        ("segment", "segments"),
        ("snapshot", "parts: what compaction kept"),
        ("gone", "nothing was kept"),
        ("could", "compaction may look at"),
        ("held", "held back"),
    ]);
    section("ruler", "The log as a ruler", &note, &(legend + &svg.end() + &numbers(model, floor, through)))
}

fn flags<'a>(model: &'a Model, scale: &Scale) -> Vec<Flag<'a>> {
    let mut sorted: Vec<&Cursor> = model.cursors.iter().collect();
    // Those furthest behind are those that matter.
    sorted.sort_by_key(|cursor| (cursor.info.seq, cursor.info.name.clone()));
    sorted.truncate(FLAGS_MAX);
    let mut lanes: Vec<(Tenths, Tenths)> = Vec::new();
    let mut flags = Vec::new();
    for cursor in sorted {
        let x = scale.at(cursor.info.seq.map_or(scale.first.saturating_sub(1), esker::Seq::get));
        let letters = (cursor.info.name.chars().count() as u64).min(24);
        let length = Tenths::of(letters * 8 + 26);
        let is_left = x + length > Tenths::of(WIDTH);
        let (from, to) = if is_left { (x - length, x) } else { (x, x + length) };
        let is_open = |lane: &(Tenths, Tenths)| to < lane.0 || from > lane.1;
        let lane = match lanes.iter().position(is_open) {
            Some(lane) => lane,
            None => {
                lanes.push((Tenths::of(u64::from(u32::MAX)), Tenths::default()));
                lanes.len() - 1
            }
        };
        if let Some(taken) = lanes.get_mut(lane) {
            *taken = (taken.0.min(from), taken.1.max(to));
        }
        flags.push(Flag { cursor, x, lane: lane as u64, is_left });
    }
    flags
}

fn raise(svg: &mut Svg, flag: &Flag<'_>, band: u64) {
    let info = &flag.cursor.info;
    let top = Tenths::of(12 + flag.lane * LANE);
    let seen = info.seq.map_or_else(|| "nothing seen".to_owned(), |seq| format!("seen up to {seq}"));
    let title = format!("cursor {}: {seen}, {} behind", info.name, grouped(info.behind));
    let class = if flag.cursor.stuck.is_some() { "flag stuck" } else { "flag" };
    svg.line("pole", (flag.x, top), (flag.x, Tenths::of(band + BAND)), &title);
    let point = |away: u64| match flag.is_left {
        true => flag.x - Tenths::of(away),
        false => flag.x + Tenths::of(away),
    };
    let (middle, below) = (top + Tenths::of(6), top + Tenths::of(12));
    svg.polygon(class, &[(flag.x, top), (point(13), middle), (flag.x, below)], &title);
    let anchor = if flag.is_left { Anchor::End } else { Anchor::Start };
    svg.cut_label("name", (point(17), top + Tenths::of(10)), anchor, (&info.name, 24));
}

/// Cursors without a flag.
fn marks(svg: &mut Svg, model: &Model, scale: &Scale, band: u64) {
    let mut places: Vec<Tenths> =
        model.cursors.iter().filter_map(|cursor| cursor.info.seq).map(|seq| scale.at(seq.get())).collect();
    if model.cursors.len() <= FLAGS_MAX {
        return;
    }
    places.sort_unstable();
    places.dedup();
    let every = places.len().div_ceil(MARKS_MAX).max(1);
    for x in places.into_iter().step_by(every) {
        svg.line("pole", (x, Tenths::of(band - 6)), (x, Tenths::of(band)), "a cursor");
    }
}

fn bands(svg: &mut Svg, model: &Model, scale: &Scale, band: u64) {
    let (y, height) = (Tenths::of(band), Tenths::of(BAND));
    let mut is_odd = false;
    for bar in &model.bars {
        let Some((first, last, class)) = stretch(bar) else { continue };
        is_odd = !is_odd;
        let class = if class == "segment" && is_odd { "segment odd" } else { class };
        let x = scale.before(first);
        let width = (scale.at(last) - x).max(Tenths(5));
        let title = format!("{}: seq {}, {} entries", bar.name(), seqs(first, last), grouped(bar.entries));
        svg.area(class, Area { x, y, width, height }, &title, &[]);
    }
    if let Some(floor) = model.plan.floor {
        let x = scale.before(floor.get());
        let title = format!("the floor: from {floor} on every entry is there");
        svg.line("floor", (x, Tenths::of(band - 4)), (x, Tenths::of(band + BAND + 4)), &title);
    }
}

fn stretch(bar: &Bar) -> Option<(u64, u64, &'static str)> {
    let is = |state: SegmentState| bar.states.iter().all(|other| *other == state);
    let class = if is(SegmentState::Dropped) {
        "gone"
    } else if bar.stands_for.is_some() {
        "snapshot"
    } else {
        "segment"
    };
    let first = bar.stands_for.map(|(first, _)| first).or(bar.first_seq)?;
    let last = bar.stands_for.map(|(_, last)| last).max(bar.last_seq)?;
    Some((first, last, class))
}

/// What could go and what is held back, and the Seqs.
fn below(svg: &mut Svg, model: &Model, scale: &Scale, y: u64) {
    let (left, end) = (Tenths::of(LEFT), Tenths::of(WIDTH - RIGHT));
    if let Some(through) = model.plan.through {
        let area = Area {
            x: left,
            y: Tenths::of(y + 6),
            width: scale.at(through.get()) - left,
            height: Tenths::of(7),
        };
        let title = format!("compaction may look at everything up to {through}");
        svg.area("could", area, &title, &[]);
    }
    if let Some(held) = model.plan.held_back_by.iter().min_by_key(|held| held.from) {
        let x = scale.before(held.from.get());
        let area = Area { x, y: Tenths::of(y + 16), width: end - x, height: Tenths::of(7) };
        let title = format!("held back from {} on by {}, {}", held.from, by(&held.by), bytes(held.bytes));
        svg.area("held", area, &title, &[]);
    }
    let text = Tenths::of(y + 42);
    svg.label("quiet", (left, text), Anchor::Start, &grouped(model.first_seq));
    svg.label("quiet", (end, text), Anchor::End, &grouped(model.last_seq));
    if let Some(floor) = model.plan.floor {
        let x = scale.before(floor.get());
        // Not over those of the ends.
        let x = x.max(left + Tenths::of(110)).min(end - Tenths::of(150));
        svg.label("quiet", (x, text), Anchor::Middle, &format!("floor {}", grouped(floor.get())));
    }
}

fn by(by: &PinnedBy) -> String {
    match by {
        PinnedBy::Cursor(name) => format!("cursor {name}"),
        PinnedBy::Watcher => "a watcher".to_owned(),
        PinnedBy::Backup => "a backup".to_owned(),
        PinnedBy::Bootstrap => "a bootstrap".to_owned(),
        // A later library's.
        _ => "another".to_owned(),
    }
}

fn numbers(model: &Model, floor: Option<u64>, through: Option<u64>) -> String {
    let plan = &model.plan;
    let seq = |seq: Option<u64>| seq.map_or_else(|| "none".to_owned(), grouped);
    let mut rows = vec![
        vec!["entries".to_owned(), format!("seq {}", seqs(model.first_seq, model.last_seq))],
        vec!["floor".to_owned(), seq(floor)],
        vec!["compaction may look at, up to".to_owned(), seq(through)],
        vec!["bytes now".to_owned(), grouped(plan.bytes_before)],
        vec!["bytes afterwards, about".to_owned(), grouped(plan.bytes_after)],
        vec!["entries that would go".to_owned(), grouped(plan.entries_dropped)],
    ];
    for held in plan.held_back_by.iter().take(20) {
        let text =
            format!("{} holds back {} from {} on", by(&held.by), bytes(held.bytes), grouped(held.from.get()));
        rows.push(vec!["held back".to_owned(), text]);
    }
    table("ruler", "What could go, and what holds it back", &["what", "value"], &rows)
}
