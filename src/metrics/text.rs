//! The text exposition format of Prometheus, version 0.0.4.

use std::fmt::Write as _;

use crate::metrics::table::{ALL, Metric};
use crate::metrics::{Sample, Value};

/// Writes samples in the text exposition format, version 0.0.4 (`text/plain; version=0.0.4`): those of one metric together,
/// in the order of [`ALL`].
#[must_use]
pub fn prometheus(samples: &[Sample]) -> String {
    let mut text = String::new();
    for metric in ALL {
        let mut own = samples.iter().filter(|sample| sample.metric.name == metric.name).peekable();
        if own.peek().is_some() {
            // Writing into a string does not fail.
            let _ = writeln!(text, "# HELP {} {}.", metric.name, escaped(metric.help, false));
            let _ = writeln!(text, "# TYPE {} {}", metric.name, metric.kind);
            own.for_each(|sample| write_sample(&mut text, sample));
        }
    }
    text
}

fn write_sample(text: &mut String, sample: &Sample) {
    let Metric { name, labels, .. } = sample.metric;
    let labels: Vec<(&str, &str)> =
        labels.iter().copied().zip(sample.labels.iter().map(String::as_str)).collect();
    match &sample.value {
        Value::Number(number) => write_line(text, name, "", &labels, *number),
        Value::Histogram { bounds, counts, sum } => {
            let ends = bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            let mut below = 0;
            for (end, count) in ends.zip(counts) {
                below += count;
                let with_end: Vec<_> = labels.iter().copied().chain([("le", &*end)]).collect();
                write_line(text, name, "_bucket", &with_end, float(below));
            }
            write_line(text, name, "_sum", &labels, *sum);
            write_line(text, name, "_count", &labels, float(below));
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "metrics are floats outside")]
fn float(count: u64) -> f64 {
    count as f64
}

fn write_line(text: &mut String, name: &str, suffix: &str, labels: &[(&str, &str)], number: f64) {
    text.push_str(name);
    text.push_str(suffix);
    for (place, (label, value)) in labels.iter().enumerate() {
        let before = if place == 0 { '{' } else { ',' };
        let _ = write!(text, "{before}{label}=\"{}\"", escaped(value, true));
    }
    if !labels.is_empty() {
        text.push('}');
    }
    let _ = writeln!(text, " {number}");
}

/// Backslashes and ends of lines cannot stand in a text, and in a label quotes neither.
fn escaped(text: &str, is_label: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    // What a terminal would do is shown instead.
    let is_shown = |c: char| {
        if c.is_control() { c.escape_unicode().to_string().replace('\\', r"\\") } else { c.to_string() }
    };
    let text: String = text.chars().map(is_shown).collect();
    if is_label { text.replace('"', "\\\"") } else { text }
}
