//! A directory in memory: the same engine with nothing behind it.
//!
//! Its files keep their bytes on the heap. A [`Recorder`], where there is one, sees every
//! operation before it happens and may refuse it; the crash simulator is one.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::disk::map::{self, HeapBytes, Map, MapWriter, SharedPage, Tape};
use crate::disk::{Access, DIRECT_ALIGN, Directory, File, FileSystem, Hold, Name, Through};

/// An operation on a directory in memory, as the recorder sees it.
#[cfg_attr(not(feature = "simulator"), allow(dead_code, reason = "only the simulator looks into them"))]
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Create {
        name: String,
        file: u64,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        name: String,
    },
    SyncDirectory,
    Write {
        file: u64,
        offset: usize,
        bytes: Vec<u8>,
    },
    /// The length changes; what is new is zero.
    Resize {
        file: u64,
        bytes: usize,
    },
    SyncFile {
        file: u64,
    },
    /// A sync failed, and what it should have written is not dirty any more.
    Forget {
        file: u64,
    },
}

/// Sees every operation, and may refuse it.
pub(crate) trait Recorder: Send + Sync {
    fn record(&self, event: Event) -> io::Result<()>;
    /// A call that writes: answers how much of it was written, which is all if it went well.
    fn write(&self, file: u64, offset: usize, bytes: &[u8]) -> (usize, io::Result<()>);
    /// A file is about to take so many bytes more.
    fn grow(&self, bytes: usize) -> io::Result<()>;
    /// So many bytes are given back.
    fn free(&self, bytes: usize);
    /// What a file holds on the disk, where that is not what was written to it.
    fn past_the_cache(&self, file: u64) -> Option<Vec<u8>>;
}

/// A directory in memory.
pub(crate) struct MemoryDirectory {
    path: PathBuf,
    files: Mutex<BTreeMap<String, Arc<MemoryFile>>>,
    next_file: AtomicU64,
    recorder: Option<Arc<dyn Recorder>>,
    copy_on_write: AtomicBool,
}

impl MemoryDirectory {
    pub(crate) fn new() -> Self {
        Self::with(BTreeMap::new(), None)
    }

    /// A directory that holds these files already.
    pub(crate) fn with(content: BTreeMap<String, Vec<u8>>, recorder: Option<Arc<dyn Recorder>>) -> Self {
        let next = content.len() as u64;
        let numbered = (0..).zip(content).map(|(file, (name, bytes))| (name, file, bytes));
        Self::with_files(numbered, next, recorder)
    }

    /// A directory that holds these files under these numbers; the next one made gets `next`.
    pub(crate) fn with_files(
        content: impl IntoIterator<Item = (String, u64, Vec<u8>)>,
        next: u64,
        recorder: Option<Arc<dyn Recorder>>,
    ) -> Self {
        let file = |(name, file, bytes)| (name, Arc::new(MemoryFile::new(file, bytes, recorder.clone())));
        Self {
            path: PathBuf::from("(in memory)"),
            files: Mutex::new(content.into_iter().map(file).collect()),
            next_file: AtomicU64::new(next),
            recorder,
            copy_on_write: AtomicBool::new(false),
        }
    }

    /// Says of itself that an overwrite needs new space.
    #[cfg(feature = "simulator")]
    pub(crate) fn copy_on_write(&self, yes: bool) {
        self.copy_on_write.store(yes, Ordering::Relaxed);
    }

    fn record(&self, event: impl FnOnce() -> Event) -> io::Result<()> {
        self.recorder.as_ref().map_or(Ok(()), |recorder| recorder.record(event()))
    }

    fn file(&self, name: &str) -> io::Result<Arc<MemoryFile>> {
        self.files.lock().get(name).cloned().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Directory for MemoryDirectory {
    fn path(&self) -> &Path {
        &self.path
    }

    fn file_system(&self) -> FileSystem {
        let copy_on_write = self.copy_on_write.load(Ordering::Relaxed);
        FileSystem { name: "memory", network: false, copy_on_write }
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn list(&self) -> io::Result<Vec<Name>> {
        Ok(self.files.lock().keys().map(|name| Name { name: name.clone(), is_file: true }).collect())
    }

    fn open(&self, name: &str, _access: Access) -> io::Result<Arc<dyn File>> {
        Ok(self.file(name)?)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut files = self.files.lock();
        if files.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let file = self.next_file.fetch_add(1, Ordering::Relaxed);
        self.record(|| Event::Create { name: name.to_owned(), file })?;
        let made = Arc::new(MemoryFile::new(file, Vec::new(), self.recorder.clone()));
        files.insert(name.to_owned(), Arc::clone(&made));
        Ok(made)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files.lock();
        if !files.contains_key(from) {
            return Err(ErrorKind::NotFound.into());
        }
        self.record(|| Event::Rename { from: from.to_owned(), to: to.to_owned() })?;
        if let Some(file) = files.remove(from)
            && let Some(replaced) = files.insert(to.to_owned(), file)
        {
            replaced.give_back(replaced.length());
        }
        Ok(())
    }

    fn link(&self, _name: &str, _to: &Path) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut files = self.files.lock();
        if !files.contains_key(name) {
            return Err(ErrorKind::NotFound.into());
        }
        self.record(|| Event::Remove { name: name.to_owned() })?;
        if let Some(file) = files.remove(name) {
            file.give_back(file.length());
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.record(|| Event::SyncDirectory)
    }

    fn hold(&self) -> io::Result<Option<Hold>> {
        Ok(Some(Box::new(())))
    }

    fn sync_parent(&self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for MemoryDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryDirectory({} files)", self.files.lock().len())
    }
}

/// A file in memory.
struct MemoryFile {
    id: u64,
    content: Mutex<Content>,
    locked: AtomicBool,
    recorder: Option<Arc<dyn Recorder>>,
}

enum Content {
    Plain(Vec<u8>),
    /// Handed to a writer: readable as far as it is written for good.
    Mapped(Arc<HeapBytes>),
}

impl MemoryFile {
    fn new(id: u64, bytes: Vec<u8>, recorder: Option<Arc<dyn Recorder>>) -> Self {
        Self { id, content: Mutex::new(Content::Plain(bytes)), locked: AtomicBool::new(false), recorder }
    }

    fn record(&self, event: impl FnOnce() -> Event) -> io::Result<()> {
        self.recorder.as_ref().map_or(Ok(()), |recorder| recorder.record(event()))
    }

    fn length(&self) -> usize {
        match &*self.content.lock() {
            Content::Plain(bytes) => bytes.len(),
            Content::Mapped(heap) => heap.len(),
        }
    }

    /// Asks for the space that a length of `bytes` needs.
    fn grow_to(&self, bytes: usize) -> io::Result<()> {
        let more = bytes.saturating_sub(self.length());
        self.recorder.as_ref().filter(|_| more > 0).map_or(Ok(()), |recorder| recorder.grow(more))
    }

    fn give_back(&self, bytes: usize) {
        if let Some(recorder) = &self.recorder {
            recorder.free(bytes);
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match &*self.content.lock() {
            Content::Plain(bytes) => bytes.clone(),
            Content::Mapped(heap) => heap.copy(),
        }
    }

    /// Changes the content; one that was mapped is copied first, so that maps keep theirs.
    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut content = self.content.lock();
        let mut bytes = match &mut *content {
            Content::Plain(bytes) => std::mem::take(bytes),
            Content::Mapped(heap) => heap.copy(),
        };
        change(&mut bytes);
        *content = Content::Plain(bytes);
    }
}

/// Brings the stores into a file's mapping to the recorder.
struct StoreTape {
    file: u64,
    recorder: Arc<dyn Recorder>,
}

impl Tape for StoreTape {
    fn stored(&self, offset: usize, bytes: &[u8]) {
        // A store into memory cannot be refused.
        let _ = self.recorder.record(Event::Write { file: self.file, offset, bytes: bytes.to_vec() });
    }

    fn written(&self, offset: usize, bytes: &[u8]) -> (usize, io::Result<()>) {
        self.recorder.write(self.file, offset, bytes)
    }
}

/// Cuts or fills up with zeros; memory that is zero already is not written byte by byte.
pub(crate) fn resize(content: &mut Vec<u8>, bytes: usize) {
    if bytes <= content.len() {
        return content.truncate(bytes);
    }
    let mut longer = vec![0; bytes];
    longer.get_mut(..content.len()).unwrap_or_default().copy_from_slice(content);
    *content = longer;
}

fn index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| ErrorKind::InvalidInput.into())
}

impl File for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.length() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = index(offset)?;
        let bytes = self.bytes();
        let part = bytes.get(start..start + buffer.len()).ok_or(ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(part);
        Ok(())
    }

    fn read_uncached(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = index(offset)?;
        let refused = self.recorder.as_ref().and_then(|recorder| recorder.past_the_cache(self.id));
        let content = refused.unwrap_or_else(|| self.bytes());
        buffer.copy_from_slice(content.get(start..start + buffer.len()).ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let start = index(offset)?;
        self.grow_to(start + bytes.len())?;
        let (written, outcome) = match &self.recorder {
            Some(recorder) => recorder.write(self.id, start, bytes),
            None => (bytes.len(), Ok(())),
        };
        let bytes = bytes.get(..written).unwrap_or_default();
        self.change(|content| {
            let end = start + bytes.len();
            if content.len() < end {
                resize(content, end);
            }
            if let Some(space) = content.get_mut(start..end) {
                space.copy_from_slice(bytes);
            }
        });
        outcome
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        if bytes > self.len()? { self.truncate(bytes) } else { Ok(()) }
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let bytes = index(bytes)?;
        self.grow_to(bytes)?;
        self.give_back(self.length().saturating_sub(bytes));
        self.record(|| Event::Resize { file: self.id, bytes })?;
        self.change(|content| resize(content, bytes));
        Ok(())
    }

    fn punch(&self, from: u64, to: u64) -> io::Result<()> {
        let (from, to) = (index(from)?, index(to)?);
        self.record(|| Event::Write {
            file: self.id,
            offset: from,
            bytes: vec![0; to.saturating_sub(from)],
        })?;
        // A map of the file reads nothing from here on, so it need not see the zeros.
        self.change(|content| content.get_mut(from..to).unwrap_or_default().fill(0));
        Ok(())
    }

    fn next_data(&self, from: u64) -> io::Result<Option<u64>> {
        let from = index(from)?;
        let bytes = self.bytes();
        let found = bytes.get(from..).unwrap_or_default().iter().position(|byte| *byte != 0);
        Ok(found.map(|at| (from + at) as u64))
    }

    fn next_hole(&self, from: u64) -> io::Result<u64> {
        let from = index(from)?.next_multiple_of(DIRECT_ALIGN);
        let bytes = self.bytes();
        let blocks = bytes.get(from..).unwrap_or_default().chunks(DIRECT_ALIGN);
        let written = blocks.take_while(|block| block.iter().any(|byte| *byte != 0)).count();
        Ok((from + written * DIRECT_ALIGN).min(bytes.len()) as u64)
    }

    fn sync(&self) -> io::Result<()> {
        self.record(|| Event::SyncFile { file: self.id })
    }

    fn map(&self, bytes: usize) -> io::Result<Map> {
        let content = self.bytes();
        Ok(Map::of_bytes(content.get(..bytes).ok_or(ErrorKind::UnexpectedEof)?))
    }

    fn map_for_writing(
        &self,
        bytes: usize,
        from: usize,
        through: Through,
    ) -> io::Result<(Arc<Map>, MapWriter)> {
        let recorder = self.recorder.clone();
        let tape = recorder.map(|recorder| Arc::new(StoreTape { file: self.id, recorder }) as Arc<dyn Tape>);
        let (heap, map, writer) = map::heap_for_writing(&self.bytes(), bytes, from, through, tape)?;
        *self.content.lock() = Content::Mapped(heap);
        Ok((map, writer))
    }

    fn share_page(&self, _access: Access) -> io::Result<SharedPage> {
        Ok(SharedPage::on_heap())
    }

    fn try_lock(&self) -> io::Result<bool> {
        Ok(!self.locked.swap(true, Ordering::AcqRel))
    }

    fn unlock(&self) -> io::Result<()> {
        self.locked.store(false, Ordering::Release);
        Ok(())
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        Ok((0, self.id))
    }
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryFile({})", self.id)
    }
}
