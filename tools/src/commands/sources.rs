//! `sources`: who may say what is true, what of it each asserts now, and when it wrote last.

use std::collections::BTreeMap;

use anyhow::Result;
use esker::dump::{FrameInfo, rfc3339};
use esker::{KindId, Owner, SESSIONS, SessionEnd, SessionEvent, SourceInfo, StoreView};
use serde::Serialize;
use serde_json::json;

use super::listing::{optional, over_all};
use super::state::report;
use crate::args;
use crate::outcome::Outcome;
use crate::output::Output;
use crate::store::{self, Opened};

/// What is counted of a source, by its number.
#[derive(Debug, Default)]
struct Sum {
    /// Who has the number, as far as the walk has come: one that was given up is another's then.
    name: Option<String>,
    live: u64,
    last: Option<(u64, i64)>,
    /// Of each kind with events, the first and the last operation of the epoch that its newest operations are of.
    epochs: BTreeMap<KindId, (u64, u64)>,
}

#[derive(Debug, Serialize)]
struct SourceLine {
    id: u8,
    name: String,
    /// How long it may be silent; `null`: for ever.
    deadline_ms: Option<u64>,
    settled: bool,
    /// Of a source with a deadline, what was told of its session last.
    session: Option<&'static str>,
    claimed: String,
    claimed_ns: String,
    live_entities: u64,
    last_seq: Option<u64>,
    last_write: Option<String>,
    last_write_ns: Option<String>,
    /// Epochs that may be open.
    epochs: Vec<EpochLine>,
}

#[derive(Debug, Serialize)]
struct EpochLine {
    kind: String,
    first_seq: u64,
    last_seq: u64,
}

pub(crate) fn sources(args: &args::Store, output: &mut Output) -> Result<Outcome> {
    let opened = store::open(&args.path, "sources", output)?;
    let mut sums: Vec<Sum> = Vec::new();
    sums.resize_with(esker::SOURCES_MAX, Sum::default);
    let mut damaged = over_all(&opened, output, |frame| see(&mut sums, frame))?;
    let view = StoreView::of(&opened.reader)?;
    damaged += count_rows(&opened, &view, &mut sums, output)?;
    let known = opened.reader.sources();
    let count = known.len();
    let mut rows = Vec::new();
    for (source, sum) in known.into_iter().filter_map(|source| {
        let sum = sums.get_mut(usize::from(source.id)).map(std::mem::take)?;
        Some((source, sum))
    }) {
        let line = line(&opened, &view, source, sum);
        if output.is_json() {
            output.typed("source", &line)?;
        } else {
            rows.push(cells(line));
        }
    }
    let heading = [
        "id",
        "name",
        "deadline",
        "settled",
        "session",
        "live entities",
        "last",
        "last write",
        "epochs",
        "claimed",
    ];
    output.table(&heading, rows)?;
    if output.is_json() {
        output.typed("summary", &json!({ "sources": count, "damaged": damaged }))?;
    }
    Ok(Outcome::of_findings(damaged))
}

/// Takes note of what a source said, and of who has a number from here on.
fn see(sums: &mut [Sum], frame: &FrameInfo) {
    if let Some(source) = frame.source_info() {
        let Some(sum) = sums.get_mut(usize::from(source.id)) else { return };
        if sum.name.as_ref().is_some_and(|name| *name != source.name) {
            *sum = Sum::default();
        }
        sum.name = Some(source.name);
        return;
    }
    let (Some(kind), Some(sum)) = (frame.kind, sums.get_mut(usize::from(frame.source))) else { return };
    let is_operation = frame.event_operation().is_some();
    // What the end of an epoch takes back nobody said; of a row it cannot be told.
    if frame.row_operation().is_some() || is_operation && !frame.is_synthetic() {
        sum.last = Some((frame.seq, frame.time));
    }
    if !is_operation {
        return;
    }
    if frame.is_in_epoch() && !frame.is_synthetic() {
        sum.epochs.entry(kind).or_insert((frame.seq, frame.seq)).1 = frame.seq;
    } else {
        // All that a source says of a kind while it has an epoch open is of that.
        sum.epochs.remove(&kind);
    }
}

/// Counts the rows that each source asserts; answers how many places cannot be read that were not told of.
fn count_rows(opened: &Opened, view: &StoreView, sums: &mut [Sum], output: &mut Output) -> Result<u64> {
    let mut damaged = 0;
    for kind in opened.reader.kinds().iter().filter(|kind| kind.owner == Owner::State) {
        let mut rows = view.row_entries(&kind.name)?;
        loop {
            let row = match rows.next_entry() {
                Ok(None) => break,
                Ok(Some(row)) => FrameInfo::of_entry(&row).row,
                Err(error) if error.is_corruption() => {
                    if opened.tells_of(&error) {
                        damaged += 1;
                        report(&error, output)?;
                    }
                    if error.seqs().is_none() {
                        break;
                    }
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let asserting = row.map_or(0, |row| row.sources);
            for (id, sum) in (0..64).zip(&mut *sums) {
                sum.live += asserting >> id & 1;
            }
        }
    }
    Ok(damaged)
}

fn line(opened: &Opened, view: &StoreView, source: SourceInfo, sum: Sum) -> SourceLine {
    let millis = |deadline: std::time::Duration| u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
    // An epoch is known to the process that has it: with that it ends.
    let epochs = if opened.writer.is_some() { sum.epochs } else { BTreeMap::new() };
    let epoch = |(kind, (first_seq, last_seq))| {
        let kind = opened.dump.kind_name(kind);
        let kind = kind.strip_prefix("esker.events.").map(str::to_owned).unwrap_or(kind);
        EpochLine { kind, first_seq, last_seq }
    };
    SourceLine {
        id: source.id,
        deadline_ms: source.liveness.deadline().map(millis),
        settled: source.settled,
        session: session(view, &source.name),
        claimed: rfc3339(source.claimed),
        claimed_ns: source.claimed.to_string(),
        name: source.name,
        live_entities: sum.live,
        last_seq: sum.last.map(|(seq, _)| seq),
        last_write: sum.last.map(|(_, time)| rfc3339(time)),
        last_write_ns: sum.last.map(|(_, time)| time.to_string()),
        epochs: epochs.into_iter().map(epoch).collect(),
    }
}

/// What was told last of the session of a source: only of those that have a deadline something is.
fn session(view: &StoreView, source: &str) -> Option<&'static str> {
    // One that cannot be read says nothing; damage was told already.
    let newest = view.latest(SESSIONS, source).ok()??.value().ok()?;
    Some(match newest {
        SessionEvent::Begun { .. } => "begun",
        SessionEvent::Ended { because: SessionEnd::Dropped, .. } => "dropped",
        SessionEvent::Ended { because: SessionEnd::Closed, .. } => "closed",
        SessionEvent::Ended { because: SessionEnd::Deadline, .. } => "deadline",
        // A later library's.
        _ => "other",
    })
}

fn cells(line: SourceLine) -> Vec<String> {
    let epochs: Vec<String> = line
        .epochs
        .iter()
        .map(|epoch| format!("{} {}", epoch.kind, store::seqs(epoch.first_seq, epoch.last_seq)))
        .collect();
    let deadline = line.deadline_ms.map(|millis| format!("{:?}", std::time::Duration::from_millis(millis)));
    vec![
        line.id.to_string(),
        line.name,
        deadline.unwrap_or_else(|| "none".to_owned()),
        if line.settled { "yes" } else { "no" }.to_owned(),
        line.session.unwrap_or("-").to_owned(),
        line.live_entities.to_string(),
        optional(line.last_seq),
        line.last_write.unwrap_or_else(|| "-".to_owned()),
        if epochs.is_empty() { "-".to_owned() } else { epochs.join(",") },
        line.claimed,
    ]
}
