//! Closing while the keeper is at work: nobody takes a file away from the other.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use esker::{Options, Record};

#[test]
fn a_journal_closes_while_its_keeper_writes_indexes_and_makes_segments() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("busy.esker");
    let mut entries = 0;
    for _ in 0..40 {
        let journal = Options::new().segment_bytes(16 << 10).open(&path).unwrap();
        assert_eq!(journal.stats().entries, entries);
        assert!(journal.recovery().clean || entries == 0, "{:?}", journal.recovery());
        let kind = journal.kind("note").unwrap();
        for n in 0..400u64 {
            let key = (n % 7).to_le_bytes();
            let record = Record::new(kind, &key, &[7; 100]);
            let _ = journal.append_nowait(record).unwrap();
        }
        // Now every full segment is durable at once, and wants its index.
        journal.sync().unwrap();
        entries += 400;
        journal.close().unwrap();
        let mut names = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(names.all(|name| !name.to_string_lossy().ends_with(".tmp")), "a file was left half made");
    }
}
