//! Erasing an entity where the power goes, and where the log is damaged.

use std::path::Path;

use esker::{Durability, ErrorKind, Expect, Journal, Keep, KindId, Options, Record, Simulator};

use super::rounds::{now_all, options, put};

const SECRET: &[u8] = b"St James's Square 12";

fn fill_segment(journal: &Journal, kind: KindId) {
    let segments = journal.stats().segments;
    for n in 0.. {
        if journal.stats().segments > segments {
            return;
        }
        put(journal, kind, "noise", n);
    }
}

fn is_found_in(path: &Path, text: &[u8]) -> bool {
    let mut files = std::fs::read_dir(path).unwrap().map(|file| std::fs::read(file.unwrap().path()));
    files.any(|bytes| bytes.is_ok_and(|bytes| bytes.windows(text.len()).any(|found| found == text)))
}

#[test]
fn what_comes_behind_a_power_cut_is_not_what_was_to_be_erased_before_it() {
    let disk = Simulator::new();
    let open = |disk: &Simulator| options().durability(Durability::Os).open_in(disk).unwrap();
    let journal = open(&disk);
    let (person, other) = (journal.kind("person").unwrap(), journal.kind("other").unwrap());
    put(&journal, other, "first", 0);
    journal.sync().unwrap();
    journal.append(Record::new(person, b"ada", SECRET)).unwrap();
    let begun = disk.events();
    assert!(journal.erase(person, b"ada").unwrap().erased);
    let ended = disk.events();
    assert!(ended > begun + 5);
    for at in begun..=ended {
        // What is not durable is gone.
        let journal = open(&disk.crash(at, &mut |_| 0));
        let person = journal.kind("person").unwrap();
        journal.append(Record::new(person, b"ada", b"she is back")).unwrap();
        journal.sync().unwrap();
        fill_segment(&journal, journal.kind("other").unwrap());
        journal.compact(&now_all().thorough(true)).unwrap();
        let latest = journal.latest(person, b"ada").unwrap();
        let payload = latest.map(|latest| latest.entry().payload().to_vec());
        assert_eq!(payload.as_deref(), Some(&b"she is back"[..]), "cut at {at} of {begun}..={ended}");
    }
}

/// Six segments with an entry of the entity each, and one of somebody else.
fn six_segments(path: &Path) -> Options {
    let options = options();
    let journal = options.clone().open(path).unwrap();
    let (person, other) = (journal.kind("person").unwrap(), journal.kind("other").unwrap());
    for n in 0..6u8 {
        journal.append(Record::new(person, b"ada", &[SECRET, &[b'0' + n]].concat())).unwrap();
        journal.append(Record::new(person, b"bob", &[b"Dorset Street", &[b'0' + n][..]].concat())).unwrap();
        fill_segment(&journal, other);
    }
    journal.close().unwrap();
    options
}

fn flip(path: &Path, mark: &[u8]) {
    let segments = std::fs::read_dir(path).unwrap().map(|file| file.unwrap().path());
    for segment in segments.filter(|path| path.extension().is_some_and(|kind| kind == "seg")) {
        let mut bytes = std::fs::read(&segment).unwrap();
        if let Some(at) = bytes.windows(mark.len()).position(|found| found == mark) {
            bytes[at] ^= 1;
            return std::fs::write(segment, bytes).unwrap();
        }
    }
    panic!("nothing is found that could rot");
}

#[test]
fn a_segment_that_is_damaged_and_has_no_index_is_not_said_to_have_nothing_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("people.esker");
    let options = six_segments(&path);
    std::fs::remove_file(path.join("0000000001.idx")).unwrap();
    flip(&path, b"Dorset Street0");
    let journal = options.open(&path).unwrap();
    let person = journal.kind_named("person").unwrap().id;
    let erasure = journal.erase(person, b"ada").unwrap();
    assert!(!erasure.erased && erasure.damaged >= 1 && erasure.waiting_for.is_empty(), "{erasure:?}");
    assert!(is_found_in(&path, &[SECRET, b"0"].concat()), "that is so");
    assert!((1..6).all(|n| !is_found_in(&path, &[SECRET, &[b'0' + n]].concat())));
}

#[test]
fn damage_to_its_newest_entry_holds_no_erasure_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("people.esker");
    let options = six_segments(&path);
    flip(&path, &[SECRET, b"5"].concat());
    let journal = options.open(&path).unwrap();
    let person = journal.kind_named("person").unwrap().id;
    let erasure = journal.erase(person, b"ada").unwrap();
    assert!(erasure.erased && erasure.damaged == 0, "what goes need not be whole: {erasure:?}");
    assert!(!is_found_in(&path, &SECRET[1..]));
}

/// A store whose first part holds an entry of the entity, with so much behind it that the directory of entities covers it.
fn one_part(path: &Path) -> KindId {
    let journal = options().open(path).unwrap();
    let (person, other) = (journal.kind("person").unwrap(), journal.kind("other").unwrap());
    journal.keep(person, Keep::Latest).unwrap();
    for text in [b"Marylebone".as_slice(), SECRET] {
        journal.append(Record::new(person, b"ada", text)).unwrap();
    }
    fill_segment(&journal, other);
    assert_eq!(journal.compact(&now_all().thorough(true)).unwrap().parts_written, 1);
    (0..5).for_each(|_| fill_segment(&journal, other));
    journal.close().unwrap();
    person
}

#[test]
fn a_part_that_is_damaged_and_has_no_index_is_not_said_to_have_nothing_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("people.esker");
    let person = one_part(&path);
    std::fs::remove_file(path.join("0000000001.snap.idx")).unwrap();
    let part = path.join("0000000001.snap");
    let mut bytes = std::fs::read(&part).unwrap();
    let at = bytes.windows(SECRET.len()).position(|found| found == SECRET).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&part, bytes).unwrap();

    let journal = options().open(&path).unwrap();
    let is_corrupt = |error: &esker::Error| error.kind() == ErrorKind::Corrupt && error.seqs().is_some();
    assert!(journal.latest(person, b"ada").is_err_and(|error| is_corrupt(&error)));
    let view = journal.view();
    assert!(view.entity(person, b"ada").any(|entry| entry.is_err_and(|error| is_corrupt(&error))));
    assert!(view.kind(person).any(|entry| entry.is_err_and(|error| is_corrupt(&error))));
    drop(view);
    let anew = Record::new(person, b"ada", b"as if new").expect(Expect::New);
    assert_ne!(journal.append(anew).unwrap_err().kind(), ErrorKind::NoSpace);
    let erasure = journal.erase(person, b"ada").unwrap();
    assert!(!erasure.erased && erasure.damaged >= 1, "{erasure:?}");
    assert!(is_found_in(&path, &SECRET[1..]), "that is so");
    journal.close().unwrap();
    // What nobody could say is not forgotten either.
    let journal = options().open(&path).unwrap();
    assert!(journal.latest(person, b"ada").is_err_and(|error| is_corrupt(&error)));
    assert!(!journal.erase(person, b"ada").unwrap().erased);
}

#[test]
fn what_a_compaction_that_failed_has_copied_is_not_said_to_be_erased() {
    let mut failed_behind_the_copy = 0;
    for syncs in 0..12 {
        let disk = Simulator::new();
        let journal = options().open_in(&disk).unwrap();
        let (person, other) = (journal.kind("person").unwrap(), journal.kind("other").unwrap());
        journal.keep(person, Keep::Latest).unwrap();
        for text in [b"Marylebone".as_slice(), SECRET] {
            journal.append(Record::new(person, b"ada", text)).unwrap();
        }
        fill_segment(&journal, other);
        journal.sync().unwrap();
        disk.fail_sync_after(syncs);
        let failed = journal.compact(&now_all().thorough(true)).is_err();
        let is_copied = disk.files().keys().any(|name| name.ends_with(".snap"));
        disk.fail_sync_after(usize::MAX);
        let Ok(erasure) = journal.erase(person, b"ada") else { continue };
        failed_behind_the_copy += u32::from(failed && is_copied);
        let is_there =
            disk.files().values().any(|bytes| bytes.windows(SECRET.len()).any(|found| found == SECRET));
        assert!(!erasure.erased || !is_there, "{syncs} syncs, and it is said to be erased: {erasure:?}");
    }
    assert!(failed_behind_the_copy > 0, "no compaction failed between its copy and its manifest");
}
