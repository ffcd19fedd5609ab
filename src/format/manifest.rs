//! The manifest: what belongs to the store as a whole. Replaced atomically, never changed.
//!
//! Word 0 is the era, word 1 the time the store was made, word 2 the length of the sections
//! behind the header, word 3 their checksum. Sections (`id: u32, length: u32, bytes`) say where a
//! backup ends, what compaction has made of the log, of which eras it was copied, and what repairs could not save; one that is not known is kept when the
//! manifest is written anew.

use zerocopy::IntoBytes;

use crate::error::{Error, Result};
use crate::format::checksum;
use crate::format::compacted::Compacted;
use crate::format::cursor::CursorState;
use crate::format::header::{BACKUP, COMPACTED, FileHeader, FileType, HEADER_BYTES};
use crate::format::lost::LostRange;
use crate::id::{Position, StoreId};

pub(crate) const FILE_NAME: &str = "MANIFEST";
/// A manifest is read whole; anything longer is not one.
pub(crate) const BYTES_MAX: usize = 16 << 20;

/// What the manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) store: StoreId,
    pub(crate) era: u64,
    pub(crate) created: i64,
    /// What compaction has made of the log.
    pub(crate) compacted: Compacted,
    /// Cursors that moved while the log could not grow.
    pub(crate) table: CursorTable,
    /// Of which eras the log was copied, the oldest first.
    pub(crate) ancestors: Vec<Ancestor>,
    /// What repairs could not save.
    pub(crate) lost: Vec<LostRange>,
    /// Those that this build does not know.
    pub(crate) sections: Vec<u8>,
    /// True where a newer build put something into the store that this one must not write beside.
    pub(crate) read_only: bool,
    /// A backup ends here: nobody writes it before it is restored.
    pub(crate) backup: Option<BackupEnd>,
    /// The features that were in use, also those that this build does not know.
    pub(crate) features: (u32, u32),
}

/// Where a backup ends. What is found in it must end there too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BackupEnd {
    pub(crate) position: Position,
    pub(crate) last_seq: u64,
}

/// The section that says where a backup ends: id, length, position, last Seq.
const BACKUP_SECTION: [u8; 8] = [1, 0, 0, 0, 16, 0, 0, 0];

impl BackupEnd {
    const BYTES: usize = 24;

    fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let words = [self.position.word().to_le_bytes(), self.last_seq.to_le_bytes()];
        for (space, part) in bytes.chunks_exact_mut(8).zip(std::iter::once(BACKUP_SECTION).chain(words)) {
            space.copy_from_slice(&part);
        }
        bytes
    }

    fn read(sections: &[u8]) -> Option<Self> {
        let rest = sections.strip_prefix(&BACKUP_SECTION)?;
        let word = |at: usize| Some(u64::from_le_bytes(rest.get(at..at + 8)?.try_into().ok()?));
        Some(Self { position: Position::from_word(word(0)?), last_seq: word(8)? })
    }
}

/// The id of the section that says what was compacted.
const COMPACTED_SECTION: u32 = 2;

/// The id of the section with the cursors that moved while the log could not grow.
const CURSORS_SECTION: u32 = 3;

/// The id of the section with the eras of which the log was copied.
const ANCESTORS_SECTION: u32 = 4;

/// The id of the section with what repairs could not save.
const LOST_SECTION: u32 = 5;

/// An era of which the log was copied. Up to a Seq each number means what it meant there, or nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ancestor {
    pub(crate) era: u64,
    pub(crate) through: u64,
}

impl Ancestor {
    fn encode(self) -> Vec<u8> {
        [self.era, self.through].iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn read_all(bytes: &[u8]) -> Option<Vec<Self>> {
        let (words, rest) = bytes.as_chunks::<8>();
        let (pairs, odd) = words.as_chunks::<2>();
        let read = |[era, through]: &[[u8; 8]; 2]| Self {
            era: u64::from_le_bytes(*era),
            through: u64::from_le_bytes(*through),
        };
        (rest.is_empty() && odd.is_empty()).then(|| pairs.iter().map(read).collect())
    }
}

fn push_section(sections: &mut Vec<u8>, id: u32, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    for word in [id, length] {
        sections.extend_from_slice(&word.to_le_bytes());
    }
    sections.extend_from_slice(bytes);
}

/// Cursors that moved while the log could not grow, and where it ended then: what the next segment's
/// preamble restates is newer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CursorTable {
    pub(crate) at: Position,
    pub(crate) cursors: Vec<CursorState>,
}

impl CursorTable {
    /// True if no preamble has restated it: the last one begins this segment.
    pub(crate) fn is_news(&self, preamble_at: u32) -> bool {
        !self.cursors.is_empty() && preamble_at <= self.at.segment()
    }

    /// The position, and each cursor behind its length.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = self.at.word().to_le_bytes().to_vec();
        for cursor in &self.cursors {
            let cursor = cursor.encode();
            bytes.extend_from_slice(&u32::try_from(cursor.len()).unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend_from_slice(&cursor);
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (at, mut rest) = bytes.split_first_chunk::<8>()?;
        let mut table = Self { at: Position::from_word(u64::from_le_bytes(*at)), cursors: Vec::new() };
        while let Some((length, behind)) = rest.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            let (cursor, behind) = behind.split_at_checked(length)?;
            table.cursors.push(CursorState::read(cursor)?);
            rest = behind;
        }
        rest.is_empty().then_some(table)
    }
}

/// A section of this id at the start of the row: what it holds, and what follows it.
fn take_section(sections: &[u8], id: u32) -> Option<(&[u8], &[u8])> {
    let (head, rest) = sections.split_first_chunk::<8>()?;
    let (own, length) = head.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length.first_chunk::<4>()?);
    let is_it = u32::from_le_bytes(*own) == id;
    rest.split_at_checked(usize::try_from(length).ok()?).filter(|_| is_it)
}

/// The header's word with the checksum of the sections.
pub(crate) const SECTIONS_CRC: usize = 3;

impl Manifest {
    /// The ancestors of a log that is copied from this one up to a Seq.
    pub(crate) fn ancestors_of_copy(&self, through: u64) -> Vec<Ancestor> {
        self.ancestors.iter().copied().chain([Ancestor { era: self.era, through }]).collect()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // First in the row, and only there.
        let mut sections = self.backup.map_or_else(Vec::new, |end| end.encode().to_vec());
        if !self.compacted.is_empty() {
            push_section(&mut sections, COMPACTED_SECTION, &self.compacted.encode());
        }
        if !self.table.cursors.is_empty() {
            push_section(&mut sections, CURSORS_SECTION, &self.table.encode());
        }
        if !self.ancestors.is_empty() {
            let ancestors: Vec<u8> = self.ancestors.iter().flat_map(|ancestor| ancestor.encode()).collect();
            push_section(&mut sections, ANCESTORS_SECTION, &ancestors);
        }
        if !self.lost.is_empty() {
            let lost: Vec<u8> = self.lost.iter().flat_map(|range| range.encode()).collect();
            push_section(&mut sections, LOST_SECTION, &lost);
        }
        sections.extend_from_slice(&self.sections);
        let crc = u64::from(checksum::crc(&[&sections]));
        let words = [self.era, self.created.cast_unsigned(), sections.len() as u64, crc, 0, 0, 0, 0];
        let header = FileHeader::new(FileType::Manifest, self.store, 0, 0, words)
            .with_features(self.features.0, self.features.1 | if self.backup.is_some() { BACKUP } else { 0 })
            .with_incompatible(if self.compacted.is_empty() { 0 } else { COMPACTED });
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(&sections);
        bytes
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Self> {
        let header = FileHeader::read(bytes, FileType::Manifest)?;
        let sections = bytes.get(HEADER_BYTES..).unwrap_or_default();
        let sides = (header.word(2), sections.len() as u64);
        if sides.0 != sides.1 {
            return Err(Error::corrupt("read the manifest's sections").sides(sides.0, sides.1));
        }
        let crc = u64::from(checksum::crc(&[sections]));
        if header.word(SECTIONS_CRC) != crc {
            return Err(Error::corrupt("check the manifest's sections").sides(header.word(SECTIONS_CRC), crc));
        }
        let backup = if header.has_read_only(BACKUP) {
            let end = BackupEnd::read(sections);
            Some(end.ok_or_else(|| Error::corrupt("read where a backup ends"))?)
        } else {
            None
        };
        let known = if backup.is_some() { BackupEnd::BYTES } else { 0 };
        let mut sections = sections.get(known..).unwrap_or_default();
        let mut compacted = Compacted::default();
        if header.has_incompatible(COMPACTED) {
            let taken = take_section(sections, COMPACTED_SECTION);
            let (bytes, rest) = taken.ok_or_else(|| Error::corrupt("read what compaction wrote down"))?;
            compacted = Compacted::read(bytes)?;
            sections = rest;
        }
        let mut table = CursorTable::default();
        if let Some((bytes, rest)) = take_section(sections, CURSORS_SECTION) {
            let read = CursorTable::read(bytes);
            table = read.ok_or_else(|| Error::corrupt("read the manifest's table of cursors"))?;
            sections = rest;
        }
        let mut ancestors = Vec::new();
        if let Some((bytes, rest)) = take_section(sections, ANCESTORS_SECTION) {
            let read = Ancestor::read_all(bytes);
            ancestors = read.ok_or_else(|| Error::corrupt("read the eras of which the log was copied"))?;
            sections = rest;
        }
        let mut lost = Vec::new();
        if let Some((bytes, rest)) = take_section(sections, LOST_SECTION) {
            let read = LostRange::read_all(bytes);
            lost = read.ok_or_else(|| Error::corrupt("read what repairs could not save"))?;
            sections = rest;
        }
        let (compatible, read_only) = header.features();
        Ok(Self {
            store: header.store(),
            era: header.word(0),
            created: header.word(1).cast_signed(),
            compacted,
            table,
            ancestors,
            lost,
            sections: sections.to_vec(),
            read_only: header.read_only_here(),
            backup,
            features: (compatible, read_only & !BACKUP),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow_cursor() -> CursorState {
        CursorState {
            name: "slow".into(),
            revision: 2,
            seq: 9,
            era: 1,
            hold: 0,
            time: 4,
            part: crate::format::cursor::Part::All,
            kind: 0,
            key: Box::default(),
            retired: false,
            lost: false,
        }
    }

    #[test]
    fn every_flipped_bit_of_a_manifest_is_noticed() {
        let manifest = Manifest {
            store: StoreId([3; 16]),
            era: 1,
            created: 5,
            compacted: Compacted { parts_numbered: 3, ..Compacted::default() },
            table: CursorTable { at: Position::new(4, 512), cursors: vec![slow_cursor()] },
            ancestors: vec![Ancestor { era: 1, through: 9 }, Ancestor { era: 7 << 40, through: 12 }],
            lost: vec![LostRange::new(4, 9, 3).unwrap(), LostRange::new(10, 11, 2).unwrap()],
            sections: vec![1, 2, 3, 4],
            read_only: true,
            backup: Some(BackupEnd { position: Position::new(3, 128), last_seq: 7 }),
            // What this build does not know is kept.
            features: (0x100, 0x40),
        };
        let bytes = manifest.encode();
        assert_eq!(Manifest::read(&bytes).unwrap(), manifest);
        for bit in (0..bytes.len() * 8).step_by(if cfg!(miri) { 61 } else { 1 }) {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::read(&damaged).is_err(), "bit {bit}");
        }
        assert!(
            (0..bytes.len())
                .step_by(if cfg!(miri) { 17 } else { 1 })
                .all(|cut| Manifest::read(&bytes[..cut]).is_err())
        );
    }

    #[test]
    fn a_later_format_is_too_new_and_not_corrupt() {
        let manifest = Manifest {
            store: StoreId([3; 16]),
            era: 1,
            created: 5,
            compacted: Compacted::default(),
            table: CursorTable::default(),
            ancestors: vec![],
            lost: vec![],
            sections: vec![],
            read_only: false,
            backup: None,
            features: (0, 0),
        };
        let mut bytes = manifest.encode();
        bytes[10] = 2;
        let one_bit_wrong = Manifest::read(&bytes).unwrap_err();
        assert_eq!(
            one_bit_wrong.kind(),
            crate::error::ErrorKind::Corrupt,
            "its checksum is that of format 1"
        );
        let crc_at = HEADER_BYTES - 4;
        let crc = checksum::crc(&[&bytes[..crc_at]]);
        bytes[crc_at..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Manifest::read(&bytes).unwrap_err().kind(), crate::error::ErrorKind::FormatTooNew);
        bytes[crc_at] ^= 1;
        let otherwise_summed = Manifest::read(&bytes).unwrap_err();
        assert_eq!(otherwise_summed.kind(), crate::error::ErrorKind::FormatTooNew);
    }

    #[test]
    fn a_table_of_cursors_is_news_until_a_later_segment_has_restated_it() {
        let cursor = slow_cursor();
        let table = CursorTable { at: Position::new(4, 512), cursors: vec![cursor] };
        assert_eq!([3, 4, 5].map(|preamble_at| table.is_news(preamble_at)), [true, true, false]);
        assert!(!CursorTable { cursors: vec![], ..table }.is_news(3));
    }

    #[test]
    fn half_an_ancestor_is_none() {
        let ancestor = Ancestor { era: 1, through: 9 };
        let bytes = [ancestor.encode(), ancestor.encode()].concat();
        assert_eq!(Ancestor::read_all(&bytes), Some(vec![ancestor; 2]));
        for cut in (1..32).filter(|cut| *cut != 16) {
            assert_eq!(Ancestor::read_all(&bytes[..cut]), None, "{cut} bytes");
        }
    }

    #[test]
    fn a_copy_descends_from_the_eras_of_its_original_and_from_that_itself() {
        let old = Ancestor { era: 1, through: 9 };
        let original = Manifest {
            store: StoreId([3; 16]),
            era: 2,
            created: 5,
            compacted: Compacted::default(),
            table: CursorTable::default(),
            ancestors: vec![old],
            lost: vec![],
            sections: vec![],
            read_only: false,
            backup: None,
            features: (0, 0),
        };
        assert_eq!(original.ancestors_of_copy(12), [old, Ancestor { era: 2, through: 12 }]);
    }
}
