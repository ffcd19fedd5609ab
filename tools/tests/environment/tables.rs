//! Tables fit the terminal that they are on: cells are cut there, with a mark, and nowhere else.

use std::path::Path;

use esker::{Region, Start, WatchOptions};

use crate::streams::data_on_a_terminal;
use crate::support::{Sample, run};
use crate::{LOOKS, LOOKS_TOO, OF_ITSELF, TABLES, harbour, quay, words};

/// What stands where a cell was cut, or a column left out.
const CUT: char = '\u{2026}';

/// A store of names that are longer than a terminal is wide.
fn with_long_names() -> Sample {
    let sample = Sample::empty();
    let journal = sample.open();
    let kind = format!("kind-{}", "k".repeat(60));
    let note = journal.kind(&kind).unwrap();
    for n in 0..3 {
        let key = format!("{n}-{}", "\u{e9}".repeat(90));
        journal.append(esker::Record::new(note, key.as_bytes(), b"1")).unwrap();
    }
    let name = format!("cursor-{}", "c".repeat(50));
    drop(journal.watch_with(&name, Region::kind(note), WatchOptions::new()).unwrap());
    journal.reset_cursor(&name, Start::Oldest).unwrap();
    journal.close().unwrap();
    sample
}

#[test]
fn no_line_of_a_table_is_longer_than_the_terminal_is_wide() {
    let directory = tempfile::tempdir().unwrap();
    let [state, plane] = ["harbour.esker", "quay.esker"].map(|name| directory.path().join(name));
    harbour::make(&state).unwrap();
    quay::make(&plane).unwrap();
    let long = with_long_names();
    let stores: [&Path; 3] = [&state, &plane, &long.path()];
    for store in stores.map(|store| store.to_str().unwrap()) {
        for columns in [80, 40] {
            for command in LOOKS.iter().chain(LOOKS_TOO).chain(OF_ITSELF) {
                let args = words(command, store);
                let (code, screen, messages) = data_on_a_terminal(&args, columns);
                // Not every store has a segment 1.
                assert!(matches!(code, Some(0..=2)), "{command} at {columns}: {code:?} {screen}{messages}");
                let longest = screen.lines().map(|line| line.chars().count()).max().unwrap_or(0);
                if !TABLES.contains(command) {
                    continue;
                }
                assert!(longest <= usize::from(columns), "{command} at {columns}: {longest}\n{screen}");
                let piped = run(&args);
                assert!(!piped.stdout.contains(CUT), "{command}: {}", piped.stdout);
                assert!(!piped.stderr.contains("too narrow"), "{command}: {}", piped.stderr);
            }
        }
    }
}

#[test]
fn every_table_is_one_of_those_that_are_looked_at() {
    for command in TABLES {
        let is_run = LOOKS.iter().chain(LOOKS_TOO).chain(OF_ITSELF).any(|known| known == command);
        assert!(is_run, "no test runs {command}");
    }
}

#[test]
fn what_was_cut_and_left_out_is_said_and_a_wide_terminal_shows_all() {
    let long = with_long_names();
    let store = long.text();
    let args = ["entities", store.as_str()];
    let piped = run(&args).stdout;
    let (_, wide, messages) = data_on_a_terminal(&args, 400);
    assert!(!wide.contains(CUT) && messages.is_empty(), "{wide}{messages}");
    let keys: Vec<&str> = piped.lines().map(|line| line.split('\t').next().unwrap()).collect();
    assert!(keys.len() == 3 && keys.iter().all(|key| wide.contains(key)), "{wide}");
    // At 80 places all columns are there, and what is cut is the name and the time.
    let (_, narrow, messages) = data_on_a_terminal(&args, 80);
    assert!(narrow.contains("last write") && messages.is_empty(), "{narrow}{messages}");
    assert!(narrow.matches(CUT).count() >= 3 && !keys.iter().any(|key| narrow.contains(key)), "{narrow}");
    let (_, narrower, messages) = data_on_a_terminal(&args, 40);
    assert!(!narrower.contains("last write"), "{narrower}");
    assert!(messages.contains("too narrow for") && messages.contains("last write"), "{messages}");
    assert_eq!(messages.matches("too narrow").count(), 1);
    // A number is whole, or not there.
    for row in narrow.lines().skip(1) {
        assert!(row.split_whitespace().nth(1).unwrap().parse::<u64>().is_ok(), "{narrow}");
    }
}
