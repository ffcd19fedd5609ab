//! Backups of a store that is being written, and what is restored from them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use esker::{
    BackupBy, Check, Durability, ErrorKind, IdempotencyKey, Journal, Options, Reader, Record, Region, Start,
    Verdict, repair, restore, verify,
};

fn options() -> Options {
    Options::new().segment_bytes(4096)
}

fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    names
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap()))
        .collect()
}

/// Whole batches of three, each with its number.
fn batches(reader: &Reader) -> u64 {
    let view = reader.view().unwrap();
    let mut count = 0;
    for entry in view.range(..) {
        let entry = entry.unwrap();
        assert_eq!(entry.payload()[..8], (count / 3_u64).to_le_bytes(), "entry {count}");
        count += 1;
    }
    assert_eq!(count % 3, 0, "a batch is whole");
    count / 3
}

fn append(journal: &Journal, n: u64) {
    let kind = journal.kind("note").unwrap();
    let mut payload = n.to_le_bytes().to_vec();
    payload.resize(8 + usize::try_from(n % 200).unwrap(), 7);
    let mut batch = journal.batch();
    for key in ["a", "b", "c"] {
        batch.push(Record::new(kind, key.as_bytes(), &payload));
    }
    batch.commit().unwrap();
}

#[test]
fn a_backup_taken_under_load_is_a_prefix_with_everything_that_was_there_when_it_began() {
    for (durability, by) in [(Durability::Sync, BackupBy::Copy), (Durability::Os, BackupBy::Link)] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.esker");
        let journal = options().durability(durability).open(&path).unwrap();
        let (appended, done) = (AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut n = 0;
                while n < 3000 && !done.load(Ordering::Relaxed) {
                    append(&journal, n);
                    n += 1;
                    appended.store(n, Ordering::Release);
                }
            });
            for round in 0..12 {
                while appended.load(Ordering::Acquire) < round * 10 {
                    std::thread::yield_now();
                }
                let target = directory.path().join(format!("{round}.backup"));
                let least = appended.load(Ordering::Acquire);
                let made = journal.backup(&target, by).unwrap();
                let reader = Reader::open(&target).unwrap();
                assert!(reader.is_backup());
                let count = batches(&reader);
                assert!(count >= least, "{count} of {least}");
                assert_eq!(made.through.map_or(0, u64::from), count * 3);
                assert_eq!(made.linked > 0, by == BackupBy::Link && made.segments > 1);
                let found = verify(&target, Check::Full).unwrap();
                assert_eq!(found.verdict, Verdict::Valid, "{:#?}", found.findings);
            }
            done.store(true, Ordering::Relaxed);
        });
        journal.close().unwrap();
        assert_eq!(verify(&path, Check::Full).unwrap().verdict, Verdict::Valid);
    }
}

#[test]
fn a_backup_is_read_and_not_written_and_what_is_restored_from_it_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let [path, backup, restored] = ["a", "b", "c"].map(|name| directory.path().join(name));
    let journal = options().open(&path).unwrap();
    let kind = journal.kind("note").unwrap();
    (0..30).for_each(|n| append(&journal, n));
    let mut named = journal.batch().idempotency_key(IdempotencyKey([3; 16]));
    named.push(Record::new(kind, b"named", b"once"));
    let first = named.commit().unwrap();
    let mut audit = journal.watch("audit", Region::kind(kind)).unwrap();
    for _ in 0..40 {
        audit.try_next().unwrap().unwrap();
    }
    audit.checkpoint().unwrap();
    let made = journal.backup(&backup, BackupBy::Copy).unwrap();
    append(&journal, 31);
    assert_eq!(made.through, Some(first.receipts[0].seq));

    let before = files(&backup);
    let refused = options().open(&backup).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::IsBackup, "{refused}");
    assert_eq!(Reader::open(&backup).unwrap().cursors().unwrap()[0].behind, 51);
    let done = restore(&backup, &restored).unwrap();
    assert_eq!(files(&backup), before, "nothing of the backup was changed");
    assert_eq!(restore(&path, directory.path().join("d")).unwrap_err().kind(), ErrorKind::InvalidInput);

    let again = options().open(&restored).unwrap();
    assert!(done.era > 1_700_000_000 && done.era == Reader::open(&restored).unwrap().era());
    assert_eq!(again.view().last_seq().unwrap(), done.through);
    // Histories, generations, kinds and keys go on where they were.
    assert_eq!(again.view().entity(kind, b"a").count(), 30);
    let next = again.append(Record::new(kind, b"a", b"behind")).unwrap();
    assert_eq!((next.generation.get(), next.seq.get()), (31, 92));
    let mut repeated = again.batch().idempotency_key(IdempotencyKey([3; 16]));
    repeated.push(Record::new(kind, b"named", b"once"));
    let repeated = repeated.commit().unwrap();
    assert!(repeated.repeated && repeated.receipts == first.receipts);
    // What a cursor names may mean something else by now, and it says so.
    let refused = again.watch("audit", Region::kind(kind)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::EraChanged);
    let at = again.cursors().unwrap()[0].seq.unwrap();
    again.reset_cursor("audit", Start::After(at)).unwrap();
    let mut audit = again.watch("audit", Region::kind(kind)).unwrap();
    assert_eq!(audit.try_next().unwrap().unwrap().seq().get(), 41);
    drop(audit);
    again.close().unwrap();
    assert_eq!(verify(&restored, Check::Full).unwrap().verdict, Verdict::Valid);
}

#[test]
fn an_empty_store_a_closed_one_and_one_behind_a_kill_are_backed_up_from_another_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    let mut made = 0;
    for appended in [0, 1, 40] {
        let journal = options().open(&path).unwrap();
        (0..appended).for_each(|n| append(&journal, n + made));
        made += appended;
        journal.close().unwrap();
        let reader = Reader::open(&path).unwrap();
        let (backup, restored) = (directory.path().join("b"), directory.path().join("c"));
        let report = reader.backup(&backup, BackupBy::Copy).unwrap();
        assert_eq!(report.through.map_or(0, u64::from), made * 3);
        assert_eq!(batches(&Reader::open(&backup).unwrap()), made);
        // Without its derived files it is the same.
        for name in files(&backup).keys().filter(|name| name.ends_with(".idx")) {
            std::fs::remove_file(backup.join(name)).unwrap();
        }
        restore(&backup, &restored).unwrap();
        let again = options().open(&restored).unwrap();
        append(&again, made);
        again.close().unwrap();
        assert_eq!(batches(&Reader::open(&restored).unwrap()), made + 1);
        std::fs::remove_dir_all(&backup).unwrap();
        std::fs::remove_dir_all(&restored).unwrap();
    }
}

#[test]
fn a_target_that_is_not_empty_or_inside_the_store_is_refused_and_untouched() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    let journal = options().open(&path).unwrap();
    append(&journal, 0);
    let full = directory.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("mine"), b"1").unwrap();
    let refused = journal.backup(&full, BackupBy::Copy).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists, "{refused}");
    assert_eq!(files(&full), BTreeMap::from([("mine".to_owned(), b"1".to_vec())]));
    let inside = journal.backup(path.join("inside"), BackupBy::Copy).unwrap_err();
    assert_eq!(inside.kind(), ErrorKind::InvalidInput);
    assert!(!path.join("inside").exists());
    let file = journal.backup(full.join("mine"), BackupBy::Copy).unwrap_err();
    assert_eq!(file.kind(), ErrorKind::NotADirectory);
    journal.close().unwrap();
    assert_eq!(
        journal.backup(directory.path().join("late"), BackupBy::Copy).unwrap_err().kind(),
        ErrorKind::Closed
    );
    assert!(!directory.path().join("late").exists());
}

/// Flips one bit at a time, and demands that nobody takes what is left for the whole.
fn damage_is_told(durability: Durability) {
    let directory = tempfile::tempdir().unwrap();
    let [path, backup] = ["a", "b"].map(|name| directory.path().join(name));
    let journal = options().durability(durability).open(&path).unwrap();
    (0..40).for_each(|n| append(&journal, n));
    let made = journal.backup(&backup, BackupBy::Copy).unwrap();
    let segments: Vec<String> = files(&backup).into_keys().filter(|name| name.ends_with(".seg")).collect();
    assert_eq!(segments.len() as u64, made.segments);
    for name in segments {
        let segment = backup.join(&name);
        let whole = std::fs::read(&segment).unwrap();
        let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
        for at in (128..end).step_by(211).chain([end]) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            std::fs::write(&segment, damaged).unwrap();
            let restored = directory.path().join("c");
            let error = restore(&backup, &restored).unwrap_err();
            assert!(error.is_corruption(), "{durability:?} {name} at {at}: {error}");
            assert!(!restored.exists(), "{durability:?} {name} at {at}: nothing is left of it");
        }
        std::fs::write(&segment, &whole).unwrap();
        // Nor is it backed up: a reader serves the rest, and a repair saves it.
        for by in [BackupBy::Copy, BackupBy::Link] {
            let ours = path.join(&name);
            let mut bytes = std::fs::read(&ours).unwrap();
            bytes[end] ^= 1;
            std::fs::write(&ours, &bytes).unwrap();
            let again = directory.path().join("d");
            let error = journal.backup(&again, by).unwrap_err();
            assert!(error.is_corruption() && !again.exists(), "{durability:?} {name} {by:?}: {error}");
            bytes[end] ^= 1;
            std::fs::write(&ours, &bytes).unwrap();
        }
    }
    restore(&backup, directory.path().join("c")).unwrap();
}

#[test]
fn damage_of_any_segment_is_neither_restored_nor_backed_up_in_silence() {
    damage_is_told(Durability::Sync);
    damage_is_told(Durability::Os);
}

#[test]
fn what_a_live_writer_has_appended_is_backed_up_from_another_process_in_every_mode() {
    for durability in
        [Durability::Sync, Durability::Os, Durability::Interval(std::time::Duration::from_secs(60))]
    {
        let directory = tempfile::tempdir().unwrap();
        let [path, backup, restored] = ["a", "b", "c"].map(|name| directory.path().join(name));
        let journal = options().durability(durability).open(&path).unwrap();
        (0..40).for_each(|n| append(&journal, n));
        let made = Reader::open(&path).unwrap().backup(&backup, BackupBy::Copy).unwrap();
        assert_eq!(made.through, journal.view().last_seq().unwrap(), "{durability:?}");
        restore(&backup, &restored).unwrap();
        assert_eq!(batches(&Reader::open(&restored).unwrap()), 40);
    }
}

#[test]
fn of_two_backups_into_one_directory_one_is_made_and_no_two_restores_have_one_era() {
    let directory = tempfile::tempdir().unwrap();
    let journal = options().open(directory.path().join("a")).unwrap();
    (0..40).for_each(|n| append(&journal, n));
    for round in 0..20 {
        let target = directory.path().join(format!("{round}"));
        let made: Vec<bool> = std::thread::scope(|scope| {
            let all = [(); 3].map(|()| scope.spawn(|| journal.backup(&target, BackupBy::Copy).is_ok()));
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(made.iter().filter(|made| **made).count(), 1, "{round}: {made:?}");
        assert_eq!(batches(&Reader::open(&target).unwrap()), 40);
    }
    let backup = directory.path().join("0");
    let again = [1, 2].map(|n| restore(&backup, directory.path().join(format!("again {n}"))).unwrap().era);
    assert_ne!(again[0], again[1]);
}

#[test]
fn a_repaired_store_that_has_lost_its_last_entry_is_backed_up_and_restored() {
    let directory = tempfile::tempdir().unwrap();
    let [damaged, whole, backup, again] =
        ["damaged", "whole", "backup", "again"].map(|name| directory.path().join(name));
    let journal = options().open(&damaged).unwrap();
    let kind = journal.kind("note").unwrap();
    for n in 0..5 {
        journal.append(Record::new(kind, b"k", &[n; 100])).unwrap();
    }
    journal.close().unwrap();
    let segment = damaged.join("0000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(100).position(|bytes| bytes == [4; 100]).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    repair(&damaged, &whole).unwrap();
    let reader = Reader::open(&whole).unwrap();
    assert_eq!(reader.view().unwrap().last_seq().unwrap().unwrap().get(), 4);
    reader.backup(&backup, BackupBy::Copy).unwrap();
    restore(&backup, &again).unwrap();
    assert_eq!(verify(&again, Check::Full).unwrap().verdict, Verdict::Valid);
    let journal = options().open(&again).unwrap();
    let kind = journal.kind("note").unwrap();
    let next = journal.append(Record::new(kind, b"k", b"next")).unwrap();
    assert_eq!(next.seq.get(), 6, "the number of what was lost is not given again");
}

/// A backup of a store of several segments, made with everything.
fn backed_up(directory: &Path) -> (std::path::PathBuf, u64) {
    let (path, backup) = (directory.join("a.esker"), directory.join("b.backup"));
    let journal = options().open(path).unwrap();
    (0..30).for_each(|n| append(&journal, n));
    let made = journal.backup(&backup, BackupBy::Copy).unwrap();
    assert!(made.segments > 2, "{made:?}");
    journal.close().unwrap();
    (backup, made.through.unwrap().get())
}

fn segments(directory: &Path) -> Vec<std::path::PathBuf> {
    let names = files(directory).into_keys().filter(|name| name.ends_with(".seg"));
    names.map(|name| directory.join(name)).collect()
}

/// Spoils the end of a backup, and demands that everybody who looks at it says so.
fn is_noticed(what: &str, spoil: impl Fn(&Path)) {
    let directory = tempfile::tempdir().unwrap();
    let (backup, through) = backed_up(directory.path());
    spoil(&backup);
    for check in [Check::Full, Check::Quick] {
        let found = verify(&backup, check).unwrap();
        assert_eq!(found.verdict, Verdict::Invalid, "{what}, {check:?}");
    }
    let reader = Reader::open(&backup).unwrap();
    assert!(!reader.recovery().damage.is_empty(), "{what}");
    let again = reader.backup(directory.path().join("c.backup"), BackupBy::Copy).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Corrupt, "{what}: {again}");
    let read = reader.view().unwrap().range(..).take_while(Result::is_ok).count() as u64;
    let done = repair(&backup, directory.path().join("repaired")).unwrap();
    let lost = done.ranges_lost.last().map(|range| (range.first_seq, range.last_seq));
    assert_eq!(lost, Some((read + 1, through)), "{what}: {done:?}");
    let restored = restore(&backup, directory.path().join("restored")).unwrap_err();
    assert_eq!(restored.kind(), ErrorKind::Corrupt, "{what}: {restored}");
}

#[test]
fn a_backup_of_which_the_end_is_not_there_any_more_is_damaged_for_everybody_who_looks() {
    let last = |backup: &Path| segments(backup).pop().unwrap();
    is_noticed("one byte of the last batch", |backup| {
        let mut bytes = std::fs::read(last(backup)).unwrap();
        let at = bytes.iter().rposition(|byte| *byte == 7).unwrap();
        bytes[at] ^= 1;
        std::fs::write(last(backup), bytes).unwrap();
    });
    is_noticed("all frames of the last segment", |backup| {
        let mut bytes = std::fs::read(last(backup)).unwrap();
        bytes[392..].fill(0);
        std::fs::write(last(backup), bytes).unwrap();
    });
    is_noticed("the file of the last segment", |backup| std::fs::remove_file(last(backup)).unwrap());
    is_noticed("the files of the last two", |backup| {
        (0..2).for_each(|_| std::fs::remove_file(last(backup)).unwrap());
    });
}
