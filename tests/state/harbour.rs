//! The kind that the tests are about, and short words for what they do.

use esker::{
    Change, ChangeKind, Kind, Marker, Options, Simulator, Source, StateItem, Store, Subscription, Window,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
pub(crate) struct Vessel {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) knots: f32,
    #[serde(default)]
    pub(crate) heading: u16,
    #[serde(default)]
    pub(crate) cargo: Vec<String>,
    #[serde(default)]
    pub(crate) flag: Option<String>,
}

pub(crate) const VESSEL: Kind<Vessel> = Kind::new("vessel");

pub(crate) fn vessel(name: &str, knots: f32) -> Vessel {
    Vessel { name: name.into(), knots, ..Vessel::default() }
}

pub(crate) fn options() -> Options {
    Options::new().background(false).window(Window::Manual)
}

pub(crate) fn store() -> Store {
    Store::over(options().in_memory().unwrap())
}

pub(crate) fn open(disk: &Simulator) -> Store {
    Store::over(options().segment_bytes(16384).open_in(disk).unwrap())
}

/// A change, in one line that can be compared.
pub(crate) fn line<T>(change: &Change<'_, T>) -> String {
    let what = match change.kind() {
        ChangeKind::Bootstrap => "is",
        ChangeKind::Created => "created",
        ChangeKind::Updated => "updated",
        ChangeKind::Deleted => "deleted",
        other => panic!("{other:?}"),
    };
    let key = String::from_utf8_lossy(change.key()).into_owned();
    let fields = match what {
        "updated" => format!(" {:?}", change.changed_fields().collect::<Vec<_>>()),
        _ => String::new(),
    };
    format!("{key} v{} {what}{fields}", change.version())
}

/// All that a subscription has to tell now.
pub(crate) fn told<T: serde::de::DeserializeOwned>(subscription: &mut Subscription<T>) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(item) = subscription.try_next().unwrap() {
        told.push(match item {
            StateItem::Change(change) => line(&change),
            StateItem::Marker(Marker::BootstrapBegin { rebootstrap, because }) => {
                format!("begin {rebootstrap} {because:?}")
            }
            StateItem::Marker(Marker::BootstrapComplete { rebootstrap, .. }) => {
                format!("complete {rebootstrap}")
            }
            StateItem::Marker(Marker::Missed { count, .. }) => format!("missed {count}"),
            other => panic!("{other:?}"),
        });
    }
    told
}

/// One that has been told all that there was.
pub(crate) fn follow(store: &Store) -> Subscription<Vessel> {
    let mut subscription = store.subscribe(VESSEL).unwrap();
    told(&mut subscription);
    subscription
}

pub(crate) fn knots(store: &Store, key: &str) -> Option<f32> {
    store.get(VESSEL, key).unwrap().map(|row| row.value().unwrap().knots)
}

/// Version and sources of an entity that is alive.
pub(crate) fn alive(store: &Store, key: &str) -> Option<(u64, Vec<u8>)> {
    match store.status(VESSEL, key).unwrap() {
        esker::Status::Alive { version, sources } => Some((version, sources.ids().collect())),
        _ => None,
    }
}

/// So many vessels that are all alike, in one flush.
pub(crate) fn fill(store: &Store, source: &Source, vessels: u16) {
    for n in 0..vessels {
        source.assert(VESSEL, format!("v{n:02}"), &vessel("v", 1.0)).unwrap();
    }
    store.flush().unwrap();
}

/// So many changes of one entity, each in a flush of its own.
pub(crate) fn change_often(store: &Store, source: &Source, key: &str, times: u16) {
    for n in 0..times {
        source.assert(VESSEL, key, &Vessel { heading: n, ..vessel(key, 2.0) }).unwrap();
        store.flush().unwrap();
    }
}

/// Waits for what another thread does. What has not come within a minute never will.
pub(crate) fn until(what: &str, has_come: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !has_come() {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "waited for a minute until {what}");
        std::thread::yield_now();
    }
}

/// The log's clock ticks every few milliseconds: what comes behind this is later than what came before.
pub(crate) fn let_the_clock_tick() {
    std::thread::sleep(std::time::Duration::from_millis(20));
}

/// A power cut behind so many operations of the disk; the seed says what of the others is there.
pub(crate) fn crashed(disk: &Simulator, events: usize, seed: u64) -> Simulator {
    let mut state = seed * 2 + 1;
    disk.crash(events, &mut |n| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % n
    })
}
