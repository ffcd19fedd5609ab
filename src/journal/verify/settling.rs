//! The end of a verification: what was asked about entities of which something was put away is answered.

use crate::error::Result;
use crate::format::index as index_format;
use crate::journal::finding::{Finding, Severity};
use crate::journal::onlooker::Meter;
use crate::journal::verify::histories::{Entity, Histories, Moment, does_not_follow, follows};
use crate::journal::verify::put_away::{Question, ranges};
use crate::journal::verify::{Checking, DOING};

/// What was found later than it belongs.
struct Later {
    moment: Moment,
    /// What was asked at a moment comes behind what was found then.
    is_answer: bool,
    finding: Finding,
}

impl Checking<'_> {
    /// Judges what is left to judge of histories. Answers how many entities there are.
    ///
    /// # Errors
    ///
    /// `Io` if what was put away cannot be read back, or if it is not to go on.
    pub(super) fn settle(&mut self, meter: &Meter<'_>) -> Result<u64> {
        let room = self.histories.room;
        let mut histories = std::mem::replace(&mut self.histories, Histories::with_room_for(room));
        if histories.runs.is_empty() {
            return Ok(histories.recent.len() as u64);
        }
        histories.put_away();
        let mut later = Vec::new();
        let entities = self.settle_runs(&mut histories, &mut later, meter)?;
        for (number, at, moment) in histories.links.wrong() {
            let name = index_format::file_name(number);
            let finding = Finding::new(Severity::Derived, name, SAYS_OTHERWISE).at(at);
            later.push(Later { moment, is_answer: false, finding });
        }
        if let Some((moment, comparison)) = histories.comparison {
            let found = comparison.findings();
            later.extend(found.map(|finding| Later { moment, is_answer: false, finding }));
        }
        self.weave_in(later);
        Ok(entities)
    }

    /// Goes through all that was put away, a range of hashes at a time: so much of them as there is room for.
    fn settle_runs(
        &self,
        histories: &mut Histories,
        later: &mut Vec<Later>,
        meter: &Meter<'_>,
    ) -> Result<u64> {
        let Histories { recent, room, runs, links, comparison, .. } = histories;
        // Not all ranges hold as many.
        let count = runs.entities().div_ceil((*room - *room / 8) as u64);
        let piece = runs.bytes_of_range(count).clamp(4 << 10, 256 << 10);
        let compacted = &self.kept.compacted;
        let mut entities = 0;
        for until in ranges(count) {
            meter.check_goes_on(DOING)?;
            recent.clear();
            for run in 0..runs.len() {
                runs.show(run, until, piece, |met| {
                    let hash = met.hash();
                    let before = recent.insert(hash, Entity::of(met.last())).map(|before| before.known);
                    let Some(question) = met.question(run) else { return };
                    let Question { position, generation, moment, is_first, may_miss, is_indexed } = question;
                    if is_indexed {
                        let before = before.map_or(0, |before| before.newest.segment());
                        links.found(position.segment(), hash, before, compacted);
                    }
                    if !follows(before, generation, is_first, || may_miss) {
                        let finding = does_not_follow(position, before, generation);
                        later.push(Later { moment, is_answer: true, finding });
                    }
                })?;
                if let Some((_, comparison)) = comparison.as_mut().filter(|(at, _)| at.runs == run + 1) {
                    comparison.look_for(recent);
                }
            }
            entities += recent.len() as u64;
        }
        runs.check_that_all_came_back()?;
        Ok(entities)
    }

    /// Findings are in the order of the log.
    fn weave_in(&mut self, mut later: Vec<Later>) {
        later.sort_by_key(|later| (later.moment, later.is_answer));
        let mut later = later.into_iter().peekable();
        let found = std::mem::take(&mut self.findings);
        for (at, finding) in found.into_iter().enumerate() {
            while let Some(before) = later.next_if(|later| later.moment.findings <= at) {
                self.findings.push(before.finding);
            }
            self.findings.push(finding);
        }
        self.findings.extend(later.map(|later| later.finding));
    }
}

/// What is said of an index that does not fit its segment.
pub(super) const SAYS_OTHERWISE: &str = "it does not say what its segment says";
