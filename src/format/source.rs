//! The payload of a source frame: who may say what is true, by number and name, and for how long in silence.
//!
//! ```text
//! id 1 | flags 1 | name length 1 | reserved 1 | deadline in milliseconds 4 | claimed 8 | name
//! ```
//!
//! Of two frames about one number the later one is right. A row names the sources that assert it by
//! one bit each, so there are 64. Frames from before sources had deadlines have zeros there: no deadline.

use std::time::Duration;

use zerocopy::little_endian::{I64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A store has at most this many sources at a time: a row has one bit for each.
pub const SOURCES_MAX: usize = 64;
/// A source's name is 1 to this many bytes of UTF-8.
pub const SOURCE_NAME_BYTES_MAX: usize = 255;
/// The shortest deadline of a source.
pub const DEADLINE_MIN: Duration = Duration::from_millis(10);
/// The longest deadline of a source: 30 days.
pub const DEADLINE_MAX: Duration = Duration::from_secs(30 * 86_400);

const _: () = assert!(DEADLINE_MAX.as_millis() <= u32::MAX as u128, "a deadline has 32 bits");

/// What becomes of that which a source asserts when it falls silent.
///
/// The store keeps it with the source, from the claim on that says it
/// ([`SourceOptions::liveness`](crate::SourceOptions::liveness)). Time is a monotonic clock's: one that people set, or
/// that a time server corrects, ends nobody.
///
/// A session is silent from the drop of its last clone on, or with [`Heartbeat::ByHand`](crate::Heartbeat::ByHand) from
/// its last sign of life on. At the deadline its epochs are abandoned and what it asserts is taken back, in every
/// kind, in as many batches as that takes: entities that nobody else asserts are deleted. Whoever is back before that has
/// lost nothing. The thread that flushes windows looks at deadlines; without it
/// ([`Options::background`](crate::Options::background)) the next operation of any source does, the next claim, or the
/// next [`flush`](crate::Store::flush).
///
/// When a store is opened all deadlines begin with the first session that anybody claims: a program that only reads, or
/// compacts, ends nobody. A deadline that is noticed late by more than its half (the process was stopped, or
/// nobody looked) is put off by its half, once, so that whoever was kept from speaking can speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, serde::Serialize)]
#[non_exhaustive]
pub enum Liveness {
    /// It stays asserted, until the source retracts it.
    #[default]
    Forever,
    /// A source that gave no sign of life for so long asserts nothing any more. From [`DEADLINE_MIN`] to
    /// [`DEADLINE_MAX`], in whole milliseconds.
    Deadline(Duration),
}

impl Liveness {
    /// How long a source may be silent; `None`: for ever.
    #[must_use]
    pub const fn deadline(self) -> Option<Duration> {
        match self {
            Self::Forever => None,
            Self::Deadline(deadline) => Some(deadline),
        }
    }

    /// True of what a frame can say.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        match self {
            Self::Forever => true,
            Self::Deadline(deadline) => {
                let nanos = deadline.as_nanos();
                nanos >= DEADLINE_MIN.as_nanos()
                    && nanos <= DEADLINE_MAX.as_nanos()
                    && nanos.is_multiple_of(1_000_000)
            }
        }
    }

    fn millis(self) -> u32 {
        // Zero: for ever. No deadline that is valid is so short, or longer than fits.
        self.deadline().map_or(0, |deadline| u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX))
    }

    fn of_millis(millis: u32) -> Self {
        if millis == 0 { Self::Forever } else { Self::Deadline(Duration::from_millis(u64::from(millis))) }
    }
}

/// A source, as a frame states it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct SourceInfo {
    /// Its number, from 0 to 63: the bit that it has in a row's set of sources.
    pub id: u8,
    /// Its name.
    pub name: String,
    /// When it was first claimed, in nanoseconds since 1970.
    pub claimed: i64,
    /// What becomes of that which it asserts when it falls silent.
    pub liveness: Liveness,
    /// What it asserts stays as it is until its next session: no deadline runs.
    pub settled: bool,
    /// It is no more: number and name are free.
    #[serde(skip)]
    pub(crate) retired: bool,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SourceBytes {
    id: u8,
    flags: u8,
    name_bytes: u8,
    reserved: u8,
    deadline: U32,
    claimed: I64,
}

const RETIRED: u8 = 1;
const SETTLED: u8 = 1 << 1;

impl SourceInfo {
    /// A source that was first claimed at this time, in nanoseconds since 1970, and may be silent for ever.
    #[must_use]
    pub fn new(id: u8, name: impl Into<String>, claimed: i64) -> Self {
        let name = name.into();
        Self { id, name, claimed, liveness: Liveness::Forever, settled: false, retired: false }
    }

    /// What becomes of that which it asserts when it falls silent. Default: nothing.
    #[must_use]
    pub fn liveness(mut self, liveness: Liveness) -> Self {
        self.liveness = liveness;
        self
    }

    /// Whether what it asserts stays as it is until its next session. Default: no.
    #[must_use]
    pub fn settled(mut self, settled: bool) -> Self {
        self.settled = settled;
        self
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let fixed = SourceBytes {
            id: self.id,
            flags: flag(self.retired, RETIRED) | flag(self.settled, SETTLED),
            name_bytes: u8::try_from(self.name.len()).unwrap_or_else(|_| panic!("checked against its limit")),
            reserved: 0,
            deadline: U32::new(self.liveness.millis()),
            claimed: I64::new(self.claimed),
        };
        [fixed.as_bytes(), self.name.as_bytes()].concat()
    }

    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let (fixed, rest) = SourceBytes::read_from_prefix(payload).ok()?;
        let name = rest.get(..usize::from(fixed.name_bytes))?;
        Some(Self {
            id: Some(fixed.id).filter(|id| usize::from(*id) < SOURCES_MAX)?,
            name: String::from_utf8(name.to_vec()).ok().filter(|name| !name.is_empty())?,
            claimed: fixed.claimed.get(),
            liveness: Liveness::of_millis(fixed.deadline.get()),
            settled: fixed.flags & SETTLED != 0,
            retired: fixed.flags & RETIRED != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_gives_back_what_was_written_and_refuses_every_truncation() {
        let retired = SourceInfo { retired: true, ..SourceInfo::new(63, "radar-7", -5) };
        let mortal = SourceInfo::new(0, "x", 7).liveness(Liveness::Deadline(DEADLINE_MAX)).settled(true);
        for source in [retired, mortal] {
            let bytes = source.encode();
            assert_eq!(SourceInfo::read(&bytes), Some(source));
            assert!((0..bytes.len()).all(|cut| SourceInfo::read(&bytes[..cut]).is_none()));
            let mut beyond = bytes;
            beyond[0] = 64;
            assert_eq!(SourceInfo::read(&beyond), None);
        }
    }

    #[test]
    fn a_frame_from_before_deadlines_is_of_a_source_that_may_be_silent_for_ever() {
        let old = [&[3, 0, 5, 0, 0, 0, 0, 0][..], &9i64.to_le_bytes(), b"radar"].concat();
        let source = SourceInfo::new(3, "radar", 9);
        assert_eq!(SourceInfo::read(&old), Some(source.clone()));
        assert_eq!(source.encode(), old);
    }

    #[test]
    fn deadlines_are_whole_milliseconds_between_their_limits() {
        let step = Duration::from_nanos(1);
        let valid = |deadline| Liveness::Deadline(deadline).is_valid();
        assert!(Liveness::Forever.is_valid() && valid(DEADLINE_MIN) && valid(DEADLINE_MAX));
        for refused in [DEADLINE_MIN - step, DEADLINE_MAX + step, DEADLINE_MIN + step, Duration::ZERO] {
            assert!(!valid(refused), "{refused:?}");
        }
    }
}
