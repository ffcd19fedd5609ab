//! `backup` and `restore` as processes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;

use std::cell::Cell;
use std::path::Path;

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

/// A copy that ends at each moment at which it asks whether to go on, and one that is never told to end.
fn end_at_each<T>(target: &str, copy: impl Fn(&dyn Fn() -> bool) -> esker::Result<T>) {
    let mut ended = 0;
    for allowed in (0..).step_by(9) {
        let asked = Cell::new(0);
        let go_on = || asked.replace(asked.get() + 1) < allowed;
        let Err(error) = copy(&go_on) else { break };
        assert_eq!(error.kind(), esker::ErrorKind::Io, "{error}");
        assert!(!Path::new(target).exists(), "behind {allowed} questions");
        ended += 1;
    }
    assert!(ended > 3, "it asks again and again: {ended}");
}

#[test]
fn a_copy_that_is_ended_leaves_nothing_in_the_way_of_the_next() {
    let (directory, journal, [store, backup, restored]) = live();
    // With a cursor a store keeps a reserve.
    drop(journal.watch("audit", esker::Region::all()).unwrap());
    journal.close().unwrap();
    let reader = esker::Reader::open(&store).unwrap();
    end_at_each(&backup, |go_on| reader.backup_while(&backup, esker::BackupBy::Copy, go_on));
    end_at_each(&restored, |go_on| esker::restore_while(&backup, &restored, go_on));
    let repaired = directory.path().join("repaired").display().to_string();
    end_at_each(&repaired, |go_on| esker::repair_while(&store, &repaired, go_on));
    for made in [&backup, &restored, &repaired] {
        assert_eq!(run(&["verify", made]).code, Some(0));
    }
}

#[test]
fn an_interrupt_comes_to_a_whole_copy_or_to_none() {
    let (_directory, journal, [store, backup, _]) = live();
    journal.close().unwrap();
    let mut child = support::tool(&["backup", &store, &backup])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !Path::new(&backup).exists() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    let pid = rustix::process::Pid::from_child(&child);
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
    match child.wait().unwrap().code() {
        Some(130) => assert!(!Path::new(&backup).exists()),
        code => assert_eq!(code, Some(0)),
    }
    let again = run(&["backup", &store, &backup]);
    assert!(Path::new(&backup).exists(), "{}", again.stderr);
    assert_eq!(run(&["verify", &backup]).code, Some(0));
}

#[test]
fn commands_to_run_next_name_a_directory_as_a_shell_takes_it() {
    let (directory, journal, [store, _, _]) = live();
    journal.close().unwrap();
    let [backup, restored, repaired] =
        ["b 1", "c 1", "d 1"].map(|name| directory.path().join(name).display().to_string());
    for (arguments, target) in [
        (&["backup", &store, &backup][..], &backup),
        (&["restore", &backup, &restored], &restored),
        (&["repair", &store, "--output", &repaired], &repaired),
    ] {
        let made = run(arguments);
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        assert!(made.rows().last().unwrap()[1].contains(&format!("'{target}'")), "{}", made.stdout);
    }
}

#[test]
fn a_backup_is_verified_as_a_whole_where_that_is_asked_for_and_damage_is_no_backup() {
    let (_directory, journal, [store, backup, other]) = live();
    let made = run(&["backup", &store, &backup, "--verify"]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert!(made.rows().contains(&vec!["verified", "in full"]), "{}", made.stdout);
    let summary =
        run(&["backup", &store, &other, "--verify", "--link", "--json"]).of_type("summary").remove(0);
    assert_eq!(summary["verified"], "full");
    std::fs::remove_dir_all(&other).unwrap();
    let summary = run(&["backup", &store, &other, "--json"]).of_type("summary").remove(0);
    assert_eq!(summary["verified"], "frames");
    std::fs::remove_dir_all(&other).unwrap();
    journal.close().unwrap();

    let (segment, offset) = support::place(&store, 7);
    support::flip(Path::new(&store), segment, offset + 70);
    let refused = run(&["backup", &store, &other, "--verify"]);
    assert_eq!((refused.code, &*refused.stdout), (Some(1), ""), "{}", refused.stderr);
    let named = refused.stderr.contains(&format!("{segment:010}.seg")) || refused.stderr.contains(&store);
    assert!(named && refused.stderr.contains(&offset.to_string()), "{}", refused.stderr);
    assert!(!Path::new(&other).exists(), "what is no backup is not left");
}
