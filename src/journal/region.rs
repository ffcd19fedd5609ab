//! Which part of the log a reader looks at.

use crate::id::KindId;

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
    /// Every user entry: facts and rows.
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
