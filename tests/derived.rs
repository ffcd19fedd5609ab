//! Derived files are caches: missing, cut short or full of garbage, the store opens with the
//! same content, and writes them again.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::collections::BTreeMap;

use esker::{
    Check, CompactOptions, Durability, ErrorKind, Expect, Generation, IdempotencyKey, Journal, Keep, Options,
    Record, Seq, Simulator, Verdict, verify_in,
};

type Files = BTreeMap<String, Vec<u8>>;

/// More entities than are worth a file of their own.
const ENTITIES: u32 = 5000;
const NAMED: IdempotencyKey = IdempotencyKey([3; 16]);

fn open(disk: &Simulator) -> Journal {
    let options = Options::new().segment_bytes(64 << 10).background(false).durability(Durability::Os);
    options.open_in(disk).unwrap_or_else(|error| panic!("{error}"))
}

/// A store of many segments with an index each and a directory of entities, closed in order.
fn closed_store() -> Files {
    let disk = Simulator::new();
    let journal = open(&disk);
    let kind = journal.kind("vessel").unwrap();
    for round in 0..2u32 {
        for entity in 0..ENTITIES {
            if round == 1 && entity % 5 != 0 {
                continue;
            }
            let _ = journal
                .append_nowait(Record::new(kind, &entity.to_le_bytes(), &round.to_le_bytes()))
                .unwrap();
        }
        // In the middle of the log, so that the directory covers some and not all of it.
        journal.sync().unwrap();
    }
    let mut batch = journal.batch().idempotency_key(NAMED);
    batch.push(Record::new(kind, &[0; 4], b"named"));
    batch.commit().unwrap();
    journal.close().unwrap();
    disk.files()
}

/// Everything that is asked of a store whose derived files may be bad.
fn is_the_same(files: &Files, shown: &str) -> Files {
    let disk = Simulator::with(files.clone());
    let journal = open(&disk);
    let kind = journal.kind("vessel").unwrap();
    let entries = u64::from(ENTITIES + ENTITIES / 5 + 1);
    let stats = journal.stats();
    assert_eq!(stats.entries, entries, "{shown}");
    // How many there are is the one thing that a page in doubt takes along until it is rewritten.
    assert!(stats.entities == u64::from(ENTITIES) || shown.ends_with("entities"), "{shown}: {stats:?}");
    assert!(journal.recovery().clean, "{shown}: {:?}", journal.recovery());
    let view = journal.view();
    let seqs = view.range(..).map(|entry| entry.unwrap().seq().get());
    assert!(seqs.eq(1..=entries), "{shown}");
    for entity in (0..ENTITIES).step_by(97).chain([0, ENTITIES - 1]) {
        let key = entity.to_le_bytes();
        let count = 1 + u64::from(entity % 5 == 0) + u64::from(entity == 0);
        let forward = view.entity(kind, &key).map(|entry| entry.unwrap().generation().get());
        assert!(forward.eq(1..=count), "{shown}, entity {entity}");
        let newest = view.latest(kind, &key).unwrap().unwrap().generation().get();
        assert_eq!(newest, count, "{shown}, entity {entity}");
    }
    assert!(view.latest(kind, b"nobody").unwrap().is_none(), "{shown}");
    // Generations go on where they were, and so does the memory of keys.
    let seven = 7u32.to_le_bytes();
    assert!(journal.append(Record::new(kind, &seven, b"").expect(Expect::New)).is_err(), "{shown}");
    let first = Expect::Generation(Generation::FIRST);
    assert_eq!(
        journal.append(Record::new(kind, &seven, b"").expect(first)).unwrap().generation.get(),
        2,
        "{shown}"
    );
    let new = journal.append(Record::new(kind, b"new", b"").expect(Expect::New)).unwrap();
    assert_eq!((new.seq.get(), new.generation.get()), (entries + 2, 1), "{shown}");
    let mut batch = journal.batch().idempotency_key(NAMED);
    batch.push(Record::new(kind, &[0; 4], b"named"));
    assert!(batch.commit().unwrap().repeated, "{shown}");
    drop(view);
    journal.close().unwrap();
    let again = open(&disk);
    assert!(again.recovery().clean && again.stats().entries == entries + 2, "{shown}");
    let after = disk.files();
    drop(again);
    after
}

fn is_derived(name: &str) -> bool {
    name.ends_with(".idx") || name == "entities"
}

#[test]
fn a_closed_store_has_its_directory_of_entities_and_an_index_for_each_segment() {
    let files = closed_store();
    let segments = files.keys().filter(|name| name.ends_with(".seg")).count();
    assert!(segments > 5 && files.contains_key("entities"), "{:?}", files.keys());
    assert_eq!(files.keys().filter(|name| name.ends_with(".idx")).count(), segments);
    let journal = open(&Simulator::with(files.clone()));
    assert!(journal.stats().entities_on_heap < u64::from(ENTITIES) / 2, "{:?}", journal.stats());
    drop(journal);
    is_the_same(&files, "untouched");
}

#[test]
fn any_derived_file_may_be_missing_and_is_written_again() {
    let files = closed_store();
    for gone in files.keys().filter(|name| is_derived(name)) {
        let mut rest = files.clone();
        rest.remove(gone);
        is_the_same(&rest, &format!("without {gone}"));
    }
    let mut bare = files.clone();
    bare.retain(|name, _| !is_derived(name));
    let after = is_the_same(&bare, "without all of them");
    let derived = |files: &Files| files.keys().filter(|name| is_derived(name)).cloned().collect::<Vec<_>>();
    let last = |files: &Files| derived(files).into_iter().rfind(|name| name.ends_with(".idx"));
    assert!(last(&after) >= last(&files), "{:?}, not {:?}", derived(&after), derived(&files));
}

#[test]
fn garbage_in_any_derived_file_is_noticed() {
    let files = closed_store();
    for name in files.keys().filter(|name| is_derived(name)) {
        let length = files[name].len();
        for what in ["empty", "cut", "longer", "zeros", "ones", "a flip in the header", "a flip in the body"]
        {
            let mut damaged = files.clone();
            let bytes = damaged.get_mut(name).unwrap();
            match what {
                "empty" => bytes.clear(),
                "cut" => bytes.truncate(length / 2),
                "longer" => bytes.extend([0; 4096]),
                "zeros" => bytes.fill(0),
                "ones" => bytes.fill(0xff),
                "a flip in the header" => bytes[60] ^= 1,
                _ => bytes[length * 2 / 3] ^= 0x10,
            }
            is_the_same(&damaged, &format!("{what}: {name}"));
        }
    }
}

#[test]
fn an_index_of_another_segment_or_of_an_earlier_time_is_not_believed() {
    let files = closed_store();
    let indexes: Vec<&String> = files.keys().filter(|name| name.ends_with(".idx")).collect();
    for pair in indexes.windows(2) {
        let mut swapped = files.clone();
        swapped.insert(pair[0].clone(), files[pair[1]].clone());
        swapped.insert(pair[1].clone(), files[pair[0]].clone());
        is_the_same(&swapped, &format!("{} and {} swapped", pair[0], pair[1]));
    }
    // The directory of a shorter log lies behind the newer indexes, and is brought up to them.
    let disk = Simulator::with(files.clone());
    let journal = open(&disk);
    let kind = journal.kind("vessel").unwrap();
    for entity in 0..200u32 {
        journal.append(Record::new(kind, &entity.to_le_bytes(), &[1; 400])).unwrap();
    }
    journal.close().unwrap();
    let mut older = disk.files();
    older.insert("entities".to_owned(), files["entities"].clone());
    let journal = open(&Simulator::with(older));
    for entity in 0..200u32 {
        let count = 2 + u64::from(entity % 5 == 0) + u64::from(entity == 0);
        let key = entity.to_le_bytes();
        let found = journal.latest(kind, &key).unwrap().unwrap().generation().get();
        assert_eq!(found, count, "entity {entity}");
    }
}

/// A page of the directory is in doubt, so the next one is made of the indexes; and one of those,
/// early in the log, is gone.
#[test]
fn generations_go_on_whatever_two_derived_files_are_lost_together() {
    let open = |disk: &Simulator| {
        let options = Options::new().segment_bytes(4 << 10).background(false).durability(Durability::Os);
        options.open_in(disk).unwrap()
    };
    let disk = Simulator::new();
    let journal = open(&disk);
    let kind = journal.kind("vessel").unwrap();
    for round in 0..3u32 {
        for entity in 0..200u32 {
            let payload = round.to_le_bytes();
            let _ = journal.append_nowait(Record::new(kind, &entity.to_le_bytes(), &payload)).unwrap();
        }
    }
    journal.close().unwrap();
    let files = disk.files();
    let indexes: Vec<&String> = files.keys().filter(|name| name.ends_with(".idx")).collect();
    for index in indexes {
        let mut damaged = files.clone();
        damaged.get_mut("entities").unwrap()[4096 + 40] ^= 1;
        damaged.remove(index);
        let disk = Simulator::with(damaged);
        let journal = open(&disk);
        // Over a few entities, until the directory is written again.
        for n in 0..400u32 {
            journal.append(Record::new(kind, &(n % 7).to_le_bytes(), b"payload")).unwrap();
            if n % 100 == 0 {
                journal.sync().unwrap();
            }
        }
        for entity in 7..200u32 {
            let receipt = journal.append(Record::new(kind, &entity.to_le_bytes(), b"x")).unwrap();
            assert_eq!(receipt.generation.get(), 4, "entity {entity}, without {index}");
        }
        journal.close().unwrap();
        let found = esker::verify_in(&disk, esker::Check::Full).unwrap();
        assert_eq!(found.verdict, esker::Verdict::Valid, "without {index}: {:#?}", found.findings);
    }
}

#[test]
fn entities_are_counted_while_the_directory_is_written_again_and_again() {
    const EACH: u32 = 40_000;
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new().segment_bytes(256 << 10).durability(Durability::Os);
    let journal = options.open(directory.path().join("a.esker")).unwrap();
    let kind = journal.kind("vessel").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..2u32 {
            let journal = &journal;
            scope.spawn(move || {
                for n in 0..EACH {
                    let key = (thread * EACH + n).to_le_bytes();
                    let _ = journal.append_nowait(Record::new(kind, &key, b"x")).unwrap();
                    if n % 5_000 == 0 {
                        journal.sync().unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(journal.stats().entities, u64::from(2 * EACH));
    journal.close().unwrap();
}

fn generation_of(journal: &Journal, kind: esker::KindId, entity: u32) -> u64 {
    let view = journal.view();
    view.latest(kind, &entity.to_le_bytes()).unwrap().map_or(0, |entry| entry.generation().get())
}

/// A store of many entities opens as fast as one of few.
#[test]
fn an_opening_learns_nothing_of_what_indexes_know() {
    let disk = Simulator::with(closed_store());
    for (round, touched) in [(0u32, 40u32), (1, 30), (2, 20)] {
        let journal = open(&disk);
        let stats = journal.stats();
        assert_eq!(stats.entities_on_heap, 0, "opening {round}");
        assert_eq!(stats.entities, u64::from(ENTITIES + 10 * round), "opening {round}");
        let kind = journal.kind("vessel").unwrap();
        // Some that the file knows, some that an index alone knows, and ten that nobody does.
        for entity in (0..touched).chain(ENTITIES..ENTITIES + 10 * (round + 1)) {
            let generation = generation_of(&journal, kind, entity);
            let receipt = journal.append(Record::new(kind, &entity.to_le_bytes(), b"again")).unwrap();
            assert_eq!(receipt.generation.get(), generation + 1, "opening {round}, entity {entity}");
        }
        assert_eq!(generation_of(&journal, kind, 3), 2 + u64::from(round), "opening {round}");
        journal.close().unwrap();
    }
    assert_eq!(esker::verify_in(&disk, esker::Check::Full).unwrap().verdict, esker::Verdict::Valid);
}

#[test]
fn entities_whose_older_entries_were_compacted_are_counted() {
    let disk = Simulator::new();
    let journal = open(&disk);
    let row = journal.kind("row").unwrap();
    journal.keep(row, Keep::Latest).unwrap();
    let round = |journal: &Journal| {
        for key in 0..10u8 {
            journal.append(Record::new(row, &[key], &[0; 200])).unwrap();
        }
    };
    while journal.stats().segments < 3 {
        round(&journal);
    }
    round(&journal);
    assert!(journal.compact(&CompactOptions::new()).unwrap().entries_dropped > 0);
    assert_eq!(journal.stats().entities, 10);
    journal.close().unwrap();
    let journal = open(&disk);
    assert_eq!(journal.stats().entities_on_heap, 0, "the index of the segment that is left knows them");
    assert_eq!(journal.stats().entities, 10);
}

/// A copy of a live store by other means, or a restored file: the index is from before its segment was written on.
#[test]
fn an_index_that_ends_before_its_segment_does_hides_nothing_and_takes_nothing_along() {
    for is_killed in [false, true] {
        let disk = Simulator::new();
        let mut lives = 0;
        let mut live = |disk: &Simulator, entries: u8| {
            lives += 1;
            let journal = open(disk);
            let kind = journal.kind("vessel").unwrap();
            // One that each life writes once.
            journal.append(Record::new(kind, &[100 + lives], b"once")).unwrap();
            for n in 0..entries {
                journal.append(Record::new(kind, &[n % 3], &[lives; 500])).unwrap();
            }
            journal
        };
        live(&disk, 9).close().unwrap();
        let old = disk.files().remove("0000000001.idx").unwrap();
        // On in the same segment, to its end or to a kill, and then in others.
        let journal = live(&disk, if is_killed { 9 } else { 200 });
        let disk = if is_killed { disk.kill(disk.events()) } else { disk.clone() };
        drop(journal);
        live(&disk, 200).close().unwrap();
        let mut files = disk.files();
        assert_ne!(files.insert("0000000001.idx".to_owned(), old.clone()).unwrap(), old);

        let disk = Simulator::with(files);
        let journal = open(&disk);
        let kind = journal.kind("vessel").unwrap();
        let view = journal.view();
        let all = view.range(..).map(|entry| entry.unwrap().seq().get()).collect::<Vec<_>>();
        for key in 0..3 {
            let by_entity: Vec<_> = view.entity(kind, &[key]).map(|entry| entry.unwrap().seq()).collect();
            let by_walk = view.range(..).map(Result::unwrap).filter(|entry| entry.key() == [key]);
            assert_eq!(
                by_entity,
                by_walk.map(|entry| entry.seq()).collect::<Vec<_>>(),
                "killed: {is_killed}"
            );
        }
        journal.keep(kind, Keep::Latest).unwrap();
        journal.compact(&CompactOptions::new().thorough(true)).unwrap();
        let view = journal.view();
        assert!(view.range(..).count() < all.len() / 2);
        for key in [101, 102, 103] {
            assert!(view.latest(kind, &[key]).unwrap().is_some(), "killed: {is_killed}: {key} is gone");
        }
        let found = verify_in(&disk, Check::Full).unwrap();
        assert_eq!(found.verdict, Verdict::Valid, "{:#?}", found.findings);
    }
}

/// In a mode that does not sync, no frame says of those before it that they are durable: that the log goes on in another
/// segment does.
#[test]
fn what_stands_behind_damage_is_shown_also_of_a_segment_that_has_lost_its_index() {
    for durability in [Durability::Sync, Durability::Os] {
        let disk = Simulator::new();
        let options = Options::new().segment_bytes(4096).background(false).durability(durability);
        let journal = options.clone().open_in(&disk).unwrap();
        let note = journal.kind("note").unwrap();
        let text = |n: u64| format!("the content of number {n:04}");
        for n in 1..=200 {
            journal.append(Record::new(note, format!("k{}", n % 7).as_bytes(), text(n).as_bytes())).unwrap();
        }
        journal.close().unwrap();
        drop(journal);
        let mut files = disk.files();
        files.remove("0000000002.idx").unwrap();
        let segment = files.get_mut("0000000002.seg").unwrap();
        let is_here = |n: &u64| segment.windows(text(*n).len()).any(|found| found == text(*n).as_bytes());
        let held: Vec<u64> = (1..=200).filter(is_here).collect();
        let bad = held[2];
        let at = segment.windows(text(bad).len()).position(|found| found == text(bad).as_bytes()).unwrap();
        segment[at] ^= 1;
        let journal = options.open_in(&Simulator::with(files)).unwrap();
        let view = journal.view();
        for n in 1..=200 {
            let found =
                view.get(Seq::new(n).unwrap()).map(|entry| entry.map(|entry| entry.payload().to_vec()));
            if n == bad {
                assert_eq!(found.unwrap_err().kind(), ErrorKind::Corrupt);
            } else {
                assert_eq!(found.unwrap().as_deref(), Some(text(n).as_bytes()), "{n}, {durability:?}");
            }
        }
        journal.keep(note, Keep::Latest).unwrap();
        let done = journal.compact(&CompactOptions::new().thorough(true)).unwrap();
        assert_eq!(done.damaged, 1, "{done:?}");
        let left = held
            .iter()
            .filter(|n| journal.view().get(Seq::new(**n).unwrap()).is_ok_and(|entry| entry.is_some()));
        assert_eq!(left.count(), held.len() - 1, "a segment with damage stays as it is");
    }
}
