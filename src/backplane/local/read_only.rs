//! The backplane of a store that somebody else writes, or nobody: what stands in its log at one moment.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::Duration;

use crate::backplane::check::{check_filter, check_key};
use crate::backplane::feed::{Feed, has_ended};
use crate::backplane::listen::Listener;
use crate::backplane::local::written::{Newest, WrittenCell, WrittenTopic};
use crate::backplane::local::{cell_in, cells, era_of, floors, region_of, stream_of};
use crate::backplane::name::{Era, Filter, Offset, closed};
use crate::backplane::record::{CellState, StreamRecord};
use crate::backplane::step::{Done, Step};
use crate::backplane::{Backplane, Compactor};
use crate::error::{Error, ErrorKind, Result};
use crate::format::system::KindInfo;
use crate::id::{KindId, Seq};
use crate::journal::entry::{Entry, OwnedEntry};
use crate::journal::reader::Reader;
use crate::journal::region::Region;
use crate::journal::registry::floors_name;
use crate::journal::view::View;

/// A writer that compacts all the time is not to be caught up with.
const LOOKS: usize = 16;

/// What stands on a store's [`Local`](super::Local) backplane, read without the store's lock, also while a process writes it:
/// topics, cells, images of folds, how far consumers have come, at one moment. Nothing comes after that: whoever wants to know
/// what is new makes another one.
///
/// It writes nothing: [`commit`](Backplane::commit), [`broadcast`](Backplane::broadcast) and [`listen`](Backplane::listen) answer
/// `ReadOnly`. A [feed](Backplane::subscribe) that has delivered what there was answers `None` at once, and `Closed` to who
/// would wait without an end.
///
/// ```
/// use esker::backplane::{Backplane, Filter, ReadOnly};
/// use esker::{Reader, Store, Topic};
/// # fn main() -> esker::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("shop.esker");
/// const ORDERS: Topic<String> = Topic::new("order");
/// let store = Store::open(&path)?;
/// store.topic(ORDERS, "8812")?.append(&"placed".to_owned())?;
/// store.cells().cell::<u32>("limit")?.update(|_| Ok(Some(10)))?;
///
/// let plane = ReadOnly::of(&Reader::open(&path)?)?;           // beside the writer
/// let mut feed = plane.subscribe_oldest(Filter::topic("order", b"8812"))?;
/// assert!(feed.try_next()?.is_some() && feed.try_next()?.is_none());
/// let cells: Vec<_> = plane.cells().collect::<esker::Result<_>>()?;
/// assert_eq!(cells[0].named().unwrap().key, b"limit");
/// # store.close() }
/// ```
pub struct ReadOnly {
    view: View,
    kinds: HashMap<String, Arc<KindInfo>>,
    path: PathBuf,
    era: Era,
    /// Eras of which the log was copied, and up to where offsets mean what they meant there.
    ancestors: Vec<(Era, Offset)>,
    closed: AtomicBool,
}

impl ReadOnly {
    /// What a reader sees now. It stays as it is whatever is appended or compacted meanwhile.
    ///
    /// # Errors
    ///
    /// As [`Reader::view`].
    pub fn of(reader: &Reader) -> Result<Self> {
        let mut looks = 1;
        let view = loop {
            let view = reader.view()?;
            // What a writer compacts away meanwhile is mapped by then, and stays.
            match view.map_behind(0) {
                Err(error) if error.kind() == ErrorKind::Compacted && looks < LOOKS => looks += 1,
                Err(error) if error.kind() == ErrorKind::Compacted => return Err(error),
                _ => break view,
            }
        };
        let manifest = reader.manifest();
        let ancestors = manifest.ancestors.iter();
        Ok(Self {
            view,
            kinds: reader.kinds().into_iter().map(|kind| (kind.name.clone(), kind)).collect(),
            path: reader.path().to_owned(),
            era: era_of(manifest, manifest.era),
            ancestors: ancestors
                .map(|other| (era_of(manifest, other.era), Offset::from_raw(other.through)))
                .collect(),
            closed: AtomicBool::new(false),
        })
    }

    /// The log as it is for this backplane.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The cells, each as it is, in the order in which they were last written. It reads the entries of the segments that hold
    /// cells, and remembers none: a store of any size is walked over in little memory.
    ///
    /// What cannot be read comes as an error between them, `Corrupt` with [`Error::seqs`]; the next is behind it.
    pub fn cells(&self) -> impl Iterator<Item = Result<WrittenCell>> + '_ {
        let newest = self.kinds.get(cells::NAME).map(|kind| Newest::of(&self.view, Region::kind(kind.id)));
        newest.into_iter().flatten().map(|entry| WrittenCell::of(&entry?))
    }

    /// The cells of which the key begins so.
    pub(crate) fn cells_beginning<'p>(
        &'p self,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<WrittenCell>> + use<'p> {
        let region = self.kinds.get(cells::NAME).map(|kind| Region::prefix(kind.id, prefix));
        let newest = region.map(|region| Newest::of(&self.view, region));
        newest.into_iter().flatten().map(|entry| WrittenCell::of(&entry?))
    }

    /// The topics of a stream, each with its newest record, in the order of those; see [`cells`](Self::cells).
    ///
    /// # Errors
    ///
    /// `InvalidInput` and `OwnedByState` for what is no stream.
    pub fn topics<'p>(
        &'p self,
        stream: &str,
    ) -> Result<impl Iterator<Item = Result<WrittenTopic>> + use<'p>> {
        check_filter(Filter::stream(stream))?;
        let kind = self.known(stream)?.map(|kind| kind.id);
        let newest = kind.map(|kind| Newest::of(&self.view, Region::kind(kind)));
        Ok(newest.into_iter().flatten().map(|entry| entry.map(|entry| WrittenTopic::of(&entry))))
    }

    /// How many records of a stream or topic there are behind an offset, of the keys that are counted. It reads them.
    ///
    /// # Errors
    ///
    /// As [`head`](Backplane::head); `Corrupt` where one cannot be read.
    pub fn count_behind(
        &self,
        filter: Filter<'_>,
        from: Offset,
        is_counted: impl Fn(&[u8]) -> bool,
    ) -> Result<Behind> {
        check_filter(filter)?;
        let mut behind = Behind::default();
        let Some(kind) = self.known(filter.stream)? else { return Ok(behind) };
        for entry in self.entries((kind.id, filter), from.raw()) {
            let entry = entry?;
            if is_counted(entry.key()) {
                behind.records += 1;
                behind.next.get_or_insert((Offset::from_raw(entry.seq().get()), entry.time()));
            }
        }
        Ok(behind)
    }

    fn entries<'v>(
        &'v self,
        (kind, filter): (KindId, Filter<'_>),
        behind: u64,
    ) -> Box<dyn Iterator<Item = Result<Entry<'v>>> + 'v> {
        match filter.key {
            Some(key) => Box::new(self.view.entity_behind(kind, key, behind)),
            None => Box::new(self.view.region_behind(&Region::kind(kind), behind)),
        }
    }

    /// The kind of a stream, if there is one.
    fn known(&self, stream: &str) -> Result<Option<&Arc<KindInfo>>> {
        let kind = self.kinds.get(stream);
        kind.map(|kind| stream_of(kind).map(|_| kind)).transpose()
    }

    fn floors_of(&self, stream: &str) -> Option<KindId> {
        self.kinds.get(&floors_name(stream)).map(|kind| kind.id)
    }

    fn check_open(&self, doing: &str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(closed(doing).at(&self.path)) } else { Ok(()) }
    }

    fn refused(&self, doing: &str) -> Error {
        Error::new(ErrorKind::ReadOnly, doing).at(&self.path)
    }
}

/// What is behind a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Behind {
    /// So many records.
    pub records: u64,
    /// The first of them, and when it was appended, in nanoseconds since 1970.
    pub next: Option<(Offset, i64)>,
}

impl Backplane for ReadOnly {
    fn atomic(&self) -> bool {
        true
    }

    fn commit(&self, _: &[Step<'_>]) -> Result<Done> {
        Err(self.refused("commit"))
    }

    fn subscribe(&self, filter: Filter<'_>, from: Offset) -> Result<Box<dyn Feed>> {
        check_filter(filter)?;
        self.check_open("subscribe")?;
        let newest = self.view.last_seq()?.map_or(0, Seq::get);
        if from.raw() > newest {
            return Err(Error::new(ErrorKind::InvalidInput, format!("read {filter} behind an offset"))
                .at(&self.path)
                .sides(format!("one up to {newest}"), from));
        }
        let floors = self.floors_of(filter.stream);
        let kind = self.known(filter.stream)?;
        if let Some(kind) = kind {
            let floor = floors::check_not_hidden(&self.view, (kind.id, floors), filter, from)?;
            floors::check_not_dropped(&self.view, kind, filter, from, floor)?;
        }
        Ok(Box::new(Still {
            view: self.view.clone(),
            kind: kind.map(|kind| kind.id),
            floors: floors.filter(|_| filter.key.is_none()),
            key: filter.key.map(<[u8]>::to_vec),
            looked: from.raw(),
            read: VecDeque::new(),
            position: from,
            ended: false,
        }))
    }

    fn head(&self, filter: Filter<'_>) -> Result<Offset> {
        check_filter(filter)?;
        self.check_open("look up the head")?;
        let Some(kind) = self.known(filter.stream)? else { return Ok(Offset::BEGINNING) };
        let newest = match filter.key {
            Some(key) => self.view.latest(kind.id, key)?,
            None => self.view.kind(kind.id).next_back().transpose()?,
        };
        Ok(newest.map_or(Offset::BEGINNING, |entry| Offset::from_raw(entry.seq().get())))
    }

    fn lowest_retained(&self, filter: Filter<'_>) -> Result<Offset> {
        check_filter(filter)?;
        self.check_open("look up the oldest record")?;
        let Some(kind) = self.known(filter.stream)? else { return Ok(Offset::BEGINNING) };
        floors::lowest(&self.view, (kind.id, self.floors_of(filter.stream)), filter)
    }

    fn load(&self, cell: &[u8]) -> Result<CellState> {
        check_key("cell", cell)?;
        self.check_open("load a cell")?;
        let Some(kind) = self.kinds.get(cells::NAME) else { return Ok(CellState::default()) };
        cell_in(&self.view, kind.id, cell)
    }

    fn broadcast(&self, _: &str, _: &[u8]) -> Result<usize> {
        Err(self.refused("broadcast"))
    }

    fn listen(&self, _: &str) -> Result<Box<dyn Listener>> {
        Err(self.refused("listen"))
    }

    fn era(&self) -> Result<Era> {
        self.check_open("look up the era").map(|()| self.era)
    }

    fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        Ok(())
    }

    fn compactor(&self) -> Option<&dyn Compactor> {
        None
    }

    fn shares_offsets(&self, with: Era, through: Offset) -> bool {
        self.ancestors.iter().any(|(era, shared)| *era == with && through <= *shared)
    }
}

impl fmt::Debug for ReadOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadOnly({}, era {}, {:?})", self.path.display(), self.era, self.view)
    }
}

/// A feed of what there was at one moment.
struct Still {
    view: View,
    kind: Option<KindId>,
    /// Of a whole stream: below the floor of its topic a record is passed over.
    floors: Option<KindId>,
    key: Option<Vec<u8>>,
    /// Up to where it was read.
    looked: u64,
    read: VecDeque<Result<OwnedEntry>>,
    position: Offset,
    ended: bool,
}

/// So many entries are looked up at a time: they are where the log has them, and nothing is copied.
const AHEAD: usize = 64;

impl Still {
    fn read_on(&mut self) {
        let Some(kind) = self.kind else { return };
        let owned = |entry: Result<Entry<'_>>| entry.map(|entry| entry.to_owned());
        self.read = match &self.key {
            Some(key) => self.view.entity_behind(kind, key, self.looked).take(AHEAD).map(owned).collect(),
            None => {
                let region = region_of(kind, Filter { stream: "", key: None });
                self.view.region_behind(&region, self.looked).take(AHEAD).map(owned).collect()
            }
        };
    }

    fn step(&mut self) -> Result<Option<StreamRecord>> {
        loop {
            if self.read.is_empty() {
                self.read_on();
            }
            let Some(entry) = self.read.pop_front().transpose()? else { return Ok(None) };
            self.looked = entry.seq().get();
            let floor = self.floors.map(|floors| floors::floor_of(&self.view, floors, entry.key()));
            if floor.transpose()?.is_some_and(|floor| entry.seq().get() < floor.first) {
                continue;
            }
            let record = StreamRecord::of_entry(entry);
            self.position = record.offset();
            return Ok(Some(record));
        }
    }
}

impl Feed for Still {
    fn poll(&mut self, _: &Waker) -> Result<Option<StreamRecord>> {
        if self.ended {
            return Err(has_ended());
        }
        let found = self.step();
        self.ended = found.is_err();
        found
    }

    fn position(&self) -> Offset {
        self.position
    }

    fn next(&mut self) -> Result<StreamRecord> {
        self.try_next()?.ok_or_else(|| closed("wait for what comes: it is the log of one moment"))
    }

    fn next_timeout(&mut self, _: Duration) -> Result<Option<StreamRecord>> {
        self.try_next()
    }
}
