//! Reactions: the user's code, called for each entry of a region, with what it puts out appended in
//! one batch with the place that it was read up to.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::fold::retry::Retry;
use crate::id::{IdempotencyKey, Seq};
use crate::journal::cursors::Hold;
use crate::journal::entry::Entry;
use crate::journal::record::{Causation, Expect};
use crate::journal::region::Region;
use crate::journal::subscriber::{Start, SubscribeOptions};
use crate::journal::watcher::WatchOptions;
use crate::log::lock::random;
use crate::state::kind::{Kind, Patch};
use crate::state::source::Source;
use crate::store::Store;
use crate::store::batch::{StoreBatch, With};
use crate::store::cell::Cell;
use crate::store::fact::Fact;
use crate::store::facts::Facts;
use crate::store::kinds;
use crate::store::reactor::{Lossy, Reactor, Runner, start};
use crate::store::topic::Topic;

/// The most facts that one reaction may put out.
pub const REACTION_ENTRIES_MAX: usize = 256;
/// So many reactions to reactions: behind it a reactor stops with `ReactionLoop`.
pub const REACTION_DEPTH_MAX: u8 = 32;

/// What a reaction answers: done, or why not, in which case it is called again.
pub type Reaction = std::result::Result<(), Box<dyn StdError + Send + Sync>>;

/// How to react.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "options do nothing until `react_with`"]
pub struct ReactOptions {
    start: Start,
    hold: Hold,
    retry: Retry,
}

impl Default for ReactOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl ReactOptions {
    /// From the oldest entry where the name is new, holding back whatever was not reacted to, with
    /// pauses from 10 milliseconds to 30 seconds before an entry is tried again.
    pub const fn new() -> Self {
        Self { start: Start::Oldest, hold: Hold::Forever, retry: Retry::DEFAULT }
    }

    /// Where a new name begins; one that is there goes on where it was. Default: [`Start::Oldest`].
    pub const fn from(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// How much log its cursor may hold back. Default: [`Hold::Forever`].
    pub const fn hold(mut self, hold: Hold) -> Self {
        self.hold = hold;
        self
    }

    /// The pause behind a first failure, and the longest one; each is up to twice the one before.
    /// Default: 10 milliseconds and 30 seconds.
    pub const fn retry_between(mut self, first: Duration, longest: Duration) -> Self {
        self.retry = Retry { base: first, max: longest };
        self
    }
}

impl Store {
    /// Reacts to each entry of a region, in order, in a thread of its own: what the closure puts into
    /// [`Out`] is appended in one batch with the cursor of this name. So it happens **exactly once**
    /// within the store, through a crash at any point. What the closure does elsewhere happens at
    /// least once.
    ///
    /// An error or a panic of the closure, a batch that cannot be appended (a conflict, a full disk),
    /// and a failed read of the disk discard what was put out and try the same entry again, after a
    /// pause, for as long as it takes: nothing is passed over. [`Reactor::status`] and [`Journal::cursors`](crate::Journal::cursors)
    /// tell of it.
    ///
    /// The reactor runs until the handle or [`Store::close`] stops it, also where the handle was
    /// dropped. It does not keep the store open, and neither does [`Out::store`], nor a clone of that;
    /// a `Store` that the closure brings along does. Whoever closes the store, or drops its last handle,
    /// waits for the reaction that is under way: not while holding what that reaction waits for.
    ///
    /// ```
    /// use esker::{Facts, Store};
    /// # fn main() -> esker::Result<()> {
    /// const ORDERS: Facts<u32> = Facts::new("order");          // cents
    /// const INVOICES: Facts<String> = Facts::new("invoice");
    ///
    /// let store = Store::in_memory()?;
    /// let invoicing = store.react("invoicing", store.region(ORDERS)?, |entry, out| {
    ///     let Some(order) = out.fact(ORDERS, entry)? else { return Ok(()) };
    ///     let text = format!("{} cents, for order {}", order.value()?, order.seq());
    ///     out.append(INVOICES, entry.key(), &text)?;
    ///     Ok(())
    /// })?;
    /// let order = store.append(ORDERS, "8812", &990)?;
    ///
    /// let mut invoices = store.journal().watch("reader", store.region(INVOICES)?)?;
    /// let entry = invoices.next()?.unwrap();
    /// assert_eq!(entry.causation().unwrap().seq, order.seq);
    /// assert_eq!(store.latest(INVOICES, "8812")?.unwrap().value()?, "990 cents, for order 1");
    /// invoicing.stop();
    /// invoicing.join()
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Journal::watch_with`](crate::Journal::watch_with); `Io` if the thread cannot be started.
    pub fn react<F>(&self, name: &str, region: Region, reaction: F) -> Result<Reactor>
    where
        F: Fn(Entry<'_>, &mut Out<'_>) -> Reaction + Send + 'static,
    {
        self.react_with(name, region, ReactOptions::new(), reaction)
    }

    /// Reacts to each entry of a region; see [`react`](Self::react).
    ///
    /// # Errors
    ///
    /// As [`react`](Self::react).
    pub fn react_with<F>(
        &self,
        name: &str,
        region: Region,
        options: ReactOptions,
        reaction: F,
    ) -> Result<Reactor>
    where
        F: Fn(Entry<'_>, &mut Out<'_>) -> Reaction + Send + 'static,
    {
        let watching = WatchOptions::new().from(options.start).hold(options.hold);
        let watcher = self.journal.watch_with(name, region, watching)?;
        let stopper = watcher.stopper();
        start(self, name, stopper, |shared| Runner::new(self, watcher, options.retry, reaction, shared))
    }

    /// Reacts to what is appended from now on, for work that may be lost: no cursor, nothing is held
    /// back, and what goes wrong is counted and passed over. What is put out is one batch, appended
    /// at most once.
    ///
    /// # Errors
    ///
    /// As [`Journal::subscribe_with`](crate::Journal::subscribe_with); `Io` if the thread cannot be
    /// started.
    pub fn react_lossy<F>(&self, region: Region, options: SubscribeOptions, reaction: F) -> Result<Reactor>
    where
        F: Fn(Entry<'_>, &mut Out<'_>) -> Reaction + Send + 'static,
    {
        let subscriber = self.journal.subscribe_with(region, options)?;
        let stopper = subscriber.stopper();
        // No two have the same name: keys of effects are made of it.
        let name = random::<8>().map(u64::from_le_bytes);
        let name = name.map_err(|cause| Error::io("name a lossy reactor", cause))?;
        start(self, &format!("lossy-{name:016x}"), stopper, |shared| {
            Lossy::new(self, subscriber, reaction, shared)
        })
    }
}

/// What one reaction puts out: facts, events of topics, operations on live state, and changes of cells, that are appended together,
/// or not at all.
///
/// Facts carry the correlation of the entry that was reacted to, its Seq as their cause, and a depth
/// of one more than its own.
pub struct Out<'s> {
    store: &'s Store,
    batch: StoreBatch<'s>,
    name: &'s str,
    cause: Causation,
    correlation: Option<[u8; 16]>,
}

impl<'s> Out<'s> {
    pub(crate) fn new(store: &'s Store, name: &'s str, entry: &Entry<'_>) -> Self {
        let depth = entry.causation().map_or(0, |cause| cause.depth).saturating_add(1);
        let cause = Causation { seq: entry.seq(), depth };
        Self { store, batch: store.batch(), name, cause, correlation: entry.correlation() }
    }

    /// Puts out a fact.
    ///
    /// # Errors
    ///
    /// `LimitReached` past [`REACTION_ENTRIES_MAX`] facts, and as [`StoreBatch::append`].
    pub fn append<'t, T>(&mut self, kind: Facts<T>, key: impl AsRef<[u8]>, value: &T) -> Result<&mut Self>
    where
        T: Serialize + Deserialize<'t>,
    {
        self.append_with(kind, key, value, With::new())
    }

    /// Puts out a fact with an expectation of its entity. If it is not met, nothing of what this
    /// reaction put out is appended, and it is called again.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub fn append_if<'t, T>(
        &mut self,
        kind: Facts<T>,
        key: impl AsRef<[u8]>,
        expect: Expect,
        value: &T,
    ) -> Result<&mut Self>
    where
        T: Serialize + Deserialize<'t>,
    {
        self.append_with(kind, key, value, With::new().expect(expect))
    }

    /// Puts out a fact with whatever else there is to say of it.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub fn append_with<'t, T>(
        &mut self,
        kind: Facts<T>,
        key: impl AsRef<[u8]>,
        value: &T,
        with: With<'_>,
    ) -> Result<&mut Self>
    where
        T: Serialize + Deserialize<'t>,
    {
        self.has_room()?;
        self.batch.append_with(kind, key, value, with.caused_by(Some(self.cause), self.correlation))?;
        Ok(self)
    }

    /// Puts out that a source states the whole of an entity; see [`StoreBatch::assert`]. The reaction brings the source
    /// along.
    ///
    /// Rows carry no cause: who reacts to rows with rows of the same kind sees to it that there is an end to that.
    ///
    /// # Errors
    ///
    /// `LimitReached` past [`REACTION_ENTRIES_MAX`] facts and operations, and as [`StoreBatch::assert`].
    pub fn assert<T>(
        &mut self,
        source: &Source,
        kind: Kind<T>,
        key: impl AsRef<[u8]>,
        row: &T,
    ) -> Result<&mut Self>
    where
        T: Serialize + DeserializeOwned,
    {
        self.has_room()?;
        self.batch.assert(source, kind, key, row)?;
        Ok(self)
    }

    /// Puts out that a source states some fields of an entity; see [`StoreBatch::patch`].
    ///
    /// # Errors
    ///
    /// As [`assert`](Self::assert) and [`StoreBatch::patch`].
    pub fn patch<T>(
        &mut self,
        source: &Source,
        kind: Kind<T>,
        key: impl AsRef<[u8]>,
        patch: &Patch,
    ) -> Result<&mut Self>
    where
        T: Serialize + DeserializeOwned + 'static,
    {
        self.has_room()?;
        self.batch.patch(source, kind, key, patch)?;
        Ok(self)
    }

    /// Puts out that a source says of an entity that it is not there; see [`StoreBatch::retract`].
    ///
    /// # Errors
    ///
    /// As [`assert`](Self::assert).
    pub fn retract<T>(&mut self, source: &Source, kind: Kind<T>, key: impl AsRef<[u8]>) -> Result<&mut Self>
    where
        T: DeserializeOwned,
    {
        self.has_room()?;
        self.batch.retract(source, kind, key)?;
        Ok(self)
    }

    /// Puts out an event of a topic of this store's own journal.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the store was given another backplane, which no batch of its journal reaches; and as
    /// [`append`](Self::append).
    pub fn append_event<'t, T>(
        &mut self,
        topic: Topic<T>,
        key: impl AsRef<[u8]>,
        event: &T,
    ) -> Result<&mut Self>
    where
        T: Serialize + Deserialize<'t>,
    {
        self.store.check_own_backplane("put out an event of a topic")?;
        self.append(topic.as_facts(), key, event)
    }

    /// Puts out that a cell of this store's own journal comes to hold what `change` makes of what it holds, or comes to hold by this
    /// reaction; `None`: nothing. If somebody else changes it meanwhile, nothing of what this reaction put out is appended, and it is
    /// called again. So the change is made once for each entry, whatever happens.
    ///
    /// ```
    /// use esker::{Facts, Store};
    /// # fn main() -> esker::Result<()> {
    /// const ORDERS: Facts<u64> = Facts::new("order");          // cents
    /// let store = Store::in_memory()?;
    /// let counting = store.react("counting", store.region(ORDERS)?, |entry, out| {
    ///     let Some(order) = out.fact(ORDERS, entry)? else { return Ok(()) };
    ///     let cents = order.value()?;
    ///     let turnover = out.store().cells().cell::<u64>("turnover")?;
    ///     out.update(&turnover, |known| Ok(Some(known.unwrap_or(0) + cents)))?;
    ///     Ok(())
    /// })?;
    /// store.append(ORDERS, "8812", &990)?;
    /// store.append(ORDERS, "8813", &10)?;
    /// let mut watcher = store.cells().cell::<u64>("turnover")?.watch()?;
    /// while watcher.next()?.value != Some(1000) {}
    /// # counting.stop();
    /// # counting.join()
    /// # }
    /// ```
    ///
    /// A cell that the closure brings along keeps the store open, as a [`Store`] does; those of [`store`](Self::store) do not.
    ///
    /// # Errors
    ///
    /// What `change` answers; `Codec` if what the cell holds is no `T`. `InvalidInput` for a cell of another store, or if the store was
    /// given another backplane. `LimitReached` as [`append`](Self::append).
    pub fn update<T>(
        &mut self,
        cell: &Cell<T>,
        change: impl FnOnce(Option<T>) -> Result<Option<T>>,
    ) -> Result<&mut Self>
    where
        T: Serialize + DeserializeOwned,
    {
        self.has_room()?;
        cell.check_of(self.store)?;
        self.batch.change_cell(cell.key(), |now| cell.changed(now, change))?;
        Ok(self)
    }

    fn has_room(&self) -> Result<()> {
        if self.batch.len() < REACTION_ENTRIES_MAX {
            return Ok(());
        }
        let doing = format!("put out more in the reaction to entry {}", self.cause.seq);
        let most = format!("at most {REACTION_ENTRIES_MAX} facts and operations");
        Err(Error::new(ErrorKind::LimitReached, doing).sides(most, self.batch.len() + 1))
    }

    /// An entry as a fact of this kind; `None` if it is of another.
    ///
    /// # Errors
    ///
    /// `KindMismatch` if the kind is not one of typed facts.
    pub fn fact<'v, T>(&self, kind: Facts<T>, entry: Entry<'v>) -> Result<Option<Fact<'v, T>>> {
        let known = self.store.journal().kind_named(kind.name());
        let id = known.map(|known| kinds::readable(&known)).transpose()?;
        Ok((id == Some(entry.kind())).then(|| Fact::new(kind, entry)))
    }

    /// The store, to read in. What is appended through it is no part of the reaction: it stays,
    /// whatever becomes of this attempt.
    #[must_use]
    pub fn store(&self) -> &'s Store {
        self.store
    }

    /// A key for the `n`-th thing that this reaction does elsewhere: the same in each attempt, and in
    /// no other reaction of any store, as long as a name that was retired is not used again for entries
    /// that were reacted to under it. A lossy reactor has keys of its own each time it is started.
    #[must_use]
    pub fn idempotency_key(&self, n: u32) -> IdempotencyKey {
        let core = self.store.journal().core();
        let mut name = self.name.as_bytes().to_vec();
        name.extend_from_slice(&core.manifest.era.to_le_bytes());
        name.extend_from_slice(&self.cause.seq.get().to_le_bytes());
        name.extend_from_slice(&n.to_le_bytes());
        // Keyed with the store's id.
        IdempotencyKey(core.index.hash(u16::MAX, &name).to_le_bytes())
    }

    /// How many of all these there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// True if nothing was put out yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// What was put out, unless there is no end to it.
    pub(crate) fn into_batch(self) -> Result<StoreBatch<'s>> {
        if self.cause.depth > REACTION_DEPTH_MAX && !self.batch.is_empty() {
            let doing = format!("react as {:?}", self.name);
            return Err(Error::new(ErrorKind::ReactionLoop, doing)
                .concerning(self.cause.seq.get())
                .sides(format!("a depth up to {REACTION_DEPTH_MAX}"), self.cause.depth));
        }
        Ok(self.batch)
    }

    pub(crate) fn seq(&self) -> Seq {
        self.cause.seq
    }
}

impl fmt::Debug for Out<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Out({:?}, to entry {}, {} facts)", self.name, self.seq(), self.len())
    }
}
