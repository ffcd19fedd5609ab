//! Backups: a consistent copy of a store that goes on being written, and the way back.
//!
//! A backup is a prefix of the log in whole batches: the segments as they are, cut at one mark, and
//! last a manifest that says what it is. It opens for reading only, until a restore has given a copy of
//! it an era: what is appended behind it has numbers that meant something else where it was taken.
//!
//! Nothing is held up: sealed segments do not change any more, and of the active one only what lies
//! below the mark is read.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::disk::posix::PosixDirectory;
use crate::disk::{Access, Directory, File, read_whole};
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::FRAME_BYTES;
use crate::format::index as index_format;
use crate::format::manifest::Manifest;
use crate::format::segment::file_name;
use crate::format::system::System;
use crate::id::Seq;
use crate::index::catalog::Section;
use crate::journal::Journal;
use crate::journal::finding::{Check, Finding, Severity};
use crate::journal::opening::write_manifest;
use crate::journal::reader::Reader;
use crate::journal::repair::refuse_inside;
use crate::journal::verify::examine;
use crate::journal::view::View;
use crate::log::lock::now;
use crate::log::segment::Segment;

/// How a backup takes segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum BackupBy {
    /// Byte by byte: the backup stands for itself.
    #[default]
    Copy,
    /// Sealed segments by a second name of the same file, which takes no time and no space, and is lost
    /// with it. Only within one file system.
    Link,
}

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Backup {
    /// The identity of the store, which the backup has too.
    pub store: String,
    /// The era of the store.
    pub era: u64,
    /// The newest entry in it; `None`: there is none.
    pub through: Option<Seq>,
    /// Segments in it.
    pub segments: u64,
    /// Of those, second names of the store's own files.
    pub linked: u64,
    /// Bytes of log in it.
    pub bytes: u64,
}

/// What a restore made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Restored {
    /// The identity of the store, which is kept.
    pub store: String,
    /// The era of the new store: a cursor of another one does not count in it until it is reset.
    pub era: u64,
    /// The newest entry in it; `None`: there is none.
    pub through: Option<Seq>,
    /// Bytes of log in it.
    pub bytes: u64,
}

impl Journal {
    /// Makes a backup in a directory that is empty or not there, while others append: everything that is
    /// visible when this is called, and made durable first. What was copied is verified; what was linked
    /// is not read.
    ///
    /// ```
    /// use esker::{BackupBy, ErrorKind, Journal, Record, restore};
    /// # fn main() -> esker::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let (store, backup, again) = ["a.esker", "b.esker", "c.esker"].map(|name| directory.path().join(name)).into();
    /// let journal = Journal::open(&store)?;
    /// let note = journal.kind("note")?;
    /// journal.append(Record::new(note, b"a", b"1"))?;
    /// let made = journal.backup(&backup, BackupBy::Copy)?;
    /// assert_eq!(made.through.unwrap().get(), 1);
    ///
    /// assert_eq!(Journal::open(&backup).unwrap_err().kind(), ErrorKind::IsBackup);
    /// restore(&backup, &again)?;
    /// assert_eq!(Journal::open(&again)?.latest(note, b"a")?.unwrap().payload(), b"1");
    /// # journal.close() }
    /// ```
    ///
    /// # Errors
    ///
    /// `AlreadyExists` for a target that is not empty, `InvalidInput` for one inside the store or, with
    /// [`BackupBy::Link`], in another file system; `Corrupt` where the store is damaged, of which
    /// [`repair`](crate::repair()) saves the rest; `Io`, `NoSpace`, `Poisoned`, `Closed`. Nothing is left in the target then.
    pub fn backup(&self, target: impl AsRef<Path>, by: BackupBy) -> Result<Backup> {
        let core = self.core();
        core.check_not_forked("back the store up")?;
        core.check_writable()?;
        let mark = self.sync()?;
        let view = View::new(Arc::clone(&core.index), mark);
        let made = back_up(&*core.directory, &view, &core.manifest, target.as_ref(), by)?;
        Ok(made)
    }
}

impl Reader {
    /// As [`Journal::backup`], from another process: what a live writer calls durable, or all that there
    /// is where nobody writes.
    ///
    /// # Errors
    ///
    /// As [`Journal::backup`], and as [`view`](Self::view).
    pub fn backup(&self, target: impl AsRef<Path>, by: BackupBy) -> Result<Backup> {
        let mut view = self.view()?;
        if let Some(durable) = self.durable() {
            view = View::new(Arc::clone(self.index()), durable.min(view.mark));
        }
        back_up(&**self.directory(), &view, self.manifest(), target.as_ref(), by)
    }
}

fn back_up(
    from: &dyn Directory,
    view: &View,
    manifest: &Manifest,
    target: &Path,
    by: BackupBy,
) -> Result<Backup> {
    const DOING: &str = "make the backup";
    refuse_inside(from.path(), target, DOING)?;
    let manifest = Manifest { backup: true, ..manifest.clone() };
    // Links are for those who have no time to read everything.
    let check = if by == BackupBy::Link { Check::Quick } else { Check::Full };
    let Copied { segments, linked, bytes } =
        into_empty(target, DOING, |to| copy_log(from, view, to, by), &manifest, check)?;
    let (store, era) = (manifest.store.to_string(), manifest.era);
    Ok(Backup { store, era, through: view.last_seq()?, segments, linked, bytes })
}

/// Makes a store of a backup, in a directory that is empty or not there; the backup stays as it is.
///
/// The new store has an era of its own: cursors go on only after a
/// [`reset_cursor`](Journal::reset_cursor), since what they name may be gone, and whoever keeps positions
/// elsewhere can tell.
///
/// # Errors
///
/// `InvalidInput` for what is no backup, or a target inside it; `AlreadyExists` for a target that is not
/// empty; `Corrupt` if anything of the backup is damaged: see [`repair`](crate::repair()), which saves the
/// rest; and as [`Reader::open`]. Nothing is left in the target then.
pub fn restore(backup: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<Restored> {
    const DOING: &str = "restore the backup";
    let (backup, target) = (backup.as_ref(), target.as_ref());
    let reader = Reader::open(backup)?;
    if !reader.manifest().backup {
        return Err(Error::new(ErrorKind::InvalidInput, DOING)
            .at(backup)
            .sides("a backup, as `esker backup` makes one", "a store that is none"));
    }
    refuse_inside(backup, target, DOING)?;
    let view = reader.view()?;
    // Greater than any era that was counted up to elsewhere, by a repair or by another restore.
    let era = (reader.era() + 1).max(now().unsigned_abs() / 1_000_000_000);
    let manifest = Manifest { backup: false, era, ..reader.manifest().clone() };
    let from = &**reader.directory();
    let Copied { bytes, .. } =
        into_empty(target, DOING, |to| copy_log(from, &view, to, BackupBy::Copy), &manifest, Check::Full)?;
    Ok(Restored { store: manifest.store.to_string(), era, through: view.last_seq()?, bytes })
}

/// What was put into a directory.
struct Copied {
    segments: u64,
    linked: u64,
    bytes: u64,
}

/// Fills a directory that is empty or not there, and last makes a store of it. Nothing is left in it
/// if that fails.
fn into_empty(
    target: &Path,
    doing: &'static str,
    fill: impl FnOnce(&dyn Directory) -> Result<Copied>,
    manifest: &Manifest,
    check: Check,
) -> Result<Copied> {
    let failed = |e| Error::io(doing, e).at(target);
    let made = match std::fs::metadata(target) {
        Ok(found) if !found.is_dir() => return Err(Error::new(ErrorKind::NotADirectory, doing).at(target)),
        Ok(_) => false,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            crate::journal::opening::make_directory(target).map_err(failed)?;
            true
        }
        Err(error) => return Err(failed(error)),
    };
    let to = PosixDirectory::open(target).map_err(failed)?;
    if let Some(name) = to.list().map_err(failed)?.first() {
        return Err(Error::new(ErrorKind::AlreadyExists, doing)
            .at(target)
            .sides("an empty directory", format!("a file named {:?}", name.name)));
    }
    let filled = fill(&to).and_then(|copied| {
        // The names of the segments first: a manifest makes a store of them.
        to.sync().map_err(failed)?;
        write_manifest(&to, manifest)?;
        to.sync_parent().map_err(failed)?;
        is_undamaged(&to, doing, check)?;
        Ok(copied)
    });
    if filled.is_err() {
        // The manifest goes first, so that no part of a store is left.
        let mut names = to.list().unwrap_or_default();
        names.sort_by_key(|entry| entry.name != crate::format::manifest::FILE_NAME);
        names.iter().for_each(|entry| _ = to.remove(&entry.name));
        if made {
            let _ = std::fs::remove_dir(target);
        }
    }
    filled
}

/// A copy of damage is no backup: whoever needs it finds out too late.
fn is_undamaged(to: &dyn Directory, doing: &'static str, check: Check) -> Result<()> {
    let found = examine(to, check)?.findings;
    let is_bad = |finding: &&Finding| matches!(finding.severity, Severity::Damage | Severity::Unread);
    match found.iter().find(is_bad) {
        Some(finding) => Err(Error::corrupt(format!("{doing}: {finding}")).at(to.path())),
        None => Ok(()),
    }
}

/// Copies the log up to where a view ends.
fn copy_log(from: &dyn Directory, view: &View, to: &dyn Directory, by: BackupBy) -> Result<Copied> {
    let mut copied = Copied { segments: 0, linked: 0, bytes: 0 };
    for section in view.catalog.sections.iter().filter(|section| section.number <= view.mark.segment()) {
        let segment = &section.open()?.segment;
        let is_last = section.number == view.mark.segment();
        let end =
            if is_last { before_a_seal(segment, view.mark.offset()) } else { segment.map.limit() as u64 };
        let doing = |e| Error::io("copy a segment", e).at(from.path().join(file_name(section.number)));
        if by == BackupBy::Link && !is_last {
            from.link(&file_name(section.number), to.path()).map_err(|error| link_failed(to, error))?;
            copied.linked += 1;
        } else {
            copy_segment(segment, end, &*to.create(&file_name(section.number)).map_err(doing)?)
                .map_err(doing)?;
        }
        if !is_last {
            copy_index(from, section, to);
        }
        copied.segments += 1;
        copied.bytes += end;
    }
    Ok(copied)
}

/// Where a backup's last segment ends: behind a seal there would have to be another one.
fn before_a_seal(segment: &Segment, end: u64) -> u64 {
    let Some(at) = end.checked_sub(FRAME_BYTES as u64) else { return end };
    let is_seal = segment.frame(at).is_some_and(|frame| {
        frame.header.is_system()
            && System::of(frame.header.operation) == Some(System::Seal)
            && frame.is_good(segment.header.salt, segment.position(at))
    });
    if is_seal { at } else { end }
}

fn link_failed(to: &dyn Directory, error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::CrossesDevices {
        return Error::new(ErrorKind::InvalidInput, "link a segment into the backup")
            .at(to.path())
            .sides("a directory in the store's own file system", "one in another");
    }
    Error::io("link a segment into the backup", error).at(to.path())
}

/// A segment has the length that its header says; behind its end it is a hole.
fn copy_segment(segment: &Segment, end: u64, to: &dyn File) -> std::io::Result<()> {
    const PIECE: u64 = 1 << 20;
    let mut piece = Vec::new();
    let mut at = 0;
    while at < end {
        let length = usize::try_from(PIECE.min(end - at)).unwrap_or(0);
        piece.resize(length, 0);
        segment.file.read_at(&mut piece, at)?;
        to.write_at(&piece, at)?;
        at += length as u64;
    }
    to.truncate(segment.header.bytes)?;
    to.sync()
}

/// An index is derived: without one, the first opening makes it again.
fn copy_index(from: &dyn Directory, section: &Section, to: &dyn Directory) {
    const BYTES_MAX: usize = 1 << 30;
    let name = index_format::file_name(section.number);
    let copy = || {
        let bytes = read_whole(&*from.open(&name, Access::Read)?, BYTES_MAX)?;
        let file = to.create(&name)?;
        file.write_at(&bytes, 0)?;
        file.sync()
    };
    if copy().is_err() {
        let _ = to.remove(&name);
    }
}

#[cfg(test)]
#[cfg(not(miri))]
mod tests {
    use super::*;
    use crate::journal::record::Record;
    use crate::options::Options;

    /// Between a seal and the segment behind it, for a moment, the log ends with the seal.
    #[test]
    fn a_backup_that_is_taken_behind_a_seal_needs_no_segment_behind_it() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options::new().segment_bytes(4096).background(false);
        let journal = options.open(directory.path().join("a")).unwrap();
        let kind = journal.kind("note").unwrap();
        while journal.stats().segments < 2 {
            journal.append(Record::new(kind, b"k", &[7; 300])).unwrap();
        }
        let core = journal.core();
        let first = core.index.catalog().sections[0].open().unwrap().segment.map.limit() as u64;
        let view = View::new(Arc::clone(&core.index), crate::id::Position::new(1, first));
        let [backup, restored] = ["b", "c"].map(|name| directory.path().join(name));
        let made = back_up(&*core.directory, &view, &core.manifest, &backup, BackupBy::Copy).unwrap();
        assert_eq!(made.bytes, first - FRAME_BYTES as u64);
        restore(&backup, &restored).unwrap();
        let again = options.open(&restored).unwrap();
        assert_eq!(again.view().last_seq().unwrap(), made.through);
        again.append(Record::new(kind, b"k", b"on")).unwrap();
    }
}
