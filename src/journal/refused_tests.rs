//! Readers of a store of which the device refuses a part.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::disk::memory::MemoryDirectory;
use crate::disk::refusing::Refusing;
use crate::disk::{Access, Directory, read_whole};
use crate::format::segment::file_name;
use crate::id::Seq;
use crate::journal::Journal;
use crate::journal::opening;
use crate::journal::reader::Reader;
use crate::journal::record::Record;
use crate::options::Options;

type Files = BTreeMap<String, Vec<u8>>;

fn files_of(directory: &dyn Directory) -> Files {
    let read = |name: &str| read_whole(&*directory.open(name, Access::Read).unwrap(), 1 << 20).unwrap();
    directory.list().unwrap().into_iter().map(|entry| (entry.name.clone(), read(&entry.name))).collect()
}

/// A process is killed, and the next one writes on in another segment. Answers that one, and the last Seq before it.
fn killed_once() -> (Files, u32, u64) {
    let options = || Options::new().segment_bytes(4096).background(false);
    let mut files = Files::new();
    let (mut before, mut segment) = (0, 0);
    for _ in 0..2 {
        let directory = Arc::new(MemoryDirectory::with(std::mem::take(&mut files), None));
        let journal = Journal::of(opening::open(Arc::clone(&directory) as _, options()).unwrap());
        let kind = journal.kind("note").unwrap();
        before = journal.view().last_seq().unwrap().map_or(0, Seq::get);
        for n in 0..8_u8 {
            let seq = journal.append(Record::new(kind, b"k", &[n; 30])).unwrap().seq;
            segment = journal.view().get(seq).unwrap().unwrap().position().segment();
        }
        files = files_of(&*directory);
    }
    (files, segment, before)
}

#[test]
fn a_last_segment_that_the_device_refuses_is_no_end() {
    let (files, last, before) = killed_once();
    for (what, refused) in
        [("its header", 0..128), ("a page", 0..4096), ("what is behind its header", 200..4096)]
    {
        let memory = MemoryDirectory::with(files.clone(), None);
        let directory = Refusing::of(memory, file_name(last), vec![refused]);
        let reader = Reader::open_in(Arc::new(directory)).unwrap_or_else(|error| panic!("{what}: {error}"));
        let view = reader.view().unwrap();
        let entries: Vec<_> = view.range(..).collect();
        let shown = entries.iter().flatten().map(|entry| entry.seq().get());
        assert!(shown.eq(1..=before), "{what}: {entries:?}");
        assert!(entries.last().unwrap().is_err(), "{what}: as if that were the end");
        let kind = reader.kind_named("note").unwrap().id;
        assert!(view.latest(kind, b"k").is_err(), "{what}: what it was before");
    }
}
