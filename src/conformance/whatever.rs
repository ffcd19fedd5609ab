//! What holds whatever a backplane does, also one that breaks its contract.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::backplane::{Backplane, Filter, Offset, WriterId};
use crate::codec;
use crate::conformance::consumers::options;
use crate::conformance::folds::{Digest, Digests, EVENTS, NO_IMAGES, Sent, encoded, store_on};
use crate::conformance::trial::{Author, Trial, append, careful};
use crate::conformance::{Broken, Held};
use crate::error::ErrorKind;
use crate::fold::consumer::delivery::Delivery;
use crate::fold::consumer::info::ConsumerState;
use crate::fold::handle::TopicFold;
use crate::fold::topic::{FoldOptions, Folded};

/// Whatever the backplane does: each value is that of the first records of the topic.
pub(super) fn no_other_digest(trial: &mut Trial<'_>) -> Held {
    let plane = trial.open();
    let (mut author, mut sent) = (trial.author(), Sent::new(trial));
    let options = FoldOptions::new().images_every(3);
    let store = store_on(Arc::clone(&plane))?;
    let live = sent.topic(&store)?.fold_with::<Digests>(options)?;
    let (mut seen, mut stored) = (Vec::new(), Stored::default());
    for round in 0..4 {
        let count = trial.random.between(1, 6);
        send_whatever_happens(trial, &mut sent, &*plane, &mut author, count)?;
        stored.read_to(sent.last(), &*plane, &sent.key);
        seen.extend(value_of(&live, sent.last()));
        // One that begins now, from an image where there is one.
        let other = store_on(Arc::clone(&plane))?;
        let cold =
            sent.topic(&other)?.fold_with::<Digests>(if round % 2 == 0 { NO_IMAGES } else { options })?;
        seen.extend(value_of(&cold, sent.last()));
        let _ = cold.save_image_within(NEVER);
        if trial.random.one_in(3)
            && let Some(compactor) = plane.compactor()
        {
            let _ = compactor.compact(EVENTS.name(), &sent.key, sent.last());
        }
    }
    for folded in seen {
        let count = usize::try_from(folded.value.count).unwrap_or(usize::MAX);
        let is_of_it = [&sent.numbers, &stored.numbers]
            .into_iter()
            .any(|numbers| numbers.get(..count).is_some_and(|first| Digest::of(first) == folded.value));
        demand!(
            is_of_it,
            "a fold came to {folded:?} over {:?}, of which {:?} are stored",
            sent.numbers,
            stored.numbers
        );
    }
    Ok(())
}

/// So many events come before it counts that nothing was said.
const MORE: usize = 64;

/// A fold and a consumer come to what was sent, or tell what is amiss: they never stand still without a word while events come.
pub(super) fn nothing_stands_still_without_a_word(trial: &mut Trial<'_>) -> Held {
    let plane = trial.open();
    let (mut author, mut sent) = (trial.author(), Sent::new(trial));
    let store = store_on(Arc::clone(&plane))?;
    let fold = sent.topic(&store)?.fold_with::<Digests>(NO_IMAGES)?;
    let done = Arc::new(Mutex::new(BTreeSet::new()));
    let does = Arc::clone(&done);
    let handler = move |delivery: &Delivery<'_, u64>| {
        does.lock().insert(delivery.offset());
        Ok(())
    };
    let consumer = sent.topic(&store)?.on_event("conformance still", options(), handler)?;
    // A payload that is none of the type is told, and never done.
    let has_done = |count: usize| done.lock().len() as u64 + consumer.status().undecodable >= count as u64;
    let (mut fold_is_done, mut consumer_is_done) = (false, false);
    let least = trial.random.between(4, 24);
    for at in 1..=MORE {
        send_whatever_happens(trial, &mut sent, &*plane, &mut author, 1)?;
        fold_is_done = match fold.read_after(sent.last(), NEVER) {
            Ok(folded) => folded.value.count >= sent.numbers.len() as u64,
            // A gap that is another one each time it is read again is counted, and is no reason to halt yet.
            Err(error) => error.kind() != ErrorKind::Timeout || fold.stats().gaps > 0,
        };
        consumer_is_done = within(NEVER, || {
            has_done(sent.numbers.len()) || consumer.status().state != ConsumerState::Running
        });
        if at >= least && fold_is_done && consumer_is_done {
            break;
        }
    }
    // Where nothing is wrong, but everything slow, it comes in the end.
    fold_is_done = fold_is_done
        || fold
            .read_after(sent.last(), trial.patience)
            .is_ok_and(|all| all.value.count >= sent.numbers.len() as u64);
    consumer_is_done = consumer_is_done || within(trial.patience, || has_done(sent.numbers.len()));
    consumer.stop();
    demand!(fold_is_done, "{MORE} events came, and a fold stands at {:?}", fold.read_within(NEVER));
    demand!(consumer_is_done, "{MORE} events came, and a consumer stands at {:?}", consumer.status());
    Ok(())
}

/// Waits for what may never be so.
pub(super) fn within(time: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    loop {
        if is_so() {
            return true;
        }
        if begun.elapsed() >= time {
            return false;
        }
        park_timeout(Duration::from_micros(200));
    }
}

/// So long it is waited for what may never come: a fold over a backplane that breaks its contract.
pub(super) const NEVER: Duration = Duration::from_millis(30);

/// So long it is waited for a record that must come, unless the backplane breaks its contract.
const ON_ITS_WAY: Duration = Duration::from_millis(300);

fn value_of(fold: &TopicFold<Digests>, behind: Offset) -> Vec<Folded<Digest>> {
    let waited = fold.read_after(behind, NEVER);
    let shown = match &waited {
        Err(error) if error.kind() == ErrorKind::Halted => fold.read_within(NEVER).ok(),
        Err(_) => fold.watch().next_timeout(Duration::ZERO).ok().flatten(),
        Ok(_) => None,
    };
    waited.ok().into_iter().chain(shown).collect()
}

pub(super) fn send_whatever_happens(
    trial: &mut Trial<'_>,
    sent: &mut Sent,
    plane: &dyn Backplane,
    author: &mut Author,
    count: usize,
) -> Held {
    for _ in 0..count {
        let (number, stamp) = (trial.random.next(), author.next(&sent.key));
        let payload = encoded(&number)?;
        // One that stays unknown would leave a gap of our own making.
        let done = (0..8).find_map(|_| append(plane, EVENTS.name(), stamp, &sent.key, payload.clone()).ok());
        let done = done.ok_or_else(|| Broken("an append failed without an end".to_owned()))?;
        sent.numbers.push(number);
        sent.offsets.push(done.offset);
        sent.stamps.push(stamp);
    }
    Ok(())
}

/// What is in a topic, as far as it can be read with nothing missing: where an acknowledgement was lost that is more than
/// what was sent.
#[derive(Default)]
pub(super) struct Stored {
    at: Offset,
    pub(super) numbers: Vec<u64>,
    last: BTreeMap<WriterId, u64>,
    is_broken: bool,
}

impl Stored {
    /// Reads up to a record that was acknowledged. What is there may still be on its way; of a backplane that breaks its contract
    /// it may never come.
    pub(super) fn read_to(&mut self, last: Offset, plane: &dyn Backplane, key: &[u8]) {
        if self.is_broken {
            return;
        }
        let feed = careful(|| plane.subscribe(Filter::topic(EVENTS.name(), key), self.at));
        let Ok(mut feed) = feed else { return self.is_broken = true };
        while self.at < last
            && let Ok(Some(record)) = feed.next_timeout(ON_ITS_WAY)
        {
            let Some(stamp) = record.stamp().filter(|_| record.key() == key) else { continue };
            if record.offset() <= self.at {
                continue;
            }
            // Where the log says the place, a writer begins with any number: a bridge may begin in the middle.
            let before = if record.place_in_topic().is_some() { stamp.n.saturating_sub(1) } else { 0 };
            self.is_broken |= self.last.insert(stamp.writer, stamp.n).unwrap_or(before) + 1 != stamp.n;
            if self.is_broken {
                return;
            }
            self.at = record.offset();
            self.numbers.extend(codec::decode_bytes::<u64>(record.payload()).ok());
        }
    }
}
