//! A reader beside a live writer: it follows appends, rotation, clean ends and crashes.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

use esker::{Durability, ErrorKind, Journal, Options, Reader, Record, Seq};

fn options() -> Options {
    Options::new().segment_bytes(16 << 10).durability(Durability::Os)
}

fn append(journal: &Journal, from: u64, count: u64) {
    let kind = journal.kind("note").unwrap();
    for n in from..from + count {
        let key = format!("k{}", n % 5);
        journal.append(Record::new(kind, key.as_bytes(), &n.to_le_bytes())).unwrap();
    }
}

fn seqs(reader: &Reader) -> Vec<u64> {
    reader.view().unwrap().range(..).map(|entry| entry.unwrap().seq().get()).collect()
}

#[test]
fn a_reader_follows_appends_rotation_and_a_writer_that_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.esker");
    let journal = options().open(&path).unwrap();
    let reader = Reader::open(&path).unwrap();
    assert!(seqs(&reader).is_empty());
    let mut total = 0;
    let mut journal = Some(journal);
    for round in 0..6 {
        let writer = journal.take().unwrap_or_else(|| options().open(&path).unwrap());
        for _ in 0..10 {
            append(&writer, total, 60);
            total += 60;
            assert_eq!(seqs(&reader), (1..=total).collect::<Vec<_>>());
        }
        let kind = reader.kind_named("note").unwrap().id;
        let view = reader.view().unwrap();
        let generations: Vec<u64> = view.entity(kind, b"k3").map(|e| e.unwrap().generation().get()).collect();
        assert_eq!(generations, (1..=total / 5).collect::<Vec<_>>(), "round {round}");
        assert_eq!(reader.writer().unwrap().pid, std::process::id());
        writer.close().unwrap();
        assert!(reader.writer().is_none());
    }
    let fresh = Reader::open(&path).unwrap();
    assert_eq!(seqs(&fresh), seqs(&reader));
    assert!(fresh.recovery().clean);
    let newest = fresh.view().unwrap().get(Seq::new(total).unwrap()).unwrap().unwrap().to_owned();
    assert_eq!(newest.payload(), (total - 1).to_le_bytes());
}

#[test]
fn a_reader_needs_a_store_and_makes_none() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(Reader::open(directory.path()).unwrap_err().kind(), ErrorKind::NotAStore);
    assert_eq!(Reader::open(directory.path().join("x")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
