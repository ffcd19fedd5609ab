//! A store that is made of entries with the numbers that they had: what is kept, and what is refused.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::path::PathBuf;

use esker::{
    Check, Durability, ErrorKind, Generation, IdempotencyKey, Import, ImportEntry, ImportKind, Journal,
    KindId, Options, Origin, Reader, Record, SEQ_MAX, Seq, StoreId, Verdict, verify,
};

fn target() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new.esker");
    (directory, path)
}

fn origin() -> Origin {
    Origin::new(StoreId::from_bytes([9; 16]), 4, 5).segment_bytes(4096)
}

fn entry(kind: KindId, seq: u64, generation: u64, key: &[u8]) -> ImportEntry {
    let (seq, generation) = (Seq::new(seq).unwrap(), Generation::new(generation).unwrap());
    let payload = seq.to_string().repeat(20).into_bytes();
    ImportEntry::new(seq, generation, kind, key.to_vec(), payload).time(-7)
}

/// Makes a store of entries of one kind, given as Seq, generation and key, and whether the batch goes on.
fn make(path: &PathBuf, entries: &[(u64, u64, &[u8], bool)], last: u64) -> esker::Result<esker::Imported> {
    let mut import = Import::begin(path, origin())?;
    let note = import.kind(ImportKind::new(3, "note"))?;
    for (seq, generation, key, more) in entries {
        import.entry(entry(note, *seq, *generation, key).more(*more))?;
    }
    import.finish(Seq::new(last))
}

#[test]
fn an_imported_store_is_valid_and_its_numbers_go_on_behind_those_of_its_origin() {
    let (_directory, path) = target();
    // Runs with gaps between them, over several segments, and a gap at either end.
    let runs = [3..=40_u64, 50..=50, 52..=52, 60..=99];
    let entries: Vec<_> = runs.into_iter().flatten().map(|seq| (seq, seq, &b"k"[..], false)).collect();
    let made = make(&path, &entries, 120).unwrap();
    assert_eq!((made.entries, made.gaps, made.missing), (80, 5, 40));
    let found = verify(&path, Check::Full).unwrap();
    assert_eq!((found.verdict, found.entries), (Verdict::Valid, 80), "{:#?}", found.findings);

    let journal = Journal::open(&path).unwrap();
    let note = journal.kind("note").unwrap();
    let reader = Reader::open(&path).unwrap();
    assert_eq!((note.get(), reader.store_id(), reader.created()), (3, StoreId::from_bytes([9; 16]), 5));
    assert!(reader.era() == made.era && made.era > 4);
    let view = journal.view();
    let history: Vec<u64> = view.entity(note, b"k").map(|entry| entry.unwrap().seq().get()).collect();
    assert_eq!(history, entries.iter().map(|(seq, ..)| *seq).collect::<Vec<_>>());
    let firsts = view.range(..).filter(|entry| entry.as_ref().unwrap().is_first());
    let firsts: Vec<u64> = firsts.map(|entry| entry.unwrap().seq().get()).collect();
    assert_eq!(firsts, [3, 50, 52, 60]);
    let next = journal.append(Record::new(note, b"k", b"on")).unwrap();
    assert_eq!((next.seq.get(), next.generation.get()), (121, 100));
    // It may have been among those that are missing: it must not get a generation twice.
    assert_eq!(journal.append(Record::new(note, b"new", b"on")).unwrap().generation.get(), 122);
    journal.close().unwrap();
    assert_eq!(verify(&path, Check::Full).unwrap().verdict, Verdict::Valid);
}

#[test]
fn everything_about_an_entry_comes_along_and_its_batch_is_known_by_its_key() {
    let (_directory, path) = target();
    let mut import = Import::begin(&path, origin()).unwrap();
    let note = import.kind(ImportKind::new(1, "note").version(7).fields(vec!["a".into()])).unwrap();
    let key = IdempotencyKey(*b"a key of sixteen");
    let first = entry(note, 1, 1, b"\0\xff").metadata(b"m\xff".to_vec()).source(63).more(true);
    let first = first.correlation(Some([5; 16])).causation(Some((SEQ_MAX, 255))).schema_version(Some(9));
    import.entry(first.idempotency_key(Some(key))).unwrap();
    import.entry(entry(note, 2, 2, b"\0\xff")).unwrap();
    import.finish(Seq::new(2)).unwrap();

    let journal = Options::new().durability(Durability::Os).open(&path).unwrap();
    assert_eq!(journal.kinds()[0].version, 7);
    let one = journal.get(Seq::FIRST).unwrap().unwrap();
    let one = one.entry();
    assert_eq!((one.key(), one.metadata(), one.time()), (&b"\0\xff"[..], &b"m\xff"[..], -7));
    assert_eq!((one.correlation(), one.schema_version(), one.has_more()), (Some([5; 16]), Some(9), true));
    assert_eq!(one.causation().map(|cause| (cause.seq.get(), cause.depth)), Some((SEQ_MAX, 255)));
    assert_eq!(one.idempotency_key(), Some(key));
    let mut batch = journal.batch().idempotency_key(key);
    batch.push(Record::new(note, b"k", b"other content"));
    assert_eq!(batch.commit().unwrap_err().kind(), ErrorKind::KeyReused);
}

#[test]
fn what_contradicts_is_refused_and_nothing_of_it_is_left() {
    let fine = (5, 2, &b"k"[..], false);
    #[allow(clippy::type_complexity, reason = "a list of cases, read once")]
    let cases: [(&str, &[(u64, u64, &[u8], bool)], u64); 11] = [
        ("a Seq twice", &[fine, (5, 3, b"k", false)], 9),
        ("a Seq that goes back", &[fine, (4, 3, b"k", false)], 9),
        ("a generation twice", &[fine, (7, 2, b"k", false)], 9),
        ("a generation that goes back in a batch", &[(5, 2, b"k", true), (6, 1, b"k", false)], 9),
        ("a generation left out where no Seq is", &[fine, (6, 4, b"k", false)], 9),
        ("the same in a batch", &[(5, 2, b"k", true), (6, 4, b"k", false)], 9),
        ("a batch with a gap", &[(5, 2, b"k", true), (7, 3, b"k", false)], 9),
        ("a batch that does not end", &[(5, 2, b"k", true)], 9),
        ("a generation greater than its Seq", &[(5, 6, b"k", false)], 9),
        ("an empty key", &[(5, 1, b"", false)], 9),
        ("an end before the last entry", &[fine], 4),
    ];
    for (what, entries, last) in cases {
        let (_directory, path) = target();
        let error = make(&path, entries, last).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{what}: {error}");
        assert!(!path.exists(), "{what}");
    }
    let (_directory, path) = target();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(make(&path, &[(SEQ_MAX + 1, 1, b"k", false)], 9).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0, "a directory that was there stays, empty");
    make(&path, &[(SEQ_MAX, SEQ_MAX, b"k", false)], SEQ_MAX).unwrap();
    assert_eq!(verify(&path, Check::Full).unwrap().verdict, Verdict::Valid);
    assert_eq!(make(&path, &[fine], 9).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(verify(&path, Check::Full).unwrap().entries, 1, "a store that is there is not touched");
}

#[test]
fn a_call_that_failed_ends_the_import_and_kinds_are_what_kinds_may_be() {
    let (_directory, path) = target();
    let mut import = Import::begin(&path, origin()).unwrap();
    let note = import.kind(ImportKind::new(1, "note")).unwrap();
    import.entry(entry(note, 1, 1, b"k")).unwrap();
    assert!(import.entry(entry(note, 1, 1, b"k")).is_err());
    assert!(import.entry(entry(note, 2, 2, b"k")).is_err(), "whatever comes next");
    assert!(import.finish(Seq::new(1)).is_err());
    assert!(!path.exists());
    for kind in [
        ImportKind::new(0, "zero"),
        ImportKind::new(4097, "great"),
        ImportKind::new(1, "same number"),
        ImportKind::new(2, "note"),
        ImportKind::new(2, ""),
        ImportKind::new(2, "x".repeat(256)),
        ImportKind::new(2, "esker.own"),
        ImportKind::new(2, "esker.sessions"),
        ImportKind::new(2, "v").version(0),
    ] {
        let mut import = Import::begin(&path, origin()).unwrap();
        import.kind(ImportKind::new(1, "note")).unwrap();
        let error = import.kind(kind.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{kind:?}: {error}");
    }
    let mut import = Import::begin(&path, origin()).unwrap();
    assert_eq!(import.entry(entry(note, 1, 1, b"k")).unwrap_err().kind(), ErrorKind::UnknownKind);
    drop(import);
    assert!(!path.exists(), "an import that is dropped leaves nothing");
}
