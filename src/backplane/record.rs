//! What a feed delivers, and what a cell holds.

use std::fmt;
use std::sync::Arc;

use crate::backplane::name::{Offset, Revision, Stamp};
use crate::journal::entry::OwnedEntry;

/// One record of a stream.
#[derive(Clone)]
pub struct StreamRecord {
    offset: Offset,
    stamp: Option<Stamp>,
    schema: u16,
    time: i64,
    bytes: Bytes,
}

/// A place in the history of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlaceInTopic {
    /// Dense, from the first on.
    pub(crate) generation: u64,
    /// Nothing stands before it: there was nothing, or it was erased. A log that is of one topic alone says so of a record
    /// behind what it lost too.
    pub(crate) is_first: bool,
}

/// The key and the payload.
#[derive(Clone)]
enum Bytes {
    /// Copied once, and shared.
    Owned { key: Arc<[u8]>, payload: Arc<[u8]> },
    /// Where the log has them.
    Mapped(OwnedEntry),
}

impl StreamRecord {
    /// A record as a backplane delivers it: for those who implement one. `time` is nanoseconds since 1970.
    #[must_use]
    pub fn new(
        offset: Offset,
        stamp: Option<Stamp>,
        time: i64,
        key: impl Into<Arc<[u8]>>,
        payload: impl Into<Arc<[u8]>>,
    ) -> Self {
        let bytes = Bytes::Owned { key: key.into(), payload: payload.into() };
        Self { offset, stamp, schema: 0, time, bytes }
    }

    /// The same, of a version.
    #[must_use]
    pub fn with_schema(mut self, version: u16) -> Self {
        self.schema = version;
        self
    }

    pub(super) fn of_entry(owned: OwnedEntry) -> Self {
        let entry = owned.entry();
        let (offset, time) = (Offset::from_raw(entry.seq().get()), entry.time());
        let stamp = entry.stamp().map(Stamp::of_bytes);
        let schema = entry.schema_version().unwrap_or(0);
        Self { offset, stamp, schema, time, bytes: Bytes::Mapped(owned) }
    }

    /// Its place in the stream.
    #[must_use]
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// Its stamp, if that is a number of a dense row.
    pub(crate) fn counted(&self) -> Option<Stamp> {
        self.stamp.filter(|stamp| !stamp.is_keyed())
    }

    /// The key of its topic.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Owned { key, .. } => key,
            Bytes::Mapped(entry) => entry.key(),
        }
    }

    /// What happened, as it was appended.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Owned { payload, .. } => payload,
            Bytes::Mapped(entry) => entry.payload(),
        }
    }

    /// Who appended it, and as the how manieth of its topic; `None`: by other means than a backplane's, for example as a
    /// fact of a [`Store`](crate::Store).
    #[must_use]
    pub fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }

    /// Where it stands in the history of its topic, if the log says that.
    pub(crate) fn place_in_topic(&self) -> Option<PlaceInTopic> {
        let Bytes::Mapped(owned) = &self.bytes else { return None };
        let entry = owned.entry();
        let (generation, seq) = (entry.generation().get(), entry.seq().get());
        // A history begins with 1, or with its Seq where another one may have been before it. One that goes on behind a hole does with
        // its next number.
        let is_first = entry.is_first() && (generation == 1 || generation == seq);
        Some(PlaceInTopic { generation, is_first })
    }

    /// The version of what the payload is; 0: that was not said.
    #[must_use]
    pub fn schema(&self) -> u16 {
        self.schema
    }

    /// When it was appended, by the backplane's clock: nanoseconds since 1970. It may go back from record to record.
    #[must_use]
    pub fn time(&self) -> i64 {
        self.time
    }
}

impl PartialEq for StreamRecord {
    fn eq(&self, other: &Self) -> bool {
        (self.offset, self.stamp, self.schema, self.time)
            == (other.offset, other.stamp, other.schema, other.time)
            && self.key() == other.key()
            && self.payload() == other.payload()
    }
}

impl Eq for StreamRecord {}

impl fmt::Debug for StreamRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamRecord")
            .field("offset", &self.offset)
            .field("key", &String::from_utf8_lossy(self.key()))
            .field("stamp", &self.stamp)
            .field("payload_bytes", &self.payload().len())
            .finish()
    }
}

/// What a cell holds.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CellState {
    /// The bytes; `None`: it was never written, or what it held was taken out.
    pub bytes: Option<Vec<u8>>,
    /// [`Revision::NEVER`] for one that was never written.
    pub revision: Revision,
}

impl CellState {
    /// A cell at a revision.
    #[must_use]
    pub const fn new(bytes: Option<Vec<u8>>, revision: Revision) -> Self {
        Self { bytes, revision }
    }
}
