//! What the index of a segment should say, gathered while the segment is read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use crate::format::compacted::Compacted;
use crate::format::frame::Frame;
use crate::format::index::{EntityHash, EntityRecord, IndexParts, KindCount};
use crate::id::{EntryAt, Position, StoreId};
use crate::index::entities::{Known, UpperHalf};
use crate::index::keyed::KeyedReader;
use crate::index::live::units;
use crate::journal::registry::Registry;
use crate::journal::verify::IndexFile;
use crate::log::segment::Segment;

/// Entities by hash.
pub(super) type Entities = HashMap<EntityHash, Entity, BuildHasherDefault<UpperHalf>>;

/// What was met of an entity.
#[derive(Clone, Copy)]
pub(super) struct Entity {
    pub(super) known: Known,
    /// The segment in which it was met last, and the how manieth there it was to be met.
    segment: u32,
    slot: u32,
}

impl Entity {
    /// Of one that is met for the first time.
    pub(super) const NEW: Self =
        Self { known: Known { generation: 0, newest: EntryAt::NONE }, segment: 0, slot: 0 };

    pub(super) fn kept(known: Known) -> Self {
        Self { known, ..Self::NEW }
    }
}

/// The segment that is being read.
pub(super) struct InSegment {
    pub(super) segment: Arc<Segment>,
    pub(super) index: IndexFile,
    /// What the index should say.
    pub(super) parts: IndexParts,
    entities: Vec<InIndex>,
    /// The entity of each entry, as its place in the former.
    slots: Vec<u32>,
    kinds: BTreeMap<u16, u32>,
    keyed: KeyedReader,
    /// The last frame about each cursor, and those before it.
    pub(super) cursors: HashMap<String, u32>,
    pub(super) superseded: HashSet<u32>,
    /// Where the last frame ends.
    pub(super) end: u64,
    pub(super) whole: bool,
    /// What the log said of itself before, until the preamble has restated it.
    pub(super) to_restate: Option<(Registry, Registry)>,
    /// What stood right before it was compacted.
    pub(super) is_behind_a_cover: bool,
    /// The cursors that the preamble says were retired, on a disk that was full then.
    pub(super) retired: HashSet<String>,
}

#[derive(Clone, Copy)]
struct InIndex {
    hash: EntityHash,
    first_generation: u64,
    previous_segment: u32,
}

impl InSegment {
    pub(super) fn new(segment: Arc<Segment>, index: IndexFile, parts: IndexParts, from: u64) -> Self {
        Self {
            segment,
            index,
            parts,
            entities: Vec::new(),
            slots: Vec::new(),
            kinds: BTreeMap::new(),
            keyed: KeyedReader::default(),
            cursors: HashMap::new(),
            superseded: HashSet::new(),
            end: from,
            whole: from == crate::format::segment::FIRST_FRAME,
            to_restate: None,
            is_behind_a_cover: false,
            retired: HashSet::new(),
        }
    }

    /// How far the index goes, or should.
    pub(super) fn covered_end(&self) -> u64 {
        match &self.index {
            IndexFile::Good(layout, _) => layout.end,
            _ => u64::MAX,
        }
    }

    /// Takes in an entry's frame; its entity is told by [`entity`](Self::entity), in the same order.
    pub(super) fn frame(&mut self, position: Position, frame: &Frame<'_>) {
        self.parts.offsets.push(units(position.offset()));
        *self.kinds.entry(frame.header.kind.get()).or_default() += 1;
        self.parts.keyed.extend(self.keyed.frame(frame));
    }

    /// Takes in the entity of an entry, of which this was known before.
    pub(super) fn entity(&mut self, hash: EntityHash, entity: &mut Entity, before: Option<Known>) {
        let number = self.segment.number();
        if entity.segment != number {
            entity.segment = number;
            entity.slot = count(self.entities.len());
            self.entities.push(InIndex {
                hash,
                first_generation: entity.known.generation,
                previous_segment: before.map_or(0, |known| known.newest.segment()),
            });
        }
        self.slots.push(entity.slot);
    }

    /// The index as it should be, and as it is. Where an entity's entries before it were compacted it may name the
    /// segment in which they stood.
    pub(super) fn expected_index(mut self, store: StoreId, compacted: &Compacted) -> (Vec<u8>, Vec<u8>) {
        if let IndexFile::Good(layout, bytes) = &self.index
            && !compacted.covers.is_empty()
        {
            for entity in &mut self.entities {
                let named = layout.find(bytes, entity.hash).map(EntityRecord::previous_segment);
                let named = named.filter(|number| compacted.covering(*number).is_some());
                entity.previous_segment = named.unwrap_or(entity.previous_segment);
            }
        }
        self.parts.end = self.covered_end().min(self.end);
        self.parts.system.retain(|at| !self.superseded.contains(at));
        self.add_entities();
        let counts = self.kinds.into_iter().map(|(kind, frames)| KindCount::new(kind, frames));
        self.parts.kinds = counts.collect();
        let bytes = match self.index {
            IndexFile::Good(_, bytes) | IndexFile::Bad(_, bytes) => bytes,
            IndexFile::None => Vec::new(),
        };
        (self.parts.encode(store), bytes)
    }

    /// The records of the entities by hash, and the entries of each.
    fn add_entities(&mut self) {
        let (entities, slots) = (std::mem::take(&mut self.entities), std::mem::take(&mut self.slots));
        let mut order: Vec<u32> = (0..count(entities.len())).collect();
        order.sort_unstable_by_key(|slot| entities.get(*slot as usize).map(|entity| entity.hash));
        // How many entries each has, then where the next one goes.
        let mut next = vec![0; entities.len()];
        for slot in &slots {
            if let Some(entries) = next.get_mut(*slot as usize) {
                *entries += 1;
            }
        }
        let mut start = 0;
        for slot in order {
            let at = slot as usize;
            let (Some(entity), Some(next)) = (entities.get(at), next.get_mut(at)) else { continue };
            let InIndex { hash, first_generation, previous_segment } = *entity;
            let count = std::mem::replace(next, start);
            self.parts.entities.push(EntityRecord::new(
                hash,
                first_generation,
                start,
                count,
                previous_segment,
            ));
            start += count;
        }
        self.parts.members = vec![0; slots.len()];
        for (ordinal, slot) in (0..).zip(slots) {
            let Some(next) = next.get_mut(slot as usize) else { continue };
            if let Some(member) = self.parts.members.get_mut(*next as usize) {
                *member = ordinal;
            }
            *next += 1;
        }
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
