//! What is refused, with what it says.

use std::time::Duration;

use esker::{ErrorKind, Facts, Kind, ManualClock, Patch, Reader, Record, SOURCES_MAX, Simulator, Store};
use serde::{Deserialize, Serialize};

use super::harbour::{VESSEL, alive, open, options, store, vessel};

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
    let (disk, clock) = (Simulator::new(), ManualClock::new());
    let store = Store::over(options().segment_bytes(16384).clock(clock.clone()).open_in(&disk).unwrap());
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 1.0)).unwrap();
    store.flush().unwrap();
    clock.advance(Duration::from_secs(60));
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
        let source = store.source(&format!("s{n}")).unwrap();
        assert_eq!(usize::from(source.id()), n);
        if n % 2 == 0 {
            source.assert(VESSEL, format!("v{n}"), &vessel("v", 1.0)).unwrap();
            source.assert(VESSEL, format!("w{n}"), &vessel("w", 1.0)).unwrap();
        }
    }
    store.flush().unwrap();
    clock.advance(Duration::from_secs(7));
    let refused = store.source("one too many").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LimitReached);
    // All of them, and which of them could be done without.
    let text = refused.to_string();
    for n in 1..SOURCES_MAX {
        let what =
            if n % 2 == 0 { "asserts 2 rows, the last of them written 7 s ago" } else { "asserts nothing" };
        assert!(text.contains(&format!("s{n} ({what})")), "{n}: {text}");
    }
    assert!(text.contains("radar (asserts 1 rows, the last of them written 67 s ago)"), "{text}");
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
    // A field has a bit, also in what only reads.
    #[derive(Serialize, Deserialize)]
    struct Narrow {
        a0: u8,
    }
    const NARROW: Kind<Narrow> = Kind::new("wide");
    const WIDE: Kind<Wide> = Kind::new("wide");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("wide.esker");
    let store = Store::over(options().open(&path).unwrap());
    let radar = store.source("radar").unwrap();
    radar.assert(NARROW, "a", &Narrow { a0: 1 }).unwrap();
    store.flush().unwrap();
    let reader = Reader::open(&path).unwrap();
    let refused = reader.subscription(WIDE).start().map(drop).unwrap_err();
    assert!(refused.kind() == ErrorKind::Schema && refused.to_string().contains("65"), "{refused}");
    let refused = reader.subscription(Kind::<Wide>::new("not there yet")).start().map(drop).unwrap_err();
    assert!(refused.kind() == ErrorKind::Schema && refused.to_string().contains("65"), "{refused}");
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

/// A row that can be made to do what no derived one does.
#[derive(Clone, Copy, Debug, Default)]
struct Odd {
    encodes_as: u8,
}

impl Serialize for Odd {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::{Error, SerializeStruct};
        match self.encodes_as {
            0 => {
                let mut fields = serializer.serialize_struct("Odd", 1)?;
                fields.serialize_field("encodes_as", &self.encodes_as)?;
                fields.end()
            }
            1 => serializer.serialize_u8(1),
            _ => Err(S::Error::custom("it does not want to")),
        }
    }
}

impl<'de> Deserialize<'de> for Odd {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Plain {
            encodes_as: u8,
        }
        let Plain { encodes_as } = Plain::deserialize(deserializer)?;
        Ok(Self { encodes_as })
    }
}

#[test]
fn what_is_refused_of_an_entity_names_it() {
    const ODD: Kind<Odd> = Kind::new("odd");
    let store = store();
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 1.0)).unwrap();
    store.flush().unwrap();
    let knots = |value: &str| Patch::new().set("knots", value).unwrap();
    let ada = vessel("Ada", 1.0);
    let mut batch = store.batch();
    batch.patch(&radar, VESSEL, "ada", &knots("fast")).unwrap();
    let unknown = Patch::new().set("speed", &1.0f32).unwrap();
    let refused = [
        (ErrorKind::Conflict, "vessel/ada", radar.assert_if(VESSEL, "ada", 7, &ada).map(drop)),
        (ErrorKind::Conflict, "vessel/joan", radar.patch_existing(VESSEL, "joan", &Patch::new()).map(drop)),
        (ErrorKind::TypeMismatch, "vessel/ada", radar.patch(VESSEL, "ada", &knots("fast")).map(drop)),
        (ErrorKind::TypeMismatch, "vessel/joan", radar.patch(VESSEL, "joan", &knots("fast")).map(drop)),
        (ErrorKind::TypeMismatch, "vessel/ada", batch.commit().map(drop)),
        (ErrorKind::InvalidInput, "vessel/ada", radar.patch(VESSEL, "ada", &unknown).map(drop)),
        (ErrorKind::Codec, "odd/one", radar.assert(ODD, "one", &Odd { encodes_as: 2 }).map(drop)),
        (ErrorKind::Schema, "odd/one", radar.assert(ODD, "one", &Odd { encodes_as: 1 }).map(drop)),
        (
            ErrorKind::Codec,
            "odd/two",
            store.batch().assert(&radar, ODD, "two", &Odd { encodes_as: 2 }).map(drop),
        ),
        (ErrorKind::Codec, "odd/two", radar.update(ODD, "two", |_| Odd { encodes_as: 2 }).map(drop)),
    ];
    for (kind, entity, refused) in refused {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(&format!(" {entity}: ")), "{entity}: {error}");
    }
}

#[test]
fn a_key_that_is_shown_is_escaped_and_a_long_one_is_cut() {
    let store = store();
    let radar = store.source("radar").unwrap();
    let ada = vessel("Ada", 1.0);
    let refused = |key: &[u8]| radar.assert_if(VESSEL, key, 7, &ada).unwrap_err().to_string();
    let shown = |key: &[u8]| {
        let error = refused(key);
        let (_, behind) = error.split_once("assert the row vessel/").unwrap();
        behind.split_once(": expectation").unwrap().0.to_owned()
    };
    assert_eq!(shown(b"a\x1b[2J\n"), r"a\u{1b}[2J\n");
    assert_eq!(shown(b"\xff"), "\u{fffd}");
    assert_eq!(shown(&[b'x'; 64]), "x".repeat(64));
    assert_eq!(shown(&[b'x'; 65]), format!("{}\u{2026} (65 bytes)", "x".repeat(64)));
    assert_eq!(shown("\u{e4}".repeat(64).as_bytes()), "\u{e4}".repeat(64));
    assert_eq!(shown("\u{e4}".repeat(65).as_bytes()), format!("{}\u{2026} (130 bytes)", "\u{e4}".repeat(64)));
}

#[test]
fn a_session_that_has_ended_and_one_that_is_claimed_name_their_source() {
    let store = store();
    let radar = store.source("radar").unwrap();
    let says = |error: esker::Error, kind: ErrorKind| {
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains("\"radar\""), "{error}");
    };
    says(store.source("radar").unwrap_err(), ErrorKind::SourceClaimed);
    says(store.retire_source("radar", esker::Closing::Retract).unwrap_err(), ErrorKind::SourceClaimed);
    radar.close(esker::Closing::Preserve).unwrap();
    let ada = vessel("Ada", 1.0);
    says(radar.assert(VESSEL, "ada", &ada).unwrap_err(), ErrorKind::SourceEnded);
    says(radar.retract(VESSEL, "ada").unwrap_err(), ErrorKind::SourceEnded);
    says(radar.heartbeat().unwrap_err(), ErrorKind::SourceEnded);
    says(radar.epoch(VESSEL).unwrap_err(), ErrorKind::SourceEnded);
    says(radar.close(esker::Closing::Preserve).unwrap_err(), ErrorKind::SourceEnded);
    let mut batch = store.batch();
    batch.assert(&radar, VESSEL, "ada", &ada).unwrap();
    says(batch.commit().unwrap_err(), ErrorKind::SourceEnded);
}

#[test]
fn what_no_batch_takes_is_refused_when_it_is_added() {
    const NOTES: Facts<String> = Facts::new("note");
    let store = store();
    let text = "x".to_owned();
    let mut batch = store.batch();
    batch.append(NOTES, "a", &text).unwrap();
    assert_eq!(batch.append(NOTES, "", &text).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(batch.append(NOTES, "k".repeat(256), &text).unwrap_err().kind(), ErrorKind::InvalidInput);
    let metadata = vec![0; 65_536];
    let with = esker::With::new().metadata(&metadata);
    assert_eq!(batch.append_with(NOTES, "b", &text, with).unwrap_err().kind(), ErrorKind::InvalidInput);
    let long = "x".repeat(17 << 20);
    assert_eq!(batch.append(NOTES, "b", &long).unwrap_err().kind(), ErrorKind::InvalidInput);
    batch.append(NOTES, "c", &text).unwrap();
    assert_eq!(
        (batch.len(), batch.commit().unwrap().receipts.len()),
        (2, 2),
        "the batch is as it was before"
    );
    let found: Vec<_> = ["a", "b", "c"].map(|key| store.latest(NOTES, key).unwrap().is_some()).into();
    assert_eq!(found, [true, false, true]);
}

#[cfg(debug_assertions)]
#[test]
fn a_set_without_an_order_is_named_in_a_build_with_assertions() {
    #[derive(Serialize, Deserialize)]
    struct Berth {
        length: f32,
        cranes: std::collections::HashSet<u32>,
        tags: std::collections::HashMap<String, u32>,
    }
    let store = store();
    let radar = store.source("radar").unwrap();
    let berth = |cranes: u32| Berth {
        length: 30.0,
        cranes: (0..cranes).collect(),
        tags: (0..64).map(|n| (n.to_string(), n)).collect(),
    };
    // Of one there is one order, and a map is put in order.
    for n in 0..130 {
        radar.assert(Kind::new("small"), format!("b{n}"), &berth(1)).unwrap();
    }
    // One in so many is looked at, the first one included. Two sets of 64 are in one order by no chance.
    let refused = radar.assert(Kind::new("berth"), "east", &berth(64)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Schema, "{refused}");
    let text = refused.to_string();
    assert!(text.contains("cranes") && text.contains("berth/east") && !text.contains("tags"), "{text}");
    store.flush().unwrap();
    assert_eq!(store.scan(Kind::<Berth>::new("berth")).unwrap().count(), 0, "what is refused was not taken");
}
