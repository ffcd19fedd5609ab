//! What a process knows of cells without asking: copies that only move forward, fed by what is told and by a sweep.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use esker::backplane::{
    Backplane, CELLS_CHANNEL, CellState, Compactor, Done, Era, Feed, Filter, InMemory, Listener, Offset, Put,
    Revision, Stamp, Step, WriterId,
};
use esker::conformance::doubles::{Double, Fault};
use esker::{Cell, CellWatcher, ErrorKind, Options, Result, Store};
use proptest::prelude::*;

const PATIENCE: Duration = Duration::from_secs(30);
/// Never.
const NO_SWEEP: Duration = Duration::ZERO;
const OFTEN: Duration = Duration::from_millis(2);

fn on(plane: Arc<dyn Backplane>, sweep: Duration) -> Store {
    Store::over(Options::new().cell_sweep(sweep).in_memory().unwrap()).with_backplane(plane)
}

fn cell(store: &Store) -> Cell<u64> {
    store.cells().scope("s").unwrap().cell("c").unwrap()
}

/// A change by other means than a cell's: nobody is told of it.
fn put_untold(plane: &dyn Backplane, value: &[u8]) -> Revision {
    let key = b"\x01s\0c";
    let expect = plane.load(key).unwrap().revision;
    let stamp = Stamp::new(WriterId::random().unwrap(), 1);
    plane.commit(&[Step::Put(Put::new(key, expect, Some(value), stamp))]).unwrap().revision(0).unwrap()
}

/// Waits until the watcher is told of a revision.
fn told_of(watcher: &mut CellWatcher<u64>, revision: Revision) -> Option<u64> {
    loop {
        let told = watcher.next_timeout(PATIENCE).unwrap().expect("it is told in time");
        if told.revision >= revision {
            return told.value;
        }
    }
}

/// A backplane that counts what is asked of it, and may answer as before.
#[derive(Debug)]
struct Watched {
    inner: InMemory,
    loads: AtomicU64,
    /// What a leader of before answers: the cell as it was at first.
    answers_late: AtomicBool,
    first: OnceLock<CellState>,
    era: AtomicU64,
}

impl Watched {
    fn new() -> Arc<Self> {
        let (loads, answers_late) = (AtomicU64::new(0), AtomicBool::new(false));
        let (inner, era) = (InMemory::new(), AtomicU64::new(1));
        Arc::new(Self { inner, loads, answers_late, first: OnceLock::new(), era })
    }
}

impl Backplane for Watched {
    fn atomic(&self) -> bool {
        true
    }
    fn commit(&self, steps: &[Step<'_>]) -> Result<Done> {
        self.inner.commit(steps)
    }
    fn subscribe(&self, filter: Filter<'_>, from: Offset) -> Result<Box<dyn Feed>> {
        self.inner.subscribe(filter, from)
    }
    fn head(&self, filter: Filter<'_>) -> Result<Offset> {
        self.inner.head(filter)
    }
    fn lowest_retained(&self, filter: Filter<'_>) -> Result<Offset> {
        self.inner.lowest_retained(filter)
    }
    fn load(&self, cell: &[u8]) -> Result<CellState> {
        let now = self.inner.load(cell)?;
        self.loads.fetch_add(1, Ordering::SeqCst);
        let first = self.first.get_or_init(|| now.clone());
        Ok(if self.answers_late.load(Ordering::SeqCst) { first.clone() } else { now })
    }
    fn broadcast(&self, channel: &str, bytes: &[u8]) -> Result<usize> {
        self.inner.broadcast(channel, bytes)
    }
    fn listen(&self, channel: &str) -> Result<Box<dyn Listener>> {
        self.inner.listen(channel)
    }
    fn era(&self) -> Result<Era> {
        Ok(Era::from_raw(u128::from(self.era.load(Ordering::SeqCst))))
    }
    fn close(&self) -> Result<()> {
        self.inner.close()
    }
    fn compactor(&self) -> Option<&dyn Compactor> {
        None
    }
}

#[test]
fn a_copy_is_read_without_a_call_and_knows_one_s_own_changes_at_once() {
    let plane = Watched::new();
    let store = on(plane.clone(), NO_SWEEP);
    let cell = cell(&store);
    assert_eq!((cell.get().unwrap().value, cell.get().unwrap().revision), (None, Revision::NEVER));
    // The task that listens looks once at what was told before it did.
    let mut watcher = cell.watch().unwrap();
    watcher.next().unwrap();
    for n in 1..50 {
        let updated = cell.update(|_| Ok(Some(n))).unwrap();
        assert_eq!(cell.get().unwrap(), updated);
    }
    while plane.loads.load(Ordering::SeqCst) < 1 + 1 + 49 {
        std::thread::yield_now();
    }
    let loads = plane.loads.load(Ordering::SeqCst);
    (0..1000).for_each(|_| assert_eq!(cell.clone().get().unwrap().value, Some(49)));
    assert_eq!(plane.loads.load(Ordering::SeqCst), loads, "nobody was asked");
    assert_eq!(told_of(&mut watcher, cell.get().unwrap().revision), Some(49));
}

#[test]
fn what_another_store_changes_is_told_and_what_nobody_tells_is_found_by_the_sweep() {
    // One journal: its stores hear each other. In memory they do not.
    let journal = Options::new().cell_sweep(NO_SWEEP).in_memory().unwrap();
    let memory = InMemory::new();
    let heard = [Store::over(journal.clone()), Store::over(journal)];
    let swept = [(); 2].map(|()| on(Arc::new(memory.reopened()), OFTEN));
    for [here, there] in [heard, swept] {
        let (here, there) = (cell(&here), cell(&there));
        let mut watcher = here.watch().unwrap();
        assert_eq!(watcher.next().unwrap().value, None);
        for n in 0..40 {
            let changed = there.update(|_| Ok(if n % 7 == 6 { None } else { Some(n) })).unwrap();
            let told = told_of(&mut watcher, changed.revision);
            assert_eq!(told, changed.value);
            assert_eq!(here.get().unwrap(), changed);
        }
    }
    let store = on(Arc::new(memory.reopened()), OFTEN);
    let mut watcher = cell(&store).watch().unwrap();
    let revision = put_untold(&memory, b"\x07");
    assert_eq!(told_of(&mut watcher, revision), Some(7));
}

#[test]
fn a_copy_never_goes_back_whatever_is_answered_until_revisions_begin_anew() {
    let plane = Watched::new();
    let store = on(plane.clone(), OFTEN);
    let cell = cell(&store);
    let first = cell.update(|_| Ok(Some(1))).unwrap();
    plane.first.get().unwrap();
    for n in 2..20 {
        cell.update(|_| Ok(Some(n))).unwrap();
    }
    let newest = cell.get().unwrap();
    plane.answers_late.store(true, Ordering::SeqCst);
    let loads = plane.loads.load(Ordering::SeqCst);
    // Those of the sweep, and one's own.
    for asked_here in 0.. {
        if plane.loads.load(Ordering::SeqCst) >= loads + asked_here + 5 {
            break;
        }
        assert_eq!(cell.get().unwrap(), newest);
        let asked = cell.load().unwrap();
        assert!(asked.revision < first.revision, "the leader is of before");
        assert_eq!(cell.get().unwrap(), newest, "and nobody goes back with it");
    }
    // In another era it is no other moment of the same.
    let mut watcher = cell.watch().unwrap();
    assert_eq!(watcher.next().unwrap(), newest);
    plane.era.store(2, Ordering::SeqCst);
    assert_eq!(watcher.next_timeout(PATIENCE).unwrap().unwrap().revision, Revision::NEVER);
    assert_eq!(cell.get().unwrap().revision, Revision::NEVER);
}

#[test]
fn what_is_no_value_of_the_type_is_an_error_each_time_and_what_comes_then_is_told() {
    let plane = InMemory::new();
    let store = on(Arc::new(plane.reopened()), OFTEN);
    let cell = cell(&store);
    let mut watcher = cell.watch().unwrap();
    watcher.next().unwrap();
    put_untold(&plane, b"\xa1x");
    assert_eq!(watcher.next().unwrap_err().kind(), ErrorKind::Codec);
    for _ in 0..2 {
        let error = cell.get().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Codec);
        assert!(error.to_string().contains("decode the cell"), "{error}");
    }
    let revision = put_untold(&plane, b"\x05");
    assert_eq!(told_of(&mut watcher, revision), Some(5));
}

#[test]
fn a_watcher_ends_with_the_store_and_keeps_none_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.esker");
    // Whether those who feed the copies have heard of a close by then is a matter of luck: often.
    for closes in [true, false].into_iter().cycle().take(40) {
        let store = Store::open(&path).unwrap();
        let mut watcher = cell(&store).watch().unwrap();
        watcher.next().unwrap();
        std::thread::scope(|threads| {
            let waits = threads.spawn(|| watcher.next().unwrap_err().kind());
            if closes {
                store.close().unwrap();
                assert_eq!(cell(&store).get().unwrap_err().kind(), ErrorKind::Closed);
            }
            drop(store);
            assert_eq!(waits.join().unwrap(), ErrorKind::Closed);
        });
    }
    Store::open(&path).expect("nobody holds it any more");
}

#[test]
fn a_backplane_that_comes_and_goes_ends_no_watcher() {
    for seed in 0..8 {
        let memory = InMemory::new();
        let double = Double::new(Arc::new(memory.reopened()), Fault::Blip, seed);
        let store = on(Arc::new(double), OFTEN);
        let cell = cell(&store);
        let mut watcher = loop {
            match cell.watch() {
                Ok(watcher) => break watcher,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}"),
            }
        };
        for n in 0..20 {
            let revision = put_untold(&memory, &[n]);
            assert_eq!(told_of(&mut watcher, revision), Some(u64::from(n)), "seed {seed}");
        }
    }
}

#[test]
fn messages_that_are_none_change_nothing() {
    let plane = InMemory::new();
    let handle = Arc::new(plane.reopened());
    let store = on(handle.clone(), NO_SWEEP);
    let cell = cell(&store);
    let mut watcher = cell.watch().unwrap();
    watcher.next().unwrap();
    for message in [&b""[..], b"short", &[0xff; 8], &[0xff; 300], &[&[0xff; 8], &b"\x01s\0c"[..]].concat()] {
        handle.broadcast(CELLS_CHANNEL, message).unwrap();
    }
    let changed = cell.update(|_| Ok(Some(3))).unwrap();
    assert_eq!(watcher.next().unwrap(), changed);
    assert!(watcher.next_timeout(Duration::from_millis(5)).unwrap().is_none());
}

#[derive(Clone, Debug)]
enum Operation {
    Update(bool, u64),
    Empty(bool),
    Untold(u8),
    Get(bool),
    LetGo(bool),
}

fn operation() -> impl Strategy<Value = Operation> {
    let store = any::<bool>();
    prop_oneof![
        4 => (store, 0..100_u64).prop_map(|(store, n)| Operation::Update(store, n)),
        1 => store.prop_map(Operation::Empty),
        2 => (0..100_u8).prop_map(Operation::Untold),
        6 => store.prop_map(Operation::Get),
        1 => store.prop_map(Operation::LetGo),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_copy_is_what_the_cell_was_at_some_time_and_comes_to_what_it_is(
        operations in proptest::collection::vec(operation(), 1..60),
    ) {
        let memory = InMemory::new();
        let stores = [(); 2].map(|()| on(Arc::new(memory.reopened()), OFTEN));
        let mut cells = [cell(&stores[0]), cell(&stores[1])];
        // By revision.
        let mut history = vec![None];
        let mut seen = [0; 2];
        for operation in operations {
            match operation {
                Operation::Update(at, n) => {
                    let done = cells[usize::from(at)].update(|_| Ok(Some(n))).unwrap();
                    history.push(Some(n));
                    prop_assert_eq!(done.revision.raw() + 1, history.len() as u64);
                    let known = cells[usize::from(at)].get().unwrap();
                    prop_assert_eq!(known, done);
                }
                Operation::Empty(at) => {
                    cells[usize::from(at)].update(|_| Ok(None)).unwrap();
                    history.push(None);
                }
                Operation::Untold(n) => {
                    put_untold(&memory, &[n]);
                    history.push(Some(u64::from(n)));
                }
                Operation::Get(at) => {
                    let known = cells[usize::from(at)].get().unwrap();
                    let revision = usize::try_from(known.revision.raw()).unwrap();
                    prop_assert_eq!(known.value, history[revision]);
                    prop_assert!(revision >= seen[usize::from(at)], "it went back");
                    seen[usize::from(at)] = revision;
                }
                Operation::LetGo(at) => cells[usize::from(at)] = cell(&stores[usize::from(at)]),
            }
        }
        let last = Revision::from_raw(history.len() as u64 - 1);
        for cell in &cells {
            let mut watcher = cell.watch().unwrap();
            prop_assert_eq!(told_of(&mut watcher, last), *history.last().unwrap());
        }
    }
}
