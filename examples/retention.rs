//! A log that is written for ever on a disk that does not grow: what is kept of each kind, who can hold
//! that back, and how it is seen.
//!
//! ```sh
//! cargo run --release --example retention [DIRECTORY [ROUNDS]]
//! ```
//!
//! Weather stations send readings, of which the newest of each station counts; the service counts its own
//! requests, which nobody wants to see later; calibrations are kept for ever. An exporter reads all of it
//! and dies one day. Everything that is said about the outcome is asserted. Without a directory a fresh one
//! is made under the system's temporary directory; it stays there, to be looked at with `esker info`. After
//! 10 rounds of the 24 the exporter that died still holds everything back.
#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use esker::{
    Check, CompactOptions, Compaction, Durability, Facts, Keep, Options, PinnedBy, Region, Result, Seq,
    Store, Verdict, verify,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Reading {
    celsius: f32,
    humidity: u8,
    hectopascal: f32,
}

#[derive(Serialize, Deserialize)]
struct Requests {
    count: u32,
    slowest_ms: u32,
}

#[derive(Serialize, Deserialize)]
struct Calibration {
    by: String,
    offset: f32,
}

const READINGS: Facts<Reading> = Facts::new("reading");
const REQUESTS: Facts<Requests> = Facts::new("requests");
const CALIBRATIONS: Facts<Calibration> = Facts::new("calibration");

const STATIONS: u32 = 200;
pub(crate) const ROUNDS: u32 = 24;
/// The exporter has read all of these, and nothing afterwards.
const EXPORTED: u32 = 3;
/// In this round somebody looks why the disk fills, and retires it.
const RETIRED: u32 = 10;
const SEGMENT_BYTES: u64 = 256 << 10;

fn main() -> Result<()> {
    let given = std::env::args_os().nth(1).map(PathBuf::from);
    let path =
        given.unwrap_or_else(|| std::env::temp_dir().join(format!("retention-{}", std::process::id())));
    let rounds = match std::env::args().nth(2) {
        Some(rounds) => rounds.parse().map_err(|_| format!("ROUNDS is {rounds:?}: a number up to {ROUNDS}"))?,
        None => ROUNDS,
    };
    run(&path, rounds.min(ROUNDS))?;
    println!("The store stays: {}", path.display());
    Ok(())
}

/// So many rounds; what it came to is for who sees all of them.
pub(crate) fn run(path: &Path, rounds: u32) -> Result<()> {
    let options = || Options::new().segment_bytes(SEGMENT_BYTES).durability(Durability::Os);
    let store = Store::over(options().open(path)?);
    keep(&store, &store.region(READINGS)?, Keep::Latest)?;
    keep(&store, &store.region(REQUESTS)?, Keep::Nothing)?;
    // Calibrations: `Keep::All` is what every kind begins with.

    let mut weather = Weather::new();
    let mut newest = BTreeMap::new();
    let mut on_disk = Vec::new();
    println!("round  entries so far  appended so far     on disk  held back by");
    for round in 1..=rounds {
        weather.send_a_round(&store, round, &mut newest)?;
        if round <= EXPORTED {
            export(&store)?;
        }
        let done = store.journal().compact(&CompactOptions::new().keep_tombstones_for(Duration::ZERO))?;
        on_disk.push(bytes_in(path));
        let stats = store.journal().stats();
        println!(
            "{round:>5}  {:>14}  {:>12} kB  {:>7} kB  {}",
            stats.entries,
            stats.appended_bytes / 1000,
            bytes_in(path) / 1000,
            held_back_by(&done)
        );
        let is_held = (EXPORTED + 1..=RETIRED).contains(&round);
        let by_the_exporter = |by: &PinnedBy| *by == PinnedBy::Cursor("exporter".to_owned());
        assert_eq!(is_held, done.held_back_by.iter().any(|held| by_the_exporter(&held.by)), "{done:?}");
        if round == RETIRED && rounds > RETIRED {
            println!("       nobody exports any more: the cursor is retired, as by `esker cursor retire`");
            store.journal().retire_cursor("exporter")?;
        }
    }
    if rounds < ROUNDS {
        return store.close();
    }
    show(&store, &on_disk, &newest)?;
    store.close()?;

    assert_eq!(verify(path, Check::Full)?.verdict, Verdict::Valid);
    let again = Store::over(options().open(path)?);
    count(&again, &newest)?;
    again.close()
}

fn keep(store: &Store, region: &Region, keep: Keep) -> Result<()> {
    match region {
        Region::Kind(kind) => store.journal().keep(*kind, keep),
        _ => unreachable!("the region of all facts of a type is a kind"),
    }
}

/// Reads everything that is new, under a name that holds back what it has not seen.
fn export(store: &Store) -> Result<()> {
    // It sees what is durable.
    store.sync()?;
    let mut exporter = store.journal().watch("exporter", Region::all())?;
    while exporter.advance()? {}
    exporter.checkpoint()
}

fn held_back_by(done: &Compaction) -> String {
    let held = done.held_back_by.iter().map(|held| match &held.by {
        PinnedBy::Cursor(name) => format!("{name}, from entry {}: {} kB", held.from, held.bytes / 1000),
        other => format!("{other:?}"),
    });
    held.collect::<Vec<_>>().join("; ")
}

/// What it came to, and that it is what was promised.
fn show(store: &Store, on_disk: &[u64], newest: &BTreeMap<String, Reading>) -> Result<()> {
    let at = |round: u32| on_disk.get(round as usize - 1).copied().unwrap_or(0);
    let appended = store.journal().stats().appended_bytes;
    let after = on_disk.iter().skip(RETIRED as usize).max().copied().unwrap_or(0);
    println!(
        "with the dead exporter the disk grew from {} to {} kB,",
        at(EXPORTED) / 1000,
        at(RETIRED) / 1000
    );
    println!(
        "without it no round ended with more than {} kB, of {} kB appended",
        after / 1000,
        appended / 1000
    );
    assert!(at(RETIRED) > 3 * at(EXPORTED), "{on_disk:?}");
    assert!(after < 8 * SEGMENT_BYTES && after * 5 < appended, "{on_disk:?}");
    count(store, newest)
}

/// Everything that is to be kept is there.
fn count(store: &Store, newest: &BTreeMap<String, Reading>) -> Result<()> {
    let view = store.view();
    for (station, reading) in newest {
        let latest = view.latest(READINGS, station)?.map(|fact| fact.value()).transpose()?;
        assert_eq!(latest.as_ref(), Some(reading), "{station}");
    }
    let calibrations = store.facts(CALIBRATIONS)?.len();
    assert_eq!(calibrations, ROUNDS as usize * 5, "kept for ever");
    let journal = store.journal().view();
    let [readings, requests] = [store.region(READINGS)?, store.region(REQUESTS)?].map(|region| {
        let Region::Kind(kind) = region else { unreachable!("the region of all facts of a type is a kind") };
        (journal.kind(kind).count(), journal.floor(&region).map_or(0, Seq::get))
    });
    // What is above the floor is all there; of what is below, the newest of each station and no request.
    let (entries, floor) = (journal.last_seq()?.map_or(0, Seq::get), requests.1);
    assert!(requests.0 as u64 <= entries + 1 - floor, "{requests:?}");
    println!(
        "kept: {calibrations} calibrations, {} readings of {} stations, {} requests; everything from entry {} of {entries} on",
        readings.0,
        newest.len(),
        requests.0,
        readings.1.max(floor)
    );
    Ok(())
}

/// What the files take on the disk: what is only allocated counts too.
fn bytes_in(path: &Path) -> u64 {
    let files = std::fs::read_dir(path).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.blocks() * 512).sum()
}

/// Weather that drifts by itself, and by chance that is the same on every run.
struct Weather {
    chance: u64,
    celsius: Vec<f32>,
}

impl Weather {
    fn new() -> Self {
        Self { chance: 0x9e37_79b9_7f4a_7c15, celsius: vec![12.0; STATIONS as usize] }
    }

    fn below(&mut self, bound: u32) -> u32 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        u32::try_from(self.chance % u64::from(bound)).unwrap_or(0)
    }

    /// Twenty minutes: a reading of each station and a count a minute, and five calibrations.
    fn send_a_round(
        &mut self,
        store: &Store,
        round: u32,
        newest: &mut BTreeMap<String, Reading>,
    ) -> Result<()> {
        for minute in 0..20 {
            for station in 0..STATIONS {
                #[allow(clippy::cast_precision_loss, reason = "weather")]
                let step = (self.below(200) as f32 - 99.5) / 100.0;
                let celsius = self.celsius.get_mut(station as usize).map_or(0.0, |celsius| {
                    *celsius = (*celsius + step).clamp(-20.0, 40.0);
                    *celsius
                });
                #[allow(clippy::cast_precision_loss, reason = "weather")]
                let hectopascal = 1013.0 + (self.below(300) as f32 - 150.0) / 10.0;
                let humidity = 40 + u8::try_from(self.below(50)).unwrap_or(0);
                let reading = Reading { celsius, humidity, hectopascal };
                let name = format!("station {station:03}");
                store.append(READINGS, &name, &reading)?;
                newest.insert(name, reading);
            }
            let requests = Requests { count: 900 + self.below(200), slowest_ms: 20 + self.below(80) };
            for path in ["/now", "/day", "/map", "/station"] {
                store.append(REQUESTS, path, &requests)?;
            }
            if minute % 4 == 0 {
                let station = format!("station {:03}", self.below(STATIONS));
                let calibration = Calibration { by: format!("visit {round}"), offset: 0.1 };
                store.append(CALIBRATIONS, station, &calibration)?;
            }
        }
        Ok(())
    }
}
