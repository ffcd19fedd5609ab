//! Reads a log, and judges its batches, ahead of those who look at their frames: they have the most to do, so what can be
//! told of a frame by itself is told here.

use std::io;
use std::sync::Arc;

use crate::disk::map::Map;
use crate::disk::{Access, Directory};
use crate::format::frame::{Found, Frame, flag};
use crate::format::header::HEADER_BYTES;
use crate::format::index::{self as index_format, EntityHash};
use crate::format::segment::FIRST_FRAME;
use crate::format::system::{Open, Preamble, System};
use crate::id::{KINDS_MAX, Life, Position, SEQ_MAX, StoreId};
use crate::index::EntityHasher;
use crate::journal::verify::window::Window;
use crate::log::behind::seq_before;
use crate::log::chain::Chain;
use crate::log::grid::last_nonzero;
use crate::log::salvage::index_says;
use crate::log::segment::{Segment, open_header};
use crate::log::visitor::Covered;

/// How a log is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pieces {
    /// So many bytes at a time.
    pub(super) bytes: u64,
    /// A log that has so many pieces or more is read ahead.
    pub(super) for_a_thread: u64,
    /// Who is shown it looks at the index of each segment, too.
    pub(super) has_indexes: bool,
}

/// What stands next in the log.
pub(super) enum Next {
    /// A segment, of which it is sure that it is one.
    Segment {
        segment: Arc<Segment>,
        /// Where the frames begin that follow.
        from: u64,
        /// The last Seq before them.
        last_seq: u64,
    },
    Batches(Batches),
    /// The log ends at this offset of this segment.
    End(u32, u64),
}

impl Next {
    /// How much of a file it holds in memory.
    pub(super) fn bytes(&self) -> usize {
        if let Self::Batches(batches) = self { batches.bytes.len() } else { 0 }
    }
}

/// Whole, good batches, and the piece of the file in which they stand.
pub(super) struct Batches {
    bytes: Arc<Vec<u8>>,
    /// Where that begins in the file.
    base: u64,
    /// Where the first of them begins in the file.
    from: u64,
    /// Whose each entry in them is, in their order: what there is most of, so no more than that is noted.
    entities: Vec<EntityHash>,
    /// Up to the end of the last of them, everything is good.
    pub(super) covered: Covered,
}

impl Batches {
    /// Their frames, where each begins in the file, and whose entry it is, if it is one.
    pub(super) fn frames(&self) -> impl Iterator<Item = (u64, Option<EntityHash>, Frame<'_>)> {
        let (mut at, mut entities) = (self.from, self.entities.iter().copied());
        std::iter::from_fn(move || {
            if at >= self.covered.end {
                return None;
            }
            let place = usize::try_from(at - self.base).ok().and_then(|at| self.bytes.get(at..));
            let Some(frame) = place.and_then(Frame::parse) else {
                unreachable!("it was judged in the same bytes, which hold all of its batch")
            };
            let entity = if frame.header.is_system() { None } else { entities.next() };
            let begins = at;
            at += frame.len() as u64;
            Some((begins, entity, frame))
        })
    }
}

/// Nobody wants to know what comes next.
pub(super) struct Stopped;

/// Who is told what comes next.
pub(super) trait Tell: FnMut(Next) -> Result<(), Stopped> {}
impl<F: FnMut(Next) -> Result<(), Stopped>> Tell for F {}

pub(super) struct Judge<'a> {
    directory: &'a dyn Directory,
    store: StoreId,
    hasher: EntityHasher,
    chain: &'a Chain,
    pieces: Pieces,
    /// What need not be read again.
    covered: Option<Covered>,
    /// `None` until the first preamble says what the next Seq is.
    last_seq: Option<u64>,
    life: Option<Life>,
    batch: Batch,
    /// Those that nobody was told of. Behind their entities may stand some of the batch that is being read.
    batches: Option<Batches>,
    /// So many entries are in those.
    entries: usize,
}

/// The batch that is being read.
#[derive(Default)]
struct Batch {
    /// Whose its entries are, if it does not stand in the same piece as the batches before it.
    entities: Vec<EntityHash>,
    entries: u64,
    /// What its frames say of the log, once it is whole.
    life: Option<Life>,
    last_seq: Option<u64>,
    /// What its last frame is.
    last: Option<System>,
}

/// What a segment came to.
enum Came {
    /// To its end: the log goes on in the next.
    Through,
    /// To the end of the log.
    ToTheEnd(u64),
    /// To something that is for recovery to judge.
    ToADoubt,
}

/// A segment on the way.
struct Here {
    segment: Arc<Segment>,
    window: Window,
    limit: Option<u64>,
    /// It was told of.
    is_entered: bool,
}

impl<'a> Judge<'a> {
    pub(super) fn new(
        directory: &'a dyn Directory,
        store: StoreId,
        chain: &'a Chain,
        pieces: Pieces,
        covered: Option<Covered>,
    ) -> Self {
        let last_seq = covered.map(|covered| covered.last_seq);
        let life = covered.map(|covered| covered.last_life);
        let (hasher, batch, batches, entries) = (EntityHasher::new(store), Batch::default(), None, 0);
        Self { directory, store, hasher, chain, pieces, covered, last_seq, life, batch, batches, entries }
    }

    /// Tells what the log holds, as far as nothing is wrong with it.
    pub(super) fn tell_all(mut self, tell: &mut impl Tell) -> Result<(), Stopped> {
        let first = self.covered.map_or(0, |covered| covered.segment);
        let scanned: Vec<u32> = self.chain.live.iter().copied().filter(|number| *number >= first).collect();
        for (at, number) in scanned.iter().enumerate() {
            let Ok((file, header)) = open_header(self.directory, self.store, *number, Access::Read) else {
                return Ok(());
            };
            if let Some(next) = scanned.get(at + 1).filter(|_| self.pieces.has_indexes) {
                self.will_need_index(*next);
            }
            let window = Window::by_pieces(Arc::clone(&file), header.bytes, self.pieces.bytes).in_order();
            let segment = Arc::new(Segment::new(header, Arc::new(Map::of_bytes(&[])), file));
            let here = Here { segment, window, limit: self.chain.limit(*number), is_entered: false };
            let came = self.segment(here, tell)?;
            self.tell_batches(tell)?;
            match came {
                Came::Through => {}
                Came::ToTheEnd(end) if self.nothing_behind(scanned.get(at + 1..).unwrap_or_default()) => {
                    return tell(Next::End(*number, end));
                }
                Came::ToTheEnd(_) | Came::ToADoubt => return Ok(()),
            }
        }
        Ok(())
    }

    /// Who looks at the frames reads the index of each segment first, and waits for nothing if it is in memory by then.
    fn will_need_index(&self, number: u32) {
        if let Ok(index) = self.directory.open(&index_format::file_name(number), Access::Read) {
            index.will_be_read_soon();
        }
    }

    fn segment(&mut self, mut here: Here, tell: &mut impl Tell) -> Result<Came, Stopped> {
        let number = here.segment.number();
        let covered = self.covered.filter(|covered| covered.segment == number);
        let mut at = covered.map_or(FIRST_FRAME, |covered| covered.end);
        // Nothing is known of its Seqs, or recovery could not be told.
        if covered.is_some() {
            self.enter(&mut here, at, tell)?;
        } else if let Some(before) = self.chain.seq_before(number) {
            self.last_seq = Some(before);
        }
        let mut is_sealed =
            covered.is_some_and(|covered| covered.last == Some(System::Seal)) && at != FIRST_FRAME;
        if here.read_through(0, at).is_err() {
            return Ok(Came::ToADoubt);
        }
        while here.limit != Some(at) && !is_sealed {
            let Ok(next) = self.read_batch(&mut here, at) else { return Ok(Came::ToADoubt) };
            let Some(next) = next else {
                let is_end = self.batch.life.is_none() && here.limit.is_none() && here.is_entered;
                let is_end = is_end && self.is_end_of_all(&mut here, at);
                return Ok(if is_end { Came::ToTheEnd(at) } else { Came::ToADoubt });
            };
            self.enter(&mut here, at, tell)?;
            self.accept(&here, at, next, tell)?;
            is_sealed = self.batch.last == Some(System::Seal);
            at = next;
        }
        let is_readable = here.read_through(at, here.segment.header.bytes).is_ok();
        Ok(if is_readable { Came::Through } else { Came::ToADoubt })
    }

    /// Tells of a segment, once it is sure that it is one.
    fn enter(&self, here: &mut Here, offset: u64, tell: &mut impl Tell) -> Result<(), Stopped> {
        if std::mem::replace(&mut here.is_entered, true) {
            return Ok(());
        }
        let (segment, last_seq) = (Arc::clone(&here.segment), self.last_seq.unwrap_or(0));
        tell(Next::Segment { segment, from: offset, last_seq })
    }

    /// A batch is whole, from here to there: its frames become the log's. All of it stands in the window.
    fn accept(&mut self, here: &Here, from: u64, end: u64, tell: &mut impl Tell) -> Result<(), Stopped> {
        let last_seq = self.batch.last_seq.unwrap_or(0).saturating_add(self.batch.entries);
        let last_life = self.batch.life.unwrap_or(Life(0));
        (self.last_seq, self.life) = (Some(last_seq), Some(last_life));
        let covered =
            Covered { segment: here.segment.number(), end, last_seq, last_life, last: self.batch.last };
        let (base, bytes) = here.window.held();
        self.noted(bytes);
        if self.batches.as_ref().is_some_and(|batches| !Arc::ptr_eq(&batches.bytes, bytes)) {
            self.tell_batches(tell)?;
        }
        let batches = self.batches.get_or_insert_with(|| {
            let (bytes, entities) = (Arc::clone(bytes), std::mem::take(&mut self.batch.entities));
            Batches { bytes, base, from, entities, covered }
        });
        batches.covered = covered;
        self.entries = batches.entities.len();
        Ok(())
    }

    /// Where it is noted whose the entries of the batch are that is being read: with those before it if all stand in the
    /// same bytes. A batch may be as large as its segment, and is not to be noted twice.
    fn noted(&mut self, bytes: &Arc<Vec<u8>>) -> &mut Vec<EntityHash> {
        let is_there = self.batches.as_ref().is_some_and(|batches| Arc::ptr_eq(&batches.bytes, bytes));
        if !is_there {
            // More was read since the batch began.
            let before = self.batches.iter_mut().flat_map(|batches| batches.entities.drain(self.entries..));
            self.batch.entities.extend(before);
        }
        match &mut self.batches {
            Some(batches) if is_there => &mut batches.entities,
            _ => &mut self.batch.entities,
        }
    }

    fn tell_batches(&mut self, tell: &mut impl Tell) -> Result<(), Stopped> {
        let Some(mut batches) = self.batches.take() else { return Ok(()) };
        // What stands behind is of a batch that is none.
        batches.entities.truncate(self.entries);
        tell(Next::Batches(batches))
    }

    /// Judges a batch; answers where it ends. `None`: what stands there is no whole, good batch.
    fn read_batch(&mut self, here: &mut Here, start: u64) -> io::Result<Option<u64>> {
        self.batch = Batch { last_seq: self.last_seq, ..Batch::default() };
        let (number, salt) = (here.segment.number(), here.segment.header.salt);
        let mut at = start;
        loop {
            let Found::Frame(frame) = Frame::find(here.frame(start, at)?) else { return Ok(None) };
            let position = Position::new(number, at);
            if !frame.is_good(salt, position) || !self.belongs(&frame, position) {
                return Ok(None);
            }
            self.take(&frame);
            at += frame.len() as u64;
            let (entity, has_more) = (self.hasher.of_frame(&frame), frame.header.has(flag::MORE));
            if let Some(entity) = entity {
                self.noted(here.window.held().1).push(entity);
            }
            if !has_more {
                return Ok(Some(at));
            }
        }
    }

    /// True if a frame that validates goes on behind the one before it.
    fn belongs(&self, frame: &Frame<'_>, position: Position) -> bool {
        let header = frame.header;
        // No frame can be durable before it is there: what it says is looked at with care.
        header.durable() <= position && self.life_is_right(frame, position) && self.seq_is_next(frame)
    }

    fn life_is_right(&self, frame: &Frame<'_>, position: Position) -> bool {
        let life = frame.header.life();
        let operation = frame.header.is_system().then(|| System::of(frame.header.operation)).flatten();
        match (self.batch.life, self.life, operation) {
            (Some(of_batch), _, _) => of_batch == life,
            (None, None, _) => true,
            (None, Some(current), _) if current == life => true,
            (None, Some(current), Some(System::Open)) => {
                Open::read(frame.payload()).is_some_and(|open| open.previous_life == current)
            }
            (None, Some(_), Some(System::Preamble)) => position.offset() == FIRST_FRAME,
            _ => false,
        }
    }

    fn seq_is_next(&self, frame: &Frame<'_>) -> bool {
        let (header, batch) = (frame.header, &self.batch);
        let seq = header.seq.get();
        if seq > SEQ_MAX {
            return false;
        }
        if header.is_system() && header.operation == System::Preamble as u8 {
            let Some(preamble) = Preamble::read(frame.payload()) else { return false };
            let before = preamble.next_seq.checked_sub(1).filter(|before| *before <= SEQ_MAX);
            return before.is_some_and(|before| {
                batch
                    .last_seq
                    .is_none_or(|last| before == last || last.checked_add(preamble.lost) == Some(before))
            });
        }
        // Behind a good beginning everything is dense.
        let Some(last) = batch.last_seq.and_then(|last| last.checked_add(batch.entries)) else {
            return false;
        };
        if header.is_system() {
            return seq == last;
        }
        let is_an_entry = !frame.key().is_empty() && header.kind.get() <= KINDS_MAX;
        seq == last + 1 && is_an_entry && (1..=seq).contains(&header.generation.get())
    }

    fn take(&mut self, frame: &Frame<'_>) {
        let batch = &mut self.batch;
        batch.life.get_or_insert(frame.header.life());
        let is_preamble = frame.header.is_system() && frame.header.operation == System::Preamble as u8;
        if let Some(preamble) = is_preamble.then(|| Preamble::read(frame.payload())).flatten() {
            batch.last_seq = Some(preamble.next_seq.saturating_sub(1));
        }
        batch.last_seq.get_or_insert(seq_before(frame));
        batch.entries += u64::from(!frame.header.is_system());
        batch.last = frame.header.is_system().then(|| System::of(frame.header.operation)).flatten();
    }

    /// True if there are zeros to the end of the file, and nothing says that there was more.
    fn is_end_of_all(&self, here: &mut Here, at: u64) -> bool {
        is_end_by_index(self.directory, self.store, here.segment.number(), at)
            && is_zero(&mut here.window, at)
    }

    /// True if the segments behind are spares, in which nothing stands yet.
    fn nothing_behind(&self, later: &[u32]) -> bool {
        later.iter().all(|number| {
            let opened = open_header(self.directory, self.store, *number, Access::Read);
            opened.is_ok_and(|(file, header)| {
                let mut window = Window::by_pieces(file, header.bytes, self.pieces.bytes).in_order();
                is_zero(&mut window, HEADER_BYTES as u64)
            })
        })
    }
}

impl Here {
    /// The bytes at `at`, enough for the frame that stands there, and all from `start` on in memory.
    fn frame(&mut self, start: u64, at: u64) -> io::Result<&[u8]> {
        let until = self.limit.unwrap_or(self.segment.header.bytes);
        self.window.frame_behind(start, at, until)
    }

    /// Reads what nothing is said about, so that a device that refuses it is noticed.
    fn read_through(&mut self, from: u64, until: u64) -> io::Result<()> {
        read_pieces(&mut self.window, from, until, |_| true).map(|_| ())
    }
}

/// True if no index says that there was more in a segment.
pub(super) fn is_end_by_index(directory: &dyn Directory, store: StoreId, number: u32, at: u64) -> bool {
    index_says(directory, store, number).is_none_or(|indexed| indexed.end <= at)
}

fn is_zero(window: &mut Window, from: u64) -> bool {
    let until = window.until();
    read_pieces(window, from, until, |piece| last_nonzero(piece) == 0).unwrap_or(false)
}

/// True if all pieces of a range are as they should.
fn read_pieces(
    window: &mut Window,
    from: u64,
    until: u64,
    is_right: impl Fn(&[u8]) -> bool,
) -> io::Result<bool> {
    let mut at = from;
    while at < until {
        let piece = window.from(at, 1)?;
        if !is_right(piece) {
            return Ok(false);
        }
        at += piece.len() as u64;
    }
    Ok(true)
}
