//! What is counted, by name: for Prometheus, and whatever else watches.
//!
//! Everything here is always counted, and is [`Journal::stats`](crate::Journal::stats); this gives it names, in the manner of
//! Prometheus: `_total` rises as long as the store is open, and units are seconds and bytes. It can be had in three ways:
//!
//! * [`prometheus`] writes the text exposition format, for an endpoint of yours;
//! * the feature `metrics` has an `Exporter` to the facade `metrics`, and so to whatever recorder is installed;
//! * `esker stats PATH --format prometheus` tells what the files say, also of a store that nobody has open. It cannot tell
//!   what is only in the memory of a process: see the last column below.
//!
//! ```
//! use esker::{Journal, Record, metrics};
//! # fn main() -> esker::Result<()> {
//! let journal = Journal::in_memory()?;
//! let note = journal.kind("note")?;
//! journal.append(Record::new(note, b"a", b"1"))?;
//!
//! let text = metrics::prometheus(&metrics::samples(&journal.stats()));
//! assert!(text.contains("\n# TYPE esker_appends_total counter\nesker_appends_total 1\n"));
//! # journal.close() }
//! ```
//!
//! # All of them
//!
#![doc = include_str!("table.md")]
//!
//! By name are told at most 64 cursors, those that are farthest behind, 256 folds, first those that halted or are cut off, and
//! 256 consumers, first those that halted or are suspended, then those whose record fails or that are cut off; the metrics
//! without such labels count all.
//!
#![doc = include_str!("alerts.md")]

#[cfg(feature = "metrics")]
mod export;
mod table;
mod text;

use std::collections::BTreeSet;

#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub use crate::metrics::export::Exporter;
pub use crate::metrics::table::{ALL, Metric, MetricKind, ToldBy};
pub use crate::metrics::text::prometheus;

use crate::dump::key_text;
use crate::journal::stats::{CursorPin, Stats};
use crate::meter::{ConsumerReading, FoldReading, Histogram};
use crate::metrics::table::Read;

/// A metric with a value.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sample {
    /// What it is of.
    pub metric: &'static Metric,
    /// The values of the metric's labels, in their order.
    pub labels: Vec<String>,
    /// How much.
    pub value: Value,
}

/// The value of a metric.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Of a counter or a gauge.
    Number(f64),
    /// Of a histogram.
    Histogram {
        /// The greatest size that falls into each place, in the unit of the metric, rising.
        bounds: Vec<f64>,
        /// How many fell into each place alone; one place more than bounds.
        counts: Vec<u64>,
        /// The sum of all sizes, in the unit of the metric.
        sum: f64,
    },
}

impl Sample {
    /// A number under the name of a counter or gauge. `None` if there is no such, or it has other labels.
    ///
    /// ```
    /// use esker::metrics::Sample;
    /// assert!(Sample::number("esker_cursor_pinned_bytes", vec!["audit".to_owned()], 4096.0).is_some());
    /// assert!(Sample::number("esker_cursor_pinned_bytes", vec![], 4096.0).is_none());
    /// ```
    #[must_use]
    pub fn number(name: &str, labels: Vec<String>, number: f64) -> Option<Self> {
        let metric = ALL.iter().find(|metric| metric.name == name)?;
        let fits = metric.kind != MetricKind::Histogram && metric.labels.len() == labels.len();
        fits.then_some(Self { metric, labels, value: Value::Number(number) })
    }
}

/// The metrics of a store that is open in this process, in the order of [`ALL`].
#[must_use]
pub fn samples(stats: &Stats) -> Vec<Sample> {
    let folds = unique(&stats.fold_readings);
    ALL.iter().flat_map(|metric| of_metric(metric, stats, &folds)).collect()
}

fn of_metric(metric: &'static Metric, stats: &Stats, folds: &[&FoldReading]) -> Vec<Sample> {
    let sample = |labels, number| Sample { metric, labels, value: Value::Number(number) };
    match metric.read {
        Read::OfFiles => Vec::new(),
        Read::Number(read) => vec![sample(Vec::new(), read(stats))],
        Read::Histogram(read, unit) => {
            vec![Sample { metric, labels: Vec::new(), value: Value::of(read(stats), unit) }]
        }
        Read::Mark(read) => [("visible", stats.visible), ("durable", stats.durable)]
            .map(|(mark, position)| sample(vec![mark.to_owned()], read(position)))
            .into(),
        Read::Cursor(read) => {
            let of = |cursor: &CursorPin| sample(vec![cursor.name.clone()], read(cursor));
            stats.pins.iter().map(of).collect()
        }
        Read::Fold(read) => {
            folds.iter().filter_map(|fold| Some(sample(labels_of(fold), read(fold)?))).collect()
        }
        Read::Consumer(read) => {
            let of = |one: &ConsumerReading| Some(sample(labels_of_consumer(one), read(one)?));
            stats.consumer_readings.iter().filter_map(of).collect()
        }
    }
}

/// Each fold over each topic once. Where several have one name, one that halted stands for all: it was named first.
fn unique(readings: &[FoldReading]) -> Vec<&FoldReading> {
    let mut seen = BTreeSet::new();
    readings.iter().filter(|one| seen.insert((one.fold, one.version, &one.stream, &one.key))).collect()
}

fn labels_of(fold: &FoldReading) -> Vec<String> {
    vec![fold.fold.to_owned(), fold.version.to_string(), fold.stream.clone(), key_text(&fold.key)]
}

/// Without a key it consumes all of the stream, without a shard all entities.
fn labels_of_consumer(one: &ConsumerReading) -> Vec<String> {
    let key = one.key.as_deref().map_or_else(String::new, key_text);
    let shard = one.shard.map_or_else(String::new, |(part, of)| format!("{part}/{of}"));
    vec![one.consumer.clone(), one.stream.clone(), key, shard]
}

impl Value {
    #[allow(clippy::cast_precision_loss, reason = "metrics are floats outside")]
    fn of(histogram: &Histogram, unit: f64) -> Self {
        Self::Histogram {
            bounds: histogram.bounds.iter().map(|bound| *bound as f64 / unit).collect(),
            counts: histogram.counts.clone(),
            sum: histogram.sum as f64 / unit,
        }
    }
}
