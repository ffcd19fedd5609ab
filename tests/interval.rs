//! What an interval promises: nothing stays unsynced because the log went quiet.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is a failed test")]

use std::time::{Duration, Instant};

use esker::{Durability, Options, Record};

#[test]
fn an_append_right_behind_a_sync_becomes_durable_without_another_one() {
    let options = Options::new().durability(Durability::Interval(Duration::from_millis(1)));
    // On a real disk, where a sync takes a while.
    let directory = tempfile::tempdir().unwrap();
    let journal = options.open(directory.path().join("a.esker")).unwrap();
    let kind = journal.kind("note").unwrap();
    for round in 0..500u32 {
        journal.append(Record::new(kind, b"key", &round.to_le_bytes())).unwrap();
        let end = journal.view().end();
        // The next append comes the moment this one is durable, which is when the thread that
        // syncs goes to sleep. A minute is for ever, not a measure.
        let begun = Instant::now();
        while journal.durable() < end {
            assert!(begun.elapsed() < Duration::from_secs(60), "round {round} is never synced");
            std::thread::yield_now();
        }
    }
    journal.close().unwrap();
}
