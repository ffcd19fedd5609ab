//! Images: the values of folds over topics, saved in the stream `esker.images`.
//!
//! Images of one fold over one topic are records of one key, which is made of their names, that of the topic first, so that
//! all that was derived from a topic is found where it is erased: each image is a run of
//! [pieces](crate::format::chunk), and what they come to is
//!
//! ```text
//! length of the head (u32) | head: what it is of, behind which record, the last number of each writer | value
//! ```
//!
//! The newest two are kept where the backplane compacts, whoever saved them; those of an earlier version of a fold stay, as one
//! who runs that may need them. Beside them, under a key of the topic alone, stand marks: that
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
use crate::fold::Fold;
use crate::fold::continuity::Continuity;
use crate::format::chunk::{Chunk, HEAD_BYTES, PIECES_MAX};
use crate::format::stamp::mixed;

/// A piece is never cut smaller than so.
const PIECE_BYTES_MIN: usize = 256;
/// A call whose outcome is unknown is repeated so often.
const TRIES: usize = 4;
/// A feed that ends is taken up so often, before all is read anew later.
const FEEDS_MAX: usize = 16;
/// So many images are remembered while they are read.
const IMAGES_MAX: usize = 4;
/// So many are put together at a time: where there are more, somebody ended in the middle of each.
pub(super) const OPEN_MAX: usize = 16;
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
pub(super) struct Head {
    pub(super) fold: String,
    pub(super) version: u32,
    pub(super) stream: String,
    pub(super) key: Vec<u8>,
    era: [u64; 2],
    pub(super) offset: u64,
    pub(super) count: u64,
    /// In the order in which they appended last.
    writers: Vec<(u64, u64)>,
    is_partial: bool,
    pub(super) begun_anew: u64,
}

/// What there is of a fold over a topic.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The newest first, of many a few.
    pub(super) images: Vec<Kept>,
    /// So many could not be read as what was written.
    pub(super) bad: u64,
    /// So many are of another era.
    pub(super) of_other_eras: u64,
    /// The most that one of any era says how often it was begun anew.
    pub(super) begun_anew: u64,
}

/// An image, and where it begins in the stream of images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) first: Offset,
    pub(super) image: Image,
}

impl Subject {
    /// A fold over the topic of a key.
    pub(crate) fn of<F: Fold>(stream: &str, key: &[u8]) -> Self {
        Self { fold: F::NAME, version: F::VERSION, stream: stream.to_owned(), key: key.to_vec() }
    }

    pub(super) fn filter(&self) -> Filter<'_> {
        Filter::topic(&self.stream, &self.key)
    }

    /// The key of its images. Not keyed by the store: every process has to come to the same.
    pub(super) fn images_key(&self) -> Vec<u8> {
        images_key(self.fold, self.version, &self.stream, &self.key)
    }
}

pub(super) fn images_key(fold: &str, version: u32, stream: &str, key: &[u8]) -> Vec<u8> {
    let fold = key_of(b"image", &[fold.as_bytes(), &version.to_le_bytes()]);
    [topic_prefix(Filter::topic(stream, key)), fold].concat()
}

/// The key of the marks of a topic.
pub(super) fn marks_key(topic: Filter<'_>) -> Vec<u8> {
    [topic_prefix(topic), key_of(b"marks", &[])].concat()
}

/// With what the keys of all images and marks of a topic begin.
pub(crate) fn topic_prefix(topic: Filter<'_>) -> [u8; 16] {
    key_of(b"topic", &[topic.stream.as_bytes(), topic.key.unwrap_or_default()])
}

pub(super) fn key_of(what: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut bytes = what.to_vec();
    for part in parts {
        bytes.extend((part.len() as u64).to_le_bytes());
        bytes.extend(*part);
    }
    mixed(&bytes).to_le_bytes()
}

impl Head {
    /// The head, and the value behind it; `None`: it is no image.
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (head, value) = rest.split_at_checked(length)?;
        Some((codec::decode_bytes(head).ok()?, value))
    }

    pub(super) fn era(&self) -> Era {
        Era::from_raw(u128::from(self.era[0]) | u128::from(self.era[1]) << 64)
    }
}

/// What an image says that it is of.
pub(super) struct Covers {
    pub(super) fold: String,
    pub(super) version: u32,
    pub(super) stream: String,
    pub(super) key: Vec<u8>,
    pub(super) era: Era,
    pub(super) offset: Offset,
    /// So many records.
    pub(super) count: u64,
}

impl Covers {
    /// `None`: it is no image, or none that stands where those of its fold do.
    pub(super) fn read(key: &[u8], bytes: &[u8]) -> Option<Self> {
        let (head, _) = Head::read(bytes)?;
        let (era, offset) = (head.era(), Offset::from_raw(head.offset));
        let Head { fold, version, stream, key: of, count, .. } = head;
        (images_key(&fold, version, &stream, &of) == key).then_some(Self {
            fold,
            version,
            stream,
            key: of,
            era,
            offset,
            count,
        })
    }
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
            writers: self.continuity.writers(),
            is_partial: self.continuity.is_partial,
            begun_anew: self.continuity.begun_anew,
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
        let (head, value) = Head::read(bytes)?;
        let is_of_it = head.fold == subject.fold
            && head.version == subject.version
            && head.stream == subject.stream
            && head.key == subject.key;
        let Head { count, is_partial, begun_anew, .. } = head;
        let continuity = Continuity { count, is_partial, begun_anew, ..Continuity::default() };
        is_of_it.then(|| Self {
            era: head.era(),
            offset: Offset::from_raw(head.offset),
            continuity: continuity.with_writers(&head.writers),
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
    found.bad += read_all(plane, &subject.images_key(), &mut |record| match Chunk::read(record.payload())
        .map(|chunk| pieces.take(record.offset(), chunk))
    {
        Some(Some(whole)) => found.take(plane, subject, era, whole),
        Some(None) => {}
        None => found.bad += 1,
    })?;
    found.bad += pieces.bad;
    Ok(found)
}

/// True if an image of one era counts in another: it is the same, or offsets up to its own mean the same in both.
pub(super) fn is_of(plane: &dyn Backplane, era: Era, of: Era, offset: Offset) -> bool {
    of == era || plane.shares_offsets(of, offset)
}

impl Found {
    fn take(&mut self, plane: &dyn Backplane, subject: &Subject, era: Era, whole: Whole) {
        let image = Image::read(subject, &whole.bytes);
        let begun_anew = image.as_ref().map_or(0, |image| image.continuity.begun_anew);
        self.begun_anew = self.begun_anew.max(begun_anew);
        match image {
            None => self.bad += 1,
            Some(image) if !is_of(plane, era, image.era, image.offset) => self.of_other_eras += 1,
            Some(image) => {
                self.images.push(Kept { first: whole.first, image: Image { era, ..image } });
                self.images.sort_by_key(|kept| std::cmp::Reverse((kept.image.offset, kept.first)));
                self.images.truncate(IMAGES_MAX);
            }
        }
    }
}

/// Values that are put together from their pieces.
#[derive(Default)]
pub(super) struct Pieces {
    open: BTreeMap<u64, Open>,
    bad: u64,
}

struct Open {
    first: Offset,
    pieces: BTreeMap<u32, Vec<u8>>,
}

pub(super) struct Whole {
    first: Offset,
    pub(super) bytes: Vec<u8>,
}

impl Pieces {
    pub(super) fn take(&mut self, offset: Offset, chunk: Chunk<'_>) -> Option<Whole> {
        let open =
            self.open.entry(chunk.value).or_insert_with(|| Open { first: offset, pieces: BTreeMap::new() });
        open.pieces.insert(chunk.index, chunk.bytes.to_vec());
        if open.pieces.len() as u64 != u64::from(chunk.count) {
            self.forget_some();
            return None;
        }
        let Open { first, pieces } = self.open.remove(&chunk.value)?;
        let bytes: Vec<u8> = pieces.into_values().flatten().collect();
        if crc32fast::hash(&bytes) == chunk.whole_crc {
            return Some(Whole { first, bytes });
        }
        self.bad += 1;
        None
    }

    fn forget_some(&mut self) {
        if self.open.len() > OPEN_MAX
            && let Some(oldest) = self.open.iter().min_by_key(|(_, open)| open.first).map(|(value, _)| *value)
        {
            self.open.remove(&oldest);
            self.bad += 1;
        }
    }
}

/// Hands on the records of a key of the stream of images, up to what is newest now. Answers how often damage was passed over.
pub(super) fn read_all(
    plane: &dyn Backplane,
    key: &[u8],
    each: &mut dyn FnMut(&StreamRecord),
) -> Result<u64> {
    read_filtered(plane, Filter::topic(IMAGES_STREAM, key), each)
}

/// The same of a filter.
pub(super) fn read_filtered(
    plane: &dyn Backplane,
    filter: Filter<'_>,
    each: &mut dyn FnMut(&StreamRecord),
) -> Result<u64> {
    read_behind(plane, filter, None, each)
}

/// The same of what is behind a place; `None`: of all that is left.
pub(super) fn read_behind(
    plane: &dyn Backplane,
    filter: Filter<'_>,
    from: Option<Offset>,
    each: &mut dyn FnMut(&StreamRecord),
) -> Result<u64> {
    let mut damaged = 0;
    match read_to_the_head(plane, filter, from, each, &mut damaged) {
        Err(error) if is_damage(&error) => Ok(damaged + 1),
        other => other.map(|()| damaged),
    }
}

fn read_to_the_head(
    plane: &dyn Backplane,
    filter: Filter<'_>,
    from: Option<Offset>,
    each: &mut dyn FnMut(&StreamRecord),
    damaged: &mut u64,
) -> Result<()> {
    let head = match repeated(|| plane.head(filter)) {
        Ok(Offset::BEGINNING) => return Ok(()),
        Ok(head) => Some(head),
        // The newest is damaged: those before it count.
        Err(error) if is_damage(&error) => None,
        Err(error) => return Err(error),
    };
    let begin = || from.map_or_else(|| plane.subscribe_oldest(filter), |from| plane.subscribe(filter, from));
    let mut feed = repeated(begin)?;
    let mut last = feed.position();
    let mut tries = FEEDS_MAX;
    while head.is_none_or(|head| last < head) {
        let record = match (feed.next_timeout(PATIENCE), head) {
            (Ok(Some(record)), _) => record,
            (Ok(None), head) => return Err(does_not_come(filter, last, head.unwrap_or(last))),
            (Err(error), Some(head)) if is_damage(&error) => {
                *damaged += 1;
                last = behind_damage(plane, filter, last, head)?;
                feed = repeated(|| plane.subscribe(filter, last))?;
                continue;
            }
            (Err(error), _) if error.kind() == ErrorKind::Disconnected && tries > 0 => {
                tries -= 1;
                feed = repeated(|| plane.subscribe(filter, last))?;
                continue;
            }
            (Err(error), _) => return Err(error),
        };
        if record.offset() > last && filter.matches(record.key()) {
            last = record.offset();
            each(&record);
        }
    }
    Ok(())
}

fn does_not_come(filter: Filter<'_>, last: Offset, head: Offset) -> Error {
    Error::new(ErrorKind::Disconnected, format!("read {filter}"))
        .sides(format!("records up to {head}"), format!("none behind {last}"))
}

/// A place behind which the next record can be read, where the one behind `from` cannot, with damage right before it. Not every
/// backplane says where that is, so it is looked for.
fn behind_damage(plane: &dyn Backplane, filter: Filter<'_>, from: Offset, head: Offset) -> Result<Offset> {
    let (mut damaged, mut good) = (from.raw(), head.raw());
    while damaged + 1 < good {
        let middle = damaged.midpoint(good);
        let mut feed = repeated(|| plane.subscribe(filter, Offset::from_raw(middle)))?;
        match feed.next_timeout(PATIENCE) {
            Ok(Some(_)) => good = middle,
            Ok(None) => return Err(does_not_come(filter, feed.position(), head)),
            Err(error) if is_damage(&error) => damaged = middle,
            Err(error) => return Err(error),
        }
    }
    Ok(Offset::from_raw(good))
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

/// Appends a value that is one piece.
pub(super) fn append_whole(plane: &dyn Backplane, key: &[u8], bytes: &[u8]) -> Result<()> {
    let writer = WriterId::random()?;
    let whole_crc = crc32fast::hash(bytes);
    let chunk = Chunk { value: writer.raw(), index: 0, count: 1, whole_crc, bytes };
    append(plane, key, &chunk.encode(), Stamp::new(writer, 1)).map(drop)
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

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a panic is a failed test")]
mod tests {
    use super::*;
    use crate::backplane::InMemory;

    fn subject() -> Subject {
        Subject { fold: "total", version: 3, stream: "order".to_owned(), key: b"8812".to_vec() }
    }

    fn image(offset: u64, bytes: usize) -> Image {
        let known = Continuity { count: 4, is_partial: true, begun_anew: 2, ..Continuity::default() };
        Image {
            era: Era::from_raw(u128::MAX - 5),
            offset: Offset::from_raw(offset),
            continuity: known.with_writers(&[(u64::MAX, 1), (7, 3)]),
            value: vec![offset.to_le_bytes()[0]; bytes],
        }
    }

    fn images(plane: &dyn Backplane, subject: &Subject, era: Era) -> Vec<Image> {
        load(plane, subject, era).unwrap().images.into_iter().map(|kept| kept.image).collect()
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
        assert_eq!(images(&plane, &subject, era), [image(9, 3000), image(7, 0), image(5, 10)]);
        assert_eq!((found.bad, found.of_other_eras), (1, 1));
        let other = Subject { version: 4, ..subject.clone() };
        assert!(load(&plane, &other, era).unwrap().images.is_empty());
        // An image of another subject under this one's key is none of it.
        let bytes = image(1, 1).encode(&other).unwrap();
        append_pieces(&plane, &subject.images_key(), &bytes, 100).unwrap();
        assert_eq!(load(&plane, &subject, era).unwrap().bad, 2);
    }

    #[test]
    fn an_image_is_written_as_it_was_before_and_found_by_what_it_is_of() {
        let bytes = image(5, 3).encode(&subject()).unwrap();
        let shown: String = bytes.iter().flat_map(|byte| byte.escape_ascii()).map(char::from).collect();
        let expected = [
            r"\x80\x00\x00\x00\x8a\xa4fold\xa5total\xa7version\x03\xa6stream\xa5order\xa3key\x948812",
            r"\xa3era\x92\xcf\xff\xff\xff\xff\xff\xff\xff\xfa\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
            r"\xa6offset\x05\xa5count\x04\xa7writers\x92\x92\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x01\x92\x07\x03",
            r"\xaais_partial\xc3\xaabegun_anew\x02\x05\x05\x05",
        ];
        assert_eq!(shown, expected.concat());
        let covers = Covers::read(&subject().images_key(), &bytes).unwrap();
        let found = (&*covers.fold, covers.version, &*covers.stream, &*covers.key);
        assert_eq!(found, ("total", 3, "order", &b"8812"[..]));
        assert_eq!((covers.era, covers.offset), (image(5, 3).era, Offset::from_raw(5)));
        assert!(Covers::read(&marks_key(subject().filter()), &bytes).is_none(), "it stands elsewhere");
        assert!(
            (0..bytes.len() - 3).all(|cut| Covers::read(&subject().images_key(), &bytes[..cut]).is_none())
        );
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
        assert_eq!(images(&plane, &subject, era), [image(6, 10), image(5, 10)]);
        let found = load(&plane, &subject, era).unwrap();
        assert_eq!(found.images[0].first, second, "it is told where it begins");
        forget_before(&plane, &subject, second).unwrap();
        assert_eq!(images(&plane, &subject, era), [image(6, 10)]);
    }

    #[test]
    fn pieces_that_are_whole_and_come_to_another_value_are_no_image() {
        let plane = InMemory::new();
        let (subject, era) = (subject(), image(0, 0).era);
        let bytes = image(7, 500).encode(&subject).unwrap();
        for (index, piece) in (0..).zip(bytes.chunks(bytes.len().div_ceil(2))) {
            let chunk =
                Chunk { value: 1, index, count: 2, whole_crc: !crc32fast::hash(&bytes), bytes: piece };
            let stamp = Stamp::new(WriterId::from_raw(1), u64::from(index) + 1);
            append(&plane, &subject.images_key(), &chunk.encode(), stamp).unwrap();
        }
        let found = load(&plane, &subject, era).unwrap();
        assert_eq!((found.images, found.bad), (vec![], 1));
    }

    #[test]
    fn of_many_images_the_newest_are_remembered_and_of_many_that_were_cut_short_the_last() {
        let plane = InMemory::new();
        let (subject, era) = (subject(), image(0, 0).era);
        let key = subject.images_key();
        for offset in 1..=30 {
            save(&plane, &subject, &image(offset, 10), &mut PIECE_BYTES.clone()).unwrap();
            let chunk = Chunk { value: offset, index: 0, count: 2, whole_crc: 0, bytes: b"cut" };
            append(&plane, &key, &chunk.encode(), Stamp::new(WriterId::from_raw(offset), 1)).unwrap();
        }
        let found = load(&plane, &subject, era).unwrap();
        assert!(found.images.iter().map(|kept| kept.image.offset.raw()).eq([30, 29, 28, 27]));
        assert_eq!(found.bad, 30 - OPEN_MAX as u64);
    }
}
