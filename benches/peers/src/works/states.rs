//! Works of live state: upserts of rows beside a consumer of their changes, and reads of rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Measure, Task, measure};
use crate::clock::{Clock, Latencies};
use crate::engine::{Durability, Engine, Outcome};
use crate::engines::raw_fdatasync::RawFdatasync;
use crate::state::{Consumer, LiveState, payload_of};
use crate::workload::{Event, Random, Workload, entity_of_key, first_word, key_of};

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
    let (state, consuming) = begin::<S>(task, &workload)?;
    let start = Instant::now();
    state.accept(workload.events(0, task.events))?;
    let accepted = start.elapsed().as_secs_f64();
    state.flush()?;
    let durable = start.elapsed().as_secs_f64();
    let told = consuming.end()?;
    let seconds_until_told = (told.at - start).as_secs_f64();
    check(&state, &workload, &told, task.events)?;
    state.close()?;
    Ok(Upserted { accepted, durable, told: seconds_until_told, changes: told.changes })
}

/// A consumer in a thread of its own.
struct Consuming {
    done: Arc<AtomicBool>,
    thread: JoinHandle<Outcome<Told>>,
}

/// An empty store whose changes are consumed.
fn begin<S: LiveState>(task: &Task, workload: &Workload) -> Outcome<(S, Consuming)> {
    let (state, consumer) = S::open(&task.dir)?;
    let done = Arc::new(AtomicBool::new(false));
    let thread = std::thread::spawn({
        let (done, entities) = (Arc::clone(&done), workload.entities() as usize);
        move || consume(consumer, entities, &done)
    });
    Ok((state, Consuming { done, thread }))
}

impl Consuming {
    /// Once all is told that was flushed before.
    fn end(self) -> Outcome<Told> {
        self.done.store(true, Ordering::Release);
        self.thread.join().map_err(|_| "the consumer panicked")?
    }
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
        let passed = clock.ticks_behind_loads() - start;
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
    let (state, consuming) = begin::<S>(task, workload)?;
    state.accept(workload.events(0, task.events))?;
    state.flush()?;
    consuming.end()?;
    Ok(state)
}

/// Whoever reads does other things between two reads, so that those are spread over many groups of upserts.
const PAUSE: Duration = Duration::from_micros(10);

/// The same reads while all rows are upserted again and again, and a consumer is told of it.
pub fn gets_under_writes<S: LiveState>(task: &Task) -> Outcome<Vec<Measure>> {
    let (clock, workload) = (Clock::calibrated(), task.workload());
    let (state, consuming) = begin::<S>(task, &workload)?;
    state.accept(workload.events(0, task.events))?;
    state.flush()?;
    let (begun, stop) = (AtomicU64::new(task.events), AtomicBool::new(false));
    let start = Instant::now();
    let latencies = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let upserts =
                workload.events(task.events, u64::MAX).take_while(|_| !stop.load(Ordering::Relaxed));
            state.accept(upserts.inspect(|_| _ = begun.fetch_add(1, Ordering::Relaxed)))
        });
        let latencies = read_beside(&state, &workload, &clock, task.events, &begun);
        stop.store(true, Ordering::Relaxed);
        writing.join().map_err(|_| "the writer panicked")??;
        latencies
    })?;
    let upserts = (begun.into_inner() - task.events) as f64 / start.elapsed().as_secs_f64();
    state.flush()?;
    consuming.end()?;
    state.close()?;
    let sorted = latencies.sorted(&clock);
    Ok(vec![
        measure("p50", sorted.at(0.5), "ns"),
        measure("p99", sorted.at(0.99), "ns"),
        measure("beside", upserts, "upserts/s"),
    ])
}

/// Times reads of random keys, of which each shows a row that was upserted: the first `events` are there, and so many
/// were begun by then.
fn read_beside<S: LiveState>(
    state: &S,
    workload: &Workload,
    clock: &Clock,
    events: u64,
    begun: &AtomicU64,
) -> Outcome<Latencies> {
    let count = events.min(READS_MAX);
    let mut random = Random::new(11);
    let mut latencies = Latencies::with_room_for(count);
    for turn in 0..count + count / 10 {
        let i = random.below(events);
        let key = key_of(workload.entity_of(i));
        let mut word = 0;
        let start = clock.ticks();
        state.get(&key, |payload| word = first_word(payload))?;
        let passed = clock.ticks_behind_loads() - start;
        let mut upserted = (i..begun.load(Ordering::Relaxed)).step_by(workload.entities() as usize);
        if !upserted.any(|i| first_word(workload.payload(i)) == word) {
            return Err("a row was read that was never upserted".into());
        }
        // The first tenth warms up.
        if turn >= count / 10 {
            latencies.record(passed);
        }
        let pause = Instant::now();
        while pause.elapsed() < PAUSE {
            std::hint::spin_loop();
        }
    }
    Ok(latencies)
}

/// Twice this is longer than a group lasts: whoever groups has nothing to wait for.
const REST: Duration = Duration::from_millis(15);

/// Who is not told of a change by then was not woken.
const DEAF: Duration = Duration::from_secs(10);

/// From before an upsert until a sleeping consumer is shown the change; in turn with a sync of the disk alone.
pub fn idle_change<S: LiveState>(task: &Task) -> Outcome<Vec<Measure>> {
    let (clock, workload) = (Clock::calibrated(), task.workload());
    let dir = task.dir.join("state");
    std::fs::create_dir_all(&dir)?;
    let mut disk = RawFdatasync::open(&task.setup(Durability::Each))?;
    let (state, consumer) = S::open(&dir)?;
    let warm = u64::from(workload.entities());
    let total = warm + (task.events / 5_000).clamp(50, 200);
    let (told, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut syncs = Latencies::with_room_for(total);
    let changes = std::thread::scope(|scope| {
        let consuming = scope.spawn(|| time(consumer, total, &clock, &told, &stop));
        let mut upsert_and_sync = |(place, event): (u64, Event<'_>)| -> Outcome {
            std::thread::sleep(REST);
            let mut payload = payload_of(&event);
            payload[..8].copy_from_slice(&clock.ticks().to_le_bytes());
            state.accept(std::iter::once(Event { payload: &payload, ..event }))?;
            wait_until_told(&told, place + 1)?;
            std::thread::sleep(REST);
            let start = clock.ticks();
            disk.append(&event)?;
            if place >= warm {
                syncs.record(clock.ticks() - start);
            }
            Ok(())
        };
        let done = (0..).zip(workload.events(0, total)).try_for_each(&mut upsert_and_sync);
        stop.store(true, Ordering::Relaxed);
        let changes = consuming.join().map_err(|_| "the consumer panicked")?;
        // A consumer that failed is why the upserts after that were not told.
        changes.and_then(|changes| done.map(|()| changes))
    })?;
    state.close()?;
    let mut latencies = Latencies::with_room_for(total);
    changes.into_iter().skip(warm as usize).for_each(|ticks| latencies.record(ticks));
    let (changes, syncs) = (latencies.sorted(&clock), syncs.sorted(&clock));
    Ok(vec![
        measure("p50", changes.at(0.5) / 1e3, "us"),
        measure("p99", changes.at(0.99) / 1e3, "us"),
        measure("one fdatasync", syncs.at(0.5) / 1e3, "us"),
        measure("over one fdatasync", changes.at(0.5) / syncs.at(0.5), "x"),
    ])
}

fn wait_until_told(told: &AtomicU64, count: u64) -> Outcome {
    let start = Instant::now();
    while told.load(Ordering::Acquire) < count {
        if start.elapsed() > DEAF {
            return Err("a consumer was not told of a change".into());
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// Ticks from the stamp in each payload until it is here.
fn time<C: Consumer>(
    mut consumer: C,
    count: u64,
    clock: &Clock,
    told: &AtomicU64,
    stop: &AtomicBool,
) -> Outcome<Vec<u64>> {
    let mut ticks = Vec::with_capacity(count as usize);
    while (ticks.len() as u64) < count && !stop.load(Ordering::Relaxed) {
        // The counters of two cores may differ by a few ticks.
        consumer.next(DEAF, |_, payload| ticks.push(clock.ticks().saturating_sub(first_word(payload))))?;
        told.store(ticks.len() as u64, Ordering::Release);
    }
    Ok(ticks)
}
