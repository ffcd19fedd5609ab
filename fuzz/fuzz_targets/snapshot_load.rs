//! A compacted store is damaged where compaction wrote: parts, their indexes, the manifest. Without mended
//! checksums damage is an error or less of the log, never other bytes; with them it may lie, and still nobody
//! panics, hangs, or allocates by its word: not a reader, a writer, a verification, nor a repair.
#![no_main]

use arbitrary::Arbitrary;
use esker::simulator::mend_file;
use esker::{Check, CompactOptions, Entry, Keep, KindId, Reader, Record, Simulator, repair_in, verify_in};
use esker_fuzz::damage::Damage;
use esker_fuzz::{Draft, Model, options, read_all};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input {
    segments: u8,
    batches: Vec<(Vec<Draft>, Option<u8>)>,
    compacted_after: u8,
    keep: u8,
    damage: Vec<Damage>,
    mended: bool,
    derived_are_lost: bool,
}

const ENTRIES_MAX: usize = 300;
/// So that there is something to compact, however little the fuzzer says.
const FILL: usize = 60;

fuzz_target!(|input: Input| {
    let options = options(input.segments);
    let disk = Simulator::new();
    let journal = options.open_in(&disk).expect("an empty disk opens");
    let mut model = Model::default();
    let compact = |journal: &esker::Journal| {
        for (at, kind) in journal.kinds().iter().enumerate() {
            let keep = match input.keep >> (2 * at) & 3 {
                0 => Keep::All,
                1 => Keep::Nothing,
                _ => Keep::Latest,
            };
            journal.keep(kind.id, keep).expect("a healthy disk");
        }
        journal.compact(&CompactOptions::new().thorough(true)).expect("a healthy disk");
    };
    for (at, (drafts, key)) in input.batches.iter().enumerate() {
        if model.written.len() + drafts.len() > ENTRIES_MAX {
            break;
        }
        model.append(&journal, drafts, *key, false).expect("a healthy disk");
        if at == usize::from(input.compacted_after) {
            compact(&journal);
        }
    }
    let filler = journal.kind("filler").expect("a healthy disk");
    for _ in 0..FILL {
        journal.append(Record::new(filler, b"key", &[7; 200])).expect("a healthy disk");
    }
    compact(&journal);
    let known = model.written.len();
    let ids: Vec<KindId> = journal.kinds().iter().map(|kind| kind.id).collect();
    journal.close().expect("a healthy disk");
    let mut files = disk.files();
    if input.derived_are_lost {
        files.retain(|name, _| !name.ends_with(".idx") && name != "entities");
    }
    let (mut compacted, rest) = files
        .into_iter()
        .partition::<std::collections::BTreeMap<_, _>, _>(|(name, _)| name.contains(".snap") || name == "MANIFEST");
    for damage in &input.damage {
        let Some(name) = damage.apply(&mut compacted) else { continue };
        if let Some(bytes) = compacted.get_mut(&name).filter(|_| input.mended) {
            mend_file(bytes);
        }
    }
    let mut files = rest;
    files.extend(compacted);

    let see = |entry: &Entry<'_>| {
        if !input.mended && entry.kind() != filler && entry.seq().get() <= known as u64 {
            model.check_entry(entry, &|kind| model.name_of(kind));
        }
    };
    if let Ok(reader) = Reader::open_on(&Simulator::with(files.clone()))
        && let Ok(view) = reader.view()
    {
        read_all(&view, &ids, see);
        let _ = reader.cursors();
    }
    let _ = verify_in(&Simulator::with(files.clone()), Check::Full);
    let repaired = Simulator::new();
    if repair_in(&Simulator::with(files.clone()), &repaired).is_ok()
        && let Ok(journal) = options.open_in(&repaired)
    {
        read_all(&journal.view(), &ids, see);
    }
    let disk = Simulator::with(files);
    let Ok(journal) = options.open_in(&disk) else { return };
    let seen = read_all(&journal.view(), &ids, see);
    if !input.mended {
        assert!(seen.is_sorted(), "in order");
    }
    let _ = journal.append(Record::new(filler, b"key", b"appended after the damage"));
    let _ = journal.compact(&CompactOptions::new().thorough(true));
    let _ = journal.erase(filler, b"key");
    let _ = journal.close();
});
