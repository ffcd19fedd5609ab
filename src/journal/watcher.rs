//! Guaranteed readers: a durable, named cursor, and nothing is ever skipped.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::id::Seq;
use crate::journal::Journal;
use crate::journal::core::Core;
use crate::journal::cursors::{HeldCursor, Hold, Move};
use crate::journal::entry::{Entry, OwnedEntry};
use crate::journal::holds::lost;
use crate::journal::pins::{Pin, PinnedBy};
use crate::journal::reader::Reader;
use crate::journal::region::Region;
use crate::journal::scan::Scan;
use crate::journal::source::Source;
use crate::journal::subscriber::Start;
use crate::journal::view::{View, compacted};
use crate::journal::waiting::{Place, Reading, Stopper, Until, Waiting, wait_until};

/// How to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "options do nothing until `watch_with`"]
pub struct WatchOptions {
    start: Start,
    until: Until,
    hold: Hold,
    spin: Duration,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl WatchOptions {
    /// From the oldest entry where the cursor is new, up to what is durable, and holding back
    /// whatever it has not seen.
    pub const fn new() -> Self {
        Self { start: Start::Oldest, until: Until::Durable, hold: Hold::Forever, spin: Duration::ZERO }
    }

    /// Where a new cursor begins; one that is there goes on where it was. Default: [`Start::Oldest`].
    pub const fn from(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// How far it may see. Default: [`Until::Durable`], whatever the journal's durability.
    pub const fn until(mut self, until: Until) -> Self {
        self.until = until;
        self
    }

    /// How much log a new cursor may hold back. Default: [`Hold::Forever`].
    pub const fn hold(mut self, hold: Hold) -> Self {
        self.hold = hold;
        self
    }

    /// So long a wait looks again and again before it sleeps. Default: none.
    pub const fn spin(mut self, budget: Duration) -> Self {
        self.spin = budget;
        self
    }
}

/// A reader of a region under a durable name: it resumes where it stopped, sees every entry at
/// least once and in order, and never passes one over.
///
/// ```
/// use esker::{Journal, Record, Region};
/// # fn main() -> esker::Result<()> {
/// let journal = Journal::in_memory()?;
/// let order = journal.kind("order")?;
/// journal.append(Record::new(order, b"8812", b"placed"))?;
///
/// let mut audit = journal.watch("audit", Region::all())?;
/// while audit.advance()? {
///     let entry = audit.entry();
///     println!("{} {:?}", entry.seq(), entry.payload());
/// }
/// audit.checkpoint()?;                      // durable: the next watcher of that name goes on here
/// drop(audit);
///
/// journal.append(Record::new(order, b"8812", b"shipped"))?;
/// let mut audit = journal.watch("audit", Region::all())?;
/// assert_eq!(audit.try_next()?.unwrap().payload(), b"shipped");
/// # Ok(()) }
/// ```
pub struct Watcher {
    /// `None`: it has no name, and is guaranteed while it lives.
    cursor: Option<HeldCursor>,
    /// What it holds back without one.
    pin: Option<Pin>,
    scan: Scan,
    waiting: Waiting,
    batch: Vec<OwnedEntry>,
}

impl Journal {
    /// Watches a region under a name; see [`Watcher`].
    ///
    /// # Errors
    ///
    /// As [`watch_with`](Self::watch_with).
    pub fn watch(&self, name: &str, region: Region) -> Result<Watcher> {
        self.watch_with(name, region, WatchOptions::new())
    }

    /// Watches a region under a name; see [`Watcher`]. A cursor of that name is made durable, if
    /// there is none.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a name that is empty or too long, or a start behind the end of the log;
    /// `CursorInUse` while another watcher of this process has it; `CursorMismatch` with both sides
    /// if it is about another region; `EraChanged` with both if the store was repaired or restored since; and
    /// what [`append`](Self::append) answers.
    pub fn watch_with(&self, name: &str, region: Region, options: WatchOptions) -> Result<Watcher> {
        let core = self.appending();
        // Before any lock.
        core.check_not_forked("watch")?;
        let waiting = Waiting::new(Source::Engine(Arc::clone(core)), options.until, options.spin);
        // Until it stands, nothing is dropped that it begins with.
        let _steady = core.compacting.steady.read();
        let (cursor, seq) = HeldCursor::hold(core, name, &region, options.hold, options.start)?;
        let view = waiting.view()?;
        let newest = core.view().last_seq()?.map_or(0, Seq::get);
        if seq > newest {
            return Err(Error::corrupt(format!("go on with the cursor {name:?}"))
                .at(core.directory.path())
                .sides(format!("a Seq up to {newest}"), seq));
        }
        let scan = Scan::new(region, view, seq);
        Ok(Watcher { cursor: Some(cursor), pin: None, scan, waiting, batch: Vec::new() })
    }

    /// Watches a region without a name: nothing is passed over while the watcher lives, and nothing is
    /// remembered of it. `hold` has no meaning for it.
    ///
    /// ```
    /// use esker::{Journal, Record, Region, WatchOptions};
    /// # fn main() -> esker::Result<()> {
    /// let journal = Journal::in_memory()?;
    /// let order = journal.kind("order")?;
    /// let mut orders = journal.follow(Region::kind(order), WatchOptions::new())?;
    /// journal.append(Record::new(order, b"8812", b"placed"))?;
    /// assert_eq!(orders.next()?.unwrap().payload(), b"placed");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a start behind the end of the log; `Closed`, `Poisoned`, `Forked`; `Io` or
    /// `Corrupt` if the place cannot be looked up.
    pub fn follow(&self, region: Region, options: WatchOptions) -> Result<Watcher> {
        let core = self.appending();
        core.check_not_forked("follow the log")?;
        core.check_writable()?;
        Watcher::unnamed(Source::Engine(Arc::clone(core)), region, &options)
    }
}

impl Reader {
    /// Watches a region from another process than the writer's; see [`Journal::follow`]. There is no
    /// name to resume under, since that would be written down.
    ///
    /// [`WatchOptions::until`] says how far it sees. By default that is what is [durable](Reader#what-is-durable), as far as the
    /// writer has said so: it cannot be asked for a sync.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a start behind the end of the log, and as [`Reader::view`].
    pub fn follow(&self, region: Region, options: WatchOptions) -> Result<Watcher> {
        Watcher::unnamed(Source::Reader(self.clone()), region, &options)
    }
}

impl Watcher {
    fn unnamed(source: Source, region: Region, options: &WatchOptions) -> Result<Self> {
        // Until it is known where it stands, nothing is dropped.
        let pin = source.pins().map(|pins| pins.pin(PinnedBy::Watcher, 0));
        let waiting = Waiting::new(source, options.until, options.spin);
        let steady = waiting.steady();
        let looked = waiting.view_of_what_is_there()?.behind_start(options.start, &region)?;
        let view = waiting.view()?;
        let scan = Scan::new(region, view, looked);
        drop(steady);
        pin.iter().for_each(|pin| pin.move_to(looked));
        Ok(Self { cursor: None, pin, scan, waiting, batch: Vec::new() })
    }

    /// Steps to the next entry. False: there is nothing more now. Never waits.
    ///
    /// # Errors
    ///
    /// `Closed` or `Poisoned` when the log has ended and all of it was seen; `Corrupt` or `Io` for an
    /// entry that cannot be read, of whatever kind: the watcher stays before it, and every later call
    /// says so again, until [`reset_cursor`](Journal::reset_cursor) puts the cursor behind it; `Lost` when
    /// compaction went past a cursor that may not hold back more ([`Hold::UpTo`]), and `Compacted` when it
    /// went past a watcher of another process.
    pub fn advance(&mut self) -> Result<bool> {
        self.waiting.check_not_forked()?;
        if let Some(view) = self.waiting.view_short_of(self.scan.mark())? {
            self.scan.go_on_in(view);
        }
        self.check_not_dropped()?;
        if self.step()? {
            return Ok(true);
        }
        if let Some(view) = self.waiting.view_behind(self.scan.mark())? {
            self.scan.go_on_in(view);
            self.check_not_dropped()?;
            if self.step()? {
                return Ok(true);
            }
        }
        self.waiting.check_not_ended(self.scan.mark())?;
        Ok(false)
    }

    /// A guaranteed reader passes nothing over: not what cannot be read either.
    fn step(&mut self) -> Result<bool> {
        let before = self.scan.looked();
        let found = self.scan.advance().inspect_err(|_| self.scan.go_back_to(before));
        self.pin.iter().for_each(|pin| pin.move_to(self.scan.looked()));
        found
    }

    /// Compaction has gone past a reader that could not hold it back, or not for so long.
    fn check_not_dropped(&mut self) -> Result<()> {
        let Some(dropped) = self.scan.dropped()? else { return Ok(()) };
        let floor = dropped.end() + 1;
        match &self.cursor {
            Some(cursor) if cursor.is_lost() => return Err(lost(cursor.name(), floor)),
            None if self.pin.is_none() => {
                return Err(compacted("read on as a watcher", floor).lost(dropped.clone()));
            }
            // What it holds back was not dropped; of what was, nothing is of its region.
            _ => {}
        }
        self.scan.has_told_dropped();
        Ok(())
    }

    /// The entry that [`advance`](Self::advance) stepped to.
    ///
    /// # Panics
    ///
    /// If the last call of `advance` did not answer `true`.
    #[must_use]
    pub fn entry(&self) -> Entry<'_> {
        self.scan.entry().unwrap_or_else(|| panic!("advance() found nothing"))
    }

    /// The next entry, if there is one now.
    ///
    /// # Errors
    ///
    /// As [`advance`](Self::advance).
    pub fn try_next(&mut self) -> Result<Option<Entry<'_>>> {
        Ok(if self.advance()? { Some(self.entry()) } else { None })
    }

    /// Waits for the next entry; `None`: the watcher was stopped.
    ///
    /// # Errors
    ///
    /// As [`advance`](Self::advance).
    #[allow(clippy::should_implement_trait, reason = "an entry is borrowed from the watcher")]
    pub fn next(&mut self) -> Result<Option<Entry<'_>>> {
        Ok(if self.wait(None)? { Some(self.entry()) } else { None })
    }

    /// Waits for the next entry, at most so long; `None`: the time is over, or it was stopped.
    ///
    /// # Errors
    ///
    /// As [`advance`](Self::advance).
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Entry<'_>>> {
        Ok(if self.wait(Instant::now().checked_add(timeout))? { Some(self.entry()) } else { None })
    }

    /// The entries that there are now, at most so many; empty if there is none. Never waits.
    ///
    /// # Errors
    ///
    /// As [`advance`](Self::advance), if the first entry cannot be had; an error behind it ends the
    /// batch, and is told by the next call.
    pub fn next_batch(&mut self, max: usize) -> Result<&[OwnedEntry]> {
        self.batch.clear();
        while self.batch.len() < max {
            match self.advance() {
                Ok(true) => {
                    let entry = self.scan.entry().map(|entry| entry.to_owned());
                    self.batch.extend(entry);
                }
                Ok(false) => break,
                Err(error) if self.batch.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(&self.batch)
    }

    /// Makes durable that everything up to here was seen, the entry that it stands at included.
    /// Writes nothing if it has not moved since. Shares its sync with whoever else waits for one.
    ///
    /// The place stands in the log behind what was seen, so that it is never ahead of it.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a watcher without a name, and what [`Journal::append`] answers.
    pub fn checkpoint(&mut self) -> Result<()> {
        self.checkpoint_at(self.scan.looked())
    }

    /// As [`checkpoint`](Self::checkpoint), up to a Seq that it has come to.
    pub(crate) fn checkpoint_at(&self, seq: u64) -> Result<()> {
        self.cursor("checkpoint")?.move_to(seq)
    }

    /// Where its log is.
    pub(crate) fn source(&self) -> &Source {
        self.waiting.source()
    }

    /// The name of its cursor, if it has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.cursor.as_ref().map(HeldCursor::name)
    }

    /// Everything of its region up to this Seq was looked at; `None`: nothing yet.
    #[must_use]
    pub fn position(&self) -> Option<Seq> {
        Seq::new(self.scan.looked())
    }

    /// Ends its waiting, from any thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.waiting.stopper()
    }

    /// The move of its cursor to a Seq, as a part of a batch of this journal.
    pub(crate) fn step_to(&self, core: &Arc<Core>, seq: Seq) -> Result<Move> {
        let cursor = self.cursor("move the cursor of")?;
        let refused = || Error::new(ErrorKind::InvalidInput, format!("move the cursor {:?}", cursor.name()));
        if self.position().is_none_or(|seen| seq > seen) {
            return Err(refused().sides(format!("a Seq that it has seen, up to {:?}", self.position()), seq));
        }
        if !cursor.is_of(core) {
            return Err(refused().sides("a watcher of the batch's own journal", "one of another"));
        }
        cursor.step_to(seq.get())
    }

    /// Everything up to this Seq was looked at; 0: nothing yet.
    pub(crate) fn looked(&self) -> u64 {
        self.scan.looked()
    }

    /// Says how often in a row its reader has failed at one entry.
    pub(crate) fn note_failures(&self, count: u32) {
        self.cursor.iter().for_each(|cursor| cursor.note_failures(count));
    }

    /// The log up to where it may see now.
    pub(crate) fn view(&self) -> Result<View> {
        self.waiting.view()
    }

    pub(crate) fn region(&self) -> &Region {
        self.scan.region()
    }

    /// Stands behind a Seq that it has come to before.
    pub(crate) fn go_back_to(&mut self, looked: u64) {
        if self.scan.looked() != looked {
            self.scan.go_back_to(looked);
        }
        // Whoever goes back had seen what lies between: the log is as it was there, in this view.
        self.pin.iter().for_each(|pin| pin.move_to(looked));
    }

    fn cursor(&self, doing: &str) -> Result<&HeldCursor> {
        self.cursor.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, format!("{doing} a watcher"))
                .sides("one with a name", "one without")
        })
    }

    fn wait(&mut self, deadline: Option<Instant>) -> Result<bool> {
        Ok(wait_until(self, deadline, |reader| Ok(reader.advance()?.then_some(())))?.is_some())
    }
}

impl Reading for Watcher {
    fn place(&self) -> Place<'_> {
        let has_more = self.scan.may_have_more();
        Place { waiting: &self.waiting, interest: self.scan.interest(), seen: self.scan.mark(), has_more }
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Watcher({:?}, {:?}, behind {})",
            self.name().unwrap_or_default(),
            self.scan.region(),
            self.scan.looked()
        )
    }
}
