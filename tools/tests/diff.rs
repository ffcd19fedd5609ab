//! How many of what two stores differ in `diff` shows, and that it counts all.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;

use esker::Record;
use serde_json::json;
use support::{Sample, flip, place, run};

/// Two stores of 40 entries, whose payloads differ every tenth, and of which the second goes on for two more.
fn pair() -> (Sample, Sample) {
    let [a, b] = [1, 2].map(|number| {
        let sample = Sample::empty();
        let clock = esker::ManualClock::new();
        let options = esker::Options::new().segment_bytes(16 << 10).durability(esker::Durability::Os);
        let journal = options.clock(clock).open(sample.path()).unwrap();
        let note = journal.kind("note").unwrap();
        for n in 1..=(38 + 2 * number) {
            let payload = if n % 10 == 0 { [n, number] } else { [n, 0] };
            journal.append(Record::new(note, b"k", &payload)).unwrap();
        }
        journal.close().unwrap();
        sample
    });
    (a, b)
}

#[test]
fn as_many_differences_are_shown_as_are_asked_for_and_all_are_counted() {
    let (a, b) = pair();
    for (words, shown) in [
        (&[][..], 1),
        (&["--limit", "0"], 0),
        (&["--limit", "3"], 3),
        (&["-n", "6"], 6),
        (&["--limit", "99"], 6),
        (&["--all"], 6),
    ] {
        let diff = run(&[&["diff", &a.text(), &b.text(), "--json"], words].concat());
        assert_eq!(diff.code, Some(1), "{words:?}");
        let differences = diff.of_type("difference");
        let seqs = ["10", "20", "30", "40", "41", "42"];
        let names: Vec<&str> = differences.iter().map(|line| line["name"].as_str().unwrap()).collect();
        assert_eq!(names, seqs[..shown], "{words:?}");
        let summary = &diff.of_type("summary")[0];
        let counts = (&summary["equal"], &summary["differing"], &summary["only_in_a"], &summary["only_in_b"]);
        assert_eq!(counts, (&json!(36), &json!(4), &json!(0), &json!(2)), "{words:?}");
        assert_eq!(summary["fields"], json!({ "payload": 4 }), "{words:?}");
        assert_eq!((&summary["first_seq"], &summary["shown"]), (&json!(10), &json!(shown)), "{words:?}");
        let text = run(&[&["diff", &a.text(), &b.text()], words].concat());
        let left = 6 - shown;
        assert_eq!(text.stderr.contains("not the same in both"), left > 0, "{words:?}: {}", text.stderr);
        assert!(left == 0 || text.stderr.contains(&format!("{left} more")), "{words:?}: {}", text.stderr);
        assert!(text.rows().contains(&vec!["differing in", "payload 4"]), "{}", text.stdout);
    }
}

#[test]
fn equal_stores_have_no_difference_to_show_and_damage_is_one() {
    let (a, _) = pair();
    let equal = run(&["diff", &a.text(), &a.text(), "--all", "--json"]);
    assert_eq!((equal.code, equal.of_type("difference").len()), (Some(0), 0));
    let summary = &equal.of_type("summary")[0];
    assert_eq!((&summary["first_seq"], &summary["fields"]), (&json!(null), &json!({})));
    let (segment, offset) = place(&a.text(), 7);
    flip(&a.path(), segment, offset + 8);
    let damaged = run(&["diff", &a.text(), &a.text(), "--all", "--json"]);
    assert_eq!((damaged.code, &damaged.of_type("summary")[0]["damaged"]), (Some(1), &json!(2)));
    assert_eq!(run(&["diff", &a.text(), &a.text(), "--all", "--limit", "2"]).code, Some(2));
}

#[test]
fn stores_that_differ_in_a_stamp_alone_differ() {
    use esker::backplane::{Append, Backplane, Local, Stamp, Step, WriterId};
    let [a, b] = [1, 9].map(|n| {
        let sample = Sample::empty();
        let clock = esker::ManualClock::new();
        let plane = Local::owning(esker::Options::new().clock(clock).open(sample.path()).unwrap()).unwrap();
        let append = Append::new("note", b"k", b"said", Stamp::new(WriterId::from_raw(7), n));
        plane.commit(&[Step::Append(append)]).unwrap();
        plane.close().unwrap();
        sample
    });
    let diff = run(&["diff", &a.text(), &b.text(), "--json"]);
    assert_eq!((diff.code, &diff.of_type("difference")[0]["field"]), (Some(1), &json!("stamp")));
}

#[test]
fn damage_to_what_the_log_says_of_itself_and_to_what_a_filter_would_pass_over_is_told() {
    let (a, b) = pair();
    let mut bytes = std::fs::read(a.path().join("0000000001.seg")).unwrap();
    // The name of the kind, where it is registered.
    let at = bytes.windows(4).position(|found| found == b"note").unwrap();
    bytes[at] ^= 0x20;
    std::fs::write(a.path().join("0000000001.seg"), bytes).unwrap();
    for words in [
        &["diff", &a.text(), &a.text()][..],
        &["dump", &a.text()],
        &["dump", &a.text(), "--reverse"],
        &["export", &a.text()],
    ] {
        assert_eq!(run(words).code, Some(1), "{words:?}");
    }
    // The key of an entry, which says whose it is.
    let (segment, offset) = place(&b.text(), 7);
    let file = b.path().join(format!("{segment:010}.seg"));
    let mut bytes = std::fs::read(&file).unwrap();
    let from = usize::try_from(offset).unwrap();
    let at = from + 56 + bytes[from + 56..].iter().position(|byte| *byte == b'k').unwrap();
    bytes[at] = b'j';
    std::fs::write(file, bytes).unwrap();
    for words in [
        &["dump", &b.text(), "--entity", "note/k*", "--reverse"][..],
        &["dump", &b.text(), "--entity", "note/k"],
        &["export", &b.text(), "--entity", "note/k"],
    ] {
        let told = run(words);
        assert_eq!(told.code, Some(1), "{words:?}: {}", told.stderr);
    }
}

#[test]
fn what_the_library_stands_on_is_kept_as_the_library_says() {
    let sample = Sample::empty();
    let plane = esker::backplane::Local::owning(sample.open()).unwrap();
    let put = esker::backplane::Put::new(
        b"cell",
        esker::backplane::Revision::NEVER,
        Some(b"1"),
        esker::backplane::Stamp::new(esker::backplane::WriterId::from_raw(7), 1),
    );
    esker::backplane::Backplane::commit(&plane, &[esker::backplane::Step::Put(put)]).unwrap();
    esker::backplane::Backplane::close(&plane).unwrap();
    for end in [&[][..], &["--execute"]] {
        let refused = run(&[&["keep", &sample.text(), "esker.cells", "nothing"], end].concat());
        assert_eq!(refused.code, Some(2), "{end:?}: {}", refused.stderr);
    }
}

/// Nobody knows how much stood in a last segment that is not there.
#[test]
fn entries_of_which_the_other_store_may_have_lost_its_own_are_not_called_only_in_one() {
    let sample = Sample::empty();
    let journal = sample.open();
    let note = journal.kind("note").unwrap();
    for _ in 0..300 {
        journal.append(Record::new(note, b"k", &[7; 100])).unwrap();
    }
    journal.close().unwrap();
    let short = sample.directory.path().join("b.esker");
    std::fs::create_dir(&short).unwrap();
    for file in std::fs::read_dir(sample.path()).unwrap().map(|file| file.unwrap().path()) {
        std::fs::copy(&file, short.join(file.file_name().unwrap())).unwrap();
    }
    let segments = run(&["segments", &sample.text(), "--json"]).of_type("segment");
    let active = segments.iter().find(|segment| segment["state"] == "active").unwrap();
    let (last, entries) = (active["number"].as_u64().unwrap(), active["entries"].as_u64().unwrap());
    assert!(entries > 0);
    for end in ["seg", "idx"] {
        let _ = std::fs::remove_file(short.join(format!("{last:010}.{end}")));
    }
    let diff = run(&["diff", &sample.text(), short.to_str().unwrap(), "--json"]);
    assert_eq!(diff.code, Some(1));
    let summary = &diff.of_type("summary")[0];
    let counts = (&summary["only_in_a"], &summary["uncompared"], &summary["verdict"]);
    assert_eq!(counts, (&json!(0), &json!(entries), &json!("incomplete")), "{summary}");
}
