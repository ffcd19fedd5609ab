//! Out and in again: the same entries, batches, keys and gaps, whatever the store was.

use std::path::Path;
use std::time::Duration;

use esker::{CompactOptions, IdempotencyKey, Journal, Keep, Reader, Record};
use proptest::prelude::*;

use super::place::{KEY, Place, entries, export, lines, options, without_era};
use crate::support::{self, flip, run};

#[test]
fn a_store_comes_back_from_its_export_as_it_was() {
    let place = Place::new();
    let (store, again) = (place.rich(), place.path("again.esker"));
    let text = export(&store, &[]);
    let made = place.import(&text, &again);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert!(made.rows().contains(&vec!["entries", "411"]), "{}", made.stdout);
    assert_eq!(made.rows().last().unwrap()[1], format!("esker verify {again}"));
    assert_eq!(run(&["verify", &again]).code, Some(0));
    assert_eq!(without_era(&export(&again, &[])), without_era(&text));
    let equal = run(&["diff", &store, &again]);
    assert_eq!((equal.code, equal.rows()[0][1]), (Some(0), "equal"), "{}", equal.stdout);
    // That the lines say so is one thing; the library has to see the same.
    let [one, other] = [&store, &again].map(|path| Reader::open(path).unwrap());
    let (view, its_view) = (one.view().unwrap(), other.view().unwrap());
    let mut caused = 0;
    for (a, b) in view.range(..).zip(its_view.range(..)) {
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!(
            (a.seq(), a.generation(), a.kind(), a.key()),
            (b.seq(), b.generation(), b.kind(), b.key())
        );
        assert_eq!((a.payload(), a.metadata(), a.time()), (b.payload(), b.metadata(), b.time()));
        assert_eq!((a.correlation(), a.causation()), (b.correlation(), b.causation()));
        assert_eq!((a.idempotency_key(), a.schema_version()), (b.idempotency_key(), b.schema_version()));
        assert_eq!(a.has_more(), b.has_more(), "{}", a.seq());
        caused += usize::from(a.causation().is_some());
    }
    assert_eq!((caused, view.last_seq().unwrap()), (4, its_view.last_seq().unwrap()));
    assert!(
        other.era() > one.era() && one.store_id() == other.store_id() && one.created() == other.created()
    );
    assert_eq!(one.kinds(), other.kinds());
    let journal = Journal::open(&again).unwrap();
    let doc = journal.kind("doc with space").unwrap();
    let next = journal.append(Record::new(doc, b"hex:6b", b"on")).unwrap();
    assert_eq!((next.seq.get(), next.generation.get()), (412, 201));
}

#[test]
fn a_batch_that_was_keyed_before_the_export_is_known_behind_the_import() {
    let place = Place::new();
    let store = place.path("a.esker");
    let journal = options().open(&store).unwrap();
    let note = journal.kind("note").unwrap();
    let commit = |journal: &Journal| {
        let mut batch = journal.batch().idempotency_key(KEY);
        batch.push(Record::new(note, b"a", b"1")).push(Record::new(note, b"b", b"2"));
        batch.commit().unwrap()
    };
    commit(&journal);
    journal.close().unwrap();
    let again = place.path("b.esker");
    assert_eq!(place.import(export(&store, &[]), &again).code, Some(0));
    let journal = options().open(&again).unwrap();
    let repeated = commit(&journal);
    assert!(repeated.repeated && repeated.receipts[1].seq.get() == 2);
}

#[test]
fn what_a_backplane_wrote_comes_along_and_goes_on() {
    use esker::backplane::{
        Append, Backplane, Compactor, Filter, Local, Offset, Put, Revision, Stamp, Step, WriterId,
    };
    let place = tempfile::tempdir().unwrap();
    let paths = ["from.esker", "to.esker"].map(|name| place.path().join(name));
    let [from, to] = paths.each_ref().map(|path| path.to_str().unwrap());
    let stamp = |n| Stamp::new(WriterId::from_raw(u64::MAX), n);
    let append = |n: u64| Step::Append(Append::new("order", b"a", b"payload", stamp(n)).schema(3));
    let put = Put::new(b"cell", Revision::NEVER, Some(b"\xff"), stamp(1));
    let commit = |plane: &Local| plane.commit(&[append(1), append(2), append(3), Step::Put(put)]).unwrap();
    let plane = Local::open(from).unwrap();
    let done = commit(&plane);
    plane.compact("order", b"a", done.offset(1).unwrap()).unwrap();
    plane.close().unwrap();
    let text = export(from, &[]);
    assert!(text.contains("\"stamp\":\"ffffffffffffffff:1\""), "{text}");
    let exported = place.path().join("e.jsonl");
    std::fs::write(&exported, &text).unwrap();
    assert_eq!(run(&["import", exported.to_str().unwrap(), to]).code, Some(0));
    assert_eq!(run(&["diff", from, to]).code, Some(0));
    assert_eq!(run(&["verify", to]).code, Some(0));

    let plane = Local::open(to).unwrap();
    let again = commit(&plane);
    assert_eq!((again.offset(2), again.revision(3)), (done.offset(2), done.revision(3)));
    assert_eq!(plane.load(b"cell").unwrap().bytes.unwrap(), b"\xff");
    let lost = plane.subscribe(Filter::topic("order", b"a"), Offset::BEGINNING).err().unwrap();
    assert_eq!(lost.kind(), esker::ErrorKind::Lost);
    let mut feed = plane.subscribe(Filter::topic("order", b"a"), done.offset(0).unwrap()).unwrap();
    let record = feed.try_next().unwrap().unwrap();
    assert_eq!((record.stamp(), record.schema()), (Some(stamp(2)), 3));
    plane.close().unwrap();
}

#[test]
fn what_is_kept_of_a_kind_its_tombstones_and_what_compaction_left_come_along() {
    let place = Place::new();
    let (path, copy) = (place.path("rows.esker"), place.path("copy.esker"));
    let thorough = CompactOptions::new().keep_tombstones_for(Duration::ZERO).thorough(true);
    let journal = options().open(&path).unwrap();
    let (row, log) = (journal.kind("row").unwrap(), journal.kind("log").unwrap());
    journal.keep(row, Keep::Latest).unwrap();
    for n in 0..300_u32 {
        journal.append(Record::new(row, &[(n % 5) as u8], &[7; 200])).unwrap();
        if n % 30 == 0 {
            journal.append(Record::new(log, b"all of it", &n.to_le_bytes())).unwrap();
        }
    }
    let done = journal.compact(&thorough).unwrap();
    assert!(done.parts_written > 0, "{done:?}");
    journal.append(Record::tombstone(row, &[3])).unwrap();
    journal.close().unwrap();

    let text = export(&path, &[]);
    let imported = place.import(&text, &copy);
    assert_eq!(imported.code, Some(0), "{}", imported.stderr);
    assert_eq!(without_era(&export(&copy, &[]))[1..], without_era(&text)[1..]);

    let journal = options().open(&copy).unwrap();
    assert_eq!(journal.kind_named("row").unwrap().keep, Keep::Latest);
    assert!(journal.latest(row, &[3]).unwrap().unwrap().is_tombstone());
    for _ in 0..200 {
        journal.append(Record::new(log, b"more", &[0; 200])).unwrap();
    }
    journal.compact(&thorough).unwrap();
    assert!(journal.latest(row, &[3]).unwrap().is_none(), "the tombstone has had its time");
    assert!(journal.latest(row, &[2]).unwrap().is_some());
    journal.close().unwrap();
    assert_eq!(run(&["verify", &copy]).code, Some(0));
}

#[test]
fn what_a_filter_left_out_is_a_gap_and_its_numbers_are_not_given_again() {
    let place = Place::new();
    let store = place.rich();
    let text = export(&store, &["--kind", "doc*"]);
    let all = entries(&export(&store, &[]));
    let wanted: Vec<_> = all.iter().filter(|entry| entry["kind"] == "doc with space").cloned().collect();
    assert_eq!(entries(&text), wanted);
    let summary = lines(&text).pop().unwrap();
    assert_eq!((&summary["gaps"], &summary["missing"]), (&201.into(), &206.into()));
    assert_eq!((&summary["batches_cut"], &summary["log_last_seq"]), (&0.into(), &411.into()));
    let again = place.path("again.esker");
    let made = place.import(&text, &again);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert!(made.rows().contains(&vec!["missing", "206"]), "{}", made.stdout);
    let verified = run(&["verify", &again]);
    assert_eq!(verified.code, Some(0), "{}", verified.stdout);
    assert_eq!(entries(&export(&again, &[])), wanted);
    let journal = Journal::open(&again).unwrap();
    let raw = journal.kind("raw").unwrap();
    assert_eq!(journal.append(Record::new(raw, b"new", b"on")).unwrap().seq.get(), 412);

    // A range of Seqs that begins and ends in the middle of a batch.
    let text = export(&store, &["--seq", "402..404"]);
    let more: Vec<bool> = entries(&text).iter().map(|entry| entry["more"] == true).collect();
    assert_eq!(more, [true, true, false]);
    assert!(entries(&text)[0].get("idempotency_key").is_none(), "the key stands on the first one");
    assert_eq!(lines(&text).pop().unwrap()["batches_cut"], 1);
    assert_eq!(place.import(&text, &place.path("middle.esker")).code, Some(0));
    assert_eq!(run(&["export", &store, "--op", "system"]).code, Some(2));
}

#[test]
fn damage_is_said_and_left_out_and_the_import_says_so_again() {
    let place = Place::new();
    let store = place.rich();
    let [(one, content), (other, header)] = [5, 404].map(|seq| support::place(&store, seq));
    flip(Path::new(&store), one, content + 60);
    flip(Path::new(&store), other, header + 16);
    let exported = run(&["export", &store]);
    assert_eq!(exported.code, Some(1));
    assert_eq!(exported.of_type("finding").len(), 2);
    let seqs: Vec<u64> =
        exported.of_type("entry").iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=411).filter(|seq| ![5, 404].contains(seq)).collect::<Vec<_>>());
    let again = place.path("again.esker");
    let made = place.import(&exported.stdout, &again);
    assert_eq!(made.code, Some(1), "behind a pipe nobody sees how the export ended: {}", made.stderr);
    assert!(made.stderr.contains("2 places were damaged where the export was made"), "{}", made.stderr);
    let verified = run(&["verify", &again]);
    assert_eq!(verified.code, Some(0), "{}", verified.stdout);
    let diff = run(&["diff", &store, &again]);
    assert_eq!(diff.code, Some(1), "what is damaged is not equal to anything");
}

/// An entry of the property test: kind, key, payload, metadata, and whether the batch goes on.
type Any = (bool, Vec<u8>, Vec<u8>, Vec<u8>, bool);

fn any_entry() -> impl Strategy<Value = Any> {
    let bytes = |most| {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..most),
            ".{0,20}".prop_map(String::into_bytes),
            "hex:[0-9a-f]{0,4}".prop_map(String::into_bytes),
        ]
    };
    let key = prop_oneof!["[ab]".prop_map(String::into_bytes), bytes(255)].prop_map(|mut key| {
        key.truncate(255);
        if key.is_empty() { vec![0] } else { key }
    });
    (any::<bool>(), key, bytes(500), bytes(100), prop::bool::weighted(0.3))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_store_comes_back(records in prop::collection::vec(any_entry(), 0..60), keyed in any::<u64>()) {
        let place = Place::new();
        let (store, again) = (place.path("a.esker"), place.path("b.esker"));
        let journal = options().open(&store).unwrap();
        let kinds = [journal.kind("note").unwrap(), journal.kind("ü/\"\\").unwrap()];
        let mut batch = journal.batch();
        for (at, (kind, key, payload, metadata, more)) in records.iter().enumerate() {
            batch.push(Record::new(kinds[usize::from(*kind)], key, payload).metadata(metadata));
            if *more && at + 1 < records.len() && batch.len() < 4 {
                continue;
            }
            if keyed >> (at % 64) & 1 == 1 {
                batch = batch.idempotency_key(IdempotencyKey([u8::try_from(at).unwrap(); 16]));
            }
            batch.commit().unwrap();
        }
        journal.close().unwrap();
        let text = export(&store, &[]);
        let made = place.import(&text, &again);
        prop_assert_eq!(made.code, Some(0), "{}", made.stderr);
        prop_assert_eq!(without_era(&export(&again, &[])), without_era(&text));
        let diff = run(&["diff", &store, &again]);
        prop_assert_eq!(diff.code, Some(0), "{}", diff.stdout);
        let verified = run(&["verify", &again]);
        prop_assert_eq!(verified.code, Some(0), "{}", verified.stdout);
        // And what a filter leaves of it.
        let some = export(&store, &["--kind", "note"]);
        let made = place.import(&some, &place.path("c.esker"));
        prop_assert_eq!(made.code, Some(0), "{}", made.stderr);
        prop_assert_eq!(entries(&export(&place.path("c.esker"), &[])), entries(&some));
    }
}
