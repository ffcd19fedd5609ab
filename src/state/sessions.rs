//! Who has a session, how it is claimed, and what counts as a sign of life.
//!
//! A session that gives its heartbeats by itself is alive as long as it lives: no countdown runs, and no thread wakes for
//! it. Its last clone's drop begins the countdown. One whose heartbeats are given by hand has a countdown from the
//! claim on, and every operation begins it anew. With the first claim of an opening those of all sources begin that have a
//! deadline and were not *settled* (closed, or ended before): so an opening that claims none ends nobody.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use crate::clock::{Clock, Moved};
use crate::error::{Error, ErrorKind, Result};
use crate::format::source::{
    DEADLINE_MAX, DEADLINE_MIN, Liveness, SOURCE_NAME_BYTES_MAX, SOURCES_MAX, SourceInfo,
};
use crate::journal::core::Core;
use crate::state::ending::closed;
use crate::state::endings::Endings;
use crate::state::engine::{Open, Pulse, State, told_of_failure};
use crate::state::liveness::Countdowns;
use crate::state::presence::{self, SessionEnd, SessionEvent};
use crate::state::reading::SourceSet;

/// How a source is claimed.
///
/// ```
/// use std::time::Duration;
///
/// use esker::{Heartbeat, Liveness, SourceOptions, Store};
/// # fn main() -> esker::Result<()> {
/// let store = Store::in_memory()?;
/// // What the radar says is true as long as it goes on talking.
/// let options = SourceOptions::new()
///     .liveness(Liveness::Deadline(Duration::from_secs(30)))
///     .heartbeat(Heartbeat::ByHand);
/// let radar = store.source_with("radar", options)?;
/// radar.heartbeat()?;
/// assert_eq!(store.journal().sources()[0].liveness, Liveness::Deadline(Duration::from_secs(30)));
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "options do nothing until a source is claimed with them"]
pub struct SourceOptions {
    liveness: Option<Liveness>,
    heartbeat: Heartbeat,
}

/// Who says that a source is still there, where that matters ([`Liveness::Deadline`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Heartbeat {
    /// It is there as long as its session lives.
    #[default]
    Automatic,
    /// It says so itself, at least once in its deadline: by [`Source::heartbeat`](crate::Source::heartbeat), or by any
    /// operation. So a thread that hangs is found.
    ByHand,
}

impl SourceOptions {
    /// As [`Store::source`](crate::Store::source) claims it: the liveness that the source has, and heartbeats by
    /// themselves.
    pub const fn new() -> Self {
        Self { liveness: None, heartbeat: Heartbeat::Automatic }
    }

    /// What becomes of that which the source asserts when it falls silent. It is kept in the store: later claims need
    /// not say it again, and one that says something else changes it. Default: what the store says; of a new source
    /// [`Liveness::Forever`].
    pub const fn liveness(mut self, liveness: Liveness) -> Self {
        self.liveness = Some(liveness);
        self
    }

    /// Who gives signs of life. Of this session only. Default: [`Heartbeat::Automatic`].
    pub const fn heartbeat(mut self, heartbeat: Heartbeat) -> Self {
        self.heartbeat = heartbeat;
        self
    }
}

/// So many events of a source wait to be told at most: more than come between two looks at what waits.
const NEWS_OF_EACH: usize = 4;

/// So many are told while others wait for the lock.
const NEWS_AT_ONCE: usize = 16;

/// The sessions of this opening, and what is to become of those that ended.
#[derive(Debug)]
pub(crate) struct Sessions {
    live: [Option<Session>; SOURCES_MAX],
    /// Sessions ever, so that none is taken for another.
    begun: u64,
    pub(crate) countdowns: Countdowns,
    /// A session was claimed in this opening.
    is_counting: bool,
    /// Those whose assertions are being taken back.
    pub(crate) endings: Endings,
    /// What presence is still to be told.
    news: VecDeque<(String, SessionEvent)>,
    /// News that could not be told wait until then.
    news_from: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    number: u64,
    deadline: Option<Duration>,
    heartbeat: Heartbeat,
    /// It was silent for too long, and has not come back.
    is_overdue: bool,
    /// It is being closed, or is none but holds the source: nothing is accepted.
    is_held: bool,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            live: [None; SOURCES_MAX],
            begun: 0,
            countdowns: Countdowns::default(),
            is_counting: false,
            endings: Endings::default(),
            news: VecDeque::new(),
            news_from: Duration::ZERO,
        }
    }
}

impl Sessions {
    /// Somebody has the source.
    pub(crate) fn is_taken(&self, source: u8) -> bool {
        self.live.get(usize::from(source)).is_some_and(Option::is_some)
    }

    /// The numbers that somebody has.
    pub(crate) fn taken(&self) -> SourceSet {
        SourceSet((0u8..64).filter(|id| self.is_taken(*id)).fold(0, |bits, id| bits | 1 << id))
    }

    /// Somebody has the source, and it was not silent for too long.
    fn is_present(&self, source: u8) -> bool {
        let session = self.live.get(usize::from(source)).and_then(Option::as_ref);
        session.is_some_and(|session| !session.is_overdue)
    }

    fn session(&mut self, source: u8, number: u64) -> Option<&mut Session> {
        let session = self.live.get_mut(usize::from(source))?.as_mut();
        session.filter(|session| session.number == number)
    }

    fn begin(&mut self, source: u8, deadline: Option<Duration>, heartbeat: Heartbeat, is_held: bool) -> u64 {
        self.begun += 1;
        let session = Session { number: self.begun, deadline, heartbeat, is_overdue: false, is_held };
        if let Some(slot) = self.live.get_mut(usize::from(source)) {
            *slot = Some(session);
        }
        self.begun
    }

    /// Takes a source that nobody has, for what is no session.
    pub(crate) fn hold(&mut self, source: u8) -> u64 {
        self.begin(source, None, Heartbeat::Automatic, true)
    }

    /// Nothing is accepted of a session from now on, or again. False: there is no such session that is used.
    pub(crate) fn set_held(&mut self, source: u8, number: u64, is_held: bool) -> bool {
        let session = self.session(source, number).filter(|session| session.is_held != is_held);
        session.is_some_and(|session| {
            session.is_held = is_held;
            true
        })
    }

    /// The source is free. False: the session had ended before.
    pub(crate) fn end(&mut self, source: u8, number: u64) -> bool {
        let has_it = self.session(source, number).is_some();
        if let Some(slot) = self.live.get_mut(usize::from(source)).filter(|_| has_it) {
            *slot = None;
        }
        has_it
    }

    /// The source is there again.
    fn come_back(&mut self, source: u8) {
        self.set_overdue(source, false);
        self.endings.overtake(source);
    }

    /// The source was silent for too long, so that whoever has it has to come back; or it has come back.
    pub(crate) fn set_overdue(&mut self, source: u8, is_overdue: bool) {
        if let Some(session) = self.live.get_mut(usize::from(source)).and_then(Option::as_mut) {
            session.is_overdue = is_overdue;
        }
    }

    /// Has presence told. Of what could not be told for long only the newest is kept.
    pub(crate) fn tell(&mut self, source: &str, event: SessionEvent) {
        let is_its_own = |(name, _): &(String, SessionEvent)| name == source;
        if self.news.iter().filter(|news| is_its_own(news)).count() >= NEWS_OF_EACH
            && let Some(oldest) = self.news.iter().position(is_its_own)
        {
            self.news.remove(oldest);
        }
        self.news.push_back((source.to_owned(), event));
    }

    /// When there is something to do.
    #[inline]
    fn next(&self) -> Option<Duration> {
        let news = (!self.news.is_empty()).then_some(self.news_from);
        news.into_iter().chain(self.countdowns.next()).min()
    }
}

/// Which source is claimed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Who<'n> {
    Named(&'n str),
    /// One with a name that no source has, which begins so.
    Anybody(&'n str),
}

/// Who says something: a session of a source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speaker<'n> {
    pub(crate) source: u8,
    pub(crate) session: u64,
    pub(crate) name: &'n str,
}

/// A source that was claimed.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) id: u8,
    pub(crate) name: String,
    pub(crate) session: u64,
}

/// How the state layer is entered: when no window is on its way, or also then.
type Enter = for<'s> fn(&'s State, &Core) -> Result<MutexGuard<'s, Open>>;

impl State {
    /// Claims a source, and gives it a number if it has none.
    pub(crate) fn claim(
        self: &Arc<Self>,
        core: &Arc<Core>,
        who: Who<'_>,
        options: SourceOptions,
    ) -> Result<Claimed> {
        check(who, options)?;
        core.check_not_forked("claim a source")?;
        let mut open = self.enter_whatever_failed(core)?;
        if choose(core, &open, who).is_some_and(|source| self.is_late(core, &open, source.id)) {
            // Who comes back too late comes back to nothing, whether or not somebody has looked.
            drop(open);
            self.tend_for_nobody(core);
            open = self.enter_whatever_failed(core)?;
        }
        let Some(source) = choose(core, &open, who) else {
            drop(open);
            return Err(self.no_number(core));
        };
        if open.sessions.is_taken(source.id) {
            let doing = format!("claim the source {:?}", source.name);
            return Err(Error::new(ErrorKind::SourceClaimed, doing).at(core.directory.path()));
        }
        let liveness = options.liveness.unwrap_or(source.liveness);
        let named = SourceInfo { liveness, settled: false, ..source };
        put_if_changed(core, &named)?;
        let deadline = liveness.deadline();
        begin_counting(core, &mut open);
        let session = open.sessions.begin(named.id, deadline, options.heartbeat, false);
        open.sessions.come_back(named.id);
        match deadline.filter(|_| options.heartbeat == Heartbeat::ByHand) {
            Some(deadline) => {
                open.sessions.countdowns.begin(named.id, deadline, core.options.clock.elapsed())
            }
            None => _ = open.sessions.countdowns.stop(named.id),
        }
        if deadline.is_some() {
            open.sessions.tell(&named.name, SessionEvent::Begun { source: named.id });
            self.write_news(core, &mut open);
        }
        self.see_to_deadlines(core, &mut open, deadline.is_some());
        self.tend_behind_a_claim(core, open, named.id);
        Ok(Claimed { id: named.id, name: named.name, session })
    }

    /// Ends others where no thread does, and whatever becomes of that: the source is there, and has time from now on.
    fn tend_behind_a_claim(&self, core: &Arc<Core>, open: MutexGuard<'_, Open>, source: u8) {
        if matches!(open.pulse, Pulse::Runs(_)) || !self.is_due(core, &open) {
            return;
        }
        drop(open);
        self.tend_for_nobody(core);
        let mut open = self.open.lock();
        open.sessions.countdowns.renew(source, core.options.clock.elapsed());
    }

    /// Sees to it that somebody looks at deadlines, if there are or will be any.
    fn see_to_deadlines(self: &Arc<Self>, core: &Arc<Core>, open: &mut Open, will_be: bool) {
        let wants_a_look = will_be || open.sessions.next().is_some();
        if wants_a_look && matches!(open.pulse, Pulse::NotYet) {
            open.pulse = self.start(core);
        }
        if wants_a_look {
            self.bell.notify_one();
        }
    }

    /// Lets an operation of a session in: a sign of life.
    #[inline]
    pub(crate) fn admit(&self, core: &Core, open: &mut Open, speaker: Speaker<'_>) -> Result<()> {
        let session = open.sessions.session(speaker.source, speaker.session);
        let Some(session) = session.filter(|session| !session.is_held) else {
            return Err(closed(core, speaker.name));
        };
        match (session.deadline, session.heartbeat) {
            (Some(deadline), Heartbeat::ByHand) => self.live_on(core, open, speaker, deadline),
            _ => Ok(()),
        }
    }

    /// Begins a source's countdown anew, and the source itself if it was silent for too long.
    fn live_on(&self, core: &Core, open: &mut Open, speaker: Speaker<'_>, deadline: Duration) -> Result<()> {
        let source = speaker.source;
        if !open.sessions.is_present(source) {
            // Before anything that it says, so that it is ended again by whoever opens the store next.
            let known = core.registry.read().sources().get(&source).cloned();
            let Some(known) = known else { return Err(closed(core, speaker.name)) };
            put_if_changed(core, &SourceInfo { settled: false, ..known.clone() })?;
            open.sessions.come_back(source);
            open.sessions.tell(&known.name, SessionEvent::Begun { source });
        }
        open.sessions.countdowns.begin(source, deadline, core.options.clock.elapsed());
        Ok(())
    }

    /// A sign of life without an operation.
    pub(crate) fn check_in(&self, core: &Arc<Core>, speaker: Speaker<'_>) -> Result<()> {
        core.check_not_forked("say that a source is there")?;
        self.enter_with_a_sign(core, std::iter::once(speaker), Self::enter_beside).map(drop)
    }

    /// The last clone of a session is dropped.
    pub(crate) fn let_go(&self, core: &Core, source: u8, name: &str, number: u64) {
        // In a forked child a thread of the parent, which is not there, may have the lock.
        if core.check_not_forked("let go of a source").is_err() {
            return;
        }
        let mut open = self.open.lock();
        let Some(&mut Session { deadline, is_overdue, .. }) = open.sessions.session(source, number) else {
            return;
        };
        open.sessions.end(source, number);
        let Some(deadline) = deadline else { return };
        open.sessions.tell(name, SessionEvent::Ended { source, because: SessionEnd::Dropped });
        if !is_overdue {
            open.sessions.countdowns.begin(source, deadline, core.options.clock.elapsed());
        }
        drop(open);
        self.bell.notify_one();
    }

    /// True if somebody's time may be up, or there are news to tell.
    #[inline]
    pub(crate) fn is_due(&self, core: &Core, open: &Open) -> bool {
        let Some(next) = open.sessions.next() else { return false };
        // Behind a failure for good nobody can be ended.
        next <= core.options.clock.elapsed() && core.check_writable().is_ok()
    }

    /// When to look at deadlines and news again.
    pub(crate) fn next_look(&self, core: &Core, open: &Open) -> Option<Instant> {
        if matches!(core.options.clock, Clock::Manual(_)) {
            // Its time does not come by itself: whoever moves it wakes whoever waits.
            return None;
        }
        let left = open.sessions.next()?.saturating_sub(core.options.clock.elapsed());
        if core.check_writable().is_err() {
            return None;
        }
        Instant::now().checked_add(left)
    }

    /// Its time is up, and nobody has looked.
    #[inline]
    fn is_late(&self, core: &Core, open: &Open, source: u8) -> bool {
        open.sessions.countdowns.next().is_some()
            && open.sessions.countdowns.has_run_out(source, core.options.clock.elapsed())
    }

    /// Enters to say something for some sessions, which is a sign of life of each. Whoever comes first is told of a flush that failed
    /// while nobody waited: the sign counts, and nothing is said.
    #[inline]
    pub(crate) fn enter_alive<'n>(
        &self,
        core: &Arc<Core>,
        speakers: impl Iterator<Item = Speaker<'n>> + Clone,
        enter: Enter,
    ) -> Result<MutexGuard<'_, Open>> {
        told_of_failure(self.enter_with_a_sign(core, speakers, enter)?)
    }

    /// Enters with a sign of life of some sessions. It counts before anything else is done, and whatever comes of that.
    ///
    /// Only whoever of them is late is ended first. Others are ended on the way if no thread does it.
    pub(crate) fn enter_with_a_sign<'n>(
        &self,
        core: &Arc<Core>,
        speakers: impl Iterator<Item = Speaker<'n>> + Clone,
        enter: Enter,
    ) -> Result<MutexGuard<'_, Open>> {
        let mut open = enter(self, core)?;
        let mut has_late = false;
        for speaker in speakers.clone() {
            if self.is_late(core, &open, speaker.source) {
                has_late = true;
            } else {
                self.admit(core, &mut open, speaker)?;
            }
        }
        if !self.is_due(core, &open) {
            return Ok(open);
        }
        if !has_late && matches!(open.pulse, Pulse::Runs(_)) {
            self.bell.notify_one();
            return Ok(open);
        }
        drop(open);
        let tended = self.tend(core);
        let mut open = enter(self, core)?;
        // That may have taken long.
        for speaker in speakers {
            self.admit(core, &mut open, speaker)?;
        }
        tended.map(|()| open)
    }

    /// Tells presence what is to be told, or a part if that is much. What cannot be told now is told later. Answers whether
    /// there is more that could be told.
    pub(crate) fn write_news(&self, core: &Core, open: &mut Open) -> bool {
        let now = core.options.clock.elapsed();
        open.sessions.news_from = Duration::ZERO;
        for _ in 0..NEWS_AT_ONCE {
            let Some((name, event)) = open.sessions.news.front() else { return false };
            if presence::append(core, name, *event).is_err() {
                open.sessions.news_from = now.saturating_add(Duration::from_secs(1));
                return false;
            }
            open.sessions.news.pop_front();
        }
        !open.sessions.news.is_empty()
    }
}

impl Moved for State {
    fn moved(&self) {
        // Whoever has just looked at the clock, and is about to sleep, is asleep when this has the lock.
        drop(self.open.lock());
        self.bell.notify_all();
    }
}

fn check(who: Who<'_>, options: SourceOptions) -> Result<()> {
    let (Who::Named(name) | Who::Anybody(name)) = who;
    // A name that is made has a number behind it.
    let (least, most) = match who {
        Who::Named(_) => (1, SOURCE_NAME_BYTES_MAX),
        Who::Anybody(_) => (0, SOURCE_NAME_BYTES_MAX - 3),
    };
    if !(least..=most).contains(&name.len()) {
        return Err(Error::new(ErrorKind::InvalidInput, "name a source")
            .sides(format!("{least} to {most} bytes"), name.len()));
    }
    match options.liveness.filter(|liveness| !liveness.is_valid()) {
        Some(liveness) => Err(Error::new(ErrorKind::InvalidInput, format!("claim the source {name:?}"))
            .sides(
                format!("a deadline from {DEADLINE_MIN:?} to {DEADLINE_MAX:?}, in whole milliseconds"),
                format!("{liveness:?}"),
            )),
        None => Ok(()),
    }
}

/// The source that is meant, or a new one; `None`: there is no number for it.
fn choose(core: &Core, open: &Open, who: Who<'_>) -> Option<SourceInfo> {
    let registry = core.registry.read();
    let sources = registry.sources();
    let named = |name: &str| sources.values().find(|source| source.name == name);
    let name = match who {
        Who::Named(name) => match named(name) {
            Some(known) => return Some(known.clone()),
            None => name.to_owned(),
        },
        Who::Anybody(prefix) => {
            let names = (0..=SOURCES_MAX).map(|n| format!("{prefix}-{n}"));
            // There is one more than there are sources.
            names.into_iter().find(|name| named(name).is_none())?
        }
    };
    // A number that was just given back may still be in the hands of whoever does that.
    let is_free = |id: &u8| !sources.contains_key(id) && !open.sessions.is_taken(*id);
    let free = (0u8..).take(SOURCES_MAX).find(is_free)?;
    Some(SourceInfo::new(free, name, core.options.clock.now()))
}

/// Says in the log what a source is, unless it is that already.
pub(crate) fn put_if_changed(core: &Core, source: &SourceInfo) -> Result<()> {
    let is_known = core.registry.read().sources().get(&source.id) == Some(source);
    if is_known { Ok(()) } else { core.put_source(source.clone()) }
}

/// With the first claim of an opening the countdowns begin of all sources that are not settled.
fn begin_counting(core: &Core, open: &mut Open) {
    if std::mem::replace(&mut open.sessions.is_counting, true) {
        return;
    }
    let now = core.options.clock.elapsed();
    for source in core.registry.read().sources().values().filter(|source| !source.settled) {
        if let Some(deadline) = source.liveness.deadline() {
            open.sessions.countdowns.begin(source.id, deadline, now);
        }
    }
}
