//! What the structure-aware targets share: operations on a journal, and what it must hold.
//!
//! The [`Model`] is a list of entries. A journal agrees with it if every entry it shows is the
//! model's entry of that Seq, byte by byte, and if it shows all of them that it must.

pub mod damage;

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use esker::{
    Durability, Entry, Error, ErrorKind, Expect, Generation, IdempotencyKey, Journal, KindId, Options,
    Record, Result, Seq, View,
};

/// An entry as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub kind: u8,
    pub key: Vec<u8>,
    pub payload: Vec<u8>,
    pub metadata: Vec<u8>,
    pub generation: u64,
    /// Entries of one batch stand or fall together.
    pub batch: usize,
}

/// What is appended: small domains, so that entities meet.
#[derive(Clone, Debug, Arbitrary)]
pub struct Draft {
    pub kind: bool,
    pub key: u8,
    pub payload: u16,
    pub metadata: u8,
    pub expect: Expected,
}

/// An expectation that the model can judge.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub enum Expected {
    Any,
    New,
    Exists,
    Newest,
    Generation(u8),
}

impl Draft {
    fn key(&self) -> Vec<u8> {
        let length = if self.key >= 250 { 255 } else { 1 + usize::from(self.key) % 9 };
        vec![b'a' + self.key % 11; length]
    }

    /// Recognisable bytes: the number of the entry, repeated.
    fn payload(&self, number: usize) -> Vec<u8> {
        let length = usize::from(self.payload) % if self.payload >= 0xf000 { 3000 } else { 200 };
        (number as u64).to_le_bytes().into_iter().cycle().take(length).collect()
    }

    fn metadata(&self) -> Vec<u8> {
        vec![self.metadata; usize::from(self.metadata) % 20]
    }
}

/// What a journal must hold.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub written: Vec<Written>,
    /// So many of them survive anything but damage.
    pub durable: usize,
    batches: usize,
    keys: BTreeMap<u8, (usize, usize)>,
    kinds: [Option<KindId>; 2],
}

const KINDS: [&str; 2] = ["note", "order"];

/// Small segments without threads: the same on every run, and rotation all the time.
pub fn options(segments: u8) -> Options {
    let segment_bytes = 4096 << (segments % 3);
    Options::new().background(false).segment_bytes(segment_bytes).durability(Durability::Sync)
}

impl Model {
    /// Appends a batch to both; the answers must agree.
    ///
    /// # Errors
    ///
    /// What the journal answers where the model cannot know: a full or failing disk.
    pub fn append(&mut self, journal: &Journal, drafts: &[Draft], key: Option<u8>, wait: bool) -> Result<()> {
        if drafts.is_empty() {
            return Ok(());
        }
        for draft in drafts {
            let kind = &mut self.kinds[usize::from(draft.kind)];
            if kind.is_none() {
                *kind = Some(journal.kind(KINDS[usize::from(draft.kind)])?);
            }
        }
        let mut made = Vec::new();
        let mut conflict = false;
        for draft in drafts {
            let newest = self.newest(made.iter(), draft);
            if !is_met(draft.expect, newest) {
                conflict = true;
            }
            made.push(Written {
                kind: draft.kind.into(),
                key: draft.key(),
                payload: draft.payload(self.written.len() + made.len()),
                metadata: draft.metadata(),
                generation: newest + 1,
                batch: self.batches,
            });
        }
        if let Some(key) = key
            && let Some((first, count)) = self.keys.get(&key).copied()
        {
            return self.repeat(journal, drafts, key, first, count);
        }
        let answer = self.commit(journal, drafts, &made, key, wait);
        match (answer, conflict) {
            (Ok(seqs), false) => {
                let first = self.written.len();
                let expected: Vec<u64> = (first as u64 + 1..).take(made.len()).collect();
                assert_eq!(seqs, expected, "Seqs are dense");
                if let Some(key) = key {
                    self.keys.insert(key, (first, made.len()));
                }
                self.written.extend(made);
                self.batches += 1;
                if wait {
                    self.durable = self.written.len();
                }
                Ok(())
            }
            (Err(error), true) if error.kind() == ErrorKind::Conflict => Ok(()),
            (Err(error), false) if error.kind() == ErrorKind::BatchTooLarge => {
                self.judge_too_large(journal, &made, &error);
                Ok(())
            }
            (Err(error), true) if error.kind() == ErrorKind::BatchTooLarge => Ok(()),
            (Err(error), false) if error.kind() == ErrorKind::Poisoned => {
                // The outcome is unknown: the next opening says.
                if let Some(key) = key {
                    self.keys.insert(key, (self.written.len(), made.len()));
                }
                self.written.extend(made);
                self.batches += 1;
                Err(error)
            }
            (Ok(_), true) => panic!("the journal met an expectation that does not hold"),
            (Err(error), _) => Err(error),
        }
    }

    /// A key that is remembered: the first receipts again, or `KeyReused`.
    fn repeat(&self, journal: &Journal, drafts: &[Draft], key: u8, first: usize, count: usize) -> Result<()> {
        let before = &self.written[first..first + count];
        // The payload names the entry, so that a repetition is built for the place of the first.
        let again: Vec<Written> = drafts
            .iter()
            .enumerate()
            .map(|(at, draft)| Written {
                kind: draft.kind.into(),
                key: draft.key(),
                payload: draft.payload(first + at),
                metadata: draft.metadata(),
                generation: 0,
                batch: 0,
            })
            .collect();
        let same = |a: &Written, b: &Written| {
            (a.kind, &a.key, &a.payload, &a.metadata) == (b.kind, &b.key, &b.payload, &b.metadata)
        };
        let is_same = again.len() == count && again.iter().zip(before).all(|(a, b)| same(a, b));
        match self.commit(journal, drafts, &again, Some(key), true) {
            Ok(seqs) => {
                assert!(is_same, "other content under a remembered key");
                assert_eq!(seqs, (first as u64 + 1..).take(count).collect::<Vec<_>>());
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::KeyReused && !is_same => Ok(()),
            Err(error) if error.kind() == ErrorKind::BatchTooLarge && !is_same => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn commit(
        &self,
        journal: &Journal,
        drafts: &[Draft],
        made: &[Written],
        key: Option<u8>,
        wait: bool,
    ) -> Result<Vec<u64>> {
        let mut batch = journal.batch();
        for (draft, written) in drafts.iter().zip(made) {
            let Some(kind) = self.kinds[usize::from(draft.kind)] else { continue };
            let expect = match draft.expect {
                Expected::Any => Expect::Any,
                Expected::New => Expect::New,
                Expected::Exists => Expect::Exists,
                // Of a repetition nothing is expected: its key is looked up first.
                Expected::Newest => Generation::new(written.generation.saturating_sub(1))
                    .map_or(Expect::New, Expect::Generation),
                Expected::Generation(n) => Generation::new(n.into()).map_or(Expect::New, Expect::Generation),
            };
            batch.push(
                Record::new(kind, &written.key, &written.payload).metadata(&written.metadata).expect(expect),
            );
        }
        if let Some(key) = key {
            batch = batch.idempotency_key(IdempotencyKey([key; 16]));
        }
        let receipt = if wait { batch.commit()? } else { batch.commit_nowait()?.0 };
        Ok(receipt.receipts.iter().map(|receipt| receipt.seq.get()).collect())
    }

    fn judge_too_large(&self, journal: &Journal, made: &[Written], error: &Error) {
        let content: usize =
            made.iter().map(|w| 56 + 24 + w.key.len() + w.payload.len() + w.metadata.len() + 7).sum();
        assert!(
            content >= 1024,
            "{content} bytes are not too large: {error} in {}",
            journal.path().display()
        );
    }

    fn newest<'a>(&'a self, made: impl Iterator<Item = &'a Written>, draft: &Draft) -> u64 {
        let (kind, key) = (u8::from(draft.kind), draft.key());
        let of = |w: &&Written| w.kind == kind && w.key == key;
        let in_batch = made.filter(of).last().map(|w| w.generation);
        in_batch.or_else(|| self.written.iter().rfind(of).map(|w| w.generation)).unwrap_or(0)
    }

    /// Everything that the view shows is what was written, and nothing is missing in between.
    ///
    /// # Panics
    ///
    /// If it is not so.
    pub fn check(&self, view: &View, names: &dyn Fn(KindId) -> Option<u8>) {
        let mut seen = 0;
        for entry in view.range(..) {
            let entry = entry.expect("a whole log reads");
            seen += 1;
            assert_eq!(entry.seq().get(), seen, "in order and dense");
            self.check_entry(&entry, names);
        }
        assert_eq!(seen, self.written.len() as u64, "everything is there");
        let backward: Vec<u64> = view.range(..).rev().map(|e| e.expect("backward").seq().get()).collect();
        assert!(backward.iter().copied().eq((1..=seen).rev()), "backward is forward, reversed");
        self.check_histories(view);
    }

    fn check_histories(&self, view: &View) {
        let mut histories: BTreeMap<(u8, &[u8]), Vec<u64>> = BTreeMap::new();
        for (at, written) in self.written.iter().enumerate() {
            histories.entry((written.kind, &written.key)).or_default().push(at as u64 + 1);
        }
        for ((kind, key), seqs) in histories {
            let Some(kind) = self.kinds[usize::from(kind)] else { continue };
            let forward: Vec<u64> = view.entity(kind, key).map(|e| e.expect("history").seq().get()).collect();
            assert_eq!(forward, seqs, "the history of {key:?}");
            let mut backward: Vec<u64> =
                view.entity(kind, key).rev().map(|e| e.expect("history").seq().get()).collect();
            backward.reverse();
            assert_eq!(backward, seqs, "the history of {key:?}, backward");
            let latest = view.latest(kind, key).expect("latest").map(|e| e.seq().get());
            assert_eq!(latest, seqs.last().copied());
        }
    }

    /// One entry is what was written under its Seq.
    ///
    /// # Panics
    ///
    /// If it is not.
    pub fn check_entry(&self, entry: &Entry<'_>, names: &dyn Fn(KindId) -> Option<u8>) {
        let at = entry.seq().get() as usize - 1;
        let written = self.written.get(at).unwrap_or_else(|| panic!("Seq {} was never written", at + 1));
        assert_eq!(
            (names(entry.kind()), entry.key(), entry.payload(), entry.metadata(), entry.generation().get()),
            (
                Some(written.kind),
                &written.key[..],
                &written.payload[..],
                &written.metadata[..],
                written.generation
            ),
            "Seq {}",
            at + 1
        );
    }

    /// The log now ends behind `count` entries.
    ///
    /// # Panics
    ///
    /// If that splits a batch.
    pub fn cut(&mut self, count: usize) {
        assert!(count <= self.written.len(), "more entries than were written");
        if let (Some(last), Some(next)) =
            (count.checked_sub(1).map(|at| &self.written[at]), self.written.get(count))
        {
            assert_ne!(last.batch, next.batch, "half a batch survived");
        }
        self.written.truncate(count);
        self.durable = self.durable.min(count);
        self.keys.retain(|_, (first, length)| *first + *length <= count);
        self.batches += 1;
    }

    /// Numbers of kinds belong to a store: those that a crash took are given again.
    pub fn learn_kinds(&mut self, journal: &Journal) {
        let kinds = journal.kinds();
        self.kinds = KINDS.map(|name| kinds.iter().find(|kind| kind.name == name).map(|kind| kind.id));
    }

    /// Which of the model's kinds a number is.
    pub fn name_of(&self, id: KindId) -> Option<u8> {
        self.kinds.iter().position(|kind| *kind == Some(id)).and_then(|at| u8::try_from(at).ok())
    }
}

fn is_met(expect: Expected, newest: u64) -> bool {
    match expect {
        Expected::Any | Expected::Newest => true,
        Expected::New | Expected::Generation(0) => newest == 0,
        Expected::Exists => newest != 0,
        Expected::Generation(n) => newest == u64::from(n),
    }
}

/// Reads everything that a view can show, in every way; answers the Seqs it showed.
pub fn read_all(view: &View, kinds: &[KindId], mut see: impl FnMut(&Entry<'_>)) -> Vec<u64> {
    let mut seen = Vec::new();
    for entry in view.range(..).flatten() {
        seen.push(entry.seq().get());
        see(&entry);
    }
    view.range(..).rev().flatten().for_each(|entry| see(&entry));
    for kind in kinds {
        view.kind(*kind).flatten().for_each(|entry| see(&entry));
        for key in seen_keys(view) {
            view.entity(*kind, &key).flatten().for_each(|entry| see(&entry));
            view.entity(*kind, &key).rev().flatten().for_each(|entry| see(&entry));
            if let Ok(Some(entry)) = view.latest(*kind, &key) {
                see(&entry);
            }
        }
    }
    for seq in seen.iter().copied().chain([1, u64::MAX]).filter_map(Seq::new) {
        if let Ok(Some(entry)) = view.get(seq) {
            see(&entry);
        }
    }
    seen
}

fn seen_keys(view: &View) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = view.range(..).flatten().map(|entry| entry.key().to_vec()).collect();
    keys.sort();
    keys.dedup();
    keys
}

/// Waits until no thread folds any more: what a thread still has in its last moments would look like a leak.
///
/// # Panics
///
/// If the system does not tell of threads.
pub fn wait_for_threads_that_fold() {
    let is_folding = |task: &std::path::Path| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "esker-fold")
    };
    let are_there = || {
        let mut tasks = std::fs::read_dir("/proc/self/task").expect("threads of this process");
        tasks.any(|task| task.is_ok_and(|task| is_folding(&task.path())))
    };
    while are_there() {
        std::thread::yield_now();
    }
}
