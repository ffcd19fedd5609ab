//! The damaged places of a store, each once: a verification, the opening and the list of segments may all meet the same.

use std::collections::{BTreeMap, BTreeSet};

use esker::dump::SegmentInfo;
use esker::{Severity, Verification};

use crate::output::count_of;
use crate::store::{self, Opened};

/// How many damaged places there are, and the first in words.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) count: u64,
    pub(super) first: Option<String>,
    told: BTreeSet<(u32, u64)>,
}

impl Places {
    pub(super) fn of(verification: &Verification, opened: &Opened, segments: &[SegmentInfo]) -> Self {
        let (mut places, mut in_segment) = (Self::default(), BTreeMap::new());
        for finding in verification.findings.iter().filter(|finding| finding.severity == Severity::Damage) {
            places.add(1, || finding.to_string());
            if let Some(segment) = finding.segment {
                places.told.extend(finding.offset.map(|offset| (segment, offset)));
                *in_segment.entry(segment).or_insert(0_u64) += 1;
            }
        }
        for damage in &opened.reader.recovery().damage {
            if places.told.insert((damage.segment, damage.offset)) {
                places.add(1, || store::describe(damage));
                *in_segment.entry(damage.segment).or_insert(0) += 1;
            }
        }
        for segment in segments {
            let known = in_segment.get(&segment.number).copied().unwrap_or(0);
            // What it counts it does not name: those that were named are the same ones.
            if let Some(more @ 1..) = segment.damaged.checked_sub(known) {
                places.add(more, || format!("{} in {}", count_of(more, "damaged place"), segment.name));
            }
        }
        places
    }

    /// Something that cannot be read: a place of its own, or one that was told.
    pub(super) fn meet(&mut self, error: &esker::Error) {
        let is_new = match error.segment().zip(error.offset()) {
            Some(place) => self.told.insert(place),
            None => true,
        };
        if is_new {
            self.add(1, || error.to_string());
        }
    }

    fn add(&mut self, count: u64, text: impl FnOnce() -> String) {
        self.count += count;
        self.first.get_or_insert_with(text);
    }
}

/// True if a segment has no index that can be used for a reason that the verification gives.
pub(super) fn is_told_of_index(verification: &Verification, segment: &SegmentInfo) -> bool {
    let file = match segment.name.strip_prefix("part-") {
        Some(number) => format!("{number:0>10}.snap.idx"),
        None => format!("{:0>10}.idx", segment.name),
    };
    verification.findings.iter().any(|finding| finding.severity == Severity::Derived && finding.file == file)
}
