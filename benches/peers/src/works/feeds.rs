//! Works in which readers are told of what is published, for whoever hands it on: queues and stores.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::appends::warm_up_events;
use super::{Measure, Task, measure};
use crate::clock::{Clock, Latencies};
use crate::engine::Outcome;
use crate::feed::{Feed, Reader, Told, Waiting};
use crate::workload::{Digest, Event, PAYLOAD_BYTES, Workload, first_word};

/// How long readers may take for what was published before, and fall asleep.
const REST: Duration = Duration::from_millis(300);

/// Who is not shown everything by then behind the last event has missed something without being told.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a reader was shown of everything.
struct Seen {
    digest: Digest,
    /// When it had seen or lost the last.
    at: Instant,
}

pub fn throughput<F: Feed>(task: &Task, readers: usize) -> Outcome<Vec<Measure>> {
    let workload = task.workload();
    let warm = warm_up_events(task.events);
    let total = warm + task.events;
    let (mut feed, readers) = F::open(&own_dir(task, "followed")?, readers, Waiting::Parks)?;
    let following: Vec<_> =
        readers.into_iter().map(|reader| std::thread::spawn(move || follow(reader, total))).collect();
    publish(&mut feed, &workload, 0, warm)?;
    std::thread::sleep(REST);
    let start = Instant::now();
    publish(&mut feed, &workload, warm, total)?;
    let published = task.events as f64 / start.elapsed().as_secs_f64();
    let seen = join_all(following)?;
    feed.close()?;

    let lost = lost_share::<F>(&workload, &seen, total)?;
    let shown: u64 = seen.iter().map(|seen| seen.digest.count.saturating_sub(warm)).sum();
    let until = seen.iter().map(|seen| seen.at).max().unwrap_or(start);
    let delivered = shown as f64 / (until - start).as_secs_f64();
    let mut measures = vec![
        measure("delivered", delivered, "events/s"),
        measure("published", published, "events/s"),
        measure("lost", lost * 100.0, "%"),
    ];
    if F::IS_STORE {
        measures.push(measure("with nobody", unread::<F>(task, &workload, false)?, "events/s"));
        measures.push(measure("when all have left", unread::<F>(task, &workload, true)?, "events/s"));
    }
    Ok(measures)
}

/// The writer alone: nobody ever read, or somebody did, which a store may remember at its cost.
fn unread<F: Feed>(task: &Task, workload: &Workload, once_read: bool) -> Outcome<f64> {
    let dir = own_dir(task, if once_read { "left" } else { "unread" })?;
    let (mut feed, readers) = F::open(&dir, usize::from(once_read), Waiting::Parks)?;
    drop(readers);
    let warm = warm_up_events(task.events);
    publish(&mut feed, workload, 0, warm)?;
    let start = Instant::now();
    publish(&mut feed, workload, warm, warm + task.events)?;
    let rate = task.events as f64 / start.elapsed().as_secs_f64();
    feed.close()?;
    Ok(rate)
}

fn publish<F: Feed>(feed: &mut F, workload: &Workload, from: u64, to: u64) -> Outcome {
    for event in workload.events(from, to) {
        feed.publish(&event)?;
    }
    feed.settle()
}

/// Reads until all is seen or lost.
fn follow<R: Reader>(mut reader: R, total: u64) -> Outcome<Seen> {
    let (mut digest, mut lost) = (Digest::default(), 0);
    while digest.count + lost < total {
        match reader.next(|payload| digest.see(payload))? {
            Told::Entries => {}
            Told::Lost(count) => lost += count,
            Told::Ended => break,
        }
    }
    Ok(Seen { digest, at: Instant::now() })
}

/// The share of everything that was not shown to the readers. Who says that it loses nothing is held to
/// it, and to the order.
fn lost_share<F: Feed>(workload: &Workload, seen: &[Seen], total: u64) -> Outcome<f64> {
    let mut expected = Digest::default();
    workload.events(0, total).for_each(|event| expected.see(event.payload));
    if !F::LOSES && seen.iter().any(|seen| seen.digest != expected) {
        return Err("a reader was not shown what was published, in order".into());
    }
    let shown: u64 = seen.iter().map(|seen| seen.digest.count).sum();
    Ok(1.0 - shown as f64 / (total * seen.len() as u64) as f64)
}

/// A reader that is never woken is an error, and nothing to wait for forever.
fn join_all<T>(following: Vec<JoinHandle<Outcome<T>>>) -> Outcome<Vec<T>> {
    let start = Instant::now();
    while !following.iter().all(JoinHandle::is_finished) {
        if start.elapsed() > PATIENCE {
            return Err("a reader was neither shown everything nor told that it lost some".into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    following.into_iter().map(|reader| reader.join().map_err(|_| "a reader panicked")?).collect()
}

/// Between two events all readers find nothing, and those that park go to sleep.
///
/// The writer spins meanwhile, as one that has other things to do: if it slept, the reader would be woken
/// on the core that it leaves, and nobody would wait for a core to wake up.
const PAUSE: Duration = Duration::from_micros(100);

/// Each event waits for the one before it to have reached everybody: so fewer of them are timed.
fn latency_events(events: u64) -> u64 {
    (events / 50).clamp(500, 20_000)
}

pub fn latency<F: Feed>(task: &Task, readers: usize, waiting: Waiting) -> Outcome<Vec<Measure>> {
    let (clock, workload) = (Clock::calibrated(), task.workload());
    let count = latency_events(task.events);
    let warm = count / 10;
    let (mut feed, readers) = F::open(&own_dir(task, "followed")?, readers, waiting)?;
    let received = Arc::new(AtomicU64::new(0));
    let readers_count = readers.len() as u64;
    let timing: Vec<_> = readers
        .into_iter()
        .map(|reader| {
            let received = Arc::clone(&received);
            std::thread::spawn(move || time(reader, warm, count, &received))
        })
        .collect();
    let mut payload = [0; PAYLOAD_BYTES];
    for (event, place) in workload.events(0, warm + count).zip(0..) {
        pause_behind(&received, place * readers_count)?;
        payload[..8].copy_from_slice(&clock.ticks().to_le_bytes());
        feed.publish(&Event { payload: &payload, ..event })?;
    }
    let mut all = Latencies::with_room_for(count * readers_count);
    join_all(timing)?.into_iter().flatten().for_each(|ticks| all.record(ticks));
    feed.settle()?;
    feed.close()?;
    let sorted = all.sorted(&clock);
    Ok(vec![measure("p50", sorted.at(0.5) / 1e3, "us"), measure("p99", sorted.at(0.99) / 1e3, "us")])
}

/// Pauses once all have received so many.
fn pause_behind(received: &AtomicU64, least: u64) -> Outcome {
    let mut start = Instant::now();
    while received.load(Ordering::Acquire) < least {
        if start.elapsed() > PATIENCE {
            return Err("a reader was not shown an event".into());
        }
        std::hint::spin_loop();
    }
    start = Instant::now();
    while start.elapsed() < PAUSE {
        std::hint::spin_loop();
    }
    Ok(())
}

/// Ticks from the stamp in each payload until it is here, without those that warm up.
fn time<R: Reader>(mut reader: R, warm: u64, count: u64, received: &AtomicU64) -> Outcome<Vec<u64>> {
    let clock = Clock::calibrated();
    let mut ticks = Vec::with_capacity((warm + count) as usize);
    while (ticks.len() as u64) < warm + count {
        let before = ticks.len();
        // The counters of two cores may differ by a few ticks.
        let told = reader.next(|payload| ticks.push(clock.ticks().saturating_sub(first_word(payload))))?;
        if !matches!(told, Told::Entries) {
            return Err(format!("a reader that is never behind was told {told:?}").into());
        }
        received.fetch_add((ticks.len() - before) as u64, Ordering::Release);
    }
    Ok(ticks.split_off(warm as usize))
}

/// A new directory, because some works need several stores.
fn own_dir(task: &Task, name: &str) -> Outcome<PathBuf> {
    let dir = task.dir.join(name);
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}
