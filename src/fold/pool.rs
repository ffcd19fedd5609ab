//! A few threads for many tasks, each of which sleeps until it is woken.
//!
//! A task that sleeps is an entry in a table: it has no thread and no timer. Threads are started when there is
//! something to do, up to a number, and end with the last task. One that waits for what another task does is not counted meanwhile.
//!
//! A waker only puts a number into a queue. It may be called under locks of whoever wakes, so it owns no task: what it
//! would drop with one could need those locks.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::error::{Error, Result};
use crate::fold::panics::guarded;

/// What a task does when it is its turn.
pub(crate) trait Work: Send {
    /// Does a part of it, and says what then. The waker is the task's own.
    fn run(&mut self, waker: &Waker) -> Next;
}

/// What comes after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing until it is woken; it may have been already.
    Asleep,
    /// Another turn, behind those who wait for theirs.
    Again,
    /// Another turn after so long, or when it is woken.
    After(Duration),
    /// Nothing any more.
    Done,
}

/// The threads and their tasks.
pub(crate) struct Pool {
    inner: Arc<Inner>,
    /// A child that was forked has none of the threads, and whatever locks they held.
    process: u32,
}

thread_local! {
    /// This thread is one of a pool's.
    static IS_OF_A_POOL: Cell<bool> = const { Cell::new(false) };
}

/// True on a thread of a pool, which cannot wait for the end of a task.
pub(crate) fn is_on_one() -> bool {
    IS_OF_A_POOL.get()
}

struct Inner {
    state: Mutex<State>,
    changed: Condvar,
    /// A turn has ended, of a task that somebody waits to be rid of.
    ended: Condvar,
    threads_max: usize,
}

/// While it is there, one of a pool's threads more may run.
pub(crate) struct Lent<'p>(&'p Inner);

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        // A thread that is too many then ends behind its turn, or when it is called.
        self.0.state.lock().lent -= 1;
    }
}

#[derive(Default)]
struct State {
    tasks: HashMap<u64, Slot>,
    /// Those whose turn it is, each once.
    ready: VecDeque<u64>,
    /// Those that have their turn.
    running: HashSet<u64>,
    timers: BTreeSet<(Instant, u64)>,
    last: u64,
    threads: usize,
    /// So many threads wait for what others have to do here, and do nothing meanwhile.
    lent: usize,
    waiting: usize,
    /// So many of those that wait were called, and are not back yet.
    called: usize,
    /// Until then, and no longer, one of those that wait does so for a timer; `None`: none of them knows of any.
    watched: Option<Instant>,
}

struct Slot {
    /// `None` while it runs.
    work: Option<Box<dyn Work>>,
    /// It stands in `ready`, or will when it has run.
    is_woken: bool,
    timer: Option<Instant>,
    waker: Waker,
}

impl Pool {
    pub(crate) fn new(threads_max: usize) -> Self {
        let (state, changed, ended) = (Mutex::default(), Condvar::new(), Condvar::new());
        let inner = Inner { state, changed, ended, threads_max: threads_max.max(1) };
        Self { inner: Arc::new(inner), process: std::process::id() }
    }

    /// Takes a task on, and gives it a first turn. Answers its number.
    ///
    /// # Errors
    ///
    /// `Io` if there is no thread and none can be started.
    pub(crate) fn add(&self, work: Box<dyn Work>) -> Result<u64> {
        let mut state = self.inner.state.lock();
        state.last += 1;
        let number = state.last;
        let waker = Waker::from(Arc::new(Bell { pool: Arc::downgrade(&self.inner), number }));
        state.tasks.insert(number, Slot { work: Some(work), is_woken: true, timer: None, waker });
        state.ready.push_back(number);
        let started = self.inner.call_a_thread(&mut state);
        if state.threads > 0 {
            return Ok(number);
        }
        let gone = state.tasks.remove(&number);
        state.ready.retain(|ready| *ready != number);
        drop(state);
        drop(gone);
        started.map(|()| number)
    }

    /// Gives a task another turn.
    #[cfg(test)]
    fn wake(&self, number: u64) {
        self.inner.wake(number);
    }

    /// True if a task waits for somebody to wake it: it has seen all that there was.
    pub(crate) fn is_asleep(&self, number: u64) -> bool {
        let state = self.inner.state.lock();
        state.tasks.get(&number).is_none_or(|slot| slot.work.is_some() && !slot.is_woken)
    }

    /// Lets go of a task, behind the turn that it has, so that nothing of it is in use then. Only in a turn itself that is not
    /// waited for.
    pub(crate) fn remove(&self, number: u64) {
        if self.is_forked() {
            return;
        }
        let mut state = self.inner.state.lock();
        let gone = state.remove(number);
        if state.tasks.is_empty() {
            self.inner.changed.notify_all();
        }
        while state.running.contains(&number) && !IS_OF_A_POOL.get() {
            self.inner.ended.wait(&mut state);
        }
        drop(state);
        drop(gone);
    }

    /// For who waits for what a task of this pool does: if that is one of a pool's threads, another one takes its place meanwhile,
    /// as the task may wait for just this thread.
    pub(crate) fn lend(&self) -> Option<Lent<'_>> {
        if !is_on_one() || self.is_forked() {
            return None;
        }
        let mut state = self.inner.state.lock();
        state.lent += 1;
        self.inner.leave_to_another(&mut state);
        drop(state);
        Some(Lent(&self.inner))
    }

    /// True in a child that was forked, which has none of the threads.
    pub(crate) fn is_forked(&self) -> bool {
        self.process != std::process::id()
    }

    /// How many threads there are now, and how many tasks.
    #[cfg(test)]
    fn size(&self) -> (usize, usize) {
        let state = self.inner.state.lock();
        (state.threads, state.tasks.len())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.is_forked() {
            return;
        }
        let mut state = self.inner.state.lock();
        let gone = std::mem::take(&mut state.tasks);
        state.ready.clear();
        state.timers.clear();
        self.inner.changed.notify_all();
        drop(state);
        drop(gone);
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inner.state.lock();
        write!(
            f,
            "Pool({} tasks, {} of {} threads)",
            state.tasks.len(),
            state.threads,
            self.inner.threads_max
        )
    }
}

impl State {
    fn remove(&mut self, number: u64) -> Option<Slot> {
        let slot = self.tasks.remove(&number)?;
        if let Some(timer) = slot.timer {
            self.timers.remove(&(timer, number));
        }
        // In `ready` it may still stand: whose turn it is finds that it is gone.
        Some(slot)
    }

    /// Wakes those whose time has come.
    fn look_at_the_clock(&mut self) {
        while let Some((timer, number)) = self.timers.first().copied() {
            if timer > Instant::now() {
                return;
            }
            self.timers.pop_first();
            if let Some(slot) = self.tasks.get_mut(&number) {
                slot.timer = None;
            }
            self.wake(number);
        }
    }

    /// The first timer, if none of the threads that wait looks at the clock in time for it.
    fn unwatched(&self) -> Option<Instant> {
        let first = self.timers.first().map(|(timer, _)| *timer);
        first.filter(|first| self.watched.is_none_or(|watched| watched > *first))
    }

    /// Answers whether a thread has something to do by it.
    fn wake(&mut self, number: u64) -> bool {
        let Some(slot) = self.tasks.get_mut(&number) else { return false };
        if std::mem::replace(&mut slot.is_woken, true) || slot.work.is_none() {
            return false;
        }
        if let Some(timer) = slot.timer.take() {
            self.timers.remove(&(timer, number));
        }
        self.ready.push_back(number);
        true
    }

    /// Puts a task back that had its turn. What is answered is dropped under no lock.
    fn put_back(&mut self, number: u64, work: Box<dyn Work>, next: Next) -> Option<Box<dyn Work>> {
        // It may have been removed meanwhile.
        let Some(slot) = self.tasks.get_mut(&number) else { return Some(work) };
        if next == Next::Done {
            return self.remove(number).map(|_| work);
        }
        slot.work = Some(work);
        if slot.is_woken || next == Next::Again {
            slot.is_woken = true;
            self.ready.push_back(number);
        } else if let Next::After(pause) = next {
            // What is beyond all time is not waited for.
            slot.timer = Instant::now().checked_add(pause);
            self.timers.extend(slot.timer.map(|timer| (timer, number)));
        }
        None
    }
}

impl Inner {
    fn wake(self: &Arc<Self>, number: u64) {
        let mut state = self.state.lock();
        if state.wake(number) {
            // Where none can be started, one of those that there are will come to it.
            let _ = self.call_a_thread(&mut state);
        }
    }

    fn call_a_thread(self: &Arc<Self>, state: &mut MutexGuard<'_, State>) -> Result<()> {
        if state.waiting > state.called {
            state.called += 1;
            self.changed.notify_one();
            return Ok(());
        }
        if state.threads >= self.threads_max + state.lent {
            return Ok(());
        }
        let inner = Arc::clone(self);
        let started = std::thread::Builder::new().name("esker-fold".to_owned()).spawn(move || inner.work());
        started.map_err(|cause| Error::io("start a thread that folds", cause))?;
        state.threads += 1;
        Ok(())
    }

    /// For a thread that is going to be in a turn: what it leaves behind is another one's, those whose turn it is and the clock.
    fn leave_to_another(self: &Arc<Self>, state: &mut MutexGuard<'_, State>) {
        if !state.ready.is_empty() || state.unwatched().is_some() {
            // Where none can be started, those that there are come to it.
            let _ = self.call_a_thread(state);
        }
    }

    fn work(self: Arc<Self>) {
        IS_OF_A_POOL.set(true);
        while let Some((number, mut work, waker)) = self.take() {
            // A panic of a task is its end; those of what it calls it catches itself.
            let next = guarded(|| work.run(&waker)).unwrap_or(Next::Done);
            let mut state = self.state.lock();
            let gone = state.put_back(number, work, next);
            if gone.is_none() {
                state.running.remove(&number);
                continue;
            }
            drop(state);
            let _ = guarded(|| drop(gone));
            self.state.lock().running.remove(&number);
            self.ended.notify_all();
        }
    }

    /// Waits for somebody's turn; `None`: nobody is left.
    fn take(self: &Arc<Self>) -> Option<(u64, Box<dyn Work>, Waker)> {
        let mut state = self.state.lock();
        loop {
            if state.tasks.is_empty() {
                state.threads -= 1;
                // Nor is there anything for those who wait.
                self.changed.notify_all();
                return None;
            }
            if state.threads > self.threads_max + state.lent {
                state.threads -= 1;
                // It may be this one that was called, or that knew when the next timer ends.
                self.changed.notify_all();
                return None;
            }
            state.look_at_the_clock();
            if let Some(number) = state.ready.pop_front() {
                let Some(slot) = state.tasks.get_mut(&number) else { continue };
                slot.is_woken = false;
                let Some(work) = slot.work.take() else { continue };
                let waker = slot.waker.clone();
                state.running.insert(number);
                self.leave_to_another(&mut state);
                return Some((number, work, waker));
            }
            self.wait(&mut state);
        }
    }

    /// Waits to be called, and for the first timer if nobody else does.
    fn wait(&self, state: &mut MutexGuard<'_, State>) {
        let timer = state.unwatched();
        state.waiting += 1;
        match timer {
            Some(timer) => {
                state.watched = Some(timer);
                self.changed.wait_until(state, timer);
                // Another one may have begun to wait for an earlier one.
                state.watched = state.watched.filter(|watched| *watched != timer);
            }
            None => self.changed.wait(state),
        }
        state.waiting -= 1;
        // It may be another one that was called: that one is back then too.
        state.called = state.called.saturating_sub(1);
    }
}

struct Bell {
    pool: Weak<Inner>,
    number: u64,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        if let Some(pool) = self.pool.upgrade() {
            pool.wake(self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Says that it had its turn, and does then what it is told.
    struct Told {
        turns: Sender<Waker>,
        next: Receiver<Next>,
    }

    impl Work for Told {
        fn run(&mut self, waker: &Waker) -> Next {
            self.turns.send(waker.clone()).unwrap();
            self.next.recv().unwrap_or(Next::Done)
        }
    }

    fn told() -> (Box<dyn Work>, Receiver<Waker>, Sender<Next>) {
        let ((turns, had), (tell, next)) = (channel(), channel());
        (Box::new(Told { turns, next }), had, tell)
    }

    #[test]
    fn a_task_that_was_woken_in_its_turn_has_another_one_and_threads_end_with_the_last_task() {
        let pool = Pool::new(2);
        let (work, had, tell) = told();
        let number = pool.add(work).unwrap();
        let waker = had.recv().unwrap();
        waker.wake_by_ref();
        tell.send(Next::Asleep).unwrap();
        had.recv().unwrap();
        tell.send(Next::After(Duration::from_millis(1))).unwrap();
        had.recv().unwrap();
        for pause in [Duration::from_secs(3600), Duration::MAX] {
            tell.send(Next::After(pause)).unwrap();
            while !pool.is_asleep(number) {
                std::thread::yield_now();
            }
            pool.wake(number);
            had.recv().unwrap();
        }
        tell.send(Next::Again).unwrap();
        had.recv().unwrap();
        tell.send(Next::Done).unwrap();
        while pool.size() != (0, 0) {
            std::thread::yield_now();
        }
        waker.wake();
        assert_eq!(pool.size(), (0, 0), "nobody is there to be woken");
    }

    #[test]
    fn whoever_is_woken_while_the_only_thread_is_being_called_has_another_one() {
        let pool = Pool::new(2);
        let settled = || {
            while pool.inner.state.lock().waiting < 1 {
                std::thread::yield_now();
            }
        };
        let all: Vec<_> = (0..2)
            .map(|_| {
                let (work, had, tell) = told();
                let number = pool.add(work).unwrap();
                had.recv().unwrap();
                tell.send(Next::Asleep).unwrap();
                settled();
                (number, had, tell)
            })
            .collect();
        assert_eq!(pool.size(), (1, 2));
        let mut state = pool.inner.state.lock();
        for (number, _, _) in &all {
            assert!(state.wake(*number));
            pool.inner.call_a_thread(&mut state).unwrap();
        }
        drop(state);
        // Neither has to end its turn for the other to have one.
        all.iter().for_each(|(_, had, _)| _ = had.recv_timeout(PATIENCE).unwrap());
    }

    /// Waits until something is so of a pool; not for ever, where a timer was faster.
    fn until(pool: &Pool, is_so: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(&pool.inner.state.lock()) && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }

    /// A pool and a task in it, which is to have its second turn behind a pause.
    fn with_a_timer(threads_max: usize) -> (Arc<Pool>, Receiver<Waker>, Sender<Next>) {
        let pool = Arc::new(Pool::new(threads_max));
        let (work, had, tell) = told();
        pool.add(work).unwrap();
        had.recv().unwrap();
        tell.send(Next::After(Duration::from_millis(200))).unwrap();
        until(&pool, |state| state.waiting == 1);
        (pool, had, tell)
    }

    #[test]
    fn a_timer_ends_also_where_the_thread_that_knew_of_it_is_in_a_turn() {
        let (pool, timed, tell_timed) = with_a_timer(2);
        let (work, other, tell_other) = told();
        pool.add(work).unwrap();
        other.recv().unwrap();
        timed.recv_timeout(PATIENCE).unwrap();
        // When there is nothing to be done nobody looks at a clock.
        tell_timed.send(Next::Asleep).unwrap();
        tell_other.send(Next::Asleep).unwrap();
        until(&pool, |state| state.waiting == 2);
        assert_eq!(pool.inner.state.lock().watched, None);
    }

    /// Waits in its turn for what another task does.
    struct Lends(Arc<Pool>, Receiver<Waker>, Sender<bool>);

    impl Work for Lends {
        fn run(&mut self, _: &Waker) -> Next {
            let _lent = self.0.lend();
            let _ = self.2.send(self.1.recv_timeout(PATIENCE).is_ok());
            Next::Done
        }
    }

    #[test]
    fn a_timer_ends_also_where_the_only_thread_waits_for_the_task_that_has_it() {
        let (pool, timed, _tell) = with_a_timer(1);
        let (said, has_come) = channel();
        pool.add(Box::new(Lends(Arc::clone(&pool), timed, said))).unwrap();
        assert!(has_come.recv().unwrap());
    }

    #[test]
    fn whoever_removes_a_task_waits_for_the_turn_that_it_has() {
        let pool = Pool::new(1);
        let (work, had, tell) = told();
        let number = pool.add(work).unwrap();
        had.recv().unwrap();
        let pool = &pool;
        std::thread::scope(|threads| {
            let removing = threads.spawn(move || {
                pool.remove(number);
                // It is dropped, and its channel with it.
                had.try_recv().unwrap_err() == std::sync::mpsc::TryRecvError::Disconnected
            });
            while pool.size().1 > 0 {
                std::thread::yield_now();
            }
            tell.send(Next::Asleep).unwrap();
            assert!(removing.join().unwrap());
        });
    }

    #[test]
    fn a_task_is_dropped_with_the_pool_also_in_its_turn_and_no_more_threads_run_than_may() {
        let pool = Pool::new(2);
        let mut all: Vec<_> = (0..5)
            .map(|_| {
                let (work, had, tell) = told();
                pool.add(work).unwrap();
                (had, tell)
            })
            .collect();
        let mut busy = 0;
        while busy < 2 {
            busy += all.iter().filter(|(had, _)| had.try_recv().is_ok()).count();
        }
        assert_eq!((busy, pool.size()), (2, (2, 5)));
        drop(pool);
        // Those in their turn are told to end it; the others were never asked.
        all.iter().for_each(|(_, tell)| _ = tell.send(Next::Again));
        all.drain(..).for_each(|(had, _)| while had.recv().is_ok() {});
    }
}
