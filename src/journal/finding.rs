//! What a verification says: what was looked at, and what is wrong with it.

use std::fmt;
use std::ops::RangeInclusive;

use serde::Serialize;

use crate::error::{Error, seqs_text};
use crate::format::lock::Holder;

/// How much to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Check {
    /// Headers, the manifest, the checksums of the derived files, and the end of the log.
    Quick,
    /// Every frame, and whether the derived files say what the log says. Takes memory for the entries of one segment, for a
    /// whole part of what was compacted, and for a whole segment where there is something wrong with one. What is known of
    /// more entities than some two hundred thousand goes into a file without a name in `TMPDIR`, or `/var/tmp`: 56 bytes
    /// each time that one of them comes again after as many others. Where no such file can be made, or its disk is full,
    /// that takes memory. Of an entity that was put there, and whose former entry was compacted, it is not noticed where an
    /// index says that there is no former entry.
    Full,
}

/// What a verification comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Verdict {
    /// Everything that was looked at is as it was written.
    Valid,
    /// Something is not.
    Invalid,
    /// Nothing wrong was found, and not everything could be read. Never a pass.
    Incomplete,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Incomplete => "incomplete",
        })
    }
}

/// What a finding means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Severity {
    /// The log, or the manifest: `repair` saves the rest into a new directory.
    Damage,
    /// A file that is derived from the log, or a hint: nothing is lost, and removing it while
    /// nobody has the store open makes it be built again.
    Derived,
    /// It could not be read, so nothing is known about it.
    Unread,
    /// Worth knowing, and nothing wrong.
    Note,
}

/// One thing that a verification found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// What it means.
    pub severity: Severity,
    /// The file's name in the directory.
    pub file: String,
    /// The segment concerned.
    pub segment: Option<u32>,
    /// Where in the file, in bytes.
    pub offset: Option<u64>,
    /// The numbers of the entries that are lost.
    pub lost: Option<RangeInclusive<u64>>,
    /// How many of those numbers were entries, where compaction had dropped the rest; `None`: all of them.
    pub lost_entries: Option<u64>,
    /// What is wrong.
    pub what: String,
    /// What should be there.
    pub expected: Option<String>,
    /// What is there.
    pub found: Option<String>,
    /// Where the next good frame begins in the same file.
    pub next_good: Option<u64>,
}

impl Finding {
    pub(crate) fn new(severity: Severity, file: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            severity,
            file: file.into(),
            segment: None,
            offset: None,
            lost: None,
            lost_entries: None,
            what: what.into(),
            expected: None,
            found: None,
            next_good: None,
        }
    }

    pub(crate) fn of_error(severity: Severity, file: impl Into<String>, error: &Error) -> Self {
        // What is not there is not there for whoever looks.
        let is_certain = error.is_corruption() || error.is_not_found() || severity == Severity::Note;
        let severity = if is_certain { severity } else { Severity::Unread };
        let what = if error.is_corruption() { error.attempted().to_owned() } else { error.facts() };
        let finding = Self::new(severity, file, what).at(error.offset().unwrap_or(0));
        Self {
            segment: error.segment(),
            expected: error.expected().map(str::to_owned),
            found: error.actual().map(str::to_owned),
            ..finding
        }
    }

    pub(crate) fn at(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }

    pub(crate) fn sides(mut self, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        self.expected = Some(expected.to_string());
        self.found = Some(found.to_string());
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(offset) = self.offset {
            write!(f, ", offset {offset}")?;
        }
        write!(f, ": {}", self.what)?;
        if let (Some(expected), Some(found)) = (&self.expected, &self.found) {
            write!(f, ": expected {expected}, found {found}")?;
        }
        if let Some(lost) = &self.lost {
            match self.lost_entries {
                None => write!(f, "; seq {} lost", seqs_text(lost))?,
                Some(entries) => {
                    let seqs = seqs_text(lost);
                    write!(f, "; {entries} of seq {seqs} lost, and compaction had dropped the rest")?;
                }
            }
        }
        match self.next_good {
            Some(next) => write!(f, "; next good frame at {next}"),
            None => Ok(()),
        }
    }
}

/// What a verification found and counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Verification {
    /// What it comes to.
    pub verdict: Verdict,
    /// What was found, in the order of the log.
    pub findings: Vec<Finding>,
    /// The identity of the store.
    pub store: String,
    /// The process that has the store open for writing.
    pub live: Option<Holder>,
    /// The last life ended with `close`.
    pub clean: bool,
    /// Segments of the log.
    pub segments: u64,
    /// Frames that were read and are good, the system's own included.
    pub frames: u64,
    /// Entries among them.
    pub entries: u64,
    /// Whole batches; a single append is one.
    pub batches: u64,
    /// Bytes of good frames.
    pub bytes: u64,
    /// Entities that these entries belong to.
    pub entities: u64,
    /// Kinds that they register.
    pub kinds: u64,
    /// Entries that are lost, as far as their numbers tell; of a part as many as the manifest says it had.
    pub lost: u64,
    /// The first entry that was read.
    pub first_seq: Option<u64>,
    /// The last entry of the log.
    pub last_seq: u64,
}
