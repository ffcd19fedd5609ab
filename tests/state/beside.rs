//! Live state from beside the process that writes: by a `Reader`, which is woken by nobody, holds nothing back and asks for
//! no sync.

#[path = "beside_processes.rs"]
mod processes;

pub(super) use processes::{heard, lose, start};

use std::path::Path;
use std::time::Duration;

use esker::{
    Because, Behind, CompactOptions, Durability, ErrorKind, EventItem, Keep, Kind, Marker, Reader, Start,
    StateItem, Store, Subscription, SubscriptionStatus, Token, Until,
};
use serde::{Deserialize, Serialize};

use super::events::LOGGED;
use super::following::{Folded, fold, scanned};
use super::harbour::{VESSEL, Vessel, change_often, fill, line, options, told, vessel};

const LONG: Duration = Duration::from_secs(60);

fn open(path: &Path, durability: Durability) -> Store {
    Store::over(options().segment_bytes(16384).durability(durability).open(path).unwrap())
}

/// A store of small segments, and where it is.
fn begun(durability: Durability) -> (tempfile::TempDir, std::path::PathBuf, Store) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let store = open(&path, durability);
    (directory, path, store)
}

/// Takes in all that there is now.
fn gather(changes: &mut Subscription<Vessel>, folded: &mut Folded) {
    while let Some(item) = changes.try_next().unwrap() {
        fold(folded, &item);
    }
}

const BUOY: Kind<Vessel> = Kind::new("buoy").events();
const BUSY: Kind<Vessel> = Kind::new("busy");

/// So many changes of one entity of a kind of its own, each in a flush of its own.
fn often(store: &Store, source: &esker::Source, kind: Kind<Vessel>, times: u16) {
    for heading in 0..times {
        source.assert(kind, "busy", &Vessel { heading, ..vessel("busy", 2.0) }).unwrap();
        store.flush().unwrap();
    }
}

#[test]
fn a_kind_that_is_not_there_yet_has_no_rows_and_no_events_until_it_is() {
    let (_directory, path, store) = begun(Durability::Sync);
    let reader = Reader::open(&path).unwrap();
    let mut rows = reader.subscription(BUOY).start().unwrap();
    let mut not_begun = reader.subscription(BUOY).start().unwrap();
    let builder = reader.subscription(BUOY).bootstrap(false).capacity(1).behind(Behind::Resume);
    let mut bare = builder.start().unwrap();
    let mut events = reader.events(BUOY).start().unwrap();
    assert_eq!(told(&mut rows), ["begin false None", "complete false"]);
    assert_eq!(rows.status(), SubscriptionStatus::Live);
    assert!(told(&mut bare).is_empty() && events.try_next().unwrap().is_none());
    // Another kind comes, and most of it goes.
    let radar = store.source("radar").unwrap();
    change_often(&store, &radar, "other", 300);
    assert!(store.journal().compact(&CompactOptions::new()).unwrap().entries_dropped > 100);
    assert!(told(&mut rows).is_empty() && told(&mut bare).is_empty() && events.try_next().unwrap().is_none());
    assert!(store.journal().kind_named("buoy").is_none(), "a reader registers nothing");

    for n in 1..4u8 {
        radar.assert(BUOY, "ada", &vessel("Ada", f32::from(n))).unwrap();
        store.flush().unwrap();
    }
    let kinds = |changes: &mut Subscription<Vessel>| {
        let told = told(changes);
        told.iter().map(|line| line.split_once(" v30").unwrap().1[2..].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&mut rows), ["created", r#"updated ["knots"]"#, r#"updated ["knots"]"#]);
    assert_eq!(told(&mut not_begun), ["begin false None", "ada v303 is", "complete false"]);
    assert_eq!(kinds(&mut bare), ["created"], "what they come to, since that is more than it may be behind");
    let mut heard = Vec::new();
    while let Some(EventItem::Event(event)) = events.try_next().unwrap() {
        heard.push((event.sequence().unwrap(), event.value().unwrap().unwrap().knots));
    }
    assert_eq!(heard, [(1, 1.0), (2, 2.0), (3, 3.0)]);
}

#[test]
fn rows_and_events_of_a_kind_that_came_and_was_compacted_between_two_looks_are_not_passed_over() {
    let (_directory, path, store) = begun(Durability::Sync);
    let reader = Reader::open(&path).unwrap();
    let mut rows = reader.subscription(LOGGED).start().unwrap();
    let mut events = reader.events(LOGGED).start().unwrap();
    assert_eq!(told(&mut rows).len(), 2);
    assert!(events.try_next().unwrap().is_none());
    let radar = store.source("radar").unwrap();
    store.keep_events(LOGGED, Keep::Latest).unwrap();
    for n in 0..300u16 {
        radar.assert(LOGGED, "ada", &Vessel { heading: n, ..vessel("Ada", 1.0) }).unwrap();
        store.flush().unwrap();
    }
    assert!(store.journal().compact(&CompactOptions::new()).unwrap().entries_dropped > 100);
    let all = told(&mut rows);
    assert_eq!(all, ["begin true Some(Compacted)", "ada v300 is", "complete true"]);
    let Some(EventItem::Missed(missed)) = events.try_next().unwrap() else { panic!("some are gone") };
    assert!(missed.compacted);
    let mut last = 0;
    while let Some(EventItem::Event(event)) = events.try_next().unwrap() {
        assert!(event.sequence().unwrap() > last);
        last = event.sequence().unwrap();
    }
    assert_eq!(last, 300);
}

#[test]
fn a_token_of_one_door_resumes_by_the_other() {
    let (_directory, path, store) = begun(Durability::Sync);
    let reader = Reader::open(&path).unwrap();
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 5);
    let mut beside = reader.subscription(VESSEL).start().unwrap();
    let mut inside = store.subscription(VESSEL).start().unwrap();
    assert_eq!(told(&mut beside), told(&mut inside));
    let tokens = [beside.token().unwrap().unwrap(), inside.token().unwrap().unwrap()];
    assert_eq!(tokens[0], tokens[1]);
    assert_eq!(beside.started_at(), inside.started_at());
    change_often(&store, &radar, "v01", 3);
    let net = [r#"v01 v4 updated ["name", "knots", "heading"]"#];
    for token in tokens {
        let token: Token = token.to_string().parse().unwrap();
        let resumed = |builder: esker::SubscriptionBuilder<Vessel>| {
            let mut changes = builder.behind(Behind::Resume).capacity(1).resume(token).start().unwrap();
            told(&mut changes)
        };
        assert_eq!(resumed(store.subscription(VESSEL)), net);
        assert_eq!(resumed(reader.subscription(VESSEL)), net);
    }
    let troubled = |text: String| {
        let builder = reader.subscription(VESSEL).bootstrap(false).resume(text.parse().unwrap());
        let mut changes = builder.start().unwrap();
        match changes.try_next().unwrap() {
            Some(StateItem::Marker(Marker::BootstrapBegin { because, .. })) => because.unwrap(),
            other => panic!("{other:?}"),
        }
    };
    let text = tokens[0].to_string();
    let parts: Vec<&str> = text.split(':').collect();
    assert_eq!(troubled(format!("{}:{}:{}", "0".repeat(32), parts[1], parts[2])), Because::OtherStore);
    assert_eq!(troubled(format!("{}:9:{}", parts[0], parts[2])), Because::Rewound);
    assert_eq!(troubled(format!("{}:{}:99999", parts[0], parts[1])), Because::Rewound);
    // Nobody writes, and what is there is all durable.
    drop((radar, inside));
    store.close().unwrap();
    let mut late = Reader::open(&path).unwrap().subscription(VESSEL).resume(tokens[0]).start().unwrap();
    assert_eq!(told(&mut late).len(), 3);
    let token = late.token().unwrap().unwrap();
    let store = open(&path, Durability::Sync);
    let mut resumed = store.subscription(VESSEL).resume(token).start().unwrap();
    assert!(told(&mut resumed).is_empty());
}

#[derive(Serialize, Deserialize, Debug, PartialEq, Clone, Default)]
struct First {
    name: String,
    speed: u32,
}

#[derive(Serialize, Deserialize, Debug, PartialEq, Clone, Default)]
struct Appended {
    name: String,
    speed: u32,
    #[serde(default)]
    flag: Option<String>,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Other {
    title: String,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Second {
    name: String,
    knots: f64,
}

const FIRST: Kind<First> = Kind::new("ship").events();
const APPENDED: Kind<Appended> = Kind::new("ship").events();
const OTHER: Kind<Other> = Kind::new("ship").events();
const SECOND: Kind<Second> = Kind::new("ship").version(2).events().upcasts(&[(1, |fields| {
    let speed: u32 = fields.get("speed")?.ok_or("no speed")?;
    fields.remove("speed");
    fields.remove("flag");
    fields.set("knots", &f64::from(speed))?;
    Ok(())
})]);

#[test]
fn s28_an_older_reader_of_a_newer_store_reads_a_compatible_prefix_and_refuses_the_rest() {
    let (_directory, path, store) = begun(Durability::Sync);
    let reader = Reader::open(&path).unwrap();
    let radar = store.source("radar").unwrap();
    let ada = First { name: "Ada".into(), speed: 11 };
    radar.assert(FIRST, "ada", &ada).unwrap();
    store.flush().unwrap();
    // A newer reader of an older store.
    let mut ahead = reader.subscription(APPENDED).start().unwrap();
    let mut upcasts = reader.subscription(SECOND).start().unwrap();
    let mut upcast_events = reader.events(SECOND).from(Start::Oldest).start().unwrap();
    assert!(ahead.advance().unwrap() && ahead.advance().unwrap());
    let StateItem::Change(change) = ahead.item() else { panic!("a row") };
    assert_eq!(change.value().unwrap().unwrap().flag, None);
    assert!(upcasts.advance().unwrap() && upcasts.advance().unwrap());
    let StateItem::Change(change) = upcasts.item() else { panic!("a row") };
    assert_eq!(change.value().unwrap().unwrap(), Second { name: "Ada".into(), knots: 11.0 });
    let Some(EventItem::Event(event)) = upcast_events.try_next().unwrap() else { panic!("an event") };
    assert_eq!(event.value().unwrap().unwrap().knots, 11.0);
    // What is no prefix, and what is no kind of live state.
    store.journal().kind("note").unwrap();
    for error in [
        reader.subscription(OTHER).start().map(drop).unwrap_err(),
        reader.events(OTHER).start().map(drop).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Schema);
        let text = error.to_string();
        assert!(["name", "speed", "title"].iter().all(|field| text.contains(field)), "{text}");
    }
    let facts = reader.subscription(Kind::<First>::new("note")).start().map(drop).unwrap_err();
    assert_eq!(facts.kind(), ErrorKind::KindMismatch, "{facts}");

    // The store gains a field while an older reader follows.
    let mut older = reader.subscription(FIRST).start().unwrap();
    while older.advance().unwrap() {}
    let mut older_events = reader.events(FIRST).start().unwrap();
    drop(radar);
    store.close().unwrap();
    let store = open(&path, Durability::Sync);
    let radar = store.source("radar").unwrap();
    let flagged = Appended { name: "Ada".into(), speed: 12, flag: Some("de".into()) };
    radar.assert(APPENDED, "ada", &flagged).unwrap();
    store.flush().unwrap();
    assert!(older.advance().unwrap());
    let StateItem::Change(change) = older.item() else { panic!("a change") };
    assert_eq!(change.value().unwrap().unwrap(), First { name: "Ada".into(), speed: 12 });
    assert_eq!(change.changed_fields().collect::<Vec<_>>(), ["speed", "flag"]);
    let Some(EventItem::Event(event)) = older_events.try_next().unwrap() else { panic!("an event") };
    assert_eq!(event.changed_fields().collect::<Vec<_>>(), ["speed", "flag"]);
    assert_eq!(event.previous().unwrap(), Some(ada));

    // A new version while it follows: what that has made of the rows it does not know, and it stays where it was.
    drop(radar);
    store.close().unwrap();
    let store = open(&path, Durability::Sync);
    let radar = store.source("radar").unwrap();
    radar.assert(SECOND, "ada", &Second { name: "Ada".into(), knots: 13.0 }).unwrap();
    store.flush().unwrap();
    let before = older.token().unwrap().unwrap();
    for _ in 0..2 {
        let error = older.advance().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema);
        assert!(error.to_string().contains("knows version 2"), "{error}");
        assert_eq!(older.token().unwrap(), Some(before));
        assert_eq!(older_events.advance().unwrap_err().kind(), ErrorKind::Schema);
    }
    let refused = Reader::open(&path).unwrap().subscription(FIRST).start().map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Schema);
    let mut newer = reader.subscription(SECOND).resume(before).start().unwrap();
    let Some(StateItem::Change(change)) = newer.try_next().unwrap() else { panic!("a change") };
    assert_eq!(change.value().unwrap().unwrap().knots, 13.0);
}

#[test]
fn the_rows_of_a_bootstrap_stay_although_compaction_removes_their_files() {
    let (_directory, path, store) = begun(Durability::Sync);
    let radar = store.source("radar").unwrap();
    // In each file there is something that goes.
    for n in 0..30u8 {
        radar.assert(VESSEL, format!("v{n:02}"), &vessel("v", 1.0)).unwrap();
        change_often(&store, &radar, "busy", 20);
    }
    drop(radar);
    store.close().unwrap();
    let store = open(&path, Durability::Sync);
    let radar = store.source("radar").unwrap();
    let expected = scanned(&store);
    // A reader of what was closed in order maps a file when it needs it.
    let mut changes = Reader::open(&path).unwrap().subscription(VESSEL).start().unwrap();
    let mut folded = Folded::new();
    for _ in 0..3 {
        fold(&mut folded, &changes.try_next().unwrap().unwrap());
    }
    change_often(&store, &radar, "busy", 300);
    let compacted = store.journal().compact(&CompactOptions::new()).unwrap();
    assert!(compacted.entries_dropped > 500 && compacted.held_back_by.is_empty(), "{compacted:?}");
    loop {
        match changes.try_next().unwrap().unwrap() {
            StateItem::Marker(Marker::BootstrapComplete { .. }) => break,
            item => fold(&mut folded, &item),
        }
    }
    assert_eq!(folded, expected, "as of the moment when it began");
    // What was changed since is partly gone.
    let rest = told(&mut changes);
    assert_eq!(rest[0], "begin true Some(Compacted)", "{rest:?}");
    assert_eq!(rest.len(), 31 + 2, "{rest:?}");
}

#[test]
fn what_holds_nothing_back_does_not_hold_too_much() {
    let (_directory, path, store) = begun(Durability::Sync);
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 1500);
    let reader = Reader::open(&path).unwrap();
    let mut changes = reader.subscription(VESSEL).bootstrap_hold(1).start().unwrap();
    assert!(changes.advance().unwrap());
    change_often(&store, &radar, "ada", 2);
    let told = told(&mut changes);
    assert_eq!(told.iter().position(|line| line.starts_with("begin")), None);
    assert_eq!(told.len(), 1500 + 1 + 2);
}

#[cfg(target_os = "linux")]
#[test]
fn a_round_opens_no_more_files_than_it_tells_of() {
    let (_directory, path, store) = begun(Durability::Sync);
    let radar = store.source("radar").unwrap();
    change_often(&store, &radar, "busy", 1500);
    let files = std::fs::read_dir(&path).unwrap().map(|file| file.unwrap().path());
    let segments = files.filter(|file| file.extension().is_some_and(|end| end == "seg")).count();
    assert!(segments > 8, "{segments}");
    let token = store.subscription(VESSEL).bootstrap(false).start().unwrap().token().unwrap().unwrap();
    change_often(&store, &radar, "busy", 1);
    drop(radar);
    store.close().unwrap();
    let mapped = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let is_segment = |line: &&str| line.ends_with(".seg") && line.contains(path.to_str().unwrap());
        maps.lines().filter(is_segment).count()
    };
    let before = mapped();
    let builder = Reader::open(&path).unwrap().subscription(VESSEL).behind(Behind::Conflate);
    let mut changes = builder.resume(token).start().unwrap();
    assert_eq!(told(&mut changes).len(), 1);
    let opened = mapped() - before;
    assert!((1..=3).contains(&opened), "{opened} of {segments}");
}

#[test]
fn a_round_goes_on_where_the_row_before_a_change_is_removed_meanwhile() {
    let (_directory, path, store) = begun(Durability::Sync);
    let radar = store.source("radar").unwrap();
    for n in 0..30u8 {
        radar.assert(VESSEL, format!("v{n:02}"), &vessel("v", 1.0)).unwrap();
        change_often(&store, &radar, "busy", 20);
    }
    let token = store.subscription(VESSEL).bootstrap(false).start().unwrap().token().unwrap().unwrap();
    drop(radar);
    store.close().unwrap();
    let store = open(&path, Durability::Sync);
    let radar = store.source("radar").unwrap();
    for key in ["v00", "v15"] {
        radar.assert(VESSEL, key, &vessel("v", 2.0)).unwrap();
        store.flush().unwrap();
    }
    let builder = Reader::open(&path).unwrap().subscription(VESSEL).behind(Behind::Conflate).previous(true);
    let mut changes = builder.resume(token).start().unwrap();
    let mut previous = || match changes.try_next().unwrap() {
        Some(StateItem::Change(change)) => {
            (line(&change), change.previous().map(|row| row.value().unwrap().knots))
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(previous(), (r#"v00 v2 updated ["knots"]"#.to_owned(), Some(1.0)));
    change_often(&store, &radar, "busy", 300);
    assert!(store.journal().compact(&CompactOptions::new()).unwrap().entries_dropped > 500);
    assert_eq!(previous(), (r#"v15 v2 updated ["knots"]"#.to_owned(), None));
}

#[test]
fn who_is_live_goes_on_where_the_row_before_a_change_is_removed_meanwhile() {
    let (_directory, path, store) = begun(Durability::Sync);
    let radar = store.source("radar").unwrap();
    for n in 0..30u8 {
        radar.assert(LOGGED, format!("v{n:02}"), &vessel("v", 1.0)).unwrap();
        often(&store, &radar, BUSY, 20);
    }
    drop(radar);
    store.close().unwrap();
    let store = open(&path, Durability::Sync);
    let radar = store.source("radar").unwrap();
    let token = store.subscription(LOGGED).bootstrap(false).start().unwrap().token().unwrap().unwrap();
    for key in ["v00", "v15"] {
        radar.assert(LOGGED, key, &vessel("v", 2.0)).unwrap();
        store.flush().unwrap();
    }
    let reader = Reader::open(&path).unwrap();
    let mut changes = reader.subscription(LOGGED).previous(true).resume(token).start().unwrap();
    let mut previous = || match changes.try_next().unwrap() {
        Some(StateItem::Change(change)) => {
            (line(&change), change.previous().map(|row| row.value().unwrap().knots))
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(previous(), (r#"v00 v2 updated ["knots"]"#.to_owned(), Some(1.0)));
    let mut events = reader.events(LOGGED).from(Start::After(token.seq().unwrap())).start().unwrap();
    let mut event = || match events.try_next().unwrap() {
        Some(EventItem::Event(event)) => event.previous().unwrap().map(|row| row.knots),
        other => panic!("{other:?}"),
    };
    assert_eq!(event(), Some(1.0));
    often(&store, &radar, BUSY, 300);
    assert!(store.journal().compact(&CompactOptions::new()).unwrap().entries_dropped > 500);
    assert_eq!(previous(), (r#"v15 v2 updated ["knots"]"#.to_owned(), None));
    assert_eq!(event(), None);
}

#[test]
fn who_is_left_behind_by_compaction_is_told_so_as_it_chose_and_goes_on() {
    let (_directory, path, store) = begun(Durability::Sync);
    let radar = store.source("radar").unwrap();
    fill(&store, &radar, 5);
    // Each has a reader of its own, which does not look in between.
    let follow = |behind| {
        let builder = Reader::open(&path).unwrap().subscription(VESSEL).behind(behind);
        let mut changes = builder.start().unwrap();
        let mut folded = Folded::new();
        gather(&mut changes, &mut folded);
        (changes, folded)
    };
    let (mut ends, _) = follow(Behind::End);
    let (mut skips, _) = follow(Behind::LiveOnly);
    let (mut begins, mut begun) = follow(Behind::Full);
    let (mut resumes, mut resumed) = follow(Behind::Resume);
    let stopper = resumes.stopper();
    let left_behind = Reader::open(&path).unwrap();
    for _ in 0..3 {
        change_often(&store, &radar, "busy", 200);
        store.journal().compact(&CompactOptions::new()).unwrap();
    }
    assert_eq!(left_behind.view().map(drop).unwrap_err().kind(), ErrorKind::Compacted);
    assert_eq!(told(&mut left_behind.subscription(VESSEL).start().unwrap()).len(), 6 + 2);
    let before = ends.token().unwrap();
    assert_eq!(before.map(|token| token.seq().unwrap().get()), Some(5), "it has not looked");
    assert_eq!(ends.advance().unwrap_err().kind(), ErrorKind::Lagged);
    assert_eq!(ends.advance().unwrap_err().kind(), ErrorKind::Lagged, "once and for all");
    assert_eq!(ends.token().unwrap(), before);
    assert!(told(&mut skips)[0].starts_with("missed "));
    for (changes, folded, because) in
        [(&mut begins, &mut begun, Because::Lagged), (&mut resumes, &mut resumed, Because::Compacted)]
    {
        let item = changes.next_timeout(LONG).unwrap().unwrap();
        let StateItem::Marker(Marker::BootstrapBegin { rebootstrap: true, because: why }) = item else {
            panic!("{item:?}")
        };
        assert_eq!(why, Some(because));
        folded.clear();
        gather(changes, folded);
        assert_eq!(*folded, scanned(&store));
        change_often(&store, &radar, "busy", 2);
        gather(changes, folded);
        assert_eq!(*folded, scanned(&store), "and goes on");
    }
    // Who has it still stops it.
    stopper.stop();
    assert!(resumes.next().unwrap().is_none());
}

#[test]
fn events_from_beside_are_those_of_the_store_and_are_not_lost_silently() {
    let (_directory, path, store) = begun(Durability::Sync);
    let radar = store.source("radar").unwrap();
    store.keep_events(LOGGED, Keep::Latest).unwrap();
    let reader = Reader::open(&path).unwrap();
    let mut live = reader.events(LOGGED).start().unwrap();
    for n in 0..400u16 {
        let key = format!("v{}", n % 3);
        if n % 7 == 3 {
            radar.retract(LOGGED, &key).unwrap();
        } else {
            radar.assert(LOGGED, &key, &Vessel { heading: n, ..vessel(&key, 1.0) }).unwrap();
        }
        if n % 2 == 0 {
            store.flush().unwrap();
        }
    }
    store.flush().unwrap();
    let hear = |events: &mut esker::Events<Vessel>| {
        let mut heard = Vec::new();
        while let Some(item) = events.try_next().unwrap() {
            heard.push(match item {
                EventItem::Event(event) => {
                    (event.sequence(), format!("{event:?} {:?}", event.previous().unwrap()))
                }
                EventItem::Missed(missed) => (None, format!("{missed:?}")),
                other => panic!("{other:?}"),
            });
        }
        heard
    };
    let expected = hear(&mut store.events(LOGGED).from(Start::Oldest).start().unwrap());
    assert_eq!(expected.len(), 400);
    assert_eq!(hear(&mut reader.events(LOGGED).from(Start::Oldest).start().unwrap()), expected);
    assert_eq!(hear(&mut live), expected);
    // One that has seen a few when compaction comes; its reader does not look meanwhile.
    let apart = Reader::open(&path).unwrap();
    let mut slow = apart.events(LOGGED).from(Start::Oldest).start().unwrap();
    let mut fresh = Reader::open(&path).unwrap().events(LOGGED).from(Start::Oldest).start().unwrap();
    assert!((0..5).all(|_| slow.advance().unwrap()));
    for round in 0..2u16 {
        for n in 0..200u16 {
            radar.assert(LOGGED, "busy", &Vessel { heading: n + round, ..vessel("b", 2.0) }).unwrap();
            store.flush().unwrap();
        }
        assert!(store.journal().compact(&CompactOptions::new()).unwrap().entries_dropped > 100);
    }
    for events in [&mut slow, &mut fresh] {
        let heard = hear(events);
        assert_eq!(heard.last().unwrap().0, Some(800));
        let numbers: Vec<u64> = heard.iter().filter_map(|(number, _)| *number).collect();
        assert!(numbers.is_sorted() && numbers.len() < 790, "{numbers:?}");
        assert!(heard.iter().any(|(number, _)| number.is_none()), "what is missing is told");
    }
    let refused = reader.events(LOGGED).watch("audit").map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("the process that writes the store"), "{refused}");
    assert_eq!(reader.events(VESSEL).start().map(drop).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn what_is_told_is_durable_unless_it_was_asked_for_otherwise() {
    let (_directory, path, store) = begun(Durability::Os);
    let radar = store.source("radar").unwrap();
    let reader = Reader::open(&path).unwrap();
    radar.assert(LOGGED, "ada", &vessel("Ada", 1.0)).unwrap();
    store.flush().unwrap();
    store.journal().sync().unwrap();
    let mut durable = reader.subscription(LOGGED).start().unwrap();
    let mut visible = reader.subscription(LOGGED).until(Until::Visible).start().unwrap();
    let (mut events, mut early) = (
        reader.events(LOGGED).start().unwrap(),
        reader.events(LOGGED).until(Until::Visible).start().unwrap(),
    );
    assert_eq!(told(&mut durable), ["begin false None", "ada v1 is", "complete false"]);
    assert_eq!(told(&mut visible).len(), 3);
    let token = durable.token().unwrap().unwrap();
    radar.assert(LOGGED, "ada", &vessel("Ada", 2.0)).unwrap();
    store.flush().unwrap();
    assert!(told(&mut durable).is_empty() && events.try_next().unwrap().is_none());
    assert_eq!(durable.token().unwrap(), Some(token));
    let change = [r#"ada v2 updated ["knots"]"#];
    assert_eq!(told(&mut visible), change);
    assert!(early.try_next().unwrap().is_some());
    assert_eq!(visible.token().unwrap(), None, "a power cut may take what it was told");
    assert_eq!(told(&mut reader.subscription(LOGGED).start().unwrap())[1], "ada v1 is");
    store.journal().sync().unwrap();
    assert_eq!(told(&mut durable), change);
    assert!(events.try_next().unwrap().is_some());
    assert_eq!(visible.token().unwrap(), durable.token().unwrap());
}
