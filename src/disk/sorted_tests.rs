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
    vec![n as u8; usize::try_from(n % 300).unwrap()]
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
        assert_eq!(sorter.runs.is_empty(), count < 50, "{count}");
        assert_eq!(all_of(sorter.sorted().unwrap()).unwrap(), expected(count), "{count}");
    }
}

#[test]
fn the_first_few_need_no_file_and_many_are_the_first_of_each_run() {
    for (most, is_in_memory) in [(0, true), (5, true), (1000, false)] {
        let sorter = sorter(5000, most);
        assert_eq!(sorter.runs.is_empty(), is_in_memory, "{most}");
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
            sorter.runs.beside.take_no_more();
        }
        sorter.push(mixed(n).into(), [&record(n), &[]]);
    }
    assert!(sorter.runs.runs.iter().any(|run| !run.in_memory.is_empty()));
    assert_eq!(all_of(sorter.sorted().unwrap()).unwrap(), expected(5000));
}

#[test]
fn a_page_that_did_not_come_back_is_no_answer() {
    let sorter = sorter(5000, usize::MAX);
    if sorter.runs.lose_a_page() {
        let error = sorter.sorted().and_then(all_of).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Io);
    }
}
