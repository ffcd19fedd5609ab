//! Lossy readers: each at its own pace, and told exactly what it missed.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::id::{Position, Seq};
use crate::journal::Journal;
use crate::journal::entry::Entry;
use crate::journal::reader::Reader;
use crate::journal::region::Region;
use crate::journal::scan::Scan;
use crate::journal::source::Source;
use crate::journal::view::{View, compacted};
use crate::journal::waiting::{Place, Reading, Stopper, Until, Waiting, wait_until};
use crate::options::Durability;

/// Where a new reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Start {
    /// With the oldest entry that there is; where compaction has been, with what it kept.
    Oldest,
    /// With what is appended from now on.
    #[default]
    Newest,
    /// Behind this entry.
    After(Seq),
    /// With the first entry whose clock was at or past this time, in nanoseconds since 1970.
    At(i64),
}

/// What becomes of a subscriber that falls too far behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Lag {
    /// It goes on nearer to the end, and is told what it missed.
    #[default]
    Skip,
    /// It ends with `Lagged`.
    Disconnect,
}

/// How to subscribe.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[must_use = "options do nothing until `subscribe_with`"]
pub struct SubscribeOptions {
    start: Start,
    until: Option<Until>,
    capacity: Option<u64>,
    lag: Lag,
    spin: Duration,
}

impl SubscribeOptions {
    /// From the newest entry, without a limit to how far it may fall behind, and up to what is
    /// durable where appends wait for that, else up to what is visible.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where it begins. Default: [`Start::Newest`].
    pub const fn from(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// How far it may see. Default: `Durable` under [`Durability::Sync`], else `Visible`.
    pub const fn until(mut self, until: Until) -> Self {
        self.until = Some(until);
        self
    }

    /// So many entries of its own region it may be behind. Default: any number, because nothing is
    /// kept for it: it reads what everybody reads.
    pub const fn capacity(mut self, entries: u64) -> Self {
        self.capacity = Some(entries);
        self
    }

    /// What becomes of it when it is further behind. Default: [`Lag::Skip`].
    pub const fn on_lag(mut self, lag: Lag) -> Self {
        self.lag = lag;
        self
    }

    /// So long a wait looks again and again before it sleeps: a processor's time for some
    /// microseconds less of latency. Default: none.
    pub const fn spin(mut self, budget: Duration) -> Self {
        self.spin = budget;
        self
    }
}

/// What a subscriber was not shown, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Missed {
    /// The first entry of its region that was passed over.
    pub from: Seq,
    /// The last one.
    pub to: Seq,
    /// How many of its region; if compaction has dropped them, how many of whatever region: nobody can tell
    /// any more which they were.
    pub count: u64,
    /// Compaction has dropped them. What it kept of the range comes next.
    pub compacted: bool,
}

/// What a subscriber stands at.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Item<'a> {
    /// An entry, borrowed from the mapped segment.
    Entry(Entry<'a>),
    /// Entries that it was not fast enough for.
    Missed(Missed),
}

/// A reader of a region that holds nothing back, and costs a writer nothing while it is behind.
///
/// ```
/// use esker::{Item, Journal, Record, Region, Start, SubscribeOptions};
/// # fn main() -> esker::Result<()> {
/// let journal = Journal::in_memory()?;
/// let note = journal.kind("note")?;
/// let options = SubscribeOptions::new().from(Start::Oldest).capacity(2);
/// let mut latest = journal.subscribe_with(Region::kind(note), options)?;
/// for text in ["one", "two", "three", "four"] {
///     journal.append(Record::new(note, b"k", text.as_bytes()))?;
/// }
/// assert!(latest.advance()?);
/// let Item::Missed(missed) = latest.item() else { panic!("it was two behind too many") };
/// assert_eq!((missed.from.get(), missed.to.get(), missed.count), (1, 2, 2));
/// assert!(latest.advance()?);
/// let Item::Entry(entry) = latest.item() else { panic!("an entry") };
/// assert_eq!(entry.payload(), b"three");
/// # Ok(()) }
/// ```
pub struct Subscriber {
    scan: Scan,
    waiting: Waiting,
    lag: Lag,
    /// Where there is a limit: that, and a scan that runs ahead and counts.
    limit: Option<(u64, Ahead)>,
    /// Up to this Seq it is still on its way to where the log ended when it began: what it has not read does not count.
    comes: Option<u64>,
    missed: Option<Missed>,
    lagged: Option<u64>,
    /// An error behind a gap that was told first.
    untold: Option<Error>,
}

/// Counts what there is of a region ahead of a subscriber.
#[derive(Debug)]
struct Ahead {
    scan: Scan,
    entries: u64,
}

impl Journal {
    /// Subscribes to a region, from the newest entry on; see [`Subscriber`].
    ///
    /// # Errors
    ///
    /// As [`subscribe_with`](Self::subscribe_with).
    pub fn subscribe(&self, region: Region) -> Result<Subscriber> {
        self.subscribe_with(region, SubscribeOptions::new())
    }

    /// Subscribes to a region; see [`Subscriber`].
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a start behind the end of the log; `Io` or `Corrupt` if the place cannot be
    /// looked up; `Closed`, `Poisoned`, `Forked`.
    pub fn subscribe_with(&self, region: Region, options: SubscribeOptions) -> Result<Subscriber> {
        let core = self.appending();
        core.check_not_forked("subscribe")?;
        core.check_writable()?;
        let by_default =
            if core.options.durability == Durability::Sync { Until::Durable } else { Until::Visible };
        let until = options.until.unwrap_or(by_default);
        Subscriber::new(Source::Engine(Arc::clone(core)), until, region, &options)
    }
}

impl Reader {
    /// Subscribes to a region from another process than the writer's; see [`Subscriber`]. It looks for
    /// more again and again, with pauses of up to 20 milliseconds, because nobody wakes it; it goes on
    /// when one writer has ended and the next begins.
    ///
    /// It sees what is visible, unless [`SubscribeOptions::until`] says otherwise: only a writer that
    /// lives can say what is durable.
    ///
    /// ```
    /// use esker::{Item, Journal, Reader, Record, Region, SubscribeOptions};
    /// # fn main() -> esker::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("harbour.esker");
    /// let journal = Journal::open(&path)?;                  // in one process
    /// let note = journal.kind("note")?;
    ///
    /// let reader = Reader::open(&path)?;                    // in another
    /// let mut notes = reader.subscribe(Region::kind(note), SubscribeOptions::new())?;
    /// journal.append(Record::new(note, b"a", b"1"))?;
    /// let Some(Item::Entry(entry)) = notes.next()? else { panic!("an entry") };
    /// assert_eq!(entry.payload(), b"1");
    /// # journal.close() }
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a start behind the end of the log, and as [`Reader::view`].
    pub fn subscribe(&self, region: Region, options: SubscribeOptions) -> Result<Subscriber> {
        let until = options.until.unwrap_or(Until::Visible);
        Subscriber::new(Source::Reader(self.clone()), until, region, &options)
    }
}

impl Subscriber {
    fn new(source: Source, until: Until, region: Region, options: &SubscribeOptions) -> Result<Self> {
        let waiting = Waiting::new(source, until, options.spin);
        let steady = waiting.steady();
        let looked = waiting.view_of_what_is_there()?.behind_start(options.start, &region)?;
        let view = waiting.view()?;
        let limit = options.capacity.map(|capacity| {
            (capacity, Ahead { scan: Scan::new(region.clone(), view.clone(), looked), entries: 0 })
        });
        let scan = Scan::new(region, view, looked);
        drop(steady);
        let lag = options.lag;
        Ok(Self { scan, waiting, lag, limit, comes: None, missed: None, lagged: None, untold: None })
    }
}

impl View {
    /// The Seq behind which a reader begins that starts so.
    ///
    /// # Errors
    ///
    /// `Compacted` for a place behind which something of the region was dropped: what is left of that begins
    /// with `Oldest`.
    pub(crate) fn behind_start(&self, start: Start, region: &Region) -> Result<u64> {
        let behind = self.behind(start)?;
        let floor = self.floor(region).map_or(0, Seq::get);
        if !matches!(start, Start::Oldest) && behind + 1 < floor {
            return Err(compacted(format!("begin to read behind entry {behind}"), floor));
        }
        Ok(behind)
    }

    fn behind(&self, start: Start) -> Result<u64> {
        let newest = self.last_seq()?.map_or(0, Seq::get);
        match start {
            Start::Oldest => Ok(0),
            Start::Newest => Ok(newest),
            Start::After(seq) if seq.get() <= newest => Ok(seq.get()),
            Start::After(seq) => Err(Error::new(ErrorKind::InvalidInput, "begin to read behind an entry")
                .sides(format!("a Seq up to {newest}"), seq)),
            Start::At(time) => {
                let (mut entries, mut unread) = (self.all_behind(0), None);
                while let Some(entry) = entries.next() {
                    match entry {
                        // What cannot be read right before it may be as late.
                        Ok(entry) if entry.time() >= time => {
                            return Ok(unread.unwrap_or(entry.seq().get() - 1));
                        }
                        Ok(_) => unread = None,
                        Err(error) => {
                            let Some(lost) = error.seqs() else {
                                // What comes next is missing, and nobody knows how much that is.
                                return if error.is_corruption() {
                                    Ok(unread.unwrap_or(newest))
                                } else {
                                    Err(error)
                                };
                            };
                            unread = unread.or(Some(lost.start() - 1));
                            entries = self.all_behind(*lost.end());
                        }
                    }
                }
                Ok(unread.unwrap_or(newest))
            }
        }
    }
}

impl Subscriber {
    /// Steps to the next item. False: there is nothing more now. Never waits.
    ///
    /// # Errors
    ///
    /// `Lagged` with the Seq up to which it has looked, once and for all, under [`Lag::Disconnect`];
    /// `Closed` or `Poisoned` when the log has ended and all of it was seen; `Corrupt` or `Io` for an
    /// entry that cannot be read, behind which the next call goes on. Beside a writer of another process also `Rewound`,
    /// again and again, once a crash took back what this one had looked at; so is `Compacted`, if that was not known to be
    /// durable: nobody can tell what of it is still so. A [`Reader`] that is opened then has what there is.
    pub fn advance(&mut self) -> Result<bool> {
        self.missed = None;
        self.waiting.check_not_forked()?;
        match self.advance_in_log() {
            Err(error) if error.kind() == ErrorKind::Compacted => self.go_on_behind_compaction(error),
            advanced => advanced,
        }
    }

    fn advance_in_log(&mut self) -> Result<bool> {
        if let Some(view) = self.waiting.view_short_of(self.scan.mark())? {
            self.scan.go_on_in(view);
        }
        if let Some(error) = self.untold.take() {
            return Err(error);
        }
        if let Some(last) = self.lagged {
            return Err(lagged(last));
        }
        if self.limit.is_some() {
            self.look_further()?;
            if self.comes.is_some_and(|end| self.scan.looked() >= end) {
                self.has_come();
            }
        }
        if self.tell_dropped()? || self.comes.is_none() && self.skip()? || self.step()? {
            return Ok(true);
        }
        if self.look_further()? && (self.tell_dropped()? || self.step()?) {
            return Ok(true);
        }
        self.waiting.check_not_ended(self.scan.mark())?;
        self.has_come();
        Ok(false)
    }

    /// The writer, in another process, has removed what this one had yet to read: it goes on in the log as it is now, and is
    /// told what was dropped.
    fn go_on_behind_compaction(&mut self, error: Error) -> Result<bool> {
        // What it was shown of a log that was not durable may not be what the log has there now.
        if !self.waiting.source().was_durable(self.scan.mark()) {
            return Err(error);
        }
        let view = match self.waiting.view() {
            Err(error) if error.kind() == ErrorKind::Compacted => {
                if !self.waiting.source_mut().open_again()? {
                    return Err(error);
                }
                self.waiting.view()?
            }
            view => view?,
        };
        self.go_on_in(view);
        self.advance_in_log()
    }

    /// What [`advance`](Self::advance) stepped to.
    ///
    /// # Panics
    ///
    /// If the last call of `advance` did not answer `true`.
    #[must_use]
    pub fn item(&self) -> Item<'_> {
        match self.missed {
            Some(missed) => Item::Missed(missed),
            None => Item::Entry(self.scan.entry().unwrap_or_else(|| panic!("advance() found nothing"))),
        }
    }

    /// The next item, if there is one now.
    ///
    /// # Errors
    ///
    /// As [`advance`](Self::advance).
    pub fn try_next(&mut self) -> Result<Option<Item<'_>>> {
        Ok(if self.advance()? { Some(self.item()) } else { None })
    }

    /// Waits for the next item; `None`: the subscriber was stopped.
    ///
    /// # Errors
    ///
    /// As [`advance`](Self::advance).
    #[allow(clippy::should_implement_trait, reason = "an item is borrowed from the subscriber")]
    pub fn next(&mut self) -> Result<Option<Item<'_>>> {
        Ok(if self.wait(None)? { Some(self.item()) } else { None })
    }

    /// Waits for the next item, at most so long; `None`: the time is over, or it was stopped.
    ///
    /// # Errors
    ///
    /// As [`advance`](Self::advance).
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Item<'_>>> {
        Ok(if self.wait(Instant::now().checked_add(timeout))? { Some(self.item()) } else { None })
    }

    /// Ends its waiting, from any thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.waiting.stopper()
    }

    fn wait(&mut self, deadline: Option<Instant>) -> Result<bool> {
        Ok(wait_until(self, deadline, |reader| Ok(reader.advance()?.then_some(())))?.is_some())
    }

    /// The log up to where it may see now.
    pub(crate) fn view(&self) -> Result<View> {
        self.waiting.view()
    }

    /// Stands behind a Seq that it has come to before: what it stepped to is told again.
    pub(crate) fn go_back_to(&mut self, looked: u64) {
        if self.scan.looked() != looked {
            self.scan.go_back_to(looked);
            if let Some((_, ahead)) = &mut self.limit {
                // It runs ahead from here again, and counts.
                ahead.entries = 0;
                ahead.scan.go_back_to(looked);
            }
        }
    }

    /// From here on what it has not read counts.
    fn has_come(&mut self) {
        if self.comes.take().is_some()
            && let Some((_, ahead)) = &mut self.limit
        {
            ahead.entries = 0;
            ahead.scan.go_back_to(self.scan.looked());
        }
    }

    /// It has not come to where the log ended when it began.
    pub(crate) fn is_on_its_way(&self) -> bool {
        self.comes.is_some()
    }

    /// Where its log is.
    pub(crate) fn source(&self) -> &Source {
        self.waiting.source()
    }

    pub(crate) fn source_mut(&mut self) -> &mut Source {
        self.waiting.source_mut()
    }

    /// Goes on in another region behind a Seq that it has come to before.
    pub(crate) fn turn_to(&mut self, region: Region, looked: u64) {
        if let Some((_, ahead)) = &mut self.limit {
            ahead.entries = 0;
            ahead.scan.turn_to(region.clone(), looked);
        }
        self.scan.turn_to(region, looked);
    }

    /// Stands behind a Seq of a region in a view, with nothing missed, on its way to another. What is dropped since the
    /// view was taken it is told.
    pub(crate) fn begin_behind(&mut self, region: Region, view: View, seq: u64, end: u64) {
        if let Some((_, ahead)) = &mut self.limit {
            *ahead = Ahead { scan: Scan::new(region.clone(), view.clone(), seq), entries: 0 };
        }
        self.scan = Scan::new(region, view, seq);
        self.comes = Some(end).filter(|end| *end > seq);
        (self.missed, self.lagged, self.untold) = (None, None, None);
    }

    /// Where the log ended that it has looked at.
    pub(crate) fn mark(&self) -> Position {
        self.scan.mark()
    }

    /// Everything up to this Seq was looked at.
    pub(crate) fn looked(&self) -> u64 {
        self.scan.looked()
    }

    pub(crate) fn region(&self) -> &Region {
        self.scan.region()
    }

    fn step(&mut self) -> Result<bool> {
        let found = self.scan.advance().inspect_err(|error| _ = self.scan.pass_over(error));
        let found = found?;
        if let (true, Some((_, ahead))) = (found, &mut self.limit) {
            ahead.entries = ahead.entries.saturating_sub(1);
        }
        Ok(found)
    }

    /// Takes in what the log has grown by. True: it has.
    fn look_further(&mut self) -> Result<bool> {
        let Some(view) = self.waiting.view_behind(self.scan.mark())? else { return Ok(false) };
        self.go_on_in(view);
        Ok(true)
    }

    fn go_on_in(&mut self, view: View) {
        if let Some((_, ahead)) = &mut self.limit {
            ahead.scan.go_on_in(view.clone());
        }
        self.scan.go_on_in(view);
    }

    /// Says what compaction has dropped before it was looked at. True: something was.
    fn tell_dropped(&mut self) -> Result<bool> {
        let Some(dropped) = self.scan.dropped()?.cloned() else { return Ok(false) };
        let (first, last) = (*dropped.start(), *dropped.end());
        let count = (last - first + 1).saturating_sub(self.scan.left_of(&dropped)?);
        self.scan.has_told_dropped();
        let (Some(from), Some(to)) = (Seq::new(first), Seq::new(last)) else { return Ok(false) };
        if count == 0 {
            return Ok(false);
        }
        if self.lag == Lag::Disconnect {
            let last = self.scan.looked();
            self.lagged = Some(last);
            self.waiting.source().count(|meter| &meter.disconnected, 1);
            return Err(lagged(last));
        }
        self.missed = Some(Missed { from, to, count, compacted: true });
        self.waiting.source().count(|meter| &meter.missed, count);
        Ok(true)
    }

    /// Passes over what is further behind than is allowed. True: something was.
    fn skip(&mut self) -> Result<bool> {
        let Some((capacity, ahead)) = &mut self.limit else { return Ok(false) };
        loop {
            match ahead.scan.advance() {
                Ok(true) => ahead.entries += 1,
                Ok(false) => break,
                // It is told where it is read. What does not say what it is about ends the counting.
                Err(error) if ahead.scan.pass_over(&error) => {}
                Err(error) if error.is_passing() => return Err(error),
                Err(_) => break,
            }
        }
        let Some(too_many) = ahead.entries.checked_sub(*capacity).filter(|more| *more > 0) else {
            return Ok(false);
        };
        if self.lag == Lag::Disconnect {
            let last = self.scan.looked();
            self.lagged = Some(last);
            self.waiting.source().count(|meter| &meter.disconnected, 1);
            return Err(lagged(last));
        }
        let mut missed: Option<Missed> = None;
        for _ in 0..too_many {
            match self.step() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if missed.is_none() => return Err(error),
                Err(error) => {
                    self.untold = Some(error);
                    break;
                }
            }
            let Some(seq) = self.scan.entry().map(|entry| entry.seq()) else { break };
            let missed = missed.get_or_insert(Missed { from: seq, to: seq, count: 0, compacted: false });
            (missed.to, missed.count) = (seq, missed.count + 1);
        }
        self.missed = missed;
        self.waiting.source().count(|meter| &meter.missed, missed.map_or(0, |missed| missed.count));
        Ok(missed.is_some())
    }
}

fn lagged(last: u64) -> Error {
    let error = Error::new(ErrorKind::Lagged, "read on as a subscriber that fell behind");
    if last == 0 { error } else { error.concerning(last) }
}

impl Reading for Subscriber {
    fn place(&self) -> Place<'_> {
        let has_more = self.scan.may_have_more() || self.untold.is_some() || self.lagged.is_some();
        Place { waiting: &self.waiting, interest: self.scan.interest(), seen: self.scan.mark(), has_more }
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscriber({:?}, behind {})", self.scan.region(), self.scan.looked())
    }
}
