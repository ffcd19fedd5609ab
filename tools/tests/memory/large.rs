//! Large payloads, and much damage: neither is held in memory as often as it is met.

use std::path::Path;

use esker::{Durability, Facts, Options, Record, Store};
use serde::{Deserialize, Serialize};

use super::told;

/// What each may take.
const MAY_TAKE: u64 = 64 << 20;
/// As large as a payload may be.
const PAYLOAD: usize = (16 << 20) - 4096;

/// Payloads of which each decoder and each form of the output has most to do.
fn payloads() -> Vec<(&'static str, Vec<u8>)> {
    let filled = |head: &[u8], with: &[u8], tail: &[u8]| {
        let room = (PAYLOAD - head.len() - tail.len()) / with.len();
        [head, &with.repeat(room), tail].concat()
    };
    let mut seed = 1_u32;
    let random = |_| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed.to_le_bytes()[3]
    };
    vec![
        ("binary", (0..PAYLOAD).map(random).collect()),
        ("text", filled(b"", b"a \"line\" \\ of text\n", b"")),
        ("numbers", filled(b"[0", b",0", b"]")),
        ("words", filled(b"{\"a\":[\"\"", b",\"\\u0007 of \\\"eight\\\"\"", b"]}")),
        ("objects", filled(b"[{}", b",{\"a\":1}", b"]")),
    ]
}

/// Makes such a store; answers how many entries it has.
fn with_large_payloads(path: &Path) -> u64 {
    let store = Store::over(Options::new().durability(Durability::Os).open(path).unwrap());
    for (name, payload) in payloads() {
        assert!((PAYLOAD - 100..=PAYLOAD).contains(&payload.len()), "{name}");
        let kind = store.journal().kind(name).unwrap();
        store.journal().append(Record::new(kind, b"a", &payload)).unwrap();
    }
    let texts = Texts { all: vec!["a text of fourteen".to_owned(); 800_000] };
    let long = Texts { all: vec!["long\n".repeat(PAYLOAD / 6)] };
    store.append(TEXTS, "a", &texts).unwrap();
    store.append(TEXTS, "b", &long).unwrap();
    let last = store.journal().view().last_seq().unwrap().map_or(0, |seq| seq.get());
    store.close().unwrap();
    last
}

#[derive(Serialize, Deserialize)]
struct Texts {
    all: Vec<String>,
}

const TEXTS: Facts<Texts> = Facts::new("texts");

#[test]
fn payloads_as_large_as_they_may_be_are_shown_in_bounded_memory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large.esker");
    let entries = with_large_payloads(&path);
    let (store, all) = (path.to_str().unwrap(), format!("1..{entries}"));
    let page = directory.path().join("page.html");
    let commands: &[&[&str]] = &[
        &["info", store],
        &["entities", store],
        &["dump", store],
        &["dump", store, "--json"],
        &["dump", store, "--reverse", "--json"],
        &["dump", store, "--last", "2", "--json"],
        &["dump", store, "--entity", "numbers/a", "--json"],
        &["dump", store, "--physical"],
        &["dump", store, "--redact"],
        &["dump", store, "--payload", "hex"],
        &["dump", store, "--payload", "base64", "--json"],
        &["dump", store, "--payload", "text", "--json"],
        &["get", store, &all],
        &["get", store, &all, "--json"],
        &["hex", store, "1"],
        &["stats", store],
        &["verify", store],
        &["verify", store, "--decode"],
        &["export", store],
        &["diff", store, store],
        &["report", store, "-o", page.to_str().unwrap()],
    ];
    told(commands, MAY_TAKE, &[0]);
}
