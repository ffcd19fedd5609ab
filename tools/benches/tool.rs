//! What each command costs on a large store, against what the machine can do in the same run: how fast it reads the
//! same files from end to end, from its disk and from memory, and how fast it checks sums. And the memory of each that is
//! not a file's.
//!
//! What reads all of the log is run once more over files that are not in memory, beside a plain reading of them just before:
//! that is the limit which the machine sets for a store that nobody has just read or written.
//!
//! ```sh
//! cargo bench -p esker-tools --bench tool [-- [--events N] [--keys N] [--store DIRECTORY] [COMMAND...]]
//! ```
//!
//! It fails where a command does, and where anything is over its limit: `verify --full` or `export` over twice the slower of reading from the disk and checking
//! sums, `info` over 50 ms, or memory over 64 MiB.
//!
//! A store that is given and not there is made and stays. Memory is `RssAnon`, looked at every few milliseconds: a peak
//! shorter than that is not seen.
#![allow(clippy::print_stdout, reason = "a bench talks to the person who runs it")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a bench may panic"
)]

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use esker::{Durability, Options, Record};

const BATCH: u64 = 1000;
const PAYLOAD: usize = 100;
const ANON_MAX: u64 = 64 << 20;
const INFO_MAX: Duration = Duration::from_millis(50);
/// Of the slower of reading from the disk and checking sums.
const RATIO_MAX: f64 = 2.0;

struct Wishes {
    events: u64,
    keys: u64,
    store: Option<PathBuf>,
    commands: Vec<String>,
}

fn wishes() -> Wishes {
    let mut wishes = Wishes { events: 10_000_000, keys: 100_000, store: None, commands: Vec::new() };
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} wants a value"));
        match word.as_str() {
            "--events" => wishes.events = value().parse().unwrap(),
            "--keys" => wishes.keys = value().parse().unwrap(),
            "--store" => wishes.store = Some(value().into()),
            _ => wishes.commands.push(word),
        }
    }
    wishes
}

fn make(path: &Path, events: u64, keys: u64) {
    let begun = Instant::now();
    let journal = Options::new().durability(Durability::Os).open(path).unwrap();
    let kinds: Vec<_> = (0..4).map(|n| journal.kind(&format!("kind-{n}")).unwrap()).collect();
    let payload = [b'x'; PAYLOAD];
    let mut seed = 1u64;
    let mut made = 0;
    while made < events {
        let keys: Vec<Vec<u8>> = (0..BATCH.min(events - made))
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                format!("entity-{:08}", (seed >> 20) % keys).into_bytes()
            })
            .collect();
        let mut batch = journal.batch();
        for key in &keys {
            batch.push(Record::new(kinds[usize::from(key[key.len() - 1]) % kinds.len()], key, &payload));
        }
        batch.commit().unwrap();
        made += keys.len() as u64;
    }
    journal.close().unwrap();
    println!("made {events} events of {keys} entities in {:.1?}", begun.elapsed());
}

/// The files of the log.
fn files_of(store: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = store.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "seg" || extension == "snap"));
    files.sort();
    files
}

/// Has the system forget what it holds of them in memory.
fn forget(store: &Path) {
    for file in store.read_dir().unwrap() {
        let file = File::open(file.unwrap().path()).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
}

/// Their bytes, how long it takes to read them from end to end, and how much of that to check their sums, if they are checked.
fn pass(files: &[PathBuf], check: bool) -> (u64, Duration, Duration) {
    let mut buffer = vec![0; 1 << 20];
    let (mut bytes, mut in_checks, begun) = (0, Duration::ZERO, Instant::now());
    for file in files {
        let mut file = File::open(file).unwrap();
        loop {
            let count = file.read(&mut buffer).unwrap();
            if count == 0 {
                break;
            }
            bytes += count as u64;
            if check {
                let begun = Instant::now();
                std::hint::black_box(crc32fast::hash(&buffer[..count]));
                in_checks += begun.elapsed();
            }
        }
    }
    (bytes, begun.elapsed(), in_checks)
}

/// The bytes of the log, and how long it takes to read them in memory, and to check their sums.
fn limits(files: &[PathBuf]) -> (u64, Duration, Duration) {
    pass(files, false);
    let (bytes, warm, _) = pass(files, false);
    let (_, _, checks) = pass(files, true);
    let rate = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e9;
    println!(
        "log {:.2} GB: read from memory {:.2} GB/s, crc32 {:.2} GB/s",
        bytes as f64 / 1e9,
        rate(warm),
        rate(checks)
    );
    (bytes, warm, checks)
}

/// Runs it over files that are not in memory: its time, and how many times that of reading them, or of checking their sums if that
/// takes longer.
fn run_cold(words: &[&str], store: &Path, files: &[PathBuf], checks: Duration) -> f64 {
    forget(store);
    let (bytes, reading, _) = pass(files, false);
    forget(store);
    let (time, ..) = run(words);
    let rate = bytes as f64 / reading.as_secs_f64() / 1e9;
    let ratio = time.as_secs_f64() / reading.max(checks).as_secs_f64();
    println!(
        "{:<16} {:>8.3} s from disk, {ratio:.2} of reading it at {rate:.2} GB/s",
        words[0],
        time.as_secs_f64()
    );
    ratio
}

/// Runs the tool: how long it took, the peak of its own memory, and how it ended.
fn run(words: &[&str]) -> (Duration, u64, Option<i32>) {
    let begun = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_esker"))
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        if let Some(exit) = child.try_wait().unwrap() {
            return (begun.elapsed(), peak, exit.code());
        }
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0) << 10);
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn main() -> ExitCode {
    let wishes = wishes();
    let directory = tempfile::tempdir().unwrap();
    let store = wishes.store.unwrap_or_else(|| directory.path().join("large.esker"));
    if !store.exists() {
        make(&store, wishes.events, wishes.keys);
    }
    let files = files_of(&store);
    let (bytes, read, checks) = limits(&files);
    let limit = read.max(checks);
    let path = store.to_str().unwrap();
    let commands: [&[&str]; 12] = [
        &["info", path],
        &["segments", path],
        &["kinds", path],
        &["entities", path, "--top", "10"],
        &["dump", path, "--payload", "none"],
        &["verify", path, "--full"],
        &["verify", path, "--quick"],
        &["export", path],
        &["report", path, "--output", "-"],
        &["stats", path],
        &["check", path],
        &["diff", path, path],
    ];
    println!("{:<16} {:>10} {:>9} {:>8} {:>10}  code", "command", "time", "GB/s", "x memory", "RssAnon");
    let mut over = Vec::new();
    for words in commands {
        if !wishes.commands.is_empty() && !wishes.commands.iter().any(|command| command == words[0]) {
            continue;
        }
        let times = if words[0] == "info" { 21 } else { 1 };
        let mut runs: Vec<_> = (0..times).map(|_| run(words)).collect();
        runs.sort_by_key(|(time, _, _)| *time);
        let (time, _, code) = runs[times / 2];
        if runs.iter().any(|(_, _, code)| *code != Some(0)) {
            over.push(format!(
                "{} ended with {code:?}, and has not done what it is measured at",
                words.join(" ")
            ));
        }
        let anon = runs.iter().map(|(_, anon, _)| *anon).max().unwrap();
        let ratio = time.as_secs_f64() / limit.as_secs_f64();
        let name = [
            words[0],
            words.get(2).copied().filter(|word| words[0] == "verify" && word.starts_with('-')).unwrap_or(""),
        ];
        let name = name.join(" ");
        println!(
            "{name:<16} {:>8.3} s {:>9.2} {ratio:>8.2} {:>6.1} MiB  {code:?}",
            time.as_secs_f64(),
            bytes as f64 / time.as_secs_f64() / 1e9,
            anon as f64 / f64::from(1 << 20),
        );
        if words[0] == "info" && time > INFO_MAX {
            over.push(format!("info took {time:.1?}, over {INFO_MAX:?}"));
        }
        if name == "verify --full" || words[0] == "export" {
            let ratio = run_cold(words, &store, &files, checks);
            if ratio > RATIO_MAX {
                over.push(format!("{name} took {ratio:.2} times the limit, over {RATIO_MAX}"));
            }
        }
        if anon > ANON_MAX {
            over.push(format!("{name} had {} MiB of its own memory, over {}", anon >> 20, ANON_MAX >> 20));
        }
    }
    over.iter().for_each(|over| println!("over: {over}"));
    if !over.is_empty() {
        return ExitCode::FAILURE;
    }
    println!("nothing is over its limit");
    ExitCode::SUCCESS
}
