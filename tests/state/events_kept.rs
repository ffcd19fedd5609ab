//! What becomes of events when the log is damaged, compacted, repaired, or made anew elsewhere; and that those who have
//! not asked for them are not concerned.

use std::path::{Path, PathBuf};

use esker::dump::FrameInfo;
use esker::{
    Check, Closing, Codec, CompactOptions, ErrorKind, EventItem, Facts, Hold, Import, ImportEntry,
    ImportKind, Item, Keep, Kind, Lag, Origin, Owner, Patch, Reader, Record, Region, Simulator, Source,
    SourceOptions, Start, Store, StoreId, SubscribeOptions, Verdict, WatchOptions,
};

use super::events::LOGGED;
use super::harbour::{Vessel, let_the_clock_tick, open, options, vessel};

const NOTE: Facts<String> = Facts::new("note");

/// The numbers of the events that there are; of what cannot be read, nothing.
fn numbers(store: &Store) -> Vec<u64> {
    let mut events = store.events(LOGGED).from(Start::Oldest).start().unwrap();
    let mut numbers = Vec::new();
    loop {
        match events.try_next() {
            Ok(Some(EventItem::Event(event))) => numbers.extend(event.sequence()),
            Ok(Some(_)) => {}
            Ok(None) => return numbers,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt),
        }
    }
}

fn say(store: &Store, radar: &Source, key: &str) {
    radar.assert(LOGGED, key, &vessel(&format!("mark-{key}"), 1.0)).unwrap();
    store.flush().unwrap();
}

/// Three events, and a fact; then a byte of that which holds `mark` is another one.
fn damaged(path: &Path, mark: &[u8]) {
    let store = Store::over(options().open(path).unwrap());
    let radar = store.source("radar").unwrap();
    ["one", "two", "three"].iter().for_each(|key| say(&store, &radar, key));
    store.append(NOTE, "a", &"a fact".to_owned()).unwrap();
    // Killed, so that no close says how many there were.
    std::fs::create_dir(path.with_extension("copy")).unwrap();
    for entry in std::fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let mut bytes = std::fs::read(entry.path()).unwrap();
        if entry.path().extension().is_some_and(|extension| extension == "seg") {
            let at = bytes.windows(mark.len()).position(|word| word == mark).unwrap();
            bytes[at] ^= 1;
        }
        std::fs::write(path.with_extension("copy").join(entry.file_name()), bytes).unwrap();
    }
}

fn two_paths() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (directory.path().join("one.esker"), directory.path().join("other.esker"));
    (directory, one, other)
}

#[test]
fn s20_no_number_is_given_twice_whatever_of_the_log_is_damaged() {
    for mark in [&b"mark-three"[..], b"a fact"] {
        let (_directory, path, again) = two_paths();
        damaged(&path, mark);
        let copy = path.with_extension("copy");
        // A fact that is damaged may have been an event as well: its number is left out.
        let store = match open_at(&copy) {
            Ok(store) => store,
            Err(error) => {
                // Behind a kill nobody knows whether it was acknowledged: repaired, it is written on.
                assert_eq!(error.kind(), ErrorKind::Corrupt);
                esker::repair(&copy, &again).unwrap();
                Store::over(options().open(&again).unwrap())
            }
        };
        let before = numbers(&store);
        let radar = store.source("radar").unwrap();
        say(&store, &radar, "four");
        let after = numbers(&store);
        assert_eq!(after.len(), before.len() + 1, "{after:?}");
        assert!(after.windows(2).all(|pair| pair[0] < pair[1]), "{after:?}");
    }
}

fn open_at(path: &Path) -> esker::Result<Store> {
    options().open(path).map(Store::over)
}

#[test]
fn s20_a_close_says_how_many_events_there_were() {
    let (_directory, path, again) = two_paths();
    let store = open_at(&path).unwrap();
    let radar = store.source("radar").unwrap();
    ["one", "two", "three"].iter().for_each(|key| say(&store, &radar, key));
    store.append(NOTE, "a", &"a fact".to_owned()).unwrap();
    drop(radar);
    store.close().unwrap();
    let file = path.join("0000000001.seg");
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(6).rposition(|word| word == b"a fact").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let reader = Reader::open(&path).unwrap();
    let operations = reader.kind_named("esker.events.vessel").unwrap().id;
    assert_eq!(reader.last_event(operations).unwrap(), (3, 3), "it need not look at what is damaged");
    let store = open_at(&path).unwrap();
    let radar = store.source("radar").unwrap();
    say(&store, &radar, "four");
    assert_eq!(numbers(&store), [1, 2, 3, 4]);
    drop(radar);
    store.close().unwrap();
    esker::repair(&path, &again).unwrap();
    let store = open_at(&again).unwrap();
    say(&store, &store.source("radar").unwrap(), "five");
    assert!(*numbers(&store).last().unwrap() > 4, "what a repair lost may have been events");
}

/// Operations of which no row comes, so that only events are in the way.
fn say_again(store: &Store, radar: &Source, times: u16) {
    for _ in 0..times {
        radar.assert(LOGGED, "ada", &vessel("Ada", 1.0)).unwrap();
        store.flush().unwrap();
    }
}

#[test]
fn who_follows_all_entries_neither_holds_events_back_nor_is_lost_to_them() {
    let disk = Simulator::new();
    let store = open(&disk);
    store.keep_events(LOGGED, Keep::Nothing).unwrap();
    let radar = store.source("radar").unwrap();
    say_again(&store, &radar, 1);
    let watch = |name: &str, hold| {
        let options = WatchOptions::new().hold(hold).from(Start::Oldest);
        let mut watcher = store.journal().watch_with(name, Region::all(), options).unwrap();
        while watcher.advance().unwrap() {}
        watcher.checkpoint().unwrap();
        watcher
    };
    let mut limited = watch("limited", Hold::UpTo(20_000));
    drop(watch("absent", Hold::Forever));
    let subscribe = |lag| {
        let options = SubscribeOptions::new().capacity(1000).on_lag(lag);
        store.journal().subscribe_with(Region::all(), options).unwrap()
    };
    let (mut strict, mut lenient) = (subscribe(Lag::Disconnect), subscribe(Lag::Skip));
    let behind = store.journal().view().last_seq().unwrap().unwrap();
    say_again(&store, &radar, 1000);
    let note = store.append(NOTE, "a", &"one".to_owned()).unwrap();
    let done = store.journal().compact(&CompactOptions::new()).unwrap();
    assert!(done.entries_dropped > 900, "{done:?}");
    assert_eq!(limited.try_next().unwrap().unwrap().seq(), note.seq);
    for subscriber in [&mut strict, &mut lenient] {
        let Some(Item::Entry(entry)) = subscriber.try_next().unwrap() else { panic!("nothing was missed") };
        assert_eq!(entry.seq(), note.seq);
    }
    let late = SubscribeOptions::new().from(Start::After(behind));
    store.journal().subscribe_with(Region::all(), late).unwrap();
    assert_eq!(store.journal().view().floor(&Region::all()), None);
    drop((limited, strict, lenient, radar));
    store.close().unwrap();
    assert_eq!(
        open(&disk).journal().view().floor(&Region::all()),
        None,
        "the manifest says which stand aside"
    );
}

#[test]
fn of_events_that_only_the_latest_are_kept_of_nothing_is_left_of_who_is_gone() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    store.keep_events(LOGGED, Keep::Latest).unwrap();
    for n in 0..200 {
        radar.assert(LOGGED, format!("k{n}"), &vessel("Ada", 1.0)).unwrap();
        store.flush().unwrap();
        radar.retract(LOGGED, format!("k{n}")).unwrap();
        store.flush().unwrap();
    }
    say(&store, &radar, "alive");
    (0..100).for_each(|_| _ = store.append(NOTE, "a", &"x".repeat(300)).unwrap());
    let_the_clock_tick();
    let options = CompactOptions::new().thorough(true).keep_tombstones_for(std::time::Duration::ZERO);
    store.journal().compact(&options).unwrap();
    let operations = store.journal().kind_named("esker.events.vessel").unwrap().id;
    let left: Vec<Vec<u8>> =
        store.journal().view().kind(operations).map(|entry| entry.unwrap().key().to_vec()).collect();
    assert_eq!(left, [b"alive"]);
}

#[test]
fn the_row_before_the_first_event_is_found_in_a_part_too() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    radar.assert(Kind::<Vessel>::new("vessel"), "ada", &vessel("Ada", 1.0)).unwrap();
    drop(radar);
    store.close().unwrap();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    radar.assert(LOGGED, "ada", &vessel("Ada", 2.0)).unwrap();
    store.flush().unwrap();
    let journal = store.journal();
    journal.keep(journal.kind_named("vessel").unwrap().id, Keep::All).unwrap();
    let filler = journal.kind("filler").unwrap();
    journal.keep(filler, Keep::Latest).unwrap();
    (0..60).for_each(|_| _ = journal.append(Record::new(filler, b"x", &[7; 1000])).unwrap());
    assert!(journal.compact(&CompactOptions::new().thorough(true)).unwrap().parts_written > 0);
    let mut events = store.events(LOGGED).from(Start::Oldest).start().unwrap();
    let Some(EventItem::Event(event)) = events.try_next().unwrap() else { panic!("an event") };
    assert_eq!(event.previous().unwrap().map(|row| row.knots), Some(1.0));
}

/// Copies a store entry by entry, as an export does.
fn copy(reader: &Reader, path: &Path) -> esker::Result<()> {
    let origin = Origin::new(reader.store_id(), reader.era(), 0).segment_bytes(1 << 20);
    let mut import = Import::begin(path, origin)?;
    for kind in reader.kinds() {
        let (store, of_kind) = reader.last_event(kind.id)?;
        let copied =
            ImportKind::new(kind.id.get(), kind.name.clone()).version(kind.version).codec(kind.codec);
        let copied = copied.owner(kind.owner).fields(kind.fields.clone()).keep(kind.keep);
        import.kind(copied.last_event(store, of_kind))?;
    }
    reader.sources().into_iter().try_for_each(|source| import.source(source))?;
    let (view, mut last) = (reader.view()?, None);
    for entry in view.range(..) {
        let entry = entry?;
        last = Some(entry.seq());
        let frame = FrameInfo::of_entry(&entry);
        let (row, event) = (frame.row_operation().zip(frame.row), frame.event_operation().zip(frame.event));
        let (in_epoch, synthetic) = (frame.is_in_epoch(), frame.is_synthetic());
        let (generation, kind) = (entry.generation(), entry.kind());
        let mut copied = ImportEntry::new(entry.seq(), generation, kind, frame.key, frame.payload)
            .more(frame.more)
            .tombstone(frame.tombstone)
            .source(frame.source)
            .time(frame.time)
            .schema_version(frame.schema_version)
            .in_epoch(in_epoch)
            .synthetic(synthetic);
        copied = row.map_or(copied.clone(), |(operation, mark)| copied.row(operation, mark));
        copied = event.map_or(copied.clone(), |(operation, mark)| copied.event(operation, mark));
        import.entry(copied)?;
    }
    import.finish(last).map(drop)
}

#[test]
fn sources_that_were_given_back_stand_in_what_they_said_and_are_no_trouble_to_an_import_or_a_repair() {
    let (_directory, path, again) = two_paths();
    let store = open_at(&path).unwrap();
    for _ in 0..3 {
        let worker = store.source_auto("worker", SourceOptions::new()).unwrap();
        say(&store, &worker, "ada");
        worker.close(Closing::Retract).unwrap();
    }
    copy(&Reader::open(&path).unwrap(), &again).unwrap();
    store.close().unwrap();
    assert_eq!(esker::verify(&again, Check::Full).unwrap().verdict, Verdict::Valid);
    let repaired = again.with_extension("repaired");
    esker::repair(&path, &repaired).unwrap();
    for path in [again, repaired] {
        let store = open_at(&path).unwrap();
        assert!(store.journal().sources().is_empty(), "{:?}", store.journal().sources());
        let before = numbers(&store);
        assert_eq!(before, [1, 2, 3]);
        say(&store, &store.source("new").unwrap(), "ada");
        assert_eq!(numbers(&store).last(), Some(&4));
    }
}

/// An import of a kind with events, of which nothing is there but their number.
fn only_numbers(path: &Path, last: u64) -> esker::Result<()> {
    let mut import = Import::begin(path, Origin::new(StoreId::from_bytes([7; 16]), 1, 0))?;
    let fields: Vec<String> = ["name", "knots", "heading", "cargo", "flag"].map(str::to_owned).to_vec();
    let kind = |number, name: &str, owner| {
        ImportKind::new(number, name).codec(Codec::MessagePack).owner(owner).fields(fields.clone())
    };
    import.kind(kind(1, "vessel", Owner::State))?;
    import.kind(kind(2, "esker.events.vessel", Owner::Events).last_event(last, last))?;
    import.finish(None).map(drop)
}

#[test]
fn numbers_that_come_from_outside_are_gone_on_with_and_bounded() {
    let (_directory, path, other) = two_paths();
    assert_eq!(only_numbers(&other, u64::MAX).unwrap_err().kind(), ErrorKind::InvalidInput);
    only_numbers(&path, 5).unwrap();
    let store = open_at(&path).unwrap();
    say(&store, &store.source("radar").unwrap(), "ada");
    assert_eq!(numbers(&store), [6]);
    store.close().unwrap();
    let verified = esker::verify(&path, Check::Full).unwrap();
    assert_eq!(verified.verdict, Verdict::Valid, "{:#?}", verified.findings);
}

#[test]
fn a_patch_of_another_version_is_refused_and_its_row_told() {
    const LATER: Kind<Vessel> = Kind::new("vessel").version(2).events();
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    radar.assert(LOGGED, "ada", &vessel("Ada", 1.0)).unwrap();
    radar.patch(LOGGED, "ada", &Patch::new().set("knots", &2.0f32).unwrap()).unwrap();
    drop(radar);
    store.close().unwrap();
    let store = open(&disk);
    let mut events = store.events(LATER).from(Start::Oldest).start().unwrap();
    assert!(events.advance().unwrap() && events.advance().unwrap());
    let EventItem::Event(event) = events.item() else { panic!("an event") };
    assert_eq!(event.patch().unwrap_err().kind(), ErrorKind::Schema, "which fields it named nobody can tell");
    assert_eq!(event.value().unwrap().unwrap().knots, 2.0);
}

#[test]
fn a_name_that_is_too_long_for_its_events_leaves_nothing_behind() {
    let name: &'static str = "n".repeat(250).leak();
    let store = super::harbour::store();
    let radar = store.source("radar").unwrap();
    let error = radar.assert(Kind::new(name).events(), "ada", &vessel("Ada", 1.0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(store.journal().kinds().is_empty());
    radar.assert(Kind::new(name), "ada", &vessel("Ada", 1.0)).unwrap();
}
