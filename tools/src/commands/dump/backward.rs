//! What is newest: the last so many, or all of it, the newest first.
//!
//! Frames say where the next one is, and not where the one before was: a segment is walked over from its beginning, and what
//! it ends with is kept. Where that is more than is to be in memory, the walk is made again, each time less far.

use std::collections::VecDeque;

use anyhow::Result;
use esker::Position;
use esker::dump::{FrameInfo, Item};

use super::Show;
use crate::output::Output;
use crate::store::Opened;

/// So much is kept at a time, in bytes.
const KEPT_BYTES: usize = 12 << 20;

/// Items in their order, and how much they take.
#[derive(Default)]
struct Kept {
    items: VecDeque<Item>,
    bytes: usize,
}

/// What a look back at a segment found.
struct Newest {
    kept: Kept,
    /// There is more before it that was not kept.
    is_cut: bool,
    /// The Seq of the segment's first frame, and that of its first entry.
    oldest: Option<u64>,
    first: Option<u64>,
    /// Where the log goes on behind it.
    place: Position,
}

/// Where a look back came to.
struct Looking {
    /// So many frames more are wanted.
    wanted: usize,
    /// Entries from this Seq on were looked at.
    lowest: u64,
    /// So was everything from here on, if it is in this segment.
    until: Option<Position>,
    /// What is to be shown in the order of the log. Of more than is to be in memory it is only known where it begins.
    kept: Kept,
    first: Option<(Position, u64)>,
    is_too_much: bool,
}

impl Show<'_> {
    /// What is below a Seq, from the newest segment backward, no further than needed. Answers where the log goes on.
    pub(super) fn backward(&mut self, below: u64, opened: &Opened, output: &mut Output) -> Result<Position> {
        let shown = usize::try_from(self.shown).unwrap_or(usize::MAX);
        let mut wanted = self.args.last.unwrap_or(usize::MAX).saturating_sub(shown);
        if let Some(limit) = self.args.limit.filter(|_| self.args.reverse) {
            wanted = wanted.min(usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(shown));
        }
        let kept = Kept::default();
        let mut looking =
            Looking { wanted, lowest: below, until: None, kept, first: None, is_too_much: false };
        let mut resume = None;
        for segment in opened.survey.log().rev() {
            looking.until = None;
            let oldest = loop {
                let is_newest = resume.is_none();
                let newest = self.newest_of(segment, &looking, is_newest, opened)?;
                let place = *resume.get_or_insert(newest.place);
                let (is_cut, oldest) = (newest.is_cut, newest.oldest);
                if !self.look_at(newest, &mut looking, opened, output)? {
                    return Ok(place);
                }
                if !is_cut || looking.wanted == 0 {
                    break oldest;
                }
            };
            if looking.wanted == 0 || oldest.is_some_and(|oldest| oldest < self.filter.seqs().first) {
                break;
            }
        }
        let resume = resume.unwrap_or_else(|| opened.survey.end());
        match looking.first.filter(|_| looking.is_too_much) {
            Some(first) => self.from(first, (below, resume), opened, output)?,
            None => {
                for item in looking.kept.items {
                    if !self.item(item, &opened.dump, output)? {
                        break;
                    }
                }
            }
        }
        Ok(resume)
    }

    /// Looks at what a segment ends with, the newest first. False: that is all that is wanted.
    fn look_at(
        &mut self,
        newest: Newest,
        looking: &mut Looking,
        opened: &Opened,
        output: &mut Output,
    ) -> Result<bool> {
        let Newest { mut kept, is_cut, first, .. } = newest;
        let entries = kept.items.iter().filter_map(|item| match item {
            Item::Frame(frame) if !frame.is_system() => Some(frame.seq),
            _ => None,
        });
        let first = if is_cut { entries.min() } else { first };
        looking.lowest = first.unwrap_or(looking.lowest);
        looking.until = kept.items.front().map(place_of);
        while looking.wanted > 0
            && let Some(item) = kept.pop_back()
        {
            let is_frame = match &item {
                Item::Frame(frame) if !self.wants(frame, &opened.dump) => continue,
                Item::Frame(_) => true,
                Item::Damage(_) => false,
            };
            looking.wanted -= usize::from(is_frame);
            if !self.args.reverse {
                looking.keep(item);
            } else if !self.item(item, &opened.dump, output)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The last of the frames of a segment that were not looked at and pass, hidden ones too, and the damage between them. No
    /// more are in memory than are wanted, and than there is room for.
    fn newest_of(
        &mut self,
        segment: u32,
        looking: &Looking,
        is_newest: bool,
        opened: &Opened,
    ) -> Result<Newest> {
        let mut frames = opened.survey.frames_of(segment);
        let (mut kept, mut passed, mut is_cut) = (Kept::default(), 0, false);
        let (mut oldest, mut first) = (None, None);
        for item in frames.by_ref() {
            let item = item?;
            if is_newest {
                self.walk_over(&item);
            }
            let place = place_of(&item);
            if looking.until.is_some_and(|until| place.segment() == until.segment() && place >= until) {
                break;
            }
            if let Item::Frame(frame) = &item {
                // A writer may have compacted this segment meanwhile with others that were shown.
                if !frame.is_system() && frame.seq >= looking.lowest {
                    continue;
                }
                oldest = oldest.or(Some(frame.seq));
                first = first.or((!frame.is_system()).then_some(frame.seq));
                if !self.filter.accepts(frame, &opened.dump) {
                    continue;
                }
            }
            passed += usize::from(self.is_shown(&item));
            kept.push_back(item);
            while passed > looking.wanted || kept.bytes > KEPT_BYTES && kept.items.len() > 1 {
                is_cut |= passed <= looking.wanted;
                let Some(item) = kept.pop_front() else { break };
                passed -= usize::from(self.is_shown(&item));
            }
        }
        Ok(Newest { kept, is_cut, oldest, first, place: frames.resume() })
    }

    /// All from a place on that is below a Seq and before another place.
    fn from(
        &mut self,
        (first, mut next): (Position, u64),
        (below, end): (u64, Position),
        opened: &Opened,
        output: &mut Output,
    ) -> Result<()> {
        // Those were counted on the way back.
        let hidden = self.hidden;
        let segments = opened.survey.log().skip_while(|segment| *segment != first.segment());
        let is_before = |place: Position| place.segment() == first.segment() && place < first;
        for item in segments.flat_map(|segment| opened.survey.frames_of(segment)) {
            let item = item?;
            let place = place_of(&item);
            if place.segment() == end.segment() && place >= end {
                break;
            }
            if is_before(place) {
                continue;
            }
            if let Item::Frame(frame) = &item
                && !frame.is_system()
            {
                // As above, of a writer that compacts.
                if !(next..below).contains(&frame.seq) {
                    continue;
                }
                next = frame.seq + 1;
            }
            if !self.item(item, &opened.dump, output)? {
                break;
            }
        }
        self.hidden = hidden;
        Ok(())
    }
}

impl Looking {
    fn keep(&mut self, item: Item) {
        let seq = match &item {
            Item::Frame(frame) => frame.seq,
            Item::Damage(damage) => damage.first_seq,
        };
        self.first = Some((place_of(&item), seq));
        if !self.is_too_much {
            self.kept.push_front(item);
        }
        if self.kept.bytes > KEPT_BYTES {
            self.is_too_much = true;
            self.kept = Kept::default();
        }
    }
}

impl Kept {
    fn push_front(&mut self, item: Item) {
        self.bytes += bytes_of(&item);
        self.items.push_front(item);
    }

    fn push_back(&mut self, item: Item) {
        self.bytes += bytes_of(&item);
        self.items.push_back(item);
    }

    fn pop_front(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.bytes -= bytes_of(&item);
        Some(item)
    }

    fn pop_back(&mut self) -> Option<Item> {
        let item = self.items.pop_back()?;
        self.bytes -= bytes_of(&item);
        Some(item)
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
    // What an allocator adds.
    size_of::<Item>() + held + 64
}

fn place_of(item: &Item) -> Position {
    match item {
        Item::Frame(frame) => frame.position,
        Item::Damage(damage) => Position::new(damage.segment, damage.offset),
    }
}
