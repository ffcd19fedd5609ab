//! The handle of a consumer, and its task.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::backplane::{Backplane, Offset};
use crate::clock::{Clock, Moved};
use crate::error::{Error, ErrorKind, Result};
use crate::fold::consumer::aside;
use crate::fold::consumer::delivery::{DeadLetter, Deliver};
use crate::fold::consumer::info::{
    ConsumerHalt, ConsumerHaltReason, ConsumerState, ConsumerStatus, ParkedEntity,
};
use crate::fold::consumer::progress;
use crate::fold::consumer::running::{IDLE_GRACE, finish_all};
use crate::fold::consumer::telling::Looks;
use crate::fold::consumer::working::{Setting, Trouble, Turn, Working};
use crate::fold::panics::guarded;
use crate::fold::pool::{Next, Pool, Work, is_on_one};
use crate::fold::retry::Retry;
use crate::meter::ConsumerMeter;
use crate::trace;

/// A record that failed so often is worth a word.
const STUCK_TOLD: u32 = 8;

/// A consumer that runs; see [`TopicHandle::on_event`](crate::TopicHandle::on_event).
///
/// It goes on when the handle is dropped, until it is [closed](Self::close), or the store is. Clones are of the same one.
#[derive(Clone)]
pub struct Consumer {
    pub(super) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(super) setting: Setting,
    working: Mutex<Working>,
    shared: Shared,
    pub(super) pool: Arc<Pool>,
    task: OnceLock<u64>,
    own: Arc<ConsumerMeter>,
    looks: Mutex<Looks>,
}

/// What handles and the task have to say to each other.
pub(super) struct Shared {
    /// It is to stop.
    pub(super) cancelled: AtomicBool,
    /// What is not ours is being called for it: the handler, also to be dropped, or who takes dead letters.
    is_in_hand: AtomicBool,
    /// What is written may have been changed from outside.
    is_stale: AtomicBool,
    waker: Mutex<Option<Waker>>,
    shown: Mutex<Shown>,
    ended: Condvar,
}

pub(super) struct Shown {
    pub(super) status: ConsumerStatus,
    /// Until when it does nothing, by the clock of the store.
    due: Option<Duration>,
    /// Somebody has changed what is written, and it is not to wait for its time.
    is_asked: bool,
    /// The handler is gone, with all that it had in hand.
    is_over: bool,
    /// Of which record it was said that it is stuck.
    warned: Option<Offset>,
    /// Where a call failed last.
    failed_at: Offset,
}

impl Shown {
    /// How often calls have failed, one behind the other. Where it has come on since, what fails now and then is no reason
    /// to wait longer.
    fn failed_again(&mut self, at: Offset) -> u32 {
        let has_come_on = std::mem::replace(&mut self.failed_at, at) != at;
        match self.status.state {
            ConsumerState::Waiting { failures } if !has_come_on => failures.saturating_add(1),
            _ => 1,
        }
    }
}

impl Shared {
    fn new() -> Self {
        let shown = Shown {
            status: ConsumerStatus::new(),
            due: None,
            is_asked: false,
            is_over: false,
            warned: None,
            failed_at: Offset::BEGINNING,
        };
        Self {
            cancelled: AtomicBool::new(false),
            is_in_hand: AtomicBool::new(false),
            is_stale: AtomicBool::new(false),
            waker: Mutex::default(),
            shown: Mutex::new(shown),
            ended: Condvar::new(),
        }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Calls what is not ours, which may panic.
    pub(super) fn in_hand<T>(&self, call: impl FnOnce() -> T) -> Result<T, String> {
        self.is_in_hand.store(true, Ordering::Release);
        let answered = guarded(call);
        self.is_in_hand.store(false, Ordering::Release);
        answered
    }

    pub(super) fn look_again(&self) {
        self.is_stale.store(true, Ordering::Release);
    }

    pub(super) fn takes_a_look(&self) -> bool {
        self.is_stale.swap(false, Ordering::AcqRel)
    }

    pub(super) fn note_error(&self, why: String) {
        self.shown.lock().status.last_error = Some(why);
    }

    pub(super) fn note_failed(&self, why: String) {
        let mut shown = self.shown.lock();
        shown.status.errors += 1;
        shown.status.last_error = Some(why);
    }

    pub(super) fn note_blocked(&self, offset: Offset, why: String) {
        let mut shown = self.shown.lock();
        shown.status.forward_incompatible += 1;
        shown.status.state = ConsumerState::Blocked { offset };
        shown.status.last_error = Some(why);
    }

    /// Lets it look at what somebody has changed, at once, also where it is about to wait.
    fn ask(&self) {
        self.look_again();
        {
            let mut shown = self.shown.lock();
            (shown.due, shown.is_asked) = (None, true);
        }
        self.wake();
    }

    fn wake(&self) {
        let waker = self.waker.lock().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Inner {
    pub(super) fn start(
        setting: Setting,
        working: Working,
        own: Arc<ConsumerMeter>,
        pool: &Arc<Pool>,
    ) -> Result<Arc<Self>> {
        let clock = setting.clock.clone();
        let inner = Arc::new(Self {
            own,
            looks: Mutex::default(),
            setting,
            working: Mutex::new(working),
            shared: Shared::new(),
            pool: Arc::clone(pool),
            task: OnceLock::new(),
        });
        let weak: Weak<Self> = Arc::downgrade(&inner);
        clock.tell(weak.clone());
        let task = pool.add(Box::new(Task(weak)))?;
        inner.task.get_or_init(|| task);
        Ok(inner)
    }

    fn run(&self, waker: &Waker) -> Next {
        *self.shared.waker.lock() = Some(waker.clone());
        let mut working = self.working.lock();
        let next = self.take_a_turn(&mut working, waker);
        self.let_go(working);
        self.warn_if_stuck();
        next
    }

    fn take_a_turn(&self, working: &mut Working, waker: &Waker) -> Next {
        if self.has_ended() {
            return Next::Done;
        }
        if self.shared.is_cancelled() {
            self.finish(working);
            return Next::Done;
        }
        if let Some(left) = self.left() {
            return self.asleep(left);
        }
        let outcome = guarded(|| working.turn(&self.setting, &self.shared, waker)).unwrap_or_else(|panic| {
            let halt = ConsumerHalt::new(ConsumerHaltReason::Damaged, working.at, panic);
            Err(Trouble::Halt(halt))
        });
        // Whoever waits for its end does not wait for another turn behind all others that are ready.
        if self.shared.is_cancelled() && !matches!(outcome, Err(Trouble::Halt(_))) {
            self.finish(working);
            return Next::Done;
        }
        self.looks.lock().behind_a_turn(&self.setting, &self.own, &outcome, working.feeds());
        self.take_in(working, outcome)
    }

    fn finish(&self, working: &mut Working) {
        working.finish(&self.setting);
        self.end(working, ConsumerState::Stopped);
    }

    /// Ends it in this thread, where no other one has it in hand.
    pub(super) fn finish_if_idle(&self) {
        let Some(mut working) = self.working.try_lock() else { return };
        if !self.has_ended() {
            self.finish(&mut working);
        }
        self.let_go(working);
    }

    /// Drops the handler when it is not called any more, under no lock: it may have the last store in hand.
    fn let_go(&self, mut working: MutexGuard<'_, Working>) {
        if !self.has_ended() {
            return;
        }
        let gone: Option<Box<dyn Deliver>> = working.handler.take();
        drop(working);
        if gone.is_some() {
            // What goes wrong in it is its own.
            let _ = self.shared.in_hand(|| drop(gone));
            self.shared.shown.lock().is_over = true;
            self.shared.ended.notify_all();
        }
    }

    /// How much is left of the pause.
    fn left(&self) -> Option<Duration> {
        let mut shown = self.shared.shown.lock();
        shown.is_asked = false;
        let left = shown.due?.checked_sub(self.setting.clock.elapsed()).filter(|left| !left.is_zero());
        if left.is_none() {
            (shown.due, shown.status.pause) = (None, None);
            return None;
        }
        left
    }

    /// Until so much time has passed by the clock of the store. One that is moved by hand tells when it was.
    fn asleep(&self, left: Duration) -> Next {
        match self.setting.clock {
            Clock::System => Next::After(left),
            Clock::Manual(_) => Next::Asleep,
        }
    }

    fn take_in(&self, working: &Working, outcome: Result<Turn, Trouble>) -> Next {
        let trouble = match outcome {
            Ok(turn) => {
                self.show(working, |shown| shown.status.state = ConsumerState::Running);
                return match (turn, working.commit_in(&self.setting)) {
                    (Turn::More, _) => Next::Again,
                    (Turn::Drained, None) => Next::Asleep,
                    (Turn::Drained, Some(left)) => self.asleep(left),
                };
            }
            Err(trouble) => trouble,
        };
        let (state, pause) = match trouble {
            Trouble::Anew => {
                self.show(working, |_| {});
                return Next::Again;
            }
            Trouble::Halt(halt) => {
                let is_closed = halt.why == ConsumerHaltReason::Closed;
                let state = if is_closed { ConsumerState::Stopped } else { ConsumerState::Halted(halt) };
                self.end(working, state);
                return Next::Done;
            }
            Trouble::Pause(pause) => (None, pause),
            Trouble::Suspended => (Some(ConsumerState::Suspended), self.setting.options.retry.max),
            Trouble::Error(error) => {
                let failures = self.shared.shown.lock().failed_again(working.at);
                self.shared.note_error(error.to_string());
                let pause = Retry::DEFAULT.pause(failures);
                (Some(ConsumerState::Waiting { failures }), pause)
            }
        };
        let due = self.setting.clock.elapsed().saturating_add(pause);
        let mut is_asked = false;
        self.show(working, |shown| {
            let attempts = working.stuck();
            match state {
                Some(state) => shown.status.state = state,
                None if attempts > 0 => {
                    shown.status.state =
                        ConsumerState::Retrying { offset: working.stands_before(), attempts };
                }
                // It said why it stands.
                None => {}
            }
            // Who has asked since the turn began does not wait for a pause that begins behind that.
            is_asked = shown.is_asked;
            if !is_asked {
                (shown.due, shown.status.pause) = (Some(due), Some(pause));
            }
        });
        if is_asked { Next::Again } else { self.asleep(pause) }
    }

    fn end(&self, working: &Working, state: ConsumerState) {
        self.show(working, |shown| {
            if let ConsumerState::Halted(halt) = &state {
                shown.status.last_error = Some(halt.to_string());
            }
            shown.status.state = state;
            (shown.due, shown.status.pause) = (None, None);
        });
        self.shared.ended.notify_all();
    }

    fn show(&self, working: &Working, change: impl FnOnce(&mut Shown)) {
        let mut shown = self.shared.shown.lock();
        let status = &mut shown.status;
        status.position = working.at;
        status.stuck = working.stuck();
        if let Some(progress) = working.progress() {
            status.committed = progress.offset();
            (status.poisoned, status.undecodable) = (progress.poisoned, progress.undecodable);
            (status.reseeded, status.crashes) = (progress.reseeded, progress.crashes);
            status.parked = progress.parked_records();
        }
        change(&mut shown);
        self.tell(&shown.status);
    }

    /// Tells what is shown to whoever counts, and what is new of it to whoever subscribed to that.
    fn tell(&self, status: &ConsumerStatus) {
        let (state, why) = status.state.told();
        let has_halted = matches!(status.state, ConsumerState::Halted(_) | ConsumerState::Suspended);
        let mut was_halted = false;
        self.own.shows(|now| {
            was_halted = std::mem::replace(&mut now.has_halted, has_halted);
            now.state = state;
            now.position = status.position.raw();
            (now.stuck, now.errors, now.poisoned) = (status.stuck, status.errors, status.poisoned);
            (now.undecodable, now.forward_incompatible) = (status.undecodable, status.forward_incompatible);
            now.parked = status.parked;
        });
        if has_halted && !was_halted {
            let of = &self.setting.of;
            trace::consumer_halted(&of.name, &of.filter().to_string(), status.position.raw(), &why);
        }
    }

    fn warn_if_stuck(&self) {
        let status = {
            let mut shown = self.shared.shown.lock();
            let ConsumerState::Retrying { offset, attempts } = shown.status.state else { return };
            if attempts < STUCK_TOLD || shown.warned == Some(offset) {
                return;
            }
            shown.warned = Some(offset);
            let (of, why) = (&self.setting.of, shown.status.last_error.as_deref().unwrap_or_default());
            trace::consumer_stuck(&of.name, &of.filter().to_string(), offset.raw(), attempts, why);
            shown.status.clone()
        };
        // What goes wrong in it is its own.
        if let Some(warn) = &self.setting.options.on_stuck {
            let _ = guarded(|| warn(&status));
        }
    }

    /// Tells it to stop, behind what is under way.
    pub(super) fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::Release);
        self.shared.wake();
    }

    /// Waits for its end, as long as it may take since it was told: its handler as long as the options say, and what it has to
    /// write down a little longer.
    pub(super) fn wait(&self, told: Instant, is_over: impl Fn(&Shown) -> bool) -> Result<()> {
        let grace = self.setting.options.grace;
        let mut deadlines =
            [grace, grace.saturating_add(IDLE_GRACE)].map(|grace| told.checked_add(grace)).into_iter();
        let mut deadline = deadlines.next().flatten();
        let mut shown = self.shared.shown.lock();
        while !is_over(&shown) {
            let Some(at) = deadline else {
                self.shared.ended.wait(&mut shown);
                continue;
            };
            let is_late = self.shared.ended.wait_until(&mut shown, at).timed_out();
            if !is_late || is_over(&shown) {
                continue;
            }
            let is_in_hand = self.shared.is_in_hand.load(Ordering::Acquire);
            match deadlines.next() {
                Some(later) if !is_in_hand => deadline = later,
                _ => return Err(self.runs_on(is_in_hand)),
            }
        }
        Ok(())
    }

    fn runs_on(&self, is_in_hand: bool) -> Error {
        let (of, grace) = (&self.setting.of, self.setting.options.grace);
        let doing = format!("stop the consumer {:?} of {}", of.name, of.filter());
        let found = if is_in_hand { "a handler that runs on" } else { "a backplane that does not answer" };
        Error::new(ErrorKind::Timeout, doing).sides(format!("an end within {grace:?}"), found)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.shared.shown.lock().status.has_ended()
    }
}

impl Moved for Inner {
    fn moved(&self) {
        self.shared.wake();
    }
}

/// What the pool has of a consumer: nothing that keeps it.
struct Task(Weak<Inner>);

impl Work for Task {
    fn run(&mut self, waker: &Waker) -> Next {
        self.0.upgrade().map_or(Next::Done, |inner| inner.run(waker))
    }
}

impl Consumer {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.setting.of.name
    }

    /// What it is doing, and has done.
    #[must_use]
    pub fn status(&self) -> ConsumerStatus {
        self.inner.shared.shown.lock().status.clone()
    }

    /// How far it is behind the newest record: 0 if it is not. Offsets have holes, so it is at least the number of records
    /// that are to come.
    ///
    /// # Errors
    ///
    /// As [`head`](Backplane::head).
    pub fn lag(&self) -> Result<u64> {
        let head = self.plane().head(self.inner.setting.of.filter())?;
        Ok(head.raw().saturating_sub(self.status().position.raw()))
    }

    /// True if it has seen all that there was, or waits for its time: nothing happens before somebody appends, or the clock
    /// goes on.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.inner.task.get().is_some_and(|task| self.inner.pool.is_asleep(*task))
    }

    /// Tells it to stop, and does not wait: [`Delivery::cancelled`](crate::Delivery::cancelled) is true from now on.
    pub fn stop(&self) {
        self.inner.cancel();
    }

    /// Stops it: tells the handler so, and waits for it, as long as the options say. The handler is dropped then, with all that
    /// it has in hand.
    ///
    /// # Errors
    ///
    /// `Timeout` with its name if the handler runs on, or the backplane does not answer; it ends behind that. `WouldDeadlock` in a
    /// handler.
    pub fn close(&self) -> Result<()> {
        let told = Instant::now();
        self.inner.cancel();
        finish_all(std::slice::from_ref(&self.inner), told);
        if is_on_one() && !self.inner.has_ended() {
            let doing = format!("wait for the end of the consumer {:?}", self.name());
            return Err(Error::new(ErrorKind::WouldDeadlock, doing));
        }
        if is_on_one() {
            // It may be in the handler that is being dropped.
            return Ok(());
        }
        self.inner.wait(told, |shown| shown.is_over)
    }

    /// Lets it go on that is suspended. Answers whether it was.
    ///
    /// # Errors
    ///
    /// What [`load`](Backplane::load) and [`commit`](Backplane::commit) answer.
    pub fn resume(&self) -> Result<bool> {
        self.change(progress::Progress::resume)
    }

    /// The entities of which records are parked.
    ///
    /// # Errors
    ///
    /// As [`load`](Backplane::load).
    pub fn parked(&self) -> Result<Vec<ParkedEntity>> {
        let known = progress::load(self.plane(), &self.inner.setting.of)?;
        let parked = known.map_or_else(Vec::new, |known| known.progress.parked);
        Ok(parked.iter().map(ParkedEntity::of).collect())
    }

    /// The records that are parked of an entity, in order.
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Backplane::subscribe); `Corrupt`.
    pub fn parked_records(&self, key: impl AsRef<[u8]>) -> Result<Vec<DeadLetter>> {
        let of = &self.inner.setting.of;
        let known = progress::load(self.plane(), of)?;
        let Some(parking) = known.as_ref().and_then(|known| known.progress.parking(key.as_ref())) else {
            return Ok(Vec::new());
        };
        let (letters, _) = aside::parked(self.plane(), of, parking, (usize::MAX, None))?;
        Ok(letters.into_iter().map(|(_, letter)| letter).collect())
    }

    /// Tries the parked records of an entity again, in order, up to one that fails. When all are done the entity is not parked any
    /// more. Answers whether there are any.
    ///
    /// # Errors
    ///
    /// As [`resume`](Self::resume).
    pub fn retry(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.change(|progress| progress.retry(key.as_ref()))
    }

    /// Gives the parked records of an entity up; what comes of it is delivered. Answers whether there were any.
    ///
    /// # Errors
    ///
    /// As [`resume`](Self::resume).
    pub fn discard(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let is_changed = aside::discard(self.plane(), &self.inner.setting.of, key.as_ref())?;
        self.inner.shared.ask();
        Ok(is_changed)
    }

    /// Its dead letters in the built-in stream, the oldest first.
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Backplane::subscribe); `Corrupt`.
    pub fn dead_letters(&self) -> Result<Vec<DeadLetter>> {
        aside::dead_letters(self.plane(), &self.inner.setting.of)
    }

    fn plane(&self) -> &dyn Backplane {
        &*self.inner.setting.plane
    }

    fn change(&self, change: impl FnMut(&mut progress::Progress) -> bool) -> Result<bool> {
        let is_changed = progress::change(self.plane(), &self.inner.setting.of, change)?;
        self.inner.shared.ask();
        Ok(is_changed)
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = &self.inner.setting.of;
        write!(f, "Consumer({:?} of {}, {:?})", of.name, of.filter(), self.status().state)
    }
}
