//! What the changes of a stretch of the log come to, entity by entity.

use std::sync::Arc;

use crate::error::{ErrorKind, Result};
use crate::format::row::RowOperation;
use crate::id::{KindId, Position, Seq};
use crate::journal::entry::{Entry, OwnedEntry};
use crate::journal::region::Region;
use crate::journal::scan::Scan;
use crate::journal::view::View;
use crate::state::newest::Newest;
use crate::state::row::{ALL_FIELDS, Said, changed, current};
use crate::state::schema::Bound;
use crate::state::subscribing::Choice;

/// A walk over the frames of a kind in a stretch, stopping at those that are the newest of their entities in
/// it, in the order of the log.
///
/// | at its beginning | at its end | it comes to |
/// | --- | --- | --- |
/// | not there | there | created |
/// | there | there, with another version | updated: the fields that differ, and whether it had ended in between |
/// | there | there, asserted by others | nothing, or, to who asked for that, an update of no field |
/// | there | not there | deleted |
/// | not there | not there | nothing |
#[derive(Debug)]
pub(crate) struct Net {
    bound: Arc<Bound>,
    /// It ends with the stretch.
    view: View,
    scan: Scan,
    newest: Newest,
    from: u64,
    through: u64,
    /// Changes of the set of sources alone are told too.
    sources: bool,
    /// So is the row at the beginning.
    previous: bool,
    /// The entity's row at the beginning, if it is still there.
    before: Option<OwnedEntry>,
}

/// What an entity's changes come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Netted {
    pub(crate) operation: RowOperation,
    pub(crate) changed: u64,
    /// It was not there for a while in between.
    pub(crate) recreated: bool,
}

impl Net {
    /// From behind a Seq through the end of the view, whose last Seq `through` is.
    pub(crate) fn new(view: View, bound: Arc<Bound>, (from, through): (u64, u64), choice: &Choice) -> Self {
        let scan = Scan::of_newest(bound.id, view.clone(), from);
        let newest = Newest::new(view.clone(), bound.id, through.saturating_sub(from));
        let &Choice { sources, previous, .. } = choice;
        Self { bound, view, scan, newest, from, through, sources, previous, before: None }
    }

    pub(crate) fn through(&self) -> u64 {
        self.through
    }

    /// Where the stretch ends.
    pub(crate) fn mark(&self) -> Position {
        self.view.mark
    }

    /// The entity's newest frame.
    pub(crate) fn entry(&self) -> Option<Entry<'_>> {
        self.scan.entry()
    }

    /// The row that it had at the beginning, if it was there and still is.
    pub(crate) fn previous(&self) -> Option<OwnedEntry> {
        self.before.clone()
    }

    /// Steps to the next entity of which something has changed. `None`: there is no more.
    pub(crate) fn advance(&mut self) -> Result<Option<Netted>> {
        while self.scan.advance().inspect_err(|error| _ = self.scan.pass_over(error))? {
            let Some(entry) = self.scan.entry() else { continue };
            let said = Said::of(&entry)?;
            if !self.scan.is_certainly_newest() && !self.newest.is(&entry)? {
                continue;
            }
            let past = self.past_of(&entry)?;
            let netted = self.compare(&past, &entry, &said)?;
            self.before = past.before;
            if netted.is_some() {
                return Ok(netted);
            }
        }
        Ok(None)
    }

    /// What the stretch says of an entity before its newest frame. All its frames in the stretch are there; the one
    /// before them may have been compacted. Damage to what it was takes away no word of what it is: then it may have been
    /// anything.
    fn past_of(&self, newest: &Entry<'_>) -> Result<Past> {
        let mut past = Past::default();
        let mut first: Option<Entry<'_>> = None;
        for entry in self.view.entity_behind(self.bound.id, newest.key(), self.from).rev() {
            let (entry, said) = match entry.and_then(|entry| Ok((entry, Said::of(&entry)?))) {
                Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(Past::unknown()),
                read => read?,
            };
            past.was_alive = said.operation != RowOperation::Created;
            past.had_ended |= !said.is_alive();
            if said.operation != RowOperation::Sources {
                past.has_changed = true;
                past.changes += 1;
                past.changed |= said.changed(self.bound.version);
            }
            first = Some(entry);
        }
        // Of one change the frame says itself what it was.
        let is_needed = past.was_alive && (past.changes != 1 || self.previous);
        if let Some(first) = first.filter(|_| is_needed) {
            past.before = self.frame_before(&first)?;
        }
        Ok(past)
    }

    /// The row of the frame right before one, if it is still there.
    fn frame_before(&self, next: &Entry<'_>) -> Result<Option<OwnedEntry>> {
        for entry in self.view.entity_behind(self.bound.id, next.key(), 0).rev() {
            let entry = match entry {
                // Only the stretch is mapped: another process has removed the file that had it. Or it is damaged.
                Err(error) if matches!(error.kind(), ErrorKind::Compacted | ErrorKind::Corrupt) => {
                    return Ok(None);
                }
                entry => entry?,
            };
            if entry.seq() < next.seq() {
                // What is left of the entity may be older than what it had then.
                let is_it = follows(next, &entry) && Said::of(&entry)?.is_alive();
                return Ok(is_it.then(|| entry.to_owned()));
            }
        }
        Ok(None)
    }

    fn compare(&self, past: &Past, entry: &Entry<'_>, said: &Said) -> Result<Option<Netted>> {
        let netted = |operation, changed| {
            let recreated = operation == RowOperation::Updated && past.had_ended;
            Some(Netted { operation, changed, recreated })
        };
        Ok(match (past.was_alive, said.is_alive()) {
            (false, false) => None,
            (false, true) => netted(RowOperation::Created, ALL_FIELDS),
            (true, false) => netted(RowOperation::Deleted, 0),
            (true, true) if !past.has_changed => {
                let set_before = |before: &OwnedEntry| Ok(Said::of(&before.entry())?.mark.sources);
                let before = past.before.as_ref().map(set_before).transpose()?;
                let is_told = self.sources && before != Some(said.mark.sources);
                if is_told { netted(RowOperation::Sources, 0) } else { None }
            }
            (true, true) => {
                let exact =
                    past.before.as_ref().map(|before| self.differing(before, entry, said)).transpose()?;
                netted(RowOperation::Updated, exact.flatten().unwrap_or(past.changed))
            }
        })
    }

    /// Which fields differ of two rows of one version. `None`: nobody can tell. A row that no step brings to the kind's
    /// version is a matter of who reads it: that it has changed is true all the same.
    fn differing(&self, before: &OwnedEntry, entry: &Entry<'_>, said: &Said) -> Result<Option<u64>> {
        let before = before.entry();
        let schema = Said::of(&before)?.mark.schema;
        if schema != said.mark.schema {
            return Ok(None);
        }
        let Bound { name, version, steps, fields, .. } = &*self.bound;
        let row_before = current(name, *version, steps, &before, schema);
        let row = current(name, *version, steps, entry, schema);
        Ok(row_before.ok().zip(row.ok()).map(|(before, row)| changed(&before, &row, fields)))
    }
}

/// True if nobody can tell any more what of a kind has changed behind a Seq.
pub(crate) fn is_dropped_behind(view: &View, kind: KindId, seq: u64) -> bool {
    seq.saturating_add(1) < view.floor(&Region::Kind(kind)).map_or(0, Seq::get)
}

/// True if nothing of an entity stood between the one frame of it and the other: what compaction has left may be
/// any earlier one.
pub(crate) fn follows(next: &Entry<'_>, before: &Entry<'_>) -> bool {
    next.follows(before)
}

/// What is known of an entity from before its newest frame.
#[derive(Debug, Default)]
struct Past {
    /// It was there at the beginning of the stretch.
    was_alive: bool,
    /// It was deleted in it.
    had_ended: bool,
    /// Its row has changed since, as often as it may have changed back.
    has_changed: bool,
    /// Every field that did.
    changed: u64,
    /// How often the row has changed.
    changes: u32,
    /// Its row at the beginning, if that is still there.
    before: Option<OwnedEntry>,
}

impl Past {
    /// Whoever is told of an update or an end of what was not there loses nothing by that.
    const fn unknown() -> Self {
        let (was_alive, had_ended, has_changed) = (true, false, true);
        Self { was_alive, had_ended, has_changed, changed: ALL_FIELDS, changes: u32::MAX, before: None }
    }
}
