//! Reading and writing parts: what compaction kept of a stretch of the log.

use std::io;
use std::sync::Arc;

use zerocopy::IntoBytes;

use crate::disk::{Access, Directory, File, temporary_name};
use crate::error::{Error, ErrorKind, Result};
use crate::format::compacted::{Cover, Part};
use crate::format::frame::{Frame, FrameFields, FrameHeader, Lengths, PADDING, body_crc, flag};
use crate::format::header::HEADER_BYTES;
use crate::format::index::Keyed;
use crate::format::part::{Answer, GENERATIONS_AT_ONCE, header_of, read_header};
use crate::format::segment::{FIRST_FRAME, SegmentHeader, file_name};
use crate::format::system::System;
use crate::id::{KINDS_MAX, Life, Position, StoreId};
use crate::log::behind::seq_before;
use crate::log::report::Damage;
use crate::log::salvage::{Salvaged, salvage_part};
use crate::log::segment::Segment;
use crate::log::visitor::Visitor;

/// Opens the file of a part and says what its header does. It must be the part that the manifest means.
pub(crate) fn open_part_file(
    directory: &dyn Directory,
    store: StoreId,
    number: u32,
) -> Result<(Arc<dyn File>, Cover, i64)> {
    let path = || directory.path().join(file_name(number));
    let doing = |e| Error::io("open a part", e).at(path()).place(number, 0);
    let file = directory.open(&file_name(number), Access::Read).map_err(doing)?;
    let length = file.len().map_err(doing)?;
    if length < HEADER_BYTES as u64 {
        let error = Error::corrupt("read the header of a part").at(path()).place(number, 0);
        return Err(error.sides(format!("{HEADER_BYTES} bytes or more"), length));
    }
    let mut bytes = [0; HEADER_BYTES];
    file.read_at(&mut bytes, 0).map_err(doing)?;
    let (cover, created) =
        read_header(&bytes, store, number, length).map_err(|e| e.at(path()).place(number, 0))?;
    Ok((file, cover, created))
}

impl Segment {
    /// Opens a part, all of which can be read.
    pub(crate) fn open_part(
        directory: &dyn Directory,
        store: StoreId,
        cover: &Cover,
        part: Part,
    ) -> Result<Self> {
        let (file, found, created) = open_part_file(directory, store, part.number)?;
        let path = || directory.path().join(file_name(part.number));
        if found != *cover {
            return Err(Error::corrupt("compare a part with the manifest")
                .at(path())
                .place(part.number, 0)
                .sides(format!("{cover:?}"), format!("{found:?}")));
        }
        let bytes = usize::try_from(part.bytes).unwrap_or(usize::MAX);
        let map = file.map(bytes).map_err(|e| Error::io("map a part", e).at(path()))?;
        map.raise(bytes);
        let header = SegmentHeader {
            number: part.number,
            salt: part.salt,
            follows: cover.follows,
            bytes: part.bytes,
            created,
        };
        Ok(Self::new(header, Arc::new(map), file))
    }
}

/// A part that is being written, under a temporary name.
pub(crate) struct PartWriter<'a> {
    directory: &'a dyn Directory,
    file: Arc<dyn File>,
    number: u32,
    salt: u64,
    /// What is not in the file yet, and where it belongs.
    buffer: Vec<u8>,
    written: u64,
    entries: u64,
    is_named: bool,
}

impl<'a> PartWriter<'a> {
    const BYTES_AT_ONCE: usize = 1 << 20;

    pub(crate) fn begin(directory: &'a dyn Directory, number: u32, salt: u64) -> io::Result<Self> {
        let name = temporary_name(&file_name(number));
        match directory.remove(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = directory.create(&name)?;
        let (buffer, written) = (vec![0; HEADER_BYTES], 0);
        Ok(Self { directory, file, number, salt, buffer, written, entries: 0, is_named: false })
    }

    /// Where the next frame will stand.
    pub(crate) fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Copies a user frame behind the last one, with these flags.
    pub(crate) fn push(&mut self, frame: &Frame<'_>, flags: u16) -> io::Result<()> {
        let position = Position::new(self.number, self.end());
        let header = frame.header.moved(flags, frame.extensions(), self.salt, position);
        self.buffer.extend_from_slice(header.as_bytes());
        self.buffer.extend_from_slice(frame.content());
        self.entries += u64::from(!frame.header.is_system());
        self.write_some()
    }

    /// Adds a system frame.
    pub(crate) fn push_system(
        &mut self,
        seal: impl FnOnce(u64, Position) -> FrameHeader,
        payload: &[u8],
    ) -> io::Result<()> {
        let position = Position::new(self.number, self.end());
        self.buffer.extend_from_slice(seal(self.salt, position).as_bytes());
        self.buffer.extend_from_slice(payload);
        let padding = self.buffer.len().next_multiple_of(PADDING.len() + 1) - self.buffer.len();
        self.buffer.extend_from_slice(PADDING.get(..padding).unwrap_or_default());
        self.write_some()
    }

    fn write_some(&mut self) -> io::Result<()> {
        if self.buffer.len() >= Self::BYTES_AT_ONCE { self.write_all() } else { Ok(()) }
    }

    fn write_all(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes the rest and the header, has `check` read it all back, and gives the file its name, which the
    /// caller makes durable. What stands under it is whole, whether a manifest will come to name it or not.
    pub(crate) fn finish(
        mut self,
        store: StoreId,
        cover: Cover,
        created: i64,
        check: impl FnOnce(&Segment, &Cover) -> Result<()>,
    ) -> Result<Cover> {
        let name = file_name(self.number);
        let temporary = temporary_name(&name);
        let path = self.directory.path().join(&name);
        let doing = |e| Error::io("write a part", e).at(path.clone());
        self.write_all().map_err(doing)?;
        let part = Part { number: self.number, salt: self.salt, bytes: self.written, entries: self.entries };
        let cover = Cover { part: Some(part), ..cover };
        let header = header_of(store, &cover, &part, created);
        self.file.write_at(header.as_bytes(), 0).and_then(|()| self.file.sync()).map_err(doing)?;
        let bytes = usize::try_from(part.bytes).unwrap_or(usize::MAX);
        let map = self.file.map(bytes).map_err(doing)?;
        map.raise(bytes);
        let (number, salt, follows) = (part.number, part.salt, cover.follows);
        let header = SegmentHeader { number, salt, follows, bytes: part.bytes, created };
        check(&Segment::new(header, Arc::new(map), Arc::clone(&self.file)), &cover)?;
        self.directory.rename(&temporary, &name).map_err(doing)?;
        self.is_named = true;
        Ok(cover)
    }
}

impl Drop for PartWriter<'_> {
    fn drop(&mut self) {
        if !self.is_named {
            // What was allocated for a file that did not come to be goes back to the disk.
            let _ = self.directory.remove(&temporary_name(&file_name(self.number)));
        }
    }
}

/// Adds what a keyed batch was answered.
pub(crate) fn write_answer(
    part: &mut PartWriter<'_>,
    keyed: Keyed,
    generations: &[u64],
    seq: u64,
) -> io::Result<()> {
    let mut from = 0;
    for generations in generations.chunks(GENERATIONS_AT_ONCE) {
        let payload = Answer { keyed, from, generations: generations.to_vec() }.encode();
        from += u32::try_from(generations.len()).unwrap_or(u32::MAX);
        let lengths = Lengths { extensions: 0, key: 0, metadata: 0, payload: payload.len() };
        let fields = FrameFields {
            operation: System::Answer as u8,
            kind: 0,
            flags: 0,
            source: 0,
            life: Life(0),
            seq,
            generation: 0,
            time: keyed.time,
            durable: Position::ZERO,
            lengths,
            body_crc: body_crc(lengths, &[], &[], &payload),
        };
        part.push_system(|salt, position| FrameHeader::seal(&fields, &[], salt, position), &payload)?;
    }
    Ok(())
}

/// The frames of a part, one after the other, and behind the last: where the first bad place is, if one is.
pub(crate) struct PartFrames<'a> {
    segment: &'a Segment,
    bytes: &'a [u8],
    at: u64,
}

impl<'a> PartFrames<'a> {
    pub(crate) fn of(segment: &'a Segment, bytes: &'a [u8]) -> Self {
        Self { segment, bytes, at: FIRST_FRAME }
    }

    /// The next place: a good frame and where it stands, or where none does.
    pub(crate) fn step(&mut self) -> Option<(u64, Option<Frame<'a>>)> {
        let at = self.at;
        let rest = self.bytes.get(usize::try_from(at).ok()?..).filter(|rest| !rest.is_empty())?;
        let good = Frame::parse(rest)
            .filter(|frame| frame.is_good(self.segment.header.salt, self.segment.position(at)));
        match &good {
            Some(frame) => self.at += frame.len() as u64,
            None => {
                let from = at + crate::id::FRAME_ALIGN;
                let next = crate::log::grid::next_good(self.segment, self.bytes, from, self.bytes.len());
                self.at = next.unwrap_or(self.bytes.len() as u64);
            }
        }
        Some((at, good))
    }
}

/// False for what nobody can have appended.
pub(crate) fn is_an_entry(frame: &Frame<'_>) -> bool {
    let header = frame.header;
    !frame.key().is_empty()
        && header.kind.get() <= KINDS_MAX
        && (1..=header.seq.get()).contains(&header.generation.get())
}

/// True of what may stand in a part behind an entry.
fn is_kept(frame: &Frame<'_>, last: u64, cover: &Cover) -> bool {
    let header = frame.header;
    header.is_system() || (last + 1..=cover.last_seq).contains(&header.seq.get()) && is_an_entry(frame)
}

/// How many entries of a part are there.
fn entries_of(segment: &Segment, bytes: &[u8], cover: &Cover) -> u64 {
    let (mut entries, mut last) = (0, cover.first_seq - 1);
    let mut frames = PartFrames::of(segment, bytes);
    while let Some((_, frame)) = frames.step() {
        if let Some(frame) = frame.filter(|frame| !frame.header.is_system() && is_kept(frame, last, cover)) {
            entries += 1;
            last = frame.header.seq.get();
        }
    }
    entries
}

/// What is lost of a part.
struct LostOfPart {
    number: u32,
    /// So many entries; what the manifest says of the part, until its frames have been met.
    gone: u64,
    /// The ranges that the device refused.
    refused: Vec<(u64, u64)>,
    damage: Vec<Damage>,
}

impl LostOfPart {
    /// A copy of the part, as far as it can be had; `None`: all of it is lost.
    fn salvage(
        &mut self,
        directory: &dyn Directory,
        store: StoreId,
        cover: &Cover,
        part: Part,
        visitor: &mut dyn Visitor,
    ) -> Result<Option<(Arc<Segment>, Vec<u8>)>> {
        let Salvaged { segment, bytes, unreadable, .. } = match salvage_part(directory, store, cover, part) {
            Ok(salvaged) => salvaged,
            Err(error) if error.kind() == ErrorKind::FormatTooNew || error.is_passing() => {
                return Err(error);
            }
            Err(error) => {
                if !error.is_corruption() && !error.is_not_found() {
                    self.refused.push((0, u64::MAX));
                }
                self.note(visitor, (0, None), (cover.first_seq, cover.last_seq), error.facts());
                return Ok(None);
            }
        };
        let (segment, last) = (Arc::new(segment), cover.first_seq - 1);
        self.gone = self.gone.saturating_sub(entries_of(&segment, &bytes, cover));
        visitor.enter(&segment, FIRST_FRAME, last)?;
        self.refused = unreadable.iter().map(|(start, end, _)| (*start, *end)).collect();
        for (start, end, error) in unreadable {
            let what = format!("{} bytes cannot be read: {error}", end - start);
            self.note(visitor, (start, Some(end)), (last + 1, last), what);
        }
        Ok(Some((segment, bytes)))
    }

    fn note(
        &mut self,
        visitor: &mut dyn Visitor,
        (offset, next_good): (u64, Option<u64>),
        (first_seq, last_seq): (u64, u64),
        what: String,
    ) {
        let end = next_good.unwrap_or(u64::MAX);
        let unreadable = self.refused.iter().any(|(from, to)| *from < end && offset < *to);
        let (segment, lost_from) = (self.number, offset);
        let found = Damage { segment, offset, lost_from, next_good, first_seq, last_seq, what, unreadable };
        // Of several places in one part each is given what it has numbers for: together they come to what is gone.
        let entries = (last_seq + 1).saturating_sub(first_seq).min(self.gone);
        self.gone -= entries;
        visitor.lost_of_part(&found, entries);
        self.damage.push(found);
    }
}

/// Shows what was kept of a stretch of the log, around damage, which is answered and shown too. From copies.
pub(crate) fn visit_kept(
    directory: &dyn Directory,
    store: StoreId,
    cover: &Cover,
    visitor: &mut dyn Visitor,
) -> Result<Vec<Damage>> {
    let Some(part) = cover.part else { return Ok(Vec::new()) };
    let mut last = cover.first_seq - 1;
    let mut lost =
        LostOfPart { number: part.number, gone: part.entries, refused: Vec::new(), damage: Vec::new() };
    let Some((segment, bytes)) = lost.salvage(directory, store, cover, part, visitor)? else {
        return Ok(lost.damage);
    };
    let (mut frames, mut entries, mut bad, mut is_damaged) =
        (PartFrames::of(&segment, &bytes), 0, None, false);
    // The frames of a batch whose end has not come yet, and the last Seq before them.
    let (mut batch, mut before): (Vec<(u64, Frame<'_>)>, u64) = (Vec::new(), last);
    while let Some((at, frame)) = frames.step() {
        let Some(frame) = frame.filter(|frame| is_kept(frame, last, cover)) else {
            bad = bad.or(Some(at));
            continue;
        };
        if let Some(bad) = bad.take() {
            // A batch is whole, or lost.
            lost.gone += entries_in(&batch);
            batch.clear();
            let through = seq_before(&frame).min(cover.last_seq);
            is_damaged = true;
            let what = "a frame that does not validate".to_owned();
            lost.note(visitor, (bad, Some(at)), (before + 1, through), what);
        }
        if !frame.header.is_system() {
            last = frame.header.seq.get();
        }
        batch.push((at, frame));
        if !frame.header.has(flag::MORE) {
            entries += entries_in(&batch);
            batch.drain(..).try_for_each(|(at, frame)| visitor.frame(segment.position(at), &frame))?;
            before = last;
        }
    }
    if bad.is_none() {
        entries += entries_in(&batch);
        batch.drain(..).try_for_each(|(at, frame)| visitor.frame(segment.position(at), &frame))?;
        before = last;
    }
    lost.gone += entries_in(&batch);
    let missing = (entries < part.entries && !is_damaged).then_some(part.bytes);
    if let Some(bad) = bad.or(missing) {
        let what = format!("{entries} of {} entries are there", part.entries);
        lost.note(visitor, (bad, None), (before + 1, cover.last_seq), what);
    }
    Ok(lost.damage)
}

fn entries_in(batch: &[(u64, Frame<'_>)]) -> u64 {
    batch.iter().filter(|(_, frame)| !frame.header.is_system()).count() as u64
}

#[cfg(test)]
#[path = "part_tests.rs"]
mod tests;
