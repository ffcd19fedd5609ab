//! What topics keep for their folds: [`Keep::Fold`].
//!
//! Which folds there are of a stream its readers say, in the stream of images, under a key of the stream alone: each registers
//! when it is first taken up. Of a topic, what all of them have in their newest images may go, and nothing else. So whether they run
//! says nothing, no code of theirs is called, and a fold without an image keeps everything.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::backplane::{Backplane, Filter, IMAGES_STREAM, Local, Offset};
use crate::codec;
use crate::error::{ErrorKind, Result};
use crate::fold::consumer::progress::clamped;
use crate::fold::image::{self, Covers, Pieces, repeated};
use crate::format::chunk::Chunk;
use crate::format::system::Keep;
use crate::journal::WeakJournal;
use crate::journal::lodger::RaisesFloors;

/// A fold over topics of a stream, as it registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Registered {
    stream: String,
    fold: String,
    version: u32,
    /// Nobody folds by it any more.
    is_retired: bool,
}

/// The folds of a stream, by name: the greatest version, if the fold is not retired.
#[derive(Debug, Default)]
struct Folds(BTreeMap<String, Option<u32>>);

impl Folds {
    fn take(&mut self, registered: Registered) {
        let known = self.0.entry(registered.fold).or_default();
        *known = if registered.is_retired { None } else { Some(known.unwrap_or(0).max(registered.version)) };
    }
}

fn folds_key(stream: &str) -> [u8; 16] {
    image::key_of(b"folds", &[stream.as_bytes()])
}

/// Writes down that a fold is one of a stream, or is not any more, unless that is known.
pub(crate) fn register(plane: &dyn Backplane, stream: &str, fold: &str, version: Option<u32>) -> Result<()> {
    let (key, mut folds) = (folds_key(stream), Folds::default());
    image::read_filtered(plane, Filter::topic(IMAGES_STREAM, &key), &mut |record| {
        if let Some(registered) = Chunk::read(record.payload()).and_then(|chunk| decoded(chunk.bytes)) {
            folds.take(registered);
        }
    })?;
    let known = folds.0.get(fold).copied().flatten();
    let is_known = match version {
        Some(version) => known.is_some_and(|known| known >= version),
        None => known.is_none(),
    };
    if is_known {
        return Ok(());
    }
    let registered = Registered {
        stream: stream.to_owned(),
        fold: fold.to_owned(),
        version: version.unwrap_or(0),
        is_retired: version.is_none(),
    };
    let mut bytes = Vec::new();
    codec::encode(IMAGES_STREAM, &registered, &mut bytes)?;
    image::append_whole(plane, &key, &bytes)
}

fn decoded(bytes: &[u8]) -> Option<Registered> {
    codec::decode_bytes(bytes).ok()
}

/// Before which offset events of a topic may be dropped, of those before one: nothing goes that a consumer has not done. Everybody
/// who drops some asks here.
///
/// # Errors
///
/// `Halted` if none may be: a fold diverged.
pub(crate) fn may_go_before(plane: &dyn Backplane, topic: Filter<'_>, before: Offset) -> Result<Offset> {
    image::check_not_marked(plane, topic)?;
    clamped(plane, topic, before)
}

/// The newest image of each fold over a topic.
type Newest = BTreeMap<(String, u32), Offset>;

/// What the stream of images says.
#[derive(Default)]
struct Survey {
    folds: BTreeMap<String, Folds>,
    /// By stream and key.
    topics: BTreeMap<(String, Vec<u8>), Newest>,
}

impl Survey {
    /// Reads all of the stream; `None`: not all of it can be read, so that there may be a fold that nobody knows of.
    fn of(plane: &dyn Backplane) -> Result<Option<Self>> {
        let era = repeated(|| plane.era())?;
        let (mut survey, mut pieces, mut is_strange) = (Self::default(), Pieces::default(), false);
        let damaged = image::read_filtered(plane, Filter::stream(IMAGES_STREAM), &mut |record| {
            let Some(chunk) = Chunk::read(record.payload()) else {
                is_strange = true;
                return;
            };
            let Some(whole) = pieces.take(record.offset(), chunk) else { return };
            if let Some(covers) = Covers::read(record.key(), &whole.bytes).filter(|covers| covers.era == era)
            {
                survey.take(covers);
            } else if let Some(fold) =
                decoded(&whole.bytes).filter(|fold| folds_key(&fold.stream) == record.key())
            {
                survey.folds.entry(fold.stream.clone()).or_default().take(fold);
            }
        })?;
        Ok((damaged == 0 && !is_strange).then_some(survey))
    }

    fn take(&mut self, covers: Covers) {
        let Covers { fold, version, stream, key, offset, .. } = covers;
        let newest = self.topics.entry((stream, key)).or_default().entry((fold, version)).or_default();
        *newest = offset.max(*newest);
    }

    /// By stream, before which event those of each key are not needed.
    fn not_needed(&self) -> BTreeMap<&str, Vec<(&[u8], Offset)>> {
        let mut all: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for ((stream, key), newest) in &self.topics {
            let covered = self.folds.get(stream).and_then(|folds| covered_by_all(folds, newest));
            if let Some(covered) = covered {
                let before = Offset::from_raw(covered.raw().saturating_add(1));
                all.entry(stream).or_default().push((key.as_slice(), before));
            }
        }
        all
    }
}

/// The last event that is in the newest images of all folds; `None`: one of them has none, or there is no fold.
fn covered_by_all(folds: &Folds, newest: &Newest) -> Option<Offset> {
    let registered = folds.0.iter().filter_map(|(fold, version)| Some((fold.clone(), (*version)?)));
    let mut covered = registered.map(|fold| newest.get(&fold).copied());
    let first = covered.next()??;
    covered.try_fold(first, |covered, next| Some(next?.min(covered)))
}

/// Asked before the journal is compacted.
pub(crate) struct Keeping(pub(crate) WeakJournal);

impl RaisesFloors for Keeping {
    fn raise(&self) -> Result<()> {
        let Some(journal) = self.0.upgrade() else { return Ok(()) };
        if journal.kind_named(IMAGES_STREAM).is_none() {
            return Ok(());
        }
        let plane = Local::over(&journal)?;
        let Some(survey) = Survey::of(&plane)? else { return Ok(()) };
        for (stream, topics) in survey.not_needed() {
            if journal.kind_named(stream).is_none_or(|kind| kind.keep != Keep::Fold) {
                continue;
            }
            let mut floors = Vec::new();
            for (key, before) in topics {
                match may_go_before(&plane, Filter::topic(stream, key), before) {
                    Ok(before) => floors.push((key.to_vec(), before)),
                    Err(error) if error.kind() == ErrorKind::Halted => {}
                    Err(error) => return Err(error),
                }
            }
            plane.compact_all(stream, &floors)?;
        }
        Ok(())
    }
}
