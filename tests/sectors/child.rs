//! What runs in processes of their own: a bad sector below a mapping ends whoever reads it.

use std::fmt;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use esker::{
    Check, CompactOptions, Durability, Error, ErrorKind, Journal, Keep, Reader, Record, Region, Seq, View,
    Watcher,
};

use crate::blocks::device::Place;
use crate::blocks::judge::{judge, whole};
use crate::blocks::known::{JUDGE, Known};
use crate::blocks::workload::{
    CELL, COUNTER, CURSOR, Life, Marks, append, last_count, live, options, payload,
};

const ROLE: &str = "ESKER_SECTORS_ROLE";
const TOLD: &str = "ESKER_SECTORS_TOLD";
/// How a line begins that a child says to its parent: the harness of tests writes others.
const SAID: &str = "=> ";

fn say(line: impl fmt::Display) {
    // The harness writes no newline before the first line.
    let line = line.to_string().replace('\n', " ");
    std::io::stdout().write_all(format!("\n{SAID}{line}\n").as_bytes()).unwrap();
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Well,
    /// It read a mapped page that could not be had.
    Bus,
    Otherwise(String),
}

pub(crate) struct Child {
    pub(crate) said: Vec<String>,
    pub(crate) ended: Ended,
}

impl Child {
    /// Runs a role to its end.
    pub(crate) fn run(role: &str, place: &Place, told: &str) -> Self {
        Self::run_by(Command::new(std::env::current_exe().unwrap()), role, place, told)
    }

    /// As [`run`](Self::run), by a command that starts this program.
    pub(crate) fn run_by(mut command: Command, role: &str, place: &Place, told: &str) -> Self {
        command.args(["--exact", "role_of_a_child_process", "--nocapture", "--test-threads=1"]);
        command.env(ROLE, role).env(TOLD, told).stdin(Stdio::null());
        place.tell(&mut command);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let said = text.lines().filter_map(|line| Some(line.strip_prefix(SAID)?.to_owned())).collect();
        let ended = match output.status.signal() {
            None if output.status.success() => Ended::Well,
            Some(libc::SIGBUS) => Ended::Bus,
            _ => Ended::Otherwise(format!(
                "{}: {text} {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            )),
        };
        Self { said, ended }
    }

    /// What stands behind this word, line by line.
    pub(crate) fn all<'a>(&'a self, word: &str) -> impl Iterator<Item = &'a str> {
        let word = format!("{word} ");
        self.said.iter().filter_map(move |line| line.strip_prefix(&word))
    }

    pub(crate) fn first(&self, word: &str) -> Option<&str> {
        self.all(word).next()
    }
}

/// What this process is to do, if it is a child.
pub(crate) fn play() {
    let (Ok(role), Some(place), Ok(told)) = (std::env::var(ROLE), Place::told(), std::env::var(TOLD)) else {
        return;
    };
    let store = place.store();
    match role.as_str() {
        "lives" => {
            let numbers: Vec<u64> = told.split(' ').map(|number| number.parse().unwrap()).collect();
            let [seed, batches, is_closed] = numbers[..] else { panic!("no life: {told}") };
            let batches = usize::try_from(batches).unwrap();
            let life = Life { seed, batches, is_lazy: false, is_closed: is_closed == 1 };
            live(&store, &place.marks, life).unwrap();
        }
        "lists" => list(&Reader::open(&store).unwrap().view().unwrap()),
        "reads" => read_with_a_reader(&store, &told),
        "reads as the writer" => read_with_a_journal(&store, &told),
        "verifies" => verify(&store),
        "repairs" => repair(&store, Path::new(&told)),
        "works" => work(&place, told.parse().unwrap()),
        "recovers" => recover(&store, &Known::parse(&told)),
        "judges" => match judge(&store, &Marks::open(&place.marks), &Known::parse(&told)) {
            Ok(class) => say(format!("right {class}")),
            Err(what) => say(format!("wrong {what}")),
        },
        other => panic!("no role {other}"),
    }
}

/// An error as one line: its kind, the file's name, the offset, and in words.
fn tell(word: &str, error: &Error) {
    let file = error.path().and_then(Path::file_name).map_or("-".into(), |name| name.to_string_lossy());
    let offset = error.offset().map_or_else(|| "-".to_owned(), |offset| offset.to_string());
    say(format!("{word} {} {file} {offset} {error}", error.kind().name()));
}

fn list(view: &View) {
    for entry in view.range(..) {
        let entry = entry.unwrap();
        let (seq, place, more) = (entry.seq(), entry.position(), u8::from(entry.has_more()));
        let (segment, offset, bytes) = (place.segment(), place.offset(), entry.frame_bytes());
        say(format!("entry {seq} {segment} {offset} {bytes} {more} {}", entry.time()));
    }
}

fn read_with_a_reader(store: &Path, told: &str) {
    match Reader::open(store).and_then(|reader| reader.view()) {
        Ok(view) => read(&view, told),
        Err(error) => tell("unopened", &error),
    }
}

fn read_with_a_journal(store: &Path, told: &str) {
    match options().background(false).open_existing(store) {
        Ok(journal) => {
            read(&journal.view(), told);
            match journal.close() {
                Ok(()) => say("closed"),
                Err(error) => tell("unclosed", &error),
            }
        }
        Err(error) => tell("unopened", &error),
    }
}

/// Each of the entries that were asked for, each alone; and then all of them from the front.
fn read(view: &View, told: &str) {
    say("opened");
    for number in told.split(' ').filter(|number| !number.is_empty()) {
        let seq = Seq::new(number.parse().unwrap()).unwrap();
        say(format!("next {seq}"));
        match view.get(seq) {
            Ok(Some(entry)) if is_right(entry.payload()) => say(format!("read {seq}")),
            Ok(Some(entry)) => say(format!("false {seq} {:?}", entry.payload())),
            Ok(None) => say(format!("silent {seq}")),
            Err(error) => tell(&format!("failed {seq}"), &error),
        }
    }
    say("walk");
    let mut count = 0;
    for entry in view.range(..) {
        match entry {
            Ok(_) => count += 1,
            Err(error) => return tell(&format!("walked {count} then"), &error),
        }
    }
    say(format!("walked {count}"));
}

/// Every payload says which it is.
fn is_right(bytes: &[u8]) -> bool {
    let Some((count, rest)) = bytes.split_first_chunk::<8>() else { return false };
    let [writer, index, ..] = rest else { return false };
    *writer <= u8::try_from(JUDGE).unwrap()
        && bytes == payload(usize::from(*writer), u64::from_le_bytes(*count), u64::from(*index))
}

fn verify(store: &Path) {
    let found = match esker::verify(store, Check::Full) {
        Ok(found) => found,
        Err(error) => return tell("unverified", &error),
    };
    for finding in &found.findings {
        let lost = finding.lost.as_ref().map_or((1, 0), |lost| (*lost.start(), *lost.end()));
        let (severity, offset) = (format!("{:?}", finding.severity), finding.offset.unwrap_or(0));
        say(format!("finding {severity} {} {offset} {} {} {finding}", finding.file, lost.0, lost.1));
    }
    say(format!("verdict {}", found.verdict));
}

fn repair(store: &Path, target: &Path) {
    let repaired = match esker::repair(store, target) {
        Ok(repaired) => repaired,
        Err(error) => return tell("unrepaired", &error),
    };
    for (first, last) in &repaired.lost {
        say(format!("lost {first} {last}"));
    }
    for entry in Reader::open(target).unwrap().view().unwrap().range(..) {
        let entry = entry.unwrap();
        let word = if is_right(entry.payload()) { "read" } else { "false" };
        say(format!("{word} {}", entry.seq()));
    }
    say("repaired");
}

/// What is there when it is opened. It ends by an abort: nothing is written that the opening has not.
fn recover(store: &Path, known: &Known) {
    match options().background(false).open_existing(store) {
        Ok(journal) => match whole(&journal, known) {
            Ok(found) => {
                say(format!("found {found}"));
                std::mem::forget(journal);
            }
            Err(what) => say(format!("wrong {what}")),
        },
        Err(error) => tell("unopened", &error),
    }
}

/// So many calls may fail before it gives up.
const PATIENCE: usize = 6;

/// One thread that appends, moves a cursor and compacts; it goes on where a call fails that says that nothing was done.
fn work(place: &Place, batches: u64) {
    let (store, marks) = (place.store(), Marks::open(&place.marks));
    let journal = match options().background(false).durability(Durability::Sync).open(&store) {
        Ok(journal) => journal,
        Err(error) => return tell("unopened", &error),
    };
    let mut worker = Worker { journal, marks, failures: 0 };
    match worker.begin().and_then(|watcher| worker.go_on(watcher, batches)) {
        Ok(()) => say("through"),
        Err(error) if error.kind() == ErrorKind::Poisoned => worker.is_poisoned(&error),
        Err(error) => tell("gave up", &error),
    }
    // A close would write.
    std::mem::forget(worker.journal);
}

struct Worker {
    journal: Journal,
    marks: Marks,
    failures: usize,
}

impl Worker {
    /// Again where it failed and may be repeated.
    fn try_again<T>(
        &mut self,
        what: &str,
        mut call: impl FnMut(&Journal, &Marks) -> esker::Result<T>,
    ) -> esker::Result<T> {
        loop {
            match call(&self.journal, &self.marks) {
                Err(error) if error.kind() != ErrorKind::Poisoned && self.failures < PATIENCE => {
                    self.failures += 1;
                    tell(&format!("failed {what}"), &error);
                }
                other => return other,
            }
        }
    }

    fn begin(&mut self) -> esker::Result<Watcher> {
        self.try_again("kinds", |journal, _| {
            journal.kind(COUNTER)?;
            let cell = journal.kind(CELL)?;
            journal.keep(cell, Keep::Latest)
        })?;
        self.marks.mark("open");
        self.try_again("watch", |journal, _| journal.watch(CURSOR, Region::All))
    }

    fn go_on(&mut self, mut watcher: Watcher, batches: u64) -> esker::Result<()> {
        for count in 1..=batches {
            for writer in 0..JUDGE {
                let seq = self.try_again("append", |journal, marks| {
                    let before = last_count(journal, journal.kind(CELL)?, writer)?;
                    assert_eq!(before + 1, count, "what failed was appended");
                    append(journal, marks, writer, count)
                })?;
                self.marks.mark(&format!("ack {writer} {count} {seq}"));
            }
            if count % 3 == 0 {
                let mut at = 0;
                while let Some(entry) = watcher.try_next()? {
                    at = entry.seq().get();
                }
                self.try_again("checkpoint", |_, _| watcher.checkpoint())?;
                self.marks.mark(&format!("at {at}"));
            }
            if count % 12 == 0 {
                let thorough = CompactOptions::new().keep_tombstones_for(Duration::ZERO).thorough(true);
                self.try_again("compact", |journal, _| journal.compact(&thorough))?;
            }
        }
        Ok(())
    }

    /// Nobody gets anything out of it any more, and it asks nothing of the disk again.
    fn is_poisoned(&self, error: &Error) {
        tell("poisoned", error);
        let syncs = self.journal.stats().syncs;
        let refused = |what: &str, outcome: esker::Result<()>| match outcome {
            Err(error) if error.kind() == ErrorKind::Poisoned => {}
            other => say(format!("wrong behind the poison: {what}: {other:?}")),
        };
        refused("sync", self.journal.sync().map(drop));
        let appended = |kind| self.journal.append(Record::new(kind, b"more", b"more"));
        refused("append", self.journal.kind(COUNTER).and_then(appended).map(drop));
        refused("kind", self.journal.kind("other").map(drop));
        if self.journal.stats().syncs != syncs {
            say("wrong behind the poison: it synced again");
        }
    }
}
