//! Whose files these are: for those who look at a store that may be damaged.
//!
//! Every file names its store. Where the manifest is lost, damaged, or another store's, the
//! other files say together which store this is.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::disk::posix::PosixDirectory;
use crate::disk::{Access, Directory, Name};
use crate::error::{Error, ErrorKind, Result, is_passing};
use crate::format::compacted::Compacted;
use crate::format::header::{FileHeader, FileType, HEADER_BYTES};
use crate::format::manifest::{self, Manifest};
use crate::format::{directory as entities_format, index as index_format, lock as lock_format, segment};
use crate::id::{PART, StoreId};
use crate::journal::opening::manifest_of;
use crate::log::part::open_part_file;

/// Opens a directory that is there.
pub(crate) fn existing(path: &Path, doing: &'static str) -> Result<Arc<dyn Directory>> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_dir() => return Err(Error::new(ErrorKind::NotADirectory, doing).at(path)),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::new(ErrorKind::NotFound, doing).at(path));
        }
        Err(error) => return Err(Error::io(doing, error).at(path)),
    }
    Ok(Arc::new(PosixDirectory::open(path).map_err(|e| Error::io(doing, e).at(path))?))
}

/// Which store a directory holds.
pub(crate) struct Identity {
    pub(crate) store: StoreId,
    /// The manifest, or why it does not count.
    pub(crate) manifest: Result<Manifest>,
    /// What compaction has made of it: as the manifest says, or as the parts say that are there.
    pub(crate) compacted: Compacted,
}

impl Identity {
    fn of(
        directory: &dyn Directory,
        names: &[Name],
        store: StoreId,
        manifest: Result<Manifest>,
    ) -> Result<Self> {
        let compacted = match &manifest {
            Ok(manifest) => manifest.compacted.clone(),
            Err(_) => compacted_of_parts(directory, names, store)?,
        };
        Ok(Self { store, manifest, compacted })
    }
}

/// What the parts say that are there, newest first. One whose first segment is still there counts for
/// nothing: segments are removed oldest first, and only when a part has come in their place.
fn compacted_of_parts(directory: &dyn Directory, names: &[Name], store: StoreId) -> Result<Compacted> {
    let mut parts: Vec<u32> = names.iter().filter_map(|name| segment::part_number_of(&name.name)).collect();
    parts.sort_unstable_by(|one, other| other.cmp(one));
    let mut compacted =
        Compacted { parts_numbered: parts.first().map_or(0, |n| n & !PART), ..Compacted::default() };
    let is_there = |number| names.iter().any(|name| name.name == segment::file_name(number));
    for number in parts {
        let cover = match open_part_file(directory, store, number) {
            Ok((_, cover, _)) => cover,
            Err(error) if error.is_passing() => return Err(error),
            Err(_) => continue,
        };
        let covers = &compacted.covers;
        let is_free = covers.iter().all(|other| other.last < cover.first || cover.last < other.first);
        if is_free && !is_there(cover.first) {
            compacted.replace(cover);
        }
    }
    Ok(compacted)
}

/// What a file of a store is, by its name.
pub(crate) fn type_of(name: &str) -> Option<FileType> {
    match name {
        manifest::FILE_NAME => Some(FileType::Manifest),
        lock_format::FILE_NAME => Some(FileType::Lock),
        entities_format::FILE_NAME => Some(FileType::Directory),
        _ if segment::number_of(name).is_some() => Some(FileType::Segment),
        _ if segment::part_number_of(name).is_some() => Some(FileType::Part),
        _ if index_format::number_of(name).is_some() => Some(FileType::Index),
        _ if index_format::part_number_of(name).is_some() => Some(FileType::Index),
        _ => None,
    }
}

/// Finds out which store these files are.
///
/// # Errors
///
/// `NotAStore` where neither a manifest nor a segment is there, `FormatTooNew`, and what is
/// wrong with the manifest where no other file names a store.
pub(crate) fn identify(directory: &dyn Directory, names: &[Name]) -> Result<Identity> {
    let is_store = |entry: &Name| {
        entry.is_file && matches!(type_of(&entry.name), Some(FileType::Manifest | FileType::Segment))
    };
    if !names.iter().any(is_store) {
        return Err(Error::new(ErrorKind::NotAStore, "look at the store")
            .at(directory.path())
            .sides("a manifest or a segment", format!("{} other files", names.len())));
    }
    let manifest = manifest_of(directory);
    if let Err(error) = &manifest
        && (error.kind() == ErrorKind::FormatTooNew || error.is_passing())
    {
        return manifest.and_then(|manifest| Identity::of(directory, names, manifest.store, Ok(manifest)));
    }
    let mut votes: HashMap<StoreId, usize> = HashMap::new();
    for entry in names.iter().filter(|entry| entry.is_file) {
        if let Some(store) = store_in(directory, &entry.name)? {
            *votes.entry(store).or_default() += 1;
        }
    }
    let most = votes.iter().max_by_key(|(store, votes)| (**votes, **store)).map(|(store, _)| *store);
    match (manifest, most) {
        (Ok(manifest), Some(most)) => {
            let count = |store| votes.get(&store).copied().unwrap_or(0);
            if count(manifest.store) >= count(most) {
                return Identity::of(directory, names, manifest.store, Ok(manifest));
            }
            let foreign = Error::corrupt("compare the manifest with the files beside it")
                .at(directory.path().join(manifest::FILE_NAME))
                .sides(format!("store {most}"), format!("store {}", manifest.store));
            Identity::of(directory, names, most, Err(foreign))
        }
        (Ok(manifest), None) => Identity::of(directory, names, manifest.store, Ok(manifest)),
        (Err(error), Some(most)) => Identity::of(directory, names, most, Err(error)),
        (Err(error), None) => Err(error),
    }
}

/// Which store a file names; `None`: none. A file that cannot be opened just now has a voice all the same.
fn store_in(directory: &dyn Directory, name: &str) -> Result<Option<StoreId>> {
    let Some(file_type) = type_of(name) else { return Ok(None) };
    let mut bytes = [0; HEADER_BYTES];
    let read = directory.open(name, Access::Read).and_then(|file| file.read_at(&mut bytes, 0));
    match read {
        Err(error) if is_passing(&error) => {
            Err(Error::io("look whose a file is", error).at(directory.path().join(name)))
        }
        Err(_) => Ok(None),
        Ok(()) => Ok(FileHeader::read(&bytes, file_type).ok().map(|header| header.store())),
    }
}
