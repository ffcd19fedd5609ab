//! Works of live state: upserts of rows beside a consumer of their changes, and reads of rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Measure, Task, measure};
use crate::clock::{Clock, Latencies};
use crate::engine::Outcome;
use crate::state::{Consumer, LiveState};
use crate::workload::{Random, Workload, entity_of_key, first_word, key_of};

/// No more reads are timed than these.
const READS_MAX: u64 = 200_000;
/// A consumer that was told nothing for so long looks whether there is to be more.
const PATIENCE: Duration = Duration::from_millis(5);

/// What a consumer was told.
struct Told {
    changes: u64,
    /// The first word of the newest row of each entity.
    newest: Vec<u64>,
    /// When it was told the last.
    at: Instant,
}

/// What upserting came to, in seconds since it began.
struct Upserted {
    accepted: f64,
    durable: f64,
    told: f64,
    changes: u64,
}

/// Upserts of few keys again and again: what is accepted counts.
pub fn hot<S: LiveState>(task: &Task) -> Outcome<Vec<Measure>> {
    let done = upsert::<S>(task)?;
    let events = task.events as f64;
    Ok(vec![
        measure("accepted", events / done.accepted, "upserts/s"),
        measure("all durable", events / done.durable, "upserts/s"),
        measure("all told", events / done.told, "upserts/s"),
        measure("told", done.changes as f64, "changes"),
    ])
}

/// Upserts of keys that are all different: what becomes durable counts.
pub fn distinct<S: LiveState>(task: &Task) -> Outcome<Vec<Measure>> {
    let done = upsert::<S>(task)?;
    let events = task.events as f64;
    Ok(vec![
        measure("durable", events / done.durable, "rows/s"),
        measure("accepted", events / done.accepted, "rows/s"),
        measure("told", events / done.told, "rows/s"),
    ])
}

fn upsert<S: LiveState>(task: &Task) -> Outcome<Upserted> {
    let workload = task.workload();
    let (mut state, consumer) = S::open(&task.dir)?;
    let done = Arc::new(AtomicBool::new(false));
    let entities = workload.entities() as usize;
    let consuming = std::thread::spawn({
        let done = Arc::clone(&done);
        move || consume(consumer, entities, &done)
    });
    let start = Instant::now();
    state.accept(workload.events(0, task.events))?;
    let accepted = start.elapsed().as_secs_f64();
    state.flush()?;
    let durable = start.elapsed().as_secs_f64();
    done.store(true, Ordering::Release);
    let told = consuming.join().map_err(|_| "the consumer panicked")??;
    let seconds_until_told = (told.at - start).as_secs_f64();
    check(&state, &workload, &told, task.events)?;
    state.close()?;
    Ok(Upserted { accepted, durable, told: seconds_until_told, changes: told.changes })
}

/// Until nothing more is to come and all of it was told.
fn consume<C: Consumer>(mut consumer: C, entities: usize, done: &AtomicBool) -> Outcome<Told> {
    let mut told = Told { changes: 0, newest: vec![0; entities], at: Instant::now() };
    loop {
        let was_done = done.load(Ordering::Acquire);
        let found = consumer.next(PATIENCE, |key, payload| {
            told.changes += 1;
            told.newest[entity_of_key(key) as usize] = first_word(payload);
        })?;
        if found {
            told.at = Instant::now();
        } else if was_done {
            return Ok(told);
        }
    }
}

/// The rows are those that were upserted last, and what a consumer gathered is the same.
fn check<S: LiveState>(state: &S, workload: &Workload, told: &Told, events: u64) -> Outcome {
    let entities = u64::from(workload.entities());
    let mut expected = vec![0; entities as usize];
    for i in events.saturating_sub(entities)..events {
        expected[workload.entity_of(i) as usize] = first_word(workload.payload(i));
    }
    let mut rows = vec![0; expected.len()];
    state.scan(|key, payload| rows[entity_of_key(key) as usize] = first_word(payload))?;
    if rows != expected {
        return Err("the rows are not those that were upserted last".into());
    }
    if told.newest != expected {
        return Err("a consumer was not told of the newest row of each key, in order".into());
    }
    Ok(())
}

/// Reads of random keys, each as it is now.
pub fn gets<S: LiveState>(task: &Task) -> Outcome<Vec<Measure>> {
    let (clock, workload) = (Clock::calibrated(), task.workload());
    let state = filled::<S>(task, &workload)?;
    let count = task.events.min(READS_MAX);
    let mut random = Random::new(11);
    let mut latencies = Latencies::with_room_for(count);
    for turn in 0..count + count / 10 {
        let i = random.below(task.events);
        let key = key_of(workload.entity_of(i));
        let mut word = 0;
        let start = clock.ticks();
        state.get(&key, |payload| word = first_word(payload))?;
        let passed = clock.ticks() - start;
        assert_eq!(word, first_word(workload.payload(i)), "another row was read");
        // The first tenth warms up.
        if turn >= count / 10 {
            latencies.record(passed);
        }
    }
    state.close()?;
    let sorted = latencies.sorted(&clock);
    Ok(vec![measure("p50", sorted.at(0.5), "ns"), measure("p99", sorted.at(0.99), "ns")])
}

/// All rows of one moment, once to warm up.
pub fn scan<S: LiveState>(task: &Task) -> Outcome<Vec<Measure>> {
    let workload = task.workload();
    let state = filled::<S>(task, &workload)?;
    let mut seconds = 0.0;
    for _ in 0..2 {
        let (mut count, mut sum) = (0u64, 0u64);
        let start = Instant::now();
        state.scan(|_, payload| {
            count += 1;
            sum = sum.wrapping_add(first_word(payload));
        })?;
        seconds = start.elapsed().as_secs_f64();
        std::hint::black_box(sum);
        if count != task.events {
            return Err(format!("{count} rows of {} were shown", task.events).into());
        }
    }
    state.close()?;
    Ok(vec![measure("rate", task.events as f64 / seconds, "rows/s")])
}

/// A row each for so many keys as there are events.
fn filled<S: LiveState>(task: &Task, workload: &Workload) -> Outcome<S> {
    let (mut state, consumer) = S::open(&task.dir)?;
    let done = Arc::new(AtomicBool::new(false));
    let consuming = std::thread::spawn({
        let (done, entities) = (Arc::clone(&done), workload.entities() as usize);
        move || consume(consumer, entities, &done)
    });
    state.accept(workload.events(0, task.events))?;
    state.flush()?;
    done.store(true, Ordering::Release);
    consuming.join().map_err(|_| "the consumer panicked")??;
    Ok(state)
}
