//! Folds in copies of a store whose topics were compacted, and beside damage.

use std::fs;
use std::path::{Path, PathBuf};

use esker::backplane::{Append, Backplane, IMAGES_STREAM, Local, Put, Stamp, Step, WriterId};
use esker::{BackupBy, CompactOptions, ConsumerOptions, ErrorKind, Facts, Keep, Record, Store};

use crate::{First, NUMBERS, compact, fold, leave_the_segment, left, over, save, small, value};

/// Ten events, of which the image has all and the log the last.
fn compacted(store: &Store) {
    let topic = store.topic(NUMBERS, [0]).unwrap();
    (0..10).for_each(|n| _ = topic.append(&n).unwrap());
    save::<First>(store, 0);
    leave_the_segment(store);
    compact(store);
    assert_eq!(left(store, 0), [9]);
}

fn all_are_there_and_it_goes_on(store: &Store, next: u64) {
    let all = |end: u64| (0..end).collect::<Vec<_>>();
    assert_eq!(value::<First>(store, 0), all(next));
    store.topic(NUMBERS, [0]).unwrap().append(&next).unwrap();
    save::<First>(store, 0);
    leave_the_segment(store);
    compact(store);
    assert_eq!(left(store, 0), [next]);
    assert_eq!(value::<First>(store, 0), all(next + 1));
}

#[test]
fn a_store_that_was_restored_or_repaired_again_and_again_has_the_values_of_its_folds() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let open = |name: &str| over(small().open(path(name)).unwrap());
    let store = open("first");
    compacted(&store);
    let backup = |store: &Store, name: &str| {
        store.journal().backup(path(name), BackupBy::Copy).unwrap();
        store.close().unwrap();
    };
    backup(&store, "backup");
    esker::restore(path("backup"), path("restored")).unwrap();
    // No image is saved between the two: it is of the first era.
    backup(&open("restored"), "backup of that");
    esker::restore(path("backup of that"), path("restored again")).unwrap();
    esker::repair(path("restored again"), path("repaired")).unwrap();
    all_are_there_and_it_goes_on(&open("restored"), 10);
    all_are_there_and_it_goes_on(&open("restored again"), 10);
    let store = open("repaired");
    all_are_there_and_it_goes_on(&store, 10);
    store.close().unwrap();
    // What was saved since the copy counts in one of that too.
    esker::repair(path("repaired"), path("repaired again")).unwrap();
    all_are_there_and_it_goes_on(&open("repaired again"), 11);
}

/// The original goes on behind the backup, and so does the restored store: from there on their offsets mean different things.
#[test]
fn an_image_that_the_original_saved_behind_the_backup_does_not_count_in_the_restored_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let original = over(small().open(path("original")).unwrap());
    compacted(&original);
    original.journal().backup(path("backup"), BackupBy::Copy).unwrap();
    esker::restore(path("backup"), path("restored")).unwrap();
    let restored = over(small().open(path("restored")).unwrap());
    let topic = original.topic(NUMBERS, [0]).unwrap();
    topic.append(&77).unwrap();
    save::<First>(&original, 0);
    // Far enough that the image's offset names a record here too.
    restored.topic(NUMBERS, [0]).unwrap().append(&10).unwrap();
    leave_the_segment(&restored);
    restored.topic(NUMBERS, [0]).unwrap().append(&11).unwrap();
    let images = original.journal().kind_named(IMAGES_STREAM).unwrap().id;
    let plane = Local::over(restored.journal()).unwrap();
    for entry in original.journal().view().kind(images) {
        let entry = entry.unwrap();
        let stamp = Stamp::new(WriterId::random().unwrap(), 1);
        let copy = Append::new(IMAGES_STREAM, entry.key(), entry.payload(), stamp);
        plane.commit(&[Step::Append(copy)]).unwrap();
    }
    assert_eq!(value::<First>(&restored, 0), (0..12).collect::<Vec<_>>());
}

/// The files of the log with an image of the first topic, of which one bit is flipped.
fn damage_the_first_image(directory: &Path) {
    let mut files: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let is_image =
        |bytes: &[u8]| bytes.starts_with(b"eimg") && bytes.windows(7).any(|window| window == b"writers");
    for path in files.into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "seg")) {
        let mut bytes = fs::read(&path).unwrap();
        let first = bytes.windows(200).position(is_image);
        if let Some(first) = first {
            bytes[first + 40] ^= 4;
            return fs::write(&path, bytes).unwrap();
        }
    }
    panic!("there is no image");
}

#[test]
fn a_damaged_image_holds_back_its_own_topic_and_refuses_no_erasure_of_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.esker");
    let store = over(small().open(&path).unwrap());
    for key in 0..3_u8 {
        let topic = store.topic(NUMBERS, [key]).unwrap();
        (0..10).for_each(|n| _ = topic.append(&n).unwrap());
        save::<First>(&store, key);
        leave_the_segment(&store);
    }
    store.close().unwrap();
    damage_the_first_image(&path);
    let store = over(small().open(&path).unwrap());
    leave_the_segment(&store);
    compact(&store);
    assert_eq!([0, 1, 2].map(|key| left(&store, key).len()), [10, 1, 1]);
    assert_eq!([0, 1, 2].map(|key| value::<First>(&store, key).len()), [10; 3]);
    let erasure = store.erase(Facts::<u64>::new("number"), [1_u8]).unwrap();
    assert!(erasure.erased, "{erasure:?}");
    assert_eq!([0, 1, 2].map(|key| value::<First>(&store, key).len()), [10, 0, 10]);
}

#[test]
fn a_consumer_whose_cell_cannot_be_read_holds_back_what_it_consumes_and_nothing_else() {
    let store = over(small().in_memory().unwrap());
    for key in 0..2 {
        let topic = store.topic(NUMBERS, [key]).unwrap();
        (0..10).for_each(|n| _ = topic.append(&n).unwrap());
        save::<First>(&store, key);
    }
    let topic = store.topic(NUMBERS, [0]).unwrap();
    topic.on_event("ship", ConsumerOptions::new(), |_| Ok(())).unwrap().close().unwrap();
    let plane = Local::over(store.journal()).unwrap();
    let cells = store.journal().kind_named("esker.cells").unwrap().id;
    let view = store.journal().view();
    let keys: std::collections::BTreeSet<Vec<u8>> =
        view.kind(cells).map(|entry| entry.unwrap().key().to_vec()).collect();
    assert!(!keys.is_empty());
    for key in keys {
        let revision = plane.load(&key).unwrap().revision;
        let stamp = Stamp::new(WriterId::random().unwrap(), 1);
        plane.commit(&[Step::Put(Put::new(&key, revision, Some(b"\x01"), stamp))]).unwrap();
    }
    let journal = store.journal();
    let rows = journal.kind("row").unwrap();
    journal.keep(rows, Keep::Nothing).unwrap();
    (0..10).for_each(|_| _ = journal.append(Record::new(rows, b"k", &[1; 1000])).unwrap());
    leave_the_segment(&store);
    let done = journal.compact(&CompactOptions::new().thorough(true)).unwrap();
    assert!(done.entries_dropped > 5, "{done:?}");
    assert_eq!([0, 1].map(|key| left(&store, key).len()), [10, 1]);
}

/// What the manifest does not say cannot be known: then it is told, and nothing is made up.
#[test]
fn a_repair_that_finds_no_manifest_leaves_folds_halted_over_what_was_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let store = over(small().open(path("a")).unwrap());
    compacted(&store);
    store.topic(NUMBERS, [1]).unwrap().append(&1).unwrap();
    store.close().unwrap();
    let manifest = path("a").join("MANIFEST");
    let mut bytes = fs::read(&manifest).unwrap();
    bytes[70] ^= 1;
    fs::write(&manifest, bytes).unwrap();
    let repaired = esker::repair(path("a"), path("b")).unwrap();
    assert!(repaired.manifest_rebuilt);
    let store = over(small().open(path("b")).unwrap());
    let error = fold::<First>(&store, 0).read().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Halted, "{error}");
    assert!(error.to_string().contains("era"), "{error}");
    assert_eq!(value::<First>(&store, 1), [1]);
}
