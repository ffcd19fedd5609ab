//! What `stats` tells, in each of its forms.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a panic is a failed test"
)]
#![allow(clippy::float_cmp, reason = "they are whole numbers")]

#[path = "../../tests/exposition/mod.rs"]
mod exposition;
#[allow(dead_code, reason = "others use the rest")]
mod support;

use std::collections::BTreeSet;

use esker::metrics::{ALL, ToldBy};
use exposition::Exposition;
use support::{ENTRIES, Sample, flip, on, place};

fn exposed(store: &str, code: i32) -> Exposition {
    let told = on(&["stats"], store, &["--format", "prometheus"]);
    assert_eq!(told.code, Some(code), "{}", told.stderr);
    Exposition::read(&told.stdout)
}

#[test]
fn every_metric_that_files_can_tell_is_told_and_no_other() {
    let sample = Sample::new();
    let exposed = exposed(&sample.text(), 0);
    let of_files = ALL.iter().filter(|metric| metric.told_by != ToldBy::Process).map(|m| m.name.to_owned());
    assert_eq!(exposed.types.keys().cloned().collect::<BTreeSet<_>>(), of_files.collect());
    assert_eq!(exposed.get("esker_entries"), 300.0);
    assert_eq!((exposed.get("esker_live"), exposed.get("esker_damaged_places")), (0.0, 0.0));
}

#[test]
fn all_forms_tell_the_same_and_so_does_the_process() {
    let sample = Sample::new();
    let store = sample.text();
    let exposed = exposed(&store, 0);
    let json = &on(&["stats"], &store, &["--format", "json"]).of_type("stats")[0];
    let (table, text) = (on(&["stats"], &store, &[]), on(&["stats"], &store, &["--format", "text"]));
    assert_eq!(table.stdout, text.stdout);
    for row in table.rows() {
        assert_eq!(json[row[0]].to_string(), row[1], "{row:?}");
    }
    let both = |name: &str, metric: &str| {
        assert_eq!(
            json[name].as_u64().map(|n| n.to_string()),
            Some(exposed.get(metric).to_string()),
            "{name}"
        );
    };
    both("entries", "esker_entries");
    both("segments", "esker_segments");
    both("log_bytes", "esker_log_bytes");
    let pins = on(&["stats"], &store, &["--format", "json"]).of_type("pin");
    assert_eq!(pins.len(), 1);
    let held = exposed.get("esker_cursor_pinned_bytes{cursor=\"audit\"}");
    assert_eq!(pins[0]["held_bytes"].to_string(), held.to_string());

    let journal = sample.open();
    let stats = journal.stats();
    assert_eq!((stats.entries, stats.entities, stats.kinds), (ENTRIES, 10, 2));
    assert_eq!(exposed.get("esker_entities"), 10.0);
    assert_eq!((stats.pins[0].name.as_str(), stats.pins[0].bytes.to_string()), ("audit", held.to_string()));
    assert_eq!(self::exposed(&store, 0).get("esker_live"), 1.0);
}

#[test]
fn damage_is_a_finding_and_the_rest_is_told() {
    let sample = Sample::new();
    let store = sample.text();
    let (segment, offset) = place(&store, 7);
    flip(&sample.path(), segment, offset + 16);
    let exposed = exposed(&store, 1);
    assert!(exposed.get("esker_damaged_places") >= 1.0);
    assert!(exposed.get("esker_entries") < 300.0);
}

#[test]
fn the_help_says_what_files_cannot_tell() {
    let help = support::run(&["stats", "--help"]).stdout;
    for word in ["durable", "poisoned", "folds", "esker::metrics"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}
