//! How entities are in the log that were touched a moment ago.
//!
//! The log says it too, and a window asks the log once for each entity that it touches. Those that are touched in
//! window after window need not be looked up each time. Only rows are written through the state layer, and those under
//! its lock, so what is here is what the log says.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use crate::format::index::EntityHash;
use crate::state::window::{AsItIs, Base, BaseRow};

/// So many at most: with their rows, some 10 MB.
const ENTITIES_MAX: usize = 16_384;
/// Longer rows are left to the log.
const ROW_BYTES_MAX: usize = 512;

/// Some entities by their hash.
#[derive(Debug, Default)]
pub(crate) struct Recent(HashMap<EntityHash, Base, BuildHasherDefault<AsItIs>>);

impl Recent {
    pub(crate) fn get(&self, hash: EntityHash) -> Option<&Base> {
        self.0.get(&hash)
    }

    /// Takes an entity out, for a window that touches it.
    pub(crate) fn take(&mut self, hash: EntityHash) -> Option<Base> {
        self.0.remove(&hash)
    }

    pub(crate) fn put(&mut self, hash: EntityHash, base: Base) {
        if base.row().len() > ROW_BYTES_MAX {
            return;
        }
        if self.0.len() >= ENTITIES_MAX {
            // Whoever touches so many does not come back soon.
            self.0.clear();
        }
        // An entry of the log would keep its segment, also when that was compacted.
        let row = match base.row {
            BaseRow::Logged(entry) => BaseRow::Brought(entry.payload().to_vec()),
            BaseRow::Brought(mut row) => {
                // It may have been a longer one.
                row.shrink_to_fit();
                BaseRow::Brought(row)
            }
            BaseRow::None => BaseRow::None,
        };
        self.0.insert(hash, Base { row, ..base });
    }

    /// What was not appended for good may be otherwise in the log.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}
