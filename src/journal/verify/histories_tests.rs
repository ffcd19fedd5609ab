//! Histories that do not follow are found, each where it stands.

use std::sync::Arc;

use crate::disk::memory::MemoryDirectory;
use crate::format::frame::{FRAME_BYTES, Frame, FrameHeader};
use crate::format::header::FileHeader;
use crate::format::mend::mend_frame;
use crate::format::segment::{FIRST_FRAME, file_name};
use crate::id::Position;
use crate::journal::Journal;
use crate::journal::finding::{Check, Severity, Verdict};
use crate::journal::opening;
use crate::journal::record::Record;
use crate::journal::verify::straight_tests::{Files, PIECES, files_of, found};
use crate::options::Options;
use zerocopy::FromBytes;

/// A store with so many entries of three entities in one segment, in one batch, and no index.
fn store(entries: u8) -> Files {
    store_of(entries, entries)
}

/// The same in batches of so many.
fn store_of(entries: u8, together: u8) -> Files {
    let directory = Arc::new(MemoryDirectory::new());
    let options = Options::new().segment_bytes(64 << 10).background(false);
    let journal = Journal::of(opening::open(Arc::clone(&directory) as _, options).unwrap());
    let kind = journal.kind("note").unwrap();
    let keys: Vec<[u8; 1]> = (0..entries).map(|n| [n % 3 + 1]).collect();
    for keys in keys.chunks(usize::from(together)) {
        let mut batch = journal.batch();
        for key in keys {
            batch.push(Record::new(kind, key, b"payload"));
        }
        batch.commit().unwrap();
    }
    drop(journal);
    files_of(&directory)
}

/// What is done to the header of an entry, by its place in the log.
type Change = (usize, fn(&mut FrameHeader));

/// Changes the headers of entries, by their place in the log, as nothing but a bug does: their checksums are right.
/// Answers the offsets of all entries.
fn change(files: &mut Files, changes: &[Change]) -> Vec<u64> {
    let bytes = files.get_mut(&file_name(1)).unwrap();
    let salt = FileHeader::ref_from_prefix(bytes).unwrap().0.salt.get();
    let (mut at, mut entries) = (FIRST_FRAME, Vec::new());
    while let Some(frame) =
        Frame::parse(&bytes[usize::try_from(at).unwrap()..]).filter(|frame| frame.header.operation != 0)
    {
        let (length, is_system) = (frame.len(), frame.header.is_system());
        if !is_system {
            let place = entries.len();
            entries.push(at);
            let frame = &mut bytes[usize::try_from(at).unwrap()..];
            for (_, change) in changes.iter().filter(|(entry, _)| *entry == place) {
                change(FrameHeader::mut_from_bytes(&mut frame[..FRAME_BYTES]).unwrap());
                mend_frame(frame, salt, Position::new(1, at)).unwrap();
            }
        }
        at += length as u64;
    }
    entries
}

/// What is found of frames, as offset and text, in pieces of any size.
fn findings(files: Files) -> Vec<(u64, String)> {
    let directory = MemoryDirectory::with(files, None);
    let whole = found(&directory, Check::Full, None).unwrap();
    for piece in PIECES {
        assert_eq!(found(&directory, Check::Full, Some(piece)).as_ref(), Ok(&whole), "{piece:?}");
    }
    let is_damage = |severity| severity == Severity::Damage;
    assert_eq!(
        whole.verdict == Verdict::Invalid,
        whole.findings.iter().any(|found| is_damage(found.severity))
    );
    let damage = whole.findings.into_iter().filter(|found| is_damage(found.severity));
    damage.map(|found| (found.offset.unwrap_or_default(), found.what)).collect()
}

#[test]
fn a_history_that_does_not_follow_is_found_where_it_stands_and_in_the_order_of_the_log() {
    const HISTORY: &str = "an entity's history";
    const KIND: &str = "an entry's kind";
    // More than are judged together, and each change in another place among those.
    for entries in [40, 200] {
        let last = usize::from(entries) - 1;
        let mut files = store(entries);
        let changes: [Change; 4] = [
            (4, |header| header.generation.set(1)),
            (10, |header| header.kind.set(77)),
            (11, |header| header.generation.set(9)),
            (last, |header| header.generation.set(1)),
        ];
        let at = change(&mut files, &changes);
        assert_eq!(at.len(), usize::from(entries));
        let expected = [
            // It says that it is the first once more, and the next one that it is the third.
            (at[4], HISTORY),
            (at[7], HISTORY),
            // Of an entity that nobody knows; and one is missing from where it was.
            (at[10], KIND),
            (at[10], HISTORY),
            (at[11], HISTORY),
            (at[13], HISTORY),
            (at[14], HISTORY),
            (at[last], HISTORY),
        ];
        assert_eq!(findings(files), expected.map(|(at, what)| (at, what.to_owned())), "{entries} entries");
    }
}

#[test]
fn histories_that_follow_are_no_finding() {
    for entries in [1, 63, 64, 65, 129] {
        assert_eq!(findings(store(entries)), [], "{entries} entries");
    }
}

#[test]
fn a_history_is_judged_by_what_was_lost_before_it_and_not_by_what_was_lost_behind() {
    let mut files = store_of(30, 1);
    // Two are missing, which holes would explain; the hole is behind it.
    let at = change(&mut files, &[(9, |header| header.generation.set(6))]);
    let bytes = files.get_mut(&file_name(1)).unwrap();
    bytes[usize::try_from(at[15]).unwrap() + FRAME_BYTES] ^= 1;
    let found = findings(files);
    let history = (at[9], "an entity's history".to_owned());
    // What follows it takes up its number again.
    assert_eq!(found[..2], [history, (at[12], "an entity's history".to_owned())], "{found:?}");
    assert!(found.len() == 3 && found[2].0 == at[15], "{found:?}");
}
