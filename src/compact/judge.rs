//! Which entries are kept.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use zerocopy::little_endian::U32;

use crate::error::Result;
use crate::format::frame::flag;
use crate::format::index::{EntityHash, EntityRecord};
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
    /// Tombstones from before this time have had it.
    pub(crate) tombstones_before: i64,
    /// Entities of which nothing up to a Seq may be left.
    pub(crate) erasing: HashMap<EntityHash, u64>,
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
        let keeps_all = |kind| self.keep.get(&kind).is_none_or(|keep| *keep == Keep::All);
        index.kinds().iter().all(|count| keeps_all(count.kind.get()))
            && self.erasing.keys().all(|hash| index.find(*hash).is_none())
    }

    /// Judges what has an index file. `below`: whether something of an entity stays in what lies before;
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
            bytes_kept: index.layout.end.saturating_sub(FIRST_FRAME),
            garbage: 0,
            must_go: false,
            dropped: BTreeMap::new(),
        };
        if self.keep_all_of(index) {
            return Ok(Some(judged));
        }
        for record in index.entities() {
            self.judge_entity(section, opened, index, record, below, &mut judged)?;
        }
        Ok(Some(judged))
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
        let newest = opened.segment.frame(index.offset(last.get()).unwrap_or(0));
        let Some(newest) = newest.map(|frame| *frame.header) else { return Ok(()) };
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
        if keep == Keep::All {
            return Ok(());
        }
        let keeps_last = match self.place_of_newest(section, hash)? {
            Newest::Here => {
                let has_had_its_time =
                    newest.has(flag::TOMBSTONE) && newest.time.get() < self.tombstones_before;
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
        let Some(newest) = self.newest_durable(known.newest)? else { return Ok(Newest::NotDurable) };
        let is_here = (section.first_number()..=section.number).contains(&newest.segment());
        Ok(if is_here { Newest::Here } else { Newest::Later })
    }

    /// The newest durable entry of an entity: a power cut could take a later one, and what is here would be
    /// the newest again. `None` where that is not found soon.
    fn newest_durable(&self, newest: EntryAt) -> Result<Option<EntryAt>> {
        const STEPS: usize = 4096;
        let catalog = self.index.catalog();
        let mut at = newest;
        for _ in 0..STEPS {
            if at.segment() < self.durable.segment() {
                return Ok(Some(at));
            }
            let Some(section) = catalog.section(at.segment()) else { return Ok(None) };
            let index = section.open()?.index();
            let is_durable = at.segment() == self.durable.segment()
                && index
                    .offset(at.ordinal())
                    .is_some_and(|offset| (1..self.durable.offset()).contains(&offset));
            if is_durable {
                return Ok(Some(at));
            }
            let IndexRef::Live(live) = index else { return Ok(None) };
            match live.previous(at.ordinal()).filter(|before| *before < at) {
                Some(before) => at = before,
                None => return Ok(None),
            }
        }
        Ok(None)
    }
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

/// Whether something of an entity is in the row before a segment.
pub(crate) fn is_below(catalog: &Catalog, number: u32, hash: EntityHash, kind: u16) -> Result<bool> {
    for section in catalog.sections.iter().take_while(|section| section.number < number) {
        let opened = section.open()?;
        match opened.index() {
            IndexRef::Sealed(index, _) => {
                if opened.index().may_hold(kind) && index.find(hash).is_some() {
                    return Ok(true);
                }
            }
            // Nobody knows without a search, so it counts as there.
            IndexRef::Live(_) => return Ok(true),
        }
    }
    Ok(false)
}
