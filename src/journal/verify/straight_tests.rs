//! What is read in pieces is what recovery sees, and what is found is the same, whatever is damaged.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::compact::policy::CompactOptions;
use crate::disk::memory::MemoryDirectory;
use crate::disk::{Access, Directory, read_whole};
use crate::error::{Error, Result};
use crate::format::checksum;
use crate::format::frame::Frame;
use crate::format::index::EntityHash;
use crate::format::system::Keep;
use crate::id::{KindId, Position, StoreId};
use crate::index::EntityHasher;
use crate::journal::Journal;
use crate::journal::finding::{Check, Verdict, Verification};
use crate::journal::identity::identify;
use crate::journal::opening;
use crate::journal::record::Record;
use crate::journal::verify::doors::examine_while;
use crate::journal::verify::histories::ROOM;
use crate::journal::verify::judge::Pieces;
use crate::journal::verify::straight::recover_in_pieces;
use crate::journal::verify::window::PIECE;
use crate::log::chain::{Chain, find_chain};
use crate::log::recovery::recover;
use crate::log::report::Damage;
use crate::log::segment::Segment;
use crate::log::visitor::{Covered, Purpose, Visitor};
use crate::options::Options;

pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// All that a visitor is told, in its order.
#[derive(Default)]
struct Seen {
    lines: Vec<String>,
    segment: u32,
    hasher: Option<EntityHasher>,
}

impl Visitor for Seen {
    fn enter(&mut self, segment: &Arc<Segment>, from: u64, last_seq: u64) -> Result<()> {
        // Recovery goes on with a segment that was begun.
        if std::mem::replace(&mut self.segment, segment.number()) != segment.number() {
            self.lines.push(format!("segment {} from {from}, last {last_seq}", segment.number()));
        }
        Ok(())
    }

    fn frame(&mut self, position: Position, frame: &Frame<'_>) -> Result<()> {
        self.lines.push(format!("{position}: {:?}", frame.to_bytes()));
        Ok(())
    }

    fn frame_of(&mut self, entity: Option<EntityHash>, position: Position, frame: &Frame<'_>) -> Result<()> {
        let expected = self.hasher.as_ref().map(|hasher| hasher.of_frame(frame));
        assert_eq!(Some(entity), expected, "{position}");
        self.frame(position, frame)
    }

    fn lost(&mut self, damage: &Damage) {
        self.lines.push(format!("{damage:?}"));
    }
}

pub(super) fn files_of(directory: &MemoryDirectory) -> Files {
    let read = |name: &str| read_whole(&*directory.open(name, Access::Read).unwrap(), 1 << 20).unwrap();
    directory.list().unwrap().into_iter().map(|entry| (entry.name.clone(), read(&entry.name))).collect()
}

/// A store of some segments that was opened twice; as it was before it was closed, and after.
fn stores() -> [Files; 2] {
    let directory = Arc::new(MemoryDirectory::new());
    let options = || Options::new().segment_bytes(4096).background(false);
    let open = || Journal::of(opening::open(Arc::clone(&directory) as _, options()).unwrap());
    let append = |journal: &Journal, from: u8| {
        let kind = journal.kind("note").unwrap();
        for n in from..from + 30 {
            let mut batch = journal.batch();
            let (key, payload) = ([1 + n % 7], [n; 30]);
            batch.push(Record::new(kind, &key, &payload));
            batch.push(Record::new(kind, b"shared", &payload[..3]));
            batch.commit().unwrap();
        }
    };
    let first = open();
    append(&first, 0);
    // Compaction keeps it.
    first.append(Record::new(KindId(1), b"once", b"kept")).unwrap();
    first.close().unwrap();
    let second = open();
    append(&second, 100);
    let in_use = files_of(&directory);
    second.close().unwrap();
    [in_use, files_of(&directory)]
}

/// The same, behind what compaction kept.
fn compacted() -> Files {
    let directory = Arc::new(MemoryDirectory::with(stores()[1].clone(), None));
    let options = Options::new().segment_bytes(4096).background(false);
    let journal = Journal::of(opening::open(Arc::clone(&directory) as _, options).unwrap());
    let kind = journal.kind("note").unwrap();
    journal.keep(kind, Keep::Latest).unwrap();
    let done = journal.compact(&CompactOptions::new().thorough(true)).unwrap();
    assert!(done.parts_written > 0, "{done:?}");
    for n in 0..40 {
        journal.append(Record::new(kind, &[1 + n % 7], &[n; 90])).unwrap();
    }
    files_of(&directory)
}

/// What is seen of a store, and where it is said to end.
fn seen(directory: &dyn Directory, piece: Option<Pieces>) -> Option<(Vec<String>, String)> {
    let identity = identify(directory, &directory.list().unwrap()).ok()?;
    let chain = find_chain(directory, identity.store, Purpose::Salvage, &identity.compacted, |_| false);
    let hasher = Some(EntityHasher::new(identity.store));
    let (chain, mut seen) = (chain.ok()?, Seen { hasher, ..Seen::default() });
    let end = match piece {
        Some(piece) => recover_in_pieces(directory, identity.store, &chain, None, piece, &mut seen),
        None => recover(directory, identity.store, &chain, None, Purpose::Salvage, &mut seen),
    };
    let end = match end {
        Ok(end) => {
            let report = (end.report.clean, end.report.cut, end.report.valid_after_hole);
            format!("{} {} {:?} {} {report:?}", end.position, end.last_seq, end.life, end.sealed)
        }
        Err(error) => error.to_string(),
    };
    Some((seen.lines, end))
}

/// What a verification says of a store that is read in such pieces, or in whole segments.
pub(super) fn found(
    directory: &dyn Directory,
    check: Check,
    piece: Option<Pieces>,
) -> Result<Verification, String> {
    found_with_room(directory, check, piece, ROOM)
}

/// The same, with room for so many entities.
pub(super) fn found_with_room(
    directory: &dyn Directory,
    check: Check,
    piece: Option<Pieces>,
    room: usize,
) -> Result<Verification, String> {
    let mut shown =
        |store: StoreId, chain: &Chain, covered: Option<Covered>, visitor: &mut dyn Visitor| match piece {
            Some(piece) => recover_in_pieces(directory, store, chain, covered, piece, visitor),
            None => recover(directory, store, chain, covered, Purpose::Salvage, visitor),
        };
    let found = examine_while(directory, check, &|| true, room, &mut shown);
    found.map_err(|error| error.to_string())
}

const NEVER: u64 = u64::MAX;

/// Fewer bytes than a header has, than a batch has, and more than any file here; ahead, and beside.
pub(super) const PIECES: [Pieces; 4] = [
    Pieces { bytes: 40, for_a_thread: 0, has_indexes: true },
    Pieces { bytes: 300, for_a_thread: NEVER, has_indexes: false },
    Pieces { bytes: PIECE, for_a_thread: 0, has_indexes: true },
    Pieces { bytes: PIECE, for_a_thread: NEVER, has_indexes: false },
];

/// Where in an index something is wrong is not always known while entities are put away.
pub(super) fn without_places_in_indexes(mut found: Verification) -> Verification {
    for finding in found.findings.iter_mut().filter(|finding| finding.file.ends_with(".idx")) {
        finding.offset = None;
    }
    found
}

/// Both say the same, to the last finding, in pieces of each size. Answers whether something was found to be wrong.
fn is_as_in_memory(directory: &dyn Directory, what: &str) -> bool {
    is_as_in_memory_in(&PIECES, directory, what)
}

/// The same in pieces of one size, which `what` draws: for who has thousands of them.
pub(crate) fn is_as_in_memory_in_one_size(directory: &dyn Directory, what: &str) -> bool {
    let drawn = checksum::crc(&[what.as_bytes()]) as usize % PIECES.len();
    is_as_in_memory_in(&PIECES[drawn..=drawn], directory, what)
}

fn is_as_in_memory_in(pieces: &[Pieces], directory: &dyn Directory, what: &str) -> bool {
    let mut is_wrong = false;
    for check in [Check::Quick, Check::Full] {
        let whole = found(directory, check, None);
        for piece in pieces {
            assert_eq!(found(directory, check, Some(*piece)), whole, "{what}: {check:?}, {piece:?}");
        }
        // There are more entities than that.
        let crowded = found_with_room(directory, check, None, 5).map(without_places_in_indexes);
        let expected = whole.clone().map(without_places_in_indexes);
        assert_eq!(crowded, expected, "{what}: {check:?}, with room for few entities");
        is_wrong |= whole.is_ok_and(|found| found.verdict != Verdict::Valid);
    }
    is_wrong
}

type Change = fn(&mut Vec<u8>, usize);

/// Changes a file as broken disks, crashes and people do.
const DAMAGE: [(&str, Change); 5] = [
    ("a bit", |bytes, at| bytes[at] ^= 0x10),
    ("zeros", |bytes, at| bytes.iter_mut().skip(at).take(64).for_each(|byte| *byte = 0)),
    ("noise", |bytes, at| {
        bytes.iter_mut().skip(at).take(300).for_each(|byte| *byte = byte.wrapping_mul(7) ^ 0xa5)
    }),
    ("zeros to the end", |bytes, at| bytes.iter_mut().skip(at).for_each(|byte| *byte = 0)),
    ("shorter", Vec::truncate),
];

#[test]
fn a_whole_store_is_read_in_pieces_to_its_end() {
    for files in stores() {
        let directory = MemoryDirectory::with(files, None);
        let whole = seen(&directory, None);
        assert!(whole.as_ref().unwrap().0.len() > 120);
        for piece in PIECES {
            assert_eq!(seen(&directory, Some(piece)), whole, "{piece:?}");
        }
    }
}

#[test]
fn what_is_read_in_pieces_is_what_recovery_sees() {
    const EVERY: usize = if cfg!(miri) { 4001 } else { 29 };
    for files in stores() {
        let segments = files.iter().filter(|(name, _)| name.ends_with(".seg"));
        for (name, bytes) in segments {
            let is_same = |changed: Files, what: &str| {
                let directory = MemoryDirectory::with(changed, None);
                let whole = seen(&directory, None);
                for piece in PIECES {
                    assert_eq!(seen(&directory, Some(piece)), whole, "{name}: {what}, {piece:?}");
                }
            };
            for at in (0..bytes.len()).step_by(EVERY) {
                let mut changed = files.clone();
                changed.get_mut(name).unwrap()[at] ^= 1;
                is_same(changed, &format!("offset {at}"));
            }
            let mut without = files.clone();
            without.remove(name);
            is_same(without, "missing");
        }
    }
}

#[test]
fn findings_in_pieces_are_those_of_whole_segments() {
    const EVERY: usize = if cfg!(miri) { 4001 } else { 83 };
    for files in stores().into_iter().chain([compacted()]) {
        assert!(!is_as_in_memory(&MemoryDirectory::with(files.clone(), None), "nothing changed"));
        for (name, bytes) in &files {
            let mut wrong = 0;
            for at in (0..bytes.len()).step_by(EVERY) {
                for (what, damage) in DAMAGE {
                    let mut changed = files.clone();
                    damage(changed.get_mut(name).unwrap(), at);
                    let directory = MemoryDirectory::with(changed, None);
                    let what = format!("{what} at {at} of {name}");
                    wrong += usize::from(is_as_in_memory_in_one_size(&directory, &what));
                }
            }
            assert!(wrong > 0 || !name.ends_with(".seg"), "nothing that was done to {name} was found");
        }
    }
}

#[test]
fn findings_in_pieces_are_those_of_whole_segments_where_files_are_not_what_they_were() {
    for files in stores().into_iter().chain([compacted()]) {
        let is_same =
            |changed: Files, what: &str| is_as_in_memory(&MemoryDirectory::with(changed, None), what);
        for (name, bytes) in &files {
            let mut without = files.clone();
            without.remove(name);
            is_same(without, &format!("without {name}"));
            let mut longer = files.clone();
            longer.get_mut(name).unwrap().extend_from_slice(bytes);
            is_same(longer, &format!("{name} is there twice over"));
            for other in files.keys().filter(|other| *other != name) {
                let mut instead = files.clone();
                instead.insert(other.clone(), bytes.clone());
                is_same(instead, &format!("{name} in place of {other}"));
            }
        }
    }
}

/// Says an error, or panics, when it was shown so many frames.
struct Ends {
    after: usize,
    with_a_panic: bool,
}

impl Visitor for Ends {
    fn enter(&mut self, _: &Arc<Segment>, _: u64, _: u64) -> Result<()> {
        Ok(())
    }

    fn frame(&mut self, _: Position, _: &Frame<'_>) -> Result<()> {
        self.after = match self.after.checked_sub(1) {
            Some(left) => left,
            None if self.with_a_panic => panic!("as a bug does"),
            None => return Err(Error::corrupt("look at a frame")),
        };
        Ok(())
    }
}

#[test]
fn whoever_ends_before_the_log_does_so_and_waits_for_nobody() {
    let directory = MemoryDirectory::with(stores()[1].clone(), None);
    let identity = identify(&directory, &directory.list().unwrap()).unwrap();
    let chain = find_chain(&directory, identity.store, Purpose::Salvage, &identity.compacted, |_| false);
    let chain = chain.unwrap();
    for piece in PIECES {
        for after in (0..120).step_by(7) {
            let shown = |with_a_panic| {
                let mut ends = Ends { after, with_a_panic };
                recover_in_pieces(&directory, identity.store, &chain, None, piece, &mut ends)
            };
            let error = shown(false).unwrap_err();
            assert!(error.to_string().contains("look at a frame"), "{piece:?}, {after}: {error}");
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| shown(true)));
            assert!(panicked.is_err(), "{piece:?}, {after}");
        }
    }
}

/// The store goes on as soon as the first frame is shown.
struct GoesOn<'a> {
    seen: Seen,
    directory: &'a MemoryDirectory,
    then: Option<Files>,
}

impl Visitor for GoesOn<'_> {
    fn enter(&mut self, segment: &Arc<Segment>, from: u64, last_seq: u64) -> Result<()> {
        self.seen.enter(segment, from, last_seq)
    }

    fn frame(&mut self, position: Position, frame: &Frame<'_>) -> Result<()> {
        for (name, bytes) in self.then.take().into_iter().flatten() {
            let file =
                self.directory.open(&name, Access::Write).or_else(|_| self.directory.create(&name)).unwrap();
            file.write_at(&bytes, 0).unwrap();
        }
        self.seen.frame(position, frame)
    }

    fn lost(&mut self, damage: &Damage) {
        self.seen.lost(damage);
    }
}

/// An index that comes while the end was judged, and not shown yet, is of more than what was judged.
#[test]
fn what_is_shown_is_no_less_than_what_an_index_knows_that_came_meanwhile() {
    let directory = Arc::new(MemoryDirectory::new());
    let options = Options::new().segment_bytes(4096).background(false);
    let journal = Journal::of(opening::open(Arc::clone(&directory) as _, options).unwrap());
    let kind = journal.kind("note").unwrap();
    let append = || {
        for n in 1..=5 {
            journal.append(Record::new(kind, &[n], b"payload")).unwrap();
        }
    };
    append();
    let before = files_of(&directory);
    append();
    journal.close().unwrap();
    let after = files_of(&directory);
    assert!(!before.contains_key("0000000001.idx") && after.contains_key("0000000001.idx"));
    let (expected, _) = seen(&MemoryDirectory::with(after.clone(), None), None).unwrap();
    for piece in PIECES {
        let directory = MemoryDirectory::with(before.clone(), None);
        let identity = identify(&directory, &directory.list().unwrap()).unwrap();
        let chain = find_chain(&directory, identity.store, Purpose::Salvage, &identity.compacted, |_| false);
        let mut visitor = GoesOn { seen: Seen::default(), directory: &directory, then: Some(after.clone()) };
        recover_in_pieces(&directory, identity.store, &chain.unwrap(), None, piece, &mut visitor).unwrap();
        assert_eq!(visitor.seen.lines, expected, "{piece:?}");
    }
}
