//! Every system call that can fail, one at a time: six workloads under `strace -e inject`.
//!
//! Each call that a workload makes on the files of its store fails once with each of the errors below, or is the last one before
//! a SIGKILL. What must hold every time: *the fault happened; the process ends with an error and not by a signal, or by that one;
//! the store opens; what was acknowledged is there, in order, and nothing that was never written; a cursor is
//! where it was put, and not ahead of the log; the next life works; and the store is valid.*
//!
//! A sync that lies shows only behind a power cut, which takes a disk that can be asked what it has: `tests/crash.rs`.
//!
//! By default some calls of each are tried; `ESKER_SYSTEM_CALLS=full` tries all. Needs strace; without it the test says so, and
//! `.ci/run` installs it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use esker::{Check, CompactOptions, Journal, Keep, KindId, Options, Record, Region, Verdict};

const STORE: &str = "ESKER_SYSTEM_CALLS_STORE";
const WORKLOAD: &str = "ESKER_SYSTEM_CALLS_WORKLOAD";
const ENTRIES: u8 = 24;
/// How many calls of each workload fail with each error, where not all do.
const SOME: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Workload {
    Append,
    Batch,
    Rotate,
    Checkpoint,
    Compact,
    Open,
}

use Workload::{Append, Batch, Checkpoint, Compact, Open, Rotate};

const WORKLOADS: [Workload; 6] = [Append, Batch, Rotate, Checkpoint, Compact, Open];

/// What becomes of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Error(&'static str),
    Kill,
}

const FAULTS: [Fault; 7] = [
    Fault::Error("EIO"),
    Fault::Error("ENOSPC"),
    Fault::Error("EINTR"),
    Fault::Error("EMFILE"),
    Fault::Error("ENOMEM"),
    Fault::Error("EACCES"),
    Fault::Kill,
];

/// Those that a store can make on its files, and those of libraries on its behalf.
const CALLS: &str = "openat,openat2,fstat,newfstatat,statx,fallocate,ftruncate,mmap,msync,fdatasync,fsync,sync_file_range,\
    pread64,pwrite64,pwritev,read,write,renameat,renameat2,linkat,unlinkat,mkdir,mkdirat,flock,fcntl,getdents64,lseek,\
    fadvise64,fchmod,fstatfs,close";

/// A fault of one call: the `when`-th of its name.
#[derive(Clone, Debug)]
struct Point {
    workload: Workload,
    fault: Fault,
    call: String,
    when: usize,
}

impl Point {
    fn injected(&self) -> String {
        let what = match self.fault {
            Fault::Error(error) => format!("error={error}"),
            Fault::Kill => "signal=SIGKILL".to_owned(),
        };
        format!("inject={}:{what}:when={}", self.call, self.when)
    }
}

fn options() -> Options {
    Options::new().segment_bytes(4096).background(false)
}

/// What stands in the `n`-th entry; its Seq is one more.
fn payload(n: u8, workload: Workload) -> Vec<u8> {
    vec![n; if workload == Rotate { 900 } else { 300 }]
}

fn key(n: u8, workload: Workload) -> [u8; 1] {
    [if workload == Compact { n % 5 } else { 0 }]
}

fn say(line: &str) {
    use std::io::Write;
    std::io::stdout().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Not a test of its own.
#[test]
fn role_of_the_workload() {
    let (Ok(store), Ok(name)) = (std::env::var(STORE), std::env::var(WORKLOAD)) else { return };
    let workload = WORKLOADS.into_iter().find(|workload| format!("{workload:?}") == name).unwrap();
    match work(Path::new(&store), workload) {
        Ok(()) => say("outcome fine"),
        Err(error) => say(&format!("outcome {:?}", error.kind())),
    }
}

/// Does it, and says what was acknowledged; ends at the first error.
fn work(store: &Path, workload: Workload) -> esker::Result<()> {
    let journal = options().open(store)?;
    let kind = journal.kind("note")?;
    match workload {
        Append | Rotate => (0..ENTRIES).try_for_each(|n| append(&journal, kind, n, workload))?,
        Batch => {
            for first in (0..ENTRIES).step_by(3) {
                append(&journal, kind, first, workload)?;
                // An eighth of a small segment is a large batch, which goes by one call.
                let payloads = [first + 1, first + 2].map(|n| payload(n, workload));
                let mut batch = journal.batch();
                batch.extend(payloads.iter().map(|payload| Record::new(kind, &[0], payload)));
                for receipt in batch.commit()?.receipts {
                    say(&format!("ack {}", receipt.seq));
                }
            }
        }
        Checkpoint => {
            let mut watcher = journal.watch("audit", Region::All)?;
            for n in 0..ENTRIES {
                append(&journal, kind, n, workload)?;
                while let Some(entry) = watcher.next_timeout(Duration::ZERO)? {
                    let seq = entry.seq();
                    watcher.checkpoint()?;
                    say(&format!("at {seq}"));
                }
            }
        }
        Compact => {
            journal.keep(kind, Keep::Latest)?;
            let all = CompactOptions::new().keep_tombstones_for(Duration::ZERO).thorough(true);
            for n in 0..ENTRIES {
                append(&journal, kind, n, workload)?;
                if n % 10 == 9 {
                    journal.compact(&all)?;
                }
            }
        }
        Open => {
            let next = journal.view().last_seq()?.map_or(0, |seq| u8::try_from(seq.get()).unwrap());
            append(&journal, kind, next, workload)?;
        }
    }
    journal.close()
}

fn append(journal: &Journal, kind: KindId, n: u8, workload: Workload) -> esker::Result<()> {
    let receipt = journal.append(Record::new(kind, &key(n, workload), &payload(n, workload)))?;
    say(&format!("ack {}", receipt.seq));
    Ok(())
}

/// What is there before the workload begins: for the one that opens, what a writer that was killed has left, with an index
/// file lost. Answers how many entries there are.
fn prepare(directory: &Path, store: &Path, workload: Workload) -> u64 {
    if workload != Open {
        return 0;
    }
    let before = directory.join("before.esker");
    let journal = options().open(&before).unwrap();
    let kind = journal.kind("note").unwrap();
    for n in 0..ENTRIES {
        journal.append(Record::new(kind, &[0], &payload(n, Open))).unwrap();
    }
    std::fs::create_dir(store).unwrap();
    for file in std::fs::read_dir(&before).unwrap().map(|file| file.unwrap().file_name()) {
        if file != "LOCK" && file != "0000000002.idx" {
            std::fs::copy(before.join(&file), store.join(&file)).unwrap();
        }
    }
    u64::from(ENTRIES)
}

/// The workload under strace, which looks only at calls on the store's own files: the harness has files of its own.
fn traced(store: &Path, workload: Workload, trace: &Path) -> Command {
    // One that hangs has not ended by itself.
    let mut strace = Command::new("timeout");
    strace.args(["120", "strace", "-f", "-q", "-o"]).arg(trace).arg("-P").arg(store);
    let mut names = ["LOCK", "MANIFEST", "entities"].map(str::to_owned).to_vec();
    for number in 1..=ENTRIES {
        names.extend(["seg", "idx", "snap", "snap.idx"].map(|suffix| format!("{number:010}.{suffix}")));
    }
    for name in names {
        strace.arg("-P").arg(store.join(&name)).arg("-P").arg(store.join(format!("{name}.tmp")));
    }
    strace.arg("-e").arg(format!("trace={CALLS}"));
    strace.env(STORE, store).env(WORKLOAD, format!("{workload:?}"));
    strace
}

/// How it ended, and what it said.
fn run(mut strace: Command) -> (ExitStatus, String) {
    strace.arg(std::env::current_exe().unwrap());
    strace.args(["--exact", "role_of_the_workload", "--nocapture", "--test-threads=1"]);
    let output = strace.stdin(Stdio::null()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status, String::from_utf8_lossy(&said).into_owned())
}

/// How often it makes each call where none fails.
fn count(workload: Workload) -> BTreeMap<String, usize> {
    let directory = tempfile::tempdir().unwrap();
    let (store, trace) = (directory.path().join("a.esker"), directory.path().join("trace"));
    prepare(directory.path(), &store, workload);
    let (_, said) = run(traced(&store, workload, &trace));
    assert!(said.contains("outcome fine"), "{workload:?}: {said}");
    let mut counts = BTreeMap::new();
    for line in std::fs::read_to_string(&trace).unwrap().lines() {
        // The number of the thread, and then the call.
        let call = line.split_once(' ').and_then(|(_, call)| call.trim_start().split_once('('));
        call.into_iter().for_each(|(name, _)| *counts.entry(name.to_owned()).or_insert(0) += 1);
    }
    counts
}

/// What the workload said last of something.
fn last_said(said: &str, what: &str) -> u64 {
    // The harness of tests writes no newline before the first line.
    let mut numbers = said.lines().filter_map(|line| line.rsplit_once(what)?.1.trim().parse().ok());
    numbers.next_back().unwrap_or(0)
}

/// True if the workload noticed.
fn check(point: &Point) -> Result<bool, String> {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("a.esker");
    let before = prepare(directory.path(), &store, point.workload);
    let trace = directory.path().join("trace");
    let mut strace = traced(&store, point.workload, &trace);
    strace.arg("-e").arg(point.injected());
    let (status, said) = run(strace);
    // strace ends by the signal that its program ended by; `timeout` would end by itself, with 124 or 137.
    let is_killed = status.signal() == Some(9) || status.code() == Some(137);
    let has_said = said.contains("outcome ");
    let is_due =
        if point.fault == Fault::Kill { is_killed && !has_said } else { status.success() && has_said };
    let traced = std::fs::read_to_string(&trace).unwrap();
    let is_there = traced.contains("(INJECTED)") || traced.contains("+++ killed by SIGKILL");
    if !is_due || !is_there {
        return Err(format!("{status}, the fault is there: {is_there}: {said}"));
    }
    judge(&store, point.workload, &said, before).map_err(|what| format!("{what}\n{said}"))?;
    Ok(!said.contains("outcome fine"))
}

fn judge(store: &Path, workload: Workload, said: &str, before: u64) -> Result<(), String> {
    let text = |error: esker::Error| error.to_string();
    let journal = options().open(store).map_err(text)?;
    let view = journal.view();
    let end = view.last_seq().map_err(text)?.map_or(0, |seq| seq.get());
    let acknowledged = last_said(said, "ack ").max(before);
    if end < acknowledged {
        return Err(format!("the log ends with {end}, and {acknowledged} was acknowledged"));
    }
    let mut next = 1;
    let mut newest = BTreeMap::new();
    for entry in view.range(..) {
        let entry = entry.map_err(text)?;
        let seq = entry.seq().get();
        let n = u8::try_from(seq - 1).unwrap();
        if entry.payload() != payload(n, workload) || entry.key() != key(n, workload) {
            return Err(format!("{seq} is {:?}", entry.payload().first()));
        }
        if seq != next && workload != Compact {
            return Err(format!("{seq} comes where {next} has to"));
        }
        newest.insert(entry.key().to_vec(), seq);
        next = seq + 1;
    }
    // Of each key the newest is there, whatever was compacted.
    for seq in 1..=end {
        let key = key(u8::try_from(seq - 1).unwrap(), workload);
        if newest.get(&key[..]).is_none_or(|newest| *newest < seq) {
            return Err(format!("of {key:?} there is {:?}, and {seq} was written", newest.get(&key[..])));
        }
    }
    judge_cursor(&journal, last_said(said, "at "), end)?;
    let kind = journal.kind("note").map_err(text)?;
    let receipt = journal.append(Record::new(kind, b"next", b"life")).map_err(text)?;
    if receipt.seq.get() != end + 1 {
        return Err(format!("the next life begins with {} behind {end}", receipt.seq));
    }
    journal.close().map_err(text)?;
    let found = esker::verify(store, Check::Full).map_err(text)?;
    if found.verdict == Verdict::Valid { Ok(()) } else { Err(format!("{:#?}", found.findings)) }
}

fn judge_cursor(journal: &Journal, told: u64, end: u64) -> Result<(), String> {
    let cursors = journal.cursors().map_err(|error| error.to_string())?;
    let at = cursors.first().and_then(|cursor| cursor.seq).map_or(0, |seq| seq.get());
    if (told..=end).contains(&at) {
        return Ok(());
    }
    Err(format!("the cursor is at {at}; it was put to {told}, and the log ends with {end}"))
}

/// Every one, or of each workload and fault a few: others of each, so that together they meet more of the calls.
fn points(is_full: bool) -> Vec<Point> {
    let mut chosen = Vec::new();
    for (w, workload) in WORKLOADS.into_iter().enumerate() {
        let counts = count(workload);
        assert!(counts.values().sum::<usize>() > 40, "{workload:?} makes {counts:?}");
        for (f, fault) in FAULTS.into_iter().enumerate() {
            let points: Vec<Point> = counts
                .iter()
                .flat_map(|(call, count)| (1..=*count).map(move |when| (call.clone(), when)))
                .map(|(call, when)| Point { workload, fault, call, when })
                .collect();
            let step = if is_full { 1 } else { points.len().div_ceil(SOME) };
            chosen.extend(points.into_iter().skip((w + 3 * f) % step).step_by(step));
        }
    }
    chosen
}

#[test]
fn whatever_call_fails_nothing_acknowledged_is_lost() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        eprintln!("not run: strace is not installed");
        return;
    }
    let is_full = std::env::var("ESKER_SYSTEM_CALLS").is_ok_and(|value| value == "full");
    let points = points(is_full);
    let (next, noticed, violations) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
            match check(point) {
                Ok(is_noticed) => _ = noticed.fetch_add(usize::from(is_noticed), Ordering::Relaxed),
                Err(what) => violations.lock().unwrap().push(format!("{point:?}: {what}")),
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    let violations = violations.into_inner().unwrap();
    println!("{{\"rung\":\"R4\",\"states\":{},\"violations\":{}}}", points.len(), violations.len());
    assert!(violations.is_empty(), "{}", violations[..violations.len().min(10)].join("\n"));
    let noticed = noticed.into_inner();
    assert!(noticed * 4 > points.len(), "of {} faults {noticed} were noticed", points.len());
}
