//! What of the library waits and wakes: the very files of it, on loom's locks and atomics. Alone they are compiled in seconds.
#![allow(dead_code, reason = "whoever uses the rest is not here")]

#[path = "../../../src/id.rs"]
mod id;
#[path = "../../../src/sync.rs"]
mod sync;

#[path = "../../../src/log"]
mod log {
    mod commit;
}

#[path = "../../../src/feed"]
mod feed {
    mod shard;
    mod sleepers;
}
