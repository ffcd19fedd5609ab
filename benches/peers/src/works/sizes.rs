//! Works that weigh: blocks on the disk and anonymous memory, an event.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Measure, Task, fill, measure};
use crate::engine::{Durability, Engine, Outcome};

pub fn bytes_on_disk<E: Engine>(task: &Task) -> Outcome<Vec<Measure>> {
    let workload = task.workload();
    let mut engine = E::open(&task.setup(Durability::None))?;
    fill(&mut engine, &workload, 0, task.events)?;
    engine.sync()?;
    engine.close()?;
    Ok(vec![measure("each", allocated_bytes(&task.dir)? as f64 / task.events as f64, "B")])
}

pub fn anonymous_memory<E: Engine>(task: &Task) -> Outcome<Vec<Measure>> {
    let workload = task.workload();
    let mut engine = E::open(&task.setup(Durability::None))?;
    let before = anonymous_bytes()?;
    fill(&mut engine, &workload, 0, task.events)?;
    let grown = anonymous_bytes()?.saturating_sub(before);
    engine.close()?;
    Ok(vec![measure("each", grown as f64 / task.events as f64, "B")])
}

pub fn allocated_bytes(dir: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { allocated_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

/// `RssAnon`: what of this process is in memory and in no file.
fn anonymous_bytes() -> Outcome<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with("RssAnon:"))
        .ok_or("this kernel does not tell RssAnon")?;
    let kibibytes: u64 = line.split_whitespace().nth(1).ok_or("RssAnon has no value")?.parse()?;
    Ok(kibibytes * 1024)
}
