//! Closing while the keeper is at work: nobody takes a file away from the other.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use esker::{Check, Durability, Options, Record, Simulator, Verdict, verify_in};

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

/// What a crash left was recovered and made durable: a close says so, also of a life that did no more.
#[test]
fn a_close_behind_a_recovery_spares_the_next_opening_the_search_and_tells_rot_from_a_torn_end() {
    let open = |disk: &Simulator| {
        let options = Options::new().segment_bytes(16 << 10).background(false).durability(Durability::Sync);
        options.open_in(disk)
    };
    let disk = Simulator::new();
    let journal = open(&disk).unwrap();
    let kind = journal.kind("note").unwrap();
    for n in 0..5u8 {
        journal.append(Record::new(kind, b"k", &[n; 50])).unwrap();
    }
    let disk = disk.kill(disk.events());
    let recovered = open(&disk).unwrap();
    assert!(!recovered.recovery().clean);
    recovered.close().unwrap();
    let again = open(&disk).unwrap();
    assert!(again.recovery().clean, "{:?}", again.recovery());
    assert_eq!((again.recovery().segments_scanned, again.stats().entries), (0, 5));
    // An opening that found everything in order has nothing to say.
    let before = disk.files();
    again.close().unwrap();
    let without_lock = |mut files: std::collections::BTreeMap<String, Vec<u8>>| {
        files.remove("LOCK");
        files
    };
    assert_eq!(without_lock(disk.files()), without_lock(before));

    let mut files = disk.files();
    files.retain(|name, _| !name.ends_with(".idx"));
    let segment = files.get_mut("0000000001.seg").unwrap();
    let last = segment.windows(50).rposition(|bytes| bytes == [4; 50]).unwrap();
    segment[last] ^= 1;
    let rotten = Simulator::with(files);
    assert!(open(&rotten).unwrap_err().is_corruption(), "the last entry had been recovered as durable");
    assert_eq!(verify_in(&rotten, Check::Full).unwrap().verdict, Verdict::Invalid);
}
