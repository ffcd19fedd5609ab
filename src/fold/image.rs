//! Images: the values of folds over topics, saved in the stream `esker.images`.
//!
//! Images of one fold over one topic are records of one key, which is made of their names: each image is a run of
//! [pieces](crate::format::chunk), and what they come to is
//!
//! ```text
//! length of the head (u32) | head: what it is of, behind which record, the last number of each writer | value
//! ```
//!
//! The newest two are kept where the backplane compacts. Beside them, under a key of the topic alone, stand marks: that
//! a fold diverged there, so that its images are not to be trusted, and the topic's records not to be dropped.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backplane::{
    Append, Backplane, Era, Filter, IMAGES_STREAM, Offset, PAYLOAD_BYTES_PORTABLE, Stamp, Step, StreamRecord,
    WriterId,
};
use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::fold::continuity::Continuity;
use crate::format::chunk::{Chunk, HEAD_BYTES, PIECES_MAX};
use crate::format::stamp::mixed;

/// A piece is never cut smaller than so.
const PIECE_BYTES_MIN: usize = 256;
/// A call whose outcome is unknown is repeated so often.
const TRIES: usize = 4;
/// A feed that ends is taken up so often, before all is read anew later.
const FEEDS_MAX: usize = 16;
/// What was acknowledged and is not delivered within this time is asked for again later.
const PATIENCE: Duration = Duration::from_secs(1);

/// A fold over a topic, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) fold: &'static str,
    pub(crate) version: u32,
    pub(crate) stream: String,
    pub(crate) key: Vec<u8>,
}

/// A saved value, and behind which record it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub(super) era: Era,
    pub(super) offset: Offset,
    pub(super) continuity: Continuity,
    /// The encoded value.
    pub(super) value: Vec<u8>,
}

/// What stands before the value.
#[derive(Serialize, Deserialize)]
struct Head {
    fold: String,
    version: u32,
    stream: String,
    key: Vec<u8>,
    era: [u64; 2],
    offset: u64,
    count: u64,
    writers: Vec<(u64, u64)>,
    is_anew: bool,
}

/// A fold diverged.
#[derive(Serialize, Deserialize)]
struct Mark {
    fold: String,
    version: u32,
    offset: u64,
}

/// What there is of a fold over a topic.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The newest first.
    pub(super) images: Vec<Image>,
    /// So many could not be read as what was written.
    pub(super) bad: u64,
    /// So many are of another era.
    pub(super) of_other_eras: u64,
}

impl Subject {
    pub(super) fn filter(&self) -> Filter<'_> {
        Filter::topic(&self.stream, &self.key)
    }

    /// The key of its images. Not keyed by the store: every process has to come to the same.
    pub(super) fn images_key(&self) -> [u8; 16] {
        let version = self.version.to_le_bytes();
        key_of(b"image", &[self.fold.as_bytes(), &version, self.stream.as_bytes(), &self.key])
    }
}

/// The key of the marks of a topic.
fn marks_key(topic: Filter<'_>) -> [u8; 16] {
    key_of(b"marks", &[topic.stream.as_bytes(), topic.key.unwrap_or_default()])
}

pub(super) fn key_of(what: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut bytes = what.to_vec();
    for part in parts {
        bytes.extend((part.len() as u64).to_le_bytes());
        bytes.extend(*part);
    }
    mixed(&bytes).to_le_bytes()
}

impl Image {
    pub(super) fn encode(&self, subject: &Subject) -> Result<Vec<u8>> {
        let era = self.era.raw();
        let half = |word: u128| u64::try_from(word & u128::from(u64::MAX)).unwrap_or(0);
        let head = Head {
            fold: subject.fold.to_owned(),
            version: subject.version,
            stream: subject.stream.clone(),
            key: subject.key.clone(),
            era: [half(era), half(era >> 64)],
            offset: self.offset.raw(),
            count: self.continuity.count,
            writers: self.continuity.writers.iter().map(|(writer, n)| (writer.raw(), *n)).collect(),
            is_anew: self.continuity.is_anew,
        };
        let mut bytes = vec![0; 4];
        codec::encode(IMAGES_STREAM, &head, &mut bytes)?;
        let length = u32::try_from(bytes.len() - 4).map_err(|cause| {
            Error::new(ErrorKind::LimitReached, "write the head of an image").because(cause)
        })?;
        bytes.iter_mut().zip(length.to_le_bytes()).for_each(|(byte, of_length)| *byte = of_length);
        bytes.extend(&self.value);
        Ok(bytes)
    }

    /// `None`: it is none of this fold over this topic.
    fn read(subject: &Subject, bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (head, value) = rest.split_at_checked(length)?;
        let head: Head = codec::decode_bytes(head).ok()?;
        let is_of_it = head.fold == subject.fold
            && head.version == subject.version
            && head.stream == subject.stream
            && head.key == subject.key;
        let writers = head.writers.iter().map(|(writer, n)| (WriterId::from_raw(*writer), *n)).collect();
        is_of_it.then(|| Self {
            era: Era::from_raw(u128::from(head.era[0]) | u128::from(head.era[1]) << 64),
            offset: Offset::from_raw(head.offset),
            continuity: Continuity { count: head.count, writers, is_anew: head.is_anew },
            value: value.to_vec(),
        })
    }
}

/// The images of a fold over a topic, in an era.
///
/// # Errors
///
/// What could not be read now and may be another time. What is there and no image is counted.
pub(super) fn load(plane: &dyn Backplane, subject: &Subject, era: Era) -> Result<Found> {
    let mut found = Found::default();
    let mut pieces = Pieces::default();
    let is_damaged =
        read_all(plane, &subject.images_key(), &mut |record| match Chunk::read(record.payload()) {
            Some(chunk) => pieces.take(chunk),
            None => found.bad += 1,
        })?;
    found.bad += u64::from(is_damaged) + pieces.bad;
    for whole in pieces.whole.into_iter().rev() {
        match Image::read(subject, &whole) {
            None => found.bad += 1,
            Some(image) if image.era != era => found.of_other_eras += 1,
            Some(image) => found.images.push(image),
        }
    }
    found.images.sort_by_key(|image| std::cmp::Reverse(image.offset));
    Ok(found)
}

/// Values that are put together from their pieces.
#[derive(Default)]
struct Pieces {
    open: BTreeMap<u64, BTreeMap<u32, Vec<u8>>>,
    /// The oldest first.
    whole: Vec<Vec<u8>>,
    bad: u64,
}

impl Pieces {
    fn take(&mut self, chunk: Chunk<'_>) {
        let pieces = self.open.entry(chunk.value).or_default();
        pieces.insert(chunk.index, chunk.bytes.to_vec());
        if pieces.len() as u64 != u64::from(chunk.count) {
            return;
        }
        let whole: Vec<u8> =
            self.open.remove(&chunk.value).unwrap_or_default().into_values().flatten().collect();
        if crc32fast::hash(&whole) == chunk.whole_crc {
            self.whole.push(whole);
        } else {
            self.bad += 1;
        }
    }
}

/// Hands on the records of a key of the stream of images, up to what is newest now. Answers whether damage ended it.
fn read_all(plane: &dyn Backplane, key: &[u8], each: &mut dyn FnMut(&StreamRecord)) -> Result<bool> {
    let filter = Filter::topic(IMAGES_STREAM, key);
    let head = repeated(|| plane.head(filter))?;
    if head == Offset::BEGINNING {
        return Ok(false);
    }
    // Behind the one before the oldest that there is.
    let lowest = repeated(|| plane.lowest_retained(filter))?;
    let mut last = Offset::from_raw(lowest.raw().saturating_sub(1));
    let mut feed = repeated(|| plane.subscribe(filter, last))?;
    let mut tries = FEEDS_MAX;
    while last < head {
        let record = match feed.next_timeout(PATIENCE) {
            Ok(Some(record)) => record,
            Ok(None) => {
                return Err(Error::new(ErrorKind::Disconnected, format!("read {filter}"))
                    .sides(format!("records up to {head}"), format!("none behind {last}")));
            }
            Err(error) if is_damage(&error) => return Ok(true),
            Err(error) if error.kind() == ErrorKind::Disconnected && tries > 0 => {
                tries -= 1;
                feed = repeated(|| plane.subscribe(filter, last))?;
                continue;
            }
            Err(error) => return Err(error),
        };
        if record.offset() > last && record.key() == key {
            last = record.offset();
            each(&record);
        }
    }
    Ok(false)
}

/// True where another try would find the same.
fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Codec)
}

/// Saves an image; answers where it begins, in the stream of images. `piece_bytes` becomes less where the backplane takes less.
pub(super) fn save(
    plane: &dyn Backplane,
    subject: &Subject,
    image: &Image,
    piece_bytes: &mut usize,
) -> Result<Offset> {
    let bytes = image.encode(subject)?;
    loop {
        match append_pieces(plane, &subject.images_key(), &bytes, *piece_bytes) {
            Err(error) if is_too_large(&error) && *piece_bytes > PIECE_BYTES_MIN => {
                *piece_bytes = (*piece_bytes / 2).max(PIECE_BYTES_MIN);
            }
            other => return other,
        }
    }
}

/// What a piece is to have where nobody has said yet that it is too much.
pub(super) const PIECE_BYTES: usize = PAYLOAD_BYTES_PORTABLE - HEAD_BYTES;

fn is_too_large(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::BatchTooLarge | ErrorKind::InvalidInput)
}

fn append_pieces(plane: &dyn Backplane, key: &[u8], bytes: &[u8], piece_bytes: usize) -> Result<Offset> {
    // A writer of its own, so that nothing has to be known of earlier ones.
    let writer = WriterId::random()?;
    let count = u32::try_from(bytes.len().div_ceil(piece_bytes)).ok().filter(|count| *count <= PIECES_MAX);
    let count = count.ok_or_else(|| {
        Error::new(ErrorKind::LimitReached, "save an image").sides(
            format!("at most {PIECES_MAX} pieces of {piece_bytes} bytes"),
            format!("{} bytes", bytes.len()),
        )
    })?;
    let whole_crc = crc32fast::hash(bytes);
    let mut first = None;
    for (index, piece) in (0..count).zip(bytes.chunks(piece_bytes)) {
        let chunk = Chunk { value: writer.raw(), index, count, whole_crc, bytes: piece };
        let stamp = Stamp::new(writer, u64::from(index) + 1);
        let offset = append(plane, key, &chunk.encode(), stamp)?;
        first.get_or_insert(offset);
    }
    Ok(first.unwrap_or_default())
}

fn append(plane: &dyn Backplane, key: &[u8], payload: &[u8], stamp: Stamp) -> Result<Offset> {
    let step = Step::Append(Append::new(IMAGES_STREAM, key, payload, stamp));
    Ok(repeated(|| plane.commit(&[step]))?.offset(0).unwrap_or_default())
}

/// Repeats a call whose outcome is unknown.
pub(super) fn repeated<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    let mut tries = TRIES;
    loop {
        tries -= 1;
        match call() {
            Err(error) if error.kind() == ErrorKind::Disconnected && tries > 0 => {}
            other => return other,
        }
    }
}

/// Drops the images before one.
pub(super) fn forget_before(plane: &dyn Backplane, subject: &Subject, first: Offset) -> Result<()> {
    let compactor = plane.compactor();
    compactor.map_or(Ok(()), |compactor| compactor.compact(IMAGES_STREAM, &subject.images_key(), first))
}

/// Marks that a fold diverged.
pub(super) fn mark(plane: &dyn Backplane, subject: &Subject, offset: Offset) -> Result<()> {
    let mark = Mark { fold: subject.fold.to_owned(), version: subject.version, offset: offset.raw() };
    let mut bytes = Vec::new();
    codec::encode(IMAGES_STREAM, &mark, &mut bytes)?;
    let writer = WriterId::random()?;
    let whole_crc = crc32fast::hash(&bytes);
    let chunk = Chunk { value: writer.raw(), index: 0, count: 1, whole_crc, bytes: &bytes };
    append(plane, &marks_key(subject.filter()), &chunk.encode(), Stamp::new(writer, 1)).map(drop)
}

/// Behind which record a fold diverged, if it did. A mark that cannot be read is one of every fold.
pub(super) fn marked(plane: &dyn Backplane, subject: &Subject) -> Result<Option<Offset>> {
    let mut at = None;
    let is_damaged = read_all(plane, &marks_key(subject.filter()), &mut |record| {
        let chunk = Chunk::read(record.payload());
        match chunk.and_then(|chunk| codec::decode_bytes::<Mark>(chunk.bytes).ok()) {
            Some(mark) if (&*mark.fold, mark.version) != (subject.fold, subject.version) => {}
            mark => at = Some(Offset::from_raw(mark.map_or(0, |mark| mark.offset))),
        }
    })?;
    Ok(at.or(is_damaged.then_some(Offset::BEGINNING)))
}

/// Refuses to drop records of a topic of which a fold diverged: they are what shows why.
pub(crate) fn check_not_marked(plane: &dyn Backplane, topic: Filter<'_>) -> Result<()> {
    let key = marks_key(topic);
    if repeated(|| plane.head(Filter::topic(IMAGES_STREAM, &key)))? == Offset::BEGINNING {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Halted, format!("compact {topic}"))
        .sides("a topic of which no fold has diverged", "one of which one did: its records are kept"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backplane::InMemory;

    fn subject() -> Subject {
        Subject { fold: "total", version: 3, stream: "order".to_owned(), key: b"8812".to_vec() }
    }

    fn image(offset: u64, bytes: usize) -> Image {
        let writers = [(WriterId::from_raw(7), 3), (WriterId::from_raw(u64::MAX), 1)].into_iter().collect();
        Image {
            era: Era::from_raw(u128::MAX - 5),
            offset: Offset::from_raw(offset),
            continuity: Continuity { count: 4, writers, is_anew: true },
            value: vec![offset.to_le_bytes()[0]; bytes],
        }
    }

    #[test]
    fn images_are_found_the_newest_first_and_what_is_of_another_era_or_broken_is_counted() {
        let plane = InMemory::new();
        let (subject, era) = (subject(), image(0, 0).era);
        let mut piece_bytes = PIECE_BYTES_MIN;
        assert!(load(&plane, &subject, era).unwrap().images.is_empty());
        for (offset, bytes) in [(5, 10), (9, 3000), (7, 0)] {
            save(&plane, &subject, &image(offset, bytes), &mut piece_bytes).unwrap();
        }
        save(&plane, &subject, &Image { era: Era::from_raw(1), ..image(11, 3) }, &mut piece_bytes).unwrap();
        append(&plane, &subject.images_key(), b"no piece", Stamp::new(WriterId::from_raw(1), 1)).unwrap();
        let found = load(&plane, &subject, era).unwrap();
        assert_eq!(found.images, [image(9, 3000), image(7, 0), image(5, 10)]);
        assert_eq!((found.bad, found.of_other_eras), (1, 1));
        let other = Subject { version: 4, ..subject.clone() };
        assert!(load(&plane, &other, era).unwrap().images.is_empty());
        // An image of another subject under this one's key is none of it.
        let bytes = image(1, 1).encode(&other).unwrap();
        append_pieces(&plane, &subject.images_key(), &bytes, 100).unwrap();
        assert_eq!(load(&plane, &subject, era).unwrap().bad, 2);
    }

    #[test]
    fn an_image_that_was_cut_short_is_none_and_those_before_one_can_be_dropped() {
        let plane = InMemory::new();
        let (subject, era) = (subject(), image(0, 0).era);
        save(&plane, &subject, &image(5, 10), &mut 64).unwrap();
        let second = save(&plane, &subject, &image(6, 10), &mut 64).unwrap();
        let bytes = image(7, 500).encode(&subject).unwrap();
        let chunk =
            Chunk { value: 1, index: 0, count: 2, whole_crc: crc32fast::hash(&bytes), bytes: &bytes[..100] };
        append(&plane, &subject.images_key(), &chunk.encode(), Stamp::new(WriterId::from_raw(1), 1)).unwrap();
        assert_eq!(load(&plane, &subject, era).unwrap().images, [image(6, 10), image(5, 10)]);
        forget_before(&plane, &subject, second).unwrap();
        assert_eq!(load(&plane, &subject, era).unwrap().images, [image(6, 10)]);
    }

    #[test]
    fn a_mark_is_of_one_fold_and_keeps_the_topic() {
        let plane = InMemory::new();
        check_not_marked(&plane, subject().filter()).unwrap();
        assert_eq!(marked(&plane, &subject()).unwrap(), None);
        mark(&plane, &subject(), Offset::from_raw(5)).unwrap();
        assert_eq!(marked(&plane, &subject()).unwrap(), Some(Offset::from_raw(5)));
        assert_eq!(marked(&plane, &Subject { fold: "other", ..subject() }).unwrap(), None);
        assert_eq!(check_not_marked(&plane, subject().filter()).unwrap_err().kind(), ErrorKind::Halted);
        check_not_marked(&plane, Filter::topic("order", b"8813")).unwrap();
    }
}
