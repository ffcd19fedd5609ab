//! The backplane: an event log and compare-and-swap cells behind one trait.
//!
//! What runs on a [`Backplane`] does not know where its events are. In one process that is the journal ([`Local`]:
//! durable, embedded) or memory ([`InMemory`]: for tests); between processes a broker such as NATS JetStream, behind an
//! adapter. Whatever holds on one holds on all of them, which `esker::conformance` (feature `conformance`) checks.
//!
//! # Words
//!
//! * A **stream** has a name and is ordered: an [`Offset`] is a place in it. A **topic** is one key of a stream:
//!   what happened to one order, one vessel. Offsets of one stream are compared, whatever their keys; those of two
//!   streams never.
//! * A **record** ([`StreamRecord`]) is one immutable event of a topic. Whoever appends it gives it a [`Stamp`]: who
//!   wrote it, and as the how manieth of that topic. The numbers of one writer in one topic are dense from 1, so that
//!   a reader proves by them that nothing is missing; and they name the append, so that it can be repeated.
//! * A **cell** has a key and holds bytes, or nothing. It is changed by compare-and-swap over its [`Revision`].
//! * A **feed** delivers the records of a stream or of one topic from an offset on, and then what comes.
//! * The **era** changes when an offset may come to mean another record: see [`Era`].
//!
//! ```
//! use esker::backplane::{Append, Backplane, Filter, InMemory, Offset, Stamp, Step, WriterId};
//! # fn main() -> esker::Result<()> {
//! let plane = InMemory::new();
//! let writer = WriterId::random()?;
//! let placed = Append::new("order", b"8812", b"placed", Stamp::new(writer, 1));
//! let done = plane.commit(&[Step::Append(placed)])?;
//! assert_eq!(plane.commit(&[Step::Append(placed)])?.offset(0), done.offset(0));    // repeated: not appended twice
//!
//! let mut feed = plane.subscribe(Filter::stream("order"), Offset::BEGINNING)?;
//! let record = feed.try_next()?.unwrap();
//! assert_eq!((record.key(), record.payload()), (&b"8812"[..], &b"placed"[..]));
//! assert!(feed.try_next()?.is_none());
//! # plane.close() }
//! ```
//!
//! # What a backplane of one's own has to do
//!
//! Implement [`Backplane`] and [`Feed`] as their methods say, make errors with [`Error::new`](crate::Error::new), and
//! run `esker::conformance::contract` on it. All methods may be called from any thread, and
//! may block.
//!
//! Errors are told apart by what is known behind them. `Disconnected` and `Poisoned`: it may have been done or not,
//! and the same call again with the same stamps finds that out. Any other kind: it was not done.

mod check;
#[cfg(any(test, feature = "conformance"))]
mod elsewhere;
mod feed;
mod listen;
pub(crate) mod local;
mod memory;
mod name;
#[cfg(feature = "nats")]
#[cfg_attr(docsrs, doc(cfg(feature = "nats")))]
pub mod nats;
mod pending;
mod record;
mod step;
mod waiting;

use std::fmt;

#[cfg(any(test, feature = "conformance"))]
#[doc(hidden)]
pub use crate::backplane::elsewhere::Elsewhere;
pub use crate::backplane::feed::Feed;
pub use crate::backplane::listen::{Broadcast, Listener};
pub use crate::backplane::local::{Behind, CellName, Local, ReadOnly, WrittenCell, WrittenTopic};
pub use crate::backplane::memory::InMemory;
pub use crate::backplane::name::{Era, Filter, Offset, Revision, Stamp, WriterId};
#[cfg(feature = "nats")]
#[cfg_attr(docsrs, doc(cfg(feature = "nats")))]
pub use crate::backplane::nats::{Bridged, Nats, NatsBridge, NatsConfig};
pub use crate::backplane::pending::{Awaited, Pending};
pub use crate::backplane::record::{CellState, StreamRecord};
pub use crate::backplane::step::{Append, Done, Put, Step, StepDone};
use crate::error::{ErrorKind, Result};
use crate::journal::lodger::Registrations;
use crate::journal::registry::{CELLS_NAME, DEAD_NAME, IMAGES_NAME, PARKED_NAME};
#[doc(hidden)]
pub use crate::log::process::Process;

/// The stream of the images of folds: see [`TopicFold`](crate::TopicFold).
pub const IMAGES_STREAM: &str = IMAGES_NAME;
/// The channel on which a store says which cell it has changed, and to what revision, so that others look it up (see
/// [`Cell`](crate::Cell)): the one of the library's own names that a backplane takes for one.
pub const CELLS_CHANNEL: &str = CELLS_NAME;
/// The stream of the records that [consumers](crate::Consumer) gave up, by the name of the consumer.
pub const DEAD_STREAM: &str = DEAD_NAME;
/// The stream of the records that consumers have set aside with those behind them.
pub const PARKED_STREAM: &str = PARKED_NAME;
/// A stream's name has at most so many bytes. It has at least one, and does not begin with `esker.`, but for [`IMAGES_STREAM`],
/// [`DEAD_STREAM`] and [`PARKED_STREAM`].
pub const STREAM_NAME_BYTES_MAX: usize = 200;
/// The key of a topic or of a cell has at most so many bytes, and at least one. Any bytes may stand in it.
pub const KEY_BYTES_MAX: usize = 255;
/// A payload of a record and a value of a cell of so many bytes every backplane takes; one may take more. (A [`Local`] one
/// takes what fits a batch: a quarter of [`Options::segment_bytes`](crate::Options::segment_bytes), less where that is small.)
/// A broadcast has no more on any.
pub const PAYLOAD_BYTES_PORTABLE: usize = 256 << 10;
/// A commit has at most so many steps.
pub const STEPS_MAX: usize = 256;

/// An event log and compare-and-swap cells. See the [module](self) for the words.
pub trait Backplane: Send + Sync + fmt::Debug {
    /// True if [`commit`](Self::commit) does all of its steps or none, also through a crash.
    ///
    /// Where it is false, a commit that ends with an error, or with the process, may have done the first of its steps
    /// and not the others; never a later one without an earlier one. So whoever writes effects and a cursor puts the
    /// cursor last: an effect may then be done twice (which its stamp prevents), and is never left out.
    fn atomic(&self) -> bool;

    /// Does steps in their order, each of them once, and returns when all are as durable as the backplane promises.
    ///
    /// A step whose stamp was used before for the same key, with the same content, is not done again: it is answered
    /// as then, whatever it expects, and whatever has come since. The same writer and number for another key is another
    /// step. An implementation remembers stamps for at least two minutes, and says for how long; beyond that, whoever
    /// does not know the fate of an append reads it back before appending it again.
    ///
    /// What a step expects ([`Append::expect`], [`Put::expect`]) is compared in one with doing it, so that of several who
    /// expect the same one succeeds. Later steps see the earlier ones of their commit.
    ///
    /// # Errors
    ///
    /// `Conflict` with both sides if what a step expects is not so; whoever looks it up behind that finds what was in the way, or
    /// something later. `KeyReused` if its stamp was used for the same key with
    /// other content. `InvalidInput` for no or too many steps, two of the same stamp and key, and names, keys or payloads
    /// over their limits; `BatchTooLarge`. `Disconnected` or `Poisoned` if the outcome is not known: the same steps again
    /// find it out. `Closed`. Behind an error of another kind nothing was done where commits are [atomic](Self::atomic),
    /// and else nothing of the step that failed, and of those behind it.
    fn commit(&self, steps: &[Step<'_>]) -> Result<Done>;

    /// The same, but for waiting until it is durable, where that can be told apart: it returns when the steps have their places, in
    /// the order of the calls. If it never comes to be durable, neither does anything that is committed later. As it is here it
    /// waits.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit), but for those of waiting. Behind a `Conflict` it has waited for what was in the way.
    fn commit_nowait(&self, steps: &[Step<'_>]) -> Result<Pending> {
        self.commit(steps).map(Pending::durable)
    }

    /// Delivers the records of a stream, or of one topic, behind an offset: those that are there, and then those
    /// that come. [`Offset::BEGINNING`] is before all of them; one less than the offset of a record is before that record and
    /// behind those before it, whether or not a record has it. A stream or topic of which there is nothing yet has no
    /// records, and may get some.
    ///
    /// One feed serves all keys of a stream: whoever follows many topics takes the stream and looks at
    /// [`StreamRecord::key`].
    ///
    /// # Errors
    ///
    /// `Lost` with the floor ([`Error::floor`](crate::Error::floor)) for a topic of which a record behind `from` was
    /// dropped. `InvalidInput` or `EraChanged` for an offset behind the end of the log. `Disconnected`, `Closed`.
    fn subscribe(&self, filter: Filter<'_>, from: Offset) -> Result<Box<dyn Feed>>;

    /// The same, from the oldest record on that is left: what was dropped is not asked for. Behind what a topic is being
    /// compacted to meanwhile, it begins with what is left then.
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe); `Lost` only if what is left has a hole.
    fn subscribe_oldest(&self, filter: Filter<'_>) -> Result<Box<dyn Feed>> {
        let mut tried = None;
        loop {
            let oldest = self.lowest_retained(filter)?;
            // A place need not be that of a record: this one is right before it.
            match self.subscribe(filter, Offset::from_raw(oldest.raw().saturating_sub(1))) {
                Err(error) if error.kind() == ErrorKind::Lost && tried != Some(oldest) => {
                    tried = Some(oldest)
                }
                other => return other,
            }
        }
    }

    /// The offset of the newest record of a stream or topic; [`Offset::BEGINNING`] if there never was one. It is at
    /// least that of every append that was acknowledged before the call, and it never goes back within an era.
    ///
    /// # Errors
    ///
    /// `InvalidInput`, `Disconnected`, `Closed`.
    fn head(&self, filter: Filter<'_>) -> Result<Offset>;

    /// The offset of the oldest record of a stream or topic that is still delivered; [`Offset::BEGINNING`] if there never
    /// was one. A topic is never empty again: its newest record stays.
    ///
    /// # Errors
    ///
    /// As [`head`](Self::head).
    fn lowest_retained(&self, filter: Filter<'_>) -> Result<Offset>;

    /// What a cell holds, asked of whoever decides: it shows every change that was acknowledged before the call.
    ///
    /// # Errors
    ///
    /// As [`head`](Self::head).
    fn load(&self, cell: &[u8]) -> Result<CellState>;

    /// Tells all who [listen](Self::listen) to a channel now; what is told is stored nowhere, and whoever comes later
    /// does not hear it. Answers how many listeners this process has. Best effort: a listener that is slow misses
    /// messages, one of another process may miss any.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a channel whose name is not that of a stream, or for more than [`PAYLOAD_BYTES_PORTABLE`] bytes; `Disconnected`, `Closed`.
    fn broadcast(&self, channel: &str, bytes: &[u8]) -> Result<usize>;

    /// Listens to a channel. A message of this process comes once, as one of others does.
    ///
    /// # Errors
    ///
    /// As [`broadcast`](Self::broadcast).
    fn listen(&self, channel: &str) -> Result<Box<dyn Listener>>;

    /// The era of the offsets that are given now, asked of whoever decides. Whoever keeps an offset keeps the era with it,
    /// and compares before using it.
    ///
    /// # Errors
    ///
    /// `Disconnected`, `Closed`.
    fn era(&self) -> Result<Era>;

    /// Ends everything that this handle has given out, at once: calls, feeds and listeners that wait, and all later ones,
    /// answer `Closed`. What was acknowledged stays. A second time it does nothing.
    ///
    /// # Errors
    ///
    /// What could not be brought to an end as it should; it is ended all the same.
    fn close(&self) -> Result<()>;

    /// What drops records, if the backplane can. Without one its log only grows.
    fn compactor(&self) -> Option<&dyn Compactor>;

    /// True if offsets up to this one, which were told in another era, mean the same in this one.
    #[doc(hidden)]
    fn shares_offsets(&self, _with: Era, _through: Offset) -> bool {
        false
    }

    /// True if [`head`](Self::head) answers from what this process has, and whoever looks at numbers need not wait for it.
    #[doc(hidden)]
    fn answers_at_once(&self) -> bool {
        false
    }

    /// By whom it is used, so that another one finds out whether that has ended without a word.
    #[doc(hidden)]
    fn process(&self) -> Process {
        Process::this()
    }

    /// True if it is certain that one that used it is not there any more.
    #[doc(hidden)]
    fn is_over(&self, process: &Process) -> bool {
        process.has_ended()
    }

    /// False if a record that was delivered was dropped or erased since, as far as that can be known without a call.
    #[doc(hidden)]
    fn still_has(&self, topic: Filter<'_>, offset: Offset) -> Result<bool> {
        let lowest = self.lowest_retained(topic)?;
        Ok((Offset::from_raw(1)..=offset).contains(&lowest))
    }

    /// Of a journal, whose floors rise by what folds and consumers need.
    #[doc(hidden)]
    fn registrations(&self) -> Option<&Registrations> {
        None
    }
}

/// Drops records that are not needed any more.
pub trait Compactor {
    /// Drops the records of a topic before an offset, which becomes its floor: from the moment at which this returns,
    /// and through any crash, they are delivered to nobody, and whoever would need one of them is told `Lost`: a feed
    /// of the topic that stands before one at its next step, a subscription that would at once.
    /// When their bytes go is the implementation's matter; the floor is durable before any of them does.
    ///
    /// A floor never goes back: a lower offset than before changes nothing, and neither does one that nothing stands
    /// before, such as [`Offset::BEGINNING`]. The newest record stays, also where `before` is behind it.
    ///
    /// A feed of the whole stream is not told: it passes over what stands below the floor of its topic. Whoever
    /// follows topics through it compares the numbers of [stamps](Stamp).
    ///
    /// # Errors
    ///
    /// `InvalidInput` for names and keys over their limits; `Disconnected`, `Closed`. `EraChanged` where the backplane
    /// was made anew since it was last [asked](Backplane::era): the offset may be of another record.
    fn compact(&self, stream: &str, key: &[u8], before: Offset) -> Result<()>;
}
