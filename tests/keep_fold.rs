//! What topics keep for their folds: whatever goes, each registered fold comes to the value of all events.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[path = "keep_fold/copies.rs"]
mod copies;
#[path = "keep_fold/holes.rs"]
mod holes;
#[path = "keep_fold/registering.rs"]
mod registering;

use std::fs;
use std::path::Path;
use std::time::Duration;

use esker::backplane::Offset;
use esker::{
    At, CompactOptions, Compaction, Durability, ErrorKind, Facts, Fold, FoldOptions, FoldStatus, HaltReason,
    Keep, Options, Simulator, Store, Topic, TopicFold,
};
use proptest::prelude::*;

const PATIENCE: Duration = Duration::from_secs(30);
const NUMBERS: Topic<u64> = Topic::new("number");

macro_rules! list_of {
    ($fold:ident, $name:literal, $version:literal) => {
        /// Everything that came, in its order.
        struct $fold;
        impl Fold for $fold {
            type State = Vec<u64>;
            type Event = u64;
            const NAME: &'static str = $name;
            const VERSION: u32 = $version;
            fn fold(all: &mut Vec<u64>, number: u64, _: &At) {
                all.push(number);
            }
        }
    };
}
list_of!(First, "first", 1);
list_of!(Second, "second", 1);
list_of!(SecondLater, "second", 2);

fn small() -> Options {
    Options::new().segment_bytes(8 << 10).background(false).durability(Durability::Os)
}

/// A store whose numbers keep what their folds need.
fn over(journal: esker::Journal) -> Store {
    let store = Store::over(journal);
    store.keep(Facts::<u64>::new("number"), Keep::Fold).unwrap();
    store
}

fn compact(store: &Store) -> Compaction {
    store.journal().compact(&CompactOptions::new().thorough(true)).unwrap()
}

fn fold<F: Fold<Event = u64>>(store: &Store, key: u8) -> TopicFold<F> {
    store.topic(NUMBERS, [key]).unwrap().fold_with::<F>(FoldOptions::new().images_every(0)).unwrap()
}

/// Appends so much that what stands before it is in segments that may go.
fn leave_the_segment(store: &Store) {
    let filler = store.topic(Topic::<Vec<u8>>::new("filler"), "f").unwrap();
    (0..12).for_each(|_| _ = filler.append(&vec![7; 1500]).unwrap());
}

/// The events of a topic that are left.
fn left(store: &Store, key: u8) -> Vec<u64> {
    let mut feed = store.topic(NUMBERS, [key]).unwrap().read_oldest().unwrap();
    std::iter::from_fn(|| feed.try_next().unwrap()).map(|event| event.value().unwrap()).collect()
}

/// Saves an image of all events of a topic.
fn save<F: Fold<State = Vec<u64>, Event = u64>>(store: &Store, key: u8) {
    let head = store.topic(NUMBERS, [key]).unwrap().head().unwrap();
    let fold = fold::<F>(store, key);
    fold.read_after(head, PATIENCE).unwrap();
    fold.save_image().unwrap();
}

fn value<F: Fold<State = Vec<u64>, Event = u64>>(store: &Store, key: u8) -> Vec<u64> {
    let topic = store.topic(NUMBERS, [key]).unwrap();
    fold::<F>(store, key).read_after(topic.head().unwrap(), PATIENCE).unwrap().value
}

#[test]
fn a_topic_keeps_what_is_not_in_the_newest_image_of_every_fold_and_the_newest_event() {
    let store = over(small().in_memory().unwrap());
    let append = |key: u8, numbers: std::ops::Range<u64>| {
        let topic = store.topic(NUMBERS, [key]).unwrap();
        numbers.for_each(|n| _ = topic.append(&n).unwrap());
    };
    for key in 0..3 {
        append(key, 0..10);
    }
    assert_eq!(store.journal().kind_named("number").unwrap().keep, Keep::Fold);
    leave_the_segment(&store);
    compact(&store);
    assert_eq!(left(&store, 0).len(), 10, "there is no fold");

    // Of 0 both have images, of 1 one of them has, of 2 none.
    let save = |key: u8| {
        let first = fold::<First>(&store, key);
        first.read_after(store.topic(NUMBERS, [key]).unwrap().head().unwrap(), PATIENCE).unwrap();
        first.save_image().unwrap();
    };
    save(0);
    save(1);
    let second = fold::<Second>(&store, 0);
    second.read().unwrap();
    second.save_image().unwrap();
    append(0, 10..14);
    append(1, 10..14);
    save(0);
    leave_the_segment(&store);
    let freed = compact(&store);
    assert!(freed.entries_dropped >= 10, "{freed:?}");
    assert_eq!(left(&store, 0), [10, 11, 12, 13], "the second one has seen no more");
    assert_eq!((left(&store, 1).len(), left(&store, 2).len()), (14, 10));
    for key in 0..3 {
        let all: Vec<u64> = (0..if key == 2 { 10 } else { 14 }).collect();
        assert_eq!((value::<First>(&store, key), value::<Second>(&store, key)), (all.clone(), all), "{key}");
    }
    let lost = store.topic(NUMBERS, [0]).unwrap().read(Offset::BEGINNING).unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Lost, "nobody takes the rest for the whole");

    // One that nobody folds by any more needs nothing; a newer version needs all that there is.
    store.retire_fold(NUMBERS, "second").unwrap();
    compact(&store);
    assert_eq!(left(&store, 0), [13], "the newest one stays");
    assert_eq!(left(&store, 1), (10..14).collect::<Vec<_>>());
    assert_eq!(value::<First>(&store, 0), (0..14).collect::<Vec<_>>());
    append(2, 10..12);
    let later = fold::<SecondLater>(&store, 2);
    save(2);
    leave_the_segment(&store);
    compact(&store);
    assert_eq!(left(&store, 2).len(), 12, "the later version has no image of it");
    assert_eq!(value::<SecondLater>(&store, 2), (0..12).collect::<Vec<_>>());
    later.read_after(store.topic(NUMBERS, [2]).unwrap().head().unwrap(), PATIENCE).unwrap();
    later.save_image().unwrap();
    compact(&store);
    assert_eq!(left(&store, 2), [11]);
    assert_eq!(value::<SecondLater>(&store, 2), (0..12).collect::<Vec<_>>());
    // One that comes when it is too late says so.
    let halted = fold::<Second>(&store, 2).read().unwrap_err();
    assert_eq!(halted.kind(), ErrorKind::Halted, "{halted}");
}

#[test]
fn a_stream_whose_first_fold_comes_to_a_store_that_has_forgotten_something_is_kept_for_it_alone() {
    let store = over(small().in_memory().unwrap());
    let other = Facts::<u64>::new("other");
    store.append(other, "x", &1).unwrap();
    store.erase(other, "x").unwrap();
    let topic = store.topic(NUMBERS, [0]).unwrap();
    (0..10).for_each(|n| _ = topic.append(&n).unwrap());
    save::<First>(&store, 0);
    leave_the_segment(&store);
    compact(&store);
    assert_eq!(left(&store, 0), [9]);
    let one = |name: &str| (name.to_owned(), 1);
    assert_eq!(store.registered_folds(NUMBERS).unwrap(), [one("first")]);
    fold::<Second>(&store, 1).read().unwrap();
    assert_eq!(store.registered_folds(NUMBERS).unwrap(), [one("first"), one("second")]);
    assert_eq!(value::<First>(&store, 0), (0..10).collect::<Vec<_>>());
}

#[test]
fn whoever_stands_at_the_newest_of_a_topic_that_keeps_no_more_has_lost_nothing() {
    let store = Store::over(small().in_memory().unwrap());
    store.keep(Facts::<u64>::new("number"), Keep::Latest).unwrap();
    let topic = store.topic(NUMBERS, [0]).unwrap();
    let [first, newest] = [0, 1].map(|n| topic.append(&n).unwrap());
    let other = store.topic(NUMBERS, [1]).unwrap();
    (0..10).for_each(|n| _ = other.append(&n).unwrap());
    leave_the_segment(&store);
    assert!(compact(&store).entries_dropped >= 10);
    let mut feed = topic.read(newest).unwrap();
    assert!(feed.try_next().unwrap().is_none());
    topic.append(&2).unwrap();
    assert_eq!(feed.try_next().unwrap().unwrap().value().unwrap(), 2);
    let before = topic.read(Offset::BEGINNING).unwrap_err();
    assert_eq!(before.kind(), ErrorKind::Lost, "there was one that is not there: {first} {before}");
    assert_eq!(left(&store, 0), [1, 2], "whoever takes what is left has lost nothing");
    assert_eq!(left(&store, 1), [9]);
}

#[test]
fn a_topic_that_is_told_nothing_keeps_all_and_rows_cannot_keep_for_folds() {
    let store = Store::over(small().in_memory().unwrap());
    let topic = store.topic(NUMBERS, [0]).unwrap();
    (0..10).for_each(|n| _ = topic.append(&n).unwrap());
    let first = fold::<First>(&store, 0);
    first.read().unwrap();
    first.save_image().unwrap();
    leave_the_segment(&store);
    compact(&store);
    assert_eq!(left(&store, 0).len(), 10);
    assert_eq!(store.journal().kind_named("number").unwrap().keep, Keep::All);
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Row {
        number: u8,
    }
    let rows = esker::Kind::<Row>::new("row");
    let error = store.keep_rows(rows, Keep::Fold).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[test]
fn a_fold_that_diverged_keeps_the_events_that_show_why() {
    struct Impure;
    impl Fold for Impure {
        type State = u64;
        type Event = u64;
        const NAME: &'static str = "impure";
        const VERSION: u32 = 1;
        fn fold(state: &mut u64, _: u64, _: &At) {
            static CALLS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
            *state = CALLS.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let store = over(small().in_memory().unwrap());
    let topic = store.topic(NUMBERS, [0]).unwrap();
    (0..10).for_each(|n| _ = topic.append(&n).unwrap());
    let first = fold::<First>(&store, 0);
    first.read().unwrap();
    first.save_image().unwrap();
    let options = FoldOptions::new().verify(esker::Verify::Each);
    let impure = topic.fold_with::<Impure>(options).unwrap();
    while !matches!(impure.read(), Err(_) | Ok(esker::Folded { status: FoldStatus::Halted(_), .. })) {
        std::thread::yield_now();
    }
    store.retire_fold(NUMBERS, "impure").unwrap();
    leave_the_segment(&store);
    compact(&store);
    assert_eq!(left(&store, 0).len(), 10);
    let refused = topic.compact(topic.head().unwrap()).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("version 1 of \"impure\"") && text.contains("raise its VERSION"), "{text}");

    // Mended and taken up as a newer version it needs what it has not folded, and behind that nothing is kept for it.
    struct Mended;
    impl Fold for Mended {
        type State = u64;
        type Event = u64;
        const NAME: &'static str = "impure";
        const VERSION: u32 = 2;
        fn fold(state: &mut u64, number: u64, _: &At) {
            *state += number;
        }
    }
    let mended = topic.fold_with::<Mended>(options).unwrap();
    assert_eq!(mended.read_after(topic.head().unwrap(), PATIENCE).unwrap().value, 45);
    compact(&store);
    assert_eq!(left(&store, 0).len(), 10, "it has no image yet");
    mended.save_image().unwrap();
    leave_the_segment(&store);
    compact(&store);
    assert_eq!(left(&store, 0).len(), 1);
    assert_eq!(topic.compact(topic.head().unwrap()).unwrap(), topic.head().unwrap());
}

#[test]
fn a_version_that_was_taken_up_before_a_fold_diverged_ends_no_mark() {
    /// Version 1 comes to another value each time.
    struct Stable<const VERSION: u32>;
    impl<const VERSION: u32> Fold for Stable<VERSION> {
        type State = u64;
        type Event = u64;
        const NAME: &'static str = "unsteady";
        const VERSION: u32 = VERSION;
        fn fold(state: &mut u64, number: u64, _: &At) {
            static CALLS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
            let drift = CALLS.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            *state += if VERSION == 1 { drift } else { number };
        }
    }
    let store = over(small().in_memory().unwrap());
    let topic = store.topic(NUMBERS, [0]).unwrap();
    (0..10).for_each(|n| _ = topic.append(&n).unwrap());
    let options = || FoldOptions::new().verify(esker::Verify::Each);
    // The builds of both versions run beside each other for a while.
    let newer = topic.fold_with::<Stable<2>>(options()).unwrap();
    assert_eq!(newer.read_after(topic.head().unwrap(), PATIENCE).unwrap().value, 45);
    let older = topic.fold_with::<Stable<1>>(options()).unwrap();
    while !matches!(older.read(), Err(_) | Ok(esker::Folded { status: FoldStatus::Halted(_), .. })) {
        std::thread::yield_now();
    }
    newer.save_image().unwrap();
    let last = topic.head().unwrap();
    assert_eq!(topic.compact(last).unwrap_err().kind(), ErrorKind::Halted, "nobody has mended anything");
    let mended = topic.fold_with::<Stable<3>>(options()).unwrap();
    assert_eq!(mended.read_after(last, PATIENCE).unwrap().value, 45);
    assert_eq!(topic.compact(last).unwrap(), last);
}

/// One whole life of a topic: events, images, compactions.
fn live(store: &Store, acknowledged: &mut u64) {
    for round in 0..3 {
        let topic = store.topic(NUMBERS, [0]).unwrap();
        for _ in 0..6 {
            topic.append(acknowledged).unwrap();
            *acknowledged += 1;
        }
        let first = fold::<First>(store, 0);
        first.read_after(topic.head().unwrap(), PATIENCE).unwrap();
        first.save_image().unwrap();
        if round % 2 == 0 {
            leave_the_segment(store);
        }
        compact(store);
    }
}

#[test]
fn a_power_cut_at_any_operation_of_the_disk_leaves_the_value_of_a_first_part_of_the_events() {
    let open = |disk: &Simulator| {
        over(Options::new().segment_bytes(8 << 10).background(false).open_in(disk).unwrap())
    };
    let disk = Simulator::new();
    let (store, mut count) = (open(&disk), 0);
    live(&store, &mut count);
    assert!(left(&store, 0).len() < 18, "something went");
    store.close().unwrap();
    let mut was_compacted = 0;
    for at in 0..=disk.events() {
        for choose in 0..2_usize {
            let lost = disk.crash(at, &mut |n: usize| [0, n - 1][choose]);
            let store = open(&lost);
            let shown = format!("behind {at} operations, outcome {choose}");
            let found = value::<First>(&store, 0);
            assert!(found.iter().copied().eq(0..found.len() as u64), "{shown}: {found:?}");
            let left = left(&store, 0);
            assert_eq!(left.last(), found.last(), "{shown}");
            was_compacted += usize::from(left.len() < found.len());
            // And it goes on from there.
            let mut next = found.len() as u64;
            live(&store, &mut next);
            assert!(value::<First>(&store, 0).iter().copied().eq(0..next), "{shown}");
        }
    }
    assert!(was_compacted > 10, "{was_compacted} crashes behind a compaction");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// Where an image stands in the files of a store, by what is written in it.
fn find_image(directory: &Path) -> (std::path::PathBuf, std::ops::Range<usize>) {
    for file in fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let of_log = path.extension().is_some_and(|kind| kind == "seg" || kind == "snap");
        let found = bytes.windows(4).rposition(|window| window == b"eimg" && of_log);
        // The registration has none of an image's fields.
        let images: Vec<usize> = (0..bytes.len().saturating_sub(4))
            .filter(|at| of_log && &bytes[*at..at + 4] == b"eimg")
            .filter(|at| bytes[*at..bytes.len().min(at + 200)].windows(7).any(|window| window == b"writers"))
            .collect();
        if let (Some(_), Some(first)) = (found, images.last()) {
            // The head of its frame, and all of its payload.
            return (path, first.saturating_sub(96)..first + 150);
        }
    }
    panic!("there is no image");
}

#[test]
fn an_image_that_is_damaged_at_any_byte_is_never_taken_for_another_value() {
    for compacts in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let whole = directory.path().join("whole");
        let store = over(small().open(&whole).unwrap());
        let topic = store.topic(NUMBERS, [0]).unwrap();
        (0..10).for_each(|n| _ = topic.append(&n).unwrap());
        let first = fold::<First>(&store, 0);
        first.read().unwrap();
        first.save_image().unwrap();
        leave_the_segment(&store);
        if compacts {
            compact(&store);
            assert_eq!(left(&store, 0), [9]);
        }
        drop((topic, first));
        store.close().unwrap();
        let (path, image) = find_image(&whole);
        let (mut refolded, mut halted) = (0, 0);
        for at in image.clone() {
            let damaged = directory.path().join("damaged");
            copy(&whole, &damaged);
            let file = damaged.join(path.file_name().unwrap());
            let mut bytes = fs::read(&file).unwrap();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&file, bytes).unwrap();
            // Derived files tell nothing that the log does not.
            let shown = format!("byte {at} of {image:?}, compacted: {compacts}");
            if let Ok(journal) = small().open(&damaged) {
                let store = over(journal);
                match fold::<First>(&store, 0).read() {
                    Ok(folded) => {
                        let is_first_part = folded.value.iter().copied().eq(0..folded.value.len() as u64);
                        assert!(is_first_part, "{shown}: {folded:?}");
                        match folded.status {
                            FoldStatus::Halted(halt) => {
                                assert!(
                                    [HaltReason::Damaged, HaltReason::Gap].contains(&halt.why),
                                    "{shown}: {halt}"
                                );
                            }
                            _ => assert_eq!(folded.value.len(), 10, "{shown}"),
                        }
                        refolded += 1;
                    }
                    Err(error) => {
                        let kinds = [ErrorKind::Halted, ErrorKind::Corrupt];
                        assert!(kinds.contains(&error.kind()), "{shown}: {error}");
                        halted += 1;
                    }
                }
                // What compaction makes of it is no other value either.
                let _ = store.journal().compact(&CompactOptions::new().thorough(true));
                if let Ok(folded) = fold::<First>(&store, 0).read() {
                    assert!(
                        folded.value.iter().copied().eq(0..folded.value.len() as u64),
                        "{shown}: {folded:?}"
                    );
                }
            }
            fs::remove_dir_all(&damaged).unwrap();
        }
        assert!(if compacts { halted > 100 } else { refolded > 100 }, "{refolded} and {halted}: {compacts}");
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Append(u8, u8),
    First(u8),
    Second(u8),
    Save(u8, bool),
    Compact,
    Reopen,
    Erase(u8),
    Fill,
}

fn operation() -> impl Strategy<Value = Operation> {
    let key = 0..3_u8;
    prop_oneof![
        8 => (key.clone(), 1..12_u8).prop_map(|(key, count)| Operation::Append(key, count)),
        3 => key.clone().prop_map(Operation::First),
        2 => key.clone().prop_map(Operation::Second),
        4 => (key.clone(), any::<bool>()).prop_map(|(key, first)| Operation::Save(key, first)),
        3 => Just(Operation::Compact),
        1 => Just(Operation::Reopen),
        1 => key.prop_map(Operation::Erase),
        2 => Just(Operation::Fill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn whatever_goes_both_folds_come_to_the_plain_list(
        operations in proptest::collection::vec(operation(), 1..60),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.esker");
        let open = || over(small().open(&path).unwrap());
        let mut store = open();
        // Both are known from the beginning.
        drop((fold::<First>(&store, 9), fold::<Second>(&store, 9)));
        let mut plain: [Vec<u64>; 3] = Default::default();
        let mut next = 0;
        for operation in operations {
            match operation {
                Operation::Append(key, count) => {
                    let topic = store.topic(NUMBERS, [key]).unwrap();
                    for _ in 0..count {
                        next += 1;
                        topic.append(&next).unwrap();
                        plain[usize::from(key)].push(next);
                    }
                }
                Operation::First(key) => prop_assert_eq!(&value::<First>(&store, key), &plain[usize::from(key)]),
                Operation::Second(key) => prop_assert_eq!(&value::<Second>(&store, key), &plain[usize::from(key)]),
                Operation::Save(key, true) => save::<First>(&store, key),
                Operation::Save(key, false) => save::<Second>(&store, key),
                Operation::Compact => _ = compact(&store),
                Operation::Reopen => {
                    store.close().unwrap();
                    store = open();
                }
                Operation::Erase(key) => {
                    let kind = store.journal().kind_named("number").unwrap();
                    store.journal().erase(kind.id, &[key]).unwrap();
                    plain[usize::from(key)].clear();
                }
                Operation::Fill => leave_the_segment(&store),
            }
        }
        compact(&store);
        for key in 0..3 {
            prop_assert_eq!(&value::<First>(&store, key), &plain[usize::from(key)]);
            prop_assert_eq!(&value::<Second>(&store, key), &plain[usize::from(key)]);
            let end = plain[usize::from(key)].as_slice();
            prop_assert!(end.ends_with(&left(&store, key)), "what is left is the end of it");
        }
    }
}
