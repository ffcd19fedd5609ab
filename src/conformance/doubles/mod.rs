//! Backplanes around another one: some do what a network does, and keep the contract; some break it, to show that this is
//! found.
//!
//! Whatever runs on a backplane is to run on the first kind as on none; of the second kind it has to notice.

mod fault;
mod feed;
mod listening;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

pub use crate::conformance::doubles::fault::Fault;

use crate::backplane::{
    Append, Backplane, CellState, Compactor, DEAD_STREAM, Done, Era, Feed, Filter, IMAGES_STREAM, Listener,
    Offset, PAYLOAD_BYTES_PORTABLE, Put, Revision, Stamp, Step, StepDone, WriterId,
};
use crate::conformance::Bench;
use crate::conformance::doubles::feed::DoubleFeed;
use crate::conformance::doubles::listening::{Follower, Listening, Mailbox};
use crate::conformance::random::Random;
use crate::error::{Error, ErrorKind, Result};

/// A bench whose backplanes are doubles of another's.
pub struct Doubles<'a> {
    bench: &'a dyn Bench,
    fault: Fault,
    random: Mutex<Random>,
    /// What the last double was made around, to be killed.
    around: Mutex<Option<Arc<dyn Backplane>>>,
}

impl<'a> Doubles<'a> {
    /// Doubles of what a bench opens. What they do, and when, is made from a seed.
    #[must_use]
    pub fn new(bench: &'a dyn Bench, fault: Fault, seed: u64) -> Self {
        Self { bench, fault, random: Mutex::new(Random::new(seed)), around: Mutex::default() }
    }

    fn around(&self, plane: Arc<dyn Backplane>) -> Arc<dyn Backplane> {
        let seed = self.random.lock().next();
        *self.around.lock() = Some(Arc::clone(&plane));
        Arc::new(Double::new(plane, self.fault, seed))
    }
}

impl Bench for Doubles<'_> {
    fn open(&self) -> Arc<dyn Backplane> {
        *self.around.lock() = None;
        self.around(self.bench.open())
    }

    fn kill(&self, plane: Arc<dyn Backplane>) -> Arc<dyn Backplane> {
        drop(plane);
        let inner = self.around.lock().take();
        self.around(inner.map_or_else(|| self.bench.open(), |inner| self.bench.kill(inner)))
    }

    fn open_around(&self, put: &dyn Fn(Arc<dyn Backplane>) -> Arc<dyn Backplane>) -> Arc<dyn Backplane> {
        *self.around.lock() = None;
        self.around(self.bench.open_around(put))
    }

    fn open_beside(&self, plane: &Arc<dyn Backplane>) -> Arc<dyn Backplane> {
        let around = self.around.lock().clone();
        let Some(around) = around else { return Arc::clone(plane) };
        let seed = self.random.lock().next();
        Arc::new(Double::new(self.bench.open_beside(&around), self.fault, seed))
    }
}

impl fmt::Debug for Doubles<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Doubles({:?})", self.fault)
    }
}

/// A backplane around another one.
#[derive(Debug)]
pub struct Double {
    inner: Arc<dyn Backplane>,
    fault: Fault,
    random: Mutex<Random>,
    state: Arc<State>,
}

/// What a double remembers, and forgets when it is opened again.
#[derive(Debug, Default)]
struct State {
    /// How often streams were made anew.
    made_anew: AtomicU64,
    /// So many commits in a row are still refused.
    refuses: AtomicU64,
    newest_payload: Mutex<Vec<u8>>,
    /// Of topics, by stream and key: nothing before is delivered.
    floors: Mutex<BTreeMap<(String, Vec<u8>), Offset>>,
    /// Where each stamp of a topic was delivered first.
    delivered: Mutex<BTreeMap<Stamped, Offset>>,
    /// What cells hold, and who wrote it.
    cells: Mutex<BTreeMap<Vec<u8>, (CellState, Stamp)>>,
    era: Mutex<Option<Era>>,
    /// Images up to here are of before it was opened.
    images_before: Offset,
    /// So many feeds it has ended.
    disconnects: AtomicU64,
    /// Those who listen, with what they have not taken.
    mailboxes: Mutex<Vec<Weak<Mailbox>>>,
    /// Those who follow a stream, or one topic of it.
    followers: Mutex<Vec<Followed>>,
}

/// A stream, or one topic of it, and what was appended for who follows that.
type Followed = (String, Option<Vec<u8>>, Weak<Mailbox>);

/// A topic, a writer and its number.
type Stamped = (Vec<u8>, WriterId, u64);

/// More than a close may take, and less than anybody waits for what never comes.
const SLOW_CLOSE: Duration = Duration::from_millis(150);

/// More than whoever is careful repeats a call.
const REFUSALS: u64 = 20;

impl Double {
    /// A double of a backplane.
    #[must_use]
    pub fn new(inner: Arc<dyn Backplane>, fault: Fault, seed: u64) -> Self {
        let mut state = State::default();
        if fault == Fault::ImagesInMemory {
            state.images_before = inner.head(Filter::stream(IMAGES_STREAM)).unwrap_or_default();
        }
        Self { inner, fault, random: Mutex::new(Random::new(seed)), state: Arc::new(state) }
    }

    /// How many feeds it has ended with `Disconnected`.
    pub(super) fn disconnects(&self) -> u64 {
        self.state.disconnects.load(Ordering::Relaxed)
    }

    fn one_in(&self, times: usize) -> bool {
        self.random.lock().one_in(times)
    }

    /// Says that the connection is gone, now and then, before or behind what is asked for.
    fn blips<T>(&self, call: impl Fn() -> Result<T>) -> Result<T> {
        if self.fault != Fault::Blip || !self.one_in(4) {
            return call();
        }
        if self.one_in(2) {
            // A close is no matter of the connection.
            call()?;
        }
        self.inner.era()?;
        Err(Error::new(ErrorKind::Disconnected, "reach the backplane"))
    }

    fn name(&self, stream: &str) -> String {
        match self.state.made_anew.load(Ordering::Relaxed) {
            0 => stream.to_owned(),
            times => format!("{stream}-{times}"),
        }
    }

    fn renamed<T>(&self, filter: Filter<'_>, call: impl Fn(Filter<'_>) -> Result<T>) -> Result<T> {
        let name = self.name(filter.stream);
        self.blips(|| call(Filter { stream: &name, key: filter.key }))
    }

    fn floor(&self, stream: &str, key: &[u8]) -> Offset {
        let floors = self.state.floors.lock();
        floors.get(&(stream.to_owned(), key.to_vec())).copied().unwrap_or_default()
    }

    /// Under no lock, as whoever is waited for may not come.
    fn waits_for_followers(&self, append: &Append<'_>) {
        let mut followers = self.state.followers.lock();
        followers.retain(|(.., mailbox)| mailbox.strong_count() > 0);
        let follows = |stream: &str, key: &Option<Vec<u8>>| {
            stream == append.stream && key.as_ref().is_none_or(|key| key == append.key)
        };
        let concerned = followers.iter().filter(|(stream, key, _)| follows(stream, key));
        let mailboxes: Vec<Arc<Mailbox>> = concerned.filter_map(|(.., mailbox)| mailbox.upgrade()).collect();
        drop(followers);
        mailboxes.iter().for_each(|mailbox| mailbox.put());
    }

    fn follower(&self, filter: Filter<'_>) -> Option<Follower> {
        let (mailbox, follower) = Follower::new();
        let (stream, key) = (filter.stream.to_owned(), filter.key.map(<[u8]>::to_vec));
        (self.fault == Fault::FeedBackpressure).then(|| {
            self.state.followers.lock().push((stream, key, mailbox));
            follower
        })
    }

    /// A commit as a whole goes wrong, or one of its steps is not what it was.
    fn commit_otherwise(&self, steps: &[Step<'_>]) -> Result<Done> {
        match self.fault {
            Fault::FailNext => {
                if self.state.refuses.load(Ordering::Relaxed) == 0 && self.one_in(8) {
                    self.state.refuses.store(REFUSALS, Ordering::Relaxed);
                }
                let left = self.state.refuses.load(Ordering::Relaxed);
                if left > 0 {
                    self.state.refuses.store(left - 1, Ordering::Relaxed);
                    return Err(Error::new(ErrorKind::Disconnected, "reach the backplane"));
                }
            }
            Fault::AckLost if self.one_in(4) => {
                let others: Vec<Step<'_>> = steps.iter().map(|step| restamped(step, &self.random)).collect();
                self.inner.commit(&others)?;
                return Err(Error::new(ErrorKind::Disconnected, "hear of the backplane"));
            }
            Fault::Unstored if self.one_in(4) => {
                let done: Result<Vec<StepDone>> = steps.iter().map(|step| self.pretend(step)).collect();
                return done.map(Done::new);
            }
            Fault::ImagesUnkept => return self.commit_without(IMAGES_STREAM, steps),
            Fault::LettersUnkept => return self.commit_without(DEAD_STREAM, steps),
            Fault::CellsInMemory => return self.commit_cells_in_memory(steps),
            Fault::Recreate if self.state.made_anew.load(Ordering::Relaxed) < 2 && self.one_in(6) => {
                self.state.made_anew.fetch_add(1, Ordering::Relaxed);
            }
            Fault::Narrow => {
                let is_wide = |step: &Step<'_>| match step {
                    Step::Append(append) => append.payload.len() == PAYLOAD_BYTES_PORTABLE,
                    Step::Put(_) => false,
                };
                if steps.iter().any(is_wide) {
                    return Err(Error::new(ErrorKind::InvalidInput, "commit a payload"));
                }
            }
            _ => {}
        }
        self.inner.commit(steps)
    }

    /// A step as this one understands it.
    fn misread<'s>(&self, step: Step<'s>) -> Step<'s> {
        match (self.fault, step) {
            (Fault::Unversioned, Step::Append(append)) => Step::Append(append.schema(0)),
            (Fault::Lenient, Step::Append(append)) if append.stamp.n == 0 => {
                Step::Append(Append { stamp: Stamp { n: 1, ..append.stamp }, ..append })
            }
            _ => step,
        }
    }

    fn channel<'c>(&self, channel: &'c str) -> &'c str {
        if self.fault == Fault::OneChannel { "all" } else { channel }
    }

    /// Answers as if it had been done.
    fn pretend(&self, step: &Step<'_>) -> Result<StepDone> {
        Ok(match step {
            Step::Append(append) => {
                let head = self.inner.head(Filter::stream(append.stream))?;
                StepDone::Appended { offset: Offset::from_raw(head.raw() + 1), repeated: false }
            }
            Step::Put(put) => {
                StepDone::Put { revision: Revision::from_raw(put.expect.raw() + 1), repeated: false }
            }
        })
    }

    /// Only pretends to append to a stream.
    fn commit_without(&self, stream: &str, steps: &[Step<'_>]) -> Result<Done> {
        self.commit_some(
            steps,
            |step| !matches!(step, Step::Append(append) if append.stream == stream),
            |step| self.pretend(step),
        )
    }

    /// Commits some of the steps, and answers the others itself.
    fn commit_some(
        &self,
        steps: &[Step<'_>],
        is_committed: impl Fn(&Step<'_>) -> bool,
        mut answer: impl FnMut(&Step<'_>) -> Result<StepDone>,
    ) -> Result<Done> {
        let some: Vec<Step<'_>> = steps.iter().copied().filter(|step| is_committed(step)).collect();
        let done = if some.is_empty() { Done::default() } else { self.inner.commit(&some)? };
        let mut done = done.steps.into_iter();
        let mut all = Vec::new();
        for step in steps {
            let committed = if is_committed(step) { done.next() } else { None };
            all.push(committed.map_or_else(|| answer(step), Ok)?);
        }
        Ok(Done::new(all))
    }

    fn commit_cells_in_memory(&self, steps: &[Step<'_>]) -> Result<Done> {
        let mut cells = self.state.cells.lock();
        let known = |cells: &BTreeMap<_, (CellState, Stamp)>, put: &Put<'_>| {
            let (state, stamp) = cells.get(put.cell).cloned().unzip();
            (state.unwrap_or_default().revision, stamp == Some(put.stamp))
        };
        for step in steps {
            let Step::Put(put) = step else { continue };
            let (revision, repeated) = known(&cells, put);
            if revision != put.expect && !repeated {
                return Err(Error::new(ErrorKind::Conflict, "change a cell").sides(put.expect, revision));
            }
        }
        self.commit_some(
            steps,
            |step| matches!(step, Step::Append(_)),
            |step| {
                let Step::Put(put) = step else { return self.pretend(step) };
                let (revision, repeated) = known(&cells, put);
                let revision = if repeated { revision } else { Revision::from_raw(revision.raw() + 1) };
                let state = CellState::new(put.value.map(<[u8]>::to_vec), revision);
                cells.insert(put.cell.to_vec(), (state, put.stamp));
                Ok(StepDone::Put { revision, repeated })
            },
        )
    }

    /// True if it says that there is nothing where there may be images.
    fn hides_images(&self, filter: Filter<'_>) -> Result<bool> {
        Ok(filter.stream == IMAGES_STREAM
            && match self.fault {
                Fault::ImagesInMemory => self.inner.head(filter)? <= self.state.images_before,
                Fault::UnreadIsNone => {
                    self.inner.subscribe_oldest(filter).and_then(|mut feed| feed.try_next()).is_err()
                }
                _ => false,
            })
    }

    /// A swap, or an append, that takes whatever there is for what is expected.
    fn commit_blindly(&self, steps: &[Step<'_>]) -> Result<Done> {
        let swaps_only =
            self.fault == Fault::BlindPut && steps.iter().all(|step| matches!(step, Step::Put(_)));
        loop {
            let mut blind = Vec::new();
            for step in steps {
                blind.push(match *step {
                    Step::Put(put) if self.fault == Fault::BlindPut => {
                        Step::Put(Put { expect: self.inner.load(put.cell)?.revision, ..put })
                    }
                    Step::Append(append) if self.fault == Fault::BlindAppend => {
                        Step::Append(Append { expect: None, ..append })
                    }
                    other => other,
                });
            }
            match self.inner.commit(&blind) {
                // Somebody else swapped meanwhile. An append that is refused would be so for ever.
                Err(error) if error.kind() == ErrorKind::Conflict && swaps_only => {}
                other => return other,
            }
        }
    }
}

fn wait(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        park_timeout(time.saturating_sub(begun.elapsed()));
    }
}

fn restamped<'a>(step: &Step<'a>, random: &Mutex<Random>) -> Step<'a> {
    let stamp = Stamp::new(WriterId::from_raw(random.lock().next()), 1);
    match *step {
        Step::Append(append) => Step::Append(Append { stamp, ..append }),
        Step::Put(put) => Step::Put(Put { stamp, ..put }),
    }
}

impl Backplane for Double {
    fn atomic(&self) -> bool {
        self.inner.atomic()
    }

    fn commit(&self, steps: &[Step<'_>]) -> Result<Done> {
        let names: Vec<String> = steps
            .iter()
            .map(|step| match step {
                Step::Append(append) => self.name(append.stream),
                Step::Put(_) => String::new(),
            })
            .collect();
        let steps: Vec<Step<'_>> = steps
            .iter()
            .zip(&names)
            .map(|(step, name)| match *step {
                Step::Append(append) => Step::Append(Append { stream: name, ..append }),
                Step::Put(put) => Step::Put(put),
            })
            .map(|step| self.misread(step))
            .collect();
        let done = match self.fault {
            Fault::BlindPut | Fault::BlindAppend => self.commit_blindly(&steps),
            Fault::Blip => self.blips(|| self.inner.commit(&steps)),
            Fault::FeedBackpressure => {
                let appends = steps.iter().filter_map(|step| match step {
                    Step::Append(append) => Some(append),
                    Step::Put(_) => None,
                });
                appends.for_each(|append| self.waits_for_followers(append));
                self.inner.commit(&steps)
            }
            _ => self.commit_otherwise(&steps),
        }?;
        if let Some(Step::Append(append)) = steps.iter().rev().find(|step| matches!(step, Step::Append(_))) {
            *self.state.newest_payload.lock() = append.payload.to_vec();
        }
        Ok(done)
    }

    fn subscribe(&self, filter: Filter<'_>, from: Offset) -> Result<Box<dyn Feed>> {
        let feed = self.renamed(filter, |filter| {
            // A feed of all its stream's topics is one of another filter.
            let filter =
                if self.fault == Fault::ForeignKey { Filter { key: None, ..filter } } else { filter };
            match self.inner.subscribe(filter, from) {
                Err(error) if self.fault == Fault::SilentFloor && error.kind() == ErrorKind::Lost => {
                    self.inner.subscribe(filter, self.inner.lowest_retained(filter)?)
                }
                other => other,
            }
        })?;
        let floor = filter.key.map_or(Offset::BEGINNING, |key| self.floor(filter.stream, key));
        if self.fault == Fault::FloorInMemory && from < floor {
            let below = format!("read {filter} behind offset {from}");
            return Err(Error::new(ErrorKind::Lost, below).floored_at(floor.raw()));
        }
        Ok(Box::new(DoubleFeed {
            inner: feed,
            fault: self.fault,
            random: Random::new(self.random.lock().next()),
            state: Arc::clone(&self.state),
            stream: filter.stream.to_owned(),
            recent: Vec::new(),
            ahead: Vec::new(),
            position: from,
            first_waker: None,
            follower: self.follower(filter),
        }))
    }

    fn head(&self, filter: Filter<'_>) -> Result<Offset> {
        if self.hides_images(filter)? {
            return Ok(Offset::BEGINNING);
        }
        self.renamed(filter, |filter| self.inner.head(filter))
    }

    fn lowest_retained(&self, filter: Filter<'_>) -> Result<Offset> {
        let floor = filter.key.map_or(Offset::BEGINNING, |key| self.floor(filter.stream, key));
        let lowest = self.renamed(filter, |filter| self.inner.lowest_retained(filter))?;
        if self.fault == Fault::Overeager && floor > self.inner.head(filter)? {
            return Ok(Offset::BEGINNING);
        }
        Ok(lowest.max(floor))
    }

    fn load(&self, cell: &[u8]) -> Result<CellState> {
        if self.fault == Fault::CellsInMemory {
            let cells = self.state.cells.lock();
            return Ok(cells.get(cell).map(|(state, _)| state.clone()).unwrap_or_default());
        }
        self.blips(|| self.inner.load(cell))
    }

    fn broadcast(&self, channel: &str, bytes: &[u8]) -> Result<usize> {
        self.state.mailboxes.lock().retain(|mailbox| mailbox.strong_count() > 0);
        let mailboxes: Vec<Arc<Mailbox>> =
            self.state.mailboxes.lock().iter().filter_map(Weak::upgrade).collect();
        mailboxes.iter().for_each(|mailbox| mailbox.put());
        self.inner.broadcast(self.channel(channel), bytes)
    }

    fn listen(&self, channel: &str) -> Result<Box<dyn Listener>> {
        let listener = self.inner.listen(self.channel(channel))?;
        if self.fault != Fault::Backpressure {
            return Ok(listener);
        }
        let (mailbox, listener) = Listening::around(listener);
        self.state.mailboxes.lock().push(mailbox);
        Ok(Box::new(listener))
    }

    fn era(&self) -> Result<Era> {
        let era = self.blips(|| self.inner.era())?;
        let said_first = *self.state.era.lock().get_or_insert(era);
        Ok(if self.fault == Fault::SameEra { said_first } else { era })
    }

    fn close(&self) -> Result<()> {
        match self.fault {
            Fault::DeafClose => return Ok(()),
            Fault::SlowClose => wait(SLOW_CLOSE),
            _ => {}
        }
        self.inner.close()
    }

    fn compactor(&self) -> Option<&dyn Compactor> {
        self.inner.compactor().map(|_| self as &dyn Compactor)
    }
}

impl Compactor for Double {
    fn compact(&self, stream: &str, key: &[u8], before: Offset) -> Result<()> {
        let head = self.inner.head(Filter::topic(stream, key))?;
        let floor = match self.fault {
            Fault::FloorInMemory => Some(before.min(head)),
            Fault::Overeager if before > head => Some(Offset::from_raw(head.raw() + 1)),
            _ => None,
        };
        if let Some(floor) = floor {
            let mut floors = self.state.floors.lock();
            let known = floors.entry((stream.to_owned(), key.to_vec())).or_default();
            *known = floor.max(*known);
            return Ok(());
        }
        let name = self.name(stream);
        let compactor = self.inner.compactor();
        self.blips(|| compactor.map_or(Ok(()), |compactor| compactor.compact(&name, key, before)))
    }
}
