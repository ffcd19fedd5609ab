//! Two flat arrays over the places in the log: the position of each frame, and the previous place of the
//! same entity. Saved by a close, mapped by the next open, twelve bytes an event.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use memmap2::Mmap;

use super::log::Position;
use crate::engine::Outcome;

/// No previous place.
pub const NONE: u32 = u32::MAX;
const CHUNK: usize = 1 << 16;

#[derive(Default)]
pub struct PlaceIndex {
    saved: Option<Saved>,
    saved_count: usize,
    positions: Chunks<u64>,
    previous: Chunks<u32>,
}

struct Saved {
    map: Mmap,
}

impl PlaceIndex {
    #[inline]
    pub fn len(&self) -> usize {
        self.saved_count + self.positions.len()
    }

    #[inline]
    pub fn push(&mut self, position: Position, previous: u32) {
        self.positions.push(position.0);
        self.previous.push(previous);
    }

    #[inline]
    pub fn position(&self, place: usize) -> Position {
        Position(match &self.saved {
            Some(saved) if place < self.saved_count => saved.word(8 + place * 8),
            _ => self.positions.get(place - self.saved_count),
        })
    }

    #[inline]
    fn previous(&self, place: usize) -> u32 {
        match &self.saved {
            Some(saved) if place < self.saved_count => saved.half(8 + self.saved_count * 8 + place * 4),
            _ => self.previous.get(place - self.saved_count),
        }
    }

    /// The positions of an entity's frames, oldest first, from its newest place back.
    pub fn history(&self, newest: u32, into: &mut Vec<Position>) {
        into.clear();
        let mut place = newest;
        while place != NONE {
            into.push(self.position(place as usize));
            place = self.previous(place as usize);
        }
        into.reverse();
    }

    /// Writes the index, and `tail` behind it, where [`PlaceIndex::take`] finds them. The count comes
    /// first and is written last: an index that was not finished has none.
    pub fn save(&self, dir: &Path, tail: &[u8]) -> Outcome {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(dir.join("index"))?);
        file.write_all(&0u64.to_le_bytes())?;
        for place in 0..self.len() {
            file.write_all(&self.position(place).0.to_le_bytes())?;
        }
        for place in 0..self.len() {
            file.write_all(&self.previous(place).to_le_bytes())?;
        }
        file.write_all(tail)?;
        let file = file.into_inner().map_err(|error| error.into_error())?;
        file.sync_all()?;
        file.write_all_at(&(self.len() as u64).to_le_bytes(), 0)?;
        Ok(file.sync_all()?)
    }

    /// Maps the saved index and unlinks it: a process that is killed leaves none, so the next one scans.
    pub fn take(dir: &Path) -> Outcome<Option<(Self, Vec<u8>)>> {
        let path = dir.join("index");
        if !path.exists() {
            return Ok(None);
        }
        let file = File::open(&path)?;
        // SAFETY: the process that wrote the file has ended, and nobody writes to it again.
        let saved = Saved { map: unsafe { Mmap::map(&file)? } };
        fs::remove_file(&path)?;
        let saved_count = saved.word(0) as usize;
        if saved_count == 0 {
            return Ok(None);
        }
        let tail = saved.map.get(8 + saved_count * 12..).unwrap_or_default().to_vec();
        Ok(Some((Self { saved: Some(saved), saved_count, ..Self::default() }, tail)))
    }
}

impl Saved {
    #[inline]
    fn word(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.map[at..at + 8].try_into().expect("eight bytes"))
    }

    #[inline]
    fn half(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.map[at..at + 4].try_into().expect("four bytes"))
    }
}

/// A list that never moves what it holds, so that no append pays for a copy of everything.
#[derive(Default)]
struct Chunks<T> {
    chunks: Vec<Vec<T>>,
    length: usize,
}

impl<T: Copy> Chunks<T> {
    fn len(&self) -> usize {
        self.length
    }

    #[inline]
    fn push(&mut self, value: T) {
        if self.length % CHUNK == 0 {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks[self.length / CHUNK].push(value);
        self.length += 1;
    }

    #[inline]
    fn get(&self, at: usize) -> T {
        self.chunks[at / CHUNK][at % CHUNK]
    }
}
