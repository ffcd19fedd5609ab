//! The end of a stream as it grows: one consumer, whose records go to all feeds of the stream and its topics.
//!
//! A tail begins at the end of the stream, and lives as long as somebody reads. What stands before its beginning each feed
//! catches up with by itself ([`feed`](super::feed)). Whatever goes wrong ends the tail and all of its feeds; whoever reads
//! subscribes again from where it stood, and so everything is looked at anew: the era, the floors, the end of the log.
//!
//! A consumer can fall silent without an error: when its stream is deleted and made again, or the server has forgotten it. So a
//! watchdog compares what the server says of the stream with the era and the place of the tail.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::backplane::name::{Era, closed};
use crate::backplane::nats::consumer::{Consumer, Delivered};
use crate::backplane::nats::server::Server;
use crate::backplane::record::StreamRecord;
use crate::error::{Error, ErrorKind, Result};

/// A feed that is not read from is told so when so many records wait for it,
const QUEUE_RECORDS: usize = 16 << 10;
/// or so many bytes, and at least one record.
const QUEUE_BYTES: usize = 16 << 20;
/// How often it is looked whether the connection is there: nothing is asked for that.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Why feeds end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) kind: ErrorKind,
    pub(super) text: String,
}

impl End {
    fn of(error: &Error) -> Self {
        Self { kind: error.kind(), text: error.to_string() }
    }

    fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    pub(super) fn error(&self) -> Error {
        match self.kind {
            ErrorKind::Closed => closed("read on"),
            kind => Error::new(kind, "read on").because(self.text.clone()),
        }
    }
}

/// What waits for one feed.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    records: VecDeque<StreamRecord>,
    bytes: usize,
    ended: Option<End>,
    waker: Option<Waker>,
}

impl Queue {
    /// The next record, or why there is none any more. Where there is neither, the waker is kept.
    pub(super) fn poll(&self, waker: &Waker) -> Result<Option<StreamRecord>, End> {
        let mut state = self.state.lock();
        // A close takes effect at once; any other end behind what came before it.
        if let Some(end) = state.ended.clone().filter(|end| end.kind == ErrorKind::Closed) {
            return Err(end);
        }
        if let Some(record) = state.records.pop_front() {
            state.bytes -= record.payload().len();
            return Ok(Some(record));
        }
        if let Some(end) = state.ended.clone() {
            return Err(end);
        }
        let before = state.waker.replace(waker.clone());
        drop(state);
        drop(before);
        Ok(None)
    }

    /// Keeps a waker, unless it has ended.
    pub(super) fn watch(&self, waker: &Waker) -> Result<(), End> {
        let mut state = self.state.lock();
        if let Some(end) = state.ended.clone() {
            return Err(end);
        }
        let before = state.waker.replace(waker.clone());
        drop(state);
        drop(before);
        Ok(())
    }

    pub(super) fn push(&self, record: StreamRecord) {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return;
        }
        if state.records.len() >= QUEUE_RECORDS || state.bytes >= QUEUE_BYTES {
            drop(state);
            self.end(End::new(ErrorKind::Disconnected, "it fell too far behind the end of the stream"));
            return;
        }
        state.bytes += record.payload().len();
        state.records.push_back(record);
        wake(state);
    }

    pub(super) fn end(&self, end: End) {
        let mut state = self.state.lock();
        let is_worse = end.kind == ErrorKind::Closed;
        if state.ended.is_none() || is_worse {
            state.ended = Some(end);
        }
        wake(state);
    }

    /// Lets the feed look again.
    pub(super) fn wake(&self) {
        wake(self.state.lock());
    }
}

fn wake(mut state: parking_lot::MutexGuard<'_, Waiting>) {
    let waker = state.waker.take();
    drop(state);
    // Somebody else's code, under no lock of the queue.
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// One consumer, and who reads from it.
#[derive(Debug)]
pub(super) struct Tail {
    readers: Arc<Readers>,
    tasks: [AbortHandle; 2],
}

/// Who reads from a tail.
#[derive(Debug)]
pub(super) struct Readers {
    era: Era,
    subject: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Everything up to here was given to those who read.
    at: u64,
    by_key: HashMap<Vec<u8>, Vec<Arc<Queue>>>,
    of_all: Vec<Arc<Queue>>,
    ended: Option<End>,
}

impl Tail {
    /// Reads what comes behind a number.
    pub(super) fn start(
        server: &Server,
        consumer: Consumer,
        era: Era,
        subject: String,
        at: u64,
        watch_every: Duration,
    ) -> Self {
        let state = State { at, by_key: HashMap::new(), of_all: Vec::new(), ended: None };
        let readers = Arc::new(Readers { era, subject, state: Mutex::new(state) });
        let watchdog = Watchdog {
            connects: server.connects(),
            server: server.clone(),
            readers: Arc::clone(&readers),
            every: watch_every,
            seen: 0,
            owed: 0,
        };
        let reading = tokio::spawn(read(Arc::clone(&readers), consumer)).abort_handle();
        let watching = tokio::spawn(watchdog.run()).abort_handle();
        Self { readers, tasks: [reading, watching] }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.readers.state.lock().ended.is_some()
    }

    pub(super) fn era(&self) -> Era {
        self.readers.era
    }

    /// Another who reads a topic, or all. Answers behind which number it is given what comes.
    pub(super) fn attach(&self, key: Option<&[u8]>, queue: &Arc<Queue>) -> u64 {
        let mut state = self.readers.state.lock();
        match key {
            Some(key) => state.by_key.entry(key.to_vec()).or_default().push(Arc::clone(queue)),
            None => state.of_all.push(Arc::clone(queue)),
        }
        let at = state.at;
        let ended = state.ended.clone();
        drop(state);
        ended.into_iter().for_each(|end| queue.end(end));
        at
    }

    pub(super) fn detach(&self, key: Option<&[u8]>, queue: &Arc<Queue>) {
        let mut state = self.readers.state.lock();
        let is_other = |other: &Arc<Queue>| !Arc::ptr_eq(other, queue);
        let Some(key) = key else {
            state.of_all.retain(is_other);
            return;
        };
        if let Some(queues) = state.by_key.get_mut(key) {
            queues.retain(is_other);
            if queues.is_empty() {
                state.by_key.remove(key);
            }
        }
    }

    pub(super) fn end(&self, kind: ErrorKind) {
        self.readers.end(&End::new(kind, ""));
    }

    /// Lets those who read a topic look at its floor.
    pub(super) fn wake(&self, key: &[u8]) {
        let queues = self.readers.state.lock().by_key.get(key).cloned();
        queues.into_iter().flatten().for_each(|queue| queue.wake());
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Readers {
    fn give(&self, delivered: Delivered) {
        let (of_topic, of_all) = {
            let mut state = self.state.lock();
            // What comes again has been given.
            if delivered.sequence <= state.at {
                return;
            }
            state.at = delivered.sequence;
            // Under the lock: whoever is attached behind this does not get it, and reads it itself.
            let of_topic = delivered.key.and_then(|key| state.by_key.get(&key).cloned()).unwrap_or_default();
            (of_topic, state.of_all.clone())
        };
        let queues = of_topic.iter().chain(&of_all);
        match delivered.record {
            Ok(record) => queues.for_each(|queue| queue.push(record.clone())),
            // The end of those who would get it, and of nobody else.
            Err(error) => queues.for_each(|queue| queue.end(End::of(&error))),
        }
    }

    fn end(&self, end: &End) {
        let mut state = self.state.lock();
        if state.ended.is_none() || end.kind == ErrorKind::Closed {
            state.ended = Some(end.clone());
        }
        let queues: Vec<_> = state.by_key.values().flatten().chain(&state.of_all).cloned().collect();
        drop(state);
        queues.iter().for_each(|queue| queue.end(end.clone()));
    }
}

async fn read(readers: Arc<Readers>, mut consumer: Consumer) {
    loop {
        match consumer.next().await {
            Ok(delivered) => readers.give(delivered),
            Err(error) => return readers.end(&End::of(&error)),
        }
    }
}

/// Notices what a consumer does not say.
struct Watchdog {
    server: Server,
    readers: Arc<Readers>,
    every: Duration,
    /// How often the client had connected when the tail began: a consumer does not outlive its connection for sure.
    connects: Option<u64>,
    /// Where the tail was at the last look, and where the stream was: it has to come on until the next one.
    seen: u64,
    owed: u64,
}

impl Watchdog {
    async fn run(mut self) {
        let pause = LOOK_EVERY.min(self.every);
        let (mut ticks, mut silent) = (tokio::time::interval(pause), Duration::ZERO);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            silent += pause;
            let looked = match self.look_at_the_connection() {
                Ok(()) if silent >= self.every => {
                    silent = Duration::ZERO;
                    self.look_at_the_stream().await
                }
                looked => looked,
            };
            if let Err(end) = looked {
                return self.readers.end(&end);
            }
        }
    }

    fn look_at_the_connection(&self) -> Result<(), End> {
        let found = self.server.connects();
        if found.is_some() && found == self.connects {
            return Ok(());
        }
        Err(End::new(ErrorKind::Disconnected, "the connection to the server was lost"))
    }

    async fn look_at_the_stream(&mut self) -> Result<(), End> {
        // Before it is asked: what comes meanwhile is no reason to believe that the stream is shorter.
        let at = self.readers.state.lock().at;
        let found = async {
            let info = self.server.info(&self.server.names.stream).await?;
            let cells = self.server.info(&self.server.names.cells()).await?;
            let newest = self.server.last(&self.server.names.stream, &self.readers.subject).await?;
            Ok::<_, Error>((super::server::era_of(&info, &cells), info.state.last_sequence, newest))
        };
        let (era, last, newest) = found.await.map_err(|error| End::of(&error))?;
        if era != self.readers.era {
            return Err(End::new(ErrorKind::EraChanged, format!("era {} is {era} now", self.readers.era)));
        }
        if last < at {
            let text = format!("the stream ends at {last}, and was read up to {at}");
            return Err(End::new(ErrorKind::EraChanged, text));
        }
        if at < self.owed && at == self.seen {
            let text = format!("the consumer is silent at {at}, and the stream has {}", self.owed);
            return Err(End::new(ErrorKind::Disconnected, text));
        }
        self.seen = at;
        self.owed = newest.map_or(0, |message| message.sequence);
        Ok(())
    }
}
