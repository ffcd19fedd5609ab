//! How to follow a kind.

use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::journal::waiting::Until;
use crate::state::door::Door;
use crate::state::kind::Kind;
use crate::state::subscription::Subscription;
use crate::state::token::Token;

/// What becomes of a subscription that falls too far behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Behind {
    /// It ends with `Lagged`; its [token](Subscription::token) says how far it came. So it does where compaction has dropped
    /// what it had yet to read, however little that is: once it has caught up it holds nothing back.
    #[default]
    End,
    /// It goes on nearer to the end, and is told how many changes it missed.
    LiveOnly,
    /// It begins anew: with all the rows that there are.
    Full,
    /// It is told what the changes that it missed come to, entity by entity; where compaction has dropped what
    /// would tell that, it begins anew.
    Resume,
    /// It has no backlog: whenever it comes to read, it is told one change of each entity that has changed since it had
    /// read all, its newest, in the order in which those were written; what is written meanwhile comes behind that, in
    /// the same way. So who reads slower than is written is told less, and nothing that had been replaced when it began
    /// to read: the newest of each price, and not each price. Of what came to nothing it is told nothing.
    ///
    /// [`Resume`](Self::Resume) tells each change, and only of more than [`capacity`](SubscriptionBuilder::capacity) what
    /// they come to. Where compaction has dropped what would tell that, this one begins anew too.
    Conflate,
}

/// How to follow a kind: [`Store::subscription`](crate::Store::subscription) begins it, or
/// [`Reader::subscription`](crate::Reader::subscription); [`start`](Self::start) ends it.
#[derive(Clone)]
#[must_use = "a subscription begins with `start`"]
pub struct SubscriptionBuilder<T> {
    door: Door,
    kind: Kind<T>,
    bootstrap: bool,
    previous: bool,
    sources: bool,
    metadata: bool,
    behind: Behind,
    capacity: u64,
    bootstrap_hold: u64,
    from: Option<Token>,
    until: Option<Until>,
    spin: Duration,
}

impl<T: DeserializeOwned> SubscriptionBuilder<T> {
    pub(crate) fn new(door: Door, kind: Kind<T>) -> Self {
        Self {
            door,
            kind,
            bootstrap: true,
            previous: false,
            sources: false,
            metadata: false,
            behind: Behind::End,
            capacity: 4096,
            bootstrap_hold: 1 << 30,
            from: None,
            until: None,
            spin: Duration::ZERO,
        }
    }

    /// Whether it begins with the rows that there are. Default: true.
    pub const fn bootstrap(mut self, bootstrap: bool) -> Self {
        self.bootstrap = bootstrap;
        self
    }

    /// Whether an update comes with the row before it, if that is still there. Default: false.
    pub const fn previous(mut self, previous: bool) -> Self {
        self.previous = previous;
        self
    }

    /// Whether changes only of who asserts an entity are told, as updates of no field. Default: false.
    pub const fn sources(mut self, sources: bool) -> Self {
        self.sources = sources;
        self
    }

    /// Whether the rows that it begins with come with the bytes that were said beside them. Default: false; changes always do.
    pub const fn metadata(mut self, metadata: bool) -> Self {
        self.metadata = metadata;
        self
    }

    /// What becomes of it when more than [`capacity`](Self::capacity) changes are unread, or compaction has dropped some that
    /// are. Default: [`Behind::End`].
    pub const fn behind(mut self, behind: Behind) -> Self {
        self.behind = behind;
        self
    }

    /// How many changes of the kind may be unread, those of who asserts an entity included, counted from when it first
    /// has caught up. Default: 4,096. With [`Behind::Conflate`] it is of no account.
    pub const fn capacity(mut self, changes: u64) -> Self {
        self.capacity = changes;
        self
    }

    /// How many bytes of log it may hold back from compaction until it has caught up, also while nobody reads it. Past
    /// that it begins anew. Default: 1 GiB. Of files of the rows themselves, as they were when it began, that it has mapped and
    /// compaction removes, the disk has the space back only behind them: these do not count. In another process than the writer's the
    /// limit is of no account: there it holds nothing back but such files.
    pub const fn bootstrap_hold(mut self, bytes: u64) -> Self {
        self.bootstrap_hold = bytes;
        self
    }

    /// Goes on where another subscription was: it is told each change since, or, if that may be more than
    /// [`capacity`](Self::capacity), what they come to, entity by entity; or, where nobody can tell that any more, it begins
    /// with all the rows, also of a subscription [without a bootstrap](Self::bootstrap). A token of another store is
    /// such a case, and no error: [`Marker::BootstrapBegin`](crate::Marker::BootstrapBegin) says why.
    ///
    /// ```
    /// # use std::collections::HashMap;
    /// # use esker::{Behind, ChangeKind, Kind, Marker, Result, StateItem, Store, Token};
    /// # #[derive(serde::Serialize, serde::Deserialize, Clone)]
    /// # struct Vessel { name: String, knots: f32 }
    /// # const VESSEL: Kind<Vessel> = Kind::new("vessel");
    /// /// Brings `known` up to now, from where `token` says that it was.
    /// fn catch_up(store: &Store, known: &mut HashMap<Vec<u8>, Vessel>, token: &mut Option<Token>) -> Result<()> {
    ///     let mut follow = store.subscription(VESSEL).behind(Behind::Resume);
    ///     if let Some(token) = *token {
    ///         follow = follow.resume(token);
    ///     }
    ///     let mut changes = follow.start()?;
    ///     while let Some(item) = changes.try_next()? {                            // `next` waits for more
    ///         match item {
    ///             StateItem::Marker(Marker::BootstrapBegin { .. }) => known.clear(),      // all the rows follow
    ///             StateItem::Change(change) if change.kind() == ChangeKind::Deleted => _ = known.remove(change.key()),
    ///             StateItem::Change(change) => _ = known.insert(change.key().to_vec(), change.value()?.unwrap()),
    ///             _ => {}
    ///         }
    ///     }
    ///     *token = changes.token()?;                                              // `None` in the middle of a bootstrap
    ///     Ok(())
    /// }
    /// # fn main() -> Result<()> {
    /// # let store = Store::in_memory()?;
    /// # let (mut known, mut token) = (HashMap::new(), None);
    /// # let radar = store.source("radar")?;
    /// # for knots in [1.0, 2.0] {
    /// #     radar.assert(VESSEL, "a", &Vessel { name: "Ada".into(), knots })?;
    /// #     store.flush()?;
    /// #     catch_up(&store, &mut known, &mut token)?;
    /// #     assert_eq!(known.values().next().unwrap().knots, knots);
    /// # }
    /// # radar.retract(VESSEL, "a")?;
    /// # store.flush()?;
    /// # catch_up(&store, &mut known, &mut token)?;
    /// # assert!(known.is_empty());
    /// # Ok(()) }
    /// ```
    pub const fn resume(mut self, token: Token) -> Self {
        self.from = Some(token);
        self
    }

    /// How far it sees once it has caught up: with [`Until::Visible`] it is told also what a power cut may yet take. The rows
    /// that it begins with are those of a durable moment all the same; so is what changes come to, in the process that writes,
    /// where it syncs for that, but not under [`Behind::Conflate`]; in another process it is told what is visible of them too.
    /// Default: `Durable`, but in the process that writes with another [durability](crate::Durability) than `Sync`: there
    /// `Visible`.
    pub const fn until(mut self, until: Until) -> Self {
        self.until = Some(until);
        self
    }

    /// So long a wait looks again and again before it sleeps. Default: none.
    pub const fn spin(mut self, budget: Duration) -> Self {
        self.spin = budget;
        self
    }

    /// Begins. The kind is registered if this is its first use; beside a writer of another process nothing is, and a kind that
    /// the store does not have yet has no rows until it is there.
    ///
    /// # Errors
    ///
    /// `Schema` or `KindMismatch` if the type does not fit the kind; `Poisoned`, `Closed`, `Forked`; `Io` or
    /// `Corrupt` if the log's end cannot be looked up; of a reader as [`Reader::view`](crate::Reader::view).
    pub fn start(mut self) -> Result<Subscription<T>> {
        self.door.refresh()?;
        let choice = self.choice();
        Subscription::begin(&self.door, self.kind, choice, self.from, (self.until, self.spin))
    }

    fn choice(&self) -> Choice {
        let &Self { bootstrap, previous, sources, metadata, behind, capacity, bootstrap_hold, .. } = self;
        // Not one change is told by itself.
        let capacity = if behind == Behind::Conflate { 0 } else { capacity };
        Choice { bootstrap, previous, sources, metadata, behind, capacity, bootstrap_hold }
    }
}

impl<T> fmt::Debug for SubscriptionBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SubscriptionBuilder({:?}, behind {:?})", self.kind, self.behind)
    }
}

/// What was chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub(crate) bootstrap: bool,
    pub(crate) previous: bool,
    pub(crate) sources: bool,
    pub(crate) metadata: bool,
    pub(crate) behind: Behind,
    pub(crate) capacity: u64,
    pub(crate) bootstrap_hold: u64,
}
