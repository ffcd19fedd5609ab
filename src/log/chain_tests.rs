//! Which files are a log, what stands in between, and what those that only look make of a row with holes.
#![allow(clippy::single_range_in_vec_init, reason = "a list of one range of bytes")]

use crate::disk::Directory;
use crate::disk::refusing::Refusing;
use crate::error::ErrorKind;
use crate::format::compacted::{Compacted, Cover, Part};
use crate::format::index::{IndexParts, file_name as index_name};
use crate::format::segment::{FIRST_FRAME, file_name};
use crate::format::system::System;
use crate::id::{PART, Position};
use crate::log::chain::{Chain, find_chain};
use crate::log::recovery::recover;
use crate::log::recovery_tests::{
    LOOKING, Made, NEW, OLD, PURPOSES, STORE, Seen, chain_of, directory, look, lost, refusal, two,
};
use crate::log::visitor::{Covered, Purpose};

fn cover(first: u32, last: u32, follows: Position, (first_seq, last_seq): (u64, u64)) -> Cover {
    Cover { first, last, follows, first_seq, last_seq, part: None }
}

#[test]
fn a_chain_goes_on_below_covers_and_a_segment_behind_one_begins_with_its_last_number() {
    let follows = Position::new(1, 0);
    let covers = vec![cover(2, 3, follows, (4, 20)), cover(4, 4, Position::new(3, 0), (21, 30))];
    let compacted = Compacted { covers, ..Compacted::default() };
    let (first, left) = (two().0, Made::begin(3, Position::new(2, 0), 10));
    let last = Made::begin(5, Position::new(4, 0), 31).entry(31);
    for purpose in PURPOSES {
        let made = [&first, &left, &last];
        let chain = chain_of(&made, purpose, &compacted).unwrap();
        assert_eq!((&chain.live, &chain.dead, &chain.left), (&vec![1, 5], &vec![], &vec![3]), "{purpose:?}");
        assert_eq!((chain.greatest, chain.missing.len()), (5, 0));
        assert_eq!([1, 2, 5].map(|number| chain.seq_before(number)), [None, None, Some(30)]);
        assert_eq!(chain.limit(1), None);
        let mut seen = Seen::default();
        let end = recover(&directory(&made), STORE, &chain, None, purpose, &mut seen).unwrap();
        assert_eq!((end.position, end.last_seq), (last.end(), 31), "{purpose:?}");
        // Those that look at everything read parts, and these covers have none.
        let kept = if purpose == Purpose::Salvage { vec![] } else { vec![1, 1] };
        assert_eq!((seen.covers, seen.frames.len()), (kept, first.places.len() + 2), "{purpose:?}");
        assert_eq!(seen.entered.last(), Some(&(5, FIRST_FRAME, 30)), "{purpose:?}");
    }
    // Behind that one nothing stands in between, also where an index spares the walk what is below.
    let next = Made::begin(6, Position::new(5, 0), 32).entry(32);
    let sealed = last.clone().seal(31);
    let made = [&first, &sealed, &next];
    let chain = chain_of(&made, Purpose::Write, &compacted).unwrap();
    assert_eq!([5, 6].map(|number| chain.seq_before(number)), [Some(30), None]);
    let covered =
        Covered { segment: 1, end: first.at, last_seq: 3, last_life: OLD, last: Some(System::Seal) };
    for covered in [None, Some(covered)] {
        let end =
            recover(&directory(&made), STORE, &chain, covered, Purpose::Write, &mut Seen::default()).unwrap();
        assert_eq!((end.position, end.last_seq), (next.end(), 32));
    }
    // Nothing is left but a cover that begins behind the end of another life.
    let behind_an_end = cover(2, 3, first.at(3), (3, 20));
    let compacted = Compacted { covers: vec![behind_an_end], ..Compacted::default() };
    let last = Made::begin(4, Position::new(3, 0), 21).entry(21);
    let chain = chain_of(&[&first, &last], Purpose::Write, &compacted).unwrap();
    assert_eq!((chain.limit(1), chain.limit(4)), (Some(first.places[3]), None));
    let alone = chain_of(
        &[&last],
        Purpose::Write,
        &Compacted { covers: vec![cover(1, 3, Position::ZERO, (1, 20))], ..Compacted::default() },
    );
    assert_eq!(alone.unwrap().seq_before(4), Some(20));
}

#[test]
fn numbers_that_a_later_header_passes_over_are_dead_and_one_that_it_needs_is_missed() {
    let (first, second) = two();
    let third = Made::empty(4, second.end(), 4096).by(NEW).preamble(6, 0);
    let between = Made::empty(3, Position::new(2, 0), 4096);
    for purpose in PURPOSES {
        let chain = chain_of(&[&first, &second, &between, &third], purpose, &Compacted::default()).unwrap();
        assert_eq!((&chain.live, &chain.dead), (&vec![1, 2, 4], &vec![3]), "{purpose:?}");
        assert_eq!((chain.limit(2), chain.limit(1)), (Some(second.at), None));
        assert_eq!((chain.seq_before(4), chain.greatest), (None, 4));
    }
    let without = [&first, &third];
    let error = chain_of(&without, Purpose::Write, &Compacted::default()).unwrap_err();
    assert_eq!((error.segment(), error.is_corruption()), (Some(2), true), "{error}");
    let chain = chain_of(&without, Purpose::Read, &Compacted::default()).unwrap();
    assert_eq!((&chain.live, &chain.missing), (&vec![1, 4], &vec![(2, 4)]));
    let chain = chain_of(&without, Purpose::Salvage, &Compacted::default()).unwrap();
    assert_eq!((&chain.live, &chain.missing), (&vec![1, 2, 4], &vec![(2, 2)]));
}

#[test]
fn of_what_was_kept_those_who_look_at_everything_are_told_what_is_lost() {
    let part = Part { number: PART | 4, salt: 1, bytes: 4096, entries: 7 };
    let cover = Cover { part: Some(part), ..cover(1, 3, Position::ZERO, (1, 20)) };
    let compacted = Compacted { covers: vec![cover], ..Compacted::default() };
    let last = Made::begin(4, Position::new(3, 0), 21).entry(21);
    let chain = chain_of(&[&last], Purpose::Salvage, &compacted).unwrap();
    let mut seen = Seen::default();
    let end = recover(&directory(&[&last]), STORE, &chain, None, Purpose::Salvage, &mut seen).unwrap();
    assert_eq!(lost(&end), [(PART | 4, 0, 0, None, 1, 20)]);
    assert_eq!((seen.lost, end.last_seq, end.position), (end.report.damage, 21, last.end()));
}

/// An index of a segment up to there, with so many entries from a Seq on.
fn index_of(made: &Made, end: u64, first_seq: u64, entries: usize, salt: u64) -> Vec<u8> {
    let (offsets, members) = (vec![0; entries], vec![0; entries]);
    let last_life = Some(OLD);
    let number = made.number;
    IndexParts { number, salt, end, first_seq, last_life, offsets, members, ..IndexParts::default() }
        .encode(STORE)
}

fn put(directory: &dyn Directory, name: &str, bytes: &[u8]) {
    directory.create(name).unwrap().write_at(bytes, 0).unwrap();
}

#[test]
fn below_an_index_headers_are_not_read_where_each_segment_has_one_and_none_is_missing() {
    let (first, second) = two();
    let third = Made::begin(3, Position::new(2, 0), 6);
    let fourth = Made::begin(4, Position::new(3, 0), 6);
    let found = |second: &Made, indexed: &[u32], vouched| {
        let files = directory(&[&first, second, &third, &fourth]);
        indexed.iter().for_each(|number| put(&files, &index_name(*number), b"an index"));
        find_chain(&files, STORE, Purpose::Write, &Compacted::default(), |number| number <= vouched)
    };
    let bad = second.clone().with_byte(40, 0x55);
    assert_eq!(found(&bad, &[1, 2, 3], 3).unwrap().live, [1, 2, 3, 4]);
    assert!(found(&bad, &[2, 3], 3).unwrap_err().is_corruption(), "what is below has no index");
    assert!(found(&bad, &[1, 2, 3], 1).unwrap_err().is_corruption(), "nobody vouches for it");
    // Without an index of the one below, the header says where that one ends.
    let follows = Made::begin(2, first.at(3), 3);
    assert_eq!(found(&follows, &[2, 3], 3).unwrap().limit(1), Some(first.places[3]));
}

#[test]
fn an_index_above_all_segments_names_one_that_is_gone_for_those_who_write_nothing() {
    let (first, second) = two();
    let whole = [1, 2, 3];
    for (purpose, live) in
        [(Purpose::Write, &whole[..2]), (Purpose::Read, &whole), (Purpose::Salvage, &whole)]
    {
        let files = directory(&[&first, &second]);
        put(&files, &index_name(2), b"an index");
        let chain =
            |files: &dyn Directory| find_chain(files, STORE, purpose, &Compacted::default(), |_| false);
        assert_eq!(chain(&files).unwrap().live, [1, 2], "{purpose:?}");
        put(&files, &index_name(3), b"an index");
        assert_eq!(chain(&files).unwrap().live, live, "{purpose:?}");
        // What is no file is no segment; nobody writes beside it.
        let odd = Some(file_name(9));
        let refusing = Refusing { odd, ..Refusing::of(files, String::new(), Vec::new()) };
        match chain(&refusing) {
            Ok(chain) => assert_eq!((purpose, &chain.live[..]), (Purpose::Salvage, live)),
            Err(error) => assert!(error.is_corruption() && purpose != Purpose::Salvage, "{error}"),
        }
    }
}

#[test]
fn a_chain_of_one_segment_ends_it_where_that_was_said() {
    let chain = Chain::of_one(7, Ok(Some(640)), true);
    assert_eq!((&chain.live[..], chain.limit(7), chain.limit(6)), (&[7][..], Some(640), None));
    assert_eq!(Chain::of_one(7, Ok(None), false).limit(7), None);
}

#[test]
fn a_writer_goes_nowhere_without_the_headers_that_say_where() {
    let (first, second) = two();
    let third = Made::begin(3, Position::new(2, 0), 6);
    let bad = second.clone().seal(5).with_byte(40, 0x55);
    for made in [[&first, &second, &bad], [&first, &bad, &third]] {
        assert!(chain_of(&made, Purpose::Write, &Compacted::default()).unwrap_err().is_corruption());
        assert!(chain_of(&made, Purpose::Read, &Compacted::default()).is_ok());
    }
    // It was good when the chain was found, or there.
    let sealed = second.seal(5);
    let chain = chain_of(&[&first, &sealed, &third], Purpose::Write, &Compacted::default()).unwrap();
    let walk = |made: &[&Made], purpose| {
        recover(&directory(made), STORE, &chain, None, purpose, &mut Seen::default())
    };
    assert!(walk(&[&first, &bad, &third], Purpose::Write).unwrap_err().is_corruption());
    for purpose in [Purpose::Write, Purpose::Read] {
        assert!(walk(&[&first, &third], purpose).unwrap_err().is_not_found(), "{purpose:?}");
    }
    // Who looks at everything goes on.
    assert_eq!(lost(&walk(&[&first, &third], Purpose::Salvage).unwrap()), [(2, 0, 0, None, 4, 5)]);
    let gone = walk(&[&first, &sealed], Purpose::Salvage).unwrap();
    assert_eq!(lost(&gone), [(3, 0, 0, None, 6, 5)]);
    assert_eq!(gone.report.damage[0].what, "no such file, and segment 2 ends with a seal");
}

#[test]
fn the_newest_segment_is_lost_where_nothing_of_it_can_be_had() {
    let (first, second) = two();
    let zeros = Made::begin(3, Position::new(2, 0), 6).zeroed();
    for purpose in LOOKING {
        let (_, end) = look(&[&first, &second.clone().seal(5), &zeros], purpose);
        assert_eq!(lost(&end), [(3, 0, 0, None, 6, 5)], "{purpose:?}");
        assert!(!end.report.damage[0].what.contains("no such file"), "{purpose:?}: {:?}", end.report.damage);
    }
    // A newer one is no damage.
    let mut newer = second;
    newer.bytes[10] = 2;
    let crc = crate::format::checksum::crc(&[&newer.bytes[..124]]);
    newer.bytes[124..128].copy_from_slice(&crc.to_le_bytes());
    let files = directory(&[&first, &newer]);
    let chain = find_chain(&files, STORE, Purpose::Salvage, &Compacted::default(), |_| false).unwrap();
    let refused = recover(&files, STORE, &chain, None, Purpose::Salvage, &mut Seen::default());
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::FormatTooNew);
    assert_eq!(refusal(&[&first, &newer]).kind(), ErrorKind::FormatTooNew);
}

#[test]
fn what_an_index_says_is_gone_is_lost_and_that_of_another_segment_says_nothing() {
    let (first, second) = two();
    let bad = second.clone().rotten(2);
    let salt = u64::from(second.number) + 90;
    for (salt, is_its) in [(salt, true), (salt + 1, false)] {
        let files = directory(&[&first, &bad]);
        put(&files, &index_name(2), &index_of(&second, second.at, 4, 2, salt));
        let chain = find_chain(&files, STORE, Purpose::Salvage, &Compacted::default(), |_| false).unwrap();
        let end = recover(&files, STORE, &chain, None, Purpose::Salvage, &mut Seen::default()).unwrap();
        let at = second.places[2];
        let gone = if is_its { vec![(2, at, at, None, 5, 5)] } else { Vec::new() };
        assert_eq!(lost(&end), gone, "{is_its}");
        assert_eq!(end.report.ambiguous, !is_its);
    }
}

#[test]
fn how_much_was_lost_is_asked_of_later_segments_also_under_a_damaged_header() {
    let (first, second) = two();
    let empty = second.zeroed();
    let third = Made::begin(3, Position::new(2, 0), 9).entry(9).with_byte(40, 0x55);
    let (_, end) = look(&[&first, &empty, &third], Purpose::Salvage);
    assert_eq!(lost(&end)[0], (2, 0, 0, None, 4, 8));
    assert_eq!((end.last_seq, end.position), (9, third.end()));
}

#[test]
fn what_is_counted_behind_the_end_is_what_stands_behind_that_end() {
    let (first, second) = two();
    let third = Made::begin(3, Position::new(2, 0), 6).naming(second.end()).entry(6);
    let fourth = Made::begin(4, Position::new(3, 0), 7).entry(7);
    for purpose in LOOKING {
        let (_, end) = look(&[&first, &second.clone().rotten(2), &third, &fourth], purpose);
        assert_eq!((lost(&end).len(), end.position), (1, third.end()), "{purpose:?}");
        assert_eq!(
            (end.report.cut, end.report.valid_after_hole),
            (fourth.at - FIRST_FRAME, 2),
            "{purpose:?}"
        );
    }
    // Behind a clean end, and not behind a seal, or where the next segment follows.
    let covered = |made: &Made, last_seq, last| {
        Some(Covered { segment: made.number, end: made.at, last_seq, last_life: OLD, last })
    };
    let closed = second.clone().closed(5);
    let cases = [
        (vec![&first, &closed, &third], covered(&closed, 5, Some(System::Closed)), closed.end(), 2),
        (vec![&first, &second], covered(&first, 3, Some(System::Seal)), second.end(), 0),
    ];
    let follows = Made::begin(3, second.end(), 6);
    let cases = cases.into_iter().chain([(
        vec![&first, &second, &follows],
        covered(&second, 5, None),
        follows.end(),
        0,
    )]);
    for (made, covered, position, frames) in cases {
        let chain = chain_of(&made, Purpose::Write, &Compacted::default()).unwrap();
        let end = recover(&directory(&made), STORE, &chain, covered, Purpose::Write, &mut Seen::default());
        let end = end.unwrap();
        assert_eq!((end.position, end.report.valid_after_hole), (position, frames), "{position}");
        assert_eq!(end.report.cut > 0, frames > 0);
    }
}

#[test]
fn below_where_a_segment_ends_the_walk_goes_on_behind_damage() {
    let (first, second) = two();
    let bad = second.clone().rotten(1);
    let third = Made::empty(3, second.end(), 4096).by(NEW).preamble(6, 0);
    for purpose in LOOKING {
        let (_, end) = look(&[&first, &bad, &third], purpose);
        let (at, next) = (bad.places[1], bad.places[2]);
        assert_eq!(lost(&end), [(2, at, at, Some(next), 4, 4)], "{purpose:?}");
        assert_eq!((end.position, end.last_seq), (third.end(), 5), "{purpose:?}");
        // A log that ends with a seal was not closed.
        let sealed = second.clone().seal(5);
        assert!(!look(&[&first, &sealed], purpose).1.report.clean);
    }
    // Where no entry went, none is said to be lost.
    let mark = |made: Made| made.system(System::Mark, 5, &[]);
    let made = mark(second.clone());
    let named = made.end();
    let made = made.naming(named).entry(6).with_byte(second.at + 8, 0xff);
    assert_eq!(
        (refusal(&[&first, &made]).seqs(), refusal(&[&first, &made]).offset()),
        (None, Some(second.at))
    );
    // A preamble says what the next number is, also where a repair left some out.
    let made = second.preamble(10, 4).entry(10);
    assert_eq!(look(&[&first, &made], Purpose::Write).1.position, made.end());
}

#[test]
fn a_cache_that_cannot_be_passed_is_told_of_where_the_disk_was_asked_for() {
    let (first, second) = two();
    let files = || Refusing::of(directory(&[&first, &second]), file_name(2), Vec::new());
    let said = |refusing: &Refusing, purpose| {
        let chain = find_chain(refusing, STORE, purpose, &Compacted::default(), |_| false).unwrap();
        let end = recover(refusing, STORE, &chain, None, purpose, &mut Seen::default()).unwrap();
        assert_eq!(end.position, second.end());
        end.report.cache_not_verified
    };
    let only_a_cache = Refusing { has_only_a_cache: true, ..files() };
    assert_eq!(PURPOSES.map(|purpose| said(&only_a_cache, purpose)), [true, false, false]);
    assert_eq!(PURPOSES.map(|purpose| said(&files(), purpose)), [false; 3]);
    // What the device refuses of a tail ends a writer's walk.
    for is_cached in [false, true] {
        let broken = Refusing { refused: vec![0..0, 2048..2056], is_cached, ..files() };
        let chain = find_chain(&broken, STORE, Purpose::Write, &Compacted::default(), |_| false).unwrap();
        let refused = recover(&broken, STORE, &chain, None, Purpose::Write, &mut Seen::default());
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Io, "whatever the cache holds: {is_cached}");
    }
    // Of what stands behind the end, it is counted.
    let spare = Made::empty(3, Position::new(2, 0), 4096);
    let files = Refusing::of(directory(&[&first, &second, &spare]), file_name(3), vec![2048..2056]);
    let chain = find_chain(&files, STORE, Purpose::Salvage, &Compacted::default(), |_| false).unwrap();
    let end = recover(&files, STORE, &chain, None, Purpose::Salvage, &mut Seen::default()).unwrap();
    assert_eq!((end.report.unreadable, end.position), (4096, second.end()));
}
