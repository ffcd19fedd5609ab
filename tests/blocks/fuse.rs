//! Shows a disk in memory as a file, by FUSE, so that a loop device can stand on it. Beside it stands a file that takes marks.
//!
//! Requests are answered one after the other, so that what was answered before a flush came is what it covers, and a mark stands
//! behind all that had been answered when it was made.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use rustix::io::Errno;

use super::disk::Disk;
use super::system::{mount, unmount};

const ROOT: u64 = 1;
const DISK: u64 = 2;
const MARKS: u64 = 3;
const WRITE_MAX: usize = 1 << 20;

/// The file system; it goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Fuse {
    at: PathBuf,
    server: Option<JoinHandle<()>>,
}

impl Fuse {
    pub(crate) fn mount(at: &Path, disk: Arc<Mutex<Disk>>) -> std::io::Result<Self> {
        Self::answered_by(at, move |request| answer(request, &disk))
    }

    /// Any file system whose requests this answers, one after the other.
    pub(crate) fn answered_by(
        at: &Path,
        answer: impl FnMut(&Request<'_>) -> Result<Vec<u8>, Errno> + Send + 'static,
    ) -> std::io::Result<Self> {
        let device = File::options().read(true).write(true).open("/dev/fuse")?;
        let data = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        mount(Path::new("esker-blocks"), at, "fuse", &data)?;
        let server = std::thread::spawn(move || serve(device, answer));
        Ok(Self { at: at.to_owned(), server: Some(server) })
    }

    pub(crate) fn disk(&self) -> PathBuf {
        self.at.join("disk")
    }

    pub(crate) fn marks(&self) -> PathBuf {
        self.at.join("marks")
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        _ = unmount(&self.at, true);
        // It ends with the last who has a file open.
        drop(self.server.take());
    }
}

pub(crate) struct Request<'a> {
    pub(crate) opcode: u32,
    unique: u64,
    pub(crate) node: u64,
    pub(crate) body: &'a [u8],
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn serve(mut device: File, mut answer: impl FnMut(&Request<'_>) -> Result<Vec<u8>, Errno>) {
    let mut buffer = vec![0; WRITE_MAX + 8192];
    loop {
        let length = match device.read(&mut buffer) {
            Ok(length) => length,
            // Interrupted before it was read, or no longer wanted.
            Err(error)
                if matches!(
                    Errno::from_io_error(&error),
                    Some(Errno::NOENT | Errno::INTR | Errno::AGAIN)
                ) =>
            {
                continue;
            }
            // Unmounted.
            Err(_) => return,
        };
        let bytes = &buffer[..length];
        let request = Request {
            opcode: u32_at(bytes, 4),
            unique: u64_at(bytes, 8),
            node: u64_at(bytes, 16),
            body: &bytes[40..],
        };
        // FORGET, INTERRUPT and BATCH_FORGET have no answer.
        if matches!(request.opcode, 2 | 36 | 42) {
            continue;
        }
        let (error, body) = match answer(&request) {
            Ok(body) => (0, body),
            Err(error) => (-error.raw_os_error(), Vec::new()),
        };
        let mut head = u32::try_from(16 + body.len()).unwrap().to_le_bytes().to_vec();
        head.extend(error.to_le_bytes());
        head.extend(request.unique.to_le_bytes());
        _ = device.write_vectored(&[IoSlice::new(&head), IoSlice::new(&body)]);
    }
}

fn answer(request: &Request<'_>, disk: &Mutex<Disk>) -> Result<Vec<u8>, Errno> {
    let body = request.body;
    match request.opcode {
        // LOOKUP
        1 => {
            let node = match body {
                b"disk\0" => DISK,
                b"marks\0" => MARKS,
                _ => return Err(Errno::NOENT),
            };
            let mut entry = words(&[node, 0, 0, 0, 0]);
            entry.extend(attributes(node, disk));
            Ok(entry)
        }
        // GETATTR, SETATTR
        3 | 4 => {
            let mut attr = words(&[0, 0]);
            attr.extend(attributes(request.node, disk));
            Ok(attr)
        }
        // OPEN, past the cache of the kernel; OPENDIR
        14 | 27 => Ok(words(&[0, 1])),
        // READ
        15 if request.node == DISK => {
            let mut bytes = vec![0; usize::try_from(u32_at(body, 16)).unwrap()];
            let at = usize::try_from(u64_at(body, 8)).unwrap();
            let mut disk = disk.lock();
            let there = disk.base.len().saturating_sub(at).min(bytes.len());
            bytes.truncate(there);
            disk.asked(at, &mut bytes)?;
            Ok(bytes)
        }
        // WRITE
        16 => {
            let (at, size) = (usize::try_from(u64_at(body, 8)).unwrap(), u32_at(body, 16));
            let bytes = &body[40..];
            if request.node == MARKS {
                disk.lock().mark(&String::from_utf8_lossy(bytes));
            } else {
                disk.lock().told(at, bytes)?;
            }
            Ok(words(&[u64::from(size)]))
        }
        // STATFS
        17 => Ok(vec![0; 80]),
        // RELEASE, FLUSH, RELEASEDIR
        18 | 25 | 29 | 38 => Ok(Vec::new()),
        // FSYNC
        20 => {
            disk.lock().flush();
            Ok(Vec::new())
        }
        26 => Ok(greeting(body, ASYNC_DIO)),
        // READDIR: what nobody is shown
        28 => Ok(Vec::new()),
        _ => Err(Errno::NOSYS),
    }
}

/// Direct writes do not wait for each other.
const ASYNC_DIO: u32 = 1 << 15;

/// What this file system can do: large writes, and these.
pub(crate) fn greeting(body: &[u8], these: u32) -> Vec<u8> {
    const BIG_WRITES: u32 = 1 << 5;
    const MAX_PAGES: u32 = 1 << 22;
    let flags = u32_at(body, 12) & (BIG_WRITES | MAX_PAGES | these);
    let mut out = Vec::new();
    for word in [7, 31, 0, flags] {
        out.extend(u32::to_le_bytes(word));
    }
    // How many may wait, and from how many on it is crowded.
    out.extend(64_u16.to_le_bytes());
    out.extend(48_u16.to_le_bytes());
    out.extend(u32::try_from(WRITE_MAX).unwrap().to_le_bytes());
    out.extend(1_u32.to_le_bytes());
    out.extend(256_u16.to_le_bytes());
    out.resize(64, 0);
    out
}

pub(crate) fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn attributes(node: u64, disk: &Mutex<Disk>) -> Vec<u8> {
    let size = if node == DISK { disk.lock().base.len() as u64 } else { 0 };
    let mut out = words(&[node, size, size / 512, 0, 0, 0]);
    let mode: u32 = if node == ROOT { 0o040_700 } else { 0o100_600 };
    for word in [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0] {
        out.extend(u32::to_le_bytes(word));
    }
    out
}
