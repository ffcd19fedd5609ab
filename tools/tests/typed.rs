//! Commands that messages quote can be typed: they call the program by its name, and a shell takes the paths in them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use esker::{Durability, Options, Record, Region, Seq, Start};
use support::{Sample, flip, place};

/// A tool of an application, which is built with the tests and is called `harbour`.
fn own_tool() -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_esker")).with_file_name("examples").join("own_tool");
    assert!(built.is_file(), "build it first: cargo build -p esker-tools --examples");
    built
}

/// What it prints, messages too.
fn harbour(args: &[&str]) -> String {
    let output = Command::new(own_tool()).args(args).stdin(Stdio::null()).output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// Types a command.
fn shell(command: &str) -> bool {
    let line = format!("harbour() {{ \"$0\" \"$@\"; }}; {command}");
    let typed =
        Command::new("bash").args(["-c", &line]).arg(own_tool()).stdin(Stdio::null()).output().unwrap();
    assert!(typed.status.success(), "{command}: {}", String::from_utf8_lossy(&typed.stderr));
    true
}

#[test]
fn what_a_message_tells_to_type_can_be_typed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("it's a store");
    let store = path.to_str().unwrap();
    let options = || Options::new().segment_bytes(16 << 10).durability(Durability::Os);
    let journal = options().open(&path).unwrap();
    let note = journal.kind("a note").unwrap();
    for _ in 0..300 {
        journal.append(Record::new(note, b"k", &[b'x'; 200])).unwrap();
    }
    drop(journal.watch("slow one", Region::all()).unwrap());
    journal.reset_cursor("slow one", Start::After(Seq::new(2).unwrap())).unwrap();
    journal.close().unwrap();

    let quoted = format!("'{}'", store.replace('\'', r"'\''"));
    let export = directory.path().join("an export");
    let export = export.to_str().unwrap();
    for (args, begins) in [
        (&["keep", store, "a note", "nothing"][..], "keep"),
        (&["compact", store], "keep"),
        (&["compact", store], "cursor retire"),
        (&["cursor", "retire", store, "slow one"], "cursor retire"),
        (&["cursor", "reset", store, "slow one", "--to", "newest"], "cursor reset"),
        (&["events", store, "a note"], "dump"),
        (&["state", store], "entities"),
        (&["check", store, "--max-lag", "3"], "cursors"),
    ] {
        let said = harbour(args);
        let command = format!("harbour {begins} {quoted}");
        assert!(said.contains(&command), "{args:?}: no {command:?} in: {said}");
        assert!(!said.contains("esker "), "{args:?}: {said}");
    }
    harbour(&["export", store, "--output", export]);
    assert!(harbour(&["import", store, export]).contains(&format!("harbour import '{export}' {quoted}")));

    let backup = directory.path().join("a backup");
    let backup = backup.to_str().unwrap();
    let said = harbour(&["backup", store, backup]);
    assert!(said.contains(&format!("harbour restore '{backup}' NEW")), "{said}");

    // What is said to be next is done, one behind the other.
    let next = |args: &[&str]| -> String {
        let said = harbour(args);
        let line = said.lines().find_map(|line| line.strip_prefix("next\t"));
        line.unwrap_or_else(|| panic!("{args:?}: {said}")).to_owned()
    };
    shell(&next(&["cursor", "retire", store, "slow one"]));
    assert!(harbour(&["cursors", store]).lines().all(|line| !line.contains("slow one")));
    shell(&next(&["keep", store, "a note", "nothing"]));
    shell(&next(&["compact", store]));
    let floor = options().open(&path).unwrap().view().floor(&Region::all());
    assert!(floor.is_some_and(|floor| floor.get() > 200), "{floor:?}");
}

#[test]
fn what_a_message_tells_of_a_damaged_store_can_be_typed() {
    let sample = Sample::new();
    let path = sample.directory.path().join("-a store");
    std::fs::create_dir(&path).unwrap();
    for file in std::fs::read_dir(sample.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), path.join(file.file_name())).unwrap();
    }
    let (segment, offset) = place(&sample.text(), 280);
    flip(&path, segment, offset + 70);
    // Where the store's path begins with a dash.
    let in_place = |args: &[&str]| -> String {
        let mut command = Command::new(own_tool());
        let output = command.args(args).current_dir(&sample.directory).stdin(Stdio::null()).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    for (args, expected) in [
        (&["verify", "--", "-a store"][..], "harbour repair './-a store' --output NEW"),
        (&["segments", "--", "-a store"], "`harbour verify './-a store'` names them"),
        (&["cursor", "reset", "./-a store", "audit", "--to", "newest"], "harbour verify './-a store'"),
        (&["report", "./-a store", "--output", "page.html"], ""),
        (&["repair", "./-a store", "--output=-new one"], "next\tharbour verify './-new one'"),
    ] {
        let said = in_place(args);
        assert!(said.contains(expected), "{args:?}: no {expected:?} in: {said}");
        assert!(!said.contains("esker "), "{args:?}: {said}");
    }
    let page = std::fs::read_to_string(sample.directory.path().join("page.html")).unwrap();
    let quoted = "&#39;./-a store&#39;";
    assert!(page.contains(&format!("harbour repair {quoted} --output NEW")), "{page}");
}
