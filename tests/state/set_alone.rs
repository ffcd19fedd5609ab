//! Changes of who asserts a row, and of nothing else: the row stays as it was written, with all that belongs to it.

use esker::{Closing, Kind, Simulator, Source, Store};
use serde::{Deserialize, Serialize};

use super::events::LOGGED;
use super::harbour::{VESSEL, open, options, store, told, vessel};

#[derive(Serialize, Deserialize)]
struct Before {
    speed: f32,
}
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct After {
    knots: f32,
}

const BEFORE: Kind<Before> = Kind::new("v");
const BARE: Kind<After> = Kind::new("v").version(2);
const STEPS: Kind<After> = BARE.upcasts(&[(1, |fields| {
    fields.rename("speed", "knots");
    Ok(())
})]);

fn written_before(disk: &Simulator) {
    let store = open(disk);
    for name in ["radar", "pilot", "tower"] {
        store.source(name).unwrap().assert(BEFORE, "a", &Before { speed: 7.0 }).unwrap();
    }
    store.close().unwrap();
}

#[test]
fn a_row_that_no_step_has_touched_keeps_the_version_that_wrote_it_for_a_step_that_is_added_later() {
    let disk = Simulator::new();
    written_before(&disk);
    let store = open(&disk);
    let (radar, tower) = (store.source("radar").unwrap(), store.source("tower").unwrap());
    let schema = || store.get(BARE, "a").unwrap().unwrap().row().schema_version();
    radar.retract(BARE, "a").unwrap();
    store.flush().unwrap();
    assert_eq!(schema(), 1);
    // So it is from what was remembered.
    tower.retract(BARE, "a").unwrap();
    store.flush().unwrap();
    assert_eq!(schema(), 1);
    drop((radar, tower));
    store.close().unwrap();
    let store = open(&disk);
    let row = store.get(STEPS, "a").unwrap().unwrap();
    assert_eq!((row.value().unwrap().knots, row.sources().bits()), (7.0, 0b10));
    // What a step has brought here is of this version.
    let radar = store.source("radar").unwrap();
    radar.assert(STEPS, "a", &After { knots: 7.0 }).unwrap();
    store.flush().unwrap();
    let row = store.get(STEPS, "a").unwrap().unwrap();
    assert_eq!((row.row().schema_version(), row.version(), row.value().unwrap().knots), (2, 1, 7.0));
}

#[test]
fn a_row_that_the_first_of_two_steps_has_brought_is_brought_on_by_a_second_that_is_added_later() {
    const FIRST: Kind<After> = Kind::new("v").version(3).upcasts(&[(1, |fields| {
        fields.rename("speed", "knots");
        Ok(())
    })]);
    const BOTH: Kind<After> = Kind::new("v").version(3).upcasts(&[
        (1, |fields| {
            fields.rename("speed", "knots");
            Ok(())
        }),
        (2, |fields| {
            let knots: Option<f32> = fields.get("knots")?;
            Ok(fields.set("knots", &(knots.unwrap_or_default() * 2.0))?)
        }),
    ]);
    let disk = Simulator::new();
    written_before(&disk);
    let store = open(&disk);
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    let row = || store.get(FIRST, "a").unwrap().unwrap();
    // From the log, and from what was remembered.
    for (source, left) in [(radar, 2), (pilot, 1)] {
        source.retract(FIRST, "a").unwrap();
        store.flush().unwrap();
        assert_eq!((row().row().schema_version(), row().value().unwrap().knots), (2, 7.0));
        assert_eq!(row().sources().len(), left);
    }
    store.close().unwrap();
    let row = open(&disk).get(BOTH, "a").unwrap().unwrap();
    assert_eq!((row.value().unwrap().knots, row.sources().bits()), (14.0, 0b100));
}

#[test]
fn a_change_of_the_set_alone_is_of_no_field_whichever_version_wrote_the_row() {
    let disk = Simulator::new();
    written_before(&disk);
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    radar.assert(BARE, "other", &After::default()).unwrap();
    store.flush().unwrap();
    let mut live = store.subscription(BARE).bootstrap(false).sources(true).start().unwrap();
    radar.retract(BARE, "a").unwrap();
    store.flush().unwrap();
    assert_eq!(told(&mut live), ["a v1 updated []"]);
    // Where a source is ended, no type is asked.
    store.source("tower").unwrap().close(Closing::Retract).unwrap();
    assert_eq!(told(&mut live), ["a v1 updated []"]);
}

/// The bytes beside a row, its version and who asserts it.
fn beside(store: &Store, key: &str) -> (Vec<u8>, u64, u64) {
    let row = store.get(VESSEL, key).unwrap().unwrap();
    (row.metadata().to_vec(), row.version(), row.sources().bits())
}

fn say(store: &Store, source: &Source, knots: f32, metadata: &[u8]) {
    source.assert_with(VESSEL, "ada", &vessel("Ada", knots), metadata).unwrap();
    store.flush().unwrap();
}

#[test]
fn who_asserts_or_retracts_a_row_takes_nothing_from_what_came_with_it() {
    let disk = Simulator::new();
    let store = open(&disk);
    let [radar, pilot, tower] = ["radar", "pilot", "tower"].map(|name| store.source(name).unwrap());
    say(&store, &radar, 1.0, b"m");
    say(&store, &pilot, 1.0, b"");
    assert_eq!(beside(&store, "ada"), (b"m".to_vec(), 1, 0b11));
    drop((radar, pilot, tower));
    store.close().unwrap();
    // From the log as from what is remembered.
    let store = open(&disk);
    let [radar, pilot, tower] = ["radar", "pilot", "tower"].map(|name| store.source(name).unwrap());
    say(&store, &tower, 1.0, b"");
    assert_eq!(beside(&store, "ada"), (b"m".to_vec(), 1, 0b111));
    radar.retract(VESSEL, "ada").unwrap();
    store.flush().unwrap();
    assert_eq!(beside(&store, "ada"), (b"m".to_vec(), 1, 0b110));
    assert_eq!(pilot.close(Closing::Retract).unwrap(), 1);
    assert_eq!(beside(&store, "ada"), (b"m".to_vec(), 1, 0b100));
    // What comes with the change itself is beside the row from then on.
    say(&store, &radar, 1.0, b"n");
    assert_eq!(beside(&store, "ada"), (b"n".to_vec(), 1, 0b101));
    tower.retract(VESSEL, "ada").unwrap();
    store.flush().unwrap();
    assert_eq!(beside(&store, "ada"), (b"n".to_vec(), 1, 0b001));
    // Another row has what came with it, which is nothing; so has one that was there before.
    say(&store, &radar, 2.0, b"");
    assert_eq!(beside(&store, "ada"), (Vec::new(), 2, 0b001));
    say(&store, &radar, 3.0, b"o");
    radar.retract(VESSEL, "ada").unwrap();
    store.flush().unwrap();
    say(&store, &radar, 3.0, b"");
    assert_eq!(beside(&store, "ada"), (Vec::new(), 5, 0b001));
}

#[test]
fn what_is_beside_a_row_counts_where_it_is_written_again_and_nowhere_else() {
    let (short, long) = (vessel(&"x".repeat(1500), 1.0), vessel(&"y".repeat(3000), 1.0));
    for segment_bytes in [16 << 10, 64 << 10] {
        let store = Store::over(options().segment_bytes(segment_bytes).in_memory().unwrap());
        let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
        radar.assert_with(VESSEL, "ada", &short, &[7; 1500]).unwrap();
        store.flush().unwrap();
        // What is more than a quarter of what a batch takes is flushed at once.
        let pending = |least| {
            let bytes = store.state_stats().unwrap().pending_bytes;
            let is_pending = segment_bytes > 16 << 10;
            assert!(if is_pending { (least..least + 500).contains(&bytes) } else { bytes == 0 }, "{bytes}");
            store.flush().unwrap();
        };
        pilot.assert(VESSEL, "ada", &short).unwrap();
        pending(3000);
        assert_eq!(beside(&store, "ada"), (vec![7; 1500], 1, 0b11));
        pilot.retract(VESSEL, "ada").unwrap();
        pending(3000);
        assert_eq!(beside(&store, "ada"), (vec![7; 1500], 1, 0b01));
        // Together with what it had, this would be more than the smaller batch takes.
        radar.assert(VESSEL, "ada", &long).unwrap();
        pending(3000);
        assert_eq!(beside(&store, "ada"), (Vec::new(), 2, 0b01));
    }
}

#[test]
fn an_event_has_what_came_with_it_and_the_row_what_it_had() {
    let store = store();
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    radar.assert_with(LOGGED, "ada", &vessel("Ada", 1.0), b"m").unwrap();
    pilot.assert(LOGGED, "ada", &vessel("Ada", 1.0)).unwrap();
    store.flush().unwrap();
    radar.retract(LOGGED, "ada").unwrap();
    store.flush().unwrap();
    let mut events = store.events(LOGGED).from(esker::Start::Oldest).start().unwrap();
    let mut metadata = Vec::new();
    while let Some(esker::EventItem::Event(event)) = events.try_next().unwrap() {
        metadata.push(event.metadata().to_vec());
    }
    assert_eq!(metadata, [b"m".to_vec(), Vec::new(), Vec::new()]);
    assert_eq!(beside(&store, "ada"), (b"m".to_vec(), 1, 0b10));
}
