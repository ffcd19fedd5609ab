//! What a repair says of cursors, of what compaction keeps, of segments, and what the new store says of what is gone.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;

use esker::{CompactOptions, Keep, Region, Seq, Start};
use serde_json::Value;
use support::{AUDITED, Run, Sample, flip, on, place, run};

/// In a frame's header: its time, which nothing but the header's checksum looks at.
const TIME_AT: u64 = 33;
/// In a frame: the Seq of a cursor.
const SEQ_AT: u64 = 56 + 8;

/// Where the frames about cursors or kinds stand behind the last preamble, the oldest first.
fn frames_about(store: &str, operation: &str) -> Vec<(u64, u64)> {
    let frames = run(&["dump", store, "--system", "--json"]).of_type("system");
    let behind = frames.iter().rposition(|frame| frame["operation"] == "preamble").unwrap();
    let segment = place_of(&frames[behind]).0;
    let first_batch = frames[behind..].iter().position(|frame| !has_more(frame)).unwrap();
    let of_it = frames[behind + first_batch + 1..].iter().filter(|frame| frame["operation"] == operation);
    of_it.map(place_of).inspect(|place| assert_eq!(place.0, segment)).collect()
}

fn has_more(frame: &Value) -> bool {
    frame["flags"].as_array().unwrap().iter().any(|flag| flag == "more")
}

fn place_of(frame: &Value) -> (u64, u64) {
    let (segment, offset) = frame["position"].as_str().unwrap().split_once(':').unwrap();
    (segment.parse().unwrap(), offset.parse().unwrap())
}

fn repair(sample: &Sample, name: &str, more: &[&str]) -> (Run, String) {
    let target = sample.directory.path().join(name).display().to_string();
    let done = run(&[&["repair", &sample.text(), "--output", &target], more].concat());
    (done, target)
}

/// A store in whose last segment cursors moved and a kind was told what to keep.
fn noted() -> Sample {
    let sample = Sample::new();
    let journal = sample.open();
    sample.put(&journal, "old", Region::all(), Start::After(Seq::new(7).unwrap()));
    journal.close().unwrap();
    let journal = sample.open();
    sample.put(&journal, "late", Region::all(), Start::After(Seq::new(50).unwrap()));
    journal.reset_cursor("audit", Start::After(Seq::new(200).unwrap())).unwrap();
    journal.keep(journal.kind("note").unwrap(), Keep::Latest).unwrap();
    journal.retire_cursor("old").unwrap();
    journal.close().unwrap();
    sample
}

#[test]
fn cursors_and_what_is_kept_of_kinds_are_named_where_their_frames_are_damaged() {
    let sample = noted();
    let (cursors, kinds) = (frames_about(&sample.text(), "cursor"), frames_about(&sample.text(), "kind"));
    // Of each cursor the last frame, and both of the one that is new.
    let spoilt = &cursors[cursors.len() - 4..];
    for (segment, offset) in spoilt.iter().chain(kinds.last()) {
        flip(&sample.path(), *segment, offset + TIME_AT);
    }
    let (done, target) = repair(&sample, "b", &["--json"]);
    assert_eq!(done.code, Some(1), "{}{}", done.stdout, done.stderr);
    let lost = done.of_type("lost_cursor");
    let of = |name: &str| lost.iter().find(|line| line["name"] == name).unwrap_or_else(|| panic!("{lost:?}"));
    let (late, audit, old) = (of("late"), of("audit"), of("old"));
    assert_eq!((&late["fate"], &late["seq"], &late["kept_seq"]), (&"gone".into(), &50.into(), &Value::Null));
    assert_eq!((&late["region"], &late["content_good"]), (&"all".into(), &true.into()));
    assert_eq!(
        (&audit["fate"], &audit["seq"], &audit["kept_seq"]),
        (&"behind".into(), &200.into(), &AUDITED.into())
    );
    assert_eq!((&old["fate"], &old["kept_seq"]), (&"back".into(), &7.into()));
    let (segment, offset) = spoilt[3];
    assert_eq!(old["position"], format!("{segment}:{offset}"));
    let kinds = done.of_type("lost_kind");
    assert_eq!(kinds.len(), 1, "{kinds:?}");
    assert_eq!(
        (&kinds[0]["kind"], &kinds[0]["had_keep"], &kinds[0]["keep"]),
        (&"note".into(), &"latest".into(), &"all".into())
    );
    let summary = done.of_type("summary").remove(0);
    assert_eq!(
        (&summary["cursors"], &summary["cursors_lost"], &summary["kinds_lost"]),
        (&2.into(), &3.into(), &1.into())
    );
    // The new store is as it was told of.
    let there = run(&["cursors", &target, "--json"]).of_type("cursor");
    let places: Vec<_> = there.iter().map(|line| (line["name"].as_str().unwrap(), &line["seq"])).collect();
    assert_eq!(places, [("audit", &AUDITED.into()), ("old", &7.into())]);

    let (told, _) = repair(&sample, "c", &[]);
    for line in [
        "lost\tcursor \"late\" of all was behind seq 50, and is not there any more",
        "lost\tcursor \"audit\" of all was behind seq 200, and is behind seq 120",
        "lost\tcursor \"old\" of all had been retired, and is there again, behind seq 7",
        "lost\tkind \"note\" kept the latest and keeps all now",
        "cursors lost\t3\n",
        "kinds changed\t1\n",
    ] {
        assert!(told.stdout.contains(line), "{line}: {}", told.stdout);
    }
}

#[test]
fn what_the_log_says_again_is_not_lost() {
    let sample = noted();
    // Of the frames about one cursor the first: the second says more.
    let (segment, offset) = frames_about(&sample.text(), "cursor").remove(0);
    flip(&sample.path(), segment, offset + SEQ_AT);
    // And a preamble of the middle, which the next one restates.
    let frames = run(&["dump", &sample.text(), "--system", "--json"]).of_type("system");
    let preambles: Vec<_> = frames.iter().filter(|frame| frame["operation"] == "preamble").collect();
    let (segment, offset) = place_of(preambles[1]);
    flip(&sample.path(), segment, offset + TIME_AT);
    let (done, target) = repair(&sample, "b", &["--json"]);
    assert_eq!(done.code, Some(1));
    assert!(done.of_type("lost_cursor").is_empty(), "{}", done.stdout);
    assert!(done.of_type("lost_kind").is_empty(), "{}", done.stdout);
    let cursors = run(&["cursors", &target, "--json"]).of_type("cursor");
    let names: Vec<_> = cursors.iter().map(|line| line["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["audit", "late"]);
}

#[test]
fn segments_are_counted_as_verify_counts_them_of_either_store() {
    let sample = Sample::new();
    for seq in [20, 40, 60] {
        let (segment, offset) = place(&sample.text(), seq);
        flip(&sample.path(), segment, offset + 70);
    }
    let of =
        |store: &str| on(&["verify"], store, &["--json"]).of_type("summary")[0]["segments"].as_u64().unwrap();
    let (done, target) = repair(&sample, "b", &["--json"]);
    let summary = done.of_type("summary").remove(0);
    let (damaged, repaired) = (of(&sample.text()), of(&target));
    assert_eq!(
        (&summary["segments_read"], &summary["segments"]),
        (&damaged.into(), &repaired.into()),
        "{summary}"
    );
    assert!(repaired > damaged, "a segment begins where entries are missing: {repaired} and {damaged}");
    let (told, _) = repair(&sample, "c", &[]);
    let line = format!("segments\t{repaired} written, of {damaged} in the damaged store\n");
    assert!(told.stdout.contains(&line), "{}", told.stdout);
}

/// A store of which compaction has kept all of `doc` and the newest of each `note`; the Seqs that are there.
fn compacted() -> (Sample, Vec<u64>) {
    let sample = Sample::new();
    let journal = sample.open();
    journal.retire_cursor("audit").unwrap();
    journal.keep(journal.kind("note").unwrap(), Keep::Latest).unwrap();
    journal.compact(&CompactOptions::new().thorough(true)).unwrap();
    journal.close().unwrap();
    let there = seqs(&sample.text());
    (sample, there)
}

fn seqs(store: &str) -> Vec<u64> {
    let entries = run(&["dump", store, "--json"]).of_type("entry");
    entries.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect()
}

/// The files of parts, and the place in one of them where an entry stands.
fn parts(sample: &Sample) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(sample.path()).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|end| end == "snap")).collect()
}

fn flip_in_part(sample: &Sample, seq: u64) {
    let found = run(&["get", &sample.text(), &seq.to_string(), "--json"]).of_type("entry");
    let position = found[0]["position"].as_str().unwrap().to_owned();
    let (part, offset) = position.strip_prefix("part-").unwrap().split_once(':').unwrap();
    let (part, offset): (u64, usize) = (part.parse().unwrap(), offset.parse().unwrap());
    let path = sample.path().join(format!("{part:010}.snap"));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[offset + 70] ^= 0xff;
    std::fs::write(path, bytes).unwrap();
}

/// Why a number is not there.
fn reason(store: &str, seq: u64) -> Value {
    let got = run(&["get", store, &seq.to_string(), "--json"]);
    assert_eq!((got.code, got.of_type("gap").len()), (Some(2), 1), "{}", got.stdout);
    got.of_type("gap").remove(0)["reason"].take()
}

#[test]
fn of_a_part_that_is_gone_no_more_is_lost_than_was_in_it() {
    let (sample, there) = compacted();
    let files = parts(&sample);
    for file in &files {
        std::fs::remove_file(file).unwrap();
    }
    let rest = seqs(&sample.text());
    let gone = (there.len() - rest.len()) as u64;
    assert!(gone > 50, "{gone} in {files:?}");
    let verified = run(&["verify", &sample.text(), "--json"]);
    assert_eq!(verified.of_type("summary")[0]["lost"], gone, "{}", verified.stdout);
    let lost = verified.of_type("finding").into_iter().filter(|finding| !finding["lost"].is_null());
    let lost: Vec<_> =
        lost.map(|finding| (finding["lost"]["end"].as_u64(), finding["lost_entries"].as_u64())).collect();
    assert_eq!(lost.len(), files.len(), "{}", verified.stdout);
    assert_eq!(lost.iter().map(|(_, entries)| entries.unwrap()).sum::<u64>(), gone);
    let (end, of_first) = (lost[0].0.unwrap(), lost[0].1.unwrap());
    assert!(end > of_first, "compaction had dropped some: {end} and {of_first}");
    let told = run(&["verify", &sample.text()]).stdout;
    let line = format!("; {of_first} of seq 1..{end} lost, and compaction had dropped the rest");
    assert!(told.contains(&line), "{line}: {told}");

    let (done, target) = repair(&sample, "b", &["--json"]);
    assert_eq!(done.of_type("summary")[0]["entries_lost"], gone);
    assert_eq!(done.of_type("lost")[0]["entries"], of_first);
    // Nobody knows of a number whether it was lost now or dropped before.
    assert_eq!(reason(&target, there[0]), "lost_or_compacted");
    let told = run(&["get", &target, "1"]).stderr;
    assert!(told.contains(&format!("{of_first} were lost, and nothing says which")), "{told}");
    assert_eq!(run(&["verify", &target]).code, Some(0));
}

#[test]
fn what_a_repair_lost_is_told_from_what_compaction_had_dropped() {
    let (sample, there) = compacted();
    // Before the one there is a number that compaction had dropped; behind it too.
    let at = (1..there.len() - 1).find(|at| there[at - 1] + 1 < there[*at] && there[at + 1] > there[*at] + 1);
    let at = at.unwrap();
    let (before, spoilt, behind) = (there[at - 1], there[at], there[at + 1]);
    let is_dropped = |seq: &u64| !(before..behind).contains(seq) && !there.contains(seq);
    let elsewhere = (1..behind + 50).find(is_dropped).unwrap();
    flip_in_part(&sample, spoilt);
    // And one that was never compacted.
    let last = *there.last().unwrap();
    let in_segment = (1..last).rev().find(|seq| {
        let found = run(&["get", &sample.text(), &seq.to_string(), "--json"]).of_type("entry");
        found.first().is_some_and(|entry| !entry["position"].as_str().unwrap().starts_with("part"))
    });
    let (segment, offset) = place(&sample.text(), in_segment.unwrap());
    flip(&sample.path(), segment, offset + 70);
    let verified = run(&["verify", &sample.text(), "--json"]);
    assert_eq!(verified.of_type("summary")[0]["lost"], 2, "{}", verified.stdout);
    let (done, target) = repair(&sample, "b", &["--json"]);
    assert_eq!(done.of_type("summary")[0]["entries_lost"], 2, "{}", done.stdout);
    for seq in before + 1..behind {
        assert_eq!(
            reason(&target, seq),
            "lost_or_compacted",
            "{seq} of {before}..{behind}, where {spoilt} was"
        );
    }
    assert_eq!(reason(&target, elsewhere), "compacted");
    assert_eq!(reason(&target, in_segment.unwrap()), "lost");
    // A range is told stretch by stretch, and each number once.
    let got = run(&["get", &target, &format!("1..{last}"), "--json"]);
    let gaps = got.of_type("gap");
    let length = |gap: &Value| gap["last_seq"].as_u64().unwrap() - gap["first_seq"].as_u64().unwrap() + 1;
    let left = got.of_type("entry").len() as u64;
    assert_eq!(gaps.iter().map(length).sum::<u64>() + left, last);
    let of = |reason: &str| gaps.iter().filter(|gap| gap["reason"] == reason).map(length).sum::<u64>();
    assert_eq!((of("lost"), of("lost_or_compacted")), (1, behind - before - 1));

    // What is made of the repaired store says the same.
    let [backup, restored] = ["c", "d"].map(|name| sample.directory.path().join(name).display().to_string());
    let made = run(&["backup", &target, &backup, "--verify"]);
    assert_eq!(made.code, Some(0), "{} {}", made.stderr, run(&["verify", &target]).stdout);
    assert_eq!(run(&["restore", &backup, &restored]).code, Some(0));
    let again = sample.directory.path().join("e").display().to_string();
    assert_eq!(run(&["repair", &restored, "--output", &again]).code, Some(0));
    for store in [&restored, &again] {
        assert_eq!(reason(store, in_segment.unwrap()), "lost");
        assert_eq!(reason(store, spoilt), "lost_or_compacted");
        assert_eq!(reason(store, elsewhere), "compacted");
    }
}

/// In a frame: the highest byte of a cursor's revision.
const REVISION_AT: u64 = 56 + 7;

/// Turns one bit of a segment over.
fn flip_bit(sample: &Sample, (segment, offset): (u64, u64)) {
    let path = sample.path().join(format!("{segment:010}.seg"));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[usize::try_from(offset).unwrap()] ^= 0x40;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_revision_that_is_damaged_does_not_count_against_good_frames_behind_it() {
    let sample = Sample::new();
    let journal = sample.open();
    for seq in [150, 200, 250] {
        journal.reset_cursor("audit", Start::After(Seq::new(seq).unwrap())).unwrap();
    }
    journal.close().unwrap();
    let cursors = frames_about(&sample.text(), "cursor");
    let [.., of_200, _] = cursors[..] else { panic!("{cursors:?}") };
    flip_bit(&sample, (of_200.0, of_200.1 + REVISION_AT));
    let (done, target) = repair(&sample, "b", &["--json"]);
    assert_eq!(done.code, Some(1), "{}{}", done.stdout, done.stderr);
    assert!(done.of_type("lost_cursor").is_empty(), "{}", done.stdout);
    assert_eq!(run(&["cursors", &target, "--json"]).of_type("cursor")[0]["seq"], 250);

    // A frame behind it of which only the header is damaged is good enough as well.
    let (segment, offset) = cursors[cursors.len() - 1];
    flip_bit(&sample, (segment, offset + TIME_AT));
    let lost = repair(&sample, "c", &["--json"]).0.of_type("lost_cursor");
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert_eq!((&lost[0]["seq"], &lost[0]["kept_seq"]), (&250.into(), &150.into()));
    assert_eq!((&lost[0]["fate"], &lost[0]["content_good"]), (&"behind".into(), &true.into()));
}

#[test]
fn a_cursor_that_had_been_put_back_is_not_said_to_be_behind() {
    let sample = Sample::new();
    let journal = sample.open();
    journal.reset_cursor("audit", Start::After(Seq::new(200).unwrap())).unwrap();
    journal.reset_cursor("audit", Start::After(Seq::new(50).unwrap())).unwrap();
    journal.close().unwrap();
    let (segment, offset) = *frames_about(&sample.text(), "cursor").last().unwrap();
    flip_bit(&sample, (segment, offset + TIME_AT));
    let (done, _) = repair(&sample, "b", &["--json"]);
    let lost = done.of_type("lost_cursor");
    assert_eq!((&lost[0]["fate"], &lost[0]["seq"]), (&"ahead".into(), &50.into()), "{lost:?}");
    let (told, _) = repair(&sample, "c", &[]);
    let line = "was behind seq 50, and is behind seq 200: its reader will not see what lies between";
    assert!(told.stdout.contains(line), "{}", told.stdout);
}
