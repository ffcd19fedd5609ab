//! The fourth picture: how far each cursor is behind, in entries, bytes and time.

use super::model::{Cursor, Model};
use super::page::section;
use super::svg::{Anchor, Area, Svg, Tenths, WIDTH, bytes, grouped, table};
use crate::span::Span;

const LEFT: u64 = 190;
const COLUMN: u64 = 230;
const TOP: u64 = 26;
const ROW: u64 = 24;
const ERROR: u64 = 16;
/// Cursors that are drawn; the furthest behind come first.
const DRAWN_MAX: usize = 24;
/// Cursors in the table.
const LISTED_MAX: usize = 200;

pub(super) fn draw(model: &Model) -> String {
    let mut cursors: Vec<&Cursor> = model.cursors.iter().collect();
    let rank = |cursor: &Cursor| (cursor.stuck.is_some(), cursor.info.behind, cursor.info.held_bytes);
    // A stable sort: of equals, by name.
    cursors.sort_by_key(|cursor| std::cmp::Reverse(rank(cursor)));
    let drawn = cursors.get(..DRAWN_MAX.min(cursors.len())).unwrap_or_default();
    let stuck = cursors.iter().filter(|cursor| cursor.stuck.is_some()).count();
    let most = |of: fn(&Cursor) -> u64| cursors.iter().map(|cursor| of(cursor)).max().unwrap_or(0);
    let most = [most(|cursor| cursor.info.behind), most(|cursor| cursor.info.held_bytes), most(waited)];
    let figures = [
        ("cursors", cursors.len().to_string()),
        ("stuck", stuck.to_string()),
        ("behind", most[0].to_string()),
        ("held-bytes", most[1].to_string()),
        ("waited-ns", most[2].to_string()),
    ];
    let errors = drawn.iter().filter(|cursor| cursor.stuck.is_some()).count() as u64;
    let height = TOP + drawn.len().max(1) as u64 * ROW + errors * ERROR + 8;
    let label = format!("How far {} cursors are behind; {stuck} are stuck", cursors.len());
    let mut svg = Svg::new("lag", &label, height, &figures);
    if drawn.is_empty() {
        svg.label("quiet", (Tenths::of(14), Tenths::of(20)), Anchor::Start, "no cursor");
    } else {
        for (at, name) in ["entries behind", "bytes held back", "next has waited"].into_iter().enumerate() {
            svg.label("quiet", (Tenths::of(LEFT + at as u64 * COLUMN), Tenths::of(14)), Anchor::Start, name);
        }
    }
    let mut y = TOP;
    for cursor in drawn {
        draw_row(&mut svg, cursor, y, most);
        y += ROW + if cursor.stuck.is_some() { ERROR } else { 0 };
    }
    let note = note(model, cursors.len() - drawn.len());
    section("lag", "Cursor lag", &note, &(svg.end() + &numbers(&cursors)))
}

fn note(model: &Model, more: usize) -> String {
    let mut note = "What each cursor has not seen yet. Times are up to the newest entry, not up to the moment \
                    of the report. A cursor in a frame is stuck: nobody goes on under it before it is reset or \
                    the store is repaired. That a reactor fails again and again is known to its process alone."
        .to_owned();
    if more > 0 {
        note += &format!(" {more} more, less far behind, are not drawn.");
    }
    if let Some(error) = &model.no_cursors {
        note += &format!(" The cursors cannot be read: {error}");
    }
    note
}

fn waited(cursor: &Cursor) -> u64 {
    u64::try_from(cursor.waited).unwrap_or(0)
}

fn draw_row(svg: &mut Svg, cursor: &Cursor, y: u64, most: [u64; 3]) {
    let info = &cursor.info;
    if let Some(error) = &cursor.stuck {
        let (width, height) = (Tenths::of(WIDTH - 2), Tenths::of(ROW + ERROR - 4));
        let area = Area { x: Tenths::of(1), y: Tenths::of(y), width, height };
        let title = format!("cursor {} is stuck: {error}", info.name);
        svg.area("outline", area, &title, &[("stuck", info.name.clone())]);
        svg.cut_label("error", (Tenths::of(14), Tenths::of(y + ROW + 8)), Anchor::Start, (error, 110));
    }
    let baseline = Tenths::of(y + 14);
    svg.cut_label("name", (Tenths::of(14), baseline), Anchor::Start, (&info.name, 22));
    let values = [
        (info.behind, grouped(info.behind)),
        (info.held_bytes, bytes(info.held_bytes)),
        (waited(cursor), Span::between(0, cursor.waited).to_string()),
    ];
    let names = ["behind", "held-bytes", "waited-ns"];
    for (at, (((value, words), most), name)) in values.into_iter().zip(most).zip(names).enumerate() {
        let x = Tenths::of(LEFT + at as u64 * COLUMN);
        let width = Tenths::of(COLUMN - 92).share(value, most);
        let width = if value > 0 { width.max(Tenths::of(2)) } else { width };
        let class = ["lag events", "lag bytes", "lag time"].get(at).copied().unwrap_or("lag");
        let area = Area { x, y: Tenths::of(y + 4), width, height: Tenths::of(13) };
        let title = format!("cursor {}: {words}", info.name);
        svg.area(class, area, &title, &[(name, value.to_string())]);
        svg.label("", (x + width + Tenths::of(6), baseline), Anchor::Start, &words);
    }
}

fn numbers(cursors: &[&Cursor]) -> String {
    let rows: Vec<Vec<String>> = cursors
        .iter()
        .take(LISTED_MAX)
        .map(|cursor| {
            let info = &cursor.info;
            vec![
                info.name.clone(),
                cursor.region.clone(),
                info.seq.map_or_else(|| "-".to_owned(), |seq| grouped(seq.get())),
                grouped(info.behind),
                grouped(info.held_bytes),
                Span::between(0, cursor.waited).to_string(),
                Model::when(info.moved_at),
                cursor.stuck.clone().unwrap_or_else(|| "goes on".to_owned()),
            ]
        })
        .collect();
    let heading = ["cursor", "region", "seen up to", "behind", "bytes held", "waited", "moved", "state"];
    let mut out = table("lag", "The cursors, the furthest behind first", &heading, &rows);
    if let Some(more @ 1..) = cursors.len().checked_sub(LISTED_MAX) {
        out += &format!("<p class=\"more\">{more} more: <code>esker cursors</code> lists all.</p>\n");
    }
    out
}
