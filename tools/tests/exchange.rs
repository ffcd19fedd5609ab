//! `export`, `import`, `diff` and `upgrade` as processes: nothing is lost on the way, and nothing bad comes in.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use esker::{
    CompactOptions, Durability, Facts, IdempotencyKey, Journal, Keep, Options, Reader, Record, Region, Seq,
    Start, Store, WatchOptions,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{Run, Sample, flip, run, tool};

const ORDERS: Facts<u32> = Facts::new("order");
const INVOICES: Facts<(u32, String)> = Facts::new("invoice");
const KEY: IdempotencyKey = IdempotencyKey(*b"a key of sixteen");

fn options() -> Options {
    Options::new().segment_bytes(16 << 10).durability(Durability::Os)
}

/// Everything that an entry can have: batches with keys, causes, metadata, keys and payloads of any bytes,
/// several kinds and segments. No cursor is left.
fn rich(path: &Path) {
    let store = Store::over(options().open(path).unwrap());
    let journal = store.journal().clone();
    let (raw, doc) = (journal.kind("raw").unwrap(), journal.kind("doc with space").unwrap());
    for n in 0..200_u8 {
        let payload: Vec<u8> = (0..=n).map(|at| at.wrapping_mul(n)).collect();
        journal.append(Record::new(raw, &[n % 7, 0xff, n % 3], &payload).metadata(&[n; 3])).unwrap();
        let text = format!("{{\"n\":{n},\"text\":\"ü \\u0000 \u{2028}\"}}");
        journal.append(Record::new(doc, b"hex:6b", text.as_bytes()).metadata(b"text/json")).unwrap();
    }
    let mut batch = journal.batch().idempotency_key(KEY);
    for n in 0..5_u8 {
        batch.push(Record::new(doc, [b"a", b"b"][usize::from(n % 2)], &[]).correlation([n; 16]));
    }
    batch.commit().unwrap();
    let orders = store.region(ORDERS).unwrap();
    // The cursor's frame stands in one batch with what the reaction puts out.
    let reactor = store
        .react("invoicing", orders, |entry, out| {
            let Some(order) = out.fact(ORDERS, entry)? else { return Ok(()) };
            let cents = order.value()?;
            out.append(INVOICES, "one", &(cents, "für Ada".to_owned()))?;
            out.append(INVOICES, "two", &(cents, String::new()))?;
            Ok(())
        })
        .unwrap();
    let mut watcher = journal.follow(store.region(INVOICES).unwrap(), WatchOptions::new()).unwrap();
    for cents in [5, 990] {
        store.append(ORDERS, "8812", &cents).unwrap();
    }
    for _ in 0..4 {
        watcher.next_timeout(Duration::from_secs(30)).unwrap().expect("an invoice");
    }
    drop(watcher);
    reactor.stop();
    reactor.join().unwrap();
    journal.retire_cursor("invoicing").unwrap();
    store.close().unwrap();
}

/// Paths in a directory of their own.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn rich(&self) -> String {
        let path = self.path("rich.esker");
        rich(Path::new(&path));
        path
    }

    /// What is in the directory.
    fn names(&self) -> BTreeSet<String> {
        let names = std::fs::read_dir(self.0.path()).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Imports a text from a file of its own.
    fn import(&self, text: impl AsRef<[u8]>, target: &str) -> Run {
        let file = self.path("lines.jsonl");
        std::fs::write(&file, text).unwrap();
        run(&["import", &file, target])
    }
}

fn export(store: &str, filters: &[&str]) -> String {
    let exported = run(&[&["export", store], filters].concat());
    assert_eq!(exported.code, Some(0), "{}", exported.stderr);
    exported.json();
    exported.stdout
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn entries(text: &str) -> Vec<Value> {
    lines(text).into_iter().filter(|line| line["type"] == "entry").collect()
}

/// The export but for the era, which is another one for each import.
fn without_era(text: &str) -> Vec<Value> {
    let mut lines = lines(text);
    lines[0]["era"] = 0.into();
    lines[0]["segment_bytes"] = 0.into();
    lines
}

#[test]
fn a_store_comes_back_from_its_export_as_it_was() {
    let place = Place::new();
    let (store, again) = (place.rich(), place.path("again.esker"));
    let text = export(&store, &[]);
    let made = place.import(&text, &again);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert!(made.rows().contains(&vec!["entries", "411"]), "{}", made.stdout);
    assert_eq!(made.rows().last().unwrap()[1], format!("esker verify {again}"));
    assert_eq!(run(&["verify", &again]).code, Some(0));
    assert_eq!(without_era(&export(&again, &[])), without_era(&text));
    let equal = run(&["diff", &store, &again]);
    assert_eq!((equal.code, equal.rows()[0][1]), (Some(0), "equal"), "{}", equal.stdout);
    // That the lines say so is one thing; the library has to see the same.
    let [one, other] = [&store, &again].map(|path| Reader::open(path).unwrap());
    let (view, its_view) = (one.view().unwrap(), other.view().unwrap());
    let mut caused = 0;
    for (a, b) in view.range(..).zip(its_view.range(..)) {
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!(
            (a.seq(), a.generation(), a.kind(), a.key()),
            (b.seq(), b.generation(), b.kind(), b.key())
        );
        assert_eq!((a.payload(), a.metadata(), a.time()), (b.payload(), b.metadata(), b.time()));
        assert_eq!((a.correlation(), a.causation()), (b.correlation(), b.causation()));
        assert_eq!((a.idempotency_key(), a.schema_version()), (b.idempotency_key(), b.schema_version()));
        assert_eq!(a.has_more(), b.has_more(), "{}", a.seq());
        caused += usize::from(a.causation().is_some());
    }
    assert_eq!((caused, view.last_seq().unwrap()), (4, its_view.last_seq().unwrap()));
    assert!(
        other.era() > one.era() && one.store_id() == other.store_id() && one.created() == other.created()
    );
    assert_eq!(one.kinds(), other.kinds());
    let journal = Journal::open(&again).unwrap();
    let doc = journal.kind("doc with space").unwrap();
    let next = journal.append(Record::new(doc, b"hex:6b", b"on")).unwrap();
    assert_eq!((next.seq.get(), next.generation.get()), (412, 201));
}

#[test]
fn a_batch_that_was_keyed_before_the_export_is_known_behind_the_import() {
    let place = Place::new();
    let store = place.path("a.esker");
    let journal = options().open(&store).unwrap();
    let note = journal.kind("note").unwrap();
    let commit = |journal: &Journal| {
        let mut batch = journal.batch().idempotency_key(KEY);
        batch.push(Record::new(note, b"a", b"1")).push(Record::new(note, b"b", b"2"));
        batch.commit().unwrap()
    };
    commit(&journal);
    journal.close().unwrap();
    let again = place.path("b.esker");
    assert_eq!(place.import(export(&store, &[]), &again).code, Some(0));
    let journal = options().open(&again).unwrap();
    let repeated = commit(&journal);
    assert!(repeated.repeated && repeated.receipts[1].seq.get() == 2);
}

#[test]
fn what_a_backplane_wrote_comes_along_and_goes_on() {
    use esker::backplane::{
        Append, Backplane, Compactor, Filter, Local, Offset, Put, Revision, Stamp, Step, WriterId,
    };
    let place = tempfile::tempdir().unwrap();
    let paths = ["from.esker", "to.esker"].map(|name| place.path().join(name));
    let [from, to] = paths.each_ref().map(|path| path.to_str().unwrap());
    let stamp = |n| Stamp::new(WriterId::from_raw(u64::MAX), n);
    let append = |n: u64| Step::Append(Append::new("order", b"a", b"payload", stamp(n)).schema(3));
    let put = Put::new(b"cell", Revision::NEVER, Some(b"\xff"), stamp(1));
    let commit = |plane: &Local| plane.commit(&[append(1), append(2), append(3), Step::Put(put)]).unwrap();
    let plane = Local::open(from).unwrap();
    let done = commit(&plane);
    plane.compact("order", b"a", done.offset(1).unwrap()).unwrap();
    plane.close().unwrap();
    let text = export(from, &[]);
    assert!(text.contains("\"stamp\":\"ffffffffffffffff:1\""), "{text}");
    let exported = place.path().join("e.jsonl");
    std::fs::write(&exported, &text).unwrap();
    assert_eq!(run(&["import", exported.to_str().unwrap(), to]).code, Some(0));
    assert_eq!(run(&["diff", from, to]).code, Some(0));
    assert_eq!(run(&["verify", to]).code, Some(0));

    let plane = Local::open(to).unwrap();
    let again = commit(&plane);
    assert_eq!((again.offset(2), again.revision(3)), (done.offset(2), done.revision(3)));
    assert_eq!(plane.load(b"cell").unwrap().bytes.unwrap(), b"\xff");
    let lost = plane.subscribe(Filter::topic("order", b"a"), Offset::BEGINNING).err().unwrap();
    assert_eq!(lost.kind(), esker::ErrorKind::Lost);
    let mut feed = plane.subscribe(Filter::topic("order", b"a"), done.offset(0).unwrap()).unwrap();
    let record = feed.try_next().unwrap().unwrap();
    assert_eq!((record.stamp(), record.schema()), (Some(stamp(2)), 3));
    plane.close().unwrap();
}

#[test]
fn what_is_kept_of_a_kind_its_tombstones_and_what_compaction_left_come_along() {
    let place = Place::new();
    let (path, copy) = (place.path("rows.esker"), place.path("copy.esker"));
    let thorough = CompactOptions::new().keep_tombstones_for(Duration::ZERO).thorough(true);
    let journal = options().open(&path).unwrap();
    let (row, log) = (journal.kind("row").unwrap(), journal.kind("log").unwrap());
    journal.keep(row, Keep::Latest).unwrap();
    for n in 0..300_u32 {
        journal.append(Record::new(row, &[(n % 5) as u8], &[7; 200])).unwrap();
        if n % 30 == 0 {
            journal.append(Record::new(log, b"all of it", &n.to_le_bytes())).unwrap();
        }
    }
    let done = journal.compact(&thorough).unwrap();
    assert!(done.parts_written > 0, "{done:?}");
    journal.append(Record::tombstone(row, &[3])).unwrap();
    journal.close().unwrap();

    let text = export(&path, &[]);
    let imported = place.import(&text, &copy);
    assert_eq!(imported.code, Some(0), "{}", imported.stderr);
    assert_eq!(without_era(&export(&copy, &[]))[1..], without_era(&text)[1..]);

    let journal = options().open(&copy).unwrap();
    assert_eq!(journal.kind_named("row").unwrap().keep, Keep::Latest);
    assert!(journal.latest(row, &[3]).unwrap().unwrap().is_tombstone());
    for _ in 0..200 {
        journal.append(Record::new(log, b"more", &[0; 200])).unwrap();
    }
    journal.compact(&thorough).unwrap();
    assert!(journal.latest(row, &[3]).unwrap().is_none(), "the tombstone has had its time");
    assert!(journal.latest(row, &[2]).unwrap().is_some());
    journal.close().unwrap();
    assert_eq!(run(&["verify", &copy]).code, Some(0));
}

#[test]
fn what_a_filter_left_out_is_a_gap_and_its_numbers_are_not_given_again() {
    let place = Place::new();
    let store = place.rich();
    let text = export(&store, &["--kind", "doc*"]);
    let all = entries(&export(&store, &[]));
    let wanted: Vec<_> = all.iter().filter(|entry| entry["kind"] == "doc with space").cloned().collect();
    assert_eq!(entries(&text), wanted);
    let summary = lines(&text).pop().unwrap();
    assert_eq!((&summary["gaps"], &summary["missing"]), (&201.into(), &206.into()));
    assert_eq!((&summary["batches_cut"], &summary["log_last_seq"]), (&0.into(), &411.into()));
    let again = place.path("again.esker");
    let made = place.import(&text, &again);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert!(made.rows().contains(&vec!["missing", "206"]), "{}", made.stdout);
    let verified = run(&["verify", &again]);
    assert_eq!(verified.code, Some(0), "{}", verified.stdout);
    assert_eq!(entries(&export(&again, &[])), wanted);
    let journal = Journal::open(&again).unwrap();
    let raw = journal.kind("raw").unwrap();
    assert_eq!(journal.append(Record::new(raw, b"new", b"on")).unwrap().seq.get(), 412);

    // A range of Seqs that begins and ends in the middle of a batch.
    let text = export(&store, &["--seq", "402..404"]);
    let more: Vec<bool> = entries(&text).iter().map(|entry| entry["more"] == true).collect();
    assert_eq!(more, [true, true, false]);
    assert!(entries(&text)[0].get("idempotency_key").is_none(), "the key stands on the first one");
    assert_eq!(lines(&text).pop().unwrap()["batches_cut"], 1);
    assert_eq!(place.import(&text, &place.path("middle.esker")).code, Some(0));
    assert_eq!(run(&["export", &store, "--op", "system"]).code, Some(2));
}

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
fn damage_is_said_and_left_out_and_the_import_says_so_again() {
    let place = Place::new();
    let store = place.rich();
    let [(one, content), (other, header)] = [5, 404].map(|seq| support::place(&store, seq));
    flip(Path::new(&store), one, content + 60);
    flip(Path::new(&store), other, header + 16);
    let exported = run(&["export", &store]);
    assert_eq!(exported.code, Some(1));
    assert_eq!(exported.of_type("finding").len(), 2);
    let seqs: Vec<u64> =
        exported.of_type("entry").iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=411).filter(|seq| ![5, 404].contains(seq)).collect::<Vec<_>>());
    let again = place.path("again.esker");
    let made = place.import(&exported.stdout, &again);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert!(made.stderr.contains("2 places were damaged where the export was made"), "{}", made.stderr);
    let verified = run(&["verify", &again]);
    assert_eq!(verified.code, Some(0), "{}", verified.stdout);
    let diff = run(&["diff", &store, &again]);
    assert_eq!(diff.code, Some(1), "what is damaged is not equal to anything");
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
    let pid = rustix::process::Pid::from_child(&import);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    // It waits for the next line, and of that there is only a part.
    stdin.write_all(b"{\"type\"").unwrap();
    drop(stdin);
    assert_eq!(import.wait().unwrap().code(), Some(130));
    assert!(!Path::new(&target).exists());
}

/// An export of three entries of one entity, one line each.
fn small(place: &Place) -> Vec<String> {
    let path = place.path("small.esker");
    let journal = options().open(&path).unwrap();
    let note = journal.kind("note").unwrap();
    for n in 0..3_u8 {
        journal.append(Record::new(note, b"k", &[n, 0xff])).unwrap();
    }
    journal.close().unwrap();
    export(&path, &[]).lines().map(str::to_owned).collect()
}

#[test]
fn whatever_is_wrong_with_a_file_is_said_with_its_line_and_nothing_is_left() {
    let place = Place::new();
    let good = small(&place);
    assert_eq!(good.len(), 5);
    let text = |lines: &[String]| lines.join("\n") + "\n";
    let with = |at: usize, field: &str, value: Value| {
        let mut lines = good.clone();
        let mut line: Value = serde_json::from_str(&lines[at]).unwrap();
        match value {
            Value::Null => drop(line.as_object_mut().unwrap().remove(field).expect("a field")),
            value => line[field] = value,
        }
        lines[at] = line.to_string();
        text(&lines)
    };
    let instead = |at: usize, line: &str| {
        let mut lines = good.clone();
        lines[at] = line.to_owned();
        text(&lines)
    };
    let kinds = |change: &dyn Fn(&mut Value)| {
        let mut header: Value = serde_json::from_str(&good[0]).unwrap();
        change(&mut header["kinds"]);
        instead(0, &header.to_string())
    };
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let cases: Vec<(&str, String, i32, u64, &str)> = vec![
        ("nothing", String::new(), 3, 1, "no header"),
        ("no JSON at all", "hello\n".to_owned(), 3, 1, "column 1"),
        ("another JSON", "{\"type\":\"entry\"}\n".to_owned(), 3, 1, "no header of an export"),
        ("the output of another command", with(0, "command", "dump".into()), 3, 1, "not that of an export"),
        ("a newer schema", with(0, "schema", 2.into()), 3, 1, "its schema is 2"),
        ("a header with a field more", with(0, "x", 1.into()), 1, 1, "unknown field"),
        ("a store that is none", with(0, "store", "12".into()), 1, 1, "32 hexadecimal digits"),
        ("a codec of tomorrow", kinds(&|kinds| kinds[0]["codec"] = "xml".into()), 1, 1, "\"xml\""),
        ("an owner of tomorrow", kinds(&|kinds| kinds[0]["owner"] = "you".into()), 1, 1, "\"you\""),
        ("a kind without a number", kinds(&|kinds| kinds[0]["number"] = 0.into()), 1, 1, "number"),
        (
            "a kind's number over its limit",
            kinds(&|kinds| kinds[0]["number"] = 5000.into()),
            1,
            1,
            "1 to 4096",
        ),
        (
            "a kind twice",
            kinds(&|kinds| {
                let kind = kinds[0].clone();
                kinds.as_array_mut().unwrap().push(kind);
            }),
            1,
            1,
            "one that no kind has",
        ),
        ("a line that is not JSON", instead(2, "{\"type\":\"entry\","), 1, 3, "column"),
        ("an empty line", instead(2, ""), 1, 3, "column"),
        ("half a line", instead(2, &good[2][..good[2].len() / 2]), 1, 3, "column"),
        ("a control character", instead(2, "\"\u{0}\""), 1, 3, "column"),
        ("deep nesting", instead(2, &format!("{{\"type\":{nested}}}")), 1, 3, "column"),
        (
            "deep nesting in a field",
            instead(2, &format!("{{\"type\":\"entry\",\"time\":{nested}}}")),
            1,
            3,
            "missing field `seq`",
        ),
        ("a type of tomorrow", with(2, "type", "row".into()), 1, 3, "\"row\""),
        ("a second header", instead(2, &good[0]), 1, 3, "two exports"),
        ("no Seq", with(2, "seq", Value::Null), 1, 3, "missing field `seq`"),
        ("no generation", with(2, "generation", Value::Null), 1, 3, "missing field `generation`"),
        ("no kind", with(2, "kind", Value::Null), 1, 3, "missing field `kind`"),
        ("no key", with(2, "key", Value::Null), 1, 3, "missing field `key`"),
        ("no time", with(2, "time_ns", Value::Null), 1, 3, "missing field `time_ns`"),
        ("no payload", with(2, "payload_base64", Value::Null), 1, 3, "neither `payload_text`"),
        ("two payloads", with(2, "payload_text", "a".into()), 1, 3, "both `payload_text`"),
        ("a field more", with(2, "sqe", 1.into()), 1, 3, "unknown field `sqe`"),
        ("a field twice", instead(2, "{\"type\":\"entry\",\"seq\":1,\"seq\":2}"), 1, 3, "duplicate field"),
        ("Seq 0", with(2, "seq", 0.into()), 1, 3, "`seq` is 0"),
        ("a Seq that goes back", with(2, "seq", 1.into()), 1, 3, "its Seq"),
        ("a Seq below zero", with(2, "seq", (-1).into()), 1, 3, "column"),
        ("a Seq over its limit", with(3, "seq", u64::MAX.into()), 1, 4, "its Seq"),
        ("a Seq over any number", instead(2, &good[2].replace("\"seq\":2", "\"seq\":1e400")), 1, 3, "column"),
        ("generation 0", with(2, "generation", 0.into()), 1, 3, "`generation` is 0"),
        ("a generation that goes back", with(2, "generation", 1.into()), 1, 3, "its generation"),
        ("a generation over its Seq", with(2, "generation", 9.into()), 1, 3, "its generation"),
        ("a kind that is not in the header", with(2, "kind", "other".into()), 1, 3, "no kind \"other\""),
        ("a key that is empty", with(2, "key", "".into()), 1, 3, "the length of its key"),
        ("a key that is too long", with(2, "key", "k".repeat(256).into()), 1, 3, "1 to 255"),
        ("a key in bad digits", with(2, "key", "hex:0".into()), 1, 3, "no hexadecimal"),
        ("base64 without its end", with(2, "payload_base64", "Af8".into()), 1, 3, "no base64"),
        ("base64 with a bit too many", with(2, "payload_base64", "Af9=".into()), 1, 3, "no base64"),
        ("metadata that is too long", with(2, "metadata", "m".repeat(65_536).into()), 1, 3, "0 to 65535"),
        ("a time that is a number", with(2, "time_ns", 5.into()), 1, 3, "column"),
        ("a time that is none", with(2, "time_ns", "now".into()), 1, 3, "nanoseconds"),
        ("a time over its limit", with(2, "time_ns", "9223372036854775808".into()), 1, 3, "nanoseconds"),
        ("a source over its limit", with(2, "source", 64.into()), 1, 3, "0 to 63"),
        ("a key of a batch that is none", with(2, "idempotency_key", "00".into()), 1, 3, "32 hexadecimal"),
        ("a cause without its depth", with(2, "cause", 1.into()), 1, 3, "`depth`"),
        ("a batch that goes on behind the last entry", with(3, "more", true.into()), 1, 5, "its last batch"),
        ("an entry less", text(&[&good[..3], &good[4..]].concat()), 1, 4, "counts 3 entries, and 2"),
        ("no summary", text(&good[..4]), 1, 5, "without a summary"),
        ("a summary that is cut", text(&good[..4]) + &good[4][..20], 1, 5, "column"),
        ("a summary that ends too soon", with(4, "log_last_seq", 2.into()), 1, 5, "the last Seq"),
        ("something behind it", text(&[&good[..], &good[1..2]].concat()), 1, 6, "behind the summary"),
    ];
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
        ("a", good.join("\r\n") + "\r\n"),
        ("b", good.join("\n")),
        ("c", with(2, "time", json!({"any": [1]}))),
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
fn a_difference_is_named_once_and_counted() {
    let place = Place::new();
    let good = small(&place);
    let store = place.path("small.esker");
    let cases: [(&str, Value, &str, &str, &str); 9] = [
        ("key", "other".into(), "key", "k", "other"),
        (
            "payload_base64",
            "AP4=".into(),
            "payload",
            "2 bytes, from byte 1: hex:ff",
            "2 bytes, from byte 1: hex:fe",
        ),
        ("metadata", "m".into(), "metadata", "0 bytes, from byte 0: ", "1 bytes, from byte 0: m"),
        ("time_ns", "0".into(), "time", "", "1970-01-01T00:00:00.000000000Z"),
        ("source", 3.into(), "source", "0", "3"),
        ("more", true.into(), "more", "false", "true"),
        ("correlation", "07".repeat(16).into(), "correlation", "-", "07070707070707070707070707070707"),
        ("schema_version", 2.into(), "schema_version", "-", "2"),
        (
            "idempotency_key",
            "08".repeat(16).into(),
            "idempotency_key",
            "-",
            "08080808080808080808080808080808",
        ),
    ];
    for (at, (field, value, differs, a, b)) in cases.into_iter().enumerate() {
        let mut line: Value = serde_json::from_str(&good[1]).unwrap();
        line[field] = value;
        let mut lines = good.clone();
        lines[1] = line.to_string();
        if field == "key" {
            // The rest of the history, which begins later now.
            lines[2] = lines[2].replace("\"generation\":2", "\"generation\":1");
            lines[3] = lines[3].replace("\"generation\":3", "\"generation\":2");
        }
        let other = place.path(&format!("{at}.esker"));
        let made = place.import(lines.join("\n"), &other);
        assert_eq!(made.code, Some(0), "{field}: {}", made.stderr);
        let diff = run(&["diff", &store, &other, "--json"]);
        assert_eq!(diff.code, Some(1), "{field}");
        let differences = diff.of_type("difference");
        assert_eq!(differences.len(), 1, "{field}: {}", diff.stdout);
        let found = &differences[0];
        assert_eq!(
            (&found["of"], &found["name"], &found["field"]),
            (&"entry".into(), &"1".into(), &differs.into())
        );
        assert_eq!(found["b"], b, "{field}");
        assert!(found["a"] == a || field == "time_ns", "{field}: {found}");
        let counts = &diff.of_type("summary")[0];
        assert_eq!(counts["differing"], if field == "key" { 3 } else { 1 }, "{field}: {counts}");
    }
    let one_less = place.path("less.esker");
    assert_eq!(place.import(export(&store, &["--seq", "2..3"]), &one_less).code, Some(0));
    let diff = run(&["diff", &store, &one_less]);
    assert_eq!(diff.rows()[0], ["entry", "1", "presence", "note/k", "-"]);
    assert!(diff.rows().contains(&vec!["only in A", "1"]), "{}", diff.stdout);
    let diff = run(&["diff", &one_less, &store]);
    assert_eq!(diff.rows()[0], ["entry", "1", "presence", "-", "note/k"]);
    assert!(diff.rows().contains(&vec!["only in B", "1"]), "{}", diff.stdout);
}

#[test]
fn kinds_and_cursors_are_compared_by_their_names() {
    let place = Place::new();
    let [a, b] = ["a.esker", "b.esker"].map(|name| place.path(name));
    for (path, first, second, seq) in [(&a, "note", "doc", 1), (&b, "doc", "note", 2)] {
        let journal = options().open(path).unwrap();
        journal.kind(first).unwrap();
        journal.kind(second).unwrap();
        let note = journal.kind("note").unwrap();
        for n in 0..2_u8 {
            journal.append(Record::new(note, b"k", &[n]).metadata(first.as_bytes())).unwrap();
        }
        drop(journal.watch("audit", Region::all()).unwrap());
        journal.reset_cursor("audit", Start::After(Seq::new(seq).unwrap())).unwrap();
        if first == "doc" {
            journal.kind("more").unwrap();
        }
        journal.close().unwrap();
    }
    let diff = run(&["diff", &a, &b]);
    assert_eq!(diff.code, Some(1));
    let rows = diff.rows();
    assert_eq!(rows[0], ["kind", "more", "presence", "-", "there"]);
    assert_eq!(rows[1], ["cursor", "audit", "seq", "1", "2"]);
    // Their metadata differ, and it may be their times; their kinds' numbers do not count.
    assert_eq!(rows[2][..2], ["entry", "1"]);
    assert!(["time", "metadata"].contains(&rows[2][2]), "{rows:?}");
    assert!(rows.contains(&vec!["kinds and cursors", "2"]), "{}", diff.stdout);
    assert_eq!(run(&["diff", &a, &place.path("none")]).code, Some(3));
}

#[test]
fn an_upgrade_has_nothing_to_do_and_makes_nothing() {
    let place = Place::new();
    small(&place);
    let (store, target) = (place.path("small.esker"), place.path("new.esker"));
    let done = run(&["upgrade", &store, "--output", &target]);
    assert_eq!((done.code, &*done.stderr), (Some(0), ""));
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

/// An entry of the property test: kind, key, payload, metadata, and whether the batch goes on.
type Any = (bool, Vec<u8>, Vec<u8>, Vec<u8>, bool);

fn any_entry() -> impl Strategy<Value = Any> {
    let bytes = |most| {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..most),
            ".{0,20}".prop_map(String::into_bytes),
            "hex:[0-9a-f]{0,4}".prop_map(String::into_bytes),
        ]
    };
    let key = prop_oneof!["[ab]".prop_map(String::into_bytes), bytes(255)].prop_map(|mut key| {
        key.truncate(255);
        if key.is_empty() { vec![0] } else { key }
    });
    (any::<bool>(), key, bytes(500), bytes(100), prop::bool::weighted(0.3))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_store_comes_back(records in prop::collection::vec(any_entry(), 0..60), keyed in any::<u64>()) {
        let place = Place::new();
        let (store, again) = (place.path("a.esker"), place.path("b.esker"));
        let journal = options().open(&store).unwrap();
        let kinds = [journal.kind("note").unwrap(), journal.kind("ü/\"\\").unwrap()];
        let mut batch = journal.batch();
        for (at, (kind, key, payload, metadata, more)) in records.iter().enumerate() {
            batch.push(Record::new(kinds[usize::from(*kind)], key, payload).metadata(metadata));
            if *more && at + 1 < records.len() && batch.len() < 4 {
                continue;
            }
            if keyed >> (at % 64) & 1 == 1 {
                batch = batch.idempotency_key(IdempotencyKey([u8::try_from(at).unwrap(); 16]));
            }
            batch.commit().unwrap();
        }
        journal.close().unwrap();
        let text = export(&store, &[]);
        let made = place.import(&text, &again);
        prop_assert_eq!(made.code, Some(0), "{}", made.stderr);
        prop_assert_eq!(without_era(&export(&again, &[])), without_era(&text));
        let diff = run(&["diff", &store, &again]);
        prop_assert_eq!(diff.code, Some(0), "{}", diff.stdout);
        let verified = run(&["verify", &again]);
        prop_assert_eq!(verified.code, Some(0), "{}", verified.stdout);
        // And what a filter leaves of it.
        let some = export(&store, &["--kind", "note"]);
        let made = place.import(&some, &place.path("c.esker"));
        prop_assert_eq!(made.code, Some(0), "{}", made.stderr);
        prop_assert_eq!(entries(&export(&place.path("c.esker"), &[])), entries(&some));
    }
}
