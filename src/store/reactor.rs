//! The threads that react, and the handles that stop them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::ThreadId;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::backplane::CellState;
use crate::error::{Error, ErrorKind, Result};
use crate::fold::panics;
use crate::fold::retry::Retry;
use crate::id::{Position, Seq};
use crate::journal::core::Core;
use crate::journal::entry::Entry;
use crate::journal::subscriber::{Item, Subscriber};
use crate::journal::tasks::Progress as Done;
use crate::journal::waiting::Stopper;
use crate::journal::watcher::Watcher;
use crate::store::Store;
use crate::store::batch::{AppendedAll, StoreBatch};
use crate::store::react::{Out, Reaction};
use crate::trace;

/// What was reacted to and put nothing out is written down after this long without more.
const SAVE_AFTER: Duration = Duration::from_secs(1);
/// And after so many entries, which is also how far what was put out may be ahead of the disk.
const SAVE_EVERY: u64 = 1024;

/// What a reactor is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReactorState {
    /// It reacts, or waits for more.
    Running,
    /// This entry failed so often in a row, and will be tried again.
    Retrying {
        /// The entry.
        seq: Seq,
        /// How often it failed.
        failures: u32,
    },
    /// It was stopped, or the store was closed.
    Stopped,
    /// It cannot go on; [`Reactor::join`] says why.
    Failed,
}

/// What a reactor has done since it was started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReactorStatus {
    /// What it is doing.
    pub state: ReactorState,
    /// Entries that it has reacted to.
    pub reactions: u64,
    /// Facts that it has appended.
    pub appended: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Entries that a lossy reactor was not fast enough for, or could not read.
    pub missed: u64,
    /// Why the last attempt failed that did, or the reactor ended.
    pub last_failure: Option<String>,
}

/// A reactor that runs in a thread of its own; see [`Store::react`].
///
/// It goes on when the handle is dropped, until the store is closed.
pub struct Reactor {
    shared: Arc<Shared>,
    stopper: Stopper,
    core: Arc<Core>,
}

/// What the handle sees of the thread.
#[derive(Debug)]
pub(crate) struct Shared {
    name: String,
    thread: Mutex<Option<ThreadId>>,
    progress: Mutex<Progress>,
    ended: Condvar,
}

#[derive(Debug)]
struct Progress {
    status: ReactorStatus,
    error: Option<Error>,
}

impl Reactor {
    /// Tells it to end, behind the reaction that is under way.
    pub fn stop(&self) {
        self.stopper.stop();
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    ///
    /// Why it ended, if nobody stopped it: `ReactionLoop`, `Poisoned`, `UnknownCursor`, or damage of
    /// the log that it cannot read past. `WouldDeadlock` in its own reaction; `Forked` in a child, which has
    /// no such thread.
    pub fn join(self) -> Result<()> {
        self.core.check_not_forked("wait for the end of a reactor")?;
        if *self.shared.thread.lock() == Some(std::thread::current().id()) {
            let doing = format!("wait for the end of the reactor {:?}", self.shared.name);
            return Err(Error::new(ErrorKind::WouldDeadlock, doing));
        }
        let mut progress = self.shared.progress.lock();
        while !matches!(progress.status.state, ReactorState::Stopped | ReactorState::Failed) {
            self.shared.ended.wait(&mut progress);
        }
        progress.error.take().map_or(Ok(()), Err)
    }

    /// What it is doing, and has done.
    #[must_use]
    pub fn status(&self) -> ReactorStatus {
        self.shared.progress.lock().status.clone()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reactor({:?}, {:?})", self.name(), self.status().state)
    }
}

impl Shared {
    fn new(name: &str) -> Self {
        let status = ReactorStatus {
            state: ReactorState::Running,
            reactions: 0,
            appended: 0,
            failures: 0,
            missed: 0,
            last_failure: None,
        };
        let progress = Mutex::new(Progress { status, error: None });
        Self { name: name.to_owned(), thread: Mutex::default(), progress, ended: Condvar::new() }
    }

    fn note(&self, change: impl FnOnce(&mut ReactorStatus)) {
        change(&mut self.progress.lock().status);
    }

    fn reacted(&self, appended: usize) {
        self.note(|status| {
            status.state = ReactorState::Running;
            status.reactions += 1;
            status.appended += appended as u64;
        });
    }

    fn failed(&self, why: String, state: ReactorState) {
        if let ReactorState::Retrying { seq, failures } = state {
            trace::reactor_stuck(&self.name, seq.get(), failures, &why);
        }
        self.note(|status| {
            status.state = state;
            status.failures += 1;
            status.last_failure = Some(why);
        });
    }

    fn end(&self, outcome: Result<()>) {
        let mut progress = self.progress.lock();
        // Who closes the store stops what runs over it.
        let error = outcome.err().filter(|error| error.kind() != ErrorKind::Closed);
        progress.status.state = if error.is_some() { ReactorState::Failed } else { ReactorState::Stopped };
        if let Some(error) = &error {
            progress.status.last_failure = Some(error.to_string());
        }
        progress.error = error;
        self.ended.notify_all();
    }
}

/// What runs in the thread of a reactor.
pub(crate) trait Work: Send + 'static {
    fn run(self) -> Result<()>;

    /// Where it says how far it has come, if somebody has to know.
    fn progress(&self) -> Option<Done> {
        None
    }
}

/// Starts a thread for `work`.
pub(crate) fn start<W: Work>(
    store: &Store,
    name: &str,
    stopper: Stopper,
    work: impl FnOnce(Arc<Shared>) -> W,
) -> Result<Reactor> {
    let shared = Arc::new(Shared::new(name));
    let work = work(Arc::clone(&shared));
    let progress = work.progress();
    let theirs = Arc::clone(&shared);
    let run = move || {
        *theirs.thread.lock() = Some(std::thread::current().id());
        // The closure's panics are caught where it is called; one of ours, or of what is dropped with the
        // closure, must not leave a handle waiting.
        theirs.end(guarded(&theirs.name, || work.run()).and_then(|outcome| outcome));
    };
    let core = Arc::clone(store.journal.appending());
    core.tasks.start("esker-reactor", stopper.clone(), progress, run)?;
    Ok(Reactor { shared, stopper, core })
}

/// Why a reaction came to nothing.
enum Failure {
    /// It may be tried again.
    Again(String),
    /// The reactor cannot go on.
    Ends(Error),
}

/// Calls the user's code, whose panics are its own.
fn call<'s, F>(
    reaction: &F,
    store: &'s Store,
    name: &'s str,
    entry: Entry<'_>,
) -> Result<StoreBatch<'s>, Failure>
where
    F: Fn(Entry<'_>, &mut Out<'_>) -> Reaction,
{
    let mut out = Out::new(store, name, &entry);
    // What an error says of itself is the user's code too.
    let reacted = guarded(name, || reaction(entry, &mut out).map_err(|error| error.to_string()));
    match reacted {
        Ok(Ok(())) => out.into_batch().map_err(Failure::Ends),
        Ok(Err(why)) => Err(store.failed_with(why)),
        Err(panic) => Err(store.failed_with(panic.to_string())),
    }
}

/// Calls what may panic.
fn guarded<T>(name: &str, code: impl FnOnce() -> T) -> Result<T> {
    panics::guarded(code)
        .map_err(|panic| Error::new(ErrorKind::Reaction, format!("react as {name:?}")).because(panic))
}

impl Store {
    /// What a failed attempt comes to: on a store that has ended, no other will fare better.
    fn failed_with(&self, why: String) -> Failure {
        match self.journal.core().check_writable() {
            Err(error) => Failure::Ends(error),
            Ok(()) => Failure::Again(why),
        }
    }
}

/// What a failure of the store comes to.
fn judge(error: Error) -> Failure {
    match error.kind() {
        ErrorKind::Closed
        | ErrorKind::Poisoned
        | ErrorKind::Forked
        | ErrorKind::UnknownCursor
        | ErrorKind::ReactionLoop
        | ErrorKind::Corrupt => Failure::Ends(error),
        _ => Failure::Again(error.to_string()),
    }
}

/// A reactor with a cursor: it passes nothing over.
pub(crate) struct Runner<F> {
    /// Does not keep it open.
    store: Store,
    watcher: Watcher,
    stopper: Stopper,
    retry: Retry,
    reaction: F,
    shared: Arc<Shared>,
    /// Everything up to this Seq was reacted to; a close writes it down.
    done: Done,
    /// And up to this one the log says so.
    saved: u64,
    /// The last batch that was put out, until it is durable.
    put_out: Option<Position>,
    /// What cells came to hold by them, which is told then.
    cells: Vec<(Vec<u8>, CellState)>,
    since: u64,
}

impl<F> Runner<F> {
    pub(crate) fn new(
        store: &Store,
        watcher: Watcher,
        retry: Retry,
        reaction: F,
        shared: Arc<Shared>,
    ) -> Self {
        let (name, seq) = (watcher.name().unwrap_or_default(), watcher.looked());
        let done = Done { cursor: name.to_owned(), done: Arc::new(AtomicU64::new(seq)) };
        Self {
            store: store.guest(),
            stopper: watcher.stopper(),
            watcher,
            retry,
            reaction,
            shared,
            done,
            saved: seq,
            put_out: None,
            cells: Vec::new(),
            since: 0,
        }
    }
}

impl<F> Work for Runner<F>
where
    F: Fn(Entry<'_>, &mut Out<'_>) -> Reaction + Send + 'static,
{
    fn progress(&self) -> Option<Done> {
        Some(self.done.clone())
    }

    fn run(mut self) -> Result<()> {
        let mut failures = 0;
        while !self.stopper.is_stopped() {
            match self.go_on() {
                Ok(()) => failures = 0,
                Err(error) => {
                    // A disk that is full, or does not answer, may do so again.
                    let why = match judge(error) {
                        Failure::Again(why) => why,
                        Failure::Ends(error) => return Err(error),
                    };
                    failures += 1;
                    self.shared.failed(why, ReactorState::Running);
                    self.stopper.pause(self.retry.pause(failures));
                }
            }
        }
        self.settle()?;
        // What put nothing out may be called once more: that is no failure.
        match self.save().map_err(judge) {
            Err(Failure::Ends(error)) => Err(error),
            Err(Failure::Again(_)) | Ok(()) => Ok(()),
        }
    }
}

impl<F> Runner<F>
where
    F: Fn(Entry<'_>, &mut Out<'_>) -> Reaction + Send + 'static,
{
    /// Waits for the next entry, and reacts to it.
    fn go_on(&mut self) -> Result<()> {
        if !self.next()? || !self.react()? {
            return Ok(());
        }
        self.since += 1;
        if self.since >= SAVE_EVERY {
            self.settle()?;
            self.save()?;
        }
        Ok(())
    }

    /// Waits for the next entry. False: there was none for a while, or it was stopped.
    fn next(&mut self) -> Result<bool> {
        // An entry that failed when the reactor was stopped, or the disk did, is met again.
        self.watcher.go_back_to(self.done());
        if self.watcher.advance()? {
            return Ok(true);
        }
        self.done.done.store(self.watcher.looked(), Ordering::Release);
        self.settle()?;
        if self.saved == self.done() {
            return Ok(self.watcher.next()?.is_some());
        }
        let found = self.watcher.next_timeout(SAVE_AFTER)?.is_some();
        if !found {
            self.save()?;
        }
        Ok(found)
    }

    /// Reacts to the entry at which the watcher stands, as often as it takes. False: stopped.
    fn react(&mut self) -> Result<bool> {
        let mut failures = 0;
        loop {
            match self.attempt() {
                Ok(()) => {
                    if failures > 0 {
                        self.watcher.note_failures(0);
                    }
                    return Ok(true);
                }
                Err(Failure::Ends(error)) => return Err(error),
                Err(Failure::Again(why)) => {
                    failures += 1;
                    if failures == 1 {
                        // Whoever looks at the cursor finds the entry that failed.
                        let _ = self.save();
                    }
                    let seq = self.watcher.entry().seq();
                    self.watcher.note_failures(failures);
                    self.shared.failed(why, ReactorState::Retrying { seq, failures });
                }
            }
            if !self.stopper.pause(self.retry.pause(failures)) {
                return Ok(false);
            }
        }
    }

    /// One call of the closure, and one batch of what it put out and how far that was read.
    fn attempt(&mut self) -> Result<(), Failure> {
        let entry = self.watcher.entry();
        let (seq, mut appended) = (entry.seq(), 0);
        let mut batch = call(&self.reaction, &self.store, &self.shared.name, entry)?;
        if !batch.is_empty() {
            batch.move_cursor(&self.watcher, seq).map_err(judge)?;
            appended = batch.len();
            let AppendedAll { end, cells, .. } = batch.append_all().map_err(judge)?;
            self.store.journal().core().want_sync_for_readers();
            self.put_out = Some(end);
            self.cells.extend(cells);
            self.saved = seq.get();
        }
        self.done.done.store(seq.get(), Ordering::Release);
        self.shared.reacted(appended);
        Ok(())
    }

    /// Waits until what was put out is durable, if the journal's appends wait for that.
    fn settle(&mut self) -> Result<()> {
        self.since = 0;
        if let Some(end) = self.put_out.take() {
            self.store.journal().core().wait_as_configured(end)?;
        }
        self.store.tell_of_cells(&std::mem::take(&mut self.cells));
        Ok(())
    }

    /// Writes down how far it has come.
    fn save(&mut self) -> Result<()> {
        let done = self.done();
        if self.saved != done {
            self.watcher.checkpoint_at(done)?;
            self.saved = done;
        }
        Ok(())
    }

    fn done(&self) -> u64 {
        self.done.done.load(Ordering::Relaxed)
    }
}

/// A reactor without a cursor: what goes wrong is passed over.
pub(crate) struct Lossy<F> {
    /// Does not keep it open.
    store: Store,
    subscriber: Subscriber,
    reaction: F,
    shared: Arc<Shared>,
}

impl<F> Lossy<F> {
    pub(crate) fn new(store: &Store, subscriber: Subscriber, reaction: F, shared: Arc<Shared>) -> Self {
        Self { store: store.guest(), subscriber, reaction, shared }
    }
}

impl<F> Work for Lossy<F>
where
    F: Fn(Entry<'_>, &mut Out<'_>) -> Reaction + Send + 'static,
{
    fn run(mut self) -> Result<()> {
        loop {
            let item = match self.subscriber.next() {
                Ok(Some(item)) => item,
                Ok(None) => return Ok(()),
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Io) => {
                    self.pass_over(&error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let entry = match item {
                Item::Entry(entry) => entry,
                Item::Missed(missed) => {
                    self.shared.note(|status| status.missed += missed.count);
                    continue;
                }
            };
            let reacted =
                call(&self.reaction, &self.store, &self.shared.name, entry).and_then(|mut batch| {
                    let appended = batch.len();
                    if appended > 0 {
                        // Work that may be lost: nobody waits for it.
                        let _ = batch.commit_nowait().map_err(judge)?;
                    }
                    Ok(appended)
                });
            match reacted {
                Ok(appended) => self.shared.reacted(appended),
                Err(Failure::Ends(error)) => return Err(error),
                Err(Failure::Again(why)) => self.shared.failed(why, ReactorState::Running),
            }
        }
    }
}

impl<F> Lossy<F> {
    /// What could not be read was missed.
    fn pass_over(&self, error: &Error) {
        let missed = error.seqs().map_or(0, |lost| lost.end() - lost.start() + 1);
        self.shared.failed(error.to_string(), ReactorState::Running);
        self.shared.note(|status| status.missed += missed);
        if missed == 0 {
            // It stands where it stood: not at full speed.
            self.subscriber.stopper().pause(Retry::DEFAULT.pause(1));
        }
    }
}
