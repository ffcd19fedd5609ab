//! Projections of one entity: asked for, or followed.

use std::fmt;
use std::time::{Duration, Instant};

use crate::error::{ErrorKind, Result};
use crate::fold::cache::Freshness;
use crate::fold::folding::{Folding, Named};
use crate::fold::{Fold, Projection};
use crate::id::Generation;
use crate::journal::region::Region;
use crate::journal::subscriber::{Item, Lag, SubscribeOptions, Subscriber};
use crate::journal::view::View;
use crate::journal::waiting::{Place, Reading, Stopper, Until, wait_until};
use crate::journal::watcher::{WatchOptions, Watcher};
use crate::store::Store;
use crate::store::facts::Facts;
use crate::store::view::StoreView;

/// How to follow a projection.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[must_use = "options do nothing until `watch_projection_with`"]
pub struct ProjectionOptions {
    known: Option<Option<Generation>>,
    subscribe: SubscribeOptions,
}

impl ProjectionOptions {
    /// From what there is when it begins, however far it falls behind.
    pub fn new() -> Self {
        Self::default()
    }

    /// What its reader has seen already, from [`Store::project`]: whatever came between that and the
    /// beginning of the watch is told at once, and exactly once. Default: what there is.
    pub const fn known(mut self, generation: Option<Generation>) -> Self {
        self.known = Some(generation);
        self
    }

    /// It ends with `Lagged` when it is more than so many facts behind. Default: never.
    pub fn disconnect_behind(mut self, facts: u64) -> Self {
        self.subscribe = self.subscribe.capacity(facts).on_lag(Lag::Disconnect);
        self
    }

    /// How far it may see; see [`SubscribeOptions::until`].
    pub fn until(mut self, until: Until) -> Self {
        self.subscribe = self.subscribe.until(until);
        self
    }

    /// So long a wait looks again and again before it sleeps; see [`SubscribeOptions::spin`].
    pub fn spin(mut self, budget: Duration) -> Self {
        self.subscribe = self.subscribe.spin(budget);
        self
    }
}

impl StoreView {
    /// The value of a fold over the facts about one entity, up to the moment of this view. Folds the
    /// whole history; [`Store::project`] remembers.
    ///
    /// # Errors
    ///
    /// As [`Store::project`].
    pub fn project<F: Fold>(
        &self,
        kind: Facts<F::Event>,
        key: impl AsRef<[u8]>,
    ) -> Result<Projection<F::State>> {
        let mut folding = Folding::<F>::new();
        if let Some(id) = self.find_entity(kind, key.as_ref())? {
            folding.go_on_in(self.entries(), named(kind), (id, key.as_ref()), u64::MAX)?;
        }
        Ok(folding.projection())
    }
}

fn named<T>(kind: Facts<T>) -> Named {
    Named { name: kind.name(), version: kind.schema_version() }
}

impl Store {
    /// The value of a fold over the facts about one entity. It is remembered, so that the next call
    /// folds only what is new; see [`Fold`].
    /// In a store that was repaired it folds what is left of the history, and says if facts before are not
    /// ([`Projection::is_partial`]; [`Reader::lost_to_repair`](crate::Reader::lost_to_repair) says which). A fold over a
    /// [topic](crate::TopicFold) halts there, until somebody begins it anew; a projection keeps nothing by which it could go on from
    /// there, and would never have a value again.
    ///
    /// # Errors
    ///
    /// `Codec` with the Seq of a fact that is not an `F::Event`: nothing is passed over. `KindMismatch`
    /// if the kind is not one of typed facts; `Compacted` if compaction has dropped older facts of a history
    /// that goes on; `Corrupt` or `Io` if the history cannot be read.
    ///
    /// # Panics
    ///
    /// If the fold does; nothing is remembered of that.
    pub fn project<F: Fold>(
        &self,
        kind: Facts<F::Event>,
        key: impl AsRef<[u8]>,
        freshness: Freshness,
    ) -> Result<Projection<F::State>> {
        let Some(id) = self.view().find(kind)? else {
            return Ok(Projection { generation: None, value: None, is_partial: false });
        };
        let (entity, readable) = ((id, key.as_ref()), self.journal.core().commit.readable());
        self.projections.project::<F>(named(kind), entity, freshness, readable, || self.journal.view())
    }

    /// Follows the value of a fold over the facts about one entity, from now on; see
    /// [`ProjectionWatcher`].
    ///
    /// # Errors
    ///
    /// As [`watch_projection_with`](Self::watch_projection_with).
    pub fn watch_projection<F: Fold>(
        &self,
        kind: Facts<F::Event>,
        key: impl AsRef<[u8]>,
    ) -> Result<ProjectionWatcher<F>> {
        self.watch_projection_with(kind, key, ProjectionOptions::new())
    }

    /// Follows the value of a fold over the facts about one entity; see [`ProjectionWatcher`].
    ///
    /// # Errors
    ///
    /// `KindMismatch`, and as [`Journal::subscribe_with`](crate::Journal::subscribe_with).
    pub fn watch_projection_with<F: Fold>(
        &self,
        kind: Facts<F::Event>,
        key: impl AsRef<[u8]>,
        options: ProjectionOptions,
    ) -> Result<ProjectionWatcher<F>> {
        let region = Region::entity(self.bind(kind)?, key);
        let subscriber = self.journal.subscribe_with(region, options.subscribe)?;
        let told = match options.known {
            Some(known) => known,
            // The newest fact behind which the subscriber begins: none is told twice, none is lost.
            None => newest_up_to(&subscriber.view()?, subscriber.region(), subscriber.looked())?,
        };
        Ok(ProjectionWatcher { subscriber, kind: named(kind), folding: None, told })
    }

    /// Follows the value of a fold over the facts about one entity, and misses no change: see
    /// [`DurableProjectionWatcher`]. With a name it goes on where that name's last checkpoint was;
    /// without one it begins with what there is, and is guaranteed while it lives.
    ///
    /// # Errors
    ///
    /// `KindMismatch`, and as [`Journal::watch_with`](crate::Journal::watch_with).
    pub fn watch_projection_durable<F: Fold>(
        &self,
        kind: Facts<F::Event>,
        key: impl AsRef<[u8]>,
        name: Option<&str>,
    ) -> Result<DurableProjectionWatcher<F>> {
        let region = Region::entity(self.bind(kind)?, key);
        let watcher = match name {
            Some(name) => self.journal.watch(name, region)?,
            None => self.journal.follow(region, WatchOptions::new())?,
        };
        let seen = watcher.looked();
        // What stands before its checkpoint was dealt with.
        let told = newest_up_to(&watcher.view()?, watcher.region(), seen)?;
        Ok(DurableProjectionWatcher { watcher, kind: named(kind), folding: None, told, seen })
    }
}

/// The generation of an entity's newest fact up to a Seq.
fn newest_up_to(view: &View, region: &Region, last: u64) -> Result<Option<Generation>> {
    let Region::Entity(kind, key) = region else { return Ok(None) };
    let mut newest = None;
    for entry in view.entity_behind(*kind, key, 0).rev() {
        let entry = entry?;
        if entry.seq().get() <= last {
            newest = Some(entry.generation());
            break;
        }
    }
    Ok(newest)
}

/// Folds what a view shows of a region, up to a Seq.
fn fold_up_to<F: Fold>(view: &View, region: &Region, kind: Named, last: u64) -> Result<Folding<F>> {
    let mut folding = Folding::new();
    if let Region::Entity(id, key) = region {
        folding.go_on_in(view, kind, (*id, key), last)?;
    }
    Ok(folding)
}

/// Follows the value of a fold over one entity: the newest, whenever there is a newer one. Facts that
/// come together are told of together.
///
/// Each generation that is told is greater than the one before. A fact that does not concern the fold
/// is told of too, with the value that there was. `value` is `None` only if nothing in the whole
/// history concerns it.
///
/// ```
/// use esker::{At, Facts, Fold, Store};
/// # fn main() -> esker::Result<()> {
/// const CLICKS: Facts<u64> = Facts::new("clicks");
/// struct Sum;
/// impl Fold for Sum {
///     type State = u64;
///     type Event = u64;
///     const NAME: &'static str = "sum";
///     const VERSION: u32 = 1;
///     fn fold(sum: &mut u64, clicks: u64, _: &At) { *sum += clicks }
/// }
/// let store = Store::in_memory()?;
/// store.append(CLICKS, "page", &2)?;
/// let mut sums = store.watch_projection::<Sum>(CLICKS, "page")?;
/// assert!(sums.try_next()?.is_none());                       // nothing since it began
/// store.append(CLICKS, "page", &3)?;
/// store.append(CLICKS, "page", &4)?;
/// let sum = sums.next()?.unwrap();
/// assert_eq!((sum.generation.unwrap().get(), sum.value), (3, Some(9)));
/// # Ok(()) }
/// ```
pub struct ProjectionWatcher<F: Fold> {
    subscriber: Subscriber,
    kind: Named,
    /// `None`: to be folded from the beginning.
    folding: Option<Folding<F>>,
    told: Option<Generation>,
}

impl<F: Fold> ProjectionWatcher<F> {
    /// The newest value, if it is newer than the one that was told last. Never waits.
    ///
    /// # Errors
    ///
    /// `Lagged` under [`ProjectionOptions::disconnect_behind`]; `Closed` or `Poisoned` when the log has
    /// ended and everything was told; `Codec`, `Corrupt` or `Io` for a fact that cannot be taken in,
    /// again with each call.
    ///
    /// # Panics
    ///
    /// If the fold does.
    pub fn try_next(&mut self) -> Result<Option<Projection<F::State>>> {
        let caught_up = self.catch_up();
        match self.folding.as_ref().and_then(|folding| folding.news(&mut self.told)) {
            Some(newer) => Ok(Some(newer)),
            None => caught_up.map(|()| None),
        }
    }

    /// Waits for a newer value; `None`: the watcher was stopped.
    ///
    /// # Errors
    ///
    /// As [`try_next`](Self::try_next).
    ///
    /// # Panics
    ///
    /// If the fold does.
    #[allow(clippy::should_implement_trait, reason = "it may fail, and goes on behind an end")]
    pub fn next(&mut self) -> Result<Option<Projection<F::State>>> {
        wait_until(self, None, Self::try_next)
    }

    /// Waits for a newer value, at most so long; `None`: the time is over, or it was stopped.
    ///
    /// # Errors
    ///
    /// As [`try_next`](Self::try_next).
    ///
    /// # Panics
    ///
    /// If the fold does.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Projection<F::State>>> {
        wait_until(self, Instant::now().checked_add(timeout), Self::try_next)
    }

    /// Ends its waiting, from any thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.subscriber.stopper()
    }

    /// Folds what is there when it begins. Behind a fact that cannot be taken in, the subscriber goes on
    /// with that fact.
    fn fold_history(&mut self) -> Result<Folding<F>> {
        let view = self.subscriber.view()?;
        let mut folding = Folding::new();
        let Region::Entity(id, key) = self.subscriber.region() else { return Ok(folding) };
        if let Err(error) = folding.go_on_in(&view, self.kind, (*id, key), u64::MAX) {
            self.subscriber.go_back_to(folding.seq);
            self.folding = Some(folding);
            return Err(error);
        }
        Ok(folding)
    }

    /// Folds everything that there is. What could not be taken in is met again the next time: a value
    /// that misses a fact is none.
    fn catch_up(&mut self) -> Result<()> {
        // While it is folded there is none, so that a panic leaves nothing half done.
        let mut folding = match self.folding.take() {
            Some(folding) => folding,
            None => self.fold_history()?,
        };
        let caught_up = loop {
            let before = self.subscriber.looked();
            match self.subscriber.advance() {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => {
                    self.subscriber.go_back_to(before);
                    break Err(error);
                }
            }
            let Item::Entry(entry) = self.subscriber.item() else { continue };
            // What was folded from the history comes once more.
            if entry.seq().get() <= folding.seq {
                continue;
            }
            let seq = entry.seq().get();
            let taken = if folding.is_next(&entry) {
                folding.take(self.kind, &entry)
            } else {
                // Compaction has been between.
                let view = self.subscriber.view()?;
                fold_up_to(&view, self.subscriber.region(), self.kind, seq).map(|anew| folding = anew)
            };
            if let Err(error) = taken {
                self.subscriber.go_back_to(before);
                break Err(error);
            }
        };
        // Who was too slow is told that, and nothing newer.
        if !matches!(&caught_up, Err(error) if error.kind() == ErrorKind::Lagged) {
            self.folding = Some(folding);
        }
        caught_up
    }
}

impl<F: Fold> Reading for ProjectionWatcher<F> {
    fn place(&self) -> Place<'_> {
        let place = self.subscriber.place();
        Place { has_more: place.has_more || self.folding.is_none(), ..place }
    }
}

impl<F: Fold> fmt::Debug for ProjectionWatcher<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProjectionWatcher({:?}, {:?}, told {:?})", F::NAME, self.subscriber, self.told)
    }
}

/// As [`ProjectionWatcher`], and guaranteed: it is never disconnected, its reader may resume under a
/// name, and what could not be folded is not passed over.
///
/// It begins with what there is: the first call tells the value, if there is any behind its
/// checkpoint. [`checkpoint`](Self::checkpoint) says that what was told has been dealt with.
pub struct DurableProjectionWatcher<F: Fold> {
    watcher: Watcher,
    kind: Named,
    /// `None`: to be folded from the beginning.
    folding: Option<Folding<F>>,
    told: Option<Generation>,
    /// Everything up to this Seq is in the value that was told last, or does not concern the entity.
    seen: u64,
}

impl<F: Fold> DurableProjectionWatcher<F> {
    /// The newest value, if it is newer than the one that was told last. Never waits.
    ///
    /// # Errors
    ///
    /// `Closed` or `Poisoned` when the log has ended and everything was told; `Codec`, `Corrupt` or
    /// `Io` for a fact that cannot be taken in, again with each call.
    ///
    /// # Panics
    ///
    /// If the fold does; the fact is met again by the next call.
    pub fn try_next(&mut self) -> Result<Option<Projection<F::State>>> {
        let caught_up = self.catch_up();
        match self.folding.as_ref().and_then(|folding| folding.news(&mut self.told)) {
            Some(newer) => Ok(Some(newer)),
            None => caught_up.map(|()| None),
        }
    }

    /// Waits for a newer value; `None`: the watcher was stopped.
    ///
    /// # Errors
    ///
    /// As [`try_next`](Self::try_next).
    ///
    /// # Panics
    ///
    /// If the fold does.
    #[allow(clippy::should_implement_trait, reason = "it may fail, and goes on behind an end")]
    pub fn next(&mut self) -> Result<Option<Projection<F::State>>> {
        wait_until(self, None, Self::try_next)
    }

    /// Waits for a newer value, at most so long; `None`: the time is over, or it was stopped.
    ///
    /// # Errors
    ///
    /// As [`try_next`](Self::try_next).
    ///
    /// # Panics
    ///
    /// If the fold does.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Projection<F::State>>> {
        wait_until(self, Instant::now().checked_add(timeout), Self::try_next)
    }

    /// Makes durable that everything that was folded into the last value has been dealt with.
    ///
    /// # Errors
    ///
    /// `InvalidInput` without a name, and what [`Watcher::checkpoint`] answers.
    pub fn checkpoint(&mut self) -> Result<()> {
        self.watcher.checkpoint_at(self.seen)
    }

    /// Ends its waiting, from any thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.watcher.stopper()
    }

    /// Folds everything that there is, which the caller then tells.
    fn catch_up(&mut self) -> Result<()> {
        // Behind an error or a panic, the watcher stands at what was not taken in.
        self.watcher.go_back_to(self.seen);
        let mut folding = match self.folding.take() {
            Some(folding) => folding,
            None => fold_up_to(&self.watcher.view()?, self.watcher.region(), self.kind, self.seen)?,
        };
        let mut reached = self.seen;
        let caught_up = loop {
            match self.watcher.advance() {
                Ok(true) => {}
                Ok(false) => {
                    reached = self.watcher.looked();
                    break Ok(());
                }
                Err(error) => break Err(error),
            }
            let entry = self.watcher.entry();
            let taken = if folding.is_next(&entry) {
                folding.take(self.kind, &entry)
            } else {
                let (view, seq) = (self.watcher.view()?, entry.seq().get());
                fold_up_to(&view, self.watcher.region(), self.kind, seq).map(|anew| folding = anew)
            };
            if let Err(error) = taken {
                break Err(error);
            }
            reached = folding.seq;
        };
        // Not before: a panic on the way means that nothing of it was told.
        self.seen = reached;
        self.folding = Some(folding);
        caught_up
    }
}

impl<F: Fold> Reading for DurableProjectionWatcher<F> {
    fn place(&self) -> Place<'_> {
        let place = self.watcher.place();
        let stands_before_a_failure = self.seen < self.watcher.looked();
        Place { has_more: place.has_more || self.folding.is_none() || stands_before_a_failure, ..place }
    }
}

impl<F: Fold> fmt::Debug for DurableProjectionWatcher<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DurableProjectionWatcher({:?}, {:?}, told {:?})", F::NAME, self.watcher, self.told)
    }
}
