//! Folds over topics and cells, each beside what bounds it in the same run: a plain loop over the same bytes, a thread that
//! is woken, one sync of the disk.
//!
//! ```sh
//! cargo bench --bench folds                       # everything
//! cargo bench --bench folds -- cold cells         # some of it: cold, hot, latency, consumer, cells
//! EVENTS=10000000 cargo bench --bench folds -- cold
//! ```
//!
//! Figures mean something only against each other, within one run.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark talks to the person who runs it"
)]

use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use esker::backplane::Offset;
use esker::{
    At, ConsumerOptions, Delivery, Durability, Facts, Fold, FoldOptions, Options, Record, Store, Topic,
};

const NUMBERS: Topic<u64> = Topic::new("number");
/// The same records, as facts.
const FACTS: Facts<u64> = Facts::new("number");
const KEY: &str = "meter:00000001";
const PATIENCE: Duration = Duration::from_secs(60);
const RUNS: usize = 3;

/// Counts and adds up.
struct Counter;
impl Fold for Counter {
    type State = (u64, u64);
    type Event = u64;
    const NAME: &'static str = "counter";
    const VERSION: u32 = 1;
    fn fold((count, sum): &mut (u64, u64), number: u64, _: &At) {
        *count += 1;
        *sum = sum.wrapping_add(number);
    }
}

fn main() {
    let events: u64 = std::env::var("EVENTS").map_or(1_000_000, |events| events.parse().unwrap());
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|word| word == name);
    if is_wanted("cold") {
        cold(events);
    }
    if is_wanted("hot") {
        hot();
    }
    if is_wanted("latency") {
        latency();
    }
    if is_wanted("consumer") {
        consumer();
    }
    if is_wanted("cells") {
        cells();
    }
}

fn open(path: &Path, durability: Durability) -> Store {
    Store::over(Options::new().durability(durability).open(path).unwrap())
}

fn per_second(count: u64, took: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap()) / took.as_secs_f64()
}

/// The quickest of some runs: what others do meanwhile only makes it slower.
fn best(mut run: impl FnMut() -> Duration) -> Duration {
    (0..RUNS).map(|_| run()).min().unwrap()
}

fn percentiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// A counter over one topic, from its first event on, of a store that was just opened.
fn cold(events: u64) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cold.esker");
    let store = open(&path, Durability::Os);
    let topic = store.topic(NUMBERS, KEY).unwrap();
    let begun = Instant::now();
    for number in 0..events {
        topic.append(&number).unwrap();
    }
    println!("topic append, not synced   {:>12.0} /s", per_second(events, begun.elapsed()));
    store.close().unwrap();

    let sum = (0..events).fold(0_u64, u64::wrapping_add);
    let store = open(&path, Durability::Os);
    let topic = store.topic(NUMBERS, KEY).unwrap();
    let fold = |options: FoldOptions| {
        let begun = Instant::now();
        let fold = topic.fold_with::<Counter>(options).unwrap();
        assert_eq!(fold.read().unwrap().value, (events, sum));
        (begun.elapsed(), fold.stats())
    };
    let took = best(|| fold(FoldOptions::new().images_every(0)).0);
    println!("cold fold, no images       {:>12.0} /s", per_second(events, took));
    // Once: the next one would begin with the last image.
    let (took, stats) = fold(FoldOptions::new());
    println!(
        "cold fold                  {:>12.0} /s   and {} images saved",
        per_second(events, took),
        stats.images_written
    );
    let (took, stats) = fold(FoldOptions::new());
    println!("  from an image            {took:>12.2?}      {} records behind it", stats.folded);

    let took = best(|| {
        let (begun, view) = (Instant::now(), store.view());
        let total = view.history(FACTS, KEY).map(|fact| fact.unwrap().value().unwrap());
        assert_eq!(total.fold(0, u64::wrapping_add), sum);
        begun.elapsed()
    });
    println!("  a loop over mapped facts {:>12.0} /s", per_second(events, took));
    let payloads: Vec<Vec<u8>> =
        store.view().history(FACTS, KEY).map(|fact| fact.unwrap().entry().payload().to_vec()).collect();
    let took = best(|| {
        let begun = Instant::now();
        let total = payloads.iter().map(|bytes| rmp_serde::from_slice::<u64>(bytes).unwrap());
        assert_eq!(total.fold(0, u64::wrapping_add), sum);
        begun.elapsed()
    });
    println!("  a loop over the heap     {:>12.0} /s", per_second(events, took));
    store.close().unwrap();
}

/// Reads of a fold that somebody has, with nothing new in its topic.
fn hot() {
    const READS: u64 = 1_000_000;
    let store = Store::in_memory().unwrap();
    let topic = store.topic(NUMBERS, KEY).unwrap();
    (0..1_000).for_each(|number| _ = topic.append(&number).unwrap());
    let fold = topic.fold::<Counter>().unwrap();
    fold.read_after(topic.head().unwrap(), PATIENCE).unwrap();
    let took = best(|| {
        let begun = Instant::now();
        (0..READS).for_each(|_| _ = black_box(fold.read().unwrap()));
        begun.elapsed()
    });
    println!("read of a hot topic        {:>12.0} /s", per_second(READS, took));
    let took = best(|| {
        let begun = Instant::now();
        (0..READS).for_each(|_| _ = black_box(fold.read_with(|value, _, _| value.0).unwrap()));
        begun.elapsed()
    });
    println!("  with its value borrowed  {:>12.0} /s", per_second(READS, took));
    let value = parking_lot::Mutex::new((1_000_u64, 0_u64));
    let took = best(|| {
        let begun = Instant::now();
        (0..READS).for_each(|_| _ = black_box(*value.lock()));
        begun.elapsed()
    });
    println!("  a value behind a mutex   {:>12.0} /s", per_second(READS, took));
    store.close().unwrap();
}

/// From an append until a fold that was asleep has it, beside a thread that is woken and answers.
fn latency() {
    const TIMES: u64 = 5_000;
    let directory = tempfile::tempdir().unwrap();
    for durability in [Durability::Os, Durability::Sync] {
        let store = open(&directory.path().join(format!("{durability:?}.esker")), durability);
        let topic = store.topic(NUMBERS, KEY).unwrap();
        let fold = topic.fold_with::<Counter>(FoldOptions::new().images_every(0)).unwrap();
        fold.read().unwrap();
        let (mut all, mut behind) = (Vec::new(), Vec::new());
        for number in 0..TIMES {
            let begun = Instant::now();
            let offset = topic.append(&number).unwrap();
            let appended = Instant::now();
            black_box(fold.read_after(offset, PATIENCE).unwrap());
            all.push(begun.elapsed());
            behind.push(appended.elapsed());
        }
        let ((all, all_99), (behind, behind_99)) = (percentiles(all), percentiles(behind));
        println!(
            "append to fold, {:<8}   {all:>9.1?} p50, {all_99:.1?} p99; of it behind the append {behind:.1?} and {behind_99:.1?}",
            format!("{durability:?}")
        );
        drop(fold);
        store.close().unwrap();
    }
    let ((hop, hop_99), (sync, sync_99)) = (hops(TIMES), syncs(directory.path(), 1_000));
    println!("  a thread that answers    {hop:>9.1?} p50, {hop_99:.1?} p99");
    println!("  one fdatasync            {sync:>9.1?} p50, {sync_99:.1?} p99");
}

/// To a thread that sleeps, and back.
fn hops(times: u64) -> (Duration, Duration) {
    let ((ask, asked), (answer, answered)) = (mpsc::channel::<u64>(), mpsc::channel::<u64>());
    std::thread::scope(|scope| {
        scope.spawn(move || asked.into_iter().for_each(|number| answer.send(number).unwrap()));
        let took = (0..times).map(|number| {
            let begun = Instant::now();
            ask.send(number).unwrap();
            black_box(answered.recv().unwrap());
            begun.elapsed()
        });
        let took = percentiles(took.collect());
        drop(ask);
        took
    })
}

fn syncs(directory: &Path, times: u64) -> (Duration, Duration) {
    let disk = std::fs::File::create_new(directory.join("zeros")).unwrap();
    (0..256).for_each(|page| disk.write_all_at(&[0; 4096], page * 4096).unwrap());
    disk.sync_all().unwrap();
    let took = (0..times).map(|n| {
        let begun = Instant::now();
        disk.write_all_at(&[1; 160], n * 160).unwrap();
        disk.sync_data().unwrap();
        begun.elapsed()
    });
    percentiles(took.collect())
}

/// A consumer that does nothing with each event, by how often it writes down how far it has come; beside a reader of the topic that
/// writes nothing down, and what one swap of a cell takes.
fn consumer() {
    let directory = tempfile::tempdir().unwrap();
    for (durability, events) in [(Durability::Os, 200_000_u64), (Durability::Sync, 2_000)] {
        let store = open(&directory.path().join(format!("{durability:?}.esker")), durability);
        let topic = store.topic(NUMBERS, KEY).unwrap();
        (0..events - 1).for_each(|number| _ = topic.append_nowait(&number).unwrap());
        topic.append(&(events - 1)).unwrap();
        for every in [1, 1_000] {
            let (tell, told) = mpsc::channel();
            let options = ConsumerOptions::new().commit_every(every);
            let begun = Instant::now();
            let consumer = topic
                .on_event(&format!("every {every}"), options, move |delivery: &Delivery<'_, u64>| {
                    if delivery.event + 1 == events {
                        tell.send(()).unwrap();
                    }
                    Ok(())
                })
                .unwrap();
            told.recv_timeout(PATIENCE).unwrap();
            println!(
                "consumer, {:<5} checkpoint every {every:<4} {:>9.0} /s",
                format!("{durability:?}"),
                per_second(events, begun.elapsed())
            );
            consumer.close().unwrap();
        }
        let took = best(|| {
            let (begun, mut read) = (Instant::now(), topic.read(Offset::BEGINNING).unwrap());
            (0..events).for_each(|number| assert_eq!(read.next().unwrap().value().unwrap(), number));
            begun.elapsed()
        });
        println!("  a reader of the topic    {:>12.0} /s", per_second(events, took));
        let (cell, times) = (store.cells().cell::<u64>("plain").unwrap(), events.min(20_000));
        let begun = Instant::now();
        (0..times).for_each(|number| _ = cell.update(|_| Ok(Some(number))).unwrap());
        println!("  updates of a cell        {:>12.0} /s", per_second(times, begun.elapsed()));
        store.close().unwrap();
    }
}

/// Eight threads that each add one to a cell, all to the same or each to its own.
fn cells() {
    const WRITERS: u64 = 8;
    let directory = tempfile::tempdir().unwrap();
    for (durability, times) in [(Durability::Os, 20_000), (Durability::Sync, 400)] {
        let store = open(&directory.path().join(format!("{durability:?}.esker")), durability);
        for (what, is_shared) in [("one cell", true), ("a cell each", false)] {
            let begun = Instant::now();
            std::thread::scope(|scope| {
                for writer in 0..WRITERS {
                    let name = if is_shared { "shared".to_owned() } else { format!("of {writer}") };
                    let cell = store.cells().cell::<u64>(name).unwrap();
                    scope.spawn(move || {
                        for _ in 0..times {
                            cell.update(|count| Ok(Some(count.unwrap_or(0) + 1))).unwrap();
                        }
                    });
                }
            });
            println!(
                "updates by 8, {what:<11}  {:>12.0} /s   {durability:?}",
                per_second(times * WRITERS, begun.elapsed())
            );
        }
        let shared = store.cells().cell::<u64>("shared").unwrap().load().unwrap();
        assert_eq!(shared.value, Some(times * WRITERS), "an update was lost");
        let begun = Instant::now();
        let (journal, kind) = (store.journal(), store.journal().kind("plain").unwrap());
        std::thread::scope(|scope| {
            for _ in 0..WRITERS {
                scope.spawn(move || {
                    for number in 0..times {
                        let payload = number.to_le_bytes();
                        black_box(journal.append(Record::new(kind, b"plain", &payload)).unwrap());
                    }
                });
            }
        });
        println!("  appends by 8, unguarded  {:>12.0} /s", per_second(times * WRITERS, begun.elapsed()));
        store.close().unwrap();
    }
    let (sync, _) = syncs(directory.path(), 500);
    println!("  one fdatasync after another {:>9.0} /s", 1.0 / sync.as_secs_f64());
}
