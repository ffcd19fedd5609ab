//! The projector of a fold over a topic: a task that folds, and what it shows to those who read.
//!
//! The task has the value that is folded into; readers see a clone of it, which is made when there is nothing more to
//! fold and somebody has read since the last one, or behind a turn for which somebody waits. So a fold that nobody reads clones
//! nothing. What is shown is that of all records up to an offset, which may be one in the middle of a commit.
//!
//! Lock order: `working`, then `shown`. Calls of the backplane and of the user's code are made under `working` alone or under
//! none; whoever looks at a value has the lock of that value, and no other. Whoever lets go of `working`, and may have kept
//! somebody from showing what it has, or has shown something, wakes those who wait.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::Waker;
use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard, ReentrantMutex};

use crate::backplane::{Era, Offset};
use crate::error::{Error, ErrorKind, Result};
use crate::fold::Fold;
use crate::fold::panics::guarded;
use crate::fold::pool::{Next, Pool, Work};
use crate::fold::retry::Retry;
use crate::fold::topic::{FoldStats, FoldStatus, Folded, Halt, HaltReason};
use crate::fold::working::{Setting, Trouble, Turn, Working};
use crate::meter::{FoldMeter, Meter};
use crate::trace;

pub(crate) struct Projector<F: Fold> {
    pub(super) setting: Setting,
    working: Mutex<Working<F>>,
    shown: Mutex<Shown<F::State>>,
    changed: Condvar,
    /// The number of what `working` has.
    number: AtomicU64,
    read_since: AtomicBool,
    waiting: AtomicUsize,
    pool: Arc<Pool>,
    task: OnceLock<u64>,
    meter: Arc<Meter>,
    own: Arc<FoldMeter>,
}

/// What handles have of a projector. With the last of them its task goes, and nothing of it is in use any more.
pub(crate) struct Held<F: Fold>(Arc<Projector<F>>);

impl<F: Fold> Deref for Held<F> {
    type Target = Projector<F>;

    fn deref(&self) -> &Projector<F> {
        &self.0
    }
}

impl<F: Fold> Drop for Held<F> {
    fn drop(&mut self) {
        if let Some(task) = self.0.task.get() {
            self.0.pool.remove(*task);
        }
    }
}

/// A value that readers share. Whoever looks at it may ask for it again meanwhile.
type Shared<S> = Arc<ReentrantMutex<S>>;

/// What readers see.
pub(super) struct Shown<S> {
    value: Option<Shared<S>>,
    offset: Offset,
    number: u64,
    pub(super) halt: Option<Halt>,
    /// So many turns failed, one behind the other, the last with this.
    failures: u32,
    /// So many turns began anew since there was last nothing more.
    begun_anew: u32,
    /// Where it stood when it failed first.
    failed_at: Offset,
    failure: Option<(ErrorKind, String)>,
    pub(super) era: Option<Era>,
    pub(super) stats: FoldStats,
    /// Rises with each turn.
    turn: u64,
}

/// A value that is shown, to be looked at under no lock of the projector.
pub(super) struct Seen<S> {
    value: Shared<S>,
    pub(super) offset: Offset,
    pub(super) status: FoldStatus,
    pub(super) era: Option<Era>,
}

impl<S: Clone> Seen<S> {
    pub(super) fn look<R>(&self, then: impl FnOnce(&S, Offset, FoldStatus) -> R) -> R {
        then(&self.value.lock(), self.offset, self.status.clone())
    }

    pub(super) fn folded(&self) -> Folded<S> {
        self.look(|value, offset, status| Folded { value: value.clone(), offset, status })
    }
}

/// Whoever reads before there is a value is told what fails, when it has failed so often.
const FAILURES_TOLD: u32 = 4;

impl<F: Fold> Projector<F> {
    /// Starts the projector of a fold over a topic.
    pub(crate) fn start(pool: &Arc<Pool>, meter: &Arc<Meter>, setting: Setting) -> Result<Arc<Held<F>>> {
        let subject = &setting.subject;
        let own = meter.add_fold(F::NAME, F::VERSION, &subject.stream, &subject.key);
        let projector = Arc::new(Self {
            setting,
            working: Mutex::new(Working::new()),
            shown: Mutex::new(Shown::new()),
            changed: Condvar::new(),
            number: AtomicU64::new(0),
            read_since: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            pool: Arc::clone(pool),
            task: OnceLock::new(),
            meter: Arc::clone(meter),
            own,
        });
        let task = pool.add(Box::new(Task(Arc::downgrade(&projector))))?;
        projector.task.get_or_init(|| task);
        Ok(Arc::new(Held(projector)))
    }

    fn run(&self, waker: &Waker) -> Next {
        let mut working = self.working.lock();
        let outcome = guarded(|| working.turn(&self.setting, waker))
            .unwrap_or_else(|panic| Err(Trouble::Halt(Halt::new(HaltReason::Panicked, working.at, panic))));
        self.number.store(working.number, Ordering::Release);
        let is_drained = matches!(outcome, Ok(Turn::Drained));
        let is_wanted = self.waiting.load(Ordering::SeqCst) > 0;
        let is_read = is_wanted || is_drained && self.read_since.swap(false, Ordering::SeqCst);
        let is_last = matches!(&outcome, Err(Trouble::Halt(_)));
        let cloned = if is_read || is_last { self.show_value(&working, is_last) } else { Ok(false) };
        let mut next = self.show_outcome(&working, outcome);
        if let Err(halt) = cloned {
            next = self.show_outcome(&working, Err(Trouble::Halt(halt)));
        }
        self.let_go(working);
        next
    }

    /// Whoever waits looks again, and now finds `working` free.
    fn let_go(&self, working: MutexGuard<'_, Working<F>>) {
        drop(working);
        self.shown.lock().turn += 1;
        self.changed.notify_all();
    }

    fn show_outcome(&self, working: &Working<F>, outcome: Result<Turn, Trouble>) -> Next {
        let mut shown = self.shown.lock();
        let of_another_era = shown.era.is_some() && shown.era != working.era;
        let forgotten = if of_another_era { shown.value.take() } else { None };
        shown.era = working.era;
        self.count(working, &mut shown, &outcome);
        if shown.failed_at != working.at {
            // It has come on since: what fails now and then is no reason to tell of.
            (shown.failures, shown.failed_at) = (0, working.at);
        }
        let next = shown.take_in(outcome);
        drop(shown);
        let _ = guarded(|| drop(forgotten));
        next
    }

    /// Counts what was done since it was last shown, and how that ended.
    fn count(&self, working: &Working<F>, shown: &mut Shown<F::State>, outcome: &Result<Turn, Trouble>) {
        self.meter.add_counts(working.stats.counts_since(&shown.stats));
        shown.stats = working.stats;
        let is_up = !matches!(outcome, Err(Trouble::Error(_)));
        self.own.stands(working.at.raw(), is_up, working.stats.reconnects);
        if let Some((offset, crc)) = working.digest {
            self.own.sample(offset.raw(), crc);
        }
        if let Err(Trouble::Halt(halt)) = outcome
            && shown.halt.is_none()
            // The end of the backplane is no key that is stuck: whoever closed it knows, and poison tells itself.
            && halt.why != HaltReason::Closed
        {
            self.own.halts(halt.why.word());
            let topic = self.setting.subject.filter().to_string();
            trace::fold_halted(F::NAME, F::VERSION, &topic, halt.offset.raw(), &halt.to_string());
            self.meter.add_counts(halt.why.counts());
        }
    }

    /// Clones what is folded for those who read, if they may see it and do not yet; answers whether it did. A value that cannot
    /// be cloned is none.
    fn show_value(&self, working: &Working<F>, is_last: bool) -> Result<bool, Halt> {
        let Some(value) = working.undisputed().filter(|_| is_last || working.has_caught_up()) else {
            return Ok(false);
        };
        {
            let shown = self.shown.lock();
            if shown.halt.is_some() || shown.value.is_some() && shown.number == working.number {
                return Ok(false);
            }
        }
        let cloned = guarded(|| value.clone());
        let value = cloned.map_err(|panic| Halt::new(HaltReason::Panicked, working.at, panic))?;
        let mut shown = self.shown.lock();
        let before = shown.value.replace(Arc::new(ReentrantMutex::new(value)));
        (shown.offset, shown.number, shown.era) = (working.at, working.number, working.era);
        drop(shown);
        let _ = guarded(|| drop(before));
        Ok(true)
    }

    /// Brings what is shown up to what is folded, unless that is under way.
    fn refresh(&self) {
        let Some(working) = self.working.try_lock() else { return };
        match self.show_value(&working, false) {
            // Nobody else would have shown more.
            Ok(false) => return,
            Ok(true) => {}
            Err(halt) => _ = self.show_outcome(&working, Err(Trouble::Halt(halt))),
        }
        // Others found `working` taken meanwhile, and wait.
        self.let_go(working);
    }

    /// Waits until what is shown is as it is asked for.
    pub(super) fn wait<T>(
        &self,
        deadline: Instant,
        mut ready: impl FnMut(&Shown<F::State>) -> Result<Option<T>>,
    ) -> Result<T> {
        let _waiting = Waiting::begin(&self.waiting);
        let _lent = self.pool.lend();
        loop {
            let turn = self.shown.lock().turn;
            self.refresh();
            let mut shown = self.shown.lock();
            if let Some(found) = ready(&shown)? {
                return Ok(found);
            }
            while shown.turn == turn {
                if self.changed.wait_until(&mut shown, deadline).timed_out() && shown.turn == turn {
                    let (kind, text) = shown.failure.clone().unwrap_or((ErrorKind::Timeout, String::new()));
                    let error = Error::new(ErrorKind::Timeout, format!("wait for the fold {:?}", F::NAME))
                        .sides("what was asked for", format!("a value behind offset {}", shown.offset));
                    return Err(if kind == ErrorKind::Timeout { error } else { error.because(text) });
                }
            }
        }
    }

    /// The value that is shown, or why there is none. Its status is not known before it is [looked for](Self::with_status).
    pub(super) fn seen(&self, shown: &Shown<F::State>) -> Result<Seen<F::State>> {
        self.read_since.store(true, Ordering::SeqCst);
        let halted = shown.halt.as_ref().map(|halt| halt.as_error(F::NAME));
        let is_closed = shown.halt.as_ref().is_some_and(|halt| halt.why == HaltReason::Closed);
        let Some(value) = shown.value.as_ref().filter(|_| !is_closed) else {
            return Err(halted.unwrap_or_else(|| Error::new(ErrorKind::Halted, "read")));
        };
        let (value, offset, era) = (Arc::clone(value), shown.offset, shown.era);
        Ok(Seen { value, offset, status: self.status(shown), era })
    }

    fn status(&self, shown: &Shown<F::State>) -> FoldStatus {
        if let Some(halt) = &shown.halt {
            return FoldStatus::Halted(halt.clone());
        }
        let is_asleep = self.task.get().is_some_and(|task| self.pool.is_asleep(*task));
        let is_newest = shown.number == self.number.load(Ordering::Acquire);
        if is_asleep && is_newest && shown.failures == 0 { FoldStatus::Live } else { FoldStatus::Lagging }
    }

    /// The same, and live only where the backplane says that nothing has come since: an append may have been acknowledged of
    /// which the task was not told yet.
    pub(super) fn with_status(&self, seen: Seen<F::State>) -> Seen<F::State> {
        let is_newest = || {
            let head = self.setting.plane.head(self.setting.subject.filter());
            head.is_ok_and(|head| head == seen.offset)
        };
        if seen.status == FoldStatus::Live && !is_newest() {
            return Seen { status: FoldStatus::Lagging, ..seen };
        }
        seen
    }

    /// Saves an image of what is folded, in the caller's thread.
    pub(super) fn save(&self) -> Result<Offset> {
        let mut working = self.working.lock();
        if let Some(halt) = &self.shown.lock().halt {
            return Err(halt.as_error(F::NAME));
        }
        let saved = match working.compare(&self.setting) {
            Ok(()) => working.save_now(&self.setting),
            Err(Trouble::Error(error) | Trouble::Anew(error)) => Err(error),
            Err(Trouble::Halt(halt)) => {
                let error = halt.as_error(F::NAME);
                self.show_outcome(&working, Err(Trouble::Halt(halt)));
                Err(error)
            }
        };
        self.count(&working, &mut self.shown.lock(), &Ok(Turn::More));
        // Who wanted to read meanwhile could not show what it has.
        self.let_go(working);
        saved
    }

    pub(super) fn shown(&self) -> MutexGuard<'_, Shown<F::State>> {
        self.shown.lock()
    }
}

impl<S> Shown<S> {
    fn new() -> Self {
        Self {
            value: None,
            offset: Offset::BEGINNING,
            number: 0,
            halt: None,
            failures: 0,
            begun_anew: 0,
            failed_at: Offset::BEGINNING,
            failure: None,
            era: None,
            stats: FoldStats::default(),
            turn: 0,
        }
    }

    fn take_in(&mut self, outcome: Result<Turn, Trouble>) -> Next {
        match outcome {
            Ok(turn) => {
                (self.failures, self.failure) = (0, None);
                if turn == Turn::More {
                    return Next::Again;
                }
                self.begun_anew = 0;
                Next::Asleep
            }
            // Once that is how it goes on; again and again it is a failure like others.
            Err(Trouble::Anew(_)) if self.begun_anew == 0 => {
                self.begun_anew = 1;
                Next::Again
            }
            Err(Trouble::Anew(error)) => {
                self.begun_anew = self.begun_anew.saturating_add(1);
                self.fail(&error);
                Next::After(Retry::DEFAULT.pause(self.begun_anew - 1))
            }
            Err(Trouble::Error(error)) => {
                self.fail(&error);
                Next::After(Retry::DEFAULT.pause(self.failures))
            }
            Err(Trouble::Halt(halt)) => {
                self.halt = Some(halt);
                Next::Done
            }
        }
    }

    fn fail(&mut self, error: &Error) {
        self.failures = self.failures.saturating_add(1);
        self.failure = Some((error.kind(), error.to_string()));
    }

    /// There is something to read: a value, or the reason why there is none.
    pub(super) fn is_told(&self, fold: &str) -> Result<bool> {
        if self.halt.is_some() || self.value.is_some() {
            return Ok(true);
        }
        match &self.failure {
            Some((kind, text)) if self.failures >= FAILURES_TOLD => {
                Err(Error::new(*kind, format!("read the fold {fold:?}")).because(text.clone()))
            }
            _ => Ok(false),
        }
    }

    /// Behind which record the value is, if there is one.
    pub(super) fn offset(&self) -> Option<Offset> {
        self.value.as_ref().map(|_| self.offset)
    }
}

impl<F: Fold> fmt::Debug for Projector<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.shown.lock();
        write!(f, "{:?} of {} behind {}", F::NAME, self.setting.subject.filter(), shown.offset)
    }
}

/// What the pool has of a projector: nothing that keeps it.
struct Task<F: Fold>(Weak<Projector<F>>);

impl<F: Fold> Work for Task<F> {
    fn run(&mut self, waker: &Waker) -> Next {
        self.0.upgrade().map_or(Next::Done, |projector| projector.run(waker))
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(next: Next) -> Option<std::time::Duration> {
        match next {
            Next::After(pause) => Some(pause),
            _ => None,
        }
    }

    #[test]
    fn what_fails_is_tried_again_behind_pauses_that_grow_and_is_told_if_it_goes_on() {
        let error = || Error::new(ErrorKind::Disconnected, "read on");
        let anew = || Err(Trouble::Anew(Error::new(ErrorKind::EraChanged, "read on")));
        let mut shown = Shown::<u64>::new();
        let first = pause(shown.take_in(Err(Trouble::Error(error())))).unwrap();
        assert!(!shown.is_told("total").unwrap());
        (0..5).for_each(|_| _ = shown.take_in(Err(Trouble::Error(error()))));
        assert!(pause(shown.take_in(Err(Trouble::Error(error())))).unwrap() > first * 4);
        assert_eq!(shown.is_told("total").unwrap_err().kind(), ErrorKind::Disconnected);

        let mut shown = Shown::<u64>::new();
        assert_eq!(shown.take_in(anew()), Next::Again, "once it is no failure");
        let first = pause(shown.take_in(anew())).unwrap();
        // Turns that only seem to come on change nothing.
        assert_eq!(shown.take_in(Ok(Turn::More)), Next::Again);
        (0..5).for_each(|_| _ = shown.take_in(anew()));
        assert!(pause(shown.take_in(anew())).unwrap() > first * 4);
        assert_eq!(shown.is_told("total").unwrap_err().kind(), ErrorKind::EraChanged);
        assert_eq!(shown.take_in(Ok(Turn::Drained)), Next::Asleep);
        assert_eq!(shown.take_in(anew()), Next::Again);
    }
}
