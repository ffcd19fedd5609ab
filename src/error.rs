//! One opaque error for the whole library, eight bytes wide.
//!
//! An error's first duty is to answer three questions of the person who reads it: what was
//! attempted, where, and what to do next. The kind answers a program's question ("is it
//! worth another try?", "may I repair?"); the accessors give the numbers behind the text.
//!
//! [`Error::is_corruption`] answers "may I repair?": it is true only where bytes on disk
//! contradict themselves or each other, never for a failing device, a full disk, a held lock
//! or a mistake of the caller.

use std::error::Error as StdError;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::id::PART;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The path exists and is not a directory.
    NotADirectory,
    /// There is nothing at the path, and the call was told not to create a store.
    NotFound,
    /// There is a store at the path, and the call was told to create one.
    AlreadyExists,
    /// The directory is not a store (no manifest, or other files in it).
    NotAStore,
    /// The store was written by a newer format than this build knows. Nothing was changed.
    FormatTooNew,
    /// Another process, or this one, holds the directory. The text names the holder.
    Locked,
    /// The process may not read or write the store.
    PermissionDenied,
    /// The operating system reported a failure. What was written before it is intact.
    Io,
    /// The disk is full. The store is intact, readable, and goes on when space is freed.
    NoSpace,
    /// Bytes on disk contradict themselves. Nothing was truncated, deleted or renumbered.
    Corrupt,
    /// A sync failed earlier in this life: the outcome of what was not yet durable is unknown.
    /// Reopen the store and repeat what was not acknowledged, with its idempotency key.
    Poisoned,
    /// The journal was closed.
    Closed,
    /// The options contradict each other or a limit. All problems are listed.
    InvalidOptions,
    /// A key, metadata, payload, name or batch is empty or longer than its limit.
    InvalidInput,
    /// An atomic batch is larger than a quarter of a segment.
    BatchTooLarge,
    /// An expectation was not met. [`Error::expected`] and [`Error::actual`] give both sides.
    Conflict,
    /// An idempotency key was used before for a batch with other content.
    KeyReused,
    /// The kind is not registered in this store.
    UnknownKind,
    /// A kind is registered with another codec, owner, or a newer version.
    KindMismatch,
    /// Only sources write this kind: it holds live state ([`Store::source`](crate::Store::source)).
    OwnedByState,
    /// A type cannot be the row of a kind, or not of one with these fields. Both lists are given.
    Schema,
    /// A field's value is not one that the row's type takes. The text names it.
    TypeMismatch,
    /// Somebody has a session of this source.
    SourceClaimed,
    /// The source's session was closed, or its epoch abandoned because the source was silent for too long.
    SourceEnded,
    /// The source has an epoch of that kind open.
    EpochOpen,
    /// A value could not be encoded or decoded by the kind's codec.
    Codec,
    /// A counter or table is at its limit.
    LimitReached,
    /// The handle was carried over a `fork`: only the process that opened the store may use it. The
    /// child must not read through it either (the segment that was being written is not mapped there,
    /// so that touching it ends the process): it opens a `Reader`.
    Forked,
    /// The file system is not one that locks and maps coherently (a network file system).
    UnsupportedFileSystem,
    /// Compaction has dropped what was asked for. [`Error::floor`] is the first entry from which on all
    /// are there.
    Compacted,
    /// A cursor held back as much as it may, and compaction went past it; or records of a topic were dropped that come
    /// next. [`Error::floor`] is the first entry, or record, from which on all are there.
    Lost,
    /// A reader stood past the point from which the writer went on after a crash.
    Rewound,
    /// A watcher of this process has the cursor in hand.
    CursorInUse,
    /// The cursor was made for another region. Both sides are given.
    CursorMismatch,
    /// There is no cursor of that name.
    UnknownCursor,
    /// The cursor was written before the store was repaired or restored: what its Seq names may not be
    /// the entry that it was. Reset it; to where it is, if what it has read is all there.
    EraChanged,
    /// A subscriber fell further behind than it was allowed to. [`Error::seqs`] is the entry up to which
    /// it has looked.
    Lagged,
    /// The files are a backup: it opens for writing when it was restored.
    IsBackup,
    /// What only reads a store was asked to change it.
    ReadOnly,
    /// A reaction asked for something that waits for the reaction's own end.
    WouldDeadlock,
    /// A reaction panicked.
    Reaction,
    /// The backplane could not be reached, or did not answer in time. What was asked for may have been done: the same
    /// call again, with the same stamps, finds that out.
    Disconnected,
    /// A fold over a topic cannot go on, or not without folding what is not so. The text says why.
    Halted,
    /// What was waited for did not come in time.
    Timeout,
    /// The target of a mirror answered an error, or panicked. The store is as it was.
    Target,
    /// What reactors append was reacted to so often that nothing else will come of it.
    /// [`Error::seqs`] is the entry at which the reactor stands.
    ReactionLoop,
}

/// A kind that has no name here does not compile, and one that has is one of all.
macro_rules! names {
    ($($kind:ident $name:literal,)*) => {
        impl ErrorKind {
            /// All kinds, in the order of their declaration.
            ///
            /// ```
            /// use esker::ErrorKind;
            /// let locked = ErrorKind::ALL.iter().find(|kind| kind.name() == "locked");
            /// assert_eq!(locked, Some(&ErrorKind::Locked));
            /// ```
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// The name of the kind for a log or a command line, which no later version changes: `not-found`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

names! {
    NotADirectory "not-a-directory",
    NotFound "not-found",
    AlreadyExists "already-exists",
    NotAStore "not-a-store",
    FormatTooNew "format-too-new",
    Locked "locked",
    PermissionDenied "permission-denied",
    Io "io",
    NoSpace "no-space",
    Corrupt "corrupt",
    Poisoned "poisoned",
    Closed "closed",
    InvalidOptions "invalid-options",
    InvalidInput "invalid-input",
    BatchTooLarge "batch-too-large",
    Conflict "conflict",
    KeyReused "key-reused",
    UnknownKind "unknown-kind",
    KindMismatch "kind-mismatch",
    OwnedByState "owned-by-state",
    Schema "schema",
    TypeMismatch "type-mismatch",
    SourceClaimed "source-claimed",
    SourceEnded "source-ended",
    EpochOpen "epoch-open",
    Codec "codec",
    LimitReached "limit-reached",
    Forked "forked",
    UnsupportedFileSystem "unsupported-file-system",
    Compacted "compacted",
    Lost "lost",
    Rewound "rewound",
    CursorInUse "cursor-in-use",
    CursorMismatch "cursor-mismatch",
    UnknownCursor "unknown-cursor",
    EraChanged "era-changed",
    Lagged "lagged",
    IsBackup "is-backup",
    ReadOnly "read-only",
    WouldDeadlock "would-deadlock",
    Reaction "reaction",
    Disconnected "disconnected",
    Halted "halted",
    Timeout "timeout",
    Target "target",
    ReactionLoop "reaction-loop",
}

impl ErrorKind {
    fn text(self) -> &'static str {
        match self {
            Self::NotADirectory => "not a directory",
            Self::NotFound => "no store there",
            Self::AlreadyExists => "a store is already there",
            Self::NotAStore => "not an esker store",
            Self::FormatTooNew => "written by a newer format",
            Self::Locked => "held by another process or handle",
            Self::PermissionDenied => "permission denied",
            Self::Io => "input/output failed",
            Self::NoSpace => "no space left",
            Self::Corrupt => "corrupt",
            Self::Poisoned => "poisoned by an earlier failure",
            Self::Closed => "closed",
            Self::InvalidOptions => "invalid options",
            Self::InvalidInput => "invalid input",
            Self::BatchTooLarge => "batch too large",
            Self::Conflict => "expectation not met",
            Self::KeyReused => "idempotency key reused with other content",
            Self::UnknownKind => "unknown kind",
            Self::KindMismatch => "kind registered otherwise",
            Self::OwnedByState => "only sources write it",
            Self::Schema => "the type does not fit the kind",
            Self::TypeMismatch => "a value of another type",
            Self::SourceClaimed => "another session has the source",
            Self::SourceEnded => "the source's session has ended",
            Self::EpochOpen => "an epoch is open",
            Self::Codec => "codec failed",
            Self::LimitReached => "limit reached",
            Self::Forked => "used in a forked process",
            Self::UnsupportedFileSystem => "unsupported file system",
            Self::Compacted => "compacted",
            Self::Lost => "what comes next was dropped",
            Self::Rewound => "the log was rewound by a crash",
            Self::CursorInUse => "somebody in this process has it in hand already",
            Self::CursorMismatch => "the cursor is about another region",
            Self::UnknownCursor => "no such cursor",
            Self::EraChanged => "the cursor is of another era of the store",
            Self::Lagged => "fell too far behind",
            Self::IsBackup => "a backup",
            Self::ReadOnly => "it only reads",
            Self::WouldDeadlock => "would wait for itself",
            Self::Reaction => "the reaction failed",
            Self::Disconnected => "disconnected",
            Self::Halted => "halted",
            Self::Timeout => "the time is over",
            Self::Target => "the target failed",
            Self::ReactionLoop => "reactions to reactions without an end",
        }
    }

    /// What a person can do about it, where there is something to do.
    fn advice(self) -> Option<&'static str> {
        Some(match self {
            Self::FormatTooNew => "open it with a newer esker",
            Self::Locked => "close the other handle, or use a Reader, which takes no lock",
            Self::NoSpace => "free some space and repeat the call",
            Self::Poisoned => "outcome unknown: reopen the store and repeat with the same idempotency key",
            Self::KeyReused => "use a fresh key for other content",
            Self::Disconnected => "outcome unknown: repeat the call with the same stamps",
            Self::Compacted => "read from the floor on, or from the newest entry backward",
            Self::Lost => {
                "take what was dropped for lost, and begin with the oldest that is left: reset the cursor to it, or read \
                 the topic by `read_oldest`"
            }
            Self::Rewound => "open the reader again",
            Self::EraChanged => {
                "look at what was lost, then reset the cursor: `esker cursor reset PATH NAME --to +0` keeps its place"
            }
            Self::CursorInUse => {
                "drop the watcher that has it, close the consumer, or stop and join the reactor"
            }
            Self::KindMismatch => {
                "a name is one kind: take what is registered (`kind_named`, `Store::region`), or another name"
            }
            Self::Lagged => {
                "subscribe again, with more capacity or another answer to lag (`Lag::Skip`, of live state \
                 `Behind::Resume`)"
            }
            Self::OwnedByState => "write it through a source: `Store::source`, then assert, patch or retract",
            Self::EpochOpen => "commit the other epoch, or drop it",
            Self::SourceEnded => "claim the source again, and say again what is true",
            Self::SourceClaimed => "clone the session that has it, or drop all its clones first",
            Self::ReadOnly => "open the store for writing, when nobody else has it open: `Store::open`",
            Self::IsBackup => "use a Reader, or make a store of it with `esker restore BACKUP NEW`",
            Self::WouldDeadlock => "tell another thread, or stop the reactor by its handle",
            Self::ReactionLoop => {
                "let the reactor's region or closure leave out what reactors append, then start it again"
            }
            Self::NotAStore => {
                "nothing was changed; give the directory of a store, or an empty one to whoever makes one"
            }
            Self::Forked => "open the store in the child under its own directory, or use a Reader",
            _ => return None,
        })
    }
}

impl fmt::Display for ErrorKind {
    /// As an error says it, in words: `no store there`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// An error of this crate: a kind, what was attempted, where, and with which numbers.
pub struct Error(Box<Inner>);

#[derive(Default)]
struct Inner {
    kind: Option<ErrorKind>,
    attempted: String,
    path: Option<PathBuf>,
    segment: Option<u32>,
    offset: Option<u64>,
    seqs: Option<RangeInclusive<u64>>,
    next_good: Option<u64>,
    floor: Option<u64>,
    note: Option<String>,
    /// What to do, instead of what is to be done about most errors of the kind.
    advice: Option<String>,
    expected: Option<String>,
    actual: Option<String>,
    /// The newest generation that a conflict found, and zero for none.
    generation: Option<u64>,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Starts an error: the kind, and what was attempted ("append to kind 3"). For those who implement a trait of this
    /// crate that answers with one.
    #[must_use]
    pub fn new(kind: ErrorKind, attempted: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind: Some(kind), attempted: attempted.into(), ..Inner::default() }))
    }

    /// An operating system failure: full disks and missing permissions get their own kinds.
    pub(crate) fn io(attempted: impl Into<String>, cause: std::io::Error) -> Self {
        let advice = advice_of_io(&cause);
        let error = Self::new(kind_of_io(&cause), attempted).because(cause);
        advice.into_iter().fold(error, Self::advising)
    }

    pub(crate) fn corrupt(attempted: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, attempted)
    }

    pub(crate) fn at(mut self, path: impl Into<PathBuf>) -> Self {
        self.0.path = Some(path.into());
        self
    }

    pub(crate) fn place(mut self, segment: u32, offset: u64) -> Self {
        self.0.segment = Some(segment);
        self.0.offset = Some(offset);
        self
    }

    pub(crate) fn lost(mut self, seqs: RangeInclusive<u64>) -> Self {
        self.0.seqs = Some(seqs);
        self
    }

    /// One user frame that the error is about.
    pub(crate) fn concerning(self, seq: u64) -> Self {
        self.lost(seq..=seq)
    }

    /// Says something more, at the end.
    pub(crate) fn noting(mut self, note: String) -> Self {
        self.0.note = Some(note);
        self
    }

    /// Says what to do, where that is known better than of the kind.
    #[cfg_attr(not(feature = "nats"), allow(dead_code, reason = "only what connects knows more"))]
    pub(crate) fn advising(mut self, advice: impl Into<String>) -> Self {
        self.0.advice = Some(advice.into());
        self
    }

    /// Says of what it was a part.
    #[cfg_attr(not(feature = "nats"), allow(dead_code, reason = "only what connects is of parts"))]
    pub(crate) fn part_of(mut self, whole: &str) -> Self {
        self.0.attempted = format!("{whole}: {}", self.0.attempted);
        self
    }

    /// Says the first number from which on nothing was dropped: [`floor`](Self::floor).
    #[must_use]
    pub fn floored_at(mut self, floor: u64) -> Self {
        self.0.floor = Some(floor);
        self
    }

    pub(crate) fn next_good_at(mut self, offset: Option<u64>) -> Self {
        self.0.next_good = offset;
        self
    }

    /// Says what was expected and what was found.
    #[must_use]
    pub fn sides(mut self, expected: impl fmt::Display, actual: impl fmt::Display) -> Self {
        self.0.expected = Some(expected.to_string());
        self.0.actual = Some(actual.to_string());
        self
    }

    pub(crate) fn found_generation(mut self, generation: Option<u64>) -> Self {
        self.0.generation = Some(generation.unwrap_or(0));
        self
    }

    /// Says what it was caused by.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// The kind of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind.unwrap_or(ErrorKind::Io)
    }

    /// What was attempted.
    pub(crate) fn attempted(&self) -> &str {
        &self.0.attempted
    }

    pub(crate) fn is_not_found(&self) -> bool {
        let cause = self.0.cause.as_deref().and_then(|cause| cause.downcast_ref::<std::io::Error>());
        cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::NotFound)
    }

    /// It says nothing of what was looked at: the process had no descriptor or memory left, and a later call may.
    pub(crate) fn is_passing(&self) -> bool {
        let cause = self.0.cause.as_deref().and_then(|cause| cause.downcast_ref::<std::io::Error>());
        cause.is_some_and(is_passing)
    }

    /// True where bytes on disk contradict themselves: `repair` into a new directory helps.
    #[must_use]
    pub fn is_corruption(&self) -> bool {
        self.kind() == ErrorKind::Corrupt
    }

    /// The file or directory concerned.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The segment concerned.
    #[must_use]
    pub fn segment(&self) -> Option<u32> {
        self.0.segment
    }

    /// The offset in the file, in bytes.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// The numbers of the user frames that are lost or concerned.
    #[must_use]
    pub fn seqs(&self) -> Option<RangeInclusive<u64>> {
        self.0.seqs.clone()
    }

    /// Where the next good frame begins, in bytes from the start of the file.
    #[must_use]
    pub fn next_good(&self) -> Option<u64> {
        self.0.next_good
    }

    /// The first Seq (of a backplane, the first offset) from which on nothing was dropped by compaction.
    #[must_use]
    pub fn floor(&self) -> Option<u64> {
        self.0.floor
    }

    /// The expected side of a mismatch.
    #[must_use]
    pub fn expected(&self) -> Option<&str> {
        self.0.expected.as_deref()
    }

    /// For a `Conflict`: the newest generation of the entity, as a number; zero if it has no entry.
    #[must_use]
    pub fn actual_generation(&self) -> Option<u64> {
        self.0.generation
    }

    /// The found side of a mismatch.
    #[must_use]
    pub fn actual(&self) -> Option<&str> {
        self.0.actual.as_deref()
    }

    /// What went wrong, without where and without advice: a report gives both itself.
    pub(crate) fn facts(&self) -> String {
        Facts(self).to_string()
    }

    /// Bytes on disk contradict themselves: the commands that look, and save what is good.
    fn write_what_to_run(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = self.path().map_or_else(|| "PATH".into(), |path| store_of(path).to_string_lossy());
        write!(f, "; run `esker verify {store}`, then `esker repair {store} --output NEW`")
    }

    fn write_sides(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(expected), Some(actual)) = (self.expected(), self.actual()) {
            write!(f, ": expected {expected}, found {actual}")?;
        }
        match &self.0.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

/// An entity as people write it: the name of its kind, and its key, of a long one the beginning. Errors are printed: no key
/// reaches the terminal's control characters.
pub(crate) fn entity_text(kind: &str, key: &[u8]) -> String {
    const CHARACTERS_SHOWN: usize = 64;
    // No character is longer than four bytes.
    let text = String::from_utf8_lossy(key.get(..4 * CHARACTERS_SHOWN).unwrap_or(key));
    let shown: String = text.chars().take(CHARACTERS_SHOWN).collect();
    let entity = format!("{}/{}", kind.escape_debug(), shown.escape_debug());
    if text.chars().nth(CHARACTERS_SHOWN).is_some() {
        format!("{entity}\u{2026} ({} bytes)", key.len())
    } else {
        entity
    }
}

/// A range of numbers as the tool takes it: both ends included, and one number alone as itself.
pub(crate) fn seqs_text(seqs: &RangeInclusive<u64>) -> String {
    let (first, last) = (seqs.start(), seqs.end());
    if first == last { first.to_string() } else { format!("{first}..{last}") }
}

/// The directory of the store that a file is of; a directory is one itself.
fn store_of(path: &Path) -> &Path {
    let is = |suffix: &str| path.extension().is_some_and(|its| its == suffix);
    let is_named = |name: &str| path.file_name().is_some_and(|its| its == name);
    let is_a_file = ["seg", "snap", "idx"].into_iter().any(is)
        || ["MANIFEST", "LOCK", "entities"].into_iter().any(is_named);
    path.parent().filter(|_| is_a_file).unwrap_or(path)
}

/// See [`Error::is_passing`].
pub(crate) fn is_passing(error: &std::io::Error) -> bool {
    advice_of_io(error).is_some()
}

/// What to do about what the process or the machine has no more of.
fn advice_of_io(error: &std::io::Error) -> Option<&'static str> {
    use rustix::io::Errno;
    if error.kind() == std::io::ErrorKind::OutOfMemory {
        return Some(
            "nothing is wrong with the file: free some memory (or raise `vm.max_map_count`), and repeat the call",
        );
    }
    match Errno::from_io_error(error)? {
        Errno::MFILE => Some(
            "nothing is wrong with the file: this process has as many open as it may; raise its limit (`ulimit -n`), and \
             repeat the call",
        ),
        Errno::NFILE => Some(
            "nothing is wrong with the file: the machine has as many open as it may; raise `fs.file-max`, and repeat the call",
        ),
        _ => None,
    }
}

fn kind_of_io(error: &std::io::Error) -> ErrorKind {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            ErrorKind::PermissionDenied
        }
        _ => ErrorKind::Io,
    }
}

/// What went wrong: see [`Error::facts`].
struct Facts<'a>(&'a Error);

impl fmt::Display for Facts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(error) = self;
        write!(f, "{}: {}", error.attempted(), error.kind().text())?;
        error.write_sides(f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        write!(f, "{}: {}", inner.attempted, self.kind().text())?;
        if let Some(path) = &inner.path {
            write!(f, " at {}", path.display())?;
        }
        if let Some(segment) = inner.segment {
            let what = if segment & PART == 0 { "segment" } else { "part" };
            write!(f, ", {what} {}", segment & !PART)?;
        }
        if let Some(offset) = inner.offset {
            write!(f, ", offset {offset}")?;
        }
        if let Some(seqs) = &inner.seqs {
            write!(f, ", seq {}", seqs_text(seqs))?;
        }
        if let Some(floor) = inner.floor {
            write!(f, ", floor {floor}")?;
        }
        if let Some(next) = inner.next_good {
            write!(f, ", next good frame at {next}")?;
        }
        self.write_sides(f)?;
        if self.is_corruption() {
            self.write_what_to_run(f)?;
        }
        if let Some(advice) = inner.advice.as_deref().or_else(|| self.kind().advice()) {
            write!(f, "; {advice}")?;
        }
        match &inner.note {
            Some(note) => write!(f, "; {note}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}: {self})", self.kind())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}

// A pointer, so that a `Result` is one.
const _: () =
    assert!(size_of::<Error>() == size_of::<usize>() && size_of::<Result<()>>() == size_of::<usize>());
