//! What is asked of the server, one question at a time, and what its answers mean.
//!
//! Everything that decides something is asked of the leader of a stream: its API of raw messages, never direct gets.

use std::error::Error as StdError;
use std::future::Future;
use std::time::Duration;

use async_nats::client::{Request, RequestErrorKind};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, push};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{Info, LastRawMessageErrorKind, Stream};
use async_nats::jetstream::{self, ErrorCode, context::GetStreamErrorKind};
use async_nats::{Client, HeaderMap};

use crate::backplane::name::Era;
use crate::backplane::nats::consumer::{Consumer, Delivered, HEARTBEAT};
use crate::backplane::nats::names::Names;
use crate::error::{Error, ErrorKind, Result};

/// A client, and the names of what is asked for.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) client: Client,
    jetstream: jetstream::Context,
    pub(super) names: Names,
    /// An answer that takes longer is none.
    timeout: Duration,
}

/// What a publication came to.
pub(super) enum Published {
    /// It is stored under this number; `true`: it was before.
    Stored(u64, bool),
    /// Its subject's newest message is not the one that was expected.
    WrongLast,
}

/// What of a subject is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Consume {
    /// From this number on.
    pub(super) from: u64,
    pub(super) headers_only: bool,
}

/// It may have been done or not.
pub(super) fn unreachable(
    doing: impl Into<String>,
    cause: impl Into<Box<dyn StdError + Send + Sync>>,
) -> Error {
    Error::new(ErrorKind::Disconnected, doing).because(cause)
}

impl Server {
    pub(super) fn new(client: Client, names: Names, timeout: Duration) -> Self {
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(timeout);
        Self { client, jetstream, names, timeout }
    }

    pub(super) fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    /// Waits for an answer, but not for ever.
    pub(super) async fn within<T>(&self, doing: &str, work: impl Future<Output = T>) -> Result<T> {
        tokio::time::timeout(self.timeout, work).await.map_err(|_| {
            Error::new(ErrorKind::Disconnected, doing)
                .sides(format!("an answer within {:?}", self.timeout), "none")
        })
    }

    async fn stream(&self, name: &str) -> Result<Stream<()>> {
        let doing = format!("use the stream {name}");
        self.jetstream.get_stream_no_info(name).await.map_err(|cause| unreachable(doing, cause))
    }

    /// `None`: there is no such stream.
    pub(super) async fn info_if_there(&self, name: &str) -> Result<Option<Info>> {
        let doing = format!("look at the stream {name}");
        match self.within(&doing, self.jetstream.get_stream(name)).await? {
            Ok(stream) => Ok(Some(stream.cached_info().clone())),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                    Ok(None)
                }
                _ => Err(unreachable(doing, error)),
            },
        }
    }

    pub(super) async fn info(&self, name: &str) -> Result<Info> {
        self.info_if_there(name).await?.ok_or_else(|| {
            Error::new(ErrorKind::Disconnected, format!("look at the stream {name}"))
                .sides("a stream that this backplane was connected to", "none of this name: it was deleted")
        })
    }

    /// Makes a stream. Whoever is first decides how it is.
    pub(super) async fn create(&self, config: jetstream::stream::Config) -> Result<()> {
        let doing = format!("make the stream {}", config.name);
        let made = self.within(&doing, self.jetstream.create_stream(config)).await?;
        made.map(drop).map_err(|cause| unreachable(doing, cause))
    }

    /// The era: when both streams were made.
    pub(super) async fn era(&self) -> Result<Era> {
        let events = self.info(&self.names.stream).await?;
        let cells = self.info(&self.names.cells()).await?;
        Ok(era_of(&events, &cells))
    }

    async fn found(
        &self,
        doing: String,
        asked: impl Future<Output = Result<StreamMessage, jetstream::stream::LastRawMessageError>>,
    ) -> Result<Option<StreamMessage>> {
        match self.within(&doing, asked).await? {
            Ok(message) => Ok(Some(message)),
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(None),
                LastRawMessageErrorKind::JetStream(error)
                    if error.error_code() == ErrorCode::NO_MESSAGE_FOUND =>
                {
                    Ok(None)
                }
                _ => Err(unreachable(doing, error)),
            },
        }
    }

    /// The newest message of a subject, which may have wildcards.
    pub(super) async fn last(&self, stream: &str, subject: &str) -> Result<Option<StreamMessage>> {
        let handle = self.stream(stream).await?;
        self.found(format!("read the newest of {subject}"), handle.get_last_raw_message_by_subject(subject))
            .await
    }

    /// The first message of a subject from a number on.
    pub(super) async fn next(&self, stream: &str, subject: &str, from: u64) -> Result<Option<StreamMessage>> {
        let handle = self.stream(stream).await?;
        let doing = format!("read {subject} from {from} on");
        self.found(doing, handle.get_first_raw_message_by_subject(subject, from.max(1))).await
    }

    pub(super) async fn at(&self, stream: &str, sequence: u64) -> Result<Option<StreamMessage>> {
        let handle = self.stream(stream).await?;
        self.found(format!("read message {sequence} of {stream}"), handle.get_raw_message(sequence)).await
    }

    /// Publishes to a stream. `Disconnected`: nobody knows whether it is stored.
    pub(super) async fn publish(
        &self,
        stream: &str,
        subject: String,
        headers: HeaderMap,
        payload: Vec<u8>,
    ) -> Result<Published> {
        let doing = format!("publish to {subject}");
        let request = Request::new().headers(headers).payload(payload.into()).timeout(Some(self.timeout));
        let answer = match self.within(&doing, self.client.send_request(subject, request)).await? {
            Ok(answer) => answer,
            Err(error) if error.kind() == RequestErrorKind::MaxPayloadExceeded => {
                return Err(Error::new(ErrorKind::InvalidInput, doing).because(error));
            }
            Err(error) => return Err(unreachable(doing, error)),
        };
        let ack = serde_json::from_slice::<Response<PublishAck>>(&answer.payload)
            .map_err(|cause| unreachable(&*doing, cause))?;
        match ack {
            Response::Ok(ack) if ack.stream != stream => Err(Error::new(ErrorKind::InvalidInput, doing)
                .sides(
                    format!("subjects that only the stream {stream} takes"),
                    format!("taken by {}", ack.stream),
                )),
            Response::Ok(ack) => Ok(Published::Stored(ack.sequence, ack.duplicate)),
            Response::Err { error } => match error.error_code() {
                ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => {
                    Ok(Published::WrongLast)
                }
                code => Err(refused(doing, code, error.code(), error)),
            },
        }
    }

    /// Drops a message of the stream of events.
    pub(super) async fn delete(self, sequence: u64) -> Result<()> {
        let (stream, doing) = (&self.names.stream, format!("delete message {sequence}"));
        let subject = format!("STREAM.MSG.DELETE.{stream}");
        // Not overwritten: that would rewrite a block for each.
        let what = serde_json::json!({ "seq": sequence, "no_erase": true });
        let asked = self.jetstream.request(subject, &what);
        let answer: Response<serde_json::Value> =
            self.within(&doing, asked).await?.map_err(|cause| unreachable(&*doing, cause))?;
        match answer {
            Response::Ok(_) => Ok(()),
            // Somebody else was first.
            Response::Err { .. } if self.at(stream, sequence).await?.is_none() => Ok(()),
            Response::Err { error } => Err(refused(doing, error.error_code(), error.code(), error)),
        }
    }

    /// Begins to read the stream of events.
    pub(super) async fn consume(&self, subject: &str, consume: Consume) -> Result<Consumer> {
        let doing = format!("read {subject}");
        let inbox = self.client.new_inbox();
        // Before the consumer, or its first messages go to nobody.
        let subscriber = self.within(&doing, self.client.subscribe(inbox.clone())).await?;
        let subscriber = subscriber.map_err(|cause| unreachable(&*doing, cause))?;
        let config = push::Config {
            deliver_subject: inbox,
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: consume.from.max(1) },
            ack_policy: AckPolicy::None,
            max_deliver: 1,
            filter_subject: subject.to_owned(),
            headers_only: consume.headers_only,
            flow_control: true,
            idle_heartbeat: HEARTBEAT,
            num_replicas: 1,
            memory_storage: true,
            inactive_threshold: HEARTBEAT * 3,
            ..push::Config::default()
        };
        let stream = self.stream(&self.names.stream).await?;
        let made = self.within(&doing, stream.create_consumer(config)).await?;
        let made = made.map_err(|cause| unreachable(&*doing, cause))?;
        Ok(Consumer::new(self.clone(), made.cached_info(), subscriber, subject, consume.from))
    }

    /// Shows the headers of what a subject of the stream of events has behind a number, in order, to somebody who answers
    /// whether it was the last one to look at. Not for longer than an answer may take, however much there is: whoever has not seen
    /// all of it by then is told `Disconnected`, and may go on behind the last one.
    pub(super) async fn look_through(
        &self,
        subject: &str,
        behind: u64,
        mut is_it: impl FnMut(&Delivered) -> bool,
    ) -> Result<()> {
        let doing = format!("look through {subject} behind {behind}");
        let looking = async {
            let first = self.next(&self.names.stream, subject, behind + 1).await?;
            let Some(first) = first else { return Ok(()) };
            let consume = Consume { from: first.sequence, headers_only: true };
            let mut consumer = self.consume(subject, consume).await?;
            while consumer.pending > 0 && !is_it(&consumer.next().await?) {}
            consumer.forget().await;
            Ok(())
        };
        self.within(&doing, looking).await?
    }

    pub(super) async fn forget_consumer(&self, name: &str) -> Result<()> {
        let doing = format!("forget the consumer {name}");
        let stream = self.stream(&self.names.stream).await?;
        let gone = self.within(&doing, stream.delete_consumer(name)).await?;
        gone.map(drop).map_err(|cause| unreachable(doing, cause))
    }

    /// How often the client has connected; `None`: it is not connected now.
    pub(super) fn connects(&self) -> Option<u64> {
        let is_up = self.client.connection_state() == async_nats::connection::State::Connected;
        is_up.then(|| self.client.statistics().connects.load(std::sync::atomic::Ordering::Relaxed))
    }
}

/// What the server does not do, and says so.
fn refused(
    doing: String,
    code: ErrorCode,
    status: usize,
    error: impl StdError + Send + Sync + 'static,
) -> Error {
    // Of no leader, no quorum, or a server that is not up yet.
    let is_passing = status >= 500;
    let kind = match code {
        ErrorCode::INSUFFICIENT_RESOURCES | ErrorCode::STORAGE_RESOURCES_EXCEEDED => ErrorKind::NoSpace,
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => ErrorKind::InvalidInput,
        ErrorCode::STREAM_STORE_FAILED => ErrorKind::LimitReached,
        _ if is_passing => ErrorKind::Disconnected,
        _ => ErrorKind::Io,
    };
    Error::new(kind, doing).because(error)
}

pub(super) fn era_of(events: &Info, cells: &Info) -> Era {
    let moment = |info: &Info| u128::try_from(info.created.unix_timestamp_nanos()).unwrap_or(0);
    Era::from_raw(moment(events) << 64 | moment(cells) & u128::from(u64::MAX))
}
