//! What runs in the machine: the same program, which lives and judges as it does outside, and tells its console about it.

use std::fs::File;
use std::io::Read;
use std::process::Command;

use super::order::Order;
use crate::blocks::device::Place;
use crate::blocks::random::Random;
use crate::blocks::roles::{live_apart, say, verdict};
use crate::blocks::workload::{Life, Marks};

/// It is set in the machine alone, and names the module of the disk.
pub(crate) const IN_THE_MACHINE: &str = "ESKER_MACHINE_DISK";

/// What it says when it waits for an order, and when it is through with it.
pub(crate) const READY: &str = "ready";
pub(crate) const OVER: &str = "over";

/// How many batches each writer of a life begins.
const BATCHES: usize = 12;

/// What this process is to do, if it is in the machine.
pub(crate) fn play() {
    let (Ok(disk), Some(place)) = (std::env::var(IN_THE_MACHINE), Place::told()) else { return };
    use_randomness(1);
    say(READY);
    let order = Order::parse(&next_line());
    // Every run begins with the same state of the kernel's generator, and salts are drawn from that.
    use_randomness(4096 * order.run);
    let loaded = Command::new("/bin/busybox").args(["insmod", &disk]).status().unwrap();
    assert!(loaded.success(), "{disk}: {loaded}");
    match place.mount() {
        Ok(()) => carry_out(&order, &place),
        Err(error) => say(&format!("wrong mounting in the machine: {error}")),
    }
    say(OVER);
    // Until the power goes.
    next_line();
}

fn carry_out(order: &Order, place: &Place) {
    if let Some(known) = &order.known {
        let said = verdict(place, &Marks::open(&place.marks), known);
        say(&said);
        if said.starts_with("wrong") {
            return;
        }
    }
    let mut random = Random::new(order.seed);
    for life in 0..order.lives {
        let seed = order.seed * 10 + life;
        let (is_lazy, is_closed) = (random.below(3) == 0, random.below(3) == 0);
        if let Err(what) = live_apart(place, Life { seed, batches: BATCHES, is_lazy, is_closed }) {
            return say(&format!("wrong a life in the machine: {what}"));
        }
    }
}

fn next_line() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    line
}

/// Draws so often. The first waits until the kernel has seeded its generator.
fn use_randomness(times: u64) {
    let mut random = File::open("/dev/random").unwrap();
    let mut drawn = [0; 32];
    for _ in 0..times {
        random.read_exact(&mut drawn).unwrap();
    }
}
