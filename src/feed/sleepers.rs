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

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::feed::shard::{Interest, Shard, Touched, WORDS};
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
    /// A thread is in `wait`, and will look at `to_wake` when it gets up.
    waits: bool,
    to_wake: Vec<Arc<Sleeper>>,
    bell: Option<Arc<dyn Bell>>,
}

impl Sleeper {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::default()), changed: Condvar::new() })
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
            bell.ring();
        }
        others
    }

    /// From now on, waking it rings this.
    pub(crate) fn give_bell(&self, bell: Option<Arc<dyn Bell>>) {
        self.state.lock().bell = bell;
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

/// Who lies there, and waits for what.
type Bed = (Interest, Arc<Sleeper>);

/// The beds of one mark.
#[derive(Debug)]
pub(crate) struct Sleepers {
    /// A bit for each shard in which somebody lies.
    occupied: [AtomicU64; WORDS],
    count: AtomicU64,
    beds: Mutex<HashMap<Shard, Vec<Bed>>>,
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
        beds.entry(shard).or_default().push((interest, Arc::clone(sleeper)));
        if let Some(word) = self.occupied.get(shard.word()) {
            word.fetch_or(shard.bit(), Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        drop(beds);
        fence(Ordering::SeqCst);
    }

    /// Takes a registration back, if it was not used up by a wake-up.
    pub(crate) fn get_up(&self, interest: Interest, sleeper: &Arc<Sleeper>) {
        let is_mine = |bed: &Bed| Arc::ptr_eq(&bed.1, sleeper);
        self.clear(&mut self.beds.lock(), interest.shard(), is_mine);
    }

    /// Takes those out of a shard who are meant.
    fn clear(
        &self,
        beds: &mut HashMap<Shard, Vec<Bed>>,
        shard: Shard,
        is_meant: impl FnMut(&Bed) -> bool,
    ) -> Vec<Bed> {
        let Some(bed) = beds.get_mut(&shard) else { return Vec::new() };
        let (out, left): (Vec<Bed>, Vec<Bed>) = std::mem::take(bed).into_iter().partition(is_meant);
        self.count.fetch_sub(out.len() as u64, Ordering::Relaxed);
        if left.is_empty() {
            beds.remove(&shard);
            if let Some(word) = self.occupied.get(shard.word()) {
                word.fetch_and(!shard.bit(), Ordering::Relaxed);
            }
        } else {
            *bed = left;
        }
        out
    }

    /// True if somebody lies here. Called behind the store of the mark, and a fence.
    pub(crate) fn are_there(&self) -> bool {
        self.count.load(Ordering::Relaxed) != 0
    }

    /// Wakes those who wait for what was touched. Called behind the store of the mark.
    #[inline]
    pub(crate) fn wake(&self, touched: &Touched) {
        self.wake_for(|| std::borrow::Cow::Borrowed(touched));
    }

    /// As [`wake`](Self::wake), where nobody needs to know what was touched while nobody sleeps.
    #[inline]
    pub(crate) fn wake_for<'a>(&self, touched: impl FnOnce() -> std::borrow::Cow<'a, Touched>) {
        fence(Ordering::SeqCst);
        if self.are_there() {
            self.wake_now(&touched());
        }
    }

    /// Wakes everybody: nothing more is to come, or something that concerns all.
    pub(crate) fn wake_all(&self) {
        self.wake(&Touched::everything());
    }

    #[inline(never)]
    fn wake_now(&self, touched: &Touched) {
        let mut woken = Vec::new();
        match touched.exact() {
            Some(interests) => {
                for interest in interests.iter().filter(|interest| self.is_occupied(interest.shard())) {
                    let is_meant = |bed: &Bed| bed.0 == *interest;
                    woken.extend(self.clear(&mut self.beds.lock(), interest.shard(), is_meant));
                }
            }
            None => {
                for (at, (bits, occupied)) in touched.words().zip(&self.occupied).enumerate() {
                    for shard in Shard::of_word(at, bits & occupied.load(Ordering::Relaxed)) {
                        woken.extend(self.clear(&mut self.beds.lock(), shard, |_| true));
                    }
                }
            }
        }
        // Outside the lock: a woken one may lie down again at once.
        wake_each(woken.into_iter().map(|(_, sleeper)| sleeper).collect());
    }

    fn is_occupied(&self, shard: Shard) -> bool {
        let word = self.occupied.get(shard.word());
        word.is_some_and(|word| word.load(Ordering::Relaxed) & shard.bit() != 0)
    }
}

#[cfg(test)]
#[path = "sleepers_tests.rs"]
mod tests;
