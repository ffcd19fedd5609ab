//! What a handler is given, and what it answers.

use std::error::Error as StdError;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::de::DeserializeOwned;

use crate::backplane::{Offset, Stamp, StreamRecord};
use crate::codec::decode_bytes;
use crate::error::{Error, ErrorKind, Result};
use crate::fold::value::{Unfit, decode};
use crate::id::IdempotencyKey;

/// What a handler answers: done, or why not, in which case it is called again.
pub type Handled = std::result::Result<(), Box<dyn StdError + Send + Sync>>;

/// One event on its way to a handler.
pub struct Delivery<'d, T> {
    /// What happened.
    pub event: T,
    raw: Raw<'d>,
}

impl<T> Delivery<'_, T> {
    /// The key of its topic.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.raw.record.key()
    }

    /// Its place.
    #[must_use]
    pub fn offset(&self) -> Offset {
        self.raw.record.offset()
    }

    /// The how manieth attempt it is, from 1. Those count that answered an error; a process that ended in one is not among them.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.raw.attempt
    }

    /// A key for what is done elsewhere: the same in each attempt, in each process, and where the event was appended again; no
    /// other event has it, and no other consumer.
    #[must_use]
    pub fn idempotency_key(&self) -> IdempotencyKey {
        self.raw.idempotency_key
    }

    /// True when the consumer is to stop: a handler that takes long looks now and then, and answers an error, which does
    /// not count.
    #[must_use]
    pub fn cancelled(&self) -> bool {
        self.raw.cancelled.load(Ordering::Acquire)
    }

    /// The record itself.
    #[must_use]
    pub fn record(&self) -> &StreamRecord {
        self.raw.record
    }
}

impl<T> fmt::Debug for Delivery<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delivery({:?}, attempt {})", self.raw.record, self.raw.attempt)
    }
}

/// The same, before it is decoded.
#[derive(Clone, Copy)]
pub(super) struct Raw<'d> {
    pub(super) record: &'d StreamRecord,
    pub(super) attempt: u32,
    pub(super) idempotency_key: IdempotencyKey,
    pub(super) cancelled: &'d AtomicBool,
}

/// What became of a delivery.
pub(super) enum Outcome {
    Done,
    Failed(String),
    /// The handler was not called.
    Unfit(Unfit),
}

/// A handler, whatever it takes.
pub(super) trait Deliver: Send {
    fn deliver(&self, raw: Raw<'_>) -> Outcome;
}

/// A handler of events of some type.
pub(crate) struct Handler(pub(super) Box<dyn Deliver>);

impl Handler {
    /// Of events that are read as of this version.
    pub(crate) fn new<T, F>(handler: F, schema: u16) -> Self
    where
        T: DeserializeOwned + 'static,
        F: Fn(&Delivery<'_, T>) -> Handled + Send + 'static,
    {
        Self(Box::new(Typed { handler, schema, takes: PhantomData }))
    }
}

struct Typed<T, F> {
    handler: F,
    schema: u16,
    takes: PhantomData<fn(T)>,
}

impl<T, F> Deliver for Typed<T, F>
where
    T: DeserializeOwned,
    F: Fn(&Delivery<'_, T>) -> Handled + Send,
{
    fn deliver(&self, raw: Raw<'_>) -> Outcome {
        let event = match decode::<T>(raw.record, self.schema) {
            Ok(event) => event,
            Err(unfit) => return Outcome::Unfit(unfit),
        };
        match (self.handler)(&Delivery { event, raw }) {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }
}

/// A record that was set aside: what it is, and why.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Which consumer gave it up.
    pub consumer: String,
    /// The stream that it is of.
    pub stream: String,
    /// The key of its topic.
    pub key: Vec<u8>,
    /// Its place.
    pub offset: Offset,
    /// By whom it is.
    pub stamp: Option<Stamp>,
    /// The version that wrote it; 0: not said.
    pub schema: u16,
    /// When it was appended, in nanoseconds since 1970.
    pub time: i64,
    /// Its payload; `None` in a copy of one that is too large to be copied: it is still in its topic, until that is compacted.
    pub payload: Option<Vec<u8>>,
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last attempt failed.
    pub cause: String,
    /// The consumer is one of all topics of the stream.
    pub is_of_all_topics: bool,
    /// Which part of the entities it consumes, and of how many.
    pub shard: Option<(u32, u32)>,
}

impl DeadLetter {
    /// What happened, decoded now as its topic stores it; `None` if the record was too large to be copied: it is still in its topic,
    /// until that is compacted.
    ///
    /// # Errors
    ///
    /// `Codec` if it is no `T`.
    pub fn value<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let Some(payload) = &self.payload else { return Ok(None) };
        decode_bytes(payload).map(Some).map_err(|cause| {
            Error::new(ErrorKind::Codec, format!("decode a record of {:?} that was set aside", self.stream))
                .concerning(self.offset.raw())
                .because(cause)
        })
    }
}

impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("consumer", &self.consumer)
            .field("stream", &self.stream)
            .field("key", &String::from_utf8_lossy(&self.key))
            .field("offset", &self.offset)
            .field("payload_bytes", &self.payload.as_ref().map(Vec::len))
            .field("attempts", &self.attempts)
            .field("cause", &self.cause)
            .finish_non_exhaustive()
    }
}
