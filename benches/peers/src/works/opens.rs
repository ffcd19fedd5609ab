//! Works that open what another process left: closed in good order, or killed.

use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{Advice, fadvise};
use rustix::process::{Signal, getpid, kill_process};

use super::{Measure, Step, Task, fill, measure};
use crate::engine::{Durability, Engine, Outcome};
use crate::workload::{Workload, first_word};

pub fn step<E: Engine>(task: &Task) -> Outcome<Vec<Measure>> {
    let workload = task.workload();
    match task.step {
        Step::Fill => {
            let mut engine = E::open(&task.setup(Durability::None))?;
            fill(&mut engine, &workload, 0, task.events)?;
            engine.sync()?;
            engine.close()?;
            Ok(Vec::new())
        }
        Step::FillAndDie => fill_and_die::<E>(task, &workload),
        Step::OpenWarm => Ok(vec![measure("warm", open_and_read::<E>(task, &workload)?, "ms")]),
        Step::OpenCold => {
            leave_the_cache(&task.dir)?;
            Ok(vec![measure("cold", open_and_read::<E>(task, &workload)?, "ms")])
        }
        Step::OpenAfterCrash => open_after_crash::<E>(task, &workload),
        Step::OpenUntimed | Step::Whole => {
            open_and_read::<E>(task, &workload)?;
            Ok(Vec::new())
        }
    }
}

/// Milliseconds to open the store and to read the event in the middle of it.
fn open_and_read<E: Engine>(task: &Task, workload: &Workload) -> Outcome<f64> {
    let (engine, passed) = timed_open::<E>(task, workload, task.events / 2)?;
    engine.close()?;
    Ok(passed)
}

/// Opens the store and reads the event at a place; milliseconds.
pub fn timed_open<E: Engine>(task: &Task, workload: &Workload, place: u64) -> Outcome<(E, f64)> {
    let mut word = 0;
    let start = Instant::now();
    let mut engine = E::open(&task.setup(Durability::None))?;
    engine.start_reading()?;
    engine.get(place, |payload| word = first_word(payload))?;
    let passed = start.elapsed().as_secs_f64() * 1e3;
    assert_eq!(word, first_word(workload.payload(place)), "another event stands there");
    Ok((engine, passed))
}

/// Appends nine tenths, syncs, appends the rest one by one without a sync, and is killed.
fn fill_and_die<E: Engine>(task: &Task, workload: &Workload) -> Outcome<Vec<Measure>> {
    let mut engine = E::open(&task.setup(Durability::None))?;
    let synced = task.events / 10 * 9;
    fill(&mut engine, workload, 0, synced)?;
    engine.sync()?;
    for event in workload.events(synced, task.events) {
        engine.append(&event)?;
    }
    engine.settle()?;
    kill_process(getpid(), Signal::KILL)?;
    unreachable!("a killed process goes on")
}

fn open_after_crash<E: Engine>(task: &Task, workload: &Workload) -> Outcome<Vec<Measure>> {
    let (mut engine, passed) = timed_open::<E>(task, workload, task.events / 2)?;
    let mut found = 0;
    engine.scan(|payload| {
        assert_eq!(first_word(payload), first_word(workload.payload(found)), "what survived is not a prefix");
        found += 1;
    })?;
    engine.close()?;
    assert!(found >= task.events / 10 * 9, "events that were synced are gone");
    Ok(vec![
        measure("open", passed, "ms"),
        measure("survived", found as f64 / task.events as f64 * 100.0, "%"),
    ])
}

/// Drops the pages of every file below `dir` from the page cache.
fn leave_the_cache(dir: &Path) -> Outcome {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            leave_the_cache(&entry.path())?;
        } else {
            let file = File::open(entry.path())?;
            file.sync_all()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}
