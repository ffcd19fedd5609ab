//! One thread that waits on many readers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::feed::sleepers::Bell;
use crate::journal::waiting::{POLL_MAX, Reading};

/// Names a reader of a [`WaitSet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitKey(u64);

/// Readers on which one thread waits: it costs what was woken, not what sleeps.
///
/// ```
/// use esker::{Item, Journal, Record, Region, WaitSet};
/// # fn main() -> esker::Result<()> {
/// let journal = Journal::in_memory()?;
/// let order = journal.kind("order")?;
/// let mut set = WaitSet::new();
/// let keys: Vec<_> = ["8812", "8813"]
///     .map(|key| journal.subscribe(Region::entity(order, key)).map(|orders| set.insert(orders)))
///     .into_iter()
///     .collect::<Result<_, _>>()?;
/// journal.append(Record::new(order, b"8813", b"placed"))?;
///
/// for key in set.wait(None) {
///     let orders = set.get_mut(key).unwrap();
///     while orders.advance()? {
///         let Item::Entry(entry) = orders.item() else { continue };
///         assert_eq!((key, entry.payload()), (keys[1], &b"placed"[..]));
///     }
/// }
/// # Ok(()) }
/// ```
pub struct WaitSet<R: Reading> {
    members: BTreeMap<u64, Member<R>>,
    next: u64,
    /// Those that are not in bed: whether there is more for them is not known.
    awake: BTreeSet<u64>,
    rung: Arc<Rung>,
}

struct Member<R> {
    reader: R,
    /// It was named because nothing more will come, which is said once.
    end_was_told: bool,
}

/// Whose bells have rung.
#[derive(Debug, Default)]
struct Rung {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    keys: Vec<u64>,
    stopped: bool,
}

/// The bell of one reader.
#[derive(Debug)]
struct MemberBell {
    rung: Arc<Rung>,
    key: u64,
}

impl Bell for MemberBell {
    fn ring(&self) {
        self.rung.state.lock().keys.push(self.key);
        self.rung.changed.notify_all();
    }
}

/// Ends the waiting of a [`WaitSet`], from any thread.
#[derive(Clone, Debug)]
pub struct WaitSetStopper {
    rung: Arc<Rung>,
}

impl WaitSetStopper {
    /// The wait that is under way and all later ones end at once.
    pub fn stop(&self) {
        self.rung.state.lock().stopped = true;
        self.rung.changed.notify_all();
    }
}

impl<R: Reading> WaitSet<R> {
    /// A set without readers.
    #[must_use]
    pub fn new() -> Self {
        Self { members: BTreeMap::new(), next: 0, awake: BTreeSet::new(), rung: Arc::default() }
    }

    /// Takes a reader in.
    pub fn insert(&mut self, reader: R) -> WaitKey {
        let key = self.next;
        self.next += 1;
        self.members.insert(key, Member { reader, end_was_told: false });
        self.awake.insert(key);
        WaitKey(key)
    }

    /// Takes a reader out.
    pub fn remove(&mut self, key: WaitKey) -> Option<R> {
        let Member { reader, .. } = self.members.remove(&key.0)?;
        self.awake.remove(&key.0);
        let place = reader.place();
        place.give_bell(None);
        place.get_up();
        Some(reader)
    }

    /// A reader, to read on.
    pub fn get_mut(&mut self, key: WaitKey) -> Option<&mut R> {
        let Member { reader, .. } = self.members.get_mut(&key.0)?;
        // Whoever reads on sees further than the bed that it lies in knows of.
        if self.awake.insert(key.0) {
            reader.place().get_up();
        }
        Some(reader)
    }

    /// How many readers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Ends the waiting, from any thread.
    #[must_use]
    pub fn stopper(&self) -> WaitSetStopper {
        WaitSetStopper { rung: Arc::clone(&self.rung) }
    }

    /// Waits until there is something for one reader or more, and says for which: more to read, or an
    /// error, as their own calls then tell; and once, that nothing more will come, because the log has
    /// ended or the reader was stopped. Empty: the time is over (`None` waits for ever), or the set was
    /// stopped.
    ///
    /// A reader that was not read to its end is named again by the next call. One may be named for
    /// nothing, when what was appended is of another region. Readers of another process are looked at
    /// every few milliseconds, all of them, since nobody wakes them.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Vec<WaitKey> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let rung = std::mem::take(&mut self.rung.state.lock().keys);
            self.wake_up(rung);
            let ready = self.put_to_bed();
            let is_over = deadline.is_some_and(|deadline| deadline <= Instant::now());
            let mut state = self.rung.state.lock();
            if state.stopped {
                return Vec::new();
            }
            if !ready.is_empty() || is_over {
                return ready;
            }
            let mut is_time = false;
            while !is_time && state.keys.is_empty() && !state.stopped {
                match self.next_look(deadline) {
                    None => self.rung.changed.wait(&mut state),
                    Some(at) => is_time = self.rung.changed.wait_until(&mut state, at).timed_out(),
                }
            }
        }
    }

    /// Has those woken who are awake and have nothing; answers who has something.
    fn put_to_bed(&mut self) -> Vec<WaitKey> {
        let (members, rung) = (&mut self.members, &self.rung);
        let mut ready = Vec::new();
        self.awake.retain(|key| {
            let Some(member) = members.get_mut(key) else { return false };
            let place = member.reader.place();
            if place.waiting.is_stopped() || place.has_ended() && !place.has_news() {
                if !std::mem::replace(&mut member.end_was_told, true) {
                    ready.push(WaitKey(*key));
                }
                return true;
            }
            // The bell each time: the reader may be another one by now.
            place.give_bell(Some(Arc::new(MemberBell { rung: Arc::clone(rung), key: *key })));
            // An error is something too: reading on tells it.
            let has_nothing = matches!(place.lie_down(), Ok(true));
            let is_polled = place.is_polled();
            // Whoever reads on to the end is told there.
            member.end_was_told = place.has_ended();
            if !has_nothing {
                ready.push(WaitKey(*key));
            }
            !has_nothing || is_polled
        });
        ready
    }

    /// When to look whether those have something whom nobody wakes, or to give up.
    fn next_look(&self, deadline: Option<Instant>) -> Option<Instant> {
        let is_polled =
            |key: &u64| self.members.get(key).is_some_and(|member| member.reader.place().is_polled());
        let look = self.awake.iter().any(is_polled).then(|| Instant::now() + POLL_MAX);
        deadline.into_iter().chain(look).min()
    }

    /// Gets those up whose bells have rung: whether they have something, the next look tells.
    fn wake_up(&mut self, rung: Vec<u64>) {
        for key in rung {
            if let Some(member) = self.members.get(&key)
                && self.awake.insert(key)
            {
                member.reader.place().get_up();
            }
        }
    }
}

impl<R: Reading> Default for WaitSet<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Reading> Drop for WaitSet<R> {
    fn drop(&mut self) {
        self.members.values().for_each(|Member { reader, .. }| {
            reader.place().give_bell(None);
            reader.place().get_up();
        });
    }
}

impl<R: Reading> fmt::Debug for WaitSet<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WaitSet({} readers, {} awake)", self.members.len(), self.awake.len())
    }
}
