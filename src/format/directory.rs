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

/// The slot of a hash in its home, or in a page that this has overflowed into.
///
/// Hashes are spread evenly: it is a few slots from where it would be if they were exactly so, and those are in the next lines of
/// memory.
#[allow(
    clippy::cast_possible_truncation,
    reason = "the lower half of a product, and less than a page has slots"
)]
pub(crate) fn find(slots: &[Slot], hash: EntityHash, homes: u64) -> Option<&Slot> {
    let way_through_home = (u128::from((hash >> 64) as u64) * u128::from(homes)) as u64;
    let at = ((u128::from(way_through_home) * slots.len() as u128) >> 64) as usize;
    let (before, from) = slots.split_at_checked(at)?;
    let found = if from.first()?.hash() <= hash {
        from.iter().find(|slot| slot.hash() >= hash)
    } else {
        before.iter().rev().find(|slot| slot.hash() <= hash)
    };
    found.filter(|slot| slot.hash() == hash)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(count: u64) -> Vec<Slot> {
        let slot = |n: u64| Slot::new(u128::from(n) << 70, n + 5, EntryAt::new(3, 7));
        (0..count).map(slot).collect()
    }

    #[test]
    fn a_page_gives_back_its_slots_and_no_bit_of_it_may_differ() {
        for count in [0, 2, SLOTS as u64] {
            let page = encode_page(&slots(count));
            assert_eq!(page.len(), PAGE_BYTES);
            let read = page_slots(&page).unwrap();
            assert_eq!(read.as_bytes(), slots(count).as_bytes());
            assert_eq!(checked_page_slots(&page).as_bytes(), read.as_bytes());
        }
        let page = encode_page(&slots(2));
        let slot = page_slots(&page).unwrap()[1];
        assert_eq!((slot.hash(), slot.generation(), slot.newest()), (1 << 70, 6, EntryAt::new(3, 7)));
        for at in (0..page.len()).step_by(if cfg!(miri) { 97 } else { 1 }) {
            let mut damaged = page.clone();
            damaged[at] ^= 1;
            assert!(page_slots(&damaged).is_none(), "byte {at}");
        }
        assert!(page_slots(&[]).is_none() && checked_page_slots(&[]).is_empty());
    }

    #[test]
    fn a_slot_is_found_wherever_it_stands_and_no_other() {
        let hash = |n: u64| u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64 | 5;
        let slot = |hash| Slot::new(hash, 1, EntryAt::new(3, 7));
        let mut even: Vec<Slot> = (0..SLOTS as u64).map(|n| slot(hash(n))).collect();
        even.sort_by_key(Slot::hash);
        let crowded: Vec<Slot> = (0..SLOTS as u128).map(|n| slot(n * 2)).collect();
        let at_the_end: Vec<Slot> = (0..SLOTS as u128).map(|n| slot(u128::MAX - 400 + n * 2)).collect();
        for slots in [&even[..], &crowded, &at_the_end, &even[..1], &[]] {
            for homes in [1, 3, 1000] {
                // Miri takes a minute for all of them.
                for slot in slots.iter().step_by(if cfg!(miri) { 13 } else { 1 }) {
                    let found = find(slots, slot.hash(), homes).map(Slot::hash);
                    assert_eq!(found, Some(slot.hash()));
                    assert!(find(slots, slot.hash().wrapping_sub(1), homes).is_none());
                    assert!(find(slots, slot.hash() + 1, homes).is_none());
                }
            }
            assert!(find(slots, 9, 3).is_none() && find(slots, u128::MAX - 9, 3).is_none());
        }
    }

    #[test]
    fn a_page_that_claims_more_slots_than_fit_has_none() {
        let mut page = encode_page(&slots(2));
        page[4] = 128;
        let crc = checksum::crc(&[&page[4..]]);
        page[..4].copy_from_slice(&crc.to_le_bytes());
        assert!(page_slots(&page).is_none() && checked_page_slots(&page).is_empty());
    }

    #[test]
    fn homes_follow_the_order_of_hashes_and_each_page_is_one() {
        assert_eq!((home(0, 8), home(u128::MAX, 8), home(u128::MAX, 1)), (0, 7, 0));
        for page in 0..8_u128 {
            assert_eq!(u128::from(home(page << 125, 8)), page);
            assert_eq!(u128::from(home((page << 125) + ((1 << 125) - 1), 8)), page);
        }
        assert_eq!(home(u128::MAX, u64::MAX), u64::MAX - 1);
    }
}
