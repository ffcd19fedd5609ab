//! What things are called: places in streams, revisions of cells, writers, and which records are meant.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::format::stamp::{StampBytes, mixed};
use crate::id::IdempotencyKey;
use crate::log::lock::random;

/// A place in a stream: behind a record, or before all of them.
///
/// Offsets of one stream are compared, and that is all: they rise from record to record by more than one, and
/// are given by the backplane.
///
/// ```
/// use esker::backplane::Offset;
/// # fn main() -> Result<(), std::num::ParseIntError> {
/// let offset: Offset = "42".parse()?;
/// assert!(Offset::BEGINNING < offset && offset.to_string() == "42");
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(u64);

/// A place in the history of a cell: it rises with each change, by one or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(u64);

macro_rules! raw {
    ($name:ident) => {
        impl $name {
            /// From the number that a backplane gives it: for those who implement one.
            #[must_use]
            pub const fn from_raw(raw: u64) -> Self {
                Self(raw)
            }

            /// The number that a backplane gave it: for those who implement one.
            #[must_use]
            pub const fn raw(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIntError;

            fn from_str(text: &str) -> Result<Self, ParseIntError> {
                text.parse().map(Self)
            }
        }
    };
}
raw!(Offset);
raw!(Revision);

impl Offset {
    /// Before the first record of any stream.
    pub const BEGINNING: Self = Self(0);
}

impl Revision {
    /// Of a cell that was never written.
    pub const NEVER: Self = Self(0);
}

/// What the offsets of a backplane mean: as long as it is the same, an offset names the record that it always named.
///
/// It changes when streams are made anew, or a store is restored from a backup or repaired. It is compared for equality,
/// and that is all.
///
/// It says nothing of what was delivered before it was durable, and then lost: a backplane that does that says so, as
/// [`Local`](crate::backplane::Local) does of journals that do not sync each append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Era(u128);

impl Era {
    /// From whatever tells one from another: for those who implement a backplane.
    #[must_use]
    pub const fn from_raw(raw: u128) -> Self {
        Self(raw)
    }

    /// What it was made from.
    #[must_use]
    pub const fn raw(self) -> u128 {
        self.0
    }
}

impl fmt::Display for Era {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Who appends. Two who append at a time have two; so has one who begins anew and does not know its last numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WriterId(u64);

impl WriterId {
    /// A writer that nobody was before.
    ///
    /// # Errors
    ///
    /// `Io` if the system has no random numbers.
    pub fn random() -> Result<Self> {
        let random = random().map_err(|cause| Error::io("draw the number of a writer", cause))?;
        Ok(Self(u64::from_le_bytes(random)))
    }

    /// The writer of a number, which is chosen so that no other has it.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// Its number.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }
}

impl fmt::Display for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// By whom a record or a change of a cell is, and as the how manieth of its key.
///
/// The numbers that one writer gives in one topic are dense from 1: `n + 2` behind `n` proves that a record is missing, and so
/// does a first one that is not 1. No backplane refuses that: where nothing else proves the place of the record, a fold halts there.
/// A number whose append has an unknown fate is not given to anything else before that is known. Of a cell they only have to
/// differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// By whom.
    pub writer: WriterId,
    /// The how manieth, from 1; from 2^63 on a part of a [key](Self::keyed).
    pub n: u64,
}

/// From here on a number says nothing of an order. Nobody counts so far.
const KEYED: u64 = 1 << 63;

impl Stamp {
    /// The `n`-th of a writer.
    #[must_use]
    pub const fn new(writer: WriterId, n: u64) -> Self {
        Self { writer, n }
    }

    /// The stamp of one append that is known by a key of its own, whoever makes it: under the same key it is the same append. It
    /// is none of a dense row: where only stamps prove that nothing is missing ([`Backplane`](super::Backplane)), nothing proves
    /// that this record is not.
    #[must_use]
    pub fn keyed(key: IdempotencyKey) -> Self {
        let mixed = mixed(&key.0).to_le_bytes();
        let half =
            |at: usize| mixed.iter().skip(at).take(8).rfold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Self::new(WriterId(half(0)), half(8) | KEYED)
    }

    /// True for one that is [known by a key](Self::keyed), and is no number of a row.
    #[must_use]
    pub const fn is_keyed(self) -> bool {
        self.n >= KEYED
    }

    pub(crate) const fn bytes(self) -> StampBytes {
        StampBytes { writer: self.writer.0, n: self.n }
    }

    pub(crate) const fn of_bytes(bytes: StampBytes) -> Self {
        Self::new(WriterId(bytes.writer), bytes.n)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.writer, self.n)
    }
}

impl FromStr for Stamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once(':').filter(|(writer, _)| writer.len() == 16);
        let read =
            parts.and_then(|(writer, n)| Some((u64::from_str_radix(writer, 16).ok()?, n.parse().ok()?)));
        let (writer, n) = read.ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "read a stamp")
                .sides("16 hexadecimal digits, a colon and a number", format!("{text:?}"))
        })?;
        Ok(Self::new(WriterId(writer), n))
    }
}

/// Which records are meant: those of a stream, or of one topic in it.
///
/// ```
/// use esker::backplane::Filter;
/// let order = Filter::topic("order", b"8812");
/// assert_eq!(order.to_string(), "order/8812");
/// assert!(order.matches(b"8812") && !order.matches(b"8813") && Filter::stream("order").matches(b"8813"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Filter<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The key of the topic; `None`: all of them.
    pub key: Option<&'a [u8]>,
}

impl<'a> Filter<'a> {
    /// All records of a stream.
    #[must_use]
    pub const fn stream(stream: &'a str) -> Self {
        Self { stream, key: None }
    }

    /// The records of one topic.
    #[must_use]
    pub const fn topic(stream: &'a str, key: &'a [u8]) -> Self {
        Self { stream, key: Some(key) }
    }

    /// True for a key of the stream that is meant.
    #[must_use]
    pub fn matches(&self, key: &[u8]) -> bool {
        self.key.is_none_or(|own| own == key)
    }
}

impl fmt::Display for Filter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Errors are printed: neither must reach the terminal's control characters.
        write!(f, "{}", self.stream.escape_debug())?;
        let Some(key) = self.key else { return Ok(()) };
        write!(f, "/{}", String::from_utf8_lossy(key).escape_debug())
    }
}

/// An offset that was asked for and is gone.
pub(super) fn lost(filter: Filter<'_>, from: Offset, floor: Offset) -> Error {
    Error::new(ErrorKind::Lost, format!("read {filter} behind offset {from}")).floored_at(floor.raw())
}

/// What a closed handle answers.
pub(super) fn closed(doing: impl Into<String>) -> Error {
    Error::new(ErrorKind::Closed, doing)
}
