//! esker: an embedded, append-only storage engine.
//!
//! One process opens a directory as its local database and appends entries to a segmented log
//! of memory-mapped files; everything that reads, reads those same mapped bytes. Every entry
//! belongs to an *entity* (a kind and a key), and the history of an entity is read without a
//! scan. Opening takes milliseconds however long the log is, and after a crash everything that
//! was acknowledged is there.
//!
//! # Two doors
//!
//! * [`Store`] is for values of Rust types: a [`Facts<T>`](Facts) names a kind, serde does the
//!   rest. Most programs need nothing else.
//! * [`Journal`] is for bytes: the same log with the same verbs, and a [`View`] to read it.
//!
//! They stand side by side: [`Store::journal`], [`Store::over`]. A [`Reader`] reads from another
//! process while the writer runs: bytes, with [`StoreView::of`] facts and rows, and it follows live state.
//!
//! ```
//! use esker::{Expect, Facts, IdempotencyKey, Store};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, Debug, PartialEq)]
//! enum OrderEvent {
//!     Placed { item: String },
//!     Shipped,
//! }
//!
//! const ORDERS: Facts<OrderEvent> = Facts::new("order");
//! const STOCK: Facts<i64> = Facts::new("stock");
//!
//! fn main() -> esker::Result<()> {
//!     # let directory = tempfile::tempdir().unwrap();
//!     # let path = directory.path().join("shop.esker");
//!     let store = Store::open(&path)?;
//!
//!     // An append returns when it is on the disk: its place in the log, and in the history.
//!     let placed = store.append(ORDERS, "8812", &OrderEvent::Placed { item: "lamp".into() })?;
//!     assert_eq!((placed.seq.get(), placed.generation.get()), (1, 1));
//!
//!     // All or nothing over any kinds; the key makes it safe to repeat.
//!     let mut batch = store.batch().idempotency_key(IdempotencyKey(*b"ship order  8812"));
//!     batch.append_if(ORDERS, "8812", Expect::Generation(placed.generation), &OrderEvent::Shipped)?;
//!     batch.append(STOCK, "lamp", &-1)?;
//!     batch.commit()?;
//!
//!     // A view is one moment of the log; values are decoded from the mapped file when asked for.
//!     let view = store.view();
//!     for fact in view.history(ORDERS, "8812").rev() {
//!         let fact = fact?;
//!         println!("{} {:?}", fact.generation(), fact.value()?);
//!     }
//!     assert_eq!(view.latest(ORDERS, "8812")?.unwrap().value()?, OrderEvent::Shipped);
//!     store.close()
//! }
//! ```
//!
//! # Following, folding, reacting
//!
//! * A [`Subscriber`] may miss entries and is told exactly which; a [`Watcher`] has a durable name and
//!   misses none. Both pull, in the thread that calls them; a [`WaitSet`] waits on many.
//! * A [`Fold`] makes a value of one entity's facts: [`Store::project`], [`Store::watch_projection`].
//! * A [`Reactor`] calls your code for each entry of a region, and appends what it puts out in one batch
//!   with how far it has read: [`Store::react`].
//!
//! # Live state
//!
//! A [`Kind<T>`](Kind) has rows: what is true now. A [`Source`] asserts, patches and retracts them; what the operations
//! of a [`Window`] come to is one batch. [`Store::get`] and [`Store::scan`] read rows, a [`Subscription`] is told the rows
//! of one moment and every change behind it, or with [`Behind::Conflate`] the newest of each entity; [`Store::at`] is the
//! state of an earlier moment, as far as compaction has left it. A [`Mirror`] keeps something outside equal to a kind. A
//! kind with [events](Kind::events) tells each operation too ([`Events`], [`EventWatcher`]). [`kind!`] makes a struct and
//! its kind in one.
//! Another process follows by [`Reader::subscription`], [`Reader::events`] and [`Reader::mirror`].
//!
//! # Topics and cells
//!
//! What may run in one process or on a broker stands on a [`Backplane`](backplane::Backplane): an event log and
//! compare-and-swap cells behind one trait. A store's own is its journal ([`backplane::Local`]); tests take
//! [`backplane::InMemory`]. A [`Topic<T>`](Topic) ([`Store::topic`]) has the events of each key, [`Cells`] ([`Store::cells`]) have
//! values that are changed by whoever is first; [`Cell::get`] reads what this process knows of one. A [`TopicFold`]
//! ([`TopicHandle::fold`]) keeps the value of a [`Fold`] over a topic up to date, saves images of it, and halts where it cannot be whole. What
//! all folds over a topic have in their images compaction drops where the topic is told to ([`Keep::Fold`]). A [`Consumer`] ([`TopicHandle::on_event`],
//! [`Store::on_event`]) calls your code for each event, in order and at least once, in whichever process, and gives none up that you
//! have not told it to. `conformance` (feature `conformance`) tries an adapter of yours.
//! With the feature `nats` all of this may stand on NATS JetStream (`backplane::Nats`), for many processes: eventual, each topic
//! for itself, and acknowledged before it is synced. `backplane::NatsBridge` copies a journal's facts to it.
//!
//! # Guarantees
//!
//! * **Acknowledged is kept.** With [`Durability::Sync`], the default, an append returns when it
//!   survives a power cut. The other modes say what a crash may take.
//! * **A crash leaves a prefix**: whole batches in the order of the log, nothing in between
//!   missing. [`Journal::recovery`] says what was cut off.
//! * **A batch is atomic** over all its entities, and with a key it is appended once.
//! * **A view does not change** while others append. Readers take no lock that a writer holds
//!   while it stores.
//! * **Damage is an error, never silence.** Two checksums stand between a flipped bit and a
//!   reader; nothing is truncated or skipped to get around one.
//! * **Nothing goes that somebody needs.** [`Journal::compact`] drops what [`Journal::keep`] says may go, and
//!   nothing that a cursor, a reader or a backup has still to see, nor what only an undurable entry makes
//!   superfluous; who asks for what was dropped is told so ([`ErrorKind::Compacted`], with the floor).
//! * **One writer.** A second opening is refused with the name of the holder.
//!
//! [`promises`] has all of them: after which fault, what is assumed of the hardware, what stays ambiguous, and the test that shows it.
//!
//! # What it tells of itself
//!
//! [`Journal::stats`] is always counted and cheap; [`metrics`] gives it names, says what to alert on and what that costs, and writes
//! it as text or, with the feature `metrics`, hands it to the facade of that name. With the feature `tracing`, events and spans
//! under the target `esker` tell of openings and what recovery cut, compaction, cursors that are lost, syncs of a second and more,
//! poison, folds that halt and reactors that are stuck; of an append, nothing. Whoever subscribes is called under locks, and
//! must not call the store. The library prints nothing.
//!
//! # How it is built
//!
//! ```text
//!    metrics             what is counted, by name
//!       |
//!     store              values of Rust types; the threads that react
//!       |
//!     fold    state      values derived from entries; what is true now, and who says so
//!       |   /     |
//!     codec   backplane  values to bytes and back; an event log and cells behind one trait
//!       |
//!    journal <- options  bytes; the one writer, the readers; the order of locks, and the threads
//!     |   |        |
//!     |   |      clock   what time it is
//!     |   |
//!  compact  feed         what is dropped, and what is kept of it; who sleeps for which part of the log
//!     |   |
//!  index  |              where an entity's entries are
//!     |   |
//!      log   cursor      order, the visible and the durable mark, rotation, recovery; named places
//!       |
//!     disk               files and the mapping
//!       |
//!    format              bytes <-> meaning: pure functions
//!       |
//!  error -> id -> sync, meter, trace    what is counted, and what is told
//! ```
//!
//! Modules import downward only. A frame is written once, into mapped memory, and published
//! with one store to the visible mark; the durable mark follows with a sync that concurrent
//! appends share. Segments never change once they are left; the index files beside them are
//! derived, checksummed, and made again when they are missing or in doubt.
//!
//! Live state is the newest row frame of each entity, found by the same index of entities: rows, versions and sets of
//! sources are read from the mapped log, and the heap holds only the windows that are not appended yet: the one that is
//! open, and one that is on its way into the log while operations go into the next. A
//! subscription is a walk over the frames of a kind, then over those behind it, by the same index.
//!
//! Operations of a kind with events stand beside its rows, as frames of a kind of their own with a flag that keeps them out of
//! the log that everybody follows; each is numbered, and preambles and closes say how many there were. A source with a
//! deadline is ended batch by batch, and only behind the last one a frame says that it is.
//!
//! Compaction judges each segment by its index, and copies what is kept of a run of neighbours with
//! garbage into a *part*, a file of the same frames with the same numbers; what has no garbage is
//! never copied. A part counts when the manifest names it: that one replacement is the step at which a
//! crash is before or behind, and only then are the old files unlinked. Views keep what they have mapped.
//!
//! # Where the `unsafe` is
//!
//! In one file, `disk/map.rs`, and denied everywhere else. Its header states the rules that make
//! a shared mapping sound (the file is allocated and never shrinks, published bytes never change,
//! marks order what is read, a lock keeps other writers out), and each block cites the one it
//! relies on. What no rule can promise: a disk that fails under a mapped read ends the process
//! with a signal (`SIGBUS`), and somebody who changes a store's files by other means breaks it.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod backplane;
mod clock;
mod codec;
mod compact;
#[cfg(feature = "conformance")]
#[cfg_attr(docsrs, doc(cfg(feature = "conformance")))]
pub mod conformance;
mod cursor;
mod disk;
pub mod dump;
mod error;
mod feed;
mod fold;
mod format;
mod id;
mod index;
mod journal;
mod log;
mod meter;
pub mod metrics;
mod options;
mod state;
mod store;
mod sync;
mod trace;

#[cfg(feature = "simulator")]
pub use disk::simulator::{Choose, Simulator};
/// For this crate's own fuzzers; no promise is made about it.
#[cfg(feature = "simulator")]
#[doc(hidden)]
pub mod simulator {
    pub use crate::format::mend::{judge_frame, mend_file, mend_frame};
}
/// What [`kind!`] makes names these; no promise is made about it.
#[doc(hidden)]
pub mod kind_macro {
    pub use serde as __esker_serde;
}
pub use clock::{Clock, ManualClock};
pub use compact::policy::{AutoCompact, CompactOptions};
pub use error::{Error, ErrorKind, Result};
pub use fold::cache::Freshness;
pub use fold::consumer::delivery::{DeadLetter, Delivery, Handled};
pub use fold::consumer::giving_up::PARKED_ENTITIES_MAX;
pub use fold::consumer::handle::Consumer;
pub use fold::consumer::info::{
    ConsumerHalt, ConsumerHaltReason, ConsumerInfo, ConsumerState, ConsumerStatus, ParkedEntity,
};
pub use fold::consumer::options::{
    CONSUMER_NAME_BYTES_MAX, CommitEvery, ConsumeFrom, ConsumerOptions, OnEraChange, OnLost, OnUndecodable,
};
pub use fold::consumer::progress::CONSUMERS_MAX;
pub use fold::consumer::written::WrittenConsumer;
pub use fold::handle::{FoldWatcher, TopicFold};
pub use fold::topic::{FoldOptions, FoldStats, FoldStatus, Folded, Halt, HaltReason, Verify};
pub use fold::written::{StreamFolds, WrittenFold, WrittenImage};
pub use fold::{At, Fold, Projection};
pub use format::cursor::{CURSOR_NAME_BYTES_MAX, CURSORS_MAX};
pub use format::frame::{KEY_BYTES_MAX, METADATA_BYTES_MAX, PAYLOAD_BYTES_MAX};
pub use format::lock::Holder;
pub use format::lost::LostRange;
pub use format::operation::{EventMark, EventOperation};
pub use format::row::{RowMark, RowOperation};
pub use format::source::{
    DEADLINE_MAX, DEADLINE_MIN, Liveness, SOURCE_NAME_BYTES_MAX, SOURCES_MAX, SourceInfo,
};
pub use format::system::{Codec, FIELDS_MAX, KIND_NAME_BYTES_MAX, Keep, KindInfo, Owner};
pub use id::{Generation, IdempotencyKey, KINDS_MAX, KindId, Life, Position, SEQ_MAX, Seq, StoreId};
pub use journal::Journal;
pub use journal::backup::{Backup, BackupBy, Restored, restore, restore_while};
pub use journal::compaction::Compaction;
pub use journal::cursors::{CursorInfo, CursorReset, Hold};
pub use journal::entry::{Entry, OwnedEntry};
pub use journal::erasing::Erasure;
pub use journal::finding::{Check, Finding, Severity, Verdict, Verification};
pub use journal::history::History;
pub use journal::holds::HeldBack;
pub use journal::import::entry::{ImportEntry, ImportKind};
pub use journal::import::{Import, Imported, Origin};
pub use journal::onlooker::Onlooker;
pub use journal::pins::PinnedBy;
pub use journal::reader::Reader;
pub use journal::record::{Batch, BatchReceipt, Causation, Expect, Receipt, Record, Ticket};
pub use journal::region::{Region, RegionEntries};
#[cfg(feature = "simulator")]
pub use journal::repair::repair_in;
pub use journal::repair::{CursorFate, LostCursor, LostKind, Repair, repair, repair_while};
pub use journal::stats::{CursorPin, Stats};
#[cfg(feature = "async")]
#[cfg_attr(docsrs, doc(cfg(feature = "async")))]
pub use journal::stream::{OwnedItem, ReaderStream};
pub use journal::subscriber::{Item, Lag, Missed, Start, SubscribeOptions, Subscriber};
pub use journal::upgrade::{Upgrade, upgrade};
#[cfg(feature = "simulator")]
pub use journal::verify::verify_in;
pub use journal::verify::{verify, verify_while};
pub use journal::view::{Entries, View};
pub use journal::wait_set::{WaitKey, WaitSet, WaitSetStopper};
pub use journal::waiting::{Place, Reading, Stopper, Until};
pub use journal::watcher::{WatchOptions, Watcher};
pub use log::report::{Damage, RecoveryReport};
pub use meter::{ConsumerReading, FoldCounts, FoldDigest, FoldReading, Histogram};
pub use options::{Durability, Options, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, Window};
pub use state::change::{Change, ChangeKind, Marker, StateItem};
pub use state::ending::Closing;
pub use state::engine::StateStats;
pub use state::epoch::{Epoch, EpochOutcome};
pub use state::event::{Event, EventKind};
pub use state::events::{EventItem, EventWatcher, Events, EventsBuilder};
pub use state::field::{Field, FieldFor, FieldOf};
pub use state::kind::{Kind, Patch, RowFields, Upcaster};
pub use state::mirroring::{MirrorChanges, MirrorRows, MirrorTarget};
pub use state::presence::{SessionEnd, SessionEvent};
pub use state::reading::{OwnedRow, Row, Rows, SourceSet, Status, Version};
pub use state::sessions::{Heartbeat, SourceOptions};
pub use state::source::Source;
pub use state::subscribing::{Behind, SubscriptionBuilder};
pub use state::subscription::{Subscription, SubscriptionStatus};
pub use state::ticket::{Committed, Made, StateTicket};
pub use state::token::{Because, MirrorToken, Token};
pub use store::Store;
pub use store::bare::RowEntries;
pub use store::batch::{StoreBatch, With};
pub use store::cell::{Cell, CellWatcher, Cells, Loaded};
pub use store::fact::{Fact, OwnedFact};
pub use store::facts::Facts;
pub use store::mirror::{Mirror, MirrorBuilder, MirrorMonitor, MirrorOutcome, MirrorStatus};
pub use store::project::{DurableProjectionWatcher, ProjectionOptions, ProjectionWatcher};
pub use store::react::{Out, REACTION_DEPTH_MAX, REACTION_ENTRIES_MAX, ReactOptions, Reaction};
pub use store::reactor::{Reactor, ReactorState, ReactorStatus};
pub use store::state::SESSIONS;
pub use store::topic::{Topic, TopicFeed, TopicHandle, TopicRecord, TopicTicket};
pub use store::view::{FactIter, StoreView};

#[doc = include_str!("promises.md")]
pub mod promises {}

/// The examples of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
