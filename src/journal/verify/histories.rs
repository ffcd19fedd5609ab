//! Whether the entries of each entity follow on each other.
//!
//! Nearly every entry is of an entity that no cache holds any more. So entries wait until there are some, and the
//! entities of all of them are brought in side by side before the first is judged.

use std::collections::hash_map::Entry;

use crate::format::frame::{Frame, flag};
use crate::format::index::EntityHash;
use crate::id::{EntryAt, Position};
use crate::index::entities::Known;
use crate::journal::verify::Checking;
use crate::journal::verify::indexed::Entity;

/// So many are judged at a time: more than a processor can fetch side by side, and less than its nearest cache holds.
const TOGETHER: usize = 64;

/// An entry whose history is to be judged.
#[derive(Clone, Copy)]
pub(super) struct Arrival {
    position: Position,
    hash: EntityHash,
    kind: u16,
    is_first: bool,
    /// The index of its segment is to list it.
    is_indexed: bool,
    known: Known,
}

impl Checking<'_> {
    /// Takes in an entry of the log that stands at this place in its segment.
    pub(super) fn arrive(&mut self, position: Position, frame: &Frame<'_>) {
        let header = frame.header;
        let kind = header.kind.get();
        let hash = self.hasher.hash(kind, frame.key());
        let newest = self.place_of_next(position);
        let here = self.segment.as_mut().filter(|here| position.offset() < here.covered_end());
        let is_indexed = here.is_some();
        if let Some(here) = here {
            here.frame(position, frame);
        }
        let known = Known { generation: header.generation.get(), newest };
        let is_first = header.has(flag::FIRST);
        self.arrivals.push(Arrival { position, hash, kind, is_first, is_indexed, known });
        if self.arrivals.len() >= TOGETHER {
            self.judge_arrivals();
        }
    }

    /// The place of the entry that stands there, which comes next.
    fn place_of_next(&self, position: Position) -> EntryAt {
        let ordinal = self.segment.as_ref().map_or(0, |here| here.parts.offsets.len());
        EntryAt::new(position.segment(), u32::try_from(ordinal).unwrap_or(u32::MAX))
    }

    /// Compares the directory of entities with the log, if that goes as far as up to the entry that stands there.
    pub(super) fn compare_entities_before(&mut self, position: Position) {
        let next = self.place_of_next(position);
        if self.entity_file.as_ref().is_some_and(|file| next >= file.covered) {
            self.judge_arrivals();
            self.compare_entities();
        }
    }

    /// Judges those that wait, in their order.
    pub(super) fn judge_arrivals(&mut self) {
        let mut arrivals = std::mem::take(&mut self.arrivals);
        for arrival in &arrivals {
            // None of these waits for the one before. The compiler would leave out what nobody looks at.
            std::hint::black_box(self.entities.get(&arrival.hash).map(|entity| entity.known.generation));
        }
        for arrival in arrivals.drain(..) {
            self.judge(arrival);
        }
        self.arrivals = arrivals;
    }

    /// The same before what was found of a later frame: findings are in the order of the log.
    pub(super) fn judge_arrivals_before(&mut self, found: usize) {
        let later = self.findings.split_off(found);
        self.judge_arrivals();
        self.findings.extend(later);
    }

    fn judge(&mut self, arrival: Arrival) {
        let Arrival { position, hash, kind, is_first, is_indexed, known } = arrival;
        let entity = self.entities.entry(hash);
        let before = match &entity {
            Entry::Occupied(entity) => Some(entity.get().known),
            Entry::Vacant(_) => None,
        };
        let entity = entity.or_insert(Entity::NEW);
        entity.known = known;
        if let Some(here) = self.segment.as_mut().filter(|_| is_indexed) {
            here.entity(hash, entity, before);
        }
        let generation = known.generation;
        let may_miss = || self.holes || self.kept.may_miss(kind);
        let follows = match before {
            None => is_first || may_miss(),
            Some(before) if is_first => generation > before.generation,
            Some(before) => {
                generation == before.generation.saturating_add(1)
                    || may_miss() && generation > before.generation
            }
        };
        if !follows {
            let expected = before.map_or_else(
                || "the first entry of a history".to_owned(),
                |before| format!("generation {}", before.generation.saturating_add(1)),
            );
            self.damage(position, "an entity's history".into(), expected, format!("generation {generation}"));
        }
    }
}
