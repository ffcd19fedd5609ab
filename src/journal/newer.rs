//! Files of a newer format beside a manifest of this one.
//!
//! The manifest and the segments are read at every opening, and say so themselves. The others are made anew
//! where they are in doubt; one that a newer build wrote is in no doubt, and must not be written over.

use crate::disk::{Access, Directory};
use crate::error::{Error, Result};
use crate::format::header::{FileHeader, HEADER_BYTES};
use crate::format::{directory as entities, index, lock};
use crate::journal::identity::type_of;

/// Looks at the lock page, the directory of entities and the newest index: what an opening costs does not
/// grow with the log, and a newer build that sealed anything has sealed that one.
///
/// # Errors
///
/// `FormatTooNew`, and `Io` where the directory cannot be listed.
pub(crate) fn refuse_newer_beside(directory: &dyn Directory) -> Result<()> {
    let names = directory.list().map_err(|e| Error::io("list the store", e).at(directory.path()))?;
    let newest = names.iter().filter_map(|entry| index::number_of(&entry.name)).max();
    let indexed = newest.map(index::file_name);
    for name in [lock::FILE_NAME, entities::FILE_NAME].into_iter().chain(indexed.as_deref()) {
        let mut bytes = [0; HEADER_BYTES];
        let read = directory.open(name, Access::Read).and_then(|file| file.read_at(&mut bytes, 0));
        // One that is not there, or cannot be read, says nothing.
        if let (Ok(()), Some(file_type)) = (read, type_of(name)) {
            FileHeader::refuse_newer(&bytes, file_type)
                .map_err(|error| error.at(directory.path().join(name)))?;
        }
    }
    Ok(())
}
