//! Beds for those who wait for a mark, one place for each shard: a file without I/O, which is
//! itself explored by loom.
//!
//! **A wake-up cannot be lost.** Who waits registers, and only then looks at the mark once more;
//! who moves the mark stores it, and only then looks for those who registered. A sequentially
//! consistent fence stands between the two steps on both sides, so that one of them sees the
//! other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::feed::shard::{Shard, Touched, WORDS};
use crate::sync::{AtomicU64, Condvar, Mutex, Ordering, fence};

/// What is rung beside, or instead of, waking a thread.
pub(crate) trait Bell: std::fmt::Debug + Send + Sync {
    fn ring(&self);
}

/// A thread that can be woken, or somebody with a bell.
#[derive(Debug)]
pub(crate) struct Sleeper {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    woken: bool,
    bell: Option<Arc<dyn Bell>>,
}

impl Sleeper {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::default()), changed: Condvar::new() })
    }

    /// Wakes whoever waits, or will wait next.
    pub(crate) fn wake(&self) {
        let mut state = self.state.lock();
        state.woken = true;
        let bell = state.bell.clone();
        drop(state);
        self.changed.notify_all();
        if let Some(bell) = bell {
            bell.ring();
        }
    }

    /// From now on, waking it rings this.
    pub(crate) fn give_bell(&self, bell: Option<Arc<dyn Bell>>) {
        self.state.lock().bell = bell;
    }

    /// Waits until woken, at most so long; `None`: for ever. False: the time is over.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> bool {
        let mut state = self.state.lock();
        while !state.woken {
            let (guard, is_over) = self.changed.wait_at_most(state, timeout);
            state = guard;
            if is_over && !state.woken {
                return false;
            }
        }
        state.woken = false;
        true
    }
}

/// The beds of one mark.
#[derive(Debug)]
pub(crate) struct Sleepers {
    /// A bit for each shard in which somebody lies.
    occupied: [AtomicU64; WORDS],
    count: AtomicU64,
    beds: Mutex<HashMap<Shard, Vec<Arc<Sleeper>>>>,
}

impl Default for Sleepers {
    fn default() -> Self {
        Self {
            occupied: std::array::from_fn(|_| AtomicU64::new(0)),
            count: AtomicU64::new(0),
            beds: Mutex::new(HashMap::new()),
        }
    }
}

impl Sleepers {
    /// Registers a sleeper. The caller looks at the mark once more before it waits.
    pub(crate) fn lie_down(&self, shard: Shard, sleeper: &Arc<Sleeper>) {
        let mut beds = self.beds.lock();
        beds.entry(shard).or_default().push(Arc::clone(sleeper));
        if let Some(word) = self.occupied.get(shard.word()) {
            word.fetch_or(shard.bit(), Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        drop(beds);
        fence(Ordering::SeqCst);
    }

    /// Takes a registration back, if it was not used up by a wake-up.
    pub(crate) fn get_up(&self, shard: Shard, sleeper: &Arc<Sleeper>) {
        let mut beds = self.beds.lock();
        let Some(bed) = beds.get_mut(&shard) else { return };
        let before = bed.len();
        bed.retain(|other| !Arc::ptr_eq(other, sleeper));
        self.count.fetch_sub((before - bed.len()) as u64, Ordering::Relaxed);
        if bed.is_empty() {
            beds.remove(&shard);
            if let Some(word) = self.occupied.get(shard.word()) {
                word.fetch_and(!shard.bit(), Ordering::Relaxed);
            }
        }
    }

    /// True if somebody lies here. Called behind the store of the mark, and a fence.
    pub(crate) fn are_there(&self) -> bool {
        self.count.load(Ordering::Relaxed) != 0
    }

    /// Wakes those who lie in the shards that were touched. Called behind the store of the mark.
    #[inline]
    pub(crate) fn wake(&self, touched: &Touched) {
        fence(Ordering::SeqCst);
        if self.are_there() {
            self.wake_in(touched.words());
        }
    }

    /// Wakes everybody: nothing more is to come, or something that concerns all.
    pub(crate) fn wake_all(&self) {
        fence(Ordering::SeqCst);
        self.wake_in([u64::MAX; WORDS].into_iter());
    }

    #[inline(never)]
    fn wake_in(&self, words: impl Iterator<Item = u64>) {
        let mut woken = Vec::new();
        for (at, (bits, occupied)) in words.zip(&self.occupied).enumerate() {
            let hit = bits & occupied.load(Ordering::Relaxed);
            if hit == 0 {
                continue;
            }
            let mut beds = self.beds.lock();
            for shard in Shard::of_word(at, hit) {
                woken.extend(beds.remove(&shard).unwrap_or_default());
            }
            occupied.fetch_and(!hit, Ordering::Relaxed);
        }
        self.count.fetch_sub(woken.len() as u64, Ordering::Relaxed);
        // Outside the lock: a woken one may lie down again at once.
        woken.iter().for_each(|sleeper| sleeper.wake());
    }
}

#[cfg(test)]
#[path = "sleepers_tests.rs"]
mod tests;
