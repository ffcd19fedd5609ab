//! `compact` as a plan: who keeps events of topics, and what to do about it.

use esker::CompactOptions;
use serde_json::Value;

use crate::world::{
    All, NUMBERS, Other, World, append, done, failing, fold, keeps_for_folds, leave_the_segment, options,
    save,
};

fn held<'l>(lines: &'l [Value], by: &str, name: &str) -> Option<&'l Value> {
    lines.iter().find(|line| line["by"] == by && line["name"] == name)
}

#[test]
fn a_plan_names_the_folds_and_consumers_for_which_topics_keep_events() {
    let world = World::new();
    let store = world.store();
    keeps_for_folds(&store);
    let last = append(&store, "a", 1..=3);
    append(&store, "b", 1..=9);
    append(&store, "c", 1..=9);
    ["a", "b"].into_iter().for_each(|key| save::<All>(&store, key));
    let topic = store.topic(NUMBERS, "a").unwrap();
    done(&topic.on_event("ship", options(), failing(9)).unwrap(), last);
    append(&store, "a", 4..=6);
    store.close().unwrap();

    let run = world.tool(&["compact"], &["--json"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let lines = run.of_type("held");
    let all = held(&lines, "fold", "all").unwrap();
    assert_eq!(
        (&all["kind"], &all["topics"], &all["without_image"]),
        (&"number".into(), &2.into(), &1.into())
    );
    let ship = held(&lines, "consumer", "ship").unwrap();
    assert_eq!(
        (&ship["of"], &ship["topics"], &ship["from"]),
        (&"number/a".into(), &1.into(), &(last.raw() + 1).into())
    );
    assert!(ship["advice"].as_str().unwrap().contains("consumer retire"), "{ship}");
    let run = world.tool(&["compact"], &[]);
    assert!(run.stdout.contains("kept for\tfold all version 1 over number"), "{}", run.stdout);
    assert!(run.stdout.contains("ship --of number/a, if nobody consumes"), "{}", run.stdout);

    // What is needed by nobody is kept for nobody.
    let store = world.store();
    ["a", "b", "c"].into_iter().for_each(|key| save::<All>(&store, key));
    assert!(store.topic(NUMBERS, "a").unwrap().retire_consumer("ship").unwrap());
    store.close().unwrap();
    let run = world.tool(&["compact"], &["--json"]);
    assert!(run.of_type("held").is_empty(), "{}", run.stdout);
}

#[test]
fn a_second_fold_without_an_image_keeps_everything_and_is_named() {
    let world = World::new();
    let store = world.store();
    keeps_for_folds(&store);
    append(&store, "a", 1..=5);
    save::<All>(&store, "a");
    drop(fold::<Other>(&store, "a"));
    leave_the_segment(&store);
    let done = store.journal().compact(&CompactOptions::new().thorough(true)).unwrap();
    let oldest = store.topic(NUMBERS, "a").unwrap().read_oldest().unwrap().next().unwrap();
    assert_eq!(oldest.value().unwrap(), 1, "{done:?}");
    store.close().unwrap();
    let lines = world.tool(&["compact"], &["--json"]).of_type("held");
    assert!(held(&lines, "fold", "all").is_none());
    assert_eq!(held(&lines, "fold", "other").unwrap()["without_image"], 1);
}

#[test]
fn a_plan_that_comes_to_nothing_says_why() {
    let world = World::new();
    let store = world.store();
    keeps_for_folds(&store);
    append(&store, "a", 1..=5);
    store.close().unwrap();
    let run = world.tool(&["compact"], &[]);
    assert!(run.stdout.contains("no fold is registered with number"), "{}", run.stdout);
    let keep = world.tool(&["keep"], &["number", "latest", "--execute"]);
    assert_eq!(keep.code, Some(0), "{}", keep.stderr);
    let run = world.tool(&["compact"], &[]);
    assert!(
        run.stdout.contains("nothing can go yet: all of the log is in the segment that is being written"),
        "{}",
        run.stdout
    );
}
