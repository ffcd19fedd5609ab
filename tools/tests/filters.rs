//! The same words mean the same entries in every command.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;

use support::{ENTRIES, Sample, on, run};

/// The Seqs of the entries that a command shows.
fn seqs(command: &str, store: &str, words: &[&str]) -> Vec<u64> {
    let shown = on(&[command], store, &[words, &["--json"]].concat());
    assert_eq!(shown.code, Some(0), "{command} {words:?}: {}", shown.stderr);
    shown.of_type("entry").iter().map(|line| line["seq"].as_u64().unwrap()).collect()
}

#[test]
fn an_export_has_the_entries_that_dump_shows() {
    let store = Sample::new();
    for words in [
        &["--limit", "7"][..],
        &["-n", "0"],
        &["--last", "7"],
        &["--tail", "7"],
        &["--last", "9", "--limit", "4"],
        &["--kind", "doc", "--limit", "3"],
        &["--kind", "doc", "--last", "3"],
        &["--entity", "note/k1", "--last", "2"],
        &["--seq", "50..60", "--limit", "5"],
        &["--seq", "50..60", "--last", "5"],
        &["--seq", "50..60", "--kind", "doc", "--last", "99"],
        &["--limit", "99999"],
        &["--last", "99999"],
    ] {
        let [dumped, exported] = ["dump", "export"].map(|command| seqs(command, &store.text(), words));
        assert_eq!(exported, dumped, "{words:?}");
    }
    assert_eq!(seqs("export", &store.text(), &["--last", "2"]), [ENTRIES - 1, ENTRIES]);
}

#[test]
fn a_part_of_an_export_says_that_it_is_one_and_is_imported() {
    let store = Sample::new();
    let at = |name: &str| store.directory.path().join(name).display().to_string();
    let (lines, made) = (at("lines"), at("made.esker"));
    let done = run(&["export", &store.text(), "--last", "5", "--output", &lines]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let header = std::fs::read_to_string(&lines).unwrap();
    assert!(header.lines().next().unwrap().contains("\"filtered\":true"), "{header}");
    assert_eq!(run(&["import", &lines, &made]).code, Some(0));
    assert_eq!(seqs("dump", &made, &[]).len(), 5);
}
