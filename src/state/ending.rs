//! What becomes of that which a source asserted: when it was silent for too long, is closed, or is retired.
//!
//! Its rows are looked for in a view, kind by kind, and its bit is taken from them batch by batch, so that memory
//! holds one batch and nobody waits for more than one. What the source says meanwhile stays said, unless somebody holds
//! it to close or to retire it. Only behind the last batch does a frame say that the source is *settled*. So a crash in
//! between is rolled forward: the source has its deadline still, and is ended by whoever opens the store next, from that
//! opening's first claim on.
//!
//! Rows are left as they were written, with the version of their schema: no type is needed for it, and no step runs.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result, entity_text};
use crate::format::frame::flag;
use crate::format::index::EntityHash;
use crate::format::source::{SOURCES_MAX, SourceInfo};
use crate::format::system::{KindInfo, Owner};
use crate::journal::core::Core;
use crate::journal::view::View;
use crate::state::endings::{Ending, Round, Whose};
use crate::state::engine::{Open, State, touch};
use crate::state::liveness::Countdown;
use crate::state::operations::operation_bytes;
use crate::state::pending::{Base, BaseMetadata, BaseRow, Pending, Saying, Utterance, frame_bytes};
use crate::state::presence::{SessionEnd, SessionEvent};
use crate::state::reading::{SourceSet, Walk};
use crate::state::row::Said;
use crate::state::schema::Bound;
use crate::state::sessions::{Speaker, put_if_changed};

/// What is to become of that which a source asserts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Closing {
    /// It is taken back, as if the source retracted each entity. In a stream of [events](crate::Event::is_synthetic) these are
    /// none of the source's own.
    Retract,
    /// It stays asserted, also of a source with a deadline: until the source's next session, and what becomes of that.
    Preserve,
}

/// So many rows are looked at before the keys that were gathered are dealt with.
const ROWS_AT_ONCE: u64 = 4096;

impl State {
    /// Ends who was silent for too long, and tells presence.
    pub(crate) fn tend(&self, core: &Arc<Core>) -> Result<()> {
        let Some(round) = self.begin_endings(core)? else { return Ok(()) };
        let ended = self.take_back(core, Whose::Ended(round));
        let came = ended.as_ref().map_or(Came::NotYet, Taken::came);
        let finished = self.finish_endings(core, round, came);
        ended.and_then(Taken::all).and(finished)
    }

    /// Begins to end those whose time is up, and tells presence. `None`: there is nobody.
    fn begin_endings(&self, core: &Core) -> Result<Option<Round>> {
        let mut open = self.enter_whatever_failed(core)?;
        let due = open.sessions.countdowns.take_due(core.options.clock.elapsed());
        let round = open.sessions.endings.round();
        for source in due.ids() {
            begin_ending(core, &mut open, round, source);
        }
        self.write_news(core, &mut open);
        let is_empty = open.sessions.endings.sources(Whose::Ended(round)).is_empty();
        Ok((!is_empty).then_some(round))
    }

    /// Says of those who were ended, and did not come back meanwhile, that they are settled; or tries it again later.
    fn finish_endings(&self, core: &Core, round: Round, came: Came) -> Result<()> {
        let mut finished = Ok(());
        let mut open = self.open.lock();
        for ending in open.sessions.endings.finish(round) {
            finished = finished.and(finish_ending(core, &mut open, &ending, came));
        }
        drop(open);
        // There may be a deadline to look at earlier than before.
        self.bell.notify_one();
        finished
    }

    /// Ends who was silent for too long, if there may be anybody.
    pub(crate) fn tend_if_due(&self, core: &Arc<Core>) -> Result<()> {
        core.check_not_forked("look at deadlines")?;
        let is_due = {
            let open = self.open.lock();
            self.is_due(core, &open)
        };
        if is_due { self.tend(core) } else { Ok(()) }
    }

    /// The same for nobody: whoever comes next is told of a failure.
    pub(crate) fn tend_for_nobody(&self, core: &Arc<Core>) {
        if let Err(error) = self.tend_if_due(core) {
            self.open.lock().untold.put(error);
        }
    }

    /// Takes back what some sources assert, but for entities that cannot be read or gone on with.
    fn take_back(&self, core: &Arc<Core>, whose: Whose) -> Result<Taken> {
        // What is pending is in the view.
        self.append(core)?;
        let of = self.open.lock().sessions.endings.sources(whose);
        let view = core.view();
        let mut taken = Taken::default();
        for kind in kinds_of_rows(core) {
            let bound = Arc::new(Bound::as_written(core, &kind));
            let mut walk = Walk::new(view.clone(), kind.id);
            let mut is_spent = false;
            while !is_spent {
                let mut keys = Vec::new();
                for _ in 0..ROWS_AT_ONCE {
                    match step(&mut walk, of) {
                        Ok(Step::Asserted(key)) => keys.push(key),
                        Ok(Step::Passed) => {}
                        Ok(Step::Spent) => is_spent = true,
                        Err(error) if error.seqs().is_some() => taken.leave(error),
                        Err(error) => return Err(error),
                    }
                    if is_spent {
                        break;
                    }
                }
                self.take_back_of(core, &bound, whose, &keys, &mut taken)?;
            }
        }
        Ok(taken)
    }

    /// Takes some entities from sources that still assert them, in as few batches as take them.
    pub(crate) fn take_back_of(
        &self,
        core: &Arc<Core>,
        bound: &Arc<Bound>,
        whose: Whose,
        keys: &[Box<[u8]>],
        taken: &mut Taken,
    ) -> Result<()> {
        let mut left = keys;
        while !left.is_empty() {
            let mut open = self.enter_whatever_failed(core)?;
            left = self.take_back_at_once(core, &mut open, (bound, whose), left, taken)?;
        }
        // Whoever walks for long in the thread of windows sees to those in between, and ends when the store does.
        self.flush_if_due(core);
        self.enter_whatever_failed(core).map(drop)
    }

    /// One batch of that, under the lock. Answers the keys that are left.
    fn take_back_at_once<'k>(
        &self,
        core: &Arc<Core>,
        open: &mut Open,
        (bound, whose): (&Arc<Bound>, Whose),
        keys: &'k [Box<[u8]>],
        taken: &mut Taken,
    ) -> Result<&'k [Box<[u8]>]> {
        self.append_in(core, open)?;
        let most = core.options.batch_bytes_max();
        let view = core.view();
        let mut window = open.window.successor();
        let (mut left, mut entities) = (keys, 0);
        while let Some((key, rest)) = left.split_first() {
            let hash = core.index.hash(bound.id.get(), key);
            let base = match base_as_written(&view, bound, hash, key) {
                Ok(base) => base,
                // A row that is damaged is gone, and holds up no other.
                Err(error) if error.seqs().is_some() => {
                    taken.leave(error);
                    left = rest;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let sources = SourceSet(open.sessions.endings.to_take_back(whose, hash).bits() & base.sources);
            // One whose operations cannot be gone on with holds up no other.
            let can_go_on = bound.events.map_or(Ok(()), |events| touch(core, events, key));
            if let Err(error) = can_go_on {
                taken.left_a_row |= base.alive && !sources.is_empty();
                taken.leave(error);
            } else if base.alive && !sources.is_empty() {
                let told =
                    bound.events.map_or(0, |_| sources.len() as u64 * operation_bytes(key.len(), 0, 0));
                let bytes = frame_bytes(key.len(), base.metadata.bytes().len(), base.row().len()) + told;
                if entities > 0 && window.bytes() + bytes > most {
                    break;
                }
                let entity = window.enter(Pending::at_rest(bound, hash, key, base, None));
                for source in sources.ids() {
                    let (saying, suppressed) = (Saying::Retract, flag::SYNTHETIC);
                    window.say(entity, &Utterance { source, saying, metadata: &[], suppressed });
                }
                entities += 1;
            }
            left = rest;
        }
        open.window.take_over(window);
        let appended = self.append_in(core, open);
        // They are there as they were written, not as a kind's type wants them.
        open.recent.forget();
        if let Err(error) = appended {
            // What answers an error was not taken.
            open.window.withdraw();
            return Err(error);
        }
        taken.entities += entities;
        Ok(left)
    }

    /// Closes a session, and decides at once what becomes of what it asserts. Answers of how many entities that was
    /// taken back.
    pub(crate) fn close_session(
        &self,
        core: &Arc<Core>,
        speaker: Speaker<'_>,
        closing: Closing,
        gives_back: bool,
    ) -> Result<u64> {
        core.check_not_forked("close a session")?;
        let Speaker { source, session, name } = speaker;
        let stopped = {
            let mut open = self.enter_whatever_failed(core)?;
            if !open.sessions.set_held(source, session, true) {
                return Err(closed(core, name));
            }
            Stopped::of(&mut open, source)
        };
        let decided = self.decide(core, source, closing, gives_back);
        {
            let mut open = self.open.lock();
            if decided.is_err() {
                open.sessions.set_held(source, session, false);
                stopped.go_on(core, &mut open, source);
                self.bell.notify_one();
            } else {
                self.part(core, &mut open, source, session);
            }
        }
        let taken = decided?;
        self.flush_alone(core)?;
        Ok(taken)
    }

    /// Ends the session of a source of which everything is decided.
    fn part(&self, core: &Core, open: &mut Open, source: u8, session: u64) {
        // The first claim of an opening may have begun both meanwhile. The number may be another source's from here on.
        Stopped::of(open, source);
        open.sessions.end(source, session);
        open.epochs.abandon(source);
        self.write_news(core, open);
    }

    /// Does with what a source asserts what is to become of it, while nobody speaks for it, and says so in the log.
    fn decide(&self, core: &Arc<Core>, source: u8, closing: Closing, retires: bool) -> Result<u64> {
        let taken = match closing {
            Closing::Preserve => self.append(core).map(|_| 0)?,
            Closing::Retract => self.take_back(core, Whose::Held(source)).and_then(Taken::all)?,
        };
        let Some(known) = core.registry.read().sources().get(&source).cloned() else { return Ok(taken) };
        let has_deadline = known.liveness.deadline().is_some();
        if retires && closing == Closing::Retract {
            core.put_source(SourceInfo { retired: true, ..known.clone() })?;
        } else if has_deadline {
            put_if_changed(core, &SourceInfo { settled: true, ..known.clone() })?;
        }
        if has_deadline {
            let event = SessionEvent::Ended { source, because: SessionEnd::Closed };
            self.open.lock().sessions.tell(&known.name, event);
        }
        Ok(taken)
    }

    /// Frees the number and the name of a source that nobody has.
    pub(crate) fn retire(&self, core: &Arc<Core>, name: &str, closing: Closing) -> Result<u64> {
        core.check_not_forked("retire a source")?;
        let doing = || format!("retire the source {name:?}");
        let (source, held, stopped) = {
            let mut open = self.enter_whatever_failed(core)?;
            let registry = core.registry.read();
            let known = registry.sources().values().find(|source| source.name == name);
            let Some(source) = known.map(|source| source.id) else {
                return Err(Error::new(ErrorKind::InvalidInput, doing())
                    .at(core.directory.path())
                    .sides("the name of a source of this store", "one that no source has"));
            };
            if open.sessions.is_taken(source) {
                return Err(Error::new(ErrorKind::SourceClaimed, doing()).at(core.directory.path()));
            }
            (source, open.sessions.hold(source), Stopped::of(&mut open, source))
        };
        let retired = self.check_and_retire(core, source, closing, &doing);
        {
            let mut open = self.open.lock();
            if retired.is_err() {
                open.sessions.end(source, held);
                stopped.go_on(core, &mut open, source);
                self.bell.notify_one();
            } else {
                self.part(core, &mut open, source, held);
            }
        }
        let taken = retired?;
        self.flush_alone(core)?;
        Ok(taken)
    }

    fn check_and_retire(
        &self,
        core: &Arc<Core>,
        source: u8,
        closing: Closing,
        doing: &dyn Fn() -> String,
    ) -> Result<u64> {
        if closing == Closing::Preserve {
            self.append(core)?;
            if let Some((kind, key)) = asserted_by(core, SourceSet(1 << (source % 64)))? {
                let entity = entity_text(&kind, &key);
                return Err(Error::new(ErrorKind::Conflict, doing())
                    .at(core.directory.path())
                    .sides("a source that asserts nothing", format!("one that asserts {entity}"))
                    .noting("retire it with `Closing::Retract`, which takes that back first".to_owned()));
            }
        }
        // Nothing is asserted any more in either case: behind this there is no bit of the number anywhere.
        self.decide(core, source, Closing::Retract, true)
    }

    /// Why no source can be claimed that has none of the numbers yet.
    pub(crate) fn no_number(&self, core: &Arc<Core>) -> Error {
        let leaving = self.open.lock().sessions.taken();
        let now = core.options.clock.now();
        let names = |newest: &Newest| {
            let what = |id: u8| match newest.get(usize::from(id)) {
                Some(&(rows, time)) if rows > 0 => {
                    let ago = Duration::from_nanos(u64::try_from(now.saturating_sub(time)).unwrap_or(0));
                    format!("asserts {rows} rows, the last of them written {} s ago", ago.as_secs())
                }
                _ => "asserts nothing".to_owned(),
            };
            let registry = core.registry.read();
            let known = registry.sources();
            let named = known.values().map(|source| format!("{} ({})", source.name, what(source.id % 64)));
            // Whoever asks again soon may have it.
            let given_back = leaving.ids().filter(|id| !known.contains_key(id));
            let sources: Vec<String> =
                named.chain(given_back.map(|id| format!("number {id} (being given back)"))).collect();
            sources.join(", ")
        };
        match self.append(core).and_then(|_| newest_of_each(core)) {
            Err(error) => error,
            Ok(newest) => Error::new(ErrorKind::LimitReached, "claim a source")
                .at(core.directory.path())
                .sides(format!("at most {SOURCES_MAX} sources"), format!("all taken: {}", names(&newest)))
                .noting("`Store::retire_source` frees one that is needed no more".to_owned()),
        }
    }
}

/// The session was closed.
#[cold]
pub(crate) fn closed(core: &Core, name: &str) -> Error {
    let doing = format!("use a session of the source {name:?} that was closed");
    Error::new(ErrorKind::SourceEnded, doing).at(core.directory.path())
}

/// The epoch was abandoned before its commit.
#[cold]
pub(crate) fn abandoned(core: &Core, name: &str, kind: &str) -> Error {
    let doing = format!("commit an epoch of the source {name:?} and the kind {kind:?} that was abandoned");
    Error::new(ErrorKind::SourceEnded, doing).at(core.directory.path()).sides(
        "a source that is there, and no other epoch",
        "one that was silent for longer than its deadline since it began, or was closed, or has begun another in its place",
    )
}

/// What was taken from sources.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    entities: u64,
    /// Why something was left.
    left: Option<Error>,
    /// A row was left that is whole itself.
    left_a_row: bool,
}

/// How far an ending came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    ToAnEnd,
    /// What is left can be had by nobody in this opening. It can be when the store was repaired.
    NoFurther,
    /// It is tried again.
    NotYet,
}

impl Taken {
    fn came(&self) -> Came {
        match &self.left {
            Some(error) if !error.is_corruption() => Came::NotYet,
            _ if self.left_a_row => Came::NoFurther,
            // A row that is damaged is gone.
            _ => Came::ToAnEnd,
        }
    }

    /// Why something was left that may be had the next time.
    pub(crate) fn is_to_be_tried_again(&mut self) -> Option<Error> {
        self.left.take_if(|error| !error.is_corruption())
    }

    /// Of two reasons that counts which may be none the next time.
    pub(crate) fn leave(&mut self, error: Error) {
        if self.left.as_ref().is_none_or(Error::is_corruption) {
            self.left = Some(error);
        }
    }

    /// How many entities, if nothing was left.
    pub(crate) fn all(self) -> Result<u64> {
        self.left.map_or(Ok(self.entities), Err)
    }
}

/// What ran towards the end of a source when somebody took it in hand.
#[derive(Debug)]
struct Stopped {
    countdown: Option<Countdown>,
    ending: Option<Ending>,
}

impl Stopped {
    /// Stops it: what becomes of the source is decided by whoever has it.
    fn of(open: &mut Open, source: u8) -> Self {
        let Open { sessions, .. } = open;
        Self { countdown: sessions.countdowns.stop(source), ending: sessions.endings.cancel(source) }
    }

    /// Nothing was decided: its time runs on, and an ending that ran begins again a heartbeat later.
    fn go_on(self, core: &Core, open: &mut Open, source: u8) {
        let (now, countdowns) = (core.options.clock.elapsed(), &mut open.sessions.countdowns);
        if let Some(deadline) = self.ending.filter(|ending| !ending.is_overtaken).and_then(|it| it.deadline) {
            countdowns.postpone(source, deadline, now);
        }
        if let Some(countdown) = self.countdown {
            countdowns.go_on(source, countdown);
            countdowns.take_up(source, now);
        }
    }
}

fn begin_ending(core: &Core, open: &mut Open, round: Round, source: u8) {
    let registry = core.registry.read();
    let Some(known) = registry.sources().get(&source) else { return };
    let deadline = known.liveness.deadline();
    if open.sessions.endings.begin(round, source, deadline) {
        open.epochs.abandon(source);
        open.sessions.set_overdue(source, true);
        open.sessions.tell(&known.name, SessionEvent::Ended { source, because: SessionEnd::Deadline });
    } else if let Some(deadline) = deadline {
        // It came back while it was being ended, and has fallen silent again before that is done.
        open.sessions.countdowns.put_off(source, deadline);
    }
}

fn finish_ending(core: &Core, open: &mut Open, ending: &Ending, came: Came) -> Result<()> {
    let now = core.options.clock.elapsed();
    if ending.is_overtaken {
        open.sessions.countdowns.take_up(ending.source, now);
        return Ok(());
    }
    let known = core.registry.read().sources().get(&ending.source).cloned();
    let put = match known.filter(|_| came == Came::ToAnEnd) {
        Some(known) => put_if_changed(core, &SourceInfo { settled: true, ..known }),
        None => Ok(()),
    };
    if let Some(deadline) = ending.deadline.filter(|_| came == Came::NotYet || put.is_err()) {
        open.sessions.countdowns.postpone(ending.source, deadline, now);
    }
    put
}

/// The kinds that have rows.
fn kinds_of_rows(core: &Core) -> Vec<Arc<KindInfo>> {
    let registry = core.registry.read();
    registry.iter().filter(|kind| kind.owner == Owner::State).cloned().collect()
}

/// What the next row is to some sources.
enum Step {
    /// One of them asserts it: its key.
    Asserted(Box<[u8]>),
    /// None of them asserts it.
    Passed,
    /// There is no more.
    Spent,
}

fn step(walk: &mut Walk, of: SourceSet) -> Result<Step> {
    if !walk.advance()? {
        return Ok(Step::Spent);
    }
    let Some(entry) = walk.entry() else { return Ok(Step::Passed) };
    let is_asserted = Said::of(&entry)?.mark.sources & of.bits() != 0;
    Ok(if is_asserted { Step::Asserted(entry.key().into()) } else { Step::Passed })
}

/// By the number of a source: how many rows it asserts, and when the newest of them was written, in nanoseconds since 1970.
type Newest = [(u64, i64); SOURCES_MAX];

/// Goes through all rows: for a person who has to choose.
fn newest_of_each(core: &Core) -> Result<Newest> {
    let mut newest = [(0, i64::MIN); SOURCES_MAX];
    for kind in kinds_of_rows(core) {
        let mut walk = Walk::new(core.view(), kind.id);
        while walk.advance()? {
            let Some(entry) = walk.entry() else { continue };
            for id in SourceSet(Said::of(&entry)?.mark.sources).ids() {
                if let Some((rows, time)) = newest.get_mut(usize::from(id)) {
                    (*rows, *time) = (*rows + 1, entry.time().max(*time));
                }
            }
        }
    }
    Ok(newest)
}

/// Something that one of some sources asserts, if any does: its kind and its key.
fn asserted_by(core: &Core, of: SourceSet) -> Result<Option<(String, Box<[u8]>)>> {
    for kind in kinds_of_rows(core) {
        let mut walk = Walk::new(core.view(), kind.id);
        loop {
            match step(&mut walk, of)? {
                Step::Asserted(key) => return Ok(Some((kind.name.clone(), key))),
                Step::Passed => {}
                Step::Spent => break,
            }
        }
    }
    Ok(None)
}

/// How an entity is in the log, its row as it was written.
fn base_as_written(view: &View, bound: &Bound, hash: EntityHash, key: &[u8]) -> Result<Base> {
    let Some(entry) = view.latest_of(hash, bound.id, key)? else { return Ok(Base::default()) };
    let said = Said::of(&entry)?;
    let row = if said.is_alive() { BaseRow::Logged(entry.to_owned()) } else { BaseRow::None };
    Ok(Base {
        alive: said.is_alive(),
        version: said.version,
        generation: entry.generation().get(),
        sources: said.mark.sources,
        metadata: if said.is_alive() { BaseMetadata::of(&entry) } else { BaseMetadata::default() },
        row,
        schema: said.mark.schema,
        is_stuck: false,
    })
}

#[cfg(test)]
mod tests;
