//! Moments that are looked at one by one.

use std::time::Duration;

use esker::{
    Check, Codec, CompactOptions, Durability, ErrorKind, Facts, Fold, Generation, Import, ImportEntry,
    ImportKind, Keep, Kind, KindId, ManualClock, Options, Origin, Owner, Reader, RowMark, RowOperation, Seq,
    Simulator, Source, SourceInfo, Status, Store, StoreId, StoreView, Verdict, Window, verify,
};

use super::model::Row;

const ROWS: Kind<Row> = Kind::new("row");
const TALLY: Facts<u64> = Facts::new("tally");
const OTHER: Facts<u64> = Facts::new("other");
const NOISE: Facts<String> = Facts::new("noise");

fn options() -> Options {
    Options::new().background(false).window(Window::Manual).segment_bytes(8192)
}

/// Asserts a row in a flush of its own; answers where it stands.
fn put(store: &Store, source: &Source, key: &str, a: u8) -> Seq {
    source.assert(ROWS, key, &Row::new(a)).unwrap();
    flushed(store)
}

fn flushed(store: &Store) -> Seq {
    store.flush().unwrap();
    store.journal().view().last_seq().unwrap().unwrap()
}

fn row(view: &StoreView, key: &str) -> Option<u8> {
    view.get(ROWS, key).unwrap().map(|row| row.value().unwrap().a())
}

/// Fills segments with what is dropped, and compacts.
fn compact(store: &Store) {
    for _ in 0..20 {
        store.append(NOISE, "noise", &"n".repeat(1500)).unwrap();
    }
    let noise = store.journal().kind_named(NOISE.name()).unwrap().id;
    store.journal().keep(noise, Keep::Nothing).unwrap();
    let options = CompactOptions::new().thorough(true).keep_tombstones_for(Duration::ZERO);
    assert!(store.journal().compact(&options).unwrap().entries_dropped > 0);
}

/// The error of what cannot be told any more, and from where on it can.
fn floor<T>(read: esker::Result<T>) -> Option<u64> {
    let error = read.err().expect("it was dropped");
    assert_eq!(error.kind(), ErrorKind::Compacted, "{error}");
    error.floor()
}

struct Sum;

impl Fold for Sum {
    const NAME: &'static str = "sum";
    const VERSION: u32 = 1;
    type State = u64;
    type Event = u64;

    fn fold(state: &mut u64, event: u64, _: &esker::At) {
        *state += event;
    }
}

#[test]
fn each_read_shows_the_moment_and_a_seq_in_the_middle_of_a_batch_means_the_batch_before() {
    let store = Store::over(options().in_memory().unwrap());
    let source = store.source("one").unwrap();
    let first = put(&store, &source, "a", 1);
    let mut batch = store.batch();
    batch.append(TALLY, "t", &1).unwrap();
    batch.assert(&source, ROWS, "a", &Row::new(2)).unwrap();
    batch.assert(&source, ROWS, "b", &Row::new(2)).unwrap();
    batch.commit().unwrap();
    let second = flushed(&store);
    source.retract(ROWS, "a").unwrap();
    let third = flushed(&store);
    store.append(TALLY, "t", &41).unwrap();

    let nothing = store.at(None).unwrap();
    assert_eq!((nothing.rows(ROWS).unwrap().count(), nothing.entries().last_seq().unwrap()), (0, None));
    for seq in first.get()..second.get() {
        let view = store.at(Seq::new(seq)).unwrap();
        assert_eq!((row(&view, "a"), row(&view, "b")), (Some(1), None), "at {seq}");
        assert_eq!(view.facts(TALLY).count(), 0);
        assert_eq!(view.entries().last_seq().unwrap(), Some(first));
    }
    let view = store.at(second).unwrap();
    assert_eq!((row(&view, "a"), row(&view, "b")), (Some(2), Some(2)));
    assert_eq!(view.versions(ROWS, "a").unwrap().len(), 2);
    assert_eq!(view.latest(TALLY, "t").unwrap().unwrap().value().unwrap(), 1);
    assert_eq!(view.project::<Sum>(TALLY, "t").unwrap().value, Some(1));
    let view = store.at(third).unwrap();
    assert_eq!(view.status(ROWS, "a").unwrap(), Status::Tombstone { version: 3 });
    assert_eq!(view.project::<Sum>(TALLY, "t").unwrap().value, Some(1));
    assert_eq!(
        store.at(Seq::new(third.get() + 1)).unwrap().project::<Sum>(TALLY, "t").unwrap().value,
        Some(42)
    );
    // An earlier moment than one is looked for in what that one shows.
    assert_eq!(row(&view.at(first).unwrap(), "a"), Some(1));
    for later in [view.at(Seq::new(third.get() + 1)), store.at(Seq::new(100))] {
        let error = later.unwrap_err();
        assert_eq!((error.kind(), error.actual().is_some()), (ErrorKind::InvalidInput, true), "{error}");
    }
}

#[test]
fn what_was_the_newest_then_and_was_dropped_since_is_not_told_as_if_it_had_not_been_there() {
    let store = Store::over(options().open_in(&Simulator::new()).unwrap());
    let source = store.source("one").unwrap();
    store.append(TALLY, "t", &1).unwrap();
    let stays = put(&store, &source, "stays", 1);
    put(&store, &source, "changes", 1);
    put(&store, &source, "between", 1);
    let tally = store.journal().kind_named(TALLY.name()).unwrap().id;
    store.journal().keep(tally, Keep::Latest).unwrap();
    compact(&store);
    // In segments of their own: nothing of what they replace lies above the floor.
    let replaced = put(&store, &source, "changes", 2);
    let born = put(&store, &source, "born", 1);
    let counted = store.append(TALLY, "t", &2).unwrap().seq;
    compact(&store);
    assert!(store.journal().view().floor(&esker::Region::kind(tally)).unwrap() < replaced);

    // The kind has a floor below this moment, and one of its entities has lost the row that it had then.
    let view = store.at(Seq::new(replaced.get() - 1)).unwrap();
    assert_eq!(row(&view, "stays"), Some(1));
    assert_eq!((row(&view, "born"), row(&view, "never")), (None, None), "it was not there yet");
    assert_eq!(floor(view.get(ROWS, "changes")), Some(replaced.get()));
    assert_eq!(floor(view.status(ROWS, "changes")), Some(replaced.get()));
    assert_eq!(floor(view.versions(ROWS, "changes")), Some(replaced.get()));
    assert_eq!(floor(view.rows(ROWS)), Some(replaced.get()), "a scan would leave it out");
    assert_eq!(floor(view.latest(TALLY, "t")), Some(counted.get()));
    assert_eq!(floor(view.project::<Sum>(TALLY, "t")), Some(counted.get()));
    // From there on all is there.
    let view = store.at(replaced).unwrap();
    assert_eq!(view.rows(ROWS).unwrap().count(), 3);
    assert_eq!(row(&view, "changes"), Some(2));
    assert!(store.at(born).unwrap().get(ROWS, "born").unwrap().is_some());
    // Below its floor nothing of the kind is told, whatever is left of it.
    let view = store.at(stays).unwrap();
    assert!(floor(view.get(ROWS, "stays")).is_some_and(|floor| floor > stays.get() + 1));
}

#[test]
fn what_stood_before_a_deletion_does_not_come_to_light_when_that_is_dropped_before_it() {
    let store = Store::over(options().open_in(&Simulator::new()).unwrap());
    let source = store.source("one").unwrap();
    put(&store, &source, "a", 1);
    // Of their segment too little is garbage to copy it.
    for n in 0..95 {
        store.append(TALLY, "t", &n).unwrap();
    }
    store.append(NOISE, "noise", &"n".repeat(1800)).unwrap();
    source.retract(ROWS, "a").unwrap();
    let deleted = flushed(&store);
    let noise = store.journal().kind_named(NOISE.name()).unwrap().id;
    for _ in 0..10 {
        store.append(NOISE, "noise", &"n".repeat(1800)).unwrap();
    }
    let between = put(&store, &source, "b", 1);
    put(&store, &source, "a", 2);
    store.journal().keep(noise, Keep::Nothing).unwrap();
    assert!(store.journal().compact(&CompactOptions::new()).unwrap().entries_dropped > 0);
    let rows = store.journal().kind_named(ROWS.name()).unwrap().id;
    let left = store.journal().view();
    let left: Vec<_> = left
        .kind(rows)
        .map(|entry| (entry.as_ref().unwrap().key().to_vec(), entry.unwrap().seq().get()))
        .collect();
    assert_eq!(left[0], (b"a".to_vec(), 1), "it is still there: {left:?}");
    assert_ne!(left[1].1, deleted.get(), "and its deletion is not: {left:?}");

    let view = store.at(between).unwrap();
    assert_eq!(
        (floor(view.get(ROWS, "a")), floor(view.rows(ROWS))),
        (Some(between.get() + 1), Some(between.get() + 1))
    );
}

#[test]
fn a_deletion_is_told_at_a_moment_as_it_was_told_then() {
    let clock = ManualClock::new();
    let store = Store::over(options().clock(clock.clone()).in_memory().unwrap());
    let source = store.source("one").unwrap();
    put(&store, &source, "a", 1);
    source.retract(ROWS, "a").unwrap();
    let deleted = flushed(&store);
    clock.advance(Duration::from_secs(200));
    let soon = put(&store, &source, "b", 1);
    clock.advance(Duration::from_secs(200));
    let late = put(&store, &source, "b", 2);
    clock.advance(Duration::from_secs(100_000));
    let status = |seq: Seq| store.at(seq).unwrap().status(ROWS, "a").unwrap();
    assert_eq!(status(deleted), Status::Tombstone { version: 2 });
    assert_eq!(status(soon), Status::Tombstone { version: 2 });
    assert_eq!(status(late), Status::NotFound);
    assert_eq!(store.status(ROWS, "a").unwrap(), Status::NotFound);
}

#[test]
fn a_reader_sees_earlier_moments_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.esker");
    let store = Store::over(options().open(&path).unwrap());
    let source = store.source("one").unwrap();
    let first = put(&store, &source, "a", 1);
    put(&store, &source, "a", 2);
    let view = StoreView::of(&Reader::open(&path).unwrap()).unwrap();
    assert_eq!((row(&view, "a"), row(&view.at(first).unwrap(), "a")), (Some(2), Some(1)));
    store.close().unwrap();
}

/// An entry of facts as another store had it.
fn imported<T: serde::Serialize>(
    kind: KindId,
    key: &str,
    (seq, generation): (u64, u64),
    fact: &T,
) -> ImportEntry {
    let fact = rmp_serde::to_vec_named(fact).unwrap();
    let generation = Generation::new(generation).unwrap();
    ImportEntry::new(Seq::new(seq).unwrap(), generation, kind, key.as_bytes().to_vec(), fact)
}

fn origin() -> Origin {
    Origin::new(StoreId::from_bytes([7; 16]), 1, 0)
}

fn radar() -> SourceInfo {
    let store = Store::in_memory().unwrap();
    let _radar = store.source("radar").unwrap();
    store.journal().sources()[0].clone()
}

#[test]
fn at_a_seq_that_an_import_left_out_nobody_can_tell_and_around_it_everybody() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("copy.esker");
    let mut import = Import::begin(&path, origin()).unwrap();
    let tally = import.kind(ImportKind::new(2, TALLY.name()).codec(Codec::MessagePack)).unwrap();
    let noise = import.kind(ImportKind::new(3, NOISE.name()).codec(Codec::MessagePack)).unwrap();
    import.entry(imported(tally, "t", (1, 1), &1u64).more(true)).unwrap();
    import.entry(imported(noise, "n", (2, 1), &"n".repeat(1500))).unwrap();
    import.entry(imported(tally, "u", (40, 1), &40u64)).unwrap();
    import.finish(Seq::new(40)).unwrap();
    let store = Store::over(options().durability(Durability::Os).open(&path).unwrap());
    for n in 0..300 {
        store.append(TALLY, "z", &n).unwrap();
    }
    for is_compacted in [false, true] {
        if is_compacted {
            // The first batch loses its end: before the gap lies a part.
            compact(&store);
        }
        for seq in [2, 40] {
            let view = store.at(Seq::new(seq)).unwrap();
            assert_eq!(
                view.latest(TALLY, "t").unwrap().map(|fact| fact.value().unwrap()),
                Some(1),
                "at {seq}"
            );
        }
        for seq in [3, 20, 39] {
            let view = store.at(Seq::new(seq)).unwrap();
            assert_eq!(floor(view.latest(TALLY, "t")), Some(40), "at {seq}, compacted: {is_compacted}");
        }
    }
}

#[test]
fn a_fact_of_which_nothing_is_left_is_not_told_as_if_it_had_never_been_there() {
    for erases in [false, true] {
        let store = Store::over(options().in_memory().unwrap());
        store.append(TALLY, "t", &1).unwrap();
        let then = store.append(OTHER, "o", &1).unwrap().seq;
        let value = || Ok(store.at(then)?.latest(TALLY, "t")?.map(|fact| fact.value().unwrap()));
        assert_eq!(value().unwrap(), Some(1));
        let tally = store.journal().kind_named(TALLY.name()).unwrap().id;
        if erases {
            assert!(store.journal().erase(tally, b"t").unwrap().erased);
        } else {
            store.journal().keep(tally, Keep::Nothing).unwrap();
        }
        compact(&store);
        for is_there_again in [false, true] {
            if is_there_again {
                store.append(TALLY, "t", &2).unwrap();
            }
            let now = store.journal().view().last_seq().unwrap().unwrap();
            assert_eq!(floor(value()), Some(now.get()), "erased: {erases}");
            assert!(
                floor(store.at(then).unwrap().history(TALLY, "t").collect::<esker::Result<Vec<_>>>())
                    .is_some()
            );
            let latest = store.at(now).unwrap();
            let latest = latest.latest(TALLY, "t").unwrap().map(|fact| fact.value().unwrap());
            assert_eq!(latest, is_there_again.then_some(2), "the present is what it is");
            // What nothing was dropped of is told, although its numbers do not begin at one.
            if !is_there_again {
                store.append(OTHER, "new", &1).unwrap();
            }
            assert!(store.at(then).unwrap().latest(OTHER, "new").unwrap().is_none());
        }
    }
}

#[test]
fn what_an_import_left_out_is_missed_by_who_looks_at_an_entity_and_by_who_looks_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("copy.esker");
    let mut import = Import::begin(&path, origin().forgot(true)).unwrap();
    let rows = ImportKind::new(1, ROWS.name()).owner(Owner::State).codec(Codec::MessagePack);
    let rows = import.kind(rows.fields(vec!["a".into(), "text".into()]).keep(Keep::Latest)).unwrap();
    let tally = import.kind(ImportKind::new(2, TALLY.name()).codec(Codec::MessagePack)).unwrap();
    import.source(radar()).unwrap();
    let mark = RowMark { schema: 1, sources: 1, changed: 1, version: None };
    import.entry(imported(tally, "t", (1, 1), &1u64)).unwrap();
    // 3 to 39 were dropped in the origin: rows and facts of the same entities among them.
    import.entry(imported(tally, "v", (2, 1), &1u64)).unwrap();
    import.entry(imported(tally, "v", (40, 2), &2u64)).unwrap();
    import.entry(imported(rows, "a", (41, 5), &Row::new(5)).row(RowOperation::Updated, mark)).unwrap();
    import.entry(imported(tally, "t", (42, 5), &5u64)).unwrap();
    import.entry(imported(tally, "w", (43, 5), &5u64)).unwrap();
    // Its generation may be one that its origin gave out for want of a memory, or not.
    import.entry(imported(tally, "x", (44, 44), &5u64)).unwrap();
    import.entry(imported(tally, "y", (45, 1), &5u64)).unwrap();
    import.finish(Seq::new(45)).unwrap();
    let store = Store::over(options().open(&path).unwrap());
    let view = store.at(Seq::new(40)).unwrap();
    assert_eq!((floor(view.get(ROWS, "a")), floor(view.rows(ROWS))), (Some(41), Some(41)));
    let latest = |key: &str| view.latest(TALLY, key).map(|fact| fact.map(|fact| fact.value().unwrap()));
    assert_eq!([floor(latest("t")), floor(latest("w")), floor(latest("x"))], [Some(42), Some(43), Some(44)]);
    assert_eq!((latest("y").unwrap(), latest("v").unwrap(), latest("never").unwrap()), (None, Some(2), None));
    // Before the gap all is there.
    let view = store.at(Seq::new(2)).unwrap();
    assert!(view.latest(TALLY, "x").unwrap().is_none());
}

#[test]
fn a_row_that_is_created_again_behind_a_gap_may_have_been_there_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("copy.esker");
    let mut import = Import::begin(&path, origin().forgot(true)).unwrap();
    let rows = ImportKind::new(1, ROWS.name()).owner(Owner::State).codec(Codec::MessagePack);
    let rows = import.kind(rows.fields(vec!["a".into(), "text".into()])).unwrap();
    let tally = import.kind(ImportKind::new(2, TALLY.name()).codec(Codec::MessagePack)).unwrap();
    import.source(radar()).unwrap();
    let mark = RowMark { schema: 1, sources: 1, changed: 3, version: None };
    let created = |key, numbers| imported(rows, key, numbers, &Row::new(1)).row(RowOperation::Created, mark);
    import.entry(imported(tally, "t", (1, 1), &1u64)).unwrap();
    // In the first gap it may have been created, in the second one it was deleted then.
    import.entry(imported(tally, "t", (5, 2), &2u64)).unwrap();
    import.entry(created("a", (9, 9))).unwrap();
    import.entry(created("b", (10, 10))).unwrap();
    import.entry(imported(tally, "t", (11, 3), &3u64)).unwrap();
    import.entry(created("c", (12, 12))).unwrap();
    import.finish(Seq::new(12)).unwrap();
    let store = Store::over(options().open(&path).unwrap());
    let view = store.at(Seq::new(5)).unwrap();
    assert_eq!((floor(view.get(ROWS, "a")), floor(view.rows(ROWS))), (Some(9), Some(9)));
    let view = store.at(Seq::new(1)).unwrap();
    assert_eq!((row(&view, "a"), view.rows(ROWS).unwrap().count()), (None, 0), "before both all is there");
    let view = store.at(Seq::new(11)).unwrap();
    assert_eq!((row(&view, "c"), view.rows(ROWS).unwrap().count()), (None, 2), "it was created right then");
}

/// How often somebody who follows the errors is told another Seq, until a read is answered.
fn steps_to(store: &Store, mut seq: u64, read: impl Fn(&StoreView) -> esker::Result<()>) -> usize {
    for steps in 0.. {
        let Err(error) = read(&store.at(Seq::new(seq)).unwrap()) else { return steps };
        assert!(error.floor() > Some(seq), "{seq}: {error}");
        seq = error.floor().unwrap();
    }
    unreachable!()
}

#[test]
fn from_the_entry_on_that_an_error_names_an_entity_is_told() {
    let store = Store::over(options().in_memory().unwrap());
    let source = store.source("one").unwrap();
    for key in ["a", "b"] {
        put(&store, &source, key, 1);
    }
    compact(&store);
    let then = store.append(TALLY, "t", &1).unwrap().seq;
    for key in ["a", "b"] {
        source.assert(ROWS, key, &Row::new(2)).unwrap();
    }
    let both = flushed(&store);
    for round in 0..2 {
        if round == 1 {
            put(&store, &source, "b", 3);
        }
        compact(&store);
        if round == 0 {
            // Of a batch of which all is there it is the end.
            assert_eq!(floor(store.at(then).unwrap().get(ROWS, "a")), Some(both.get()));
        }
        let rows = store.journal().kind_named(ROWS.name()).unwrap().id;
        let kind = store.journal().view().floor(&esker::Region::kind(rows)).unwrap().get();
        for seq in 1..=both.get() {
            for key in ["a", "b"] {
                let steps = steps_to(&store, seq, |view| view.get(ROWS, key).map(drop));
                assert!(
                    steps <= 1 + usize::from(seq + 1 < kind),
                    "{key} at {seq}, of a kind with floor {kind}"
                );
            }
            steps_to(&store, seq, |view| view.rows(ROWS).map(drop));
        }
    }
}

#[test]
fn a_deletion_is_not_told_by_the_time_of_an_entry_that_is_older_than_the_moment() {
    let clock = ManualClock::new();
    let store = Store::over(options().clock(clock.clone()).in_memory().unwrap());
    let source = store.source("one").unwrap();
    put(&store, &source, "a", 1);
    source.retract(ROWS, "a").unwrap();
    flushed(&store);
    store.append(OTHER, "o", &0).unwrap();
    clock.advance(Duration::from_secs(200));
    let soon = store.append(OTHER, "o", &1).unwrap().seq;
    store.append(OTHER, "o", &2).unwrap();
    clock.advance(Duration::from_secs(4000));
    let late = store.append(OTHER, "o", &3).unwrap().seq;
    clock.advance(Duration::from_secs(1));
    let later = put(&store, &source, "b", 1);
    let status = |seq: Seq| store.at(seq).unwrap().status(ROWS, "a");
    let deleted = Status::Tombstone { version: 2 };
    assert_eq!(
        [soon, late, later].map(|seq| status(seq).unwrap()),
        [deleted, Status::NotFound, Status::NotFound]
    );
    store.append(OTHER, "o", &4).unwrap();
    let other = store.journal().kind_named(OTHER.name()).unwrap().id;
    store.journal().keep(other, Keep::Latest).unwrap();
    store.append(NOISE, "noise", &String::new()).unwrap();
    let noise = store.journal().kind_named(NOISE.name()).unwrap().id;
    store.journal().keep(noise, Keep::Nothing).unwrap();
    for _ in 0..20 {
        store.append(NOISE, "noise", &"n".repeat(1500)).unwrap();
    }
    // The deletion stays, and the entries between go.
    let options = CompactOptions::new().thorough(true).keep_tombstones_for(Duration::from_secs(100_000));
    assert!(store.journal().compact(&options).unwrap().entries_dropped > 0);
    assert_eq!(
        [soon, late].map(|seq| floor(status(seq))),
        [Some(later.get()); 2],
        "it was before then, or not"
    );
    assert_eq!(status(later).unwrap(), Status::NotFound);
    assert_eq!(row(&store.at(soon).unwrap(), "a"), None, "that is certain");
}

#[test]
fn a_gap_between_two_segments_is_one_when_both_were_compacted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("copy.esker");
    let mut import = Import::begin(&path, origin()).unwrap();
    let tally = import.kind(ImportKind::new(2, TALLY.name()).codec(Codec::MessagePack)).unwrap();
    let noise = import.kind(ImportKind::new(3, NOISE.name()).codec(Codec::MessagePack)).unwrap();
    let noise = |seq, generation| imported(noise, "n", (seq, generation), &"n".repeat(1500));
    import.entry(noise(1, 1)).unwrap();
    import.entry(imported(tally, "t", (2, 1), &1u64)).unwrap();
    import.entry(noise(40, 2)).unwrap();
    // Its generation is its Seq, as that of one is that a store knows nothing of.
    import.entry(imported(tally, "u", (41, 41), &41u64)).unwrap();
    // Nothing is left of this one.
    import.entry(noise(60, 3)).unwrap();
    import.entry(imported(tally, "u", (70, 42), &70u64)).unwrap();
    import.finish(Seq::new(70)).unwrap();
    let store = Store::over(options().durability(Durability::Os).open(&path).unwrap());
    for _ in 0..2 {
        for seq in [3, 20, 39, 42, 59, 61, 69] {
            let view = store.at(Seq::new(seq)).unwrap();
            assert!(floor(view.latest(TALLY, "t")) > Some(seq), "at {seq}");
        }
        for seq in [2, 40, 41, 60, 70] {
            let view = store.at(Seq::new(seq)).unwrap();
            assert_eq!(
                view.latest(TALLY, "t").unwrap().map(|fact| fact.value().unwrap()),
                Some(1),
                "at {seq}"
            );
        }
        assert_eq!(floor(store.at(Seq::new(40)).unwrap().latest(TALLY, "u")), Some(41));
        assert!(store.at(Seq::new(2)).unwrap().latest(TALLY, "u").unwrap().is_none());
        compact(&store);
        store.sync().unwrap();
        assert_eq!(verify(&path, Check::Full).unwrap().verdict, Verdict::Valid);
    }
}
