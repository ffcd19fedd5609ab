//! Errors of single sectors of a disk (R7), under a file system of the kernel.
//!
//! The disk of the power cuts, in memory behind FUSE and a loop device, refuses one sector: to whoever reads it, or to whoever
//! writes it, with EIO, or with ENOSPC as a volume does that was promised more space than there is. Every sector that a file of
//! a small store has on the disk is tried, one at a time.
//!
//! One that cannot be read takes what stands in its page, and is told: each other entry is read, `verify` and `repair`, which
//! read by calls, name exactly what is lost, and no attempt changes what is there. What reads through a mapping may end by
//! SIGBUS, so it runs in a process of its own.
//!
//! One that cannot be written poisons, or fails a call that has done nothing. The kernel then takes its pages for clean, and a
//! restart above the same cache must find what is found when the power is cut behind it, with everything acknowledged.
//!
//! It mounts, so it takes root, and runs only where `ESKER_SECTORS` names the file systems: `ext4,xfs,btrfs`.
//! `ESKER_SECTORS_STEP` leaves sectors out: each so many-th is tried.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "some of it only a power cut needs")]
mod blocks;
mod sectors;

use std::time::Instant;

use blocks::device::{Device, FileSystem};
use blocks::fault::Trouble;
use sectors::reading::{self, Sound};
use sectors::tally::Tally;
use sectors::writing::{self, When};

/// Not a test of its own: what a child process does, which is this same program.
#[test]
fn role_of_a_child_process() {
    sectors::child::play();
}

fn file_systems() -> Option<Vec<FileSystem>> {
    let Ok(names) = std::env::var("ESKER_SECTORS") else {
        eprintln!("not run: ESKER_SECTORS names no file systems to mount");
        return None;
    };
    Some(
        names.split(',').map(|name| FileSystem::named(name).unwrap_or_else(|| panic!("no {name}"))).collect(),
    )
}

/// Every so many-th of them; with a step that no power of two divides they stand at every place of a page.
fn chosen<T: Clone>(sectors: &[T], first: usize) -> Vec<T> {
    let step = std::env::var("ESKER_SECTORS_STEP").ok().and_then(|step| step.parse().ok()).unwrap_or(1);
    sectors.iter().skip(first % step).step_by(step).cloned().collect()
}

#[test]
fn a_sector_that_cannot_be_read_takes_what_stands_in_it_and_is_never_the_end_of_the_log() {
    let Some(file_systems) = file_systems() else { return };
    let mut violations = Vec::new();
    for file_system in file_systems {
        let begun = Instant::now();
        let mut tally = Tally::default();
        for (seed, is_closed) in [(1, true), (2, false)] {
            let device = Device::new(file_system).unwrap();
            let sound = Sound::make(&device, seed, is_closed);
            reading::try_each(&device, &sound, &chosen(&sound.sectors, 0), &mut tally);
        }
        tally.tell(file_system, "unreadable", begun.elapsed().as_secs());
        assert!(tally.states > 0, "{}: no sector was looked at", file_system.name());
        violations.append(&mut tally.violations);
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn a_sector_that_cannot_be_written_takes_nothing_that_was_acknowledged_nor_is_cured_by_a_restart() {
    let Some(file_systems) = file_systems() else { return };
    let mut violations = Vec::new();
    for file_system in file_systems {
        let device = Device::new(file_system).unwrap();
        let sectors = writing::written(&device);
        for (trouble, name) in [(Trouble::Unwritable, "unwritable"), (Trouble::Full, "full")] {
            let begun = Instant::now();
            let mut tally = Tally::default();
            for (first, when) in When::ALL.into_iter().enumerate() {
                writing::try_each(&device, &chosen(&sectors, first), trouble, when, &mut tally);
            }
            tally.tell(file_system, name, begun.elapsed().as_secs());
            assert!(tally.states > 0, "{}: no sector was met", file_system.name());
            violations.append(&mut tally.violations);
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}
