//! The works: what is measured, in which steps, and which metric counts.

mod appends;
mod feeds;
mod follows;
mod opens;
mod reads;
mod shrinks;
mod sizes;
mod states;

use std::path::PathBuf;

use crate::engine::{Durability, Engine, Keyed, Outcome, Setup, not_offered};
use crate::feed::{Feed, Followed, Waiting};
use crate::shrink::Shrinks;
use crate::state::LiveState;
use crate::workload::{BATCH_EVENTS, Workload};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    AppendNoSync,
    AppendLatency,
    AppendFourThreads,
    AppendMillionEntities,
    AppendTenMillionEntities,
    DurableAppend,
    DurableAppendEightThreads,
    BatchDurable,
    BatchNoSync,
    ScanAll,
    EntityHistory,
    PointRead,
    OpenToFirstRead,
    OpenAfterCrash,
    BytesOnDisk,
    AnonymousMemory,
    Compaction,
    AppendWhileCompacting,
    ReadWhileCompacting,
    FeedThroughputOne,
    FeedThroughputEight,
    FeedThroughputSixtyFour,
    FeedLatencyOne,
    FeedLatencyEight,
    FeedLatencySpinning,
    FeedDrain,
    FeedIdle,
    FeedCheckpoint,
    StateHot,
    StateDistinct,
    StateGet,
    StateGetUnderWrites,
    StateScan,
    StateIdleChange,
}

impl Work {
    pub const ALL: [Self; 34] = [
        Self::AppendNoSync,
        Self::AppendLatency,
        Self::AppendFourThreads,
        Self::AppendMillionEntities,
        Self::AppendTenMillionEntities,
        Self::DurableAppend,
        Self::DurableAppendEightThreads,
        Self::BatchDurable,
        Self::BatchNoSync,
        Self::ScanAll,
        Self::EntityHistory,
        Self::PointRead,
        Self::OpenToFirstRead,
        Self::OpenAfterCrash,
        Self::BytesOnDisk,
        Self::AnonymousMemory,
        Self::Compaction,
        Self::AppendWhileCompacting,
        Self::ReadWhileCompacting,
        Self::FeedThroughputOne,
        Self::FeedThroughputEight,
        Self::FeedThroughputSixtyFour,
        Self::FeedLatencyOne,
        Self::FeedLatencyEight,
        Self::FeedLatencySpinning,
        Self::FeedDrain,
        Self::FeedIdle,
        Self::FeedCheckpoint,
        Self::StateHot,
        Self::StateDistinct,
        Self::StateGet,
        Self::StateGetUnderWrites,
        Self::StateScan,
        Self::StateIdleChange,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::AppendNoSync => "append-no-sync",
            Self::AppendLatency => "append-latency",
            Self::AppendFourThreads => "append-4-threads",
            Self::AppendMillionEntities => "append-no-sync-1m-entities",
            Self::AppendTenMillionEntities => "append-no-sync-10m-entities",
            Self::DurableAppend => "durable-append",
            Self::DurableAppendEightThreads => "durable-append-8-threads",
            Self::BatchDurable => "batch-1000-durable",
            Self::BatchNoSync => "batch-1000-no-sync",
            Self::ScanAll => "scan-all-in-order",
            Self::EntityHistory => "entity-history",
            Self::PointRead => "point-read-by-seq",
            Self::OpenToFirstRead => "open-to-first-read",
            Self::OpenAfterCrash => "open-after-crash",
            Self::BytesOnDisk => "bytes-on-disk-per-event",
            Self::AnonymousMemory => "anonymous-memory-per-event",
            Self::Compaction => "compaction",
            Self::AppendWhileCompacting => "append-while-compacting",
            Self::ReadWhileCompacting => "read-while-compacting",
            Self::FeedThroughputOne => "feed-throughput-1",
            Self::FeedThroughputEight => "feed-throughput-8",
            Self::FeedThroughputSixtyFour => "feed-throughput-64",
            Self::FeedLatencyOne => "feed-latency-1",
            Self::FeedLatencyEight => "feed-latency-8",
            Self::FeedLatencySpinning => "feed-latency-1-spinning",
            Self::FeedDrain => "feed-drain-64",
            Self::FeedIdle => "feed-idle-10k",
            Self::FeedCheckpoint => "feed-checkpoint",
            Self::StateHot => "state-10k-hot",
            Self::StateDistinct => "state-distinct",
            Self::StateGet => "state-get",
            Self::StateGetUnderWrites => "state-get-under-writes",
            Self::StateScan => "state-scan",
            Self::StateIdleChange => "state-idle-change",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|work| work.name() == name)
    }

    pub fn what(self) -> &'static str {
        match self {
            Self::AppendNoSync => "one thread appends events one by one; nothing is synced; mean",
            Self::AppendLatency => "the same, each append timed, with the clock's 10 ns in it",
            Self::AppendFourThreads => "four threads append to one store; nothing is synced",
            Self::AppendMillionEntities => "one append an event to 1 M entities that all exist already; mean",
            Self::AppendTenMillionEntities => {
                "one append an event to 10 M entities that all exist already; mean"
            }
            Self::DurableAppend => "one thread; each append is on the disk when it returns",
            Self::DurableAppendEightThreads => "eight threads; each append is on the disk when it returns",
            Self::BatchDurable => "atomic batches of 1,000 events, each on the disk when it returns",
            Self::BatchNoSync => "atomic batches of 1,000 events; nothing is synced",
            Self::ScanAll => "every payload of a reopened store in order of appending, from a warm cache",
            Self::EntityHistory => {
                "the 1,000 events of random entities of a reopened store, in order, from a warm cache"
            }
            Self::PointRead => "payloads at random places of a reopened store, from a warm cache",
            Self::OpenToFirstRead => "a new process opens a closed store and reads one event",
            Self::OpenAfterCrash => {
                "a new process opens a store whose writer was killed, and reads one event; nine tenths were synced"
            }
            Self::BytesOnDisk => "blocks allocated to the closed store",
            Self::AnonymousMemory => "growth of anonymous memory while appending in batches",
            Self::Compaction => {
                "all but the newest event of each entity is dropped, and the space given back; blocks removed a second"
            }
            Self::AppendWhileCompacting => {
                "one thread appends, each append timed, for a second alone and while another drops all but the newest \
                 event of each entity"
            }
            Self::ReadWhileCompacting => "the same for reads of the newest events by place",
            Self::FeedThroughputOne => {
                "one writer to 1 reader of everything, delivered in sum; stores do not sync, queues copy the \
                 payload in and keep nothing; and the writer with nobody there"
            }
            Self::FeedThroughputEight => "the same to 8 readers",
            Self::FeedThroughputSixtyFour => "the same to 64 readers",
            Self::FeedLatencyOne => {
                "from before the append until a parked reader has the payload, for one event in fifty; what cannot \
                 park is left out"
            }
            Self::FeedLatencyEight => "the same until each of 8 parked readers has it",
            Self::FeedLatencySpinning => "the same until 1 reader has it that spins",
            Self::FeedDrain => {
                "a named reader reads a store that is full, in batches of 64; queues have nothing to read"
            }
            Self::FeedIdle => {
                "appends, for five seconds at most, beside 10,000 sleeping readers of entities that do not move, and \
                 the processor's time while nothing happens; queues have no entities"
            }
            Self::FeedCheckpoint => {
                "eight threads append durably beside a named reader that makes its place durable behind each \
                 entry; queues have no place"
            }
            Self::StateHot => {
                "one thread upserts rows of 10,000 keys again and again, durably in groups of 20 ms, beside a consumer of \
                 the changes"
            }
            Self::StateDistinct => {
                "the same with another key for each upsert, until the last of them is durable, and until it was told"
            }
            Self::StateGet => {
                "a row by a random key, as it is now, of as many rows as events, from a warm cache"
            }
            Self::StateGetUnderWrites => {
                "the same while another thread upserts all the rows again and again, as fast as it can, beside a consumer of the \
                 changes"
            }
            Self::StateScan => "all rows of one moment, of as many as events, from a warm cache",
            Self::StateIdleChange => {
                "from before an upsert of an idle store until a consumer that sleeps is shown the change, and one `fdatasync` of \
                 160 B on the same disk between any two of them"
            }
        }
    }

    /// Steps that run in a process of their own, one after the other, on the same directory.
    pub fn steps(self) -> &'static [Step] {
        match self {
            Self::OpenToFirstRead => &[Step::Fill, Step::OpenUntimed, Step::OpenWarm, Step::OpenCold],
            Self::OpenAfterCrash => &[Step::FillAndDie, Step::OpenAfterCrash],
            _ => &[Step::Whole],
        }
    }

    /// Whether the store is made smaller: works for who implements [`Shrinks`].
    pub fn is_shrink(self) -> bool {
        matches!(self, Self::Compaction | Self::AppendWhileCompacting | Self::ReadWhileCompacting)
    }

    /// Whether readers are told of what is appended: works for who implements [`Feed`] or [`Followed`].
    pub fn is_feed(self) -> bool {
        (Self::FeedThroughputOne..=Self::FeedCheckpoint).contains(&self)
    }

    /// Whether rows are kept, and changes of them told: works for who implements [`LiveState`].
    pub fn is_state(self) -> bool {
        self >= Self::StateHot
    }

    /// Whether it is a work for stores, with names and entities.
    pub fn is_followed(self) -> bool {
        (Self::FeedDrain..=Self::FeedCheckpoint).contains(&self)
    }

    /// Whether the history of entities is what the layout should serve.
    pub fn needs_history(self) -> bool {
        self == Self::EntityHistory
    }

    pub fn entities(self, events: u64) -> u32 {
        match self {
            Self::AppendMillionEntities => 1_000_000,
            Self::AppendTenMillionEntities => 10_000_000,
            Self::EntityHistory => (events / 1_000).clamp(1, u64::from(u32::MAX)) as u32,
            Self::StateHot => 10_000,
            Self::StateDistinct | Self::StateGet | Self::StateGetUnderWrites | Self::StateScan => {
                events.min(u64::from(u32::MAX)) as u32
            }
            Self::StateIdleChange => 10,
            _ => 1_000,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Whole,
    Fill,
    FillAndDie,
    OpenUntimed,
    OpenWarm,
    OpenCold,
    OpenAfterCrash,
}

impl Step {
    const ALL: [Self; 7] = [
        Self::Whole,
        Self::Fill,
        Self::FillAndDie,
        Self::OpenUntimed,
        Self::OpenWarm,
        Self::OpenCold,
        Self::OpenAfterCrash,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Fill => "fill",
            Self::FillAndDie => "fill-and-die",
            Self::OpenUntimed => "open-untimed",
            Self::OpenWarm => "open-warm",
            Self::OpenCold => "open-cold",
            Self::OpenAfterCrash => "open-after-crash",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.name() == name)
    }
}

#[derive(Clone, Debug)]
pub struct Measure {
    pub metric: &'static str,
    pub value: f64,
    pub unit: &'static str,
}

pub fn measure(metric: &'static str, value: f64, unit: &'static str) -> Measure {
    Measure { metric, value, unit }
}

/// More is better for rates, less for everything else.
pub fn more_is_better(unit: &str) -> bool {
    unit.ends_with("/s")
}

/// What one process has to do.
pub struct Task {
    pub work: Work,
    pub step: Step,
    pub dir: PathBuf,
    pub events: u64,
    pub keyed: Keyed,
}

impl Task {
    fn setup(&self, durability: Durability) -> Setup {
        Setup { dir: self.dir.clone(), durability, keyed: self.keyed, pipelined: false }
    }

    fn workload(&self) -> Workload {
        Workload::new(self.workload_entities())
    }

    fn workload_entities(&self) -> u32 {
        self.work.entities(self.events)
    }

    pub fn run<E: Engine>(&self) -> Outcome<Vec<Measure>> {
        match self.work {
            Work::AppendNoSync => appends::one_thread::<E>(self),
            Work::AppendLatency => appends::latency::<E>(self),
            Work::AppendFourThreads => appends::four_threads::<E>(self),
            Work::AppendMillionEntities | Work::AppendTenMillionEntities => {
                appends::to_entities_that_exist::<E>(self)
            }
            Work::DurableAppend => appends::durable::<E>(self),
            Work::DurableAppendEightThreads => appends::durable_eight_threads::<E>(self),
            Work::BatchDurable => appends::batches::<E>(self, Durability::Each),
            Work::BatchNoSync => appends::batches::<E>(self, Durability::None),
            Work::ScanAll => reads::scan::<E>(self),
            Work::EntityHistory => reads::history::<E>(self),
            Work::PointRead => reads::points::<E>(self),
            Work::OpenToFirstRead | Work::OpenAfterCrash => opens::step::<E>(self),
            Work::BytesOnDisk => sizes::bytes_on_disk::<E>(self),
            Work::AnonymousMemory => sizes::anonymous_memory::<E>(self),
            _ => not_offered(),
        }
    }
}

impl Task {
    pub fn run_feed<F: Feed>(&self) -> Outcome<Vec<Measure>> {
        match self.work {
            Work::FeedThroughputOne => feeds::throughput::<F>(self, 1),
            Work::FeedThroughputEight => feeds::throughput::<F>(self, 8),
            Work::FeedThroughputSixtyFour => feeds::throughput::<F>(self, 64),
            Work::FeedLatencyOne => feeds::latency::<F>(self, 1, Waiting::Parks),
            Work::FeedLatencyEight => feeds::latency::<F>(self, 8, Waiting::Parks),
            Work::FeedLatencySpinning => feeds::latency::<F>(self, 1, Waiting::Spins),
            _ => not_offered(),
        }
    }

    pub fn run_followed<E: Followed>(&self) -> Outcome<Vec<Measure>> {
        match self.work {
            Work::FeedDrain => follows::drain::<E>(self),
            Work::FeedIdle => follows::idle::<E>(self),
            Work::FeedCheckpoint => follows::checkpoint::<E>(self),
            _ => not_offered(),
        }
    }

    pub fn run_shrink<E: Shrinks>(&self) -> Outcome<Vec<Measure>> {
        match self.work {
            Work::Compaction => shrinks::shrink::<E>(self),
            Work::AppendWhileCompacting => shrinks::append_beside::<E>(self),
            Work::ReadWhileCompacting => shrinks::read_beside::<E>(self),
            _ => not_offered(),
        }
    }

    pub fn run_state<S: LiveState>(&self) -> Outcome<Vec<Measure>> {
        match self.work {
            Work::StateHot => states::hot::<S>(self),
            Work::StateDistinct => states::distinct::<S>(self),
            Work::StateGet => states::gets::<S>(self),
            Work::StateGetUnderWrites => states::gets_under_writes::<S>(self),
            Work::StateScan => states::scan::<S>(self),
            Work::StateIdleChange => states::idle_change::<S>(self),
            _ => not_offered(),
        }
    }

    /// The only work that is done behind a hand-made group commit.
    pub fn run_grouped<E: Engine>(&self) -> Outcome<Vec<Measure>> {
        appends::durable_eight_threads_grouped::<E>(self)
    }
}

/// Appends events `from..to` in batches.
pub fn fill<E: Engine>(engine: &mut E, workload: &Workload, from: u64, to: u64) -> Outcome {
    fill_by(engine, workload, from, to, BATCH_EVENTS)
}

/// Appends events `from..to` in batches of `size`.
pub fn fill_by<E: Engine>(engine: &mut E, workload: &Workload, from: u64, to: u64, size: usize) -> Outcome {
    let mut batch = Vec::with_capacity(size);
    for event in workload.events(from, to) {
        batch.push(event);
        if batch.len() == size {
            engine.append_batch(&batch)?;
            batch.clear();
        }
    }
    if !batch.is_empty() {
        engine.append_batch(&batch)?;
    }
    engine.settle()
}
