//! Readers whose own code panics: nobody else notices, and nothing of them stays behind.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use esker::{Durability, Item, Journal, KindId, Options, Record, Region, Simulator, Start, SubscribeOptions};

/// Longer than anything here takes; a wait that needs it was not woken.
const LONG: Duration = Duration::from_secs(30);
const READERS: usize = 10;
const ENTRIES: u64 = 20;

/// A panic that says nothing on the terminal.
struct Quiet;

fn append(journal: &Journal, kind: KindId, n: u64) {
    journal.append(Record::new(kind, b"k", &n.to_le_bytes())).unwrap();
}

/// Reads to the end; panics at the call with this number, with an entry in hand where there is one.
fn watch(journal: &Journal, name: &str, panics_at: Option<u64>) {
    let mut watcher = journal.watch(name, Region::all()).unwrap();
    for call in 1..=ENTRIES {
        let entry = watcher.next_timeout(LONG).unwrap().expect("it is woken");
        assert_eq!(entry.seq().get(), call);
        if panics_at == Some(call) {
            resume_unwind(Box::new(Quiet));
        }
    }
    watcher.checkpoint().unwrap();
}

fn subscribe(journal: &Journal, panics_at: Option<u64>) {
    let options = SubscribeOptions::new().from(Start::Oldest);
    let mut subscriber = journal.subscribe_with(Region::all(), options).unwrap();
    for call in 1..=ENTRIES {
        let Some(Item::Entry(entry)) = subscriber.next_timeout(LONG).unwrap() else { panic!("not woken") };
        assert_eq!(entry.seq().get(), call);
        if panics_at == Some(call) {
            resume_unwind(Box::new(Quiet));
        }
    }
}

#[test]
fn one_reader_that_panics_at_any_call_disturbs_neither_the_others_nor_the_writer() {
    for panics_at in 1..=ENTRIES {
        let directory = tempfile::tempdir().unwrap();
        let journal =
            Options::new().durability(Durability::Os).open(directory.path().join("a.esker")).unwrap();
        let kind = journal.kind("a").unwrap();
        std::thread::scope(|scope| {
            let read = |reader: usize| {
                let (journal, at) = (&journal, (reader == 0).then_some(panics_at));
                let watched = scope.spawn(move || watch(journal, &format!("reader {reader}"), at));
                [watched, scope.spawn(move || subscribe(journal, at))]
            };
            let readers: Vec<_> = (0..READERS).map(read).collect();
            (0..ENTRIES).for_each(|n| append(&journal, kind, n));
            for (reader, threads) in readers.into_iter().enumerate() {
                for thread in threads {
                    let ended = thread.join();
                    let panicked = ended.is_err_and(|panic| panic.is::<Quiet>() || resume_unwind(panic));
                    assert_eq!(panicked, reader == 0, "reader {reader}, at call {panics_at}");
                }
            }
        });
        append(&journal, kind, ENTRIES);
        // Its name is free, and its cursor stands where it said: nowhere yet.
        let mut again = journal.watch("reader 0", Region::all()).unwrap();
        assert_eq!(again.next_timeout(LONG).unwrap().unwrap().seq().get(), 1);
        let behind: Vec<u64> = journal.cursors().unwrap().iter().map(|cursor| cursor.behind).collect();
        assert_eq!(behind.iter().filter(|behind| **behind == 1).count(), READERS - 1, "{behind:?}");
        drop(again);
        journal.close().unwrap();
    }
}

#[test]
fn who_holds_an_entry_can_append_and_who_panics_in_a_batch_leaves_nothing_of_it() {
    let options = Options::new().background(false);
    let journal = options.open_in(&Simulator::new()).unwrap();
    let kind = journal.kind("a").unwrap();
    append(&journal, kind, 0);
    let mut watcher = journal.watch("audit", Region::all()).unwrap();
    while watcher.advance().unwrap() {
        let entry = watcher.entry();
        let seq = entry.seq();
        if seq.get() < 5 {
            // The entry is borrowed from the log that grows here.
            append(&journal, kind, seq.get());
        }
        assert_eq!(entry.payload(), (seq.get() - 1).to_le_bytes());
        let half_done = catch_unwind(AssertUnwindSafe(|| {
            let mut batch = journal.batch();
            batch.push(Record::new(kind, b"k", b"never")).move_cursor(&watcher, seq).unwrap();
            resume_unwind(Box::new(Quiet));
        }));
        assert!(half_done.is_err_and(|panic| panic.is::<Quiet>()));
    }
    assert_eq!(journal.stats().entries, 5);
    assert_eq!(journal.cursors().unwrap().first().unwrap().seq, None, "no batch was committed");
    watcher.checkpoint().unwrap();
    assert_eq!(journal.cursors().unwrap().first().unwrap().behind, 0);
}
