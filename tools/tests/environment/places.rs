//! Where a store lies, and what is in it: odd paths, odd keys, nothing, much, another's.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use esker::{Durability, Journal, Options, Record};

use crate::support::{Sample, on, run, tool};
use crate::{LOOKS, LOOKS_TOO, words};

/// Keys that are no text, or not only.
const ODD_KEYS: &[&[u8]] =
    &[b"\xff\xfe", b"a\nb", b"a\tb", b"\x1b[31m", b"hex:00", b"a/b", "\u{202e}x".as_bytes(), b" ", b"\0"];

#[test]
fn keys_that_are_no_text_are_shown_and_found_again_by_what_is_shown() {
    let sample = Sample::empty();
    let journal = sample.open();
    let kind = journal.kind("odd").unwrap();
    for key in ODD_KEYS {
        journal.append(Record::new(kind, key, b"x")).unwrap();
    }
    journal.close().unwrap();
    let store = sample.text();
    let shown = run(&["dump", &store]);
    assert_eq!(shown.stdout.lines().count(), ODD_KEYS.len(), "{}", shown.stdout);
    assert!(!shown.stdout.contains('\u{1b}'), "{}", shown.stdout);
    for row in shown.rows() {
        let found = run(&["dump", &store, "--entity", &format!("odd/{}", row[4])]);
        assert_eq!(found.rows().first().map(|found| found[0]), Some(row[0]), "{row:?}: {}", found.stderr);
        assert_eq!(found.rows().len(), 1, "{row:?}");
    }
    for command in LOOKS.iter().chain(LOOKS_TOO) {
        assert_eq!(run(&words(command, &store)).code, Some(0), "{command}");
    }
}

#[test]
fn a_path_that_is_no_text_is_a_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(OsStr::from_bytes(b"store-\xff\n.esker"));
    Journal::open(&path).unwrap().close().unwrap();
    for command in ["info", "dump", "verify", "cursors", "compact", "export"] {
        for more in [&[][..], &["--json"][..]] {
            let done = tool(&[command]).arg(&path).args(more).output().unwrap();
            let stderr = String::from_utf8(done.stderr).unwrap();
            assert_eq!((done.status.code(), &*stderr), (Some(0), ""), "{command} {more:?}");
            assert!(String::from_utf8(done.stdout).is_ok(), "{command} {more:?}");
        }
    }
}

#[test]
fn a_directory_without_a_store_is_none_and_stays_empty() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    for command in LOOKS.iter().chain(LOOKS_TOO) {
        let none = run(&words(command, path));
        assert_eq!((none.code, &*none.stdout), (Some(3), ""), "{command}: {}", none.stderr);
        assert!(none.stderr.contains(path), "{command}: {}", none.stderr);
    }
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 0);
}

#[test]
fn an_empty_store_is_looked_at_by_every_command() {
    let sample = Sample::empty();
    sample.open().close().unwrap();
    for command in LOOKS.iter().filter(|command| !command.starts_with("get")) {
        let done = run(&words(command, &sample.text()));
        assert_eq!((done.code, &*done.stderr), (Some(0), ""), "{command}");
    }
}

#[test]
fn a_million_entries_are_looked_at() {
    const BATCHES: u32 = 200;
    const IN_ONE: u32 = 5_000;
    let sample = Sample::empty();
    let journal =
        Options::new().segment_bytes(64 << 20).durability(Durability::Os).open(sample.path()).unwrap();
    let kind = journal.kind("n").unwrap();
    let keys: Vec<[u8; 4]> = (0..IN_ONE).map(u32::to_be_bytes).collect();
    for _ in 0..BATCHES {
        let mut batch = journal.batch();
        for key in &keys {
            batch.push(Record::new(kind, key, b""));
        }
        batch.commit().unwrap();
    }
    journal.close().unwrap();
    let store = sample.text();
    let last = run(&["dump", &store, "--last", "2"]);
    assert_eq!(last.rows().iter().map(|row| row[0]).collect::<Vec<_>>(), ["999999", "1000000"]);
    let info = run(&["info", &store]);
    assert!(info.rows().contains(&vec!["entries", "1000000"]), "{}", info.stdout);
    let first = run(&["dump", &store, "--limit", "1"]);
    assert_eq!(first.rows()[0][0], "1");
    assert_eq!(run(&["get", &store, "500000"]).rows()[0], ["seq", "500000"]);
    assert_eq!(run(&["verify", &store, "--quick"]).code, Some(0));
}

/// Set for a child that writes.
const WRITER: &str = "ESKER_TEST_WRITES_AT";

/// The child writes so many: enough to write beside the first looks, and not so many that a slow machine walks for ever.
const BEATS: u64 = 200_000;

/// No test of its own: what the test below starts in another process.
#[test]
fn a_child_writes_until_it_is_killed() {
    let Ok(path) = std::env::var(WRITER) else { return };
    let journal = Options::new().segment_bytes(64 << 10).durability(Durability::Os).open(path).unwrap();
    let kind = journal.kind("beat").unwrap();
    for n in 0..BEATS {
        journal.append(Record::new(kind, b"child", &n.to_le_bytes())).unwrap();
        if n == 1000 {
            eprintln!("written");
        }
    }
    // It stays open, whoever is slow to look.
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn a_store_that_another_process_writes_is_looked_at_and_said_to_be_live() {
    let sample = Sample::empty();
    let store = sample.text();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "places::a_child_writes_until_it_is_killed", "--nocapture"])
        .env(WRITER, &store)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.into_iter().any(|line| line == "written"));
    let live = format!("live, writer pid {}", child.id());
    // Two looks at what grows are not the same, and a long walk behind it has no end in sight.
    for command in LOOKS.iter().filter(|command| !command.starts_with("diff")) {
        let done = run(&words(command, &store));
        assert_eq!(done.code, Some(0), "{command}: {}", done.stderr);
        assert!(done.stderr.contains(&live), "{command}: {}", done.stderr);
    }
    let refused = run(&["repair", &store, "--output", sample.directory.path().join("new").to_str().unwrap()]);
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(run(&["verify", &store]).code, Some(0));
}

#[test]
fn a_link_to_a_store_is_the_store() {
    let sample = Sample::new();
    let link = sample.directory.path().join("link");
    symlink(sample.path(), &link).unwrap();
    for command in LOOKS.iter().chain(LOOKS_TOO) {
        let done = run(&words(command, link.to_str().unwrap()));
        assert_eq!((done.code, &*done.stderr), (Some(0), ""), "{command}");
    }
}

/// The tool, run by somebody who is not root.
fn as_nobody(args: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_esker")]);
    command.args(args).stdin(Stdio::null());
    command
}

/// True if tests can be somebody else, and the tool can be run by them; says so if not.
fn can_be_nobody(place: &Path) -> bool {
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o755)).unwrap();
    let can = as_nobody(&["--version"]).output();
    let why = match &can {
        Ok(done) if done.status.success() => return true,
        Ok(done) => String::from_utf8_lossy(&done.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    eprintln!("SKIPPED: the tool is not run as another user: {why}");
    false
}

#[test]
fn a_store_of_another_user_is_looked_at_where_that_is_allowed() {
    let sample = Sample::new();
    if !can_be_nobody(sample.directory.path()) {
        return;
    }
    let store = sample.text();
    let modes = |directory: u32, file: u32| {
        for entry in std::fs::read_dir(sample.path()).unwrap() {
            std::fs::set_permissions(entry.unwrap().path(), std::fs::Permissions::from_mode(file)).unwrap();
        }
        std::fs::set_permissions(sample.path(), std::fs::Permissions::from_mode(directory)).unwrap();
    };
    // Everybody may read, nobody else may write.
    modes(0o755, 0o644);
    for command in LOOKS.iter().chain(LOOKS_TOO) {
        let done = as_nobody(&words(command, &store)).output().unwrap();
        assert_eq!(done.status.code(), Some(0), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    }
    let refused = as_nobody(&["compact", &store, "--execute"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(4), "{}", String::from_utf8_lossy(&refused.stderr));
    // Nobody else may read.
    modes(0o700, 0o600);
    for command in LOOKS.iter().chain(LOOKS_TOO) {
        let done = as_nobody(&words(command, &store)).output().unwrap();
        let stderr = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(4), "{command}: {stderr}");
        assert!(stderr.contains(&store), "{command}: {stderr}");
    }
    // One file cannot be read: what it holds is not known, and that is no pass.
    modes(0o755, 0o644);
    let segment = sample.path().join("0000000001.seg");
    std::fs::set_permissions(segment, std::fs::Permissions::from_mode(0o600)).unwrap();
    let done = as_nobody(&["verify", &store]).output().unwrap();
    let stdout = String::from_utf8(done.stdout).unwrap();
    assert!(matches!(done.status.code(), Some(1)), "{stdout}{}", String::from_utf8_lossy(&done.stderr));
    assert!(stdout.contains("verdict\tincomplete") && stdout.contains("unread\t0000000001.seg"), "{stdout}");
    chown(sample.path(), None, None).unwrap();
}

#[test]
fn a_store_on_a_file_system_for_reading_is_looked_at_and_not_written() {
    let sample = Sample::new();
    let store = sample.text();
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && shift && exec \"$@\"";
    let read_only = |args: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh", &store, env!("CARGO_BIN_EXE_esker")]);
        command.args(args).output()
    };
    let can = read_only(&["--version"]);
    if !can.as_ref().is_ok_and(|done| done.status.success()) {
        eprintln!("SKIPPED: no read-only mount can be made here: {can:?}");
        return;
    }
    for command in LOOKS.iter().chain(LOOKS_TOO) {
        let done = read_only(&words(command, &store)).unwrap();
        let stderr = String::from_utf8(done.stderr).unwrap();
        assert_eq!((done.status.code(), &*stderr), (Some(0), ""), "{command}");
    }
    for refused in
        [["compact", &store, "--execute"].as_slice(), &["cursor", "retire", &store, "audit", "--execute"]]
    {
        let done = read_only(refused).unwrap();
        assert_eq!(done.status.code(), Some(4), "{refused:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
    assert_eq!(on(&["verify"], &store, &[]).code, Some(0));
}
