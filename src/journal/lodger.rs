//! What stands on a journal and has to end before it does: the state layer, whose windows hold what was
//! accepted and is not appended yet.

use std::any::Any;
use std::sync::Arc;

use crate::error::Result;
use crate::journal::core::Core;

/// One for each engine, made by the first who needs it.
pub(crate) trait Lodger: Any + Send + Sync {
    /// Appends what is left, and ends its thread. Called once by a close, under no lock, while the journal
    /// still appends; what comes later is refused.
    fn end(&self, core: &Arc<Core>) -> Result<()>;

    /// As what it is.
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

impl Core {
    /// The lodger, which `make` makes if there is none.
    pub(crate) fn lodger<L: Lodger>(&self, make: impl FnOnce() -> L) -> Arc<L> {
        let lodger = Arc::clone(self.lodger.get_or_init(|| Arc::new(make())));
        lodger.as_any().downcast().unwrap_or_else(|_| panic!("there is one type of lodger"))
    }
}
