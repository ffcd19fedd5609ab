//! The tool looks at stores of many entities in memory that does not grow with them.
//!
//! Linux says what a process takes. `ESKER_TOOL_ENTITIES` says how many entities there are; the default is more than are in
//! memory at a time, and what a quick test can write.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a panic is a failed test, and what was measured is told"
)]

#[path = "memory/large.rs"]
mod large;
#[path = "../../tests/memory/mod.rs"]
mod memory;
#[allow(dead_code, reason = "others use the rest")]
mod support;

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use esker::{Durability, Options, Record};
use memory::anonymous_of;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use support::tool;

const TOGETHER: u64 = 100;

fn entities() -> u64 {
    std::env::var("ESKER_TOOL_ENTITIES").map_or(500_000, |entities| entities.parse().unwrap())
}

/// Writes each entity, and every seventh once more, in another order.
fn write(path: &Path, entities: u64) {
    let journal = Options::new().durability(Durability::Os).open(path).unwrap();
    let kind = journal.kind("note").unwrap();
    let again = (0..entities).map(|n| n * 11 % entities).filter(|n| n.is_multiple_of(7));
    let keys: Vec<u64> = (0..entities).chain(again).collect();
    for keys in keys.chunks(usize::try_from(TOGETHER).unwrap()) {
        let keys: Vec<String> = keys.iter().map(|key| format!("an-entity-with-the-number-{key}")).collect();
        let mut batch = journal.batch();
        for key in &keys {
            batch.push(Record::new(kind, key.as_bytes(), b"a payload of some bytes"));
        }
        batch.commit().unwrap();
    }
    journal.close().unwrap();
}

/// Runs each of the commands, tells what it took, and fails behind the last one if any was over or ended in another way.
fn told(commands: &[&[&str]], may_take: u64, codes: &[i32]) {
    let mut over = Vec::new();
    for args in commands {
        let (memory, _, code) = most(args, false);
        let what = args.iter().enumerate().filter(|(at, _)| *at != 1).map(|(_, word)| *word);
        let told = format!("{}: {} MiB, {code:?}", what.collect::<Vec<_>>().join(" "), memory >> 20);
        println!("{told}");
        assert!(memory > 0, "{args:?} was not measured");
        over.extend(
            Some(told).filter(|_| memory > may_take || !code.is_some_and(|code| codes.contains(&code))),
        );
    }
    assert!(over.is_empty(), "over {} MiB, or not ended as {codes:?}:\n{}", may_take >> 20, over.join("\n"));
}

/// Runs the tool; answers how much memory it took at most, how many lines it wrote, and how it ended.
fn most(args: &[&str], is_on_a_terminal: bool) -> (u64, usize, Option<i32>) {
    let mut command = tool(args);
    let (output, from): (Stdio, Box<dyn std::io::Read + Send>) = if is_on_a_terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let terminal = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        (terminal.into(), Box::new(File::from(master)))
    } else {
        let (from, to) = std::io::pipe().unwrap();
        (to.into(), Box::new(from))
    };
    let mut child = command.stdout(output).spawn().unwrap();
    drop(command);
    let reading = thread::spawn(move || lines_of(from));
    let (process, mut most) = (child.id().to_string(), 0);
    let status = loop {
        most = most.max(anonymous_of(&process).unwrap_or(0));
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => thread::park_timeout(Duration::from_millis(1)),
        }
    };
    (most, reading.join().unwrap(), status.code())
}

fn lines_of(mut from: impl std::io::Read) -> usize {
    let (mut piece, mut lines) = (vec![0; 64 << 10], 0);
    // The end of a terminal is an error.
    while let Ok(length @ 1..) = from.read(&mut piece) {
        lines += piece.iter().take(length).filter(|byte| **byte == b'\n').count();
    }
    lines
}

#[test]
fn many_entities_are_looked_at_without_memory_for_them() {
    let (directory, entities) = (tempfile::tempdir().unwrap(), entities());
    let path = directory.path().join("many.esker");
    write(&path, entities);
    let all = usize::try_from(entities).unwrap();
    let (store, page) = (path.to_str().unwrap(), directory.path().join("page.html"));
    let few = (entities / 3).to_string();
    let some = usize::try_from(entities / 3).unwrap();
    let top = some / 4;
    // Pieces of 4096 rows, each under its heading.
    let (on_a_terminal, top) = (top + top.div_ceil(4096), top.to_string());
    // What each may take, in MiB.
    let commands: [(&[&str], bool, usize, u64); 7] = [
        (&["stats", store], false, 18, 32),
        (&["entities", store], false, all, 48),
        (&["entities", store, "--sort", "bytes", "--top", "20"], false, 20, 48),
        (&["entities", store, "--top", &top], true, on_a_terminal, 48),
        (&["dump", store, "--reverse", "--limit", &few], false, some, 48),
        (&["dump", store, "--last", &few], false, some, 48),
        (&["report", store, "-o", page.to_str().unwrap()], false, 4, 64),
    ];
    let mut over = Vec::new();
    for (args, is_on_a_terminal, lines, may_take) in commands {
        let (memory, written, code) = most(args, is_on_a_terminal);
        assert_eq!(code, Some(0), "{args:?}");
        let told = format!("{} {:?}: {} MiB of anonymous memory", args[0], &args[2..], memory >> 20);
        println!("{told}");
        assert!(memory > 0, "{args:?} was not measured");
        over.extend(Some(format!("{told}, over {may_take}")).filter(|_| memory > may_take << 20));
        assert_eq!(written, lines, "{args:?}");
    }
    assert!(over.is_empty(), "of {entities} entities:\n{}", over.join("\n"));
}

#[test]
fn what_is_newest_is_shown_in_both_orders_however_much_it_is() {
    const ENTITIES: u64 = 60_000;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("many.esker");
    write(&path, ENTITIES);
    let store = path.to_str().unwrap();
    let lines = |args: &[&str]| {
        let run = support::run(&[&["dump", store, "--system"], args].concat());
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        run.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let all = lines(&[]);
    assert!(all.len() as u64 > ENTITIES);
    for last in [10, 50_000] {
        assert_eq!(lines(&["--last", &last.to_string()]), all[all.len() - last..]);
    }
    let reversed: Vec<_> = all.iter().rev().cloned().collect();
    assert_eq!(lines(&["--reverse"]), reversed);
    assert_eq!(lines(&["--reverse", "--limit", "50000"]), reversed[..50_000]);
}
