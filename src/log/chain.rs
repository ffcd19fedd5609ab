//! The row of segments that make up a log: which files belong to it, and where each one ends.

use std::collections::BTreeSet;

use crate::disk::{Access, Directory};
use crate::error::{Error, Result};
use crate::format::compacted::{Compacted, Cover};
use crate::format::manifest::BackupEnd;
use crate::format::segment::{file_name, number_of};
use crate::id::{Position, StoreId};
use crate::log::lock::SeenLock;
use crate::log::salvage::follows_by_its_frames;
use crate::log::segment::open_header;
use crate::log::visitor::Purpose;

/// The row of segments that make up the log, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chain {
    pub(crate) live: Vec<u32>,
    /// Numbers that a later header passes over: they can be unlinked.
    pub(crate) dead: Vec<u32>,
    /// Where a segment ends because the log went on behind it after a crash.
    limits: Vec<(u32, u64)>,
    /// What stands between live segments, or before them, for those that were compacted; oldest first.
    pub(crate) covers: Vec<Cover>,
    /// Files of segments for which a cover stands: a crash left them, and they can be unlinked.
    pub(crate) left: Vec<u32>,
    /// Segments that a later one follows and that are not there, each with the one that follows it: for a reader, who
    /// goes on without them; for `repair` with itself.
    pub(crate) missing: Vec<(u32, u32)>,
    /// Segments that do not say any more what they follow.
    pub(crate) headless: Vec<u32>,
    /// Whoever said where this one ends, if it has no seal, is not there.
    pub(crate) has_lost_end: bool,
    /// The greatest number there is, dead or alive.
    pub(crate) greatest: u32,
    /// Everything before this is known to be of the log.
    pub(crate) bound: Position,
    /// Everything before this was durable, as the lock page says: nothing vouches for that, and a copy that was put back in place
    /// may have less.
    pub(crate) said: Position,
    /// It is that of a copy, which was made with everything up to this Seq.
    pub(crate) copied_through: Option<u64>,
}

/// Finds the live segments, reading headers only above `known`, where an index vouches for
/// what lies below, and where numbers have gaps.
pub(crate) fn find_chain(
    directory: &dyn Directory,
    store: StoreId,
    purpose: Purpose,
    compacted: &Compacted,
    known: impl Fn(u32) -> bool,
) -> Result<Chain> {
    // Before the listing: what it names is then in it.
    let said = SeenLock::look(directory, store)?.map_or(Position::ZERO, |lock| lock.said_durable());
    let names = directory.list().map_err(|e| Error::io("list the store", e).at(directory.path()))?;
    let plain = names.iter().filter(|entry| entry.is_file || purpose != Purpose::Salvage);
    let there = plain.filter_map(|entry| number_of(&entry.name));
    let (left, mut numbers): (BTreeSet<u32>, BTreeSet<u32>) =
        there.partition(|number| compacted.covering(*number).is_some());
    let odd = |entry: &&crate::disk::Name| !entry.is_file && number_of(&entry.name).is_some();
    if let Some(odd) = names.iter().find(odd).filter(|_| purpose != Purpose::Salvage) {
        return Err(Error::corrupt("open a segment")
            .at(directory.path().join(&odd.name))
            .sides("a plain file", "something else"));
    }
    // An index outlives nothing but its segment, so one above them all names one that is gone.
    let indexed = names.iter().filter_map(|entry| crate::format::index::number_of(&entry.name));
    let indexed: BTreeSet<u32> = indexed.filter(|number| compacted.covering(*number).is_none()).collect();
    // A reader of indexes alone has nothing to read.
    let is_asked = purpose == Purpose::Salvage || purpose == Purpose::Read && !numbers.is_empty();
    let gone = indexed.last().filter(|number| is_asked && numbers.last() < Some(number));
    numbers.extend(gone);
    let greatest = numbers.last().copied().unwrap_or(0).max(compacted.last_segment());
    let (left, covers) = (left.into_iter().collect(), compacted.covers.clone());
    let mut chain = Chain { greatest, left, covers, said, ..Chain::default() };
    let mut at = numbers.last().copied();
    let mut vouched = false;
    while let Some(number) = at {
        chain.live.push(number);
        vouched = vouched || known(number);
        let below = numbers.range(..number).next_back().copied();
        if vouched && below.is_some_and(|below| below + 1 == number && indexed.contains(&below)) {
            at = below;
            continue;
        }
        let follows = match open_header(directory, store, number, Access::Read) {
            Ok((_, header)) => header.follows,
            Err(error) if purpose != Purpose::Write && !error.is_passing() => {
                match follows_by_its_frames(directory, store, number)? {
                    Some(follows) => follows,
                    // A reader serves what is left: the segment below is the next best guess.
                    None => {
                        chain.headless.push(number);
                        at = below;
                        continue;
                    }
                }
            }
            Err(error) => return Err(error),
        };
        chain.dead.extend(numbers.range(follows.segment().saturating_add(1)..number));
        let follows = chain.below_covers(follows);
        at = (follows != 0).then_some(follows);
        if follows != 0 && !numbers.contains(&follows) {
            if purpose != Purpose::Write {
                // What it held is lost, and the walk says so.
                match purpose {
                    Purpose::Salvage => {
                        chain.live.push(follows);
                        chain.missing.push((follows, follows));
                    }
                    _ => chain.missing.push((follows, number)),
                }
                at = numbers.range(..follows).next_back().copied();
                continue;
            }
            return Err(Error::corrupt(format!("follow segment {number} back to segment {follows}"))
                .at(directory.path().join(file_name(follows)))
                .place(follows, 0)
                .sides("the segment's file", "no such file"));
        }
    }
    chain.live.reverse();
    Ok(chain)
}

impl Chain {
    /// That of a copy, if its manifest says where it ended when it was made: nothing before that is an end.
    pub(crate) fn of_copy(self, end: Option<BackupEnd>) -> Self {
        let Some(end) = end else { return self };
        Self { bound: self.bound.max(end.position), copied_through: Some(end.last_seq), ..self }
    }

    /// The segment behind whose end the log goes on at `follows`, below all covers that stand there; 0: none.
    fn below_covers(&mut self, mut follows: Position) -> u32 {
        while let Some(cover) = self.covers.iter().find(|cover| cover.stands_for(follows.segment())) {
            follows = cover.follows;
        }
        if follows.offset() != 0 {
            self.limits.push((follows.segment(), follows.offset()));
        }
        follows.segment()
    }

    /// What a segment that comes right behind a cover begins with: the last Seq before it.
    pub(crate) fn seq_before(&self, number: u32) -> Option<u64> {
        let below = self.live.iter().rev().find(|live| **live < number).copied().unwrap_or(0);
        let cover = self.covers.iter().rev().find(|cover| cover.last < number)?;
        (cover.last > below).then_some(cover.last_seq)
    }

    /// One segment alone, of which a later one says where it ends, or but that it goes on behind it: then it ends with its seal,
    /// and what is bad before that is damage, and no end.
    /// If what followed it cannot be asked, it ends with the first bad place.
    pub(crate) fn of_one(number: u32, limit: Result<Option<u64>>, is_followed: bool) -> Self {
        let has_lost_end = limit.is_err();
        let limit = limit.ok().flatten();
        let limits = limit.map(|limit| (number, limit)).into_iter().collect();
        let bound = if is_followed { Position::new(number.saturating_add(1), 0) } else { Position::ZERO };
        Self { live: vec![number], limits, bound, has_lost_end, ..Self::default() }
    }

    /// It is of one segment alone.
    pub(crate) fn is_of_one(&self) -> bool {
        self.greatest == 0
    }

    /// True if the lock page names a segment that is not there any more, nor any behind it.
    pub(crate) fn has_lost_newest(&self) -> bool {
        self.said.segment() > self.greatest
    }

    /// True if the one is missing that a segment follows.
    pub(crate) fn is_behind_missing(&self, number: u32) -> bool {
        self.missing.iter().any(|(_, follower)| *follower == number)
    }

    /// Where the segment ends, if a later one says so.
    pub(crate) fn limit(&self, number: u32) -> Option<u64> {
        self.limits.iter().find(|(segment, _)| *segment == number).map(|(_, limit)| *limit)
    }
}
