//! Reading a store from another process, beside a live writer or without one.
//!
//! A reader takes no lock and never creates or changes a file. It follows the log by reading
//! what lies behind the last whole batch it knows, checks both checksums of every frame, and
//! only then lets its own map show them. The writer's marks in `LOCK` hold a reader
//! back after a failed sync, and say that the log has gone on behind damage.

mod behind;
mod damaged;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use crate::disk::posix::PosixDirectory;
use crate::disk::{Directory, File};
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::Frame;
use crate::format::lock::Holder;
use crate::format::lost::LostRange;
use crate::format::manifest::Manifest;
use crate::format::segment::{FIRST_FRAME, SegmentHeader, file_name};
use crate::format::source::SourceInfo;
use crate::format::system::{KindInfo, Owner, System};
use crate::id::{EntryAt, KindId, Life, Position, StoreId};
use crate::index::build::note;
use crate::index::catalog::{IndexRef, Section};
use crate::index::entities::Known;
use crate::index::finder::Index;
use crate::index::holes::Hole;
use crate::index::live::LiveIndex;
use crate::journal::cursors::{CursorInfo, infos_of};
use crate::journal::known::adopt;
use crate::journal::opening::{Opened, find_log, read_manifest};
use crate::journal::registry::Registry;
use crate::journal::rows::learn_counts_behind;
use crate::journal::view::{View, compacted};
use crate::journal::waiting::Until;
use crate::log::behind::seq_before;
use crate::log::grid::{may_go_on, read_part, whole_batch};
use crate::log::lock::{LiveMarks, SeenLock};
use crate::log::report::RecoveryReport;
use crate::log::segment::Segment;
use crate::log::visitor::Purpose;

/// A store, open for reading only, from any process.
///
/// # What is durable
///
/// A reader cannot ask for a sync, so it goes by what is said:
///
/// | the store | is durable |
/// | --- | --- |
/// | a writer lives | up to where it says so: with [`Durability::Sync`] that is what was acknowledged; with `Interval` it follows at the interval; with `Os` only where something in the writer's process asks for a sync, or a segment is full |
/// | it was closed, or the machine was started anew since | all of it |
/// | its writer was killed | up to where it had said so; the rest with the next opening, which makes it so |
/// | a backup, or a copy of a directory | all of it |
///
/// [`Durability::Sync`]: crate::Durability::Sync
///
/// ```
/// use esker::{Journal, Reader, Record};
/// # fn main() -> esker::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// let path = directory.path().join("harbour.esker");
/// let journal = Journal::open(&path)?;
/// let note = journal.kind("note")?;
/// let reader = Reader::open(&path)?;                   // beside the writer
/// journal.append(Record::new(note, b"a", b"1"))?;
/// assert_eq!(reader.view()?.range(..).count(), 1);     // each view looks for what is new
/// # journal.close()
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Reader {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    directory: Arc<dyn Directory>,
    manifest: Manifest,
    index: Arc<Index>,
    registry: RwLock<Registry>,
    report: RecoveryReport,
    follow: Mutex<Follow>,
    /// Segments that the device has refused once.
    refused: Mutex<BTreeSet<u32>>,
}

/// How far the log was read.
#[derive(Debug)]
struct Follow {
    segment: Arc<Segment>,
    file: Arc<dyn File>,
    /// `None`: an index file covers what was read of the segment.
    live: Option<Arc<LiveIndex>>,
    began: bool,
    /// The end of the last whole batch.
    at: u64,
    last_seq: u64,
    sealed: bool,
    /// What was lost right before here, as long as nothing behind it says how much that was.
    lost: Option<Hole>,
    /// The life of the writer when the directory was last listed for a segment behind a torn end.
    listed_in: Option<Life>,
    lock: Option<SeenLock>,
    /// What the last view showed.
    shown: Position,
    /// A frame, or an index, says that everything below was durable.
    said_durable: Position,
    /// What is known to be durable of what there was at the last look.
    durable: Position,
    /// The last frame says that the writer has closed the store.
    closed: bool,
    /// The compactions that the row of segments is as after.
    compactions: u64,
}

/// Opening races with a writer that unlinks dead segments: look again so often.
pub(crate) const LOOKS: usize = 5;
/// Read behind the end in pieces of this size, or a whole batch.
const PIECE: usize = 64 << 10;

impl Reader {
    /// Opens a store that is there, also a damaged one: what is left of it can be read, and
    /// [`recovery`](Self::recovery) lists the damage that was met at the end of the log.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotADirectory`, `NotAStore`, `FormatTooNew`, `PermissionDenied`, `Io`, and
    /// `Corrupt` if the manifest is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let directory = PosixDirectory::open(path).map_err(|e| {
            let doing = "open the store for reading";
            match e.kind() {
                io::ErrorKind::NotFound => Error::new(ErrorKind::NotFound, doing),
                io::ErrorKind::NotADirectory => Error::new(ErrorKind::NotADirectory, doing),
                _ => Error::io(doing, e),
            }
            .at(path)
        })?;
        Self::open_in(Arc::new(directory))
    }

    /// Opens a store on a simulated disk, as it is now: a simulated mapping is a copy, which does not
    /// show what a writer appends afterwards.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    #[cfg(feature = "simulator")]
    pub fn open_on(disk: &crate::disk::simulator::Simulator) -> Result<Self> {
        Self::open_in(disk.directory())
    }

    pub(crate) fn open_in(directory: Arc<dyn Directory>) -> Result<Self> {
        let mut looks = 0;
        let (manifest, opened) = loop {
            looks += 1;
            let manifest = read_manifest(&*directory)?.ok_or_else(|| {
                Error::new(ErrorKind::NotAStore, "open the store for reading")
                    .at(directory.path())
                    .sides("a store", "an empty directory")
            })?;
            let found = find_log(Arc::clone(&directory), &manifest, Purpose::Read);
            // What a writer removes meanwhile looks lost; then the manifest says otherwise.
            let is_as_it_was =
                read_manifest(&*directory)?.is_some_and(|now| now.compacted == manifest.compacted);
            match found {
                Err(error) if error.kind() == ErrorKind::Io && looks < LOOKS => {}
                _ if !is_as_it_was && looks < LOOKS => {}
                found => break (manifest, found?),
            }
        };
        let lock = SeenLock::look(&*directory, manifest.store)?;
        let follow = Follow::behind(&opened, lock, manifest.compacted.parts_numbered.into())?;
        let Opened { index, registry, end, .. } = opened;
        let (registry, follow) = (RwLock::new(registry), Mutex::new(follow));
        let (report, refused) = (end.report, Mutex::default());
        let shared = Shared { directory, manifest, index, registry, report, follow, refused };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The log as it is now.
    ///
    /// # Errors
    ///
    /// `Rewound` if the writer crashed and went on before what this reader had seen: what came
    /// after was never durable. `Compacted` if the writer has dropped what this reader had yet to read to
    /// follow the log. Open the reader again then. `Io` if a segment cannot be read.
    pub fn view(&self) -> Result<View> {
        self.view_until(Until::Visible)
    }

    pub(crate) fn view_until(&self, until: Until) -> Result<View> {
        let mut follow = self.shared.follow.lock();
        let mark = self.shared.limit(&mut follow, until)?;
        // Under the lock: a compaction that another thread takes over meanwhile may have dropped what only an entry behind
        // the mark makes superfluous.
        Ok(View::new(Arc::clone(&self.shared.index), mark))
    }

    /// Reads what is new; answers where the log ends for this reader.
    ///
    /// # Errors
    ///
    /// As [`view`](Self::view).
    pub fn refresh(&self) -> Result<Position> {
        self.shared.look(&mut self.shared.follow.lock())
    }

    /// As [`refresh`](Self::refresh), up to what is durable.
    pub(crate) fn refresh_durable(&self) -> Result<Position> {
        self.shared.limit(&mut self.shared.follow.lock(), Until::Durable)
    }

    /// What was durable when somebody last looked for what is new.
    pub(crate) fn was_durable(&self) -> Position {
        self.shared.follow.lock().durable
    }

    /// The same store, opened again: for who was left behind by compaction, or whose log was rewound.
    pub(crate) fn opened_again(&self) -> Result<Self> {
        Self::open_in(Arc::clone(&self.shared.directory))
    }

    /// Waits until the log ends behind `position`, or for at most `timeout`. True: it does.
    ///
    /// Looks again and again: for 20 microseconds without a pause, then with pauses of 1 to 20
    /// milliseconds. A process cannot be woken by another one that does not know of it.
    ///
    /// # Errors
    ///
    /// As [`view`](Self::view).
    pub fn wait_behind(&self, position: Position, timeout: Duration) -> Result<bool> {
        const SPIN: Duration = Duration::from_micros(20);
        let started = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            if self.refresh()? > position {
                return Ok(true);
            }
            let waited = started.elapsed();
            if waited >= timeout {
                return Ok(false);
            }
            if waited < SPIN {
                std::hint::spin_loop();
            } else {
                std::thread::park_timeout(pause.min(timeout - waited));
                pause = (pause * 2).min(Duration::from_millis(20));
            }
        }
    }

    /// How far the log is durable, if a live writer says so.
    #[must_use]
    pub fn durable(&self) -> Option<Position> {
        let follow = self.shared.follow.lock();
        follow.lock.as_ref().and_then(SeenLock::marks).map(|marks| marks.durable)
    }

    /// The kinds that are registered, in the order of their numbers.
    #[must_use]
    pub fn kinds(&self) -> Vec<Arc<KindInfo>> {
        self.shared.registry.read().iter().cloned().collect()
    }

    /// The sources that have a number, by number.
    #[must_use]
    pub fn sources(&self) -> Vec<SourceInfo> {
        self.shared.registry.read().sources().values().cloned().collect()
    }

    /// The numbers of the last event of a kind of operations, among those of the store and among those of the kind; zeros
    /// of any other kind.
    ///
    /// # Errors
    ///
    /// As [`view`](Self::view).
    pub fn last_event(&self, kind: KindId) -> Result<(u64, u64)> {
        let mut registry = self.shared.registry.read().clone();
        if registry.get(kind).is_none_or(|kind| kind.owner != Owner::Events) {
            return Ok((0, 0));
        }
        let counted = registry.counted_through;
        learn_counts_behind(&self.view()?, counted, &mut registry)?;
        Ok(registry.last_event_known(kind))
    }

    /// The kind with this name.
    #[must_use]
    pub fn kind_named(&self, name: &str) -> Option<Arc<KindInfo>> {
        self.shared.registry.read().named(name).cloned()
    }

    /// Who writes the store now; `None`: nobody that can be told.
    #[must_use]
    pub fn writer(&self) -> Option<Holder> {
        let follow = self.shared.follow.lock();
        let lock = follow.lock.as_ref()?;
        lock.marks().and_then(|_| lock.holder())
    }

    /// Who wrote the store last, or writes it now.
    #[must_use]
    pub fn last_writer(&self) -> Option<Holder> {
        self.shared.follow.lock().lock.as_ref().and_then(SeenLock::holder)
    }

    /// What opening found out about the end of the log.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.shared.report
    }

    /// The identity of the store.
    #[must_use]
    pub fn store_id(&self) -> StoreId {
        self.shared.manifest.store
    }

    /// The store's era: it changes when a Seq may come to mean another durable entry.
    #[must_use]
    pub fn era(&self) -> u64 {
        self.shared.manifest.era
    }

    /// When the store was made, in nanoseconds since 1970.
    #[must_use]
    pub fn created(&self) -> i64 {
        self.shared.manifest.created
    }

    /// Where the store is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.shared.directory.path()
    }

    /// How many entities the store knows.
    #[must_use]
    pub fn entity_count(&self) -> u64 {
        self.shared.index.entities.count()
    }

    /// The cursors of the store, by name, and how far each is behind; see [`Journal::cursors`]. Whether
    /// somebody has one in hand is known to the process that writes.
    ///
    /// [`Journal::cursors`]: crate::Journal::cursors
    ///
    /// # Errors
    ///
    /// As [`view`](Self::view) and [`Journal::cursors`].
    pub fn cursors(&self) -> Result<Vec<CursorInfo>> {
        let view = self.view()?;
        let states: Vec<_> = self.shared.registry.read().cursors.iter().cloned().collect();
        infos_of(&states, &view, |_| None)
    }

    pub(crate) fn registry(&self) -> &RwLock<Registry> {
        &self.shared.registry
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.shared.manifest
    }

    /// What repairs could not save of the store, in the order of its Seqs: numbers that are not there, and were not dropped
    /// by compaction, or not all of them. A store that an earlier build has repaired says nothing.
    #[must_use]
    pub fn lost_to_repair(&self) -> &[LostRange] {
        &self.shared.manifest.lost
    }

    /// True for a backup, which nobody writes before it is restored.
    #[must_use]
    pub fn is_backup(&self) -> bool {
        self.shared.manifest.backup.is_some()
    }

    /// The last number, 0 for none, of each log that this one was copied from: by a backup, a restore or a repair. How the
    /// life ended that wrote there then, this log does not say.
    pub fn copied_through(&self) -> impl Iterator<Item = u64> + '_ {
        let manifest = &self.shared.manifest;
        let ancestors = manifest.ancestors.iter().map(|ancestor| ancestor.through);
        ancestors.chain(manifest.backup.map(|end| end.last_seq))
    }

    pub(crate) fn index(&self) -> &Arc<Index> {
        &self.shared.index
    }

    pub(crate) fn directory(&self) -> &Arc<dyn Directory> {
        &self.shared.directory
    }
}

impl Follow {
    /// Goes on where opening stopped.
    fn behind(opened: &Opened, lock: Option<SeenLock>, compactions: u64) -> Result<Self> {
        let end = opened.end.position;
        let tail = opened.tail.as_ref().filter(|(segment, _)| segment.number() == end.segment());
        let (segment, live) = match tail {
            Some((segment, live)) => (Arc::clone(segment), Some(Arc::clone(live))),
            None => {
                let catalog = opened.index.catalog();
                let section = catalog.section(end.segment()).ok_or_else(|| {
                    Error::corrupt("find the end of the log")
                        .at(opened.index.place.directory.path())
                        .sides("a segment of which something validates", "none")
                })?;
                (Arc::clone(&section.open()?.segment), None)
            }
        };
        let directory = &*opened.index.place.directory;
        let file = segment.take_file(directory);
        let file = file.map_err(|e| Error::io("follow the log", e).at(directory.path()))?;
        Ok(Self {
            began: end.offset() != FIRST_FRAME,
            segment,
            file,
            live,
            at: end.offset(),
            last_seq: opened.end.last_seq,
            sealed: opened.end.sealed,
            lost: None,
            listed_in: None,
            lock,
            shown: Position::ZERO,
            said_durable: opened.end.durable,
            durable: Position::ZERO,
            closed: opened.end.report.clean,
            compactions,
        })
    }

    /// The marks of a writer that lives.
    fn marks(&self) -> Option<LiveMarks> {
        self.lock.as_ref().and_then(SeenLock::marks)
    }
}

impl Shared {
    fn limit(&self, follow: &mut Follow, until: Until) -> Result<Position> {
        let limit = self.look(follow)?;
        Ok(if until == Until::Durable { limit.min(follow.durable) } else { limit })
    }

    /// Reads what is new; answers how far it may be shown.
    fn look(&self, follow: &mut Follow) -> Result<Position> {
        self.read_new(follow)?;
        self.follow_compaction(follow)?;
        let end = follow.segment.position(follow.at);
        // Behind the look at what was compacted: all that this was judged by is durable by now.
        let marks = follow.marks();
        let limit = match marks {
            // After a failed sync nobody may see more than what is durable,
            Some(LiveMarks { poisoned: true, durable, .. }) => end.min(durable),
            // The writer says what is visible behind making it so: another thread of it may have synced that before.
            Some(LiveMarks { visible, durable, .. }) => {
                end.min(visible.max(durable)).max(follow.shown.min(end))
            }
            // also when that writer has gone: what the cache shows the next one may not find.
            None => follow
                .lock
                .as_ref()
                .map(SeenLock::last_words)
                .filter(|words| words.is_poisoned)
                .map_or(end, |words| end.min(words.durable.max(follow.said_durable))),
        };
        follow.shown = limit;
        follow.durable = durable_of(follow, marks, end);
        Ok(limit)
    }

    /// Reads whole batches behind the end until there is none.
    fn read_new(&self, follow: &mut Follow) -> Result<()> {
        loop {
            while !follow.sealed && self.read_piece(follow)? {}
            if !self.next_segment(follow)? {
                return Ok(());
            }
        }
    }

    /// Reads the whole batches of one piece. False: there is none.
    fn read_piece(&self, follow: &mut Follow) -> Result<bool> {
        let total = follow.segment.header.bytes;
        let left = usize::try_from(total.saturating_sub(follow.at)).unwrap_or(usize::MAX);
        let mut size = left.min(PIECE);
        loop {
            let doing = |e| self.io("follow the log", &follow.segment, follow.at, e);
            let piece = read_part(&*follow.file, follow.at, size).map_err(doing)?;
            let start = follow.at;
            while !follow.sealed
                && let Some(length) = whole_batch(&follow.segment, &piece, follow.at, start)
            {
                self.apply(follow, &piece, start, length)?;
            }
            if follow.at > start {
                return Ok(true);
            }
            if size == left || !may_go_on(&follow.segment, &piece, start) {
                return Ok(false);
            }
            // A batch that is longer than the piece.
            size = (size * 8).min(left);
        }
    }

    /// Takes a whole batch into the index, and shows it.
    fn apply(&self, follow: &mut Follow, piece: &[u8], start: u64, length: u64) -> Result<()> {
        let live = self.live(follow)?;
        let end = follow.at + length;
        while follow.at < end {
            let place =
                usize::try_from(follow.at - start).ok().and_then(|at| piece.get(at..)).unwrap_or_default();
            let Some(frame) = Frame::parse(place) else { break };
            let position = follow.segment.position(follow.at);
            if follow.lost.is_some() {
                self.lose_before(follow, seq_before(&frame))?;
            }
            note(&live, &mut follow.began, position, &frame);
            follow.said_durable = follow.said_durable.max(frame.header.durable());
            follow.closed = false;
            if frame.header.is_system() {
                let system = System::of(frame.header.operation);
                follow.sealed = system == Some(System::Seal);
                follow.closed = system == Some(System::Closed);
                self.registry.write().learn_frame(&frame);
            } else {
                let hash = self.index.hash(frame.header.kind.get(), frame.key());
                live.skip_to(frame.header.seq.get());
                let newest = EntryAt::new(position.segment(), live.count());
                let known = Known { generation: frame.header.generation.get(), newest };
                let before = self.index.learn_to_read(hash, known)?;
                live.push(follow.at, before.map_or(EntryAt::NONE, |before| before.newest));
                follow.last_seq = frame.header.seq.get();
            }
            follow.at += frame.len() as u64;
        }
        follow.segment.map.raise(usize::try_from(end).unwrap_or(0).min(follow.segment.map.bytes()));
        Ok(())
    }

    /// The arrays of the segment that is followed.
    fn live(&self, follow: &mut Follow) -> Result<Arc<LiveIndex>> {
        if let Some(live) = &follow.live {
            return Ok(Arc::clone(live));
        }
        let number = follow.segment.number();
        let catalog = self.index.catalog();
        let bytes = follow.segment.header.bytes;
        let opened = catalog.section(number).map(|section| section.open()).transpose()?;
        let own = opened.map_or(0, |opened| opened.own());
        let live = match opened.map(|opened| opened.index()) {
            Some(IndexRef::Sealed(index, _)) => Arc::new(LiveIndex::from_sealed(index, number, bytes)),
            Some(IndexRef::Live(live)) => live,
            None => Arc::new(LiveIndex::for_segment(bytes)),
        };
        self.index.add(Section::opened(
            Arc::clone(&self.index.place),
            Arc::clone(&follow.segment),
            Arc::clone(&live),
            own,
        ));
        follow.live = Some(Arc::clone(&live));
        Ok(live)
    }

    /// Goes on in the segment behind the one that ended. False: there is none yet.
    fn next_segment(&self, follow: &mut Follow) -> Result<bool> {
        let number = follow.segment.number();
        if follow.sealed {
            // Nearly always the next number; a gap is explained by a header.
            if let Some(segment) = self.try_open(number + 1)?
                && segment.header.follows == SegmentHeader::after_seal_of(number)
            {
                return self.enter(follow, segment);
            }
        } else {
            let marks = follow.marks();
            if self.go_on_in_the_segment(follow, marks)? {
                return Ok(true);
            }
            if !self.may_be_torn(follow, marks) {
                return Ok(false);
            }
        }
        self.check_not_left_behind(follow)?;
        let Some(segment) = self.follower_of(follow)? else { return self.go_on_behind_damage(follow) };
        let follows = segment.header.follows;
        if follows == follow.segment.header.follows && follow.at == FIRST_FRAME {
            // The log went on without this segment, of which there is nothing.
            return self.enter(follow, segment);
        }
        let before_it = follows.segment() < number;
        if before_it || follows.offset() != 0 && follows.offset() < follow.at {
            return Err(Error::new(ErrorKind::Rewound, "follow the log")
                .at(self.directory.path().join(file_name(number)))
                .place(number, follows.offset())
                .sides(
                    format!("a log that goes on behind {}", follow.segment.position(follow.at)),
                    follows,
                ));
        }
        let goes_on = follow.sealed && follows.offset() == 0 || follows.offset() == follow.at;
        if goes_on { self.enter(follow, segment) } else { self.go_on_behind_damage(follow) }
    }

    /// The log goes on where it was compacted: what stands between cannot be read any more.
    fn check_not_left_behind(&self, follow: &Follow) -> Result<()> {
        let number = follow.segment.number();
        let now = read_manifest(&*self.directory)?;
        match now.filter(|now| now.compacted.last_segment() > number) {
            Some(now) => Err(compacted("follow the log", now.compacted.floor_of_all())),
            None => Ok(()),
        }
    }

    /// Puts what the writer has compacted into the row, once this reader has come past it.
    fn follow_compaction(&self, follow: &mut Follow) -> Result<()> {
        let marks = follow.marks();
        if marks.is_some_and(|marks| marks.compactions == follow.compactions) {
            return Ok(());
        }
        let Some(now) = read_manifest(&*self.directory)? else { return Ok(()) };
        let compactions = now.compacted.parts_numbered.into();
        let is_news = compactions != follow.compactions;
        if is_news
            && now.compacted.last_segment() < follow.segment.number()
            && adopt(&self.index, now.compacted)
        {
            follow.compactions = compactions;
        }
        Ok(())
    }

    /// Worth a look at the directory: another life may have gone on in a new segment.
    fn may_be_torn(&self, follow: &mut Follow, marks: Option<LiveMarks>) -> bool {
        let life = marks.map(|marks| marks.life);
        if marks.is_some_and(|marks| marks.visible.max(marks.durable).segment() > follow.segment.number()) {
            return true;
        }
        if follow.lock.is_none() {
            match SeenLock::look(&*self.directory, self.manifest.store) {
                Ok(lock) => follow.lock = lock,
                // Asked again the next time.
                Err(_) => return true,
            }
        }
        let changed = life.is_none() || life != follow.listed_in;
        follow.listed_in = life;
        changed
    }

    fn enter(&self, follow: &mut Follow, segment: Arc<Segment>) -> Result<bool> {
        let file = segment.take_file(&*self.directory);
        follow.file = file.map_err(|e| self.io("follow the log", &segment, 0, e))?;
        let live = Arc::new(LiveIndex::for_segment(segment.header.bytes));
        live.begin(follow.last_seq + 1);
        let place = Arc::clone(&self.index.place);
        self.index.add(Section::opened(place, Arc::clone(&segment), Arc::clone(&live), 0));
        follow.segment = segment;
        follow.live = Some(live);
        follow.listed_in = None;
        (follow.began, follow.at, follow.sealed) = (false, FIRST_FRAME, false);
        Ok(true)
    }

    fn io(&self, doing: &str, segment: &Segment, offset: u64, error: io::Error) -> Error {
        let path = self.directory.path().join(file_name(segment.number()));
        Error::io(doing, error).at(path).place(segment.number(), offset)
    }
}

/// How far a log that was read to its `end` is known to be durable.
fn durable_of(follow: &Follow, marks: Option<LiveMarks>, end: Position) -> Position {
    if let Some(LiveMarks { durable, .. }) = marks {
        return end.min(durable);
    }
    // A backup, or a copy: nobody has a part of it in a cache that is not on the disk.
    let Some(lock) = &follow.lock else { return end };
    let words = lock.last_words();
    let is_closed = follow.closed && words.is_released;
    // What is read behind a start of the machine comes from the disk.
    if is_closed || words.is_of_another_boot {
        return end;
    }
    // A writer that was killed has left in the cache what it had not synced. (Where a page cannot be shared, frames say it.)
    end.min(words.durable.max(follow.said_durable))
}
