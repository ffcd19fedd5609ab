//! Compaction: what is dropped, what stays, and what everybody sees of it meanwhile.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is a failed test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use esker::{
    Check, CompactOptions, Durability, ErrorKind, Expect, Hold, IdempotencyKey, Item, Journal, Keep, KindId,
    Options, PinnedBy, Reader, Record, Region, Seq, Start, SubscribeOptions, Verdict, WatchOptions, verify,
};

const PAYLOAD: usize = 200;

fn options() -> Options {
    Options::new().segment_bytes(8192).background(false).durability(Durability::Os)
}

fn now_all() -> CompactOptions {
    CompactOptions::new().keep_tombstones_for(Duration::ZERO)
}

/// What an entry is about, so that every survivor can be told from every other.
fn payload(key: &str, n: u64) -> Vec<u8> {
    let mut bytes = format!("{key}={n};").into_bytes();
    let fill = (n % 251) as u8;
    bytes.resize(PAYLOAD, fill);
    bytes
}

fn put(journal: &Journal, kind: KindId, key: &str, n: u64) -> u64 {
    journal.append(Record::new(kind, key.as_bytes(), &payload(key, n))).unwrap().seq.get()
}

/// Appends rounds of updates of a few keys, and answers what was appended: Seq to key and number.
fn rounds(journal: &Journal, kind: KindId, keys: usize, from: u64, to: u64) -> BTreeMap<u64, (String, u64)> {
    let mut all = BTreeMap::new();
    for n in from..to {
        for key in 0..keys {
            let key = format!("k{key}");
            all.insert(put(journal, kind, &key, n), (key, n));
        }
    }
    all
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Reads everything that is there, and compares every survivor's payload with what was appended.
fn survivors(journal: &Journal, appended: &BTreeMap<u64, (String, u64)>) -> Vec<u64> {
    let view = journal.view();
    let forward: Vec<u64> = view
        .range(..)
        .map(|entry| {
            let entry = entry.unwrap();
            let (key, n) = &appended[&entry.seq().get()];
            assert_eq!(entry.key(), key.as_bytes(), "{}", entry.seq());
            assert_eq!(entry.payload(), payload(key, *n), "{}", entry.seq());
            let again = view.get(entry.seq()).unwrap().unwrap();
            assert_eq!(again.payload(), entry.payload());
            entry.seq().get()
        })
        .collect();
    let mut backward: Vec<u64> = view.range(..).rev().map(|entry| entry.unwrap().seq().get()).collect();
    backward.reverse();
    assert_eq!(forward, backward);
    forward
}

#[test]
fn the_newest_entry_of_each_entity_is_kept_and_everything_above_the_floor() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let journal = options().open(&path).unwrap();
    let row = journal.kind("row").unwrap();
    journal.keep(row, Keep::Latest).unwrap();
    let mut appended = rounds(&journal, row, 10, 0, 30);
    appended.insert(put(&journal, row, "quiet", 1), ("quiet".into(), 1));
    appended.extend(rounds(&journal, row, 10, 30, 60));
    let before = journal.stats();
    assert!(before.segments > 8, "{}", before.segments);

    let plan = journal.plan_compaction(&now_all()).unwrap();
    assert_eq!(survivors(&journal, &appended).len(), appended.len(), "a plan changes nothing");
    let done = journal.compact(&now_all()).unwrap();
    assert_eq!((plan.entries_dropped, plan.through), (done.entries_dropped, done.through));
    assert!(done.bytes_after < done.bytes_before / 4, "{done:?}");
    assert!(done.entries_dropped > 400 && done.held_back_by.is_empty(), "{done:?}");

    let floor = done.floor.unwrap().get();
    let newest = *appended.keys().last().unwrap();
    let left = survivors(&journal, &appended);
    assert_eq!(left.len() as u64, appended.len() as u64 - done.entries_dropped);
    assert!((floor..=newest).all(|seq| left.contains(&seq)), "everything from the floor on");
    // Below it: of each entity the newest, unless there is a newer one above.
    let view = journal.view();
    for key in (0..10).map(|key| format!("k{key}")).chain(["quiet".to_owned()]) {
        let latest = view.latest(row, key.as_bytes()).unwrap().unwrap();
        let last = appended.iter().rev().find(|(_, (own, _))| *own == key).unwrap();
        assert_eq!(latest.seq().get(), *last.0);
    }
    assert!(left.iter().any(|seq| *seq < floor), "the quiet one");

    // Files of what was replaced are gone, and a later opening finds the same.
    assert!(!names(&path).contains(&"0000000001.seg".to_owned()), "{:?}", names(&path));
    journal.close().unwrap();
    assert!(
        verify(&path, esker::Check::Full).unwrap().findings.is_empty(),
        "{:?}",
        verify(&path, esker::Check::Full)
    );
    let journal = options().open(&path).unwrap();
    assert_eq!(survivors(&journal, &appended), left);
    let more = rounds(&journal, row, 10, 60, 62);
    appended.extend(more);
    assert_eq!(survivors(&journal, &appended).len(), left.len() + 20);
    assert_eq!(journal.latest(row, b"quiet").unwrap().unwrap().generation().get(), 1);
    let next = journal.append(Record::new(row, b"quiet", b"2")).unwrap();
    assert_eq!(next.generation.get(), 2, "a kept entity goes on");
}

#[test]
fn reads_of_what_was_dropped_are_compacted_and_never_silently_less() {
    let directory = tempfile::tempdir().unwrap();
    let journal = options().open(directory.path().join("store")).unwrap();
    let row = journal.kind("row").unwrap();
    let audit = journal.kind("audit").unwrap();
    journal.keep(row, Keep::Latest).unwrap();
    put(&journal, audit, "first", 0);
    rounds(&journal, row, 5, 0, 60);
    put(&journal, audit, "last", 0);
    rounds(&journal, row, 5, 60, 70);
    let done = journal.compact(&now_all()).unwrap();
    let floor = done.floor.unwrap();
    let view = journal.view();
    let is_compacted = |error: esker::Error| {
        assert_eq!(error.kind(), ErrorKind::Compacted, "{error}");
        assert_eq!(error.floor(), Some(floor.get()), "{error}");
    };
    is_compacted(view.get(Seq::new(3).unwrap()).map(|_| ()).unwrap_err());
    is_compacted(view.range(Seq::new(3).unwrap()..).next().unwrap().map(|_| ()).unwrap_err());
    let mut history = view.entity(row, b"k1");
    is_compacted(history.next().unwrap().map(|_| ()).unwrap_err());
    assert!(history.next().is_none(), "and it has ended");
    // From the back as far as it goes, and then the error.
    let backward: Vec<_> = view.entity(row, b"k1").rev().collect();
    assert!(backward.len() > 1);
    for pair in backward[..backward.len() - 1].windows(2) {
        let [newer, older] = [pair[0].as_ref().unwrap(), pair[1].as_ref().unwrap()];
        assert_eq!(newer.generation().get(), older.generation().get() + 1);
    }
    assert_eq!(backward.last().unwrap().as_ref().unwrap_err().kind(), ErrorKind::Compacted);
    // What is whole is whole.
    assert_eq!(view.range(floor..).count() as u64, 352 - floor.get() + 1);
    assert_eq!(view.floor(&Region::kind(audit)), None);
    assert_eq!(view.floor(&Region::kind(row)), Some(floor));
    assert_eq!(view.kind(audit).count(), 2);
    assert_eq!(view.entity(audit, b"first").count(), 1);
    assert!(view.get(Seq::new(1).unwrap()).unwrap().is_some(), "a kept entry is there");
    assert!(view.get(Seq::new(1000).unwrap()).unwrap().is_none(), "and behind the end is nothing");
}

#[test]
fn what_is_kept_of_a_kind_can_be_nothing_and_a_forgotten_entity_begins_anew_at_its_seq() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let journal = options().open(&path).unwrap();
    let metric = journal.kind("metric").unwrap();
    let audit = journal.kind("audit").unwrap();
    journal.keep(metric, Keep::Nothing).unwrap();
    let mut appended = BTreeMap::new();
    for n in 0..40 {
        for key in ["a", "b"] {
            appended.insert(put(&journal, metric, key, n), (key.to_owned(), n));
        }
        appended.insert(put(&journal, audit, "who", n), ("who".to_owned(), n));
    }
    appended.insert(put(&journal, metric, "once", 0), ("once".to_owned(), 0));
    for n in 40..80 {
        appended.insert(put(&journal, metric, "a", n), ("a".to_owned(), n));
        appended.insert(put(&journal, audit, "who", n), ("who".to_owned(), n));
    }
    let done = journal.compact(&now_all()).unwrap();
    let floor = done.floor.unwrap().get();
    let left = survivors(&journal, &appended);
    let view = journal.view();
    assert_eq!(view.kind(audit).count(), 80, "what keeps everything keeps everything");
    assert_eq!(view.entity(audit, b"who").filter_map(Result::ok).count(), 80);
    assert!(view.kind(metric).all(|entry| entry.unwrap().seq().get() >= floor));
    assert_eq!(left.len() as u64, 80 + view.kind(metric).count() as u64);
    for reopened in [false, true] {
        if reopened {
            journal.close().unwrap();
            // The directory of entities is derived: without it the same is known.
            std::fs::remove_file(path.join("entities")).ok();
        }
        let journal = if reopened { options().open(&path).unwrap() } else { journal.clone() };
        assert!(journal.latest(metric, b"once").unwrap().is_none());
        assert_eq!(journal.view().entity(metric, b"once").count(), 0, "a history that is gone is empty");
        if reopened {
            let expect = Record::new(metric, b"once", b"again").expect(Expect::New);
            let begun = journal.append(expect).unwrap();
            assert_eq!(begun.generation.get(), begun.seq.get(), "it begins at its Seq");
            let next = journal.append(Record::new(metric, b"once", b"on")).unwrap();
            assert_eq!(next.generation.get(), begun.generation.get() + 1);
            assert_eq!(journal.view().entity(metric, b"once").map(Result::unwrap).count(), 2);
            // One that was never written cannot be told from one that was forgotten.
            let new = journal.append(Record::new(audit, b"new", b"")).unwrap();
            assert_eq!(new.generation.get(), new.seq.get());
        }
    }
}

#[test]
fn a_prefix_of_which_nothing_is_kept_leaves_no_file_and_all_of_the_log_can_go() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let journal = options().open(&path).unwrap();
    let metric = journal.kind("metric").unwrap();
    journal.keep(metric, Keep::Nothing).unwrap();
    for round in 0..4 {
        for n in 0..200 {
            put(&journal, metric, "a", n);
        }
        let done = journal.compact(&now_all()).unwrap();
        assert_eq!(done.parts_written, 0, "{round} {done:?}");
        assert!(!names(&path).iter().any(|name| name.ends_with(".snap")), "{:?}", names(&path));
        assert!(done.bytes_after <= 3 * 8192, "{done:?}");
        assert!(verify(&path, esker::Check::Full).unwrap().findings.is_empty(), "{round}");
        let floor = done.floor.unwrap();
        let view = journal.view();
        assert_eq!(view.range(..).count() as u64, (round + 1) * 200 - floor.get() + 1);
        assert_eq!(view.last_seq().unwrap().unwrap().get(), (round + 1) * 200);
    }
    journal.close().unwrap();
    let journal = options().open(&path).unwrap();
    assert_eq!(put(&journal, metric, "a", 0), 801, "numbers go on");
    assert!(journal.recovery().clean);
}

#[test]
fn tombstones_stay_for_their_time_and_nothing_older_comes_to_light_when_they_go() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let journal = options().open(&path).unwrap();
    let row = journal.kind("row").unwrap();
    let audit = journal.kind("audit").unwrap();
    journal.keep(row, Keep::Latest).unwrap();
    put(&journal, row, "gone", 1);
    for n in 0..100 {
        // Mostly what is kept: the old row of "gone" is too little garbage for its segment to be copied.
        put(&journal, audit, "who", n);
    }
    let said = journal.append(Record::tombstone(row, b"gone")).unwrap();
    for n in 0..100 {
        put(&journal, audit, "who", n);
        put(&journal, row, "busy", n);
    }
    assert!(journal.latest(row, b"gone").unwrap().unwrap().entry().is_tombstone());
    let long = CompactOptions::new().keep_tombstones_for(Duration::from_secs(3600)).thorough(true);
    journal.compact(&long).unwrap();
    let latest = journal.latest(row, b"gone").unwrap().unwrap();
    assert_eq!(latest.seq(), said.seq);
    assert_eq!(latest.generation().get(), 2);
    // Its time is over: it goes, and with it everything of the entity.
    for thorough in [false, true] {
        journal.compact(&now_all().thorough(thorough)).unwrap();
        let latest = journal.latest(row, b"gone").unwrap();
        assert!(latest.is_none_or(|entry| entry.entry().is_tombstone()), "never the old row");
    }
    assert!(journal.latest(row, b"gone").unwrap().is_none());
    journal.close().unwrap();
    std::fs::remove_file(path.join("entities")).ok();
    let journal = options().open(&path).unwrap();
    assert!(journal.latest(row, b"gone").unwrap().is_none());
    let again = journal.append(Record::new(row, b"gone", b"2")).unwrap();
    assert!(again.generation.get() > 2, "never back");
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
fn what_changed_a_kind_may_be_compacted_and_the_store_is_valid() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.esker");
    let journal = options().open(&path).unwrap();
    let (stays, row) = (journal.kind("stays").unwrap(), journal.kind("row").unwrap());
    // The first segments stand as they are, and say that all rows are kept.
    (0..100).for_each(|n| _ = put(&journal, stays, "a", n));
    journal.keep(row, Keep::Latest).unwrap();
    rounds(&journal, row, 2, 0, 100);
    let done = journal.compact(&now_all()).unwrap();
    assert!(done.entries_dropped > 100, "{done:?}");
    assert!(names(&path).contains(&"0000000001.seg".to_owned()), "{:?}", names(&path));
    journal.close().unwrap();
    is_valid(&path);
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
fn a_repeated_batch_is_answered_as_before_when_its_entries_were_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let journal = options().open(&path).unwrap();
    let metric = journal.kind("metric").unwrap();
    journal.keep(metric, Keep::Nothing).unwrap();
    let keyed = |journal: &Journal, n: u8| {
        let key = IdempotencyKey([n; 16]);
        let mut batch = journal.batch().idempotency_key(key);
        let first = [n, 1];
        let second = [n, 2];
        batch.push(Record::new(metric, b"a", &first)).push(Record::new(metric, b"b", &second));
        batch.commit()
    };
    let first: Vec<_> = (0..20).map(|n| keyed(&journal, n).unwrap()).collect();
    rounds(&journal, metric, 3, 0, 60);
    for round in 0..3 {
        let done = journal.compact(&now_all()).unwrap();
        assert!(done.entries_dropped > 0, "{round}");
        for (n, first) in (0..).zip(&first) {
            let again = keyed(&journal, n).unwrap();
            assert!(again.repeated);
            assert_eq!(again.receipts, first.receipts);
        }
        let key = IdempotencyKey([3; 16]);
        let mut other = journal.batch().idempotency_key(key);
        let other = other.push(Record::new(metric, b"a", b"other")).commit();
        assert_eq!(other.unwrap_err().kind(), ErrorKind::KeyReused);
        rounds(&journal, metric, 3, 0, 60);
    }
    journal.close().unwrap();
    let journal = options().open(&path).unwrap();
    assert_eq!(keyed(&journal, 7).unwrap().receipts, first[7].receipts);
}

#[test]
fn what_is_young_or_small_enough_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let journal = options().open(directory.path().join("store")).unwrap();
    let metric = journal.kind("metric").unwrap();
    journal.keep(metric, Keep::Nothing).unwrap();
    rounds(&journal, metric, 5, 0, 80);
    let nothing = |options: &CompactOptions| journal.compact(options).unwrap().entries_dropped;
    assert_eq!(nothing(&now_all().keep_for(Duration::from_secs(60))), 0);
    assert_eq!(nothing(&now_all().keep_bytes(1 << 30)), 0);
    assert_eq!(nothing(&now_all().keep_entries(400)), 0);
    let done = journal.compact(&now_all().keep_entries(150)).unwrap();
    assert!((400 - 150 - 40..=400 - 150).contains(&done.entries_dropped), "{done:?}");
    let done = journal.compact(&now_all().keep_bytes(40_000)).unwrap();
    assert!((40_000..40_000 + 3 * 8192).contains(&done.bytes_after), "{done:?}");
    std::thread::sleep(Duration::from_millis(20));
    assert!(journal.compact(&now_all().keep_for(Duration::from_millis(1))).unwrap().entries_dropped > 0);
}

/// A store that was compacted more than once, with everything in it that a part can hold.
fn compacted_store(path: &Path) -> (BTreeMap<u64, (String, u64)>, Vec<u64>, esker::BatchReceipt) {
    let journal = options().open(path).unwrap();
    let row = journal.kind("row").unwrap();
    let metric = journal.kind("metric").unwrap();
    let audit = journal.kind("audit").unwrap();
    journal.keep(row, Keep::Latest).unwrap();
    journal.keep(metric, Keep::Nothing).unwrap();
    let mut appended = BTreeMap::new();
    let mut batch = journal.batch().idempotency_key(IdempotencyKey([9; 16]));
    batch.push(Record::new(metric, b"keyed", b"1")).push(Record::new(metric, b"keyed", b"2"));
    let receipt = batch.commit().unwrap();
    for round in 0..3u64 {
        appended.extend(rounds(&journal, row, 6, 0, 12));
        appended.extend(rounds(&journal, metric, 6, 0, 12));
        let key = format!("a{round}");
        for n in 0..60 {
            appended.insert(put(&journal, audit, &key, n), (key.clone(), n));
        }
        journal.compact(&now_all()).unwrap();
    }
    drop(journal.watch("reader", Region::all()).unwrap());
    let left = survivors(&journal, &appended);
    journal.close().unwrap();
    assert!(names(path).iter().any(|name| name.ends_with(".snap")), "{:?}", names(path));
    (appended, left, receipt)
}

fn is_valid(path: &Path) {
    let found = verify(path, esker::Check::Full).unwrap();
    assert!(found.findings.is_empty(), "{:#?}", found.findings);
    let found = verify(path, esker::Check::Quick).unwrap();
    assert!(found.findings.is_empty(), "{:#?}", found.findings);
}

fn still_works(
    path: &Path,
    appended: &BTreeMap<u64, (String, u64)>,
    left: &[u64],
    first: &esker::BatchReceipt,
) {
    let journal = options().open(path).unwrap();
    assert_eq!(survivors(&journal, appended), left);
    let metric = journal.kind_named("metric").unwrap();
    assert_eq!(metric.keep, Keep::Nothing);
    let mut again = journal.batch().idempotency_key(IdempotencyKey([9; 16]));
    again.push(Record::new(metric.id, b"keyed", b"1")).push(Record::new(metric.id, b"keyed", b"2"));
    let again = again.commit().unwrap();
    assert!(again.repeated && again.receipts == first.receipts, "{again:?}");
    let newest = *appended.keys().last().unwrap();
    let row = journal.kind_named("row").unwrap().id;
    let key = "k1";
    let before = journal.latest(row, key.as_bytes()).unwrap().unwrap().generation().get();
    let next = journal.append(Record::new(row, key.as_bytes(), b"")).unwrap();
    assert_eq!((next.seq.get(), next.generation.get()), (newest + 1, before + 1));
    let error = journal.view().entity(row, b"k1").next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Compacted, "what was dropped is not forgotten to be missing");
    journal.close().unwrap();
    is_valid(path);
}

#[test]
fn a_compacted_store_is_backed_up_and_restored_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let [path, backup, restored] = ["a", "b", "c"].map(|name| directory.path().join(name));
    let (appended, left, first) = compacted_store(&path);
    for by in [esker::BackupBy::Copy, esker::BackupBy::Link] {
        Reader::open(&path).unwrap().backup(&backup, by).unwrap();
        is_valid(&backup);
        let reader = Reader::open(&backup).unwrap();
        let seqs: Vec<u64> =
            reader.view().unwrap().range(..).map(|entry| entry.unwrap().seq().get()).collect();
        assert_eq!(seqs, left);
        esker::restore(&backup, &restored).unwrap();
        is_valid(&restored);
        still_works(&restored, &appended, &left, &first);
        std::fs::remove_dir_all(&backup).unwrap();
        std::fs::remove_dir_all(&restored).unwrap();
    }
    // While one is made, nothing that it shows is dropped.
    let journal = options().open(&path).unwrap();
    journal.backup(&backup, esker::BackupBy::Copy).unwrap();
    is_valid(&backup);
}

#[test]
fn a_compacted_store_is_repaired_with_what_was_kept_with_and_without_its_manifest() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let (appended, left, first) = compacted_store(&path);
    for manifest_is_lost in [false, true] {
        if manifest_is_lost {
            std::fs::remove_file(path.join("MANIFEST")).unwrap();
        }
        let repaired = directory.path().join(format!("repaired-{manifest_is_lost}"));
        let done = esker::repair(&path, &repaired).unwrap();
        assert_eq!((done.entries, done.entries_lost), (left.len() as u64, 0), "{done:?}");
        is_valid(&repaired);
        still_works(&repaired, &appended, &left, &first);
    }
}

#[test]
fn what_is_damaged_in_a_part_is_lost_and_nothing_else_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let (appended, left, _) = compacted_store(&path);
    let part = names(&path).into_iter().find(|name| name.ends_with(".snap")).unwrap();
    let bytes = std::fs::read(path.join(&part)).unwrap();
    for (round, at) in [200, bytes.len() / 2, bytes.len() - 20].into_iter().enumerate() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        std::fs::write(path.join(&part), &damaged).unwrap();
        let found = verify(&path, esker::Check::Full).unwrap();
        assert_eq!(
            found.findings.iter().filter(|f| f.file == part).count(),
            1,
            "{at}: {:#?}",
            found.findings
        );
        // A reader serves what is left, and says what it cannot.
        for with_index in [true, false] {
            if !with_index {
                std::fs::remove_file(path.join(format!("{part}.idx"))).ok();
            }
            let reader = Reader::open(&path).unwrap();
            let view = reader.view().unwrap();
            let good: Vec<_> = left
                .iter()
                .filter(|seq| match view.get(Seq::new(**seq).unwrap()) {
                    Ok(Some(entry)) => {
                        let (key, n) = &appended[seq];
                        assert_eq!(entry.payload(), payload(key, *n));
                        true
                    }
                    Ok(None) => panic!("{seq} is passed over"),
                    Err(error) => {
                        assert!(error.is_corruption() || error.kind() == ErrorKind::Compacted, "{error}");
                        false
                    }
                })
                .collect();
            assert!(good.len() + 1 >= left.len());
            let errors: Vec<_> = view.range(..).filter_map(Result::err).collect();
            let expected = left.len() - good.len();
            assert_eq!(
                errors.len(),
                expected,
                "who does not ask for an answer meets no damage in it: {errors:?}"
            );
        }
        let repaired = directory.path().join(format!("repaired-{round}"));
        let done = esker::repair(&path, &repaired).unwrap();
        assert!(done.entries + 2 >= left.len() as u64 && !done.damage.is_empty(), "{done:?}");
        is_valid(&repaired);
        options().open(&repaired).unwrap().close().unwrap();
    }
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

#[test]
fn the_log_is_compacted_in_the_background_and_a_close_ends_that() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let auto = esker::AutoCompact::every(Duration::from_millis(2)).min_garbage(16 << 10);
    let options = Options::new().segment_bytes(8192).durability(Durability::Os).auto_compact(auto);
    let journal = options.open(&path).unwrap();
    let row = journal.kind("row").unwrap();
    journal.keep(row, Keep::Latest).unwrap();
    let mut appended = BTreeMap::new();
    let mut round = 0;
    while journal.stats().compactions < 3 {
        appended.extend(rounds(&journal, row, 5, round, round + 20));
        round += 20;
        assert!(round < 100_000, "{:?}", journal.stats());
    }
    survivors(&journal, &appended);
    let stats = journal.stats();
    assert!(stats.floor > 0 && stats.log_bytes > 0 && stats.compactions_failed == 0, "{stats:?}");
    journal.close().unwrap();
    is_valid(&path);
    let refused = Options::new().background(false).auto_compact(esker::AutoCompact::every(Duration::ZERO));
    let refused = refused.open(directory.path().join("other")).unwrap_err();
    assert!(refused.to_string().contains("auto_compact") && refused.to_string().contains("interval"));
}

#[test]
fn a_policy_that_was_said_in_a_segment_that_is_dropped_is_no_damage() {
    let journal = Options::new().segment_bytes(8192).background(false).in_memory().unwrap();
    let (row, note) = (journal.kind("row").unwrap(), journal.kind("note").unwrap());
    let fill = |kind, segments| {
        while journal.stats().segments < segments {
            journal.append(Record::new(kind, b"k", &[7; 500])).unwrap();
        }
    };
    // The first segment is kept, with what it says of the kind; the second says otherwise, and goes.
    fill(note, 2);
    journal.keep(row, Keep::Latest).unwrap();
    fill(row, 4);
    let done = journal.compact(&CompactOptions::new().thorough(true)).unwrap();
    assert!(done.entries_dropped > 0 && journal.stats().segments > 1, "{done:?}");
    let found = journal.verify(Check::Full).unwrap();
    assert_eq!(found.verdict, Verdict::Valid, "{:#?}", found.findings);
}
