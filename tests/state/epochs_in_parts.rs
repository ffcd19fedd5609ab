//! Ends of epochs that take more than one batch: decided as a whole, carried out in parts.

use esker::{Closing, CompactOptions, ErrorKind, Keep, Options, Simulator, Store, Window};

use super::harbour::{VESSEL, alive, crashed, follow, told, vessel};

/// Ends of more than nothing are carried out in parts, and a batch has room for a dozen retractions.
fn options() -> Options {
    let options = Options::new().background(false).window(Window::Manual);
    options.segment_bytes(8192).epoch_batch_bytes(0)
}

fn open(disk: &Simulator) -> Store {
    Store::over(options().open_in(disk).unwrap())
}

const VESSELS: usize = 100;

/// Vessels that the radar asserts; of some the pilot says too that they are there.
fn filled(disk: &Simulator) -> (Store, esker::Source, esker::Source) {
    let store = open(disk);
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    for n in 0..VESSELS {
        radar.assert(VESSEL, format!("v{n}"), &vessel("v", 1.0)).unwrap();
        if n % 10 == 0 {
            pilot.assert(VESSEL, format!("v{n}"), &vessel("v", 1.0)).unwrap();
        }
    }
    pilot.assert(VESSEL, "pilot's own", &vessel("own", 1.0)).unwrap();
    store.flush().unwrap();
    (store, radar, pilot)
}

/// What the radar asserts.
fn asserted(store: &Store) -> usize {
    store.scan(VESSEL).unwrap().filter(|row| row.as_ref().unwrap().sources().contains(0)).count()
}

/// True if a part of it was taken back, as the log stands: nobody has opened it as live state. By those that only the radar asserts.
fn is_cut(disk: &Simulator) -> bool {
    let journal = options().open_in(&Simulator::with(disk.files())).unwrap();
    let Some(kind) = journal.kind_named("vessel") else { return false };
    let view = journal.view();
    let is_alive = |n: &usize| {
        let entry = view.latest(kind.id, format!("v{n}").as_bytes()).unwrap();
        entry.is_some_and(|entry| !entry.payload().is_empty())
    };
    let its_own = || (0..VESSELS).filter(|n| n % 10 != 0);
    let alive = its_own().filter(is_alive).count();
    alive > 0 && alive < its_own().count()
}

#[test]
fn s21_a_large_epoch_retracts_what_its_source_did_not_say_again_and_a_follower_is_told_once() {
    let disk = Simulator::new();
    let (store, radar, _pilot) = filled(&disk);
    let mut changes = follow(&store);
    let flushes = store.state_stats().unwrap().flushes;
    let epoch = radar.epoch(VESSEL).unwrap();
    radar.assert(VESSEL, "v1", &vessel("v", 1.0)).unwrap();
    radar.assert(VESSEL, "new", &vessel("new", 1.0)).unwrap();
    let outcome = epoch.commit().unwrap();
    assert_eq!((outcome.touched, outcome.retracted), (2, VESSELS as u64 - 1));
    assert!(store.state_stats().unwrap().flushes > flushes + 3, "in several batches");
    assert_eq!(alive(&store, "v1"), Some((1, vec![0])));
    assert_eq!(alive(&store, "v10"), Some((1, vec![1])), "the pilot says that it is there");
    assert_eq!(alive(&store, "v11"), None);
    let mut lines = told(&mut changes);
    lines.sort();
    let mut expected: Vec<String> =
        (2..VESSELS).filter(|n| n % 10 != 0).map(|n| format!("v{n} v2 deleted")).collect();
    expected.push("new v1 created".to_owned());
    expected.sort();
    assert_eq!(lines, expected);
    // It may be begun anew at once, and what was listed is not there any more.
    assert_eq!(radar.retract_all(VESSEL).unwrap().retracted, 2);
    let lists = store.journal().kind_named("esker.epochs").unwrap();
    assert_eq!(lists.keep, Keep::Latest);
    for entry in store.journal().view().region(&esker::Region::kind(lists.id)).map(Result::unwrap) {
        let newest = store.journal().view().latest(lists.id, entry.key()).unwrap().unwrap().payload().len();
        assert_eq!(newest, 0, "{:?}", String::from_utf8_lossy(entry.key()));
    }
}

#[test]
fn s22_a_crash_at_every_part_of_a_large_commit_leaves_all_of_it_or_nothing() {
    let disk = Simulator::new();
    let (store, radar, _pilot) = filled(&disk);
    let begun = disk.events();
    assert_eq!(radar.retract_all(VESSEL).unwrap().retracted, VESSELS as u64);
    let ended = disk.events();
    drop((store, radar));
    let (mut none, mut all, mut parts) = (0, 0, 0);
    for events in begun..=ended {
        for seed in 0..4_u64 {
            let crashed = crashed(&disk, events, seed);
            parts += usize::from(is_cut(&crashed));
            let store = open(&crashed);
            let left = asserted(&store);
            assert!(left == 0 || left == VESSELS, "behind {events} operations of the disk: {left} rows");
            assert!(events < ended || left == 0, "it was acknowledged");
            assert_eq!(store.scan(VESSEL).unwrap().count(), if left == 0 { 11 } else { 101 }, "others'");
            *(if left == 0 { &mut all } else { &mut none }) += 1;
            // Also a source that comes back says what it says behind that.
            let radar = store.source("radar").unwrap();
            radar.assert(VESSEL, "v7", &vessel("back", 1.0)).unwrap();
            store.flush().unwrap();
            store.close().unwrap();
            let store = open(&crashed);
            assert!(alive(&store, "v7").is_some(), "what was said behind an end is not taken back by it");
        }
    }
    assert!(none > 0 && all > 0 && parts > 20, "{none} times nothing, {all} times all, {parts} times a part");
}

#[test]
fn what_the_source_says_while_a_large_epoch_ends_stays_said() {
    let disk = Simulator::new();
    let (store, radar, _pilot) = filled(&disk);
    for round in 0..200_u32 {
        for n in 0..VESSELS {
            radar.assert(VESSEL, format!("v{n}"), &vessel("v", 1.0)).unwrap();
        }
        store.flush().unwrap();
        let epoch = radar.epoch(VESSEL).unwrap();
        // Once, at some moment of the end: as it was, so that no row tells of it.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..round * 20).for_each(|_| std::hint::spin_loop());
                if round % 2 == 0 {
                    radar.assert(VESSEL, "v99", &vessel("v", 1.0)).unwrap();
                } else {
                    let mut batch = store.batch();
                    batch.assert(&radar, VESSEL, "v99", &vessel("v", 1.0)).unwrap();
                    batch.commit().unwrap();
                }
            });
            epoch.commit().unwrap();
        });
        store.flush().unwrap();
        assert_eq!((asserted(&store), alive(&store, "v99").is_some()), (1, true), "round {round}");
        if round % 50 == 0 {
            store.journal().compact(&CompactOptions::new()).unwrap();
        }
    }
}

#[test]
fn a_full_disk_in_the_midst_of_a_large_epoch_leaves_an_end_that_is_carried_on() {
    let disk = Simulator::new();
    let (store, radar, pilot) = filled(&disk);
    let mut cut = 0;
    for room in (0..40_000).step_by(500) {
        for n in 0..VESSELS {
            radar.assert(VESSEL, format!("v{n}"), &vessel("v", 1.0)).unwrap();
        }
        store.flush().unwrap();
        disk.limit_space(Some(room));
        let ended = radar.retract_all(VESSEL);
        let before = asserted(&store);
        disk.limit_space(None);
        if let Err(error) = ended {
            assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
            cut += usize::from(before < VESSELS);
        } else {
            assert_eq!(before, 0);
        }
        // Nothing was decided, or it is carried on before the source says anything.
        radar.assert(VESSEL, "v3", &vessel("v", 2.0)).unwrap();
        store.flush().unwrap();
        assert!([1, VESSELS].contains(&asserted(&store)), "{room}: {}", asserted(&store));
        assert!(alive(&store, "v3").is_some() && alive(&store, "pilot's own").is_some());
        store.journal().compact(&CompactOptions::new()).unwrap();
    }
    assert!(cut > 0, "no end was cut by a full disk");
    drop((radar, pilot));
    store.close().unwrap();
    assert_eq!(esker::verify_in(&disk, esker::Check::Full).unwrap().verdict, esker::Verdict::Valid);
}

/// A disk on which an end is decided, and not carried out.
fn decided() -> Simulator {
    let disk = Simulator::new();
    let (_store, radar, _pilot) = filled(&disk);
    let begun = disk.events();
    radar.retract_all(VESSEL).unwrap();
    let ended = disk.events();
    (begun..ended).map(|events| disk.kill(events)).find(is_cut).unwrap()
}

/// Ends an epoch of all, which is decided and then cut by a full disk.
fn cut_by_a_full_disk(disk: &Simulator, store: &Store, radar: &esker::Source) {
    let is_cut_by = |room: usize| {
        disk.limit_space(Some(room));
        let ended = radar.retract_all(VESSEL);
        disk.limit_space(None);
        ended.is_err() && asserted(store) < VESSELS
    };
    assert!((0..40_000).step_by(500).any(is_cut_by));
}

#[test]
fn what_was_decided_for_a_source_that_was_retired_since_takes_nothing_from_who_has_its_name_and_number_next()
{
    let disk = Simulator::new();
    let (store, radar, pilot) = filled(&disk);
    cut_by_a_full_disk(&disk, &store, &radar);
    drop(radar);
    store.retire_source("radar", Closing::Retract).unwrap();
    drop(pilot);
    store.close().unwrap();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    assert_eq!(radar.id(), 0, "it has the name and the number");
    radar.assert(VESSEL, "v5", &vessel("v", 1.0)).unwrap();
    store.flush().unwrap();
    drop(radar);
    store.close().unwrap();
    assert_eq!(asserted(&open(&disk)), 1);
}

#[test]
fn what_cannot_be_carried_out_is_tried_again_by_a_flush() {
    let disk = Simulator::new();
    let (store, radar, _pilot) = filled(&disk);
    cut_by_a_full_disk(&disk, &store, &radar);
    store.flush().unwrap();
    assert_eq!(asserted(&store), 0);
}

#[test]
fn a_commit_that_rots_silences_nobody() {
    let mut files = decided().files();
    let key = b"commit/0/";
    let is_there = |bytes: &Vec<u8>| bytes.windows(key.len()).position(|window| window == key);
    let found = files.values_mut().find_map(|bytes| is_there(bytes).map(|at| (bytes, at)));
    let (bytes, at) = found.unwrap();
    // Its frame's payload: the source's name.
    let name = at + bytes[at..].windows(5).position(|window| window == b"radar").unwrap();
    bytes[name] ^= 1;
    let store = match options().open_in(&Simulator::with(files.clone())) {
        // Where its index is lost with the crash nobody opens such a store but to repair it.
        Err(error) => {
            assert!(error.is_corruption());
            let repaired = Simulator::new();
            esker::repair_in(&Simulator::with(files), &repaired).unwrap();
            open(&repaired)
        }
        Ok(journal) => Store::over(journal),
    };
    let before = asserted(&store);
    assert!(before > 0, "nobody knows what was decided");
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "new", &vessel("new", 1.0)).unwrap();
    store.flush().unwrap();
    assert_eq!(asserted(&store), before + 1);
}
