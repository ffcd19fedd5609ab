//! How consumers of topics stand.

use std::fmt;
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
    /// How far the newest record is ahead of that. `None`: it is not known without asking over a network.
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
}

/// The state of one that was told to stop: it is no news.
pub(crate) const STOPPED: &str = "stopped";

/// How far the newest record of its topic is, where that can be told at once.
type Head = Box<dyn Fn() -> Option<u64> + Send + Sync>;

/// What a consumer shows of itself.
pub(crate) struct ConsumerMeter {
    now: Mutex<ConsumerReading>,
    head: Head,
}

/// How consumers stand: all of them in numbers, some by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConsumersNow {
    pub(crate) running: u64,
    pub(crate) halted: u64,
    pub(crate) readings: Vec<ConsumerReading>,
}

impl ConsumerMeter {
    pub(crate) fn shows(&self, change: impl FnOnce(&mut ConsumerReading)) {
        change(&mut self.now.lock());
    }

    fn read(&self) -> ConsumerReading {
        let now = self.now.lock().clone();
        let lag = (self.head)().map(|head| head.saturating_sub(now.position));
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
        let meter = Arc::new(ConsumerMeter { now: Mutex::new(begun), head: Box::new(head) });
        let mut consumers = self.consumers.lock();
        consumers.retain(|known| known.strong_count() > 0);
        consumers.push(Arc::downgrade(&meter));
        meter
    }

    /// How consumers stand now. By name at most so many: first those that do not go on by themselves, then those that fail.
    pub(crate) fn consumers_now(&self, most: usize) -> ConsumersNow {
        let known: Vec<Arc<ConsumerMeter>> = self.consumers.lock().iter().filter_map(Weak::upgrade).collect();
        let mut all: Vec<(ConsumerReading, &ConsumerMeter)> =
            known.iter().map(|known| (known.now.lock().clone(), &**known)).collect();
        all.retain(|(now, _)| now.state != STOPPED);
        all.sort_by_key(|(now, _)| (!now.has_halted, now.stuck == 0));
        let halted = all.iter().filter(|(now, _)| now.has_halted).count() as u64;
        let running = all.len() as u64 - halted;
        let readings = all.iter().take(most).map(|(_, known)| known.read()).collect();
        ConsumersNow { running, halted, readings }
    }
}

impl fmt::Debug for ConsumerMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.now.lock().fmt(f)
    }
}
