//! A file without a name, for what does not fit in memory: it goes with its descriptor, whatever becomes of the process. Where
//! the system has no such files, none is made.

use std::env;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// A file without a name, in the directory for temporary files that `TMPDIR` names, or in one for large ones.
#[derive(Debug)]
struct UnnamedFile {
    file: fs::File,
    /// The directory in which it has no name.
    directory: PathBuf,
}

impl UnnamedFile {
    /// # Errors
    ///
    /// If no directory for temporary files takes one.
    fn create() -> io::Result<Self> {
        let named = env::var_os("TMPDIR").filter(|path| !path.is_empty()).map(PathBuf::from);
        let known = [PathBuf::from("/var/tmp"), env::temp_dir()];
        let mut failed = io::Error::from(io::ErrorKind::NotFound);
        for directory in named.into_iter().chain(known) {
            match unnamed_in(&directory) {
                Ok(file) => return Ok(Self { file, directory }),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// Gives back what stands behind so many bytes.
    fn shorten(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    /// Fills `buffer` from `offset`, or fails with `UnexpectedEof`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

/// Room beside the memory: such a file, which is made when there is something to write.
#[derive(Debug, Default)]
pub(crate) struct Room {
    file: Option<UnnamedFile>,
    /// It could not be made, or not be written: the disk may be full, and others write there too.
    takes_no_more: bool,
    written: u64,
}

impl Room {
    /// Which there is none in.
    pub(crate) fn without_a_file() -> Self {
        Self { takes_no_more: true, ..Self::default() }
    }

    /// There was no room for something.
    pub(crate) fn takes_no_more(&self) -> bool {
        self.takes_no_more
    }

    /// Answers where that stands now. `None`: there is no room for it, and for nothing more.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Option<Range<u64>> {
        if self.takes_no_more {
            return None;
        }
        if self.file.is_none() {
            self.file = UnnamedFile::create().ok();
        }
        let is_written = self.file.as_ref().is_some_and(|file| {
            let written = file.write_at(bytes, self.written).is_ok();
            if !written {
                // What was taken of the space goes back.
                let _ = file.shorten(self.written);
            }
            written
        });
        self.takes_no_more = !is_written;
        let begin = self.written;
        is_written.then(|| {
            self.written += bytes.len() as u64;
            begin..self.written
        })
    }

    /// Fills `buffer` from `offset`, or fails with `UnexpectedEof`.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::UnexpectedEof)?;
        file.read_at(buffer, offset)
    }

    /// Says what went wrong, and in which directory.
    pub(crate) fn failed(&self, doing: &str, error: io::Error) -> Error {
        let error = Error::io(doing, error);
        match &self.file {
            Some(file) => error.at(&file.directory),
            None => error,
        }
    }

    /// Says that what was put away is not what came back.
    pub(crate) fn not_what_was_put() -> io::Error {
        let other = "a file for temporary data gave back other bytes than it was given";
        io::Error::new(io::ErrorKind::InvalidData, other)
    }

    /// As a disk does that loses a page. Answers whether there is a file.
    #[cfg(test)]
    pub(crate) fn lose(&self, bytes: usize, offset: u64) -> bool {
        self.file.as_ref().is_some_and(|file| file.write_at(&vec![0; bytes], offset).is_ok())
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
fn unnamed_in(directory: &Path) -> io::Result<fs::File> {
    use rustix::fs::{Mode, OFlags};

    let (flags, mode) = (OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
    let open = || rustix::fs::open(directory, flags, mode);
    Ok(fs::File::from(rustix::io::retry_on_intr(open)?))
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn unnamed_in(_: &Path) -> io::Result<fs::File> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn an_unnamed_file_gives_back_what_was_written_and_leaves_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = unnamed_in(directory.path()).unwrap();
        let file = UnnamedFile { file, directory: directory.path().to_owned() };
        file.write_at(b"behind", 7).unwrap();
        file.write_at(b"before ", 0).unwrap();
        let mut read = [0; 13];
        file.read_at(&mut read, 0).unwrap();
        assert_eq!(&read, b"before behind");
        file.shorten(12).unwrap();
        assert!(file.read_at(&mut read, 0).is_err());
        let end = file.read_at(&mut read, 1).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(unnamed_in(&directory.path().join("nowhere")).is_err());
    }
}
