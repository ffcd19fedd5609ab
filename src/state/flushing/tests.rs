//! What is said while a window is on its way comes to the same as what is said behind it.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::disk::simulator::Simulator;
use crate::disk::{Access, Directory, File, FileSystem, Hold, Name};
use crate::error::ErrorKind;
use crate::journal::Journal;
use crate::journal::entry::OwnedEntry;
use crate::journal::waiting::Until;
use crate::options::Options;
use crate::state::engine::{OnlyIf, Operation};
use crate::state::kind::{Kind, Patch};
use crate::state::pending::Saying;
use crate::state::sessions::{SourceOptions, Speaker, Who};
use crate::state::source::Source;
use crate::state::ticket::{Made, StateTicket};

#[derive(Clone, serde::Serialize, serde::Deserialize, Default)]
#[serde(default)]
struct Buoy {
    is_lit: bool,
    depth: u32,
}

const QUIET: Kind<Buoy> = Kind::new("quiet");
const TOLD: Kind<Buoy> = Kind::new("told").events();

/// Generation and kind, operation, key, extensions and payload of a frame.
type Logged = (u64, u8, Vec<u8>, Vec<u8>, Vec<u8>);

struct Harbour {
    journal: Journal,
    core: Arc<Core>,
    state: Arc<State>,
    sources: Vec<Source>,
}

impl Harbour {
    fn new() -> Self {
        Self::over(|options| options.in_memory())
    }

    fn over(open: impl FnOnce(&Options) -> Result<Journal>) -> Self {
        let journal = open(&Options::new().background(false).window(Every::Manual)).unwrap();
        let core = Arc::clone(journal.core());
        let state = State::of(&core);
        // The log has both kinds before anybody stands in its way.
        let _ = [QUIET, TOLD].map(|kind| state.schemas.bind(&core, kind).unwrap());
        let source = |name| Source::claim(&journal, Who::Named(name), SourceOptions::new()).unwrap();
        let sources = ["radar", "camera"].map(source).into();
        Self { journal, core, state, sources }
    }

    fn say(&self, said: &Said) -> Option<StateTicket> {
        let Said { source, kind, key, what } = said;
        let (source, kind) = (&self.sources[*source], if *kind { TOLD } else { QUIET });
        let depth = |depth: &u32| Patch::new().set("depth", depth).unwrap();
        match what {
            What::Assert(depth) => source.assert(kind, key, &Buoy { is_lit: true, depth: *depth }).ok(),
            What::Patch(to) => source.patch(kind, key, &depth(to)).ok(),
            What::PatchExisting(to) => source.patch_existing(kind, key, &depth(to)).ok(),
            What::Update => {
                let more =
                    |buoy: Option<Buoy>| Buoy { is_lit: true, depth: buoy.map_or(0, |buoy| buoy.depth + 1) };
                source.update(kind, key, more).ok()
            }
            What::Retract => source.retract(kind, key).ok(),
        }
    }

    /// Does something while the window is on its way, as a thread that flushes for nobody leaves it.
    fn beside_a_flush<R>(&self, then: impl FnOnce() -> R) -> R {
        let writer = self.core.writer.lock();
        std::thread::scope(|scope| {
            let flusher = scope.spawn(|| {
                let mut open = self.state.open.lock();
                self.state.flush_for_nobody(&self.core, &mut open);
            });
            while !self.state.open.lock().is_on_its_way() && !flusher.is_finished() {
                std::thread::yield_now();
            }
            let done = then();
            drop(writer);
            flusher.join().unwrap();
            done
        })
    }

    fn flush(&self) {
        self.state.flush(&self.core).unwrap();
    }

    /// All that the log has of both kinds and their operations.
    fn log(&self) -> Vec<Logged> {
        let frame = |entry: OwnedEntry| {
            let entry = entry.entry();
            let frame = entry.frame();
            let (header, extensions) = (&frame.header, frame.extensions().to_vec());
            let place = header.generation.get() << 16 | u64::from(header.kind.get());
            (place, header.operation, frame.key().to_vec(), extensions, frame.payload().to_vec())
        };
        let kinds = ["quiet", "told", "esker.events.told"].map(|name| self.journal.kind_named(name));
        let view = self.journal.view();
        let mut entries: Vec<OwnedEntry> = Vec::new();
        for kind in kinds.into_iter().flatten() {
            entries.extend(view.kind(kind.id).map(|entry| entry.unwrap().to_owned()));
        }
        entries.sort_by_key(|entry| entry.entry().seq());
        entries.into_iter().map(frame).collect()
    }
}

#[derive(Clone, Debug)]
struct Said {
    source: usize,
    kind: bool,
    key: &'static str,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Assert(u32),
    Patch(u32),
    PatchExisting(u32),
    Update,
    Retract,
}

fn said() -> impl Strategy<Value = Said> {
    let what = prop_oneof![
        3 => (0..3u32).prop_map(What::Assert),
        2 => (0..3u32).prop_map(What::Patch),
        1 => (0..3u32).prop_map(What::PatchExisting),
        1 => Just(What::Update),
        3 => Just(What::Retract),
    ];
    (0..2usize, any::<bool>(), prop_oneof![Just("ada"), Just("grace")], what)
        .prop_map(|(source, kind, key, what)| Said { source, kind, key, what })
}

fn outcomes(tickets: &[Option<StateTicket>]) -> Vec<Option<(Made, u64)>> {
    let outcome = |ticket: &StateTicket| {
        let committed = ticket.wait(Until::Visible).unwrap();
        (committed.change, committed.version)
    };
    tickets.iter().map(|ticket| ticket.as_ref().map(outcome)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_is_said_beside_a_flush_comes_to_what_is_said_behind_it(
        rounds in proptest::collection::vec((proptest::collection::vec(said(), 0..6), proptest::collection::vec(said(), 0..6)), 1..6)
    ) {
        let (one, other) = (Harbour::new(), Harbour::new());
        for (first, then) in &rounds {
            let say = |harbour: &Harbour, said: &[Said]| -> Vec<_> { said.iter().map(|said| harbour.say(said)).collect() };
            let mut beside = say(&one, first);
            beside.extend(one.beside_a_flush(|| say(&one, then)));
            let mut behind = say(&other, first);
            other.flush();
            behind.extend(say(&other, then));
            // The second window stays open on both sides, and the next round goes on in it.
            prop_assert_eq!(
                behind.iter().map(Option::is_some).collect::<Vec<_>>(),
                beside.iter().map(Option::is_some).collect::<Vec<_>>()
            );
            if then.len() % 2 == 0 {
                one.flush();
                other.flush();
                prop_assert_eq!(outcomes(&beside), outcomes(&behind));
            }
        }
        one.flush();
        other.flush();
        prop_assert_eq!(one.log(), other.log());
    }
}

#[test]
fn who_expects_a_version_waits_for_the_window_that_is_on_its_way() {
    let harbour = Harbour::new();
    let radar = &harbour.sources[0];
    radar.assert(QUIET, "ada", &buoy(1)).unwrap();
    harbour.flush();
    radar.assert(QUIET, "ada", &buoy(2)).unwrap();
    let (radar, asked) = (radar.clone(), std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        let expecting = harbour.beside_a_flush(|| {
            let expecting = scope.spawn(|| {
                asked.wait();
                (
                    radar.assert_if(QUIET, "ada", 2, &buoy(3)).map(drop),
                    radar.assert_if(QUIET, "ada", 1, &buoy(3)).map(drop),
                )
            });
            asked.wait();
            expecting
        });
        let (second, first) = expecting.join().unwrap();
        second.unwrap();
        assert_eq!(first.unwrap_err().kind(), ErrorKind::Conflict);
    });
}

fn buoy(depth: u32) -> Buoy {
    Buoy { is_lit: true, depth }
}

/// Metadata that fills a segment soon.
const LONG: usize = 8 << 10;

/// Fills the disk until a window that was closed cannot be appended. Answers what was said last before it was closed, and
/// while it was on its way.
fn stuck<F, T>(
    harbour: &Harbour,
    disk: &Simulator,
    first: impl Fn(u32) -> F,
    then: impl Fn(u32) -> T,
) -> (F, T) {
    harbour.sources[0].assert(QUIET, "ada", &buoy(0)).unwrap();
    harbour.flush();
    let mut depth = 0;
    loop {
        disk.limit_space(Some(0));
        depth += 2;
        let first = first(depth - 1);
        let then = harbour.beside_a_flush(|| then(depth));
        let failed = harbour.state.open.lock().untold.take();
        if let Some(error) = failed {
            assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
            return (first, then);
        }
        // Until the segment is full there is room for the first, and the second need not have any.
        disk.limit_space(None);
        harbour.flush();
    }
}

#[test]
fn a_window_that_could_not_be_appended_goes_before_what_was_said_since() {
    let disk = Simulator::new();
    let harbour = Harbour::over(|options| options.open_in(&disk));
    let say =
        |key: &str, depth| harbour.sources[0].assert_with(QUIET, key, &buoy(depth), &[0; LONG]).unwrap();
    let (first, then) =
        stuck(&harbour, &disk, |depth| say("ada", depth), |depth| [say("ada", depth), say("grace", depth)]);
    assert!(harbour.state.append(&harbour.core).is_err(), "as often as it is tried");
    assert_eq!(harbour.state.stats(&harbour.core).unwrap().pending, 3);
    disk.limit_space(None);
    harbour.flush();
    let version = first.wait(Until::Durable).unwrap().version;
    let versions = then.map(|ticket| ticket.wait(Until::Durable).unwrap().version);
    assert_eq!(versions[0], version + 1, "two windows, in their order");
    assert_eq!(harbour.state.stats(&harbour.core).unwrap().pending, 0);
}

#[test]
fn who_expects_a_version_is_told_of_what_others_have_pending_in_a_window_that_is_stuck() {
    let disk = Simulator::new();
    let harbour = Harbour::over(|options| options.open_in(&disk));
    let (radar, camera) = (&harbour.sources[0], &harbour.sources[1]);
    let said = |source: &Source, depth| source.assert_with(QUIET, "ada", &buoy(depth), &[0; LONG]).unwrap();
    let _ = stuck(&harbour, &disk, |depth| said(camera, depth), |depth| said(radar, depth));
    let kind = harbour.journal.kind_named("quiet").unwrap().id;
    let view = harbour.journal.view();
    let version = view.latest(kind, b"ada").unwrap().unwrap().generation().get();
    let refused = radar.assert_if(QUIET, "ada", version, &buoy(1_000_000)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
}

#[test]
fn a_ticket_tells_what_became_of_its_own_window_also_where_the_next_one_is_stuck() {
    let disk = Simulator::new();
    let harbour = Harbour::over(|options| options.open_in(&disk));
    let radar = &harbour.sources[0];
    let said = |depth| radar.assert_with(QUIET, "ada", &buoy(depth), &[0; LONG]).unwrap();
    let (first, _) = stuck(&harbour, &disk, said, said);
    let more = |n: u32| radar.assert_with(QUIET, n.to_le_bytes(), &buoy(n), &[7; 65_000]).unwrap();
    let more: Vec<StateTicket> = (0..50).map(more).collect();
    // For one more segment, which the second window does not fit into.
    disk.limit_space(Some(1 << 20));
    assert_eq!(first.wait(Until::Visible).unwrap().change, Made::Updated);
    assert_eq!(more[49].wait(Until::Visible).unwrap_err().kind(), ErrorKind::NoSpace);
}

/// A directory in which something is wrong with the code.
#[derive(Debug)]
struct Panics(Arc<dyn Directory>, AtomicBool);

impl Directory for Panics {
    fn path(&self) -> &Path {
        self.0.path()
    }
    fn file_system(&self) -> FileSystem {
        self.0.file_system()
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes()
    }
    fn list(&self) -> io::Result<Vec<Name>> {
        self.0.list()
    }
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        self.0.open(name, access)
    }
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        assert!(!self.1.load(Ordering::Relaxed), "a bug in the append");
        self.0.create(name)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
    fn link(&self, name: &str, to: &Path) -> io::Result<()> {
        self.0.link(name, to)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
    fn hold(&self) -> io::Result<Option<Hold>> {
        self.0.hold()
    }
    fn sync_parent(&self) -> io::Result<()> {
        self.0.sync_parent()
    }
}

#[test]
fn a_panic_in_the_append_of_a_closed_window_leaves_it_pending_and_nobody_waiting() {
    let directory = Arc::new(Panics(Simulator::new().directory(), false.into()));
    let options = Options::new().background(false).window(Every::Manual);
    let core = Arc::new(crate::journal::opening::open(Arc::<Panics>::clone(&directory), options).unwrap());
    let state = State::of(&core);
    let bound = state.schemas.bind(&core, QUIET).unwrap();
    let claimed = state.claim(&core, Who::Named("radar"), SourceOptions::new()).unwrap();
    let speaker = Speaker { source: claimed.id, session: claimed.session, name: &claimed.name };
    let mut row = Vec::new();
    let has_panicked = (0..1_000).any(|depth| {
        row.clear();
        crate::state::row::encode(&bound, b"ada", &buoy(depth), &mut row).unwrap();
        let (saying, only_if) = (Saying::Assert(&row), OnlyIf::Whatever);
        let operation = Operation { speaker, key: b"ada", saying, metadata: &[0; 60_000], only_if };
        state.accept(&core, &bound, &operation).unwrap();
        directory.1.store(true, Ordering::Relaxed);
        let flushed = catch_unwind(AssertUnwindSafe(|| {
            state.flush_for_nobody(&core, &mut state.open.lock());
        }));
        directory.1.store(false, Ordering::Relaxed);
        flushed.is_err()
    });
    assert!(has_panicked, "a segment was made");
    assert_eq!(state.stats(&core).unwrap().pending, 1);
    state.flush(&core).unwrap();
    assert_eq!(state.stats(&core).unwrap().pending, 0);
    state.end(&core).unwrap();
}

#[test]
fn a_close_waits_for_the_window_that_is_on_its_way_and_appends_what_was_said_since() {
    let disk = Simulator::new();
    let harbour = Harbour::over(|options| options.open_in(&disk));
    let say = |depth| harbour.sources[0].assert(QUIET, "ada", &buoy(depth)).unwrap();
    say(1);
    std::thread::scope(|scope| {
        let closing = harbour.beside_a_flush(|| {
            say(2);
            let closing = scope.spawn(|| harbour.state.end(&harbour.core));
            while !harbour.state.open.lock().has_ended {
                std::thread::yield_now();
            }
            closing
        });
        closing.join().unwrap().unwrap();
    });
    assert_eq!(harbour.log().len(), 2);
}

#[test]
fn an_operation_behind_a_pause_is_flushed_at_once_and_the_next_one_when_a_window_has_passed() {
    const WINDOW: Duration = Duration::from_secs(30);
    let journal = Options::new().window(Every::Every(WINDOW)).in_memory().unwrap();
    let state = State::of(journal.core());
    let source = Source::claim(&journal, Who::Named("radar"), SourceOptions::new()).unwrap();
    state.open.lock().last_flush = Instant::now().checked_sub(WINDOW).unwrap();
    let behind_a_pause = source.assert(QUIET, "ada", &Buoy::default()).unwrap();
    let begun = Instant::now();
    while !behind_a_pause.is_flushed() {
        assert!(begun.elapsed() < WINDOW / 2, "it waits for a window");
        std::thread::yield_now();
    }
    let before = Instant::now();
    let next = source.assert(QUIET, "bob", &Buoy::default()).unwrap();
    let due = state.open.lock().flush_due(journal.core().options.window).unwrap();
    assert!(!next.is_flushed() && due > before + WINDOW / 2, "it does not wait");
    // Who waits for one waits for no window.
    assert_eq!(next.wait(Until::Visible).unwrap().change, Made::Created);
    assert!(Instant::now() < due);
}
