//! What time it is: the system's clocks, or one that a test moves by hand.
//!
//! Two readings, for two questions. *When was that?* is asked of the wall clock, which people and their machines set
//! forward and back: entries have its time, and it says how long a deletion is told. *How long ago?* is asked of a
//! monotonic clock, which nobody sets: sources have so long to give a sign of life. So a wall clock that jumps, however
//! far and in whichever direction, ends nobody.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The clock of a store; see [`Options::clock`](crate::Options::clock).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Clock {
    /// The system's: its wall clock, and its monotonic one, which on Linux stands still while the machine is suspended.
    #[default]
    System,
    /// One that is moved by hand.
    Manual(ManualClock),
}

impl Clock {
    /// Nanoseconds since 1970, by the wall clock.
    #[inline]
    pub(crate) fn now(&self) -> i64 {
        match self {
            Self::System => crate::log::lock::now(),
            Self::Manual(clock) => clock.now(),
        }
    }

    /// How long it is since some moment of the clock's own. It never goes back.
    pub(crate) fn elapsed(&self) -> Duration {
        static STARTED: OnceLock<Instant> = OnceLock::new();
        match self {
            Self::System => STARTED.get_or_init(Instant::now).elapsed(),
            Self::Manual(clock) => clock.elapsed(),
        }
    }

    /// Tells `who` whenever the clock is moved by hand.
    pub(crate) fn tell(&self, who: Weak<dyn Moved>) {
        if let Self::Manual(clock) = self {
            let mut listening = clock.0.listening.lock();
            listening.retain(|who| who.strong_count() > 0);
            listening.push(who);
        }
    }
}

impl From<ManualClock> for Clock {
    fn from(clock: ManualClock) -> Self {
        Self::Manual(clock)
    }
}

/// Who waits for a time to come.
pub(crate) trait Moved: Send + Sync {
    /// It is another time than it was.
    fn moved(&self);
}

/// A clock that stands still until it is moved, for tests of what takes time. Clones are the same clock.
///
/// Whoever waits for its time is woken when it is moved.
///
/// ```
/// use std::time::Duration;
///
/// use esker::{Kind, ManualClock, Options, Status, Store};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Vessel { name: String }
/// # const VESSEL: Kind<Vessel> = Kind::new("vessel");
/// # fn main() -> esker::Result<()> {
/// let clock = ManualClock::new();
/// let store = Store::over(Options::new().background(false).clock(clock.clone()).in_memory()?);
/// let radar = store.source("radar")?;
/// radar.assert(VESSEL, "ada", &Vessel { name: "Ada".into() })?;
/// store.flush()?;
/// radar.retract(VESSEL, "ada")?;
/// store.flush()?;
/// assert_eq!(store.status(VESSEL, "ada")?, Status::Tombstone { version: 2 });
/// clock.advance(Duration::from_secs(301));
/// assert_eq!(store.status(VESSEL, "ada")?, Status::NotFound);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ManualClock(Arc<Readings>);

struct Readings {
    wall: AtomicI64,
    /// In nanoseconds.
    elapsed: AtomicU64,
    listening: Mutex<Vec<Weak<dyn Moved>>>,
}

impl ManualClock {
    /// One that stands at the beginning of 2020.
    #[must_use]
    pub fn new() -> Self {
        const BEGINNING_OF_2020: i64 = 1_577_836_800_000_000_000;
        Self(Arc::new(Readings {
            wall: AtomicI64::new(BEGINNING_OF_2020),
            elapsed: AtomicU64::new(0),
            listening: Mutex::default(),
        }))
    }

    /// Nanoseconds since 1970.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.0.wall.load(Ordering::Acquire)
    }

    /// Lets time pass: both readings go on. A source whose deadline is passed by more than half of it in one step has half a
    /// deadline more, as behind any pause in which nobody could speak: move the clock to the deadline, then flush.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        let wall = i64::try_from(nanos).unwrap_or(i64::MAX);
        // Neither closure refuses.
        let _ = self
            .0
            .wall
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| Some(now.saturating_add(wall)));
        let _ = self
            .0
            .elapsed
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| Some(now.saturating_add(nanos)));
        self.tell_all();
    }

    /// Sets the wall clock, in nanoseconds since 1970, as a person or a time server does. No time passes with it.
    pub fn set(&self, now: i64) {
        self.0.wall.store(now, Ordering::Release);
        self.tell_all();
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.0.elapsed.load(Ordering::Acquire))
    }

    fn tell_all(&self) {
        // They look at this clock under locks of their own: not under the lock of the list.
        let listening = self.0.listening.lock().clone();
        listening.iter().filter_map(Weak::upgrade).for_each(|who| who.moved());
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for ManualClock {
    /// True of clones.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ManualClock {}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManualClock({} ns since 1970)", self.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Counts(AtomicU64);

    impl Moved for Counts {
        fn moved(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn time_that_passes_moves_both_readings_and_a_clock_that_is_set_only_the_wall() {
        let manual = ManualClock::new();
        let clock = Clock::from(manual.clone());
        let (wall, elapsed) = (clock.now(), clock.elapsed());
        manual.advance(Duration::from_millis(5));
        assert_eq!(
            (clock.now() - wall, clock.elapsed().checked_sub(elapsed)),
            (5_000_000, Some(Duration::from_millis(5)))
        );
        manual.set(i64::MIN);
        assert_eq!(
            (clock.now(), clock.elapsed().checked_sub(elapsed)),
            (i64::MIN, Some(Duration::from_millis(5)))
        );
        manual.set(i64::MAX);
        manual.advance(Duration::MAX);
        assert_eq!(clock.now(), i64::MAX, "it stays where it ends");
    }

    #[test]
    fn whoever_waits_is_told_of_each_move_until_it_is_gone() {
        let manual = ManualClock::new();
        let clock = Clock::from(manual.clone());
        let counts: Arc<Counts> = Arc::default();
        let who: Arc<dyn Moved> = counts.clone();
        clock.tell(Arc::downgrade(&who));
        manual.advance(Duration::from_secs(1));
        manual.set(0);
        assert_eq!(counts.0.load(Ordering::Relaxed), 2);
        drop((who, counts));
        manual.advance(Duration::from_secs(1));
        clock.tell(Weak::<Counts>::new());
        assert_eq!(manual.0.listening.lock().len(), 1, "who is gone is forgotten");
    }

    #[test]
    fn clones_are_the_same_clock_and_others_are_not() {
        let clock = ManualClock::new();
        assert_eq!(clock, clock.clone());
        assert_ne!(clock, ManualClock::new());
        assert_eq!(Clock::default(), Clock::System);
        assert!(Clock::System.elapsed() <= Clock::System.elapsed());
    }
}
