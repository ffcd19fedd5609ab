//! The journal against a model on one page: random operations, closings, crashes and kills
//! among them, and after each of them every way to read compared with a plain vector.
//!
//! `PROPTEST_CASES=10000 cargo test --test model` looks longer; a failure is shrunk and shown.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[path = "model/plain.rs"]
mod plain;

use esker::{
    Durability, ErrorKind, Expect, Generation, IdempotencyKey, Journal, Options, Record, Simulator, View,
};
use plain::{KINDS, Plain, Said, Saying, kinds_of, same_entries, same_reads};
use proptest::collection::vec;
use proptest::prelude::*;

/// What an append is to expect of its entity.
#[derive(Clone, Copy, Debug)]
enum Expecting {
    Anything,
    Nothing,
    Something,
    TheNewest,
    AnotherGeneration,
}

#[derive(Clone, Debug)]
enum Operation {
    Append(Saying, Expecting),
    AppendWithoutWaiting(Saying),
    Batch(Vec<Saying>, Option<u8>),
    /// The batch with this key again, as it was or with other content.
    Repeat(u8, bool),
    TooLarge(Saying),
    Register(usize),
    Sync,
    Close,
    Drop,
    Kill,
    /// The power fails; the seed decides what is left.
    Crash(u64),
    /// A view is taken and compared again at the end, over everything that came after it.
    Hold,
    Read,
}

fn saying() -> impl Strategy<Value = Saying> {
    let payload =
        prop_oneof![3 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 0..900), 1 => vec(Just(0), 0..200)];
    (0..KINDS.len(), 0..15u8, vec(any::<u8>(), 0..9), payload).prop_map(|(kind, key, metadata, payload)| {
        Saying { kind: KINDS[kind], key: format!("k{key}").into_bytes(), metadata, payload }
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    let expecting = prop_oneof![
        4 => Just(Expecting::Anything),
        1 => Just(Expecting::Nothing),
        1 => Just(Expecting::Something),
        1 => Just(Expecting::TheNewest),
        1 => Just(Expecting::AnotherGeneration),
    ];
    prop_oneof![
        20 => (saying(), expecting).prop_map(|(saying, expecting)| Operation::Append(saying, expecting)),
        8 => saying().prop_map(Operation::AppendWithoutWaiting),
        8 => (vec(saying(), 1..5), proptest::option::of(0..20u8)).prop_map(|(batch, key)| Operation::Batch(batch, key)),
        4 => (0..20u8, any::<bool>()).prop_map(|(key, same)| Operation::Repeat(key, same)),
        1 => saying().prop_map(Operation::TooLarge),
        1 => (0..KINDS.len()).prop_map(Operation::Register),
        3 => Just(Operation::Sync),
        2 => Just(Operation::Close),
        1 => Just(Operation::Drop),
        2 => Just(Operation::Kill),
        2 => any::<u64>().prop_map(Operation::Crash),
        2 => Just(Operation::Hold),
        2 => Just(Operation::Read),
    ]
}

/// The journal and its model, side by side.
struct Pair {
    disk: Simulator,
    options: Options,
    durability: Durability,
    segment_bytes: u64,
    journal: Option<Journal>,
    plain: Plain,
    /// How many entries survive a power cut.
    durable: usize,
    held: Vec<(View, Vec<Said>, Journal)>,
}

type Checked = Result<(), TestCaseError>;

fn fail(error: impl std::fmt::Display) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

impl Pair {
    fn new(segment_bytes: u64, durability: Durability, copy_on_write: bool) -> Result<Self, TestCaseError> {
        let options = Options::new().background(false).segment_bytes(segment_bytes).durability(durability);
        let (disk, plain, held) = (Simulator::new(), Plain::default(), Vec::new());
        disk.copy_on_write(copy_on_write);
        let mut pair =
            Self { disk, options, durability, segment_bytes, journal: None, plain, durable: 0, held };
        pair.open()?;
        Ok(pair)
    }

    fn journal(&self) -> Journal {
        self.journal.clone().expect("a journal is open between operations")
    }

    /// Opens what is there: all that the model says, and all of it durable from now on.
    fn open(&mut self) -> Checked {
        let journal = self.options.open_in(&self.disk).map_err(fail)?;
        self.durable = self.plain.entries.len();
        self.journal = Some(journal);
        self.read()
    }

    fn read(&self) -> Checked {
        let journal = self.journal();
        same_reads(&journal.view(), &kinds_of(&journal), &self.plain.entries).map_err(fail)?;
        let stats = journal.stats();
        prop_assert_eq!(stats.entries, self.plain.entries.len() as u64);
        prop_assert_eq!(stats.entities, self.plain.generations.len() as u64);
        for key in self.plain.named.keys() {
            prop_assert!(journal.remembers(*key), "{key} is forgotten");
        }
        Ok(())
    }

    fn apply(&mut self, operation: Operation) -> Checked {
        match operation {
            Operation::Append(saying, expecting) => self.append(saying, expecting),
            Operation::AppendWithoutWaiting(saying) => {
                let journal = self.journal();
                let kind = journal.kind(saying.kind).map_err(fail)?;
                let record = Record::new(kind, &saying.key, &saying.payload).metadata(&saying.metadata);
                match journal.append_nowait(record) {
                    Ok(ticket) => {
                        self.plain.append(&[saying], None);
                        prop_assert_eq!(ticket.seq().get(), self.plain.entries.len() as u64);
                        prop_assert!(!ticket.is_durable());
                        Ok(())
                    }
                    Err(error) => self.too_large(&[saying], &error),
                }
            }
            Operation::Batch(batch, key) => self.batch(batch, key.map(named)),
            Operation::Repeat(key, same) => self.repeat(named(key), same),
            Operation::TooLarge(mut saying) => {
                saying.payload = vec![1; usize::try_from(self.segment_bytes / 4).map_err(fail)?];
                self.batch(vec![saying], None)
            }
            Operation::Register(kind) => {
                let journal = self.journal();
                let id = journal.kind(KINDS[kind]).map_err(fail)?;
                prop_assert_eq!(kinds_of(&journal).get(&id).copied(), Some(KINDS[kind]));
                prop_assert_eq!(journal.kind(KINDS[kind]).map_err(fail)?, id);
                Ok(())
            }
            Operation::Sync => {
                self.journal().sync().map_err(fail)?;
                self.durable = self.plain.entries.len();
                Ok(())
            }
            Operation::Close => {
                let journal = self.journal();
                let wrote = journal.stats().appends > 0;
                self.journal = None;
                journal.close().map_err(fail)?;
                prop_assert_eq!(journal.sync().map_err(|error| error.kind()), Ok(journal.durable()));
                let again = journal.kind("new").map(drop).map_err(|error| error.kind());
                prop_assert_eq!(again, Err(ErrorKind::Closed));
                self.open()?;
                let report = self.journal().recovery().clone();
                prop_assert!(report.clean || !wrote, "{report:?}");
                Ok(())
            }
            Operation::Drop => {
                self.held.clear();
                self.journal = None;
                self.open()
            }
            Operation::Kill => {
                self.disk = self.disk.kill(self.disk.events());
                self.journal = None;
                self.open()
            }
            Operation::Crash(seed) => self.crash(seed),
            Operation::Hold => {
                let journal = self.journal();
                let view = journal.view();
                same_entries(&view, &kinds_of(&journal), &self.plain.entries).map_err(fail)?;
                self.held.push((view, self.plain.entries.clone(), journal));
                Ok(())
            }
            Operation::Read => self.read(),
        }
    }

    fn append(&mut self, saying: Saying, expecting: Expecting) -> Checked {
        let journal = self.journal();
        let kind = journal.kind(saying.kind).map_err(fail)?;
        let known = self.plain.generations.get(&(saying.kind, saying.key.clone())).copied();
        let generation = |number: u64| Generation::new(number).map_or(Expect::New, Expect::Generation);
        let (expect, met) = match expecting {
            Expecting::Anything => (Expect::Any, true),
            Expecting::Nothing => (Expect::New, known.is_none()),
            Expecting::Something => (Expect::Exists, known.is_some()),
            Expecting::TheNewest => (generation(known.unwrap_or(0)), true),
            Expecting::AnotherGeneration => (generation(known.unwrap_or(0) + 1), false),
        };
        let record =
            Record::new(kind, &saying.key, &saying.payload).metadata(&saying.metadata).expect(expect);
        match journal.append(record) {
            Ok(receipt) => {
                prop_assert!(met, "{expect:?} was not met by {known:?}");
                prop_assert_eq!(receipt.generation.get(), known.unwrap_or(0) + 1);
                self.plain.append(&[saying], None);
                prop_assert_eq!(receipt.seq.get(), self.plain.entries.len() as u64);
                self.acknowledged();
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Conflict => {
                prop_assert!(!met, "{error}");
                prop_assert!(error.expected().is_some() && error.actual().is_some());
                Ok(())
            }
            Err(error) => self.too_large(&[saying], &error),
        }
    }

    fn acknowledged(&mut self) {
        if self.durability == Durability::Sync {
            self.durable = self.plain.entries.len();
        }
    }

    /// Only what is over a quarter of a segment may be refused as too large.
    fn too_large(&self, batch: &[Saying], error: &esker::Error) -> Checked {
        prop_assert_eq!(error.kind(), ErrorKind::BatchTooLarge, "{}", error);
        let bytes =
            |saying: &Saying| 56 + 24 + saying.key.len() + saying.metadata.len() + saying.payload.len() + 7;
        prop_assert!(batch.iter().map(bytes).sum::<usize>() as u64 > self.segment_bytes / 4, "{}", error);
        prop_assert_eq!(self.journal().stats().entries, self.plain.entries.len() as u64);
        Ok(())
    }

    fn commit(&self, batch: &[Saying], key: Option<IdempotencyKey>) -> esker::Result<esker::BatchReceipt> {
        let journal = self.journal();
        let mut together = journal.batch();
        for saying in batch {
            let kind = journal.kind(saying.kind)?;
            together.push(Record::new(kind, &saying.key, &saying.payload).metadata(&saying.metadata));
        }
        match key {
            Some(key) => together.idempotency_key(key).commit(),
            None => together.commit(),
        }
    }

    fn batch(&mut self, batch: Vec<Saying>, key: Option<IdempotencyKey>) -> Checked {
        if key.is_some_and(|key| self.plain.named.contains_key(&key)) {
            return Ok(());
        }
        match self.commit(&batch, key) {
            Ok(done) => {
                let before = self.plain.entries.len();
                self.plain.append(&batch, key);
                prop_assert!(!done.repeated);
                self.receipts(&done, before)?;
                self.acknowledged();
                Ok(())
            }
            Err(error) => {
                self.too_large(&batch, &error)?;
                prop_assert!(!key.is_some_and(|key| self.journal().remembers(key)));
                Ok(())
            }
        }
    }

    fn receipts(&self, done: &esker::BatchReceipt, before: usize) -> Checked {
        for (at, receipt) in done.receipts.iter().enumerate() {
            prop_assert_eq!(receipt.seq.get(), (before + at + 1) as u64);
            prop_assert_eq!(receipt.generation.get(), self.plain.entries[before + at].generation);
        }
        Ok(())
    }

    fn repeat(&mut self, key: IdempotencyKey, same: bool) -> Checked {
        let Some((start, count)) = self.plain.named.get(&key).copied() else { return Ok(()) };
        let said = &self.plain.entries[start..start + count];
        let saying = |said: &Said| Saying {
            kind: said.kind,
            key: said.key.clone(),
            metadata: said.metadata.clone(),
            payload: said.payload.clone(),
        };
        let mut batch: Vec<Saying> = said.iter().map(saying).collect();
        if !same {
            batch[0].key.push(b'x');
        }
        match self.commit(&batch, Some(key)) {
            Ok(done) => {
                prop_assert!(same && done.repeated && done.receipts.len() == count);
                self.receipts(&done, start)?;
                // The answer is as durable as a first one.
                self.acknowledged();
            }
            Err(error) if !same => prop_assert_eq!(error.kind(), ErrorKind::KeyReused),
            Err(error) => return Err(fail(error)),
        }
        prop_assert_eq!(self.journal().stats().entries, self.plain.entries.len() as u64);
        Ok(())
    }

    fn crash(&mut self, seed: u64) -> Checked {
        let mut state = seed;
        let mut toss = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from((state >> 33) % n as u64).unwrap_or(0)
        };
        self.disk = self.disk.crash(self.disk.events(), &mut toss);
        self.journal = None;
        let journal = self.options.open_in(&self.disk).map_err(fail)?;
        let count = usize::try_from(journal.stats().entries).map_err(fail)?;
        prop_assert!(count >= self.durable, "{count} entries, and {} were acknowledged", self.durable);
        prop_assert!(count <= self.plain.entries.len(), "{count} entries, and fewer were appended");
        prop_assert!(self.plain.ends_a_batch(count), "a batch is cut in two at {count}");
        drop(journal);
        self.plain.truncate(count);
        self.open()
    }

    fn finish(mut self) -> Checked {
        self.read()?;
        for (view, entries, journal) in &self.held {
            // A view holds what it saw, whatever was appended, closed or lost since.
            same_entries(view, &kinds_of(journal), entries).map_err(fail)?;
        }
        self.held.clear();
        self.apply(Operation::Close)
    }
}

fn named(key: u8) -> IdempotencyKey {
    IdempotencyKey([key; 16])
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn a_journal_does_what_a_vector_does(
        segment in prop_oneof![3 => Just(4096u64), 1 => Just(8192), 1 => Just(16384), 1 => Just(65536)],
        sync in any::<bool>(),
        copy_on_write in any::<bool>(),
        operations in vec(operation(), 1..80),
    ) {
        let durability = if sync { Durability::Sync } else { Durability::Os };
        let mut pair = Pair::new(segment, durability, copy_on_write)?;
        for operation in operations {
            pair.apply(operation)?;
        }
        pair.finish()?;
    }
}
