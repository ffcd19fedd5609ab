//! Numbers at their limits, in memory and on disk: an error, never a panic or a wrap.
//!
//! Bytes are changed with their checksums made right again, so that nothing but the meaning of
//! each number stands between them and the arithmetic.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::compact::policy::CompactOptions;
use crate::disk::memory::MemoryDirectory;
use crate::disk::{Access, Directory};
use crate::error::ErrorKind;
use crate::format::checksum;
use crate::format::compacted::Erasing;
use crate::format::frame::{FRAME_BYTES, Frame, flag};
use crate::format::header::{FileHeader, FileType, HEADER_BYTES};
use crate::format::segment::{SegmentHeader, file_name, part_number_of};
use crate::format::system::Keep;
use crate::id::{KindId, Life, PART, Position, SEQ_MAX, Seq};
use crate::journal::Journal;
use crate::journal::copying::EmptyTarget;
use crate::journal::finding::Check;
use crate::journal::onlooker::Meter;
use crate::journal::opening;
use crate::journal::reader::Reader;
use crate::journal::record::Record;
use crate::journal::region::Region;
use crate::journal::repair::salvage;
use crate::journal::subscriber::Start;
use crate::journal::subscriber::SubscribeOptions;
use crate::journal::verify::examine;
use crate::journal::verify::straight_tests::is_as_in_memory_in_one_size;
use crate::journal::view::View;
use crate::options::Options;

type Files = BTreeMap<String, Vec<u8>>;

fn options() -> Options {
    Options::new().segment_bytes(4096).background(false)
}

fn open(files: &Files) -> crate::error::Result<Journal> {
    let directory = Arc::new(MemoryDirectory::with(files.clone(), None));
    opening::open(directory, options()).map(Journal::of)
}

/// A closed store of a few segments.
fn files() -> Files {
    files_with(5, false)
}

/// One with parts, and segments behind them.
fn compacted_files() -> Files {
    files_with(5, true)
}

/// One whose idempotency keys need no index: each is opened when an entry is looked for.
fn files_without_keys() -> Files {
    files_with(u8::MAX, false)
}

/// Every so many batches have an idempotency key.
fn files_with(keyed: u8, is_compacted: bool) -> Files {
    let directory = Arc::new(MemoryDirectory::new());
    let journal = Journal::of(opening::open(Arc::clone(&directory) as _, options()).unwrap());
    let kind = journal.kind("note").unwrap();
    for n in 0..60_u8 {
        let (key, payload) = ([1 + n % 7], [n; 30]);
        let mut batch = journal.batch();
        if n % keyed == keyed - 1 {
            batch = batch.idempotency_key(crate::id::IdempotencyKey([n; 16]));
        }
        batch.push(Record::new(kind, &key, &payload));
        batch.push(Record::new(kind, b"shared", &payload));
        batch.commit().unwrap();
    }
    if is_compacted {
        compact_twice(&journal, kind);
    }
    journal.close().unwrap();
    let read = |name: &str| {
        let file = directory.open(name, Access::Read).unwrap();
        crate::disk::read_whole(&*file, 1 << 20).unwrap()
    };
    directory.list().unwrap().into_iter().map(|entry| (entry.name.clone(), read(&entry.name))).collect()
}

fn compact_twice(journal: &Journal, kind: KindId) {
    journal.keep(kind, Keep::Latest).unwrap();
    let other = journal.kind("two").unwrap();
    journal.append(Record::new(other, b"shared", b"x")).unwrap();
    for entries in [30, 3] {
        let done = journal.compact(&CompactOptions::new().thorough(true)).unwrap();
        assert!(done.parts_written > 0, "{done:?}");
        for n in 0..entries {
            journal.append(Record::new(kind, &[1 + n % 7], &[n; 100])).unwrap();
        }
    }
}

/// Reads from both ends and from the middle, each to its end. More steps than there are numbers
/// would be a loop that has none.
fn look(view: &View) {
    const STEPS: usize = 1000;
    let ends = |steps: usize| assert!(steps < STEPS, "no end after {steps} steps");
    ends(view.range(..).take(STEPS).count());
    ends(view.range(..).rev().take(STEPS).count());
    for seq in (1..130).chain([SEQ_MAX]).filter_map(Seq::new) {
        if let Ok(Some(entry)) = view.get(seq) {
            assert_eq!(entry.seq(), seq);
        }
        ends(view.range(seq..).take(2).count());
        ends(view.range(..=seq).rev().take(2).count());
    }
    for kind in [1, 2].map(KindId) {
        ends(view.kind(kind).take(STEPS).count());
        ends(view.kind(kind).rev().take(STEPS).count());
        for key in [&b"shared"[..], &[3]] {
            ends(view.entity(kind, key).take(STEPS).count());
            ends(view.entity(kind, key).rev().take(STEPS).count());
        }
    }
}

/// Reads as whoever is told of entries does.
fn follow(journal: &Journal) {
    let regions = [
        Region::all(),
        Region::kind(KindId(1)),
        Region::entity(KindId(1), "shared"),
        Region::prefix(KindId(1), "s"),
    ];
    for region in regions {
        let from_the_first = SubscribeOptions::new().from(Start::Oldest);
        if let Ok(mut subscriber) = journal.subscribe_with(region.clone(), from_the_first) {
            let _ = (0..400).find(|_| !matches!(subscriber.advance(), Ok(true)));
        }
        if let Ok(mut watcher) = journal.watch("w", region) {
            let _ = (0..400).find(|_| !matches!(watcher.advance(), Ok(true)));
        }
        let _ = journal.cursors();
        let _ = journal.retire_cursor("w");
    }
}

/// Drops whatever may be dropped.
fn compact(journal: &Journal) {
    let thorough = CompactOptions::new().thorough(true);
    let _ = journal.plan_compaction(&thorough);
    if let Some(kind) = journal.kinds().first() {
        let _ = journal.erase(kind.id, &[3]);
        let _ = journal.keep(kind.id, Keep::Nothing);
    }
    let _ = journal.compact(&thorough);
    look(&journal.view());
}

/// Whatever comes of it, it is an outcome.
fn survives(what: &str, files: &Files) {
    let tried = catch_unwind(AssertUnwindSafe(|| {
        if let Ok(journal) = open(files) {
            look(&journal.view());
            for kind in journal.kinds() {
                let _ = journal.latest(kind.id, b"shared");
                let _ = journal.append(Record::new(kind.id, b"shared", b"more"));
            }
            let _ = journal.kind("another");
            follow(&journal);
            compact(&journal);
            let _ = journal.stats();
            let _ = journal.close();
        }
        if let Ok(reader) = Reader::open_in(Arc::new(MemoryDirectory::with(files.clone(), None)))
            && let Ok(view) = reader.view()
        {
            look(&view);
        }
        let directory = MemoryDirectory::with(files.clone(), None);
        is_as_in_memory_in_one_size(&directory, what);
        let target = Arc::new(MemoryDirectory::new());
        let empty = EmptyTarget::on(Arc::clone(&target) as _, "repair").unwrap();
        if salvage(&directory, empty, &Meter::of(&|| true)).is_ok() {
            let found = examine(&*target, Check::Full).unwrap();
            assert_eq!(
                found.verdict,
                crate::journal::finding::Verdict::Valid,
                "repaired: {:#?}",
                found.findings
            );
        }
    }));
    assert!(tried.is_ok(), "{what}");
}

const EXTREMES: [u64; 8] = [0, 1, 0xff, 0xffff_fffe, 0xffff_ffff, SEQ_MAX + 1, u64::MAX - 1, u64::MAX];

fn put(bytes: &mut [u8], at: usize, width: usize, value: u64) {
    bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
}

fn mend_header(bytes: &mut [u8]) {
    let crc = checksum::crc(&[&bytes[..HEADER_BYTES - 4]]);
    put(bytes, HEADER_BYTES - 4, 4, u64::from(crc));
}

/// Makes the checksums of the frame at `at` right, if its lengths still fit.
fn mend_frame(bytes: &mut [u8], salt: u64, number: u32, at: usize) {
    let Some(frame) = Frame::parse(&bytes[at..]) else { return };
    let (length, extensions) = (frame.len(), frame.extensions().len());
    let life = Life(u32::from_le_bytes(bytes[at + 12..at + 16].try_into().unwrap()));
    let body = checksum::crc(&[&bytes[at + FRAME_BYTES + extensions..at + length]]);
    put(bytes, at + 48, 4, u64::from(body));
    let seed = checksum::seed(salt, life, Position::new(number, at as u64));
    let row = bytes[at + FRAME_BYTES..at + FRAME_BYTES + extensions].to_vec();
    let head = checksum::seeded(seed, &bytes[at..at + 52], &row);
    put(bytes, at + 52, 4, u64::from(head));
}

#[test]
fn every_number_of_a_frame_at_its_extremes_is_survived() {
    let files = files();
    let store = FileHeader::read(&files["MANIFEST"], FileType::Manifest).unwrap().store();
    for number in [1, 2] {
        let bytes = &files[&file_name(number)];
        let salt = SegmentHeader::read(bytes, store, number, bytes.len() as u64).unwrap().salt;
        change_frames(&files, number, salt, 5);
    }
}

#[test]
fn every_number_of_a_frame_in_a_part_at_its_extremes_is_survived() {
    let files = compacted_files();
    let parts = files.keys().filter_map(|name| part_number_of(name));
    for number in parts {
        let salt = FileHeader::read(&files[&file_name(number)], FileType::Part).unwrap().salt.get();
        change_frames(&files, number, salt, usize::MAX);
    }
}

/// Puts extremes into each field of the first frames of a file.
fn change_frames(files: &Files, number: u32, salt: u64, frames: usize) {
    // Offset and width: operation, key, metadata, lengths, kind, flags, life, seq, generation, time, durable.
    let fields =
        [(0, 1), (1, 1), (2, 2), (4, 4), (8, 2), (10, 2), (12, 4), (16, 8), (24, 8), (32, 8), (40, 8)];
    let name = file_name(number);
    let bytes = &files[&name];
    let mut at = HEADER_BYTES;
    let whole = |at: usize| Frame::parse(bytes.get(at..)?).filter(|frame| frame.header.operation != 0);
    for _ in 0..frames {
        let Some(frame) = whole(at) else { break };
        let payload_at = at + frame.len() - frame.payload().len().next_multiple_of(8);
        let in_payload = if frame.header.is_system() { frame.payload().len() / 8 } else { 0 };
        let payload = (0..in_payload).map(|word| (payload_at - at + word * 8, 8));
        for (offset, width) in fields.into_iter().chain(payload) {
            for value in EXTREMES {
                let mut changed = files.clone();
                let bytes = changed.get_mut(&name).unwrap();
                put(bytes, at + offset, width, value);
                mend_frame(bytes, salt, number, at);
                let what = format!("{name}, frame at {at}, field at {offset}: {value:#x}");
                // With the indexes the frame is found by them, without them it is read.
                survives(&what, &changed);
                changed.retain(|name, _| !name.ends_with(".idx"));
                survives(&what, &changed);
            }
        }
        at += frame.len();
    }
}

#[test]
fn every_number_of_a_header_at_its_extremes_is_survived() {
    for files in [files(), files_without_keys(), compacted_files()] {
        for (name, bytes) in &files {
            for at in (40..120).step_by(8) {
                let is = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
                // Near what it is, too: a number that could be true lets the most through.
                let near = [is.wrapping_sub(1), is.wrapping_add(1), is.wrapping_add(20)];
                for value in EXTREMES.into_iter().chain(near) {
                    let mut changed = files.clone();
                    let bytes = changed.get_mut(name).unwrap();
                    put(bytes, at, 8, value);
                    mend_header(bytes);
                    survives(&format!("{name}, header word at {at}: {value:#x}"), &changed);
                }
            }
            assert!(bytes.len() >= HEADER_BYTES);
        }
    }
}

#[test]
fn every_number_of_an_index_at_its_extremes_is_survived() {
    for files in [files(), compacted_files()] {
        for name in files.keys().filter(|name| name.ends_with(".idx")) {
            for at in (HEADER_BYTES..files[name].len()).step_by(4) {
                for value in [0, 1, 0xffff_ffff] {
                    let mut changed = files.clone();
                    let bytes = changed.get_mut(name).unwrap();
                    put(bytes, at, 4, value);
                    let crc = checksum::crc(&[&bytes[HEADER_BYTES..]]);
                    put(bytes, 56 + 7 * 8, 4, u64::from(crc));
                    mend_header(bytes);
                    survives(&format!("{name}, word at {at}: {value:#x}"), &changed);
                }
            }
        }
    }
}

#[test]
fn every_number_of_what_was_compacted_at_its_extremes_is_survived() {
    const NAME: &str = "MANIFEST";
    let files = compacted_files();
    for at in (HEADER_BYTES..files[NAME].len()).step_by(4) {
        let is = u32::from_le_bytes(files[NAME][at..at + 4].try_into().unwrap());
        let near = [is.wrapping_add(1), is.wrapping_sub(1), is.wrapping_add(20)];
        for value in [0, 1, 2, PART - 1, PART, u32::MAX].into_iter().chain(near) {
            let mut changed = files.clone();
            let bytes = changed.get_mut(NAME).unwrap();
            put(bytes, at, 4, u64::from(value));
            let crc = checksum::crc(&[&bytes[HEADER_BYTES..]]);
            put(bytes, 40 + 3 * 8, 8, u64::from(crc));
            mend_header(bytes);
            survives(&format!("{NAME}, word at {at}: {value:#x}"), &changed);
        }
    }
}

#[test]
fn a_manifest_that_could_not_be_read_is_not_written() {
    let directory = MemoryDirectory::with(compacted_files(), None);
    let mut manifest = opening::read_manifest(&directory).unwrap().unwrap();
    let before = manifest.compacted.clone();
    manifest.compacted.erasing = (0..2_000_000).map(|hash| Erasing { hash, through: 1 }).collect();
    let error = opening::write_manifest(&directory, &manifest).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
    assert_eq!(opening::read_manifest(&directory).unwrap().unwrap().compacted, before);
}

#[test]
fn a_segment_does_not_follow_itself() {
    let store = crate::id::StoreId([1; 16]);
    let header = |follows| {
        let header = SegmentHeader { number: 3, salt: 1, follows, bytes: 4096, created: 0 };
        SegmentHeader::read(zerocopy::IntoBytes::as_bytes(&header.encode(store)), store, 3, 4096)
    };
    assert!(header(Position::new(2, 0)).is_ok() && header(Position::ZERO).is_ok());
    for follows in [Position::new(3, 0), Position::new(4, 8), Position::from_word(u64::MAX)] {
        assert_eq!(header(follows).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn a_log_whose_numbers_are_used_up_refuses_to_append_and_stays_readable() {
    let journal = Journal::in_memory().unwrap();
    let kind = journal.kind("note").unwrap();
    journal.append(Record::new(kind, b"a", b"1")).unwrap();
    journal.core().writer.lock().last_seq = SEQ_MAX - 1;
    let mut batch = journal.batch();
    batch.push(Record::new(kind, b"a", b"2"));
    batch.push(Record::new(kind, b"b", b"2"));
    let error = batch.commit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
    let last = journal.append(Record::new(kind, b"a", b"last")).unwrap();
    assert_eq!(last.seq.get(), SEQ_MAX);
    let error = journal.append(Record::new(kind, b"a", b"3")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitReached);
    assert_eq!(journal.get(Seq::FIRST).unwrap().unwrap().payload(), b"1");
    const { assert!(flag::KNOWN & flag::MORE != 0) };
}

#[test]
fn segment_numbers_that_are_used_up_refuse_the_next_segment() {
    let journal = options().in_memory().unwrap();
    let kind = journal.kind("note").unwrap();
    journal.core().writer.lock().greatest = u32::MAX;
    let payload = [1; 400];
    let error = (0..20).find_map(|_| journal.append(Record::new(kind, b"a", &payload)).err()).unwrap();
    assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
    assert!(journal.stats().entries > 3);
    assert_eq!(journal.latest(kind, b"a").unwrap().unwrap().payload(), payload);
}
