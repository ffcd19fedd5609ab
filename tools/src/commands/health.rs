//! `check`: the health of a whole store in one line, for what watches.

mod places;
mod plane;

use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;
use esker::dump::{SegmentInfo, SegmentState};
use esker::{Check, CursorInfo, ErrorKind, Severity, Verification};
use places::Places;
use plane::OnPlane;
use serde::Serialize;
use serde_json::json;

use super::cursors::{Over, excesses};
use super::plane::now;
use crate::args::{self, Limits};
use crate::outcome::{Outcome, text_of};
use crate::output::{Output, count_of};
use crate::progress::busy_with;
use crate::span::Span;
use crate::store::{self, Opened};
use crate::typed::{on, reset_of};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    store: args::Store,
    #[command(flatten)]
    limits: Limits,
    /// Headers, the manifest, derived files' checksums, and the end of the log (the default)
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Every frame
    #[arg(long)]
    full: bool,
    /// Bytes that should be free on the store's file system [default: two segments]
    #[arg(long, value_name = "N", value_parser = crate::size::bytes)]
    min_free: Option<u64>,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl Args {
    fn check(&self) -> &'static str {
        if self.full { "full" } else { "quick" }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One line for a person
    Text,
    /// A line of a monitoring plugin, with performance data
    Nagios,
    /// JSON lines
    Json,
    /// The text exposition format 0.0.4
    Prometheus,
}

/// How bad a trouble is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Gravity {
    Warning,
    Critical,
}

/// One thing that is not as it should be.
#[derive(Debug, Serialize)]
struct Trouble {
    gravity: Gravity,
    /// `damage`, `derived`, `unread`, `tail`, `cursor`, `fold`, `consumer` or `space`.
    about: &'static str,
    what: String,
    /// The command to run.
    next: String,
}

/// What was looked at.
#[derive(Debug, Default, Serialize)]
struct Numbers {
    /// `quick` or `full`: whether the frames were read.
    check: &'static str,
    entries: u64,
    file_bytes: u64,
    free_bytes: u64,
    unfinished_bytes: u64,
    damaged: u64,
    derived: u64,
    lost_cursors: u64,
    cursors: u64,
    max_lag: u64,
    max_age_seconds: u64,
    max_held_bytes: u64,
    #[serde(flatten)]
    plane: OnPlane,
}

pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Outcome> {
    if args.format == Format::Json {
        output.use_json();
    }
    let is_nagios = args.format == Format::Nagios && !output.is_json();
    let (numbers, troubles) = match look(args, output) {
        Err(error) if is_corruption(&error) => unreadable(&error, args),
        Err(error) if is_nagios => {
            output.line(&unknown(&text_of(&error)))?;
            return Ok(Outcome::Plugin(3));
        }
        looked => looked?,
    };
    // The worst comes first; of equals, the order in which they were found.
    let worst = troubles.iter().rev().max_by_key(|trouble| trouble.gravity);
    match args.format {
        _ if output.is_json() => print_json(&numbers, &troubles, worst, output)?,
        Format::Nagios => {
            output.line(&nagios(&args.limits, &numbers, &troubles, worst))?;
            return Ok(Outcome::Plugin(worst.map_or(0, |worst| 1 + worst.gravity as u8)));
        }
        Format::Prometheus => {
            let gravity = worst.map_or(0, |worst| 1 + worst.gravity as u8);
            metrics(&numbers, &troubles, gravity).iter().try_for_each(|line| output.line(line))?;
        }
        _ => output.line(&text(&numbers, &troubles, worst))?,
    }
    Ok(Outcome::of_findings(troubles.len() as u64))
}

fn is_corruption(error: &anyhow::Error) -> bool {
    error.downcast_ref::<esker::Error>().is_some_and(esker::Error::is_corruption)
}

/// True where what was to be read is not there any more.
pub(crate) fn is_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<esker::Error>().is_some_and(|error| error.kind() == ErrorKind::Compacted)
}

/// A store that is too damaged to be looked at: that is an answer, too.
fn unreadable(error: &anyhow::Error, args: &Args) -> (Numbers, Vec<Trouble>) {
    let path = &args.store.path;
    let trouble = Trouble {
        gravity: Gravity::Critical,
        about: "damage",
        what: text_of(error),
        next: on("verify", path),
    };
    let free_bytes = free_bytes(path).unwrap_or(0);
    (Numbers { check: args.check(), free_bytes, damaged: 1, ..Numbers::default() }, vec![trouble])
}

fn look(args: &Args, output: &mut Output) -> Result<(Numbers, Vec<Trouble>)> {
    let path = &args.store.path;
    let opened = match store::look(path) {
        Ok(opened) => opened,
        Err(error) => {
            if is_corruption(&error) {
                output.header("check", &json!({ "path": path.display().to_string() }))?;
            }
            return Err(error);
        }
    };
    output.header("check", &opened.description())?;
    if args.format == Format::Text && !output.is_json() {
        opened.note_live();
    }
    match look_into(args, &opened) {
        // Nobody has written it anew: a file that the manifest names is not there.
        Err(error) if is_gone(&error) && opened.writer.is_none() => Ok(unreadable(&error, args)),
        looked => looked,
    }
}

fn look_into(args: &Args, opened: &Opened) -> Result<(Numbers, Vec<Trouble>)> {
    let path = &args.store.path;
    let check = if args.full { Check::Full } else { Check::Quick };
    let verification = busy_with("verifying", None, |shown| esker::verify_while(path, check, shown))?;
    let segments = opened.segments()?;
    let (cursors, unread) = match opened.reader.cursors() {
        Err(error) if error.is_corruption() => (Vec::new(), Some(error.to_string())),
        cursors => (cursors?, None),
    };
    let now = now();
    let mut places = Places::of(&verification, opened, &segments);
    let (on_plane, of_plane) = plane::look(opened, args.limits, now, &mut places)?;
    let mut troubles = of_verification(&verification, &places, path);
    troubles.extend(unread.map(|what| Trouble {
        gravity: Gravity::Critical,
        about: "cursor",
        what: format!("the cursors cannot be read: {what}"),
        next: on("verify", path),
    }));
    let unfinished = opened.survey.unfinished()?;
    troubles.extend(of_tail(opened, unfinished, path));
    for cursor in &cursors {
        troubles.extend(of_cursor(cursor, args.limits, now, opened, path));
    }
    troubles.extend(of_plane);
    let free = free_bytes(path)?;
    troubles.extend(of_space(args, opened, &segments, free));
    troubles.extend(of_missing(opened, &segments, &verification, path));
    let age = |cursor: &CursorInfo| cursor.next_time.map_or(0, |time| Span::between(time, now).0.as_secs());
    let count = |severity| verification.findings.iter().filter(|one| one.severity == severity).count() as u64;
    let numbers = Numbers {
        check: args.check(),
        entries: segments.iter().map(|segment| segment.entries).sum(),
        file_bytes: segments.iter().map(|segment| segment.file_bytes).sum(),
        free_bytes: free,
        unfinished_bytes: unfinished,
        damaged: places.count,
        derived: count(Severity::Derived),
        lost_cursors: cursors.iter().filter(|cursor| cursor.lost).count() as u64,
        cursors: cursors.len() as u64,
        max_lag: cursors.iter().map(|cursor| cursor.behind).max().unwrap_or(0),
        max_age_seconds: cursors.iter().map(age).max().and_then(|age| u64::try_from(age).ok()).unwrap_or(0),
        max_held_bytes: cursors.iter().map(|cursor| cursor.held_bytes).max().unwrap_or(0),
        plane: on_plane,
    };
    Ok((numbers, troubles))
}

fn of_verification(verification: &Verification, places: &Places, path: &Path) -> Vec<Trouble> {
    let next = on("verify", path);
    let trouble = |first: &str, count: u64, gravity, about| {
        let more = match count {
            0 | 1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        Trouble { gravity, about, what: format!("{first}{more}"), next: next.clone() }
    };
    let of_severity = |severity, gravity, about| {
        let mut findings = verification.findings.iter().filter(|finding| finding.severity == severity);
        let first = findings.next()?.to_string();
        Some(trouble(&first, 1 + findings.count() as u64, gravity, about))
    };
    let damage = places.first.as_ref();
    let troubles = [
        damage.map(|first| trouble(first, places.count, Gravity::Critical, "damage")),
        of_severity(Severity::Unread, Gravity::Critical, "unread"),
        of_severity(Severity::Derived, Gravity::Warning, "derived"),
    ];
    troubles.into_iter().flatten().collect()
}

/// What a crash left: harmless, and worth knowing where nobody writes the store any more.
fn of_tail(opened: &Opened, unfinished: u64, path: &Path) -> Option<Trouble> {
    let is_left = unfinished > 0 && opened.writer.is_none() && !opened.reader.is_backup();
    is_left.then(|| Trouble {
        gravity: Gravity::Warning,
        about: "tail",
        what: format!(
            "{unfinished} bytes behind {} are unfinished, and nobody writes the store",
            opened.survey.end()
        ),
        next: format!("start what writes it, which cuts them off; {}", on("info", path)),
    })
}

fn of_cursor(cursor: &CursorInfo, limits: Limits, now: i64, opened: &Opened, path: &Path) -> Option<Trouble> {
    let age = cursor.next_time.map(|time| Span::between(time, now));
    let era = opened.reader.era();
    let mut what: Vec<String> = Vec::new();
    let is_lost = cursor.lost || cursor.era != era;
    if cursor.lost {
        what.push("lost: compaction went past it".to_owned());
    }
    if cursor.era != era {
        what.push(format!("of era {}, where the store is of era {era}", cursor.era));
    }
    let over = excesses(cursor, age, limits, era).into_iter();
    // Being lost is said already.
    what.extend(over.filter(|(over, _)| !matches!(over, Over::Era | Over::Lost)).map(|(_, text)| text));
    if what.is_empty() {
        return None;
    }
    let next = match is_lost {
        true => reset_of(cursor, path),
        false => on("cursors", path),
    };
    let gravity = if is_lost { Gravity::Critical } else { Gravity::Warning };
    Some(Trouble {
        gravity,
        about: "cursor",
        what: format!("cursor {:?} {}", cursor.name, what.join("; ")),
        next,
    })
}

/// Bytes that whoever writes the store may still take.
fn free_bytes(path: &Path) -> Result<u64> {
    let space = rustix::fs::statvfs(path).map_err(std::io::Error::from)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

fn of_space(args: &Args, opened: &Opened, segments: &[SegmentInfo], free: u64) -> Option<Trouble> {
    let longest = segments.iter().map(|segment| segment.file_bytes).max().unwrap_or(0);
    let least = args.min_free.unwrap_or(longest.saturating_mul(2));
    (free < least).then(|| Trouble {
        gravity: Gravity::Critical,
        about: "space",
        what: format!("{free} bytes are free on the file system of the store, under {least}"),
        next: match opened.reader.is_backup() {
            true => "make room on the file system: nobody writes a backup, and nothing in it is compacted"
                .to_owned(),
            false => on("compact", opened.reader.path()),
        },
    })
}

/// Sealed segments without an index are read whole to be opened. The writer of a live store may be about to
/// write it.
fn of_missing(
    opened: &Opened,
    segments: &[SegmentInfo],
    verification: &Verification,
    path: &Path,
) -> Option<Trouble> {
    if opened.writer.is_some() || opened.reader.is_backup() {
        return None;
    }
    let is_without = |segment: &&SegmentInfo| {
        let has_one = matches!(segment.state, SegmentState::Sealed | SegmentState::Full | SegmentState::Part);
        has_one && !segment.indexed && !places::is_told_of_index(verification, segment)
    };
    let mut without = segments.iter().filter(is_without);
    let first = without.next()?;
    let more = match without.count() {
        0 => String::new(),
        more => format!(", and {more} more have none"),
    };
    Some(Trouble {
        gravity: Gravity::Warning,
        about: "derived",
        what: format!("there is no index of {}, which is read whole to be opened{more}", first.name),
        next: format!("start what writes it, which makes them anew; {}", on("segments", path)),
    })
}

fn print_json(
    numbers: &Numbers,
    troubles: &[Trouble],
    worst: Option<&Trouble>,
    output: &mut Output,
) -> Result<()> {
    for trouble in troubles {
        output.typed("trouble", trouble)?;
    }
    let mut summary = serde_json::to_value(numbers)?;
    if let Some(fields) = summary.as_object_mut() {
        fields.insert("health".to_owned(), worst.map_or("ok".into(), |worst| json!(worst.gravity)));
        fields.insert("findings".to_owned(), troubles.len().into());
        fields.insert("worst".to_owned(), worst.map(|worst| worst.what.clone()).into());
        fields.insert("next".to_owned(), worst.map(|worst| worst.next.clone()).into());
    }
    output.typed("summary", &summary)?;
    Ok(())
}

fn word(worst: Option<&Trouble>) -> &'static str {
    match worst.map(|worst| worst.gravity) {
        None => "OK",
        Some(Gravity::Warning) => "WARNING",
        Some(Gravity::Critical) => "CRITICAL",
    }
}

/// The line without what stands before and behind it.
fn sentence(numbers: &Numbers, troubles: &[Trouble], worst: Option<&Trouble>) -> String {
    let Some(worst) = worst else {
        let Numbers { entries, file_bytes, cursors, max_lag, check, plane, .. } = numbers;
        let consumers = match plane.consumers {
            0 => String::new(),
            count => format!(
                "; {}, at most {} behind",
                count_of(count, "consumer"),
                count_of(plane.max_consumer_lag, "record")
            ),
        };
        let how = if *check == "quick" { "quick: frames were not read; --full reads them" } else { "full" };
        return format!(
            "{} in {file_bytes} bytes; {}, at most {} behind{consumers} ({how})",
            count_of(*entries, "entry"),
            count_of(*cursors, "cursor"),
            count_of(*max_lag, "entry")
        );
    };
    let more = match troubles.len() {
        0 | 1 => String::new(),
        count => format!(" (the worst of {count})"),
    };
    format!("{}{more}; next: {}", worst.what, worst.next)
}

fn text(numbers: &Numbers, troubles: &[Trouble], worst: Option<&Trouble>) -> String {
    let line = sentence(numbers, troubles, worst);
    esker::dump::one_line(&format!("{}: {line}", word(worst).to_lowercase()))
}

/// A line for a monitoring plugin, which ends where its performance data begins.
fn plugin_text(text: &str) -> String {
    esker::dump::one_line(text).replace('|', "/")
}

/// The line of a plugin that could not look.
pub(crate) fn unknown(why: &str) -> String {
    format!("ESKER UNKNOWN - {}", plugin_text(why))
}

fn nagios(limits: &Limits, numbers: &Numbers, troubles: &[Trouble], worst: Option<&Trouble>) -> String {
    let limit = |limit: Option<u64>| limit.map_or_else(String::new, |limit| limit.to_string());
    let age = limits.max_age.and_then(|age| u64::try_from(age.0.as_secs()).ok());
    let Numbers { entries, file_bytes, free_bytes, unfinished_bytes, damaged, lost_cursors, .. } = numbers;
    let Numbers { max_lag, max_age_seconds, max_held_bytes, .. } = numbers;
    format!(
        "ESKER {} - {} | damaged={damaged};;0;0 lost_cursors={lost_cursors};;0;0 lag={max_lag};{};;0 \
         age={max_age_seconds}s;{};;0 held={max_held_bytes}B;{};;0 unfinished={unfinished_bytes}B;0;;0 \
         entries={entries};;;0 size={file_bytes}B;;;0 free={free_bytes}B;;;0",
        word(worst),
        plugin_text(&sentence(numbers, troubles, worst)),
        limit(limits.max_lag),
        limit(age),
        limit(limits.max_bytes),
    )
}

/// How bad it is, and what was looked at: under names of their own, beside those of `stats`.
fn metrics(numbers: &Numbers, troubles: &[Trouble], gravity: u8) -> Vec<String> {
    let gauges = [
        ("health", "How bad the worst finding is: 0 ok, 1 warning, 2 critical", u64::from(gravity)),
        ("findings", "What is not as it should be", troubles.len() as u64),
        ("damaged_places", "Damage in the log and the manifest", numbers.damaged),
        ("derived_files_wrong", "Derived files that are not as they were written", numbers.derived),
        ("cursors_lost", "Cursors that compaction went past", numbers.lost_cursors),
        ("lag_entries_max", "Entries that the cursor furthest behind has not seen", numbers.max_lag),
        (
            "lag_seconds_max",
            "How long the next entry of a cursor has waited at most",
            numbers.max_age_seconds,
        ),
        ("held_bytes_max", "Bytes of log that one cursor holds back at most", numbers.max_held_bytes),
        ("folds_halted", "Folds over topics that cannot go on", numbers.plane.halted),
        (
            "consumers_stuck",
            "Consumers that halt, fail again and again, or have parked records",
            numbers.plane.stuck,
        ),
        ("consumer_parked_records", "Records that consumers have parked", numbers.plane.parked_records),
        ("consumers_suspended", "Consumers that gave up and wait for somebody", numbers.plane.suspended),
        (
            "consumer_lag_records_max",
            "Records that the consumer furthest behind has not done",
            numbers.plane.max_consumer_lag,
        ),
        ("unfinished_bytes", "Bytes behind the end of the log that are not zero", numbers.unfinished_bytes),
        ("free_bytes", "Bytes that are free on the file system of the store", numbers.free_bytes),
    ];
    let lines = gauges.iter().flat_map(|(name, help, value)| {
        [
            format!("# HELP esker_check_{name} {help}."),
            format!("# TYPE esker_check_{name} gauge"),
            format!("esker_check_{name} {value}"),
        ]
    });
    lines.collect()
}
