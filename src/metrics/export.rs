//! To the facade `metrics`, and so to whatever recorder is installed.

use std::collections::BTreeSet;

use ::metrics::{
    Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::journal::stats::Stats;
use crate::metrics::table::{ALL, Metric, MetricKind, ToldBy};
use crate::metrics::{Sample, Value, samples};

/// Hands the metrics of a store on to the recorder of the crate `metrics`, under the names of [`ALL`](super::ALL) and with the
/// label `store`. There is one for each opening of a store; it is called as often as somebody looks.
///
/// ```
/// use esker::{Journal, metrics::Exporter};
/// # fn main() -> esker::Result<()> {
/// let journal = Journal::in_memory()?;
/// let mut exporter = Exporter::new("orders");
/// exporter.export(&journal.stats());                   // every few seconds, or when somebody scrapes
/// # journal.close() }
/// ```
///
/// Counters are set to what they have come to. The facade's histograms take single values: each is recorded as the bound of
/// the place it fell into, and what is greater than all bounds as the greatest. A gauge whose cursor or fold is gone is set to
/// NaN, which compares with nothing, so that no alert stays.
#[derive(Debug)]
pub struct Exporter {
    store: String,
    is_described: bool,
    /// What each histogram had come to.
    recorded: Vec<(&'static str, Vec<u64>)>,
    /// The gauges with labels that were set.
    set: BTreeSet<(&'static str, Vec<String>)>,
}

impl Exporter {
    /// One that gives the label `store` this value: what tells the stores of a process from each other.
    #[must_use]
    pub fn new(store: impl Into<String>) -> Self {
        Self { store: store.into(), is_described: false, recorded: Vec::new(), set: BTreeSet::new() }
    }

    /// Hands on what there is now.
    pub fn export(&mut self, stats: &Stats) {
        if !std::mem::replace(&mut self.is_described, true) {
            ALL.iter().filter(|metric| metric.told_by != ToldBy::Files).for_each(describe);
        }
        let mut set = BTreeSet::new();
        for sample in samples(stats) {
            let labels = self.labels(sample.metric, &sample.labels);
            match sample.value {
                Value::Number(number) if sample.metric.kind == MetricKind::Counter => {
                    // What is counted is whole.
                    #[allow(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "it was made of a u64"
                    )]
                    counter!(sample.metric.name, labels).absolute(number as u64);
                }
                Value::Number(number) => {
                    gauge!(sample.metric.name, labels).set(number);
                    if !sample.labels.is_empty() {
                        set.insert((sample.metric.name, sample.labels));
                    }
                }
                Value::Histogram { .. } => self.record(&sample, labels),
            }
        }
        for (name, values) in self.set.difference(&set) {
            if let Some(metric) = ALL.iter().find(|metric| metric.name == *name) {
                gauge!(metric.name, self.labels(metric, values)).set(f64::NAN);
            }
        }
        self.set = set;
    }

    fn labels(&self, metric: &Metric, values: &[String]) -> Vec<Label> {
        let own = metric.labels.iter().zip(values).map(|(label, value)| Label::new(*label, value.clone()));
        [Label::new("store", self.store.clone())].into_iter().chain(own).collect()
    }

    /// Records what came since the last time.
    fn record(&mut self, sample: &Sample, labels: Vec<Label>) {
        let Value::Histogram { bounds, counts, .. } = &sample.value else { return };
        let name = sample.metric.name;
        let place = self.recorded.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            self.recorded.push((name, vec![0; counts.len()]));
            self.recorded.len() - 1
        });
        let Some((_, before)) = self.recorded.get_mut(place) else { return };
        let histogram = histogram!(name, labels);
        let greatest = bounds.last().into_iter();
        for ((bound, count), before) in bounds.iter().chain(greatest).zip(counts).zip(before) {
            // Of another store, or another opening, nothing is known.
            let more = count.saturating_sub(*before);
            if more > 0 {
                histogram.record_many(*bound, usize::try_from(more).unwrap_or(usize::MAX));
            }
            *before = *count;
        }
    }
}

fn describe(metric: &Metric) {
    let unit = match metric.name {
        name if name.contains("_bytes") => Unit::Bytes,
        name if name.ends_with("_seconds") => Unit::Seconds,
        _ => Unit::Count,
    };
    match metric.kind {
        MetricKind::Counter => describe_counter!(metric.name, unit, metric.help),
        MetricKind::Gauge => describe_gauge!(metric.name, unit, metric.help),
        MetricKind::Histogram => describe_histogram!(metric.name, unit, metric.help),
    }
}
