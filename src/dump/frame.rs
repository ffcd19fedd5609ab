//! One frame as a plain struct: what its header says, and copies of what it holds.

use crate::backplane::Stamp;
use crate::format::extension::{Id, causation, find, idempotency_key};
use crate::format::frame::{FACT, Frame, flag};
use crate::format::operation::{EventMark, EventOperation};
use crate::format::row::{RowMark, RowOperation};
use crate::format::source::SourceInfo;
use crate::format::stamp::StampBytes;
use crate::format::system::System;
use crate::id::{Generation, IdempotencyKey, KindId, Life, Position};
use crate::journal::entry::Entry;

/// A frame of the log, a system frame or an entry, away from the bytes it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FrameInfo {
    /// Where it stands.
    pub position: Position,
    /// Where the first frame of its batch stands; `None` where that was not looked for.
    pub batch: Option<Position>,
    /// What it does, as its number on disk; see [`operation_name`](Self::operation_name).
    pub operation: u8,
    /// The kind of its entity; `None` for a system frame.
    pub kind: Option<KindId>,
    /// The key of its entity; empty for a system frame.
    pub key: Vec<u8>,
    /// Its own Seq; for a system frame, that of the last entry before it.
    pub seq: u64,
    /// Its place in its entity's history; `None` for a system frame.
    pub generation: Option<Generation>,
    /// The wall clock when it was written, in nanoseconds since 1970.
    pub time: i64,
    /// The opening that wrote it.
    pub life: Life,
    /// What was durable when it was written.
    pub durable: Position,
    /// The batch goes on behind it.
    pub more: bool,
    /// Its entity's history begins with it, or is dense from here on.
    pub first: bool,
    /// It says that its entity is no more.
    pub tombstone: bool,
    /// All flags, the reserved ones included.
    pub flags: u16,
    /// The source that said it.
    pub source: u8,
    /// The bytes of the whole frame.
    pub frame_bytes: u64,
    /// The bytes of its extensions.
    pub extension_bytes: u64,
    /// The metadata.
    pub metadata: Vec<u8>,
    /// The payload.
    pub payload: Vec<u8>,
    /// The bytes of the payload, also where it was not asked for.
    pub payload_bytes: u64,
    /// The name of its batch, on the first entry of a batch that has one.
    pub idempotency_key: Option<IdempotencyKey>,
    /// What it belongs to, if that was said.
    pub correlation: Option<[u8; 16]>,
    /// The Seq of its cause, and how many causes stand behind each other, if a reactor appended it.
    pub causation: Option<(u64, u8)>,
    /// The version of its kind's schema, if that was said.
    pub schema_version: Option<u16>,
    /// Who appended it through a backplane, and as the how manieth of its entity.
    pub stamp: Option<Stamp>,
    /// What a row of live state says beside its fields.
    pub row: Option<RowMark>,
    /// What an operation on live state says beside the row behind it.
    pub event: Option<EventMark>,
    /// The header's checksum matches; what [`Frames`](crate::dump::Frames) shows always does.
    pub head_good: bool,
    /// The checksum over key, metadata and payload matches.
    pub body_good: bool,
    /// The extensions are those that are named here, and no others.
    extensions_known: bool,
}

/// How much of an entry is copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Copied {
    #[default]
    All,
    /// All but its payload, which is there already, or comes later.
    ButPayload,
    /// Neither its metadata nor its payload.
    Head,
}

/// Of no frame yet: a place to read one into.
impl Default for FrameInfo {
    fn default() -> Self {
        Self {
            position: Position::ZERO,
            batch: None,
            operation: 0,
            kind: None,
            key: Vec::new(),
            seq: 0,
            generation: None,
            time: 0,
            life: Life(0),
            durable: Position::ZERO,
            more: false,
            first: false,
            tombstone: false,
            flags: 0,
            source: 0,
            frame_bytes: 0,
            extension_bytes: 0,
            metadata: Vec::new(),
            payload: Vec::new(),
            payload_bytes: 0,
            idempotency_key: None,
            correlation: None,
            causation: None,
            schema_version: None,
            stamp: None,
            row: None,
            event: None,
            head_good: false,
            body_good: false,
            extensions_known: true,
        }
    }
}

impl FrameInfo {
    pub(crate) fn of(frame: &Frame<'_>, salt: u64, position: Position, batch: Option<Position>) -> Self {
        let mut info = Self::default();
        info.read(frame, position, batch, Copied::All);
        info.head_good = frame.head_is_good(salt, position);
        info
    }

    /// Takes the place of what it said of another frame, in the same memory. Whether the header is good is for the
    /// caller to say.
    pub(crate) fn read(
        &mut self,
        frame: &Frame<'_>,
        position: Position,
        batch: Option<Position>,
        copied: Copied,
    ) {
        let header = frame.header;
        self.position = position;
        self.batch = batch;
        self.operation = header.operation;
        self.kind = (!header.is_system()).then(|| KindId(header.kind.get()));
        self.seq = header.seq.get();
        self.generation = self.kind.and_then(|_| Generation::new(header.generation.get()));
        self.time = header.time.get();
        self.life = header.life();
        self.durable = header.durable();
        self.more = header.has(flag::MORE);
        self.first = header.has(flag::FIRST);
        self.tombstone = header.has(flag::TOMBSTONE);
        self.flags = header.flags();
        self.source = header.source();
        self.frame_bytes = frame.len() as u64;
        self.payload_bytes = header.lengths().payload as u64;
        self.body_good = frame.body_is_good();
        self.read_extensions(frame.extensions());
        let copy = |to: &mut Vec<u8>, from: &[u8]| {
            to.clear();
            to.extend_from_slice(from);
        };
        let (has_metadata, has_payload) = (copied != Copied::Head, copied == Copied::All);
        copy(&mut self.key, frame.key());
        copy(&mut self.metadata, if has_metadata || header.is_system() { frame.metadata() } else { &[] });
        copy(&mut self.payload, if has_payload || header.is_system() { frame.payload() } else { &[] });
    }

    fn read_extensions(&mut self, extensions: &[u8]) {
        self.extension_bytes = extensions.len() as u64;
        if extensions.is_empty() {
            (self.idempotency_key, self.correlation, self.causation) = (None, None, None);
            (self.schema_version, self.stamp, self.row, self.event) = (None, None, None, None);
            self.extensions_known = true;
        }
        let is_row = RowOperation::of(self.operation).is_some();
        let is_event = EventOperation::of(self.operation).is_some();
        if extensions.is_empty() && !is_row && !is_event {
            return;
        }
        self.idempotency_key = idempotency_key(extensions);
        self.correlation = find(extensions, Id::Correlation).and_then(|id| id.try_into().ok());
        self.causation = causation(extensions);
        self.schema_version = find(extensions, Id::SchemaVersion)
            .and_then(|version| version.try_into().ok())
            .map(u16::from_le_bytes);
        self.stamp = StampBytes::read(extensions).map(Stamp::of_bytes);
        self.row = Some(()).filter(|()| is_row).and_then(|()| RowMark::read(extensions));
        self.event = Some(()).filter(|()| is_event).and_then(|()| EventMark::read(extensions));
        self.extensions_known = extensions.is_empty() || only_known(extensions, self.operation);
    }

    /// The frame of an entry that a view showed. Its batch is not looked for.
    #[must_use]
    pub fn of_entry(entry: &Entry<'_>) -> Self {
        let position = entry.position();
        let mut info = Self::default();
        info.read(entry.frame(), position, None, Copied::All);
        // The view has judged it with its segment's salt.
        info.head_good = true;
        info
    }

    /// True for a frame that the log writes about itself.
    #[must_use]
    pub fn is_system(&self) -> bool {
        self.kind.is_none()
    }

    /// True for an entry of which the fields here say everything: it does what this build knows, and has
    /// no flag and no extension beside those that are named here.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let aside = if self.event.is_some() { flag::ASIDE } else { 0 };
        let suppressed = if self.event.is_some() { flag::SYNTHETIC | flag::IN_EPOCH } else { 0 };
        let flags = self.flags & !(flag::MORE | flag::ENDS | flag::FIRST | flag::TOMBSTONE | suppressed);
        let is_known = self.operation == FACT || self.row.is_some() || self.event.is_some();
        !self.is_system() && is_known && flags == aside && self.extensions_known
    }

    /// It stands beside the entries: only who asks for its kind is shown it.
    #[must_use]
    pub fn is_aside(&self) -> bool {
        self.flags & flag::ASIDE != 0
    }

    /// It was said in an epoch of its source.
    #[must_use]
    pub fn is_in_epoch(&self) -> bool {
        self.flags & flag::IN_EPOCH != 0
    }

    /// No source said it: an epoch or a deadline retracts.
    #[must_use]
    pub fn is_synthetic(&self) -> bool {
        self.flags & flag::SYNTHETIC != 0
    }

    /// What was said with it, if it is an operation on live state.
    #[must_use]
    pub fn event_operation(&self) -> Option<EventOperation> {
        EventOperation::of(self.operation).filter(|_| !self.is_system())
    }

    /// What became of an entity with it, if it is a row of live state.
    #[must_use]
    pub fn row_operation(&self) -> Option<RowOperation> {
        RowOperation::of(self.operation).filter(|_| !self.is_system())
    }

    /// What it does, in one word.
    #[must_use]
    pub fn operation_name(&self) -> String {
        match (self.kind, System::of(self.operation)) {
            (None, Some(system)) => system.name().to_owned(),
            (Some(_), _) if self.operation == FACT => "fact".to_owned(),
            (Some(_), _) => {
                let row = self.row_operation().map(RowOperation::name);
                let name = row.or(self.event_operation().map(EventOperation::name));
                name.map_or_else(|| format!("operation-{}", self.operation), str::to_owned)
            }
            _ => format!("operation-{}", self.operation),
        }
    }

    /// What it says of a source, if it is a frame that says who has a number.
    #[must_use]
    pub fn source_info(&self) -> Option<SourceInfo> {
        (self.system() == Some(System::Source)).then(|| SourceInfo::read(&self.payload)).flatten()
    }

    pub(crate) fn system(&self) -> Option<System> {
        self.is_system().then(|| System::of(self.operation)).flatten()
    }

    /// The Seq of the last entry before this frame.
    pub(crate) fn seq_before(&self) -> u64 {
        self.seq.saturating_sub(u64::from(!self.is_system()))
    }
}

/// True for a row of which the fields of a [`FrameInfo`] say everything.
fn only_known(mut row: &[u8], operation: u8) -> bool {
    let of_rows: &[(Id, u8)] = &[(Id::SourceSet, 8), (Id::ChangedMask, 8), (Id::Version, 8)];
    let of_events: &[(Id, u8)] = &[(Id::EventSequence, 16), (Id::PresenceMask, 8), (Id::VersionBefore, 8)];
    let of_facts: &[(Id, u8)] = &[
        (Id::Correlation, 16),
        (Id::Causation, 9),
        (Id::IdempotencyKey, 16),
        (Id::SchemaVersion, 2),
        (Id::Writer, 16),
    ];
    let of_rows = if operation == FACT { &[] } else { of_rows };
    let of_events = if EventOperation::of(operation).is_none() { &[] } else { of_events };
    let mut seen = [false; u8::MAX as usize];
    while let [tag, length, rest @ ..] = row {
        if *tag == 0 {
            break;
        }
        let mut known = of_facts.iter().chain(of_rows).chain(of_events);
        let is_known = known.any(|(id, bytes)| *id as u8 == *tag && *length == *bytes);
        let Some(first) = seen.get_mut(usize::from(*tag)).filter(|_| is_known) else { return false };
        if std::mem::replace(first, true) {
            return false;
        }
        let Some(next) = rest.get(usize::from(*length)..) else { return false };
        row = next;
    }
    row.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::extension::Extensions;

    #[test]
    fn a_row_with_anything_beside_what_is_known_is_not_known() {
        let mut row = Extensions::default();
        row.push(Id::Causation, &[1; 9]);
        assert!(only_known(row.as_bytes(), FACT));
        // In what was padding.
        row.push(Id::Writer, &[1]);
        assert_eq!(row.as_bytes().len(), 16);
        assert!(!only_known(row.as_bytes(), FACT));
        for wrong in
            [&[1, 9, 0, 0, 0, 0, 0, 0][..], &[4, 2, 1, 0, 4, 2, 1, 0], &[0, 0, 0, 0, 0, 0, 0, 1], &[4]]
        {
            assert!(!only_known(wrong, FACT), "{wrong:?}");
        }
        assert!(only_known(&[4, 2, 1, 0, 0, 0, 0, 0], FACT));
    }
}
