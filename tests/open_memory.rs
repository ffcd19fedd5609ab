//! A store of many entities opens without taking memory for them, and serves reads from the map; no reader of a whole kind
//! gathers it.
//!
//! `ESKER_OPEN_ENTITIES` says how many; the default is what a quick test can write.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a panic is a failed test; a process talks to its parent"
)]

mod memory;

use std::path::Path;
use std::time::{Duration, Instant};

use esker::{Kind, MirrorChanges, MirrorRows, MirrorTarget, MirrorToken, Options, StateItem, Store, Window};
use memory::{anonymous, child};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Vessel {
    name: String,
    knots: f32,
    heading: u16,
}

const VESSEL: Kind<Vessel> = Kind::new("vessel");
/// What an opening and 1,000 reads may take, in bytes, of a process that has done nothing else, with 10 million entities or
/// with few.
const ANONYMOUS_MAX: u64 = 64 << 20;
/// What a scan, a bootstrap and a mirror may take beside that, while they hold the last row. The keys alone of the fewest entities
/// that are tried, each in a box, would be more.
const READING_MAX: u64 = 2 << 20;
const ROLE: &str = "ESKER_OPEN_ROLE";

fn entities() -> u64 {
    std::env::var("ESKER_OPEN_ENTITIES").map_or(100_000, |entities| entities.parse().unwrap())
}

fn vessel(n: u64) -> Vessel {
    let heading = u16::try_from(n % 360).unwrap();
    Vessel { name: format!("Ada {n}"), knots: f32::from(heading) / 10.0, heading }
}

fn open(path: &Path) -> Store {
    Store::over(Options::new().window(Window::Manual).open(path).unwrap())
}

/// Writes the entities, and some of them once more, so that there is something behind the directory of entities.
fn write(path: &Path, entities: u64) {
    let store = open(path);
    let source = store.source("producer").unwrap();
    let rows = (0..entities).chain((0..entities).step_by(50));
    for (n, entity) in rows.enumerate() {
        source.assert(VESSEL, entity.to_le_bytes(), &vessel(n as u64)).unwrap();
    }
    store.flush().unwrap();
    drop(source);
    store.close().unwrap();
    // The second life leaves rows that only the index of a segment knows.
    let store = open(path);
    let source = store.source("producer").unwrap();
    for entity in (0..entities).step_by(101) {
        source.assert(VESSEL, entity.to_le_bytes(), &vessel(entity + 7)).unwrap();
    }
    store.flush().unwrap();
    drop(source);
    store.close().unwrap();
}

/// Counts rows, and looks at the memory when the last one is there and whoever reads them holds what it holds.
struct Counting {
    rows: u64,
    of: u64,
    memory: u64,
}

impl Counting {
    fn new(of: u64) -> Self {
        Self { rows: 0, of, memory: 0 }
    }

    fn row(&mut self) {
        self.rows += 1;
        if self.rows == self.of {
            self.memory = anonymous();
        }
    }

    /// What it saw, of all the rows.
    fn done(self) -> u64 {
        assert_eq!(self.rows, self.of);
        self.memory
    }
}

impl MirrorTarget<Vessel> for Counting {
    type Error = esker::Error;

    fn token(&mut self) -> esker::Result<Option<MirrorToken>> {
        Ok(None)
    }

    fn replace_all(&mut self, rows: &mut MirrorRows<Vessel>) -> esker::Result<()> {
        while rows.next_row()?.is_some() {
            self.row();
        }
        rows.token().map(drop)
    }

    fn apply(&mut self, changes: &mut MirrorChanges<Vessel>) -> esker::Result<()> {
        panic!("it has no token: {changes:?}")
    }
}

/// Reads all rows in each way that there is, and answers the most that this process had of memory.
fn read_all(store: &Store, entities: u64) -> u64 {
    let mut scanned = Counting::new(entities);
    store.scan(VESSEL).unwrap().for_each(|row| {
        row.unwrap();
        scanned.row();
    });
    let mut told = Counting::new(entities);
    let mut changes = store.subscribe(VESSEL).unwrap();
    while let Some(item) = changes.try_next().unwrap() {
        if let StateItem::Change(_) = item {
            told.row();
        }
    }
    let mut mirror = store.mirror(VESSEL).start(Counting::new(entities)).unwrap();
    mirror.catch_up().unwrap();
    [scanned, told, mirror.into_target()].map(Counting::done).into_iter().max().unwrap()
}

/// Reads one of the entities, and says how long that took: with the pages that it is on, the first time.
fn time_to_get(store: &Store, n: u64, entities: u64) -> Duration {
    let key = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % entities).to_le_bytes();
    let begun = Instant::now();
    let row = store.get(VESSEL, key).unwrap().unwrap();
    let took = begun.elapsed();
    assert!(row.value().unwrap().name.starts_with("Ada"));
    took
}

/// Opens it, reads, and says how much memory that took.
fn read(path: &Path, entities: u64) {
    let before = anonymous();
    let begun = Instant::now();
    let store = open(path);
    let opened = begun.elapsed();
    let on_heap = store.journal().stats().entities_on_heap;
    for round in ["first", "second"] {
        let mut times: Vec<Duration> = (0..1_000u64).map(|n| time_to_get(&store, n, entities)).collect();
        times.sort_unstable();
        println!("{round} time: get {:?} p50, {:?} p99", times[500], times[990]);
    }
    let behind_reads = anonymous();
    let reading = read_all(&store, entities).saturating_sub(behind_reads);
    println!("{} {reading} {on_heap} {}", behind_reads.saturating_sub(before), opened.as_micros());
    store.close().unwrap();
}

/// This test again, in a process of its own.
fn again(role: &str, path: &Path) -> String {
    child("many_entities_open_without_memory_for_them", ROLE, role, path)
}

#[test]
fn many_entities_open_without_memory_for_them() {
    if let Ok(role) = std::env::var(ROLE) {
        let (role, path) = role.split_once(' ').unwrap();
        return if role == "write" {
            write(path.as_ref(), entities())
        } else {
            read(path.as_ref(), entities())
        };
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("many.esker");
    again("write", &path);
    let said = again("read", &path);
    let numbers: Vec<u64> = said
        .lines()
        .filter_map(|line| line.split(' ').map(|word| word.parse().ok()).collect::<Option<Vec<u64>>>())
        .find(|numbers| numbers.len() == 4)
        .unwrap_or_else(|| panic!("no figures in {said:?}"));
    let [memory, reading, on_heap, micros] = numbers[..] else { panic!("{said:?}") };
    said.lines().filter(|line| line.contains("time: get")).for_each(|line| println!("{line}"));
    println!("{} entities: opened in {micros} us, {memory} bytes of anonymous memory", entities());
    println!("{reading} bytes more with all of them scanned, bootstrapped and mirrored");
    assert!(reading <= READING_MAX, "{reading} bytes more to read {} entities", entities());
    assert!(memory <= ANONYMOUS_MAX, "{memory} bytes to open {} entities", entities());
    assert_eq!(on_heap, 0, "entities on the heap behind an opening");
}
