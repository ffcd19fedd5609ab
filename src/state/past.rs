//! What rows there were at an earlier moment, and whether anybody can still tell.
//!
//! What came behind the moment is all there, or the kind is `Compacted`. So of an entity that has entries behind it the
//! first of them says what it goes on from: a creation, from nothing; anything else, from a row that was the newest at
//! the moment. If that row is gone, a scan would leave the entity out, and a look at it would say that there is none.

use crate::error::Result;
use crate::format::index::EntityHash;
use crate::format::row::RowOperation;
use crate::id::KindId;
use crate::journal::entry::Entry;
use crate::journal::past::Past;
use crate::journal::view::View;
use crate::state::row::Said;

/// What is asked of an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Its row, if it had one.
    Row,
    /// Also what it was before that, or that it was deleted.
    History,
}

/// # Errors
///
/// `Compacted` if a view of the moment may not have what an entity of a kind was then.
pub(crate) fn check_entity(
    past: &Past,
    view: &View,
    (kind, name): (KindId, &str),
    key: &[u8],
    asked: Asked,
) -> Result<()> {
    past.check_kind(kind, name)?;
    if !past.may_miss(kind)? {
        // What came behind the moment has nothing to add, and may be damaged.
        return Ok(());
    }
    let next = past.next_of(kind, key)?;
    if is_told(past, view, (kind, key), next.as_ref(), asked)? {
        return Ok(());
    }
    Err(past.dropped_of(name, key, next.as_ref())?)
}

/// # Errors
///
/// `Compacted` if a view of the moment may not have all rows that there were of a kind.
pub(crate) fn check_rows(past: &Past, view: &View, (kind, name): (KindId, &str)) -> Result<()> {
    past.check_kind(kind, name)?;
    if !past.may_miss(kind)? {
        return Ok(());
    }
    let mut seen = Seen::default();
    for next in past.behind(kind) {
        let next = next?;
        let is_new = seen.is_new(view.index().hash(kind.0, next.key()));
        if !is_new || is_told(past, view, (kind, next.key()), Some(&next), Asked::Row)? {
            continue;
        }
        // One that was seen may have been forgotten since.
        if past.next_of(kind, next.key())?.is_some_and(|first| first.seq() == next.seq()) {
            return Err(past.dropped_of(name, next.key(), Some(&next))?);
        }
    }
    Ok(())
}

/// True if what a view of the moment has as an entity's newest entry is what there was: its next entry goes on from that, or
/// there is none.
fn is_told(
    past: &Past,
    view: &View,
    (kind, key): (KindId, &[u8]),
    next: Option<&Entry<'_>>,
    asked: Asked,
) -> Result<bool> {
    let newest = view.latest(kind, key)?;
    if let Some(newest) = &newest
        && next.is_none_or(|next| next.follows(newest))
    {
        return Ok(true);
    }
    if asked == Asked::History {
        return Ok(newest.is_none() && past.had_nothing(kind, next)?);
    }
    // A row is dropped as a whole only behind its deletion.
    let Some(next) = next else { return Ok(true) };
    // Of one that was deleted the deletion may have been dropped, and not yet what stood before it.
    let shows_none = newest.map(|newest| Said::of(&newest)).transpose()?.is_none_or(|said| !said.is_alive());
    Ok(shows_none && Said::of(next)?.operation == RowOperation::Created && past.leads_to(next)?)
}

/// Entities that were met, as far as they are remembered: each in the place that its hash names, until another takes that.
#[derive(Debug, Default)]
struct Seen {
    hashes: Vec<EntityHash>,
}

impl Seen {
    /// So many are remembered: 64 KiB.
    const SEEN_MAX: u16 = 4096;

    /// True for one that was not met before, or is not remembered any more.
    fn is_new(&mut self, hash: EntityHash) -> bool {
        if self.hashes.is_empty() {
            self.hashes.resize(usize::from(Self::SEEN_MAX), 0);
        }
        let place = usize::try_from(hash % EntityHash::from(Self::SEEN_MAX)).unwrap_or(0);
        match self.hashes.get_mut(place) {
            Some(seen) if *seen == hash => false,
            Some(seen) => {
                *seen = hash;
                true
            }
            None => true,
        }
    }
}
