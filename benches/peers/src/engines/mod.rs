//! The engines: one adapter a file, and the table of what runs under which name.

mod batpak;
mod batpak_feed;
mod crossbeam;
mod dashmap;
mod disruptor;
#[cfg(feature = "esker")]
mod esker;
#[cfg(feature = "esker")]
mod esker_feed;
#[cfg(feature = "esker")]
mod esker_state;
mod fjall;
mod floor;
mod keyed_floor;
mod layout;
mod lmdb;
mod raft_engine;
pub mod raw_fdatasync;
mod redb;
mod redb_state;
mod seglog;
mod sqlite;
mod sqlite_state;
mod tokio_broadcast;

use std::marker::PhantomData;

use crate::engine::{Engine, Keyed, Outcome, not_offered};
use crate::feed::{Feed, Followed};
use crate::shrink::Shrinks;
use crate::state::{Direct, LiveState, Windowed};
use crate::works::{Measure, Task, Work};

/// How a row of the table uses its adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As it is, keyed by sequence.
    Plain,
    /// Keyed by entity and generation: only for histories, which the same engine by sequence lacks.
    ByEntity,
    /// Behind a hand-made group commit: only for durable appends of several threads.
    Grouped,
}

/// What a row is compared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    #[cfg_attr(not(feature = "esker"), allow(dead_code, reason = "only esker is one"))]
    Subject,
    Peer,
    /// A peer that keeps no index of what it writes, and is spared its cost.
    Unindexed,
    /// Hands payloads from thread to thread and keeps none of them.
    Queue,
    Floor,
}

#[derive(Clone, Copy)]
pub struct Row {
    pub name: &'static str,
    pub role: Role,
    way: Way,
    /// At most one of them offers a work.
    adapters: &'static [&'static dyn Adapter],
}

macro_rules! rows {
    ($($(#[$on:meta])* $name:literal: $role:ident $way:ident $($adapter:ty),+;)*) => {
        pub const ROWS: &[Row] = &[$(
            $(#[$on])*
            Row { name: $name, role: Role::$role, way: Way::$way, adapters: &[$(&<$adapter>::NEW),+] },
        )*];
    };
}

rows! {
    "raw-fdatasync": Floor Plain Of<raw_fdatasync::RawFdatasync>;
    "floor": Floor Plain Of<floor::Floor>;
    "keyed-floor": Floor Plain Of<keyed_floor::KeyedFloor>;
    #[cfg(feature = "esker")]
    "esker": Subject Plain Of<esker::Esker>, FeedOf<esker_feed::EskerFeed<0>>, FollowedOf<esker::Esker>, ShrinkOf<esker::Esker>,
        StateOf<esker_state::EskerState>;
    #[cfg(feature = "esker")]
    "esker-spin": Subject Plain FeedOf<esker_feed::EskerFeed<20>>;
    "seglog": Unindexed Plain Of<seglog::Seglog>;
    "seglog+gc": Unindexed Grouped Of<seglog::Seglog>;
    "raft-engine": Peer Plain Of<raft_engine::RaftEngine>;
    "raft-engine-e": Peer ByEntity Of<raft_engine::RaftEngine>;
    "lmdb": Peer Plain Of<lmdb::Lmdb<false>>;
    "lmdb-e": Peer ByEntity Of<lmdb::Lmdb<false>>;
    "lmdb+gc": Peer Grouped Of<lmdb::Lmdb<false>>;
    "lmdb-map": Peer Plain Of<lmdb::Lmdb<true>>;
    "lmdb-map+gc": Peer Grouped Of<lmdb::Lmdb<true>>;
    "fjall": Peer Plain Of<fjall::Fjall>;
    "fjall-e": Peer ByEntity Of<fjall::Fjall>;
    "fjall+gc": Peer Grouped Of<fjall::Fjall>;
    "redb": Peer Plain Of<redb::Redb>, ShrinkOf<redb::Redb>, StateOf<Direct<redb_state::RedbState>>;
    "redb-e": Peer ByEntity Of<redb::Redb>;
    "redb+window": Peer Plain StateOf<Windowed<redb_state::RedbState>>;
    "redb+gc": Peer Grouped Of<redb::Redb>;
    "sqlite": Peer Plain Of<sqlite::Sqlite>, ShrinkOf<sqlite::Sqlite>,
        StateOf<Direct<sqlite_state::SqliteState>>;
    "sqlite-e": Peer ByEntity Of<sqlite::Sqlite>;
    "sqlite+window": Peer Plain StateOf<Windowed<sqlite_state::SqliteState>>;
    "sqlite+gc": Peer Grouped Of<sqlite::Sqlite>;
    "batpak": Peer Plain Of<batpak::Batpak>, FeedOf<batpak_feed::Subscribed>, FollowedOf<batpak::Batpak>;
    "batpak-cursor": Peer Plain FeedOf<batpak_feed::Cursored>;
    "crossbeam-channel": Queue Plain FeedOf<crossbeam::Crossbeam>;
    "tokio-broadcast": Queue Plain FeedOf<tokio_broadcast::TokioBroadcast>;
    "dashmap+channel": Queue Plain StateOf<dashmap::MapAndChannel>;
    "disruptor": Queue Plain FeedOf<disruptor::Disruptor>;
}

impl Row {
    pub fn named(name: &str) -> Option<&'static Self> {
        ROWS.iter().find(|row| row.name == name)
    }

    /// Whether this row has a cell for the work.
    pub fn does(&self, work: Work) -> bool {
        let fits = match self.way {
            Way::Plain => !work.needs_history() || self.has_histories(),
            Way::ByEntity => work.needs_history(),
            Way::Grouped => work == Work::DurableAppendEightThreads,
        };
        fits && self.adapter(work).is_some()
    }

    /// Whether it is worth a line if this row cannot do the work: a store that cannot be followed and a
    /// queue that keeps nothing are not expected to.
    pub fn is_expected(&self, work: Work) -> bool {
        let of_this_sort = |adapter: &&dyn Adapter| adapter.sort() == Sort::of(work);
        self.way == Way::Plain && self.crate_name() != "memmap2" && self.adapters.iter().any(of_this_sort)
    }

    pub fn most_events(&self, work: Work) -> u64 {
        self.adapter(work).map_or(u64::MAX, |adapter| adapter.most_events(work))
    }

    pub fn keyed(&self) -> Keyed {
        if self.way == Way::ByEntity { Keyed::ByEntity } else { Keyed::BySequence }
    }

    pub fn run(&self, task: &Task) -> Outcome<Vec<Measure>> {
        match self.adapter(task.work) {
            Some(adapter) => adapter.run(task, self.way == Way::Grouped),
            None => not_offered(),
        }
    }

    /// The engine's crate, and its version as locked.
    pub fn version(&self) -> (&'static str, &'static str) {
        let name = self.crate_name();
        (name, locked_version(name))
    }

    fn adapter(&self, work: Work) -> Option<&'static dyn Adapter> {
        self.adapters.iter().copied().find(|adapter| adapter.offers(work))
    }

    fn has_histories(&self) -> bool {
        self.adapters.iter().any(|adapter| adapter.has_histories())
    }

    fn crate_name(&self) -> &'static str {
        self.adapters.first().map_or("?", |adapter| adapter.crate_name())
    }
}

/// The generic traits behind a pointer, for the table only: works are compiled once an engine.
trait Adapter: Sync {
    fn offers(&self, work: Work) -> bool;
    fn most_events(&self, work: Work) -> u64;
    fn crate_name(&self) -> &'static str;
    fn run(&self, task: &Task, grouped: bool) -> Outcome<Vec<Measure>>;

    fn has_histories(&self) -> bool {
        false
    }

    fn sort(&self) -> Sort;
}

/// What an adapter, or a work, is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Log,
    Feed,
    State,
}

impl Sort {
    fn of(work: Work) -> Self {
        match work {
            _ if work.is_feed() => Self::Feed,
            _ if work.is_state() => Self::State,
            _ => Self::Log,
        }
    }
}

/// A store that is written and read.
struct Of<E>(PhantomData<fn() -> E>);

impl<E> Of<E> {
    const NEW: Self = Self(PhantomData);
}

impl<E: Engine> Adapter for Of<E> {
    fn offers(&self, work: Work) -> bool {
        Sort::of(work) == Sort::Log && !work.is_shrink() && E::offers(work)
    }

    fn most_events(&self, work: Work) -> u64 {
        E::most_events(work)
    }

    fn crate_name(&self) -> &'static str {
        E::CRATE
    }

    fn run(&self, task: &Task, grouped: bool) -> Outcome<Vec<Measure>> {
        if grouped { task.run_grouped::<E>() } else { task.run::<E>() }
    }

    fn has_histories(&self) -> bool {
        E::HISTORIES_WHEN_PLAIN
    }

    fn sort(&self) -> Sort {
        Sort::Log
    }
}

/// A store or a queue that hands on what is published.
struct FeedOf<F>(PhantomData<fn() -> F>);

impl<F> FeedOf<F> {
    const NEW: Self = Self(PhantomData);
}

impl<F: Feed> Adapter for FeedOf<F> {
    fn offers(&self, work: Work) -> bool {
        work.is_feed() && !work.is_followed() && F::offers(work)
    }

    fn most_events(&self, work: Work) -> u64 {
        F::most_events(work)
    }

    fn crate_name(&self) -> &'static str {
        F::CRATE
    }

    fn run(&self, task: &Task, _grouped: bool) -> Outcome<Vec<Measure>> {
        task.run_feed::<F>()
    }

    fn sort(&self) -> Sort {
        Sort::Feed
    }
}

/// A store with readers that it knows.
struct FollowedOf<E>(PhantomData<fn() -> E>);

impl<E> FollowedOf<E> {
    const NEW: Self = Self(PhantomData);
}

impl<E: Followed> Adapter for FollowedOf<E> {
    fn offers(&self, work: Work) -> bool {
        work.is_followed()
    }

    fn most_events(&self, work: Work) -> u64 {
        if work == Work::FeedDrain { E::most_drained() } else { u64::MAX }
    }

    fn crate_name(&self) -> &'static str {
        E::CRATE
    }

    fn run(&self, task: &Task, _grouped: bool) -> Outcome<Vec<Measure>> {
        task.run_followed::<E>()
    }

    fn sort(&self) -> Sort {
        Sort::Feed
    }
}

/// Who keeps live state.
struct StateOf<S>(PhantomData<fn() -> S>);

impl<S> StateOf<S> {
    const NEW: Self = Self(PhantomData);
}

impl<S: LiveState> Adapter for StateOf<S> {
    fn offers(&self, work: Work) -> bool {
        work.is_state() && (S::READS_ALONE || !matches!(work, Work::StateGet | Work::StateScan))
    }

    fn most_events(&self, _work: Work) -> u64 {
        u64::MAX
    }

    fn crate_name(&self) -> &'static str {
        S::CRATE
    }

    fn run(&self, task: &Task, _grouped: bool) -> Outcome<Vec<Measure>> {
        task.run_state::<S>()
    }

    fn sort(&self) -> Sort {
        Sort::State
    }
}

/// A store that can be made smaller.
struct ShrinkOf<E>(PhantomData<fn() -> E>);

impl<E> ShrinkOf<E> {
    const NEW: Self = Self(PhantomData);
}

impl<E: Shrinks> Adapter for ShrinkOf<E> {
    fn offers(&self, work: Work) -> bool {
        work == Work::Compaction || work.is_shrink() && E::BESIDE_OTHERS
    }

    fn most_events(&self, work: Work) -> u64 {
        E::most_events(work)
    }

    fn crate_name(&self) -> &'static str {
        E::CRATE
    }

    fn run(&self, task: &Task, _grouped: bool) -> Outcome<Vec<Measure>> {
        task.run_shrink::<E>()
    }

    fn sort(&self) -> Sort {
        Sort::Log
    }
}

fn locked_version(name: &str) -> &'static str {
    let lock = include_str!("../../Cargo.lock");
    let mut lines = lock
        .lines()
        .skip_while(|line| line.strip_prefix("name = ").is_none_or(|n| n.trim_matches('"') != name));
    lines
        .nth(1)
        .and_then(|line| line.strip_prefix("version = "))
        .map_or("?", |version| version.trim_matches('"'))
}
