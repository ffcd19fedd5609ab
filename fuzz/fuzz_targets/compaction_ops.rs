//! The log under compaction against a vector that never forgets: see `tests/compaction_model.rs`, whose
//! operations and model these are. Here the fuzzer draws; each operation has a word of its own, so that a
//! change of one leaves the others as they are.
#![no_main]

#[path = "../../tests/crash/choices.rs"]
#[allow(dead_code, reason = "shared with the crash model")]
mod choices;
#[path = "../../tests/compaction_model/mod.rs"]
#[allow(dead_code, reason = "shared with the model test")]
mod compaction_model;

use choices::Dice;
use compaction_model::{Manner, World};
use libfuzzer_sys::fuzz_target;

const OPERATIONS_MAX: usize = 120;

fuzz_target!(|words: Vec<u32>| {
    let Some((first, words)) = words.split_first() else { return };
    let manner = Manner::drawn(&mut Dice::new(u64::from(*first)));
    let mut world = World::new(manner).expect("an empty disk opens");
    for word in words.iter().take(OPERATIONS_MAX) {
        world.step(&mut Dice::new(u64::from(*word))).unwrap_or_else(|error| panic!("{error}"));
    }
    world.is_valid().unwrap_or_else(|error| panic!("{error}"));
});
