//! What is refused, with what it says.

use esker::{ErrorKind, Facts, Kind, Patch, Record, SOURCES_MAX, Simulator};
use serde::{Deserialize, Serialize};

use super::harbour::{VESSEL, alive, open, store, vessel};

#[test]
fn a_patch_of_a_field_that_the_kind_does_not_have_or_does_not_take() {
    let store = store();
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 1.0)).unwrap();
    let unknown = Patch::new().set("speed", &1.0f32).unwrap();
    let refused = radar.patch(VESSEL, "ada", &unknown).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("speed") && refused.to_string().contains("knots"), "{refused}");
    let mistyped = Patch::new().set("heading", &10u16).unwrap().set("knots", "fast").unwrap();
    let refused = radar.patch(VESSEL, "ada", &mistyped).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TypeMismatch);
    assert!(refused.to_string().contains("knots"), "{refused}");
    store.flush().unwrap();
    let row = store.get(VESSEL, "ada").unwrap().unwrap().value().unwrap();
    assert_eq!((row.heading, row.knots), (0, 1.0), "nothing was written");
}

#[test]
fn a_source_that_is_claimed_and_the_one_for_which_there_is_no_number() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    let clone = radar.clone();
    assert_eq!(store.source("radar").unwrap_err().kind(), ErrorKind::SourceClaimed);
    drop(radar);
    assert_eq!(
        store.source("radar").unwrap_err().kind(),
        ErrorKind::SourceClaimed,
        "a clone is the same session"
    );
    drop(clone);
    assert_eq!(store.source("radar").unwrap().id(), 0, "the number stays");
    for n in 1..SOURCES_MAX {
        assert_eq!(usize::from(store.source(&format!("s{n}")).unwrap().id()), n);
    }
    let refused = store.source("one too many").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LimitReached);
    assert!(refused.to_string().contains("radar") && refused.to_string().contains("s63"), "{refused}");
    assert_eq!(store.source("").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(store.source(&"x".repeat(256)).unwrap_err().kind(), ErrorKind::InvalidInput);
    store.close().unwrap();
    // Numbers and names are in the log, over segments and lives.
    let store = open(&disk);
    let sources = store.journal().sources();
    assert_eq!((sources.len(), sources[63].name.as_str()), (64, "s63"));
    assert_eq!(store.source("s17").unwrap().id(), 17);
}

#[test]
fn the_65th_field() {
    macro_rules! wide {
        ($($field:ident)*) => {
            #[derive(Serialize, Deserialize, Default)]
            struct Wide { $($field: u8),* }
        };
    }
    wide! {
        a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 b0 b1 b2 b3 b4 b5 b6 b7 b8 b9 c0 c1 c2 c3 c4 c5 c6 c7 c8 c9 d0 d1
        d2 d3 d4 d5 d6 d7 d8 d9 e0 e1 e2 e3 e4 e5 e6 e7 e8 e9 f0 f1 f2 f3 f4 f5 f6 f7 f8 f9 g0 g1 g2 g3 g4
    }
    let store = store();
    let radar = store.source("radar").unwrap();
    let refused = radar.assert(Kind::new("wide"), "a", &Wide::default()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Schema);
    assert!(refused.to_string().contains("64") && refused.to_string().contains("65"), "{refused}");
}

#[test]
fn the_other_doors_do_not_write_state() {
    const FACTS: Facts<String> = Facts::new("vessel");
    const NOTES: Facts<String> = Facts::new("note");
    let store = store();
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 1.0)).unwrap();
    store.flush().unwrap();
    let id = store.journal().kind_named("vessel").unwrap().id;
    let refused = store.journal().append(Record::new(id, b"ada", b"x")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::OwnedByState);
    assert!(refused.to_string().contains("vessel"), "{refused}");
    assert_eq!(
        store.journal().append(Record::tombstone(id, b"ada")).unwrap_err().kind(),
        ErrorKind::OwnedByState
    );
    assert_eq!(store.journal().erase(id, b"ada").unwrap_err().kind(), ErrorKind::OwnedByState);
    assert_eq!(store.append(FACTS, "ada", &"x".to_owned()).unwrap_err().kind(), ErrorKind::OwnedByState);
    assert_eq!(store.latest(FACTS, "ada").unwrap_err().kind(), ErrorKind::KindMismatch);
    assert_eq!(alive(&store, "ada"), Some((1, vec![0])));
    // And the other way round.
    store.append(NOTES, "a", &"x".to_owned()).unwrap();
    let note: Kind<super::harbour::Vessel> = Kind::new("note");
    assert_eq!(radar.assert(note, "a", &vessel("Ada", 1.0)).unwrap_err().kind(), ErrorKind::KindMismatch);
    assert_eq!(store.get(note, "a").unwrap_err().kind(), ErrorKind::KindMismatch);
}

#[test]
fn keys_and_metadata_over_their_limits_and_a_store_that_is_closed() {
    let store = store();
    let radar = store.source("radar").unwrap();
    let ada = vessel("Ada", 1.0);
    assert_eq!(radar.assert(VESSEL, "", &ada).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(radar.assert(VESSEL, "x".repeat(256), &ada).unwrap_err().kind(), ErrorKind::InvalidInput);
    let metadata = vec![0; 65_536];
    assert_eq!(radar.assert_with(VESSEL, "a", &ada, &metadata).unwrap_err().kind(), ErrorKind::InvalidInput);
    let pending = radar.assert(VESSEL, "ada", &ada).unwrap();
    store.close().unwrap();
    assert!(pending.wait(esker::Until::Durable).is_ok(), "a close appends what is pending");
    assert_eq!(radar.assert(VESSEL, "ada", &ada).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(store.flush().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(store.subscribe(VESSEL).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_name_of_the_library_s_own_is_no_kind() {
    let store = store();
    let radar = store.source("radar").unwrap();
    let reserved: Kind<super::harbour::Vessel> = Kind::new("esker.vessel");
    assert_eq!(radar.assert(reserved, "a", &vessel("Ada", 1.0)).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_value_that_does_not_fit_is_named_where_there_is_no_row_too() {
    let store = store();
    let radar = store.source("radar").unwrap();
    let patch = Patch::new().set("name", "Ada").unwrap().set("knots", "fast").unwrap();
    let error = radar.patch(VESSEL, "ada", &patch).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
    assert!(error.to_string().contains("\"knots\""), "{error}");
    let error = radar.patch(VESSEL, "ada", &Patch::new().set("knots", &1.0f32).unwrap()).unwrap_err();
    assert!(error.to_string().contains("without a default") && error.to_string().contains("name"), "{error}");
}

#[test]
fn a_kind_that_is_used_with_events_and_without_says_which_came_first() {
    let logged = VESSEL.events();
    for (first, second, says) in [(VESSEL, logged, "found one with"), (logged, VESSEL, "found one without")] {
        let store = store();
        let radar = store.source("radar").unwrap();
        radar.assert(first, "ada", &vessel("Ada", 1.0)).unwrap();
        let error = radar.assert(second, "ada", &vessel("Ada", 1.0)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema);
        assert!(error.to_string().contains(says), "{error}");
    }
}
