//! Which segments a store has, what each is, and where the log ends.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::disk::{Access, Directory};
use crate::dump::text::rfc3339;
use crate::dump::walk::{Ends, Frames, Item, Stretch, Window, next_seq};
use crate::error::{Error, Result};
use crate::format::segment::{FIRST_FRAME, SegmentHeader, file_name};
use crate::id::{Position, Seq};
use crate::index::sealed::SealedIndex;
use crate::journal::reader::Reader;
use crate::log::chain::find_chain;
use crate::log::recovery::Purpose;
use crate::log::report::Damage;
use crate::log::segment::open_header;

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
    /// Not part of the log: a later segment passes over it, or it stands behind the end.
    Dead,
    /// Its header cannot be read.
    Damaged,
}

impl fmt::Display for SegmentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Full => "full",
            Self::Sealed => "sealed",
            Self::Torn => "torn",
            Self::Spare => "spare",
            Self::Dead => "dead",
            Self::Damaged => "damaged",
        })
    }
}

/// One segment, summed up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// Its number.
    pub number: u32,
    /// What it is to the log.
    pub state: SegmentState,
    /// The Seq of its first entry that can be read.
    pub first_seq: Option<u64>,
    /// The Seq of its last entry that can be read.
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
    /// An index file covers it.
    pub indexed: bool,
    /// Places in it where no frame validates, and frames whose content does not.
    pub damaged: u64,
}

/// A store's segments at one moment, and the end of its log then.
#[derive(Clone, Debug)]
pub struct Survey {
    reader: Reader,
    mark: Position,
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    number: u32,
    state: SegmentState,
    header: Result<SegmentHeader, String>,
    ends: Ends,
}

impl Survey {
    /// Looks at the store as it is now.
    ///
    /// # Errors
    ///
    /// `Io` if the directory cannot be listed, `Rewound` as [`Reader::view`].
    pub fn of(reader: &Reader) -> Result<Self> {
        // The mark first: every segment below it is there when the directory is listed.
        let mark = reader.refresh()?;
        let directory = &**reader.directory();
        let compacted = &reader.manifest().compacted;
        let chain = find_chain(directory, reader.store_id(), Purpose::Read, compacted, |_| false)?;
        let is_live = reader.writer().is_some();
        let numbers = chain.live.iter().map(|number| (*number, true));
        let numbers = numbers.chain(chain.dead.iter().map(|number| (*number, false)));
        let mut rows: Vec<Row> = numbers
            .map(|(number, alive)| {
                let header = open_header(directory, reader.store_id(), number, Access::Read)
                    .map(|(_, header)| header)
                    .map_err(|error| error.facts());
                let (state, ends) = match (&header, chain.limit(number)) {
                    _ if !alive => (SegmentState::Dead, Ends::Anywhere),
                    (Err(_), _) => (SegmentState::Damaged, Ends::Anywhere),
                    (Ok(_), Some(limit)) => (SegmentState::Torn, Ends::At(limit)),
                    (Ok(_), None) if number == mark.segment() => {
                        (SegmentState::Active, Ends::At(mark.offset()))
                    }
                    (Ok(header), None) if number > mark.segment() => {
                        // What a writer puts there from now on is behind the end of this survey.
                        let nothing = Ends::At(FIRST_FRAME);
                        match starts_with_zeros(directory, header) {
                            true => (SegmentState::Spare, nothing),
                            false if is_live => (SegmentState::Active, nothing),
                            false => (SegmentState::Dead, Ends::Anywhere),
                        }
                    }
                    (Ok(header), None) => match index_of(reader, header) {
                        Some(_) => (SegmentState::Sealed, Ends::Sealed),
                        None => (SegmentState::Full, Ends::Sealed),
                    },
                };
                Row { number, state, header, ends }
            })
            .collect();
        rows.sort_unstable_by_key(|row| row.number);
        Ok(Self { reader: reader.clone(), mark, rows })
    }

    /// Where the log ends: everything below is there to be read.
    #[must_use]
    pub fn end(&self) -> Position {
        self.mark
    }

    /// The numbers of the segments that make up the log, oldest first.
    pub fn log(&self) -> impl DoubleEndedIterator<Item = u32> + '_ {
        self.in_log().map(|row| row.number)
    }

    fn in_log(&self) -> impl DoubleEndedIterator<Item = &Row> + '_ {
        self.rows.iter().filter(|row| {
            row.number <= self.mark.segment()
                && !matches!(row.state, SegmentState::Dead | SegmentState::Spare)
        })
    }

    /// All frames of the log.
    #[must_use]
    pub fn frames(&self) -> Frames {
        self.frames_from(Position::ZERO)
    }

    /// The frames at or behind a position at which a frame begins.
    #[must_use]
    pub fn frames_from(&self, position: Position) -> Frames {
        let rows = self.in_log().filter(|row| row.number >= position.segment());
        let stretches = rows.map(|row| {
            let is_first = row.number == position.segment();
            row.stretch(if is_first { position.offset().max(FIRST_FRAME) } else { FIRST_FRAME })
        });
        Frames::over(Arc::clone(self.reader.directory()), stretches.collect())
    }

    /// The frames of one segment, whatever it is to the log.
    #[must_use]
    pub fn frames_of(&self, segment: u32) -> Frames {
        let row = self.rows.iter().find(|row| row.number == segment);
        let stretches: VecDeque<Stretch> = row.map(|row| row.stretch(FIRST_FRAME)).into_iter().collect();
        Frames::over(Arc::clone(self.reader.directory()), stretches)
    }

    /// Where to begin to look for an entry: the start of the segment that should hold it.
    #[must_use]
    pub fn before(&self, seq: Seq) -> Position {
        let directory = &**self.reader.directory();
        let begins_before = |row: &&Row| {
            let header = row.header.as_ref().ok();
            header.and_then(|header| next_seq(directory, header)).is_some_and(|next| next <= seq.get())
        };
        // What lies between two readable preambles is searched from the older one on.
        let row = self.in_log().rev().find(begins_before);
        row.map_or(Position::ZERO, |row| Position::new(row.number, FIRST_FRAME))
    }

    /// Damage that the reader met where the frames of the log end, and [`Frames`] does not reach.
    #[must_use]
    pub fn damage_at_end(&self) -> Vec<Damage> {
        let damage = self.reader.recovery().damage.iter();
        damage.filter(|damage| Position::new(damage.segment, damage.offset) >= self.mark).cloned().collect()
    }

    /// Bytes behind the end of the log that are not zero: a batch that is being written beside a
    /// live writer, else what a crash left of one.
    ///
    /// # Errors
    ///
    /// `Io`.
    pub fn unfinished(&self) -> Result<u64> {
        let Some(row) = self.rows.iter().find(|row| row.number == self.mark.segment()) else { return Ok(0) };
        let Ok(header) = &row.header else { return Ok(0) };
        let path = self.reader.path().join(file_name(row.number));
        let doing = |e| Error::io("look behind the end of the log", e).at(&path);
        let file = self.reader.directory().open(&file_name(row.number), Access::Read).map_err(doing)?;
        let mut window = Window::new(file, header.bytes);
        let mut at = self.mark.offset();
        let mut last = at;
        while at < header.bytes {
            let piece = window.from(at, 1).map_err(doing)?;
            if let Some(nonzero) = piece.iter().rposition(|byte| *byte != 0) {
                last = at + nonzero as u64 + 1;
            }
            at += piece.len() as u64;
        }
        Ok(last - self.mark.offset())
    }

    /// The segments, summed up, in the order of their numbers.
    ///
    /// A segment without an index is read from end to end.
    pub fn segments(&self) -> impl Iterator<Item = Result<SegmentInfo>> + '_ {
        self.rows.iter().map(|row| self.sum_up(row))
    }

    fn sum_up(&self, row: &Row) -> Result<SegmentInfo> {
        let header = row.header.as_ref().ok();
        let index = header.and_then(|header| index_of(&self.reader, header));
        let file = self.reader.directory().open(&file_name(row.number), Access::Read);
        let mut info = SegmentInfo {
            number: row.number,
            state: row.state,
            first_seq: None,
            last_seq: None,
            entries: 0,
            bytes_used: FIRST_FRAME,
            file_bytes: file.and_then(|file| file.len()).unwrap_or(0),
            created: header.map(|header| rfc3339(header.created)),
            follows: header.map(|header| header.follows.to_string()).filter(|follows| follows != "0:0"),
            indexed: index.is_some(),
            damaged: u64::from(header.is_none()),
        };
        if let Some(index) = index.filter(|_| row.state == SegmentState::Sealed) {
            info.count_from(&index);
        } else if header.is_some() {
            info.count_frames(self.frames_of(row.number))?;
        }
        Ok(info)
    }
}

impl SegmentInfo {
    fn count_from(&mut self, index: &SealedIndex) {
        let readable = (0..index.count()).filter(|ordinal| index.offset(*ordinal).is_some_and(|at| at != 0));
        for ordinal in readable {
            let seq = index.layout.first_seq + u64::from(ordinal);
            self.first_seq = self.first_seq.or(Some(seq));
            self.last_seq = Some(seq);
            self.entries += 1;
        }
        self.bytes_used = index.layout.end;
    }

    fn count_frames(&mut self, frames: Frames) -> Result<()> {
        for item in frames {
            match item? {
                Item::Frame(frame) => {
                    self.bytes_used = frame.position.offset() + frame.frame_bytes;
                    self.damaged += u64::from(!frame.body_good);
                    if !frame.is_system() && frame.body_good {
                        self.first_seq = self.first_seq.or(Some(frame.seq));
                        self.last_seq = Some(frame.seq);
                        self.entries += 1;
                    }
                }
                Item::Damage(_) => self.damaged += 1,
            }
        }
        Ok(())
    }
}

impl Row {
    fn stretch(&self, from: u64) -> Stretch {
        Stretch { number: self.number, header: self.header.clone(), from, ends: self.ends }
    }
}

fn index_of(reader: &Reader, header: &SegmentHeader) -> Option<SealedIndex> {
    SealedIndex::open(&**reader.directory(), reader.store_id(), header.number, header.salt).ok()
}

fn starts_with_zeros(directory: &dyn Directory, header: &SegmentHeader) -> bool {
    let mut word = [0; 8];
    let file = directory.open(&file_name(header.number), Access::Read);
    file.and_then(|file| file.read_at(&mut word, FIRST_FRAME)).is_ok() && word == [0; 8]
}
