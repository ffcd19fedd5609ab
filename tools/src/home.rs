//! The place where a store is, for who stays there: whether it is still the same.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use esker::Reader;

/// A directory with a store in it, held open: what is there later under its name has another number.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    directory: File,
    /// Of a store without one that is looked at all the same there is none.
    manifest: Option<File>,
    who: Who,
}

/// What a store is known by.
type Who = (esker::StoreId, u64);

fn who(reader: &Reader) -> Who {
    (reader.store_id(), reader.era())
}

impl Home {
    pub(crate) fn of(reader: &Reader) -> io::Result<Self> {
        let path = reader.path().to_owned();
        let directory = File::open(&path)?;
        let manifest = File::open(manifest(&path)).ok();
        Ok(Self { path, directory, manifest, who: who(reader) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// True if the store is no longer there, or another one is.
    pub(crate) fn is_gone(&mut self) -> bool {
        if !is_same(&self.directory, fs::metadata(&self.path)) {
            return true;
        }
        let Some(known) = &self.manifest else { return false };
        let now = manifest(&self.path);
        if is_same(known, fs::metadata(&now)) {
            return false;
        }
        // A writer makes it anew; another store's says who that is.
        let (Ok(file), Ok(reader)) = (File::open(&now), Reader::open(&self.path)) else { return true };
        self.manifest = Some(file);
        who(&reader) != self.who
    }
}

fn manifest(path: &Path) -> PathBuf {
    path.join("MANIFEST")
}

fn is_same(known: &File, now: io::Result<Metadata>) -> bool {
    let (Ok(known), Ok(now)) = (known.metadata(), now) else { return false };
    (known.dev(), known.ino()) == (now.dev(), now.ino())
}
