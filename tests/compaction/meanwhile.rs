//! Those who read meanwhile: who holds back, who is told what is missed, and who sees what was there.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use esker::{
    ErrorKind, Hold, Item, Keep, PinnedBy, Reader, Record, Region, Seq, Start, SubscribeOptions, WatchOptions,
};

use super::rounds::{is_valid, names, now_all, options, payload, put, rounds, survivors};

#[test]
fn a_view_shows_an_entity_that_goes_while_it_is_looked_for() {
    for round in 0..100 {
        let journal = options().in_memory().unwrap();
        let (row, other) = (journal.kind("row").unwrap(), journal.kind("other").unwrap());
        journal.keep(row, Keep::Latest).unwrap();
        put(&journal, row, "gone", 0);
        journal.append(Record::tombstone(row, b"gone")).unwrap();
        let segments = journal.stats().segments;
        for n in 0.. {
            if journal.stats().segments > segments {
                break;
            }
            put(&journal, other, "quiet", n);
        }
        let view = journal.view();
        let (is_done, looks) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let looking = scope.spawn(|| {
                while !is_done.load(Ordering::Acquire) {
                    let seen = view.latest(row, b"gone").unwrap().map(|entry| entry.is_tombstone());
                    assert_eq!(seen, Some(true), "round {round}");
                    assert_eq!(view.entity(row, b"gone").filter(Result::is_ok).count(), 2, "round {round}");
                    looks.fetch_add(1, Ordering::Release);
                }
            });
            while looks.load(Ordering::Acquire) < 50 && !looking.is_finished() {
                std::thread::yield_now();
            }
            let done = journal.compact(&now_all().thorough(true));
            is_done.store(true, Ordering::Release);
            assert_eq!(done.unwrap().entries_dropped, 2);
        });
        assert!(journal.latest(row, b"gone").unwrap().is_none());
    }
}

#[test]
fn a_view_of_before_the_first_append_shows_what_it_showed_when_all_around_it_was_compacted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let journal = options().open(&path).unwrap();
    let (person, other) = (journal.kind("person").unwrap(), journal.kind("other").unwrap());
    (0..5).for_each(|n| _ = put(&journal, person, "ada", n));
    for key in ["bob", "cid", "dan"] {
        put(&journal, person, key, 0);
    }
    journal.close().unwrap();
    // So that this life reads the segment, and goes on in it.
    std::fs::remove_file(path.join("0000000001.idx")).unwrap();
    assert!(!path.join("entities").exists());
    let journal = options().open(&path).unwrap();
    let view = journal.view();
    let shown = || {
        let all = ["ada", "bob", "cid", "dan"].map(|key| {
            let latest = view.latest(person, key.as_bytes()).unwrap().map(|entry| entry.generation().get());
            let all = view.entity(person, key.as_bytes()).map(|entry| entry.unwrap().generation().get());
            (latest, all.collect::<Vec<_>>())
        });
        let [ada, others @ ..] = all;
        assert_eq!(others, [(); 3].map(|()| (Some(1), vec![1])));
        ada
    };
    assert_eq!(shown(), (Some(5), vec![1, 2, 3, 4, 5]));
    journal.keep(person, Keep::Latest).unwrap();
    for n in 0.. {
        if journal.stats().segments > 6 {
            break;
        }
        put(&journal, other, "noise", n);
    }
    let done = journal.compact(&now_all().thorough(true)).unwrap();
    assert_eq!((done.entries_dropped, done.parts_written), (4, 1));
    // Which writes the directory of entities by what the part says.
    journal.close().unwrap();
    assert_eq!(shown(), (Some(5), vec![1, 2, 3, 4, 5]));
}

#[test]
fn cursors_hold_back_what_they_have_not_seen_and_everybody_can_see_who() {
    let directory = tempfile::tempdir().unwrap();
    let journal = options().open(directory.path().join("store")).unwrap();
    let row = journal.kind("row").unwrap();
    let other = journal.kind("other").unwrap();
    journal.keep(row, Keep::Latest).unwrap();
    put(&journal, other, "quiet", 0);
    rounds(&journal, row, 5, 0, 40);
    let mut slow = journal.watch("slow", Region::all()).unwrap();
    for _ in 0..60 {
        assert!(slow.advance().unwrap());
    }
    slow.checkpoint().unwrap();
    // A cursor of a quiet entity holds back nothing of others.
    let mut quiet = journal.watch("quiet", Region::entity(other, "quiet")).unwrap();
    while quiet.advance().unwrap() {}
    quiet.checkpoint().unwrap();
    drop(quiet);
    rounds(&journal, row, 5, 40, 80);
    let done = journal.compact(&now_all()).unwrap();
    assert_eq!(done.held_back_by.len(), 1, "{done:?}");
    assert_eq!(done.held_back_by[0].by, PinnedBy::Cursor("slow".into()));
    assert_eq!(done.held_back_by[0].from.get(), 61);
    assert!(done.through.unwrap().get() <= 60);
    // It sees every entry, in order, although others were dropped before it.
    let mut seen = 60;
    while slow.advance().unwrap() {
        seen += 1;
        assert_eq!(slow.entry().seq().get(), seen);
    }
    assert_eq!(seen, 401);
    slow.checkpoint().unwrap();
    drop(slow);
    let done = journal.compact(&now_all()).unwrap();
    assert!(done.held_back_by.is_empty() && done.through.unwrap().get() > 300, "{done:?}");
    // A reader without a name holds back while it lives.
    let mut follower = journal.follow(Region::all(), WatchOptions::new().from(Start::Newest)).unwrap();
    rounds(&journal, row, 5, 80, 120);
    let done = journal.compact(&now_all()).unwrap();
    assert!(done.held_back_by.iter().any(|held| held.by == PinnedBy::Watcher), "{done:?}");
    assert!(follower.advance().unwrap());
    assert_eq!(follower.entry().seq().get(), 402);
    drop(follower);
    let held = journal.compact(&now_all()).unwrap().held_back_by;
    assert_eq!(held.len(), 1, "a cursor holds back whether somebody reads under it or not: {held:?}");
    assert_eq!(held[0].by, PinnedBy::Cursor("slow".into()));
    journal.retire_cursor("slow").unwrap();
    assert!(journal.compact(&now_all()).unwrap().held_back_by.is_empty());
}

#[test]
fn a_cursor_that_may_hold_back_only_so_much_is_lost_and_says_so_until_it_is_reset() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let journal = options().open(&path).unwrap();
    let row = journal.kind("row").unwrap();
    journal.keep(row, Keep::Latest).unwrap();
    rounds(&journal, row, 5, 0, 10);
    let watch = WatchOptions::new().hold(Hold::UpTo(40_000));
    let mut running = journal.watch_with("running", Region::all(), watch.clone()).unwrap();
    assert!(running.advance().unwrap());
    running.checkpoint().unwrap();
    drop(journal.watch_with("idle", Region::all(), watch).unwrap());
    rounds(&journal, row, 5, 10, 20);
    assert!(!journal.compact(&now_all()).unwrap().held_back_by.is_empty(), "within its limit it holds");
    rounds(&journal, row, 5, 20, 80);
    let done = journal.compact(&now_all()).unwrap();
    assert!(done.held_back_by.is_empty() && done.entries_dropped > 100, "{done:?}");
    // The running one sees what its view still shows, and is then told.
    let lost = loop {
        match running.advance() {
            Ok(true) => {}
            Ok(false) => panic!("it is told"),
            Err(error) => break error,
        }
    };
    assert_eq!(lost.kind(), ErrorKind::Lost, "{lost}");
    assert_eq!(lost.floor(), done.floor.map(Seq::get));
    assert_eq!(running.advance().unwrap_err().kind(), ErrorKind::Lost, "and again");
    drop(running);
    for reopened in [false, true] {
        if reopened {
            journal.close().unwrap();
        }
        let journal = if reopened { options().open(&path).unwrap() } else { journal.clone() };
        let cursors = journal.cursors().unwrap();
        assert!(cursors.iter().all(|cursor| cursor.lost), "{cursors:?}");
        let error = journal.watch("idle", Region::all()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
        if reopened {
            journal.reset_cursor("idle", Start::Oldest).unwrap();
            let mut idle = journal.watch("idle", Region::all()).unwrap();
            let mut seen = 0;
            while idle.advance().unwrap() {
                seen += 1;
            }
            assert_eq!(seen, journal.view().range(..).count());
            assert!(!journal.cursors().unwrap().iter().any(|c| c.name == "idle" && c.lost));
        }
    }
}

#[test]
fn a_subscriber_is_told_what_it_missed_and_an_old_view_shows_what_it_showed() {
    let directory = tempfile::tempdir().unwrap();
    let journal = options().open(directory.path().join("store")).unwrap();
    let row = journal.kind("row").unwrap();
    journal.keep(row, Keep::Latest).unwrap();
    rounds(&journal, row, 5, 0, 10);
    let options = SubscribeOptions::new().from(Start::Oldest).until(esker::Until::Visible);
    let mut late = journal.subscribe_with(Region::all(), options).unwrap();
    assert!(late.advance().unwrap());
    rounds(&journal, row, 5, 10, 60);
    let before = journal.view();
    let held: Vec<_> = before.range(..).map(|entry| entry.unwrap().to_owned()).collect();
    let done = journal.compact(&now_all()).unwrap();
    assert!(done.entries_dropped > 200, "{done:?}");
    // What was there is there for who had it: its segments are unlinked, not gone.
    assert_eq!(before.range(..).map(Result::unwrap).count(), 300);
    assert_eq!(before.get(Seq::new(7).unwrap()).unwrap().unwrap().key(), b"k1");
    assert_eq!(held[6].payload(), payload("k1", 1));
    let (mut seen, mut missed) = (vec![1], Vec::new());
    while late.advance().unwrap() {
        match late.item() {
            Item::Entry(entry) => seen.push(entry.seq().get()),
            Item::Missed(one) => missed.push(one),
            _ => unreachable!(),
        }
    }
    // Its own view went up to 50; behind that it was told, and counts add up.
    assert_eq!(seen[..50], (1..=50).collect::<Vec<_>>());
    assert_eq!(missed.len(), 1);
    assert!(missed[0].compacted && missed[0].from.get() == 51);
    assert_eq!(missed[0].to.get() + 1, done.floor.unwrap().get());
    assert_eq!(seen.len() as u64 + missed[0].count, 300);
}

#[test]
fn a_reader_of_another_process_follows_across_compactions() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let journal = options().open(&path).unwrap();
    let row = journal.kind("row").unwrap();
    journal.keep(row, Keep::Latest).unwrap();
    let mut appended = rounds(&journal, row, 5, 0, 40);
    let reader = Reader::open(&path).unwrap();
    let lagging = Reader::open(&path).unwrap();
    let before = reader.view().unwrap();
    let mut late = reader.subscribe(Region::all(), SubscribeOptions::new().from(Start::Oldest)).unwrap();
    assert!(late.advance().unwrap());
    for round in 0..5u64 {
        appended.extend(rounds(&journal, row, 5, 40 * (round + 1), 40 * (round + 2)));
        reader.view().unwrap();
        let done = journal.compact(&now_all()).unwrap();
        assert!(done.entries_dropped > 50, "{done:?}");
        let view = reader.view().unwrap();
        assert_eq!(view.floor(&Region::all()), done.floor);
        let seqs: Vec<u64> = view.range(..).map(|entry| entry.unwrap().seq().get()).collect();
        assert_eq!(seqs, survivors(&journal, &appended));
        for key in 0..5 {
            let key = format!("k{key}");
            let latest = view.latest(row, key.as_bytes()).unwrap().unwrap();
            assert_eq!(latest.payload(), payload(&key, 40 * (round + 2) - 1));
        }
    }
    // A view from before shows what it has mapped, and says what is gone.
    let old: Vec<_> = before.range(..).collect();
    assert!(
        old.iter().all(|entry| entry.as_ref().is_ok_and(|entry| entry.seq().get() <= 200)
            || entry.as_ref().is_err_and(|error| error.kind() == ErrorKind::Compacted)),
        "{old:?}"
    );
    let mut missed = 0;
    let mut seen = 1;
    while let Ok(true) = late.advance() {
        match late.item() {
            Item::Entry(_) => seen += 1,
            Item::Missed(one) => missed += one.count,
            _ => unreachable!(),
        }
    }
    assert!(missed > 0 && seen > 0);
    // One that never looked in between cannot follow: what it had yet to read is gone.
    let error = lagging.view().map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Compacted, "{error}");
    let again = Reader::open(&path).unwrap();
    assert_eq!(again.view().unwrap().range(..).count(), survivors(&journal, &appended).len());
}

#[test]
fn an_erased_entity_leaves_no_byte_and_what_holds_it_back_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let journal = options().open(&path).unwrap();
    let person = journal.kind("person").unwrap();
    let name = "ada-lovelace-1815";
    let is_on_disk = |needle: &str| {
        names(&path).iter().any(|name| {
            let bytes = std::fs::read(path.join(name)).unwrap();
            bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
        })
    };
    for n in 0..40 {
        put(&journal, person, name, n);
        put(&journal, person, "other", n);
    }
    let view = journal.view();
    assert!(is_on_disk(name));
    let mut slow = journal.watch("slow", Region::all()).unwrap();
    assert!(slow.advance().unwrap());
    slow.checkpoint().unwrap();
    let erasure = journal.erase(person, name.as_bytes()).unwrap();
    assert!(!erasure.erased && erasure.entries == 0, "{erasure:?}");
    assert_eq!(erasure.waiting_for[0].by, PinnedBy::Cursor("slow".into()));
    while slow.advance().unwrap() {}
    slow.checkpoint().unwrap();
    drop(slow);
    // It is remembered: also a later life goes on with it, and so does any compaction.
    journal.close().unwrap();
    let journal = options().open(&path).unwrap();
    let done = journal.compact(&now_all()).unwrap();
    assert_eq!(done.entries_dropped, 40, "{done:?}");
    assert!(!is_on_disk(name), "{:?}", names(&path));
    assert!(journal.latest(person, name.as_bytes()).unwrap().is_none());
    assert_eq!(journal.view().entity(person, b"other").map(Result::unwrap).count(), 40, "others are whole");
    // Who had it mapped has it as long as that.
    assert_eq!(view.entity(person, name.as_bytes()).map(Result::unwrap).count(), 40);
    // One that comes again is a new one, and can be erased where it stands.
    journal.retire_cursor("slow").unwrap();
    let again = journal.append(Record::new(person, name.as_bytes(), b"again")).unwrap();
    assert_eq!(again.generation.get(), again.seq.get());
    let erasure = journal.erase(person, name.as_bytes()).unwrap();
    assert!(erasure.erased && erasure.entries == 1 && erasure.through == Some(again.seq), "{erasure:?}");
    assert!(!is_on_disk(name));
    let none = journal.erase(person, name.as_bytes()).unwrap();
    assert!(none.erased && none.through.is_none());
    journal.close().unwrap();
    assert!(!is_on_disk(name));
    is_valid(&path);
}
