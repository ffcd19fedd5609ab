//! `cursor reset` and `cursor retire`: a plan first, and the deed only where it is asked for.
//!
//! A plan is made by a reader, also beside a live writer, and changes nothing. The deed takes the
//! writer's lock, and plans again under it: whoever had the store before may have moved the cursor.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Result;
use esker::{CursorInfo, Options, Reader, Seq, Start};
use serde::Serialize;
use serde_json::json;

use super::cursors::{RegionFields, note_era};
use crate::args;
use crate::outcome::{Outcome, Usage};
use crate::output::{self, Output};
use crate::place::{Place, walk};
use crate::store::{self, Opened};
use crate::typed::on;
pub(crate) use crate::typed::quoted;

/// So many names an error lists.
const NAMES_MAX: usize = 20;

/// What a reset comes to.
#[derive(Debug)]
struct Plan {
    cursor: CursorInfo,
    to: u64,
    /// Entries of its region that its reader would not see.
    passed_over: u64,
    /// Entries of its region that its reader would see once more.
    seen_again: u64,
    /// What it would have before it then, and hold back.
    behind: u64,
    held_bytes: u64,
    /// Entries from there to the end that cannot be read, of whatever region: counted nowhere else.
    damaged: u64,
}

/// The same for JSON lines.
#[derive(Debug, Serialize)]
struct PlanLine<'a> {
    name: &'a str,
    #[serde(flatten)]
    region: RegionFields,
    from: Option<Seq>,
    to: Option<Seq>,
    passed_over: u64,
    seen_again: u64,
    behind: u64,
    held_bytes: u64,
    damaged: u64,
}

pub(crate) fn reset(args: &args::Reset, output: &mut Output) -> Result<Outcome> {
    let path = &args.store.path;
    let opened = store::open(path, "cursor reset", output)?;
    // What cannot be is refused before the store is opened for writing.
    let plan = Plan::of(&opened.reader, &args.name, args.to)?;
    if !args.execute {
        note_era(&plan.cursor, &opened);
        let to = match args.to {
            Place::Oldest => "oldest".to_owned(),
            Place::Newest => "newest".to_owned(),
            // The place that was looked at, whatever happens until then.
            _ => Seq::new(plan.to).map_or_else(|| "oldest".to_owned(), |seq| seq.to_string()),
        };
        let next = format!("{} --to {to} --execute", command("reset", path, &args.name));
        plan.print(&opened, ("next", next), output)?;
        return Ok(Outcome::of_findings(plan.damaged));
    }
    let journal = Options::new().open_existing(path)?;
    let plan = Plan::of(&opened.reader, &args.name, args.to)?;
    let start = Seq::new(plan.to).map_or(Start::Oldest, Start::After);
    let done = journal.reset_cursor(&args.name, start)?;
    let done = format!("reset from {} to {}", place(done.from), place(done.to));
    plan.print(&opened, ("done", done), output)?;
    journal.close()?;
    Ok(Outcome::of_findings(plan.damaged))
}

pub(crate) fn retire(args: &args::Retire, output: &mut Output) -> Result<Outcome> {
    let path = &args.store.path;
    let opened = store::open(path, "cursor retire", output)?;
    let mut cursor = find(&opened.reader, &args.name)?;
    if !args.execute {
        let next = format!("{} --execute", command("retire", path, &args.name));
        print_retired(&cursor, &opened, &[("next", next)], output)?;
        return Ok(Outcome::Fine);
    }
    let journal = Options::new().open_existing(path)?;
    cursor = find(&opened.reader, &args.name)?;
    journal.retire_cursor(&args.name)?;
    // What it held back is freed by who compacts, and by nobody else.
    let next = on("compact", path);
    let done = format!("retired at {}", place(cursor.seq));
    print_retired(&cursor, &opened, &[("done", done), ("next", next)], output)?;
    journal.close()?;
    Ok(Outcome::Fine)
}

impl Plan {
    fn of(reader: &Reader, name: &str, to: Place) -> Result<Self> {
        let cursor = find(reader, name)?;
        let view = reader.view()?;
        let last = view.last_seq()?.map_or(0, Seq::get);
        let to = to.seq(&cursor, reader, last)?;
        let from = cursor.seq.map_or(0, Seq::get);
        let (mut between, mut behind, mut first) = (0, 0, None);
        let damaged = walk(reader, &cursor.region, (from.min(to), last), |entry| {
            let seq = entry.seq().get();
            between += u64::from(seq <= from.max(to));
            if seq > to {
                behind += 1;
                first = first.or(Some(entry.seq()));
            }
            ControlFlow::Continue(())
        })?;
        let held_bytes = first.map_or(Ok(0), |seq| view.bytes_behind(seq))?;
        let (passed_over, seen_again) = if to < from { (0, between) } else { (between, 0) };
        Ok(Self { cursor, to, passed_over, seen_again, behind, held_bytes, damaged })
    }

    fn print(&self, opened: &Opened, end: (&'static str, String), output: &mut Output) -> Result<()> {
        let Self { cursor, passed_over, seen_again, behind, held_bytes, damaged, .. } = self;
        let to = Seq::new(self.to);
        if output.is_json() {
            let line = PlanLine {
                name: &cursor.name,
                region: RegionFields::of(&cursor.region, &opened.dump),
                from: cursor.seq,
                to,
                passed_over: *passed_over,
                seen_again: *seen_again,
                behind: *behind,
                held_bytes: *held_bytes,
                damaged: *damaged,
            };
            output.typed("plan", &line)?;
            return summary(&[end], output);
        }
        if *damaged > 0 {
            let text = format!("{damaged} entries on the way cannot be read, and are not counted");
            output::finding(&format!("{text}; `{}` names them", on("verify", opened.reader.path())));
        }
        output.pairs(&[
            ("cursor", cursor.name.clone()),
            ("region", store::region(&cursor.region, &opened.dump)),
            ("from", place(cursor.seq)),
            ("to", place(to)),
            ("passed over unread", passed_over.to_string()),
            ("seen again", seen_again.to_string()),
            ("behind then", behind.to_string()),
            ("held bytes then", held_bytes.to_string()),
            end,
        ])?;
        Ok(())
    }
}

fn print_retired(
    cursor: &CursorInfo,
    opened: &Opened,
    end: &[(&'static str, String)],
    output: &mut Output,
) -> Result<()> {
    if output.is_json() {
        let plan = json!({
            "name": cursor.name,
            "region": store::region(&cursor.region, &opened.dump),
            "seq": cursor.seq,
            "behind": cursor.behind,
            "held_bytes": cursor.held_bytes,
        });
        output.typed("plan", &plan)?;
        return summary(end, output);
    }
    let mut pairs = vec![
        ("cursor", cursor.name.clone()),
        ("region", store::region(&cursor.region, &opened.dump)),
        ("seq", place(cursor.seq)),
        ("never seen", cursor.behind.to_string()),
        ("held bytes let go", cursor.held_bytes.to_string()),
    ];
    pairs.extend(end.iter().cloned());
    output.pairs(&pairs)?;
    Ok(())
}

/// The last of the JSON lines: what was done, or how to do it.
pub(super) fn summary(end: &[(&'static str, String)], output: &mut Output) -> Result<()> {
    let mut summary = json!({ "executed": end.iter().any(|(what, _)| *what == "done") });
    if let Some(fields) = summary.as_object_mut() {
        fields.extend(end.iter().map(|(what, text)| ((*what).to_owned(), text.clone().into())));
    }
    output.typed("summary", &summary)?;
    Ok(())
}

/// The cursor of a name, or an error with the names that there are.
fn find(reader: &Reader, name: &str) -> Result<CursorInfo> {
    let mut cursors = reader.cursors()?;
    if let Some(at) = cursors.iter().position(|cursor| cursor.name == name) {
        return Ok(cursors.swap_remove(at));
    }
    let names: Vec<&str> = cursors.iter().take(NAMES_MAX).map(|cursor| &*cursor.name).collect();
    let there = match cursors.len().checked_sub(NAMES_MAX) {
        _ if names.is_empty() => "none".to_owned(),
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names.join(", ")),
    };
    Err(Usage(format!("no cursor {name:?}; there are: {there}")).into())
}

/// Where a cursor is, in words.
fn place(seq: Option<Seq>) -> String {
    seq.map_or_else(|| "the beginning".to_owned(), |seq| seq.to_string())
}

/// A command about a cursor, for a shell.
fn command(what: &str, path: &Path, name: &str) -> String {
    format!("{} {}", on(&format!("cursor {what}"), path), quoted(name))
}
