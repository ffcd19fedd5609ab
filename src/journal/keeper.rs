//! The keeper's work: segments made ahead, index files for those that are durable, and the
//! directory of entities. All of it off the append path, and none of it needed for recovery.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::disk::map::MapWriter;
use crate::error::{Error, Result};
use crate::format::index::EntityHash;
use crate::format::segment::{FIRST_FRAME, SegmentHeader, file_name};
use crate::id::{EntryAt, Position};
use crate::index::build::{index_parts, write_directory, write_index};
use crate::index::catalog::{IndexRef, Opened};
use crate::index::live::LiveIndex;
use crate::index::sealed::SealedIndex;
use crate::journal::core::{Core, Stage, Writer};
use crate::journal::durable::UNSYNCED_MAX;
use crate::journal::pages::window;
use crate::journal::rotation::next_number;
use crate::log::segment::Segment;
use crate::log::writer::RESERVED_BYTES;

/// A segment that was made ahead, and its empty index.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) segment: Arc<Segment>,
    pub(crate) writer: MapWriter,
    pub(crate) live: Arc<LiveIndex>,
}

/// What the keeper's thread and the appending ones share.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    spare: Mutex<Option<Spare>>,
    /// Whoever makes segments holds this; it comes before the writer's lock.
    pub(crate) making: Mutex<()>,
    /// Whoever writes indexes and the directory holds this: two who replace one file at once
    /// would take the temporary file away from each other.
    pub(crate) indexing: Mutex<()>,
    /// How often a segment was too small for its writer in this life: the next ones are larger.
    hurried: AtomicU32,
    /// How far pages are writable ahead of the log.
    pub(crate) writable_through: Mutex<Position>,
    work: Mutex<Work>,
    there_is_work: Condvar,
}

#[derive(Debug, Default)]
struct Work {
    wanted: Wanted,
    stop: bool,
}

/// What the keeper is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Segments, indexes, the directory of entities.
    pub(crate) files: bool,
    /// Pages ahead of the log.
    pub(crate) pages: bool,
}

/// Heap entities below this are not worth a file by themselves.
const ENTITIES_WORTH_A_FILE: u64 = 4096;
/// Opening reads the index of each segment behind the file: so many are enough.
const SEGMENTS_WORTH_A_FILE: usize = 32;
/// At the end of a life there is time, and the next opening gains by it.
const SEGMENTS_WORTH_A_FILE_AT_CLOSE: usize = 4;

/// True if `bytes` of frames fit a segment of `size` and leave the reserve free.
fn fits(bytes: u64, size: u64) -> bool {
    FIRST_FRAME + bytes + RESERVED_BYTES <= size
}

impl Keeper {
    /// The spare, if it follows `active` and `bytes`, with its preamble's, fit into it.
    pub(crate) fn take_spare(&self, active: u32, bytes: u64) -> Option<Spare> {
        let mut spare = self.spare.lock();
        let fits = spare.as_ref().is_some_and(|spare| {
            let SegmentHeader { follows, bytes: size, .. } = spare.segment.header;
            follows == SegmentHeader::after_seal_of(active) && fits(bytes, size)
        });
        if fits { spare.take() } else { None }
    }

    /// Notes that a segment was too small: full in a moment, or before the next one was made.
    pub(crate) fn hurry(&self) {
        self.hurried.fetch_add(1, Ordering::Relaxed);
    }

    /// How many times over the usual size of a segment has been too small.
    pub(crate) fn hurried(&self) -> u32 {
        self.hurried.load(Ordering::Relaxed)
    }

    pub(crate) fn drop_spare(&self) -> Option<u32> {
        self.spare.lock().take().map(|spare| spare.segment.number())
    }

    pub(crate) fn wake(&self) {
        self.work.lock().wanted = Wanted { files: true, pages: true };
        self.there_is_work.notify_one();
    }

    /// The writer nears the end of the pages that are writable.
    pub(crate) fn want_pages(&self) {
        self.work.lock().wanted.pages = true;
        self.there_is_work.notify_one();
    }

    pub(crate) fn stop(&self) {
        self.work.lock().stop = true;
        self.there_is_work.notify_all();
    }

    /// Sleeps until there is work. `None`: stop.
    pub(crate) fn wait(&self) -> Option<Wanted> {
        let mut work = self.work.lock();
        while work.wanted == Wanted::default() && !work.stop {
            self.there_is_work.wait(&mut work);
        }
        let wanted = std::mem::take(&mut work.wanted);
        (!work.stop).then_some(wanted)
    }

    /// Sleeps for a while, or until told to stop. False: stop.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        let mut work = self.work.lock();
        if !work.stop {
            self.there_is_work.wait_for(&mut work, time);
        }
        !work.stop
    }
}

impl Core {
    /// Everything that the keeper does, once.
    pub(crate) fn maintain(&self) -> Result<()> {
        if self.is_closed() || self.commit.is_poisoned() {
            return Ok(());
        }
        let spare = self.keep_a_spare();
        self.remove_left();
        self.keep_a_reserve();
        let _indexing = self.keeper.indexing.lock();
        if self.is_closed() {
            // Whoever closes does the rest, and then lets go of the directory.
            return spare;
        }
        // A disk that has no room for a spare may have some for an index.
        let sealed = self.seal_durable_segments(self.commit.durable());
        let directory = self.keep_the_directory(self.commit.durable(), false);
        spare.and(sealed).and(directory)
    }

    /// Makes the next segment ahead.
    fn keep_a_spare(&self) -> Result<()> {
        if !self.options.background {
            return Ok(());
        }
        let making = self.keeper.making.lock();
        self.make_spare(0)?;
        drop(making);
        self.bound_unsynced(UNSYNCED_MAX)?;
        // Behind the making: an append that waits for the spare need not wait for its pages.
        let spare = self.keeper.spare.lock().as_ref().map(|spare| Arc::clone(&spare.segment));
        if let Some(spare) = spare
            && self.keeps_pages_writable()
        {
            spare.make_writable(0, window(spare.header.bytes));
        }
        Ok(())
    }

    /// Makes a spare into which `bytes` fit, unless there is one. The caller holds `making`.
    pub(crate) fn make_spare(&self, bytes: u64) -> Result<()> {
        let (number, follows, log_bytes, preamble) = {
            let mut writer = self.writer.lock();
            self.check_writable()?;
            let Stage::Writing(active) = &writer.stage else { return Ok(()) };
            let end = active.log.end();
            let needed = bytes + self.preamble_bytes(&writer);
            let fits = |spare: &Spare| {
                let SegmentHeader { follows, bytes: size, .. } = spare.segment.header;
                follows == SegmentHeader::after_seal_of(end.segment()) && fits(needed, size)
            };
            if self.keeper.spare.lock().as_ref().is_some_and(fits) {
                return Ok(());
            }
            let log_bytes = writer.log_bytes + end.offset();
            let preamble = self.preamble_bytes(&writer);
            let number = next_number(writer.greatest)?;
            writer.greatest = number;
            (number, SegmentHeader::after_seal_of(end.segment()), log_bytes, preamble)
        };
        let spare = self.make_segment((number, follows), log_bytes, bytes, preamble)?;
        let small = self.keeper.spare.lock().replace(spare);
        if let Some(small) = small {
            let _ = self.directory.remove(&file_name(small.segment.number()));
        }
        Ok(())
    }

    /// Writes the index of every durable segment that has none yet.
    fn seal_durable_segments(&self, durable: Position) -> Result<()> {
        // Oldest first: an opening takes the newest index as a voucher for all below it, and one of
        // an earlier life may cover only a part of its segment.
        for section in &self.index.catalog().sections {
            if section.number >= durable.segment() {
                continue;
            }
            // Those never touched have an index file, or will be read when they are.
            if let Some(opened) = section.if_open() {
                self.seal(opened)?;
            }
        }
        Ok(())
    }

    pub(crate) fn seal(&self, opened: &Opened) -> Result<()> {
        let IndexRef::Live(live) = opened.index() else { return Ok(()) };
        if opened.damage().is_some() {
            // An index would hide from the next opening what reading the segment tells.
            return Ok(());
        }
        let end = opened.segment.map.limit() as u64;
        let before = |hash| self.segment_before(opened, hash);
        opened.use_index(write_index(&self.index.place, &opened.segment, &live, end, &before)?);
        Ok(())
    }

    /// As [`seal`](Self::seal), in memory: where there is no room for the file.
    pub(crate) fn seal_in_memory(&self, opened: &Opened) -> Result<()> {
        let IndexRef::Live(live) = opened.index() else { return Ok(()) };
        if opened.damage().is_some() {
            return Ok(());
        }
        let end = opened.segment.map.limit() as u64;
        let before = |hash| self.segment_before(opened, hash);
        let parts = index_parts(&self.index.place, &opened.segment, &live, end, &before)?;
        opened.use_index(SealedIndex::of_parts(&parts, self.manifest.store)?);
        Ok(())
    }

    /// The segment with an entity's newest entry before this one; 0: there is none.
    fn segment_before(&self, opened: &Opened, hash: EntityHash) -> Result<u32> {
        let (catalog, number) = (self.index.catalog(), opened.segment.number());
        let found = catalog.search_below(number, &self.index.place.hasher, hash)?;
        Ok(found.map_or(0, |known| known.newest.segment()))
    }

    /// Writes the directory of entities anew once the heap part has outgrown a quarter of it, or
    /// many segments lie behind what it covers.
    fn keep_the_directory(&self, durable: Position, closing: bool) -> Result<()> {
        let settled = self.index.entities.settled();
        let (on_heap, in_file, old) = (self.index.entities.on_heap(), settled.in_file(), &settled.file);
        let covered = old.as_ref().map_or(0, |old| old.covered.segment());
        let sections = &self.index.catalog().sections;
        let behind = sections.iter().rev().take_while(|section| section.number > covered).count();
        let many = if closing { SEGMENTS_WORTH_A_FILE_AT_CLOSE } else { SEGMENTS_WORTH_A_FILE };
        let outgrown = on_heap >= ENTITIES_WORTH_A_FILE && on_heap * 4 >= in_file;
        if !outgrown && behind < many {
            return Ok(());
        }
        let least = old.as_ref().map_or(EntryAt::NONE, |old| old.covered);
        // A page in doubt: what it held is in the indexes, so begin without the file.
        let trusted = old.as_deref().filter(|old| old.check_all().is_ok());
        self.write_directory_from(trusted, least, durable, closing)
    }

    /// Writes the directory from an older one, if that can be trusted, and the indexes behind what
    /// it covers; not if it would cover less than `least`, which is what is known now.
    fn write_directory_from(
        &self,
        old: Option<&crate::index::entity_file::EntityFile>,
        least: EntryAt,
        durable: Position,
        closing: bool,
    ) -> Result<()> {
        let from = old.map_or(EntryAt::NONE, |old| old.covered);
        let mut sealed: Vec<(u32, SealedIndex)> = Vec::new();
        let mut covered = from;
        let catalog = self.index.catalog();
        for section in &catalog.sections {
            let is_last = section.number == durable.segment();
            if section.number < from.segment() || section.number > durable.segment() || is_last && !closing {
                continue;
            }
            let opened = section.open()?;
            if section.number < durable.segment() {
                // One whose index was lost was read just now.
                self.seal(opened)?;
            }
            if let IndexRef::Sealed(index, _) = opened.index() {
                covered = EntryAt::new(section.number, index.count());
                sealed.push((section.number, index.clone()));
            } else {
                break;
            }
        }
        if covered > from && covered >= least {
            let file = write_directory(&self.index.place, old, &sealed, covered, &catalog)?;
            self.index.entities.use_file(file);
        }
        Ok(())
    }

    /// The arrays of the last segment, for a life that goes on in it.
    pub(crate) fn live_again(&self, opened: &Opened) -> Result<Arc<LiveIndex>> {
        match opened.index() {
            IndexRef::Live(live) => Ok(live),
            IndexRef::Sealed(index, _) => Ok(Arc::new(LiveIndex::from_sealed(
                index,
                opened.segment.number(),
                opened.segment.header.bytes,
            ))),
        }
    }

    /// At the end of a life: nothing is made ahead any more, what lies behind the last frame is
    /// given back, and the next opening finds an index for everything. The caller holds `indexing`.
    pub(crate) fn finish_segments(&self, writer: &mut Writer) -> Result<()> {
        if let Some(number) = self.keeper.drop_spare() {
            let name = file_name(number);
            self.directory
                .remove(&name)
                .map_err(|e| Error::io("remove the spare", e).at(self.directory.path().join(name)))?;
        }
        let Stage::Writing(active) = &writer.stage else { return Ok(()) };
        let (end, segment) = (active.log.end(), Arc::clone(&active.log.segment));
        // The rest of the page is zero already; only whole pages can be punched.
        if let Ok(file) = segment.file(&*self.directory) {
            let _ = file.punch(end.offset().next_multiple_of(4096), segment.header.bytes);
        }
        let durable = self.commit.durable();
        self.seal_durable_segments(durable)?;
        if let Some(section) = self.index.catalog().section(end.segment()) {
            self.seal(section.open()?)?;
        }
        self.keep_the_directory(durable, true)?;
        self.directory.sync().map_err(|e| Error::io("sync the directory", e).at(self.directory.path()))
    }
}
