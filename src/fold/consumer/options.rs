//! How a consumer works: what it does with what fails, and how it says so.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::backplane::Offset;
use crate::error::{Error, ErrorKind, Result};
use crate::fold::consumer::delivery::{DeadLetter, Handled};
use crate::fold::consumer::info::ConsumerStatus;
use crate::fold::retry::Retry;

/// A consumer's name has at most so many bytes, and at least one.
pub const CONSUMER_NAME_BYTES_MAX: usize = 200;

/// Where a new name begins; one that is there goes on where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ConsumeFrom {
    /// At the first record that there ever was. If that was dropped, of its topic or of one of its stream, the consumer is
    /// [`Lost`](crate::ConsumerHaltReason::Lost); with [`OnLost::Reseed`] it begins with the oldest that is left.
    #[default]
    Oldest,
    /// Behind the record that is the newest when the name is first used.
    Newest,
    /// Behind an offset.
    Behind(Offset),
}

/// What becomes of a record that no build of the event's type can have written: it is no whole value, or one of another type.
/// (One of a later version, or of a variant that this build does not know, a later build wrote: that is always stood before. One
/// of another type that was written as an earlier version than the event's is stood before too, unless it is told to be parked: what
/// follows of its entity builds on it, and a build whose type reads it too may come.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnUndecodable {
    /// It is counted. What is no whole value is passed over; what is a value of another type, of the version of this build, is set aside as what failed as often as it may:
    /// a [dead letter](ConsumerOptions::dead_letter), or [parked](ConsumerOptions::park).
    #[default]
    Skip,
    /// It is set aside with all that follows of its entity; see [`Consumer::parked`](crate::Consumer::parked).
    Park,
    /// The consumer stands before it, and tries again.
    Block,
}

/// What becomes of a consumer when a record that it needs was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnLost {
    /// It halts, and says where the floor is.
    #[default]
    Halt,
    /// It goes on with the oldest record that is left, and counts that.
    Reseed,
}

/// What becomes of a consumer when offsets have come to mean other records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnEraChange {
    /// It halts.
    #[default]
    Halt,
    /// It begins anew, with the oldest record that is left, also where earlier ones were dropped: what it has done for those
    /// that are there comes again.
    StartOver,
    /// It goes on behind the offset at which it stood: whoever says this knows that it means what it did.
    KeepPlace,
}

/// How often a consumer writes down how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitEvery {
    pub(super) records: u32,
    pub(super) after: Duration,
}

impl From<u32> for CommitEvery {
    /// Every so many records, and a second after the first that is not written down.
    fn from(records: u32) -> Self {
        Self { records, after: Duration::from_secs(1) }
    }
}

impl From<Duration> for CommitEvery {
    /// So long after the first record that is not written down.
    fn from(after: Duration) -> Self {
        Self { records: u32::MAX, after }
    }
}

/// Who is told of what is stuck.
pub(super) type Warn = Arc<dyn Fn(&ConsumerStatus) + Send + Sync>;

/// What becomes of a record that failed as often as it may.
#[derive(Clone)]
pub(super) enum Aside {
    DeadLetter,
    Handler(Arc<dyn Fn(&DeadLetter) -> Handled + Send + Sync>),
    Park,
}

/// How a consumer works. By default it begins at the oldest record, tries what fails for ever, with pauses from 10
/// milliseconds to 30 seconds, and writes down each record that is done.
#[derive(Clone)]
#[must_use = "options do nothing until `on_event`"]
pub struct ConsumerOptions {
    pub(super) from: ConsumeFrom,
    pub(super) retry: Retry,
    pub(super) max_attempts: Option<u32>,
    pub(super) aside: Aside,
    pub(super) crashes_max: u32,
    pub(super) on_undecodable: OnUndecodable,
    pub(super) on_lost: OnLost,
    pub(super) on_era_change: OnEraChange,
    pub(super) commit: CommitEvery,
    pub(super) grace: Duration,
    pub(super) shard: Option<(u32, u32)>,
    pub(super) on_stuck: Option<Warn>,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl ConsumerOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            from: ConsumeFrom::Oldest,
            retry: Retry::DEFAULT,
            max_attempts: None,
            aside: Aside::DeadLetter,
            crashes_max: 5,
            on_undecodable: OnUndecodable::Skip,
            on_lost: OnLost::Halt,
            on_era_change: OnEraChange::Halt,
            commit: CommitEvery::from(1),
            grace: Duration::from_secs(10),
            shard: None,
            on_stuck: None,
        }
    }

    /// Where a new name begins.
    pub fn from(mut self, from: ConsumeFrom) -> Self {
        self.from = from;
        self
    }

    /// The pause behind a first failure, and the longest one; each is up to twice the one before, and at least half of that.
    pub fn retry_between(mut self, first: Duration, longest: Duration) -> Self {
        self.retry = Retry { base: first, max: longest };
        self
    }

    /// Sets a record aside whose handler answered an error, or panicked, so often; a process that ends in the handler does
    /// not count, nor does what a handler answers that was [told to stop](crate::Delivery::cancelled). By default it goes to the stream [`DEAD_STREAM`](crate::backplane::DEAD_STREAM), in one commit with how far
    /// the consumer has come, and **that is final**: the consumer does not try it again. Whoever mends the cause reads it
    /// ([`Consumer::dead_letters`](crate::Consumer::dead_letters), [`DeadLetter::value`](crate::DeadLetter::value)), and does by hand what was to be done, or
    /// appends another event. What is to be tried again is [parked](Self::park). Without this a record is tried for ever.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(attempts);
        self
    }

    /// Where a record goes that failed as often as it may: to this, instead of the built-in stream. What it answers with an
    /// error it is asked again, with pauses, and the consumer stands there meanwhile; the handler is not called again.
    pub fn dead_letter(mut self, letter: impl Fn(&DeadLetter) -> Handled + Send + Sync + 'static) -> Self {
        self.aside = Aside::Handler(Arc::new(letter));
        self
    }

    /// A record that failed as often as it may is set aside with all that follows of its entity, in order, in the stream
    /// [`PARKED_STREAM`](crate::backplane::PARKED_STREAM); the consumer goes on with others. See
    /// [`Consumer::parked`](crate::Consumer::parked).
    pub fn park(mut self) -> Self {
        self.aside = Aside::Park;
        self
    }

    /// So many processes that end in the handler, one behind the other, suspend the consumer, until a handler of its name
    /// answers, or somebody [resumes](crate::Consumer::resume) it. Who begins counts it if one that ran it before has ended without a word: a process of the same machine
    /// that is not there any more. One that is still in the handler, and one of another machine, which cannot be seen from
    /// here, do not count. (Its cell has the name of the machine, the id of its boot, and the number and the beginning of the
    /// process for that. On a backplane that others use too, one from before the machine began anew cannot be told from one of
    /// another machine. What an earlier build has written does not say of which process it is, and counts.) Default: 5.
    pub fn crashes_max(mut self, crashes: u32) -> Self {
        self.crashes_max = crashes;
        self
    }

    /// What becomes of a record that no build of the event's type can have written. Default: it is counted, and passed over or, if it
    /// is a value of another type, set aside.
    pub fn on_undecodable(mut self, on_undecodable: OnUndecodable) -> Self {
        self.on_undecodable = on_undecodable;
        self
    }

    /// What to do when a record that was not consumed has been dropped. Default: to halt.
    pub fn on_lost(mut self, on_lost: OnLost) -> Self {
        self.on_lost = on_lost;
        self
    }

    /// What to do when the [era](crate::backplane::Era) has changed. Default: to halt.
    pub fn on_era_change(mut self, on_era_change: OnEraChange) -> Self {
        self.on_era_change = on_era_change;
        self
    }

    /// How often it is written down how far the consumer has come: every so many records, or so long behind the first that is
    /// not written down. What is not written down when a process ends comes again. Default: each record.
    pub fn commit_every(mut self, every: impl Into<CommitEvery>) -> Self {
        self.commit = every.into();
        self
    }

    /// How long a close waits for the handler, and for a backplane that does not answer; a second more for one whose handler does not
    /// run any more, and which has to write down its end. Default: 10 seconds.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// The `i`-th of `n` parts, from 0, of the entities of a stream. Each part has a place of its own; another `n` makes other
    /// parts, which begin where [`from`](Self::from) says, whatever others have done. Those of before keep compaction from
    /// dropping what they have not done until each is [retired](crate::Store::retire_consumer).
    pub fn shard(mut self, i: u32, n: u32) -> Self {
        self.shard = Some((i, n));
        self
    }

    /// Called once for a record that has failed eight times, and is tried on: something is to be looked at.
    pub fn on_stuck(mut self, warn: impl Fn(&ConsumerStatus) + Send + Sync + 'static) -> Self {
        self.on_stuck = Some(Arc::new(warn));
        self
    }

    pub(crate) fn part(&self) -> Option<(u32, u32)> {
        self.shard
    }

    /// Refuses what cannot be meant; all of it is listed.
    pub(super) fn check(&self, name: &str, is_of_one_topic: bool) -> Result<()> {
        let mut problems = Vec::new();
        if name.is_empty() || name.len() > CONSUMER_NAME_BYTES_MAX {
            problems.push(format!(
                "the name has {} bytes, and may have 1 to {CONSUMER_NAME_BYTES_MAX}",
                name.len()
            ));
        }
        if self.max_attempts == Some(0) {
            problems.push("max_attempts is 0: give at least 1, or leave it out to try for ever".to_owned());
        }
        if self.crashes_max == 0 {
            problems.push("crashes_max is 0: give at least 1".to_owned());
        }
        if self.retry.base.is_zero() || self.retry.base > self.retry.max {
            problems.push(format!("pauses from {:?} to {:?}", self.retry.base, self.retry.max));
        }
        if self.commit.records == 0 {
            problems.push("commit_every is 0 records: give at least 1".to_owned());
        }
        match self.shard {
            Some((i, n)) if i >= n => {
                problems.push(format!("there is no part {i} of {n}: they count from 0"))
            }
            Some(_) if is_of_one_topic => {
                problems.push(
                    "shard is for all topics of a stream (`Store::on_event`), and this is one".to_owned(),
                );
            }
            _ => {}
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidOptions,
            format!("start the consumer {:?}", name.escape_debug().to_string()),
        )
        .because(problems.join("; ")))
    }
}

impl fmt::Debug for ConsumerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let aside = match self.aside {
            Aside::DeadLetter => "dead letter",
            Aside::Handler(_) => "a handler of dead letters",
            Aside::Park => "park",
        };
        f.debug_struct("ConsumerOptions")
            .field("from", &self.from)
            .field("retry", &self.retry)
            .field("max_attempts", &self.max_attempts)
            .field("aside", &aside)
            .field("crashes_max", &self.crashes_max)
            .field("on_undecodable", &self.on_undecodable)
            .field("on_lost", &self.on_lost)
            .field("on_era_change", &self.on_era_change)
            .field("commit", &self.commit)
            .field("grace", &self.grace)
            .field("shard", &self.shard)
            .finish_non_exhaustive()
    }
}
