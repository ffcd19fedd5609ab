//! What is counted of entities, in memory that has a bound however many there are.
//!
//! Which entries are still the newest of their entity is known exactly up to [`KNOWN_MAX`] entities; of more, one
//! in two, four, eight … is looked at, by a hash, and the rest is taken to be like these. Which entities are written
//! most is known exactly up to [`CANDIDATES_MAX`]; beyond, the least written are forgotten now and then, and how
//! much of a later one that may have cost is remembered.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use esker::KindId;

/// Entities of which the newest entry is known.
const KNOWN_MAX: usize = 400_000;
/// Entities that may turn out to be the most written.
const CANDIDATES_MAX: usize = 16_384;
/// Columns of the pictures over time.
pub(super) const COLUMNS: usize = 32;

/// The same number for the same entity, in every run.
pub(super) fn hash_of(kind: KindId, key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (kind.get(), key).hash(&mut hasher);
    hasher.finish()
}

/// Bytes of entries by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fates {
    pub(super) live: u64,
    pub(super) superseded: u64,
    pub(super) retracted: u64,
}

impl Fates {
    fn sum(self) -> u64 {
        self.live + self.superseded + self.retracted
    }
}

/// How many halvings there may be.
const LEVELS: usize = 32;

#[derive(Clone, Copy, Debug)]
struct Newest {
    bytes: u32,
    bar: u16,
    is_tombstone: bool,
}

/// Which entries are the newest of their entity, summed up by the bar that they are drawn in.
#[derive(Debug)]
pub(super) struct Liveness {
    newest: HashMap<u64, Newest>,
    /// Of each bar, by the hash's trailing zeros: what is looked at later is a part of what is looked at now.
    bars: Vec<[Fates; LEVELS]>,
    /// All bytes of entries, exactly.
    sums: Vec<u64>,
    level: usize,
    limit: usize,
}

fn level_of(hash: u64) -> usize {
    (hash.trailing_zeros() as usize).min(LEVELS - 1)
}

impl Liveness {
    pub(super) fn new(bars: usize) -> Self {
        Self::with_limit(bars, KNOWN_MAX)
    }

    fn with_limit(bars: usize, limit: usize) -> Self {
        let (bars, sums) = (vec![[Fates::default(); LEVELS]; bars], vec![0; bars]);
        Self { newest: HashMap::new(), bars, sums, level: 0, limit }
    }

    /// An entry, later than all before.
    pub(super) fn see(&mut self, hash: u64, bar: usize, bytes: u64, is_tombstone: bool) {
        self.add_to_sum(bar, bytes);
        if level_of(hash) < self.level {
            return;
        }
        let entry = Newest {
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            bar: u16::try_from(bar).unwrap_or(u16::MAX),
            is_tombstone,
        };
        if let Some(fates) = self.fates(hash, bar) {
            *if is_tombstone { &mut fates.retracted } else { &mut fates.live } += u64::from(entry.bytes);
        }
        if let Some(before) = self.newest.insert(hash, entry)
            && let Some(fates) = self.fates(hash, usize::from(before.bar))
        {
            *if before.is_tombstone { &mut fates.retracted } else { &mut fates.live } -=
                u64::from(before.bytes);
            fates.superseded += u64::from(before.bytes);
        }
        while self.newest.len() > self.limit && self.level + 1 < LEVELS {
            self.level += 1;
            let level = self.level;
            self.newest.retain(|hash, _| level_of(*hash) >= level);
        }
    }

    /// An entry that another one stands for in any case.
    pub(super) fn see_superseded(&mut self, hash: u64, bar: usize, bytes: u64) {
        self.add_to_sum(bar, bytes);
        if let Some(fates) = self.fates(hash, bar) {
            fates.superseded += bytes;
        }
    }

    fn add_to_sum(&mut self, bar: usize, bytes: u64) {
        if let Some(sum) = self.sums.get_mut(bar) {
            *sum += bytes;
        }
    }

    fn fates(&mut self, hash: u64, bar: usize) -> Option<&mut Fates> {
        self.bars.get_mut(bar)?.get_mut(level_of(hash))
    }

    /// Of one in how many entities the newest entry is known.
    pub(super) fn one_in(&self) -> u64 {
        1 << self.level
    }

    /// How many entities there are: exactly, where that of all is known.
    pub(super) fn entities(&self) -> u64 {
        self.newest.len() as u64 * self.one_in()
    }

    /// What became of the bytes of a bar.
    pub(super) fn of_bar(&self, bar: usize) -> Fates {
        let sum = self.sums.get(bar).copied().unwrap_or(0);
        let mut seen = Fates::default();
        for fates in self.bars.get(bar).into_iter().flatten().skip(self.level) {
            seen.live += fates.live;
            seen.superseded += fates.superseded;
            seen.retracted += fates.retracted;
        }
        let whole = seen.sum();
        if whole == sum {
            return seen;
        }
        let share = |part: u64| {
            let share = u128::from(sum) * u128::from(part) / u128::from(whole.max(1));
            u64::try_from(share).unwrap_or(sum)
        };
        let (live, retracted) = (share(seen.live), share(seen.retracted));
        Fates { live, retracted, superseded: sum.saturating_sub(live + retracted) }
    }
}

/// Columns of equal width over time, that double where time goes on past them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    pub(super) origin: i64,
    pub(super) width: i64,
}

impl Columns {
    /// Columns that hold these times.
    pub(super) fn over(first: i64, last: i64) -> Self {
        let span = last.saturating_sub(first).max(0);
        Self { origin: first, width: (span / i64::try_from(COLUMNS).unwrap_or(1) + 1).max(1) }
    }

    /// The column of a time. Times before the first, of a clock that went back, are in the first; `None`: behind
    /// the last.
    pub(super) fn of(&self, time: i64) -> Option<usize> {
        let column = time.saturating_sub(self.origin).max(0) / self.width;
        usize::try_from(column).ok().filter(|column| *column < COLUMNS)
    }

    pub(super) fn double(&mut self) {
        self.width = self.width.saturating_mul(2);
    }

    /// When a column begins.
    pub(super) fn begin(&self, column: usize) -> i64 {
        let column = i64::try_from(column).unwrap_or(i64::MAX);
        self.origin.saturating_add(self.width.saturating_mul(column))
    }
}

/// Half as many columns, of twice the width.
pub(super) fn fold(cells: &mut [u64; COLUMNS]) {
    let mut halved = [0; COLUMNS];
    for (half, pair) in halved.iter_mut().zip(cells.chunks(2)) {
        *half = pair.iter().sum();
    }
    *cells = halved;
}

/// One of the most written entities.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) kind: KindId,
    pub(super) key: Box<[u8]>,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) last_seq: u64,
    pub(super) cells: [u64; COLUMNS],
}

/// The most written entities.
#[derive(Debug)]
pub(super) struct Hottest {
    candidates: HashMap<u64, Candidate>,
    /// So many entries of an entity may have been forgotten, at most.
    error: u64,
    limit: usize,
}

impl Hottest {
    pub(super) fn new() -> Self {
        Self::with_limit(CANDIDATES_MAX)
    }

    fn with_limit(limit: usize) -> Self {
        Self { candidates: HashMap::new(), error: 0, limit }
    }

    pub(super) fn see(
        &mut self,
        hash: u64,
        (kind, key): (KindId, &[u8]),
        seq: u64,
        bytes: u64,
        column: usize,
    ) {
        if self.candidates.len() >= self.limit && !self.candidates.contains_key(&hash) {
            self.forget();
        }
        let candidate = self.candidates.entry(hash).or_insert_with(|| Candidate {
            kind,
            key: key.into(),
            entries: 0,
            bytes: 0,
            last_seq: 0,
            cells: [0; COLUMNS],
        });
        candidate.entries += 1;
        candidate.bytes += bytes;
        candidate.last_seq = seq;
        if let Some(cell) = candidate.cells.get_mut(column) {
            *cell += 1;
        }
    }

    /// Forgets the less written half.
    fn forget(&mut self) {
        let rank = |candidate: &Candidate| (candidate.entries, candidate.last_seq);
        let mut ranks: Vec<_> = self.candidates.values().map(rank).collect();
        let half = ranks.len() / 2;
        let (_, middle, _) = ranks.select_nth_unstable(half);
        let middle = *middle;
        self.candidates.retain(|_, candidate| rank(candidate) > middle);
        // It may have been forgotten so often already, and comes as a new one.
        self.error += middle.0;
    }

    pub(super) fn double(&mut self) {
        self.candidates.values_mut().for_each(|candidate| fold(&mut candidate.cells));
    }

    /// The first so many, and how much of each may be missing.
    pub(super) fn top(self, count: usize) -> (Vec<Candidate>, u64) {
        let mut all: Vec<_> = self.candidates.into_values().collect();
        all.sort_unstable_by_key(|candidate| std::cmp::Reverse((candidate.entries, candidate.last_seq)));
        all.truncate(count);
        (all, self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind() -> KindId {
        KindId::new(1).unwrap()
    }

    #[test]
    fn the_newest_entry_of_an_entity_lives_and_the_sums_are_those_of_all() {
        let mut liveness = Liveness::new(2);
        let (a, b) = (hash_of(kind(), b"a"), hash_of(kind(), b"b"));
        liveness.see(a, 0, 10, false);
        liveness.see(b, 0, 20, false);
        liveness.see(a, 1, 30, false);
        liveness.see(b, 1, 5, true);
        liveness.see_superseded(a, 1, 7);
        assert_eq!(liveness.of_bar(0), Fates { live: 0, superseded: 30, retracted: 0 });
        assert_eq!(liveness.of_bar(1), Fates { live: 30, superseded: 7, retracted: 5 });
        assert_eq!((liveness.entities(), liveness.one_in()), (2, 1));
    }

    #[test]
    fn of_many_entities_a_part_is_looked_at_and_is_like_all() {
        let mut liveness = Liveness::with_limit(1, 500);
        for round in 0..4 {
            for n in 0..8000u32 {
                liveness.see(hash_of(kind(), &n.to_le_bytes()), 0, 100, false);
            }
            assert!(liveness.newest.len() <= 500, "round {round}");
        }
        let fates = liveness.of_bar(0);
        assert_eq!(fates.sum(), 4 * 8000 * 100);
        assert!(liveness.one_in() >= 16);
        // A quarter is the newest; the sample has some hundreds of entities.
        assert!((700_000..900_000).contains(&fates.live), "{fates:?}");
    }

    #[test]
    fn what_is_forgotten_of_the_hottest_is_at_most_what_is_said() {
        let mut hottest = Hottest::with_limit(64);
        for n in 0..20_000u32 {
            let key = if n % 4 == 0 { 0u32.to_le_bytes() } else { n.to_le_bytes() };
            hottest.see(hash_of(kind(), &key), (kind(), &key), u64::from(n), 1, 0);
        }
        let (top, error) = hottest.top(1);
        assert_eq!(&*top[0].key, 0u32.to_le_bytes());
        assert!(top[0].entries <= 5000 && top[0].entries + error >= 5000, "{} + {error}", top[0].entries);
    }

    #[test]
    fn columns_hold_their_times_and_double() {
        let mut columns = Columns::over(100, 131);
        assert_eq!((columns.of(100), columns.of(5), columns.of(131)), (Some(0), Some(0), Some(31)));
        assert_eq!(columns.of(160), None);
        columns.double();
        assert_eq!(columns.of(160), Some(30));
        let mut cells = [1; COLUMNS];
        fold(&mut cells);
        assert_eq!((cells[0], cells[15], cells[16]), (2, 2, 0));
    }
}
