//! Finding the end of a log (protocol P4), and what stands before it.
//!
//! 1. The *chain*: each segment's header says what it follows, so the row of live segments is
//!    read from the newest number backward, down to the newest one with an index.
//! 2. Every file from there on is synced: what is judged must be what the disk has.
//! 3. Each tail is read past the page cache, which may hold bytes that the disk refused, and
//!    *that copy* is judged frame by frame by [`rules`](crate::log::rules).
//!
//! Nothing is written, truncated or deleted here. What recovery found it hands to a
//! [`Visitor`], in whole batches.

mod doubt;
mod order;

use std::io;
use std::sync::Arc;

use crate::disk::map::Map;
use crate::disk::{Access, Directory};
use crate::error::{Error, ErrorKind, Result};
use crate::format::compacted::Cover;
use crate::format::frame::{Found, Frame, flag};
use crate::format::segment::{FIRST_FRAME, file_name};
use crate::format::system::{Preamble, System};
use crate::id::{FRAME_ALIGN, Life, Position, StoreId};
use crate::log::behind::{Behind, named_durable, seq_before, seq_before_all};
use crate::log::chain::Chain;
use crate::log::grid::{bound_behind, last_nonzero, next_good, valid_frames};
use crate::log::open_batch::OpenBatch;
use crate::log::part::visit_kept;
use crate::log::recovery::doubt::Ends;
use crate::log::report::{Damage, RecoveryReport};
use crate::log::rules::{Facts, Verdict, judge, what_is_wrong};
use crate::log::salvage::{
    Indexed, Salvaged, has_index, index_says, read_again, salvage, unreadable, whole_batch_from,
};
use crate::log::segment::Segment;
use crate::log::tail::{Source, Tail};
use crate::log::visitor::{Covered, End, Purpose, Visitor};

/// Walks the log from what an index covers to its end.
pub(crate) fn recover(
    directory: &dyn Directory,
    store: StoreId,
    chain: &Chain,
    covered: Option<Covered>,
    purpose: Purpose,
    visitor: &mut dyn Visitor,
) -> Result<End> {
    let first = covered.map_or(0, |covered| covered.segment);
    let scanned: Vec<u32> = chain.live.iter().copied().filter(|number| *number >= first).collect();
    let mut walk = Walk {
        directory,
        store,
        purpose,
        chain,
        visitor,
        last_seq: covered.map(|covered| covered.last_seq),
        least_seq: 0,
        bound_is_final: false,
        refused: Vec::new(),
        indexed: Indexed::default(),
        life: covered.map(|covered| covered.last_life),
        said: Position::ZERO,
        bound: chain.bound,
        copied_through: chain.copied_through,
        named_durable: Position::ZERO,
        written: usize::MAX,
        tail: Tail::default(),
        behind: None,
        report: RecoveryReport::default(),
        passing: None,
        goes_on_at: None,
        is_of_it: None,
        end: covered.map_or(Position::ZERO, |covered| Position::new(covered.segment, covered.end)),
        sealed: covered.is_some_and(|covered| covered.last == Some(System::Seal)),
        closed: covered.is_some_and(|covered| covered.last == Some(System::Closed)),
    };
    if purpose == Purpose::Write {
        walk.named_durable = named_durable(directory, store, &scanned);
    }
    let mut covers = chain.covers.iter().peekable();
    for (at, number) in scanned.iter().enumerate() {
        if walk.goes_on_at.is_some_and(|on| *number < on) {
            continue;
        }
        while let Some(cover) = covers.next_if(|cover| cover.last < *number) {
            walk.cover(cover)?;
        }
        if let Some(before) =
            chain.seq_before(*number).filter(|_| covered.is_none_or(|at| at.segment < *number))
        {
            walk.last_seq = Some(before);
        }
        let from =
            covered.filter(|covered| covered.segment == *number).map_or(FIRST_FRAME, |covered| covered.end);
        let limit = chain.limit(*number);
        let rest = scanned.get(at + 1..).unwrap_or_default();
        if !walk.segment(*number, from, limit, rest)? {
            break;
        }
    }
    if walk.sealed {
        walk.look_behind_a_seal()?;
    }
    if let Some(error) = walk.passing {
        return Err(error);
    }
    walk.note_what_a_copy_lacks(chain);
    walk.report.ambiguous = walk.report.cut > 0;
    walk.report.clean = walk.closed && !walk.report.ambiguous;
    // Indexes are made of what is durable.
    let indexed = covered.map_or(Position::ZERO, |covered| Position::new(covered.segment, covered.end));
    let durable = walk.bound.max(indexed).min(walk.end);
    let Walk { end: position, last_seq, least_seq, life, sealed, report, .. } = walk;
    Ok(End { position, last_seq: last_seq.unwrap_or(least_seq), life, sealed, durable, report })
}

/// What is added where nothing but the lock page says that something was durable.
const BY_THE_PAGE: &str = "the file LOCK says that it was synced; if the files were put back from an older copy, remove LOCK \
     and open the store again";

struct Walk<'a> {
    directory: &'a dyn Directory,
    store: StoreId,
    purpose: Purpose,
    chain: &'a Chain,
    visitor: &'a mut dyn Visitor,
    /// `None` until the first preamble says what the next Seq is, and behind damage of which
    /// nobody says how much it took.
    last_seq: Option<u64>,
    /// The last Seq before such damage: what follows has a greater one.
    least_seq: u64,
    /// Everything behind was asked for the bound already.
    bound_is_final: bool,
    /// The ranges of this segment that the device refused.
    refused: Vec<(u64, u64)>,
    /// What the index of this segment says of it, for those who salvage.
    indexed: Indexed,
    life: Option<Life>,
    /// The greatest durable mark that what was accepted has named, and indexes.
    said: Position,
    /// The same, and what any other valid frame has named so far.
    bound: Position,
    /// The log is a copy, which was made with everything up to this Seq.
    copied_through: Option<u64>,
    /// The greatest durable mark that the first frames of the segments named.
    named_durable: Position,
    /// Behind this offset the segment that is being read is a hole.
    written: usize,
    /// Where segments are read into.
    tail: Tail,
    /// What stands in so many last segments, once they were read.
    behind: Option<(usize, Behind)>,
    report: RecoveryReport,
    /// Something could not be looked at, and may be another time: what was found without it does not count.
    passing: Option<Error>,
    /// Segments before this one are dead.
    goes_on_at: Option<u32>,
    /// Whether what stands before a segment in doubt is of the log, once that was asked.
    is_of_it: Option<(u32, bool)>,
    end: Position,
    /// The last frame was a seal: the next segment goes on.
    sealed: bool,
    /// The last frame was a closed frame.
    closed: bool,
}

/// What judging one place came to.
enum Step {
    Accepted { bytes: u64, completes_batch: bool },
    Stopped(Verdict, &'static str),
}

impl Walk<'_> {
    /// What was kept of a stretch of the log, for those who look at everything.
    fn cover(&mut self, cover: &Cover) -> Result<()> {
        if self.purpose != Purpose::Salvage {
            return self.visitor.kept(cover);
        }
        self.report.damage.extend(visit_kept(self.directory, self.store, cover, self.visitor)?);
        Ok(())
    }

    /// Reads one segment to its end. False: the log ends in it.
    fn segment(&mut self, number: u32, from: u64, limit: Option<u64>, later: &[u32]) -> Result<bool> {
        // A segment behind a close was begun by another life, whatever it came to.
        self.closed &= from != FIRST_FRAME;
        if self.purpose == Purpose::Salvage {
            return self.salvaged_segment(number, from, limit, later);
        }
        let opened = Segment::open(self.directory, self.store, number);
        let segment = match opened {
            Ok(segment) => Arc::new(segment),
            Err(error) if self.is_lost(number, &error)? => {
                // What validates of it is served all the same.
                return self.salvaged_segment(number, from, limit, later);
            }
            Err(error) => return Err(error),
        };
        self.refused.clear();
        if from == FIRST_FRAME {
            // No index was trusted so far as to begin behind it. What it says of the end counts all the same.
            self.take_index(&segment);
        }
        let sealed_here = std::mem::take(&mut self.sealed) && from != FIRST_FRAME;
        let followed_here = limit == Some(from);
        if sealed_here || followed_here || limit.is_none() && self.nothing_follows(&segment, from)? {
            // Sealed, followed from here, or closed and punched behind: there is nothing to read.
            self.sealed = sealed_here;
            self.raise(&segment, from);
            self.visitor.enter(&segment, from, self.last_seq.unwrap_or(self.least_seq))?;
            return Ok(sealed_here || followed_here || self.note_dropped(later));
        }
        let mut tail = std::mem::take(&mut self.tail);
        if let Err(error) = self.read_tail(&segment, &mut tail, from) {
            let is_lost = self.is_lost(number, &error)?;
            return if is_lost { self.salvaged_segment(number, from, limit, later) } else { Err(error) };
        }
        self.report.segments_scanned += 1;
        self.report.bytes_scanned += (tail.written() as u64).saturating_sub(from);
        let goes_on = self.walk_frames(&segment, &mut tail, from, limit, later);
        self.tail = tail;
        goes_on
    }

    /// The log ends with a seal: the segment behind it was durable before that, and is missing.
    fn look_behind_a_seal(&mut self) -> Result<()> {
        let number = self.end.segment().saturating_add(1);
        let path = self.directory.path().join(file_name(number));
        if self.purpose == Purpose::Write {
            let error = Error::corrupt("find the segment behind a seal").at(path).place(number, 0);
            return Err(error.sides("the segment's file", "no such file"));
        }
        // Beside a live writer it may have come after we listed the directory.
        let Err(error) = self.directory.open(&file_name(number), Access::Read) else { return Ok(()) };
        let error = Error::io("open a segment", error).at(path);
        if error.is_passing() {
            return Err(error);
        }
        let why = if error.is_not_found() { "no such file".to_owned() } else { error.facts() };
        let what = format!("{why}, and segment {} ends with a seal", self.end.segment());
        let lost = self.lost_through(&[]);
        self.damaged((number, 0, 0), None, lost, what);
        Ok(())
    }

    /// True if a reader has to do with whatever else can be had of a segment.
    ///
    /// # Errors
    ///
    /// One that passes.
    fn is_lost(&self, number: u32, error: &Error) -> Result<bool> {
        let may_be = self.purpose == Purpose::Read
            && match error.kind() {
                ErrorKind::Corrupt | ErrorKind::PermissionDenied => true,
                // Whoever looks into one segment alone keeps nothing of a device's error, and asks again.
                ErrorKind::Io => !self.chain.is_of_one(),
                _ => false,
            };
        // What a writer removes meanwhile was not of the log, or the manifest says so.
        let is_there = !error.is_not_found() || may_be && has_index(self.directory, number)?;
        Ok(may_be && is_there && !error.is_passing())
    }

    /// As [`segment`](Self::segment), from a copy of whatever can be read.
    fn salvaged_segment(
        &mut self,
        number: u32,
        from: u64,
        limit: Option<u64>,
        later: &[u32],
    ) -> Result<bool> {
        let was_sealed = std::mem::take(&mut self.sealed);
        let sealed_here = was_sealed && from != FIRST_FRAME;
        let Salvaged { segment, bytes, header_error, unreadable } =
            match salvage(self.directory, self.store, number) {
                Ok(salvaged) => salvaged,
                Err(error) if error.kind() == ErrorKind::FormatTooNew || error.is_passing() => {
                    return Err(error);
                }
                // A spare that its writer took back meanwhile.
                Err(error)
                    if later.is_empty() && error.is_not_found() && !has_index(self.directory, number)? =>
                {
                    self.sealed = was_sealed;
                    return Ok(true);
                }
                Err(error) => {
                    let is_gone = error.is_corruption() || error.is_not_found();
                    self.refused = if is_gone { Vec::new() } else { vec![(0, u64::MAX)] };
                    if !is_gone {
                        let refused = unreadable(self.directory, number);
                        let bytes: u64 = refused.iter().map(|(start, end, _)| end - start).sum();
                        // Of a file that does not open nobody knows how many they are.
                        self.report.unreadable += bytes.max(1);
                    }
                    self.segment_is_lost(number, later, &error);
                    return Ok(true);
                }
            };
        let segment = Arc::new(match self.purpose {
            // A reader looks at its frames again.
            Purpose::Read => segment.read_from(Map::of_bytes(&bytes)),
            _ => segment,
        });
        self.take_index(&segment);
        self.note_unreadable(number, unreadable);
        if let Some(error) = header_error {
            // Nobody says any more what it follows: whoever wrote it, its frames count.
            self.life = None;
            let last = self.last_seq.unwrap_or(self.least_seq);
            self.damaged((number, 0, 0), Some(FIRST_FRAME), last, error.facts());
        }
        if sealed_here || limit == Some(from) {
            self.sealed = sealed_here;
            self.visitor.enter(&segment, from, self.last_seq.unwrap_or(self.least_seq))?;
            return Ok(true);
        }
        self.report.segments_scanned += 1;
        self.report.bytes_scanned += (bytes.len() as u64).saturating_sub(from);
        self.written = bytes.len();
        self.walk_frames(&segment, &mut Tail::of(bytes), from, limit, later)
    }

    /// Learns how far a segment went when its index was made, which is of what is durable.
    fn take_index(&mut self, segment: &Segment) {
        self.indexed = index_says(self.directory, self.store, segment.number())
            .filter(|index| index.salt == segment.header.salt)
            .unwrap_or_default();
        if self.indexed.end > 0 {
            self.said = self.said.max(segment.position(self.indexed.end));
            self.bound = self.bound.max(self.said);
        }
    }

    /// What the device refused of a segment.
    fn note_unreadable(&mut self, number: u32, unreadable: Vec<(u64, u64, io::Error)>) {
        self.refused = unreadable.iter().map(|(start, end, _)| (*start, *end)).collect();
        for (start, end, error) in unreadable {
            self.report.unreadable += end - start;
            let last = self.last_seq.unwrap_or(self.least_seq);
            let what = format!("{} bytes cannot be read: {error}", end - start);
            self.damaged((number, start, start), Some(end), last, what);
        }
    }

    /// Nothing of a segment can be had; those behind it say how much was in it.
    fn segment_is_lost(&mut self, number: u32, later: &[u32], error: &Error) {
        self.indexed = index_says(self.directory, self.store, number).unwrap_or_default();
        let lost = self.lost_through(later);
        self.damaged((number, 0, 0), None, lost, error.facts());
        self.life = None;
    }

    /// Cheaply true where a clean close punched everything behind its last frame.
    fn nothing_follows(&self, segment: &Segment, from: u64) -> Result<bool> {
        if !self.closed || from == FIRST_FRAME {
            return Ok(false);
        }
        // Only whole pages can be punched: look at the rest of this one, then ask the kernel.
        let page_end = from.next_multiple_of(4096).min(segment.header.bytes);
        let mut rest = vec![0; usize::try_from(page_end - from).unwrap_or(0)];
        let doing = |e| self.io("look behind a clean end", segment, from, e);
        let file = segment.file(self.directory).map_err(doing)?;
        file.read_at(&mut rest, from).map_err(doing)?;
        if rest.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        match file.next_data(page_end) {
            Ok(found) => Ok(found.is_none()),
            Err(_) => Ok(false),
        }
    }

    fn io(&self, doing: &str, segment: &Segment, offset: u64, error: io::Error) -> Error {
        let path = self.directory.path().join(file_name(segment.number()));
        Error::io(doing, error).at(path).place(segment.number(), offset)
    }

    /// The whole file, as the disk has it: bytes below `from` may be left zero.
    fn read_tail(&mut self, segment: &Segment, tail: &mut Tail, from: u64) -> Result<()> {
        let file = segment.file(self.directory).map_err(|e| self.io("read a tail", segment, from, e))?;
        let mut source = Source::Cache;
        if self.purpose == Purpose::Write {
            file.sync().map_err(|e| self.io("sync a tail before judging it", segment, from, e))?;
            // A whole segment that was named durable reached the disk when it was: the cache holds
            // what the disk does.
            if segment.number() >= self.named_durable.segment() {
                source = Source::Disk;
            }
        }
        let read = tail.read(&*file, from, segment.header.bytes, source);
        let as_asked = read.map_err(|e| self.io("read a tail", segment, from, e))?;
        self.report.cache_not_verified |= !as_asked;
        self.written = tail.written();
        Ok(())
    }

    fn walk_frames(
        &mut self,
        segment: &Arc<Segment>,
        tail: &mut Tail,
        from: u64,
        limit: Option<u64>,
        later: &[u32],
    ) -> Result<bool> {
        let number = segment.number();
        self.visitor.enter(segment, from, self.last_seq.unwrap_or(self.least_seq))?;
        let ends = self.ends((segment, tail, from), limit, later);
        let limit = ends.limit;
        let mut at = from;
        let mut batch = OpenBatch::default();
        loop {
            if limit == Some(at) && batch.start.is_none() || self.sealed {
                self.end = segment.position(at);
                self.raise(segment, at);
                return Ok(true);
            }
            let bytes = tail.bytes();
            let (verdict, what) = match self.step(segment, bytes, at, ends, &mut batch, later) {
                Step::Accepted { bytes: length, completes_batch } => {
                    at += length;
                    if completes_batch {
                        self.raise(segment, at);
                        self.accept(segment, bytes, &mut batch)?;
                        self.end = segment.position(at);
                    }
                    continue;
                }
                Step::Stopped(verdict, what) => (verdict, what),
            };
            let start = batch.start.unwrap_or(at);
            // What the device refuses of the rest may be more of the log.
            let is_known = self.refused.iter().all(|(_, end)| *end <= at);
            if matches!(verdict, Verdict::EndOfLog { .. }) && is_known && !self.went_on(ends, later) {
                self.pass_over_what_is_dead(ends, later);
                return Ok(self.note_end(segment, bytes, start, later));
            }
            if self.purpose != Purpose::Write
                && read_again(self.directory, segment, tail.bytes_mut(), start, at)
            {
                // A writer in another process stored it while we were reading.
                self.written = tail.written();
                batch = OpenBatch::default();
                at = start;
                continue;
            }
            let bytes = tail.bytes();
            let next = next_good(segment, bytes, at.max(start) + FRAME_ALIGN, self.written);
            if self.purpose == Purpose::Write {
                return Err(self.corruption(segment, start, next, bytes, what));
            }
            let open = batch.offsets.last().copied();
            batch = OpenBatch::default();
            let next = next.and_then(|next| whole_batch_from(segment, bytes, at, next, open));
            let is_torn = limit.is_none() && self.may_be_torn((segment, bytes), (start, at), ends, later);
            // What lies behind the limit is dead, however good it looks.
            match next.filter(|next| limit.map_or(!is_torn, |limit| *next < limit)) {
                Some(offset) => {
                    self.skip_to(segment, bytes, (at, start), offset, what);
                    at = offset;
                }
                None => {
                    let mut later = later;
                    if is_torn {
                        self.pass_over_what_is_dead(ends, later);
                        later = later.get(ends.doubt.unwrap_or(0)..).unwrap_or_default();
                    }
                    // Whatever the segments behind this one hold says how much is lost.
                    let lost = self.lost_through(later);
                    self.damaged((number, at, start), None, lost, what.to_owned());
                    self.end = segment.position(start);
                    return Ok(true);
                }
            }
        }
    }

    /// Judges the place at `at` by the rules.
    fn step(
        &mut self,
        segment: &Segment,
        bytes: &[u8],
        at: u64,
        ends: Ends,
        batch: &mut OpenBatch,
        later: &[u32],
    ) -> Step {
        let limit = ends.limit;
        let (salt, position) = (segment.header.salt, segment.position(at));
        let until =
            limit.map_or(bytes.len(), |limit| usize::try_from(limit).unwrap_or(usize::MAX).min(bytes.len()));
        let place = usize::try_from(at).ok().and_then(|at| bytes.get(at..until)).unwrap_or_default();
        let found = Frame::find(place);
        let mut facts = Facts {
            empty: matches!(found, Found::Empty),
            fits: matches!(found, Found::Frame(_)),
            head_crc: false,
            body_crc: false,
            life: false,
            seq: false,
            batch_open: batch.start.is_some(),
            below_bound: false,
        };
        if let Found::Frame(frame) = &found {
            facts.head_crc = frame.head_is_good(salt, position);
            facts.body_crc = facts.head_crc && frame.body_is_good();
            if facts.body_crc {
                facts.life = match batch.life {
                    Some(life) => frame.header.life() == life,
                    None => self.life_is_right(at, frame),
                };
                facts.seq = self.seq_is_next(frame, batch.seqs);
            }
        }
        if let (Verdict::Accept, Found::Frame(frame)) = (judge(facts), &found) {
            self.said = self.said.max(frame.header.durable());
            self.bound = self.bound.max(self.said);
            return self.take(at, frame, batch);
        }
        let start = segment.position(batch.start.unwrap_or(at));
        // Only now is the bound needed in full: what lies behind may name a greater one. Where
        // a later segment says that this one was followed at its limit, all below was durable.
        let bound = match limit.filter(|_| ends.is_said) {
            Some(limit) => self.bound.max(segment.position(limit)),
            None if self.bound_is_final => self.bound,
            None => {
                self.bound.max(bound_behind(segment, bytes, at, self.written)).max(self.behind(later).bound)
            }
        };
        self.bound = bound;
        self.bound_is_final |= !ends.is_said;
        facts.below_bound = start < bound || start < self.chain.said && self.is_something(bytes, at, later);
        Step::Stopped(judge(facts), what_is_wrong(facts))
    }

    fn take(&mut self, at: u64, frame: &Frame<'_>, batch: &mut OpenBatch) -> Step {
        batch.start.get_or_insert(at);
        batch.life.get_or_insert(frame.header.life());
        batch.offsets.push(at);
        if self.last_seq.is_none() {
            self.last_seq = Some(seq_before(frame));
        }
        if frame.header.is_system() {
            if let Some(preamble) = (frame.header.operation == System::Preamble as u8)
                .then(|| Preamble::read(frame.payload()))
                .flatten()
            {
                self.last_seq = Some(preamble.next_seq.saturating_sub(1));
            }
        } else {
            batch.seqs += 1;
        }
        let completes_batch = !frame.header.has(flag::MORE);
        Step::Accepted { bytes: frame.len() as u64, completes_batch }
    }

    /// A batch is whole: its frames become the log's.
    fn accept(&mut self, segment: &Segment, bytes: &[u8], batch: &mut OpenBatch) -> Result<()> {
        for &offset in &batch.offsets {
            let place = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
            let Some(frame) = Frame::parse(place) else { continue };
            self.visitor.frame(segment.position(offset), &frame)?;
            self.life = Some(frame.header.life());
            let system = frame.header.is_system().then(|| System::of(frame.header.operation)).flatten();
            self.sealed = system == Some(System::Seal);
            self.closed = system == Some(System::Closed);
        }
        self.last_seq = self.last_seq.map(|last| last.saturating_add(batch.seqs));
        batch.clear();
        Ok(())
    }

    fn raise(&self, segment: &Segment, at: u64) {
        segment.map.raise(usize::try_from(at).unwrap_or(0).min(segment.map.bytes()));
    }

    /// The log ends at `start`: counts what lies behind it. True: it may go on.
    fn note_end(&mut self, segment: &Segment, bytes: &[u8], start: u64, later: &[u32]) -> bool {
        self.end = segment.position(start);
        let behind = usize::try_from(start)
            .ok()
            .and_then(|start| bytes.get(start..self.written.min(bytes.len())))
            .unwrap_or_default();
        self.report.cut += last_nonzero(behind);
        self.report.valid_after_hole += valid_frames(segment, bytes, start, self.written).count() as u64;
        self.note_dropped(later)
    }

    /// Counts what stands in segments behind the end of the log. True: it may go on in one of them.
    fn note_dropped(&mut self, later: &[u32]) -> bool {
        let Behind { cut, frames, may_go_on, .. } = self.behind(later);
        if may_go_on {
            return true;
        }
        self.report.cut += cut;
        self.report.valid_after_hole += frames;
        if self.purpose == Purpose::Salvage {
            // It may be more of the log.
            later
                .iter()
                .for_each(|number| self.note_unreadable(*number, unreadable(self.directory, *number)));
        }
        false
    }

    /// Looks at the segments behind the one in which the log ends, once.
    fn behind(&mut self, later: &[u32]) -> Behind {
        if let Some((_, behind)) = self.behind.filter(|(segments, _)| *segments == later.len()) {
            return behind;
        }
        let behind = Behind::of(self.directory, self.store, self.purpose, later);
        let behind = behind.unwrap_or_else(|error| {
            self.passing.get_or_insert(error);
            Behind::default()
        });
        self.behind.insert((later.len(), behind)).1
    }

    /// The last Seq before the first one that the later segments still hold.
    fn lost_through(&mut self, later: &[u32]) -> u64 {
        let last = self.last_seq.unwrap_or(self.least_seq);
        let first = seq_before_all(self.directory, self.store, self.purpose, later);
        let first = first.unwrap_or_else(|error| {
            self.passing.get_or_insert(error);
            None
        });
        first.unwrap_or_else(|| last.max(self.copied_through.unwrap_or(0))).max(self.indexed.last_seq)
    }

    /// Whole segments may be missing at the end of a copy, or all that stood behind a close.
    fn note_what_a_copy_lacks(&mut self, chain: &Chain) {
        let is_told = |damage: &Damage| Position::new(damage.segment, damage.offset) >= self.end;
        if self.copied_through.is_none() || self.end >= chain.bound || self.report.damage.iter().any(is_told)
        {
            return;
        }
        let (segment, offset) = (self.end.segment(), self.end.offset());
        let what = format!("the copy was made up to {}, and the log ends here", chain.bound);
        let lost = self.lost_through(&[]);
        self.damaged((segment, offset, offset), None, lost, what);
    }

    fn skip_to(&mut self, segment: &Segment, bytes: &[u8], (at, start): (u64, u64), next: u64, what: &str) {
        let place = usize::try_from(next).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        let Some(frame) = Frame::parse(place) else { return };
        let through = seq_before(&frame);
        self.damaged((segment.number(), at, start), Some(next), through, what.to_owned());
        self.life = Some(frame.header.life());
    }

    /// Notes damage (segment, bad place, start of its batch), and that everything up to the
    /// Seq `through` went with it.
    fn damaged(
        &mut self,
        (segment, offset, lost_from): (u32, u64, u64),
        next_good: Option<u64>,
        through: u64,
        what: String,
    ) {
        let last = self.last_seq.unwrap_or(self.least_seq);
        let first_seq = last.saturating_add(1);
        // A frame whose end cannot be read begins before the range that was refused.
        let next = next_good.unwrap_or(u64::MAX);
        let unreadable = self.refused.iter().any(|(start, end)| *start < next && offset < *end);
        let last_seq = through;
        let damage = Damage { segment, offset, lost_from, next_good, first_seq, last_seq, what, unreadable };
        self.visitor.lost(&damage);
        if next_good.is_some() {
            self.last_seq = self.last_seq.map(|last| last.max(through));
        } else {
            self.last_seq = None;
        }
        self.least_seq = last.max(through);
        self.report.damage.push(damage);
    }

    fn corruption(
        &self,
        segment: &Segment,
        start: u64,
        next: Option<u64>,
        bytes: &[u8],
        what: &str,
    ) -> Error {
        let last = self.last_seq.unwrap_or(self.least_seq);
        let place = next.and_then(|at| usize::try_from(at).ok()).and_then(|at| bytes.get(at..));
        let through = place.and_then(Frame::parse).map_or(last.saturating_add(1), |frame| seq_before(&frame));
        let by_page = self.bound <= segment.position(start) && segment.position(start) < self.chain.said;
        let bound = if by_page { self.chain.said } else { self.bound };
        let error = Error::corrupt(format!("recover the log: {what}"))
            .at(self.directory.path().join(file_name(segment.number())))
            .place(segment.number(), start)
            .next_good_at(next)
            .sides(format!("everything below {bound} intact"), "a place that does not validate");
        let error = if by_page { error.noting(BY_THE_PAGE.to_owned()) } else { error };
        if through > last { error.lost(last + 1..=through) } else { error }
    }
}
