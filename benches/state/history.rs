//! What a walk over the rows of a kind costs when there is far more in the log than they: their own past, and other kinds.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use esker::{Kind, Options, Store, Window};

use crate::{HOT, VESSEL, Vessel, per_second, vessel};

const BUOY: Kind<Vessel> = Kind::new("buoy");
const BUOYS: u64 = 100;
/// So many rows come to have been written, of [`HOT`] entities.
const PAST: u64 = 3_000_000;

/// 10,000 entities that were written 300 times each, and 100 of another kind that were written once in between.
pub(crate) fn history() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.esker");
    let store = Store::over(Options::new().window(Window::Manual).open(&path).unwrap());
    let source = store.source("producer").unwrap();
    for round in 0..PAST / HOT {
        for n in 0..HOT {
            source.assert(VESSEL, n.to_le_bytes(), &vessel(n + round)).unwrap();
        }
        if round == 10 {
            (0..BUOYS).for_each(|n| drop(source.assert(BUOY, n.to_le_bytes(), &vessel(n)).unwrap()));
        }
        store.flush().unwrap();
    }
    println!("of {PAST} rows of the past, {HOT} that are true now");
    walks(&store);
    drop(source);
    store.close().unwrap();
    opened(&path);
}

fn opened(path: &Path) {
    println!("the same, opened anew");
    let store = Store::open(path).unwrap();
    walks(&store);
    store.close().unwrap();
}

fn walks(store: &Store) {
    for (name, kind, rows) in [("other kind of 100", BUOY, BUOYS), ("whole kind", VESSEL, HOT)] {
        let begun = Instant::now();
        let found =
            store.scan(kind).unwrap().inspect(|row| _ = black_box(row.as_ref().unwrap().version())).count()
                as u64;
        assert_eq!(found, rows);
        println!("  scan, {name:<18} {:>10.2?}   {:.0} rows/s", begun.elapsed(), per_second(found, begun));
    }
    let (begun, mut count) = (Instant::now(), 0);
    let mut changes = store.subscribe(VESSEL).unwrap();
    while let Some(item) = changes.try_next().unwrap() {
        black_box(item);
        count += 1;
    }
    println!("  bootstrap                {:>10.2?}   {count} items", begun.elapsed());
}
