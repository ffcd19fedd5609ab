//! Two processes: a writer that is killed at random under a durable load, and readers beside
//! it. Everything acknowledged is there, the rest is a prefix, every reopening succeeds.
//!
//! The default is 60 kills; `ESKER_KILLS=300` for more.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use esker::{Journal, Options, Reader, Record};

const ROLE: &str = "ESKER_TEST_ROLE";
const STORE: &str = "ESKER_TEST_STORE";
const THREADS: u64 = 3;
/// The key of what is appended between two kills.
const AFTERWARDS: &[u8] = b"afterwards";

fn options() -> Options {
    Options::new().segment_bytes(64 << 10)
}

/// Not a test of its own: what a child process does, which is this same program.
#[test]
fn role_of_a_child_process() {
    let (Ok(role), Ok(store)) = (std::env::var(ROLE), std::env::var(STORE)) else { return };
    match role.as_str() {
        "writer" => write_for_ever(Path::new(&store)),
        "reader" => read_for_ever(Path::new(&store)),
        "aborts" => append_once_and_abort(Path::new(&store)),
        other => panic!("no role {other}"),
    }
}

/// Each thread appends its counter to its own entity, and says what was acknowledged.
fn write_for_ever(store: &Path) {
    let journal = options().open(store).unwrap();
    let kind = journal.kind("counter").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let journal = &journal;
            scope.spawn(move || {
                let key = [b'a' + u8::try_from(thread).unwrap()];
                let newest = journal.latest(kind, &key).unwrap();
                let mut count = newest.map_or(0, |entry| counter(entry.payload()));
                loop {
                    count += 1;
                    let mut payload = count.to_le_bytes().to_vec();
                    payload.resize(8 + usize::try_from(count % 300).unwrap(), 0xa5);
                    let mut batch = journal.batch();
                    (0..=count % 3).for_each(|_| _ = batch.push(Record::new(kind, &key, &payload)));
                    let receipt = batch.commit().unwrap();
                    let last = receipt.receipts.last().unwrap();
                    let line = format!("ack {thread} {count} {} {}\n", last.seq, last.generation);
                    std::io::stdout().write_all(line.as_bytes()).unwrap();
                }
            });
        }
    });
}

fn append_once_and_abort(store: &Path) {
    let journal = Options::new().open(store).unwrap();
    let kind = journal.kind("note").unwrap();
    journal.append(Record::new(kind, b"k", b"once")).unwrap();
    std::process::abort();
}

fn read_for_ever(store: &Path) {
    let reader = Reader::open(store).unwrap();
    let mut seen = 0;
    loop {
        let view = reader.view().unwrap();
        let count = view.range(..).map(Result::unwrap).fold(0, |count, _| count + 1);
        assert!(count >= seen, "a reader lost what it had seen");
        seen = count;
        std::io::stdout().write_all(format!("seen {seen}\n").as_bytes()).unwrap();
    }
}

fn start(role: &str, store: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "role_of_a_child_process", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(STORE, store)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

fn counter(payload: &[u8]) -> u64 {
    u64::from_le_bytes(payload[..8].try_into().unwrap())
}

/// Lets a child speak `lines` lines, kills it, and gives back all that it said.
fn kill_after(mut child: Child, lines: usize) -> Vec<String> {
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut heard = Vec::new();
    while heard.len() < lines {
        match said.next() {
            Some(line) => heard.push(line.unwrap()),
            None => panic!("the child ended by itself after {heard:?}: {:?}", child.wait()),
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What was on its way is an acknowledgement too; the last line may be cut off.
    heard.extend(said.map_while(Result::ok));
    heard
}

/// Each entity counts from one without a gap, in whole batches; answers its last count.
fn counts(journal: &Journal) -> HashMap<u8, u64> {
    let mut last: HashMap<u8, u64> = HashMap::new();
    let view = journal.view();
    let mut batch = 0;
    for (entry, seq) in view.range(..).zip(1..) {
        let entry = entry.unwrap();
        assert_eq!(entry.seq().get(), seq);
        if entry.key() == AFTERWARDS {
            continue;
        }
        let count = counter(entry.payload());
        let before = last.get(&entry.key()[0]).copied().unwrap_or(0);
        if batch == 0 {
            assert_eq!(count, before + 1, "a gap at seq {seq}");
        }
        batch += 1;
        assert_eq!(entry.has_more(), batch <= count % 3, "a batch in parts at seq {seq}");
        if !entry.has_more() {
            batch = 0;
            last.insert(entry.key()[0], count);
        }
    }
    assert_eq!(batch, 0, "the log ends within a batch");
    last
}

#[test]
fn a_writer_that_is_killed_at_random_loses_nothing_that_it_acknowledged() {
    let kills = std::env::var("ESKER_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("killed.esker");
    let mut reader: Option<Reader> = None;
    let mut seed = 88_172_645_463_325_252_u64;
    for kill in 0..kills {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let said = kill_after(start("writer", &store), 1 + usize::try_from(seed % 150).unwrap());
        let journal =
            options().open(&store).unwrap_or_else(|error| panic!("reopening after kill {kill}: {error}"));
        let last = counts(&journal);
        for line in said.iter().filter(|line| line.starts_with("ack ")) {
            let words: Vec<&str> = line.split(' ').collect();
            let [_, thread, count, ..] = words[..] else { continue };
            if words.len() < 5 {
                continue;
            }
            let key = b'a' + thread.parse::<u8>().unwrap();
            let (acknowledged, there) = (count.parse::<u64>().unwrap(), last.get(&key).copied().unwrap_or(0));
            assert!(there >= acknowledged, "kill {kill}: {line}, but the log has {there}");
        }
        // A reader that was there before the kill follows into the next life.
        let entries = journal.stats().entries;
        let reader = reader.get_or_insert_with(|| Reader::open(&store).unwrap());
        let newest = reader.view().unwrap().last_seq().unwrap().map_or(0, |seq| seq.get());
        assert_eq!(newest, entries, "kill {kill}: the reader");
        // It looked between the opening and the first append, which starts a new segment.
        let kind = journal.kind("counter").unwrap();
        journal.append(Record::new(kind, AFTERWARDS, b"")).unwrap();
        let newest = reader.view().unwrap().last_seq().unwrap().map_or(0, |seq| seq.get());
        assert_eq!(newest, entries + 1, "kill {kill}: the reader behind the torn segment");
        journal.close().unwrap();
    }
}

#[test]
fn readers_that_are_killed_do_not_disturb_the_writer_or_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("read.esker");
    let journal = options().open(&store).unwrap();
    let kind = journal.kind("counter").unwrap();
    let mut appended = 0;
    for _ in 0..10 {
        let child = start("reader", &store);
        for _ in 0..50 {
            appended += 1;
            journal.append(Record::new(kind, b"a", &[1; 200])).unwrap();
        }
        let said = kill_after(child, 5);
        assert!(said.iter().any(|line| line.starts_with("seen ")), "{said:?}");
    }
    let reader = Reader::open(&store).unwrap();
    assert_eq!(reader.view().unwrap().range(..).count(), appended);
    journal.close().unwrap();
}

#[test]
fn what_a_killed_writer_had_made_ahead_is_given_back() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("a.esker");
    let mut after_each = Vec::new();
    for kills in 1..=8 {
        let mut child = start("aborts", &store);
        assert!(!child.wait().unwrap().success());
        let journal = Options::new().open(&store).unwrap();
        assert_eq!((journal.stats().entries, journal.recovery().clean), (kills, false));
        journal.close().unwrap();
        let files = std::fs::read_dir(&store).unwrap().map(|file| file.unwrap().metadata().unwrap());
        after_each.push(files.map(|file| std::os::unix::fs::MetadataExt::blocks(&file) * 512).sum::<u64>());
    }
    let growth = (after_each[7] - after_each[0]) / 7;
    assert!(growth < 64 << 10, "each kill costs {growth} bytes: {after_each:?}");
}
