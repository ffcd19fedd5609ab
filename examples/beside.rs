//! A table that one process writes, and another one shows: the rows that there are, and then each change, over the end of one
//! writer and the beginning of the next.
//!
//! ```sh
//! cargo run --release --example beside
//! ```
#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use esker::{Behind, ChangeKind, Kind, Marker, Reader, Result, StateItem, Store, StoreView};
use serde::{Deserialize, Serialize};

/// What lies at a berth.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Ship {
    name: String,
    tons: u32,
}

const BERTH: Kind<Ship> = Kind::new("berth");
/// This program, told to be the other process.
const CHILD: &str = "--show";

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    if let (Some(CHILD), Some(path)) =
        (arguments.next().as_deref().and_then(|first| first.to_str()), arguments.next())
    {
        return show(path.as_ref());
    }
    let path = std::env::temp_dir().join(format!("beside-{}.esker", std::process::id()));
    // Made here, so that the other process finds it. It need not have a table yet.
    Store::open(&path)?.close()?;
    let other = std::env::current_exe().and_then(|me| Command::new(me).arg(CHILD).arg(&path).spawn());
    for half in 1..=2 {
        write(&path, half)?;
    }
    let ended = other.and_then(|mut other| other.wait());
    assert!(ended.is_ok_and(|status| status.success()), "the other process has what this one has");
    // Nothing depends on it.
    let _ = std::fs::remove_dir_all(&path);
    Ok(())
}

/// What this process does, once and once more.
fn write(path: &Path, half: u32) -> Result<()> {
    let store = Store::open(path)?;
    let harbour = store.source("harbour master")?;
    for n in 0..2_000 {
        let berth = format!("berth {}", n % 7);
        match n % 5 {
            4 => harbour.retract(BERTH, berth)?,
            _ => harbour.assert(BERTH, berth, &Ship { name: format!("ship {n}"), tons: half * n })?,
        };
    }
    if half == 2 {
        harbour.assert(BERTH, "closed for today", &Ship { name: "none".into(), tons: 0 })?;
    }
    store.flush()?;
    println!("writer {half} of 2 ends with {} berths taken", store.scan(BERTH)?.count());
    drop(harbour);
    store.close()
}

/// What the other process does.
fn show(path: &Path) -> Result<()> {
    let reader = Reader::open(path)?;
    // A screen need not show each change: where it is slower than the writer it is told the newest of each row alone.
    let mut changes = reader.subscription(BERTH).behind(Behind::Conflate).start()?;
    let (mut table, mut told) = (BTreeMap::new(), 0);
    while !table.contains_key(&b"closed for today"[..]) {
        let Some(item) = changes.next_timeout(Duration::from_secs(60))? else { break };
        match item {
            StateItem::Marker(Marker::BootstrapBegin { .. }) => table.clear(),
            StateItem::Change(change) if change.kind() == ChangeKind::Deleted => {
                table.remove(change.key());
            }
            StateItem::Change(change) => {
                let ship = change.value()?.unwrap_or_else(|| Ship { name: String::new(), tons: 0 });
                table.insert(change.key().to_vec(), ship);
            }
            _ => {}
        }
        told += 1;
    }
    println!("another process was told {told} times, and shows {} rows", table.len());
    // The table as it is, read without a subscription.
    let rows = StoreView::of(&reader)?.rows(BERTH)?.count();
    assert_eq!(table.len(), rows, "what it was told is what there is");
    Ok(())
}
