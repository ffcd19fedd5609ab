//! What a fold over a topic answers, and how it is asked to work.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::backplane::Offset;
use crate::error::{Error, ErrorKind};
use crate::meter::FoldCounts;

/// How a fold over a topic works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct FoldOptions {
    pub(super) images_every: u32,
    pub(super) verify: Verify,
}

impl Default for FoldOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl FoldOptions {
    /// An image every 64 folds, and no verification.
    #[must_use]
    pub const fn new() -> Self {
        Self { images_every: 64, verify: Verify::Nothing }
    }

    /// Saves an image when so many records were folded since the last one, and as many bytes as that has; while there is more to
    /// fold at once, when 65,536 were. 0: never. One that is behind first folds everything that was there when it began.
    #[must_use]
    pub const fn images_every(mut self, folds: u32) -> Self {
        self.images_every = folds;
        self
    }

    /// Whether to fold twice, and compare.
    #[must_use]
    pub const fn verify(mut self, verify: Verify) -> Self {
        self.verify = verify;
        self
    }
}

/// When the values of a fold are compared with second ones, which each record is folded into beside them.
///
/// They differ if the fold is no pure function. It halts then, for good: a mark in the stream of images says so to every
/// process, until the fold has another [`VERSION`](crate::Fold::VERSION). Till then the topic drops no records, also where nobody folds by
/// it any more: on a journal until a newer version is [taken up](crate::TopicHandle::fold), on another backplane for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Verify {
    /// There are no second ones.
    #[default]
    Nothing,
    /// Before an image is saved.
    Images,
    /// Behind each record.
    Each,
}

/// What a fold over a topic has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Folded<S> {
    /// The value.
    pub value: S,
    /// Every record up to here is in it.
    pub offset: Offset,
    /// Whether there is more.
    pub status: FoldStatus,
}

/// How a value stands to its topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FoldStatus {
    /// Everything that had come is in it, also what was acknowledged to whoever asks: the backplane was asked.
    Live,
    /// There is more, or could be: it is being folded, or the backplane cannot be reached.
    Lagging,
    /// Nothing more will be in it.
    Halted(Halt),
}

/// Why a fold over a topic does not go on. It takes no record that could make its value another than that of all records in
/// their order. Whoever takes it up anew tries again, from the last image; handles of the one that has halted keep to it. Where
/// records were dropped that it would need (`Unbridgeable`, `EraChanged`), or are missing (`Gap`),
/// [`TopicHandle::begin_anew`](crate::TopicHandle::begin_anew) takes them for lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Halt {
    /// What kind of reason it is.
    pub why: HaltReason,
    /// Behind which record it stands.
    pub offset: Offset,
    text: Arc<str>,
}

/// Kinds of reasons why a fold over a topic does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HaltReason {
    /// A record is missing, and no image bridges that.
    Gap,
    /// Records were dropped that it would need, and there is no image that can be used.
    Unbridgeable,
    /// What offsets mean has changed, and records were dropped that it would need.
    EraChanged,
    /// A later build wrote the record: with a higher version, or a variant that this one does not know. A type with a variant
    /// that is `#[serde(other)]` takes what it does not know for that.
    ForwardIncompatible,
    /// The record is a value of another type.
    Schema,
    /// The record is no value that any build can have written.
    Undecodable,
    /// The fold panicked: again at the same place when it was begun with the last image, or again and again at others.
    Panicked,
    /// Folded twice it came to two values: see [`Verify`].
    Diverged,
    /// A record cannot be read: it is damaged.
    Damaged,
    /// The backplane takes no such stream or key, or does not let it be read.
    Refused,
    /// The backplane was closed, or has failed for good: it is poisoned, or this process a fork of the one that has it.
    Closed,
}

impl HaltReason {
    /// In one word, for a label.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Unbridgeable => "unbridgeable",
            Self::EraChanged => "era_changed",
            Self::ForwardIncompatible => "forward_incompatible",
            Self::Schema => "schema",
            Self::Undecodable => "undecodable",
            Self::Panicked => "panicked",
            Self::Diverged => "diverged",
            Self::Damaged => "damaged",
            Self::Refused => "refused",
            Self::Closed => "closed",
        }
    }

    /// What it counts as.
    pub(super) fn counts(self) -> FoldCounts {
        let is = |any: &[Self]| u64::from(any.contains(&self));
        FoldCounts {
            halts: 1,
            divergences: is(&[Self::Diverged]),
            gap_halts: is(&[Self::Gap, Self::Unbridgeable]),
            undecodable: is(&[Self::Undecodable, Self::Schema]),
            forward_incompatible: is(&[Self::ForwardIncompatible]),
            unbridgeable: is(&[Self::Unbridgeable]),
            ..FoldCounts::default()
        }
    }
}

impl FoldStats {
    /// What was done since `before`, in what all folds count.
    pub(super) fn counts_since(&self, before: &Self) -> FoldCounts {
        FoldCounts {
            folded: self.folded - before.folded,
            reseeds: self.reseeds - before.reseeds,
            era_resets: self.era_resets - before.era_resets,
            images_written: self.images_written - before.images_written,
            image_bytes: self.image_bytes - before.image_bytes,
            images_failed: self.images_failed - before.images_failed,
            reconnects: self.reconnects - before.reconnects,
            ..FoldCounts::default()
        }
    }
}

impl Halt {
    pub(super) fn new(why: HaltReason, offset: Offset, text: impl Into<Arc<str>>) -> Self {
        Self { why, offset, text: text.into() }
    }

    pub(super) fn as_error(&self, fold: &str) -> Error {
        let kind = match self.why {
            HaltReason::Closed => ErrorKind::Closed,
            _ => ErrorKind::Halted,
        };
        let error = Error::new(kind, format!("read the fold {fold:?}")).because(self.to_string());
        // No record has the offset 0.
        if self.offset == Offset::BEGINNING { error } else { error.concerning(self.offset.raw()) }
    }
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            HaltReason::Gap => "a record is missing",
            HaltReason::Unbridgeable => "records were dropped, and no image bridges that",
            HaltReason::EraChanged => "the era of the backplane has changed",
            HaltReason::ForwardIncompatible => "a later build wrote the record",
            HaltReason::Schema => "the record is of another type",
            HaltReason::Undecodable => "the record is no value",
            HaltReason::Panicked => "the fold panicked",
            HaltReason::Diverged => "the fold came to two values",
            HaltReason::Damaged => "the record is damaged",
            HaltReason::Refused => "the backplane refuses",
            HaltReason::Closed => "the backplane is closed, or has failed for good",
        };
        write!(f, "{why}, behind offset {}: {}", self.offset, self.text)?;
        match self.why {
            HaltReason::Unbridgeable | HaltReason::EraChanged => {
                f.write_str("; `TopicHandle::begin_anew` takes what was dropped for lost")
            }
            HaltReason::Gap => f.write_str("; `TopicHandle::begin_anew` takes what is missing for lost"),
            _ => Ok(()),
        }
    }
}

/// What a fold over a topic has done since somebody took it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FoldStats {
    /// Records that it took in.
    pub folded: u64,
    /// Records that were appended again, and left out.
    pub repeated: u64,
    /// Images that it began with, or was brought over something missing by.
    pub images_used: u64,
    /// Images that it saved.
    pub images_written: u64,
    /// Bytes of values in them.
    pub image_bytes: u64,
    /// Images that could not be saved.
    pub images_failed: u64,
    /// Images that could not be used: cut, damaged, or of a value that is no value of this type.
    pub images_bad: u64,
    /// Times that it began at the beginning though there were images.
    pub refolded: u64,
    /// Times that a record was missing.
    pub gaps: u64,
    /// Times that an image brought it over records that were missing.
    pub reseeds: u64,
    /// Times that what offsets mean had changed.
    pub era_resets: u64,
    /// Times that it subscribed anew, from where it stood.
    pub reconnects: u64,
    /// Times that records were taken for lost that had been dropped or were missing, and the value begun without them
    /// ([`TopicHandle::begin_anew`](crate::TopicHandle::begin_anew)): of this value, also before somebody took it up.
    pub begun_anew: u64,
    /// Calls of the backplane that failed, and were repeated.
    pub retries: u64,
}
