//! `segments`, `kinds`, `entities`: lists that are counted over the whole log.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use esker::dump::{
    EntityOrder, EntitySum, EntityTally, FrameInfo, Lent, Payload, SegmentState, Value, key_text, rfc3339,
};
use esker::{Codec, Keep, KindId, Owner, Region, Seq, View};
use serde::Serialize;
use serde_json::json;

use super::keep::word;
use crate::args::{self, Sort};
use crate::outcome::Outcome;
use crate::output::{self, Output};
use crate::progress::{busy, busy_with};
use crate::rows::Rows;
use crate::store::{self, Opened};
use crate::typed::on;

const SEGMENTS: &[&str] = &[
    "segment",
    "state",
    "stands for",
    "first",
    "last",
    "entries",
    "used",
    "file",
    "indexed",
    "follows",
    "created",
];

pub(crate) fn segments(args: &args::Store, output: &mut Output) -> Result<Outcome> {
    let opened = store::open(&args.path, "segments", output)?;
    let (mut rows, mut damaged, mut entries, mut used, mut file) = (Rows::under(SEGMENTS), 0, 0, 0, 0);
    let segments = busy("counting", || opened.segments())?;
    let at_end = opened.damage_beside(&segments);
    let is_torn = segments.iter().any(|segment| segment.state == SegmentState::Torn);
    for segment in segments {
        damaged += segment.damaged;
        entries += segment.entries;
        used += segment.bytes_used;
        file += segment.file_bytes;
        if output.is_json() {
            output.typed("segment", &segment)?;
            continue;
        }
        let row = vec![
            segment.name,
            segment.state.to_string(),
            segment.stands_for.map_or_else(
                || "-".to_owned(),
                |for_| store::seqs(for_.first_segment.into(), for_.last_segment.into()),
            ),
            optional(segment.first_seq),
            optional(segment.last_seq),
            segment.entries.to_string(),
            segment.bytes_used.to_string(),
            segment.file_bytes.to_string(),
            if segment.indexed { "yes" } else { "no" }.to_owned(),
            segment.follows.unwrap_or_else(|| "-".to_owned()),
            segment.created.unwrap_or_else(|| "-".to_owned()),
        ];
        rows.push(row, output)?;
    }
    let count = rows.count;
    rows.end(output)?;
    if damaged > 0 && !output.is_json() {
        crate::output::finding(&format!(
            "{} in {}; `{}` names them",
            crate::output::count_of(damaged, "place"),
            crate::output::count_of(count, "segment"),
            on("verify", &args.path)
        ));
    }
    if is_torn && !output.is_json() {
        output::note(&format!(
            "torn is no damage: a crash ended the segment, and the log went on in another; `{} explain torn`",
            output::name()
        ));
    }
    opened.report_damage_at_end(output)?;
    let damaged = damaged + at_end;
    if output.is_json() {
        let summary =
            json!({ "entries": entries, "bytes_used": used, "file_bytes": file, "damaged": damaged });
        output.typed("summary", &summary)?;
    }
    Ok(Outcome::of_findings(damaged))
}

/// A number, or a dash where there is none.
pub(crate) fn optional(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

/// Shows every whole entry, without metadata and payload, and every registration to `see`; answers how much damage was
/// met.
pub(crate) fn over_all(opened: &Opened, output: &mut Output, mut see: impl FnMut(&FrameInfo)) -> Result<u64> {
    let damaged = busy_with("reading", None, |shown| -> Result<u64> {
        let mut damaged = 0;
        shown.expect(opened.bytes_of_log());
        let mut frames = opened.survey.frames().heads();
        while let Some(item) = frames.lend() {
            match item? {
                Lent::Frame(frame) => {
                    shown.add(frame.frame_bytes);
                    if frame.body_good {
                        see(frame);
                        continue;
                    }
                    damaged += 1;
                    opened.tells((frame.position.segment(), frame.position.offset()));
                    super::dump::report_content(frame, output)?;
                }
                Lent::Damage(damage) => {
                    damaged += 1;
                    opened.tells((damage.segment, damage.offset));
                    store::report(&damage, output)?;
                }
            }
        }
        Ok(damaged)
    })?;
    Ok(damaged + opened.report_damage_at_end(output)?)
}

/// What is counted of a kind.
#[derive(Debug, Default)]
struct KindSum {
    versions: BTreeSet<u16>,
    entries: u64,
    bytes: u64,
    last: Option<(u64, i64)>,
    /// Of a kind of live state, the newest row that is no deletion.
    newest_row: Option<u64>,
}

#[derive(Debug, Serialize)]
struct KindLine {
    id: u16,
    kind: String,
    versions: Vec<u16>,
    codec: Option<Codec>,
    owner: Option<Owner>,
    keep: Option<Keep>,
    /// From here on every entry of it is there; `null`: nothing was dropped.
    floor: Option<Seq>,
    fields: Vec<String>,
    entries: u64,
    bytes: u64,
    last_write: Option<String>,
    last_write_ns: Option<String>,
    last_seq: Option<u64>,
    /// Of a kind of live state, the fields as its newest row has them, each with the type of its value.
    types: Option<serde_json::Map<String, serde_json::Value>>,
}

pub(crate) fn kinds(args: &args::Store, output: &mut Output) -> Result<Outcome> {
    let opened = store::open(&args.path, "kinds", output)?;
    let mut sums: BTreeMap<KindId, KindSum> = BTreeMap::new();
    for kind in opened.reader.kinds() {
        sums.entry(kind.id).or_default().versions.insert(kind.version);
    }
    let damaged = over_all(&opened, output, |frame| {
        let Some(kind) = frame.kind else { return };
        let sum = sums.entry(kind).or_default();
        sum.versions.extend(frame.schema_version);
        sum.entries += 1;
        sum.bytes += frame.frame_bytes;
        sum.last = Some((frame.seq, frame.time));
        if frame.row_operation().is_some() && !frame.tombstone {
            sum.newest_row = Some(frame.seq);
        }
    })?;
    let count = sums.len();
    let view = opened.reader.view()?;
    let mut rows = Vec::new();
    for (id, sum) in sums {
        let info = opened.dump.kind(id);
        let line = KindLine {
            id: id.get(),
            kind: opened.dump.kind_name(id),
            versions: sum.versions.into_iter().collect(),
            codec: info.map(|info| info.codec),
            owner: info.map(|info| info.owner),
            keep: info.map(|info| info.keep),
            floor: view.floor(&Region::Kind(id)),
            fields: info.map(|info| info.fields.clone()).unwrap_or_default(),
            entries: sum.entries,
            bytes: sum.bytes,
            last_write: sum.last.map(|(_, time)| rfc3339(time)),
            last_write_ns: sum.last.map(|(_, time)| time.to_string()),
            last_seq: sum.last.map(|(seq, _)| seq),
            types: sum.newest_row.and_then(|row| types(&opened, &view, row)),
        };
        if output.is_json() {
            output.typed("kind", &line)?;
            continue;
        }
        let versions: Vec<String> = line.versions.iter().map(ToString::to_string).collect();
        rows.push(vec![
            line.kind,
            versions.join(","),
            line.codec.map_or_else(|| "-".to_owned(), |codec| format!("{codec:?}").to_lowercase()),
            line.owner.map_or_else(|| "-".to_owned(), |owner| format!("{owner:?}").to_lowercase()),
            line.keep.map_or("-", word).to_owned(),
            optional(line.floor.map(Seq::get)),
            line.entries.to_string(),
            line.bytes.to_string(),
            line.last_write.unwrap_or_else(|| "-".to_owned()),
            line.fields.join(","),
            optional(line.last_seq),
            line.types.map_or_else(|| "-".to_owned(), |types| text_of_types(&types)),
        ]);
    }
    output.table(
        &[
            "kind",
            "versions",
            "codec",
            "owner",
            "keeps",
            "whole from",
            "entries",
            "bytes",
            "last write",
            "fields",
            "last",
            "types",
        ],
        rows,
    )?;
    if output.is_json() {
        output.typed("summary", &json!({ "kinds": count, "damaged": damaged }))?;
    }
    Ok(Outcome::of_findings(damaged))
}

/// The types of a row's fields. The registry has their names only, and the application has their types: what the newest row
/// says is all that there is to go by.
fn types(opened: &Opened, view: &View, row: u64) -> Option<serde_json::Map<String, serde_json::Value>> {
    // One that cannot be read was told of.
    let entry = view.get(Seq::new(row)?).ok()??;
    let Payload::Value(Value::Map(fields)) = opened.dump.payload(&FrameInfo::of_entry(&entry)) else {
        return None;
    };
    let named = fields.into_iter().filter_map(|(name, value)| match name {
        Value::Text(name) => Some((name, value.type_name().into())),
        _ => None,
    });
    Some(named.collect())
}

fn text_of_types(types: &serde_json::Map<String, serde_json::Value>) -> String {
    let text =
        |(name, what): (&String, &serde_json::Value)| format!("{name}:{}", what.as_str().unwrap_or("-"));
    types.iter().map(text).collect::<Vec<_>>().join(",")
}

#[derive(Debug, Serialize)]
struct EntityLine {
    kind: String,
    key: String,
    entries: u64,
    bytes: u64,
    generation: u64,
    last_seq: u64,
    last_write: String,
    last_write_ns: String,
}

impl EntityLine {
    fn of(sum: &EntitySum, kind: String) -> Self {
        Self {
            kind,
            key: key_text(&sum.key),
            entries: sum.entries,
            bytes: sum.bytes,
            generation: sum.generation.map_or(0, u64::from),
            last_seq: sum.last_seq,
            last_write: rfc3339(sum.last_time),
            last_write_ns: sum.last_time.to_string(),
        }
    }

    fn row(self) -> Vec<String> {
        let Self { kind, key, entries, bytes, generation, last_seq, last_write, .. } = self;
        let numbers = [entries, bytes, generation, last_seq].map(|number| number.to_string());
        let [entries, bytes, generation, last_seq] = numbers;
        vec![format!("{kind}/{key}"), entries, bytes, generation, last_seq, last_write]
    }
}

const ENTITIES: &[&str] = &["entity", "entries", "bytes", "generation", "last", "last write"];

pub(crate) fn entities(args: &args::Entities, output: &mut Output) -> Result<Outcome> {
    let opened = store::open(&args.store.path, "entities", output)?;
    args.kind.iter().for_each(|kind| opened.note_unknown_kind(kind, ""));
    let is_wanted = |kind| {
        args.kind.as_ref().is_none_or(|pattern| pattern.matches_kind(&opened.dump.kind_name(kind), kind))
    };
    let mut tally = EntityTally::of(&opened.reader);
    let damaged = over_all(&opened, output, |frame| {
        if frame.kind.is_some_and(is_wanted) {
            tally.see(frame);
        }
    })?;
    let order = match args.sort {
        Sort::Events => EntityOrder::Entries,
        Sort::Bytes => EntityOrder::Bytes,
        Sort::Last => EntityOrder::Last,
    };
    note_if_in_memory(tally.takes_memory());
    let ranked = tally.ranked(order, args.top)?;
    let (count, mut rows) = (ranked.total(), Rows::under(ENTITIES));
    for sum in ranked {
        let sum = sum?;
        let line = EntityLine::of(&sum, opened.dump.kind_name(sum.kind));
        if output.is_json() {
            output.typed("entity", &line)?;
        } else {
            rows.push(line.row(), output)?;
        }
    }
    rows.end(output)?;
    if output.is_json() {
        output.typed("summary", &json!({ "entities": count, "damaged": damaged }))?;
    }
    Ok(Outcome::of_findings(damaged))
}

/// Says that a count of entities takes more memory than it should.
pub(super) fn note_if_in_memory(takes_memory: bool) {
    if takes_memory {
        output::note(
            "no directory for temporary files has room for what is known of the entities; TMPDIR names another one",
        );
    }
}
