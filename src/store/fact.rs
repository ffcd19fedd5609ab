//! A typed entry: its numbers at once, its value when asked for.

use std::fmt;

use serde::Deserialize;

use crate::codec;
use crate::error::Result;
use crate::id::{Generation, Seq};
use crate::journal::entry::{Entry, OwnedEntry};
use crate::store::facts::Facts;

/// One fact, borrowed from mapped memory. [`value`](Self::value) decodes it.
pub struct Fact<'v, T> {
    kind: Facts<T>,
    entry: Entry<'v>,
}

impl<'v, T> Fact<'v, T> {
    pub(crate) fn new(kind: Facts<T>, entry: Entry<'v>) -> Self {
        Self { kind, entry }
    }

    /// The value, decoded in place: `&str` and `&[u8]` in `T` borrow from the mapped file.
    ///
    /// # Errors
    ///
    /// `Codec` with the Seq, the kind and the cause, if the payload is not a value of `T`.
    pub fn value(&self) -> Result<T>
    where
        T: Deserialize<'v>,
    {
        codec::decode(self.kind.name(), self.kind.schema_version(), &self.entry)
    }

    /// Its place in the log.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.entry.seq()
    }

    /// Its place in its entity's history.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.entry.generation()
    }

    /// The key of its entity.
    #[must_use]
    pub fn key(&self) -> &'v [u8] {
        self.entry.key()
    }

    /// When it was appended; see [`Entry::time`].
    #[must_use]
    pub fn time(&self) -> i64 {
        self.entry.time()
    }

    /// The bytes that were given beside the value.
    #[must_use]
    pub fn metadata(&self) -> &'v [u8] {
        self.entry.metadata()
    }

    /// The version of the schema that wrote it; 1 where the bytes came through the
    /// [`Journal`](crate::Journal), which says none.
    #[must_use]
    pub fn version(&self) -> u16 {
        self.entry.schema_version().unwrap_or(1)
    }

    /// The entry under it, with its bytes as they stand.
    #[must_use]
    pub fn entry(&self) -> Entry<'v> {
        self.entry
    }

    /// The same fact with a share in the mapped segment instead of a borrow; nothing is copied.
    #[must_use]
    pub fn to_owned(&self) -> OwnedFact<T> {
        OwnedFact { kind: self.kind, entry: self.entry.to_owned() }
    }
}

impl<T> Clone for Fact<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Fact<'_, T> {}

impl<T> fmt::Debug for Fact<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fact").field("kind", &self.kind).field("entry", &self.entry).finish()
    }
}

/// A fact that holds a share in the mapped segment: `'static`, `Send`, and cheap to clone.
pub struct OwnedFact<T> {
    kind: Facts<T>,
    entry: OwnedEntry,
}

impl<T> OwnedFact<T> {
    /// The fact itself.
    #[must_use]
    pub fn fact(&self) -> Fact<'_, T> {
        Fact::new(self.kind, self.entry.entry())
    }

    /// The value; what it borrows, it borrows from this fact.
    ///
    /// # Errors
    ///
    /// As [`Fact::value`].
    pub fn value<'a>(&'a self) -> Result<T>
    where
        T: Deserialize<'a>,
    {
        self.fact().value()
    }

    /// Its place in the log.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.entry.seq()
    }

    /// Its place in its entity's history.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.entry.generation()
    }

    /// The key of its entity.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.entry.key()
    }

    /// When it was appended; see [`Entry::time`].
    #[must_use]
    pub fn time(&self) -> i64 {
        self.entry.entry().time()
    }

    /// The bytes that were given beside the value.
    #[must_use]
    pub fn metadata(&self) -> &[u8] {
        self.entry.metadata()
    }

    /// The version of the schema that wrote it; see [`Fact::version`].
    #[must_use]
    pub fn version(&self) -> u16 {
        self.fact().version()
    }
}

impl<T> Clone for OwnedFact<T> {
    fn clone(&self) -> Self {
        Self { kind: self.kind, entry: self.entry.clone() }
    }
}

impl<T> fmt::Debug for OwnedFact<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fact().fmt(f)
    }
}
