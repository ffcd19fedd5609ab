//! Folds over topics as those who read them see them: who is woken, what is said of a value, and what is refused.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::{Duration, Instant};

use esker::backplane::{
    Append, Backplane, CellState, Compactor, Done, Era, Feed, Filter, IMAGES_STREAM, InMemory, Listener,
    Offset, Stamp, Step, StreamRecord, WriterId,
};
use esker::{
    At, ConsumerOptions, Error, ErrorKind, Fold, FoldOptions, FoldStatus, HaltReason, Options, Result, Store,
    Topic, Verify,
};
use serde::{Deserialize, Serialize, Serializer};

const PATIENCE: Duration = Duration::from_secs(30);
const NUMBERS: Topic<u64> = Topic::new("number");
const NO_IMAGES: FoldOptions = FoldOptions::new().images_every(0);

macro_rules! fold {
    ($name:ident, $label:literal, $state:ty, $event:ty, |$value:ident, $taken:ident| $fold:expr) => {
        struct $name;
        impl Fold for $name {
            type State = $state;
            type Event = $event;
            const NAME: &'static str = $label;
            const VERSION: u32 = 1;
            fn fold($value: &mut $state, $taken: $event, _: &At) {
                $fold
            }
        }
    };
}
fold!(Sum, "sum", u64, u64, |sum, number| *sum += number);

fn on(plane: &Arc<impl Backplane + 'static>) -> Store {
    let plane: Arc<dyn Backplane> = plane.clone();
    Store::in_memory().unwrap().with_backplane(plane)
}

/// Two backplanes of which one is there, whose feeds deliver nothing, or say that the era has changed, when they are told to.
#[derive(Debug, Default)]
struct Bent {
    planes: [InMemory; 2],
    switches: Arc<Switches>,
}

#[derive(Debug, Default)]
struct Switches {
    is_second: AtomicBool,
    is_silent: AtomicBool,
    is_confused: AtomicBool,
    is_short: AtomicBool,
    sleeping: Mutex<Option<Waker>>,
}

struct BentFeed {
    inner: Box<dyn Feed>,
    switches: Arc<Switches>,
    is_second: bool,
    is_of_images: bool,
}

impl Bent {
    fn plane(&self) -> &InMemory {
        &self.planes[usize::from(self.switches.is_second.load(Ordering::SeqCst))]
    }

    fn append(&self, number: u8, stamp: Stamp) -> Offset {
        let append = Append::new(NUMBERS.name(), b"k", std::slice::from_ref(&number), stamp);
        self.plane().commit(&[Step::Append(append)]).unwrap().offset(0).unwrap()
    }

    fn wake(&self) {
        if let Some(waker) = self.switches.sleeping.lock().unwrap().take() {
            waker.wake();
        }
    }
}

impl Feed for BentFeed {
    fn poll(&mut self, waker: &Waker) -> Result<Option<StreamRecord>> {
        let is_over = self.is_second != self.switches.is_second.load(Ordering::SeqCst);
        let is_confused = !self.is_of_images && self.switches.is_confused.load(Ordering::SeqCst);
        if is_over || is_confused {
            return Err(Error::new(ErrorKind::EraChanged, "read on"));
        }
        if !self.is_of_images {
            *self.switches.sleeping.lock().unwrap() = Some(waker.clone());
            if self.switches.is_silent.load(Ordering::SeqCst) {
                return Ok(None);
            }
        }
        self.inner.poll(waker)
    }

    fn position(&self) -> Offset {
        self.inner.position()
    }
}

impl Backplane for Bent {
    fn atomic(&self) -> bool {
        true
    }

    fn commit(&self, steps: &[Step<'_>]) -> Result<Done> {
        self.plane().commit(steps)
    }

    fn subscribe(&self, filter: Filter<'_>, from: Offset) -> Result<Box<dyn Feed>> {
        let is_second = self.switches.is_second.load(Ordering::SeqCst);
        if self.switches.is_short.load(Ordering::SeqCst) && from > Offset::BEGINNING {
            return Err(Error::new(ErrorKind::EraChanged, "read behind an offset"));
        }
        let inner = self.plane().subscribe(filter, from)?;
        let (switches, is_of_images) = (Arc::clone(&self.switches), filter.stream == IMAGES_STREAM);
        Ok(Box::new(BentFeed { inner, switches, is_second, is_of_images }))
    }

    fn head(&self, filter: Filter<'_>) -> Result<Offset> {
        self.plane().head(filter)
    }

    fn lowest_retained(&self, filter: Filter<'_>) -> Result<Offset> {
        self.plane().lowest_retained(filter)
    }

    fn load(&self, cell: &[u8]) -> Result<CellState> {
        self.plane().load(cell)
    }

    fn broadcast(&self, channel: &str, bytes: &[u8]) -> Result<usize> {
        self.plane().broadcast(channel, bytes)
    }

    fn listen(&self, channel: &str) -> Result<Box<dyn Listener>> {
        self.plane().listen(channel)
    }

    fn era(&self) -> Result<Era> {
        self.plane().era()
    }

    fn close(&self) -> Result<()> {
        self.plane().close()
    }

    fn compactor(&self) -> Option<&dyn Compactor> {
        self.plane().compactor()
    }
}

#[test]
fn who_finds_somebody_else_at_showing_a_value_is_told_of_it() {
    static IS_HELD: AtomicBool = AtomicBool::new(false);
    static CLONES: AtomicU64 = AtomicU64::new(0);
    #[derive(Default, Serialize, Deserialize)]
    struct Held(u64);
    impl Clone for Held {
        fn clone(&self) -> Self {
            CLONES.fetch_add(1, Ordering::SeqCst);
            while IS_HELD.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            Self(self.0)
        }
    }
    fold!(HeldSum, "held", Held, u64, |sum, number| sum.0 += number);
    let store = on(&Arc::new(InMemory::new()));
    let topic = store.topic(NUMBERS, "k").unwrap();
    let at = topic.append(&1).unwrap();
    let fold = topic.fold_with::<HeldSum>(NO_IMAGES).unwrap();
    // It is folded, and nobody has read it yet.
    while fold.stats().folded < 1 {
        std::thread::yield_now();
    }
    IS_HELD.store(true, Ordering::SeqCst);
    std::thread::scope(|threads| {
        let read = || fold.read_after(at, PATIENCE).map(|folded| folded.value.0);
        let first = threads.spawn(read);
        while CLONES.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        let second = threads.spawn(read);
        // Long enough for it to wait; where it was not, this shows less.
        std::thread::sleep(Duration::from_millis(50));
        IS_HELD.store(false, Ordering::SeqCst);
        assert_eq!((first.join().unwrap().unwrap(), second.join().unwrap().unwrap()), (1, 1));
    });
}

#[test]
fn who_reads_while_an_image_is_saved_is_shown_the_value_behind_that() {
    static IS_HELD: AtomicBool = AtomicBool::new(false);
    static SAVES: AtomicU64 = AtomicU64::new(0);
    #[derive(Clone, Default, Deserialize)]
    struct Held(u64);
    impl Serialize for Held {
        fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
            SAVES.fetch_add(1, Ordering::SeqCst);
            while IS_HELD.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            serializer.serialize_newtype_struct("Held", &self.0)
        }
    }
    fold!(HeldSum, "held", Held, u64, |sum, number| sum.0 += number);
    let store = on(&Arc::new(InMemory::new()));
    let topic = store.topic(NUMBERS, "k").unwrap();
    let fold = topic.fold_with::<HeldSum>(NO_IMAGES).unwrap();
    fold.read().unwrap();
    // The second is folded and not shown.
    let mut at = Offset::BEGINNING;
    for n in 1..=2 {
        at = topic.append(&1).unwrap();
        while fold.stats().folded < n {
            std::thread::yield_now();
        }
    }
    IS_HELD.store(true, Ordering::SeqCst);
    std::thread::scope(|threads| {
        let saves = threads.spawn(|| fold.save_image());
        while SAVES.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        let reads = threads.spawn(|| fold.read_after(at, PATIENCE).map(|folded| folded.value.0));
        std::thread::sleep(Duration::from_millis(50));
        IS_HELD.store(false, Ordering::SeqCst);
        assert_eq!(saves.join().unwrap().unwrap(), at);
        assert_eq!(reads.join().unwrap().unwrap(), 2);
    });
    assert_eq!(fold.stats().images_written, 1);
}

#[test]
fn a_halt_that_a_save_comes_to_is_told_to_those_who_wait() {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    fold!(Impure, "impure", u64, u64, |sum, _number| *sum += CALLS.fetch_add(1, Ordering::SeqCst));
    let store = on(&Arc::new(InMemory::new()));
    let topic = store.topic(NUMBERS, "k").unwrap();
    topic.append(&1).unwrap();
    let fold = topic.fold_with::<Impure>(NO_IMAGES.verify(Verify::Images)).unwrap();
    let mut watcher = fold.watch();
    watcher.next().unwrap();
    std::thread::scope(|threads| {
        let waits = threads.spawn(move || watcher.next_timeout(PATIENCE).unwrap().unwrap().status);
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(fold.save_image().unwrap_err().kind(), ErrorKind::Halted);
        let FoldStatus::Halted(halt) = waits.join().unwrap() else { panic!("it is told") };
        assert_eq!(halt.why, HaltReason::Diverged);
    });
}

#[test]
fn a_value_without_what_was_acknowledged_is_not_live() {
    let plane = Arc::new(Bent::default());
    let store = on(&plane);
    let topic = store.topic(NUMBERS, "k").unwrap();
    let fold = topic.fold_with::<Sum>(NO_IMAGES).unwrap();
    while fold.read().unwrap().status != FoldStatus::Live {
        std::thread::yield_now();
    }
    plane.switches.is_silent.store(true, Ordering::SeqCst);
    let at = topic.append(&5).unwrap();
    // Long enough for its task to fall asleep: only then could it be said to be live.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(100) {
        let folded = fold.read().unwrap();
        assert_eq!((folded.value, folded.offset), (0, Offset::BEGINNING));
        assert_eq!(folded.status, FoldStatus::Lagging);
        assert_eq!(fold.read_with(|_, _, status| status).unwrap(), FoldStatus::Lagging);
    }
    plane.switches.is_silent.store(false, Ordering::SeqCst);
    plane.wake();
    assert_eq!(fold.read_after(at, PATIENCE).unwrap().value, 5);
    while fold.read().unwrap().status != FoldStatus::Live {
        std::thread::yield_now();
    }
}

#[test]
fn a_log_that_ends_before_the_place_of_a_fold_is_a_gap_also_where_the_backplane_calls_it_another_era() {
    let plane = Arc::new(Bent::default());
    let store = on(&plane);
    let topic = store.topic(NUMBERS, "k").unwrap();
    let fold = topic.fold_with::<Sum>(NO_IMAGES).unwrap();
    let at = topic.append(&5).unwrap();
    assert_eq!(fold.read_after(at, PATIENCE).unwrap().value, 5);
    plane.switches.is_short.store(true, Ordering::SeqCst);
    plane.switches.is_confused.store(true, Ordering::SeqCst);
    plane.wake();
    let begun = Instant::now();
    let halt = loop {
        match fold.read().unwrap().status {
            FoldStatus::Halted(halt) => break halt,
            _ => assert!(begun.elapsed() < PATIENCE, "it goes on trying"),
        }
    };
    assert_eq!(halt.why, HaltReason::Gap, "{halt}");
}

#[test]
fn a_watcher_is_told_of_another_era_whose_newest_record_has_the_same_offset() {
    let plane = Arc::new(Bent::default());
    let stamp = Stamp::new(WriterId::random().unwrap(), 1);
    let first = plane.append(5, stamp);
    let store = on(&plane);
    let fold = store.topic(NUMBERS, "k").unwrap().fold_with::<Sum>(NO_IMAGES).unwrap();
    let mut watcher = fold.watch();
    assert_eq!(watcher.next().unwrap().value, 5);
    plane.switches.is_second.store(true, Ordering::SeqCst);
    assert_eq!(plane.append(7, stamp), first, "or this shows nothing");
    plane.wake();
    let told = watcher.next_timeout(PATIENCE).unwrap().expect("another value");
    assert_eq!((told.value, told.offset), (7, first));
    assert!(watcher.next_timeout(Duration::from_millis(5)).unwrap().is_none(), "it was told");
}

#[test]
fn a_feed_that_says_again_and_again_that_the_era_has_changed_is_an_error_that_is_told() {
    let plane = Arc::new(Bent::default());
    plane.switches.is_confused.store(true, Ordering::SeqCst);
    let store = on(&plane);
    let topic = store.topic(NUMBERS, "k").unwrap();
    let at = topic.append(&3).unwrap();
    let fold = topic.fold_with::<Sum>(NO_IMAGES).unwrap();
    assert_eq!(fold.read().unwrap_err().kind(), ErrorKind::EraChanged);
    plane.switches.is_confused.store(false, Ordering::SeqCst);
    assert_eq!(fold.read_after(at, PATIENCE).unwrap().value, 3);
}

#[test]
fn whoever_looks_at_a_value_may_ask_the_fold_meanwhile_and_keeps_nobody_from_others() {
    let store = on(&Arc::new(InMemory::new()));
    let topic = store.topic(NUMBERS, "k").unwrap();
    topic.append(&1).unwrap();
    let fold = topic.fold_with::<Sum>(NO_IMAGES).unwrap();
    let (done, is_done) = channel();
    let looks = fold.clone();
    let thread = std::thread::spawn(move || {
        let asked = looks.read_with(|sum, _, _| {
            let folded = looks.stats().folded;
            (*sum, folded, format!("{looks:?}").len() > 3, looks.read().unwrap().value)
        });
        done.send(asked).unwrap();
    });
    let asked = is_done.recv_timeout(PATIENCE).expect("it waits for itself");
    assert_eq!(asked.unwrap(), (1, 1, true, 1));
    thread.join().unwrap();

    // Folding goes on, also for others, while somebody looks.
    fold.read_with(|_, _, _| {
        let at = topic.append(&2).unwrap();
        std::thread::scope(|threads| {
            let other = threads.spawn(|| fold.read_after(at, PATIENCE).unwrap().value);
            assert_eq!(other.join().unwrap(), 3);
        });
        assert_eq!(store.topic(NUMBERS, "other").unwrap().fold::<Sum>().unwrap().read().unwrap().value, 0);
    })
    .unwrap();
}

#[test]
fn a_second_type_of_one_name_and_version_is_refused_over_the_same_stream() {
    fold!(Count, "sum", u64, u64, |count, _number| *count += 1);
    fold!(Texts, "sum", u64, String, |count, _text| *count += 1);
    let store = on(&Arc::new(InMemory::new()));
    let topic = store.topic(NUMBERS, "k").unwrap();
    topic.append(&100).unwrap();
    topic.fold::<Sum>().unwrap().save_image().unwrap();
    let error = topic.fold::<Count>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("Count") && error.to_string().contains("Sum"), "{error}");
    let another = store.topic(Topic::<String>::new("text"), "k").unwrap();
    another.fold::<Texts>().unwrap().read().unwrap();
}

#[test]
fn a_topic_is_read_and_folded_as_the_same_events() {
    #[derive(Serialize, Deserialize)]
    enum Order {
        Placed(u32),
    }
    fold!(Texts, "texts", Vec<String>, String, |all, text| all.push(text));
    let store = on(&Arc::new(InMemory::new()));
    let at =
        store.topic(Topic::<Order>::new("order").version(2), "k").unwrap().append(&Order::Placed(3)).unwrap();
    for (version, why) in [(1, HaltReason::ForwardIncompatible), (2, HaltReason::Schema)] {
        let topic = store.topic(Topic::<String>::new("order").version(version), "k").unwrap();
        let fold = topic.fold_with::<Texts>(NO_IMAGES).unwrap();
        assert_eq!(fold.read_after(at, PATIENCE).unwrap_err().kind(), ErrorKind::Halted);
        let FoldStatus::Halted(halt) = fold.read().unwrap().status else { panic!("it has halted") };
        assert_eq!(halt.why, why);
        let error = topic.read(Offset::BEGINNING).unwrap().next().unwrap().value().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Codec, "{error}");
        assert!(error.to_string().contains("version 2, read as version"), "{error}");
    }
}

#[test]
fn a_stamp_that_does_not_begin_at_1_halts_no_fold_over_the_store_s_own_log() {
    let store = Store::in_memory().unwrap();
    let topic = store.topic(NUMBERS, "k").unwrap();
    topic.append(&1).unwrap();
    let stamp = Stamp::new(WriterId::random().unwrap(), 2);
    let append = Append::new(NUMBERS.name(), b"k", &[2], stamp);
    let done = store.backplane().unwrap().commit(&[Step::Append(append)]).unwrap();
    let folded = topic.fold::<Sum>().unwrap().read_after(done.offset(0).unwrap(), PATIENCE).unwrap();
    assert_eq!(folded.value, 3);
}

/// Handlers run in the threads that fold. With one of them, and a fold in each that waits for another, nothing is left to fold what is
/// waited for, unless somebody takes the place of who waits.
#[test]
fn a_handler_may_wait_for_a_fold_however_few_threads_there_are() {
    let store = Store::over(Options::new().fold_threads(1).background(false).in_memory().unwrap());
    let (tell, told) = channel();
    let handlers: Vec<_> = (0..4_u8)
        .map(|key| {
            let topic = store.topic(NUMBERS, [key]).unwrap();
            (store.clone(), tell.clone(), topic.append(&7).unwrap(), key)
        })
        .collect();
    let consumers: Vec<_> = handlers
        .into_iter()
        .map(|(theirs, tell, offset, key)| {
            let topic = store.topic(NUMBERS, [key]).unwrap();
            let options = ConsumerOptions::new().max_attempts(1);
            topic
                .on_event("ship", options, move |delivery| {
                    let fold = theirs.topic(NUMBERS, [key])?.fold_with::<Sum>(NO_IMAGES)?;
                    let sum = fold.read_after(delivery.offset(), PATIENCE)?.value;
                    tell.send((key, sum, delivery.offset() == offset))?;
                    Ok(())
                })
                .unwrap()
        })
        .collect();
    let mut all: Vec<_> = (0..4).map(|_| told.recv_timeout(PATIENCE).unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3].map(|key| (key, 7, true)));
    for consumer in consumers {
        consumer.close().unwrap();
        assert_eq!(consumer.status().poisoned, 0);
    }
}
