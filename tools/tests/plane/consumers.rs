//! `consumers` and `consumer`: where each stands, what it set aside, and what an operator may say to it.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use esker::backplane::{Backplane, Elsewhere, Local, Offset};
use esker::{ConsumerState, Delivery, Options, Store, Topic};
use serde_json::Value;

use crate::support::{Run, run};
use crate::world::{NUMBERS, World, append, done, failing, options, ship_is_two_behind, until};

fn named<'l>(lines: &'l [Value], name: &str) -> &'l Value {
    lines.iter().find(|line| line["name"] == name).unwrap_or_else(|| panic!("no {name} in {lines:?}"))
}

/// `consumer WHAT PATH NAME` and more.
fn consumer(world: &World, what: &str, more: &[&str]) -> Run {
    world.tool(&["consumer", what], more)
}

#[test]
fn each_consumer_is_shown_with_its_place_and_what_it_has_not_done() {
    let world = World::new();
    let store = world.store();
    let last = append(&store, "a", 1..=3);
    let topic = store.topic(NUMBERS, "a").unwrap();
    done(&topic.on_event("ship", options(), failing(9)).unwrap(), last);
    done(&store.on_event(NUMBERS, "audit", options().shard(0, 1), failing(9)).unwrap(), last);
    append(&store, "b", 1..=5);
    let head = append(&store, "a", 4..=5);
    // One that stands before a record and tries it again and again.
    let stuck = store.on_event(NUMBERS, "stuck", options(), failing(0)).unwrap();
    until("a third attempt", || stuck.status().stuck >= 3);

    let run = world.tool(&["consumers"], &["--json"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let lines = run.of_type("consumer");
    assert_eq!(lines.len(), 3);
    let ship = named(&lines, "ship");
    assert_eq!((&ship["kind"], &ship["key"], &ship["shard"]), (&"number".into(), &"a".into(), &Value::Null));
    assert_eq!(
        (&ship["offset"], &ship["head"], &ship["lag"]),
        (&last.raw().into(), &head.raw().into(), &2.into())
    );
    assert_eq!(
        (&ship["attempts"], &ship["open_by"], &ship["same_era"]),
        (&0.into(), &Value::Null, &true.into())
    );
    assert!(ship["next_time"].is_string() && ship["age_ns"].is_string() && ship["written_ns"].is_string());
    let audit = named(&lines, "audit");
    assert_eq!((&audit["key"], &audit["lag"], &audit["shard"][1]), (&Value::Null, &7.into(), &1.into()));
    let stuck_line = named(&lines, "stuck");
    assert_eq!((&stuck_line["offset"], &stuck_line["lag"]), (&0.into(), &10.into()));
    assert!(stuck_line["attempts"].as_u64().unwrap() >= 3 && stuck_line["open_by"].is_string());
    assert_eq!(stuck_line["cause"], "1 is too much");
    stuck.close().unwrap();
    store.close().unwrap();

    let run = world.tool(&["consumers"], &[]);
    let row = run.rows().into_iter().find(|row| row[0] == "audit").unwrap();
    assert_eq!((row[1], row[4], row[9]), ("number part 0/1", "7", "ended"));
    assert!(run.stderr.contains("\"stuck\" of number has tried its next record"), "{}", run.stderr);
    assert!(run.stderr.contains("1 is too much"), "{}", run.stderr);
}

#[test]
fn thresholds_make_it_a_health_check() {
    let world = World::new();
    ship_is_two_behind(&world);
    let over = |more: &[&str]| world.tool(&["consumers"], more);
    assert_eq!(over(&["--max-lag", "2", "--max-age", "1d"]).code, Some(0));
    let run = over(&["--max-lag", "1", "--json"]);
    assert_eq!((run.code, &run.of_type("consumer")[0]["over"]), (Some(1), &serde_json::json!(["lag"])));
    assert_eq!(run.of_type("summary")[0]["over"], 1);
    assert!(run.stderr.contains("consumer \"ship\" of number/a: 2 records behind, over 1"), "{}", run.stderr);
    let run = over(&["--max-age", "0s"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("its next record has waited"), "{}", run.stderr);
    assert_eq!(over(&["--max-age", "0s", "--kind", "other"]).code, Some(0));
}

#[test]
fn a_store_that_was_restored_has_consumers_whose_places_are_of_another_era() {
    let world = World::new();
    let store = world.store();
    let last = append(&store, "a", 1..=3);
    let topic = store.topic(NUMBERS, "a").unwrap();
    done(&topic.on_event("ship", options(), failing(9)).unwrap(), last);
    store.close().unwrap();
    let (export, other) = (format!("{}.lines", world.path()), format!("{}.other", world.path()));
    assert_eq!(run(&["export", &world.path(), "-o", &export]).code, Some(0));
    assert_eq!(run(&["import", &export, &other]).code, Some(0));
    let lines = run(&["consumers", &other, "--json"]).of_type("consumer");
    assert_eq!((&lines[0]["same_era"], &lines[0]["lag"]), (&false.into(), &Value::Null));
    let run = run(&["consumers", &other, "--max-lag", "1000"]);
    assert_eq!((run.code, run.rows()[0][9]), (Some(1), "other era"), "{}", run.stderr);
}

/// A store in which `ship` has parked 5 and 6 of `a`, and 7 of `b`, and given nothing else up.
fn parked(world: &World) -> Store {
    let store = world.store();
    append(&store, "a", [1, 5, 6]);
    let last = append(&store, "b", [7]);
    let options = options().max_attempts(2).park();
    done(&store.on_event(NUMBERS, "ship", options, failing(4)).unwrap(), last);
    store
}

#[test]
fn what_is_parked_is_shown_record_by_record_and_tried_again_or_given_up() {
    let world = World::new();
    let store = parked(&world);
    let run = consumer(&world, "parked", &["ship", "--json"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let entities = run.of_type("parked");
    assert_eq!(entities.len(), 2);
    let a = entities.iter().find(|line| line["key"] == "a").unwrap();
    assert_eq!((&a["records"], &a["attempts"], &a["cause"]), (&2.into(), &2.into(), &"5 is too much".into()));
    let letters = run.of_type("letter");
    let payloads: Vec<_> =
        letters.iter().map(|letter| (letter["key"].clone(), letter["payload"].clone())).collect();
    assert_eq!(payloads, [("a".into(), 5.into()), ("a".into(), 6.into()), ("b".into(), 7.into())]);
    assert!(
        letters[0]["offset"].is_u64() && letters[0]["time_ns"].is_string() && letters[0]["stamp"].is_string()
    );
    assert_eq!(run.of_type("summary")[0]["letters"], 3);
    let line = world.tool(&["consumers"], &["--json"]).of_type("consumer").remove(0);
    assert_eq!(
        (&line["parked_entities"], &line["parked_records"], &line["poisoned"]),
        (&2.into(), &3.into(), &2.into())
    );

    let rows = consumer(&world, "parked", &["ship", "--key", "b", "--payload", "hex"]);
    assert_eq!((rows.rows().len(), rows.rows()[0][0], rows.rows()[0][5]), (1, "number/b", "hex:07"));
    let none = consumer(&world, "parked", &["ship", "--key", "c"]);
    assert_eq!(none.code, Some(2));
    assert!(none.stderr.contains("entities of which something is: a, b"), "{}", none.stderr);

    // A plan changes nothing, also beside the writer, which a change needs gone.
    let plan = consumer(&world, "discard", &["ship", "--key", "a", "--json"]);
    assert_eq!((plan.code, &plan.of_type("plan")[0]["records"]), (Some(0), &2.into()));
    let next = plan.of_type("summary")[0]["next"].as_str().unwrap().to_owned();
    assert!(next.ends_with("ship --of number --key a --execute"), "{next}");
    assert_eq!(consumer(&world, "discard", &["ship", "--key", "a", "--execute"]).code, Some(3));
    store.close().unwrap();
    assert_eq!(consumer(&world, "parked", &["ship", "--json"]).of_type("letter").len(), 3);
    assert_eq!(consumer(&world, "discard", &["ship"]).code, Some(2), "it is not said of which");

    let run = consumer(&world, "discard", &["ship", "--key", "a", "--execute"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stdout.contains("done\tgave up what was parked of 1 entities"), "{}", run.stdout);
    let run = consumer(&world, "retry", &["ship", "--all", "--execute"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(consumer(&world, "parked", &["ship", "--json"]).of_type("letter").len(), 1, "nobody runs it");

    // Who runs it tries them again, and what comes of the other is delivered.
    let store = world.store();
    let (tell, told) = channel();
    let handler = move |delivery: &Delivery<'_, u64>| Ok(tell.send(delivery.event)?);
    let running = store.on_event(NUMBERS, "ship", options().park().max_attempts(2), handler).unwrap();
    done(&running, append(&store, "a", [8]));
    let mut events: Vec<u64> = told.try_iter().collect();
    events.sort_unstable();
    assert_eq!(events, [7, 8]);
    store.close().unwrap();
    assert_eq!(consumer(&world, "parked", &["ship", "--json"]).json().len(), 2);
}

#[test]
fn what_was_given_up_is_shown_with_its_cause() {
    let world = World::new();
    let store = world.store();
    let last = append(&store, "a", [1, 5, 2, 6]);
    let topic = store.topic(NUMBERS, "a").unwrap();
    done(&topic.on_event("ship", options().max_attempts(3), failing(4)).unwrap(), last);
    // Another of the same name, with letters of its own.
    done(&store.on_event(NUMBERS, "ship", options().max_attempts(1), failing(5)).unwrap(), last);
    store.close().unwrap();
    let several = consumer(&world, "dead", &["ship"]);
    assert_eq!(several.code, Some(2));
    assert!(
        several.stderr.contains("--of number, or --of number/a")
            || several.stderr.contains("--of number/a, or --of number"),
        "{}",
        several.stderr
    );
    let run = consumer(&world, "dead", &["ship", "--of", "number/a", "--json"]);
    let letters = run.of_type("letter");
    assert_eq!(letters.len(), 2);
    assert_eq!(
        (&letters[0]["payload"], &letters[0]["attempts"], &letters[0]["cause"]),
        (&5.into(), &3.into(), &"5 is too much".into())
    );
    assert_eq!(
        (&letters[1]["payload"], &letters[1]["kind"], &letters[1]["key"]),
        (&6.into(), &"number".into(), &"a".into())
    );
    let rows = consumer(&world, "dead", &["ship", "--of", "number", "--limit", "1"]);
    assert_eq!((rows.rows().len(), rows.rows()[0][4], rows.rows()[0][5]), (1, "6 is too much", "6"));
    let none = consumer(&world, "dead", &["shop"]);
    assert_eq!(none.code, Some(2));
    assert!(none.stderr.contains("there are: ship of number"), "{}", none.stderr);
}

#[test]
fn one_that_was_retired_is_gone_and_holds_nothing_back() {
    let world = World::new();
    let store = parked(&world);
    let topic = store.topic(NUMBERS, "a").unwrap();
    let last = topic.head().unwrap();
    done(&topic.on_event("audit", options(), failing(9)).unwrap(), last);
    store.close().unwrap();
    let plan = consumer(&world, "retire", &["ship"]);
    assert_eq!(plan.code, Some(0));
    assert!(plan.stdout.contains("forgotten\t3 records that are parked"), "{}", plan.stdout);
    let names = || {
        let lines = world.tool(&["consumers"], &["--json"]).of_type("consumer");
        lines.iter().map(|line| line["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names().len(), 2, "a plan changes nothing");
    assert_eq!(consumer(&world, "retire", &["ship", "--execute"]).code, Some(0));
    assert_eq!(names(), ["audit"]);
    let store = world.store();
    assert!(store.consumers(NUMBERS).unwrap().is_empty());
    store.close().unwrap();
}

#[test]
fn one_that_is_suspended_is_over_any_threshold_and_goes_on_when_it_is_told_to() {
    let world = World::new();
    let store = world.store();
    append(&store, "a", [1]);
    let plane: Arc<dyn Backplane> = Arc::new(Local::over(store.journal()).unwrap());
    let other = |plane| {
        let journal = Options::new().background(false).in_memory().unwrap();
        Store::over(journal).with_backplane(plane)
    };
    let options = || options().crashes_max(1).grace(Duration::ZERO);
    // One that never comes out of its handler, as its process has ended there.
    let stores = [other(Elsewhere::over(&plane)), other(Arc::clone(&plane))];
    let ((enters, entered), (leave, left)) = (channel(), channel::<()>());
    let left = std::sync::Mutex::new(left);
    let held = move |_: &Delivery<'_, u64>| {
        enters.send(())?;
        let _ = left.lock().unwrap().recv();
        Err("too late".into())
    };
    let [first, second] = stores.each_ref().map(|store| store.topic(NUMBERS, "a").unwrap());
    let _first = first.on_event("ship", options(), held).unwrap();
    entered.recv().unwrap();
    let suspended = second.on_event("ship", options(), failing(9)).unwrap();
    until("the suspension", || suspended.status().state == ConsumerState::Suspended);
    let run = world.tool(&["consumers"], &["--max-lag", "100", "--json"]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let line = run.of_type("consumer").remove(0);
    assert_eq!(line["over"], serde_json::json!(["suspended"]));
    assert!(line["suspended"].is_string() && line["crashes"] == 1, "{line}");
    let check = world.tool(&["check"], &["--min-free", "0", "--json"]);
    let trouble = check.of_type("trouble").remove(0);
    assert_eq!((&trouble["gravity"], &trouble["about"]), (&"critical".into(), &"consumer".into()));
    assert!(trouble["next"].as_str().unwrap().contains("consumer resume"), "{trouble}");
    store.close().unwrap();
    drop(leave);

    let plan = consumer(&world, "resume", &["ship"]);
    assert_eq!(plan.code, Some(0), "{}", plan.stderr);
    assert_eq!(consumer(&world, "resume", &["ship", "--execute"]).code, Some(0));
    let line = world.tool(&["consumers"], &["--json"]).of_type("consumer").remove(0);
    assert_eq!((&line["suspended"], &line["crashes"]), (&Value::Null, &0.into()));
    let again = consumer(&world, "resume", &["ship", "--execute"]);
    assert_eq!(again.code, Some(2));
    assert!(again.stderr.contains("is not suspended"), "{}", again.stderr);
}

#[test]
fn what_is_written_of_a_consumer_and_cannot_be_read_is_a_finding() {
    use esker::backplane::{Put, Revision, Stamp, Step, WriterId};
    let world = World::new();
    let store = world.store();
    let last = append(&store, "a", [1]);
    let topic = store.topic(NUMBERS, "a").unwrap();
    done(&topic.on_event("ship", options(), failing(9)).unwrap(), last);
    let bad = [&b"\xffesker.consumer "[..], &[7; 16]].concat();
    let stamp = Stamp::new(WriterId::random().unwrap(), 1);
    let put = Put::new(&bad, Revision::NEVER, Some(b"no progress"), stamp);
    store.backplane().unwrap().commit(&[Step::Put(put)]).unwrap();
    store.close().unwrap();
    let run = world.tool(&["consumers"], &["--json"]);
    assert_eq!((run.code, run.of_type("consumer").len()), (Some(1), 1), "{}", run.stdout);
    assert!(run.of_type("finding")[0]["what"].as_str().unwrap().contains("progress of a consumer"));
    // The one that is meant is found all the same.
    assert_eq!(consumer(&world, "dead", &["ship"]).code, Some(0));
}

/// Nobody may conclude that nothing is parked.
#[test]
fn one_of_which_what_is_written_is_damaged_is_not_said_to_be_none() {
    let world = World::new();
    parked(&world).close().unwrap();
    let cells = world.tool(&["dump"], &["--entity", "esker.cells/*", "--json"]).of_type("entry");
    let of_consumers = cells.iter().filter(|cell| cell["key"].as_str().unwrap().contains("636f6e73756d6572"));
    for cell in of_consumers {
        let (segment, offset) = cell["position"].as_str().unwrap().split_once(':').unwrap();
        let offset: u64 = offset.parse().unwrap();
        crate::support::flip(std::path::Path::new(&world.path()), segment.parse().unwrap(), offset + 70);
    }
    assert_eq!(world.tool(&["consumers"], &[]).code, Some(1));
    for what in ["parked", "dead"] {
        let run = consumer(&world, what, &["ship"]);
        assert_eq!(run.code, Some(1), "{what}: {}", run.stderr);
        assert!(
            run.stderr.contains("\"ship\"") && !run.stderr.contains("no such consumer"),
            "{what}: {}",
            run.stderr
        );
    }
}

#[test]
fn a_record_that_is_too_large_to_be_copied_is_read_in_its_topic() {
    const TEXTS: Topic<String> = Topic::new("text");
    let world = World::new();
    let options_of_store = Options::new().segment_bytes(4 << 20).background(false);
    let store = Store::over(options_of_store.open(world.path()).unwrap());
    let topic = store.topic(TEXTS, "a").unwrap();
    let last = topic.append(&"x".repeat(300 << 10)).unwrap();
    let refuses = |_: &Delivery<'_, String>| Err("never".into());
    let running = topic.on_event("ship", options().max_attempts(1), refuses).unwrap();
    done(&running, last);
    store.close().unwrap();
    let letters = consumer(&world, "dead", &["ship", "--json"]).of_type("letter");
    assert_eq!(letters.len(), 1);
    assert!(letters[0]["payload"].as_str().unwrap().len() == 300 << 10);
    assert!(last > Offset::BEGINNING);
}

/// As entries are, by a program of the user's.
#[test]
fn what_is_set_aside_is_translated_as_entries_are() {
    let world = World::new();
    parked(&world).close().unwrap();
    let program = "while read -r line; do echo \"it is ${#line}\" | cut -c1-5; done";
    let translated = consumer(&world, "parked", &["ship", "--translate", program]);
    assert_eq!(translated.code, Some(0), "{}", translated.stderr);
    assert!(translated.rows().iter().all(|row| row[5] == "it is"), "{}", translated.stdout);
    let lines = consumer(&world, "parked", &["ship", "--translate", program, "--json"]);
    let letters = lines.of_type("letter");
    assert!(letters.len() == 3 && letters.iter().all(|line| line["payload_text"] == "it is"), "{letters:?}");
    let given_up = World::new();
    let store = given_up.store();
    let last = append(&store, "a", [1, 5]);
    done(&store.on_event(NUMBERS, "ship", options().max_attempts(1), failing(4)).unwrap(), last);
    store.close().unwrap();
    let dead = consumer(&given_up, "dead", &["ship", "--translate", program]);
    assert_eq!((dead.code, dead.rows()[0][5]), (Some(0), "it is"), "{}", dead.stderr);
}
