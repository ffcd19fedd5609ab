//! Numbers of what a store appends through its backplane: dense in each topic under each writer, and none given to anything
//! else, whatever became of its append.
//!
//! An append of which it is not known whether it is done keeps its number for ever: what is appended next to its topic is by
//! another writer. So nothing has to be found out before, and nothing is done later that its caller was told had failed. If the
//! same is appended again soon, that is the same append: the backplane still knows the stamp, and does it once.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::backplane::{Append, Backplane, Done, Offset, Pending, Put, Revision, Stamp, Step, WriterId};
use crate::error::{Error, ErrorKind, Result};
use crate::format::stamp::mixed;

/// A call whose outcome is unknown is repeated so often before it is told.
const TRIES: usize = 4;

/// How much is remembered.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Of so many keys it is known how far they are counted. When there are more, those that nobody uses are forgotten, and
    /// another writer begins at 1 everywhere.
    keys: usize,
    /// So long a stamp may be used again: less than the two minutes for which every backplane remembers it.
    window: Duration,
    /// So many appends of one topic with an unknown outcome are known again.
    unknown: usize,
}

const LIMITS: Limits = Limits { keys: 65_536, window: Duration::from_secs(100), unknown: 16 };

/// Whoever appends through one store.
pub(crate) struct Authors {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    writer: Option<WriterId>,
    counts: HashMap<Target, Arc<Mutex<Count>>>,
}

/// A topic by its stream and key, or a cell by its key.
type Target = (Option<Box<str>>, Box<[u8]>);

struct Count {
    /// `None`: another one than before, that nobody was.
    writer: Option<WriterId>,
    /// The last number of this writer whose step is done.
    n: u64,
    /// Appends of which it is not known whether they are done, the oldest first.
    unknown: VecDeque<Unknown>,
}

#[derive(Clone, Copy)]
struct Unknown {
    content: Content,
    stamp: Stamp,
    /// Until then the backplane remembers the stamp.
    until: Instant,
}

/// What is appended, to tell whether it is the same again.
type Content = (u128, Option<Offset>, u16);

/// What a step is to be, but for its stamp.
#[derive(Clone, Copy)]
pub(crate) enum Wanted<'a> {
    Append { payload: &'a [u8], expect: Option<Offset>, schema: u16 },
    Put { value: Option<&'a [u8]>, expect: Revision },
}

/// How sending a step ended: with what is known, or with an error behind which it may be done or not.
enum Sent {
    Known(Result<Pending>),
    Unknown(Error),
}

impl Default for Authors {
    fn default() -> Self {
        Self::within(LIMITS)
    }
}

impl Authors {
    fn within(limits: Limits) -> Self {
        Self { limits, state: Mutex::default() }
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
        let now = Instant::now();
        count.unknown.retain(|unknown| now < unknown.until);
        let known = wanted.content().and_then(|content| count.take_unknown(content));
        let (stamp, until) = match known {
            Some(unknown) => (unknown.stamp, unknown.until),
            None => (count.next_stamp()?, now + self.limits.window),
        };
        match send(plane, step(stream, key, wanted, stamp)?, until) {
            Sent::Known(Ok(pending)) => {
                // One that was unknown is by a writer of before.
                count.n += u64::from(known.is_none());
                Ok((number_of(pending.done())?, pending))
            }
            Sent::Known(Err(error)) => {
                if error.kind() == ErrorKind::KeyReused {
                    count.begin_anew();
                }
                if let Some(unknown) = known.filter(|_| !is_decided(error.kind())) {
                    // That this call was refused says nothing of the one before.
                    count.doubt(unknown, self.limits);
                }
                Err(error)
            }
            Sent::Unknown(error) => {
                if known.is_none() {
                    count.begin_anew();
                }
                // A swap that comes again is another one: it has looked at what the cell holds.
                if let Some(content) = wanted.content() {
                    count.doubt(Unknown { content, stamp, until }, self.limits);
                }
                Err(error)
            }
        }
    }

    fn count(&self, stream: Option<&str>, key: &[u8]) -> Result<Arc<Mutex<Count>>> {
        let mut state = self.state.lock();
        let target: Target = (stream.map(Into::into), key.into());
        if let Some(count) = state.counts.get(&target) {
            return Ok(Arc::clone(count));
        }
        if state.counts.len() >= self.limits.keys {
            // Whoever counts under another writer may be at it just now.
            let now = Instant::now();
            state.counts.retain(|_, count| Arc::strong_count(count) > 1 || count.lock().is_needed(now));
            state.writer = None;
        }
        let writer = match state.writer {
            Some(writer) => writer,
            None => *state.writer.insert(WriterId::random()?),
        };
        let count = Count { writer: Some(writer), n: 0, unknown: VecDeque::new() };
        let count = Arc::new(Mutex::new(count));
        state.counts.insert(target, Arc::clone(&count));
        Ok(count)
    }
}

impl Count {
    fn next_stamp(&mut self) -> Result<Stamp> {
        let writer = match self.writer {
            Some(writer) => writer,
            None => *self.writer.insert(WriterId::random()?),
        };
        Ok(Stamp::new(writer, self.n + 1))
    }

    fn take_unknown(&mut self, content: Content) -> Option<Unknown> {
        let at = self.unknown.iter().position(|unknown| unknown.content == content)?;
        self.unknown.remove(at)
    }

    /// Knows an append again if the same is to be appended soon.
    fn doubt(&mut self, unknown: Unknown, limits: Limits) {
        self.unknown.push_back(unknown);
        let too_many = self.unknown.len().saturating_sub(limits.unknown);
        self.unknown.drain(..too_many);
    }

    /// Counts as another writer from here on: a number of the one before may be taken.
    fn begin_anew(&mut self) {
        (self.writer, self.n) = (None, 0);
    }

    fn is_needed(&self, now: Instant) -> bool {
        self.unknown.iter().any(|unknown| now < unknown.until)
    }
}

/// Commits one step under a stamp that says which one it is, whoever repeats it. Whoever does not know what became of it does.
pub(crate) fn once(
    plane: &dyn Backplane,
    stream: &str,
    key: &[u8],
    wanted: Wanted<'_>,
    stamp: Stamp,
) -> Result<Pending> {
    match send(plane, step(Some(stream), key, wanted, stamp)?, Instant::now() + LIMITS.window) {
        Sent::Known(outcome) => outcome,
        Sent::Unknown(error) => Err(error),
    }
}

fn step<'a>(stream: Option<&'a str>, key: &'a [u8], wanted: Wanted<'a>, stamp: Stamp) -> Result<Step<'a>> {
    match (wanted, stream) {
        (Wanted::Append { payload, expect, schema }, Some(stream)) => {
            let append = Append::new(stream, key, payload, stamp).schema(schema);
            Ok(Step::Append(expect.map_or(append, |newest| append.expect(newest))))
        }
        (Wanted::Put { value, expect }, None) => Ok(Step::Put(Put::new(key, expect, value, stamp))),
        _ => Err(Error::new(ErrorKind::InvalidInput, "append to a cell, or put into a topic")),
    }
}

/// Once one try may have done it, only an answer that its stamp decides says what became of it: another error is of a later try.
fn send(plane: &dyn Backplane, step: Step<'_>, until: Instant) -> Sent {
    let mut doubt: Option<Error> = None;
    for _ in 0..TRIES {
        let outcome = match step {
            Step::Append(_) => plane.commit_nowait(&[step]),
            // Who swaps it next has to see it first.
            Step::Put(_) => plane.commit(&[step]).map(Pending::durable),
        };
        let error = match outcome {
            Ok(pending) => return Sent::Known(Ok(pending)),
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::Disconnected => doubt = Some(error),
            ErrorKind::Poisoned => return Sent::Unknown(error),
            kind if is_decided(kind) => return Sent::Known(Err(error)),
            _ => {
                return match doubt {
                    Some(doubt) => Sent::Unknown(doubt.noting(format!("then: {error}"))),
                    None => Sent::Known(Err(error)),
                };
            }
        }
        if Instant::now() >= until {
            break;
        }
    }
    let doubt = doubt.unwrap_or_else(|| Error::new(ErrorKind::Disconnected, "commit a step"));
    Sent::Unknown(doubt)
}

/// True for an answer that says of a stamp that nothing was done under it, and nothing will be.
fn is_decided(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Conflict | ErrorKind::KeyReused)
}

fn number_of(done: &Done) -> Result<u64> {
    let number = done.offset(0).map(Offset::raw).or(done.revision(0).map(Revision::raw));
    number.ok_or_else(|| {
        Error::new(ErrorKind::Io, "commit a step").sides("what it came to", format!("{:?}", done.steps))
    })
}

impl Wanted<'_> {
    fn content(&self) -> Option<Content> {
        match *self {
            Self::Append { payload, expect, schema } => Some((mixed(payload), expect, schema)),
            Self::Put { .. } => None,
        }
    }
}

impl fmt::Debug for Authors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        write!(f, "Authors({:?}, {} keys)", state.writer, state.counts.len())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::backplane::{Filter, InMemory, StreamRecord};

    fn append(authors: &Authors, plane: &InMemory, key: &[u8], payload: &[u8]) -> u64 {
        let wanted = Wanted::Append { payload, expect: None, schema: 1 };
        authors.commit(plane, Some("order"), key, wanted).unwrap().0
    }

    fn records(plane: &InMemory) -> Vec<StreamRecord> {
        let mut feed = plane.subscribe(Filter::stream("order"), Offset::BEGINNING).unwrap();
        std::iter::from_fn(|| feed.try_next().unwrap()).collect()
    }

    /// Takes an append as one of which it is not known whether it is done.
    fn doubt(authors: &Authors, key: &[u8], payload: &[u8]) -> Stamp {
        let count = authors.count(Some("order"), key).unwrap();
        let mut count = count.lock();
        let stamp = count.next_stamp().unwrap();
        let content = Wanted::Append { payload, expect: None, schema: 1 }.content().unwrap();
        count
            .doubt(Unknown { content, stamp, until: Instant::now() + authors.limits.window }, authors.limits);
        count.begin_anew();
        stamp
    }

    #[test]
    fn whoever_was_forgotten_begins_as_another_writer_so_that_nothing_is_taken_for_its_repetition() {
        let (authors, plane) = (Authors::within(Limits { keys: 2, ..LIMITS }), InMemory::new());
        for round in 0..3 {
            // The same content under the same number: under the same writer it would be the same append.
            for key in [&b"a"[..], b"b", b"c"] {
                append(&authors, &plane, key, b"same");
            }
            assert_eq!(records(&plane).len(), (round + 1) * 3);
        }
        let stamps: Vec<Stamp> = records(&plane).iter().map(|record| record.stamp().unwrap()).collect();
        let keys = records(&plane).iter().map(|record| record.key().to_vec()).collect::<Vec<_>>();
        let names: BTreeSet<_> = stamps.iter().zip(&keys).collect();
        assert_eq!(names.len(), stamps.len(), "a number was given twice");
        assert!(authors.state.lock().counts.len() <= 3, "nothing was forgotten");
    }

    #[test]
    fn a_topic_with_an_unknown_append_is_not_forgotten_as_long_as_it_can_be_repeated() {
        for (window, is_kept) in [(LIMITS.window, true), (Duration::ZERO, false)] {
            let authors = Authors::within(Limits { keys: 2, window, ..LIMITS });
            let plane = InMemory::new();
            doubt(&authors, b"a", b"x");
            for key in [&b"b"[..], b"c", b"d"] {
                append(&authors, &plane, key, b"y");
            }
            let is_there = authors.state.lock().counts.contains_key(&(Some("order".into()), b"a"[..].into()));
            assert_eq!(is_there, is_kept);
        }
    }

    #[test]
    fn the_same_again_has_the_stamp_of_before_within_the_window_and_another_behind_it() {
        for (window, is_same) in [(LIMITS.window, true), (Duration::ZERO, false)] {
            let (authors, plane) = (Authors::within(Limits { window, ..LIMITS }), InMemory::new());
            let stamp = doubt(&authors, b"a", b"x");
            append(&authors, &plane, b"a", b"x");
            append(&authors, &plane, b"a", b"x");
            let stamps: Vec<_> = records(&plane).iter().map(|record| record.stamp().unwrap()).collect();
            assert_eq!((stamps.len(), stamps[0] == stamp), (2, is_same), "{stamps:?}");
            assert_ne!(stamps[1].writer, stamp.writer, "what comes behind it is by another writer");
            assert_eq!(stamps[1].n, if is_same { 1 } else { 2 });
        }
    }

    #[test]
    fn of_many_unknown_appends_the_newest_are_known_again() {
        let (authors, plane) = (Authors::within(Limits { unknown: 2, ..LIMITS }), InMemory::new());
        let stamps = [b"x", b"y", b"z"].map(|payload| doubt(&authors, b"a", payload));
        for payload in [b"x", b"y", b"z"] {
            append(&authors, &plane, b"a", payload);
        }
        let found = records(&plane).iter().map(|record| record.stamp().unwrap()).collect::<Vec<_>>();
        assert_ne!(found[0], stamps[0]);
        assert_eq!(found[1..], stamps[1..]);
    }

    #[test]
    fn a_number_that_somebody_took_is_not_in_the_way_for_ever() {
        let (authors, plane) = (Authors::default(), InMemory::new());
        append(&authors, &plane, b"a", b"one");
        let writer = authors.state.lock().writer.unwrap();
        let other = Append::new("order", b"a", b"other", Stamp::new(writer, 2));
        plane.commit(&[Step::Append(other)]).unwrap();
        let wanted = Wanted::Append { payload: b"two", expect: None, schema: 1 };
        let refused = authors.commit(&plane, Some("order"), b"a", wanted).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::KeyReused);
        append(&authors, &plane, b"a", b"two");
        assert_eq!(records(&plane).len(), 3);
    }
}
