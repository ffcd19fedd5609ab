//! With room for few entities the same is found as with room for all, in the same order.

use std::cell::Cell;
use std::sync::Arc;

use zerocopy::{FromBytes, IntoBytes};

use crate::disk::memory::MemoryDirectory;
use crate::error::ErrorKind;
use crate::format::frame::{FRAME_BYTES, Frame, FrameHeader, flag};
use crate::format::header::{FileHeader, HEADER_BYTES};
use crate::format::index::{self as index_format, EntityHash, EntityRecord};
use crate::format::mend::{mend_file, mend_frame};
use crate::format::segment::{FIRST_FRAME, file_name};
use crate::id::{EntryAt, Position};
use crate::index::entities::Known;
use crate::journal::Journal;
use crate::journal::finding::{Check, Finding, Severity, Verdict, Verification};
use crate::journal::opening;
use crate::journal::record::Record;
use crate::journal::verify::histories::{Moment, ROOM};
use crate::journal::verify::put_away::{Met, Question, Runs, ranges};
use crate::journal::verify::straight_tests::{Files, files_of, found_with_room, without_places_in_indexes};
use crate::options::Options;

const ENTITIES: u32 = 40;
/// One, fewer than stand in a segment, one fewer than there are, as many, and more.
const ROOMS: [usize; 5] = [1, 7, 39, 40, 1000];

/// A closed store of many segments, in which each of the entities comes again and again.
fn store() -> Files {
    let directory = Arc::new(MemoryDirectory::new());
    let options = Options::new().segment_bytes(4096).background(false);
    let journal = Journal::of(opening::open(Arc::clone(&directory) as _, options).unwrap());
    let kind = journal.kind("note").unwrap();
    for n in 0..400_u32 {
        // Some entities come in each segment, and some in few.
        let entity = if n % 3 == 0 { n % 5 } else { n * 7 % ENTITIES };
        journal.append(Record::new(kind, &entity.to_le_bytes(), b"payload")).unwrap();
    }
    journal.close().unwrap();
    files_of(&directory)
}

/// Where the entries of a segment stand.
fn entries_of(bytes: &[u8]) -> Vec<u64> {
    let (mut at, mut entries) = (FIRST_FRAME, Vec::new());
    while let Some(frame) =
        Frame::parse(&bytes[usize::try_from(at).unwrap()..]).filter(|frame| frame.header.operation != 0)
    {
        if !frame.header.is_system() {
            entries.push(at);
        }
        at += frame.len() as u64;
    }
    entries
}

/// Changes the header of an entry of a segment, as nothing but a bug does: its checksums are right.
fn change(files: &mut Files, number: u32, entry: usize, change: impl Fn(&mut FrameHeader)) -> u64 {
    let bytes = files.get_mut(&file_name(number)).unwrap();
    let salt = FileHeader::ref_from_prefix(bytes).unwrap().0.salt.get();
    let at = entries_of(bytes)[entry];
    let frame = &mut bytes[usize::try_from(at).unwrap()..];
    change(FrameHeader::mut_from_bytes(&mut frame[..FRAME_BYTES]).unwrap());
    mend_frame(frame, salt, Position::new(number, at)).unwrap();
    at
}

fn set_first(header: &mut FrameHeader) {
    // The flags stand behind operation, lengths and kind.
    header.as_mut_bytes()[10] |= u8::try_from(flag::FIRST).unwrap();
}

/// Changes the index of a segment, likewise.
fn change_index(files: &mut Files, number: u32, change: impl Fn(&mut [EntityRecord])) {
    let bytes = files.get_mut(&index_format::file_name(number)).unwrap();
    let header = *FileHeader::ref_from_prefix(bytes).unwrap().0;
    let words = |at| usize::try_from(header.word(at)).unwrap();
    let start = HEADER_BYTES + words(2) * 2 * size_of::<u32>();
    let end = start + words(3) * size_of::<EntityRecord>();
    change(<[EntityRecord]>::mut_from_bytes(&mut bytes[start..end]).unwrap());
    mend_file(bytes);
}

/// What is found, the same with room for any number.
fn found(files: &Files) -> Verification {
    let directory = MemoryDirectory::with(files.clone(), None);
    let found = |room| found_with_room(&directory, Check::Full, None, room).unwrap();
    let whole = found(ROOM);
    for room in ROOMS {
        let (found, whole) = (found(room), whole.clone());
        assert_eq!(without_places_in_indexes(found), without_places_in_indexes(whole), "room for {room}");
    }
    whole
}

fn damage(found: &Verification) -> Vec<(u32, u64, &str)> {
    let is_damage = |finding: &&Finding| finding.severity == Severity::Damage;
    let place = |f: &Finding| (f.segment.unwrap_or_default(), f.offset.unwrap_or_default());
    let damage = found.findings.iter().filter(is_damage);
    damage.map(|finding| (place(finding).0, place(finding).1, &*finding.what)).collect()
}

#[test]
fn a_store_of_more_entities_than_there_is_room_for_is_valid_and_all_are_counted() {
    let files = store();
    assert!(files.keys().filter(|name| name.ends_with(".idx")).count() > 5, "{:?}", files.keys());
    let found = found(&files);
    assert_eq!((found.verdict, found.entities), (Verdict::Valid, u64::from(ENTITIES)), "{found:?}");
}

#[test]
fn histories_that_do_not_follow_across_segments_are_found_where_they_stand() {
    let mut files = store();
    // One that is too far, one that begins anew with the number that another has, and one that was there before.
    let expected = [
        (2, change(&mut files, 2, 3, |header| header.generation.set(header.generation.get() + 5))),
        (4, change(&mut files, 4, 0, set_first)),
        (6, change(&mut files, 6, 2, |header| header.generation.set(1))),
    ];
    let found = found(&files);
    assert_eq!(found.verdict, Verdict::Invalid);
    let damage = damage(&found);
    let is_found = |(number, at): &(u32, u64)| damage.contains(&(*number, *at, "an entity's history"));
    assert!(is_found(&expected[0]) && is_found(&expected[2]), "{damage:?}");
    // It is further than the one before, which is all that is asked of one that begins anew.
    assert!(!is_found(&expected[1]), "{damage:?}");
    assert!(damage.is_sorted(), "{damage:?}");
}

#[test]
fn entries_that_begin_a_history_anew_with_its_first_number_are_found_in_each_segment() {
    let mut files = store();
    let mut expected = Vec::new();
    for number in [3, 5, 7] {
        let at = change(&mut files, number, 1, |header| {
            header.generation.set(1);
            set_first(header);
        });
        expected.push((number, at, "an entity's history"));
    }
    let found = found(&files);
    let damage = damage(&found);
    assert!(expected.iter().all(|place| damage.contains(place)), "{damage:?}");
}

#[test]
fn an_index_that_names_another_segment_before_is_found_however_few_there_is_room_for() {
    for wrong in [0, 1, 3] {
        for at in [0, 2, 9] {
            let mut files = store();
            let named = Cell::new(0);
            change_index(&mut files, 5, |entities| {
                let at = at % entities.len();
                named.set(entities[at].previous_segment());
                entities[at].set_previous_segment(wrong);
            });
            let named = named.get();
            let found = found(&files);
            let index = index_format::file_name(5);
            let is_found = found.findings.iter().any(|finding| finding.file == index);
            assert_eq!(is_found, named != wrong, "{named} and {wrong}: {:?}", found.findings);
        }
    }
}

#[test]
fn what_is_found_of_the_directory_of_entities_is_the_same_however_few_there_is_room_for() {
    let files = store();
    // Of another moment: some entities have moved since.
    let mut older = files.clone();
    let directory = Arc::new(MemoryDirectory::with(files, None));
    let options = Options::new().segment_bytes(4096).background(false);
    let journal = Journal::of(opening::open(Arc::clone(&directory) as _, options).unwrap());
    let kind = journal.kind("note").unwrap();
    for n in 0..600_u32 {
        journal.append(Record::new(kind, &n.to_le_bytes(), b"payload")).unwrap();
    }
    journal.close().unwrap();
    let mut newer = files_of(&directory);
    assert_ne!(newer["entities"], older["entities"], "it was written anew");
    assert_eq!(found(&newer).verdict, Verdict::Valid);
    std::mem::swap(newer.get_mut("entities").unwrap(), older.get_mut("entities").unwrap());
    // It covers less, which is no mistake.
    assert_eq!(found(&newer).verdict, Verdict::Valid);
    // It covers more than there is.
    assert!(found(&older).findings.iter().any(|finding| finding.file == "entities"));
}

#[test]
fn runs_are_shown_side_by_side_by_ranges_of_hashes() {
    let question = |n: u64| Question {
        position: Position::new(3, 8 * n),
        generation: n,
        moment: Moment { findings: 4, runs: 1, questions: 5 },
        is_first: n.is_multiple_of(2),
        may_miss: n.is_multiple_of(3),
        is_indexed: n.is_multiple_of(5),
    };
    let hash = |n: u64| u128::from(n) << 120 | u128::from(n);
    let mut runs = Runs::default();
    for step in [1, 3, 50, 1000] {
        let mets = (0..256).step_by(step).map(|n| {
            let mut met = Met::asked(hash(n), &question(n));
            met.set_last(Known { generation: n + 1, newest: EntryAt::new(2, 9) });
            met
        });
        runs.add(&mets.collect::<Vec<_>>());
    }
    let mut seen: [Vec<u64>; 4] = Default::default();
    let last: Vec<u128> = ranges(7).collect();
    assert!(last.is_sorted() && last.len() == 7 && last.last() == Some(&u128::MAX));
    let mut before = 0;
    for until in last {
        for (run, seen) in seen.iter_mut().enumerate() {
            runs.show(run, until, 100, |met| {
                assert!((before..=until).contains(&met.hash()), "{:x}", met.hash());
                let asked = met.question(1).unwrap();
                assert_eq!(asked, question(asked.generation));
                assert_eq!(
                    met.last(),
                    Known { generation: asked.generation + 1, newest: EntryAt::new(2, 9) }
                );
                seen.push(asked.generation);
            })
            .unwrap();
        }
        before = until;
    }
    let all = |step| (0..256).step_by(step).collect::<Vec<u64>>();
    assert_eq!(seen, [all(1), all(3), all(50), all(1000)]);
    runs.check_that_all_came_back().unwrap();
    assert!(Met::judged(7).question(0).is_none());
    assert_eq!(ranges(1).collect::<Vec<_>>(), [u128::MAX]);
}

#[test]
fn what_does_not_come_back_as_it_was_put_away_is_an_error() {
    let put_away = || {
        let mut runs = Runs::default();
        runs.add(&[1, 2, 3].map(Met::judged));
        runs
    };
    let end = |mut runs: Runs| {
        runs.show(0, EntityHash::MAX, 100, |_| {}).unwrap();
        runs.check_that_all_came_back()
    };
    end(put_away()).unwrap();
    assert!(put_away().check_that_all_came_back().is_err(), "nothing was shown");
    let runs = put_away();
    if runs.lose_a_page() {
        assert_eq!(end(runs).unwrap_err().kind(), ErrorKind::Io);
    }
}

#[test]
fn an_index_of_the_first_versions_which_says_of_no_entity_its_kind_is_valid_and_a_mixture_is_not() {
    let unsaid = |leave: usize| {
        let mut files = store();
        change_index(&mut files, 5, |entities| {
            entities.iter_mut().take(leave).for_each(EntityRecord::leave_kind_unsaid);
        });
        found(&files).verdict
    };
    assert_eq!(unsaid(usize::MAX), Verdict::Valid);
    assert_ne!(unsaid(1), Verdict::Valid);
}
