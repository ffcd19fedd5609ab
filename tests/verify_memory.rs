//! A store of many entities is verified in memory that does not grow with them.
//!
//! `ESKER_VERIFY_ENTITIES` says how many; the default is more than are in memory at a time, and what a quick test can write.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is a failed test; a process talks to its parent"
)]

mod memory;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;

use esker::{Check, Journal, Record, Verdict, verify};
use memory::{anonymous, child};

/// What a verification may take, in bytes.
const ANONYMOUS_MAX: u64 = 64 << 20;
const ROLE: &str = "ESKER_VERIFY_ROLE";
const TOGETHER: u64 = 100;

fn entities() -> u64 {
    std::env::var("ESKER_VERIFY_ENTITIES").map_or(300_000, |entities| entities.parse().unwrap())
}

/// Writes each entity, and every third once more, in another order.
fn write(path: &Path, entities: u64) {
    let journal = Journal::open(path).unwrap();
    let kind = journal.kind("note").unwrap();
    let again = (0..entities).map(|n| n * 7 % entities).filter(|n| n.is_multiple_of(3));
    let keys: Vec<u64> = (0..entities).chain(again).collect();
    for keys in keys.chunks(usize::try_from(TOGETHER).unwrap()) {
        let keys: Vec<[u8; 8]> = keys.iter().map(|key| key.to_le_bytes()).collect();
        let mut batch = journal.batch();
        for key in &keys {
            batch.push(Record::new(kind, key, b"a payload of some bytes"));
        }
        batch.commit().unwrap();
    }
    journal.close().unwrap();
}

/// Verifies it, and says how much memory that took at most, and how many entities there are.
fn check(path: &Path) {
    let (before, is_done) = (anonymous(), AtomicBool::new(false));
    let (most, found) = scope(|scope| {
        let watching = scope.spawn(|| {
            let mut most = 0;
            while !is_done.load(Ordering::Relaxed) {
                most = most.max(anonymous());
                std::thread::park_timeout(std::time::Duration::from_millis(1));
            }
            most
        });
        let found = verify(path, Check::Full).unwrap();
        is_done.store(true, Ordering::Relaxed);
        (watching.join().unwrap(), found)
    });
    assert_eq!(found.verdict, Verdict::Valid, "{found:?}");
    println!("{} {}", most.saturating_sub(before), found.entities);
}

/// This test again, in a process of its own.
fn again(role: &str, path: &Path) -> String {
    child("many_entities_are_verified_without_memory_for_them", ROLE, role, path)
}

#[test]
fn many_entities_are_verified_without_memory_for_them() {
    if let Ok(role) = std::env::var(ROLE) {
        let (role, path) = role.split_once(' ').unwrap();
        return if role == "write" { write(path.as_ref(), entities()) } else { check(path.as_ref()) };
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("many.esker");
    again("write", &path);
    let said = again("check", &path);
    let numbers = said
        .lines()
        .find_map(|line| line.split_once(' ').and_then(|(a, b)| a.parse().ok().zip(b.parse().ok())));
    let (memory, counted): (u64, u64) = numbers.unwrap_or_else(|| panic!("no figures in {said:?}"));
    println!("{counted} entities: verified in {memory} bytes of anonymous memory");
    assert_eq!(counted, entities());
    assert!(memory <= ANONYMOUS_MAX, "{memory} bytes to verify {counted} entities");
}
