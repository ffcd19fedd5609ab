//! The health of a store in one line: what it looks at, which is worst, and how it ends.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;

use std::fs::File;
use std::os::unix::fs::FileExt;

use esker::{CompactOptions, Keep, Record, Region, Seq, Start};
use support::{AUDITED, ENTRIES, Run, Sample, flip, on, place, run};

const LAG: u64 = ENTRIES - AUDITED;

fn check(sample: &Sample, more: &[&str]) -> Run {
    on(&["check"], &sample.text(), more)
}

fn assert_one_line(run: &Run, code: i32, begins: &str) {
    assert_eq!(run.code, Some(code), "{}{}", run.stdout, run.stderr);
    assert_eq!(run.stdout.lines().count(), 1, "{}", run.stdout);
    assert!(run.stdout.starts_with(begins), "{}", run.stdout);
}

#[test]
fn a_store_that_is_well_is_fine_in_every_form() {
    let sample = Sample::new();
    assert_one_line(&check(&sample, &[]), 0, "ok: 300 entries");
    assert_one_line(&check(&sample, &["--format", "nagios", "--full"]), 0, "ESKER OK - 300 entries");
    let json = check(&sample, &["--format", "json"]);
    assert_eq!((json.code, json.of_type("trouble").len()), (Some(0), 0));
    let summary = json.of_type("summary").remove(0);
    assert_eq!((&summary["health"], &summary["max_lag"]), (&"ok".into(), &LAG.into()));
    let metrics = check(&sample, &["--format", "prometheus"]);
    assert!(metrics.stdout.lines().any(|line| line == "esker_check_health 0"), "{}", metrics.stdout);
    assert!(metrics.stdout.contains(&format!("\nesker_check_lag_entries_max {LAG}\n")), "{}", metrics.stdout);
}

#[test]
fn a_cursor_over_a_threshold_is_a_warning_with_both_numbers() {
    let sample = Sample::new();
    let limit = (LAG - 1).to_string();
    let over = check(&sample, &["--max-lag", &limit, "--format", "nagios"]);
    assert_one_line(&over, 1, "ESKER WARNING - cursor ");
    assert!(over.stdout.contains(&format!("{LAG} entries behind, over {limit}")), "{}", over.stdout);
    assert!(over.stdout.contains(&format!("lag={LAG};{limit};;0")), "{}", over.stdout);
    assert_one_line(&check(&sample, &["--max-lag", &LAG.to_string()]), 0, "ok");
    assert_one_line(&check(&sample, &["--max-bytes", "1"]), 1, "warning: ");
    assert_one_line(&check(&sample, &["--max-age", "0s"]), 1, "warning: ");
}

#[test]
fn a_lost_cursor_is_critical_whatever_the_thresholds_are() {
    let sample = Sample::new();
    let journal = sample.open();
    for kind in ["note", "doc"] {
        journal.keep(journal.kind(kind).unwrap(), Keep::Nothing).unwrap();
    }
    journal.retire_cursor("audit").unwrap();
    sample.put(&journal, "small", Region::all(), Start::After(Seq::new(1).unwrap()));
    journal.compact(&CompactOptions::new().thorough(true)).unwrap();
    journal.close().unwrap();
    let lost = check(&sample, &["--format", "nagios"]);
    assert_one_line(&lost, 2, "ESKER CRITICAL - cursor ");
    assert!(lost.stdout.contains("lost") && lost.stdout.contains("esker cursor reset"), "{}", lost.stdout);
    assert_one_line(&check(&sample, &[]), 1, "critical: ");
}

#[test]
fn damage_is_the_worst_and_names_what_to_run() {
    let sample = Sample::new();
    let store = sample.text();
    let (segment, offset) = place(&store, 5);
    flip(&sample.path(), segment, offset + 90);
    assert_one_line(&check(&sample, &["--quick"]), 0, "ok");
    let damaged = check(&sample, &["--full", "--max-lag", "1", "--format", "nagios"]);
    assert_one_line(&damaged, 2, "ESKER CRITICAL - ");
    assert!(
        damaged.stdout.contains("(the worst of ") && damaged.stdout.contains("esker verify"),
        "{}",
        damaged.stdout
    );
    let json = check(&sample, &["--full", "--max-lag", "1", "--json"]);
    let about: Vec<_> =
        json.of_type("trouble").iter().map(|line| line["about"].as_str().unwrap().to_owned()).collect();
    assert!(about.contains(&"damage".to_owned()) && about.contains(&"cursor".to_owned()), "{about:?}");
    assert_eq!(json.of_type("summary")[0]["health"], "critical");
}

#[test]
fn an_unfinished_tail_a_missing_index_and_a_full_disk_are_seen() {
    let sample = Sample::new();
    let segments = run(&["segments", &sample.text(), "--json"]).of_type("segment");
    let active = segments.iter().find(|segment| segment["state"] == "active").unwrap();
    let file = sample.path().join(format!("{:010}.seg", active["number"].as_u64().unwrap()));
    let end = active["bytes_used"].as_u64().unwrap();
    File::options().write(true).open(file).unwrap().write_all_at(b"half a frame", end + 8).unwrap();
    let tail = check(&sample, &[]);
    assert_one_line(&tail, 1, "warning: ");
    assert!(tail.stdout.contains("unfinished"), "{}", tail.stdout);

    let sample = Sample::new();
    std::fs::remove_file(sample.path().join("0000000001.idx")).unwrap();
    let missing = check(&sample, &[]);
    assert_one_line(&missing, 1, "warning: there is no index of 1");

    let full = check(&Sample::new(), &["--min-free", "18446744073709551615", "--format", "nagios"]);
    assert_one_line(&full, 2, "ESKER CRITICAL - ");
    assert!(full.stdout.contains("bytes are free"), "{}", full.stdout);
}

#[test]
fn a_store_that_is_not_there_is_unknown_to_a_plugin() {
    let sample = Sample::empty();
    assert_one_line(&check(&sample, &["--format", "nagios"]), 3, "ESKER UNKNOWN - ");
    let missing = check(&sample, &[]);
    assert_eq!((missing.code, missing.stdout.as_str()), (Some(3), ""));
}

#[test]
fn a_live_store_is_well_while_it_is_written() {
    let sample = Sample::new();
    let journal = sample.open();
    let kind = journal.kind("note").unwrap();
    journal.append(Record::new(kind, b"k", b"now")).unwrap();
    assert_one_line(&check(&sample, &[]), 0, "ok: 301 entries");
    journal.close().unwrap();
}

#[test]
fn damage_behind_the_end_of_the_log_is_seen_as_other_commands_see_it() {
    let sample = Sample::new();
    let segments = run(&["segments", &sample.text(), "--json"]).of_type("segment");
    let active = segments.iter().find(|segment| segment["state"] == "active").unwrap();
    let number = active["number"].as_u64().unwrap();
    // In the middle of the segment that the log ends in, which has no index.
    let last = place(&sample.text(), ENTRIES - 1);
    assert_eq!(last.0, number);
    flip(&sample.path(), last.0, last.1 + 4);
    let info = run(&["segments", &sample.text(), "--json"]);
    assert_eq!((info.code, &info.of_type("summary")[0]["damaged"]), (Some(1), &1.into()));
    for format in ["text", "nagios", "prometheus", "json"] {
        let check = check(&sample, &["--format", format]);
        assert_eq!(check.code, Some(if format == "nagios" { 2 } else { 1 }), "{}", check.stdout);
    }
    let summary = check(&sample, &["--json"]).of_type("summary").remove(0);
    assert_eq!((&summary["health"], &summary["damaged"]), (&"critical".into(), &1.into()), "{summary}");
}

#[test]
fn a_manifest_that_cannot_be_read_is_critical_in_every_form() {
    let sample = Sample::new();
    let file = File::options().write(true).open(sample.path().join("MANIFEST")).unwrap();
    file.write_all_at(&[0xff; 64], 16).unwrap();
    assert_one_line(&check(&sample, &[]), 1, "critical: ");
    let nagios = check(&sample, &["--format", "nagios"]);
    assert_one_line(&nagios, 2, "ESKER CRITICAL - ");
    assert!(nagios.stdout.contains("damaged=1;"), "{}", nagios.stdout);
    let metrics = check(&sample, &["--format", "prometheus"]);
    assert!(metrics.stdout.lines().any(|line| line == "esker_check_health 2"), "{}", metrics.stdout);
    let json = check(&sample, &["--json"]);
    assert_eq!((json.code, json.of_type("trouble").len()), (Some(1), 1));
    assert_eq!(json.of_type("summary")[0]["damaged"], 1);
}

#[test]
fn one_bad_index_is_one_trouble() {
    let sample = Sample::new();
    let file = File::options().write(true).open(sample.path().join("0000000001.idx")).unwrap();
    file.write_all_at(&[0xff; 8], 70).unwrap();
    let json = check(&sample, &["--json"]);
    assert_eq!(json.of_type("trouble").len(), 1, "{}", json.stdout);
    assert_eq!(json.of_type("trouble")[0]["about"], "derived");
}

#[test]
fn a_live_store_says_that_it_is() {
    let sample = Sample::new();
    let journal = sample.open();
    assert!(check(&sample, &[]).stderr.contains("live, writer pid "));
    journal.close().unwrap();
    assert!(!check(&sample, &[]).stderr.contains("live"));
}

#[test]
fn a_store_without_its_manifest_has_a_whole_summary_and_the_disk_is_not_said_to_be_full() {
    let sample = Sample::new();
    std::fs::remove_file(sample.path().join("MANIFEST")).unwrap();
    for (more, looked) in [(&["--json"][..], "quick"), (&["--json", "--full"], "full")] {
        let run = check(&sample, more);
        assert_eq!(run.code, Some(1), "{}", run.stdout);
        let summary = run.of_type("summary").remove(0);
        assert_eq!((&summary["check"], &summary["health"]), (&looked.into(), &"critical".into()));
        assert!(summary["free_bytes"].as_u64().unwrap() > 0, "{summary}");
    }
}

#[test]
fn a_part_that_is_not_there_is_critical_and_damage_to_a_quick_look_too() {
    let sample = Sample::new();
    let journal = sample.open();
    journal.keep(journal.kind("note").unwrap(), Keep::Nothing).unwrap();
    journal.retire_cursor("audit").unwrap();
    assert!(journal.compact(&CompactOptions::new().thorough(true)).unwrap().parts_written > 0);
    sample.put(&journal, "late", Region::all(), Start::Oldest);
    journal.close().unwrap();
    let is_part = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "snap");
    let parts = std::fs::read_dir(sample.path()).unwrap().map(|file| file.unwrap().path());
    std::fs::remove_file(parts.into_iter().find(is_part).unwrap()).unwrap();
    assert_one_line(&check(&sample, &["--format", "nagios"]), 2, "ESKER CRITICAL - ");
    assert_one_line(&check(&sample, &["--full"]), 1, "critical: ");
    let quick = on(&["verify"], &sample.text(), &["--quick"]);
    assert_eq!(quick.code, Some(1));
    assert!(quick.stdout.contains("damage") && quick.stdout.contains("esker repair"), "{}", quick.stdout);
}

#[test]
fn free_space_is_asked_for_with_a_unit() {
    assert_one_line(&check(&Sample::new(), &["--min-free", "1K"]), 0, "ok");
    let full = check(&Sample::new(), &["--min-free", "16000000T"]);
    assert_one_line(&full, 1, "critical: ");
}
