//! Every command of the tool in every environment, those that change and make something too.
//!
//! The tables name them all: a test asks the tool itself what there is.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::pipe;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::streams::on_a_terminal;
use crate::support::{Sample, flip, run, tool};
use crate::{LOOKS, LOOKS_TOO, OF_ITSELF, quay};

/// Those that only look, beside those of the other tables: at a store with topics (`QUAY`), and plans of what would be changed.
const LOOKS_AT_MORE: &[&str] = &[
    "state QUAY",
    "events QUAY tide --synthetic",
    "topics QUAY",
    "cells QUAY",
    "consumers QUAY",
    "consumer parked QUAY crane --of load",
    "consumer dead QUAY customs",
    "sources QUAY",
    "keep STORE note latest",
    "cursor reset STORE audit --to oldest",
    "cursor retire STORE audit",
    "consumer retry QUAY crane --of load --all",
    "consumer discard QUAY crane --of load --all",
    "consumer retire QUAY customs",
];

/// Those that make something at a place where nothing is (`NEW`), of a store, a backup or lines.
const MAKES: &[&str] = &[
    "repair STORE --output NEW",
    "backup STORE NEW",
    "backup STORE NEW --verify",
    "restore BACKUP NEW",
    "import LINES NEW",
    "export STORE -o NEW",
    "report STORE -o NEW",
];

/// Those that change a store.
const CHANGES: &[&str] = &[
    "compact STORE --execute",
    "keep STORE note latest --execute",
    "cursor reset STORE audit --to oldest --execute",
    "cursor retire STORE audit --execute",
    "consumer retry QUAY crane --of load --all --execute",
    "consumer discard QUAY crane --of load --all --execute",
    "consumer retire QUAY customs --execute",
];

/// Those that find nothing to do here, and end with 2.
const REFUSED: &[&str] = &["upgrade STORE --output NEW", "consumer resume QUAY crane --execute"];

fn looks() -> impl Iterator<Item = &'static str> {
    LOOKS.iter().chain(LOOKS_TOO).chain(LOOKS_AT_MORE).copied()
}

fn all() -> impl Iterator<Item = &'static str> {
    looks().chain(OF_ITSELF.iter().chain(MAKES).chain(CHANGES).chain(REFUSED).copied())
}

/// A store, one with topics, a backup and lines, to be copied for each command.
struct World {
    directory: tempfile::TempDir,
    copies: usize,
}

impl World {
    fn new() -> Self {
        let directory = Sample::new().directory;
        let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        quay::make(Path::new(&at("quay"))).unwrap();
        let store = at("a.esker");
        assert_eq!(run(&["backup", &store, &at("backup")]).code, Some(0));
        assert_eq!(run(&["export", &store, "-o", &at("lines")]).code, Some(0));
        Self { directory, copies: 0 }
    }

    /// A copy of it all, in a directory that everybody may come to.
    fn copy(&mut self) -> PathBuf {
        self.copies += 1;
        let to = self.directory.path().join(format!("copy-{}", self.copies));
        copy(self.directory.path(), &to);
        for path in [self.directory.path(), &to] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        to
    }
}

/// Copies the stores of a world, and not its other copies.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        match path.is_dir() {
            true if entry.file_name().to_str().unwrap().starts_with("copy-") => {}
            true => copy(&path, &target),
            false => drop(std::fs::copy(&path, &target).unwrap()),
        }
    }
}

/// The words of a command in a copy.
fn words(command: &str, place: &Path) -> Vec<String> {
    let at = |name: &str| place.join(name).to_str().unwrap().to_owned();
    let word = |word: &str| match word {
        "STORE" => at("a.esker"),
        "QUAY" => at("quay"),
        "BACKUP" => at("backup"),
        "LINES" => at("lines"),
        "NEW" => at("new"),
        word => word.to_owned(),
    };
    command.split(' ').map(word).collect()
}

fn done(command: &str, place: &Path, with: impl FnOnce(&mut Command)) -> Output {
    let words = words(command, place);
    let mut tool = tool(&words.iter().map(String::as_str).collect::<Vec<_>>());
    with(tool.stdout(Stdio::piped()).stderr(Stdio::piped()));
    tool.output().unwrap()
}

fn expected(command: &str) -> Option<i32> {
    Some(if REFUSED.contains(&command) { 2 } else { 0 })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The commands that a help lists.
fn listed(words: &[&str]) -> Vec<String> {
    let help = run(&[words, &["--help"]].concat()).stdout;
    let commands =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let name = |line: &str| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')).map(str::to_owned);
    let names = commands.filter_map(name).map(|line| line.split(' ').next().unwrap().to_owned());
    names.filter(|name| name != "help").collect()
}

#[test]
fn every_command_stands_in_a_table() {
    let tried: BTreeSet<String> = all()
        .flat_map(|command| {
            let mut words = command.split(' ');
            let first = words.next().unwrap().to_owned();
            [first.clone(), format!("{first} {}", words.next().unwrap_or_default())]
        })
        .collect();
    let top = listed(&[]);
    assert!(top.len() > 25 && top.iter().any(|name| name == "verify"), "{top:?}");
    for name in top {
        assert!(tried.contains(&name), "no test of environments runs `{name}`");
        for inner in listed(&[&name]) {
            let both = format!("{name} {inner}");
            assert!(tried.contains(&both), "no test of environments runs `{both}`");
        }
    }
}

#[test]
fn what_nobody_reads_is_done_all_the_same() {
    let mut world = World::new();
    for command in all() {
        let place = world.copy();
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let done = done(command, &place, |tool| _ = tool.stdout(writer));
        let stderr = text(&done.stderr);
        // Of what it has to say nothing is wanted: not either that there was nothing to do.
        let codes = [Some(0), expected(command)];
        assert!(codes.contains(&done.status.code()), "{command}: {} {stderr}", done.status);
        assert!(!stderr.contains("panicked") && !stderr.contains("roken pipe"), "{command}: {stderr}");
        if MAKES.contains(&command) {
            assert!(place.join("new").exists(), "{command}");
        }
    }
}

#[test]
fn what_a_full_disk_does_not_take_is_an_error() {
    let mut world = World::new();
    for command in all().filter(|command| !REFUSED.contains(command)) {
        let place = world.copy();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let done = done(command, &place, |tool| _ = tool.stdout(full));
        let stderr = text(&done.stderr);
        // Of nothing that there is to say nothing is lost.
        let is_silent = run(&words(command, &world.copy()).iter().map(String::as_str).collect::<Vec<_>>())
            .stdout
            .is_empty();
        assert_eq!(done.status.code(), Some(if is_silent { 0 } else { 4 }), "{command}: {stderr}");
        assert!(
            is_silent || stderr.contains("error: ") && !stderr.contains("panicked"),
            "{command}: {stderr}"
        );
    }
}

#[test]
fn no_terminal_is_too_narrow_and_none_is_coloured_that_does_not_want_it() {
    let mut world = World::new();
    for command in all() {
        let words = words(command, &world.copy());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (code, screen) = on_a_terminal(&words, 20, &[("NO_COLOR", "1")]);
        assert_eq!(code, expected(command), "{command}: {screen}");
        // What clears a line that was drawn is no colour.
        assert!(!screen.contains("\u{1b}[3") && !screen.contains("\u{1b}[1m"), "{command}: {screen:?}");
        assert!(!screen.contains("panicked"), "{command}: {screen}");
    }
}

/// The writer is this process.
#[test]
fn beside_a_writer_everything_may_look_and_nothing_else_may_write() {
    let mut world = World::new();
    for command in all() {
        let place = world.copy();
        let _writers = ["a.esker", "quay"].map(|name| esker::Journal::open(place.join(name)).unwrap());
        let done = done(command, &place, |_| {});
        let is_alone = CHANGES.contains(&command) || command.starts_with("repair");
        let expected = if is_alone { Some(3) } else { expected(command) };
        assert_eq!(done.status.code(), expected, "{command}: {}{}", text(&done.stdout), text(&done.stderr));
        let says_so = text(&done.stderr).contains(&std::process::id().to_string());
        let is_of_a_store =
            (command.contains("STORE") || command.contains("QUAY")) && !command.starts_with("upgrade");
        assert!(
            says_so || !is_of_a_store || command.starts_with("report"),
            "{command}: {}",
            text(&done.stderr)
        );
    }
}

#[test]
fn of_a_damaged_store_every_command_comes_to_an_end() {
    let mut world = World::new();
    for (what, offset) in [("content", 1000), ("the header", 50)] {
        for command in all() {
            let place = world.copy();
            ["a.esker", "quay"].iter().for_each(|name| flip(&place.join(name), 1, offset));
            let done = done(command, &place, |_| {});
            let stderr = text(&done.stderr);
            assert!(matches!(done.status.code(), Some(0..=4)), "{what}, {command}: {} {stderr}", done.status);
            assert!(!stderr.contains("panicked"), "{what}, {command}: {stderr}");
        }
    }
}

#[test]
fn where_nothing_may_be_written_everything_may_be_looked_at() {
    let mut world = World::new();
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && shift && exec \"$@\"";
    let read_only = |words: &[String], place: &Path| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(place).arg(env!("CARGO_BIN_EXE_esker"));
        command.args(words).stdin(Stdio::null()).output()
    };
    let can = read_only(&["--version".to_owned()], &world.copy());
    if !can.as_ref().is_ok_and(|done| done.status.success()) {
        eprintln!("SKIPPED: no read-only mount can be made here: {can:?}");
        return;
    }
    for command in looks().chain(MAKES.iter().chain(CHANGES).copied()) {
        let place = world.copy();
        let done = read_only(&words(command, &place), &place).unwrap();
        let expected = if looks().any(|look| look == command) { 0 } else { 4 };
        assert_eq!(done.status.code(), Some(expected), "{command}: {}", text(&done.stderr));
    }
}

#[test]
fn what_is_another_s_may_be_looked_at_and_not_changed() {
    let mut world = World::new();
    let as_nobody = |words: &[String]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_esker")]);
        command.args(words).stdin(Stdio::null()).output()
    };
    let can = as_nobody(&["--version".to_owned()]);
    if !can.as_ref().is_ok_and(|done| done.status.success()) {
        eprintln!("SKIPPED: the tool is not run as another user: {can:?}");
        return;
    }
    for command in looks().chain(MAKES.iter().chain(CHANGES).copied()) {
        let place = world.copy();
        for name in ["a.esker", "quay", "backup"] {
            std::fs::set_permissions(place.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
            for file in std::fs::read_dir(place.join(name)).unwrap().map(Result::unwrap) {
                std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
            }
        }
        std::fs::set_permissions(place.join("lines"), std::fs::Permissions::from_mode(0o644)).unwrap();
        let done = as_nobody(&words(command, &place)).unwrap();
        let expected = if looks().any(|look| look == command) { 0 } else { 4 };
        assert_eq!(done.status.code(), Some(expected), "{command}: {}", text(&done.stderr));
    }
}
