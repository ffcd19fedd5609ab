//! Folds over topics: what is read, live and behind a restart, from images and without them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use esker::backplane::{
    Append, Backplane, Feed, Filter, IMAGES_STREAM, InMemory, Local, Offset, Stamp, Step, WriterId,
};
use esker::{
    At, CompactOptions, Durability, ErrorKind, Fold, FoldOptions, FoldStatus, Folded, HaltReason, Journal,
    Options, Store, Topic, Verify,
};
use serde::{Deserialize, Serialize};

const PATIENCE: Duration = Duration::from_secs(30);
const NUMBERS: Topic<u64> = Topic::new("number");

/// Everything that came, in its order.
struct All;
impl Fold for All {
    type State = Vec<u64>;
    type Event = u64;
    const NAME: &'static str = "all";
    const VERSION: u32 = 1;
    fn fold(all: &mut Vec<u64>, number: u64, _: &At) {
        all.push(number);
    }
}

fn small() -> Options {
    Options::new().segment_bytes(16 << 10).background(false).durability(Durability::Os)
}

fn stores() -> [Store; 2] {
    [
        Store::over(small().in_memory().unwrap()),
        Store::over(small().in_memory().unwrap()).with_backplane(Arc::new(InMemory::new())),
    ]
}

fn halted<S>(folded: &Folded<S>) -> Option<HaltReason> {
    match &folded.status {
        FoldStatus::Halted(halt) => Some(halt.why),
        _ => None,
    }
}

#[test]
fn a_fold_is_read_with_what_was_there_and_follows_what_comes() {
    for store in stores() {
        let (topic, other) = (store.topic(NUMBERS, "a").unwrap(), store.topic(NUMBERS, "b").unwrap());
        topic.append(&1).unwrap();
        let fold = topic.fold::<All>().unwrap();
        assert_eq!(fold.read().unwrap().value, [1]);
        for n in 2..600 {
            let offset = topic.append(&n).unwrap();
            other.append(&(n * 1000)).unwrap();
            if n % 97 == 0 {
                let folded = fold.read_after(offset, PATIENCE).unwrap();
                assert_eq!((folded.value.len() as u64, folded.offset), (n, offset));
            }
        }
        let last = topic.head().unwrap();
        let folded = fold.read_after(last, PATIENCE).unwrap();
        assert!(folded.value.iter().copied().eq(1..600));
        let other = other.fold::<All>().unwrap();
        assert_eq!(other.read_with(|all, _, _| all.len()).unwrap(), 598);
        let nothing = store.topic(NUMBERS, "nothing").unwrap().fold::<All>().unwrap().read().unwrap();
        assert_eq!((nothing.value, nothing.offset), (vec![], Offset::BEGINNING));
        store.close().unwrap();
    }
}

#[test]
fn it_is_live_when_there_is_nothing_more_and_its_time_is_over_when_nothing_comes() {
    for store in stores() {
        let topic = store.topic(NUMBERS, "a").unwrap();
        let offset = topic.append(&1).unwrap();
        let fold = topic.fold::<All>().unwrap();
        while fold.read().unwrap().status != FoldStatus::Live {
            std::thread::yield_now();
        }
        let behind = Offset::from_raw(offset.raw() + 1000);
        let error = fold.read_after(behind, Duration::from_millis(5)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    }
}

#[test]
fn a_watcher_is_told_the_newest_value_and_each_only_once() {
    for store in stores() {
        let topic = store.topic(NUMBERS, "a").unwrap();
        let fold = topic.fold::<All>().unwrap();
        let mut watcher = fold.watch();
        assert_eq!(watcher.next().unwrap().value, []);
        assert!(watcher.next_timeout(Duration::from_millis(5)).unwrap().is_none(), "it was told");
        std::thread::scope(|threads| {
            threads.spawn(|| (1..=500).for_each(|n| _ = topic.append(&n).unwrap()));
            let mut told = 0;
            while told < 500 {
                let folded = watcher.next().unwrap();
                assert!(folded.value.len() > told, "nothing is told twice");
                told = folded.value.len();
                assert!(folded.value.iter().copied().eq(1..=told as u64));
            }
        });
        assert!(watcher.next_timeout(Duration::from_millis(5)).unwrap().is_none());
    }
}

#[test]
fn handles_share_one_projector_which_goes_with_the_last_of_them() {
    static FOLDED: AtomicU64 = AtomicU64::new(0);
    struct Counted;
    impl Fold for Counted {
        type State = u64;
        type Event = u64;
        const NAME: &'static str = "counted";
        const VERSION: u32 = 1;
        fn fold(count: &mut u64, _: u64, _: &At) {
            FOLDED.fetch_add(1, Ordering::SeqCst);
            *count += 1;
        }
    }
    let store = Store::in_memory().unwrap();
    let topic = store.topic(NUMBERS, "a").unwrap();
    (0..10).for_each(|n| _ = topic.append(&n).unwrap());
    let (first, second) = (topic.fold::<Counted>().unwrap(), topic.fold::<Counted>().unwrap());
    assert_eq!((first.read().unwrap().value, second.read().unwrap().value), (10, 10));
    assert_eq!(FOLDED.load(Ordering::SeqCst), 10, "it was folded once");
    drop(first);
    let offset = topic.append(&1).unwrap();
    assert_eq!(second.read_after(offset, PATIENCE).unwrap().value, 11);
    drop(second);
    topic.append(&1).unwrap();
    assert_eq!(FOLDED.load(Ordering::SeqCst), 11, "nobody has it any more");
}

#[test]
fn a_store_that_is_closed_ends_its_folds_and_one_that_is_dropped_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.esker");
    let store = Store::open(&path).unwrap();
    let topic = store.topic(NUMBERS, "a").unwrap();
    topic.append(&1).unwrap();
    let fold = topic.fold::<All>().unwrap();
    assert_eq!(fold.read().unwrap().value, [1]);
    let mut watcher = fold.watch();
    watcher.next().unwrap();
    std::thread::scope(|threads| {
        let waits = threads.spawn(|| watcher.next().unwrap_err().kind());
        store.close().unwrap();
        assert_eq!(waits.join().unwrap(), ErrorKind::Closed);
    });
    while fold.read().is_ok() {
        std::thread::yield_now();
    }
    assert_eq!(fold.read().unwrap_err().kind(), ErrorKind::Closed);
    drop(store);
    let store = Store::open(&path).unwrap();
    let again = store.topic(NUMBERS, "a").unwrap().fold::<All>().unwrap();
    assert_eq!(again.read().unwrap().value, [1]);
    drop(store);
    Store::open(&path).expect("a handle of a fold holds no store");
}
