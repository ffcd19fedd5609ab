//! Readers beside a writer that is in a hurry: a display that may miss some, and is told how many; an
//! audit that misses none, and goes on where it was after the store was closed; and a third in a
//! process of its own, which follows the files of the first.
//!
//! ```sh
//! cargo run --release --example live_tail [DIRECTORY]
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to the person who runs it")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use esker::{
    Durability, ErrorKind, Item, Options, Reader, Record, Region, Result, Seq, Start, SubscribeOptions,
    Until, WatchOptions,
};

/// This program, told to be the other process.
const CHILD: &str = "--follow";
/// Two halves, with a restart between them.
const READINGS: u64 = 100_000;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next();
    if let (true, Some(path)) = (first.as_ref().is_some_and(|first| first == CHILD), arguments.next()) {
        let newest = arguments.next().and_then(|newest| newest.to_str()?.parse().ok()).and_then(Seq::new);
        return follow(path.as_ref(), newest.map_or(Start::Oldest, Start::After));
    }
    let given = first.map(PathBuf::from);
    let path = given
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("live-tail-{}.esker", std::process::id())));
    // Made here, so that the other process finds it; it begins behind what there is.
    let journal = Options::new().open(&path)?;
    let newest = journal.view().last_seq()?.map_or(0, u64::from);
    journal.close()?;
    let other = std::env::current_exe()
        .and_then(|me| Command::new(me).arg(CHILD).arg(&path).arg(newest.to_string()).spawn());
    for half in 1..=2 {
        run(&path, half)?;
    }
    match other.and_then(|mut other| other.wait()) {
        Ok(status) => assert!(status.success(), "the other process ended with {status}"),
        Err(error) => eprintln!("there was no other process: {error}"),
    }
    match given {
        Some(path) => println!("The store stays: {}", path.display()),
        None => std::fs::remove_dir_all(&path)
            .unwrap_or_else(|error| eprintln!("could not remove {}: {error}", path.display())),
    }
    Ok(())
}

/// What the other process does: reads the files of a store that this one writes.
fn follow(path: &Path, start: Start) -> Result<()> {
    let reader = Reader::open(path)?;
    let mut readings = reader.subscribe(Region::all(), SubscribeOptions::new().from(start))?;
    let (mut seen, mut before) = (0, None);
    while seen < READINGS {
        let Some(Item::Entry(entry)) = readings.next_timeout(Duration::from_secs(60))? else { break };
        assert!(before < Some(entry.seq()), "in order, and each once");
        before = Some(entry.seq());
        seen += 1;
    }
    println!("another process: {seen} read, over the restart of the writer");
    assert_eq!(seen, READINGS, "a subscriber without a capacity misses nothing");
    Ok(())
}

fn run(path: &Path, half: u32) -> Result<()> {
    let journal = Options::new().durability(Durability::Os).open(path)?;
    let reading = journal.kind("reading")?;
    // What is on the screen may be lost in a power cut; at most 1,000 readings behind.
    let options = SubscribeOptions::new().until(Until::Visible).capacity(1000);
    let mut display = journal.subscribe_with(Region::kind(reading), options)?;
    // Durable entries only, under a name. The sync that it needs is made by the log's own thread.
    let mut audit = journal.watch_with("audit", Region::all(), WatchOptions::new())?;

    let (shown, missed, audited) = std::thread::scope(|scope| {
        let display = scope.spawn(|| show(&mut display));
        let audit = scope.spawn(|| check(&mut audit, READINGS / 2));
        for n in 0..READINGS / 2 {
            let key = format!("sensor {}", n % 100);
            journal.append(Record::new(reading, key.as_bytes(), &n.to_le_bytes()))?;
        }
        let audited = joined(audit)?;
        // The display ends with the journal.
        journal.close()?;
        let (shown, missed) = joined(display)?;
        Ok::<_, esker::Error>((shown, missed, audited))
    })?;
    println!("half {half}: {shown:>6} on the display, {missed:>6} missed, {audited:>6} audited");
    assert_eq!(shown + missed, READINGS / 2, "what a lossy reader misses is counted exactly");
    assert_eq!(audited, READINGS / 2, "a watcher misses nothing, and sees nothing again");
    Ok(())
}

fn show(display: &mut esker::Subscriber) -> Result<(u64, u64)> {
    let (mut shown, mut missed) = (0, 0);
    loop {
        match display.next() {
            Ok(Some(Item::Entry(_))) => shown += 1,
            Ok(Some(Item::Missed(gap))) => missed += gap.count,
            Ok(_) => return Ok((shown, missed)),
            Err(error) if error.kind() == ErrorKind::Closed => return Ok((shown, missed)),
            Err(error) => return Err(error),
        }
    }
}

/// Reads so many entries, a thousand at a time.
fn check(audit: &mut esker::Watcher, wanted: u64) -> Result<u64> {
    let mut audited = 0;
    while audited < wanted {
        let Some(entry) = audit.next_timeout(Duration::from_secs(60))? else { break };
        assert_eq!(entry.payload().len(), 8);
        audited += 1;
        if audited % 1000 == 0 {
            audit.checkpoint()?;
        }
    }
    audit.checkpoint()?;
    Ok(audited)
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
