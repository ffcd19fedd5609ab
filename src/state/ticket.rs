//! What became of an operation that was accepted: for whoever made it, when its window is in the log.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::error::{Error, ErrorKind, Result};
use crate::id::{Position, Seq};
use crate::journal::core::Core;
use crate::journal::waiting::Until;
use crate::state::engine::State;

/// What a flush made of an operation's entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Made {
    /// It is there now, and was not before.
    Created,
    /// Its row is another one.
    Updated,
    /// Nobody asserts it any more.
    Deleted,
    /// Only who asserts it has changed.
    SourcesOnly,
    /// It is as it was.
    Nothing,
}

/// What a window came to for one entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// What became of it.
    pub change: Made,
    /// Its version now; 0: there is no such entity, and none that is remembered.
    pub version: u64,
    /// Where that stands in the log; `None`: nothing had to be appended.
    pub seq: Option<Seq>,
}

/// What became of a window; shared by the tickets of its operations.
#[derive(Default)]
pub(crate) struct Outcome {
    ended: OnceLock<Ended>,
    /// The store of those who have a ticket. Counted once for all of them: its count stands beside what other threads write
    /// all the time. The store holds the window in turn, until it is flushed or the store is closed.
    core: OnceLock<Arc<Core>>,
}

#[derive(Debug)]
pub(crate) enum Ended {
    Flushed {
        end: Position,
        entities: Box<[Committed]>,
    },
    /// The store refuses for good; it says itself why.
    Failed,
}

impl Outcome {
    /// Once for each window.
    pub(crate) fn end(&self, ended: Ended) {
        let _ = self.ended.set(ended);
    }

    /// `None`: the window is open. `Some(None)`: it failed.
    fn of(&self, entity: u32) -> Option<Option<(Position, Committed)>> {
        Some(match self.ended.get()? {
            Ended::Failed => None,
            Ended::Flushed { end, entities } => {
                entities.get(entity as usize).map(|committed| (*end, *committed))
            }
        })
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ended.fmt(f)
    }
}

/// An operation that was accepted.
///
/// It is visible when its window was flushed, which is soon behind a window's length or at once when somebody waits
/// for it, and durable as the store's [`Durability`](crate::Durability) says: under `Sync` with the sync that follows
/// the flush. Without a thread of its own ([`Options::background`](crate::Options::background)) a window is flushed by
/// the next operation behind its time.
#[derive(Clone)]
pub struct StateTicket {
    outcome: Arc<Outcome>,
    entity: u32,
}

impl StateTicket {
    /// That of an operation on the entity at this place of a window.
    pub(crate) fn of(outcome: &Arc<Outcome>, core: &Arc<Core>, entity: u32) -> Self {
        outcome.core.get_or_init(|| Arc::clone(core));
        Self { outcome: Arc::clone(outcome), entity }
    }

    /// # Errors
    ///
    /// `InvalidInput` if it is of another store: what that has written says nothing of this one.
    pub(crate) fn check_of(&self, core: &Arc<Core>) -> Result<()> {
        if self.outcome.core.get().is_some_and(|own| Arc::ptr_eq(own, core)) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidInput, "read behind an operation")
            .at(core.directory.path())
            .sides("a ticket of this store", "one of another"))
    }

    /// Waits until the operation's window is in the log, or on the disk too, and flushes it if nobody else does.
    ///
    /// ```
    /// use esker::{Kind, Made, Store, Until};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Vessel { name: String }
    /// # const VESSEL: Kind<Vessel> = Kind::new("vessel");
    /// # fn main() -> esker::Result<()> {
    /// let store = Store::in_memory()?;
    /// let radar = store.source("radar")?;
    /// let ticket = radar.assert(VESSEL, "mmsi:2190", &Vessel { name: "Ada".into() })?;
    /// let committed = ticket.wait(Until::Durable)?;
    /// assert_eq!((committed.change, committed.version), (Made::Created, 1));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// `NoSpace` or `Io`: it is still pending, and is tried again. `Poisoned`: the outcome is unknown. `Closed`:
    /// the store was closed before it could be appended.
    pub fn wait(&self, until: Until) -> Result<Committed> {
        let core = self.outcome.core.get().unwrap_or_else(|| panic!("a ticket is of a store"));
        let tried = match self.outcome.of(self.entity) {
            None => State::of(core).append(core).map(drop),
            Some(_) => Ok(()),
        };
        match self.outcome.of(self.entity) {
            Some(Some((end, committed))) => {
                if until == Until::Durable {
                    core.wait_durable(end)?;
                }
                Ok(committed)
            }
            // Whatever was refused behind it is told to others. What refused it for good refuses everything.
            _ => tried.and_then(|()| Err(core.stopped_now("flush a window"))),
        }
    }

    /// True once it is in the log.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.outcome.of(self.entity).is_some_and(|flushed| flushed.is_some())
    }
}

impl fmt::Debug for StateTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateTicket({:?})", self.outcome.of(self.entity))
    }
}
