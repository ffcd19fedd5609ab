//! Numbers of what a store appends through its backplane: dense in each topic, and none given to anything else while
//! the fate of its append is unknown.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::backplane::{Append, Backplane, Offset, Pending, Put, Revision, Stamp, Step, WriterId};
use crate::error::{Error, ErrorKind, Result};

/// Of so many keys it is known how far they are counted. When there are more, those that nobody uses are forgotten, and
/// another writer begins at 1 everywhere.
const KEYS_MAX: usize = 65_536;
/// A call whose outcome is unknown is repeated so often before it is told.
const TRIES: usize = 4;

/// Whoever appends through one store.
pub(crate) struct Authors {
    state: Mutex<State>,
    keys_max: usize,
}

#[derive(Default)]
struct State {
    writer: Option<WriterId>,
    counts: HashMap<Target, Arc<Mutex<Count>>>,
}

/// A topic by its stream and key, or a cell by its key.
type Target = (Option<Box<str>>, Box<[u8]>);

struct Count {
    writer: WriterId,
    /// The last number whose step is done.
    n: u64,
    /// The step behind it, of which it is not known whether it is.
    unknown: Option<Owned>,
}

/// A step to be repeated.
enum Owned {
    Append { payload: Vec<u8>, expect: Option<Offset>, schema: u16 },
    Put { value: Option<Vec<u8>>, expect: Revision },
}

/// What a step is to be, but for its stamp.
#[derive(Clone, Copy)]
pub(crate) enum Wanted<'a> {
    Append { payload: &'a [u8], expect: Option<Offset>, schema: u16 },
    Put { value: Option<&'a [u8]>, expect: Revision },
}

impl Default for Authors {
    fn default() -> Self {
        Self::with_keys_max(KEYS_MAX)
    }
}

impl Authors {
    fn with_keys_max(keys_max: usize) -> Self {
        Self { state: Mutex::default(), keys_max }
    }

    /// Commits one step on a topic (of a stream) or a cell (without one), under the next number. Answers the offset or the
    /// revision as a number. Who appends waits for the disk together with others, also of the same topic.
    pub(crate) fn commit(
        &self,
        plane: &dyn Backplane,
        stream: Option<&str>,
        key: &[u8],
        wanted: Wanted<'_>,
    ) -> Result<(u64, Pending)> {
        let count = self.count(stream, key)?;
        // One after the other: the numbers are dense in the order of the log.
        let mut count = count.lock();
        if let Some(unknown) = count.unknown.take() {
            let outcome = count.send(plane, stream, key, unknown.as_wanted());
            if is_unknown(&outcome) {
                count.unknown = Some(unknown);
                return outcome;
            }
            count.n += u64::from(outcome.is_ok());
        }
        let outcome = count.send(plane, stream, key, wanted);
        if is_unknown(&outcome) {
            count.unknown = Some(wanted.to_owned());
        }
        count.n += u64::from(outcome.is_ok());
        outcome
    }

    fn count(&self, stream: Option<&str>, key: &[u8]) -> Result<Arc<Mutex<Count>>> {
        let mut state = self.state.lock();
        let target: Target = (stream.map(Into::into), key.into());
        if let Some(count) = state.counts.get(&target) {
            return Ok(Arc::clone(count));
        }
        if state.counts.len() >= self.keys_max {
            // Whoever counts under another writer may be at it just now.
            state.counts.retain(|_, count| Arc::strong_count(count) > 1 || count.lock().unknown.is_some());
            state.writer = None;
        }
        let writer = match state.writer {
            Some(writer) => writer,
            None => *state.writer.insert(WriterId::random()?),
        };
        let count = Arc::new(Mutex::new(Count { writer, n: 0, unknown: None }));
        state.counts.insert(target, Arc::clone(&count));
        Ok(count)
    }
}

impl Count {
    fn send(
        &self,
        plane: &dyn Backplane,
        stream: Option<&str>,
        key: &[u8],
        wanted: Wanted<'_>,
    ) -> Result<(u64, Pending)> {
        let stamp = Stamp::new(self.writer, self.n + 1);
        let step = match (wanted, stream) {
            (Wanted::Append { payload, expect, schema }, Some(stream)) => {
                let append = Append::new(stream, key, payload, stamp).schema(schema);
                Step::Append(expect.map_or(append, |newest| append.expect(newest)))
            }
            (Wanted::Put { value, expect }, None) => Step::Put(Put::new(key, expect, value, stamp)),
            _ => return Err(Error::new(ErrorKind::InvalidInput, "append to a cell, or put into a topic")),
        };
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let outcome = match step {
                Step::Append(_) => plane.commit_nowait(&[step]),
                // Who swaps it next has to see it first.
                Step::Put(_) => plane.commit(&[step]).map(Pending::durable),
            };
            match outcome {
                Ok(pending) => {
                    let done = pending.done();
                    let number = done.offset(0).map(Offset::raw).or(done.revision(0).map(Revision::raw));
                    let number = number.ok_or_else(|| {
                        Error::new(ErrorKind::Io, "commit a step")
                            .sides("what it came to", format!("{:?}", done.steps))
                    })?;
                    return Ok((number, pending));
                }
                Err(error) if error.kind() == ErrorKind::Disconnected && tries > 0 => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Wanted<'_> {
    fn to_owned(self) -> Owned {
        match self {
            Self::Append { payload, expect, schema } => {
                Owned::Append { payload: payload.to_vec(), expect, schema }
            }
            Self::Put { value, expect } => Owned::Put { value: value.map(<[u8]>::to_vec), expect },
        }
    }
}

impl Owned {
    fn as_wanted(&self) -> Wanted<'_> {
        match self {
            Self::Append { payload, expect, schema } => {
                Wanted::Append { payload, expect: *expect, schema: *schema }
            }
            Self::Put { value, expect } => Wanted::Put { value: value.as_deref(), expect: *expect },
        }
    }
}

fn is_unknown<T>(outcome: &Result<T>) -> bool {
    let kind = outcome.as_ref().err().map(Error::kind);
    matches!(kind, Some(ErrorKind::Disconnected | ErrorKind::Poisoned))
}

impl fmt::Debug for Authors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        write!(f, "Authors({:?}, {} keys)", state.writer, state.counts.len())
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a panic is a failed test")]
mod tests {
    use super::*;
    use crate::backplane::{Filter, InMemory};

    #[test]
    fn whose_count_is_forgotten_is_counted_anew_under_another_writer() {
        let (authors, plane) = (Authors::with_keys_max(2), InMemory::new());
        let keys = [b"a", b"b", b"c"];
        for round in 0..5_u8 {
            for key in keys {
                let wanted = Wanted::Append { payload: &[round], expect: None, schema: 1 };
                let (_, pending) = authors.commit(&plane, Some("s"), key, wanted).unwrap();
                pending.wait_durable().unwrap();
                assert!(authors.state.lock().counts.len() <= 2);
            }
        }
        for key in keys {
            let mut feed = plane.subscribe(Filter::topic("s", key), Offset::BEGINNING).unwrap();
            let records: Vec<_> = std::iter::from_fn(|| feed.try_next().unwrap()).collect();
            assert!(records.iter().map(|record| record.payload()[0]).eq(0..5), "each is there once");
            // Dense from 1 for each writer, as folds ask for.
            let mut last = HashMap::new();
            for stamp in records.iter().map(|record| record.stamp().unwrap()) {
                let last = last.entry(stamp.writer).or_insert(0);
                *last += 1;
                assert_eq!(stamp.n, *last);
            }
            assert!(last.len() > 1, "counts were forgotten");
        }
    }
}
