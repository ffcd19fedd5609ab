//! The handle of a fold over a topic, and the projectors of a store.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::backplane::{Backplane, Era, Offset};
use crate::error::{Error, ErrorKind, Result};
use crate::fold::Fold;
use crate::fold::image::Subject;
use crate::fold::pool::Pool;
use crate::fold::projector::{Held, Projector, Seen, Shown};
use crate::fold::topic::{FoldOptions, FoldStats, FoldStatus, Folded};
use crate::fold::working::Setting;
use crate::meter::Meter;

/// Whoever reads waits so long for a value that is being folded from the beginning.
const READ_PATIENCE: Duration = Duration::from_secs(30);

/// The value of a fold over one topic, kept up to date as long as somebody has a handle of it.
///
/// All handles of a store for the same fold over the same topic share it. It is folded by a few threads that all folds of
/// the store share ([`Options::fold_threads`](crate::Options::fold_threads)); one to which nothing comes takes no thread and no
/// timer.
///
/// It saves images of the value in the stream [`IMAGES_STREAM`](crate::backplane::IMAGES_STREAM) as [`FoldOptions`] say, and begins
/// with the newest one that can be used. A value is always that of all records of the topic in their order, up to its offset:
/// what is missing is proven by the numbers of the writers, and then bridged by an image, or the fold [halts](crate::Halt).
///
/// ```
/// use std::time::Duration;
/// use esker::{At, Fold, FoldStatus, Store, Topic};
///
/// const ORDERS: Topic<i64> = Topic::new("order");
///
/// struct Total;
/// impl Fold for Total {
///     type State = i64;
///     type Event = i64;
///     const NAME: &'static str = "total";
///     const VERSION: u32 = 1;
///     fn fold(total: &mut i64, cents: i64, _: &At) {
///         *total += cents;
///     }
/// }
///
/// # fn main() -> esker::Result<()> {
/// let store = Store::in_memory()?;
/// let order = store.topic(ORDERS, "8812")?;
/// order.append(&500)?;
/// let total = order.fold::<Total>()?;
/// assert_eq!(total.read()?.value, 500);
///
/// let offset = order.append(&120)?;
/// let folded = total.read_after(offset, Duration::from_secs(5))?;        // with one's own append in it
/// assert_eq!((folded.value, folded.offset), (620, offset));
/// # store.close() }
/// ```
pub struct TopicFold<F: Fold> {
    projector: Arc<Held<F>>,
    /// Of the first value that was seen.
    era: OnceLock<Era>,
}

impl<F: Fold> TopicFold<F> {
    /// The value as far as it is folded: what the first handle reads first has everything in it that was appended before it was
    /// taken up. Whether there is more its status says, for which the backplane is asked; whoever needs its own appends in it
    /// calls [`read_after`](Self::read_after).
    ///
    /// # Errors
    ///
    /// `Halted` if it cannot even begin (one that halts later answers the last value, with a status that says so). What the
    /// backplane answers, if it does so again and again and there is no value yet. `Timeout` if there is none behind half a
    /// minute. `Closed`.
    pub fn read(&self) -> Result<Folded<F::State>> {
        self.read_within(READ_PATIENCE)
    }

    /// The same, with as much patience as is given.
    pub(crate) fn read_within(&self, patience: Duration) -> Result<Folded<F::State>> {
        Ok(self.wait_for_a_value(patience)?.folded())
    }

    /// Hands on the value without a clone. Others who read this value wait meanwhile; whoever folds does not.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_with<R>(&self, then: impl FnOnce(&F::State, Offset, FoldStatus) -> R) -> Result<R> {
        Ok(self.wait_for_a_value(READ_PATIENCE)?.look(then))
    }

    /// Waits for a value with the record at an offset in it, at most so long. Then the backplane is asked whether that is the
    /// newest, which across a network may take as long as its own time-out on top.
    ///
    /// # Errors
    ///
    /// `Timeout`. `Halted` if it has halted before that record. `EraChanged` if offsets have come to mean something
    /// else since this handle was first read: take another handle, and the offset anew. `Closed`.
    pub fn read_after(&self, offset: Offset, timeout: Duration) -> Result<Folded<F::State>> {
        let seen = self.projector.wait(deadline(timeout), |shown| {
            self.check_era(shown)?;
            if shown.offset().is_some_and(|at| at >= offset) {
                return self.projector.seen(shown).map(Some);
            }
            match &shown.halt {
                Some(halt) => Err(halt.as_error(F::NAME)),
                None => Ok(None),
            }
        })?;
        Ok(self.projector.with_status(seen).folded())
    }

    /// Tells of each new value, of several the newest; at first of the one that there is.
    #[must_use]
    pub fn watch(&self) -> FoldWatcher<F> {
        FoldWatcher { fold: self.clone(), told: None }
    }

    /// Saves an image now; answers behind which record it is. Records up to there the topic may [drop](crate::TopicHandle::compact)
    /// without a loss to this fold.
    ///
    /// # Errors
    ///
    /// `Halted`; what [`read`](Self::read) and [`commit`](Backplane::commit) answer.
    pub fn save_image(&self) -> Result<Offset> {
        self.save_image_within(READ_PATIENCE)
    }

    /// The same, with as much patience as is given for a value to save.
    pub(crate) fn save_image_within(&self, patience: Duration) -> Result<Offset> {
        self.wait_until(patience, |_| Ok(()))?;
        self.projector.save()
    }

    /// What it has done.
    #[must_use]
    pub fn stats(&self) -> FoldStats {
        self.projector.shown().stats
    }

    fn wait_for_a_value(&self, patience: Duration) -> Result<Seen<F::State>> {
        let seen = self.wait_until(patience, |shown| self.projector.seen(shown))?;
        Ok(self.projector.with_status(seen))
    }

    fn wait_until<R>(
        &self,
        patience: Duration,
        mut then: impl FnMut(&Shown<F::State>) -> Result<R>,
    ) -> Result<R> {
        self.projector.wait(deadline(patience), |shown| {
            if !shown.is_told(F::NAME)? {
                return Ok(None);
            }
            self.note_era(shown);
            then(shown).map(Some)
        })
    }

    fn note_era(&self, shown: &Shown<F::State>) {
        if let Some(era) = shown.era {
            self.era.get_or_init(|| era);
        }
    }

    fn check_era(&self, shown: &Shown<F::State>) -> Result<()> {
        self.note_era(shown);
        match (self.era.get(), shown.era) {
            (Some(known), Some(now)) if *known != now => {
                Err(Error::new(ErrorKind::EraChanged, format!("read the fold {:?}", F::NAME))
                    .sides(known, now))
            }
            _ => Ok(()),
        }
    }
}

fn deadline(timeout: Duration) -> Instant {
    let now = Instant::now();
    // A century is for ever.
    now.checked_add(timeout).unwrap_or_else(|| now + Duration::from_secs(100 * 365 * 86_400))
}

impl<F: Fold> Clone for TopicFold<F> {
    fn clone(&self) -> Self {
        Self { projector: Arc::clone(&self.projector), era: self.era.clone() }
    }
}

impl<F: Fold> fmt::Debug for TopicFold<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicFold({:?})", **self.projector)
    }
}

/// Tells of the values of a fold over a topic: [`TopicFold::watch`].
pub struct FoldWatcher<F: Fold> {
    fold: TopicFold<F>,
    /// What was told last: up to which record of which era, and whether it had halted.
    told: Option<(Offset, Option<Era>, bool)>,
}

impl<F: Fold> FoldWatcher<F> {
    /// Waits for a value that was not told yet, or for the fold to halt.
    ///
    /// # Errors
    ///
    /// `Halted` if it has halted, and that was told; as [`TopicFold::read`] otherwise.
    #[allow(clippy::should_implement_trait, reason = "it waits, and an error ends it")]
    pub fn next(&mut self) -> Result<Folded<F::State>> {
        self.next_until(deadline(Duration::MAX))
    }

    /// The same, at most so long; `None`: the time is over.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Folded<F::State>>> {
        match self.next_until(deadline(timeout)) {
            Err(error) if error.kind() == ErrorKind::Timeout => Ok(None),
            other => other.map(Some),
        }
    }

    fn next_until(&mut self, deadline: Instant) -> Result<Folded<F::State>> {
        let projector = &self.fold.projector;
        let seen = projector.wait(deadline, |shown| {
            let now = shown.offset().map(|offset| (offset, shown.era, shown.halt.is_some()));
            match (&shown.halt, now) {
                (Some(halt), now) if now.is_none() || now == self.told => Err(halt.as_error(F::NAME)),
                (_, Some(_)) if now != self.told => projector.seen(shown).map(Some),
                _ => Ok(None),
            }
        })?;
        self.told = Some((seen.offset, seen.era, matches!(seen.status, FoldStatus::Halted(_))));
        Ok(projector.with_status(seen).folded())
    }
}

impl<F: Fold> fmt::Debug for FoldWatcher<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FoldWatcher({:?}, told {:?})", **self.fold.projector, self.told)
    }
}

/// The projectors of one store, each as long as somebody has it.
pub(crate) struct Projectors {
    pool: Arc<Pool>,
    meter: Arc<Meter>,
    by_topic: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    projectors: HashMap<Key, Weak<dyn Any + Send + Sync>>,
    /// Which type has the images of a name and version, by stream.
    types: HashMap<(&'static str, u32, String), (TypeId, &'static str)>,
    /// When there are so many, those that are gone are let go of.
    look_at: usize,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    fold: TypeId,
    stream: String,
    key: Vec<u8>,
    schema: u16,
    options: FoldOptions,
}

impl Table {
    /// Refuses a second type of the same name and version: each would take the other's images for its own.
    fn check_type<F: Fold>(&mut self, stream: &str) -> Result<()> {
        let name = (F::NAME, F::VERSION, stream.to_owned());
        let this = (TypeId::of::<F>(), type_name::<F>());
        let known = *self.types.entry(name).or_insert(this);
        if known.0 == this.0 {
            return Ok(());
        }
        let doing = format!("take up the fold {:?} version {} over {stream:?}", F::NAME, F::VERSION);
        Err(Error::new(ErrorKind::InvalidInput, doing)
            .sides(format!("the type {}, which has the name and version", known.1), this.1))
    }
}

impl Projectors {
    pub(crate) fn new(threads_max: usize, meter: Arc<Meter>) -> Self {
        Self { pool: Arc::new(Pool::new(threads_max)), meter, by_topic: Mutex::default() }
    }

    /// The threads that fold, for others who have little to do.
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The fold over a topic, whose events are read as of this version.
    pub(crate) fn fold<F: Fold>(
        &self,
        plane: &Arc<dyn Backplane>,
        (stream, key): (&str, &[u8]),
        schema: u16,
        options: FoldOptions,
    ) -> Result<TopicFold<F>> {
        let name =
            Key { fold: TypeId::of::<F>(), stream: stream.to_owned(), key: key.to_vec(), schema, options };
        let mut table = self.by_topic.lock();
        table.check_type::<F>(stream)?;
        let known = table.projectors.get(&name).and_then(Weak::upgrade);
        // The key names the type. One that has halted is not taken up again, but tried anew.
        let known = known.and_then(|known| known.downcast::<Held<F>>().ok());
        if let Some(projector) = known.filter(|known| known.shown().halt.is_none()) {
            return Ok(TopicFold { projector, era: OnceLock::new() });
        }
        let subject = Subject::of::<F>(stream, key);
        let setting = Setting { plane: Arc::clone(plane), subject, schema, options };
        let projector = Projector::<F>::start(&self.pool, &self.meter, setting)?;
        let shared: Arc<dyn Any + Send + Sync> = projector.clone();
        if table.projectors.len() >= table.look_at {
            table.projectors.retain(|_, projector| projector.strong_count() > 0);
            table.look_at = table.projectors.len() * 2 + 64;
        }
        table.projectors.insert(name, Arc::downgrade(&shared));
        Ok(TopicFold { projector, era: OnceLock::new() })
    }
}

impl fmt::Debug for Projectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Projectors({:?})", self.pool)
    }
}
