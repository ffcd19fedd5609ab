//! Making derived files: the index of a segment, and the directory of entities.
//!
//! Both are made from durable segments only. A directory that knew of a frame which a power
//! cut then took back would give the next one a wrong generation.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use zerocopy::IntoBytes;

use crate::disk::{File, replace, replace_with};
use crate::error::{Error, Result};
use crate::format::cursor::CursorState;
use crate::format::directory::{self as page, FILE_NAME, PAGES_AT, SLOTS, SLOTS_PLANNED, Slot};
use crate::format::frame::{FRAME_BYTES, Frame, flag};
use crate::format::index::{EntityHash, EntityRecord, IndexParts, KindCount, file_name};
use crate::format::segment::FIRST_FRAME;
use crate::format::system::System;
use crate::id::{EntryAt, FRAME_ALIGN, Life, Position};
use crate::index::catalog::{Catalog, Place};
use crate::index::entity_file::EntityFile;
use crate::index::keyed::KeyedReader;
use crate::index::live::{LiveIndex, units};
use crate::index::sealed::SealedIndex;
use crate::log::chain::Chain;
use crate::log::recovery::recover;
use crate::log::report::Damage;
use crate::log::segment::Segment;
use crate::log::visitor::{Purpose, Visitor};

/// A segment that was indexed by reading its frames.
pub(crate) struct ByReading {
    pub(crate) live: LiveIndex,
    pub(crate) damage: Option<Damage>,
    /// How far its frames are good.
    pub(crate) end: u64,
}

/// Indexes a segment by reading its frames, for as far as they are good.
pub(crate) fn index_by_reading(
    place: &Place,
    segment: &Arc<Segment>,
    (limit, is_followed): (Result<Option<u64>>, bool),
) -> Result<ByReading> {
    let live = LiveIndex::for_segment(segment.header.bytes);
    let mut reading =
        Reading { place, live: &live, newest: HashMap::new(), began: false, keyed: KeyedReader::default() };
    let chain = Chain::of_one(segment.number(), limit, is_followed);
    let end = recover(&*place.directory, place.store, &chain, None, Purpose::Read, &mut reading)?;
    if !reading.began {
        live.begin(end.last_seq.saturating_add(1));
    }
    // Recovery mapped the segment for itself; what it accepted is as good in this map.
    let readable = usize::try_from(end.position.offset()).unwrap_or(0).min(segment.map.bytes());
    segment.map.raise(readable);
    // What follows it may be a part, and was not asked for.
    let mut damages = end.report.damage.into_iter().filter(|damage| damage.segment == segment.number());
    let damage = damages.next().map(|first| damages.fold(first, with_another));
    Ok(ByReading { live, damage, end: end.position.offset() })
}

/// One damage stands for all of a file: from the first Seq that is lost to the last, if that is known.
fn with_another(first: Damage, other: Damage) -> Damage {
    if other.took_nothing() {
        return first;
    }
    if first.took_nothing() {
        return other;
    }
    let is_open = |damage: &Damage| damage.first_seq > damage.last_seq && damage.next_good.is_none();
    let is_unknown = is_open(&other) || is_open(&first);
    let last_seq = if is_unknown { first.first_seq - 1 } else { first.last_seq.max(other.last_seq) };
    let next_good = other.next_good.filter(|_| !is_unknown);
    Damage { last_seq, next_good, ..first }
}

struct Reading<'a> {
    place: &'a Place,
    live: &'a LiveIndex,
    newest: HashMap<EntityHash, EntryAt>,
    began: bool,
    keyed: KeyedReader,
}

impl Visitor for Reading<'_> {
    fn enter(&mut self, _segment: &Arc<Segment>, _from: u64, _last_seq: u64) -> Result<()> {
        Ok(())
    }

    fn frame(&mut self, position: Position, frame: &Frame<'_>) -> Result<()> {
        note(self.live, &mut self.began, position, frame);
        if frame.header.is_system() {
            return Ok(());
        }
        let hash = self.place.hasher.hash(frame.header.kind.get(), frame.key());
        self.live.skip_to(frame.header.seq.get());
        let at = EntryAt::new(position.segment(), self.live.count());
        let previous = self.newest.insert(hash, at).unwrap_or(EntryAt::NONE);
        self.live.push(position.offset(), previous);
        self.live.keyed.lock().extend(self.keyed.frame(frame));
        Ok(())
    }

    fn lost(&mut self, damage: &Damage) {
        if self.began {
            self.live.skip_to(damage.last_seq.saturating_add(1));
        }
    }
}

/// Notes what a frame says about the segment itself: the first Seq, and where the registry is.
pub(crate) fn note(live: &LiveIndex, began: &mut bool, position: Position, frame: &Frame<'_>) {
    if frame.header.is_system() {
        let operation = System::of(frame.header.operation);
        if operation.is_some_and(System::is_restated) {
            live.system.lock().push(units(position.offset()));
        }
        if operation == Some(System::Preamble) && !*began {
            let next =
                crate::format::system::Preamble::read(frame.payload()).map(|preamble| preamble.next_seq);
            live.begin(next.unwrap_or(frame.header.seq.get().saturating_add(1)));
            *began = true;
        }
    } else if !*began {
        live.begin(frame.header.seq.get());
        *began = true;
    }
}

/// Says which segment holds an entity's newest frame before the one that is indexed; 0: none does.
pub(crate) type Before<'a> = &'a dyn Fn(EntityHash) -> Result<u32>;

/// Writes the index of a segment that is durable up to `end`. `before` is asked where the arrays do
/// not know what an entity's history goes on behind: those that were made by reading one segment.
pub(crate) fn write_index(
    place: &Place,
    segment: &Segment,
    live: &LiveIndex,
    end: u64,
    before: Before<'_>,
) -> Result<SealedIndex> {
    let parts = index_parts(place, segment, live, end, before)?;
    let number = segment.number();
    let name = file_name(number);
    replace(&*place.directory, &name, &[&parts.encode(place.store)])
        .map_err(|e| Error::io("write an index", e).at(place.directory.path().join(name)))?;
    SealedIndex::open(&*place.directory, place.store, number, segment.header.salt)
}

/// One entity's frames, as they are gathered.
struct Gathered {
    kind: u16,
    hash: EntityHash,
    members: Vec<u32>,
    previous_segment: u32,
}

pub(crate) fn index_parts(
    place: &Place,
    segment: &Segment,
    live: &LiveIndex,
    end: u64,
    before: Before<'_>,
) -> Result<IndexParts> {
    let frames = live.count();
    let mut parts = IndexParts {
        number: segment.number(),
        salt: segment.header.salt,
        end,
        first_seq: live.first_seq(),
        last_life: last_life(segment, end),
        system: newest_of_each(segment, live.system.lock().clone()),
        keyed: live.keyed.lock().clone(),
        ..IndexParts::default()
    };
    let mut gathered: Vec<Gathered> = Vec::new();
    // Each frame's entity is known from the frame before it of the same entity, so that a key
    // is hashed once a segment and not once a frame.
    let mut entity_of: Vec<u32> = Vec::new();
    let mut kinds: HashMap<u16, u32> = HashMap::new();
    for ordinal in 0..frames {
        let offset = live.offset(ordinal).unwrap_or(0);
        if offset >= end {
            break;
        }
        parts.offsets.push(units(offset));
        let Some(frame) = (offset != 0).then(|| segment.frame(offset)).flatten() else {
            entity_of.push(u32::MAX);
            continue;
        };
        *kinds.entry(frame.header.kind.get()).or_default() += 1;
        let previous = live.previous(ordinal);
        let here = previous.filter(|previous| previous.segment() == segment.number());
        let known = here
            .and_then(|previous| entity_of.get(previous.ordinal() as usize).copied())
            .filter(|entity| *entity != u32::MAX);
        let entity = match known {
            Some(entity) => entity,
            None => {
                let kind = frame.header.kind.get();
                let hash = place.hasher.hash(kind, frame.key());
                let previous_segment = match previous {
                    Some(previous) => previous.segment(),
                    None if frame.header.has(flag::FIRST) => 0,
                    None => before(hash)?,
                };
                gathered.push(Gathered { kind, hash, members: Vec::new(), previous_segment });
                u32::try_from(gathered.len() - 1).unwrap_or(u32::MAX)
            }
        };
        if let Some(gathered) = gathered.get_mut(entity as usize) {
            gathered.members.push(ordinal);
        }
        entity_of.push(entity);
    }
    gathered.sort_unstable_by_key(|entity| entity.hash);
    for entity in &gathered {
        let start = u32::try_from(parts.members.len()).unwrap_or(u32::MAX);
        let first =
            entity.members.first().and_then(|first| live.offset(*first)).and_then(|at| segment.frame(at));
        let generation = first.map_or(0, |frame| frame.header.generation.get());
        let count = u32::try_from(entity.members.len()).unwrap_or(u32::MAX);
        parts.entities.push(EntityRecord::new(
            (entity.kind, entity.hash),
            generation,
            start,
            count,
            entity.previous_segment,
        ));
        parts.members.extend_from_slice(&entity.members);
    }
    // Lost frames belong to nobody; the members' part is as long as the offsets'.
    parts.members.resize(parts.offsets.len(), u32::MAX);
    parts.kinds = kinds.into_iter().map(|(kind, frames)| KindCount::new(kind, frames)).collect();
    parts.kinds.sort_unstable_by_key(|count| count.kind.get());
    Ok(parts)
}

/// What an opening has to read: of the frames about one cursor only the last.
fn newest_of_each(segment: &Segment, mut system: Vec<u32>) -> Vec<u32> {
    let mut met = HashSet::new();
    system.reverse();
    system.retain(|units| {
        let frame = segment.frame(u64::from(*units) * FRAME_ALIGN);
        let cursor = frame.filter(|frame| frame.header.operation == System::Cursor as u8);
        let name = cursor.and_then(|frame| CursorState::read(frame.payload())).map(|cursor| cursor.name);
        name.is_none_or(|name| met.insert(name))
    });
    system.reverse();
    system
}

/// The life of the last frame below `end`: its seal, closed frame or last append.
fn last_life(segment: &Segment, end: u64) -> Option<Life> {
    let ending = end.checked_sub(FRAME_BYTES as u64).and_then(|at| Some((at, segment.frame(at)?)));
    if let Some((at, frame)) = ending
        && frame.header.is_system()
        && frame.is_good(segment.header.salt, segment.position(at))
    {
        return Some(frame.header.life());
    }
    let mut at = FIRST_FRAME;
    let mut life = None;
    while at < end {
        let Some(frame) = segment.frame(at) else { break };
        life = Some(frame.header.life());
        at += frame.len() as u64;
    }
    life
}

/// Merges the directory of entities with the indexes of the segments behind what it covers,
/// oldest first, and writes it anew.
pub(crate) fn write_directory(
    place: &Place,
    old: Option<&EntityFile>,
    sealed: &[(u32, SealedIndex)],
    covered: EntryAt,
    catalog: &Catalog,
) -> Result<EntityFile> {
    let doing =
        |e| Error::io("write the directory of entities", e).at(place.directory.path().join(FILE_NAME));
    let mut added: HashMap<EntityHash, Slot> = HashMap::new();
    for (number, index) in sealed {
        for record in index.entities() {
            let (generation, last) = index.newest(record);
            added.insert(record.hash(), Slot::new(record.hash(), generation, EntryAt::new(*number, last)));
        }
    }
    let mut fresh: Vec<Slot> = added.into_values().collect();
    fresh.sort_unstable_by_key(Slot::hash);

    // What compaction has dropped is forgotten here. Where that cannot be told, it is not.
    let is_there = |slot: &Slot| catalog.has_some_of(slot.hash(), slot.newest().segment()).unwrap_or(true);
    let merged = || Merged::new(old, &fresh).filter(is_there);
    let entities = merged().count() as u64;
    let homes = entities.div_ceil(SLOTS_PLANNED as u64).max(1);
    let write = |file: &dyn File| {
        let mut pages = Pages::new(homes, file);
        merged().try_for_each(|slot| pages.push(slot))?;
        let count = pages.finish()?;
        let mut head = EntityFile::header(place.store, homes, count, entities, covered).as_bytes().to_vec();
        head.resize(PAGES_AT, 0);
        file.write_at(&head, 0)
    };
    replace_with(&*place.directory, FILE_NAME, write).map_err(doing)?;
    let written = EntityFile::open(&*place.directory, place.store)?;
    written.check_all().map_err(|_| Error::corrupt("read back the directory of entities"))?;
    Ok(written)
}

/// Slots in the order of hashes, filled into pages so that each lies at or behind its home, and
/// written some pages at a time: a directory of many entities is never in memory as a whole.
struct Pages<'a> {
    homes: u64,
    number: u64,
    slots: Vec<Slot>,
    file: &'a dyn File,
    full: Vec<u8>,
    written: u64,
}

impl<'a> Pages<'a> {
    const BYTES_AT_ONCE: usize = 1 << 20;

    fn new(homes: u64, file: &'a dyn File) -> Self {
        let written = PAGES_AT as u64;
        Self { homes, number: 0, slots: Vec::with_capacity(SLOTS), file, full: Vec::new(), written }
    }

    fn push(&mut self, slot: Slot) -> io::Result<()> {
        let home = page::home(slot.hash(), self.homes);
        while self.number < home || self.slots.len() == SLOTS {
            self.turn()?;
        }
        self.slots.push(slot);
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        self.full.extend_from_slice(&page::encode_page(&self.slots));
        self.slots.clear();
        self.number += 1;
        if self.full.len() >= Self::BYTES_AT_ONCE { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_at(&self.full, self.written)?;
        self.written += self.full.len() as u64;
        self.full.clear();
        Ok(())
    }

    /// The number of pages written.
    fn finish(mut self) -> io::Result<u64> {
        self.turn()?;
        while self.number < self.homes {
            self.turn()?;
        }
        self.write()?;
        Ok(self.number)
    }
}

/// Two sorted runs of slots as one: the file's, and the fresh ones, which win.
struct Merged<'a> {
    file: FileSlots<'a>,
    next_in_file: Option<Slot>,
    fresh: std::iter::Peekable<std::slice::Iter<'a, Slot>>,
}

impl<'a> Merged<'a> {
    fn new(file: Option<&'a EntityFile>, fresh: &'a [Slot]) -> Self {
        let mut file = FileSlots { file, page: 0, run: Vec::new() };
        let next_in_file = file.next();
        Self { file, next_in_file, fresh: fresh.iter().peekable() }
    }
}

impl Iterator for Merged<'_> {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        let (old, fresh) = (self.next_in_file, self.fresh.peek().copied().copied());
        let old_hash = old.map_or(EntityHash::MAX, |slot| slot.hash());
        match fresh {
            Some(fresh) if old.is_none() || fresh.hash() <= old_hash => {
                if old.is_some() && fresh.hash() == old_hash {
                    self.next_in_file = self.file.next();
                }
                self.fresh.next();
                Some(fresh)
            }
            _ => {
                self.next_in_file = self.file.next();
                old
            }
        }
    }
}

/// The slots of a file in the order of hashes: pages are read up to one that is not full,
/// because what overflowed stands no further than that.
struct FileSlots<'a> {
    file: Option<&'a EntityFile>,
    page: u64,
    /// Slots of the pages read, greatest first.
    run: Vec<Slot>,
}

impl Iterator for FileSlots<'_> {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        let file = self.file?;
        while self.run.is_empty() && self.page < file.pages() {
            loop {
                // The caller checked every page before the merge.
                let slots = file.page(self.page).unwrap_or_default();
                self.run.extend_from_slice(slots);
                self.page += 1;
                if slots.len() < SLOTS || self.page >= file.pages() {
                    break;
                }
            }
            self.run.sort_unstable_by_key(|slot| std::cmp::Reverse(slot.hash()));
        }
        self.run.pop()
    }
}
