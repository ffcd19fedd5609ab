//! What indexes say of the entries before their segments, of entities that were put away meanwhile.
//!
//! Each index says of each of its entities in which segment that stood before. What it should say is known at the end
//! only, and in another order: so both are added up, which takes no memory for an entity.

use std::collections::BTreeMap;

use crate::format::compacted::Compacted;
use crate::format::index::EntityHash;
use crate::journal::verify::histories::Moment;

/// By the number of the segment.
#[derive(Debug, Default)]
pub(super) struct Links(BTreeMap<u32, Sums>);

#[derive(Debug, Default)]
struct Sums {
    said: u128,
    found: u128,
    /// Where the entities stand in the index, and when the segment had been read. `None`:
    /// it is known to be wrong already, or is not to be compared.
    to_compare: Option<(u64, Moment)>,
}

impl Links {
    /// The index of this segment says that the entity stood before in another, or nowhere.
    pub(super) fn said(&mut self, number: u32, hash: EntityHash, before: u32, compacted: &Compacted) {
        let sums = self.0.entry(number).or_default();
        sums.said = sums.said.wrapping_add(link(hash, before, compacted));
    }

    /// That is where it stood.
    pub(super) fn found(&mut self, number: u32, hash: EntityHash, before: u32, compacted: &Compacted) {
        // Nothing is said of a segment that has no good index.
        if let Some(sums) = self.0.get_mut(&number).filter(|_| before != number) {
            sums.found = sums.found.wrapping_add(link(hash, before, compacted));
        }
    }

    /// The index of a segment is to be compared, whose entities stand there.
    pub(super) fn compare(&mut self, number: u32, entities_at: u64, moment: Moment) {
        if let Some(sums) = self.0.get_mut(&number) {
            sums.to_compare = Some((entities_at, moment));
        }
    }

    /// The segments whose index says something else, where in it, and when it had been read.
    pub(super) fn wrong(&self) -> impl Iterator<Item = (u32, u64, Moment)> {
        let is_wrong = |(_, sums): &(&u32, &Sums)| sums.said != sums.found;
        self.0.iter().filter(is_wrong).filter_map(|(number, sums)| {
            let (at, moment) = sums.to_compare?;
            Some((*number, at, moment))
        })
    }
}

/// Two numbers differ for two links, but for one chance in very many. What was compacted is nowhere: the index may name
/// the segment that it was in, where nothing of it is left.
fn link(hash: EntityHash, before: u32, compacted: &Compacted) -> u128 {
    const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
    let before = if compacted.covering(before).is_some() { 0 } else { before };
    (hash ^ u128::from(before).wrapping_mul(SPREAD)).wrapping_mul(hash.rotate_left(64) | 1)
}
