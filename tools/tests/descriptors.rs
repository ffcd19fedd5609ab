//! The tool under a limit of open files that is far below the number of segments.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use esker::{Durability, Keep, Options, Record};
use support::{Run, run};

/// More than the standard streams, a lock or two, and a few files at a time.
const FEW: u32 = 32;

/// Runs the tool where neither limit lets it have more descriptors.
fn run_with(limits: &str, args: &[&str]) -> Run {
    let script = format!("{limits} && exec \"$0\" \"$@\"");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_esker")]).args(args).stdin(Stdio::null());
    let output = shell.output().unwrap();
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn run_with_few(args: &[&str]) -> Run {
    run_with(&format!("ulimit -n {FEW}"), args)
}

/// A store with more segments than a process may open files, of which compaction can drop much.
fn of_many_segments(path: &Path) {
    let options = Options::new().segment_bytes(4096).durability(Durability::Os).background(false);
    let journal = options.open(path).unwrap();
    let note = journal.kind("note").unwrap();
    journal.keep(note, Keep::Latest).unwrap();
    for n in 0..1500_u32 {
        let key = if n.is_multiple_of(10) { format!("kept-{n}") } else { "k".to_owned() };
        journal.append(Record::new(note, key.as_bytes(), &[7; 200])).unwrap();
    }
    assert!(journal.stats().segments > 3 * u64::from(FEW));
    journal.close().unwrap();
}

fn in_a_place() -> (tempfile::TempDir, impl Fn(&str) -> String) {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().to_path_buf();
    (place, move |name: &str| root.join(name).display().to_string())
}

#[test]
fn copies_of_many_segments_are_made_with_few_descriptors() {
    let (_place, at) = in_a_place();
    let store = at("a.esker");
    of_many_segments(Path::new(&store));
    let (export, imported, backup, linked) = (at("lines"), at("i.esker"), at("b.esker"), at("l.esker"));
    let steps: [&[&str]; 8] = [
        &["verify", &store],
        &["export", &store, "--output", &export],
        &["import", &export, &imported],
        &["backup", &store, &backup, "--verify"],
        &["backup", &store, &linked, "--link"],
        &["restore", &backup, &at("r.esker")],
        &["repair", &store, "--output", &at("p.esker")],
        &["diff", &store, &imported],
    ];
    for args in steps {
        let done = run_with_few(args);
        assert_eq!(done.code, Some(0), "{args:?}: {}{}", done.stdout, done.stderr);
    }
    for made in ["i.esker", "b.esker", "l.esker", "r.esker", "p.esker"] {
        assert_eq!(run(&["diff", &store, &at(made)]).code, Some(0), "{made}");
    }
}

#[test]
fn a_store_of_many_segments_is_looked_at_with_few_descriptors() {
    let (_place, at) = in_a_place();
    let store = at("a.esker");
    of_many_segments(Path::new(&store));
    let page = at("page.html");
    let looks: [&[&str]; 10] = [
        &["info", &store],
        &["segments", &store],
        &["kinds", &store],
        &["entities", &store],
        &["dump", &store, "--payload", "none"],
        &["dump", &store, "--reverse"],
        &["get", &store, "1", "700", "1500"],
        &["stats", &store],
        &["check", &store, "--full", "--min-free", "0"],
        &["report", &store, "--output", &page],
    ];
    for args in looks {
        let done = run_with_few(args);
        assert_eq!(done.code, Some(0), "{args:?}: {}{}", done.stdout, done.stderr);
    }
}

#[test]
fn compaction_of_many_segments_takes_no_lack_of_descriptors_for_damage() {
    let (_place, at) = in_a_place();
    let store = at("a.esker");
    of_many_segments(Path::new(&store));
    let plan = run_with_few(&["compact", &store, "--json"]);
    assert_eq!(plan.code, Some(0), "{}{}", plan.stdout, plan.stderr);
    assert_eq!(plan.of_type("plan")[0]["damaged"], 0, "{}", plan.stdout);
    let done = run_with_few(&["compact", &store, "--execute", "--json"]);
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    let summary = done.of_type("compaction").remove(0);
    assert_eq!(summary["damaged"], 0, "{summary}");
    assert!(summary["entries_dropped"].as_u64().unwrap() > 1000, "{summary}");
    assert_eq!(run(&["verify", &store]).code, Some(0));
}

/// Where there is not even one to be had, that is what is said, and nothing is called damaged.
#[test]
fn a_command_that_can_open_nothing_says_so_and_finds_no_damage() {
    let (_place, at) = in_a_place();
    let (store, target) = (at("a.esker"), at("p.esker"));
    of_many_segments(Path::new(&store));
    for descriptors in 3..14 {
        let limits = format!("ulimit -n {descriptors}");
        let commands: [&[&str]; 4] = [
            &["verify", &store],
            &["repair", &store, "--output", &target],
            &["compact", &store],
            &["check", &store, "--full", "--min-free", "0"],
        ];
        for args in commands {
            let done = run_with(&limits, args);
            let said = format!("{descriptors}, {args:?}: {:?}\n{}{}", done.code, done.stdout, done.stderr);
            // Who looks for damage may say that it could not look at everything, which is no pass.
            let looks = matches!(args[0], "verify" | "check");
            let is_incomplete = done.code == Some(1) && looks && done.stdout.contains("Too many open files");
            assert!(is_incomplete || matches!(done.code, Some(0 | 4 | 127)), "{said}");
            let tells_damage =
                done.stdout.lines().any(|line| line.starts_with("damage") || line == "verdict\tinvalid");
            assert!(!tells_damage && !done.stdout.contains("left alone, damaged"), "{said}");
            if done.code == Some(0) && args[0] == "repair" {
                std::fs::remove_dir_all(&target).unwrap();
            }
            assert!(done.code == Some(0) || !Path::new(&target).join("MANIFEST").exists(), "{said}");
        }
    }
}

/// The soft limit is low for programs of another age; the hard one says what the system allows.
#[test]
fn the_tool_takes_what_the_hard_limit_allows() {
    let (_place, at) = in_a_place();
    let store = at("a.esker");
    of_many_segments(Path::new(&store));
    let done = run_with("ulimit -Sn 6", &["repair", &store, "--output", &at("p.esker")]);
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
}

/// Programs of another age close all descriptors that they could have, or have room for a thousand of them.
#[test]
fn a_program_that_the_tool_starts_has_the_limit_that_the_tool_was_given() {
    let (_place, at) = in_a_place();
    let store = at("a.esker");
    let journal = Options::new().durability(Durability::Os).open(&store).unwrap();
    let note = journal.kind("note").unwrap();
    journal.append(Record::new(note, b"k", b"1")).unwrap();
    journal.close().unwrap();
    let translate = "while read -r line; do ulimit -S -n; done";
    let done = run_with("ulimit -Sn 123", &["dump", &store, "--json", "--translate", translate]);
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    assert_eq!(done.of_type("entry")[0]["payload_text"], "123", "{}", done.stdout);
}
