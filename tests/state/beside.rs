//! Live state from beside the process that writes: by a `Reader`, which is woken by nobody, holds nothing back and asks for
//! no sync.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use esker::{
    Because, Behind, CompactOptions, Durability, ErrorKind, EventItem, Keep, Kind, Marker, Options, Reader,
    Region, Start, StateItem, Store, SubscribeOptions, Subscription, SubscriptionStatus, Token, Until,
    Window,
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

/// The other process, which is this same program.
const ROLE: &str = "ESKER_TEST_STATE_ROLE";
const PLACE: &str = "ESKER_TEST_STATE_STORE";

/// Not a test of its own: what a child process does.
#[test]
fn role_of_a_child_process() {
    let (Ok(role), Ok(path)) = (std::env::var(ROLE), std::env::var(PLACE)) else { return };
    let path = Path::new(&path);
    match role.as_str() {
        "writes" => write_for_ever(path),
        "leaves what is not durable" => leave_what_is_not_durable(path),
        "leaves what came while it was followed" => leave_what_came_while_it_was_followed(path),
        "follows" => follow_to_the_end(path),
        other => panic!("no role {other}"),
    }
}

pub(super) fn start(role: &str, store: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "beside::role_of_a_child_process", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(PLACE, store)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

fn say(line: &str) {
    std::io::stdout().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// The first line that begins so.
pub(super) fn heard(child: &mut Child, beginning: &str) -> String {
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    lines.find_map(|line| line.unwrap().split_once(beginning).map(|(_, rest)| rest.to_owned())).unwrap()
}

/// Asserts, patches and retracts some fifty entities, and compacts now and then.
fn write_for_ever(path: &Path) {
    let options = Options::new().segment_bytes(16384).window(Window::Every(Duration::from_millis(1)));
    let store = Store::over(options.open(path).unwrap());
    let radar = store.source("radar").unwrap();
    let mut n = u64::from(std::process::id());
    for round in 0u32.. {
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = format!("v{}", (n >> 33) % 50);
        let row = Vessel { heading: u16::try_from(n >> 48).unwrap(), ..vessel(&key, 1.0) };
        match (n >> 20) % 10 {
            0..7 => radar.assert(LOGGED, &key, &row).unwrap(),
            _ => radar.retract(LOGGED, &key).unwrap(),
        };
        if round % 64 == 63 {
            store.flush().unwrap();
            say(&format!("wrote {round}"));
        }
        if round % 1024 == 1023 {
            store.journal().compact(&CompactOptions::new()).unwrap();
        }
    }
}

/// One row that is durable, and others that are not.
fn leave_what_is_not_durable(path: &Path) {
    let store = open(path, Durability::Os);
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 1.0)).unwrap();
    store.flush().unwrap();
    store.journal().sync().unwrap();
    change_often(&store, &radar, "ada", 3);
    change_often(&store, &radar, "ghost", 1);
    say("left");
    std::process::abort();
}

/// One row that is durable; once it is told to go on, an update of it that is not.
fn leave_what_came_while_it_was_followed(path: &Path) {
    let store = open(path, Durability::Os);
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 1.0)).unwrap();
    store.flush().unwrap();
    store.journal().sync().unwrap();
    say("begun");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    change_often(&store, &radar, "ada", 1);
    say("left");
    std::process::abort();
}

/// Follows until an entity says that it is over, and says what it has gathered then.
fn follow_to_the_end(path: &Path) {
    let reader = Reader::open(path).unwrap();
    let mut changes = reader.subscription(LOGGED).behind(Behind::Resume).capacity(16).start().unwrap();
    let mut folded = Folded::new();
    while !folded.contains_key(&b"over"[..]) {
        let item = changes.next_timeout(LONG).unwrap().expect("there is more within a minute");
        let is_complete = matches!(item, StateItem::Marker(Marker::BootstrapComplete { .. }));
        fold(&mut folded, &item);
        if is_complete {
            say("follows");
        }
    }
    let versions: Vec<String> = folded.iter().map(|(key, row)| format!("{key:?} {row:?}")).collect();
    say(&format!("gathered {}", versions.join(";")));
}

#[test]
fn a_follower_goes_on_over_writers_of_another_process_that_are_killed_and_compact() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    open(&path, Durability::Sync).close().unwrap();
    let mut changes = Reader::open(&path)
        .unwrap()
        .subscription(LOGGED)
        .behind(Behind::Resume)
        .capacity(64)
        .start()
        .unwrap();
    let mut slow = Reader::open(&path).unwrap().subscription(LOGGED).behind(Behind::Full).start().unwrap();
    let (mut folded, mut folded_slow) = (Folded::new(), Folded::new());
    let mut kept: Option<(Folded, Token)> = None;
    for kill in 0..6u64 {
        let mut writer = start("writes", &path);
        heard(&mut writer, "wrote ");
        let until = Instant::now() + Duration::from_millis(150 + 100 * kill);
        let mut items = 0;
        while Instant::now() < until {
            match changes.next_timeout(Duration::from_millis(20)).unwrap() {
                Some(item) => fold(&mut folded, &item),
                None => continue,
            }
            items += 1;
        }
        assert!(items > 0, "kill {kill}: nothing came while it wrote");
        writer.kill().unwrap();
        writer.wait().unwrap();
        // Nobody writes. What is known to be durable is one moment, which a token names.
        gather(&mut changes, &mut folded);
        let token = changes.token().unwrap().unwrap();
        let store = open(&path, Durability::Sync);
        if let Some((mut before, token)) = kept.take() {
            let mut resumed =
                store.subscription(LOGGED).behind(Behind::Resume).resume(token).start().unwrap();
            gather(&mut resumed, &mut before);
            assert_eq!(before, scanned(&store), "kill {kill}: from the token before the last kill");
        }
        kept = Some((folded.clone(), token));
        let radar = store.source("radar").unwrap();
        radar.assert(LOGGED, format!("kill {kill}"), &vessel("k", 1.0)).unwrap();
        store.flush().unwrap();
        gather(&mut changes, &mut folded);
        gather(&mut slow, &mut folded_slow);
        assert_eq!(folded, scanned(&store), "kill {kill}");
        assert_eq!(folded_slow, scanned(&store), "kill {kill}: who looks only now and then");
        drop(radar);
        store.close().unwrap();
    }
}

#[test]
fn a_follower_in_another_process_gathers_what_the_writer_has() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let mut store = open(&path, Durability::Sync);
    let mut followers = [start("follows", &path), start("follows", &path)];
    followers.iter_mut().for_each(|follower| _ = heard(follower, "follows"));
    let mut n = 7u64;
    for round in 0..6 {
        let radar = store.source("radar").unwrap();
        for _ in 0..300 {
            n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = format!("v{}", (n >> 33) % 20);
            let row = Vessel { heading: u16::try_from(n >> 48).unwrap(), ..vessel(&key, 1.0) };
            match (n >> 20) % 10 {
                0..7 => radar.assert(LOGGED, &key, &row).unwrap(),
                _ => radar.retract(LOGGED, &key).unwrap(),
            };
            if n.is_multiple_of(3) {
                store.flush().unwrap();
            }
        }
        store.flush().unwrap();
        store.journal().compact(&CompactOptions::new()).unwrap();
        if round == 5 {
            radar.assert(LOGGED, "over", &vessel("over", 1.0)).unwrap();
            store.flush().unwrap();
        }
        drop(radar);
        store.close().unwrap();
        store = open(&path, Durability::Sync);
    }
    let expected: Vec<String> = scanned(&store).iter().map(|(key, row)| format!("{key:?} {row:?}")).collect();
    for mut follower in followers {
        assert_eq!(heard(&mut follower, "gathered "), expected.join(";"));
        assert!(follower.wait().unwrap().success());
    }
}

#[test]
fn what_a_killed_writer_left_is_told_once_it_is_durable() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let mut writer = start("leaves what is not durable", &path);
    heard(&mut writer, "left");
    assert!(!writer.wait().unwrap().success());
    let reader = Reader::open(&path).unwrap();
    let mut changes = reader.subscription(VESSEL).start().unwrap();
    assert_eq!(told(&mut changes), ["begin false None", "ada v1 is", "complete false"]);
    let token = changes.token().unwrap().unwrap();
    // The next one finds it, and makes it durable.
    let store = open(&path, Durability::Os);
    assert_eq!(told(&mut changes).len(), 4);
    assert_ne!(changes.token().unwrap(), Some(token));
    store.close().unwrap();
}

/// What a power cut does to what was not durable.
pub(super) fn lose(path: &Path, segment: u32, offset: u64) {
    let file = path.join(format!("{segment:010}.seg"));
    let file = std::fs::File::options().write(true).open(file).unwrap();
    let zeros = vec![0; usize::try_from(file.metadata().unwrap().len() - offset).unwrap()];
    std::os::unix::fs::FileExt::write_all_at(&file, &zeros, offset).unwrap();
}

#[test]
fn a_follower_does_not_go_on_over_a_log_that_was_rewound() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let mut writer = start("leaves what is not durable", &path);
    heard(&mut writer, "left");
    writer.wait().unwrap();
    let reader = Reader::open(&path).unwrap();
    let follow = |until| reader.subscription(VESSEL).until(until).start().unwrap();
    let (mut durable, mut visible) = (follow(Until::Durable), follow(Until::Visible));
    let mut entries = reader.subscribe(Region::all(), SubscribeOptions::new()).unwrap();
    assert_eq!(told(&mut durable).len(), 3);
    assert_eq!(told(&mut visible).len(), 3 + 4);
    let token = durable.token().unwrap().unwrap();
    assert_eq!(visible.token().unwrap(), None);
    // A power cut takes what was not durable, though these two were not there to see it.
    let view = reader.view().unwrap();
    let lost =
        view.get(esker::Seq::new(token.seq().unwrap().get() + 1).unwrap()).unwrap().unwrap().position();
    lose(&path, lost.segment(), lost.offset());
    let store = open(&path, Durability::Sync);
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "grace", &vessel("Grace", 1.0)).unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 9.0)).unwrap();
    store.flush().unwrap();
    for changes in [&mut durable, &mut visible] {
        let mut folded = Folded::new();
        let Some(StateItem::Marker(Marker::BootstrapBegin { rebootstrap: true, because })) =
            changes.try_next().unwrap()
        else {
            panic!("it begins anew")
        };
        assert_eq!(because, Some(Because::Rewound));
        gather(changes, &mut folded);
        assert_eq!(folded, scanned(&store));
    }
    for _ in 0..2 {
        assert_eq!(entries.advance().unwrap_err().kind(), ErrorKind::Rewound, "entries are what they are");
    }
    assert_eq!(reader.view().map(drop).unwrap_err().kind(), ErrorKind::Rewound);
    // The token is of a moment that was durable: it goes on from there, of whichever reader.
    for reader in [reader, Reader::open(&path).unwrap()] {
        let mut resumed = reader.subscription(VESSEL).resume(token).start().unwrap();
        assert_eq!(told(&mut resumed), ["grace v1 created", r#"ada v2 updated ["knots"]"#]);
    }
}
