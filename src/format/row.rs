//! Row frames: what a frame of the state layer says beside its payload.
//!
//! A row frame is written for an entity whose row, or whose set of sources, a flush has changed. Its
//! payload is the whole row, empty where the entity was deleted. The newest row frame of an entity is
//! all there is to know of it now.

use crate::format::extension::{Extensions, Id, find};

/// What became of an entity: the operation byte of a row frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum RowOperation {
    /// It was not there before.
    Created = 2,
    /// Its row is another one.
    Updated = 3,
    /// Nobody asserts it any more: the frame is a tombstone.
    Deleted = 4,
    /// Only who asserts it has changed; the payload is the row as it was.
    Sources = 5,
}

impl RowOperation {
    /// That of an operation byte; `None`: it is none of a row frame.
    #[must_use]
    pub const fn of(operation: u8) -> Option<Self> {
        Some(match operation {
            2 => Self::Created,
            3 => Self::Updated,
            4 => Self::Deleted,
            5 => Self::Sources,
            _ => return None,
        })
    }

    /// In one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
            Self::Sources => "sources",
        }
    }
}

/// What a row frame says beside its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowMark {
    /// The version of the kind's schema.
    pub schema: u16,
    /// Who asserts the entity now: one bit a source.
    pub sources: u64,
    /// Which fields differ from the row before: one bit a field, in the registry's order. All of them
    /// where there was none.
    pub changed: u64,
    /// The entity's version, where that is not the frame's generation: each frame that changed only the
    /// set of sources took a generation and no version.
    pub version: Option<u64>,
}

/// The bytes that the extensions of a row frame take at most.
pub(crate) const ROW_EXTENSION_BYTES_MAX: usize = 40;
const _: () = assert!((2 + 2) + 3 * (2 + 8) <= ROW_EXTENSION_BYTES_MAX);

impl RowMark {
    pub(crate) fn extensions(&self) -> Extensions {
        let mut row = Extensions::default();
        self.write(&mut row);
        row
    }

    /// Behind what a row of extensions has.
    pub(crate) fn write(&self, row: &mut Extensions) {
        row.push(Id::SchemaVersion, &self.schema.to_le_bytes());
        row.push(Id::SourceSet, &self.sources.to_le_bytes());
        row.push(Id::ChangedMask, &self.changed.to_le_bytes());
        if let Some(version) = self.version {
            row.push(Id::Version, &version.to_le_bytes());
        }
    }

    /// What a frame's row of extensions says; `None`: it is none of a row frame.
    pub(crate) fn read(row: &[u8]) -> Option<Self> {
        let word = |id| find(row, id)?.try_into().ok().map(u64::from_le_bytes);
        Some(Self {
            schema: find(row, Id::SchemaVersion)?.try_into().ok().map(u16::from_le_bytes)?,
            sources: word(Id::SourceSet)?,
            changed: word(Id::ChangedMask)?,
            version: word(Id::Version),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_gives_back_what_was_written_and_a_row_without_one_is_none() {
        let mark = RowMark { schema: 2, sources: 1 << 63 | 1, changed: 0b101, version: None };
        assert_eq!(RowMark::read(mark.extensions().as_bytes()), Some(mark));
        let mark = RowMark { version: Some(7), ..mark };
        let extensions = mark.extensions();
        assert!(extensions.as_bytes().len() <= ROW_EXTENSION_BYTES_MAX);
        assert_eq!(RowMark::read(extensions.as_bytes()), Some(mark));
        assert_eq!(RowMark::read(&[]), None);
        assert_eq!(RowMark::read(&[5, 2, 1, 1, 0, 0, 0, 0]), None);
    }

    #[test]
    fn an_operation_is_read_as_it_was_written() {
        for operation in
            [RowOperation::Created, RowOperation::Updated, RowOperation::Deleted, RowOperation::Sources]
        {
            assert_eq!(RowOperation::of(operation as u8), Some(operation));
        }
        assert!([0, 1, 6].iter().all(|other| RowOperation::of(*other).is_none()));
    }
}
