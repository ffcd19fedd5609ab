//! Consumers of topics on a backplane.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::backplane::{Backplane, Elsewhere, Filter, Offset};
use crate::conformance::doubles::{Double, Fault};
use crate::conformance::folds::{Digests, EVENTS, NO_IMAGES, Sent, encoded, store_on};
use crate::conformance::part_b::compact;
use crate::conformance::reading::Reading;
use crate::conformance::trial::{Trial, append, careful};
use crate::conformance::whatever::{NEVER, Stored, send_whatever_happens, within};
use crate::conformance::{Broken, Held};
use crate::error::Result;
use crate::fold::consumer::delivery::{Delivery, Handled};
use crate::fold::consumer::handle::Consumer;
use crate::fold::consumer::info::{ConsumerHaltReason, ConsumerState};
use crate::fold::consumer::options::ConsumerOptions;
use crate::format::stamp::mixed;
use crate::store::Store;

const NAME: &str = "conformance consumer";

/// One call of a handler: where, what, and the how manieth attempt; and whether it answered an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Call {
    offset: Offset,
    number: u64,
    attempt: u32,
    failed: bool,
}

/// What was called. An event fails so often as it is told here.
#[derive(Clone, Debug, Default)]
struct Log {
    calls: Arc<Mutex<Vec<Call>>>,
    failing: Arc<Mutex<BTreeMap<u64, u32>>>,
}

impl Log {
    fn failing(failing: impl IntoIterator<Item = (u64, u32)>) -> Self {
        let log = Self::default();
        log.failing.lock().extend(failing);
        log
    }

    fn handler(&self) -> impl Fn(&Delivery<'_, u64>) -> Handled + Send + 'static {
        let log = self.clone();
        move |delivery| {
            let (number, mut failing) = (delivery.event, log.failing.lock());
            let left = failing.get_mut(&number).filter(|left| **left > 0);
            let failed = left.is_some();
            left.into_iter().for_each(|left| *left -= 1);
            let (offset, attempt) = (delivery.offset(), delivery.attempt());
            log.calls.lock().push(Call { offset, number, attempt, failed });
            if failed { Err("it is told to fail".into()) } else { Ok(()) }
        }
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.lock().clone()
    }

    /// The events that were done, each the first time.
    fn done(&self) -> Vec<u64> {
        let mut seen = BTreeSet::new();
        let done = self.calls().into_iter().filter(|call| !call.failed && seen.insert(call.offset));
        done.map(|call| call.number).collect()
    }
}

/// Pauses that a test can wait for.
pub(super) fn options() -> ConsumerOptions {
    ConsumerOptions::new()
        .retry_between(Duration::from_millis(1), Duration::from_millis(2))
        .grace(Duration::ZERO)
}

pub(super) fn wait(trial: &Trial<'_>, what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Held {
    let begun = Instant::now();
    while !careful(&mut is_so)? {
        demand!(begun.elapsed() < trial.patience, "{what} did not come within {:?}", trial.patience);
        park_timeout(Duration::from_micros(200));
    }
    Ok(())
}

pub(super) fn wait_until_at(trial: &Trial<'_>, consumer: &Consumer, offset: Offset) -> Held {
    let come = wait(trial, "what was appended", || {
        let status = consumer.status();
        Ok(status.committed >= offset || status.has_ended())
    });
    let status = consumer.status();
    come.map_err(|Broken(what)| Broken(format!("{what}: {status:?}")))?;
    demand!(status.committed >= offset, "a consumer ended: {status:?}");
    Ok(())
}

/// Stops it, and waits as long as it takes.
pub(super) fn stop(trial: &Trial<'_>, consumer: &Consumer) -> Held {
    consumer.stop();
    wait(trial, "the end of a consumer", || Ok(consumer.status().has_ended()))
}

fn consume(sent: &Sent, store: &Store, options: ConsumerOptions, log: &Log) -> Result<Consumer> {
    sent.topic(store)?.on_event(NAME, options, log.handler())
}

/// Demands that no event came before the one before it was done, and each attempt under its number.
fn is_in_order(sent: &Sent, calls: &[Call]) -> Held {
    let mut done = 0;
    for (at, call) in calls.iter().enumerate() {
        let place = sent.offsets.iter().position(|offset| *offset == call.offset);
        let place =
            place.ok_or_else(|| Broken(format!("call {at} is of nothing that was sent: {call:?}")))?;
        demand!(sent.numbers.get(place) == Some(&call.number), "call {at} has another event: {call:?}");
        demand!(place <= done, "call {at} is of event {place}, and {done} are done: {calls:?}");
        done = if call.failed { done } else { done.max(place + 1) };
    }
    Ok(())
}

/// 13: a consumer that stands holds back what it has not done, while it runs, when it is stopped, and behind a crash.
pub(super) fn statement_13_compaction_waits_for_every_consumer(trial: &mut Trial<'_>) -> Held {
    let mut plane = trial.open();
    let (mut author, mut sent) = (trial.author(), Sent::new(trial));
    let count = trial.random.between(3, 9);
    sent.send_some(trial, &*plane, &mut author, count)?;
    let stands = trial.random.below(count - 1) + 1;
    let (Some(needed), Some(number)) = (sent.offsets.get(stands).copied(), sent.numbers.get(stands).copied())
    else {
        return Err(Broken("nothing was sent".to_owned()));
    };
    let behind = Offset::from_raw(sent.last().raw() + 1);
    let log = Log::failing([(number, u32::MAX)]);
    {
        let store = store_on(Arc::clone(&plane))?;
        let consumer = consume(&sent, &store, options(), &log)?;
        let others = store.on_event(EVENTS, NAME, options(), |_: &Delivery<'_, u64>| Ok(()))?;
        wait_until_at(trial, &others, sent.last())?;
        wait(trial, "an attempt that fails", || Ok(consumer.status().errors > 0))?;
        for is_running in [true, false] {
            let before = careful(|| sent.topic(&store)?.compact(behind))?;
            demand!(
                before <= needed,
                "running {is_running}, it is compacted before {before}, and {needed} is needed"
            );
            let lowest = careful(|| plane.lowest_retained(Filter::topic(EVENTS.name(), &sent.key)))?;
            demand!(
                lowest == needed,
                "running {is_running}, {lowest} is left first, and {needed} is needed first"
            );
            stop(trial, &consumer)?;
        }
        stop(trial, &others)?;
    }
    plane = trial.kill(plane);
    let store = store_on(Arc::clone(&plane))?;
    let topic = sent.topic(&store)?;
    let before = careful(|| topic.compact(behind))?;
    demand!(before <= needed, "behind a crash it is compacted before {before}, and {needed} is needed");
    log.failing.lock().clear();
    let consumer = consume(&sent, &store, options(), &log)?;
    wait_until_at(trial, &consumer, sent.last())?;
    demand!(log.done() == sent.numbers, "{:?} was done of {:?}", log.done(), sent.numbers);
    // Whoever comes now is told that it is too late.
    let late = topic.on_event("conformance late", options(), log.handler())?;
    wait(trial, "a consumer that is lost", || Ok(late.status().has_ended()))?;
    let is_lost =
        matches!(late.status().state, ConsumerState::Halted(halt) if halt.why == ConsumerHaltReason::Lost);
    demand!(is_lost, "behind a compaction a new consumer is {:?}", late.status());
    stop(trial, &consumer)?;
    Ok(plane.close()?)
}

/// 22: whatever fails is tried again before what is behind it; what is done is not done again behind an end as it should be; and
/// a crash of the backplane lets nothing be passed over.
pub(super) fn statement_22_order_backoff_commit_and_resume(trial: &mut Trial<'_>) -> Held {
    let mut plane = trial.open();
    let (mut author, mut sent) = (trial.author(), Sent::new(trial));
    let log = Log::default();
    let mut is_killed = false;
    // Behind how many calls one ended as it should, and what it had committed.
    let mut ends: Vec<(usize, Offset)> = Vec::new();
    for _ in 0..4 {
        let count = trial.random.between(1, 6);
        sent.send_some(trial, &*plane, &mut author, count)?;
        for number in sent.numbers.iter().rev().take(count) {
            let times = u32::try_from(trial.random.below(4)).unwrap_or(0);
            log.failing.lock().insert(*number, times);
        }
        let store = store_on(Arc::clone(&plane))?;
        let every = u32::try_from(trial.random.between(1, 3)).unwrap_or(1);
        let consumer = consume(&sent, &store, options().commit_every(every), &log)?;
        if trial.random.one_in(3) {
            // Somewhere on the way.
            wait(trial, "a call", || Ok(!log.calls().is_empty()))?;
        } else {
            wait(trial, "all of it", || {
                Ok(consumer.status().position >= sent.last() || consumer.status().has_ended())
            })?;
        }
        stop(trial, &consumer)?;
        demand!(
            consumer.status().state == ConsumerState::Stopped,
            "a consumer ended: {:?}",
            consumer.status()
        );
        ends.push((log.calls().len(), consumer.status().committed));
        drop((consumer, store));
        if trial.random.one_in(2) {
            plane = trial.kill(plane);
            is_killed = true;
        }
    }
    let store = store_on(Arc::clone(&plane))?;
    let consumer = consume(&sent, &store, options(), &log)?;
    wait_until_at(trial, &consumer, sent.last())?;
    stop(trial, &consumer)?;
    let calls = log.calls();
    is_in_order(&sent, &calls)?;
    demand!(log.done() == sent.numbers, "{:?} was done of {:?}", log.done(), sent.numbers);
    for (count, committed) in ends {
        let again = calls.iter().skip(count).find(|call| call.offset <= committed);
        demand!(
            again.is_none(),
            "everything up to {committed} was committed, and was called again: {again:?}"
        );
    }
    if !is_killed {
        let done = calls.iter().filter(|call| !call.failed).count();
        demand!(done == sent.numbers.len(), "{done} were done of {}: {calls:?}", sent.numbers.len());
    }
    for offset in &sent.offsets {
        let mut attempts = calls.iter().filter(|call| call.offset == *offset).map(|call| call.attempt);
        let expected = (1..).take(attempts.clone().count());
        demand!(is_killed || attempts.by_ref().eq(expected), "attempts of {offset} are {calls:?}");
    }
    Ok(plane.close()?)
}

/// Holds a handler up until it is dropped.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn wait(&self) {
        let mut is_open = self.0.0.lock();
        while !*is_open {
            self.0.1.wait(&mut is_open);
        }
    }

    fn open(&self) {
        *self.0.0.lock() = true;
        self.0.1.notify_all();
    }
}

struct OpensGate(Gate);

impl Drop for OpensGate {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// 23: what fails as often as it may is a dead letter, once, and what is behind it comes; who ends in the handler sets nothing aside,
/// and is suspended in the end.
pub(super) fn statement_23_dead_letters_and_suspension(trial: &mut Trial<'_>) -> Held {
    let mut plane = trial.open();
    let (mut author, mut sent) = (trial.author(), Sent::new(trial));
    let count = trial.random.between(3, 9);
    sent.send_some(trial, &*plane, &mut author, count)?;
    let most = u32::try_from(trial.random.between(1, 3)).unwrap_or(1);
    let mut bad: Vec<u64> = sent.numbers.iter().copied().filter(|_| trial.random.one_in(3)).collect();
    bad.extend(sent.numbers.first().filter(|_| bad.is_empty()));
    let log = Log::failing(bad.iter().map(|number| (*number, u32::MAX)));
    {
        let store = store_on(Arc::clone(&plane))?;
        let consumer = consume(&sent, &store, options().max_attempts(most), &log)?;
        wait_until_at(trial, &consumer, sent.last())?;
        let mut letters = careful(|| consumer.dead_letters())?;
        // One topic has those of all who are called so.
        letters.retain(|letter| letter.key == sent.key);
        let offsets: Vec<Offset> = letters.iter().map(|letter| letter.offset).collect();
        let expected = sent.offsets.iter().zip(&sent.numbers).filter(|(_, number)| bad.contains(number));
        let expected: Vec<Offset> = expected.map(|(offset, _)| *offset).collect();
        demand!(offsets == expected, "dead letters are {letters:?}, and {expected:?} are bad");
        for number in &bad {
            let times = log.calls().iter().filter(|call| call.number == *number).count();
            demand!(
                u32::try_from(times) == Ok(most),
                "one that may fail {most} times was called {times} times"
            );
        }
        let good: Vec<u64> = sent.numbers.iter().copied().filter(|number| !bad.contains(number)).collect();
        demand!(log.done() == good, "{:?} was done, and {good:?} is good", log.done());
        stop(trial, &consumer)?;
    }
    sent.send(trial, &*plane, &mut author)?;
    let gate = Gate::default();
    let _opens = OpensGate(gate.clone());
    let mut crashed = Vec::new();
    let options = || options().max_attempts(1).crashes_max(2);
    for _ in 0..3 {
        let store = store_on(Elsewhere::over(&plane))?;
        let (is_called, waits) = (Arc::new(AtomicBool::new(false)), gate.clone());
        let called = Arc::clone(&is_called);
        let consumer = sent.topic(&store)?.on_event(NAME, options(), move |_: &Delivery<'_, u64>| {
            called.store(true, Ordering::Release);
            waits.wait();
            Err("it comes too late".into())
        })?;
        let is_suspended = || consumer.status().state == ConsumerState::Suspended;
        wait(trial, "a call, or a suspension", || Ok(is_called.load(Ordering::Acquire) || is_suspended()))?;
        let expected = crashed.len() == 2;
        demand!(is_suspended() == expected, "behind {} ends it is {:?}", crashed.len(), consumer.status());
        consumer.stop();
        plane = trial.kill(plane);
        // Its handler never comes back, as far as anybody can see.
        crashed.push(store);
    }
    let store = store_on(Arc::clone(&plane))?;
    let log = Log::default();
    let consumer = consume(&sent, &store, options(), &log)?;
    wait(trial, "a suspension", || Ok(consumer.status().state == ConsumerState::Suspended))?;
    demand!(log.calls().is_empty(), "suspended it was called: {:?}", log.calls());
    careful(|| consumer.resume())?;
    wait_until_at(trial, &consumer, sent.last())?;
    demand!(log.done().first() == sent.numbers.last(), "resumed it has done {:?}", log.done());
    stop(trial, &consumer)?;
    Ok(plane.close()?)
}

/// 24: one that was overtaken moves on behind the other, and the place never goes back.
pub(super) fn statement_24_two_processes_of_one_name(trial: &mut Trial<'_>) -> Held {
    let plane = trial.open();
    let (mut author, mut sent) = (trial.author(), Sent::new(trial));
    let count = trial.random.between(3, 9);
    sent.send_some(trial, &*plane, &mut author, count)?;
    let other = trial.open_beside(&plane);
    let (slow_store, fast_store) = (store_on(Arc::clone(&plane))?, store_on(Arc::clone(&other))?);
    let gate = Gate::default();
    let opens = OpensGate(gate.clone());
    let (slow, fast) = (Log::default(), Log::default());
    let fails = trial.random.one_in(2);
    let handler = slow.handler();
    let slow_one =
        sent.topic(&slow_store)?.on_event(NAME, options(), move |delivery: &Delivery<'_, u64>| {
            handler(delivery)?;
            gate.wait();
            if fails { Err("it comes too late".into()) } else { Ok(()) }
        })?;
    wait(trial, "a call", || Ok(!slow.calls().is_empty()))?;
    let fast_one = consume(&sent, &fast_store, options(), &fast)?;
    wait_until_at(trial, &fast_one, sent.last())?;
    drop(opens);
    wait_until_at(trial, &slow_one, sent.last())?;
    let (calls, first) = (slow.done(), sent.numbers.first());
    demand!(
        calls.iter().eq(first),
        "one that was overtaken was called for {calls:?}, and {first:?} was its own"
    );
    demand!(fast.done() == sent.numbers, "{:?} was done of {:?}", fast.done(), sent.numbers);
    // Both go on, and each event comes to one of them at least.
    sent.send_some(trial, &*plane, &mut author, count)?;
    wait_until_at(trial, &slow_one, sent.last())?;
    wait_until_at(trial, &fast_one, sent.last())?;
    let by_slow = if fails { Vec::new() } else { slow.done() };
    let both: BTreeSet<u64> = by_slow.into_iter().chain(fast.done()).collect();
    demand!(
        sent.numbers.iter().all(|number| both.contains(number)),
        "{both:?} of {:?} were done",
        sent.numbers
    );
    let info = careful(|| sent.topic(&fast_store)?.consumers())?;
    let position = info.iter().find(|info| !info.is_of_all_topics).map(|info| info.position);
    demand!(position == Some(sent.last()), "the place is {position:?} behind {}", sent.last());
    stop(trial, &slow_one)?;
    stop(trial, &fast_one)?;
    plane.close()?;
    Ok(other.close()?)
}

/// So many feeds of a consumer are to end under it.
const DISCONNECTS: u64 = 100;

/// 25: a consumer whose feeds end and deliver again and again, and that is started anew on the way, has done what a plain reader
/// reads, place by place and byte by byte; one who listens, or follows, and never looks delays nobody.
pub(super) fn statement_25_a_consumer_comes_to_what_a_reader_reads(trial: &mut Trial<'_>) -> Held {
    let inner = trial.open();
    let (mut author, mut sent) = (trial.author(), Sent::new(trial));
    who_never_looks_delays_nobody(trial, &inner)?;
    let disconnects = Arc::new(Double::new(Arc::clone(&inner), Fault::Disconnect, trial.random.next()));
    let plane: Arc<dyn Backplane> = Arc::clone(&disconnects) as _;
    let plane: Arc<dyn Backplane> = Arc::new(Double::new(plane, Fault::Redeliver, trial.random.next()));
    let done = Arc::new(Mutex::new(Vec::new()));
    for life in 1..=LIVES {
        let store = store_on(Arc::clone(&plane))?;
        let does = Arc::clone(&done);
        let handler = move |delivery: &Delivery<'_, u64>| {
            does.lock().push((delivery.offset(), delivery.record().payload().to_vec()));
            Ok(())
        };
        let consumer = sent.topic(&store)?.on_event(NAME, options(), handler)?;
        while disconnects.disconnects() < DISCONNECTS * life / LIVES {
            let count = trial.random.between(1, 4);
            sent.send_some(trial, &*inner, &mut author, count)?;
            wait_until_at(trial, &consumer, sent.last())?;
        }
        stop(trial, &consumer)?;
    }
    let mut reader = Reading::new(
        Arc::clone(&inner),
        EVENTS.name().to_owned(),
        Some(&sent.key),
        Offset::BEGINNING,
        trial.patience,
    );
    let mut read = Vec::new();
    for _ in &sent.offsets {
        let record = reader.next()??;
        read.push((record.offset(), record.payload().to_vec()));
    }
    let done = done.lock();
    let (found, wanted) = (chain_of(&done), chain_of(&read));
    demand!(
        found == wanted && done.len() == sent.offsets.len(),
        "a consumer came to {found:032x} over {} events, a reader to {wanted:032x} over {} of {}",
        done.len(),
        read.len(),
        sent.offsets.len()
    );
    Ok(inner.close()?)
}

const LIVES: u64 = 3;

/// What a list of records comes to by their places and bytes: another list, or another order, comes to something else.
fn chain_of(records: &[(Offset, Vec<u8>)]) -> u128 {
    records.iter().fold(0, |chain: u128, (offset, bytes)| {
        mixed(&[&chain.to_le_bytes()[..], &offset.raw().to_le_bytes(), bytes].concat())
    })
}

/// So much is appended and told while nobody looks: more than any ring holds.
const NOISE: usize = 2000;

fn who_never_looks_delays_nobody(trial: &mut Trial<'_>, plane: &Arc<dyn Backplane>) -> Held {
    let (mut author, sent) = (trial.author(), Sent::new(trial));
    let store = store_on(Arc::clone(plane))?;
    let _feed = careful(|| plane.subscribe(Filter::stream(EVENTS.name()), Offset::BEGINNING))?;
    let _watcher = sent.topic(&store)?.fold_with::<Digests>(NO_IMAGES)?.watch();
    let listener = careful(|| plane.listen("conformance"))?;
    let (key, payload) = (sent.key.clone(), encoded(&1_u64)?);
    let (told, is_told) = channel();
    let appends = Arc::clone(plane);
    // Not one that is waited for: a backplane may hold it for ever.
    let spawned = std::thread::Builder::new().name("conformance".to_owned()).spawn(move || {
        let mut append_all = || -> Held {
            for at in 0..NOISE {
                careful(|| appends.broadcast("conformance", b"noise"))?;
                if at % 20 == 0 {
                    append(&*appends, EVENTS.name(), author.next(&key), &key, payload.clone())?;
                }
            }
            Ok(())
        };
        let _ = told.send(append_all());
    });
    demand!(spawned.is_ok(), "no thread could be started: {spawned:?}");
    let outcome = is_told.recv_timeout(trial.patience);
    // Whoever waits for it goes on.
    drop(listener);
    outcome.map_err(|_| Broken("what is appended and told waits for one who never looks".to_owned()))?
}

/// Whatever the backplane does: what is done is the first events of the topic, in their order.
pub(super) fn nothing_is_passed_over(trial: &mut Trial<'_>) -> Held {
    let plane = trial.open();
    let (mut author, mut sent) = (trial.author(), Sent::new(trial));
    let store = store_on(Arc::clone(&plane))?;
    let log = Log::default();
    // One that begins behind some of it does not depend on who is faster to be shown what is newer than what it reads.
    let mut consumer = match trial.random.one_in(2) {
        true => None,
        false => Some(consume(&sent, &store, options(), &log)?),
    };
    let mut stored = Stored::default();
    for _ in 0..4 {
        let count = trial.random.between(1, 6);
        send_whatever_happens(trial, &mut sent, &*plane, &mut author, count)?;
        stored.read_to(sent.last(), &*plane, &sent.key);
        let consumer = match &mut consumer {
            Some(consumer) => consumer,
            none => none.insert(consume(&sent, &store, options(), &log)?),
        };
        let _ = within(NEVER, || consumer.status().position >= sent.last());
        if trial.random.one_in(3) {
            let _ = compact(&*plane, &sent, consumer.status().committed);
        }
    }
    let status = consumer.map(|consumer| {
        consumer.stop();
        consumer.status()
    });
    let done = log.done();
    let is_prefix =
        [&sent.numbers, &stored.numbers].into_iter().any(|numbers| numbers.get(..done.len()) == Some(&done));
    demand!(is_prefix, "a consumer has done {done:?} of {:?}: {status:?}", sent.numbers);
    Ok(())
}
