//! Live state as the tool shows it: rows now and then, sources, events, and payloads that others say or nobody sees.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use esker::{
    CompactOptions, Facts, Kind, Liveness, Options, Patch, Reader, SourceOptions, Store, StoreView, Window,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use support::{Run, Sample, flip, on, place, tool};

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Vessel {
    name: String,
    knots: f32,
}

const VESSEL: Kind<Vessel> = Kind::new("vessel");
const LOGGED: Kind<Vessel> = Kind::new("logged").events();
const NOTES: Facts<String> = Facts::new("note");

fn vessel(name: &str, knots: f32) -> Vessel {
    Vessel { name: name.into(), knots }
}

fn open(sample: &Sample) -> Store {
    Store::over(Options::new().window(Window::Manual).open(sample.path()).unwrap())
}

/// Rows of a kind without events, entries 1 to 5, and a fact, 6: Ada by both, Grace deleted, Ada/2 by the pilot.
fn harbour() -> Sample {
    let sample = Sample::empty();
    let store = open(&sample);
    let mortal = SourceOptions::new().liveness(Liveness::Deadline(Duration::from_secs(3600)));
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    radar.assert(VESSEL, "Ada", &vessel("Ada", 1.0)).unwrap();
    store.flush().unwrap();
    radar.assert(VESSEL, "Grace", &vessel("Grace", 1.0)).unwrap();
    store.flush().unwrap();
    pilot.patch(VESSEL, "Ada", &Patch::new().set("knots", &2.5_f32).unwrap()).unwrap();
    store.flush().unwrap();
    radar.retract(VESSEL, "Grace").unwrap();
    store.flush().unwrap();
    pilot.assert(VESSEL, "Ada/2", &vessel("Ada II", 3.0)).unwrap();
    store.flush().unwrap();
    store.append(NOTES, "Ada", &"a fact".to_owned()).unwrap();
    drop(store.source_with("buoy", mortal).unwrap());
    drop((radar, pilot));
    store.close().unwrap();
    sample
}

/// A kind with events: three operations in a window, an epoch that takes Ada back from the pilot, and one more.
fn logged() -> Sample {
    let sample = Sample::empty();
    let store = open(&sample);
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    radar.assert(LOGGED, "Ada", &vessel("Ada", 1.0)).unwrap();
    pilot.patch(LOGGED, "Ada", &Patch::new().set("knots", &2.5_f32).unwrap()).unwrap();
    radar.retract(LOGGED, "Ada").unwrap();
    store.flush().unwrap();
    let epoch = pilot.epoch(LOGGED).unwrap();
    pilot.assert(LOGGED, "Grace", &vessel("Grace", 3.0)).unwrap();
    epoch.commit().unwrap();
    radar.assert(LOGGED, "Ada", &vessel("Ada", 4.0)).unwrap();
    drop((radar, pilot));
    store.close().unwrap();
    sample
}

fn pairs(run: &Run) -> Vec<(&str, &str)> {
    run.rows().into_iter().filter(|row| row.len() == 2).map(|row| (row[0], row[1])).collect()
}

#[test]
fn the_row_of_an_entity_is_shown_field_by_field_with_who_asserts_it() {
    let sample = harbour();
    let shown = on(&["state", "vessel/Ada"], &sample.text(), &[]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    let pairs = pairs(&shown);
    for wanted in [
        ("entity", "vessel/Ada"),
        ("version", "2"),
        ("asserted by", "radar,pilot"),
        ("last said by", "pilot"),
        (".name", "\"Ada\""),
        (".knots", "2.5"),
    ] {
        assert!(pairs.contains(&wanted), "{wanted:?} {}", shown.stdout);
    }
    let json = on(&["state", "vessel/Ada"], &sample.text(), &["--json", "--sources"]);
    let row = &json.of_type("row")[0];
    assert_eq!(row["payload"], json!({ "name": "Ada", "knots": 2.5 }));
    assert_eq!((&row["asserted_by"], &row["version"]), (&json!(["radar", "pilot"]), &json!(2)));
    assert_eq!((&row["created"]["seq"], &row["updated"]["seq"]), (&json!(1), &json!(3)));
    assert!(row["created"]["time_ns"].is_string() && row["time_ns"].is_string());
    let sources = json.of_type("assertion");
    let said: Vec<_> = sources
        .iter()
        .map(|source| (&source["name"], &source["last"]["operation"], &source["last"]["seq"]))
        .collect();
    assert_eq!(json!(said), json!([["radar", "created", 1], ["pilot", "updated", 3]]));
    assert!(sources.iter().all(|source| source["from"] == "rows" && source["asserts"] == true));
}

#[test]
fn a_pattern_lists_what_is_there_in_the_order_of_the_last_write() {
    let sample = harbour();
    let all = on(&["state", "vessel/*"], &sample.text(), &[]);
    let of = |run: &Run| -> Vec<String> { run.rows().iter().map(|row| row[0].to_owned()).collect() };
    assert_eq!((all.code, of(&all)), (Some(0), vec!["vessel/Ada".to_owned(), "vessel/Ada/2".to_owned()]));
    assert_eq!(all.rows()[0][1..4], ["v2", "radar,pilot", "3"]);
    let some = on(&["state", "vessel/*/?"], &sample.text(), &[]);
    assert_eq!(of(&some), ["vessel/Ada/2"]);
    assert_eq!(of(&on(&["state", "vessel/*"], &sample.text(), &["--limit", "1"])).len(), 1);
    let none = on(&["state", "vessel/x*"], &sample.text(), &["--json"]);
    assert_eq!((none.code, none.json().len(), &none.json()[1]["shown"]), (Some(0), 2, &json!(0)));
}

#[test]
fn an_earlier_moment_has_the_rows_that_it_had() {
    let sample = harbour();
    let at = |moment: &str, entity: &str| on(&["state", entity], &sample.text(), &["--at", moment, "--json"]);
    let row = &at("2", "vessel/Ada").of_type("row")[0];
    assert_eq!((&row["payload"]["knots"], &row["asserted_by"]), (&json!(1.0), &json!(["radar"])));
    let keys = |moment: &str| -> Vec<Value> {
        at(moment, "vessel/*").of_type("row").iter().map(|row| row["key"].clone()).collect()
    };
    assert_eq!(keys("3"), ["Grace", "Ada"]);
    assert_eq!(keys("0").len(), 0);
    let gone = at("0", "vessel/Ada");
    assert!(gone.code == Some(2) && gone.stderr.contains("at seq 0"), "{}", gone.stderr);
    // The time of an entry is behind it.
    let time = at("3", "vessel/Grace").of_type("row")[0]["time"].as_str().unwrap().to_owned();
    let then = at(&time, "vessel/Grace");
    assert!(then.json().last().unwrap()["at"].as_u64().unwrap() >= 2, "{}", then.stdout);
    assert_eq!(at("1970-01-02", "vessel/*").json().last().unwrap()["at"], json!(0));
    let beyond = at("99", "vessel/Ada");
    assert!(beyond.code == Some(2) && beyond.stderr.contains("99"), "{}", beyond.stderr);
}

#[test]
fn what_compaction_dropped_is_said_with_where_it_begins() {
    let sample = Sample::empty();
    let store = Store::over(
        Options::new().window(Window::Manual).segment_bytes(16 << 10).open(sample.path()).unwrap(),
    );
    let radar = store.source("radar").unwrap();
    for n in 0..400_u16 {
        radar.assert(VESSEL, "Ada", &vessel(&"x".repeat(200), f32::from(n))).unwrap();
        store.flush().unwrap();
    }
    store.journal().compact(&CompactOptions::new().thorough(true)).unwrap();
    drop(radar);
    store.close().unwrap();
    let gone = on(&["state", "vessel/Ada"], &sample.text(), &["--at", "5"]);
    assert_eq!(gone.code, Some(2), "{} {}", gone.stdout, gone.stderr);
    let floor: u64 = gone
        .stderr
        .split("it can be told from seq ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let there = on(&["state", "vessel/Ada"], &sample.text(), &["--at", &floor.to_string()]);
    assert_eq!(there.code, Some(0), "{}", there.stderr);
    let now = on(&["state", "vessel/Ada"], &sample.text(), &["--json"]).of_type("row")[0].clone();
    assert_eq!((&now["created"], &now["version"]), (&Value::Null, &json!(400)));
    let json = on(&["state", "vessel/Ada"], &sample.text(), &["--at", "5", "--json"]);
    assert_eq!((json.code, json.json().len()), (Some(2), 2));
}

#[test]
fn who_asks_for_what_is_not_there_is_told_what_is_near() {
    let sample = harbour();
    let of = |entity: &str| on(&["state", entity], &sample.text(), &[]);
    let near = of("vessel/Adda");
    assert!(near.code == Some(2) && near.stderr.contains("near it: vessel/Ada"), "{}", near.stderr);
    let deleted = of("vessel/Grace");
    assert!(
        deleted.code == Some(2) && deleted.stderr.contains("deleted by radar, seq 4"),
        "{}",
        deleted.stderr
    );
    let kind = of("ship/Ada");
    assert!(kind.code == Some(2) && kind.stderr.contains("vessel"), "{}", kind.stderr);
    let json = on(&["state", "vessel/Adda"], &sample.text(), &["--json"]);
    assert_eq!((json.code, &json.json()[1]["shown"]), (Some(2), &json!(0)));
    // Facts have no rows: the newest says the most.
    let fact = of("note/Ada");
    assert_eq!(fact.code, Some(0), "{}", fact.stderr);
    assert!(fact.stderr.contains("kind of facts") && fact.stdout.contains("a fact"), "{}", fact.stdout);
    let facts = of("note/*");
    assert!(facts.code == Some(2) && facts.stderr.contains("esker dump"), "{}", facts.stderr);
    assert_eq!(of("*/Ada").code, Some(2));
}

#[test]
fn sources_say_what_they_assert_and_when_they_wrote_last() {
    let sample = harbour();
    let sources = on(&["sources"], &sample.text(), &["--json"]);
    assert_eq!(sources.code, Some(0), "{}", sources.stderr);
    let lines = sources.of_type("source");
    let told: Vec<_> =
        lines.iter().map(|line| (&line["name"], &line["live_entities"], &line["last_seq"])).collect();
    assert_eq!(json!(told), json!([["radar", 1, 4], ["pilot", 2, 5], ["buoy", 0, null]]));
    assert_eq!((&lines[0]["deadline_ms"], &lines[2]["deadline_ms"]), (&Value::Null, &json!(3_600_000)));
    assert!(lines[2]["session"].is_string(), "{}", lines[2]);
    assert_eq!(sources.json().last().unwrap()["sources"], json!(3));
    let rows = on(&["sources"], &sample.text(), &[]);
    assert_eq!(rows.rows()[1][..6], ["1", "pilot", "none", "no", "-", "2"]);
}

#[test]
fn an_epoch_that_may_be_open_is_shown_beside_the_writer_that_has_it() {
    let sample = Sample::empty();
    let store = open(&sample);
    let pilot = store.source("pilot").unwrap();
    let epochs = || on(&["sources"], &sample.text(), &["--json"]).of_type("source")[0]["epochs"].clone();
    pilot.assert(LOGGED, "Ada", &vessel("Ada", 1.0)).unwrap();
    store.flush().unwrap();
    assert_eq!(epochs(), json!([]));
    let epoch = pilot.epoch(LOGGED).unwrap();
    pilot.assert(LOGGED, "Grace", &vessel("Grace", 3.0)).unwrap();
    store.flush().unwrap();
    assert_eq!(epochs(), json!([{ "kind": "logged", "first_seq": 3, "last_seq": 3 }]));
    epoch.commit().unwrap();
    assert_eq!(epochs(), json!([]));
    drop(pilot);
    store.close().unwrap();
}

#[test]
fn events_are_told_with_what_they_did_and_those_that_are_none_to_who_asks() {
    let sample = logged();
    let events = on(&["events", "logged"], &sample.text(), &["--json", "--before"]);
    assert_eq!(events.code, Some(0), "{}", events.stderr);
    let lines = events.of_type("event");
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            (&line["kind_sequence"], &line["said_by"], &line["operation"], &line["did"], &line["changed"])
        })
        .collect();
    assert_eq!(
        json!(told),
        json!([
            [1, "radar", "assert", "created", null],
            [2, "pilot", "patch", "updated", ["knots"]],
            [3, "radar", "retract", "retracted", null],
            [4, "radar", "assert", "created", null],
        ])
    );
    assert_eq!((&lines[1]["before"], &lines[1]["payload"]["knots"]), (&json!({ "knots": 1.0 }), &json!(2.5)));
    assert_eq!((&lines[1]["of"], &lines[1]["is_event"]), (&json!("logged"), &json!(true)));
    assert_eq!(events.json().last().unwrap()["hidden"], json!(2));
    let all = on(&["events", "logged", "--synthetic"], &sample.text(), &["--json"]).of_type("event");
    let because: Vec<_> = all.iter().map(|line| &line["because"]).collect();
    assert_eq!(json!(because), json!([null, null, null, "in-epoch", "synthetic", null]));

    let plain = on(&["events", "logged"], &sample.text(), &["--before"]);
    assert!(plain.stderr.contains("2 operations"), "{}", plain.stderr);
    assert_eq!(plain.rows()[1][3..7], ["pilot", "patch", "Ada", "updated"]);
    assert_eq!(plain.rows()[1][9], "knots was 1.0");
}

#[test]
fn events_take_the_filters_that_all_commands_take() {
    let sample = logged();
    let seqs = |more: &[&str]| -> Vec<String> {
        let run = on(&["events", "logged", "--synthetic"], &sample.text(), more);
        run.rows().iter().map(|row| row[0].to_owned()).collect()
    };
    let all = seqs(&[]);
    assert_eq!(all.len(), 6);
    let reversed: Vec<String> = all.iter().rev().cloned().collect();
    assert_eq!(seqs(&["--reverse"]), reversed);
    assert_eq!(seqs(&["--last", "2"]), all[4..]);
    assert_eq!(seqs(&["--limit", "2"]), all[..2]);
    assert_eq!(seqs(&["--op", "patch"]), all[1..2]);
    assert_eq!(seqs(&["--source", "radar"]), [&all[0], &all[2], &all[5]].map(Clone::clone));
    assert_eq!(seqs(&["--entity", "logged/Grace"]), all[3..4]);
    assert_eq!(seqs(&["--entity", "logged/G*"]), all[3..4]);
    assert_eq!(seqs(&["--seq", &format!("{}..", all[5])]), all[5..]);
    assert_eq!(seqs(&["--until", "1970-01-02"]).len(), 0);
    let wrong = |more: &[&str]| on(&["events"], &sample.text(), more);
    assert_eq!(wrong(&["logged", "--entity", "other/Ada"]).code, Some(2));
    assert_eq!(wrong(&["lugged"]).code, Some(2));
    let unknown = wrong(&["logged", "--source", "sonar"]);
    assert!(unknown.stdout.is_empty() && unknown.stderr.contains("radar, pilot"), "{}", unknown.stderr);
    let harbour = harbour();
    for (kind, what) in [("vessel", "has no events"), ("note", "kind of facts")] {
        let none = on(&["events", kind], &harbour.text(), &[]);
        assert!(none.code == Some(2) && none.stderr.contains(what), "{}", none.stderr);
    }
}

#[test]
fn events_are_followed_also_of_a_source_that_comes_later() {
    let sample = logged();
    let store = open(&sample);
    let mut child = tool(&["events", &sample.text(), "logged", "-f", "--source", "buoy"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let buoy = store.source("buoy").unwrap();
    buoy.assert(LOGGED, "Ida", &vessel("Ida", 9.0)).unwrap();
    store.flush().unwrap();
    let line = lines.next().unwrap().unwrap();
    let cells: Vec<&str> = line.split('\t').collect();
    assert_eq!(cells[3..7], ["buoy", "assert", "Ida", "created"]);
    child.kill().unwrap();
    child.wait().unwrap();
    drop(buoy);
    store.close().unwrap();
}

#[test]
fn entries_of_one_source_are_dumped_and_exported_alone() {
    let sample = harbour();
    let of = |source: &str| -> Vec<String> {
        let run = on(&["dump"], &sample.text(), &["--source", source]);
        run.rows().iter().map(|row| row[0].to_owned()).collect()
    };
    assert_eq!(
        (of("radar"), of("pilot"), of("buoy").len()),
        (["1", "2", "4"].map(str::to_owned).to_vec(), ["3", "5"].map(str::to_owned).to_vec(), 0)
    );
    let exported = on(&["export"], &sample.text(), &["--source", "pilot"]);
    assert_eq!(exported.of_type("entry").len(), 2, "{}", exported.stdout);
    assert_eq!(exported.json()[0]["filtered"], json!(true));
    // Also what only some operations are left of is not all.
    let rows = on(&["export"], &sample.text(), &["--op", "row"]);
    assert_eq!(rows.json()[0]["filtered"], json!(true));
}

#[test]
fn an_entry_of_live_state_says_its_version_and_its_sources() {
    let sample = harbour();
    let got = on(&["get", "3"], &sample.text(), &[]);
    let pairs = pairs(&got);
    for wanted in
        [("version", "2"), ("said by", "pilot"), ("asserted by", "radar,pilot"), ("changed", "knots")]
    {
        assert!(pairs.contains(&wanted), "{wanted:?} {}", got.stdout);
    }
    let dumped = on(&["dump"], &sample.text(), &["--seq", "3..4"]);
    assert!(dumped.rows()[0][6].contains("v2,from:pilot,by:radar,pilot"), "{}", dumped.stdout);
    assert!(dumped.rows()[1][6].contains("by:nobody"), "{}", dumped.stdout);
    let fact = on(&["dump"], &sample.text(), &["--kind", "note"]);
    assert!(!fact.stdout.contains("by:"), "{}", fact.stdout);
}

#[test]
fn kinds_say_where_they_were_written_last_and_what_their_fields_hold() {
    let sample = harbour();
    let kinds = on(&["kinds"], &sample.text(), &["--json"]).of_type("kind");
    let vessels = kinds.iter().find(|kind| kind["kind"] == "vessel").unwrap();
    assert_eq!((&vessels["versions"], &vessels["last_seq"]), (&json!([1]), &json!(5)));
    assert_eq!(vessels["types"], json!({ "name": "text", "knots": "number" }));
    let notes = kinds.iter().find(|kind| kind["kind"] == "note").unwrap();
    assert_eq!((&notes["last_seq"], &notes["types"]), (&json!(6), &Value::Null));
}

#[test]
fn one_program_says_what_all_payloads_mean() {
    let sample = harbour();
    let pid = "echo $$ >> \"$0\"; while read -r line; do case $line in *Grace*) echo grace;; *) echo other;; esac; done";
    let started = sample.directory.path().join("started");
    let command = pid.replace("$0", started.to_str().unwrap());
    let shown = on(&["dump"], &sample.text(), &["--translate", &command]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    let said: Vec<&str> = shown.rows().iter().map(|row| row[7]).collect();
    assert_eq!(said[..5], ["other", "grace", "other", "", "other"], "a deletion has no payload");
    assert_eq!(std::fs::read_to_string(&started).unwrap().lines().count(), 1, "it runs once");
    let json = on(&["state", "vessel/Ada"], &sample.text(), &["--json", "--translate", "cat"]);
    let row = &json.of_type("row")[0];
    let given: Value = serde_json::from_str(row["payload_text"].as_str().unwrap()).unwrap();
    assert_eq!((&given["key"], &given["payload"]), (&json!("Ada"), &row["payload"]));
    assert!(given["payload_base64"].is_string());
    let got = on(&["get", "2"], &sample.text(), &["--translate", &command]);
    assert!(pairs(&got).contains(&("payload", "grace")), "{}", got.stdout);
    let events = on(&["events", "logged"], &logged().text(), &["--translate", &command]);
    assert_eq!(events.rows()[0].last(), Some(&"other"), "{}", events.stdout);
    let failed = on(&["dump"], &sample.text(), &["--translate", "read -r line; echo one; exit 3"]);
    assert_eq!((failed.code, failed.rows().len()), (Some(4), 1));
    assert!(failed.stderr.contains("entry 2 (vessel/Grace)"), "{}", failed.stderr);
}

/// As a number of its own: the seconds of a time may have the same digits in them.
fn has_number(text: &str, number: &str) -> bool {
    text.split(|one: char| !one.is_ascii_digit() && one != '.').any(|found| found == number)
}

#[test]
fn what_is_redacted_says_how_long_it_is() {
    let sample = harbour();
    let store = Store::open(sample.path()).unwrap();
    let note = store.journal().kind_named("note").unwrap().id;
    store.append(NOTES, "Eve", &"secret".to_owned()).unwrap();
    let raw = store.journal().kind("raw").unwrap();
    store.journal().append(esker::Record::new(raw, b"Eve", b"secret").metadata(b"secret too")).unwrap();
    assert_ne!(note, raw);
    store.close().unwrap();
    for more in [&["--json"][..], &[]] {
        for command in [&["dump"][..], &["get", "1.."], &["state", "vessel/*"], &["state", "note/Eve"]] {
            let shown = on(command, &sample.text(), &[more, &["--redact"]].concat());
            assert_eq!(shown.code, Some(0), "{command:?}: {}", shown.stderr);
            assert!(
                !shown.stdout.contains("secret") && !has_number(&shown.stdout, "2.5"),
                "{}",
                shown.stdout
            );
        }
    }
    let row = &on(&["state", "vessel/Ada"], &sample.text(), &["--json", "--redact"]).of_type("row")[0];
    assert_eq!(row["payload"], json!({ "name": 3, "knots": 3 }));
    let dump = on(&["dump"], &sample.text(), &["--redact", "--kind", "raw"]);
    assert_eq!(dump.rows()[0][7], "6 bytes");
    assert_eq!(on(&["dump"], &sample.text(), &["--redact", "--translate", "cat"]).code, Some(2));
    let logged = logged();
    let events = on(&["events", "logged"], &logged.text(), &["--redact", "--before"]);
    assert!(!has_number(&events.stdout, "2.5") && events.stdout.contains("{\"name\":3"), "{}", events.stdout);
}

#[test]
fn damage_is_found_and_the_rest_is_shown() {
    let sample = harbour();
    let (segment, offset) = place(&sample.text(), 5);
    // In the frame's content: the rows before it stay.
    flip(&sample.path(), segment, offset + 100);
    for command in [&["sources"][..], &["state", "vessel/*"], &["kinds"]] {
        for more in [&["--json"][..], &[]] {
            let shown = on(command, &sample.text(), more);
            assert_eq!(shown.code, Some(1), "{command:?}: {} {}", shown.stdout, shown.stderr);
        }
    }
    let rows = on(&["state", "vessel/*"], &sample.text(), &["--json"]);
    assert!(rows.of_type("row").iter().any(|row| row["key"] == "Ada"), "{}", rows.stdout);
    assert!(!rows.of_type("finding").is_empty());
    let lost = on(&["state", "vessel/Ada/2"], &sample.text(), &["--json"]);
    assert_eq!(lost.code, Some(1), "{}", lost.stderr);
}

#[test]
fn rows_without_their_type_are_those_that_the_typed_door_shows() {
    let sample = logged();
    let reader = Reader::open(sample.path()).unwrap();
    let view = StoreView::of(&reader).unwrap();
    let mut rows = view.row_entries("logged").unwrap();
    let mut bare = Vec::new();
    while let Some(entry) = rows.next_entry().unwrap() {
        bare.push((entry.key().to_vec(), entry.seq()));
    }
    let typed: Vec<_> = view
        .rows(LOGGED)
        .unwrap()
        .map(|row| row.map(|row| (row.key().to_vec(), row.seq())).unwrap())
        .collect();
    assert_eq!(bare, typed);
    assert_eq!(bare.len(), 2);
    let row = view.row_entry("logged", "Ada").unwrap().unwrap();
    assert_eq!(Some(row.seq()), view.get(LOGGED, "Ada").unwrap().map(|row| row.seq()));
    assert!(
        view.row_entry("logged", "Eve").unwrap().is_none()
            && view.row_entry("none", "Eve").unwrap().is_none()
    );
    assert!(view.row_entry("esker.events.logged", "Ada").is_err());
    // The patch goes on from what the radar said; what created it goes on from nothing.
    let before = |seq| view.row_before("logged", esker::Seq::new(seq).unwrap()).unwrap();
    assert_eq!(before(2).map(|row| row.seq().get()), Some(1));
    assert!(before(1).is_none() && before(3).is_none());
}
