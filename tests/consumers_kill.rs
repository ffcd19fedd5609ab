//! A process that consumes a topic of its store and is killed in its handlers, again and again: each event comes at least once
//! and in order, and none is given up because a process ended.
//!
//! The default is 12 kills; `ESKER_KILLS=300` for more.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use esker::backplane::Offset;
use esker::{Consumer, ConsumerOptions, ConsumerState, Delivery, Handled, Options, Store, Topic};

const STORE: &str = "ESKER_TEST_STORE";
const HANGS: &str = "ESKER_TEST_HANGS";
const NUMBERS: Topic<u64> = Topic::new("number");
/// An event fails so often before it is given up.
const ATTEMPTS: u32 = 3;

fn open(store: &Path) -> Store {
    Store::over(Options::new().segment_bytes(64 << 10).open(store).unwrap())
}

fn is_bad(number: u64) -> bool {
    number.is_multiple_of(11)
}

fn consume(store: &Store, handler: impl Fn(&Delivery<'_, u64>) -> Handled + Send + 'static) -> Consumer {
    let options = ConsumerOptions::new()
        .retry_between(Duration::from_millis(1), Duration::from_millis(2))
        .max_attempts(ATTEMPTS);
    store.topic(NUMBERS, "a").unwrap().on_event("ship", options, handler).unwrap()
}

/// Not a test of its own: what a child process does, which is this same program. It appends, and consumes what it appends.
#[test]
fn role_of_a_child_process() {
    let Ok(path) = std::env::var(STORE) else { return };
    let store = open(Path::new(&path));
    let topic = store.topic(NUMBERS, "a").unwrap();
    let mut feed = topic.read(Offset::BEGINNING).unwrap();
    let mut last = 0;
    while let Some(record) = feed.try_next().unwrap() {
        last = record.value().unwrap();
    }
    let consumer = consume(&store, |delivery| {
        say(&format!("begin {}", delivery.event));
        // Somebody may kill it here.
        (0..50).for_each(|_| std::thread::yield_now());
        if is_bad(delivery.event) {
            say(&format!("error {}", delivery.event));
            return Err("bad".into());
        }
        say(&format!("done {}", delivery.event));
        Ok(())
    });
    loop {
        last += 1;
        topic.append(&last).unwrap();
        say(&format!("sent {last}"));
        if consumer.status().state == ConsumerState::Suspended {
            consumer.resume().unwrap();
        }
    }
}

/// The same: one whose handler never comes back.
#[test]
fn role_of_a_child_that_hangs() {
    let Ok(path) = std::env::var(HANGS) else { return };
    let store = open(Path::new(&path));
    let _consumer = consume(&store, |delivery| {
        say(&format!("begin {}", delivery.event));
        loop {
            std::thread::park();
        }
    });
    loop {
        std::thread::park();
    }
}

fn say(line: &str) {
    // The harness has begun a line of its own, with which the first one would be lost.
    std::io::stdout().write_all(format!("\n{line}\n").as_bytes()).unwrap();
}

/// Lets a child begin so many events, kills it, and gives back all that it said.
fn kill_after(store: &Path, events: usize) -> Vec<(String, u64)> {
    kill_one(("role_of_a_child_process", STORE), store, events)
}

fn kill_one((role, of): (&str, &str), store: &Path, events: usize) -> Vec<(String, u64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", role, "--nocapture", "--test-threads=1"])
        .env(of, store)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut heard: Vec<String> = Vec::new();
    while heard.iter().filter(|line| line.starts_with("begin")).count() < events {
        heard.push(said.next().expect("the child ended by itself"));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    heard.extend(said);
    let words = heard.iter().filter_map(|line| line.split_once(' '));
    words.filter_map(|(word, number)| Some((word.to_owned(), number.parse().ok()?))).collect()
}

#[test]
fn a_consumer_that_is_killed_in_its_handlers_does_every_event_in_order_and_drops_none() {
    let kills = std::env::var("ESKER_KILLS").ok().map_or(12, |text| text.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("killed.esker");
    let mut heard: Vec<(String, u64)> = Vec::new();
    for kill in 0..kills {
        heard.extend(kill_after(&path, 1 + kill * 17 % 60));
    }
    // One that is not killed does the rest.
    let store = open(&path);
    let (tell, told) = std::sync::mpsc::channel();
    let consumer = consume(&store, move |delivery| {
        let word = if is_bad(delivery.event) { "error" } else { "done" };
        tell.send(("begin".to_owned(), delivery.event))?;
        tell.send((word.to_owned(), delivery.event))?;
        if is_bad(delivery.event) { Err("bad".into()) } else { Ok(()) }
    });
    let head = store.topic(NUMBERS, "a").unwrap().head().unwrap();
    while consumer.status().committed < head {
        assert!(!consumer.status().has_ended(), "{consumer:?}");
        if consumer.status().state == ConsumerState::Suspended {
            consumer.resume().unwrap();
        }
        std::thread::yield_now();
    }
    let letters: Vec<(u64, u32)> = consumer
        .dead_letters()
        .unwrap()
        .iter()
        .map(|letter| (letter.payload.as_ref().map_or(0, |payload| number(payload)), letter.attempts))
        .collect();
    store.close().unwrap();
    heard.extend(told.try_iter());

    let mut counts: BTreeMap<(&str, u64), u32> = BTreeMap::new();
    let mut highest = 0;
    for (word, number) in &heard {
        *counts.entry((word.as_str(), *number)).or_default() += 1;
        if word == "begin" {
            assert!(*number <= highest + 1, "{number} came, and {} had not", highest + 1);
            highest = highest.max(*number);
        }
    }
    let count = |word, number| counts.get(&(word, number)).copied().unwrap_or(0);
    let sent = heard.iter().filter(|(word, _)| word == "sent").map(|(_, number)| *number).max().unwrap();
    assert!(highest >= sent, "{sent} were acknowledged, and {highest} came");
    for number in 1..=highest {
        if is_bad(number) {
            // An error that was not written down before the kill does not count.
            assert!(
                count("error", number) >= ATTEMPTS,
                "{number} was given up behind {}",
                count("error", number)
            );
        } else {
            assert!(count("done", number) >= 1, "{number} was never done");
        }
    }
    let bad: Vec<(u64, u32)> = (1..=highest).filter(|n| is_bad(*n)).map(|n| (n, ATTEMPTS)).collect();
    assert_eq!(letters, bad, "what is bad is given up, once, and nothing else");
}

#[test]
fn five_processes_that_are_killed_in_the_handler_suspend_and_starts_beside_one_that_runs_do_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hangs.esker");
    let store = open(&path);
    store.topic(NUMBERS, "a").unwrap().append(&1).unwrap();
    store.close().unwrap();
    for _ in 0..5 {
        let heard = kill_one(("role_of_a_child_that_hangs", HANGS), &path, 1);
        assert!(heard.contains(&("begin".to_owned(), 1)), "{heard:?}");
        // Who only looks counts nothing.
        let store = open(&path);
        let info = store.topic(NUMBERS, "a").unwrap().consumers().unwrap().remove(0);
        assert!(info.is_open && info.suspended.is_none(), "{info:?}");
        store.close().unwrap();
    }
    let store = open(&path);
    let consumer = consume(&store, |_| Ok(()));
    while consumer.status().state != ConsumerState::Suspended {
        assert!(!consumer.status().has_ended(), "{consumer:?}");
        std::thread::yield_now();
    }
    assert_eq!((consumer.status().crashes, consumer.status().committed), (5, Offset::BEGINNING));
    store.close().unwrap();
}

fn number(payload: &[u8]) -> u64 {
    match payload {
        [small] => u64::from(*small),
        [0xcc, byte] => u64::from(*byte),
        [0xcd, high, low] => u64::from(*high) << 8 | u64::from(*low),
        other => panic!("{other:?} is no number of this test"),
    }
}
