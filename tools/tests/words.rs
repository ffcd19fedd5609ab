//! What the tool says beside what it shows: why nothing is shown, what to run next, what a word means, what was meant.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};

use esker::{Facts, Kind, Options, Store, Window};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use support::{ENTRIES, Sample, on, run, tool};

#[derive(Serialize, Deserialize)]
struct Vessel {
    knots: u32,
}

const VESSEL: Kind<Vessel> = Kind::new("vessel").events();
const CALL: Facts<String> = Facts::new("call");

/// Two vessels with events, and a fact about one.
fn harbour() -> Sample {
    let sample = Sample::empty();
    let store = Store::over(Options::new().window(Window::Manual).open(sample.path()).unwrap());
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "Adele", &Vessel { knots: 1 }).unwrap();
    radar.assert(VESSEL, "Grace", &Vessel { knots: 2 }).unwrap();
    store.flush().unwrap();
    store.append(CALL, "Adele", &"arrived".to_owned()).unwrap();
    drop(radar);
    store.close().unwrap();
    sample
}

#[test]
fn an_entity_that_is_not_there_is_told_with_those_that_are_called_like_it() {
    let sample = harbour();
    for (command, near) in [
        (&["dump", "--entity", "vessel/Adela"][..], "vessel/Adele"),
        (&["dump", "--entity", "vessel/Adela", "--reverse"], "vessel/Adele"),
        (&["events", "vessel", "--entity", "vessel/Adela"], "vessel/Adele"),
        (&["export", "--entity", "call/Adela"], "call/Adele"),
    ] {
        let shown = on(command, &sample.text(), &[]);
        let said = format!("no entity {}; near it: {near}\n", near.replace("Adele", "Adela"));
        assert_eq!(shown.code, Some(0), "{}", shown.stderr);
        assert!(shown.stderr.ends_with(&said), "{command:?} {}", shown.stderr);
        assert_eq!(shown.stderr.lines().count(), 1, "{}", shown.stderr);
    }
    // Of facts, too, and nothing is recommended that shows nothing.
    let fact = on(&["state", "call/Adela"], &sample.text(), &[]);
    assert_eq!(fact.code, Some(2));
    assert!(fact.stderr.contains("no entity call/Adela; near it: call/Adele"), "{}", fact.stderr);
    let far = on(&["state", "call/Nobody"], &sample.text(), &[]).stderr;
    assert!(far.contains(&format!("`esker entities {} --kind call` shows all", sample.text())), "{far}");
    let far = on(&["dump", "--entity", "call/Nobody"], &sample.text(), &[]).stderr;
    assert!(far.contains(&format!("`esker entities {} --kind call` shows all", sample.text())), "{far}");
}

#[test]
fn a_filter_that_keeps_everything_out_says_so() {
    let sample = harbour();
    let later = on(&["dump", "--since", "2999-01-01"], &sample.text(), &[]);
    assert!(later.stderr.contains("no entry passes the filters; the newest is seq "), "{}", later.stderr);
    let other = on(&["dump", "--entity", "vessel/Ad*", "--until", "1999-01-01"], &sample.text(), &[]);
    assert!(other.stderr.contains("vessel/Ad* is there, and nothing about it passes"), "{}", other.stderr);
    // Whatever shows something, and a store without filters, says nothing.
    for command in [&["dump", "--entity", "vessel/Adele"][..], &["dump"], &["export"], &["events", "vessel"]]
    {
        assert_eq!(on(command, &sample.text(), &[]).stderr, "", "{command:?}");
    }
    // One note is enough.
    let unknown = on(&["dump", "--entity", "vesel/Adele"], &sample.text(), &[]).stderr;
    assert_eq!(unknown.lines().count(), 1, "{unknown}");
}

/// Follows a store until the last entry so far was shown: from then on it waits.
fn follow(sample: &Sample) -> Child {
    let mut child = tool(&["dump", &sample.text(), "--follow", "--last", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with(&format!("{ENTRIES}\t")), "{line}");
    child
}

fn ends_as_gone(mut child: Child) {
    let mut said = String::new();
    child.stderr.as_mut().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3), "{said}");
    assert!(said.contains("the store is not there any more: it was removed or replaced"), "{said}");
}

#[test]
fn a_follower_ends_when_its_store_is_removed() {
    let sample = Sample::new();
    let child = follow(&sample);
    std::fs::remove_dir_all(sample.path()).unwrap();
    ends_as_gone(child);
}

#[test]
fn a_follower_ends_when_another_store_takes_the_place_of_its_own() {
    let (sample, other) = (Sample::new(), Sample::new());
    let child = follow(&sample);
    for file in std::fs::read_dir(other.path()).unwrap() {
        let file = file.unwrap();
        let place = sample.path().join(file.file_name());
        std::fs::remove_file(&place).unwrap_or_default();
        std::fs::copy(file.path(), place).unwrap();
    }
    ends_as_gone(child);
}

#[test]
fn a_follower_waits_for_a_kind_that_is_not_there_yet() {
    let sample = Sample::new();
    let mut child = tool(&["dump", &sample.text(), "--follow", "--kind", "later"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut said).unwrap();
    assert!(
        said.contains("no kind matches \"later\"") && said.contains("not yet there, and waited for"),
        "{said}"
    );
    let journal = sample.open();
    let later = journal.kind("later").unwrap();
    journal.append(esker::Record::new(later, b"k", b"1")).unwrap();
    journal.close().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("\tlater\tk\t"), "{line}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_lets_go_of_something_names_the_compaction_that_frees_it() {
    let sample = Sample::new();
    let next = format!("esker compact {}", sample.text());
    for (command, done) in [
        (&["cursor", "retire", &sample.text(), "audit", "--execute"][..], "retired at 120"),
        (&["keep", &sample.text(), "note", "latest", "--execute"], "keeps latest"),
        (&["keep", &sample.text(), "note", "nothing", "--execute", "--json"], "keeps nothing"),
    ] {
        let did = run(command);
        assert_eq!(did.code, Some(0), "{}", did.stderr);
        if command.contains(&"--json") {
            let summary = did.json().pop().unwrap();
            assert_eq!((&summary["done"], &summary["next"]), (&done.into(), &(&*next).into()));
            assert_eq!(summary["executed"], true);
        } else {
            let rows = did.rows();
            assert_eq!(rows[rows.len() - 2..], [["done", done], ["next", &next]], "{}", did.stdout);
        }
    }
    assert_eq!(run(&["compact", &sample.text()]).code, Some(0));
}

#[test]
fn space_made_ahead_is_no_reason_to_drop_anything() {
    let sample = Sample::empty();
    let journal = Options::new().open(sample.path()).unwrap();
    let note = journal.kind("note").unwrap();
    journal.append(esker::Record::new(note, b"k", b"one")).unwrap();
    journal.close().unwrap();
    let plan = run(&["compact", &sample.text()]);
    assert!(plan.stdout.contains("whose file is made ahead"), "{}", plan.stdout);
    assert!(!plan.stdout.contains("every kind keeps all"), "{}", plan.stdout);
    // As a store with cursors has it.
    let reserve = 65536_u64;
    std::fs::write(sample.path().join("RESERVE"), [0; 65536]).unwrap();
    let info = run(&["info", &sample.text()]);
    assert!(info.stdout.contains(&format!("RESERVE keeps {reserve} for")), "{}", info.stdout);
    let json = &run(&["info", &sample.text(), "--json"]).of_type("store")[0];
    assert_eq!(json["reserve_bytes"], reserve);
    assert!(json["disk_bytes"].as_u64().unwrap() >= json["log_bytes"].as_u64().unwrap());
}

#[test]
fn a_word_that_the_tool_shows_is_explained() {
    for word in [
        "torn",
        "era",
        "floor",
        "part",
        "stands for",
        "follows",
        "whole from",
        "settled",
        "may hold",
        "durable",
        "ends",
        "more",
        "keyed_from",
        "life",
        "generation",
        "cursor",
        "held back",
        "seal",
        "spare",
        "topic",
        "image",
        "cell",
    ] {
        let page = run(&["explain", word]);
        assert_eq!((page.code, &*page.stderr), (Some(0), ""), "{word}");
        let names: Vec<&str> = page.rows().iter().map(|row| row[0]).collect();
        assert_eq!(names[..3], ["code", "means", "see"], "{word}");
        // And its own, not that of another word beside which it stands.
        let own = ["stands for", "seal", "whole from", "held back"];
        assert!(
            own.contains(&word) || page.rows()[0][1] == format!("{word} (word)"),
            "{word}: {}",
            page.stdout
        );
    }
    let json = run(&["explain", "torn", "--json"]).of_type("explanation");
    assert_eq!((&json[0]["of"], json[0].get("cause")), (&"word".into(), None));
}

/// The words of few of which one stands in a field of JSON lines: those that the schema lists.
fn codes(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            let words = fields.get("enum").and_then(Value::as_array).into_iter().flatten();
            found.extend(words.filter_map(Value::as_str).map(str::to_owned));
            fields.values().for_each(|field| codes(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| codes(item, found)),
        _ => {}
    }
}

#[test]
fn every_word_that_stands_for_something_has_a_page() {
    let mut words = BTreeSet::new();
    let schema = run(&["schema"]);
    codes(&serde_json::from_str(&schema.stdout).unwrap(), &mut words);
    for word in ["critical", "sealed", "other_era", "synthetic", "tail", "crashed", "incomplete", "different"]
    {
        assert!(words.contains(word), "the schema lists {word}: {words:?}");
    }
    words.extend(esker::ErrorKind::ALL.iter().map(|kind| kind.name().to_owned()));
    // The names of what `info` and `verify` say, of a store with something of everything and of a damaged one.
    let damaged = Sample::new();
    support::flip(&damaged.path(), 2, 1000);
    for store in [&harbour(), &damaged] {
        for command in ["info", "verify"] {
            let shown = on(&[command], &store.text(), &[]);
            words.extend(shown.rows().iter().map(|row| row[0].to_owned()));
        }
    }
    // The next step, and where to read more: they are no words for anything.
    let without: Vec<&String> = words
        .iter()
        .filter(|word| !["next", "more"].contains(&word.as_str()))
        .filter(|word| run(&["explain", word]).code != Some(0))
        .collect();
    assert!(without.is_empty(), "tools/src/explain has no page for {without:?}");
}

#[test]
fn columns_have_their_names_in_a_pipe_where_somebody_asks() {
    let sample = harbour();
    for (command, first) in [
        (&["segments"][..], "segment\tstate"),
        (&["dump"], "seq\ttime\toperation\tkind\tkey\tgeneration\tflags\tpayload"),
        (&["events", "vessel"], "seq\ttime\tevent\tsource"),
        (&["state", "vessel"], "entity\tversion\tasserted by\tseq\ttime\tpayload"),
    ] {
        let (with, without) = (on(command, &sample.text(), &["--header"]), on(command, &sample.text(), &[]));
        let (heading, rest) = with.stdout.split_once('\n').unwrap();
        assert!(heading.starts_with(first), "{heading}");
        assert_eq!(rest, without.stdout, "{command:?}");
        assert_eq!(heading.split('\t').count(), without.rows()[0].len(), "{command:?}");
    }
}

#[test]
fn state_of_a_kind_or_of_all_needs_no_pattern() {
    let sample = harbour();
    let all = on(&["state", "vessel/*"], &sample.text(), &[]);
    assert_eq!(all.rows().len(), 2);
    assert_eq!(on(&["state", "vessel"], &sample.text(), &[]).stdout, all.stdout);
    let everything = on(&["state"], &sample.text(), &[]);
    assert_eq!((everything.code, &everything.stdout), (Some(0), &all.stdout), "{}", everything.stderr);
    let facts = Sample::new();
    let none = on(&["state"], &facts.text(), &["--json"]);
    assert_eq!((none.code, none.json().len()), (Some(0), 2));
    assert!(none.stderr.contains("no kind of this store has rows"), "{}", none.stderr);
}

#[test]
fn a_command_line_that_is_none_is_answered_with_what_may_be_meant() {
    let sample = Sample::new();
    let store = sample.text();
    for (words, said) in [
        (&["ls", &store][..], "esker entities PATH"),
        (&[&*store], &*format!("esker info {store}")),
        (&["log", &store], "esker dump PATH"),
        (&["doctor", &store], "esker check PATH"),
        (&["dump", &store, "--key", "k"], "--entity KIND/KEY"),
        (&["folds", &store], "esker topics PATH"),
        (&["parked", &store], "esker consumer parked PATH NAME"),
        (&["dead", &store], "esker consumer dead PATH NAME"),
        (&["retire", &store], "esker consumer retire PATH NAME"),
        // Keys where something else is asked for, and keys alone.
        (&["get", &store, "k1"], "esker state PATH KIND/KEY"),
        (&["dump", &store, "--entity", "k1"], "'*/k1' is a key of any kind"),
    ] {
        let answer = run(words);
        assert_eq!((answer.code, &*answer.stdout), (Some(2), ""), "{words:?}");
        assert!(answer.stderr.contains(said), "{words:?} {}", answer.stderr);
    }
    let top = run(&["entities", &store, "--limit", "2"]);
    assert_eq!((top.code, top.rows().len()), (Some(0), 2), "{}", top.stderr);
    assert_eq!(run(&["dump", &store, "-n", "3"]).rows().len(), 3);
    assert_eq!(run(&["dump", &store, "--tail", "3"]).rows().len(), 3);
    assert_eq!(run(&["cursors", &store, "--max-bytes", "10M"]).code, Some(0));
    let wrong = run(&["cursors", &store, "--max-bytes", "10X"]);
    assert!(wrong.stderr.contains("is no number of bytes"), "{}", wrong.stderr);
}

#[test]
fn a_key_of_bytes_that_are_no_text_has_a_form_that_is_told() {
    use std::os::unix::ffi::OsStrExt;
    let sample = Sample::new();
    let raw = std::ffi::OsStr::from_bytes(b"note/\xff");
    let answer = tool(&["dump", &sample.text(), "--entity"]).arg(raw).output().unwrap();
    let stderr = String::from_utf8(answer.stderr).unwrap();
    assert_eq!(answer.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("hex:00ff"), "{stderr}");
}

/// What is at the path, and what to type.
#[test]
fn a_path_that_is_no_store_is_told_with_what_is_there() {
    let sample = Sample::new();
    let above = sample.directory.path();
    let at = |name: &str| above.join(name).to_str().unwrap().to_owned();
    std::fs::create_dir(at("empty")).unwrap();
    std::fs::create_dir_all(at("other/nothing")).unwrap();
    std::fs::write(at("other/some.txt"), "text").unwrap();
    let info = format!("esker info {}", sample.text());
    let manifest = format!("{}/MANIFEST", sample.text());
    for (path, said) in [
        (above.to_str().unwrap(), &*info),
        (&manifest, &info),
        (&at("a.eskr"), &info),
        (&at("b/c"), "no store there"),
        (&at("empty"), "is an empty directory"),
        (&at("other"), "is a directory with nothing, some.txt in it"),
        (&at("other/some.txt"), "is a file; a store is a directory"),
    ] {
        for command in ["info", "verify", "dump", "check"] {
            let answer = run(&[command, path]);
            assert_eq!((answer.code, &*answer.stdout), (Some(3), ""), "{command} {path}: {}", answer.stderr);
            assert!(answer.stderr.contains(said), "{command} {path}: {}", answer.stderr);
            assert!(!answer.stderr.contains("to make one in"), "who reads makes nothing: {}", answer.stderr);
        }
    }
}

#[test]
fn a_segment_that_a_crash_ended_frightens_nobody() {
    let sample = Sample::empty();
    let journal = sample.open();
    let note = journal.kind("note").unwrap();
    journal.append(esker::Record::new(note, b"k", b"1")).unwrap();
    journal.sync().unwrap();
    let last = journal.append(esker::Record::new(note, b"k", b"2")).unwrap().seq;
    let position = journal.view().get(last).unwrap().unwrap().position();
    let torn = sample.directory.path().join("b.esker");
    std::fs::create_dir(&torn).unwrap();
    for file in std::fs::read_dir(sample.path()).unwrap().map(|file| file.unwrap().path()) {
        std::fs::copy(&file, torn.join(file.file_name().unwrap())).unwrap();
    }
    journal.close().unwrap();
    support::flip(&torn, u64::from(position.segment()), position.offset() + 57);
    let journal = Options::new().open(&torn).unwrap();
    journal.append(esker::Record::new(note, b"k", b"3")).unwrap();
    journal.close().unwrap();
    let store = torn.to_str().unwrap();
    assert_eq!(on(&["verify"], store, &[]).code, Some(0));
    let shown = on(&["segments"], store, &[]);
    assert!(shown.rows().iter().any(|row| row[1] == "torn"), "{}", shown.stdout);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    assert!(
        shown.stderr.contains("torn is no damage") && shown.stderr.contains("esker explain torn"),
        "{}",
        shown.stderr
    );
    assert_eq!(on(&["segments", "--json"], store, &[]).stderr, "");
    assert_eq!(on(&["segments"], &sample.text(), &[]).stderr, "");
}

#[test]
fn what_is_given_in_the_wrong_place_is_named() {
    let sample = Sample::new();
    let lines = sample.directory.path().join("lines.json");
    assert_eq!(run(&["export", &sample.text(), "-o", lines.to_str().unwrap()]).code, Some(0));
    let turned = run(&["import", &sample.text(), lines.to_str().unwrap()]);
    let right = format!("esker import {} {}", lines.display(), sample.text());
    assert!(turned.stderr.contains(&right), "{}", turned.stderr);
    assert_eq!(turned.code, Some(2));
    let target = sample.directory.path().join("restored");
    let restored = run(&["restore", &sample.text(), target.to_str().unwrap()]);
    assert!(
        restored.stderr.contains(&format!("esker backup {} BACKUP", sample.text())),
        "{}",
        restored.stderr
    );
    assert_eq!(restored.code, Some(2));
    let page = run(&["report", &sample.text(), "-o", "/nowhere/at/all/x.html"]);
    assert!(page.stderr.contains("there is no directory /nowhere/at/all"), "{}", page.stderr);
    assert!(!page.stderr.contains(".tmp"), "{}", page.stderr);
}
