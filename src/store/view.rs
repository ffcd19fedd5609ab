//! Typed reads: the log as it was at one moment, a kind at a time.

use std::fmt;
use std::iter::FusedIterator;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::format::system::KindInfo;
use crate::id::{KindId, Seq};
use crate::journal::core::Core;
use crate::journal::entry::Entry;
use crate::journal::past::Past;
use crate::journal::reader::Reader;
use crate::journal::region::Region;
use crate::journal::region::RegionEntries;
use crate::journal::source::Source;
use crate::journal::view::View;
use crate::options::TOMBSTONE_RETENTION;
use crate::store::fact::Fact;
use crate::store::facts::Facts;
use crate::store::kinds;

/// The store up to one moment: what is appended later is not in it.
///
/// Facts are borrowed from it. A kind that the store has never seen has no facts; that is not
/// an error, and reading registers nothing.
///
/// ```
/// use esker::{Facts, Store};
/// # fn main() -> esker::Result<()> {
/// const NOTES: Facts<String> = Facts::new("note");
/// let store = Store::in_memory()?;
/// store.append(NOTES, "a", &"one".to_owned())?;
/// store.append(NOTES, "b", &"two".to_owned())?;
/// store.append(NOTES, "a", &"three".to_owned())?;
///
/// let view = store.view();
/// for fact in view.history(NOTES, "a").rev() {
///     let fact = fact?;
///     println!("{} {} {:?}", fact.seq(), fact.generation(), fact.value()?);
/// }
/// assert_eq!(view.facts(NOTES).count(), 3);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct StoreView {
    view: View,
    names: Names,
    /// Of a view of an earlier moment: what says whether all of it is left.
    past: Option<Past>,
}

/// Who knows the kinds by name.
#[derive(Clone, Debug)]
enum Names {
    /// The engine, which ends with the last `Store`, not with its views.
    Writer(Arc<Core>),
    Reader(Reader),
}

impl StoreView {
    pub(crate) fn new(core: &Arc<Core>) -> Self {
        Self { view: core.view(), names: Names::Writer(Arc::clone(core)), past: None }
    }

    /// The typed view of a reader, which may be in another process than the store's writer.
    ///
    /// ```
    /// use esker::{Facts, Reader, Store, StoreView};
    /// # fn main() -> esker::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("shop.esker");
    /// const NOTES: Facts<String> = Facts::new("note");
    /// let store = Store::open(&path)?;
    /// let reader = Reader::open(&path)?;
    /// store.append(NOTES, "a", &"one".to_owned())?;
    /// let view = StoreView::of(&reader)?;
    /// assert_eq!(view.latest(NOTES, "a")?.unwrap().value()?, "one");
    /// # store.close() }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Reader::view`].
    pub fn of(reader: &Reader) -> Result<Self> {
        Ok(Self { view: reader.view()?, names: Names::Reader(reader.clone()), past: None })
    }

    /// The same as it was at an earlier moment: behind the last whole batch up to a Seq. A Seq in the middle of a batch
    /// means the batch before it; none (`None`) the empty store. Rows and facts are read as ever:
    ///
    /// ```
    /// use esker::{Facts, Kind, Store};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Vessel { knots: f32 }
    /// const VESSEL: Kind<Vessel> = Kind::new("vessel");
    /// const NOTES: Facts<String> = Facts::new("note");
    /// # fn main() -> esker::Result<()> {
    /// let store = Store::in_memory()?;
    /// let radar = store.source("radar")?;
    /// radar.assert(VESSEL, "ada", &Vessel { knots: 11.2 })?;
    /// store.flush()?;
    /// let then = store.append(NOTES, "ada", &"leaves".to_owned())?.seq;
    /// radar.retract(VESSEL, "ada")?;
    /// store.flush()?;
    /// store.append(NOTES, "ada", &"arrives".to_owned())?;
    ///
    /// let past = store.at(then)?;
    /// assert_eq!(past.get(VESSEL, "ada")?.unwrap().value()?.knots, 11.2);
    /// assert_eq!(past.latest(NOTES, "ada")?.unwrap().value()?, "leaves");
    /// assert!(store.get(VESSEL, "ada")?.is_none());
    /// assert_eq!(past.at(None)?.rows(VESSEL)?.count(), 0);
    /// # Ok(()) }
    /// ```
    ///
    /// What compaction has dropped cannot be told, and is never answered as if it had not been there: a read is then
    /// `Compacted`, and the [floor](crate::Error::floor) of the error is a later Seq. Of a kind below its
    /// [floor](View::floor) that is the first at which the kind can be read, above it the one at which the entity can; who
    /// follows them comes to an answer.
    ///
    /// * Of a kind with [`Keep::Latest`](crate::Keep::Latest), as rows are by default, what has changed since is
    ///   `Compacted` once compaction has passed it.
    /// * Once anything of a kind was dropped, a fact, a status or versions of which nothing is left up to the moment are
    ///   `Compacted`, unless the entity is known to have begun later: they may have been dropped as a whole.
    /// * With [`Keep::All`](crate::Keep::All) a kind can be read at every moment, but where it shares a batch with entries
    ///   of others that were dropped behind its own: from there to the next entry that is left nobody knows where that batch
    ///   ended.
    /// * In a gap that an import or a repair left nothing can be told. Behind it what was lost is missing as it is in the
    ///   present, and an entity is `Compacted` where its next entry does not go on from what is there. A batch ends for an
    ///   import where it was told so.
    ///
    /// A store of which nothing was dropped or lost tells everything. [`entries`](Self::entries) and [`facts`](Self::facts)
    /// show what is left, as in any other view, and a history begins where that of the present does.
    ///
    /// # Errors
    ///
    /// `InvalidInput` with both numbers for a Seq behind the end of this view; `Corrupt` or `Io` if nobody can tell
    /// where a batch ends.
    pub fn at(&self, seq: impl Into<Option<Seq>>) -> Result<Self> {
        let seq = seq.into().map_or(0, Seq::get);
        let (view, past) = match &self.past {
            Some(past) => past.at(seq)?,
            None => self.view.at(seq)?,
        };
        Ok(Self { view, names: self.names.clone(), past: Some(past) })
    }

    /// The facts of a kind, in the order of the log; double-ended. Segments without the kind
    /// are passed over. Below the kind's [floor](View::floor) it is what compaction has kept, at an [earlier moment](Self::at) too.
    ///
    /// A kind of bytes (from [`Journal::kind`](crate::Journal::kind)) is a `KindMismatch`,
    /// which the iterator gives as its only item.
    #[must_use]
    pub fn facts<T>(&self, kind: Facts<T>) -> FactIter<'_, T> {
        let found = self.find(kind).and_then(|id| {
            if let (Some(past), Some(id)) = (&self.past, id) {
                past.check_kind(id, kind.name())?;
            }
            Ok(id.map(Region::kind))
        });
        self.iter(kind, found)
    }

    /// The history of one entity, oldest first; double-ended. Nothing else is scanned.
    ///
    /// Errors are items, as in [`facts`](Self::facts).
    #[must_use]
    pub fn history<T>(&self, kind: Facts<T>, key: impl AsRef<[u8]>) -> FactIter<'_, T> {
        let found = self.find_entity(kind, key.as_ref());
        self.iter(kind, found.map(|id| id.map(|id| Region::entity(id, key))))
    }

    /// The newest fact about an entity, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// `KindMismatch` if the kind is not one of typed facts, `Corrupt` if its bytes are
    /// damaged, `Io` if its segment cannot be opened.
    pub fn latest<T>(&self, kind: Facts<T>, key: impl AsRef<[u8]>) -> Result<Option<Fact<'_, T>>> {
        self.history(kind, key).next_back().transpose()
    }

    /// The kind, if what this view has of an entity is all that there was at its moment.
    pub(crate) fn find_entity<T>(&self, kind: Facts<T>, key: &[u8]) -> Result<Option<KindId>> {
        let id = self.find(kind)?;
        if let (Some(past), Some(id)) = (&self.past, id) {
            past.check_kind(id, kind.name())?;
            // What came behind the moment has nothing to add else, and may be missing.
            if past.may_miss(id)? {
                past.check_entity(&self.view, id, kind.name(), key)?;
            }
        }
        Ok(id)
    }

    /// An entry as a fact of this kind; `None` if it is of another. For a walk over several
    /// kinds in the order of the log, with [`entries`](Self::entries), and for entries that were appended
    /// since.
    ///
    /// # Errors
    ///
    /// `KindMismatch` if the kind is not one of typed facts.
    pub fn fact<'v, T>(&'v self, kind: Facts<T>, entry: Entry<'v>) -> Result<Option<Fact<'v, T>>> {
        let id = self.find(kind)?;
        Ok((id == Some(entry.kind())).then(|| Fact::new(kind, entry)))
    }

    /// The region of a kind, to read on in; `None`: the store does not have it yet. For a
    /// [`Reader`](crate::Reader), which registers nothing.
    ///
    /// ```
    /// use esker::{Facts, Item, Reader, Store, StoreView, SubscribeOptions};
    /// # fn main() -> esker::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("shop.esker");
    /// const NOTES: Facts<String> = Facts::new("note");
    /// let store = Store::open(&path)?;                        // in one process
    /// store.append(NOTES, "a", &"one".to_owned())?;
    ///
    /// let reader = Reader::open(&path)?;                      // in another
    /// let view = StoreView::of(&reader)?;
    /// let region = view.region(NOTES)?.expect("the writer has used it");
    /// let mut notes = reader.subscribe(region, SubscribeOptions::new())?;
    /// store.append(NOTES, "a", &"two".to_owned())?;
    /// let Some(Item::Entry(entry)) = notes.next()? else { panic!("an entry") };
    /// assert_eq!(view.fact(NOTES, entry)?.unwrap().value()?, "two");
    /// # store.close() }
    /// ```
    ///
    /// # Errors
    ///
    /// `KindMismatch` if the kind is not one of typed facts.
    pub fn region<T>(&self, kind: Facts<T>) -> Result<Option<Region>> {
        Ok(self.find(kind)?.map(Region::kind))
    }

    /// The same moment as entries of all kinds, with their bytes: what is left of them. A [`View`] of bytes does not look
    /// what is missing at an [earlier moment](Self::at), and is not `Compacted` where the typed reads are.
    #[must_use]
    pub fn entries(&self) -> &View {
        &self.view
    }

    pub(crate) fn find<T>(&self, kind: Facts<T>) -> Result<Option<KindId>> {
        self.named(kind.name()).map(|known| kinds::readable(&known)).transpose()
    }

    pub(crate) fn past(&self) -> Option<&Past> {
        self.past.as_ref()
    }

    /// Between which two times this is the state, in nanoseconds since 1970: now, by the store's clock (a reader does not
    /// know which one its writer has). Of an earlier moment, when its last entry was appended; if that was dropped, behind the
    /// newest that is left of all up to then, and before the next one.
    pub(crate) fn times(&self) -> Result<(i64, i64)> {
        let now = match &self.names {
            Names::Writer(core) => core.options.clock.now(),
            Names::Reader(_) => Clock::System.now(),
        };
        self.past.as_ref().map_or(Ok((now, now)), |past| past.times(&self.view, now))
    }

    /// So long a deletion is told. A reader does not know what its writer's options say.
    pub(crate) fn tombstone_retention(&self) -> Duration {
        match &self.names {
            Names::Writer(core) => core.options.tombstone_retention,
            Names::Reader(_) => TOMBSTONE_RETENTION,
        }
    }

    /// The log that it is a moment of.
    pub(crate) fn log(&self) -> Source {
        match &self.names {
            Names::Writer(core) => Source::Engine(Arc::clone(core)),
            Names::Reader(reader) => Source::Reader(reader.clone()),
        }
    }

    /// What the registry says of a name.
    pub(crate) fn named(&self, name: &str) -> Option<Arc<KindInfo>> {
        match &self.names {
            Names::Writer(core) => core.registry.read().named(name).cloned(),
            Names::Reader(reader) => reader.kind_named(name),
        }
    }

    fn iter<T>(&self, kind: Facts<T>, region: Result<Option<Region>>) -> FactIter<'_, T> {
        let (entries, refused) = match region {
            Ok(region) => (region.map(|region| self.view.region(&region)), None),
            Err(error) => (None, Some(error)),
        };
        FactIter { kind, entries, refused }
    }
}

/// Facts in the order of the log, from both ends; see [`StoreView::facts`] and
/// [`StoreView::history`].
///
/// After an error the iterator has ended.
pub struct FactIter<'v, T> {
    kind: Facts<T>,
    /// `None` for a kind that the store does not have.
    entries: Option<RegionEntries<'v>>,
    refused: Option<Error>,
}

impl<'v, T> FactIter<'v, T> {
    fn take(
        &mut self,
        step: impl FnOnce(&mut RegionEntries<'v>) -> Option<Result<Entry<'v>>>,
    ) -> Option<Result<Fact<'v, T>>> {
        if let Some(error) = self.refused.take() {
            return Some(Err(error));
        }
        let entry = step(self.entries.as_mut()?)?;
        Some(entry.map(|entry| Fact::new(self.kind, entry)))
    }
}

impl<'v, T> Iterator for FactIter<'v, T> {
    type Item = Result<Fact<'v, T>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take(Iterator::next)
    }
}

impl<T> DoubleEndedIterator for FactIter<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.take(DoubleEndedIterator::next_back)
    }
}

impl<T> FusedIterator for FactIter<'_, T> {}

impl<T> fmt::Debug for FactIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FactIter({:?}, {:?})", self.kind, self.entries)
    }
}
