//! Short records in the order of their keys, however many there are.
//!
//! What there is no room for in memory is put away sorted, run by run, in a file without a name, and the runs are read
//! back side by side. Little is never put away: then there is no file.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::ops::Range;

use crate::disk::unnamed::Room;
use crate::error::{Error, Result};
use crate::format::checksum::Sum;

/// So much is written at a time, and read at most.
const PIECE: usize = 256 << 10;
/// What all runs are read back with, about.
const READ_BACK: usize = 8 << 20;
/// However many runs there are, so much is read of one at a time.
const PIECE_MIN: usize = 4 << 10;

/// A record on its way: its key, the length of what follows, and that.
const HEAD: usize = size_of::<u128>() + size_of::<u16>();

/// What is put away of a record: two parts, which come back as one.
pub(crate) type Parts<'r> = [&'r [u8]; 2];

/// Runs, each in the order of its keys.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    runs: Vec<Run>,
    beside: Room,
}

/// Where a run is.
#[derive(Debug, Default)]
struct Run {
    in_file: Range<u64>,
    /// What is behind that. Where the file system takes no file, it takes the memory that it takes.
    in_memory: Vec<u8>,
    crc: u32,
}

impl Runs {
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Puts away a run, which is in the order of its keys.
    pub(crate) fn put_away<'r>(&mut self, records: impl Iterator<Item = (u128, Parts<'r>)>) {
        let mut run = Run::default();
        let (mut sum, mut piece) = (Sum::default(), Vec::with_capacity(PIECE));
        for (key, record) in records {
            if piece.len() + HEAD + length_of(record) > PIECE {
                self.write(&mut piece, &mut run, &mut sum);
            }
            encode(key, record, &mut piece);
        }
        self.write(&mut piece, &mut run, &mut sum);
        run.crc = sum.crc();
        self.runs.push(run);
    }

    fn write(&mut self, piece: &mut Vec<u8>, run: &mut Run, sum: &mut Sum) {
        sum.add(piece);
        match self.beside.put(piece) {
            Some(place) if run.in_file.is_empty() => run.in_file = place,
            Some(place) => run.in_file.end = place.end,
            None => run.in_memory.extend_from_slice(piece),
        }
        piece.clear();
    }

    /// All of them, and last a run that stays in memory. What is of one key comes in the order in which it was put away.
    ///
    /// # Errors
    ///
    /// As [`Merged::next`].
    pub(crate) fn merge<'r>(mut self, last: impl Iterator<Item = (u128, Parts<'r>)>) -> Result<Merged> {
        let mut run = Run::default();
        last.for_each(|(key, record)| encode(key, record, &mut run.in_memory));
        let mut sum = Sum::default();
        sum.add(&run.in_memory);
        run.crc = sum.crc();
        self.runs.push(run);
        let piece = (READ_BACK / self.runs.len()).clamp(PIECE_MIN, PIECE);
        let readers = self.runs.into_iter().map(|run| Reader::of(run, piece)).collect();
        let mut merged = Merged { readers, beside: self.beside, next: BinaryHeap::new(), shown: None };
        (0..merged.readers.len()).try_for_each(|run| merged.read_on(run))?;
        Ok(merged)
    }

    /// As a disk does that loses a page. Answers whether there is a file.
    #[cfg(test)]
    pub(crate) fn lose_a_page(&self) -> bool {
        self.beside.lose(HEAD, 3 * HEAD as u64)
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
    beside: Room,
    /// The next key of each run that has one.
    next: BinaryHeap<Reverse<(u128, usize)>>,
    /// The run of which a record was shown last.
    shown: Option<usize>,
}

impl Merged {
    /// The next record. `None`: there is no more.
    ///
    /// # Errors
    ///
    /// `Io` if what was put away cannot be read back, or is not what was put away.
    pub(crate) fn next(&mut self) -> Result<Option<(u128, &[u8])>> {
        if let Some(run) = self.shown.take() {
            self.read_on(run)?;
        }
        let Some(Reverse((key, run))) = self.next.pop() else { return Ok(None) };
        self.shown = Some(run);
        Ok(self.readers.get(run).map(|reader| (key, reader.record())))
    }

    fn read_on(&mut self, run: usize) -> Result<()> {
        let Some(reader) = self.readers.get_mut(run) else { return Ok(()) };
        let read = reader.read_on(&self.beside);
        let key = read.map_err(|error| Error::io("read back what was put away", error))?;
        self.next.extend(key.map(|key| Reverse((key, run))));
        Ok(())
    }
}

/// A run that is read back.
#[derive(Debug)]
struct Reader {
    run: Run,
    piece: usize,
    buffer: Vec<u8>,
    /// The record that is shown, in the buffer.
    record: Range<usize>,
    sum: Sum,
}

impl Reader {
    fn of(run: Run, piece: usize) -> Self {
        Self { run, piece, buffer: Vec::new(), record: 0..0, sum: Sum::default() }
    }

    fn record(&self) -> &[u8] {
        self.buffer.get(self.record.clone()).unwrap_or_default()
    }

    /// Goes on to the next record, and answers its key.
    fn read_on(&mut self, beside: &Room) -> io::Result<Option<u128>> {
        loop {
            let rest = self.buffer.get(self.record.end..).unwrap_or_default();
            if let Some((key, length)) = head(rest).filter(|(_, length)| rest.len() >= HEAD + length) {
                let begin = self.record.end + HEAD;
                self.record = begin..begin + length;
                return Ok(Some(key));
            }
            let is_all_used = rest.is_empty();
            if self.fill(beside)? {
                continue;
            }
            let is_whole = is_all_used && std::mem::take(&mut self.sum).crc() == self.run.crc;
            self.run.crc = 0;
            return if is_whole { Ok(None) } else { Err(Room::not_what_was_put()) };
        }
    }

    /// Reads more behind what was not shown yet. False: there is no more.
    fn fill(&mut self, beside: &Room) -> io::Result<bool> {
        self.buffer.drain(..self.record.end);
        self.record = 0..0;
        let Run { in_file, in_memory, .. } = &mut self.run;
        let from = self.buffer.len();
        if !in_file.is_empty() {
            let length = (self.piece as u64).min(in_file.end - in_file.start);
            self.buffer.resize(from + usize::try_from(length).unwrap_or(self.piece), 0);
            beside.read_at(self.buffer.get_mut(from..).unwrap_or_default(), in_file.start)?;
            in_file.start += length;
        } else if from == 0 {
            self.buffer = std::mem::take(in_memory);
        } else {
            self.buffer.append(in_memory);
        }
        let read = self.buffer.get(from..).unwrap_or_default();
        self.sum.add(read);
        Ok(!read.is_empty())
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
    runs: Runs,
}

impl Sorter {
    pub(crate) fn with_room(room: usize, most: usize) -> Self {
        let room = room.min(u32::MAX as usize);
        Self { bytes: Vec::new(), places: Vec::new(), room, most, runs: Runs::default() }
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
            self.runs.put_away(records(&self.places, &self.bytes));
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
        self.runs.merge(records(&self.places, &self.bytes))
    }
}

fn end_of(bytes: &[u8]) -> u32 {
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
