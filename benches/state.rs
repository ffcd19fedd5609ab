//! Live state: operations accepted, rows made durable, reads, bootstraps; each beside a volatile map with a channel,
//! which keeps nothing, or beside the log's own append.
//!
//! ```sh
//! cargo bench --bench state                       # everything
//! cargo bench --bench state -- operations idle    # some of it: operations, idle, or rows, reads, bootstrap, resume, open
//! cargo bench --bench state -- history            # walks over rows that have a long past
//! cargo bench --bench state -- stopped            # a subscriber that stands still, for some minutes
//! ```
//!
//! Figures mean something only against each other, within one run.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark talks to the person who runs it"
)]

#[path = "state/history.rs"]
mod history;
#[path = "state/memory.rs"]
mod memory;
#[path = "state/stopped.rs"]
mod stopped;

use std::collections::HashMap;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use esker::{Behind, Facts, Kind, Patch, StateItem, Store};
use memory::{Counting, anonymous_bytes};
use serde::{Deserialize, Serialize};

#[global_allocator]
static HEAP: Counting = Counting::new();

#[derive(Serialize, Deserialize, Clone, PartialEq, Default)]
#[serde(default)]
struct Vessel {
    name: String,
    knots: f32,
    heading: u16,
    latitude: f64,
    longitude: f64,
    destination: Option<String>,
}

const VESSEL: Kind<Vessel> = Kind::new("vessel");
const FACT: Facts<Vessel> = Facts::new("fact");

const HOT: u64 = 10_000;
const SECONDS: f64 = 3.0;
/// So many entities are written to look at what the heap has of them.
const TOUCHED: u64 = 1_000_000;
/// Tells a process of its own that it is to open the store at this path.
const OPENS: &str = "ESKER_BENCH_OPENS";

fn vessel(n: u64) -> Vessel {
    let n16 = u16::try_from(n % 360).unwrap();
    Vessel {
        name: "Ada Lovelace".into(),
        knots: f32::from(n16),
        heading: n16,
        latitude: f64::from(n16) / 7.0,
        longitude: 9.9,
        destination: Some("Hamburg".into()),
    }
}

fn main() {
    let rows: u64 = std::env::var("ROWS").map_or(1_000_000, |rows| rows.parse().unwrap());
    if let Some(path) = std::env::var_os(OPENS) {
        return opened(path.as_ref(), rows);
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|word| word == name);
    if is_wanted("operations") {
        operations();
    }
    if is_wanted("idle") {
        idle();
    }
    if is_wanted("rows")
        || is_wanted("reads")
        || is_wanted("bootstrap")
        || is_wanted("resume")
        || is_wanted("open")
    {
        cold(rows);
    }
    if is_wanted("history") {
        history::history();
    }
    // For minutes, so only if it is asked for.
    if wanted.iter().any(|word| word == "stopped") {
        stopped::stopped();
    }
}

/// A small random number generator, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn per_second(count: u64, since: Instant) -> f64 {
    f64::from(u32::try_from(count).unwrap()) / since.elapsed().as_secs_f64()
}

/// One producer, 10,000 hot entities, 70 % assert, 20 % patch, 10 % retract, one subscriber, windows of 20 ms.
fn operations() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("state.esker")).unwrap();
    let source = store.source("producer").unwrap();
    let (stop, told) = (AtomicBool::new(false), AtomicU64::new(0));
    let keys: Vec<String> = (0..HOT).map(|n| format!("mmsi:{n:08}")).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // A window of 20 ms has more changes than the 4,096 that may be unread by default: it would be behind with
            // every flush, and told what the window came to instead of each change.
            let subscription = store.subscription(VESSEL).behind(Behind::Resume).capacity(1 << 17);
            let mut changes = subscription.start().unwrap();
            while !stop.load(Ordering::Relaxed) {
                if let Some(StateItem::Change(change)) =
                    changes.next_timeout(Duration::from_millis(50)).unwrap()
                {
                    black_box(change.version());
                    told.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let mut dice = Dice(7);
        let patches: Vec<Patch> = (0..360u16).map(|n| Patch::new().set("heading", &n).unwrap()).collect();
        for key in &keys {
            source.assert(VESSEL, key, &vessel(0)).unwrap();
        }
        store.flush().unwrap();
        let (begun, mut count) = (Instant::now(), 0);
        while begun.elapsed().as_secs_f64() < SECONDS {
            for _ in 0..1000 {
                let key = &keys[usize::try_from(dice.below(HOT)).unwrap()];
                match dice.below(10) {
                    0..7 => source.assert(VESSEL, key, &vessel(dice.below(1000))).unwrap(),
                    7..9 => source
                        .patch(VESSEL, key, &patches[usize::try_from(dice.below(360)).unwrap()])
                        .unwrap(),
                    _ => source.retract(VESSEL, key).unwrap(),
                };
            }
            count += 1000;
        }
        let rate = per_second(count, begun);
        store.flush().unwrap();
        stop.store(true, Ordering::Relaxed);
        let stats = store.state_stats().unwrap();
        println!(
            "operations accepted        {:>12.0} /s   {} rows in {} flushes, {} changes told",
            rate,
            stats.rows,
            stats.flushes,
            told.load(Ordering::Relaxed)
        );
    });
    store.close().unwrap();
    volatile(&keys);
    facts(&keys);
}

/// From an assert while nothing happens until a subscriber that sleeps has the change, in turn with one sync of the disk.
fn idle() {
    const TIMES: u16 = 100;
    // Twice this is longer than a window: a write has nothing to wait for.
    const REST: Duration = Duration::from_millis(15);
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("idle.esker")).unwrap();
    let source = store.source("producer").unwrap();
    let disk = std::fs::File::create_new(directory.path().join("zeros")).unwrap();
    (0..256).for_each(|page| disk.write_all_at(&[0; 4096], page * 4096).unwrap());
    disk.sync_all().unwrap();
    let (telling, told) = mpsc::channel();
    let (mut changes, mut syncs) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        let mut subscription = store.subscription(VESSEL).bootstrap(false).start().unwrap();
        scope.spawn(move || {
            for _ in 0..TIMES {
                let item = subscription.next().unwrap().unwrap();
                assert!(matches!(item, StateItem::Change(_)), "{item:?}");
                telling.send(Instant::now()).unwrap();
            }
        });
        for n in 0..TIMES {
            std::thread::sleep(REST);
            let begun = Instant::now();
            source.assert(VESSEL, "mmsi:00000001", &vessel(n.into())).unwrap();
            changes.push(told.recv().unwrap() - begun);
            std::thread::sleep(REST);
            let begun = Instant::now();
            disk.write_all_at(&[1; 160], u64::from(n) * 160).unwrap();
            disk.sync_data().unwrap();
            syncs.push(begun.elapsed());
        }
    });
    changes.sort();
    syncs.sort();
    println!(
        "change after an idle write {:>9.0?} p50, {:.0?} p99; one fdatasync {:.0?} p50, {:.0?} p99: {:.2} of it",
        changes[50],
        changes[98],
        syncs[50],
        syncs[98],
        changes[50].as_secs_f64() / syncs[50].as_secs_f64()
    );
    store.close().unwrap();
}

/// The upper bound: a map in memory and a channel, nothing kept, nothing coalesced.
fn volatile(keys: &[String]) {
    let map: Mutex<HashMap<String, Vessel>> = Mutex::default();
    let (told, hears) = mpsc::sync_channel::<(String, Vessel)>(4096);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for change in hears {
                black_box(change);
            }
        });
        let mut dice = Dice(7);
        let (begun, mut count) = (Instant::now(), 0);
        while begun.elapsed().as_secs_f64() < SECONDS {
            for _ in 0..1000 {
                let key = &keys[usize::try_from(dice.below(HOT)).unwrap()];
                let row = vessel(dice.below(1000));
                map.lock().unwrap().insert(key.clone(), row.clone());
                told.send((key.clone(), row)).unwrap();
            }
            count += 1000;
        }
        println!("  a map and a channel      {:>12.0} /s   volatile", per_second(count, begun));
        drop(told);
    });
}

/// The same values as facts: each an entry of its own, synced every 20 ms.
fn facts(keys: &[String]) {
    let directory = tempfile::tempdir().unwrap();
    let options = esker::Options::new().durability(esker::Durability::Interval(Duration::from_millis(20)));
    let store = Store::over(options.open(directory.path().join("facts.esker")).unwrap());
    let mut dice = Dice(7);
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed().as_secs_f64() < SECONDS {
        for _ in 0..1000 {
            let key = &keys[usize::try_from(dice.below(HOT)).unwrap()];
            store.append(FACT, key, &vessel(dice.below(1000))).unwrap();
        }
        count += 1000;
    }
    println!("  appended as facts        {:>12.0} /s   synced every 20 ms", per_second(count, begun));
    store.close().unwrap();
}

/// Rows of entities that are all different: written, read, followed, opened.
fn cold(rows: u64) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cold.esker");
    let store = Store::open(&path).unwrap();
    let source = store.source("producer").unwrap();
    let begun = Instant::now();
    for n in 0..rows {
        source.assert(VESSEL, n.to_le_bytes(), &vessel(n)).unwrap();
    }
    store.flush().unwrap();
    println!("distinct rows made durable {:>12.0} /s   {rows} rows", per_second(rows, begun));

    let mut dice = Dice(11);
    let mut times: Vec<Duration> = (0..200_000)
        .map(|_| {
            let key = dice.below(rows).to_le_bytes();
            let begun = Instant::now();
            let row = store.get(VESSEL, key).unwrap().unwrap();
            black_box(row.version());
            begun.elapsed()
        })
        .collect();
    times.sort();
    println!("get, of {rows}          {:>9.0?} p50, {:.0?} p99", times[100_000], times[198_000]);

    let begun = Instant::now();
    let mut count = 0u64;
    for row in store.scan(VESSEL).unwrap() {
        black_box(row.unwrap().version());
        count += 1;
    }
    println!("scan                       {:>12.0} rows/s", per_second(count, begun));
    let begun = Instant::now();
    let mut changes = store.subscribe(VESSEL).unwrap();
    while let Some(item) = changes.try_next().unwrap() {
        black_box(item);
    }
    println!(
        "bootstrap                  {:>12.0} rows/s   {:.2?} in all",
        per_second(rows, begun),
        begun.elapsed()
    );

    let token = changes.token().unwrap().unwrap();
    for n in 0..100_000u64 {
        let _ = store.append_nowait(FACT, n.to_le_bytes(), &vessel(n)).unwrap();
        if n % 100 == 0 {
            source.assert(VESSEL, (n * 7).to_le_bytes(), &vessel(n + 1)).unwrap();
        }
    }
    store.flush().unwrap();
    let begun = Instant::now();
    let mut resumed = store.subscription(VESSEL).resume(token).start().unwrap();
    let mut count = 0;
    while let Some(item) = resumed.try_next().unwrap() {
        black_box(item);
        count += 1;
    }
    println!(
        "resume                     {:>12.2?}   {count} changes among 100,000 foreign frames",
        begun.elapsed()
    );
    drop((changes, resumed, source));
    store.close().unwrap();
    // What was allocated and freed here would be taken again, and would not be seen to be.
    let mut process = std::process::Command::new(std::env::current_exe().unwrap());
    let status = process.env(OPENS, &path).env("ROWS", rows.to_string()).status().unwrap();
    assert!(status.success(), "{status}");
}

/// A process that does nothing else opens the store, reads a row, and writes to a million of its entities.
fn opened(path: &Path, rows: u64) {
    HEAP.begin();
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let (before, begun) = (anonymous_bytes(), Instant::now());
    let store = Store::open(path).unwrap();
    let row = store.get(VESSEL, 0u64.to_le_bytes()).unwrap();
    let took = begun.elapsed();
    let memory = anonymous_bytes().saturating_sub(before);
    println!(
        "open, and a first get      {took:>12.2?}   {:.1} MiB of anonymous memory, of {rows} entities",
        mebibytes(memory)
    );
    drop(row);

    let touched = rows.min(TOUCHED);
    let source = store.source("producer").unwrap();
    let (heap, before) = (HEAP.bytes(), anonymous_bytes());
    for n in 0..touched {
        source.assert(VESSEL, n.to_le_bytes(), &vessel(n + 2)).unwrap();
    }
    store.flush().unwrap();
    let each = |bytes: f64| bytes / touched as f64;
    println!(
        "  behind {touched} writes   {:>9.1} B of heap an entity touched, {:.1} B of anonymous memory; {} entities on the heap",
        each((HEAP.bytes() - heap) as f64),
        each(anonymous_bytes().saturating_sub(before) as f64),
        store.journal().stats().entities_on_heap
    );
    drop(source);
    store.close().unwrap();
}
