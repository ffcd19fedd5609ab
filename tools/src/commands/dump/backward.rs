//! What is newest: the last so many, or all of it, the newest first.
//!
//! Frames say where the next one is, and not where the one before was: a segment is walked over once from its beginning, and
//! what it ends with is kept. Where that is more than is to be in memory, it is noted where each piece of it begins, and a
//! piece is read again from there.
//!
//! A writer may compact meanwhile what is looked at: what it kept has other positions. Those count where they can be
//! compared, and else Seqs do.

use std::collections::VecDeque;

use anyhow::Result;
use esker::Position;
use esker::dump::{FrameInfo, Item, Survey};

use super::Show;
use crate::output::Output;
use crate::store::Opened;

/// So much is kept, in bytes, and one item more.
const KEPT_BYTES: usize = 12 << 20;

/// Who looks back, and shows what is found.
trait Viewer {
    /// It passes, though it may be hidden.
    fn accepts(&self, frame: &FrameInfo) -> bool;
    /// It counts.
    fn is_shown(&self, item: &Item) -> bool;
    fn walk_over(&mut self, item: &Item);
    /// False: that was the last one that is wanted.
    fn show(&mut self, item: Item) -> Result<bool>;
}

/// What is looked for.
struct Wanted {
    /// Only entries below this Seq, and none in segments all of which is below the other one.
    below: u64,
    oldest: u64,
    /// So many frames.
    frames: usize,
    is_reverse: bool,
    /// No more than this is kept, in bytes.
    piece: usize,
}

/// A look back.
struct Back<'s> {
    survey: &'s Survey,
    wanted: Wanted,
    /// Entries from this Seq on were looked at.
    lowest: u64,
    /// Where the log goes on behind the newest segment, and the Seq behind its last entry.
    resume: Option<Position>,
    end: u64,
    /// What is to be shown in the order of the log. Of more than is to be in memory it is only known where it begins: in which
    /// segment of the survey, and there.
    kept: Kept,
    is_too_much: bool,
    first: Option<(u32, Mark)>,
}

/// Items in their order, and how much they take.
#[derive(Default)]
struct Kept {
    /// Those that count with true.
    items: VecDeque<(Item, bool)>,
    bytes: usize,
    /// So many count.
    shown: usize,
}

/// An item's place in the log.
#[derive(Clone, Copy, Debug)]
struct Mark {
    place: Position,
    is_frame: bool,
    /// All entries before it are below this Seq.
    seq: u64,
    /// A walk from here comes to it and knows of its batch.
    from: Position,
}

/// What a walk over a segment found.
#[derive(Default)]
struct Walked {
    /// The last piece of it.
    kept: Kept,
    /// Where the first piece begins; where each of the others does, and how many items before that count.
    begin: Option<Mark>,
    begins: Vec<(Mark, usize)>,
    /// So many count.
    passed: usize,
    /// The Seq of the segment's first frame, and that of its first entry.
    oldest: Option<u64>,
    first: Option<u64>,
}

impl Show<'_> {
    /// What is below a Seq, from the newest segment backward, no further than needed. Answers where the log goes on.
    pub(super) fn backward(&mut self, below: u64, opened: &Opened, output: &mut Output) -> Result<Position> {
        let shown = usize::try_from(self.shown).unwrap_or(usize::MAX);
        let mut frames = self.args.last.unwrap_or(usize::MAX).saturating_sub(shown);
        if let Some(limit) = self.args.limit.filter(|_| self.args.reverse) {
            frames = frames.min(usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(shown));
        }
        let (oldest, is_reverse) = (self.filter.seqs().first, self.args.reverse);
        let wanted = Wanted { below, oldest, frames, is_reverse, piece: KEPT_BYTES };
        let mut viewer = OnOutput { show: self, opened, output };
        Back::over(&opened.survey, wanted).look(&mut viewer)
    }
}

/// Shows it where a dump does.
struct OnOutput<'v, 'a> {
    show: &'v mut Show<'a>,
    opened: &'v Opened,
    output: &'v mut Output,
}

impl Viewer for OnOutput<'_, '_> {
    fn accepts(&self, frame: &FrameInfo) -> bool {
        self.show.filter.accepts(frame, &self.opened.dump)
    }

    fn is_shown(&self, item: &Item) -> bool {
        // Of what is damaged nobody can say that it was wanted: it is told, and does not count.
        self.show.is_shown(item) && !matches!(item, Item::Frame(frame) if !self.accepts(frame))
    }

    fn walk_over(&mut self, item: &Item) {
        self.show.walk_over(item);
    }

    fn show(&mut self, item: Item) -> Result<bool> {
        self.show.item(item, &self.opened.dump, self.output)
    }
}

impl<'s> Back<'s> {
    fn over(survey: &'s Survey, wanted: Wanted) -> Self {
        let (kept, lowest) = (Kept::default(), wanted.below);
        Self { survey, wanted, lowest, resume: None, end: 0, kept, is_too_much: false, first: None }
    }

    /// Shows what is wanted. Answers where the log goes on.
    fn look(mut self, viewer: &mut impl Viewer) -> Result<Position> {
        for segment in self.survey.log().rev() {
            let walked = self.walk(segment, viewer)?;
            let (oldest, first) = (walked.oldest, walked.first);
            if self.wanted.is_reverse {
                if !self.show_back(segment, walked, viewer)? {
                    break;
                }
            } else {
                self.keep(segment, walked, viewer)?;
            }
            self.lowest = first.map_or(self.lowest, |first| first.min(self.lowest));
            if self.wanted.frames == 0 || oldest.is_some_and(|oldest| oldest < self.wanted.oldest) {
                break;
            }
        }
        let resume = self.resume.unwrap_or_else(|| self.survey.end());
        self.show_forward(viewer)?;
        Ok(resume)
    }

    /// Walks over a segment: how many of its frames count, and the last of them, hidden ones too, and the damage between them.
    fn walk(&mut self, segment: u32, viewer: &mut impl Viewer) -> Result<Walked> {
        let mut frames = self.survey.frames_of(segment);
        let mut walked = Walked::default();
        for item in frames.by_ref() {
            let item = item?;
            let mark = Mark::of(&item);
            if self.resume.is_none() {
                viewer.walk_over(&item);
                self.end = self.end.max(behind(&item));
            }
            if let Item::Frame(frame) = &item {
                // A writer may have compacted this segment meanwhile with others that were shown.
                if self.was_looked_at(frame) {
                    continue;
                }
                walked.oldest = walked.oldest.or(Some(frame.seq));
                walked.first = walked.first.or((!frame.is_system()).then_some(frame.seq));
                // What is damaged is told, whosever it is.
                if frame.body_good && !viewer.accepts(frame) {
                    continue;
                }
            }
            let is_shown = viewer.is_shown(&item);
            if self.wanted.frames > 0 {
                walked.begin = walked.begin.or(Some(mark));
                if is_shown && walked.kept.shown >= self.wanted.frames {
                    walked.kept.forget_one();
                }
                self.make_room(&item, mark, &mut walked);
                walked.kept.push_back(item, is_shown);
            }
            walked.passed += usize::from(is_shown);
        }
        self.resume = self.resume.or(Some(frames.resume()));
        Ok(walked)
    }

    fn was_looked_at(&self, frame: &FrameInfo) -> bool {
        !frame.is_system() && frame.seq >= self.lowest
    }

    /// Before an item is kept.
    fn make_room(&mut self, item: &Item, mark: Mark, walked: &mut Walked) {
        let bytes = bytes_of(item) + walked.kept.bytes;
        if !self.wanted.is_reverse && self.kept.bytes + bytes > self.wanted.piece {
            self.kept = Kept::default();
            self.is_too_much = true;
        }
        // What is told of a place before a frame stays with what is before it: a walk from that frame does not come to it.
        if bytes > self.wanted.piece && mark.is_frame && !walked.kept.items.is_empty() {
            walked.begins.push((mark, walked.passed));
            walked.kept = Kept::default();
        }
    }

    /// Shows what a segment ends with, the newest first. False: that is all that is wanted.
    fn show_back(&mut self, segment: u32, walked: Walked, viewer: &mut impl Viewer) -> Result<bool> {
        let Walked { mut kept, mut begins, .. } = walked;
        loop {
            while self.wanted.frames > 0
                && let Some((item, is_shown)) = kept.pop_back()
            {
                self.wanted.frames -= usize::from(is_shown);
                if !viewer.show(item)? {
                    return Ok(false);
                }
            }
            let Some((until, _)) = begins.pop().filter(|_| self.wanted.frames > 0) else { return Ok(true) };
            kept = Kept::default();
            let from = begins.last().map(|(from, _)| *from);
            self.again(segment, (from, Some(until)), viewer, |viewer, item| {
                let is_shown = viewer.is_shown(&item);
                kept.push_back(item, is_shown);
                Ok(true)
            })?;
        }
    }

    /// Keeps what is wanted of a segment, or where that begins.
    fn keep(&mut self, segment: u32, mut walked: Walked, viewer: &mut impl Viewer) -> Result<()> {
        let is_all = walked.passed < self.wanted.frames;
        if self.is_too_much {
            let begin = match is_all {
                true => walked.begin,
                false => self.first_wanted(segment, &walked, viewer)?,
            };
            self.first = begin.map(|begin| (segment, begin)).or(self.first);
        } else {
            if !is_all {
                walked.kept.begin_with_one_that_counts();
            }
            self.kept.put_before(walked.kept);
        }
        self.wanted.frames = self.wanted.frames.saturating_sub(walked.passed);
        Ok(())
    }

    /// Where the first of so many begins that a segment has more of.
    fn first_wanted(&self, segment: u32, walked: &Walked, viewer: &mut impl Viewer) -> Result<Option<Mark>> {
        let skipped = walked.passed - self.wanted.frames;
        let piece = walked.begins.iter().rev().find(|(_, before)| *before <= skipped);
        let (from, before) = piece.map_or((None, 0), |(from, before)| (Some(*from), *before));
        let (mut skipped, mut first) = (skipped - before, None);
        self.again(segment, (from, None), viewer, |viewer, item| {
            if viewer.is_shown(&item) {
                first = Some(Mark::of(&item));
                skipped = skipped.wrapping_sub(1);
            }
            Ok(skipped != usize::MAX)
        })?;
        // Beside a writer that compacts there may be fewer by now: then it is the last of them.
        Ok(first)
    }

    /// Walks again over what passes of a segment and was not looked at, from a mark on and up to another.
    fn again<V: Viewer>(
        &self,
        segment: u32,
        (from, until): (Option<Mark>, Option<Mark>),
        viewer: &mut V,
        mut each: impl FnMut(&mut V, Item) -> Result<bool>,
    ) -> Result<bool> {
        let begin = from.map(|from| from.from).filter(|begin| begin.segment() == segment);
        let mut is_in = from.is_none();
        for item in self.survey.rest_of(begin.unwrap_or(Position::new(segment, 0))) {
            let item = item?;
            if until.is_some_and(|until| until.is_reached_by(&item) == Some(true)) {
                break;
            }
            is_in = from.and_then(|from| from.is_reached_by(&item)).unwrap_or(is_in);
            let passes = match &item {
                Item::Frame(frame) => {
                    !self.was_looked_at(frame) && (!frame.body_good || viewer.accepts(frame))
                }
                Item::Damage(_) => true,
            };
            if is_in && passes && !each(viewer, item)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Shows in the order of the log what was found.
    fn show_forward(mut self, viewer: &mut impl Viewer) -> Result<()> {
        let Some((segment, first)) = self.first.filter(|_| self.is_too_much) else {
            for (item, _) in self.kept.items {
                if !viewer.show(item)? {
                    break;
                }
            }
            return Ok(());
        };
        // What a writer compacts goes on behind what the survey knows.
        self.lowest = self.wanted.below.min(self.end);
        // From the beginning of its segment: of a part that is walked as a whole it is known what is missing.
        let mut from = Some(Mark { from: Position::new(segment, 0), ..first });
        let mut next = first.seq;
        for segment in self.survey.log().skip_while(|number| *number != segment) {
            let goes_on = self.again(segment, (from.take(), None), viewer, |viewer, item| {
                if let Item::Frame(frame) = &item
                    && !frame.is_system()
                {
                    // As above, of segments that were compacted with others.
                    if frame.seq < next {
                        return Ok(true);
                    }
                    next = frame.seq + 1;
                }
                viewer.show(item)
            })?;
            if !goes_on {
                break;
            }
        }
        Ok(())
    }
}

impl Mark {
    fn of(item: &Item) -> Self {
        let place = place_of(item);
        match item {
            Item::Frame(frame) => {
                let (seq, from) = (behind(item) - u64::from(!frame.is_system()), frame.batch);
                Self { place, is_frame: true, seq, from: from.unwrap_or(place) }
            }
            Item::Damage(damage) => {
                let from = Position::new(place.segment(), 0);
                Self { place, is_frame: false, seq: damage.first_seq, from }
            }
        }
    }

    /// True for an item that stands here or behind. `None`: it cannot tell, as a writer has compacted what one of them is in.
    fn is_reached_by(&self, item: &Item) -> Option<bool> {
        let place = place_of(item);
        let is_of_log = !place.is_in_part() && !self.place.is_in_part();
        match item {
            // What is told of a place comes before the frame that stands there.
            _ if is_of_log || place.segment() == self.place.segment() => {
                let is_frame = matches!(item, Item::Frame(_));
                Some((place, is_frame) >= (self.place, self.is_frame))
            }
            Item::Frame(frame) if !frame.is_system() => Some(frame.seq >= self.seq),
            _ => None,
        }
    }
}

impl Kept {
    fn push_back(&mut self, item: Item, is_shown: bool) {
        self.bytes += bytes_of(&item);
        self.shown += usize::from(is_shown);
        self.items.push_back((item, is_shown));
    }

    fn pop_back(&mut self) -> Option<(Item, bool)> {
        let (item, is_shown) = self.items.pop_back()?;
        self.bytes -= bytes_of(&item);
        self.shown -= usize::from(is_shown);
        Some((item, is_shown))
    }

    /// Forgets what is before the first one that counts.
    fn begin_with_one_that_counts(&mut self) {
        while let Some((item, false)) = self.items.front() {
            self.bytes -= bytes_of(item);
            self.items.pop_front();
        }
    }

    /// Forgets the first one that counts, and what is before it.
    fn forget_one(&mut self) {
        self.begin_with_one_that_counts();
        if let Some((item, _)) = self.items.pop_front() {
            self.bytes -= bytes_of(&item);
            self.shown -= 1;
        }
    }

    fn put_before(&mut self, mut before: Self) {
        while let Some((item, is_shown)) = before.pop_back() {
            self.bytes += bytes_of(&item);
            self.shown += usize::from(is_shown);
            self.items.push_front((item, is_shown));
        }
    }
}

/// What an item takes, about.
fn bytes_of(item: &Item) -> usize {
    let held = match item {
        Item::Frame(FrameInfo { key, metadata, payload, .. }) => {
            key.capacity() + metadata.capacity() + payload.capacity()
        }
        Item::Damage(damage) => damage.what.len(),
    };
    // What an allocator adds, and a queue keeps free.
    2 * size_of::<(Item, bool)>() + held + 64
}

fn place_of(item: &Item) -> Position {
    match item {
        Item::Frame(frame) => frame.position,
        Item::Damage(damage) => Position::new(damage.segment, damage.offset),
    }
}

/// The Seq behind it.
fn behind(item: &Item) -> u64 {
    let last = match item {
        Item::Frame(frame) => frame.seq,
        Item::Damage(damage) => damage.last_seq,
    };
    last.saturating_add(1)
}

#[cfg(test)]
#[path = "backward_tests.rs"]
mod tests;
