//! Why numbers that were asked for are not in the log.

use crate::filter::Range;
use crate::store::Opened;
use anyhow::Result;
use esker::dump::SegmentState;
use esker::{LostRange, Seq};

/// A stretch of numbers that are not there, for one reason.
pub(super) struct Gap {
    pub(super) range: Range,
    pub(super) reason: &'static str,
    pub(super) what: String,
}

/// The reason for what stood in a segment that is not there: this one is damage.
pub(super) const MISSING: &str = "missing";

/// The reasons why each of these numbers is not there, where others behind them are.
pub(super) fn of(range: Range, gone: &[(String, Range)], opened: &Opened) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut next = Some(range.first);
    while let Some(first) = next.filter(|first| *first <= range.last) {
        let range = Range { first, last: range.last };
        let gap = of_missing(range, gone).unwrap_or_else(|| {
            let behind = gone.iter().find(|(_, gone)| gone.first > first).map(|(_, gone)| gone.first - 1);
            first_of(Range { first, last: range.last.min(behind.unwrap_or(u64::MAX)) }, opened)
        });
        next = gap.range.last.checked_add(1);
        gaps.push(gap);
    }
    gaps
}

/// The segments that others follow and that are not there, each with the numbers that stood in it. Segments without an index are
/// read for it.
pub(super) fn missing_from(opened: &Opened) -> Result<Vec<(String, Range)>> {
    let segments = opened.segments()?.into_iter();
    let missing = segments.filter(|segment| segment.state == SegmentState::Missing);
    let held = missing.filter_map(|segment| {
        let range = Range { first: segment.first_seq?, last: segment.last_seq? };
        Some((segment.name, range))
    });
    Ok(held.collect())
}

fn of_missing(range: Range, gone: &[(String, Range)]) -> Option<Gap> {
    let (name, gone) = gone.iter().find(|(_, gone)| (gone.first..=gone.last).contains(&range.first))?;
    let what = format!("segment {name}, in which it stood, is not there");
    Some(Gap { range: Range { last: range.last.min(gone.last), ..range }, reason: MISSING, what })
}

fn first_of(range: Range, opened: &Opened) -> Gap {
    let lost = opened.reader.lost_to_repair();
    let at = lost.partition_point(|lost| lost.last_seq < range.first);
    match lost.get(at) {
        Some(lost) if lost.first_seq <= range.first => {
            let (reason, what) = of_loss(lost);
            Gap { range: Range { last: range.last.min(lost.last_seq), ..range }, reason, what }
        }
        Some(lost) if lost.first_seq <= range.last => {
            not_lost(Range { last: lost.first_seq - 1, ..range }, opened)
        }
        _ => not_lost(range, opened),
    }
}

/// A repair has written down what it could not save.
fn of_loss(lost: &LostRange) -> (&'static str, String) {
    if lost.is_whole() {
        return ("lost", "it was damaged, and a repair could not save it".to_owned());
    }
    let LostRange { first_seq, last_seq, entries, .. } = lost;
    let what = format!(
        "compaction had dropped it, or it was damaged and a repair could not save it: of {first_seq}..{last_seq} \
         {entries} were lost, and nothing says which"
    );
    ("lost_or_compacted", what)
}

fn not_lost(range: Range, opened: &Opened) -> Gap {
    let compacted = Seq::new(range.first).and_then(|first| opened.survey.compacted(first));
    match compacted {
        Some(compacted) => Gap {
            range: Range { last: range.last.min(*compacted.end()), ..range },
            reason: "compacted",
            what: "compaction dropped it".to_owned(),
        },
        None => Gap { range, reason: "left_out", what: "a repair left its number out".to_owned() },
    }
}
