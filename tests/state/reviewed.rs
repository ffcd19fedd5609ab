//! What was wrong once.

use std::time::Duration;

use esker::{
    Behind, CompactOptions, ErrorKind, Keep, Kind, Marker, Options, PAYLOAD_BYTES_MAX, Patch, Simulator,
    Source, StateItem, Store, Until, Window,
};
use serde::{Deserialize, Serialize};

use super::harbour::{VESSEL, Vessel, alive, change_often, fill, knots, open, options, store, told, vessel};

/// So many entities that nothing happens to, a few in a flush.
fn quiet(store: &Store, source: &Source, prefix: &str, entities: u16) {
    for n in 0..entities {
        source.assert(VESSEL, format!("{prefix}{n:03}"), &vessel("v", 1.0)).unwrap();
        if n % 10 == 0 {
            store.flush().unwrap();
        }
    }
    store.flush().unwrap();
}

#[test]
fn a_row_over_its_limit_is_refused_and_poisons_nothing() {
    let store = Store::over(Options::new().segment_bytes(128 << 20).background(false).in_memory().unwrap());
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "good", &vessel("good", 1.0)).unwrap();
    let refused = radar.assert(VESSEL, "big", &vessel(&"x".repeat(PAYLOAD_BYTES_MAX), 1.0)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused}");
    store.flush().unwrap();
    assert_eq!(knots(&store, "good"), Some(1.0));
    let fits = vessel(&"x".repeat(PAYLOAD_BYTES_MAX - 200), 1.0);
    radar.assert(VESSEL, "large", &fits).unwrap();
    store.flush().unwrap();
    store.close().unwrap();
}

#[test]
fn changes_of_the_set_of_sources_survive_lag_and_tokens() {
    let store = store();
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    for n in 0..10 {
        radar.assert(VESSEL, format!("v{n}"), &vessel("v", 1.0)).unwrap();
    }
    store.flush().unwrap();
    let asking = || store.subscription(VESSEL).sources(true).behind(Behind::Resume).capacity(4);
    let mut slow = asking().start().unwrap();
    told(&mut slow);
    let token = slow.token().unwrap().unwrap();
    let mut unasked =
        store.subscription(VESSEL).behind(Behind::Resume).capacity(4).resume(token).start().unwrap();
    for n in 0..10 {
        pilot.assert(VESSEL, format!("v{n}"), &vessel("v", 1.0)).unwrap();
    }
    store.flush().unwrap();
    let mut resumed = asking().resume(token).start().unwrap();
    assert_eq!((told(&mut slow).len(), told(&mut resumed).len()), (10, 10));
    assert!(told(&mut unasked).is_empty());
}

#[test]
fn the_row_before_is_the_one_right_before_or_none() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    let ada = |heading| Vessel { heading, ..vessel("ada", 1.0) };
    radar.assert(VESSEL, "ada", &ada(1)).unwrap();
    quiet(&store, &radar, "kept", 400);
    change_often(&store, &radar, "busy", 100);
    radar.assert(VESSEL, "ada", &ada(2)).unwrap();
    store.flush().unwrap();
    let mut live = store.subscription(VESSEL).bootstrap(false).previous(true).start().unwrap();
    change_often(&store, &radar, "busy", 300);
    while live.advance().unwrap() {}
    let token = live.token().unwrap().unwrap();
    radar.assert(VESSEL, "ada", &ada(1)).unwrap();
    store.flush().unwrap();
    quiet(&store, &radar, "more", 200);
    // Leaves the first version, whose segment has little garbage, and drops the second.
    store.journal().compact(&CompactOptions::new()).unwrap();
    let (view, id) = (store.view(), store.journal().kind_named("vessel").unwrap().id);
    let left = view.entries().kind(id).map(Result::unwrap).filter(|entry| entry.key() == b"ada");
    assert_eq!(left.map(|entry| entry.generation().get()).collect::<Vec<_>>(), [1, 3]);
    let mut seen = 0;
    while let Some(item) = live.try_next().unwrap() {
        if let StateItem::Change(change) = item
            && change.key() == b"ada"
        {
            assert!(change.previous().is_none(), "the second version is gone: {:?}", change.previous());
            seen += 1;
        }
    }
    let mut resumed = store.subscription(VESSEL).resume(token).previous(true).capacity(2).start().unwrap();
    while let Some(item) = resumed.try_next().unwrap() {
        if let StateItem::Change(change) = item
            && change.key() == b"ada"
        {
            assert!(change.has("heading") && change.previous().is_none(), "{change:?}");
            seen += 1;
        }
    }
    assert_eq!(seen, 2);
}

#[test]
fn who_has_never_caught_up_does_not_lag() {
    let store = store();
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("ada", 1.0)).unwrap();
    store.flush().unwrap();
    let mut changes = store.subscription(VESSEL).capacity(4).start().unwrap();
    assert!(changes.advance().unwrap());
    change_often(&store, &radar, "ada", 10);
    for _ in 0..3 {
        assert!(changes.advance().unwrap(), "the row, complete, what it comes to");
    }
    change_often(&store, &radar, "ada", 10);
    assert_eq!(told(&mut changes).len(), 10);
    change_often(&store, &radar, "ada", 10);
    assert_eq!(changes.advance().unwrap_err().kind(), ErrorKind::Lagged, "from here on it counts");
}

#[test]
fn a_bootstrap_that_nobody_reads_holds_no_more_than_it_may() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 20);
    let mut changes = store.subscription(VESSEL).bootstrap_hold(4096).start().unwrap();
    changes.advance().unwrap();
    change_often(&store, &radar, "busy", 300);
    assert!(store.journal().compact(&CompactOptions::new()).unwrap().entries_dropped > 0);
    let rest = told(&mut changes);
    let again = rest.iter().position(|line| line == "begin true Some(HeldTooMuch)").unwrap();
    assert_eq!(rest.len() - again, 23, "and then all there is: {:?}", &rest[again..]);
}

#[test]
fn who_has_been_told_the_rows_and_may_hold_no_more_begins_anew() {
    for behind in [Behind::End, Behind::LiveOnly, Behind::Full, Behind::Resume] {
        let disk = Simulator::new();
        let store = open(&disk);
        let radar = store.source("radar").unwrap();
        fill(&store, &radar, 20);
        let mut changes = store.subscription(VESSEL).behind(behind).bootstrap_hold(4096).start().unwrap();
        while !matches!(
            changes.try_next().unwrap(),
            Some(StateItem::Marker(Marker::BootstrapComplete { .. }))
        ) {}
        change_often(&store, &radar, "busy", 20);
        assert!(matches!(changes.try_next().unwrap(), Some(StateItem::Change(_))), "it is on its way");
        radar.retract(VESSEL, "v07").unwrap();
        change_often(&store, &radar, "busy", 300);
        let forget = CompactOptions::new().keep_tombstones_for(Duration::ZERO);
        assert!(store.journal().compact(&forget).unwrap().entries_dropped > 0);
        let rest = told(&mut changes);
        let again = rest.iter().position(|line| line == "begin true Some(HeldTooMuch)");
        let again = again.unwrap_or_else(|| panic!("{behind:?}: {rest:?}"));
        assert_eq!(rest.len() - again, 22, "{behind:?}, and then all there is: {:?}", &rest[again..]);
        assert!(rest[again..].iter().all(|line| !line.starts_with("v07")), "{behind:?}: a ghost");
        change_often(&store, &radar, "busy", 2);
        assert_eq!(told(&mut changes).len(), 2, "{behind:?}, and on");
    }
}

/// A store in which a byte of each file that has `mark` is another one.
fn rotten(disk: &Simulator, mark: &[u8]) -> Store {
    let mut files = disk.files();
    for bytes in files.values_mut() {
        let at = bytes.windows(mark.len()).position(|bytes| bytes == mark);
        at.into_iter().for_each(|at| bytes[at] ^= 1);
    }
    open(&Simulator::with(files))
}

#[test]
fn damage_to_what_a_row_was_takes_away_no_change_of_what_it_is() {
    let ada = |name: &str| vessel(name, 1.0);
    for mark in ["the first of them", "the second of them"] {
        let disk = Simulator::new();
        let store = open(&disk);
        let radar = store.source("radar").unwrap();
        radar.assert(VESSEL, "ada", &ada("the first of them")).unwrap();
        store.flush().unwrap();
        let token = store.subscription(VESSEL).bootstrap(false).start().unwrap().token().unwrap().unwrap();
        for name in ["the second of them", "the third of them"] {
            radar.assert(VESSEL, "ada", &ada(name)).unwrap();
            store.flush().unwrap();
        }
        drop(radar);
        store.close().unwrap();
        let store = rotten(&disk, mark.as_bytes());
        for capacity in [1, 100] {
            let asked = store.subscription(VESSEL).behind(Behind::Resume).capacity(capacity).previous(true);
            let mut changes = asked.resume(token).start().unwrap();
            let mut last = None;
            loop {
                match changes.try_next() {
                    Ok(Some(StateItem::Change(change))) => last = change.value().unwrap().map(|row| row.name),
                    Ok(Some(other)) => panic!("{mark}, {capacity}: {other:?}"),
                    Ok(None) => break,
                    Err(error) => {
                        assert!(error.is_corruption() && mark.contains("second"), "{mark}: {error}")
                    }
                }
            }
            assert_eq!(last.as_deref(), Some("the third of them"), "{mark}, {capacity}");
        }
    }
}

#[test]
fn one_who_panics_in_its_bootstrap_holds_nothing_back_and_others_go_on() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 20);
    let mut other = store.subscribe(VESSEL).unwrap();
    told(&mut other);
    let mut changes = store.subscribe(VESSEL).unwrap();
    let panicking = std::thread::spawn(move || {
        assert!(changes.advance().unwrap() && changes.advance().unwrap());
        panic!("of {:?}", changes.item());
    });
    assert!(panicking.join().is_err());
    change_often(&store, &radar, "busy", 300);
    let done = store.journal().compact(&CompactOptions::new()).unwrap();
    assert!(done.entries_dropped > 100 && done.held_back_by.is_empty(), "{done:?}");
    change_often(&store, &radar, "busy", 1);
    assert!(told(&mut store.subscribe(VESSEL).unwrap()).len() == 21 + 2);
}

#[derive(Serialize, Deserialize)]
struct Counter {
    hits: u64,
    pad: String,
}
const COUNTER: Kind<Counter> = Kind::new("counter");

#[test]
fn an_operation_that_answers_an_error_was_not_taken() {
    let disk = Simulator::new();
    let options = Options::new().segment_bytes(16384).background(false);
    let store = Store::over(options.window(Window::Every(Duration::from_millis(1))).open_in(&disk).unwrap());
    let web = store.source("web").unwrap();
    web.update(COUNTER, "/", |_| Counter { hits: 0, pad: "x".repeat(3000) }).unwrap();
    disk.limit_space(Some(0));
    let mut taken = 0;
    for _ in 0..40 {
        let hit = |counter: Option<Counter>| {
            let counter = counter.unwrap();
            Counter { hits: counter.hits + 1, ..counter }
        };
        match web.update(COUNTER, "/", hit) {
            Ok(_) => taken += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::NoSpace),
        }
    }
    assert!((1..40).contains(&taken), "{taken}");
    disk.limit_space(None);
    store.flush().unwrap();
    assert_eq!(store.get(COUNTER, "/").unwrap().unwrap().value().unwrap().hits, taken);
    web.update(COUNTER, "/", |counter| counter.unwrap()).unwrap();
}

#[test]
fn a_failure_that_was_made_good_is_told_to_nobody() {
    let disk = Simulator::new();
    let every = Window::Every(Duration::from_millis(2));
    let store = Store::over(Options::new().segment_bytes(16384).window(every).open_in(&disk).unwrap());
    let radar = store.source("radar").unwrap();
    disk.limit_space(Some(0));
    let mut n = 0;
    while radar.assert(VESSEL, format!("v{n}"), &vessel(&"x".repeat(600), 1.0)).is_ok() {
        n += 1;
    }
    disk.limit_space(None);
    while store.state_stats().unwrap().pending > 0 {
        std::thread::yield_now();
    }
    radar.assert(VESSEL, "later", &vessel("later", 1.0)).unwrap();
    store.close().unwrap();
}

#[test]
fn a_scan_over_damage_ends_and_gives_what_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let opened = || Store::over(options().segment_bytes(16384).open(&path).unwrap());
    let store = opened();
    let radar = store.source("radar").unwrap();
    quiet(&store, &radar, "v", 600);
    drop(radar);
    store.close().unwrap();
    let segment = path.join("0000000003.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[8] ^= 0xff;
    bytes[40] ^= 0xff;
    std::fs::write(&segment, bytes).unwrap();
    let store = opened();
    let (good, bad): (Vec<_>, Vec<_>) = store.scan(VESSEL).unwrap().take(5000).partition(Result::is_ok);
    assert!((1..5).contains(&bad.len()), "{} errors", bad.len());
    assert!(bad.iter().all(|error| error.as_ref().unwrap_err().is_corruption()));
    assert!((300..600).contains(&good.len()), "{}", good.len());
    let mut changes = store.subscribe(VESSEL).unwrap();
    let (mut rows, mut errors) = (0, 0);
    loop {
        match changes.try_next() {
            Ok(Some(StateItem::Change(_))) => rows += 1,
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(error) => {
                assert!(error.is_corruption(), "{error}");
                errors += 1;
            }
        }
    }
    assert_eq!((rows, errors), (good.len(), bad.len()));
}

#[test]
fn a_conflict_takes_no_room() {
    let store = Store::over(options().segment_bytes(16384).in_memory().unwrap());
    let radar = store.source("radar").unwrap();
    for n in 0..100 {
        let refused = radar.assert_if(VESSEL, format!("v{n}"), 77, &vessel("v", 1.0)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{n}");
    }
    assert_eq!(store.state_stats().unwrap().pending_bytes, 0);
}

#[test]
fn what_a_full_disk_refuses_takes_no_room() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 20);
    disk.limit_space(Some(0));
    // Between two refusals one may be taken as long as the window has room: they tell of what nobody waited for.
    let (mut said, mut refused) = (0, 0);
    while refused < 3 {
        match radar.assert(VESSEL, format!("new {said}"), &vessel(&"x".repeat(300), 1.0)) {
            Ok(_) => (said, refused) = (said + 1, 0),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NoSpace);
                refused += 1;
            }
        }
    }
    let pending = |store: &Store| store.state_stats().unwrap();
    let before = pending(&store);
    assert!(before.pending > 0 && before.pending <= said, "{before:?}");
    for n in 0..10_000 {
        let refused = radar.assert(VESSEL, format!("refused {n}"), &vessel(&"x".repeat(300), 1.0));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::NoSpace);
    }
    for n in 0..20 {
        let longer = vessel(&"x".repeat(300), 2.0);
        assert_eq!(radar.assert(VESSEL, format!("v{n:02}"), &longer).unwrap_err().kind(), ErrorKind::NoSpace);
    }
    assert_eq!(pending(&store), before);
    disk.limit_space(None);
    store.flush().unwrap();
    assert_eq!(store.scan(VESSEL).unwrap().count(), usize::try_from(said).unwrap() + 20);
    assert_eq!(knots(&store, "v00"), Some(1.0));
}

#[test]
fn what_is_pending_has_a_bound_whatever_the_size_of_a_segment() {
    const SPOKEN: Kind<Vessel> = Kind::new("spoken").events();
    let disk = Simulator::new();
    let store = Store::over(options().segment_bytes(1 << 30).open_in(&disk).unwrap());
    let radar = store.source("radar").unwrap();
    radar.assert(SPOKEN, "small", &vessel("small", 1.0)).unwrap();
    fill(&store, &radar, 1);
    disk.limit_space(Some(0));
    let large = vessel(&"x".repeat(2 << 20), 1.0);
    let (mut said, mut most) = (0, 0);
    for n in 0..80 {
        match radar.assert(VESSEL, format!("v{n}"), &large) {
            Ok(_) => said += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::NoSpace),
        }
        most = most.max(store.state_stats().unwrap().pending_bytes);
    }
    // Of two windows at most: the one that takes operations, and the one that could not be appended.
    assert!(said > 10 && most <= 64 << 20, "{said} of 2 MiB, {most} bytes");
    disk.limit_space(None);
    store.flush().unwrap();
    // What is larger than a window is one by itself.
    let largest = vessel(&"x".repeat(PAYLOAD_BYTES_MAX - 200), 1.0);
    radar.assert(SPOKEN, "large", &largest).unwrap();
    radar.assert(SPOKEN, "small", &vessel("small", 2.0)).unwrap();
    store.flush().unwrap();
    assert_eq!(store.scan(VESSEL).unwrap().count() + store.scan(SPOKEN).unwrap().count(), said + 3);
}

#[derive(Serialize, Deserialize)]
struct Before {
    speed: f32,
    name: String,
}
#[derive(Serialize, Deserialize, Default, Debug)]
#[serde(default)]
struct After {
    knots: f32,
    name: String,
}

#[test]
fn two_handles_of_a_kind_with_other_steps_are_two_schemas() {
    const BEFORE: Kind<Before> = Kind::new("v");
    const BARE: Kind<After> = Kind::new("v").version(2);
    const STEPS: Kind<After> = BARE.upcasts(&[(1, |fields| {
        fields.rename("speed", "knots");
        Ok(())
    })]);
    let disk = Simulator::new();
    let first = open(&disk);
    let radar = first.source("radar").unwrap();
    radar.assert(BEFORE, "a", &Before { speed: 7.0, name: "ada".into() }).unwrap();
    drop(radar);
    first.close().unwrap();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    radar.assert(BARE, "other", &After::default()).unwrap();
    let patch = Patch::new().set("name", "grace").unwrap();
    assert_eq!(radar.patch(STEPS, "a", &patch).unwrap_err().kind(), ErrorKind::Schema);
    drop(radar);
    store.close().unwrap();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    radar.patch(STEPS, "a", &patch).unwrap();
    store.flush().unwrap();
    assert_eq!(store.get(STEPS, "a").unwrap().unwrap().value().unwrap().knots, 7.0);
}

#[test]
fn a_row_that_is_larger_than_a_batch_is_today_can_be_retracted() {
    let disk = Simulator::new();
    let large = Store::over(options().segment_bytes(64 << 10).open_in(&disk).unwrap());
    let radar = large.source("radar").unwrap();
    radar.assert(VESSEL, "large", &vessel(&"x".repeat(10_000), 1.0)).unwrap();
    drop(radar);
    large.close().unwrap();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    assert_eq!(
        radar.retract(VESSEL, "large").unwrap().wait(Until::Durable).unwrap().change,
        esker::Made::Deleted
    );
}

#[test]
fn nobody_says_that_nothing_is_kept_of_live_state() {
    let store = store();
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("ada", 1.0)).unwrap();
    store.flush().unwrap();
    let id = store.journal().kind_named("vessel").unwrap().id;
    assert_eq!(store.journal().keep(id, Keep::Nothing).unwrap_err().kind(), ErrorKind::OwnedByState);
    store.journal().keep(id, Keep::All).unwrap();
    store.journal().keep(id, Keep::Latest).unwrap();
}

#[test]
fn a_window_that_never_ends_or_has_no_length_is_no_option() {
    for every in [Duration::ZERO, Duration::MAX] {
        let refused = Options::new().window(Window::Every(every)).in_memory().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidOptions);
    }
}

#[test]
fn a_repair_gives_no_source_s_number_away() {
    let disk = Simulator::new();
    let store = open(&disk);
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    radar.assert(VESSEL, "ada", &vessel("ada", 1.0)).unwrap();
    pilot.assert(VESSEL, "ada", &vessel("ada", 1.0)).unwrap();
    drop((radar, pilot));
    store.close().unwrap();
    // What says who has the second number is damaged.
    let mut files = disk.files();
    let bytes = files.get_mut("0000000001.seg").unwrap();
    let at = bytes.windows(5).position(|word| word == b"pilot").unwrap();
    bytes[at] ^= 0xff;
    let target = Simulator::new();
    esker::repair_in(&Simulator::with(files), &target).unwrap();
    let repaired = open(&target);
    assert_eq!(alive(&repaired, "ada").map(|(_, sources)| sources), Some(vec![0, 1]));
    let names: Vec<String> = repaired.journal().sources().into_iter().map(|source| source.name).collect();
    assert_eq!(names, ["radar", "recovered-1"]);
    assert_eq!(repaired.source("somebody else").unwrap().id(), 2);
}

#[test]
fn a_poisoned_store_still_tells_what_was_durable() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    let mut changes = store.subscribe(VESSEL).unwrap();
    while !matches!(changes.try_next().unwrap(), Some(StateItem::Marker(Marker::BootstrapComplete { .. }))) {}
    radar.assert(VESSEL, "ada", &vessel("ada", 1.0)).unwrap();
    store.flush().unwrap();
    disk.fail_sync_after(0);
    radar.assert(VESSEL, "ada", &vessel("ada", 2.0)).unwrap();
    assert_eq!(store.flush().unwrap_err().kind(), ErrorKind::Poisoned);
    assert!(changes.advance().unwrap());
    let StateItem::Change(change) = changes.item() else { panic!("a change") };
    assert_eq!(change.version(), 1);
    assert_eq!(changes.advance().unwrap_err().kind(), ErrorKind::Poisoned);
}

#[test]
fn an_epoch_that_finds_no_space_takes_nothing_back_and_the_window_goes_on() {
    let disk = Simulator::new();
    let every = Window::Every(Duration::from_millis(1));
    let store = Store::over(Options::new().segment_bytes(16384).window(every).open_in(&disk).unwrap());
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 20);
    disk.limit_space(Some(0));
    // Until there is room no more: what is asserted is what is there already, and takes none.
    while radar.assert_with(VESSEL, "full", &vessel(&"x".repeat(900), 1.0), &[0; 50]).is_ok() {
        if store.flush().is_err() {
            break;
        }
        let other = vessel(&"y".repeat(900), 2.0);
        if radar.assert(VESSEL, "full", &other).is_err() || store.flush().is_err() {
            break;
        }
    }
    let refused = radar.retract_all(VESSEL).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NoSpace);
    disk.limit_space(None);
    store.flush().unwrap();
    assert_eq!(alive(&store, "v00"), Some((1, vec![0])), "nothing was taken back");
    let ticket = radar.assert(VESSEL, "later", &vessel("later", 1.0)).unwrap();
    while !ticket.is_flushed() {
        std::thread::yield_now();
    }
    assert_eq!(radar.retract_all(VESSEL).unwrap().retracted, 22);
}

#[test]
fn who_is_on_the_way_to_the_end_holds_it_and_who_begins_there_lags_at_once() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 20);
    let mut boots = store.subscribe(VESSEL).unwrap();
    for _ in 0..21 {
        assert!(boots.advance().unwrap());
    }
    change_often(&store, &radar, "busy", 10);
    assert!(boots.advance().unwrap() && boots.advance().unwrap(), "complete, and one of ten");
    change_often(&store, &radar, "busy", 300);
    let held = store.journal().compact(&CompactOptions::new()).unwrap();
    assert_eq!((held.entries_dropped, held.held_back_by.len()), (0, 1), "{held:?}");
    assert_eq!(told(&mut boots).len(), 309);
    assert!(store.journal().compact(&CompactOptions::new()).unwrap().entries_dropped > 0);

    let mut live = store.subscription(VESSEL).bootstrap(false).capacity(4).start().unwrap();
    change_often(&store, &radar, "busy", 10);
    assert_eq!(live.advance().unwrap_err().kind(), ErrorKind::Lagged);
}

#[test]
fn an_operation_that_fits_a_window_of_its_own_is_not_refused_for_what_is_pending() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    radar.assert_with(VESSEL, "a", &vessel("a", 1.0), &[0; 800]).unwrap();
    radar.assert(VESSEL, "a", &vessel(&"x".repeat(3500), 1.0)).unwrap();
    store.flush().unwrap();
    assert_eq!(alive(&store, "a"), Some((2, vec![0])));
}

#[test]
fn a_patch_writes_nothing_that_is_no_row() {
    #[derive(Deserialize, Default)]
    struct Odd {
        #[serde(default)]
        n: u8,
    }
    impl Serialize for Odd {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            (self.n, self.n).serialize(serializer)
        }
    }
    const ODD: Kind<Odd> = Kind::new("odd");
    let store = store();
    let radar = store.source("radar").unwrap();
    assert_eq!(radar.assert(ODD, "a", &Odd { n: 1 }).unwrap_err().kind(), ErrorKind::Schema);
    let patch = Patch::new().set("n", &1u8).unwrap();
    assert_eq!(radar.patch(ODD, "a", &patch).unwrap_err().kind(), ErrorKind::Schema);
    store.flush().unwrap();
    assert!(store.get(ODD, "a").unwrap().is_none());
}

#[test]
fn a_row_that_no_step_brings_is_told_to_who_reads_it_and_can_be_replaced() {
    const BEFORE: Kind<Before> = Kind::new("v");
    const FAILS: Kind<After> =
        Kind::new("v").version(2).upcasts(&[(1, |fields| match fields.get::<f32>("speed")? {
            Some(0.0) => Err("no way".into()),
            Some(1.0) => panic!("no way at all"),
            _ => Ok(()),
        })]);
    let disk = Simulator::new();
    let first = open(&disk);
    let radar = first.source("radar").unwrap();
    let pilot = first.source("pilot").unwrap();
    for (key, speed) in [("errs", 0.0), ("panics", 1.0), ("gone", 1.0), ("shared", 0.0)] {
        radar.assert(BEFORE, key, &Before { speed, name: key.into() }).unwrap();
    }
    pilot.assert(BEFORE, "shared", &Before { speed: 0.0, name: "shared".into() }).unwrap();
    drop((radar, pilot));
    first.close().unwrap();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    for key in ["errs", "panics"] {
        let error = store.get(FAILS, key).unwrap().unwrap().value().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Codec, "{error}");
        let patch = Patch::new().set("name", "x").unwrap();
        assert_eq!(radar.patch(FAILS, key, &patch).unwrap_err().kind(), ErrorKind::Codec);
        let whole = After { knots: 3.0, name: key.into() };
        let made = radar.assert(FAILS, key, &whole).unwrap().wait(Until::Durable).unwrap();
        assert_eq!((made.change, made.version), (esker::Made::Updated, 2));
        assert_eq!(store.get(FAILS, key).unwrap().unwrap().value().unwrap().knots, 3.0);
    }
    radar.retract(FAILS, "gone").unwrap();
    radar.retract(FAILS, "shared").unwrap();
    store.flush().unwrap();
    assert!(store.get(FAILS, "gone").unwrap().is_none());
    let shared = store.get(FAILS, "shared").unwrap().unwrap();
    assert_eq!((shared.version(), shared.sources().bits(), shared.row().schema_version()), (1, 0b10, 1));
}
