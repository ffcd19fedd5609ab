//! What is told as it is: names with characters of their own, gaps in a range, damage wherever it is met.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use esker::{CompactOptions, Keep, Record};
use support::{ENTRIES, Sample, flip, on, run};

/// A directory of the stores that earlier builds wrote, copied: looking may not change them.
fn earlier(name: &str, into: &Path) -> String {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/format-1").join(name);
    let to = into.join(name);
    std::fs::create_dir(&to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    to.to_str().unwrap().to_owned()
}

#[test]
fn a_kind_with_a_backslash_is_found_by_its_name_and_told_as_it_is() {
    let sample = Sample::empty();
    let journal = sample.open();
    let kind = journal.kind(r"ca\ll").unwrap();
    journal.append(Record::new(kind, b"k", b"{}")).unwrap();
    journal.close().unwrap();
    let store = sample.text();
    for filter in [["--kind", r"ca\ll"], ["--entity", r"ca\ll/*"], ["--entity", r"ca\ll/k"]] {
        let found = on(&["dump"], &store, &[&filter[..], &["--json"]].concat());
        assert_eq!(found.of_type("entry")[0]["kind"], r"ca\ll", "{}", found.stderr);
        assert_eq!(found.stderr, "");
    }
    let none = on(&["dump"], &store, &["--kind", r"ca\\ll", "--json"]);
    assert!(none.of_type("entry").is_empty() && none.stderr.contains("no kind matches"), "{}", none.stderr);
    assert_eq!(on(&["kinds"], &store, &["--json"]).of_type("kind")[0]["kind"], r"ca\ll");
}

#[test]
fn what_turns_the_direction_of_a_line_reaches_no_terminal() {
    let sample = Sample::empty();
    let journal = sample.open();
    let (plain, turned) = (journal.kind("note").unwrap(), journal.kind("a\u{202e}b").unwrap());
    journal.append(Record::new(plain, "k\u{2066}x".as_bytes(), "p\u{202e}q".as_bytes())).unwrap();
    journal.append(Record::new(turned, b"k", b"{}")).unwrap();
    journal.close().unwrap();
    let store = sample.text();
    for command in [&["dump"][..], &["get", "1..2"], &["info"], &["kinds"], &["entities"]] {
        let shown = on(command, &store, &[]);
        let text = shown.stdout + &shown.stderr;
        assert!(!text.contains(['\u{202e}', '\u{2066}']), "{command:?}: {text:?}");
        let has_keys = ![["info"], ["kinds"]].iter().any(|without| command == without);
        assert!(!has_keys || text.contains("hex:6be281a678"), "{command:?}: {text:?}");
    }
    // As the program says it, and not as the terminal takes it.
    let said = on(&["get", "1"], &store, &["--translate", "printf 'x\u{202e}y'"]);
    assert!(said.stdout.contains(r"x\u202ey"), "{:?} {:?}", said.stdout, said.stderr);
    assert_eq!(
        on(&["dump"], &store, &["--entity", "note/hex:6be281a678", "--json"]).of_type("entry").len(),
        1
    );
}

#[test]
fn check_is_not_well_where_info_counts_damage() {
    let sample = Sample::new();
    let segments = on(&["segments"], &sample.text(), &["--json"]).of_type("segment");
    let active = segments.iter().find(|segment| segment["state"] == "active").unwrap();
    let number = active["number"].as_u64().unwrap();
    flip(&sample.path(), number, 128 + 40);
    let info = on(&["info"], &sample.text(), &[]);
    assert_eq!(info.code, Some(1), "{}", info.stdout);
    let check = on(&["check"], &sample.text(), &["--json"]);
    assert_eq!(check.code, Some(1), "{}", check.stdout);
    let troubles = check.of_type("trouble");
    assert_eq!((&troubles[0]["gravity"], &troubles[0]["about"]), (&"critical".into(), &"damage".into()));
    assert_eq!(check.of_type("summary")[0]["damaged"], 1, "{}", check.stdout);
}

#[test]
fn check_of_a_store_whose_manifest_is_damaged_is_critical_in_every_form() {
    let sample = Sample::new();
    let manifest = File::options().write(true).open(sample.path().join("MANIFEST")).unwrap();
    manifest.write_all_at(&[0xff; 64], 0).unwrap();
    let check = |more: &[&str]| on(&["check"], &sample.text(), more);
    let text = check(&[]);
    assert!(text.code == Some(1) && text.stdout.starts_with("critical: "), "{}{}", text.stdout, text.stderr);
    assert!(text.stdout.contains("esker verify"), "{}", text.stdout);
    let json = check(&["--json"]);
    assert_eq!((json.code, json.of_type("trouble").len()), (Some(1), 1));
    assert_eq!(json.of_type("summary")[0]["health"], "critical");
    let nagios = check(&["--format", "nagios"]);
    assert!(nagios.code == Some(2) && nagios.stdout.starts_with("ESKER CRITICAL - "), "{}", nagios.stdout);
    let metrics = check(&["--format", "prometheus"]);
    assert!(metrics.stdout.contains("\nesker_check_health 2\n"), "{}", metrics.stdout);
}

#[test]
fn check_sees_folds_that_are_halted() {
    let directory = tempfile::tempdir().unwrap();
    let store = earlier("folds", directory.path());
    let halted = run(&["topics", &store, "--halted", "--json"]).of_type("topic");
    assert!(!halted.is_empty());
    let check = run(&["check", &store, "--json"]);
    let troubles = check.of_type("trouble");
    let of_folds = troubles.iter().filter(|trouble| trouble["about"] == "fold");
    assert_eq!(of_folds.count(), halted.len(), "{}", check.stdout);
    assert!(troubles.iter().all(|trouble| trouble["about"] != "fold" || trouble["gravity"] == "critical"));
    assert_eq!((check.code, &check.of_type("summary")[0]["halted"]), (Some(1), &halted.len().into()));
}

#[test]
fn get_tells_each_stretch_of_a_range_that_is_not_there_and_how_many_entries_that_is() {
    let sample = Sample::new();
    let journal = sample.open();
    journal.retire_cursor("audit").unwrap();
    journal.keep(journal.kind("note").unwrap(), Keep::Nothing).unwrap();
    journal.compact(&CompactOptions::new().thorough(true)).unwrap();
    journal.close().unwrap();
    let store = sample.text();
    let got = on(&["get", &format!("1..{}", ENTRIES + 5)], &store, &["--json"]);
    let (shown, gaps) = (got.of_type("entry").len() as u64, got.of_type("gap"));
    assert!(shown > 0 && shown < ENTRIES, "{shown}");
    let length =
        |gap: &serde_json::Value| gap["last_seq"].as_u64().unwrap() - gap["first_seq"].as_u64().unwrap() + 1;
    assert_eq!(gaps.iter().map(length).sum::<u64>(), ENTRIES + 5 - shown);
    let (last, dropped) = gaps.split_last().unwrap();
    assert_eq!((&last["reason"], length(last)), (&"not_written".into(), 5));
    assert!(!dropped.is_empty() && dropped.iter().all(|gap| gap["reason"] == "compacted"), "{dropped:?}");
    let summary = got.of_type("summary").remove(0);
    assert_eq!((&summary["gaps"], &summary["missing"]), (&gaps.len().into(), &(ENTRIES + 5 - shown).into()));
    assert_eq!(got.code, Some(2));
    // An open range ends where the log does.
    let open = on(&["get", "1.."], &store, &["--json"]);
    assert_eq!(open.of_type("summary")[0]["missing"], ENTRIES - shown);
}

#[test]
fn an_era_of_more_than_53_bits_is_text_and_a_filter_that_matches_nothing_says_so() {
    let sample = Sample::new();
    let store = sample.text();
    for (command, what) in [("info", "store"), ("info", "header"), ("cursors", "cursor")] {
        let lines = on(&[command], &store, &["--json"]).of_type(what);
        assert!(lines[0]["era"].as_str().unwrap().parse::<u64>().is_ok(), "{lines:?}");
    }
    let since = ["--since", "2026-11-20", "--until", "2026-11-19"];
    for (command, more, code, said) in [
        ("dump", &["--source", "#77"][..], 0, "no source"),
        ("dump", &["--kind", "#99"], 0, "no kind matches"),
        ("dump", &["--op", "fact", "--source", "radar"], 2, "nobody in particular"),
        ("dump", &since[..], 2, "is not before"),
        ("topics", &["--entity", "nosuch/x"], 0, "no kind matches"),
        ("consumers", &["--kind", "nosuch"], 0, "no kind matches"),
        ("cells", &["--scope", "nosuch"], 0, "no cell is of the scope"),
    ] {
        let run = on(&[command], &store, more);
        assert_eq!(run.code, Some(code), "{command} {more:?} {}", run.stderr);
        assert!(run.stderr.contains(said), "{command} {more:?} {}", run.stderr);
    }
    for kind in ["#1", "note"] {
        let found = on(&["dump"], &store, &["--kind", kind, "--limit", "1", "--json"]);
        assert_eq!(found.of_type("entry").len(), 1, "{kind}: {}", found.stderr);
    }
    for command in [&["man"][..], &["completions", "bash"], &["schema"]] {
        let run = run(&[command, &["--json"]].concat());
        assert!(
            run.code == Some(2) && run.stdout.is_empty() && run.stderr.contains("--json"),
            "{}",
            run.stderr
        );
    }
}
