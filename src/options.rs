//! How a store is opened: every default with its price.

use std::time::Duration;

use crate::clock::Clock;
use crate::compact::policy::AutoCompact;
use crate::error::{Error, ErrorKind, Result};

/// When an append is acknowledged, and what a crash may take.
///
/// | mode | `append` returns when | `kill -9` takes | a power cut takes |
/// | --- | --- | --- | --- |
/// | `Sync` | the batch is on the disk | nothing acknowledged | nothing acknowledged |
/// | `Interval(d)` | the batch is visible | nothing acknowledged | at most what the last `d` and one sync appended |
/// | `Os` | the batch is visible | nothing acknowledged | what the kernel had not written back, about 30 s |
///
/// In every mode what survives is a prefix of what was appended, in whole batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// Wait for the disk. Costs one `fdatasync` a group of concurrent appends.
    #[default]
    Sync,
    /// Sync in the background, this often.
    Interval(Duration),
    /// Leave it to the kernel. Full segments are synced in the background: once the log rests, a few seconds behind a writer that
    /// never does, and sooner where many have come together, since each needs a descriptor until then. An append waits for that
    /// only where it is far ahead, or where there are no [threads](Options::background).
    Os,
}

/// How to open a store.
///
/// ```
/// use esker::{Durability, Options};
/// # fn main() -> esker::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// let journal = Options::new()
///     .durability(Durability::Os)
///     .segment_bytes(8 << 20)
///     .open(directory.path().join("harbour.esker"))?;
/// journal.close()
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "options do nothing until `open`"]
pub struct Options {
    pub(crate) durability: Durability,
    pub(crate) segment_bytes: u64,
    pub(crate) background: bool,
    pub(crate) allow_network_file_system: bool,
    pub(crate) refuse_shared_directory: bool,
    pub(crate) auto_compact: Option<AutoCompact>,
    pub(crate) window: Window,
    pub(crate) clock: Clock,
    pub(crate) fold_threads: usize,
    pub(crate) cell_sweep: Duration,
    pub(crate) epoch_batch_bytes: u64,
    pub(crate) tombstone_retention: Duration,
    pub(crate) presence: Presence,
}

/// When what sources say of live state is appended: the operations of one window come to at most one row
/// for each entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Window {
    /// So long after the last time, at once where that is past; and when somebody waits for it, or much is
    /// pending.
    Every(Duration),
    /// Only when somebody waits for it, or much is pending.
    Manual,
}

/// What should be there before opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    OpenOrCreate,
    Create,
    OpenExisting,
}

/// A segment is at least this many bytes.
pub const SEGMENT_BYTES_MIN: u64 = 4096;
/// A segment is at most this many bytes.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// What the end of an epoch comes to at most, if it is one batch: a segment has to hold that.
pub(crate) const EPOCH_BATCH_BYTES_MAX: u64 = SEGMENT_BYTES_MAX / 2;
/// The same, unless the options say otherwise: it is put together in memory, while others who write wait.
const EPOCH_BATCH_BYTES: u64 = 32 << 20;
/// What is pending in one window: there are two at most, one that takes operations and one that is being appended.
const WINDOW_BYTES_MAX: u64 = 32 << 20;
/// So long a deletion is told, unless the options say otherwise.
pub(crate) const TOMBSTONE_RETENTION: Duration = Duration::from_secs(300);
/// The shortest interval of [`Durability::Interval`], between two compactions, and of [`Window::Every`].
const INTERVAL_MIN: Duration = Duration::from_millis(1);
/// The longest window of [`Window::Every`].
const WINDOW_MAX: Duration = Duration::from_secs(86_400);

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// `Durability::Sync`, segments of 64 MiB, maintenance in the background, compaction only when it is
    /// asked for, no network file systems, and create the store where there is none.
    pub const fn new() -> Self {
        Self {
            durability: Durability::Sync,
            segment_bytes: 64 << 20,
            background: true,
            allow_network_file_system: false,
            refuse_shared_directory: false,
            auto_compact: None,
            window: Window::Every(Duration::from_millis(20)),
            clock: Clock::System,
            fold_threads: 2,
            cell_sweep: Duration::from_secs(5),
            epoch_batch_bytes: EPOCH_BATCH_BYTES,
            tombstone_retention: TOMBSTONE_RETENTION,
            presence: Presence::OpenOrCreate,
        }
    }

    /// When an append is acknowledged. Default: [`Durability::Sync`].
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The size of a full-grown segment, from 4 KiB to 1 GiB. Default: 64 MiB.
    ///
    /// A batch may take a quarter of it. The first segments are smaller (an eighth of the log,
    /// at least 1 MiB), so that a small store is a small directory. Larger segments mean
    /// fewer files; after a crash, one of them is read to find the end of the log.
    pub const fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Whether segments are made and indexed by a thread of their own. Default: true.
    ///
    /// Without it the appending call does that work when it comes up: slower, and the same on
    /// every run. [`Durability::Interval`] needs it.
    pub const fn background(mut self, background: bool) -> Self {
        self.background = background;
        self
    }

    /// Compacts in the background, in a thread of its own that begins with the first append and ends with
    /// the journal. Default: none, so that the log shrinks only when [`Journal::compact`] is called.
    ///
    /// What fails (a full disk, for example) is tried again at the next interval, and counted in
    /// [`Stats::compactions_failed`](crate::Stats::compactions_failed).
    ///
    /// [`Journal::compact`]: crate::Journal::compact
    pub fn auto_compact(mut self, auto: AutoCompact) -> Self {
        self.auto_compact = Some(auto);
        self
    }

    /// How long operations of sources are gathered before what they come to is appended. Default: 20 ms.
    ///
    /// A longer window means fewer rows of an entity that changes all the time, and that what is asserted is
    /// seen, and survives a crash, later. Whoever waits for an operation never waits for the window.
    pub const fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// What tells the time: the time that entries have, how long a deletion is told, how long compaction keeps it, and
    /// when a source has been silent for too long. Default: the system's clocks.
    ///
    /// A test takes a [`ManualClock`](crate::ManualClock), and no test has to wait. Intervals (of windows, of syncs, of
    /// compactions) are the system's all the same.
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// How many threads fold topics for those who read them ([`TopicFold`](crate::TopicFold)), at most. They are there while
    /// somebody does. Handlers of consumers run in them too. While one of them waits for a fold ([`read`](crate::TopicFold::read)) another
    /// one takes its place. Default: 2.
    pub const fn fold_threads(mut self, threads: usize) -> Self {
        self.fold_threads = threads;
        self
    }

    /// How often the cells that somebody of this process follows ([`Cell::get`](crate::Cell::get),
    /// [`Cell::watch`](crate::Cell::watch)) are looked up on the backplane, beside what is told of them. Zero: never, so that what
    /// was not told is not known. Default: 5 seconds.
    pub const fn cell_sweep(mut self, interval: Duration) -> Self {
        self.cell_sweep = interval;
        self
    }

    /// The end of an [epoch](crate::Epoch::commit) is one batch if it takes no more than so many bytes of log. The batch is put together in
    /// memory, which takes some times as much, and others who write wait for it. What takes more is carried out in batches of a
    /// quarter of a [segment](Self::segment_bytes). Default: 32 MiB, some hundred thousand entities. At most: 512 MiB.
    pub const fn epoch_batch_bytes(mut self, bytes: u64) -> Self {
        self.epoch_batch_bytes = bytes;
        self
    }

    /// So long [`Store::status`](crate::Store::status) tells of an entity that was deleted. Default: 5 minutes, which is also how long
    /// compaction keeps deletions: one that [keeps them for less](crate::CompactOptions::keep_tombstones_for) may drop some that would
    /// yet be told.
    pub const fn tombstone_retention(mut self, retention: Duration) -> Self {
        self.tombstone_retention = retention;
        self
    }

    /// Open a store on a network file system, whose locks and mappings may not be coherent
    /// with other machines. Default: false, which is an error there.
    pub const fn allow_network_file_system(mut self, allow: bool) -> Self {
        self.allow_network_file_system = allow;
        self
    }

    /// Refuse a directory that somebody else owns, or that its group or everybody may write to, with
    /// [`ErrorKind::PermissionDenied`](crate::ErrorKind::PermissionDenied): whoever may write there can put other files in the place
    /// of a store's. The directories above it are not looked at. What esker makes itself is its owner's alone, whatever the
    /// umask. Default: false.
    pub const fn refuse_shared_directory(mut self, refuse: bool) -> Self {
        self.refuse_shared_directory = refuse;
        self
    }

    /// The limit of a batch, in bytes of log.
    pub(crate) const fn batch_bytes_max(&self) -> u64 {
        self.segment_bytes / 4
    }

    /// The limit of what is pending in one window, if that is not a single operation.
    pub(crate) fn window_bytes_max(&self) -> u64 {
        self.batch_bytes_max().min(WINDOW_BYTES_MAX)
    }

    /// The limit of a batch that is the end of an epoch.
    pub(crate) fn epoch_bytes_max(&self) -> u64 {
        self.epoch_batch_bytes.min(EPOCH_BATCH_BYTES_MAX)
    }

    /// All problems at once.
    pub(crate) fn validate(&self) -> Result<()> {
        let mut problems = Vec::new();
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            problems.push(format!(
                "segment_bytes is {}, outside {SEGMENT_BYTES_MIN}..={SEGMENT_BYTES_MAX}",
                self.segment_bytes
            ));
        }
        if !self.segment_bytes.is_multiple_of(4096) {
            problems.push(format!("segment_bytes is {}, not a multiple of 4096", self.segment_bytes));
        }
        if let Durability::Interval(interval) = self.durability {
            if interval < INTERVAL_MIN {
                problems.push(format!("the interval is {interval:?}, under {INTERVAL_MIN:?}"));
            }
            if !self.background {
                problems.push("Durability::Interval needs background(true)".to_owned());
            }
        }
        if let Window::Every(every) = self.window
            && !(INTERVAL_MIN..=WINDOW_MAX).contains(&every)
        {
            problems.push(format!("the window is {every:?}, outside {INTERVAL_MIN:?}..={WINDOW_MAX:?}"));
        }
        if self.fold_threads == 0 {
            problems.push("fold_threads is 0, and topics are folded by at least one".to_owned());
        }
        if let Some(auto) = &self.auto_compact {
            if auto.interval < INTERVAL_MIN {
                problems.push(format!(
                    "the interval of compaction is {:?}, under {INTERVAL_MIN:?}",
                    auto.interval
                ));
            }
            if !self.background {
                problems.push("auto_compact needs background(true)".to_owned());
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidOptions, format!("check the options: {}", problems.join("; "))))
    }
}
