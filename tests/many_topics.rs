//! Folds over many topics share two threads, and one to which nothing comes costs memory and nothing else: no thread, no
//! timer, no turn.
//!
//! `ESKER_TOPICS` says how many topics, `ESKER_TOPIC_APPENDS` how many events; the default is what a quick test can write.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a panic is a failed test; it says what it measured"
)]

mod memory;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use esker::backplane::Offset;
use esker::{At, Durability, Fold, FoldStatus, Options, Store, Topic, TopicFold};
use memory::anonymous;

const PATIENCE: Duration = Duration::from_secs(300);
const NUMBERS: Topic<u64> = Topic::new("number");
const THREADS_MAX: usize = 2;

/// What a store has whatever is appended, in bytes: the index of the segment that is being written, the entries that are not
/// in the directory yet, and the numbers of the last 65,536 topics that were appended to.
const STORE_MAX: u64 = 64 << 20;
/// What an append may leave for ten minutes, in bytes: its stamp, in two tables that may have doubled just now.
const STAMP_MAX: u64 = 192;
/// So many stamps are remembered at most.
const STAMPS_MAX: u64 = 1 << 20;
/// What one fold that is held may take, in bytes: its task, its feed, its value and its names. A thread would take as much
/// for its stack alone, and a buffer of records many times as much.
const FOLD_MAX: u64 = 4 << 10;
/// So often it is looked whether nobody gets up for a while.
const LOOKS: usize = 20;
/// What two threads that begin folds may take beside them.
const BEGUN_MAX: u64 = 4 << 20;

fn number_of(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |number| number.parse().unwrap())
}

/// Depends on every number and on their order.
fn mixed(digest: u64, number: u64) -> u64 {
    (digest ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
}

struct Digest;
impl Fold for Digest {
    type State = u64;
    type Event = u64;
    const NAME: &'static str = "digest";
    const VERSION: u32 = 1;
    fn fold(digest: &mut u64, number: u64, _: &At) {
        *digest = mixed(*digest, number);
    }
}

/// The threads of the store, by name and number, and how often each has gone to sleep.
fn threads() -> BTreeMap<(String, String), u64> {
    let mut threads = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        // One that has ended since is none.
        let Ok(name) = std::fs::read_to_string(path.join("comm")) else { continue };
        let Ok(status) = std::fs::read_to_string(path.join("status")) else { continue };
        let slept = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        let number = path.file_name().unwrap().to_string_lossy().into_owned();
        threads.insert((name.trim().to_owned(), number), slept.trim().parse().unwrap());
    }
    threads.retain(|(name, _), _| name.starts_with("esker"));
    threads
}

fn folding() -> BTreeMap<(String, String), u64> {
    let mut folding = threads();
    folding.retain(|(name, _), _| name == "esker-fold");
    folding
}

fn key(topic: u64) -> [u8; 8] {
    topic.to_le_bytes()
}

/// Half of the events go to one topic in a hundred, so that some folds save images and most never do.
fn topic_of(event: u64, topics: u64) -> u64 {
    let chance = mixed(event, 7);
    if chance & 1 == 0 { (chance >> 8) % topics } else { (chance >> 8) % topics.div_ceil(100) }
}

/// What the folds of all topics come to, and the offset of the last event of each.
struct Model {
    digests: Vec<u64>,
    last: Vec<Offset>,
}

fn append(store: &Store, model: &mut Model, events: std::ops::Range<u64>) -> usize {
    let topics = model.digests.len() as u64;
    let mut threads_seen = 0;
    for event in events {
        let topic = topic_of(event, topics);
        let place = usize::try_from(topic).unwrap();
        model.last[place] = store.topic(NUMBERS, key(topic)).unwrap().append(&event).unwrap();
        model.digests[place] = mixed(model.digests[place], event);
        if event % 1024 == 0 {
            threads_seen = threads_seen.max(folding().len());
        }
    }
    threads_seen
}

fn check(folds: &[TopicFold<Digest>], model: &Model) {
    for (topic, fold) in folds.iter().enumerate() {
        let folded = fold.read_after(model.last[topic], PATIENCE).unwrap();
        assert_eq!((folded.value, folded.offset), (model.digests[topic], model.last[topic]), "topic {topic}");
    }
}

fn wait_until_all_are_live(folds: &[TopicFold<Digest>]) {
    for fold in folds {
        while fold.read_with(|_, _, status| status != FoldStatus::Live).unwrap() {
            std::thread::yield_now();
        }
    }
}

#[test]
fn many_topics_are_folded_by_two_threads_and_an_idle_one_costs_a_place() {
    let (topics, appends) = (number_of("ESKER_TOPICS", 2_000), number_of("ESKER_TOPIC_APPENDS", 20_000));
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new().durability(Durability::Os).fold_threads(THREADS_MAX);
    let store = Store::over(options.open(directory.path().join("many.esker")).unwrap());
    let count = usize::try_from(topics).unwrap();
    let mut model = Model { digests: vec![0; count], last: vec![Offset::BEGINNING; count] };
    append(&store, &mut model, 0..1_000);

    let (before, begun) = (anonymous(), Instant::now());
    let take_up = |topic| store.topic(NUMBERS, key(topic)).unwrap().fold::<Digest>().unwrap();
    let folds: Vec<TopicFold<Digest>> = (0..topics).map(take_up).collect();
    check(&folds, &model);
    println!("{topics} folds begun in {:?}", begun.elapsed());
    let memory = anonymous().saturating_sub(before);
    println!("{} bytes of anonymous memory a fold", memory / topics);
    assert!(memory <= BEGUN_MAX + FOLD_MAX * topics, "{memory} bytes for {topics} folds that have begun");

    let begun = Instant::now();
    let threads_seen = append(&store, &mut model, 1_000..appends);
    println!("{appends} events appended in {:?}", begun.elapsed());
    check(&folds, &model);
    println!("and folded in {:?}", begun.elapsed());
    assert!((1..=THREADS_MAX).contains(&threads_seen), "{threads_seen} threads fold, of {THREADS_MAX}");

    // Neither a thread nor a timer is anybody's: those that there are sleep, and nothing gets them up.
    wait_until_all_are_live(&folds);
    // A thread may be on its way to sleep at the first look.
    let are_quiet = (0..LOOKS).any(|_| {
        let before = folding();
        std::thread::sleep(Duration::from_millis(200));
        folding() == before
    });
    assert!(are_quiet, "folds to which nothing comes have turns: {:?}", folding());
    assert!(folding().len() <= THREADS_MAX, "{:?}", folding());

    let memory = anonymous().saturating_sub(before);
    println!("{memory} bytes of anonymous memory, {} a fold", memory / topics);
    let may_take = STORE_MAX + STAMP_MAX * appends.min(STAMPS_MAX) + FOLD_MAX * topics;
    assert!(memory <= may_take, "{memory} bytes for {topics} folds, and not {may_take}");

    // One that is woken among all of them is.
    let begun = Instant::now();
    append(&store, &mut model, appends..appends + 100);
    check(&folds, &model);
    println!("100 more folded in {:?}", begun.elapsed());

    let begun = Instant::now();
    drop(folds);
    println!("all let go in {:?}", begun.elapsed());
    while !folding().is_empty() {
        std::thread::yield_now();
    }
    store.close().unwrap();
}
