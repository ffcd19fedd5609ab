//! Every line of every command with `--json` is as `esker schema` says, on stores of every kind.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[path = "../examples/harbour.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, of which only the store is wanted")]
mod harbour;
#[path = "support/schema.rs"]
mod schema;
#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;
#[path = "plane/world.rs"]
#[allow(dead_code, reason = "shared with the tests of the backplane")]
mod world;

use std::collections::BTreeSet;
use std::path::Path;

use esker::{Keep, Kind, Region, Seq, Start};
use serde_json::{Value, json};
use support::{Sample, flip, place, run};
use world::{
    All, NUMBERS, Other, World, append, done, failing, keeps_for_folds, leave_the_segment, options, save,
};

/// All commands that answer in JSON lines, with `STORE` for the store and `NEW` for a place that is not there.
/// A new command comes here with a line, and its new types with a file each in `tools/src/schema`.
const COMMANDS: &[&str] = &[
    "info STORE",
    "segments STORE",
    "kinds STORE",
    "entities STORE --top 3",
    "dump STORE",
    "dump STORE --system --payload hex",
    "dump STORE --payload text --reverse",
    "get STORE 1 5..9 600 99999",
    "hex STORE 1 --limit 3",
    "hex STORE 4 --limit 3",
    "stats STORE",
    "cursors STORE --max-lag 1 --max-age 1s --max-bytes 1",
    "cursor list STORE",
    "cursor reset STORE audit --to oldest",
    "cursor reset STORE billing --to newest",
    "cursor retire STORE audit",
    "verify STORE",
    "verify STORE --quick",
    "verify STORE --decode",
    "repair STORE --output NEW",
    "backup STORE NEW",
    "backup STORE NEW --verify",
    "restore BACKUP NEW",
    "compact STORE",
    "compact STORE --thorough --execute",
    "keep STORE note latest",
    "keep STORE position all",
    "export STORE",
    "export STORE --output NEW",
    "import EXPORT NEW",
    "diff STORE OTHER",
    "diff STORE OTHER --limit 2",
    "diff STORE OTHER --all",
    "state STORE vessel/*",
    "state STORE vessel/Ada --sources",
    "state STORE buoy/north --sources --at 99999999",
    "sources STORE",
    "events STORE buoy --synthetic --before",
    "topics STORE",
    "topics STORE --halted",
    "cells STORE --internal",
    "lives STORE",
    "consumers STORE --max-lag 0 --max-age 1s",
    "consumer parked STORE ship",
    "consumer dead STORE audit",
    "consumer retry STORE ship --all",
    "consumer discard STORE ship --all",
    "consumer resume STORE ship",
    "consumer retire STORE ship",
    "report STORE --output NEW",
    "check STORE --max-lag 0 --max-age 1s --max-bytes 0 --format json",
    "upgrade STORE --output NEW",
    "explain",
    "explain locked",
];

/// Commands that print no JSON lines: scripts, pages, and the schema itself.
const NO_LINES: &[&str] = &["completions", "man", "schema", "help"];

/// A store with what stands on the backplane, and a kind that has events.
fn on_the_backplane() -> World {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Buoy {
        depth: u64,
    }
    const BUOY: Kind<Buoy> = Kind::new("buoy").events();
    let world = World::new();
    let store = world.store();
    let last = append(&store, "a", 1..=9);
    save::<All>(&store, "a");
    append(&store, "b", 1..=9);
    drop(world::fold::<Other>(&store, "a"));
    keeps_for_folds(&store);
    store.cells().cell::<u64>("limit").unwrap().update(|_| Ok(Some(3))).unwrap();
    let topic = store.topic(NUMBERS, "a").unwrap();
    done(&topic.on_event("ship", options().max_attempts(1).park(), failing(7)).unwrap(), last);
    done(&topic.on_event("audit", options().max_attempts(1), failing(7)).unwrap(), last);
    append(&store, "a", [10]);
    let radar = store.source("radar").unwrap();
    for depth in [7, 8] {
        radar.assert(BUOY, "north", &Buoy { depth }).unwrap();
        store.flush().unwrap();
    }
    leave_the_segment(&store);
    drop(radar);
    store.close().unwrap();
    world
}

fn document() -> Value {
    let printed = run(&["schema"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    serde_json::from_str(&printed.stdout).unwrap()
}

/// Runs everything on a store; answers the types of lines that came.
fn run_all(store: &Path, other: &Path, document: &Value) -> BTreeSet<String> {
    let directory = tempfile::tempdir().unwrap();
    let [store, other] = [store, other].map(|path| path.to_str().unwrap().to_owned());
    let made = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (backup, export) = (made("backup"), made("export"));
    run(&["backup", &store, &backup]);
    run(&["export", &store, "--output", &export]);
    let mut types = BTreeSet::new();
    for (nth, command) in COMMANDS.iter().enumerate() {
        let new = made(&format!("new-{nth}"));
        let words = command.split(' ').map(|word| match word {
            "STORE" => store.as_str(),
            "OTHER" => other.as_str(),
            "NEW" => new.as_str(),
            "BACKUP" => backup.as_str(),
            "EXPORT" => export.as_str(),
            word => word,
        });
        let words: Vec<&str> = words.chain(["--json"]).collect();
        let answer = run(&words);
        assert!(!matches!(answer.code, None | Some(101)), "{command}: {}", answer.stderr);
        for line in answer.stdout.lines() {
            types.insert(check(command, line, document));
        }
    }
    types
}

/// Looks at one line; answers its type.
fn check(command: &str, line: &str, document: &Value) -> String {
    let value: Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{command}: {error}: {line}"));
    let what = value["type"].as_str().unwrap_or_else(|| panic!("{command}: no type: {line}")).to_owned();
    let known = &document["$defs"][&what];
    assert!(
        known.is_object(),
        "{command}: lines of type {what:?} have no file tools/src/schema/{what}.json: {line}"
    );
    let faults = schema::faults(known, &value, document);
    assert!(faults.is_empty(), "{command}: not as tools/src/schema/{what}.json says: {faults:#?}\n{line}");
    let faults = schema::faults(document, &value, document);
    assert!(faults.is_empty(), "{command}: {faults:#?}\n{line}");
    what
}

/// Notes something of a cursor and of a kind, and damages both frames.
fn spoil_what_is_noted(sample: &Sample) {
    let journal = sample.open();
    journal.keep(journal.kind("note").unwrap(), Keep::Latest).unwrap();
    sample.put(&journal, "late", Region::all(), Start::After(Seq::new(200).unwrap()));
    journal.close().unwrap();
    let frames = run(&["dump", &sample.text(), "--system", "--json"]).of_type("system");
    for operation in ["kind", "cursor"] {
        let last = frames.iter().rfind(|frame| frame["operation"] == operation).unwrap();
        let (segment, offset) = last["position"].as_str().unwrap().split_once(':').unwrap();
        flip(&sample.path(), segment.parse().unwrap(), offset.parse::<u64>().unwrap() + 33);
    }
}

#[test]
fn every_line_of_every_command_is_as_the_schema_says() {
    let document = document();
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("harbour.esker");
    harbour::make(&state).unwrap();
    let (facts, empty, damaged) = (Sample::new(), Sample::empty(), Sample::new());
    empty.open().close().unwrap();
    spoil_what_is_noted(&damaged);
    // A frame's content, a frame's header, and a private codec's bytes under a codec that stores name.
    let (segment, offset) = place(&damaged.text(), 5);
    flip(&damaged.path(), segment, offset + 70);
    let (segment, offset) = place(&damaged.text(), 140);
    flip(&damaged.path(), segment, offset + 8);
    std::fs::write(damaged.path().join("stray"), "x").unwrap();

    let mut types = run_all(&facts.path(), &damaged.path(), &document);
    types.extend(run_all(&empty.path(), &facts.path(), &document));
    types.extend(run_all(&damaged.path(), &state, &document));
    types.extend(run_all(&state, &facts.path(), &document));
    types.extend(run_all(Path::new(&on_the_backplane().path()), &empty.path(), &document));
    // What a follower prints that is overtaken, the test of that holds against its schema.
    let all: BTreeSet<String> = document["$defs"].as_object().unwrap().keys().cloned().collect();
    let unseen: Vec<&String> = all.difference(&types).filter(|what| *what != "gap").collect();
    assert!(unseen.is_empty(), "no command here prints lines of the types {unseen:?}");
}

#[test]
fn every_command_of_the_tool_is_looked_at() {
    let help = run(&["--help"]).stdout;
    let commands = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let names = commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: Vec<&str> = names.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() > 20, "{help}");
    for name in names {
        let is_looked_at = COMMANDS.iter().any(|command| command.split(' ').next() == Some(name));
        assert!(is_looked_at || NO_LINES.contains(&name), "tools/tests/schema.rs does not run {name:?}");
    }
}

#[test]
fn a_line_that_is_not_as_the_schema_says_is_refused() {
    let document = document();
    let good = json!({ "type": "lost", "first_seq": 1, "last_seq": 2, "entries": 2 });
    assert!(schema::faults(&document, &good, &document).is_empty());
    let wrongs = [
        json!({ "type": "lost", "first_seq": 1, "entries": 2 }),
        json!({ "type": "lost", "first_seq": 1, "last_seq": "2", "entries": 2 }),
        json!({ "type": "lost", "first_seq": 1, "last_seq": -2, "entries": 2 }),
        json!({ "type": "lost", "first_seq": 1, "last_seq": 2, "entries": 2, "more": 3 }),
        json!({ "type": "found", "first_seq": 1, "last_seq": 2, "entries": 2 }),
        json!({ "first_seq": 1, "last_seq": 2 }),
        json!([]),
    ];
    for wrong in wrongs {
        assert!(!schema::faults(&document, &wrong, &document).is_empty(), "{wrong}");
    }
}

#[test]
fn the_schema_of_one_type_is_asked_for_by_name() {
    let one = run(&["schema", "--type", "lost"]);
    let schema: Value = serde_json::from_str(&one.stdout).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["properties"]["type"], json!({ "const": "lost" }));
    let unknown = run(&["schema", "--type", "found"]);
    assert_eq!((unknown.code, &*unknown.stdout), (Some(2), ""));
    assert!(unknown.stderr.contains("there are: header, store"), "{}", unknown.stderr);
}
