//! The history of one entity, which an index finds, says what a walk over the whole log says of it, in little memory.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[path = "../examples/harbour.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, of which only the store is wanted")]
mod harbour;
#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;

use std::process::{Command, Stdio};

use esker::{Durability, Kind, Options, Record, Region, Store, WatchOptions, Window};
use serde_json::Value;
use support::{Run, Sample, flip, on, place, run};

/// What a dump shows with these words.
fn entries(store: &str, more: &[&str]) -> Vec<Value> {
    on(&["dump"], store, &[more, &["--json"]].concat()).of_type("entry")
}

/// Words that narrow a history, each with what becomes of the whole of it.
type Narrowed<'a> = (&'a [&'a str], fn(Vec<Value>) -> Vec<Value>);
const NARROWED: &[Narrowed<'_>] = &[
    (&[], |all| all),
    (&["--reverse"], |all| all.into_iter().rev().collect()),
    (&["--limit", "3"], |all| all.into_iter().take(3).collect()),
    (&["--reverse", "--limit", "3"], |all| all.into_iter().rev().take(3).collect()),
    (&["--last", "0"], |_| Vec::new()),
    (&["--last", "4"], |all| last(all, 4)),
    (&["--last", "4", "--limit", "2"], |all| last(all, 4).into_iter().take(2).collect()),
    (&["--last", "4", "--reverse"], |all| all.into_iter().rev().take(4).collect()),
    (&["--last", "100000"], |all| all),
    (&["--seq", "40..200"], |all| within(all, 40, 200)),
    (&["--seq", "40..200", "--reverse"], |all| within(all, 40, 200).into_iter().rev().collect()),
    (&["--seq", "40..200", "--last", "3"], |all| last(within(all, 40, 200), 3)),
    (&["--seq", "200.."], |all| within(all, 200, u64::MAX)),
];

fn last(mut all: Vec<Value>, count: usize) -> Vec<Value> {
    all.split_off(all.len().saturating_sub(count))
}

fn within(mut all: Vec<Value>, first: u64, last: u64) -> Vec<Value> {
    all.retain(|line| (first..=last).contains(&line["seq"].as_u64().unwrap()));
    all
}

/// Each entity's history is that of the whole log without the others, however it is asked for.
fn check_all(store: &str) {
    let all = entries(store, &[]);
    assert!(all.iter().all(|line| line["batch"].is_string()));
    let mut entities: Vec<String> = all.iter().map(entity).collect();
    entities.sort();
    entities.dedup();
    assert!(entities.len() > 3);
    for name in entities {
        let of_it: Vec<Value> = all.iter().filter(|line| entity(line) == name).cloned().collect();
        for (words, narrow) in NARROWED {
            let found = entries(store, &[&["--entity", &name], *words].concat());
            assert_eq!(found, narrow(of_it.clone()), "{name} {words:?}");
        }
    }
}

fn entity(line: &Value) -> String {
    format!("{}/{}", line["kind"].as_str().unwrap(), line["key"].as_str().unwrap())
}

/// A store with batches over several entities, small and large, and a cursor that moves between and in them.
fn with_batches() -> Sample {
    let sample = Sample::empty();
    let journal = sample.open();
    let note = journal.kind("note").unwrap();
    let mut watcher = journal.watch_with("reader", Region::all(), WatchOptions::new()).unwrap();
    for round in 0..60_usize {
        let texts: Vec<(String, String)> = (0..=round % 7)
            .map(|nth| (format!("k{}", (round + nth) % 4), format!("{round} {nth} {}", "x".repeat(150))))
            .collect();
        let mut batch = journal.batch();
        texts
            .iter()
            .for_each(|(key, text)| _ = batch.push(Record::new(note, key.as_bytes(), text.as_bytes())));
        let mut seen = None;
        while let Some(entry) = watcher.try_next().unwrap() {
            seen = Some(entry.seq());
        }
        if let Some(seen) = seen.filter(|_| round % 3 == 0) {
            batch.move_cursor(&watcher, seen).unwrap();
        }
        batch.commit().unwrap();
        if round % 4 == 0 {
            watcher.checkpoint().unwrap();
        }
        journal.append(Record::new(note, b"alone", b"1")).unwrap();
    }
    drop(watcher);
    journal.close().unwrap();
    sample
}

#[test]
fn an_entity_s_history_is_the_same_by_its_index_and_by_a_walk() {
    let sample = with_batches();
    let all = entries(&sample.text(), &[]);
    let is_in_one = |line: &&Value| line["batch"] != line["position"];
    assert!(all.iter().filter(is_in_one).count() > 50, "the sample has no batches to speak of");
    check_all(&sample.text());
}

#[test]
fn an_entity_s_history_is_the_same_where_compaction_went_over_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    harbour::make(&path).unwrap();
    check_all(path.to_str().unwrap());
}

#[test]
fn an_entity_s_history_goes_on_behind_damage_and_names_it() {
    let sample = with_batches();
    let text = sample.text();
    let of_it = entries(&text, &["--entity", "note/k1"]);
    let middle = of_it[of_it.len() / 2]["seq"].as_u64().unwrap();
    let (segment, offset) = place(&text, middle);
    // Of its content, so that the frame is shown with what is wrong with it.
    flip(&sample.path(), segment, offset + 90);
    let seqs = |run: &Run| -> Vec<u64> {
        run.of_type("entry").iter().map(|line| line["seq"].as_u64().unwrap()).collect()
    };
    let expected: Vec<u64> = of_it.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    for (words, narrow) in NARROWED.iter().filter(|(words, _)| !words.contains(&"--limit")) {
        let found = on(&["dump", "--entity", "note/k1"], &text, &[words, &["--json"][..]].concat());
        let narrowed: Vec<u64> =
            narrow(of_it.clone()).iter().map(|line| line["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs(&found), narrowed, "{words:?}");
        let met = found.of_type("finding").iter().any(|line| line["first_seq"] == middle);
        assert_eq!(met, narrowed.contains(&middle), "{words:?}: {}", found.stdout);
        assert_eq!(found.code, Some(i32::from(met)), "{words:?}");
    }
    assert!(expected.contains(&middle));
}

#[test]
fn events_of_one_entity_have_the_fields_that_all_events_have() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Buoy {
        depth: u64,
    }
    const BUOY: Kind<Buoy> = Kind::new("buoy").events();
    let sample = Sample::empty();
    let options = Options::new().durability(Durability::Os).window(Window::Manual);
    let store = Store::over(options.open(sample.path()).unwrap());
    let (radar, pilot) = (store.source("radar").unwrap(), store.source("pilot").unwrap());
    for depth in 0..20 {
        for (source, key) in [(&radar, "north"), (&pilot, "north"), (&radar, "south")] {
            source.assert(BUOY, key, &Buoy { depth }).unwrap();
        }
        store.flush().unwrap();
    }
    drop((radar, pilot));
    store.close().unwrap();
    let events = |more: &[&str]| {
        on(&["events", "buoy"], &sample.text(), &[more, &["--json", "--synthetic"]].concat()).of_type("event")
    };
    let mut all = events(&[]);
    all.retain(|line| line["key"] == "north");
    assert!(all.len() >= 40 && all.iter().any(|line| line["batch"] != line["position"]));
    assert_eq!(events(&["--entity", "buoy/north"]), all);
    assert_eq!(events(&["--entity", "buoy/n*"]), all);
    all.reverse();
    assert_eq!(events(&["--entity", "buoy/north", "--reverse"]), all);
}

#[test]
fn a_long_history_is_shown_in_little_memory() {
    const ENTRIES: u32 = 24_000;
    /// What the kernel gives the tool for data, in KiB: less than half of what the history's payloads take.
    const MOST: &str = "24576";
    let sample = Sample::empty();
    let options = Options::new().segment_bytes(16 << 20).durability(Durability::Os);
    let journal = options.open(sample.path()).unwrap();
    let hot = journal.kind("hot").unwrap();
    let payload = [b'x'; 2048];
    for _ in 0..ENTRIES {
        journal.append(Record::new(hot, b"one", &payload[..])).unwrap();
    }
    journal.close().unwrap();
    let lines = |words: &[&str]| {
        let limited = format!("ulimit -d {MOST} && exec \"$@\"");
        let done = Command::new("sh")
            .args(["-c", &limited, "sh", env!("CARGO_BIN_EXE_esker"), "dump", &sample.text()])
            .args(["--payload", "none"])
            .args(words)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
        done.stdout.iter().filter(|byte| **byte == b'\n').count()
    };
    let one = ["--entity", "hot/one"];
    for (words, count) in [
        (&[][..], 24_000),
        (&["--reverse"], 24_000),
        (&["--last", "20000"], 20_000),
        (&["--last", "20000", "--reverse"], 20_000),
        (&["--limit", "5"], 5),
    ] {
        assert_eq!(lines(&[&one, words].concat()), count, "{words:?}");
    }
    // Without an index segments are looked at from their beginnings: no more is in memory than is asked for.
    for (words, count) in [
        (&["--last", "100"][..], 100),
        (&["--reverse", "--limit", "100"], 100),
        (&["--reverse", "--kind", "cold"], 0),
    ] {
        assert_eq!(lines(words), count, "{words:?}");
    }
    assert_eq!(run(&["dump", &sample.text(), "--seq", "1"]).code, Some(0));
}
