//! A backup of a store that is being written, and a store made of it.
//!
//! ```sh
//! cargo run --release --example backup_while_writing [DIRECTORY]
//! ```
//!
//! Without a directory a fresh one is made under the system's temporary directory; three stores stay in
//! it, to be looked at.
#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use esker::{BackupBy, Durability, Facts, Options, Reader, Result, Store, restore};

const READINGS: Facts<u64> = Facts::new("reading");

fn main() -> Result<()> {
    let given = std::env::args_os().nth(1).map(PathBuf::from);
    let directory =
        given.unwrap_or_else(|| std::env::temp_dir().join(format!("backup-{}", std::process::id())));
    std::fs::create_dir_all(&directory).expect("a directory to work in");
    let [path, backup, restored] =
        ["sensors.esker", "sensors.backup", "restored.esker"].map(|name| directory.join(name));

    let store = Store::over(Options::new().durability(Durability::Os).open(&path)?);
    (0..500_000).try_for_each(|n| store.append_nowait(READINGS, "sensor 1", &n).map(drop))?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut appended = 0;
            let mut longest = std::time::Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let began = Instant::now();
                store.append(READINGS, "sensor 1", &appended)?;
                longest = longest.max(began.elapsed());
                appended += 1;
            }
            Ok::<_, esker::Error>((appended, longest))
        });
        let began = Instant::now();
        let made = store.journal().backup(&backup, BackupBy::Copy)?;
        let took = began.elapsed();
        done.store(true, Ordering::Relaxed);
        let (appended, longest) = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let megabytes = made.bytes / 1_000_000;
        println!("{megabytes} MB in {} segments were copied and verified in {took:.1?};", made.segments);
        println!("meanwhile {appended} readings were appended, the slowest in {longest:.1?}");
        Ok::<_, esker::Error>(())
    })?;
    store.close()?;

    let copy = Reader::open(&backup)?;
    let through = copy.view()?.last_seq()?;
    let done = restore(&backup, &restored)?;
    let again = Store::open(&restored)?;
    again.append(READINGS, "sensor 1", &0)?;
    println!("the backup ends with entry {through:?}; restored, it goes on in era {}", done.era);
    again.close()?;
    println!("The stores stay: {}", directory.display());
    Ok(())
}
