//! The journal: bytes in, entries out. One writer, any number of readers.
//!
//! # Locks, in the order in which they are taken
//!
//! Before all of them: the window of live state (`state::engine`), which is appended under its own lock, and under which
//! sources are claimed and registered. A clock that is moved by hand is looked at under it, and takes it when it tells of
//! a move, with no lock of its own. And `Core::registrations`, under which who needs a topic's events registers, and floors rise.
//!
//! 0. `Compacting::turn` — whoever compacts, and whoever closes; then `Compacting::steady` — compaction
//!    that puts something in place, and whoever makes a cursor or puts it somewhere
//! 1. `Keeper::making` — whoever makes segments
//! 2. `Core::writer` — whoever appends: numbers, the active segment, the idempotency window
//! 3. `Keeper::indexing` — whoever writes indexes and the directory of entities
//! 4. `Section::opening` — whoever opens a segment that nobody has touched yet
//! 5. a shard of the directory of entities, and under it the directory's file
//! 6. the registry, the catalog, `Core::unsynced`, the spare, `Keeper::writable_through`, the lists
//!    of a segment's arrays — each held for a few steps, none of them under another
//!    the manifest's table of cursors (`Core::table`) while the manifest is replaced, and under it the
//!    registry and the catalog
//! 7. `Commit::turn` — the marks and the syncer's turn; never held across a sync
//! 8. the beds of the two threads (`Keeper::work`, `Idle::state`), what the feed keeps
//!    (`Feed::pending`, the beds of readers, a `Sleeper`) and the names of cursors in hand
//!    (`Core::cursors_held`): nothing else is taken under one of them
//!
//! Beside them: `Tasks::state`, under which a `Sleeper` is woken and nothing else is taken; it is
//! never held while a thread is joined.
//!
//! # Threads
//!
//! Two, started by the first append, asleep while nothing happens, and a third one if it is asked for:
//!
//! * *keeper*: makes the next segment ahead, syncs full ones where very many are not, writes the
//!   indexes of sealed ones and the directory
//! * *sync*: syncs at the interval, brings full segments to the disk where nobody syncs, and
//!   names the durable mark in the log when it went idle
//! * *compact*: compacts at an interval; not the keeper, for which appends would have to wait
//!
//! A fourth, *pulse*, flushes the windows of live state (`state::engine`) and ends sources that fell silent
//! (`state::ending`); it runs none of the user's code.
//!
//! And one for each reactor, which runs the user's code (`tasks`): asleep while nothing comes.
//!
//! A reader that follows the log ([`Subscriber`](crate::Subscriber), [`Watcher`](crate::Watcher))
//! has no thread here: it runs in whatever thread calls it, and sleeps there.
//!
//! A scan, and a point read by Seq, take no lock that the writer holds while it stores. Who asks for
//! an entity takes its shard, which the writer holds for the few steps of one entry.

pub(crate) mod backup;
mod base;
pub(crate) mod compaction;
#[cfg(test)]
mod copied_tests;
mod copying;
pub(crate) mod core;
pub(crate) mod cursors;
mod directory;
pub(crate) mod durable;
pub(crate) mod entry;
pub(crate) mod erasing;
pub(crate) mod finding;
mod first_segment;
mod gaps;
pub(crate) mod history;
pub(crate) mod holds;
#[cfg(test)]
mod hostile_tests;
mod identity;
mod idle;
pub(crate) mod import;
pub(crate) mod keeper;
pub(crate) mod kept;
mod kinds;
mod known;
pub(crate) mod latest;
pub(crate) mod lodger;
mod newer;
pub(crate) mod onlooker;
pub(crate) mod opening;
mod pages;
#[cfg(test)]
mod passing_tests;
pub(crate) mod past;
pub(crate) mod pins;
mod planning;
pub(crate) mod reader;
pub(crate) mod record;
#[cfg(test)]
mod refused_tests;
pub(crate) mod region;
pub(crate) mod registry;
pub(crate) mod repair;
mod reserve;
pub(crate) mod rotation;
pub(crate) mod rows;
pub(crate) mod scan;
mod sieve;
pub(crate) mod source;
pub(crate) mod stamped;
pub(crate) mod stats;
#[cfg(feature = "async")]
pub(crate) mod stream;
pub(crate) mod subscriber;
pub(crate) mod tasks;
mod threads;
pub(crate) mod upgrade;
pub(crate) mod verify;
pub(crate) mod view;
pub(crate) mod wait_set;
pub(crate) mod waiting;
pub(crate) mod watcher;
pub(crate) mod window;

use std::mem::ManuallyDrop;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::{Arc, Weak};

use crate::disk::memory::MemoryDirectory;
use crate::error::{Error, ErrorKind, Result};
use crate::format::system::{Codec, KindInfo, Owner};
use crate::id::{IdempotencyKey, KindId, Position, Seq, StoreId};
use crate::journal::core::Core;
use crate::journal::entry::OwnedEntry;
use crate::journal::finding::{Check, Verification};
use crate::journal::record::{Batch, Receipt, Record, Ticket};
use crate::journal::region::Region;
use crate::journal::registry::KindSpec;
use crate::journal::stats::Stats;
use crate::journal::threads::Threads;
use crate::journal::view::{View, owned};
use crate::log::report::RecoveryReport;
use crate::options::{Options, Presence};

/// A store, open for writing: the log of bytes behind everything.
///
/// Clones share one engine; any of them may be used from any thread. The directory is held
/// until [`close`](Self::close), or until the last clone is dropped; a batch or a ticket that is
/// left then answers `Closed`.
///
/// ```
/// use esker::{Journal, Record};
/// # fn main() -> esker::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// let journal = Journal::open(directory.path().join("harbour.esker"))?;
/// let vessel = journal.kind("vessel")?;
/// journal.append(Record::new(vessel, b"mmsi:2190", b"11.2 knots"))?;
/// journal.append(Record::new(vessel, b"mmsi:2190", b"12.0 knots"))?;
///
/// let view = journal.view();
/// for entry in view.entity(vessel, b"mmsi:2190") {
///     let entry = entry?;
///     println!("{} {:?}", entry.generation(), entry.payload());
/// }
/// journal.close()
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Journal {
    engine: Arc<Engine>,
    /// `None` for the journal's own threads, which it does not wait for to be closed.
    _open: Option<Arc<KeepsOpen>>,
}

/// The share of those who keep a journal open; the last one closes it.
#[derive(Debug)]
struct KeepsOpen(Arc<Engine>);

/// A journal, for what stands in it and may outlive it.
#[derive(Debug)]
pub(crate) struct WeakJournal(Weak<Engine>);

impl WeakJournal {
    /// A guest's handle, if the journal is there.
    pub(crate) fn upgrade(&self) -> Option<Journal> {
        self.0.upgrade().map(|engine| Journal { engine, _open: None })
    }
}

/// The engine and its threads.
#[derive(Debug)]
struct Engine {
    core: Arc<Core>,
    /// Dropped by nobody: the handles are taken when the threads are joined, and those that a
    /// forked child has are of threads that are not there.
    threads: ManuallyDrop<Threads>,
}

const _: () = {
    const fn is_shareable<T: Send + Sync + 'static>() {}
    is_shareable::<Journal>();
    is_shareable::<View>();
    is_shareable::<OwnedEntry>();
    is_shareable::<Ticket>();
};

impl Options {
    /// Opens the store in a directory, and makes one where there is none or an empty one.
    ///
    /// # Errors
    ///
    /// `InvalidOptions`, `NotADirectory`, `NotAStore` for a directory of other files,
    /// `FormatTooNew`, `Locked` with the holder's name, `PermissionDenied`, `NoSpace`,
    /// `UnsupportedFileSystem`, `Corrupt` where acknowledged data is damaged, `Io`. Nothing is
    /// created or changed by an opening that is refused.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Journal> {
        Ok(Journal::of(opening::open_path(path.as_ref(), self.clone())?))
    }

    /// Makes a store in a directory that is not there or empty.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, and as [`open`](Self::open).
    pub fn create(&self, path: impl AsRef<Path>) -> Result<Journal> {
        let options = Self { presence: Presence::Create, ..self.clone() };
        Ok(Journal::of(opening::open_path(path.as_ref(), options)?))
    }

    /// Opens a store that is there.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotAStore` for an empty directory, and as [`open`](Self::open).
    pub fn open_existing(&self, path: impl AsRef<Path>) -> Result<Journal> {
        let options = Self { presence: Presence::OpenExisting, ..self.clone() };
        Ok(Journal::of(opening::open_path(path.as_ref(), options)?))
    }

    /// A journal in memory: the same engine, with nothing behind it.
    ///
    /// # Errors
    ///
    /// `InvalidOptions`.
    pub fn in_memory(&self) -> Result<Journal> {
        Ok(Journal::of(opening::open(Arc::new(MemoryDirectory::new()), self.clone())?))
    }

    /// Opens the store on a simulated disk.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    #[cfg(feature = "simulator")]
    pub fn open_in(&self, disk: &crate::disk::simulator::Simulator) -> Result<Journal> {
        Ok(Journal::of(opening::open(disk.directory(), self.clone())?))
    }
}

impl Journal {
    fn of(core: Core) -> Self {
        let core = Arc::new(core);
        let engine = Arc::new(Engine { threads: ManuallyDrop::new(Threads::default()), core });
        Self { _open: Some(Arc::new(KeepsOpen(Arc::clone(&engine)))), engine }
    }

    /// Opens the store in a directory with the default options, and makes one where there is none.
    ///
    /// # Errors
    ///
    /// As [`Options::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Options::new().open(path)
    }

    /// A journal in memory: the same engine, with nothing behind it.
    ///
    /// # Errors
    ///
    /// Only where memory cannot be had.
    pub fn in_memory() -> Result<Self> {
        Options::new().background(false).in_memory()
    }

    /// The kind of this name, if it is registered.
    #[must_use]
    pub fn kind_named(&self, name: &str) -> Option<Arc<KindInfo>> {
        self.core().registry.read().named(name).cloned()
    }

    /// Finds the kind of this name, or registers it: a kind of facts whose payloads are bytes. Kinds of
    /// typed facts are registered by [`Store`](crate::Store), and found with
    /// [`kind_named`](Self::kind_named): a name that is registered here stays one of bytes.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an empty, too long or reserved name, `KindMismatch` if the name is
    /// registered with another codec, `LimitReached`, and as [`append`](Self::append).
    pub fn kind(&self, name: &str) -> Result<KindId> {
        let (codec, owner) = (Codec::Bytes, Owner::Facts);
        let spec = KindSpec { name: name.to_owned(), version: 1, codec, owner, fields: Vec::new() };
        Ok(self.register(spec)?.id)
    }

    pub(crate) fn register(&self, spec: KindSpec) -> Result<Arc<KindInfo>> {
        self.core().register(spec)
    }

    /// The kinds that are registered, in the order of their numbers.
    #[must_use]
    pub fn kinds(&self) -> Vec<Arc<KindInfo>> {
        self.core().registry.read().iter().cloned().collect()
    }

    /// Appends an entry, and waits as the journal's durability says.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a key, metadata or payload over its limit, `BatchTooLarge`,
    /// `UnknownKind`, `Conflict` with both numbers if the expectation is not met, `NoSpace` or `Io`
    /// (nothing was appended), `Corrupt` if the entity's place cannot be told from damaged files,
    /// `LimitReached`, `Poisoned` (the outcome is unknown), `Closed`, `Forked`.
    pub fn append(&self, record: Record<'_>) -> Result<Receipt> {
        let core = self.appending();
        let (receipt, end) = core.append(&record)?;
        core.wait_as_configured(end)?;
        Ok(receipt)
    }

    /// Appends an entry without waiting for the disk.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append), but for those of waiting.
    pub fn append_nowait(&self, record: Record<'_>) -> Result<Ticket> {
        let core = self.appending();
        let (receipt, end) = core.append(&record)?;
        core.want_sync_for_readers();
        Ok(Ticket { core: Arc::clone(core), receipt, end })
    }

    /// Starts a batch: entries that are appended together, all or nothing.
    pub fn batch<'a>(&self) -> Batch<'a> {
        Batch::new(Arc::clone(self.appending()))
    }

    /// The log as it is now.
    #[must_use]
    pub fn view(&self) -> View {
        self.core().view()
    }

    /// The entry with this Seq, or `None`. A shortcut over [`view`](Self::view) for single reads.
    ///
    /// # Errors
    ///
    /// As [`View::get`].
    pub fn get(&self, seq: Seq) -> Result<Option<OwnedEntry>> {
        Ok(self.view().get(seq)?.map(|entry| entry.to_owned()))
    }

    /// The newest entry of an entity, or `None`.
    ///
    /// # Errors
    ///
    /// As [`View::latest`].
    pub fn latest(&self, kind: KindId, key: &[u8]) -> Result<Option<OwnedEntry>> {
        Ok(self.view().latest(kind, key)?.map(|entry| entry.to_owned()))
    }

    /// The entries of a range of Seq, owned.
    ///
    /// # Errors
    ///
    /// As [`View::range`].
    pub fn range(&self, seqs: impl RangeBounds<Seq>) -> Result<Vec<OwnedEntry>> {
        let view = self.view();
        owned(view.range(seqs)).collect()
    }

    /// The entries of a region, owned.
    ///
    /// # Errors
    ///
    /// As [`View::region`].
    pub fn region(&self, region: &Region) -> Result<Vec<OwnedEntry>> {
        let view = self.view();
        owned(view.region(region)).collect()
    }

    /// Waits until everything that can be seen now is durable; answers how far that is. A batch whose append answered an error
    /// is not among it.
    ///
    /// # Errors
    ///
    /// `Poisoned` if something of it is not durable and never will be, `Closed`. A journal that was poisoned when all of it was
    /// durable already answers how far that is.
    pub fn sync(&self) -> Result<Position> {
        let end = self.core().commit.visible();
        self.core().wait_durable(end)?;
        Ok(end)
    }

    /// What is durable: everything below survives a power cut.
    #[must_use]
    pub fn durable(&self) -> Position {
        self.core().commit.durable()
    }

    /// What this opening found out about the end of the log.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.core().report
    }

    /// The identity of the store.
    #[must_use]
    pub fn store_id(&self) -> StoreId {
        self.core().manifest.store
    }

    /// Where the store is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.core().directory.path()
    }

    /// Numbers about the store and this opening of it.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::of(self.core())
    }

    /// True if a batch with this key is remembered.
    #[must_use]
    pub fn remembers(&self, key: IdempotencyKey) -> bool {
        self.core().writer.lock().keyed.get(&key).is_some()
    }

    /// Verifies the store while it is open: see [`verify`](crate::verify()).
    ///
    /// # Errors
    ///
    /// As [`verify`](crate::verify()).
    pub fn verify(&self, check: Check) -> Result<Verification> {
        verify::examine(&*self.core().directory, check)
    }

    /// Ends the engine for all clones: what is visible becomes durable, the threads end, the
    /// directory is free for the next opening. Entries and views stay readable. Waits for the
    /// reactions that are under way: what they put out is not appended any more.
    ///
    /// # Errors
    ///
    /// `WouldDeadlock` in a reaction, which would wait for its own end: nothing was done then.
    /// `Poisoned` if a sync failed, now or before: what was not acknowledged as durable has an
    /// unknown outcome. `Io` if the clean end could not be written down; nothing is lost then.
    pub fn close(&self) -> Result<()> {
        if !self.engine.core.fork.is_forked() && self.engine.core.tasks.is_on_one() {
            return Err(Error::new(ErrorKind::WouldDeadlock, "close the journal in a reaction"));
        }
        self.engine.close(true)
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.engine.core
    }

    /// A handle for the journal's own threads, which does not keep it open.
    pub(crate) fn guest(&self) -> Self {
        Self { engine: Arc::clone(&self.engine), _open: None }
    }

    pub(crate) fn downgrade(&self) -> WeakJournal {
        WeakJournal(Arc::downgrade(&self.engine))
    }

    /// The core, with the threads that an appending journal needs.
    #[inline]
    pub(crate) fn appending(&self) -> &Arc<Core> {
        self.engine.threads.start(&self.engine.core);
        &self.engine.core
    }
}

impl Engine {
    fn close(&self, says_so: bool) -> Result<()> {
        let is_forked = self.core.fork.is_forked();
        let mut ended = Ok(());
        if !is_forked {
            ended = self.core.lodger.get().map_or(Ok(()), |lodger| lodger.end(&self.core));
            self.core.tasks.tell_to_stop();
            // Whatever goes wrong here goes wrong below too; what is not written down comes again.
            let _ = self.core.save_progress();
        }
        let closed = self.core.close(says_so);
        if is_forked {
            // Everything here is the parent's, and stays: its lock, its threads, and its maps,
            // which a fork leaves out: what is mapped in their place must not be unmapped.
            std::mem::forget(Arc::clone(&self.core));
        } else {
            self.core.tasks.join();
            self.threads.stop(&self.core);
            // Who comes to be while the journal closes ends here.
            let late = self.core.lodger.get().map_or(Ok(()), |lodger| lodger.end(&self.core));
            ended = ended.and(late);
        }
        closed.and(ended)
    }
}

impl Drop for KeepsOpen {
    fn drop(&mut self) {
        // Nobody is left to tell; acknowledged data needs no close.
        let _ = self.0.close(false);
    }
}
