//! Entities that do not fit in memory are counted and ranked as those that do.

use std::collections::HashMap;

use super::*;
use crate::journal::Journal;
use crate::journal::record::Record;

fn reader() -> (tempfile::TempDir, Reader) {
    let place = tempfile::tempdir().unwrap();
    let journal = Journal::open(place.path()).unwrap();
    journal.append(Record::new(journal.kind("note").unwrap(), b"a", b"one")).unwrap();
    journal.close().unwrap();
    let reader = Reader::open(place.path()).unwrap();
    (place, reader)
}

/// Entries of so many entities of two kinds, some of them written more often, in another order.
fn frames(entities: u64) -> impl Iterator<Item = FrameInfo> {
    let again = (0..entities).map(move |n| n * 7 % entities).filter(|n| n.is_multiple_of(3));
    (0..entities).chain(again).zip(1..).map(|(n, seq)| {
        let mut frame = FrameInfo::default();
        frame.kind = KindId::new(1 + u16::from(n.is_multiple_of(2)));
        frame.key = (n / 2).to_string().into_bytes();
        frame.seq = seq;
        frame.time = i64::try_from(seq).unwrap() * 1000;
        frame.frame_bytes = 100 + n % 10;
        frame.generation = Generation::new(1);
        frame
    })
}

fn expected(entities: u64, rank: impl Fn(&EntitySum) -> u64) -> Vec<EntitySum> {
    let mut sums: HashMap<(KindId, Vec<u8>), EntitySum> = HashMap::new();
    for frame in frames(entities) {
        let (kind, key) = (frame.kind.unwrap(), frame.key);
        let sum = sums.entry((kind, key.clone())).or_insert_with(|| EntitySum {
            kind,
            key,
            entries: 0,
            bytes: 0,
            generation: Generation::new(1),
            last_seq: 0,
            last_time: 0,
        });
        sum.entries += 1;
        sum.bytes += frame.frame_bytes;
        (sum.last_seq, sum.last_time) = (frame.seq, frame.time);
    }
    let mut sums: Vec<EntitySum> = sums.into_values().collect();
    sums.sort_by_key(|sum| std::cmp::Reverse((rank(sum), sum.last_seq)));
    sums
}

#[test]
#[cfg_attr(miri, ignore = "on a disk")]
fn entities_are_ranked_alike_whether_they_fit_or_not() {
    const ENTITIES: u64 = 1000;
    let (_place, reader) = reader();
    type Rank = fn(&EntitySum) -> u64;
    let orders: [(EntityOrder, Rank); 3] = [
        (EntityOrder::Entries, |sum| sum.entries),
        (EntityOrder::Bytes, |sum| sum.bytes),
        (EntityOrder::Last, |_| 0),
    ];
    for (order, rank) in orders {
        for (room, top) in [(SUMMED_MAX, None), (64, None), (64, Some(10)), (1, Some(0))] {
            let mut tally = EntityTally { room, ..EntityTally::of(&reader) };
            frames(ENTITIES).for_each(|frame| tally.see(&frame));
            tally.see(&FrameInfo::default());
            assert_eq!(tally.tiers.is_empty(), room > 1000);
            let ranked = tally.ranked(order, top).unwrap();
            assert_eq!(ranked.total(), ENTITIES);
            let ranked: Vec<EntitySum> = ranked.collect::<Result<_>>().unwrap();
            let mut all = expected(ENTITIES, rank);
            all.truncate(top.unwrap_or(usize::MAX));
            assert_eq!(ranked, all, "{order:?} {room} {top:?}");
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "on a disk")]
fn entities_are_counted_once_whether_they_fit_or_not() {
    let (_place, reader) = reader();
    for room in [COUNTED_MAX, 1001, 64, 1] {
        let mut count = EntityCount { room, ..EntityCount::of(&reader) };
        frames(1000).for_each(|frame| count.see(&frame));
        count.see(&FrameInfo::default());
        assert_eq!(count.tiers.is_empty(), room > 1000);
        assert_eq!(count.count().unwrap(), 1000, "{room}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "on a disk")]
fn a_page_that_a_disk_lost_is_an_error_and_not_the_end_of_the_list() {
    let (_place, reader) = reader();
    let sum = Sum::of(&frames(1).next().unwrap(), KindId(1));
    let record: Parts<'_> = [sum.as_bytes(), b"key"];
    let lists = [(record, true), (NOTHING, false)];
    for (record, is_one) in lists {
        let mut sorter = Sorter::with_room(1000, usize::MAX);
        sorter.push(1, record);
        let mut ranked = RankedEntities { sorted: sorter.sorted().unwrap(), total: 1, left: usize::MAX };
        assert_eq!(ranked.next().unwrap().is_ok(), is_one);
        assert!(ranked.next().is_none());
    }
    for (order, top) in [(EntityOrder::Last, None), (EntityOrder::Bytes, Some(3))] {
        let mut tally = EntityTally { room: 64, ..EntityTally::of(&reader) };
        frames(1000).for_each(|frame| tally.see(&frame));
        if tally.tiers.lose_a_page() {
            let ranked = tally.ranked(order, top).and_then(|ranked| ranked.collect::<Result<Vec<_>>>());
            assert_eq!(ranked.unwrap_err().kind(), crate::error::ErrorKind::Io);
        }
        let mut count = EntityCount { room: 64, ..EntityCount::of(&reader) };
        frames(1000).for_each(|frame| count.see(&frame));
        if count.tiers.lose_a_page() {
            assert_eq!(count.count().unwrap_err().kind(), crate::error::ErrorKind::Io);
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "on a disk")]
fn what_is_put_away_grows_with_entities_and_not_with_entries() {
    let (_place, reader) = reader();
    let mut tally = EntityTally { room: 64, ..EntityTally::of(&reader) };
    let mut count = EntityCount { room: 64, ..EntityCount::of(&reader) };
    let mut most = (0, 0);
    for _ in 0..500 {
        for frame in frames(200) {
            tally.see(&frame);
            count.see(&frame);
        }
        most = (most.0.max(tally.tiers.put_bytes()), most.1.max(count.tiers.put_bytes()));
    }
    // Each some twenty times.
    assert!(most.0 < 200 * 20 * 70, "{most:?}");
    assert!(most.1 < 200 * 20 * 18, "{most:?}");
    assert_eq!(count.count().unwrap(), 200);
    let sums: Vec<EntitySum> =
        tally.ranked(EntityOrder::Entries, None).unwrap().map(Result::unwrap).collect();
    assert_eq!(sums.len(), 200);
    assert_eq!(sums.iter().map(|sum| sum.entries).sum::<u64>(), 500 * frames(200).count() as u64);
}
