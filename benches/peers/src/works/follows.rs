//! Works of readers that stores know: by name, with a place that survives; or by entity, asleep.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::appends::{DURABLE_THREADS, REST, durable_events, together, warm_up_events};
use super::{Measure, Task, fill_by, measure};
use crate::clock::median;
use crate::engine::{Durability, Engine, Outcome, Setup};
use crate::feed::Followed;
use crate::workload::{Digest, Workload, key_of};

const DRAINED_AT_ONCE: usize = 64;

/// How often each way of reading takes its turn, so that a slow moment does not fall on one alone.
const TURNS: u32 = 3;

pub fn drain<E: Followed>(task: &Task) -> Outcome<Vec<Measure>> {
    let workload = task.workload();
    let mut engine = E::open(&task.setup(Durability::None))?;
    fill_by(&mut engine, &workload, 0, task.events, E::filled_by(task.work))?;
    engine.sync()?;
    engine.start_reading()?;
    std::thread::sleep(REST);
    let mut expected = Digest::default();
    workload.events(0, task.events).for_each(|event| expected.see(event.payload));

    engine.scan(|_| {})?;
    let (mut scanned, mut drained, mut one_by_one) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..TURNS {
        scanned.push(rate_of(expected, |digest| engine.scan(|payload| digest.see(payload)))?);
        let drain = |name: &str, batch| {
            let name = format!("{name} {turn}");
            rate_of(expected, |digest| engine.drain(&name, batch, |payload| digest.see(payload)))
        };
        drained.push(drain("in batches", Some(DRAINED_AT_ONCE))?);
        if E::DRAINS_ONE_BY_ONE {
            one_by_one.push(drain("one by one", None)?);
        }
    }
    engine.close()?;
    let (scanned, drained) = (median(&scanned), median(&drained));
    let mut measures = vec![
        measure("rate", drained, "events/s"),
        measure("raw scan", scanned, "events/s"),
        measure("time over the scan's", scanned / drained, "x"),
        measure("1 M entries would take", 1e6 / drained, "s"),
    ];
    if E::DRAINS_ONE_BY_ONE {
        measures.push(measure("one by one", median(&one_by_one), "events/s"));
    }
    Ok(measures)
}

fn rate_of(expected: Digest, read: impl FnOnce(&mut Digest) -> Outcome) -> Outcome<f64> {
    let mut seen = Digest::default();
    let start = Instant::now();
    read(&mut seen)?;
    let rate = seen.count as f64 / start.elapsed().as_secs_f64();
    if seen != expected {
        return Err("what was read is not what was appended".into());
    }
    Ok(rate)
}

/// The fewer are on the way to the many: what they cost may grow with either.
const FEWER_SLEEPERS: u32 = 100;
const SLEEPERS: u32 = 10_000;

/// A thread that only sleeps needs little.
const STACK_BYTES: usize = 64 << 10;

/// Entities of this number on are never appended to.
const FIRST_IDLE_ENTITY: u32 = 1_000_000;

/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(2);

/// How long appends are timed at most, where sleepers make them slow.
const APPENDING: Duration = Duration::from_secs(5);

pub fn idle<E: Followed>(task: &Task) -> Outcome<Vec<Measure>> {
    let workload = task.workload();
    let mut engine = E::open(&task.setup(Durability::None))?;
    let warm = warm_up_events(task.events);
    append_for(&mut engine, &workload, 0, warm)?;
    let (alone, end) = append_for(&mut engine, &workload, warm, warm + task.events)?;
    let used_alone = processor_when_idle();
    let mut sleepers = lie_down(&engine, 0..FEWER_SLEEPERS)?;
    wait_until_asleep();
    let (beside_fewer, end) = append_for(&mut engine, &workload, end, end + task.events)?;
    sleepers.append(&mut lie_down(&engine, FEWER_SLEEPERS..SLEEPERS)?);
    let used = processor_when_idle();
    let (beside, _) = append_for(&mut engine, &workload, end, end + task.events)?;
    let count = sleepers.len() as f64;
    engine.close()?;
    for sleeper in sleepers {
        sleeper.join().map_err(|_| "a sleeper panicked")??;
    }
    Ok(vec![
        measure("append beside all", beside, "ns"),
        measure("beside 100", beside_fewer, "ns"),
        measure("before", alone, "ns"),
        measure("beside all over before", beside / alone, "x"),
        measure("asleep", count, "readers"),
        measure("processor while nothing happens", used, "ms/s"),
        measure("processor before", used_alone, "ms/s"),
    ])
}

/// Appends events `from..to`, or for a while: nanoseconds each, and where it ended.
fn append_for<E: Engine>(engine: &mut E, workload: &Workload, from: u64, to: u64) -> Outcome<(f64, u64)> {
    let start = Instant::now();
    let mut end = from;
    for event in workload.events(from, to) {
        engine.append(&event)?;
        end += 1;
        if end.is_multiple_of(64) && start.elapsed() > APPENDING {
            break;
        }
    }
    engine.settle()?;
    Ok((start.elapsed().as_nanos() as f64 / (end - from) as f64, end))
}

/// As many sleepers as the machine lets be.
fn lie_down<E: Followed>(engine: &E, numbers: Range<u32>) -> Outcome<Vec<JoinHandle<Outcome>>> {
    let mut sleepers = Vec::new();
    for number in numbers {
        let sleeper = engine.sleeper(&key_of(FIRST_IDLE_ENTITY + number))?;
        match Builder::new().stack_size(STACK_BYTES).spawn(move || E::sleep(sleeper)) {
            Ok(thread) => sleepers.push(thread),
            Err(error) => {
                eprintln!("  no more than {} threads: {error}", sleepers.len());
                break;
            }
        }
    }
    Ok(sleepers)
}

/// Milliseconds of the processor's time a second while nothing happens.
fn processor_when_idle() -> f64 {
    wait_until_asleep();
    let before = processor_seconds();
    std::thread::sleep(IDLE);
    (processor_seconds() - before) / IDLE.as_secs_f64() * 1e3
}

/// Until the process has used next to nothing for two seconds: a store may tidy up a second behind the
/// last append. For ten seconds at most.
fn wait_until_asleep() {
    let mut quiet = 0;
    for _ in 0..20 {
        let before = processor_seconds();
        std::thread::sleep(Duration::from_millis(500));
        quiet = if processor_seconds() - before < 0.001 { quiet + 1 } else { 0 };
        if quiet == 4 {
            return;
        }
    }
}

fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// What eight threads that append durably come to.
struct Durably {
    rate: f64,
    syncs_each: Option<f64>,
    checkpoints: f64,
}

pub fn checkpoint<E: Followed>(task: &Task) -> Outcome<Vec<Measure>> {
    let without = append_durably::<E>(task, &task.dir.join("without"), false)?;
    let with = append_durably::<E>(task, &task.dir.join("with"), true)?;
    let mut measures = vec![
        measure("rate", with.rate, "events/s"),
        measure("without", without.rate, "events/s"),
        measure("checkpoints", with.checkpoints, "1/s"),
    ];
    if let (Some(with), Some(without)) = (with.syncs_each, without.syncs_each) {
        measures.push(measure("syncs an event", with, "syncs"));
        measures.push(measure("syncs an event without", without, "syncs"));
    }
    Ok(measures)
}

fn append_durably<E: Followed>(task: &Task, dir: &Path, followed: bool) -> Outcome<Durably> {
    std::fs::create_dir_all(dir)?;
    let workload = task.workload();
    let engine = E::open(&Setup { dir: dir.to_path_buf(), ..task.setup(Durability::Each) })?;
    let append = |thread, place| engine.append_shared(&workload.event(place * DURABLE_THREADS + thread));
    let each = durable_events(task.events) / 2;
    together(DURABLE_THREADS, each / 10, append)?;
    let stop = AtomicBool::new(false);
    let before = engine.syncs();
    let start = Instant::now();
    let (rate, checkpoints) = std::thread::scope(|scope| -> Outcome<(f64, u64)> {
        let following = followed.then(|| scope.spawn(|| engine.checkpoint_each(&stop)));
        let rate = together(DURABLE_THREADS, each, append);
        stop.store(true, Ordering::Relaxed);
        let followed = following.map_or(Ok(Ok(0)), |thread| thread.join());
        Ok((rate?, followed.map_err(|_| "the watcher panicked")??))
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let appended = (each * DURABLE_THREADS) as f64;
    let syncs_each = engine.syncs().zip(before).map(|(after, before)| (after - before) as f64 / appended);
    engine.close()?;
    Ok(Durably { rate, syncs_each, checkpoints: checkpoints as f64 / seconds })
}
