//! Typed reads: the log as it was at one moment, a kind at a time.

use std::fmt;
use std::iter::FusedIterator;
use std::sync::Arc;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::format::system::KindInfo;
use crate::id::KindId;
use crate::journal::core::Core;
use crate::journal::entry::Entry;
use crate::journal::reader::Reader;
use crate::journal::region::Region;
use crate::journal::region::RegionEntries;
use crate::journal::view::View;
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
        Self { view: core.view(), names: Names::Writer(Arc::clone(core)) }
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
        Ok(Self { view: reader.view()?, names: Names::Reader(reader.clone()) })
    }

    /// The facts of a kind, in the order of the log; double-ended. Segments without the kind
    /// are passed over.
    ///
    /// A kind of bytes (from [`Journal::kind`](crate::Journal::kind)) is a `KindMismatch`,
    /// which the iterator gives as its only item.
    #[must_use]
    pub fn facts<T>(&self, kind: Facts<T>) -> FactIter<'_, T> {
        self.iter(kind, Region::kind)
    }

    /// The history of one entity, oldest first; double-ended. Nothing else is scanned.
    ///
    /// Errors are items, as in [`facts`](Self::facts).
    #[must_use]
    pub fn history<T>(&self, kind: Facts<T>, key: impl AsRef<[u8]>) -> FactIter<'_, T> {
        self.iter(kind, |id| Region::entity(id, key))
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

    /// The same moment as entries of all kinds, with their bytes.
    #[must_use]
    pub fn entries(&self) -> &View {
        &self.view
    }

    pub(crate) fn find<T>(&self, kind: Facts<T>) -> Result<Option<KindId>> {
        self.named(kind.name()).map(|known| kinds::readable(&known)).transpose()
    }

    /// Nanoseconds since 1970, by the store's clock. A reader does not know which one its writer has.
    pub(crate) fn now(&self) -> i64 {
        match &self.names {
            Names::Writer(core) => core.options.clock.now(),
            Names::Reader(_) => Clock::System.now(),
        }
    }

    /// What the registry says of a name.
    pub(crate) fn named(&self, name: &str) -> Option<Arc<KindInfo>> {
        match &self.names {
            Names::Writer(core) => core.registry.read().named(name).cloned(),
            Names::Reader(reader) => reader.kind_named(name),
        }
    }

    fn iter<T>(&self, kind: Facts<T>, region: impl FnOnce(KindId) -> Region) -> FactIter<'_, T> {
        let (entries, refused) = match self.find(kind) {
            Ok(id) => (id.map(|id| self.view.region(&region(id))), None),
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
