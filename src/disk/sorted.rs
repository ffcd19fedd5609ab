//! Short records in the order of their keys, however many there are.
//!
//! What there is no room for in memory is put away sorted, run by run, each in a file without a name, and the runs are read
//! back side by side. Several of about a size are put together to one, and what is of one key may be joined then: there are
//! never many runs, and they take the space of different keys. Little is never put away: then there is no file.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::ops::Range;

use crate::disk::unnamed::Room;
use crate::error::{Error, Result};
use crate::format::checksum;

/// So much is written at a time, and read, and judged by a checksum of its own.
const PIECE: usize = 256 << 10;
/// So many runs of about a size are put together.
const TOGETHER: usize = 8;

/// A record on its way: its key, the length of what follows, and that.
const HEAD: usize = size_of::<u128>() + size_of::<u16>();

const _: () = assert!(HEAD + u16::MAX as usize <= PIECE, "a record is in one piece");

/// What is put away of a record: two parts, which come back as one.
pub(crate) type Parts<'r> = [&'r [u8]; 2];

/// Makes one record of two of one key, of which the other is the later one, in the place of the first. `None`: they are no
/// such records.
pub(crate) type Join = fn(&mut [u8], &[u8]) -> Option<()>;

/// Runs, each in the order of its keys.
#[derive(Debug)]
pub(crate) struct Tiers {
    /// Larger ones first.
    runs: Vec<Run>,
    join: Option<Join>,
    /// Nobody asks for more records.
    most: usize,
    /// No directory takes a file, or more of one: the disk may be full, and others write there too.
    takes_memory: bool,
    /// Why what was put away is lost.
    failed: Option<Error>,
}

impl Tiers {
    /// Of records of which there is one of each key in the end.
    pub(crate) fn joined_by(join: Join) -> Self {
        Self { join: Some(join), ..Self::of_the_first(usize::MAX) }
    }

    /// Of as many of the first records as are asked for.
    pub(crate) fn of_the_first(most: usize) -> Self {
        Self { runs: Vec::new(), join: None, most, takes_memory: false, failed: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.failed.is_none()
    }

    /// What there is no room for takes memory.
    pub(crate) fn takes_memory(&self) -> bool {
        self.takes_memory
    }

    /// Puts away a run, which is in the order of its keys.
    pub(crate) fn put_away<'r>(&mut self, records: impl Iterator<Item = (u128, Parts<'r>)>) {
        if self.failed.is_some() {
            return;
        }
        let mut writing = Writing::of(self.takes_memory);
        records.for_each(|(key, record)| writing.push(key, record));
        self.add(writing);
        // As many as are about as large as the last one, or less.
        while let Some(last) = self.runs.last().map(Run::tier)
            && let together = self.runs.iter().rev().take_while(|run| run.tier() <= last).count()
            && together >= TOGETHER
        {
            let together = self.runs.split_off(self.runs.len() - together);
            if let Err(error) = self.put_together(together) {
                self.failed = Some(error);
                break;
            }
        }
    }

    fn add(&mut self, writing: Writing) {
        let run = writing.end();
        self.takes_memory |= run.room.takes_no_more();
        self.runs.push(run);
    }

    /// Makes one run of some. Their files go with them.
    fn put_together(&mut self, runs: Vec<Run>) -> Result<()> {
        let mut writing = Writing::of(self.takes_memory);
        let (mut all, mut left) = (Merged::of(runs, self.join)?, self.most);
        while left > 0
            && let Some((key, record)) = all.next()?
        {
            writing.push(key, [record, &[]]);
            left -= 1;
        }
        self.add(writing);
        Ok(())
    }

    /// All of them, and last a run that stays in memory. What is of one key comes in the order in which it was put away.
    ///
    /// # Errors
    ///
    /// As [`Merged::next`].
    pub(crate) fn merge<'r>(mut self, last: impl Iterator<Item = (u128, Parts<'r>)>) -> Result<Merged> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut writing = Writing::of(true);
        last.for_each(|(key, record)| writing.push(key, record));
        self.runs.push(writing.end());
        Merged::of(self.runs, self.join)
    }
}

#[cfg(test)]
impl Tiers {
    /// As a disk does that loses a page. Answers whether there is a file.
    pub(crate) fn lose_a_page(&self) -> bool {
        self.runs.iter().any(|run| run.room.lose(HEAD, 3 * HEAD as u64))
    }

    /// What all of it takes.
    pub(crate) fn put_bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.bytes).sum()
    }
}

/// Where a run is.
#[derive(Debug)]
struct Run {
    pieces: VecDeque<Piece>,
    room: Room,
    bytes: u64,
}

#[derive(Debug)]
struct Piece {
    place: Place,
    crc: u32,
}

#[derive(Debug)]
enum Place {
    File(Range<u64>),
    /// Where no file takes it, it takes the memory that it takes.
    Memory(Vec<u8>),
}

impl Run {
    /// Those of one tier are about as large.
    fn tier(&self) -> u32 {
        self.bytes.max(1).ilog(TOGETHER as u64)
    }

    /// The next piece, if there is one: as it was put, or not at all.
    fn next(&mut self, buffer: &mut Vec<u8>) -> io::Result<bool> {
        let Some(Piece { place, crc }) = self.pieces.pop_front() else { return Ok(false) };
        match place {
            Place::File(place) => {
                buffer.resize(usize::try_from(place.end - place.start).unwrap_or(PIECE), 0);
                self.room.read_at(buffer, place.start)?;
            }
            Place::Memory(bytes) => *buffer = bytes,
        }
        let is_whole = checksum::crc(&[buffer]) == crc;
        if is_whole { Ok(true) } else { Err(Room::not_what_was_put()) }
    }
}

/// A run that is written.
#[derive(Debug)]
struct Writing {
    run: Run,
    piece: Vec<u8>,
}

impl Writing {
    fn of(takes_memory: bool) -> Self {
        let room = if takes_memory { Room::without_a_file() } else { Room::default() };
        Self { run: Run { pieces: VecDeque::new(), room, bytes: 0 }, piece: Vec::new() }
    }

    fn push(&mut self, key: u128, record: Parts<'_>) {
        if self.piece.len() + HEAD + length_of(record) > PIECE {
            self.write();
        }
        encode(key, record, &mut self.piece);
    }

    fn write(&mut self) {
        let crc = checksum::crc(&[&self.piece]);
        let place = match self.run.room.put(&self.piece) {
            Some(place) => Place::File(place),
            None => Place::Memory(self.piece.clone()),
        };
        self.run.bytes += self.piece.len() as u64;
        self.run.pieces.push_back(Piece { place, crc });
        self.piece.clear();
    }

    fn end(mut self) -> Run {
        if !self.piece.is_empty() {
            self.write();
        }
        self.run
    }
}

fn length_of(record: Parts<'_>) -> usize {
    record.iter().map(|part| part.len()).sum()
}

fn encode(key: u128, record: Parts<'_>, to: &mut Vec<u8>) {
    let length = u16::try_from(length_of(record));
    assert!(length.is_ok(), "a record of {} bytes is no short one", length_of(record));
    to.extend_from_slice(&key.to_le_bytes());
    to.extend_from_slice(&length.unwrap_or(u16::MAX).to_le_bytes());
    record.iter().for_each(|part| to.extend_from_slice(part));
}

/// What was put away, in the order of the keys.
#[derive(Debug)]
pub(crate) struct Merged {
    readers: Vec<Reader>,
    join: Option<Join>,
    /// What is joined.
    joined: Vec<u8>,
    /// The next key of each run that has one.
    next: BinaryHeap<Reverse<(u128, usize)>>,
    /// The run of which a record was shown last.
    shown: Option<usize>,
}

impl Merged {
    fn of(runs: Vec<Run>, join: Option<Join>) -> Result<Self> {
        let readers: Vec<Reader> = runs.into_iter().map(Reader::of).collect();
        let mut merged = Self { readers, join, joined: Vec::new(), next: BinaryHeap::new(), shown: None };
        (0..merged.readers.len()).try_for_each(|run| merged.read_on(run))?;
        Ok(merged)
    }

    /// The next record, or what is joined of those of the next key. `None`: there is no more. What is shown is as it was put
    /// away, also if nobody asks for the rest.
    ///
    /// # Errors
    ///
    /// `Io` if what was put away cannot be read back, or is not what was put away.
    pub(crate) fn next(&mut self) -> Result<Option<(u128, &[u8])>> {
        let Some((key, run)) = self.take_if(|_| true)? else { return Ok(None) };
        let Some(join) = self.join else { return Ok(self.readers.get(run).map(|run| (key, run.record()))) };
        self.joined.clear();
        self.joined.extend_from_slice(self.readers.get(run).map(Reader::record).unwrap_or_default());
        while let Some((_, run)) = self.take_if(|next| next == key)? {
            let Some(reader) = self.readers.get(run) else { break };
            join(&mut self.joined, reader.record())
                .ok_or_else(|| reader.run.room.failed(READ_BACK, Room::not_what_was_put()))?;
        }
        Ok(Some((key, &self.joined)))
    }

    /// Goes on to the next record, if its key is wanted, and answers its key and its run.
    fn take_if(&mut self, is_wanted: impl Fn(u128) -> bool) -> Result<Option<(u128, usize)>> {
        if let Some(run) = self.shown.take() {
            self.read_on(run)?;
        }
        let next = self.next.peek().map(|Reverse(next)| *next).filter(|(key, _)| is_wanted(*key));
        if next.is_some() {
            self.next.pop();
        }
        self.shown = next.map(|(_, run)| run);
        Ok(next)
    }

    fn read_on(&mut self, run: usize) -> Result<()> {
        let Some(reader) = self.readers.get_mut(run) else { return Ok(()) };
        let key = reader.read_on().map_err(|error| reader.run.room.failed(READ_BACK, error))?;
        self.next.extend(key.map(|key| Reverse((key, run))));
        Ok(())
    }
}

const READ_BACK: &str = "read back what was put away";

/// A run that is read back.
#[derive(Debug)]
struct Reader {
    run: Run,
    /// The piece of which a record is shown.
    piece: Vec<u8>,
    record: Range<usize>,
}

impl Reader {
    fn of(run: Run) -> Self {
        Self { run, piece: Vec::new(), record: 0..0 }
    }

    fn record(&self) -> &[u8] {
        self.piece.get(self.record.clone()).unwrap_or_default()
    }

    /// Goes on to the next record, and answers its key.
    fn read_on(&mut self) -> io::Result<Option<u128>> {
        if self.record.end == self.piece.len() {
            self.record = 0..0;
            if !self.run.next(&mut self.piece)? {
                self.piece = Vec::new();
                return Ok(None);
            }
        }
        let rest = self.piece.get(self.record.end..).unwrap_or_default();
        let head = head(rest).filter(|(_, length)| rest.len() >= HEAD + length);
        let (key, length) = head.ok_or_else(Room::not_what_was_put)?;
        let begin = self.record.end + HEAD;
        self.record = begin..begin + length;
        Ok(Some(key))
    }
}

/// The key of a record, and the length of what follows.
fn head(bytes: &[u8]) -> Option<(u128, usize)> {
    let (key, rest) = bytes.split_first_chunk()?;
    Some((u128::from_le_bytes(*key), usize::from(u16::from_le_bytes(*rest.first_chunk()?))))
}

/// What is known of a record in memory: its key, and its place.
const PLACE: usize = size_of::<(u128, Range<u32>)>();

/// Puts records in the order of their keys, or as many as are asked for of the first ones.
#[derive(Debug)]
pub(crate) struct Sorter {
    /// The records behind each other, and of each its key and its place.
    bytes: Vec<u8>,
    places: Vec<(u128, Range<u32>)>,
    /// There is room for so many bytes of both.
    room: usize,
    /// Nobody asks for more.
    most: usize,
    tiers: Tiers,
}

impl Sorter {
    pub(crate) fn with_room(room: usize, most: usize) -> Self {
        let room = room.min(u32::MAX as usize);
        Self { bytes: Vec::new(), places: Vec::new(), room, most, tiers: Tiers::of_the_first(most) }
    }

    pub(crate) fn push(&mut self, key: u128, record: Parts<'_>) {
        if self.bytes.len() + length_of(record) + (self.places.len() + 1) * PLACE > self.room {
            self.make_room();
        }
        let begin = end_of(&self.bytes);
        record.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.places.push((key, begin..end_of(&self.bytes)));
    }

    fn make_room(&mut self) {
        self.sort();
        let kept: usize = self.places.iter().map(|(_, place)| place.len()).sum();
        let mut bytes = Vec::new();
        if kept + self.places.len() * PLACE <= self.room / 2 {
            // All but those that are asked for are forgotten.
            for (_, place) in &mut self.places {
                let begin = end_of(&bytes);
                bytes.extend_from_slice(at(&self.bytes, place));
                *place = begin..end_of(&bytes);
            }
        } else {
            self.tiers.put_away(records(&self.places, &self.bytes));
            self.places.clear();
        }
        self.bytes = bytes;
    }

    fn sort(&mut self) {
        // What is of one key stays in its order.
        self.places.sort_unstable_by_key(|(key, place)| (*key, place.start));
        self.places.truncate(self.most);
    }

    /// All of them in order.
    ///
    /// # Errors
    ///
    /// As [`Merged::next`].
    pub(crate) fn sorted(mut self) -> Result<Merged> {
        self.sort();
        self.tiers.merge(records(&self.places, &self.bytes))
    }
}

/// Where what comes next stands in bytes whose places have 32 bits.
pub(crate) fn end_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn at<'b>(bytes: &'b [u8], place: &Range<u32>) -> &'b [u8] {
    bytes.get(place.start as usize..place.end as usize).unwrap_or_default()
}

fn records<'r>(places: &'r [(u128, Range<u32>)], bytes: &'r [u8]) -> impl Iterator<Item = (u128, Parts<'r>)> {
    places.iter().map(move |(key, place)| (*key, [at(bytes, place), &[]]))
}

#[cfg(test)]
#[path = "sorted_tests.rs"]
mod tests;
