//! System calls that fail: a small workload under `strace -e inject`, each call in turn.
//!
//! Whatever call fails, what was acknowledged is there when the store is opened again, in order,
//! and the process ends by an error and not by a signal. Needs strace; without it the test says
//! so, and `.ci/run` installs it.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use esker::{Check, ErrorKind, Options, OwnedEntry, Reader, Record, Verdict};

const STORE: &str = "ESKER_INJECT_STORE";
const WORKLOAD: &str = "role_of_the_workload";
const ENTRIES: u64 = 24;

fn options() -> Options {
    Options::new().segment_bytes(4096).background(false)
}

/// Not a test of its own: opens, appends over a few rotations, says what was acknowledged, closes.
#[test]
fn role_of_the_workload() {
    let Ok(store) = std::env::var(STORE) else { return };
    let say = |line: String| std::io::stdout().write_all(line.as_bytes()).unwrap();
    let run = || -> esker::Result<()> {
        let journal = options().open(&store)?;
        let kind = journal.kind("note")?;
        let payload = |n: u64| [u8::try_from(n).unwrap_or(0); 300];
        for n in (0..ENTRIES).step_by(3) {
            let receipt = journal.append(Record::new(kind, b"key", &payload(n)))?;
            say(format!("ack {}\n", receipt.seq));
            // An eighth of a small segment is a large batch, which goes by one call.
            let (one, other) = (payload(n + 1), payload(n + 2));
            let mut batch = journal.batch();
            batch.extend([Record::new(kind, b"key", &one), Record::new(kind, b"key", &other)]);
            for receipt in batch.commit()?.receipts {
                say(format!("ack {}\n", receipt.seq));
            }
        }
        journal.close()
    };
    match run() {
        Ok(()) => say("outcome fine\n".to_owned()),
        Err(error) => say(format!("outcome {:?}\n", error.kind())),
    }
}

/// Not a test of its own: appends until something fails, and then stays as it is.
#[test]
fn role_of_a_writer_that_stays() {
    let Ok(store) = std::env::var(STORE) else { return };
    let say = |line: String| std::io::stdout().write_all(line.as_bytes()).unwrap();
    let journal = match options().open(&store) {
        Ok(journal) => journal,
        Err(error) => return say(format!("failed {:?}\n", error.kind())),
    };
    let append = |n: u64| -> esker::Result<()> {
        let kind = journal.kind("note")?;
        let payload = [u8::try_from(n).unwrap_or(0); 300];
        let receipt = journal.append(Record::new(kind, b"key", &payload))?;
        say(format!("ack {}\n", receipt.seq));
        Ok(())
    };
    match (0..ENTRIES).try_for_each(append) {
        Ok(()) => say("failed not\n".to_owned()),
        Err(error) => say(format!("failed {:?}\n", error.kind())),
    }
    // Until whoever started us has seen enough.
    let _ = std::io::stdin().read(&mut [0]);
}

/// A role under strace, with its `when`-th call failing.
fn failing(role: &str, store: &Path, call: &str, error: &str, when: usize) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-P"]);
    // Only calls on the store's own files: the harness has files of its own.
    strace.arg(store);
    for name in ["LOCK", "MANIFEST", "MANIFEST.tmp", "0000000001.seg", "0000000002.seg", "0000000003.seg"] {
        strace.arg("-P").arg(store.join(name));
    }
    for name in ["0000000002.seg.tmp", "0000000003.seg.tmp", "0000000001.idx.tmp", "0000000001.seg.tmp"] {
        strace.arg("-P").arg(store.join(name));
    }
    strace.arg("-e").arg(format!("trace={call}"));
    strace.arg("-e").arg(format!("inject={call}:error={error}:when={when}"));
    strace.arg(std::env::current_exe().unwrap());
    strace.args(["--exact", role, "--nocapture", "--test-threads=1"]).env(STORE, store);
    strace
}

/// Runs the workload with the `when`-th call failing; answers what it said.
fn run(store: &Path, call: &str, error: &str, when: usize) -> String {
    let output = failing(WORKLOAD, store, call, error, when).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("outcome "), "{call} {error} {when}: no outcome: {said} {:?}", output.status);
    said
}

#[test]
fn whatever_call_fails_nothing_acknowledged_is_lost() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        eprintln!("not run: strace is not installed");
        return;
    }
    let mut failures = 0;
    for (call, errors) in [
        ("fdatasync", &["EIO", "ENOSPC"][..]),
        ("fsync", &["EIO"]),
        ("fallocate", &["ENOSPC", "EINTR", "EOPNOTSUPP"]),
        ("openat", &["EMFILE", "EACCES", "EINTR"]),
        ("renameat", &["EIO"]),
        ("pwrite64", &["ENOSPC", "EIO"]),
        ("pread64", &["EIO"]),
        ("mmap", &["ENOMEM"]),
    ] {
        for error in errors {
            for when in 1..40 {
                let directory = tempfile::tempdir().unwrap();
                let store = directory.path().join("a.esker");
                let said = run(&store, call, error, when);
                let acknowledged = said.lines().filter(|line| line.starts_with("ack ")).count() as u64;
                let journal =
                    options().open(&store).unwrap_or_else(|e| panic!("{call} {error} {when}: {e}\n{said}"));
                let view = journal.view();
                let mut entries = 0;
                for (entry, n) in view.range(..).zip(0..) {
                    assert_eq!(entry.unwrap().payload(), [n; 300], "{call} {error} {when}");
                    entries += 1;
                }
                assert!(
                    entries >= acknowledged,
                    "{call} {error} {when}: {entries} of {acknowledged}\n{said}"
                );
                let kind = journal.kind("note").unwrap();
                journal.append(Record::new(kind, b"key", &[u8::try_from(entries).unwrap(); 300])).unwrap();
                journal.close().unwrap();
                let found = esker::verify(&store, Check::Full).unwrap();
                assert_eq!(found.verdict, Verdict::Valid, "{call} {error} {when}: {:#?}", found.findings);
                if said.contains("outcome fine") && when > 30 {
                    break;
                }
                failures += u32::from(!said.contains("outcome fine"));
            }
        }
    }
    assert!(failures > 50, "only {failures} injected failures were noticed");
}

#[test]
fn a_reader_beside_a_failed_sync_sees_what_is_durable_and_is_not_misled_by_the_next_life() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        eprintln!("not run: strace is not installed");
        return;
    }
    let mut poisoned = 0;
    for when in 1..30 {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("a.esker");
        let mut command = failing("role_of_a_writer_that_stays", &store, "fdatasync", "EIO", when);
        let mut writer = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let ends_it = writer.stdin.take();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok);
        let (mut acknowledged, mut failed) = (0, None);
        while failed.is_none()
            && let Some(line) = lines.next()
        {
            acknowledged += usize::from(line.contains("ack "));
            failed = line.split_once("failed ").map(|(_, kind)| kind.to_owned());
        }
        let is_poisoned = failed.as_deref() == Some("Poisoned");
        let held: Vec<OwnedEntry> = if is_poisoned {
            poisoned += 1;
            let reader = Reader::open(&store).unwrap();
            let view = reader.view().unwrap();
            assert_eq!(view.range(..).map(Result::unwrap).count(), acknowledged, "sync {when}");
            assert_eq!(reader.durable(), Some(view.end()), "sync {when}");
            view.range(..).map(|entry| entry.unwrap().to_owned()).collect()
        } else {
            Vec::new()
        };
        let reader = is_poisoned.then(|| Reader::open(&store).unwrap());
        drop(ends_it);
        lines.for_each(drop);
        writer.wait().unwrap();

        let journal = options().open(&store).unwrap();
        let kind = journal.kind("note").unwrap();
        journal.append(Record::new(kind, b"key", b"next life")).unwrap();
        let log = journal.range(..).unwrap();
        assert!(log.len() > acknowledged, "sync {when}");
        let payloads = |entries: &[OwnedEntry]| -> Vec<Vec<u8>> {
            entries.iter().map(|entry| entry.payload().to_vec()).collect()
        };
        assert!(payloads(&log).starts_with(&payloads(&held)), "sync {when}: what was read is still there");
        if let Some(reader) = reader {
            match reader.view() {
                Ok(view) => {
                    let seen: Vec<OwnedEntry> =
                        view.range(..).map(|entry| entry.unwrap().to_owned()).collect();
                    assert_eq!(payloads(&seen), payloads(&log), "sync {when}");
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Rewound, "sync {when}"),
            }
        }
        journal.close().unwrap();
    }
    assert!(poisoned > 10, "only {poisoned} failed syncs were noticed");
}
