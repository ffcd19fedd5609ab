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
    by_key: HashMap<IdempotencyKey, Keyed>,
    /// With the segment that holds the batch.
    order: VecDeque<(u32, Keyed)>,
}

impl Window {
    pub(crate) fn get(&self, key: &IdempotencyKey) -> Option<&Keyed> {
        self.by_key.get(key)
    }

    /// Remembers a batch, and forgets what has left the window at `now`.
    pub(crate) fn remember(&mut self, segment: u32, keyed: Keyed, now: i64) {
        self.by_key.insert(keyed.key, keyed);
        self.order.push_back((segment, keyed));
        let oldest_kept = now.saturating_sub(i64::try_from(TIME_KEPT.as_nanos()).unwrap_or(i64::MAX));
        while let Some((_, first)) = self.order.front() {
            let over = self.order.len() > BATCHES_MAX;
            if !over && (self.order.len() <= BATCHES_KEPT || first.time >= oldest_kept) {
                break;
            }
            if self.by_key.get(&first.key).is_some_and(|newest| newest.first_seq == first.first_seq) {
                self.by_key.remove(&first.key);
            }
            self.order.pop_front();
        }
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
}
