//! Consumers of a store's topics.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::backplane::Filter;
use crate::error::Result;
use crate::fold::consumer::delivery::{Delivery, Handled, Handler};
use crate::fold::consumer::handle::Consumer;
use crate::fold::consumer::info::{ConsumerInfo, consumers_of};
use crate::fold::consumer::options::ConsumerOptions;
use crate::fold::consumer::progress::{Bytes, Identity, retire};
use crate::store::Store;
use crate::store::topic::{Topic, TopicHandle};

impl<T> TopicHandle<'_, T> {
    /// Calls a handler for each event of this topic, in order, **at least once**: for effects outside of the store. How far it has
    /// come is written on the [backplane](Store::backplane) under the name, so that it goes on there when it is started again, in
    /// whichever process.
    ///
    /// An error or a panic of the handler is written down, and the same event is tried again behind a pause; none behind it is
    /// delivered meanwhile. By default that goes on for ever: [`ConsumerStatus::stuck`](crate::ConsumerStatus::stuck) tells of
    /// it. With [`max_attempts`](ConsumerOptions::max_attempts) it is set aside then. A process that ends in the handler sets
    /// nothing aside; behind five such ends in a row the consumer is suspended, until somebody [resumes](Consumer::resume) it, or
    /// another process of its name answers.
    ///
    /// [`compact`](Self::compact) drops no event that a consumer has not done, whether it runs or not: one that is not needed any
    /// more is to be [retired](Self::retire_consumer).
    ///
    /// How far it has come, and what it sets aside, is written to the backplane. Where a commit there is one batch
    /// ([`Backplane::atomic`](crate::backplane::Backplane::atomic), as on a store's own journal) a crash leaves both or neither.
    /// Where it is not, as on NATS, the copy comes first and the place last:
    ///
    /// | | one batch | step by step |
    /// | --- | --- | --- |
    /// | an event that was handled | is handled again behind a crash before its place was written | the same |
    /// | a dead letter, a parked event | is there once, with the step over it | may be there before the step: the event is then tried, or set aside, once more; its copy is written again only behind the time for which the backplane remembers stamps |
    /// | a process that ended in the handler | is known for certain on one machine | the same, as far as it ran in this boot of this machine; of another machine, or from before a start, nothing is counted |
    /// | two of one name | one has the store open | each moves on behind the other; an event may be handled by both |
    ///
    /// The handler is called in one of the few threads that all folds and consumers of the store share
    /// ([`Options::fold_threads`](crate::Options::fold_threads)): while it runs it takes one of them. The consumer does not keep
    /// the store open; a `Store` that the handler brings along does.
    ///
    /// ```
    /// use std::sync::mpsc::channel;
    /// use esker::{ConsumerOptions, Delivery, Store, Topic};
    ///
    /// const ORDERS: Topic<String> = Topic::new("order");
    ///
    /// # fn main() -> esker::Result<()> {
    /// let store = Store::in_memory()?;
    /// let order = store.topic(ORDERS, "8812")?;
    /// let (tell, told) = channel();
    /// let shipping = order.on_event("ship", ConsumerOptions::new(), move |d: &Delivery<'_, String>| {
    ///     // Whoever is called twice knows the key.
    ///     tell.send((d.event.clone(), d.idempotency_key()))?;
    ///     Ok(())
    /// })?;
    /// order.append(&"placed".to_owned())?;
    /// assert_eq!(told.recv().unwrap().0, "placed");
    /// shipping.close()?;
    /// assert_eq!(order.consumers()?[0].name, "ship");
    /// # store.close() }
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidOptions` with all that is wrong. `CursorInUse` if it runs in this store already. `LimitReached` if the topic has too
    /// many. `Corrupt` or `FormatTooNew` for what is written of it. `Io` if no thread can be started. `Closed`. A backplane that
    /// cannot be reached is no error here: like all that goes wrong later its [status](Consumer::status) says that.
    pub fn on_event<F>(&self, name: &str, options: ConsumerOptions, handler: F) -> Result<Consumer>
    where
        T: DeserializeOwned + 'static,
        F: Fn(&Delivery<'_, T>) -> Handled + Send + 'static,
    {
        self.store.consume(self.topic, Some(&self.key), name, options, handler)
    }

    /// The consumers of this topic, running or not, those of its whole stream among them; and how far each has come.
    ///
    /// # Errors
    ///
    /// As [`load`](crate::backplane::Backplane::load); `Corrupt`.
    pub fn consumers(&self) -> Result<Vec<ConsumerInfo>> {
        consumers_of(&**self.store.backplane()?, self.filter())
    }

    /// Forgets a consumer of this topic, so that it holds nothing back any more. One that runs halts. Answers whether there was
    /// one.
    ///
    /// # Errors
    ///
    /// As [`consumers`](Self::consumers), and [`commit`](crate::backplane::Backplane::commit).
    pub fn retire_consumer(&self, name: &str) -> Result<bool> {
        let of = identity(self.topic.name(), Some(&self.key), name, None);
        retire(&**self.store.backplane()?, &of)
    }
}

impl Store {
    /// Calls a handler for each event of all topics of a stream, in the order of the stream: see [`TopicHandle::on_event`]. An event
    /// that fails holds all others up, unless it is [parked](ConsumerOptions::park) with those of its entity.
    /// [`shard`](ConsumerOptions::shard) divides the entities.
    ///
    /// # Errors
    ///
    /// As [`TopicHandle::on_event`] and [`topic`](Self::topic).
    pub fn on_event<T, F>(
        &self,
        topic: Topic<T>,
        name: &str,
        options: ConsumerOptions,
        handler: F,
    ) -> Result<Consumer>
    where
        T: DeserializeOwned + 'static,
        F: Fn(&Delivery<'_, T>) -> Handled + Send + 'static,
    {
        self.bind_topic(topic)?;
        self.consume(topic, None, name, options, handler)
    }

    /// The consumers of all topics of a stream, running or not; those of single topics [`TopicHandle::consumers`] tells.
    ///
    /// # Errors
    ///
    /// As [`TopicHandle::consumers`].
    pub fn consumers<T>(&self, topic: Topic<T>) -> Result<Vec<ConsumerInfo>> {
        consumers_of(&**self.backplane()?, Filter::stream(topic.name()))
    }

    /// Forgets a consumer of all topics of a stream, or one of its [parts](ConsumerOptions::shard); see
    /// [`TopicHandle::retire_consumer`].
    ///
    /// # Errors
    ///
    /// As [`TopicHandle::retire_consumer`].
    pub fn retire_consumer<T>(&self, topic: Topic<T>, name: &str, shard: Option<(u32, u32)>) -> Result<bool> {
        retire(&**self.backplane()?, &identity(topic.name(), None, name, shard))
    }

    fn consume<T, F>(
        &self,
        topic: Topic<T>,
        key: Option<&[u8]>,
        name: &str,
        options: ConsumerOptions,
        handler: F,
    ) -> Result<Consumer>
    where
        T: DeserializeOwned + 'static,
        F: Fn(&Delivery<'_, T>) -> Handled + Send + 'static,
    {
        let of = identity(topic.name(), key, name, options.part());
        let (clock, meter) = (&self.journal.core().options.clock, &self.journal.core().meter);
        let handler = Handler::new(handler, topic.schema_version());
        let runs_on = (self.projectors.pool(), &**meter);
        self.consumers.start(runs_on, (self.backplane()?, clock), of, options, handler)
    }

    /// So that the tool decodes it without the application.
    pub(super) fn bind_topic<'t, T: Deserialize<'t>>(&self, topic: Topic<T>) -> Result<()> {
        if self.backplane_is_given {
            return Ok(());
        }
        self.bind(topic.as_facts()).map(drop)
    }
}

fn identity(stream: &str, key: Option<&[u8]>, name: &str, shard: Option<(u32, u32)>) -> Identity {
    let key = key.map(|key| Bytes(key.to_vec()));
    Identity { name: name.to_owned(), stream: stream.to_owned(), key, shard }
}
