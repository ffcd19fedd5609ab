//! Reading rows: one, the versions of one, or all that are alive.

use std::fmt;
use std::iter::FusedIterator;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::format::row::RowOperation;
use crate::id::{KindId, Position, Seq};
use crate::journal::entry::{Entry, OwnedEntry};
use crate::journal::scan::Scan;
use crate::journal::view::View;
use crate::state::kind::Kind;
use crate::state::newest::Newest;
use crate::state::row::{Said, value};

/// Who asserts an entity: some of the 64 sources of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct SourceSet(pub(crate) u64);

impl SourceSet {
    /// Nobody.
    pub const EMPTY: Self = Self(0);

    /// True if the source with this number is among them.
    #[must_use]
    pub const fn contains(self, id: u8) -> bool {
        id < 64 && self.0 & 1 << id != 0
    }

    /// How many there are.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// True if there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Their numbers, ascending.
    pub fn ids(self) -> impl Iterator<Item = u8> {
        (0..64).filter(move |id| self.contains(*id))
    }

    /// One bit a source.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

/// How an entity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// It is there.
    Alive {
        /// How often its row has changed.
        version: u64,
        /// Who asserts it.
        sources: SourceSet,
    },
    /// It was there a short while ago.
    Tombstone {
        /// The version that its deletion has.
        version: u64,
    },
    /// There is none.
    NotFound,
}

/// A row of an entity, borrowed from mapped memory. [`value`](Self::value) decodes it.
pub struct Row<'v, T> {
    kind: Kind<T>,
    entry: Entry<'v>,
    said: Said,
}

impl<'v, T> Row<'v, T> {
    /// The row of an entry of the kind.
    pub(crate) fn of(kind: Kind<T>, entry: Entry<'v>) -> Result<Self> {
        Ok(Self { kind, said: Said::of(&entry)?, entry })
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.said.is_alive()
    }

    /// The value, brought to the kind's version.
    ///
    /// # Errors
    ///
    /// `Codec` with the Seq, the entity and the cause, if it is not a value of `T`; `Schema` if a newer version of the kind wrote
    /// it, whatever `T` would make of its bytes. Other rows are not affected.
    pub fn value(&self) -> Result<T>
    where
        T: DeserializeOwned,
    {
        value(self.kind, &self.entry, self.said.mark.schema)
    }

    /// The key of its entity.
    #[must_use]
    pub fn key(&self) -> &'v [u8] {
        self.entry.key()
    }

    /// How often the entity's row has changed: it rises strictly, for ever.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.said.version
    }

    /// Who asserts the entity.
    #[must_use]
    pub fn sources(&self) -> SourceSet {
        SourceSet(self.said.mark.sources)
    }

    /// Its place in the log.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.entry.seq()
    }

    /// When it was appended; see [`Entry::time`].
    #[must_use]
    pub fn time(&self) -> i64 {
        self.entry.time()
    }

    /// The bytes that came with the last operation that had any, of the window that made it. A change of who asserts the row,
    /// and of nothing else, leaves them as they were, unless it comes with some itself.
    #[must_use]
    pub fn metadata(&self) -> &'v [u8] {
        self.entry.metadata()
    }

    /// The version of the schema that wrote it.
    #[must_use]
    pub fn schema_version(&self) -> u16 {
        self.said.mark.schema
    }

    /// The entry under it, with its bytes as they stand.
    #[must_use]
    pub fn entry(&self) -> Entry<'v> {
        self.entry
    }

    /// The same row with a share in the mapped segment instead of a borrow; nothing is copied.
    #[must_use]
    pub fn to_owned(&self) -> OwnedRow<T> {
        OwnedRow { kind: self.kind, entry: self.entry.to_owned(), said: self.said }
    }
}

impl<T> Clone for Row<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Row<'_, T> {}

impl<T> fmt::Debug for Row<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row")
            .field("kind", &self.kind)
            .field("key", &String::from_utf8_lossy(self.key()))
            .field("version", &self.version())
            .field("sources", &self.sources())
            .field("seq", &self.seq())
            .finish()
    }
}

/// A row that holds a share in the mapped segment: `'static`, `Send`, and cheap to clone.
pub struct OwnedRow<T> {
    kind: Kind<T>,
    entry: OwnedEntry,
    said: Said,
}

impl<T> OwnedRow<T> {
    /// The row itself.
    #[must_use]
    pub fn row(&self) -> Row<'_, T> {
        Row { kind: self.kind, entry: self.entry.entry(), said: self.said }
    }

    /// The value, brought to the kind's version.
    ///
    /// # Errors
    ///
    /// As [`Row::value`].
    pub fn value(&self) -> Result<T>
    where
        T: DeserializeOwned,
    {
        self.row().value()
    }

    /// The key of its entity.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.row().key()
    }

    /// See [`Row::version`].
    #[must_use]
    pub fn version(&self) -> u64 {
        self.said.version
    }

    /// Who asserts the entity.
    #[must_use]
    pub fn sources(&self) -> SourceSet {
        SourceSet(self.said.mark.sources)
    }

    /// Its place in the log.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.row().seq()
    }

    /// See [`Row::metadata`].
    #[must_use]
    pub fn metadata(&self) -> &[u8] {
        self.row().metadata()
    }
}

impl<T> Clone for OwnedRow<T> {
    fn clone(&self) -> Self {
        Self { kind: self.kind, entry: self.entry.clone(), said: self.said }
    }
}

impl<T> fmt::Debug for OwnedRow<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.row().fmt(f)
    }
}

/// The row of an entity in a view, if it is there.
pub(crate) fn row<'v, T>(
    view: &'v View,
    id: KindId,
    kind: Kind<T>,
    key: &[u8],
) -> Result<Option<Row<'v, T>>> {
    let Some(entry) = view.latest(id, key)? else { return Ok(None) };
    let row = Row::of(kind, entry)?;
    Ok(row.is_alive().then_some(row))
}

/// How an entity is in a view, and whether it was deleted not longer ago than `retention`, by a wall clock that says `now`.
pub(crate) fn status(view: &View, id: KindId, key: &[u8], now: i64, retention: Duration) -> Result<Status> {
    let Some(entry) = view.latest(id, key)? else { return Ok(Status::NotFound) };
    let said = Said::of(&entry)?;
    Ok(match said.operation {
        // One that is as far ahead has its time from a clock that was wrong then, or is now: nobody knows how long ago it was.
        RowOperation::Deleted if u128::from(entry.time().abs_diff(now)) > retention.as_nanos() => {
            Status::NotFound
        }
        RowOperation::Deleted => Status::Tombstone { version: said.version },
        _ => Status::Alive { version: said.version, sources: SourceSet(said.mark.sources) },
    })
}

/// The rows of a kind that are alive at one moment, in the order in which they were written last.
///
/// What is written later does not show. In the writer's process nothing that is compacted meanwhile is missing; for a
/// [`Reader`](crate::Reader) in another one the walk ends with `Compacted` then. No row is gathered: one is held when
/// it comes up, and of the segment that it is in two bits an entry, which say where there are such. After an error that names its row, the next call goes on behind it.
pub struct Rows<T> {
    kind: Kind<T>,
    /// `None`: the store does not have the kind.
    walk: Option<Walk>,
    failed: bool,
}

/// Over the frames of a kind, stopping at those that are an entity's newest.
#[derive(Debug)]
pub(crate) struct Walk {
    newest: Newest,
    scan: Scan,
}

impl Walk {
    pub(crate) fn new(view: View, id: KindId) -> Self {
        // Where the end cannot be read, the walk will say so.
        let frames = view.last_seq().ok().flatten().map_or(0, Seq::get);
        Self { scan: Scan::of_newest(id, view.clone(), 0), newest: Newest::new(view, id, frames) }
    }

    /// Where the view ends whose rows they are.
    pub(crate) fn mark(&self) -> Position {
        self.scan.mark()
    }

    /// Steps to the next row that is alive. False: there is no more.
    pub(crate) fn advance(&mut self) -> Result<bool> {
        while self.scan.advance().inspect_err(|error| _ = self.scan.pass_over(error))? {
            let Some(entry) = self.scan.entry() else { continue };
            let is_newest = |newest: &mut Newest| Ok(self.scan.is_certainly_newest() || newest.is(&entry)?);
            if Said::of(&entry)?.is_alive() && is_newest(&mut self.newest)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) fn entry(&self) -> Option<Entry<'_>> {
        self.scan.entry()
    }
}

impl<T> Rows<T> {
    pub(crate) fn new(kind: Kind<T>, id: Option<KindId>, view: View) -> Self {
        Self { kind, walk: id.map(|id| Walk::new(view, id)), failed: false }
    }

    /// The next row, borrowed; `None`: there is no more.
    ///
    /// # Errors
    ///
    /// `Corrupt` or `Io` for a row that cannot be read.
    pub fn next_row(&mut self) -> Result<Option<Row<'_, T>>> {
        let Some(walk) = self.walk.as_mut() else { return Ok(None) };
        if !walk.advance()? {
            return Ok(None);
        }
        walk.entry().map(|entry| Row::of(self.kind, entry)).transpose()
    }
}

impl<T> Iterator for Rows<T> {
    type Item = Result<OwnedRow<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let found = self.next_row().map(|row| row.map(|row| row.to_owned())).transpose()?;
        // Where nobody knows how far the damage goes there is no next one.
        self.failed = matches!(&found, Err(error) if error.seqs().is_none());
        Some(found)
    }
}

impl<T> FusedIterator for Rows<T> {}

impl<T> fmt::Debug for Rows<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rows({:?}, {:?})", self.kind, self.walk)
    }
}

/// The rows that an entity had, oldest first, and its deletions: what [`Store::versions`](crate::Store::versions)
/// gives.
#[derive(Debug)]
#[non_exhaustive]
pub enum Version<T> {
    /// It was there, with this row.
    Row(OwnedRow<T>),
    /// It was deleted.
    Deleted {
        /// The version of the deletion.
        version: u64,
        /// Where it stands.
        seq: Seq,
    },
}

impl<T> Version<T> {
    /// An entry as a version; `None`: only who asserts the entity changed with it.
    pub(crate) fn of(kind: Kind<T>, entry: Entry<'_>) -> Result<Option<Self>> {
        let row = Row::of(kind, entry)?;
        Ok(match row.said.operation {
            RowOperation::Sources => None,
            RowOperation::Deleted => Some(Self::Deleted { version: row.version(), seq: row.seq() }),
            _ => Some(Self::Row(row.to_owned())),
        })
    }
}
