//! Folds over topics by what is written of them: which are registered with a stream, what their images have, whether one
//! diverged. Nothing here runs a fold, or knows the type of its value.

use std::collections::BTreeMap;

use crate::backplane::{Backplane, Era, Filter, Offset, StreamRecord, WrittenTopic};
use crate::codec;
use crate::error::{ErrorKind, Result};
use crate::fold::image::{self, Head, OPEN_MAX, images_key, is_of, marks_key};
use crate::fold::keeping::Folds;
use crate::fold::lost;
use crate::fold::marks::Mark;
use crate::format::chunk::Chunk;

/// The folds of a stream, as they are registered on a journal.
///
/// ```
/// use esker::backplane::ReadOnly;
/// use esker::{At, Fold, Reader, Store, StreamFolds, Topic};
/// # struct Count;
/// # impl Fold for Count {
/// #     type State = u64;
/// #     type Event = String;
/// #     const NAME: &'static str = "count";
/// #     const VERSION: u32 = 1;
/// #     fn fold(count: &mut u64, _: String, _: &At) { *count += 1 }
/// # }
/// # fn main() -> esker::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("shop.esker");
/// const ORDERS: Topic<String> = Topic::new("order");
/// let store = Store::open(&path)?;
/// let order = store.topic(ORDERS, "8812")?;
/// let placed = order.append(&"placed".to_owned())?;
/// order.fold::<Count>()?.save_image()?;
///
/// let plane = ReadOnly::of(&Reader::open(&path)?)?;            // beside the writer
/// let folds = StreamFolds::of(&plane, "order")?;
/// let topic = plane.topics("order")?.next().unwrap()?;
/// let found = folds.over(&plane, "order", &topic)?;
/// assert_eq!((&*found[0].fold, found[0].image.as_ref().unwrap().offset), ("count", placed));
/// # store.close() }
/// ```
#[derive(Debug)]
pub struct StreamFolds {
    folds: Folds,
    era: Era,
}

/// A fold over a topic, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WrittenFold {
    /// Its name.
    pub fold: String,
    /// Its version.
    pub version: u32,
    /// It is registered, and no newer version of it is: compaction keeps what it needs.
    pub is_registered: bool,
    /// The newest of its images that can be used.
    pub image: Option<WrittenImage>,
    /// So many images cannot be read as what was written, or are of records that are not there: none is, or others came in their place.
    pub unusable: u64,
    /// So many are of another era.
    pub of_other_eras: u64,
    /// Behind which record it diverged, if it did: the topic's records are kept then.
    pub diverged: Option<Offset>,
    /// What it would need next was dropped: it cannot begin.
    pub is_lost: bool,
}

/// An image of a fold over a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WrittenImage {
    /// The last record that is in it.
    pub offset: Offset,
    /// The how manieth that is of its topic, of all that there ever were.
    pub generation: u64,
    /// Bytes of the encoded value.
    pub bytes: u64,
    /// When it was saved, in nanoseconds since 1970.
    pub time: i64,
    /// So often what was dropped was taken for lost, by somebody who said so.
    pub begun_anew: u64,
}

impl StreamFolds {
    /// Those of a stream.
    ///
    /// # Errors
    ///
    /// What the backplane answers.
    pub fn of(plane: &dyn Backplane, stream: &str) -> Result<Self> {
        Ok(Self { folds: Folds::of(plane, stream)?, era: plane.era()? })
    }

    /// Those that are registered: the name of each and its newest version.
    pub fn registered(&self) -> impl Iterator<Item = (&str, u32)> {
        self.folds.by_name.iter().filter_map(|(name, version)| Some((name.as_str(), (*version)?)))
    }

    /// True if none was ever registered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.folds.ever.is_empty() && !self.folds.are_partial
    }

    /// True if some of what is written of them cannot be read: there may be more, and nothing of the stream goes.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.folds.are_partial
    }

    /// What is written of each over a topic: of those that are registered, then of older versions and of those that were retired,
    /// if there is an image. Images are read piece by piece, however large they are.
    ///
    /// # Errors
    ///
    /// What the backplane answers. What is damaged is counted.
    pub fn over(
        &self,
        plane: &dyn Backplane,
        stream: &str,
        topic: &WrittenTopic,
    ) -> Result<Vec<WrittenFold>> {
        let filter = Filter::topic(stream, &topic.key);
        let marks = Marks::of(plane, filter)?;
        let mut registered = Vec::new();
        let mut others = Vec::new();
        for (fold, version) in &self.folds.ever {
            let is_registered = self.folds.newest(fold) == Some(*version);
            let found = Found::of(plane, self.era, (fold, *version), (filter, topic))?;
            let is_lost = is_registered && is_lost(plane, filter, found.image.as_ref())?;
            let diverged = marks.of_fold(fold, *version);
            if !is_registered && found.image.is_none() {
                continue;
            }
            let into = if is_registered { &mut registered } else { &mut others };
            into.push(WrittenFold {
                fold: fold.clone(),
                version: *version,
                is_registered,
                image: found.image,
                unusable: found.unusable,
                of_other_eras: found.of_other_eras,
                diverged,
                is_lost,
            });
        }
        registered.append(&mut others);
        Ok(registered)
    }
}

fn is_lost(plane: &dyn Backplane, topic: Filter<'_>, image: Option<&WrittenImage>) -> Result<bool> {
    let from = image.map_or(Offset::BEGINNING, |image| image.offset);
    match plane.subscribe(topic, from) {
        Err(error) if error.kind() == ErrorKind::Lost => Ok(true),
        Err(error) if error.is_corruption() => Ok(false),
        other => other.map(|_| false),
    }
}

/// True if others have the numbers of the records that an image is of. Where that cannot be read, the image is not the worse for it.
fn is_of_what_was_lost(plane: &dyn Backplane, topic: Filter<'_>, image: &WrittenImage) -> Result<bool> {
    match lost::is_contradicted(plane, topic, (image.offset, image.generation)) {
        Err(error) if error.is_corruption() => Ok(false),
        other => other,
    }
}

/// The marks of a topic: which folds diverged, and behind which record.
struct Marks {
    by_fold: BTreeMap<(String, u32), Offset>,
    /// One that cannot be read is one of every fold.
    of_all: Option<Offset>,
}

impl Marks {
    fn of(plane: &dyn Backplane, topic: Filter<'_>) -> Result<Self> {
        let mut marks = Self { by_fold: BTreeMap::new(), of_all: None };
        let damaged = image::read_all(plane, &marks_key(topic), &mut |record| {
            let chunk = Chunk::read(record.payload());
            match chunk.and_then(|chunk| codec::decode_bytes::<Mark>(chunk.bytes).ok()) {
                Some(mark) => {
                    marks.by_fold.insert((mark.fold, mark.version), Offset::from_raw(mark.offset));
                }
                None => marks.of_all = Some(Offset::BEGINNING),
            }
        })?;
        if damaged > 0 {
            marks.of_all = Some(Offset::BEGINNING);
        }
        Ok(marks)
    }

    fn of_fold(&self, fold: &str, version: u32) -> Option<Offset> {
        self.by_fold.get(&(fold.to_owned(), version)).copied().or(self.of_all)
    }
}

/// What there is of the images of a fold over a topic.
#[derive(Default)]
struct Found {
    image: Option<WrittenImage>,
    unusable: u64,
    of_other_eras: u64,
}

impl Found {
    fn of(
        plane: &dyn Backplane,
        era: Era,
        (fold, version): (&str, u32),
        (filter, topic): (Filter<'_>, &WrittenTopic),
    ) -> Result<Self> {
        let (mut found, mut sums, mut images) = (Self::default(), Sums::default(), Vec::new());
        let key = images_key(fold, version, filter.stream, &topic.key);
        let is_of_it = |head: &Head| {
            (&*head.fold, head.version, &*head.stream) == (fold, version, filter.stream)
                && head.key == topic.key
        };
        let damaged = image::read_all(plane, &key, &mut |record| match sums.take(record) {
            Some(Summed { head: Some(head), bytes, time }) if is_of_it(&head) => {
                let offset = Offset::from_raw(head.offset);
                if !is_of(plane, era, head.era(), offset) {
                    found.of_other_eras += 1;
                } else if offset > topic.head {
                    found.unusable += 1;
                } else {
                    let (generation, begun_anew) = (head.count, head.begun_anew);
                    images.push(WrittenImage { offset, generation, bytes, time, begun_anew });
                }
            }
            Some(_) => found.unusable += 1,
            None => {}
        })?;
        found.unusable += damaged + sums.bad;
        // Of those behind the same record the last one counts.
        images.sort_by_key(|image| image.offset);
        while let Some(image) = images.pop() {
            if !is_of_what_was_lost(plane, filter, &image)? {
                found.image = Some(image);
                break;
            }
            found.unusable += 1;
        }
        Ok(found)
    }
}

/// Images that are gone over piece by piece: of each its head is put together, the value only summed up.
#[derive(Default)]
struct Sums {
    open: BTreeMap<u64, Open>,
    bad: u64,
}

struct Open {
    first: Offset,
    /// The piece that comes next: whoever saves an image appends them in order.
    next: u32,
    crc: crc32fast::Hasher,
    /// All bytes, until they are seen to have the whole head.
    begin: Vec<u8>,
    head: Option<(Head, u64)>,
    bytes: u64,
}

struct Summed {
    /// `None`: what came is no image.
    head: Option<Head>,
    /// Of the value.
    bytes: u64,
    time: i64,
}

impl Sums {
    /// Takes a record of the stream of images; answers the image of which it is the last piece.
    fn take(&mut self, record: &StreamRecord) -> Option<Summed> {
        let Some(chunk) = Chunk::read(record.payload()) else {
            self.bad += 1;
            return None;
        };
        let open = self.open.entry(chunk.value).or_insert_with(|| Open::at(record.offset()));
        if open.next != chunk.index {
            return None;
        }
        open.take(chunk.bytes);
        if open.next < chunk.count {
            self.forget_some();
            return None;
        }
        let Open { crc, head, bytes, .. } = self.open.remove(&chunk.value)?;
        let is_whole = crc.finalize() == chunk.whole_crc;
        let (head, begin) = head.filter(|_| is_whole).map_or((None, 0), |(head, begin)| (Some(head), begin));
        Some(Summed { head, bytes: bytes.saturating_sub(begin), time: record.time() })
    }

    fn forget_some(&mut self) {
        let oldest = self.open.iter().min_by_key(|(_, open)| open.first).map(|(value, _)| *value);
        if let Some(oldest) = oldest.filter(|_| self.open.len() > OPEN_MAX) {
            self.open.remove(&oldest);
            self.bad += 1;
        }
    }
}

impl Open {
    fn at(first: Offset) -> Self {
        let (begin, crc) = (Vec::new(), crc32fast::Hasher::new());
        Self { first, next: 0, crc, begin, head: None, bytes: 0 }
    }

    fn take(&mut self, piece: &[u8]) {
        self.next += 1;
        self.crc.update(piece);
        self.bytes += piece.len() as u64;
        // A head is short beside a value, and is not looked for behind what it may have.
        if self.head.is_none() && self.begin.len() < HEAD_BYTES_MAX {
            self.begin.extend_from_slice(piece);
            self.head = Head::read(&self.begin).map(|(head, value)| {
                let begin = self.begin.len().saturating_sub(value.len());
                (head, begin as u64)
            });
            if self.head.is_some() {
                self.begin = Vec::new();
            }
        }
    }
}

/// A head names at most some thousands of writers.
const HEAD_BYTES_MAX: usize = 4 << 20;
