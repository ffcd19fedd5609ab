//! A window: what the operations that were accepted since the last flush come to, entity by entity.
//!
//! Pure arithmetic over sets of sources and encoded rows. An operation never looks at another entity, and an
//! entity's row frame is decided when the window is flushed, from how the entity was before and how it is now:
//! whatever happened in between leaves no trace.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use crate::format::index::EntityHash;
use crate::format::row::RowOperation;
use crate::id::{KindId, Position};
use crate::journal::record::Receipt;
use crate::journal::rows::{OperationFrame, RowFrame};
use crate::state::operations::Spoken;
use crate::state::pending::{Pending, Standing, Utterance};
use crate::state::ticket::{Ended, Outcome};

/// Hashes that are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AsItIs(u64);

impl Hasher for AsItIs {
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

type ByHash = HashMap<EntityHash, u32, BuildHasherDefault<AsItIs>>;

/// An empty window has room for so many entities at most, whether any come or not: seven eighths of a table of 16 Ki places
/// of 33 bytes, and 8 bytes for each, which is 0.7 MB. For one more the table would have twice the places.
const ROOM_MAX: usize = 14_336;

/// The operations since the last flush.
#[derive(Debug, Default)]
pub(crate) struct Window {
    #[allow(
        clippy::vec_box,
        reason = "an entity goes from window to rest and back, and is not copied for that"
    )]
    entities: Vec<Box<Pending>>,
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

    /// An empty one, whose operations are numbered behind those of this one.
    pub(crate) fn successor(&self) -> Self {
        // It will touch about as many, and then its table need not grow step by step.
        let room = self.entities.len().min(ROOM_MAX);
        let by_hash = ByHash::with_capacity_and_hasher(room, BuildHasherDefault::default());
        Self { ticks: self.ticks, by_hash, entities: Vec::with_capacity(room), ..Self::default() }
    }

    /// The bytes that it would come to with an operation.
    pub(crate) fn bytes_with(&self, at: u32, utterance: &Utterance<'_>) -> u64 {
        let Some(pending) = self.entities.get(at as usize) else { return self.bytes };
        self.bytes - pending.frame_bytes() + pending.bytes_with(utterance)
    }

    /// What its tickets share.
    pub(crate) fn outcome(&self) -> &Arc<Outcome> {
        &self.outcome
    }

    /// The place of an entity, if it was touched.
    pub(crate) fn find(&self, hash: EntityHash) -> Option<u32> {
        self.by_hash.get(&hash).copied()
    }

    /// Takes an entity in that was not touched before.
    pub(crate) fn enter(&mut self, entity: Box<Pending>) -> u32 {
        let at = u32::try_from(self.entities.len()).unwrap_or(u32::MAX);
        self.bytes += entity.frame_bytes();
        self.by_hash.insert(entity.hash, at);
        self.entities.push(entity);
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
        self.entities.get(at as usize).map_or(Standing::NOWHERE, |pending| pending.standing())
    }

    /// The same, if it was touched.
    pub(crate) fn standing_of(&self, hash: EntityHash) -> Option<Standing<'_>> {
        Some(self.standing(self.find(hash)?))
    }

    /// Applies an operation of a source.
    pub(crate) fn say(&mut self, at: u32, utterance: &Utterance<'_>) {
        let Some(pending) = self.entities.get_mut(at as usize) else { return };
        let before = pending.frame_bytes();
        let changed = pending.bound.events.and_then(|_| pending.would_change(utterance.saying));
        self.ticks += 1;
        pending.say(utterance, self.ticks);
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

    /// The row frames that the window comes to, with the place of each one's entity and what it says of it.
    pub(crate) fn frames(
        &self,
        first_version: u64,
    ) -> impl Iterator<Item = ((usize, RowOperation), RowFrame<'_>)> {
        self.entities.iter().enumerate().filter_map(move |(at, pending)| {
            let frame = pending.frame(first_version)?;
            Some(((at, frame.operation), frame))
        })
    }

    /// Ends the window: its frames, those of the entities in these places, were given these receipts. `keep` is given each
    /// entity as it is in the log now, and whether the log knew it before. Answers how many operations there were.
    pub(crate) fn flushed(
        &mut self,
        (frames, receipts): (&[(usize, RowOperation)], &[Receipt]),
        first_version: u64,
        end: Position,
        mut keep: impl FnMut(Box<Pending>, bool),
    ) -> u64 {
        let mut given = frames.iter().zip(receipts).peekable();
        let mut entities = Vec::with_capacity(self.entities.len());
        for (at, mut pending) in self.entities.drain(..).enumerate() {
            let was_known = pending.base.version != 0;
            let given = given.next_if(|((place, _), _)| *place == at);
            let given = given.map(|((_, operation), receipt)| (receipt, *operation));
            let committed = pending.committed(given, first_version);
            entities.push(committed);
            pending.rest(given, committed);
            keep(pending, was_known);
        }
        self.end(Ended::Flushed { end, entities: entities.into() })
    }

    /// Tells the tickets of a closed window that nothing of it will ever be appended by this store.
    pub(crate) fn failed(&self) {
        self.outcome.end(Ended::Failed);
    }

    /// The same of the window that is open, which is empty then.
    pub(crate) fn fail(&mut self) {
        self.end(Ended::Failed);
    }

    /// An entity that was touched.
    pub(crate) fn get(&self, hash: EntityHash) -> Option<&Pending> {
        self.entities.get(self.find(hash)? as usize).map(|pending| &**pending)
    }

    /// Learns how an entity is in the log, of which operations were taken in before that was known. False if there are
    /// none.
    pub(crate) fn rebase(&mut self, entity: &Pending) -> bool {
        let pending = self.find(entity.hash).and_then(|at| self.entities.get_mut(at as usize));
        let Some(pending) = pending else { return false };
        (pending.base.version, pending.base.generation) = (entity.base.version, entity.base.generation);
        true
    }

    fn end(&mut self, ended: Ended) -> u64 {
        std::mem::take(&mut self.outcome).end(ended);
        self.entities.clear();
        self.by_hash.clear();
        self.spoken.clear();
        self.bytes = 0;
        std::mem::take(&mut self.operations)
    }
}
