//! `cursors`: where each is, what it has not seen, and whether that is too much.
//!
//! What is read is what the cursors have not seen, so that a look costs what they are behind. Only
//! where that meets damage is the whole log read, to name it as every command does.

use anyhow::Result;
use esker::dump::{Dump, key_text, rfc3339};
use esker::{CursorInfo, Hold, KindId, Region, Seq};
use serde::Serialize;
use serde_json::json;

use super::listing::{optional, over_all};
use super::plane::now;
use crate::args::{self, Limits};
use crate::outcome::Outcome;
use crate::output::{self, Output};
use crate::rows::Rows;
use crate::span::Span;
use crate::store::{self, Opened};
use crate::typed::{on, quoted};

/// What a cursor is over, of the three that it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Over {
    Lag,
    Age,
    Bytes,
    Era,
    Lost,
}

/// A cursor for JSON lines.
#[derive(Debug, Serialize)]
struct CursorLine<'a> {
    name: &'a str,
    #[serde(flatten)]
    region: RegionFields,
    seq: Option<Seq>,
    revision: u64,
    era: String,
    behind: u64,
    damaged: u64,
    held_bytes: u64,
    lost: bool,
    next_seq: Option<Seq>,
    next_time: Option<String>,
    next_time_ns: Option<String>,
    age_ns: Option<String>,
    /// `null`: as much as it takes.
    hold_bytes_max: Option<u64>,
    moved: String,
    moved_ns: String,
    over: Vec<Over>,
}

/// A region for JSON lines: in words, and its parts.
#[derive(Debug, Serialize)]
pub(super) struct RegionFields {
    region: String,
    part: &'static str,
    kind: Option<String>,
    key: Option<String>,
}

impl RegionFields {
    pub(super) fn of(region: &Region, dump: &Dump) -> Self {
        let parts: (_, Option<KindId>, Option<&[u8]>) = match region {
            Region::All => ("all", None, None),
            Region::Kind(kind) => ("kind", Some(*kind), None),
            Region::Entity(kind, key) => ("entity", Some(*kind), Some(key)),
            Region::Prefix(kind, key) => ("prefix", Some(*kind), Some(key)),
            // A later library's.
            _ => ("other", None, None),
        };
        let (part, kind, key) = parts;
        Self {
            region: store::region(region, dump),
            part,
            kind: kind.map(|kind| dump.kind_name(kind)),
            key: key.map(key_text),
        }
    }
}

const HEADING: &[&str] =
    &["cursor", "region", "seq", "behind", "held bytes", "next waits", "may hold", "moved"];

pub(crate) fn list(
    args: &args::Store,
    command: &'static str,
    limits: Limits,
    output: &mut Output,
) -> Result<Outcome> {
    let opened = store::open(&args.path, command, output)?;
    let cursors = opened.reader.cursors()?;
    let now = now();
    let mut rows = Rows::under(HEADING);
    let mut too_far = 0;
    for cursor in &cursors {
        let age = cursor.next_time.map(|time| Span::between(time, now));
        let excesses = excesses(cursor, age, limits, opened.reader.era());
        if output.is_json() {
            let over = excesses.iter().map(|(over, _)| *over).collect();
            output.typed("cursor", &line(cursor, age, over, &opened.dump))?;
        } else {
            rows.push(row(cursor, age, &opened.dump), output)?;
        }
        if !excesses.is_empty() {
            too_far += 1;
            let what: Vec<&str> = excesses.iter().map(|(_, text)| &**text).collect();
            output::over(&format!("cursor {:?}: {}", cursor.name, what.join("; ")));
        }
        note_era(cursor, &opened);
        note_lost(cursor, &opened);
    }
    rows.end(output)?;
    let damaged = report_damage(&opened, &cursors, output)?;
    if output.is_json() {
        let summary = json!({ "cursors": cursors.len(), "over": too_far, "damaged": damaged });
        output.typed("summary", &summary)?;
    }
    Ok(Outcome::of_findings(too_far + damaged))
}

/// What a cursor has too much of, with both numbers. Where there is a limit at all, one under which nobody
/// can watch is over it.
pub(super) fn excesses(
    cursor: &CursorInfo,
    age: Option<Span>,
    limits: Limits,
    era: u64,
) -> Vec<(Over, String)> {
    let mut excesses = Vec::new();
    let is_check = limits.max_lag.is_some() || limits.max_age.is_some() || limits.max_bytes.is_some();
    if is_check && cursor.era != era {
        excesses.push((Over::Era, format!("of era {}, where the store is of era {era}", cursor.era)));
    }
    if is_check && cursor.lost {
        excesses.push((Over::Lost, "lost: compaction went past it".to_owned()));
    }
    if let Some(limit) = limits.max_lag.filter(|limit| cursor.behind > *limit) {
        excesses.push((Over::Lag, format!("{} entries behind, over {limit}", cursor.behind)));
    }
    if let Some((limit, age)) = limits.max_age.zip(age).filter(|(limit, age)| age > limit) {
        excesses.push((Over::Age, format!("its next entry has waited {age}, over {limit}")));
    }
    if let Some(limit) = limits.max_bytes.filter(|limit| cursor.held_bytes > *limit) {
        excesses.push((Over::Bytes, format!("holds back {} bytes, over {limit}", cursor.held_bytes)));
    }
    excesses
}

fn line<'a>(cursor: &'a CursorInfo, age: Option<Span>, over: Vec<Over>, dump: &Dump) -> CursorLine<'a> {
    CursorLine {
        name: &cursor.name,
        region: RegionFields::of(&cursor.region, dump),
        seq: cursor.seq,
        revision: cursor.revision,
        era: cursor.era.to_string(),
        behind: cursor.behind,
        damaged: cursor.damaged,
        held_bytes: cursor.held_bytes,
        lost: cursor.lost,
        next_seq: cursor.next,
        next_time: cursor.next_time.map(rfc3339),
        next_time_ns: cursor.next_time.map(|time| time.to_string()),
        age_ns: age.map(|age| age.0.as_nanos().to_string()),
        hold_bytes_max: match cursor.hold {
            Hold::UpTo(bytes) => Some(bytes),
            _ => None,
        },
        moved: rfc3339(cursor.moved_at),
        moved_ns: cursor.moved_at.to_string(),
        over,
    }
}

fn row(cursor: &CursorInfo, age: Option<Span>, dump: &Dump) -> Vec<String> {
    vec![
        cursor.name.clone(),
        store::region(&cursor.region, dump),
        optional(cursor.seq.map(Seq::get)),
        cursor.behind.to_string(),
        cursor.held_bytes.to_string(),
        age.map_or_else(|| "-".to_owned(), |age| age.to_string()),
        match cursor.hold {
            Hold::UpTo(bytes) if cursor.lost => format!("up to {bytes} bytes: lost"),
            Hold::UpTo(bytes) => format!("up to {bytes} bytes"),
            _ => "forever".to_owned(),
        },
        rfc3339(cursor.moved_at),
    ]
}

/// Says so of a cursor under which nobody can watch.
pub(super) fn note_era(cursor: &CursorInfo, opened: &Opened) {
    let (its_own, era) = (cursor.era, opened.reader.era());
    if its_own != era {
        let name = &cursor.name;
        output::note(&format!(
            "cursor {name:?} is of era {its_own} and the store of era {era}, since it was repaired or restored: \
             nobody watches under it before `{} {} --to +0 --execute`, which keeps its place",
            on("cursor reset", opened.reader.path()),
            quoted(name)
        ));
    }
}

/// The same of one that compaction went past.
pub(super) fn note_lost(cursor: &CursorInfo, opened: &Opened) {
    if cursor.lost {
        let command = format!("{} {}", on("cursor reset", opened.reader.path()), quoted(&cursor.name));
        output::note(&format!(
            "cursor {:?} is lost: it may not hold back as much as it had not seen, and compaction went past it. \
             Nobody watches under it before `{command} --to oldest --execute`, or newest",
            cursor.name
        ));
    }
}

/// Names damage where cursors have met any, or opening has; answers how much that is.
fn report_damage(opened: &Opened, cursors: &[CursorInfo], output: &mut Output) -> Result<u64> {
    let was_met = cursors.iter().any(|cursor| cursor.damaged > 0);
    if was_met || !opened.reader.recovery().damage.is_empty() {
        return over_all(opened, output, |_| {});
    }
    opened.report_damage_at_end(output)
}
