//! Which entries are kept.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use zerocopy::little_endian::U32;

use crate::error::Result;
use crate::format::compacted::Cover;
use crate::format::frame::{FrameHeader, flag};
use crate::format::index::{EntityHash, EntityRecord};
use crate::format::operation::{EventMark, EventOperation};
use crate::format::segment::FIRST_FRAME;
use crate::format::system::Keep;
use crate::id::{EntryAt, Position};
use crate::index::catalog::{Catalog, IndexRef, Opened, Section};
use crate::index::finder::Index;
use crate::index::sealed::SealedIndex;

/// What is to be kept, at one moment.
pub(crate) struct Rules<'a> {
    pub(crate) index: &'a Index,
    /// By the number of the kind; those that are not here keep everything.
    pub(crate) keep: HashMap<u16, Keep>,
    /// What stands before is durable, and will not be taken back.
    pub(crate) durable: Position,
    /// Tombstones up to this time have had it.
    pub(crate) tombstones_until: i64,
    /// Entities of which nothing up to a Seq may be left.
    pub(crate) erasing: HashMap<EntityHash, u64>,
    /// Entities of which nothing below a Seq is shown any more.
    pub(crate) floors: HashMap<EntityHash, u64>,
    /// The newest durable entries of entities that have newer ones, once they were looked up.
    pub(crate) found: RefCell<HashMap<EntityHash, EntryAt>>,
}

/// What is kept of a segment or a part.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) section: Arc<Section>,
    /// One bit an entry.
    kept: Vec<u64>,
    pub(crate) entries: u64,
    pub(crate) entries_kept: u64,
    pub(crate) bytes_kept: u64,
    pub(crate) garbage: u64,
    /// Something has to go.
    pub(crate) must_go: bool,
    /// By kind, the greatest Seq that is dropped.
    pub(crate) dropped: BTreeMap<u16, u64>,
    /// What would have to be known of an entity cannot be read.
    is_damaged: bool,
}

impl Judged {
    /// Of what is left as it is.
    pub(crate) fn nothing_of(section: &Arc<Section>) -> Self {
        Self {
            section: Arc::clone(section),
            kept: Vec::new(),
            entries: 0,
            entries_kept: 0,
            bytes_kept: 0,
            garbage: 0,
            must_go: false,
            dropped: BTreeMap::new(),
            is_damaged: false,
        }
    }

    pub(crate) fn keeps(&self, ordinal: u32) -> bool {
        let word = self.kept.get(ordinal as usize / 64);
        word.is_some_and(|word| word & 1 << (ordinal % 64) != 0)
    }

    fn drop_entry(&mut self, ordinal: u32) {
        if let Some(word) = self.kept.get_mut(ordinal as usize / 64) {
            *word &= !(1 << (ordinal % 64));
        }
    }
}

impl Rules<'_> {
    /// True if nothing of these kinds is ever dropped: there is no need to look.
    fn keep_all_of(&self, index: &SealedIndex) -> bool {
        let keeps_all = |kind| self.keep.get(&kind).is_none_or(|keep| keep.goes_by_floors());
        index.kinds().iter().all(|count| keeps_all(count.kind.get()))
            && self.erasing.keys().all(|hash| index.find(*hash).is_none())
            && (self.floors.is_empty()
                || !index.entities().iter().any(|e| self.floors.contains_key(&e.hash())))
    }

    /// The header of an entity's newest entry in a segment, if it is what was written: by its checksum, and by
    /// the key, which the body's covers.
    fn good_newest(
        &self,
        opened: &Opened,
        index: &SealedIndex,
        ordinal: u32,
        hash: EntityHash,
    ) -> Option<FrameHeader> {
        let offset = index.offset(ordinal).filter(|offset| *offset != 0)?;
        let frame = opened.segment.frame(offset)?;
        let is_good = frame.head_is_good(opened.segment.header.salt, opened.segment.position(offset));
        let is_its = is_good && self.index.hash(frame.header.kind.get(), frame.key()) == hash;
        is_its.then_some(*frame.header)
    }

    /// An operation behind which nobody asserts its entity: it says as little as a tombstone.
    fn retracts_the_last(&self, opened: &Opened, index: &SealedIndex, ordinal: u32) -> bool {
        let frame = index.offset(ordinal).and_then(|offset| opened.segment.frame(offset));
        frame.is_some_and(|frame| {
            EventOperation::of(frame.header.operation) == Some(EventOperation::Retract)
                && EventMark::read(frame.extensions()).is_some_and(|mark| mark.sources == 0)
        })
    }

    /// Judges what has an index file; `None` for what it cannot say for certain. `below`: whether something of an entity stays in what lies before;
    /// where that is not known yet, nothing is said to.
    pub(crate) fn judge(
        &self,
        section: &Arc<Section>,
        below: &dyn Fn(EntityHash, u16) -> Result<bool>,
    ) -> Result<Option<Judged>> {
        let opened = section.open()?;
        let IndexRef::Sealed(index, offsets) = opened.index() else { return Ok(None) };
        let entries = u64::from(index.count());
        let mut judged = Judged {
            section: Arc::clone(section),
            kept: vec![u64::MAX; offsets.len().div_ceil(64)],
            entries,
            entries_kept: entries,
            bytes_kept: index.layout.end.min(opened.segment.header.bytes).saturating_sub(FIRST_FRAME),
            garbage: 0,
            must_go: false,
            dropped: BTreeMap::new(),
            is_damaged: false,
        };
        if self.keep_all_of(index) {
            return Ok(Some(judged));
        }
        for record in index.entities() {
            self.judge_entity(section, opened, index, record, below, &mut judged)?;
        }
        Ok(Some(judged).filter(|judged| !judged.is_damaged))
    }

    fn judge_entity(
        &self,
        section: &Section,
        opened: &Opened,
        index: &SealedIndex,
        record: &EntityRecord,
        below: &dyn Fn(EntityHash, u16) -> Result<bool>,
        judged: &mut Judged,
    ) -> Result<()> {
        let members = index.members(record);
        let (Some(last), hash) = (members.last(), record.hash()) else { return Ok(()) };
        // Nothing is dropped for what a damaged header says.
        let Some(newest) = self.good_newest(opened, index, last.get(), hash) else {
            judged.is_damaged = true;
            return Ok(());
        };
        let kind = newest.kind.get();
        if let Some(through) = self.erasing.get(&hash) {
            let (first_seq, seqs) = (opened.first_seq(), opened.index());
            for member in members.iter().filter(|member| seqs.seq(first_seq, member.get()) <= *through) {
                drop_entry(opened, index, *member, kind, judged);
                judged.must_go = true;
            }
            return Ok(());
        }
        let keep = self.keep.get(&kind).copied().unwrap_or_default();
        if keep.goes_by_floors() {
            if let Some(floor) = self.floors.get(&hash) {
                let (first_seq, seqs) = (opened.first_seq(), opened.index());
                // The newest one stays, wherever the floor is: it says how far the history has come.
                let is_later = matches!(self.place_of_newest(section, hash)?, Newest::Later);
                let may_go = if is_later { members.len() } else { members.len() - 1 };
                let members = members.iter().take(may_go);
                let below = members.take_while(|member| seqs.seq(first_seq, member.get()) < *floor);
                below.for_each(|member| drop_entry(opened, index, *member, kind, judged));
            }
            return Ok(());
        }
        let keeps_last = match self.place_of_newest(section, hash)? {
            Newest::Here => {
                let is_gone = newest.has(flag::TOMBSTONE)
                    || newest.has(flag::ASIDE) && self.retracts_the_last(opened, index, last.get());
                let has_had_its_time = is_gone && newest.time.get() <= self.tombstones_until;
                let may_go = keep == Keep::Nothing || has_had_its_time;
                !may_go || below(hash, kind)?
            }
            Newest::Later => false,
            Newest::NotDurable => true,
        };
        let dropped = if keeps_last { members.len() - 1 } else { members.len() };
        for member in members.iter().take(dropped) {
            drop_entry(opened, index, *member, kind, judged);
        }
        Ok(())
    }

    fn place_of_newest(&self, section: &Section, hash: EntityHash) -> Result<Newest> {
        let Some(known) = self.index.find(hash)? else { return Ok(Newest::Here) };
        let Some(newest) = self.newest_durable(hash, known.newest)? else { return Ok(Newest::NotDurable) };
        let is_here = (section.first_number()..=section.number).contains(&newest.segment());
        Ok(if is_here { Newest::Here } else { Newest::Later })
    }

    /// The newest durable entry of an entity: a power cut could take a later one, and what is here would be
    /// the newest again. `None` where that is not found soon.
    fn newest_durable(&self, hash: EntityHash, newest: EntryAt) -> Result<Option<EntryAt>> {
        const STEPS: usize = 4096;
        if newest.segment() < self.durable.segment() {
            return Ok(Some(newest));
        }
        // Each segment with entries of an entity that is written all the time asks again.
        if let Some(found) = self.found.borrow().get(&hash) {
            return Ok(Some(*found));
        }
        let catalog = self.index.catalog();
        let mut at = newest;
        for _ in 0..STEPS {
            let back = match at.segment() < self.durable.segment() {
                true => Back::IsDurable,
                false => self.step_back(&catalog, hash, at)?,
            };
            match back {
                Back::IsDurable => {
                    self.found.borrow_mut().insert(hash, at);
                    return Ok(Some(at));
                }
                Back::To(before) => at = before,
                Back::Unknown => break,
            }
        }
        Ok(None)
    }

    /// From an entry at or behind the segment with the durable mark to the entity's one before it.
    fn step_back(&self, catalog: &Catalog, hash: EntityHash, at: EntryAt) -> Result<Back> {
        let Some(section) = catalog.section(at.segment()) else { return Ok(Back::Unknown) };
        let holds_the_mark = at.segment() == self.durable.segment();
        let opened = section.open()?;
        Ok(match opened.index() {
            IndexRef::Live(live) => {
                let offset = live.offset(at.ordinal()).filter(|offset| *offset != 0);
                match live.previous(at.ordinal()) {
                    _ if holds_the_mark && offset.is_some_and(|at| at < self.durable.offset()) => {
                        Back::IsDurable
                    }
                    Some(before) => Back::To(before),
                    None => Back::Unknown,
                }
            }
            IndexRef::Sealed(index, _) => {
                let Some(record) = index.find(hash) else { return Ok(Back::Unknown) };
                let below = opened.index().count_below(self.durable.offset());
                let first = index.members(record).first().map_or(u32::MAX, |first| first.get());
                match record.previous_segment() {
                    _ if holds_the_mark && first < below => Back::IsDurable,
                    0 => Back::Unknown,
                    before => Back::To(EntryAt::new(before, EntryAt::SOMEWHERE)),
                }
            }
        })
    }
}

/// What stands before an entry of an entity.
enum Back {
    /// It is durable itself.
    IsDurable,
    To(EntryAt),
    Unknown,
}

/// Where the newest entry of an entity is that has one here.
enum Newest {
    Here,
    Later,
    NotDurable,
}

fn drop_entry(opened: &Opened, index: &SealedIndex, member: U32, kind: u16, judged: &mut Judged) {
    let ordinal = member.get();
    let bytes = index.offset(ordinal).and_then(|at| opened.segment.frame(at)).map_or(0, |f| f.len() as u64);
    judged.drop_entry(ordinal);
    judged.entries_kept -= 1;
    judged.bytes_kept = judged.bytes_kept.saturating_sub(bytes);
    judged.garbage += bytes;
    let seq = opened.index().seq(opened.first_seq(), ordinal);
    let dropped = judged.dropped.entry(kind).or_default();
    *dropped = (*dropped).max(seq);
}

/// Whether something of an entity is in the row before a segment; `instead` stands for stretches that were
/// copied already.
pub(crate) fn is_below<'a>(
    catalog: &Catalog,
    instead: impl Iterator<Item = (&'a Cover, Option<&'a Section>)> + Clone,
    number: u32,
    (hash, kind): (EntityHash, u16),
) -> Result<bool> {
    let is_replaced =
        |section: &&Arc<Section>| instead.clone().any(|(cover, _)| cover.stands_for(section.number));
    let below = catalog.sections.iter().take_while(|section| section.number < number);
    let left = below.filter(|section| !is_replaced(section)).map(|section| &**section);
    for section in left.chain(instead.clone().filter_map(|(_, part)| part)) {
        let opened = section.open()?;
        if opened.damage().is_some() || opened.index().may_hold(kind) && opened.may_have(hash) {
            return Ok(true);
        }
    }
    Ok(false)
}
