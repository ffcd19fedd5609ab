//! How long to wait before the next attempt.

use std::time::Duration;

use crate::log::lock::random;

/// Longer each time, and never at the same moment as others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retry {
    pub(crate) base: Duration,
    pub(crate) max: Duration,
}

impl Retry {
    /// From 10 milliseconds to 30 seconds.
    pub(crate) const DEFAULT: Self = Self { base: Duration::from_millis(10), max: Duration::from_secs(30) };

    /// The pause behind this many failures in a row.
    pub(crate) fn pause(self, failures: u32) -> Duration {
        // Without chance, half of the time is a fair guess.
        let chance = random::<4>().map_or(u32::MAX / 2, u32::from_le_bytes);
        self.pause_by(failures, chance)
    }

    /// Between half of the time and all of it, as `chance` says.
    fn pause_by(self, failures: u32, chance: u32) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let whole = self.base.saturating_mul(doubled).min(self.max);
        let half = whole / 2;
        // At the ends without rounding, and without an overflow at the longest there is.
        let parts = u128::from(u32::MAX);
        let more = (whole - half).as_nanos() / parts * u128::from(chance)
            + (whole - half).as_nanos() % parts * u128::from(chance) / parts;
        half.saturating_add(Duration::from_nanos(u64::try_from(more).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_lie_between_a_half_and_all_of_it() {
        let retry = Retry::DEFAULT;
        for (failures, most) in [(1, 10), (2, 20), (3, 40), (12, 20_480), (13, 30_000), (200, 30_000)] {
            let most = Duration::from_millis(most);
            assert_eq!(retry.pause_by(failures, 0), most / 2, "{failures}");
            assert_eq!(retry.pause_by(failures, u32::MAX), most, "{failures}");
            assert!(
                Retry { base: Duration::MAX, max: Duration::MAX }.pause(failures) > Duration::from_secs(1)
            );
            let pause = retry.pause(failures);
            assert!((most / 2..=most).contains(&pause), "{failures}: {pause:?}");
        }
    }
}
