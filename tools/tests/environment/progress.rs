//! How far a long command is: on stderr, and only where that is a terminal.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use esker::{Durability, Options, Record};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::support::tool;

/// What takes longer than half a second on a large store, and what it says that it does.
const LONG: &[(&str, &str)] = &[
    ("verify STORE", "verifying"),
    ("verify STORE --decode", "ing "),
    ("check STORE --full", "verifying"),
    ("entities STORE", "reading"),
    ("kinds STORE", "reading"),
    ("stats STORE", "reading"),
    ("lives STORE", "reading"),
    ("diff STORE STORE", "comparing"),
    ("export STORE -o NEW", "exporting"),
    ("report STORE -o NEW", "drawing"),
    ("backup STORE NEW --verify", "copying"),
    ("repair STORE --output NEW", "repairing"),
];

const ENTRIES: usize = 400_000;

fn make(path: &Path) {
    let journal = Options::new().durability(Durability::Os).open(path).unwrap();
    let note = journal.kind("note").unwrap();
    for from in (0..ENTRIES).step_by(1000) {
        let keys: Vec<String> = (from..from + 1000).map(|key| format!("key-{}", key % 5000)).collect();
        let mut batch = journal.batch();
        for key in &keys {
            batch.push(Record::new(note, key.as_bytes(), b"{\"a\":1}"));
        }
        batch.commit().unwrap();
    }
    journal.close().unwrap();
}

/// Stops it for longer than anybody is to wait in silence: to whoever watches it takes as long as on a slow machine.
fn hold(child: &Child, after: Duration) {
    let pid = Pid::from_child(child);
    thread::sleep(after);
    kill_process(pid, Signal::STOP).unwrap();
    thread::sleep(Duration::from_millis(600));
    kill_process(pid, Signal::CONT).unwrap();
}

/// What comes on stderr of a command that is held up, on a terminal or in a pipe.
fn said(args: &[&str], after: Duration, is_on_a_terminal: bool) -> String {
    let mut command = tool(args);
    command.env("TERM", "xterm").stdout(Stdio::null());
    let mut from: Box<dyn Read + Send> = if is_on_a_terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let terminal = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        tcsetwinsize(&terminal, Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        command.stderr(terminal);
        Box::new(File::from(master))
    } else {
        let (from, to) = std::io::pipe().unwrap();
        command.stderr(to);
        Box::new(from)
    };
    let mut child = command.spawn().unwrap();
    drop(command);
    let reading = thread::spawn(move || {
        let mut said = Vec::new();
        // The end of a terminal is an error.
        let _ = from.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    });
    hold(&child, after);
    let status = child.wait().unwrap();
    let said = reading.join().unwrap();
    assert!(status.success(), "{args:?}: {status} {said}");
    said
}

#[test]
fn a_command_that_takes_long_says_on_a_terminal_how_far_it_is_and_nowhere_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large.esker");
    make(&path);
    let (store, mut made) = (path.to_str().unwrap(), 0);
    let mut fresh = || {
        made += 1;
        directory.path().join(format!("new-{made}")).to_str().unwrap().to_owned()
    };
    let mut silent = Vec::new();
    for (command, doing) in LONG {
        let mut run = |after, is_on_a_terminal| {
            let new = fresh();
            let place = |word| match word {
                "STORE" => store,
                "NEW" => &*new,
                word => word,
            };
            said(&command.split(' ').map(place).collect::<Vec<_>>(), after, is_on_a_terminal)
        };
        // It may have ended before it was held up, or not have begun with what takes long.
        let mut tries = [8, 20, 40, 80, 15, 30].into_iter().map(Duration::from_millis);
        let is_told = tries.any(|after| {
            let said = run(after, true);
            said.contains(doing) && said.contains(" of ") && said.contains("/s")
        });
        silent.extend(Some(*command).filter(|_| !is_told));
        assert_eq!(run(Duration::from_millis(20), false), "", "{command} in a pipe");
    }
    assert!(silent.is_empty(), "say nothing: {silent:?}");
}
