//! A run as a part.

use crate::compact::judge::Judged;
use crate::disk::Directory;
use crate::error::{Error, Result};
use crate::format::compacted::Cover;
use crate::format::frame::flag;
use crate::format::index::{IndexParts, Keyed};
use crate::format::segment::file_name;
use crate::index::catalog::{Opened, Place};
use crate::index::part::check_part;
use crate::log::lock::now;
use crate::log::part::{PartWriter, write_answer};

/// What a run became.
pub(crate) struct Written {
    pub(crate) cover: Cover,
    /// The index of the part, if there is one.
    pub(crate) index: Option<IndexParts>,
}

/// What the writing asks its caller.
pub(crate) trait Pace {
    /// So many bytes were copied. An error ends the copying.
    fn copied(&mut self, bytes: u64) -> Result<()>;
    /// True if the key of a batch is still remembered.
    fn remembers(&self, keyed: &Keyed) -> bool;
}

/// Writes what is kept of a run into the part with this number, reads it back, and makes it durable. If
/// nothing is kept there is no part.
pub(crate) fn write_run(
    place: &Place,
    run: &[Judged],
    number: u32,
    salt: u64,
    pace: &mut dyn Pace,
) -> Result<Written> {
    let cover = cover_of(run)?;
    let directory = &*place.directory;
    let doing = |e| Error::io("write a part", e).at(directory.path().join(file_name(number)));
    let mut answers = Vec::new();
    for judged in run {
        let opened = judged.section.open()?;
        for keyed in opened.keyed()?.into_iter().filter(|keyed| pace.remembers(keyed)) {
            answers.push((keyed, generations_of(opened, &keyed)?));
        }
    }
    if run.iter().all(|judged| judged.entries_kept == 0) && answers.is_empty() {
        return Ok(Written { cover, index: None });
    }
    let mut part = PartWriter::begin(directory, number, salt).map_err(doing)?;
    for judged in run {
        copy_kept(directory, judged, &mut part, pace)?;
    }
    for (keyed, generations) in &answers {
        write_answer(&mut part, *keyed, generations, cover.last_seq).map_err(doing)?;
    }
    let mut index = None;
    let check = |segment: &crate::log::segment::Segment, cover: &Cover| {
        index = Some(check_part(place, segment, cover)?);
        Ok(())
    };
    let cover = part.finish(place.store, cover, now(), check)?;
    Ok(Written { cover, index })
}

/// The stretch that a run is.
fn cover_of(run: &[Judged]) -> Result<Cover> {
    let (Some(first), Some(last)) = (run.first(), run.last()) else {
        return Err(Error::corrupt("compact a run of nothing"));
    };
    let (first, last) = (&first.section, &last.section);
    let opened = first.open()?;
    let follows = first.cover.map_or(opened.segment.header.follows, |cover| cover.follows);
    let end = match last.cover {
        Some(cover) => cover.last_seq + 1,
        None => {
            let opened = last.open()?;
            opened.first_seq() + u64::from(opened.index().count())
        }
    };
    Ok(Cover {
        first: first.first_number(),
        last: last.number,
        follows,
        first_seq: first.first_seq()?,
        last_seq: end - 1,
        part: None,
    })
}

fn copy_kept(
    directory: &dyn Directory,
    judged: &Judged,
    part: &mut PartWriter<'_>,
    pace: &mut dyn Pace,
) -> Result<()> {
    let opened = judged.section.open()?;
    let (index, first_seq) = (opened.index(), opened.first_seq());
    let is_part = judged.section.cover.is_some();
    let doing = |e| Error::io("write a part", e).at(directory.path());
    for ordinal in (0..index.count()).filter(|ordinal| judged.keeps(*ordinal)) {
        let (offset, frame) = opened.frame(&index, first_seq, ordinal)?;
        if !frame.is_good(opened.segment.header.salt, opened.segment.position(offset)) {
            return Err(Error::corrupt(format!("copy entry {}", index.seq(first_seq, ordinal)))
                .at(directory.path().join(file_name(opened.segment.number())))
                .place(opened.segment.number(), offset));
        }
        let next = ordinal + 1;
        let is_next = || index.seq(first_seq, next) == frame.header.seq.get() + 1;
        let goes_on = frame.header.has(flag::MORE) && next < index.count() && judged.keeps(next) && is_next();
        let more = if goes_on { flag::MORE } else { 0 };
        let ended = !frame.header.has(flag::MORE) && (!is_part || frame.header.has(flag::ENDS));
        let ends = if ended { flag::ENDS } else { 0 };
        let flags = frame.header.flags() & !(flag::MORE | flag::ENDS) | more | ends;
        part.push(&frame, flags).map_err(doing)?;
        pace.copied(frame.len() as u64)?;
    }
    Ok(())
}

/// The generations that a keyed batch was given.
fn generations_of(opened: &Opened, keyed: &Keyed) -> Result<Vec<u64>> {
    if let Some(generations) = opened.answer(keyed)? {
        return Ok(generations);
    }
    let (index, first_seq) = (opened.index(), opened.first_seq());
    let from = index.at_or_behind(first_seq, keyed.first_seq);
    let end =
        from.checked_add(keyed.frames).ok_or_else(|| Error::corrupt("find the entries of a keyed batch"))?;
    (from..end)
        .map(|ordinal| Ok(opened.frame(&index, first_seq, ordinal)?.1.header.generation.get()))
        .collect()
}
