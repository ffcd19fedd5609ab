//! Files, directories and the mapping.
//!
//! [`map`] holds all `unsafe` of the crate. [`Directory`] and [`File`] are the only way to the
//! file system, so that the same engine runs on a real directory ([`posix`]), in memory
//! ([`memory`]), and under the crash simulator, which remembers what was not synced.

pub(crate) mod map;
pub(crate) mod memory;
pub(crate) mod posix;
#[cfg(test)]
pub(crate) mod refusing;
#[cfg(feature = "simulator")]
pub(crate) mod simulator;
pub(crate) mod sorted;
pub(crate) mod unnamed;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use map::{Map, MapWriter, SharedPage};

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) name: String,
    /// False for anything but a plain file: links, pipes, devices, directories.
    pub(crate) is_file: bool,
}

/// A hold on a directory, which ends when it is dropped.
pub(crate) type Hold = Box<dyn fmt::Debug + Send + Sync>;

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// What the file system under a directory can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileSystem {
    pub(crate) name: &'static str,
    /// Locks and mappings are not coherent with other machines.
    pub(crate) network: bool,
    /// An overwrite needs new space: allocation is no promise, so frames are written with `pwrite`.
    pub(crate) copy_on_write: bool,
}

/// A directory that holds one store. Names never contain a separator.
pub(crate) trait Directory: Send + Sync + fmt::Debug {
    fn path(&self) -> &Path;
    fn file_system(&self) -> FileSystem;
    fn free_bytes(&self) -> io::Result<u64>;
    fn list(&self) -> io::Result<Vec<Name>>;
    /// Opens a plain file; a link, pipe or device under that name is an error.
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>>;
    /// Makes a new file, readable and writable by its owner only.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Renames over whatever is there. Durable after [`sync`](Self::sync).
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Gives a file a second name, the same in another directory. `Unsupported` where that cannot be.
    fn link(&self, name: &str, to: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync(&self) -> io::Result<()>;
    /// Holds the directory itself against other writers, until what this answers is dropped;
    /// `None`: somebody holds it. Where a file system cannot, the lock file has to do.
    fn hold(&self) -> io::Result<Option<Hold>>;
    /// Makes the directory's own name durable in its parent.
    fn sync_parent(&self) -> io::Result<()>;
}

/// A file. Offsets and lengths are bytes.
pub(crate) trait File: Send + Sync + fmt::Debug {
    fn len(&self) -> io::Result<u64>;
    /// Fills `buffer` from `offset`, or fails with `UnexpectedEof`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Reads `[offset, offset + buffer.len())` past the page cache; `Unsupported` where that cannot be.
    /// Offset, length and the buffer's address are multiples of [`DIRECT_ALIGN`].
    fn read_uncached(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Tells that it will be read from one end to the other. A hint: the system reads further ahead, and in larger pieces.
    fn will_be_read_in_order(&self) {}
    /// Tells that its beginning will be read soon. A hint: the system begins with it, and how far it goes is its own affair.
    fn will_be_read_soon(&self) {}
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Gives the file `bytes` of real space. `Unsupported` where the file system cannot.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    fn truncate(&self, bytes: u64) -> io::Result<()>;
    /// Frees the space of a range, which then reads as zeros. `Unsupported` where it cannot be.
    fn punch(&self, from: u64, to: u64) -> io::Result<()>;
    /// The start of the first written range at or after `from`; `None` if there is none.
    fn next_data(&self, from: u64) -> io::Result<Option<u64>>;
    /// The start of the first range at or after `from` that was never written, or the file's end.
    fn next_hole(&self, from: u64) -> io::Result<u64>;
    fn sync(&self) -> io::Result<()>;
    /// Maps the file for reading; nothing is readable until the map is told how far.
    fn map(&self, bytes: usize) -> io::Result<Map>;
    /// Maps the file for its one writer, who goes on at `from`.
    fn map_for_writing(
        &self,
        bytes: usize,
        from: usize,
        through: Through,
    ) -> io::Result<(Arc<Map>, MapWriter)>;
    /// Shares the page at the start of the file with other processes.
    fn share_page(&self, access: Access) -> io::Result<SharedPage>;
    /// Takes the exclusive lock, or says that somebody else has it.
    fn try_lock(&self) -> io::Result<bool>;
    fn unlock(&self) -> io::Result<()>;
    /// Device and inode.
    fn identity(&self) -> io::Result<(u64, u64)>;
}

/// What reads past the page cache are aligned to.
pub(crate) const DIRECT_ALIGN: usize = 4096;

/// How frames get into the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Through {
    /// By stores into the mapping.
    Map,
    /// By one `pwrite` a batch.
    Pwrite,
}

/// Reads a whole small file, refusing anything longer than `limit` bytes before allocating.
pub(crate) fn read_whole(file: &dyn File, limit: usize) -> io::Result<Vec<u8>> {
    let length = file.len()?;
    let length = usize::try_from(length).ok().filter(|length| *length <= limit).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{length} bytes where at most {limit} are expected"),
        )
    })?;
    let mut bytes = vec![0; length];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Writes a file under a temporary name, syncs it, and puts it in the place of `name`: after a
/// crash the old content is there or the new, never a part.
pub(crate) fn replace(directory: &dyn Directory, name: &str, content: &[&[u8]]) -> io::Result<()> {
    replace_with(directory, name, |file| {
        let mut offset = 0;
        for part in content {
            file.write_at(part, offset)?;
            offset += part.len() as u64;
        }
        Ok(())
    })
}

/// As [`replace`], for content that is written piece by piece.
pub(crate) fn replace_with(
    directory: &dyn Directory,
    name: &str,
    write: impl FnOnce(&dyn File) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = temporary_name(name);
    match directory.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = directory.create(&temporary)?;
    let written = (|| {
        write(&*file)?;
        file.sync()?;
        directory.rename(&temporary, name)
    })();
    if let Err(error) = written {
        // What was allocated for a file that did not come to be goes back to the disk.
        let _ = directory.remove(&temporary);
        return Err(error);
    }
    directory.sync()
}

/// Names of files that are not yet what they are to be; whoever holds the lock may remove them.
pub(crate) fn temporary_name(name: &str) -> String {
    format!("{name}.tmp")
}
