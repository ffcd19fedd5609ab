//! Files come into use beside appends: nobody goes on behind what an entity was before its last entry.

use zerocopy::IntoBytes;

use super::*;
use crate::disk::memory::MemoryDirectory;
use crate::disk::replace;
use crate::error::Error;
use crate::format::directory::{FILE_NAME, PAGES_AT, Slot, encode_page};
use crate::id::StoreId;

/// In the first shard, and in the last one, which a new file comes to last.
const ADA: EntityHash = 7 << 100;
const LAST: EntityHash = SHARDS as EntityHash - 1;

fn known(generation: u64, segment: u32) -> Known {
    Known { generation, newest: EntryAt::new(segment, 3) }
}

/// A file that knows this of one entity, and covers all before a segment.
fn file_with(hash: EntityHash, known: Known, before: u32) -> EntityFile {
    let (directory, store) = (MemoryDirectory::new(), StoreId::from_bytes([3; 16]));
    let covered = EntryAt::new(before, 0);
    let mut head = EntityFile::header(store, 1, 1, 1, covered).as_bytes().to_vec();
    head.resize(PAGES_AT, 0);
    let page = encode_page(&[Slot::new(hash, known.generation, known.newest)]);
    replace(&directory, FILE_NAME, &[&head, &page]).unwrap();
    EntityFile::open(&directory, store).unwrap()
}

/// Ada has an entry in the first segment, which is in a file.
fn entities() -> Entities {
    Entities::new(Settled::new(Some(file_with(ADA, known(5, 1), 2)), Vec::new(), false))
}

/// The files are never in doubt here.
struct NoSegments;

impl Fallback for NoSegments {
    fn search(&self, _hash: EntityHash) -> Result<Option<Known>> {
        Err(Error::corrupt("look into segments"))
    }
}

fn touch(entities: &Entities, hash: EntityHash) -> (Touched, Option<Known>) {
    entities.touch(hash, || entities.before(), &NoSegments).unwrap()
}

/// Moves Ada on by one entry, and answers what was known before.
fn advance(entities: &Entities, touched: Touched, segment: u32) -> Option<Known> {
    let mut before = None;
    entities.advance((ADA, touched), |found| {
        before = found;
        known(found.map_or(1, |found| found.generation + 1), segment)
    });
    before
}

#[test]
fn what_was_found_when_an_entity_was_touched_is_what_its_next_entry_stands_behind() {
    let entities = entities();
    let (touched, found) = touch(&entities, ADA);
    assert_eq!(found, Some(known(5, 1)));
    assert_eq!(advance(&entities, touched, 3), Some(known(5, 1)));
    let (touched, found) = touch(&entities, ADA);
    assert_eq!((found, advance(&entities, touched, 3)), (Some(known(6, 3)), Some(known(6, 3))));
    let (touched, found) = touch(&entities, LAST);
    assert_eq!(found, None);
    entities.advance((LAST, touched), |found| found.unwrap_or(known(1, 3)));
    assert_eq!((entities.count(), entities.on_heap()), (2, 2));
}

#[test]
fn what_another_file_knows_since_counts_for_more_than_what_was_found() {
    let entities = entities();
    let (early, _) = touch(&entities, ADA);
    let (other, _) = touch(&entities, ADA);
    assert_eq!(advance(&entities, other, 3), Some(known(5, 1)));
    entities.use_file(file_with(ADA, known(6, 3), 4));
    assert_eq!(entities.on_heap(), 0, "the file has it");
    assert_eq!(advance(&entities, early, 5), Some(known(6, 3)), "no generation is given twice");
}

#[test]
fn a_file_counts_before_anything_that_it_knows_goes_from_the_heap() {
    let entities = entities();
    let (early, _) = touch(&entities, ADA);
    let (other, _) = touch(&entities, ADA);
    advance(&entities, other, 3);
    std::thread::scope(|scope| {
        // The file comes into use, and stops before the last shard: halfway.
        let held = entities.shard(LAST).write();
        scope.spawn(|| entities.use_file(file_with(ADA, known(6, 3), 4)));
        while entities.shard(ADA).read().contains_key(&ADA) {
            std::thread::yield_now();
        }
        assert_eq!(advance(&entities, early, 5), Some(known(6, 3)));
        drop(held);
    });
}

#[test]
fn of_an_entity_on_the_heap_nothing_that_is_settled_is_asked() {
    let entities = entities();
    let (touched, _) = touch(&entities, ADA);
    advance(&entities, touched, 3);
    let asked = || -> Before { panic!("it is on the heap") };
    let (_, found) = entities.touch(ADA, asked, &NoSegments).unwrap();
    assert_eq!(found, Some(known(6, 3)));
}

#[test]
fn what_was_settled_before_the_first_file_is_looked_up_again() {
    let entities = Entities::new(Settled::default());
    let before = entities.before();
    let (touched, found) = entities.touch(ADA, || &before, &NoSegments).unwrap();
    assert_eq!(found, None);
    entities.use_file(file_with(ADA, known(5, 1), 2));
    assert_eq!(advance(&entities, touched, 3), Some(known(5, 1)));
}

#[test]
fn an_entity_is_forgotten_only_as_it_was_known() {
    let entities = entities();
    let (touched, found) = touch(&entities, ADA);
    entities.forget(ADA, found.unwrap());
    assert_eq!(touch(&entities, ADA).1, None);
    assert_eq!(advance(&entities, touched, 3), None, "also of who touched it before");

    let entities = self::entities();
    let (_, found) = touch(&entities, ADA);
    entities.use_file(file_with(ADA, known(6, 3), 4));
    entities.forget(ADA, found.unwrap());
    assert_eq!(touch(&entities, ADA).1, Some(known(6, 3)), "it was written since");
}
