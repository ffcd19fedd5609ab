//! Watchers, subscribers and cursors against a model: what they are shown and told, where cursors
//! are, and what is left of both through closes, kills, power cuts in the middle of an operation,
//! failing syncs and writes, and a full disk.
//!
//! The operations and the model are those of the property test; here the fuzzer draws. Each
//! operation has a row of bytes of its own, so that a change of one leaves the others as they are.
#![no_main]

#[path = "../../tests/feed_model/mod.rs"]
#[allow(dead_code, reason = "shared with the property test")]
mod feed_model;

use esker::Durability;
use feed_model::operation::Operation;
use feed_model::world::{Manner, World};
use libfuzzer_sys::fuzz_target;

const OPERATIONS_MAX: usize = 80;
/// Ends the bytes of an operation; what it draws behind them is zero.
const END: u8 = 0xff;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rows)) = bytes.split_first() else { return };
    let manner = Manner {
        segment_bytes: 4096 << (first & 1),
        durability: if first & 2 == 0 { Durability::Sync } else { Durability::Os },
        copy_on_write: first & 4 != 0,
    };
    let mut world = World::new(manner).expect("an empty disk opens");
    for row in rows.split(|byte| *byte == END).take(OPERATIONS_MAX) {
        let mut numbers = row.iter().copied();
        let operation = Operation::drawn_with_faults(&mut |n| usize::from(numbers.next().unwrap_or(0)) % n);
        world.step(&operation).unwrap_or_else(|error| panic!("{error}"));
    }
    world.finish().unwrap_or_else(|error| panic!("{error}"));
});
