//! Works that shrink: how fast garbage goes, what it costs whoever appends and reads meanwhile, and what
//! the store opens like afterwards.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::opens::timed_open;
use super::sizes::allocated_bytes;
use super::{Measure, Task, fill, measure};
use crate::clock::{Clock, Latencies};
use crate::engine::{Durability, Engine, Outcome};
use crate::shrink::Shrinks;
use crate::workload::{Random, Workload, first_word};

/// How long is timed without compaction.
const ALONE: Duration = Duration::from_secs(1);
/// No more operations are timed than these, in each part.
const MOST: u64 = 20_000_000;

pub fn shrink<E: Shrinks>(task: &Task) -> Outcome<Vec<Measure>> {
    let workload = task.workload();
    let newest = u64::from(workload.entities());
    let mut engine = filled::<E>(task, &workload)?;
    engine.close()?;
    let opened_before = time_to_open::<E>(task, &workload)?;
    let before = allocated_bytes(&task.dir)?;
    engine = E::open(&task.setup(Durability::None))?;
    let start = Instant::now();
    engine.shrink(task.events, newest)?;
    let seconds = start.elapsed().as_secs_f64();
    engine.close()?;
    let after = allocated_bytes(&task.dir)?;
    let opened_after = time_to_open::<E>(task, &workload)?;
    let removed = before.saturating_sub(after) as f64;
    Ok(vec![
        measure("rate", removed / 1e6 / seconds, "MB/s"),
        measure("removed", removed / before as f64 * 100.0, "%"),
        measure("took", seconds * 1e3, "ms"),
        measure("open before", opened_before, "ms"),
        measure("open after", opened_after, "ms"),
    ])
}

/// What the newest event of every entity costs to keep is nothing beside the rest.
fn filled<E: Shrinks>(task: &Task, workload: &Workload) -> Outcome<E> {
    let mut engine = E::open(&task.setup(Durability::None))?;
    fill(&mut engine, workload, 0, task.events)?;
    engine.sync()?;
    Ok(engine)
}

/// Milliseconds to open the store and to read its last event.
fn time_to_open<E: Engine>(task: &Task, workload: &Workload) -> Outcome<f64> {
    let (engine, passed) = timed_open::<E>(task, workload, task.events - 1)?;
    engine.close()?;
    Ok(passed)
}

pub fn append_beside<E: Shrinks>(task: &Task) -> Outcome<Vec<Measure>> {
    let workload = task.workload();
    beside::<E>(task, &workload, |engine, n| engine.append_shared(&workload.event(task.events + n)))
}

pub fn read_beside<E: Shrinks>(task: &Task) -> Outcome<Vec<Measure>> {
    let workload = task.workload();
    let newest = u64::from(workload.entities());
    let places: Vec<u64> = {
        let mut random = Random::new(7);
        (0..4096).map(|_| task.events - newest + random.below(newest)).collect()
    };
    beside::<E>(task, &workload, |engine, n| {
        let place = places[n as usize % places.len()];
        let mut word = 0;
        engine.get_shared(place, |payload| word = first_word(payload))?;
        assert_eq!(word, first_word(workload.payload(place)), "another event was read");
        Ok(())
    })
}

/// Times an operation for a second, and then for as long as the store takes to shrink.
fn beside<E: Shrinks>(
    task: &Task,
    workload: &Workload,
    operate: impl Fn(&E, u64) -> Outcome + Sync,
) -> Outcome<Vec<Measure>> {
    let clock = Clock::calibrated();
    let newest = u64::from(workload.entities());
    let mut engine = filled::<E>(task, workload)?;
    let start = Instant::now();
    let (alone, next) = timed(&clock, 0, |n| operate(&engine, n), || start.elapsed() < ALONE)?;
    // What was appended meanwhile is not written at the expense of the compaction.
    engine.sync()?;
    let (engine, done) = (engine, AtomicBool::new(false));
    let (during, seconds) = std::thread::scope(|scope| -> Outcome<(Latencies, f64)> {
        let shrinking = scope.spawn(|| {
            let start = Instant::now();
            let shrunk = engine.shrink_beside(task.events, newest);
            done.store(true, Ordering::Relaxed);
            shrunk.map(|()| start.elapsed().as_secs_f64())
        });
        let timed = timed(&clock, next, |n| operate(&engine, n), || !done.load(Ordering::Relaxed));
        let seconds = shrinking.join().map_err(|_| "the compaction panicked")??;
        Ok((timed?.0, seconds))
    })?;
    engine.close()?;
    if during.is_empty() || alone.is_empty() {
        return Err("the compaction was over before the first operation: take more events".into());
    }
    let (alone, during) = (alone.sorted(&clock), during.sorted(&clock));
    Ok(vec![
        measure("p99", during.at(0.99), "ns"),
        measure("p99 alone", alone.at(0.99), "ns"),
        measure("p99 over alone", during.at(0.99) / alone.at(0.99), "x"),
        measure("p99.9", during.at(0.999), "ns"),
        measure("p99.9 alone", alone.at(0.999), "ns"),
        measure("max", during.greatest() / 1e6, "ms"),
        measure("max alone", alone.greatest() / 1e6, "ms"),
        measure("for", seconds * 1e3, "ms"),
    ])
}

fn timed(
    clock: &Clock,
    from: u64,
    operate: impl Fn(u64) -> Outcome,
    goes_on: impl Fn() -> bool,
) -> Outcome<(Latencies, u64)> {
    let mut latencies = Latencies::with_room_for(MOST);
    let mut next = from;
    while next < from + MOST && goes_on() {
        let start = clock.ticks();
        operate(next)?;
        latencies.record(clock.ticks() - start);
        next += 1;
    }
    Ok((latencies, next))
}
