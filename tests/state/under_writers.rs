//! Readers among ten writers: all the rows of one moment, each change once, and scans that stand still.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use esker::{
    Behind, ChangeKind, Durability, Keep, Marker, Options, Reader, Seq, Source, StateItem, Status, Store,
    StoreView, Subscription, SubscriptionBuilder, Until, Version, Window,
};

use super::following::{Folded, StopsWhenDropped};
use super::harbour::{VESSEL, Vessel, until, vessel};

/// A store that forgets nothing, with so many vessels.
fn filled(path: &std::path::Path, vessels: u64) -> Store {
    let options = Options::new().durability(Durability::Os).window(Window::Every(Duration::from_millis(1)));
    let store = Store::over(options.open(path).unwrap());
    store.keep_rows(VESSEL, Keep::All).unwrap();
    let harbour = store.source("harbour").unwrap();
    for n in 0..vessels {
        harbour.assert(VESSEL, format!("v{n}"), &vessel("v", 1.0)).unwrap();
    }
    store.flush().unwrap();
    // Who reads beside it is told of nothing else.
    store.sync().unwrap();
    store
}

/// Asserts, and takes back, one of so many vessels after the other.
fn write(source: &Source, mut seed: u64, vessels: u64, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = format!("v{}", (seed >> 33) % vessels);
        let row = Vessel { heading: u16::try_from(seed >> 48).unwrap(), ..vessel("w", 1.0) };
        match (seed >> 20) % 10 {
            0..6 => source.assert(VESSEL, &key, &row).unwrap(),
            _ => source.retract(VESSEL, &key).unwrap(),
        };
    }
}

/// Something that is done while ten write.
fn among_ten_writers<R>(store: &Store, vessels: u64, read: impl FnOnce() -> R) -> R {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..10 {
            let (source, stop) = (store.source(&format!("source-{writer}")).unwrap(), &stop);
            scope.spawn(move || write(&source, writer, vessels, stop));
        }
        let _stops = StopsWhenDropped(&stop);
        read()
    })
}

/// Rows with their versions, and with who asserts them.
type Rows = BTreeMap<Vec<u8>, (u64, u64, Vessel)>;

/// Of so many vessels those that there are, each looked up by itself: nothing walks over them.
fn rows_of(view: &StoreView, vessels: u64) -> Rows {
    let keys = (0..vessels).map(|n| format!("v{n}").into_bytes());
    let row = |key: Vec<u8>| {
        let row = view.get(VESSEL, &key).unwrap()?;
        Some((key, (row.version(), row.sources().bits(), row.value().unwrap())))
    };
    keys.filter_map(row).collect()
}

/// Of thousands of rows a failure shows those alone that differ.
fn differing<R: PartialEq + Clone>(
    one: &BTreeMap<Vec<u8>, R>,
    other: &BTreeMap<Vec<u8>, R>,
) -> Vec<(String, Option<R>, Option<R>)> {
    let keys = one.keys().chain(other.keys().filter(|key| !one.contains_key(*key)));
    keys.map(|key| (String::from_utf8_lossy(key).into_owned(), one.get(key), other.get(key)))
        .filter(|(_, one, other)| one != other)
        .map(|(key, one, other)| (key, one.cloned(), other.cloned()))
        .collect()
}

#[test]
fn s24_the_rows_of_each_bootstrap_are_those_of_its_token_under_ten_writers() {
    const VESSELS: u64 = 4000;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let store = filled(&path, VESSELS);
    among_ten_writers(&store, VESSELS, || {
        std::thread::scope(|scope| {
            for reader in 0..4 {
                let (store, path) = (&store, &path);
                scope.spawn(move || {
                    // Two of them beside the process that writes, as it were; and two too slow again and again.
                    let builder = if reader < 2 {
                        store.subscription(VESSEL)
                    } else {
                        Reader::open(path).unwrap().subscription(VESSEL).until(Until::Visible)
                    };
                    let capacity = if reader % 2 == 0 { 1 << 30 } else { 100 };
                    let mut changes = builder.behind(Behind::Full).capacity(capacity).start().unwrap();
                    each_bootstrap_is_one_moment(store, VESSELS, &mut changes);
                });
            }
        });
    });
    store.close().unwrap();
}

fn each_bootstrap_is_one_moment(store: &Store, vessels: u64, changes: &mut Subscription<Vessel>) {
    let (mut gathered, mut behind) = (Rows::new(), None);
    let (mut told, mut changed) = (0, 0);
    while told < 5 {
        let completed = match changes.next().unwrap().unwrap() {
            StateItem::Marker(Marker::BootstrapBegin { .. }) => {
                (gathered, behind) = (Rows::new(), None);
                continue;
            }
            StateItem::Marker(Marker::BootstrapComplete { token, .. }) => token.seq().unwrap(),
            StateItem::Change(change) if behind.is_none() => {
                assert_eq!(change.kind(), ChangeKind::Bootstrap, "{change:?} stands among the rows");
                let row = (change.version(), change.sources().bits(), change.value().unwrap().unwrap());
                let before = gathered.insert(change.key().to_vec(), row);
                assert!(before.is_none(), "{change:?} comes twice");
                continue;
            }
            StateItem::Change(change) => {
                assert_ne!(change.kind(), ChangeKind::Bootstrap, "{change:?} stands behind the rows");
                assert!(behind.is_some_and(|token| change.seq() > token), "{change:?} was in the rows");
                // Some changes later with all rows again.
                changed += 1;
                if changed % 500 == 0 {
                    changes.rebootstrap();
                }
                continue;
            }
            other => panic!("{other:?}"),
        };
        let expected = rows_of(&store.at(completed).unwrap(), vessels);
        let differing = differing(&gathered, &expected);
        assert!(differing.is_empty(), "as of {completed}: {} rows, {differing:?}", expected.len());
        assert!(expected.len() > 1000, "{}", expected.len());
        (told, behind) = (told + 1, Some(completed));
    }
}

/// A change, as the log has it and as it is told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) seq: Seq,
    key: Vec<u8>,
    kind: ChangeKind,
    pub(crate) version: u64,
    value: Option<Vessel>,
}

/// All the changes of some vessels that were ever committed, in the order of the log.
pub(crate) fn committed(store: &Store, keys: impl Iterator<Item = String>) -> Vec<Told> {
    let mut committed = Vec::new();
    for key in keys.map(String::into_bytes) {
        let mut is_alive = false;
        for found in store.versions(VESSEL, &key).unwrap() {
            let key = key.clone();
            let told = match found {
                Version::Row(row) => {
                    let kind = if is_alive { ChangeKind::Updated } else { ChangeKind::Created };
                    let value = Some(row.value().unwrap());
                    Told { seq: row.seq(), key, kind, version: row.version(), value }
                }
                Version::Deleted { version, seq } => {
                    Told { seq, key, kind: ChangeKind::Deleted, version, value: None }
                }
                other => panic!("{other:?}"),
            };
            is_alive = told.value.is_some();
            committed.push(told);
        }
    }
    committed.sort_by_key(|told| told.seq);
    committed
}

/// What a reader was told behind its start, which it was given as a token, or with all the rows.
struct Heard {
    start: u64,
    changes: Vec<Told>,
}

fn hear(builder: SubscriptionBuilder<Vessel>, bootstrap: bool, ended: &AtomicBool) -> Heard {
    // As much as it is behind, nothing is coalesced.
    let mut changes = builder.capacity(1 << 40).bootstrap(bootstrap).start().unwrap();
    let mut heard = Heard { start: changes.started_at().seq().unwrap().get(), changes: Vec::new() };
    loop {
        let is_last = ended.load(Ordering::Acquire);
        match changes.next_timeout(Duration::from_millis(50)).unwrap() {
            Some(StateItem::Change(change)) if change.kind() != ChangeKind::Bootstrap => {
                let (seq, key) = (change.seq(), change.key().to_vec());
                let (kind, version) = (change.kind(), change.version());
                heard.changes.push(Told { seq, key, kind, version, value: change.value().unwrap() });
            }
            Some(StateItem::Marker(Marker::BootstrapComplete { token, .. })) => {
                assert!(bootstrap && heard.changes.is_empty());
                heard.start = token.seq().unwrap().get();
            }
            Some(_) => assert!(bootstrap),
            None if is_last => return heard,
            None => {}
        }
    }
}

/// So few that each changes again and again.
const FEW: u64 = 40;

#[test]
fn s29_each_committed_change_comes_exactly_once_to_whoever_starts_while_others_write() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let store = filled(&path, FEW);
    let written = || store.journal().view().last_seq().unwrap().unwrap().get();
    let ended = AtomicBool::new(false);
    let heard: Vec<Heard> = std::thread::scope(|scope| {
        let readers = among_ten_writers(&store, FEW, || {
            let start = |reader: u64| {
                until("somebody has written", || written() > reader * 200);
                let builder = if reader % 3 == 2 {
                    Reader::open(&path).unwrap().subscription(VESSEL).until(Until::Visible)
                } else {
                    store.subscription(VESSEL)
                };
                let ended = &ended;
                scope.spawn(move || hear(builder, reader % 4 == 3, ended))
            };
            let readers: Vec<_> = (0..16).map(start).collect();
            let begun = written();
            until("enough is written behind the last one's start", || written() > begun + 2000);
            readers
        });
        store.flush().unwrap();
        store.sync().unwrap();
        ended.store(true, Ordering::Release);
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    let committed = committed(&store, (0..FEW).map(|n| format!("v{n}")));
    for (reader, heard) in heard.iter().enumerate() {
        let behind = committed.partition_point(|told| told.seq.get() <= heard.start);
        check(&store, heard, &committed[behind..]).unwrap_or_else(|what| panic!("reader {reader}: {what}"));
    }
    store.close().unwrap();
}

/// What was told is what was committed, change by change, and leads from the state at the start to that of now.
fn check(store: &Store, heard: &Heard, committed: &[Told]) -> Result<(), String> {
    let pairs = heard.changes.iter().zip(committed);
    if let Some((told, is)) = pairs.clone().find(|(told, is)| told != is) {
        return Err(format!("{told:?} was told in the place of {is:?}"));
    }
    let (told, are) = (heard.changes.len(), committed.len());
    if told != are || told < 1000 {
        return Err(format!("{told} were told of {are}"));
    }
    let start = store.at(Seq::new(heard.start)).unwrap();
    let (mut versions, mut folded) = (BTreeMap::new(), Folded::new());
    for (key, (version, _, row)) in rows_of(&start, FEW) {
        folded.insert(key, (version, row));
    }
    for told in &heard.changes {
        let version = versions.entry(told.key.clone()).or_insert_with(|| version_at(&start, &told.key));
        *version += 1;
        if *version != told.version {
            return Err(format!("{told:?} is version {version} of it"));
        }
        match &told.value {
            Some(row) => _ = folded.insert(told.key.clone(), (told.version, row.clone())),
            None => _ = folded.remove(&told.key),
        }
    }
    let differing = differing(&folded, &super::following::scanned(store));
    if differing.is_empty() { Ok(()) } else { Err(format!("it comes to {differing:?}")) }
}

fn version_at(view: &StoreView, key: &[u8]) -> u64 {
    match view.status(VESSEL, key).unwrap() {
        Status::Alive { version, .. } | Status::Tombstone { version } => version,
        _ => 0,
    }
}

#[test]
fn s26_a_scan_shows_one_moment_however_long_it_takes_among_writers() {
    const VESSELS: u64 = 2000;
    let directory = tempfile::tempdir().unwrap();
    let store = filled(&directory.path().join("harbour.esker"), VESSELS);
    let written = || store.journal().view().last_seq().unwrap().unwrap();
    let all_of = |row: esker::Result<esker::OwnedRow<Vessel>>| {
        let row = row.unwrap();
        (row.key().to_vec(), (row.version(), row.sources().bits(), row.value().unwrap()))
    };
    among_ten_writers(&store, VESSELS, || {
        for _ in 0..8 {
            let before = written();
            let mut scan = store.scan(VESSEL).unwrap();
            let behind = written();
            let view = store.view();
            let mut shown: Vec<_> = scan.by_ref().take(100).map(all_of).collect();
            until("what it has yet to show is written anew", || written().get() > behind.get() + 2 * VESSELS);
            shown.extend(scan.map(all_of));
            let count = shown.len();
            let shown: Rows = shown.into_iter().collect();
            assert_eq!(shown.len(), count, "a row comes once");
            // Between these two it was made: a batch ended at its moment.
            let at = |end: Seq| rows_of(&store.at(end).unwrap(), VESSELS);
            let between = store.journal().view();
            let ends = between.range(before..=behind).map(Result::unwrap).filter(|entry| !entry.has_more());
            let ends: Vec<Seq> = ends.map(|entry| entry.seq()).collect();
            assert!(
                ends.iter().any(|end| at(*end) == shown),
                "{:?} between {before} and {behind}",
                ends.first().map(|end| differing(&at(*end), &shown))
            );
            // And a view, whose moment is known.
            let end = view.entries().last_seq().unwrap().unwrap();
            let shown = view.rows(VESSEL).unwrap().map(all_of).collect();
            let differing = differing(&shown, &at(end));
            assert!(differing.is_empty(), "{differing:?}");
        }
    });
    store.close().unwrap();
}
