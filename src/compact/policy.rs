//! How far compaction goes, how fast, and how often.

use std::time::Duration;

/// How far to compact, and how fast.
///
/// What is kept of what lies below is a matter of each kind: see [`Journal::keep`](crate::Journal::keep).
///
/// ```
/// use std::time::Duration;
/// use esker::{CompactOptions, Journal, Keep, Record};
/// # fn main() -> esker::Result<()> {
/// let journal = Journal::in_memory()?;
/// let reading = journal.kind("reading")?;
/// journal.keep(reading, Keep::Latest)?;
/// journal.append(Record::new(reading, b"sensor-7", b"20.5"))?;
/// // Of what is older than a day, the newest reading of each sensor.
/// let done = journal.compact(&CompactOptions::new().keep_for(Duration::from_secs(86_400)))?;
/// assert_eq!(done.entries_dropped, 0);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "options do nothing until `compact`"]
pub struct CompactOptions {
    pub(crate) keep_for: Duration,
    pub(crate) keep_bytes: u64,
    pub(crate) keep_entries: u64,
    pub(crate) keep_tombstones_for: Duration,
    pub(crate) bytes_per_second: Option<u64>,
    pub(crate) thorough: bool,
}

impl Default for CompactOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl CompactOptions {
    /// Everything but the segment that is being written, as fast as it goes.
    pub const fn new() -> Self {
        Self {
            keep_for: Duration::ZERO,
            keep_bytes: 0,
            keep_entries: 0,
            keep_tombstones_for: Duration::from_secs(300),
            bytes_per_second: None,
            thorough: false,
        }
    }

    /// Leaves alone what was appended within this time, by the clock that entries carry. Default: nothing.
    pub const fn keep_for(mut self, age: Duration) -> Self {
        self.keep_for = age;
        self
    }

    /// Leaves alone the newest so many bytes of log. Default: none.
    pub const fn keep_bytes(mut self, bytes: u64) -> Self {
        self.keep_bytes = bytes;
        self
    }

    /// Leaves alone the newest so many entries. Default: none.
    pub const fn keep_entries(mut self, entries: u64) -> Self {
        self.keep_entries = entries;
        self
    }

    /// Keeps a tombstone for so long, by the wall clock: one that was written while that was ahead is kept until it is so late
    /// again. Default: 5 minutes.
    pub const fn keep_tombstones_for(mut self, age: Duration) -> Self {
        self.keep_tombstones_for = age;
        self
    }

    /// Copies at most so many bytes a second. Default: no limit.
    pub const fn bytes_per_second(mut self, bytes: u64) -> Self {
        self.bytes_per_second = Some(if bytes == 0 { 1 } else { bytes });
        self
    }

    /// Frees whatever can be freed, however much has to be copied for it. Default: false, so that no more
    /// is copied than was appended once and is freed.
    pub const fn thorough(mut self, yes: bool) -> Self {
        self.thorough = yes;
        self
    }
}

/// Compaction in the background: see [`Options::auto_compact`](crate::Options::auto_compact).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "does nothing until a store is opened with it"]
pub struct AutoCompact {
    pub(crate) interval: Duration,
    pub(crate) min_garbage: u64,
    pub(crate) options: CompactOptions,
}

impl AutoCompact {
    /// Looks this often, and compacts when 16 MiB would be freed.
    pub const fn every(interval: Duration) -> Self {
        Self { interval, min_garbage: 16 << 20, options: CompactOptions::new() }
    }

    /// Compacts only when at least so many bytes would be freed. Default: 16 MiB.
    pub const fn min_garbage(mut self, bytes: u64) -> Self {
        self.min_garbage = bytes;
        self
    }

    /// How far, and how fast. Default: [`CompactOptions::new`].
    pub const fn with(mut self, options: CompactOptions) -> Self {
        self.options = options;
        self
    }
}
