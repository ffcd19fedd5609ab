//! The history of a git repository as facts: one entity a path, one fact a change.
//!
//! ```text
//! cargo run --release --example git_history REPO STORE [PATH]
//! ```
//!
//! Reads the commits that STORE does not have yet (the first time: all up to `HEAD`), and then
//! tells what happened to PATH, or to the path that changed most often. It may be interrupted
//! at any point and run again: nothing is missing then, and nothing is there twice.
//!
//! How that holds: a commit's changes, the commit itself and the progress are **one batch**, so
//! they are in the store together or not at all. A commit with very many changes is several
//! batches, each under an idempotency key made of the commit's hash and the batch's number; the
//! last one has the commit and the progress. Who begins again repeats the earlier ones with the
//! same keys and the same content, which the store recognises.

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use esker::{Expect, Facts, IdempotencyKey, KEY_BYTES_MAX, Store};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// What a commit did to a path. The path is the entity's key, as git stores it: bytes.
#[derive(Serialize, Deserialize, Debug)]
struct Change {
    commit: String,
    author: String,
    /// Seconds since 1970, by the author's clock.
    date: i64,
    /// One letter for each parent: `A`dded, `M`odified, `D`eleted, `R`enamed here, `C`opied
    /// here, `T`ype changed. A merge has several, and only paths that differ from every parent.
    status: String,
    subject: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    renamed_from: Option<GitPath>,
    /// The whole path, where it is too long for a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    full_path: Option<GitPath>,
}

/// A commit whose changes are all in the store. The key is its hash.
#[derive(Serialize, Deserialize, Debug)]
struct Commit {
    parents: Vec<String>,
    changes: u64,
}

/// How far the ingestion is. The one entity is [`PROGRESS_KEY`].
#[derive(Serialize, Deserialize, Debug)]
struct Progress {
    last_commit: String,
}

const PATHS: Facts<Change> = Facts::new("path");
const COMMITS: Facts<Commit> = Facts::new("commit");
const PROGRESS: Facts<Progress> = Facts::new("progress");
const PROGRESS_KEY: &str = "ingested";

/// A batch takes at most so many changes. With two paths of 4 KiB and a subject each they stay
/// below the 16 MiB that a batch may have.
const BATCH_CHANGES_MAX: usize = 1000;
/// A subject is a line; whoever writes a longer one is quoted in part.
const SUBJECT_CHARS_MAX: usize = 200;
/// So many changes of the path are printed.
const PRINTED_MAX: usize = 20;

fn main() -> Result<()> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(&arguments, &mut io::stdout().lock()) {
        // Whoever reads the output has seen enough.
        Err(error) if is_closed_pipe(&*error) => Ok(()),
        outcome => outcome,
    }
}

fn is_closed_pipe(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The whole program: its arguments in, its report out.
pub(crate) fn run(arguments: &[OsString], out: &mut dyn Write) -> Result<()> {
    let (repository, store, path) = match arguments {
        [repository, store] => (repository, store, None),
        [repository, store, path] => (repository, store, Some(path.as_bytes())),
        _ => return Err("usage: git_history REPO STORE [PATH]".into()),
    };
    let git = Git { repository: repository.clone() };
    let store = Store::open(store)?;
    ingest(&git, &store, out)?;
    match path {
        Some(path) => tell(&store, path, out)?,
        None => match most_changed(&store)? {
            Some(path) => tell(&store, &path, out)?,
            None => writeln!(out, "there is no change in the store")?,
        },
    }
    store.close()?;
    Ok(())
}

/// Appends the commits that the store does not have, and says how many.
fn ingest(git: &Git, store: &Store, out: &mut dyn Write) -> Result<()> {
    let started = Instant::now();
    let head = git.resolve("HEAD")?;
    let known = store.latest(PROGRESS, PROGRESS_KEY)?.map(|fact| fact.value()).transpose()?;
    let range = match &known {
        Some(progress) => {
            git.check_ancestor(&progress.last_commit, &head)?;
            format!("{}..{head}", progress.last_commit)
        }
        None => head,
    };
    let (mut commits, mut changes, mut batches) = (0u64, 0u64, 0u64);
    let mut log = git.log(&range)?;
    while let Some(commit) = log.next_commit()? {
        // What an interrupted run has ingested of a side branch comes up again.
        if store.latest(COMMITS, &commit.hash)?.is_some() {
            continue;
        }
        batches += append_commit(store, &commit)?;
        commits += 1;
        changes += commit.changes.len() as u64;
    }
    // Nothing above waited for the disk: one sync is enough, and a power cut before it takes
    // whole batches from the end, which the next run appends again.
    store.sync()?;
    writeln!(
        out,
        "ingested {commits} commits with {changes} changes in {batches} batches, {:.2?}",
        started.elapsed()
    )?;
    let stats = store.journal().stats();
    writeln!(out, "the store has {} entries, {} bytes of log", stats.entries, stats.log_bytes)?;
    Ok(())
}

/// Appends a commit. Answers in how many batches.
fn append_commit(store: &Store, commit: &LoggedCommit) -> Result<u64> {
    let mut parts = commit.changes.chunks(BATCH_CHANGES_MAX).peekable();
    let mut number = 0;
    loop {
        let mut batch = store.batch().idempotency_key(batch_key(&commit.hash, number)?);
        for change in parts.next().unwrap_or_default() {
            let (key, whole) = key_of(&change.path);
            let fact = Change {
                commit: commit.hash.clone(),
                author: commit.author.clone(),
                date: commit.date,
                status: change.status.clone(),
                subject: commit.subject.clone(),
                renamed_from: change.renamed_from.clone().map(GitPath),
                full_path: whole.then(|| GitPath(change.path.clone())),
            };
            batch.append(PATHS, key, &fact)?;
        }
        let is_last = parts.peek().is_none();
        if is_last {
            let changes = commit.changes.len() as u64;
            let fact = Commit { parents: commit.parents.clone(), changes };
            batch.append_if(COMMITS, &commit.hash, Expect::New, &fact)?;
            batch.append(PROGRESS, PROGRESS_KEY, &Progress { last_commit: commit.hash.clone() })?;
        }
        let (_, _on_its_way_to_the_disk) = batch.commit_nowait()?;
        number += 1;
        if is_last {
            return Ok(u64::from(number));
        }
    }
}

/// The name of a commit's batch: twelve bytes of the hash, and the batch's number.
fn batch_key(hash: &str, number: u32) -> Result<IdempotencyKey> {
    let hash = hash.get(..24).ok_or_else(|| format!("{hash:?} is not the hash of a commit"))?;
    let high = u128::from_str_radix(hash, 16)?;
    Ok(IdempotencyKey((high << 32 | u128::from(number)).to_le_bytes()))
}

/// The key of a path, and whether the path is too long for one: then the key is as much of it
/// as fits, and a hash of all of it.
fn key_of(path: &[u8]) -> (Cow<'_, [u8]>, bool) {
    if path.len() <= KEY_BYTES_MAX {
        return (Cow::Borrowed(path), false);
    }
    // FNV-1a: the key stands on disk, so the hash must be the same in every build.
    let hash = path.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let suffix = format!("...{hash:016x}");
    let mut key = path.to_vec();
    key.truncate(KEY_BYTES_MAX - suffix.len());
    key.extend_from_slice(suffix.as_bytes());
    (Cow::Owned(key), true)
}

/// The path with the most changes.
fn most_changed(store: &Store) -> Result<Option<Vec<u8>>> {
    let view = store.view();
    let mut counts: HashMap<&[u8], u64> = HashMap::new();
    for fact in view.facts(PATHS) {
        // Keys stand in the header of an entry: no value is decoded here.
        *counts.entry(fact?.key()).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(key, count)| (*count, std::cmp::Reverse(*key)));
    let Some((key, _)) = most else { return Ok(None) };
    // A key that stands for a longer path is not the path: the facts under it name that.
    let newest = view.latest(PATHS, key)?.map(|fact| fact.value()).transpose()?;
    Ok(Some(newest.and_then(|change| change.full_path).map_or_else(|| key.to_vec(), |path| path.0)))
}

/// Prints what happened to a path, newest first.
fn tell(store: &Store, path: &[u8], out: &mut dyn Write) -> Result<()> {
    let started = Instant::now();
    let (key, _) = key_of(path);
    let view = store.view();
    let total = view.history(PATHS, &key).count();
    writeln!(out, "\n{} was changed {total} times", shown(path))?;
    for fact in view.history(PATHS, &key).rev().take(PRINTED_MAX) {
        let fact = fact?;
        let change = fact.value()?;
        let commit = change.commit.get(..10).unwrap_or(&change.commit);
        let (status, day) = (&change.status, day(change.date));
        let from = change.renamed_from.map(|from| format!(" (from {from})")).unwrap_or_default();
        writeln!(
            out,
            "  {:>5}  {status:<2} {commit} {day} {}: {}{from}",
            fact.generation(),
            change.author,
            change.subject
        )?;
    }
    if total > PRINTED_MAX {
        writeln!(out, "  and {} before", total - PRINTED_MAX)?;
    }
    writeln!(out, "read in {:.2?}", started.elapsed())?;
    Ok(())
}

/// Seconds since 1970 as a day, in UTC.
fn day(seconds: i64) -> String {
    // Years that begin in March put the leap day at the end, so that a month's start is a
    // linear function of its number: 153 days each five months.
    let days = seconds.div_euclid(86_400) + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// A path as text: control characters and what is no UTF-8 are escaped.
fn shown(path: &[u8]) -> String {
    match std::str::from_utf8(path) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => format!("\"{}\"", path.escape_ascii()),
    }
}

/// A path as git has it. Stored as text where it is text, else as bytes.
#[derive(Clone, Debug, PartialEq)]
struct GitPath(Vec<u8>);

impl fmt::Display for GitPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

impl Serialize for GitPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.serialize_bytes(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for GitPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl de::Visitor<'_> for Either {
            type Value = GitPath;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path as text or bytes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<GitPath, E> {
                Ok(GitPath(text.as_bytes().to_vec()))
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<GitPath, E> {
                Ok(GitPath(bytes.to_vec()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// A repository, asked through the `git` program.
struct Git {
    repository: OsString,
}

impl Git {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.arg("-C").arg(Path::new(&self.repository)).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    /// The hash of a commit.
    fn resolve(&self, name: &str) -> Result<String> {
        let commit = format!("{name}^{{commit}}");
        let output =
            self.command(&["rev-parse", "--verify", "--quiet", &commit]).output().map_err(not_started)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            let said = if said.is_empty() { "it has no commits".to_owned() } else { said };
            return Err(format!("{}: no {name}: {said}", self.repository.display()).into());
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Refuses a store of another repository, or of a history that was rewritten.
    fn check_ancestor(&self, last: &str, head: &str) -> Result<()> {
        let output =
            self.command(&["merge-base", "--is-ancestor", last, head]).output().map_err(not_started)?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!(
            "the last commit in the store, {last}, does not lead to HEAD of {}: it is another repository, or its \
             history was rewritten; use a new store",
            self.repository.display()
        )
        .into())
    }

    /// The commits of a range, parents first.
    fn log(&self, range: &str) -> Result<Log> {
        // Everything that a person's configuration could change is said: the same commit must
        // always give the same facts.
        let mut command = self.command(&[
            "-c",
            "log.showSignature=false",
            "-c",
            "log.showRoot=true",
            "log",
            "--reverse",
            "--topo-order",
            "-c",
            "--find-renames",
            "--find-copies",
            "-l1000",
            "-O/dev/null",
            "--no-relative",
            "--no-ext-diff",
            "--no-textconv",
            "--no-notes",
            "--no-color",
            "--no-mailmap",
            "--ignore-submodules=none",
            "--encoding=UTF-8",
            "--name-status",
            "-z",
            "--format=tformat:commit%x00%H%x00%P%x00%an%x00%at%x00%s%x00",
            range,
            "--",
        ]);
        let mut child = command.stdout(Stdio::piped()).spawn().map_err(not_started)?;
        let output = child.stdout.take().ok_or("git has no standard output")?;
        Ok(Log { child, output: BufReader::with_capacity(1 << 16, output), started: false })
    }
}

fn not_started(error: std::io::Error) -> String {
    format!("start git, which this example needs: {error}")
}

/// A commit as the log tells it.
#[derive(Debug)]
struct LoggedCommit {
    hash: String,
    parents: Vec<String>,
    author: String,
    date: i64,
    subject: String,
    changes: Vec<LoggedChange>,
}

#[derive(Debug)]
struct LoggedChange {
    status: String,
    path: Vec<u8>,
    renamed_from: Option<Vec<u8>>,
}

/// What `git log` writes: a row of texts with a zero byte behind each.
///
/// ```text
/// commit  HASH  PARENTS  AUTHOR  DATE  SUBJECT  { ""  |  "\n"? STATUS  PATH  PATH? }
/// ```
///
/// A path may be any bytes, so each text is known by its place alone. Where a status can stand,
/// it begins with a capital letter; the next commit with the word `commit`; and git separates
/// the two parts of a commit with empty texts or line feeds, as it likes.
struct Log {
    child: Child,
    output: BufReader<ChildStdout>,
    /// The word `commit` of the next one was read.
    started: bool,
}

impl Log {
    fn next_commit(&mut self) -> Result<Option<LoggedCommit>> {
        if !self.started {
            match self.text()? {
                None => return Ok(None),
                Some(word) if word == b"commit" => {}
                Some(other) => return Err(unexpected("the word \"commit\"", &other)),
            }
        }
        let hash = self.line()?;
        let parents = self.line()?.split_whitespace().map(str::to_owned).collect();
        let author = self.line()?;
        let date = self.line()?;
        let date = date.parse().map_err(|_| unexpected("a time in seconds", date.as_bytes()))?;
        let subject = self.line()?.chars().take(SUBJECT_CHARS_MAX).collect();
        let changes = self.changes()?;
        Ok(Some(LoggedCommit { hash, parents, author, date, subject, changes }))
    }

    fn changes(&mut self) -> Result<Vec<LoggedChange>> {
        let mut changes = Vec::new();
        self.started = false;
        while let Some(text) = self.text()? {
            let status = text.trim_ascii_start();
            match status.first() {
                None => {}
                Some(b'c') if status == b"commit" => {
                    self.started = true;
                    break;
                }
                Some(b'A'..=b'Z') => changes.push(self.change(status)?),
                Some(_) => return Err(unexpected("a status or the next commit", status)),
            }
        }
        Ok(changes)
    }

    fn change(&mut self, status: &[u8]) -> Result<LoggedChange> {
        // "R087" names two paths: from and to. The letters of a merge ("MM", "RM") name one.
        let letters = status.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
        let (letters, score) = status.split_at(letters);
        let has_two = !score.is_empty() && matches!(letters, b"R" | b"C");
        let first = self.path()?;
        let (path, renamed_from) = if has_two { (self.path()?, Some(first)) } else { (first, None) };
        let status = String::from_utf8_lossy(letters).into_owned();
        Ok(LoggedChange { status, path, renamed_from })
    }

    fn path(&mut self) -> Result<Vec<u8>> {
        match self.text()? {
            Some(path) if !path.is_empty() => Ok(path),
            _ => Err("git log ended where a path should be".into()),
        }
    }

    fn line(&mut self) -> Result<String> {
        let text = self.text()?.ok_or("git log ended in the middle of a commit")?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The next text, or `None` at the end. It is the end only if git says so, too: a git that
    /// fails breaks off behind a commit's head, which would look like a commit without changes.
    fn text(&mut self) -> Result<Option<Vec<u8>>> {
        let mut text = Vec::new();
        self.output.read_until(0, &mut text)?;
        match text.pop() {
            None => {
                let status = self.child.wait()?;
                if status.success() { Ok(None) } else { Err(format!("git log failed: {status}").into()) }
            }
            Some(0) => Ok(Some(text)),
            Some(_) => Err("git log ended in the middle of a text".into()),
        }
    }
}

fn unexpected(expected: &str, found: &[u8]) -> Box<dyn Error> {
    format!("read git log: expected {expected}, found {}", shown(found)).into()
}
