//! `info`: a store summed up, for a person.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Result;
use esker::dump::{SegmentInfo, SegmentState, rfc3339};
use esker::{CursorInfo, Holder, Position, Reader, Region, SourceInfo};
use serde_json::json;

use super::listing::optional;
use crate::args;
use crate::outcome::Outcome;
use crate::output::{self, Output};
use crate::store::{self, Opened};
use crate::typed::path_of;

pub(crate) fn info(args: &args::Store, output: &mut Output) -> Result<Outcome> {
    let opened = store::open(&args.path, "info", output)?;
    let sums = Sums::of(&opened)?;
    opened.report_damage_at_end(output)?;
    let damaged = sums.damaged;
    let cursors = CursorSum::of(&opened)?;
    if output.is_json() {
        output.typed("store", &fields(&opened, &sums, &cursors)?)?;
        output.typed("summary", &json!({ "damaged": damaged }))?;
        return Ok(Outcome::of_findings(damaged));
    }
    output.pairs(&screen(&opened, &sums, &cursors, &sums.damage_text(&path_text(&opened)))?)?;
    Ok(Outcome::of_findings(damaged))
}

/// The screen for a page: the same names and values, and the damage that was looked for.
pub(crate) fn pairs(opened: &Opened, damage: &str) -> Result<Vec<(&'static str, String)>> {
    let sums = Sums::of(opened)?;
    screen(opened, &sums, &CursorSum::of(opened)?, damage)
}

fn path_text(opened: &Opened) -> String {
    path_of(opened.reader.path())
}

fn screen(
    opened: &Opened,
    sums: &Sums,
    cursors: &CursorSum,
    damage: &str,
) -> Result<Vec<(&'static str, String)>> {
    let reader = &opened.reader;
    let kinds: Vec<String> = reader.kinds().iter().map(|kind| kind.name.clone()).collect();
    let range = match (sums.first_seq, sums.last_seq) {
        (Some(first), Some(last)) => store::seqs(first, last),
        _ => "none".to_owned(),
    };
    let mut pairs = vec![
        ("path", reader.path().display().to_string()),
        ("store", reader.store_id().to_string()),
        ("format", esker::dump::FORMAT_VERSION.to_string()),
        ("era", reader.era().to_string()),
        ("created", rfc3339(reader.created())),
        ("writer", writer(opened)),
        ("end", end(opened, sums)),
        ("seq", range),
        ("entries", sums.entries.to_string()),
        ("entities", reader.entity_count().to_string()),
        ("kinds", format!("{} ({})", kinds.len(), kinds.join(", "))),
        ("sources", sources_text(reader)),
        ("cursors", cursors.text()),
        ("backplane", plane_text(reader)),
        ("floor", sums.floor_text(opened)?),
        ("held back by", cursors.holding_text(sums)),
        ("segments", sums.segments_text()),
        ("bytes", Space::of(opened)?.text(sums)),
        ("damage", damage.to_owned()),
    ];
    pairs.retain(|(name, _)| *name != "cursors" || cursors.count > 0);
    pairs.retain(|(name, value)| {
        !matches!(*name, "sources" | "backplane" | "floor" | "held back by") || !value.is_empty()
    });
    Ok(pairs)
}

/// What stands on the backplane, as far as the kinds tell: how much of it takes a walk, which others do.
const ON_THE_PLANE: [(&str, &str); 4] = [
    ("esker.images", "images of folds (esker topics)"),
    ("esker.cells", "cells (esker cells, esker consumers)"),
    ("esker.parked", "parked records (esker consumer parked)"),
    ("esker.dead", "dead letters (esker consumer dead)"),
];

fn on_the_plane(reader: &Reader) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
    ON_THE_PLANE.into_iter().filter(|(kind, _)| reader.kind_named(kind).is_some())
}

fn plane_text(reader: &Reader) -> String {
    on_the_plane(reader).map(|(_, what)| what).collect::<Vec<_>>().join(", ")
}

/// Who asserts live state, by number.
fn sources_text(reader: &Reader) -> String {
    let sources = reader.sources();
    let deadline = |source: &SourceInfo| match source.liveness.deadline() {
        Some(deadline) if source.settled => format!(", deadline {deadline:?}, settled"),
        Some(deadline) => format!(", deadline {deadline:?}"),
        None => String::new(),
    };
    let named: Vec<String> =
        sources.iter().map(|source| format!("{} {}{}", source.id, source.name, deadline(source))).collect();
    if named.is_empty() { String::new() } else { format!("{} ({})", named.len(), named.join(", ")) }
}

/// The same for a machine.
fn fields(opened: &Opened, sums: &Sums, cursors: &CursorSum) -> Result<serde_json::Value> {
    let reader = &opened.reader;
    let space = Space::of(opened)?;
    let kinds: Vec<String> = reader.kinds().iter().map(|kind| kind.name.clone()).collect();
    Ok(json!({
        "store": reader.store_id().to_string(),
        "format": esker::dump::FORMAT_VERSION,
        "era": reader.era().to_string(),
        "backup": reader.is_backup(),
        "created": rfc3339(reader.created()),
        "created_ns": reader.created().to_string(),
        "first_seq": sums.first_seq,
        "last_seq": sums.last_seq,
        "entries": sums.entries,
        "entities": reader.entity_count(),
        "kinds": kinds,
        "backplane": on_the_plane(reader).map(|(kind, _)| kind).collect::<Vec<_>>(),
        "sources": reader.sources().into_iter().map(|source| source.name).collect::<Vec<_>>(),
        "cursors": cursors.count,
        "furthest_cursor": cursors.furthest.as_ref().map(|cursor| json!({
            "name": cursor.name,
            "behind": cursor.behind,
            "held_bytes": cursor.held_bytes,
        })),
        "segments": sums.segments,
        "missing_segments": sums.missing.iter().map(|missing| missing.number).collect::<Vec<_>>(),
        "log_bytes": sums.used,
        "file_bytes": sums.file,
        "disk_bytes": space.disk,
        "reserve_bytes": space.reserve,
        "end": opened.survey.end().to_string(),
        "durable": durable(opened).map(|durable| durable.to_string()),
        "writer": reader.last_writer().as_ref().map(store::holder),
        "clean": reader.recovery().clean,
        "unfinished_bytes": sums.unfinished,
        "floor": reader.view()?.floor(&Region::All),
        "dropped": sums.dropped(),
        "parts": sums.parts,
        "lost_cursors": cursors.lost,
        "held_back_by": cursors.holding(sums).map(|cursor| json!({
            "name": cursor.name,
            "from": cursor.next,
            "behind": cursor.behind,
            "bytes": cursor.held_bytes,
        })),
    }))
}

/// How far the log is durable, no further than this look at it goes: the writer went on meanwhile.
fn durable(opened: &Opened) -> Option<Position> {
    opened.reader.durable().map(|durable| durable.min(opened.survey.end()))
}

fn writer(opened: &Opened) -> String {
    if opened.reader.is_backup() {
        return "none: a backup, to be written once it is restored".to_owned();
    }
    match (opened.writer, opened.reader.last_writer()) {
        (Some(pid), Some(Holder { host, since, .. })) => {
            format!("live, writer pid {pid} on {host} since {}", rfc3339(since))
        }
        (Some(pid), None) => format!("live, writer pid {pid}"),
        (None, Some(Holder { pid, host, since, .. })) => {
            format!("none; the last one was pid {pid} on {host}, at {}", rfc3339(since))
        }
        (None, None) => "none".to_owned(),
    }
}

fn end(opened: &Opened, sums: &Sums) -> String {
    let how = match (opened.writer, sums.unfinished, opened.reader.recovery().clean) {
        (Some(_), 0, _) => "in use".to_owned(),
        (Some(_), bytes, _) => {
            format!("in use; {bytes} bytes behind the end are in progress or newer than this look")
        }
        (None, _, true) => "closed in order".to_owned(),
        (None, 0, false) => "not closed in order; nothing is torn".to_owned(),
        (None, bytes, false) => format!("not closed in order; {bytes} bytes behind the end are torn off"),
    };
    let durable = durable(opened).map(|durable| format!(", durable to {durable}")).unwrap_or_default();
    format!("{}{durable}; {how}", opened.survey.end())
}

/// What a store takes of the disk.
#[derive(Debug)]
struct Space {
    /// What its segments and parts have of the disk: they are made ahead of what is written, and may have holes.
    disk: u64,
    /// What is kept for the day on which the disk is full; none where there is none.
    reserve: Option<u64>,
}

impl Space {
    fn of(opened: &Opened) -> Result<Self> {
        let mut space = Self { disk: 0, reserve: None };
        for file in std::fs::read_dir(opened.reader.path())? {
            let file = file?;
            // Others remove what they do not need any more meanwhile.
            let Ok(about) = file.metadata() else { continue };
            let name = file.file_name();
            if Path::new(&name).extension().is_some_and(|end| end == "seg" || end == "snap") {
                space.disk += about.blocks() * BLOCK_BYTES;
            }
            if name == "RESERVE" {
                space.reserve = Some(about.len());
            }
        }
        Ok(space)
    }

    fn text(&self, sums: &Sums) -> String {
        let reserve = self.reserve.map_or_else(String::new, |bytes| {
            format!("; RESERVE keeps {bytes} for the day on which the disk is full")
        });
        let (used, file) = (sums.used, sums.file);
        let disk = match self.disk {
            disk if disk < file => format!(", of which {disk} are on the disk"),
            _ => String::new(),
        };
        format!("{used} of log in {file} of segment files{disk}{reserve}")
    }
}

/// What `st_blocks` counts in.
const BLOCK_BYTES: u64 = 512;

/// How many cursors there are, and the one that is furthest behind.
#[derive(Debug)]
struct CursorSum {
    count: usize,
    lost: usize,
    furthest: Option<CursorInfo>,
    /// The one that has not seen the oldest entry.
    last: Option<CursorInfo>,
}

impl CursorSum {
    /// Reads what they have not seen, and nothing where there are none.
    fn of(opened: &Opened) -> Result<Self> {
        let cursors = match opened.reader.cursors() {
            // The screen is about more than that.
            Err(error) if error.is_corruption() => {
                output::finding(&error.to_string());
                Vec::new()
            }
            other => other?,
        };
        let count = cursors.len();
        let lost = cursors.iter().filter(|cursor| cursor.lost).count();
        let holding = cursors.iter().filter(|cursor| !cursor.lost && cursor.next.is_some());
        let last = holding.min_by_key(|cursor| cursor.next).cloned();
        // Of equals the last one is found, so that they are looked at from behind.
        let furthest = cursors.into_iter().rev().max_by_key(|cursor| (cursor.behind, cursor.held_bytes));
        Ok(Self { count, lost, furthest: furthest.filter(|cursor| cursor.behind > 0), last })
    }

    /// The cursor without which compaction could go further, if there is one.
    fn holding(&self, sums: &Sums) -> Option<&CursorInfo> {
        self.last
            .as_ref()
            .filter(|cursor| cursor.next.is_some_and(|next| next.get() < sums.compactable_before))
    }

    fn holding_text(&self, sums: &Sums) -> String {
        self.holding(sums).map_or_else(
            String::new,
            |CursorInfo { name, behind, held_bytes, next, .. }| {
                let from = optional(next.map(esker::Seq::get));
                format!("cursor {name}: {behind} entries from {from} on, {held_bytes} bytes")
            },
        )
    }

    fn text(&self) -> String {
        let lost = if self.lost == 0 { String::new() } else { format!("; lost: {}", self.lost) };
        self.text_of_those_that_go_on() + &lost
    }

    fn text_of_those_that_go_on(&self) -> String {
        let Self { count, furthest, .. } = self;
        match furthest {
            Some(CursorInfo { name, behind, held_bytes, .. }) => {
                format!("{count}; furthest behind is {name}: {behind} entries, {held_bytes} bytes held back")
            }
            None => format!("{count}; none is behind"),
        }
    }
}

/// What the segments add up to.
#[derive(Debug, Default)]
pub(super) struct Sums {
    first_seq: Option<u64>,
    pub(super) last_seq: Option<u64>,
    entries: u64,
    pub(super) segments: u64,
    files: u64,
    pub(super) used: u64,
    pub(super) file: u64,
    pub(super) unfinished: u64,
    damaged: u64,
    /// Segments that are not there.
    missing: Vec<Missing>,
    pub(super) parts: u64,
    /// Entries that there were where compaction went, and those of them that were kept.
    compacted: u64,
    kept: u64,
    /// The segment that is being written begins with this Seq.
    compactable_before: u64,
}

/// A segment that is not there, and what it held if that is known.
#[derive(Debug)]
struct Missing {
    number: u32,
    seqs: Option<(u64, u64)>,
}

impl Sums {
    pub(super) fn of(opened: &Opened) -> Result<Self> {
        let mut sums = Self { unfinished: opened.survey.unfinished()?, ..Self::default() };
        let segments = opened.segments()?;
        segments.iter().for_each(|segment| sums.add(segment));
        sums.damaged += opened.damage_beside(&segments);
        Ok(sums)
    }

    fn add(&mut self, segment: &SegmentInfo) {
        if segment.state == SegmentState::Missing {
            self.damaged += segment.damaged;
            self.missing
                .push(Missing { number: segment.number, seqs: segment.first_seq.zip(segment.last_seq) });
            return;
        }
        self.files += u64::from(segment.state != SegmentState::Dropped);
        self.file += segment.file_bytes;
        self.damaged += segment.damaged;
        if matches!(segment.state, SegmentState::Dead | SegmentState::Spare) {
            return;
        }
        match segment.stands_for {
            Some(stretch) => {
                self.parts += u64::from(segment.state != SegmentState::Dropped);
                self.compacted += (stretch.last_seq + 1).saturating_sub(stretch.first_seq);
                self.kept += segment.entries;
            }
            None => self.segments += 1,
        }
        if segment.state == SegmentState::Active {
            self.compactable_before =
                segment.first_seq.unwrap_or_else(|| self.last_seq.map_or(1, |last| last + 1));
        }
        self.used += segment.bytes_used;
        self.entries += segment.entries;
        self.first_seq = self.first_seq.or(segment.first_seq);
        self.last_seq = segment.last_seq.or(self.last_seq);
    }
}

impl Sums {
    /// Entries that compaction dropped, as far as what is damaged does not hide it.
    pub(super) fn dropped(&self) -> u64 {
        self.compacted - self.kept.min(self.compacted)
    }

    /// From where on everything is there, and what is there below; empty: nothing was dropped.
    fn floor_text(&self, opened: &Opened) -> Result<String> {
        let Some(floor) = opened.reader.view()?.floor(&Region::All) else { return Ok(String::new()) };
        let (dropped, kept) = (self.dropped(), self.kept);
        Ok(format!("{floor}: where compaction went, {dropped} entries were dropped and {kept} kept"))
    }

    /// How much is damaged, as far as a look without the frames goes, and what says more.
    fn damage_text(&self, path: &str) -> String {
        if self.damaged == 0 {
            return format!("none seen (frames not read: {} verify {path})", output::name());
        }
        let missing = self.missing.iter().map(|Missing { number, seqs }| match seqs {
            Some((first, last)) => {
                format!("segment {number} is missing, with seq {}; ", store::seqs(*first, *last))
            }
            None => format!("segment {number} is missing; "),
        });
        let places = if self.damaged == 1 { "place" } else { "places" };
        let missing: String = missing.collect();
        format!("{} {places}; {missing}more: {} verify {path}", self.damaged, output::name())
    }

    fn segments_text(&self) -> String {
        let parts = match self.parts {
            0 => String::new(),
            1 => " and 1 part".to_owned(),
            parts => format!(" and {parts} parts"),
        };
        format!("{}{parts} in the log, {}", self.segments, output::count_of(self.files, "file"))
    }
}
