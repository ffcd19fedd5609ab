//! What every backplane has to do, as code that tries it: for those who write an adapter.
//!
//! Part A is the contract of [`Backplane`], in numbered statements, and one about its [limits](part_a::LIMITS). Each is run over random schedules, of which a seed
//! makes the same again. [`contract`] runs them all and panics with what is broken; [`check`] answers a [`Report`].
//!
//! ```
//! use std::sync::Arc;
//! use esker::backplane::InMemory;
//! let plane = InMemory::new();
//! esker::conformance::contract(&|| Arc::new(plane.reopened()));       // the same storage each time
//! ```
//!
//! Part B is about what runs on a backplane ([`part_b`]; [`runtime`] runs it): folds over topics, and consumers of them. Each of its statements names
//! a double that breaks what it is about, and what it tells of that ([`part_b::REDS`]).
//!
//! A test that cannot fail shows nothing. [`doubles`] has backplanes that each break one rule on purpose: each statement
//! names those that it has to find ([`Fault::breaks`](doubles::Fault::breaks)). And it has some that only do what a
//! network does, which no statement may mind.

/// Ends a statement that does not hold.
macro_rules! demand {
    ($holds:expr, $($told:tt)+) => {
        if !$holds {
            return Err(Broken(format!($($told)+)));
        }
    };
}

mod consumers;
pub mod doubles;
mod edges;
mod folds;
pub mod part_a;
pub mod part_b;
mod random;
mod reading;
mod tamper;
mod trial;
mod versions;
mod whatever;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::backplane::{Backplane, WriterId};
pub use crate::conformance::random::Random;
pub use crate::conformance::trial::Trial;

/// What a backplane is tried on.
pub trait Bench {
    /// Opens the backplane: the same storage each time, with what was committed before. It is asked again when the one
    /// before was closed or dropped.
    fn open(&self) -> Arc<dyn Backplane>;

    /// Ends a backplane as a crash does, as hard as can be had, and opens it again. By default it is dropped
    /// without a close.
    fn kill(&self, plane: Arc<dyn Backplane>) -> Arc<dyn Backplane> {
        drop(plane);
        self.open()
    }

    /// Opens the backplane with something put around it, under whatever the bench itself puts around what it opens.
    fn open_around(&self, put: &dyn Fn(Arc<dyn Backplane>) -> Arc<dyn Backplane>) -> Arc<dyn Backplane> {
        put(self.open())
    }

    /// Opens it once more, as another process has it at the same time. By default it is the same one: of a store in a directory there
    /// is no other.
    fn open_beside(&self, plane: &Arc<dyn Backplane>) -> Arc<dyn Backplane> {
        Arc::clone(plane)
    }
}

impl<F: Fn() -> Arc<dyn Backplane>> Bench for F {
    fn open(&self) -> Arc<dyn Backplane> {
        self()
    }
}

/// How much is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// So many random schedules of each statement.
    pub schedules: u64,
    /// What the schedules are made from.
    pub seed: u64,
    /// What does not come within this time is taken never to come.
    pub patience: Duration,
    /// A close ends those who wait within this time. One that takes longer is tried again a few times, and the fastest counts: what
    /// else the machine does is no matter of the backplane.
    pub close_within: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

impl Settings {
    /// Sixteen schedules of each statement, half a minute of patience, and a tenth of a second for a close.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            schedules: 16,
            seed: 0x0065_736b_6572,
            patience: Duration::from_secs(30),
            close_within: Duration::from_millis(100),
        }
    }

    /// So many random schedules of each statement.
    #[must_use]
    pub const fn schedules(mut self, schedules: u64) -> Self {
        self.schedules = schedules;
        self
    }

    /// Other schedules.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How long a close may take.
    #[must_use]
    pub const fn close_within(mut self, within: Duration) -> Self {
        self.close_within = within;
        self
    }

    /// How long it is waited for what does not come.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

/// What is not as it should be, and how that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub(crate) String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<crate::error::Error> for Broken {
    fn from(error: crate::error::Error) -> Self {
        Self(format!("an error that nothing calls for: {error}"))
    }
}

/// Whether a statement holds.
pub type Held = Result<(), Broken>;

/// One of the statements.
#[derive(Clone, Copy)]
pub struct Statement {
    /// Its number.
    pub number: u8,
    /// What it says.
    pub says: &'static str,
    /// It is about a [`Compactor`](crate::backplane::Compactor), which a backplane need not have.
    pub needs_compactor: bool,
    /// Tries one random schedule.
    pub run: fn(&mut Trial<'_>) -> Held,
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Statement({}: {})", self.number, self.says)
    }
}

/// What became of one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tried {
    /// Which one.
    pub number: u8,
    /// How many schedules were run; the last one is the one that broke it.
    pub schedules: u64,
    /// What is broken, and by which schedule, if it is.
    pub broken: Option<Broken>,
    /// It is about what this backplane does not have.
    pub absent: bool,
}

/// What became of the statements.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// One for each statement, in their order.
    pub tried: Vec<Tried>,
}

impl Report {
    /// The statements that do not hold.
    pub fn broken(&self) -> impl Iterator<Item = &Tried> {
        self.tried.iter().filter(|tried| tried.broken.is_some())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for tried in &self.tried {
            let Tried { number, schedules, broken, absent } = tried;
            match broken {
                _ if *absent => writeln!(f, "{number:>2}  absent")?,
                None => writeln!(f, "{number:>2}  holds in {schedules} schedules")?,
                Some(broken) => writeln!(f, "{number:>2}  BROKEN in schedule {schedules}: {broken}")?,
            }
        }
        Ok(())
    }
}

/// Tries statements on a backplane.
pub fn check(bench: &dyn Bench, statements: &[Statement], settings: &Settings) -> Report {
    Report { tried: statements.iter().map(|statement| try_one(bench, statement, settings)).collect() }
}

fn try_one(bench: &dyn Bench, statement: &Statement, settings: &Settings) -> Tried {
    let mut tried = Tried { number: statement.number, schedules: 0, broken: None, absent: false };
    let nonce = match WriterId::random() {
        Ok(nonce) => nonce.raw(),
        Err(error) => return Tried { broken: Some(error.into()), ..tried },
    };
    if statement.needs_compactor && bench.open().compactor().is_none() {
        return Tried { absent: true, ..tried };
    }
    for schedule in 0..settings.schedules {
        tried.schedules += 1;
        let seed = settings.seed ^ schedule << 8 ^ u64::from(statement.number);
        let mut trial = Trial::new(bench, statement.number, seed, nonce, settings);
        if let Err(Broken(what)) = (statement.run)(&mut trial) {
            tried.broken = Some(Broken(format!("{}: {what} (seed {seed:#x})", statement.says)));
            break;
        }
    }
    tried
}

/// Tries the contract (part A) on a backplane: `open` opens the same storage each time.
///
/// # Panics
///
/// If a statement does not hold: with all that became of them.
pub fn contract(open: &dyn Fn() -> Arc<dyn Backplane>) {
    let statements: Vec<Statement> = part_a::STATEMENTS.iter().copied().chain([part_a::LIMITS]).collect();
    demand_all("the contract of a backplane", &open, &statements, &Settings::new());
}

/// Tries what runs on a backplane (part B), as [`contract`] does; each of its schedules takes longer, and there are fewer.
///
/// ```
/// # use std::sync::Arc;
/// # use esker::backplane::InMemory;
/// let plane = InMemory::new();
/// esker::conformance::runtime(&|| Arc::new(plane.reopened()));
/// ```
///
/// # Panics
///
/// As [`contract`].
pub fn runtime(open: &dyn Fn() -> Arc<dyn Backplane>) {
    let whatever = [part_b::NO_OTHER_DIGEST, part_b::NOTHING_PASSED_OVER, part_b::NOTHING_STANDS_STILL];
    let statements: Vec<Statement> = part_b::STATEMENTS.iter().copied().chain(whatever).collect();
    demand_all("what runs on a backplane", &open, &statements, &Settings::new().schedules(2));
}

fn demand_all(what: &str, bench: &dyn Bench, statements: &[Statement], settings: &Settings) {
    let report = check(bench, statements, settings);
    assert!(report.broken().next().is_none(), "{what} is broken\n{report}");
}
