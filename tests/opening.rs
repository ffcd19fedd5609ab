//! Opening what cannot be opened: each its own clear error, and nothing is changed by a refusal.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed, which is what it is for"
)]

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use esker::{Check, Error, ErrorKind, Journal, Options, Record, Verdict, verify};

fn options() -> Options {
    Options::new().segment_bytes(4096).background(false)
}

/// A store with a few segments, closed.
fn store_in(path: &Path) {
    let journal = options().open(path).unwrap();
    let kind = journal.kind("note").unwrap();
    for n in 0..60_u8 {
        journal.append(Record::new(kind, &[n % 5 + 1], &[n; 100])).unwrap();
    }
    journal.close().unwrap();
}

/// What a directory holds: names, kinds of files, lengths, content, and when it was changed.
fn image(path: &Path) -> BTreeMap<PathBuf, (u32, u64, Vec<u8>)> {
    let entries = std::fs::read_dir(path).unwrap().map(Result::unwrap);
    let describe = |entry: std::fs::DirEntry| {
        let metadata = entry.path().symlink_metadata().unwrap();
        let content = if metadata.is_file() { std::fs::read(entry.path()).unwrap() } else { Vec::new() };
        (entry.path(), (metadata.mode(), metadata.ino(), content))
    };
    entries.map(describe).collect()
}

/// Opens what must be refused, and checks that the refusal changed nothing.
fn refused(path: &Path) -> Error {
    let before = image(path);
    let error = options().open(path).unwrap_err();
    assert!(image(path) == before, "{error}: the refusal changed the directory");
    let again = options().open_existing(path).unwrap_err();
    assert_eq!(again.kind(), error.kind());
    assert!(image(path) == before, "{error}: the refusal changed the directory");
    error
}

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("a.esker");
    (scratch, path)
}

fn crc_of(bytes: &[u8]) -> u32 {
    // The checksum of headers, bit by bit: CRC-32 as in IEEE 802.3.
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// Changes a header, and makes its checksum right again.
fn change_header(path: &Path, change: impl FnOnce(&mut [u8])) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes[..124]);
    let crc = crc_of(&bytes[..124]);
    bytes[124..128].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn what_is_not_a_directory_and_what_is_not_there() {
    let (scratch, path) = scratch();
    std::fs::write(&path, b"a file").unwrap();
    assert_eq!(options().open(&path).unwrap_err().kind(), ErrorKind::NotADirectory);
    assert_eq!(verify(&path, Check::Full).unwrap_err().kind(), ErrorKind::NotADirectory);
    assert_eq!(std::fs::read(&path).unwrap(), b"a file");
    let missing = scratch.path().join("missing");
    assert_eq!(options().open_existing(&missing).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(verify(&missing, Check::Quick).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!missing.exists());
    // The parent of a store has to be there.
    assert!(options().open(missing.join("store")).is_err() && !missing.exists());
}

#[test]
fn a_directory_of_other_files_is_not_a_store() {
    let (_scratch, path) = scratch();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(options().open_existing(&path).unwrap_err().kind(), ErrorKind::NotAStore);
    assert_eq!(verify(&path, Check::Full).unwrap_err().kind(), ErrorKind::NotAStore);
    assert!(image(&path).is_empty());
    std::fs::write(path.join("letter.txt"), b"dear").unwrap();
    let error = refused(&path);
    assert_eq!(error.kind(), ErrorKind::NotAStore);
    assert!(error.to_string().contains("letter.txt"), "{error}");
}

#[test]
fn an_empty_directory_becomes_a_store_and_a_store_is_not_made_twice() {
    let (_scratch, path) = scratch();
    std::fs::create_dir(&path).unwrap();
    options().create(&path).unwrap().close().unwrap();
    assert_eq!(options().create(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    options().open_existing(&path).unwrap();
}

#[test]
fn a_newer_format_is_refused_by_every_file_that_can_say_so_and_never_called_corrupt() {
    #[allow(clippy::type_complexity, reason = "a list of changes, read once")]
    let changes: [(&str, fn(&mut [u8])); 2] = [
        ("a later version", |header| header[10] = 2),
        ("an unknown incompatible feature", |header| header[20] |= 0x40),
    ];
    for (what, change) in changes {
        for file in ["MANIFEST", "0000000001.seg"] {
            let (_scratch, path) = scratch();
            let journal = options().open(&path).unwrap();
            journal.close().unwrap();
            change_header(&path.join(file), change);
            let error = refused(&path);
            assert_eq!(error.kind(), ErrorKind::FormatTooNew, "{what} in {file}: {error}");
            assert!(error.expected().is_some() && error.actual().is_some(), "{error}");
            let error = verify(&path, Check::Full).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::FormatTooNew, "{what} in {file}: {error}");
        }
    }
}

#[test]
fn a_feature_that_forbids_writing_is_refused_by_a_writer() {
    let (_scratch, path) = scratch();
    store_in(&path);
    change_header(&path.join("MANIFEST"), |header| header[16] |= 0x80);
    assert_eq!(refused(&path).kind(), ErrorKind::FormatTooNew);
    assert_eq!(verify(&path, Check::Full).unwrap().verdict, Verdict::Valid);
}

#[test]
fn one_damaged_bit_in_a_version_is_damage_and_not_a_newer_format() {
    let (_scratch, path) = scratch();
    store_in(&path);
    let file = path.join("MANIFEST");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[10] ^= 8;
    std::fs::write(&file, bytes).unwrap();
    assert_eq!(refused(&path).kind(), ErrorKind::Corrupt);
    let found = verify(&path, Check::Full).unwrap();
    assert!(found.findings.iter().any(|finding| finding.file == "MANIFEST"), "{found:#?}");
}

#[test]
fn a_store_without_its_manifest_is_never_taken_for_a_new_one() {
    let (_scratch, path) = scratch();
    let journal = options().segment_bytes(1 << 20).open(&path).unwrap();
    let kind = journal.kind("note").unwrap();
    journal.append(Record::new(kind, b"a", b"precious")).unwrap();
    journal.close().unwrap();
    std::fs::remove_file(path.join("MANIFEST")).unwrap();
    assert_eq!(refused(&path).kind(), ErrorKind::Corrupt);
    std::fs::remove_file(path.join("0000000001.idx")).unwrap();
    assert_eq!(refused(&path).kind(), ErrorKind::Corrupt);
}

#[test]
fn zeros_ones_and_half_of_a_segment_are_no_log() {
    for (filler, from) in [(0, 0), (0xff, 0), (0, 1), (0xff, 1)] {
        let (_scratch, path) = scratch();
        store_in(&path);
        let file = path.join("0000000002.seg");
        let mut bytes = std::fs::read(&file).unwrap();
        let from = bytes.len() / 2 * from;
        bytes[from..].fill(filler);
        std::fs::write(&file, &bytes).unwrap();
        // The index covers the segment, so that opening need not read it: reading does.
        for name in image(&path).keys().filter(|name| name.extension().is_some_and(|e| e == "idx")) {
            std::fs::remove_file(name).unwrap();
        }
        let error = refused(&path);
        assert_eq!((error.kind(), error.segment()), (ErrorKind::Corrupt, Some(2)), "{error}");
        let found = verify(&path, Check::Full).unwrap();
        assert_eq!(found.verdict, Verdict::Invalid);
        assert!(found.findings.iter().any(|finding| finding.segment == Some(2) && finding.lost.is_some()));
    }
}

#[test]
fn foreign_files_beside_a_store_are_left_alone() {
    let (_scratch, path) = scratch();
    store_in(&path);
    for name in
        ["notes.txt", "9999999999.seg", "12.seg", "0000000001.seg.tmp", "MANIFEST.bak", "0000000000.seg"]
    {
        std::fs::write(path.join(name), b"mine").unwrap();
    }
    std::fs::create_dir(path.join("directory")).unwrap();
    let journal = options().open(&path).unwrap();
    let kind = journal.kind("note").unwrap();
    journal.append(Record::new(kind, b"a", b"b")).unwrap();
    journal.close().unwrap();
    for name in ["notes.txt", "9999999999.seg", "12.seg", "MANIFEST.bak"] {
        assert_eq!(std::fs::read(path.join(name)).unwrap(), b"mine", "{name}");
    }
    let found = verify(&path, Check::Full).unwrap();
    assert!(found.findings.iter().any(|finding| finding.file == "notes.txt"), "{:#?}", found.findings);
}

#[test]
fn links_pipes_and_devices_under_a_stores_names_are_refused_without_hanging() {
    for name in ["LOCK", "MANIFEST", "0000000001.seg", "0000000002.seg"] {
        for planted in ["symlink", "fifo", "directory", "socket", "device"] {
            let (scratch, path) = scratch();
            store_in(&path);
            let (file, away) = (path.join(name), scratch.path().join("away"));
            std::fs::copy(&file, &away).unwrap();
            std::fs::remove_file(&file).unwrap();
            match planted {
                "symlink" => symlink(&away, &file).unwrap(),
                "fifo" => assert!(Command::new("mkfifo").arg(&file).status().unwrap().success()),
                "directory" => std::fs::create_dir(&file).unwrap(),
                "socket" => drop(std::os::unix::net::UnixListener::bind(&file).unwrap()),
                _ => {
                    let made =
                        Command::new("mknod").arg(&file).args(["c", "1", "5"]).stderr(Stdio::null()).status();
                    if !made.unwrap().success() {
                        // Only root makes devices; the others plant a link to one.
                        symlink("/dev/zero", &file).unwrap();
                    }
                }
            }
            let error = refused(&path);
            let clear = [ErrorKind::Io, ErrorKind::Corrupt, ErrorKind::PermissionDenied];
            assert!(clear.contains(&error.kind()), "{planted} as {name}: {error}");
            assert!(error.path().unwrap().ends_with(name), "{planted} as {name}: {error}");
            let kind = file.symlink_metadata().unwrap().file_type();
            assert!(
                kind.is_symlink()
                    || kind.is_fifo()
                    || kind.is_dir()
                    || kind.is_socket()
                    || kind.is_char_device()
            );
            let found = verify(&path, Check::Full).unwrap();
            assert_eq!(found.verdict, Verdict::Invalid, "{planted} as {name}");
            assert!(found.findings.iter().any(|finding| finding.file == name), "{planted} as {name}");
        }
    }
}

#[test]
fn a_planted_derived_file_is_passed_over() {
    for name in ["entities", "0000000001.idx"] {
        for planted in ["symlink", "fifo", "directory"] {
            let (scratch, path) = scratch();
            store_in(&path);
            let file = path.join(name);
            let _ = std::fs::remove_file(&file);
            match planted {
                "symlink" => symlink(scratch.path().join("nowhere"), &file).unwrap(),
                "fifo" => assert!(Command::new("mkfifo").arg(&file).status().unwrap().success()),
                _ => std::fs::create_dir(&file).unwrap(),
            }
            let journal = options().open(&path).unwrap();
            assert_eq!(journal.view().range(..).map(Result::unwrap).count(), 60, "{planted} as {name}");
        }
    }
}

/// A hard link is a second name of a file: whoever holds it can write into the log.
#[test]
fn a_hard_linked_segment_is_read_and_not_written_through() {
    let (scratch, path) = scratch();
    options().open(&path).unwrap().close().unwrap();
    std::fs::hard_link(path.join("0000000001.seg"), scratch.path().join("second-name")).unwrap();
    let before = std::fs::read(scratch.path().join("second-name")).unwrap();
    let journal = options().open(&path).unwrap();
    let error = journal.kind("note").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(error.to_string().contains("hard link"), "{error}");
    assert_eq!(std::fs::read(scratch.path().join("second-name")).unwrap(), before);
}

/// Runs one test of this file as another process, with its store in the environment.
fn child(test: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--ignored", "--nocapture"]).env("ESKER_TEST_STORE", path);
    command
}

fn store_from_environment() -> PathBuf {
    PathBuf::from(std::env::var_os("ESKER_TEST_STORE").unwrap())
}

#[test]
#[ignore = "run by another test, as a process of its own"]
fn child_opens_and_says_what_came_of_it() {
    use std::io::{Read, Write};
    match options().open(store_from_environment()) {
        Ok(journal) => {
            println!("outcome opened");
            std::io::stdout().flush().unwrap();
            // Held until whoever started us says so.
            let _ = std::io::stdin().read(&mut [0]);
            journal.close().unwrap();
        }
        Err(error) => println!("outcome {:?} {error}", error.kind()),
    }
}

fn outcome_of(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let line =
        text.lines().find_map(|line| line.split_once("outcome ").map(|(_, outcome)| outcome.to_owned()));
    line.unwrap_or_else(|| panic!("no outcome in {text}"))
}

const OPENS: &str = "child_opens_and_says_what_came_of_it";

#[test]
fn a_store_is_held_by_one_handle_of_this_process_and_the_refusal_names_it() {
    let (scratch, path) = scratch();
    let journal = options().open(&path).unwrap();
    let link = scratch.path().join("link");
    symlink(&path, &link).unwrap();
    for route in [&path, &link, &path.join("../a.esker")] {
        let error = options().open(route).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked);
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    }
    journal.close().unwrap();
    options().open(&link).unwrap().close().unwrap();
}

#[test]
fn a_store_is_held_by_one_process() {
    let (_scratch, path) = scratch();
    let journal = options().open(&path).unwrap();
    let kind = journal.kind("note").unwrap();
    journal.append(Record::new(kind, b"a", b"b")).unwrap();
    let outcome = outcome_of(&child(OPENS, &path).stdin(Stdio::null()).output().unwrap().stdout);
    assert!(outcome.starts_with("Locked"), "{outcome}");
    assert!(outcome.contains(&format!("process {}", std::process::id())), "{outcome}");
    journal.close().unwrap();
    let outcome = outcome_of(&child(OPENS, &path).stdin(Stdio::null()).output().unwrap().stdout);
    assert_eq!(outcome, "opened");
}

#[test]
fn a_lock_file_that_was_deleted_does_not_let_a_second_writer_in() {
    let (_scratch, path) = scratch();
    let first = options().open(&path).unwrap();
    let kind = first.kind("note").unwrap();
    first.append(Record::new(kind, b"a", b"1")).unwrap();
    std::fs::remove_file(path.join("LOCK")).unwrap();
    for _ in 0..2 {
        // The second try finds the lock file that the first one made.
        assert_eq!(options().open(&path).unwrap_err().kind(), ErrorKind::Locked);
        let outcome = outcome_of(&child(OPENS, &path).stdin(Stdio::null()).output().unwrap().stdout);
        assert!(outcome.starts_with("Locked"), "{outcome}");
    }
    first.append(Record::new(kind, b"a", b"2")).unwrap();
    first.close().unwrap();
    let journal = options().open(&path).unwrap();
    assert_eq!(journal.view().range(..).map(Result::unwrap).count(), 2);
}

#[test]
fn of_many_processes_that_race_for_a_store_exactly_one_wins() {
    use std::io::{BufRead, BufReader};
    for made_before in [true, false] {
        let (_scratch, path) = scratch();
        if made_before {
            store_in(&path);
        }
        let start = |_| child(OPENS, &path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut racers: Vec<_> = (0..24).map(start).collect();
        let outcomes = racers.iter_mut().map(|racer| {
            let lines = BufReader::new(racer.stdout.take().unwrap()).lines();
            let found = lines.map_while(Result::ok).find(|line| line.contains("outcome "));
            outcome_of(found.unwrap_or_default().as_bytes())
        });
        let outcomes: Vec<String> = outcomes.collect();
        let winners = outcomes.iter().filter(|outcome| *outcome == "opened").count();
        assert_eq!(winners, 1, "{outcomes:#?}");
        assert!(
            outcomes.iter().all(|outcome| outcome == "opened" || outcome.starts_with("Locked")),
            "{outcomes:#?}"
        );
        for mut racer in racers {
            drop(racer.stdin.take());
            racer.wait().unwrap();
        }
        options().open(&path).unwrap();
    }
}

#[test]
fn without_permission_nothing_is_opened_and_the_error_says_so() {
    let (scratch, path) = scratch();
    store_in(&path);
    std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let closed = path.join("0000000002.seg");
    let outcome = |command: &mut Command| outcome_of(&command.stdin(Stdio::null()).output().unwrap().stdout);
    let is_root = std::fs::metadata(&path).unwrap().uid() == 0;
    let before = image(&path);
    if is_root {
        // Modes do not bind root: somebody else has to ask. Their own copy of the test, because
        // they need not be able to reach ours.
        let program = scratch.path().join("test");
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        command.args([OPENS, "--exact", "--ignored", "--nocapture"]).env("ESKER_TEST_STORE", &path);
        let said = outcome(&mut command);
        assert!(said.starts_with("PermissionDenied"), "{said}");
    } else {
        std::fs::set_permissions(path.join("LOCK"), std::fs::Permissions::from_mode(0o400)).unwrap();
        let said = outcome(&mut child(OPENS, &path));
        assert!(said.starts_with("PermissionDenied"), "{said}");
        std::fs::set_permissions(path.join("LOCK"), std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
        assert_eq!(verify(&path, Check::Full).unwrap().verdict, Verdict::Incomplete);
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert!(image(&path) == before);
}

#[test]
fn files_and_directories_are_their_owners_alone() {
    let (_scratch, path) = scratch();
    store_in(&path);
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    for name in image(&path).keys() {
        assert_eq!(std::fs::metadata(name).unwrap().mode() & 0o777, 0o600, "{}", name.display());
    }
    let _: fn() -> esker::Result<Journal> = Journal::in_memory;
}

#[test]
fn a_directory_that_others_may_write_to_is_refused_where_that_is_asked_for_and_untouched() {
    let (_scratch, path) = scratch();
    store_in(&path);
    let careful = || Options::new().refuse_shared_directory(true).open(&path);
    careful().unwrap().close().unwrap();
    for mode in [0o770, 0o720, 0o702, 0o1777] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let before = image(&path);
        let error = careful().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{mode:o}: {error}");
        assert!(error.to_string().contains(&format!("mode {mode:04o}")), "{error}");
        assert_eq!(image(&path), before);
        // Who does not ask is not refused.
        Options::new().open(&path).unwrap().close().unwrap();
    }
    // What others may read they cannot replace.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    careful().unwrap().close().unwrap();
}
