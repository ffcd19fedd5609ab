//! What is dropped and what stays: of entities, of kinds, of what is known of keyed batches.

use std::collections::BTreeMap;
use std::time::Duration;

use esker::{
    Check, CompactOptions, Durability, ErrorKind, Expect, IdempotencyKey, Journal, Keep, Options, Record,
    Region, Seq, Verdict, verify,
};

use super::rounds::{is_valid, names, now_all, options, put, rounds, survivors};

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
