//! Waiting for more of the log: a reader sleeps until what it waits for was touched, and the mark
//! that it goes by has moved.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::feed::shard::{Shard, Touched};
use crate::feed::sleepers::{Bell, Sleeper, Sleepers};
use crate::id::Position;
use crate::journal::core::{Core, Item};
use crate::journal::view::View;
use crate::options::Durability;

/// How far a reader may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Until {
    /// What survives a power cut: whoever is told of it is told the truth.
    Durable,
    /// What was appended, whatever a power cut may yet take.
    Visible,
}

/// Ends a reader's sleep from another thread; see [`Watcher::stopper`](crate::Watcher::stopper).
#[derive(Clone, Debug)]
pub struct Stopper {
    stopped: Arc<AtomicBool>,
    sleeper: Arc<Sleeper>,
}

impl Stopper {
    /// The reader's calls answer that there is nothing more, the one that waits now and all later ones.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.sleeper.wake();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Waits so long, or until stopped. False: stopped.
    pub(crate) fn pause(&self, duration: Duration) -> bool {
        let deadline = Instant::now() + duration;
        while !self.is_stopped() {
            let left = deadline.saturating_duration_since(Instant::now());
            // A wake-up from before may still be there.
            if left.is_zero() || !self.sleeper.wait(Some(left)) {
                break;
            }
        }
        !self.is_stopped()
    }
}

/// What a reader waits with.
#[derive(Debug)]
pub(crate) struct Waiting {
    core: Arc<Core>,
    until: Until,
    /// So long a wait looks again and again before it sleeps.
    spin: Duration,
    stopper: Stopper,
}

/// A reader that can wait for more: what a [`WaitSet`](crate::WaitSet) takes.
///
/// The readers of this crate implement it. A type around one of them does too, if it hands its
/// [`place`](Self::place) on.
pub trait Reading {
    /// Where the reader stands, and what it waits for.
    #[doc(hidden)]
    fn place(&self) -> Place<'_>;
}

/// Where a reader stands, and what it waits for.
#[derive(Debug)]
pub struct Place<'a> {
    pub(crate) waiting: &'a Waiting,
    pub(crate) shard: Shard,
    pub(crate) seen: Position,
}

impl<R: Reading + ?Sized> Reading for Box<R> {
    fn place(&self) -> Place<'_> {
        (**self).place()
    }
}

/// Steps until there is something, and waits in between; `None`: the time is over, or the reader was
/// stopped.
pub(crate) fn wait_until<R: Reading, T>(
    reader: &mut R,
    deadline: Option<Instant>,
    mut step: impl FnMut(&mut R) -> Result<Option<T>>,
) -> Result<Option<T>> {
    while !reader.place().waiting.is_stopped() {
        if let Some(found) = step(reader)? {
            return Ok(Some(found));
        }
        if !reader.place().wait(deadline)? {
            break;
        }
    }
    Ok(None)
}

impl Waiting {
    pub(crate) fn new(core: Arc<Core>, until: Until, spin: Duration) -> Self {
        // Under the writer's lock, so that every later append knows that somebody may sleep.
        let writer = core.writer.lock();
        core.feed.begin_use();
        drop(writer);
        let stopper = Stopper { stopped: Arc::default(), sleeper: Sleeper::new() };
        Self { core, until, spin, stopper }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopper.is_stopped()
    }

    /// How far the reader may see now.
    #[inline]
    pub(crate) fn limit(&self) -> Position {
        match self.until {
            Until::Durable => self.core.commit.durable(),
            Until::Visible => self.core.commit.readable(),
        }
    }

    /// The log up to where the reader may see now.
    pub(crate) fn view(&self) -> View {
        View::new(Arc::clone(&self.core.index), self.limit())
    }

    /// The log up to where the reader may see now, if that is behind `seen`.
    pub(crate) fn view_behind(&self, seen: Position) -> Option<View> {
        let limit = self.limit();
        (limit > seen).then(|| View::new(Arc::clone(&self.core.index), limit))
    }

    /// Tells a reader that has seen everything up to `seen` that nothing more will come, if so.
    pub(crate) fn check_not_ended(&self, seen: Position) -> Result<()> {
        match self.core.commit.stopped() {
            Some(stopped) if self.limit() <= seen => Err(self.core.stopped(stopped, "read on")),
            _ => Ok(()),
        }
    }

    fn beds(&self) -> &Sleepers {
        match self.until {
            Until::Durable => &self.core.feed.durable,
            Until::Visible => &self.core.feed.visible,
        }
    }

    /// A sleeping reader of what is durable is a request for a sync.
    fn ask_for_a_sync(&self) -> Result<()> {
        if self.until == Until::Visible || self.core.commit.visible() <= self.core.commit.durable() {
            return Ok(());
        }
        if self.core.syncs_by_itself() {
            self.core.idle.want_sync();
            return Ok(());
        }
        // Nobody else will.
        self.core.wait_durable(self.core.commit.visible())
    }
}

impl Place<'_> {
    /// True if a look is worth it: there is more, or nothing will ever be.
    pub(crate) fn is_worth_a_look(&self) -> bool {
        self.waiting.limit() > self.seen
            || self.waiting.is_stopped()
            || self.waiting.core.commit.stopped().is_some()
    }

    /// Waits until the mark is behind what was seen, at most until `deadline`. False: the time is over,
    /// or somebody stopped the reader. May answer true for nothing: the caller looks.
    ///
    /// # Errors
    ///
    /// `Poisoned` or `Closed`, once everything up to the mark was seen.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Result<bool> {
        let waiting = self.waiting;
        let began = Instant::now();
        loop {
            if waiting.is_stopped() {
                return Ok(false);
            }
            if waiting.limit() > self.seen {
                return Ok(true);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(false);
            }
            if began.elapsed() < waiting.spin {
                waiting.check_not_ended(self.seen)?;
                std::hint::spin_loop();
                continue;
            }
            if self.lie_down()? {
                waiting.stopper.sleeper.wait(left);
                self.get_up();
            }
            waiting.check_not_ended(self.seen)?;
        }
    }

    /// Has the reader woken from now on. False: it has to look again first, and will not be.
    ///
    /// # Errors
    ///
    /// Those of the sync that nobody else makes.
    pub(crate) fn lie_down(&self) -> Result<bool> {
        let waiting = self.waiting;
        waiting.core.check_not_forked("wait for more of the log")?;
        let sleeper = &waiting.stopper.sleeper;
        waiting.beds().lie_down(self.shard, sleeper);
        let asked = waiting.ask_for_a_sync();
        // Whoever moves the mark looks for sleepers afterwards: one of us sees the other.
        let nothing_happened = asked.is_ok() && !self.is_worth_a_look();
        if !nothing_happened {
            self.get_up();
        }
        asked.map(|()| nothing_happened)
    }

    /// It is awake, whoever woke it.
    pub(crate) fn get_up(&self) {
        self.waiting.beds().get_up(self.shard, &self.waiting.stopper.sleeper);
    }

    /// From now on, waking the reader rings this.
    pub(crate) fn give_bell(&self, bell: Option<Arc<dyn Bell>>) {
        self.waiting.stopper.sleeper.give_bell(bell);
    }
}

impl Core {
    /// The shards that a batch touches.
    pub(crate) fn touched_by(items: &[Item<'_>]) -> Touched {
        let mut touched = Touched::default();
        if !items.is_empty() {
            touched.add(Shard::ALL);
        }
        for item in items {
            touched.add(Shard::of_kind(item.kind()));
            touched.add(Shard::of_entity(item.hash()));
        }
        touched
    }

    /// Wakes who waits for what was just made visible.
    pub(crate) fn wake_for(&self, touched: &Touched) {
        self.feed.visible.wake(touched);
        if self.syncs_by_itself() {
            if self.options.durability != Durability::Sync {
                self.want_sync_for_readers();
            }
        } else {
            // Nobody syncs for them: they do it themselves.
            self.feed.durable.wake(touched);
        }
    }

    /// Behind an append for which nobody waits: asks for a sync if somebody sleeps until there is one.
    pub(crate) fn want_sync_for_readers(&self) {
        if self.syncs_by_itself() && self.feed.durable.are_there() {
            self.idle.want_sync();
        }
    }

    /// There is a thread that syncs when it is asked to.
    fn syncs_by_itself(&self) -> bool {
        self.options.background && !self.alone.load(Ordering::Relaxed)
    }
}
