//! The directory of entities: a derived file of hashed pages, searched in place.
//!
//! ```text
//! header  number: pages with a home; salt: pages in all
//!         words: covered (segment 4 | entries of it 4: all before are in here) | entities | homes
//! page    checksum 4 | count 4 | reserved 24 | 127 slots of 32 bytes, by hash
//! slot    hash 16 | generation 8 | newest entry 8 (segment 4 | ordinal in it 4)
//! ```
//!
//! An entity's home is the page `hash * homes / 2^128`, so pages follow the order of hashes and
//! two sorted runs merge into a new file in one pass. A full page overflows into the next; a
//! search ends at the first page that is not full.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::format::checksum;
use crate::format::header::HEADER_BYTES;
use crate::format::index::EntityHash;
use crate::id::EntryAt;

pub(crate) const FILE_NAME: &str = "entities";
pub(crate) const PAGE_BYTES: usize = 4096;
pub(crate) const SLOTS: usize = 127;
/// Slots used a page when a file is written: room for overflow to stay rare.
pub(crate) const SLOTS_PLANNED: usize = 100;
/// The pages begin here, so that they are aligned as pages are.
pub(crate) const PAGES_AT: usize = PAGE_BYTES;

/// What is known of one entity.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Slot {
    hash: [u8; 16],
    generation: U64,
    newest: U64,
}

impl Slot {
    pub(crate) fn new(hash: EntityHash, generation: u64, newest: EntryAt) -> Self {
        Self { hash: hash.to_le_bytes(), generation: U64::new(generation), newest: U64::new(newest.word()) }
    }

    pub(crate) fn hash(&self) -> EntityHash {
        EntityHash::from_le_bytes(self.hash)
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.get()
    }

    pub(crate) fn newest(&self) -> EntryAt {
        EntryAt::from_word(self.newest.get())
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct PageHead {
    crc: U32,
    count: U32,
    reserved: [u8; 24],
}

const _: () = assert!(size_of::<PageHead>() + SLOTS * size_of::<Slot>() == PAGE_BYTES);
const _: () = assert!(SLOTS_PLANNED < SLOTS && HEADER_BYTES <= PAGES_AT);

/// The page where the search for a hash begins.
#[allow(clippy::cast_possible_truncation, reason = "the product's upper half is below `homes`")]
pub(crate) fn home(hash: EntityHash, homes: u64) -> u64 {
    let upper = (hash >> 64) as u64;
    ((u128::from(upper) * u128::from(homes)) >> 64) as u64
}

/// The slots of a page, or `None` if the page is damaged.
pub(crate) fn page_slots(page: &[u8]) -> Option<&[Slot]> {
    let (head, slots) = PageHead::ref_from_prefix(page).ok()?;
    if head.crc.get() != checksum::crc(&[page.get(4..)?]) {
        return None;
    }
    trusted_slots(head, slots)
}

/// The slots of a page that was checked before.
pub(crate) fn checked_page_slots(page: &[u8]) -> &[Slot] {
    PageHead::ref_from_prefix(page)
        .ok()
        .and_then(|(head, slots)| trusted_slots(head, slots))
        .unwrap_or_default()
}

fn trusted_slots<'a>(head: &PageHead, slots: &'a [u8]) -> Option<&'a [Slot]> {
    let used = usize::try_from(head.count.get()).ok()?.checked_mul(size_of::<Slot>())?;
    <[Slot]>::ref_from_bytes(slots.get(..used)?).ok()
}

/// A page of these slots, which are in the order of their hashes.
///
/// # Panics
///
/// If there are more than [`SLOTS`].
pub(crate) fn encode_page(slots: &[Slot]) -> Vec<u8> {
    assert!(slots.len() <= SLOTS, "a page holds {SLOTS} slots");
    let count = U32::new(u32::try_from(slots.len()).unwrap_or(0));
    let mut page = PageHead { crc: U32::ZERO, count, reserved: [0; 24] }.as_bytes().to_vec();
    page.extend_from_slice(slots.as_bytes());
    page.resize(PAGE_BYTES, 0);
    let crc = checksum::crc(&[page.get(4..).unwrap_or_default()]);
    if let Some(space) = page.get_mut(..4) {
        space.copy_from_slice(&crc.to_le_bytes());
    }
    page
}
