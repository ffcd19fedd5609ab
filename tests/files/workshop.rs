//! Where files are recorded, and where what a power cut leaves of them is put to be opened.

use std::io::Result;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::model::Model;
use super::protocol;
use super::tree::{Event, Files, Tree};
use crate::blocks::device::{FileSystem, Place};
use crate::blocks::fuse::Fuse;
use crate::blocks::system;

/// The directory of the store.
pub(crate) const STORE: &str = "a.esker";

/// How a store is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    /// By stores into a mapping, and not by calls.
    pub(crate) is_mapped: bool,
    /// The kernel keeps what calls write, and brings it later, page by page.
    pub(crate) holds_writes_back: bool,
}

impl Manner {
    pub(crate) fn name(self) -> &'static str {
        match (self.is_mapped, self.holds_writes_back) {
            (true, true) => "mapped, held back",
            (true, false) => "mapped",
            (false, true) => "by calls, held back",
            (false, false) => "by calls",
        }
    }

    /// Starts this program again.
    pub(crate) fn command(self) -> Command {
        let program = std::env::current_exe().unwrap();
        if !self.is_mapped {
            return Command::new(program);
        }
        let mut command = strace();
        command.arg(program);
        command
    }
}

/// To start a program by.
///
/// esker takes FUSE for a file system where an overwrite may need new space, and writes by calls. To have it store into
/// mappings, whoever asks which file system this is is told ext4: by strace, which looks at no other call.
fn strace() -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fstatfs", "-e"]);
    command.arg("inject=fstatfs:poke_exit=@arg2=53ef000000000000");
    command
}

/// Whether there is a strace that can do that, and may.
pub(crate) fn has_strace() -> bool {
    strace().arg("true").status().is_ok_and(|status| status.success())
}

/// What it puts up it takes down when it is dropped.
#[derive(Debug)]
pub(crate) struct Workshop {
    directory: tempfile::TempDir,
}

impl Workshop {
    pub(crate) fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("esker-files-").tempdir()?;
        std::fs::create_dir(directory.path().join("recorded"))?;
        let plain = directory.path().join("plain");
        std::fs::create_dir(&plain)?;
        system::mount(Path::new("tmpfs"), &plain, "tmpfs", "size=64m")?;
        Ok(Self { directory })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where nothing is recorded.
    pub(crate) fn plain(&self) -> Place {
        place(self.at("plain"), PathBuf::from("/dev/null"))
    }

    /// Where all is, once a [`Recorder`] stands there.
    pub(crate) fn recorded(&self) -> Place {
        place(self.at("recorded"), self.at("recorded/marks"))
    }

    /// Puts a store there, or takes away what was there.
    pub(crate) fn put(&self, store: Option<&Files>) -> Result<()> {
        let at = self.at("plain").join(STORE);
        write(&at, store)
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        _ = system::unmount(&self.at("plain"), true);
    }
}

/// Writes a directory of files anew.
pub(crate) fn write(at: &Path, files: Option<&Files>) -> Result<()> {
    match std::fs::remove_dir_all(at) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let Some(files) = files else { return Ok(()) };
    std::fs::DirBuilder::new().mode(0o700).recursive(true).create(at)?;
    files.iter().try_for_each(|(name, bytes)| std::fs::write(at.join(name), bytes))
}

/// No device stands behind it, and nobody mounts it: it is there, or is mounted by a [`Recorder`].
fn place(at: PathBuf, marks: PathBuf) -> Place {
    Place { file_system: FileSystem::Ext4, node: PathBuf::new(), at, marks }
}

/// A file system that records, as long as it is there.
#[derive(Debug)]
pub(crate) struct Recorder {
    tree: Arc<Mutex<Tree>>,
    manner: Manner,
    at: PathBuf,
    fuse: Option<Fuse>,
}

impl Recorder {
    /// With nothing in it, or with a store.
    pub(crate) fn new(workshop: &Workshop, manner: Manner, store: Option<&Files>) -> Result<Self> {
        let tree = Tree::new(store.map(|files| (STORE, files)));
        let at = workshop.at("recorded");
        let mut recorder = Self { tree: Arc::new(Mutex::new(tree)), manner, at, fuse: None };
        recorder.mount_again()?;
        Ok(recorder)
    }

    /// Nothing of it is in the cache of the kernel.
    pub(crate) fn mount_again(&mut self) -> Result<()> {
        drop(self.fuse.take());
        self.fuse = Some(protocol::mount(&self.at, Arc::clone(&self.tree), self.manner.holds_writes_back)?);
        Ok(())
    }

    pub(crate) fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock()
    }

    /// What was recorded.
    pub(crate) fn log(&self) -> Vec<Event> {
        std::mem::take(&mut self.tree().log)
    }
}

/// What is there in the beginning of its log.
pub(crate) fn model(store: Option<&Files>) -> Model {
    Model::new(store.map(|files| (STORE, files)))
}
