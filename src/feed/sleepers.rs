//! Beds for those who wait for a mark, one place for each shard: a file without I/O, which is
//! itself explored by loom.
//!
//! **A wake-up cannot be lost.** Who waits registers, and only then looks at the mark once more;
//! who moves the mark stores it, and only then looks for those who registered. A sequentially
//! consistent fence stands between the two steps on both sides, so that one of them sees the
//! other.
//!
//! **A writer wakes few.** Where many sleep, those who are woken wake the others: each is given half
//! of who is left, so that the writer's part grows with the logarithm of their number. Only who is
//! certain to get up at once is given anything: a thread that is inside [`Sleeper::wait`].

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::feed::shard::{Interest, Shard, Touched, WORDS};
use crate::sync::{AtomicU64, Condvar, Mutex, Ordering, fence};

/// What is rung beside, or instead of, waking a thread.
pub(crate) trait Bell: std::fmt::Debug + Send + Sync {
    fn ring(&self);
}

impl Bell for Waker {
    fn ring(&self) {
        self.wake_by_ref();
    }
}

/// A thread that can be woken, or somebody with a bell.
#[derive(Debug)]
pub(crate) struct Sleeper {
    /// Tells sleepers apart.
    id: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    woken: bool,
    /// A thread is in `wait`, and will look at `to_wake` when it gets up.
    waits: bool,
    to_wake: Vec<Arc<Sleeper>>,
    bell: Option<Arc<dyn Bell>>,
}

impl Sleeper {
    pub(crate) fn new() -> Arc<Self> {
        // Not one of loom's: it orders nothing.
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let id = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Arc::new(Self { id, state: Mutex::new(State::default()), changed: Condvar::new() })
    }

    /// Wakes whoever waits, or will wait next.
    pub(crate) fn wake(&self) {
        self.wake_and_others(Vec::new());
    }

    /// Wakes whoever waits, and has it wake these. Answers those whom it will not.
    fn wake_and_others(&self, mut others: Vec<Arc<Self>>) -> Vec<Arc<Self>> {
        let mut state = self.state.lock();
        state.woken = true;
        if state.waits {
            state.to_wake.append(&mut others);
        }
        let bell = state.bell.clone();
        drop(state);
        self.changed.notify_all();
        if let Some(bell) = bell {
            // A runtime's code: its panic is not ours, and others are still to be woken.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                bell.ring();
                drop(bell);
            }));
        }
        others
    }

    /// From now on, waking it rings this.
    pub(crate) fn give_bell(&self, bell: Option<Arc<dyn Bell>>) {
        let before = std::mem::replace(&mut self.state.lock().bell, bell);
        // Outside the lock: what is dropped with it may want to wake us.
        drop(before);
    }

    /// Waits until woken, at most so long; `None`: for ever. False: the time is over.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> bool {
        let mut state = self.state.lock();
        state.waits = true;
        let mut is_over = false;
        while !state.woken && !is_over {
            (state, is_over) = self.changed.wait_at_most(state, timeout);
        }
        state.waits = false;
        let woken = std::mem::take(&mut state.woken);
        let others = std::mem::take(&mut state.to_wake);
        drop(state);
        wake_each(others);
        woken
    }
}

/// Wakes all of them, some by others.
fn wake_each(mut sleepers: Vec<Arc<Sleeper>>) {
    while let Some(next) = sleepers.pop() {
        let half = sleepers.split_off(sleepers.len() / 2);
        sleepers.extend(next.wake_and_others(half));
    }
}

/// Those who lie in one shard: by what they wait for, and by number.
type Beds = BTreeMap<Interest, BTreeMap<u64, Arc<Sleeper>>>;

/// The beds of one mark.
#[derive(Debug)]
pub(crate) struct Sleepers {
    /// A bit for each shard in which somebody lies.
    occupied: [AtomicU64; WORDS],
    count: AtomicU64,
    beds: Mutex<HashMap<Shard, Beds>>,
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
    pub(crate) fn lie_down(&self, interest: Interest, sleeper: &Arc<Sleeper>) {
        let shard = interest.shard();
        let mut beds = self.beds.lock();
        let bed = beds.entry(shard).or_default().entry(interest).or_default();
        let before = bed.insert(sleeper.id, Arc::clone(sleeper));
        if let Some(word) = self.occupied.get(shard.word()) {
            word.fetch_or(shard.bit(), Ordering::Relaxed);
        }
        self.count.fetch_add(u64::from(before.is_none()), Ordering::Relaxed);
        drop(beds);
        fence(Ordering::SeqCst);
    }

    /// Takes a registration back, if it was not used up by a wake-up.
    pub(crate) fn get_up(&self, interest: Interest, sleeper: &Sleeper) {
        let mut beds = self.beds.lock();
        let Some(in_shard) = beds.get_mut(&interest.shard()) else { return };
        let Some(bed) = in_shard.get_mut(&interest) else { return };
        if bed.remove(&sleeper.id).is_some() {
            if bed.is_empty() {
                in_shard.remove(&interest);
            }
            self.left(&mut beds, interest.shard(), 1);
        }
    }

    /// So many have left a shard.
    fn left(&self, beds: &mut HashMap<Shard, Beds>, shard: Shard, count: u64) {
        self.count.fetch_sub(count, Ordering::Relaxed);
        if beds.get(&shard).is_some_and(BTreeMap::is_empty) {
            beds.remove(&shard);
            if let Some(word) = self.occupied.get(shard.word()) {
                word.fetch_and(!shard.bit(), Ordering::Relaxed);
            }
        }
    }

    /// Takes those out of a shard who are meant; `None`: everybody.
    fn clear(&self, shard: Shard, meant: Option<Interest>, woken: &mut Vec<Arc<Sleeper>>) {
        let mut beds = self.beds.lock();
        let Some(in_shard) = beds.get_mut(&shard) else { return };
        let before = woken.len();
        match meant {
            // Mostly nobody is: others share the shard.
            Some(meant) => woken.extend(in_shard.remove(&meant).into_iter().flat_map(BTreeMap::into_values)),
            None => woken.extend(std::mem::take(in_shard).into_values().flat_map(BTreeMap::into_values)),
        }
        let count = (woken.len() - before) as u64;
        if count > 0 {
            self.left(&mut beds, shard, count);
        }
    }

    /// True if somebody lies here. Called behind the store of the mark, and a fence.
    pub(crate) fn are_there(&self) -> bool {
        self.count.load(Ordering::Relaxed) != 0
    }

    /// Wakes those who wait for one of these. Called behind the store of the mark.
    #[inline]
    pub(crate) fn wake_those(&self, interests: impl Iterator<Item = Interest>) {
        fence(Ordering::SeqCst);
        if !self.are_there() {
            return;
        }
        let mut woken = Vec::new();
        for interest in interests.filter(|interest| self.is_occupied(interest.shard())) {
            self.clear(interest.shard(), Some(interest), &mut woken);
        }
        // Outside the lock: a woken one may lie down again at once.
        wake_each(woken);
    }

    /// Wakes those who wait for what was touched. Called behind the store of the mark.
    pub(crate) fn wake(&self, touched: &Touched) {
        if let Some(interests) = touched.exact() {
            return self.wake_those(interests.iter().copied());
        }
        fence(Ordering::SeqCst);
        let mut woken = Vec::new();
        for (at, (bits, occupied)) in touched.words().zip(&self.occupied).enumerate() {
            for shard in Shard::of_word(at, bits & occupied.load(Ordering::Relaxed)) {
                self.clear(shard, None, &mut woken);
            }
        }
        wake_each(woken);
    }

    /// Wakes everybody: nothing more is to come, or something that concerns all.
    pub(crate) fn wake_all(&self) {
        self.wake(&Touched::everything());
    }

    fn is_occupied(&self, shard: Shard) -> bool {
        let word = self.occupied.get(shard.word());
        word.is_some_and(|word| word.load(Ordering::Relaxed) & shard.bit() != 0)
    }
}

#[cfg(test)]
#[path = "sleepers_tests.rs"]
mod tests;
