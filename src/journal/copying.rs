//! Appending what was in another store, with the numbers that it had there.
//!
//! A repair and an import do this: Seq, generation, time and idempotency key of an entry stay what
//! they were. Where Seqs are missing a segment begins, whose preamble says how many, and the next
//! entry of a history with a hole is flagged as the first of a dense one.
//!
//! What is copied into is a store only with its manifest, which is written last.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::disk::Directory;
use crate::disk::posix::PosixDirectory;
use crate::error::{Error, ErrorKind, Result};
use crate::format::extension::Extensions;
use crate::format::frame::{Frame, flag};
use crate::format::index::EntityHash;
use crate::format::manifest;
use crate::id::SEQ_MAX;
use crate::index::entities::Touched;
use crate::index::keyed::KeyedReader;
use crate::journal::core::{Core, Stage, Writer};
use crate::journal::directory::make_directory;
use crate::journal::identity::type_of;
use crate::journal::reserve;
use crate::log::writer::{Draft, Numbers};

/// An entry with the numbers that it had.
pub(crate) struct Numbered<'a> {
    pub(crate) draft: Draft<'a>,
    pub(crate) numbers: Numbers,
}

impl<'a> Numbered<'a> {
    /// The entry that a frame holds.
    ///
    /// # Errors
    ///
    /// `FormatTooNew` for more extensions than this build writes.
    pub(crate) fn of(frame: &Frame<'a>) -> Result<Self> {
        let extensions = Extensions::of_row(frame.extensions()).ok_or_else(|| {
            Error::new(ErrorKind::FormatTooNew, format!("copy entry {}", frame.header.seq))
                .sides(format!("{} bytes of extensions", Extensions::BYTES_MAX), frame.extensions().len())
        })?;
        let header = frame.header;
        let (kind, operation) = (header.kind.get(), header.operation);
        let (key, metadata, payload) = (frame.key(), frame.metadata(), frame.payload());
        let mut draft = Draft::new(operation, kind, Some(Box::new(extensions)), key, metadata, payload);
        draft.source = header.source();
        let (seq, generation, time) = (header.seq.get(), header.generation.get(), header.time.get());
        Ok(Self { draft, numbers: Numbers { flags: header.flags(), seq, generation, time } })
    }
}

/// What became of a batch that was to be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copied {
    Whole,
    /// Its first Seq is not behind everything that is there.
    SeqTaken {
        last_seq: u64,
    },
    /// An entry's generation is not behind the one that its entity has.
    GenerationTaken {
        seq: u64,
        known: u64,
    },
    /// A generation is left out where no Seq is: the entry that had it has no place.
    GenerationLeap {
        seq: u64,
        known: u64,
    },
}

impl Core {
    /// Appends a batch, whose Seqs are dense, with the numbers that it had: all of it or nothing.
    pub(crate) fn copy_batch(&self, entries: &[Numbered<'_>]) -> Result<Copied> {
        let Some(first) = entries.first().map(|first| first.numbers.seq) else { return Ok(Copied::Whole) };
        let hash = |entry: &Numbered<'_>| self.index.hash(entry.draft.kind, entry.draft.key);
        let hashes: Vec<EntityHash> = entries.iter().map(hash).collect();
        hashes.iter().try_for_each(|hash| self.index.touch(*hash).map(drop))?;
        let bytes = entries.iter().map(|entry| entry.draft.bytes()).sum::<u64>();
        let mut writer = match self.room_for(first, bytes)? {
            Ok(writer) => writer,
            Err(last_seq) => return Ok(Copied::SeqTaken { last_seq }),
        };
        let durable = self.commit.durable();
        let Writer { stage, keyed: window, last_seq, .. } = &mut *writer;
        let Stage::Writing(active) = stage else { return Ok(Copied::SeqTaken { last_seq: *last_seq }) };
        let start = active.log.end();
        let mut newest: HashMap<EntityHash, u64> = HashMap::new();
        for (entry, hash) in entries.iter().zip(&hashes) {
            let Numbers { seq, generation, .. } = entry.numbers;
            let known = match newest.insert(*hash, generation) {
                Some(known) => Some((known, true)),
                None => self.index.find(*hash)?.map(|known| {
                    // An index counts an entity's entries in a segment up from the first of them.
                    (known.generation, known.newest.segment() == start.segment())
                }),
            };
            match known {
                Some((known, _)) if known >= generation => {
                    return Ok(Copied::GenerationTaken { seq, known });
                }
                Some((known, true)) if known + 1 != generation => {
                    return Ok(Copied::GenerationLeap { seq, known });
                }
                _ => {}
            }
        }
        let catalog = self.index.catalog();
        let mut offsets = Vec::with_capacity(entries.len());
        for (Numbered { draft, numbers }, hash) in entries.iter().zip(&hashes) {
            let mut numbers = *numbers;
            active.index_next(&self.index.entities, (*hash, Touched::default()), |before| {
                let is_dense =
                    before.is_some_and(|known| known.generation.checked_add(1) == Some(numbers.generation));
                // What compaction has dropped is missing on purpose: no history begins behind it.
                if !is_dense && catalog.compacted.floor(draft.kind) == 0 {
                    numbers.flags |= flag::FIRST;
                }
                numbers.generation
            });
            *last_seq = numbers.seq;
            offsets.push(active.log.push(draft, numbers, durable));
        }
        let finished = active.log.finish();
        let end = active.log.end();
        finished.map_err(|error| self.write_failed(start, error))?;
        let mut keyed = KeyedReader::default();
        for frame in offsets.into_iter().filter_map(|offset| active.log.segment.frame(offset)) {
            if let Some(keyed) = keyed.frame(&frame) {
                active.live.keyed.lock().push(keyed);
                window.remember(start.segment(), keyed, keyed.time);
            }
        }
        self.commit.publish(end);
        Ok(Copied::Whole)
    }

    /// The writer, where the entry `first` can be stored with `bytes`; else the last Seq, which is
    /// not before it.
    fn room_for(
        &self,
        first: u64,
        bytes: u64,
    ) -> Result<std::result::Result<parking_lot::MutexGuard<'_, Writer>, u64>> {
        loop {
            let mut writer = self.writer.lock();
            self.check_writable()?;
            let Some(gap) = first.checked_sub(writer.last_seq + 1) else { return Ok(Err(writer.last_seq)) };
            writer.lost = gap;
            // Whoever is missing may be the last of an entity of which nothing else is known here.
            writer.forgot |= gap > 0;
            let active = match &writer.stage {
                Stage::Writing(active) => Some(active.log.end().segment()),
                _ => None,
            };
            let moved = match active {
                Some(_) if gap == 0 => {
                    if self.make_room(&mut writer, bytes)? {
                        return Ok(Ok(writer));
                    }
                    false
                }
                // The next segment's preamble says how many are missing.
                Some(active) => match self.keeper.take_spare(active, bytes) {
                    Some(spare) => {
                        self.rotate(&mut writer, spare)?;
                        true
                    }
                    None => false,
                },
                None => false,
            };
            drop(writer);
            if moved {
                continue;
            }
            if active.is_some() {
                // What is full becomes durable and gets its index, so that memory stays small.
                self.wait_durable(self.commit.visible())?;
                self.maintain()?;
                let _making = self.keeper.making.lock();
                self.make_spare(bytes)?;
            } else {
                self.prepare(bytes)?;
            }
        }
    }

    /// Nothing more is to come: the numbers go on behind `last_seq`, whether it is there or lost.
    pub(crate) fn finish_copy(&self, last_seq: u64) -> Result<()> {
        drop(self.room_for(last_seq.min(SEQ_MAX) + 1, 0)?);
        self.wait_durable(self.commit.visible()).map(|_| ())
    }
}

/// An empty directory that is to become a store. Unless it is kept, it is emptied again.
pub(crate) struct EmptyTarget {
    directory: Arc<dyn Directory>,
    /// It was not there before.
    made: bool,
    kept: bool,
}

impl EmptyTarget {
    /// A directory of the file system, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` for one that is not empty, `NotADirectory`, and what making one can come to.
    pub(crate) fn at(path: &Path, doing: &'static str) -> Result<Self> {
        let failed = |e| Error::io(doing, e).at(path);
        let made = match std::fs::metadata(path) {
            Ok(found) if !found.is_dir() => {
                return Err(Error::new(ErrorKind::NotADirectory, doing).at(path));
            }
            Ok(_) => false,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                make_directory(path).map_err(failed)?;
                true
            }
            Err(error) => return Err(failed(error)),
        };
        let opened = PosixDirectory::open(path).map_err(failed);
        let target = opened.and_then(|directory| Self::on(Arc::new(directory), doing));
        if target.is_err() && made {
            let _ = std::fs::remove_dir(path);
        }
        let mut target = target?;
        target.made = made;
        Ok(target)
    }

    pub(crate) fn on(directory: Arc<dyn Directory>, doing: &'static str) -> Result<Self> {
        let names = directory.list().map_err(|e| Error::io(doing, e).at(directory.path()))?;
        if let Some(name) = names.first() {
            return Err(Error::new(ErrorKind::AlreadyExists, doing)
                .at(directory.path())
                .sides("an empty directory, or a new one", format!("a file named {:?}", name.name)));
        }
        Ok(Self { directory, made: false, kept: false })
    }

    pub(crate) fn directory(&self) -> Arc<dyn Directory> {
        Arc::clone(&self.directory)
    }

    /// It is a store now.
    pub(crate) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for EmptyTarget {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // The manifest goes first, so that no part of a store is left.
        let _ = self.directory.remove(manifest::FILE_NAME);
        for entry in self.directory.list().unwrap_or_default() {
            // What somebody else has put there meanwhile is not ours to remove.
            let name = entry.name.strip_suffix(".tmp").unwrap_or(&entry.name);
            if type_of(name).is_some() || name == reserve::FILE_NAME {
                let _ = self.directory.remove(&entry.name);
            }
        }
        if self.made {
            let _ = std::fs::remove_dir(self.directory.path());
        }
    }
}
