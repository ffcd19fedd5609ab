//! A process that commits to its backplane and is killed, again and again: what it said was acknowledged is there, once,
//! and a commit is there as a whole or not at all.
//!
//! The default is 12 kills; `ESKER_KILLS=300` for more.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use esker::backplane::{
    Append, Backplane, Compactor, Filter, Local, Offset, Put, Revision, Stamp, Step, WriterId,
};
use esker::{CompactOptions, ErrorKind, Options};

const STORE: &str = "ESKER_TEST_STORE";
const KEY: &[u8] = b"k";
const ME: WriterId = WriterId::from_raw(1);

fn open(store: &Path) -> Local {
    Local::owning(Options::new().segment_bytes(32 << 10).open(store).unwrap()).unwrap()
}

/// Not a test of its own: what a child process does, which is this same program. Each commit has a record and the cell that
/// counts it; now and then what is old is dropped.
#[test]
fn role_of_a_child_process() {
    let Ok(store) = std::env::var(STORE) else { return };
    let plane = open(Path::new(&store));
    let cell = plane.load(KEY).unwrap();
    let (mut revision, mut count) = (cell.revision, cell.bytes.map_or(0, |bytes| number(&bytes)));
    loop {
        count += 1;
        let mut bytes = count.to_le_bytes().to_vec();
        bytes.resize(8 + usize::try_from(count % 500).unwrap(), 7);
        let append = Append::new("order", KEY, &bytes, Stamp::new(ME, count));
        let put = Put::new(KEY, revision, Some(&bytes[..8]), Stamp::new(ME, count));
        let done = plane.commit(&[Step::Append(append), Step::Put(put)]).unwrap();
        revision = done.revision(1).unwrap();
        say(&format!("ack {count} {}", done.offset(0).unwrap()));
        if count % 50 == 0 {
            plane.compact("order", KEY, done.offset(0).unwrap()).unwrap();
            say(&format!("floor {}", done.offset(0).unwrap()));
            plane.journal().compact(&CompactOptions::new()).unwrap();
        }
    }
}

fn say(line: &str) {
    std::io::stdout().write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

/// Lets a child speak so many lines, kills it, and gives back all that it said.
fn kill_after(store: &Path, lines: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "role_of_a_child_process", "--nocapture", "--test-threads=1"])
        .env(STORE, store)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut heard: Vec<String> = Vec::new();
    while heard.iter().filter(|line| line.starts_with("ack")).count() < lines {
        heard.push(said.next().expect("the child ended by itself"));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    heard.extend(said);
    // The last line may be cut off.
    heard.retain(|line| line.split(' ').nth(1).is_some_and(|number| number.parse::<u64>().is_ok()));
    heard
}

#[test]
fn what_a_killed_process_was_told_is_there_once_and_in_whole_commits() {
    let kills = std::env::var("ESKER_KILLS").ok().map_or(12, |text| text.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("killed.esker");
    let (mut acknowledged, mut floor) = (0, 0);
    for kill in 0..kills {
        let said = kill_after(&store, 5 + kill * 17 % 90);
        for line in &said {
            let numbers: Vec<u64> = line.split(' ').skip(1).filter_map(|word| word.parse().ok()).collect();
            match (line.starts_with("ack"), numbers.as_slice()) {
                (true, [count, ..]) => acknowledged = *count,
                (false, [offset]) => floor = *offset,
                _ => {}
            }
        }
        let plane = open(&store);
        let counted = plane.load(KEY).unwrap().bytes.map_or(0, |bytes| number(&bytes));
        assert!(counted >= acknowledged, "{acknowledged} were acknowledged, and {counted} are counted");
        // One more may have been done and not been said.
        assert!(counted <= acknowledged + 1, "{counted} are counted behind {acknowledged}");
        let topic = Filter::topic("order", KEY);
        let lowest = plane.lowest_retained(topic).unwrap();
        assert!(lowest.raw() >= floor, "the floor was at {floor}, and the lowest is {lowest}");
        let mut feed = plane.subscribe(Filter::stream("order"), Offset::BEGINNING).unwrap();
        let numbers: Vec<u64> = std::iter::from_fn(|| feed.try_next().unwrap())
            .map(|record| {
                assert_eq!(number(record.payload()), record.stamp().unwrap().n);
                record.stamp().unwrap().n
            })
            .collect();
        let first = numbers[0];
        assert!(numbers.iter().copied().eq(first..=counted), "{numbers:?} of {counted}");
        if first > 1 {
            let lost = plane.subscribe(topic, Offset::BEGINNING).err().unwrap();
            assert_eq!(lost.kind(), ErrorKind::Lost);
        }
        plane.close().unwrap();
    }
    assert!(floor > 0 && acknowledged > 0, "nothing was dropped in {kills} kills");
    assert_ne!(open(&store).load(KEY).unwrap().revision, Revision::NEVER);
}
