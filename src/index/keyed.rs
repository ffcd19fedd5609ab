//! Batches that were given an idempotency key, and entries that have a stamp, told by their frames alone.

use crate::format::extension::idempotency_key;
use crate::format::frame::{Frame, Lengths, flag};
use crate::format::index::Keyed;
use crate::format::stamp::StampBytes;

/// What a batch holds, in 64 bits: each frame's kind, operation, lengths and body checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(u64);

impl Digest {
    pub(crate) const EMPTY: Self = Self(0x6573_6b65_7221_0001);

    #[must_use]
    pub(crate) fn with(self, kind: u16, operation: u8, lengths: Lengths, body_crc: u32) -> Self {
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let sizes = (lengths.key as u64) << 48 ^ (lengths.metadata as u64) << 32 ^ lengths.payload as u64;
        let what = u64::from(kind) << 40 ^ u64::from(operation) << 32 ^ u64::from(body_crc);
        let mix = |word: u64, digest: u64| (digest.rotate_left(23) ^ word).wrapping_mul(SPREAD);
        Self(mix(sizes, mix(what, self.0)))
    }

    pub(crate) fn word(self) -> u64 {
        self.0
    }
}

/// Gathers a keyed batch from its frames, in order. An entry with a stamp is remembered by itself; no batch of such has
/// a key.
#[derive(Debug, Default)]
pub(crate) struct KeyedReader(Option<(Keyed, Digest)>);

impl KeyedReader {
    /// The keyed batch that this user frame completes, or the stamped entry that it is.
    pub(crate) fn frame(&mut self, frame: &Frame<'_>) -> Option<Keyed> {
        let header = frame.header;
        if let Some(key) = idempotency_key(frame.extensions()) {
            let (first_seq, time) = (header.seq.get(), header.time.get());
            self.0 = Some((Keyed { key, first_seq, frames: 0, digest: 0, time }, Digest::EMPTY));
        }
        let sum = |digest: Digest| {
            digest.with(header.kind.get(), header.operation, header.lengths(), header.body_crc.get())
        };
        let Some((keyed, digest)) = self.0.as_mut() else {
            let key = StampBytes::read(frame.extensions())?.key_for(header.kind.get(), frame.key());
            let (first_seq, time) = (header.seq.get(), header.time.get());
            return Some(Keyed { key, first_seq, frames: 1, digest: sum(Digest::EMPTY).word(), time });
        };
        keyed.frames += 1;
        *digest = sum(*digest);
        if header.has(flag::MORE) {
            return None;
        }
        let (keyed, digest) = self.0.take()?;
        Some(Keyed { digest: digest.word(), ..keyed })
    }
}
