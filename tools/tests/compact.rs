//! Compaction as the tool plans and does it, and what the other commands show of a store that was compacted.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[path = "support/schema.rs"]
mod schema;
#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use esker::{At, CompactOptions, Fold, Journal, Keep, Record, Region, Seq, Start, Store, Topic};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::{Run, Sample, on, run, tool};

/// Readings of which the newest of each sensor counts, and an audit of which everything does.
const READINGS: u64 = 400;

/// A store with something to free, closed in order.
fn sample() -> Sample {
    let sample = Sample::empty();
    let journal = sample.open();
    let (reading, audit) = (journal.kind("reading").unwrap(), journal.kind("audit").unwrap());
    journal.keep(reading, Keep::Latest).unwrap();
    for n in 1..=READINGS {
        append(&journal, "reading", n);
        if n % 100 == 0 {
            journal.append(Record::new(audit, b"who", b"somebody looked")).unwrap();
        }
    }
    journal.close().unwrap();
    sample
}

fn append(journal: &Journal, kind: &str, n: u64) {
    let kind = journal.kind(kind).unwrap();
    let payload = format!("{n} {}", "x".repeat(200));
    journal.append(Record::new(kind, format!("s{}", n % 7).as_bytes(), payload.as_bytes())).unwrap();
}

fn all() -> CompactOptions {
    CompactOptions::new().keep_tombstones_for(Duration::ZERO).thorough(true)
}

/// The sample after it was compacted in its process.
fn compacted() -> Sample {
    let sample = sample();
    let journal = sample.open();
    assert!(journal.compact(&all()).unwrap().parts_written > 0);
    journal.close().unwrap();
    sample
}

/// Every byte of the store.
fn files(sample: &Sample) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(sample.path()).unwrap().map(Result::unwrap);
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect()
}

/// The value of a name, of the pairs that are printed.
fn value<'a>(run: &'a Run, name: &str) -> &'a str {
    run.rows().into_iter().find(|row| row[0] == name).map_or("", |row| row[1])
}

fn number(run: &Run, name: &str) -> u64 {
    value(run, name).trim_start_matches("about ").parse().unwrap()
}

fn seqs(run: &Run) -> Vec<u64> {
    run.rows().iter().map(|row| row[0].parse().unwrap()).collect()
}

/// The name of the only part's file.
fn part_name(sample: &Sample) -> String {
    files(sample).into_keys().find(|name| name.ends_with(".snap")).unwrap()
}

#[test]
fn a_plan_changes_no_byte_and_says_what_the_deed_then_does() {
    let sample = sample();
    let store = sample.text();
    let before = files(&sample);
    let plan = on(&["compact"], &store, &[]);
    assert_eq!((plan.code, &*plan.stderr), (Some(0), ""));
    assert_eq!(files(&sample), before, "nothing was written");
    assert!(number(&plan, "entries dropped") > 300, "{}", plan.stdout);
    assert_eq!(value(&plan, "next"), format!("esker compact {store} --execute"));
    assert_eq!(value(&plan, "floor now"), "-");

    let done = on(&["compact"], &store, &["--execute"]);
    assert_eq!((done.code, &*done.stderr), (Some(0), ""));
    for same in ["looked at, through", "entries dropped", "segments removed", "parts written", "bytes before"]
    {
        assert_eq!(value(&done, same), value(&plan, same), "{same}\n{}", plan.stdout);
    }
    let (planned, came) = (number(&plan, "bytes after"), number(&done, "bytes after"));
    assert!(planned.abs_diff(came) < 4096, "{planned} and {came}");
    assert!(came * 2 < number(&done, "bytes before"), "{}", done.stdout);
    let on_disk: u64 = files(&sample)
        .iter()
        .filter(|(name, _)| name.ends_with(".seg") || name.ends_with(".snap"))
        .map(|(_, bytes)| bytes.len() as u64)
        .sum();
    assert_eq!(on_disk, came);
    assert_eq!(on(&["verify"], &store, &[]).code, Some(0));
    // What is left: of each sensor the newest at least, and all of the audit.
    assert_eq!(seqs(&on(&["dump", "--kind", "audit"], &store, &[])).len(), 4);
    for n in 0..7 {
        let newest = on(&["dump", "--entity", &format!("reading/s{n}"), "--last", "1"], &store, &[]);
        assert_eq!(seqs(&newest).len(), 1);
    }
    // There is nothing more to do.
    let again = on(&["compact"], &store, &[]);
    assert_eq!((value(&again, "entries dropped"), value(&again, "next")), ("0", ""), "{}", again.stdout);
}

#[test]
fn a_plan_is_made_of_a_directory_that_nobody_may_write() {
    let sample = sample();
    let lock = |mode| {
        std::fs::set_permissions(sample.path(), PermissionsExt::from_mode(mode)).unwrap();
    };
    lock(0o555);
    let plan = on(&["compact"], &sample.text(), &[]);
    lock(0o755);
    assert_eq!(plan.code, Some(0), "{}", plan.stderr);
    assert!(number(&plan, "entries dropped") > 300);
}

#[test]
fn a_segment_that_has_no_index_yet_is_planned_with_like_the_others() {
    let sample = sample();
    let with = on(&["compact"], &sample.text(), &[]);
    let mut removed = 0;
    for name in files(&sample).keys().filter(|name| name.ends_with(".idx")) {
        std::fs::remove_file(sample.path().join(name)).unwrap();
        removed += 1;
    }
    assert!(removed > 3);
    let before = files(&sample);
    let without = on(&["compact"], &sample.text(), &[]);
    assert_eq!((without.code, &without.stdout), (Some(0), &with.stdout));
    assert_eq!(files(&sample), before, "nor is an index made");
}

#[test]
fn json_lines_say_what_would_be_done_who_holds_back_and_what_to_do() {
    let sample = sample();
    let journal = sample.open();
    sample.put(&journal, "slow", Region::all(), Start::After(Seq::new(60).unwrap()));
    journal.close().unwrap();
    let store = sample.text();
    let run =
        on(&["compact"], &store, &["--json", "--thorough", "--keep-for", "1500ms", "--rate", "1000000"]);
    assert_eq!(run.code, Some(0));
    let plan = &run.of_type("plan")[0];
    assert!(plan["bytes_before"].as_u64() > Some(READINGS * 200), "{plan}");
    assert_eq!(plan["damaged"], 0);
    let held = &run.of_type("held")[0];
    assert_eq!([&held["by"], &held["name"], &held["from"]], [&json!("cursor"), &json!("slow"), &json!(61)]);
    assert_eq!(held["advice"], format!("esker cursor retire {store} slow"));
    let summary = &run.of_type("summary")[0];
    assert_eq!(summary["executed"], false);
    let executed = on(&["compact"], &store, &["--json", "--execute"]);
    assert_eq!(executed.of_type("compaction").len(), 1);
    assert_eq!(executed.of_type("summary")[0]["executed"], true);
}

#[test]
fn the_command_that_a_plan_names_has_the_same_options() {
    let sample = sample();
    let options = [
        "--keep-for",
        "0s",
        "--tombstones",
        "1500ms",
        "--keep-bytes",
        "5",
        "--keep-entries",
        "6",
        "--rate",
        "7000000",
        "--thorough",
    ];
    let plan = on(&["compact"], &sample.text(), &options);
    let command = format!("esker compact {} ", sample.text());
    let next = value(&plan, "next").strip_prefix(&command).unwrap();
    let expected = "--keep-for 0s --tombstones 1500ms --keep-bytes 5 --keep-entries 6 --rate 7000000 \
                    --thorough --execute";
    assert_eq!(next, expected);
    let words: Vec<&str> = next.split(' ').collect();
    assert_eq!(on(&["compact"], &sample.text(), &words).code, Some(0));
    // What is young, or little enough, is left alone.
    let sample = self::sample();
    let planned = |options: &[&str]| number(&on(&["compact"], &sample.text(), options), "entries dropped");
    assert_eq!(planned(&["--keep-for", "1h"]), 0);
    assert_eq!(planned(&["--keep-bytes", "100000000"]), 0);
    assert!(planned(&["--keep-entries", "200"]) < planned(&[]));
    for wrong in [["--keep-for", "-1h"], ["--rate", "x"], ["--keep-bytes", "-5"]] {
        assert_eq!(on(&["compact"], &sample.text(), &wrong).code, Some(2), "{wrong:?}");
    }
}

#[test]
fn a_cursor_that_holds_back_is_named_everywhere_and_once_retired_the_space_is_free() {
    let sample = sample();
    let journal = sample.open();
    sample.put(&journal, "slow", Region::all(), Start::Oldest);
    journal.close().unwrap();
    let store = sample.text();
    let held = on(&["compact"], &store, &["--execute"]);
    assert_eq!((held.code, value(&held, "entries dropped")), (Some(0), "0"), "{}", held.stdout);
    assert!(value(&held, "held back by").starts_with("cursor slow, which has not seen entry 1: "));
    assert!(value(&held, "advice").starts_with(&format!("esker cursor retire {store} slow")));
    let info = on(&["info"], &store, &[]);
    assert!(
        value(&info, "held back by").starts_with("cursor slow: 404 entries from 1 on, "),
        "{}",
        info.stdout
    );
    assert_eq!(value(&info, "floor"), "", "nothing was dropped");
    assert_eq!(on(&["info"], &store, &["--json"]).of_type("store")[0]["held_back_by"]["from"], 1);

    assert_eq!(run(&["cursor", "retire", &store, "slow", "--execute"]).code, Some(0));
    let done = on(&["compact"], &store, &["--execute"]);
    assert!(number(&done, "entries dropped") > 300, "{}", done.stdout);
    assert_eq!((value(&done, "held back by"), value(&done, "advice")), ("", ""));
    let info = on(&["info"], &store, &[]);
    assert_eq!(value(&info, "held back by"), "");
    let (floor, dropped) = (value(&done, "floor"), value(&done, "entries dropped"));
    let text = format!("{floor}: where compaction went, {dropped} entries were dropped and ");
    assert!(value(&info, "floor").starts_with(&text), "{}", info.stdout);
    assert!(value(&info, "segments").contains(" and 1 part in the log"), "{}", info.stdout);
    let json = &on(&["info"], &store, &["--json"]).of_type("store")[0];
    assert_eq!(
        [&json["floor"], &json["dropped"]],
        [&floor.parse::<u64>().unwrap(), &dropped.parse().unwrap()]
    );
    let stats = on(&["stats"], &store, &["--format", "prometheus"]);
    for line in [format!("\nesker_floor {floor}\n"), "\nesker_parts 1\n".to_owned()] {
        assert!(stats.stdout.contains(&line), "{}", stats.stdout);
    }
    let kinds = on(&["kinds"], &store, &["--json"]).of_type("kind");
    assert_eq!([&kinds[0]["keep"], &kinds[1]["keep"]], ["latest", "all"]);
    assert_eq!((&kinds[0]["floor"], &kinds[1]["floor"]), (&json["floor"], &Value::Null));
}

#[test]
fn beside_a_live_writer_a_plan_is_made_and_the_deed_is_refused() {
    let sample = sample();
    let journal = sample.open();
    append(&journal, "reading", 1);
    let store = sample.text();
    let plan = on(&["compact"], &store, &[]);
    assert_eq!(plan.code, Some(0));
    assert!(plan.stderr.contains("that is who can compact it"), "{}", plan.stderr);
    let refused = on(&["compact"], &store, &["--execute"]);
    assert_eq!((refused.code, &*refused.stdout), (Some(3), ""), "{}", refused.stderr);
    let keep = run(&["keep", &store, "audit", "nothing", "--execute"]);
    assert_eq!(keep.code, Some(3), "{}", keep.stderr);
    let done = journal.compact(&CompactOptions::new()).unwrap();
    assert_eq!(done.entries_dropped, number(&plan, "entries dropped"));
    journal.close().unwrap();
}

#[test]
fn what_is_no_store_is_refused_and_a_backup_is_compacted_where_it_was_restored() {
    let sample = sample();
    let (store, nowhere) = (sample.text(), format!("{}-not", sample.text()));
    for command in [&["compact"][..], &["compact", "--execute"], &["keep", "reading", "all"]] {
        let refused = on(command, &nowhere, &[]);
        assert_eq!((refused.code, &*refused.stdout), (Some(3), ""), "{command:?}");
    }
    assert!(!std::path::Path::new(&nowhere).exists());
    let backup = format!("{store}-backup");
    assert_eq!(run(&["backup", &store, &backup]).code, Some(0));
    let plan = on(&["compact"], &backup, &[]);
    assert_eq!(plan.code, Some(0), "{}", plan.stderr);
    assert!(number(&plan, "entries dropped") > 300);
    assert!(value(&plan, "next").starts_with(&format!("esker restore {backup} NEW")), "{}", plan.stdout);
    assert_eq!(on(&["compact"], &backup, &["--execute"]).code, Some(3));
    // A backup of what was compacted is one with its parts.
    let compacted = compacted();
    let (backup, restored) = (format!("{store}-2"), format!("{store}-3"));
    assert_eq!(run(&["backup", &compacted.text(), &backup]).code, Some(0));
    assert_eq!(run(&["restore", &backup, &restored]).code, Some(0));
    assert_eq!(seqs(&on(&["dump"], &restored, &[])), seqs(&on(&["dump"], &compacted.text(), &[])));
}

#[test]
fn a_policy_is_shown_and_given_to_a_store_without_its_application() {
    let sample = sample();
    let store = sample.text();
    let before = files(&sample);
    let shown = run(&["keep", &store, "audit", "nothing"]);
    assert_eq!((shown.code, &*shown.stderr), (Some(0), ""));
    assert_eq!(files(&sample), before);
    assert_eq!(value(&shown, "kept before"), "all");
    assert!(value(&shown, "kept then").starts_with("nothing: "));
    assert_eq!(value(&shown, "next"), format!("esker keep {store} audit nothing --execute"));
    for _ in 0..2 {
        let done = run(&["keep", &store, "audit", "nothing", "--execute"]);
        assert_eq!((done.code, value(&done, "done")), (Some(0), "keeps nothing"), "{}", done.stderr);
    }
    let json = run(&["keep", &store, "audit", "all", "--json"]);
    assert_eq!([&json.of_type("plan")[0]["before"], &json.of_type("plan")[0]["then"]], ["nothing", "all"]);
    let done = on(&["compact"], &store, &["--execute", "--thorough"]);
    assert_eq!(done.code, Some(0));
    assert!(seqs(&on(&["dump", "--kind", "audit"], &store, &[])).len() < 4);
    let wrong = run(&["keep", &store, "adit", "all"]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.stderr.contains("no kind \"adit\"; there are: reading, audit"), "{}", wrong.stderr);
    assert_eq!(run(&["keep", &store, "audit", "some"]).code, Some(2));
    // A store where every kind keeps all is told how to change that.
    for kind in ["audit", "reading"] {
        assert_eq!(run(&["keep", &store, kind, "all", "--execute"]).code, Some(0));
    }
    let plan = on(&["compact"], &store, &[]);
    assert!(value(&plan, "advice").starts_with("every kind keeps all; esker keep "), "{}", plan.stdout);
}

#[test]
fn every_command_shows_a_compacted_store_and_places_in_parts_are_places() {
    let sample = compacted();
    let store = sample.text();
    let left = seqs(&on(&["dump"], &store, &[]));
    assert!(left.len() < 200 && left.is_sorted(), "{left:?}");
    let commands: [&[&str]; 7] =
        [&["info"], &["segments"], &["kinds"], &["entities"], &["stats"], &["cursors"], &["verify"]];
    for command in commands {
        let run = on(command, &store, &[]);
        assert_eq!((run.code, &*run.stderr), (Some(0), ""), "{command:?} {}", run.stdout);
    }
    let mut backward = seqs(&on(&["dump", "--reverse"], &store, &[]));
    backward.reverse();
    assert_eq!(backward, left);
    assert_eq!(seqs(&on(&["dump", "--last", "200"], &store, &[])), left);
    let middle = left[left.len() / 2];
    let from = on(&["dump", "--seq", &format!("{middle}..")], &store, &[]);
    assert_eq!(seqs(&from), left[left.len() / 2..]);
    for (n, seq) in left.iter().enumerate().step_by(3) {
        let one = on(&["get"], &store, &[&seq.to_string(), "--json"]).of_type("entry");
        assert_eq!((one.len(), &one[0]["seq"]), (1, &json!(seq)), "{n}");
    }
    // What was dropped is not damage, and is told from what never was.
    let gone = (1..).find(|seq| !left.contains(seq)).unwrap().to_string();
    let get = on(&["get"], &store, &[&gone]);
    assert_eq!(get.code, Some(2));
    assert!(get.stderr.contains(&format!("no entry {gone}: compaction dropped it")), "{}", get.stderr);
    let last = on(&["get"], &store, &["999"]);
    assert!(last.stderr.contains("the last one is "), "{}", last.stderr);

    let parts: Vec<Value> = on(&["segments"], &store, &["--json"])
        .of_type("segment")
        .into_iter()
        .filter(|segment| segment["state"] == "part")
        .collect();
    assert_eq!(parts.len(), 1);
    assert_eq!((&parts[0]["name"], &parts[0]["stands_for"]["first_segment"]), (&json!("part-1"), &json!(1)));
    let rows = on(&["segments"], &store, &[]);
    assert_eq!((rows.rows()[0][0], rows.rows()[0][1]), ("part-1", "part"));
    assert!(rows.rows()[0][2].starts_with("1.."), "{}", rows.stdout);
    let entry = on(&["get"], &store, &[&left[0].to_string(), "--json"]).of_type("entry");
    let place = entry[0]["position"].as_str().unwrap();
    assert_eq!(place, "part-1:128");
    let hex = on(&["hex"], &store, &[place]);
    assert!(hex.stdout.contains("frame fact") && hex.stdout.contains("key = who"), "{}", hex.stdout);
    assert!(on(&["hex"], &store, &["part-1"]).stdout.contains("part header, checksum good"));
    let none = on(&["hex"], &store, &["part-9"]);
    assert_eq!(none.code, Some(2));
    assert!(none.stderr.contains("no segment part-9; the log has part-1 to "), "{}", none.stderr);
}

#[test]
fn damage_in_a_part_is_named_by_the_part_and_what_lies_behind_is_shown() {
    let sample = compacted();
    let store = sample.text();
    let left = seqs(&on(&["dump"], &store, &[]));
    let second = on(&["get"], &store, &[&left[1].to_string(), "--json"]).of_type("entry");
    let offset: u64 =
        second[0]["position"].as_str().unwrap().strip_prefix("part-1:").unwrap().parse().unwrap();
    let path = sample.path().join(part_name(&sample));
    let good = std::fs::read(&path).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    let at = usize::try_from(offset).unwrap() + 16;
    file.write_all_at(&[good[at] ^ 0xff], at as u64).unwrap();
    let dump = on(&["dump"], &store, &[]);
    assert_eq!(dump.code, Some(1));
    let without: Vec<u64> = left.iter().copied().filter(|seq| *seq != left[1]).collect();
    assert_eq!(seqs(&dump), without);
    let at_most = if left[2] - left[0] == 2 { left[1].to_string() } else { format!("{}..", left[0] + 1) };
    assert!(dump.stderr.contains(&format!("part-1:{offset}: ")), "{}", dump.stderr);
    assert!(dump.stderr.contains(&format!("seq {at_most}")), "{}", dump.stderr);
    assert!(dump.stderr.contains("the next good frame is at part-1:"), "{}", dump.stderr);
    let verify = on(&["verify"], &store, &[]);
    assert_eq!(verify.code, Some(1));
    assert!(
        verify.stdout.contains(&format!("{}, offset {offset}: ", part_name(&sample))),
        "{}",
        verify.stdout
    );
    let plan = on(&["compact"], &store, &["--thorough"]);
    assert!(plan.code == Some(0) || plan.code == Some(1), "{}", plan.stderr);
    // The part is gone: what it held is lost, and the rest is there.
    std::fs::remove_file(&path).unwrap();
    let dump = on(&["dump"], &store, &["--json", "--payload", "none"]);
    let lost = &dump.of_type("finding")[0];
    assert_eq!((&lost["first_seq"], &lost["name"]), (&json!(1), &json!("part-1")));
    let through = lost["last_seq"].as_u64().unwrap();
    let rest: Vec<u64> = dump.of_type("entry").iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
    assert_eq!(rest, left.iter().copied().filter(|seq| *seq > through).collect::<Vec<_>>());
    let segments = on(&["segments"], &store, &[]);
    assert_eq!((segments.code, segments.rows()[0][1]), (Some(1), "damaged"));
    let verify = on(&["verify"], &store, &[]);
    assert_eq!(verify.code, Some(1));
    assert!(verify.stdout.contains(".snap"), "{}", verify.stdout);
}

#[test]
fn without_the_index_of_a_part_everything_is_shown_as_with_it() {
    let sample = compacted();
    let store = sample.text();
    let commands: [&[&str]; 5] = [&["dump"], &["kinds"], &["entities"], &["info"], &["compact"]];
    let before: Vec<String> = commands.map(|command| on(command, &store, &[]).stdout).to_vec();
    let index = part_name(&sample) + ".idx";
    std::fs::remove_file(sample.path().join(index)).unwrap();
    for (command, before) in commands.iter().zip(before) {
        let run = on(command, &store, &[]);
        assert_eq!((run.code, run.stdout), (Some(0), before), "{command:?} {}", run.stderr);
    }
    let segments = on(&["segments"], &store, &["--json"]).of_type("segment");
    assert_eq!((&segments[0]["state"], &segments[0]["indexed"]), (&json!("part"), &json!(false)));
    assert_eq!(on(&["verify"], &store, &[]).code, Some(0));
}

#[test]
fn what_a_crash_left_of_a_compaction_is_listed_as_dead_and_shown_nowhere_else() {
    let sample = sample();
    let store = sample.text();
    let before = files(&sample);
    let journal = sample.open();
    journal.compact(&all()).unwrap();
    journal.close().unwrap();
    let left = seqs(&on(&["dump"], &store, &[]));
    // The first segment was not unlinked, and a part was made that the manifest does not name.
    std::fs::write(sample.path().join("0000000001.seg"), &before["0000000001.seg"]).unwrap();
    let part = std::fs::read(sample.path().join(part_name(&sample))).unwrap();
    std::fs::write(sample.path().join("0000000009.snap"), part).unwrap();
    assert_eq!(seqs(&on(&["dump"], &store, &[])), left);
    let segments = on(&["segments"], &store, &[]);
    let states: Vec<(&str, &str)> = segments.rows().iter().map(|row| (row[0], row[1])).collect();
    assert_eq!(states[..2], [("1", "dead"), ("part-1", "part")]);
    assert_eq!(*states.last().unwrap(), ("part-9", "dead"));
    let hex = on(&["hex"], &store, &["1:128"]);
    assert!(hex.stdout.contains("preamble"), "what is there can be looked at: {}", hex.stdout);
    let verify = on(&["verify"], &store, &[]);
    assert_eq!(verify.code, Some(0), "{}", verify.stdout);
    assert_eq!(verify.stdout.lines().filter(|line| line.starts_with("note\t")).count(), 2);
    // The next opening for writing removes both.
    assert_eq!(on(&["compact"], &store, &["--execute"]).code, Some(0));
    assert!(
        !files(&sample).contains_key("0000000001.seg") && !files(&sample).contains_key("0000000009.snap")
    );
}

#[test]
fn a_stretch_of_which_nothing_is_kept_is_listed_without_a_file() {
    let sample = sample();
    let store = sample.text();
    assert_eq!(run(&["keep", &store, "reading", "nothing", "--execute"]).code, Some(0));
    assert_eq!(run(&["keep", &store, "audit", "nothing", "--execute"]).code, Some(0));
    let plan = on(&["compact"], &store, &[]);
    assert_eq!((value(&plan, "parts written"), value(&plan, "bytes copied")), ("0", "0"));
    assert_eq!(on(&["compact"], &store, &["--execute"]).code, Some(0));
    assert!(!files(&sample).keys().any(|name| name.ends_with(".snap")));
    let segments = on(&["segments"], &store, &[]);
    assert_eq!((segments.rows()[0][0], segments.rows()[0][1]), ("-", "dropped"), "{}", segments.stdout);
    let first = seqs(&on(&["dump"], &store, &[]))[0];
    assert!(value(&on(&["info"], &store, &[]), "floor").starts_with(&format!("{first}: ")));
    assert_eq!(on(&["get"], &store, &["5"]).code, Some(2));
    assert_eq!(seqs(&on(&["dump", "--seq", &format!("1..{first}")], &store, &[])), [first]);
    assert_eq!(on(&["verify"], &store, &[]).code, Some(0));
}

#[test]
fn a_cursor_that_compaction_went_past_is_lost_and_over_every_limit() {
    let sample = sample();
    let journal = sample.open();
    // It may hold back a thousand bytes.
    sample.put(&journal, "small", Region::all(), Start::Oldest);
    journal.compact(&CompactOptions::new()).unwrap();
    journal.close().unwrap();
    let store = sample.text();
    let listed = on(&["cursors"], &store, &[]);
    assert_eq!(listed.code, Some(0), "a list is no check");
    assert!(listed.stdout.contains("\tup to 1000 bytes: lost\t"), "{}", listed.stdout);
    let advice = format!("esker cursor reset {store} small --to oldest --execute");
    assert!(listed.stderr.contains("cursor \"small\" is lost") && listed.stderr.contains(&advice));
    let check = on(&["cursors"], &store, &["--max-lag", "100000"]);
    assert_eq!(check.code, Some(1));
    assert!(check.stderr.contains("over: cursor \"small\": lost"), "{}", check.stderr);
    let json = on(&["cursors"], &store, &["--json", "--max-bytes", "99999999"]);
    let cursor = &json.of_type("cursor")[0];
    assert_eq!((&cursor["lost"], &cursor["over"]), (&json!(true), &json!(["lost"])));
    assert!(value(&on(&["info"], &store, &[]), "cursors").contains("lost: 1"));
    for place in ["newest", "2h"] {
        let plan = run(&["cursor", "reset", &store, "small", "--to", place]);
        assert_eq!(plan.code, Some(0), "{place}: {}", plan.stderr);
    }
    for place in ["+0", "newest"] {
        let done = run(&["cursor", "reset", &store, "small", "--to", place, "--execute"]);
        assert_eq!(done.code, Some(0), "{place}: {}", done.stderr);
    }
    assert_eq!(on(&["cursors"], &store, &[]).stderr, "");
    assert_eq!(run(&["cursor", "reset", &store, "small", "--to", "oldest", "--execute"]).code, Some(0));
    assert_eq!(on(&["cursors"], &store, &[]).stderr, "");
}

#[test]
fn a_follower_that_compaction_overtakes_says_what_it_missed_and_goes_on() {
    for json in [false, true] {
        let sample = sample();
        let journal = sample.open();
        append(&journal, "reading", 1);
        let mut args = vec!["dump", "-f", "--last", "1", "--payload", "none"];
        args.extend(json.then_some("--json"));
        let store = sample.text();
        args.insert(1, &store);
        let mut child = tool(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let seq_of = |line: &str| -> Option<u64> {
            if json {
                let line: Value = serde_json::from_str(line).unwrap();
                return (line["type"] == "entry").then(|| line["seq"].as_u64().unwrap());
            }
            line.split('\t').next().unwrap().parse().ok()
        };
        let first = lines.by_ref().find_map(|line| seq_of(&line)).unwrap();
        assert_eq!(first, READINGS + 5);
        // It sleeps while much is appended and most of it dropped.
        let pid = Pid::from_child(&child);
        kill_process(pid, Signal::STOP).unwrap();
        for n in 0..500 {
            append(&journal, "reading", n);
        }
        let done = journal.compact(&all()).unwrap();
        assert!(done.floor.unwrap().get() > first + 300, "{done:?}");
        kill_process(pid, Signal::CONT).unwrap();
        append(&journal, "reading", 7);
        let newest = first + 501;
        let (mut shown, mut gaps) = (Vec::new(), Vec::new());
        for line in lines.by_ref() {
            match seq_of(&line) {
                Some(seq) => shown.push(seq),
                None => gaps.push(serde_json::from_str::<Value>(&line).unwrap()),
            }
            if shown.last() == Some(&newest) {
                break;
            }
        }
        kill_process(pid, Signal::INT).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130));
        let there: Vec<u64> = {
            let view = journal.view();
            view.range(..).map(|entry| entry.unwrap().seq().get()).filter(|seq| *seq > first).collect()
        };
        // What it read of segments that were still mapped, it may show beside what is there now.
        assert!(there.iter().all(|seq| shown.contains(seq)), "{shown:?}");
        assert!(shown.is_sorted_by(|a, b| a < b), "{shown:?}");
        let missed = newest - first - shown.len() as u64;
        assert!(missed > 200, "{missed}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        if json {
            let shape: Value = serde_json::from_str(&run(&["schema", "--type", "gap"]).stdout).unwrap();
            assert_eq!(schema::faults(&shape, &gaps[0], &shape), [""; 0]);
            assert_eq!((gaps.len(), &gaps[0]["reason"]), (1, &json!("compacted")), "{gaps:?}");
            let range = gaps[0]["first_seq"].as_u64().unwrap()..=gaps[0]["last_seq"].as_u64().unwrap();
            let is_told = |seq: &u64| shown.contains(seq) || range.contains(seq);
            assert!((first + 1..=newest).all(|seq| is_told(&seq)), "{range:?} {shown:?}");
        } else {
            assert_eq!(stderr.matches("gap: compaction came before this follower").count(), 1, "{stderr}");
        }
        journal.close().unwrap();
    }
}

#[test]
fn a_writer_that_compacts_all_the_time_is_never_taken_for_damage() {
    let sample = sample();
    let store = sample.text();
    let journal = sample.open();
    let done = AtomicBool::new(false);
    let commands: [&[&str]; 9] = [
        &["dump", "--payload", "none"],
        &["dump", "--reverse", "--payload", "none"],
        &["dump", "--last", "50", "--payload", "none"],
        &["segments"],
        &["info"],
        &["kinds"],
        &["cursors"],
        &["stats"],
        &["compact"],
    ];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                for _ in 0..150 {
                    n += 1;
                    append(&journal, "reading", n);
                }
                journal.compact(&all()).unwrap();
            }
        });
        let runs = (0..30).flat_map(|_| &commands);
        let bad: Vec<String> = runs
            .filter_map(|command| {
                let run = on(command, &store, &[]);
                // Whoever reads too slowly is told to look again.
                let is_fine = run.code == Some(0) || run.stderr.contains("compacted");
                let is_in_order = command[0] != "dump"
                    || seqs(&run).is_sorted_by(|a, b| if command[1] == "--reverse" { a > b } else { a < b });
                (!is_fine || !is_in_order || run.stderr.contains("damage"))
                    .then(|| format!("{command:?} {:?} {}{:.300}", run.code, run.stderr, run.stdout))
            })
            .collect();
        done.store(true, Ordering::Relaxed);
        assert!(bad.is_empty(), "{} of 270:\n{}", bad.len(), bad.join("\n"));
    });
    journal.close().unwrap();
}

#[test]
fn what_every_fold_has_in_its_image_goes_and_the_application_need_not_be_there() {
    const NUMBERS: Topic<String> = Topic::new("number");
    struct Count;
    impl Fold for Count {
        type State = u64;
        type Event = String;
        const NAME: &'static str = "count";
        const VERSION: u32 = 1;
        fn fold(count: &mut u64, _: String, _: &At) {
            *count += 1;
        }
    }
    let sample = Sample::empty();
    let store = Store::over(sample.open());
    let topic = store.topic(NUMBERS, "a").unwrap();
    (0..200).for_each(|n| _ = topic.append(&format!("{n} {}", "x".repeat(200))).unwrap());
    let fold = topic.fold::<Count>().unwrap();
    fold.save_image().unwrap();
    let (other, last) = (store.topic(NUMBERS, "b").unwrap(), topic.head().unwrap());
    (0..200).for_each(|n| _ = other.append(&format!("{n} {}", "y".repeat(200))).unwrap());
    drop(fold);
    store.close().unwrap();

    let path = sample.text();
    assert_eq!(on(&["keep"], &path, &["number", "fold", "--execute"]).code, Some(0));
    let plan = on(&["compact"], &path, &[]);
    assert!(value(&plan, "advice").contains("when it is done"), "{}", plan.stdout);
    let done = on(&["compact"], &path, &["--thorough", "--execute"]);
    assert_eq!((done.code, number(&done, "entries dropped")), (Some(0), 199), "{}", done.stdout);
    assert!(on(&["kinds"], &path, &[]).stdout.contains("fold"));

    let store = Store::over(sample.open());
    let topic = store.topic(NUMBERS, "a").unwrap();
    assert_eq!(topic.lowest_retained().unwrap(), last);
    assert_eq!(topic.fold::<Count>().unwrap().read().unwrap().value, 200);
    assert_eq!(store.topic(NUMBERS, "b").unwrap().fold::<Count>().unwrap().read().unwrap().value, 200);
    store.close().unwrap();
}
