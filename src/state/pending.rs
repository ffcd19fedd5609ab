//! One entity: how it is in the log, and what the operations of a window have made of it since.

use std::borrow::Cow;
use std::sync::Arc;

use crate::format::frame::FRAME_BYTES;
use crate::format::index::EntityHash;
use crate::format::operation::{EventMark, EventOperation};
use crate::format::row::{ROW_EXTENSION_BYTES_MAX, RowMark, RowOperation};
use crate::id::KindId;
use crate::journal::entry::{Entry, OwnedEntry};
use crate::journal::record::Receipt;
use crate::journal::rows::{OperationFrame, RowFrame};
use crate::state::operations::{Spoken, operation_bytes};
use crate::state::row::{ALL_FIELDS, changed, differ};
use crate::state::schema::Bound;
use crate::state::ticket::{Committed, Made};

/// Longer rows are not kept for entities at rest, with what is beside them, nor room for them.
const ROW_BYTES_AT_REST: usize = 512;

/// How an entity is in the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Base {
    pub(crate) alive: bool,
    /// Zero: the log does not know it.
    pub(crate) version: u64,
    pub(crate) generation: u64,
    pub(crate) sources: u64,
    /// What its newest frame has beside the row.
    pub(crate) metadata: BaseMetadata,
    pub(crate) row: BaseRow,
    /// The version of the schema that the row is of.
    pub(crate) schema: u16,
    /// No step brings the row to the kind's version. It can be asserted anew, and retracted.
    pub(crate) is_stuck: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) enum BaseRow {
    #[default]
    None,
    /// As it stands in the log.
    Logged(OwnedEntry),
    /// Brought to this version of its kind.
    Brought(Vec<u8>),
}

/// Bytes beside a row.
#[derive(Clone, Debug)]
pub(crate) enum BaseMetadata {
    /// As they stand in the log: of what a window touches they may be far more than it may have pending.
    Logged(OwnedEntry),
    Said(Vec<u8>),
}

impl Default for BaseMetadata {
    fn default() -> Self {
        Self::Said(Vec::new())
    }
}

impl BaseMetadata {
    /// Those of an entry.
    pub(crate) fn of(entry: &Entry<'_>) -> Self {
        if entry.metadata().is_empty() { Self::default() } else { Self::Logged(entry.to_owned()) }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Logged(entry) => entry.metadata(),
            Self::Said(bytes) => bytes,
        }
    }
}

impl Base {
    /// An entity of which nothing is pending.
    pub(crate) fn standing(&self) -> Standing<'_> {
        let row = self.alive.then(|| Cow::Borrowed(self.row()));
        Standing { row, version: self.version, tick: 0, touched: 0, is_stuck: self.alive && self.is_stuck }
    }

    pub(crate) fn row(&self) -> &[u8] {
        match &self.row {
            BaseRow::None => &[],
            BaseRow::Logged(entry) => entry.payload(),
            BaseRow::Brought(row) => row,
        }
    }
}

/// What an operation says of an entity.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Saying<'a> {
    /// It is there, and this is its row.
    Assert(&'a [u8]),
    /// It is there, and some fields of its row are these: the row with them, and one bit for each of them.
    Patch(&'a [u8], u64),
    /// As far as this source knows it is not.
    Retract,
}

impl<'a> Saying<'a> {
    /// The row, if it says one.
    pub(crate) fn row(self) -> Option<&'a [u8]> {
        match self {
            Self::Assert(row) | Self::Patch(row, _) => Some(row),
            Self::Retract => None,
        }
    }
}

/// What a source says, with what belongs to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Utterance<'a> {
    pub(crate) source: u8,
    pub(crate) saying: Saying<'a>,
    pub(crate) metadata: &'a [u8],
    /// Why it is no event, as a flag of its frame; 0: it is one.
    pub(crate) suppressed: u16,
}

/// An entity that was touched, or is *at rest*: nothing is pending of it.
///
/// One that is touched in window after window is the same thing all the time, with the memory that it once had.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) bound: Arc<Bound>,
    pub(crate) hash: EntityHash,
    pub(crate) key: Vec<u8>,
    pub(crate) base: Base,
    alive: bool,
    /// The row, if it is another one than the base's.
    row: Option<Vec<u8>>,
    /// Room for one.
    spare: Vec<u8>,
    sources: u64,
    metadata: Vec<u8>,
    /// Whose operation was the last.
    source: u8,
    /// Who said anything of it in this window.
    touched: u64,
    /// Which operation was the last, of all that this window and those before it ever took; 0: none yet.
    tick: u64,
}

impl Standing<'_> {
    /// Of what is not there.
    pub(crate) const NOWHERE: Self = Self { row: None, version: 0, tick: 0, touched: 0, is_stuck: false };
}

/// An entity as it is with all that is pending.
#[derive(Debug)]
pub(crate) struct Standing<'w> {
    /// `None`: it is not there.
    pub(crate) row: Option<Cow<'w, [u8]>>,
    /// The version that the log has.
    pub(crate) version: u64,
    /// Which operation on it is the last that is pending; 0: none is.
    pub(crate) tick: u64,
    /// Who has operations of it pending.
    pub(crate) touched: u64,
    /// Nobody can tell what its row is for the kind's version.
    pub(crate) is_stuck: bool,
}

impl Pending {
    /// An entity at rest, in memory that was [another's](Self::emptied) if there is some.
    pub(crate) fn at_rest(
        bound: &Arc<Bound>,
        hash: EntityHash,
        key: &[u8],
        base: Base,
        room: Option<Box<Self>>,
    ) -> Box<Self> {
        if let Some(mut entity) = room {
            if !Arc::ptr_eq(&entity.bound, bound) {
                entity.bound = Arc::clone(bound);
            }
            entity.key.extend_from_slice(key);
            (entity.hash, entity.alive, entity.sources) = (hash, base.alive, base.sources);
            let before = std::mem::replace(&mut entity.base, base);
            if let BaseRow::Brought(row) = before.row
                && entity.spare.capacity() == 0
            {
                entity.spare = row;
            }
            return entity;
        }
        Box::new(Self {
            bound: Arc::clone(bound),
            hash,
            key: key.into(),
            alive: base.alive,
            row: None,
            spare: Vec::new(),
            sources: base.sources,
            metadata: Vec::new(),
            source: 0,
            touched: 0,
            tick: 0,
            base,
        })
    }

    fn row(&self) -> &[u8] {
        self.row.as_deref().unwrap_or_else(|| self.base.row())
    }

    /// How the entity is now.
    pub(crate) fn standing(&self) -> Standing<'_> {
        Standing {
            row: self.alive.then(|| Cow::Borrowed(self.row())),
            version: self.base.version,
            tick: self.tick,
            touched: self.touched,
            is_stuck: self.alive && self.row.is_none() && self.base.is_stuck,
        }
    }

    /// The bytes of its frame with an operation, and of that operation's own.
    pub(crate) fn bytes_with(&self, utterance: &Utterance<'_>) -> u64 {
        let Utterance { source, saying, metadata, .. } = *utterance;
        let said = if metadata.is_empty() { &self.metadata } else { metadata };
        let row = match saying.row() {
            Some(row) => Some(row),
            None if self.is_last(source) || !self.alive => None,
            None => Some(self.row()),
        };
        self.frame_bytes_of(row, said) + self.told_bytes(utterance)
    }

    pub(crate) fn frame_bytes(&self) -> u64 {
        self.frame_bytes_of(self.alive.then(|| self.row()), &self.metadata)
    }

    /// The bytes of its frame with a row, if it is there, and with what was said beside it.
    fn frame_bytes_of(&self, row: Option<&[u8]>, said: &[u8]) -> u64 {
        let is_as_it_was = |row: &[u8]| self.base.alive && !self.differs(row);
        let metadata = match row {
            Some(row) if said.is_empty() && !self.base.metadata.bytes().is_empty() && is_as_it_was(row) => {
                self.base.metadata.bytes()
            }
            _ => said,
        };
        frame_bytes(self.key.len(), metadata.len(), row.map_or(0, <[u8]>::len))
    }

    /// True if a row is another one than the base's.
    fn differs(&self, row: &[u8]) -> bool {
        self.base.is_stuck && self.row.is_some() || differ(self.base.row(), row, &self.bound.fields)
    }

    /// The version of the schema that the base's row is of.
    fn schema_of_base(&self) -> u16 {
        if self.base.schema == 0 { self.bound.version } else { self.base.schema }
    }

    /// Nobody would assert it without this source.
    fn is_last(&self, source: u8) -> bool {
        self.sources & !(1 << (source % 64)) == 0
    }

    /// Applies an operation, which has this number.
    pub(crate) fn say(&mut self, utterance: &Utterance<'_>, tick: u64) {
        let Utterance { source, saying, metadata, .. } = *utterance;
        let bit = 1u64 << (source % 64);
        match saying {
            Saying::Assert(row) | Saying::Patch(row, _) => {
                self.put_row(row);
                self.alive = true;
                self.sources |= bit;
            }
            Saying::Retract => {
                self.sources &= !bit;
                self.alive &= self.sources != 0;
            }
        }
        (self.source, self.tick) = (source, tick);
        self.touched |= bit;
        if !metadata.is_empty() {
            self.metadata.clear();
            self.metadata.extend_from_slice(metadata);
        }
    }

    fn put_row(&mut self, row: &[u8]) {
        let mut kept = self.row.take().unwrap_or_else(|| std::mem::take(&mut self.spare));
        if row == self.base.row() && !self.base.is_stuck {
            self.spare = kept;
            return;
        }
        kept.clear();
        // Memory that was needed once is not held for ever.
        kept.shrink_to(4 * row.len());
        kept.extend_from_slice(row);
        self.row = Some(kept);
    }

    /// How the entity is now against how it was: the operation, and which fields differ.
    fn net(&self) -> Option<(RowOperation, u64)> {
        match (self.base.alive, self.alive) {
            (false, false) => None,
            (false, true) => Some((RowOperation::Created, ALL_FIELDS)),
            (true, false) => Some((RowOperation::Deleted, ALL_FIELDS)),
            (true, true) => {
                let differing = match &self.row {
                    None => 0,
                    Some(_) if self.base.is_stuck => ALL_FIELDS,
                    Some(row) => changed(self.base.row(), row, &self.bound.fields),
                };
                match differing {
                    0 if self.sources == self.base.sources => None,
                    0 => Some((RowOperation::Sources, 0)),
                    mask => Some((RowOperation::Updated, mask)),
                }
            }
        }
    }

    /// The version that the entity has with this; `None`: that of the generation that it will be given. `first`: what
    /// one begins with that the log does not know, and of which operations are told.
    fn next_version(&self, operation: RowOperation, first: u64) -> Option<u64> {
        if self.base.version == 0 {
            return self.bound.events.map(|_| first);
        }
        let step = u64::from(operation != RowOperation::Sources);
        let version = self.base.version + step;
        // Of what was deleted compaction may forget how often it was there; its operations have said it then.
        let may_be_forgotten = !self.base.alive && self.bound.events.is_some();
        (version != self.base.generation + 1 || may_be_forgotten).then_some(version)
    }

    /// The version that the entity of a kind with events has behind the window.
    pub(crate) fn version(&self, first: u64) -> u64 {
        match self.net() {
            None => self.base.version,
            Some((operation, _)) => self.next_version(operation, first).unwrap_or(self.base.generation + 1),
        }
    }

    /// Which fields an operation would change of the row as it is; `None`: there is none, or it retracts.
    pub(crate) fn would_change(&self, saying: Saying<'_>) -> Option<u64> {
        let row = saying.row().filter(|_| self.alive)?;
        if self.row.is_none() && self.base.is_stuck {
            return Some(ALL_FIELDS);
        }
        Some(changed(self.row(), row, &self.bound.fields))
    }

    /// What an operation that was applied tells.
    pub(crate) fn spoken(&self, entity: u32, utterance: &Utterance<'_>, changed: Option<u64>) -> Spoken {
        let Utterance { source, saying, metadata, suppressed } = *utterance;
        let (operation, present) = match saying {
            Saying::Assert(_) => (EventOperation::Assert, None),
            Saying::Patch(_, present) => (EventOperation::Patch, Some(present)),
            Saying::Retract => (EventOperation::Retract, None),
        };
        let row = saying.row().unwrap_or_default().to_vec();
        let (sources, metadata) = (self.sources, metadata.to_vec());
        Spoken { entity, operation, source, suppressed, sources, changed, present, row, metadata }
    }

    /// The frame of an operation, when the window comes to this version.
    pub(crate) fn told<'a>(
        &'a self,
        spoken: &'a Spoken,
        (kind, hash): (KindId, EntityHash),
        version: u64,
        sequence: (u64, u64),
    ) -> OperationFrame<'a> {
        let before = if self.base.alive { self.base.version } else { 0 };
        let &Spoken { operation, source, suppressed, sources, changed, present, .. } = spoken;
        let version_before = (before != version).then_some(before);
        let schema = self.bound.version;
        let mark = EventMark { schema, sources, changed, present, sequence, version, version_before };
        let (key, metadata, payload) = (&*self.key, &*spoken.metadata, &*spoken.row);
        OperationFrame { operation, kind, hash, key, metadata, payload, source, suppressed, mark }
    }

    /// What the frame of an operation takes of the log at most.
    pub(crate) fn told_bytes(&self, utterance: &Utterance<'_>) -> u64 {
        let row = utterance.saying.row().map_or(0, <[u8]>::len);
        self.bound.events.map_or(0, |_| operation_bytes(self.key.len(), utterance.metadata.len(), row))
    }

    /// This entity as it will be in the log, but for its version and its generation: those are known when it is there.
    pub(crate) fn successor(&self, bound: &Arc<Bound>, mut room: Option<Box<Self>>) -> Box<Self> {
        let row = match room.as_mut().map(|room| std::mem::take(&mut room.base.row)) {
            Some(BaseRow::Brought(row)) => row,
            _ => Vec::new(),
        };
        Self::at_rest(bound, self.hash, &self.key, self.base_behind(row), room)
    }

    /// How the entity will be in the log. `row`: room for its row.
    fn base_behind(&self, mut row: Vec<u8>) -> Base {
        let &Base { alive: was_alive, version, generation, schema, is_stuck, .. } = &self.base;
        let (alive, sources) = (self.alive, self.sources);
        let is_another = |row: &Vec<u8>| is_stuck || differ(self.base.row(), row, &self.bound.fields);
        if alive == was_alive && !(alive && self.row.as_ref().is_some_and(is_another)) {
            let is_told = alive && sources != self.base.sources;
            let metadata = match is_told && !self.metadata.is_empty() {
                true => BaseMetadata::Said(self.metadata.clone()),
                false => self.base.metadata.clone(),
            };
            let row = self.base.row.clone();
            return Base { alive, version, generation, sources, metadata, row, schema, is_stuck };
        }
        let (metadata, row) = match alive {
            true => {
                row.extend_from_slice(self.row());
                (BaseMetadata::Said(self.metadata.clone()), BaseRow::Brought(row))
            }
            false => (BaseMetadata::default(), BaseRow::None),
        };
        let schema = self.bound.version;
        Base { alive, version, generation, sources, metadata, row, schema, is_stuck: false }
    }

    /// What its frame has beside the row: who asserts a row takes nothing from what came with it.
    fn metadata_of(&self, operation: RowOperation) -> &[u8] {
        let keeps = operation == RowOperation::Sources && self.metadata.is_empty();
        if keeps { self.base.metadata.bytes() } else { &self.metadata }
    }

    /// Comes to rest: in the log the entity is as it was, or as its frame says, if it was given one.
    pub(crate) fn rest(&mut self, given: Option<(&Receipt, RowOperation)>, committed: Committed) {
        if let Some((receipt, operation)) = given {
            let (base, schema) = (&mut self.base, self.bound.version);
            (base.alive, base.sources) = (self.alive, self.sources);
            (base.version, base.generation) = (committed.version, receipt.generation.get());
            if operation != RowOperation::Sources || !self.metadata.is_empty() {
                let said = BaseMetadata::Said(std::mem::take(&mut self.metadata));
                if let BaseMetadata::Said(before) = std::mem::replace(&mut base.metadata, said) {
                    self.metadata = before;
                }
            }
            if operation != RowOperation::Sources {
                let row = self.row.take().filter(|_| self.alive);
                let before = std::mem::replace(&mut base.row, row.map_or(BaseRow::None, BaseRow::Brought));
                (base.schema, base.is_stuck) = (schema, false);
                if let BaseRow::Brought(before) = before {
                    self.spare = before;
                }
            }
        }
        (self.alive, self.sources, self.row) = (self.base.alive, self.base.sources, None);
        (self.source, self.touched, self.tick) = (0, 0, 0);
        self.metadata.clear();
    }

    /// Lets go of what an entity at rest should not hold. `None`: that is most of it.
    pub(crate) fn slim(mut self: Box<Self>) -> Option<Box<Self>> {
        if self.base.row().len() + self.base.metadata.bytes().len() > ROW_BYTES_AT_REST {
            return None;
        }
        // An entry of the log would keep its segment, also when that was compacted.
        if let BaseRow::Logged(entry) = &self.base.row {
            self.base.row = BaseRow::Brought(entry.payload().to_vec());
        }
        if let BaseMetadata::Logged(entry) = &self.base.metadata {
            self.base.metadata = BaseMetadata::Said(entry.metadata().to_vec());
        }
        for room in [&mut self.spare, &mut self.metadata] {
            room.clear();
            room.shrink_to(ROW_BYTES_AT_REST);
        }
        if let BaseMetadata::Said(metadata) = &mut self.base.metadata {
            metadata.shrink_to(ROW_BYTES_AT_REST);
        }
        if let BaseRow::Brought(row) = &mut self.base.row {
            row.shrink_to(ROW_BYTES_AT_REST);
        }
        Some(self)
    }

    /// The memory of an entity of which nothing is pending, for [another](Self::at_rest). `None`: it is too much to keep.
    pub(crate) fn emptied(mut self: Box<Self>) -> Option<Box<Self>> {
        debug_assert!(self.tick == 0 && self.row.is_none(), "it has come to rest");
        // An entry of the log would keep its segment.
        let mut row = match std::mem::take(&mut self.base).row {
            BaseRow::Brought(row) => row,
            BaseRow::None | BaseRow::Logged(_) => Vec::new(),
        };
        for bytes in [&mut row, &mut self.spare, &mut self.metadata, &mut self.key] {
            if bytes.capacity() > ROW_BYTES_AT_REST {
                return None;
            }
            bytes.clear();
        }
        self.base.row = BaseRow::Brought(row);
        Some(self)
    }

    pub(crate) fn frame(&self, first: u64) -> Option<RowFrame<'_>> {
        let (operation, changed) = self.net()?;
        let payload = if operation == RowOperation::Deleted { &[][..] } else { self.row() };
        Some(RowFrame {
            operation,
            kind: self.bound.id,
            hash: self.hash,
            key: &self.key,
            metadata: self.metadata_of(operation),
            payload,
            source: self.source,
            mark: RowMark {
                schema: if self.row.is_some() { self.bound.version } else { self.schema_of_base() },
                sources: self.sources,
                changed,
                version: self.next_version(operation, first),
            },
        })
    }

    /// What the window came to for it.
    pub(crate) fn committed(&self, given: Option<(&Receipt, RowOperation)>, first: u64) -> Committed {
        let Some((receipt, operation)) = given else {
            return Committed { change: Made::Nothing, version: self.base.version, seq: None };
        };
        let version = self.next_version(operation, first).unwrap_or_else(|| receipt.generation.get());
        let change = match operation {
            RowOperation::Created => Made::Created,
            RowOperation::Updated => Made::Updated,
            RowOperation::Deleted => Made::Deleted,
            RowOperation::Sources => Made::SourcesOnly,
        };
        Committed { change, version, seq: Some(receipt.seq) }
    }
}

/// What a row frame takes of the log at most.
pub(crate) fn frame_bytes(key: usize, metadata: usize, row: usize) -> u64 {
    (FRAME_BYTES + ROW_EXTENSION_BYTES_MAX + key + metadata + row + 8) as u64
}
