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
        frame.generation = crate::id::Generation::new(1);
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
            generation: 1,
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
        for (room, top) in [(SUMMED_MAX, usize::MAX), (64, usize::MAX), (64, 10), (1, 0)] {
            let mut tally = EntityTally { room, ..EntityTally::of(&reader) };
            frames(ENTITIES).for_each(|frame| tally.see(&frame));
            tally.see(&FrameInfo::default());
            assert_eq!(tally.runs.is_empty(), room > 1000);
            let ranked = tally.ranked(order, top).unwrap();
            assert_eq!(ranked.entities(), ENTITIES);
            let ranked: Vec<EntitySum> = ranked.collect::<Result<_>>().unwrap();
            let mut all = expected(ENTITIES, rank);
            all.truncate(top);
            assert_eq!(ranked, all, "{order:?} {room} {top}");
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
        assert_eq!(count.runs.is_empty(), room > 1000);
        assert_eq!(count.end().unwrap(), 1000, "{room}");
    }
}
