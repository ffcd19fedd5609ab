//! How consumers of topics stand.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use serde::Serialize;

use crate::meter::Meter;

/// How a consumer stands that runs in this process, or ran and has ended by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConsumerReading {
    /// The consumer's name.
    pub consumer: String,
    /// Its stream.
    pub stream: String,
    /// The key of its topic; `None`: it consumes all of the stream.
    pub key: Option<Vec<u8>>,
    /// Its part of the entities, of so many.
    pub shard: Option<(u32, u32)>,
    /// Everything up to here is done.
    pub position: u64,
    /// How far the newest record is ahead of that: now, or across a network when the consumer asked last, which it does every few
    /// seconds between records. `None`: it has not asked yet.
    pub lag: Option<u64>,
    /// What it is doing, in one word, as of [`ConsumerState`](crate::ConsumerState).
    pub state: &'static str,
    /// How often the record failed at which it stands.
    pub stuck: u32,
    /// Attempts that failed, in this process.
    pub errors: u64,
    /// Records that were set aside.
    pub poisoned: u64,
    /// Records that nobody can have written.
    pub undecodable: u64,
    /// Times that it stood before a record that this build cannot read, in this process.
    pub forward_incompatible: u64,
    /// Records that are parked.
    pub parked: u64,
    /// It does not go on by itself: it halted, or is suspended.
    pub has_halted: bool,
    /// Its backplane answered when it last asked.
    pub is_up: bool,
    /// How often its feed was subscribed to anew behind a backplane that did not answer, in this process.
    pub reconnects: u64,
}

/// The state of one that was told to stop: it is no news.
pub(crate) const STOPPED: &str = "stopped";

/// How far the newest record of its topic is, where that can be told at once.
type Head = Box<dyn Fn() -> Option<u64> + Send + Sync>;

/// What a consumer shows of itself.
pub(crate) struct ConsumerMeter {
    now: Mutex<ConsumerReading>,
    head: Head,
    /// The newest record that it was told of, or that it has not asked.
    head_seen: AtomicU64,
    /// Of all consumers.
    reconnects: Arc<AtomicU64>,
}

/// In the place of a head: it was not asked for, or it is of another era than the position.
const NOT_ASKED: u64 = u64::MAX;
const OF_ANOTHER_ERA: u64 = u64::MAX - 1;

/// How consumers stand: all of them in numbers, some by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConsumersNow {
    pub(crate) running: u64,
    pub(crate) halted: u64,
    pub(crate) down: u64,
    pub(crate) readings: Vec<ConsumerReading>,
}

impl ConsumerMeter {
    pub(crate) fn shows(&self, change: impl FnOnce(&mut ConsumerReading)) {
        change(&mut self.now.lock());
    }

    /// Notes whether its backplane answered, and how often its feed was subscribed to anew until now.
    pub(crate) fn has_fed(&self, is_up: bool, reconnects: u64) {
        let mut now = self.now.lock();
        now.is_up = is_up;
        let before = std::mem::replace(&mut now.reconnects, reconnects);
        self.reconnects.fetch_add(reconnects.saturating_sub(before), Ordering::Relaxed);
    }

    pub(crate) fn sees_head(&self, head: u64) {
        self.head_seen.store(head, Ordering::Relaxed);
    }

    /// Offsets have come to mean something else. The position is of what they meant before, or it is not.
    pub(crate) fn forgets_head(&self, is_behind: bool) {
        self.head_seen.store(if is_behind { OF_ANOTHER_ERA } else { NOT_ASKED }, Ordering::Relaxed);
    }

    fn read(&self) -> ConsumerReading {
        let now = self.now.lock().clone();
        let head = match self.head_seen.load(Ordering::Relaxed) {
            OF_ANOTHER_ERA => None,
            NOT_ASKED => (self.head)(),
            seen => (self.head)().or(Some(seen)),
        };
        let lag = head.map(|head| head.saturating_sub(now.position));
        ConsumerReading { lag, ..now }
    }
}

impl Meter {
    /// Takes part in what is told, as long as the answer lives and does not say that it was stopped.
    pub(crate) fn add_consumer(
        &self,
        begun: ConsumerReading,
        head: impl Fn() -> Option<u64> + Send + Sync + 'static,
    ) -> Arc<ConsumerMeter> {
        let (head_seen, reconnects) = (AtomicU64::new(NOT_ASKED), Arc::clone(&self.consumer_reconnects));
        let meter = ConsumerMeter { now: Mutex::new(begun), head: Box::new(head), head_seen, reconnects };
        let meter = Arc::new(meter);
        let mut consumers = self.consumers.lock();
        consumers.retain(|known| known.strong_count() > 0);
        consumers.push(Arc::downgrade(&meter));
        meter
    }

    /// How consumers stand now. By name at most so many: first those that do not go on by themselves, then those that fail or are cut off.
    pub(crate) fn consumers_now(&self, most: usize) -> ConsumersNow {
        let known: Vec<Arc<ConsumerMeter>> = self.consumers.lock().iter().filter_map(Weak::upgrade).collect();
        let mut all: Vec<(ConsumerReading, &ConsumerMeter)> =
            known.iter().map(|known| (known.now.lock().clone(), &**known)).collect();
        all.retain(|(now, _)| now.state != STOPPED);
        all.sort_by_key(|(now, _)| (!now.has_halted, now.is_up && now.stuck == 0));
        let halted = all.iter().filter(|(now, _)| now.has_halted).count() as u64;
        let down = all.iter().filter(|(now, _)| !now.is_up).count() as u64;
        let running = all.len() as u64 - halted;
        let readings = all.iter().take(most).map(|(_, known)| known.read()).collect();
        ConsumersNow { running, halted, down, readings }
    }
}

impl fmt::Debug for ConsumerMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.now.lock().fmt(f)
    }
}
