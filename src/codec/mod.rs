//! Values to bytes and back: MessagePack with field names.
//!
//! Names cost a few bytes an entry and buy two things: a fact can be read by any program that
//! knows the names, the inspection tool among them, and a type can gain and lose fields.

pub(crate) mod fields;
pub(crate) mod said;

use std::cell::Cell;

use rmp_serde::decode::Error as DecodeError;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::journal::entry::Entry;

/// A thread keeps a buffer of at most this many bytes between appends.
const KEPT_BYTES_MAX: usize = 1 << 20;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Encodes a value into the thread's buffer and hands the bytes on.
pub(crate) fn encoded<T: Serialize, R>(
    kind: &str,
    value: &T,
    then: impl FnOnce(&[u8]) -> Result<R>,
) -> Result<R> {
    with_buffer(|buffer| {
        encode(kind, value, buffer)?;
        then(buffer)
    })
}

/// Hands the thread's buffer on, empty.
pub(crate) fn with_buffer<R>(then: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    // Taken, not borrowed: a `Serialize` that appends facts of its own finds an empty buffer.
    let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    buffer.clear();
    let outcome = then(&mut buffer);
    if buffer.capacity() <= KEPT_BYTES_MAX {
        // Only while the thread ends is there nowhere to put it.
        let _ = BUFFER.try_with(|kept| kept.set(buffer));
    }
    outcome
}

/// Encodes a value behind what `buffer` holds.
pub(crate) fn encode<T: Serialize>(kind: &str, value: &T, buffer: &mut Vec<u8>) -> Result<()> {
    rmp_serde::encode::write_named(buffer, value).map_err(|cause| {
        Error::new(ErrorKind::Codec, format!("encode a fact of the kind {kind:?}")).because(cause)
    })
}

/// Decodes bytes that are one value and nothing else.
pub(crate) fn decode_bytes<'v, T: Deserialize<'v>>(bytes: &'v [u8]) -> Result<T, DecodeError> {
    let mut bytes = rmp_serde::Deserializer::from_read_ref(bytes);
    let value = T::deserialize(&mut bytes)?;
    // A value that ends early is not what was written: nothing may follow but the end.
    match IgnoredAny::deserialize(&mut bytes) {
        Err(DecodeError::InvalidMarkerRead(_)) => Ok(value),
        _ => Err(DecodeError::Syntax("the payload goes on behind the value".to_owned())),
    }
}

/// True if a value names a variant that its type does not have.
///
/// serde's derive says it in these words ([`serde::de::Error::unknown_variant`]), and the decoder keeps nothing but them.
pub(crate) fn is_unknown_variant(error: &DecodeError) -> bool {
    matches!(error, DecodeError::Syntax(text) if text.starts_with("unknown variant `"))
}

/// Decodes an entry's payload in place: strings and bytes may be borrowed from the mapped file.
pub(crate) fn decode<'v, T: Deserialize<'v>>(kind: &str, version: u16, entry: &Entry<'v>) -> Result<T> {
    let failed = |cause: Box<dyn std::error::Error + Send + Sync>| {
        let written = entry.schema_version().unwrap_or(1);
        let versions = if written == version {
            format!("version {version}")
        } else {
            format!("written as version {written}, read as version {version}")
        };
        Error::new(ErrorKind::Codec, format!("decode a fact of the kind {kind:?} ({versions})"))
            .concerning(entry.seq().get())
            .because(cause)
    };
    decode_bytes(entry.payload()).map_err(|cause| failed(cause.into()))
}
