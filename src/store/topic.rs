//! Typed topics: values in and out of a store's backplane.

use std::fmt;
use std::marker::PhantomData;
use std::task::Waker;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::backplane::{Compactor, Feed, Filter, Offset, Stamp, StreamRecord};
use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::fold::Fold;
use crate::fold::consumer::progress::clamped;
use crate::fold::handle::TopicFold;
use crate::fold::image;
use crate::fold::topic::FoldOptions;
use crate::store::Store;
use crate::store::author::Wanted;
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

    /// The name of the stream.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub(super) const fn schema_version(&self) -> u16 {
        self.version
    }

    pub(super) const fn facts(self) -> Facts<T> {
        Facts::new(self.name).version(self.version)
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

impl<T> TopicHandle<'_, T> {
    /// Appends an event, once, whatever happens on the way, and returns when it is as durable as the backplane promises.
    ///
    /// # Errors
    ///
    /// `Codec` if the event cannot be encoded; what [`commit`](crate::backplane::Backplane::commit) answers. Behind `Disconnected`
    /// or `Poisoned` it may be there: the next append to this topic through this store finds that out first.
    pub fn append(&self, event: &T) -> Result<Offset>
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
        self.append_behind(Some(newest), event)
    }

    fn append_behind(&self, expect: Option<Offset>, event: &T) -> Result<Offset>
    where
        T: Serialize,
    {
        codec::encoded(self.topic.name, event, |payload| {
            let wanted = Wanted::Append { payload, expect, schema: self.topic.version };
            let plane = self.store.backplane()?;
            let offset = self.store.authors.commit(&**plane, Some(self.topic.name), &self.key, wanted)?;
            Ok(Offset::from_raw(offset))
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

    /// The offset of the oldest event that is left.
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
    /// As [`subscribe`](crate::backplane::Backplane::subscribe).
    pub fn read(&self, from: Offset) -> Result<TopicFeed<T>> {
        let feed = self.store.backplane()?.subscribe(self.filter(), from)?;
        Ok(TopicFeed { feed, topic: self.topic })
    }

    /// The value of a fold over this topic, kept up to date: see [`TopicFold`].
    ///
    /// # Errors
    ///
    /// `Closed`; `Io` if no thread can be started.
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
        self.store.projectors.fold(self.store.backplane()?, topic, self.topic.version, options)
    }

    /// Drops the events before an offset, but none that a [consumer](Self::on_event) has not done, whether it runs or not; see
    /// [`Compactor::compact`]. Answers before which offset that is. A fold that has no image from behind there, such as
    /// [`TopicFold::save_image`] saves, cannot begin any more.
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
        image::check_not_marked(plane, self.filter())?;
        let before = clamped(plane, self.filter(), before)?;
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
    /// What happened, decoded now.
    ///
    /// # Errors
    ///
    /// `Codec` with both versions if it is no `T`.
    pub fn value(&self) -> Result<T>
    where
        T: DeserializeOwned,
    {
        codec::decode_bytes(self.record.payload()).map_err(|cause| {
            let (name, read, written) = (self.topic.name, self.topic.version, self.record.schema());
            let doing =
                format!("decode an event of {name:?} (written as version {written}, read as version {read})");
            Error::new(ErrorKind::Codec, doing).concerning(self.offset().raw()).because(cause)
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
