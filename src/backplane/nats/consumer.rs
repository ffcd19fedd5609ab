//! A consumer of the server: messages as they are pushed, with the proof that none is missing.
//!
//! It is ephemeral and belongs to one reader. The server numbers what it delivers, densely from 1; a number that is not
//! the next one, a heartbeat that says so, or silence ends it: nothing is asked for again. Whoever reads begins another
//! one behind the last message that came.

use std::pin::Pin;
use std::time::Duration;

use async_nats::jetstream::consumer::Info;
use async_nats::{Message, StatusCode, Subscriber};
use futures_core::Stream;

use crate::backplane::nats::message::Raw;
use crate::backplane::nats::server::{Server, unreachable};
use crate::backplane::record::StreamRecord;
use crate::error::{Error, ErrorKind, Result};

/// The server says at least so often that it is there.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(2);
/// Silence that is longer is an end.
const SILENCE: Duration = Duration::from_secs(7);
/// In a heartbeat: the number of the last delivery.
const LAST_DELIVERY: &str = "Nats-Last-Consumer";

#[derive(Debug)]
pub(super) struct Consumer {
    server: Server,
    subscriber: Subscriber,
    name: String,
    /// What there was to read when it was made.
    pub(super) pending: u64,
    /// The number of the last delivery.
    delivered: u64,
}

/// What was delivered.
#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) record: StreamRecord,
    /// So many more were there when it was sent.
    pub(super) pending: u64,
}

/// The next message of a subscription; `None`: it has ended.
pub(super) async fn next_of(subscriber: &mut Subscriber) -> Option<Message> {
    std::future::poll_fn(|context| Pin::new(&mut *subscriber).poll_next(context)).await
}

impl Consumer {
    pub(super) fn new(server: Server, info: &Info, subscriber: Subscriber) -> Self {
        Self { server, subscriber, name: info.name.clone(), pending: info.num_pending, delivered: 0 }
    }

    /// The next record. Behind an error it is of no more use.
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
        let raw = Raw {
            subject: message.subject.as_str(),
            sequence: info.stream_sequence,
            headers: message.headers.as_ref(),
            payload: &message.payload,
            time: info.published.unix_timestamp_nanos(),
        };
        Ok(Some(Delivered { record: raw.record(&self.server.names)?, pending: info.pending }))
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
        let last = message.headers.as_ref().and_then(|headers| headers.get(LAST_DELIVERY));
        let last: Option<u64> = last.and_then(|last| last.as_str().parse().ok());
        match last {
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
