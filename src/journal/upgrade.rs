//! Bringing a store of an older format to the present one, in a new directory.
//!
//! There is one format so far, so there is nothing to bring anywhere: what is here says which format a store
//! has, and is the place at which a later one reads its predecessors.

use std::path::Path;

use serde::Serialize;

use crate::disk::{Access, Directory};
use crate::error::{Error, ErrorKind, Result};
use crate::format::header::{FORMAT_VERSION, FileHeader, FileType, HEADER_BYTES};
use crate::journal::identity::{existing, type_of};
use crate::journal::opening::manifest_of;
use crate::journal::repair::refuse_inside;

const DOING: &str = "upgrade the store";

/// What an upgrade came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Upgrade {
    /// The store has the present format already. Nothing was made.
    Current {
        /// The format.
        format: u16,
    },
}

/// Makes a store of the present format of one that is older. `source` stays as it is.
///
/// Where the store has the present format already, nothing is made, and the answer says so.
///
/// # Errors
///
/// `FormatTooNew` where any file of the log is of a newer format; `InvalidInput` for a target inside the source;
/// `Corrupt` where a file does not say what it is, see [`repair`](crate::repair()); `NotFound`,
/// `NotADirectory`, `NotAStore` and `Io`.
pub fn upgrade(source: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<Upgrade> {
    let (source, target) = (source.as_ref(), target.as_ref());
    let from = existing(source, DOING)?;
    refuse_inside(source, target, DOING)?;
    match oldest_format(&*from)? {
        FORMAT_VERSION => Ok(Upgrade::Current { format: FORMAT_VERSION }),
        older => Err(Error::new(ErrorKind::InvalidInput, DOING)
            .at(source)
            .sides(format!("format {FORMAT_VERSION}, which is the first"), format!("format {older}"))),
    }
}

/// The oldest format of the files that make up the log. The others are derived from them.
fn oldest_format(directory: &dyn Directory) -> Result<u16> {
    let names = directory.list().map_err(|e| Error::io("list the store", e).at(directory.path()))?;
    let in_log = |name: &str| {
        type_of(name).filter(|file_type| matches!(file_type, FileType::Manifest | FileType::Segment))
    };
    if !names.iter().any(|entry| entry.is_file && in_log(&entry.name).is_some()) {
        return Err(Error::new(ErrorKind::NotAStore, DOING)
            .at(directory.path())
            .sides("a manifest or a segment", format!("{} other files", names.len())));
    }
    let store = manifest_of(directory)?.store;
    let mut oldest = FORMAT_VERSION;
    for entry in names.iter().filter(|entry| entry.is_file) {
        let Some(file_type) = in_log(&entry.name) else { continue };
        let path = || directory.path().join(&entry.name);
        let mut bytes = [0; HEADER_BYTES];
        directory
            .open(&entry.name, Access::Read)
            .and_then(|file| file.read_at(&mut bytes, 0))
            .map_err(|e| Error::io("read the header of a file", e).at(path()))?;
        let header = FileHeader::read_of(&bytes, file_type, store).map_err(|error| error.at(path()))?;
        oldest = oldest.min(header.version());
    }
    Ok(oldest)
}

#[cfg(test)]
#[cfg(not(miri))]
mod tests {
    use super::*;
    use crate::journal::Journal;

    #[test]
    fn a_store_of_this_format_needs_no_upgrade_and_what_is_none_has_none() {
        let directory = tempfile::tempdir().unwrap();
        let [store, target] = ["a.esker", "b.esker"].map(|name| directory.path().join(name));
        Journal::open(&store).unwrap().close().unwrap();
        assert_eq!(upgrade(&store, &target).unwrap(), Upgrade::Current { format: FORMAT_VERSION });
        assert!(!target.exists());
        assert_eq!(upgrade(&target, &store).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(upgrade(directory.path(), "x").unwrap_err().kind(), ErrorKind::NotAStore);
        assert_eq!(upgrade(&store, store.join("in")).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_newer_segment_is_found_beside_a_manifest_of_this_format() {
        let directory = tempfile::tempdir().unwrap();
        Journal::open(directory.path()).unwrap().close().unwrap();
        let segment = directory.path().join("0000000001.seg");
        let mut bytes = std::fs::read(&segment).unwrap();
        bytes[10] = 2;
        bytes[124] ^= 1;
        std::fs::write(&segment, bytes).unwrap();
        let error = upgrade(directory.path(), "b.esker").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FormatTooNew, "{error}");
    }
}
