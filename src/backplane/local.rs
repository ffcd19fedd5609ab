//! The backplane of one process: the journal.
//!
//! # Where things are
//!
//! | of the backplane | in the journal |
//! | --- | --- |
//! | stream, topic, record | kind of facts, entity, entry |
//! | offset | Seq: offsets of all streams rise along the one log |
//! | stamp | an extension of the entry's frame; the window of idempotency keys remembers it |
//! | image of a fold | record of the kind `esker.images`, as of a stream |
//! | record that a consumer gave up or set aside | record of the kind `esker.dead` or `esker.parked`, as of a stream |
//! | how far a consumer has come | cell |
//! | cell | entity of the kind `esker.cells`, of which the newest entry is kept; its revision is the generation |
//! | floor of a topic | entity of the kind `esker.floors.` and the stream's name |
//! | commit | one batch |
//! | era | the store's identity and era |
//!
//! A floor is *logical*: from the moment at which its entry is durable, what stands below is shown to nobody. The bytes go
//! with the prefix of the log when the journal is [compacted](crate::Journal::compact).

pub(crate) mod cells;
mod feed;
mod floors;
mod read_only;
mod written;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

pub use self::read_only::{Behind, ReadOnly};
pub use self::written::{CellName, WrittenCell, WrittenTopic};
use crate::backplane::check::{check_broadcast, check_filter, check_key, check_name, check_steps};
use crate::backplane::feed::Feed;
use crate::backplane::listen::{self, Listener};
use crate::backplane::local::cells::CellBytes;
use crate::backplane::local::feed::{LocalFeed, OpenFeeds};
use crate::backplane::name::{Era, Filter, Offset, Revision, closed};
use crate::backplane::pending::{Awaited, Pending};
use crate::backplane::record::CellState;
use crate::backplane::step::{Append, Done, Put, Step, StepDone};
use crate::backplane::{Backplane, Compactor, Process};
use crate::error::{Error, ErrorKind, Result};
use crate::feed::hub::Hub;
use crate::format::frame::PAYLOAD_BYTES_MAX;
use crate::format::manifest::{Ancestor, Manifest};
use crate::format::stamp::mixed;
use crate::format::system::{Codec, Keep, KindInfo, Owner};
use crate::id::{Generation, KindId, Position, Seq};
use crate::journal::Journal;
use crate::journal::core::Core;
use crate::journal::lodger::Registrations;
use crate::journal::record::{Expect, Record};
use crate::journal::region::Region;
use crate::journal::registry::{KindSpec, codec_of_stream, floors_name, is_reserved};
use crate::journal::stamped::{Placed, Stamped};
use crate::journal::view::View;
use crate::options::Durability;

/// A backplane over a journal: durable as that is, and atomic.
///
/// Streams are kinds of facts, so a [`Store`](crate::Store) or a [`Reader`](crate::Reader) reads the same records, and
/// what they append is delivered too (without a stamp). It remembers stamps as long as a batch's
/// [idempotency key](crate::Batch::idempotency_key): those of the last 65,536 appends or of the last ten minutes, whichever
/// is more. The cells stay, also those that hold nothing, but for those of consumers that go with what [is
/// erased](crate::Store::erase). A topic that is [erased](Journal::erase) begins anew; one
/// whose kind is told to [keep](Journal::keep) less than all is `Lost` to whoever would need what was dropped: by its floor, where it keeps
/// what its folds need ([`Keep::Fold`]).
///
/// The [era](Backplane::era) is that of the store, which a crash leaves as it is. Under [`Durability::Sync`] nothing is told
/// that a crash could take back. Under the other durabilities records are told before they are durable: behind a power cut
/// an offset that was told may name another record, in the same era.
///
/// ```
/// use esker::Journal;
/// use esker::backplane::{Append, Backplane, Filter, Local, Offset, Put, Revision, Stamp, Step, WriterId};
/// # fn main() -> esker::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// let journal = Journal::open(directory.path().join("shop.esker"))?;
/// let plane = Local::over(&journal)?;
/// let writer = WriterId::random()?;
///
/// // A record and a cell in one batch: both or neither.
/// let shipped = Append::new("order", b"8812", b"shipped", Stamp::new(writer, 1)).expect(Offset::BEGINNING);
/// let cursor = Put::new(b"cursor of shipping", Revision::NEVER, Some(b"1"), Stamp::new(writer, 1));
/// let done = plane.commit(&[Step::Append(shipped), Step::Put(cursor)])?;
/// assert_eq!(done.offset(0), Some(plane.head(Filter::stream("order"))?));
/// plane.close()?;                  // the journal stays open: it is whose who opened it
/// # journal.close() }
/// ```
pub struct Local {
    journal: Journal,
    /// It was opened here, and ends here.
    owns: bool,
    era: Era,
    /// Eras of which the log was copied, and up to where offsets mean what they meant there.
    ancestors: Vec<(Era, Offset)>,
    closed: Arc<AtomicBool>,
    feeds: OpenFeeds,
    hub: Arc<Hub>,
    /// Whoever registers a kind of ours or sets its policy.
    registering: Mutex<()>,
}

impl Local {
    /// Below which nothing of a topic is shown, whatever of it can be read; the beginning: everything is.
    pub(crate) fn floor(&self, topic: Filter<'_>) -> Result<Offset> {
        let core = self.core("look up a floor")?;
        let (Some(floors), Some(key)) = (floors::kind_of(core, topic.stream), topic.key) else {
            return Ok(Offset::BEGINNING);
        };
        floors::floor_of(&told(core), floors, key).map(|floor| Offset::from_raw(floor.first))
    }

    /// The backplane of a journal that is open. Its [`close`](Backplane::close) leaves the journal open.
    ///
    /// # Errors
    ///
    /// `Closed`, `Forked`.
    pub fn over(journal: &Journal) -> Result<Self> {
        let core = journal.core();
        core.check_not_forked("open a backplane")?;
        core.check_writable()?;
        let manifest = &core.manifest;
        let of_ancestor = |other: &Ancestor| (era_of(manifest, other.era), Offset::from_raw(other.through));
        Ok(Self {
            journal: journal.clone(),
            owns: false,
            era: era_of(manifest, manifest.era),
            ancestors: manifest.ancestors.iter().map(of_ancestor).collect(),
            closed: Arc::default(),
            feeds: OpenFeeds::default(),
            hub: Arc::clone(&core.hub),
            registering: Mutex::default(),
        })
    }

    /// The backplane of the store in a directory, which is made where there is none. Its
    /// [`close`](Backplane::close) closes the store.
    ///
    /// # Errors
    ///
    /// As [`Journal::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::owning(Journal::open(path)?)
    }

    /// The backplane of a journal, which its [`close`](Backplane::close) closes for all its clones.
    ///
    /// # Errors
    ///
    /// As [`over`](Self::over).
    pub fn owning(journal: Journal) -> Result<Self> {
        Ok(Self { owns: true, ..Self::over(&journal)? })
    }

    /// The journal behind it.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    fn core(&self, doing: &str) -> Result<&Arc<Core>> {
        let core = self.journal.appending();
        core.check_not_forked(doing)?;
        if self.closed.load(Ordering::Acquire) || core.is_closed() {
            return Err(closed(doing).at(core.directory.path()));
        }
        Ok(core)
    }

    fn known(&self, stream: &str) -> Result<Option<KindId>> {
        self.journal.kind_named(stream).map(|kind| stream_of(&kind)).transpose()
    }

    /// The kind of a stream, which is registered if this is its first use.
    fn stream(&self, stream: &str) -> Result<KindId> {
        if let Some(kind) = self.known(stream)? {
            return Ok(kind);
        }
        match codec_of_stream(stream) {
            Some(codec) => self.register_own(stream.to_owned(), codec),
            None => self.journal.kind(stream),
        }
    }

    fn register_own(&self, name: String, codec: Codec) -> Result<KindId> {
        let spec = KindSpec { name, version: 1, codec, owner: Owner::Facts, fields: Vec::new() };
        Ok(self.journal.appending().register_any(spec)?.id)
    }

    /// A kind of the library's own.
    fn own_kind(&self, name: String) -> Result<KindId> {
        if let Some(kind) = self.journal.kind_named(&name).filter(|kind| kind.keep == Keep::Latest) {
            return Ok(kind.id);
        }
        let _registering = self.registering.lock();
        let kind = self.register_own(name, Codec::Bytes)?;
        // Only what is newest says anything.
        self.journal.appending().set_keep(kind, Keep::Latest)?;
        Ok(kind)
    }

    /// The kind of the cells, and what one of them holds as far as anybody can see: for who changes it in a batch of its own.
    pub(crate) fn cell(&self, key: &[u8]) -> Result<(KindId, CellState)> {
        let core = self.core("load a cell")?;
        let kind = self.own_kind(cells::NAME.to_owned())?;
        Ok((kind, cell_in(&core.view(), kind, key)?))
    }

    /// Compacts topics of a stream, each to before its offset, and waits for the disk once: also for those that were put before an
    /// error.
    pub(crate) fn compact_all(&self, stream: &str, topics: &[(Vec<u8>, Offset)]) -> Result<()> {
        let core = self.core("compact")?;
        let mut end = None;
        let put = topics.iter().try_for_each(|(key, before)| {
            end = self.put_floor(core, Filter::topic(stream, key), *before)?.or(end);
            Ok(())
        });
        let settled = end.map_or(Ok(()), |end| floors::settle(core, end));
        put.and(settled)
    }

    /// Writes a higher floor of a topic down; answers where the log has to be durable then. `None`: there is none to be put.
    fn put_floor(&self, core: &Core, topic: Filter<'_>, before: Offset) -> Result<Option<Position>> {
        let (Some(kind), Some(key)) = (self.known(topic.stream)?, topic.key) else { return Ok(None) };
        let Some(floor) = floors::raised(&told(core), core, kind, topic, before)? else { return Ok(None) };
        let floors = self.own_kind(floors_name(topic.stream))?;
        floors::put(core, floors, key, floor).map(Some)
    }

    /// Appends steps; answers where the log ends behind them.
    fn place(&self, steps: &[Step<'_>]) -> Result<(Done, &Arc<Core>, Position)> {
        check_steps(steps, PAYLOAD_BYTES_MAX - 1)?;
        let core = self.core("commit")?;
        check_fits(core, steps)?;
        let cells: Vec<CellBytes> = steps.iter().map(CellBytes::of).collect();
        let wanted: Vec<Stamped<'_>> =
            steps.iter().zip(&cells).map(|(step, cell)| self.wanted(step, cell)).collect::<Result<_>>()?;
        let (placed, end) = core.append_stamped(&wanted).inspect_err(|error| {
            if error.kind() == ErrorKind::Conflict {
                // What was in the way may not be on the disk yet, and is told to nobody before: whoever looks it up and tries again
                // would find what was there before it, again and again. That nothing was done is decided whatever comes of that: a disk
                // that has failed tells the next call.
                let _ = core.wait_as_configured(core.commit.visible());
            }
        })?;
        Ok((Done::new(steps.iter().zip(placed).map(done).collect()), core, end))
    }

    fn wanted<'a>(&self, step: &'a Step<'_>, cell: &'a CellBytes) -> Result<Stamped<'a>> {
        match step {
            Step::Append(append) => self.appended(append),
            Step::Put(put) => self.put(put, cell),
        }
    }

    fn appended<'a>(&self, append: &'a Append<'_>) -> Result<Stamped<'a>> {
        self.check_may_begin(append)?;
        let kind = self.stream(append.stream)?;
        let record = Record::new(kind, append.key, append.payload)
            .stamped(append.stamp.bytes())
            .schema_version(append.schema);
        Ok(Stamped { record, newest: append.expect.map(Offset::raw) })
    }

    /// Refuses what expects a record of a stream of which there is none, before that is made.
    fn check_may_begin(&self, append: &Append<'_>) -> Result<()> {
        match append.expect.filter(|newest| *newest != Offset::BEGINNING) {
            Some(newest) if self.known(append.stream)?.is_none() => {
                let doing = format!("append to {}", Filter::topic(append.stream, append.key));
                Err(Error::new(ErrorKind::Conflict, doing).sides(newest, Offset::BEGINNING))
            }
            _ => Ok(()),
        }
    }

    fn put<'a>(&self, put: &'a Put<'_>, cell: &'a CellBytes) -> Result<Stamped<'a>> {
        let kind = self.own_kind(cells::NAME.to_owned())?;
        let expect = Generation::new(put.expect.raw()).map_or(Expect::New, Expect::Generation);
        let record = Record::new(kind, put.cell, cell.as_slice()).stamped(put.stamp.bytes()).expect(expect);
        Ok(Stamped { record, newest: None })
    }
}

fn era_of(manifest: &Manifest, era: u64) -> Era {
    let mut identity = [0; 24];
    let (store, number) = identity.split_at_mut(16);
    store.copy_from_slice(manifest.store.bytes());
    number.copy_from_slice(&era.to_le_bytes());
    Era::from_raw(mixed(&identity))
}

/// Refuses what fits no batch, before a stream is made for it.
fn check_fits(core: &Core, steps: &[Step<'_>]) -> Result<()> {
    let bytes_of = |step: &Step<'_>| match step {
        Step::Append(append) => append.payload.len(),
        Step::Put(put) => put.value.map_or(0, <[u8]>::len),
    };
    let (bytes, most) = (steps.iter().map(bytes_of).sum::<usize>() as u64, core.options.batch_bytes_max());
    if bytes <= most {
        return Ok(());
    }
    Err(Error::new(ErrorKind::BatchTooLarge, format!("commit {} steps", steps.len()))
        .sides(format!("at most {most} bytes"), format!("{bytes} bytes")))
}

/// Where the log has to be durable.
struct Until {
    core: Arc<Core>,
    end: Position,
}

impl Awaited for Until {
    fn is_durable(&self) -> bool {
        self.core.commit.durable() >= self.end
    }

    fn wait_durable(&self) -> Result<()> {
        self.core.wait_durable(self.end)
    }

    fn wait_acknowledged(&self) -> Result<()> {
        self.core.wait_as_configured(self.end)
    }
}

/// The log as far as it may be told: what a power cut could take back is not, where appends wait for the disk.
fn told(core: &Core) -> View {
    let mark = match core.options.durability {
        Durability::Sync => core.commit.durable(),
        _ => core.commit.readable(),
    };
    View::new(Arc::clone(&core.index), mark)
}

fn cell_in(view: &View, kind: KindId, key: &[u8]) -> Result<CellState> {
    let Some(entry) = view.latest(kind, key)? else { return Ok(CellState::default()) };
    let bytes = cells::value_of(&entry)?;
    Ok(CellState::new(bytes.map(<[u8]>::to_vec), Revision::from_raw(entry.generation().get())))
}

/// The kind as a stream, if it may be one.
fn stream_of(kind: &KindInfo) -> Result<KindId> {
    if kind.owner == Owner::Facts && (codec_of_stream(&kind.name).is_some() || !is_reserved(&kind.name)) {
        return Ok(kind.id);
    }
    Err(Error::new(ErrorKind::OwnedByState, format!("use the kind {:?} as a stream", kind.name)))
}

impl Backplane for Local {
    fn atomic(&self) -> bool {
        true
    }

    fn commit(&self, steps: &[Step<'_>]) -> Result<Done> {
        let (done, core, end) = self.place(steps)?;
        core.wait_as_configured(end)?;
        Ok(done)
    }

    fn commit_nowait(&self, steps: &[Step<'_>]) -> Result<Pending> {
        let (done, core, end) = self.place(steps)?;
        core.want_sync_for_readers();
        Ok(Pending::new(done, Until { core: Arc::clone(core), end }))
    }

    fn subscribe(&self, filter: Filter<'_>, from: Offset) -> Result<Box<dyn Feed>> {
        check_filter(filter)?;
        let core = self.core("subscribe")?;
        let newest = core.view().last_seq()?.map_or(0, Seq::get);
        if from.raw() > newest {
            return Err(Error::new(ErrorKind::InvalidInput, format!("read {filter} behind an offset"))
                .at(core.directory.path())
                .sides(format!("one up to {newest}"), from));
        }
        let feed = LocalFeed::begin(&self.journal, &self.feeds, filter, from)?;
        // Whoever closes now has not seen it.
        self.core("subscribe")?;
        Ok(Box::new(feed))
    }

    fn head(&self, filter: Filter<'_>) -> Result<Offset> {
        check_filter(filter)?;
        let core = self.core("look up the head")?;
        let Some(kind) = self.known(filter.stream)? else { return Ok(Offset::BEGINNING) };
        let view = told(core);
        let newest = match filter.key {
            Some(key) => view.latest(kind, key)?,
            None => view.kind(kind).next_back().transpose()?,
        };
        Ok(newest.map_or(Offset::BEGINNING, |entry| Offset::from_raw(entry.seq().get())))
    }

    fn lowest_retained(&self, filter: Filter<'_>) -> Result<Offset> {
        check_filter(filter)?;
        let core = self.core("look up the oldest record")?;
        let Some(kind) = self.known(filter.stream)? else { return Ok(Offset::BEGINNING) };
        floors::lowest(&told(core), (kind, floors::kind_of(core, filter.stream)), filter)
    }

    fn load(&self, cell: &[u8]) -> Result<CellState> {
        check_key("cell", cell)?;
        let core = self.core("load a cell")?;
        let Some(kind) = self.journal.kind_named(cells::NAME) else { return Ok(CellState::default()) };
        cell_in(&told(core), kind.id, cell)
    }

    fn broadcast(&self, channel: &str, bytes: &[u8]) -> Result<usize> {
        check_broadcast(channel, bytes)?;
        self.core("broadcast")?;
        listen::send(&self.hub, channel, bytes)
    }

    fn listen(&self, channel: &str) -> Result<Box<dyn Listener>> {
        check_name("channel", channel)?;
        self.core("listen")?;
        listen::listen(&self.hub, channel, &self.closed)
    }

    fn era(&self) -> Result<Era> {
        self.core("look up the era").map(|_| self.era)
    }

    fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.feeds.end();
        self.hub.tell_ended();
        if self.owns { self.journal.close() } else { Ok(()) }
    }

    fn compactor(&self) -> Option<&dyn Compactor> {
        Some(self)
    }

    /// The journal is locked by one process: whoever else had it has ended, on whichever machine that was.
    fn is_over(&self, process: &Process) -> bool {
        !process.is_this()
    }

    /// It asks for this one alone: damage to others of the topic says nothing of it.
    fn still_has(&self, topic: Filter<'_>, offset: Offset) -> Result<bool> {
        check_filter(topic)?;
        let core = self.core("look up a record")?;
        let (Some(kind), Some(key)) = (self.known(topic.stream)?, topic.key) else { return Ok(false) };
        let Some(seq) = Seq::new(offset.raw()) else { return Ok(false) };
        if self.floor(topic)? > offset {
            return Ok(false);
        }
        match told(core).get(seq) {
            Ok(found) => Ok(found.is_some_and(|entry| entry.kind() == kind && entry.key() == key)),
            // It was whole when it came.
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(true),
            Err(error) if error.kind() == ErrorKind::Compacted => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn answers_at_once(&self) -> bool {
        true
    }

    fn shares_offsets(&self, with: Era, through: Offset) -> bool {
        self.ancestors.iter().any(|(era, shared)| *era == with && through <= *shared)
    }

    fn registrations(&self) -> Option<&Registrations> {
        Some(&self.journal.core().registrations)
    }
}

impl Compactor for Local {
    fn compact(&self, stream: &str, key: &[u8], before: Offset) -> Result<()> {
        let filter = Filter::topic(stream, key);
        check_filter(filter)?;
        let core = self.core("compact")?;
        let end = self.put_floor(core, filter, before)?;
        end.map_or(Ok(()), |end| floors::settle(core, end))
    }
}

fn done((step, placed): (&Step<'_>, Placed)) -> StepDone {
    let Placed { receipt, repeated } = placed;
    match step {
        Step::Append(_) => StepDone::Appended { offset: Offset::from_raw(receipt.seq.get()), repeated },
        Step::Put(_) => StepDone::Put { revision: Revision::from_raw(receipt.generation.get()), repeated },
    }
}

fn region_of(kind: KindId, filter: Filter<'_>) -> Region {
    filter.key.map_or_else(|| Region::kind(kind), |key| Region::entity(kind, key))
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Local({}, era {})", self.journal.path().display(), self.era)
    }
}
