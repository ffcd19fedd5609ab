//! Values that were asked for before: the next time, only what is new is folded.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::Result;
use crate::fold::folding::{Folding, Named};
use crate::fold::{Fold, Projection};
use crate::id::{KindId, Position};
use crate::journal::view::View;

/// How fresh a projection has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Freshness {
    /// Everything that is visible is in it: whoever has appended something finds it there.
    #[default]
    Consistent,
    /// A value that was up to date so long ago will do.
    MaybeStale(Duration),
}

/// The most values that are kept.
const KEPT_MAX: usize = 4096;

/// The values of one store, by fold and entity.
#[derive(Default)]
pub(crate) struct Cache {
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    by_entity: HashMap<Key, Slot>,
    /// Rises with each use.
    clock: u64,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    fold: TypeId,
    kind: KindId,
    key: Box<[u8]>,
}

struct Slot {
    used: u64,
    /// A `Kept<F>`, for the `F` of its key.
    kept: Arc<dyn Any + Send + Sync>,
}

/// The value of one fold over one entity; whoever folds has the lock, and others wait for it.
type Kept<F> = Mutex<Found<F>>;

struct Found<F: Fold> {
    /// `None` also while it is folded, so that a panic leaves nothing half done.
    folding: Option<Folding<F>>,
    looked_at: Option<Instant>,
}

impl Cache {
    /// The value, as fresh as it has to be; `readable` is where the log ends now, `view` shows it.
    pub(crate) fn project<F: Fold>(
        &self,
        kind: Named,
        (id, key): (KindId, &[u8]),
        freshness: Freshness,
        readable: Position,
        view: impl FnOnce() -> View,
    ) -> Result<Projection<F::State>> {
        let kept = self.kept::<F>(id, key);
        let mut found = kept.lock();
        if let (Freshness::MaybeStale(age), Some(folding), Some(looked_at)) =
            (freshness, &found.folding, found.looked_at)
            && looked_at.elapsed() <= age
            && folding.mark <= readable
        {
            return Ok(folding.projection());
        }
        // Under the lock of the value, so that it only ever goes forward.
        let (now, view) = (Instant::now(), view());
        found.looked_at = None;
        // A failed sync takes back what was visible: it must not stay in a value.
        let known = found.folding.take().filter(|folding| folding.mark <= view.mark);
        let mut folding = known.unwrap_or_else(Folding::new);
        let folded = folding.go_on_in(&view, kind, (id, key), u64::MAX);
        let projection = folding.projection();
        found.folding = Some(folding);
        folded?;
        found.looked_at = Some(now);
        Ok(projection)
    }

    fn kept<F: Fold>(&self, kind: KindId, key: &[u8]) -> Arc<Kept<F>> {
        let mut slots = self.slots.lock();
        slots.clock += 1;
        let used = slots.clock;
        let new = || Arc::new(Mutex::new(Found::<F> { folding: None, looked_at: None }));
        let key = Key { fold: TypeId::of::<F>(), kind, key: key.into() };
        let slot = slots.by_entity.entry(key).or_insert_with(|| Slot { used, kept: new() });
        slot.used = used;
        // The key names the type.
        let kept = Arc::clone(&slot.kept).downcast().unwrap_or_else(|_| new());
        if slots.by_entity.len() > KEPT_MAX {
            slots.forget_the_older_half();
        }
        kept
    }
}

impl Slots {
    fn forget_the_older_half(&mut self) {
        let mut uses: Vec<u64> = self.by_entity.values().map(|slot| slot.used).collect();
        let middle = uses.len() / 2;
        let (_, newest_forgotten, _) = uses.select_nth_unstable(middle);
        let newest_forgotten = *newest_forgotten;
        self.by_entity.retain(|_, slot| slot.used > newest_forgotten);
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cache({} values)", self.slots.lock().by_entity.len())
    }
}
