//! Stores that have everything an entry can have, their exports, and a directory for both.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use esker::{Durability, Facts, IdempotencyKey, Options, Record, Store, WatchOptions};
use serde_json::Value;

use crate::support::{Run, run};

const ORDERS: Facts<u32> = Facts::new("order");
const INVOICES: Facts<(u32, String)> = Facts::new("invoice");
pub(crate) const KEY: IdempotencyKey = IdempotencyKey(*b"a key of sixteen");

pub(crate) fn options() -> Options {
    Options::new().segment_bytes(16 << 10).durability(Durability::Os)
}

/// Everything that an entry can have: batches with keys, causes, metadata, keys and payloads of any bytes,
/// several kinds and segments. No cursor is left.
pub(crate) fn rich(path: &Path) {
    let store = Store::over(options().open(path).unwrap());
    let journal = store.journal().clone();
    let (raw, doc) = (journal.kind("raw").unwrap(), journal.kind("doc with space").unwrap());
    for n in 0..200_u8 {
        let payload: Vec<u8> = (0..=n).map(|at| at.wrapping_mul(n)).collect();
        journal.append(Record::new(raw, &[n % 7, 0xff, n % 3], &payload).metadata(&[n; 3])).unwrap();
        let text = format!("{{\"n\":{n},\"text\":\"ü \\u0000 \u{2028}\"}}");
        journal.append(Record::new(doc, b"hex:6b", text.as_bytes()).metadata(b"text/json")).unwrap();
    }
    let mut batch = journal.batch().idempotency_key(KEY);
    for n in 0..5_u8 {
        batch.push(Record::new(doc, [b"a", b"b"][usize::from(n % 2)], &[]).correlation([n; 16]));
    }
    batch.commit().unwrap();
    let orders = store.region(ORDERS).unwrap();
    // The cursor's frame stands in one batch with what the reaction puts out.
    let reactor = store
        .react("invoicing", orders, |entry, out| {
            let Some(order) = out.fact(ORDERS, entry)? else { return Ok(()) };
            let cents = order.value()?;
            out.append(INVOICES, "one", &(cents, "für Ada".to_owned()))?;
            out.append(INVOICES, "two", &(cents, String::new()))?;
            Ok(())
        })
        .unwrap();
    let mut watcher = journal.follow(store.region(INVOICES).unwrap(), WatchOptions::new()).unwrap();
    for cents in [5, 990] {
        store.append(ORDERS, "8812", &cents).unwrap();
    }
    for _ in 0..4 {
        watcher.next_timeout(Duration::from_secs(30)).unwrap().expect("an invoice");
    }
    drop(watcher);
    reactor.stop();
    reactor.join().unwrap();
    journal.retire_cursor("invoicing").unwrap();
    store.close().unwrap();
}

/// Paths in a directory of their own.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn rich(&self) -> String {
        let path = self.path("rich.esker");
        rich(Path::new(&path));
        path
    }

    /// What is in the directory.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        let names = std::fs::read_dir(self.0.path()).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Imports a text from a file of its own.
    pub(crate) fn import(&self, text: impl AsRef<[u8]>, target: &str) -> Run {
        let file = self.path("lines.jsonl");
        std::fs::write(&file, text).unwrap();
        run(&["import", &file, target])
    }
}

pub(crate) fn export(store: &str, filters: &[&str]) -> String {
    let exported = run(&[&["export", store], filters].concat());
    assert_eq!(exported.code, Some(0), "{}", exported.stderr);
    exported.json();
    exported.stdout
}

pub(crate) fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn entries(text: &str) -> Vec<Value> {
    lines(text).into_iter().filter(|line| line["type"] == "entry").collect()
}

/// The export but for the era, which is another one for each import.
pub(crate) fn without_era(text: &str) -> Vec<Value> {
    let mut lines = lines(text);
    lines[0]["era"] = 0.into();
    lines[0]["segment_bytes"] = 0.into();
    lines
}

/// An export of three entries of one entity, one line each.
pub(crate) fn small(place: &Place) -> Vec<String> {
    let path = place.path("small.esker");
    let journal = options().open(&path).unwrap();
    let note = journal.kind("note").unwrap();
    for n in 0..3_u8 {
        journal.append(Record::new(note, b"k", &[n, 0xff])).unwrap();
    }
    journal.close().unwrap();
    export(&path, &[]).lines().map(str::to_owned).collect()
}
