//! Works that append: alone and together, durable and not, one by one and in batches.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::{Measure, Task, fill, measure};
use crate::clock::{Clock, Latencies};
use crate::engine::{Durability, Engine, Outcome, Setup};
use crate::group_commit::GroupCommit;
use crate::workload::{BATCH_EVENTS, Workload};

/// For what engines do behind batches.
pub const REST: Duration = Duration::from_millis(500);

/// Enough to grow the first buffers and to warm the caches, too little to matter.
pub fn warm_up_events(events: u64) -> u64 {
    (events / 20).clamp(1, 50_000)
}

pub fn one_thread<E: Engine>(task: &Task) -> Outcome<Vec<Measure>> {
    let workload = task.workload();
    let mut engine = E::open(&Setup { pipelined: true, ..task.setup(Durability::None) })?;
    let warm = warm_up_events(task.events);
    for event in workload.events(0, warm) {
        engine.append(&event)?;
    }
    engine.settle()?;
    let start = Instant::now();
    for event in workload.events(warm, warm + task.events) {
        engine.append(&event)?;
    }
    engine.settle()?;
    let each = start.elapsed().as_nanos() as f64 / task.events as f64;
    engine.close()?;
    Ok(vec![measure("mean", each, "ns")])
}

pub fn latency<E: Engine>(task: &Task) -> Outcome<Vec<Measure>> {
    let (clock, workload) = (Clock::calibrated(), task.workload());
    let mut engine = E::open(&task.setup(Durability::None))?;
    let warm = warm_up_events(task.events);
    for event in workload.events(0, warm) {
        engine.append(&event)?;
    }
    let latencies = timed(&mut engine, &workload, &clock, warm, task.events)?;
    engine.close()?;
    let sorted = latencies.sorted(&clock);
    Ok(vec![
        measure("p50", sorted.at(0.5), "ns"),
        measure("p99", sorted.at(0.99), "ns"),
        measure("p99.9", sorted.at(0.999), "ns"),
        measure("max", sorted.greatest(), "ns"),
    ])
}

fn timed<E: Engine>(
    engine: &mut E,
    workload: &Workload,
    clock: &Clock,
    from: u64,
    count: u64,
) -> Outcome<Latencies> {
    let mut latencies = Latencies::with_room_for(count);
    for event in workload.events(from, from + count) {
        let start = clock.ticks();
        engine.append(&event)?;
        latencies.record(clock.ticks() - start);
    }
    Ok(latencies)
}

pub fn four_threads<E: Engine>(task: &Task) -> Outcome<Vec<Measure>> {
    let workload = task.workload();
    let mut engine = E::open(&task.setup(Durability::None))?;
    let warm = warm_up_events(task.events);
    for event in workload.events(0, warm) {
        engine.append(&event)?;
    }
    engine.settle()?;
    let rate = together(4, task.events / 4, |thread, place| {
        let event = workload.event(warm + place * 4 + thread);
        engine.append_shared(&event)
    })?;
    engine.close()?;
    Ok(vec![measure("rate", rate, "events/s")])
}

pub fn to_entities_that_exist<E: Engine>(task: &Task) -> Outcome<Vec<Measure>> {
    let workload = task.workload();
    let mut engine = E::open(&Setup { pipelined: true, ..task.setup(Durability::None) })?;
    let first = u64::from(workload.entities());
    fill(&mut engine, &workload, 0, first)?;
    // Batches outrun what engines do behind them; what is asked here is the look-up among many entities.
    std::thread::sleep(REST);
    let start = Instant::now();
    for event in workload.events(first, first + task.events) {
        engine.append(&event)?;
    }
    engine.settle()?;
    let each = start.elapsed().as_nanos() as f64 / task.events as f64;
    engine.close()?;
    Ok(vec![measure("mean", each, "ns")])
}

/// A sync takes a hundred times what an append does: so many fewer of them are timed.
pub fn durable_events(events: u64) -> u64 {
    (events / 200).clamp(500, 5_000)
}

pub fn durable<E: Engine>(task: &Task) -> Outcome<Vec<Measure>> {
    let (clock, workload) = (Clock::calibrated(), task.workload());
    let mut engine = E::open(&task.setup(Durability::Each))?;
    let count = durable_events(task.events);
    for event in workload.events(0, count / 10) {
        engine.append(&event)?;
    }
    let sorted = timed(&mut engine, &workload, &clock, count / 10, count)?.sorted(&clock);
    engine.close()?;
    Ok(vec![measure("p50", sorted.at(0.5) / 1e3, "us"), measure("p99", sorted.at(0.99) / 1e3, "us")])
}

pub const DURABLE_THREADS: u64 = 8;

pub fn durable_eight_threads<E: Engine>(task: &Task) -> Outcome<Vec<Measure>> {
    let workload = task.workload();
    let engine = E::open(&task.setup(Durability::Each))?;
    let each = durable_events(task.events) / 2;
    let append = |thread, place| engine.append_shared(&workload.event(place * DURABLE_THREADS + thread));
    together(DURABLE_THREADS, each / 10, append)?;
    let rate = together(DURABLE_THREADS, each, append)?;
    engine.close()?;
    Ok(vec![measure("rate", rate, "events/s")])
}

/// The same for an engine that does not group commits itself, behind a hand-made leader that does.
pub fn durable_eight_threads_grouped<E: Engine>(task: &Task) -> Outcome<Vec<Measure>> {
    let workload = task.workload();
    let group = GroupCommit::around(E::open(&task.setup(Durability::Each))?);
    let each = durable_events(task.events) / 2;
    let append = |thread, place| group.append(&workload.event(place * DURABLE_THREADS + thread));
    together(DURABLE_THREADS, each / 10, append)?;
    let rate = together(DURABLE_THREADS, each, append)?;
    group.into_inner().close()?;
    Ok(vec![measure("rate", rate, "events/s")])
}

pub fn batches<E: Engine>(task: &Task, durability: Durability) -> Outcome<Vec<Measure>> {
    let workload = task.workload();
    let mut engine = E::open(&task.setup(durability))?;
    let batches = match durability {
        Durability::Each => (task.events / BATCH_EVENTS as u64).clamp(1, 300),
        Durability::None => (task.events / BATCH_EVENTS as u64).max(1),
    };
    let warm = (batches / 20).max(1);
    fill(&mut engine, &workload, 0, warm * BATCH_EVENTS as u64)?;
    let start = Instant::now();
    let (from, to) = (warm * BATCH_EVENTS as u64, (warm + batches) * BATCH_EVENTS as u64);
    fill(&mut engine, &workload, from, to)?;
    let rate = (to - from) as f64 / start.elapsed().as_secs_f64();
    engine.close()?;
    Ok(vec![measure("rate", rate, "events/s")])
}

/// Calls per second of `threads` threads that make `each` calls after a common start.
pub fn together(threads: u64, each: u64, call: impl Fn(u64, u64) -> Outcome + Sync) -> Outcome<f64> {
    let barrier = Barrier::new(threads as usize + 1);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let (barrier, call) = (&barrier, &call);
                scope.spawn(move || {
                    barrier.wait();
                    (0..each).try_for_each(|place| call(thread, place))
                })
            })
            .collect();
        barrier.wait();
        let start = Instant::now();
        for thread in running {
            thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok((threads * each) as f64 / start.elapsed().as_secs_f64())
    })
}
