//! `check` looks at what stands on the backplane, too.

use crate::world::{Other, World, fold, only_one_fold_was_waited_for, ship_is_two_behind};

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
