//! An entry: a frame, decoded and borrowed from the mapped segment, or owned.

use std::fmt;
use std::sync::Arc;

use crate::format::extension::{Id, causation, find, idempotency_key};
use crate::format::frame::{Frame, flag};
use crate::format::stamp::StampBytes;
use crate::id::{Generation, IdempotencyKey, KindId, Life, Position, Seq};
use crate::journal::record::Causation;
use crate::log::segment::Segment;

/// One entry of the log, borrowed from mapped memory: nothing is copied.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    segment: &'a Arc<Segment>,
    offset: u64,
    frame: Frame<'a>,
}

impl<'a> Entry<'a> {
    #[inline]
    pub(crate) fn new(segment: &'a Arc<Segment>, offset: u64, frame: Frame<'a>) -> Self {
        Self { segment, offset, frame }
    }

    /// Its place in the log.
    #[must_use]
    #[inline]
    pub fn seq(&self) -> Seq {
        Seq::new(self.frame.header.seq.get()).unwrap_or(Seq::FIRST)
    }

    /// Its place in its entity's history.
    #[must_use]
    #[inline]
    pub fn generation(&self) -> Generation {
        Generation::new(self.frame.header.generation.get()).unwrap_or(Generation::FIRST)
    }

    /// The kind of its entity.
    #[must_use]
    #[inline]
    pub fn kind(&self) -> KindId {
        KindId(self.frame.header.kind.get())
    }

    /// The key of its entity: 1 to 255 bytes.
    #[must_use]
    #[inline]
    pub fn key(&self) -> &'a [u8] {
        self.frame.key()
    }

    /// The payload, as it was appended.
    #[must_use]
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.frame.payload()
    }

    /// The metadata, as it was appended; empty where there was none.
    #[must_use]
    #[inline]
    pub fn metadata(&self) -> &'a [u8] {
        self.frame.metadata()
    }

    /// The wall clock when it was appended, in nanoseconds since 1970, precise to a few
    /// milliseconds. As read: it may go back; order is by [`seq`](Self::seq).
    #[must_use]
    #[inline]
    pub fn time(&self) -> i64 {
        self.frame.header.time.get()
    }

    /// Where its frame stands.
    #[must_use]
    #[inline]
    pub fn position(&self) -> Position {
        self.segment.position(self.offset)
    }

    #[inline]
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The opening that wrote it.
    #[must_use]
    #[inline]
    pub fn life(&self) -> Life {
        self.frame.header.life()
    }

    /// The batch goes on behind it.
    #[must_use]
    #[inline]
    pub fn has_more(&self) -> bool {
        self.frame.header.has(flag::MORE)
    }

    /// Its batch ended with it, for certain: see [`flag::ENDS`].
    pub(crate) fn ends_batch(&self) -> bool {
        self.frame.header.has(flag::ENDS)
    }

    /// Its entity's history begins with it, or is dense from here on.
    #[must_use]
    #[inline]
    pub fn is_first(&self) -> bool {
        self.frame.header.has(flag::FIRST)
    }

    /// It says that its entity is no more: see [`Record::tombstone`](crate::Record::tombstone).
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.frame.header.has(flag::TOMBSTONE)
    }

    /// The name of its batch, on the first entry of a batch that has one.
    #[must_use]
    pub fn idempotency_key(&self) -> Option<IdempotencyKey> {
        idempotency_key(self.frame.extensions())
    }

    pub(crate) fn stamp(&self) -> Option<StampBytes> {
        StampBytes::read(self.frame.extensions())
    }

    /// What it belongs to, if that was said.
    #[must_use]
    pub fn correlation(&self) -> Option<[u8; 16]> {
        find(self.frame.extensions(), Id::Correlation)?.try_into().ok()
    }

    /// What it was caused by, if a reactor appended it.
    #[must_use]
    pub fn causation(&self) -> Option<Causation> {
        let (seq, depth) = causation(self.frame.extensions())?;
        Some(Causation { seq: Seq::new(seq)?, depth })
    }

    /// The version of its kind's schema, if that was said.
    #[must_use]
    pub fn schema_version(&self) -> Option<u16> {
        find(self.frame.extensions(), Id::SchemaVersion)?.try_into().ok().map(u16::from_le_bytes)
    }

    /// The bytes that its frame takes in the log.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        self.frame.len()
    }

    /// The same entry with a share in the mapped segment instead of a borrow: no payload is copied.
    #[must_use]
    pub fn to_owned(&self) -> OwnedEntry {
        OwnedEntry { segment: Arc::clone(self.segment), offset: self.offset }
    }

    /// True if nothing of their entity stood between the one entry and this one: what compaction has left may be any
    /// earlier one.
    pub(crate) fn follows(&self, before: &Entry<'_>) -> bool {
        !self.is_first() && before.generation().get() + 1 == self.generation().get()
    }

    pub(crate) fn frame(&self) -> &Frame<'a> {
        &self.frame
    }
}

impl fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("seq", &self.seq())
            .field("generation", &self.generation())
            .field("kind", &self.kind())
            .field("key", &String::from_utf8_lossy(self.key()))
            .field("payload_bytes", &self.payload().len())
            .finish()
    }
}

/// An entry that holds a share in the mapped segment: `'static`, `Send`, and cheap to clone.
///
/// The segment's file may be gone meanwhile; its memory lives as long as the entry.
#[derive(Clone)]
pub struct OwnedEntry {
    segment: Arc<Segment>,
    offset: u64,
}

impl OwnedEntry {
    /// The entry itself.
    ///
    /// # Panics
    ///
    /// If the device gave other bytes back after a failed sync: below the durable mark, and while
    /// the journal is not poisoned, the bytes of an entry do not change.
    #[must_use]
    pub fn entry(&self) -> Entry<'_> {
        let frame =
            self.segment.frame(self.offset).unwrap_or_else(|| panic!("a frame that was readable before"));
        Entry::new(&self.segment, self.offset, frame)
    }

    /// Its place in the log.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.entry().seq()
    }

    /// Its place in its entity's history.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.entry().generation()
    }

    /// The kind of its entity.
    #[must_use]
    pub fn kind(&self) -> KindId {
        self.entry().kind()
    }

    /// The key of its entity.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.entry().key()
    }

    /// The payload, as it was appended.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.entry().payload()
    }

    /// The metadata, as it was appended.
    #[must_use]
    pub fn metadata(&self) -> &[u8] {
        self.entry().metadata()
    }

    /// It says that its entity is no more: see [`Record::tombstone`](crate::Record::tombstone).
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.entry().is_tombstone()
    }
}

impl fmt::Debug for OwnedEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entry().fmt(f)
    }
}
