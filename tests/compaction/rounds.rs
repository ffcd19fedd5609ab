//! Rounds of updates whose every survivor can be told from every other, and what is left of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use esker::{CompactOptions, Durability, Journal, KindId, Options, Record, verify};

const PAYLOAD: usize = 200;

pub(crate) fn options() -> Options {
    Options::new().segment_bytes(8192).background(false).durability(Durability::Os)
}

pub(crate) fn now_all() -> CompactOptions {
    CompactOptions::new().keep_tombstones_for(Duration::ZERO)
}

/// What an entry is about, so that every survivor can be told from every other.
pub(crate) fn payload(key: &str, n: u64) -> Vec<u8> {
    let mut bytes = format!("{key}={n};").into_bytes();
    let fill = (n % 251) as u8;
    bytes.resize(PAYLOAD, fill);
    bytes
}

pub(crate) fn put(journal: &Journal, kind: KindId, key: &str, n: u64) -> u64 {
    journal.append(Record::new(kind, key.as_bytes(), &payload(key, n))).unwrap().seq.get()
}

/// Appends rounds of updates of a few keys, and answers what was appended: Seq to key and number.
pub(crate) fn rounds(
    journal: &Journal,
    kind: KindId,
    keys: usize,
    from: u64,
    to: u64,
) -> BTreeMap<u64, (String, u64)> {
    let mut all = BTreeMap::new();
    for n in from..to {
        for key in 0..keys {
            let key = format!("k{key}");
            all.insert(put(journal, kind, &key, n), (key, n));
        }
    }
    all
}

pub(crate) fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Reads everything that is there, and compares every survivor's payload with what was appended.
pub(crate) fn survivors(journal: &Journal, appended: &BTreeMap<u64, (String, u64)>) -> Vec<u64> {
    let view = journal.view();
    let forward: Vec<u64> = view
        .range(..)
        .map(|entry| {
            let entry = entry.unwrap();
            let (key, n) = &appended[&entry.seq().get()];
            assert_eq!(entry.key(), key.as_bytes(), "{}", entry.seq());
            assert_eq!(entry.payload(), payload(key, *n), "{}", entry.seq());
            let again = view.get(entry.seq()).unwrap().unwrap();
            assert_eq!(again.payload(), entry.payload());
            entry.seq().get()
        })
        .collect();
    let mut backward: Vec<u64> = view.range(..).rev().map(|entry| entry.unwrap().seq().get()).collect();
    backward.reverse();
    assert_eq!(forward, backward);
    forward
}

pub(crate) fn is_valid(path: &Path) {
    let found = verify(path, esker::Check::Full).unwrap();
    assert!(found.findings.is_empty(), "{:#?}", found.findings);
    let found = verify(path, esker::Check::Quick).unwrap();
    assert!(found.findings.is_empty(), "{:#?}", found.findings);
}
