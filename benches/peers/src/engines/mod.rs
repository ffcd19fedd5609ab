//! The engines: one adapter a file, and the table of what runs under which name.

mod batpak;
#[cfg(feature = "esker")]
mod esker;
mod fjall;
mod floor;
mod keyed_floor;
mod layout;
mod lmdb;
mod raft_engine;
mod raw_fdatasync;
mod redb;
mod seglog;
mod sqlite;

use crate::engine::{Engine, Keyed, Outcome};
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
    Floor,
}

#[derive(Clone, Copy)]
pub struct Row {
    pub name: &'static str,
    pub role: Role,
    way: Way,
    adapter: &'static dyn Adapter,
}

macro_rules! rows {
    ($($(#[$on:meta])* $name:literal: $role:ident $way:ident $adapter:ty;)*) => {
        pub const ROWS: &[Row] = &[$(
            $(#[$on])*
            Row { name: $name, role: Role::$role, way: Way::$way, adapter: &Of::<$adapter>(std::marker::PhantomData) },
        )*];
    };
}

rows! {
    "raw-fdatasync": Floor Plain raw_fdatasync::RawFdatasync;
    "floor": Floor Plain floor::Floor;
    "keyed-floor": Floor Plain keyed_floor::KeyedFloor;
    #[cfg(feature = "esker")]
    "esker": Subject Plain esker::Esker;
    "seglog": Unindexed Plain seglog::Seglog;
    "seglog+gc": Unindexed Grouped seglog::Seglog;
    "raft-engine": Peer Plain raft_engine::RaftEngine;
    "raft-engine-e": Peer ByEntity raft_engine::RaftEngine;
    "lmdb": Peer Plain lmdb::Lmdb<false>;
    "lmdb-e": Peer ByEntity lmdb::Lmdb<false>;
    "lmdb+gc": Peer Grouped lmdb::Lmdb<false>;
    "lmdb-map": Peer Plain lmdb::Lmdb<true>;
    "lmdb-map+gc": Peer Grouped lmdb::Lmdb<true>;
    "fjall": Peer Plain fjall::Fjall;
    "fjall-e": Peer ByEntity fjall::Fjall;
    "fjall+gc": Peer Grouped fjall::Fjall;
    "redb": Peer Plain redb::Redb;
    "redb-e": Peer ByEntity redb::Redb;
    "redb+gc": Peer Grouped redb::Redb;
    "sqlite": Peer Plain sqlite::Sqlite;
    "sqlite-e": Peer ByEntity sqlite::Sqlite;
    "sqlite+gc": Peer Grouped sqlite::Sqlite;
    "batpak": Peer Plain batpak::Batpak;
}

impl Row {
    pub fn named(name: &str) -> Option<&'static Self> {
        ROWS.iter().find(|row| row.name == name)
    }

    /// Whether this row has a cell for the work.
    pub fn does(&self, work: Work) -> bool {
        let fits = match self.way {
            Way::Plain => !work.needs_history() || self.adapter.has_histories(),
            Way::ByEntity => work.needs_history(),
            Way::Grouped => work == Work::DurableAppendEightThreads,
        };
        fits && self.adapter.offers(work)
    }

    /// Whether a work that this row cannot do is worth a line that says so.
    pub fn is_plain(&self) -> bool {
        self.way == Way::Plain && self.adapter.crate_name() != "memmap2"
    }

    pub fn most_events(&self, work: Work) -> u64 {
        self.adapter.most_events(work)
    }

    pub fn keyed(&self) -> Keyed {
        if self.way == Way::ByEntity { Keyed::ByEntity } else { Keyed::BySequence }
    }

    pub fn run(&self, task: &Task) -> Outcome<Vec<Measure>> {
        self.adapter.run(task, self.way == Way::Grouped)
    }

    /// The engine's crate, and its version as locked.
    pub fn version(&self) -> (&'static str, &'static str) {
        let name = self.adapter.crate_name();
        (name, locked_version(name))
    }
}

/// The generic trait behind a pointer, for the table only: works are compiled once an engine.
trait Adapter: Sync {
    fn offers(&self, work: Work) -> bool;
    fn most_events(&self, work: Work) -> u64;
    fn crate_name(&self) -> &'static str;
    fn has_histories(&self) -> bool;
    fn run(&self, task: &Task, grouped: bool) -> Outcome<Vec<Measure>>;
}

struct Of<E>(std::marker::PhantomData<fn() -> E>);

impl<E: Engine> Adapter for Of<E> {
    fn offers(&self, work: Work) -> bool {
        E::offers(work)
    }

    fn most_events(&self, work: Work) -> u64 {
        E::most_events(work)
    }

    fn crate_name(&self) -> &'static str {
        E::CRATE
    }

    fn has_histories(&self) -> bool {
        E::HISTORIES_WHEN_PLAIN
    }

    fn run(&self, task: &Task, grouped: bool) -> Outcome<Vec<Measure>> {
        if grouped { task.run_grouped::<E>() } else { task.run::<E>() }
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
