//! What the exit code of a command says, where that is not what one would think first.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;

use esker::{Durability, ManualClock, Options, Record};
use support::{Run, Sample, flip, on, place, run};

const ENTRIES: u64 = 60;

/// The same store as often as it is asked for.
fn sample() -> Sample {
    let sample = Sample::empty();
    let options = Options::new().segment_bytes(8 << 10).durability(Durability::Os).background(false);
    let journal = options.clock(ManualClock::new()).open(sample.path()).unwrap();
    let note = journal.kind("note").unwrap();
    for n in 1..=ENTRIES {
        journal.append(Record::new(note, b"k", &[u8::try_from(n).unwrap(); 300])).unwrap();
    }
    journal.close().unwrap();
    sample
}

fn verdict(run: &Run) -> String {
    run.rows().iter().find(|row| row[0] == "verdict").unwrap()[1].to_owned()
}

#[test]
fn hex_ends_as_verify_does_where_it_shows_damage() {
    let store = sample();
    let (segment, offset) = place(&store.text(), 7);
    let before = place(&store.text(), 6);
    let whole = [segment.to_string(), format!("{segment}:{offset}"), format!("{segment}:{}", offset + 16)];
    for place in &whole {
        let shown = on(&["hex"], &store.text(), &[place]);
        assert_eq!(shown.code, Some(0), "{place}: {}{}", shown.stdout, shown.stderr);
    }
    // Its content, and then its header.
    for byte in [100, 8] {
        let store = sample();
        flip(&store.path(), segment, offset + byte);
        for place in [segment.to_string(), format!("{segment}:{offset}")] {
            let shown = on(&["hex"], &store.text(), &[&place]);
            assert_eq!(shown.code, Some(1), "byte {byte}, {place}: {}", shown.stdout);
            assert!(shown.stderr.contains("esker verify"), "{}", shown.stderr);
            let lines = on(&["hex"], &store.text(), &[&place, "--json"]);
            assert_eq!(lines.of_type("summary")[0]["damaged"], 1, "{}", lines.stdout);
        }
        let (segment, offset) = before;
        let shown = on(&["hex"], &store.text(), &[&format!("{segment}:{offset}")]);
        assert_eq!(shown.code, Some(0), "what is shown is whole: {}", shown.stdout);
    }
    flip(&store.path(), 1, 60);
    assert_eq!(on(&["hex"], &store.text(), &["1:0"]).code, Some(1), "the file's header");
}

/// One fault must not hide another: where the segment's header or its neighbour is gone as well, damage is damage still.
#[test]
fn hex_of_two_faults_tells_of_both() {
    let frames = sample();
    let [(segment, sixth), (_, seventh), (_, eighth)] = [6, 7, 8].map(|seq| place(&frames.text(), seq));
    type Faults<'a> = (&'a str, &'a [u64], &'a [u64]);
    // What is turned over, and the places of which nobody may say that they are whole.
    let ladder: [Faults<'_>; 7] = [
        ("two heads", &[seventh + 8, eighth + 8], &[seventh, seventh + 64, eighth, eighth + 64]),
        ("a head, and the content before it", &[sixth + 100, seventh + 8], &[sixth, seventh, seventh + 64]),
        ("a head and its content", &[seventh + 8, seventh + 100], &[seventh, seventh + 64]),
        ("a head and its key", &[seventh + 8, seventh + 64], &[seventh, seventh + 64]),
        ("a head and the length of the next", &[seventh + 8, eighth + 4], &[seventh, eighth]),
        ("a head and the segment's salt", &[50, seventh + 8], &[0, seventh, seventh + 64]),
        ("a head and the segment's magic", &[2, seventh + 8], &[0, seventh, seventh + 64]),
    ];
    let mut wrong = Vec::new();
    for (what, faults, places) in ladder {
        let store = sample();
        faults.iter().for_each(|at| flip(&store.path(), segment, *at));
        assert_eq!(on(&["verify"], &store.text(), &[]).code, Some(1), "{what}");
        for place in places.iter().map(|at| format!("{segment}:{at}")).chain([segment.to_string()]) {
            let shown = on(&["hex"], &store.text(), &[&place]);
            let says = shown.stderr.contains("damaged place") && shown.stderr.contains("esker verify");
            if shown.code != Some(1) || !says {
                wrong.push(format!("{what}, {place}: {:?} {}\n{}", shown.code, shown.stderr, shown.stdout));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What `export` ends with is lost behind a pipe.
#[test]
fn an_import_of_what_was_damaged_says_so_and_is_no_success() {
    let store = sample();
    let (segment, offset) = place(&store.text(), 7);
    flip(&store.path(), segment, offset + 100);
    let at = |name: &str| store.directory.path().join(name).to_str().unwrap().to_owned();
    assert_eq!(run(&["export", &store.text(), "-o", &at("lines")]).code, Some(1));
    let done = run(&["import", &at("lines"), &at("one")]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.rows().contains(&vec!["damaged", "1"]), "{}", done.stdout);
    let json = run(&["import", &at("lines"), &at("two"), "--json"]);
    assert_eq!((json.code, &json.of_type("summary")[0]["damaged"]), (Some(1), &1.into()));
    // What could be had is there, and is whole.
    assert_eq!(run(&["verify", &at("two")]).code, Some(0));
    let whole = sample();
    assert_eq!(run(&["export", &whole.text(), "-o", &at("whole")]).code, Some(0));
    let done = run(&["import", &at("whole"), &at("three"), "--json"]);
    assert_eq!((done.code, &done.of_type("summary")[0]["damaged"]), (Some(0), &0.into()));
}

#[test]
fn a_reset_over_damage_ends_as_its_plan_does() {
    let store = Sample::new();
    let (segment, offset) = place(&store.text(), support::AUDITED + 20);
    flip(&store.path(), segment, offset + 80);
    for more in [&["audit", "--to", "+100"][..], &["audit", "--to", "+100", "--execute"]] {
        let done = run(&[&["cursor", "reset", &store.text()][..], more].concat());
        assert_eq!(done.code, Some(1), "{more:?}: {}{}", done.stdout, done.stderr);
    }
}

#[test]
fn a_backup_on_a_full_disk_is_not_told_to_compact() {
    let store = sample();
    let backup = store.directory.path().join("backup").to_str().unwrap().to_owned();
    assert_eq!(run(&["backup", &store.text(), &backup]).code, Some(0));
    let [of_store, of_backup] =
        [store.text(), backup].map(|path| run(&["check", &path, "--min-free", "1000T"]).stdout);
    assert!(of_store.contains("next: esker compact"), "{of_store}");
    assert!(of_backup.starts_with("critical: ") && !of_backup.contains("esker compact"), "{of_backup}");
}

/// Behind the end of the log may stand whatever a crash left.
#[test]
fn hex_takes_what_lies_behind_the_end_for_no_damage() {
    let store = sample();
    let info = on(&["info", "--json"], &store.text(), &[]);
    let end = info.of_type("store")[0]["end"].as_str().unwrap().to_owned();
    let (segment, offset) = end.split_once(':').unwrap();
    let offset: u64 = offset.parse().unwrap();
    flip(&store.path(), segment.parse().unwrap(), offset + 40);
    for place in [segment.to_owned(), format!("{segment}:{offset}")] {
        let shown = on(&["hex"], &store.text(), &[&place]);
        assert_eq!(shown.code, Some(0), "{place}: {}{}", shown.stdout, shown.stderr);
    }
}

#[test]
fn an_upgrade_that_makes_nothing_does_not_end_as_one_that_does() {
    let store = sample();
    let target = store.directory.path().join("new.esker");
    for more in [&[][..], &["--json"]] {
        let words = [&["--output", target.to_str().unwrap()][..], more].concat();
        let done = on(&["upgrade"], &store.text(), &words);
        assert_eq!(done.code, Some(2), "{}{}", done.stdout, done.stderr);
        assert!(!target.exists());
    }
}

/// For a monitoring plugin two is critical, and three that it could not look.
#[test]
fn a_plugin_that_is_called_in_a_wrong_way_is_of_unknown_health() {
    let store = sample();
    for words in [
        &["check", &store.text(), "--format", "nagios", "--max-lag", "much"][..],
        &["check", &store.text(), "--format=nagios", "--no-such-option"],
        &["check", "--format", "nagios"],
        &["check", &store.text(), "--format", "nagios", "--quick", "--full"],
    ] {
        let called = run(words);
        assert_eq!(called.code, Some(3), "{words:?}: {}{}", called.stdout, called.stderr);
        assert_eq!(called.stdout.lines().count(), 1, "{words:?}: {}", called.stdout);
        assert!(called.stdout.starts_with("ESKER UNKNOWN - "), "{words:?}: {}", called.stdout);
        assert!(called.stderr.contains("error: "), "{words:?}: {}", called.stderr);
    }
    assert_eq!(run(&["check", &store.text(), "--no-such-option"]).code, Some(2));
    let help = run(&["check", "--format", "nagios", "--help"]);
    assert_eq!(help.code, Some(0), "{}", help.stderr);
}

#[test]
fn what_cannot_be_compared_is_not_called_different() {
    let (a, b) = (sample(), sample());
    std::fs::remove_dir_all(b.path()).unwrap();
    std::fs::create_dir(b.path()).unwrap();
    for entry in std::fs::read_dir(a.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), b.path().join(entry.file_name())).unwrap();
    }
    let diff = |more: &[&str]| run(&[&["diff", &a.text(), &b.text()][..], more].concat());
    assert_eq!((diff(&[]).code, verdict(&diff(&[])).as_str()), (Some(0), "equal"));
    let (segment, offset) = place(&a.text(), 7);
    flip(&b.path(), segment, offset + 100);
    let damaged = diff(&[]);
    assert_eq!((damaged.code, verdict(&damaged).as_str()), (Some(1), "incomplete"), "{}", damaged.stdout);
    assert!(damaged.stderr.contains("could not be"), "{}", damaged.stderr);
    let summary = diff(&["--json"]).of_type("summary").remove(0);
    let counts =
        ["only_in_a", "uncompared", "damaged", "differing"].map(|name| summary[name].as_u64().unwrap());
    assert_eq!(counts, [0, 1, 1, 0], "{summary}");
    assert_eq!((&summary["verdict"], &summary["is_equal"]), (&"incomplete".into(), &false.into()));
    // Both, and one of them is a difference.
    let journal = Options::new().open(a.path()).unwrap();
    let note = journal.kind("note").unwrap();
    journal.append(Record::new(note, b"k", b"one more")).unwrap();
    journal.close().unwrap();
    let both = diff(&[]);
    assert_eq!((both.code, verdict(&both).as_str()), (Some(1), "different"), "{}", both.stdout);
}
