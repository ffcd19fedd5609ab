//! A window: what the operations that were accepted since the last flush come to, entity by entity.
//!
//! Pure arithmetic over sets of sources and encoded rows. An operation never looks at another entity, and an
//! entity's row frame is decided when the window is flushed, from how the entity was before and how it is now:
//! whatever happened in between leaves no trace.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::format::frame::FRAME_BYTES;
use crate::format::index::EntityHash;
use crate::format::operation::{EventMark, EventOperation};
use crate::format::row::{ROW_EXTENSION_BYTES_MAX, RowMark, RowOperation};
use crate::id::{KindId, Position, Seq};
use crate::journal::entry::OwnedEntry;
use crate::journal::record::Receipt;
use crate::journal::rows::{OperationFrame, RowFrame};
use crate::state::operations::{Spoken, operation_bytes};
use crate::state::row::{ALL_FIELDS, changed};
use crate::state::schema::Bound;

/// What a flush made of an operation's entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Made {
    /// It is there now, and was not before.
    Created,
    /// Its row is another one.
    Updated,
    /// Nobody asserts it any more.
    Deleted,
    /// Only who asserts it has changed.
    SourcesOnly,
    /// It is as it was.
    Nothing,
}

/// What a window came to for one entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// What became of it.
    pub change: Made,
    /// Its version now; 0: there is no such entity, and none that is remembered.
    pub version: u64,
    /// Where that stands in the log; `None`: nothing had to be appended.
    pub seq: Option<Seq>,
}

/// What became of a window; shared by the tickets of its operations.
#[derive(Debug, Default)]
pub(crate) struct Outcome(OnceLock<Ended>);

#[derive(Debug)]
enum Ended {
    Flushed {
        end: Position,
        entities: Box<[Committed]>,
    },
    /// The store refuses for good; it says itself why.
    Failed,
}

impl Outcome {
    /// `None`: the window is open. `Some(None)`: it failed.
    pub(crate) fn of(&self, entity: u32) -> Option<Option<(Position, Committed)>> {
        Some(match self.0.get()? {
            Ended::Failed => None,
            Ended::Flushed { end, entities } => {
                entities.get(entity as usize).map(|committed| (*end, *committed))
            }
        })
    }
}

/// How an entity is in the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Base {
    pub(crate) alive: bool,
    /// Zero: the log does not know it.
    pub(crate) version: u64,
    pub(crate) generation: u64,
    pub(crate) sources: u64,
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

/// An entity that was touched.
#[derive(Debug)]
struct Pending {
    bound: Arc<Bound>,
    hash: EntityHash,
    key: Box<[u8]>,
    base: Base,
    alive: bool,
    /// The row, if it is another one than the base's.
    row: Option<Vec<u8>>,
    sources: u64,
    metadata: Vec<u8>,
    /// Whose operation was the last.
    source: u8,
    /// Who said anything of it in this window.
    touched: u64,
    /// Which operation was the last, of all that this window and those before it ever took; 0: none yet.
    tick: u64,
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

/// Hashes that are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AsItIs(u64);

impl std::hash::Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(8) {
            let mut padded = [0; 8];
            padded.iter_mut().zip(word).for_each(|(to, from)| *to = *from);
            self.0 ^= u64::from_le_bytes(padded);
        }
    }

    fn write_u128(&mut self, hash: u128) {
        // The lower half of a keyed hash of 128 bits.
        self.0 = u64::try_from(hash & u128::from(u64::MAX)).unwrap_or(0);
    }
}

type ByHash = HashMap<EntityHash, u32, std::hash::BuildHasherDefault<AsItIs>>;

/// The operations since the last flush.
#[derive(Debug, Default)]
pub(crate) struct Window {
    entities: Vec<Pending>,
    by_hash: ByHash,
    /// The operations on kinds with events.
    spoken: Vec<Spoken>,
    /// The bytes of log that it comes to at most.
    bytes: u64,
    operations: u64,
    /// Operations ever, so that no two have the same number.
    ticks: u64,
    outcome: Arc<Outcome>,
}

impl Window {
    pub(crate) fn is_empty(&self) -> bool {
        self.entities.is_empty()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn operations(&self) -> u64 {
        self.operations
    }

    /// It has touched no other entity.
    pub(crate) fn has_only(&self, at: u32) -> bool {
        at == 0 && self.entities.len() == 1
    }

    /// An empty one, whose operations are numbered behind those of this one.
    pub(crate) fn successor(&self) -> Self {
        Self { ticks: self.ticks, ..Self::default() }
    }

    /// The bytes that it would come to with an operation.
    pub(crate) fn bytes_with(&self, at: u32, utterance: &Utterance<'_>) -> u64 {
        let Some(pending) = self.entities.get(at as usize) else { return self.bytes };
        let Utterance { source, saying, metadata, .. } = *utterance;
        let left = if metadata.is_empty() { pending.metadata.len() } else { metadata.len() };
        let row = match saying.row() {
            Some(row) => row.len(),
            None if pending.is_last(source) => 0,
            None => pending.row().len(),
        };
        let told = pending.told_bytes(utterance);
        self.bytes - pending.frame_bytes() + frame_bytes(pending.key.len(), left, row) + told
    }

    pub(crate) fn outcome(&self) -> Arc<Outcome> {
        Arc::clone(&self.outcome)
    }

    /// The place of an entity, if it was touched.
    pub(crate) fn find(&self, hash: EntityHash) -> Option<u32> {
        self.by_hash.get(&hash).copied()
    }

    /// Takes an entity in that was not touched before.
    pub(crate) fn enter(&mut self, bound: Arc<Bound>, hash: EntityHash, key: &[u8], base: Base) -> u32 {
        let at = u32::try_from(self.entities.len()).unwrap_or(u32::MAX);
        let pending = Pending {
            bound,
            hash,
            key: key.into(),
            alive: base.alive,
            row: None,
            sources: base.sources,
            metadata: Vec::new(),
            source: 0,
            touched: 0,
            tick: 0,
            base,
        };
        self.bytes += pending.frame_bytes();
        self.entities.push(pending);
        self.by_hash.insert(hash, at);
        at
    }

    /// Takes back all that is in it, for which there are no tickets.
    pub(crate) fn withdraw(&mut self) {
        *self = Self { outcome: Arc::clone(&self.outcome), ..self.successor() };
    }

    /// Goes on with what another window has, where this one has nothing.
    pub(crate) fn take_over(&mut self, other: Self) {
        debug_assert!(self.is_empty(), "it was flushed before");
        *self = Self { outcome: Arc::clone(&self.outcome), ..other };
    }

    /// How an entity is now.
    pub(crate) fn standing(&self, at: u32) -> Standing<'_> {
        let Some(pending) = self.entities.get(at as usize) else {
            return Standing { row: None, version: 0, tick: 0, touched: 0, is_stuck: false };
        };
        Standing {
            row: pending.alive.then(|| Cow::Borrowed(pending.row())),
            version: pending.base.version,
            tick: pending.tick,
            touched: pending.touched,
            is_stuck: pending.alive && pending.row.is_none() && pending.base.is_stuck,
        }
    }

    /// Applies an operation of a source.
    pub(crate) fn say(&mut self, at: u32, utterance: &Utterance<'_>) {
        let Some(pending) = self.entities.get_mut(at as usize) else { return };
        let before = pending.frame_bytes();
        let changed = pending.bound.events.and_then(|_| pending.would_change(utterance.saying));
        self.ticks += 1;
        pending.say(utterance.source, utterance.saying);
        pending.tick = self.ticks;
        if !utterance.metadata.is_empty() {
            pending.metadata.clear();
            pending.metadata.extend_from_slice(utterance.metadata);
        }
        self.bytes = self.bytes + pending.frame_bytes() - before + pending.told_bytes(utterance);
        self.operations += 1;
        if pending.bound.events.is_some() {
            self.spoken.push(pending.spoken(at, utterance, changed));
        }
    }

    /// True if operations of it are to be told.
    pub(crate) fn has_spoken(&self) -> bool {
        !self.spoken.is_empty()
    }

    /// The operation frames that the window comes to. `first_version`: what entities begin with that the log does not
    /// know. `hash` is given the kind and the key, `number` the kind and whether it is an event.
    pub(crate) fn told(
        &self,
        first_version: u64,
        hash: impl Fn(KindId, &[u8]) -> EntityHash,
        mut number: impl FnMut(KindId, bool) -> (u64, u64),
    ) -> Vec<OperationFrame<'_>> {
        let versions: Vec<u64> = self.entities.iter().map(|pending| pending.version(first_version)).collect();
        let frames = self.spoken.iter().filter_map(|spoken| {
            let at = spoken.entity as usize;
            let (pending, version) = (self.entities.get(at)?, *versions.get(at)?);
            let kind = pending.bound.events?;
            let sequence = number(kind, spoken.is_event());
            Some(pending.told(spoken, (kind, hash(kind, &pending.key)), version, sequence))
        });
        frames.collect()
    }

    /// The row frames that the window comes to, with the place of each one's entity.
    pub(crate) fn frames(&self, first_version: u64) -> impl Iterator<Item = (usize, RowFrame<'_>)> {
        self.entities
            .iter()
            .enumerate()
            .filter_map(move |(at, pending)| Some((at, pending.frame(first_version)?)))
    }

    /// Ends the window: its frames were given these places. `keep` is given how each entity is in the log now. Answers
    /// how many operations there were.
    pub(crate) fn flushed(
        &mut self,
        (places, receipts): (&[usize], &[Receipt]),
        first_version: u64,
        end: Position,
        mut keep: impl FnMut(EntityHash, Base),
    ) -> u64 {
        let mut given = places.iter().zip(receipts).peekable();
        let mut entities = Vec::with_capacity(self.entities.len());
        for (at, pending) in self.entities.drain(..).enumerate() {
            let receipt = given.next_if(|(place, _)| **place == at).map(|(_, receipt)| receipt);
            let committed = pending.committed(receipt, first_version);
            entities.push(committed);
            keep(pending.hash, pending.into_base(receipt, committed));
        }
        self.end(Ended::Flushed { end, entities: entities.into() })
    }

    /// Tells the tickets of a closed window that nothing of it will ever be appended by this store.
    pub(crate) fn failed(&self) {
        let _ = self.outcome.0.set(Ended::Failed);
    }

    /// The same of the window that is open, which is empty then.
    pub(crate) fn fail(&mut self) {
        self.end(Ended::Failed);
    }

    /// How an entity will be in the log behind this window, but for its version and its generation: those are known
    /// when it is there, and then [`rebase`](Self::rebase) is told.
    pub(crate) fn base_behind(&self, hash: EntityHash) -> Option<Base> {
        Some(self.entities.get(self.find(hash)? as usize)?.base_behind())
    }

    /// Learns how an entity is in the log, of which operations were taken in before that was known. Gives it back if
    /// there are none.
    pub(crate) fn rebase(&mut self, hash: EntityHash, base: Base) -> Option<Base> {
        let pending = self.find(hash).and_then(|at| self.entities.get_mut(at as usize));
        let Some(pending) = pending else { return Some(base) };
        (pending.base.version, pending.base.generation) = (base.version, base.generation);
        None
    }

    fn end(&mut self, ended: Ended) -> u64 {
        let outcome = std::mem::take(&mut self.outcome);
        // Only here, and once for each window.
        let _ = outcome.0.set(ended);
        self.entities.clear();
        self.by_hash.clear();
        self.spoken.clear();
        self.bytes = 0;
        std::mem::take(&mut self.operations)
    }
}

impl Pending {
    fn row(&self) -> &[u8] {
        self.row.as_deref().unwrap_or_else(|| self.base.row())
    }

    fn frame_bytes(&self) -> u64 {
        let row = if self.alive { self.row().len() } else { 0 };
        frame_bytes(self.key.len(), self.metadata.len(), row)
    }

    /// The version of the schema that the base's row is of.
    fn schema_of_base(&self) -> u16 {
        if self.base.schema == 0 { self.bound.version } else { self.base.schema }
    }

    /// Nobody would assert it without this source.
    fn is_last(&self, source: u8) -> bool {
        self.sources & !(1 << (source % 64)) == 0
    }

    fn say(&mut self, source: u8, saying: Saying<'_>) {
        let bit = 1u64 << (source % 64);
        match saying {
            Saying::Assert(row) | Saying::Patch(row, _) => {
                if row == self.base.row() && !self.base.is_stuck {
                    self.row = None;
                } else {
                    let kept = self.row.get_or_insert_default();
                    kept.clear();
                    // Memory that was needed once is not held for ever.
                    kept.shrink_to(4 * row.len());
                    kept.extend_from_slice(row);
                }
                self.alive = true;
                self.sources |= bit;
            }
            Saying::Retract => {
                self.sources &= !bit;
                self.alive &= self.sources != 0;
            }
        }
        self.source = source;
        self.touched |= bit;
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
    fn version(&self, first: u64) -> u64 {
        match self.net() {
            None => self.base.version,
            Some((operation, _)) => self.next_version(operation, first).unwrap_or(self.base.generation + 1),
        }
    }

    /// Which fields an operation would change of the row as it is; `None`: there is none, or it retracts.
    fn would_change(&self, saying: Saying<'_>) -> Option<u64> {
        let row = saying.row().filter(|_| self.alive)?;
        if self.row.is_none() && self.base.is_stuck {
            return Some(ALL_FIELDS);
        }
        Some(changed(self.row(), row, &self.bound.fields))
    }

    /// What an operation that was applied tells.
    fn spoken(&self, entity: u32, utterance: &Utterance<'_>, changed: Option<u64>) -> Spoken {
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
    fn told<'a>(
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
    fn told_bytes(&self, utterance: &Utterance<'_>) -> u64 {
        let row = utterance.saying.row().map_or(0, <[u8]>::len);
        self.bound.events.map_or(0, |_| operation_bytes(self.key.len(), utterance.metadata.len(), row))
    }

    /// How the entity will be in the log, but for its version and its generation.
    fn base_behind(&self) -> Base {
        let (base, schema) = (self.base.clone(), self.bound.version);
        let base = Base { alive: self.alive, sources: self.sources, ..base };
        match self.net() {
            Some((RowOperation::Deleted, _)) => Base { row: BaseRow::None, schema, is_stuck: false, ..base },
            Some((RowOperation::Created | RowOperation::Updated, _)) => {
                let row = BaseRow::Brought(self.row().to_vec());
                Base { row, schema, is_stuck: false, ..base }
            }
            Some((RowOperation::Sources, _)) | None => base,
        }
    }

    /// How the entity is in the log with its frame, if it was given one.
    fn into_base(self, receipt: Option<&Receipt>, committed: Committed) -> Base {
        let Some(receipt) = receipt else { return self.base };
        let (version, generation) = (committed.version, receipt.generation.get());
        let base = Base { alive: self.alive, version, generation, sources: self.sources, ..self.base };
        let schema = self.bound.version;
        match (self.alive, self.row) {
            (false, _) => Base { row: BaseRow::None, schema, is_stuck: false, ..base },
            (true, Some(row)) if committed.change != Made::SourcesOnly => {
                Base { row: BaseRow::Brought(row), schema, is_stuck: false, ..base }
            }
            (true, _) => base,
        }
    }

    fn frame(&self, first: u64) -> Option<RowFrame<'_>> {
        let (operation, changed) = self.net()?;
        let payload = if operation == RowOperation::Deleted { &[][..] } else { self.row() };
        Some(RowFrame {
            operation,
            kind: self.bound.id,
            hash: self.hash,
            key: &self.key,
            metadata: &self.metadata,
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

    fn committed(&self, receipt: Option<&Receipt>, first: u64) -> Committed {
        let Some((receipt, (operation, _))) = receipt.zip(self.net()) else {
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
