//! What is missing is said by every command that could hide it, and said the same way.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;

use std::fs::File;
use std::path::PathBuf;

use esker::Record;
use support::{ENTRIES, Run, Sample, flip, on, place, run};

fn segment(sample: &Sample, number: u64) -> PathBuf {
    sample.path().join(format!("{number:010}.seg"))
}

/// The number of the segment in which the log ends.
fn last(sample: &Sample) -> u64 {
    let segments = run(&["segments", &sample.text(), "--json"]).of_type("segment");
    segments.iter().find(|segment| segment["state"] == "active").unwrap()["number"].as_u64().unwrap()
}

/// A store of which the segment that the last seal names is not there, with its index.
fn without_the_last() -> (Sample, u64) {
    let sample = Sample::new();
    let last = last(&sample);
    for number in last..last + 2 {
        let _ = std::fs::remove_file(segment(&sample, number));
        let _ = std::fs::remove_file(sample.path().join(format!("{number:010}.idx")));
    }
    (sample, last)
}

fn assert_says(run: &Run, code: i32, word: &str) {
    assert_eq!(run.code, Some(code), "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains(word) || run.stderr.contains(word), "{word}: {}{}", run.stdout, run.stderr);
}

#[test]
fn a_missing_last_segment_is_damage_to_whoever_looks() {
    let (sample, last) = without_the_last();
    let store = sample.text();
    let word = format!("segment {} ends with a seal", last - 1);
    for command in ["info", "export", "stats", "cursors", "segments", "dump", "verify", "check", "kinds"] {
        assert_says(&run(&[command, &store]), 1, &word);
    }
    let rows = run(&["segments", &store]);
    let row = rows.rows().into_iter().find(|row| row[0] == last.to_string()).unwrap();
    assert_eq!((row[1], row[6], row[7]), ("missing", "0", "0"));
    let summary = run(&["info", &store, "--json"]);
    assert_eq!(summary.of_type("summary")[0]["damaged"], 1);
    assert_eq!(summary.of_type("store")[0]["missing_segments"][0], last);
}

#[test]
fn a_store_without_its_last_segment_is_not_backed_up() {
    let (sample, last) = without_the_last();
    let (store, target) = (sample.text(), sample.directory.path().join("b"));
    for link in [&[][..], &["--link"]] {
        let backup = on(&["backup", target.to_str().unwrap()], &store, link);
        assert_says(&backup, 1, &format!("corrupt at {store}, segment {last}, offset 0"));
        assert_says(&backup, 1, &format!("`esker verify {store}`"));
        assert!(!target.exists());
    }
}

#[test]
fn a_missing_middle_segment_has_a_row_with_what_it_held() {
    let sample = Sample::new();
    let store = sample.text();
    let before = run(&["segments", &store, "--json"]).of_type("segment");
    let gone = before.iter().find(|segment| segment["number"] == 2).unwrap().clone();
    std::fs::remove_file(segment(&sample, 2)).unwrap();
    let rows = run(&["segments", &store]);
    assert_eq!(rows.code, Some(1), "{}", rows.stderr);
    let numbers: Vec<&str> = rows.rows().iter().map(|row| row[0]).collect();
    assert_eq!(numbers[..3], ["1", "2", "3"]);
    let row = rows.rows()[1].iter().map(ToString::to_string).collect::<Vec<_>>();
    let (first, last) = (gone["first_seq"].to_string(), gone["last_seq"].to_string());
    assert_eq!((&*row[1], &row[3], &row[4], &*row[5]), ("missing", &first, &last, "0"));
    let info = run(&["info", &store]);
    assert_says(&info, 1, &format!("1 place; segment 2 is missing, with seq {first}..{last}"));
    let found = run(&["dump", &store, "--json"]).of_type("finding");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0]["first_seq"].to_string(), found[0]["last_seq"].to_string()), (first, last));
    assert_says(&run(&["check", &store]), 1, "critical: ");
}

#[test]
fn a_look_that_reads_no_frames_says_so() {
    let sample = Sample::new();
    let store = sample.text();
    let (segment, offset) = place(&store, 5);
    flip(&sample.path(), segment, offset + 90);
    assert_says(&run(&["check", &store]), 0, "(quick: frames were not read; --full reads them)");
    let quick = run(&["check", &store, "--json"]);
    assert_eq!(quick.of_type("summary")[0]["check"], "quick");
    assert_says(&run(&["info", &store]), 0, &format!("none seen (frames not read: esker verify {store})"));
    let full = run(&["check", &store, "--full", "--json"]);
    assert_eq!(full.of_type("summary")[0]["check"], "full");
    let page = run(&["report", &store, "--output", "-"]);
    assert_eq!(page.code, Some(1), "{}", page.stderr);
    assert!(page.stdout.contains("Damaged in 1 place") && !page.stdout.contains("none seen"));
    assert!(page.stdout.contains(">1 place<"));
}

#[test]
fn a_segment_that_was_cut_shows_what_is_left_of_it() {
    let sample = Sample::empty();
    let journal = esker::Options::new().open(sample.path()).unwrap();
    let note = journal.kind("note").unwrap();
    for n in 0..200_u8 {
        journal.append(Record::new(note, &[b'k', n % 3 + b'0'], &[n; 100])).unwrap();
    }
    journal.close().unwrap();
    let store = sample.text();
    let (_, offset) = place(&store, 100);
    File::options().write(true).open(segment(&sample, 1)).unwrap().set_len(offset + 20).unwrap();
    let verified = run(&["verify", &store, "--json"]);
    let entries = verified.of_type("summary")[0]["entries"].as_u64().unwrap();
    assert_eq!(entries, 99);
    let dumped = run(&["dump", &store, "--json"]);
    assert_eq!((dumped.code, dumped.of_type("entry").len() as u64), (Some(1), entries), "{}", dumped.stderr);
    assert_says(&run(&["get", &store, "99"]), 0, "key\tk");
    let info = run(&["info", &store, "--json"]);
    assert_eq!((info.code, info.of_type("store")[0]["entries"].as_u64()), (Some(1), Some(entries)));
    assert_says(&run(&["segments", &store]), 1, "damaged");
}

#[test]
fn a_cut_segment_in_the_middle_is_counted_as_verify_counts_it() {
    let sample = Sample::new();
    let store = sample.text();
    let (number, offset) = place(&store, ENTRIES / 2);
    File::options().write(true).open(segment(&sample, number)).unwrap().set_len(offset).unwrap();
    let verified = run(&["verify", &store, "--json"]);
    let info = run(&["info", &store, "--json"]);
    assert_eq!(info.of_type("store")[0]["entries"], verified.of_type("summary")[0]["entries"]);
    assert_eq!(info.code, Some(1));
}

#[test]
fn what_to_run_names_the_store() {
    let sample = Sample::new();
    let store = sample.text();
    std::fs::remove_file(sample.path().join("MANIFEST")).unwrap();
    let info = run(&["info", &store]);
    assert_says(&info, 1, &format!("run `esker verify {store}`, then `esker repair {store} --output NEW`"));
    assert!(!info.stderr.contains("Reader"), "{}", info.stderr);
}

#[test]
fn a_repair_says_what_became_of_the_cursors() {
    let (sample, _) = without_the_last();
    let target = sample.directory.path().join("b").display().to_string();
    let repaired = on(&["repair", "--output", &target], &sample.text(), &[]);
    assert_says(&repaired, 1, "cursors kept\t");
    assert_says(
        &repaired,
        1,
        "what was noted last, of cursors and of what compaction keeps of kinds, may have been lost",
    );

    let sample = Sample::new();
    let target = sample.directory.path().join("b").display().to_string();
    let repaired = on(&["repair", "--output", &target], &sample.text(), &[]);
    assert_says(&repaired, 0, "cursors kept\t1\n");
    let reset = format!("esker cursor reset {target} ");
    assert_says(&repaired, 0, &(reset.clone() + "NAME --to +0 --execute"));
    assert_says(&run(&["cursors", &target]), 0, &(reset + "audit --to +0 --execute"));
    let done = run(&["cursor", "reset", &target, "audit", "--to", "+0", "--execute"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(run(&["cursors", &target]).stderr, "");
}

#[test]
fn what_stood_in_a_segment_that_is_not_there_is_damage_and_no_gap_of_a_repair() {
    let sample = Sample::new();
    for end in ["seg", "idx"] {
        std::fs::remove_file(sample.path().join(format!("0000000001.{end}"))).unwrap();
    }
    let run = on(&["get", "--json"], &sample.text(), &["1"]);
    assert_eq!(run.code, Some(1), "{}{}", run.stdout, run.stderr);
    let gap = run.of_type("gap").remove(0);
    assert_eq!((&gap["reason"], &gap["first_seq"]), (&"missing".into(), &1.into()));
    assert!(run.stderr.contains("segment 1") && !run.stderr.contains("repair left"), "{}", run.stderr);
}

#[test]
fn a_system_s_reason_is_given_once() {
    let sample = Sample::new();
    let nowhere = sample.directory.path().join("not").join("there").display().to_string();
    let run = on(&["repair", "--output", &nowhere], &sample.text(), &[]);
    assert_eq!(run.stderr.matches("os error 2").count(), 1, "{}", run.stderr);
}

/// A crash leaves a part of a frame behind the end of the log, and a writer that is at work the beginning of one.
#[test]
fn a_torn_tail_is_no_damage_among_bytes() {
    let sample = Sample::empty();
    let journal = sample.open();
    let note = journal.kind("note").unwrap();
    let position = |seq| journal.view().get(seq).unwrap().unwrap().position();
    journal.append(Record::new(note, b"k", b"1")).unwrap();
    journal.sync().unwrap();
    let last = position(journal.append(Record::new(note, b"k", b"2")).unwrap().seq);
    let torn = sample.directory.path().join("b.esker");
    std::fs::create_dir(&torn).unwrap();
    for file in std::fs::read_dir(sample.path()).unwrap().map(|file| file.unwrap().path()) {
        match std::fs::copy(&file, torn.join(file.file_name().unwrap())) {
            // A spare has its own name by now.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            copied => drop(copied.unwrap()),
        }
    }
    journal.close().unwrap();
    let store = torn.to_str().unwrap();
    let text = last.segment().to_string();
    assert_eq!(on(&["hex"], store, &[&text]).code, Some(0));
    flip(&torn, u64::from(last.segment()), last.offset() + 57);
    let verified = on(&["verify"], store, &[]);
    assert_eq!(verified.code, Some(0), "{}", verified.stdout);
    let hex = on(&["hex"], store, &[&text]);
    assert!(hex.stdout.contains("body checksum = does not match"), "{}", hex.stdout);
    assert_eq!(hex.code, Some(0), "{}", hex.stderr);
}
