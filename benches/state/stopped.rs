//! A subscriber that stands still inside its bootstrap: what that costs those who write, and what it takes of memory and disk.
//!
//! ```sh
//! cargo bench --bench state -- stopped                        # three times 60 seconds with one, and as long without
//! SECONDS=10 ROUNDS=6 HOLD_MB=64 cargo bench --bench state -- stopped
//! ```
//!
//! Slices with one and without alternate within one run, so that whatever else the machine does is in both.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use esker::{AutoCompact, Behind, ChangeKind, Keep, Marker, Options, StateItem, Store, Subscription};

use super::memory::anonymous_bytes;
use super::{Dice, FACT, HOT, VESSEL, Vessel, vessel};

/// Each of so many asserts is timed: to look at the clock costs about as much as one.
const TIMED: u64 = 16;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// How long something took, by 64ths of a power of two: its size does not depend on how much was counted.
struct Histogram(Vec<u64>);

impl Histogram {
    fn new() -> Self {
        Self(vec![0; 64 * 64])
    }

    fn count(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap().max(64);
        let octave = u64::from(nanos.ilog2());
        let place = octave * 64 + ((nanos >> (octave - 6)) & 63);
        self.0[usize::try_from(place).unwrap()] += 1;
    }

    fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(sum, count)| *sum += count);
    }

    fn at(&self, percent: u64) -> Duration {
        let all: u64 = self.0.iter().sum();
        let mut left = (all * percent).div_ceil(100);
        for (place, count) in (0u64..).zip(&self.0) {
            if *count >= left && left > 0 {
                return Duration::from_nanos((64 + place % 64) << (place / 64) >> 6);
            }
            left -= count;
        }
        Duration::ZERO
    }
}

/// What slices of one sort came to.
struct Slices {
    asserts: Histogram,
    appends: Histogram,
    operations: u64,
    seconds: f64,
    memory: u64,
    disk: u64,
}

impl Slices {
    fn new() -> Self {
        let (asserts, appends) = (Histogram::new(), Histogram::new());
        Self { asserts, appends, operations: 0, seconds: 0.0, memory: 0, disk: 0 }
    }

    fn print(&self, what: &str) {
        let rate = self.operations as f64 / self.seconds;
        println!(
            "{what:<24} assert {:>8.1?} p50 {:>8.1?} p99   durable append {:>8.1?} p50 {:>8.1?} p99   {rate:>9.0} operations/s   \
             grows by at most {:>4} MiB of anonymous memory, {:>5} MiB of disk",
            self.asserts.at(50),
            self.asserts.at(99),
            self.appends.at(50),
            self.appends.at(99),
            self.memory >> 20,
            self.disk >> 20,
        );
    }
}

fn disk_bytes(path: &Path) -> u64 {
    let files = std::fs::read_dir(path).unwrap();
    // What has a name. Of files that are removed and still mapped `Stats::unlinked_bytes` tells.
    files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum()
}

/// What somebody has who follows: versions by key.
type Folded = BTreeMap<Vec<u8>, u64>;

fn fold(folded: &mut Folded, item: &StateItem<'_, Vessel>, begun: &mut u32) {
    match item {
        StateItem::Marker(Marker::BootstrapBegin { .. }) => {
            *begun += 1;
            folded.clear();
        }
        StateItem::Change(change) if change.kind() == ChangeKind::Deleted => {
            folded.remove(change.key());
        }
        StateItem::Change(change) => {
            folded.insert(change.key().to_vec(), change.version());
        }
        _ => {}
    }
}

/// One that has been told a tenth of the rows.
fn begin(store: &Store, hold: u64) -> (Subscription<Vessel>, Folded, u32) {
    let builder = store.subscription(VESSEL).behind(Behind::Resume).bootstrap_hold(hold);
    let (mut changes, mut folded, mut begun) = (builder.start().unwrap(), Folded::new(), 0);
    for _ in 0..HOT / 10 {
        fold(&mut folded, &changes.try_next().unwrap().unwrap(), &mut begun);
    }
    (changes, folded, begun)
}

/// Goes on where it stood, while nobody writes: then it has what a scan shows. Answers how often it had to begin.
fn go_on(store: &Store, (mut changes, mut folded, mut begun): (Subscription<Vessel>, Folded, u32)) -> u32 {
    while let Some(item) = changes.try_next().unwrap() {
        fold(&mut folded, &item, &mut begun);
    }
    let rows = store.scan(VESSEL).unwrap().map(|row| row.unwrap());
    let expected: Folded = rows.map(|row| (row.key().to_vec(), row.version())).collect();
    assert!(folded == expected, "{} rows are not the {} of a scan", folded.len(), expected.len());
    begun
}

/// Writes as fast as it can: 70 % assert, 20 % assert what is there, 10 % retract.
fn assert_until(stop: &AtomicBool, store: &Store, keys: &[String], seed: u64) -> (Histogram, u64) {
    let source = store.source("producer").unwrap();
    let (mut dice, mut times, mut count) = (Dice(seed), Histogram::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..TIMED {
            let key = &keys[usize::try_from(dice.below(HOT)).unwrap()];
            let (row, what) = (vessel(dice.below(1000)), dice.below(10));
            let begun = Instant::now();
            if what == 0 {
                source.retract(VESSEL, key).unwrap();
            } else {
                source.assert(VESSEL, key, &row).unwrap();
            }
            if count % TIMED == 0 {
                times.count(begun.elapsed());
            }
            count += 1;
        }
    }
    (times, count)
}

/// Appends, each durable before the next.
fn append_until(stop: &AtomicBool, store: &Store) -> Histogram {
    let (mut times, mut n) = (Histogram::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        store.append(FACT, "a", &vessel(n)).unwrap();
        times.count(begun.elapsed());
        n += 1;
    }
    times
}

pub(crate) fn stopped() {
    let (seconds, rounds, hold) = (number("SECONDS", 60), number("ROUNDS", 3), number("HOLD_MB", 256) << 20);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stopped.esker");
    let options = Options::new().auto_compact(AutoCompact::every(Duration::from_millis(200)));
    let store = Store::over(options.open(&path).unwrap());
    let keys: Vec<String> = (0..HOT).map(|n| format!("mmsi:{n:08}")).collect();
    {
        let source = store.source("producer").unwrap();
        keys.iter().for_each(|key| _ = source.assert(VESSEL, key, &vessel(0)).unwrap());
        store.append(FACT, "a", &vessel(0)).unwrap();
        store.keep(FACT, Keep::Latest).unwrap();
        store.flush().unwrap();
    }
    let slice = |slices: &mut Slices, is_with: bool, seed: u64, seconds: u64| {
        let subscriber = is_with.then(|| begin(&store, hold));
        let (memory, disk, begun) = (anonymous_bytes(), disk_bytes(&path), Instant::now());
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let asserting = scope.spawn(|| assert_until(&stop, &store, &keys, seed));
            let appending = scope.spawn(|| append_until(&stop, &store));
            while begun.elapsed() < Duration::from_secs(seconds) {
                std::thread::sleep(Duration::from_millis(100));
                slices.memory = slices.memory.max(anonymous_bytes().saturating_sub(memory));
                slices.disk = slices.disk.max(disk_bytes(&path).saturating_sub(disk));
            }
            slices.seconds += begun.elapsed().as_secs_f64();
            stop.store(true, Ordering::Relaxed);
            let (asserts, count) = asserting.join().unwrap();
            let appends = appending.join().unwrap();
            let who = if is_with { "one stands still" } else { "nobody does" };
            println!("  {who}: assert {:.1?} p99, durable append {:.1?} p99", asserts.at(99), appends.at(99));
            slices.asserts.add(&asserts);
            slices.operations += count;
            slices.appends.add(&appends);
        });
        store.flush().unwrap();
        if let Some(begun) = subscriber.map(|subscriber| go_on(&store, subscriber)) {
            println!("  it went on, and has what a scan shows; it began {begun} times");
        }
    };
    // Until windows, compaction and the allocator are as they will be.
    slice(&mut Slices::new(), false, 5, seconds.min(10));
    let (mut without, mut with) = (Slices::new(), Slices::new());
    for round in 0..rounds {
        slice(&mut without, false, 7 + round, seconds);
        slice(&mut with, true, 7 + round, seconds);
    }
    without.print("nobody stands still");
    with.print("one stands still");
    let change =
        |with: Duration, without: Duration| (with.as_secs_f64() / without.as_secs_f64() - 1.0) * 100.0;
    println!(
        "  p99 with one: assert {:+.1} %, durable append {:+.1} %; it may hold back {} MiB",
        change(with.asserts.at(99), without.asserts.at(99)),
        change(with.appends.at(99), without.appends.at(99)),
        hold >> 20
    );
    store.close().unwrap();
}
