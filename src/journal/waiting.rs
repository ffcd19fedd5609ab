//! Waiting for more of the log: a reader sleeps until what it waits for was touched, and the mark
//! that it goes by has moved.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLockReadGuard;

use crate::error::Result;
use crate::feed::shard::{Interest, Touched};
use crate::feed::sleepers::{Bell, Sleeper, Sleepers};
use crate::id::Position;
use crate::journal::core::{Core, Item};
use crate::journal::source::Source;
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

    /// True once it was told to stop.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Waits so long, or until stopped. False: stopped.
    pub(crate) fn pause(&self, duration: Duration) -> bool {
        let deadline = Instant::now().checked_add(duration);
        while !self.is_stopped() {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            // A wake-up from before may still be there.
            if left.is_some_and(|left| left.is_zero()) || !self.sleeper.wait(left) {
                break;
            }
        }
        !self.is_stopped()
    }
}

/// What a reader waits with.
#[derive(Debug)]
pub(crate) struct Waiting {
    source: Source,
    until: Until,
    /// So long a wait looks again and again before it sleeps.
    spin: Duration,
    stopper: Stopper,
}

/// A reader that can wait for more: what a [`WaitSet`](crate::WaitSet) takes.
///
/// The readers of this crate implement it. A type around one of them does too, an enum of several for
/// example, if it hands their [`place`](Self::place) on.
pub trait Reading {
    /// Where the reader stands, and what it waits for.
    fn place(&self) -> Place<'_>;
}

/// Where a reader stands, and what it waits for.
#[derive(Debug)]
pub struct Place<'a> {
    pub(crate) waiting: &'a Waiting,
    pub(crate) interest: Interest,
    /// Up to here it has looked,
    pub(crate) seen: Position,
    /// or there is something before that which it has not told yet.
    pub(crate) has_more: bool,
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
        // Also where there is more to look at all the time, and nothing in it for this reader.
        let is_over = deadline.is_some_and(|deadline| deadline <= Instant::now());
        if is_over || !reader.place().wait(deadline)? {
            break;
        }
    }
    Ok(None)
}

impl Waiting {
    pub(crate) fn new(source: Source, until: Until, spin: Duration) -> Self {
        if let Source::Engine(core) = &source {
            // Under the writer's lock, so that every later append knows that somebody may sleep.
            let writer = core.writer.lock();
            core.feed.begin_use();
            drop(writer);
        }
        let stopper = Stopper { stopped: Arc::default(), sleeper: Sleeper::new() };
        Self { source, until, spin, stopper }
    }

    /// Nothing that is compacted is put in place meanwhile: for who looks up where to begin, and begins.
    pub(crate) fn steady(&self) -> Option<RwLockReadGuard<'_, ()>> {
        match &self.source {
            Source::Engine(core) => Some(core.compacting.steady.read()),
            Source::Reader(_) => None,
        }
    }

    pub(crate) fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopper.is_stopped()
    }

    pub(crate) fn check_not_forked(&self) -> Result<()> {
        self.source.check_not_forked("read on")
    }

    /// How far the reader may see now.
    #[inline]
    fn limit(&self) -> Result<Position> {
        self.source.limit(self.until)
    }

    /// The log up to where the reader may see now.
    pub(crate) fn view(&self) -> Result<View> {
        self.source.view_until(self.until)
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    pub(crate) fn source_mut(&mut self) -> &mut Source {
        &mut self.source
    }

    /// The log in which a new reader's place is looked up: what was appended before it is not new,
    /// though it may be shown only later. Where another process's crash takes such a place back, the
    /// reader is told that the log was rewound.
    pub(crate) fn view_of_what_is_there(&self) -> Result<View> {
        self.source.view()
    }

    /// The log up to where the reader may see now, if that is behind `seen`.
    pub(crate) fn view_behind(&self, seen: Position) -> Result<Option<View>> {
        if self.limit()? <= seen {
            return Ok(None);
        }
        self.view().map(Some)
    }

    /// A failed sync takes back what a view may still show: the log up to what is left, if so.
    #[inline]
    pub(crate) fn view_short_of(&self, mark: Position) -> Result<Option<View>> {
        match &self.source {
            Source::Engine(core) if core.commit.is_poisoned() && self.limit()? < mark => {
                self.view().map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Tells a reader that has seen everything up to `seen` that nothing more will come, if so.
    pub(crate) fn check_not_ended(&self, seen: Position) -> Result<()> {
        match self.source.stopped("read on") {
            Some(error) if self.limit()? <= seen => Err(error),
            _ => Ok(()),
        }
    }

    fn beds<'a>(&self, core: &'a Core) -> &'a Sleepers {
        match self.until {
            Until::Durable => &core.feed.durable,
            Until::Visible => &core.feed.visible,
        }
    }

    /// A sleeping reader of what is durable is a request for a sync.
    fn ask_for_a_sync(&self, core: &Core) -> Result<()> {
        if self.until == Until::Visible || core.commit.visible() <= core.commit.durable() {
            return Ok(());
        }
        if core.syncs_by_itself() {
            core.idle.want_sync();
            return Ok(());
        }
        // Nobody else will.
        core.wait_durable(core.commit.visible())
    }
}

/// The pauses of a reader that nobody wakes.
const POLL_MIN: Duration = Duration::from_millis(1);
pub(crate) const POLL_MAX: Duration = Duration::from_millis(20);

impl Place<'_> {
    /// Nobody wakes this reader.
    pub(crate) fn is_polled(&self) -> bool {
        matches!(self.waiting.source, Source::Reader(_))
    }

    /// True if a look is worth it: there is more, or nothing will ever be, or the look fails.
    pub(crate) fn is_worth_a_look(&self) -> bool {
        self.has_news() || self.has_ended()
    }

    pub(crate) fn has_news(&self) -> bool {
        self.has_more || self.waiting.limit().map_or(true, |limit| limit > self.seen)
    }

    fn has_grown(&self) -> Result<bool> {
        match self.waiting.limit() {
            // Whoever looks is told why, or opens the log again.
            Err(_) if self.is_polled() => Ok(true),
            limit => Ok(limit? > self.seen),
        }
    }

    /// Nothing more will come: it was stopped, or the log has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.waiting.is_stopped() || self.waiting.source.has_stopped()
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
        let mut pause = POLL_MIN;
        loop {
            if waiting.is_stopped() {
                return Ok(false);
            }
            if self.has_more || self.has_grown()? {
                return Ok(true);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(false);
            }
            if began.elapsed() < waiting.spin {
                waiting.check_not_ended(self.seen)?;
                self.spin();
                continue;
            }
            if self.yields() {
                continue;
            }
            if self.lie_down()? {
                let polled = self.is_polled().then_some(pause);
                waiting.stopper.sleeper.wait(left.into_iter().chain(polled).min());
                pause = (pause * 2).min(POLL_MAX);
                self.get_up();
            }
            waiting.check_not_ended(self.seen)?;
        }
    }

    /// Looks for a while without asking what time it is.
    fn spin(&self) {
        for _ in 0..64 {
            if self.is_worth_a_look() {
                return;
            }
            std::hint::spin_loop();
        }
    }

    /// Lets others run before it sleeps: where many follow a writer, entries gather meanwhile, and one
    /// wake-up is for several. True: it need not sleep.
    fn yields(&self) -> bool {
        const YIELDS: usize = 4;
        !self.is_polled()
            && (0..YIELDS).any(|_| {
                std::thread::yield_now();
                self.is_worth_a_look()
            })
            && !self.waiting.source.has_stopped()
    }

    /// Has the reader woken from now on, if there is somebody who can. False: it has to look again
    /// first, and will not be.
    ///
    /// # Errors
    ///
    /// Those of the sync that nobody else makes.
    pub(crate) fn lie_down(&self) -> Result<bool> {
        let waiting = self.waiting;
        waiting.source.check_not_forked("wait for more of the log")?;
        let Source::Engine(core) = &waiting.source else { return Ok(!self.is_worth_a_look()) };
        waiting.beds(core).lie_down(self.interest, &waiting.stopper.sleeper);
        let asked = waiting.ask_for_a_sync(core);
        // Whoever moves the mark looks for sleepers afterwards: one of us sees the other.
        let nothing_happened = asked.is_ok() && !self.is_worth_a_look();
        if !nothing_happened {
            self.get_up();
        }
        asked.map(|()| nothing_happened)
    }

    /// It is awake, whoever woke it.
    pub(crate) fn get_up(&self) {
        if let Source::Engine(core) = &self.waiting.source {
            self.waiting.beds(core).get_up(self.interest, &self.waiting.stopper.sleeper);
        }
    }

    /// From now on, waking the reader rings this.
    pub(crate) fn give_bell(&self, bell: Option<Arc<dyn Bell>>) {
        self.waiting.stopper.sleeper.give_bell(bell);
    }
}

/// What a batch touches: everything if there is an entry in it, its kinds, and its entities.
#[inline]
fn interests<'a>(items: &'a [Item<'_>]) -> impl Iterator<Item = Interest> + 'a {
    let all = (!items.is_empty()).then_some(Interest::ALL);
    all.into_iter().chain(
        items.iter().flat_map(|item| [Interest::of_kind(item.kind()), Interest::of_entity(item.hash())]),
    )
}

/// Adds what a batch touches.
#[inline]
pub(crate) fn touch(touched: &mut Touched, items: &[Item<'_>]) {
    interests(items).for_each(|interest| touched.add(interest));
}

impl Core {
    /// Wakes who waits for what was just made visible.
    #[inline]
    pub(crate) fn wake_for(&self, items: &[Item<'_>]) {
        self.feed.visible.wake_those(interests(items));
        if self.syncs_by_itself() {
            if self.options.durability != Durability::Sync {
                self.want_sync_for_readers();
            }
        } else {
            // Nobody syncs for them: they do it themselves.
            self.feed.durable.wake_those(interests(items));
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
