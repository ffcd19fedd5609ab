//! Operation frames: what a source said, one frame each, in the order in which it was said.
//!
//! They stand in a kind of their own beside the rows of a kind with events, before the rows that their window came
//! to. The payload of an assertion and of a patch is the whole row as it was behind the operation; which fields a
//! patch named a mask says. That of a retraction is empty.

use crate::format::extension::{Extensions, Id, find};
use crate::id::SEQ_MAX;

/// What a source said: the operation byte of an operation frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum EventOperation {
    /// This is the whole of the entity.
    Assert = 6,
    /// These are some of its fields.
    Patch = 7,
    /// As far as this source knows it is not there.
    Retract = 8,
}

impl EventOperation {
    /// That of an operation byte; `None`: it is none of an operation frame.
    #[must_use]
    pub const fn of(operation: u8) -> Option<Self> {
        Some(match operation {
            6 => Self::Assert,
            7 => Self::Patch,
            8 => Self::Retract,
            _ => return None,
        })
    }

    /// In one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Assert => "assert",
            Self::Patch => "patch",
            Self::Retract => "retract",
        }
    }
}

/// What an operation frame says beside its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventMark {
    /// The version of the kind's schema.
    pub schema: u16,
    /// Who asserts the entity behind the operation: one bit a source.
    pub sources: u64,
    /// Which fields differ from the row before the operation: one bit a field, in the registry's order. `None`: there
    /// was no row before, or there is none that is asserted.
    pub changed: Option<u64>,
    /// Which fields a patch named. `None`: all, or none of a retraction.
    pub present: Option<u64>,
    /// The number of the event among those of the store, and among those of its kind; of an operation that is no event,
    /// those of the last one before it.
    pub sequence: (u64, u64),
    /// The version of the entity behind the window of the operation.
    pub version: u64,
    /// The version before the window, if that is another one; 0: the entity was not there.
    pub version_before: Option<u64>,
}

/// The bytes that the extensions of an operation frame take at most.
pub(crate) const OPERATION_EXTENSION_BYTES_MAX: usize = 80;
const _: () = assert!((2 + 2) + 5 * (2 + 8) + (2 + 16) <= OPERATION_EXTENSION_BYTES_MAX);

impl EventMark {
    pub(crate) fn extensions(&self) -> Extensions {
        let mut row = Extensions::default();
        self.write(&mut row);
        row
    }

    /// Behind what a row of extensions has.
    pub(crate) fn write(&self, row: &mut Extensions) {
        let (sequence, kind_sequence) = self.sequence;
        let mut sequences = [0; 16];
        let numbers = sequence.to_le_bytes().into_iter().chain(kind_sequence.to_le_bytes());
        sequences.iter_mut().zip(numbers).for_each(|(to, from)| *to = from);
        row.push(Id::SchemaVersion, &self.schema.to_le_bytes());
        row.push(Id::SourceSet, &self.sources.to_le_bytes());
        row.push(Id::EventSequence, &sequences);
        row.push(Id::Version, &self.version.to_le_bytes());
        let optional = [
            (Id::ChangedMask, self.changed),
            (Id::PresenceMask, self.present),
            (Id::VersionBefore, self.version_before),
        ];
        for (id, word) in optional {
            if let Some(word) = word {
                row.push(id, &word.to_le_bytes());
            }
        }
    }

    /// What a frame's row of extensions says; `None`: it is none of an operation frame.
    pub(crate) fn read(row: &[u8]) -> Option<Self> {
        let word = |id| find(row, id)?.try_into().ok().map(u64::from_le_bytes);
        let (sequence, kind_sequence) = find(row, Id::EventSequence)?.split_at_checked(8)?;
        let number = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_le_bytes);
        let sequence = (number(sequence)?, number(kind_sequence)?);
        // There is an entry for each event.
        (sequence.0.max(sequence.1) <= SEQ_MAX).then_some(())?;
        Some(Self {
            schema: find(row, Id::SchemaVersion)?.try_into().ok().map(u16::from_le_bytes)?,
            sources: word(Id::SourceSet)?,
            changed: word(Id::ChangedMask),
            present: word(Id::PresenceMask),
            sequence,
            version: word(Id::Version)?,
            version_before: word(Id::VersionBefore),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_gives_back_what_was_written_and_a_row_without_one_is_none() {
        let mark = EventMark {
            schema: 2,
            sources: 1 << 63 | 1,
            changed: Some(0b101),
            present: Some(u64::MAX),
            sequence: (SEQ_MAX, 7),
            version: 9,
            version_before: Some(8),
        };
        let extensions = mark.extensions();
        assert!(extensions.as_bytes().len() <= OPERATION_EXTENSION_BYTES_MAX);
        assert_eq!(EventMark::read(extensions.as_bytes()), Some(mark));
        let bare = EventMark { changed: None, present: None, version_before: None, ..mark };
        assert_eq!(EventMark::read(bare.extensions().as_bytes()), Some(bare));
        let beyond = EventMark { sequence: (SEQ_MAX + 1, 7), ..bare };
        assert_eq!(EventMark::read(beyond.extensions().as_bytes()), None);
        assert_eq!(EventMark::read(&[]), None);
        assert_eq!(EventMark::read(&[8, 2, 1, 1, 0, 0, 0, 0]), None);
    }

    #[test]
    fn an_operation_is_read_as_it_was_written() {
        for operation in [EventOperation::Assert, EventOperation::Patch, EventOperation::Retract] {
            assert_eq!(EventOperation::of(operation as u8), Some(operation));
        }
        assert!([0, 1, 5, 9].iter().all(|other| EventOperation::of(*other).is_none()));
    }
}
