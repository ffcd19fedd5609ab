//! `topics`: folds over topics, by what is saved of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use esker::backplane::{Append, IMAGES_STREAM, Stamp, Step, WriterId};
use esker::{At, ErrorKind, Fold, FoldOptions, Store, Verify};
use serde_json::Value;

use crate::support::{flip, place};
use crate::world::{All, NUMBERS, Other, World, append, fold, only_one_fold_was_waited_for, save};

/// The line of a fold over a topic.
fn of<'l>(lines: &'l [Value], key: &str, fold: &str) -> &'l Value {
    let found = lines.iter().find(|line| line["key"] == key && line["fold"] == fold);
    found.unwrap_or_else(|| panic!("no {fold} over {key} in {lines:?}"))
}

#[test]
fn each_fold_over_each_topic_is_shown_with_what_is_saved_and_what_is_not_in_it() {
    let world = World::new();
    let store = world.store();
    let saved = append(&store, "a", 1..=5);
    save::<All>(&store, "a");
    let head = append(&store, "a", 6..=8);
    append(&store, "b", [1]);
    save::<All>(&store, "b");
    drop(fold::<Other>(&store, "b"));
    // Of a stream that nobody folds there is nothing to say.
    store.append(esker::Facts::<u64>::new("plain"), "a", &1).unwrap();

    // Beside the writer.
    let run = world.tool(&["topics"], &["--json"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let lines = run.of_type("topic");
    assert_eq!(lines.len(), 4);
    let behind = of(&lines, "a", "all");
    assert_eq!(
        (&behind["kind"], &behind["version"], &behind["status"]),
        (&"number".into(), &1.into(), &"behind".into())
    );
    assert_eq!((&behind["offset"], &behind["head"]), (&saved.raw().into(), &head.raw().into()));
    assert_eq!(
        (&behind["lag"], &behind["registered"], &behind["generation"]),
        (&3.into(), &true.into(), &8.into())
    );
    assert_eq!(behind["image_bytes"], 6, "five small numbers and how many they are");
    assert!(behind["image_time"].is_string() && behind["image_age_ns"].is_string());
    assert_eq!(of(&lines, "b", "all")["status"], "whole");
    assert_eq!(of(&lines, "b", "all")["lag"], 0);
    let none = of(&lines, "b", "other");
    assert_eq!((&none["status"], &none["version"], &none["lag"]), (&"no_image".into(), &3.into(), &1.into()));
    assert!(none["offset"].is_null() && none["image_time_ns"].is_null());
    let summary = run.of_type("summary");
    assert_eq!(
        (&summary[0]["topics"], &summary[0]["folds"], &summary[0]["halted"]),
        (&2.into(), &4.into(), &0.into())
    );

    let run = world.tool(&["topics"], &["--entity", "number/b"]);
    let rows = run.rows();
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0][0], rows[0][1], rows[0][5], rows[0][8]), ("number/b", "all", "0", "whole"));
    assert_eq!((rows[1][1], rows[1][3], rows[1][8]), ("other", "-", "no image"));
    let run = world.tool(&["topics"], &["--kind", "pl*", "--json"]);
    assert_eq!((run.of_type("topic").len(), run.of_type("summary").len()), (0, 1));
    store.close().unwrap();
}

#[test]
fn a_fold_that_was_retired_is_not_registered_and_shown_only_where_there_is_an_image() {
    let world = World::new();
    let store = world.store();
    append(&store, "a", [1]);
    append(&store, "b", [1]);
    save::<All>(&store, "a");
    store.retire_fold(NUMBERS, "all").unwrap();
    store.close().unwrap();
    let lines = world.tool(&["topics"], &["--json"]).of_type("topic");
    assert_eq!(lines.len(), 1);
    assert_eq!((&lines[0]["key"], &lines[0]["registered"]), (&"a".into(), &false.into()));
    assert_eq!(world.tool(&["topics"], &[]).rows()[0][8], "whole, not registered");
}

#[test]
fn one_that_would_need_what_was_dropped_is_halted() {
    let world = World::new();
    let store = only_one_fold_was_waited_for(&world);
    assert_eq!(world.tool(&["topics"], &["--halted"]).code, Some(0), "what was dropped is in the image");
    // It comes too late: the events are gone.
    drop(fold::<Other>(&store, "a"));
    store.close().unwrap();
    let run = world.tool(&["topics"], &["--halted", "--json"]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let lines = run.of_type("topic");
    assert_eq!(lines.len(), 1);
    assert_eq!((&lines[0]["fold"], &lines[0]["status"]), (&"other".into(), &"lost".into()));
    assert_eq!(of(&world.tool(&["topics"], &["--json"]).of_type("topic"), "a", "all")["status"], "whole");
}

#[test]
fn one_that_diverged_is_halted_and_says_where() {
    static CHANGES: AtomicU64 = AtomicU64::new(0);
    struct Impure;
    impl Fold for Impure {
        type State = u64;
        type Event = u64;
        const NAME: &'static str = "impure";
        const VERSION: u32 = 1;
        fn fold(sum: &mut u64, _: u64, _: &At) {
            *sum += CHANGES.fetch_add(1, Ordering::SeqCst);
        }
    }
    let world = World::new();
    let store = world.store();
    let head = append(&store, "a", 1..=3);
    append(&store, "b", 1..=3);
    save::<All>(&store, "b");
    diverge::<Impure>(&store);
    store.close().unwrap();
    let run = world.tool(&["topics"], &["--halted", "--json"]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let lines = run.of_type("topic");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((&lines[0]["fold"], &lines[0]["status"]), (&"impure".into(), &"diverged".into()));
    assert_eq!(lines[0]["diverged_at"], head.raw());
    let run = world.tool(&["topics"], &["--halted"]);
    assert!(run.stderr.contains("diverged over number/a"), "{}", run.stderr);
}

/// Has a fold over `a` found out that it comes to something else each time.
fn diverge<F: Fold<Event = u64>>(store: &Store) {
    let topic = store.topic(NUMBERS, "a").unwrap();
    let fold = topic.fold_with::<F>(FoldOptions::new().images_every(0).verify(Verify::Images)).unwrap();
    let head = topic.head().unwrap();
    fold.read_after(head, Duration::from_secs(60)).unwrap();
    assert_eq!(fold.save_image().unwrap_err().kind(), ErrorKind::Halted);
}

#[test]
fn what_is_no_image_is_counted_and_damage_is_told_and_no_reason_to_stop() {
    let world = World::new();
    let store = world.store();
    let first = append(&store, "a", [1]);
    append(&store, "b", [1]);
    save::<All>(&store, "a");
    save::<All>(&store, "b");
    // Something else under the key of the images of one.
    let images = store.journal().kind_named(IMAGES_STREAM).unwrap().id;
    let view = store.journal().view();
    let last = view.kind(images).last().unwrap().unwrap();
    let append_bad =
        Append::new(IMAGES_STREAM, last.key(), b"no piece", Stamp::new(WriterId::from_raw(1), 1));
    store.backplane().unwrap().commit(&[Step::Append(append_bad)]).unwrap();
    store.close().unwrap();
    let lines = world.tool(&["topics"], &["--json"]).of_type("topic");
    assert_eq!(
        (&of(&lines, "b", "all")["unusable"], &of(&lines, "b", "all")["status"]),
        (&1.into(), &"whole".into())
    );

    let (segment, offset) = place(&world.path(), first.raw());
    flip(world.path().as_ref(), segment, offset + 60);
    let run = world.tool(&["topics"], &["--json"]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(
        run.of_type("finding").iter().any(|finding| finding["first_seq"] == first.raw()),
        "{}",
        run.stdout
    );
    assert_eq!(of(&run.of_type("topic"), "b", "all")["status"], "whole");
}
