//! The lines, as they stand in a file.

use std::borrow::Cow;
use std::time::Duration;

use esker::backplane::Stamp;
use esker::dump::{FORMAT_VERSION, base64_bytes, key_bytes, rfc3339};
use esker::{
    Codec, Generation, IdempotencyKey, ImportEntry, ImportKind, Keep, KindId, KindInfo, Liveness, Origin,
    Owner, Reader, Seq, SourceInfo, StoreId,
};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

use super::state::{Event, IN_EPOCH, Row, SYNTHETIC};

/// The number of the lines' schema: greater when a field changes its meaning.
pub const SCHEMA: u32 = 1;

/// No line of an export is longer: a payload and metadata in base64, or all kinds that there can be.
pub const LINE_BYTES_MAX: usize = 128 << 20;

/// What a line says.
#[derive(Debug)]
pub enum Line {
    /// The first one.
    Header(Header),
    /// An entry, ready to be imported.
    Entry(ImportEntry),
    /// What was damaged where the export was made: a gap says how much.
    Finding,
    /// The last one.
    Summary(Summary),
}

/// The first line: which store it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    #[serde(rename = "type")]
    what: String,
    tool: String,
    version: String,
    schema: u32,
    command: String,
    store: String,
    format: u16,
    /// As text: more than 53 bits. Once it was a number.
    #[serde(deserialize_with = "text_or_number")]
    era: String,
    created: String,
    created_ns: String,
    segment_bytes: u64,
    forgot: bool,
    filtered: bool,
    kinds: Vec<Kind>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sources: Vec<Source>,
}

/// A source of the header.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    id: u8,
    name: String,
    claimed_ns: String,
    /// How long it may be silent, in milliseconds; left out: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline_ms: Option<u64>,
    /// What it asserts stays until its next session.
    #[serde(default, skip_serializing_if = "is_false")]
    settled: bool,
}

/// A kind of the header.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kind {
    number: u16,
    name: String,
    version: u16,
    codec: String,
    owner: String,
    fields: Vec<String>,
    /// What compaction keeps of it.
    #[serde(default = "all")]
    keep: String,
    /// Of a kind of operations, the numbers of the last event: of the store, and of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_event: Option<(u64, u64)>,
}

/// Of an export that does not say it.
fn all() -> String {
    word(&Keep::All)
}

/// The last line: what came before it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    #[serde(rename = "type")]
    pub(super) what: String,
    /// Entries.
    pub entries: u64,
    /// Batches, each counted for its parts where it is cut.
    pub batches: u64,
    /// Batches of which entries are not here.
    pub batches_cut: u64,
    /// Runs of Seqs that are not here.
    pub gaps: u64,
    /// How many Seqs that is.
    pub missing: u64,
    /// Places that were damaged where the export was made.
    pub damaged: u64,
    /// The last Seq that the store had given; 0: none.
    pub log_last_seq: u64,
}

/// An entry, as it is read.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry<'a> {
    #[serde(rename = "type")]
    _what: IgnoredAny,
    seq: u64,
    generation: u64,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    key: Cow<'a, str>,
    /// For people; `time_ns` is what counts.
    #[serde(default, rename = "time")]
    _time: IgnoredAny,
    #[serde(borrow)]
    time_ns: Cow<'a, str>,
    #[serde(default)]
    source: u8,
    #[serde(default)]
    more: bool,
    #[serde(default)]
    tombstone: bool,
    #[serde(default)]
    idempotency_key: Option<String>,
    #[serde(default)]
    correlation: Option<String>,
    #[serde(default)]
    cause: Option<u64>,
    #[serde(default)]
    depth: Option<u8>,
    #[serde(default)]
    schema_version: Option<u16>,
    #[serde(default)]
    stamp: Option<String>,
    #[serde(default)]
    row: Option<Row>,
    #[serde(default)]
    event: Option<Event>,
    #[serde(default, borrow)]
    metadata: Option<Cow<'a, str>>,
    #[serde(default)]
    metadata_base64: Option<String>,
    #[serde(default, borrow)]
    payload_text: Option<Cow<'a, str>>,
    #[serde(default)]
    payload_base64: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Header {
    pub(super) fn new(reader: &Reader, segment_bytes: u64, forgot: bool, filtered: bool) -> Self {
        Self {
            what: "header".to_owned(),
            tool: "esker".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            schema: SCHEMA,
            command: "export".to_owned(),
            store: reader.store_id().to_string(),
            format: FORMAT_VERSION,
            era: reader.era().to_string(),
            created: rfc3339(reader.created()),
            created_ns: reader.created().to_string(),
            segment_bytes,
            forgot,
            filtered,
            kinds: reader.kinds().iter().map(|kind| Kind::of(kind, reader)).collect(),
            sources: reader.sources().into_iter().map(Source::of).collect(),
        }
    }

    /// Its sources.
    ///
    /// # Errors
    ///
    /// What is wrong with one.
    pub fn sources(&self) -> Result<Vec<SourceInfo>, String> {
        self.sources.iter().map(Source::to_import).collect()
    }

    /// The store that the export is of.
    ///
    /// # Errors
    ///
    /// What is wrong with the header.
    pub fn origin(&self) -> Result<Origin, String> {
        let store = StoreId::from_bytes(sixteen(&self.store, "store")?);
        let created = nanoseconds(&self.created_ns, "created_ns")?;
        let era = self.era.parse().map_err(|_| format!("`era` is no number of 64 bits: {:?}", self.era))?;
        Ok(Origin::new(store, era, created).segment_bytes(self.segment_bytes).forgot(self.forgot))
    }

    /// Its kinds.
    ///
    /// # Errors
    ///
    /// What is wrong with one.
    pub fn kinds(&self) -> Result<Vec<ImportKind>, String> {
        self.kinds.iter().map(Kind::to_import).collect()
    }
}

impl Source {
    fn of(source: SourceInfo) -> Self {
        let deadline = source.liveness.deadline();
        Self {
            id: source.id,
            claimed_ns: source.claimed.to_string(),
            deadline_ms: deadline.map(|deadline| u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX)),
            settled: source.settled,
            name: source.name,
        }
    }

    fn to_import(&self) -> Result<SourceInfo, String> {
        let claimed = nanoseconds(&self.claimed_ns, "claimed_ns")?;
        let liveness = self
            .deadline_ms
            .map_or(Liveness::Forever, |millis| Liveness::Deadline(Duration::from_millis(millis)));
        let source = SourceInfo::new(self.id, self.name.as_str(), claimed);
        Ok(source.liveness(liveness).settled(self.settled))
    }
}

/// A value's own word for itself, in small letters.
fn word(value: &dyn std::fmt::Debug) -> String {
    format!("{value:?}").to_lowercase()
}

impl Kind {
    fn of(kind: &KindInfo, reader: &Reader) -> Self {
        // Where the end of the log cannot be read, its entries will say so.
        let last_event = reader.last_event(kind.id).ok().filter(|numbers| *numbers != (0, 0));
        Self {
            last_event,
            number: kind.id.get(),
            name: kind.name.clone(),
            version: kind.version,
            codec: word(&kind.codec),
            owner: word(&kind.owner),
            fields: kind.fields.clone(),
            keep: word(&kind.keep),
        }
    }

    fn to_import(&self) -> Result<ImportKind, String> {
        let Self { number, name, version, codec, owner, fields, keep, last_event } = self;
        let codec = match codec.as_str() {
            "bytes" => Codec::Bytes,
            "messagepack" => Codec::MessagePack,
            "json" => Codec::Json,
            other => {
                return Err(format!(
                    "the kind {name:?} has the codec {other:?}, which this build does not know"
                ));
            }
        };
        let owner = match owner.as_str() {
            "facts" => Owner::Facts,
            "state" => Owner::State,
            "events" => Owner::Events,
            other => {
                return Err(format!(
                    "the kind {name:?} has the owner {other:?}, which this build does not know"
                ));
            }
        };
        let keep = match keep.as_str() {
            "all" => Keep::All,
            "latest" => Keep::Latest,
            "nothing" => Keep::Nothing,
            "fold" => Keep::Fold,
            other => {
                return Err(format!(
                    "of the kind {name:?} {other:?} is kept, which this build does not know"
                ));
            }
        };
        let kind = ImportKind::new(*number, name.clone()).version(*version).codec(codec).owner(owner);
        let (store, of_kind) = last_event.unwrap_or_default();
        Ok(kind.fields(fields.clone()).keep(keep).last_event(store, of_kind))
    }
}

impl<'a> Entry<'a> {
    /// The name of its kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The entry that the line is about.
    ///
    /// # Errors
    ///
    /// What is wrong with a field.
    pub fn to_import(&self, kind: KindId) -> Result<ImportEntry, String> {
        let seq = Seq::new(self.seq).ok_or("`seq` is 0: entries are numbered from 1")?;
        let generation =
            Generation::new(self.generation).ok_or("`generation` is 0: they are numbered from 1")?;
        let key = key_bytes(&self.key).ok_or("`key` is no hexadecimal behind `hex:`")?;
        let payload = match (&self.payload_text, &self.payload_base64) {
            (Some(text), None) => text.as_bytes().to_vec(),
            (None, Some(digits)) => {
                base64_bytes(digits).ok_or("`payload_base64` is no base64 with padding")?
            }
            (None, None) => return Err("neither `payload_text` nor `payload_base64` is there".to_owned()),
            (Some(_), Some(_)) => return Err("both `payload_text` and `payload_base64` are there".to_owned()),
        };
        let metadata = match (&self.metadata, &self.metadata_base64) {
            (None, None) => Vec::new(),
            (Some(text), None) => text.as_bytes().to_vec(),
            (None, Some(digits)) => {
                base64_bytes(digits).ok_or("`metadata_base64` is no base64 with padding")?
            }
            (Some(_), Some(_)) => return Err("both `metadata` and `metadata_base64` are there".to_owned()),
        };
        let cause = match (self.cause, self.depth) {
            (None, None) => None,
            (Some(seq), Some(depth)) => Some((seq, depth)),
            _ => return Err("one of `cause` and `depth` is there without the other".to_owned()),
        };
        let sixteen =
            |text: &Option<String>, field| text.as_ref().map(|text| sixteen(text, field)).transpose();
        let stamp: Option<Stamp> = self
            .stamp
            .as_ref()
            .map(|text| text.parse().map_err(|error: esker::Error| format!("`stamp`: {error}")))
            .transpose()?;
        let idempotency_key = sixteen(&self.idempotency_key, "idempotency_key")?.map(IdempotencyKey);
        let entry = ImportEntry::new(seq, generation, kind, key, payload);
        let entry = match self.row.as_ref().map(|row| row.to_import(self.schema_version)).transpose()? {
            Some((operation, mark)) => entry.row(operation, mark),
            None => entry,
        };
        let event = self.event.as_ref().map(|event| event.to_import(self.schema_version)).transpose()?;
        let entry = match event {
            Some((operation, mark, why)) => {
                entry.event(operation, mark).in_epoch(why == IN_EPOCH).synthetic(why == SYNTHETIC)
            }
            None => entry,
        };
        Ok(entry
            .metadata(metadata)
            .time(nanoseconds(&self.time_ns, "time_ns")?)
            .source(self.source)
            .more(self.more)
            .tombstone(self.tombstone)
            .correlation(sixteen(&self.correlation, "correlation")?)
            .causation(cause)
            .idempotency_key(idempotency_key)
            .stamp(stamp.map(|stamp| (stamp.writer.raw(), stamp.n)))
            .schema_version(self.schema_version))
    }
}

fn text_or_number<'de, D: Deserializer<'de>>(era: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }
    Ok(match Either::deserialize(era)? {
        Either::Number(number) => number.to_string(),
        Either::Text(text) => text,
    })
}

fn nanoseconds(text: &str, field: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("`{field}` is no number of nanoseconds in 64 bits: {text:?}"))
}

fn sixteen(text: &str, field: &str) -> Result<[u8; 16], String> {
    let bytes = key_bytes(&format!("hex:{text}"));
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| format!("`{field}` is not 32 hexadecimal digits"))
}
