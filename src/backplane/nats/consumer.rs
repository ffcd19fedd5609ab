//! A consumer of the server: messages as they are pushed, with the proof that none is missing.
//!
//! It is ephemeral and belongs to one reader. The server numbers what it delivers, densely from 1; a number that is not
//! the next one, a heartbeat that says so, or silence ends it: nothing is asked for again. Whoever reads begins another
//! one behind the last message that came.
//!
//! Dense numbers do not prove everything. Where an operator purges one subject, a server (2.9 does) sets each consumer that
//! reads it among others to what is left of that subject, and passes over what stands before, of all subjects: no number
//! that it tells shows that. So nothing here purges ([`floor`](super::floor)); and where a place that must be reached
//! is passed, or the server is silent and says that there is more, it is looked at what is there.

use std::pin::Pin;
use std::time::Duration;

use async_nats::jetstream::consumer::Info;
use async_nats::{Message, StatusCode, Subscriber};
use futures_core::Stream;

use crate::backplane::name::Stamp;
use crate::backplane::nats::message::{Raw, stamp_of};
use crate::backplane::nats::server::{Server, unreachable};
use crate::backplane::record::StreamRecord;
use crate::error::{Error, ErrorKind, Result};

/// The server says at least so often that it is there.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(2);
/// Silence that is longer is an end.
const SILENCE: Duration = Duration::from_secs(7);
/// In a heartbeat: the number of the last delivery.
const LAST_DELIVERY: &str = "Nats-Last-Consumer";
/// In a heartbeat: it waits to be told that we keep up.
const STALLED: &str = "Nats-Consumer-Stalled";

#[derive(Debug)]
pub(super) struct Consumer {
    server: Server,
    subscriber: Subscriber,
    name: String,
    subject: String,
    /// What there was to read behind the last delivery, as the server said.
    pub(super) pending: u64,
    behind: u64,
    /// The number of the last delivery.
    delivered: u64,
}

/// What was delivered.
#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) sequence: u64,
    /// `None`: of no topic.
    pub(super) key: Option<Vec<u8>>,
    pub(super) stamp: Option<Stamp>,
    pub(super) origin: Option<String>,
    /// Or why it is none that can be read.
    pub(super) record: Result<StreamRecord>,
}

/// The next message of a subscription; `None`: it has ended.
pub(super) async fn next_of(subscriber: &mut Subscriber) -> Option<Message> {
    std::future::poll_fn(|context| Pin::new(&mut *subscriber).poll_next(context)).await
}

impl Consumer {
    /// Of a subject, from a number on.
    pub(super) fn new(server: Server, info: &Info, subscriber: Subscriber, subject: &str, from: u64) -> Self {
        Self {
            server,
            subscriber,
            name: info.name.clone(),
            subject: subject.to_owned(),
            pending: info.num_pending,
            behind: from.saturating_sub(1),
            delivered: 0,
        }
    }

    /// The next message. Behind an error it is of no more use.
    pub(super) async fn next(&mut self) -> Result<Delivered> {
        loop {
            let message = match tokio::time::timeout(SILENCE, next_of(&mut self.subscriber)).await {
                Ok(Some(message)) => message,
                Ok(None) => return Err(self.ended("the end of its subscription")),
                Err(_) => return Err(self.ended(format!("silence for {SILENCE:?}"))),
            };
            if let Some(delivered) = self.take(message).await? {
                return Ok(delivered);
            }
        }
    }

    /// `None`: it was one of the server's own.
    async fn take(&mut self, message: Message) -> Result<Option<Delivered>> {
        if let Some(status) = message.status {
            self.take_status(status, message).await?;
            return Ok(None);
        }
        let (core, context) = (message, self.server.jetstream().clone());
        let message = async_nats::jetstream::Message { message: core, context };
        let info = message.info().map_err(|cause| unreachable("read a delivery", cause))?;
        if info.consumer_sequence != self.delivered + 1 {
            return Err(self.ended(format!("delivery {} behind {}", info.consumer_sequence, self.delivered)));
        }
        self.delivered = info.consumer_sequence;
        self.pending = info.pending;
        let raw = Raw {
            subject: message.subject.as_str(),
            sequence: info.stream_sequence,
            headers: message.headers.as_ref(),
            payload: &message.payload,
            time: info.published.unix_timestamp_nanos(),
        };
        Ok(Some(Delivered {
            sequence: raw.sequence,
            key: self.server.names.key_of(raw.subject),
            stamp: stamp_of(raw.headers, raw.sequence).unwrap_or_default(),
            origin: raw.origin(),
            record: raw.record(&self.server.names),
        }))
    }

    /// Behind which message it begins.
    pub(super) fn behind(&self) -> u64 {
        self.behind
    }

    /// Refuses to go on where there is a message from one number up to before another. It did not come.
    pub(super) async fn check_nothing_left_out(&self, from: u64, before: u64) -> Result<()> {
        let next = self.server.next(&self.server.names.stream, &self.subject, from).await?;
        match next.filter(|next| next.sequence < before) {
            Some(next) => Err(self.ended(format!("others, and message {} was left out", next.sequence))),
            None => Ok(()),
        }
    }

    async fn take_status(&mut self, status: StatusCode, message: Message) -> Result<()> {
        if status != StatusCode::IDLE_HEARTBEAT {
            return Err(self.ended(format!("status {status}")));
        }
        if let Some(reply) = message.reply {
            // It asks whether we keep up.
            let answer = self.server.client.publish(reply, Vec::new().into());
            return answer.await.map_err(|cause| unreachable("keep up with a consumer", cause));
        }
        let is_stalled = message.headers.as_ref().is_some_and(|headers| headers.get(STALLED).is_some());
        let last = message.headers.as_ref().and_then(|headers| headers.get(LAST_DELIVERY));
        let last: Option<u64> = last.and_then(|last| last.as_str().parse().ok());
        match last {
            // Unless it waits for us: what is read slowly is not silent.
            _ if self.pending > 0 && !is_stalled => {
                Err(self.ended(format!("idleness, and {} messages to come", self.pending)))
            }
            Some(last) if last != self.delivered => {
                Err(self.ended(format!("heartbeat behind delivery {last}, at {}", self.delivered)))
            }
            _ => Ok(()),
        }
    }

    fn ended(&self, found: impl std::fmt::Display) -> Error {
        Error::new(ErrorKind::Disconnected, format!("read on from the consumer {}", self.name))
            .sides("the next delivery", found)
    }

    /// Tells the server that it is not needed any more. It would find out.
    pub(super) async fn forget(self) {
        let _ = self.server.forget_consumer(&self.name).await;
    }
}
