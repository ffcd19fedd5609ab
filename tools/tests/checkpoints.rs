//! Frames about cursors, damaged byte by byte: nothing is skipped, whatever byte it is.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;

use esker::{Check, CursorFate, Options, Record, Region, Seq, Severity, Start, verify};
use support::{Sample, flip, run};

/// How far the cursor came, checkpoint by checkpoint.
const CAME_TO: [u64; 2] = [3, 6];
const ENTRIES: u64 = 9;
/// The header of a frame.
const HEADER: u64 = 56;

/// A store with a cursor of two checkpoints; where the last one stands, and how long it is.
fn watched() -> (Sample, u64, u64, u64) {
    let sample = Sample::empty();
    let journal = sample.open();
    let note = journal.kind("note").unwrap();
    for n in 1..=ENTRIES {
        journal.append(Record::new(note, b"k", format!("{n}").as_bytes())).unwrap();
    }
    drop(journal.watch("audit", Region::all()).unwrap());
    journal.reset_cursor("audit", Start::Oldest).unwrap();
    let mut watcher = journal.watch("audit", Region::all()).unwrap();
    for until in CAME_TO {
        while watcher.position().map_or(0, Seq::get) < until {
            watcher.try_next().unwrap().unwrap();
        }
        watcher.checkpoint().unwrap();
    }
    drop(watcher);
    journal.close().unwrap();
    let frames = run(&["dump", &sample.text(), "--system", "--json"]).of_type("system");
    let last = frames.iter().rfind(|frame| frame["operation"] == "cursor").unwrap();
    let (segment, offset) = last["position"].as_str().unwrap().split_once(':').unwrap();
    let bytes = last["frame_bytes"].as_u64().unwrap();
    (sample, segment.parse().unwrap(), offset.parse().unwrap(), bytes)
}

/// What a watcher of the cursor is shown in the repaired store.
fn shown(store: &std::path::Path) -> Vec<u64> {
    let journal = Options::new().open_existing(store).unwrap();
    let at = journal.cursors().unwrap()[0].seq.unwrap();
    journal.reset_cursor("audit", Start::After(at)).unwrap();
    let mut watcher = journal.watch("audit", Region::all()).unwrap();
    let mut seqs = Vec::new();
    while let Some(entry) = watcher.try_next().unwrap() {
        seqs.push(entry.seq().get());
    }
    drop(watcher);
    journal.close().unwrap();
    seqs
}

#[test]
fn a_checkpoint_of_which_any_byte_is_wrong_is_named_and_the_one_before_it_counts() {
    let (sample, segment, offset, bytes) = watched();
    let file = format!("{segment:010}.seg");
    let target = sample.directory.path().join("repaired");
    let mut named = 0;
    for byte in 0..bytes {
        flip(&sample.path(), segment, offset + byte);
        let found = verify(sample.path(), Check::Full).unwrap();
        let damage: Vec<_> = found.findings.iter().filter(|one| one.severity == Severity::Damage).collect();
        assert_eq!(damage.len(), 1, "byte {byte}: {found:?}");
        assert_eq!((&*damage[0].file, damage[0].offset), (&*file, Some(offset)), "byte {byte}");
        assert_eq!((&damage[0].lost, found.lost, found.entries), (&None, 0, ENTRIES), "byte {byte}");

        let reader = esker::Reader::open(sample.path()).unwrap();
        let cursors = reader.cursors().unwrap();
        assert_eq!(cursors[0].seq.map(Seq::get), Some(CAME_TO[0]), "byte {byte}: {cursors:?}");
        assert_eq!(cursors[0].behind, ENTRIES - CAME_TO[0], "byte {byte}");
        drop(reader);

        let repaired = esker::repair(sample.path(), &target).unwrap();
        assert_eq!((repaired.entries, repaired.cursors), (ENTRIES, 1), "byte {byte}");
        // The Seq that it had is named, unless the bytes are wrong that say it is a cursor at all.
        if let [lost] = &repaired.cursors_lost[..] {
            assert_eq!(
                (lost.position.offset(), lost.content_good),
                (offset, byte < HEADER),
                "byte {byte}: {lost:?}"
            );
            if lost.content_good {
                let (had, kept) = (lost.had.map(Seq::get), lost.kept.map(Seq::get));
                let is_as_it_was =
                    (lost.fate, had, kept) == (CursorFate::Behind, Some(CAME_TO[1]), Some(CAME_TO[0]));
                assert!(is_as_it_was, "byte {byte}: {lost:?}");
                named += 1;
            }
        }
        assert_eq!(shown(&target), (CAME_TO[0] + 1..=ENTRIES).collect::<Vec<_>>(), "byte {byte}");
        std::fs::remove_dir_all(&target).unwrap();
        flip(&sample.path(), segment, offset + byte);
    }
    // Of a header of 56 bytes a few say what kind of frame it is, and how long, and its two checksums.
    assert!((30..HEADER).contains(&named), "{named}");
    assert_eq!(verify(sample.path(), Check::Full).unwrap().findings, []);
}

#[test]
fn the_seq_of_a_damaged_checkpoint_is_named_where_its_bytes_are_good() {
    let (sample, segment, offset, _) = watched();
    let target = sample.directory.path().join("repaired").display().to_string();
    // The header's time: what the frame says of the cursor is as it was.
    flip(&sample.path(), segment, offset + 33);
    let told = run(&["repair", &sample.text(), "--output", &target]);
    assert_eq!(told.code, Some(1), "{}", told.stderr);
    let line = format!("was behind seq {}, and is behind seq {}", CAME_TO[1], CAME_TO[0]);
    assert!(
        told.stdout.contains(&line) && told.stdout.contains(&format!("{segment}:{offset}")),
        "{}",
        told.stdout
    );
}
