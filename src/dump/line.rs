//! One line, or one serializable struct, of one frame.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use serde::Serialize;

use crate::dump::frame::FrameInfo;
use crate::dump::large::{LARGE_BYTES, LargePayload};
use crate::dump::payload::{Payload, PayloadFields, PayloadStyle};
use crate::dump::text::{base64, hex, key_text, one_line, rfc3339};
use crate::dump::translate::Translators;
use crate::format::frame::flag;
use crate::format::source::SourceInfo;
use crate::format::system::KindInfo;
use crate::id::{Generation, KindId};

/// Formats frames, with the names and codecs of the store's kinds.
///
/// A line is `#Seq operation kind/key gGeneration time [flags] payload`; a
/// [physical](Self::physical) one says where the frame stands before that, and how it lies
/// on disk.
#[derive(Clone, Debug, Default)]
pub struct Dump {
    /// By number: an export asks for one an entry.
    kinds: Vec<Option<Arc<KindInfo>>>,
    /// Names by number; `None`: nobody asked for them.
    sources: Option<HashMap<u8, String>>,
    style: PayloadStyle,
    translators: Translators,
    physical: bool,
}

/// A frame with everything that is known of it, for JSON and its like.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are those of `FrameInfo`, as text where numbers would be cut")]
pub struct Fields {
    /// `entry`, or `system` for what the log writes about itself.
    #[serde(rename = "type")]
    pub what: &'static str,
    pub seq: u64,
    pub operation: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    pub time: String,
    pub time_ns: String,
    pub position: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    pub durable: String,
    pub life: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub source: u8,
    pub flags: Vec<String>,
    pub frame_bytes: u64,
    pub payload_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stamp: Option<String>,
    /// Who asserts the entity, by number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<u8>>,
    /// The same by name, where a [`Dump`] knows them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asserted_by: Option<Vec<String>>,
    /// Of a row and of an operation, whose it is: that of the last operation on a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub said_by: Option<String>,
    /// The row's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Of an operation, the row's version before its window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_before: Option<u64>,
    /// The fields that have changed, by name; of a row that is new or gone, none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<Vec<String>>,
    /// The fields that a patch named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub present: Option<Vec<String>>,
    /// Of an event, its number among those of the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// Of an event, its number among those of its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind_sequence: Option<u64>,
    pub checksums_good: bool,
    /// The payload, in its words.
    #[serde(flatten)]
    pub shown: PayloadFields,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(source: &u8) -> bool {
    *source == 0
}

impl Dump {
    /// A formatter that knows these kinds.
    #[must_use]
    pub fn new(kinds: Vec<Arc<KindInfo>>) -> Self {
        let mut dump = Self::default();
        kinds.into_iter().for_each(|kind| dump.learn_kind(kind));
        dump
    }

    /// How payloads are shown. Default: [`PayloadStyle::Auto`].
    #[must_use]
    pub fn payloads(mut self, style: PayloadStyle) -> Self {
        self.style = style;
        self
    }

    /// What makes text of payloads whose codec is an application's own, where the style is
    /// [`PayloadStyle::Auto`]. Default: nothing does.
    #[must_use]
    pub fn translators(mut self, translators: Translators) -> Self {
        self.translators = translators;
        self
    }

    /// Whether lines say how the frame lies on disk. Default: false.
    #[must_use]
    pub fn physical(mut self, physical: bool) -> Self {
        self.physical = physical;
        self
    }

    /// What sources are called: lines of rows and operations then say the version, whose it is, and who asserts the entity.
    /// Default: lines say nothing of it.
    #[must_use]
    pub fn sources(mut self, sources: Vec<SourceInfo>) -> Self {
        self.sources = Some(sources.into_iter().map(|source| (source.id, source.name)).collect());
        self
    }

    /// The name of a source as it was claimed; `#number` where none is known.
    #[must_use]
    pub fn source_name(&self, id: u8) -> String {
        let name = self.sources.as_ref().and_then(|sources| sources.get(&id));
        name.map_or_else(|| format!("#{id}"), |name| name.clone())
    }

    /// Learns of a kind or a source that was registered meanwhile, from its system frame.
    pub fn learn(&mut self, frame: &FrameInfo) {
        if let (Some(names), Some(source)) = (&mut self.sources, frame.source_info()) {
            names.insert(source.id, source.name);
        }
        if frame.system() == Some(crate::format::system::System::Kind)
            && let Some(kind) = KindInfo::read(&frame.payload)
        {
            self.learn_kind(Arc::new(kind));
        }
    }

    fn learn_kind(&mut self, kind: Arc<KindInfo>) {
        let at = usize::from(kind.id.get());
        if at >= self.kinds.len() {
            self.kinds.resize(at + 1, None);
        }
        if let Some(known) = self.kinds.get_mut(at) {
            *known = Some(kind);
        }
    }

    /// What is known of a kind.
    #[must_use]
    pub fn kind(&self, id: KindId) -> Option<&Arc<KindInfo>> {
        self.kinds.get(usize::from(id.get()))?.as_ref()
    }

    /// The name of a kind as it was registered; `#number` where the log does not name it.
    #[must_use]
    pub fn kind_name(&self, id: KindId) -> String {
        self.kind(id).map_or_else(|| format!("#{id}"), |kind| kind.name.clone())
    }

    /// The payload, as the style says.
    #[must_use]
    pub fn payload(&self, frame: &FrameInfo) -> Payload {
        let kind = frame.kind.and_then(|kind| self.kind(kind));
        if self.style == PayloadStyle::Auto
            && !Payload::is_of_nothing(frame)
            && let Some(text) = kind.and_then(|kind| self.translators.text(&kind.name, &frame.payload))
        {
            return match text {
                Ok(text) => Payload::Translated(text),
                Err(error) => Payload::Undecodable(frame.payload.clone(), error),
            };
        }
        Payload::of(frame, kind.map(|kind| &**kind), self.style)
    }

    /// The payload of a frame, if it is so large that it should not be held once more, as a value or as text: it says what
    /// [`payload`](Self::payload) says, and is written as it is decoded. `None`: it has fewer bytes than
    /// [`LARGE_BYTES`](crate::dump::LARGE_BYTES), is not to be shown, or has its text from a translator.
    ///
    /// ```
    /// use esker::dump::{Dump, Item, Survey};
    /// # use esker::{Journal, Reader, Record};
    /// # fn main() -> esker::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let journal = Journal::open(directory.path())?;
    /// # journal.append(Record::new(journal.kind("note")?, b"a", &vec![b'x'; 2 << 20]))?;
    /// # let reader = Reader::open(directory.path())?;
    /// let dump = Dump::new(reader.kinds());
    /// for item in Survey::of(&reader)?.frames() {
    ///     let Item::Frame(frame) = item? else { continue };
    ///     match dump.large_payload(&frame) {
    ///         Some(payload) => payload.write_text(&mut std::io::sink()).unwrap(),
    ///         None => drop(dump.payload(&frame).text()),
    ///     }
    /// }
    /// # journal.close()
    /// # }
    /// ```
    #[must_use]
    pub fn large_payload<'f>(&self, frame: &'f FrameInfo) -> Option<LargePayload<'f>> {
        let kind = frame.kind.and_then(|kind| self.kind(kind));
        let is_translated = || {
            self.style == PayloadStyle::Auto && kind.is_some_and(|kind| self.translators.knows(&kind.name))
        };
        if frame.is_system() || frame.payload.len() < LARGE_BYTES || is_translated() {
            return None;
        }
        LargePayload::of(&frame.payload, kind.map(|kind| kind.codec), self.style)
    }

    /// As [`payload`](Self::payload), for bytes that are of a kind and of no entry: what somebody has copied of one.
    #[must_use]
    pub fn payload_of(&self, kind: &str, bytes: &[u8]) -> Payload {
        if self.style == PayloadStyle::Auto
            && let Some(text) = self.translators.text(kind, bytes)
        {
            return match text {
                Ok(text) => Payload::Translated(text),
                Err(error) => Payload::Undecodable(bytes.to_vec(), error),
            };
        }
        let known = self.kinds.iter().flatten().find(|known| known.name == kind);
        Payload::of_value(bytes, known.map(|known| known.codec), self.style)
    }

    /// The entity of a frame as `kind/key`, on one line; empty for a system frame.
    #[must_use]
    pub fn entity(&self, frame: &FrameInfo) -> String {
        match frame.kind {
            Some(kind) => format!("{}/{}", one_line(&self.kind_name(kind)), key_text(&frame.key)),
            None => String::new(),
        }
    }

    /// The frame on one line, without its end.
    #[must_use]
    pub fn line(&self, frame: &FrameInfo) -> String {
        let mut line = self.head(frame);
        let payload = self.payload(frame).text();
        if !payload.is_empty() {
            let _ = write!(line, " {payload}");
        }
        line
    }

    /// The same without the payload.
    #[must_use]
    pub fn head(&self, frame: &FrameInfo) -> String {
        let mut line = String::new();
        if self.physical {
            let _ = write!(line, "{} ", frame.position);
        }
        let _ = write!(line, "#{} {}", frame.seq, frame.operation_name());
        if let (Some(_), Some(generation)) = (frame.kind, frame.generation) {
            let _ = write!(line, " {} g{generation}", self.entity(frame));
            if self.sources.is_some() && (frame.row.is_some() || frame.event.is_some()) {
                let _ = write!(line, " {}", self.standing(frame).join(" "));
            }
        }
        if self.physical {
            let FrameInfo { life, durable, frame_bytes, .. } = frame;
            let _ = write!(line, " {frame_bytes}B life={life} durable={durable}");
        }
        let _ = write!(line, " {}", rfc3339(frame.time));
        let flags = flags_of(frame);
        if !flags.is_empty() {
            let _ = write!(line, " [{}]", flags.join(" "));
        }
        line
    }

    /// Everything about the frame.
    #[must_use]
    pub fn fields(&self, frame: &FrameInfo) -> Fields {
        let shown = self.payload(frame).fields(&frame.payload, self.style);
        Fields { shown, ..self.head_fields(frame) }
    }

    /// The same without the payload.
    #[must_use]
    pub fn head_fields(&self, frame: &FrameInfo) -> Fields {
        let (row, event) = (frame.row, frame.event);
        let number = event.filter(|_| !frame.is_in_epoch() && !frame.is_synthetic());
        let sources = sources_of(frame);
        let names = self.sources.is_some();
        let shows_metadata = self.style != PayloadStyle::Lengths;
        let metadata = std::str::from_utf8(&frame.metadata).ok().map(str::to_owned);
        let metadata_base64 = (metadata.is_none() && shows_metadata).then(|| base64(&frame.metadata));
        let metadata = metadata.filter(|text| !text.is_empty() && shows_metadata);
        Fields {
            what: if frame.is_system() { "system" } else { "entry" },
            seq: frame.seq,
            operation: frame.operation_name(),
            kind: frame.kind.map(|kind| self.kind_name(kind)),
            key: frame.kind.map(|_| key_text(&frame.key)),
            generation: frame.generation.map(u64::from),
            time: rfc3339(frame.time),
            time_ns: frame.time.to_string(),
            position: frame.position.to_string(),
            batch: frame.batch.map(|batch| batch.to_string()),
            durable: frame.durable.to_string(),
            life: frame.life.to_string(),
            source: frame.source,
            flags: flags_of(frame),
            frame_bytes: frame.frame_bytes,
            payload_bytes: frame.payload.len() as u64,
            metadata,
            metadata_base64,
            idempotency_key: frame.idempotency_key.map(|key| key.to_string()),
            correlation: frame.correlation.map(|id| hex(&id)),
            cause: frame.causation.map(|(seq, _)| seq),
            depth: frame.causation.map(|(_, depth)| depth),
            schema_version: frame.schema_version,
            stamp: frame.stamp.map(|stamp| stamp.to_string()),
            sources: sources.map(|sources| ids(sources).collect()),
            asserted_by: sources
                .filter(|_| names)
                .map(|sources| ids(sources).map(|id| self.source_name(id)).collect()),
            said_by: sources.filter(|_| names).map(|_| self.source_name(frame.source)),
            version: version_of(frame),
            version_before: event.map(|event| event.version_before.unwrap_or(event.version)),
            changed: row
                .map(|row| row.changed)
                .or(event.and_then(|event| event.changed))
                .map(|mask| self.fields_of(frame, mask)),
            present: event.and_then(|event| event.present).map(|mask| self.fields_of(frame, mask)),
            sequence: number.map(|event| event.sequence.0),
            kind_sequence: number.map(|event| event.sequence.1),
            checksums_good: frame.head_good && frame.body_good,
            shown: PayloadFields::default(),
        }
    }
}

impl Dump {
    /// Of a row or an operation the version, whose it is, and who asserts the entity, as `v3`, `from:radar`, `by:radar,pilot`;
    /// empty for any other frame.
    #[must_use]
    pub fn standing(&self, frame: &FrameInfo) -> Vec<String> {
        let (Some(version), Some(sources)) = (version_of(frame), sources_of(frame)) else {
            return Vec::new();
        };
        let name = |id| one_line(&self.source_name(id));
        let names: Vec<String> = ids(sources).map(name).collect();
        let by = if names.is_empty() { "nobody".to_owned() } else { names.join(",") };
        vec![format!("v{version}"), format!("from:{}", name(frame.source)), format!("by:{by}")]
    }

    /// The fields of a mask by name. All bits stand for no field in particular.
    fn fields_of(&self, frame: &FrameInfo, mask: u64) -> Vec<String> {
        let kind = frame.kind.and_then(|kind| self.kind(kind)).filter(|_| mask != u64::MAX);
        let fields = kind.map(|kind| kind.fields.as_slice()).unwrap_or_default();
        let named = fields.iter().take(64).enumerate().filter(|(at, _)| mask & 1 << at != 0);
        named.map(|(_, name)| name.clone()).collect()
    }
}

/// Who asserts the entity of a row or an operation.
fn sources_of(frame: &FrameInfo) -> Option<u64> {
    frame.row.map(|row| row.sources).or(frame.event.map(|event| event.sources))
}

fn version_of(frame: &FrameInfo) -> Option<u64> {
    let of_row = frame.row.and_then(|row| row.version.or(frame.generation.map(Generation::get)));
    of_row.or(frame.event.map(|event| event.version))
}

fn ids(sources: u64) -> impl Iterator<Item = u8> {
    (0..64).filter(move |id| sources & 1 << id != 0)
}

/// The flags by name, and what is wrong with the frame.
fn flags_of(frame: &FrameInfo) -> Vec<String> {
    let mut flags = Vec::new();
    let named = [
        (frame.first, "first"),
        (frame.more, "more"),
        (frame.flags & flag::ENDS != 0, "ends"),
        (frame.tombstone, "tombstone"),
        (frame.is_aside(), "aside"),
        (frame.is_in_epoch(), "in-epoch"),
        (frame.is_synthetic(), "synthetic"),
        (frame.idempotency_key.is_some(), "keyed"),
        (!frame.body_good, "damaged"),
    ];
    flags.extend(named.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name.to_owned()));
    let reserved = frame.flags & !flag::KNOWN;
    if reserved != 0 {
        flags.push(format!("{reserved:#x}"));
    }
    flags
}
