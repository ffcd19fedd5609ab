//! The table of metrics: each name once, with what it says and where it is read.

use std::fmt;

use crate::id::Position;
use crate::journal::stats::{CursorPin, Stats};
use crate::meter::{ConsumerReading, FoldReading, Histogram};

use MetricKind::{Counter, Gauge};
use ToldBy::{Both, Files, Process};

/// A metric: a name and what it means.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Metric {
    /// Its name, with the unit.
    pub name: &'static str,
    /// How it moves.
    pub kind: MetricKind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// Who can tell it.
    pub told_by: ToldBy,
    /// What it means, in one sentence without its end.
    pub help: &'static str,
    pub(super) read: Read,
}

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// Rises. It begins at 0 again when what it is of is opened or started anew; where its help says "of all processes" it goes on.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

/// Who can tell a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ToldBy {
    /// Only the process that has the store open.
    Process,
    /// Only who reads all of the files: the tool.
    Files,
    /// Both.
    Both,
}

/// Where a metric is read.
#[derive(Clone, Copy)]
pub(super) enum Read {
    OfFiles,
    Number(fn(&Stats) -> f64),
    /// With so many of its units in one of the metric's.
    Histogram(fn(&Stats) -> &Histogram, f64),
    Mark(fn(Position) -> f64),
    Cursor(fn(&CursorPin) -> f64),
    Fold(fn(&FoldReading) -> Option<f64>),
    Consumer(fn(&ConsumerReading) -> Option<f64>),
}

impl fmt::Debug for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{:?}", self.kind, self.name, self.labels)
    }
}

impl fmt::Display for MetricKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

impl fmt::Display for ToldBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "process",
            Self::Files => "files",
            Self::Both => "both",
        })
    }
}

const fn number(
    name: &'static str,
    kind: MetricKind,
    told_by: ToldBy,
    help: &'static str,
    read: fn(&Stats) -> f64,
) -> Metric {
    Metric { name, kind, labels: &[], told_by, help, read: Read::Number(read) }
}

const fn of_files(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Gauge, labels: &[], told_by: Files, help, read: Read::OfFiles }
}

const fn histogram(
    name: &'static str,
    help: &'static str,
    read: fn(&Stats) -> &Histogram,
    unit: f64,
) -> Metric {
    let (kind, told_by) = (MetricKind::Histogram, Process);
    Metric { name, kind, labels: &[], told_by, help, read: Read::Histogram(read, unit) }
}

const fn of_mark(name: &'static str, help: &'static str, read: fn(Position) -> f64) -> Metric {
    Metric { name, kind: Gauge, labels: &["mark"], told_by: Process, help, read: Read::Mark(read) }
}

const fn of_fold(
    name: &'static str,
    kind: MetricKind,
    help: &'static str,
    read: fn(&FoldReading) -> Option<f64>,
) -> Metric {
    const LABELS: &[&str] = &["fold", "version", "stream", "key"];
    Metric { name, kind, labels: LABELS, told_by: Process, help, read: Read::Fold(read) }
}

const fn of_consumer(
    name: &'static str,
    kind: MetricKind,
    help: &'static str,
    read: fn(&ConsumerReading) -> Option<f64>,
) -> Metric {
    const LABELS: &[&str] = &["consumer", "stream", "key", "shard"];
    Metric { name, kind, labels: LABELS, told_by: Process, help, read: Read::Consumer(read) }
}

/// Numbers are floats outside: exact up to 2^53.
#[allow(clippy::cast_precision_loss, reason = "metrics are floats outside")]
const fn n(number: u64) -> f64 {
    number as f64
}

const fn yes(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}

const NANOS: f64 = 1e9;

/// All metrics.
pub static ALL: &[Metric] = &[
    number("esker_entries", Gauge, Both, "Entries in the log", |s| n(s.entries)),
    number("esker_entities", Gauge, Both, "Entities that have an entry", |s| n(s.entities)),
    number("esker_kinds", Gauge, Both, "Kinds that are registered", |s| n(s.kinds)),
    number("esker_segments", Gauge, Both, "Segments of the log", |s| n(s.segments)),
    number("esker_parts", Gauge, Both, "Files with what compaction kept", |s| n(s.parts)),
    number("esker_log_bytes", Gauge, Both, "Bytes of log in use", |s| n(s.log_bytes)),
    number(
        "esker_floor",
        Gauge,
        Both,
        "Number of the entry from which on none was dropped; 0: none was",
        |s| n(s.floor),
    ),
    number(
        "esker_last_append_timestamp_seconds",
        Gauge,
        Both,
        "Unix time of the last entry; 0: none. The process knows only of those that it has appended",
        |s| s.last_append as f64 / NANOS,
    ),
    number("esker_cursors", Gauge, Both, "Cursors", |s| n(s.cursors)),
    number(
        "esker_cursors_lost",
        Gauge,
        Both,
        "Cursors that compaction went past, which have to be reset",
        |s| n(s.cursors_lost),
    ),
    Metric {
        name: "esker_cursor_pinned_bytes",
        kind: Gauge,
        labels: &["cursor"],
        told_by: Both,
        help: "Bytes of log behind what the cursor has seen; the files tell those from the next entry of its region on",
        read: Read::Cursor(|cursor| n(cursor.bytes)),
    },
    of_files("esker_last_seq", "Number of the last entry"),
    of_files("esker_batches", "Batches of entries in the log; a single append is one"),
    of_files("esker_payload_bytes", "Bytes of payloads"),
    of_files("esker_segment_file_bytes", "Bytes of segment files"),
    of_files("esker_dropped_entries", "Entries that compaction dropped"),
    of_files("esker_unfinished_bytes", "Bytes behind the end of the log"),
    of_files("esker_live", "1 if a process has the store open for writing"),
    of_files("esker_damaged_places", "Places that cannot be read"),
    number("esker_appends_total", Counter, Process, "Entries appended", |s| n(s.appends)),
    number("esker_appended_bytes_total", Counter, Process, "Bytes of frames appended", |s| {
        n(s.appended_bytes)
    }),
    histogram("esker_batch_entries", "Entries of each batch appended", |s| &s.batch_entries, 1.0),
    histogram("esker_sync_duration_seconds", "Time of each sync of the log", |s| &s.sync_nanos, NANOS),
    number("esker_rotations_total", Counter, Process, "Segments left for the next one", |s| n(s.rotations)),
    of_mark("esker_mark_segment", "Segment in which the mark stands", |mark| n(u64::from(mark.segment()))),
    of_mark("esker_mark_offset_bytes", "Place of the mark in its segment", |mark| n(mark.offset())),
    number(
        "esker_undurable_bytes",
        Gauge,
        Process,
        "Bytes of log that are visible and not durable: what a power cut takes",
        |s| n(s.undurable_bytes),
    ),
    number("esker_poisoned", Gauge, Process, "1 if a sync failed: nothing is appended any more", |s| {
        yes(s.poisoned)
    }),
    number("esker_free_bytes", Gauge, Process, "Free space on the file system", |s| n(s.free_bytes)),
    number(
        "esker_unlinked_bytes",
        Gauge,
        Process,
        "Bytes of removed segments that somebody still reads",
        |s| n(s.unlinked_bytes),
    ),
    number(
        "esker_reclaimable_bytes",
        Gauge,
        Process,
        "Bytes that compaction could have freed at its last look",
        |s| n(s.reclaimable),
    ),
    number("esker_compactions_total", Counter, Process, "Compactions", |s| n(s.compactions)),
    number(
        "esker_compactions_failed_total",
        Counter,
        Process,
        "Compactions in the background that failed",
        |s| n(s.compactions_failed),
    ),
    number("esker_entities_on_heap", Gauge, Process, "Entities whose place is kept on the heap", |s| {
        n(s.entities_on_heap)
    }),
    number("esker_keyed_batches", Gauge, Process, "Idempotency keys that are remembered", |s| {
        n(s.keyed_batches)
    }),
    number(
        "esker_subscriber_missed_total",
        Counter,
        Process,
        "Entries that subscribers were told they missed",
        |s| n(s.subscribers_missed),
    ),
    number(
        "esker_subscriber_disconnected_total",
        Counter,
        Process,
        "Subscribers that were ended because they lagged",
        |s| n(s.subscribers_disconnected),
    ),
    number("esker_folds_running", Gauge, Process, "Folds over topics that are held and go on", |s| {
        n(s.folds_running)
    }),
    number("esker_folds_halted", Gauge, Process, "Folds over topics that are held and have halted", |s| {
        n(s.folds_halted)
    }),
    number("esker_fold_records_total", Counter, Process, "Records that folds took in", |s| n(s.folds.folded)),
    number("esker_fold_halts_total", Counter, Process, "Folds that halted, for whatever reason", |s| {
        n(s.folds.halts)
    }),
    number(
        "esker_fold_divergence_total",
        Counter,
        Process,
        "Folds that came to two values, and halted",
        |s| n(s.folds.divergences),
    ),
    of_fold("esker_fold_offset", Gauge, "Everything up to here is in the fold's value", |f| {
        Some(n(f.offset))
    }),
    of_fold("esker_fold_halted", Gauge, "1 if the fold has halted", |f| Some(yes(f.halted.is_some()))),
    of_fold("esker_fold_digest", Gauge, "CRC-32 of the value in the fold's last image", |f| {
        f.digest.map(|digest| n(u64::from(digest.crc)))
    }),
    of_fold("esker_fold_digest_offset", Gauge, "Behind which record that value was", |f| {
        f.digest.map(|digest| n(digest.offset))
    }),
    number(
        "esker_events_era_reset_total",
        Counter,
        Process,
        "Folds that began anew: the era had changed",
        |s| n(s.folds.era_resets),
    ),
    number(
        "esker_events_undecodable_total",
        Counter,
        Process,
        "Folds that halted at a record that is no value of theirs",
        |s| n(s.folds.undecodable),
    ),
    number(
        "esker_events_forward_incompatible_total",
        Counter,
        Process,
        "Folds that halted at a record of a later build",
        |s| n(s.folds.forward_incompatible),
    ),
    number(
        "esker_events_compaction_reseed_total",
        Counter,
        Process,
        "Folds that an image brought over records that were missing",
        |s| n(s.folds.reseeds),
    ),
    number(
        "esker_events_compaction_gap_halt_total",
        Counter,
        Process,
        "Folds that halted because records are missing",
        |s| n(s.folds.gap_halts),
    ),
    number("esker_image_written_total", Counter, Process, "Images saved", |s| n(s.folds.images_written)),
    number("esker_image_failed_total", Counter, Process, "Images that could not be saved", |s| {
        n(s.folds.images_failed)
    }),
    number("esker_image_written_bytes_total", Counter, Process, "Bytes of values in images saved", |s| {
        n(s.folds.image_bytes)
    }),
    number(
        "esker_image_unbridgeable_total",
        Counter,
        Process,
        "Folds that halted because no image is from behind records that were dropped",
        |s| n(s.folds.unbridgeable),
    ),
    number(
        "esker_backplane_only_grows",
        Gauge,
        Process,
        "1 if the backplane that the store was given drops nothing",
        |s| yes(s.backplane_only_grows),
    ),
    number(
        "esker_backplane_feeds_down",
        Gauge,
        Process,
        "Feeds of folds and consumers whose backplane does not answer",
        |s| n(s.folds_down + s.consumers_down),
    ),
    number(
        "esker_backplane_reconnect_total",
        Counter,
        Process,
        "Feeds that were subscribed to anew: of folds, for whatever reason; of consumers, behind a backplane that did not answer",
        |s| n(s.folds.reconnects + s.consumer_reconnects),
    ),
    of_fold("esker_backplane_feed_up", Gauge, "1 if the backplane answered when the feed last asked", |f| {
        Some(yes(f.is_up))
    }),
    of_fold(
        "esker_backplane_feed_reconnect_total",
        Counter,
        "Times that the feed was subscribed to anew",
        |f| Some(n(f.reconnects)),
    ),
    number("esker_consumers_running", Gauge, Process, "Consumers of topics that go on", |s| {
        n(s.consumers_running)
    }),
    number(
        "esker_consumers_halted",
        Gauge,
        Process,
        "Consumers of topics that halted or are suspended",
        |s| n(s.consumers_halted),
    ),
    of_consumer("esker_consumer_position", Gauge, "Everything up to here is done", |c| Some(n(c.position))),
    of_consumer(
        "esker_consumer_lag",
        Gauge,
        "How far the newest record is ahead of that, in offsets; across a network as the consumer saw it last, every few seconds between records",
        |c| c.lag.map(n),
    ),
    of_consumer(
        "esker_consumer_stuck",
        Gauge,
        "How often the record failed at which the consumer stands",
        |c| Some(n(u64::from(c.stuck))),
    ),
    of_consumer("esker_consumer_halted", Gauge, "1 if the consumer halted or is suspended", |c| {
        Some(yes(c.has_halted))
    }),
    of_consumer("esker_consumer_suspended", Gauge, "1 if the consumer is suspended for a crash loop", |c| {
        Some(yes(c.state == "suspended"))
    }),
    of_consumer("esker_consumer_error_total", Counter, "Attempts that failed, in this process", |c| {
        Some(n(c.errors))
    }),
    of_consumer(
        "esker_consumer_poisoned_total",
        Counter,
        "Records that were set aside, of all processes",
        |c| Some(n(c.poisoned)),
    ),
    of_consumer(
        "esker_consumer_undecodable_total",
        Counter,
        "Records that are no events of the consumer's type, of all processes",
        |c| Some(n(c.undecodable)),
    ),
    of_consumer(
        "esker_consumer_forward_incompatible_total",
        Counter,
        "Looks at a record that this build cannot read",
        |c| Some(n(c.forward_incompatible)),
    ),
    of_consumer("esker_consumer_parked", Gauge, "Records that are parked", |c| Some(n(c.parked))),
    of_consumer(
        "esker_backplane_consumer_up",
        Gauge,
        "1 if the backplane answered when the consumer last asked",
        |c| Some(yes(c.is_up)),
    ),
    of_consumer(
        "esker_backplane_consumer_reconnect_total",
        Counter,
        "Times that the consumer subscribed anew behind a backplane that did not answer, in this process",
        |c| Some(n(c.reconnects)),
    ),
];
