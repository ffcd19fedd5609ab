//! Making a store of entries that come one by one, with the numbers that they had in another store.
//!
//! What comes is not believed: each number is compared with those before it, each length with its
//! limit. Memory holds one batch, however long the log is.

pub(crate) mod entry;
mod rows;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::format::compacted::Compacted;
use crate::format::count::EventCount;
use crate::format::manifest::{CursorTable, Manifest};
use crate::format::system::{Codec, KindInfo, Owner};
use crate::id::{KINDS_MAX, KindId, SEQ_MAX, Seq, StoreId};
use crate::journal::copying::{Copied, EmptyTarget, Numbered};
use crate::journal::core::Core;
use crate::journal::import::entry::{ImportEntry, ImportKind};
use crate::journal::opening::{start_anew, write_manifest};
use crate::journal::registry::{KindSpec, check, check_own};
use crate::journal::repair::era_behind;
use crate::options::{Durability, EPOCH_BATCH_BYTES_MAX, Options, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};

const DOING: &str = "import entries";

/// A batch may be this long in any import, whatever the origin's segments were.
const BATCH_BYTES_USUAL: u64 = 64 << 20;

/// The store that entries come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Origin {
    /// Its identity, which the new store keeps.
    pub store: StoreId,
    /// Its era; the new store's is a later one.
    pub era: u64,
    /// When it was made, in nanoseconds since 1970.
    pub created: i64,
    /// The size of its largest segment: each of its batches fits one.
    pub segment_bytes: u64,
    /// It has lost or forgotten entries: an entity that it does not know may have had some.
    pub forgot: bool,
}

impl Origin {
    /// A store with this identity, in this era, made at this time (nanoseconds since 1970).
    #[must_use]
    pub const fn new(store: StoreId, era: u64, created: i64) -> Self {
        Self { store, era, created, segment_bytes: BATCH_BYTES_USUAL, forgot: false }
    }

    /// The size of its largest segment. Default: 64 MiB.
    #[must_use]
    pub const fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Whether it has lost or forgotten entries. Default: no; an import with gaps sees for itself.
    #[must_use]
    pub const fn forgot(mut self, forgot: bool) -> Self {
        self.forgot = forgot;
        self
    }
}

/// What an import made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Imported {
    /// The identity of the store: that of its origin.
    pub store: String,
    /// Its era, later than its origin's: a cursor of another one does not count in it.
    #[serde(serialize_with = "crate::journal::stats::as_text")]
    pub era: u64,
    /// Kinds that were registered.
    pub kinds: u64,
    /// Entries that are in it.
    pub entries: u64,
    /// Batches that are in it.
    pub batches: u64,
    /// Runs of Seqs that are not in it.
    pub gaps: u64,
    /// How many Seqs that is.
    pub missing: u64,
    /// The last Seq that was given; the next entry gets the one behind it.
    pub last_seq: Option<Seq>,
    /// Segments that were written.
    pub segments: u64,
}

/// A store that is being made of entries, one after the other.
///
/// Seq, generation, time, batches and idempotency keys are those that the entries come with, and Seqs
/// that are missing stay so: they are never given again. The new store keeps the origin's identity and has
/// an era of its own, so nobody takes a position of the one for a position of the other. Cursors do not come along.
///
/// It becomes a store with [`finish`](Self::finish); dropped before that, nothing of it is left.
///
/// ```
/// use esker::{Generation, Import, ImportEntry, ImportKind, Journal, Origin, Seq, StoreId};
/// # fn main() -> esker::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("copy.esker");
/// let origin = Origin::new(StoreId::from_bytes([7; 16]), 1, 0);
/// let mut import = Import::begin(&path, origin)?;
/// let note = import.kind(ImportKind::new(1, "note"))?;
/// let (seq, generation) = (Seq::new(41).unwrap(), Generation::new(3).unwrap());
/// import.entry(ImportEntry::new(seq, generation, note, b"a".to_vec(), b"one".to_vec()))?;
/// let made = import.finish(Some(seq))?;
/// assert_eq!((made.entries, made.missing), (1, 40));
///
/// let journal = Journal::open(&path)?;
/// assert_eq!(journal.get(seq)?.unwrap().payload(), b"one");
/// # journal.close() }
/// ```
#[must_use = "an import that is not finished leaves nothing"]
pub struct Import {
    // Before the target: its files are let go of before they are removed.
    core: Core,
    target: EmptyTarget,
    /// The entries of a batch that is not complete.
    batch: Vec<ImportEntry>,
    batch_bytes: u64,
    batch_bytes_max: u64,
    last_seq: u64,
    /// The numbers of the last event of each kind that has come.
    events: HashMap<KindId, (u64, u64)>,
    /// Sources that rows name, and nobody has registered: one bit each.
    unnamed: u64,
    /// Bytes that were copied since the last gap.
    since_gap: u64,
    segment_bytes: u64,
    done: Imported,
    /// A call failed: what is there may be a part of what was meant.
    failed: bool,
}

impl Import {
    /// Begins a store in a directory that is empty or not there.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` for one that is not empty, `NotADirectory`, and what making a store can come to.
    pub fn begin(target: impl AsRef<Path>, origin: Origin) -> Result<Self> {
        Self::into_target(EmptyTarget::at(target.as_ref(), DOING)?, origin)
    }

    /// As [`begin`](Self::begin), on a simulated disk, which is empty.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    #[cfg(feature = "simulator")]
    pub fn begin_on(disk: &crate::disk::simulator::Simulator, origin: Origin) -> Result<Self> {
        Self::into_target(EmptyTarget::on(disk.directory(), DOING)?, origin)
    }

    fn into_target(target: EmptyTarget, origin: Origin) -> Result<Self> {
        let Origin { store, era, created, segment_bytes, forgot } = origin;
        let era = era_behind(era);
        let manifest = Manifest {
            compacted: Compacted::default(),
            store,
            era,
            created,
            table: CursorTable::default(),
            ancestors: Vec::new(),
            lost: Vec::new(),
            sections: Vec::new(),
            read_only: false,
            backup: None,
            features: (0, 0),
        };
        let segment_bytes = segment_bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX).next_multiple_of(4096);
        let options =
            Options::new().durability(Durability::Os).background(false).segment_bytes(segment_bytes);
        let core = start_anew(target.directory(), options, manifest)?;
        core.writer.lock().forgot = forgot;
        let done = Imported {
            store: store.to_string(),
            era,
            kinds: 0,
            entries: 0,
            batches: 0,
            gaps: 0,
            missing: 0,
            last_seq: None,
            segments: 0,
        };
        Ok(Self {
            core,
            target,
            batch: Vec::new(),
            batch_bytes: 0,
            // The end of an epoch may be greater than any other batch.
            batch_bytes_max: segment_bytes.max(EPOCH_BATCH_BYTES_MAX),
            last_seq: 0,
            events: HashMap::new(),
            unnamed: 0,
            since_gap: 0,
            segment_bytes,
            done,
            failed: false,
        })
    }

    /// Registers a kind, with the number that it had. Kinds come before entries.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for what no kind may be, a number or name that was there before, or a kind behind an entry.
    pub fn kind(&mut self, kind: ImportKind) -> Result<KindId> {
        let done = self.try_kind(kind);
        self.failed |= done.is_err();
        done
    }

    fn try_kind(&mut self, kind: ImportKind) -> Result<KindId> {
        let ImportKind { number, name, version, codec, owner, fields, keep, last_event } = kind;
        let refused =
            |what: &str| Error::new(ErrorKind::InvalidInput, format!("import the kind {name:?}: {what}"));
        if !(1..=KINDS_MAX).contains(&number) {
            return Err(refused("its number").sides(format!("1 to {KINDS_MAX}"), number));
        }
        if self.last_seq > 0 || !self.batch.is_empty() {
            return Err(refused("its place").sides("kinds before entries", "one behind an entry"));
        }
        let mut registry = self.core.registry.write();
        if let Some(known) = registry.get(KindId(number)) {
            return Err(
                refused("its number").sides("one that no kind has", format!("that of {:?}", known.name))
            );
        }
        if registry.named(&name).is_some() {
            return Err(refused("its name").sides("one that no kind has", "one that is there"));
        }
        if last_event.0.max(last_event.1) > SEQ_MAX {
            return Err(refused("the number of its last event")
                .sides(format!("at most {SEQ_MAX}"), format!("{last_event:?}")));
        }
        let spec = KindSpec { name, version, codec, owner, fields };
        check_own(&spec)?;
        check(&spec)?;
        registry.learn(KindInfo { keep, ..spec.numbered(KindId(number)) });
        if owner == Owner::Events {
            registry.learn_count(EventCount { kind: KindId(number), sequence: last_event });
        }
        self.done.kinds += 1;
        Ok(KindId(number))
    }

    /// Adds an entry behind those before it. A batch is written when it is complete.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an entry over its limits, a Seq or a generation that is not behind those before
    /// it, a generation that leaves one out where no Seq is left out, or a batch with a Seq left out in it;
    /// `UnknownKind`, `BatchTooLarge`, and what appending can come to. Nothing can be added then.
    pub fn entry(&mut self, entry: ImportEntry) -> Result<()> {
        let done = self.check_sound().and_then(|()| self.try_entry(entry));
        self.failed |= done.is_err();
        done
    }

    fn try_entry(&mut self, entry: ImportEntry) -> Result<()> {
        let seq = entry.seq.get();
        let Some(gap) = seq.checked_sub(self.last_seq + 1) else {
            return Err(refused(seq, "its Seq").sides(format!("one behind {}", self.last_seq), seq));
        };
        entry.check()?;
        let known =
            self.core.registry.read().get(entry.kind).map(|kind| (kind.codec, kind.owner, kind.version));
        let Some((codec, owner, version)) = known else {
            return Err(Error::new(ErrorKind::UnknownKind, format!("import entry {seq}"))
                .sides("a kind that was registered before", entry.kind));
        };
        let (found, is_of) = match (entry.row, entry.event) {
            (None, None) => ("a fact", Owner::Facts),
            (Some(_), None) => ("a row", Owner::State),
            (None, Some(_)) => ("an operation", Owner::Events),
            (Some(_), Some(_)) => ("a row and an operation", Owner::Facts),
        };
        if is_of != owner || entry.row.is_some() && entry.event.is_some() {
            return Err(refused(seq, "its kind").sides(format!("what the owner {owner:?} writes"), found));
        }
        if let Some((operation, mark)) = entry.row {
            self.check_row(seq, version, operation, mark)?;
        }
        self.check_operation(seq, version, &entry)?;
        if entry.tombstone && entry.row.is_none() && codec != Codec::Bytes {
            return Err(refused(seq, "its kind, of which it is a tombstone")
                .sides("one whose payloads are bytes", format!("codec {codec:?}")));
        }
        if gap > 0 && !self.batch.is_empty() {
            return Err(refused(seq, "its batch, which goes on behind the entry before")
                .sides(format!("entry {}", self.last_seq + 1), seq));
        }
        if !self.batch.is_empty() && entry.idempotency_key.is_some() {
            return Err(refused(seq, "its idempotency key")
                .sides("one at the beginning of a batch", "one in the middle"));
        }
        self.batch_bytes += entry.numbered().draft.bytes();
        if self.batch_bytes > self.batch_bytes_max {
            return Err(Error::new(ErrorKind::BatchTooLarge, format!("import entry {seq}"))
                .sides(format!("at most {} bytes", self.batch_bytes_max), self.batch_bytes));
        }
        if gap > 0 {
            self.done.gaps += 1;
            self.done.missing += gap;
            self.since_gap = 0;
        }
        self.last_seq = seq;
        let more = entry.more;
        self.batch.push(entry);
        if more { Ok(()) } else { self.write() }
    }

    /// Writes the batch, which is complete.
    fn write(&mut self) -> Result<()> {
        let entries: Vec<Numbered<'_>> = self.batch.iter().map(ImportEntry::numbered).collect();
        // Behind a gap segments are small, and grow with what comes behind it: where every other entry is
        // missing, each is in a segment of its own.
        self.core.options.segment_bytes = match self.done.gaps {
            0 => self.segment_bytes,
            _ => self
                .since_gap
                .saturating_mul(2)
                .clamp(SEGMENT_BYTES_MIN, self.segment_bytes)
                .next_multiple_of(4096),
        };
        match self.core.copy_batch(&entries)? {
            Copied::Whole => {}
            Copied::SeqTaken { last_seq } => {
                let first = self.batch.first().map_or(0, |entry| entry.seq.get());
                return Err(refused(first, "its Seq").sides(format!("one behind {last_seq}"), first));
            }
            Copied::GenerationTaken { seq, known } => {
                let found = self.generation_of(seq);
                return Err(refused(seq, "its generation").sides(format!("one behind {known}"), found));
            }
            Copied::GenerationLeap { seq, known } => {
                let expected = format!("{}, because no Seq is left out behind it", known + 1);
                return Err(refused(seq, "its generation").sides(expected, self.generation_of(seq)));
            }
        }
        // The next preamble restates them.
        let mut registry = self.core.registry.write();
        for entry in &self.batch {
            if let Some((_, mark)) = entry.event {
                registry.learn_count(EventCount { kind: entry.kind, sequence: mark.sequence });
            }
        }
        drop(registry);
        self.done.batches += 1;
        self.done.entries += self.batch.len() as u64;
        self.since_gap = self.since_gap.saturating_add(self.batch_bytes);
        self.batch.clear();
        self.batch_bytes = 0;
        Ok(())
    }

    fn generation_of(&self, seq: u64) -> u64 {
        let found = self.batch.iter().find(|entry| entry.seq.get() == seq);
        found.map_or(0, |entry| entry.generation.get())
    }

    fn check_sound(&self) -> Result<()> {
        if self.failed {
            return Err(Error::new(ErrorKind::InvalidInput, "go on with an import")
                .sides("one of which every call succeeded", "one that failed"));
        }
        Ok(())
    }

    /// Makes a store of it: everything durable, and the manifest last. `last_seq` is the last Seq that the
    /// origin has given, also where that entry is not among these.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a batch that goes on, a `last_seq` before the last entry, or an import of which a
    /// call failed; and what syncing and writing can come to. Nothing is left then.
    pub fn finish(mut self, last_seq: Option<Seq>) -> Result<Imported> {
        self.check_sound()?;
        let refused = |what: &str| Error::new(ErrorKind::InvalidInput, format!("finish the import: {what}"));
        if !self.batch.is_empty() {
            return Err(refused("its last batch").sides("the rest of it", "no entry"));
        }
        let last = last_seq.map_or(0, Seq::get);
        if last < self.last_seq || last > SEQ_MAX {
            let expected = format!("{} to {SEQ_MAX}", self.last_seq);
            return Err(refused("the last Seq").sides(expected, last));
        }
        self.check_who_asserts()?;
        if last > self.last_seq {
            self.done.gaps += 1;
            self.done.missing += last - self.last_seq;
        }
        self.core.finish_copy(last)?;
        let directory = self.target.directory();
        write_manifest(&*directory, &self.core.manifest)?;
        self.core.close(true)?;
        directory
            .sync_parent()
            .map_err(|e| Error::io("make the store's name durable", e).at(directory.path()))?;
        self.done.segments = self.core.index.catalog().sections.len() as u64;
        self.done.last_seq = last_seq;
        self.target.keep();
        Ok(self.done.clone())
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        // Of a store that was not finished nothing is left: whether it closes well does not matter.
        let _ = self.core.close(false);
    }
}

impl fmt::Debug for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Import").field("done", &self.done).field("last_seq", &self.last_seq).finish()
    }
}

fn refused(seq: u64, what: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("import entry {seq}: {what}"))
}
