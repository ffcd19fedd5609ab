//! Typed topics: values in and out of a store's backplane.

use std::fmt;
use std::marker::PhantomData;
use std::task::Waker;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::backplane::{Compactor, Feed, Filter, IMAGES_STREAM, Offset, Pending, Stamp, StreamRecord};
use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::fold::Fold;
use crate::fold::handle::TopicFold;
use crate::fold::image::Subject;
use crate::fold::keeping;
use crate::fold::lost;
use crate::fold::topic::FoldOptions;
use crate::fold::value;
use crate::id::IdempotencyKey;
use crate::store::Store;
use crate::store::author::{self, Wanted};
use crate::store::facts::Facts;

/// A stream of events of type `T`: a name, a version and a Rust type, known at compile time, as of [`Facts`].
///
/// ```
/// use esker::backplane::Offset;
/// use esker::{Store, Topic};
///
/// const ORDERS: Topic<String> = Topic::new("order");
///
/// # fn main() -> esker::Result<()> {
/// let store = Store::in_memory()?;
/// let order = store.topic(ORDERS, "8812")?;
/// let placed = order.append(&"placed".to_owned())?;
/// order.append_if(placed, &"shipped".to_owned())?;           // only behind that one
///
/// let mut events = order.read(Offset::BEGINNING)?;
/// assert_eq!(events.try_next()?.unwrap().value()?, "placed");
/// assert_eq!(events.try_next()?.unwrap().offset(), order.head()?);
/// # store.close() }
/// ```
pub struct Topic<T> {
    name: &'static str,
    version: u16,
    makes: PhantomData<fn() -> T>,
}

impl<T> Topic<T> {
    /// The stream of this name (1 to 200 bytes, not beginning with `esker.`), at version 1.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, version: 1, makes: PhantomData }
    }

    /// The version of the schema, from 1. Each record has the version that wrote it.
    #[must_use]
    pub const fn version(mut self, version: u16) -> Self {
        self.version = version;
        self
    }

    /// The same events, as facts of the store's own journal.
    pub(crate) const fn as_facts(&self) -> Facts<T> {
        Facts::new(self.name).version(self.version)
    }

    /// The name of the stream.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub(super) const fn schema_version(&self) -> u16 {
        self.version
    }
}

impl<T> Clone for Topic<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Topic<T> {}

impl<T> fmt::Debug for Topic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({:?} version {})", self.name, self.version)
    }
}

/// One topic of a store: what happened to one key. See [`Topic`].
pub struct TopicHandle<'s, T> {
    pub(super) store: &'s Store,
    pub(super) topic: Topic<T>,
    pub(super) key: Vec<u8>,
}

impl Store {
    /// The topic of a key, on the store's [backplane](Self::backplane). Where that is the store's own journal its records are
    /// facts, which [`Facts`] of the same name read too.
    ///
    /// # Errors
    ///
    /// `KindMismatch`, and what [`append`](Self::append) answers.
    pub fn topic<'t, T>(&self, topic: Topic<T>, key: impl AsRef<[u8]>) -> Result<TopicHandle<'_, T>>
    where
        T: Deserialize<'t>,
    {
        self.bind_topic(topic)?;
        Ok(TopicHandle { store: self, topic, key: key.as_ref().to_vec() })
    }
}

impl Store {
    /// Takes a fold for one that nobody folds a topic's stream by any more: compaction keeps nothing for it. If somebody takes it up
    /// again it is [registered](TopicHandle::fold) again.
    ///
    /// # Errors
    ///
    /// What [`append`](Self::append) answers.
    pub fn retire_fold<T>(&self, topic: Topic<T>, name: &str) -> Result<()> {
        keeping::retire(&**self.backplane()?, topic.name, name)
    }

    /// The folds for which a topic's stream keeps events, on a journal: the name of each and its newest version. Those that are not
    /// needed any more are to be [retired](Self::retire_fold): one without an image of a topic keeps all of it.
    ///
    /// # Errors
    ///
    /// `Corrupt` if not all of what is written of them can be read; nothing goes then. What the backplane answers.
    pub fn registered_folds<T>(&self, topic: Topic<T>) -> Result<Vec<(String, u32)>> {
        keeping::registered(&**self.backplane()?, topic.name)
    }
}

impl<T> TopicHandle<'_, T> {
    /// Appends an event, once, whatever happens on the way, and returns when it is as durable as the backplane promises.
    ///
    /// # Errors
    ///
    /// `Codec` if the event cannot be encoded; what [`commit`](crate::backplane::Backplane::commit) answers. Behind `Disconnected`
    /// or `Poisoned` it may be there. The same append again, through this store and within 100 seconds, finds that out, and the
    /// event is there once; other appends neither do it nor wait for it. Later, whoever has to know reads the topic.
    pub fn append(&self, event: &T) -> Result<Offset>
    where
        T: Serialize,
    {
        self.append_behind(None, event)?.acknowledged()
    }

    /// Appends an event without waiting until it is durable. Events of one topic come to stand in the order of the calls, and none
    /// survives a crash that one before it did not survive. Where appends of a backplane cannot be told from waiting, it waits.
    ///
    /// ```
    /// # use esker::{Store, Topic};
    /// # const READINGS: Topic<f64> = Topic::new("reading");
    /// # fn main() -> esker::Result<()> {
    /// # let store = Store::in_memory()?;
    /// let sensor = store.topic(READINGS, "sensor-7")?;
    /// let tickets = [20.5, 20.7, 21.0].map(|degrees| sensor.append_nowait(&degrees));
    /// let [.., last] = tickets;
    /// let last = last?.wait_durable()?;                    // and those before it
    /// assert_eq!(last, sensor.head()?);
    /// # store.close() }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append), but for those of waiting.
    pub fn append_nowait(&self, event: &T) -> Result<TopicTicket>
    where
        T: Serialize,
    {
        self.append_behind(None, event)
    }

    /// Appends an event if the newest of the topic has this offset ([`Offset::BEGINNING`]: if there is none).
    ///
    /// # Errors
    ///
    /// `Conflict` with both offsets, and as [`append`](Self::append).
    pub fn append_if(&self, newest: Offset, event: &T) -> Result<Offset>
    where
        T: Serialize,
    {
        self.append_behind(Some(newest), event)?.acknowledged()
    }

    /// Appends an event that has a key of its own: whoever appends it again under that key, from this process or another, also
    /// behind a restart, is answered with the offset that it has, and it is there once. So what is done because of something else
    /// is done once too: a [consumer](Self::on_event) that appends what an event comes to takes
    /// [`Delivery::idempotency_key`](crate::Delivery::idempotency_key).
    ///
    /// A key is remembered as long as the backplane remembers a stamp: on a journal for the last 65,536 appends or ten minutes,
    /// whichever is more, on NATS as long as the stream's duplicate window. Behind that it is appended again. An event that was
    /// dropped since, by a compaction or because its topic was erased, was appended once all the same, and is answered so.
    ///
    /// Such a record belongs to no dense row of numbers. On a journal its place in the topic proves all the same that nothing is
    /// missing; where only numbers prove that, as on NATS, a fold cannot notice if it is this one.
    ///
    /// ```
    /// # use esker::{IdempotencyKey, Store, Topic};
    /// # const PAYMENTS: Topic<u64> = Topic::new("payment");
    /// # fn main() -> esker::Result<()> {
    /// # let store = Store::in_memory()?;
    /// let request = IdempotencyKey(*b"request 00004711");        // a UUID, or a hash
    /// let account = store.topic(PAYMENTS, "account-7")?;
    /// let paid = account.append_once(request, &250)?;
    /// assert_eq!(account.append_once(request, &250)?, paid);      // the client asked again
    /// assert_eq!(account.head()?, paid);
    /// # store.close() }
    /// ```
    ///
    /// # Errors
    ///
    /// `KeyReused` if the key came with another event. Behind `Disconnected` or `Poisoned` it may be there: the same call again finds
    /// that out. As [`append`](Self::append).
    pub fn append_once(&self, key: IdempotencyKey, event: &T) -> Result<Offset>
    where
        T: Serialize,
    {
        codec::encoded(self.topic.name, event, |payload| {
            let wanted = Wanted::Append { payload, expect: None, schema: self.topic.version };
            let plane = self.store.backplane()?;
            let pending = author::once(&**plane, self.topic.name, &self.key, wanted, Stamp::keyed(key))?;
            let offset = pending.wait_acknowledged()?.offset(0);
            offset.ok_or_else(|| Error::new(ErrorKind::Io, "append an event once").sides("an offset", "none"))
        })
    }

    fn append_behind(&self, expect: Option<Offset>, event: &T) -> Result<TopicTicket>
    where
        T: Serialize,
    {
        codec::encoded(self.topic.name, event, |payload| {
            let wanted = Wanted::Append { payload, expect, schema: self.topic.version };
            let plane = self.store.backplane()?;
            let (offset, pending) =
                self.store.authors.commit(&**plane, Some(self.topic.name), &self.key, wanted)?;
            Ok(TopicTicket { offset: Offset::from_raw(offset), pending })
        })
    }

    /// The offset of the newest event; [`Offset::BEGINNING`] if there is none.
    ///
    /// # Errors
    ///
    /// As [`head`](crate::backplane::Backplane::head).
    pub fn head(&self) -> Result<Offset> {
        self.store.backplane()?.head(self.filter())
    }

    /// The offset of the oldest event that is left. [`read`](Self::read) would begin behind it, and leave it out:
    /// [`read_oldest`](Self::read_oldest) begins with it.
    ///
    /// # Errors
    ///
    /// As [`lowest_retained`](crate::backplane::Backplane::lowest_retained).
    pub fn lowest_retained(&self) -> Result<Offset> {
        self.store.backplane()?.lowest_retained(self.filter())
    }

    /// The events behind an offset, and then those that come.
    ///
    /// # Errors
    ///
    /// `Lost` if the topic was [compacted](Self::compact) past it, also for [`Offset::BEGINNING`]; as
    /// [`subscribe`](crate::backplane::Backplane::subscribe).
    pub fn read(&self, from: Offset) -> Result<TopicFeed<T>> {
        let feed = self.store.backplane()?.subscribe(self.filter(), from)?;
        Ok(TopicFeed { feed, topic: self.topic })
    }

    /// The events from the oldest on that is left, which is the first one if nothing was dropped, and then those that come.
    ///
    /// ```
    /// # use esker::{Store, Topic};
    /// # const ORDERS: Topic<String> = Topic::new("order");
    /// # fn main() -> esker::Result<()> {
    /// # let store = Store::in_memory()?;
    /// let order = store.topic(ORDERS, "8812")?;
    /// order.append(&"placed".to_owned())?;
    /// let shipped = order.append(&"shipped".to_owned())?;
    /// order.compact(shipped)?;
    /// assert_eq!(order.read_oldest()?.next()?.value()?, "shipped");
    /// # store.close() }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`subscribe_oldest`](crate::backplane::Backplane::subscribe_oldest).
    pub fn read_oldest(&self) -> Result<TopicFeed<T>> {
        let feed = self.store.backplane()?.subscribe_oldest(self.filter())?;
        Ok(TopicFeed { feed, topic: self.topic })
    }

    /// The value of a fold over this topic, kept up to date: see [`TopicFold`].
    ///
    /// On a journal ([`Local`](crate::backplane::Local)) the fold is registered with the stream when it is first taken up: from then on compaction keeps the
    /// events that it needs ([`Keep::Fold`](crate::Keep::Fold)), until it is [retired](Store::retire_fold). Of a fold the newest version counts. One that
    /// comes later, or a newer version of one, begins with what is left, which of a topic that was compacted is nothing that it can
    /// begin with ([`Unbridgeable`](crate::HaltReason::Unbridgeable)): a topic that is to be folded by what nobody has
    /// thought of yet keeps [all](crate::Keep::All), as it does by default.
    ///
    /// # Errors
    ///
    /// `Closed`; `Io` if no thread can be started; where it is registered, what [`append`](Self::append) answers.
    pub fn fold<F: Fold<Event = T>>(&self) -> Result<TopicFold<F>> {
        self.fold_with(FoldOptions::new())
    }

    /// The same, with images and verification as the options say.
    ///
    /// # Errors
    ///
    /// As [`fold`](Self::fold).
    pub fn fold_with<F: Fold<Event = T>>(&self, options: FoldOptions) -> Result<TopicFold<F>> {
        let topic = (self.topic.name, &*self.key);
        let plane = self.store.backplane()?;
        keeping::register(&**plane, self.topic.name, (F::NAME, F::VERSION))?;
        self.store.projectors.fold(plane, topic, self.topic.version, options)
    }

    /// Takes the events that are missing for lost to a fold, which cannot go on without them: it has halted, as
    /// [`EraChanged`](crate::HaltReason::EraChanged), [`Unbridgeable`](crate::HaltReason::Unbridgeable) or
    /// [`Gap`](crate::HaltReason::Gap). Whoever takes it up [behind this](Self::fold), in any process, has the value of the events
    /// that are left, from the oldest on behind which none is missing, and
    /// [`FoldStats::begun_anew`](crate::FoldStats::begun_anew) says how often that was done to it.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it can go on: with an image, or as all events are there. `Halted` if it [diverged](crate::Verify). What the
    /// backplane answers.
    pub fn begin_anew<F: Fold<Event = T>>(&self) -> Result<()> {
        let mut nothing = Vec::new();
        codec::encode(IMAGES_STREAM, &F::State::default(), &mut nothing)?;
        let subject = Subject::of::<F>(self.topic.name, &self.key);
        let is_value = |bytes: &[u8]| codec::decode_bytes::<F::State>(bytes).is_ok();
        lost::begin_anew(&**self.store.backplane()?, &subject, nothing, &is_value)
    }

    /// Drops the events before an offset, but none that a [consumer](Self::on_event) has not done, whether it runs or not; see
    /// [`Compactor::compact`]. Answers before which offset that is. A fold that has no image from behind there, such as
    /// [`TopicFold::save_image`] saves, cannot begin any more, nor can [`Store::project`] when the bytes have gone. The
    /// images are then all that there is of the values: in a store that was imported, where none counts, such a fold halts
    /// ([`EraChanged`](crate::HaltReason::EraChanged)).
    ///
    /// # Errors
    ///
    /// As [`Compactor::compact`]; `InvalidInput` on a backplane that drops nothing. `Halted` if a fold over this topic
    /// [diverged](crate::Verify): its events are kept.
    pub fn compact(&self, before: Offset) -> Result<Offset> {
        let compactor: &dyn Compactor = self.store.backplane()?.compactor().ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, format!("compact {}", self.filter()))
                .sides("a backplane with a compactor", "one without")
        })?;
        let plane = &**self.store.backplane()?;
        // Nobody comes to need what may go before it is gone.
        let _held = keeping::hold(plane)?;
        let before = keeping::may_go_before(plane, self.filter(), before)?;
        compactor.compact(self.topic.name, &self.key, before)?;
        Ok(before)
    }

    pub(super) fn filter(&self) -> Filter<'_> {
        Filter::topic(self.topic.name, &self.key)
    }
}

impl<T> fmt::Debug for TopicHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicHandle({})", self.filter())
    }
}

/// An event that has its place, and will be durable: [`TopicHandle::append_nowait`].
#[derive(Clone, Debug)]
#[must_use = "an append that nobody waits for may be lost to a power cut"]
pub struct TopicTicket {
    offset: Offset,
    pending: Pending,
}

impl TopicTicket {
    /// Its place in the topic.
    #[must_use]
    pub const fn offset(&self) -> Offset {
        self.offset
    }

    /// True once it is durable.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.pending.is_durable()
    }

    /// Waits until it is as durable as the backplane can make it: on a store's own journal, until it survives a power cut.
    ///
    /// # Errors
    ///
    /// `Poisoned` if that failed: it may be there or not. `Closed`.
    pub fn wait_durable(&self) -> Result<Offset> {
        self.pending.wait_durable().map(|_| self.offset)
    }

    fn acknowledged(&self) -> Result<Offset> {
        self.pending.wait_acknowledged().map(|_| self.offset)
    }
}

/// The events of one topic as they come: [`TopicHandle::read`]. Its errors and what may come again are those of a [`Feed`].
pub struct TopicFeed<T> {
    feed: Box<dyn Feed>,
    topic: Topic<T>,
}

impl<T> TopicFeed<T> {
    /// The next event, if there is one now. Never waits.
    ///
    /// # Errors
    ///
    /// See [`Feed`].
    pub fn try_next(&mut self) -> Result<Option<TopicRecord<T>>> {
        self.poll(Waker::noop())
    }

    /// Waits for the next event.
    ///
    /// # Errors
    ///
    /// See [`Feed`].
    #[allow(clippy::should_implement_trait, reason = "it waits, and an error ends it")]
    pub fn next(&mut self) -> Result<TopicRecord<T>> {
        let record = self.feed.next()?;
        Ok(self.record(record))
    }

    /// Waits for the next event, at most so long; `None`: the time is over.
    ///
    /// # Errors
    ///
    /// See [`Feed`].
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<TopicRecord<T>>> {
        Ok(self.feed.next_timeout(timeout)?.map(|record| self.record(record)))
    }

    /// The next event, if there is one now; else the waker is woken as [`Feed::poll`] says.
    ///
    /// # Errors
    ///
    /// See [`Feed`].
    pub fn poll(&mut self, waker: &Waker) -> Result<Option<TopicRecord<T>>> {
        Ok(self.feed.poll(waker)?.map(|record| self.record(record)))
    }

    /// Everything up to here was delivered.
    #[must_use]
    pub fn position(&self) -> Offset {
        self.feed.position()
    }

    fn record(&self, record: StreamRecord) -> TopicRecord<T> {
        TopicRecord { record, topic: self.topic }
    }
}

impl<T> fmt::Debug for TopicFeed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicFeed({:?}, behind {})", self.topic.name, self.position())
    }
}

/// One event of a topic.
pub struct TopicRecord<T> {
    record: StreamRecord,
    topic: Topic<T>,
}

impl<T> TopicRecord<T> {
    /// What happened, decoded now, as a fold takes it.
    ///
    /// # Errors
    ///
    /// `Codec` with both versions if it is no `T`: a later build wrote it, with a higher version or a variant that `T` does not
    /// know and has no `#[serde(other)]` for; it is of another type; or no value at all. The text says which.
    pub fn value(&self) -> Result<T>
    where
        T: DeserializeOwned,
    {
        value::decode(&self.record, self.topic.version).map_err(|unfit| {
            Error::new(ErrorKind::Codec, format!("decode an event of {:?}", self.topic.name))
                .concerning(self.offset().raw())
                .because(unfit.to_string())
        })
    }

    /// Its place.
    #[must_use]
    pub fn offset(&self) -> Offset {
        self.record.offset()
    }

    /// By whom it is, and as the how manieth of the topic.
    #[must_use]
    pub fn stamp(&self) -> Option<Stamp> {
        self.record.stamp()
    }

    /// The record itself.
    #[must_use]
    pub fn record(&self) -> &StreamRecord {
        &self.record
    }
}

impl<T> fmt::Debug for TopicRecord<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record.fmt(f)
    }
}
