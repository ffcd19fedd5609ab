//! Where the output goes: pipes that are closed, disks that are full, terminals of every width.

use std::fs::File;
use std::io::{Read, pipe};
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::support::{Sample, on, tool};
use crate::{LOOKS, OF_ITSELF, harbour, words};

/// What comes on a terminal of this width, messages too.
pub(crate) fn on_a_terminal(
    args: &[&str],
    columns: u16,
    variables: &[(&str, &str)],
) -> (Option<i32>, String) {
    let (code, screen, _) = shown(args, columns, variables, true);
    (code, screen)
}

/// What comes of data on a terminal of this width, and what of messages elsewhere.
pub(crate) fn data_on_a_terminal(args: &[&str], columns: u16) -> (Option<i32>, String, String) {
    shown(args, columns, &[("NO_COLOR", "1")], false)
}

fn shown(
    args: &[&str],
    columns: u16,
    variables: &[(&str, &str)],
    has_messages: bool,
) -> (Option<i32>, String, String) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let terminal = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    tcsetwinsize(&terminal, Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let mut command = tool(args);
    command.env("TERM", "xterm");
    command.envs(variables.iter().copied());
    let stderr = if has_messages { Stdio::from(terminal.try_clone().unwrap()) } else { Stdio::piped() };
    let mut child = command.stdout(terminal).stderr(stderr).spawn().unwrap();
    // The command's own handles of the terminal are closed before its end is read.
    drop(command);
    let mut bytes = Vec::new();
    let _ = File::from(master).read_to_end(&mut bytes);
    let mut messages = String::new();
    child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut messages).unwrap());
    (child.wait().unwrap().code(), String::from_utf8(bytes).unwrap(), messages)
}

#[test]
fn a_pipe_that_nobody_reads_is_no_error_for_any_command() {
    let sample = Sample::new();
    let store = sample.text();
    for command in LOOKS.iter().chain(OF_ITSELF) {
        // About itself it has lines of JSON for explanations only.
        let jsons: &[bool] = if command.contains("STORE") { &[false, true] } else { &[false] };
        for json in jsons {
            let json = *json;
            let (reader, writer) = pipe().unwrap();
            drop(reader);
            let mut args = words(command, &store);
            args.extend(json.then_some("--json"));
            let done = tool(&args).stdout(writer).stderr(Stdio::piped()).output().unwrap();
            let stderr = String::from_utf8(done.stderr).unwrap();
            assert_eq!((done.status.code(), &*stderr), (Some(0), ""), "{args:?}");
        }
    }
}

#[test]
fn a_disk_that_is_full_is_an_error_for_every_command() {
    let sample = Sample::new();
    let store = sample.text();
    for command in LOOKS.iter().chain(OF_ITSELF) {
        let args = words(command, &store);
        let full = File::options().write(true).open("/dev/full").unwrap();
        let done = tool(&args).stdout(full).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(done.status.code(), Some(4), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

#[test]
fn an_output_that_is_closed_from_the_start_does_not_panic() {
    let sample = Sample::new();
    let store = sample.text();
    for command in LOOKS {
        let line = format!("exec \"$0\" {} >&- 2>&-", command.replace("STORE", "\"$1\""));
        let mut shell = std::process::Command::new("sh");
        let status = shell.args(["-c", &line, env!("CARGO_BIN_EXE_esker"), &store]).status().unwrap();
        assert!(matches!(status.code(), Some(0 | 4)), "{command}: {status}");
    }
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let sample = Sample::new();
    let store = sample.text();
    let escape = '\u{1b}';
    let info = ["info", store.as_str()];
    assert!(on_a_terminal(&info, 80, &[]).1.contains(escape));
    assert!(!on_a_terminal(&info, 80, &[("NO_COLOR", "1")]).1.contains(escape));
    assert!(!on_a_terminal(&info, 80, &[("TERM", "dumb")]).1.contains(escape));
    // A pipe is never coloured: who reads it wants fields.
    let piped = tool(&info).env("CLICOLOR_FORCE", "1").output().unwrap();
    assert!(!String::from_utf8(piped.stdout).unwrap().contains(escape));
    // Messages are for eyes wherever they go, if somebody says so.
    let wrong = |name: &str| {
        let done = tool(&["info", "/nowhere/at/all"]).env(name, "1").output().unwrap();
        String::from_utf8(done.stderr).unwrap()
    };
    assert!(wrong("CLICOLOR_FORCE").contains(escape));
    assert!(!wrong("NO_COLOR").contains(escape) && !wrong("UNUSED").contains(escape));
}

#[test]
fn a_narrow_terminal_loses_no_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.esker");
    harbour::make(&path).unwrap();
    let store = path.to_str().unwrap();
    for columns in [1, 20, 40] {
        for command in LOOKS.iter().chain(OF_ITSELF) {
            let command = command.replace("hex STORE 1", "hex STORE 4");
            let (code, screen) = on_a_terminal(&words(&command, store), columns, &[]);
            assert_eq!(code, Some(0), "{command} at {columns}: {screen}");
            assert!(!screen.contains("panicked at"), "{command} at {columns}: {screen}");
        }
        let (_, screen) = on_a_terminal(&["entities", store], columns, &[("NO_COLOR", "1")]);
        for key in ["Ada", "Barbara", "Edith", "Grace", "Hedy", "Margaret"] {
            assert!(screen.contains(key), "{key} at {columns}: {screen}");
        }
    }
}

#[test]
fn stdin_and_terminals_that_are_not_there_are_not_asked_for() {
    let sample = Sample::new();
    let plain = on(&["info"], &sample.text(), &[]);
    // In a session of its own there is no terminal to open.
    let alone = std::process::Command::new("setsid")
        .args(["--wait", env!("CARGO_BIN_EXE_esker"), "info", &sample.text()])
        .stdin(Stdio::null())
        .env_clear()
        .output()
        .unwrap();
    assert_eq!((alone.status.code(), String::from_utf8(alone.stdout).unwrap()), (Some(0), plain.stdout));
}
