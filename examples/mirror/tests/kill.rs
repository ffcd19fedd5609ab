//! A short run of both sides, killed at each of its system calls in turn: whatever was done by then, the next process
//! brings the file up to now from what its token says, and file and store have the same rows.
//!
//! Needs strace.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_esker-mirror");
const SIGKILL: i32 = 9;
/// Begins the process: before it there is nothing to kill.
const FIRST: &str = "execve";

/// The program in a role.
fn program(role: &str, directory: &Path, mode: &[&str]) -> Output {
    let output = Command::new(PROGRAM).arg(role).arg(directory).args(mode).output();
    output.expect("the example")
}

/// The script under strace.
fn traced(how: &[&str], directory: &Path, mode: &[&str]) -> Output {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq"]).args(how).args([PROGRAM, "--script"]).arg(directory).args(mode);
    strace.stdin(Stdio::null()).output().expect("strace, without which nothing is tested: install it")
}

fn told(output: &Output) -> String {
    format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))
}

/// Every system call of the script: its name, and the how manieth of that name it is.
fn calls(mode: &[&str]) -> Vec<(String, usize)> {
    let directory = tempfile::tempdir().expect("a directory");
    let output = traced(&["-e", "signal=none"], directory.path(), mode);
    assert!(output.status.success(), "{}", told(&output));
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        let Some((name, _)) = line.split_once('(') else { continue };
        // In a process with threads, lines begin with whose call it is.
        let name = name.rsplit(' ').next().unwrap_or(name);
        let count = counts.entry(name.to_owned()).or_default();
        *count += 1;
        calls.push((name.to_owned(), *count));
    }
    calls.retain(|(name, _)| name != FIRST);
    calls
}

/// Kills the script as it enters a call. False: it ended before that.
fn kill_at((name, count): &(String, usize), mode: &[&str]) -> bool {
    let directory = tempfile::tempdir().expect("a directory");
    let inject = format!("inject={name}:signal=SIGKILL:when={count}");
    let output = traced(&["-o", "/dev/null", "-e", &inject], directory.path(), mode);
    // strace ends as what it traces did.
    let is_killed = output.status.signal() == Some(SIGKILL);
    assert!(is_killed || output.status.success(), "{name} {count}: {}", told(&output));
    // The next process brings the file up to now, and so does one that first goes on with what a kill left.
    for role in ["--check", "--script", "--check"] {
        let output = program(role, directory.path(), mode);
        assert!(output.status.success(), "{role} behind a kill at {name} {count}: {}", told(&output));
    }
    is_killed
}

/// Kills the script at each call whose place is one of these. Hardly any run makes fewer calls than the one that was listed.
fn kill_at_each(calls: &[(String, usize)], mode: &[&str]) {
    let kills = std::thread::scope(|scope| {
        // Two processes at a time.
        let halves = [0, 1].map(|half| {
            let calls = calls.iter().skip(half).step_by(2);
            scope.spawn(move || calls.filter(|call| kill_at(call, mode)).count())
        });
        halves.map(|half| half.join().expect("no drift")).iter().sum::<usize>()
    });
    assert!(kills * 10 > calls.len() * 9, "{kills} kills at {} calls", calls.len());
}

#[test]
fn s27_at_whatever_call_the_process_is_killed_the_file_is_brought_up_to_now() {
    let calls = calls(&[]);
    for name in ["pwrite64", "fdatasync", "fsync", "openat", "renameat", "ftruncate", "unlink", "mmap"] {
        assert!(calls.iter().any(|(call, _)| call == name), "the script makes no {name}");
    }
    assert!(calls.len() > 400, "{} calls", calls.len());
    kill_at_each(&calls, &[]);
}

#[test]
fn s27_also_where_the_operating_system_decides_when_the_log_reaches_the_disk() {
    let mut calls = calls(&["--os"]);
    let changes =
        ["pwrite64", "fdatasync", "fsync", "renameat", "ftruncate", "fallocate", "unlink", "unlinkat"];
    calls.retain(|(name, _)| changes.contains(&name.as_str()));
    assert!(calls.len() > 50, "{} calls", calls.len());
    kill_at_each(&calls, &["--os"]);
}
