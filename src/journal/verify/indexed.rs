//! What the index of a segment should say, gathered while the segment is read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::format::compacted::Compacted;
use crate::format::frame::Frame;
use crate::format::index::{EntityHash, EntityRecord, IndexParts, KindCount};
use crate::id::{EntryAt, Position, StoreId};
use crate::index::keyed::KeyedReader;
use crate::index::live::units;
use crate::journal::registry::Registry;
use crate::journal::verify::histories::Before;
use crate::journal::verify::index_file::IndexFile;
use crate::journal::verify::links::Links;
use crate::log::segment::Segment;

/// In the place of the segment before, where that is not known yet.
const NOT_KNOWN: u32 = u32::MAX;

/// The memory of what was gathered of a segment, for the next one: each has about as much.
#[derive(Default)]
pub(super) struct Room {
    offsets: Vec<u32>,
    entities: Vec<EntityRecord>,
    slots: Vec<u32>,
}

/// The segment that is being read.
pub(super) struct InSegment {
    pub(super) segment: Arc<Segment>,
    pub(super) index: IndexFile,
    /// What the index should say. An entity's start is its slot, until all are there.
    pub(super) parts: IndexParts,
    /// The entity of each entry, as its place among those of the index.
    slots: Vec<u32>,
    /// How many entries each kind has.
    kinds: Vec<u32>,
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

impl InSegment {
    pub(super) fn new(
        segment: Arc<Segment>,
        index: IndexFile,
        parts: IndexParts,
        from: u64,
        room: Room,
    ) -> Self {
        let Room { offsets, entities, slots } = room;
        Self {
            segment,
            index,
            parts: IndexParts { offsets, entities, ..parts },
            slots,
            kinds: Vec::new(),
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

    /// The memory of what was gathered.
    pub(super) fn into_room(self) -> Room {
        let IndexParts { mut offsets, mut entities, .. } = self.parts;
        let mut slots = self.slots;
        offsets.clear();
        entities.clear();
        slots.clear();
        Room { offsets, entities, slots }
    }

    /// How far the index goes, or should.
    pub(super) fn covered_end(&self) -> u64 {
        match &self.index {
            IndexFile::Good(layout, _) => layout.end,
            _ => u64::MAX,
        }
    }

    /// The place of the entry that comes next.
    pub(super) fn next_entry(&self) -> EntryAt {
        EntryAt::new(self.segment.number(), count(self.parts.offsets.len()))
    }

    /// Takes in an entry's frame; its entity is told by [`entity`](Self::entity), in the same order.
    pub(super) fn frame(&mut self, position: Position, frame: &Frame<'_>) {
        self.parts.offsets.push(units(position.offset()));
        let kind = usize::from(frame.header.kind.get());
        if kind >= self.kinds.len() {
            self.kinds.resize(kind + 1, 0);
        }
        if let Some(entries) = self.kinds.get_mut(kind) {
            *entries += 1;
        }
        self.parts.keyed.extend(self.keyed.frame(frame));
    }

    /// Takes in the entity of an entry, which is met in this segment for the first time; answers its slot.
    pub(super) fn new_entity(&mut self, entity: (u16, EntityHash), generation: u64, before: Before) -> u32 {
        let slot = count(self.parts.entities.len());
        let previous = match before {
            Before::Nothing => 0,
            Before::Known(known) => known.newest.segment(),
            Before::Unknown => NOT_KNOWN,
        };
        self.parts.entities.push(EntityRecord::new(entity, generation, slot, 0, previous));
        slot
    }

    /// The entry that comes next is of the entity with this slot.
    pub(super) fn entity(&mut self, slot: u32) {
        self.slots.push(slot);
    }

    /// The first byte of the index that is not as it should be, if that is known.
    pub(super) fn index_differs(
        &mut self,
        store: StoreId,
        compacted: &Compacted,
        links: &mut Links,
    ) -> Option<u64> {
        self.parts.end = self.covered_end().min(self.end);
        self.parts.system.retain(|at| !self.superseded.contains(at));
        let next = self.place_entities();
        self.look_before(compacted, links);
        self.place_members(next);
        let counts = (0..).zip(&self.kinds).filter(|(_, entries)| **entries > 0);
        self.parts.kinds = counts.map(|(kind, entries)| KindCount::new(kind, *entries)).collect();
        match &self.index {
            // With what is not known yet its checksum would be another.
            IndexFile::Bad(..) if self.parts.entities.iter().any(is_unknown) => None,
            IndexFile::Good(_, bytes) | IndexFile::Bad(_, bytes) => {
                bytes.differs_from(&mut self.parts, store)
            }
            IndexFile::None => None,
        }
    }

    /// Puts the entities in the order of their hashes; answers where the first entry of each slot goes.
    fn place_entities(&mut self) -> Vec<u32> {
        let entities = &mut self.parts.entities;
        // How many entries each has, then where the next one goes.
        let mut next = vec![0; entities.len()];
        for slot in &self.slots {
            if let Some(entries) = next.get_mut(*slot as usize) {
                *entries += 1;
            }
        }
        entities.sort_unstable_by_key(|entity| (entity.hash(), entity.start()));
        let mut start = 0;
        for entity in &mut *entities {
            let Some(next) = next.get_mut(entity.start() as usize) else { continue };
            let count = std::mem::replace(next, start);
            entity.set_place(start, count);
            start += count;
        }
        // One that was put away meanwhile was met anew, and is the same.
        entities.dedup_by(|again, entity| {
            let is_same = again.hash() == entity.hash();
            if is_same {
                entity.set_place(entity.start(), entity.count() + again.count());
            }
            is_same
        });
        next
    }

    fn place_members(&mut self, mut next: Vec<u32>) {
        self.parts.members = vec![0; self.slots.len()];
        for (ordinal, slot) in (0..).zip(&self.slots) {
            let Some(next) = next.get_mut(*slot as usize) else { continue };
            if let Some(member) = self.parts.members.get_mut(*next as usize) {
                *member = ordinal;
            }
            *next += 1;
        }
    }

    /// Where an entity's entries before it were compacted the index may name the segment in which they stood. Where
    /// they stood is not known yet of those that were put away: what the index says of them is looked at later.
    fn look_before(&mut self, compacted: &Compacted, links: &mut Links) {
        let IndexFile::Good(layout, bytes) = &self.index else { return };
        let (number, mut named) = (self.segment.number(), bytes.entities(layout));
        for entity in &mut self.parts.entities {
            let is_unknown = is_unknown(entity);
            if !is_unknown && compacted.covers.is_empty() {
                continue;
            }
            let said = named.previous_segment(entity.hash());
            if is_unknown {
                let said = said.unwrap_or(0);
                entity.set_previous_segment(said);
                links.said(number, entity.hash(), said, compacted);
            } else if let Some(said) = said.filter(|said| compacted.covering(*said).is_some()) {
                entity.set_previous_segment(said);
            }
        }
    }
}

/// True if it is not known where it stood before.
fn is_unknown(entity: &EntityRecord) -> bool {
    entity.previous_segment() == NOT_KNOWN
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
