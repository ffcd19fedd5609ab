//! Backups: a consistent copy of a store that goes on being written, and the way back.
//!
//! A backup is a prefix of the log in whole batches: the segments as they are, cut at one mark, and
//! last a manifest that says what it is. It opens for reading only, until a restore has given a copy of
//! it an era: what is appended behind it has numbers that meant something else where it was taken.
//!
//! Nothing is held up: sealed segments do not change any more, and of the active one only what lies
//! below the mark is read.
//!
//! *A backup says where it ends.* What a crash leaves of a log may be shorter than the log was, and rightly
//! so; a backup that is found shorter is damaged. So every frame is read when it is made and when it is
//! restored, before there is a manifest, under the target's lock; no index is copied that could vouch for
//! what was not read.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::disk::posix::PosixDirectory;
use crate::disk::{Directory, File};
use crate::error::{Error, ErrorKind, Result};
use crate::format::compacted::Compacted;
use crate::format::frame::{FRAME_BYTES, Frame};
use crate::format::lock as lock_format;
use crate::format::manifest::{BackupEnd, FILE_NAME, Manifest};
use crate::format::segment::{FIRST_FRAME, file_name};
use crate::id::{Life, Position, Seq, StoreId};
use crate::index::catalog::Section;
use crate::journal::Journal;
use crate::journal::directory::make_directory;
use crate::journal::finding::{Check, Severity};
use crate::journal::identity::Identity;
use crate::journal::onlooker::{Meter, Onlooker, While};
use crate::journal::opening::{read_manifest, write_manifest};
use crate::journal::pins::PinnedBy;
use crate::journal::reader::Reader;
use crate::journal::repair::{era_behind, refuse_inside};
use crate::journal::verify::examine_as;
use crate::journal::view::{Loaded, View};
use crate::log::chain::find_chain;
use crate::log::lock::HeldLock;
use crate::log::recovery::recover;
use crate::log::report::Damage;
use crate::log::segment::Segment;
use crate::log::visitor::{End, Purpose, Visitor};

/// How a backup takes segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum BackupBy {
    /// Byte by byte: the backup stands for itself.
    #[default]
    Copy,
    /// Sealed segments by a second name of the same file, which takes no space, and is lost with it; those that their writer
    /// has not synced yet byte by byte. Only within one file system.
    Link,
}

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Backup {
    /// The identity of the store, which the backup has too.
    pub store: String,
    /// The era of the store.
    #[serde(serialize_with = "crate::journal::stats::as_text")]
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
    #[serde(serialize_with = "crate::journal::stats::as_text")]
    pub era: u64,
    /// The newest entry in it; `None`: there is none.
    pub through: Option<Seq>,
    /// Bytes of log in it.
    pub bytes: u64,
}

impl Journal {
    /// Makes a backup in a directory that is empty or not there, while others append: everything that is
    /// visible when this is called, and made durable first. Every frame of the backup is read before it
    /// counts as one.
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
        // What the view shows stays while it is copied.
        let steady = core.compacting.steady.read();
        let _pin = core.pins.pin(PinnedBy::Backup, 0);
        // Before the end of what is copied: no cursor has seen more.
        let compacted = (*core.index.catalog().compacted).clone();
        let manifest = Manifest { table: core.table.lock().clone(), compacted, ..core.manifest.clone() };
        let mark = self.sync()?;
        let view = View::new(Arc::clone(&core.index), mark);
        drop(steady);
        let how = How { by, is_verified: false, durable: mark };
        back_up(&*core.directory, &view, &manifest, target.as_ref(), how, &Meter::of(&|| true))
    }
}

impl Reader {
    /// As [`Journal::backup`], from another process: what a live writer has appended, also what only a power
    /// cut at the writer could yet take back; in the backup it is durable.
    ///
    /// # Errors
    ///
    /// As [`Journal::backup`], and as [`view`](Self::view).
    pub fn backup(&self, target: impl AsRef<Path>, by: BackupBy) -> Result<Backup> {
        self.backup_while(target, by, || true)
    }

    /// As [`backup`](Self::backup), for as long as it is to go on: it asks the [onlooker](Onlooker) that before each piece and
    /// each frame, and tells how far it is.
    ///
    /// # Errors
    ///
    /// As [`backup`](Self::backup); `Io`, with an interruption as its source, once it is not to go on. Nothing is left in the
    /// target then.
    pub fn backup_while(
        &self,
        target: impl AsRef<Path>,
        by: BackupBy,
        onlooker: impl Onlooker,
    ) -> Result<Backup> {
        self.backup_how(target.as_ref(), (by, false), &onlooker)
    }

    /// As [`backup_while`](Self::backup_while), and what was copied is [verified](crate::verify()) as a whole before it counts
    /// as a backup, histories, rows and what preambles restate included: beyond what each copy is looked at for, which is
    /// every frame. Takes the memory that a verification takes.
    ///
    /// # Errors
    ///
    /// As [`backup_while`](Self::backup_while); `Corrupt` with the file and the place of the first finding. Nothing is left in
    /// the target then.
    pub fn backup_verified_while(
        &self,
        target: impl AsRef<Path>,
        by: BackupBy,
        onlooker: impl Onlooker,
    ) -> Result<Backup> {
        self.backup_how(target.as_ref(), (by, true), &onlooker)
    }

    fn backup_how(
        &self,
        target: &Path,
        (by, is_verified): (BackupBy, bool),
        onlooker: &dyn Onlooker,
    ) -> Result<Backup> {
        // Cursors and erasures are written there also between compactions, of which alone a reader is told; before the end of what
        // is copied.
        let manifest = read_manifest(&**self.directory())?.unwrap_or_else(|| self.manifest().clone());
        let view = self.view()?;
        // A copy ends before the seal, and says nothing of what stood behind it.
        let is_behind = |damage: &&Damage| Position::new(damage.segment, damage.offset) >= view.mark;
        if let Some(damage) = self.recovery().damage.iter().find(is_behind) {
            let error = Error::corrupt(format!("make the backup: {}", damage.what));
            return Err(error.at(self.path()).place(damage.segment, damage.offset));
        }
        let how = How { by, is_verified, durable: self.was_durable() };
        back_up(&**self.directory(), &view, &manifest, target, how, &Meter::of(onlooker))
    }
}

/// How a copy is made, and what of it is looked at.
#[derive(Clone, Copy)]
struct How {
    by: BackupBy,
    /// All that a verification looks at, and not only the frames.
    is_verified: bool,
    /// What is on the disk by the word of who wrote it, whose descriptors are told what the system could not write. One that is
    /// opened for a backup is not, once somebody was; so nothing else is linked. The bytes of a copy are synced as its own, and
    /// read again.
    durable: Position,
}

fn back_up(
    from: &dyn Directory,
    view: &View,
    manifest: &Manifest,
    target: &Path,
    how: How,
    meter: &Meter<'_>,
) -> Result<Backup> {
    let target = Target::take(from.path(), target, "make the backup", meter)?;
    let mut compacted = (*view.catalog.compacted).clone();
    manifest.compacted.erasing.iter().for_each(|erasing| compacted.erase(*erasing));
    let manifest_of = |end| Manifest { backup: Some(end), compacted, ..manifest.clone() };
    let made = target.fill(from, view, how, manifest_of)?;
    let (store, era) = (manifest.store.to_string(), manifest.era);
    let Copied { segments, linked, bytes, through } = made;
    Ok(Backup { store, era, through, segments, linked, bytes })
}

/// Makes a store of a backup, in a directory that is empty or not there; the backup stays as it is.
///
/// The new store has an era of its own: cursors go on only after a
/// [`reset_cursor`](Journal::reset_cursor), since what they name may be gone, and whoever keeps positions
/// elsewhere can tell. The manifest says of which era the backup was: images of [folds](crate::TopicFold) count as they did there.
///
/// # Errors
///
/// `InvalidInput` for what is no backup, or a target inside it; `AlreadyExists` for a target that is not
/// empty; `Corrupt` if anything of the backup is damaged: see [`repair`](crate::repair()), which saves the
/// rest; and as [`Reader::open`]. Nothing is left in the target then.
pub fn restore(backup: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<Restored> {
    restore_while(backup, target, || true)
}

/// As [`restore`], for as long as it is to go on: it asks the [onlooker](Onlooker) that before each piece and each frame, and
/// tells how far it is.
///
/// # Errors
///
/// As [`restore`]; `Io`, with an interruption as its source, once it is not to go on. Nothing is left in the target then.
pub fn restore_while(
    backup: impl AsRef<Path>,
    target: impl AsRef<Path>,
    onlooker: impl Onlooker,
) -> Result<Restored> {
    const DOING: &str = "restore the backup";
    let (backup, target) = (backup.as_ref(), target.as_ref());
    let reader = Reader::open(backup)?;
    let Some(expected) = reader.manifest().backup else {
        return Err(Error::new(ErrorKind::InvalidInput, DOING)
            .at(backup)
            .sides("a backup, as `esker backup` makes one", "a store that is none"));
    };
    let view = reader.view()?;
    let end = End {
        position: view.mark,
        last_seq: last_number(&view)?,
        life: None,
        sealed: false,
        durable: view.mark,
        report: reader.recovery().clone(),
    };
    is_whole(backup, DOING, expected, &end)?;
    let meter = Meter::of(&onlooker);
    let target = Target::take(backup, target, DOING, &meter)?;
    let era = era_behind(reader.era());
    let ancestors = reader.manifest().ancestors_of_copy(expected.last_seq);
    let restored = |_| Manifest { backup: None, era, ancestors, ..reader.manifest().clone() };
    let how = How { by: BackupBy::Copy, is_verified: false, durable: Position::ZERO };
    let made = target.fill(&**reader.directory(), &view, how, restored)?;
    let store = reader.manifest().store.to_string();
    Ok(Restored { store, era, through: made.through, bytes: made.bytes })
}

/// The last number that was given, 0 for none: also of an entry that a repair could not save, of which a preamble tells.
fn last_number(view: &View) -> Result<u64> {
    let last = view.last_seq()?.map_or(0, Seq::get);
    for at in (0..view.catalog.sections.len()).rev() {
        if let Some(section) = Loaded::open(view, at)? {
            return Ok(last.max(section.end() - 1));
        }
    }
    Ok(last)
}

/// What is found must be what was put there: nothing damaged, and nothing short of its end.
fn is_whole(path: &Path, doing: &'static str, expected: BackupEnd, found: &End) -> Result<()> {
    if let Some(damage) = found.report.damage.first() {
        let error = Error::corrupt(format!("{doing}: {}", damage.what)).at(path);
        return Err(error.place(damage.segment, damage.offset));
    }
    let found = BackupEnd { position: found.position, last_seq: found.last_seq };
    if found != expected {
        let side = |end: BackupEnd| format!("a log up to entry {} at {}", end.last_seq, end.position);
        let error = Error::corrupt(format!("{doing}: what was backed up is not all there")).at(path);
        return Err(error
            .place(found.position.segment(), found.position.offset())
            .sides(side(expected), side(found)));
    }
    Ok(())
}

/// Wants to know only whether a log is whole.
struct Nobody;

impl Visitor for Nobody {
    fn enter(&mut self, _: &Arc<Segment>, _: u64, _: u64) -> Result<()> {
        Ok(())
    }

    fn frame(&mut self, _: Position, _: &Frame<'_>) -> Result<()> {
        Ok(())
    }
}

/// What was put into a directory.
struct Copied {
    segments: u64,
    linked: u64,
    bytes: u64,
    through: Option<Seq>,
}

/// A directory that was empty, and is nobody else's until it is a store.
struct Target<'a> {
    directory: Arc<dyn Directory>,
    lock: HeldLock,
    doing: &'static str,
    meter: &'a Meter<'a>,
    /// It was not there before.
    made: bool,
}

impl<'a> Target<'a> {
    fn take(source: &Path, target: &Path, doing: &'static str, meter: &'a Meter<'a>) -> Result<Self> {
        refuse_inside(source, target, doing)?;
        let failed = |e| Error::io(doing, e).at(target);
        let made = match std::fs::metadata(target) {
            Ok(found) if !found.is_dir() => {
                return Err(Error::new(ErrorKind::NotADirectory, doing).at(target));
            }
            Ok(_) => false,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                make_directory(target).map_err(failed)?;
                true
            }
            Err(error) => return Err(failed(error)),
        };
        let directory: Arc<dyn Directory> = Arc::new(PosixDirectory::open(target).map_err(failed)?);
        let is_empty = |may_be_there: &str| match directory
            .list()
            .map_err(failed)?
            .iter()
            .find(|entry| entry.name != may_be_there)
        {
            None => Ok(()),
            Some(name) => Err(Error::new(ErrorKind::AlreadyExists, doing)
                .at(target)
                .sides("an empty directory, or a new one", format!("a file named {:?}", name.name))),
        };
        // Nothing is put beside what somebody else has there, not even a lock.
        is_empty("")?;
        let lock = HeldLock::take(&*directory).inspect_err(|error| {
            if error.kind() != ErrorKind::Locked {
                let _ = directory.remove(lock_format::FILE_NAME);
                let _ = made.then(|| std::fs::remove_dir(target));
            }
        })?;
        is_empty(lock_format::FILE_NAME)?;
        Ok(Self { directory, lock, doing, meter, made })
    }

    /// Copies the log into it, reads what was copied, and last makes a store of it. What was put there is
    /// removed if that fails.
    fn fill(
        self,
        from: &dyn Directory,
        view: &View,
        how: How,
        manifest: impl FnOnce(BackupEnd) -> Manifest,
    ) -> Result<Copied> {
        let mut names = Vec::new();
        let filled = self.try_fill(from, view, how, manifest, &mut names);
        let release = || self.lock.release().map_err(|e| self.failed(e));
        let Err(error) = filled else { return release().and(filled) };
        // The manifest is the last of them, and goes first, so that no part of a store is left.
        let left = names.iter().rev().filter(|name| self.directory.remove(name).is_err());
        let left: Vec<&str> = left.map(String::as_str).collect();
        // What is told is the first error.
        let _ = release()
            .and_then(|()| self.directory.remove(lock_format::FILE_NAME).map_err(|e| self.failed(e)));
        if self.made {
            let _ = std::fs::remove_dir(self.directory.path());
        }
        if left.is_empty() {
            return Err(error);
        }
        let both = format!("{error}; and {left:?} could not be removed");
        Err(Error::new(error.kind(), self.doing).at(self.directory.path()).because(both))
    }

    fn try_fill(
        &self,
        from: &dyn Directory,
        view: &View,
        how: How,
        manifest: impl FnOnce(BackupEnd) -> Manifest,
        names: &mut Vec<String>,
    ) -> Result<Copied> {
        let (mut copied, position) = self.copy_log(from, view, how, names)?;
        copied.through = view.last_seq()?;
        let end = BackupEnd { position, last_seq: last_number(view)? };
        let manifest = manifest(end);
        // The names of the segments first: a manifest makes a store of them.
        self.directory.sync().map_err(|e| self.failed(e))?;
        self.check(from.path(), manifest.store, &manifest.compacted, end)?;
        if how.is_verified {
            self.verify(&manifest)?;
        }
        let life = Life(1);
        let compactions = manifest.compacted.parts_numbered;
        self.lock.announce(manifest.store, life, end.position, compactions).map_err(|e| self.failed(e))?;
        names.push(FILE_NAME.to_owned());
        write_manifest(&*self.directory, &manifest)?;
        self.directory.sync_parent().map_err(|e| self.failed(e))?;
        self.meter.end();
        Ok(copied)
    }

    /// Verifies what was copied under the manifest that it is to have.
    fn verify(&self, manifest: &Manifest) -> Result<()> {
        let (store, compacted) = (manifest.store, manifest.compacted.clone());
        let identity = Identity { store, manifest: Ok(manifest.clone()), compacted };
        let names = self.directory.list().map_err(|e| self.failed(e))?;
        let found = examine_as(&*self.directory, &names, identity, Check::Full, self.meter)?;
        // What holds the log is here alone, and a lock page that nobody has announced yet says nothing.
        let of_log = |severity| matches!(severity, Severity::Damage | Severity::Unread);
        let Some(first) = found.findings.iter().find(|finding| of_log(finding.severity)) else {
            return Ok(());
        };
        let doing = format!("{}: verify what was copied: {}", self.doing, first.what);
        let mut error = Error::corrupt(doing).at(self.directory.path().join(&first.file));
        if let Some(segment) = first.segment {
            error = error.place(segment, first.offset.unwrap_or(0));
        }
        let sides = first.expected.as_ref().zip(first.found.as_ref());
        Err(match sides {
            Some((expected, found)) => error.sides(expected, found),
            None => error,
        })
    }

    /// Reads every frame of what was copied, and keeps none of it. What is damaged there is so in the source.
    fn check(&self, source: &Path, store: StoreId, compacted: &Compacted, end: BackupEnd) -> Result<()> {
        let directory = &*self.directory;
        let chain = find_chain(directory, store, Purpose::Salvage, compacted, |_| false)?;
        let mut nobody = Nobody;
        let mut visitor = While::of(&mut nobody, self.meter, self.doing);
        let found = recover(directory, store, &chain, None, Purpose::Salvage, &mut visitor)?;
        is_whole(source, self.doing, end, &found)
    }

    /// Copies the log up to where a view ends; answers where the copy does.
    fn copy_log(
        &self,
        from: &dyn Directory,
        view: &View,
        how: How,
        names: &mut Vec<String>,
    ) -> Result<(Copied, Position)> {
        let mut copied = Copied { segments: 0, linked: 0, bytes: 0, through: None };
        // A mark at the start of a segment is one at the end of the segment before.
        let is_shown = |section: &&Arc<Section>| Position::new(section.number, FIRST_FRAME) <= view.mark;
        let sections: Vec<_> = view.catalog.sections.iter().filter(is_shown).collect();
        let mut bytes = 0;
        for section in &sections {
            bytes += section.open()?.segment.header.bytes;
        }
        self.meter.expect(bytes.saturating_mul(if how.is_verified { 3 } else { 2 }));
        let mut end = Position::ZERO;
        for (at, section) in sections.iter().enumerate() {
            let segment = &section.open()?.segment;
            let is_last = at + 1 == sections.len();
            let limit = segment.map.limit() as u64;
            let is_last = is_last && section.cover.is_none();
            let shown = if section.number == view.mark.segment() { view.mark.offset() } else { limit };
            let bytes = if is_last { before_a_seal(segment, shown) } else { shown };
            let name = file_name(segment.number());
            let is_on_disk = section.number < how.durable.segment();
            if how.by == BackupBy::Link && is_on_disk && !is_last {
                self.link(from, segment, &name)?;
                self.meter.add(segment.header.bytes);
                copied.linked += 1;
                names.push(name);
            } else {
                let file = self.directory.create(&name).map_err(|e| self.failed(e))?;
                names.push(name);
                self.copy_segment(from, segment, bytes, &*file)?;
            }
            copied.segments += 1;
            copied.bytes += bytes;
            end = segment.position(bytes);
        }
        Ok((copied, end))
    }

    fn link(&self, from: &dyn Directory, segment: &Segment, name: &str) -> Result<()> {
        // Of a copy of a store that some other program made nobody has synced what its words say.
        let synced = segment.file(from).and_then(|file| file.sync());
        synced.map_err(|e| Error::io("sync a segment", e).at(from.path().join(name)))?;
        let to = self.directory.path();
        from.link(name, to).map_err(|error| match error.kind() {
            std::io::ErrorKind::CrossesDevices | std::io::ErrorKind::Unsupported => {
                Error::new(ErrorKind::InvalidInput, "link a segment into the backup")
                    .at(to)
                    .sides("a directory in the store's own file system", "one in another")
            }
            _ => Error::io("link a segment into the backup", error).at(to.join(name)),
        })
    }

    /// A segment has the length that its header says; behind its end it is a hole.
    fn copy_segment(&self, from: &dyn Directory, segment: &Segment, end: u64, to: &dyn File) -> Result<()> {
        const PIECE: u64 = 1 << 20;
        let name = file_name(segment.number());
        let reading = |e| Error::io("read a segment", e).at(from.path().join(&name));
        let writing = |e| Error::io("copy a segment", e).at(self.directory.path().join(&name));
        let file = match segment.file(from) {
            Ok(file) => Some(file),
            // Who compacts in another process has removed it meanwhile; what is mapped is there still.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(reading(error)),
        };
        let mut piece = Vec::new();
        let mut at = 0;
        while at < end {
            let length = usize::try_from(PIECE.min(end - at)).unwrap_or(0);
            self.meter.check_goes_on(self.doing)?;
            piece.resize(length, 0);
            match &file {
                Some(file) => file.read_at(&mut piece, at).map_err(reading)?,
                None => piece.copy_from_slice(mapped(segment, at, length).ok_or_else(|| reading(gone()))?),
            }
            to.write_at(&piece, at).map_err(writing)?;
            at += length as u64;
            self.meter.add(length as u64);
        }
        self.meter.add(segment.header.bytes.saturating_sub(end));
        to.truncate(segment.header.bytes).and_then(|()| to.sync()).map_err(writing)
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::io(self.doing, error).at(self.directory.path())
    }
}

fn mapped(segment: &Segment, at: u64, length: usize) -> Option<&[u8]> {
    segment.map.slice_from(usize::try_from(at).ok()?)?.get(..length)
}

fn gone() -> std::io::Error {
    std::io::ErrorKind::NotFound.into()
}

/// Where a backup's last segment ends: behind a seal there would have to be another one.
fn before_a_seal(segment: &Segment, end: u64) -> u64 {
    if segment.is_sealed_at(end) { end - FRAME_BYTES as u64 } else { end }
}

#[cfg(test)]
#[cfg(not(miri))]
mod tests {
    use super::*;
    use crate::format::segment::SegmentHeader;
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
        let view = View::new(Arc::clone(&core.index), Position::new(1, first));
        let [backup, restored] = ["b", "c"].map(|name| directory.path().join(name));
        let how = How { by: BackupBy::Copy, is_verified: false, durable: Position::ZERO };
        let made =
            back_up(&*core.directory, &view, &core.manifest, &backup, how, &Meter::of(&|| true)).unwrap();
        assert_eq!(made.bytes, first - FRAME_BYTES as u64);
        restore(&backup, &restored).unwrap();
        let again = options.open(&restored).unwrap();
        assert_eq!(again.view().last_seq().unwrap(), made.through);
        again.append(Record::new(kind, b"k", b"on")).unwrap();
    }

    /// A descriptor that is opened for a backup is not told what the writer's own was told already: that the system could not
    /// write a segment. So nothing but the writer's word makes a second name of its file a backup.
    #[test]
    fn a_reader_links_what_its_writer_has_synced_and_copies_the_rest() {
        use crate::options::Durability;

        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let options = Options::new().segment_bytes(4096).background(false).durability(Durability::Os);
        let journal = options.open(path("a")).unwrap();
        let kind = journal.kind("note").unwrap();
        while journal.stats().segments < 6 {
            journal.append(Record::new(kind, b"k", &[7; 300])).unwrap();
        }
        let reader = Reader::open(path("a")).unwrap();
        let made = reader.backup(path("b"), BackupBy::Link).unwrap();
        assert_eq!((made.segments, made.linked), (6, 0));
        journal.sync().unwrap();
        let made = reader.backup(path("c"), BackupBy::Link).unwrap();
        assert_eq!((made.segments, made.linked), (6, 5));
        restore(path("b"), path("d")).unwrap();
        assert_eq!(Reader::open(path("d")).unwrap().view().unwrap().last_seq().unwrap(), made.through);
        journal.close().unwrap();
    }

    /// What each frame says by itself is not all that there is to be wrong.
    #[test]
    fn what_only_a_verification_sees_is_no_backup_where_one_is_asked_for() {
        use crate::format::frame::flag;
        use zerocopy::IntoBytes;

        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let journal = Options::new().segment_bytes(4096).background(false).open(path("a")).unwrap();
        let kind = journal.kind("note").unwrap();
        let at = journal.append(Record::new(kind, b"k", b"1")).unwrap();
        let position = journal.view().get(at.seq).unwrap().unwrap().position();
        journal.close().unwrap();
        // The entry does not begin a history any more, with checksums that match.
        let file = path("a").join(file_name(position.segment()));
        let mut bytes = std::fs::read(&file).unwrap();
        let length = bytes.len() as u64;
        let manifest = std::fs::read(path("a").join(FILE_NAME)).unwrap();
        let store = Manifest::read(&manifest).unwrap().store;
        let header = SegmentHeader::read(&bytes, store, position.segment(), length).unwrap();
        let at = usize::try_from(position.offset()).unwrap();
        let frame = Frame::parse(&bytes[at..]).unwrap();
        let flags = frame.header.flags() & !flag::FIRST;
        let moved = frame.header.moved(flags, frame.extensions(), header.salt, position);
        bytes[at..at + FRAME_BYTES].copy_from_slice(moved.as_bytes());
        std::fs::write(&file, bytes).unwrap();

        let reader = Reader::open(path("a")).unwrap();
        reader.backup_while(path("b"), BackupBy::Copy, || true).unwrap();
        let refused = reader.backup_verified_while(path("c"), BackupBy::Copy, || true).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
        assert_eq!(
            (refused.segment(), refused.offset()),
            (Some(position.segment()), Some(position.offset()))
        );
        assert!(refused.to_string().contains(&file_name(position.segment())), "{refused}");
        assert!(!path("c").exists(), "what is no backup is not left");
    }
}
