//! The tool as a process: what it prints where, and what it answers, on stores of every kind.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};

use esker::{Journal, Record};
use support::{ENTRIES, Run, Sample, flip, on, place, run, tool};

/// The numbers of the entries that are shown.
fn seqs(run: &Run) -> Vec<u64> {
    run.rows().iter().map(|row| row[0].parse().unwrap()).collect()
}

const COMMANDS: &[&[&str]] = &[
    &["info"],
    &["segments"],
    &["kinds"],
    &["entities"],
    &["dump"],
    &["dump", "--system"],
    &["dump", "--reverse"],
    &["stats"],
    &["stats", "--format", "json"],
    &["cursors"],
    &["compact"],
];

#[test]
fn every_command_answers_in_tabs_without_colour_and_in_json_lines() {
    let sample = Sample::new();
    let store = sample.text();
    let all = COMMANDS.iter().map(|command| command.to_vec());
    for command in all.chain([vec!["get", "7", "9"], vec!["hex", "1"], vec!["hex", "1:128"]]) {
        let plain = on(&command, &store, &[]);
        assert_eq!((plain.code, &*plain.stderr), (Some(0), ""), "{command:?}");
        assert!(!plain.stdout.contains('\u{1b}') && !plain.stdout.is_empty(), "{command:?}");
        let is_row = |line: &str| line.is_empty() || line.contains('\t') || line.starts_with("{\"type\":");
        if command[0] != "hex" {
            assert!(plain.stdout.lines().all(is_row), "{command:?}: {}", plain.stdout);
        }
        let json = on(&command, &store, &["--json"]);
        assert_eq!((json.code, &*json.stderr), (Some(0), ""), "{command:?}");
        assert!(json.json().len() > 2, "{command:?}");
    }
}

#[test]
fn a_dump_shows_what_its_filters_let_through() {
    let sample = Sample::new();
    let store = sample.text();
    let dump = |args: &[&str]| seqs(&on(&["dump"], &store, args));
    let all: Vec<u64> = (1..=ENTRIES).collect();
    assert_eq!(dump(&[]), all);
    assert_eq!(dump(&["--reverse"]), all.iter().rev().copied().collect::<Vec<_>>());
    assert_eq!(dump(&["--seq", "150..153"]), [150, 151, 152, 153]);
    assert_eq!(dump(&["--seq", "298.."]), [298, 299, 300]);
    assert_eq!(dump(&["--last", "2"]), [299, 300]);
    assert_eq!(dump(&["--last", "2", "--reverse"]), [300, 299]);
    assert_eq!(dump(&["--limit", "2"]), [1, 2]);
    assert_eq!(dump(&["--limit", "2", "--reverse"]), [300, 299]);
    assert_eq!(dump(&["--seq", "10..20", "--reverse", "--limit", "1"]), [20]);
    let multiples = |of: u64| (1..=ENTRIES).filter(|n| n % of == 0).collect::<Vec<_>>();
    assert_eq!(dump(&["--kind", "doc"]), multiples(3));
    assert_eq!(dump(&["--kind", "d*"]), multiples(3));
    assert_eq!(dump(&["--entity", "doc/k0"]), multiples(15));
    assert_eq!(dump(&["--entity", "doc/k0", "--reverse", "--limit", "1"]), [300]);
    assert_eq!(dump(&["--entity", "doc/k0", "--last", "2"]), [285, 300]);
    assert_eq!(dump(&["--entity", "*/k0"]), multiples(5));
    assert_eq!(dump(&["--entity", "doc/hex:6b30"]), multiples(15));
    assert_eq!(dump(&["--entity", "doc/k0", "--generation", "2..3"]), [30, 45]);
    assert_eq!(dump(&["--since", "1h"]), all);
    assert_eq!(dump(&["--until", "2020-01-01T00:00Z"]), [0; 0]);
    assert_eq!(dump(&["--op", "fact"]), all);
    let system = on(&["dump"], &store, &["--op", "system"]);
    assert!(system.rows().iter().all(|row| row[4] == "-") && system.stdout.contains("\tpreamble\t"));
    let entries = on(&["entries"], &store, &["--limit", "1", "--json"]).of_type("entry");
    assert_eq!((&entries[0]["payload"]["n"], &entries[0]["generation"]), (&1.into(), &1.into()));
    assert!(entries[0]["time_ns"].is_string() && entries[0]["time"].as_str().unwrap().ends_with('Z'));
    let nothing = on(&["cat"], &store, &["--kind", "none", "--json"]);
    assert_eq!((nothing.json().len(), nothing.code), (2, Some(0)));
}

#[test]
fn payloads_come_in_the_form_that_is_asked_for() {
    let sample = Sample::empty();
    let journal = sample.open();
    let note = journal.kind("note").unwrap();
    journal.append(Record::new(note, b"\x00\xff", b"\xfe\xff")).unwrap();
    journal.append(Record::new(note, b"tab", b"a\tb\nc\\")).unwrap();
    journal.close().unwrap();
    let store = sample.text();
    let dump = |args: &[&str]| on(&["dump"], &store, args);
    let plain = dump(&[]);
    assert_eq!((plain.rows()[0][4], plain.rows()[0][7]), ("hex:00ff", "hex:feff"));
    assert_eq!((plain.rows()[1].len(), plain.rows()[1][7]), (8, "a\\tb\\nc\\\\"));
    assert_eq!(seqs(&dump(&["--entity", "note/hex:00FF"])), [1]);
    let json = |args: &[&str]| dump(&[&["--json"], args].concat()).of_type("entry");
    assert_eq!(json(&[])[0]["payload_base64"], "/v8=");
    assert_eq!(json(&[])[1]["payload"], "a\tb\nc\\");
    assert_eq!(json(&["--payload", "hex"])[0]["payload_hex"], "feff");
    assert_eq!(json(&["--payload", "base64"])[1]["payload_base64"], "YQliCmNc");
    assert!(json(&["--payload", "none"])[1].get("payload").is_none());
    let text = json(&["--payload", "text"]);
    assert!(text[0]["decode_error"].is_string() && text[0]["payload_base64"] == "/v8=");
}

#[test]
fn lists_count_what_is_in_the_log() {
    let sample = Sample::new();
    let store = sample.text();
    let kinds = on(&["kinds"], &store, &["--json"]).of_type("kind");
    assert_eq!(kinds.len(), 2);
    assert_eq!((&kinds[0]["kind"], &kinds[0]["entries"]), (&"note".into(), &200.into()));
    assert_eq!((&kinds[1]["kind"], &kinds[1]["entries"]), (&"doc".into(), &100.into()));
    let entities = on(&["entities"], &store, &["--kind", "doc", "--sort", "last", "--top", "2"]);
    assert_eq!(entities.rows()[0][..3], ["doc/k0", "20", entities.rows()[0][2]]);
    assert_eq!((entities.rows().len(), entities.rows()[1][0]), (2, "doc/k2"));
    let segments = on(&["segments"], &store, &["--json"]).of_type("segment");
    assert!(segments.len() > 3);
    assert_eq!(segments.iter().map(|one| one["entries"].as_u64().unwrap()).sum::<u64>(), ENTRIES);
    assert!(segments.iter().any(|one| one["state"] == "sealed"));
    let stats = on(&["stats"], &store, &["--format", "prometheus"]);
    assert!(stats.stdout.contains("\nesker_entities 10\n") && stats.stdout.contains("# TYPE esker_entries"));
    let info = on(&["info"], &store, &["--json"]).of_type("store");
    assert_eq!((&info[0]["entries"], &info[0]["clean"]), (&ENTRIES.into(), &true.into()));
}

#[test]
fn a_kind_that_nobody_registered_is_named_beside_those_that_are() {
    let sample = Sample::new();
    let store = sample.text();
    let kind = ["dump", "--kind", "nte"];
    let entity = ["dump", "--entity", "nte/k1"];
    for command in [&kind[..], &entity, &["entities", "--kind", "nte"]] {
        let typo = on(command, &store, &[]);
        assert_eq!((typo.code, &*typo.stdout), (Some(0), ""), "{command:?}");
        assert!(typo.stderr.contains("no kind matches \"nte\"; there are: note, doc"), "{}", typo.stderr);
    }
    assert_eq!(on(&["dump", "--kind", "n*"], &store, &[]).stderr, "");
}

#[test]
fn entries_are_shown_one_by_one_and_by_ranges() {
    let sample = Sample::new();
    let got = |asked: &[&str]| -> Vec<u64> {
        let entries = on(&["get"], &sample.text(), &[asked, &["--json"]].concat()).of_type("entry");
        entries.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect()
    };
    assert_eq!(got(&["7", "9"]), [7, 9]);
    assert_eq!(got(&["1..3"]), [1, 2, 3]);
    assert_eq!(got(&["..2", "299.."]), [1, 2, 299, 300]);
}

#[test]
fn times_and_lives_of_a_writer_have_one_form() {
    let sample = Sample::new();
    let journal = sample.open();
    let note = journal.kind("note").unwrap();
    journal.append(Record::new(note, b"live", b"one")).unwrap();
    let info = &on(&["info"], &sample.text(), &["--json"]).of_type("store")[0];
    let verify = &on(&["verify"], &sample.text(), &["--json"]).of_type("summary")[0];
    let entry = on(&["dump", "--last", "1"], &sample.text(), &["--json"]).of_type("entry");
    for holder in [&info["writer"], &verify["live"]] {
        assert!(holder["since"].as_str().unwrap().ends_with('Z'), "{holder}");
        assert!(holder["since_ns"].as_str().unwrap().parse::<i64>().is_ok(), "{holder}");
        assert_eq!(holder["life"], entry[0]["life"], "{holder}");
    }
    journal.close().unwrap();
}

#[test]
fn an_empty_store_is_fine_and_shows_nothing() {
    let sample = Sample::empty();
    sample.open().close().unwrap();
    for command in COMMANDS {
        let json = on(command, &sample.text(), &["--json"]);
        assert_eq!(json.code, Some(0), "{command:?}: {}", json.stderr);
        assert!(json.of_type("entry").is_empty());
    }
    assert_eq!(on(&["dump"], &sample.text(), &[]).stdout, "");
    let none = on(&["get"], &sample.text(), &["1"]);
    assert_eq!(none.code, Some(2));
    assert!(none.stderr.contains("no entry 1: the store has none"), "{}", none.stderr);
}

#[test]
fn exit_codes_say_what_is_wrong() {
    let sample = Sample::new();
    let store = sample.text();
    let nowhere = sample.directory.path().to_str().unwrap().to_owned() + "/nothing";
    let plain_file = sample.directory.path().join("file");
    std::fs::write(&plain_file, "x").unwrap();
    for path in [&*nowhere, plain_file.to_str().unwrap(), sample.directory.path().to_str().unwrap()] {
        for command in COMMANDS {
            let refused = on(command, path, &[]);
            assert_eq!((refused.code, &*refused.stdout), (Some(3), ""), "{command:?} {path}");
            assert!(refused.stderr.starts_with("esker: error: "), "{}", refused.stderr);
        }
    }
    for usage in [
        &[][..],
        &["dump"],
        &["nonsense", &store],
        &["dump", &store, "--seq", "5..3"],
        &["dump", &store, "--entity", "no-slash"],
        &["dump", &store, "--since", "yesterday"],
        &["hex", &store, "x"],
        &["get", &store, "0"],
    ] {
        assert_eq!(run(usage).code, Some(2), "{usage:?}");
    }
    assert_eq!(run(&["hex", &store, "1:99999999"]).code, Some(2));
    for (what, asked, text) in [
        ("get", "0", "entries are numbered from 1"),
        ("get", "400", "no entry 400: the last one is 300"),
        ("get", "x", "neither a number nor A..B"),
        ("hex", "99", "no segment 99; the log has 1 to "),
    ] {
        let refused = run(&[what, &store, asked]);
        assert_eq!(refused.code, Some(2), "{what} {asked}");
        assert!(refused.stderr.contains(text), "{what} {asked}: {}", refused.stderr);
    }
    assert_eq!(run(&["--help"]).code, Some(0));
    assert_eq!(run(&["--version"]).code, Some(0));
    // A store of a later format: its version is at byte 10 of the manifest's header.
    let manifest = sample.path().join("MANIFEST");
    let mut bytes = std::fs::read(&manifest).unwrap();
    bytes[10] += 1;
    let checksum = crc32fast::hash(&bytes[..124]);
    bytes[124..128].copy_from_slice(&checksum.to_le_bytes());
    std::fs::write(&manifest, bytes).unwrap();
    let newer = run(&["info", &store]);
    assert_eq!(newer.code, Some(3), "{}", newer.stderr);
}

#[test]
fn a_full_disk_is_an_error_and_a_closed_pipe_is_not() {
    let sample = Sample::new();
    let store = sample.text();
    for command in ["info", "segments", "kinds", "entities", "dump", "stats", "cursors"] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let status = tool(&[command, &store]).stdout(full).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(4), "{command}");
    }
    // More than a pipe holds, and nobody reads it to its end.
    let mut child = tool(&["hex", &store, "1"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn damage_is_named_and_what_lies_behind_it_is_shown() {
    let sample = Sample::new();
    let store = sample.text();
    let (segment, offset) = place(&store, 5);
    flip(&sample.path(), segment, offset + 60); // the content
    let (other, start) = place(&store, 7);
    flip(&sample.path(), other, start + 16); // the header
    let dump = on(&["dump"], &store, &[]);
    assert_eq!(dump.code, Some(1), "{}", dump.stderr);
    assert_eq!(seqs(&dump), (1..=ENTRIES).filter(|n| *n != 7).collect::<Vec<_>>());
    assert!(dump.stderr.contains("seq 7 lost"), "{}", dump.stderr);
    assert!(dump.stderr.contains("(seq 5)"), "{}", dump.stderr);
    let json = on(&["dump"], &store, &["--json", "--payload", "none"]);
    let findings = json.of_type("finding");
    assert_eq!(findings.len(), 2);
    assert_eq!((&findings[1]["first_seq"], &findings[1]["last_seq"]), (&7.into(), &7.into()));
    assert_eq!(json.of_type("entry").iter().filter(|one| one["checksums_good"] == false).count(), 1);
    assert_eq!(on(&["get"], &store, &["7"]).code, Some(1));
    assert_eq!(on(&["get"], &store, &["8"]).code, Some(0));
    assert_eq!(on(&["kinds"], &store, &[]).code, Some(1));
    let hex = on(&["hex"], &store, &[&format!("{other}:{start}")]);
    assert!(hex.stdout.contains("not a frame"), "{}", hex.stdout);
    // A segment whose header is gone: its frames validate, and are shown all the same.
    let third = on(&["segments"], &store, &["--json"]).of_type("segment")[2].clone();
    flip(&sample.path(), third["number"].as_u64().unwrap(), 50);
    let dump = on(&["dump"], &store, &["--json", "--payload", "none"]);
    let lost = dump.of_type("finding").into_iter().find(|one| one["segment"] == third["number"]).unwrap();
    assert!(lost["what"].as_str().unwrap().contains("header"), "{lost}");
    assert!(lost["last_seq"].as_u64() < lost["first_seq"].as_u64(), "nothing is lost of it: {lost}");
    assert_eq!(dump.of_type("entry").len() as u64, ENTRIES - 1);
    assert_eq!(dump.code, Some(1));
}

#[test]
fn a_live_store_says_so_and_is_not_damaged() {
    let sample = Sample::new();
    let journal = sample.open();
    let note = journal.kind("note").unwrap();
    journal.append(Record::new(note, b"live", b"one")).unwrap();
    let pid = std::process::id();
    for command in COMMANDS {
        let live = on(command, &sample.text(), &["--json"]);
        assert_eq!(live.code, Some(0), "{command:?}: {}", live.stderr);
        assert!(live.stderr.contains(&format!("live, writer pid {pid}")), "{}", live.stderr);
        assert_eq!(live.json()[0]["live"]["pid"], pid);
    }
    let info = on(&["info"], &sample.text(), &[]);
    assert!(info.stdout.contains(&format!("live, writer pid {pid}")), "{}", info.stdout);
    journal.append(Record::new(note, b"live", b"two")).unwrap();
    assert_eq!(seqs(&on(&["dump"], &sample.text(), &["--last", "1"])), [ENTRIES + 2]);
    journal.close().unwrap();
}

#[test]
fn a_verification_passes_a_good_store_and_sends_a_damaged_one_to_repair() {
    let sample = Sample::new();
    let store = sample.text();
    for how in ["--quick", "--full"] {
        let good = on(&["verify"], &store, &[how]);
        assert_eq!(good.code, Some(0), "{}{}", good.stdout, good.stderr);
        assert!(good.stdout.starts_with("verdict\tvalid\n"), "{}", good.stdout);
        let quick = how == "--quick";
        assert_eq!(good.stdout.contains("\nentries\t"), !quick, "{}", good.stdout);
        assert_eq!(good.stdout.contains("\ncheck\tquick: frames were not read\n"), quick);
        let summary = &on(&["verify"], &store, &[how, "--json"]).of_type("summary")[0];
        assert_eq!(summary.get("entries").is_none(), quick, "{summary}");
    }
    let (segment, offset) = place(&store, 100);
    flip(&sample.path(), segment, offset + 70);
    let bad = on(&["verify"], &store, &["--json"]);
    assert_eq!(bad.code, Some(1));
    assert_eq!(bad.of_type("summary")[0]["verdict"], "invalid");
    assert!(!bad.of_type("finding").is_empty());
    let plain = on(&["verify"], &store, &[]);
    assert!(plain.stdout.contains("; seq 100 lost"), "{}", plain.stdout);
    assert!(plain.stdout.contains(&format!("next\tesker repair {store} --output NEW\n")), "{}", plain.stdout);
    let target = sample.directory.path().join("new.esker").to_str().unwrap().to_owned();
    let repaired = on(&["repair"], &store, &["--output", &target, "--json"]);
    assert_eq!(repaired.code, Some(1), "{}", repaired.stderr);
    let summary = &repaired.of_type("summary")[0];
    assert_eq!((&summary["entries"], &summary["entries_lost"]), (&(ENTRIES - 1).into(), &1.into()));
    let verified = on(&["verify"], &target, &[]);
    assert_eq!(verified.code, Some(0), "{}", verified.stdout);
    let left = on(&["dump"], &target, &[]);
    assert_eq!(seqs(&left), (1..=ENTRIES).filter(|n| *n != 100).collect::<Vec<_>>());
    assert_eq!((left.code, &*left.stderr), (Some(0), ""));
    // Never over something that is there.
    assert_eq!(on(&["repair"], &store, &["--output", &target]).code, Some(2));
    assert_eq!(on(&["repair"], &store, &[]).code, Some(2));
}

#[test]
fn a_live_store_is_verified_and_not_repaired() {
    let sample = Sample::new();
    let journal = sample.open();
    let note = journal.kind("note").unwrap();
    journal.append(Record::new(note, b"live", b"one")).unwrap();
    let live = on(&["verify"], &sample.text(), &[]);
    assert_eq!(live.code, Some(0), "{}", live.stdout);
    assert!(live.stderr.contains("live, writer pid"), "{}", live.stderr);
    let target = sample.directory.path().join("new.esker").to_str().unwrap().to_owned();
    assert_eq!(on(&["repair"], &sample.text(), &["--output", &target]).code, Some(3));
    assert!(!Path::new(&target).exists());
    journal.close().unwrap();
}

#[test]
fn typed_payloads_are_shown_by_field_name() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Vessel {
        name: String,
        knots: f32,
    }
    const VESSEL: esker::Facts<Vessel> = esker::Facts::new("vessel");
    let sample = Sample::empty();
    let store = esker::Store::open(sample.path()).unwrap();
    store.append(VESSEL, "mmsi:2190", &Vessel { name: "Ada".into(), knots: 11.2 }).unwrap();
    store.close().unwrap();
    let dump = on(&["dump"], &sample.text(), &[]);
    assert_eq!(dump.rows()[0][7], r#"{"name":"Ada","knots":11.2}"#);
    let kinds = on(&["kinds"], &sample.text(), &["--json"]).of_type("kind");
    assert_eq!(kinds[0]["codec"], "messagepack");
    // The same bytes cut short are not what the codec says.
    let journal = Journal::open(sample.path()).unwrap();
    let kind = journal.kinds()[0].id;
    journal.append(Record::new(kind, b"cut", &[0x82, 0xa1])).unwrap();
    journal.close().unwrap();
    let json = on(&["dump"], &sample.text(), &["--json"]).of_type("entry");
    assert_eq!(json[0]["payload"]["knots"].as_f64().map(|knots| (knots * 10.0).round()), Some(112.0));
    assert_eq!((&json[1]["payload_base64"], json[1]["decode_error"].is_string()), (&"gqE=".into(), true));
}

#[test]
fn a_busy_writer_is_never_taken_for_damage() {
    let sample = Sample::new();
    let journal = sample.open();
    let note = journal.kind("note").unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let mut batch = journal.batch();
                (0..3).for_each(|_| {
                    batch.push(Record::new(note, b"busy", &[b'x'; 300]));
                });
                batch.commit().unwrap();
            }
        });
        let looks: Vec<Run> = ["dump", "segments", "stats", "info", "verify", "cursors"]
            .iter()
            .cycle()
            .take(24)
            .map(|command| on(&[command], &sample.text(), &[]))
            .collect();
        // First let the writer end, so that a failure is told and not waited for.
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for look in looks {
            assert_eq!(look.code, Some(0), "{}{}", look.stderr, look.stdout);
        }
    });
    journal.close().unwrap();
}

#[test]
fn a_segment_that_a_writer_has_begun_to_make_is_no_damage() {
    let sample = Sample::new();
    let journal = sample.open();
    let files = std::fs::read_dir(sample.path()).unwrap().map(|file| file.unwrap().path());
    let segments = files.filter(|path| path.extension().is_some_and(|end| end == "seg"));
    let numbers = segments.map(|path| path.file_stem().unwrap().to_str().unwrap().parse::<u32>().unwrap());
    let next = numbers.max().unwrap() + 1;
    std::fs::write(sample.path().join(format!("{next:010}.seg")), [0; 4096]).unwrap();
    for command in ["segments", "stats", "info", "dump", "verify", "check"] {
        let look = on(&[command], &sample.text(), &[]);
        assert_eq!(look.code, Some(0), "{command}: {}{}", look.stderr, look.stdout);
    }
    journal.close().unwrap();
}

/// A follower, read line by line.
struct Follower {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Follower {
    fn start(store: &str, args: &[&str]) -> Self {
        let mut child = tool(&[&["dump", store, "-f"], args].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn seq(&mut self) -> u64 {
        let line = self.lines.next().unwrap().unwrap();
        line.split('\t').next().unwrap().parse().unwrap()
    }

    /// Interrupts it, and answers with its exit code.
    fn interrupt(mut self) -> (Option<i32>, Vec<String>) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let rest = self.lines.by_ref().map(|line| line.unwrap()).collect();
        (self.child.wait().unwrap().code(), rest)
    }
}

#[test]
fn a_follower_prints_what_another_process_appends_until_it_is_interrupted() {
    let sample = Sample::new();
    let mut follower = Follower::start(&sample.text(), &["--last", "1"]);
    assert_eq!(follower.seq(), ENTRIES);
    let mut next = ENTRIES + 1;
    // Through rotation, and over a writer that leaves and comes back.
    for _ in 0..3 {
        let journal = sample.open();
        let note = journal.kind("note").unwrap();
        for _ in 0..100 {
            journal.append(Record::new(note, b"k", &[b'x'; 200])).unwrap();
            assert_eq!(follower.seq(), next);
            next += 1;
        }
        journal.close().unwrap();
    }
    assert_eq!(follower.interrupt(), (Some(130), vec![]));
}

#[test]
fn a_follower_of_json_lines_ends_with_a_summary() {
    let sample = Sample::new();
    let mut follower = Follower::start(&sample.text(), &["--json", "--seq", "300.."]);
    let header = follower.lines.next().unwrap().unwrap();
    assert!(header.contains("\"type\":\"header\""), "{header}");
    let entry = follower.lines.next().unwrap().unwrap();
    assert!(entry.contains("\"seq\":300"), "{entry}");
    let (code, rest) = follower.interrupt();
    assert_eq!((code, rest.len()), (Some(130), 1));
    assert!(rest[0].contains("\"type\":\"summary\""), "{}", rest[0]);
}

#[test]
fn a_follower_that_nobody_reads_any_more_ends_without_an_error() {
    let sample = Sample::new();
    let mut follower = Follower::start(&sample.text(), &["--last", "1"]);
    assert_eq!(follower.seq(), ENTRIES);
    let Follower { mut child, lines } = follower;
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
