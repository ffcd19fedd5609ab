//! A store as JSON lines, and a store of JSON lines.
//!
//! ```text
//! {"type":"header","tool":"esker","schema":1,"command":"export","store":"…","era":"1","kinds":[…]}
//! {"type":"entry","seq":1,"generation":1,"kind":"note","key":"a","time_ns":"…","payload_text":"one"}
//! {"type":"summary","entries":1,"log_last_seq":1}
//! ```
//!
//! Nothing is lost on the way: an entry that comes back is the one that went, with its numbers, its time, its
//! batch and its key. A file without its last line is a part of an export, and no store is made of it.

mod ahead;
mod entries;
mod export;
mod import;
mod line;
mod state;
mod text;

pub use entries::{Entries, Next};
pub use export::{NotCarried, export, header};
pub use import::{BadFile, Done, Fault, Interrupted, Lines, import};
pub use line::{Entry, Header, Kind, LINE_BYTES_MAX, Line, SCHEMA, Summary};
