//! Readers that come from behind what cannot be read.

use std::collections::BTreeMap;

use esker::{Item, Kind, KindId, Reader, Region, Seq, Simulator, Start, Store, StoreView, SubscribeOptions};
use serde::{Deserialize, Serialize};

use super::{both, options};

#[derive(Serialize, Deserialize)]
struct Vessel {
    knots: u32,
}

const VESSEL: Kind<Vessel> = Kind::new("vessel");

#[test]
fn rows_of_which_something_newer_may_stand_in_a_file_that_is_missing_are_errors() {
    let disk = Simulator::new();
    let store = Store::over(options().window(esker::Window::Manual).open_in(&disk).unwrap());
    let radar = store.source("radar").unwrap();
    let say = |name: &str, knots| {
        radar.assert(VESSEL, name, &Vessel { knots }).unwrap();
        store.flush().unwrap();
    };
    say("ada", 1);
    (0..60).for_each(|n| say("busy", n));
    say("ada", 2);
    let kind = store.journal().kind_named("vessel").unwrap().id;
    let newest = store.journal().view().latest(kind, b"ada").unwrap().unwrap().position().segment();
    (60..120).for_each(|n| say("busy", n));
    let mut files = disk.files();
    files.remove("entities");
    files.remove(&format!("{newest:010}.idx"));
    files.remove(&format!("{newest:010}.seg")).unwrap();
    let reader = Reader::open_on(&Simulator::with(files)).unwrap();
    let view = StoreView::of(&reader).unwrap();
    assert!(view.get(VESSEL, "ada").unwrap_err().is_corruption());
    let rows: Vec<_> = view.rows(VESSEL).unwrap().collect();
    assert!(rows.iter().any(|row| row.as_ref().is_err_and(esker::Error::is_corruption)));
    let is_old = |row: &esker::OwnedRow<Vessel>| row.key() == b"ada";
    assert!(!rows.iter().flatten().any(is_old), "what it was before");
}

#[test]
fn who_follows_an_entity_behind_what_a_reader_could_not_read_is_told_all_that_comes_there() {
    for (what, files, oracle) in both() {
        let mut damaged = files.clone();
        damaged.remove("0000000001.seg").unwrap();
        damaged.remove("0000000001.idx").unwrap();
        damaged.remove("entities");
        let reader = Reader::open_on(&Simulator::with(damaged)).unwrap();
        let behind = oracle.certain / 2;
        let mut entities: BTreeMap<(u16, &[u8]), Vec<u64>> = BTreeMap::new();
        for (seq, seen) in oracle.log.range(behind + 1..) {
            entities.entry((seen.kind, &seen.key)).or_default().push(*seq);
        }
        assert!(entities.len() > 10);
        for ((kind, key), seqs) in entities {
            let region = Region::entity(KindId::new(kind).unwrap(), key);
            let start = SubscribeOptions::new().from(Start::After(Seq::new(behind).unwrap()));
            let mut subscriber = reader.subscribe(region, start).unwrap();
            let mut told = Vec::new();
            while let Some(item) = subscriber.try_next().unwrap() {
                match item {
                    Item::Entry(entry) => told.push(entry.seq().get()),
                    other => panic!("{what}: {other:?}"),
                }
            }
            assert_eq!(told, seqs, "{what}: {kind} {:?}", String::from_utf8_lossy(key));
        }
    }
}
