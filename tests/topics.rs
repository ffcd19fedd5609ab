//! Typed topics and cells, on a store's own journal and on other backplanes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use esker::backplane::{
    Backplane, CellState, Compactor, Done, Era, Feed, Filter, InMemory, Listener, Offset, Put, Revision,
    Stamp, Step, WriterId,
};
use esker::conformance::doubles::{Double, Fault};
use esker::{
    At, Codec, ConsumerOptions, Delivery, Durability, Error, ErrorKind, Facts, Fold, FoldOptions,
    IdempotencyKey, Options, Simulator, Store, Topic, TopicTicket,
};

const ORDERS: Topic<String> = Topic::new("order").version(2);

fn stores() -> [Store; 2] {
    [Store::in_memory().unwrap(), Store::in_memory().unwrap().with_backplane(Arc::new(InMemory::new()))]
}

#[test]
fn events_are_read_as_they_were_appended_and_a_topic_ends_where_its_key_does() {
    for store in stores() {
        let (first, other) = (store.topic(ORDERS, "a").unwrap(), store.topic(ORDERS, "b").unwrap());
        let placed = first.append(&"placed".to_owned()).unwrap();
        other.append(&"elsewhere".to_owned()).unwrap();
        let refused = first.append_if(Offset::BEGINNING, &"again".to_owned()).unwrap_err();
        assert_eq!((refused.kind(), refused.actual()), (ErrorKind::Conflict, Some(&*placed.to_string())));
        let shipped = first.append_if(placed, &"shipped".to_owned()).unwrap();
        assert_eq!((first.head().unwrap(), first.lowest_retained().unwrap()), (shipped, placed));

        let mut feed = first.read(Offset::BEGINNING).unwrap();
        let all: Vec<_> = std::iter::from_fn(|| feed.try_next().unwrap()).collect();
        let values: Vec<String> = all.iter().map(|event| event.value().unwrap()).collect();
        assert_eq!(values, ["placed", "shipped"]);
        let numbers: Vec<u64> = all.iter().map(|event| event.stamp().unwrap().n).collect();
        assert_eq!((numbers, all[0].record().schema()), (vec![1, 2], 2));
        assert_eq!(feed.position(), shipped);

        first.compact(shipped).unwrap();
        let lost = first.read(Offset::BEGINNING).unwrap_err();
        assert_eq!((lost.kind(), lost.floor()), (ErrorKind::Lost, Some(shipped.raw())));
        assert!(lost.to_string().contains("`read_oldest`"), "{lost}");
        assert_eq!(first.read_oldest().unwrap().next().unwrap().offset(), shipped, "it is not left out");
        assert_eq!(other.read_oldest().unwrap().next().unwrap().value().unwrap(), "elsewhere");
        store.close().unwrap();
    }
}

/// Appends one event under a key, in three lives of what is behind it.
fn is_appended_once(mut open: impl FnMut() -> Store) {
    let (key, other) = (IdempotencyKey([7; 16]), IdempotencyKey([0; 16]));
    let mut known: Option<(Offset, Offset)> = None;
    for life in 0..3 {
        let store = open();
        let (topic, elsewhere) = (store.topic(ORDERS, "a").unwrap(), store.topic(ORDERS, "b").unwrap());
        topic.append(&format!("life {life}")).unwrap();
        let once = topic.append_once(key, &"paid".to_owned()).unwrap();
        let another = topic.append_once(other, &"paid".to_owned()).unwrap();
        assert!(once < another, "under another key it is another event");
        assert_eq!(*known.get_or_insert((once, another)), (once, another), "in life {life}");
        assert_eq!(topic.append_once(key, &"paid".to_owned()).unwrap(), once);
        let reused = topic.append_once(key, &"something else".to_owned()).unwrap_err();
        assert_eq!(reused.kind(), ErrorKind::KeyReused, "{reused}");
        elsewhere.append_once(key, &"paid".to_owned()).unwrap();
        store.close().unwrap();
    }
    let store = open();
    let read = |key: &str| {
        let mut feed = store.topic(ORDERS, key).unwrap().read(Offset::BEGINNING).unwrap();
        let values = std::iter::from_fn(|| feed.try_next().unwrap()).map(|event| event.value().unwrap());
        values.collect::<Vec<String>>()
    };
    assert_eq!(read("a"), ["life 0", "paid", "paid", "life 1", "life 2"]);
    assert_eq!(read("b"), ["paid"]);
}

#[test]
fn an_event_with_a_key_is_appended_once_by_whoever_repeats_it_also_behind_a_crash() {
    let mut disk = Simulator::new();
    is_appended_once(|| {
        // What was synced, and nothing else.
        disk = disk.crash(disk.events(), &mut |_| 0);
        Store::over(Options::new().segment_bytes(16 << 10).background(false).open_in(&disk).unwrap())
    });
    for plane in [InMemory::new(), InMemory::stepwise()] {
        is_appended_once(|| Store::in_memory().unwrap().with_backplane(Arc::new(plane.reopened())));
    }
}

struct Lengths;
impl Fold for Lengths {
    type State = Vec<u64>;
    type Event = String;
    const NAME: &'static str = "lengths";
    const VERSION: u32 = 1;
    fn fold(lengths: &mut Vec<u64>, event: String, _: &At) {
        lengths.push(event.len() as u64);
    }
}

#[test]
fn events_with_keys_among_others_are_no_gap_and_no_repetition_for_a_fold_or_a_consumer() {
    for store in stores() {
        let topic = store.topic(ORDERS, "a").unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sees = Arc::clone(&seen);
        let consumer = topic
            .on_event("lengths", ConsumerOptions::new(), move |event: &Delivery<'_, String>| {
                sees.lock().unwrap().push(event.event.len() as u64);
                Ok(())
            })
            .unwrap();
        let options = FoldOptions::new().images_every(2);
        let fold = topic.fold_with::<Lengths>(options).unwrap();
        let mut last = Offset::BEGINNING;
        for count in 1..=40_u8 {
            let text = "x".repeat(count.into());
            let key = IdempotencyKey([0xff - count; 16]);
            last = if count % 3 == 0 { topic.append(&text) } else { topic.append_once(key, &text) }.unwrap();
        }
        let wanted: Vec<u64> = (1..=40).collect();
        assert_eq!(fold.read_after(last, Duration::from_secs(30)).unwrap().value, wanted);
        assert_eq!(fold.stats().gaps, 0);
        while consumer.status().position < topic.head().unwrap() {
            std::thread::yield_now();
        }
        assert_eq!(*seen.lock().unwrap(), wanted);
        store.close().unwrap();
    }
}

#[test]
fn a_topic_that_is_erased_begins_anew_whatever_floor_it_had() {
    let store = Store::in_memory().unwrap();
    let topic = store.topic(ORDERS, "a").unwrap();
    topic.append(&"placed".to_owned()).unwrap();
    let mut stands_below = topic.read(Offset::BEGINNING).unwrap();
    let shipped = topic.append(&"shipped".to_owned()).unwrap();
    topic.compact(shipped).unwrap();
    assert_eq!(topic.read(Offset::BEGINNING).unwrap_err().kind(), ErrorKind::Lost);
    let kind = store.journal().kind_named("order").unwrap().id;
    assert!(store.journal().erase(kind, b"a").unwrap().erased);
    assert!(topic.read(Offset::BEGINNING).unwrap().try_next().unwrap().is_none());
    assert!(topic.read_oldest().unwrap().try_next().unwrap().is_none());
    let anew = topic.append(&"placed again".to_owned()).unwrap();
    for mut feed in [topic.read(Offset::BEGINNING).unwrap(), topic.read_oldest().unwrap()] {
        assert_eq!(feed.next().unwrap().offset(), anew);
        assert!(feed.try_next().unwrap().is_none());
    }
    assert_eq!(stands_below.next().unwrap().offset(), anew, "its history is another one");
    // The next floor is one of the new history.
    let last = topic.append(&"shipped again".to_owned()).unwrap();
    topic.compact(last).unwrap();
    assert_eq!(topic.read(Offset::BEGINNING).unwrap_err().kind(), ErrorKind::Lost);
    assert_eq!(topic.read_oldest().unwrap().next().unwrap().offset(), last);
}

#[test]
fn on_the_store_s_own_journal_the_records_are_facts_that_the_tool_decodes() {
    let store = Store::in_memory().unwrap();
    store.topic(ORDERS, "a").unwrap().append(&"placed".to_owned()).unwrap();
    let facts: Facts<String> = Facts::new("order").version(2);
    assert_eq!(store.latest(facts, "a").unwrap().unwrap().value().unwrap(), "placed");
    let kind = store.journal().kind_named("order").unwrap();
    assert_eq!((kind.codec, kind.version), (Codec::MessagePack, 2));

    let elsewhere = Store::in_memory().unwrap().with_backplane(Arc::new(InMemory::new()));
    elsewhere.topic(ORDERS, "a").unwrap().append(&"placed".to_owned()).unwrap();
    assert!(elsewhere.journal().kind_named("order").is_none(), "nothing of it is in the journal");
}

#[test]
fn an_event_of_another_type_is_an_error_with_both_versions() {
    const NUMBERS: Topic<u64> = Topic::new("order");
    let store = Store::in_memory().unwrap().with_backplane(Arc::new(InMemory::new()));
    store.topic(ORDERS, "a").unwrap().append(&"placed".to_owned()).unwrap();
    let event =
        store.topic(NUMBERS, "a").unwrap().read(Offset::BEGINNING).unwrap().try_next().unwrap().unwrap();
    let error = event.value().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Codec);
    assert!(error.to_string().contains("written as version 2, read as version 1"), "{error}");
}

#[test]
fn an_append_whose_fate_is_unknown_keeps_its_number_and_each_writer_s_are_dense() {
    for seed in 0..50 {
        let memory = InMemory::new();
        let double = Double::new(Arc::new(memory.reopened()), Fault::Blip, seed);
        let store = Store::in_memory().unwrap().with_backplane(Arc::new(double));
        let topic = store.topic(ORDERS, "a").unwrap();
        let outcomes: Vec<Result<Offset, Error>> = (0..60).map(|n| topic.append(&n.to_string())).collect();
        let mut feed = memory.subscribe(Filter::stream("order"), Offset::BEGINNING).unwrap();
        let records: Vec<_> = std::iter::from_fn(|| feed.try_next().unwrap()).collect();
        let mut last = std::collections::HashMap::new();
        for stamp in records.iter().map(|record| record.stamp().unwrap()) {
            let n = last.entry(stamp.writer).or_insert(0);
            *n += 1;
            assert_eq!(stamp.n, *n, "seed {seed}: {records:?}");
        }
        let acknowledged: Vec<Offset> =
            outcomes.iter().filter_map(|done| done.as_ref().ok().copied()).collect();
        assert!(acknowledged.is_sorted_by(|before, next| before < next), "seed {seed}");
        assert!(acknowledged.iter().all(|offset| records.iter().any(|record| record.offset() == *offset)));
        let unknown = outcomes.len() - acknowledged.len();
        assert!(records.len() - acknowledged.len() <= unknown, "seed {seed}: something is there twice");
    }
}

/// What becomes of a commit.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It is done, and its answer does not come.
    AnswerLost,
    /// It is not done, and nobody knows.
    Unreached,
    /// It is refused.
    Refused,
}
use Fate::{AnswerLost, Refused, Unreached};

/// One whose next commits have these fates.
#[derive(Debug, Default)]
struct Scripted {
    inner: InMemory,
    fates: Mutex<VecDeque<Fate>>,
}

impl Scripted {
    fn store() -> (Arc<Self>, Store) {
        let plane = Arc::new(Self::default());
        (Arc::clone(&plane), Store::in_memory().unwrap().with_backplane(plane))
    }

    fn will(&self, fates: &[Fate]) {
        assert!(self.fates.lock().unwrap().is_empty(), "all that was to come has come");
        self.fates.lock().unwrap().extend(fates);
    }

    fn events(&self) -> Vec<String> {
        let mut feed = self.inner.subscribe(Filter::stream("order"), Offset::BEGINNING).unwrap();
        let next = || feed.try_next().unwrap();
        std::iter::from_fn(next).map(|record| rmp_serde::from_slice(record.payload()).unwrap()).collect()
    }
}

impl Backplane for Scripted {
    fn atomic(&self) -> bool {
        self.inner.atomic()
    }

    fn commit(&self, steps: &[Step<'_>]) -> Result<Done, Error> {
        let fate = self.fates.lock().unwrap().pop_front();
        match fate {
            None => return self.inner.commit(steps),
            Some(AnswerLost) => _ = self.inner.commit(steps)?,
            Some(Unreached) => {}
            Some(Refused) => return Err(Error::new(ErrorKind::Io, "commit")),
        }
        Err(Error::new(ErrorKind::Disconnected, "commit"))
    }

    fn subscribe(&self, filter: Filter<'_>, from: Offset) -> Result<Box<dyn Feed>, Error> {
        self.inner.subscribe(filter, from)
    }

    fn head(&self, filter: Filter<'_>) -> Result<Offset, Error> {
        self.inner.head(filter)
    }

    fn lowest_retained(&self, filter: Filter<'_>) -> Result<Offset, Error> {
        self.inner.lowest_retained(filter)
    }

    fn load(&self, cell: &[u8]) -> Result<CellState, Error> {
        self.inner.load(cell)
    }

    fn broadcast(&self, channel: &str, bytes: &[u8]) -> Result<usize, Error> {
        self.inner.broadcast(channel, bytes)
    }

    fn listen(&self, channel: &str) -> Result<Box<dyn Listener>, Error> {
        self.inner.listen(channel)
    }

    fn era(&self) -> Result<Era, Error> {
        self.inner.era()
    }

    fn close(&self) -> Result<(), Error> {
        self.inner.close()
    }

    fn compactor(&self) -> Option<&dyn Compactor> {
        self.inner.compactor()
    }
}

#[test]
fn once_one_try_may_have_done_it_another_error_says_nothing_of_an_append() {
    for later in [&[Refused][..], &[Unreached, Refused], &[Unreached; 3]] {
        let (plane, store) = Scripted::store();
        let topic = store.topic(ORDERS, "a").unwrap();
        topic.append(&"one".to_owned()).unwrap();
        plane.will(&[&[AnswerLost], later].concat());
        let unknown = topic.append(&"two".to_owned()).unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::Disconnected, "{later:?}: {unknown}");
        // Nothing that comes behind it is in its way, nor it in theirs.
        for event in ["three", "four"] {
            topic.append(&event.to_owned()).unwrap();
        }
        let again = topic.append(&"two".to_owned()).unwrap();
        assert!(again < topic.head().unwrap(), "it is where it was");
        assert_eq!(plane.events(), ["one", "two", "three", "four"], "{later:?}");
        // That was the one of before. This is another.
        topic.append(&"two".to_owned()).unwrap();
        assert_eq!(plane.events().len(), 5);
    }
    let (plane, store) = Scripted::store();
    plane.will(&[Refused]);
    let refused = store.topic(ORDERS, "a").unwrap().append(&"one".to_owned()).unwrap_err();
    assert_eq!((refused.kind(), plane.events().len()), (ErrorKind::Io, 0), "the first one is believed");
}

#[test]
fn an_append_that_failed_is_done_by_nobody_else_and_once_by_its_repetition() {
    for fates in [[Unreached; 4], [AnswerLost, Unreached, Unreached, Unreached]] {
        for events in [&["a", "a"][..], &["a", "b"], &["a", "b", "a"], &["a", "b", "c", "a", "b"]] {
            let (plane, store) = Scripted::store();
            let topic = store.topic(ORDERS, "a").unwrap();
            plane.will(&fates);
            topic.append(&events[0].to_owned()).unwrap_err();
            for event in &events[1..] {
                topic.append(&(*event).to_owned()).unwrap();
            }
            let is_done = matches!(fates[0], AnswerLost);
            let mut expected: Vec<&str> = events[1..].to_vec();
            match expected.iter().position(|event| *event == events[0]) {
                // Its repetition is where the first was.
                Some(at) if is_done => expected[..=at].rotate_right(1),
                None if is_done => expected.insert(0, events[0]),
                _ => {}
            }
            assert_eq!(plane.events(), expected, "{fates:?} {events:?}");
        }
    }
}

#[test]
fn a_repetition_that_is_refused_leaves_the_append_known_for_the_next_one() {
    for (fate, is_done) in [(AnswerLost, true), (Unreached, false)] {
        let (plane, store) = Scripted::store();
        let topic = store.topic(ORDERS, "a").unwrap();
        plane.will(&[fate, Unreached, Unreached, Unreached]);
        topic.append(&"one".to_owned()).unwrap_err();
        for _ in 0..2 {
            plane.will(&[Refused]);
            assert_eq!(topic.append(&"one".to_owned()).unwrap_err().kind(), ErrorKind::Io);
        }
        let between = topic.append(&"two".to_owned()).unwrap();
        let again = topic.append(&"one".to_owned()).unwrap();
        assert_eq!(again < between, is_done, "{fate:?}");
        assert_eq!(plane.events().len(), 2, "{fate:?}: {:?}", plane.events());
        // That was the one of before. This is another.
        topic.append(&"one".to_owned()).unwrap();
        assert_eq!(plane.events().len(), 3);
    }
}

#[test]
fn a_repetition_of_an_append_behind_an_offset_is_answered_as_what_became_of_it() {
    for (fate, is_done) in [(AnswerLost, true), (Unreached, false)] {
        let (plane, store) = Scripted::store();
        let topic = store.topic(ORDERS, "a").unwrap();
        let first = topic.append(&"one".to_owned()).unwrap();
        plane.will(&[fate, Unreached, Unreached, Unreached]);
        topic.append_if(first, &"two".to_owned()).unwrap_err();
        topic.append(&"three".to_owned()).unwrap();
        let again = topic.append_if(first, &"two".to_owned());
        assert_eq!(again.map_err(|error| error.kind()).is_ok(), is_done);
        assert_eq!(plane.events().contains(&"two".to_owned()), is_done);
    }
}

#[test]
fn a_change_of_a_cell_that_failed_is_not_made_by_the_next() {
    for (fate, sum) in [(Unreached, 10), (AnswerLost, 11)] {
        let (plane, store) = Scripted::store();
        let cell = store.cells().cell::<u64>("c").unwrap();
        let add = |more: u64| cell.update(|now| Ok(Some(now.unwrap_or(0) + more)));
        plane.will(&[fate, Unreached, Unreached, Unreached]);
        assert_eq!(add(1).unwrap_err().kind(), ErrorKind::Disconnected);
        assert_eq!(add(10).unwrap().value, Some(sum), "{fate:?}");
    }
}

#[test]
fn many_who_update_a_cell_all_count() {
    for store in stores() {
        let counter = store.cells().cell::<u64>("counter").unwrap();
        std::thread::scope(|threads| {
            for _ in 0..4 {
                let counter = counter.clone();
                threads.spawn(move || {
                    (0..25)
                        .for_each(|_| _ = counter.update(|count| Ok(Some(count.unwrap_or(0) + 1))).unwrap());
                });
            }
        });
        assert_eq!(counter.load().unwrap().value, Some(100));
        let emptied = counter.update(|_| Ok(None)).unwrap();
        let loaded = counter.load().unwrap();
        assert_eq!((loaded.value, loaded.revision), (None, emptied.revision));
    }
}

#[test]
fn a_change_that_fails_writes_nothing_and_what_cannot_be_decoded_is_not_written_over() {
    for store in stores() {
        let cell = store.cells().cell::<u64>("c").unwrap();
        let before = cell.update(|_| Ok(Some(1))).unwrap();
        let refused = cell.update(|_| Err(Error::new(ErrorKind::InvalidInput, "decide"))).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        assert_eq!(cell.load().unwrap(), before);

        let text = store.cells().cell::<String>("c").unwrap();
        let mut called = false;
        let undecodable = text.update(|value| {
            called = true;
            Ok(value)
        });
        assert_eq!((undecodable.unwrap_err().kind(), called), (ErrorKind::Codec, false));
        assert_eq!(cell.load().unwrap(), before);
    }
}

#[test]
fn no_key_of_one_scope_is_one_of_another() {
    let store = Store::in_memory().unwrap();
    let cells = store.cells();
    let all = [
        cells.cell::<u32>("ab").unwrap(),
        cells.scope("a").unwrap().cell("b").unwrap(),
        cells.scope("ab").unwrap().cell("b").unwrap(),
        cells.scope("a").unwrap().scope("b").unwrap().cell("b").unwrap(),
        cells.cell(b"\x01a\0b").unwrap(),
        cells.scope("a").unwrap().cell(b"\0b").unwrap(),
    ];
    for (cell, n) in all.iter().zip(0..) {
        cell.update(|found| {
            assert_eq!(found, None);
            Ok(Some(n))
        })
        .unwrap();
    }
    for (cell, n) in all.iter().zip(0..) {
        assert_eq!(cell.load().unwrap().value, Some(n));
    }
    for bad in [
        cells.cell::<u32>("").map(drop),
        cells.cell::<u32>([1; 255]).map(drop),
        cells.scope([1; 256]).map(drop),
    ] {
        let error = bad.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

#[test]
fn an_update_that_is_always_overtaken_says_so() {
    let memory = InMemory::new();
    let store = Store::in_memory().unwrap().with_backplane(Arc::new(memory.reopened()));
    let cell = store.cells().cell::<u64>("c").unwrap();
    let mut overtaken = 0_u64;
    let error = cell
        .update(|_| {
            // Somebody else is there each time, between the look and the swap.
            let key = [b"\0", &b"c"[..]].concat();
            overtaken += 1;
            let stamp = Stamp::new(WriterId::from_raw(9), overtaken);
            let put = Put::new(&key, Revision::from_raw(overtaken - 1), Some(b"\x07"), stamp);
            memory.commit(&[Step::Put(put)]).unwrap();
            Ok(Some(1))
        })
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("100 times"), "{error}");
    assert_eq!((overtaken, cell.load().unwrap().value), (100, Some(7)));
}

#[test]
fn a_store_that_is_dropped_is_closed_though_its_backplane_was_used() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.esker");
    let store = Store::open(&path).unwrap();
    store.topic(ORDERS, "a").unwrap().append(&"placed".to_owned()).unwrap();
    let cell = store.cells().cell::<u64>("c").unwrap();
    let feed = store.topic(ORDERS, "a").unwrap().read(Offset::BEGINNING).unwrap();
    drop((store, cell));
    let store = Store::open(&path).expect("nobody holds it any more");
    assert_eq!(store.topic(ORDERS, "a").unwrap().head().unwrap().raw(), 1);
    drop(feed);
}

#[test]
fn appends_of_many_threads_to_one_topic_never_conflict_and_each_is_there_once() {
    const THREADS: u64 = 16;
    let journal = Options::new().durability(Durability::Os).segment_bytes(64 << 10).in_memory().unwrap();
    let shared = InMemory::new();
    let over = |plane: InMemory| Store::in_memory().unwrap().with_backplane(Arc::new(plane));
    // Two who count for themselves, on one log each.
    for stores in [
        [Store::over(journal.clone()), Store::over(journal)],
        [over(shared.reopened()), over(shared.reopened())],
    ] {
        let conditional = AtomicU64::new(0);
        std::thread::scope(|threads| {
            for thread in 0..THREADS {
                let (store, conditional) = (&stores[usize::from(thread % 2 == 0)], &conditional);
                threads.spawn(move || {
                    let topic = store.topic(ORDERS, "hot").unwrap();
                    for n in 0..60 {
                        topic.append(&format!("{thread} {n}")).unwrap();
                        match topic.append_if(topic.head().unwrap(), &"behind the newest".to_owned()) {
                            Ok(_) => _ = conditional.fetch_add(1, Ordering::Relaxed),
                            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                        }
                    }
                });
            }
        });
        let mut feed = stores[0].topic(ORDERS, "hot").unwrap().read_oldest().unwrap();
        let values: Vec<String> =
            std::iter::from_fn(|| feed.try_next().unwrap()).map(|record| record.value().unwrap()).collect();
        for thread in 0..THREADS {
            let prefix = format!("{thread} ");
            let own = values.iter().filter_map(|value| value.strip_prefix(&prefix)?.parse::<u64>().ok());
            assert!(own.eq(0..60), "thread {thread}: {values:?}");
        }
        let behind = values.iter().filter(|value| *value == "behind the newest").count() as u64;
        assert_eq!(behind, conditional.into_inner());
    }
}

#[test]
fn an_append_that_is_not_waited_for_has_its_place_and_comes_to_be_durable() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.esker");
    let store = Store::open(&path).unwrap();
    let topic = store.topic(ORDERS, "a").unwrap();
    let tickets: Vec<_> = (0..20).map(|n| topic.append_nowait(&n.to_string()).unwrap()).collect();
    assert!(tickets.is_sorted_by(|before, next| before.offset() < next.offset()));
    let last = tickets[19].wait_durable().unwrap();
    assert!(tickets.iter().all(TopicTicket::is_durable), "those before it too");
    assert_eq!(topic.head().unwrap(), last);
    // An append behind them waits for all.
    let unwaited = topic.append_nowait(&"20".to_owned()).unwrap();
    topic.append(&"21".to_owned()).unwrap();
    assert!(unwaited.is_durable());
    let closed = topic.append_nowait(&"22".to_owned()).unwrap();
    store.close().unwrap();
    assert_eq!(closed.wait_durable().unwrap(), closed.offset(), "a close syncs");
    let refused = topic.append_nowait(&"23".to_owned()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
    let store = Store::open(&path).unwrap();
    let mut feed = store.topic(ORDERS, "a").unwrap().read(Offset::BEGINNING).unwrap();
    let values = std::iter::from_fn(|| feed.try_next().unwrap()).map(|event| event.value().unwrap());
    assert!(values.eq((0..=22).map(|n| n.to_string())));
}

#[test]
fn threads_that_append_to_one_topic_wait_for_the_disk_together() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("s.esker")).unwrap();
    let before = store.journal().stats().syncs;
    std::thread::scope(|threads| {
        for _ in 0..16 {
            threads.spawn(|| {
                let topic = store.topic(ORDERS, "hot").unwrap();
                (0..20).for_each(|n| _ = topic.append(&n.to_string()).unwrap());
            });
        }
    });
    let syncs = store.journal().stats().syncs - before;
    assert!(syncs < 320, "{syncs} syncs for 320 appends: each waited for its own");
}
