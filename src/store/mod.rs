//! The typed door: values of Rust types in, values out, over the same log of bytes.
//!
//! A [`Facts<T>`](facts::Facts) names a kind; everything else follows the journal's verbs. What
//! this layer adds: the codec, the registration of a kind at its first append, and the check
//! that one name means one thing.

mod author;
pub(crate) mod bare;
pub(crate) mod batch;
pub(crate) mod cell;
mod consume;
mod copies;
mod erasing;
pub(crate) mod fact;
pub(crate) mod facts;
mod kinds;
pub(crate) mod mirror;
pub(crate) mod project;
pub(crate) mod react;
pub(crate) mod reactor;
pub(crate) mod state;
pub(crate) mod topic;
pub(crate) mod view;

use std::fmt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::backplane::{Backplane, Local};
use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::fold::cache::Cache;
use crate::fold::consumer::running::Consumers;
use crate::fold::handle::Projectors;
use crate::fold::keeping::Keeping;
use crate::format::system::Keep;
use crate::id::{KindId, Position, Seq};
use crate::journal::Journal;
use crate::journal::record::{Expect, Receipt, Ticket};
use crate::journal::region::Region;
use crate::state::epoch::in_parts::carry_on;
use crate::store::author::Authors;
use crate::store::batch::{StoreBatch, With};
use crate::store::copies::Copies;
use crate::store::fact::OwnedFact;
use crate::store::facts::Facts;
use crate::store::kinds::Kinds;
use crate::store::view::StoreView;

/// A store of typed facts, open for writing.
///
/// Clones share one engine; any of them may be used from any thread. The directory is held
/// until [`close`](Self::close), or until the last clone is dropped. The log of bytes behind it
/// is [`journal`](Self::journal): both doors may be used side by side.
///
/// ```
/// use esker::{Expect, Facts, Store};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Debug, PartialEq)]
/// enum OrderEvent {
///     Placed { item: String },
///     Shipped,
/// }
///
/// const ORDERS: Facts<OrderEvent> = Facts::new("order").version(1);
///
/// # fn main() -> esker::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// let store = Store::open(directory.path().join("shop.esker"))?;
/// let placed = store.append(ORDERS, "8812", &OrderEvent::Placed { item: "lamp".into() })?;
/// store.append_if(ORDERS, "8812", Expect::Generation(placed.generation), &OrderEvent::Shipped)?;
///
/// for fact in store.history(ORDERS, "8812")? {
///     println!("{} {:?}", fact.generation(), fact.value()?);
/// }
/// assert_eq!(store.latest(ORDERS, "8812")?.unwrap().value()?, OrderEvent::Shipped);
/// store.close()
/// # }
/// ```
#[derive(Clone)]
pub struct Store {
    /// Before the journal, so that they end before it does.
    consumers: Arc<Consumers>,
    journal: Journal,
    kinds: Arc<Kinds>,
    projections: Arc<Cache>,
    /// The backplane that was given, or that of the journal once somebody asked for it.
    backplane: Arc<OnceLock<Arc<dyn Backplane>>>,
    backplane_is_given: bool,
    authors: Arc<Authors>,
    projectors: Arc<Projectors>,
    copies: Arc<Copies>,
}

const _: () = {
    const fn is_shareable<T: Send + Sync + 'static>() {}
    is_shareable::<Store>();
    is_shareable::<StoreView>();
    is_shareable::<Facts<*const u8>>();
    is_shareable::<OwnedFact<*const u8>>();
};

impl Store {
    /// Opens the store in a directory with the default options, and makes one where there is
    /// none. For other options: [`Store::over`] a journal that was opened with them.
    ///
    /// # Errors
    ///
    /// As [`Options::open`](crate::Options::open).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self::over(Journal::open(path)?))
    }

    /// A store in memory: the same engine, with nothing behind it and no threads. So a window of live state that nobody
    /// [flushes](Self::flush) ends with the first operation behind its time.
    ///
    /// # Errors
    ///
    /// Only where memory cannot be had.
    pub fn in_memory() -> Result<Self> {
        Ok(Self::over(Journal::in_memory()?))
    }

    /// The typed door of a journal that is open.
    ///
    /// ```
    /// use esker::{Durability, Options, Store};
    /// # fn main() -> esker::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("shop.esker");
    /// let store = Store::over(Options::new().durability(Durability::Os).open(path)?);
    /// # store.close() }
    /// ```
    #[must_use]
    pub fn over(journal: Journal) -> Self {
        let (projectors, copies) = tasks_of(&journal);
        // Another store over the same journal says the same.
        journal.core().registrations.raised_by(|| Box::new(Keeping(journal.downgrade())));
        carry_on(&journal);
        Self {
            consumers: Arc::default(),
            journal,
            kinds: Arc::default(),
            projections: Arc::default(),
            backplane: Arc::default(),
            backplane_is_given: false,
            authors: Arc::default(),
            projectors,
            copies,
        }
    }

    /// The same store with topics and cells on another backplane than its own journal. Everything else stays where it is;
    /// the backplane is closed by who opened it.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use esker::{Store, backplane::InMemory};
    /// # fn main() -> esker::Result<()> {
    /// let store = Store::in_memory()?.with_backplane(Arc::new(InMemory::new()));
    /// # store.close() }
    /// ```
    #[must_use]
    pub fn with_backplane(self, backplane: Arc<dyn Backplane>) -> Self {
        let only_grows = backplane.compactor().is_none();
        self.journal.core().meter.backplane_only_grows.store(only_grows, Ordering::Relaxed);
        let backplane = Arc::new(OnceLock::from(backplane));
        let (projectors, copies) = tasks_of(&self.journal);
        let (authors, consumers) = (Arc::default(), Arc::default());
        Self { backplane, backplane_is_given: true, authors, consumers, projectors, copies, ..self }
    }

    /// What topics and cells are on: the [`Local`] backplane of this store's journal, if no other was given.
    ///
    /// # Errors
    ///
    /// `Closed`, `Forked`.
    pub fn backplane(&self) -> Result<&Arc<dyn Backplane>> {
        if let Some(backplane) = self.backplane.get() {
            return Ok(backplane);
        }
        // A guest's: what stands on the journal does not keep it open.
        let local = Local::over(&self.journal.guest())?;
        Ok(self.backplane.get_or_init(|| Arc::new(local)))
    }

    /// Refuses what only the journal can do, where topics and cells are elsewhere.
    pub(crate) fn check_own_backplane(&self, doing: &str) -> Result<()> {
        if !self.backplane_is_given {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidInput, doing)
            .sides("topics and cells of the store's own journal", "those of another backplane"))
    }

    /// The log of bytes under this store.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Appends a fact about an entity, and waits as the store's durability says.
    ///
    /// The key is 1 to 255 bytes; the encoded value at most 16 MiB less 4 KiB. The first use of
    /// a kind registers it.
    ///
    /// # Errors
    ///
    /// `Codec` if the value cannot be encoded. `KindMismatch` if the name is registered with a
    /// newer version or as bytes, or if another type with another version or other fields was
    /// appended under it through this store. `InvalidInput` for a name, key or value over its
    /// limit. And what [`Journal::append`] answers: nothing is appended then, unless it is
    /// `Poisoned`, after which the outcome is unknown.
    pub fn append<'t, T>(&self, kind: Facts<T>, key: impl AsRef<[u8]>, value: &T) -> Result<Receipt>
    where
        T: Serialize + Deserialize<'t>,
    {
        self.append_with(kind, key, value, With::new())
    }

    /// Appends a fact if the entity is as expected.
    ///
    /// # Errors
    ///
    /// `Conflict` with both sides if it is not, and as [`append`](Self::append).
    pub fn append_if<'t, T>(
        &self,
        kind: Facts<T>,
        key: impl AsRef<[u8]>,
        expect: Expect,
        value: &T,
    ) -> Result<Receipt>
    where
        T: Serialize + Deserialize<'t>,
    {
        self.append_with(kind, key, value, With::new().expect(expect))
    }

    /// Appends a fact with whatever else there is to say of it.
    ///
    /// # Errors
    ///
    /// As [`append_if`](Self::append_if).
    pub fn append_with<'t, T>(
        &self,
        kind: Facts<T>,
        key: impl AsRef<[u8]>,
        value: &T,
        with: With<'_>,
    ) -> Result<Receipt>
    where
        T: Serialize + Deserialize<'t>,
    {
        codec::encoded(kind.name(), value, |payload| {
            let id = self.bind(kind)?;
            self.journal.append(with.record(id, kind.schema_version(), key.as_ref(), payload))
        })
    }

    /// Appends a fact without waiting for the disk.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append), but for those of waiting.
    pub fn append_nowait<'t, T>(&self, kind: Facts<T>, key: impl AsRef<[u8]>, value: &T) -> Result<Ticket>
    where
        T: Serialize + Deserialize<'t>,
    {
        codec::encoded(kind.name(), value, |payload| {
            let id = self.bind(kind)?;
            let record = With::new().record(id, kind.schema_version(), key.as_ref(), payload);
            self.journal.append_nowait(record)
        })
    }

    /// Starts a batch: facts of any kinds that are appended together, all or nothing.
    pub fn batch(&self) -> StoreBatch<'_> {
        StoreBatch::new(self)
    }

    /// The store as it is now: where every read of more than one entity begins.
    #[must_use]
    pub fn view(&self) -> StoreView {
        StoreView::new(self.journal.core())
    }

    /// The store as it was at an earlier moment: behind the last whole batch up to a Seq, which a receipt names, or a
    /// [`Token`](crate::Token); see [`StoreView::at`]. Sees what is visible, as [`view`](Self::view) does.
    ///
    /// # Errors
    ///
    /// As [`StoreView::at`].
    pub fn at(&self, seq: impl Into<Option<Seq>>) -> Result<StoreView> {
        self.view().at(seq)
    }

    /// The newest fact about an entity, or `None`.
    ///
    /// # Errors
    ///
    /// As [`StoreView::latest`].
    pub fn latest<T>(&self, kind: Facts<T>, key: impl AsRef<[u8]>) -> Result<Option<OwnedFact<T>>> {
        Ok(self.view().latest(kind, key)?.map(|fact| fact.to_owned()))
    }

    /// The history of one entity, oldest first, as owned facts: a reference each, no payloads
    /// copied. For a long one, walk [`StoreView::history`] instead.
    ///
    /// # Errors
    ///
    /// As [`StoreView::latest`].
    pub fn history<T>(&self, kind: Facts<T>, key: impl AsRef<[u8]>) -> Result<Vec<OwnedFact<T>>> {
        self.view().history(kind, key).map(|fact| Ok(fact?.to_owned())).collect()
    }

    /// All facts of a kind in the order of the log, as owned facts: a reference each, no
    /// payloads copied. For many, walk [`StoreView::facts`] instead.
    ///
    /// # Errors
    ///
    /// As [`StoreView::latest`].
    pub fn facts<T>(&self, kind: Facts<T>) -> Result<Vec<OwnedFact<T>>> {
        self.view().facts(kind).map(|fact| Ok(fact?.to_owned())).collect()
    }

    /// The region of a kind of facts, which is registered if this is its first use.
    ///
    /// # Errors
    ///
    /// `KindMismatch`, and what [`append`](Self::append) answers.
    pub fn region<'t, T: Deserialize<'t>>(&self, kind: Facts<T>) -> Result<Region> {
        self.bind(kind).map(Region::kind)
    }

    /// The region of one entity, whose kind is registered if this is its first use.
    ///
    /// # Errors
    ///
    /// As [`region`](Self::region).
    pub fn entity<'t, T: Deserialize<'t>>(&self, kind: Facts<T>, key: impl AsRef<[u8]>) -> Result<Region> {
        self.bind(kind).map(|id| Region::entity(id, key))
    }

    /// The region of the entities of a kind whose keys begin so; the kind is registered if this is its
    /// first use.
    ///
    /// # Errors
    ///
    /// As [`region`](Self::region).
    pub fn prefix<'t, T: Deserialize<'t>>(&self, kind: Facts<T>, prefix: impl AsRef<[u8]>) -> Result<Region> {
        self.bind(kind).map(|id| Region::prefix(id, prefix))
    }

    /// Says what compaction keeps of a kind, from now on; see [`Journal::keep`] and [`Journal::compact`]. The kind
    /// is registered if this is its first use.
    ///
    /// ```
    /// use esker::{Facts, Keep, Store};
    /// # fn main() -> esker::Result<()> {
    /// const POSITIONS: Facts<(f64, f64)> = Facts::new("position");
    /// let store = Store::in_memory()?;
    /// store.keep(POSITIONS, Keep::Latest)?;
    /// store.append(POSITIONS, "ship 7", &(53.5, 9.9))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// `KindMismatch`, and what [`append`](Self::append) answers.
    pub fn keep<'t, T: Deserialize<'t>>(&self, kind: Facts<T>, keep: Keep) -> Result<()> {
        self.journal.keep(self.bind(kind)?, keep)
    }

    /// Waits until everything appended so far is durable; answers how far that is.
    ///
    /// # Errors
    ///
    /// `Poisoned`, `Closed`.
    pub fn sync(&self) -> Result<Position> {
        self.journal.sync()
    }

    /// Ends the engine for all clones; see [`Journal::close`]. [Consumers](crate::Consumer) are told to stop before, and waited for
    /// as long as each of them says; none is started any more.
    ///
    /// # Errors
    ///
    /// As [`Journal::close`]; `Timeout` with the names of the consumers whose handlers run on, or for which the backplane does not
    /// answer. It is closed all the same.
    pub fn close(&self) -> Result<()> {
        let stopped = self.consumers.close();
        let closed = self.journal.close();
        if !self.backplane_is_given {
            self.copies.close();
        }
        closed.and(stopped)
    }

    /// A handle for the store's own threads, which does not keep it open.
    fn guest(&self) -> Self {
        Self { journal: self.journal.guest(), ..self.clone() }
    }

    #[inline]
    fn bind<'t, T: Deserialize<'t>>(&self, kind: Facts<T>) -> Result<KindId> {
        self.kinds.bind(&self.journal, kind)
    }
}

/// What works for a store on its backplane, on the same threads.
fn tasks_of(journal: &Journal) -> (Arc<Projectors>, Arc<Copies>) {
    let core = journal.core();
    let options = &core.options;
    // Counted with what the journal counts.
    let projectors = Projectors::new(options.fold_threads, Arc::clone(&core.meter));
    let copies = Copies::new(Arc::clone(projectors.pool()), options.cell_sweep);
    (Arc::new(projectors), Arc::new(copies))
}

impl From<Journal> for Store {
    fn from(journal: Journal) -> Self {
        Self::over(journal)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.journal.path().display())
    }
}
