//! The file of an index, read through a window: it may be as large as memory is meant to be.

use std::io::ErrorKind;
use std::sync::Arc;

use zerocopy::{FromBytes, IntoBytes};

use crate::disk::{Access, Directory, File};
use crate::error::Error;
use crate::format::checksum::Sum;
use crate::format::index::{EntityHash, EntityRecord, IndexParts, Layout, file_name};
use crate::format::segment::FILE_BYTES_MAX;
use crate::id::StoreId;
use crate::journal::verify::window::Window;
use crate::log::salvage::{Checked, check_index};
use crate::log::segment::open_header;

/// So much of an index is in memory at a time.
const PIECE: u64 = 256 << 10;

/// An index file, by what is known of its segment's header.
pub(super) enum IndexFile {
    None,
    Good(Layout, Bytes),
    Bad(Error, Bytes),
}

/// What stands in a file.
pub(super) struct Bytes {
    /// `None`: it cannot be read, and nothing stands in it.
    file: Option<Arc<dyn File>>,
    length: u64,
}

impl IndexFile {
    pub(super) fn read(directory: &dyn Directory, store: StoreId, number: u32) -> Self {
        let salt = open_header(directory, store, number, Access::Read).ok().map(|(_, header)| header.salt);
        Self::read_with(directory, store, number, salt)
    }

    pub(super) fn read_with(
        directory: &dyn Directory,
        store: StoreId,
        number: u32,
        salt: Option<u64>,
    ) -> Self {
        let name = file_name(number);
        let refused = |error| {
            let error = Error::io("read an index", error).at(directory.path().join(&name));
            Self::Bad(error, Bytes { file: None, length: 0 })
        };
        let opened = directory.open(&name, Access::Read).and_then(|file| Ok((file.len()?, file)));
        let (length, file) = match opened {
            Ok((length, _)) if length > FILE_BYTES_MAX => {
                let what = format!("{length} bytes where at most {FILE_BYTES_MAX} are expected");
                return refused(std::io::Error::new(ErrorKind::InvalidData, what));
            }
            Ok(opened) => opened,
            Err(error) if error.kind() == ErrorKind::NotFound => return Self::None,
            Err(error) => return refused(error),
        };
        let checked = check_index(&*file, length, store, number, salt);
        let bytes = Bytes { file: Some(file), length };
        match checked {
            Ok(Ok(Checked { layout, .. })) => Self::Good(layout, bytes),
            Ok(Err(error)) => Self::Bad(error, bytes),
            Err(error) => refused(error),
        }
    }
}

impl Bytes {
    fn window(&self) -> Option<Window> {
        Some(Window::by_pieces(Arc::clone(self.file.as_ref()?), self.length, PIECE).in_order())
    }

    /// The first byte that is not as it should be. That of an index of the first versions may be so too, which did not say of
    /// which kind an entity is; nor do the parts behind that.
    pub(super) fn differs_from(&self, parts: &mut IndexParts, store: StoreId) -> Option<u64> {
        let differs = self.differs(parts, store)?;
        parts.entities.iter_mut().for_each(EntityRecord::leave_kind_unsaid);
        self.differs(parts, store).map(|_| differs)
    }

    fn differs(&self, parts: &IndexParts, store: StoreId) -> Option<u64> {
        let mut sum = Sum::default();
        parts.put_body(&mut |part| sum.add(part));
        let mut compared = Compared { window: self.window(), at: 0, differs: None };
        compared.put(parts.header(store, sum.crc()).as_bytes());
        parts.put_body(&mut |part| compared.put(part));
        compared.differs.or((compared.at != self.length).then_some(compared.at))
    }

    /// The entities that it names, by hash.
    pub(super) fn entities(&self, layout: &Layout) -> Named {
        let place = layout.entities_place();
        Named { window: self.window(), at: place.start as u64, end: place.end as u64 }
    }
}

/// A file, as far as it is as it should be.
struct Compared {
    window: Option<Window>,
    at: u64,
    differs: Option<u64>,
}

impl Compared {
    fn put(&mut self, mut expected: &[u8]) {
        while !expected.is_empty() && self.differs.is_none() {
            let found = self.window.as_mut().and_then(|window| window.from(self.at, 1).ok());
            let found = found.unwrap_or_default();
            let length = found.len().min(expected.len());
            let (now, later) = expected.split_at(length);
            // Nearly always all of it is the same, which is faster to say than where it is not.
            if length == 0 || found.get(..length) != Some(now) {
                let same = now.iter().zip(found).take_while(|(a, b)| a == b).count();
                self.differs = Some(self.at + same as u64);
            }
            self.at += length as u64;
            expected = later;
        }
    }
}

/// Goes through the entities of an index.
pub(super) struct Named {
    window: Option<Window>,
    at: u64,
    end: u64,
}

impl Named {
    /// The segment in which the index says that the entity stood before. Hashes are asked for in their order.
    pub(super) fn previous_segment(&mut self, hash: EntityHash) -> Option<u32> {
        const RECORD: u64 = size_of::<EntityRecord>() as u64;
        while self.at < self.end {
            let bytes = self.window.as_mut()?.from(self.at, RECORD).ok()?;
            let (record, _) = EntityRecord::ref_from_prefix(bytes).ok()?;
            match record.hash().cmp(&hash) {
                std::cmp::Ordering::Less => self.at += RECORD,
                std::cmp::Ordering::Equal => return Some(record.previous_segment()),
                std::cmp::Ordering::Greater => return None,
            }
        }
        None
    }
}
