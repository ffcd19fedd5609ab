use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::compact::policy::CompactOptions;
use crate::disk::memory::MemoryDirectory;
use crate::disk::{Access, Directory};
use crate::format::index::file_name as index_name;
use crate::format::segment::file_name;
use crate::format::system::Keep;
use crate::journal::Journal;
use crate::journal::opening;
use crate::journal::reader::Reader;
use crate::journal::record::Record;
use crate::journal::region::Region;
use crate::journal::scan::Scan;
use crate::options::Options;

const SMALL: Options = Options::new().segment_bytes(4096).background(false);

fn open(directory: &Arc<MemoryDirectory>) -> Journal {
    Journal::of(opening::open(Arc::clone(directory) as _, SMALL).unwrap())
}

/// The Seqs that a walk looks at, and of which of them it knows that they are the newest.
fn looked_at(view: &View, kind: KindId) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let mut scan = Scan::of_newest(kind, view.clone(), 0);
    let (mut looked, mut certain) = (BTreeSet::new(), BTreeSet::new());
    while scan.advance().unwrap() {
        let seq = scan.entry().unwrap().seq().get();
        looked.insert(seq);
        if scan.is_certainly_newest() {
            certain.insert(seq);
        }
    }
    (looked, certain)
}

/// The newest of each entity, by reading everything.
fn newest(view: &View, kind: KindId) -> BTreeSet<u64> {
    let entries = view.range(..).map(Result::unwrap).filter(|entry| entry.kind() == kind);
    let newest: BTreeMap<Vec<u8>, u64> =
        entries.map(|entry| (entry.key().to_vec(), entry.seq().get())).collect();
    newest.into_values().collect()
}

#[test]
fn the_next_of_a_set_is_found_over_the_words_edges() {
    let mut bits = Bits::of(200);
    for ordinal in [0, 63, 64, 127, 199] {
        bits.set(ordinal);
    }
    let from =
        |first: u32| std::iter::successors(bits.next(first), |at| bits.next(at + 1)).collect::<Vec<_>>();
    assert_eq!(from(0), [0, 63, 64, 127, 199]);
    assert_eq!(from(64), [64, 127, 199]);
    assert_eq!(from(128), [199]);
    assert_eq!(from(200), [0_u32; 0]);
    assert_eq!(from(100_000), [0_u32; 0]);
    assert!(bits.has(63) && !bits.has(62) && !bits.has(100_000));
    // What an index that was made up names, and the segment does not have.
    bits.set(100_000);
    assert_eq!(Bits::of(0).next(0), None);
}

#[test]
fn of_what_was_written_all_the_time_a_walk_looks_at_the_last_and_of_another_kind_at_nothing() {
    let journal = open(&Arc::new(MemoryDirectory::new()));
    let [hot, rare] = ["hot", "rare"].map(|name| journal.kind(name).unwrap());
    journal.append(Record::new(rare, b"once", &[0; 100])).unwrap();
    for n in 0..1000_u32 {
        journal.append(Record::new(hot, &[b'0' + u8::try_from(n % 5).unwrap()], &[1; 100])).unwrap();
    }
    let (view, segments) = (journal.view(), journal.stats().segments);
    assert!(segments > 20, "{segments}");
    let (looked, _) = looked_at(&view, hot);
    // Of the segment that is being written every entry.
    let written = view.catalog.sections.last().unwrap().open().unwrap().index().count();
    assert!(
        looked.len() <= written as usize + 5,
        "{} looked at, {written} of the last segment",
        looked.len()
    );
    assert!(newest(&view, hot).is_subset(&looked));
    let (looked, certain) = looked_at(&view, rare);
    assert_eq!((looked.len(), certain.len()), (1, 1));
    // Also whoever wants every entry of a kind passes over segments without one.
    let mut scan = Scan::new(Region::Kind(rare), view.clone(), 0);
    assert!(scan.advance().unwrap() && !scan.advance().unwrap());
    assert_eq!(scan.looked(), view.last_seq().unwrap().unwrap().get(), "all of it was looked at");
}

#[test]
fn where_an_index_does_not_know_whose_a_frame_was_everything_is_looked_at() {
    let directory = Arc::new(MemoryDirectory::new());
    let journal = open(&directory);
    let [hot, rare] = ["hot", "rare"].map(|name| journal.kind(name).unwrap());
    for n in 0..200_u32 {
        journal.append(Record::new(hot, &[u8::try_from(n % 5).unwrap()], &[1; 100])).unwrap();
    }
    journal.close().unwrap();
    directory.remove(&index_name(2)).unwrap();
    let segment = directory.open(&file_name(2), Access::Write).unwrap();
    segment.write_at(&[!0; 8], 2048).unwrap();
    let journal = open(&directory);
    let view = journal.view();
    // Nobody knows that what is lost was none of the rare ones.
    for only_newest in [false, true] {
        let mut scan = match only_newest {
            false => Scan::new(Region::Kind(rare), view.clone(), 0),
            true => Scan::of_newest(rare, view.clone(), 0),
        };
        assert!(scan.advance().unwrap_err().is_corruption(), "{only_newest}");
    }
}

#[test]
fn a_part_that_is_damaged_and_has_lost_its_index_is_looked_at_as_a_whole() {
    let directory = Arc::new(MemoryDirectory::new());
    let journal = open(&directory);
    let [hot, rare] = ["hot", "rare"].map(|name| journal.kind(name).unwrap());
    journal.keep(hot, Keep::Latest).unwrap();
    // The first are written once, and so are kept in a part.
    for n in 0..200_u32 {
        journal.append(Record::new(hot, &[u8::try_from(n.min(40 + n % 20)).unwrap()], &[1; 100])).unwrap();
    }
    let done = journal.compact(&CompactOptions::new().thorough(true)).unwrap();
    assert!(done.parts_written > 0, "{done:?}");
    let view = journal.view();
    let part = view.catalog.sections.iter().find(|section| section.cover.is_some()).unwrap();
    let part = part.open().unwrap().segment.number();
    drop(view);
    journal.close().unwrap();
    directory.remove(&index_name(part)).unwrap();
    let file = directory.open(&file_name(part), Access::Write).unwrap();
    file.write_at(&[!0; 8], file.len().unwrap() / 2).unwrap();
    // A writer does not go on with such a store.
    let view = Reader::open_in(directory).unwrap().view().unwrap();
    for only_newest in [false, true] {
        let mut scan = match only_newest {
            false => Scan::new(Region::Kind(rare), view.clone(), 0),
            true => Scan::of_newest(rare, view.clone(), 0),
        };
        assert!(scan.advance().unwrap_err().is_corruption(), "{only_newest}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// An entry of one of two kinds and six entities.
    Append(bool, u8),
    /// A view that is asked at the end, whatever comes in between.
    Look,
    Compact,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => (any::<bool>(), 0..6_u8).prop_map(|(kind, key)| Step::Append(kind, key)),
        2 => Just(Step::Look),
        1 => Just(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 256 }))]

    #[test]
    fn what_is_newest_in_a_view_is_looked_at_and_what_is_certain_is_newest(
        steps in proptest::collection::vec(step(), 20..400),
    ) {
        let directory = Arc::new(MemoryDirectory::new());
        let mut journal = open(&directory);
        let kinds = ["kept", "latest"].map(|name| journal.kind(name).unwrap());
        journal.keep(kinds[1], Keep::Latest).unwrap();
        let (mut views, mut n) = (vec![journal.view()], 0_u64);
        for step in steps {
            match step {
                Step::Append(kind, key) => {
                    n += 1;
                    let bytes = [1; 300];
                    let payload = bytes.get(..usize::try_from(n % 300).unwrap()).unwrap();
                    journal.append(Record::new(kinds[usize::from(kind)], &[key], payload)).unwrap();
                }
                Step::Look => views.push(journal.view()),
                Step::Compact => _ = journal.compact(&CompactOptions::new().thorough(true)).unwrap(),
                Step::Reopen => {
                    journal.close().unwrap();
                    journal = open(&directory);
                    views.clear();
                }
            }
        }
        views.push(journal.view());
        for view in &views {
            for kind in kinds {
                let (newest, (looked, certain)) = (newest(view, kind), looked_at(view, kind));
                prop_assert!(newest.is_subset(&looked), "{newest:?}, but looked at {looked:?}");
                prop_assert!(certain.is_subset(&newest), "{newest:?}, but certain of {certain:?}");
            }
        }
    }
}
