//! Stores to look at, and runs of the tool.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use esker::{Durability, Hold, Journal, Options, Record, Region, Seq, Start, WatchOptions};
use serde_json::Value;
use tempfile::TempDir;

/// What a run of the tool came to.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn rows(&self) -> Vec<Vec<&str>> {
        self.stdout.lines().map(|line| line.split('\t').collect()).collect()
    }

    /// The JSON lines, of which the first is a header and the last a summary.
    pub(crate) fn json(&self) -> Vec<Value> {
        let lines: Vec<Value> = self
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect();
        assert!(lines.iter().all(|line| line["type"].is_string()), "{}", self.stdout);
        let header = lines.first().expect("a header");
        assert_eq!((&header["type"], &header["schema"]), (&"header".into(), &1.into()));
        assert_eq!(header["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(lines.last().expect("a summary")["type"], "summary", "{}", self.stdout);
        lines
    }

    pub(crate) fn of_type(&self, what: &str) -> Vec<Value> {
        self.json().into_iter().filter(|line| line["type"] == what).collect()
    }
}

/// What the terminal of whoever runs the tests can do, and that a machine which builds wants colours, is kept from it.
pub(crate) fn tool(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_esker"));
    command.args(args).stdin(Stdio::null());
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLORTERM", "COLUMNS", "CI"] {
        command.env_remove(name);
    }
    command
}

pub(crate) fn run(args: &[&str]) -> Run {
    let output = tool(args).output().unwrap();
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A store with a few entities of two kinds over several segments and a cursor, closed in order.
pub(crate) struct Sample {
    pub(crate) directory: TempDir,
}

pub(crate) const ENTRIES: u64 = 300;
/// Up to where its cursor `audit` has seen all of them.
pub(crate) const AUDITED: u64 = 120;

impl Sample {
    pub(crate) fn new() -> Self {
        let sample = Self::empty();
        let journal = sample.open();
        let (note, doc) = (journal.kind("note").unwrap(), journal.kind("doc").unwrap());
        for n in 1..=ENTRIES {
            let payload = format!("{{\"n\":{n},\"text\":\"{}\"}}", "x".repeat(100));
            let key = format!("k{}", n % 5);
            let kind = if n % 3 == 0 { doc } else { note };
            journal.append(Record::new(kind, key.as_bytes(), payload.as_bytes())).unwrap();
        }
        sample.put(&journal, "audit", Region::all(), Start::After(Seq::new(AUDITED).unwrap()));
        journal.close().unwrap();
        sample
    }

    /// Makes a cursor that is there.
    pub(crate) fn put(&self, journal: &Journal, name: &str, region: Region, at: Start) {
        let options =
            WatchOptions::new().hold(if name == "small" { Hold::UpTo(1000) } else { Hold::Forever });
        drop(journal.watch_with(name, region, options).unwrap());
        journal.reset_cursor(name, at).unwrap();
    }

    /// A directory without a store.
    pub(crate) fn empty() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("a.esker")
    }

    pub(crate) fn text(&self) -> String {
        self.path().to_str().unwrap().to_owned()
    }

    pub(crate) fn open(&self) -> Journal {
        Options::new().segment_bytes(16 << 10).durability(Durability::Os).open(self.path()).unwrap()
    }
}

/// Turns a byte of a segment over.
pub(crate) fn flip(store: &Path, segment: u64, offset: u64) {
    let path = store.join(format!("{segment:010}.seg"));
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0xff], offset).unwrap();
}

/// The place of an entry's frame.
pub(crate) fn place(store: &str, seq: u64) -> (u64, u64) {
    let found = run(&["get", store, &seq.to_string(), "--json"]).of_type("entry");
    let (segment, offset) = found[0]["position"].as_str().unwrap().split_once(':').unwrap();
    (segment.parse().unwrap(), offset.parse().unwrap())
}

/// Runs a command on a store: its path comes first.
pub(crate) fn on(command: &[&str], store: &str, more: &[&str]) -> Run {
    let mut args = command[..1].to_vec();
    args.push(store);
    args.extend(&command[1..]);
    args.extend(more);
    run(&args)
}
