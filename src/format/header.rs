//! The header that every file begins with.
//!
//! `number` and the eight `words` mean what the file's own module says they mean.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Error, ErrorKind, Result};
use crate::format::checksum;
use crate::id::StoreId;

/// The first eight bytes of every file. The line ends catch a transfer in text mode.
pub(crate) const MAGIC: [u8; 8] = *b"eskr\r\n\x1a\x00";
/// The format that this build writes, and the newest that it reads.
pub(crate) const FORMAT_VERSION: u16 = 1;
/// The incompatible features that this build knows.
pub(crate) const KNOWN_INCOMPATIBLE: u32 = COMPACTED;
/// In a manifest: it says which stretches of the log were replaced. Who does not know that takes them for lost.
pub(crate) const COMPACTED: u32 = 1;
/// The features without which this build may read but not write.
pub(crate) const KNOWN_READ_ONLY: u32 = BACKUP;
/// In a manifest: the files are a backup, and nobody writes them before it is restored.
pub(crate) const BACKUP: u32 = 1;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum FileType {
    Lock = 1,
    Manifest = 2,
    Segment = 3,
    Index = 4,
    Directory = 5,
    Part = 6,
}

/// The fixed part at the start of every file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct FileHeader {
    magic: [u8; 8],
    pub(crate) file_type: U16,
    version: U16,
    compatible: U32,
    read_only: U32,
    incompatible: U32,
    store: [u8; 16],
    pub(crate) number: U64,
    pub(crate) salt: U64,
    pub(crate) words: [U64; 8],
    reserved: U32,
    crc: U32,
}

/// The header's length in bytes; frames begin behind it.
pub(crate) const HEADER_BYTES: usize = size_of::<FileHeader>();
const CRC_AT: usize = HEADER_BYTES - size_of::<U32>();
const _: () = assert!(HEADER_BYTES == 128 && HEADER_BYTES.is_multiple_of(8));

impl FileHeader {
    pub(crate) fn new(file_type: FileType, store: StoreId, number: u64, salt: u64, words: [u64; 8]) -> Self {
        let mut header = Self {
            magic: MAGIC,
            file_type: U16::new(file_type as u16),
            version: U16::new(FORMAT_VERSION),
            compatible: U32::ZERO,
            read_only: U32::ZERO,
            incompatible: U32::ZERO,
            store: store.0,
            number: U64::new(number),
            salt: U64::new(salt),
            words: words.map(U64::new),
            reserved: U32::ZERO,
            crc: U32::ZERO,
        };
        header.crc = U32::new(header.checksum());
        header
    }

    /// Reads and judges the header of a file that should be of `file_type`.
    ///
    /// # Errors
    ///
    /// `NotAStore` without the magic, `FormatTooNew` for a later format or an unknown
    /// incompatible feature, `Corrupt` for anything else that does not fit.
    pub(crate) fn read(bytes: &[u8], file_type: FileType) -> Result<Self> {
        let doing = || format!("read the header of a {} file", file_type.name());
        let Ok((header, _)) = Self::read_from_prefix(bytes) else {
            return Err(Error::corrupt(doing()).sides(format!("{HEADER_BYTES} bytes"), bytes.len()));
        };
        if header.magic != MAGIC {
            let found = format!("{:02x?}", header.magic);
            return Err(Error::corrupt(doing()).sides(format!("the magic {MAGIC:02x?}"), found));
        }
        // The version comes before the checksum: a later format may checksum otherwise. But
        // where the checksum says that it was this format, only the version is damaged.
        if header.version.get() > FORMAT_VERSION && !header.would_be_good_as(FORMAT_VERSION) {
            let sides = (format!("format {FORMAT_VERSION} or older"), format!("format {}", header.version));
            return Err(Error::new(ErrorKind::FormatTooNew, doing()).sides(sides.0, sides.1));
        }
        let checksum = header.checksum();
        if header.crc.get() != checksum {
            let sides = (format!("checksum {:08x}", header.crc.get()), format!("{checksum:08x}"));
            return Err(Error::corrupt(doing()).sides(sides.0, sides.1));
        }
        let unknown = header.incompatible.get() & !KNOWN_INCOMPATIBLE;
        if unknown != 0 {
            let sides = (format!("features within {KNOWN_INCOMPATIBLE:#x}"), format!("{unknown:#x}"));
            return Err(Error::new(ErrorKind::FormatTooNew, doing()).sides(sides.0, sides.1));
        }
        if header.version.get() == 0 || header.file_type.get() != file_type as u16 {
            let found = format!("file type {} of format {}", header.file_type, header.version);
            return Err(Error::corrupt(doing()).sides(format!("file type {}", file_type as u16), found));
        }
        Ok(header)
    }

    /// As [`read`](Self::read), and the file must belong to `store`.
    pub(crate) fn read_of(bytes: &[u8], file_type: FileType, store: StoreId) -> Result<Self> {
        let header = Self::read(bytes, file_type)?;
        if header.store() != store {
            let doing = format!("read the header of a {} file", file_type.name());
            return Err(
                Error::corrupt(doing).sides(format!("store {store}"), format!("store {}", header.store()))
            );
        }
        Ok(header)
    }

    /// Refuses a derived file of a newer format or with an unknown incompatible feature, where its own
    /// checksum says that it is whole. In any other state it is made anew, as one that is damaged.
    ///
    /// # Errors
    ///
    /// `FormatTooNew`.
    pub(crate) fn refuse_newer(bytes: &[u8], file_type: FileType) -> Result<()> {
        let is_whole = Self::read_from_prefix(bytes)
            .is_ok_and(|(header, _)| header.magic == MAGIC && header.crc.get() == header.checksum());
        match Self::read(bytes, file_type) {
            Err(error) if is_whole && error.kind() == ErrorKind::FormatTooNew => Err(error),
            _ => Ok(()),
        }
    }

    fn would_be_good_as(&self, version: u16) -> bool {
        let header = Self { version: U16::new(version), ..*self };
        header.crc.get() == header.checksum()
    }

    /// The salt in a header that does not check out, if at least the store is right.
    pub(crate) fn salt_if_of(bytes: &[u8], store: StoreId) -> Option<u64> {
        let (header, _) = Self::read_from_prefix(bytes).ok()?;
        (header.magic == MAGIC && header.store() == store).then(|| header.salt.get())
    }

    pub(crate) fn store(&self) -> StoreId {
        StoreId(self.store)
    }

    /// The format that the file was written in.
    pub(crate) fn version(&self) -> u16 {
        self.version.get()
    }

    /// The word at `index`; zero past the end.
    pub(crate) fn word(&self, index: usize) -> u64 {
        self.words.get(index).map_or(0, |word| word.get())
    }

    /// As it is, with compatible features, and those without which a build may not write.
    pub(crate) fn with_features(self, compatible: u32, read_only: u32) -> Self {
        let (compatible, read_only) = (U32::new(compatible), U32::new(read_only));
        let mut header = Self { compatible, read_only, ..self };
        header.crc = U32::new(header.checksum());
        header
    }

    /// As it is, with features that a build has to know to read the file.
    pub(crate) fn with_incompatible(self, incompatible: u32) -> Self {
        let mut header = Self { incompatible: U32::new(incompatible), ..self };
        header.crc = U32::new(header.checksum());
        header
    }

    pub(crate) fn has_incompatible(&self, feature: u32) -> bool {
        self.incompatible.get() & feature != 0
    }

    /// The compatible features that are in use, and those without which a build may not write.
    pub(crate) fn features(&self) -> (u32, u32) {
        (self.compatible.get(), self.read_only.get())
    }

    pub(crate) fn has_read_only(&self, feature: u32) -> bool {
        self.read_only.get() & feature != 0
    }

    /// True if a feature that only a newer build may write is in use.
    pub(crate) fn read_only_here(&self) -> bool {
        self.read_only.get() & !KNOWN_READ_ONLY != 0
    }

    #[cfg(feature = "simulator")]
    pub(crate) fn set_word(&mut self, index: usize, value: u64) {
        if let Some(word) = self.words.get_mut(index) {
            *word = U64::new(value);
        }
    }

    /// Gives the header the checksum of what it says now.
    #[cfg(feature = "simulator")]
    pub(crate) fn mend(&mut self) {
        self.crc = U32::new(self.checksum());
    }

    fn checksum(&self) -> u32 {
        checksum::crc(&[self.as_bytes().get(..CRC_AT).unwrap_or_default()])
    }
}

impl FileType {
    fn name(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Manifest => "manifest",
            Self::Segment => "segment",
            Self::Index => "index",
            Self::Directory => "directory",
            Self::Part => "part",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId([7; 16]);

    fn header() -> FileHeader {
        FileHeader::new(FileType::Index, STORE, 3, 9, [1, 2, 3, 4, 5, 6, 7, 8])
    }

    /// With its checksum.
    fn of_version(version: u16) -> FileHeader {
        FileHeader { version: U16::new(version), ..header() }.with_features(0, 0)
    }

    fn kind_of(header: &FileHeader) -> Option<ErrorKind> {
        FileHeader::read(header.as_bytes(), FileType::Index).err().map(|error| error.kind())
    }

    #[test]
    fn what_is_newer_is_told_from_what_is_damaged() {
        assert_eq!(kind_of(&header()), None);
        assert_eq!(kind_of(&of_version(FORMAT_VERSION + 1)), Some(ErrorKind::FormatTooNew));
        assert_eq!(kind_of(&header().with_incompatible(1 << 9)), Some(ErrorKind::FormatTooNew));
        assert_eq!(kind_of(&of_version(0)), Some(ErrorKind::Corrupt), "there was no format 0");
        let of_a_segment = FileHeader::new(FileType::Segment, STORE, 3, 9, [0; 8]);
        assert_eq!(kind_of(&of_a_segment), Some(ErrorKind::Corrupt));
        assert_eq!(kind_of(&FileHeader { reserved: U32::new(1), ..header() }), Some(ErrorKind::Corrupt));
    }

    #[test]
    fn a_derived_file_is_refused_only_if_it_is_whole_and_newer() {
        let refused =
            |header: &FileHeader| FileHeader::refuse_newer(header.as_bytes(), FileType::Index).is_err();
        let newer = [of_version(FORMAT_VERSION + 1), header().with_incompatible(1 << 9)];
        for newer in newer {
            assert!(refused(&newer));
            assert!(!refused(&FileHeader { reserved: U32::new(1), ..newer }), "nobody says that it is newer");
            assert!(
                !refused(&FileHeader { magic: [0; 8], ..newer }.with_features(0, 0)),
                "it is no file of ours"
            );
        }
        assert!(!refused(&header()));
        let another = FileHeader::new(FileType::Segment, STORE, 3, 9, [0; 8]);
        assert!(!refused(&another), "what is there is made anew");
    }

    #[test]
    fn the_salt_of_a_damaged_header_is_believed_if_magic_and_store_are_right() {
        let damaged = FileHeader { reserved: U32::new(1), ..header() };
        let salt = |header: &FileHeader| FileHeader::salt_if_of(header.as_bytes(), STORE);
        assert_eq!(salt(&damaged), Some(9));
        assert_eq!(salt(&FileHeader { store: [8; 16], ..damaged }), None);
        assert_eq!(salt(&FileHeader { magic: [0; 8], ..damaged }), None);
    }

    #[test]
    fn each_feature_is_told_from_the_others() {
        let plain = header();
        assert!(
            !plain.has_incompatible(COMPACTED) && !plain.has_read_only(BACKUP) && !plain.read_only_here()
        );
        let backup = header().with_features(0, BACKUP);
        assert!(backup.has_read_only(BACKUP) && !backup.has_read_only(2) && !backup.read_only_here());
        let newer = header().with_features(0, BACKUP | 1 << 9);
        assert!(newer.read_only_here() && newer.has_read_only(BACKUP));
        let compacted = header().with_incompatible(COMPACTED);
        assert!(compacted.has_incompatible(COMPACTED) && !compacted.has_incompatible(2));
        assert_eq!((plain.version(), of_version(7).version()), (FORMAT_VERSION, 7));
    }

    #[test]
    fn an_error_names_the_type_of_the_file() {
        let types = [
            FileType::Lock,
            FileType::Manifest,
            FileType::Segment,
            FileType::Index,
            FileType::Directory,
            FileType::Part,
        ];
        for (file_type, name) in
            types.into_iter().zip(["lock", "manifest", "segment", "index", "directory", "part"])
        {
            let error = FileHeader::read(&[], file_type).unwrap_err();
            assert!(error.to_string().contains(&format!("header of a {name} file")), "{error}");
        }
    }
}
