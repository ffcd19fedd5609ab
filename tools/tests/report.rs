//! The report: a page that a browser takes, with the figures of the store.
//!
//! The pages stay in the target directory, under `tmp/report`, to be looked at.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;

#[path = "report/page.rs"]
mod page;
#[path = "report/stores.rs"]
mod stores;

use std::path::PathBuf;

use esker::{CompactOptions, Keep, Record, verify};
use page::Page;
use serde_json::Value;
use support::{Sample, flip, on, place, run};

/// Makes the report of a store, and reads it.
fn report(store: &str, name: &str, more: &[&str]) -> (Page, Option<i32>) {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("report");
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join(format!("{name}.html"));
    let made = on(&["report", "--force", "--output", file.to_str().unwrap()], store, more);
    assert!(matches!(made.code, Some(0 | 1)), "{}", made.stderr);
    (Page::read(&std::fs::read_to_string(file).unwrap()), made.code)
}

fn sum(lines: &[Value], field: &str) -> u64 {
    lines.iter().map(|line| line[field].as_u64().unwrap_or(0)).sum()
}

#[test]
fn the_same_store_gives_the_same_page_byte_for_byte() {
    let sample = stores::busy();
    let once = on(&["report", "-o", "-"], &sample.text(), &[]);
    let twice = on(&["report", "-o", "-"], &sample.text(), &[]);
    assert!(once.stdout.len() > 10_000 && once.stdout == twice.stdout);
    assert_eq!(once.code, Some(1), "a cursor is lost");
}

#[test]
fn the_figures_of_each_picture_are_those_of_the_store() {
    let sample = stores::busy();
    let store = sample.text();
    let (page, _) = report(&store, "busy", &[]);
    page.assert_sound();

    let segments = on(&["segments", "--json"], &store, &[]).of_type("segment");
    let map = page.picture("segments");
    assert_eq!(map.number("file"), sum(&segments, "file_bytes"));
    let parts = ["live", "superseded", "retracted", "snapshot", "own", "free", "damaged"];
    assert_eq!(parts.iter().map(|part| map.number(part)).sum::<u64>(), map.number("file"));
    let entries = on(&["dump", "--physical", "--json"], &store, &[]).of_type("entry");
    let mut newest = std::collections::BTreeMap::new();
    for entry in &entries {
        newest.insert((entry["kind"].to_string(), entry["key"].to_string()), entry);
    }
    let is_in_part = |entry: &Value| entry["position"].as_str().unwrap().starts_with("part");
    let is_tombstone =
        |entry: &Value| entry["flags"].as_array().unwrap().iter().any(|flag| flag == "tombstone");
    let bytes = |entry: &Value| entry["frame_bytes"].as_u64().unwrap();
    let in_log: Vec<&Value> = newest.into_values().filter(|entry| !is_in_part(entry)).collect();
    let live: u64 = in_log.iter().filter(|entry| !is_tombstone(entry)).map(|entry| bytes(entry)).sum();
    let retracted: u64 = in_log.iter().filter(|entry| is_tombstone(entry)).map(|entry| bytes(entry)).sum();
    let snapshot: u64 = entries.iter().filter(|entry| is_in_part(entry)).map(bytes).sum();
    assert!(live > 0 && retracted > 0 && snapshot > 0);
    assert_eq!(
        (map.number("live"), map.number("retracted"), map.number("snapshot")),
        (live, retracted, snapshot)
    );
    assert_eq!(
        map.number("superseded"),
        entries.iter().map(bytes).sum::<u64>() - live - retracted - snapshot
    );

    let heat = page.picture("heat");
    let entities = on(&["entities", "--json"], &store, &[]).of_type("entity");
    assert_eq!(
        (heat.number("entities"), heat.number("entries")),
        (entities.len() as u64, sum(&entities, "entries"))
    );
    let top = on(&["entities", "--json", "--top", "18"], &store, &[]).of_type("entity");
    assert_eq!(heat.number("rest"), sum(&entities, "entries") - sum(&top, "entries"));

    let rate = page.picture("rate");
    let kinds = on(&["kinds", "--json"], &store, &[]).of_type("kind");
    assert_eq!(
        (rate.number("entries"), rate.number("bytes")),
        (sum(&kinds, "entries"), sum(&kinds, "bytes"))
    );

    let lag = page.picture("lag");
    let cursors = on(&["cursors", "--json"], &store, &[]).of_type("cursor");
    assert_eq!(lag.number("cursors"), cursors.len() as u64);
    let most = |field: &str| cursors.iter().map(|cursor| cursor[field].as_u64().unwrap()).max().unwrap();
    assert_eq!((lag.number("behind"), lag.number("held-bytes")), (most("behind"), most("held_bytes")));
    assert_eq!(lag.number("stuck"), 1);
    assert!(page.words().contains("lost: compaction went past it"), "a stuck cursor says why");

    let ruler = page.picture("ruler");
    let plan = on(&["compact", "--json", "--tombstones", "0s"], &store, &[]).of_type("plan").remove(0);
    assert_eq!(ruler.number("floor"), plan["floor"].as_u64().unwrap());
    assert_eq!(ruler.number("dropped"), plan["entries_dropped"].as_u64().unwrap());
    assert_eq!(ruler.number("last-seq"), entries.last().unwrap()["seq"].as_u64().unwrap());

    let checked = page.picture("verify");
    assert_eq!((checked.text("verdict"), checked.number("damage")), ("valid", 0));
}

#[test]
fn what_is_damaged_is_drawn_and_named_with_what_to_do() {
    let sample = stores::busy();
    let store = sample.text();
    for seq in [stores::LAST - 30, stores::LAST - 31] {
        let (segment, offset) = place(&store, seq);
        flip(&sample.path(), segment, offset + 90);
    }
    let (page, code) = report(&store, "damaged", &[]);
    page.assert_sound();
    assert_eq!(code, Some(1));
    assert!(page.picture("segments").number("damaged") > 0);
    let verification = verify(sample.path(), esker::Check::Full).unwrap();
    let checked = page.picture("verify");
    assert_eq!(checked.text("verdict"), "invalid");
    assert_eq!(checked.number("findings"), verification.findings.len() as u64);
    let words = page.words();
    assert!(words.contains("esker repair") && words.contains("Damaged in"), "{words}");
    assert!(words.contains(&verification.findings[0].what), "{words}");
}

#[test]
fn a_store_of_which_a_part_is_not_there_has_a_page_that_says_so() {
    let sample = Sample::new();
    let journal = sample.open();
    journal.keep(journal.kind("note").unwrap(), Keep::Nothing).unwrap();
    journal.retire_cursor("audit").unwrap();
    assert!(journal.compact(&CompactOptions::new().thorough(true)).unwrap().parts_written > 0);
    journal.close().unwrap();
    let is_part = |path: &PathBuf| path.extension().is_some_and(|end| end == "snap");
    let parts = std::fs::read_dir(sample.path()).unwrap().map(|file| file.unwrap().path());
    std::fs::remove_file(parts.into_iter().find(is_part).unwrap()).unwrap();
    let (page, code) = report(&sample.text(), "part-missing", &[]);
    page.assert_sound();
    assert_eq!(code, Some(1));
    assert_eq!(page.picture("verify").text("verdict"), "invalid");
}

#[test]
fn an_empty_store_and_one_of_one_entry_have_pages() {
    let sample = Sample::empty();
    sample.open().close().unwrap();
    let (page, code) = report(&sample.text(), "empty", &[]);
    page.assert_sound();
    assert_eq!((code, page.picture("heat").number("entries")), (Some(0), 0));

    let journal = sample.open();
    let kind = journal.kind("only").unwrap();
    journal.append(Record::new(kind, b"one", b"entry")).unwrap();
    journal.close().unwrap();
    let (page, code) = report(&sample.text(), "one", &["--quick"]);
    page.assert_sound();
    assert_eq!((code, page.picture("heat").number("entries")), (Some(0), 1));
}

#[test]
fn hostile_names_are_text_and_never_markup() {
    let sample = stores::hostile();
    let (page, code) = report(&sample.text(), "hostile", &[]);
    page.assert_sound();
    assert_eq!(code, Some(0));
    let words = page.words();
    assert!(words.contains("<script>alert(1)</script>"), "as it is, once it is read");
    assert!(words.contains("hex:ff00fe") && words.contains("hex:e280ae"), "{words}");
    assert!(!page.has_element("script") && !page.has_element("img") && !page.has_element("b"));
}

#[test]
fn thousands_of_entities_segments_and_cursors_stay_under_two_thousand_shapes() {
    let sample = stores::wide();
    let (page, code) = report(&sample.text(), "wide", &[]);
    page.assert_sound();
    assert_eq!(code, Some(0));
    assert_eq!(page.picture("heat").number("entities"), stores::WIDE_ENTITIES);
    assert!(page.picture("segments").number("bars") <= 48);
    assert_eq!(page.picture("lag").number("cursors"), stores::WIDE_CURSORS);
    let shapes = page.shapes();
    assert!((400..=2000).contains(&shapes), "{shapes}");
}

#[test]
fn a_store_that_is_written_is_drawn_as_it_is() {
    let sample = Sample::empty();
    let journal = sample.open();
    let kind = journal.kind("note").unwrap();
    for n in 0..50u32 {
        journal.append(Record::new(kind, &n.to_le_bytes(), b"live")).unwrap();
    }
    let (page, code) = report(&sample.text(), "live", &[]);
    page.assert_sound();
    assert_eq!((code, page.picture("heat").number("entries")), (Some(0), 50));
    assert!(page.words().contains("live, writer pid"));
    journal.append(Record::new(kind, b"more", b"live")).unwrap();
    let (page, _) = report(&sample.text(), "live", &[]);
    assert_eq!(page.picture("heat").number("entries"), 51);
    journal.close().unwrap();
}

#[test]
fn a_file_that_is_there_stays_without_force_and_nothing_is_left_of_a_failure() {
    let sample = Sample::new();
    let file = sample.directory.path().join("report.html");
    std::fs::write(&file, "mine").unwrap();
    let name = file.to_str().unwrap();
    let refused = on(&["report", "-o", name], &sample.text(), &[]);
    assert_eq!((refused.code, std::fs::read_to_string(&file).unwrap().as_str()), (Some(2), "mine"));
    assert!(refused.stderr.contains("--force"), "{}", refused.stderr);
    let forced = on(&["report", "-o", name, "--force", "--json"], &sample.text(), &[]);
    assert_eq!(forced.code, Some(0), "{}", forced.stderr);
    let summary = forced.of_type("summary").remove(0);
    let length = std::fs::metadata(&file).unwrap().len();
    assert_eq!(
        (summary["bytes"].as_u64(), summary["entries"].as_u64()),
        (Some(length), Some(support::ENTRIES))
    );
    let lost = on(&["report", "-o", &format!("{name}/no/where.html")], &sample.text(), &[]);
    assert_eq!(lost.code, Some(2), "{}", lost.stderr);
    assert!(lost.stderr.contains("there is no directory"), "{}", lost.stderr);
    let missing = run(&["report", &format!("{}-not", sample.text()), "-o", "-"]);
    assert_eq!((missing.code, missing.stdout.as_str()), (Some(3), ""));
    assert_eq!(on(&["report", "-o", "-", "--json"], &sample.text(), &[]).code, Some(2));
    let mut names: Vec<_> =
        sample.directory.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a.esker", "report.html"]);
}

#[test]
fn what_is_no_ordinary_file_is_not_replaced_whatever_is_forced() {
    let sample = Sample::new();
    let (target, link) = (sample.directory.path().join("target"), sample.directory.path().join("link"));
    std::fs::write(&target, b"somebody's").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    for name in [link.to_str().unwrap(), "/dev/null"] {
        let refused = on(&["report", "-o", name, "--force"], &sample.text(), &[]);
        assert_eq!(refused.code, Some(2), "{name}: {}", refused.stderr);
        assert!(refused.stderr.contains("no ordinary file"), "{}", refused.stderr);
    }
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(std::fs::read(&target).unwrap(), b"somebody's");
}
