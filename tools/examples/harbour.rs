//! A store to look at with the tool: a day in a harbour.
//!
//! ```text
//! cargo run -p esker-tools --example harbour /tmp/harbour.esker
//! cargo run -p esker-tools -- info /tmp/harbour.esker
//! ```
//!
//! Facts of three kinds, of which one keeps only the newest and was compacted; live state that a radar and a pilot
//! assert; a private codec; a cursor that is behind, and one that is not. The clock is made, so that the same is in it
//! each time: only the store's id, and who wrote it, are others.
#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use esker::{
    CompactOptions, Durability, Facts, Hold, Keep, Kind, ManualClock, Options, Patch, Record, Region, Result,
    Seq, Start, Store, WatchOptions, Window,
};
use serde::{Deserialize, Serialize};

/// What happens to a ship in the harbour.
#[derive(Serialize, Deserialize, Debug)]
enum Call {
    Arrived { berth: u8 },
    Loaded { tons: u32 },
    Left,
}

#[derive(Serialize, Deserialize, Debug)]
struct Position {
    lat: f32,
    lon: f32,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
struct Vessel {
    name: String,
    knots: f32,
    pilot: Option<String>,
}

const CALL: Facts<Call> = Facts::new("call");
const POSITION: Facts<Position> = Facts::new("position");
const VESSEL: Kind<Vessel> = Kind::new("vessel");

const SHIPS: [&str; 6] = ["Ada", "Barbara", "Edith", "Grace", "Hedy", "Margaret"];
/// Each ship's position is noted so often.
const POSITIONS: u16 = 100;
/// The 20th of November 2026, at six in the morning, in nanoseconds since 1970.
const MORNING: i64 = 1_795_154_400 * 1_000_000_000;

fn main() -> Result<()> {
    let given = std::env::args_os().nth(1).map(PathBuf::from);
    let path = given.unwrap_or_else(|| std::env::temp_dir().join("harbour.esker"));
    make(&path)?;
    println!("The store is in {}", path.display());
    Ok(())
}

/// Makes the store at a path where there is none.
pub(crate) fn make(path: &Path) -> Result<()> {
    let clock = ManualClock::new();
    clock.set(MORNING);
    let options = Options::new().segment_bytes(16 << 10).durability(Durability::Os).window(Window::Manual);
    let store = Store::over(options.clock(clock.clone()).create(path)?);
    store.append(CALL, "Hedy", &Call::Arrived { berth: 7 })?;
    track(&store, &clock)?;
    let billed = call(&store, &clock)?;
    watch_over(&store, &clock)?;
    bill(&store, &clock)?;
    track(&store, &clock)?;
    store.append(CALL, "Barbara", &Call::Left)?;
    store.sync()?;
    put(&store, "billing", store.region(CALL)?, Start::After(billed))?;
    put(&store, "board", Region::all(), Start::Newest)?;
    store.keep(POSITION, Keep::Latest)?;
    store.journal().compact(&CompactOptions::new().keep_tombstones_for(Duration::ZERO))?;
    store.close()
}

/// Where the ships are, minute by minute.
fn track(store: &Store, clock: &ManualClock) -> Result<()> {
    for minute in 0..POSITIONS {
        for (nth, ship) in (0_u8..).zip(SHIPS) {
            let lat = 54.0 + f32::from(minute) / 1000.0;
            store.append(POSITION, ship, &Position { lat, lon: 10.0 + f32::from(nth) / 10.0 })?;
        }
        clock.advance(Duration::from_secs(60));
    }
    Ok(())
}

/// Ships come, load and leave. Answers up to where somebody has written bills of it.
fn call(store: &Store, clock: &ManualClock) -> Result<Seq> {
    let billed = store.append(CALL, "Hedy", &Call::Left)?.seq;
    for (berth, ship) in (1_u8..).zip(SHIPS) {
        store.append(CALL, ship, &Call::Arrived { berth })?;
        clock.advance(Duration::from_secs(600));
        store.append(CALL, ship, &Call::Loaded { tons: u32::from(berth) * 100 })?;
        clock.advance(Duration::from_secs(600));
    }
    store.append(CALL, "Ada", &Call::Left)?;
    clock.advance(Duration::from_secs(60));
    Ok(billed)
}

/// What two sources say of the ships, one of which goes.
fn watch_over(store: &Store, clock: &ManualClock) -> Result<()> {
    let (radar, pilot) = (store.source("radar")?, store.source("pilot")?);
    for (ship, knots) in [("Ada", 11.5), ("Grace", 0.0)] {
        radar.assert(VESSEL, ship, &Vessel { name: ship.to_owned(), knots, pilot: None })?;
        store.flush()?;
        clock.advance(Duration::from_secs(60));
    }
    pilot.patch(VESSEL, "Ada", &Patch::new().set("pilot", &Some("Kathleen"))?)?;
    store.flush()?;
    clock.advance(Duration::from_secs(60));
    radar.retract(VESSEL, "Grace")?;
    store.flush()?;
    clock.advance(Duration::from_secs(60));
    Ok(())
}

/// Amounts in a form that only the application knows; see the example `own_tool`.
fn bill(store: &Store, clock: &ManualClock) -> Result<()> {
    let journal = store.journal();
    let invoice = journal.kind("invoice")?;
    for (ship, cents) in [("Ada", 120_000_u64), ("Grace", 64_000)] {
        journal.append(Record::new(invoice, ship.as_bytes(), &cents.to_le_bytes()))?;
        clock.advance(Duration::from_secs(60));
    }
    Ok(())
}

/// Puts a cursor behind an entry, as if its reader had seen so much.
fn put(store: &Store, name: &str, region: Region, at: Start) -> Result<()> {
    let journal = store.journal();
    drop(journal.watch_with(name, region, WatchOptions::new().hold(Hold::Forever))?);
    journal.reset_cursor(name, at)?;
    Ok(())
}
