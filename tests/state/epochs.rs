//! Epochs: what a source does not say again it takes back.

use esker::{ErrorKind, Simulator};

use super::harbour::{VESSEL, alive, change_often, crashed, follow, open, store, told, vessel};

#[test]
fn s21_an_epoch_retracts_what_its_source_did_not_say_again() {
    let store = store();
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    for name in ["ada", "grace", "joan", "mary"] {
        radar.assert(VESSEL, name, &vessel(name, 1.0)).unwrap();
    }
    pilot.assert(VESSEL, "joan", &vessel("joan", 1.0)).unwrap();
    pilot.assert(VESSEL, "pilot's own", &vessel("own", 1.0)).unwrap();
    store.flush().unwrap();
    let mut changes = follow(&store);
    // Said before the epoch, and flushed only in it.
    radar.assert(VESSEL, "late", &vessel("late", 1.0)).unwrap();
    let epoch = radar.epoch(VESSEL).unwrap();
    radar.assert(VESSEL, "ada", &vessel("ada", 1.0)).unwrap();
    radar.assert(VESSEL, "grace", &vessel("grace", 2.0)).unwrap();
    radar.assert(VESSEL, "new", &vessel("new", 1.0)).unwrap();
    pilot.assert(VESSEL, "mary", &vessel("mary", 1.0)).unwrap();
    let mut stale: Vec<String> =
        epoch.stale().unwrap().iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect();
    stale.sort();
    assert_eq!(stale, ["joan", "late", "mary"]);
    let outcome = epoch.commit().unwrap();
    assert_eq!((outcome.touched, outcome.retracted), (3, 3));
    let mut lines = told(&mut changes);
    lines.sort();
    assert_eq!(
        lines,
        [r#"grace v2 updated ["knots"]"#, "late v1 created", "late v2 deleted", "new v1 created"]
    );
    assert_eq!(alive(&store, "joan"), Some((1, vec![1])), "the pilot says that it is there");
    assert_eq!(alive(&store, "mary"), Some((1, vec![1])));
    assert_eq!(alive(&store, "ada"), Some((1, vec![0])), "said again as it was");
    assert_eq!(alive(&store, "pilot's own"), Some((1, vec![1])), "others' entities are not affected");
}

#[test]
fn s22_an_epoch_that_is_dropped_takes_nothing_back_and_there_is_one_at_a_time() {
    let store = store();
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    radar.assert(VESSEL, "ada", &vessel("ada", 1.0)).unwrap();
    let epoch = radar.epoch(VESSEL).unwrap();
    assert_eq!(radar.epoch(VESSEL).unwrap_err().kind(), ErrorKind::EpochOpen);
    drop(pilot.epoch(VESSEL).unwrap());
    radar.assert(VESSEL, "grace", &vessel("grace", 1.0)).unwrap();
    drop(epoch);
    store.flush().unwrap();
    assert!(alive(&store, "ada").is_some() && alive(&store, "grace").is_some());
    assert_eq!(radar.epoch(VESSEL).unwrap().commit().unwrap().retracted, 2, "nothing was said in it");
    assert!(store.scan(VESSEL).unwrap().next().is_none());
    pilot.assert(VESSEL, "ada", &vessel("ada", 1.0)).unwrap();
    assert_eq!(pilot.retract_all(VESSEL).unwrap().retracted, 1);
    assert!(store.scan(VESSEL).unwrap().next().is_none());
    let epoch = radar.epoch(VESSEL).unwrap();
    store.close().unwrap();
    assert_eq!(epoch.commit().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn s22_a_crash_leaves_an_epoch_s_end_whole_or_not_at_all() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    for n in 0..8 {
        radar.assert(VESSEL, format!("v{n}"), &vessel("v", 1.0)).unwrap();
    }
    store.flush().unwrap();
    let begun = disk.events();
    let epoch = radar.epoch(VESSEL).unwrap();
    radar.assert(VESSEL, "v0", &vessel("v", 1.0)).unwrap();
    assert_eq!(epoch.commit().unwrap().retracted, 7);
    let ended = disk.events();
    let mut seen = [0; 2];
    for events in begun..=ended {
        for seed in 0..20u64 {
            let crashed = crashed(&disk, events, seed);
            let rows = open(&crashed).scan(VESSEL).unwrap().count();
            assert!(rows == 8 || rows == 1, "behind {events} operations of the disk: {rows} rows");
            seen[usize::from(rows == 1)] += 1;
            assert!(events < ended || rows == 1, "it was acknowledged");
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

#[test]
fn s22_the_end_of_an_epoch_is_one_batch_also_where_that_is_larger_than_others_may_be() {
    let disk = Simulator::new();
    let store = open(&disk);
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    for n in 0..400 {
        radar.assert(VESSEL, format!("vessel-{n}"), &vessel("v", 1.0)).unwrap();
    }
    pilot.assert(VESSEL, "vessel-7", &vessel("v", 1.0)).unwrap();
    store.flush().unwrap();
    let (begun, flushes) = (disk.events(), store.state_stats().unwrap().flushes);
    // Far more than a batch or a segment of these options.
    assert_eq!(radar.epoch(VESSEL).unwrap().commit().unwrap().retracted, 400);
    assert_eq!(store.state_stats().unwrap().flushes, flushes + 1);
    let ended = disk.events();
    let mut seen = [0; 2];
    for events in begun..=ended {
        for seed in 0..10u64 {
            let crashed = crashed(&disk, events, seed);
            let rows = open(&crashed).scan(VESSEL).unwrap().count();
            assert!(rows == 400 || rows == 1, "behind {events} operations of the disk: {rows} rows");
            assert!(events < ended || rows == 1, "it was acknowledged");
            seen[usize::from(rows == 1)] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
    // The log goes on behind it, is read from the outside, and compacted.
    change_often(&store, &radar, "busy", 200);
    store.journal().compact(&esker::CompactOptions::new()).unwrap();
    drop((radar, pilot));
    store.close().unwrap();
    assert_eq!(esker::verify_in(&disk, esker::Check::Full).unwrap().verdict, esker::Verdict::Valid);
    assert_eq!(open(&disk).scan(VESSEL).unwrap().count(), 2);
}

#[test]
fn s22_an_epoch_that_is_begun_anew_takes_the_place_of_the_one_that_is_open() {
    let store = store();
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    let of_pilot = pilot.epoch(VESSEL).unwrap();
    let first = radar.epoch_anew(VESSEL).unwrap();
    radar.assert(VESSEL, "ada", &vessel("ada", 1.0)).unwrap();
    let second = radar.epoch_anew(VESSEL).unwrap();
    radar.assert(VESSEL, "grace", &vessel("grace", 1.0)).unwrap();
    let refused = first.commit().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::SourceEnded, "{refused}");
    assert!(alive(&store, "ada").is_some(), "it has taken nothing back");
    assert_eq!(radar.epoch(VESSEL).unwrap_err().kind(), ErrorKind::EpochOpen, "the second one is open");
    let outcome = second.commit().unwrap();
    assert_eq!((outcome.touched, outcome.retracted), (1, 1), "what was said in the first is not said again");
    assert!(alive(&store, "ada").is_none() && alive(&store, "grace").is_some());
    assert_eq!(of_pilot.commit().unwrap().retracted, 0, "another source's is not affected");
    // A guard that is dropped when another has taken its place ends nothing.
    let first = radar.epoch(VESSEL).unwrap();
    let second = radar.epoch_anew(VESSEL).unwrap();
    drop(first);
    assert_eq!(second.commit().unwrap().retracted, 1);
}
