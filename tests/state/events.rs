//! Event streams: what each source said, in order, beside what came of it.

use esker::{
    Closing, CompactOptions, Entry, ErrorKind, Event, EventItem, EventKind, EventOperation, Facts, Heartbeat,
    Item, Keep, Kind, Lag, Liveness, Made, ManualClock, Patch, Region, Simulator, Source, SourceOptions,
    Start, Status, Store, SubscribeOptions, Until,
};
use serde::de::DeserializeOwned;

use super::harbour::{Vessel, let_the_clock_tick, open, options, store, vessel};

pub(crate) const LOGGED: Kind<Vessel> = Kind::new("vessel").events();
const BUOY: Kind<Vessel> = Kind::new("buoy").events();

/// An event, in one line that can be compared.
fn line<T: DeserializeOwned>(event: &Event<'_, T>) -> String {
    let what = match (event.kind(), event.operation()) {
        (EventKind::Created, EventOperation::Assert) => "created",
        (EventKind::Created, _) => "created by a patch",
        (EventKind::Updated, EventOperation::Assert) => "updated",
        (EventKind::Updated, _) => "patched",
        (EventKind::Retracted, _) => "retracted",
        other => panic!("{other:?}"),
    };
    let fields = match event.kind() {
        EventKind::Updated => format!(" {:?}", event.changed_fields().collect::<Vec<_>>()),
        _ => String::new(),
    };
    let (key, number) = (String::from_utf8_lossy(event.key()).into_owned(), event.sequence());
    let number = number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    format!("{number} {key} {what}{fields} {}>{}", event.version_before(), event.version())
}

/// All events of a kind, from the beginning.
fn told(store: &Store, kind: Kind<Vessel>, synthetic: bool) -> Vec<String> {
    let mut events = store.events(kind).from(Start::Oldest).include_synthetic(synthetic).start().unwrap();
    let mut told = Vec::new();
    while let Some(item) = events.try_next().unwrap() {
        told.push(match item {
            EventItem::Event(event) => line(&event),
            EventItem::Missed(missed) => format!("missed {}", missed.count),
            other => panic!("{other:?}"),
        });
    }
    told
}

#[test]
fn s06_a_net_no_op_still_is_two_events() {
    let store = store();
    let radar = store.source("radar").unwrap();
    radar.assert(LOGGED, "ghost", &vessel("Ghost", 1.0)).unwrap();
    let gone = radar.retract(LOGGED, "ghost").unwrap().wait(Until::Durable).unwrap();
    assert_eq!((gone.change, gone.version), (Made::Nothing, 0));
    assert_eq!(told(&store, LOGGED, false), ["1 ghost created 0>0", "2 ghost retracted 0>0"]);
    assert_eq!(store.status(LOGGED, "ghost").unwrap(), Status::NotFound);

    radar.assert(LOGGED, "ada", &vessel("Ada", 1.0)).unwrap();
    store.flush().unwrap();
    radar.assert(LOGGED, "ada", &vessel("Ada", 1.0)).unwrap();
    store.flush().unwrap();
    assert_eq!(told(&store, LOGGED, false)[2..], ["3 ada created 0>1", "4 ada updated [] 1>1"]);
}

#[test]
fn s06_there_and_back_in_one_window_is_two_events_and_no_change() {
    let store = store();
    let radar = store.source("radar").unwrap();
    radar.assert(LOGGED, "ada", &vessel("Ada", 1.0)).unwrap();
    store.flush().unwrap();
    let mut changes = store.subscription(LOGGED).bootstrap(false).sources(true).start().unwrap();
    let rows = store.journal().kind_named("vessel").unwrap().id;
    radar.assert(LOGGED, "ada", &vessel("Ada", 2.0)).unwrap();
    let back = radar.assert(LOGGED, "ada", &vessel("Ada", 1.0)).unwrap().wait(Until::Durable).unwrap();
    assert_eq!((back.change, back.version), (Made::Nothing, 1));
    let expected = ["2 ada updated [\"knots\"] 1>1", "3 ada updated [\"knots\"] 1>1"];
    assert_eq!(told(&store, LOGGED, false)[1..], expected);
    radar.retract(LOGGED, "ada").unwrap();
    let back = radar.assert(LOGGED, "ada", &vessel("Ada", 1.0)).unwrap().wait(Until::Durable).unwrap();
    assert_eq!((back.change, back.version), (Made::Nothing, 1));
    assert_eq!(told(&store, LOGGED, false)[3..], ["4 ada retracted 1>1", "5 ada created 1>1"]);
    assert_eq!(super::harbour::told(&mut changes), [""; 0], "nobody is told of a change of state");
    assert_eq!(store.journal().view().kind(rows).count(), 1, "nor is there a row of it");
    assert_eq!(store.get(LOGGED, "ada").unwrap().unwrap().version(), 1);
}

#[test]
fn s14_a_window_is_its_operations_in_order_of_arrival_and_then_a_row_an_entity_that_changed() {
    let disk = Simulator::new();
    // The window is not to end by itself.
    let open = |disk: &Simulator| Store::over(options().segment_bytes(131_072).open_in(disk).unwrap());
    let store = open(&disk);
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    for key in ["ada", "grace", "same"] {
        radar.assert(LOGGED, key, &vessel(key, 1.0)).unwrap();
    }
    store.flush().unwrap();
    let begun = store.view().entries().last_seq().unwrap().unwrap();
    let before = disk.events();
    pilot.assert(LOGGED, "joan", &vessel("joan", 2.0)).unwrap();
    radar.assert(LOGGED, "ada", &vessel("ada", 2.0)).unwrap();
    pilot.patch(LOGGED, "ada", &Patch::new().set("heading", &90u16).unwrap()).unwrap();
    radar.retract(LOGGED, "grace").unwrap();
    radar.assert(LOGGED, "same", &vessel("same", 1.0)).unwrap();
    radar.assert(LOGGED, "ghost", &vessel("ghost", 2.0)).unwrap();
    radar.retract(LOGGED, "ghost").unwrap();
    pilot.assert(LOGGED, "joan", &vessel("joan", 3.0)).unwrap();
    store.flush().unwrap();
    assert_eq!(in_the_log(&store, begun), window());
    // A part of it is never there, wherever the disk has lost what it was told.
    let mut seen = [0, 0];
    for events in before..=disk.events() {
        for seed in 0..16 {
            let found = in_the_log(&open(&super::harbour::crashed(&disk, events, seed)), begun);
            assert!(found.is_empty() || found == window(), "behind {events}: {found:?}");
            seen[usize::from(!found.is_empty())] += 1;
        }
    }
    assert!(seen.iter().all(|seen| *seen > 0), "{seen:?}");
}

/// What a window of operations on five entities is, of which three change.
fn window() -> Vec<(bool, String, bool)> {
    let operations = ["joan", "ada", "ada", "grace", "same", "ghost", "ghost", "joan"];
    let rows = ["ada", "grace", "joan"];
    let all = operations.iter().map(|key| (true, key)).chain(rows.iter().map(|key| (false, key)));
    let count = operations.len() + rows.len();
    all.enumerate().map(|(n, (is_said, key))| (is_said, (*key).to_owned(), n + 1 < count)).collect()
}

/// The entries behind a place: whether each is an operation, else a row; its entity; and whether its batch goes on. Rows come
/// in whichever order.
fn in_the_log(store: &Store, behind: esker::Seq) -> Vec<(bool, String, bool)> {
    let named = |name| store.journal().kind_named(name).unwrap().id;
    let (rows, operations) = (named("vessel"), named("esker.events.vessel"));
    let entries = store.view();
    let entries = entries.entries().range(..).map(Result::unwrap).filter(|entry| entry.seq() > behind);
    let mut found: Vec<_> = entries
        .map(|entry| {
            assert!(entry.kind() == operations || entry.kind() == rows, "{entry:?}");
            let key = String::from_utf8_lossy(entry.key()).into_owned();
            (entry.kind() == operations, key, entry.has_more())
        })
        .collect();
    let (first, last) = (found.iter().position(|(is_said, ..)| !is_said), found.len().saturating_sub(1));
    if let Some(first) = first {
        let mut keys: Vec<_> = found[first..].iter().map(|(_, key, _)| key.clone()).collect();
        keys.sort();
        found[first..].iter_mut().zip(keys).for_each(|((_, key, _), sorted)| *key = sorted);
        assert!(!found[last].2, "the batch ends with it");
    }
    found
}

#[test]
fn s18_each_event_is_against_the_row_as_it_was_then() {
    let store = store();
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    radar.assert(LOGGED, "ada", &vessel("Ada", 1.0)).unwrap();
    store.flush().unwrap();
    let mut events = store.events(LOGGED).start().unwrap();
    radar.assert(LOGGED, "ada", &vessel("Ada", 2.0)).unwrap();
    pilot.patch(LOGGED, "ada", &Patch::new().set("heading", &90u16).unwrap()).unwrap();
    pilot.retract(LOGGED, "ada").unwrap();
    radar.assert_with(LOGGED, "ada", &vessel("Ada", 3.0), b"why").unwrap();
    radar.retract(LOGGED, "ada").unwrap();
    pilot.patch(LOGGED, "ada", &Patch::new().set("name", "Ada II").unwrap()).unwrap();
    let committed = pilot.retract(LOGGED, "nobody").unwrap();
    committed.wait(Until::Durable).unwrap();

    let heading = |row: &Vessel| (row.knots, row.heading);
    let mut seen = Vec::new();
    while let Some(EventItem::Event(event)) = events.try_next().unwrap() {
        let (value, previous) = (event.value().unwrap(), event.previous().unwrap());
        seen.push((
            line(&event),
            (previous.as_ref().map(heading), value.as_ref().map(heading)),
            event.sources().ids().collect::<Vec<_>>(),
        ));
    }
    let said =
        |line: &str, previous, value, sources: &[u8]| (line.to_owned(), (previous, value), sources.to_vec());
    assert_eq!(
        seen,
        [
            said("2 ada updated [\"knots\"] 1>2", Some((1.0, 0)), Some((2.0, 0)), &[0]),
            said("3 ada patched [\"heading\"] 1>2", Some((2.0, 0)), Some((2.0, 90)), &[0, 1]),
            said("4 ada retracted 1>2", None, None, &[0]),
            // Over the retraction of one of two sources the row stayed.
            said("5 ada updated [\"knots\", \"heading\"] 1>2", Some((2.0, 90)), Some((3.0, 0)), &[0]),
            said("6 ada retracted 1>2", None, None, &[]),
            said("7 ada created by a patch 1>2", None, Some((0.0, 0)), &[1]),
            said("8 nobody retracted 0>0", None, None, &[]),
        ]
    );
    let rows: Vec<u64> = store.versions(LOGGED, "ada").unwrap().iter().map(version).collect();
    assert_eq!(rows, [1, 2], "one row a window");
}

fn version(version: &esker::Version<Vessel>) -> u64 {
    match version {
        esker::Version::Row(row) => row.version(),
        esker::Version::Deleted { version, .. } => *version,
        other => panic!("{other:?}"),
    }
}

#[test]
fn s18_a_patch_is_told_as_it_was_said_and_metadata_with_its_operation() {
    let store = store();
    let radar = store.source("radar").unwrap();
    radar.assert_with(LOGGED, "ada", &vessel("Ada", 1.0), b"first").unwrap();
    let patch = Patch::new().set("knots", &2.0f32).unwrap().set("flag", &Some("de")).unwrap();
    radar.patch(LOGGED, "ada", &patch).unwrap();
    radar.update(LOGGED, "ada", |row| Vessel { heading: 7, ..row.unwrap() }).unwrap();
    store.flush().unwrap();
    let mut events = store.events(LOGGED).from(Start::Oldest).start().unwrap();
    let mut seen = Vec::new();
    while let Some(EventItem::Event(event)) = events.try_next().unwrap() {
        let named: Vec<String> =
            event.patch().unwrap().iter().flat_map(|fields| fields.names().map(str::to_owned)).collect();
        let present: Vec<&str> = event.present_fields().collect();
        assert!(event.operation() == EventOperation::Assert || named == present, "{present:?}");
        seen.push((named, event.metadata().to_vec(), event.has("flag"), event.source()));
    }
    let fields = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        seen,
        [
            (fields(&[]), b"first".to_vec(), true, 0),
            (fields(&["knots", "flag"]), Vec::new(), true, 0),
            (fields(&["heading"]), Vec::new(), false, 0),
        ]
    );
}

#[test]
fn s19_retracted_is_not_deleted() {
    let store = store();
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    let mut changes = store.subscription(LOGGED).bootstrap(false).start().unwrap();
    for source in [&radar, &pilot] {
        source.assert(LOGGED, "ada", &vessel("Ada", 1.0)).unwrap();
    }
    store.flush().unwrap();
    for source in [&radar, &pilot] {
        source.retract(LOGGED, "ada").unwrap();
        store.flush().unwrap();
    }
    assert_eq!(
        told(&store, LOGGED, false),
        ["1 ada created 0>1", "2 ada updated [] 0>1", "3 ada retracted 1>1", "4 ada retracted 1>2"]
    );
    assert_eq!(super::harbour::told(&mut changes), ["ada v1 created", "ada v2 deleted"]);
}

/// Says something of both kinds, each in a flush of its own.
fn say(store: &Store, radar: &Source, knots: f32) {
    for kind in [LOGGED, BUOY] {
        radar.assert(kind, "ada", &vessel("Ada", knots)).unwrap();
        store.flush().unwrap();
    }
}

/// The numbers of all events that there are, of the store and of the kind.
fn sequences(store: &Store, kind: Kind<Vessel>) -> Vec<(u64, u64)> {
    let mut events = store.events(kind).from(Start::Oldest).start().unwrap();
    let mut sequences = Vec::new();
    while let Some(item) = events.try_next().unwrap() {
        if let EventItem::Event(event) = item {
            sequences.push((event.sequence().unwrap(), event.kind_sequence().unwrap()));
        }
    }
    sequences
}

#[test]
fn s20_what_is_suppressed_takes_no_number_and_numbers_have_no_hole() {
    let store = store();
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    say(&store, &radar, 1.0);
    pilot.assert(LOGGED, "ada", &vessel("Ada", 1.0)).unwrap();
    radar.assert(LOGGED, "grace", &vessel("Grace", 1.0)).unwrap();
    let epoch = radar.epoch(LOGGED).unwrap();
    radar.assert(LOGGED, "joan", &vessel("Joan", 1.0)).unwrap();
    pilot.assert(LOGGED, "joan", &vessel("Joan", 2.0)).unwrap();
    radar.assert(BUOY, "joan", &vessel("Joan", 1.0)).unwrap();
    assert_eq!(epoch.commit().unwrap().retracted, 2);
    say(&store, &radar, 2.0);

    assert_eq!(sequences(&store, LOGGED), [(1, 1), (3, 2), (4, 3), (5, 4), (7, 5)]);
    assert_eq!(sequences(&store, BUOY), [(2, 1), (6, 2), (8, 3)]);
    // Another source's operations are events in an epoch too, and so are those on another kind.
    assert_eq!(
        told(&store, LOGGED, true),
        [
            "1 ada created 0>1",
            "3 ada updated [] 1>1",
            "4 grace created 0>1",
            "- joan created 0>1",
            "5 joan updated [\"knots\"] 0>1",
            "- ada retracted 1>1",
            "- grace retracted 1>2",
            "7 ada updated [\"knots\"] 1>2",
        ]
    );
}

#[test]
fn s20_numbers_go_on_behind_rotation_compaction_a_reopening_and_a_crash() {
    let mut disk = Simulator::new();
    let (mut store, mut expected) = (open(&disk), 0);
    store.keep_events(LOGGED, Keep::Nothing).unwrap();
    for round in 0..4u16 {
        let radar = store.source("radar").unwrap();
        let mut events = store.events(LOGGED).start().unwrap();
        for n in 0..60u16 {
            radar.assert(LOGGED, "ada", &Vessel { heading: n + round * 100, ..vessel("Ada", 1.0) }).unwrap();
            store.flush().unwrap();
            let Some(EventItem::Event(event)) = events.try_next().unwrap() else { panic!("an event") };
            expected += 1;
            assert_eq!((event.sequence(), event.kind_sequence()), (Some(expected), Some(expected)));
        }
        // Entries of another kind follow, so that no operation is in the last segment.
        let filler = store.journal().kind("filler").unwrap();
        for _ in 0..40 {
            store.journal().append(esker::Record::new(filler, b"x", &[7; 1000])).unwrap();
        }
        drop((radar, events));
        if round % 2 == 0 {
            let done = store.journal().compact(&CompactOptions::new()).unwrap();
            assert!(done.entries_dropped > 50, "{done:?}");
            store.close().unwrap();
            store = open(&disk);
        } else {
            disk = disk.kill(disk.events());
            store = open(&disk);
        }
    }
}

#[test]
fn s20_a_flush_that_fails_uses_no_number() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    say(&store, &radar, 1.0);
    disk.limit_space(Some(0));
    let mut refused = 0;
    for n in 0..200u16 {
        radar.assert(LOGGED, "ada", &Vessel { heading: n, ..vessel("Ada", 2.0) }).unwrap();
        refused += u16::from(store.flush().is_err());
        if refused == 3 {
            break;
        }
    }
    assert_eq!(refused, 3, "the disk was full");
    disk.limit_space(None);
    store.flush().unwrap();
    let numbers = sequences(&store, LOGGED);
    let contiguous: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers.iter().map(|(_, of_kind)| *of_kind).collect::<Vec<_>>(), contiguous);
    assert!(numbers.windows(2).skip(1).all(|pair| pair[0].0 + 1 == pair[1].0), "{numbers:?}");
}

#[test]
fn an_entity_that_was_forgotten_begins_with_a_version_that_its_events_know() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    for key in ["ada", "grace"] {
        radar.assert(LOGGED, key, &vessel(key, 1.0)).unwrap();
        store.flush().unwrap();
        radar.retract(LOGGED, key).unwrap();
    }
    for n in 0..200u16 {
        radar.assert(LOGGED, "busy", &Vessel { heading: n, ..vessel("Busy", 1.0) }).unwrap();
        store.flush().unwrap();
    }
    store.keep_events(LOGGED, Keep::Latest).unwrap();
    let_the_clock_tick();
    let options = CompactOptions::new().thorough(true).keep_tombstones_for(std::time::Duration::ZERO);
    store.journal().compact(&options).unwrap();
    assert_eq!(store.status(LOGGED, "ada").unwrap(), Status::NotFound);
    // The state layer still knows how it was; behind a reopening nobody does.
    create_again(&store, &radar, "ada");
    drop(radar);
    store.close().unwrap();
    let store = open(&disk);
    create_again(&store, &store.source("radar").unwrap(), "grace");
}

fn create_again(store: &Store, radar: &Source, key: &str) {
    let mut events = store.events(LOGGED).start().unwrap();
    let created = radar.assert(LOGGED, key, &vessel(key, 1.0)).unwrap().wait(Until::Durable).unwrap();
    assert!(created.change == Made::Created && created.version > 2, "{created:?}");
    radar.assert(LOGGED, key, &vessel(key, 2.0)).unwrap().wait(Until::Durable).unwrap();
    let mut versions = Vec::new();
    while let Some(EventItem::Event(event)) = events.try_next().unwrap() {
        versions.push((event.version_before(), event.version()));
    }
    let first = created.version;
    assert_eq!(versions, [(0, first), (first, first + 1)]);
    assert_eq!(store.get(LOGGED, key).unwrap().unwrap().version(), first + 1);
}

#[test]
fn the_row_before_is_told_where_it_is_there_and_not_guessed_where_it_is_not() {
    let disk = Simulator::new();
    let plain: Kind<Vessel> = Kind::new("vessel");
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    radar.assert(plain, "ada", &vessel("Ada", 1.0)).unwrap();
    drop(radar);
    store.close().unwrap();

    // From here on with events: the row before the first one stands among the rows.
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    let mut events = store.events(LOGGED).start().unwrap();
    radar.assert(LOGGED, "ada", &vessel("Ada", 2.0)).unwrap();
    store.flush().unwrap();
    let previous = |item: Option<EventItem<'_, Vessel>>| match item {
        Some(EventItem::Event(event)) => event.previous().unwrap().map(|row| row.knots),
        other => panic!("{other:?}"),
    };
    assert_eq!(previous(events.try_next().unwrap()), Some(1.0));
    for n in 0..200u16 {
        radar.assert(LOGGED, "busy", &Vessel { heading: n, ..vessel("Busy", 1.0) }).unwrap();
        store.flush().unwrap();
    }
    radar.assert(LOGGED, "ada", &vessel("Ada", 3.0)).unwrap();
    store.flush().unwrap();
    store.keep_events(LOGGED, Keep::Latest).unwrap();
    let done = store.journal().compact(&CompactOptions::new().thorough(true)).unwrap();
    assert!(done.entries_dropped > 100, "{done:?}");
    let mut events = store.events(LOGGED).from(Start::Oldest).start().unwrap();
    let mut of_ada = Vec::new();
    while let Some(item) = events.try_next().unwrap() {
        if let EventItem::Event(event) = item
            && event.key() == b"ada"
        {
            of_ada.push((
                event.value().unwrap().unwrap().knots,
                event.previous().unwrap().map(|row| row.knots),
            ));
        }
    }
    assert_eq!(of_ada.last(), Some(&(3.0, None)), "what it was compacted away from is not known: {of_ada:?}");
}

#[test]
fn events_stand_beside_the_log_of_entries_and_have_to_be_asked_for() {
    let store = store();
    const NOTE: Facts<String> = Facts::new("note");
    let radar = store.source("radar").unwrap();
    let journal = store.journal();
    let mut all = journal.subscribe(Region::all()).unwrap();
    let mut limited = journal
        .subscribe_with(Region::all(), SubscribeOptions::new().capacity(3).on_lag(Lag::Disconnect))
        .unwrap();
    store.append(NOTE, "one", &"before".to_owned()).unwrap();
    for n in 0..10u16 {
        radar.assert(LOGGED, "ada", &Vessel { heading: n, ..vessel("Ada", 1.0) }).unwrap();
    }
    store.flush().unwrap();
    store.append(NOTE, "one", &"behind".to_owned()).unwrap();
    let names = |entry: Entry<'_>| {
        let kinds = journal.kinds();
        kinds.iter().find(|kind| kind.id == entry.kind()).unwrap().name.clone()
    };
    let mut seen = Vec::new();
    while let Some(Item::Entry(entry)) = all.try_next().unwrap() {
        seen.push(names(entry));
    }
    assert_eq!(seen, ["note", "vessel", "note"]);
    let view = journal.view();
    assert_eq!(view.region(&Region::all()).count(), 3);
    assert_eq!(view.region(&Region::all()).rev().count(), 3);
    assert_eq!(view.range(..).count(), 13, "the log itself has them");
    // They do not count against who has not asked for them.
    assert!(matches!(limited.try_next().unwrap(), Some(Item::Entry(_))));

    let operations = journal.kinds().into_iter().find(|kind| kind.name == "esker.events.vessel").unwrap();
    let error = journal.append(esker::Record::new(operations.id, b"ada", b"forged")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OwnedByState);
    assert_eq!(journal.erase(operations.id, b"ada").unwrap_err().kind(), ErrorKind::OwnedByState);
    let error = journal.kind("esker.events.vessel").unwrap_err();
    assert!([ErrorKind::InvalidInput, ErrorKind::OwnedByState].contains(&error.kind()), "{error}");
}

#[test]
fn a_kind_with_events_is_not_written_without_them() {
    let disk = Simulator::new();
    let plain: Kind<Vessel> = Kind::new("vessel");
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    let error = store.events(plain).start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(store.keep_events(plain, Keep::Latest).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(store.journal().kinds().is_empty(), "nothing was registered for that");
    radar.assert(LOGGED, "ada", &vessel("Ada", 1.0)).unwrap();
    let error = radar.assert(plain, "ada", &vessel("Ada", 2.0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema);
    drop(radar);
    store.close().unwrap();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    let error = radar.assert(plain, "ada", &vessel("Ada", 2.0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema);
    assert!(error.to_string().contains("events()"), "{error}");
    assert_eq!(store.get(plain, "ada").unwrap().unwrap().version(), 1, "reading it is for everybody");
    assert_eq!(told(&store, LOGGED, false), ["1 ada created 0>1"]);
}

#[test]
fn a_named_stream_goes_on_where_its_checkpoint_was() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    for n in 0..6u16 {
        radar.assert(LOGGED, "ada", &Vessel { heading: n, ..vessel("Ada", 1.0) }).unwrap();
    }
    store.flush().unwrap();
    let mut events = store.events(LOGGED).watch("forward").unwrap();
    for expected in 1..=4 {
        assert_eq!(events.next().unwrap().unwrap().sequence(), Some(expected));
        if expected == 3 {
            events.checkpoint().unwrap();
        }
    }
    assert_eq!(store.events(LOGGED).watch("forward").unwrap_err().kind(), ErrorKind::CursorInUse);
    drop((events, radar));
    store.close().unwrap();
    let store = open(&disk);
    let mut events = store.events(LOGGED).watch("forward").unwrap();
    let mut seen = Vec::new();
    while let Some(event) = events.try_next().unwrap() {
        seen.push(event.sequence().unwrap());
    }
    assert_eq!(seen, [4, 5, 6], "at least once");
    let mut batch = store.batch();
    const SENT: Facts<u64> = Facts::new("sent");
    batch.append(SENT, "forward", &6).unwrap();
    let seq = events.position().unwrap();
    batch.move_cursor(events.watcher(), seq).unwrap();
    batch.commit().unwrap();
    drop(events);
    assert!(store.events(LOGGED).watch("forward").unwrap().try_next().unwrap().is_none());
}

#[test]
fn a_window_of_events_is_one_batch_of_at_most_its_size() {
    let store = Store::over(options().segment_bytes(64 << 10).in_memory().unwrap());
    let radar = store.source("radar").unwrap();
    // Of rows there is one; the operations end the window.
    for n in 0..1000u16 {
        radar.assert(LOGGED, "ada", &Vessel { heading: n, ..vessel("Ada", 1.0) }).unwrap();
    }
    store.flush().unwrap();
    let stats = store.state_stats().unwrap();
    assert!(stats.flushes > 5 && stats.operations == 1000, "{stats:?}");
    let numbers: Vec<u64> = sequences(&store, LOGGED).into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, (1..=1000).collect::<Vec<_>>());
}

#[test]
fn s20_what_a_deadline_or_a_close_takes_back_is_no_event_of_anybody() {
    let clock = ManualClock::new();
    let store = Store::over(options().clock(clock.clone()).in_memory().unwrap());
    let deadline = std::time::Duration::from_secs(30);
    let mortal = SourceOptions::new().liveness(Liveness::Deadline(deadline)).heartbeat(Heartbeat::ByHand);
    let (radar, pilot) = (store.source_with("radar", mortal).unwrap(), store.source("pilot").unwrap());
    for source in [&radar, &pilot] {
        source.assert(LOGGED, "ada", &vessel("Ada", 1.0)).unwrap();
    }
    radar.assert(LOGGED, "grace", &vessel("Grace", 1.0)).unwrap();
    store.flush().unwrap();
    clock.advance(deadline);
    store.flush().unwrap();
    assert_eq!(store.scan(LOGGED).unwrap().count(), 1);
    assert_eq!(pilot.close(Closing::Retract).unwrap(), 1);
    assert_eq!(
        told(&store, LOGGED, true),
        [
            "1 ada created 0>1",
            "2 ada updated [] 0>1",
            "3 grace created 0>1",
            "- ada retracted 1>1",
            "- grace retracted 1>2",
            "- ada retracted 1>2",
        ]
    );
    assert_eq!(told(&store, LOGGED, false).len(), 3);
}
