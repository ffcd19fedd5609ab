//! What is known of entities for which there is no room in memory: runs of them, each in the order of their hashes.
//!
//! Runs are in the order of the log. They are read side by side, a range of hashes at a time, so that what all of them
//! know of an entity comes together.

use std::ops::Range;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::disk::unnamed::Room;
use crate::error::Result;
use crate::format::checksum::{self, Sum};
use crate::format::index::EntityHash;
use crate::id::{EntryAt, Position};
use crate::index::entities::Known;
use crate::journal::verify::histories::Moment;

/// What one stretch of the log says of an entity: its first entry there, of which it is to be judged whether it follows
/// on what stands before the stretch, and its last.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Met {
    hash: [u8; 16],
    first_generation: U64,
    first: U64,
    last_generation: U64,
    last: U64,
    findings: U32,
    order_and_flags: U32,
}

/// What is asked about the first entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) position: Position,
    pub(super) generation: u64,
    /// When it was asked.
    pub(super) moment: Moment,
    pub(super) is_first: bool,
    pub(super) may_miss: bool,
    pub(super) is_indexed: bool,
}

/// There are never so many questions at a time.
pub(super) const QUESTIONS_MAX: u32 = 1 << 28;
const FIRST: u32 = QUESTIONS_MAX;
const MAY_MISS: u32 = FIRST << 1;
const INDEXED: u32 = FIRST << 2;
const ASKED: u32 = FIRST << 3;

impl Met {
    pub(super) fn asked(hash: EntityHash, question: &Question) -> Self {
        let flag = |is: bool, flag: u32| if is { flag } else { 0 };
        let flags = flag(question.is_first, FIRST)
            | flag(question.may_miss, MAY_MISS)
            | flag(question.is_indexed, INDEXED);
        Self {
            hash: hash.to_le_bytes(),
            first_generation: U64::new(question.generation),
            first: U64::new(question.position.word()),
            last_generation: U64::ZERO,
            last: U64::ZERO,
            findings: U32::new(word(question.moment.findings)),
            order_and_flags: U32::new(word(question.moment.questions).min(QUESTIONS_MAX - 1) | flags | ASKED),
        }
    }

    /// Of an entity whose first entry was judged.
    pub(super) fn judged(hash: EntityHash) -> Self {
        Self { hash: hash.to_le_bytes(), ..Self::new_zeroed() }
    }

    pub(super) fn hash(&self) -> EntityHash {
        EntityHash::from_le_bytes(self.hash)
    }

    /// What is asked of it, if it is in this run.
    pub(super) fn question(&self, run: usize) -> Option<Question> {
        let word = self.order_and_flags.get();
        (word & ASKED != 0).then(|| Question {
            position: Position::from_word(self.first.get()),
            generation: self.first_generation.get(),
            moment: Moment {
                findings: self.findings.get() as usize,
                runs: run,
                questions: (word & (QUESTIONS_MAX - 1)) as usize,
            },
            is_first: word & FIRST != 0,
            may_miss: word & MAY_MISS != 0,
            is_indexed: word & INDEXED != 0,
        })
    }

    pub(super) fn last(&self) -> Known {
        Known { generation: self.last_generation.get(), newest: EntryAt::from_word(self.last.get()) }
    }

    pub(super) fn set_last(&mut self, known: Known) {
        self.last_generation.set(known.generation);
        self.last.set(known.newest.word());
    }
}

/// All runs.
#[derive(Debug, Default)]
pub(super) struct Runs {
    runs: Vec<Run>,
    beside: Room,
    entities: u64,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Run {
    place: Place,
    /// What of it was not shown yet, in bytes.
    left: Range<u64>,
    /// The checksum of all of it, and that of what was shown: a page that a disk lost comes back as zeros.
    crc: u32,
    shown: Sum,
}

#[derive(Debug)]
enum Place {
    File,
    /// Where the file system takes no file, it takes the memory that it takes.
    Memory(Vec<u8>),
}

const READ_BACK: &str = "read back what is known of entities";

const MET_BYTES: u64 = size_of::<Met>() as u64;

impl Runs {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    /// How many entities are in all of them, each counted once in each.
    pub(super) fn entities(&self) -> u64 {
        self.entities
    }

    /// Puts away the next run, which is in the order of hashes.
    pub(super) fn add(&mut self, run: &[Met]) {
        let bytes = run.as_bytes();
        let length = bytes.len() as u64;
        self.entities += run.len() as u64;
        let (crc, shown) = (checksum::crc(&[bytes]), Sum::default());
        let (place, left) = match self.beside.put(bytes) {
            Some(left) => (Place::File, left),
            None => (Place::Memory(bytes.to_vec()), 0..length),
        };
        self.runs.push(Run { place, left, crc, shown });
    }

    /// Shows what a run says of entities up to this hash and was not shown yet. It is read by pieces of about so many
    /// bytes.
    ///
    /// # Errors
    ///
    /// `Io` if it cannot be read back.
    pub(super) fn show(
        &mut self,
        run: usize,
        until: EntityHash,
        piece: u64,
        mut show: impl FnMut(&Met),
    ) -> Result<()> {
        let Some(Run { place, left, shown: sum, .. }) = self.runs.get_mut(run) else { return Ok(()) };
        while !left.is_empty() {
            let bytes = match &*place {
                Place::Memory(bytes) => bytes.get(index(left.start)..index(left.end)),
                Place::File => {
                    let length = piece.next_multiple_of(MET_BYTES).min(left.end - left.start);
                    self.buffer.resize(index(length), 0);
                    let read = self.beside.read_at(&mut self.buffer, left.start);
                    read.map_err(|e| self.beside.failed(READ_BACK, e))?;
                    Some(&*self.buffer)
                }
            };
            let all = bytes.and_then(|bytes| <[Met]>::ref_from_bytes(bytes).ok()).unwrap_or_default();
            let shown = all.partition_point(|met| met.hash() <= until);
            all.iter().take(shown).for_each(|met| {
                sum.add(met.as_bytes());
                show(met);
            });
            left.start += shown as u64 * MET_BYTES;
            if shown < all.len() || all.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// As a disk does that loses a page. Answers whether there is a file.
    #[cfg(test)]
    pub(super) fn lose_a_page(&self) -> bool {
        self.beside.lose(size_of::<Met>(), MET_BYTES)
    }

    /// Once all of them were shown.
    ///
    /// # Errors
    ///
    /// `Io` if what came back is not what was put away.
    pub(super) fn check_that_all_came_back(&mut self) -> Result<()> {
        let is_whole = |run: &mut Run| run.left.is_empty() && std::mem::take(&mut run.shown).crc() == run.crc;
        if self.runs.iter_mut().all(is_whole) {
            return Ok(());
        }
        Err(self.beside.failed(READ_BACK, Room::not_what_was_put()))
    }

    /// How much of a run is in one of so many ranges of hashes, in bytes, about.
    pub(super) fn bytes_of_range(&self, ranges: u64) -> u64 {
        let (runs, ranges) = (self.runs.len().max(1) as u64, ranges.max(1));
        self.entities * MET_BYTES / runs / ranges
    }
}

fn word(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// The last hash of each of so many ranges, which hold about as many hashes each.
pub(super) fn ranges(count: u64) -> impl Iterator<Item = EntityHash> {
    let width = EntityHash::MAX / EntityHash::from(count.max(1));
    (1..=count).map(move |n| if n == count { EntityHash::MAX } else { EntityHash::from(n) * width })
}
