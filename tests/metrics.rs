//! What is counted and under which names it is told: in `stats`, as text, to the facade, and in the pages.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a panic is a failed test"
)]
#![allow(
    clippy::cast_precision_loss,
    clippy::float_cmp,
    reason = "metrics are floats, and these are whole numbers"
)]

mod exposition;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use esker::backplane::{Append, InMemory, Stamp, Step, WriterId};
use esker::metrics::{ALL, Exporter, MetricKind, Sample, ToldBy, prometheus, samples};
use esker::{
    At, CompactOptions, ConsumerOptions, Delivery, Durability, ErrorKind, Fold, FoldOptions, FoldStatus,
    HaltReason, Item, Keep, Lag, Options, Record, Region, Simulator, Start, Store, SubscribeOptions, Topic,
    TopicFold, Verify,
};
use exposition::Exposition;
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use proptest::prelude::*;

const NUMBERS: Topic<u64> = Topic::new("number");
const PATIENCE: Duration = Duration::from_secs(30);

fn small() -> Options {
    Options::new().segment_bytes(16 << 10).background(false).durability(Durability::Os)
}

struct Sum;
impl Fold for Sum {
    type State = u64;
    type Event = u64;
    const NAME: &'static str = "sum";
    const VERSION: u32 = 1;
    fn fold(sum: &mut u64, n: u64, _: &At) {
        *sum += n;
    }
}

/// What a store exposes, read strictly.
fn exposed(store: &Store) -> Exposition {
    Exposition::read(&prometheus(&samples(&store.journal().stats())))
}

fn halted<F: Fold>(fold: &TopicFold<F>) -> HaltReason {
    loop {
        match fold.read().unwrap().status {
            FoldStatus::Halted(halt) => return halt.why,
            _ => std::thread::yield_now(),
        }
    }
}

/// One of each that has a label.
fn busy() -> (Store, TopicFold<Sum>) {
    let store = Store::over(small().in_memory().unwrap());
    let topic = store.topic(NUMBERS, "quote \" slash \\ line\n").unwrap();
    for n in 0..40 {
        topic.append(&n).unwrap();
    }
    let fold = topic.fold::<Sum>().unwrap();
    fold.save_image().unwrap();
    let ship = topic.on_event("ship", ConsumerOptions::new(), |_: &Delivery<'_, u64>| Ok(())).unwrap();
    waited_for(|| ship.status().committed >= topic.head().unwrap());
    drop(store.journal().watch("audit", Region::all()).unwrap());
    store.journal().sync().unwrap();
    (store, fold)
}

#[test]
fn names_are_unique_and_have_their_units() {
    let names: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), ALL.len());
    for metric in ALL {
        assert_eq!(metric.kind == MetricKind::Counter, metric.name.ends_with("_total"), "{metric:?}");
        assert!(!metric.help.is_empty() && !metric.help.ends_with('.'), "{metric:?}");
        assert!(!metric.labels.contains(&"le") && !metric.labels.contains(&"store"), "{metric:?}");
        let says_bytes = metric.help.to_lowercase().contains("bytes ");
        assert!(!says_bytes || metric.name.contains("_bytes"), "{metric:?} says bytes in its help alone");
    }
}

#[test]
fn every_metric_of_a_process_is_told_of_a_busy_store_and_the_text_parses() {
    let (store, _fold) = busy();
    let told = samples(&store.journal().stats());
    let named: BTreeSet<&str> = told.iter().map(|sample| sample.metric.name).collect();
    let of_a_process = ALL.iter().filter(|metric| metric.told_by != ToldBy::Files).map(|metric| metric.name);
    assert_eq!(named, of_a_process.collect());
    assert!(told.iter().all(|sample| sample.labels.len() == sample.metric.labels.len()));

    let exposed = exposed(&store);
    assert_eq!(exposed.types.len(), named.len());
    let labels =
        r#"{fold="sum",version="1",stream="number",key="hex:71756f7465202220736c617368205c206c696e650a"}"#;
    assert_eq!(exposed.get(&format!("esker_fold_halted{labels}")), 0.0);
    assert_eq!(exposed.get(&format!("esker_backplane_feed_up{labels}")), 1.0);
    assert!(exposed.get(&format!("esker_fold_offset{labels}")) >= 40.0);
    assert_eq!(
        exposed.get(&format!("esker_fold_offset{labels}")),
        exposed.get(&format!("esker_fold_digest_offset{labels}"))
    );
    assert!(exposed.get("esker_cursor_pinned_bytes{cursor=\"audit\"}") > 0.0);
    assert_eq!(exposed.get("esker_image_written_total"), 1.0);
    assert!(exposed.get("esker_image_written_bytes_total") >= 1.0);
    assert_eq!(exposed.get("esker_undurable_bytes"), 0.0);
    assert_eq!(exposed.get("esker_folds_running"), 1.0);
}

#[test]
fn what_cannot_stand_in_a_text_is_escaped() {
    let one = |name: &str| Sample::number("esker_cursor_pinned_bytes", vec![name.to_owned()], 1.5).unwrap();
    let text = prometheus(&[one("a\"b\\c\nd"), one("}, e=\"")]);
    let read = Exposition::read(&text);
    assert_eq!(read.get(r#"esker_cursor_pinned_bytes{cursor="a\"b\\c\nd"}"#), 1.5);
    assert_eq!(read.get(r#"esker_cursor_pinned_bytes{cursor="}, e=\""}"#), 1.5);
    assert!(Sample::number("esker_nothing", vec![], 1.0).is_none());
    assert!(Sample::number("esker_batch_entries", vec![], 1.0).is_none(), "a histogram is no number");
}

#[test]
fn the_reader_of_these_tests_takes_no_bad_text() {
    let head = "# HELP esker_a A.\n# TYPE esker_a gauge\n";
    let good = format!("{head}esker_a{{x=\"1\"}} 1\n");
    assert_eq!(Exposition::read(&good).get("esker_a{x=\"1\"}"), 1.0);
    let bad = [
        "esker_a 1\n".to_owned(),
        format!("{head}esker_a 1"),
        format!("{head}esker_a 1\n\n"),
        format!("{head}esker_a 1\nesker_a 2\n"),
        format!("{head}esker_a one\n"),
        format!("{head}esker_a{{x=\"1\" 1\n"),
        format!("{head}esker_a{{x=\"1\"y=\"1\"}} 1\n"),
        format!("{head}esker_a{{x=\"\\t\"}} 1\n"),
        format!("{head}esker_a{{x=\"1\",x=\"2\"}} 1\n"),
        format!("{head}{head}"),
        "# TYPE esker_a gauge\nesker_a 1\n".to_owned(),
        "# HELP esker_a A.\n# TYPE esker_a counter\nesker_a 1\n".to_owned(),
        format!("{head}esker_a 1\n# HELP esker_b B.\n# TYPE esker_b gauge\nesker_b 1\nesker_a{{x=\"1\"}} 2\n"),
        "# HELP esker_h H.\n# TYPE esker_h histogram\nesker_h_bucket{le=\"1\"} 2\nesker_h_bucket{le=\"+Inf\"} 1\n\
         esker_h_sum 1\nesker_h_count 1\n"
            .to_owned(),
    ];
    for text in bad {
        assert!(catch_unwind(|| Exposition::read(&text)).is_err(), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_appended_and_synced_is_counted(
        batches in prop::collection::vec((1usize..40, any::<bool>()), 1..40),
    ) {
        let disk = Simulator::new();
        let journal = small().open_in(&disk).unwrap();
        let note = journal.kind("note").unwrap();
        let before = journal.stats();
        let (mut entries, mut syncs) = (0, 0);
        for (size, is_synced) in &batches {
            let mut batch = journal.batch();
            (0..*size).for_each(|_| _ = batch.push(Record::new(note, b"a", b"1")));
            batch.commit().unwrap();
            entries += *size as u64;
            if *is_synced {
                let called = disk.syncs();
                journal.sync().unwrap();
                syncs += u64::from(disk.syncs() > called);
                let now = journal.stats();
                prop_assert_eq!((now.undurable_bytes, now.visible), (0, now.durable));
            } else {
                prop_assert!(journal.stats().undurable_bytes > 0);
            }
        }
        let now = journal.stats();
        prop_assert_eq!(now.appends - before.appends, entries);
        prop_assert_eq!(now.batches - before.batches, batches.len() as u64);
        prop_assert_eq!((now.batch_entries.sum, now.batch_entries.count()), (now.appends, now.batches));
        prop_assert!(now.syncs - before.syncs >= syncs, "{} {} {}", now.syncs, before.syncs, syncs);
        prop_assert_eq!(now.sync_nanos.count(), now.syncs);
        let small_ones = batches.iter().filter(|(size, _)| *size == 1).count() as u64;
        prop_assert_eq!(now.batch_entries.counts[0] - before.batch_entries.counts[0], small_ones);
    }

    #[test]
    fn cursors_are_told_with_what_is_behind_them(
        places in prop::collection::vec(0u64..120, 1..12),
    ) {
        let journal = small().in_memory().unwrap();
        let note = journal.kind("note").unwrap();
        (0..120u64).for_each(|n| _ = journal.append(Record::new(note, b"a", &vec![1; 300 + (n % 7) as usize])).unwrap());
        for (n, place) in places.iter().enumerate() {
            let name = format!("c{n:02}");
            drop(journal.watch(&name, Region::all()).unwrap());
            if let Some(seq) = esker::Seq::new(*place) {
                journal.reset_cursor(&name, Start::After(seq)).unwrap();
            }
        }
        let stats = journal.stats();
        prop_assert_eq!(stats.cursors, places.len() as u64);
        let mut told: Vec<_> = stats.pins.iter().map(|pin| (pin.name.clone(), pin.seq, pin.bytes)).collect();
        prop_assert!(told.windows(2).all(|two| two[0].1 <= two[1].1 && two[0].2 >= two[1].2), "{:?}", told);
        prop_assert_eq!(stats.pinned_by.as_ref(), told.first().map(|(name, ..)| name));
        prop_assert_eq!(stats.pinned_bytes, told[0].2);
        told.sort();
        let read: Vec<_> = journal.cursors().unwrap().into_iter()
            .map(|cursor| (cursor.name, cursor.seq.map_or(0, esker::Seq::get), cursor.held_bytes)).collect();
        prop_assert_eq!(told, read);
    }
}

#[test]
fn what_subscribers_miss_and_those_that_are_ended_are_counted() {
    let journal = small().in_memory().unwrap();
    let note = journal.kind("note").unwrap();
    let until = |lag| SubscribeOptions::new().capacity(10).on_lag(lag).until(esker::Until::Visible);
    let mut skips = journal.subscribe_with(Region::all(), until(Lag::Skip)).unwrap();
    let mut ends = journal.subscribe_with(Region::all(), until(Lag::Disconnect)).unwrap();
    (0..100).for_each(|_| _ = journal.append(Record::new(note, b"a", &[1; 300])).unwrap());
    let mut missed = 0;
    while skips.advance().unwrap() {
        if let Item::Missed(gap) = skips.item() {
            missed += gap.count;
        }
    }
    assert_eq!(missed, 90);
    for _ in 0..3 {
        assert_eq!(ends.advance().unwrap_err().kind(), ErrorKind::Lagged);
    }
    let stats = journal.stats();
    assert_eq!((stats.subscribers_missed, stats.subscribers_disconnected), (90, 1));

    // And what compaction took before it was looked at.
    let mut late =
        journal.subscribe_with(Region::all(), SubscribeOptions::new().until(esker::Until::Visible)).unwrap();
    (0..100).for_each(|_| _ = journal.append(Record::new(note, b"a", &[1; 300])).unwrap());
    journal.keep(note, Keep::Latest).unwrap();
    let dropped = journal.compact(&CompactOptions::new()).unwrap().entries_dropped;
    let mut told = 0;
    while late.advance().unwrap() {
        if let Item::Missed(gap) = late.item() {
            told += gap.count;
        }
    }
    assert!(told > 0 && told < dropped, "{told} of {dropped}");
    assert_eq!(journal.stats().subscribers_missed, 90 + told);
}

#[test]
fn why_folds_halt_is_counted_once_each_and_outlives_them() {
    let store = Store::over(small().in_memory().unwrap()).with_backplane(Arc::new(InMemory::new()));
    let writer = WriterId::random().unwrap();
    let put = |key: &[u8], payload: &[u8], schema| {
        let append = Append::new("number", key, payload, Stamp::new(writer, 1)).schema(schema);
        store.backplane().unwrap().commit(&[Step::Append(append)]).unwrap().offset(0)
    };
    let fold = |key: &str| store.topic(NUMBERS, key).unwrap().fold::<Sum>().unwrap();

    put(b"undecodable", b"\xc1", 1);
    assert_eq!(halted(&fold("undecodable")), HaltReason::Undecodable);
    put(b"schema", b"\xa1x", 1);
    assert_eq!(halted(&fold("schema")), HaltReason::Schema);
    put(b"newer", b"\x01", 9);
    assert_eq!(halted(&fold("newer")), HaltReason::ForwardIncompatible);
    let gone = store.topic(NUMBERS, "gone").unwrap();
    (0..10).for_each(|n| _ = gone.append(&n).unwrap());
    gone.compact(gone.head().unwrap()).unwrap();
    let error = gone.fold::<Sum>().unwrap().read().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Halted, "{error}");

    let stats = store.journal().stats();
    assert_eq!((stats.folds_halted, stats.folds_running), (0, 0), "nobody holds them any more");
    let counts = stats.folds;
    assert_eq!((counts.halts, counts.undecodable, counts.forward_incompatible), (4, 2, 1), "{counts:?}");
    assert_eq!((counts.gap_halts, counts.unbridgeable, counts.divergences), (1, 1, 0), "{counts:?}");

    let held = fold("undecodable");
    halted(&held);
    assert!(held.save_image().is_err());
    let stats = store.journal().stats();
    assert_eq!((stats.folds_halted, stats.folds.halts), (1, 5));
    assert_eq!(stats.fold_readings[0].halted, Some("undecodable"));
    let labels = r#"{fold="sum",version="1",stream="number",key="undecodable"}"#;
    assert_eq!(exposed(&store).get(&format!("esker_fold_halted{labels}")), 1.0);
    // Another handle tries anew, and is not told beside it under the same labels.
    let again = fold("undecodable");
    halted(&again);
    assert_eq!(exposed(&store).get("esker_folds_halted"), 2.0);
}

#[test]
fn a_fold_that_diverges_is_counted_and_equal_values_have_equal_digests() {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    struct Impure;
    impl Fold for Impure {
        type State = u64;
        type Event = u64;
        const NAME: &'static str = "impure";
        const VERSION: u32 = 1;
        fn fold(value: &mut u64, _: u64, _: &At) {
            *value += CALLS.fetch_add(1, Ordering::SeqCst);
        }
    }
    let plane = Arc::new(InMemory::new());
    let stores = [(); 2].map(|()| Store::over(small().in_memory().unwrap()).with_backplane(plane.clone()));
    let topic = stores[0].topic(NUMBERS, "a").unwrap();
    (0..49).for_each(|n| _ = topic.append(&n).unwrap());
    let last = topic.append(&49).unwrap();
    let digests = stores.each_ref().map(|store| {
        let fold =
            store.topic(NUMBERS, "a").unwrap().fold_with::<Sum>(FoldOptions::new().images_every(0)).unwrap();
        fold.read_after(last, PATIENCE).unwrap();
        let digest = || store.journal().stats().fold_readings[0].digest;
        // The second begins with the image of the first.
        if digest().is_none() {
            fold.save_image().unwrap();
        }
        (digest().unwrap(), store.journal().stats().folds.images_written)
    });
    assert_eq!(digests[0].0, digests[1].0);
    assert_eq!((digests[0].0.offset, digests[0].1, digests[1].1), (last.raw(), 1, 0));

    let fold = topic.fold_with::<Impure>(FoldOptions::new().verify(Verify::Each)).unwrap();
    assert_eq!(fold.read().unwrap_err().kind(), ErrorKind::Halted);
    let stats = stores[0].journal().stats();
    assert_eq!(stats.fold_readings[0].halted, Some("diverged"));
    let counts = stats.folds;
    assert_eq!((counts.divergences, counts.halts, counts.images_written), (1, 1, 1), "{counts:?}");
    assert_eq!(stores[1].journal().stats().folds.divergences, 0);
}

/// Counters, gauges and histograms by what they are written as.
#[derive(Default)]
struct Recorded {
    numbers: Mutex<BTreeMap<String, f64>>,
    sizes: Mutex<BTreeMap<String, Vec<f64>>>,
    described: Mutex<BTreeSet<String>>,
}

struct Handle {
    name: String,
    recorded: Arc<Recorded>,
}

impl CounterFn for Handle {
    fn increment(&self, _: u64) {
        panic!("{} is set, not added to", self.name);
    }

    fn absolute(&self, value: u64) {
        let before = self.recorded.numbers.lock().unwrap().insert(self.name.clone(), value as f64);
        assert!(before.is_none_or(|before| before <= value as f64), "{} went back", self.name);
    }
}

impl GaugeFn for Handle {
    fn increment(&self, _: f64) {
        panic!("{} is set, not added to", self.name);
    }

    fn decrement(&self, _: f64) {
        panic!("{} is set, not added to", self.name);
    }

    fn set(&self, value: f64) {
        self.recorded.numbers.lock().unwrap().insert(self.name.clone(), value);
    }
}

impl HistogramFn for Handle {
    fn record(&self, value: f64) {
        self.recorded.sizes.lock().unwrap().entry(self.name.clone()).or_default().push(value);
    }
}

struct Double(Arc<Recorded>);

impl Double {
    fn handle(&self, key: &Key) -> Arc<Handle> {
        let labels: Vec<String> = key.labels().map(|l| format!("{}={}", l.key(), l.value())).collect();
        Arc::new(Handle { name: format!("{}[{}]", key.name(), labels.join(",")), recorded: self.0.clone() })
    }

    fn describe(&self, name: &KeyName) {
        assert!(self.0.described.lock().unwrap().insert(name.as_str().to_owned()), "described twice");
    }
}

impl Recorder for Double {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&name);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&name);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&name);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.handle(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.handle(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.handle(key))
    }
}

#[test]
fn the_facade_is_handed_the_same_and_what_is_gone_is_no_number() {
    let (store, fold) = busy();
    let recorded = Arc::<Recorded>::default();
    let double = Double(recorded.clone());
    let mut exporter = Exporter::new("orders");
    let export = |exporter: &mut Exporter, store: &Store| {
        let stats = store.journal().stats();
        metrics::with_local_recorder(&double, || exporter.export(&stats));
        stats
    };
    let first = export(&mut exporter, &store);
    let topic = store.topic(NUMBERS, "b").unwrap();
    (0..7).for_each(|n| _ = topic.append(&n).unwrap());
    store.journal().retire_cursor("audit").unwrap();
    drop(fold);
    let stats = export(&mut exporter, &store);
    assert!(stats.appends > first.appends);

    let number = |name: &str| recorded.numbers.lock().unwrap()[name];
    assert_eq!(number("esker_appends_total[store=orders]"), stats.appends as f64);
    assert_eq!(number("esker_entries[store=orders]"), stats.entries as f64);
    assert_eq!(number("esker_mark_segment[store=orders,mark=visible]"), f64::from(stats.visible.segment()));
    assert!(number("esker_cursor_pinned_bytes[store=orders,cursor=audit]").is_nan(), "it was retired");
    let sizes = recorded.sizes.lock().unwrap()["esker_batch_entries[store=orders]"].clone();
    assert_eq!(sizes.len() as u64, stats.batches, "each batch is recorded once");
    let bounds: BTreeMap<String, u64> = sizes.iter().fold(BTreeMap::new(), |mut counts, size| {
        *counts.entry(size.to_string()).or_default() += 1;
        counts
    });
    for (bound, count) in stats.batch_entries.bounds.iter().zip(&stats.batch_entries.counts) {
        assert_eq!(bounds.get(&bound.to_string()).copied().unwrap_or(0), *count, "at {bound}");
    }
    let names: BTreeSet<String> = recorded
        .numbers
        .lock()
        .unwrap()
        .keys()
        .chain(recorded.sizes.lock().unwrap().keys())
        .map(|name| name.split('[').next().unwrap().to_owned())
        .collect();
    let of_a_process = ALL.iter().filter(|metric| metric.told_by != ToldBy::Files).map(|m| m.name.to_owned());
    let of_a_process: BTreeSet<String> = of_a_process.collect();
    assert_eq!(names, of_a_process);
    assert_eq!(*recorded.described.lock().unwrap(), of_a_process);
}

#[test]
fn the_table_of_the_docs_is_that_of_the_code() {
    let mut table =
        "| name | kind | labels | meaning | told by |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for metric in ALL {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let row = [&format!("`{}`", metric.name), &metric.kind.to_string(), &labels.join(", "), metric.help];
        table += &format!("| {} | {} |\n", row.join(" | ").replace("  ", " "), metric.told_by);
    }
    let written = include_str!("../src/metrics/table.md");
    assert!(written == table, "src/metrics/table.md should be:\n{table}");
}

#[test]
fn the_page_of_alerts_names_only_metrics_that_there_are() {
    let page = include_str!("../src/metrics/alerts.md");
    let words = page.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let named: BTreeSet<&str> = words.filter(|word| word.starts_with("esker_")).collect();
    let is_known = |word: &str| {
        ALL.iter().any(|metric| {
            let suffixes: &[&str] =
                if metric.kind == MetricKind::Histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
            suffixes.iter().any(|suffix| word == format!("{}{suffix}", metric.name))
        })
    };
    let unknown: Vec<_> = named.iter().filter(|word| !is_known(word)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert!(named.len() >= 15, "{named:?}");
}

#[test]
fn consumers_are_told_of_by_name_with_what_they_set_aside_and_whether_they_go_on() {
    let store = Store::in_memory().unwrap();
    let topic = store.topic(NUMBERS, "8812").unwrap();
    (1..=3).for_each(|number| _ = topic.append(&number).unwrap());
    let options = || ConsumerOptions::new().retry_between(Duration::from_millis(1), Duration::from_millis(1));
    let ship = topic
        .on_event("ship", options().max_attempts(2), |delivery: &Delivery<'_, u64>| {
            if delivery.event == 2 { Err("it is told to fail".into()) } else { Ok(()) }
        })
        .unwrap();
    let bill = topic.on_event("bill", options(), |_: &Delivery<'_, u64>| Err("no".into())).unwrap();
    waited_for(|| ship.status().committed >= topic.head().unwrap() && bill.status().stuck > 1);
    let numbers = |name: &str, consumer: &str| {
        let all = samples(&store.journal().stats());
        let found = all.iter().find(|sample| {
            sample.metric.name == name && sample.labels.first().is_none_or(|label| label == consumer)
        });
        match found.map(|sample| &sample.value) {
            Some(esker::metrics::Value::Number(number)) => *number,
            other => panic!("{name} of {consumer}: {other:?}"),
        }
    };
    assert_eq!(numbers("esker_consumers_running", ""), 2.0);
    assert_eq!(numbers("esker_consumer_lag", "ship"), 0.0);
    assert_eq!(numbers("esker_consumer_poisoned_total", "ship"), 1.0);
    assert_eq!(numbers("esker_consumer_error_total", "ship"), 2.0);
    assert_eq!(numbers("esker_consumer_stuck", "ship"), 0.0);
    assert!(numbers("esker_consumer_stuck", "bill") > 1.0);
    assert!(numbers("esker_consumer_lag", "bill") >= 3.0);
    assert_eq!(numbers("esker_consumer_halted", "bill"), 0.0);
    // Nobody needs it any more: what runs halts, and is told of until somebody stops it.
    topic.retire_consumer("bill").unwrap();
    waited_for(|| bill.status().has_ended());
    assert_eq!(numbers("esker_consumers_halted", ""), 1.0);
    assert_eq!(numbers("esker_consumer_halted", "bill"), 1.0);
    ship.close().unwrap();
    assert_eq!(numbers("esker_consumers_running", ""), 0.0, "one that was stopped is no news");
    store.close().unwrap();
}

fn waited_for(is_so: impl Fn() -> bool) {
    while !is_so() {
        std::thread::sleep(Duration::from_millis(1));
    }
}
