//! Which part of the log a reader looks at.

use std::iter::FusedIterator;

use crate::error::Result;
use crate::id::KindId;
use crate::journal::entry::Entry;
use crate::journal::history::History;
use crate::journal::view::Entries;

/// A part of the log. The first three are found by the index; a prefix filters headers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[non_exhaustive]
pub enum Region {
    /// Every user entry: facts and rows. Operations of a kind with events have to be named.
    All,
    /// The entries of one kind.
    Kind(KindId),
    /// The history of one entity.
    Entity(KindId, Box<[u8]>),
    /// The entries of a kind whose key begins so.
    Prefix(KindId, Box<[u8]>),
}

impl Region {
    /// Every user entry: facts and rows, those included that esker keeps for itself under names that begin with `esker.`. What
    /// was said of kinds with events is not among them.
    #[must_use]
    pub const fn all() -> Self {
        Self::All
    }

    /// The entries of one kind.
    #[must_use]
    pub const fn kind(kind: KindId) -> Self {
        Self::Kind(kind)
    }

    /// The history of one entity.
    #[must_use]
    pub fn entity(kind: KindId, key: impl AsRef<[u8]>) -> Self {
        Self::Entity(kind, key.as_ref().into())
    }

    /// The entries of a kind whose key begins with `prefix`.
    #[must_use]
    pub fn prefix(kind: KindId, prefix: impl AsRef<[u8]>) -> Self {
        Self::Prefix(kind, prefix.as_ref().into())
    }
}

/// The entries of a region; see [`View::region`](crate::View::region).
#[derive(Clone, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "one lives on the stack while it is iterated, and a box would cost more"
)]
pub enum RegionEntries<'v> {
    /// A scan over the log.
    Scan(Entries<'v>),
    /// The history of one entity.
    History(History<'v>),
}

impl<'v> Iterator for RegionEntries<'v> {
    type Item = Result<Entry<'v>>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Scan(entries) => entries.next(),
            Self::History(history) => history.next(),
        }
    }
}

impl DoubleEndedIterator for RegionEntries<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        match self {
            Self::Scan(entries) => entries.next_back(),
            Self::History(history) => history.next_back(),
        }
    }
}

impl FusedIterator for RegionEntries<'_> {}
