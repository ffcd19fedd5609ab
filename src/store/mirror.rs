//! Something outside of the store that is kept equal to a kind, exactly.
//!
//! A *round* brings the target up to what is durable now, in one transaction of it:
//!
//! ```text
//!   ask the target for its token ──► good here, and nothing behind it dropped ──► hand over what has changed since
//!               ▲                          │ otherwise
//!               │                          └────────────────────────────────────► hand over all the rows
//!               └── again: there is more, or something failed
//! ```
//!
//! Nothing but the token in the target says how far the target is. So a round that was interrupted, whoever ended and
//! wherever, is a round that was committed or one that was not, and the next one asks which.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};
use crate::feed::shard::Interest;
use crate::fold::panics::guarded;
use crate::fold::retry::Retry;
use crate::id::{KindId, Position, Seq};
use crate::journal::Journal;
use crate::journal::cursors::{HeldCursor, Hold, region_of};
use crate::journal::reader::Reader;
use crate::journal::region::Region;
use crate::journal::subscriber::Start;
use crate::journal::view::View;
use crate::journal::waiting::{Place, Reading, Stopper, Until, Waiting, wait_until};
use crate::state::door::{Door, renewed};
use crate::state::kind::Kind;
use crate::state::mirroring::{Handed, MirrorChanges, MirrorRows, MirrorTarget};
use crate::state::net::is_dropped_behind;
use crate::state::schema::Bound;
use crate::state::token::{Because, MirrorToken};
use crate::store::Store;

/// While there is always more, the cursor is written down after so many entries of the log.
const SAVE_EVERY: u64 = 1024;

impl Store {
    /// Keeps something outside of the store equal to a kind; see [`Mirror`].
    pub fn mirror<T: DeserializeOwned>(&self, kind: Kind<T>) -> MirrorBuilder<T> {
        MirrorBuilder { door: Door::Store(self.journal.clone()), kind, named: None, hold: Hold::Forever }
    }
}

impl Reader {
    /// Keeps something outside of the store equal to a kind, from another process than the writer's; see [`Mirror`]. It hands
    /// over what is [durable](Reader#what-is-durable), looks for more again and again, with pauses of up to 20 milliseconds,
    /// and goes on when one writer has ended and the next begins. It holds nothing back: a name would be written down.
    ///
    /// The target's token is the store's: whichever process runs the mirror goes on where the last one was.
    pub fn mirror<T: DeserializeOwned>(&self, kind: Kind<T>) -> MirrorBuilder<T> {
        MirrorBuilder { door: Door::Reader(self.clone()), kind, named: None, hold: Hold::Forever }
    }
}

/// How to mirror a kind: [`Store::mirror`] begins it, or [`Reader::mirror`]; [`start`](Self::start) ends it.
#[must_use = "a mirror begins with `start`"]
pub struct MirrorBuilder<T> {
    door: Door,
    kind: Kind<T>,
    named: Option<String>,
    hold: Hold,
}

impl<T: DeserializeOwned> MirrorBuilder<T> {
    /// The name of a cursor that holds back from compaction what the target does not have yet, also while nobody runs the
    /// mirror; [`Journal::retire_cursor`] ends that. Without one the mirror holds nothing back, and hands all the rows over again
    /// when compaction has overtaken it: one that needs longer for that than compaction for its next turn should have a name.
    pub fn named(mut self, cursor: impl Into<String>) -> Self {
        self.named = Some(cursor.into());
        self
    }

    /// How much log the cursor may hold back, if it is new. Past that, all the rows are handed over again. Default:
    /// [`Hold::Forever`].
    pub const fn hold(mut self, hold: Hold) -> Self {
        self.hold = hold;
        self
    }

    /// Begins. The kind is registered if this is its first use, but not beside a writer of another process: there it has no rows
    /// until the writer uses it. The target is not asked yet.
    ///
    /// # Errors
    ///
    /// `Schema` or `KindMismatch` if the type does not fit the kind; `CursorInUse` while something else of this process
    /// has the cursor, `CursorMismatch` if it is about another region, `InvalidInput` for a name over its limit, and for any
    /// beside a writer of another process;
    /// `Poisoned`, `Closed`, `Forked`; and what an append answers; of a reader as [`Reader::view`].
    pub fn start<M: MirrorTarget<T>>(mut self, target: M) -> Result<Mirror<T, M>> {
        self.door.refresh()?;
        let bound = self.door.bind("mirror a kind", self.kind)?;
        let waiting = Waiting::new(self.door.source()?, Until::Durable, Duration::ZERO);
        let cursor = self.named.map(|name| match &self.door {
            Door::Store(journal) => Cursor::hold(journal, bound.id, name, self.hold),
            Door::Reader(_) => Err(no_name(self.kind, &name)),
        });
        Ok(Mirror {
            kind: self.kind,
            target,
            bound,
            waiting,
            cursor: cursor.transpose()?,
            seen: Position::ZERO,
            looked: 0,
            is_behind: true,
            quiet: None,
            shared: Arc::default(),
            retry: Retry::DEFAULT,
        })
    }
}

impl<T> fmt::Debug for MirrorBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MirrorBuilder({:?}, cursor {:?})", self.kind, self.named)
    }
}

/// Keeps a [target](MirrorTarget) outside of the store equal to a kind, exactly: through lags, compaction, failures of the
/// target, and the end of either side at any moment.
///
/// What the target has is the rows of one durable moment, behind a whole flush. It is given what has changed since its token,
/// entity by entity, in one transaction; or, where nobody can tell that (it has no token, compaction has dropped what would tell, the
/// store was restored or repaired, the kind has another schema), all the rows. What a failure left is told
/// by the target's token, which is asked for anew in every round.
///
/// It runs in the thread that calls it, once ([`catch_up`](Self::catch_up)) or until it is stopped
/// ([`run`](Self::run)), and costs a writer nothing. It may be put into a [`WaitSet`](crate::WaitSet). Nothing is gathered:
/// the target takes rows and changes one by one from the mapped log.
///
/// `examples/mirror` in the repository keeps a SQLite file equal to a kind. See [`MirrorTarget`] for a short one.
pub struct Mirror<T, M> {
    kind: Kind<T>,
    target: M,
    bound: Arc<Bound>,
    waiting: Waiting,
    cursor: Option<Cursor>,
    /// Where the log ended in the last round, or look,
    seen: Position,
    /// and its last Seq there.
    looked: u64,
    /// There may be something before that which the target does not have.
    is_behind: bool,
    /// A token of the target, and up to where nothing of the kind came behind it.
    quiet: Option<(MirrorToken, u64)>,
    shared: Arc<Mutex<MirrorStatus>>,
    retry: Retry,
}

/// What a round did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MirrorOutcome {
    /// The target had everything.
    Nothing {
        /// Its token.
        token: MirrorToken,
    },
    /// It was handed all the rows.
    Replaced {
        /// Why its token was not good; `None`: it had none.
        because: Option<Because>,
        /// How many rows there were.
        rows: u64,
        /// Its token now.
        token: MirrorToken,
    },
    /// It was handed what had changed.
    Applied {
        /// How many changes there were.
        changes: u64,
        /// Its token now.
        token: MirrorToken,
    },
}

impl MirrorOutcome {
    /// How far the target has come.
    #[must_use]
    pub const fn token(&self) -> MirrorToken {
        match self {
            Self::Nothing { token } | Self::Replaced { token, .. } | Self::Applied { token, .. } => *token,
        }
    }
}

/// What a mirror has done since it was started.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MirrorStatus {
    /// How far the target had come in the last round that succeeded.
    pub token: Option<MirrorToken>,
    /// How often all the rows were handed over.
    pub replacements: u64,
    /// Why, the last time; `None`: the target had no token.
    pub because: Option<Because>,
    /// How many rows these were together.
    pub rows: u64,
    /// How often changes were.
    pub applications: u64,
    /// How many changes these were together.
    pub changes: u64,
    /// Rounds that failed, or behind which the cursor could not be moved.
    pub failures: u64,
    /// How many of them in a row until now; 0: it goes on.
    pub failing: u32,
    /// Why the last one failed that did.
    pub last_failure: Option<String>,
}

/// Shows from any thread what a mirror is doing.
#[derive(Clone, Debug)]
pub struct MirrorMonitor {
    shared: Arc<Mutex<MirrorStatus>>,
}

impl MirrorMonitor {
    /// What the mirror has done until now.
    #[must_use]
    pub fn status(&self) -> MirrorStatus {
        self.shared.lock().clone()
    }
}

/// What the target is to be given.
enum Due {
    Nothing(MirrorToken),
    Rows(Option<Because>),
    /// What has changed behind this Seq.
    Changes(u64),
}

impl<T: DeserializeOwned, M: MirrorTarget<T>> Mirror<T, M> {
    /// Brings the target up to what was flushed until now, in one transaction of it. What sources have said and no window has
    /// flushed yet is not part of it ([`Store::flush`]).
    ///
    /// # Errors
    ///
    /// `Target` if the target failed or panicked, with its error as the source: the next call begins by asking for its token.
    /// `Corrupt` or `Io` if the log cannot be read: nothing is passed over. `Poisoned` or `Closed` when the log has
    /// ended and the target has all of it that is durable; `Forked`; and, with a cursor, what an append answers.
    pub fn catch_up(&mut self) -> Result<MirrorOutcome> {
        let done = self.round().and_then(|outcome| self.settle().map(|()| outcome));
        match &done {
            Ok(_) => self.note_success(),
            Err(error) => self.note_failure(error),
        }
        done
    }

    /// Keeps the target up to date until the [stopper](Self::stopper) is told to stop, or the store is closed. A round that
    /// failed is tried again, after pauses of 10 milliseconds to 30 seconds; [`monitor`](Self::monitor) shows that.
    ///
    /// # Errors
    ///
    /// What another attempt cannot mend: `Poisoned`; `Corrupt` if the log cannot be read on; `Forked`; and why the last
    /// round failed if the store was closed since.
    pub fn run(&mut self) -> Result<()> {
        while !self.waiting.is_stopped() {
            let Err(error) = self.go_on() else { continue };
            if error.kind() == ErrorKind::Closed {
                // Whoever closes the store stops what runs over it.
                return Ok(());
            }
            self.note_failure(&error);
            if self.is_final(&error) {
                return Err(error);
            }
            // What the target answered is the user's code, also when it is dropped.
            let _ = guarded(|| drop(error));
            self.pause();
        }
        self.settle()
    }

    /// One round, and waits for the next.
    fn go_on(&mut self) -> Result<()> {
        let done = self.round()?.token().token().seq;
        let has_more = self.look()?.is_some();
        let is_far = |cursor: &Cursor| cursor.at.saturating_add(SAVE_EVERY) <= done;
        if !has_more || self.cursor.as_ref().is_some_and(is_far) {
            self.settle()?;
        }
        self.note_success();
        if !has_more {
            wait_until(self, None, Self::look)?;
        }
        Ok(())
    }

    fn is_final(&self, error: &Error) -> bool {
        let kinds = [
            ErrorKind::Poisoned,
            ErrorKind::Forked,
            ErrorKind::Corrupt,
            ErrorKind::UnknownCursor,
            // The writer, in another process, has come to use a newer one.
            ErrorKind::Schema,
        ];
        kinds.contains(&error.kind()) || self.waiting.source().has_stopped()
    }

    /// Waits before the next attempt, at most until stopped, or until the store has ended.
    fn pause(&self) {
        let failing = self.shared.lock().failing;
        let pause = self.retry.pause(failing);
        if self.place().is_polled() {
            self.stopper().pause(pause);
            return;
        }
        let until = Instant::now().checked_add(pause);
        // Nothing that is appended is a reason to try sooner.
        let place = Place { seen: Position::from_word(u64::MAX), has_more: false, ..self.place() };
        let _ = place.wait(until);
    }

    /// Looks whether something of the kind has become durable since, without asking the target.
    fn look(&mut self) -> Result<Option<()>> {
        let view = match self.waiting.view() {
            // The next round opens it again.
            Err(error) if self.waiting.source().has_lost_its_place(&error) => {
                self.is_behind = true;
                return Ok(Some(()));
            }
            view => view?,
        };
        if self.renew()?
            || self.is_behind
            || view.next_of(&Region::Kind(self.bound.id), self.looked) != u64::MAX
        {
            self.is_behind = true;
            return Ok(Some(()));
        }
        self.has_seen(&view, last_seq(&view)?);
        Ok(None)
    }

    fn has_seen(&mut self, view: &View, newest: u64) {
        (self.seen, self.looked, self.is_behind) = (view.end(), newest, false);
    }

    fn note_success(&self) {
        self.shared.lock().failing = 0;
        self.note_failing(0);
    }

    fn note_failure(&mut self, error: &Error) {
        self.is_behind = true;
        // What an error says of itself is the user's code too.
        let why = guarded(|| error.to_string()).unwrap_or_else(|panic| panic);
        let failing = self.shared.lock().failed(why);
        self.note_failing(failing);
    }

    fn note_failing(&self, failing: u32) {
        if let Some(cursor) = &self.cursor {
            cursor.note_failures(failing);
        }
    }

    fn round(&mut self) -> Result<MirrorOutcome> {
        self.waiting.source().check_not_forked("bring the target of a mirror up to now")?;
        if let Some(cursor) = &mut self.cursor {
            cursor.renew_if_lost(self.bound.id)?;
        }
        // Asked before the log is looked at, it is never ahead of that.
        let known = self.ask()?;
        // Where nothing more becomes durable, what is durable is still handed over.
        let waited = self.waiting.source().sync();
        let ended = self.waiting.source().stopped("mirror a kind");
        let view = self.whole_view()?;
        let newest = last_seq(&view)?;
        let token = MirrorToken::of(self.waiting.source().manifest(), &self.bound, newest);
        let outcome = match self.due(known, &view)? {
            Due::Nothing(token) => MirrorOutcome::Nothing { token },
            Due::Rows(because) => {
                let mut rows = MirrorRows::new(self.kind, &self.bound, view.clone(), token);
                self.hand("replace all the rows", &mut rows, M::replace_all)?;
                MirrorOutcome::Replaced { because, rows: rows.taken(), token }
            }
            Due::Changes(from) => {
                let mut changes = MirrorChanges::new(self.kind, &self.bound, view.clone(), from, token);
                self.hand("apply what has changed", &mut changes, M::apply)?;
                MirrorOutcome::Applied { changes: changes.taken(), token }
            }
        };
        // Where nothing had to be told the target may be further than this process knows to be durable.
        self.quiet = Some((outcome.token(), newest.max(outcome.token().token().seq)));
        self.has_seen(&view, newest);
        self.shared.lock().succeeded(&outcome);
        ended.map_or(waited, Err).map(|()| outcome)
    }

    /// The log up to what is durable, of which nothing goes while it is handed over, and what the kind means in it.
    fn whole_view(&mut self) -> Result<View> {
        let mut viewed = self.waiting.source().whole_durable_view();
        if viewed.as_ref().is_err_and(|error| self.waiting.source().has_lost_its_place(error)) {
            self.waiting.source_mut().open_again()?;
            viewed = self.waiting.source().whole_durable_view();
        }
        let view = viewed?;
        self.renew()?;
        Ok(view)
    }

    /// What the kind means by now. True: something else than before.
    fn renew(&mut self) -> Result<bool> {
        let Some(bound) = renewed(self.waiting.source(), &self.bound)? else { return Ok(false) };
        self.bound = bound;
        Ok(true)
    }

    fn due(&self, known: Option<MirrorToken>, view: &View) -> Result<Due> {
        let Some(token) = known else { return Ok(Due::Rows(None)) };
        let source = self.waiting.source();
        // It was durable when it was given out, also where this process does not know that yet.
        let newest = last_seq(&source.view()?)?;
        if let Some(because) = token.trouble(source.manifest(), &self.bound, newest) {
            return Ok(Due::Rows(Some(because)));
        }
        let from = match self.quiet {
            Some((known, through)) if known == token => through,
            _ => token.token().seq,
        };
        if is_dropped_behind(view, self.bound.id, from) {
            return Ok(Due::Rows(Some(Because::Compacted)));
        }
        if view.next_of(&Region::Kind(self.bound.id), from) == u64::MAX {
            return Ok(Due::Nothing(token));
        }
        Ok(Due::Changes(from))
    }

    fn ask(&mut self) -> Result<Option<MirrorToken>> {
        let target = &mut self.target;
        let asked = guarded(|| target.token().map_err(Into::into));
        let error = match asked {
            Ok(Ok(token)) => return Ok(token),
            Ok(Err(error)) => failed(self.kind, "ask for the token").because(error),
            Err(panic) => failed(self.kind, "ask for the token").because(panic),
        };
        Err(error)
    }

    /// One transaction of the target.
    fn hand<H: Handed>(
        &mut self,
        doing: &str,
        handed: &mut H,
        call: impl FnOnce(&mut M, &mut H) -> Result<(), M::Error>,
    ) -> Result<()> {
        let target = &mut self.target;
        let done = guarded(|| call(target, handed).map_err(Into::into));
        // Whatever the target made of it, the cause is the store's.
        if let Some(error) = handed.failure() {
            let _ = guarded(|| drop(done));
            return Err(error);
        }
        let error = failed(self.kind, doing);
        let error = match done {
            Ok(Ok(())) if handed.is_signed() => return Ok(()),
            Ok(Ok(())) => error.sides("a transaction that stores the token", "one that did not take it"),
            Ok(Err(cause)) => error.because(cause),
            Err(panic) => error.because(panic),
        };
        Err(match handed.last() {
            Some(last) => error.noting(last),
            None => error,
        })
    }

    /// Writes down how far the target has come, if a cursor holds back what it does not have.
    fn settle(&mut self) -> Result<()> {
        let token = self.shared.lock().token;
        match (&mut self.cursor, token) {
            (Some(cursor), Some(token)) => cursor.move_to(token.token().seq),
            _ => Ok(()),
        }
    }
}

impl<T, M> Mirror<T, M> {
    /// The target. What is changed in it behind the mirror's back stays as it is until its entity changes.
    pub fn target(&self) -> &M {
        &self.target
    }

    /// The target, to be changed.
    pub fn target_mut(&mut self) -> &mut M {
        &mut self.target
    }

    /// Ends the mirror, and gives the target back.
    pub fn into_target(self) -> M {
        self.target
    }

    /// Ends [`run`](Self::run), from any thread: behind the round that is under way, or the pause.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.waiting.stopper()
    }

    /// Shows from any thread what it is doing.
    #[must_use]
    pub fn monitor(&self) -> MirrorMonitor {
        MirrorMonitor { shared: Arc::clone(&self.shared) }
    }

    /// What it has done since it was started.
    #[must_use]
    pub fn status(&self) -> MirrorStatus {
        self.shared.lock().clone()
    }
}

/// It has something for its reader until [`catch_up`](Mirror::catch_up) has succeeded: whoever tries again at once where the target
/// fails does not pause.
impl<T, M> Reading for Mirror<T, M> {
    fn place(&self) -> Place<'_> {
        let interest = Interest::of_kind(self.bound.id.0);
        Place { waiting: &self.waiting, interest, seen: self.seen, has_more: self.is_behind }
    }
}

impl<T, M> fmt::Debug for Mirror<T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mirror({:?}, behind {})", self.kind, self.looked)
    }
}

impl MirrorStatus {
    fn succeeded(&mut self, outcome: &MirrorOutcome) {
        self.token = Some(outcome.token());
        match *outcome {
            MirrorOutcome::Nothing { .. } => {}
            MirrorOutcome::Replaced { because, rows, .. } => {
                self.replacements += 1;
                self.because = because;
                self.rows += rows;
            }
            MirrorOutcome::Applied { changes, .. } => {
                self.applications += 1;
                self.changes += changes;
            }
        }
    }

    /// Answers how often in a row.
    fn failed(&mut self, why: String) -> u32 {
        self.failures += 1;
        self.failing = self.failing.saturating_add(1);
        self.last_failure = Some(why);
        self.failing
    }
}

fn no_name<T>(kind: Kind<T>, name: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("mirror the kind {:?} under the name {name:?}", kind.name()))
        .sides("the process that writes the store, which writes down where a cursor is", "a reader beside it")
        .noting("leave the name out: the target's token says how far it is".to_owned())
}

fn failed<T>(kind: Kind<T>, doing: &str) -> Error {
    Error::new(ErrorKind::Target, format!("{doing}, in the target of a mirror of the kind {:?}", kind.name()))
}

fn last_seq(view: &View) -> Result<u64> {
    Ok(view.last_seq()?.map_or(0, Seq::get))
}

/// What holds back from compaction what the target does not have.
struct Cursor {
    journal: Journal,
    name: String,
    hold: Hold,
    /// `None`: compaction has left it behind, and it was not put back yet.
    held: Option<HeldCursor>,
    /// Where it is.
    at: u64,
}

impl Cursor {
    fn hold(journal: &Journal, kind: KindId, name: String, hold: Hold) -> Result<Self> {
        let (held, at) = take(journal, kind, &name, hold)?;
        Ok(Self { journal: journal.clone(), name, hold, held: Some(held), at })
    }

    /// What was lost is lost: what comes from now on is held back.
    fn renew_if_lost(&mut self, kind: KindId) -> Result<()> {
        if self.held.as_ref().is_some_and(|held| !held.is_lost()) {
            return Ok(());
        }
        // Whoever puts it back takes it in hand.
        self.held = None;
        let (held, at) = take(&self.journal, kind, &self.name, self.hold)?;
        (self.held, self.at) = (Some(held), at);
        Ok(())
    }

    fn move_to(&mut self, seq: u64) -> Result<()> {
        // A target that was put back to an earlier token is behind it.
        if seq > self.at
            && let Some(held) = &self.held
        {
            held.move_to(seq)?;
            self.at = seq;
        }
        Ok(())
    }

    fn note_failures(&self, count: u32) {
        self.held.iter().for_each(|held| held.note_failures(count));
    }
}

/// Takes the cursor of a mirror in hand. One that is new begins with what comes from now on: the rows that there are are
/// handed over as of a later moment.
fn take(journal: &Journal, kind: KindId, name: &str, hold: Hold) -> Result<(HeldCursor, u64)> {
    let core = journal.appending();
    let region = Region::Kind(kind);
    let take = || {
        let _steady = core.compacting.steady.read();
        HeldCursor::hold(core, name, &region, hold, Start::Newest)
    };
    let is_its_own =
        || core.registry.read().cursors.get(name).is_some_and(|known| region_of(known) == region);
    match take() {
        // The target's token tells the same: what lies before is not needed.
        Err(error) if matches!(error.kind(), ErrorKind::EraChanged | ErrorKind::Lost) && is_its_own() => {
            journal.reset_cursor(name, Start::Newest)?;
            take()
        }
        taken => taken,
    }
}
