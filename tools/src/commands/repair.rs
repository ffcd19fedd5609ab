//! `repair`: what can be saved of a damaged store, and what was lost with the rest.

use std::path::Path;

use anyhow::Result;
use esker::dump::Dump;
use esker::{CursorFate, Damage, Keep, LostCursor, LostKind, LostRange, Reader, Repair, Seq};
use serde::Serialize;
use serde_json::json;

use super::cursors::RegionFields;
use crate::args;
use crate::outcome::{Interrupt, Outcome};
use crate::output::{Output, count_of};
use crate::progress::busy_with;
use crate::store::{self, describe};
use crate::typed::on;

/// A cursor of which something was lost, for JSON lines.
#[derive(Debug, Serialize)]
struct CursorLine<'a> {
    name: &'a str,
    fate: CursorFate,
    #[serde(flatten)]
    region: RegionFields,
    seq: Option<Seq>,
    kept_seq: Option<Seq>,
    content_good: bool,
    position: String,
}

/// A kind of which something was lost, for JSON lines.
#[derive(Debug, Serialize)]
struct KindLine<'a> {
    number: u16,
    kind: Option<&'a str>,
    keep: Option<Keep>,
    had_kind: Option<&'a str>,
    had_keep: Option<Keep>,
    content_good: bool,
    position: Option<String>,
}

pub(crate) fn repair(args: &args::Repair, output: &mut Output, interrupt: &Interrupt) -> Result<Outcome> {
    let (path, target) = (&args.store.path, &args.output);
    let repaired = busy_with("repairing", Some(interrupt), |shown| esker::repair_while(path, target, shown));
    let repaired = interrupt.of(repaired)?;
    let description = json!({
        "path": path.display().to_string(),
        "output": target.display().to_string(),
        "store": repaired.store,
        "format": esker::dump::FORMAT_VERSION,
    });
    output.header("repair", &description)?;
    for damage in &repaired.damage {
        if output.is_json() {
            output.typed("finding", &store::named(damage, Some(damage.segment))?)?;
        } else {
            output.tabs(&["damage".to_owned(), describe(damage)])?;
        }
    }
    for range in &repaired.ranges_lost {
        if output.is_json() {
            output.typed("lost", range)?;
        } else {
            output.tabs(&["lost".to_owned(), range_text(range)])?;
        }
    }
    let reader = Reader::open(target)?;
    print_lost(&repaired, &Dump::new(reader.kinds()), output)?;
    let noted = Noted::of(&reader, &repaired)?;
    let mut next = on("verify", target);
    if noted.cursors > 0 {
        next += &format!("; {}", reset_all(target));
    }
    conclude(&repaired, &noted, target, next, output)?;
    // The new store is good; what is gone for good is a finding.
    let gone = repaired.entries_lost + repaired.refused + repaired.damage.len() as u64;
    Ok(Outcome::of_findings(gone))
}

/// What is lost, and how much of it, where compaction had dropped the rest.
fn range_text(range: &LostRange) -> String {
    let seqs = store::seqs(range.first_seq, range.last_seq);
    match range.is_whole() {
        true => format!("seq {seqs}"),
        false => {
            format!("{} of seq {seqs}: compaction had dropped the rest", count_of(range.entries, "entry"))
        }
    }
}

/// What the damaged places say of cursors and kinds, and the new store does not.
fn print_lost(repaired: &Repair, dump: &Dump, output: &mut Output) -> Result<()> {
    for cursor in &repaired.cursors_lost {
        if output.is_json() {
            let LostCursor { name, fate, region, had, kept, content_good, position, .. } = cursor;
            let line = CursorLine {
                name,
                fate: *fate,
                region: RegionFields::of(region, dump),
                seq: *had,
                kept_seq: *kept,
                content_good: *content_good,
                position: position.to_string(),
            };
            output.typed("lost_cursor", &line)?;
        } else {
            output.tabs(&["lost".to_owned(), cursor_text(cursor, dump)])?;
        }
    }
    for kind in &repaired.kinds_lost {
        if output.is_json() {
            let line = KindLine {
                number: kind.kind.get(),
                kind: kind.name.as_deref(),
                keep: kind.keep,
                had_kind: kind.had_name.as_deref(),
                had_keep: kind.had_keep,
                content_good: kind.content_good,
                position: kind.position.map(|place| place.to_string()),
            };
            output.typed("lost_kind", &line)?;
        } else {
            output.tabs(&["lost".to_owned(), kind_text(kind)])?;
        }
    }
    Ok(())
}

/// What became of a cursor. Who had it, a watcher, a reaction or a mirror, the log does not say.
fn cursor_text(cursor: &LostCursor, dump: &Dump) -> String {
    let place = |seq: Option<Seq>| {
        seq.map_or_else(|| "before the first entry".to_owned(), |seq| format!("behind seq {seq}"))
    };
    let fate = match cursor.fate {
        CursorFate::Gone => format!("was {}, and is not there any more", place(cursor.had)),
        CursorFate::Behind => {
            format!(
                "was {}, and is {}: its reader will see again what lies between",
                place(cursor.had),
                place(cursor.kept)
            )
        }
        CursorFate::Ahead => {
            format!(
                "was {}, and is {}: its reader will not see what lies between",
                place(cursor.had),
                place(cursor.kept)
            )
        }
        CursorFate::Back => format!("had been retired, and is there again, {}", place(cursor.kept)),
        // A later library's.
        _ => "is not as it was".to_owned(),
    };
    let region = store::region(&cursor.region, dump);
    format!("cursor {:?} of {region} {fate}{}", cursor.name, as_good_as(cursor.content_good, cursor.position))
}

fn kind_text(kind: &LostKind) -> String {
    let name = match (&kind.had_name, &kind.name) {
        (Some(had), Some(name)) if had == name => format!("kind {name:?}"),
        (Some(had), Some(name)) => format!("kind {had:?}, which is called {name:?} now,"),
        (Some(had), None) => format!("kind {had:?}, of which no entry is left,"),
        (None, Some(name)) => {
            format!("kind {}, which is called {name:?} now since nothing says its name any more,", kind.kind)
        }
        (None, None) => format!("kind {}", kind.kind),
    };
    let keep = match (kind.had_keep, kind.keep) {
        (Some(had), Some(keep)) if had == keep => format!("keeps {}, as before", keep_word(keep)),
        (Some(had), Some(keep)) => format!("kept {} and keeps {} now", keep_word(had), keep_word(keep)),
        (Some(had), None) => format!("kept {} and is not registered any more", keep_word(had)),
        (None, Some(keep)) => format!("keeps {} now: what it kept is not known", keep_word(keep)),
        (None, None) => "is not registered any more".to_owned(),
    };
    let place = kind.position.map(|position| as_good_as(kind.content_good, position)).unwrap_or_default();
    format!("{name} {keep}{place}")
}

/// Where that is said, and what it is worth.
fn as_good_as(content_good: bool, position: esker::Position) -> String {
    let worth = if content_good { "" } else { ", which does not match its checksum and may be wrong" };
    format!(" (said at {position}{worth})")
}

fn keep_word(keep: Keep) -> &'static str {
    match keep {
        Keep::All => "all",
        Keep::Latest => "the latest",
        Keep::Nothing => "nothing",
        Keep::Fold => "what folds need",
        // A later library's.
        _ => "something else",
    }
}

/// What was kept, what was lost, and what to do next.
fn conclude(
    repaired: &Repair,
    noted: &Noted,
    target: &Path,
    next: String,
    output: &mut Output,
) -> Result<()> {
    if output.is_json() {
        let mut summary = serde_json::to_value(repaired)?;
        if let Some(fields) = summary.as_object_mut() {
            fields.insert("end_is_gone".to_owned(), noted.end_is_gone.into());
            // They have lines of their own.
            fields.insert("damage".to_owned(), repaired.damage.len().into());
            fields.remove("ranges_lost");
            fields.insert("cursors_lost".to_owned(), repaired.cursors_lost.len().into());
            fields.insert("kinds_lost".to_owned(), repaired.kinds_lost.len().into());
            fields.insert("next".to_owned(), next.into());
        }
        output.typed("summary", &summary)?;
        return Ok(());
    }
    let rebuilt = if repaired.manifest_rebuilt { "made anew from the other files" } else { "kept" };
    output.pairs(&[
        ("output", target.display().to_string()),
        ("store", repaired.store.clone()),
        ("era", repaired.era.to_string()),
        ("manifest", rebuilt.to_owned()),
        ("entries kept", repaired.entries.to_string()),
        ("batches kept", repaired.batches.to_string()),
        ("bytes kept", repaired.bytes.to_string()),
        ("kinds kept", repaired.kinds.to_string()),
        ("cursors kept", noted.text()),
        ("cursors lost", repaired.cursors_lost.len().to_string()),
        ("kinds changed", repaired.kinds_lost.len().to_string()),
        ("segments", segments_text(repaired)),
        ("entries lost", repaired.entries_lost.to_string()),
        ("batches refused", repaired.refused.to_string()),
        ("torn bytes cut", repaired.cut.to_string()),
        ("next", next),
    ])?;
    Ok(())
}

/// Those of either store: where entries are lost another segment begins.
fn segments_text(repaired: &Repair) -> String {
    let parts =
        if repaired.parts > 0 { format!(" and {}", count_of(repaired.parts, "part")) } else { String::new() };
    format!("{}{parts} written, of {} in the damaged store", repaired.segments, repaired.segments_read)
}

/// What is in the repaired store of what stands at the end of a log.
struct Noted {
    cursors: u64,
    /// Nothing good stands behind the last damage: what was noted there last is not known.
    end_is_gone: bool,
}

impl Noted {
    fn of(reader: &Reader, repaired: &Repair) -> Result<Self> {
        let last = reader.view()?.last_seq()?.map_or(0, Seq::get);
        let is_behind = |damage: &Damage| damage.next_good.is_none() && damage.first_seq > last;
        let end_is_gone = repaired.manifest_rebuilt || repaired.damage.last().is_some_and(is_behind);
        Ok(Self { cursors: repaired.cursors, end_is_gone })
    }

    fn text(&self) -> String {
        let lost = match self.end_is_gone {
            true => {
                "; what was noted last, of cursors and of what compaction keeps of kinds, may have been lost: compare both with \
                 what they should be"
            }
            false => "",
        };
        format!("{}{lost}", self.cursors)
    }
}

/// What makes cursors of another era count again.
pub(crate) fn reset_all(store: &Path) -> String {
    let (reset, cursors) = (on("cursor reset", store), on("cursors", store));
    format!("{reset} NAME --to +0 --execute, for each of `{cursors}`")
}
