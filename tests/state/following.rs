//! Subscriptions: bootstrap, the live part, and what becomes of who is too slow.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use esker::{
    AutoCompact, Because, Behind, ChangeKind, CompactOptions, Durability, ErrorKind, Marker, Options, Reader,
    Simulator, StateItem, Store, SubscriptionBuilder, SubscriptionStatus, Token, Until, Window,
};

use super::harbour::{VESSEL, Vessel, change_often, fill, follow, open, options, store, told, vessel};

/// Follows by a door that a statement does not know.
type Follow<'a> = &'a dyn Fn() -> SubscriptionBuilder<Vessel>;

/// Shows a statement in the process that writes, and beside it.
fn by_both_doors(statement: impl Fn(Store, Follow<'_>)) {
    let inside = store();
    statement(inside.clone(), &|| inside.subscription(VESSEL));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let store = Store::over(options().open(&path).unwrap());
    let reader = Reader::open(&path).unwrap();
    statement(store, &|| reader.subscription(VESSEL));
}

#[test]
fn a_bootstrap_is_the_rows_of_one_moment_and_then_every_change() {
    by_both_doors(bootstrap_and_changes);
}

fn bootstrap_and_changes(store: Store, follow: Follow<'_>) {
    let radar = store.source("radar").unwrap();
    for name in ["ada", "grace", "joan"] {
        radar.assert(VESSEL, name, &vessel(name, 1.0)).unwrap();
    }
    store.flush().unwrap();
    radar.retract(VESSEL, "grace").unwrap();
    store.flush().unwrap();
    let mut changes = follow().start().unwrap();
    assert_eq!(changes.status(), SubscriptionStatus::Bootstrapping);
    assert!(changes.token().unwrap().is_none());
    assert_eq!(told(&mut changes), ["begin false None", "ada v1 is", "joan v1 is", "complete false"]);
    assert_eq!(changes.status(), SubscriptionStatus::Live);
    radar.assert(VESSEL, "ada", &vessel("ada", 2.0)).unwrap();
    radar.retract(VESSEL, "joan").unwrap();
    store.flush().unwrap();
    assert_eq!(told(&mut changes), [r#"ada v2 updated ["knots"]"#, "joan v2 deleted"]);
    changes.rebootstrap();
    assert_eq!(told(&mut changes), ["begin true Some(Asked)", "ada v2 is", "complete true"]);
    // In the middle of the first one too.
    let mut changes = follow().start().unwrap();
    changes.rebootstrap();
    assert!(changes.advance().unwrap(), "it begins for the first time");
    changes.rebootstrap();
    changes.rebootstrap();
    assert_eq!(told(&mut changes), ["begin true Some(Asked)", "ada v2 is", "complete true"]);
    let mut unbegun = follow().start().unwrap();
    unbegun.rebootstrap();
    assert_eq!(told(&mut unbegun), ["begin false Some(Asked)", "ada v2 is", "complete false"]);
}

#[test]
fn what_is_flushed_while_a_bootstrap_runs_comes_behind_it_once() {
    by_both_doors(flushed_while_a_bootstrap_runs);
}

fn flushed_while_a_bootstrap_runs(store: Store, follow: Follow<'_>) {
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 20);
    let mut changes = follow().start().unwrap();
    for _ in 0..10 {
        assert!(changes.advance().unwrap());
    }
    radar.assert(VESSEL, "v00", &vessel("v", 2.0)).unwrap();
    radar.assert(VESSEL, "v19", &vessel("v", 2.0)).unwrap();
    radar.retract(VESSEL, "v18").unwrap();
    radar.assert(VESSEL, "new", &vessel("v", 2.0)).unwrap();
    store.flush().unwrap();
    let rest = told(&mut changes);
    assert_eq!(rest.len(), 11 + 1 + 4, "{rest:?}");
    assert!(rest.contains(&"v19 v1 is".to_owned()), "as of the moment when it began: {rest:?}");
    assert_eq!(
        rest[12..],
        [r#"v00 v2 updated ["knots"]"#, r#"v19 v2 updated ["knots"]"#, "v18 v2 deleted", "new v1 created"]
    );
}

/// Rows by key, with their versions.
pub(crate) type Folded = BTreeMap<Vec<u8>, (u64, Vessel)>;

/// What somebody has who does as he is told.
pub(crate) fn fold(folded: &mut Folded, item: &StateItem<'_, Vessel>) {
    match item {
        StateItem::Marker(Marker::BootstrapBegin { .. }) => folded.clear(),
        StateItem::Change(change) if change.kind() == ChangeKind::Deleted => {
            let (before, _) = folded.remove(change.key()).expect("what is deleted was there");
            assert!(before < change.version());
        }
        StateItem::Change(change) => {
            let row = (change.version(), change.value().unwrap().unwrap());
            let before = folded.insert(change.key().to_vec(), row);
            match change.kind() {
                ChangeKind::Updated => assert!(before.expect("it was there").0 < change.version()),
                _ => assert!(before.is_none(), "{change:?} was there: {before:?}"),
            }
        }
        _ => {}
    }
}

pub(crate) fn scanned(store: &Store) -> Folded {
    let rows = store.scan(VESSEL).unwrap().map(Result::unwrap);
    rows.map(|row| (row.key().to_vec(), (row.version(), row.value().unwrap()))).collect()
}

#[test]
fn s24_and_s29_a_fold_of_what_is_received_is_a_scan_under_ten_writers() {
    let options =
        Options::new().durability(Durability::Os).window(Window::Every(std::time::Duration::from_millis(1)));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let store = Store::over(options.open(&path).unwrap());
    let (stop, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    let folds: Vec<Folded> = std::thread::scope(|scope| {
        let mut writers = Vec::new();
        for writer in 0..10u16 {
            let (store, stop) = (&store, &stop);
            writers.push(scope.spawn(move || {
                let source = store.source(&format!("source-{writer}")).unwrap();
                let mut n = u64::from(writer);
                while !stop.load(Ordering::Relaxed) {
                    n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let key = format!("v{}", (n >> 33) % 50);
                    let row = Vessel { heading: u16::try_from(n >> 48).unwrap(), ..vessel(&key, 1.0) };
                    match (n >> 20) % 10 {
                        0..6 => source.assert(VESSEL, &key, &row).unwrap(),
                        _ => source.retract(VESSEL, &key).unwrap(),
                    };
                }
            }));
        }
        // Two of them beside the process that writes, as it were.
        let readers: Vec<_> = (0..5u64)
            .map(|reader| {
                let (store, path, ended) = (&store, &path, &ended);
                scope.spawn(move || {
                    let behind = if reader % 3 == 2 { Behind::Full } else { Behind::Resume };
                    // Some are too slow for their capacity again and again.
                    let capacity = if reader % 3 == 0 { 1 << 20 } else { 8 };
                    let builder = if reader < 3 {
                        store.subscription(VESSEL)
                    } else {
                        Reader::open(path).unwrap().subscription(VESSEL).until(Until::Visible)
                    };
                    let mut changes = builder.behind(behind).capacity(capacity).start().unwrap();
                    let mut folded = Folded::new();
                    let mut items = 0u32;
                    loop {
                        let is_last = ended.load(Ordering::Acquire);
                        match changes.next_timeout(std::time::Duration::from_millis(50)).unwrap() {
                            Some(item) => fold(&mut folded, &item),
                            None if is_last => break,
                            None => continue,
                        }
                        items += 1;
                    }
                    assert!(items > 100, "reader {reader}: {items}");
                    folded
                })
            })
            .collect();
        std::thread::sleep(std::time::Duration::from_millis(700));
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        store.flush().unwrap();
        store.sync().unwrap();
        ended.store(true, Ordering::Release);
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    let expected = scanned(&store);
    for (reader, folded) in folds.iter().enumerate() {
        assert_eq!(*folded, expected, "reader {reader}");
    }
    store.close().unwrap();
}

#[test]
fn s25_who_is_too_far_behind_ends_or_is_told_exactly_what_it_comes_to() {
    by_both_doors(too_far_behind);
}

fn too_far_behind(store: Store, follow: Follow<'_>) {
    let radar = store.source("radar").unwrap();
    for name in ["ada", "grace", "joan"] {
        radar.assert(VESSEL, name, &vessel(name, 1.0)).unwrap();
    }
    store.flush().unwrap();
    let slow = |behind| {
        let mut changes = follow().behind(behind).capacity(4).start().unwrap();
        told(&mut changes);
        changes
    };
    let (mut ends, mut resumes, mut begins, mut skips) =
        (slow(Behind::End), slow(Behind::Resume), slow(Behind::Full), slow(Behind::LiveOnly));
    change_often(&store, &radar, "ada", 3);
    radar.retract(VESSEL, "joan").unwrap();
    store.flush().unwrap();
    change_often(&store, &radar, "new", 3);
    change_often(&store, &radar, "ghost", 1);
    radar.retract(VESSEL, "ghost").unwrap();
    store.flush().unwrap();
    let before = ends.token().unwrap().unwrap();
    let error = ends.advance().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lagged);
    assert_eq!(ends.advance().unwrap_err().kind(), ErrorKind::Lagged, "once and for all");
    assert_eq!(ends.token().unwrap(), Some(before), "it says how far it came");
    let net = [r#"ada v4 updated ["knots", "heading"]"#, "joan v2 deleted", "new v3 created"];
    assert_eq!(told(&mut resumes), net);
    assert_eq!(told(&mut begins)[..2], ["begin true Some(Lagged)".to_owned(), "grace v1 is".to_owned()]);
    let last = told(&mut skips);
    assert_eq!(
        (last.len(), last[0].as_str(), last[4].as_str()),
        (5, "missed 5", "ghost v2 deleted"),
        "{last:?}"
    );
    // The token goes on where the one that ended was.
    let mut resumed = follow().resume(before).start().unwrap();
    let again = told(&mut resumed);
    assert_eq!(again.len(), 9, "few enough to be told one by one: {again:?}");
}

#[test]
fn a_token_resumes_in_the_next_life_and_what_cannot_be_resumed_begins_anew() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 1.0)).unwrap();
    store.flush().unwrap();
    let mut changes = follow(&store);
    assert!(told(&mut changes).is_empty());
    let token = changes.token().unwrap().unwrap();
    let text = token.to_string();
    drop((changes, radar));
    store.close().unwrap();

    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 2.0)).unwrap();
    store.flush().unwrap();
    let token: Token = text.parse().unwrap();
    let mut resumed = store.subscription(VESSEL).resume(token).start().unwrap();
    assert_eq!(resumed.started_at(), token);
    assert_eq!(told(&mut resumed), [r#"ada v2 updated ["knots"]"#]);

    let troubled = |token: Token| {
        let mut changes = store.subscription(VESSEL).resume(token).start().unwrap();
        let first = changes.try_next().unwrap();
        match first {
            Some(StateItem::Marker(Marker::BootstrapBegin { because: Some(because), .. })) => because,
            other => panic!("{other:?}"),
        }
    };
    let other: Token = format!("{}:{}", "0".repeat(32), text.split_once(':').unwrap().1).parse().unwrap();
    assert_eq!(troubled(other), Because::OtherStore);
    let parts: Vec<&str> = text.split(':').collect();
    let era: Token = format!("{}:{}:{}", parts[0], 99, parts[2]).parse().unwrap();
    assert_eq!(troubled(era), Because::Rewound);
    let ahead: Token = format!("{}:{}:{}", parts[0], parts[1], 1_000_000).parse().unwrap();
    assert_eq!(troubled(ahead), Because::Rewound);
    change_often(&store, &radar, "busy", 300);
    let compacted = store.journal().compact(&CompactOptions::new()).unwrap();
    assert!(compacted.entries_dropped > 100);
    assert_eq!(troubled(token), Because::Compacted);
}

#[test]
fn a_bootstrap_under_way_holds_compaction_back_and_not_more_than_it_may() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 20);
    let mut changes = store.subscribe(VESSEL).unwrap();
    assert!(changes.advance().unwrap() && changes.advance().unwrap());
    change_often(&store, &radar, "busy", 300);
    let held = store.journal().compact(&CompactOptions::new()).unwrap();
    assert_eq!(held.entries_dropped, 0, "{held:?}");
    assert_eq!(held.held_back_by.len(), 1);
    let rest = told(&mut changes);
    assert_eq!(rest.len(), 19 + 1 + 300, "all rows, complete, and each change");
    assert!(store.journal().compact(&CompactOptions::new()).unwrap().entries_dropped > 100);

    // One that may hold next to nothing begins anew until it is fast enough.
    for n in 0..3000 {
        radar.assert(VESSEL, format!("w{n:04}"), &vessel("w", 1.0)).unwrap();
    }
    store.flush().unwrap();
    let mut bounded = store.subscription(VESSEL).bootstrap_hold(4096).start().unwrap();
    assert!(bounded.advance().unwrap());
    change_often(&store, &radar, "busy", 100);
    let rest = told(&mut bounded);
    assert!(rest.contains(&"begin true Some(HeldTooMuch)".to_owned()), "{:?}", &rest[..5]);
}

#[test]
fn s26_a_scan_is_isolated_from_writers_and_from_compaction() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    for n in 0..50u8 {
        radar.assert(VESSEL, format!("v{n:02}"), &vessel("v", f32::from(n))).unwrap();
    }
    store.flush().unwrap();
    let mut rows = store.scan(VESSEL).unwrap();
    assert_eq!(rows.next().unwrap().unwrap().key(), b"v00");
    for n in 0..50u8 {
        if n % 2 == 0 {
            radar.retract(VESSEL, format!("v{n:02}")).unwrap();
        } else {
            radar.assert(VESSEL, format!("v{n:02}"), &vessel("v", 99.0)).unwrap();
        }
    }
    change_often(&store, &radar, "busy", 200);
    assert!(store.journal().compact(&CompactOptions::new()).unwrap().entries_dropped > 50);
    let knots: Vec<f32> = rows.map(|row| row.unwrap().value().unwrap().knots).collect();
    assert_eq!(knots, (1..50u8).map(f32::from).collect::<Vec<_>>());
    assert_eq!(scanned(&store).len(), 26);
}

#[test]
fn s30_bootstrap_with_live_only() {
    by_both_doors(dashboard);
}

fn dashboard(store: Store, follow: Follow<'_>) {
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 1.0)).unwrap();
    store.flush().unwrap();
    let mut dashboard = follow().behind(Behind::LiveOnly).capacity(2).start().unwrap();
    assert_eq!(told(&mut dashboard), ["begin false None", "ada v1 is", "complete false"]);
    change_often(&store, &radar, "ada", 5);
    // What was missed, then the newest, as many as may be unread, and nothing else.
    let newest = ["missed 3", r#"ada v5 updated ["heading"]"#, r#"ada v6 updated ["heading"]"#];
    assert_eq!(told(&mut dashboard), newest);
    change_often(&store, &radar, "ada", 2);
    let [first, second] = [r#"ada v7 updated ["heading"]"#, r#"ada v8 updated ["heading"]"#];
    assert_eq!(told(&mut dashboard), [first, second], "as many as it may leave unread are no miss");
}

#[test]
fn s31_live_only_with_previous() {
    by_both_doors(driven);
}

fn driven(store: Store, follow: Follow<'_>) {
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 1.0)).unwrap();
    store.flush().unwrap();
    let mut driven = follow().bootstrap(false).behind(Behind::LiveOnly).previous(true).start().unwrap();
    assert!(told(&mut driven).is_empty(), "what there was it is not told");
    change_often(&store, &radar, "ada", 5);
    change_often(&store, &radar, "ada", 2);
    let mut headings = Vec::new();
    while let Some(StateItem::Change(change)) = driven.try_next().unwrap() {
        let before = change.previous().map(|row| row.value().unwrap().heading);
        headings.push((before, change.value().unwrap().unwrap().heading));
    }
    let first = [(Some(0), 0), (Some(0), 1), (Some(1), 2), (Some(2), 3), (Some(3), 4)];
    assert_eq!(headings, [&first[..], &[(Some(4), 0), (Some(0), 1)]].concat());
}

#[test]
fn a_change_of_the_set_of_sources_is_told_to_who_asked() {
    by_both_doors(only_the_set_changes);
}

fn only_the_set_changes(store: Store, follow: Follow<'_>) {
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    let mut asked = follow().bootstrap(false).sources(true).start().unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 1.0)).unwrap();
    store.flush().unwrap();
    pilot.assert(VESSEL, "ada", &vessel("Ada", 1.0)).unwrap();
    store.flush().unwrap();
    assert!(asked.advance().unwrap() && asked.advance().unwrap());
    let StateItem::Change(change) = asked.item() else { panic!("a change") };
    assert_eq!((change.kind(), change.version(), change.sources().bits()), (ChangeKind::Updated, 1, 0b11));
    assert_eq!(change.changed_fields().count(), 0);
}

#[test]
fn a_subscriber_sleeps_until_there_is_something_and_is_stopped_from_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("harbour.esker")).unwrap();
    let mut changes = follow(&store);
    let stopper = changes.stopper();
    std::thread::scope(|scope| {
        let (told, heard) = std::sync::mpsc::channel();
        let reader = scope.spawn(move || {
            let Some(StateItem::Change(change)) = changes.next().unwrap() else { panic!("a change") };
            assert_eq!(change.version(), 1);
            told.send(()).unwrap();
            assert!(changes.next().unwrap().is_none(), "stopped");
        });
        let radar = store.source("radar").unwrap();
        // Nobody waits for it: the window ends by itself.
        radar.assert(VESSEL, "ada", &vessel("Ada", 1.0)).unwrap();
        heard.recv().unwrap();
        stopper.stop();
        reader.join().unwrap();
    });
    store.close().unwrap();
}

#[test]
fn s32_a_slow_reader_among_fast_writers_gets_live_and_the_log_stays_bounded() {
    const HOLD: u64 = 4 << 20;
    const GARBAGE: u64 = 4 << 20;
    // The rest is what is written while somebody compacts.
    const MOST: u64 = HOLD + GARBAGE + (16 << 20);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.esker");
    let options = Options::new().window(Window::Every(Duration::from_millis(2))).segment_bytes(1 << 20);
    let compacts = AutoCompact::every(Duration::from_millis(20)).min_garbage(GARBAGE);
    let options = options.durability(Durability::Os).auto_compact(compacts);
    let store = Store::over(options.open(&path).unwrap());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..10 {
            let source = store.source(&format!("writer {writer}")).unwrap();
            let stop = &stop;
            scope.spawn(move || {
                for n in 0u64.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let heading = u16::try_from(n % 60_000).unwrap();
                    let row = Vessel { heading, ..vessel("v", 1.0) };
                    source.assert(VESSEL, format!("{writer}/{}", n % 50), &row).unwrap();
                }
            });
        }
        // However a panic ends this, the writers are told.
        let _stops = StopsWhenDropped(&stop);
        while store.scan(VESSEL).unwrap().count() < 500 {
            std::thread::yield_now();
        }
        let builder = store.subscription(VESSEL).behind(Behind::Resume).bootstrap_hold(HOLD);
        let mut changes = builder.start().unwrap();
        let (mut was_live, mut folded) = (0, BTreeMap::new());
        // Ten writers leave a busy machine little time for it.
        let deadline = Instant::now() + Duration::from_secs(400);
        // Far more is written meanwhile than may stay, and compaction keeps up with that by itself.
        let mut items = 0u32;
        while was_live < 500 || store.journal().stats().appended_bytes < 3 * MOST {
            assert!(Instant::now() < deadline, "live {was_live} times, {:?}", store.journal().stats());
            items += 1;
            if items.is_multiple_of(16) {
                let bytes = bytes_in(&path);
                assert!(bytes < MOST, "{bytes} bytes are there of {:?}", store.journal().stats());
            }
            was_live += u64::from(changes.status() == SubscriptionStatus::Live);
            match changes.try_next().unwrap() {
                Some(StateItem::Change(change)) => {
                    folded.insert(change.key().to_vec(), change.version());
                    std::thread::sleep(Duration::from_millis(1));
                }
                Some(StateItem::Marker(Marker::BootstrapBegin { .. })) => folded.clear(),
                _ => {}
            }
        }
        stop.store(true, Ordering::Relaxed);
        store.flush().unwrap();
        store.journal().sync().unwrap();
        while let Some(item) = changes.try_next().unwrap() {
            match item {
                StateItem::Change(change) => _ = folded.insert(change.key().to_vec(), change.version()),
                StateItem::Marker(Marker::BootstrapBegin { .. }) => folded.clear(),
                _ => {}
            }
        }
        for row in store.scan(VESSEL).unwrap() {
            let row = row.unwrap();
            assert_eq!(folded.get(row.key()), Some(&row.version()));
        }
    });
}

/// What the files of a store come to, while some of them go.
fn bytes_in(path: &Path) -> u64 {
    let files = std::fs::read_dir(path).unwrap().map(Result::unwrap);
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

pub(crate) struct StopsWhenDropped<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopsWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn who_goes_on_behind_what_was_compacted_is_told_so() {
    let store = Store::over(
        Options::new().segment_bytes(4096).background(false).window(Window::Manual).in_memory().unwrap(),
    );
    let radar = store.source("radar").unwrap();
    change_often(&store, &radar, "ada", 1);
    let missed = |compacts: bool| {
        let mut changes = store.subscription(VESSEL).behind(Behind::LiveOnly).capacity(4).start().unwrap();
        told(&mut changes);
        change_often(&store, &radar, "ada", 200);
        if compacts {
            let done = store.journal().compact(&CompactOptions::new().thorough(true)).unwrap();
            assert!(done.entries_dropped > 100, "{done:?}");
        }
        match changes.try_next().unwrap() {
            Some(StateItem::Marker(Marker::Missed { compacted, .. })) => compacted,
            other => panic!("{other:?}"),
        }
    };
    assert!(!missed(false));
    assert!(missed(true));
}
