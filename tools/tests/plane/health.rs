//! `check` looks at what stands on the backplane, too.

use esker::backplane::{Put, ReadOnly, Stamp, Step, WriterId};
use esker::{CompactOptions, Facts, Keep, Reader};
use serde_json::Value;

use crate::support::{Run, run};
use crate::world::{
    NUMBERS, Other, World, append, done, failing, fold, leave_the_segment, only_one_fold_was_waited_for,
    options, ship_is_two_behind, until,
};

#[test]
fn a_fold_that_would_need_what_was_dropped_is_critical() {
    let world = World::new();
    let store = only_one_fold_was_waited_for(&world);
    let well = world.tool(&["check"], &["--min-free", "0", "--json"]);
    assert_eq!((well.code, &well.of_type("summary")[0]["halted"]), (Some(0), &0.into()), "{}", well.stdout);
    drop(fold::<Other>(&store, "a"));
    store.close().unwrap();
    let run = world.tool(&["check"], &["--min-free", "0", "--json"]);
    assert_eq!(run.code, Some(1));
    let troubles = run.of_type("trouble");
    assert_eq!(troubles.len(), 1, "{troubles:?}");
    assert_eq!((&troubles[0]["gravity"], &troubles[0]["about"]), (&"critical".into(), &"fold".into()));
    assert_eq!(run.of_type("summary")[0]["halted"], 1);
    let nagios = world.tool(&["check"], &["--min-free", "0", "--format", "nagios"]);
    assert_eq!(nagios.code, Some(2), "{}", nagios.stdout);
    assert!(nagios.stdout.contains("\"other\" over number/a cannot go on: lost"), "{}", nagios.stdout);
}

#[test]
fn the_thresholds_are_those_of_consumers_too() {
    let world = World::new();
    ship_is_two_behind(&world);
    let check = |limit: &str| world.tool(&["check"], &["--min-free", "0", "--max-lag", limit, "--json"]);
    assert_eq!(check("2").code, Some(0));
    let run = check("1");
    assert_eq!((run.code, &run.of_type("summary")[0]["max_consumer_lag"]), (Some(1), &2.into()));
    let troubles = run.of_type("trouble");
    assert_eq!((&troubles[0]["gravity"], &troubles[0]["about"]), (&"warning".into(), &"consumer".into()));
}

fn check(path: &str) -> Run {
    run(&["check", path, "--min-free", "0", "--json"])
}

/// The only trouble of a store is with its consumer: how grave it is, what is said, and what to run.
fn of_consumer(path: &str) -> (String, String, String) {
    let found = check(path);
    assert_eq!(found.code, Some(1), "{}", found.stdout);
    let troubles = found.of_type("trouble");
    assert_eq!((troubles.len(), &troubles[0]["about"]), (1, &"consumer".into()), "{}", found.stdout);
    assert_eq!(found.of_type("summary")[0]["stuck"], 1, "{}", found.stdout);
    let text = |name: &str| troubles[0][name].as_str().unwrap().to_owned();
    (text("gravity"), text("what"), text("next"))
}

/// What a page says of consumers.
fn drawn(world: &World, path: &str) -> (Run, String) {
    let page = format!("{}.html", world.path());
    let made = run(&["report", path, "--output", &page, "--force"]);
    (made, std::fs::read_to_string(page).unwrap())
}

#[test]
fn a_handler_that_fails_again_and_again_is_told_with_its_reason() {
    let world = World::new();
    let store = world.store();
    append(&store, "a", 1..=3);
    let stuck = store.on_event(NUMBERS, "ship", options(), failing(0)).unwrap();
    until("a fifth attempt", || stuck.status().stuck >= 5);
    stuck.close().unwrap();
    store.close().unwrap();
    let (gravity, what, next) = of_consumer(&world.path());
    assert_eq!((&*gravity, next), ("warning", format!("esker consumers {}", world.path())));
    assert!(what.contains("\"ship\" of number") && what.contains("1 is too much"), "{what}");
    let nagios = world.tool(&["check"], &["--min-free", "0", "--format", "nagios"]);
    assert_eq!(nagios.code, Some(1), "{}", nagios.stdout);
    let (made, page) = drawn(&world, &world.path());
    assert_eq!(made.code, Some(1), "{}", made.stdout);
    assert!(page.contains("1 is too much") && page.contains("Consumers and folds"), "it is on the page");
}

#[test]
fn what_a_consumer_has_parked_waits_for_somebody_and_is_told() {
    let world = World::new();
    let store = world.store();
    let last = append(&store, "a", [1, 5, 6]);
    done(&store.on_event(NUMBERS, "ship", options().max_attempts(2).park(), failing(4)).unwrap(), last);
    store.close().unwrap();
    let (gravity, what, next) = of_consumer(&world.path());
    assert_eq!(
        (&*gravity, next),
        ("warning", format!("esker consumer parked {} ship --of number", world.path()))
    );
    assert!(
        what.contains("has parked 2 records of 1 entity, of a") && what.contains("5 is too much"),
        "{what}"
    );
    assert_eq!(check(&world.path()).of_type("summary")[0]["parked_records"], 2);
    let metrics = world.tool(&["check"], &["--min-free", "0", "--format", "prometheus"]).stdout;
    assert!(metrics.contains("\nesker_check_consumer_parked_records 2\n"), "{metrics}");
}

#[test]
fn a_store_that_is_well_says_how_far_its_consumers_are_behind() {
    let world = World::new();
    crate::world::ship_is_two_behind(&world);
    let well = world.tool(&["check"], &["--min-free", "0"]);
    assert_eq!(well.code, Some(0), "{}", well.stdout);
    assert!(well.stdout.contains("; 1 consumer, at most 2 records behind ("), "{}", well.stdout);
    let nagios = world.tool(&["check"], &["--min-free", "0", "--format", "nagios"]);
    assert!(nagios.stdout.contains("1 consumer, at most 2 records behind"), "{}", nagios.stdout);
}

/// Whether its options let it go on by itself stands in no file: nobody is woken for that, and nothing is offered that forgets.
#[test]
fn a_place_of_another_era_and_what_was_dropped_before_it_was_done_are_warnings() {
    let world = World::new();
    let store = world.store();
    let last = append(&store, "a", 1..=3);
    done(&store.on_event(NUMBERS, "ship", options(), failing(9)).unwrap(), last);
    store.close().unwrap();
    assert_eq!(check(&world.path()).code, Some(0), "{}", check(&world.path()).stdout);
    let (export, other) = (format!("{}.lines", world.path()), format!("{}.other", world.path()));
    assert_eq!(run(&["export", &world.path(), "-o", &export]).code, Some(0));
    assert_eq!(run(&["import", &export, &other]).code, Some(0));
    let (gravity, what, next) = of_consumer(&other);
    assert_eq!((&*gravity, next), ("warning", format!("esker consumers {other}")));
    assert!(what.contains("of another era") && what.contains("on_era_change"), "{what}");
    let (made, page) = drawn(&world, &other);
    assert!(made.code == Some(1) && page.contains("of another era of the store"), "{}", made.stdout);

    let store = world.store();
    append(&store, "a", 4..=9);
    store.keep(Facts::<u64>::new("number"), Keep::Latest).unwrap();
    leave_the_segment(&store);
    store.journal().compact(&CompactOptions::new().thorough(true)).unwrap();
    store.close().unwrap();
    let (gravity, what, _) = of_consumer(&world.path());
    assert!(gravity == "warning" && what.contains("has lost records that it had not done"), "{what}");
    let line = world.tool(&["consumers"], &[]);
    assert_eq!((line.code, line.rows()[0][9]), (Some(0), "lost"), "{}", line.stdout);
    // As with a cursor: one that has lost something is over any threshold, however little it is behind.
    for limit in [["--max-lag", "1000"], ["--max-age", "300d"]] {
        let over = world.tool(&["consumers"], &limit);
        assert_eq!(over.code, Some(1), "{limit:?}: {}", over.stderr);
        assert!(over.stderr.contains("consumer \"ship\" of number: lost records"), "{}", over.stderr);
        let line = world.tool(&["consumers", "--json"], &limit).of_type("consumer").remove(0);
        assert_eq!(line["over"], serde_json::json!(["lost"]), "{line}");
    }
}

/// A process may end between the two: it is on the list, and has no place.
#[test]
fn a_consumer_that_has_not_begun_has_lost_nothing() {
    let world = World::new();
    let store = world.store();
    let last = append(&store, "a", 1..=3);
    done(&store.on_event(NUMBERS, "ship", options(), failing(9)).unwrap(), last);
    store.journal().sync().unwrap();
    let plane = ReadOnly::of(&Reader::open(world.path()).unwrap()).unwrap();
    let cells = plane.cells().map(|cell| cell.unwrap());
    let has = |key: &[u8], word: &[u8]| key.windows(word.len()).any(|part| part == word);
    let place = cells.into_iter().find(|cell| has(&cell.key, b"consumer") && !has(&cell.key, b"consumers"));
    let place = place.unwrap();
    let gone = Put::new(&place.key, place.revision, None, Stamp::new(WriterId::from_raw(77), 1));
    store.backplane().unwrap().commit(&[Step::Put(gone)]).unwrap();
    append(&store, "a", 4..=9);
    store.keep(Facts::<u64>::new("number"), Keep::Latest).unwrap();
    leave_the_segment(&store);
    store.journal().compact(&CompactOptions::new().thorough(true)).unwrap();
    store.close().unwrap();
    let line = world.tool(&["consumers"], &[]);
    assert_eq!(line.rows()[0][9], "not begun", "{}", line.stdout);
    let found = check(&world.path());
    assert_eq!(found.code, Some(0), "{}", found.stdout);
}

#[test]
fn what_somebody_has_asked_to_be_tried_again_waits_for_nobody() {
    let world = World::new();
    let store = world.store();
    let last = append(&store, "a", [1, 5, 6]);
    done(&store.on_event(NUMBERS, "ship", options().max_attempts(2).park(), failing(4)).unwrap(), last);
    store.close().unwrap();
    let asked = world.tool(&["consumer", "retry"], &["ship", "--key", "a", "--execute"]);
    assert_eq!(asked.code, Some(0), "{}{}", asked.stdout, asked.stderr);
    let found = check(&world.path());
    assert_eq!(found.code, Some(0), "{}", found.stdout);
}

/// The same store, the same page; and one without consumers says that it has none.
#[test]
fn consumers_and_folds_are_on_the_page_and_it_is_the_same_for_the_same_store() {
    let world = World::new();
    ship_is_two_behind(&world);
    let store = world.store();
    drop(fold::<Other>(&store, "a"));
    store.close().unwrap();
    let (made, first) = drawn(&world, &world.path());
    assert_eq!(made.code, Some(0), "{}{}", made.stdout, made.stderr);
    let (_, again) = drawn(&world, &world.path());
    assert_eq!(first, again);
    for there in ["data-consumers=\"1\"", "data-folds=\"1\"", "ship of number/a", "no image", "other"] {
        assert!(first.contains(there), "{there} is not on the page");
    }
    let lines: Vec<Value> = check(&world.path()).of_type("trouble");
    assert!(lines.is_empty(), "{lines:?}");
}
