//! What stands on the backplane, for a check: folds that cannot go on, consumers that do not.

use std::path::Path;

use anyhow::Result;
use esker::backplane::WrittenTopic;
use esker::dump::key_text;
use esker::{WrittenConsumer, WrittenFold};
use serde::Serialize;

use super::places::Places;
use super::{Gravity, Trouble};
use crate::args::Limits;
use crate::commands::consumers::{Over, Standing, consumed_part};
use crate::commands::met::{self, Met};
use crate::commands::stuck;
use crate::commands::topics::Status;
use crate::store::Opened;
use crate::typed::on;

/// What was looked at.
#[derive(Debug, Default, Serialize)]
pub(super) struct OnPlane {
    folds: u64,
    pub(super) halted: u64,
    pub(super) consumers: u64,
    pub(super) suspended: u64,
    /// Those that do not go on, fail again and again, or have parked something.
    pub(super) stuck: u64,
    pub(super) parked_records: u64,
    pub(super) max_consumer_lag: u64,
}

struct Looking<'a> {
    path: &'a Path,
    limits: Limits,
    numbers: OnPlane,
    troubles: Vec<Trouble>,
}

/// Looks at every fold over every topic, and at every consumer. A damaged frame that is met is one of the damaged places.
pub(super) fn look(
    opened: &Opened,
    limits: Limits,
    now: i64,
    places: &mut Places,
) -> Result<(OnPlane, Vec<Trouble>)> {
    let path = opened.reader.path();
    let mut looking = Looking { path, limits, numbers: OnPlane::default(), troubles: Vec::new() };
    met::each(opened, now, |met| match met {
        Met::Fold { stream, topic, fold, status } => looking.fold(stream, topic, fold, status),
        Met::Consumer(standing) => looking.consumer(&standing),
        Met::PartOf(stream) => looking.part_of(stream),
        Met::Unread(error) => places.meet(&error),
    })?;
    Ok((looking.numbers, looking.troubles))
}

impl Looking<'_> {
    fn trouble(&mut self, gravity: Gravity, about: &'static str, what: String, next: String) {
        self.troubles.push(Trouble { gravity, about, what, next });
    }

    fn part_of(&mut self, stream: &str) {
        let what = format!("which folds are registered with {stream:?} cannot be read in full");
        self.trouble(Gravity::Critical, "fold", what, on("topics", self.path));
    }

    fn fold(&mut self, stream: &str, topic: &WrittenTopic, fold: &WrittenFold, status: Status) {
        self.numbers.folds += 1;
        if !status.is_halted() {
            return;
        }
        self.numbers.halted += 1;
        let (key, status) = (key_text(&topic.key), status.word());
        let what = format!("the fold {:?} over {stream}/{key} cannot go on: {status}", fold.fold);
        let next = format!("{} --halted", on("topics", self.path));
        self.trouble(Gravity::Critical, "fold", what, next);
    }

    fn consumer(&mut self, standing: &Standing) {
        let WrittenConsumer { info, .. } = &standing.consumer;
        let records = standing.behind.map_or(0, |behind| behind.records);
        let stuck = stuck::of(standing, self.path);
        let numbers = &mut self.numbers;
        numbers.consumers += 1;
        numbers.suspended += u64::from(info.suspended.is_some());
        numbers.stuck += u64::from(!stuck.is_empty());
        numbers.parked_records += info.parked;
        numbers.max_consumer_lag = numbers.max_consumer_lag.max(records);
        for stuck in stuck {
            let gravity = if stuck.is_halted { Gravity::Critical } else { Gravity::Warning };
            let what = stuck::sentence(&standing.consumer, &stuck);
            self.trouble(gravity, "consumer", what, stuck.next);
        }
        let over = standing.excesses(self.limits.max_lag, self.limits.max_age).into_iter();
        // The others are said already.
        let over = over.filter(|(over, _)| matches!(over, Over::Lag | Over::Age));
        let over: Vec<String> = over.map(|(_, text)| text).collect();
        if !over.is_empty() {
            let of = consumed_part(&standing.consumer);
            let what = format!("consumer {:?} of {of} {}", info.name, over.join("; "));
            self.trouble(Gravity::Warning, "consumer", what, on("consumers", self.path));
        }
    }
}
