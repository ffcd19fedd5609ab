//! The index of a part: made by reading it, which checks every frame on the way.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::format::compacted::Cover;
use crate::format::frame::Frame;
use crate::format::index::{EntityHash, EntityRecord, IndexParts, KindCount};
use crate::format::part::Answer;
use crate::format::segment::file_name;
use crate::format::system::System;
use crate::id::{Life, SEQ_MAX};
use crate::index::EntityHasher;
use crate::index::catalog::Place;
use crate::index::live::units;
use crate::log::part::{PartFrames, is_an_entry};
use crate::log::report::Damage;
use crate::log::segment::Segment;

/// One entity's frames, as they are gathered.
#[derive(Default)]
struct Gathered {
    kind: u16,
    members: Vec<u32>,
    last_generation: u64,
}

/// Reads a part from end to end. What does not validate stands in the index as one entry that is lost.
pub(crate) fn read_part(
    hasher: &EntityHasher,
    segment: &Segment,
    bytes: &[u8],
    cover: &Cover,
) -> (IndexParts, Option<Damage>) {
    let mut parts = IndexParts {
        number: segment.number(),
        salt: segment.header.salt,
        end: segment.header.bytes,
        first_seq: cover.first_seq,
        last_life: Some(Life(0)),
        ..IndexParts::default()
    };
    let mut entities: HashMap<EntityHash, Gathered> = HashMap::new();
    let mut kinds: HashMap<u16, u32> = HashMap::new();
    let entries = cover.part.map_or(0, |part| part.entries);
    let (mut frames, mut damage, mut last) = (PartFrames::of(segment, bytes), None, cover.first_seq - 1);
    while let Some((at, frame)) = frames.step() {
        let header = frame.map(|frame| *frame.header);
        let seq = header.map_or(0, |header| header.seq.get());
        let is_system = header.is_some_and(|header| header.is_system());
        let is_next = |frame: &Frame<'_>| {
            is_system || (last + 1..=cover.last_seq.min(SEQ_MAX)).contains(&seq) && is_an_entry(frame)
        };
        let Some(frame) = frame.filter(is_next) else {
            damage = damage.or(Some(at));
            // An answer may be what is damaged, where all entries are there.
            let is_an_entry = (parts.offsets.len() as u64) < entries;
            if last < cover.last_seq && is_an_entry {
                last += 1;
                parts.offsets.push(0);
                parts.seqs.push(last);
            }
            continue;
        };
        if is_system {
            note_answer(&mut parts, at, frame.header.operation, frame.payload());
            continue;
        }
        last = seq;
        let ordinal = u32::try_from(parts.offsets.len()).unwrap_or(u32::MAX);
        parts.offsets.push(units(at));
        parts.seqs.push(seq);
        let kind = frame.header.kind.get();
        *kinds.entry(kind).or_default() += 1;
        let entity = entities.entry(hasher.hash(kind, frame.key())).or_default();
        entity.kind = kind;
        entity.members.push(ordinal);
        entity.last_generation = frame.header.generation.get();
    }
    if damage.is_none() && parts.offsets.len() as u64 != entries {
        damage = Some(segment.header.bytes);
    }
    add_entities(&mut parts, entities);
    parts.kinds = kinds.into_iter().map(|(kind, frames)| KindCount::new(kind, frames)).collect();
    parts.kinds.sort_unstable_by_key(|count| count.kind.get());
    let what = "a frame of a part does not validate".to_owned();
    let damage = damage.map(|offset| Damage {
        segment: segment.number(),
        offset,
        lost_from: offset,
        next_good: None,
        first_seq: cover.first_seq,
        last_seq: cover.last_seq,
        what,
        unreadable: false,
    });
    (parts, damage)
}

/// As [`read_part`], of one that must be whole: it was written just now.
pub(crate) fn check_part(place: &Place, segment: &Segment, cover: &Cover) -> Result<IndexParts> {
    let bytes = segment.map.slice(0..segment.map.bytes()).unwrap_or_default();
    match read_part(&place.hasher, segment, bytes, cover) {
        (parts, None) => Ok(parts),
        (_, Some(damage)) => Err(Error::corrupt("read back a part that was just written")
            .at(place.directory.path().join(file_name(segment.number())))
            .place(segment.number(), damage.offset)),
    }
}

/// A batch's answer is known by its first frame.
fn note_answer(parts: &mut IndexParts, at: u64, operation: u8, payload: &[u8]) {
    if System::of(operation) == Some(System::Answer)
        && let Some(answer) = Answer::read(payload).filter(|answer| answer.from == 0)
    {
        parts.answers.push((answer.keyed, units(at)));
    }
}

fn add_entities(parts: &mut IndexParts, entities: HashMap<EntityHash, Gathered>) {
    let mut entities: Vec<(EntityHash, Gathered)> = entities.into_iter().collect();
    entities.sort_unstable_by_key(|(hash, _)| *hash);
    for (hash, Gathered { kind, members, last_generation }) in entities {
        let start = u32::try_from(parts.members.len()).unwrap_or(u32::MAX);
        let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
        let first = last_generation.saturating_add(1).saturating_sub(u64::from(count));
        parts.entities.push(EntityRecord::new((kind, hash), first, start, count, 0));
        parts.members.extend(members);
    }
    // Lost frames belong to nobody; the members' part is as long as the offsets'.
    parts.members.resize(parts.offsets.len(), u32::MAX);
}
