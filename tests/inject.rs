//! Who reads beside a writer whose sync fails, for each sync in turn, by `strace -e inject`: sees what is durable, and is not
//! misled by the next life. Needs strace; without it the test says so, and `.ci/run` installs it.
//! What becomes of the store whatever call fails is the subject of `tests/system_calls.rs`.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use esker::{ErrorKind, Options, OwnedEntry, Reader, Record};

const STORE: &str = "ESKER_INJECT_STORE";
const ENTRIES: u64 = 24;

fn options() -> Options {
    Options::new().segment_bytes(4096).background(false)
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
