//! What was written of each entity, in memory that has a bound however many there are.
//!
//! What there is no room for is put, sorted, into a file without a name in the directory for temporary files (`TMPDIR`, or
//! one for large ones), and is put together at the end. Where there is no room there either, it takes the memory that it
//! takes.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;
use std::ops::Range;

use zerocopy::little_endian::{I64, U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::disk::sorted::{Merged, Parts, Sorter, Tiers, end_of};
use crate::disk::unnamed::Room;
use crate::dump::frame::FrameInfo;
use crate::error::{Error, Result};
use crate::format::frame::KEY_BYTES_MAX;
use crate::format::index::EntityHash;
use crate::id::{Generation, KindId};
use crate::index::EntityHasher;
use crate::index::entities::UpperHalf;
use crate::journal::reader::Reader;

/// Entities in memory: as many as a table of less than 9 MB holds before it grows.
const COUNTED_MAX: usize = COUNTED_PLACES / 8 * 7;
const COUNTED_PLACES: usize = 1 << 19;
/// The same with what was written of them: a table of less than 11 MB.
const SUMMED_MAX: usize = SUMMED_PLACES / 8 * 7;
const SUMMED_PLACES: usize = 1 << 17;

/// A table has a byte of its own for each place.
const _: () = assert!(COUNTED_PLACES * (size_of::<EntityHash>() + 1) < 9_000_000);
const _: () = assert!(SUMMED_PLACES * (size_of::<(EntityHash, (Sum, Range<u32>))>() + 1) < 11_000_000);

/// The keys of those, in bytes.
const KEYS_BYTES_MAX: usize = 4 << 20;
/// What they are ranked in, in bytes.
const RANKING_BYTES: usize = 8 << 20;

/// Counts entities: each once, however many of its entries are seen. They are told apart by a hash of 128 bits, which is keyed
/// by the store.
///
/// It takes some 9 MB of memory. Of more than 458,752 entities the hashes are put into files without names in `TMPDIR`, else
/// `/var/tmp`, else the system's directory for temporary files, and take some 20 times 16 bytes of each entity there at most.
/// Where no directory takes such a file, or no more of one, they take memory: see [`takes_memory`](Self::takes_memory).
///
/// ```
/// use esker::dump::{EntityCount, Item, Survey};
/// use esker::{Journal, Reader, Record};
/// # fn main() -> esker::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("harbour.esker");
/// # let journal = Journal::open(&path)?;
/// # for key in [b"a", b"b", b"a"] { journal.append(Record::new(journal.kind("note")?, key, b"one"))?; }
/// let reader = Reader::open(&path)?;
/// let mut count = EntityCount::of(&reader);
/// for item in Survey::of(&reader)?.frames() {
///     if let Item::Frame(frame) = item? {
///         count.see(&frame);
///     }
/// }
/// assert_eq!(count.count()?, 2);
/// # journal.close() }
/// ```
#[derive(Debug)]
pub struct EntityCount {
    hasher: EntityHasher,
    seen: HashSet<EntityHash, BuildHasherDefault<UpperHalf>>,
    room: usize,
    tiers: Tiers,
}

impl EntityCount {
    /// Of no frame yet.
    #[must_use]
    pub fn of(reader: &Reader) -> Self {
        let hasher = EntityHasher::new(reader.store_id());
        Self { hasher, seen: HashSet::default(), room: COUNTED_MAX, tiers: Tiers::joined_by(seen_again) }
    }

    /// Takes in a frame. One of the log itself is of no entity.
    pub fn see(&mut self, frame: &FrameInfo) {
        let Some(kind) = frame.kind else { return };
        let hash = self.hasher.hash(kind.get(), &frame.key);
        if self.seen.insert(hash) && self.seen.len() >= self.room {
            let hashes = self.sorted();
            self.tiers.put_away(hashes.iter().map(|hash| (*hash, NOTHING)));
        }
    }

    fn sorted(&mut self) -> Vec<EntityHash> {
        let mut hashes: Vec<EntityHash> = self.seen.drain().collect();
        hashes.sort_unstable();
        hashes
    }

    /// How many entities the frames were of.
    ///
    /// # Errors
    ///
    /// `Io` if what was put away cannot be read back, or is not what was put away.
    pub fn count(mut self) -> Result<u64> {
        if self.tiers.is_empty() {
            return Ok(self.seen.len() as u64);
        }
        let hashes = self.sorted();
        let mut all = self.tiers.merge(hashes.iter().map(|hash| (*hash, NOTHING)))?;
        let mut count = 0;
        while all.next()?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    /// True if no directory for temporary files took what there was no room for.
    #[must_use]
    pub fn takes_memory(&self) -> bool {
        self.tiers.takes_memory()
    }
}

fn seen_again(_: &mut [u8], _: &[u8]) -> Option<()> {
    Some(())
}

/// What is remembered of an entity that is only counted.
const NOTHING: Parts<'static> = [&[], &[]];

/// What was written of an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EntitySum {
    /// Its kind.
    pub kind: KindId,
    /// Its key.
    pub key: Vec<u8>,
    /// How many of its entries were seen.
    pub entries: u64,
    /// The bytes of their frames.
    pub bytes: u64,
    /// The place of the last of them in its history, if it has one.
    pub generation: Option<Generation>,
    /// The Seq of the last of them.
    pub last_seq: u64,
    /// When that was written, in nanoseconds since 1970.
    pub last_time: i64,
}

/// Which entities come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntityOrder {
    /// Those of the most entries; of equals the one that was written last.
    Entries,
    /// Those of the most bytes; of equals the one that was written last.
    Bytes,
    /// Those that were written last.
    Last,
}

/// The same away from its key.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Sum {
    entries: U64,
    bytes: U64,
    generation: U64,
    last_seq: U64,
    last_time: I64,
    kind: U16,
}

impl Sum {
    fn of(frame: &FrameInfo, kind: KindId) -> Self {
        Self {
            entries: U64::new(1),
            bytes: U64::new(frame.frame_bytes),
            generation: U64::new(frame.generation.map_or(0, u64::from)),
            last_seq: U64::new(frame.seq),
            last_time: I64::new(frame.time),
            kind: U16::new(kind.get()),
        }
    }

    fn followed_by(&self, later: &Self) -> Self {
        Self { entries: self.entries + later.entries, bytes: self.bytes + later.bytes, ..*later }
    }

    /// Joins what is known of an entity, in the place of what was known before. The key behind it stays.
    fn join(before: &mut [u8], later: &[u8]) -> Option<()> {
        let (before, _) = Self::mut_from_prefix(before).ok()?;
        let (later, _) = Self::ref_from_prefix(later).ok()?;
        *before = before.followed_by(later);
        Some(())
    }

    /// The lower it is, the earlier it comes.
    fn rank(&self, order: EntityOrder) -> u128 {
        let first = match order {
            EntityOrder::Entries => self.entries.get(),
            EntityOrder::Bytes => self.bytes.get(),
            EntityOrder::Last => 0,
        };
        !(u128::from(first) << 64 | u128::from(self.last_seq.get()))
    }
}

/// By hash, with the place of the key.
type Sums = HashMap<EntityHash, (Sum, Range<u32>), BuildHasherDefault<UpperHalf>>;

/// Sums up what was written of each entity. They are told apart by a hash of 128 bits, which is keyed by the store.
///
/// It takes less than 16 MB of memory, and [`ranked`](Self::ranked) some 20 MB. What is known of more than 114,688 entities, or of
/// those whose keys take more than 4 MiB, is put into files without names, as by [`EntityCount`]: some 60 bytes and its key of
/// each, 20 times at most. **Keys stand there in clear.**
///
/// ```
/// use esker::dump::{EntityOrder, EntityTally, Item, Survey};
/// use esker::{Journal, Reader, Record};
/// # fn main() -> esker::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("harbour.esker");
/// # let journal = Journal::open(&path)?;
/// # for key in [b"a", b"b", b"a"] { journal.append(Record::new(journal.kind("note")?, key, b"one"))?; }
/// let reader = Reader::open(&path)?;
/// let mut tally = EntityTally::of(&reader);
/// for item in Survey::of(&reader)?.frames() {
///     if let Item::Frame(frame) = item? {
///         tally.see(&frame);
///     }
/// }
/// let mut entities = tally.ranked(EntityOrder::Entries, Some(1))?;      // the most written one
/// assert_eq!(entities.total(), 2);
/// let first = entities.next().unwrap()?;
/// assert_eq!((&*first.key, first.entries, first.last_seq), (&b"a"[..], 2, 3));
/// assert!(entities.next().is_none());
/// # journal.close() }
/// ```
#[derive(Debug)]
pub struct EntityTally {
    hasher: EntityHasher,
    recent: Sums,
    /// The keys of those, one behind the other.
    keys: Vec<u8>,
    room: usize,
    tiers: Tiers,
}

impl EntityTally {
    /// Of no frame yet.
    #[must_use]
    pub fn of(reader: &Reader) -> Self {
        Self {
            hasher: EntityHasher::new(reader.store_id()),
            recent: HashMap::default(),
            keys: Vec::new(),
            room: SUMMED_MAX,
            tiers: Tiers::joined_by(Sum::join),
        }
    }

    /// Takes in a frame, which is later than those before. One of the log itself is of no entity.
    pub fn see(&mut self, frame: &FrameInfo) {
        let Some(kind) = frame.kind else { return };
        let (hash, sum) = (self.hasher.hash(kind.get(), &frame.key), Sum::of(frame, kind));
        match self.recent.entry(hash) {
            Entry::Occupied(mut known) => known.get_mut().0 = known.get().0.followed_by(&sum),
            Entry::Vacant(place) => {
                let begin = end_of(&self.keys);
                self.keys.extend_from_slice(&frame.key);
                place.insert((sum, begin..end_of(&self.keys)));
                if self.recent.len() >= self.room || self.keys.len() >= KEYS_BYTES_MAX {
                    self.put_away();
                }
            }
        }
    }

    fn put_away(&mut self) {
        let hashes = self.sorted();
        self.tiers.put_away(records(&hashes, &self.recent, &self.keys));
        self.recent.clear();
        self.keys.clear();
    }

    fn sorted(&self) -> Vec<EntityHash> {
        let mut hashes: Vec<EntityHash> = self.recent.keys().copied().collect();
        hashes.sort_unstable();
        hashes
    }

    /// The entities in this order: all of them, or the first so many.
    ///
    /// # Errors
    ///
    /// `Io` if what was put away cannot be read back, or is not what was put away.
    pub fn ranked(self, order: EntityOrder, top: Option<usize>) -> Result<RankedEntities> {
        let hashes = self.sorted();
        let Self { recent, keys, tiers, .. } = self;
        let mut all = tiers.merge(records(&hashes, &recent, &keys))?;
        drop((hashes, recent, keys));
        let left = top.unwrap_or(usize::MAX);
        let (mut sorter, mut total) = (Sorter::with_room(RANKING_BYTES, left), 0);
        while let Some((_, record)) = all.next()? {
            let (sum, key) = Sum::ref_from_prefix(record).map_err(|_| not_what_was_put())?;
            sorter.push(sum.rank(order), [sum.as_bytes(), key]);
            total += 1;
        }
        drop(all);
        Ok(RankedEntities { sorted: sorter.sorted()?, total, left })
    }

    /// True if no directory for temporary files took what there was no room for.
    #[must_use]
    pub fn takes_memory(&self) -> bool {
        self.tiers.takes_memory()
    }
}

fn not_what_was_put() -> Error {
    Error::io("sum up entities", Room::not_what_was_put())
}

/// What was summed up, in the order of these hashes.
fn records<'t>(
    hashes: &'t [EntityHash],
    recent: &'t Sums,
    keys: &'t [u8],
) -> impl Iterator<Item = (EntityHash, Parts<'t>)> {
    hashes.iter().filter_map(move |hash| {
        let (sum, key) = recent.get(hash)?;
        let key = keys.get(key.start as usize..key.end as usize)?;
        Some((*hash, [sum.as_bytes(), key]))
    })
}

const _: () = assert!(KEYS_BYTES_MAX + KEY_BYTES_MAX < u32::MAX as usize, "the place of a key has 32 bits");

/// Entities in an order; see [`EntityTally::ranked`].
#[derive(Debug)]
pub struct RankedEntities {
    sorted: Merged,
    total: u64,
    /// So many more are asked for.
    left: usize,
}

impl RankedEntities {
    /// How many entities there are, those that nobody asked for included.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }
}

/// `Io` if what was put away cannot be read back, or is not what was put away.
impl Iterator for RankedEntities {
    type Item = Result<EntitySum>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let next = self.sorted.next().transpose()?;
        let next = next.and_then(|(_, record)| EntitySum::of(record).ok_or_else(not_what_was_put));
        if next.is_err() {
            self.left = 0;
        }
        Some(next)
    }
}

impl EntitySum {
    fn of(record: &[u8]) -> Option<Self> {
        let (sum, key) = Sum::read_from_prefix(record).ok()?;
        Some(Self {
            kind: KindId(sum.kind.get()),
            key: key.to_vec(),
            entries: sum.entries.get(),
            bytes: sum.bytes.get(),
            generation: Generation::new(sum.generation.get()),
            last_seq: sum.last_seq.get(),
            last_time: sum.last_time.get(),
        })
    }
}

#[cfg(test)]
#[path = "entities_tests.rs"]
mod tests;
