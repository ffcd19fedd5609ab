//! Frames in segments: where the next one goes, and the bytes of those that stand.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::segment::{Maker, Readiness, SEGMENT_BYTES, Segment, segment_path};
use crate::engine::Outcome;

/// Segment number and offset, growing along the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub u64);

impl Position {
    fn new(segment: usize, offset: usize) -> Self {
        Self((segment as u64) << 32 | offset as u64)
    }

    pub fn segment(self) -> usize {
        (self.0 >> 32) as usize
    }

    fn offset(self) -> usize {
        self.0 as u32 as usize
    }
}

pub struct MappedLog {
    dir: PathBuf,
    readiness: Readiness,
    segments: Vec<Arc<Segment>>,
    /// Where the next frame goes in the last segment, if this process made it.
    end: usize,
    maker: Option<Maker>,
}

impl MappedLog {
    /// Maps the segments that are there; a new log gets its first one at once, and its spares.
    pub fn open(dir: &Path, readiness: Readiness) -> Outcome<Self> {
        let mut segments = Vec::new();
        while let path = segment_path(dir, segments.len())
            && path.exists()
        {
            segments.push(Arc::new(Segment::open(&path)?));
        }
        let mut log = Self { dir: dir.to_path_buf(), readiness, segments, end: SEGMENT_BYTES, maker: None };
        if log.segments.is_empty() {
            log.rotate()?;
            log.maker.iter().for_each(Maker::wait_for_spares);
        }
        Ok(log)
    }

    /// The position of a frame of `length` bytes to be stored next.
    #[inline]
    pub fn reserve(&mut self, length: usize) -> Outcome<Position> {
        if self.end + length > SEGMENT_BYTES {
            self.rotate()?;
        }
        let position = Position::new(self.segments.len() - 1, self.end);
        self.end += length;
        Ok(position)
    }

    #[inline]
    pub fn store(&self, position: Position, parts: &[&[u8]]) {
        self.segments[position.segment()].store(position.offset(), parts);
    }

    #[inline]
    pub fn bytes(&self, position: Position, from: usize, length: usize) -> &[u8] {
        self.segments[position.segment()].bytes(position.offset() + from, length)
    }

    pub fn end(&self) -> Position {
        Position::new(self.segments.len() - 1, self.end)
    }

    /// The segments that hold anything at or above `position`.
    pub fn segments_from(&self, position: Position) -> Vec<Arc<Segment>> {
        self.segments[position.segment().min(self.segments.len())..].to_vec()
    }

    /// Calls `frame` with each position until the segment's frames end; `frame` says how long it was.
    pub fn walk(&self, mut frame: impl FnMut(&Self, Position, usize) -> Option<usize>) {
        for (number, segment) in self.segments.iter().enumerate() {
            let mut offset = 0;
            while offset < segment.len()
                && let Some(length) = frame(self, Position::new(number, offset), segment.len() - offset)
            {
                offset += length;
            }
        }
    }

    /// Removes the spares and what lies behind the last frame.
    pub fn close(mut self) -> io::Result<()> {
        if self.maker.take().is_none() {
            return Ok(());
        }
        let mut spare = self.segments.len();
        while let path = segment_path(&self.dir, spare)
            && path.exists()
        {
            fs::remove_file(path)?;
            spare += 1;
        }
        match self.segments.pop().map(Arc::try_unwrap) {
            Some(Ok(last)) => last.shrink(self.end),
            _ => Ok(()),
        }
    }

    fn rotate(&mut self) -> Outcome {
        let number = self.segments.len();
        let (dir, readiness) = (&self.dir, self.readiness);
        let maker = self.maker.get_or_insert_with(|| Maker::start(dir, number, readiness));
        self.segments.push(Arc::new(maker.take()?));
        self.end = 0;
        Ok(())
    }
}
