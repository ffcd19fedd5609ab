//! A file system on a loop device on a recorded disk.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::disk::Disk;
use super::fuse::Fuse;
use super::system;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileSystem {
    Ext4,
    Xfs,
    Btrfs,
}

impl FileSystem {
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Ext4, Self::Xfs, Self::Btrfs].into_iter().find(|file_system| file_system.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// What is smaller its tool refuses.
    fn bytes(self) -> u64 {
        match self {
            Self::Ext4 => 24 << 20,
            Self::Xfs => 300 << 20,
            Self::Btrfs => 112 << 20,
        }
    }

    /// What a write of it survives in part: btrfs takes a page for granted, also of its superblock.
    pub(crate) fn atom(self) -> usize {
        if self == Self::Btrfs { 4096 } else { super::disk::SECTOR }
    }

    fn make(self, image: &Path) -> std::io::Result<()> {
        std::fs::File::create(image)?.set_len(self.bytes())?;
        let (tool, arguments): (&str, &[&str]) = match self {
            Self::Ext4 => (
                "mkfs.ext4",
                &[
                    "-q",
                    "-F",
                    "-b",
                    "4096",
                    "-J",
                    "size=4",
                    "-E",
                    "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
                ],
            ),
            Self::Xfs => ("mkfs.xfs", &["-q", "-f", "-K"]),
            Self::Btrfs => ("mkfs.btrfs", &["-q", "-f", "-K", "-m", "single", "-d", "single"]),
        };
        let made = Command::new(tool).args(arguments).arg(image).output()?;
        if made.status.success() {
            return Ok(());
        }
        Err(std::io::Error::other(format!("{tool}: {}", String::from_utf8_lossy(&made.stderr))))
    }
}

/// What is put up is taken down when it is dropped.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) file_system: FileSystem,
    disk: Arc<Mutex<Disk>>,
    node: PathBuf,
    fuse: Fuse,
    directory: tempfile::TempDir,
}

impl Device {
    pub(crate) fn new(file_system: FileSystem) -> std::io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("esker-blocks-").tempdir()?;
        let image = directory.path().join("image");
        file_system.make(&image)?;
        let disk = Arc::new(Mutex::new(Disk::new(std::fs::read(&image)?)));
        std::fs::remove_file(&image)?;
        let at = directory.path().join("fuse");
        std::fs::create_dir(&at)?;
        std::fs::create_dir(directory.path().join("mounted"))?;
        let fuse = Fuse::mount(&at, Arc::clone(&disk))?;
        let losetup =
            Command::new("losetup").args(["--find", "--show", "--direct-io=on"]).arg(fuse.disk()).output()?;
        let node = String::from_utf8_lossy(&losetup.stdout).trim().to_owned();
        if node.is_empty() {
            let why = String::from_utf8_lossy(&losetup.stderr).into_owned();
            return Err(std::io::Error::other(format!("losetup: {why}")));
        }
        Ok(Self { file_system, disk, node: PathBuf::from(node), fuse, directory })
    }

    pub(crate) fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock()
    }

    /// The file that is the disk, for who is to use it past the loop device.
    pub(crate) fn file(&self) -> PathBuf {
        self.fuse.disk()
    }

    pub(crate) fn mounted(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }

    pub(crate) fn place(&self) -> Place {
        Place {
            file_system: self.file_system,
            node: self.node.clone(),
            at: self.mounted(),
            marks: self.fuse.marks(),
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        _ = self.place().unmount();
        _ = Command::new("losetup").arg("-d").arg(&self.node).status();
    }
}

/// What another process needs to know of a device.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) file_system: FileSystem,
    pub(crate) node: PathBuf,
    pub(crate) at: PathBuf,
    pub(crate) marks: PathBuf,
}

const PLACE: &str = "ESKER_BLOCKS_PLACE";

impl Place {
    pub(crate) fn tell(&self, command: &mut Command) {
        let name = self.file_system.name();
        command.env(
            PLACE,
            format!("{name}:{}:{}:{}", self.node.display(), self.at.display(), self.marks.display()),
        );
    }

    pub(crate) fn told() -> Option<Self> {
        let told = std::env::var(PLACE).ok()?;
        let mut parts = told.split(':');
        Some(Self {
            file_system: FileSystem::named(parts.next()?)?,
            node: PathBuf::from(parts.next()?),
            at: PathBuf::from(parts.next()?),
            marks: PathBuf::from(parts.next()?),
        })
    }

    pub(crate) fn mount(&self) -> std::io::Result<()> {
        let options = match self.file_system {
            FileSystem::Ext4 => "noinit_itable",
            FileSystem::Xfs => "nouuid",
            FileSystem::Btrfs => "nodiscard",
        };
        system::mount(&self.node, &self.at, self.file_system.name(), options)
    }

    pub(crate) fn unmount(&self) -> std::io::Result<()> {
        system::unmount(&self.at, false)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.at.join("a.esker")
    }
}
