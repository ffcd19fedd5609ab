//! What a subscription tells: changes of entities, and what lies between them.

use std::fmt;

use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::id::Seq;
use crate::state::field::FieldOf;
use crate::state::kind::Kind;
use crate::state::reading::{OwnedRow, Row, SourceSet};
use crate::state::row::value;
use crate::state::token::{Because, Token};

/// What became of an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangeKind {
    /// It was there when the subscription began.
    Bootstrap,
    /// It was not there, and is.
    Created,
    /// Its row is another one.
    Updated,
    /// It is not there any more.
    Deleted,
}

/// What a subscription is told between changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Marker {
    /// All the rows follow. Whatever was gathered before is to be forgotten.
    BootstrapBegin {
        /// It is not the first time,
        rebootstrap: bool,
        /// and this is why; or why a token could not be resumed.
        because: Option<Because>,
    },
    /// Those were all rows, as of this place; what has changed since follows.
    BootstrapComplete {
        /// The place.
        token: Token,
        /// It is not the first time.
        rebootstrap: bool,
    },
    /// Changes that it was too slow for.
    Missed {
        /// The first that was passed over.
        from: Seq,
        /// The last one.
        to: Seq,
        /// How many row frames, those included that only change who asserts an entity; if compaction has dropped them, how
        /// many entries of whatever kind: nobody can tell any more which they were.
        count: u64,
        /// Compaction has dropped them. What it kept of the range comes next.
        compacted: bool,
    },
}

/// What a subscription stands at.
#[non_exhaustive]
pub enum StateItem<'s, T> {
    /// A change of an entity, or one of the rows that there were.
    Change(Change<'s, T>),
    /// Something about the subscription itself.
    Marker(Marker),
}

impl<T> fmt::Debug for StateItem<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Change(change) => change.fmt(f),
            Self::Marker(marker) => marker.fmt(f),
        }
    }
}

/// A change of an entity, borrowed from mapped memory.
pub struct Change<'s, T> {
    pub(crate) row: Row<'s, T>,
    pub(crate) kind: Kind<T>,
    pub(crate) what: ChangeKind,
    pub(crate) changed: u64,
    pub(crate) recreated: bool,
    pub(crate) metadata: &'s [u8],
    pub(crate) fields: &'s [String],
    pub(crate) previous: Option<&'s OwnedRow<T>>,
}

impl<'s, T> Change<'s, T> {
    /// What became of the entity.
    #[must_use]
    pub fn kind(&self) -> ChangeKind {
        self.what
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> &'s [u8] {
        self.row.key()
    }

    /// Its version now.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.row.version()
    }

    /// Who asserts it now.
    #[must_use]
    pub fn sources(&self) -> SourceSet {
        self.row.sources()
    }

    /// Its row; `None`: it was deleted.
    ///
    /// # Errors
    ///
    /// As [`Row::value`].
    pub fn value(&self) -> Result<Option<T>>
    where
        T: DeserializeOwned,
    {
        match self.what {
            ChangeKind::Deleted => Ok(None),
            _ => value(self.kind, &self.row.entry(), self.row.schema_version()).map(Some),
        }
    }

    /// The row before an update, if it was asked for, is still there and can be read.
    #[must_use]
    pub fn previous(&self) -> Option<&OwnedRow<T>> {
        self.previous
    }

    /// True if this field of the row is another one than before. Of an entity that was created and of a bootstrap's row
    /// all are; of one that was deleted, none. Where a change stands for several, and the row before them is not there any more to
    /// compare with or was written by another version of the schema, those are that any of them has changed: all, if one was a
    /// deletion, or came from another version. A name that is no field is never one of them: a [`kind!`](crate::kind) names only
    /// those that there are.
    #[must_use]
    pub fn has(&self, field: impl FieldOf<T>) -> bool {
        let field = field.field_name();
        self.fields.iter().position(|name| name == field).is_some_and(|at| self.changed_mask() & 1 << at != 0)
    }

    /// The fields that are others than before, by name.
    pub fn changed_fields(&self) -> impl Iterator<Item = &'s str> {
        let (fields, mask) = (self.fields, self.changed_mask());
        fields.iter().enumerate().filter(move |(at, _)| mask & 1 << at != 0).map(|(_, name)| name.as_str())
    }

    /// The same as one bit a field, in the order in which the store came to know them.
    #[must_use]
    pub fn changed_mask(&self) -> u64 {
        if self.what == ChangeKind::Deleted { 0 } else { self.changed }
    }

    /// True if the entity was deleted in between and created anew: of an update that stands for several changes, as of a
    /// subscription that goes on behind a lag, or of a mirror. Whoever follows each change is told both.
    ///
    /// ```
    /// use esker::{Behind, Kind, StateItem, Store};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Vessel { knots: f32 }
    /// # const VESSEL: Kind<Vessel> = Kind::new("vessel");
    /// # fn main() -> esker::Result<()> {
    /// let store = Store::in_memory()?;
    /// let radar = store.source("radar")?;
    /// radar.assert(VESSEL, "ada", &Vessel { knots: 1.0 })?;
    /// store.flush()?;
    /// let mut newest = store.subscription(VESSEL).behind(Behind::Conflate).start()?;
    /// while newest.advance()? {}
    /// radar.retract(VESSEL, "ada")?;
    /// store.flush()?;
    /// radar.assert(VESSEL, "ada", &Vessel { knots: 2.0 })?;
    /// store.flush()?;
    /// let Some(StateItem::Change(change)) = newest.try_next()? else { panic!("it is another row") };
    /// assert!(change.recreated());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn recreated(&self) -> bool {
        self.recreated
    }

    /// The bytes that came with the operations that made it; of a change of the [sources](Self::sources) alone that came with
    /// none, those that the row has had. Of a bootstrap's row none, unless they were
    /// [asked for](crate::SubscriptionBuilder::metadata).
    #[must_use]
    pub fn metadata(&self) -> &'s [u8] {
        self.metadata
    }

    /// Its place in the log.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.row.seq()
    }

    /// When it was appended; see [`Entry::time`](crate::Entry::time).
    #[must_use]
    pub fn time(&self) -> i64 {
        self.row.time()
    }
}

impl<T> fmt::Debug for Change<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("what", &self.what)
            .field("key", &String::from_utf8_lossy(self.key()))
            .field("version", &self.version())
            .field("sources", &self.sources())
            .field("changed", &self.changed_fields().collect::<Vec<_>>())
            .field("recreated", &self.recreated)
            .field("seq", &self.seq())
            .finish()
    }
}
