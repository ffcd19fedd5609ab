//! What is made of a compacted store: backups, what is restored of them, repairs.

use std::collections::BTreeMap;
use std::path::Path;

use esker::{ErrorKind, IdempotencyKey, Keep, Reader, Record, Region, Seq, verify};

use super::rounds::{is_valid, names, now_all, options, payload, put, rounds, survivors};

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
