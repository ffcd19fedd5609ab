//! The tool where it has to run: whatever its output is, wherever the store lies, and however damaged it is.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

#[path = "environment/damage.rs"]
mod damage;
#[path = "environment/every.rs"]
mod every;
#[path = "../examples/harbour.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, of which only the store is wanted")]
mod harbour;
#[path = "environment/places.rs"]
mod places;
#[path = "environment/progress.rs"]
mod progress;
#[path = "../examples/quay.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, of which only the store is wanted")]
mod quay;
#[path = "environment/streams.rs"]
mod streams;
#[allow(dead_code, reason = "shared with the other tests of the tool")]
mod support;
#[path = "environment/tables.rs"]
mod tables;

/// Commands that look at a store, with `STORE` for its path.
pub(crate) const LOOKS: &[&str] = &[
    "info STORE",
    "segments STORE",
    "lives STORE",
    "kinds STORE",
    "entities STORE",
    "dump STORE",
    "dump STORE --reverse --system",
    "get STORE 1",
    "hex STORE 1",
    "stats STORE",
    "stats STORE --format prometheus",
    "cursors STORE",
    "cursor list STORE",
    "verify STORE",
    "verify STORE --decode",
    "compact STORE",
    "export STORE",
    "diff STORE STORE",
];

/// Those that may have nothing to print, or print a page: where they may be run and what of, and not what becomes of their output.
pub(crate) const LOOKS_TOO: &[&str] = &[
    "sources STORE",
    "topics STORE",
    "cells STORE --internal",
    "consumers STORE",
    "check STORE",
    "report STORE --output -",
];

/// Those of all of them that print a table.
pub(crate) const TABLES: &[&str] = &[
    "segments STORE",
    "kinds STORE",
    "entities STORE",
    "cursors STORE",
    "cursor list STORE",
    "sources STORE",
    "topics STORE",
    "cells STORE --internal",
    "consumers STORE",
    "explain",
];

/// Commands about the tool itself.
pub(crate) const OF_ITSELF: &[&str] =
    &["explain", "explain locked", "completions bash", "man", "schema", "--help", "--version"];

/// The words of a command on a store.
pub(crate) fn words<'a>(command: &'a str, store: &'a str) -> Vec<&'a str> {
    command.split(' ').map(|word| if word == "STORE" { store } else { word }).collect()
}
