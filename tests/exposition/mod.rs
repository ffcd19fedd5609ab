//! A strict reader of the text exposition format 0.0.4: what it takes, Prometheus takes.

use std::collections::{BTreeMap, BTreeSet};

/// What a text says.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    /// By name.
    pub(crate) types: BTreeMap<String, String>,
    /// By name with labels, as written.
    pub(crate) series: BTreeMap<String, f64>,
}

impl Exposition {
    /// Reads a text; what is wrong with it is a panic that shows the line.
    pub(crate) fn read(text: &str) -> Self {
        let mut found = Self::default();
        let (mut helped, mut ended) = (BTreeSet::new(), BTreeSet::new());
        let mut current = String::new();
        assert!(text.ends_with('\n'), "the last line does not end");
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            let name = if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
                assert!(!help.trim().is_empty(), "{line}");
                assert!(helped.insert(name.to_owned()), "helped twice: {line}");
                name.to_owned()
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("no type: {line}"));
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                assert!(
                    found.types.insert(name.to_owned(), kind.to_owned()).is_none(),
                    "typed twice: {line}"
                );
                name.to_owned()
            } else {
                found.read_sample(line)
            };
            check_name(&name);
            if name != current {
                assert!(!ended.contains(&name), "{name} does not stand together: {line}");
                ended.insert(std::mem::replace(&mut current, name));
            }
        }
        assert!(found.types.keys().all(|name| helped.contains(name)), "a type without help");
        found.check_histograms();
        found
    }

    /// The value of a series.
    pub(crate) fn get(&self, series: &str) -> f64 {
        *self.series.get(series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.series))
    }

    /// Answers the name of the metric, which must have been typed before.
    fn read_sample(&mut self, line: &str) -> String {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line:?}"));
        let value: f64 = value.parse().unwrap_or_else(|e| panic!("{e}: {line}"));
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => {
                (name, labels.strip_suffix('}').unwrap_or_else(|| panic!("no end of labels: {line}")))
            }
            None => (series, ""),
        };
        check_labels(labels, line);
        assert!(self.series.insert(series.to_owned(), value).is_none(), "told twice: {line}");
        let is_of = |suffix: &&str| {
            let base = name.strip_suffix(suffix).unwrap_or_default();
            self.types.get(base).is_some_and(|kind| kind == "histogram")
        };
        let suffix = ["_bucket", "_sum", "_count"].into_iter().find(is_of);
        let name = suffix.and_then(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        let kind = self.types.get(name).unwrap_or_else(|| panic!("no type before {line}"));
        assert_eq!(kind == "histogram", suffix.is_some(), "{line}");
        name.to_owned()
    }

    /// Places count what is below them, up to all.
    fn check_histograms(&self) {
        for name in self.types.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name) {
            let prefix = format!("{name}_bucket{{le=\"");
            let mut places: Vec<(f64, f64)> = self
                .series
                .iter()
                .filter_map(|(series, count)| {
                    let end = series.strip_prefix(&prefix)?.strip_suffix("\"}")?;
                    Some((end.parse().unwrap_or_else(|e| panic!("{e}: {series}")), *count))
                })
                .collect();
            places.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(places.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1), "{places:?}");
            let last = places.last().unwrap_or_else(|| panic!("{name} has no places"));
            assert_eq!(*last, (f64::INFINITY, self.get(&format!("{name}_count"))), "{name}");
            assert!(self.get(&format!("{name}_sum")) >= 0.0, "{name}");
        }
    }
}

fn check_name(name: &str) {
    let is_fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    assert!(name.starts_with("esker_") && name.chars().all(is_fine), "{name:?} is no name");
}

/// `name="value",…`, each name once, with nothing but `\\`, `\"` and `\n` behind a backslash.
fn check_labels(labels: &str, line: &str) {
    let (mut rest, mut seen) = (labels, BTreeSet::new());
    while !rest.is_empty() {
        let (name, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("no value of a label: {line}"));
        assert!(!name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
        assert!(seen.insert(name), "a label twice: {line}");
        let mut escaped = false;
        let end = value.find(|c| {
            assert!(!escaped || ['\\', '"', 'n'].contains(&c), "a bad escape: {line}");
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        rest = &value[end.unwrap_or_else(|| panic!("a label without an end: {line}")) + 1..];
        if !rest.is_empty() {
            rest = rest.strip_prefix(',').unwrap_or_else(|| panic!("no comma: {line}"));
            assert!(!rest.is_empty(), "a comma at the end: {line}");
        }
    }
}
