//! Folds: values derived from the facts about one entity, in order, and always rebuildable.

pub(crate) mod cache;
pub(crate) mod consumer;
mod continuity;
pub(crate) mod folding;
pub(crate) mod handle;
pub(crate) mod image;
pub(crate) mod keeping;
pub(crate) mod lost;
mod marks;
pub(crate) mod panics;
pub(crate) mod pool;
mod projector;
pub(crate) mod retry;
pub(crate) mod topic;
pub(crate) mod value;
mod working;
pub(crate) mod written;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backplane::StreamRecord;
use crate::id::{Generation, Seq};
use crate::journal::entry::Entry;

/// How the facts about an entity become one value.
///
/// `fold` is a pure function: no clock, no chance, no input or output, no global state. Whatever it
/// needs stands in the facts or in [`At`], so that the same log gives the same value, always and
/// everywhere.
///
/// ```
/// use esker::{At, Facts, Fold, Freshness, Store};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// enum Moved { In(u64), Out(u64) }
///
/// const ACCOUNTS: Facts<Moved> = Facts::new("account");
///
/// struct Balance;
/// impl Fold for Balance {
///     type State = i64;
///     type Event = Moved;
///     const NAME: &'static str = "balance";
///     const VERSION: u32 = 1;
///     fn fold(cents: &mut i64, moved: Moved, _: &At) {
///         match moved {
///             Moved::In(more) => *cents += more as i64,
///             Moved::Out(less) => *cents -= less as i64,
///         }
///     }
/// }
///
/// # fn main() -> esker::Result<()> {
/// let store = Store::in_memory()?;
/// store.append(ACCOUNTS, "ada", &Moved::In(500))?;
/// store.append(ACCOUNTS, "ada", &Moved::Out(120))?;
/// let ada = store.project::<Balance>(ACCOUNTS, "ada", Freshness::Consistent)?;
/// assert_eq!(ada.value, Some(380));
/// # Ok(()) }
/// ```
pub trait Fold: 'static {
    /// The value; it begins with its default.
    type State: Serialize + DeserializeOwned + Default + Clone + Send + 'static;
    /// What the facts say.
    type Event: DeserializeOwned;
    /// Names the fold where its values are kept. One type has a name and version: a store refuses another one over the same stream.
    const NAME: &'static str;
    /// Raised when the meaning of the value changes: older values are then not used any more. Images of them stay in the
    /// backplane, for those that still run the older version.
    const VERSION: u32;

    /// Takes one fact in.
    fn fold(state: &mut Self::State, event: Self::Event, at: &At);

    /// Whether a fact concerns the value; one that does not is not decoded.
    #[must_use]
    fn relevant(_at: &At) -> bool {
        true
    }
}

/// Where a fact stands, and when it was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct At {
    /// Its place in the log; of a record of a topic, its offset as a number.
    pub seq: Seq,
    /// Its place in its entity's history; of a record of a topic that is not in this process's own log, the how manieth it is.
    pub generation: Generation,
    /// The wall clock when it was appended, in nanoseconds since 1970.
    pub time: i64,
    /// The version of its kind's schema.
    pub schema_version: u16,
}

impl At {
    pub(crate) fn of(entry: &Entry<'_>) -> Self {
        Self {
            seq: entry.seq(),
            generation: entry.generation(),
            time: entry.time(),
            schema_version: entry.schema_version().unwrap_or(1),
        }
    }

    /// Of the so manieth record of a topic.
    fn of_record(record: &StreamRecord, count: u64) -> Self {
        const FIRST: (Seq, Generation) = match (Seq::new(1), Generation::new(1)) {
            (Some(seq), Some(generation)) => (seq, generation),
            _ => panic!("one is a number"),
        };
        Self {
            seq: Seq::new(record.offset().raw()).unwrap_or(FIRST.0),
            generation: Generation::new(count).unwrap_or(FIRST.1),
            time: record.time(),
            schema_version: record.schema().max(1),
        }
    }
}

/// The value of a fold over the facts about one entity.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Projection<S> {
    /// The newest fact that was looked at; `None`: nothing is known of the entity.
    pub generation: Option<Generation>,
    /// The value; `None`: there is no fact that concerns it.
    pub value: Option<S>,
    /// Facts before that generation are missing, as its history proves: a repair could not save them, and the value is that of what is
    /// left. Of facts that were lost at the end of a history nothing is seen, for those that come next have their numbers; nor of all
    /// facts, or the first ones, of an entity that was alone in its log, whose oldest fact looks like that of one that was forgotten and
    /// begins anew. [`Reader::lost_to_repair`](crate::Reader::lost_to_repair) says what was lost of all.
    pub is_partial: bool,
}
