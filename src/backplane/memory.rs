//! A backplane in memory: for tests of what runs on one, and the oracle of the others.
//!
//! It shares nothing with the journal, so that a mistake has to be made twice to go unnoticed. Its offsets
//! have holes on purpose: what counts on their being dense fails here first.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

use parking_lot::{Mutex, MutexGuard};

use crate::backplane::check::{check_broadcast, check_filter, check_key, check_name, check_steps};
use crate::backplane::feed::Feed;
use crate::backplane::listen::{self, Listener};
use crate::backplane::name::{Era, Filter, Offset, Revision, Stamp, closed, lost};
use crate::backplane::record::{CellState, StreamRecord};
use crate::backplane::step::{Append, Done, Put, Step, StepDone};
use crate::backplane::{Backplane, Compactor, PAYLOAD_BYTES_PORTABLE};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::feed::hub::Hub;

/// A backplane that forgets everything with its last handle.
///
/// It remembers every stamp. [`reopened`](Self::reopened) is what opening a durable one again is.
///
/// ```
/// use esker::backplane::{Backplane, InMemory, Put, Revision, Stamp, Step, WriterId};
/// # fn main() -> esker::Result<()> {
/// let plane = InMemory::new();
/// let stamp = Stamp::new(WriterId::random()?, 1);
/// let done = plane.commit(&[Step::Put(Put::new(b"session 7", Revision::NEVER, Some(b"{}"), stamp))])?;
/// plane.close()?;
///
/// let again = plane.reopened();
/// assert_eq!(again.load(b"session 7")?.revision, done.revision(0).unwrap());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct InMemory {
    shared: Arc<Shared>,
    door: Arc<Door>,
    atomic: bool,
}

/// What handles share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    era: Era,
    hub: Arc<Hub>,
}

/// What ends with one handle.
#[derive(Debug, Default)]
struct Door {
    closed: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct State {
    /// The last offset that was given, over all streams.
    last: u64,
    streams: BTreeMap<String, Stream>,
    cells: BTreeMap<Vec<u8>, CellState>,
    done: BTreeMap<Name, (Content, StepDone)>,
    /// The feeds that wait, by number.
    sleeping: BTreeMap<u64, Waker>,
}

#[derive(Debug, Default)]
struct Stream {
    records: BTreeMap<Offset, StreamRecord>,
    topics: BTreeMap<Vec<u8>, Topic>,
}

#[derive(Debug, Default)]
struct Topic {
    offsets: BTreeSet<Offset>,
    /// The last record that was dropped.
    hidden: Offset,
}

/// How things were before a step.
struct Before {
    name: Name,
    was_done: bool,
    last: u64,
    cell: Option<CellState>,
}

/// What a step is known by: its stream, if it appends, its key and its stamp.
type Name = (Option<String>, Vec<u8>, Stamp);
/// What it does, to tell whether it is the same again.
type Content = (Option<Vec<u8>>, u16);

impl Default for InMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl InMemory {
    /// One with nothing in it, whose commits are atomic.
    #[must_use]
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let era = Era::from_raw(u128::from(NEXT.fetch_add(1, Ordering::Relaxed)));
        Self {
            shared: Arc::new(Shared { state: Mutex::default(), era, hub: Arc::default() }),
            door: Arc::default(),
            atomic: true,
        }
    }

    /// One whose commits are not [atomic](Backplane::atomic): a step that fails leaves those before it done.
    #[must_use]
    pub fn stepwise() -> Self {
        Self { atomic: false, ..Self::new() }
    }

    /// Another handle of the same: what was committed is there, and it is open though this one may be closed. What one
    /// broadcasts the others hear.
    #[must_use]
    pub fn reopened(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), door: Arc::default(), atomic: self.atomic }
    }

    fn check_open(&self, doing: &str) -> Result<()> {
        if self.door.closed.load(Ordering::Acquire) { Err(closed(doing)) } else { Ok(()) }
    }

    fn state(&self, doing: &str) -> Result<MutexGuard<'_, State>> {
        self.check_open(doing)?;
        Ok(self.shared.state.lock())
    }
}

impl State {
    fn step(&mut self, step: &Step<'_>) -> Result<StepDone> {
        let (name, content) = known_by(step);
        if let Some((before, done)) = self.done.get(&name) {
            if *before != content {
                let size = |content: &Content| content.0.as_ref().map_or(0, Vec::len);
                return Err(Error::new(ErrorKind::KeyReused, format!("commit with stamp {}", name.2)).sides(
                    format!("{} bytes as before", size(before)),
                    format!("{} others", size(&content)),
                ));
            }
            return Ok(repeated(*done));
        }
        let done = match step {
            Step::Append(append) => StepDone::Appended { offset: self.append(append)?, repeated: false },
            Step::Put(put) => StepDone::Put { revision: self.put(put)?, repeated: false },
        };
        self.done.insert(name, (content, done));
        Ok(done)
    }

    fn before(&self, step: &Step<'_>) -> Before {
        let (name, _) = known_by(step);
        let cell = name.0.is_none().then(|| self.cells.get(&name.1).cloned()).flatten();
        Before { was_done: self.done.contains_key(&name), last: self.last, cell, name }
    }

    /// Takes back a step, done or not. Those behind it are taken back.
    fn restore(&mut self, before: Before) {
        let Before { name, was_done, last, cell } = before;
        if was_done {
            return;
        }
        self.done.remove(&name);
        match name {
            (Some(stream), key, _) if self.last > last => {
                let appended = Offset::from_raw(self.last);
                let Some(stream) = self.streams.get_mut(&stream) else { return };
                stream.records.remove(&appended);
                stream.topics.get_mut(&key).iter_mut().for_each(|topic| _ = topic.offsets.remove(&appended));
                self.last = last;
            }
            (None, key, _) => match cell {
                Some(cell) => _ = self.cells.insert(key, cell),
                None => _ = self.cells.remove(&key),
            },
            _ => {}
        }
    }

    fn append(&mut self, append: &Append<'_>) -> Result<Offset> {
        let head = self.head(Filter::topic(append.stream, append.key));
        if let Some(expected) = append.expect.filter(|expected| *expected != head) {
            let doing = format!("append to {}", Filter::topic(append.stream, append.key));
            return Err(Error::new(ErrorKind::Conflict, doing).sides(expected, head));
        }
        // Holes of different sizes.
        self.last += 1 + (self.last ^ append.key.len() as u64) % 3;
        let offset = Offset::from_raw(self.last);
        let stream = self.streams.entry(append.stream.to_owned()).or_default();
        let record =
            StreamRecord::new(offset, Some(append.stamp), Clock::System.now(), append.key, append.payload);
        stream.records.insert(offset, record.with_schema(append.schema));
        stream.topics.entry(append.key.to_vec()).or_default().offsets.insert(offset);
        Ok(offset)
    }

    fn put(&mut self, put: &Put<'_>) -> Result<Revision> {
        let known = self.cells.get(put.cell).map_or(Revision::NEVER, |cell| cell.revision);
        if known != put.expect {
            let cell = String::from_utf8_lossy(put.cell);
            return Err(Error::new(ErrorKind::Conflict, format!("change the cell {}", cell.escape_debug()))
                .sides(format!("revision {}", put.expect), format!("revision {known}")));
        }
        let revision = Revision::from_raw(known.raw() + 1);
        self.cells.insert(put.cell.to_vec(), CellState::new(put.value.map(<[u8]>::to_vec), revision));
        Ok(revision)
    }

    fn topic(&self, filter: Filter<'_>) -> Option<&Topic> {
        self.streams.get(filter.stream)?.topics.get(filter.key?)
    }

    fn head(&self, filter: Filter<'_>) -> Offset {
        let newest = match filter.key {
            Some(_) => self.topic(filter).and_then(|topic| topic.offsets.last().copied()),
            None => {
                self.streams.get(filter.stream).and_then(|stream| stream.records.keys().next_back().copied())
            }
        };
        newest.unwrap_or_default()
    }

    fn lowest(&self, filter: Filter<'_>) -> Offset {
        let oldest = match filter.key {
            Some(_) => self.topic(filter).and_then(|topic| topic.offsets.first().copied()),
            None => self.streams.get(filter.stream).and_then(|stream| stream.records.keys().next().copied()),
        };
        oldest.unwrap_or_default()
    }

    fn check_not_lost(&self, filter: Filter<'_>, from: Offset) -> Result<()> {
        match self.topic(filter) {
            Some(topic) if from < topic.hidden => Err(lost(filter, from, self.lowest(filter))),
            _ => Ok(()),
        }
    }

    fn next_behind(&self, filter: Filter<'_>, from: Offset) -> Option<StreamRecord> {
        let stream = self.streams.get(filter.stream)?;
        let behind = (Excluded(from), Unbounded);
        match filter.key {
            Some(key) => stream.records.get(stream.topics.get(key)?.offsets.range(behind).next()?).cloned(),
            None => stream.records.range(behind).next().map(|(_, record)| record.clone()),
        }
    }
}

fn known_by(step: &Step<'_>) -> (Name, Content) {
    match step {
        Step::Append(append) => {
            let name = (Some(append.stream.to_owned()), append.key.to_vec(), append.stamp);
            (name, (Some(append.payload.to_vec()), append.schema))
        }
        Step::Put(put) => ((None, put.cell.to_vec(), put.stamp), (put.value.map(<[u8]>::to_vec), 0)),
    }
}

fn repeated(done: StepDone) -> StepDone {
    match done {
        StepDone::Appended { offset, .. } => StepDone::Appended { offset, repeated: true },
        StepDone::Put { revision, .. } => StepDone::Put { revision, repeated: true },
    }
}

impl Backplane for InMemory {
    fn atomic(&self) -> bool {
        self.atomic
    }

    fn answers_at_once(&self) -> bool {
        // One that goes step by step stands for one across a network.
        self.atomic
    }

    fn commit(&self, steps: &[Step<'_>]) -> Result<Done> {
        check_steps(steps, PAYLOAD_BYTES_PORTABLE)?;
        let mut state = self.state("commit")?;
        let mut undo = Vec::new();
        let mut each = |step| {
            undo.push(state.before(step));
            state.step(step)
        };
        let done: Result<Vec<StepDone>> = steps.iter().map(&mut each).collect();
        if done.is_err() && self.atomic {
            undo.into_iter().rev().for_each(|before| state.restore(before));
        }
        let wakers = std::mem::take(&mut state.sleeping);
        drop(state);
        // Somebody else's code, under no lock.
        wakers.into_values().for_each(Waker::wake);
        done.map(Done::new)
    }

    fn subscribe(&self, filter: Filter<'_>, from: Offset) -> Result<Box<dyn Feed>> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        check_filter(filter)?;
        let state = self.state("subscribe")?;
        if from.raw() > state.last {
            return Err(Error::new(ErrorKind::InvalidInput, format!("read {filter} behind an offset"))
                .sides(format!("one up to {}", state.last), from));
        }
        state.check_not_lost(filter, from)?;
        Ok(Box::new(MemoryFeed {
            shared: Arc::clone(&self.shared),
            door: Arc::clone(&self.door),
            stream: filter.stream.to_owned(),
            key: filter.key.map(<[u8]>::to_vec),
            position: from,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
        }))
    }

    fn head(&self, filter: Filter<'_>) -> Result<Offset> {
        check_filter(filter)?;
        Ok(self.state("look up the head")?.head(filter))
    }

    fn lowest_retained(&self, filter: Filter<'_>) -> Result<Offset> {
        check_filter(filter)?;
        Ok(self.state("look up the oldest record")?.lowest(filter))
    }

    fn load(&self, cell: &[u8]) -> Result<CellState> {
        check_key("cell", cell)?;
        Ok(self.state("load a cell")?.cells.get(cell).cloned().unwrap_or_default())
    }

    fn broadcast(&self, channel: &str, bytes: &[u8]) -> Result<usize> {
        check_broadcast(channel, bytes)?;
        self.check_open("broadcast")?;
        listen::send(&self.shared.hub, channel, bytes)
    }

    fn listen(&self, channel: &str) -> Result<Box<dyn Listener>> {
        check_name("channel", channel)?;
        listen::listen(&self.shared.hub, channel, &self.door.closed)
    }

    fn era(&self) -> Result<Era> {
        self.state("look up the era").map(|_| self.shared.era)
    }

    fn close(&self) -> Result<()> {
        self.door.closed.store(true, Ordering::Release);
        self.shared.hub.tell_ended();
        // Those of other handles look, and sleep again.
        let wakers = std::mem::take(&mut self.shared.state.lock().sleeping);
        wakers.into_values().for_each(Waker::wake);
        Ok(())
    }

    fn compactor(&self) -> Option<&dyn Compactor> {
        Some(self)
    }
}

impl Compactor for InMemory {
    fn compact(&self, stream: &str, key: &[u8], before: Offset) -> Result<()> {
        check_filter(Filter::topic(stream, key))?;
        let mut state = self.state("compact")?;
        let Some(Stream { records, topics }) = state.streams.get_mut(stream) else { return Ok(()) };
        let Some(topic) = topics.get_mut(key) else { return Ok(()) };
        while let Some(oldest) = topic.offsets.first().copied()
            && oldest < before
            && topic.offsets.len() > 1
        {
            topic.offsets.remove(&oldest);
            records.remove(&oldest);
            topic.hidden = oldest;
        }
        // A feed that stands before what was dropped is told.
        let wakers = std::mem::take(&mut state.sleeping);
        drop(state);
        wakers.into_values().for_each(Waker::wake);
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryFeed {
    shared: Arc<Shared>,
    door: Arc<Door>,
    stream: String,
    key: Option<Vec<u8>>,
    position: Offset,
    number: u64,
}

impl Feed for MemoryFeed {
    fn poll(&mut self, waker: &Waker) -> Result<Option<StreamRecord>> {
        let mut state = self.shared.state.lock();
        // Under the lock: a close wakes who sleeps behind it.
        if self.door.closed.load(Ordering::Acquire) {
            return Err(closed("read on"));
        }
        let filter = Filter { stream: &self.stream, key: self.key.as_deref() };
        state.check_not_lost(filter, self.position)?;
        match state.next_behind(filter, self.position) {
            Some(record) => {
                self.position = record.offset();
                Ok(Some(record))
            }
            None => {
                let before = state.sleeping.insert(self.number, waker.clone());
                drop(state);
                drop(before);
                Ok(None)
            }
        }
    }

    fn position(&self) -> Offset {
        self.position
    }
}

impl Drop for MemoryFeed {
    fn drop(&mut self) {
        let gone = self.shared.state.lock().sleeping.remove(&self.number);
        drop(gone);
    }
}
