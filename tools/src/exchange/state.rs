//! What the lines of an export say of live state: rows, and operations.

use esker::{EventMark, EventOperation, RowMark, RowOperation};
use serde::Deserialize;

/// Why an operation is no event.
pub(super) const IN_EPOCH: &str = "in-epoch";
pub(super) const SYNTHETIC: &str = "synthetic";

/// What an entry says as a row of live state.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    operation: String,
    /// One bit a source, in hexadecimal.
    sources: String,
    /// One bit a field, in hexadecimal.
    changed: String,
    /// Where it is not the generation.
    #[serde(default)]
    version: Option<u64>,
}

impl Row {
    pub(super) fn to_import(&self, schema: Option<u16>) -> Result<(RowOperation, RowMark), String> {
        let operations = (0..=u8::MAX).filter_map(RowOperation::of);
        let operation = operations.into_iter().find(|operation| operation.name() == self.operation);
        let operation = operation
            .ok_or_else(|| format!("a row was {:?}, which this build does not know", self.operation))?;
        let mark = RowMark {
            schema: schema.ok_or("a row has no `schema_version`")?,
            sources: word(&self.sources, "sources")?,
            changed: word(&self.changed, "changed")?,
            version: self.version,
        };
        Ok((operation, mark))
    }
}

/// What an entry says as an operation on live state.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Event {
    operation: String,
    /// One bit a source, in hexadecimal.
    sources: String,
    /// One bit a field, in hexadecimal, where there was a row before.
    #[serde(default)]
    changed: Option<String>,
    /// One bit for each field that a patch named, in hexadecimal.
    #[serde(default)]
    present: Option<String>,
    /// Its number among the events of the store, and among those of its kind.
    sequence: u64,
    kind_sequence: u64,
    version: u64,
    /// Where it is another one.
    #[serde(default)]
    version_before: Option<u64>,
    /// Why it is no event, if it is none; its numbers are those of the event before it then.
    #[serde(default)]
    suppressed: Option<String>,
}

impl Event {
    /// What was said, with what it says beside the row, and why it is no event.
    pub(super) fn to_import(&self, schema: Option<u16>) -> Result<(EventOperation, EventMark, &str), String> {
        let mut operations = (0..=u8::MAX).filter_map(EventOperation::of);
        let operation = operations.find(|operation| operation.name() == self.operation).ok_or_else(|| {
            format!("an operation was {:?}, which this build does not know", self.operation)
        })?;
        let mask =
            |digits: &Option<String>, field| digits.as_ref().map(|digits| word(digits, field)).transpose();
        let why = self.suppressed.as_deref().unwrap_or_default();
        if !["", IN_EPOCH, SYNTHETIC].contains(&why) {
            return Err(format!("`suppressed` is {why:?}, which this build does not know"));
        }
        let mark = EventMark {
            schema: schema.ok_or("an operation has no `schema_version`")?,
            sources: word(&self.sources, "sources")?,
            changed: mask(&self.changed, "changed")?,
            present: mask(&self.present, "present")?,
            sequence: (self.sequence, self.kind_sequence),
            version: self.version,
            version_before: self.version_before,
        };
        Ok((operation, mark, why))
    }
}

fn word(digits: &str, field: &str) -> Result<u64, String> {
    u64::from_str_radix(digits, 16).map_err(|_| format!("`{field}` is no hexadecimal of 64 bits: {digits:?}"))
}
