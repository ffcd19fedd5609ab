//! Floors: below which entry nothing of a topic is shown any more.

use std::sync::atomic::Ordering;

use crate::backplane::local::region_of;
use crate::backplane::name::{Filter, Offset, lost};
use crate::error::{Error, ErrorKind, Result};
use crate::format::floor::Floor;
use crate::format::system::KindInfo;
use crate::id::{KindId, Position, Seq};
use crate::journal::core::{Beside, Core};
use crate::journal::entry::Entry;
use crate::journal::record::{Expect, Record};
use crate::journal::registry::floors_name;
use crate::journal::view::View;

/// The kind of the floors of a stream, if it has any.
pub(super) fn kind_of(core: &Core, stream: &str) -> Option<KindId> {
    core.registry.read().named(&floors_name(stream)).map(|kind| kind.id)
}

/// The floor of a topic; zeros: it has none.
pub(super) fn floor_of(view: &View, floors: KindId, key: &[u8]) -> Result<Floor> {
    let Some(entry) = view.latest(floors, key)? else { return Ok(Floor::default()) };
    Floor::read(entry.payload()).ok_or_else(|| {
        let key = String::from_utf8_lossy(key);
        Error::corrupt(format!("read the floor of {}", key.escape_debug()))
            .sides("two numbers, the second of which is less", format!("{:02x?}", entry.payload()))
            .concerning(entry.seq().get())
    })
}

/// The floor that a topic gets; `None`: nothing more is hidden by it.
pub(super) fn raised(
    view: &View,
    core: &Core,
    kind: KindId,
    filter: Filter<'_>,
    before: Offset,
) -> Result<Option<Floor>> {
    let Some(key) = filter.key else { return Ok(None) };
    // The newest record stays.
    let Some(head) = view.latest(kind, key)?.map(|entry| entry.seq().get()) else { return Ok(None) };
    let first = before.raw().min(head);
    let known = known_floor(view, core, filter.stream, key)?;
    if first <= known.first {
        return Ok(None);
    }
    // Where nothing more stands before it, it stays.
    let hidden = entry_before(view, kind, key, known.first.saturating_sub(1), first)?;
    let numbers = hidden.map(|entry| (entry.seq().get(), entry.generation().get()));
    Ok(numbers.map(|(hidden, generation)| Floor { first, hidden, generation }))
}

/// The last entry of a topic behind one Seq and before another.
fn entry_before<'v>(
    view: &'v View,
    kind: KindId,
    key: &[u8],
    behind: u64,
    before: u64,
) -> Result<Option<Entry<'v>>> {
    for entry in view.entity_behind(kind, key, behind).rev() {
        let entry = entry?;
        if entry.seq().get() < before {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

fn known_floor(view: &View, core: &Core, stream: &str, key: &[u8]) -> Result<Floor> {
    kind_of(core, stream).map_or(Ok(Floor::default()), |floors| floor_of(view, floors, key))
}

/// Writes a floor down, unless there is a higher one. Answers where the log has to be durable before anything goes, whatever the
/// journal's durability is.
pub(super) fn put(core: &Core, floors: KindId, key: &[u8], floor: Floor) -> Result<Position> {
    loop {
        let view = core.view();
        let newest = view.latest(floors, key)?.map(|entry| entry.generation());
        if floor_of(&view, floors, key)?.first >= floor.first {
            return Ok(view.end());
        }
        let payload = floor.encode();
        let expect = newest.map_or(Expect::New, Expect::Generation);
        let item = core.item(&Record::new(floors, key, &payload).expect(expect))?;
        match core.append_checked(std::slice::from_ref(&item), Beside::default(), &mut |_| {}) {
            Ok((end, _)) => return Ok(end),
            // Somebody else put one.
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error),
        }
    }
}

/// Waits until floors that were put are durable; then feeds look at them.
pub(super) fn settle(core: &Core, end: Position) -> Result<()> {
    core.wait_durable(end)?;
    // Behind it, so that whoever sees that there is one finds it.
    core.floors_put.fetch_add(1, Ordering::Release);
    Ok(())
}

/// Refuses a place behind which something of a topic is hidden.
pub(super) fn check_not_hidden(
    view: &View,
    (kind, floors): (KindId, Option<KindId>),
    filter: Filter<'_>,
    from: Offset,
) -> Result<Floor> {
    let (Some(key), Some(floors)) = (filter.key, floors) else { return Ok(Floor::default()) };
    let floor = floor_of(view, floors, key)?;
    if from.raw() < floor.hidden && !begins_anew(view, kind, key, floor)? {
        return Err(lost(filter, from, lowest_of(view, kind, key, floor)?));
    }
    Ok(floor)
}

/// True if nothing is left of the history that a floor is of: it was erased, and there is another, or none yet. (The newest
/// record is never hidden.)
fn begins_anew(view: &View, kind: KindId, key: &[u8], floor: Floor) -> Result<bool> {
    let oldest = view.entity_behind(kind, key, floor.first.saturating_sub(1)).next().transpose()?;
    Ok(oldest.is_none_or(|entry| entry.is_first() && entry.generation().get() > floor.generation))
}

/// Refuses a place behind which something was dropped that no floor hides: by what the kind keeps, or erased.
pub(super) fn check_not_dropped(
    view: &View,
    kind: &KindInfo,
    filter: Filter<'_>,
    from: Offset,
    floor: Floor,
) -> Result<()> {
    let dropped_below = view.floor(&region_of(kind.id, filter)).map_or(0, Seq::get);
    let is_whole = match filter.key {
        _ if from.raw().saturating_add(1) >= dropped_below => true,
        // What goes of a kind that keeps all was hidden by the floors of its topics.
        None => kind.keep.goes_by_floors(),
        Some(key) => {
            let mut next: Option<Entry<'_>> = None;
            for entry in view.entity_behind(kind.id, key, from.raw()).rev() {
                let entry = entry?;
                if next.is_some_and(|next| !follows(next, entry.generation().get())) {
                    return Err(lost(filter, from, Offset::from_raw(dropped_below)));
                }
                next = Some(entry);
            }
            match next {
                // It stands at or behind the newest, before which others may have gone; or nothing of the topic is left.
                None => kind.keep.goes_by_floors() || view.latest(kind.id, key)?.is_some(),
                // Nothing has room before it.
                Some(first) if first.seq().get() == from.raw().saturating_add(1) => true,
                Some(first) => {
                    // The one before it is there, or it is the last of what the floor hides, or there never was one.
                    let before = entry_before(view, kind.id, key, 0, first.seq().get())?;
                    let generation = before.map_or(floor.generation, |before| before.generation().get());
                    follows(first, generation.max(floor.generation))
                }
            }
        }
    };
    if is_whole { Ok(()) } else { Err(lost(filter, from, Offset::from_raw(dropped_below))) }
}

fn follows(next: Entry<'_>, generation: u64) -> bool {
    next.is_first() || generation.checked_add(1) == Some(next.generation().get())
}

fn lowest_of(view: &View, kind: KindId, key: &[u8], floor: Floor) -> Result<Offset> {
    let first = view.entity_behind(kind, key, floor.first.saturating_sub(1)).next().transpose()?;
    Ok(first.map_or(Offset::BEGINNING, |entry| Offset::from_raw(entry.seq().get())))
}

/// The oldest record that is shown.
pub(super) fn lowest(
    view: &View,
    (kind, floors): (KindId, Option<KindId>),
    filter: Filter<'_>,
) -> Result<Offset> {
    let floor = |key: &[u8]| floors.map_or(Ok(Floor::default()), |floors| floor_of(view, floors, key));
    if let Some(key) = filter.key {
        return lowest_of(view, kind, key, floor(key)?);
    }
    for entry in view.kind(kind) {
        let entry = entry?;
        if entry.seq().get() >= floor(entry.key())?.first {
            return Ok(Offset::from_raw(entry.seq().get()));
        }
    }
    Ok(Offset::BEGINNING)
}
