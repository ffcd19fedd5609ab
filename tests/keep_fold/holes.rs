//! Folds and consumers over topics of which damage took a part, so that a repair left a hole.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use esker::backplane::{Offset, ReadOnly};
use esker::{
    ConsumerHaltReason, ConsumerOptions, ConsumerState, Delivery, ErrorKind, Facts, Fold, FoldStatus,
    Freshness, HaltReason, Reader, Seq, Store, StreamFolds,
};

use crate::{
    First, NUMBERS, PATIENCE, Second, compact, fold, leave_the_segment, left, over, save, small, value,
};

/// Where segments are so small that they are many.
const NUMBERS_MAX: u64 = 400;

fn open(path: &Path) -> Store {
    over(small().open(path).unwrap())
}

fn append(store: &Store, numbers: Range<u64>) -> Vec<Offset> {
    let topic = store.topic(NUMBERS, [0]).unwrap();
    numbers.map(|n| topic.append(&n).unwrap()).collect()
}

/// The same as facts, which do not say by whom they are: only their places do.
fn append_facts(store: &Store, numbers: Range<u64>) -> Vec<Offset> {
    let facts = Facts::<u64>::new("number");
    let append = |n: u64| store.append(facts, [0], &n).unwrap();
    numbers.map(|n| Offset::from_raw(append(n).seq.get())).collect()
}

fn segment_of(store: &Store, offset: Offset) -> u32 {
    let seq = Seq::new(offset.raw()).unwrap();
    store.journal().view().get(seq).unwrap().unwrap().position().segment()
}

/// Closes a store, and repairs it without some of its segments.
fn repaired_without(store: Store, path: &Path, segments: &[u32]) -> Store {
    store.close().unwrap();
    drop(store);
    for segment in segments {
        fs::write(path.join(format!("{segment:010}.seg")), [0; 4096]).unwrap();
    }
    let target: PathBuf = path.with_extension("repaired");
    assert!(esker::repair(path, &target).unwrap().entries_lost > 0);
    open(&target)
}

type Append = fn(&Store, Range<u64>) -> Vec<Offset>;

/// A topic with a hole, alone in its log or beside another one; the numbers that are left.
fn with_a_hole(directory: &Path, is_alone: bool, append: Append) -> (Store, Vec<u64>) {
    let path = directory.join(if is_alone { "alone" } else { "beside" });
    let store = open(&path);
    if !is_alone {
        leave_the_segment(&store);
    }
    let offsets = append(&store, 0..NUMBERS_MAX);
    let hit = segment_of(&store, offsets[offsets.len() / 2]);
    assert!(segment_of(&store, offsets[0]) < hit && hit < segment_of(&store, offsets[offsets.len() - 1]));
    let store = repaired_without(store, &path, &[hit]);
    let rest = left(&store, 0);
    assert!(rest.len() < offsets.len() && rest[0] == 0 && rest.ends_with(&[NUMBERS_MAX - 1]), "{rest:?}");
    (store, rest)
}

fn kinds_of_logs() -> impl Iterator<Item = (bool, Append)> {
    [append as Append, append_facts].into_iter().flat_map(|append| [(true, append), (false, append)])
}

/// Where the hole is in what is left of numbers that were dense.
fn hole_in(rest: &[u64]) -> usize {
    rest.windows(2).position(|pair| pair[0] + 1 != pair[1]).unwrap() + 1
}

#[test]
fn a_fold_halts_before_a_hole_and_begins_behind_it_when_somebody_says_so() {
    for (is_alone, append) in kinds_of_logs() {
        let directory = tempfile::tempdir().unwrap();
        let (store, rest) = with_a_hole(directory.path(), is_alone, append);
        let topic = store.topic(NUMBERS, [0]).unwrap();
        let first = fold::<First>(&store, 0);
        let refused = first.read_after(topic.head().unwrap(), PATIENCE).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Halted, "{refused}");
        let found = first.read().unwrap();
        let FoldStatus::Halted(halt) = &found.status else { panic!("{:?}", found.status) };
        assert_eq!(halt.why, HaltReason::Gap, "{halt}");
        let (before, behind) = rest.split_at(hole_in(&rest));
        assert_eq!(found.value, before);
        drop(first);

        topic.begin_anew::<First>().unwrap();
        let first = fold::<First>(&store, 0);
        assert_eq!(first.read_after(topic.head().unwrap(), PATIENCE).unwrap().value, behind);
        assert_eq!(first.stats().begun_anew, 1);
        drop(first);
        let again = topic.begin_anew::<First>().unwrap_err();
        assert_eq!(again.kind(), ErrorKind::InvalidInput, "{again}");
        append(&store, NUMBERS_MAX..NUMBERS_MAX + 10);
        save::<First>(&store, 0);
        assert_eq!(
            value::<First>(&store, 0),
            [behind, &(NUMBERS_MAX..NUMBERS_MAX + 10).collect::<Vec<_>>()].concat()
        );
    }
}

#[test]
fn an_image_from_behind_a_hole_brings_a_fold_over_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    let store = open(&path);
    let offsets = append(&store, 0..NUMBERS_MAX);
    save::<First>(&store, 0);
    append(&store, NUMBERS_MAX..NUMBERS_MAX + 3);
    let hit = segment_of(&store, offsets[offsets.len() / 2]);
    let store = repaired_without(store, &path, &[hit]);
    assert!(left(&store, 0).len() < offsets.len());
    assert_eq!(value::<First>(&store, 0), (0..NUMBERS_MAX + 3).collect::<Vec<_>>());
}

#[test]
fn a_topic_of_which_the_beginning_is_lost_is_not_taken_for_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    let store = open(&path);
    leave_the_segment(&store);
    let offsets = append(&store, 0..NUMBERS_MAX);
    let middle = segment_of(&store, offsets[offsets.len() / 2]);
    let lost: Vec<u32> = (segment_of(&store, offsets[0])..middle).collect();
    let store = repaired_without(store, &path, &lost);
    let rest = left(&store, 0);
    assert!(rest[0] > 0 && rest.len() > 1, "{rest:?}");
    let topic = store.topic(NUMBERS, [0]).unwrap();
    let refused = fold::<First>(&store, 0).read_after(topic.head().unwrap(), PATIENCE).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Halted, "{refused}");
    topic.begin_anew::<First>().unwrap();
    assert_eq!(value::<First>(&store, 0), rest);
}

#[test]
fn a_consumer_halts_before_a_hole() {
    for (is_alone, append) in kinds_of_logs() {
        let directory = tempfile::tempdir().unwrap();
        let (store, rest) = with_a_hole(directory.path(), is_alone, append);
        let (tell, told) = std::sync::mpsc::channel();
        let handler = move |delivery: &Delivery<'_, u64>| Ok(tell.send(delivery.event)?);
        let topic = store.topic(NUMBERS, [0]).unwrap();
        let consumer = topic.on_event("ship", ConsumerOptions::new(), handler).unwrap();
        let begun = std::time::Instant::now();
        while !consumer.status().has_ended() {
            assert!(begun.elapsed() < PATIENCE && consumer.status().position < topic.head().unwrap());
            std::thread::yield_now();
        }
        let ConsumerState::Halted(halt) = consumer.status().state else { panic!("{consumer:?}") };
        assert_eq!(halt.why, ConsumerHaltReason::Gap, "{halt}");
        let before = &rest[..hole_in(&rest)];
        assert_eq!(told.try_iter().collect::<Vec<_>>(), before, "alone: {is_alone}");
    }
}

#[test]
fn a_projection_is_of_what_is_left_and_says_that_facts_are_missing() {
    let facts = Facts::<u64>::new("number");
    let project = |store: &Store| {
        store.journal().sync().unwrap();
        let view = store.view().project::<First>(facts, [0]).unwrap();
        let projection = store.project::<First>(facts, [0], Freshness::Consistent).unwrap();
        assert_eq!(view, projection);
        let mut watched = store.watch_projection_durable::<First>(facts, [0], None).unwrap();
        assert_eq!(watched.try_next().unwrap(), Some(view));
        (projection.value.unwrap(), projection.is_partial)
    };
    for (is_alone, append) in kinds_of_logs() {
        let directory = tempfile::tempdir().unwrap();
        let (store, mut rest) = with_a_hole(directory.path(), is_alone, append);
        assert_eq!(project(&store), (rest.clone(), true));
        append(&store, NUMBERS_MAX..NUMBERS_MAX + 1);
        rest.push(NUMBERS_MAX);
        assert_eq!(project(&store), (rest, true), "it stays so");
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    let store = open(&path);
    leave_the_segment(&store);
    let offsets = append_facts(&store, 0..NUMBERS_MAX);
    assert_eq!(project(&store), ((0..NUMBERS_MAX).collect(), false));
    let lost: Vec<u32> =
        (segment_of(&store, offsets[0])..segment_of(&store, offsets[offsets.len() / 2])).collect();
    let store = repaired_without(store, &path, &lost);
    let (value, is_partial) = project(&store);
    assert!(value[0] > 0 && is_partial, "the beginning is lost");
    // Of another entity nothing is.
    store.append(facts, [1], &7).unwrap();
    assert!(!store.project::<First>(facts, [1], Freshness::Consistent).unwrap().is_partial);
}

/// What compaction dropped of one entity is no reason to call the hole of another one compacted.
#[test]
fn a_projection_over_a_hole_behind_the_floor_of_its_kind_is_partial() {
    let facts = Facts::<u64>::new("number");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    let store = open(&path);
    append(&store, 0..40);
    save::<First>(&store, 0);
    leave_the_segment(&store);
    compact(&store);
    assert!(left(&store, 0).len() < 40, "the kind has a floor");
    let receipts: Vec<_> = (0..NUMBERS_MAX).map(|n| store.append(facts, [1], &n).unwrap()).collect();
    let hit = segment_of(&store, Offset::from_raw(receipts[receipts.len() / 2].seq.get()));
    let store = repaired_without(store, &path, &[hit]);
    let found = store.project::<First>(facts, [1], Freshness::Consistent).unwrap();
    let value = found.value.unwrap();
    assert!(found.is_partial && value[0] == 0 && value.ends_with(&[NUMBERS_MAX - 1]), "{value:?}");
    assert!(value.len() < receipts.len() && hole_in(&value) > 0);
}

/// Halts, and begins anew: once for all holes.
fn begins_anew_behind<F: Fold<State = Vec<u64>, Event = u64>>(store: &Store, rest: &[u64]) {
    let topic = store.topic(NUMBERS, [0]).unwrap();
    let refused = fold::<F>(store, 0).read_after(topic.head().unwrap(), PATIENCE).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Halted, "{refused}");
    topic.begin_anew::<F>().unwrap();
    assert_eq!(value::<F>(store, 0), rest);
    assert_eq!(topic.begin_anew::<F>().unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_fold_begins_anew_behind_the_last_of_several_holes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    let store = open(&path);
    let offsets = append(&store, 0..NUMBERS_MAX * 2);
    let hit = [1, 2].map(|third| segment_of(&store, offsets[offsets.len() * third / 3]));
    assert!(hit[0] + 1 < hit[1]);
    let store = repaired_without(store, &path, &hit);
    let rest = left(&store, 0);
    let last =
        rest.len() - rest.iter().rev().zip((0..NUMBERS_MAX * 2).rev()).take_while(|(a, b)| *a == b).count();
    assert!(hole_in(&rest) < last);
    begins_anew_behind::<First>(&store, &rest[last..]);
}

/// A store that dropped what two folds had seen, and kept for the second what it had not.
fn compacted(path: &Path) -> Store {
    let store = open(path);
    let topic = store.topic(NUMBERS, [0]).unwrap();
    append(&store, 0..100);
    save::<Second>(&store, 0);
    append(&store, 100..NUMBERS_MAX);
    save::<First>(&store, 0);
    leave_the_segment(&store);
    compact(&store);
    assert_eq!(left(&store, 0), (100..NUMBERS_MAX).collect::<Vec<_>>());
    assert_eq!(topic.read(Offset::BEGINNING).unwrap_err().kind(), ErrorKind::Lost);
    store
}

/// What is left of a topic, also where that has a hole.
fn all_left(store: &Store) -> Vec<u64> {
    let view = store.view();
    view.facts(Facts::<u64>::new("number")).map(|fact| fact.unwrap().value().unwrap()).collect()
}

#[test]
fn a_fold_begins_anew_behind_a_hole_in_what_came_behind_a_compaction() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    let store = compacted(&path);
    let offsets = append(&store, NUMBERS_MAX..NUMBERS_MAX * 2);
    let hit = segment_of(&store, offsets[offsets.len() / 2]);
    let store = repaired_without(store, &path, &[hit]);
    let rest = all_left(&store);
    let behind = &rest[hole_in(&rest)..];
    assert!(behind[0] > NUMBERS_MAX && behind.ends_with(&[NUMBERS_MAX * 2 - 1]));
    begins_anew_behind::<First>(&store, behind);
    begins_anew_behind::<Second>(&store, behind);
}

#[test]
fn a_fold_begins_anew_behind_a_hole_in_what_a_compaction_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    let store = compacted(&path);
    store.close().unwrap();
    drop(store);
    let is_part = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "snap");
    let mut files = fs::read_dir(&path).unwrap().map(|file| file.unwrap().path());
    let part = files.find(is_part).unwrap();
    let mut bytes = fs::read(&part).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let middle = end / 4;
    bytes[middle..middle + 300].fill(0);
    fs::write(&part, bytes).unwrap();
    let target = path.with_extension("repaired");
    assert!(!esker::repair(&path, &target).unwrap().damage.is_empty());
    let store = open(&target);
    let rest = all_left(&store);
    let behind = &rest[hole_in(&rest)..];
    begins_anew_behind::<Second>(&store, behind);
    // The first has an image from behind it.
    assert_eq!(value::<First>(&store, 0), (0..NUMBERS_MAX).collect::<Vec<_>>());
    let refused = store.topic(NUMBERS, [0]).unwrap().begin_anew::<First>().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused}");
}

/// Two images, of which the second one is of events that damage took; where these were, and how many are left.
fn with_an_image_of_what_is_lost(path: &Path) -> Store {
    let store = open(path);
    append(&store, 0..10);
    save::<First>(&store, 0);
    append(&store, 10..20);
    leave_the_segment(&store);
    let lost = append(&store, 20..40);
    let hit: Vec<u32> = (segment_of(&store, lost[0])..=segment_of(&store, lost[19])).collect();
    leave_the_segment(&store);
    save::<First>(&store, 0);
    leave_the_segment(&store);
    let store = repaired_without(store, path, &hit);
    assert_eq!(left(&store, 0), (0..20).collect::<Vec<_>>());
    store
}

#[test]
fn an_image_of_events_that_are_lost_lets_nothing_go_that_a_fold_needs() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_an_image_of_what_is_lost(&directory.path().join("a"));
    leave_the_segment(&store);
    compact(&store);
    assert_eq!(left(&store, 0), (10..20).collect::<Vec<_>>(), "the first image has the others");
    assert_eq!(value::<First>(&store, 0), (0..20).collect::<Vec<_>>());
}

#[test]
fn an_image_of_events_that_are_lost_is_not_gone_on_with_when_others_have_their_numbers() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_an_image_of_what_is_lost(&directory.path().join("a"));
    append(&store, 100..130);
    // Nor does who looks at what is written take it for one that can be used.
    store.journal().sync().unwrap();
    let reader = Reader::open(directory.path().join("a.repaired")).unwrap();
    let plane = ReadOnly::of(&reader).unwrap();
    let written = plane.topics("number").unwrap().next().unwrap().unwrap();
    let folds = StreamFolds::of(&plane, "number").unwrap();
    let found = folds.over(&plane, "number", &written).unwrap().remove(0);
    assert_eq!((found.image.unwrap().generation, found.unusable), (10, 1));
    leave_the_segment(&store);
    compact(&store);
    let all: Vec<u64> = (0..20).chain(100..130).collect();
    assert_eq!(left(&store, 0), all[10..]);
    assert_eq!(value::<First>(&store, 0), all);
    save::<First>(&store, 0);
    leave_the_segment(&store);
    compact(&store);
    assert_eq!(left(&store, 0), [129]);
    assert_eq!(value::<First>(&store, 0), all);
}
