//! `backup` and `restore` as processes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;

use esker::{Journal, Options, Record};
use support::run;
use tempfile::TempDir;

/// A store that is open for writing, with entries; and where it is.
fn live() -> (TempDir, Journal, [String; 3]) {
    let directory = tempfile::tempdir().unwrap();
    let paths =
        ["a.esker", "b.backup", "c.esker"].map(|name| directory.path().join(name).display().to_string());
    let journal = Options::new().segment_bytes(4096).open(&paths[0]).unwrap();
    let note = journal.kind("note").unwrap();
    for n in 0..60_u8 {
        journal.append(Record::new(note, b"k", &[n; 100])).unwrap();
    }
    (directory, journal, paths)
}

#[test]
fn a_live_store_is_backed_up_and_restored_and_each_step_says_what_comes_next() {
    let (_directory, journal, [store, backup, restored]) = live();
    let made = run(&["backup", &store, &backup]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert!(made.stderr.contains("live, writer pid"), "{}", made.stderr);
    let rows = made.rows();
    assert!(
        rows.contains(&vec!["last entry", "60"]) && rows.contains(&vec!["verified", "every frame"]),
        "{rows:?}"
    );
    assert_eq!(rows.last().unwrap()[1], format!("esker restore {backup} NEW"));

    assert!(run(&["info", &backup]).rows().iter().any(|row| row[0] == "writer" && row[1].contains("backup")));
    assert_eq!(run(&["verify", &backup]).code, Some(0));
    let refused = run(&["cursor", "retire", &backup, "none", "--execute"]);
    assert_ne!(refused.code, Some(0), "a backup is not written");

    let summary = run(&["restore", &backup, &restored, "--json"]).of_type("summary").remove(0);
    assert_eq!(summary["through"], 60);
    assert!(summary["era"].as_str().unwrap().parse::<u64>().unwrap() > 1_700_000_000);
    assert_eq!(run(&["dump", &restored]).stdout.lines().count(), 60);
    drop(journal);
}

#[test]
fn what_cannot_be_backed_up_or_restored_says_so_and_leaves_nothing() {
    let (_directory, journal, [store, backup, restored]) = live();
    journal.close().unwrap();
    for (arguments, code) in [
        (["restore", &store, &restored], 2),
        (["backup", &restored, &backup], 3),
        (["backup", &store, &store], 2),
    ] {
        let refused = run(&arguments);
        assert_eq!(
            (refused.code, refused.stdout.as_str()),
            (Some(code), ""),
            "{arguments:?}: {}",
            refused.stderr
        );
    }
    assert!(!std::path::Path::new(&backup).exists() && !std::path::Path::new(&restored).exists());
    let linked = run(&["backup", &store, &backup, "--link", "--json"]).of_type("summary").remove(0);
    assert!(linked["linked"].as_u64().unwrap() > 0, "{linked}");
}
