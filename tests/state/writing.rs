//! Operations, windows, versions and sources.

use esker::{CompactOptions, ErrorKind, Made, Patch, Simulator, Status, Until, Version};

use super::harbour::{VESSEL, Vessel, alive, follow, knots, let_the_clock_tick, open, store, told, vessel};

#[test]
fn s01_create() {
    let store = store();
    let mut changes = follow(&store);
    let radar = store.source("radar").unwrap();
    let ticket = radar.assert(VESSEL, "ada", &vessel("Ada", 11.0)).unwrap();
    assert!(!ticket.is_flushed() && told(&mut changes).is_empty(), "accepted is not visible");
    let committed = ticket.wait(Until::Durable).unwrap();
    assert_eq!((committed.change, committed.version), (Made::Created, 1));
    let item = changes.try_next().unwrap().unwrap();
    let esker::StateItem::Change(change) = item else { panic!("{item:?}") };
    assert_eq!((change.kind(), change.version()), (esker::ChangeKind::Created, 1));
    assert!(change.changed_mask() == u64::MAX && change.previous().is_none());
    assert_eq!(Some(change.seq()), committed.seq);
    assert_eq!(change.value().unwrap().unwrap(), vessel("Ada", 11.0));
    assert!(told(&mut changes).is_empty());
}

#[test]
fn s01_what_is_made_made_again_or_deleted_has_no_previous_row_for_who_asks_either() {
    let store = store();
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "old", &vessel("Old", 1.0)).unwrap();
    store.flush().unwrap();
    let asking = |behind| store.subscription(VESSEL).behind(behind).previous(true).start().unwrap();
    let mut live = asking(esker::Behind::End);
    // One that is told what changes come to.
    let mut net = asking(esker::Behind::Conflate);
    let mut anew = Vec::new();
    let mut kinds = |changes: &mut esker::Subscription<Vessel>| {
        let mut kinds = Vec::new();
        while let Some(item) = changes.try_next().unwrap() {
            if let esker::StateItem::Change(change) = item {
                let previous = change.previous().map(|row| row.value().unwrap().knots);
                kinds.push((change.kind(), change.version(), previous));
                anew.extend(change.recreated().then(|| change.key().to_vec()));
            }
        }
        kinds
    };
    use esker::ChangeKind::{Bootstrap, Created, Deleted, Updated};
    for changes in [&mut live, &mut net] {
        assert_eq!(kinds(changes), [(Bootstrap, 1, None)]);
    }
    for knots in [Some(1.0), Some(2.0), None, Some(3.0)] {
        match knots {
            Some(knots) => radar.assert(VESSEL, "ada", &vessel("Ada", knots)).unwrap(),
            None => radar.retract(VESSEL, "ada").unwrap(),
        };
        store.flush().unwrap();
    }
    radar.retract(VESSEL, "old").unwrap();
    store.flush().unwrap();
    let each = [(Created, 1, None), (Updated, 2, Some(1.0)), (Deleted, 3, None), (Created, 4, None)];
    assert_eq!(kinds(&mut live), [&each[..], &[(Deleted, 2, None)]].concat());
    assert_eq!(kinds(&mut net), [(Created, 4, None), (Deleted, 2, None)]);
    radar.retract(VESSEL, "ada").unwrap();
    store.flush().unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 4.0)).unwrap();
    radar.assert(VESSEL, "old", &vessel("Old", 5.0)).unwrap();
    store.flush().unwrap();
    assert_eq!(kinds(&mut live), [(Deleted, 5, None), (Created, 6, None), (Created, 3, None)]);
    // It was there before, and is.
    assert_eq!(kinds(&mut net), [(Updated, 6, Some(3.0)), (Created, 3, None)]);
    radar.assert(VESSEL, "ada", &vessel("Ada", 6.0)).unwrap();
    store.flush().unwrap();
    assert_eq!(kinds(&mut net), [(Updated, 7, Some(4.0))]);
    assert_eq!(anew, [b"ada"], "once, of who is told what changes come to");
}

#[test]
fn s02_dedup_any_number_of_times() {
    let store = store();
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 11.0)).unwrap();
    store.flush().unwrap();
    let mut changes = follow(&store);
    let end = store.journal().view().end();
    for _ in 0..10 {
        let again = radar.assert(VESSEL, "ada", &vessel("Ada", 11.0)).unwrap();
        let committed = again.wait(Until::Visible).unwrap();
        assert_eq!((committed.change, committed.version, committed.seq), (Made::Nothing, 1, None));
    }
    assert_eq!(store.journal().view().end(), end, "not one frame");
    assert!(told(&mut changes).is_empty());
}

#[test]
fn s03_dedup_sets_the_bit_and_the_set_survives_reopen_and_compaction() {
    let disk = Simulator::new();
    let store = open(&disk);
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    radar.assert(VESSEL, "ada", &vessel("Ada", 11.0)).unwrap();
    store.flush().unwrap();
    let mut changes = follow(&store);
    let committed = pilot.assert(VESSEL, "ada", &vessel("Ada", 11.0)).unwrap().wait(Until::Durable).unwrap();
    assert_eq!((committed.change, committed.version), (Made::SourcesOnly, 1), "no version");
    assert!(told(&mut changes).is_empty(), "and no notification");
    drop((radar, pilot, changes));
    store.close().unwrap();

    let store = open(&disk);
    assert_eq!(alive(&store, "ada"), Some((1, vec![0, 1])));
    // Fill the log, so that there is something to compact.
    let filler = store.source("filler").unwrap();
    for n in 0..200u16 {
        filler.assert(VESSEL, "busy", &Vessel { heading: n, ..vessel("Busy", 1.0) }).unwrap();
        store.flush().unwrap();
    }
    let compaction = store.journal().compact(&CompactOptions::new()).unwrap();
    assert!(compaction.entries_dropped > 50, "{compaction:?}");
    assert_eq!(alive(&store, "ada"), Some((1, vec![0, 1])));
    let radar = store.source("radar").unwrap();
    radar.retract(VESSEL, "ada").unwrap();
    store.flush().unwrap();
    assert_eq!(alive(&store, "ada"), Some((1, vec![1])), "the pilot says that it is there");
    radar.assert(VESSEL, "ada", &vessel("Ada", 12.0)).unwrap();
    store.flush().unwrap();
    assert_eq!(alive(&store, "ada"), Some((2, vec![0, 1])), "sets of sources use no version");
    store.close().unwrap();
    let store = open(&disk);
    assert_eq!(alive(&store, "ada"), Some((2, vec![0, 1])));
    let names: Vec<String> = store.journal().sources().into_iter().map(|source| source.name).collect();
    assert_eq!(names, ["radar", "pilot", "filler"], "what said so first was compacted");
}

#[test]
fn s04_diff_names_exactly_the_fields_and_gives_the_previous_row_only_if_asked() {
    let store = store();
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 11.0)).unwrap();
    store.flush().unwrap();
    let mut plain = follow(&store);
    let mut asking = store.subscription(VESSEL).bootstrap(false).previous(true).start().unwrap();
    radar.assert(VESSEL, "ada", &Vessel { flag: Some("de".into()), ..vessel("Ada", 12.0) }).unwrap();
    store.flush().unwrap();
    let Some(esker::StateItem::Change(change)) = asking.try_next().unwrap() else { panic!("a change") };
    assert_eq!(change.changed_fields().collect::<Vec<_>>(), ["knots", "flag"]);
    assert!(change.has("knots") && !change.has("name") && !change.has("nothing of the kind"));
    assert_eq!(change.changed_mask(), 0b10010);
    assert_eq!(change.previous().unwrap().value().unwrap(), vessel("Ada", 11.0));
    let Some(esker::StateItem::Change(change)) = plain.try_next().unwrap() else { panic!("a change") };
    assert!(change.previous().is_none() && change.changed_mask() == 0b10010);
}

#[test]
fn s05_coalescing() {
    let store = store();
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 0.0)).unwrap();
    store.flush().unwrap();
    let mut changes = follow(&store);
    let mut tickets = Vec::new();
    for n in 1..=100u8 {
        tickets.push(radar.assert(VESSEL, "ada", &vessel("Ada", f32::from(n))).unwrap());
    }
    store.flush().unwrap();
    assert_eq!(told(&mut changes), [r#"ada v2 updated ["knots"]"#]);
    assert_eq!(knots(&store, "ada"), Some(100.0));
    let all: Vec<_> = tickets.iter().map(|ticket| ticket.wait(Until::Durable).unwrap()).collect();
    assert!(all.iter().all(|one| *one == all[0] && one.version == 2), "each is told what the window came to");
}

#[test]
fn s06_net_no_op() {
    let store = store();
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 11.0)).unwrap();
    store.flush().unwrap();
    let mut changes = follow(&store);
    let end = store.journal().view().end();
    radar.assert(VESSEL, "ada", &vessel("Ada", 12.0)).unwrap();
    let back = radar.assert(VESSEL, "ada", &vessel("Ada", 11.0)).unwrap();
    assert_eq!(back.wait(Until::Durable).unwrap().change, Made::Nothing);
    radar.retract(VESSEL, "ada").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 11.0)).unwrap();
    radar.assert(VESSEL, "ghost", &vessel("Ghost", 1.0)).unwrap();
    let gone = radar.retract(VESSEL, "ghost").unwrap();
    let gone = gone.wait(Until::Durable).unwrap();
    assert_eq!((gone.change, gone.version), (Made::Nothing, 0), "it was never visible, and uses no version");
    assert!(told(&mut changes).is_empty());
    assert_eq!(store.journal().view().end(), end);
    assert_eq!(store.status(VESSEL, "ghost").unwrap(), Status::NotFound);
}

#[test]
fn s07_patch_isolation_between_sources() {
    let store = store();
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    radar.assert(VESSEL, "ada", &vessel("Ada", 11.0)).unwrap();
    store.flush().unwrap();
    // In one window, in either order: neither undoes what the other says.
    radar.patch(VESSEL, "ada", &Patch::new().set("knots", &12.5f32).unwrap()).unwrap();
    pilot.patch(VESSEL, "ada", &Patch::new().set("flag", &Some("de")).unwrap()).unwrap();
    radar.patch(VESSEL, "ada", &Patch::new().set("heading", &270u16).unwrap()).unwrap();
    store.flush().unwrap();
    let row = store.get(VESSEL, "ada").unwrap().unwrap();
    let expected = Vessel { knots: 12.5, heading: 270, flag: Some("de".into()), ..vessel("Ada", 0.0) };
    assert_eq!(row.value().unwrap(), expected);
    assert_eq!(alive(&store, "ada"), Some((2, vec![0, 1])), "a patch asserts");
    pilot.patch(VESSEL, "ada", &Patch::new().set("flag", &None::<String>).unwrap()).unwrap();
    store.flush().unwrap();
    let expected = Vessel { flag: None, ..expected };
    assert_eq!(store.get(VESSEL, "ada").unwrap().unwrap().value().unwrap(), expected);
}

#[test]
fn s08_patch_on_what_is_missing() {
    let store = store();
    let radar = store.source("radar").unwrap();
    let named = Patch::new().set("name", "Ada").unwrap();
    let refused = radar.patch_existing(VESSEL, "ada", &named).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    let unnamed = Patch::new().set("knots", &1.0f32).unwrap();
    let refused = radar.patch(VESSEL, "ada", &unnamed).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TypeMismatch);
    assert!(refused.to_string().contains("name"), "it names the field without a default: {refused}");
    store.flush().unwrap();
    assert_eq!(store.status(VESSEL, "ada").unwrap(), Status::NotFound, "nothing was said");
    radar.patch(VESSEL, "ada", &named).unwrap();
    store.flush().unwrap();
    assert_eq!(store.get(VESSEL, "ada").unwrap().unwrap().value().unwrap(), vessel("Ada", 0.0));
    radar.retract(VESSEL, "ada").unwrap();
    store.flush().unwrap();
    assert_eq!(
        radar.patch(VESSEL, "ada", &unnamed).unwrap_err().kind(),
        ErrorKind::TypeMismatch,
        "on a tombstone too"
    );
    radar.patch(VESSEL, "ada", &named).unwrap();
    store.flush().unwrap();
    assert_eq!(alive(&store, "ada"), Some((3, vec![0])));
}

#[test]
fn s09_two_sources_create_in_one_window() {
    let store = store();
    let mut changes = follow(&store);
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    radar.assert(VESSEL, "ada", &vessel("Ada", 11.0)).unwrap();
    pilot.assert(VESSEL, "ada", &vessel("Ada", 12.0)).unwrap();
    store.flush().unwrap();
    assert_eq!(told(&mut changes), ["ada v1 created"]);
    assert_eq!(alive(&store, "ada"), Some((1, vec![0, 1])));
    assert_eq!(knots(&store, "ada"), Some(12.0), "the later one");
}

#[test]
fn s10_partial_retract_then_last() {
    let store = store();
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    radar.assert(VESSEL, "ada", &vessel("Ada", 11.0)).unwrap();
    pilot.patch(VESSEL, "ada", &Patch::new()).unwrap();
    store.flush().unwrap();
    let mut changes = follow(&store);
    let committed = radar.retract(VESSEL, "ada").unwrap().wait(Until::Durable).unwrap();
    assert_eq!(committed.change, Made::SourcesOnly);
    let again = radar.retract(VESSEL, "ada").unwrap().wait(Until::Durable).unwrap();
    assert_eq!(again.change, Made::Nothing);
    assert!(told(&mut changes).is_empty() && alive(&store, "ada") == Some((1, vec![1])));
    let committed = pilot.retract(VESSEL, "ada").unwrap().wait(Until::Durable).unwrap();
    assert_eq!((committed.change, committed.version), (Made::Deleted, 2));
    assert_eq!(told(&mut changes), ["ada v2 deleted"]);
    assert!(store.get(VESSEL, "ada").unwrap().is_none());
    let never = pilot.retract(VESSEL, "never there").unwrap().wait(Until::Durable).unwrap();
    assert_eq!((never.change, never.version, never.seq), (Made::Nothing, 0, None));
}

#[test]
fn s11_a_tombstone_is_visible() {
    let store = store();
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 11.0)).unwrap();
    store.flush().unwrap();
    radar.retract(VESSEL, "ada").unwrap();
    store.flush().unwrap();
    assert_eq!(store.status(VESSEL, "ada").unwrap(), Status::Tombstone { version: 2 });
    assert!(store.get(VESSEL, "ada").unwrap().is_none() && store.scan(VESSEL).unwrap().next().is_none());
}

#[test]
fn s11_a_tombstone_is_visible_for_as_long_as_the_options_say() {
    let (clock, retention) = (esker::ManualClock::new(), std::time::Duration::from_secs(3600));
    let options = super::harbour::options().clock(clock.clone()).tombstone_retention(retention);
    let store = esker::Store::over(options.in_memory().unwrap());
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 11.0)).unwrap();
    store.flush().unwrap();
    radar.retract(VESSEL, "ada").unwrap();
    store.flush().unwrap();
    clock.advance(retention);
    assert_eq!(store.status(VESSEL, "ada").unwrap(), Status::Tombstone { version: 2 });
    clock.advance(std::time::Duration::from_nanos(1));
    assert_eq!(store.status(VESSEL, "ada").unwrap(), Status::NotFound);
}

#[test]
fn s12_re_creation_has_a_higher_version_before_and_after_compaction_and_forgetting() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    let mut changes = follow(&store);
    let mut last = 0;
    for round in 0..4u8 {
        radar.assert(VESSEL, "ada", &vessel("Ada", 11.0)).unwrap();
        store.flush().unwrap();
        let (version, _) = alive(&store, "ada").unwrap();
        assert!(version > last, "round {round}: {version} behind {last}");
        assert_eq!(told(&mut changes), [format!("ada v{version} created")], "the sign of a new entity");
        let gone = radar.retract(VESSEL, "ada").unwrap().wait(Until::Durable).unwrap();
        assert_eq!((gone.change, gone.version), (Made::Deleted, version + 1));
        assert_eq!(told(&mut changes), [format!("ada v{} deleted", version + 1)]);
        last = version + 1;
        if round >= 1 {
            for n in 0..150u16 {
                radar
                    .assert(VESSEL, "busy", &Vessel { heading: n, ..vessel("Busy", f32::from(round)) })
                    .unwrap();
                store.flush().unwrap();
            }
            // The tombstone has had its time.
            let options = CompactOptions::new().thorough(true).keep_tombstones_for(std::time::Duration::ZERO);
            while changes.try_next().unwrap().is_some() {}
            let_the_clock_tick();
            // First what it hides, then the tombstone itself.
            store.journal().compact(&options).unwrap();
            store.journal().compact(&options).unwrap();
            assert_eq!(store.status(VESSEL, "ada").unwrap(), Status::NotFound, "forgotten");
        }
    }
    assert!(last > 8, "a forgotten entity begins at its Seq: {last}");
}

#[test]
fn s13_a_deletion_s_version_beats_a_bootstrap_s_row() {
    let store = store();
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 11.0)).unwrap();
    store.flush().unwrap();
    let mut late = store.subscribe(VESSEL).unwrap();
    assert!(late.advance().unwrap() && late.advance().unwrap());
    let esker::StateItem::Change(row) = late.item() else { panic!("a row") };
    let version = row.version();
    radar.retract(VESSEL, "ada").unwrap();
    store.flush().unwrap();
    let rest = told(&mut late);
    assert_eq!(rest, ["complete false".to_owned(), format!("ada v{} deleted", version + 1)]);
}

#[test]
fn s15_get_in_the_window_and_read_your_own_write() {
    let store = store();
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 11.0)).unwrap();
    assert_eq!(knots(&store, "ada"), None, "pending is not visible");
    let ticket = radar.assert(VESSEL, "ada", &vessel("Ada", 12.0)).unwrap();
    let read = |ticket: &esker::StateTicket, key: &str| {
        store.read_after(ticket, VESSEL, key).unwrap().map(|row| row.value().unwrap().knots)
    };
    assert_eq!(read(&ticket, "ada"), Some(12.0));
    assert_eq!(knots(&store, "ada"), Some(12.0), "and so for everybody");
    let gone = radar.retract(VESSEL, "ada").unwrap();
    assert_eq!(read(&gone, "ada"), None);
    let other = super::harbour::store();
    let refused = other.read_after(&gone, VESSEL, "ada").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput, "a ticket of another store");
    assert_eq!(read(&ticket, "ada"), None, "what is behind it is seen too");
    let counted =
        |row: Option<Vessel>| Vessel { heading: row.map_or(0, |row| row.heading) + 1, ..vessel("C", 0.0) };
    for _ in 0..5 {
        radar.update(VESSEL, "count", counted).unwrap();
    }
    store.flush().unwrap();
    radar.update(VESSEL, "count", counted).unwrap();
    store.flush().unwrap();
    assert_eq!(
        store.get(VESSEL, "count").unwrap().unwrap().value().unwrap().heading,
        6,
        "an update sees what is pending"
    );
}

#[test]
fn s16_metadata_is_that_of_the_last_operation_with_any() {
    let store = store();
    let radar = store.source("radar").unwrap();
    let mut changes = follow(&store);
    radar.assert_with(VESSEL, "ada", &vessel("Ada", 1.0), b"first").unwrap();
    radar.assert_with(VESSEL, "ada", &vessel("Ada", 2.0), b"second").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 3.0)).unwrap();
    store.flush().unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 4.0)).unwrap();
    store.flush().unwrap();
    assert_eq!(metadata(changes.try_next().unwrap()), b"second");
    assert_eq!(metadata(changes.try_next().unwrap()), b"", "that of another window");
    radar.assert_with(VESSEL, "ada", &vessel("Ada", 5.0), b"third").unwrap();
    store.flush().unwrap();
    assert_eq!(store.get(VESSEL, "ada").unwrap().unwrap().metadata(), b"third", "and durable");
    // With any operation, and with those of a batch.
    let knots = |knots: f32| Patch::new().set("knots", &knots).unwrap();
    radar.patch_with(VESSEL, "ada", &knots(6.0), b"fourth").unwrap();
    store.flush().unwrap();
    radar.retract_with(VESSEL, "ada", b"she sank").unwrap();
    store.flush().unwrap();
    let mut batch = store.batch();
    batch.assert(&radar, VESSEL, "ada", &vessel("Ada", 7.0)).unwrap().said_with(b"raised").unwrap();
    batch.assert(&radar, VESSEL, "bob", &vessel("Bob", 8.0)).unwrap();
    assert_eq!(batch.said_with(&[0; 1 << 16]).map(drop).unwrap_err().kind(), ErrorKind::InvalidInput);
    batch.commit().unwrap();
    assert_eq!(store.batch().said_with(b"what?").map(drop).unwrap_err().kind(), ErrorKind::InvalidInput);
    for told in [&b"third"[..], b"fourth", b"she sank", b"raised", b""] {
        assert_eq!(metadata(changes.try_next().unwrap()), told);
    }
}

fn metadata(item: Option<esker::StateItem<'_, Vessel>>) -> Vec<u8> {
    match item {
        Some(esker::StateItem::Change(change)) => change.metadata().to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn s17_metadata_is_absent_from_a_bootstrap_unless_it_is_asked_for() {
    let store = store();
    let radar = store.source("radar").unwrap();
    let mut knots = 5.0;
    radar.assert_with(VESSEL, "ada", &vessel("Ada", knots), b"third").unwrap();
    store.flush().unwrap();
    for asked in [None, Some(false), Some(true)] {
        let follow = store.subscription(VESSEL);
        let follow = asked.map_or(follow.clone(), |asked| follow.metadata(asked));
        let mut late = follow.start().unwrap();
        assert!(late.advance().unwrap());
        let expected: &[u8] = if asked == Some(true) { b"third" } else { b"" };
        assert_eq!(metadata(late.try_next().unwrap()), expected, "{asked:?}");
        assert!(late.advance().unwrap(), "complete");
        // What is told behind it has them for whoever listens.
        knots += 1.0;
        radar.assert_with(VESSEL, "ada", &vessel("Ada", knots), b"third").unwrap();
        store.flush().unwrap();
        assert_eq!(metadata(late.try_next().unwrap()), b"third");
    }
}

#[test]
fn an_assertion_may_expect_a_version() {
    let store = store();
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    radar.assert_if(VESSEL, "ada", 0, &vessel("Ada", 1.0)).unwrap();
    store.flush().unwrap();
    let late = radar.assert_if(VESSEL, "ada", 0, &vessel("Ada", 2.0)).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict);
    assert_eq!((late.expected(), late.actual()), (Some("version 0"), Some("version 1")));
    radar.assert_if(VESSEL, "ada", 1, &vessel("Ada", 2.0)).unwrap();
    radar.assert_if(VESSEL, "ada", 1, &vessel("Ada", 3.0)).unwrap();
    let other = pilot.assert_if(VESSEL, "ada", 1, &vessel("Ada", 9.0)).unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Conflict, "another session's write is pending");
    store.flush().unwrap();
    assert_eq!(knots(&store, "ada"), Some(3.0));
}

#[test]
fn the_versions_of_an_entity_are_its_rows_and_deletions() {
    let store = store();
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    for knots in [1.0, 2.0] {
        radar.assert(VESSEL, "ada", &vessel("Ada", knots)).unwrap();
        store.flush().unwrap();
    }
    pilot.assert(VESSEL, "ada", &vessel("Ada", 2.0)).unwrap();
    store.flush().unwrap();
    radar.retract(VESSEL, "ada").unwrap();
    pilot.retract(VESSEL, "ada").unwrap();
    store.flush().unwrap();
    let versions = store.versions(VESSEL, "ada").unwrap();
    let lines: Vec<String> = versions
        .iter()
        .map(|version| match version {
            Version::Row(row) => format!("{} {}", row.version(), row.value().unwrap().knots),
            Version::Deleted { version, .. } => format!("{version} deleted"),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lines, ["1 1", "2 2", "3 deleted"]);
}

#[test]
fn a_window_is_one_batch_and_one_that_would_be_too_large_makes_two() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    let long = "x".repeat(700);
    for n in 0..12u16 {
        radar.assert(VESSEL, format!("v{n}"), &Vessel { heading: n, ..vessel(&long, 1.0) }).unwrap();
    }
    store.flush().unwrap();
    let batches =
        store.journal().view().range(..).fold((0, 0), |(batches, rows), entry| {
            (batches + u64::from(!entry.unwrap().has_more()), rows + 1)
        });
    assert_eq!(batches, (6, 12), "a batch takes 4 KiB, and a window with a quarter of that does not wait");
    radar.assert(VESSEL, "first", &vessel("first", 1.0)).unwrap();
    let second = radar.assert(VESSEL, "second", &vessel(&"x".repeat(3900), 1.0)).unwrap();
    assert!(
        second.wait(Until::Durable).unwrap().seq > store.get(VESSEL, "first").unwrap().map(|row| row.seq())
    );
    assert!(!store.get(VESSEL, "first").unwrap().unwrap().row().entry().has_more(), "a batch of its own");
    let huge = "x".repeat(5000);
    let refused = radar.assert(VESSEL, "huge", &vessel(&huge, 1.0)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::BatchTooLarge);
    radar.assert(VESSEL, "small", &vessel("small", 1.0)).unwrap();
    store.flush().unwrap();
    assert!(alive(&store, "small").is_some() && alive(&store, "huge").is_none());
}

#[test]
fn one_source_alone_leaves_no_frame_beside_its_rows() {
    let store = store();
    let radar = store.source("radar").unwrap();
    for n in 0..10u8 {
        radar.assert(VESSEL, "ada", &vessel("Ada", f32::from(n / 2))).unwrap();
        store.flush().unwrap();
    }
    radar.retract(VESSEL, "ada").unwrap();
    store.flush().unwrap();
    assert_eq!(store.journal().view().range(..).count(), 6, "five rows and a deletion");
    assert_eq!(store.state_stats().unwrap().rows, 6);
}

#[test]
fn updates_from_many_threads_and_sources_are_all_counted() {
    let store = store();
    std::thread::scope(|scope| {
        for source in 0..4 {
            let store = &store;
            scope.spawn(move || {
                let source = store.source(&format!("source-{source}")).unwrap();
                for n in 0..500u16 {
                    let count = |row: Option<Vessel>| {
                        let row = row.unwrap_or_default();
                        // A moment in which others come between.
                        std::thread::yield_now();
                        Vessel { heading: row.heading + 1, ..row }
                    };
                    source.update(VESSEL, "count", count).unwrap();
                    if n % 50 == 0 {
                        store.flush().unwrap();
                    }
                }
            });
        }
    });
    store.flush().unwrap();
    assert_eq!(store.get(VESSEL, "count").unwrap().unwrap().value().unwrap().heading, 2000);
}

#[test]
fn s14_what_was_told_is_there_behind_a_crash_at_every_point_and_flushes_are_whole() {
    let disk = Simulator::new();
    let store = open(&disk);
    let radar = store.source("radar").unwrap();
    let mut changes = follow(&store);
    let mut told_at = Vec::new();
    for step in 1..=4u8 {
        for name in ["ada", "grace", "joan"] {
            radar.assert(VESSEL, name, &vessel(name, f32::from(step))).unwrap();
        }
        store.flush().unwrap();
        assert_eq!(told(&mut changes).len(), 3);
        told_at.push(disk.events());
    }
    let mut seen = std::collections::BTreeSet::new();
    for events in 0..=disk.events() {
        for seed in 0..8u64 {
            let mut state = seed * 2 + 1;
            let crashed = disk.crash(events, &mut |n| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                usize::try_from(state >> 33).unwrap() % n
            });
            let again = open(&crashed);
            let step = |knots: f32| (0..=4u8).find(|step| f32::from(*step) == knots).unwrap();
            let steps = ["ada", "grace", "joan"].map(|name| knots(&again, name).map_or(0, step));
            assert!(steps.iter().all(|step| *step == steps[0]), "behind {events}: {steps:?}");
            let told = told_at.iter().filter(|at| **at <= events).count();
            assert!(
                usize::from(steps[0]) >= told,
                "behind {events} operations of the disk: {steps:?}, and {told} were told"
            );
            seen.insert(steps[0]);
        }
    }
    assert_eq!(seen.len(), 5, "{seen:?}");
}
