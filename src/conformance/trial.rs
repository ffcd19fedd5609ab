//! One schedule of one statement: names that nobody else uses, and calls as a careful user makes them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::backplane::{Append, Backplane, Done, Filter, Offset, Stamp, Step, WriterId};
use crate::conformance::random::Random;
use crate::conformance::reading::Reading;
use crate::conformance::tamper::Tampered;
use crate::conformance::{Bench, Broken, Settings};
use crate::error::{ErrorKind, Result};

/// A call whose outcome is unknown is repeated so often.
const TRIES: usize = 16;

/// One random schedule of a statement.
pub struct Trial<'a> {
    pub(super) bench: &'a dyn Bench,
    pub(super) random: Random,
    /// The stream of the statement. Other schedules have appended to it, with other keys.
    pub(super) stream: String,
    pub(super) patience: Duration,
    pub(super) close_within: Duration,
    nonce: u64,
    seed: u64,
    made: u64,
}

/// A record as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) offset: Offset,
    pub(super) key: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) stamp: Stamp,
}

/// One who appends: it counts, in each topic.
#[derive(Clone, Debug)]
pub(super) struct Author {
    writer: WriterId,
    counts: BTreeMap<Vec<u8>, u64>,
}

impl Author {
    pub(super) fn next(&mut self, key: &[u8]) -> Stamp {
        let count = self.counts.entry(key.to_vec()).or_default();
        *count += 1;
        Stamp::new(self.writer, *count)
    }
}

impl<'a> Trial<'a> {
    pub(super) fn new(bench: &'a dyn Bench, number: u8, seed: u64, nonce: u64, settings: &Settings) -> Self {
        let stream = format!("conformance-{number}-{nonce:016x}");
        let Settings { patience, close_within, .. } = *settings;
        Self { bench, random: Random::new(seed), stream, patience, close_within, nonce, seed, made: 0 }
    }

    fn unique(&mut self) -> u64 {
        self.made += 1;
        Random::new(self.nonce ^ Random::new(self.seed).next() ^ self.made << 48).next()
    }

    /// A key of which nothing is there yet. Any bytes may stand in it.
    pub(super) fn key(&mut self) -> Vec<u8> {
        let mut key = self.unique().to_le_bytes().to_vec();
        let more = self.random.below(24);
        key.extend(self.random.bytes(more));
        // What has a meaning in the subjects of brokers, and in paths and terminals.
        let strange: [&[u8]; 6] = [b"", b".", b"*.>", b"/../", b"\0\xff", b"\x1b[1m \r\n"];
        key.extend(self.random.one_of(&strange).copied().unwrap_or_default());
        key
    }

    pub(super) fn keys(&mut self, count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|_| self.key()).collect()
    }

    pub(super) fn author(&mut self) -> Author {
        Author { writer: WriterId::from_raw(self.unique()), counts: BTreeMap::new() }
    }

    pub(super) fn payload(&mut self) -> Vec<u8> {
        let most = if self.random.one_in(8) { 700 } else { 40 };
        let count = self.random.below(most);
        self.random.bytes(count)
    }

    pub(super) fn open(&self) -> Arc<dyn Backplane> {
        self.bench.open()
    }

    /// Opens it as another process has it.
    pub(super) fn open_beside(&self, plane: &Arc<dyn Backplane>) -> Arc<dyn Backplane> {
        self.bench.open_beside(plane)
    }

    /// Opens it so that it can be tampered with: what is around it (a double) sees what was tampered with.
    pub(super) fn open_tampered(&self) -> Result<(Arc<Tampered>, Arc<dyn Backplane>), Broken> {
        let made = Mutex::new(None);
        let plane = self.bench.open_around(&|inner| {
            let tampered = Tampered::around(inner);
            *made.lock() = Some(Arc::clone(&tampered));
            tampered
        });
        let tampered = made.into_inner();
        let tampered = tampered.ok_or_else(|| Broken("the bench puts nothing around".to_owned()))?;
        Ok((tampered, plane))
    }

    /// Closes and opens again.
    pub(super) fn reopen(&self, plane: Arc<dyn Backplane>) -> Result<Arc<dyn Backplane>, Broken> {
        plane.close()?;
        drop(plane);
        Ok(self.bench.open())
    }

    pub(super) fn kill(&self, plane: Arc<dyn Backplane>) -> Arc<dyn Backplane> {
        self.bench.kill(plane)
    }

    pub(super) fn all(&self) -> Filter<'_> {
        Filter::stream(&self.stream)
    }

    pub(super) fn topic<'k>(&'k self, key: &'k [u8]) -> Filter<'k> {
        Filter::topic(&self.stream, key)
    }

    /// Appends one record.
    pub(super) fn append(
        &mut self,
        plane: &dyn Backplane,
        author: &mut Author,
        key: &[u8],
    ) -> Result<Sent, Broken> {
        let payload = self.payload();
        append(plane, &self.stream, author.next(key), key, payload)
    }

    /// Appends records to random topics.
    pub(super) fn append_some(
        &mut self,
        plane: &dyn Backplane,
        author: &mut Author,
        keys: &[Vec<u8>],
        count: usize,
    ) -> Result<Vec<Sent>, Broken> {
        let mut sent = Vec::new();
        while sent.len() < count {
            let together = self.random.between(1, 3);
            let mut records: Vec<(Vec<u8>, Vec<u8>, Stamp)> = Vec::new();
            for _ in 0..together {
                let key = self.random.one_of(keys).cloned().unwrap_or_default();
                records.push((key.clone(), self.payload(), author.next(&key)));
            }
            let steps: Vec<Step<'_>> = records
                .iter()
                .map(|(key, payload, stamp)| Step::Append(Append::new(&self.stream, key, payload, *stamp)))
                .collect();
            let done = commit(plane, &steps)?;
            for (at, (key, payload, stamp)) in records.iter().enumerate() {
                let offset = offset_of(&done, at)?;
                sent.push(Sent { offset, key: key.clone(), payload: payload.clone(), stamp: *stamp });
            }
        }
        Ok(sent)
    }

    /// Reads what a filter means behind an offset.
    pub(super) fn read(&self, plane: &Arc<dyn Backplane>, key: Option<&[u8]>, from: Offset) -> Reading {
        Reading::new(Arc::clone(plane), self.stream.clone(), key, from, self.patience)
    }
}

impl std::fmt::Debug for Trial<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trial({}, seed {:#x})", self.stream, self.seed)
    }
}

/// Repeats a call whose outcome is unknown.
pub(super) fn careful<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    let mut tries = TRIES;
    loop {
        tries -= 1;
        match call() {
            Err(error) if error.kind() == ErrorKind::Disconnected && tries > 0 => {}
            other => return other,
        }
    }
}

pub(super) fn commit(plane: &dyn Backplane, steps: &[Step<'_>]) -> Result<Done> {
    careful(|| plane.commit(steps))
}

pub(super) fn append(
    plane: &dyn Backplane,
    stream: &str,
    stamp: Stamp,
    key: &[u8],
    payload: Vec<u8>,
) -> Result<Sent, Broken> {
    let done = commit(plane, &[Step::Append(Append::new(stream, key, &payload, stamp))])?;
    Ok(Sent { offset: offset_of(&done, 0)?, key: key.to_vec(), payload, stamp })
}

pub(super) fn offset_of(done: &Done, step: usize) -> Result<Offset, Broken> {
    done.offset(step)
        .ok_or_else(|| Broken(format!("step {step} appends, and is answered with {:?}", done.steps)))
}
