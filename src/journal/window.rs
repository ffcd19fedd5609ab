//! The idempotency keys that a store remembers.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::format::index::Keyed;
use crate::id::IdempotencyKey;

/// So many keyed batches are remembered however old they are.
const BATCHES_KEPT: usize = 65_536;
/// All of the last ten minutes are remembered.
const TIME_KEPT: Duration = Duration::from_secs(600);
/// But never more than this many.
const BATCHES_MAX: usize = 1 << 20;

/// Keyed batches, by key and in the order of the log.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// The number of the newest batch of each key.
    by_key: HashMap<IdempotencyKey, u64>,
    /// With the segment that holds the batch.
    order: VecDeque<(u32, Keyed)>,
    /// So many were forgotten: the number of the first that is not.
    forgotten: u64,
}

impl Window {
    pub(crate) fn get(&self, key: &IdempotencyKey) -> Option<&Keyed> {
        let place = self.by_key.get(key)?.checked_sub(self.forgotten)?;
        self.order.get(usize::try_from(place).ok()?).map(|(_, keyed)| keyed)
    }

    /// Remembers a batch, and forgets what has left the window at `now`.
    pub(crate) fn remember(&mut self, segment: u32, keyed: Keyed, now: i64) {
        let oldest_kept = now.saturating_sub(i64::try_from(TIME_KEPT.as_nanos()).unwrap_or(i64::MAX));
        // Before there is one more, so that the full window takes no more memory than it has.
        while let Some((_, first)) = self.order.front() {
            let is_full = self.order.len() >= BATCHES_MAX;
            if !is_full && (self.order.len() < BATCHES_KEPT || first.time >= oldest_kept) {
                break;
            }
            if self.by_key.get(&first.key) == Some(&self.forgotten) {
                self.by_key.remove(&first.key);
            }
            self.order.pop_front();
            self.forgotten += 1;
        }
        self.by_key.insert(keyed.key, self.forgotten + self.order.len() as u64);
        self.order.push_back((segment, keyed));
    }

    /// The segment with the oldest batch that is remembered; zero: there is none.
    pub(crate) fn first_segment(&self) -> u64 {
        self.order.front().map_or(0, |(segment, _)| u64::from(*segment))
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed(n: u64, time: i64) -> Keyed {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&n.to_le_bytes());
        Keyed { key: IdempotencyKey(key), first_seq: n, frames: 1, digest: n, time }
    }

    #[test]
    fn keys_are_forgotten_when_they_are_both_many_and_old() {
        let mut window = Window::default();
        let ten_minutes = i64::try_from(TIME_KEPT.as_nanos()).unwrap();
        for n in 0..BATCHES_KEPT as u64 + 10 {
            window.remember(1, keyed(n, 0), 0);
        }
        assert_eq!(window.len(), BATCHES_KEPT + 10, "young ones stay however many");
        window.remember(2, keyed(u64::MAX, ten_minutes + 1), ten_minutes + 1);
        assert_eq!(window.len(), BATCHES_KEPT, "old ones stay only within the number");
        assert!(window.get(&keyed(0, 0).key).is_none() && window.get(&keyed(u64::MAX, 0).key).is_some());
        assert_eq!(window.first_segment(), 1);
    }

    #[test]
    fn of_a_key_that_comes_again_the_newest_is_remembered_also_when_the_older_one_is_forgotten() {
        let mut window = Window::default();
        let ten_minutes = i64::try_from(TIME_KEPT.as_nanos()).unwrap();
        let (key, far) = (keyed(7, 0).key, ten_minutes + 1);
        window.remember(1, keyed(7, 0), 0);
        window.remember(1, Keyed { first_seq: 100, ..keyed(7, far) }, far);
        for n in 0..BATCHES_KEPT as u64 - 1 {
            window.remember(2, keyed(1000 + n, far), far);
        }
        assert_eq!((window.len(), window.get(&key).unwrap().first_seq), (BATCHES_KEPT, 100));
        window.remember(3, keyed(u64::MAX, 3 * far), 3 * far);
        assert!(window.get(&key).is_none(), "it is as old as the others");
        assert_eq!(window.get(&keyed(1000, 0).key).unwrap().first_seq, 1000);
    }

    #[test]
    fn never_more_than_so_many_are_remembered() {
        let mut window = Window::default();
        for n in 0..BATCHES_MAX as u64 + 5 {
            window.remember(1, keyed(n, 0), 0);
        }
        assert_eq!(window.len(), BATCHES_MAX);
        assert!(window.get(&keyed(4, 0).key).is_none());
        assert_eq!(window.get(&keyed(5, 0).key).unwrap().first_seq, 5);
    }
}
