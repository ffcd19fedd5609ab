//! The main job in one file: open a store, append typed facts, append a batch, read an entity's
//! history, crash for real, and find everything that was acknowledged.
//!
//! ```text
//! cargo run --release --example quickstart [DIRECTORY]
//! ```
//!
//! Without a directory a fresh one is made under the system's temporary directory. It stays
//! there, to be looked at.
#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use esker::{Check, ErrorKind, Expect, Facts, IdempotencyKey, Store, Verdict};
use serde::{Deserialize, Serialize};

/// What happens to an order. A fact is never changed: the next one says what changed.
#[derive(Serialize, Deserialize, Debug)]
enum OrderEvent {
    Placed { item: String, quantity: u32 },
    Paid { cents: u64 },
    Shipped { parcel: String },
}

/// What happens to the stock of an item.
#[derive(Serialize, Deserialize, Debug)]
struct StockMove {
    by: i64,
    reason: String,
}

/// What the process that will be killed appends.
#[derive(Serialize, Deserialize, Debug)]
struct Reading {
    number: u64,
    celsius: f32,
}

// The handles: a name on disk, and the Rust type behind it.
const ORDERS: Facts<OrderEvent> = Facts::new("order");
const STOCK: Facts<StockMove> = Facts::new("stock");
const READINGS: Facts<Reading> = Facts::new("reading");

/// The parent kills its child after so many acknowledgements.
const ACKNOWLEDGED_BEFORE_KILL: u64 = 300;
/// This program, told to be the one that is killed.
const CHILD: &str = "--append-until-killed";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(first), Some(path)) if first == CHILD => append_until_killed(path.as_ref()),
        (path, _) => tour(&path.map_or_else(fresh_path, PathBuf::from)),
    }
}

fn fresh_path() -> PathBuf {
    // A process may come back under a number that was used before: the time makes it fresh.
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    std::env::temp_dir().join(format!("quickstart-{}.esker", since.as_millis()))
}

fn tour(path: &Path) -> Result<(), Box<dyn Error>> {
    println!("1. Open {}", path.display());
    let store = Store::open(path)?;

    append_facts(&store)?;
    append_a_batch(&store)?;
    read_a_history(&store)?;
    store.close()?;

    let acknowledged = crash(path)?;
    check_what_survived(path, acknowledged)?;

    println!("\nThe store is in {}. To look at it:", path.display());
    println!("    cargo run --release -p esker-tools -- info {}", path.display());
    Ok(())
}

/// Every append names an entity (a kind and a key) and returns when the fact is on the disk.
fn append_facts(store: &Store) -> esker::Result<()> {
    println!("\n2. Append facts about order 8812");
    let event = OrderEvent::Placed { item: "lamp".to_owned(), quantity: 2 };
    let placed = store.append(ORDERS, "8812", &event)?;
    println!("   placed: entry {} of the log, generation {} of the order", placed.seq, placed.generation);
    let paid = store.append(ORDERS, "8812", &OrderEvent::Paid { cents: 5_980 })?;
    println!("   paid:   entry {} of the log, generation {} of the order", paid.seq, paid.generation);

    // An append may say what it believes. Somebody who has not seen the payment is refused.
    let stale = OrderEvent::Paid { cents: 5_980 };
    match store.append_if(ORDERS, "8812", Expect::Generation(placed.generation), &stale) {
        Err(error) if error.kind() == ErrorKind::Conflict => println!("   paid twice? {error}"),
        other => drop(other?),
    }
    Ok(())
}

/// A batch is appended whole or not at all, over any kinds. Its key makes it safe to repeat.
fn append_a_batch(store: &Store) -> esker::Result<()> {
    println!("\n3. Ship it: two kinds in one atomic batch, sent twice under one idempotency key");
    for attempt in ["first", "again"] {
        let mut batch = store.batch().idempotency_key(IdempotencyKey(*b"ship order  8812"));
        batch.append(ORDERS, "8812", &OrderEvent::Shipped { parcel: "P-31".to_owned() })?;
        batch.append(STOCK, "lamp", &StockMove { by: -2, reason: "order 8812".to_owned() })?;
        let done = batch.commit()?;
        let seqs: Vec<_> = done.receipts.iter().map(|receipt| receipt.seq.get()).collect();
        println!("   {attempt}: entries {seqs:?}, repeated: {}", done.repeated);
    }
    Ok(())
}

/// A view is one moment of the log. Values are decoded from the mapped file when asked for.
fn read_a_history(store: &Store) -> esker::Result<()> {
    println!("\n4. What happened to order 8812");
    let view = store.view();
    for fact in view.history(ORDERS, "8812") {
        let fact = fact?;
        println!("   generation {}: {:?}", fact.generation(), fact.value()?);
    }
    Ok(())
}

/// Starts this program again to append readings, and kills it in the middle. Answers the number
/// of the last reading whose append had returned.
fn crash(path: &Path) -> Result<u64, Box<dyn Error>> {
    println!("\n5. Crash: another process appends, says so after each append, and is killed by SIGKILL");
    let started = Instant::now();
    let program = std::env::current_exe()?;
    let mut child = Command::new(program).arg(CHILD).arg(path).stdout(Stdio::piped()).spawn()?;
    let said = child.stdout.take().ok_or("the child has no standard output")?;
    let (mut last, mut appends) = (0, 0);
    for line in BufReader::new(said).lines() {
        last = line?.parse()?;
        appends += 1;
        if appends == ACKNOWLEDGED_BEFORE_KILL {
            // It goes on appending until the signal arrives; what it still says is read, too.
            child.kill()?;
        }
    }
    let status = child.wait()?;
    if appends < ACKNOWLEDGED_BEFORE_KILL {
        return Err(format!("the child ended early, after {appends} readings: {status}").into());
    }
    println!("   {appends} appends were acknowledged in {:.1?}; then: {status}", started.elapsed());
    Ok(last)
}

/// The child: it appends, and says the number of each reading once its append has returned.
fn append_until_killed(path: &Path) -> Result<(), Box<dyn Error>> {
    let store = Store::open(path)?;
    // The numbers go on where an earlier run was killed.
    let known =
        store.latest(READINGS, "cellar")?.map_or(Ok(0), |fact| fact.value().map(|last| last.number))?;
    for number in known + 1.. {
        let celsius = 11.5 + f32::from(u8::try_from(number % 10)?) / 10.0;
        store.append(READINGS, "cellar", &Reading { number, celsius })?;
        // Every line goes into the pipe at once: what was said is said, whatever comes next.
        writeln!(io::stdout().lock(), "{number}")?;
    }
    Ok(())
}

/// Opens the store again. Whatever was acknowledged must be there, in order and without a gap.
fn check_what_survived(path: &Path, acknowledged: u64) -> Result<(), Box<dyn Error>> {
    println!("\n6. Open it again");
    let started = Instant::now();
    let store = Store::open(path)?;
    let elapsed = started.elapsed();
    let report = store.journal().recovery();
    println!(
        "   opened in {elapsed:.1?}: clean: {}, {} bytes scanned, {} bytes of a torn batch cut off",
        report.clean, report.bytes_scanned, report.cut
    );

    let view = store.view();
    let mut found = 0;
    for fact in view.facts(READINGS) {
        let reading = fact?.value()?;
        found += 1;
        if reading.number != found {
            return Err(format!("reading {} stands where {found} should be", reading.number).into());
        }
    }
    println!(
        "   reading {acknowledged} was the last acknowledged; {found} are there, in order and without a gap"
    );
    if found < acknowledged {
        return Err(format!("{} acknowledged readings are lost", acknowledged - found).into());
    }
    let stats = store.journal().stats();
    println!(
        "   {} entries about {} entities, {} bytes of log",
        stats.entries, stats.entities, stats.log_bytes
    );
    store.close()?;

    println!("\n7. Verify: every checksum, number and index, against each other");
    let verified = esker::verify(path, Check::Full)?;
    println!("   {} frames in {} segments: {}", verified.frames, verified.segments, verified.verdict);
    for finding in &verified.findings {
        println!("   {finding}");
    }
    if verified.verdict != Verdict::Valid {
        return Err("the store does not verify".into());
    }
    Ok(())
}
