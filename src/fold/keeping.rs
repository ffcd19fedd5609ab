//! What topics keep for their folds: [`Keep::Fold`].
//!
//! Which folds there are of a stream its readers say, in the stream of images, under a key of the stream alone: each registers
//! when it is first taken up. Of a topic, what all of them have in their newest images may go, and nothing else. So whether they run
//! says nothing, no code of theirs is called, and a fold without an image keeps everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::MutexGuard;
use serde::{Deserialize, Serialize};

use crate::backplane::{Backplane, Filter, IMAGES_STREAM, Local, Offset};
use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::fold::consumer::progress::clamped;
use crate::fold::image::{self, Covers, Pieces, repeated};
use crate::fold::{lost, marks};
use crate::format::chunk::Chunk;
use crate::format::system::{Keep, KindInfo};
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

/// The folds of a stream.
#[derive(Debug, Default)]
pub(super) struct Folds {
    /// By name: the greatest version, if the fold is not retired.
    pub(super) by_name: BTreeMap<String, Option<u32>>,
    /// Every name and version that was ever registered.
    pub(super) ever: BTreeSet<(String, u32)>,
    /// Of each of them, where it was registered last.
    last: BTreeMap<(String, u32), Offset>,
    /// Some of what is written of them cannot be read: there may be a fold that nobody knows of.
    pub(super) are_partial: bool,
}

impl Folds {
    /// What is written of those of a stream.
    pub(super) fn of(plane: &dyn Backplane, stream: &str) -> Result<Self> {
        let (key, mut folds, mut last) = (folds_key(stream), Self::default(), None);
        let damaged = image::read_filtered(plane, Filter::topic(IMAGES_STREAM, &key), &mut |record| {
            // One that stands where nobody finds it any more leaves a hole. They begin with any number: in a store that has
            // forgotten something, not with 1.
            if let Some(place) = record.place_in_topic() {
                let is_next = last.map_or(place.is_first, |last: u64| last + 1 == place.generation);
                folds.are_partial |= !is_next;
                last = Some(place.generation);
            }
            match Chunk::read(record.payload()).and_then(|chunk| decoded(chunk.bytes)) {
                Some(registered) => folds.take(registered, record.offset()),
                None => folds.are_partial = true,
            }
        })?;
        folds.are_partial |= damaged > 0;
        Ok(folds)
    }

    fn take(&mut self, registered: Registered, at: Offset) {
        if !registered.is_retired {
            let fold = (registered.fold.clone(), registered.version);
            self.ever.insert(fold.clone());
            self.last.insert(fold, at);
        }
        let known = self.by_name.entry(registered.fold).or_default();
        *known = if registered.is_retired { None } else { Some(known.unwrap_or(0).max(registered.version)) };
    }

    pub(super) fn newest(&self, fold: &str) -> Option<u32> {
        self.by_name.get(fold).copied().flatten()
    }
}

fn folds_key(stream: &str) -> [u8; 16] {
    image::key_of(b"folds", &[stream.as_bytes()])
}

/// Nobody else registers, raises a floor or erases meanwhile, if it is a journal's.
pub(crate) fn hold(plane: &dyn Backplane) -> Result<Option<MutexGuard<'_, ()>>> {
    let Some(registrations) = plane.registrations() else { return Ok(None) };
    // Which asks whether this is a child that was forked: there nobody may ever let go of the lock.
    plane.era()?;
    Ok(Some(registrations.hold()))
}

/// Writes down that a fold is one of a stream of a journal, unless that is known. From then on no floor rises without it.
pub(crate) fn register(plane: &dyn Backplane, stream: &str, (fold, version): (&str, u32)) -> Result<()> {
    let Some(registrations) = plane.registrations() else { return Ok(()) };
    let name = (stream.to_owned(), fold.to_owned(), version);
    if registrations.known().contains(&name) {
        return Ok(());
    }
    let _held = hold(plane)?;
    if Folds::of(plane, stream)?.newest(fold).is_none_or(|known| known < version) {
        write(plane, stream, fold, Some(version))?;
    }
    registrations.known().insert(name);
    Ok(())
}

/// The keys of the images of all folds that were ever registered with a topic's stream, and of its marks.
pub(crate) fn keys_derived_from<'t>(
    plane: &dyn Backplane,
    topic: Filter<'t>,
) -> Result<impl Iterator<Item = Vec<u8>> + use<'t>> {
    let folds = Folds::of(plane, topic.stream)?;
    let key = topic.key.unwrap_or_default();
    let images = folds.ever.into_iter();
    let images = images.map(move |(fold, version)| image::images_key(&fold, version, topic.stream, key));
    Ok(images.chain([image::marks_key(topic)]))
}

/// The folds of a stream, and the newest version of each.
pub(crate) fn registered(plane: &dyn Backplane, stream: &str) -> Result<Vec<(String, u32)>> {
    let folds = Folds::of(plane, stream)?;
    if folds.are_partial {
        return Err(Error::corrupt(format!("read which folds are registered with {stream:?}")));
    }
    Ok(folds.by_name.into_iter().filter_map(|(name, version)| Some((name, version?))).collect())
}

/// Takes a fold for one of those of a stream no more.
pub(crate) fn retire(plane: &dyn Backplane, stream: &str, fold: &str) -> Result<()> {
    let Some(registrations) = plane.registrations() else { return Ok(()) };
    let _held = hold(plane)?;
    // Before it is written, so that whoever takes it up meanwhile waits, and finds that it was.
    registrations.known().retain(|(of, name, _)| (&**of, &**name) != (stream, fold));
    match Folds::of(plane, stream)?.newest(fold) {
        Some(_) => write(plane, stream, fold, None),
        None => Ok(()),
    }
}

fn write(plane: &dyn Backplane, stream: &str, fold: &str, version: Option<u32>) -> Result<()> {
    let registered = Registered {
        stream: stream.to_owned(),
        fold: fold.to_owned(),
        version: version.unwrap_or(0),
        is_retired: version.is_none(),
    };
    let mut bytes = Vec::new();
    codec::encode(IMAGES_STREAM, &registered, &mut bytes)?;
    image::append_whole(plane, &folds_key(stream), &bytes)
}

fn decoded(bytes: &[u8]) -> Option<Registered> {
    codec::decode_bytes(bytes).ok()
}

/// Before which offset events of a topic may be dropped, of those before one: nothing goes that a consumer has not done. Whoever drops
/// by its answer holds the [registrations](crate::journal::lodger::Registrations) from before it is asked until the floor is put.
///
/// # Errors
///
/// `Halted` if none may be: a fold diverged. `Corrupt` or `FormatTooNew` if what is written of a consumer cannot be read; what the
/// backplane answers.
pub(crate) fn may_go_before(plane: &dyn Backplane, topic: Filter<'_>, before: Offset) -> Result<Offset> {
    marks::check_not_marked(plane, topic, &|mark, marked| {
        if plane.registrations().is_none() {
            return Ok(false);
        }
        // A newer one was taken up behind the mark: somebody has seen what was to be shown, and mended it. One that was there
        // before says nothing of that.
        let folds = Folds::of(plane, topic.stream)?;
        let ends_it = |(name, version): &(String, u32), at: Offset| {
            *name == mark.fold && *version > mark.version && at > marked
        };
        Ok(folds.last.iter().any(|(fold, at)| ends_it(fold, *at)))
    })?;
    clamped(plane, topic, before)
}

/// True where it is one topic of which nothing may go, as nobody can say what is needed of it.
fn is_of_the_topic(error: &Error) -> bool {
    use ErrorKind::{Codec, Corrupt, FormatTooNew, Halted};
    matches!(error.kind(), Halted | Corrupt | Codec | FormatTooNew)
}

/// The images of each fold over a topic: up to which record each is, and of how many.
type Images = BTreeMap<(String, u32), Vec<(Offset, u64)>>;
/// The newest of them that can be used.
type Newest = BTreeMap<(String, u32), Offset>;
/// By stream, before which event those of each key are not needed.
type NotNeeded<'s> = BTreeMap<&'s str, Vec<(&'s [u8], Offset)>>;

/// What the stream of images says.
#[derive(Default)]
struct Survey {
    folds: BTreeMap<String, Folds>,
    /// By stream and key.
    topics: BTreeMap<(String, Vec<u8>), Images>,
}

impl Survey {
    /// Reads the registrations of streams, and all images. One that cannot be read covers nothing.
    fn of(plane: &dyn Backplane, streams: Vec<String>) -> Result<Self> {
        let mut survey = Self::default();
        for stream in streams {
            let folds = Folds::of(plane, &stream)?;
            if !folds.are_partial {
                survey.folds.insert(stream, folds);
            }
        }
        if survey.folds.is_empty() {
            return Ok(survey);
        }
        let (era, mut pieces) = (repeated(|| plane.era())?, Pieces::default());
        image::read_filtered(plane, Filter::stream(IMAGES_STREAM), &mut |record| {
            let whole = Chunk::read(record.payload()).and_then(|chunk| pieces.take(record.offset(), chunk));
            let covers = whole.and_then(|whole| Covers::read(record.key(), &whole.bytes));
            if let Some(covers) = covers.filter(|of| image::is_of(plane, era, of.era, of.offset)) {
                survey.take(covers);
            }
        })?;
        Ok(survey)
    }

    fn take(&mut self, covers: Covers) {
        let Covers { fold, version, stream, key, offset, count, .. } = covers;
        let images = self.topics.entry((stream, key)).or_default().entry((fold, version)).or_default();
        images.push((offset, count));
    }

    fn not_needed(&self, plane: &dyn Backplane) -> Result<NotNeeded<'_>> {
        let mut all = NotNeeded::new();
        for ((stream, key), images) in &self.topics {
            let Some(folds) = self.folds.get(stream) else { continue };
            let newest = match newest_of(plane, Filter::topic(stream, key), images) {
                Err(error) if is_of_the_topic(&error) => continue,
                other => other?,
            };
            if let Some(covered) = covered_by_all(folds, &newest) {
                let before = Offset::from_raw(covered.raw().saturating_add(1));
                all.entry(stream).or_default().push((key.as_slice(), before));
            }
        }
        Ok(all)
    }
}

/// The newest image of each fold that one who takes the fold up would begin with. Where the last records of a topic were lost, what
/// is of them is none, and the events before it are needed.
fn newest_of(plane: &dyn Backplane, topic: Filter<'_>, images: &Images) -> Result<Newest> {
    let (head, mut newest) = (repeated(|| plane.head(topic))?, Newest::new());
    for (fold, images) in images {
        let mut images: Vec<_> = images.iter().filter(|(offset, _)| *offset <= head).collect();
        images.sort_unstable();
        while let Some(&image) = images.pop() {
            if !lost::is_contradicted(plane, topic, image)? {
                newest.insert(fold.clone(), image.0);
                break;
            }
        }
    }
    Ok(newest)
}

/// The last event that is in the newest images of all folds; `None`: one of them has none, or there is no fold.
fn covered_by_all(folds: &Folds, newest: &Newest) -> Option<Offset> {
    let registered = folds.by_name.iter().filter_map(|(fold, version)| Some((fold.clone(), (*version)?)));
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
        let core = journal.core();
        // From the survey to the last floor: who registers meanwhile would be told of neither.
        let _held = core.registrations.hold();
        let name = |kind: &Arc<KindInfo>| (kind.keep == Keep::Fold).then(|| kind.name.clone());
        let streams = core.registry.read().iter().filter_map(name).collect();
        let plane = Local::over(&journal)?;
        let survey = Survey::of(&plane, streams)?;
        for (stream, topics) in survey.not_needed(&plane)? {
            let mut floors = Vec::new();
            for (key, before) in topics {
                match may_go_before(&plane, Filter::topic(stream, key), before) {
                    Ok(before) => floors.push((key.to_vec(), before)),
                    Err(error) if is_of_the_topic(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            plane.compact_all(stream, &floors)?;
        }
        Ok(())
    }
}
