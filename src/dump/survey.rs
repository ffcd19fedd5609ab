//! Which segments a store has, what each is, and where the log ends.

use std::collections::VecDeque;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::Serialize;

use crate::disk::{Access, Directory};
use crate::dump::halves::Counted;
use crate::dump::sums::IndexSum;
use crate::dump::text::{rfc3339, segment_text};
use crate::dump::walk::{Ends, Frames, Stretch, next_seq};
use crate::error::{Error, Result};
use crate::format::compacted::{Compacted, Cover};
use crate::format::segment::{FIRST_FRAME, SegmentHeader, file_name, part_number_of};
use crate::id::{PART, Position, Seq};
use crate::journal::opening::read_manifest;
use crate::journal::reader::Reader;
use crate::journal::verify::window::Window;
use crate::journal::view::compacted;
use crate::log::chain::{Chain, find_chain};
use crate::log::grid::last_nonzero;
use crate::log::part::open_part_file;
use crate::log::report::Damage;
use crate::log::salvage::header_for_the_rest;
use crate::log::segment::open_header;
use crate::log::visitor::Purpose;

/// What a segment is to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SegmentState {
    /// The log ends in it.
    Active,
    /// Rotation left it; no index covers it yet, or none does any more.
    Full,
    /// Left by rotation, synced and indexed.
    Sealed,
    /// A crash ended it, and the log went on in another one.
    Torn,
    /// Made ahead; nothing is in it.
    Spare,
    /// What compaction kept of the segments that it stands for.
    Part,
    /// Nothing was kept of the segments that it stands for: there is no file.
    Dropped,
    /// Not part of the log: a later segment passes over it, it stands behind the end, or compaction
    /// replaced it and something kept it from being removed.
    Dead,
    /// Its header cannot be read, or its file is not as long as that says.
    Damaged,
    /// There is no file, and a later segment, or the seal before it, says that there was one.
    Missing,
}

impl fmt::Display for SegmentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Full => "full",
            Self::Sealed => "sealed",
            Self::Torn => "torn",
            Self::Spare => "spare",
            Self::Part => "part",
            Self::Dropped => "dropped",
            Self::Dead => "dead",
            Self::Damaged => "damaged",
            Self::Missing => "missing",
        })
    }
}

/// One segment, summed up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// Its number, as positions have it; 0 where nothing was kept.
    pub number: u32,
    /// The same as text: `12`, or `part-3`; `-` where nothing was kept.
    pub name: String,
    /// What it is to the log.
    pub state: SegmentState,
    /// What was there before compaction put this in its place.
    pub stands_for: Option<StandsFor>,
    /// The Seq of its first entry that can be read; of a missing one, of the first that is not there.
    pub first_seq: Option<u64>,
    /// The Seq of its last entry that can be read; of a missing one, of the last before those that follow.
    pub last_seq: Option<u64>,
    /// Entries that can be read.
    pub entries: u64,
    /// Bytes up to the end of its last frame, the header included.
    pub bytes_used: u64,
    /// Bytes of its file.
    pub file_bytes: u64,
    /// When it was made, as RFC 3339.
    pub created: Option<String>,
    /// The place in the log that it goes on behind.
    pub follows: Option<String>,
    /// An index file covers it, as its header says; whether the rest of it checks out, `verify` says.
    pub indexed: bool,
    /// Places in it where no frame validates, and frames whose content does not.
    pub damaged: u64,
}

/// A stretch of the log that compaction went over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StandsFor {
    /// The first of the segments that were there.
    pub first_segment: u32,
    /// The last of them.
    pub last_segment: u32,
    /// The Seq of the first entry that they held.
    pub first_seq: u64,
    /// The Seq of the last one.
    pub last_seq: u64,
}

/// A store's segments at one moment, and the end of its log then.
#[derive(Clone, Debug)]
pub struct Survey {
    reader: Reader,
    mark: Position,
    compacted: Compacted,
    /// In the order of the log.
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    state: SegmentState,
    stretch: Stretch,
}

/// Beside a live writer that compacts the first look may catch files that go: look again so often.
const LOOKS: usize = 5;

impl Survey {
    /// Looks at the store as it is now.
    ///
    /// # Errors
    ///
    /// `Io` if the directory cannot be listed, `Rewound` and `Compacted` as [`Reader::view`].
    pub fn of(reader: &Reader) -> Result<Self> {
        let mut looks = 0;
        loop {
            looks += 1;
            let survey = Self::look(reader)?;
            let now = read_manifest(&**reader.directory())?.map(|now| now.compacted);
            // What is compacted lies below the end: else the end is not of this moment.
            let is_of_one_moment = now.as_ref().is_none_or(|now| *now == survey.compacted)
                && survey.compacted.last_segment() < survey.mark.segment().max(1);
            if is_of_one_moment || looks >= LOOKS {
                return Ok(survey);
            }
        }
    }

    fn look(reader: &Reader) -> Result<Self> {
        // The mark first: every segment below it is there when the directory is listed, unless it is
        // compacted meanwhile.
        let mark = reader.refresh()?;
        let directory = &**reader.directory();
        let compacted = read_manifest(directory)?.map_or_else(Compacted::default, |now| now.compacted);
        let chain = find_chain(directory, reader.store_id(), Purpose::Read, &compacted, |_| false)?;
        let is_live = reader.writer().is_some();
        let mut rows: Vec<Row> =
            chain.live.iter().map(|number| row_of(reader, &chain, mark, is_live, *number)).collect();
        rows.extend(missing_rows(reader, &chain, mark));
        rows.extend(chain.dead.iter().chain(&chain.left).map(|number| dead_row(reader, *number)));
        for cover in &compacted.covers {
            let stretch = Stretch::of_cover(directory, reader.store_id(), cover);
            let state = match (&stretch.header, cover.part) {
                (Err(_), _) => SegmentState::Damaged,
                (Ok(_), Some(_)) => SegmentState::Part,
                (Ok(_), None) => SegmentState::Dropped,
            };
            rows.push(Row { state, stretch });
        }
        // What a part replaced comes before it, and parts of which nobody knows the place come last.
        rows.sort_by_key(|row| (row.last_segment(), row.stretch.cover.is_some()));
        rows.extend(unknown_parts(reader, &compacted)?);
        Ok(Self { reader: reader.clone(), mark, compacted, rows })
    }

    /// Where the log ends: everything below is there to be read.
    #[must_use]
    pub fn end(&self) -> Position {
        self.mark
    }

    /// The numbers of the segments and parts that make up the log, oldest first.
    pub fn log(&self) -> impl DoubleEndedIterator<Item = u32> + '_ {
        self.in_log().map(Row::number).filter(|number| *number != 0)
    }

    /// All the Seqs around this one that compaction went over without a break, if it did: of these what was
    /// kept is there, and what is not there was dropped.
    #[must_use]
    pub fn compacted(&self, seq: Seq) -> Option<RangeInclusive<u64>> {
        let here = self.compacted.holding(seq.get())?;
        let (mut first, mut last) = (here.first_seq, here.last_seq);
        for cover in &self.compacted.covers {
            if cover.first_seq == last + 1 {
                last = cover.last_seq;
            }
        }
        for cover in self.compacted.covers.iter().rev() {
            if cover.last_seq + 1 == first {
                first = cover.first_seq;
            }
        }
        Some(first..=last)
    }

    fn in_log(&self) -> impl DoubleEndedIterator<Item = &Row> + '_ {
        self.rows.iter().filter(|row| {
            row.last_segment() <= self.mark.segment()
                && !matches!(row.state, SegmentState::Dead | SegmentState::Spare)
        })
    }

    /// All frames of the log.
    #[must_use]
    pub fn frames(&self) -> Frames {
        self.frames_from(Position::ZERO)
    }

    /// The frames at or behind a position at which a frame begins. A place in a segment that was compacted
    /// stands for the beginning of what was kept of it.
    #[must_use]
    pub fn frames_from(&self, position: Position) -> Frames {
        let number = position.segment();
        let begins = |row: &&Row| match position.is_in_part() {
            true => row.number() != number,
            false => row.last_segment() < number,
        };
        let stretches = self.in_log().skip_while(begins).map(|row| {
            let is_first = row.number() == number;
            row.stretch_from(if is_first { position.offset().max(FIRST_FRAME) } else { FIRST_FRAME })
        });
        self.walk(stretches.collect())
    }

    /// The frames of one segment or part, whatever it is to the log.
    #[must_use]
    pub fn frames_of(&self, segment: u32) -> Frames {
        self.rest_of(Position::new(segment, FIRST_FRAME))
    }

    /// As [`frames_of`](Self::frames_of), at or behind a position at which a frame begins.
    #[must_use]
    pub fn rest_of(&self, position: Position) -> Frames {
        let (segment, from) = (position.segment(), position.offset().max(FIRST_FRAME));
        let row = self.rows.iter().find(|row| row.number() == segment && segment != 0);
        self.walk(row.map(|row| row.stretch_from(from)).into_iter().collect())
    }

    fn walk(&self, stretches: VecDeque<Stretch>) -> Frames {
        Frames::over(Arc::clone(self.reader.directory()), self.reader.store_id(), stretches)
    }

    /// Where to begin to look for an entry: the start of the segment or part that should hold it.
    #[must_use]
    pub fn before(&self, seq: Seq) -> Position {
        let directory = &**self.reader.directory();
        let begins_before = |row: &&Row| {
            let begins = match (&row.stretch.cover, row.stretch.header.as_ref()) {
                (Some(cover), _) => Some(cover.first_seq),
                (None, Ok(header)) => next_seq(directory, header),
                (None, Err(_)) => None,
            };
            begins.is_some_and(|next| next <= seq.get())
        };
        // What lies between two readable preambles is searched from the older one on.
        let row = self.in_log().rev().find(begins_before);
        row.map_or(Position::ZERO, |row| match row.number() {
            0 => Position::new(row.last_segment(), 0),
            number => Position::new(number, FIRST_FRAME),
        })
    }

    /// Damage that the reader met where the frames of the log end, and [`Frames`] does not reach.
    #[must_use]
    pub fn damage_at_end(&self) -> Vec<Damage> {
        let is_at_end = |damage: &&Damage| {
            let place = Position::new(damage.segment, damage.offset);
            !place.is_in_part() && place >= self.mark
        };
        self.reader.recovery().damage.iter().filter(is_at_end).cloned().collect()
    }

    /// Bytes behind the end of the log that are not zero: a batch that is being written beside a
    /// live writer, else what a crash left of one.
    ///
    /// # Errors
    ///
    /// `Io`.
    pub fn unfinished(&self) -> Result<u64> {
        let row = self.rows.iter().find(|row| row.number() == self.mark.segment());
        let Some(header) = row.and_then(|row| row.stretch.header.as_ref().ok()) else { return Ok(0) };
        let name = file_name(header.number);
        let path = self.reader.path().join(&name);
        let doing = |e| Error::io("look behind the end of the log", e).at(&path);
        let file = match self.reader.directory().open(&name, Access::Read) {
            // The writer has left it since, and compacted it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            file => file.map_err(doing)?,
        };
        let mut window = Window::new(Arc::clone(&file), header.bytes).in_order();
        let mut at = self.mark.offset();
        let mut last = at;
        while at < header.bytes {
            // What was never written, or punched by a close, need not be read; else all of it is.
            at = file.next_data(at).map_or(at, |data| data.unwrap_or(header.bytes)).max(at);
            let piece = window.from(at, 1).map_err(doing)?;
            if let nonzero @ 1.. = last_nonzero(piece) {
                last = at + nonzero;
            }
            at += piece.len() as u64;
        }
        Ok(last - self.mark.offset())
    }

    /// The segments and parts, summed up, in the order of the log.
    ///
    /// What an index sums up is taken from there; a segment without one, and the one that is written, is read from end to
    /// end, a large one with a thread beside that reads its second half and ends before this goes on. One that a writer has
    /// compacted meanwhile is `Compacted`: look again.
    pub fn segments(&self) -> impl Iterator<Item = Result<SegmentInfo>> + '_ {
        let mut last = None;
        self.rows.iter().enumerate().filter_map(move |(at, row)| {
            let mut info = self.sum_up(row);
            if let Ok(info) = &mut info {
                if row.state == SegmentState::Missing {
                    self.between(info, last, at);
                }
                last = info.stands_for.map(|stretch| stretch.last_seq).or(info.last_seq).or(last);
            }
            // What was no part of the log may have been removed meanwhile.
            let is_unread = info.is_err() || row.stretch.header.is_err();
            let is_gone = is_unread && !row.stretch.in_log && self.is_gone(row.number());
            (!is_gone).then_some(info)
        })
    }

    /// What a missing segment held stood between what is there before it and behind it.
    fn between(&self, info: &mut SegmentInfo, last: Option<u64>, at: usize) {
        info.bytes_used = 0;
        let behind = self.rows.get(at + 1).and_then(|row| row.stretch.header.as_ref().ok());
        let next = behind.and_then(|header| next_seq(&**self.reader.directory(), header));
        let first = last.map_or(1, |last| last + 1);
        if let Some(next) = next.filter(|next| first < *next) {
            (info.first_seq, info.last_seq) = (Some(first), Some(next - 1));
        }
    }

    fn is_gone(&self, number: u32) -> bool {
        let file = self.reader.directory().open(&file_name(number), Access::Read);
        file.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    }

    fn sum_up(&self, row: &Row) -> Result<SegmentInfo> {
        let Row { state, stretch } = row;
        let (number, header) = (stretch.number, stretch.header.as_ref().ok());
        let index = header.and_then(|header| index_of(&self.reader, header, stretch.cover.as_ref()));
        let file = self.reader.directory().open(&file_name(number), Access::Read);
        if number != 0 && file.is_err() {
            self.check_not_replaced(stretch)?;
        }
        let follows = header.map(|header| header.follows.to_string()).filter(|follows| follows != "0:0");
        let has_file = number != 0;
        let mut info = SegmentInfo {
            number,
            name: if has_file { segment_text(number) } else { "-".to_owned() },
            state: *state,
            stands_for: stretch.cover.map(|cover| StandsFor {
                first_segment: cover.first,
                last_segment: cover.last,
                first_seq: cover.first_seq,
                last_seq: cover.last_seq,
            }),
            first_seq: None,
            last_seq: None,
            entries: 0,
            bytes_used: if has_file { FIRST_FRAME } else { 0 },
            file_bytes: file.as_ref().ok().and_then(|file| file.len().ok()).unwrap_or(0),
            created: header.filter(|_| has_file).map(|header| rfc3339(header.created)),
            follows,
            indexed: index.is_some(),
            damaged: u64::from(
                header.is_none() && *state != SegmentState::Spare || stretch.rest_of.is_some(),
            ),
        };
        let is_whole = |index: &IndexSum| match state {
            SegmentState::Part => true,
            // Else it is that of a close, and the segment was written on behind that.
            SegmentState::Sealed => header
                .zip(file.as_ref().ok())
                .is_some_and(|(header, file)| index.ends_with_a_seal(&**file, header)),
            _ => false,
        };
        if let Some(index) = index.filter(is_whole) {
            info.count_from(&index);
        } else if header.is_some() && has_file {
            // Of this file: what has replaced it meanwhile is another.
            let alone = Stretch { in_log: false, rest_of: None, ..stretch.clone() };
            match Counted::of(self.reader.directory(), self.reader.store_id(), &alone) {
                Ok(counted) => info.count(&counted),
                Err(error) => {
                    self.check_not_replaced(stretch)?;
                    return Err(error);
                }
            }
        }
        Ok(info)
    }

    fn check_not_replaced(&self, stretch: &Stretch) -> Result<()> {
        match stretch.replaced_by(&**self.reader.directory())? {
            Some(_) => {
                let doing = format!("sum up segment {}", segment_text(stretch.number));
                Err(compacted(doing, self.compacted.floor_of_all()))
            }
            None => Ok(()),
        }
    }
}

impl SegmentInfo {
    fn count_from(&mut self, index: &IndexSum) {
        (self.first_seq, self.last_seq) = index.seqs.unzip();
        self.entries = index.entries;
        self.bytes_used = index.end;
    }

    fn count(&mut self, counted: &Counted) {
        (self.first_seq, self.last_seq) = (counted.first_seq, counted.last_seq);
        self.entries = counted.entries;
        self.bytes_used = counted.end.unwrap_or(self.bytes_used);
        self.damaged += counted.damaged;
    }
}

impl Row {
    fn number(&self) -> u32 {
        self.stretch.number
    }

    /// The last of the segments that it is, or stands for: its place in the log.
    fn last_segment(&self) -> u32 {
        self.stretch.last_segment()
    }

    fn stretch_from(&self, from: u64) -> Stretch {
        Stretch { from, ..self.stretch.clone() }
    }
}

/// What a segment that nothing passes over is to a log that ends at the mark.
fn row_of(reader: &Reader, chain: &Chain, mark: Position, is_live: bool, number: u32) -> Row {
    let directory = &**reader.directory();
    let mut header = segment_header(reader, number);
    let rest_of = take_the_rest(reader, number, &mut header);
    let (state, ends) = match (&header, chain.limit(number)) {
        _ if rest_of.is_some() && number == mark.segment() => {
            (SegmentState::Damaged, Ends::At(mark.offset()))
        }
        // A file gets its name before its header.
        (Err(_), _) if number > mark.segment() && is_live => (SegmentState::Spare, Ends::At(FIRST_FRAME)),
        _ if rest_of.is_some() => (SegmentState::Damaged, Ends::Anywhere),
        (Err(_), _) => (SegmentState::Damaged, Ends::Anywhere),
        (Ok(_), Some(limit)) => (SegmentState::Torn, Ends::At(limit)),
        (Ok(_), None) if number == mark.segment() => (SegmentState::Active, Ends::At(mark.offset())),
        (Ok(header), None) if number > mark.segment() => {
            // What a writer puts there from now on is behind the end of this survey.
            let nothing = Ends::At(FIRST_FRAME);
            match starts_with_zeros(directory, header) {
                true => (SegmentState::Spare, nothing),
                false if is_live => (SegmentState::Active, nothing),
                false => (SegmentState::Dead, Ends::Anywhere),
            }
        }
        (Ok(header), None) => match index_of(reader, header, None) {
            Some(_) => (SegmentState::Sealed, Ends::Sealed),
            None => (SegmentState::Full, Ends::Sealed),
        },
    };
    // A writer takes a spare back when it is too small, and when it closes.
    let in_log = !matches!(state, SegmentState::Dead | SegmentState::Spare);
    Row { state, stretch: Stretch { number, header, rest_of, from: FIRST_FRAME, ends, cover: None, in_log } }
}

/// Puts a header for what validates of a segment in the place of one that is not as it was; answers what is wrong with that.
fn take_the_rest(reader: &Reader, number: u32, header: &mut Result<SegmentHeader, String>) -> Option<String> {
    let what = header.as_ref().err()?.clone();
    *header = Ok(header_for_the_rest(&**reader.directory(), reader.store_id(), number)?);
    Some(what)
}

/// Segments that are not there, though the log says that they were.
fn missing_rows(reader: &Reader, chain: &Chain, mark: Position) -> Vec<Row> {
    let row = |number: u32, what: String| {
        let (header, ends) = (Err(what), Ends::Anywhere);
        let stretch =
            Stretch { number, header, rest_of: None, from: FIRST_FRAME, ends, cover: None, in_log: true };
        Row { state: SegmentState::Missing, stretch }
    };
    let between = chain.missing.iter();
    let between =
        between.map(|(number, next)| row(*number, format!("no such file, and segment {next} follows it")));
    let is_behind = |damage: &&Damage| {
        damage.segment > mark.segment() && damage.segment & PART == 0 && !chain.live.contains(&damage.segment)
    };
    let behind = reader.recovery().damage.iter().filter(is_behind);
    between.chain(behind.map(|damage| row(damage.segment, damage.what.clone()))).collect()
}

fn dead_row(reader: &Reader, number: u32) -> Row {
    let header = segment_header(reader, number);
    let (from, ends) = (FIRST_FRAME, Ends::Anywhere);
    let stretch = Stretch { number, header, rest_of: None, from, ends, cover: None, in_log: false };
    Row { state: SegmentState::Dead, stretch }
}

fn segment_header(reader: &Reader, number: u32) -> Result<SegmentHeader, String> {
    let header = open_header(&**reader.directory(), reader.store_id(), number, Access::Read);
    header.map(|(_, header)| header).map_err(|error| error.facts())
}

/// The files of parts that the manifest does not name: a compaction replaced them, or did not come to use
/// them.
fn unknown_parts(reader: &Reader, compacted: &Compacted) -> Result<Vec<Row>> {
    let directory = &**reader.directory();
    let doing = |e| Error::io("list the store", e).at(directory.path());
    let names = directory.list().map_err(doing)?;
    let mut numbers: Vec<u32> = names.iter().filter_map(|entry| part_number_of(&entry.name)).collect();
    numbers.retain(|number| compacted.parts().all(|(_, part)| part.number != *number));
    numbers.sort_unstable();
    let row = |number| {
        let found = open_part_file(directory, reader.store_id(), number);
        let (cover, header) = match found.map_err(|error| error.facts()) {
            Ok((_, cover, _)) => {
                (Some(cover), Stretch::of_cover(directory, reader.store_id(), &cover).header)
            }
            Err(what) => (None, Err(what)),
        };
        let (from, ends) = (FIRST_FRAME, Ends::WithTheFile);
        let stretch = Stretch { number, header, rest_of: None, from, ends, cover, in_log: false };
        Row { state: SegmentState::Dead, stretch }
    };
    Ok(numbers.into_iter().map(row).collect())
}

/// The index of a segment or a part, if there is one that is about it.
fn index_of(reader: &Reader, header: &SegmentHeader, cover: Option<&Cover>) -> Option<IndexSum> {
    IndexSum::of(&**reader.directory(), reader.store_id(), header, cover)
}

fn starts_with_zeros(directory: &dyn Directory, header: &SegmentHeader) -> bool {
    let mut word = [0; 8];
    let file = directory.open(&file_name(header.number), Access::Read);
    file.and_then(|file| file.read_at(&mut word, FIRST_FRAME)).is_ok() && word == [0; 8]
}
