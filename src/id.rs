//! The small numbers that name things: one word, one meaning.

use std::fmt;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

/// Place of an entry among the user frames of the whole log: from 1, dense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(NonZeroU64);

/// Place of an entry in the history of its entity: rises strictly for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(NonZeroU64);

macro_rules! counter {
    ($name:ident) => {
        impl $name {
            /// The first one.
            pub const FIRST: Self = Self(NonZeroU64::MIN);

            /// The number as it stands in the log; `None` for zero.
            #[must_use]
            pub const fn new(value: u64) -> Option<Self> {
                match NonZeroU64::new(value) {
                    Some(value) => Some(Self(value)),
                    None => None,
                }
            }

            /// The number itself.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0.get()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$name> for u64 {
            fn from(value: $name) -> u64 {
                value.get()
            }
        }
    };
}
counter!(Seq);
counter!(Generation);

/// The greatest Seq that is ever given. An append past it is refused, years before a wrap.
pub const SEQ_MAX: u64 = u64::MAX >> 8;

/// The number of a kind in one store's registry.
///
/// A name belongs to an application, a number only to the store that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KindId(pub(crate) u16);

impl KindId {
    /// The number as it stands in the log; `None` for zero. No store need have such a kind.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number == 0 { None } else { Some(Self(number)) }
    }

    /// The number as it stands in the log: 1 to [`KINDS_MAX`].
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for KindId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many kinds a store can register.
pub const KINDS_MAX: u16 = 4096;

/// The random identity of a store, drawn when it is made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub(crate) [u8; 16]);

impl StoreId {
    /// The identity of a store that another one goes on: of an [`Import`](crate::Import).
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The sixteen bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({self})")
    }
}

/// A random number drawn by each opening that writes; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Life(pub(crate) u32);

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A place in the log: a segment's number, and an offset in it in units of eight bytes.
///
/// Positions grow along the log, so they can be compared; the number is in the upper half. A frame that
/// compaction has moved stands in a *part*, whose numbers are its own: such a position finds a frame,
/// and says nothing of where in the log it is.
///
/// ```
/// use esker::Position;
/// let a = Position::new(3, 4096);
/// assert_eq!((a.segment(), a.offset()), (3, 4096));
/// assert!(a < Position::new(4, 0));
/// assert_eq!(a.to_string(), "3:4096");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(u64);

/// Every frame begins at a multiple of this many bytes.
pub(crate) const FRAME_ALIGN: u64 = 8;

impl Position {
    /// Before everything.
    pub const ZERO: Self = Self(0);

    /// The position of a byte offset in a segment. The offset is rounded down to eight bytes.
    #[must_use]
    pub const fn new(segment: u32, offset: u64) -> Self {
        Self((segment as u64) << 32 | (offset / FRAME_ALIGN) & 0xffff_ffff)
    }

    /// The position from its one-word form on disk.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The one-word form on disk.
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// The number of the segment.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "the upper half of a u64 fits a u32")]
    pub const fn segment(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The offset in the segment's file, in bytes.
    #[must_use]
    pub const fn offset(self) -> u64 {
        (self.0 & 0xffff_ffff) * FRAME_ALIGN
    }

    /// True for a place in a part, which compaction wrote.
    #[must_use]
    pub const fn is_in_part(self) -> bool {
        self.segment() & PART != 0
    }
}

/// Numbers with this bit are those of parts, counted by themselves and never used again.
pub(crate) const PART: u32 = 1 << 31;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = if self.is_in_part() { "part-" } else { "" };
        write!(f, "{part}{}:{}", self.segment() & !PART, self.offset())
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Position({self})")
    }
}

/// An entry as the index knows it: its segment, and its ordinal among the user frames there.
///
/// Ordered as the log is. The word zero is no entry, because segments count from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct EntryAt(u64);

impl EntryAt {
    /// No entry.
    pub(crate) const NONE: Self = Self(0);
    /// An ordinal that is not known: only the segment is.
    pub(crate) const SOMEWHERE: u32 = u32::MAX;

    pub(crate) const fn new(segment: u32, ordinal: u32) -> Self {
        Self((segment as u64) << 32 | ordinal as u64)
    }

    pub(crate) const fn from_word(word: u64) -> Self {
        Self(word)
    }

    pub(crate) const fn word(self) -> u64 {
        self.0
    }

    pub(crate) const fn segment(self) -> u32 {
        Position::from_word(self.0).segment()
    }

    #[allow(clippy::cast_possible_truncation, reason = "the lower half of a u64 is wanted")]
    pub(crate) const fn ordinal(self) -> u32 {
        self.0 as u32
    }
}

/// A name for a batch that may be repeated without being written twice.
///
/// Draw it where the request begins and keep it over retries. The window in which a store
/// remembers a key is documented at [`Batch::idempotency_key`](crate::Batch::idempotency_key).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey(pub [u8; 16]);

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdempotencyKey({self})")
    }
}
