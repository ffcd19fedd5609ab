//! Files, pipes and targets: what is whole, what is refused with its line, and that nothing is left of it.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use esker::Record;
use serde_json::{Value, json};

use super::place::{Place, export, lines, small};
use crate::support::{Sample, run, tool};

#[test]
fn a_live_store_is_exported_and_a_pipe_is_imported() {
    let place = Place::new();
    let sample = Sample::new();
    let journal = sample.open();
    let note = journal.kind("note").unwrap();
    journal.append(Record::new(note, b"live", b"one")).unwrap();
    let exported = run(&["export", &sample.text()]);
    assert_eq!(exported.code, Some(0));
    assert!(exported.stderr.contains("live, writer pid"), "{}", exported.stderr);
    let again = place.path("again.esker");
    let mut import = tool(&["import", "-", &again, "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    import.stdin.take().unwrap().write_all(exported.stdout.as_bytes()).unwrap();
    let output = import.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let lines = lines(&String::from_utf8(output.stdout).unwrap());
    assert_eq!((&lines[0]["command"], &lines[1]["entries"]), (&"import".into(), &301.into()));
    // The cursor of the sample is all that does not come along.
    let diff = run(&["diff", &sample.text(), &again, "--json"]);
    assert_eq!(diff.code, Some(1));
    let differences = diff.of_type("difference");
    assert_eq!((differences.len(), &differences[0]["name"]), (1, &"audit".into()), "{}", diff.stdout);
    journal.close().unwrap();
}

#[test]
fn a_file_is_whole_when_it_is_there_and_takes_nobody_s_place() {
    let place = Place::new();
    let (store, file) = (place.rich(), place.path("rich.jsonl"));
    let made = run(&["export", &store, "-o", &file]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert_eq!(made.rows().last().unwrap()[1], format!("esker import {file} NEW"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), export(&store, &[]));
    let names = place.names();
    let before = std::fs::read(&file).unwrap();
    let refused = run(&["export", &store, "-o", &file]);
    assert_eq!((refused.code, &*refused.stdout), (Some(2), ""));
    assert!(refused.stderr.contains("is there already"), "{}", refused.stderr);
    assert_eq!((std::fs::read(&file).unwrap(), place.names()), (before, names.clone()));
    let nowhere = place.path("none/x");
    assert_eq!(run(&["export", &store, "-o", &nowhere]).code, Some(4));
    assert_eq!(run(&["export", &nowhere, "-o", &place.path("x")]).code, Some(3));
    assert_eq!(run(&["import", &place.path("x"), &place.path("y")]).code, Some(4));
    let json = run(&["export", &store, "-o", &place.path("z"), "--json"]);
    assert_eq!(json.of_type("summary")[0]["entries"], 411);
    assert_eq!(place.names().difference(&names).collect::<Vec<_>>(), ["z"]);
}

#[test]
fn a_full_disk_is_an_error_and_a_closed_pipe_is_not() {
    let place = Place::new();
    let store = place.rich();
    for arguments in
        [vec!["export", &store], vec!["diff", &store, &store], vec!["upgrade", &store, "-o", "x"]]
    {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let status = tool(&arguments).stdout(full).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(4), "{arguments:?}");
    }
    let mut child = tool(&["export", &store]).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_import_that_is_interrupted_leaves_nothing() {
    let place = Place::new();
    let (lines, target) = (small(&place), place.path("new.esker"));
    let mut import =
        tool(&["import", "-", &target]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = import.stdin.take().unwrap();
    stdin.write_all(format!("{}\n{}\n", lines[0], lines[1]).as_bytes()).unwrap();
    let begun = std::time::Instant::now();
    while !Path::new(&target).join("0000000001.seg").exists() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the import does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    // Until it is whole it is no damaged store, but one that is being made.
    for command in ["info", "verify", "check"] {
        loop {
            let early = run(&[command, &target]);
            if early.stderr.contains(&format!("being made by pid {}", import.id())) {
                assert_eq!((early.code, early.stdout.as_str()), (Some(3), ""), "{command}");
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{command}: {}", early.stderr);
        }
    }
    let pid = rustix::process::Pid::from_child(&import);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    // It waits for the next line, and of that there is only a part.
    stdin.write_all(b"{\"type\"").unwrap();
    drop(stdin);
    assert_eq!(import.wait().unwrap().code(), Some(130));
    assert!(!Path::new(&target).exists());
}

/// The lines of an export, and what they would be with one thing changed.
struct Export(Vec<String>);

fn text(lines: &[String]) -> String {
    lines.join("\n") + "\n"
}

impl Export {
    /// Another value of a field of a line; null: without it.
    fn with(&self, at: usize, field: &str, value: Value) -> String {
        let mut line: Value = serde_json::from_str(&self.0[at]).unwrap();
        match value {
            Value::Null => drop(line.as_object_mut().unwrap().remove(field).expect("a field")),
            value => line[field] = value,
        }
        self.instead(at, &line.to_string())
    }

    fn instead(&self, at: usize, line: &str) -> String {
        let mut lines = self.0.clone();
        lines[at] = line.to_owned();
        text(&lines)
    }

    fn kinds(&self, change: &dyn Fn(&mut Value)) -> String {
        let mut header: Value = serde_json::from_str(&self.0[0]).unwrap();
        change(&mut header["kinds"]);
        self.instead(0, &header.to_string())
    }
}

/// What is wrong, the text, the exit code, the line, and what is said of it.
type Wrong = (&'static str, String, i32, u64, &'static str);

fn wrong_headers(good: &Export) -> Vec<Wrong> {
    vec![
        ("nothing", String::new(), 3, 1, "no header"),
        ("no JSON at all", "hello\n".to_owned(), 3, 1, "column 1"),
        ("another JSON", "{\"type\":\"entry\"}\n".to_owned(), 3, 1, "no header of an export"),
        (
            "the output of another command",
            good.with(0, "command", "dump".into()),
            3,
            1,
            "not that of an export",
        ),
        ("a newer schema", good.with(0, "schema", 2.into()), 3, 1, "its schema is 2"),
        ("a header with a field more", good.with(0, "x", 1.into()), 1, 1, "unknown field"),
        ("a store that is none", good.with(0, "store", "12".into()), 1, 1, "32 hexadecimal digits"),
        ("a codec of tomorrow", good.kinds(&|kinds| kinds[0]["codec"] = "xml".into()), 1, 1, "\"xml\""),
        ("an owner of tomorrow", good.kinds(&|kinds| kinds[0]["owner"] = "you".into()), 1, 1, "\"you\""),
        ("a kind without a number", good.kinds(&|kinds| kinds[0]["number"] = 0.into()), 1, 1, "number"),
        (
            "a kind's number over its limit",
            good.kinds(&|kinds| kinds[0]["number"] = 5000.into()),
            1,
            1,
            "1 to 4096",
        ),
        (
            "a kind twice",
            good.kinds(&|kinds| {
                let kind = kinds[0].clone();
                kinds.as_array_mut().unwrap().push(kind);
            }),
            1,
            1,
            "one that no kind has",
        ),
    ]
}

fn wrong_lines(good: &Export) -> Vec<Wrong> {
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    vec![
        ("a line that is not JSON", good.instead(2, "{\"type\":\"entry\","), 1, 3, "column"),
        ("an empty line", good.instead(2, ""), 1, 3, "column"),
        ("half a line", good.instead(2, &good.0[2][..good.0[2].len() / 2]), 1, 3, "column"),
        ("a control character", good.instead(2, "\"\u{0}\""), 1, 3, "column"),
        ("deep nesting", good.instead(2, &format!("{{\"type\":{nested}}}")), 1, 3, "column"),
        (
            "deep nesting in a field",
            good.instead(2, &format!("{{\"type\":\"entry\",\"time\":{nested}}}")),
            1,
            3,
            "missing field `seq`",
        ),
    ]
}

fn wrong_entries(good: &Export) -> Vec<Wrong> {
    vec![
        ("a type of tomorrow", good.with(2, "type", "row".into()), 1, 3, "\"row\""),
        ("a second header", good.instead(2, &good.0[0]), 1, 3, "two exports"),
        ("no Seq", good.with(2, "seq", Value::Null), 1, 3, "missing field `seq`"),
        ("no generation", good.with(2, "generation", Value::Null), 1, 3, "missing field `generation`"),
        ("no kind", good.with(2, "kind", Value::Null), 1, 3, "missing field `kind`"),
        ("no key", good.with(2, "key", Value::Null), 1, 3, "missing field `key`"),
        ("no time", good.with(2, "time_ns", Value::Null), 1, 3, "missing field `time_ns`"),
        ("no payload", good.with(2, "payload_base64", Value::Null), 1, 3, "neither `payload_text`"),
        ("two payloads", good.with(2, "payload_text", "a".into()), 1, 3, "both `payload_text`"),
        ("a field more", good.with(2, "sqe", 1.into()), 1, 3, "unknown field `sqe`"),
        (
            "a field twice",
            good.instead(2, "{\"type\":\"entry\",\"seq\":1,\"seq\":2}"),
            1,
            3,
            "duplicate field",
        ),
        ("Seq 0", good.with(2, "seq", 0.into()), 1, 3, "`seq` is 0"),
        ("a Seq that goes back", good.with(2, "seq", 1.into()), 1, 3, "its Seq"),
        ("a Seq below zero", good.with(2, "seq", (-1).into()), 1, 3, "column"),
        ("a Seq over its limit", good.with(3, "seq", u64::MAX.into()), 1, 4, "its Seq"),
        (
            "a Seq over any number",
            good.instead(2, &good.0[2].replace("\"seq\":2", "\"seq\":1e400")),
            1,
            3,
            "column",
        ),
        ("generation 0", good.with(2, "generation", 0.into()), 1, 3, "`generation` is 0"),
        ("a generation that goes back", good.with(2, "generation", 1.into()), 1, 3, "its generation"),
        ("a generation over its Seq", good.with(2, "generation", 9.into()), 1, 3, "its generation"),
        ("a kind that is not in the header", good.with(2, "kind", "other".into()), 1, 3, "no kind \"other\""),
        ("a key that is empty", good.with(2, "key", "".into()), 1, 3, "the length of its key"),
        ("a key that is too long", good.with(2, "key", "k".repeat(256).into()), 1, 3, "1 to 255"),
        ("a key in bad digits", good.with(2, "key", "hex:0".into()), 1, 3, "no hexadecimal"),
        ("base64 without its end", good.with(2, "payload_base64", "Af8".into()), 1, 3, "no base64"),
        ("base64 with a bit too many", good.with(2, "payload_base64", "Af9=".into()), 1, 3, "no base64"),
        (
            "metadata that is too long",
            good.with(2, "metadata", "m".repeat(65_536).into()),
            1,
            3,
            "0 to 65535",
        ),
        ("a time that is a number", good.with(2, "time_ns", 5.into()), 1, 3, "column"),
        ("a time that is none", good.with(2, "time_ns", "now".into()), 1, 3, "nanoseconds"),
        ("a time over its limit", good.with(2, "time_ns", "9223372036854775808".into()), 1, 3, "nanoseconds"),
        ("a source over its limit", good.with(2, "source", 64.into()), 1, 3, "0 to 63"),
        (
            "a key of a batch that is none",
            good.with(2, "idempotency_key", "00".into()),
            1,
            3,
            "32 hexadecimal",
        ),
        ("a cause without its depth", good.with(2, "cause", 1.into()), 1, 3, "`depth`"),
    ]
}

fn wrong_ends(good: &Export) -> Vec<Wrong> {
    vec![
        (
            "a batch that goes on behind the last entry",
            good.with(3, "more", true.into()),
            1,
            5,
            "its last batch",
        ),
        ("an entry less", text(&[&good.0[..3], &good.0[4..]].concat()), 1, 4, "counts 3 entries, and 2"),
        ("no summary", text(&good.0[..4]), 1, 5, "without a summary"),
        ("a summary that is cut", text(&good.0[..4]) + &good.0[4][..20], 1, 5, "column"),
        ("a summary that ends too soon", good.with(4, "log_last_seq", 2.into()), 1, 5, "the last Seq"),
        ("something behind it", text(&[&good.0[..], &good.0[1..2]].concat()), 1, 6, "behind the summary"),
    ]
}

#[test]
fn whatever_is_wrong_with_a_file_is_said_with_its_line_and_nothing_is_left() {
    let place = Place::new();
    let good = Export(small(&place));
    assert_eq!(good.0.len(), 5);
    let cases = [wrong_headers(&good), wrong_lines(&good), wrong_entries(&good), wrong_ends(&good)].concat();
    let before = place.names();
    for (what, text, code, line, said) in cases {
        let target = place.path("new.esker");
        let refused = place.import(text, &target);
        assert_eq!((refused.code, &*refused.stdout), (Some(code), ""), "{what}: {}", refused.stderr);
        let expected = format!("line {line}: ");
        assert!(refused.stderr.contains(&expected), "{what}: {} in {}", expected, refused.stderr);
        assert!(refused.stderr.contains(said), "{what}: {said} in {}", refused.stderr);
        assert!(refused.stderr.contains("; "), "{what} says what to do: {}", refused.stderr);
        let left: Vec<_> = place.names().difference(&before).cloned().collect();
        assert_eq!(left, ["lines.jsonl"], "{what}");
    }
    // And what is not wrong with it: other ends of lines, none at the end, and other orders of fields.
    for (name, text) in [
        ("a", good.0.join("\r\n") + "\r\n"),
        ("b", good.0.join("\n")),
        ("c", good.with(2, "time", json!({"any": [1]}))),
    ] {
        let made = place.import(text, &place.path(name));
        assert_eq!(made.code, Some(0), "{name}: {}", made.stderr);
    }
}

#[test]
fn a_target_that_is_there_is_not_touched() {
    let place = Place::new();
    let good = small(&place).join("\n");
    let (store, plain) = (place.path("small.esker"), place.path("plain"));
    std::fs::write(&plain, "x").unwrap();
    let before = run(&["verify", &store]).stdout;
    assert_eq!(place.import(&good, &store).code, Some(2));
    assert_eq!(run(&["verify", &store]).stdout, before);
    assert_eq!(place.import(&good, &plain).code, Some(3));
    assert_eq!(place.import(&good, &place.path("no/parent")).code, Some(4));
    let empty = place.path("empty");
    std::fs::create_dir(&empty).unwrap();
    assert_eq!(place.import("x", &empty).code, Some(3));
    assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0);
    assert_eq!(place.import(&good, &empty).code, Some(0));
}

#[test]
fn an_upgrade_has_nothing_to_do_and_makes_nothing() {
    let place = Place::new();
    small(&place);
    let (store, target) = (place.path("small.esker"), place.path("new.esker"));
    let done = run(&["upgrade", &store, "--output", &target]);
    assert_eq!((done.code, &*done.stderr), (Some(2), ""), "whoever goes on with the new store has none");
    assert!(done.stdout.contains("nothing to do"), "{}", done.stdout);
    assert!(!Path::new(&target).exists());
    let summary = run(&["upgrade", &store, "-o", &target, "--json"]).of_type("summary").remove(0);
    assert_eq!((&summary["outcome"], &summary["format"]), (&"current".into(), &1.into()));
    let manifest = Path::new(&store).join("MANIFEST");
    let mut bytes = std::fs::read(&manifest).unwrap();
    bytes[10] = 2;
    bytes[124] ^= 1;
    std::fs::write(&manifest, bytes).unwrap();
    for refused in
        [run(&["upgrade", &store, "-o", &target]), run(&["export", &store]), run(&["diff", &store, &store])]
    {
        assert_eq!((refused.code, &*refused.stdout), (Some(3), ""), "{}", refused.stderr);
        assert!(refused.stderr.contains("format 2"), "{}", refused.stderr);
    }
    assert!(!Path::new(&target).exists());
}
