//! Views that are held while what they show is compacted, and known otherwise from then on.

use super::*;
use crate::compact::policy::CompactOptions;
use crate::disk::memory::MemoryDirectory;
use crate::format::system::Keep;
use crate::id::EntryAt;
use crate::journal::Journal;
use crate::journal::opening;
use crate::journal::record::Record;
use crate::options::Options;

use std::sync::Arc;

#[test]
fn a_view_shows_the_newest_entry_where_the_directory_knows_it_from_a_part_that_came_since() {
    let options = Options::new().segment_bytes(4096).background(false);
    let journal = Journal::of(opening::open(Arc::new(MemoryDirectory::new()), options).unwrap());
    let [note, other] = ["note", "other"].map(|name| journal.kind(name).unwrap());
    journal.keep(note, Keep::Latest).unwrap();
    for n in 0..60_u8 {
        journal.append(Record::new(note, b"ada", &[n; 100])).unwrap();
    }
    let view = journal.view();
    let newest = |view: &View| view.latest(note, b"ada").unwrap().map(|entry| entry.payload().to_vec());
    assert_eq!(newest(&view), Some(vec![59; 100]));

    // All of it may be compacted: it is durable, and behind it another segment has begun.
    let segments = journal.stats().segments;
    while journal.stats().segments == segments {
        journal.append(Record::new(other, b"f", &[1; 100])).unwrap();
    }
    journal.sync().unwrap();
    let done = journal.compact(&CompactOptions::new().thorough(true)).unwrap();
    assert!(done.parts_written > 0, "{done:?}");
    let (index, hash) = (view.index(), view.index().hash(note.0, b"ada"));
    let in_a_part = |at: EntryAt| at.ordinal() == 0 && view.catalog.at(at.segment()).is_some();
    let mut settled = None;
    for n in 0..4000_u32 {
        journal.append(Record::new(other, &n.to_le_bytes(), &[1; 100])).unwrap();
        settled = index.entities.settled().find(hash).unwrap();
        if settled.is_some_and(|known| in_a_part(known.newest)) {
            break;
        }
    }
    let known = settled.expect("a directory was written");
    assert!(in_a_part(known.newest), "{known:?}");
    assert_eq!(index.find(hash).unwrap(), Some(known), "it is not on the heap any more");
    // An older entry of it stands there in the view.
    let section = Loaded::open(&view, view.catalog.at(known.newest.segment()).unwrap()).unwrap().unwrap();
    let there = section.entry(known.newest.ordinal()).unwrap();
    assert!(there.key() == b"ada" && there.generation().get() < known.generation);
    assert_eq!(newest(&view), Some(vec![59; 100]));
    assert_eq!(newest(&journal.view()), Some(vec![59; 100]));
}

#[test]
fn a_view_shows_nothing_that_came_behind_it() {
    let journal = Journal::in_memory().unwrap();
    let note = journal.kind("note").unwrap();
    let before = journal.view();
    journal.append(Record::new(note, b"ada", b"1")).unwrap();
    let first = journal.view();
    journal.append(Record::new(note, b"ada", b"2")).unwrap();
    let newest = |view: &View| view.latest(note, b"ada").unwrap().map(|entry| entry.payload().to_vec());
    assert_eq!(newest(&before), None);
    assert_eq!(newest(&first), Some(b"1".to_vec()));
    assert_eq!(newest(&journal.view()), Some(b"2".to_vec()));
}
