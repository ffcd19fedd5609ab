//! Bytes and their meaning: pure functions on `&[u8]`, without I/O and without `unsafe`.
//!
//! ```text
//! orders.esker/
//!   LOCK            header | holder | live marks (shared memory, hints for readers)      lock.rs
//!   MANIFEST        header | sections                                                    manifest.rs, compacted.rs
//!   0000000042.seg  header | preamble batch | frame | frame | … | seal | zeros           segment.rs
//!   0000000042.idx  header | offsets | members | entities | kinds | system | keyed       index.rs
//!   0000000003.snap header | frame | frame | …      what compaction kept of a stretch     part.rs
//!   0000000003.snap.idx                             the index of that
//!   RESERVE         space to write a manifest with, where the disk is full and there are cursors
//!   entities        header | page | page | …      (a page: checksum, count, 127 slots)   directory.rs
//!
//! every file     0        8      10       12               24         40       48     56        124
//!                +--------+------+--------+----------------+----------+--------+------+---------+-----+
//! header (128 B) | magic  | type | version| feature bits x3| store id | number | salt | 8 words | crc |
//!                +--------+------+--------+----------------+----------+--------+------+---------+-----+
//!
//! a frame        0  1       2        4       8     10        12    16   24          32    40       48
//! (56 B, then    +--+-------+--------+-------+-----+---------+-----+----+-----------+-----+--------+
//! what it holds) |op|key len|meta len|lengths|kind |fl|source|life |Seq |Generation |time |durable |
//!                +--+-------+--------+-------+-----+---------+-----+----+-----------+-----+--------+
//!                48        52        56           …     …          …         … up to a multiple of 8
//!                +---------+---------+------------+-----+----------+---------+---------+
//!                |body crc |head crc | extensions | key | metadata | payload | padding |
//!                +---------+---------+------------+-----+----------+---------+---------+
//! ```
//!
//! a system frame holds a kind, the opening or the close of a life, what a batch's key was, or
//! a cursor: its name, where its reader is, and a revision; the newest revision is true (cursor.rs)
//!
//! Everything is little-endian. Every file starts with a header that says which format wrote
//! it; a newer one is refused before anything is written (`FormatTooNew`), never "corrupt".
//!
//! **Two checksums a frame.** `body crc` covers key, metadata, payload and padding, is not
//! seeded, and is computed before the writer's lock. `head crc` covers the header (with
//! `body crc` in it) and the extensions, is seeded with the segment's random salt, the life
//! and the position, and is computed under the lock. So a header is judged without reading
//! its payload, and bytes of another place, life or store never validate: 64 bits must match.
//!
//! **A zero word is never a frame**: the operation byte is at least one, so untouched space
//! needs no length, count or end marker.
//!
//! **What this format does badly.** A frame costs 56 bytes before its content, and padding.
//! Keys are repeated in every frame. Nothing is compressed. A payload is limited to 16 MiB
//! less 4 KiB, a batch to a quarter of a segment. CRC-32 protects against accidents, not
//! against somebody who wants to deceive.

pub(crate) mod checksum;
pub(crate) mod chunk;
pub(crate) mod compacted;
pub(crate) mod count;
pub(crate) mod cursor;
pub(crate) mod directory;
pub(crate) mod epoch;
pub(crate) mod extension;
pub(crate) mod floor;
pub(crate) mod frame;
pub(crate) mod header;
pub(crate) mod index;
pub(crate) mod lock;
pub(crate) mod lost;
pub(crate) mod manifest;
#[cfg(feature = "simulator")]
pub(crate) mod mend;
pub(crate) mod operation;
pub(crate) mod part;
pub(crate) mod row;
pub(crate) mod segment;
pub(crate) mod source;
pub(crate) mod stamp;
pub(crate) mod system;
