#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::*;
use crate::backplane::{
    Append, CellState, Compactor, Done, Filter, IMAGES_STREAM, InMemory, Listener, Stamp, Step, WriterId,
};

/// A backplane that says and delivers what it should not, when it is told to.
#[derive(Debug, Default)]
struct Bent {
    inner: InMemory,
    /// What is said of the era, before it is as it is.
    eras: Mutex<VecDeque<Era>>,
    /// So many feeds leave the second record of a topic out, or the first behind where they begin.
    skips: AtomicU64,
    /// A record of the stream of images that cannot be read; 0: none.
    damaged: AtomicU64,
}

struct BentFeed {
    inner: Box<dyn Feed>,
    skips: Option<u64>,
    damaged: u64,
    delivered: u64,
}

impl Feed for BentFeed {
    fn poll(&mut self, waker: &Waker) -> Result<Option<StreamRecord>> {
        let mut record = self.inner.poll(waker)?;
        self.delivered += u64::from(record.is_some());
        if self.skips == Some(self.delivered) {
            record = self.inner.poll(waker)?;
        }
        if record.as_ref().is_some_and(|record| record.offset().raw() == self.damaged) {
            return Err(Error::corrupt("read a record".to_owned()));
        }
        Ok(record)
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
        self.inner.commit(steps)
    }

    fn subscribe(&self, filter: Filter<'_>, from: Offset) -> Result<Box<dyn Feed>> {
        let inner = self.inner.subscribe(filter, from)?;
        let is_of_images = filter.stream == IMAGES_STREAM;
        let is_bent = !is_of_images
            && self
                .skips
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_ok();
        let skips = is_bent.then_some(if from == Offset::BEGINNING { 2 } else { 1 });
        let damaged = if is_of_images { self.damaged.load(Ordering::SeqCst) } else { 0 };
        Ok(Box::new(BentFeed { inner, skips, damaged, delivered: 0 }))
    }

    fn head(&self, filter: Filter<'_>) -> Result<Offset> {
        self.inner.head(filter)
    }

    fn lowest_retained(&self, filter: Filter<'_>) -> Result<Offset> {
        self.inner.lowest_retained(filter)
    }

    fn load(&self, cell: &[u8]) -> Result<CellState> {
        self.inner.load(cell)
    }

    fn broadcast(&self, channel: &str, bytes: &[u8]) -> Result<usize> {
        self.inner.broadcast(channel, bytes)
    }

    fn listen(&self, channel: &str) -> Result<Box<dyn Listener>> {
        self.inner.listen(channel)
    }

    fn era(&self) -> Result<Era> {
        self.eras.lock().pop_front().map_or_else(|| self.inner.era(), Ok)
    }

    fn close(&self) -> Result<()> {
        self.inner.close()
    }

    fn compactor(&self) -> Option<&dyn Compactor> {
        self.inner.compactor()
    }
}

/// A topic of numbers, each one more than the last.
struct Bench {
    plane: Arc<Bent>,
    setting: Setting,
    appended: u64,
}

impl Bench {
    fn new<F: Fold>(options: FoldOptions) -> Self {
        let plane = Arc::new(Bent::default());
        let subject = Subject::of::<F>("number", b"k");
        let setting = Setting { plane: plane.clone(), subject, schema: 1, options };
        Self { plane, setting, appended: 0 }
    }

    /// Appends so many; answers the offset of the last.
    fn append(&mut self, count: u64) -> Offset {
        for _ in 0..count {
            self.appended += 1;
            let mut payload = Vec::new();
            crate::codec::encode("number", &self.appended, &mut payload).unwrap();
            let stamp = Stamp::new(WriterId::from_raw(1), self.appended);
            self.plane.commit(&[Step::Append(Append::new("number", b"k", &payload, stamp))]).unwrap();
        }
        self.head()
    }

    fn head(&self) -> Offset {
        self.plane.head(self.setting.subject.filter()).unwrap()
    }

    /// Goes on until there is nothing more, or it halts.
    fn drain<F: Fold>(&self, working: &mut Working<F>) -> Result<(), HaltReason> {
        loop {
            match working.turn(&self.setting, Waker::noop()) {
                Ok(Turn::Drained) => return Ok(()),
                Ok(Turn::More) | Err(Trouble::Anew(_)) => {}
                Err(Trouble::Halt(halt)) => return Err(halt.why),
                Err(Trouble::Error(error)) => panic!("{error}"),
            }
        }
    }

    /// How many records the stream of images has.
    fn records_of_images(&self) -> usize {
        let mut feed = self.plane.inner.subscribe_oldest(Filter::stream(IMAGES_STREAM)).unwrap();
        std::iter::from_fn(|| feed.try_next().unwrap()).count()
    }
}

const NO_IMAGES: FoldOptions = FoldOptions::new().images_every(0);

macro_rules! fold {
    ($name:ident, $state:ty, |$value:ident, $number:ident| $fold:expr) => {
        struct $name;
        impl Fold for $name {
            type State = $state;
            type Event = u64;
            const NAME: &'static str = stringify!($name);
            const VERSION: u32 = 1;
            fn fold($value: &mut $state, $number: u64, _: &At) {
                $fold
            }
        }
    };
}

fold!(Sum, u64, |sum, number| *sum += number);

fn sum_of(working: &Working<Sum>) -> u64 {
    *working.undisputed().unwrap()
}

#[test]
fn images_are_dropped_whoever_saved_them_and_two_stay() {
    fold!(Last, u64, |last, number| *last = number);
    let mut bench = Bench::new::<Last>(FoldOptions::new().images_every(1));
    for life in 1..=20 {
        bench.append(1);
        let mut working = Working::<Last>::new();
        bench.drain(&mut working).unwrap();
        assert_eq!(working.undisputed(), Some(&life));
        assert_eq!((working.stats.folded, working.stats.images_written), (1, 1));
    }
    assert_eq!(bench.records_of_images(), 2);
    let mut working = Working::<Last>::new();
    for _ in 0..5 {
        bench.append(1);
        bench.drain(&mut working).unwrap();
    }
    assert_eq!((working.stats.images_used, working.stats.folded), (1, 5));
    assert_eq!(bench.records_of_images(), 2);
}

#[test]
fn on_the_way_to_what_was_there_no_image_is_saved_and_then_one() {
    let mut bench = Bench::new::<Sum>(FoldOptions::new().images_every(64));
    bench.append(5000);
    let mut working = Working::<Sum>::new();
    bench.drain(&mut working).unwrap();
    assert_eq!((working.stats.folded, working.stats.images_written), (5000, 1));
    bench.append(64);
    bench.drain(&mut working).unwrap();
    assert_eq!(working.stats.images_written, 2);
}

#[test]
fn an_image_is_worth_as_many_bytes_of_records_as_it_has() {
    fold!(Wide, Vec<u64>, |wide, number| wide.resize(1000, number));
    let mut bench = Bench::new::<Wide>(FoldOptions::new().images_every(1));
    let mut working = Working::<Wide>::new();
    for _ in 0..500 {
        bench.append(1);
        bench.drain(&mut working).unwrap();
    }
    // Behind the first one of 1,000 bytes there are less than two of records.
    assert_eq!((working.stats.folded, working.stats.images_written), (500, 2));
}

#[test]
fn damage_in_an_older_image_hides_no_newer_one() {
    let mut bench = Bench::new::<Sum>(NO_IMAGES);
    for damaged in 0..3 {
        let mut working = Working::<Sum>::new();
        let mut saved = Vec::new();
        for _ in 0..3 {
            bench.append(10);
            bench.drain(&mut working).unwrap();
            working.last_image = None;
            working.save_now(&bench.setting).unwrap();
            saved.push(bench.plane.inner.head(Filter::stream(IMAGES_STREAM)).unwrap());
        }
        bench.plane.damaged.store(saved[damaged].raw(), Ordering::SeqCst);
        let mut again = Working::<Sum>::new();
        bench.drain(&mut again).unwrap();
        assert_eq!(sum_of(&again), sum_of(&working), "image {damaged}");
        let folded = if damaged == 2 { 10 } else { 0 };
        assert_eq!((again.stats.images_bad, again.stats.images_used, again.stats.folded), (1, 1, folded));
        bench.plane.damaged.store(0, Ordering::SeqCst);
    }
}

#[test]
fn an_image_of_records_that_are_not_there_is_not_taken_up() {
    let mut bench = Bench::new::<Sum>(NO_IMAGES);
    let head = bench.append(3);
    let mut working = Working::<Sum>::new();
    bench.drain(&mut working).unwrap();
    working.at = Offset::from_raw(head.raw() + 1000);
    working.value = Some(Value::new(999, false));
    working.save_now(&bench.setting).unwrap();
    let mut again = Working::<Sum>::new();
    bench.drain(&mut again).unwrap();
    assert_eq!((sum_of(&again), again.stats.images_used, again.stats.refolded), (6, 0, 1));
}

#[test]
fn a_feed_that_leaves_a_record_out_is_asked_again_before_a_fold_halts() {
    for (skips, outcome) in [(2, Ok(())), (100, Err(HaltReason::Gap))] {
        let mut bench = Bench::new::<Sum>(NO_IMAGES);
        bench.append(5);
        bench.plane.skips.store(skips, Ordering::SeqCst);
        let mut working = Working::<Sum>::new();
        // It stands before the record that is left out.
        working.turn_records = 1;
        let drained = bench.drain(&mut working);
        if skips == 2 {
            assert_eq!((drained, sum_of(&working), working.stats.gaps), (outcome, 15, 2));
        } else {
            assert_eq!(drained, outcome);
        }
    }
}

#[test]
fn what_was_subscribed_to_while_the_era_changed_is_not_folded_under_the_one_before() {
    let mut bench = Bench::new::<Sum>(NO_IMAGES);
    bench.append(3);
    let old = Era::from_raw(u128::MAX);
    bench.plane.eras.lock().push_back(old);
    let mut working = Working::<Sum>::new();
    assert!(matches!(working.turn(&bench.setting, Waker::noop()), Err(Trouble::Anew(_))));
    assert_eq!(working.stats.folded, 0);
    bench.drain(&mut working).unwrap();
    assert_eq!((working.era, sum_of(&working)), (Some(bench.plane.inner.era().unwrap()), 6));
    assert_eq!(working.stats.era_resets, 1);
}

#[test]
fn a_fold_that_panics_once_goes_on_and_one_that_does_here_and_there_halts() {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    fold!(Once, u64, |sum, number| {
        assert!(CALLS.fetch_add(1, Ordering::SeqCst) != 7, "the seventh call");
        *sum += number;
    });
    let mut bench = Bench::new::<Once>(NO_IMAGES);
    bench.append(10);
    let mut working = Working::<Once>::new();
    bench.drain(&mut working).unwrap();
    assert_eq!(working.undisputed(), Some(&55));

    // At another place each time.
    static NEXT: AtomicU64 = AtomicU64::new(30);
    fold!(Moody, u64, |sum, number| {
        if NEXT.load(Ordering::SeqCst) == number {
            NEXT.fetch_add(1, Ordering::SeqCst);
            panic!("here and there");
        }
        *sum += number;
    });
    let mut bench = Bench::new::<Moody>(NO_IMAGES);
    bench.append(100);
    let mut working = Working::<Moody>::new();
    assert_eq!(bench.drain(&mut working), Err(HaltReason::Panicked));
    assert_eq!(NEXT.load(Ordering::SeqCst), 30 + u64::from(PANICS_MAX) + 1);
}

#[test]
fn a_fold_that_is_verified_behind_each_record_halts_at_the_first_that_differs() {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    fold!(Impure, u64, |sum, number| *sum += number * CALLS.fetch_add(1, Ordering::SeqCst));
    let mut bench = Bench::new::<Impure>(NO_IMAGES.verify(Verify::Each));
    let first = bench.append(1);
    bench.append(2);
    let mut working = Working::<Impure>::new();
    assert_eq!(bench.drain(&mut working), Err(HaltReason::Diverged));
    assert_eq!(working.at, first);
}

#[test]
fn a_fold_that_panics_while_it_is_verified_lets_go_of_both_values_and_begins_with_the_last_image() {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    // The calls of a record are two: it panics in one of the first value, and in one of the second, half done each time.
    fold!(Halfway, Vec<u64>, |all, number| {
        all.push(number);
        let call = CALLS.fetch_add(1, Ordering::SeqCst);
        assert!(!matches!(call, 14 | 26), "call {call}");
    });
    for verify in [Verify::Images, Verify::Each] {
        CALLS.store(0, Ordering::SeqCst);
        let mut bench = Bench::new::<Halfway>(FoldOptions::new().images_every(1).verify(verify));
        bench.append(5);
        let mut working = Working::<Halfway>::new();
        bench.drain(&mut working).unwrap();
        assert_eq!(working.stats.images_written, 1);
        bench.append(7);
        bench.drain(&mut working).unwrap();
        assert_eq!(working.undisputed(), Some(&(1..=12).collect()), "{verify:?}");
        assert_eq!(working.stats.images_used, 2, "{verify:?}: once behind each panic");
        // Both are there again, and are compared.
        let second = working.value.as_ref().unwrap();
        assert!(second.agrees().unwrap() && working.is_verified(&bench.setting));
        assert_eq!(
            CALLS.load(Ordering::SeqCst),
            10 + 14 + (2 * 2 + 1) + (2 * 5 + 2),
            "{verify:?}: {CALLS:?}"
        );
    }
}

#[test]
fn nothing_is_told_before_what_was_there_is_folded() {
    fold!(All, Vec<u64>, |all, number| all.push(number));
    let mut bench = Bench::new::<All>(NO_IMAGES);
    bench.append(100);
    let mut working = Working::<All>::new();
    working.turn_records = 7;
    for turn in 1..=14 {
        assert_eq!(working.turn(&bench.setting, Waker::noop()).ok(), Some(Turn::More));
        assert!(!working.has_caught_up(), "turn {turn}");
    }
    bench.drain(&mut working).unwrap();
    assert!(working.has_caught_up() && working.undisputed().unwrap().iter().copied().eq(1..=100));
}

#[test]
fn what_one_feed_leaves_out_is_not_taken_for_lost_by_who_begins_anew() {
    for skips in 1..=3 {
        let mut bench = Bench::new::<Sum>(NO_IMAGES);
        bench.append(4);
        let left = bench.append(1);
        bench.append(4);
        let key = &bench.setting.subject.key;
        bench.plane.inner.compactor().unwrap().compact("number", key, left).unwrap();
        assert_eq!(bench.drain(&mut Working::<Sum>::new()), Err(HaltReason::Unbridgeable));
        let mut nothing = Vec::new();
        crate::codec::encode("number", &0u64, &mut nothing).unwrap();
        bench.plane.skips.store(skips, Ordering::SeqCst);
        lost::begin_anew(&*bench.plane, &bench.setting.subject, nothing, &|_| true).unwrap();
        bench.plane.skips.store(0, Ordering::SeqCst);
        let mut working = Working::<Sum>::new();
        bench.drain(&mut working).unwrap();
        assert_eq!(sum_of(&working), (5..=9).sum::<u64>(), "{skips} feeds left one out");
    }
}
