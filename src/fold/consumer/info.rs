//! What a consumer says of itself, running or not.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backplane::{Backplane, Era, Filter, Offset};
use crate::error::Result;
use crate::fold::consumer::progress::{self, Identity, Known, Parking};
use crate::meter::STOPPED;

/// What a consumer is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConsumerState {
    /// It consumes, or waits for more.
    Running,
    /// This record failed so often, and will be tried again behind a pause.
    Retrying {
        /// The record.
        offset: Offset,
        /// How often it failed.
        attempts: u32,
    },
    /// It stands before a record that this build cannot read, and looks again behind a pause.
    Blocked {
        /// The record.
        offset: Offset,
    },
    /// A call to the backplane failed: it cannot be reached, or a limit is reached, such as that of the
    /// [entities that may be parked](crate::PARKED_ENTITIES_MAX), or others were faster again and again;
    /// [`last_error`](ConsumerStatus::last_error) says which. It is tried again behind a pause.
    Waiting {
        /// So many calls failed, one behind the other.
        failures: u32,
    },
    /// Processes have ended in its handler, again and again: [`Consumer::resume`](crate::Consumer::resume) lets it go on, and so
    /// does another process of its name whose handler answers after all.
    Suspended,
    /// It was stopped, or the store or the backplane was closed.
    Stopped,
    /// It cannot go on. Whoever starts it again tries anew.
    Halted(ConsumerHalt),
}

impl ConsumerState {
    /// In one word, and why it does not go on, if it does not.
    pub(super) fn told(&self) -> (&'static str, String) {
        match self {
            Self::Running => ("running", String::new()),
            Self::Retrying { .. } => ("retrying", String::new()),
            Self::Blocked { .. } => ("blocked", String::new()),
            Self::Waiting { .. } => ("waiting", String::new()),
            Self::Suspended => ("suspended", "processes ended in its handler, again and again".to_owned()),
            Self::Stopped => (STOPPED, String::new()),
            Self::Halted(halt) => ("halted", halt.to_string()),
        }
    }
}

/// Why a consumer does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerHalt {
    /// What kind of reason it is.
    pub why: ConsumerHaltReason,
    /// Behind which record it stands.
    pub offset: Offset,
    /// The oldest record that is left, where that is known and the reason.
    pub floor: Option<Offset>,
    text: Arc<str>,
}

/// Kinds of reasons why a consumer does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConsumerHaltReason {
    /// A record that it has not consumed was dropped. [`OnLost::Reseed`](crate::OnLost::Reseed) goes on with what is left.
    Lost,
    /// A record is missing, as the numbers of its writer prove, or the log ends before the place.
    Gap,
    /// What offsets mean has changed. [`OnEraChange`](crate::OnEraChange) says how to go on.
    EraChanged,
    /// What is written of it, or of the topic, is damaged.
    Damaged,
    /// The backplane takes no such stream, key or copy, or a later build has written what it goes by.
    Refused,
    /// Its name was retired.
    Retired,
    /// The backplane was closed.
    Closed,
}

impl ConsumerHalt {
    pub(super) fn new(why: ConsumerHaltReason, offset: Offset, text: impl Into<Arc<str>>) -> Self {
        Self { why, offset, floor: None, text: text.into() }
    }

    pub(super) fn floored_at(mut self, floor: Option<Offset>) -> Self {
        self.floor = floor;
        self
    }
}

impl fmt::Display for ConsumerHalt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            ConsumerHaltReason::Lost => "a record was dropped before it was consumed",
            ConsumerHaltReason::Gap => "a record is missing",
            ConsumerHaltReason::EraChanged => "the era of the backplane has changed",
            ConsumerHaltReason::Damaged => "what is written is damaged",
            ConsumerHaltReason::Refused => "the backplane refuses",
            ConsumerHaltReason::Retired => "the consumer is retired",
            ConsumerHaltReason::Closed => "the backplane is closed",
        };
        write!(f, "{why}, behind offset {}: {}", self.offset, self.text)?;
        let way_on = match self.why {
            ConsumerHaltReason::Lost | ConsumerHaltReason::Gap => {
                "started again with `OnLost::Reseed` it goes on with what is left"
            }
            ConsumerHaltReason::EraChanged => {
                "started again with `OnEraChange::KeepPlace` it goes on there, which is right where everything up to there is as it \
                 was; with `OnEraChange::StartOver` it begins anew, and what is there comes again"
            }
            ConsumerHaltReason::Retired => "started again it begins as a new one",
            _ => return Ok(()),
        };
        write!(f, "; {way_on}")
    }
}

/// What a consumer has done, and stands at. Counters that are not said to be of this handle are durable: those of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerStatus {
    /// What it is doing.
    pub state: ConsumerState,
    /// Everything up to here is done.
    pub position: Offset,
    /// And everything up to here is written down as done.
    pub committed: Offset,
    /// How often the record failed at which it stands; 0 behind it.
    pub stuck: u32,
    /// The pause that it makes now.
    pub pause: Option<Duration>,
    /// Attempts that failed, of this handle.
    pub errors: u64,
    /// Times that it stood before a record that a later build wrote, or of another type, of this handle.
    pub forward_incompatible: u64,
    /// Records that failed as often as they may, and were set aside.
    pub poisoned: u64,
    /// Records that no build of their type can have written, and that were passed over, set aside or parked.
    pub undecodable: u64,
    /// Times that it went on behind what was lost.
    pub reseeded: u64,
    /// Processes that ended without a word, with nothing done since.
    pub crashes: u32,
    /// Records that are parked and not done.
    pub parked: u64,
    /// Why the last attempt or call failed that did, of this handle.
    pub last_error: Option<String>,
}

impl ConsumerStatus {
    pub(super) fn new() -> Self {
        Self {
            state: ConsumerState::Running,
            position: Offset::BEGINNING,
            committed: Offset::BEGINNING,
            stuck: 0,
            pause: None,
            errors: 0,
            forward_incompatible: 0,
            poisoned: 0,
            undecodable: 0,
            reseeded: 0,
            crashes: 0,
            parked: 0,
            last_error: None,
        }
    }

    /// True if it does nothing any more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.state, ConsumerState::Stopped | ConsumerState::Halted(_))
    }
}

/// An entity of which records are parked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParkedEntity {
    /// Its key.
    pub key: Vec<u8>,
    /// So many records are parked and not done.
    pub records: u64,
    /// The first that was parked, and the last.
    pub offsets: (Offset, Offset),
    /// How often the first that is left was tried.
    pub attempts: u32,
    /// Why it is here, in short; the [records](crate::Consumer::parked_records) say more.
    pub cause: String,
    /// Somebody has asked for them to be tried again: they are with the next turn of the consumer.
    pub retries: bool,
}

impl ParkedEntity {
    pub(super) fn of(parking: &Parking) -> Self {
        Self {
            key: parking.key.0.clone(),
            records: parking.copies.saturating_sub(parking.done),
            offsets: (Offset::from_raw(parking.first), Offset::from_raw(parking.last)),
            attempts: parking.attempts,
            cause: parking.cause.clone(),
            retries: parking.retries,
        }
    }
}

/// What is written of a consumer, whether it runs or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ConsumerInfo {
    /// Its name.
    pub name: String,
    /// Which part of the entities it consumes, and of how many.
    pub shard: Option<(u32, u32)>,
    /// It consumes all topics of the stream.
    pub is_of_all_topics: bool,
    /// Everything up to here is done. Compaction drops nothing behind it.
    pub position: Offset,
    /// The era that the position is of; `None`: it has not begun.
    pub era: Option<Era>,
    /// How often the next record failed.
    pub attempts: u32,
    /// Why it did so last.
    pub last_error: Option<String>,
    /// Somebody runs it, or ended without a word; not told any more of one that has certainly ended, once another one has closed it.
    pub is_open: bool,
    /// Processes that ended without a word, with nothing done since.
    pub crashes: u32,
    /// Why it is suspended, if it is.
    pub suspended: Option<String>,
    /// Records that were set aside.
    pub poisoned: u64,
    /// Records that no build of their type can have written: no values, or values of another type.
    pub undecodable: u64,
    /// Times that it went on behind what was lost.
    pub reseeded: u64,
    /// Records that are parked and not done.
    pub parked: u64,
}

impl ConsumerInfo {
    fn of((of, known): (Identity, Option<Known>)) -> Self {
        Self::of_progress(of, known.map(|known| known.progress).as_ref())
    }

    pub(super) fn of_progress(of: Identity, progress: Option<&progress::Progress>) -> Self {
        let count = |count: fn(&progress::Progress) -> u64| progress.map_or(0, count);
        Self {
            shard: of.shard,
            is_of_all_topics: of.key.is_none(),
            position: progress.map_or(Offset::BEGINNING, progress::Progress::offset),
            era: progress.map(progress::Progress::era),
            attempts: progress.map_or(0, |progress| progress.attempts),
            last_error: progress.map(|known| known.cause.clone()).filter(|cause| !cause.is_empty()),
            is_open: progress.is_some_and(|progress| progress.open.is_some()),
            crashes: progress.map_or(0, |progress| progress.crashes),
            suspended: progress.and_then(|progress| progress.suspended.clone()),
            poisoned: count(|progress| progress.poisoned),
            undecodable: count(|progress| progress.undecodable),
            reseeded: count(|progress| progress.reseeded),
            parked: count(|progress| progress.parked_records()),
            name: of.name,
        }
    }
}

/// The consumers of a topic, those of its whole stream among them; or of a stream, those of single topics not.
pub(crate) fn consumers_of(plane: &dyn Backplane, filter: Filter<'_>) -> Result<Vec<ConsumerInfo>> {
    Ok(progress::all_concerned(plane, filter)?.into_iter().map(ConsumerInfo::of).collect())
}
