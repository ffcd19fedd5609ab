//! `stats`: a store in numbers, for a machine.

use anyhow::{Result, anyhow};
use esker::dump::EntityCount;
use esker::metrics::{Sample, prometheus};
use esker::{CursorInfo, Region};
use serde::Serialize;
use serde_json::json;

use super::info::Sums;
use super::listing::{note_if_in_memory, over_all};
use crate::args::{self, StatsFormat};
use crate::outcome::Outcome;
use crate::output::Output;
use crate::store;

/// Numbers about a store. Sizes are bytes.
#[derive(Debug, Serialize)]
struct Numbers {
    entries: u64,
    last_seq: u64,
    entities: u64,
    kinds: u64,
    batches: u64,
    payload_bytes: u64,
    log_bytes: u64,
    segment_file_bytes: u64,
    segments: u64,
    parts: u64,
    floor: u64,
    dropped: u64,
    unfinished_bytes: u64,
    last_write_seconds: u64,
    cursors: u64,
    cursors_lost: u64,
    live: u64,
    damaged: u64,
}

/// A cursor for JSON lines.
#[derive(Debug, Serialize)]
struct Pin<'a> {
    cursor: &'a str,
    held_bytes: u64,
}

impl Numbers {
    /// Each with its name here, and as a metric.
    fn named(&self) -> [(&'static str, &'static str, u64); 18] {
        [
            ("entries", "esker_entries", self.entries),
            ("last_seq", "esker_last_seq", self.last_seq),
            ("entities", "esker_entities", self.entities),
            ("kinds", "esker_kinds", self.kinds),
            ("batches", "esker_batches", self.batches),
            ("payload_bytes", "esker_payload_bytes", self.payload_bytes),
            ("log_bytes", "esker_log_bytes", self.log_bytes),
            ("segment_file_bytes", "esker_segment_file_bytes", self.segment_file_bytes),
            ("segments", "esker_segments", self.segments),
            ("parts", "esker_parts", self.parts),
            ("floor", "esker_floor", self.floor),
            ("dropped", "esker_dropped_entries", self.dropped),
            ("unfinished_bytes", "esker_unfinished_bytes", self.unfinished_bytes),
            ("last_write_seconds", "esker_last_append_timestamp_seconds", self.last_write_seconds),
            ("cursors", "esker_cursors", self.cursors),
            ("cursors_lost", "esker_cursors_lost", self.cursors_lost),
            ("live", "esker_live", self.live),
            ("damaged", "esker_damaged_places", self.damaged),
        ]
    }
}

pub(crate) fn stats(args: &args::Stats, output: &mut Output) -> Result<Outcome> {
    if args.format == StatsFormat::Json {
        output.use_json();
    }
    let opened = store::open(&args.store.path, "stats", output)?;
    let sums = Sums::of(&opened)?;
    let mut entities = EntityCount::of(&opened.reader);
    let (mut entries, mut batches, mut payload_bytes, mut last) = (0, 0, 0, 0);
    let damaged = over_all(&opened, output, |frame| {
        if frame.is_system() {
            return;
        }
        entries += 1;
        batches += u64::from(frame.batch == Some(frame.position));
        payload_bytes += frame.payload_bytes;
        last = frame.time;
        entities.see(frame);
    })?;
    note_if_in_memory(entities.takes_memory());
    let cursors = opened.reader.cursors()?;
    let numbers = Numbers {
        entries,
        last_seq: sums.last_seq.unwrap_or(0),
        entities: entities.count()?,
        kinds: opened.reader.kinds().len() as u64,
        batches,
        payload_bytes,
        log_bytes: sums.used,
        segment_file_bytes: sums.file,
        segments: sums.segments,
        parts: sums.parts,
        floor: opened.reader.view()?.floor(&Region::All).map_or(0, esker::Seq::get),
        dropped: sums.dropped(),
        unfinished_bytes: sums.unfinished,
        last_write_seconds: u64::try_from(last / 1_000_000_000).unwrap_or(0),
        cursors: cursors.len() as u64,
        cursors_lost: cursors.iter().filter(|cursor| cursor.lost).count() as u64,
        live: u64::from(opened.writer.is_some()),
        damaged,
    };
    if output.is_json() {
        output.typed("stats", &numbers)?;
        for cursor in &cursors {
            output.typed("pin", &Pin { cursor: &cursor.name, held_bytes: cursor.held_bytes })?;
        }
        output.typed("summary", &json!({ "damaged": damaged }))?;
    } else if args.format == StatsFormat::Prometheus {
        for line in prometheus(&samples(&numbers, &cursors)?).lines() {
            output.line(line)?;
        }
    } else {
        output.pairs(&numbers.named().map(|(name, _, value)| (name, value.to_string())))?;
    }
    Ok(Outcome::of_findings(damaged))
}

#[allow(clippy::cast_precision_loss, reason = "metrics are floats outside")]
fn samples(numbers: &Numbers, cursors: &[CursorInfo]) -> Result<Vec<Sample>> {
    let sample = |name: &str, labels, value: u64| {
        Sample::number(name, labels, value as f64).ok_or_else(|| anyhow!("there is no metric {name}"))
    };
    let all = numbers.named().map(|(_, name, value)| sample(name, Vec::new(), value));
    let pins = cursors
        .iter()
        .map(|cursor| sample("esker_cursor_pinned_bytes", vec![cursor.name.clone()], cursor.held_bytes));
    all.into_iter().chain(pins).collect()
}
