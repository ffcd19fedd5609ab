//! Appends that may be repeated one by one: each entry has a stamp, by which it is found again.
//!
//! A batch of them may be put together anew for another try. What is there already is left out and
//! answered as then; the rest is appended, all or nothing.

use crate::error::{Error, ErrorKind, Result};
use crate::format::index::Keyed;
use crate::id::Position;
use crate::journal::core::{Beside, Core, Item};
use crate::journal::record::{Expect, Receipt, Record};

/// An entry that is to be appended once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamped<'a> {
    /// With a stamp.
    pub(crate) record: Record<'a>,
    /// The Seq that the newest entry of its entity must have; 0: there must be none.
    pub(crate) newest: Option<u64>,
}

/// Where one is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) receipt: Receipt,
    /// It was there before.
    pub(crate) repeated: bool,
}

/// Somebody else may append the same meanwhile, or move what is expected, so often.
const TRIES: usize = 8;

impl Core {
    /// Appends what is not there yet. Answers where each is, and where the log ends behind them.
    ///
    /// # Errors
    ///
    /// `Conflict` for an expectation that is not met, `KeyReused` for a stamp of another entry, and what any
    /// append answers; nothing is appended then. Nothing is checked of who may write a kind.
    pub(crate) fn append_stamped(&self, wanted: &[Stamped<'_>]) -> Result<(Vec<Placed>, Position)> {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let known = self.known_of(wanted)?;
            let mut placed = self.places_of(wanted, &known)?;
            let left = match self.items_left(wanted, &known) {
                // Whoever was first with the same is not in its way, also where it was done between the two looks.
                Err(error)
                    if error.kind() == ErrorKind::Conflict
                        && tries > 0
                        && self.known_of(wanted)? != known =>
                {
                    continue;
                }
                left => left?,
            };
            if left.is_empty() {
                return Ok((placed.into_iter().flatten().collect(), self.commit.visible()));
            }
            let mut receipts = Vec::with_capacity(left.len());
            match self.append_checked(&left, Beside::default(), &mut |receipt| receipts.push(receipt)) {
                Ok((end, false)) => {
                    let mut fresh = receipts.into_iter().map(|receipt| Placed { receipt, repeated: false });
                    placed.iter_mut().filter(|place| place.is_none()).for_each(|place| *place = fresh.next());
                    return Ok((placed.into_iter().flatten().collect(), end));
                }
                // One of them came to be there.
                Ok((_, true)) if tries > 0 => {}
                Ok((_, true)) => return Err(Error::new(ErrorKind::Conflict, "append entries once")),
                // That may be why, or what is newest has changed since it was looked at: then the next look says so.
                Err(error) if error.kind() == ErrorKind::Conflict && tries > 0 => {
                    let is_seen_again = wanted.iter().any(|stamped| stamped.newest.is_some());
                    if !is_seen_again && self.known_of(wanted)? == known {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What is remembered of each.
    fn known_of(&self, wanted: &[Stamped<'_>]) -> Result<Vec<Option<Keyed>>> {
        self.check_not_forked("append")?;
        let writer = self.writer.lock();
        self.check_writable()?;
        let key = |record: &Record<'_>| record.stamp.map(|stamp| stamp.key_for(record.kind.0, record.key));
        Ok(wanted
            .iter()
            .map(|stamped| key(&stamped.record).and_then(|key| writer.keyed.get(&key).copied()))
            .collect())
    }

    /// Where those are that were appended before.
    fn places_of(&self, wanted: &[Stamped<'_>], known: &[Option<Keyed>]) -> Result<Vec<Option<Placed>>> {
        let mut places = Vec::with_capacity(wanted.len());
        for (stamped, known) in wanted.iter().zip(known) {
            let Some(known) = known else {
                places.push(None);
                continue;
            };
            let item = self.item(&stamped.record)?;
            let mut found = None;
            self.repeat(*known, known.key, std::slice::from_ref(&item), &mut |receipt| {
                found = Some(receipt);
            })?;
            places.push(found.map(|receipt| Placed { receipt, repeated: true }));
        }
        Ok(places)
    }

    /// Items for what is not there yet.
    fn items_left<'a>(&self, wanted: &[Stamped<'a>], known: &[Option<Keyed>]) -> Result<Vec<Item<'a>>> {
        let left = wanted.iter().zip(known).filter(|(_, known)| known.is_none());
        left.map(|(stamped, _)| self.item_if(stamped)).collect()
    }

    /// An item, with what is expected to be newest as a generation: under the lock only that is looked at.
    fn item_if<'a>(&self, stamped: &Stamped<'a>) -> Result<Item<'a>> {
        let record = stamped.record;
        let Some(newest) = stamped.newest else { return self.item(&record) };
        let view = self.view();
        let found = view.latest(record.kind, record.key)?;
        let expect = match found {
            None if newest == 0 => Expect::New,
            Some(entry) if entry.seq().get() == newest => Expect::Generation(entry.generation()),
            _ => {
                let found = found.map_or(0, |entry| entry.seq().get());
                return Err(Error::new(ErrorKind::Conflict, "append behind the newest entry")
                    .sides(newest, found)
                    .concerning(found));
            }
        };
        self.item(&record.expect(expect))
    }
}
