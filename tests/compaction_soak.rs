//! An endless load on a store that is compacted all the time: the disk stays bounded, readers on other
//! threads and in another view of the files see what they must, and a cursor that holds everything back is
//! seen, named and retired.
//!
//! By default it takes seconds, and the writer waits where a busy machine leaves no time to compact: so that
//! the bound does not depend on that. In a long run it does not wait.
//!
//! `ESKER_SOAK_SECONDS=600 cargo test --release --test compaction_soak` takes ten minutes, with segments of
//! 1 MiB.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use esker::{
    AutoCompact, Check, CompactOptions, Durability, ErrorKind, Item, Journal, Keep, KindId, Options, Reader,
    Record, Region, Seq, Start, SubscribeOptions, Until, WatchOptions, verify,
};

const KEYS: u64 = 200;
/// So far the writer runs ahead of the reader that misses nothing.
const BEHIND_MAX: u64 = 2_000;

fn seconds() -> u64 {
    std::env::var("ESKER_SOAK_SECONDS").ok().map_or(6, |value| value.parse().expect("a number of seconds"))
}

fn disk_use(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let bytes = |entry: std::io::Result<std::fs::DirEntry>| Some(entry.ok()?.metadata().ok()?.blocks() * 512);
    std::fs::read_dir(path).unwrap().filter_map(bytes).sum()
}

/// What an entry says, so that whoever reads it can tell that it is whole.
fn payload(n: u64) -> Vec<u8> {
    let mut bytes = n.to_le_bytes().to_vec();
    bytes.resize(8 + usize::try_from(n % 400).unwrap(), n.to_le_bytes()[0]);
    bytes
}

fn number(payload: &[u8]) -> u64 {
    let n = u64::from_le_bytes(*payload.first_chunk().unwrap());
    assert_eq!(payload, self::payload(n));
    n
}

struct Kinds {
    row: KindId,
    metric: KindId,
}

fn append_one(journal: &Journal, kinds: &Kinds, n: u64) {
    let key = (n * 7 % KEYS).to_le_bytes();
    let kind = if n.is_multiple_of(3) { kinds.metric } else { kinds.row };
    journal.append(Record::new(kind, &key, &payload(n))).unwrap();
}

#[test]
fn an_endless_load_stays_within_a_bounded_disk_while_everybody_reads() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("soak.esker");
    let long = seconds() >= 60;
    let segment_bytes: u64 = if long { 1 << 20 } else { 128 << 10 };
    let policy = CompactOptions::new().keep_bytes(4 * segment_bytes).keep_tombstones_for(Duration::ZERO);
    let auto = AutoCompact::every(Duration::from_millis(20)).min_garbage(segment_bytes).with(policy);
    let options = Options::new().segment_bytes(segment_bytes).durability(Durability::Os).auto_compact(auto);
    let journal = options.open(&path).unwrap();
    let kinds = Kinds { row: journal.kind("row").unwrap(), metric: journal.kind("metric").unwrap() };
    journal.keep(kinds.row, Keep::Latest).unwrap();
    journal.keep(kinds.metric, Keep::Nothing).unwrap();
    // What is kept of rows is small; what is left alone by the policy, a few segments that are being
    // written, compacted or not yet worth it, and their indexes are the rest.
    let bound = 40 * segment_bytes;

    let (stop, appended, highest) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let read = AtomicU64::new(0);
    // Whoever does not read holds back a descriptor a segment, too: not for long.
    let (began, phase) = (Instant::now(), Duration::from_secs(seconds()) / 3);
    let slow_phase = phase.min(Duration::from_secs(20));
    let running = || !stop.load(Ordering::Relaxed);
    // Somebody does not read, so nothing goes.
    let is_held = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut looked, mut compacted) = (0, (0, 0));
            while running() {
                let count = appended.load(Ordering::Relaxed);
                if !long && count >= looked + 100 {
                    let stats = journal.stats();
                    if stats.compactions != compacted.0 || is_held.load(Ordering::Relaxed) {
                        compacted = (stats.compactions, stats.appended_bytes);
                    }
                    if stats.appended_bytes > compacted.1 + 12 * segment_bytes {
                        std::thread::yield_now();
                        continue;
                    }
                    looked = count;
                }
                // A guaranteed reader holds back what it has not seen: it is not left too far behind.
                if appended.load(Ordering::Relaxed) > read.load(Ordering::Relaxed) + BEHIND_MAX {
                    std::thread::yield_now();
                    continue;
                }
                append_one(&journal, &kinds, appended.load(Ordering::Relaxed));
                appended.fetch_add(1, Ordering::Relaxed);
            }
        });
        // Guaranteed: every entry, in order, whatever is compacted behind it.
        let watcher = scope.spawn(|| {
            let options = WatchOptions::new().until(Until::Visible);
            let mut watcher = journal.watch_with("follower", Region::all(), options).unwrap();
            let mut seen = 0;
            let mut generations: HashMap<(KindId, Vec<u8>), u64> = HashMap::new();
            while running() {
                while let Some(entry) = watcher.next_timeout(Duration::from_millis(5)).unwrap() {
                    seen += 1;
                    read.store(seen, Ordering::Relaxed);
                    assert_eq!(entry.seq().get(), seen);
                    assert_eq!(number(entry.payload()), seen - 1);
                    let entity = (entry.kind(), entry.key().to_vec());
                    let before = generations.insert(entity, entry.generation().get()).unwrap_or(0);
                    assert!(entry.generation().get() > before, "a generation went back");
                    if seen.is_multiple_of(500) {
                        break;
                    }
                }
                watcher.checkpoint().unwrap();
            }
            seen
        });
        // Lossy: what it is shown and what it is told that it missed are everything.
        let subscriber = scope.spawn(|| {
            let options = SubscribeOptions::new().from(Start::Oldest).until(Until::Visible);
            let mut subscriber = journal.subscribe_with(Region::all(), options).unwrap();
            let (mut shown, mut missed, mut last) = (0, 0, 0);
            while running() {
                while let Some(item) = subscriber.next_timeout(Duration::from_millis(5)).unwrap() {
                    match item {
                        Item::Entry(entry) => {
                            assert!(entry.seq().get() > last);
                            last = entry.seq().get();
                            number(entry.payload());
                            shown += 1;
                        }
                        Item::Missed(one) => missed += one.count,
                        _ => unreachable!(),
                    }
                    if !running() {
                        break;
                    }
                }
                std::thread::sleep(Duration::from_millis(40));
            }
            assert!(shown > 0 && shown + missed >= last, "{shown} {missed} {last}");
        });
        // Point reads of rows: there is always one, and it never goes back.
        let points = scope.spawn(|| {
            let mut newest: HashMap<u64, u64> = HashMap::new();
            while running() {
                let view = journal.view();
                for key in 0..KEYS {
                    let Some(entry) = view.latest(kinds.row, &key.to_le_bytes()).unwrap() else {
                        assert!(!newest.contains_key(&key), "the row {key} is gone");
                        continue;
                    };
                    let n = number(entry.payload());
                    let before = newest.insert(key, n).unwrap_or(0);
                    assert!(n >= before, "row {key} went back from {before} to {n}");
                }
                let seqs: Vec<u64> = view.range(..).map(|entry| entry.unwrap().seq().get()).collect();
                assert!(seqs.is_sorted());
                let floor = view.floor(&Region::all()).map_or(1, Seq::get);
                let above = seqs.iter().filter(|seq| **seq >= floor).count() as u64;
                assert_eq!(above, view.last_seq().unwrap().map_or(0, Seq::get) + 1 - floor);
            }
        });
        // As another process does.
        let reader = scope.spawn(|| {
            let mut looks = 0u64;
            while running() {
                let reader = Reader::open(&path).unwrap();
                for _ in 0..20 {
                    let view = match reader.view() {
                        Ok(view) => view,
                        Err(error) if error.kind() == ErrorKind::Compacted => break,
                        Err(error) => panic!("{error}"),
                    };
                    for entry in view.range(..) {
                        match entry {
                            Ok(entry) => _ = number(entry.payload()),
                            Err(error) if error.kind() == ErrorKind::Compacted => break,
                            Err(error) => panic!("{error}"),
                        }
                    }
                    looks += 1;
                }
            }
            assert!(looks > 0);
        });
        let measure = |until: Instant| {
            while Instant::now() < until {
                std::thread::sleep(Duration::from_millis(50));
                highest.fetch_max(disk_use(&path), Ordering::Relaxed);
                let readers = [&writer, &points].map(|thread| thread.is_finished());
                if readers.contains(&true) || watcher.is_finished() || subscriber.is_finished() {
                    break;
                }
            }
        };
        measure(began + phase);
        let bounded = highest.swap(0, Ordering::Relaxed);
        // Somebody comes and does not read on: the log grows, and everybody can see why.
        is_held.store(true, Ordering::Relaxed);
        drop(journal.watch("slow", Region::all()).unwrap());
        measure(Instant::now() + slow_phase);
        let grown = highest.swap(0, Ordering::Relaxed);
        let stats = journal.stats();
        assert_eq!(stats.pinned_by.as_deref(), Some("slow"), "{stats:?}");
        journal.retire_cursor("slow").unwrap();
        is_held.store(false, Ordering::Relaxed);
        let settles = Instant::now() + phase.max(Duration::from_secs(30));
        while disk_use(&path) > bound && Instant::now() < settles {
            std::thread::sleep(Duration::from_millis(50));
        }
        highest.swap(disk_use(&path), Ordering::Relaxed);
        measure(began + Duration::from_secs(seconds()));
        let after = highest.load(Ordering::Relaxed);
        stop.store(true, Ordering::Relaxed);
        let seen = watcher.join().unwrap();
        for thread in [writer, subscriber, points, reader] {
            thread.join().unwrap();
        }
        let total = appended.load(Ordering::Relaxed);
        println!(
            "{{\"states\":{total},\"seen\":{seen},\"bounded\":{bounded},\"with_a_slow_cursor\":{grown},\
             \"after\":{after},\"bound\":{bound},\"compactions\":{}}}",
            journal.stats().compactions
        );
        assert!(bounded <= bound && after <= bound, "{bounded}, then {after}, over {bound}");
        assert!(grown > bounded, "{grown} with somebody who does not read, {bounded} without");
        assert!(journal.stats().compactions > 2 && seen > 1000, "{:?}", journal.stats());
    });
    journal.close().unwrap();
    let found = verify(&path, Check::Full).unwrap();
    assert!(found.findings.is_empty(), "{:#?}", found.findings);
}
