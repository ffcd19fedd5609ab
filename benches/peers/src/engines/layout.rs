//! How the key-value stores lay an event out, the same for all of them.

use crate::workload::{Event, KEY_BYTES, Key, PAYLOAD_BYTES};

/// The value of a store that is keyed by sequence: key and payload.
pub fn value_with_key(event: &Event<'_>) -> [u8; KEY_BYTES + PAYLOAD_BYTES] {
    let mut value = [0; KEY_BYTES + PAYLOAD_BYTES];
    value[..KEY_BYTES].copy_from_slice(&event.key);
    value[KEY_BYTES..].copy_from_slice(event.payload);
    value
}

/// The key of a store that is keyed by entity: key and generation, in an order that sorts.
pub fn by_entity(key: &Key, generation: u32) -> [u8; KEY_BYTES + 4] {
    let mut bytes = [0; KEY_BYTES + 4];
    bytes[..KEY_BYTES].copy_from_slice(key);
    bytes[KEY_BYTES..].copy_from_slice(&generation.to_be_bytes());
    bytes
}
