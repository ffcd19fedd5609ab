//! Encoding frames into the active segment: the only code that decides where a frame stands.
//!
//! Everything here runs under the journal's writer lock. **Protocol P2**: the body's checksum
//! came with the frame, the head's is computed here; between the first stored byte and the one
//! publishing store nothing can fail, but the `pwrite` of a copy-on-write file system.

use std::sync::Arc;

use zerocopy::IntoBytes;

use crate::disk::map::{MapWriter, Unfinished};
use crate::format::extension::{Extensions, Id, ShortExtensions};
use crate::format::frame::{FRAME_BYTES, FrameFields, FrameHeader, Lengths, body_crc};
use crate::format::system::System;
use crate::id::{IdempotencyKey, Life, Position};
use crate::log::segment::Segment;

/// What is always kept free at the end of a segment: a seal, and a closed frame.
pub(crate) const RESERVED_BYTES: u64 = 2 * FRAME_BYTES as u64;

/// The extensions of a draft.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    None,
    /// Few bytes, as each row frame of a batch has.
    Short(ShortExtensions),
    /// Any. Boxed, because few frames have so many.
    Any(Box<Extensions>),
}

impl From<Option<Box<Extensions>>> for Says {
    fn from(extensions: Option<Box<Extensions>>) -> Self {
        extensions.map_or(Self::None, Self::Any)
    }
}

impl Says {
    /// As they stand on disk.
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::None => &[],
            Self::Short(extensions) => extensions.as_bytes(),
            Self::Any(extensions) => extensions.as_bytes(),
        }
    }
}

/// A frame as it is before the lock: all but its place, its numbers and the head's checksum.
#[derive(Clone, Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) operation: u8,
    pub(crate) source: u8,
    /// Flags that do not depend on the frame's place.
    pub(crate) flags: u16,
    pub(crate) kind: u16,
    pub(crate) body_crc: u32,
    extensions: Says,
    pub(crate) key: &'a [u8],
    metadata: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Draft<'a> {
    pub(crate) fn new(
        operation: u8,
        kind: u16,
        extensions: impl Into<Says>,
        key: &'a [u8],
        metadata: &'a [u8],
        payload: &'a [u8],
    ) -> Self {
        let extensions = extensions.into();
        let (source, flags, body_crc_to_come) = (0, 0, 0);
        let mut draft = Self {
            operation,
            source,
            flags,
            kind,
            body_crc: body_crc_to_come,
            extensions,
            key,
            metadata,
            payload,
        };
        draft.body_crc = body_crc(draft.lengths(), key, metadata, payload);
        draft
    }

    /// A system frame.
    pub(crate) fn system(operation: System, payload: &'a [u8]) -> Self {
        Self::new(operation as u8, 0, Says::None, &[], &[], payload)
    }

    /// Names the batch that begins with this frame.
    pub(crate) fn name_batch(&mut self, key: IdempotencyKey) {
        let mut extensions = match &self.extensions {
            Says::None => Box::default(),
            Says::Short(extensions) => Box::new(extensions.extensions()),
            Says::Any(extensions) => extensions.clone(),
        };
        extensions.set(Id::IdempotencyKey, &key.0);
        self.extensions = Says::Any(extensions);
    }

    pub(crate) fn lengths(&self) -> Lengths {
        Lengths {
            extensions: self.extensions.as_bytes().len(),
            key: self.key.len(),
            metadata: self.metadata.len(),
            payload: self.payload.len(),
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.lengths().frame() as u64
    }
}

/// The numbers that a frame is given under the lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    pub(crate) flags: u16,
    pub(crate) seq: u64,
    pub(crate) generation: u64,
    pub(crate) time: i64,
}

/// The active segment and the place of the next frame in it.
#[derive(Debug)]
pub(crate) struct ActiveSegment {
    pub(crate) segment: Arc<Segment>,
    writer: MapWriter,
    at: u64,
    life: Life,
}

impl ActiveSegment {
    /// Goes on in a segment at `at`.
    pub(crate) fn new(segment: Arc<Segment>, writer: MapWriter, at: u64, life: Life) -> Self {
        Self { segment, writer, at, life }
    }

    /// The end of the log: where the next frame will stand.
    pub(crate) fn end(&self) -> Position {
        self.segment.position(self.at)
    }

    /// True if `bytes` more leave the reserve free.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.at + bytes + RESERVED_BYTES <= self.segment.header.bytes
    }

    /// True if there is room for one of the frames that the reserve is for.
    pub(crate) fn has_reserve(&self, frames: u64) -> bool {
        self.at + frames * FRAME_BYTES as u64 <= self.segment.header.bytes
    }

    /// The next batch has so many bytes. True: it goes by a call, which may fail.
    #[inline]
    pub(crate) fn begin_batch(&mut self, bytes: u64) -> bool {
        self.writer.begin_batch(bytes)
    }

    /// Stores a frame behind the last one and says where. It is seen by nobody yet.
    #[inline]
    pub(crate) fn push(&mut self, draft: &Draft<'_>, numbers: Numbers, durable: Position) -> u64 {
        let at = self.at;
        let lengths = draft.lengths();
        let fields = FrameFields {
            operation: draft.operation,
            kind: draft.kind,
            flags: draft.flags | numbers.flags,
            source: draft.source,
            life: self.life,
            seq: numbers.seq,
            generation: numbers.generation,
            time: numbers.time,
            durable,
            lengths,
            body_crc: draft.body_crc,
        };
        let extensions = draft.extensions.as_bytes();
        let header =
            FrameHeader::seal(&fields, extensions, self.segment.header.salt, self.segment.position(at));
        // The padding is not stored: whatever lies behind the end of a log is zero.
        let mut to = usize::try_from(at).unwrap_or(usize::MAX);
        for part in [header.as_bytes(), extensions, draft.key, draft.metadata, draft.payload] {
            if !part.is_empty() {
                self.writer.write_at(to, part);
                to += part.len();
            }
        }
        self.at += lengths.frame() as u64;
        at
    }

    /// Makes everything stored so far readable in this segment's map.
    ///
    /// # Errors
    ///
    /// Where a batch needs a call and it failed: nothing of the batch is seen, and nothing
    /// more may be written into this segment.
    pub(crate) fn finish(&mut self) -> Result<(), Unfinished> {
        let finished = self.writer.finish_batch();
        if finished.is_ok() {
            self.writer.publish(usize::try_from(self.at).unwrap_or(usize::MAX));
        }
        finished
    }

    /// Forgets what was stored and not finished; the next segment follows this one at `end`.
    pub(crate) fn give_up_at(&mut self, end: Position) {
        self.at = end.offset();
    }
}
