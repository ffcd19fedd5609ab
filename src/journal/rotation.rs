//! Where the next frame goes: lives that begin and end, segments that are left and entered.
//!
//! Everything here runs under the writer's lock.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::disk::Access;
use crate::disk::map::Unfinished;
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::flag;
use crate::format::lock::Cell;
use crate::format::segment::{FIRST_FRAME, SegmentHeader, file_name, number_of};
use crate::format::source::SourceInfo;
use crate::format::system::{OPEN_BYTES, Open, Preamble, System};
use crate::id::{PART, Position};
use crate::index::catalog::Section;
use crate::index::live::LiveIndex;
use crate::journal::core::{Active, Core, Stage, Writer};
use crate::journal::durable::{PoisonIfDropped, UNSYNCED_BY_APPENDS_MAX, UNSYNCED_MAX};
use crate::journal::first_segment::zeros_for;
use crate::journal::keeper::Spare;
use crate::log::lock::now;
use crate::log::segment::{Making, Segment, Zeros, make};
use crate::log::writer::{ActiveSegment, Draft, Numbers, RESERVED_BYTES};
use crate::trace;

/// A segment that was filled in less was too small: the next one should last longer than it
/// takes to make one.
const FILLED_IN_A_HURRY: Duration = Duration::from_millis(100);

impl Core {
    /// Makes sure that `bytes` fit the active segment. False: a segment has to be made first,
    /// and the writer's lock given back for that.
    pub(crate) fn make_room(&self, writer: &mut Writer, bytes: u64) -> Result<bool> {
        let Stage::Writing(active) = &writer.stage else { return Ok(false) };
        if active.log.has_room(bytes) {
            return Ok(true);
        }
        let Some(spare) =
            self.keeper.take_spare(active.log.end().segment(), bytes + self.preamble_bytes(writer))
        else {
            return Ok(false);
        };
        self.rotate(writer, spare)?;
        self.make_room(writer, bytes)
    }

    /// Makes what the writer needs before `bytes` can be stored: a spare, or the first segment
    /// of this life. The maker's lock comes before the writer's, so that no spare is made for a
    /// segment that is not active any more.
    pub(crate) fn prepare(&self, bytes: u64) -> Result<()> {
        self.try_to_prepare(bytes).map_err(|error| self.name_who_pins(error))?;
        let has_a_keeper = self.options.background && !self.alone.load(Ordering::Relaxed);
        // Behind the making, so that others who need room find it made.
        self.bound_unsynced(if has_a_keeper { UNSYNCED_BY_APPENDS_MAX } else { UNSYNCED_MAX })
    }

    fn try_to_prepare(&self, bytes: u64) -> Result<()> {
        let _making = self.keeper.making.lock();
        let mut writer = self.writer.lock();
        self.check_writable()?;
        match &writer.stage {
            Stage::Writing(active) if active.log.has_room(bytes) => Ok(()),
            Stage::Writing(_) => {
                drop(writer);
                self.keeper.hurry();
                self.make_spare(bytes)
            }
            Stage::Torn { end } => {
                let end = *end;
                // The header that names the end vouches for everything below it: what is visible.
                // The end itself is never reached where nothing of a new segment was written.
                self.wait_durable(self.commit.visible())?;
                self.go_on_behind(&mut writer, end, bytes)?;
                self.announce(&mut writer)
            }
            Stage::Waiting { end, resume } => {
                let (end, resume) = (*end, *resume);
                let begun = self.begin_life(&mut writer, end, resume, bytes);
                self.keeper.wake();
                begun
            }
        }
    }

    /// The first append of a life.
    fn begin_life(&self, writer: &mut Writer, end: Position, resume: bool, bytes: u64) -> Result<()> {
        writer.unannounced = Some(end);
        if !(resume && self.resume(writer, end, OPEN_BYTES)?) {
            self.go_on_behind(writer, end, bytes + OPEN_BYTES)?;
        }
        self.announce(writer)
    }

    /// Writes the first frame of a life, unless it is there: the one before may have failed.
    fn announce(&self, writer: &mut Writer) -> Result<()> {
        let Some(end) = writer.unannounced else { return Ok(()) };
        let open = Open { previous_life: writer.previous_life, pid: std::process::id(), recovered_end: end };
        self.push_system(writer, &Draft::system(System::Open, &open.encode()))?;
        writer.unannounced = None;
        Ok(())
    }

    /// Goes on in the last segment, whose life ended in order. False: there is no room in it, or
    /// the cache holds something behind the end.
    fn resume(&self, writer: &mut Writer, end: Position, bytes: u64) -> Result<bool> {
        let (directory, store) = (&*self.directory, self.manifest.store);
        let catalog = self.index.catalog();
        let Some(section) = catalog.section(end.segment()) else { return Ok(false) };
        let opened = section.open()?;
        let preamble = self.preamble(writer);
        let is_empty = end.offset() == FIRST_FRAME;
        let needed = bytes + if is_empty { preamble.bytes() } else { 0 } + RESERVED_BYTES;
        if end.offset() + needed > opened.segment.header.bytes {
            return Ok(false);
        }
        let untouched = opened.segment.is_untouched_from(directory, end.offset(), self.through);
        let doing = |e| Error::io("look behind the end of the log", e).at(self.directory.path());
        if !untouched.map_err(doing)? {
            return Ok(false);
        }
        let live = self.live_again(opened)?;
        self.remove_behind(end.segment());
        let (segment, map_writer) =
            Segment::open_for_writing(directory, store, end.segment(), end.offset(), self.through)?;
        let segment = Arc::new(segment);
        self.index.add(Section::opened(
            Arc::clone(&self.index.place),
            Arc::clone(&segment),
            Arc::clone(&live),
            opened.own(),
        ));
        self.unsynced.lock().push(Arc::clone(&segment));
        let log = ActiveSegment::new(segment, map_writer, end.offset(), writer.life);
        writer.stage = Stage::Writing(Active::new(log, Arc::clone(&live)));
        if is_empty {
            live.begin(writer.last_seq + 1 + writer.lost);
            self.push_preamble(writer, end.segment(), &preamble)?;
        }
        Ok(true)
    }

    /// Removes segments of which nothing is in the log: a spare that a kill during the last close left,
    /// or several whose content a power cut took.
    ///
    /// The last one first, and for good before the one that it follows: a segment that follows one
    /// which is gone looks like a loss. What cannot be removed stays, with all that it follows.
    fn remove_behind(&self, number: u32) {
        let names = self.directory.list().unwrap_or_default();
        let mut behind: Vec<u32> =
            names.iter().filter_map(|entry| number_of(&entry.name)).filter(|other| *other > number).collect();
        behind.sort_unstable_by(|one, other| other.cmp(one));
        for (at, number) in behind.into_iter().enumerate() {
            let is_settled = at == 0 || self.directory.sync().is_ok();
            if !is_settled || self.directory.remove(&file_name(number)).is_err() {
                return;
            }
        }
    }

    /// Starts a segment behind a torn end, with a number above all others.
    fn go_on_behind(&self, writer: &mut Writer, end: Position, bytes: u64) -> Result<()> {
        // A spare follows the seal of a segment that will never have one.
        self.keeper.drop_spare();
        let end = self.behind_what_is_there(end)?;
        let before = writer.greatest;
        let number = next_number(before)?;
        writer.greatest = number;
        let preamble = self.preamble(writer);
        let spare = self.make_segment((number, end), writer.log_bytes, bytes, preamble.bytes())?;
        self.index.drop_behind(end.segment());
        self.enter(writer, spare, end.offset())?;
        // The header that names the end is durable: what lies behind it, and between, can go.
        self.give_back_behind(end);
        let between = end.segment().saturating_add(1)..=before;
        let names = self.directory.list().unwrap_or_default();
        let there = names.iter().filter_map(|entry| number_of(&entry.name));
        let mut dead = std::mem::take(&mut writer.dead);
        dead.extend(there.filter(|number| between.contains(number)));
        dead.dedup();
        for number in dead {
            let _ = self.directory.remove(&file_name(number));
            let _ = self.directory.remove(&crate::format::index::file_name(number));
        }
        // What is dead does not come back with the next power cut. Were it there, headers say that it is dead.
        let _ = self.directory.sync();
        Ok(())
    }

    /// Gives the space behind a torn end back to the file system. If that cannot be, it stays.
    fn give_back_behind(&self, end: Position) {
        let behind_a_seal = end.offset() == 0;
        if !behind_a_seal
            && let Ok(file) = self.directory.open(&file_name(end.segment()), Access::Write)
            && let Ok(length) = file.len()
        {
            // Only whole pages can be given back.
            let _ = file.punch(end.offset().next_multiple_of(4096).min(length), length);
        }
    }

    /// A segment of which nothing is in the log is no part of it: whatever comes next stands
    /// behind what that one followed, so that every segment of the row has a preamble.
    fn behind_what_is_there(&self, end: Position) -> Result<Position> {
        let catalog = self.index.catalog();
        match catalog.section(end.segment()) {
            Some(section) if end.offset() == FIRST_FRAME => Ok(section.open()?.segment.header.follows),
            _ => Ok(end),
        }
    }

    /// Leaves the active segment, which is full, for the spare.
    pub(crate) fn rotate(&self, writer: &mut Writer, spare: Spare) -> Result<()> {
        let seal = Draft::system(System::Seal, &[]);
        self.push_system(writer, &seal)?;
        let Stage::Writing(active) = &writer.stage else { return Ok(()) };
        let end = active.log.end();
        if self.options.background && active.entered.elapsed() < FILLED_IN_A_HURRY {
            self.keeper.hurry();
        }
        self.counters.rotations.fetch_add(1, Ordering::Relaxed);
        self.enter(writer, spare, end.offset())?;
        self.idle.busy();
        self.keeper.wake();
        Ok(())
    }

    /// Makes a new segment the active one, and writes its preamble.
    fn enter(&self, writer: &mut Writer, spare: Spare, bytes_before: u64) -> Result<()> {
        writer.log_bytes += bytes_before;
        let Spare { segment, writer: map_writer, live } = spare;
        let preamble = self.preamble(writer);
        live.begin(writer.last_seq + 1 + writer.lost);
        self.unsynced.lock().push(Arc::clone(&segment));
        self.index.add(Section::opened(
            Arc::clone(&self.index.place),
            Arc::clone(&segment),
            Arc::clone(&live),
            0,
        ));
        let number = segment.number();
        let log = ActiveSegment::new(segment, map_writer, FIRST_FRAME, writer.life);
        writer.stage = Stage::Writing(Active::new(log, live));
        self.push_preamble(writer, number, &preamble).inspect_err(|_| writer.log_bytes -= bytes_before)
    }

    /// Stores what the active segment begins with. Where that fails the segment is none of the log, and
    /// the next one begins as this one would have.
    fn push_preamble(&self, writer: &mut Writer, segment: u32, preamble: &PreambleBatch) -> Result<()> {
        let lost = std::mem::take(&mut writer.lost);
        writer.last_seq += lost;
        let pushed = self.push_all_system(writer, &preamble.drafts());
        match &pushed {
            Ok(()) => writer.preamble_at = segment,
            Err(_) => {
                writer.last_seq -= lost;
                writer.lost = lost;
            }
        }
        pushed
    }

    /// Restates what a reader of the log from here on needs to know.
    fn preamble(&self, writer: &Writer) -> PreambleBatch {
        let head = Preamble {
            next_seq: writer.last_seq + 1 + writer.lost,
            log_bytes: writer.log_bytes,
            keyed_from: writer.keyed.first_segment(),
            lost: writer.lost,
            forgot: writer.forgot,
        };
        let retired = self.retired_in_manifest(writer);
        let registry = self.registry.read();
        let kinds = registry.iter().map(|kind| kind.encode()).collect();
        let cursors = registry.cursors.iter().chain(&retired).map(|cursor| cursor.encode()).collect();
        let sources = registry.sources().values().map(SourceInfo::encode).collect();
        let counts = registry.counts().map(|count| count.encode()).collect();
        PreambleBatch { head: head.encode(), kinds, sources, counts, cursors }
    }

    /// Says how many events there were, if there is room: the next opening need not look for them then.
    fn push_counts(&self, writer: &mut Writer) -> Result<()> {
        let counts: Vec<Vec<u8>> = self.registry.read().counts().map(|count| count.encode()).collect();
        let drafts: Vec<Draft<'_>> = counts.iter().map(|count| Draft::system(System::Count, count)).collect();
        let bytes = drafts.iter().map(Draft::bytes).sum();
        let has_room = matches!(&writer.stage, Stage::Writing(active) if active.log.has_room(bytes));
        if drafts.is_empty() || !has_room { Ok(()) } else { self.push_all_system(writer, &drafts) }
    }

    /// Stores a batch of one system frame and makes it visible.
    pub(crate) fn push_system(&self, writer: &mut Writer, draft: &Draft<'_>) -> Result<()> {
        self.push_all_system(writer, std::slice::from_ref(draft))
    }

    fn push_all_system(&self, writer: &mut Writer, drafts: &[Draft<'_>]) -> Result<()> {
        let durable = self.commit.durable();
        let (seq, time) = (writer.last_seq, self.options.clock.now());
        let Stage::Writing(active) = &mut writer.stage else {
            return Err(Error::new(ErrorKind::Closed, "write a system frame"));
        };
        let start = active.log.end();
        let known = active.live.system.lock().len();
        let half_done = PoisonIfDropped(self);
        for (at, draft) in drafts.iter().enumerate() {
            let flags = if at + 1 < drafts.len() { flag::MORE } else { 0 };
            let offset = active.log.push(draft, Numbers { flags, seq, generation: 0, time }, durable);
            if System::of(draft.operation).is_some_and(System::is_restated) {
                active.live.system.lock().push(crate::index::live::units(offset));
            }
        }
        if let Err(unfinished) = active.log.finish() {
            // The index of this segment must not speak of frames that are not there.
            active.live.system.lock().truncate(known);
            active.log.give_up_at(start);
            writer.stage = Stage::Torn { end: start };
            std::mem::forget(half_done);
            return Err(self.write_failed(start, unfinished));
        }
        let end = active.log.end();
        self.commit.publish(end);
        std::mem::forget(half_done);
        self.lock.show(Cell::Visible, end.word());
        Ok(())
    }

    /// What to tell of a batch that could not be written: that nothing of it was appended. Where
    /// the file does not say what it has of it, nothing may be promised, or written after it.
    pub(crate) fn write_failed(&self, at: Position, unfinished: Unfinished) -> Error {
        let Unfinished { error, may_be_there } = unfinished;
        let path = self.directory.path().join(file_name(at.segment()));
        if may_be_there {
            let doing = "write a batch, and look at what was written";
            self.poison(&format!("{doing}: {error} ({})", path.display()));
            return Error::new(ErrorKind::Poisoned, doing).at(path).because(error.to_string());
        }
        Error::io("write a batch; nothing of it was appended", error)
            .at(path)
            .place(at.segment(), at.offset())
    }

    pub(crate) fn segment_header(&self, number: u32, follows: Position, bytes: u64) -> Result<SegmentHeader> {
        let salt = crate::log::lock::random::<8>().map_err(|e| Error::io("draw a segment's salt", e))?;
        Ok(SegmentHeader { number, salt: u64::from_le_bytes(salt), follows, bytes, created: now() })
    }

    /// Makes the segment with this number behind this end, of the size that the log calls for,
    /// or of what a disk that is nearly full still has.
    pub(crate) fn make_segment(
        &self,
        (number, follows): (u32, Position),
        log_bytes: u64,
        batch: u64,
        preamble: u64,
    ) -> Result<Spare> {
        let least = self.least_segment_bytes(batch, preamble);
        let mut size = self.usual_segment_bytes(log_bytes).max(least);
        loop {
            let header = self.segment_header(number, follows, size)?;
            let making = Making { zeros: self.zeros(), through: self.through };
            match make(&*self.directory, self.manifest.store, header, making) {
                Ok((segment, writer)) => {
                    let live = Arc::new(LiveIndex::for_segment(size));
                    return Ok(Spare { segment, writer, live });
                }
                Err(error) if error.kind() == ErrorKind::NoSpace && size > least => {
                    size = (size / 4).max(least).next_multiple_of(4096);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Zeros are for small syncs. A writer that fills segments in a moment makes large ones, and would
    /// have to wait for the zeros.
    fn zeros(&self) -> Zeros {
        if self.keeper.hurried() > 0 { Zeros::Allocated } else { zeros_for(self.options.durability) }
    }

    /// An eighth of the log, within the options' bounds; four times as much each time that a
    /// segment was full in a moment, so that a fast writer soon has large ones.
    fn usual_segment_bytes(&self, log_bytes: u64) -> u64 {
        let full = self.options.segment_bytes;
        let usual = (log_bytes / 8).max(full.min(1 << 20));
        usual.saturating_mul(1 << (2 * self.keeper.hurried()).min(6)).min(full).next_multiple_of(4096)
    }

    /// What the batch or sixteen preambles need.
    fn least_segment_bytes(&self, batch: u64, preamble: u64) -> u64 {
        let needed = FIRST_FRAME + preamble + batch + 2 * RESERVED_BYTES;
        needed.max(16 * preamble).max(self.options.segment_bytes.min(64 << 10)).next_multiple_of(4096)
    }

    /// The bytes that the next preamble will take.
    pub(crate) fn preamble_bytes(&self, writer: &Writer) -> u64 {
        self.preamble(writer).bytes()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Ends this life. The first call does it; later ones find it done. `says_so`: also of a life
    /// that appended nothing, if it had to recover.
    pub(crate) fn close(&self, says_so: bool) -> Result<()> {
        self.check_not_forked("close")?;
        // A compaction under way ends with what it has put in place.
        self.compacting.stop();
        let _turn = self.compacting.turn.lock();
        // Nobody is making a file when the directory is let go of, and nobody begins to.
        let making = self.keeper.making.lock();
        let mut writer = self.writer.lock();
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let indexing = self.keeper.indexing.lock();
        let ended = self.end_life(&mut writer, says_so);
        self.commit.close();
        if self.commit.is_poisoned() {
            self.lock.show(Cell::Poison, 1);
        }
        writer.stage = Stage::Waiting { end: self.commit.durable(), resume: false };
        drop((writer, indexing, making));
        let released =
            self.lock.release().map_err(|e| Error::io("release the lock", e).at(self.directory.path()));
        // Last, and under no lock: a runtime's waker may do what it likes.
        self.feed.wake_all();
        self.hub.close();
        trace::closed(self.directory.path());
        ended.and(released)
    }

    fn end_life(&self, writer: &mut Writer, says_so: bool) -> Result<()> {
        if let Stage::Waiting { end, resume } = writer.stage
            && says_so
            && !self.report.clean
            && writer.log_bytes + end.offset() > FIRST_FRAME
        {
            // What a crash left was recovered, and made durable: said in the log, the next opening
            // finds its end at once, and knows rot there for what it is. Nothing depends on it.
            let _ = self.begin_life(writer, end, resume, 0);
        }
        if !matches!(writer.stage, Stage::Writing(_)) {
            // Nothing was appended, or a failed write ended the segment: there is nothing to say.
            return self.wait_durable(self.commit.visible());
        }
        self.push_counts(writer)?;
        // What is visible becomes durable first, so that `closed` can name it.
        self.wait_durable(self.commit.visible())?;
        let closed = Draft::system(System::Closed, &[]);
        let Stage::Writing(active) = &writer.stage else { return Ok(()) };
        if !active.log.has_reserve(1) {
            return Ok(());
        }
        self.push_system(writer, &closed)?;
        self.wait_durable(self.commit.visible())?;
        self.finish_segments(writer)
    }
}

/// The number behind the greatest.
pub(crate) fn next_number(greatest: u32) -> Result<u32> {
    greatest.checked_add(1).filter(|next| *next < PART).ok_or_else(|| {
        Error::new(ErrorKind::LimitReached, "start a segment")
            .sides(format!("numbers up to {}", PART - 1), greatest)
    })
}

/// The payloads of a preamble's frames.
struct PreambleBatch {
    head: Vec<u8>,
    kinds: Vec<Vec<u8>>,
    sources: Vec<Vec<u8>>,
    counts: Vec<Vec<u8>>,
    cursors: Vec<Vec<u8>>,
}

impl PreambleBatch {
    fn drafts(&self) -> Vec<Draft<'_>> {
        let kinds = self.kinds.iter().map(|kind| Draft::system(System::Kind, kind));
        let sources = self.sources.iter().map(|source| Draft::system(System::Source, source));
        let counts = self.counts.iter().map(|count| Draft::system(System::Count, count));
        let cursors = self.cursors.iter().map(|cursor| Draft::system(System::Cursor, cursor));
        let head = std::iter::once(Draft::system(System::Preamble, &self.head));
        head.chain(kinds).chain(sources).chain(counts).chain(cursors).collect()
    }

    fn bytes(&self) -> u64 {
        self.drafts().iter().map(Draft::bytes).sum()
    }
}
