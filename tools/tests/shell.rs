//! What the tool says about itself, and as a library: explanations, completions, pages, an application's own tool, and
//! payloads that do not decode.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use esker::{ErrorKind, Facts, Kind, Record, Source, Store};
use serde::{Deserialize, Serialize};
use support::{Run, Sample, flip, on, place, run};

#[derive(Serialize, Deserialize)]
struct Reading {
    celsius: f32,
}

const READING: Facts<Reading> = Facts::new("reading");
const STATE: Kind<Reading> = Kind::new("state");

/// Runs the example, which is built with the tests.
fn own_tool(args: &[&str]) -> Run {
    let built = Path::new(env!("CARGO_BIN_EXE_esker")).with_file_name("examples").join("own_tool");
    assert!(built.is_file(), "build it first: cargo build -p esker-tools --examples");
    let output = Command::new(built).args(args).stdin(Stdio::null()).output().unwrap();
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A store with facts, live state, and invoices in a private codec.
fn books() -> Sample {
    let sample = Sample::empty();
    let store = Store::over(sample.open());
    store.append(READING, "a", &Reading { celsius: 1.5 }).unwrap();
    let source: Source = store.source("meter").unwrap();
    source.assert(STATE, "b", &Reading { celsius: 2.5 }).unwrap();
    store.flush().unwrap();
    let journal = store.journal();
    let invoice = journal.kind("invoice").unwrap();
    journal.append(Record::new(invoice, b"good", &1234_u64.to_le_bytes())).unwrap();
    drop(source);
    store.close().unwrap();
    sample
}

/// Appends bytes as they are.
fn append(sample: &Sample, kind: &str, key: &[u8], payload: &[u8]) -> u64 {
    let journal = sample.open();
    let kind = journal.kind_named(kind).unwrap().id;
    let receipt = journal.append(Record::new(kind, key, payload)).unwrap();
    journal.close().unwrap();
    receipt.seq.get()
}

#[test]
fn every_kind_of_error_is_explained_under_the_names_that_it_has() {
    for kind in ErrorKind::ALL {
        for code in [kind.name().to_owned(), format!("{kind:?}"), kind.name().to_uppercase()] {
            let page = run(&["explain", &code]);
            assert_eq!((page.code, &*page.stderr), (Some(0), ""), "{code}");
            let rows = page.rows();
            assert_eq!(rows[0][1], format!("{} (error)", kind.name()), "{code}");
            let names: Vec<&str> = rows.iter().map(|row| row[0]).collect();
            assert_eq!(names[..5], ["code", "means", "comes about", "lost", "next"], "{code}");
        }
    }
    let all = run(&["explain"]);
    let listed = |name: &str| all.rows().iter().any(|row| row[0] == name);
    assert!(ErrorKind::ALL.iter().all(|kind| listed(kind.name())), "{}", all.stdout);
    // As errors and verifications say it: a word may stand for several pages.
    assert_eq!(run(&["explain", "no store there"]).rows()[0][1], "not-found (error)");
    let derived = run(&["explain", "derived"]).stdout;
    assert_eq!(derived.lines().filter(|line| line.starts_with("code\tderived-")).count(), 2, "{derived}");
    let unknown = run(&["explain", "nonsense"]);
    assert_eq!((unknown.code, &*unknown.stdout), (Some(2), ""));
    assert!(unknown.stderr.contains("no error and no finding \"nonsense\""), "{}", unknown.stderr);
}

#[test]
fn an_error_names_the_page_about_it_and_a_verification_that_about_its_findings() {
    let nowhere = run(&["info", "/nowhere/at/all"]);
    let page = nowhere.stderr.split('`').nth(1).unwrap();
    assert_eq!(page, "esker explain not-found");
    let sample = Sample::new();
    let (segment, offset) = place(&sample.text(), 7);
    flip(&sample.path(), segment, offset + 70);
    let json = on(&["verify"], &sample.text(), &["--json"]);
    assert_eq!(json.of_type("finding")[0]["code"], "damaged-segment");
    let plain = on(&["verify"], &sample.text(), &[]);
    let more = plain.rows().into_iter().find(|row| row[0] == "more").unwrap()[1].to_owned();
    assert_eq!(more, "esker explain damaged-segment");
    let words: Vec<&str> = more.split(' ').skip(1).collect();
    assert_eq!(run(&words).code, Some(0));
}

#[test]
fn completions_know_the_commands_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]);
        assert_eq!((script.code, &*script.stderr), (Some(0), ""), "{shell}");
        assert!(
            ["verify", "completions", "retire"].iter().all(|word| script.stdout.contains(word)),
            "{shell}"
        );
    }
    assert_eq!(run(&["completions", "tcsh"]).code, Some(2));
}

#[test]
fn the_manual_is_a_page_or_a_page_for_each_command() {
    let page = run(&["man"]);
    assert_eq!((page.code, &*page.stderr), (Some(0), ""));
    assert!(page.stdout.contains(".TH esker 1") && page.stdout.contains("Exit codes"), "{}", page.stdout);
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("new/man1");
    let made = run(&["man", "-o", pages.to_str().unwrap()]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let listed: Vec<PathBuf> = made.stdout.lines().map(PathBuf::from).collect();
    for name in ["esker.1", "esker-verify.1", "esker-cursor.1", "esker-cursor-reset.1"] {
        let path = pages.join(name);
        assert!(listed.contains(&path), "{name}: {}", made.stdout);
        assert!(std::fs::read_to_string(path).unwrap().contains(".SH SYNOPSIS"), "{name}");
    }
    assert_eq!(std::fs::read_dir(&pages).unwrap().count(), listed.len());
}

#[test]
fn an_application_links_a_tool_that_knows_its_codec_and_has_its_name() {
    let sample = books();
    let bad = append(&sample, "invoice", b"short", b"abc");
    let store = sample.text();
    let entries = own_tool(&["dump", &store, "--kind", "invoice", "--json"]).of_type("entry");
    assert_eq!((&entries[0]["payload_text"], &entries[0]["payload"]), (&"1234 cents".into(), &().into()));
    assert_eq!(entries[1]["decode_error"], "3 bytes, where 8 are an amount");
    assert_eq!((&entries[1]["payload_text"], &entries[1]["payload_base64"]), (&().into(), &"YWJj".into()));
    let plain = own_tool(&["get", &store, &(bad - 1).to_string()]);
    assert!(plain.rows().contains(&vec!["payload", "1234 cents"]), "{}", plain.stdout);
    // Asked for as bytes they are bytes, and another tool knows nothing of cents.
    let hex = own_tool(&["dump", &store, "--kind", "invoice", "--payload", "hex"]);
    assert_eq!(hex.rows()[0][7], "hex:d204000000000000");
    assert_eq!(run(&["dump", &store, "--kind", "invoice"]).rows()[0][7], "hex:d204000000000000");

    let help = own_tool(&["--help"]).stdout;
    assert!(help.contains("Usage: harbour"), "{help}");
    let wrong = own_tool(&["info", "/nowhere/at/all"]);
    assert!(wrong.stderr.starts_with("harbour: error: "), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("`harbour explain not-found`"), "{}", wrong.stderr);
    let page = own_tool(&["explain", "damaged-segment"]).stdout;
    assert!(page.contains("\tharbour verify PATH") && !page.contains("\tesker "), "{page}");
    support::flip(&sample.path(), 1, 60);
    let target = sample.directory.path().join("b.esker").display().to_string();
    let damaged = own_tool(&["backup", &store, &target]);
    assert!(
        damaged.stderr.contains("`harbour verify ") && !damaged.stderr.contains("`esker "),
        "{}",
        damaged.stderr
    );
    support::flip(&sample.path(), 1, 60);
    assert!(own_tool(&["completions", "bash"]).stdout.contains("_harbour()"));
    assert_eq!(own_tool(&["info", &store, "--json"]).json()[0]["tool"], "esker");
}

#[test]
fn a_verification_decodes_every_payload_and_names_those_that_do_not() {
    let sample = books();
    let store = sample.text();
    let good = on(&["verify", "--decode"], &store, &[]);
    assert_eq!((good.code, &*good.stderr), (Some(0), ""));
    assert!(good.rows().contains(&vec!["payloads", "3, of which 0 do not decode"]), "{}", good.stdout);

    let bad = append(&sample, "reading", b"\xff", b"\xc1");
    assert_eq!(on(&["verify"], &store, &[]).code, Some(0), "its checksum is good");
    let found = on(&["verify", "--decode"], &store, &[]);
    assert_eq!(found.code, Some(1), "{}", found.stdout);
    let row = &found.rows()[0];
    assert_eq!(row[0], "payload");
    assert!(
        row[1].contains(&format!("seq {bad}, reading/hex:ff: the payload does not decode: ")),
        "{}",
        row[1]
    );
    assert!(found.rows().contains(&vec!["verdict", "invalid"]), "{}", found.stdout);
    assert!(found.rows().contains(&vec!["more", "esker explain undecodable"]), "{}", found.stdout);
    let json = on(&["verify", "--decode"], &store, &["--json"]);
    let finding = &json.of_type("finding")[0];
    assert_eq!(
        (&finding["kind"], &finding["key"], &finding["seq"]),
        (&"reading".into(), &"hex:ff".into(), &bad.into())
    );
    assert!(!finding["why"].as_str().unwrap().is_empty(), "{finding}");
    let summary = &json.of_type("summary")[0];
    assert_eq!((&summary["decoded"], &summary["undecodable"]), (&4.into(), &1.into()));

    // A tool that knows a private codec judges by it.
    append(&sample, "invoice", b"short", b"abc");
    let own = own_tool(&["verify", &store, "--decode", "--json"]).of_type("finding");
    assert_eq!(own[1]["why"], "3 bytes, where 8 are an amount");
    assert_eq!(on(&["verify", "--decode"], &store, &["--json"]).of_type("finding").len(), 1);
    assert_eq!(on(&["verify", "--decode", "--quick"], &store, &[]).code, Some(2));
}

#[test]
fn payloads_of_a_store_that_cannot_be_opened_are_not_said_to_be_good() {
    let sample = books();
    let manifest = sample.path().join("MANIFEST");
    let mut bytes = std::fs::read(&manifest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&manifest, bytes).unwrap();
    let found = on(&["verify", "--decode"], &sample.text(), &[]);
    assert_eq!(found.code, Some(1), "{}{}", found.stdout, found.stderr);
    assert!(!found.stdout.contains("payloads\t"), "{}", found.stdout);
}
