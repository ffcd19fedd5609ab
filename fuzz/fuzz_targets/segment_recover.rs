//! A log is built, damaged, and opened. With its checksums left alone, damage is an error or a
//! shorter log, never other bytes; with its checksums mended it may lie, and still nobody
//! panics, hangs, or allocates by its word.
#![no_main]

use arbitrary::Arbitrary;
use esker::simulator::mend_file;
use esker::{Entry, KindId, Reader, Record, Simulator};
use esker_fuzz::damage::Damage;
use esker_fuzz::{Draft, Model, options, read_all};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input {
    segments: u8,
    batches: Vec<(Vec<Draft>, Option<u8>, bool)>,
    reopened_after: Option<u8>,
    closed: bool,
    damage: Vec<Damage>,
    mended: bool,
}

const ENTRIES_MAX: usize = 300;

fuzz_target!(|input: Input| {
    let options = options(input.segments);
    let disk = Simulator::new();
    let mut journal = options.open_in(&disk).expect("an empty disk opens");
    let mut model = Model::default();
    for (at, (drafts, key, wait)) in input.batches.iter().enumerate() {
        if model.written.len() + drafts.len() > ENTRIES_MAX {
            break;
        }
        model.append(&journal, drafts, *key, *wait).expect("a healthy disk");
        if input.reopened_after.is_some_and(|after| usize::from(after) == at) {
            journal.close().expect("a healthy disk");
            journal = options.open_in(&disk).expect("a store that was closed");
        }
    }
    let ids: Vec<KindId> = journal.kinds().iter().map(|kind| kind.id).collect();
    if input.closed {
        journal.close().expect("a healthy disk");
    }
    let mut files = disk.files();
    drop(journal);
    let touched: Vec<String> = input.damage.iter().filter_map(|damage| damage.apply(&mut files)).collect();
    if input.mended {
        touched.iter().filter_map(|name| files.get_mut(name).map(mend)).for_each(drop);
    }

    let see = |entry: &Entry<'_>| {
        if !input.mended {
            model.check_entry(entry, &|kind| model.name_of(kind));
        }
    };
    if let Ok(reader) = Reader::open_on(&Simulator::with(files.clone()))
        && let Ok(view) = reader.view()
    {
        read_all(&view, &ids, see);
    }
    let disk = Simulator::with(files);
    let Ok(journal) = options.open_in(&disk) else { return };
    let seen = read_all(&journal.view(), &ids, see);
    if !input.mended {
        assert!(seen.is_sorted(), "in order");
    }
    let Ok(kind) = journal.kind("after") else { return };
    let Ok(receipt) = journal.append(Record::new(kind, b"key", b"appended after the damage")) else { return };
    if !input.mended {
        let entry = journal.get(receipt.seq).expect("it reads").expect("it is there");
        assert_eq!(entry.payload(), b"appended after the damage");
    }
    let _ = journal.close();
});

fn mend(bytes: &mut Vec<u8>) {
    mend_file(bytes);
}
