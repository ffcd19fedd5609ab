//! Streams of events: what every source said of a kind, in the order in which it was said.
//!
//! They read operation frames as every reader reads entries: lossily at their own pace, or under a durable name that
//! misses nothing.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};
use crate::id::Seq;
use crate::journal::cursors::Hold;
use crate::journal::entry::Entry;
use crate::journal::region::Region;
use crate::journal::source::Source;
use crate::journal::subscriber::{Item, Lag, Missed, Start, SubscribeOptions, Subscriber};
use crate::journal::waiting::{Place, Reading, Stopper, Until, wait_until};
use crate::journal::watcher::{WatchOptions, Watcher};
use crate::state::door::{Door, renewed};
use crate::state::event::{Event, Told};
use crate::state::kind::Kind;
use crate::state::schema::Bound;

/// How to follow the events of a kind: [`Store::events`](crate::Store::events) begins it, or
/// [`Reader::events`](crate::Reader::events); [`start`](Self::start) or [`watch`](Self::watch) ends it.
#[derive(Clone)]
#[must_use = "a stream of events begins with `start` or `watch`"]
pub struct EventsBuilder<T> {
    door: Door,
    kind: Kind<T>,
    start: Option<Start>,
    capacity: Option<u64>,
    lag: Lag,
    hold: Hold,
    synthetic: bool,
    until: Option<Until>,
    spin: Duration,
}

impl<T: DeserializeOwned> EventsBuilder<T> {
    pub(crate) fn new(door: Door, kind: Kind<T>) -> Self {
        Self {
            door,
            kind,
            start: None,
            capacity: None,
            lag: Lag::default(),
            hold: Hold::Forever,
            synthetic: false,
            until: None,
            spin: Duration::ZERO,
        }
    }

    /// Where it begins. Default: with what is said from now on; where a new name is given, with the oldest that is there.
    pub const fn from(mut self, start: Start) -> Self {
        self.start = Some(start);
        self
    }

    /// How many operations it may be behind, without a name. Default: any number.
    pub const fn capacity(mut self, operations: u64) -> Self {
        self.capacity = Some(operations);
        self
    }

    /// What becomes of it when it is further behind. Default: [`Lag::Skip`].
    pub const fn on_lag(mut self, lag: Lag) -> Self {
        self.lag = lag;
        self
    }

    /// How much log a new name may hold back. Default: [`Hold::Forever`].
    pub const fn hold(mut self, hold: Hold) -> Self {
        self.hold = hold;
        self
    }

    /// Whether it is told also what is no event: what a source says in an epoch, and what the end of one retracts. With
    /// these what was told comes to what is there. Default: false.
    pub const fn include_synthetic(mut self, synthetic: bool) -> Self {
        self.synthetic = synthetic;
        self
    }

    /// How far it sees, without a name. Default: what is durable, but in the process that writes with another
    /// [durability](crate::Durability) than `Sync`: there what is visible.
    pub const fn until(mut self, until: Until) -> Self {
        self.until = Some(until);
        self
    }

    /// So long a wait looks again and again before it sleeps. Default: none.
    pub const fn spin(mut self, budget: Duration) -> Self {
        self.spin = budget;
        self
    }

    /// Begins a stream without a name. The kind is registered if this is its first use; beside a writer of another process
    /// nothing is, and a kind without events has none until the writer uses it with them.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a handle without [events](Kind::events), or a start behind the end of the log; `Schema` or
    /// `KindMismatch` if the type does not fit the kind; `Poisoned`, `Closed`, `Forked`; `Io` or `Corrupt` if the start
    /// cannot be looked up; of a reader as [`Reader::view`](crate::Reader::view).
    pub fn start(mut self) -> Result<Events<T>> {
        self.door.refresh()?;
        let stream = self.stream()?;
        let mut options =
            SubscribeOptions::new().from(self.start.unwrap_or_default()).on_lag(self.lag).spin(self.spin);
        if let Some(capacity) = self.capacity {
            options = options.capacity(capacity);
        }
        let live = self.door.subscribe(stream.region(), options, self.until)?;
        Ok(Events { stream, live })
    }

    /// Begins a stream under a durable name, which goes on where the last one of that name had its
    /// [checkpoint](EventWatcher::checkpoint), and holds back from compaction what it has not seen.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start) and [`Journal::watch_with`](crate::Journal::watch_with); `InvalidInput` in another process
    /// than the writer's: a name is written down.
    pub fn watch(self, name: &str) -> Result<EventWatcher<T>> {
        let Door::Store(journal) = &self.door else { return Err(no_name(self.kind.name(), name)) };
        let stream = self.stream()?;
        let options =
            WatchOptions::new().from(self.start.unwrap_or(Start::Oldest)).hold(self.hold).spin(self.spin);
        let watcher = journal.watch_with(name, stream.region(), options)?;
        Ok(EventWatcher { stream, watcher })
    }

    fn stream(&self) -> Result<Stream<T>> {
        // Looked at first: a handle without them would be registered as one of a kind without.
        if !self.kind.has_events() {
            return Err(without_events("follow", self.kind.name()));
        }
        let bound = self.door.bind("follow events", self.kind)?;
        Ok(Stream { kind: self.kind, bound, synthetic: self.synthetic })
    }
}

fn no_name(kind: &str, name: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("follow the events of the kind {kind:?} as {name:?}"))
        .sides("the process that writes the store, which writes down where a name is", "a reader beside it")
        .noting(
            "`start` a stream without a name, and keep the `Seq` of the last event to go on behind"
                .to_owned(),
        )
}

/// The kind's handle says nothing of events.
pub(crate) fn without_events(doing: &str, kind: &str) -> Error {
    let doing = format!("{doing} the events of the kind {kind:?}");
    Error::new(ErrorKind::InvalidInput, doing).sides("a handle with `.events()`", "one without")
}

impl<T> fmt::Debug for EventsBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventsBuilder({:?})", self.kind)
    }
}

/// What makes events of operation frames.
struct Stream<T> {
    kind: Kind<T>,
    bound: Arc<Bound>,
    synthetic: bool,
}

impl<T> Stream<T> {
    fn region(&self) -> Region {
        Region::Kind(self.bound.operations())
    }

    /// What the kind means by now. True: it had no events before, and has.
    fn renew(&mut self, source: &Source) -> Result<bool> {
        let Some(bound) = renewed(source, &self.bound)? else { return Ok(false) };
        let is_new = bound.operations() != self.bound.operations();
        self.bound = bound;
        Ok(is_new)
    }

    fn shows(&self, entry: &Entry<'_>) -> Result<bool> {
        Ok(Told::of(entry)?.is_event() || self.synthetic)
    }

    fn event<'s>(&'s self, log: &'s Source, entry: Entry<'s>) -> Event<'s, T> {
        let told = Told::of(&entry).unwrap_or_else(|_| panic!("it was read before"));
        Event { kind: self.kind, log, bound: &self.bound, entry, told }
    }
}

/// What a stream of events stands at.
#[non_exhaustive]
pub enum EventItem<'s, T> {
    /// An event.
    Event(Event<'s, T>),
    /// Operations that it was not fast enough for, or that compaction has dropped: then nobody can tell how many entries of the
    /// range were some, and the numbers of the next event say how many events there were.
    Missed(Missed),
}

impl<T> fmt::Debug for EventItem<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(event) => event.fmt(f),
            Self::Missed(missed) => missed.fmt(f),
        }
    }
}

/// What sources say of a kind, operation by operation; see [`Store::events`](crate::Store::events).
///
/// It pulls, in the thread that calls it, and holds nothing back. It may be put into a [`WaitSet`](crate::WaitSet).
pub struct Events<T> {
    stream: Stream<T>,
    live: Subscriber,
}

impl<T> Events<T> {
    /// Steps to the next item. False: there is nothing more now. Never waits.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::advance`]; and beside a writer of another process `Schema`, again and again, once that writes a newer
    /// version of the kind or a type that does not fit. Behind `Rewound` or `Compacted` another stream goes on:
    /// [`start`](EventsBuilder::start) opens the log again.
    pub fn advance(&mut self) -> Result<bool> {
        loop {
            let looked = self.live.looked();
            let stepped = self.live.advance()?;
            let is_new = self.stream.renew(self.live.source()).inspect_err(|_| self.live.go_back_to(looked));
            if is_new? {
                self.live.turn_to(self.stream.region(), looked);
                continue;
            }
            if !stepped {
                return Ok(false);
            }
            match self.live.item() {
                Item::Entry(entry) if !self.stream.shows(&entry)? => {}
                _ => return Ok(true),
            }
        }
    }

    /// What [`advance`](Self::advance) stepped to.
    ///
    /// # Panics
    ///
    /// If the last call of `advance` did not answer `true`.
    #[must_use]
    pub fn item(&self) -> EventItem<'_, T> {
        match self.live.item() {
            Item::Entry(entry) => EventItem::Event(self.stream.event(self.live.source(), entry)),
            Item::Missed(missed) => EventItem::Missed(missed),
        }
    }

    /// The next item, if there is one now.
    ///
    /// # Errors
    ///
    /// As [`advance`](Self::advance).
    pub fn try_next(&mut self) -> Result<Option<EventItem<'_, T>>> {
        Ok(if self.advance()? { Some(self.item()) } else { None })
    }

    /// Waits for the next item; `None`: it was stopped.
    ///
    /// # Errors
    ///
    /// As [`advance`](Self::advance).
    #[allow(clippy::should_implement_trait, reason = "an item is borrowed from the stream")]
    pub fn next(&mut self) -> Result<Option<EventItem<'_, T>>> {
        Ok(if self.wait(None)? { Some(self.item()) } else { None })
    }

    /// Waits for the next item, at most so long; `None`: the time is over, or it was stopped.
    ///
    /// # Errors
    ///
    /// As [`advance`](Self::advance).
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<EventItem<'_, T>>> {
        Ok(if self.wait(Instant::now().checked_add(timeout))? { Some(self.item()) } else { None })
    }

    fn wait(&mut self, deadline: Option<Instant>) -> Result<bool> {
        Ok(wait_until(self, deadline, |reader| Ok(reader.advance()?.then_some(())))?.is_some())
    }

    /// Ends its waiting, from any thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.live.stopper()
    }
}

impl<T> Reading for Events<T> {
    fn place(&self) -> Place<'_> {
        self.live.place()
    }
}

impl<T> fmt::Debug for Events<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Events({:?}, behind {})", self.stream.kind, self.live.looked())
    }
}

/// What sources say of a kind, operation by operation, under a durable name: each at least once, and none is ever
/// passed over. See [`EventsBuilder::watch`].
pub struct EventWatcher<T> {
    stream: Stream<T>,
    watcher: Watcher,
}

impl<T> EventWatcher<T> {
    /// Steps to the next event. False: there is nothing more now. Never waits.
    ///
    /// # Errors
    ///
    /// As [`Watcher::advance`].
    pub fn advance(&mut self) -> Result<bool> {
        while self.watcher.advance()? {
            if self.stream.shows(&self.watcher.entry())? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What [`advance`](Self::advance) stepped to.
    ///
    /// # Panics
    ///
    /// If the last call of `advance` did not answer `true`.
    #[must_use]
    pub fn event(&self) -> Event<'_, T> {
        self.stream.event(self.watcher.source(), self.watcher.entry())
    }

    /// The next event, if there is one now.
    ///
    /// # Errors
    ///
    /// As [`advance`](Self::advance).
    pub fn try_next(&mut self) -> Result<Option<Event<'_, T>>> {
        Ok(if self.advance()? { Some(self.event()) } else { None })
    }

    /// Waits for the next event; `None`: it was stopped.
    ///
    /// # Errors
    ///
    /// As [`advance`](Self::advance).
    #[allow(clippy::should_implement_trait, reason = "an event is borrowed from the stream")]
    pub fn next(&mut self) -> Result<Option<Event<'_, T>>> {
        Ok(if self.wait(None)? { Some(self.event()) } else { None })
    }

    /// Waits for the next event, at most so long; `None`: the time is over, or it was stopped.
    ///
    /// # Errors
    ///
    /// As [`advance`](Self::advance).
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Event<'_, T>>> {
        Ok(if self.wait(Instant::now().checked_add(timeout))? { Some(self.event()) } else { None })
    }

    fn wait(&mut self, deadline: Option<Instant>) -> Result<bool> {
        Ok(wait_until(self, deadline, |reader| Ok(reader.advance()?.then_some(())))?.is_some())
    }

    /// Makes durable that everything up to here was seen, the event that it stands at included; see
    /// [`Watcher::checkpoint`].
    ///
    /// # Errors
    ///
    /// As [`Watcher::checkpoint`].
    pub fn checkpoint(&mut self) -> Result<()> {
        self.watcher.checkpoint()
    }

    /// Everything up to this Seq was looked at; `None`: nothing yet.
    #[must_use]
    pub fn position(&self) -> Option<Seq> {
        self.watcher.position()
    }

    /// The reader of operation frames under it: what [`StoreBatch::move_cursor`](crate::StoreBatch::move_cursor) takes.
    #[must_use]
    pub fn watcher(&self) -> &Watcher {
        &self.watcher
    }

    /// Ends its waiting, from any thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.watcher.stopper()
    }
}

impl<T> Reading for EventWatcher<T> {
    fn place(&self) -> Place<'_> {
        self.watcher.place()
    }
}

impl<T> fmt::Debug for EventWatcher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventWatcher({:?}, {:?})", self.stream.kind, self.watcher)
    }
}
