//! What an opening knows of entities before it has read the log: by their directory, and by the indexes of segments.

use crate::error::{Error, Result};
use crate::format::compacted::{Compacted, Cover};
use crate::format::segment::file_name;
use crate::id::EntryAt;
use crate::index::EntityHasher;
use crate::index::catalog::{Catalog, IndexRef, Opened, Place, Section};
use crate::index::entities::{Entities, Known};
use crate::index::entity_file::EntityFile;
use crate::index::finder::Index;
use crate::index::holes::Hole;
use crate::index::settled::{Run, Settled};
use crate::log::report::Damage;
use crate::log::visitor::Purpose;

/// The directory of entities, brought up to the base by the indexes behind what it covers.
///
/// Answers too how far the directory goes, and what could not be read of the rest.
pub(super) fn entities_of(
    place: &Place,
    catalog: &Catalog,
    vouched: u32,
    purpose: Purpose,
) -> Result<(Entities, EntryAt, Vec<Hole>)> {
    let Place { directory, store, hasher } = place;
    let file = EntityFile::open(&**directory, *store).ok().filter(|file| file.covered.segment() <= vouched);
    let covered = file.as_ref().map_or(EntryAt::NONE, |file| file.covered);
    let (mut runs, mut learned, mut unread) = (Vec::new(), Vec::new(), Vec::new());
    // Parts behind are learned of when the walk comes to them, in the order of the log.
    let below = catalog.sections.iter().filter(|section| section.number <= vouched);
    for section in below.filter(|section| section.number >= covered.segment()) {
        let opened = match section.open() {
            Ok(opened) => opened,
            // A writer that does not know an entity would give its generations out again.
            Err(error) if purpose == Purpose::Write || error.is_passing() => return Err(error),
            // A reader serves what is left, and says where that is not all.
            Err(error) => {
                let damage = unreadable(section.number, error.to_string());
                unread.push(Hole::within(section.number, damage, None));
                continue;
            }
        };
        if purpose == Purpose::Write {
            refuse_damage(place, opened)?;
        }
        let damage = opened.damage().filter(|damage| !damage.took_nothing());
        unread.extend(damage.map(|damage| hole_in(section, opened, damage)));
        // Of a part, what was covered was counted in the segment for which it stands.
        if section.cover.is_none() && covered == EntryAt::new(section.number, opened.index().count()) {
            continue;
        }
        // The heap counts before what is settled: nothing older may come to be on it.
        match opened.index() {
            IndexRef::Sealed(index, _) if learned.is_empty() && may_be_run(section, runs.len()) => {
                runs.push(Run { number: section.number, index: index.clone() });
            }
            _ => learned.push((section.number, opened)),
        }
    }
    let is_compacted = !catalog.compacted.covers.is_empty();
    let entities = Entities::new(Settled::new(file, runs, is_compacted));
    for (number, opened) in learned {
        learn_from(&entities, hasher, number, opened);
    }
    Ok((entities, covered, unread))
}

/// What is lost of a section that was read. Of a segment it is known which of its entries come behind that.
fn hole_in(section: &Section, opened: &Opened, damage: &Damage) -> Hole {
    let is_known = section.cover.is_none() && damage.first_seq <= damage.last_seq;
    let behind = || opened.index().at_or_behind(opened.first_seq(), damage.last_seq.saturating_add(1));
    Hole::within(section.number, damage.clone(), is_known.then(behind))
}

/// A segment that cannot be opened, or is not there. What it had is told by what stands around it.
pub(super) fn unreadable(segment: u32, what: String) -> Damage {
    let (first_seq, last_seq) = (1, 0);
    Damage { segment, offset: 0, lost_from: 0, next_good: None, first_seq, last_seq, what, unreadable: false }
}

/// Takes over what somebody else has made of the log. Of that which could not be read, and may have been gone when it was
/// to be opened, it learns what compaction has kept. False: not of all, for a reason that passes.
pub(super) fn adopt(index: &Index, compacted: Compacted) -> bool {
    index.adopt(compacted);
    let catalog = index.catalog();
    let is_of_a_hole =
        |cover: &Cover| catalog.holes.iter().any(|hole| cover.first <= hole.last && hole.first <= cover.last);
    let (mut known, mut unread, mut is_all) = (Vec::new(), Vec::new(), true);
    for cover in catalog.compacted.covers.iter().filter(|cover| is_of_a_hole(cover)) {
        let section = catalog.section(cover.last).filter(|section| section.cover == Some(*cover));
        let damage = match section.map(|section| section.open()) {
            // Nothing was kept.
            None => None,
            Some(Ok(opened)) => {
                learn_what_is_newer(index, cover.last, opened);
                opened.damage().cloned()
            }
            Some(Err(error)) if error.is_passing() => {
                is_all = false;
                continue;
            }
            Some(Err(error)) => Some(unreadable(cover.last, error.to_string())),
        };
        known.push(*cover);
        unread.extend(damage.map(|damage| Hole::of(cover.first, cover.last, damage)));
    }
    if !known.is_empty() {
        index.fill(&known, unread);
    }
    is_all
}

/// Learns what a part has of entities of which nothing newer is known.
fn learn_what_is_newer(index: &Index, number: u32, opened: &Opened) {
    let IndexRef::Sealed(sealed, _) = opened.index() else { return };
    for record in sealed.entities() {
        let (generation, last) = sealed.newest(record);
        let newest = EntryAt::new(number, last);
        // What is settled is not asked where the heap has something.
        let is_newer = |before: Option<Known>| before.is_none_or(|before| before.newest < newest);
        if index.last_known(record.hash()).is_ok_and(is_newer) {
            let _ = index.entities.learn(record.hash(), Known { generation, newest });
        }
    }
}

/// Each run is one more search for an entity that none of them has, until the directory is written anew. What a part
/// has may be in the directory's file too.
fn may_be_run(section: &Section, runs: usize) -> bool {
    const RUNS_MAX: usize = 8;
    section.cover.is_none() && runs < RUNS_MAX
}

pub(super) fn refuse_damage(place: &Place, opened: &Opened) -> Result<()> {
    let Some(damage) = opened.damage() else { return Ok(()) };
    Err(Error::corrupt(format!("index a segment: {}", damage.what))
        .at(place.directory.path().join(file_name(damage.segment)))
        .place(damage.segment, damage.offset)
        .next_good_at(damage.next_good))
}

pub(super) fn learn_from(entities: &Entities, hasher: &EntityHasher, number: u32, opened: &Opened) {
    match opened.index() {
        IndexRef::Sealed(index, _) => {
            for record in index.entities() {
                let (generation, last) = index.newest(record);
                let _ =
                    entities.learn(record.hash(), Known { generation, newest: EntryAt::new(number, last) });
            }
        }
        IndexRef::Live(live) => {
            for ordinal in 0..live.count() {
                let offset = live.offset(ordinal).unwrap_or(0);
                let Some(frame) = (offset != 0).then(|| opened.segment.frame(offset)).flatten() else {
                    continue;
                };
                let hash = hasher.hash(frame.header.kind.get(), frame.key());
                let newest = EntryAt::new(number, ordinal);
                let _ = entities.learn(hash, Known { generation: frame.header.generation.get(), newest });
            }
        }
    }
}
