//! The log by itself: what one operation costs, to compare two commits on one machine.
//! Against peers and the hardware: `benches/peers`.
#![allow(clippy::indexing_slicing, missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::unwrap_used, reason = "a benchmark that fails should say where")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use esker::{Durability, Journal, KindId, Options, Record, Seq};

const ENTITIES: u64 = 1_000;
const PAYLOAD: [u8; 128] = [7; 128];

struct Bench {
    _directory: tempfile::TempDir,
    journal: Journal,
    kind: KindId,
    keys: Vec<String>,
    next: u64,
}

impl Bench {
    fn new(durability: Durability) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let journal =
            Options::new().durability(durability).open(directory.path().join("bench.esker")).unwrap();
        let kind = journal.kind("bench").unwrap();
        let keys = (0..ENTITIES).map(|n| format!("entity{n:06}")).collect();
        Self { _directory: directory, journal, kind, keys, next: 12_345 }
    }

    fn filled(events: u64) -> Self {
        let mut bench = Self::new(Durability::Os);
        (0..events).for_each(|_| bench.append());
        bench
    }

    fn random(&mut self, below: u64) -> u64 {
        self.next = self.next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.next >> 33) % below
    }

    fn append(&mut self) {
        let at = usize::try_from(self.random(ENTITIES)).unwrap();
        self.journal.append(Record::new(self.kind, self.keys[at].as_bytes(), &PAYLOAD)).unwrap();
    }

    fn append_batch(&mut self, records: usize) {
        let mut batch = self.journal.batch();
        for n in 0..records {
            batch.push(Record::new(self.kind, self.keys[n % self.keys.len()].as_bytes(), &PAYLOAD));
        }
        batch.commit().unwrap();
    }
}

fn writing(c: &mut Criterion) {
    let mut bench = Bench::new(Durability::Os);
    c.bench_function("append one entry, not synced", |b| b.iter(|| bench.append()));

    let mut group = c.benchmark_group("batches");
    group.throughput(Throughput::Elements(1_000));
    let mut bench = Bench::new(Durability::Os);
    group.bench_function("append a batch of 1,000 entries, not synced", |b| {
        b.iter(|| bench.append_batch(1_000))
    });
    let mut bench = Bench::new(Durability::Sync);
    group
        .bench_function("append a batch of 1,000 entries, durable", |b| b.iter(|| bench.append_batch(1_000)));
    group.finish();

    let mut bench = Bench::new(Durability::Sync);
    c.bench_function("append one entry, durable", |b| b.iter(|| bench.append()));

    let bench = Bench::new(Durability::Sync);
    let mut group = c.benchmark_group("group commit");
    group.throughput(Throughput::Elements(8 * 50));
    group.bench_function("append 50 durable entries in each of 8 threads", |b| {
        b.iter(|| {
            std::thread::scope(|scope| {
                for thread in 0..8 {
                    let bench = &bench;
                    scope.spawn(move || {
                        for n in 0..50 {
                            let key = bench.keys[(thread * 50 + n) % bench.keys.len()].as_bytes();
                            bench.journal.append(Record::new(bench.kind, key, &PAYLOAD)).unwrap();
                        }
                    });
                }
            });
        });
    });
    group.finish();
}

fn reading(c: &mut Criterion) {
    const EVENTS: u64 = 300_000;
    let mut bench = Bench::filled(EVENTS);
    let view = bench.journal.view();

    let mut group = c.benchmark_group("scans");
    group.throughput(Throughput::Elements(EVENTS));
    group.bench_function("scan every entry in order", |b| {
        b.iter(|| view.range(..).map(|entry| entry.unwrap().payload().len()).sum::<usize>());
    });
    group.throughput(Throughput::Elements(EVENTS / ENTITIES));
    group.bench_function("read the history of one entity", |b| {
        b.iter_batched(
            || bench.keys[usize::try_from(bench.next % ENTITIES).unwrap()].clone(),
            |key| view.entity(bench.kind, key.as_bytes()).map(|e| e.unwrap().payload().len()).sum::<usize>(),
            BatchSize::SmallInput,
        );
    });
    group.finish();

    c.bench_function("read one entry by its Seq", |b| {
        b.iter(|| {
            let seq = Seq::new(bench.random(EVENTS) + 1).unwrap();
            black_box(view.get(seq).unwrap().unwrap().payload().len())
        });
    });

    let path = bench.journal.path().to_path_buf();
    bench.journal.close().unwrap();
    c.bench_function("open a store of 300,000 entries and read one", |b| {
        b.iter(|| {
            let journal = Options::new().durability(Durability::Os).open(&path).unwrap();
            black_box(journal.get(Seq::new(EVENTS / 2).unwrap()).unwrap().unwrap().payload().len())
        });
    });
}

criterion_group!(benches, writing, reading);
criterion_main!(benches);
