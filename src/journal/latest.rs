//! The newest entry of an entity, where the directory says that it stands.
//!
//! What the directory knows and what a view shows are of two moments. An entry that is *newer* than the view, or one whose
//! segment was compacted since, has another place in the view or none: whatever stands where the directory says is taken
//! only if it has the generation that is known, and the entity's index in that segment, or its history, is asked else. What
//! is known from *before* the view was taken does the opposite harm, which nobody can tell from the entry: it is there, and
//! is not the newest. So the view is taken first, or nobody may have written the entity in between.

use crate::error::Result;
use crate::format::index::EntityHash;
use crate::id::KindId;
use crate::index::catalog::IndexRef;
use crate::index::entities::Known;
use crate::journal::entry::Entry;
use crate::journal::history::History;
use crate::journal::view::{Loaded, View};

impl View {
    /// The newest entry of an entity, or `None` if the view has none.
    ///
    /// # Errors
    ///
    /// `Corrupt` if its bytes are damaged, `Io` if its segment cannot be opened.
    pub fn latest(&self, kind: KindId, key: &[u8]) -> Result<Option<Entry<'_>>> {
        self.latest_of(self.index().hash(kind.0, key), kind, key)
    }

    /// The same of an entity whose hash is known.
    pub(crate) fn latest_of(&self, hash: EntityHash, kind: KindId, key: &[u8]) -> Result<Option<Entry<'_>>> {
        self.latest_known(self.known(hash)?, hash, kind, key)
    }

    /// What is known of an entity.
    ///
    /// # Errors
    ///
    /// `Corrupt` where something newer may stand in what a reader could not read.
    fn known(&self, hash: EntityHash) -> Result<Option<Known>> {
        let known = self.index().find(hash)?;
        self.unread(known).map_or(Ok(known), Err)
    }

    /// The same by what is known of the entity. It was looked up since the view was taken, or nobody has written the
    /// entity from then until the view was taken.
    pub(crate) fn latest_known(
        &self,
        known: Option<Known>,
        hash: EntityHash,
        kind: KindId,
        key: &[u8],
    ) -> Result<Option<Entry<'_>>> {
        let newest = match known {
            Some(known) => self.newest_of(known, hash, kind, key)?,
            // What was dropped since, and forgotten, may be in a view from before.
            None if self.is_older_than_the_row() => None,
            None => return Ok(None),
        };
        match newest {
            Some(entry) => Ok(Some(entry)),
            None => History::new(self, kind, key, 0).next_back().transpose(),
        }
    }

    /// The key of an entity of which no more than its hash is known. Nobody may have written it since before the view was taken.
    pub(crate) fn key_of(&self, hash: EntityHash) -> Result<Option<&[u8]>> {
        let Some(known) = self.known(hash)? else { return Ok(None) };
        let row = self.catalog.at(known.newest.segment());
        let Some(section) = row.map(|row| Loaded::open(self, row)).transpose()?.flatten() else {
            return Ok(None);
        };
        let ordinal = match &section.index {
            IndexRef::Live(_) => Some(known.newest.ordinal()),
            IndexRef::Sealed(index, _) => index.find(hash).map(|record| index.newest(record).1),
        };
        let Some(ordinal) = ordinal.filter(|ordinal| *ordinal < section.count) else {
            return section.doubt(self).map_or(Ok(None), Err);
        };
        let entry = section.entry(ordinal)?;
        Ok((self.index().hash(entry.kind().0, entry.key()) == hash).then(|| entry.key()))
    }

    /// The newest entry of an entity by what the directory knows, if the view shows that.
    fn newest_of(
        &self,
        known: Known,
        hash: EntityHash,
        kind: KindId,
        key: &[u8],
    ) -> Result<Option<Entry<'_>>> {
        let Some(row) = self.catalog.at(known.newest.segment()) else { return Ok(None) };
        let Some(section) = Loaded::open(self, row)? else { return Ok(None) };
        let is_its_own = |entry: &Entry<'_>| entry.kind() == kind && entry.key() == key;
        // What came behind the view hides it.
        let there = Some(known.newest.ordinal()).filter(|ordinal| *ordinal < section.count);
        let ordinal = match &section.index {
            IndexRef::Sealed(index, _) => {
                // In a part it has another place. So it may have here, by what knows it from a part that came since.
                let there = there.filter(|_| !section.is_part).and_then(|there| section.entry(there).ok());
                if let Some(entry) = there.filter(|entry| is_known(entry, known) && is_its_own(entry)) {
                    return Ok(Some(entry));
                }
                let record = index.find(hash);
                if let Some(doubt) = section.doubt(self).filter(|_| record.is_none()) {
                    return Err(doubt);
                }
                let members = record.map(|record| index.members(record)).unwrap_or_default();
                members.iter().rev().map(|ordinal| ordinal.get()).find(|ordinal| *ordinal < section.count)
            }
            // Of one that this view still reads as it was written, while others know it from a part that came since.
            IndexRef::Live(_) => {
                let entry = there.map(|ordinal| section.entry(ordinal)).transpose()?;
                return Ok(entry.filter(|entry| is_known(entry, known) && is_its_own(entry)));
            }
        };
        let entry = ordinal.map(|ordinal| section.entry(ordinal)).transpose()?;
        Ok(entry.filter(is_its_own))
    }
}

/// It is the entry of its entity that is known: generations rise for ever.
pub(crate) fn is_known(entry: &Entry<'_>, known: Known) -> bool {
    entry.generation().get() == known.generation
}

#[cfg(test)]
mod tests;
