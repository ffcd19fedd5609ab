//! What an operator wants to be told, for whoever subscribes: events and spans of the crate `tracing` under the target
//! `esker`, with the feature of that name, and nothing without it.
//!
//! | level | event | fields |
//! | --- | --- | --- |
//! | info | opened | store, clean, segments_scanned, bytes_scanned |
//! | warn | cut what a crash left | store, bytes, frames_dropped, ambiguous |
//! | info | compacted | store, entries_dropped, bytes_before, bytes_after |
//! | warn | could not compact | store, why |
//! | warn | a cursor is lost | store, cursor |
//! | warn | a sync was slow | store, seconds |
//! | error | poisoned | store, why |
//! | error | a fold halted | fold, version, topic, offset, why |
//! | warn | a reactor is stuck | reactor, seq, failures, why |
//! | error | a consumer does not go on | consumer, topic, offset, why |
//! | warn | a consumer is stuck | consumer, topic, offset, attempts, why |
//! | info | closed | store |
//!
//! Spans are `open` and `compact`, with the store. Whoever subscribes is called under locks of the store, and must not call it.
//! Nothing is told of an append, whether somebody subscribes or not.

use std::path::Path;
use std::time::Duration;

/// A sync that takes so long is told of: readers of what is durable, and all who append durably, wait for it.
const SLOW_SYNC: Duration = Duration::from_secs(1);

macro_rules! tell {
    ($level:ident, $text:literal, $($name:ident = $value:expr),+) => {
        #[cfg(feature = "tracing")]
        ::tracing::$level!(target: "esker", $($name = $value),+, $text);
        #[cfg(not(feature = "tracing"))]
        let _ = ($(&$value),+);
    };
}

/// What is told of a store, with its path.
macro_rules! tell_of {
    ($level:ident, $store:expr, $text:literal $(, $name:ident = $value:expr)*) => {
        #[cfg(feature = "tracing")]
        ::tracing::$level!(target: "esker", store = %$store.display() $(, $name = $value)*, $text);
        #[cfg(not(feature = "tracing"))]
        let _ = ($store, $(&$value),*);
    };
}

/// A span that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Inside {
    #[cfg(feature = "tracing")]
    _span: ::tracing::span::EnteredSpan,
}

macro_rules! inside {
    ($name:literal, $store:expr) => {{
        #[cfg(not(feature = "tracing"))]
        let _ = $store;
        Inside {
            #[cfg(feature = "tracing")]
            _span: ::tracing::info_span!(target: "esker", $name, store = %$store.display()).entered(),
        }
    }};
}

pub(crate) fn opening(store: &Path) -> Inside {
    inside!("open", store)
}

pub(crate) fn compacting(store: &Path) -> Inside {
    inside!("compact", store)
}

pub(crate) fn opened(store: &Path, clean: bool, segments_scanned: u64, bytes_scanned: u64) {
    tell_of!(
        info,
        store,
        "opened",
        clean = clean,
        segments_scanned = segments_scanned,
        bytes_scanned = bytes_scanned
    );
}

pub(crate) fn cut(store: &Path, bytes: u64, frames_dropped: u64, ambiguous: bool) {
    tell_of!(
        warn,
        store,
        "cut what a crash left",
        bytes = bytes,
        frames_dropped = frames_dropped,
        ambiguous = ambiguous
    );
}

pub(crate) fn compacted(store: &Path, entries_dropped: u64, bytes_before: u64, bytes_after: u64) {
    tell_of!(
        info,
        store,
        "compacted",
        entries_dropped = entries_dropped,
        bytes_before = bytes_before,
        bytes_after = bytes_after
    );
}

pub(crate) fn not_compacted(store: &Path, why: &str) {
    tell_of!(warn, store, "could not compact", why = why);
}

pub(crate) fn cursor_lost(store: &Path, cursor: &str) {
    tell_of!(warn, store, "a cursor is lost", cursor = cursor);
}

/// Told of only if it was slow.
pub(crate) fn synced(store: &Path, took: Duration) {
    if took >= SLOW_SYNC {
        tell_of!(warn, store, "a sync was slow", seconds = took.as_secs_f64());
    }
}

pub(crate) fn poisoned(store: &Path, why: &str) {
    tell_of!(error, store, "poisoned", why = why);
}

pub(crate) fn closed(store: &Path) {
    tell_of!(info, store, "closed");
}

pub(crate) fn fold_halted(fold: &str, version: u32, topic: &str, offset: u64, why: &str) {
    tell!(error, "a fold halted", fold = fold, version = version, topic = topic, offset = offset, why = why);
}

/// `seq`: the entry that it cannot get past.
pub(crate) fn reactor_stuck(reactor: &str, seq: u64, failures: u32, why: &str) {
    tell!(warn, "a reactor is stuck", reactor = reactor, seq = seq, failures = failures, why = why);
}

/// It halted, or is suspended.
pub(crate) fn consumer_halted(consumer: &str, topic: &str, offset: u64, why: &str) {
    tell!(error, "a consumer does not go on", consumer = consumer, topic = topic, offset = offset, why = why);
}

/// `offset`: the record that it cannot get past.
pub(crate) fn consumer_stuck(consumer: &str, topic: &str, offset: u64, attempts: u32, why: &str) {
    tell!(
        warn,
        "a consumer is stuck",
        consumer = consumer,
        topic = topic,
        offset = offset,
        attempts = attempts,
        why = why
    );
}
