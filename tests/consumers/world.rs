//! A backplane, stores on it, and handlers that do as they are told.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use esker::backplane::{
    Append, Backplane, CellState, Compactor, Done, Elsewhere, Era, Feed, Filter, InMemory, Listener, Local,
    Offset, Put, Revision, Stamp, Step, StreamRecord, WriterId,
};
use esker::{
    Consumer, ConsumerOptions, Delivery, Error, ErrorKind, Handled, Journal, ManualClock, Options, Result,
    Store, Topic,
};

pub(crate) const NUMBERS: Topic<u64> = Topic::new("number");
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One backplane, on which any number of stores are opened, as of so many processes.
pub(crate) struct World {
    pub(crate) name: &'static str,
    pub(crate) plane: Arc<dyn Backplane>,
    pub(crate) clock: ManualClock,
    /// Of the one that has one.
    journal: Option<Journal>,
}

pub(crate) fn worlds() -> Vec<World> {
    let journal = Options::new().segment_bytes(64 << 10).background(false).in_memory().unwrap();
    let planes: [(&'static str, Arc<dyn Backplane>); 3] = [
        ("local", Arc::new(Local::owning(journal.clone()).unwrap())),
        ("memory", Arc::new(InMemory::new())),
        ("stepwise", Arc::new(InMemory::stepwise())),
    ];
    let journal_of = |name| (name == "local").then(|| journal.clone());
    planes
        .map(|(name, plane)| World { name, plane, clock: ManualClock::new(), journal: journal_of(name) })
        .into()
}

impl World {
    /// A store of a process of its own.
    pub(crate) fn store(&self) -> Store {
        self.store_on(Arc::clone(&self.plane))
    }

    pub(crate) fn store_on(&self, plane: Arc<dyn Backplane>) -> Store {
        let journal: Journal =
            Options::new().background(false).clock(self.clock.clone()).in_memory().unwrap();
        Store::over(journal).with_backplane(plane)
    }

    /// The same, of a process that is not there any more, whatever runs on in it.
    pub(crate) fn store_of_one_that_ended(&self) -> Store {
        self.store_on(Elsewhere::over(&self.plane))
    }

    /// Appends bytes, of any version.
    pub(crate) fn append_raw(&self, key: &[u8], payload: &[u8], schema: u16) -> Offset {
        let stamp = Stamp::new(WriterId::random().unwrap(), 1);
        let append = Append::new(NUMBERS.name(), key, payload, stamp).schema(schema);
        self.plane.commit(&[Step::Append(append)]).unwrap().offset(0).unwrap()
    }

    /// The keys of all cells.
    pub(crate) fn cells(&self) -> std::collections::BTreeSet<Vec<u8>> {
        let journal = self.journal.as_ref().unwrap();
        let kind = journal.kind_named("esker.cells").unwrap().id;
        journal.view().kind(kind).map(|entry| entry.unwrap().key().to_vec()).collect()
    }

    pub(crate) fn put_raw(&self, cell: &[u8], expect: Revision, value: &[u8]) {
        let put = Put::new(cell, expect, Some(value), Stamp::new(WriterId::random().unwrap(), 1));
        self.plane.commit(&[Step::Put(put)]).unwrap();
    }

    /// Lets the time pass that a consumer waits for.
    pub(crate) fn pass_the_pause_of(&self, consumer: &Consumer) -> Duration {
        let pause = until("a pause", || consumer.status().pause);
        self.clock.advance(pause);
        pause
    }
}

/// Waits for something to be there.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} did not come");
        std::thread::yield_now();
    }
}

pub(crate) fn until_at(consumer: &Consumer, offset: Offset) {
    until("the position", || (consumer.status().committed >= offset).then_some(()));
}

pub(crate) fn until_asleep(consumer: &Consumer) {
    until("sleep", || (consumer.is_asleep() || consumer.status().has_ended()).then_some(()));
}

/// One call of a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) key: Vec<u8>,
    pub(crate) event: u64,
    pub(crate) attempt: u32,
    pub(crate) idempotency: [u8; 16],
}

/// What was called, and which events fail.
#[derive(Clone, Default)]
pub(crate) struct Script(Arc<Mutex<Plan>>);

#[derive(Default)]
struct Plan {
    calls: Vec<Call>,
    failing: Vec<u64>,
    panicking: Vec<u64>,
}

impl Script {
    pub(crate) fn failing(events: impl Into<Vec<u64>>) -> Self {
        let script = Self::default();
        script.0.lock().unwrap().failing = events.into();
        script
    }

    pub(crate) fn fail(&self, events: impl Into<Vec<u64>>) {
        self.0.lock().unwrap().failing = events.into();
    }

    pub(crate) fn panicking(events: impl Into<Vec<u64>>) -> Self {
        let script = Self::default();
        script.0.lock().unwrap().panicking = events.into();
        script
    }

    pub(crate) fn mend(&self) {
        let mut plan = self.0.lock().unwrap();
        plan.failing.clear();
        plan.panicking.clear();
    }

    pub(crate) fn handler(&self) -> impl Fn(&Delivery<'_, u64>) -> Handled + Send + 'static {
        let plan = Arc::clone(&self.0);
        move |delivery| {
            let event = delivery.event;
            let is_panicking = {
                let mut plan = plan.lock().unwrap();
                plan.calls.push(Call {
                    key: delivery.key().to_vec(),
                    event,
                    attempt: delivery.attempt(),
                    idempotency: delivery.idempotency_key().0,
                });
                if plan.failing.contains(&event) {
                    return Err(format!("{event} fails").into());
                }
                plan.panicking.contains(&event)
            };
            assert!(!is_panicking, "{event} panics");
            Ok(())
        }
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.0.lock().unwrap().calls.clone()
    }

    pub(crate) fn events(&self) -> Vec<u64> {
        self.calls().iter().map(|call| call.event).collect()
    }
}

/// From 10 milliseconds to a second.
pub(crate) fn options() -> ConsumerOptions {
    ConsumerOptions::new().retry_between(Duration::from_millis(10), Duration::from_secs(1))
}

/// A handler that says that it was called, and goes on when it is told.
pub(crate) fn held() -> (impl Fn(&Delivery<'_, u64>) -> Handled + Send + 'static, Receiver<u64>, Sender<()>) {
    let ((tell, called), (go_on, wait)) = (channel(), channel::<()>());
    let handler = move |delivery: &Delivery<'_, u64>| {
        tell.send(delivery.event)?;
        wait.recv()?;
        Ok(())
    };
    (handler, called, go_on)
}

type Hook = Box<dyn FnOnce() + Send>;

/// A backplane whose era is another when it is told so, of which a feed leaves a record out, and in which something happens
/// right before a commit.
pub(crate) struct Meddled {
    pub(crate) inner: Arc<dyn Backplane>,
    pub(crate) shift: AtomicU64,
    /// The payload of the record that the next feed to come to it leaves out.
    pub(crate) left_out: Arc<Mutex<Option<Vec<u8>>>>,
    /// What happens before each of the next commits.
    pub(crate) before_commits: Mutex<VecDeque<Hook>>,
    /// The answers of the next so many commits that put these bytes somewhere are lost.
    pub(crate) lost: Mutex<(Vec<u8>, u32)>,
    /// So long it is tried to reach it, in vain.
    pub(crate) unreachable_for: Mutex<Option<Duration>>,
    /// Whoever subscribes is told that its place is of another era.
    pub(crate) is_confused: AtomicBool,
    /// Who asked for a head.
    pub(crate) asked_by: Mutex<Vec<ThreadId>>,
}

impl Meddled {
    pub(crate) fn over(world: &World) -> Arc<Self> {
        let (inner, left_out, before_commits) = (Arc::clone(&world.plane), Arc::default(), Mutex::default());
        Arc::new(Self {
            inner,
            shift: AtomicU64::new(0),
            left_out,
            before_commits,
            lost: Mutex::default(),
            unreachable_for: Mutex::default(),
            is_confused: AtomicBool::new(false),
            asked_by: Mutex::default(),
        })
    }

    fn check_reachable(&self) -> Result<()> {
        let tried = *self.unreachable_for.lock().unwrap();
        tried.map_or(Ok(()), |pause| {
            std::thread::sleep(pause);
            Err(Error::new(ErrorKind::Disconnected, "reach it"))
        })
    }

    fn is_answer_lost(&self, steps: &[Step<'_>]) -> bool {
        let mut lost = self.lost.lock().unwrap();
        let (bytes, left) = &mut *lost;
        if *left == 0 {
            return false;
        }
        let puts_it = steps.iter().any(|step| match step {
            Step::Put(put) => put.value.is_some_and(|value| value.windows(bytes.len()).any(|at| at == bytes)),
            _ => false,
        });
        *left -= u32::from(puts_it);
        puts_it
    }
}

impl std::fmt::Debug for Meddled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Meddled({:?})", self.inner)
    }
}

struct LeakyFeed {
    inner: Box<dyn Feed>,
    left_out: Arc<Mutex<Option<Vec<u8>>>>,
}

impl Feed for LeakyFeed {
    fn poll(&mut self, waker: &Waker) -> Result<Option<StreamRecord>> {
        loop {
            let found = self.inner.poll(waker)?;
            let mut left_out = self.left_out.lock().unwrap();
            if found.is_none() || left_out.as_deref() != found.as_ref().map(|record| record.payload()) {
                return Ok(found);
            }
            *left_out = None;
        }
    }
    fn position(&self) -> Offset {
        self.inner.position()
    }
}

impl Backplane for Meddled {
    fn atomic(&self) -> bool {
        self.inner.atomic()
    }
    fn commit(&self, steps: &[Step<'_>]) -> Result<Done> {
        let hook = self.before_commits.lock().unwrap().pop_front();
        if let Some(hook) = hook {
            hook();
        }
        self.check_reachable()?;
        let done = self.inner.commit(steps)?;
        if self.is_answer_lost(steps) {
            return Err(Error::new(ErrorKind::Disconnected, "hear the answer"));
        }
        Ok(done)
    }
    fn subscribe(&self, filter: Filter<'_>, from: Offset) -> Result<Box<dyn Feed>> {
        if self.is_confused.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::EraChanged, "read behind an offset"));
        }
        let inner = self.inner.subscribe(filter, from)?;
        Ok(Box::new(LeakyFeed { inner, left_out: Arc::clone(&self.left_out) }))
    }
    fn head(&self, filter: Filter<'_>) -> Result<Offset> {
        self.asked_by.lock().unwrap().push(std::thread::current().id());
        self.inner.head(filter)
    }
    fn lowest_retained(&self, filter: Filter<'_>) -> Result<Offset> {
        self.inner.lowest_retained(filter)
    }
    fn load(&self, cell: &[u8]) -> Result<CellState> {
        self.check_reachable()?;
        self.inner.load(cell)
    }
    fn broadcast(&self, channel: &str, bytes: &[u8]) -> Result<usize> {
        self.inner.broadcast(channel, bytes)
    }
    fn listen(&self, channel: &str) -> Result<Box<dyn Listener>> {
        self.inner.listen(channel)
    }
    fn era(&self) -> Result<Era> {
        let shift = self.shift.load(Ordering::SeqCst);
        Ok(Era::from_raw(self.inner.era()?.raw().wrapping_add(u128::from(shift))))
    }
    fn close(&self) -> Result<()> {
        self.inner.close()
    }
    fn compactor(&self) -> Option<&dyn Compactor> {
        self.inner.compactor()
    }
}
