//! Readers as streams, under a runtime of thirty lines.
#![cfg(feature = "async")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use esker::{
    Durability, ErrorKind, Journal, Lag, Options, OwnedItem, ReaderStream, Record, Region, Simulator, Start,
    SubscribeOptions, WatchOptions,
};
use futures_core::Stream;
use futures_core::stream::FusedStream;

const LONG: Duration = Duration::from_secs(30);

/// Wakes whoever runs a task, and counts.
struct Runner {
    wakes: AtomicUsize,
    send: mpsc::Sender<()>,
}

impl Wake for Runner {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
        let _ = self.send.send(());
    }
}

/// Runs one future at a time, and polls only when it was woken.
struct Runtime {
    runner: Arc<Runner>,
    woken: mpsc::Receiver<()>,
}

impl Runtime {
    fn new() -> Self {
        let (send, woken) = mpsc::channel();
        Self { runner: Arc::new(Runner { wakes: AtomicUsize::new(0), send }), woken }
    }

    fn poll<S: Stream + Unpin>(&self, stream: &mut S) -> Poll<Option<S::Item>> {
        let waker = Waker::from(Arc::clone(&self.runner));
        Pin::new(stream).poll_next(&mut Context::from_waker(&waker))
    }

    /// The next item; nobody polls before the task was woken.
    fn next<S: Stream + Unpin>(&self, stream: &mut S) -> Option<S::Item> {
        loop {
            if let Poll::Ready(item) = self.poll(stream) {
                return item;
            }
            self.woken.recv_timeout(LONG).expect("a wake-up was lost");
        }
    }
}

#[test]
fn a_stream_gives_every_entry_and_is_polled_only_when_it_was_woken() {
    const ENTRIES: u64 = 2000;
    let journal = Options::new().durability(Durability::Os).in_memory().unwrap();
    let note = journal.kind("note").unwrap();
    let mut watcher = journal.watch("stream", Region::kind(note)).unwrap().into_stream();
    let mut subscriber = journal.subscribe(Region::kind(note)).unwrap().into_stream();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..ENTRIES {
                journal.append(Record::new(note, b"k", &n.to_le_bytes())).unwrap();
                if n % 100 == 0 {
                    std::thread::yield_now();
                }
            }
        });
        scope.spawn(|| {
            let runtime = Runtime::new();
            for n in 0..ENTRIES {
                let entry = runtime.next(&mut watcher).unwrap().unwrap();
                assert_eq!(entry.payload(), n.to_le_bytes());
            }
            watcher.reader_mut().checkpoint().unwrap();
        });
        scope.spawn(|| {
            let runtime = Runtime::new();
            for n in 0..ENTRIES {
                let OwnedItem::Entry(entry) = runtime.next(&mut subscriber).unwrap().unwrap() else {
                    panic!("without a capacity nothing is missed")
                };
                assert_eq!(entry.payload(), n.to_le_bytes());
            }
        });
    });
    assert_eq!(journal.cursors().unwrap()[0].behind, 0);
}

#[test]
fn a_stream_ends_with_the_log_or_a_stop_and_stays_at_its_end() {
    let journal = Journal::in_memory().unwrap();
    let note = journal.kind("note").unwrap();
    let runtime = Runtime::new();
    let mut stopped = journal.subscribe(Region::all()).unwrap().into_stream();
    let mut closed = journal.watch("w", Region::all()).unwrap().into_stream();
    journal.append(Record::new(note, b"k", b"1")).unwrap();
    assert!(runtime.next(&mut stopped).unwrap().is_ok());
    assert!(runtime.poll(&mut stopped).is_pending());
    let stopper = stopped.reader_mut().stopper();
    assert!(runtime.poll(&mut stopped).is_pending());
    stopper.stop();
    assert!(runtime.next(&mut stopped).is_none() && stopped.is_terminated());
    assert!(runtime.next(&mut closed).unwrap().is_ok());
    assert!(runtime.poll(&mut closed).is_pending());
    journal.close().unwrap();
    assert!(runtime.next(&mut closed).is_none() && closed.is_terminated());
    assert!(runtime.next(&mut closed).is_none());
}

#[test]
fn an_error_that_would_come_again_is_the_last_item() {
    let disk = Simulator::new();
    let journal = Options::new().durability(Durability::Os).background(false).open_in(&disk).unwrap();
    let note = journal.kind("note").unwrap();
    let runtime = Runtime::new();
    let strict = SubscribeOptions::new().capacity(1).on_lag(Lag::Disconnect);
    let mut lagged = journal.subscribe_with(Region::all(), strict).unwrap().into_stream();
    let mut lossy =
        journal.subscribe_with(Region::all(), SubscribeOptions::new().capacity(1)).unwrap().into_stream();
    for _ in 0..3 {
        journal.append(Record::new(note, b"k", b"1")).unwrap();
    }
    assert_eq!(runtime.next(&mut lagged).unwrap().unwrap_err().kind(), ErrorKind::Lagged);
    assert!(runtime.next(&mut lagged).is_none());
    let Some(Ok(OwnedItem::Missed(missed))) = runtime.next(&mut lossy) else { panic!("two are missed") };
    assert_eq!(missed.count, 2);
    assert!(matches!(runtime.next(&mut lossy), Some(Ok(OwnedItem::Entry(_)))));
    disk.fail_sync_after(0);
    assert_eq!(journal.sync().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(runtime.next(&mut lossy).unwrap().unwrap_err().kind(), ErrorKind::Poisoned);
    assert!(runtime.next(&mut lossy).is_none());
}

#[test]
fn what_sleeps_wakes_nobody_and_a_dropped_stream_rings_no_bell() {
    let journal = Options::new().durability(Durability::Os).background(false).in_memory().unwrap();
    let note = journal.kind("note").unwrap();
    let runtime = Runtime::new();
    let mut one = journal.subscribe(Region::entity(note, b"one")).unwrap().into_stream();
    assert!(runtime.poll(&mut one).is_pending());
    for n in 0..100_u64 {
        // Some of these share a bit with it, and none is what it waits for.
        journal.append(Record::new(note, &n.to_le_bytes(), b"x")).unwrap();
    }
    let woken = runtime.runner.wakes.load(Ordering::Relaxed);
    assert!(woken <= 1, "woken {woken} times for nothing");
    drop(one);
    journal.append(Record::new(note, b"one", b"x")).unwrap();
    assert_eq!(runtime.runner.wakes.load(Ordering::Relaxed), woken);
}

fn is_a_stream_for_any_runtime<R>(_: &ReaderStream<R>)
where
    R: esker::Reading,
    ReaderStream<R>: Stream + Unpin + Send + 'static,
{
}

#[test]
fn a_stream_may_move_between_threads() {
    let journal = Journal::in_memory().unwrap();
    let mut stream = journal.subscribe(Region::all()).unwrap().into_stream();
    is_a_stream_for_any_runtime(&stream);
    is_a_stream_for_any_runtime(&journal.watch("w", Region::all()).unwrap().into_stream());
    let future = poll_fn(move |cx| Pin::new(&mut stream).poll_next(cx));
    std::thread::spawn(move || drop(future)).join().unwrap();
}

/// What a runtime does whose queue is full.
struct Full;

impl Wake for Full {
    fn wake(self: Arc<Self>) {
        panic!("too many tasks");
    }
}

#[test]
fn a_waker_that_panics_is_nobody_else_s() {
    let disk = Simulator::new();
    let journal = Options::new().durability(Durability::Os).open_in(&disk).unwrap();
    let note = journal.kind("note").unwrap();
    let full = Waker::from(Arc::new(Full));
    let pending = |stream: &mut ReaderStream<esker::Watcher>| {
        assert!(Pin::new(stream).poll_next(&mut Context::from_waker(&full)).is_pending());
    };
    let follow = || journal.follow(Region::kind(note), WatchOptions::new().from(Start::Newest)).unwrap();
    let mut stream = follow().into_stream();
    pending(&mut stream);
    // Another one of what is durable, that is woken by the same thread; and one that comes later.
    for _ in 0..2 {
        let mut other = follow();
        std::thread::scope(|scope| {
            let waits = scope.spawn(move || other.next_timeout(LONG).unwrap().is_some());
            journal.append(Record::new(note, b"k", b"1")).unwrap();
            assert!(waits.join().unwrap(), "its wake-up was lost");
        });
    }
    let mut stream = follow().into_stream();
    journal.sync().unwrap();
    while Pin::new(&mut stream).poll_next(&mut Context::from_waker(&full)).is_ready() {}
    journal.close().unwrap();
    Options::new().open_in(&disk).expect("the directory is free");
}

/// Calls back when it is dropped, as a task does that is dropped with its waker.
struct StopsWhenDropped(std::sync::Mutex<Option<esker::Stopper>>);

impl Wake for StopsWhenDropped {
    fn wake(self: Arc<Self>) {}
}

impl Drop for StopsWhenDropped {
    fn drop(&mut self) {
        self.0.lock().unwrap().take().unwrap().stop();
    }
}

/// Asks the journal something that takes the writer's lock.
struct Asks(Journal);

impl Wake for Asks {
    fn wake(self: Arc<Self>) {
        let _ = self.0.remembers(esker::IdempotencyKey([0; 16]));
    }
}

#[test]
fn a_waker_that_calls_back_when_it_is_dropped_or_the_log_ends_waits_for_nobody() {
    let journal = Journal::in_memory().unwrap();
    let subscriber = journal.subscribe(Region::all()).unwrap();
    let waker = Waker::from(Arc::new(StopsWhenDropped(std::sync::Mutex::new(Some(subscriber.stopper())))));
    let mut stream = subscriber.into_stream();
    assert!(Pin::new(&mut stream).poll_next(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    drop(stream);
    let mut stream = journal.subscribe(Region::all()).unwrap().into_stream();
    let waker = Waker::from(Arc::new(Asks(journal.clone())));
    assert!(Pin::new(&mut stream).poll_next(&mut Context::from_waker(&waker)).is_pending());
    journal.close().unwrap();
}
