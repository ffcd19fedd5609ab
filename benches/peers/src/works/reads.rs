//! Works that read a store which was filled, closed and opened again, from a warm cache.

use std::time::Instant;

use super::{Measure, Task, fill_by, measure};
use crate::engine::{Durability, Engine, Outcome};
use crate::workload::{Digest, Random, Workload, first_word, key_of};

fn reopened<E: Engine>(task: &Task, workload: &Workload) -> Outcome<E> {
    let mut engine = E::open(&task.setup(Durability::None))?;
    fill_by(&mut engine, workload, 0, task.events, E::filled_by(task.work))?;
    engine.sync()?;
    engine.close()?;
    let mut engine = E::open(&task.setup(Durability::None))?;
    engine.start_reading()?;
    Ok(engine)
}

pub fn scan<E: Engine>(task: &Task) -> Outcome<Vec<Measure>> {
    let workload = task.workload();
    let mut engine = reopened::<E>(task, &workload)?;
    let mut expected = Digest::default();
    workload.events(0, task.events).for_each(|event| expected.see(event.payload));

    let mut warm = Digest::default();
    engine.scan(|payload| warm.see(payload))?;
    assert_eq!(warm, expected, "the scan did not show what was appended");

    let mut seen = Digest::default();
    let start = Instant::now();
    engine.scan(|payload| seen.see(payload))?;
    let rate = seen.count as f64 / start.elapsed().as_secs_f64();
    assert_eq!(seen, expected, "the second scan did not show what was appended");
    engine.close()?;
    Ok(vec![measure("rate", rate, "events/s")])
}

pub fn history<E: Engine>(task: &Task) -> Outcome<Vec<Measure>> {
    let workload = task.workload();
    let mut engine = reopened::<E>(task, &workload)?;
    let entities = u64::from(workload.entities());
    let mut random = Random::new(0xe17);
    let mut read = |turn: u64| -> Outcome<(u64, f64)> {
        let entity = workload.entity_of(turn);
        let mut expected = Digest::default();
        (turn..task.events).step_by(entities as usize).for_each(|i| expected.see(workload.payload(i)));
        let mut seen = Digest::default();
        let start = Instant::now();
        engine.history(entity, &key_of(entity), |payload| seen.see(payload))?;
        let nanoseconds = start.elapsed().as_nanos() as f64;
        assert_eq!(seen, expected, "an entity's history is not what was appended to it");
        Ok((seen.count, nanoseconds))
    };
    for turn in 0..entities {
        read(turn)?;
    }
    let (mut events, mut nanoseconds) = (0, 0.0);
    for _ in 0..entities.min(200) {
        let (count, passed) = read(random.below(entities))?;
        events += count;
        nanoseconds += passed;
    }
    engine.close()?;
    Ok(vec![measure("each", nanoseconds / events as f64, "ns")])
}

pub fn points<E: Engine>(task: &Task) -> Outcome<Vec<Measure>> {
    let workload = task.workload();
    let mut engine = reopened::<E>(task, &workload)?;
    let reads = task.events.min(200_000).min(E::most_reads());
    let mut seen = 0;
    for place in 0..task.events.min(E::most_reads()) {
        engine.get(place, |payload| seen ^= first_word(payload))?;
    }
    let mut random = Random::new(0x9e7);
    let mut read = |count: u64| -> Outcome<f64> {
        let places: Vec<u64> = (0..count).map(|_| random.below(task.events)).collect();
        let mut expected = Digest::default();
        places.iter().for_each(|&place| expected.see(workload.payload(place)));
        let mut seen = Digest::default();
        let start = Instant::now();
        for &place in &places {
            engine.get(place, |payload| seen.see(payload))?;
        }
        let passed = start.elapsed();
        assert_eq!(seen, expected, "other events stand at those places");
        Ok(passed.as_nanos() as f64 / count as f64)
    };
    read((reads / 10).max(1))?;
    let each = read(reads)?;
    engine.close()?;
    Ok(vec![measure("each", each, "ns")])
}
