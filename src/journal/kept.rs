//! Saving what compaction kept of a damaged store.
//!
//! Numbers have gaps there, which a log of segments has not. So everything up to where the last compacted
//! stretch ends goes into parts of the new store, whatever it stood in: they hold any numbers that rise.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use crate::disk::Directory;
use crate::error::{Error, Result};
use crate::format::compacted::{Compacted, Cover};
use crate::format::frame::{Frame, flag};
use crate::format::index::{EntityHash, Keyed};
use crate::format::part::Answer;
use crate::format::segment::file_name;
use crate::format::system::System;
use crate::id::{PART, Position, StoreId};
use crate::index::EntityHasher;
use crate::index::keyed::KeyedReader;
use crate::log::lock::{now, random};
use crate::log::part::{PartWriter, write_answer};
use crate::log::report::Damage;
use crate::log::segment::Segment;
use crate::log::visitor::Visitor;

/// Copies all entries up to a Seq into parts of a new store.
pub(crate) struct KeptCopy<'a> {
    to: &'a dyn Directory,
    store: StoreId,
    hasher: EntityHasher,
    /// What compaction had made of the old store.
    old: &'a Compacted,
    /// The last Seq that goes into a part.
    through: u64,
    part_bytes: u64,
    new: Compacted,
    part: Option<PartWriter<'a>>,
    /// The last Seq in a part so far.
    last: u64,
    generations: HashMap<EntityHash, u64>,
    keyed: KeyedReader,
    /// The frames of the batch that is being read, each whole.
    batch: Vec<Vec<u8>>,
    answers: BTreeMap<[u8; 16], (Keyed, Vec<u64>)>,
    done: Done,
}

/// What was copied, and what was not.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) entries: u64,
    pub(crate) batches: u64,
    pub(crate) bytes: u64,
    /// Batches that are whole and contradict what came before them.
    pub(crate) refused: u64,
}

impl<'a> KeptCopy<'a> {
    /// `None` if nothing was ever compacted.
    pub(crate) fn of(
        to: &'a dyn Directory,
        store: StoreId,
        old: &'a Compacted,
        part_bytes: u64,
    ) -> Option<Self> {
        let through = old.covers.last()?.last_seq;
        Some(Self {
            to,
            store,
            hasher: EntityHasher::new(store),
            old,
            through,
            part_bytes,
            new: Compacted { floors: old.floors.clone(), ..Compacted::default() },
            part: None,
            last: 0,
            generations: HashMap::new(),
            keyed: KeyedReader::default(),
            batch: Vec::new(),
            answers: BTreeMap::new(),
            done: Done::default(),
        })
    }

    /// What the new store's manifest says.
    pub(crate) fn finish(mut self) -> Result<(Compacted, Done)> {
        self.end_part(self.through)?;
        Ok((self.new, self.done))
    }

    fn part(&mut self) -> Result<&mut PartWriter<'a>> {
        if self.part.is_none() {
            self.new.parts_numbered += 1;
            let number = self.new.parts_numbered | PART;
            let salt = u64::from_le_bytes(random().map_err(|e| Error::io("draw a part's salt", e))?);
            self.part = Some(PartWriter::begin(self.to, number, salt).map_err(|e| self.failed(e))?);
        }
        self.part.as_mut().ok_or_else(|| Error::corrupt("begin a part"))
    }

    fn failed(&self, error: io::Error) -> Error {
        let name = file_name(self.new.parts_numbered | PART);
        Error::io("write a part of the repaired store", error).at(self.to.path().join(name))
    }

    /// Ends the part, which stands for everything from where the one before ended to a Seq.
    fn end_part(&mut self, last_seq: u64) -> Result<()> {
        for (keyed, generations) in std::mem::take(&mut self.answers).into_values() {
            let written = write_answer(self.part()?, keyed, &generations, last_seq);
            written.map_err(|e| self.failed(e))?;
        }
        let number = u32::try_from(self.new.covers.len() + 1).unwrap_or(PART - 1);
        let before = self.new.covers.last();
        let cover = Cover {
            first: number,
            last: number,
            follows: before.map_or(Position::ZERO, |before| Position::new(before.last, 0)),
            first_seq: before.map_or(1, |before| before.last_seq + 1),
            last_seq,
            part: None,
        };
        let cover = match self.part.take() {
            // The directory is synced with the manifest, which comes last.
            Some(part) => part.finish(self.store, cover, now(), |_, _| Ok(()))?,
            None => cover,
        };
        self.new.covers.push(cover);
        Ok(())
    }

    fn user_frame(&mut self, frame: &Frame<'_>) -> Result<()> {
        self.batch.push(frame.to_bytes());
        if frame.header.has(flag::MORE) {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        let frames: Vec<_> = batch.iter().filter_map(|bytes| Frame::parse(bytes)).collect();
        if frames.first().is_none_or(|first| first.header.seq.get() > self.through) {
            return Ok(());
        }
        if !self.follows(&frames) {
            self.done.refused += 1;
            return Ok(());
        }
        self.copy_batch(&frames)
    }

    /// True if the numbers of a batch lie behind those that are there.
    fn follows(&self, batch: &[Frame<'_>]) -> bool {
        let seqs = batch.iter().map(|frame| frame.header.seq.get());
        if !std::iter::once(self.last).chain(seqs).is_sorted_by(|before, seq| before < seq) {
            return false;
        }
        let mut newest: HashMap<EntityHash, u64> = HashMap::new();
        batch.iter().all(|frame| {
            let hash = self.hasher.hash(frame.header.kind.get(), frame.key());
            let generation = frame.header.generation.get();
            let before = newest.insert(hash, generation).or_else(|| self.generations.get(&hash).copied());
            before.is_none_or(|before| before < generation)
        })
    }

    fn copy_batch(&mut self, batch: &[Frame<'_>]) -> Result<()> {
        for (ordinal, frame) in batch.iter().enumerate() {
            let header = frame.header;
            let (kind, generation) = (header.kind.get(), header.generation.get());
            let before = self.generations.insert(self.hasher.hash(kind, frame.key()), generation);
            let is_dense = before.is_some_and(|before| before.checked_add(1) == Some(generation));
            let mut flags = header.flags();
            if !is_dense && self.old.floor(kind) == 0 {
                // What is missing was lost, and not dropped: the history is dense from here on.
                flags |= flag::FIRST;
            }
            let pushed = self.part()?.push(frame, flags);
            pushed.map_err(|e| self.failed(e))?;
            if let Some(keyed) = self.keyed.frame(frame) {
                let first = (ordinal + 1).checked_sub(keyed.frames as usize);
                let of_it = first.and_then(|first| batch.get(first..=ordinal));
                if let Some(of_it) = of_it {
                    let generations = of_it.iter().map(|frame| frame.header.generation.get()).collect();
                    self.answers.insert(keyed.key.0, (keyed, generations));
                }
            }
            self.last = header.seq.get();
            self.done.bytes += frame.len() as u64;
        }
        self.done.entries += batch.len() as u64;
        self.done.batches += 1;
        let is_full = self.part.as_ref().is_some_and(|part| part.end() >= self.part_bytes);
        if is_full && self.last < self.through {
            self.end_part(self.last)?;
        }
        Ok(())
    }

    /// The answer to a keyed batch whose entries were dropped.
    fn answer(&mut self, answer: Answer) {
        let (_, generations) =
            self.answers.entry(answer.keyed.key.0).or_insert_with(|| (answer.keyed, Vec::new()));
        if generations.len() == answer.from as usize {
            generations.extend(answer.generations);
        }
    }
}

impl Visitor for KeptCopy<'_> {
    fn enter(&mut self, _: &Arc<Segment>, _: u64, _: u64) -> Result<()> {
        self.batch.clear();
        Ok(())
    }

    fn frame(&mut self, _: Position, frame: &Frame<'_>) -> Result<()> {
        if !frame.header.is_system() {
            return self.user_frame(frame);
        }
        if System::of(frame.header.operation) == Some(System::Answer)
            && let Some(answer) = Answer::read(frame.payload())
        {
            self.answer(answer);
        }
        Ok(())
    }

    fn lost(&mut self, damage: &Damage) {
        // Of a kind of which something was dropped nobody can tell what is missing for which reason.
        for floor in self.new.floors.values_mut().filter(|_| damage.first_seq <= self.through) {
            *floor = (*floor).max(damage.last_seq.min(self.through) + 1);
        }
    }
}
