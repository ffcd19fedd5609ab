//! Projections: what a fold comes to, asked for and followed. The oracle is a plain fold over what
//! was appended.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use esker::{
    At, Durability, ErrorKind, Facts, Fold, Freshness, Options, Projection, ProjectionOptions, Simulator,
    Store, Until,
};
use proptest::prelude::*;

const NOTES: Facts<u64> = Facts::new("note");
const TEXTS: Facts<String> = Facts::new("note");
const LONG: Duration = Duration::from_secs(30);

/// Order matters to it, and every fact, once.
struct Chain;

impl Fold for Chain {
    type State = Vec<u64>;
    type Event = u64;
    const NAME: &'static str = "chain";
    const VERSION: u32 = 1;

    fn fold(chain: &mut Vec<u64>, event: u64, at: &At) {
        chain.extend([event, at.seq.get(), at.generation.get()]);
    }
}

/// Only every third generation concerns it.
struct Thirds;

impl Fold for Thirds {
    type State = u64;
    type Event = u64;
    const NAME: &'static str = "thirds";
    const VERSION: u32 = 1;

    fn fold(sum: &mut u64, event: u64, _: &At) {
        *sum += event;
    }

    fn relevant(at: &At) -> bool {
        at.generation.get().is_multiple_of(3)
    }
}

fn told<S>(projection: &Projection<S>) -> u64 {
    projection.generation.map_or(0, |generation| generation.get())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_remembered_comes_to_the_same_as_the_whole_history(
        steps in proptest::collection::vec((0_u8..4, any::<u8>(), any::<bool>()), 1..120)
    ) {
        let store = Store::over(Options::new().segment_bytes(4096).background(false).in_memory().unwrap());
        let mut plain: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
        for (seq, (entity, value, asks)) in (1_u64..).zip(steps) {
            let value = u64::from(value);
            let receipt = store.append(NOTES, [b'k', entity], &value).unwrap();
            plain.entry(entity).or_default().extend([value, seq, receipt.generation.get()]);
            if asks {
                let asked = store.project::<Chain>(NOTES, [b'k', entity], Freshness::Consistent).unwrap();
                prop_assert_eq!(asked.generation, Some(receipt.generation));
                prop_assert_eq!(asked.value.as_ref(), plain.get(&entity));
            }
        }
        let view = store.view();
        for (entity, chain) in &plain {
            let asked = store.project::<Chain>(NOTES, [b'k', *entity], Freshness::Consistent).unwrap();
            prop_assert_eq!(asked.value.as_ref(), Some(chain));
            prop_assert_eq!(view.project::<Chain>(NOTES, [b'k', *entity]).unwrap(), asked);
        }
    }
}

#[test]
fn a_value_may_be_as_old_as_is_allowed_and_no_older() {
    let store = Store::in_memory().unwrap();
    let project = |freshness| store.project::<Chain>(NOTES, "a", freshness).unwrap();
    let nothing = project(Freshness::Consistent);
    assert_eq!((nothing.generation, nothing.value), (None, None));
    store.append(NOTES, "a", &1).unwrap();
    let hour = Freshness::MaybeStale(Duration::from_secs(3600));
    assert_eq!(told(&project(hour)), 1, "there was nothing to remember");
    store.append(NOTES, "a", &2).unwrap();
    assert_eq!(told(&project(hour)), 1);
    assert_eq!(told(&project(Freshness::MaybeStale(Duration::ZERO))), 2);
    store.append(NOTES, "a", &3).unwrap();
    assert_eq!(told(&project(Freshness::Consistent)), 3);
}

#[test]
fn more_values_than_are_remembered_are_still_right() {
    let store = Store::over(Options::new().durability(Durability::Os).background(false).in_memory().unwrap());
    for round in 1..=2 {
        for n in 0..6000_u64 {
            store.append(NOTES, n.to_le_bytes(), &n).unwrap();
            let asked = store.project::<Chain>(NOTES, n.to_le_bytes(), Freshness::Consistent).unwrap();
            assert_eq!((told(&asked), asked.value.unwrap()[0]), (round, n));
        }
    }
}

#[test]
fn a_fact_that_does_not_concern_the_fold_gives_its_generation_and_the_value_that_there_was() {
    let store = Store::in_memory().unwrap();
    let mut thirds = store.watch_projection::<Thirds>(NOTES, "a").unwrap();
    let values = [(1, None), (2, None), (3, Some(30)), (4, Some(30)), (5, Some(30)), (6, Some(90))];
    for (generation, value) in values {
        store.append(NOTES, "a", &(generation * 10)).unwrap();
        let next = thirds.next_timeout(LONG).unwrap().unwrap();
        assert_eq!((told(&next), next.value), (generation, value));
        assert!(thirds.try_next().unwrap().is_none(), "told once");
        let asked = store.project::<Thirds>(NOTES, "a", Freshness::Consistent).unwrap();
        assert_eq!((told(&asked), asked.value), (generation, value));
    }
    store.append(NOTES, "b", &1).unwrap();
    assert!(thirds.try_next().unwrap().is_none(), "another entity is none of its business");
}

#[test]
fn what_comes_between_the_value_and_the_watch_is_told_once_and_nothing_older_ever() {
    let store = Store::in_memory().unwrap();
    let nothing = store.project::<Chain>(NOTES, "a", Freshness::Consistent).unwrap();
    store.append(NOTES, "a", &1).unwrap();
    let known = |generation| ProjectionOptions::new().known(generation);
    let mut first = store.watch_projection_with::<Chain>(NOTES, "a", known(nothing.generation)).unwrap();
    let one = first.try_next().unwrap().unwrap();
    assert_eq!((told(&one), one.value.unwrap()), (1, vec![1, 1, 1]));
    assert!(first.try_next().unwrap().is_none());

    let baseline = store.project::<Chain>(NOTES, "a", Freshness::Consistent).unwrap();
    store.append(NOTES, "a", &2).unwrap();
    store.append(NOTES, "a", &3).unwrap();
    let mut raced = store.watch_projection_with::<Chain>(NOTES, "a", known(baseline.generation)).unwrap();
    assert_eq!(told(&raced.try_next().unwrap().unwrap()), 3, "both at once");
    assert!(raced.try_next().unwrap().is_none());

    let current = store.project::<Chain>(NOTES, "a", Freshness::Consistent).unwrap();
    let mut equal = store.watch_projection_with::<Chain>(NOTES, "a", known(current.generation)).unwrap();
    assert!(equal.try_next().unwrap().is_none(), "an equal generation is no news");
    let mut plain = store.watch_projection::<Chain>(NOTES, "a").unwrap();
    assert!(plain.try_next().unwrap().is_none());
    store.append(NOTES, "a", &4).unwrap();
    for watcher in [&mut equal, &mut plain] {
        let next = watcher.try_next().unwrap().unwrap();
        assert_eq!((told(&next), next.value.unwrap().len()), (4, 12));
    }
}

#[test]
fn it_ends_with_the_log_and_is_disconnected_only_where_that_was_asked_for() {
    let store = Store::in_memory().unwrap();
    let strict = ProjectionOptions::new().disconnect_behind(2);
    let mut strict = store.watch_projection_with::<Chain>(NOTES, "a", strict).unwrap();
    let mut patient = store.watch_projection::<Chain>(NOTES, "a").unwrap();
    let mut guaranteed = store.watch_projection_durable::<Chain>(NOTES, "a", None).unwrap();
    for n in 0..100 {
        store.append(NOTES, "a", &n).unwrap();
    }
    let mut idle = store.watch_projection::<Chain>(NOTES, "a").unwrap();
    let lagged = strict.try_next().unwrap_err();
    assert_eq!(lagged.kind(), ErrorKind::Lagged);
    assert_eq!(strict.try_next().unwrap_err().kind(), ErrorKind::Lagged);
    store.close().unwrap();
    assert_eq!(told(&patient.next().unwrap().unwrap()), 100, "what came before the end is told first");
    assert_eq!(told(&guaranteed.next().unwrap().unwrap()), 100);
    assert_eq!(patient.next().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(guaranteed.next().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(idle.try_next().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_watch_keeps_no_store_open_and_is_stopped_from_another_thread() {
    let disk = Simulator::new();
    let store = Store::over(Options::new().open_in(&disk).unwrap());
    store.append(NOTES, "a", &1).unwrap();
    let mut watch = store.watch_projection::<Chain>(NOTES, "a").unwrap();
    let stopper = watch.stopper();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| watch.next().unwrap());
        stopper.stop();
        assert!(waiting.join().unwrap().is_none());
    });
    let mut watch = store.watch_projection::<Chain>(NOTES, "a").unwrap();
    drop(store);
    assert_eq!(watch.next().unwrap_err().kind(), ErrorKind::Closed);
    Options::new().open_in(&disk).unwrap();
}

#[test]
fn under_a_name_it_goes_on_behind_its_checkpoint_with_the_whole_value() {
    let disk = Simulator::new();
    let open = || Store::over(Options::new().background(false).open_in(&disk).unwrap());
    let store = open();
    store.append(NOTES, "a", &1).unwrap();
    store.append(NOTES, "b", &9).unwrap();
    let mut watch = store.watch_projection_durable::<Chain>(NOTES, "a", Some("view of a")).unwrap();
    assert_eq!(told(&watch.next().unwrap().unwrap()), 1, "what is there already");
    watch.checkpoint().unwrap();
    store.append(NOTES, "a", &2).unwrap();
    assert_eq!(told(&watch.next().unwrap().unwrap()), 2);
    // Not checkpointed: it comes again.
    drop(watch);
    store.close().unwrap();
    let store = open();
    let mut watch = store.watch_projection_durable::<Chain>(NOTES, "a", Some("view of a")).unwrap();
    let again = watch.next().unwrap().unwrap();
    assert_eq!((told(&again), again.value.unwrap()), (2, vec![1, 1, 1, 2, 3, 2]));
    watch.checkpoint().unwrap();
    drop(watch);
    let mut watch = store.watch_projection_durable::<Chain>(NOTES, "a", Some("view of a")).unwrap();
    assert!(watch.try_next().unwrap().is_none());
    drop(watch);
    let other = store.watch_projection_durable::<Chain>(NOTES, "b", Some("view of a")).unwrap_err();
    assert_eq!(other.kind(), ErrorKind::CursorMismatch);
    let mut unnamed = store.watch_projection_durable::<Chain>(NOTES, "a", None).unwrap();
    assert_eq!(told(&unnamed.next().unwrap().unwrap()), 2);
    assert_eq!(unnamed.checkpoint().unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn what_cannot_be_folded_is_told_again_and_again_and_never_passed_over() {
    let store = Store::in_memory().unwrap();
    store.append(NOTES, "a", &1).unwrap();
    let mut lossy =
        store.watch_projection_with::<Chain>(NOTES, "a", ProjectionOptions::new().known(None)).unwrap();
    let mut named = store.watch_projection_durable::<Chain>(NOTES, "a", Some("n")).unwrap();
    assert_eq!((told(&lossy.next().unwrap().unwrap()), told(&named.next().unwrap().unwrap())), (1, 1));
    let bad = store.append(TEXTS, "a", &"no number".to_owned()).unwrap();
    for _ in 0..3 {
        for error in [lossy.try_next().unwrap_err(), named.try_next().unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Codec, "{error}");
            assert_eq!(error.seqs(), Some(bad.seq.get()..=bad.seq.get()));
        }
        let error = store.project::<Chain>(NOTES, "a", Freshness::Consistent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Codec);
    }
    named.checkpoint().unwrap();
    let cursor = &store.journal().cursors().unwrap()[0];
    assert_eq!((cursor.seq.map(u64::from), cursor.behind), (Some(1), 1), "the bad one was not seen");
}

static FAILS: AtomicBool = AtomicBool::new(false);

/// Panics while `FAILS`, half way through.
struct Shaky;

impl Fold for Shaky {
    type State = Vec<u64>;
    type Event = u64;
    const NAME: &'static str = "shaky";
    const VERSION: u32 = 1;

    fn fold(chain: &mut Vec<u64>, event: u64, _: &At) {
        chain.push(event);
        assert!(!FAILS.load(Ordering::Relaxed), "half way through");
        chain.push(event);
    }
}

#[test]
fn a_fold_that_panics_leaves_nothing_half_done() {
    let store = Store::in_memory().unwrap();
    let project = || store.project::<Shaky>(NOTES, "a", Freshness::Consistent).unwrap();
    store.append(NOTES, "a", &1).unwrap();
    let mut lossy =
        store.watch_projection_with::<Shaky>(NOTES, "a", ProjectionOptions::new().known(None)).unwrap();
    let mut named = store.watch_projection_durable::<Shaky>(NOTES, "a", Some("n")).unwrap();
    assert_eq!(project().value.unwrap(), [1, 1]);
    assert_eq!(named.try_next().unwrap().unwrap().value.unwrap(), [1, 1]);
    store.append(NOTES, "a", &2).unwrap();
    FAILS.store(true, Ordering::Relaxed);
    assert!(catch_unwind(AssertUnwindSafe(project)).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| lossy.try_next())).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| named.try_next())).is_err());
    named.checkpoint().unwrap();
    assert_eq!(store.journal().cursors().unwrap()[0].behind, 1, "it was not dealt with");
    FAILS.store(false, Ordering::Relaxed);
    assert_eq!(project().value.unwrap(), [1, 1, 2, 2]);
    assert_eq!(lossy.try_next().unwrap().unwrap().value.unwrap(), [1, 1, 2, 2]);
    let next = named.try_next().unwrap().unwrap();
    assert_eq!((told(&next), next.value.unwrap()), (2, vec![1, 1, 2, 2]));
}

#[test]
fn what_a_failed_sync_takes_back_is_taken_out_of_a_remembered_value() {
    let disk = Simulator::new();
    let options = Options::new().durability(Durability::Os).background(false);
    let store = Store::over(options.open_in(&disk).unwrap());
    store.append(NOTES, "a", &1).unwrap();
    store.sync().unwrap();
    let visible = ProjectionOptions::new().until(Until::Visible);
    let mut watch = store.watch_projection_with::<Chain>(NOTES, "a", visible).unwrap();
    store.append(NOTES, "a", &2).unwrap();
    assert_eq!(told(&store.project::<Chain>(NOTES, "a", Freshness::Consistent).unwrap()), 2);
    disk.fail_sync_after(0);
    assert_eq!(store.sync().unwrap_err().kind(), ErrorKind::Poisoned);
    let left = store.project::<Chain>(NOTES, "a", Freshness::Consistent).unwrap();
    assert_eq!((told(&left), left.value.unwrap()), (1, vec![1, 1, 1]));
    assert_eq!(watch.try_next().unwrap_err().kind(), ErrorKind::Poisoned);
}

#[test]
fn what_was_folded_before_a_bad_fact_is_told_and_taken_back_with_the_rest() {
    let disk = Simulator::new();
    let options = Options::new().durability(Durability::Os).background(false);
    let store = Store::over(options.open_in(&disk).unwrap());
    let mut lossy = store.watch_projection::<Chain>(NOTES, "a").unwrap();
    let mut named = store.watch_projection_durable::<Chain>(NOTES, "b", Some("n")).unwrap();
    for key in ["a", "b"] {
        store.append(NOTES, key, &1).unwrap();
    }
    store.sync().unwrap();
    for key in ["a", "b"] {
        store.append(NOTES, key, &2).unwrap();
        store.append(TEXTS, key, &"no number".to_owned()).unwrap();
    }
    let newest = lossy.try_next().unwrap().unwrap();
    assert_eq!((told(&newest), newest.value.unwrap().len()), (2, 6), "the good ones, and then the bad one");
    assert_eq!(lossy.try_next().unwrap_err().kind(), ErrorKind::Codec);
    assert_eq!(told(&named.try_next().unwrap().unwrap()), 1, "what is durable");
    let project = |freshness| store.project::<Chain>(NOTES, "a", freshness);
    assert_eq!(project(Freshness::Consistent).unwrap_err().kind(), ErrorKind::Codec);
    disk.fail_sync_after(0);
    assert_eq!(store.sync().unwrap_err().kind(), ErrorKind::Poisoned);
    let hour = Freshness::MaybeStale(Duration::from_secs(3600));
    for freshness in [hour, Freshness::Consistent, hour] {
        assert_eq!(project(freshness).unwrap().value.unwrap(), [1, 1, 1]);
    }
}

/// Panics at a three, once.
struct NotThree;

static THREES: AtomicBool = AtomicBool::new(true);

impl Fold for NotThree {
    type State = Vec<u64>;
    type Event = u64;
    const NAME: &'static str = "not three";
    const VERSION: u32 = 1;

    fn fold(chain: &mut Vec<u64>, event: u64, _: &At) {
        assert!(event != 3 || !THREES.load(Ordering::Relaxed), "three");
        chain.push(event);
    }
}

#[test]
fn what_nobody_was_told_of_before_a_panic_is_no_part_of_a_checkpoint_and_is_waited_for_in_a_set() {
    let store = Store::in_memory().unwrap();
    (1..=3).for_each(|n| _ = store.append(NOTES, "a", &n).unwrap());
    let mut set = esker::WaitSet::new();
    let key = set.insert(store.watch_projection_durable::<NotThree>(NOTES, "a", Some("n")).unwrap());
    for _ in 0..2 {
        assert_eq!(set.wait(Some(LONG)), [key], "a failed projection does not consume its wake-up");
        assert!(catch_unwind(AssertUnwindSafe(|| set.get_mut(key).unwrap().try_next())).is_err());
    }
    let watch = set.get_mut(key).unwrap();
    watch.checkpoint().unwrap();
    assert_eq!(store.journal().cursors().unwrap()[0].behind, 3, "nothing was told");
    THREES.store(false, Ordering::Relaxed);
    assert_eq!(watch.try_next().unwrap().unwrap().value.unwrap(), [1, 2, 3]);
    watch.checkpoint().unwrap();
    assert_eq!(store.journal().cursors().unwrap()[0].behind, 0);
}
