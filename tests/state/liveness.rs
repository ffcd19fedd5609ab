//! Sources that fall silent, are closed or retired, and deletions that are told for a while; by a clock that the tests
//! move.

use std::time::Duration;

use esker::{
    Closing, ErrorKind, Facts, Heartbeat, Kind, Liveness, ManualClock, Options, Record, SESSIONS,
    SOURCES_MAX, SessionEnd, SessionEvent, Simulator, Source, SourceOptions, Status, Store, Until, Window,
};

use super::harbour::{VESSEL, Vessel, alive, follow, knots, options, store, told, until, vessel};

const DEADLINE: Duration = Duration::from_secs(30);
const MILLISECOND: Duration = Duration::from_millis(1);

fn mortal() -> SourceOptions {
    SourceOptions::new().liveness(Liveness::Deadline(DEADLINE))
}

fn by_hand() -> SourceOptions {
    mortal().heartbeat(Heartbeat::ByHand)
}

fn timed() -> (ManualClock, Store) {
    let clock = ManualClock::new();
    let store = Store::over(options().clock(clock.clone()).in_memory().unwrap());
    (clock, store)
}

/// A store on a disk, with a clock of its own as every process has one.
fn opened(disk: &Simulator) -> (ManualClock, Store) {
    let clock = ManualClock::new();
    (clock.clone(), Store::over(options().segment_bytes(16384).clock(clock).open_in(disk).unwrap()))
}

fn say(source: &Source, keys: &[&str]) {
    for key in keys {
        source.assert(VESSEL, key, &vessel(key, 1.0)).unwrap();
    }
}

/// So much later somebody looks.
fn pass(clock: &ManualClock, store: &Store, time: Duration) {
    clock.advance(time);
    store.flush().unwrap();
}

fn sources(store: &Store, key: &str) -> Option<Vec<u8>> {
    alive(store, key).map(|(_, sources)| sources)
}

/// What became of a source.
fn presence(store: &Store, name: &str) -> Vec<String> {
    let facts = store.history(SESSIONS, name).unwrap();
    let text = |event: SessionEvent| match event {
        SessionEvent::Begun { .. } => "begun".to_owned(),
        SessionEvent::Ended { because, .. } => format!("{because:?}"),
        other => panic!("{other:?}"),
    };
    facts.iter().map(|fact| text(fact.value().unwrap())).collect()
}

#[test]
fn s23_nothing_happens_a_millisecond_before_the_deadline_and_at_it_the_bits_are_cleared() {
    let (clock, store) = timed();
    let radar = store.source_with("radar", by_hand()).unwrap();
    say(&radar, &["ada", "grace"]);
    store.flush().unwrap();
    let mut changes = follow(&store);
    pass(&clock, &store, DEADLINE - MILLISECOND);
    assert_eq!(sources(&store, "ada"), Some(vec![0]));
    pass(&clock, &store, MILLISECOND);
    assert_eq!(store.status(VESSEL, "ada").unwrap(), Status::Tombstone { version: 2 });
    assert_eq!(told(&mut changes), ["ada v2 deleted", "grace v2 deleted"]);
    assert_eq!(presence(&store, "radar"), ["begun", "Deadline"]);
    // It is the same session, which comes back with what it says.
    say(&radar, &["ada"]);
    store.flush().unwrap();
    assert_eq!(alive(&store, "ada"), Some((3, vec![0])));
    assert!(alive(&store, "grace").is_none());
    assert_eq!(presence(&store, "radar"), ["begun", "Deadline", "begun"]);
    pass(&clock, &store, DEADLINE);
    assert!(alive(&store, "ada").is_none(), "and is silent again");
}

#[test]
fn s23_what_others_assert_stays_and_says_who_does() {
    let (clock, store) = timed();
    let (radar, pilot) = (store.source_with("radar", by_hand()).unwrap(), store.source("pilot").unwrap());
    say(&radar, &["ada", "grace"]);
    say(&pilot, &["grace", "joan"]);
    store.flush().unwrap();
    let mut changes = follow(&store);
    pass(&clock, &store, DEADLINE);
    assert_eq!(told(&mut changes), ["ada v2 deleted"]);
    assert_eq!(alive(&store, "grace"), Some((1, vec![1])), "no other version: its row is as it was");
    assert_eq!(alive(&store, "joan"), Some((1, vec![1])));
    assert_eq!(presence(&store, "pilot"), [""; 0], "of whoever may be silent for ever nothing is told");
}

#[test]
fn s23_any_operation_and_a_heartbeat_by_hand_are_signs_of_life() {
    let (clock, store) = timed();
    let radar = store.source_with("radar", by_hand()).unwrap();
    say(&radar, &["ada"]);
    let signs: [&dyn Fn(); 6] = [
        &|| radar.heartbeat().unwrap(),
        &|| say(&radar, &["ada"]),
        &|| drop(radar.patch(VESSEL, "ada", &esker::Patch::new()).unwrap()),
        &|| drop(radar.retract(VESSEL, "nobody").unwrap()),
        &|| drop(radar.update(VESSEL, "ada", |row| row.unwrap()).unwrap()),
        &|| drop(radar.epoch(VESSEL).unwrap()),
    ];
    for sign in signs {
        pass(&clock, &store, DEADLINE - MILLISECOND);
        sign();
    }
    pass(&clock, &store, DEADLINE - MILLISECOND);
    assert_eq!(alive(&store, "ada"), Some((1, vec![0])));
    assert_eq!(presence(&store, "radar"), ["begun"]);
    pass(&clock, &store, MILLISECOND);
    assert_eq!(alive(&store, "ada"), None);
}

#[test]
fn s23_a_session_that_beats_by_itself_lives_as_long_as_it_is_held_and_its_drop_starts_the_countdown() {
    let (clock, store) = timed();
    let radar = store.source_with("radar", mortal()).unwrap();
    let clone = radar.clone();
    say(&radar, &["ada"]);
    pass(&clock, &store, DEADLINE * 100);
    drop(radar);
    pass(&clock, &store, DEADLINE * 100);
    assert_eq!(sources(&store, "ada"), Some(vec![0]), "a clone is the same session");
    drop(clone);
    pass(&clock, &store, DEADLINE - MILLISECOND);
    assert_eq!(sources(&store, "ada"), Some(vec![0]));
    assert_eq!(presence(&store, "radar"), ["begun", "Dropped"]);
    // Back before it: nothing happens.
    let radar = store.source("radar").unwrap();
    pass(&clock, &store, DEADLINE * 2);
    assert_eq!(alive(&store, "ada"), Some((1, vec![0])));
    drop(radar);
    pass(&clock, &store, DEADLINE);
    assert_eq!(alive(&store, "ada"), None);
    assert_eq!(presence(&store, "radar"), ["begun", "Dropped", "begun", "Dropped", "Deadline"]);
    assert!(store.journal().sources()[0].settled);
}

#[test]
fn s23_deadlines_of_an_opening_count_from_its_first_claim_whoever_claims() {
    let disk = Simulator::new();
    let (_, store) = opened(&disk);
    let (radar, pilot) = (store.source_with("radar", mortal()).unwrap(), store.source("pilot").unwrap());
    say(&radar, &["ada"]);
    say(&pilot, &["joan"]);
    store.flush().unwrap();
    drop((radar, pilot));
    store.close().unwrap();
    let (clock, store) = opened(&disk);
    assert_eq!(store.journal().sources()[0].liveness, Liveness::Deadline(DEADLINE), "it is in the log");
    pass(&clock, &store, DEADLINE * 5);
    let pilot = store.source("pilot").unwrap();
    pass(&clock, &store, DEADLINE - MILLISECOND);
    assert_eq!(sources(&store, "ada"), Some(vec![0]));
    pass(&clock, &store, MILLISECOND);
    assert_eq!((sources(&store, "ada"), sources(&store, "joan")), (None, Some(vec![1])));
    drop(pilot);
}

#[test]
fn s23_a_job_that_claims_nothing_ends_nobody() {
    let disk = Simulator::new();
    let (_, store) = opened(&disk);
    say(&store.source_with("radar", mortal()).unwrap(), &["ada"]);
    store.close().unwrap();
    let (clock, store) = opened(&disk);
    for _ in 0..10 {
        pass(&clock, &store, DEADLINE);
        store.journal().compact(&esker::CompactOptions::new()).unwrap();
    }
    assert_eq!(sources(&store, "ada"), Some(vec![0]));
    store.close().unwrap();
    assert_eq!(sources(&opened(&disk).1, "ada"), Some(vec![0]));
}

#[test]
fn s23_who_comes_back_in_time_after_a_reopen_has_lost_nothing() {
    let disk = Simulator::new();
    let (_, store) = opened(&disk);
    let radar = store.source_with("radar", by_hand()).unwrap();
    say(&radar, &["ada"]);
    store.close().unwrap();
    let (clock, store) = opened(&disk);
    let _other = store.source("other").unwrap();
    clock.advance(DEADLINE - MILLISECOND);
    let _radar = store.source("radar").unwrap();
    pass(&clock, &store, DEADLINE * 3);
    assert_eq!(alive(&store, "ada"), Some((1, vec![0])));
    assert_eq!(presence(&store, "radar"), ["begun", "begun"], "the process was away");
}

#[test]
fn s23_a_deadline_noticed_more_than_a_heartbeat_late_gives_a_heartbeat_more() {
    let (clock, store) = timed();
    let radar = store.source_with("radar", by_hand()).unwrap();
    say(&radar, &["ada"]);
    store.flush().unwrap();
    // The machine was suspended, or somebody stood in a debugger.
    pass(&clock, &store, DEADLINE + DEADLINE / 2 + MILLISECOND);
    assert_eq!(sources(&store, "ada"), Some(vec![0]));
    pass(&clock, &store, DEADLINE / 2 - MILLISECOND);
    radar.heartbeat().unwrap();
    pass(&clock, &store, DEADLINE - MILLISECOND);
    assert_eq!(sources(&store, "ada"), Some(vec![0]), "it was only stopped");
    pass(&clock, &store, DEADLINE * 3);
    pass(&clock, &store, DEADLINE / 2);
    assert_eq!(sources(&store, "ada"), None, "it is silent indeed");
}

#[test]
fn s23_a_close_decides_at_once_and_over_reopens() {
    let disk = Simulator::new();
    let (clock, store) = opened(&disk);
    let radar = store.source_with("radar", mortal()).unwrap();
    let pilot = store.source_with("pilot", mortal()).unwrap();
    say(&radar, &["ada", "grace"]);
    say(&pilot, &["grace", "joan"]);
    assert_eq!(radar.close(Closing::Retract).unwrap(), 2, "what is pending is among it");
    assert_eq!(sources(&store, "ada"), None);
    assert_eq!(sources(&store, "grace"), Some(vec![1]));
    assert_eq!(pilot.close(Closing::Preserve).unwrap(), 0);
    drop((radar, pilot));
    let other = store.source("other").unwrap();
    pass(&clock, &store, DEADLINE * 2);
    pass(&clock, &store, DEADLINE * 2);
    assert_eq!(sources(&store, "joan"), Some(vec![1]), "it is preserved");
    assert_eq!(presence(&store, "radar"), ["begun", "Closed"]);
    assert_eq!(presence(&store, "pilot"), ["begun", "Closed"]);
    drop(other);
    store.close().unwrap();
    let (clock, store) = opened(&disk);
    let _other = store.source("other").unwrap();
    pass(&clock, &store, DEADLINE);
    assert_eq!(sources(&store, "joan"), Some(vec![1]), "also in the next opening");
    // Until somebody has the source again: then its deadline runs as ever.
    drop(store.source("pilot").unwrap());
    pass(&clock, &store, DEADLINE);
    assert_eq!(sources(&store, "joan"), None);
}

#[test]
fn s23_an_epoch_of_a_source_that_fell_silent_is_abandoned_and_takes_nothing_back() {
    let (clock, store) = timed();
    let radar = store.source_with("radar", by_hand()).unwrap();
    say(&radar, &["ada", "grace"]);
    let epoch = radar.epoch(VESSEL).unwrap();
    pass(&clock, &store, DEADLINE);
    assert_eq!(alive(&store, "ada"), None);
    say(&radar, &["ada", "grace"]);
    let refused = epoch.commit().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::SourceEnded, "{refused}");
    store.flush().unwrap();
    assert_eq!(alive(&store, "ada"), Some((3, vec![0])), "what it said since stays said");
    // At the moment of its commit, too.
    let epoch = radar.epoch(VESSEL).unwrap();
    say(&radar, &["ada"]);
    clock.advance(DEADLINE);
    assert_eq!(epoch.commit().unwrap_err().kind(), ErrorKind::SourceEnded);
    assert_eq!((alive(&store, "ada"), alive(&store, "grace")), (None, None));
    assert!(radar.epoch(VESSEL).unwrap().commit().is_ok(), "and another one can begin");
}

#[test]
fn s23_more_than_a_batch_takes_goes_batch_by_batch_and_a_crash_in_between_is_rolled_forward() {
    let disk = Simulator::new();
    let (clock, store) = opened(&disk);
    let radar = store.source_with("radar", by_hand()).unwrap();
    let pilot = store.source("pilot").unwrap();
    for n in 0..200 {
        radar.assert(VESSEL, format!("vessel-{n}"), &vessel("v", 1.0)).unwrap();
    }
    say(&pilot, &["vessel-7", "joan"]);
    store.flush().unwrap();
    let (begun, flushes) = (disk.events(), store.state_stats().unwrap().flushes);
    pass(&clock, &store, DEADLINE);
    assert!(store.state_stats().unwrap().flushes > flushes + 1, "they fit no batch");
    assert_eq!(store.scan(VESSEL).unwrap().count(), 2);
    let ended = disk.events();
    let mut cut = 0;
    for events in begun..=ended {
        let crashed = disk.crash(events, &mut |n| events % n);
        let (clock, store) = opened(&crashed);
        let rows = store.scan(VESSEL).unwrap().count();
        cut += u32::from((3..201).contains(&rows));
        assert_eq!(sources(&store, "joan"), Some(vec![1]), "behind {events} operations of the disk");
        let _pilot = store.source("pilot").unwrap();
        pass(&clock, &store, DEADLINE);
        assert_eq!(store.scan(VESSEL).unwrap().count(), 2, "behind {events} operations of the disk");
        assert_eq!(sources(&store, "vessel-7"), Some(vec![1]));
        assert!(store.journal().sources()[0].settled);
    }
    assert!(cut > 0, "no crash fell between two batches");
}

#[test]
fn s23_what_a_source_says_while_it_is_being_ended_stays_said() {
    // With threads, so that the two meet at another place each time.
    let disk = Simulator::new();
    for _ in 0..20 {
        let clock = ManualClock::new();
        let options = Options::new().window(Window::Every(MILLISECOND)).segment_bytes(16384);
        let store = Store::over(options.clock(clock.clone()).open_in(&disk).unwrap());
        let radar = store.source_with("radar", by_hand()).unwrap();
        for n in 0..300 {
            radar.assert(VESSEL, format!("v{n}"), &vessel("v", 1.0)).unwrap();
        }
        store.flush().unwrap();
        let before = presence(&store, "radar").len();
        clock.advance(DEADLINE);
        until("it is being ended", || {
            say(&radar, &["v0", "v299"]);
            presence(&store, "radar").iter().skip(before).any(|event| event == "Deadline")
        });
        say(&radar, &["v0", "v299", "v150"]);
        // What was begun ends.
        until("what was begun has ended", || {
            store.flush().unwrap();
            store.scan(VESSEL).unwrap().count() <= 3
        });
        store.flush().unwrap();
        for key in ["v0", "v150", "v299"] {
            assert_eq!(sources(&store, key), Some(vec![0]), "{key}");
        }
        assert!(!store.journal().sources()[0].settled, "it is there");
        radar.close(Closing::Retract).unwrap();
        store.close().unwrap();
    }
}

#[test]
fn s23_rows_of_kinds_that_this_program_does_not_use_are_taken_back_as_they_stand() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Old {
        speed: u8,
    }
    #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
    struct New {
        knots: u8,
    }
    const OLD: Kind<Old> = Kind::new("buoy");
    const NEW: Kind<New> = Kind::new("buoy").version(2).upcasts(&[(1, |fields| {
        fields.rename("speed", "knots");
        Ok(())
    })]);
    let disk = Simulator::new();
    let (_, store) = opened(&disk);
    let (radar, pilot) = (store.source_with("radar", mortal()).unwrap(), store.source("pilot").unwrap());
    for source in [&radar, &pilot] {
        source.assert(OLD, "both", &Old { speed: 7 }).unwrap();
    }
    radar.assert(OLD, "mine", &Old { speed: 8 }).unwrap();
    store.close().unwrap();
    // The newer program writes a row, so that the kind is registered anew; then falls silent.
    let (clock, store) = opened(&disk);
    let pilot = store.source("pilot").unwrap();
    pilot.assert(NEW, "other", &New { knots: 1 }).unwrap();
    pass(&clock, &store, DEADLINE);
    assert!(store.get(NEW, "mine").unwrap().is_none());
    let row = store.get(NEW, "both").unwrap().unwrap();
    assert_eq!((row.version(), row.sources().bits(), row.row().schema_version()), (1, 0b10, 1));
    assert_eq!(row.value().unwrap(), New { knots: 7 });
    // What was remembered of it is as its kind has it.
    pilot.assert(NEW, "both", &New { knots: 7 }).unwrap();
    store.flush().unwrap();
    let row = store.get(NEW, "both").unwrap().unwrap();
    assert_eq!((row.version(), row.value().unwrap()), (1, New { knots: 7 }));
}

#[test]
fn s23_the_thread_ends_whoever_is_silent_while_nobody_calls() {
    for window in [Window::Manual, Window::Every(MILLISECOND)] {
        let clock = ManualClock::new();
        let store = Store::over(Options::new().window(window).clock(clock.clone()).in_memory().unwrap());
        let radar = store.source_with("radar", by_hand()).unwrap();
        radar.assert(VESSEL, "ada", &vessel("ada", 1.0)).unwrap().wait(Until::Durable).unwrap();
        clock.advance(DEADLINE - MILLISECOND);
        assert_eq!(sources(&store, "ada"), Some(vec![0]));
        clock.advance(MILLISECOND);
        let is_told = |store: &Store, told: &[&str]| presence(store, "radar") == told;
        until("the row is gone", || sources(&store, "ada").is_none());
        drop(radar);
        until("the drop is told", || is_told(&store, &["begun", "Deadline", "Dropped"]));
        // One that needs no look before it is dropped, in a store that nothing else happens in.
        let store = Store::over(Options::new().window(window).clock(clock.clone()).in_memory().unwrap());
        drop(store.source_with("radar", mortal()).unwrap());
        until("the drop is told", || is_told(&store, &["begun", "Dropped"]));
        clock.advance(DEADLINE);
        until("the deadline is told", || is_told(&store, &["begun", "Dropped", "Deadline"]));
        store.close().unwrap();
    }
}

#[test]
fn s23_a_wall_clock_that_jumps_ends_nobody_and_takes_nothing_but_tombstones_from_sight() {
    let (clock, store) = timed();
    let radar = store.source_with("radar", by_hand()).unwrap();
    say(&radar, &["ada", "grace"]);
    store.flush().unwrap();
    radar.retract(VESSEL, "grace").unwrap();
    store.flush().unwrap();
    let deleted = Status::Tombstone { version: 2 };
    let today = clock.now();
    for jump in [i64::MAX, 0, i64::MIN, today] {
        clock.set(jump);
        store.flush().unwrap();
        assert_eq!(alive(&store, "ada"), Some((1, vec![0])), "the wall clock says {jump}");
        let told = store.status(VESSEL, "grace").unwrap();
        assert_eq!(told, if jump == today { deleted } else { Status::NotFound }, "{jump}");
    }
    // The deadline is as long as before, whatever the walls say.
    clock.set(today + 1_000_000_000_000_000);
    pass(&clock, &store, DEADLINE - MILLISECOND);
    assert_eq!(sources(&store, "ada"), Some(vec![0]));
    pass(&clock, &store, MILLISECOND);
    assert_eq!(sources(&store, "ada"), None);
}

#[test]
fn s11_a_tombstone_is_told_for_its_retention_and_nothing_else_changes_with_it() {
    let (clock, store) = timed();
    let radar = store.source("radar").unwrap();
    say(&radar, &["ada", "grace"]);
    store.flush().unwrap();
    radar.retract(VESSEL, "ada").unwrap();
    store.flush().unwrap();
    let mut changes = follow(&store);
    let retention = Duration::from_secs(300);
    pass(&clock, &store, retention);
    assert_eq!(store.status(VESSEL, "ada").unwrap(), Status::Tombstone { version: 2 });
    let view = store.view();
    pass(&clock, &store, MILLISECOND);
    assert_eq!(store.status(VESSEL, "ada").unwrap(), Status::NotFound);
    assert_eq!(view.status(VESSEL, "ada").unwrap(), Status::NotFound, "of a view, too: it is about now");
    assert_eq!(told(&mut changes), [""; 0], "nobody is told of it");
    assert_eq!((knots(&store, "ada"), knots(&store, "grace")), (None, Some(1.0)));
    assert_eq!(store.versions(VESSEL, "ada").unwrap().len(), 2, "its history is there");
    say(&radar, &["ada"]);
    store.flush().unwrap();
    assert_eq!(alive(&store, "ada"), Some((3, vec![0])), "its versions go on");
    assert_eq!(store.status(VESSEL, "nobody").unwrap(), Status::NotFound);
}

#[test]
fn s11_a_deletion_by_a_clock_that_was_ahead_is_told_no_longer_than_twice_its_retention() {
    let (clock, store) = timed();
    let radar = store.source("radar").unwrap();
    let today = clock.now();
    for (ahead, is_told) in [(0, true), (300, true), (301, false), (31_536_000, false)] {
        clock.set(today + ahead * 1_000_000_000);
        say(&radar, &["ada"]);
        store.flush().unwrap();
        radar.retract(VESSEL, "ada").unwrap();
        store.flush().unwrap();
        clock.set(today);
        let told = store.status(VESSEL, "ada").unwrap();
        assert_eq!(matches!(told, Status::Tombstone { .. }), is_told, "{ahead} seconds ahead: {told:?}");
    }
}

#[test]
fn s11_compaction_keeps_a_tombstone_by_the_same_clock() {
    let disk = Simulator::new();
    let (clock, store) = opened(&disk);
    let radar = store.source("radar").unwrap();
    say(&radar, &["ada"]);
    store.flush().unwrap();
    radar.retract(VESSEL, "ada").unwrap();
    store.flush().unwrap();
    let filler = |store: &Store| {
        for n in 0..300 {
            radar.assert(VESSEL, "grace", &Vessel { heading: n, ..vessel("grace", 1.0) }).unwrap();
            store.flush().unwrap();
        }
    };
    filler(&store);
    let compact = |store: &Store| {
        let options =
            esker::CompactOptions::new().thorough(true).keep_tombstones_for(Duration::from_secs(300));
        store.journal().compact(&options).unwrap();
        store.versions(VESSEL, "ada")
    };
    let deletions =
        |versions: esker::Result<Vec<esker::Version<Vessel>>>| versions.map_or(1, |all| all.len());
    clock.advance(Duration::from_secs(299));
    assert!(deletions(compact(&store)) > 0, "the tombstone is there");
    clock.advance(Duration::from_secs(2));
    filler(&store);
    assert_eq!(deletions(compact(&store)), 0);
    assert_eq!(store.status(VESSEL, "ada").unwrap(), Status::NotFound);
}

#[test]
fn a_session_that_was_closed_is_used_no_more_and_the_source_can_be_claimed_again() {
    let store = store();
    let radar = store.source("radar").unwrap();
    let clone = radar.clone();
    say(&radar, &["ada"]);
    let epoch = radar.epoch(VESSEL).unwrap();
    radar.close(Closing::Preserve).unwrap();
    let ada = vessel("ada", 2.0);
    let refused = clone.assert(VESSEL, "ada", &ada).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::SourceEnded);
    assert!(refused.to_string().contains("closed"), "{refused}");
    let patch = esker::Patch::new();
    for refused in [
        clone.patch(VESSEL, "ada", &patch).err(),
        clone.retract(VESSEL, "ada").err(),
        clone.update(VESSEL, "ada", |row| row.unwrap()).err(),
        clone.heartbeat().err(),
        clone.epoch(VESSEL).err(),
        clone.close(Closing::Retract).err(),
        epoch.commit().err(),
    ] {
        assert_eq!(refused.unwrap().kind(), ErrorKind::SourceEnded);
    }
    let again = store.source("radar").unwrap();
    drop((radar, clone));
    assert_eq!(
        store.source("radar").unwrap_err().kind(),
        ErrorKind::SourceClaimed,
        "that is another session"
    );
    again.assert(VESSEL, "ada", &ada).unwrap();
    store.flush().unwrap();
    assert_eq!(alive(&store, "ada"), Some((2, vec![0])));
}

#[test]
fn a_close_that_fails_leaves_the_session_as_it_was() {
    let disk = Simulator::new();
    let (_, store) = opened(&disk);
    let radar = store.source("radar").unwrap();
    disk.limit_space(Some(0));
    let mut n = 0;
    while store.flush().is_ok() {
        radar.assert(VESSEL, format!("v{n}"), &vessel("v", 1.0)).unwrap();
        n += 1;
    }
    assert_eq!(radar.close(Closing::Retract).unwrap_err().kind(), ErrorKind::NoSpace);
    disk.limit_space(None);
    say(&radar, &["ada"]);
    store.flush().unwrap();
    assert!(alive(&store, "ada").is_some());
    radar.close(Closing::Retract).unwrap();
    assert!(store.scan(VESSEL).unwrap().next().is_none());
}

#[test]
fn a_deadline_on_a_full_disk_is_told_and_comes_again_a_heartbeat_later() {
    let disk = Simulator::new();
    let (clock, store) = opened(&disk);
    let (radar, pilot) = (store.source_with("radar", by_hand()).unwrap(), store.source("pilot").unwrap());
    say(&radar, &["ada"]);
    disk.limit_space(Some(0));
    let mut n = 0.0;
    while store.flush().is_ok() {
        n += 1.0;
        pilot.assert(VESSEL, "joan", &vessel("joan", n)).unwrap();
    }
    clock.advance(DEADLINE);
    assert_eq!(store.flush().unwrap_err().kind(), ErrorKind::NoSpace);
    disk.limit_space(None);
    pass(&clock, &store, DEADLINE / 2 - MILLISECOND);
    assert_eq!(sources(&store, "ada"), Some(vec![0]));
    pass(&clock, &store, MILLISECOND);
    assert_eq!(sources(&store, "ada"), None);
    assert_eq!(sources(&store, "joan"), Some(vec![1]));
    assert_eq!(presence(&store, "radar"), ["begun", "Deadline", "Deadline"], "each beginning is told");
}

#[test]
fn a_source_that_asserts_anything_is_not_retired_unless_that_is_taken_back() {
    let disk = Simulator::new();
    let (_, store) = opened(&disk);
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    say(&radar, &["ada"]);
    say(&pilot, &["ada"]);
    assert_eq!(store.retire_source("radar", Closing::Retract).unwrap_err().kind(), ErrorKind::SourceClaimed);
    drop(radar);
    let refused = store.retire_source("radar", Closing::Preserve).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.to_string().contains("vessel/ada"), "{refused}");
    assert_eq!(store.source("radar").unwrap().id(), 0, "it can be claimed as before");
    assert_eq!(store.retire_source("radar", Closing::Retract).unwrap(), 1);
    assert_eq!(alive(&store, "ada"), Some((1, vec![1])));
    assert_eq!(store.retire_source("radar", Closing::Retract).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(store.source("sonar").unwrap().id(), 0, "the number is free");
    assert_eq!(store.retire_source("sonar", Closing::Preserve).unwrap(), 0);
    drop(pilot);
    store.close().unwrap();
    let (_, store) = opened(&disk);
    let names: Vec<String> = store.journal().sources().into_iter().map(|source| source.name).collect();
    assert_eq!(names, ["pilot"]);
}

#[test]
fn a_source_by_any_name_has_a_number_and_a_name_that_none_has() {
    let store = store();
    let named = store.source("worker-0").unwrap();
    let first = store.source_auto("worker", SourceOptions::new()).unwrap();
    let second = store.source_auto("worker", SourceOptions::new()).unwrap();
    let seen = [&named, &first, &second].map(|source| (source.id(), source.name().to_owned()));
    assert_eq!(seen, [(0, "worker-0".into()), (1, "worker-1".into()), (2, "worker-2".into())]);
    say(&first, &["ada"]);
    drop(first);
    let third = store.source_auto("worker", SourceOptions::new()).unwrap();
    assert_eq!(third.id(), 3, "the first one asserts something still");
    second.close(Closing::Retract).unwrap();
    assert_eq!(store.source_auto("worker", SourceOptions::new()).unwrap().id(), 2, "that was given back");
    let long = "x".repeat(253);
    assert_eq!(store.source_auto(&long, SourceOptions::new()).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(store.source_auto("", SourceOptions::new()).unwrap().name(), "-0");
}

#[test]
fn where_all_numbers_are_taken_the_error_says_who_asserts_anything() {
    let store = store();
    let all: Vec<Source> = (0..SOURCES_MAX).map(|n| store.source(&format!("s{n}")).unwrap()).collect();
    say(&all[63], &["ada"]);
    for refused in
        [store.source("more").unwrap_err(), store.source_auto("m", SourceOptions::new()).unwrap_err()]
    {
        assert_eq!(refused.kind(), ErrorKind::LimitReached);
        let text = refused.to_string();
        assert!(
            text.contains("s62 (asserts nothing), s63 (asserts 1 rows, the last of them written 0 s ago)"),
            "{text}"
        );
    }
}

#[test]
fn deadlines_have_limits_and_a_later_claim_may_change_them() {
    let disk = Simulator::new();
    let (clock, store) = opened(&disk);
    let with = |deadline| SourceOptions::new().liveness(Liveness::Deadline(deadline));
    for deadline in [Duration::ZERO, MILLISECOND, DEADLINE + Duration::from_nanos(1), Duration::MAX] {
        let refused = store.source_with("radar", with(deadline)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{deadline:?}");
    }
    assert!(store.journal().sources().is_empty(), "what is refused leaves no trace");
    let liveness = |store: &Store| store.journal().sources()[0].liveness;
    say(&store.source("radar").unwrap(), &["ada"]);
    pass(&clock, &store, DEADLINE * 9);
    assert_eq!(liveness(&store), Liveness::Forever);
    drop(store.source_with("radar", mortal()).unwrap());
    drop(store.source("radar").unwrap());
    assert_eq!(liveness(&store), Liveness::Deadline(DEADLINE), "who says nothing changes nothing");
    drop(store.source_with("radar", SourceOptions::new().liveness(Liveness::Forever)).unwrap());
    store.close().unwrap();
    let (clock, store) = opened(&disk);
    assert_eq!(liveness(&store), Liveness::Forever);
    let _pilot = store.source("pilot").unwrap();
    pass(&clock, &store, DEADLINE);
    assert_eq!(sources(&store, "ada"), Some(vec![0]));
}

#[test]
fn presence_is_written_by_the_store_alone() {
    const MINE: Facts<String> = Facts::new("esker.mine");
    let (_, store) = timed();
    let event = SessionEvent::Ended { source: 0, because: SessionEnd::Dropped };
    let region = store.region(SESSIONS).unwrap();
    assert_eq!(store.append(SESSIONS, "radar", &event).unwrap_err().kind(), ErrorKind::OwnedByState);
    let id = store.journal().kind_named("esker.sessions").unwrap().id;
    let refused = store.journal().append(Record::new(id, b"radar", b"x")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::OwnedByState);
    assert!(refused.to_string().contains("the store itself"), "{refused}");
    assert_eq!(store.append(MINE, "a", &String::new()).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(store.journal().kind("esker.sessions").unwrap_err().kind(), ErrorKind::InvalidInput);
    let radar = store.source_with("radar", mortal()).unwrap();
    let facts = store.journal().region(&region).unwrap();
    assert_eq!(facts.len(), 1, "whoever follows the kind is told");
    let view = store.view();
    let fact = view.latest(SESSIONS, "radar").unwrap().unwrap();
    assert_eq!(fact.value().unwrap(), SessionEvent::Begun { source: radar.id() });
    assert_eq!(presence(&store, "radar"), ["begun"]);
}

#[test]
fn the_last_handle_that_is_dropped_is_told_to_presence() {
    let disk = Simulator::new();
    let (_, store) = opened(&disk);
    let radar = store.source_with("radar", mortal()).unwrap();
    drop(store);
    drop(radar);
    assert_eq!(presence(&opened(&disk).1, "radar"), ["begun", "Dropped"]);
}
