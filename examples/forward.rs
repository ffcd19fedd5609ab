//! Forwards what is said of a kind to another system, here a file of JSON lines, in a process that is killed at
//! random, again and again: in the end the file has each event once, in order.
//!
//! ```sh
//! cargo run --release --example forward [DIRECTORY] [KILLS]
//! ```
//!
//! The stream has a name, so that the store remembers how far it was forwarded, and compaction leaves what was not. That
//! gives *at least once*: between a line and the checkpoint behind it the process may end. An event's place in the log is
//! its key, by which the other system knows what it has already; here that is the last whole line. So each is there
//! once.
#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use esker::{ErrorKind, Event, EventItem, EventWatcher, Kind, Patch, Start, Store};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Door {
    open: bool,
    passed: u64,
}

const DOOR: Kind<Door> = Kind::new("door").events();

/// This program, told to be the one that is killed.
const CHILD: &str = "--forward-until-killed";
/// So many events have one checkpoint.
const AT_ONCE: usize = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next();
    if first.as_ref().is_some_and(|first| first == CHILD) {
        let path = arguments.next().ok_or("a directory")?;
        return say_and_forward(path.as_ref());
    }
    let path = first.map_or_else(fresh_path, PathBuf::from);
    let kills = match arguments.next() {
        Some(kills) => kills.into_string().map_err(|_| "KILLS is a number")?.parse()?,
        None => 50,
    };
    for kill in 1..=kills {
        run_and_kill(&path, kill)?;
    }
    compare(&path)
}

/// What the child does: a source says something of doors, and what it says is forwarded.
fn say_and_forward(path: &Path) -> Result<(), Box<dyn Error>> {
    let store = Store::open(path)?;
    let mut events = store.events(DOOR).watch("forward")?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let porter = store.source("porter").expect("a source");
            for n in 0_u64.. {
                let key = format!("door {}", n % 5);
                let said = match n % 4 {
                    0 => porter.assert(DOOR, key, &Door { open: true, passed: n }),
                    1 | 2 => porter.patch(DOOR, key, &Patch::new().set("passed", &n).expect("a number")),
                    _ => porter.retract(DOOR, key),
                };
                // The first patch of a door that is not there is refused: it has no `open`. Anything else ends it.
                if let Err(error) = said
                    && error.kind() != ErrorKind::TypeMismatch
                {
                    panic!("the porter: {error}");
                }
            }
        });
        let mut to = Lines::open(path)?;
        loop {
            to.forward(&mut events, Wait::Yes)?;
            // Whoever listens may be gone, and we with it.
            std::io::stdout().write_all(b"forwarded\n")?;
        }
    })
}

enum Wait {
    Yes,
    No,
}

/// The other system: a file that knows what it has.
struct Lines {
    file: File,
    /// The place of the last event that is there whole.
    last: u64,
}

impl Lines {
    fn open(store: &Path) -> Result<Self, Box<dyn Error>> {
        let path = store.with_extension("jsonl");
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        // A kill may have left a part of a line.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        file.set_len(whole as u64)?;
        text.truncate(whole);
        let last = text.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
        Ok(Self { file, last: last.map_or(Ok(0), place_of)? })
    }

    /// Writes some events, makes them durable, and only then says that they were forwarded. Answers how many it
    /// was told.
    fn forward(&mut self, events: &mut EventWatcher<Door>, wait: Wait) -> Result<usize, Box<dyn Error>> {
        let (mut text, mut told) = (String::new(), 0);
        while told < AT_ONCE {
            let next = match wait {
                // For the first one; the others are those that there are.
                Wait::Yes if told == 0 => events.next()?,
                _ => events.try_next()?,
            };
            let Some(event) = next else { break };
            told += 1;
            let seq = event.seq().get();
            if seq > self.last {
                text.push_str(&line(&event)?);
                self.last = seq;
            }
        }
        self.file.write_all(text.as_bytes())?;
        self.file.sync_data()?;
        events.checkpoint()?;
        Ok(told)
    }
}

/// An event as a line, with its place first.
fn line(event: &Event<'_, Door>) -> esker::Result<String> {
    let door = event.value()?.map(|door| format!(r#","open":{},"passed":{}"#, door.open, door.passed));
    let key = String::from_utf8_lossy(event.key()).into_owned();
    let (seq, what) = (event.seq(), event.operation().name());
    Ok(format!("{{\"seq\":{seq},\"key\":{key:?},\"said\":\"{what}\"{}}}\n", door.unwrap_or_default()))
}

/// The place in a line.
fn place_of(line: &[u8]) -> Result<u64, Box<dyn Error>> {
    let text = std::str::from_utf8(line)?;
    let number = text.strip_prefix("{\"seq\":").and_then(|rest| rest.split(',').next());
    Ok(number.ok_or_else(|| format!("no place in {text:?}"))?.parse()?)
}

/// Lets a process work for a while, and kills it.
fn run_and_kill(path: &Path, kill: u64) -> Result<(), Box<dyn Error>> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg(CHILD)
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = BufReader::new(child.stdout.take().ok_or("a pipe")?).lines();
    for _ in 0..kill % 7 {
        said.next().ok_or("the child ended by itself")??;
    }
    // Anywhere in what it does next.
    std::thread::sleep(Duration::from_micros(kill * 7919 % 5000));
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// Forwards the rest, and compares the file with the log.
fn compare(path: &Path) -> Result<(), Box<dyn Error>> {
    let store = Store::open(path)?;
    let mut events = store.events(DOOR).watch("forward")?;
    let mut to = Lines::open(path)?;
    while to.forward(&mut events, Wait::No)? > 0 {}
    let file = std::fs::read_to_string(path.with_extension("jsonl"))?;
    let mut lines = file.lines();
    let mut all = store.events(DOOR).from(Start::Oldest).start()?;
    let mut count = 0;
    while let Some(item) = all.try_next()? {
        let EventItem::Event(event) = item else { return Err("an event that is not there any more".into()) };
        if lines.next() != Some(line(&event)?.trim_end()) {
            return Err(format!("event {} is not the next in the file", event.seq()).into());
        }
        count += 1;
    }
    if let Some(more) = lines.next() {
        return Err(format!("the file has a line that nobody said: {more}").into());
    }
    println!("{count} events, each once and in order in {}", path.with_extension("jsonl").display());
    println!("The store stays: {}", path.display());
    drop((events, all));
    store.close()?;
    Ok(())
}

fn fresh_path() -> PathBuf {
    std::env::temp_dir().join(format!("forward-{}.esker", std::process::id()))
}
