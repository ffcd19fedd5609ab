//! `compact`: what compaction would free and who holds it back, and the deed where it is asked for.
//!
//! A plan is made by a reader, also beside a live writer or of a backup, and changes nothing. The deed takes
//! the writer's lock: where an application has the store, that compacts it.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use esker::{CompactOptions, Compaction, HeldBack, Keep, Options, PinnedBy, Region, Seq, Store};
use serde::Serialize;
use serde_json::json;

use super::check::busy;
use super::cursor::quoted;
use super::holding::Holding;
use super::listing::optional;
use crate::args;
use crate::outcome::Outcome;
use crate::output::{self, Output};
use crate::span::Span;
use crate::store::{self, Opened};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    store: args::Store,
    /// Leave alone what was appended within this time (`2h`, `7d`)
    #[arg(long, value_name = "D")]
    keep_for: Option<Span>,
    /// Leave alone the newest so many bytes of log (`65536`, `10M`)
    #[arg(long, value_name = "N", value_parser = crate::size::bytes)]
    keep_bytes: Option<u64>,
    /// Leave alone the newest so many entries
    #[arg(long, value_name = "N")]
    keep_entries: Option<u64>,
    /// Keep tombstones for so long [default: 5m]
    #[arg(long, value_name = "D")]
    tombstones: Option<Span>,
    /// Copy at most so many bytes a second (`65536`, `10M`)
    #[arg(long, value_name = "BYTES", value_parser = crate::size::bytes)]
    rate: Option<u64>,
    /// Free whatever can be freed, however much has to be copied for it
    #[arg(long)]
    thorough: bool,
    /// Do it. Nobody else may have the store open for writing
    #[arg(long)]
    execute: bool,
}

/// Why a plan comes to nothing, where nobody is to blame.
const NOTHING_TO_FREE: &str = "nothing would be freed: all that is there is kept, or stands in the segment that is being \
     written, or is to be left alone (--keep-for, --keep-bytes, --keep-entries); with --thorough less has to be free in a segment";

impl Args {
    fn options(&self) -> CompactOptions {
        let duration = |span: &Span| -> Duration { span.0.unsigned_abs() };
        let mut options = CompactOptions::new().thorough(self.thorough);
        if let Some(age) = &self.keep_for {
            options = options.keep_for(duration(age));
        }
        if let Some(bytes) = self.keep_bytes {
            options = options.keep_bytes(bytes);
        }
        if let Some(entries) = self.keep_entries {
            options = options.keep_entries(entries);
        }
        if let Some(age) = &self.tombstones {
            options = options.keep_tombstones_for(duration(age));
        }
        if let Some(rate) = self.rate {
            options = options.bytes_per_second(rate);
        }
        options
    }

    /// The command that does what was planned.
    fn command(&self) -> String {
        let mut command = format!("esker compact {}", path_of(&self.store.path));
        let spans = [("--keep-for", self.keep_for), ("--tombstones", self.tombstones)];
        for (name, span) in spans {
            command.extend(span.map(|span| match span.0.subsec_nanos() {
                0 => format!(" {name} {}s", span.0.as_secs()),
                _ => format!(" {name} {}ms", span.0.as_millis()),
            }));
        }
        let numbers =
            [("--keep-bytes", self.keep_bytes), ("--keep-entries", self.keep_entries), ("--rate", self.rate)];
        for (name, number) in numbers {
            command.extend(number.map(|number| format!(" {name} {number}")));
        }
        command + if self.thorough { " --thorough" } else { "" } + " --execute"
    }
}

/// A compaction for JSON lines; who holds it back has lines of its own.
#[derive(Debug, Serialize)]
struct CompactionLine {
    through: Option<Seq>,
    floor: Option<Seq>,
    bytes_before: u64,
    bytes_after: u64,
    bytes_copied: u64,
    entries_dropped: u64,
    segments_removed: u64,
    parts_written: u64,
    damaged: u64,
}

pub(crate) fn compact(args: &Args, output: &mut Output) -> Result<Outcome> {
    let path = &args.store.path;
    let opened = store::open(path, "compact", output)?;
    let (what, compaction) = if args.execute {
        // A store knows what topics keep for their folds.
        let store = Store::over(Options::new().open_existing(path)?);
        let journal = store.journal();
        let done = busy("compacting", || journal.compact(&args.options()))?;
        journal.close()?;
        ("compaction", done)
    } else {
        ("plan", busy("planning", || opened.reader.plan_compaction(&args.options()))?)
    };
    let holding = if args.execute { Holding::default() } else { Holding::of(&opened)? };
    let would_do = compaction.entries_dropped > 0 || compaction.segments_removed > 0;
    let mut advice = advice(&compaction, &opened, path);
    if !args.execute && opened.reader.kinds().iter().any(|kind| kind.keep == Keep::Fold) {
        // What that comes to takes a write.
        advice.push(
            "more may go of kinds that keep what folds need: that is looked up when it is done".to_owned(),
        );
    }
    advice.extend(holding.advice(path));
    if advice.is_empty() && compaction.held_back_by.is_empty() && !would_do && !args.execute {
        advice.push(NOTHING_TO_FREE.to_owned());
    }
    let end = match (args.execute, opened.reader.is_backup()) {
        (true, _) => ("done", "compacted".to_owned()),
        (false, true) => ("next", format!("esker restore {} NEW, and compact that", path_of(path))),
        (false, false) => ("next", args.command()),
    };
    let end = Some(end).filter(|_| args.execute || would_do);
    if let Some(pid) = opened.writer.filter(|_| would_do && !args.execute) {
        output::note(&format!("while pid {pid} writes the store, that is who can compact it"));
    }
    if output.is_json() {
        print_json((what, path), &compaction, &holding, &advice, end, output)?;
    } else {
        print(args.execute, &compaction, &holding, &advice, end, output)?;
    }
    Ok(Outcome::of_findings(compaction.damaged))
}

fn print(
    is_done: bool,
    compaction: &Compaction,
    holding: &Holding,
    advice: &[String],
    end: Option<(&'static str, String)>,
    output: &mut Output,
) -> Result<()> {
    let Compaction { bytes_before, bytes_after, damaged, .. } = compaction;
    let seq = |seq: Option<Seq>| optional(seq.map(Seq::get));
    let about = if is_done { "" } else { "about " };
    let mut pairs = vec![
        ("looked at, through", seq(compaction.through)),
        (if is_done { "floor" } else { "floor now" }, seq(compaction.floor)),
        ("bytes before", bytes_before.to_string()),
        ("bytes after", format!("{about}{bytes_after}")),
        ("bytes freed", format!("{about}{}", bytes_before.saturating_sub(*bytes_after))),
        ("bytes copied", compaction.bytes_copied.to_string()),
        ("entries dropped", compaction.entries_dropped.to_string()),
        ("segments removed", compaction.segments_removed.to_string()),
        ("parts written", compaction.parts_written.to_string()),
    ];
    if *damaged > 0 {
        pairs.push(("left alone, damaged", damaged.to_string()));
    }
    let held = compaction.held_back_by.iter();
    pairs.extend(held.map(|held| ("held back by", held_text(held))));
    pairs.extend(holding.texts().into_iter().map(|text| ("kept for", text)));
    pairs.extend(advice.iter().map(|advice| ("advice", advice.clone())));
    pairs.extend(end);
    output.pairs(&pairs)?;
    Ok(())
}

fn print_json(
    (what, path): (&'static str, &Path),
    compaction: &Compaction,
    holding: &Holding,
    advice: &[String],
    end: Option<(&'static str, String)>,
    output: &mut Output,
) -> Result<()> {
    let line = CompactionLine {
        through: compaction.through,
        floor: compaction.floor,
        bytes_before: compaction.bytes_before,
        bytes_after: compaction.bytes_after,
        bytes_copied: compaction.bytes_copied,
        entries_dropped: compaction.entries_dropped,
        segments_removed: compaction.segments_removed,
        parts_written: compaction.parts_written,
        damaged: compaction.damaged,
    };
    output.typed(what, &line)?;
    for held in &compaction.held_back_by {
        let (by, name) = by(&held.by);
        let advice = name.map(|name| retire(path, name));
        let line =
            json!({ "by": by, "name": name, "from": held.from, "bytes": held.bytes, "advice": advice });
        output.typed("held", &line)?;
    }
    for line in holding.lines(path) {
        output.typed("held", &line)?;
    }
    let mut summary = json!({ "executed": what == "compaction", "advice": advice });
    if let (Some(fields), Some((name, text))) = (summary.as_object_mut(), end) {
        fields.insert(name.to_owned(), text.into());
    }
    output.typed("summary", &summary)?;
    Ok(())
}

/// What to do about what stays.
fn advice(compaction: &Compaction, opened: &Opened, path: &Path) -> Vec<String> {
    let mut advice = Vec::new();
    // Cursors that hold back the same wait for the first of them; all are named.
    for held in &compaction.held_back_by {
        if let PinnedBy::Cursor(name) = &held.by {
            let command = retire(path, name);
            advice.push(format!("{command}, if nobody reads under it any more"));
        }
    }
    let kinds = opened.reader.kinds();
    if let Some(text) = made_ahead(compaction, opened) {
        advice.push(text);
    } else if !kinds.is_empty() && kinds.iter().all(|kind| kind.keep == Keep::All) {
        let path = path_of(path);
        advice.push(format!("every kind keeps all; esker keep {path} KIND latest|nothing says otherwise"));
    }
    if compaction.damaged > 0 {
        advice.push(format!("esker verify {} names what is damaged", path_of(path)));
    }
    advice
}

/// Of a log that is all in the segment being written: its file is made ahead, and what is free in it is no waste.
fn made_ahead(compaction: &Compaction, opened: &Opened) -> Option<String> {
    let nothing_went = opened.reader.view().is_ok_and(|view| view.floor(&Region::All).is_none());
    let is_one = opened.survey.log().count() == 1 && compaction.through.is_none() && nothing_went;
    is_one.then(|| {
        let bytes = compaction.bytes_before;
        format!(
            "nothing can go yet: all of the log is in the segment that is being written, whose file is made ahead; \
             of its {bytes} bytes the next entries take what is free"
        )
    })
}

fn held_text(held: &HeldBack) -> String {
    let HeldBack { from, bytes, .. } = held;
    let who = match by(&held.by) {
        (by, Some(name)) => format!("{by} {name}"),
        (by, None) => by.to_owned(),
    };
    format!("{who}, which has not seen entry {from}: {bytes} bytes from there on")
}

fn by(by: &PinnedBy) -> (&'static str, Option<&str>) {
    match by {
        PinnedBy::Cursor(name) => ("cursor", Some(name)),
        PinnedBy::Watcher => ("watcher", None),
        PinnedBy::Backup => ("backup", None),
        PinnedBy::Bootstrap => ("bootstrap", None),
        // A later library's.
        _ => ("other", None),
    }
}

fn retire(path: &Path, name: &str) -> String {
    format!("esker cursor retire {} {}", path_of(path), quoted(name))
}

fn path_of(path: &Path) -> String {
    quoted(&path.display().to_string())
}
