//! `lives`: each opening by a writer, and how it ended.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;

use std::path::Path;

use esker::{BackupBy, CompactOptions, Journal, Keep, Record};
use serde_json::Value;
use support::{ENTRIES, Sample, flip, run};

fn lives(store: &str) -> Vec<Value> {
    run(&["lives", store, "--json"]).of_type("life")
}

fn append(journal: &Journal, count: u64) {
    let note = journal.kind("note").unwrap();
    for _ in 0..count {
        journal.append(Record::new(note, b"k", b"{}")).unwrap();
    }
}

/// The store as it is now, somewhere else: what is left of it after a kill.
fn copy(store: &Path, name: &str) -> String {
    let to = store.with_file_name(name);
    std::fs::create_dir(&to).unwrap();
    for file in std::fs::read_dir(store).unwrap() {
        let file = file.unwrap();
        // The store's own thread finishes files meanwhile: one under a temporary name is no part of it.
        if file.path().extension().is_none_or(|end| end != "tmp") {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
    to.to_str().unwrap().to_owned()
}

#[test]
fn each_opening_is_told_with_its_process_what_it_wrote_and_how_it_ended() {
    let sample = Sample::new();
    sample.open().close().unwrap();
    let journal = sample.open();
    append(&journal, 3);
    let killed = copy(&sample.path(), "killed");
    let here = lives(&sample.text());
    // An opening that appended nothing has left nothing.
    assert_eq!(here.len(), 2, "{here:?}");
    let (first, second) = (&here[0], &here[1]);
    let pid = std::process::id();
    assert_eq!(
        (&first["number"], &first["pid"], &first["ended"]),
        (&1.into(), &pid.into(), &"closed".into())
    );
    assert_eq!(
        (&first["first_seq"], &first["last_seq"], &first["entries"]),
        (&1.into(), &ENTRIES.into(), &ENTRIES.into())
    );
    assert_eq!(
        (&second["ended"], &second["pid"], &second["entries"]),
        (&"open".into(), &pid.into(), &3.into())
    );
    assert_eq!((&second["first_seq"], &second["last_seq"]), (&(ENTRIES + 1).into(), &(ENTRIES + 3).into()));
    assert_eq!(second["previous_life"], first["life"]);
    assert!(second["host"].is_string() && first["host"].is_null(), "the log holds no host: {here:?}");
    journal.close().unwrap();
    let ended: Vec<_> = lives(&sample.text()).iter().map(|life| life["ended"].clone()).collect();
    assert_eq!(ended, ["closed", "closed"]);

    assert_eq!(lives(&killed)[1]["ended"], "crashed");
    let journal = Journal::open(&killed).unwrap();
    append(&journal, 1);
    journal.close().unwrap();
    let after = lives(&killed);
    let ended: Vec<_> = after.iter().map(|life| life["ended"].as_str().unwrap()).collect();
    assert_eq!(ended, ["closed", "crashed", "closed"]);
    assert_eq!(after[2]["previous_life"], after[1]["life"]);
    let table = run(&["lives", &killed]);
    let rows = table.rows();
    assert_eq!((table.code, rows.len()), (Some(0), 3));
    assert_eq!((rows[1][0], rows[1][9]), ("2", "crashed"));
}

#[test]
fn what_compaction_has_dropped_of_a_life_and_what_is_damaged_is_not_known() {
    let sample = Sample::new();
    let journal = sample.open();
    journal.retire_cursor("audit").unwrap();
    journal.keep(journal.kind("note").unwrap(), Keep::Latest).unwrap();
    append(&journal, 200);
    journal.compact(&CompactOptions::new().thorough(true)).unwrap();
    journal.close().unwrap();
    let kept = lives(&sample.text());
    assert_eq!(
        (&kept[0]["pid"], &kept[0]["opened"], &kept[0]["previous_life"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert!(kept[0]["entries"].as_u64().unwrap() > 50 && kept[0]["first_seq"].is_u64(), "{kept:?}");
    assert_eq!(kept.last().unwrap()["ended"], "closed");

    let sample = Sample::new();
    append(&sample.open(), 1);
    let frames = run(&["dump", &sample.text(), "--system", "--json"]).of_type("system");
    let closed = frames.iter().find(|frame| frame["operation"] == "closed").unwrap();
    let (segment, offset) = closed["position"].as_str().unwrap().split_once(':').unwrap();
    flip(&sample.path(), segment.parse().unwrap(), offset.parse::<u64>().unwrap() + 33);
    let damaged = run(&["lives", &sample.text(), "--json"]);
    assert_eq!(damaged.code, Some(1), "{}", damaged.stdout);
    assert_eq!(damaged.of_type("life")[0]["ended"], "unknown", "{}", damaged.stdout);
    assert_eq!(damaged.of_type("finding").len(), 1);
}

#[test]
fn how_a_life_ended_is_not_known_where_a_backup_was_made_of_it() {
    let sample = Sample::new();
    let journal = sample.open();
    append(&journal, 3);
    let [backup, restored] =
        ["backup", "restored"].map(|name| sample.directory.path().join(name).to_str().unwrap().to_owned());
    journal.backup(&backup, BackupBy::Copy).unwrap();
    append(&journal, 2);
    journal.close().unwrap();
    assert_eq!(run(&["restore", &backup, &restored]).code, Some(0));
    let ended = |store: &str| -> Vec<String> {
        lives(store).iter().map(|life| life["ended"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ended(&sample.text()), ["closed", "closed"]);
    assert_eq!(ended(&backup), ["closed", "unknown"]);
    assert_eq!(ended(&restored), ["closed", "unknown"]);

    // What was written behind the restore is known again.
    let journal = Journal::open(&restored).unwrap();
    append(&journal, 1);
    assert_eq!(ended(&restored), ["closed", "unknown", "open"]);
    let killed = copy(Path::new(&restored), "killed");
    drop(journal);
    assert_eq!(ended(&killed), ["closed", "unknown", "crashed"]);
}

#[test]
fn the_word_is_explained() {
    let told = run(&["explain", "lives"]);
    assert!(
        told.code == Some(0) && told.stdout.contains("esker lives PATH"),
        "{}{}",
        told.stdout,
        told.stderr
    );
}
