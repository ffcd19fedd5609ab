//! Live state against a model on one page: operations of sources, windows, epochs, deadlines, newer schemas, followers that
//! lag and resume, full disks, failed syncs, closings, kills, power cuts and compaction.
//!
//! The operations and the model are those of the property test; here the fuzzer draws. Each operation has a row of
//! bytes of its own, so that a change of one leaves the others as they are.
#![no_main]

#[path = "../../tests/state_model/mod.rs"]
#[allow(dead_code, reason = "shared with the property test")]
mod state_model;

use esker::Durability;
use libfuzzer_sys::fuzz_target;
use state_model::World;
use state_model::operation::Operation;

const OPERATIONS_MAX: usize = 100;
/// Ends the bytes of an operation; what it draws behind them is zero.
const END: u8 = 0xff;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rows)) = bytes.split_first() else { return };
    let durability = if first & 1 == 0 { Durability::Sync } else { Durability::Os };
    let mut world = World::new(durability, first & 2 != 0, first & 4 != 0).unwrap_or_else(|error| panic!("{error}"));
    for row in rows.split(|byte| *byte == END).take(OPERATIONS_MAX) {
        let mut numbers = row.iter().copied();
        let operation = Operation::drawn(&mut |n| usize::from(numbers.next().unwrap_or(0)) % n);
        world.step(&operation).unwrap_or_else(|error| panic!("{error}"));
    }
    world.finish().unwrap_or_else(|error| panic!("{error}"));
});
