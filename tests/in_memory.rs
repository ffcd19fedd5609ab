//! A journal in memory, small enough for Miri: append, batch, rotate, and read what was
//! written while it is being written.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use esker::{Durability, Journal, Options, Record, Seq};

/// Under Miri every step costs a thousand: enough to leave one segment for the next.
const ENTRIES: u64 = if cfg!(miri) { 60 } else { 3000 };
const KEYS: [&[u8]; 3] = [b"a", b"bb", b"ccc"];

fn key(n: u64) -> &'static [u8] {
    KEYS[usize::try_from(n % 3).unwrap()]
}

fn small(background: bool) -> Journal {
    Options::new().segment_bytes(4096).background(background).in_memory().unwrap()
}

#[test]
fn what_is_appended_is_read_back_in_every_order_over_many_segments() {
    let journal = small(false);
    let kind = journal.kind("note").unwrap();
    let mut n = 0;
    while n < ENTRIES {
        journal.append(Record::new(kind, key(n), &n.to_le_bytes()).metadata(b"m")).unwrap();
        let mut batch = journal.batch();
        let content: Vec<[u8; 8]> = (n + 1..n + 3).map(u64::to_le_bytes).collect();
        content.iter().zip(n + 1..).for_each(|(bytes, n)| {
            batch.push(Record::new(kind, key(n), bytes));
        });
        batch.commit().unwrap();
        n += 3;
    }
    assert!(journal.stats().rotations > 0);
    let view = journal.view();
    let numbers = |payload: &[u8]| u64::from_le_bytes(payload.try_into().unwrap());
    let forward: Vec<u64> = view.range(..).map(|entry| numbers(entry.unwrap().payload())).collect();
    assert!(forward.iter().copied().eq(0..ENTRIES));
    let backward: Vec<u64> = view.range(..).rev().map(|entry| numbers(entry.unwrap().payload())).collect();
    assert!(backward.iter().copied().eq((0..ENTRIES).rev()));
    let history: Vec<u64> = view.entity(kind, b"bb").map(|entry| numbers(entry.unwrap().payload())).collect();
    assert!(history.iter().copied().eq((0..ENTRIES).skip(1).step_by(3)));
    journal.close().unwrap();
    assert_eq!(view.get(Seq::FIRST).unwrap().unwrap().metadata(), b"m", "a view outlives the journal");
}

#[test]
fn readers_in_other_threads_see_a_prefix_in_whole_batches() {
    let journal = small(false);
    let kind = journal.kind("note").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut seen = 0;
                while seen < ENTRIES {
                    let view = journal.view();
                    let from = Seq::new(seen + 1).unwrap();
                    for entry in view.range(from..) {
                        let entry = entry.unwrap();
                        assert_eq!(entry.payload(), seen.to_le_bytes());
                        assert_eq!(entry.key(), key(seen));
                        seen += 1;
                        assert_eq!(entry.seq().get(), seen);
                    }
                    assert_eq!(seen % 2, 0, "half a batch was visible");
                    std::thread::yield_now();
                }
            });
        }
        for n in (0..ENTRIES).step_by(2) {
            let content = [n.to_le_bytes(), (n + 1).to_le_bytes()];
            let mut batch = journal.batch();
            batch.push(Record::new(kind, key(n), &content[0])).push(Record::new(
                kind,
                key(n + 1),
                &content[1],
            ));
            batch.commit().unwrap();
        }
    });
}

#[test]
fn the_threads_of_a_journal_work_beside_those_that_append() {
    let options = Options::new().segment_bytes(4096).durability(Durability::Sync);
    let journal = options.in_memory().unwrap();
    let kind = journal.kind("note").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..2u64 {
            let (journal, name) = (&journal, [b'a', u8::try_from(thread).unwrap()]);
            scope.spawn(move || {
                for n in 0..ENTRIES / 4 {
                    journal.append(Record::new(kind, &name, &n.to_le_bytes())).unwrap();
                }
            });
        }
    });
    let view = journal.view();
    for thread in 0..2 {
        let generations = view.entity(kind, &[b'a', thread]).map(|entry| entry.unwrap().generation().get());
        assert!(generations.eq(1..=ENTRIES / 4));
    }
    journal.close().unwrap();
}
