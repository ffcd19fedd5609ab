//! A store of many entities opens without taking memory for them, and serves reads from the map.
//!
//! `ESKER_OPEN_ENTITIES` says how many; the default is what a quick test can write.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is a failed test; a process talks to its parent"
)]

mod memory;

use std::path::Path;
use std::time::Instant;

use esker::{Kind, Options, Store, Window};
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

/// Opens it, reads, and says how much memory that took.
fn read(path: &Path, entities: u64) {
    let before = anonymous();
    let begun = Instant::now();
    let store = open(path);
    let opened = begun.elapsed();
    let on_heap = store.journal().stats().entities_on_heap;
    for n in 0..1_000u64 {
        let entity = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % entities;
        let row = store.get(VESSEL, entity.to_le_bytes()).unwrap().unwrap();
        assert!(row.value().unwrap().name.starts_with("Ada"));
    }
    println!("{} {on_heap} {}", anonymous().saturating_sub(before), opened.as_micros());
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
        .find(|numbers| numbers.len() == 3)
        .unwrap_or_else(|| panic!("no figures in {said:?}"));
    let [memory, on_heap, micros] = numbers[..] else { panic!("{said:?}") };
    println!("{} entities: opened in {micros} us, {memory} bytes of anonymous memory", entities());
    assert!(memory <= ANONYMOUS_MAX, "{memory} bytes to open {} entities", entities());
    assert_eq!(on_heap, 0, "entities on the heap behind an opening");
}
