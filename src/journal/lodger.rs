//! What stands on a journal and has to end before it does: the state layer, whose windows hold what was
//! accepted and is not appended yet.

use std::any::Any;
use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard};

use crate::error::{ErrorKind, Result};
use crate::format::system::Keep;
use crate::journal::core::Core;

/// Says how far the floors of topics may rise ([`Keep::Fold`](crate::Keep::Fold)), and has them rise: asked before a compaction.
pub(crate) trait RaisesFloors: Send + Sync {
    /// When it returns, the floors are durable.
    fn raise(&self) -> Result<()>;
}

/// Who needs the events of topics: the lock under which folds and consumers register and floors rise, so that whoever is registered is
/// asked, or finds the floor. An erasure takes it too: what is being looked at does not come back in a floor.
///
/// Before all other locks of the journal; calls of the backplane are made under it.
#[derive(Default)]
pub struct Registrations {
    raises_floors: OnceLock<Box<dyn RaisesFloors>>,
    changing: Mutex<()>,
    known: Mutex<HashSet<KnownFold>>,
}

/// A fold that the log says is registered: stream, name, and a version up to which it is.
pub(crate) type KnownFold = (String, String, u32);

impl Registrations {
    /// Says who has floors rise; whoever says it first.
    pub(crate) fn raised_by(&self, make: impl FnOnce() -> Box<dyn RaisesFloors>) {
        self.raises_floors.get_or_init(make);
    }

    /// Nobody else registers, raises a floor or erases meanwhile.
    pub(crate) fn hold(&self) -> MutexGuard<'_, ()> {
        self.changing.lock()
    }

    /// What has come to be known under the lock, so that those who are known do not wait for it. Nothing is called under this one.
    pub(crate) fn known(&self) -> MutexGuard<'_, HashSet<KnownFold>> {
        self.known.lock()
    }
}

impl fmt::Debug for Registrations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrations").finish_non_exhaustive()
    }
}

/// One for each engine, made by the first who needs it.
pub(crate) trait Lodger: Any + Send + Sync {
    /// Appends what is left, and ends its thread. Called once by a close, under no lock, while the journal
    /// still appends; what comes later is refused.
    fn end(&self, core: &Arc<Core>) -> Result<()>;

    /// As what it is.
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

impl Core {
    /// Has floors rise, if somebody knows how far. What fails for a full disk is done another time: compaction is what frees some.
    pub(crate) fn raise_floors(&self) -> Result<()> {
        let keeps_for_folds = self.registry.read().iter().any(|kind| kind.keep == Keep::Fold);
        let raised = match self.registrations.raises_floors.get() {
            Some(raises) if keeps_for_folds => raises.raise(),
            _ => Ok(()),
        };
        raised.or_else(|error| if error.kind() == ErrorKind::NoSpace { Ok(()) } else { Err(error) })
    }

    /// The lodger, which `make` makes if there is none.
    pub(crate) fn lodger<L: Lodger>(&self, make: impl FnOnce() -> L) -> Arc<L> {
        let lodger = Arc::clone(self.lodger.get_or_init(|| Arc::new(make())));
        lodger.as_any().downcast().unwrap_or_else(|_| panic!("there is one type of lodger"))
    }
}
