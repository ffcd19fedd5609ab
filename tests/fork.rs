//! A process that forks: the store stays the parent's, whatever the child does with its handle.
//!
//! A forked child has the parent's descriptors and locks, a copy of its memory, and none of its
//! threads. So every write answers `Forked` before it takes a lock that a thread of the parent
//! may have held at that moment, and letting go of the handle lets go of nothing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use esker::{Check, Durability, ErrorKind, Journal, KindId, Options, Record, Ticket, Verdict, verify};

/// A forked child that hangs is killed by then, and the test fails.
const SECONDS_AT_MOST: u32 = 20;

/// Forks; the child does `what` and ends, without the harness that it was copied with.
#[allow(unsafe_code, reason = "there is no safe way to fork, and this test is about forks")]
fn fork(complaints: &Path, what: impl FnOnce() -> Result<(), String>) -> libc::pid_t {
    // SAFETY: the child runs only `what` and leaves by `_exit`: nothing of the harness is
    // dropped or unwound in it. glibc makes its allocator usable in a child of many threads.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid > 0 {
        return pid;
    }
    // SAFETY: sets a timer of this process, which is not observed by anything else in it.
    unsafe { libc::alarm(SECONDS_AT_MOST) };
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(what));
    let complaint = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(complaint)) => Some(complaint),
        Err(_) => Some("it panicked".to_owned()),
    };
    if let Some(complaint) = &complaint {
        let _ = std::fs::write(complaints, complaint);
    }
    // SAFETY: ends the process.
    unsafe { libc::_exit(i32::from(complaint.is_some())) }
}

#[allow(unsafe_code, reason = "std waits only for children that it started")]
fn wait_for(pid: libc::pid_t, complaints: &Path) {
    let mut status = 0;
    // SAFETY: `status` is a valid place for the answer, and the child is ours.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(waited, pid, "{}", std::io::Error::last_os_error());
    let complaint = std::fs::read_to_string(complaints).unwrap_or_else(|_| "it hung or crashed".to_owned());
    assert_eq!(status, 0, "the forked child: {complaint}");
}

fn refuses<T>(what: &str, outcome: esker::Result<T>) -> Result<(), String> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::Forked => Ok(()),
        Err(error) => Err(format!("{what} answered {error}")),
        Ok(_) => Err(format!("{what} went through")),
    }
}

/// Everything that writes or waits for the disk, and last what lets go of the store.
fn every_write_is_refused(journal: Journal, kind: KindId, ticket: Option<Ticket>) -> Result<(), String> {
    let record = Record::new(kind, b"k", b"from the child");
    refuses("append", journal.append(record))?;
    refuses("append_nowait", journal.append_nowait(record))?;
    let mut batch = journal.batch();
    batch.push(record).push(record);
    refuses("a batch", batch.commit())?;
    refuses("a new kind", journal.kind("of the child"))?;
    refuses("sync", journal.sync())?;
    if let Some(ticket) = ticket {
        refuses("a ticket", ticket.wait_durable())?;
    }
    let clone = journal.clone();
    drop(journal);
    refuses("close", clone.close())?;
    refuses("append behind close", clone.append(record))?;
    drop(clone);
    Ok(())
}

/// A fork copies the locks that other threads hold, those of other tests among them.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn scratch() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let (store, complaints) = (scratch.path().join("a.esker"), scratch.path().join("complaints"));
    (scratch, store, complaints)
}

fn image(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

const STORE: &str = "ESKER_TEST_STORE";
const ROLE: &str = "ESKER_TEST_ROLE";

/// This program again, with one role to play.
fn start(role: &str, store: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "role_of_another_process", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).env(STORE, store);
    command
}

/// Not a test of its own: what other processes do, which are this same program.
#[test]
fn role_of_another_process() {
    let (Ok(role), Some(store)) = (std::env::var(ROLE), std::env::var_os(STORE)) else { return };
    match role.as_str() {
        "opens" => match Options::new().open(store) {
            Ok(_) => println!("outcome opened"),
            Err(error) => println!("outcome {:?}", error.kind()),
        },
        "starts another program" => {
            let journal = Options::new().open(store).unwrap();
            let kind = journal.kind("note").unwrap();
            journal.append(Record::new(kind, b"k", b"durable")).unwrap();
            // Lives until our standard input ends, which is somebody else's pipe.
            let mut other = Command::new("cat").stdout(Stdio::null()).spawn().unwrap();
            println!("other {}", other.id());
            std::io::stdout().flush().unwrap();
            other.wait().unwrap();
        }
        other => panic!("no role {other}"),
    }
}

fn is_locked_for_others(store: &Path) -> bool {
    let output = start("opens", store).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("outcome "), "{said}");
    said.contains("outcome Locked")
}

#[test]
fn a_forked_child_writes_nothing_and_the_store_stays_the_parents() {
    let _alone = alone();
    for (background, appends_before) in [(false, true), (false, false), (true, true), (true, false)] {
        let shown = format!("background {background}, appends before {appends_before}");
        let (_scratch, store, complaints) = scratch();
        let options = Options::new().segment_bytes(64 << 10).background(background);
        let first = options.open(&store).unwrap();
        let kind = first.kind("note").unwrap();
        first.append(Record::new(kind, b"k", b"1")).unwrap();
        first.close().unwrap();
        drop(first);
        let journal = options.open(&store).unwrap();
        let ticket = appends_before.then(|| journal.append_nowait(Record::new(kind, b"k", b"2")).unwrap());
        let entries = 1 + usize::from(appends_before);
        // The parent's own threads may make a spare meanwhile.
        let before = (!background || !appends_before).then(|| image(&store));
        let child = journal.clone();
        let pid = fork(&complaints, || {
            // Both of the copied handles go.
            drop(journal.clone());
            every_write_is_refused(child, kind, ticket)
        });
        wait_for(pid, &complaints);
        if let Some(before) = before {
            assert!(image(&store) == before, "{shown}: the child changed a file");
        }
        assert!(is_locked_for_others(&store), "{shown}: the child let go of the parent's lock");
        for n in 0..200_u8 {
            journal.append(Record::new(kind, b"k", &[n; 500])).unwrap();
        }
        assert_eq!(journal.view().range(..).map(Result::unwrap).count(), entries + 200, "{shown}");
        journal.close().unwrap();
        assert!(!is_locked_for_others(&store), "{shown}");
        let found = verify(&store, Check::Full).unwrap();
        assert_eq!(found.verdict, Verdict::Valid, "{shown}: {:#?}", found.findings);
        assert_eq!(found.entries, entries as u64 + 200, "{shown}");
    }
}

#[test]
fn a_fork_in_the_middle_of_appends_leaves_no_child_waiting_for_a_lock() {
    const FORKS: usize = 40;
    /// More than there is time for, unless a child hangs: then the disk is not filled.
    const APPENDS_AT_MOST: u64 = 1_000_000;
    let _alone = alone();
    let (_scratch, store, complaints) = scratch();
    let options = Options::new().segment_bytes(64 << 10).durability(Durability::Os);
    let journal = options.open(&store).unwrap();
    let kind = journal.kind("note").unwrap();
    let (done, appended) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..3_u8 {
            let (journal, done, appended) = (&journal, &done, &appended);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) && appended.load(Ordering::Relaxed) < APPENDS_AT_MOST {
                    journal.append(Record::new(kind, &[b'a' + thread], &[thread; 100])).unwrap();
                    appended.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let forks = std::panic::AssertUnwindSafe(|| {
            for _ in 0..FORKS {
                let child = journal.clone();
                let pid = fork(&complaints, || every_write_is_refused(child, kind, None));
                wait_for(pid, &complaints);
            }
        });
        // Whatever came of it, the other threads end.
        let outcome = std::panic::catch_unwind(forks);
        done.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    journal.close().unwrap();
    let found = verify(&store, Check::Full).unwrap();
    assert_eq!(found.verdict, Verdict::Valid, "{:#?}", found.findings);
    assert_eq!(found.entries, appended.into_inner());
}

#[test]
fn a_store_that_its_parent_closed_is_free_while_a_forked_child_lives() {
    let _alone = alone();
    let (_scratch, store, complaints) = scratch();
    let journal = Options::new().background(false).open(&store).unwrap();
    let kind = journal.kind("note").unwrap();
    journal.append(Record::new(kind, b"k", b"1")).unwrap();
    let (mut waits, tells) = std::io::pipe().unwrap();
    let (mut heard, mut says) = std::io::pipe().unwrap();
    let child = journal.clone();
    let pid = fork(&complaints, || {
        let mut wait = || waits.read_exact(&mut [0]).map_err(|error| error.to_string());
        wait()?;
        match Options::new().open(child.path()) {
            Err(error) if error.kind() == ErrorKind::Locked => {}
            other => return Err(format!("a second opening: {other:?}")),
        }
        let path = child.path().to_owned();
        every_write_is_refused(child, kind, None)?;
        says.write_all(b"!").map_err(|error| error.to_string())?;
        wait()?;
        // In a handle of its own it may do what every process may.
        let own = Options::new().open(path).map_err(|error| error.to_string())?;
        own.append(Record::new(kind, b"k", b"4")).map_err(|error| error.to_string())?;
        own.close().map_err(|error| error.to_string())
    });
    drop(says);
    journal.close().unwrap();
    let next = Options::new().background(false).open(&store).unwrap();
    next.append(Record::new(kind, b"k", b"2")).unwrap();
    // Only now does the child find out that its handle is worth nothing.
    (&tells).write_all(b"!").unwrap();
    // A child that ends without a word shows when it is waited for: its end is closed then.
    let _ = heard.read_exact(&mut [0]);
    assert!(is_locked_for_others(&store));
    next.append(Record::new(kind, b"k", b"3")).unwrap();
    next.close().unwrap();
    (&tells).write_all(b"!").unwrap();
    wait_for(pid, &complaints);
    assert_eq!(verify(&store, Check::Full).unwrap().entries, 4);
}

#[test]
fn a_program_that_was_started_does_not_hold_the_store() {
    let _alone = alone();
    let (_scratch, store, _) = scratch();
    let mut role =
        start("starts another program", &store).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let ends_the_other = role.stdin.take().unwrap();
    let lines = BufReader::new(role.stdout.take().unwrap()).lines();
    let other = lines.map(Result::unwrap).find_map(|line| Some(line.split_once("other ")?.1.to_owned()));
    let process = PathBuf::from("/proc").join(other.expect("the role says whom it started"));
    // Killed, so that nothing is unlocked but by the end of the last descriptor.
    role.kill().unwrap();
    role.wait().unwrap();
    // A parent goes on a moment before the new program's inherited descriptors are closed.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let journal = loop {
        match Options::new().open(&store) {
            Ok(journal) => break journal,
            Err(error) if error.kind() == ErrorKind::Locked && std::time::Instant::now() < deadline => {
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}, it has {:?} open", has_open(&process, &store)),
        }
    };
    assert_eq!(journal.stats().entries, 1);
    assert!(process.join("exe").exists(), "the other program still runs");
    journal.close().unwrap();
    drop(ends_the_other);
}

/// A file of the store that a process has open.
fn has_open(process: &Path, store: &Path) -> Option<PathBuf> {
    let descriptors = std::fs::read_dir(process.join("fd")).unwrap();
    // What it opens to load its libraries is closed again meanwhile.
    let targets = descriptors.filter_map(|descriptor| std::fs::read_link(descriptor.unwrap().path()).ok());
    targets.into_iter().find(|target| target.starts_with(store))
}

/// A batch is checked and summed as it is made: the fork may come between that and its commit.
#[test]
fn a_batch_that_was_made_before_the_fork_is_not_the_child_s_to_commit() {
    let _alone = alone();
    for bytes in [100, 40 << 10] {
        let (_scratch, store, complaints) = scratch();
        let options = Options::new().segment_bytes(1 << 20).durability(Durability::Sync);
        let journal = options.open(&store).unwrap();
        let kind = journal.kind("note").unwrap();
        journal.append(Record::new(kind, b"k", b"1")).unwrap();
        let payload = vec![0xaa; bytes];
        let mut batch = journal.batch();
        batch.push(Record::new(kind, b"k", &payload));
        let pid = fork(&complaints, || {
            refuses("commit", batch.commit())?;
            refuses("commit_nowait", batch.commit_nowait())
        });
        wait_for(pid, &complaints);
        for n in 0..20 {
            journal.append(Record::new(kind, b"k", &[n; 13])).unwrap();
        }
        assert_eq!(batch.commit().unwrap().receipts[0].seq.get(), 22);
        journal.close().unwrap();
        let found = verify(&store, Check::Full).unwrap();
        assert_eq!((found.verdict, found.entries), (Verdict::Valid, 22), "{:#?}", found.findings);
    }
}
