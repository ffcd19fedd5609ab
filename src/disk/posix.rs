//! A real directory.
//!
//! Files are opened relative to the directory's own descriptor, never through a link, and
//! never so that a pipe could block: what lies in the directory may have been put there by
//! somebody else.

use std::collections::HashSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags, SeekFrom};

use crate::disk::map::{self, Map, MapWriter, SharedPage};
use crate::disk::{Access, Directory, File, FileSystem, Hold, Name, Through};

/// A directory of the file system, held open.
#[derive(Debug)]
pub(crate) struct PosixDirectory {
    path: PathBuf,
    descriptor: fs::File,
    file_system: FileSystem,
}

impl PosixDirectory {
    /// Opens a directory that exists.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        // Of a pipe nobody waits for the other end.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor =
            fs::File::from(rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?);
        let file_system = file_system_of(&descriptor)?;
        Ok(Self { path: path.to_path_buf(), descriptor, file_system })
    }

    /// Whose it is, and who may do what there.
    pub(crate) fn metadata(&self) -> io::Result<fs::Metadata> {
        self.descriptor.metadata()
    }

    fn open_with(&self, name: &str, flags: OFlags) -> io::Result<fs::File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let open = || rustix::fs::openat(&self.descriptor, name, flags, Mode::RUSR | Mode::WUSR);
        Ok(fs::File::from(rustix::io::retry_on_intr(open)?))
    }
}

impl Directory for PosixDirectory {
    fn path(&self) -> &Path {
        &self.path
    }

    fn file_system(&self) -> FileSystem {
        self.file_system
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.descriptor)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn list(&self) -> io::Result<Vec<Name>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.descriptor)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                let is_file = match entry.file_type() {
                    FileType::Unknown => {
                        let stat = rustix::fs::statat(&self.descriptor, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
                        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                    }
                    other => other == FileType::RegularFile,
                };
                names.push(Name { name, is_file });
            }
        }
        names.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(names)
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let flags = if access == Access::Write { OFlags::RDWR } else { OFlags::RDONLY };
        let file = self.open_with(name, flags)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "not a plain file"));
        }
        // What is written here would change a file that somebody else has under another name.
        if access == Access::Write && std::os::unix::fs::MetadataExt::nlink(&metadata) > 1 {
            return Err(io::Error::new(ErrorKind::InvalidInput, "there is a hard link to this file"));
        }
        Ok(PosixFile::shared(file))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(PosixFile::shared(self.open_with(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.descriptor, from, &self.descriptor, to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.descriptor, name, AtFlags::empty())?)
    }

    fn link(&self, name: &str, to: &Path) -> io::Result<()> {
        let to = fs::File::open(to)?;
        Ok(rustix::fs::linkat(&self.descriptor, name, &to, name, AtFlags::empty())?)
    }

    fn sync(&self) -> io::Result<()> {
        self.descriptor.sync_all()
    }

    fn hold(&self) -> io::Result<Option<Hold>> {
        let held = self.open_with(".", OFlags::RDONLY | OFlags::DIRECTORY)?;
        match fs2::FileExt::try_lock_exclusive(&held) {
            Err(error) if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() => Ok(None),
            Err(_) => Ok(Some(Box::new(()))),
            Ok(()) => Ok(Some(Box::new(HeldDirectory(held)))),
        }
    }

    fn sync_parent(&self) -> io::Result<()> {
        let path = self.path.canonicalize()?;
        path.parent().map_or(Ok(()), |parent| fs::File::open(parent)?.sync_all())
    }
}

/// A lock on the directory itself: it cannot be deleted and made again as a lock file can.
#[derive(Debug)]
struct HeldDirectory(fs::File);

impl Drop for HeldDirectory {
    fn drop(&mut self) {
        // Said aloud, because a forked child may share the descriptor.
        let _ = fs2::FileExt::unlock(&self.0);
    }
}

fn file_system_of(directory: &fs::File) -> io::Result<FileSystem> {
    let magic = i128::from(rustix::fs::fstatfs(directory)?.f_type) & 0xffff_ffff;
    let (name, network, copy_on_write) = match magic {
        0xef53 => ("ext4", false, false),
        0x5846_5342 => ("xfs", false, false),
        0x0102_1994 => ("tmpfs", false, false),
        0x9123_683e => ("btrfs", false, true),
        0x2fc1_2fc1 => ("zfs", false, true),
        0xca45_1a4e => ("bcachefs", false, true),
        0xf2f5_2010 => ("f2fs", false, true),
        0x794c_7630 => ("overlayfs", false, false),
        0x6969 => ("nfs", true, false),
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => ("smb", true, false),
        0x0102_1997 => ("9p", true, false),
        0x00c3_6400 => ("ceph", true, false),
        0x6573_5546 => ("fuse", false, true),
        _ => ("unknown", false, false),
    };
    Ok(FileSystem { name, network, copy_on_write })
}

/// A plain file of the file system.
#[derive(Debug)]
struct PosixFile {
    file: fs::File,
    itself: std::sync::Weak<PosixFile>,
    locked: Mutex<Option<HeldBy>>,
}

impl PosixFile {
    fn shared(file: fs::File) -> Arc<dyn File> {
        Arc::new_cyclic(|itself| Self { file, itself: itself.clone(), locked: Mutex::new(None) })
    }
}

/// A process, and device and inode of a file that it holds.
type HeldBy = (u32, (u64, u64));

/// The lock files that this process holds: `flock` alone lets nobody in twice, but some file
/// systems emulate it with locks that belong to a process. A forked child holds nothing of
/// what its copy of the list says, so the process stands in it too.
fn held_here() -> &'static Mutex<HashSet<HeldBy>> {
    static HELD: OnceLock<Mutex<HashSet<HeldBy>>> = OnceLock::new();
    HELD.get_or_init(Mutex::default)
}

impl File for PosixFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    #[cfg(all(target_os = "linux", not(miri)))]
    fn will_be_read_in_order(&self) {
        // A hint: if it fails, reading is slower and nothing else.
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::Sequential);
    }

    #[cfg(all(target_os = "linux", not(miri)))]
    fn will_be_read_soon(&self) {
        // A hint, like that one.
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::WillNeed);
    }

    fn read_uncached(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        // A second open file description: the flag must not change the one that writes.
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&self.file));
        let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
        let unsupported = |error: rustix::io::Errno| match error {
            rustix::io::Errno::INVAL | rustix::io::Errno::NOENT => io::Error::from(ErrorKind::Unsupported),
            other => other.into(),
        };
        let direct = fs::File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(unsupported)?);
        let mut done = 0;
        while done < buffer.len() {
            let space = buffer.get_mut(done..).unwrap_or_default();
            match direct.read_at(space, offset + done as u64) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) && done == 0 =>
                {
                    return Err(ErrorKind::Unsupported.into());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let allocate = || rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, bytes);
        match rustix::io::retry_on_intr(allocate) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                Err(ErrorKind::Unsupported.into())
            }
            other => Ok(other?),
        }
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn punch(&self, from: u64, to: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let punch = || rustix::fs::fallocate(&self.file, flags, from, to.saturating_sub(from));
        match rustix::io::retry_on_intr(punch) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                Err(ErrorKind::Unsupported.into())
            }
            other => Ok(other?),
        }
    }

    fn next_data(&self, from: u64) -> io::Result<Option<u64>> {
        match rustix::fs::seek(&self.file, SeekFrom::Data(from)) {
            Ok(at) => Ok(Some(at)),
            Err(rustix::io::Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn next_hole(&self, from: u64) -> io::Result<u64> {
        Ok(rustix::fs::seek(&self.file, SeekFrom::Hole(from))?)
    }

    fn sync(&self) -> io::Result<()> {
        // Not `sync_data` in a loop over EINTR: whatever a failed sync says is final.
        Ok(rustix::fs::fdatasync(&self.file)?)
    }

    fn map(&self, bytes: usize) -> io::Result<Map> {
        Map::of_file(&self.file, bytes)
    }

    fn map_for_writing(
        &self,
        bytes: usize,
        from: usize,
        through: Through,
    ) -> io::Result<(Arc<Map>, MapWriter)> {
        let handle = self.itself.upgrade().ok_or(ErrorKind::NotFound)?;
        map::file_for_writing(&self.file, handle, bytes, from, through)
    }

    fn share_page(&self, access: Access) -> io::Result<SharedPage> {
        SharedPage::of_file(&self.file, access == Access::Write)
    }

    fn try_lock(&self) -> io::Result<bool> {
        let identity = (std::process::id(), self.identity()?);
        if !held_here().lock().insert(identity) {
            return Ok(false);
        }
        match fs2::FileExt::try_lock_exclusive(&self.file) {
            Ok(()) => {
                *self.locked.lock() = Some(identity);
                Ok(true)
            }
            Err(error) => {
                held_here().lock().remove(&identity);
                let contended = error.raw_os_error() == fs2::lock_contended_error().raw_os_error();
                if contended { Ok(false) } else { Err(error) }
            }
        }
    }

    fn unlock(&self) -> io::Result<()> {
        let Some(identity) = self.locked.lock().take() else { return Ok(()) };
        let unlocked = fs2::FileExt::unlock(&self.file);
        held_here().lock().remove(&identity);
        unlocked
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        let metadata = self.file.metadata()?;
        Ok((std::os::unix::fs::MetadataExt::dev(&metadata), std::os::unix::fs::MetadataExt::ino(&metadata)))
    }
}

impl Drop for PosixFile {
    fn drop(&mut self) {
        if let Some(identity) = self.locked.get_mut().take() {
            held_here().lock().remove(&identity);
        }
    }
}
