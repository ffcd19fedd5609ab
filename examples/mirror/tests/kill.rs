//! A short run of each side, killed at each of its system calls in turn: whatever was done by then, the next process
//! brings the file up to now from what its token says, and file and store have the same rows.
//!
//! Needs strace.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_esker-mirror");
const SIGKILL: i32 = 9;
/// Begins the process: before it there is nothing to kill.
const FIRST: &str = "execve";

/// What is killed, and what comes behind that.
struct Script<'a> {
    role: &'a str,
    mode: &'a [&'a str],
    /// The files that it begins with.
    from: Option<&'a Path>,
    /// Each in a process of its own. The next one brings the file up to now, and so does one that first goes on with what a kill
    /// left.
    behind: &'a [&'a str],
}

impl Script<'_> {
    fn directory(&self) -> TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        if let Some(from) = self.from {
            copy(from, directory.path());
        }
        directory
    }

    /// It under strace.
    fn traced(&self, how: &[&str], directory: &Path) -> Output {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq"]).args(how).args([PROGRAM, self.role]).arg(directory).args(self.mode);
        strace.stdin(Stdio::null()).output().expect("strace, without which nothing is tested: install it")
    }

    /// Each of its system calls: its name, and the how manieth of that name it is.
    fn calls(&self) -> Vec<(String, usize)> {
        let directory = self.directory();
        let output = self.traced(&["-e", "signal=none"], directory.path());
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

    /// Kills it as it enters a call. False: it ended before that.
    fn kill_at(&self, (name, count): &(String, usize)) -> bool {
        let directory = self.directory();
        let inject = format!("inject={name}:signal=SIGKILL:when={count}");
        let output = self.traced(&["-o", "/dev/null", "-e", &inject], directory.path());
        // strace ends as what it traces did.
        let is_killed = output.status.signal() == Some(SIGKILL);
        assert!(is_killed || output.status.success(), "{name} {count}: {}", told(&output));
        for role in self.behind {
            let output = program(role, directory.path(), self.mode);
            assert!(output.status.success(), "{role} behind a kill at {name} {count}: {}", told(&output));
        }
        is_killed
    }

    /// Kills it at each of its calls. Hardly any run makes fewer calls than the one that was listed.
    fn kill_at_each(&self, least: usize, among: &[&str]) {
        let calls = self.calls();
        for name in among {
            assert!(calls.iter().any(|(call, _)| call == name), "{} makes no {name}", self.role);
        }
        assert!(calls.len() > least, "{} calls", calls.len());
        let kills = std::thread::scope(|scope| {
            // Two processes at a time.
            let halves = [0, 1].map(|half| {
                let calls = calls.iter().skip(half).step_by(2);
                scope.spawn(move || calls.filter(|call| self.kill_at(call)).count())
            });
            halves.map(|half| half.join().expect("no drift")).iter().sum::<usize>()
        });
        assert!(kills * 10 > calls.len() * 9, "{kills} kills at {} calls", calls.len());
    }
}

/// The program in a role.
fn program(role: &str, directory: &Path, mode: &[&str]) -> Output {
    let output = Command::new(PROGRAM).arg(role).arg(directory).args(mode).output();
    output.expect("the example")
}

fn told(output: &Output) -> String {
    format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let (entry, to) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).expect("an entry");
        if entry.is_dir() {
            copy(&entry, &to);
        } else {
            std::fs::copy(&entry, &to).expect("a copy");
        }
    }
}

#[test]
fn s27_at_whatever_call_the_process_is_killed_the_file_is_brought_up_to_now() {
    let behind = &["--check", "--script", "--check"];
    let script = Script { role: "--script", mode: &[], from: None, behind };
    let among = ["pwrite64", "fdatasync", "fsync", "openat", "renameat", "ftruncate", "unlink", "mmap"];
    script.kill_at_each(400, &among);
}

#[test]
fn s27_also_where_the_operating_system_decides_when_the_log_reaches_the_disk() {
    let behind = &["--check", "--script", "--check"];
    let script = Script { role: "--script", mode: &["--os"], from: None, behind };
    script.kill_at_each(400, &["pwrite64", "fdatasync", "renameat", "ftruncate", "mmap"]);
}

#[test]
fn s27_at_whatever_call_a_mirror_in_another_process_is_killed_its_files_are_brought_up_to_now() {
    let begun = tempfile::tempdir().expect("a directory");
    for role in ["--script", "--more"] {
        let output = program(role, begun.path(), &[]);
        assert!(output.status.success(), "{role}: {}", told(&output));
    }
    let behind = &["--script-beside", "--check"];
    let script = Script { role: "--script-beside", mode: &[], from: Some(begun.path()), behind };
    script.kill_at_each(100, &["pwrite64", "openat", "unlink", "mmap"]);
}
