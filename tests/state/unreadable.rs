//! One entity whose history cannot be gone on with, because a file that says how it goes on is damaged: it is refused itself,
//! and holds up nobody else.

use std::time::Duration;

use esker::{
    Closing, CompactOptions, ErrorKind, Heartbeat, Kind, Liveness, ManualClock, Patch, Simulator, Source,
    SourceOptions, Status, Store, Until,
};

use super::events::LOGGED;
use super::harbour::{Vessel, options, vessel};

const OTHER: Kind<Vessel> = Kind::new("other");
const DEADLINE: Duration = Duration::from_secs(30);

fn mortal() -> SourceOptions {
    SourceOptions::new().liveness(Liveness::Deadline(DEADLINE)).heartbeat(Heartbeat::ByHand)
}

fn open(disk: &Simulator) -> (ManualClock, Store) {
    let clock = ManualClock::new();
    (clock.clone(), Store::over(options().segment_bytes(16384).clock(clock).open_in(disk).unwrap()))
}

/// How many entries the first segment has.
fn in_the_first_segment(store: &Store) -> usize {
    store.view().entries().range(..).filter(|entry| entry.as_ref().unwrap().position().segment() == 1).count()
}

fn often(store: &Store, source: &Source, times: u16) {
    for heading in 0..times {
        source.assert(OTHER, "busy", &Vessel { heading, ..vessel("busy", 2.0) }).unwrap();
        store.flush().unwrap();
    }
}

/// A store in which the newest operation of "x" is in a part that cannot be opened, and its row is not.
fn torn() -> Simulator {
    let disk = Simulator::new();
    let (_, store) = open(&disk);
    let radar = store.source_with("radar", mortal()).unwrap();
    let say = |key: &str| {
        radar.assert(LOGGED, key, &vessel("v", 1.0)).unwrap();
        store.flush().unwrap();
    };
    say("x");
    // Nothing of the first segment is ever replaced.
    let mut n = 0;
    while store.view().entries().last_seq().unwrap().unwrap().get() == in_the_first_segment(&store) as u64 {
        say(&format!("quiet{n:03}"));
        n += 1;
    }
    say("x");
    often(&store, &radar, 700);
    store.journal().compact(&CompactOptions::new()).unwrap();
    often(&store, &radar, 400);
    let [rows, operations] =
        ["vessel", "esker.events.vessel"].map(|name| store.journal().kind_named(name).map(|kind| kind.id));
    let (view, rows) = (store.view(), rows.unwrap());
    let newest = |id| view.entries().entity(id, b"x").last().unwrap().unwrap().position();
    assert_eq!(newest(rows).segment(), 1);
    let operations = operations.unwrap();
    assert!(newest(operations).is_in_part(), "{:?}", newest(operations));
    drop((radar, view));
    store.close().unwrap();
    let mut files = disk.files();
    let part = files.get_mut("0000000001.snap").unwrap();
    part[8] ^= 0xff;
    part[40] ^= 0xff;
    Simulator::with(files)
}

#[test]
fn an_operation_on_it_is_refused_and_all_others_are_flushed() {
    let disk = torn();
    let (_, store) = open(&disk);
    let radar = store.source("pilot").unwrap();
    let x = vessel("v", 2.0);
    let refused = radar.assert(LOGGED, "x", &x).unwrap_err();
    assert!(refused.is_corruption(), "{refused}");
    let y = radar.assert(OTHER, "y", &x).unwrap();
    let z = radar.assert(LOGGED, "z", &x).unwrap();
    assert!(
        radar.patch(LOGGED, "x", &Patch::new().set("knots", &3.0f32).unwrap()).unwrap_err().is_corruption()
    );
    store.flush().unwrap();
    assert!(y.is_flushed() && z.is_flushed());
    let mut batch = store.batch();
    batch.assert(&radar, LOGGED, "x", &x).unwrap();
    assert!(batch.commit().unwrap_err().is_corruption());
    radar.retract(LOGGED, "z").unwrap().wait(Until::Durable).unwrap();
    drop(radar);
    store.close().unwrap();
    let (_, store) = open(&disk);
    assert_eq!(store.get(OTHER, "y").unwrap().unwrap().value().unwrap(), x);
}

#[test]
fn a_source_is_ended_but_for_it() {
    let disk = torn();
    let (clock, store) = open(&disk);
    let pilot = store.source("pilot").unwrap();
    // The deadline of the source that does not come back.
    clock.advance(DEADLINE);
    let told = store.flush().unwrap_err();
    assert!(told.is_corruption(), "{told}");
    assert_eq!(store.get(LOGGED, "quiet000").unwrap().map(|row| row.version()), None);
    assert!(store.get(OTHER, "busy").unwrap().is_none());
    assert!(matches!(store.status(LOGGED, "x").unwrap(), Status::Alive { .. }), "it is left");
    let is_settled = |name: &str| {
        store.journal().sources().into_iter().find(|source| source.name == name).unwrap().settled
    };
    assert!(!is_settled("radar"), "a row of it is left");
    clock.advance(DEADLINE);
    store.flush().unwrap();
    drop(pilot);
    store.close().unwrap();
    // Once the store is repaired the row goes as well.
    let repaired = Simulator::new();
    esker::repair_in(&disk, &repaired).unwrap();
    let (clock, store) = open(&repaired);
    let pilot = store.source("pilot").unwrap();
    clock.advance(DEADLINE);
    store.flush().unwrap();
    assert!(store.get(LOGGED, "x").unwrap().is_none(), "{:?}", store.status(LOGGED, "x"));
    let is_settled =
        store.journal().sources().into_iter().find(|source| source.name == "radar").unwrap().settled;
    assert!(is_settled);
    drop(pilot);
    store.close().unwrap();
}

#[test]
fn a_session_that_is_closed_takes_back_all_others_and_says_so() {
    let disk = torn();
    let (_, store) = open(&disk);
    let radar = store.source_with("radar", mortal()).unwrap();
    let refused = radar.close(Closing::Retract).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
    assert!(store.get(OTHER, "busy").unwrap().is_none());
    assert!(radar.epoch(LOGGED).unwrap().commit().unwrap_err().is_corruption());
    radar.assert(OTHER, "y", &vessel("v", 1.0)).unwrap().wait(Until::Durable).unwrap();
}
