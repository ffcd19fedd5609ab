//! What a store looks like to somebody who did not write it: frames, segments, payloads, bytes.
//!
//! Everything here reads files; nothing needs the application, takes a lock or changes a byte.
//! A [`Survey`] says which segments there are and where the log ends; its [`Frames`] are all
//! frames of the log, system frames included, and the damage between them, what compaction kept in
//! its place; a [`Dump`] makes
//! one line, or one serializable struct, of each; an [`EntityTally`] sums up what was written of each entity, and an
//! [`EntityCount`] counts entities;
//! [`annotate`] shows the bytes themselves.
//!
//! ```
//! use esker::dump::{Dump, Item, Survey, segment_text};
//! use esker::{Journal, Reader, Record};
//! # fn main() -> esker::Result<()> {
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("harbour.esker");
//! # let journal = Journal::open(&path)?;
//! # journal.append(Record::new(journal.kind("note")?, b"a", b"one"))?;
//! let reader = Reader::open(&path)?;                   // also beside a live writer
//! let dump = Dump::new(reader.kinds());
//! for item in Survey::of(&reader)?.frames() {
//!     match item? {
//!         Item::Frame(frame) => println!("{}", dump.line(&frame)),
//!         Item::Damage(damage) => {
//!             println!("damage at {}:{}", segment_text(damage.segment), damage.offset)
//!         }
//!     }
//! }
//! # journal.close()
//! # }
//! ```

mod entities;
mod frame;
mod halves;
mod hex;
mod large;
mod line;
mod one;
mod payload;
mod sums;
mod survey;
mod text;
mod translate;
mod value;
mod walk;

pub use entities::{EntityCount, EntityOrder, EntitySum, EntityTally, RankedEntities};
pub use frame::FrameInfo;
pub use hex::{HexLine, annotate};
pub use large::{LARGE_BYTES, LargePayload};
pub use line::{Dump, Fields};
pub use one::EntityFrames;
pub use payload::{Payload, PayloadFields, PayloadStyle};
pub use survey::{SegmentInfo, SegmentState, StandsFor, Survey};
pub use text::{
    base64, base64_bytes, escaped, hex, is_unprintable, key_bytes, key_text, one_line, rfc3339,
    segment_number, segment_text,
};
pub use translate::Translators;
pub use value::{DEPTH_MAX, DecodeError, VALUES_MAX, Value};
pub use walk::{Frames, Item, Lent};

/// The format that this build writes, and the newest that it reads.
pub const FORMAT_VERSION: u16 = crate::format::header::FORMAT_VERSION;
