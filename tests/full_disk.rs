//! A real disk that is full: a small tmpfs, filled to the last segment that fits.
//!
//! Mounting needs root. Without it the test says so and leaves the subject to
//! `tests/sync_failures.rs`, which fills a simulated disk.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::path::Path;
use std::process::Command;

use esker::{Check, Durability, ErrorKind, Options, Record, Verdict};

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
