//! All frames of the log in their order, and the damage between them.
//!
//! Files are read in pieces, each frame is judged by both checksums, and behind a place that
//! does not validate the walk goes on at the next frame that does. Only bytes that were
//! published are looked at, so a batch that is being written is never taken for damage.
//!
//! Where compaction went over the log its parts are walked instead: entries that it dropped are no
//! damage. A writer may compact what a walk has yet to come to: the walk then goes on in what was kept.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::disk::{Access, Directory};
use crate::dump::frame::{Copied, FrameInfo};
use crate::error::{Error, Result};
use crate::format::compacted::Cover;
use crate::format::frame::{Found, Frame};
use crate::format::segment::{FIRST_FRAME, SegmentHeader, file_name};
use crate::format::system::{Preamble, System};
use crate::id::{FRAME_ALIGN, Position, StoreId};
use crate::journal::opening::read_manifest;
use crate::journal::verify::window::{PIECE, Window};
use crate::log::grid::{GRID, zeros_at};
use crate::log::part::open_part_file;
use crate::log::report::Damage;

/// What stands next in the log.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all items are frames")]
pub enum Item {
    /// A frame. Its header is good; [`FrameInfo::body_good`] may still be false.
    Frame(FrameInfo),
    /// A place where no frame validates.
    Damage(Damage),
}

/// As [`Item`], lent: the next one takes its memory.
#[derive(Debug)]
pub enum Lent<'a> {
    /// A frame.
    Frame(&'a FrameInfo),
    /// A place where no frame validates.
    Damage(Damage),
}

/// One segment that is to be walked, or what compaction has put in the place of several.
#[derive(Clone, Debug)]
pub(crate) struct Stretch {
    /// The number of its file; 0: there is none, because compaction kept nothing.
    pub(crate) number: u32,
    /// What its header says, or what is wrong with it.
    pub(crate) header: Result<SegmentHeader, String>,
    /// What is wrong with its file where a header could be had for the frames that validate all the same.
    pub(crate) rest_of: Option<String>,
    pub(crate) from: u64,
    pub(crate) ends: Ends,
    /// What it stands for, where compaction went over the log.
    pub(crate) cover: Option<Cover>,
    /// It is one of the log.
    pub(crate) in_log: bool,
}

impl Stretch {
    /// What compaction has put in the place of a stretch of the log.
    pub(crate) fn of_cover(directory: &dyn Directory, store: StoreId, cover: &Cover) -> Self {
        let number = cover.part.map_or(0, |part| part.number);
        let header = read_part_header(directory, store, cover);
        let (from, ends) = (FIRST_FRAME, Ends::WithTheFile);
        Self { number, header, rest_of: None, from, ends, cover: Some(*cover), in_log: true }
    }

    /// What a writer has put in its place since it was looked at, if it did.
    pub(crate) fn replaced_by(&self, directory: &dyn Directory) -> Result<Option<Cover>> {
        if !self.in_log {
            return Ok(None);
        }
        let now = read_manifest(directory)?;
        let cover = now.and_then(|now| now.compacted.covering(self.last_segment()).copied());
        Ok(cover.filter(|cover| self.cover.as_ref() != Some(cover)))
    }

    /// The last segment that it stands for.
    pub(crate) fn last_segment(&self) -> u32 {
        self.cover.map_or(self.number, |cover| cover.last)
    }
}

/// The header of the part of a cover as that of a segment; of one without a part, one of no bytes.
fn read_part_header(
    directory: &dyn Directory,
    store: StoreId,
    cover: &Cover,
) -> Result<SegmentHeader, String> {
    let follows = cover.follows;
    let Some(part) = cover.part else {
        return Ok(SegmentHeader { number: 0, salt: 0, follows, bytes: 0, created: 0 });
    };
    let (_, found, created) = open_part_file(directory, store, part.number).map_err(|error| error.facts())?;
    if found != *cover {
        return Err("not the part that the manifest means".to_owned());
    }
    Ok(SegmentHeader { number: part.number, salt: part.salt, follows, bytes: part.bytes, created })
}

/// Where the frames of a segment end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// With a seal: anything else is damage.
    Sealed,
    /// At this offset.
    At(u64),
    /// Where they end: nothing is known of a spare or dead segment.
    Anywhere,
    /// Where the file of a part does.
    WithTheFile,
}

/// The frames of a log; see [`Survey::frames`](crate::dump::Survey::frames).
///
/// Damage is an item. An error ends the iterator: a device that fails is not a damaged store.
#[derive(Debug)]
pub struct Frames {
    directory: Arc<dyn Directory>,
    store: StoreId,
    stretches: VecDeque<Stretch>,
    walk: Option<Walk>,
    last_seq: Option<u64>,
    /// Damage whose extent the next good frame tells.
    pending: Option<Damage>,
    /// Damage that is shown before the frame that told its extent.
    queue: VecDeque<Damage>,
    /// The place for a frame that is to be shown behind what is queued, and whether one is in it.
    held: Box<FrameInfo>,
    is_held: bool,
    /// The place for the frame that is lent.
    lent: Option<Box<FrameInfo>>,
    copied: Copied,
    resume: Position,
}

/// What is to be shown.
enum Next {
    /// A frame, which is in the place for it.
    Frame,
    Damage(Damage),
}

impl Frames {
    pub(crate) fn over(directory: Arc<dyn Directory>, store: StoreId, stretches: VecDeque<Stretch>) -> Self {
        let (queue, resume) = (VecDeque::new(), Position::ZERO);
        let (held, is_held, lent, copied) = (Box::default(), false, None, Copied::All);
        let (walk, last_seq, pending) = (None, None, None);
        Self {
            directory,
            store,
            stretches,
            walk,
            last_seq,
            pending,
            queue,
            held,
            is_held,
            lent,
            copied,
            resume,
        }
    }

    /// Where a later walk goes on behind this one, which was read to its end; see
    /// [`Survey::frames_from`](crate::dump::Survey::frames_from).
    #[must_use]
    pub fn resume(&self) -> Position {
        self.resume
    }

    /// The Seq up to which the log came by the frame that was shown last.
    pub(crate) fn last_seq(&self) -> Option<u64> {
        self.last_seq
    }

    /// For those who count: the metadata and the payload of entries stay empty. They are judged all the same.
    #[must_use]
    pub fn heads(mut self) -> Self {
        self.copied = Copied::Head;
        self
    }

    /// As [`next`](Iterator::next), and keeps the memory of the frame for the next one.
    pub fn lend(&mut self) -> Option<Result<Lent<'_>>> {
        let mut place = self.lent.take().unwrap_or_default();
        let next = self.advance(&mut place);
        let frame = self.lent.insert(place);
        match next {
            Ok(None) => None,
            Ok(Some(Next::Frame)) => Some(Ok(Lent::Frame(frame))),
            Ok(Some(Next::Damage(damage))) => Some(Ok(Lent::Damage(damage))),
            Err(error) => Some(Err(error)),
        }
    }

    /// As [`lend`](Self::lend), with the frame in the caller's place for it, whose memory is used again.
    ///
    /// What is in the place is unspecified unless this answers [`Lent::Frame`]: before damage a frame is read ahead.
    pub fn next_into<'a>(&mut self, frame: &'a mut FrameInfo) -> Option<Result<Lent<'a>>> {
        let next = self.advance(frame).transpose()?;
        Some(next.map(|next| match next {
            Next::Frame => Lent::Frame(frame),
            Next::Damage(damage) => Lent::Damage(damage),
        }))
    }

    fn advance(&mut self, place: &mut FrameInfo) -> Result<Option<Next>> {
        let next = self.step(place);
        if next.is_err() {
            self.stretches.clear();
            self.walk = None;
        }
        next
    }

    fn step(&mut self, place: &mut FrameInfo) -> Result<Option<Next>> {
        loop {
            if let Some(damage) = self.queue.pop_front() {
                return Ok(Some(Next::Damage(damage)));
            }
            if std::mem::take(&mut self.is_held) {
                std::mem::swap(place, &mut self.held);
                return Ok(Some(Next::Frame));
            }
            let Some(walk) = &mut self.walk else {
                let Some(stretch) = self.stretches.pop_front() else {
                    return Ok(self.pending.take().map(Next::Damage));
                };
                self.walk = self.enter(stretch)?;
                continue;
            };
            let step = walk.step(place, self.copied);
            let (number, at, ended, part) = (walk.number, walk.at, walk.ended, walk.part);
            match (step.map_err(|e| self.io(number, e))?, part) {
                (Step::Frame, part) => {
                    if part.is_none() {
                        self.take(place);
                    } else if !self.take_kept(place) {
                        continue;
                    }
                    if self.queue.is_empty() {
                        return Ok(Some(Next::Frame));
                    }
                    // The caller's memory comes back with the frame.
                    std::mem::swap(place, &mut self.held);
                    self.is_held = true;
                }
                (Step::Bad { offset, next_good, what }, _) => self.damaged(number, offset, next_good, what),
                (Step::End, Some(part)) => {
                    self.leave_part(number, at, part);
                    self.walk = None;
                }
                (Step::End, None) => {
                    // Behind a seal there is nothing: the log goes on in a later segment.
                    let (number, at) = if ended { (number + 1, 0) } else { (number, at) };
                    self.resume = Position::new(number, at);
                    self.walk = None;
                }
            }
        }
    }

    fn enter(&mut self, stretch: Stretch) -> Result<Option<Walk>> {
        let Stretch { number, header, from, ends, cover, .. } = &stretch;
        let (number, from, ends, cover) = (*number, *from, *ends, *cover);
        if let Some(cover) = &cover {
            self.reach_cover(Position::new(number, from), cover.first_seq - 1);
        }
        if number == 0 {
            cover.iter().for_each(|cover| self.leave(cover));
            return Ok(None);
        }
        let header = match header {
            Ok(header) => *header,
            Err(what) => {
                if self.is_overtaken(&stretch)? {
                    return Ok(None);
                }
                self.damaged(number, 0, None, what);
                cover.iter().for_each(|cover| self.leave(cover));
                return Ok(None);
            }
        };
        let file = match self.directory.open(&file_name(number), Access::Read) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.is_overtaken(&stretch)? => return Ok(None),
            file => file.map_err(|e| self.io(number, e))?,
        };
        let until = match ends {
            Ends::At(end) => end.min(header.bytes),
            Ends::Sealed | Ends::Anywhere | Ends::WithTheFile => header.bytes,
        };
        if let Some(what) = stretch.rest_of.as_ref().filter(|_| from == FIRST_FRAME) {
            self.damaged(number, 0, Some(FIRST_FRAME), what);
        }
        let window = Window::new(file, until).in_order();
        let part = cover.map(|cover| Kept { cover, entries: 0, is_whole: from == FIRST_FRAME });
        let (batch, ended) = (None, false);
        Ok(Some(Walk { number, salt: header.salt, window, at: from, batch, ends, ended, part }))
    }

    /// True if a writer has compacted what was to be walked next: what it kept is walked instead.
    fn is_overtaken(&mut self, stretch: &Stretch) -> Result<bool> {
        let Some(cover) = stretch.replaced_by(&*self.directory)? else { return Ok(false) };
        while self.stretches.front().is_some_and(|next| next.last_segment() <= cover.last) {
            self.stretches.pop_front();
        }
        self.stretches.push_front(Stretch::of_cover(&*self.directory, self.store, &cover));
        Ok(true)
    }

    /// The log goes on behind this Seq, whatever stood before: what was met on the way to there is lost.
    fn reach(&mut self, place: Position, seq: u64) {
        if let Some(mut damage) = self.pending.take() {
            if self.last_seq.is_none() {
                damage.first_seq = seq.saturating_add(1);
            }
            damage.last_seq = seq.max(damage.first_seq.saturating_sub(1));
            self.queue.push_back(damage);
        } else if let Some(last) = self.last_seq.filter(|last| *last < seq) {
            self.queue.push_back(Damage {
                segment: place.segment(),
                offset: place.offset(),
                next_good: Some(place.offset()),
                first_seq: last + 1,
                last_seq: seq,
                lost_from: place.offset(),
                what: "entries are missing before this frame".to_owned(),
                unreadable: false,
            });
        }
        self.last_seq = Some(self.last_seq.unwrap_or(seq).max(seq));
    }

    /// What compaction went over begins behind this Seq. It has no preamble any more that says what a repair or an import left out
    /// before it: where all was read up to there, nothing else is missing.
    fn reach_cover(&mut self, place: Position, seq: u64) {
        match self.pending {
            Some(_) => self.reach(place, seq),
            None => self.last_seq = Some(self.last_seq.unwrap_or(seq).max(seq)),
        }
    }

    /// Behind what compaction went over.
    fn leave(&mut self, cover: &Cover) {
        if let Some(mut damage) = self.pending.take() {
            damage.last_seq = cover.last_seq;
            self.queue.push_back(damage);
        }
        self.last_seq = Some(self.last_seq.unwrap_or(0).max(cover.last_seq));
        self.resume = Position::new(cover.last + 1, 0);
    }

    fn leave_part(&mut self, number: u32, at: u64, part: Kept) {
        let Kept { cover, entries, is_whole } = part;
        let kept = cover.part.map_or(0, |part| part.entries);
        let is_all_there = is_whole && entries >= kept;
        match self.pending.take() {
            // What does not validate is no entry.
            Some(damage) if is_all_there => self.queue.push_back(damage),
            None if is_whole && !is_all_there => {
                self.damaged(number, at, None, &format!("{entries} of {kept} entries are there"));
            }
            pending => self.pending = pending,
        }
        self.leave(&cover);
    }

    /// A frame of a part: what is missing before it was dropped, unless a bad place was met on the way. Answers whether it
    /// is shown.
    fn take_kept(&mut self, frame: &FrameInfo) -> bool {
        let (seq, seq_before, is_system) = (frame.seq, frame.seq_before(), frame.is_system());
        let before = self.last_seq.unwrap_or(0);
        if let Some(mut damage) = self.pending.take() {
            damage.last_seq = seq_before;
            self.queue.push_back(damage);
            if let Some(walk) = &mut self.walk {
                // How many are missing is said by now.
                walk.part = walk.part.map(|part| Kept { is_whole: false, ..part });
            }
        }
        if !is_system && seq > before {
            self.last_seq = Some(seq);
        }
        is_system || seq > before
    }

    /// A good frame says how much is lost before it.
    fn take(&mut self, frame: &FrameInfo) {
        let is_preamble = frame.system() == Some(System::Preamble) && frame.body_good;
        let preamble = is_preamble.then(|| Preamble::read(&frame.payload)).flatten();
        // A repair says how many it could not save: those are not lost now.
        let saved = preamble.map_or(frame.seq_before(), |preamble| preamble.next_seq.saturating_sub(1));
        let expected = saved.saturating_sub(preamble.map_or(0, |preamble| preamble.lost));
        let (position, is_system) = (frame.position, frame.is_system());
        self.reach(position, expected);
        self.last_seq = Some(saved + u64::from(!is_system));
    }

    fn damaged(&mut self, segment: u32, offset: u64, next_good: Option<u64>, what: &str) {
        // Nothing good came between: one hole over two segments stays two lines.
        self.queue.extend(self.pending.take());
        let last = self.last_seq.unwrap_or(0);
        let what = what.to_owned();
        self.pending = Some(Damage {
            segment,
            offset,
            next_good,
            first_seq: last + 1,
            last_seq: last,
            lost_from: offset,
            what,
            unreadable: false,
        });
    }

    fn io(&self, number: u32, error: io::Error) -> Error {
        Error::io("read a segment", error).at(self.directory.path().join(file_name(number)))
    }
}

impl Iterator for Frames {
    type Item = Result<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut frame = FrameInfo::default();
        let next = self.advance(&mut frame).transpose()?;
        Some(next.map(|next| match next {
            Next::Frame => Item::Frame(frame),
            Next::Damage(damage) => Item::Damage(damage),
        }))
    }
}

/// One segment on the way.
#[derive(Debug)]
struct Walk {
    number: u32,
    salt: u64,
    window: Window,
    at: u64,
    batch: Option<u64>,
    ends: Ends,
    ended: bool,
    /// It is a part, and what was met of it.
    part: Option<Kept>,
}

/// What was met of a part.
#[derive(Clone, Copy, Debug)]
struct Kept {
    cover: Cover,
    entries: u64,
    /// It is walked from its first frame on, and nothing bad was met.
    is_whole: bool,
}

enum Step {
    /// A frame, which was read into the place for it.
    Frame,
    Bad {
        offset: u64,
        next_good: Option<u64>,
        what: &'static str,
    },
    End,
}

impl Walk {
    fn step(&mut self, info: &mut FrameInfo, copied: Copied) -> io::Result<Step> {
        if self.ended || self.at >= self.window.until() {
            return Ok(Step::End);
        }
        let position = Position::new(self.number, self.at);
        let what = match Frame::find(self.window.frame(self.at)?) {
            Found::Empty => "zeros where a frame should be",
            Found::DoesNotFit => "a frame longer than its segment",
            Found::Frame(frame) if frame.head_is_good(self.salt, position) => {
                let batch = *self.batch.get_or_insert(self.at);
                let (bytes, payload_at) = (frame.len() as u64, frame.payload_at());
                // What is larger than a piece stands alone in memory, and its payload stays there.
                let is_large = bytes > PIECE && copied == Copied::All && !frame.header.is_system();
                let copied = if is_large { Copied::ButPayload } else { copied };
                if is_large {
                    // Before as much is taken again.
                    info.payload = Vec::new();
                }
                info.read(&frame, position, Some(Position::new(self.number, batch)), copied);
                info.head_good = true;
                if is_large {
                    let count = usize::try_from(info.payload_bytes).unwrap_or(usize::MAX);
                    info.payload = self.window.take(self.at + payload_at as u64, count);
                } else if bytes > PIECE {
                    self.window.take(self.at, 0);
                }
                self.at += info.frame_bytes;
                if !info.more {
                    self.batch = None;
                }
                self.ended = self.part.is_none() && info.system() == Some(System::Seal);
                if let Some(part) = &mut self.part {
                    part.entries += u64::from(!info.is_system());
                }
                return Ok(Step::Frame);
            }
            Found::Frame(_) => "a frame's header does not match its checksum",
        };
        let next_good = self.next_good(self.at + FRAME_ALIGN)?;
        let offset = std::mem::replace(&mut self.at, next_good.unwrap_or(self.window.until()));
        self.batch = None;
        if next_good.is_none() && self.ends == Ends::Anywhere {
            return Ok(Step::End);
        }
        Ok(Step::Bad { offset, next_good, what })
    }

    /// The next place on the eight-byte grid where a whole frame validates.
    fn next_good(&mut self, from: u64) -> io::Result<Option<u64>> {
        let mut at = from;
        while at < self.window.until() {
            let place = self.window.candidate(at)?;
            if let Found::Frame(frame) = Frame::find(place)
                && frame.is_good(self.salt, Position::new(self.number, at))
            {
                return Ok(Some(at));
            }
            at += zeros_at(place).max(GRID) as u64;
        }
        Ok(None)
    }
}

/// So far is looked for a frame, which ends within it.
const NEAR: u64 = 1 << 20;

/// Where the first whole, good frame at or behind a place begins, if it is near, and ends near and before another place.
pub(crate) fn good_from(
    directory: &dyn Directory,
    header: &SegmentHeader,
    from: u64,
    until: u64,
) -> io::Result<Option<u64>> {
    let file = directory.open(&file_name(header.number), Access::Read)?;
    let window = Window::new(file, until.min(from.saturating_add(NEAR)));
    let (number, salt, ends) = (header.number, header.salt, Ends::Anywhere);
    Walk { number, salt, window, at: from, batch: None, ends, ended: false, part: None }.next_good(from)
}

/// The first Seq behind a segment's preamble, if the preamble is whole.
pub(crate) fn next_seq(directory: &dyn Directory, header: &SegmentHeader) -> Option<u64> {
    let file = directory.open(&file_name(header.number), Access::Read).ok()?;
    let mut window = Window::new(file, header.bytes);
    let found = Frame::find(window.frame(FIRST_FRAME).ok()?);
    let Found::Frame(frame) = found else { return None };
    let is_preamble = frame.header.is_system() && frame.header.operation == System::Preamble as u8;
    let good = frame.is_good(header.salt, Position::new(header.number, FIRST_FRAME));
    (is_preamble && good).then(|| Preamble::read(frame.payload()))?.map(|preamble| preamble.next_seq)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::Survey;
    use crate::journal::Journal;
    use crate::journal::reader::Reader;
    use crate::journal::record::Record;

    /// More than any payload here takes.
    const ROOM: usize = 1 << 16;

    #[test]
    #[cfg_attr(miri, ignore = "on a disk")]
    fn the_caller_s_memory_is_used_again_behind_damage() {
        let place = tempfile::tempdir().unwrap();
        let journal = Journal::open(place.path()).unwrap();
        let kind = journal.kind("note").unwrap();
        for n in 0..40_u64 {
            journal.append(Record::new(kind, b"a", &n.to_le_bytes())).unwrap();
        }
        journal.close().unwrap();
        let frames = Survey::of(&Reader::open(place.path()).unwrap()).unwrap().frames();
        let places: Vec<u64> = frames
            .map(|item| match item.unwrap() {
                Item::Frame(frame) => frame.position.offset(),
                Item::Damage(damage) => panic!("{damage:?}"),
            })
            .collect();
        let segment = std::fs::OpenOptions::new().write(true).open(place.path().join(file_name(1))).unwrap();
        for n in [10, 11, 20, 30] {
            std::os::unix::fs::FileExt::write_all_at(&segment, &[0xa5; 8], places[n]).unwrap();
        }
        let survey = Survey::of(&Reader::open(place.path()).unwrap()).unwrap();
        let (mut frames, mut expected) = (survey.frames(), survey.frames());
        let (mut frame, mut damaged) = (FrameInfo::default(), 0);
        frame.payload.reserve(ROOM);
        while let Some(next) = frames.next_into(&mut frame) {
            match (next.unwrap(), expected.next().unwrap().unwrap()) {
                (Lent::Frame(found), Item::Frame(expected)) => {
                    assert_eq!(*found, expected);
                    assert!(found.payload.capacity() >= ROOM, "behind {damaged} places");
                }
                (Lent::Damage(found), Item::Damage(expected)) => {
                    assert_eq!(found, expected);
                    damaged += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(expected.next().is_none() && damaged == 3, "{damaged}");
    }
}
