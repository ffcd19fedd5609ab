//! For tests: a directory of which the device refuses some bytes, or the system a file for now.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::io::Errno;

use crate::disk::map::{Map, MapWriter, SharedPage};
use crate::disk::{Access, Directory, File, FileSystem, Hold, Name, Through};

/// Files of another directory; these bytes of the one with this name cannot be read, from the cache or past it.
#[derive(Debug)]
pub(crate) struct Refusing {
    pub(crate) files: Arc<dyn Directory>,
    pub(crate) name: String,
    pub(crate) refused: Vec<Range<u64>>,
    /// Nothing can be read past the cache.
    pub(crate) has_only_a_cache: bool,
    /// What the device refuses is in the cache.
    pub(crate) is_cached: bool,
    /// A name in the directory that is of no file.
    pub(crate) odd: Option<String>,
    /// How often something was refused.
    pub(crate) refusals: Arc<AtomicU64>,
    /// Behind so many openings of files whose name ends so, one fails with this error.
    pub(crate) not_now: Arc<Mutex<Option<(usize, String, Errno)>>>,
    /// And so does each one behind it.
    pub(crate) stays: AtomicBool,
    /// So many bytes were read through the cache.
    pub(crate) read: Arc<AtomicU64>,
    /// How often a file was opened.
    pub(crate) opens: AtomicU64,
}

impl Refusing {
    pub(crate) fn of(files: impl Directory + 'static, name: String, refused: Vec<Range<u64>>) -> Self {
        let (has_only_a_cache, is_cached, odd, refusals) = (false, false, None, Arc::default());
        let (files, not_now, opens) = (Arc::new(files), Arc::default(), AtomicU64::new(0));
        Self {
            files,
            name,
            refused,
            has_only_a_cache,
            is_cached,
            odd,
            refusals,
            read: Arc::default(),
            not_now,
            stays: AtomicBool::new(false),
            opens,
        }
    }
}

#[derive(Debug)]
struct RefusingFile {
    file: Arc<dyn File>,
    refused: Vec<Range<u64>>,
    has_only_a_cache: bool,
    is_cached: bool,
    refusals: Arc<AtomicU64>,
    read: Arc<AtomicU64>,
}

impl Directory for Refusing {
    fn path(&self) -> &Path {
        self.files.path()
    }
    fn file_system(&self) -> FileSystem {
        self.files.file_system()
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.files.free_bytes()
    }
    fn list(&self) -> io::Result<Vec<Name>> {
        let odd = self.odd.iter().map(|name| Name { name: name.clone(), is_file: false });
        Ok(self.files.list()?.into_iter().chain(odd).collect())
    }
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        self.opens.fetch_add(1, Ordering::Relaxed);
        let mut not_now = self.not_now.lock();
        match &mut *not_now {
            Some((0, suffix, errno)) if name.ends_with(&**suffix) => {
                let error = io::Error::from_raw_os_error(errno.raw_os_error());
                if !self.stays.load(Ordering::Relaxed) {
                    *not_now = None;
                }
                return Err(error);
            }
            Some((more, suffix, _)) if name.ends_with(&**suffix) => *more -= 1,
            _ => {}
        }
        let refused = if name == self.name { self.refused.clone() } else { Vec::new() };
        let (has_only_a_cache, is_cached) = (self.has_only_a_cache, self.is_cached);
        Ok(Arc::new(RefusingFile {
            file: self.files.open(name, access)?,
            refused,
            has_only_a_cache,
            is_cached,
            refusals: Arc::clone(&self.refusals),
            read: Arc::clone(&self.read),
        }))
    }
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.files.create(name)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.files.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.remove(name)
    }
    fn link(&self, name: &str, to: &Path) -> io::Result<()> {
        self.files.link(name, to)
    }
    fn sync(&self) -> io::Result<()> {
        self.files.sync()
    }
    fn hold(&self) -> io::Result<Option<Hold>> {
        self.files.hold()
    }
    fn sync_parent(&self) -> io::Result<()> {
        self.files.sync_parent()
    }
}

impl RefusingFile {
    fn ask(&self, buffer: &[u8], offset: u64) -> io::Result<()> {
        let end = offset + buffer.len() as u64;
        let is_refused = self.refused.iter().any(|range| offset < range.end && range.start < end);
        if !is_refused {
            return Ok(());
        }
        self.refusals.fetch_add(1, Ordering::Relaxed);
        Err(io::Error::other("the device refuses"))
    }
}

impl File for RefusingFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        if !self.is_cached {
            self.ask(buffer, offset)?;
        }
        self.file.read_at(buffer, offset)
    }
    fn read_uncached(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if self.has_only_a_cache {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.ask(buffer, offset)?;
        self.file.read_uncached(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.file.allocate(bytes)
    }
    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.truncate(bytes)
    }
    fn punch(&self, from: u64, to: u64) -> io::Result<()> {
        self.file.punch(from, to)
    }
    fn next_data(&self, from: u64) -> io::Result<Option<u64>> {
        self.file.next_data(from)
    }
    fn next_hole(&self, from: u64) -> io::Result<u64> {
        self.file.next_hole(from)
    }
    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
    fn map(&self, bytes: usize) -> io::Result<Map> {
        self.file.map(bytes)
    }
    fn map_for_writing(
        &self,
        bytes: usize,
        from: usize,
        through: Through,
    ) -> io::Result<(Arc<Map>, MapWriter)> {
        self.file.map_for_writing(bytes, from, through)
    }
    fn share_page(&self, access: Access) -> io::Result<SharedPage> {
        self.file.share_page(access)
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
    fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }
    fn identity(&self) -> io::Result<(u64, u64)> {
        self.file.identity()
    }
}
