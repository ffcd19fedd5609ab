//! One mapped file of frames, and the thread that makes the next ones while this one fills.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use memmap2::{Advice, MmapRaw};
use rustix::fs::{FallocateFlags, fallocate};

pub const SEGMENT_BYTES: usize = 64 << 20;

/// What a segment is made ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Stores without a fault: every page is allocated and writable.
    Stores,
    /// Small syncs: every block is allocated, and the file system's own records are on the disk.
    Syncs,
}

pub struct Segment {
    file: File,
    map: MmapRaw,
}

impl Segment {
    fn create(path: &Path, readiness: Readiness) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        fallocate(&file, FallocateFlags::empty(), 0, SEGMENT_BYTES as u64)?;
        let map = MmapRaw::map_raw(&file)?;
        match readiness {
            Readiness::Stores => map.advise(Advice::PopulateWrite)?,
            Readiness::Syncs => file.sync_all()?,
        }
        Ok(Self { file, map })
    }

    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        Ok(Self { map: MmapRaw::map_raw(&file)?, file })
    }

    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Copies the parts to `start`, one after the other. Only the log calls this, for bytes that it has
    /// not shown to anybody.
    pub fn store(&self, mut start: usize, parts: &[&[u8]]) {
        for part in parts {
            assert!(start + part.len() <= self.map.len(), "a frame ends past its segment");
            // SAFETY: the range lies in the map, whose file is allocated and keeps its length; nobody
            // has a reference into it, because the log shows only bytes below its end.
            unsafe { self.map.as_mut_ptr().add(start).copy_from_nonoverlapping(part.as_ptr(), part.len()) };
            start += part.len();
        }
    }

    /// The bytes at `start`, which the log has written and will not change.
    #[inline]
    pub fn bytes(&self, start: usize, length: usize) -> &[u8] {
        assert!(start + length <= self.map.len(), "a read ends past its segment");
        // SAFETY: the range lies in the map, whose file keeps its length while mapped, and bytes below
        // the log's end are never written again.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(start), length) }
    }

    pub fn shrink(self, length: usize) -> io::Result<()> {
        let Self { file, map } = self;
        drop(map);
        file.set_len(length as u64)
    }
}

pub fn segment_path(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("{number:010}.seg"))
}

/// Segments that are kept ready: enough that a million events of 128 bytes never wait for one, because
/// the floor fills a segment faster than the kernel makes the next.
const SPARES: usize = 3;

pub struct Maker {
    ready: Option<Receiver<io::Result<Segment>>>,
    made: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Maker {
    pub fn start(dir: &Path, first: usize, readiness: Readiness) -> Self {
        // One more than the channel holds waits to be sent.
        let (sender, ready) = sync_channel(SPARES - 1);
        let made = Arc::new(AtomicUsize::new(0));
        let (dir, count) = (dir.to_path_buf(), Arc::clone(&made));
        let thread = std::thread::spawn(move || {
            for number in first.. {
                let segment = Segment::create(&segment_path(&dir, number), readiness);
                count.fetch_add(1, Ordering::Release);
                if sender.send(segment).is_err() {
                    return;
                }
            }
        });
        Self { ready: Some(ready), made, thread: Some(thread) }
    }

    pub fn take(&self) -> io::Result<Segment> {
        let ready = self.ready.as_ref().expect("the maker runs until it is dropped");
        ready.recv().unwrap_or_else(|_| Err(io::Error::other("the thread that makes segments has ended")))
    }

    /// Waits until the first segment and the spares are made, or could not be made.
    pub fn wait_for_spares(&self) {
        while self.made.load(Ordering::Acquire) < 1 + SPARES {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        drop(self.ready.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
