//! What an operator is told with the feature `tracing`: each thing once, and nothing of an append.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, Once};

use esker::backplane::{Append, Stamp, Step, WriterId};
use esker::{
    At, CompactOptions, ConsumerOptions, Delivery, Durability, Fold, FoldStatus, Handled, Hold, Journal,
    Keep, ManualClock, Options, Reaction, Record, Region, Seq, Simulator, Store, Topic, WatchOptions,
};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

/// Everything that was told, a line each.
static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// One test at a time: what is told is told to the whole process.
static TURN: Mutex<()> = Mutex::new(());

struct Collector;

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "esker"
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        let mut line = Line(format!("SPAN {}", span.metadata().name()));
        span.record(&mut line);
        TOLD.lock().unwrap().push(line.0);
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        TOLD.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

fn listen() -> MutexGuard<'static, ()> {
    static BEGUN: Once = Once::new();
    let turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    BEGUN.call_once(|| tracing::subscriber::set_global_default(Collector).unwrap());
    TOLD.lock().unwrap().clear();
    turn
}

/// What was told since the last look, of what has this in it.
fn told(with: &str) -> Vec<String> {
    TOLD.lock().unwrap().iter().filter(|line| line.contains(with)).cloned().collect()
}

fn small() -> Options {
    Options::new().segment_bytes(4096).background(false).durability(Durability::Os)
}

#[test]
fn opening_and_closing_are_told_and_nothing_of_an_append() {
    let _turn = listen();
    let directory = tempfile::tempdir().unwrap();
    let journal = small().segment_bytes(1 << 20).open(directory.path().join("a.esker")).unwrap();
    let note = journal.kind("note").unwrap();
    assert_eq!(told("SPAN open store=").len(), 1, "{:?}", told(""));
    let opened = told("message=opened");
    assert!(
        opened.len() == 1 && opened[0].starts_with("INFO ") && opened[0].contains("a.esker"),
        "{opened:?}"
    );
    let before = told("").len();
    for n in 0..1000u32 {
        journal.append(Record::new(note, &n.to_le_bytes(), b"1")).unwrap();
    }
    journal.sync().unwrap();
    assert_eq!(told("").len(), before, "{:?}", told(""));
    journal.close().unwrap();
    journal.close().unwrap();
    assert_eq!(told("message=closed").len(), 1);
    assert!(told("cut").is_empty());
}

#[test]
fn what_a_crash_left_is_told_with_what_was_cut() {
    let _turn = listen();
    let disk = Simulator::new();
    let journal = small().open_in(&disk).unwrap();
    let note = journal.kind("note").unwrap();
    (0..20u32).for_each(|n| _ = journal.append(Record::new(note, &n.to_le_bytes(), &[1; 100])).unwrap());
    let mut cuts = 0;
    for seed in 1..40 {
        TOLD.lock().unwrap().clear();
        let mut next: u64 = seed;
        let mut choose = |of: usize| {
            next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed);
            (next >> 33) as usize % of
        };
        let again = small().open_in(&disk.crash(disk.events(), &mut choose)).unwrap();
        let report = again.recovery();
        let was_cut = report.cut > 0 || report.valid_after_hole > 0 || report.ambiguous;
        let cut = told("message=cut what a crash left");
        assert_eq!(cut.len(), usize::from(was_cut), "{report:?}: {:?}", told(""));
        if was_cut {
            assert!(
                cut[0].starts_with("WARN ") && cut[0].contains(&format!(" bytes={} ", report.cut)),
                "{cut:?}"
            );
            cuts += 1;
        }
    }
    assert!(cuts > 0, "no crash left anything to be cut");
}

#[test]
fn poison_is_told_once_with_its_first_reason() {
    let _turn = listen();
    let disk = Simulator::new();
    let journal = small().durability(Durability::Sync).open_in(&disk).unwrap();
    let note = journal.kind("note").unwrap();
    disk.fail_sync_after(0);
    for _ in 0..3 {
        journal.append(Record::new(note, b"a", b"1")).unwrap_err();
        journal.sync().unwrap_err();
    }
    let poisoned = told("message=poisoned");
    assert!(
        poisoned.len() == 1 && poisoned[0].starts_with("ERROR ") && poisoned[0].contains("sync "),
        "{:?}",
        told("")
    );
}

#[test]
fn compaction_is_told_and_who_was_left_behind() {
    let _turn = listen();
    let directory = tempfile::tempdir().unwrap();
    let journal = small().open(directory.path().join("a.esker")).unwrap();
    let note = journal.kind("note").unwrap();
    journal.keep(note, Keep::Latest).unwrap();
    let options = WatchOptions::new().hold(Hold::UpTo(1000));
    drop(journal.watch_with("slow", Region::all(), options).unwrap());
    for _ in 0..200 {
        journal.append(Record::new(note, b"a", &[1; 100])).unwrap();
    }
    let done = journal.compact(&CompactOptions::new()).unwrap();
    assert!(done.entries_dropped > 0, "{done:?}");
    assert_eq!(told("SPAN compact").len(), 1);
    let compacted = told("message=compacted");
    assert!(
        compacted.len() == 1 && compacted[0].contains(&format!("entries_dropped={}", done.entries_dropped)),
        "{:?}",
        told("")
    );
    let lost = told("message=a cursor is lost");
    assert!(lost.len() == 1 && lost[0].contains("cursor=\"slow\""), "{:?}", told(""));
    assert_eq!(journal.stats().cursors_lost, 1);
}

struct Sum;
impl Fold for Sum {
    type State = u64;
    type Event = u64;
    const NAME: &'static str = "sum";
    const VERSION: u32 = 3;
    fn fold(sum: &mut u64, n: u64, _: &At) {
        *sum += n;
    }
}

#[test]
fn a_fold_that_halts_is_told_once() {
    let _turn = listen();
    let store = Store::in_memory().unwrap();
    let topic = store.topic(Topic::<u64>::new("number"), "a").unwrap();
    topic.append(&1).unwrap();
    let broken = Append::new("number", b"a", b"\xc1", Stamp::new(WriterId::random().unwrap(), 1));
    store.backplane().unwrap().commit(&[Step::Append(broken)]).unwrap();
    let fold = topic.fold::<Sum>().unwrap();
    while !matches!(fold.read().unwrap().status, FoldStatus::Halted(_)) {
        std::thread::yield_now();
    }
    let halted = told("message=a fold halted");
    assert!(
        halted.len() == 1 && halted[0].contains("fold=\"sum\" version=3") && halted[0].contains("no value"),
        "{:?}",
        told("")
    );

    // The end of the store is no halt to be told of.
    let other = store.topic(Topic::<u64>::new("number"), "b").unwrap().fold::<Sum>().unwrap();
    other.read().unwrap();
    store.close().unwrap();
    while other.read().is_ok() {
        std::thread::yield_now();
    }
    assert_eq!(told("message=a fold halted").len(), 1, "{:?}", told(""));
    assert_eq!(store.journal().stats().folds.halts, 1);
}

#[test]
fn a_reactor_that_is_stuck_is_told_with_the_entry() {
    let _turn = listen();
    let directory = tempfile::tempdir().unwrap();
    let store =
        Store::over(Options::new().durability(Durability::Os).open(directory.path().join("a")).unwrap());
    let journal: &Journal = store.journal();
    let note = journal.kind("note").unwrap();
    let failing = |_: esker::Entry<'_>, _: &mut esker::Out<'_>| -> Reaction { Err("no".into()) };
    let reactor = store.react("stuck one", Region::kind(note), failing).unwrap();
    let seq: Seq = journal.append(Record::new(note, b"a", b"1")).unwrap().seq;
    while told("message=a reactor is stuck").is_empty() {
        std::thread::yield_now();
    }
    let stuck = told("message=a reactor is stuck");
    assert!(
        stuck[0].contains("reactor=\"stuck one\"") && stuck[0].contains(&format!("seq={seq}")),
        "{stuck:?}"
    );
    reactor.stop();
    store.close().unwrap();
}

#[test]
fn a_consumer_that_is_stuck_is_told_once_behind_the_eighth_attempt() {
    let _turn = listen();
    let clock = ManualClock::new();
    let options = Options::new().background(false).durability(Durability::Os).clock(clock.clone());
    let store = Store::over(options.in_memory().unwrap());
    let topic = store.topic(Topic::<u64>::new("number"), "8812").unwrap();
    let offset = topic.append(&1).unwrap();
    let failing = |_: &Delivery<'_, u64>| -> Handled { Err("no ship".into()) };
    let consumer = topic.on_event("stuck one", ConsumerOptions::new(), failing).unwrap();
    let stuck = || told("message=a consumer is stuck");
    for attempt in 1..=10 {
        while consumer.status().stuck < attempt || !consumer.is_asleep() {
            std::thread::yield_now();
        }
        assert_eq!(stuck().len(), usize::from(attempt >= 8), "{attempt}");
        clock.advance(consumer.status().pause.unwrap());
    }
    let told = stuck().remove(0);
    for part in [
        "WARN",
        "consumer=\"stuck one\"",
        "number/8812",
        &format!("offset={offset}"),
        "attempts=8",
        "no ship",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
    store.close().unwrap();
}

#[test]
fn a_consumer_that_does_not_go_on_is_told_once_with_the_reason() {
    let _turn = listen();
    let store = Store::over(small().in_memory().unwrap());
    let topic = store.topic(Topic::<u64>::new("number"), "8812").unwrap();
    let consumer = topic.on_event("retired", ConsumerOptions::new(), |_: &Delivery<'_, u64>| Ok(())).unwrap();
    let offset = topic.append(&1).unwrap();
    while consumer.status().committed < offset {
        std::thread::yield_now();
    }
    assert!(topic.retire_consumer("retired").unwrap());
    topic.append(&2).unwrap();
    while !consumer.status().has_ended() {
        std::thread::yield_now();
    }
    consumer.close().unwrap();
    store.close().unwrap();
    let told = told("message=a consumer does not go on");
    assert_eq!(told.len(), 1, "{told:?}");
    // It may have done the second one before it found out.
    let at = consumer.status().position;
    assert!(at >= offset);
    for part in ["ERROR", "consumer=\"retired\"", "number/8812", &format!("offset={at}"), "was retired"] {
        assert!(told[0].contains(part), "{part} in {}", told[0]);
    }
}
