//! A real disk that is full: a small tmpfs, filled to the last segment that fits.
//!
//! Mounting needs root. Without it the test says so and leaves the subject to
//! `tests/sync_failures.rs`, which fills a simulated disk.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::path::Path;
use std::process::Command;

use esker::{
    BackupBy, Check, CompactOptions, Durability, ErrorKind, Keep, Options, Record, Region, Simulator, Verdict,
};

struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
            .arg(directory.path())
            .output();
        mount.is_ok_and(|output| output.status.success()).then_some(Self(directory))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[test]
fn a_full_disk_refuses_loses_nothing_and_goes_on_when_space_is_freed() {
    let Some(disk) = Mounted::new() else {
        eprintln!("not run: mounting a tmpfs needs root");
        return;
    };
    std::fs::write(disk.path().join("ballast"), vec![1; 4 << 20]).unwrap();
    let path = disk.path().join("full.esker");
    let journal = Options::new().durability(Durability::Os).open(&path).unwrap();
    let kind = journal.kind("note").unwrap();
    let append = || journal.append(Record::new(kind, b"key", &[7; 1000]));
    let mut appended = 0;
    let refused = loop {
        match append() {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind(), ErrorKind::NoSpace, "{refused}");
    assert!(appended * 1_000 > 16 << 20, "most of the disk is used before an append is refused: {appended}");
    assert!(append().is_err(), "refused for as long as the disk is full");
    journal.sync().unwrap();
    assert_eq!(journal.view().range(..).map(Result::unwrap).count(), appended);

    std::fs::remove_file(disk.path().join("ballast")).unwrap();
    for _ in 0..500 {
        append().unwrap();
    }
    journal.close().unwrap();
    let journal = Options::new().open(&path).unwrap();
    assert!(journal.recovery().clean);
    assert_eq!(journal.view().range(..).map(Result::unwrap).count(), appended + 500);
    journal.close().unwrap();
    assert_eq!(esker::verify(&path, Check::Full).unwrap().verdict, Verdict::Valid);
}

/// What a full disk must not stop: reading on, and giving space back.
#[test]
fn a_full_disk_is_drained_by_reading_and_compacted() {
    let Some(disk) = Mounted::new() else {
        eprintln!("not run: mounting a tmpfs needs root");
        return;
    };
    let path = disk.path().join("full.esker");
    let open = || Options::new().durability(Durability::Os).segment_bytes(1 << 20).open(&path).unwrap();
    let journal = open();
    let metric = journal.kind("metric").unwrap();
    journal.keep(metric, Keep::Nothing).unwrap();
    let mut slow = journal.watch("slow", Region::all()).unwrap();
    drop(journal.watch("forgotten", Region::all()).unwrap());
    let append = || journal.append(Record::new(metric, b"key", &[7; 1000]));
    let mut appended = 0u64;
    let refused = loop {
        match append() {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind(), ErrorKind::NoSpace, "{refused}");
    let text = refused.to_string();
    assert!(text.contains("\"slow\"") || text.contains("\"forgotten\""), "{text}");
    // Whatever is left of the disk is taken too.
    let mut ballast = 0;
    while std::fs::write(disk.path().join(format!("ballast-{ballast}")), vec![1; 4096]).is_ok() {
        ballast += 1;
    }
    // To the last byte of the segment, so that no cursor can move in the log either.
    while journal.append(Record::new(metric, b"key", b"")).is_ok() {
        appended += 1;
    }
    let done = journal.compact(&CompactOptions::new()).unwrap();
    assert!(done.held_back_by.len() == 2 && done.entries_dropped == 0, "{done:?}");
    // Reading on and saying so works, and is durable: another life knows it.
    for _ in 0..appended - 10 {
        assert!(slow.advance().unwrap());
    }
    slow.checkpoint().unwrap();
    drop(slow);
    journal.retire_cursor("forgotten").unwrap();
    let place = |journal: &esker::Journal| {
        let cursors = journal.cursors().unwrap();
        cursors.iter().map(|cursor| (cursor.name.clone(), cursor.seq.unwrap().get())).collect::<Vec<_>>()
    };
    assert_eq!(place(&journal), [("slow".to_owned(), appended - 10)]);
    let image = disk.path().join("copy");
    assert!(std::fs::create_dir(&image).is_err() || std::fs::remove_dir(&image).is_ok());
    // A backup to another disk has them where they are, and one to this disk leaves nothing.
    let other = tempfile::tempdir().unwrap();
    for (at, is_by_reader) in [(0, false), (1, true)] {
        let (backup, restored) = (other.path().join(format!("b{at}")), other.path().join(format!("r{at}")));
        let made = if is_by_reader {
            esker::Reader::open(&path).unwrap().backup(&backup, BackupBy::Copy)
        } else {
            journal.backup(&backup, BackupBy::Copy)
        };
        made.unwrap();
        esker::restore(&backup, &restored).unwrap();
        assert_eq!(place(&Options::new().open(&restored).unwrap()), [("slow".to_owned(), appended - 10)]);
    }
    for _ in 0..2 {
        let refused = journal.backup(&image, BackupBy::Copy).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NoSpace, "{refused}");
        assert!(!image.exists(), "what was made is taken back");
    }
    // A compaction that keeps nothing needs no space but the manifest's.
    let done = journal.compact(&CompactOptions::new()).unwrap();
    assert!(done.bytes_after < done.bytes_before / 2, "{done:?}");
    for _ in 0..1000 {
        append().unwrap();
    }
    assert_eq!(place(&journal), [("slow".to_owned(), appended - 10)], "what the log says now is the same");
    journal.close().unwrap();
    let journal = open();
    assert_eq!(place(&journal), [("slow".to_owned(), appended - 10)]);
    assert_eq!(esker::verify(&path, Check::Full).unwrap().verdict, Verdict::Valid);
    let mut slow = journal.watch("slow", Region::all()).unwrap();
    let mut seen = 0;
    while slow.advance().unwrap() {
        seen += 1;
    }
    assert_eq!(seen, 1010);
}

/// A cursor that moved on a full disk stays where it was put, whatever ends the process.
#[test]
fn a_cursor_that_moved_on_a_full_disk_survives_a_kill() {
    let disk = Simulator::new();
    let options = Options::new().durability(Durability::Os).segment_bytes(4096).background(false);
    let journal = options.open_in(&disk).unwrap();
    let metric = journal.kind("metric").unwrap();
    let append = |journal: &esker::Journal| journal.append(Record::new(metric, b"key", &[7; 100]));
    for _ in 0..100 {
        append(&journal).unwrap();
    }
    let mut reader = journal.watch("reader", Region::all()).unwrap();
    drop(journal.watch("retired", Region::all()).unwrap());
    for _ in 0..50 {
        assert!(reader.advance().unwrap());
    }
    disk.limit_space(Some(0));
    while append(&journal).is_ok() {}
    reader.checkpoint().unwrap();
    journal.retire_cursor("retired").unwrap();
    drop((reader, journal));
    let place = |disk: &Simulator| {
        let journal = options.open_in(disk).unwrap();
        let cursors = journal.cursors().unwrap();
        cursors.iter().map(|cursor| (cursor.name.clone(), cursor.seq.unwrap().get())).collect::<Vec<_>>()
    };
    let killed = disk.kill(disk.events());
    assert_eq!(place(&killed), [("reader".to_owned(), 50)]);
    let cut = disk.crash(disk.events(), &mut |_| 0);
    assert_eq!(place(&cut), [("reader".to_owned(), 50)], "and a power cut");
    // There is space again: what the log says from now on counts, also that a cursor is no more.
    let journal = options.open_in(&killed).unwrap();
    append(&journal).unwrap();
    journal.retire_cursor("reader").unwrap();
    drop(journal);
    assert_eq!(place(&killed.kill(killed.events())), []);
    let journal = options.open_in(&killed).unwrap();
    for _ in 0..100 {
        append(&journal).unwrap();
    }
    drop(journal);
    assert_eq!(place(&killed), []);
}

/// A segment whose preamble could not be written restates nothing: what the manifest says counts still.
#[test]
fn cursors_that_move_while_no_preamble_can_be_written_all_stay_where_they_were_put() {
    let disk = Simulator::new();
    disk.copy_on_write(true);
    let options = Options::new().segment_bytes(4096).background(false);
    let journal = options.open_in(&disk).unwrap();
    let metric = journal.kind("metric").unwrap();
    drop(journal.watch("retired", Region::all()).unwrap());
    for name in ["one", "two"] {
        drop(journal.watch(name, Region::all()).unwrap());
    }
    for _ in 0..3 {
        journal.append(Record::new(metric, b"key", &[7; 100])).unwrap();
    }
    drop(journal);
    // The next life begins a segment of its own.
    let killed = disk.kill(disk.events());
    killed.copy_on_write(true);
    let journal = options.open_in(&killed).unwrap();
    for name in ["one", "two"] {
        let mut reader = journal.watch(name, Region::all()).unwrap();
        assert!(reader.advance().unwrap() && reader.advance().unwrap());
        // A segment is made, and there is no room for what it begins with.
        killed.fail_writes(1, 1);
        reader.checkpoint().unwrap();
    }
    killed.fail_writes(1, 1);
    journal.retire_cursor("retired").unwrap();
    drop(journal);
    let again = killed.kill(killed.events());
    let journal = options.open_in(&again).unwrap();
    let place = |journal: &esker::Journal| {
        let cursors = journal.cursors().unwrap();
        cursors.iter().map(|cursor| (cursor.name.clone(), cursor.seq.unwrap().get())).collect::<Vec<_>>()
    };
    let both = [("one".to_owned(), 2), ("two".to_owned(), 2)];
    assert_eq!(place(&journal), both);
    // The preamble that can be written says so too.
    journal.append(Record::new(metric, b"key", &[7; 100])).unwrap();
    assert_eq!(place(&journal), both);
    drop(journal);
    let last = again.kill(again.events());
    let findings = esker::verify_in(&last, Check::Full).unwrap();
    assert_eq!(findings.verdict, Verdict::Valid, "{:?}", findings.findings);
}
