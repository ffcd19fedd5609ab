//! Opening a store: what is there, who holds it, and where its log ends.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::disk::posix::PosixDirectory;
use crate::disk::{Access, Directory, read_whole, replace};
use crate::error::{Error, ErrorKind, Result};
use crate::format::compacted::{Compacted, Cover};
use crate::format::cursor::CursorState;
use crate::format::frame::Frame;
use crate::format::index as index_format;
use crate::format::index::Keyed;
use crate::format::manifest::{self, CursorTable, Manifest};
use crate::format::segment::{FIRST_FRAME, file_name, number_of, part_number_of};
use crate::format::system::{Preamble, System};
use crate::format::{directory as entities_format, lock as lock_format};
use crate::id::{EntryAt, Life, Position, StoreId};
use crate::index::EntityHasher;
use crate::index::build::note;
use crate::index::catalog::{Catalog, IndexRef, Place, Section};
use crate::index::entities::Known;
use crate::index::finder::Index;
use crate::index::holes::Hole;
use crate::index::keyed::KeyedReader;
use crate::index::live::LiveIndex;
use crate::journal::base::{Base, newest_indexed};
use crate::journal::compaction::left_by_compaction;
use crate::journal::core::{Core, Stage, Writer};
use crate::journal::directory::{make_directory, refuse_shared};
use crate::journal::first_segment::{make_first_segment, remove_first_segment};
use crate::journal::known::{entities_of, learn_from, refuse_damage, unreadable};
use crate::journal::newer::refuse_newer_beside;
use crate::journal::registry::Registry;
use crate::journal::window::Window;
use crate::log::chain::{Chain, find_chain};
use crate::log::lock::{HeldLock, now, random};
use crate::log::recovery::recover;
use crate::log::report::Damage;
use crate::log::segment::Segment;
use crate::log::visitor::{End, Purpose, Visitor};
use crate::options::{Options, Presence};
use crate::trace;

/// Opens or makes the store in a directory of the file system.
pub(crate) fn open_path(path: &Path, options: Options) -> Result<Core> {
    options.validate()?;
    let doing = |e| Error::io("open the store", e).at(path);
    match std::fs::metadata(path) {
        Ok(found) if !found.is_dir() => {
            return Err(Error::new(ErrorKind::NotADirectory, "open the store").at(path));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if options.presence == Presence::OpenExisting {
                return Err(Error::new(ErrorKind::NotFound, "open the store").at(path));
            }
            match make_directory(path) {
                // Somebody was faster; who of us opens it the lock decides.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other.map_err(doing)?,
            }
        }
        Err(error) => return Err(doing(error)),
    }
    let directory = Arc::new(PosixDirectory::open(path).map_err(doing)?);
    if options.refuse_shared_directory {
        // Of what was opened, whatever has the name by now.
        refuse_shared(path, &directory.metadata().map_err(doing)?)?;
    }
    let file_system = directory.file_system();
    if file_system.network && !options.allow_network_file_system {
        return Err(Error::new(ErrorKind::UnsupportedFileSystem, "open the store")
            .at(path)
            .sides("a local file system, or allow_network_file_system(true)", file_system.name));
    }
    open(directory, options)
}

/// No log is longer; a preamble that says so is not believed.
const LOG_BYTES_MAX: u64 = 1 << 62;

/// Opens or makes the store in a directory.
pub(crate) fn open(directory: Arc<dyn Directory>, options: Options) -> Result<Core> {
    options.validate()?;
    let _span = trace::opening(directory.path());
    let (manifest, lock) = match read_manifest(&*directory)? {
        Some(manifest) => {
            may_be_written(&*directory, &manifest, &options)?;
            refuse_newer_beside(&*directory)?;
            // Only now: nothing is changed in a directory that is not a store of this format.
            let lock = HeldLock::take(&*directory)?;
            // Between our look and the lock the holder may have replaced it.
            let manifest = read_manifest(&*directory)?.unwrap_or(manifest);
            may_be_written(&*directory, &manifest, &options)?;
            (manifest, lock)
        }
        None => create(&*directory, &options)?,
    };
    start(directory, options, manifest, lock)
}

/// Refuses a store that was to be made, a backup, and what only a newer build may write.
fn may_be_written(directory: &dyn Directory, manifest: &Manifest, options: &Options) -> Result<()> {
    let refused = |kind, doing: &str| Err(Error::new(kind, doing).at(directory.path()));
    if options.presence == Presence::Create {
        return refused(ErrorKind::AlreadyExists, "make a store");
    }
    if manifest.backup.is_some() {
        return refused(ErrorKind::IsBackup, "open the store for writing");
    }
    if manifest.read_only {
        return refused(ErrorKind::FormatTooNew, "open the store for writing");
    }
    Ok(())
}

/// Starts the engine over a store whose lock is held.
fn start(
    directory: Arc<dyn Directory>,
    options: Options,
    manifest: Manifest,
    lock: HeldLock,
) -> Result<Core> {
    let life = draw_life()?;
    let opened = find_log(Arc::clone(&directory), &manifest, Purpose::Write)?;
    let Opened { index, registry, chain, end, keyed, preamble, preamble_at, .. } = opened;
    if !end.report.clean {
        make_names_durable(&*directory)?;
    }
    let empty = end.position.offset() == FIRST_FRAME && !end.report.ambiguous;
    let resume = end.report.clean || empty;
    let writer = Writer {
        life,
        previous_life: end.life.unwrap_or(Life(0)),
        stage: Stage::Waiting { end: end.position, resume },
        last_seq: end.last_seq,
        log_bytes: preamble.log_bytes.min(LOG_BYTES_MAX),
        keyed,
        // What compaction dropped is known to nobody any more.
        forgot: preamble.forgot || !manifest.compacted.covers.is_empty(),
        dead: chain.dead,
        greatest: chain.greatest,
        unannounced: None,
        lost: 0,
        preamble_at,
    };
    lock.announce(manifest.store, life, end.position, manifest.compacted.parts_numbered).map_err(|e| {
        Error::io("announce the opening", e).at(directory.path().join(lock_format::FILE_NAME))
    })?;
    let parts_numbered = manifest.compacted.parts_numbered;
    let left = left_by_compaction(&*directory, &manifest, &chain.left);
    let core =
        Core::new(directory, options, manifest, end.report, end.position, index, writer, registry, lock);
    core.learn_counts(&preamble)?;
    core.compacting.begin(parts_numbered, &left);
    *core.left.lock() = left;
    core.report.tell(core.directory.path());
    Ok(core)
}

/// A process that was killed may have renamed a file and not synced the directory: its name is
/// there for us, and a power cut could still take it back with all that is then written to it.
fn make_names_durable(directory: &dyn Directory) -> Result<()> {
    directory
        .sync()
        .and_then(|()| directory.sync_parent())
        .map_err(|e| Error::io("make the names of the store's files durable", e).at(directory.path()))
}

/// The manifest; `None` where there is no store yet and one can be made.
pub(crate) fn read_manifest(directory: &dyn Directory) -> Result<Option<Manifest>> {
    let path = directory.path().join(manifest::FILE_NAME);
    let doing = |e| Error::io("read the manifest", e).at(path.clone());
    let file = match directory.open(manifest::FILE_NAME, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return no_manifest(directory),
        Err(error) => return Err(doing(error)),
    };
    let bytes = read_whole(&*file, manifest::BYTES_MAX).map_err(doing)?;
    Manifest::read(&bytes).map(Some).map_err(|e| e.at(path))
}

/// The manifest of a directory that is a store, or was one.
pub(crate) fn manifest_of(directory: &dyn Directory) -> Result<Manifest> {
    read_manifest(directory)?.ok_or_else(|| no_manifest_beside("0000000001.seg", directory))
}

fn no_manifest_beside(name: &str, directory: &dyn Directory) -> Error {
    Error::corrupt("read the manifest")
        .at(directory.path().join(manifest::FILE_NAME))
        .sides("a manifest beside the log", format!("{name} and no manifest"))
}

/// A directory without a manifest is empty, or what a crash left of a creation, or not ours.
fn no_manifest(directory: &dyn Directory) -> Result<Option<Manifest>> {
    let names = directory.list().map_err(|e| Error::io("list the directory", e).at(directory.path()))?;
    if names.iter().any(|entry| entry.is_file && entry.name == manifest::FILE_NAME) {
        // Somebody else made the store since we looked.
        return read_manifest(directory);
    }
    let is_ours = |name: &str| {
        name == lock_format::FILE_NAME
            || name == file_name(1)
            || name.ends_with(".tmp") && number_of_temporary(name)
    };
    // Before a creation is complete there is nothing but an empty first segment.
    let was_in_use = |name: &str| match number_of(name) {
        Some(1) => holds_more_than_a_header(directory, name),
        Some(_) => true,
        None => {
            index_format::number_of(name).is_some()
                || part_number_of(name).is_some()
                || name == entities_format::FILE_NAME
        }
    };
    if let Some(used) = names.iter().find(|entry| was_in_use(&entry.name)) {
        return Err(no_manifest_beside(&used.name, directory));
    }
    match names.iter().find(|entry| !is_ours(&entry.name)) {
        Some(foreign) => Err(Error::new(ErrorKind::NotAStore, "open the store")
            .at(directory.path())
            .sides("an empty directory or a store", format!("a file named {:?}", foreign.name))),
        None => Ok(None),
    }
}

/// What cannot be read may hold anything.
fn holds_more_than_a_header(directory: &dyn Directory, name: &str) -> bool {
    const SOME: u64 = 4096;
    let holds = || -> io::Result<bool> {
        let file = directory.open(name, Access::Read)?;
        let mut bytes = vec![0; usize::try_from(file.len()?.min(SOME)).unwrap_or(0)];
        file.read_at(&mut bytes, 0)?;
        // The first frame stands right behind the header, however it was torn.
        let frames = bytes.get(crate::format::header::HEADER_BYTES..).unwrap_or_default();
        Ok(frames.iter().any(|byte| *byte != 0))
    };
    holds().unwrap_or(true)
}

fn number_of_temporary(name: &str) -> bool {
    let name = name.strip_suffix(".tmp").unwrap_or(name);
    name == manifest::FILE_NAME || number_of(name) == Some(1)
}

/// Makes a store: lock, first segment, and last the manifest, which makes it one.
fn create(directory: &dyn Directory, options: &Options) -> Result<(Manifest, HeldLock)> {
    if options.presence == Presence::OpenExisting {
        return Err(Error::new(ErrorKind::NotAStore, "open the store")
            .at(directory.path())
            .sides("a store", "an empty directory"));
    }
    let lock = HeldLock::take(directory)?;
    if let Some(manifest) = read_manifest(directory)? {
        // Somebody was faster.
        may_be_written(directory, &manifest, options)?;
        return Ok((manifest, lock));
    }
    let doing = |what: &'static str| move |e: io::Error| Error::io(what, e);
    let store = StoreId(random().map_err(doing("draw the store's id"))?);
    let manifest = Manifest {
        store,
        era: 1,
        created: now(),
        compacted: Compacted::default(),
        table: CursorTable::default(),
        ancestors: Vec::new(),
        lost: Vec::new(),
        sections: Vec::new(),
        read_only: false,
        backup: None,
        features: (0, 0),
    };
    let failed =
        |e: io::Error| Error::io("remove what a crash left", e).at(directory.path().join(file_name(1)));
    remove_first_segment(directory).map_err(failed)?;
    let made = make_first_segment(directory, store, options, 0);
    if let Err(error) = made.and_then(|()| write_manifest(directory, &manifest)) {
        // Nothing is left of a store that did not come to be. The manifest goes first: one that
        // was put in place before its directory could be synced makes a store of the segment.
        let gone = match directory.remove(manifest::FILE_NAME) {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(()) => true,
        };
        if gone {
            let _ = remove_first_segment(directory);
        }
        return Err(error);
    }
    directory
        .sync_parent()
        .map_err(|e| Error::io("make the store's name durable", e).at(directory.path()))?;
    Ok((manifest, lock))
}

/// Makes a store in an empty directory that goes on where another one was. It becomes one with
/// its manifest, which the caller writes when everything is in it.
pub(crate) fn start_anew(
    directory: Arc<dyn Directory>,
    options: Options,
    manifest: Manifest,
) -> Result<Core> {
    let lock = HeldLock::take(&*directory)?;
    make_first_segment(&*directory, manifest.store, &options, manifest.compacted.last_segment())?;
    start(directory, options, manifest, lock)
}

pub(crate) fn write_manifest(directory: &dyn Directory, manifest: &Manifest) -> Result<()> {
    let bytes = manifest.encode();
    if bytes.len() > manifest::BYTES_MAX {
        // What is longer is not read again.
        return Err(Error::new(ErrorKind::LimitReached, "write the manifest")
            .at(directory.path().join(manifest::FILE_NAME))
            .sides(format!("at most {} bytes", manifest::BYTES_MAX), bytes.len()));
    }
    replace(directory, manifest::FILE_NAME, &[&bytes])
        .map_err(|e| Error::io("write the manifest", e).at(directory.path().join(manifest::FILE_NAME)))
}

fn draw_life() -> Result<Life> {
    loop {
        let life = u32::from_le_bytes(random().map_err(|e| Error::io("draw a life", e))?);
        if life != 0 {
            return Ok(Life(life));
        }
    }
}

/// A log that was found: what reads it, and where it ends.
pub(crate) struct Opened {
    pub(crate) index: Arc<Index>,
    pub(crate) registry: Registry,
    pub(crate) chain: Chain,
    pub(crate) end: End,
    pub(crate) keyed: Window,
    pub(crate) preamble: Preamble,
    /// The segment that begins with it.
    pub(crate) preamble_at: u32,
    /// The last segment, if its frames were read one by one.
    pub(crate) tail: Option<(Arc<Segment>, Arc<LiveIndex>)>,
}

/// Finds the log of a store: the newest segment with an index, and from there by reading.
pub(crate) fn find_log(
    directory: Arc<dyn Directory>,
    manifest: &Manifest,
    purpose: Purpose,
) -> Result<Opened> {
    let store = manifest.store;
    let place =
        Arc::new(Place { directory: Arc::clone(&directory), store, hasher: EntityHasher::new(store) });
    let base = newest_indexed(&*directory, store, &manifest.compacted)?;
    let vouched = base.as_ref().map_or(0, |base| base.covered.segment);
    let compacted = &manifest.compacted;
    let chain = find_chain(&*directory, store, purpose, compacted, |number| number <= vouched)?;
    let chain = chain.of_copy(manifest.backup);
    if chain.live.is_empty() {
        return Err(Error::corrupt("find the log")
            .at(directory.path())
            .sides("at least one segment", "none"));
    }
    // Segments below the base, and the base itself, are opened when they are touched.
    let below: Vec<u32> = chain.live.iter().copied().filter(|number| *number <= vouched).collect();
    let sections = |numbers: &[u32]| {
        let next = numbers.iter().skip(1).copied().chain(std::iter::once(0));
        let section = |(number, next)| Arc::new(Section::new(Arc::clone(&place), number, next));
        numbers.iter().copied().zip(next).map(section).collect::<Vec<_>>()
    };
    let mut catalog =
        Catalog { sections: sections(&below), compacted: Arc::new(compacted.clone()), ..Catalog::default() };
    if let (Some(last), Some(base)) = (catalog.sections.last_mut(), &base) {
        *last = Arc::new(Section::indexed(Arc::clone(&place), Arc::clone(&base.segment), base.index.clone()));
    }
    if let (Some(last), Some(next)) = (catalog.sections.last(), chain.live.get(below.len())) {
        last.set_next(*next);
    }
    catalog.add_parts(&place);
    let (entities, known_by_directory, unread) = entities_of(&place, &catalog, vouched, purpose)?;
    let index = Arc::new(Index::new(place, entities, catalog));
    unread.into_iter().for_each(|hole| index.leave(hole));
    for (number, _) in &chain.missing {
        // What stands before it is not known by it: others may be missing too.
        let covered = compacted.covers.iter().map(|cover| cover.last);
        let known = chain.live.iter().copied().chain(covered).filter(|known| known < number);
        let first = known.max().map_or(1, |known| known + 1);
        let damage = unreadable(*number, "the segment's file is missing".to_owned());
        let is_accounted = *number < known_by_directory.segment();
        index.leave(Hole { is_accounted, ..Hole::of(first, *number, damage) });
    }

    let mut finding = Finding {
        index: &index,
        purpose,
        vouched,
        registry: Registry::default(),
        preamble: Preamble::default(),
        preamble_at: 0,
        retired: HashMap::new(),
        current: None,
        keyed: Vec::new(),
        keyed_reader: KeyedReader::default(),
    };
    if let Some(base) = &base {
        finding.learn_base(base)?;
    }
    let covered = base.as_ref().map(|base| base.covered);
    let end = recover(&*directory, store, &chain, covered, purpose, &mut finding)?;
    let Finding { mut registry, preamble, preamble_at, retired, keyed: fresh, current, .. } = finding;
    if manifest.table.is_news(preamble_at) {
        for cursor in &manifest.table.cursors {
            registry.cursors.learn_later(cursor, retired.get(&cursor.name).copied());
        }
    }
    let tail = current.and_then(|current| Some((current.segment, current.live?)));
    // A reader appends nothing, so it need not remember what was.
    let keyed = match purpose {
        Purpose::Write => remembered(&index, &preamble, base.as_ref(), fresh)?,
        Purpose::Read | Purpose::Salvage => Window::default(),
    };
    Ok(Opened { index, registry, chain, end, keyed, preamble, preamble_at, tail })
}

/// The keyed batches that are still remembered: from the indexes since the first of them, and
/// from the frames that were read.
fn remembered(
    index: &Index,
    preamble: &Preamble,
    base: Option<&Base>,
    fresh: Vec<(u32, Keyed)>,
) -> Result<Window> {
    let mut window = Window::default();
    let time = now();
    // A log that a repair begins behind parts has no preamble yet.
    let keyed_from = if preamble.next_seq == 0 { 1 } else { preamble.keyed_from };
    let first = u32::try_from(keyed_from).unwrap_or(u32::MAX);
    if first != 0 {
        let last = base.map_or(0, |base| base.covered.segment);
        for section in &index.catalog().sections {
            // Parts are not among what was read.
            let is_asked = section.number <= last || section.cover.is_some();
            if first <= section.number && is_asked {
                let keyed = section.open()?.keyed()?;
                keyed.into_iter().for_each(|keyed| window.remember(section.number, keyed, time));
            }
        }
    } else if let Some(base) = base {
        let keyed = base.index.keyed();
        keyed.into_iter().for_each(|keyed| window.remember(base.covered.segment, keyed, time));
    }
    let already =
        |keyed: &Keyed| window.get(&keyed.key).is_some_and(|known| known.first_seq == keyed.first_seq);
    let fresh: Vec<_> = fresh.into_iter().filter(|(_, keyed)| !already(keyed)).collect();
    fresh.into_iter().for_each(|(segment, keyed)| window.remember(segment, keyed, time));
    Ok(window)
}

/// Learns the log from what recovery reads.
struct Finding<'a> {
    index: &'a Arc<Index>,
    purpose: Purpose,
    /// The last segment of which everything is known by indexes.
    vouched: u32,
    registry: Registry,
    preamble: Preamble,
    /// The segment that begins with it.
    preamble_at: u32,
    /// The cursors that were retired, and with which revision.
    retired: HashMap<String, u64>,
    current: Option<Current>,
    keyed: Vec<(u32, Keyed)>,
    keyed_reader: KeyedReader,
}

/// The segment that is being read.
struct Current {
    segment: Arc<Segment>,
    /// `None`: an index file covers it, and no frame was read yet.
    live: Option<Arc<LiveIndex>>,
    began: bool,
}

impl Current {
    fn number_and_began(&self) -> (u32, bool) {
        (self.segment.number(), self.began)
    }
}

impl Finding<'_> {
    /// What the base's preamble and kind frames say.
    fn learn_base(&mut self, base: &Base) -> Result<()> {
        for offset in base.index.system() {
            let position = base.segment.position(offset);
            let frame =
                base.segment.frame(offset).filter(|frame| frame.is_good(base.segment.header.salt, position));
            let Some(frame) = frame else {
                return Err(Error::corrupt("read the registry of kinds")
                    .at(self.index.place.directory.path().join(file_name(base.segment.number())))
                    .place(base.segment.number(), offset));
            };
            self.learn_system(base.segment.number(), &frame);
        }
        Ok(())
    }

    fn learn_system(&mut self, segment: u32, frame: &Frame<'_>) {
        if frame.header.operation == System::Preamble as u8
            && let Some(preamble) = Preamble::read(frame.payload())
        {
            (self.preamble, self.preamble_at) = (preamble, segment);
            // It restates every cursor; that one was retired may stand in what was compacted.
            self.registry.begin_anew();
        }
        if frame.header.operation == System::Cursor as u8
            && let Some(cursor) = CursorState::read(frame.payload()).filter(|cursor| cursor.retired)
        {
            self.retired.insert(cursor.name, cursor.revision);
        }
        self.registry.learn_frame(frame);
    }

    /// The arrays of the segment that is being read, and its place in the row.
    fn live(&mut self) -> Option<Arc<LiveIndex>> {
        let current = self.current.as_mut()?;
        if let Some(live) = &current.live {
            return Some(Arc::clone(live));
        }
        let number = current.segment.number();
        let catalog = self.index.catalog();
        let opened = catalog.section(number).and_then(|section| section.open().ok());
        let own = opened.map_or(0, |opened| opened.own());
        let live = match opened.map(|opened| opened.index()) {
            Some(IndexRef::Sealed(index, _)) => {
                Arc::new(LiveIndex::from_sealed(index, number, current.segment.header.bytes))
            }
            _ => Arc::new(LiveIndex::for_segment(current.segment.header.bytes)),
        };
        current.live = Some(Arc::clone(&live));
        let place = Arc::clone(&self.index.place);
        self.index.add(Section::opened(place, Arc::clone(&current.segment), Arc::clone(&live), own));
        Some(live)
    }
}

impl Visitor for Finding<'_> {
    fn enter(&mut self, segment: &Arc<Segment>, from: u64, last_seq: u64) -> Result<()> {
        let covered = from != FIRST_FRAME;
        if let Some(before) = &self.current {
            before.segment.let_go();
        }
        self.current = Some(Current { segment: Arc::clone(segment), live: None, began: covered });
        if !covered && let Some(live) = self.live() {
            live.begin(last_seq.saturating_add(1));
        }
        Ok(())
    }

    fn frame(&mut self, position: Position, frame: &Frame<'_>) -> Result<()> {
        if self.current.as_ref().is_none_or(|current| current.live.is_none()) && self.live().is_none() {
            return Ok(());
        }
        let Some(Current { live: Some(live), began, .. }) = self.current.as_mut() else { return Ok(()) };
        note(live, began, position, frame);
        if frame.header.is_system() {
            self.learn_system(position.segment(), frame);
            return Ok(());
        }
        let hash = self.index.hash(frame.header.kind.get(), frame.key());
        live.skip_to(frame.header.seq.get());
        let newest = EntryAt::new(position.segment(), live.count());
        let known = Known { generation: frame.header.generation.get(), newest };
        let before = match self.purpose {
            Purpose::Write => self.index.learn(hash, known)?,
            _ => self.index.learn_to_read(hash, known)?,
        };
        live.push(position.offset(), before.map_or(EntryAt::NONE, |before| before.newest));
        if let Some(keyed) = self.keyed_reader.frame(frame) {
            live.keyed.lock().push(keyed);
            self.keyed.push((position.segment(), keyed));
        }
        Ok(())
    }

    fn kept(&mut self, cover: &Cover) -> Result<()> {
        if cover.part.is_none() || cover.last <= self.vouched {
            return Ok(());
        }
        let catalog = self.index.catalog();
        let opened = match catalog.section(cover.last).map(|section| section.open()) {
            Some(Ok(opened)) => opened,
            // A writer that does not know an entity would give its generations out again.
            Some(Err(error)) if self.purpose == Purpose::Write || error.is_passing() => return Err(error),
            Some(Err(error)) => {
                let damage = unreadable(cover.last, error.to_string());
                self.index.leave(Hole::within(cover.last, damage, None));
                return Ok(());
            }
            None => return Ok(()),
        };
        if self.purpose == Purpose::Write {
            refuse_damage(&self.index.place, opened)?;
        }
        if let Some(damage) = opened.damage() {
            self.index.leave(Hole::within(cover.last, damage.clone(), None));
        }
        learn_from(&self.index.entities, &self.index.place.hasher, cover.last, opened);
        Ok(())
    }

    fn lost(&mut self, damage: &Damage) {
        let mut before = None;
        let is_whole = damage.offset < FIRST_FRAME && damage.next_good.is_none();
        if is_whole {
            // A whole segment, which keeps its place in the row: what it held is lost, and not unknown.
            self.index.add(Section::new(Arc::clone(&self.index.place), damage.segment, 0));
        } else if let Some((number, began)) = self.current.as_ref().map(Current::number_and_began)
            && let Some(live) = self.live()
        {
            if began {
                live.skip_to(damage.last_seq.saturating_add(1));
            }
            before = (number == damage.segment).then(|| live.count());
        }
        if self.purpose == Purpose::Write {
            return;
        }
        if is_whole || damage.first_seq <= damage.last_seq || damage.next_good.is_none() {
            self.index.leave(Hole::within(damage.segment, damage.clone(), before));
        }
    }
}
