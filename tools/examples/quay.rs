//! A store to look at with the tool: what stands on a backplane.
//!
//! ```text
//! cargo run -p esker-tools --example quay /tmp/quay.esker
//! cargo run -p esker-tools -- topics /tmp/quay.esker
//! ```
//!
//! Topics of loads with a fold that has saved an image of one of them, a consumer that has parked what it could not do, one
//! that gave up a record for good, cells, and live state of which every word is kept.
#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use esker::backplane::Offset;
use esker::{
    At, Consumer, ConsumerOptions, Delivery, Durability, Fold, FoldOptions, Handled, Kind, Options, Result,
    Store, Topic,
};

const LOADS: Topic<u32> = Topic::new("load");
/// How high the water stands.
#[derive(serde::Serialize, serde::Deserialize)]
struct Tide {
    metres: f32,
}

const TIDE: Kind<Tide> = Kind::new("tide").events();

/// So long a fold or a consumer may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What lies on a quay, in tons.
struct Tons;

impl Fold for Tons {
    type State = u64;
    type Event = u32;
    const NAME: &'static str = "tons";
    const VERSION: u32 = 1;
    fn fold(tons: &mut u64, load: u32, _: &At) {
        *tons += u64::from(load);
    }
}

fn main() -> Result<()> {
    let given = std::env::args_os().nth(1).map(PathBuf::from);
    let path = given.unwrap_or_else(|| std::env::temp_dir().join("quay.esker"));
    make(&path)?;
    println!("The store is in {}", path.display());
    Ok(())
}

/// Makes the store at a path where there is none.
pub(crate) fn make(path: &Path) -> Result<()> {
    let store = Store::over(Options::new().durability(Durability::Os).create(path)?);
    let (north, south) = (store.topic(LOADS, "north")?, store.topic(LOADS, "south")?);
    let mut last = Offset::BEGINNING;
    for tons in [20, 35, 900, 15] {
        last = north.append(&tons)?;
    }
    let fold = north.fold_with::<Tons>(FoldOptions::new().images_every(0))?;
    fold.read_after(last, PATIENCE)?;
    fold.save_image()?;
    drop(fold);
    for tons in [40, 1200, 5] {
        last = south.append(&tons)?;
    }
    let once = || ConsumerOptions::new().max_attempts(1);
    run_until(&store.on_event(LOADS, "crane", once().park(), lift)?, last)?;
    run_until(&store.on_event(LOADS, "customs", once(), lift)?, last)?;
    north.append(&10)?;
    store.cells().cell::<String>("harbour master")?.update(|_| Ok(Some("Kathleen".to_owned())))?;
    store.cells().scope("north")?.cell::<u32>("limit")?.update(|_| Ok(Some(500)))?;
    let gauge = store.source("gauge")?;
    for metres in [1.5, 1.75] {
        gauge.assert(TIDE, "north", &Tide { metres })?;
        store.flush()?;
    }
    gauge.retract(TIDE, "north")?;
    store.flush()?;
    drop(gauge);
    store.close()
}

/// The crane does not lift what is too heavy.
fn lift(delivery: &Delivery<'_, u32>) -> Handled {
    if delivery.event > 500 {
        return Err(format!("{} tons are too much", delivery.event).into());
    }
    Ok(())
}

/// Waits until it has done everything up to an offset, and ends it.
fn run_until(consumer: &Consumer, last: Offset) -> Result<()> {
    while consumer.status().committed < last {
        std::thread::yield_now();
    }
    consumer.close()
}
