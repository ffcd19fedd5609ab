//! Mirrors in another process than the writer's.

use std::os::unix::fs::FileExt;

use esker::{
    Because, CompactOptions, Durability, ErrorKind, Kind, MirrorOutcome, Reader, Stopper, Store, Until,
};

use super::harbour::{VESSEL, Vessel, change_often, fill, options, until, vessel};
use super::table::{Content, Fault, Table, because, catch_up, changes, rows, rows_of};

#[test]
fn s27_a_mirror_beside_the_writer_goes_on_over_compaction_and_lives_and_its_token_is_the_store_s() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let open = || Store::over(options().segment_bytes(16384).open(&path).unwrap());
    let store = open();
    let reader = Reader::open(&path).unwrap();
    let refused = reader.mirror(VESSEL).named("sqlite").start(Table::default()).map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("leave the name out"), "{refused}");
    // Before there is such a kind.
    let mut beside = reader.mirror(VESSEL).start(Table::default()).unwrap();
    assert!(matches!(catch_up(&store, &mut beside), MirrorOutcome::Replaced { because: None, rows: 0, .. }));
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 20);
    assert_eq!(because(&catch_up(&store, &mut beside)), Some(Because::OtherKind));
    change_often(&store, &radar, "v00", 3);
    radar.retract(VESSEL, "v01").unwrap();
    store.flush().unwrap();
    beside.target_mut().fault = Some(Fault::ErrorBehind(1));
    assert_eq!(beside.catch_up().unwrap_err().kind(), ErrorKind::Target);
    assert_eq!(changes(&catch_up(&store, &mut beside)), 2);
    // By whichever door: the same token.
    let table = |content: Content| Table { content, ..Table::default() };
    let mut inside = store.mirror(VESSEL).start(table(beside.target().content.clone())).unwrap();
    assert!(matches!(catch_up(&store, &mut inside), MirrorOutcome::Nothing { .. }));
    change_often(&store, &radar, "v02", 3);
    assert_eq!(changes(&catch_up(&store, &mut inside)), 1);
    let mut beside = reader.mirror(VESSEL).start(table(inside.target().content.clone())).unwrap();
    assert!(matches!(catch_up(&store, &mut beside), MirrorOutcome::Nothing { .. }));
    // It holds nothing back, and is left behind.
    for _ in 0..3 {
        change_often(&store, &radar, "busy", 200);
        assert!(store.journal().compact(&CompactOptions::new()).unwrap().held_back_by.is_empty());
    }
    assert_eq!(because(&catch_up(&store, &mut beside)), Some(Because::Compacted));
    drop((radar, inside));
    store.close().unwrap();
    let store = open();
    assert!(matches!(catch_up(&store, &mut beside), MirrorOutcome::Nothing { .. }));
    change_often(&store, &store.source("radar").unwrap(), "v03", 1);
    assert_eq!(changes(&catch_up(&store, &mut beside)), 1);
}

#[test]
fn s27_the_rows_that_a_mirror_beside_the_writer_hands_over_stay_although_their_files_go() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let open = || Store::over(options().segment_bytes(16384).open(&path).unwrap());
    let store = open();
    let radar = store.source("radar").unwrap();
    // In each file there is something that goes.
    for n in 0..30u8 {
        radar.assert(VESSEL, format!("v{n:02}"), &vessel("v", 1.0)).unwrap();
        change_often(&store, &radar, "busy", 20);
    }
    drop(radar);
    store.close().unwrap();
    let store = open();
    let radar = store.source("radar").unwrap();
    let expected = rows(&store);
    let (writer, source) = (store.clone(), radar.clone());
    let during = move || {
        change_often(&writer, &source, "busy", 200);
        assert!(writer.journal().compact(&CompactOptions::new()).unwrap().entries_dropped > 100);
    };
    let target = Table { during: Some(Box::new(during)), ..Table::default() };
    let mut beside = Reader::open(&path).unwrap().mirror(VESSEL).start(target).unwrap();
    let first = beside.catch_up().unwrap();
    assert!(matches!(first, MirrorOutcome::Replaced { because: None, .. }), "{first:?}");
    assert_eq!(beside.target().content.rows, expected);
    beside.target_mut().during = None;
    catch_up(&store, &mut beside);
}

#[test]
fn s27_a_mirror_that_runs_beside_the_writer_hands_over_what_becomes_durable_until_it_is_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let open = || Store::over(options().durability(Durability::Os).segment_bytes(16384).open(&path).unwrap());
    let store = open();
    let mut beside = Reader::open(&path).unwrap().mirror(VESSEL).start(Table::default()).unwrap();
    let (monitor, stopper) = (beside.monitor(), beside.stopper());
    std::thread::scope(|scope| {
        // However a panic ends this, it is told.
        let stops = StopsWhenDropped(stopper);
        let runs = scope.spawn(move || {
            beside.run().unwrap();
            beside
        });
        // A row of a bootstrap, or a change: the mirror may have seen the kind before its row was durable.
        let taken = || monitor.status().rows + monitor.status().changes;
        let radar = store.source("radar").unwrap();
        let said = radar.assert(VESSEL, "ada", &vessel("Ada", 1.0)).unwrap();
        said.wait(Until::Durable).unwrap();
        until("the first row is mirrored", || taken() == 1);
        drop(radar);
        store.close().unwrap();
        // The next writer.
        let store = open();
        let radar = store.source("radar").unwrap();
        radar.assert(VESSEL, "ada", &Vessel { heading: 7, ..vessel("Ada", 1.0) }).unwrap();
        store.flush().unwrap();
        store.journal().sync().unwrap();
        until("the change is mirrored", || taken() == 2);
        drop(stops);
        let beside = runs.join().unwrap();
        assert_eq!(beside.target().content.rows, rows(&store));
        assert_eq!(beside.status().failures, 0);
    });
}

struct StopsWhenDropped(Stopper);

impl Drop for StopsWhenDropped {
    fn drop(&mut self) {
        self.0.stop();
    }
}

#[test]
fn s28_a_mirror_beside_a_writer_of_a_newer_version_ends_and_says_why() {
    const NEWER: Kind<Vessel> = Kind::new("vessel").version(2);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let open = || Store::over(options().open(&path).unwrap());
    let store = open();
    fill(&store, &store.source("radar").unwrap(), 3);
    let mut beside = Reader::open(&path).unwrap().mirror(VESSEL).start(Table::default()).unwrap();
    catch_up(&store, &mut beside);
    let content = beside.target().content.clone();
    store.close().unwrap();
    let store = open();
    store.source("radar").unwrap().assert(NEWER, "v00", &vessel("v", 2.0)).unwrap();
    store.flush().unwrap();
    let error = beside.run().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
    assert_eq!(beside.target().content, content);
    let mut newer = Reader::open(&path).unwrap().mirror(NEWER).start(beside.into_target()).unwrap();
    assert_eq!(because(&newer.catch_up().unwrap()), Some(Because::OtherSchema));
    assert_eq!(newer.target().content.rows, rows_of(&store, NEWER));
}

#[test]
fn s27_a_mirror_goes_on_from_its_token_where_its_process_knows_less_to_be_durable() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let store = Store::over(options().segment_bytes(16384).open(&path).unwrap());
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 3);
    let cell = || {
        let lock = std::fs::File::open(path.join("LOCK")).unwrap();
        let mut durable = [0; 8];
        lock.read_exact_at(&mut durable, DURABLE_CELL_AT).unwrap();
        durable
    };
    let before = cell();
    radar.assert(VESSEL, "x", &vessel("x", 1.0)).unwrap();
    store.flush().unwrap();
    let mut inside = store.mirror(VESSEL).start(Table::default()).unwrap();
    catch_up(&store, &mut inside);
    // As a writer leaves it that is killed between its sync and telling others of it.
    assert_ne!(cell(), before);
    let lock = std::fs::OpenOptions::new().write(true).open(path.join("LOCK")).unwrap();
    lock.write_all_at(&before, DURABLE_CELL_AT).unwrap();
    let mut beside = Reader::open(&path).unwrap().mirror(VESSEL).start(inside.into_target()).unwrap();
    let quiet = beside.catch_up().unwrap();
    assert!(matches!(quiet, MirrorOutcome::Nothing { .. }), "{quiet:?}");
    assert!(beside.target().content.rows.contains_key("x"));
    radar.retract(VESSEL, "x").unwrap();
    store.flush().unwrap();
    assert_eq!(changes(&catch_up(&store, &mut beside)), 1, "it has what the log had there");
}

/// Where the lock page says what is durable.
const DURABLE_CELL_AT: u64 = 512 + 16;
