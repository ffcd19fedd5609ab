//! Stores with live state: what the tool shows of rows, and that none is lost on the way through an export.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;

use std::path::Path;
use std::time::Duration;

use esker::{
    Closing, Kind, Liveness, Options, Patch, SESSIONS, SourceInfo, SourceOptions, Status, Store, Window,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use support::run;

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Vessel {
    name: String,
    knots: f32,
}

const VESSEL: Kind<Vessel> = Kind::new("vessel");

fn open(path: &Path) -> Store {
    Store::over(Options::new().window(Window::Manual).open(path).unwrap())
}

/// Rows of two sources: created, updated, deleted, re-created, and one of which only the sources changed.
fn harbour(path: &Path) {
    let store = open(path);
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    let say = |name: &str, knots| {
        radar.assert_with(VESSEL, name, &Vessel { name: name.into(), knots }, b"seen").unwrap();
        store.flush().unwrap();
    };
    say("Ada", 1.0);
    say("Grace", 1.0);
    say("Ada", 2.0);
    pilot.patch(VESSEL, "Ada", &Patch::new()).unwrap();
    store.flush().unwrap();
    radar.retract(VESSEL, "Grace").unwrap();
    store.flush().unwrap();
    say("Grace", 3.0);
    say("Ada", 4.0);
    radar.retract(VESSEL, "Grace").unwrap();
    store.flush().unwrap();
    drop((radar, pilot));
    store.close().unwrap();
}

#[test]
fn rows_come_back_from_an_export_as_they_were_and_are_written_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (store, again, file) = (path("harbour.esker"), path("again.esker"), path("lines.jsonl"));
    harbour(Path::new(&store));
    let exported = run(&["export", &store]);
    assert_eq!(exported.code, Some(0), "{}", exported.stderr);
    std::fs::write(&file, &exported.stdout).unwrap();
    let made = run(&["import", &file, &again]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert_eq!(run(&["verify", &again]).code, Some(0));
    let equal = run(&["diff", &store, &again]);
    assert_eq!((equal.code, equal.rows()[0][1]), (Some(0), "equal"), "{}", equal.stdout);

    let imported = open(Path::new(&again));
    let row = imported.get(VESSEL, "Ada").unwrap().unwrap();
    assert_eq!((row.version(), row.value().unwrap().knots), (3, 4.0));
    assert_eq!(row.sources().ids().collect::<Vec<_>>(), [0, 1]);
    assert_eq!(imported.status(VESSEL, "Grace").unwrap(), Status::Tombstone { version: 4 });
    let radar = imported.source("radar").unwrap();
    assert_eq!(radar.id(), 0, "names have the numbers that they had");
    radar.retract(VESSEL, "Ada").unwrap();
    imported.flush().unwrap();
    let left = imported.get(VESSEL, "Ada").unwrap().unwrap();
    assert_eq!((left.version(), left.sources().bits()), (3, 0b10), "the pilot says that it is there");
}

#[test]
fn deadlines_of_sources_and_who_came_and_went_come_back_from_an_export_and_are_shown() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (store, again, file) = (path("harbour.esker"), path("again.esker"), path("lines.jsonl"));
    let mortal = SourceOptions::new().liveness(Liveness::Deadline(Duration::from_secs(30)));
    {
        let store = open(Path::new(&store));
        let sources = ["radar", "pilot"].map(|name| store.source_with(name, mortal).unwrap());
        let ada = Vessel { name: "Ada".into(), knots: 1.0 };
        sources.iter().for_each(|source| drop(source.assert(VESSEL, "Ada", &ada).unwrap()));
        sources[1].close(Closing::Preserve).unwrap();
        store.close().unwrap();
    }
    let exported = run(&["export", &store]).stdout;
    std::fs::write(&file, &exported).unwrap();
    let made = run(&["import", &file, &again]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert_eq!(run(&["diff", &store, &again]).rows()[0][1], "equal");
    let shown = run(&["info", &again]).stdout;
    assert!(shown.contains("2 (0 radar, deadline 30s, 1 pilot, deadline 30s, settled)"), "{shown}");

    let imported = open(Path::new(&again));
    let known: Vec<(Liveness, bool)> = imported
        .journal()
        .sources()
        .iter()
        .map(|SourceInfo { liveness, settled, .. }| (*liveness, *settled))
        .collect();
    let deadline = Liveness::Deadline(Duration::from_secs(30));
    assert_eq!(known, [(deadline, false), (deadline, true)]);
    assert_eq!(imported.history(SESSIONS, "pilot").unwrap().len(), 2);
    imported.close().unwrap();

    let spoilt = exported.replacen("\"deadline_ms\":30000", "\"deadline_ms\":1", 1);
    std::fs::write(&file, spoilt).unwrap();
    let refused = run(&["import", &file, &path("refused.esker")]);
    assert!(refused.code != Some(0) && refused.stderr.contains("its deadline"), "{}", refused.stderr);
}

#[test]
fn a_row_in_an_export_that_contradicts_itself_is_refused_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let store = path("harbour.esker");
    harbour(Path::new(&store));
    let exported = run(&["export", &store]).stdout;
    let lines: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    type Spoil<'a> = &'a dyn Fn(&mut Value);
    let wrongs: [(&str, Spoil<'_>); 10] = [
        ("vanished", &|entry| entry["row"]["operation"] = "vanished".into()),
        ("sources", &|entry| entry["row"]["sources"] = "many".into()),
        ("version", &|entry| entry["row"]["version"] = 99.into()),
        ("tombstone", &|entry| entry["tombstone"] = true.into()),
        ("deleted", &|entry| entry["row"]["operation"] = "deleted".into()),
        ("schema_version", &|entry| _ = entry.as_object_mut().unwrap().remove("schema_version")),
        ("fact", &|entry| _ = entry.as_object_mut().unwrap().remove("row")),
        ("its sources", &|entry| entry["row"]["sources"] = "0000000000000000".into()),
        ("its schema", &|entry| entry["schema_version"] = 2.into()),
        ("belongs to", &|entry| entry["correlation"] = "00".repeat(16).into()),
    ];
    for (what, spoil) in wrongs {
        let mut lines = lines.clone();
        spoil(&mut lines[1]);
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let file = path("lines.jsonl");
        std::fs::write(&file, text).unwrap();
        let refused = run(&["import", &file, &path("again.esker")]);
        assert_ne!(refused.code, Some(0), "{what}");
        assert!(
            refused.stderr.contains("line 2") && refused.stderr.contains(what),
            "{what}: {}",
            refused.stderr
        );
        assert!(!Path::new(&path("again.esker")).exists());
    }
    // Who asserts a row now has to be known; one that was followed by another may name who was given up since.
    let last_of_ada = lines.iter().rposition(|line| line["key"] == "Ada").unwrap();
    for (at, is_refused) in [(1, false), (last_of_ada, true)] {
        let mut lines = lines.clone();
        lines[at]["row"]["sources"] = "0000000000000101".into();
        let (file, made) = (path("lines.jsonl"), path(&format!("made-{at}.esker")));
        std::fs::write(&file, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        let imported = run(&["import", &file, &made]);
        assert_eq!(imported.code != Some(0), is_refused, "{}", imported.stderr);
        assert_eq!(imported.stderr.contains("registered before"), is_refused, "{}", imported.stderr);
        assert_eq!(Path::new(&made).exists(), !is_refused);
    }
    let mut twice = lines;
    twice[0]["sources"][1]["id"] = 0.into();
    let file = path("lines.jsonl");
    std::fs::write(&file, twice.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let refused = run(&["import", &file, &path("again.esker")]);
    assert!(refused.code != Some(0) && refused.stderr.contains("source"), "{}", refused.stderr);
}

#[test]
fn a_dump_says_what_became_of_each_entity_and_who_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("harbour.esker");
    harbour(&store);
    let dumped = run(&["dump", store.to_str().unwrap()]);
    let rows = dumped.rows();
    let operations: Vec<&str> = rows.iter().map(|row| row[2]).collect();
    assert_eq!(
        operations,
        ["created", "created", "updated", "sources", "deleted", "created", "updated", "deleted"]
    );
    let of = |operation: &str| run(&["dump", store.to_str().unwrap(), "--op", operation]).rows().len();
    let counts = ["row", "created", "updated", "deleted", "sources", "fact"].map(of);
    assert_eq!(counts, [8, 3, 2, 2, 1, 0]);
    let info = run(&["info", store.to_str().unwrap()]).stdout;
    assert!(info.contains("sources\t2 (0 radar, 1 pilot)"), "{info}");
    assert!(rows[2].last().unwrap().contains("\"knots\":2"), "{rows:?}");
    assert!(!dumped.stdout.contains("not MessagePack"), "{}", dumped.stdout);
    let lines = run(&["dump", store.to_str().unwrap(), "--json"]).stdout;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let frames: Vec<&Value> = lines.iter().filter(|line| line["sources"].is_array()).collect();
    assert_eq!(frames.len(), 8);
    assert_eq!((&frames[2]["changed"], &frames[2]["version"]), (&serde_json::json!(["knots"]), &2.into()));
    assert_eq!((&frames[3]["sources"], &frames[3]["version"]), (&serde_json::json!([0, 1]), &2.into()));
    assert_eq!((&frames[6]["generation"], &frames[6]["version"]), (&4.into(), &3.into()));
}

/// What was said of vessels, with events: in an epoch, out of one, and by its end.
fn logged(path: &Path) {
    const LOGGED: Kind<Vessel> = Kind::new("logged").events();
    let store = open(path);
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    radar.assert_with(LOGGED, "Ada", &Vessel { name: "Ada".into(), knots: 1.0 }, b"seen").unwrap();
    pilot.patch(LOGGED, "Ada", &Patch::new().set("knots", &2.0_f32).unwrap()).unwrap();
    radar.retract(LOGGED, "Ada").unwrap();
    store.flush().unwrap();
    let epoch = pilot.epoch(LOGGED).unwrap();
    pilot.assert(LOGGED, "Grace", &Vessel { name: "Grace".into(), knots: 3.0 }).unwrap();
    epoch.commit().unwrap();
    radar.assert(LOGGED, "Ada", &Vessel { name: "Ada".into(), knots: 1.0 }).unwrap();
    drop((radar, pilot));
    store.close().unwrap();
}

#[test]
fn events_are_dumped_exported_and_imported_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (store, again, file) = (path("logged.esker"), path("again.esker"), path("lines.jsonl"));
    logged(Path::new(&store));
    let of = |operation: &str| run(&["dump", &store, "--op", operation]).rows().len();
    let counts = ["event", "assert", "patch", "retract", "row", "fact"].map(of);
    assert_eq!(counts, [6, 3, 1, 2, 4, 0]);
    let lines = run(&["dump", &store, "--op", "event", "--json"]).stdout;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<&Value> = lines.iter().filter(|line| line["type"] == "entry").collect();
    let numbers: Vec<&Value> = events.iter().map(|event| &event["sequence"]).collect();
    assert_eq!(serde_json::json!(numbers), serde_json::json!([1, 2, 3, null, null, 4]));
    assert_eq!(events[1]["present"], serde_json::json!(["knots"]));
    assert_eq!(events[3]["flags"], serde_json::json!(["first", "more", "aside", "in-epoch"]));
    assert!(events[4]["flags"].as_array().unwrap().contains(&"synthetic".into()), "{}", events[4]);

    let exported = run(&["export", &store]);
    assert_eq!(exported.code, Some(0), "{}", exported.stderr);
    std::fs::write(&file, &exported.stdout).unwrap();
    let made = run(&["import", &file, &again]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert_eq!(run(&["verify", &again]).code, Some(0), "{}", run(&["verify", &again]).stdout);
    let equal = run(&["diff", &store, &again]);
    assert_eq!((equal.code, equal.rows()[0][1]), (Some(0), "equal"), "{}", equal.stdout);

    let lines: Vec<Value> = exported.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    type Spoil<'a> = &'a dyn Fn(&mut Value);
    let wrongs: [(&str, Spoil<'_>); 9] = [
        ("shouted", &|entry| entry["event"]["operation"] = "shouted".into()),
        ("sources", &|entry| entry["event"]["sources"] = "many".into()),
        ("suppressed", &|entry| entry["event"]["suppressed"] = "quietly".into()),
        ("what was said", &|entry| entry["event"]["operation"] = "retract".into()),
        ("its fields", &|entry| entry["event"]["present"] = "0000000000000001".into()),
        ("its place among events", &|entry| entry["event"]["sequence"] = 0.into()),
        ("fact", &|entry| _ = entry.as_object_mut().unwrap().remove("event")),
        ("its schema", &|entry| entry["schema_version"] = 2.into()),
        ("belongs to", &|entry| entry["correlation"] = "00".repeat(16).into()),
    ];
    for (what, spoil) in wrongs {
        let mut lines = lines.clone();
        spoil(&mut lines[1]);
        std::fs::write(&file, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        let refused = run(&["import", &file, &path("refused.esker")]);
        let says = refused.stderr.contains("line 2") && refused.stderr.contains(what);
        assert!(refused.code != Some(0) && says, "{what}: {}", refused.stderr);
    }
}

/// The same store with the newest row of Ada damaged; its Seq.
fn damaged_harbour(path: &Path) -> u64 {
    harbour(path);
    let store = path.to_str().unwrap();
    let seq = run(&["state", store, "vessel/Ada", "--json"]).of_type("row")[0]["seq"].as_u64().unwrap();
    let (segment, offset) = support::place(store, seq);
    support::flip(path, segment, offset + 90);
    seq
}

#[test]
fn rows_that_cannot_be_read_are_damage_and_not_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let seq = damaged_harbour(&path);
    let store = path.to_str().unwrap();
    let other = run(&["state", store, "vessel/Bob", "--json"]);
    assert_eq!(
        (other.code, other.of_type("finding").len()),
        (Some(1), 1),
        "{}{}",
        other.stdout,
        other.stderr
    );
    assert_eq!(other.of_type("summary")[0]["damaged"], 1);
    assert!(other.stderr.contains("nothing can be read"), "{}", other.stderr);
    // What came behind a moment says nothing of it where nothing was dropped.
    let before = run(&["state", store, "vessel/Ada", "--at", &(seq - 1).to_string(), "--json"]);
    assert_eq!(before.code, Some(0), "{}", before.stderr);
    assert_eq!(before.of_type("row")[0]["version"], 2);
}

#[test]
fn a_damaged_place_is_told_and_counted_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    damaged_harbour(&path);
    let store = path.to_str().unwrap();
    for command in [&["state", store, "vessel/*", "--json"][..], &["sources", store, "--json"]] {
        let told = run(command);
        assert_eq!((told.code, told.of_type("finding").len()), (Some(1), 1), "{command:?}: {}", told.stdout);
        assert_eq!(told.of_type("summary")[0]["damaged"], 1, "{command:?}");
    }
}
