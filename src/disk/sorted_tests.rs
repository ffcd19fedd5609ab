//! What was put in comes out in order, whole, and as often as it was put in.

use super::*;

/// Numbers that are all different, in no order.
fn mixed(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31)
}

fn all_of(mut merged: Merged) -> Result<Vec<(u128, Vec<u8>)>> {
    let mut all = Vec::new();
    while let Some((key, record)) = merged.next()? {
        all.push((key, record.to_vec()));
    }
    Ok(all)
}

fn record(n: u64) -> Vec<u8> {
    vec![n.to_le_bytes()[0]; usize::try_from(n % 300).unwrap()]
}

/// So many records in a sorter that has room for a few.
fn sorter(count: u64, most: usize) -> Sorter {
    let mut sorter = Sorter::with_room(10_000, most);
    (0..count).for_each(|n| sorter.push(mixed(n).into(), [&record(n), &[]]));
    sorter
}

fn expected(count: u64) -> Vec<(u128, Vec<u8>)> {
    let mut expected: Vec<_> = (0..count).map(|n| (u128::from(mixed(n)), record(n))).collect();
    expected.sort();
    expected
}

#[test]
fn records_come_in_the_order_of_their_keys_whether_they_fit_or_not() {
    for count in [0, 1, 20, 5000] {
        let sorter = sorter(count, usize::MAX);
        assert_eq!(sorter.tiers.is_empty(), count < 50, "{count}");
        assert_eq!(all_of(sorter.sorted().unwrap()).unwrap(), expected(count), "{count}");
    }
}

#[test]
fn the_first_few_need_no_file_and_many_are_the_first_of_each_run() {
    for (most, is_in_memory) in [(0, true), (5, true), (1000, false)] {
        let sorter = sorter(5000, most);
        assert_eq!(sorter.tiers.is_empty(), is_in_memory, "{most}");
        let mut found = all_of(sorter.sorted().unwrap()).unwrap();
        found.truncate(most);
        assert_eq!(found, expected(5000)[..most], "{most}");
    }
}

#[test]
fn what_is_of_one_key_stays_in_its_order() {
    let mut sorter = Sorter::with_room(2000, usize::MAX);
    (0..1000_u64).for_each(|n| sorter.push(u128::from(n % 7), [&n.to_le_bytes(), &[]]));
    let all = all_of(sorter.sorted().unwrap()).unwrap();
    let numbers = all.iter().map(|(key, record)| (*key, u64::from_le_bytes(record[..].try_into().unwrap())));
    let numbers: Vec<_> = numbers.collect();
    assert_eq!(numbers.len(), 1000);
    assert!(numbers.is_sorted());
}

#[test]
fn without_a_file_it_takes_the_memory_that_it_takes() {
    let mut sorter = Sorter::with_room(10_000, usize::MAX);
    for n in 0..5000 {
        // First there is room, then no more.
        if n == 2000 {
            sorter.tiers.takes_memory = true;
        }
        sorter.push(mixed(n).into(), [&record(n), &[]]);
    }
    let pieces = || sorter.tiers.runs.iter().flat_map(|run| &run.pieces);
    assert!(pieces().any(|piece| matches!(piece.place, Place::Memory(_))));
    assert_eq!(all_of(sorter.sorted().unwrap()).unwrap(), expected(5000));
}

#[test]
fn a_page_that_did_not_come_back_is_no_answer_also_for_those_who_ask_for_few() {
    for most in [usize::MAX, 200] {
        let sorter = sorter(5000, most);
        if sorter.tiers.lose_a_page() {
            let error = sorter.sorted().map(drop).unwrap_err();
            assert_eq!(error.kind(), crate::error::ErrorKind::Io);
            assert!(error.path().is_some(), "{error}");
        }
    }
}

#[test]
fn what_is_shown_before_a_piece_that_did_not_come_back_is_right() {
    let mut sorter = Sorter::with_room(1 << 20, usize::MAX);
    (0..20_000).for_each(|n| sorter.push(mixed(n).into(), [&record(n), &[]]));
    let run = &sorter.tiers.runs[0];
    assert!(run.pieces.len() > 2);
    if !run.room.lose(100, 2 * PIECE as u64) {
        return;
    }
    let (mut merged, expected) = (sorter.sorted().unwrap(), expected(20_000));
    let mut shown = 0;
    let failed = loop {
        match merged.next() {
            Ok(Some((key, record))) => assert_eq!((key, record), (expected[shown].0, &*expected[shown].1)),
            Ok(None) => break false,
            Err(_) => break true,
        }
        shown += 1;
    };
    assert!(failed && shown > 100, "{shown}");
}

#[test]
fn there_are_never_many_runs_and_those_of_one_key_are_joined_in_their_order() {
    let join: Join = |before, later| {
        // The number of records, and the last of them.
        let count = before.first().zip(later.first()).map(|(before, later)| before.wrapping_add(*later))?;
        before.copy_from_slice(later);
        *before.first_mut()? = count;
        Some(())
    };
    let mut tiers = Tiers::joined_by(join);
    for run in 0..200_u8 {
        let records: Vec<[u8; 2]> = (0..30).map(|_| [1, run]).collect();
        tiers.put_away((0..30).zip(&records).map(|(key, record)| (key, [&record[..], &[]])));
        assert!(tiers.runs.len() < 2 * TOGETHER && tiers.put_bytes() < 30 * 20 * 2 * TOGETHER as u64);
    }
    let all = all_of(tiers.merge([(7, [&[1, 250][..], &[]])].into_iter()).unwrap()).unwrap();
    let expected = |key| if key == 7 { vec![201, 250] } else { vec![200, 199] };
    assert_eq!(all, (0..30).map(|key| (key, expected(key))).collect::<Vec<_>>());
}

#[test]
fn runs_that_are_put_together_keep_what_is_asked_for() {
    for most in [usize::MAX, 300] {
        let mut sorter = Sorter::with_room(4000, most);
        (0..5000).for_each(|n| sorter.push(mixed(n).into(), [&record(n % 40), &[]]));
        assert!(sorter.tiers.runs.len() < 4 * TOGETHER, "{}", sorter.tiers.runs.len());
        let mut found = all_of(sorter.sorted().unwrap()).unwrap();
        found.truncate(most);
        let mut all: Vec<_> = (0..5000).map(|n| (u128::from(mixed(n)), record(n % 40))).collect();
        all.sort();
        all.truncate(most);
        assert_eq!(found, all);
    }
}
