//! The index of one segment: a derived file. Any doubt about it means: rebuild it.
//!
//! ```text
//! header    number: the segment's; salt: the segment's
//!           words: end (bytes of the segment covered) | first Seq | frames | entities |
//!                  kinds | system | keyed | last life and checksum of the body
//! offsets   u32 a user frame, by Seq: its place in units of eight bytes; 0: lost
//! members   u32 a user frame: the frames of one entity, one entity after the other, by ordinal
//! entities  40 bytes each, by hash: hash 16 | first generation 8 | start in members 4 |
//!           count 4 | the segment that holds the frame before the first 4 | kind + 1: 4, 0: not said
//! kinds     8 bytes each: kind 2 | reserved 2 | frames 4
//! system    u32 each: the places of the kind frames, the preamble's included
//! keyed     40 bytes each: key 16 | first ordinal 4 | frames 4 | digest 8 | time 8
//! ```
//!
//! Of a part, whose Seqs have gaps, it says two things otherwise:
//!
//! ```text
//! entities  first generation: such that the last one is right; the one before: 0
//! keyed     the place of the answer 4 in units of eight bytes, instead of the first ordinal
//! seqs      u64 a user frame, by ordinal
//! ```

use std::ops::Range;

use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Error, Result};
use crate::format::checksum;
use crate::format::header::{FileHeader, FileType, HEADER_BYTES};
use crate::format::segment::number_before;
use crate::id::{FRAME_ALIGN, IdempotencyKey, Life, PART, SEQ_MAX, StoreId};

/// The 128-bit keyed hash of a kind and a key.
pub(crate) type EntityHash = u128;

/// One entity's frames in one segment.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct EntityRecord {
    hash: [u8; 16],
    first_generation: U64,
    start: U32,
    count: U32,
    previous_segment: U32,
    kind_and_one: U32,
}

impl EntityRecord {
    pub(crate) fn new(
        (kind, hash): (u16, EntityHash),
        first_generation: u64,
        start: u32,
        count: u32,
        previous: u32,
    ) -> Self {
        Self {
            hash: hash.to_le_bytes(),
            first_generation: U64::new(first_generation),
            start: U32::new(start),
            count: U32::new(count),
            previous_segment: U32::new(previous),
            kind_and_one: U32::new(u32::from(kind) + 1),
        }
    }

    /// False for an entity of another kind. Indexes of the first versions do not say of which kind theirs are.
    pub(crate) fn may_be_of(&self, kind: u16) -> bool {
        let said = self.kind_and_one.get();
        said == 0 || said == u32::from(kind) + 1
    }

    /// As the first versions wrote it.
    pub(crate) fn leave_kind_unsaid(&mut self) {
        self.kind_and_one.set(0);
    }

    pub(crate) fn hash(&self) -> EntityHash {
        EntityHash::from_le_bytes(self.hash)
    }

    /// The generation of the last one.
    pub(crate) fn last_generation(&self) -> u64 {
        self.first_generation.get().saturating_add(u64::from(self.count.get()).saturating_sub(1))
    }

    /// The segment with the entity's frame before these; 0: there is none.
    pub(crate) fn previous_segment(&self) -> u32 {
        self.previous_segment.get()
    }

    pub(crate) fn set_previous_segment(&mut self, previous: u32) {
        self.previous_segment.set(previous);
    }

    pub(crate) fn start(&self) -> u32 {
        self.start.get()
    }

    pub(crate) fn count(&self) -> u32 {
        self.count.get()
    }

    /// Its frames stand there among the members.
    pub(crate) fn set_place(&mut self, start: u32, count: u32) {
        self.start.set(start);
        self.count.set(count);
    }
}

/// How many frames of a kind a segment holds.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct KindCount {
    pub(crate) kind: U16,
    reserved: U16,
    pub(crate) frames: U32,
}

impl KindCount {
    pub(crate) fn new(kind: u16, frames: u32) -> Self {
        Self { kind: U16::new(kind), reserved: U16::ZERO, frames: U32::new(frames) }
    }
}

/// A batch that was given an idempotency key.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct KeyedRecord {
    key: [u8; 16],
    ordinal: U32,
    frames: U32,
    digest: U64,
    time: I64,
}

/// As [`KeyedRecord`], with the Seq of the first frame in place of its ordinal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keyed {
    pub(crate) key: IdempotencyKey,
    pub(crate) first_seq: u64,
    pub(crate) frames: u32,
    pub(crate) digest: u64,
    pub(crate) time: i64,
}

/// The parts of an index that is to be written.
#[derive(Debug, Default)]
pub(crate) struct IndexParts {
    pub(crate) number: u32,
    pub(crate) salt: u64,
    /// The bytes of the segment that this index covers.
    pub(crate) end: u64,
    pub(crate) first_seq: u64,
    pub(crate) last_life: Option<Life>,
    pub(crate) offsets: Vec<u32>,
    pub(crate) members: Vec<u32>,
    /// By hash.
    pub(crate) entities: Vec<EntityRecord>,
    pub(crate) kinds: Vec<KindCount>,
    pub(crate) system: Vec<u32>,
    pub(crate) keyed: Vec<Keyed>,
    /// Of a part: the answers to keyed batches, and the Seq of each user frame.
    pub(crate) answers: Vec<(Keyed, u32)>,
    pub(crate) seqs: Vec<u64>,
}

/// Where each part lies in the file, from the counts in the header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) end: u64,
    pub(crate) first_seq: u64,
    pub(crate) frames: usize,
    pub(crate) last_life: Life,
    /// It is of a part.
    pub(crate) is_of_part: bool,
    offsets: usize,
    members: usize,
    entities: usize,
    kinds: usize,
    system: usize,
    keyed: usize,
    seqs: usize,
    total: usize,
}

const END: usize = 0;
const FIRST_SEQ: usize = 1;
const FRAMES: usize = 2;
const ENTITIES: usize = 3;
const KINDS: usize = 4;
const SYSTEM: usize = 5;
const KEYED: usize = 6;
pub(crate) const LIFE_AND_CRC: usize = 7;

impl IndexParts {
    pub(crate) fn encode(&self, store: StoreId) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_bytes());
        // The header comes last, for it knows the checksum of the rest.
        bytes.resize(HEADER_BYTES, 0);
        self.put_body(&mut |part| bytes.extend_from_slice(part));
        let crc = checksum::crc(&[bytes.get(HEADER_BYTES..).unwrap_or_default()]);
        if let Some(head) = bytes.get_mut(..HEADER_BYTES) {
            head.copy_from_slice(self.header(store, crc).as_bytes());
        }
        debug_assert_eq!(bytes.len(), self.encoded_bytes(), "what is put is what was counted");
        bytes
    }

    /// All that stands behind the header, part by part.
    pub(crate) fn put_body(&self, put: &mut impl FnMut(&[u8])) {
        put_words(put, &self.offsets);
        put_words(put, &self.members);
        put(self.entities.as_bytes());
        put(self.kinds.as_bytes());
        put_words(put, &self.system);
        let ordinal =
            |keyed: &Keyed| u32::try_from(keyed.first_seq.saturating_sub(self.first_seq)).unwrap_or(u32::MAX);
        let keyed = self.keyed.iter().map(|keyed| (*keyed, ordinal(keyed)));
        for (keyed, at) in keyed.chain(self.answers.iter().copied()) {
            let record = KeyedRecord {
                key: keyed.key.0,
                ordinal: U32::new(at),
                frames: U32::new(keyed.frames),
                digest: U64::new(keyed.digest),
                time: I64::new(keyed.time),
            };
            put(record.as_bytes());
        }
        self.seqs.iter().for_each(|seq| put(&seq.to_le_bytes()));
    }

    /// The header in front of a body with this checksum.
    pub(crate) fn header(&self, store: StoreId, body_crc: u32) -> FileHeader {
        let life = u64::from(self.last_life.map_or(0, |life| life.0));
        let words = [
            self.end,
            self.first_seq,
            self.offsets.len() as u64,
            self.entities.len() as u64,
            self.kinds.len() as u64,
            self.system.len() as u64,
            (self.keyed.len() + self.answers.len()) as u64,
            life << 32 | u64::from(body_crc),
        ];
        FileHeader::new(FileType::Index, store, u64::from(self.number), self.salt, words)
    }

    fn encoded_bytes(&self) -> usize {
        let words = self.offsets.len() + self.members.len() + self.system.len();
        HEADER_BYTES
            + words * size_of::<u32>()
            + size_of_val(&*self.entities)
            + size_of_val(&*self.kinds)
            + (self.keyed.len() + self.answers.len()) * size_of::<KeyedRecord>()
            + size_of_val(&*self.seqs)
    }
}

fn put_words(put: &mut impl FnMut(&[u8]), words: &[u32]) {
    if cfg!(target_endian = "little") {
        put(words.as_bytes());
    } else {
        words.iter().for_each(|word| put(&word.to_le_bytes()));
    }
}

impl Layout {
    /// Reads the header of a whole index file, and checks it and the body.
    ///
    /// # Errors
    ///
    /// `Corrupt` for anything that does not fit the segment (`number`, `salt`) or itself.
    pub(crate) fn read(bytes: &[u8], store: StoreId, number: u32, salt: u64) -> Result<Self> {
        let (layout, expected) = Self::of_header(bytes, bytes.len(), store, number, salt)?;
        let crc = checksum::crc(&[bytes.get(HEADER_BYTES..).unwrap_or_default()]);
        if expected != crc {
            return Err(Error::corrupt("read an index: checksum of the body"));
        }
        Ok(layout)
    }

    /// As [`read`](Self::read), from the header of a file of so many bytes. The body is not looked at; what its
    /// checksum should be comes with the answer.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub(crate) fn of_header(
        head: &[u8],
        length: usize,
        store: StoreId,
        number: u32,
        salt: u64,
    ) -> Result<(Self, u32)> {
        let header = FileHeader::read_of(head, FileType::Index, store)?;
        let bad = |what: &str| Error::corrupt(format!("read an index: {what}"));
        if header.number.get() != u64::from(number) || header.salt.get() != salt {
            return Err(bad("of another segment").sides(number, header.number));
        }
        let layout = Self::from_counts(&header, number & PART != 0).ok_or_else(|| bad("counts overflow"))?;
        if layout.total != length {
            return Err(bad("length").sides(layout.total, length));
        }
        let crc = u32::try_from(header.word(LIFE_AND_CRC) & u64::from(u32::MAX)).unwrap_or_default();
        Ok((layout, crc))
    }

    fn from_counts(header: &FileHeader, is_part: bool) -> Option<Self> {
        let count = |word: usize| usize::try_from(header.word(word)).ok();
        let part = |start: usize, count: usize, width: usize| start.checked_add(count.checked_mul(width)?);
        let frames = count(FRAMES)?;
        let offsets = HEADER_BYTES;
        let members = part(offsets, frames, 4)?;
        let entities = part(members, frames, 4)?;
        let kinds = part(entities, count(ENTITIES)?, size_of::<EntityRecord>())?;
        let system = part(kinds, count(KINDS)?, size_of::<KindCount>())?;
        let keyed = part(system, count(SYSTEM)?, 4)?;
        let seqs = part(keyed, count(KEYED)?, size_of::<KeyedRecord>())?;
        let total = part(seqs, if is_part { frames } else { 0 }, size_of::<U64>())?;
        let last_life = Life(u32::try_from(header.word(LIFE_AND_CRC) >> 32).ok()?);
        let (end, first_seq) = (header.word(END), header.word(FIRST_SEQ));
        // Whatever is counted from here stays far from the end of a u64.
        if frames > u32::MAX as usize || first_seq.checked_add(frames as u64)? > SEQ_MAX + 1 {
            return None;
        }
        Some(Self {
            end,
            first_seq,
            frames,
            last_life,
            is_of_part: is_part,
            offsets,
            members,
            entities,
            kinds,
            system,
            keyed,
            seqs,
            total,
        })
    }

    /// Where in the file the entities stand.
    pub(crate) fn entities_place(&self) -> Range<usize> {
        self.entities..self.kinds
    }

    /// Where in the file the counts of the kinds stand.
    pub(crate) fn kinds_place(&self) -> Range<usize> {
        self.kinds..self.system
    }

    /// Where in the file the place of a user frame stands.
    pub(crate) fn offset_at(&self, ordinal: u32) -> usize {
        self.offsets.saturating_add((ordinal as usize).saturating_mul(size_of::<U32>()))
    }

    pub(crate) fn offsets<'a>(&self, bytes: &'a [u8]) -> &'a [U32] {
        slice_of(bytes, self.offsets, self.members)
    }

    fn members<'a>(&self, bytes: &'a [u8]) -> &'a [U32] {
        slice_of(bytes, self.members, self.entities)
    }

    /// Lost frames stand behind all members, as those of nobody.
    pub(crate) fn has_lost(&self, bytes: &[u8]) -> bool {
        self.members(bytes).last().is_some_and(|last| last.get() == u32::MAX)
    }

    pub(crate) fn entities<'a>(&self, bytes: &'a [u8]) -> &'a [EntityRecord] {
        slice_of(bytes, self.entities, self.kinds)
    }

    pub(crate) fn kinds<'a>(&self, bytes: &'a [u8]) -> &'a [KindCount] {
        slice_of(bytes, self.kinds, self.system)
    }

    pub(crate) fn system<'a>(&self, bytes: &'a [u8]) -> &'a [U32] {
        slice_of(bytes, self.system, self.keyed)
    }

    /// Of a part: the Seq of each user frame.
    pub(crate) fn seqs<'a>(&self, bytes: &'a [u8]) -> &'a [U64] {
        slice_of(bytes, self.seqs, self.total)
    }

    /// Of a part: where the answer to a keyed batch stands.
    pub(crate) fn answer(&self, bytes: &[u8], key: &IdempotencyKey, digest: u64) -> Option<u64> {
        let records: &[KeyedRecord] = slice_of(bytes, self.keyed, self.seqs);
        let found = records.iter().find(|record| record.key == key.0 && record.digest.get() == digest)?;
        Some(u64::from(found.ordinal.get()) * FRAME_ALIGN)
    }

    /// Of a part: the places of all answers.
    pub(crate) fn answers<'a>(&self, bytes: &'a [u8]) -> impl Iterator<Item = u64> + use<'a> {
        let records: &[KeyedRecord] = slice_of(bytes, self.keyed, self.seqs);
        records.iter().map(|record| u64::from(record.ordinal.get()) * FRAME_ALIGN)
    }

    pub(crate) fn keyed(&self, bytes: &[u8]) -> Vec<Keyed> {
        let records: &[KeyedRecord] = slice_of(bytes, self.keyed, self.seqs);
        let keyed = |record: &KeyedRecord| Keyed {
            key: IdempotencyKey(record.key),
            first_seq: self.first_seq + u64::from(record.ordinal.get()),
            frames: record.frames.get(),
            digest: record.digest.get(),
            time: record.time.get(),
        };
        records.iter().map(keyed).collect()
    }

    /// The frames of one entity, as ordinals in the order of their generations.
    pub(crate) fn members_of<'a>(&self, bytes: &'a [u8], record: &EntityRecord) -> &'a [U32] {
        let start = record.start.get() as usize;
        let end = start.saturating_add(record.count.get() as usize);
        self.members(bytes).get(start..end).unwrap_or_default()
    }

    pub(crate) fn find<'a>(&self, bytes: &'a [u8], hash: EntityHash) -> Option<&'a EntityRecord> {
        let entities = self.entities(bytes);
        let at = entities.binary_search_by_key(&hash, EntityRecord::hash).ok()?;
        entities.get(at)
    }
}

fn slice_of<T: FromBytes + Immutable + KnownLayout>(bytes: &[u8], start: usize, end: usize) -> &[T] {
    bytes.get(start..end).and_then(|part| <[T]>::ref_from_bytes(part).ok()).unwrap_or_default()
}

/// The name of the index file of a segment, or of a part.
pub(crate) fn file_name(number: u32) -> String {
    match number & PART {
        0 => format!("{number:010}.idx"),
        _ => format!("{:010}.snap.idx", number & !PART),
    }
}

/// The number in the name of a segment's index file.
pub(crate) fn number_of(name: &str) -> Option<u32> {
    number_before(name, ".idx")
}

/// The number in the name of a part's index file, with the bit that says so.
pub(crate) fn part_number_of(name: &str) -> Option<u32> {
    number_before(name, ".snap.idx").map(|number| number | PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId([7; 16]);

    fn parts(number: u32) -> IndexParts {
        let record = |hash: u128, start, count| EntityRecord::new((7, hash << 100), 4, start, count, 2);
        let keyed = Keyed { key: IdempotencyKey([3; 16]), first_seq: 12, frames: 2, digest: 5, time: -1 };
        let other = Keyed { key: IdempotencyKey([4; 16]), ..keyed };
        let is_part = number & PART != 0;
        IndexParts {
            number,
            salt: 9,
            end: 640,
            first_seq: 10,
            last_life: Some(Life(0x8000_0001)),
            offsets: vec![16, 24, 40],
            members: vec![0, 2, 1],
            entities: vec![record(1, 0, 2), record(2, 2, 1)],
            kinds: vec![KindCount::new(7, 3)],
            system: vec![64, 72],
            keyed: if is_part { vec![] } else { vec![keyed, other] },
            answers: if is_part { vec![(keyed, 11), (other, 13)] } else { vec![] },
            seqs: if is_part { vec![10, 12, 90] } else { vec![] },
        }
    }

    fn words(numbers: &[U32]) -> Vec<u32> {
        numbers.iter().map(|number| number.get()).collect()
    }

    #[test]
    fn the_index_of_a_segment_gives_back_what_was_written() {
        let bytes = parts(5).encode(STORE);
        let layout = Layout::read(&bytes, STORE, 5, 9).unwrap();
        assert_eq!((layout.end, layout.first_seq, layout.frames, layout.is_of_part), (640, 10, 3, false));
        assert_eq!(layout.last_life, Life(0x8000_0001));
        assert_eq!(words(layout.offsets(&bytes)), [16, 24, 40]);
        assert_eq!(bytes[layout.offset_at(2)..][..4], [40, 0, 0, 0]);
        assert_eq!(words(layout.system(&bytes)), [64, 72]);
        let kinds: Vec<_> =
            layout.kinds(&bytes).iter().map(|count| (count.kind.get(), count.frames.get())).collect();
        assert_eq!(kinds, [(7, 3)]);
        assert_eq!(&bytes[layout.kinds_place()], parts(5).kinds.as_bytes());
        let record = layout.find(&bytes, 1 << 100).unwrap();
        assert_eq!((record.last_generation(), record.previous_segment()), (5, 2));
        assert_eq!(words(layout.members_of(&bytes, record)), [0, 2]);
        assert_eq!(words(layout.members_of(&bytes, layout.find(&bytes, 2 << 100).unwrap())), [1]);
        assert!(layout.find(&bytes, 3).is_none());
        assert_eq!(layout.keyed(&bytes), parts(5).keyed);
        assert!(layout.seqs(&bytes).is_empty());
    }

    #[test]
    fn the_index_of_a_part_has_seqs_and_the_places_of_answers() {
        let number = PART | 5;
        let bytes = parts(number).encode(STORE);
        let layout = Layout::read(&bytes, STORE, number, 9).unwrap();
        assert!(layout.is_of_part);
        assert!(layout.seqs(&bytes).iter().map(|seq| seq.get()).eq([10, 12, 90]));
        assert!(layout.answers(&bytes).eq([11 * 8, 13 * 8]));
        assert_eq!(layout.answer(&bytes, &IdempotencyKey([4; 16]), 5), Some(13 * 8));
        assert_eq!(layout.answer(&bytes, &IdempotencyKey([4; 16]), 6), None, "another batch");
        assert_eq!(layout.answer(&bytes, &IdempotencyKey([5; 16]), 5), None);
    }

    #[test]
    fn an_index_that_is_another_s_or_damaged_is_refused() {
        let bytes = parts(5).encode(STORE);
        assert!(Layout::read(&bytes, StoreId([8; 16]), 5, 9).is_err());
        assert!(Layout::read(&bytes, STORE, 6, 9).is_err() && Layout::read(&bytes, STORE, 5, 8).is_err());
        assert!((0..bytes.len()).all(|cut| Layout::read(&bytes[..cut], STORE, 5, 9).is_err()));
        for at in (0..bytes.len()).step_by(if cfg!(miri) { 7 } else { 1 }) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Layout::read(&damaged, STORE, 5, 9).is_err(), "byte {at}");
        }
    }

    #[test]
    fn counts_that_could_overflow_are_refused() {
        let of = |first_seq: u64, frames: u64| {
            let header =
                FileHeader::new(FileType::Index, STORE, 5, 9, [640, first_seq, frames, 0, 0, 0, 0, 0]);
            let length = usize::try_from(frames)
                .ok()
                .and_then(|frames| frames.checked_mul(8)?.checked_add(HEADER_BYTES));
            length.is_some_and(|length| Layout::of_header(header.as_bytes(), length, STORE, 5, 9).is_ok())
        };
        let most = u64::from(u32::MAX);
        // In 32 bits there is no file that long.
        assert!((of(1, most) || usize::BITS == 32) && !of(1, most + 1));
        assert!(of(SEQ_MAX, 1) && !of(SEQ_MAX, 2) && !of(u64::MAX, 1));
    }

    #[test]
    fn names_of_indexes_say_whose_they_are_and_no_other_name_does() {
        let name = file_name(42);
        assert_eq!(
            (name.as_str(), number_of(&name), part_number_of(&name)),
            ("0000000042.idx", Some(42), None)
        );
        let name = file_name(PART | 42);
        assert_eq!((name.as_str(), number_of(&name)), ("0000000042.snap.idx", None));
        assert_eq!(part_number_of(&name), Some(PART | 42));
        assert_eq!((number_of("0000000042.seg"), part_number_of("0000000042.snap")), (None, None));
    }
}
