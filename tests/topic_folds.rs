//! Folds over topics: what is read, live and behind a restart, from images and without them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use esker::backplane::{InMemory, Offset};
use esker::{
    At, CompactOptions, Durability, ErrorKind, Fold, FoldOptions, FoldStatus, HaltReason, Options, Store,
    Topic,
};
use proptest::prelude::*;

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
fn a_newer_version_of_a_fold_is_made_beside_the_one_that_is_read() {
    static IS_HELD: AtomicBool = AtomicBool::new(true);
    static IS_ENTERED: AtomicBool = AtomicBool::new(false);
    /// Of another kind of value; it takes its time.
    struct Doubled;
    impl Fold for Doubled {
        type State = (u64, u64);
        type Event = u64;
        const NAME: &'static str = All::NAME;
        const VERSION: u32 = 2;
        fn fold(state: &mut (u64, u64), number: u64, _: &At) {
            IS_ENTERED.store(true, Ordering::SeqCst);
            let begun = Instant::now();
            while IS_HELD.load(Ordering::SeqCst) && begun.elapsed() < PATIENCE {
                std::thread::yield_now();
            }
            *state = (state.0 + 1, state.1 + 2 * number);
        }
    }
    for store in stores() {
        IS_HELD.store(true, Ordering::SeqCst);
        IS_ENTERED.store(false, Ordering::SeqCst);
        let topic = store.topic(NUMBERS, "a").unwrap();
        (1..=50).for_each(|n| _ = topic.append(&n).unwrap());
        let before = topic.fold::<All>().unwrap();
        assert_eq!(before.read().unwrap().value.len(), 50);
        before.save_image().unwrap();
        let newer = topic.fold::<Doubled>().unwrap();
        while !IS_ENTERED.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        let last = topic.append(&51).unwrap();
        let folded = before.read_after(last, PATIENCE).unwrap();
        assert_eq!(folded.value.len(), 51, "while the newer one is made");
        IS_HELD.store(false, Ordering::SeqCst);
        assert_eq!(newer.read_after(last, PATIENCE).unwrap().value, (51, 51 * 52));
        newer.save_image().unwrap();
        // Begun anew each takes its own image.
        drop((before, newer));
        let (before, newer) = (topic.fold::<All>().unwrap(), topic.fold::<Doubled>().unwrap());
        assert_eq!(before.read_after(last, PATIENCE).unwrap().value.len(), 51);
        assert_eq!(newer.read_after(last, PATIENCE).unwrap().value, (51, 51 * 52));
        for stats in [before.stats(), newer.stats()] {
            assert_eq!((stats.images_used, stats.images_bad, stats.refolded), (1, 0, 0), "{stats:?}");
        }
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
        assert!(watcher.next().unwrap().value.is_empty());
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

#[test]
fn a_fold_that_panics_halts_with_the_value_before_and_others_go_on() {
    static PANICS: AtomicBool = AtomicBool::new(true);
    struct Touchy;
    impl Fold for Touchy {
        type State = u64;
        type Event = u64;
        const NAME: &'static str = "touchy";
        const VERSION: u32 = 1;
        fn fold(sum: &mut u64, number: u64, _: &At) {
            // What was changed before a panic must not stay.
            *sum += number;
            assert!(number != 13 || !PANICS.load(Ordering::SeqCst), "thirteen");
        }
    }
    for store in stores() {
        PANICS.store(true, Ordering::SeqCst);
        let topic = store.topic(NUMBERS, "a").unwrap();
        topic.append(&1).unwrap();
        let before = topic.append(&2).unwrap();
        let touchy = topic.fold_with::<Touchy>(FoldOptions::new().images_every(1)).unwrap();
        assert_eq!(touchy.read_after(before, PATIENCE).unwrap().value, 3);
        let bad = topic.append(&13).unwrap();
        let error = touchy.read_after(bad, PATIENCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Halted, "{error}");
        let folded = touchy.read().unwrap();
        let FoldStatus::Halted(halt) = &folded.status else { panic!("{folded:?}") };
        assert_eq!((folded.value, folded.offset, halt.why), (3, before, HaltReason::Panicked), "{halt}");
        assert_eq!(topic.fold::<All>().unwrap().read().unwrap().value, [1, 2, 13]);
        // Whoever takes it up anew tries again, from the image.
        PANICS.store(false, Ordering::SeqCst);
        let again = topic.fold_with::<Touchy>(FoldOptions::new()).unwrap();
        assert_eq!(again.read_after(bad, PATIENCE).unwrap().value, 16);
        assert_eq!((again.stats().folded, again.stats().images_used), (1, 1));
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Append(u8),
    Read(u8),
    SaveAndCompact(u8),
    LetGo,
    Reopen,
    CompactJournal,
    Erase(u8),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => (0..3_u8).prop_map(Operation::Append),
        4 => (0..3_u8).prop_map(Operation::Read),
        1 => (0..3_u8).prop_map(Operation::SaveAndCompact),
        1 => Just(Operation::LetGo),
        1 => Just(Operation::Reopen),
        1 => Just(Operation::CompactJournal),
        1 => (0..3_u8).prop_map(Operation::Erase),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_fold_over_a_store_s_own_topics_is_the_plain_list(
        operations in proptest::collection::vec(operation(), 1..120),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.esker");
        let open = || Store::over(small().open(&path).unwrap());
        let options = FoldOptions::new().images_every(4);
        let (mut store, mut next) = (open(), 0);
        let mut plain: [(Vec<u64>, Offset); 3] = Default::default();
        let mut folds: [Option<esker::TopicFold<All>>; 3] = Default::default();
        for operation in operations {
            match operation {
                Operation::Append(key) => {
                    next += 1;
                    let (all, last) = &mut plain[usize::from(key)];
                    *last = store.topic(NUMBERS, [key]).unwrap().append(&next).unwrap();
                    all.push(next);
                }
                Operation::Read(key) => {
                    let (all, last) = &plain[usize::from(key)];
                    let topic = store.topic(NUMBERS, [key]).unwrap();
                    let fold = folds[usize::from(key)].get_or_insert_with(|| topic.fold_with(options).unwrap());
                    prop_assert_eq!(&fold.read_after(*last, PATIENCE).unwrap().value, all);
                }
                Operation::SaveAndCompact(key) => {
                    let topic = store.topic(NUMBERS, [key]).unwrap();
                    let fold = topic.fold_with::<All>(options).unwrap();
                    if !plain[usize::from(key)].0.is_empty() {
                        topic.compact(fold.save_image().unwrap()).unwrap();
                    }
                }
                Operation::LetGo => folds = Default::default(),
                Operation::Reopen => {
                    folds = Default::default();
                    store.close().unwrap();
                    store = open();
                }
                Operation::CompactJournal => {
                    store.journal().compact(&CompactOptions::new().thorough(true)).unwrap();
                }
                Operation::Erase(key) => {
                    // A fold that is held learns of it by the next event.
                    folds[usize::from(key)] = None;
                    if let Some(kind) = store.journal().kind_named("number") {
                        store.journal().erase(kind.id, &[key]).unwrap();
                        plain[usize::from(key)] = Default::default();
                    }
                }
            }
        }
    }
}
