//! Cells as entries: one byte that says whether there is a value, and the value.
//!
//! One without a value is no tombstone: compaction would forget it, and its revision with it.

use crate::backplane::step::Step;
use crate::error::{Error, Result};
use crate::journal::entry::Entry;
use crate::journal::registry::CELLS_NAME;

pub(super) const NAME: &str = CELLS_NAME;

const NOTHING: u8 = 0;
const VALUE: u8 = 1;

/// The payload of a cell's entry; empty for a step of another kind.
#[derive(Debug)]
pub(super) struct CellBytes(Vec<u8>);

impl CellBytes {
    pub(super) fn of(step: &Step<'_>) -> Self {
        let Step::Put(put) = step else { return Self(Vec::new()) };
        Self(payload_of(put.value))
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

/// The payload of an entry of a cell that comes to hold this.
pub(crate) fn payload_of(value: Option<&[u8]>) -> Vec<u8> {
    match value {
        Some(value) => [&[VALUE], value].concat(),
        None => vec![NOTHING],
    }
}

/// What a cell's entry says that it holds.
pub(crate) fn value_of<'a>(entry: &Entry<'a>) -> Result<Option<&'a [u8]>> {
    match entry.payload() {
        [VALUE, value @ ..] => Ok(Some(value)),
        [NOTHING] => Ok(None),
        other => {
            let key = String::from_utf8_lossy(entry.key());
            Err(Error::corrupt(format!("load the cell {}", key.escape_debug()))
                .sides("a byte that says whether there is a value", format!("{} bytes", other.len()))
                .concerning(entry.seq().get()))
        }
    }
}
