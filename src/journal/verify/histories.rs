//! Whether the entries of each entity follow on each other.
//!
//! Nearly every entry is of an entity that no cache holds any more. So entries wait until there are some, and the
//! entities of all of them are brought in side by side before the first is judged.
//!
//! There is room for so many entities. When there are more, all are put away, and what is asked about the first entry
//! of an entity that is met behind that is judged at the end, with all that was put away.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasherDefault;

use crate::format::frame::{Frame, flag};
use crate::format::index::EntityHash;
use crate::id::{EntryAt, Position};
use crate::index::entities::{Known, UpperHalf};
use crate::journal::finding::Finding;
use crate::journal::verify::entity_pages::Comparison;
use crate::journal::verify::links::Links;
use crate::journal::verify::put_away::{Met, QUESTIONS_MAX, Question, Runs};
use crate::journal::verify::{Checking, damage};

/// So many are judged at a time: more than a processor can fetch side by side, and less than its nearest cache holds.
const TOGETHER: usize = 64;

/// As many entities as a table of some 13 MB holds before it grows.
pub(super) const ROOM: usize = (1 << 18) / 8 * 7;

const _: () = assert!(ROOM < QUESTIONS_MAX as usize);

/// Entities by hash.
pub(super) type Entities = HashMap<EntityHash, Entity, BuildHasherDefault<UpperHalf>>;

/// What was met of an entity.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entity {
    pub(super) known: Known,
    /// In the segment in which it was met last, the how manieth it was to be met.
    slot: u32,
}

impl Entity {
    pub(super) fn of(known: Known) -> Self {
        Self { known, slot: 0 }
    }
}

/// What is known of an entity before one of its entries.
#[derive(Clone, Copy, Debug)]
pub(super) enum Before {
    /// It is the first.
    Nothing,
    Known(Known),
    /// There may be something among what was put away.
    Unknown,
}

/// All entities, in bounded memory.
#[derive(Debug)]
pub(super) struct Histories {
    /// Those that were met since some were put away.
    pub(super) recent: Entities,
    /// There is room for so many.
    pub(super) room: usize,
    /// About the first entry of each of the recent ones.
    questions: Vec<Met>,
    pub(super) runs: Runs,
    pub(super) links: Links,
    /// The directory of entities, to be compared with what was known of them at a moment.
    pub(super) comparison: Option<(Moment, Comparison)>,
    /// Entries that are judged together.
    arrivals: Vec<Arrival>,
}

/// Of what is found later: where among the findings it belongs, and after which runs and questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    pub(super) findings: usize,
    pub(super) runs: usize,
    pub(super) questions: usize,
}

/// An entry whose history is to be judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    position: Position,
    hash: EntityHash,
    kind: u16,
    is_first: bool,
    /// The index of its segment is to list it.
    is_indexed: bool,
    known: Known,
}

impl Histories {
    pub(super) fn with_room_for(entities: usize) -> Self {
        Self {
            recent: Entities::default(),
            room: entities.clamp(1, ROOM),
            questions: Vec::new(),
            runs: Runs::default(),
            links: Links::default(),
            comparison: None,
            arrivals: Vec::new(),
        }
    }

    pub(super) fn moment(&self, findings: usize) -> Moment {
        Moment { findings, runs: self.runs.len(), questions: self.questions.len() }
    }

    /// Makes room.
    pub(super) fn put_away(&mut self) {
        debug_assert!(self.recent.len() <= self.room && self.questions.len() <= self.room, "they fit");
        if self.runs.is_empty() {
            self.questions.extend(self.recent.keys().map(|hash| Met::judged(*hash)));
        }
        for met in &mut self.questions {
            if let Some(entity) = self.recent.get(&met.hash()) {
                met.set_last(entity.known);
            }
        }
        self.questions.sort_unstable_by_key(Met::hash);
        self.runs.add(&self.questions);
        self.questions.clear();
        self.recent.clear();
    }
}

impl Checking<'_> {
    /// Takes in an entry of the log that stands at this place in its segment, and is of this entity.
    pub(super) fn arrive(&mut self, hash: EntityHash, position: Position, frame: &Frame<'_>) {
        let newest = self.place_of_next(position);
        let here = self.segment.as_mut().filter(|here| position.offset() < here.covered_end());
        let is_indexed = here.is_some();
        if let Some(here) = here {
            here.frame(position, frame);
        }
        self.arrive_at(hash, position, frame, newest, is_indexed);
    }

    /// Takes in an entry with this place among the entries of the log.
    pub(super) fn arrive_at(
        &mut self,
        hash: EntityHash,
        position: Position,
        frame: &Frame<'_>,
        newest: EntryAt,
        is_indexed: bool,
    ) {
        let header = frame.header;
        let kind = header.kind.get();
        let known = Known { generation: header.generation.get(), newest };
        let is_first = header.has(flag::FIRST);
        let arrivals = &mut self.histories.arrivals;
        arrivals.push(Arrival { position, hash, kind, is_first, is_indexed, known });
        if arrivals.len() >= TOGETHER {
            self.judge_arrivals();
        }
    }

    /// The place of the entry that stands there, which comes next.
    fn place_of_next(&self, position: Position) -> EntryAt {
        self.segment.as_ref().map_or(EntryAt::new(position.segment(), 0), |here| here.next_entry())
    }

    /// Compares the directory of entities with the log, if that goes as far as up to the entry that stands there.
    pub(super) fn compare_entities_before(&mut self, position: Position) {
        let next = self.place_of_next(position);
        if self.entity_pages.as_ref().is_some_and(|pages| next >= pages.covered) {
            self.judge_arrivals();
            self.compare_entities();
        }
    }

    /// Judges those that wait, in their order.
    pub(super) fn judge_arrivals(&mut self) {
        let mut arrivals = std::mem::take(&mut self.histories.arrivals);
        for arrival in &arrivals {
            // None of these waits for the one before. The compiler would leave out what nobody looks at.
            let entity = self.histories.recent.get(&arrival.hash);
            std::hint::black_box(entity.map(|entity| entity.known.generation));
        }
        for arrival in arrivals.drain(..) {
            self.judge(arrival);
        }
        self.histories.arrivals = arrivals;
    }

    /// The same before what was found of a later frame: findings are in the order of the log.
    pub(super) fn judge_arrivals_before(&mut self, found: usize) {
        let later = self.findings.split_off(found);
        self.judge_arrivals();
        self.findings.extend(later);
    }

    fn judge(&mut self, arrival: Arrival) {
        let Arrival { position, known, is_first, .. } = arrival;
        let before = self.meet(&arrival);
        let may_miss = || self.holes || self.kept.may_miss(arrival.kind);
        let before = match before {
            Before::Nothing => None,
            Before::Known(before) => Some(before),
            Before::Unknown => return self.ask(&arrival, may_miss()),
        };
        if !follows(before, known.generation, is_first, may_miss) {
            self.findings.push(does_not_follow(position, before, known.generation));
        }
    }

    /// Remembers an entry, and answers what was known of its entity before.
    fn meet(&mut self, arrival: &Arrival) -> Before {
        let Histories { recent, room, .. } = &self.histories;
        if recent.len() >= *room && !recent.contains_key(&arrival.hash) {
            self.histories.put_away();
        }
        let entity = self.histories.recent.entry(arrival.hash);
        let before = match &entity {
            Entry::Occupied(entity) => Before::Known(entity.get().known),
            Entry::Vacant(_) if self.histories.runs.is_empty() => Before::Nothing,
            Entry::Vacant(_) => Before::Unknown,
        };
        let entity = entity.or_insert(Entity::of(Known { generation: 0, newest: EntryAt::NONE }));
        if let Some(here) = self.segment.as_mut().filter(|_| arrival.is_indexed) {
            if entity.known.newest.segment() != here.segment.number() {
                entity.slot = here.new_entity((arrival.kind, arrival.hash), arrival.known.generation, before);
            }
            here.entity(entity.slot);
        }
        entity.known = arrival.known;
        before
    }

    fn ask(&mut self, arrival: &Arrival, may_miss: bool) {
        let question = Question {
            position: arrival.position,
            generation: arrival.known.generation,
            moment: self.histories.moment(self.findings.len()),
            is_first: arrival.is_first,
            may_miss,
            is_indexed: arrival.is_indexed,
        };
        self.histories.questions.push(Met::asked(arrival.hash, &question));
    }
}

/// True if an entry of this generation follows on what was known of its entity.
pub(super) fn follows(
    before: Option<Known>,
    generation: u64,
    is_first: bool,
    may_miss: impl FnOnce() -> bool,
) -> bool {
    match before {
        None => is_first || may_miss(),
        Some(before) if is_first => generation > before.generation,
        Some(before) => {
            generation == before.generation.saturating_add(1) || may_miss() && generation > before.generation
        }
    }
}

/// The finding of one that does not.
pub(super) fn does_not_follow(position: Position, before: Option<Known>, generation: u64) -> Finding {
    let expected = before.map_or_else(
        || "the first entry of a history".to_owned(),
        |before| format!("generation {}", before.generation.saturating_add(1)),
    );
    damage(position, "an entity's history".into(), expected, format!("generation {generation}"))
}
