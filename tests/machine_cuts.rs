//! Power cuts of a machine (R8): a kernel of its own, with everything that it has in memory.
//!
//! qemu emulates a machine in which this same program writes a store, as it does for the power cuts of a recorded disk (R6), on
//! ext4, XFS or btrfs. Its disk is the one of R6, so each write and flush of the machine is known, and what the program says has
//! its place among them. The power goes behind any of them: the machine is killed, and of what its disk had not flushed all is
//! there, or nothing, or any of it, some only in part. What is left is mounted and judged outside; and it is the disk of the next
//! run, in which the machine's own kernel repairs its file system, and the program its store, until the power goes again.
//!
//! A machine starts once and is saved; each run goes on from there, which takes a second and not many.
//!
//! It mounts, so it takes root, and runs only where `ESKER_MACHINE` names a directory with a `kernel`, its `modules` for each
//! file system, that of the disk, `disk.ko`, and a `busybox`: `tests/faults/r8_machine.sh` makes one. `ESKER_MACHINE_FILE_SYSTEMS` is `ext4,xfs,btrfs` or some of
//! them, `ESKER_MACHINE_CUTS` how many cuts there are, `ESKER_MACHINE_SEED` where chance begins; what it finds is kept in
//! `ESKER_MACHINE_EVIDENCE`.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "some of it only the cuts of a recorded disk need, or its sectors")]
mod blocks;
mod machine;

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use blocks::device::{Device, FileSystem};
use machine::chain::Chains;
use machine::qemu::Saved;
use machine::tally::Tally;

/// Not a test of its own: what a child process does, which is this same program.
#[test]
fn role_of_a_child_process() {
    blocks::roles::play();
}

/// Not a test of its own: what this program does in the machine.
#[test]
fn role_of_the_machine() {
    machine::guest::play();
}

/// Behind so many there is no need of more.
const VIOLATIONS: usize = 3;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn chosen_file_systems() -> Vec<FileSystem> {
    let names = std::env::var("ESKER_MACHINE_FILE_SYSTEMS").unwrap_or_else(|_| "ext4".to_owned());
    names.split(',').map(|name| FileSystem::named(name).unwrap_or_else(|| panic!("no {name}"))).collect()
}

fn cut(inputs: &Path, file_system: FileSystem, cuts: usize, seed: u64) -> Tally {
    let device = Device::new(file_system).unwrap();
    let name = file_system.name();
    let saved = Saved::start(inputs, &device).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut chains = Chains::new(&device, saved, seed);
    while chains.tally.cuts < cuts && chains.tally.violations.len() < VIOLATIONS {
        chains.cut(cuts - chains.tally.cuts);
        // Whoever ends it before its end has seen so much.
        eprintln!("{name}: {:?}", chains.tally);
    }
    std::mem::take(&mut chains.tally)
}

#[test]
fn after_the_power_of_a_machine_is_cut_everything_acknowledged_is_there_and_nothing_else() {
    let Some(inputs) = std::env::var_os("ESKER_MACHINE").map(PathBuf::from) else {
        eprintln!("not run: ESKER_MACHINE names no kernel to start");
        return;
    };
    let file_systems = chosen_file_systems();
    let cuts = usize::try_from(number("ESKER_MACHINE_CUTS").unwrap_or(60)).unwrap();
    let seed = number("ESKER_MACHINE_SEED").unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        since.as_secs() * 1000 + u64::from(since.subsec_millis())
    });
    eprintln!("ESKER_MACHINE_SEED={seed}");
    let mut violations = Vec::new();
    for file_system in &file_systems {
        let begun = Instant::now();
        let mut tally = cut(&inputs, *file_system, cuts.div_ceil(file_systems.len()), seed);
        tally.tell(*file_system, seed, begun.elapsed().as_secs());
        let (states, cuts) = (tally.states, tally.cuts);
        assert!(states > cuts / 2, "{}: {states} of {cuts} cuts were looked at", file_system.name());
        violations.append(&mut tally.violations);
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}
