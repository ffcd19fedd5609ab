//! What is imported: kinds and entries, with the numbers that they had.

use crate::error::Result;
use crate::format::extension::{Extensions, Id, causation_bytes};
use crate::format::frame::{FACT, KEY_BYTES_MAX, METADATA_BYTES_MAX, PAYLOAD_BYTES_MAX, flag};
use crate::format::operation::{EventMark, EventOperation};
use crate::format::row::{RowMark, RowOperation};
use crate::format::stamp::StampBytes;
use crate::format::system::{Codec, Keep, Owner};
use crate::id::{Generation, IdempotencyKey, KindId, SEQ_MAX, Seq};
use crate::journal::copying::Numbered;
use crate::journal::import::refused;
use crate::log::writer::{Draft, Numbers};

/// The source of an entry has six bits.
const SOURCE_MAX: u8 = 63;

/// A kind as it was in the origin.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportKind {
    /// Its number there, which it keeps.
    pub number: u16,
    /// Its name.
    pub name: String,
    /// The version of its schema, from 1.
    pub version: u16,
    /// How its payloads are encoded.
    pub codec: Codec,
    /// Who may write it.
    pub owner: Owner,
    /// The names of its fields.
    pub fields: Vec<String>,
    /// What compaction keeps of it.
    pub keep: Keep,
    /// Of a kind of operations, the numbers of the last event: among those of the store, and of the kind.
    pub last_event: (u64, u64),
}

impl ImportKind {
    /// A kind of facts that are bytes, in its first version.
    #[must_use]
    pub fn new(number: u16, name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            number,
            name,
            version: 1,
            codec: Codec::Bytes,
            owner: Owner::Facts,
            fields: Vec::new(),
            keep: Keep::All,
            last_event: (0, 0),
        }
    }

    /// The version of its schema, from 1.
    #[must_use]
    pub fn version(mut self, version: u16) -> Self {
        self.version = version;
        self
    }

    /// How its payloads are encoded.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Who may write it.
    #[must_use]
    pub fn owner(mut self, owner: Owner) -> Self {
        self.owner = owner;
        self
    }

    /// The names of its fields, in the order of declaration.
    #[must_use]
    pub fn fields(mut self, fields: Vec<String>) -> Self {
        self.fields = fields;
        self
    }

    /// Of a kind of operations, the numbers of the last event: among those of the store, and among those of the kind. So
    /// they go on where compaction has dropped it. Default: none.
    #[must_use]
    pub fn last_event(mut self, store: u64, of_kind: u64) -> Self {
        self.last_event = (store, of_kind);
        self
    }

    /// What compaction keeps of it. Default: all.
    #[must_use]
    pub fn keep(mut self, keep: Keep) -> Self {
        self.keep = keep;
        self
    }
}

/// An entry with the numbers that it had in the origin.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an entry does nothing until it is imported"]
pub struct ImportEntry {
    pub(super) seq: Seq,
    pub(super) generation: Generation,
    pub(super) kind: KindId,
    pub(super) key: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) metadata: Vec<u8>,
    pub(super) time: i64,
    pub(super) source: u8,
    pub(super) more: bool,
    pub(super) tombstone: bool,
    pub(super) correlation: Option<[u8; 16]>,
    pub(super) causation: Option<(u64, u8)>,
    pub(super) idempotency_key: Option<IdempotencyKey>,
    pub(super) schema_version: Option<u16>,
    pub(super) stamp: Option<StampBytes>,
    pub(super) row: Option<(RowOperation, RowMark)>,
    pub(super) event: Option<(EventOperation, EventMark)>,
    pub(super) suppressed: u16,
}

impl ImportEntry {
    /// An entry of the entity `kind` and `key`, with its numbers and its payload.
    pub const fn new(seq: Seq, generation: Generation, kind: KindId, key: Vec<u8>, payload: Vec<u8>) -> Self {
        Self {
            seq,
            generation,
            kind,
            key,
            payload,
            metadata: Vec::new(),
            time: 0,
            source: 0,
            more: false,
            tombstone: false,
            correlation: None,
            causation: None,
            idempotency_key: None,
            schema_version: None,
            stamp: None,
            row: None,
            event: None,
            suppressed: 0,
        }
    }

    /// What it says as a row of live state. Only for kinds of live state, of which every entry is one.
    pub const fn row(mut self, operation: RowOperation, mark: RowMark) -> Self {
        self.row = Some((operation, mark));
        self
    }

    /// What it says as an operation on live state. Only for the kinds of operations, of which every entry is one.
    pub const fn event(mut self, operation: EventOperation, mark: EventMark) -> Self {
        self.event = Some((operation, mark));
        self
    }

    /// Whether an operation is no event because it was said in an epoch.
    pub const fn in_epoch(self, is_so: bool) -> Self {
        self.suppressed_by(flag::IN_EPOCH, is_so)
    }

    /// Whether an operation is no event because no source said it.
    pub const fn synthetic(self, is_so: bool) -> Self {
        self.suppressed_by(flag::SYNTHETIC, is_so)
    }

    const fn suppressed_by(mut self, flag: u16, is_so: bool) -> Self {
        self.suppressed = if is_so { self.suppressed | flag } else { self.suppressed & !flag };
        self
    }

    /// The metadata.
    pub fn metadata(mut self, metadata: Vec<u8>) -> Self {
        self.metadata = metadata;
        self
    }

    /// When it was appended, in nanoseconds since 1970.
    pub const fn time(mut self, time: i64) -> Self {
        self.time = time;
        self
    }

    /// The source that said it, 0 to 63.
    pub const fn source(mut self, source: u8) -> Self {
        self.source = source;
        self
    }

    /// Whether its batch goes on with the next entry.
    pub const fn more(mut self, more: bool) -> Self {
        self.more = more;
        self
    }

    /// Whether it says that its entity is no more. Only for kinds whose payloads are bytes.
    pub const fn tombstone(mut self, tombstone: bool) -> Self {
        self.tombstone = tombstone;
        self
    }

    /// What it belongs to.
    pub const fn correlation(mut self, id: Option<[u8; 16]>) -> Self {
        self.correlation = id;
        self
    }

    /// The Seq of its cause, and how many causes stand behind each other.
    pub const fn causation(mut self, cause: Option<(u64, u8)>) -> Self {
        self.causation = cause;
        self
    }

    /// The name of the batch that begins with it.
    pub const fn idempotency_key(mut self, key: Option<IdempotencyKey>) -> Self {
        self.idempotency_key = key;
        self
    }

    /// Who appended it through a [backplane](crate::backplane), and as the how manieth of its entity.
    pub const fn stamp(mut self, stamp: Option<(u64, u64)>) -> Self {
        self.stamp = match stamp {
            Some((writer, n)) => Some(StampBytes { writer, n }),
            None => None,
        };
        self
    }

    /// The version of its kind's schema.
    pub const fn schema_version(mut self, version: Option<u16>) -> Self {
        self.schema_version = version;
        self
    }

    /// What is wrong with it by itself.
    pub(super) fn check(&self) -> Result<()> {
        let (seq, generation) = (self.seq.get(), self.generation.get());
        let check = |what: &str, found: u64, least: u64, most: u64| {
            if (least..=most).contains(&found) {
                return Ok(());
            }
            Err(refused(seq, what).sides(format!("{least} to {most}"), found))
        };
        check("its Seq", seq, 1, SEQ_MAX)?;
        // An entity has at most one entry a Seq, and begins with 1 or with the Seq of its first.
        check("its generation", generation, 1, seq)?;
        check("the length of its key", self.key.len() as u64, 1, KEY_BYTES_MAX as u64)?;
        check("the length of its metadata", self.metadata.len() as u64, 0, METADATA_BYTES_MAX as u64)?;
        check("the length of its payload", self.payload.len() as u64, 0, PAYLOAD_BYTES_MAX as u64)?;
        check("its source", u64::from(self.source), 0, u64::from(SOURCE_MAX))?;
        if self.row.is_none() && self.event.is_none() {
            return Ok(());
        }
        if self.correlation.is_some() || self.causation.is_some() || self.stamp.is_some() {
            return Err(
                refused(seq, "what it belongs to").sides("nothing, for a row or an operation", "something")
            );
        }
        let Some((operation, mark)) = self.row else { return self.check_event() };
        // A version rises with generations, and never faster.
        check("its version", mark.version.unwrap_or(generation), 1, generation)?;
        if (operation == RowOperation::Deleted) != self.tombstone || self.tombstone != self.payload.is_empty()
        {
            let found =
                format!("{}, tombstone {}, {} bytes", operation.name(), self.tombstone, self.payload.len());
            return Err(refused(seq, "what became of its entity")
                .sides("a tombstone without a row if it was deleted", found));
        }
        Ok(())
    }

    pub(super) fn numbered(&self) -> Numbered<'_> {
        let mut row = Extensions::default();
        // In the order in which an append writes them: the same bytes come of the same entry.
        if let Some(id) = &self.correlation {
            row.push(Id::Correlation, id);
        }
        if let Some(cause) = self.causation {
            row.push(Id::Causation, &causation_bytes(cause));
        }
        if let Some(stamp) = self.stamp {
            row.push(Id::Writer, &stamp.encode());
        }
        match (self.row, self.event, self.schema_version) {
            (Some((_, mark)), ..) => mark.write(&mut row),
            (None, Some((_, mark)), _) => mark.write(&mut row),
            (None, None, Some(version)) => row.push(Id::SchemaVersion, &version.to_le_bytes()),
            (None, None, None) => {}
        }
        if let Some(key) = &self.idempotency_key {
            row.push(Id::IdempotencyKey, &key.0);
        }
        let extensions = (!row.as_bytes().is_empty()).then(|| Box::new(row));
        let said = self.event.map(|(operation, _)| operation as u8);
        let operation = self.row.map(|(operation, _)| operation as u8).or(said).unwrap_or(FACT);
        let mut draft =
            Draft::new(operation, self.kind.get(), extensions, &self.key, &self.metadata, &self.payload);
        draft.source = self.source;
        let flag_if = |is_set, flag| if is_set { flag } else { 0 };
        let aside = flag_if(self.event.is_some(), flag::ASIDE | self.suppressed);
        let flags = flag_if(self.more, flag::MORE) | flag_if(self.tombstone, flag::TOMBSTONE) | aside;
        let (seq, generation) = (self.seq.get(), self.generation.get());
        Numbered { draft, numbers: Numbers { flags, seq, generation, time: self.time } }
    }
}
