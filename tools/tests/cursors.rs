//! The commands about cursors: what they show of them, when they complain, and what they change.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::process::Stdio;

use esker::{Journal, Options, Record, Region, Start};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};
use support::{AUDITED, ENTRIES, Run, Sample, flip, on, place, run, tool};

/// The sample, with a cursor for each sort of region. Every third entry is of the kind `doc`.
fn with_cursors() -> Sample {
    let sample = Sample::new();
    let journal = sample.open();
    let kind = |name: &str| journal.kind(name).unwrap();
    let (note, doc) = (kind("note"), kind("doc"));
    sample.put(&journal, "done", Region::entity(doc, b"k0"), Start::Newest);
    sample.put(&journal, "odd", Region::prefix(doc, b"\xff"), Start::Oldest);
    sample.put(&journal, "small", Region::kind(note), Start::Oldest);
    journal.close().unwrap();
    sample
}

/// Runs `esker cursor WHAT STORE …`.
fn cursor(what: &str, store: &str, more: &[&str]) -> Run {
    run(&[&["cursor", what, store], more].concat())
}

/// A cursor as the tool lists it.
fn listed(store: &str, name: &str) -> Value {
    let cursors = on(&["cursors"], store, &["--json"]).of_type("cursor");
    cursors.into_iter().find(|cursor| cursor["name"] == name).unwrap_or(Value::Null)
}

/// Every byte of the store.
fn files(sample: &Sample) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(sample.path()).unwrap().map(Result::unwrap);
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect()
}

/// The value of a name, of the pairs that a plan is printed as.
fn value<'a>(run: &'a Run, name: &str) -> &'a str {
    run.rows().into_iter().find(|row| row[0] == name).map_or("", |row| row[1])
}

/// What a person sees on a terminal.
fn on_a_terminal(args: &[&str]) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let terminal = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let status = tool(args).env("NO_COLOR", "1").stdout(terminal).status().unwrap();
    assert_eq!(status.code(), Some(0));
    let mut bytes = Vec::new();
    // The end of a terminal that nobody has open any more is an error.
    let _ = File::from(master).read_to_end(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

#[test]
fn cursors_are_listed_with_where_they_are_and_what_they_have_not_seen() {
    let sample = with_cursors();
    let store = sample.text();
    let plain = on(&["cursors"], &store, &[]);
    assert_eq!((plain.code, &*plain.stderr), (Some(0), ""));
    let rows = plain.rows();
    let of = |at: usize| [0, 1, 2, 3, 6].map(|cell| rows[at][cell]);
    assert_eq!(of(0), ["audit", "all", "120", "180", "forever"]);
    assert_eq!(of(1), ["done", "doc/k0", "300", "0", "forever"]);
    assert_eq!(of(2), ["odd", "doc/hex:ff*", "-", "0", "forever"]);
    assert_eq!(of(3), ["small", "note/*", "-", "200", "up to 1000 bytes"]);
    // Who has seen all of its region holds nothing back, and nothing waits for it.
    assert_eq!((rows[1][4], rows[1][5], rows[2][4], rows[2][5]), ("0", "-", "0", "-"));
    let held = |at: usize| rows[at][4].parse::<u64>().unwrap();
    assert!(held(3) > held(0) && held(0) > 180 * 100, "{}", plain.stdout);
    assert!(rows.iter().all(|row| row.len() == 8 && row[7].ends_with('Z')), "{}", plain.stdout);
    // Ages differ from one look to the next.
    let without_ages = |run: &Run| -> Vec<String> {
        run.rows().into_iter().map(|mut row| (row.remove(5), row.join("\t")).1).collect()
    };
    assert_eq!(without_ages(&cursor("list", &store, &[])), without_ages(&plain));
}

#[test]
fn on_a_terminal_cursors_are_a_table_with_a_heading() {
    let sample = with_cursors();
    let screen = on_a_terminal(&["cursors", &sample.text()]);
    let lines: Vec<&str> = screen.lines().map(str::trim_end).collect();
    let words = ["cursor", "region", "seq", "behind", "held bytes", "next waits", "may hold", "moved"];
    let places: Vec<_> = words.iter().map(|word| lines[0].find(word)).collect();
    assert!(places.is_sorted() && places.iter().all(Option::is_some), "{screen}");
    assert_eq!(lines.iter().filter(|line| !line.is_empty()).count(), 5, "{screen}");
    // Numbers stand to the right, below each other.
    let end_of = |line: usize, word: &str| lines[line].find(word).map(|at| at + word.len());
    assert_eq!(end_of(0, "behind"), end_of(1, "180"), "{screen}");
}

#[test]
fn json_lines_have_times_and_sizes_for_a_machine() {
    let sample = with_cursors();
    let store = sample.text();
    let audit = listed(&store, "audit");
    let fields = |cursor: &Value, names: &[&str]| -> Value {
        names.iter().map(|name| &cursor[*name]).cloned().collect()
    };
    assert_eq!(
        fields(&audit, &["seq", "behind", "next_seq", "era", "damaged"]),
        json!([AUDITED, 180, AUDITED + 1, "1", 0])
    );
    for (time, nanoseconds) in [("next_time", "next_time_ns"), ("moved", "moved_ns")] {
        assert!(audit[time].as_str().unwrap().ends_with('Z'), "{audit}");
        assert!(audit[nanoseconds].as_str().unwrap().parse::<i64>().unwrap() > 0, "{audit}");
    }
    assert!(audit["age_ns"].as_str().unwrap().parse::<i64>().is_ok(), "{audit}");
    assert_eq!(fields(&audit, &["region", "part", "kind", "key"]), json!(["all", "all", null, null]));
    let odd = listed(&store, "odd");
    assert_eq!(
        fields(&odd, &["region", "part", "kind", "key"]),
        json!(["doc/hex:ff*", "prefix", "doc", "hex:ff"])
    );
    assert_eq!(fields(&odd, &["seq", "next_seq", "next_time_ns", "age_ns"]), json!([null, null, null, null]));
    assert_eq!(listed(&store, "small")["hold_bytes_max"], 1000);
    assert_eq!(audit["hold_bytes_max"], Value::Null);
    let summary = &on(&["cursors"], &store, &["--json"]).of_type("summary")[0];
    assert_eq!(fields(summary, &["cursors", "over", "damaged"]), json!([4, 0, 0]));
}

#[test]
fn a_cursor_over_a_threshold_is_named_with_both_numbers_and_the_exit_code_is_1() {
    let sample = with_cursors();
    let store = sample.text();
    let check = |limits: &[&str]| on(&["cursors"], &store, limits);
    for within in [&["--max-lag", "200"][..], &["--max-age", "1d"], &["--max-bytes", "1000000"]] {
        let fine = check(within);
        assert_eq!((fine.code, &*fine.stderr), (Some(0), ""), "{within:?}");
    }
    let lag = check(&["--max-lag", "180"]);
    assert_eq!(lag.code, Some(1));
    assert_eq!(lag.stderr, "esker: over: cursor \"small\": 200 entries behind, over 180\n");
    assert_eq!(lag.rows().len(), 4, "all are listed all the same");
    let held = listed(&store, "audit")["held_bytes"].to_string();
    let bytes = check(&["--max-bytes", "100", "--max-lag", "179"]);
    let audit =
        format!("cursor \"audit\": 180 entries behind, over 179; holds back {held} bytes, over 100\n");
    assert_eq!((bytes.code, bytes.stderr.lines().count()), (Some(1), 2));
    assert!(bytes.stderr.contains(&audit), "{}", bytes.stderr);
    let age = check(&["--max-age", "0s", "--json"]);
    assert_eq!((age.code, age.stderr.lines().count()), (Some(1), 2), "{}", age.stderr);
    assert!(age.stderr.contains(": its next entry has waited ") && age.stderr.contains(", over 0s\n"));
    let over: Vec<Value> = age.of_type("cursor").iter().map(|cursor| cursor["over"].clone()).collect();
    assert_eq!(over, [json!(["age"]), json!([]), json!([]), json!(["age"])]);
    assert_eq!(age.of_type("summary")[0]["over"], 2);
    for wrong in ["--max-age=-2h", "--max-age=2", "--max-lag=x", "--max-bytes=-1"] {
        assert_eq!(check(&[wrong]).code, Some(2), "{wrong}");
    }
}

#[test]
fn a_plan_says_what_a_reset_would_pass_over_or_show_again_and_changes_nothing() {
    let sample = with_cursors();
    let store = sample.text();
    let before = files(&sample);
    // A cursor, where to, and: where that is, passed over, seen again, behind then.
    let cases = [
        ("audit", "newest", "300", "180", "0", "0"),
        ("audit", "oldest", "the beginning", "0", "120", "300"),
        ("audit", "200", "200", "80", "0", "100"),
        ("audit", "+80", "200", "80", "0", "100"),
        ("audit", "-20", "100", "0", "20", "200"),
        ("audit", "-120", "the beginning", "0", "120", "300"),
        ("audit", "1970-01-01", "the beginning", "0", "120", "300"),
        ("audit", "1h", "the beginning", "0", "120", "300"),
        ("audit", "2200-01-01T00:00Z", "300", "180", "0", "0"),
        ("audit", "120", "120", "0", "0", "180"),
        // Steps are entries of its own region: every 15th is one of doc/k0, and two of three are notes.
        ("done", "-2", "284", "0", "2", "2"),
        ("done", "100", "100", "0", "14", "14"),
        ("small", "+100", "149", "100", "0", "100"),
        ("small", "3", "3", "2", "0", "198"),
    ];
    for (name, to, place, passed_over, seen_again, behind) in cases {
        let plan = cursor("reset", &store, &[name, "--to", to]);
        assert_eq!((plan.code, &*plan.stderr), (Some(0), ""), "{name} {to}");
        let values = ["to", "passed over unread", "seen again", "behind then"].map(|what| value(&plan, what));
        assert_eq!(values, [place, passed_over, seen_again, behind], "{name} {to}");
        assert_eq!(value(&plan, "held bytes then") == "0", behind == "0", "{name} {to}");
        let again = match to {
            "newest" | "oldest" => to,
            _ if place == "the beginning" => "oldest",
            _ => place,
        };
        let next = format!("next\tesker cursor reset {store} {name} --to {again} --execute");
        assert_eq!(plan.stdout.lines().last(), Some(&*next));
    }
    let plan = cursor("reset", &store, &["audit", "--to", "200", "--json"]);
    let line = &plan.of_type("plan")[0];
    assert_eq!((&line["from"], &line["to"], &line["passed_over"]), (&120.into(), &200.into(), &80.into()));
    assert_eq!(plan.of_type("summary")[0]["executed"], false);
    let retire = cursor("retire", &store, &["audit"]);
    assert_eq!((retire.code, value(&retire, "never seen")), (Some(0), "180"));
    let next = format!("next\tesker cursor retire {store} audit --execute");
    assert_eq!(retire.stdout.lines().last(), Some(&*next));
    assert_eq!(files(&sample), before);
}

#[test]
fn executed_a_reset_and_a_retirement_are_done() {
    let sample = with_cursors();
    let store = sample.text();
    let reset = cursor("reset", &store, &["audit", "--to", "-20", "--execute"]);
    assert_eq!((reset.code, &*reset.stderr), (Some(0), ""));
    assert_eq!(reset.stdout.lines().last(), Some("done\treset from 120 to 100"));
    let audit = listed(&store, "audit");
    assert_eq!((&audit["seq"], &audit["behind"]), (&100.into(), &200.into()));
    // The frames that say so have come to the log behind the plan.
    let planned: u64 = value(&reset, "held bytes then").parse().unwrap();
    let frames = audit["held_bytes"].as_u64().unwrap() - planned;
    assert!(frames < 1024, "{frames}");
    let json = cursor("reset", &store, &["audit", "--to", "oldest", "--execute", "--json"]);
    let summary = &json.of_type("summary")[0];
    assert_eq!(
        (&summary["executed"], &summary["done"]),
        (&true.into(), &"reset from 100 to the beginning".into())
    );
    assert_eq!(listed(&store, "audit")["seq"], Value::Null);
    let retired = cursor("retire", &store, &["audit", "--execute"]);
    let end = format!("\ndone\tretired at the beginning\nnext\tesker compact {store}\n");
    assert!(retired.stdout.ends_with(&end), "{}", retired.stdout);
    assert_eq!(listed(&store, "audit"), Value::Null);
    // Nothing else was touched, and the name is free.
    assert_eq!(on(&["verify"], &store, &[]).code, Some(0));
    let journal = sample.open();
    assert_eq!((journal.stats().entries, journal.cursors().unwrap().len()), (ENTRIES, 3));
    drop(journal.watch("audit", Region::all()).unwrap());
    journal.close().unwrap();
}

#[test]
fn beside_a_live_writer_cursors_are_listed_and_planned_for_and_not_changed() {
    let sample = with_cursors();
    let store = sample.text();
    let journal = sample.open();
    let note = journal.kind("note").unwrap();
    journal.append(Record::new(note, b"live", b"one")).unwrap();
    assert_eq!(listed(&store, "audit")["behind"], 181);
    let plan = cursor("reset", &store, &["audit", "--to", "newest"]);
    assert_eq!((plan.code, value(&plan, "to")), (Some(0), "301"), "{}", plan.stderr);
    let pid = std::process::id();
    assert!(plan.stderr.contains(&format!("live, writer pid {pid}")), "{}", plan.stderr);
    let cursors = journal.cursors().unwrap();
    for refused in [
        cursor("reset", &store, &["audit", "--to", "newest", "--execute"]),
        cursor("retire", &store, &["audit", "--execute"]),
    ] {
        assert_eq!((refused.code, &*refused.stdout), (Some(3), ""));
        assert!(refused.stderr.contains(&format!("found process {pid} on ")), "{}", refused.stderr);
    }
    assert_eq!(journal.cursors().unwrap(), cursors);
    journal.close().unwrap();
}

#[test]
fn a_name_that_is_not_there_is_told_with_those_that_are() {
    let sample = with_cursors();
    let store = sample.text();
    let before = files(&sample);
    for command in [
        cursor("reset", &store, &["adit", "--to", "newest"]),
        cursor("reset", &store, &["adit", "--to", "newest", "--execute"]),
        cursor("retire", &store, &["adit"]),
        cursor("retire", &store, &["adit", "--execute"]),
    ] {
        assert_eq!((command.code, &*command.stdout), (Some(2), ""));
        let expected = "esker: error: no cursor \"adit\"; there are: audit, done, odd, small\n";
        assert_eq!(command.stderr, expected);
    }
    assert_eq!(files(&sample), before);
    let empty = Sample::empty();
    empty.open().close().unwrap();
    let none = cursor("retire", &empty.text(), &["audit"]);
    assert!(none.stderr.contains("no cursor \"audit\"; there are: none"), "{}", none.stderr);
    // Nothing is made where there is no store.
    let nowhere = Sample::empty();
    let refused = cursor("reset", &nowhere.text(), &["audit", "--to", "newest", "--execute"]);
    assert_eq!((refused.code, nowhere.path().exists()), (Some(3), false));
}

#[test]
fn a_place_that_is_not_in_the_log_is_refused_with_both_numbers() {
    let sample = with_cursors();
    let store = sample.text();
    for (name, to, text) in [
        ("audit", "301", "entry 301 is behind the end of the log: the last one is 300"),
        ("audit", "+181", "+181 is too far: the cursor \"audit\" has not seen 180 entries of its region"),
        ("audit", "-121", "-121 is too far: the cursor \"audit\" has seen 120 entries of its region"),
        ("done", "+1", "the cursor \"done\" has not seen 0 entries of its region"),
        ("audit", "0", "before all of them is `oldest`"),
        ("audit", "latest", "none of: oldest, newest, a Seq, a time"),
    ] {
        let refused = cursor("reset", &store, &[name, "--to", to, "--execute"]);
        assert_eq!((refused.code, &*refused.stdout), (Some(2), ""), "{to}");
        assert!(refused.stderr.contains(text), "{to}: {}", refused.stderr);
    }
    assert_eq!(cursor("reset", &store, &["audit"]).code, Some(2), "where to is never guessed");
    assert_eq!(listed(&store, "audit")["seq"], AUDITED);
}

#[test]
fn of_a_damaged_store_the_cursors_are_shown_and_the_damage_is_named() {
    let sample = with_cursors();
    let store = sample.text();
    let (segment, offset) = place(&store, 250);
    flip(&sample.path(), segment, offset + 70);
    let plain = on(&["cursors"], &store, &[]);
    assert_eq!((plain.code, plain.rows().len()), (Some(1), 4), "{}", plain.stderr);
    assert!(
        plain.stderr.contains("esker: damage: ") && plain.stderr.contains("(seq 250)"),
        "{}",
        plain.stderr
    );
    assert_eq!(plain.rows()[0][3], "179");
    let json = on(&["cursors"], &store, &["--json"]);
    assert_eq!((json.of_type("finding").len(), &json.of_type("summary")[0]["damaged"]), (1, &1.into()));
    assert_eq!(json.of_type("cursor")[0]["damaged"], 1);
    assert_eq!(on(&["info"], &store, &["--json"]).of_type("store")[0]["furthest_cursor"]["behind"], 199);
    // A plan is made of what is left.
    let plan = cursor("reset", &store, &["audit", "--to", "newest"]);
    assert_eq!((plan.code, value(&plan, "passed over unread")), (Some(1), "179"), "{}", plan.stderr);
    assert!(plan.stderr.contains("damage: 1 entries on the way cannot be read"), "{}", plan.stderr);
    let back = cursor("reset", &store, &["audit", "--to", "-20", "--json"]);
    assert_eq!(
        (&back.of_type("plan")[0]["seen_again"], &back.of_type("plan")[0]["damaged"]),
        (&20.into(), &1.into())
    );
    let (segment, _) = place(&store, 200);
    flip(&sample.path(), segment, 50); // the header
    let lost = on(&["cursors"], &store, &["--json"]);
    assert_eq!((lost.code, lost.of_type("cursor").len()), (Some(1), 4), "{}", lost.stderr);
    assert!(lost.of_type("cursor")[0]["damaged"].as_u64().unwrap() > 10);
}

#[test]
fn a_cursor_of_another_era_is_named_and_a_reset_makes_it_good_again() {
    let sample = with_cursors();
    let (segment, offset) = place(&sample.text(), 130);
    flip(&sample.path(), segment, offset + 70);
    let repaired = sample.directory.path().join("new.esker").to_str().unwrap().to_owned();
    assert_eq!(on(&["repair"], &sample.text(), &["--output", &repaired]).code, Some(1));
    let cursors = on(&["cursors"], &repaired, &[]);
    assert_eq!((cursors.code, cursors.stderr.lines().count()), (Some(0), 4), "{}", cursors.stderr);
    assert!(cursors.stderr.contains("cursor \"audit\" is of era "), "{}", cursors.stderr);
    // Where there is a limit at all, nobody who cannot be watched under passes for healthy.
    let checked = on(&["cursors"], &repaired, &["--max-lag", "100000", "--json"]);
    assert_eq!(checked.code, Some(1), "{}", checked.stderr);
    assert!(checked.of_type("cursor").iter().all(|cursor| cursor["over"] == serde_json::json!(["era"])));
    let watch = || {
        let journal = Options::new().open_existing(&repaired).unwrap();
        let watched = journal.watch("audit", Region::all()).map(drop).map_err(|error| error.kind());
        journal.close().unwrap();
        watched
    };
    assert_eq!(watch(), Err(esker::ErrorKind::EraChanged));
    // Nobody is told to read all of it again for that.
    let health = on(&["check"], &repaired, &[]);
    assert!(
        health.stdout.contains("--to +0 --execute") && !health.stdout.contains("--to oldest"),
        "{}",
        health.stdout
    );
    let reset = cursor("reset", &repaired, &["audit", "--to", "+0", "--execute"]);
    assert_eq!(reset.stdout.lines().last(), Some("done\treset from 120 to 120"), "{}", reset.stderr);
    assert_eq!(watch(), Ok(()));
    assert!(!on(&["cursors"], &repaired, &[]).stderr.contains("audit"));
}

#[test]
fn one_screen_about_a_store_says_which_cursor_is_furthest_behind() {
    let sample = with_cursors();
    let store = sample.text();
    let line = |store: &str| {
        let info = on(&["info"], store, &[]);
        assert_eq!((info.code, &*info.stderr), (Some(0), ""));
        value(&info, "cursors").to_owned()
    };
    let held = &listed(&store, "small")["held_bytes"];
    assert_eq!(line(&store), format!("4; furthest behind is small: 200 entries, {held} bytes held back"));
    for name in ["audit", "small"] {
        assert_eq!(cursor("reset", &store, &[name, "--to", "newest", "--execute"]).code, Some(0));
    }
    assert_eq!(line(&store), "4; none is behind");
    let without = Sample::empty();
    Journal::open(without.path()).unwrap().close().unwrap();
    assert_eq!(line(&without.text()), "");
}

#[test]
fn a_closed_pipe_is_fine_also_where_a_cursor_is_over_its_threshold() {
    let sample = with_cursors();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = tool(&["cursors", &sample.text(), "--max-lag", "1"]);
    let status = command.stdout(writer).stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(0));
}
