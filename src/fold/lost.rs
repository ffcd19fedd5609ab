//! What was lost of a topic: where the numbers of its records do not tell that from an erasure, the backplane does; and the way
//! on for who says that it is to be done without.

use crate::backplane::{Backplane, Filter, Offset, StreamRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::fold::continuity::{Continuity, Judged};
use crate::fold::image::{self, Image, PIECE_BYTES, Subject, repeated};
use crate::fold::marks;

/// A topic is gone through so often before what is missing in it is believed: a feed may have left something out.
const WALKS: u32 = 3;

/// True if a place was refused because the log ends before it. A backplane may say of the same that its era has changed, also long
/// behind the change: whoever asks compares the eras.
pub(super) fn is_behind_the_end(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::EraChanged)
}

/// True if nothing of a topic is left before a record.
pub(super) fn is_first_left(plane: &dyn Backplane, topic: Filter<'_>, offset: Offset) -> Result<bool> {
    let lowest = repeated(|| plane.lowest_retained(topic))?;
    // Of one that was erased once more there is none.
    Ok(lowest == Offset::BEGINNING || lowest >= offset)
}

/// Judges a record, and asks the backplane where that alone knows: behind an erasure nothing is left of what was folded.
pub(super) fn judged(
    plane: &dyn Backplane,
    topic: Filter<'_>,
    known: &Continuity,
    record: &StreamRecord,
) -> Result<Judged> {
    match known.judge(record) {
        Judged::Anew if !is_first_left(plane, topic, record.offset())? => Ok(known.judge_behind(record)),
        other => Ok(other),
    }
}

/// True if an image of so many records, up to an offset, is of such as were lost: behind its offset others have their numbers.
pub(super) fn is_contradicted(
    plane: &dyn Backplane,
    topic: Filter<'_>,
    (offset, count): (Offset, u64),
) -> Result<bool> {
    let next = match plane.subscribe(topic, offset) {
        Ok(mut feed) => feed.try_next()?,
        // What was dropped since says nothing of it.
        Err(error) if error.kind() == ErrorKind::Lost => return Ok(false),
        Err(error) => return Err(error),
    };
    Ok(next.is_some_and(|next| next.offset() > offset && Continuity::is_contradicted(count, &next)))
}

/// Saves an image of nothing right before the oldest record of a topic with which what is left is whole, where there is no image
/// that can be used and the history is not whole: what was dropped or lost is done without.
///
/// # Errors
///
/// `InvalidInput` where a fold can begin. `Halted` where it diverged.
pub(crate) fn begin_anew(
    plane: &dyn Backplane,
    subject: &Subject,
    nothing: Vec<u8>,
    is_value: &dyn Fn(&[u8]) -> bool,
) -> Result<()> {
    let doing = || format!("begin the fold {:?} of {} anew", subject.fold, subject.filter());
    if let Some(offset) = marks::marked(plane, subject)? {
        return Err(Error::new(ErrorKind::Halted, doing())
            .sides("a fold that has not diverged", format!("one that has, behind offset {offset}"))
            .noting(marks::WAY_ON.to_owned()));
    }
    let era = repeated(|| plane.era())?;
    let found = image::load(plane, subject, era)?;
    let topic = subject.filter();
    let head = repeated(|| plane.head(topic))?;
    let images = found.images.iter().map(|kept| &kept.image);
    let usable = images.filter(|image| image.offset <= head && is_value(&image.value));
    let begun = usable.map(|image| (image.offset, image.continuity.clone()));
    for (from, known) in begun.chain([(Offset::BEGINNING, Continuity::default())]) {
        if goes_on(plane, topic, from, &known)? {
            return Err(Error::new(ErrorKind::InvalidInput, doing()).sides(
                "records that are missing, and no image that bridges that",
                format!("all records behind {from}, from which it goes on by itself"),
            ));
        }
    }
    let first = first_that_is_whole(plane, topic)?.ok_or_else(|| {
        Error::new(ErrorKind::Disconnected, doing()).sides(format!("records up to {head}"), "none")
    })?;
    if repeated(|| plane.era())? != era {
        return Err(Error::new(ErrorKind::EraChanged, doing()));
    }
    let known = Continuity { begun_anew: found.begun_anew + 1, ..right_before(&first) };
    let offset = Offset::from_raw(first.offset().raw().saturating_sub(1));
    let image = Image { era, offset, continuity: known, value: nothing };
    image::save(plane, subject, &image, &mut PIECE_BYTES.clone()).map(drop)
}

/// What a record has to follow, where the log says it.
fn right_before(record: &StreamRecord) -> Continuity {
    let count = record.place_in_topic().map_or(0, |place| place.generation.saturating_sub(1));
    Continuity { count, is_partial: true, ..Continuity::default() }
}

/// True if nothing is missing behind a place.
fn goes_on(plane: &dyn Backplane, topic: Filter<'_>, from: Offset, known: &Continuity) -> Result<bool> {
    for _ in 0..WALKS {
        match behind_the_last_hole(plane, topic, from, Some(known.clone())) {
            Ok(Some(_)) => {}
            Err(error) if error.kind() == ErrorKind::Lost => return Ok(false),
            other => return other.map(|behind| behind.is_none()),
        }
    }
    Ok(false)
}

/// The oldest record behind which nothing is missing.
fn first_that_is_whole(plane: &dyn Backplane, topic: Filter<'_>) -> Result<Option<StreamRecord>> {
    let from = oldest_place(plane, topic)?;
    let mut first: Option<StreamRecord> = None;
    for _ in 0..WALKS {
        let found = behind_the_last_hole(plane, topic, from, None)?;
        // What is missing is so in each walk: what a later one has behind it was left out by the feed of an earlier one.
        first = match (first, found) {
            (Some(first), Some(found)) if first.offset() <= found.offset() => Some(first),
            (first, found) => found.or(first),
        };
    }
    Ok(first)
}

/// The oldest place from which a topic can be read. Below what was compacted a place is `Lost` if anything is missing behind it.
fn oldest_place(plane: &dyn Backplane, topic: Filter<'_>) -> Result<Offset> {
    let lost = match repeated(|| plane.subscribe_oldest(topic)) {
        Ok(feed) => return Ok(feed.position()),
        Err(error) if error.kind() == ErrorKind::Lost => error,
        Err(error) => return Err(error),
    };
    let head = repeated(|| plane.head(topic))?;
    let floor = lost.floor().unwrap_or(u64::MAX);
    let mut lost_at = repeated(|| plane.lowest_retained(topic))?.raw().saturating_sub(1);
    // Nothing is missing before the newest.
    let mut whole = floor.min(head.raw()).saturating_sub(1).max(lost_at);
    while lost_at + 1 < whole {
        let middle = lost_at.midpoint(whole);
        match repeated(|| plane.subscribe(topic, Offset::from_raw(middle))) {
            Ok(_) => whole = middle,
            Err(error) if error.kind() == ErrorKind::Lost => lost_at = middle,
            Err(error) => return Err(error),
        }
    }
    Ok(Offset::from_raw(whole))
}

/// Reads a topic on from a place; answers the last record before which something is missing. Where nothing is known of what was
/// before, the first one is such.
fn behind_the_last_hole(
    plane: &dyn Backplane,
    topic: Filter<'_>,
    from: Offset,
    mut known: Option<Continuity>,
) -> Result<Option<StreamRecord>> {
    let (mut behind, mut failed) = (None, Ok(()));
    let damaged = image::read_behind(plane, topic, Some(from), &mut |record| {
        if record.offset() <= from || failed.is_err() {
            return;
        }
        let follows = known.take().map(|known| (judged(plane, topic, &known, record), known));
        let mut now = match follows {
            Some((Ok(Judged::Next | Judged::Again), known)) => known,
            Some((Ok(Judged::Anew), _)) => Continuity::default(),
            Some((Ok(Judged::Gap { .. }), _)) | None => {
                behind = Some(record.clone());
                right_before(record)
            }
            Some((Err(error), _)) => return failed = Err(error),
        };
        now.take(record);
        known = Some(now);
    })?;
    failed?;
    if damaged > 0 {
        return Err(Error::corrupt(format!("read {topic}")));
    }
    Ok(behind)
}
