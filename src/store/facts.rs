//! The typed handle of a kind: a name, a version and a Rust type, known at compile time.

use std::fmt;
use std::marker::PhantomData;

/// A kind of facts whose payloads are values of `T`.
///
/// A handle is a constant: it holds no connection to a store and costs nothing to copy. The
/// name is what stands on disk; the Rust type may be renamed and moved freely. The first append
/// registers the kind in the log with its version and the names of its fields.
///
/// Payloads are MessagePack with field names, so a type may change under its name as far as
/// serde can follow: fields may be added where older facts can do without (`Option`,
/// `#[serde(default)]`), and removed. What goes further gets a new [`version`](Self::version).
///
/// ```
/// use esker::Facts;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// enum OrderEvent {
///     Placed { item: String, quantity: u32 },
///     Shipped,
/// }
///
/// const ORDERS: Facts<OrderEvent> = Facts::new("order").version(2);
/// assert_eq!((ORDERS.name(), ORDERS.schema_version()), ("order", 2));
/// ```
///
/// A type may borrow (`struct Line<'a> { text: &'a str }`): name it `Facts<Line<'static>>` in
/// the constant; it is read in place, without a copy out of the mapped file.
pub struct Facts<T> {
    name: &'static str,
    version: u16,
    // A handle makes values and owns none: it is `Send`, `Sync` and covariant whatever `T` is.
    makes: PhantomData<fn() -> T>,
}

impl<T> Facts<T> {
    /// The kind of this name (1 to 255 bytes, not beginning with `esker.`), at version 1.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, version: 1, makes: PhantomData }
    }

    /// The version of the schema, from 1. Each fact is stored with the version that wrote it.
    ///
    /// Raise it with a change that older programs cannot read: they may go on reading what they
    /// understand, and are refused with `KindMismatch` when they append.
    #[must_use]
    pub const fn version(mut self, version: u16) -> Self {
        self.version = version;
        self
    }

    /// The name, as it stands in the log.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The version that appends write.
    #[must_use]
    pub const fn schema_version(&self) -> u16 {
        self.version
    }
}

impl<T> Clone for Facts<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Facts<T> {}

impl<T> fmt::Debug for Facts<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Facts({:?} version {})", self.name, self.version)
    }
}
