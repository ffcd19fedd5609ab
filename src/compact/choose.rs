//! Which stretches of the log are worth the copying.

use std::ops::Range;

/// What a segment or a part would cost, and give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Worth {
    /// Bytes that are kept, and so copied.
    pub(crate) kept: u64,
    /// Bytes that are freed.
    pub(crate) garbage: u64,
    /// It was copied before.
    pub(crate) is_part: bool,
    /// Something of it has to go, whatever it costs.
    pub(crate) must_go: bool,
    /// It may be touched.
    pub(crate) is_free: bool,
    /// An import or a repair left out Seqs before it: what is one stretch has no gaps.
    pub(crate) is_behind_gap: bool,
}

/// A segment with less garbage than one part in so many is left as it is.
const GARBAGE_WORTH_A_COPY: u64 = 16;

impl Worth {
    fn is_wanted(&self, thorough: bool) -> bool {
        if !self.is_free || self.garbage == 0 {
            return false;
        }
        let pays = if self.is_part {
            self.garbage >= self.kept
        } else {
            self.garbage * GARBAGE_WORTH_A_COPY >= self.kept + self.garbage
        };
        self.must_go || thorough || pays
    }
}

/// The runs that are worth it, in the order of the log. None keeps much more than `part_bytes`.
pub(crate) fn choose(row: &[Worth], part_bytes: u64, thorough: bool) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    while let Some(worth) = row.get(at) {
        if !worth.is_wanted(thorough) {
            at += 1;
            continue;
        }
        let floor = runs.last().map_or(0, |run| run.end);
        let mut run = at..at;
        let (mut kept, mut garbage) = (0, 0);
        while let Some(worth) = row.get(run.end).filter(|worth| worth.is_wanted(thorough)) {
            let begins_another = run.end > run.start && worth.is_behind_gap;
            if begins_another || kept > 0 && kept + worth.kept > part_bytes {
                break;
            }
            kept += worth.kept;
            garbage += worth.garbage;
            run.end += 1;
        }
        at = run.end;
        // A small part before it goes with it, so that parts do not become many: for no more than is freed.
        while let Some(before) =
            run.start.checked_sub(1).filter(|before| *before >= floor).and_then(|at| row.get(at))
            && before.is_part
            && before.is_free
            && row.get(run.start).is_some_and(|first| !first.is_behind_gap)
            && before.kept <= garbage
            && kept + before.kept <= part_bytes
        {
            run.start -= 1;
            kept += before.kept;
            garbage = garbage + before.garbage - before.kept;
        }
        runs.push(run);
    }
    runs
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "a row of one run")]
mod tests {
    use super::*;

    fn segment(kept: u64, garbage: u64) -> Worth {
        Worth { kept, garbage, is_part: false, must_go: false, is_free: true, is_behind_gap: false }
    }

    fn part(kept: u64, garbage: u64) -> Worth {
        Worth { is_part: true, ..segment(kept, garbage) }
    }

    #[test]
    fn what_has_no_garbage_is_not_copied_and_neighbours_with_garbage_are_copied_together() {
        let row = [segment(100, 0), segment(50, 50), segment(0, 100), segment(99, 1), segment(10, 90)];
        assert_eq!(choose(&row, 1000, false), [1..3, 4..5]);
        assert_eq!(choose(&row, 1000, true), [1..5], "thoroughly, for any garbage");
        let held = row.map(|worth| Worth { is_free: false, ..worth });
        assert!(choose(&held, 1000, true).is_empty());
    }

    #[test]
    fn a_part_is_copied_again_only_when_that_pays_or_when_something_has_to_go() {
        assert!(choose(&[part(60, 40)], 1000, false).is_empty());
        assert_eq!(choose(&[part(40, 60)], 1000, false), [0..1]);
        assert_eq!(choose(&[Worth { must_go: true, ..part(90, 10) }], 1000, false), [0..1]);
    }

    #[test]
    fn what_lies_on_the_two_sides_of_a_gap_is_never_one_run() {
        let behind_gap = Worth { is_behind_gap: true, ..segment(0, 100) };
        assert_eq!(choose(&[segment(0, 100), behind_gap, segment(0, 100)], 1000, false), [0..1, 1..3]);
        assert_eq!(choose(&[part(30, 0), behind_gap], 1000, false), [1..2]);
    }

    #[test]
    fn small_parts_are_taken_along_for_no_more_than_is_freed_and_no_part_grows_too_large() {
        assert_eq!(choose(&[part(500, 0), part(30, 0), segment(20, 80)], 1000, false), [1..3]);
        assert_eq!(choose(&[part(90, 0), segment(20, 80)], 1000, false), [1..2]);
        let row = [segment(600, 600), segment(600, 600), segment(300, 300)];
        assert_eq!(choose(&row, 1000, false), [0..1, 1..3]);
        assert_eq!(choose(&[part(30, 0), segment(600, 600)], 620, false), [1..2], "both would be too large");
    }

    #[test]
    fn a_run_is_filled_to_the_last_byte_and_what_is_too_large_by_itself_is_one() {
        assert_eq!(choose(&[segment(50, 50), segment(50, 50)], 100, false), [0..2]);
        assert_eq!(choose(&[segment(51, 50), segment(50, 50)], 100, false), [0..1, 1..2]);
        assert_eq!(choose(&[segment(300, 300), segment(300, 300)], 100, false), [0..1, 1..2]);
    }

    #[test]
    fn each_part_that_is_taken_along_counts_with_what_it_keeps_and_what_it_frees() {
        // 20 are freed; the nearest frees 5 more and keeps 15, so the next may keep 10.
        let row = |kept| [part(kept, 0), part(15, 5), segment(0, 20)];
        assert_eq!(choose(&row(10), 1000, false), [0..3]);
        assert_eq!(choose(&row(11), 1000, false), [1..3]);
        let row = [part(10, 0), part(10, 0), segment(50, 80)];
        assert_eq!(choose(&row, 70, false), [0..3]);
        assert_eq!(choose(&row, 69, false), [1..3]);
    }
}
