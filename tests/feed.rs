//! Readers that follow a log: lossy ones, which are told exactly what they missed, and guaranteed
//! ones, which miss nothing and go on where they stopped.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::collections::BTreeMap;
use std::time::Duration;

use esker::{
    Check, Durability, ErrorKind, Hold, IdempotencyKey, Item, Journal, KindId, Lag, Options, Record, Region,
    Seq, Simulator, Start, SubscribeOptions, Until, Verdict, WatchOptions, Watcher, verify_in,
};

/// Longer than anything here takes; a wait that needs it has failed.
const LONG: Duration = Duration::from_secs(30);

fn small(disk: &Simulator, durability: Durability) -> Journal {
    Options::new().segment_bytes(4096).background(false).durability(durability).open_in(disk).unwrap()
}

fn append(journal: &Journal, kind: KindId, key: &[u8], n: u64) {
    journal.append(Record::new(kind, key, &n.to_le_bytes())).unwrap();
}

fn seqs(watcher: &mut Watcher) -> Vec<u64> {
    let mut seqs = Vec::new();
    while watcher.advance().unwrap() {
        seqs.push(watcher.entry().seq().get());
    }
    seqs
}

/// The files of a store with so many entries of one entity, in the fifth of which a bit is wrong.
fn with_a_damaged_fifth_of(entries: u64) -> (KindId, BTreeMap<String, Vec<u8>>) {
    let disk = Simulator::new();
    let journal = small(&disk, Durability::Sync);
    let kind = journal.kind("a").unwrap();
    let text = |n: u64| format!("the text of the entry {n:03}");
    for n in 1..=entries {
        journal.append(Record::new(kind, b"k", text(n).as_bytes())).unwrap();
    }
    journal.close().unwrap();
    let mut files = disk.files();
    for bytes in files.values_mut() {
        if let Some(at) = bytes.windows(text(5).len()).position(|found| found == text(5).as_bytes()) {
            bytes[at] ^= 1;
        }
    }
    (kind, files)
}

/// Three kinds and a few keys, over some segments; answers what each region should show.
fn filled(journal: &Journal) -> Vec<(Region, Vec<u64>)> {
    let kinds: Vec<KindId> = ["a", "b", "c"].iter().map(|name| journal.kind(name).unwrap()).collect();
    let mut all = Vec::new();
    for n in 0..200u64 {
        let kind = kinds[usize::try_from(n * n % 3).unwrap()];
        let key = format!("{}{}", ["x", "y"][usize::try_from(n % 2).unwrap()], n % 5).into_bytes();
        append(journal, kind, &key, n);
        all.push((n + 1, kind, key));
    }
    let of = |wanted: &dyn Fn(KindId, &[u8]) -> bool| {
        all.iter().filter(|(_, kind, key)| wanted(*kind, key)).map(|(seq, ..)| *seq).collect::<Vec<u64>>()
    };
    vec![
        (Region::all(), of(&|_, _| true)),
        (Region::kind(kinds[1]), of(&|kind, _| kind == kinds[1])),
        (Region::entity(kinds[1], b"x4"), of(&|kind, key| kind == kinds[1] && key == b"x4")),
        (Region::prefix(kinds[0], b"y"), of(&|kind, key| kind == kinds[0] && key.starts_with(b"y"))),
        (Region::entity(kinds[1], b"nobody"), Vec::new()),
    ]
}

#[test]
fn each_reader_sees_every_entry_of_its_region_once_and_in_order() {
    let journal = small(&Simulator::new(), Durability::Sync);
    let expected = filled(&journal);
    for (at, (region, expected)) in expected.iter().enumerate() {
        let mut watcher = journal.watch(&format!("watcher {at}"), region.clone()).unwrap();
        assert_eq!(seqs(&mut watcher), *expected, "{region:?}");
        assert_eq!(watcher.position(), Seq::new(200), "it has looked at all of it");
        let options = SubscribeOptions::new().from(Start::Oldest);
        let mut subscriber = journal.subscribe_with(region.clone(), options).unwrap();
        let mut seen = Vec::new();
        while let Some(item) = subscriber.try_next().unwrap() {
            let Item::Entry(entry) = item else { panic!("nothing was missed") };
            seen.push(entry.seq().get());
        }
        assert_eq!(seen, *expected, "{region:?}");
        // Batches show the same.
        let mut watcher = journal.watch(&format!("in batches {at}"), region.clone()).unwrap();
        let mut seen = Vec::new();
        loop {
            let batch = watcher.next_batch(7).unwrap();
            assert!(batch.len() <= 7);
            if batch.is_empty() {
                break;
            }
            seen.extend(batch.iter().map(|entry| entry.seq().get()));
        }
        assert_eq!(seen, *expected, "{region:?}");
    }
}

#[test]
fn what_a_lossy_reader_misses_and_what_it_sees_is_together_everything() {
    for capacity in [1, 5, 30, 1000] {
        let journal = small(&Simulator::new(), Durability::Os);
        let kinds = [journal.kind("a").unwrap(), journal.kind("b").unwrap()];
        let regions = [Region::all(), Region::kind(kinds[0]), Region::entity(kinds[0], b"k2")];
        let subscribe = |region: &Region| {
            let options = SubscribeOptions::new().from(Start::Oldest).capacity(capacity);
            journal.subscribe_with(region.clone(), options).unwrap()
        };
        let mut readers: Vec<_> = regions.iter().map(subscribe).collect();
        let mut shown: Vec<Vec<u64>> = vec![Vec::new(); readers.len()];
        let mut missed: Vec<Vec<(u64, u64, u64)>> = vec![Vec::new(); readers.len()];
        for round in 0..20u64 {
            for n in 0..round * 3 {
                append(&journal, kinds[usize::try_from(n % 2).unwrap()], format!("k{}", n % 4).as_bytes(), n);
            }
            for (at, reader) in readers.iter_mut().enumerate() {
                // Some are read to the end, some only a little.
                let reads = if (round + at as u64).is_multiple_of(3) { usize::MAX } else { 2 };
                for _ in 0..reads {
                    match reader.try_next().unwrap() {
                        Some(Item::Entry(entry)) => shown[at].push(entry.seq().get()),
                        Some(Item::Missed(gap)) => {
                            missed[at].push((gap.from.get(), gap.to.get(), gap.count));
                        }
                        Some(other) => panic!("{other:?}"),
                        None => break,
                    }
                }
            }
        }
        for (at, region) in regions.iter().enumerate() {
            while let Some(item) = readers[at].try_next().unwrap() {
                match item {
                    Item::Entry(entry) => shown[at].push(entry.seq().get()),
                    Item::Missed(gap) => missed[at].push((gap.from.get(), gap.to.get(), gap.count)),
                    other => panic!("{other:?}"),
                }
            }
            let all: Vec<u64> =
                journal.region(region).unwrap().iter().map(|entry| entry.seq().get()).collect();
            let in_gap = |seq: &u64| missed[at].iter().any(|(from, to, _)| (from..=to).contains(&seq));
            let expected: Vec<u64> = all.iter().copied().filter(|seq| !in_gap(seq)).collect();
            assert_eq!(shown[at], expected, "{region:?}, capacity {capacity}");
            for (from, to, count) in &missed[at] {
                let there = all.iter().filter(|seq| (from..=to).contains(seq)).count() as u64;
                assert_eq!(there, *count, "{region:?}, capacity {capacity}: {from} to {to}");
                assert!(all.contains(from) && all.contains(to));
            }
            assert_eq!(missed[at].is_empty(), capacity == 1000, "{region:?}, capacity {capacity}");
        }
    }
}

#[test]
fn a_lossy_reader_that_asked_for_it_ends_when_it_is_too_far_behind() {
    let journal = small(&Simulator::new(), Durability::Os);
    let kind = journal.kind("a").unwrap();
    let options = SubscribeOptions::new().capacity(3).on_lag(Lag::Disconnect);
    let mut reader = journal.subscribe_with(Region::all(), options).unwrap();
    append(&journal, kind, b"k", 1);
    assert!(reader.advance().unwrap());
    (0..4).for_each(|n| append(&journal, kind, b"k", n));
    for _ in 0..2 {
        let error = reader.advance().unwrap_err();
        assert_eq!((error.kind(), error.seqs()), (ErrorKind::Lagged, Some(1..=1)));
    }
    journal.close().unwrap();
    assert_eq!(reader.advance().unwrap_err().kind(), ErrorKind::Lagged, "not Closed: it was behind");
}

#[test]
fn a_watcher_goes_on_where_it_said_through_closes_kills_and_many_segments() {
    for kills in [false, true] {
        let mut disk = Simulator::new();
        let mut seen = Vec::new();
        for life in 0..6u64 {
            let journal = small(&disk, Durability::Sync);
            let kind = journal.kind("a").unwrap();
            let mut watcher = journal.watch("räumung/../x", Region::kind(kind)).unwrap();
            (0..40).for_each(|n| append(&journal, kind, b"k", life * 40 + n));
            let mut rest = seqs(&mut watcher);
            seen.append(&mut rest);
            watcher.checkpoint().unwrap();
            // Not seen before the end of this life: seen in the next one.
            (0..3).for_each(|n| append(&journal, kind, b"k", n));
            let info = journal.cursors().unwrap();
            assert_eq!((info[0].behind, info[0].held), (3, true));
            assert_eq!(info[0].next, watcher.position().and_then(|seq| Seq::new(seq.get() + 1)));
            if kills {
                disk = disk.kill(disk.events());
            } else {
                drop(watcher);
                journal.close().unwrap();
            }
        }
        let journal = small(&disk, Durability::Sync);
        let kind = journal.kind("a").unwrap();
        let mut watcher = journal.watch("räumung/../x", Region::kind(kind)).unwrap();
        seen.extend(seqs(&mut watcher));
        assert_eq!(seen, (1..=6 * 43).collect::<Vec<u64>>(), "kills: {kills}");
        let names: Vec<String> = disk.files().into_keys().collect();
        assert!(names.iter().all(|name| !name.contains("ung")), "a name became a path: {names:?}");
        drop(watcher);
        journal.close().unwrap();
        let found = verify_in(&disk, Check::Full).unwrap();
        assert_eq!(found.verdict, Verdict::Valid, "{:#?}", found.findings);
    }
}

/// A cursor is never ahead of the log: whatever of both a crash leaves.
#[test]
fn no_crash_leaves_a_cursor_ahead_of_the_log_or_behind_what_it_acknowledged() {
    for durability in [Durability::Sync, Durability::Os] {
        let disk = Simulator::new();
        let journal = small(&disk, durability);
        let kind = journal.kind("a").unwrap();
        let options = WatchOptions::new().until(Until::Visible);
        let mut watcher = journal.watch_with("audit", Region::all(), options).unwrap();
        let mut acknowledged = Vec::new();
        for n in 0..30u64 {
            append(&journal, kind, b"k", n);
            if n % 4 == 0 {
                while watcher.advance().unwrap() {}
                watcher.checkpoint().unwrap();
                acknowledged.push((disk.events(), n + 1));
            }
        }
        let mut states = 0;
        for at in 0..=disk.events() {
            for choice in [0, 1, usize::MAX] {
                let mut turn = 0;
                let left = disk.crash(at, &mut |n| {
                    turn += 1;
                    match choice {
                        0 => 0,
                        1 => turn % n,
                        _ => n - 1,
                    }
                });
                let journal = Options::new().background(false).open_in(&left).unwrap();
                states += 1;
                let entries = journal.stats().entries;
                let seq =
                    journal.cursors().unwrap().first().and_then(|cursor| cursor.seq).map_or(0, Seq::get);
                assert!(seq <= entries, "behind {at} operations: a cursor at {seq} of {entries} entries");
                let least = acknowledged.iter().rfind(|(done, _)| *done <= at).map_or(0, |(_, seq)| *seq);
                assert!(seq >= least, "behind {at} operations: a cursor at {seq}, acknowledged at {least}");
            }
        }
        assert!(states > 200, "only {states} states");
    }
}

#[test]
fn what_is_appended_and_where_its_cause_was_read_is_one_write() {
    let disk = Simulator::new();
    let journal = small(&disk, Durability::Sync);
    let (order, invoice) = (journal.kind("order").unwrap(), journal.kind("invoice").unwrap());
    (0..20).for_each(|n| append(&journal, order, b"k", n));
    let mut orders = journal.watch("invoicing", Region::kind(order)).unwrap();
    while orders.advance().unwrap() {
        let (seq, payload) = (orders.entry().seq(), orders.entry().payload().to_vec());
        let mut batch = journal.batch();
        batch.push(Record::new(invoice, b"k", &payload)).move_cursor(&orders, seq).unwrap();
        batch.commit().unwrap();
    }
    let mut batch = journal.batch();
    let behind = Seq::new(1000).unwrap();
    assert_eq!(batch.move_cursor(&orders, behind).unwrap_err().kind(), ErrorKind::InvalidInput);
    drop(orders);
    for at in 0..=disk.events() {
        let left = disk.crash(at, &mut |n| n / 2);
        let journal = Options::new().background(false).open_in(&left).unwrap();
        let Some(kind) = journal.kind_named("invoice") else { continue };
        let written = journal.region(&Region::kind(kind.id)).unwrap().len() as u64;
        let seen = journal.cursors().unwrap().first().and_then(|cursor| cursor.seq).map_or(0, Seq::get);
        assert_eq!(seen.min(20), written, "behind {at} operations: {seen} seen, {written} written");
    }
}

#[test]
fn a_name_is_one_watcher_s_and_one_region_s() {
    let journal = small(&Simulator::new(), Durability::Sync);
    let kind = journal.kind("a").unwrap();
    (0..5).for_each(|n| append(&journal, kind, b"k", n));
    let refused = |name: &str, region: Region| journal.watch(name, region).unwrap_err();
    let watcher = journal.watch("audit", Region::all()).unwrap();
    assert_eq!(refused("audit", Region::all()).kind(), ErrorKind::CursorInUse);
    assert_eq!(journal.retire_cursor("audit").unwrap_err().kind(), ErrorKind::CursorInUse);
    assert_eq!(journal.reset_cursor("audit", Start::Oldest).unwrap_err().kind(), ErrorKind::CursorInUse);
    drop(watcher);
    let error = refused("audit", Region::kind(kind));
    assert_eq!(error.kind(), ErrorKind::CursorMismatch);
    let sides = "expected all entries, as when it was made, found the kind \"a\"";
    assert!(error.to_string().contains(sides), "{error}");
    drop(journal.watch("one", Region::entity(kind, b"k\n")).unwrap());
    let error = refused("one", Region::prefix(kind, b"k"));
    let sides = r"expected the entity a/k\n, as when it was made, found the entities that begin with a/k";
    assert!(error.to_string().contains(sides), "{error}");
    for name in [String::new(), "n".repeat(256)] {
        assert_eq!(refused(&name, Region::all()).kind(), ErrorKind::InvalidInput);
    }
    let after = |seq: u64| WatchOptions::new().from(Start::After(Seq::new(seq).unwrap()));
    let error = journal.watch_with("late", Region::all(), after(6)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(seqs(&mut journal.watch_with("late", Region::all(), after(3)).unwrap()), [4, 5]);
    let newest = WatchOptions::new().from(Start::Newest).hold(Hold::UpTo(1 << 20));
    assert!(seqs(&mut journal.watch_with("newest", Region::all(), newest).unwrap()).is_empty());

    let reset = journal.reset_cursor("audit", Start::Newest).unwrap();
    assert_eq!((reset.from, reset.to), (None, Seq::new(5)));
    assert_eq!(journal.reset_cursor("audit", Start::After(Seq::FIRST)).unwrap().from, Seq::new(5));
    assert_eq!(seqs(&mut journal.watch("audit", Region::all()).unwrap()), [2, 3, 4, 5]);
    journal.retire_cursor("audit").unwrap();
    assert_eq!(journal.retire_cursor("audit").unwrap_err().kind(), ErrorKind::UnknownCursor);
    assert_eq!(seqs(&mut journal.watch("audit", Region::kind(kind)).unwrap()), [1, 2, 3, 4, 5]);
}

#[test]
fn a_reader_that_sleeps_is_woken_by_what_it_waits_for_and_by_the_end() {
    for durability in [Durability::Sync, Durability::Os, Durability::Interval(Duration::from_millis(5))] {
        let directory = tempfile::tempdir().unwrap();
        let journal = Options::new().durability(durability).open(directory.path().join("a.esker")).unwrap();
        let kind = journal.kind("a").unwrap();
        std::thread::scope(|scope| {
            for (name, until) in [("durable", Until::Durable), ("visible", Until::Visible)] {
                for region in [Region::all(), Region::kind(kind), Region::entity(kind, b"k3")] {
                    let journal = &journal;
                    let expected = if matches!(region, Region::Entity(..)) { 20 } else { 100 };
                    scope.spawn(move || {
                        let name = format!("{name} {region:?}");
                        let options = WatchOptions::new().until(until);
                        let mut watcher = journal.watch_with(&name, region, options).unwrap();
                        for n in 0..expected {
                            let entry = watcher.next_timeout(LONG).unwrap();
                            assert!(entry.is_some(), "{name} was not woken for entry {n}, {durability:?}");
                        }
                        // The end is for everybody.
                        let error = watcher
                            .next_timeout(LONG)
                            .map(|entry| entry.map(|entry| entry.seq()))
                            .unwrap_err();
                        assert_eq!(error.kind(), ErrorKind::Closed, "{name}");
                    });
                }
            }
            for n in 0..100u64 {
                append(&journal, kind, format!("k{}", n % 5).as_bytes(), n);
                if n % 10 == 0 {
                    std::thread::yield_now();
                }
            }
            // Everybody has seen everything when nobody is behind any more.
            while journal.cursors().unwrap().len() < 6 {
                std::thread::yield_now();
            }
            let mut last = journal.watch_with("last", Region::all(), WatchOptions::new()).unwrap();
            for _ in 0..100 {
                last.next_timeout(LONG).unwrap().unwrap();
            }
            journal.close().unwrap();
        });
    }
}

#[test]
fn a_reader_that_is_stopped_says_so_and_one_whose_time_is_over_goes_on_later() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path().join("a.esker")).unwrap();
    let kind = journal.kind("a").unwrap();
    let mut watcher = journal.watch("w", Region::all()).unwrap();
    let mut subscriber = journal.subscribe(Region::all()).unwrap();
    assert!(watcher.next_timeout(Duration::from_millis(5)).unwrap().is_none());
    append(&journal, kind, b"k", 1);
    assert!(watcher.next_timeout(LONG).unwrap().is_some());
    assert!(subscriber.next_timeout(LONG).unwrap().is_some());
    let stoppers = [watcher.stopper(), subscriber.stopper()];
    std::thread::scope(|scope| {
        let waits = scope.spawn(move || watcher.next().unwrap().is_none());
        let also = scope.spawn(move || subscriber.next().unwrap().is_none());
        stoppers.iter().for_each(esker::Stopper::stop);
        assert!(waits.join().unwrap() && also.join().unwrap());
    });
}

#[test]
fn ten_thousand_watchers_of_single_entities_are_each_woken_by_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new().durability(Durability::Os);
    let journal = options.open(directory.path().join("a.esker")).unwrap();
    let kind = journal.kind("a").unwrap();
    let subscribe = |n: u32| journal.subscribe(Region::entity(kind, n.to_le_bytes())).unwrap();
    let mut readers: Vec<_> = (0..10_000u32).map(subscribe).collect();
    for n in [17u32, 9_999, 0] {
        journal.append(Record::new(kind, &n.to_le_bytes(), b"for one")).unwrap();
    }
    for (n, reader) in readers.iter_mut().enumerate() {
        let is_for_it = [17, 9_999, 0].contains(&n);
        assert_eq!(reader.try_next().unwrap().is_some(), is_for_it, "{n}");
    }
}

/// Damage is passed over by nobody who was promised everything, and told once to everybody else.
#[test]
fn a_watcher_stays_before_damage_and_a_subscriber_goes_on_behind_it() {
    let (_, files) = with_a_damaged_fifth_of(200);
    let journal = small(&Simulator::with(files), Durability::Sync);
    let mut watcher = journal.watch("audit", Region::all()).unwrap();
    for seq in 1..=4 {
        assert_eq!(watcher.try_next().unwrap().unwrap().seq().get(), seq);
    }
    for _ in 0..3 {
        let error = watcher.advance().unwrap_err();
        assert_eq!((error.kind(), error.seqs()), (ErrorKind::Corrupt, Some(5..=5)), "{error}");
    }
    assert_eq!(watcher.position(), Seq::new(4));
    watcher.checkpoint().unwrap();
    drop(watcher);
    let error = journal.watch("audit", Region::all()).unwrap().advance().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "it stays there");
    journal.reset_cursor("audit", Start::After(Seq::new(5).unwrap())).unwrap();
    let rest: Vec<u64> = (6..=200).collect();
    assert_eq!(seqs(&mut journal.watch("audit", Region::all()).unwrap()), rest, "until somebody decides");

    let options = SubscribeOptions::new().from(Start::Oldest);
    let mut subscriber = journal.subscribe_with(Region::all(), options).unwrap();
    let (mut shown, mut errors) = (0, 0);
    loop {
        match subscriber.advance() {
            Ok(true) => shown += 1,
            Ok(false) => break,
            Err(error) if error.kind() == ErrorKind::Corrupt => errors += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((shown, errors), (199, 1));
}

#[test]
fn what_a_power_cut_may_take_is_not_shown_to_who_asks_for_what_is_durable() {
    let journal = small(&Simulator::new(), Durability::Os);
    let kind = journal.kind("a").unwrap();
    let mut durable = journal.watch("durable", Region::all()).unwrap();
    let visible = WatchOptions::new().until(Until::Visible);
    let mut visible = journal.watch_with("visible", Region::all(), visible).unwrap();
    append(&journal, kind, b"k", 1);
    assert!(visible.advance().unwrap() && !durable.advance().unwrap());
    journal.sync().unwrap();
    assert!(durable.advance().unwrap());
}

/// Without a thread of the journal, whoever sleeps for what is durable syncs for itself.
#[test]
fn a_durable_reader_is_woken_also_where_no_thread_syncs() {
    for durability in [Durability::Os, Durability::Sync] {
        let journal = small(&Simulator::new(), durability);
        let kind = journal.kind("a").unwrap();
        let mut watcher = journal.watch("audit", Region::all()).unwrap();
        std::thread::scope(|scope| {
            let (seen, has_seen) = std::sync::mpsc::channel();
            scope.spawn(move || {
                while watcher.position() != Seq::new(50) {
                    assert!(watcher.next_timeout(LONG).unwrap().is_some(), "{durability:?}");
                    seen.send(()).unwrap();
                }
            });
            for n in 0..50u64 {
                let _ = journal.append_nowait(Record::new(kind, b"k", &n.to_le_bytes())).unwrap();
                // The next one comes when the reader is about to sleep, or does.
                has_seen.recv().unwrap();
            }
        });
    }
}

/// Everybody has seen everything and sleeps when the disk fails, and is told.
#[test]
fn a_failed_sync_wakes_everybody() {
    let disk = Simulator::new();
    let journal = small(&disk, Durability::Os);
    let kind = journal.kind("a").unwrap();
    let readers: Vec<Watcher> = [Region::all(), Region::kind(kind), Region::entity(kind, b"k")]
        .into_iter()
        .map(|region| {
            let options = WatchOptions::new().until(Until::Visible);
            journal.watch_with(&format!("{region:?}"), region, options).unwrap()
        })
        .collect();
    append(&journal, kind, b"k", 1);
    disk.fail_sync_after(0);
    std::thread::scope(|scope| {
        let sleeping: Vec<_> = readers
            .into_iter()
            .map(|mut reader| {
                scope.spawn(move || {
                    assert!(reader.next_timeout(LONG).unwrap().is_some());
                    let began = std::time::Instant::now();
                    let woken = reader.next_timeout(LONG).map(|found| found.is_some());
                    assert!(began.elapsed() < LONG, "nobody woke it");
                    woken
                })
            })
            .collect();
        // Time to fall asleep. A reader that has not yet will see the end by itself: that is right too.
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(journal.sync().unwrap_err().kind(), ErrorKind::Poisoned);
        for reader in sleeping {
            let woken = reader.join().unwrap();
            assert_eq!(woken.unwrap_err().kind(), ErrorKind::Poisoned);
        }
    });
}

#[test]
fn only_a_reset_moves_a_cursor_back_and_what_is_retired_stays_so() {
    let journal = small(&Simulator::new(), Durability::Os);
    let kind = journal.kind("a").unwrap();
    (0..20).for_each(|n| append(&journal, kind, b"k", n));
    let visible = || WatchOptions::new().until(Until::Visible);
    let mut watcher = journal.watch_with("audit", Region::all(), visible()).unwrap();
    while watcher.advance().unwrap() {}
    let batch = |watcher: &Watcher, seq: u64| {
        let mut batch = journal.batch();
        batch.push(Record::new(kind, b"k", b"y"));
        batch.move_cursor(watcher, Seq::new(seq).unwrap()).unwrap();
        batch
    };
    let seq = || journal.cursors().unwrap().first().and_then(|cursor| cursor.seq).map(Seq::get);
    let mut late = batch(&watcher, 10);
    watcher.checkpoint().unwrap();
    late.commit().unwrap();
    assert_eq!(seq(), Some(20), "the batch came late, and its cursor was further");
    let (mut reset, mut retired) = (batch(&watcher, 20), batch(&watcher, 20));
    drop(watcher);
    journal.reset_cursor("audit", Start::Oldest).unwrap();
    assert_eq!(reset.commit().unwrap_err().kind(), ErrorKind::UnknownCursor, "it was put back meanwhile");
    assert_eq!(seq(), None);
    journal.retire_cursor("audit").unwrap();
    assert_eq!(retired.commit().unwrap_err().kind(), ErrorKind::UnknownCursor);
    assert!(journal.cursors().unwrap().is_empty());
    let again = journal.watch_with("audit", Region::all(), visible()).unwrap();
    assert_eq!(retired.commit().unwrap_err().kind(), ErrorKind::UnknownCursor, "that is another cursor");
    let (revision, entries) = (journal.cursors().unwrap()[0].revision, journal.stats().entries);
    assert!(revision > 4, "above what the retired one had: {revision}");
    assert_eq!(entries, 21, "nothing of what was refused was appended");

    let other = small(&Simulator::new(), Durability::Os);
    let mut foreign = other.batch();
    let error = foreign.move_cursor(&again, Seq::FIRST).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_batch_that_is_repeated_moves_its_cursor_all_the_same() {
    let journal = small(&Simulator::new(), Durability::Os);
    let kind = journal.kind("a").unwrap();
    append(&journal, kind, b"k", 1);
    let visible = WatchOptions::new().until(Until::Visible);
    let mut watcher = journal.watch_with("audit", Region::all(), visible).unwrap();
    assert!(watcher.advance().unwrap());
    let write = |watcher: Option<&Watcher>| {
        let mut batch = journal.batch().idempotency_key(IdempotencyKey([7; 16]));
        batch.push(Record::new(kind, b"k", b"y"));
        if let Some(watcher) = watcher {
            batch.move_cursor(watcher, Seq::FIRST).unwrap();
        }
        batch.commit().unwrap().repeated
    };
    assert!(!write(None) && write(Some(&watcher)));
    assert_eq!(journal.cursors().unwrap()[0].seq, Seq::new(1));
    assert_eq!(journal.stats().entries, 2);
}

/// Where a batch that nobody has waited for moved the cursor, a checkpoint still makes it durable.
#[test]
fn a_checkpoint_behind_a_batch_is_durable() {
    let disk = Simulator::new();
    let journal = small(&disk, Durability::Os);
    let kind = journal.kind("a").unwrap();
    append(&journal, kind, b"k", 1);
    let visible = WatchOptions::new().until(Until::Visible);
    let mut watcher = journal.watch_with("audit", Region::all(), visible).unwrap();
    assert!(watcher.advance().unwrap());
    let mut batch = journal.batch();
    batch.push(Record::new(kind, b"k", b"y"));
    batch.move_cursor(&watcher, Seq::FIRST).unwrap();
    batch.commit().unwrap();
    watcher.checkpoint().unwrap();
    let left = disk.crash(disk.events(), &mut |_| 0);
    let journal = Options::new().background(false).open_in(&left).unwrap();
    assert_eq!(journal.cursors().unwrap()[0].seq, Seq::new(1));
}

#[test]
fn a_gap_in_which_an_entry_is_damaged_is_told_and_then_the_damage() {
    let (kind, files) = with_a_damaged_fifth_of(60);
    for region in [Region::all(), Region::entity(kind, b"k")] {
        let journal = small(&Simulator::with(files.clone()), Durability::Sync);
        let options = SubscribeOptions::new().from(Start::Oldest).capacity(10);
        let mut reader = journal.subscribe_with(region.clone(), options).unwrap();
        let (mut gaps, mut errors, mut shown) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..100 {
            match reader.try_next() {
                Ok(Some(Item::Missed(gap))) => gaps.push((gap.from.get(), gap.to.get(), gap.count)),
                Ok(Some(Item::Entry(entry))) => shown.push(entry.seq().get()),
                Ok(Some(other)) => panic!("{other:?}"),
                Ok(None) => break,
                Err(error) => errors.extend(error.seqs()),
            }
        }
        let missed: u64 = gaps.iter().map(|(.., count)| *count).sum();
        assert_eq!(errors, [5..=5], "{region:?}: {gaps:?}, {shown:?}");
        assert_eq!(gaps.first(), Some(&(1, 4, 4)), "{region:?}");
        assert_eq!(missed + shown.len() as u64, 59, "{region:?}: {gaps:?}, {shown:?}");
        assert_eq!(shown, (51..=60).collect::<Vec<u64>>(), "{region:?}");
    }
}
