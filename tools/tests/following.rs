//! A follower ends by itself once nothing that is appended can pass its filters: each of these would never end otherwise.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use esker::{Durability, Journal, Kind, ManualClock, Options, Record, Store};
use support::{ENTRIES, Run, Sample, on, tool};

/// A follower that runs, and has printed its first line.
fn follow(command: &[&str], store: &str, more: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let words = [&command[..1], &[store], &command[1..], &["-f"], more].concat();
    let mut child = tool(&words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    lines.read_line(&mut first).unwrap();
    assert!(!first.is_empty());
    (child, lines)
}

/// The Seqs that follow the first line, when the follower has ended by itself.
fn rest((mut child, lines): (Child, BufReader<std::process::ChildStdout>)) -> Vec<u64> {
    let seqs = lines.lines().map(|line| line.unwrap().split('\t').next().unwrap().parse().unwrap()).collect();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    seqs
}

fn seqs(run: &Run) -> Vec<u64> {
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    run.rows().iter().map(|row| row[0].parse().unwrap()).collect()
}

fn append(journal: &Journal, count: usize) {
    let note = journal.kind("note").unwrap();
    for _ in 0..count {
        journal.append(Record::new(note, b"k", b"1")).unwrap();
    }
}

#[test]
fn one_that_has_what_it_was_asked_for_ends_at_once() {
    let sample = Sample::new();
    let dump = |more: &[&str]| seqs(&on(&["dump", "-f"], &sample.text(), more));
    assert_eq!(dump(&["--seq", "..7"]), (1..=7).collect::<Vec<_>>());
    assert_eq!(dump(&["--seq", "290..300"]), (290..=ENTRIES).collect::<Vec<_>>());
    assert_eq!(dump(&["--seq", "..300", "--last", "2"]), [299, 300]);
    assert_eq!(dump(&["--seq", "..300", "--entity", "doc/k0", "--last", "1"]), [300]);
    assert_eq!(dump(&["--limit", "3"]), [1, 2, 3]);
    assert_eq!(dump(&["--limit", "300"]).len(), 300);
    assert_eq!(dump(&["--until", "2020-01-01"]), [0; 0]);
    // What is there was written before this moment, and nothing is from now on.
    let now = this_moment();
    assert_eq!(dump(&["--until", &now]).len(), 300);
    let json = on(&["dump", "-f", "--json", "--seq", "300"], &sample.text(), &[]);
    assert_eq!((json.code, json.json().len()), (Some(0), 3));
}

/// This moment as the tool takes it.
fn this_moment() -> String {
    esker::dump::rfc3339(nanoseconds_now())
}

fn nanoseconds_now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_nanos()).unwrap()
}

#[test]
fn one_ends_with_the_last_entry_that_can_pass_and_not_before() {
    let sample = Sample::new();
    let journal = sample.open();
    let follower = follow(&["dump"], &sample.text(), &["--seq", "300..302"]);
    append(&journal, 5);
    assert_eq!(rest(follower), [301, 302]);
    let follower = follow(&["dump"], &sample.text(), &["--last", "1", "--limit", "4"]);
    append(&journal, 5);
    assert_eq!(rest(follower), [306, 307, 308]);
    // The last that can pass is of another kind, and passes over all the same.
    let follower = follow(&["dump"], &sample.text(), &["--seq", "300..312", "--kind", "doc"]);
    append(&journal, 5);
    assert_eq!(rest(follower), [0; 0]);
    journal.close().unwrap();
}

#[test]
fn what_was_written_too_late_is_passed_over_and_the_clock_ends_one() {
    const SECOND: i64 = 1_000_000_000;
    let sample = Sample::empty();
    let until = nanoseconds_now() + 2 * SECOND;
    let clock = ManualClock::new();
    clock.set(until - 60 * SECOND);
    let options = Options::new().durability(Durability::Os).clock(clock.clone());
    let journal = options.open(sample.path()).unwrap();
    append(&journal, 1);
    // One that is there already is too late as well.
    clock.set(until + SECOND);
    append(&journal, 1);
    let follower = follow(&["dump"], &sample.text(), &["--until", &esker::dump::rfc3339(until)]);
    clock.set(until);
    append(&journal, 1);
    clock.set(until - 1);
    append(&journal, 2);
    clock.set(until);
    append(&journal, 1);
    assert_eq!(rest(follower), [4, 5]);
    let over = nanoseconds_now() - until;
    assert!(over >= SECOND, "{over} ns");
    journal.close().unwrap();
}

#[test]
fn a_follower_of_events_ends_as_well() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Buoy {
        depth: u64,
    }
    const BUOY: Kind<Buoy> = Kind::new("buoy").events();
    let sample = Sample::empty();
    let store = Store::over(Options::new().durability(Durability::Os).open(sample.path()).unwrap());
    let radar = store.source("radar").unwrap();
    let say = |depth| {
        radar.assert(BUOY, "north", &Buoy { depth }).unwrap();
        store.flush().unwrap();
    };
    say(1);
    let follower = follow(&["events", "buoy"], &sample.text(), &["--limit", "3"]);
    (2..6).for_each(say);
    assert_eq!(rest(follower).len(), 2);
    drop(radar);
    store.close().unwrap();
}
