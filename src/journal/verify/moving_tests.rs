//! What is verified in pieces while a writer goes on, or while a disk refuses some of it, is found to be as it is
//! where whole segments are read.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::compact::policy::CompactOptions;
use crate::disk::map::{Map, MapWriter, SharedPage};
use crate::disk::memory::MemoryDirectory;
use crate::disk::{Access, Directory, File, FileSystem, Hold, Name, Through};
use crate::format::system::Keep;
use crate::journal::Journal;
use crate::journal::finding::{Check, Severity, Verdict};
use crate::journal::opening;
use crate::journal::record::Record;
use crate::journal::verify::judge::Pieces;
use crate::journal::verify::straight_tests::{Files, PIECES, files_of, found};
use crate::log::tail::{Source, Tail};
use crate::options::Options;

/// A directory that is as at one moment until it was read so often, and then as at another.
#[derive(Debug)]
struct Moving {
    moments: [MemoryDirectory; 2],
    reads: AtomicUsize,
    turn: usize,
    /// Of this file the disk refuses to read these bytes.
    refused: Option<(String, Range<u64>)>,
}

/// For those who want a directory.
#[derive(Debug)]
struct Seen(Arc<Moving>);

#[derive(Debug)]
struct SeenFile {
    moving: Arc<Moving>,
    name: String,
    opened: Arc<dyn File>,
}

impl Moving {
    fn of(moments: [&Files; 2], turn: usize) -> Self {
        let moments = moments.map(|files| MemoryDirectory::with(files.clone(), None));
        Self { moments, reads: AtomicUsize::new(0), turn, refused: None }
    }

    fn now(&self) -> &MemoryDirectory {
        &self.moments[usize::from(self.reads.load(Ordering::Relaxed) >= self.turn)]
    }
}

impl Directory for Seen {
    fn path(&self) -> &Path {
        self.0.now().path()
    }
    fn file_system(&self) -> FileSystem {
        self.0.now().file_system()
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.0.now().free_bytes()
    }
    fn list(&self) -> io::Result<Vec<Name>> {
        self.0.now().list()
    }
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let opened = self.0.now().open(name, access)?;
        Ok(Arc::new(SeenFile { moving: Arc::clone(&self.0), name: name.to_owned(), opened }))
    }
    fn create(&self, _: &str) -> io::Result<Arc<dyn File>> {
        unreachable!("who verifies makes nothing")
    }
    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        unreachable!("who verifies renames nothing")
    }
    fn remove(&self, _: &str) -> io::Result<()> {
        unreachable!("who verifies removes nothing")
    }
    fn link(&self, _: &str, _: &Path) -> io::Result<()> {
        unreachable!("who verifies links nothing")
    }
    fn sync(&self) -> io::Result<()> {
        unreachable!("who verifies syncs nothing")
    }
    fn hold(&self) -> io::Result<Option<Hold>> {
        unreachable!("who verifies holds nothing")
    }
    fn sync_parent(&self) -> io::Result<()> {
        unreachable!("who verifies syncs nothing")
    }
}

impl SeenFile {
    /// What is open stays as it was once it was removed.
    fn now(&self) -> Arc<dyn File> {
        self.moving.now().open(&self.name, Access::Read).unwrap_or_else(|_| Arc::clone(&self.opened))
    }

    /// An error if the disk refuses some of it.
    fn ask(&self, buffer: &[u8], offset: u64) -> io::Result<()> {
        let end = offset + buffer.len() as u64;
        let is_refused = |(name, range): &(String, Range<u64>)| {
            *name == self.name && offset < range.end && range.start < end
        };
        match self.moving.refused.as_ref().is_some_and(is_refused) {
            true => Err(ErrorKind::InvalidData.into()),
            false => Ok(()),
        }
    }
}

impl File for SeenFile {
    fn len(&self) -> io::Result<u64> {
        self.now().len()
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.ask(buffer, offset)?;
        let read = self.now().read_at(buffer, offset);
        self.moving.reads.fetch_add(1, Ordering::Relaxed);
        read
    }
    fn read_uncached(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.ask(buffer, offset)?;
        self.now().read_uncached(buffer, offset)
    }
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        unreachable!("who verifies writes nothing")
    }
    fn allocate(&self, _: u64) -> io::Result<()> {
        unreachable!("who verifies writes nothing")
    }
    fn truncate(&self, _: u64) -> io::Result<()> {
        unreachable!("who verifies writes nothing")
    }
    fn punch(&self, _: u64, _: u64) -> io::Result<()> {
        unreachable!("who verifies writes nothing")
    }
    fn next_data(&self, from: u64) -> io::Result<Option<u64>> {
        self.now().next_data(from)
    }
    fn next_hole(&self, from: u64) -> io::Result<u64> {
        self.now().next_hole(from)
    }
    fn sync(&self) -> io::Result<()> {
        unreachable!("who verifies syncs nothing")
    }
    fn map(&self, bytes: usize) -> io::Result<Map> {
        self.now().map(bytes)
    }
    fn map_for_writing(&self, _: usize, _: usize, _: Through) -> io::Result<(Arc<Map>, MapWriter)> {
        unreachable!("who verifies writes nothing")
    }
    fn share_page(&self, access: Access) -> io::Result<SharedPage> {
        self.now().share_page(access)
    }
    fn try_lock(&self) -> io::Result<bool> {
        unreachable!("who verifies locks nothing")
    }
    fn unlock(&self) -> io::Result<()> {
        unreachable!("who verifies locks nothing")
    }
    fn identity(&self) -> io::Result<(u64, u64)> {
        self.now().identity()
    }
}

/// Some pages.
const SEGMENT: u64 = 16 << 10;

/// A store in use, some segments later, and once it was compacted.
fn moments() -> [Files; 3] {
    let directory = Arc::new(MemoryDirectory::new());
    let options = Options::new().segment_bytes(SEGMENT).background(false);
    let journal = Journal::of(opening::open(Arc::clone(&directory) as _, options).unwrap());
    let kind = journal.kind("note").unwrap();
    let append = |from: u8| {
        for n in from..from + 100 {
            let mut batch = journal.batch();
            let (key, own, payload) = ([1 + n % 7], [n], [n; 90]);
            batch.push(Record::new(kind, &key, &payload));
            batch.push(Record::new(kind, &own, &payload[..9]));
            batch.commit().unwrap();
        }
    };
    append(0);
    let first = files_of(&directory);
    append(100);
    let second = files_of(&directory);
    journal.keep(kind, Keep::Latest).unwrap();
    let done = journal.compact(&CompactOptions::new().thorough(true)).unwrap();
    assert!(done.parts_written > 0 && done.segments_removed > 1, "{done:?}");
    let third = files_of(&directory);
    journal.close().unwrap();
    [first, second, third]
}

/// What is found wrong, whenever the second moment comes.
fn found_wrong(moments: [&Files; 2], check: Check, piece: Option<Pieces>) -> BTreeSet<String> {
    let mut wrong = BTreeSet::new();
    for turn in 0.. {
        let moving = Arc::new(Moving::of(moments, turn));
        match found(&Seen(Arc::clone(&moving)), check, piece) {
            Ok(found) if found.verdict == Verdict::Valid => {}
            Ok(found) => wrong.extend(found.findings.iter().map(|finding| format!("{finding:?}"))),
            Err(error) => wrong.extend([error]),
        }
        if moving.reads.load(Ordering::Relaxed) < turn {
            assert!(turn > 8, "all of it took {turn} reads");
            break;
        }
    }
    wrong
}

#[test]
fn a_store_that_grows_or_is_compacted_while_it_is_verified_is_valid() {
    let [first, second, third] = moments();
    for moments in [[&first, &second], [&second, &third]] {
        for check in [Check::Quick, Check::Full] {
            for piece in PIECES.map(Some).into_iter().chain([None]) {
                let wrong = found_wrong(moments, check, piece);
                assert!(wrong.is_empty(), "{check:?}, {piece:?}: {wrong:#?}");
            }
        }
    }
}

#[test]
fn what_a_disk_refuses_is_found_in_pieces_as_in_memory() {
    let [first, _, third] = moments();
    for files in [&first, &third] {
        for (name, bytes) in files {
            for page in (0..).step_by(4096).take_while(|at| *at < bytes.len() as u64) {
                let seen = |piece| {
                    let mut moving = Moving::of([files, files], 0);
                    moving.refused = Some((name.clone(), page..page + 4096));
                    found(&Seen(Arc::new(moving)), Check::Full, piece)
                };
                let whole = seen(None);
                for piece in PIECES {
                    assert_eq!(seen(Some(piece)), whole, "{name}, page at {page}, {piece:?}");
                }
                if name.ends_with(".seg") {
                    let found = whole.unwrap();
                    let is_unread = |severity| matches!(severity, Severity::Unread | Severity::Damage);
                    assert_ne!(found.verdict, Verdict::Valid, "{name}, page at {page}");
                    assert!(found.findings.iter().any(|finding| is_unread(finding.severity)));
                }
            }
        }
    }
}

#[test]
fn a_page_that_a_disk_refuses_is_not_read_and_nothing_is_called_damaged_for_it() {
    let [first, _, third] = moments();
    let mut tried = BTreeSet::new();
    for files in [&first, &third] {
        for (name, bytes) in files {
            let Some(end) = [".seg", ".snap"].into_iter().find(|end| name.ends_with(end)) else { continue };
            for page in (0..).step_by(4096).take_while(|at| *at < bytes.len() as u64) {
                let mut moving = Moving::of([files, files], 0);
                moving.refused = Some((name.clone(), page..page + 4096));
                let found = found(&Seen(Arc::new(moving)), Check::Full, None).unwrap();
                let shown = format!("{name}, page at {page}: {:#?}", found.findings);
                assert_eq!(found.verdict, Verdict::Incomplete, "{shown}");
                let mut unread = found.findings.iter().filter(|finding| finding.severity == Severity::Unread);
                assert!(unread.any(|it| (&it.file, it.offset) == (name, Some(page))), "{shown}");
                tried.insert(end);
            }
        }
    }
    assert_eq!(tried.len(), 2, "{tried:?}");
}

#[test]
fn a_tail_of_which_a_disk_refuses_a_page_is_an_error_and_not_an_end() {
    let [files, ..] = moments();
    let (name, bytes) = files.iter().find(|(name, _)| name.ends_with(".seg")).unwrap();
    for source in [Source::Disk, Source::Cache] {
        let mut moving = Moving::of([&files, &files], 0);
        moving.refused = Some((name.clone(), 0..4096));
        let file = Seen(Arc::new(moving)).open(name, Access::Read).unwrap();
        let read = Tail::default().read(&*file, 0, bytes.len() as u64, source);
        assert_eq!(read.unwrap_err().kind(), ErrorKind::InvalidData, "{source:?}");
    }
}
