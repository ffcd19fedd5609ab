//! esker: an embedded, append-only storage engine.
//!
//! One process opens a directory as its local database and appends entries to a segmented log
//! of memory-mapped files; everything that reads, reads those same mapped bytes.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod disk;
pub mod dump;
mod error;
mod format;
mod id;
mod index;
mod journal;
mod log;
mod options;
mod sync;

#[cfg(feature = "simulator")]
pub use disk::simulator::{Choose, Simulator};
pub use error::{Error, ErrorKind, Result};
pub use format::frame::{KEY_BYTES_MAX, METADATA_BYTES_MAX, PAYLOAD_BYTES_MAX};
pub use format::lock::Holder;
pub use format::system::{Codec, FIELDS_MAX, KIND_NAME_BYTES_MAX, KindInfo, Owner};
pub use id::{Generation, IdempotencyKey, KINDS_MAX, KindId, Life, Position, SEQ_MAX, Seq, StoreId};
pub use journal::Journal;
pub use journal::entry::{Entry, OwnedEntry};
pub use journal::history::History;
pub use journal::reader::Reader;
pub use journal::record::{Batch, BatchReceipt, Expect, Receipt, Record, Ticket};
pub use journal::region::Region;
pub use journal::stats::Stats;
pub use journal::view::{Entries, RegionEntries, View};
pub use log::recovery::{Damage, RecoveryReport};
pub use options::{Durability, Options, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
