//! Commits: one step behind the other, each published with an id by which the server knows a repetition.
//!
//! A publication that is not answered may be stored. It is looked for among what came behind the last acknowledged one,
//! and then it is either answered or still unknown; when its step comes again it is looked for first, whatever the server
//! still remembers, and only then published again, under the same id. So what was on its way all the time is stored once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::HeaderMap;
use async_nats::jetstream::message::StreamMessage;
use parking_lot::Mutex;

use crate::backplane::name::{Filter, Offset, Revision, Stamp};
use crate::backplane::nats::message::{
    DELETE, HEADER_BYTES_MAX, OPERATION, ORIGIN, Raw, SCHEMA, STAMP, stamp_of,
};
use crate::backplane::nats::names::message_id;
use crate::backplane::nats::server::{Published, Server};
use crate::backplane::step::{Append, Put, Step, StepDone};
use crate::error::{Error, ErrorKind, Result};

const MESSAGE_ID: &str = "Nats-Msg-Id";
const EXPECTED_LAST: &str = "Nats-Expected-Last-Subject-Sequence";
/// The server counts in signed numbers.
const SEQUENCE_MAX: u64 = i64::MAX as u64;
/// The fate of so many publications is kept in mind. Whoever gives up so many others will not repeat the oldest.
const UNKNOWN_MAX: usize = 1 << 16;

/// What of its own publications a process does not know.
#[derive(Debug, Default)]
pub(super) struct Fates {
    /// What has no answer yet, and behind which number it would be.
    unknown: Mutex<HashMap<(String, Stamp), u64>>,
    /// The greatest number that was acknowledged: by stream.
    events: AtomicU64,
    cells: AtomicU64,
}

/// One step as it is published.
struct Publication<'s> {
    subject: String,
    /// To a cell.
    is_cell: bool,
    stamp: Stamp,
    payload: Option<&'s [u8]>,
    schema: u16,
    expect: Option<u64>,
    origin: Option<&'s str>,
}

/// Where a step is.
struct Stored {
    sequence: u64,
    repeated: bool,
}

impl Fates {
    fn acknowledged(&self, is_cell: bool) -> &AtomicU64 {
        if is_cell { &self.cells } else { &self.events }
    }

    fn known_behind(&self, publication: &Publication<'_>) -> Option<u64> {
        self.unknown.lock().get(&(publication.subject.clone(), publication.stamp)).copied()
    }

    fn keep(&self, publication: &Publication<'_>, behind: u64) {
        let mut unknown = self.unknown.lock();
        let publication = (publication.subject.clone(), publication.stamp);
        if unknown.len() >= UNKNOWN_MAX && !unknown.contains_key(&publication) {
            let oldest = unknown.iter().min_by_key(|(_, behind)| **behind).map(|(oldest, _)| oldest.clone());
            oldest.map(|oldest| unknown.remove(&oldest));
        }
        unknown.entry(publication).or_insert(behind);
    }

    /// It is not between these two: the next look begins behind them. In another era than it was that says nothing.
    fn is_not_between(&self, publication: &Publication<'_>, behind: u64, at: u64) {
        let mut unknown = self.unknown.lock();
        let known = unknown.get_mut(&(publication.subject.clone(), publication.stamp));
        known.filter(|known| **known == behind).into_iter().for_each(|known| *known = at);
    }

    fn settle(&self, publication: &Publication<'_>) {
        self.unknown.lock().remove(&(publication.subject.clone(), publication.stamp));
    }

    /// Of another era nothing is known.
    pub(super) fn forget(&self) {
        self.events.store(0, Ordering::Relaxed);
        self.cells.store(0, Ordering::Relaxed);
        self.unknown.lock().values_mut().for_each(|behind| *behind = 0);
    }
}

/// Where commits go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writing<'a> {
    pub(super) server: &'a Server,
    pub(super) fates: &'a Fates,
    pub(super) era: u128,
}

impl Writing<'_> {
    pub(super) async fn step(&self, step: &Step<'_>) -> Result<StepDone> {
        match step {
            Step::Append(append) => self.append(append, None).await,
            Step::Put(put) => self.put(put).await,
        }
    }

    pub(super) async fn append(&self, append: &Append<'_>, origin: Option<&str>) -> Result<StepDone> {
        let publication = Publication {
            subject: self.server.names.topic(append.stream, append.key),
            is_cell: false,
            stamp: append.stamp,
            payload: Some(append.payload),
            schema: append.schema,
            expect: append.expect.map(Offset::raw),
            origin,
        };
        let Stored { sequence, repeated } = self.settled(&publication).await?.map_err(|found| {
            let expected = append.expect.unwrap_or_default();
            let topic = Filter::topic(append.stream, append.key);
            Error::new(ErrorKind::Conflict, format!("append to {topic}")).sides(expected, found)
        })?;
        Ok(StepDone::Appended { offset: Offset::from_raw(sequence), repeated })
    }

    async fn put(&self, put: &Put<'_>) -> Result<StepDone> {
        let publication = Publication {
            subject: self.server.names.cell(put.cell),
            is_cell: true,
            stamp: put.stamp,
            payload: put.value,
            schema: 0,
            expect: Some(put.expect.raw()),
            origin: None,
        };
        let Stored { sequence, repeated } = self.settled(&publication).await?.map_err(|found| {
            let cell = String::from_utf8_lossy(put.cell);
            Error::new(ErrorKind::Conflict, format!("change the cell {}", cell.escape_debug()))
                .sides(format!("revision {}", put.expect), format!("revision {found}"))
        })?;
        Ok(StepDone::Put { revision: Revision::from_raw(sequence), repeated })
    }

    /// Publishes, and finds out what became of it. The inner error is what an expectation found.
    async fn settled(&self, publication: &Publication<'_>) -> Result<Result<Stored, u64>> {
        if let Some(behind) = self.fates.known_behind(publication)
            && let Some(stored) = self.find(publication, behind).await?
        {
            self.fates.settle(publication);
            return Ok(Ok(stored));
        }
        let behind = self.fates.acknowledged(publication.is_cell).load(Ordering::Relaxed);
        let stream = self.stream_of(publication);
        let published = match publication.expect {
            Some(expect) if expect > SEQUENCE_MAX => Ok(Published::WrongLast),
            _ => {
                let payload = publication.payload.unwrap_or_default().to_vec();
                let (subject, headers) = (publication.subject.clone(), self.headers(publication));
                self.server.publish(&stream, subject, headers, payload).await
            }
        };
        match published {
            Err(error) if error.kind() == ErrorKind::Disconnected => {
                self.fates.keep(publication, behind);
                // Whoever cannot be reached cannot be asked.
                if self.server.connects().is_none() {
                    return Err(error);
                }
                let Ok(Some(stored)) = self.find(publication, behind).await else { return Err(error) };
                self.fates.settle(publication);
                Ok(Ok(stored))
            }
            Err(error) => Err(error),
            Ok(published) => {
                let settled = self.answered(publication, published).await;
                if settled.is_ok() {
                    self.fates.settle(publication);
                }
                settled
            }
        }
    }

    async fn answered(
        &self,
        publication: &Publication<'_>,
        published: Published,
    ) -> Result<Result<Stored, u64>> {
        let stream = self.stream_of(publication);
        match published {
            Published::Stored(sequence, false) => {
                self.fates.acknowledged(publication.is_cell).fetch_max(sequence, Ordering::Relaxed);
                Ok(Ok(Stored { sequence, repeated: false }))
            }
            Published::Stored(sequence, true) => {
                // What was dropped or replaced since cannot be compared.
                if let Some(message) = self.server.at(&stream, sequence).await? {
                    check_content(publication, &message)?;
                }
                Ok(Ok(Stored { sequence, repeated: true }))
            }
            Published::WrongLast => {
                let newest = self.server.last(&stream, &publication.subject).await?;
                let found = newest.as_ref().map_or(0, |message| message.sequence);
                match newest {
                    // It is this step that is in its own way.
                    Some(message) if is_by(&message, publication.stamp)? => {
                        check_content(publication, &message)?;
                        Ok(Ok(Stored { sequence: found, repeated: true }))
                    }
                    _ => Ok(Err(found)),
                }
            }
        }
    }

    /// Looks for a publication behind a number.
    async fn find(&self, publication: &Publication<'_>, behind: u64) -> Result<Option<Stored>> {
        let (stream, subject) = (self.stream_of(publication), &publication.subject);
        let message = if publication.is_cell {
            // Of a cell there is one message.
            let newest = self.server.last(&stream, subject).await?;
            newest.filter(|newest| newest.sequence > behind)
        } else {
            match self.find_record(publication, behind).await? {
                Some(sequence) => self.server.at(&stream, sequence).await?,
                None => None,
            }
        };
        match message {
            Some(message) if is_by(&message, publication.stamp)? => {
                check_content(publication, &message)?;
                Ok(Some(Stored { sequence: message.sequence, repeated: true }))
            }
            _ => Ok(None),
        }
    }

    /// The number of a record of this publication behind another. A look that takes too long is gone on with by the next one.
    async fn find_record(&self, publication: &Publication<'_>, behind: u64) -> Result<Option<u64>> {
        let (mut looked, mut found) = (behind, None);
        let looks = self.server.look_through(&publication.subject, behind, |delivered| {
            looked = delivered.sequence;
            found = (delivered.stamp == Some(publication.stamp)).then_some(looked);
            found.is_some()
        });
        let all = looks.await;
        if found.is_none() {
            self.fates.is_not_between(publication, behind, looked);
            all?;
        }
        Ok(found)
    }

    fn stream_of(&self, publication: &Publication<'_>) -> String {
        let names = &self.server.names;
        if publication.is_cell { names.cells() } else { names.stream.clone() }
    }

    fn headers(&self, publication: &Publication<'_>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(MESSAGE_ID, message_id(self.era, &publication.subject, publication.stamp));
        headers.insert(STAMP, publication.stamp.to_string());
        if publication.schema > 0 {
            headers.insert(SCHEMA, publication.schema.to_string());
        }
        if let Some(expect) = publication.expect {
            headers.insert(EXPECTED_LAST, expect.to_string());
        }
        if let Some(origin) = publication.origin {
            headers.insert(ORIGIN, origin);
        }
        if publication.payload.is_none() {
            headers.insert(OPERATION, DELETE);
        }
        headers
    }
}

/// A payload of so many bytes fits a message, where the server takes so much.
pub(super) fn payload_bytes_max(server_takes: usize) -> usize {
    server_takes.saturating_sub(HEADER_BYTES_MAX)
}

fn is_by(message: &StreamMessage, stamp: Stamp) -> Result<bool> {
    Ok(stamp_of(Some(&message.headers), message.sequence)? == Some(stamp))
}

fn check_content(publication: &Publication<'_>, message: &StreamMessage) -> Result<()> {
    if Raw::of(message).is_content(publication.payload, publication.schema) {
        return Ok(());
    }
    let sent = publication.payload.map_or(0, <[u8]>::len);
    Err(Error::new(ErrorKind::KeyReused, format!("commit with stamp {}", publication.stamp))
        .sides(format!("{} bytes as before", message.payload.len()), format!("{sent} others")))
}
