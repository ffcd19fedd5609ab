//! What is told of a consumer to whoever counts: where it stands, how far that is behind, and whether its backplane answers.

use std::sync::Arc;
use std::time::Duration;

use crate::backplane::{Backplane, Era, Offset};
use crate::fold::consumer::info::ConsumerHaltReason;
use crate::fold::consumer::progress::Identity;
use crate::fold::consumer::working::{Setting, Trouble, Turn};
use crate::fold::panics::guarded;
use crate::meter::{ConsumerMeter, ConsumerReading, Meter};

/// A backplane across a network is asked for the head at most so often.
const HEAD_EVERY: Duration = Duration::from_secs(5);

/// Takes part in what is told. A backplane across a network is not asked for the head by whoever looks at numbers, who would wait for
/// that: the consumer [does so](Looks), in its own turns.
pub(super) fn metered(meter: &Meter, of: &Identity, plane: &Arc<dyn Backplane>) -> Arc<ConsumerMeter> {
    let begun = ConsumerReading {
        consumer: of.name.clone(),
        stream: of.stream.clone(),
        key: of.key.as_ref().map(|key| key.0.clone()),
        shard: of.shard,
        state: "running",
        is_up: true,
        ..ConsumerReading::default()
    };
    let (of, plane) = (of.clone(), Arc::downgrade(plane));
    meter.add_consumer(begun, move || {
        let plane = plane.upgrade().filter(|plane| plane.answers_at_once())?;
        plane.head(of.filter()).ok().map(Offset::raw)
    })
}

/// When the head was asked for last, and in which era: in another one it means something else.
#[derive(Debug, Default)]
pub(super) struct Looks {
    at: Option<Duration>,
    era: Option<Era>,
}

impl Looks {
    /// Notes behind a turn whether the backplane answered, and now and then what its head is.
    pub(super) fn behind_a_turn(
        &mut self,
        setting: &Setting,
        own: &ConsumerMeter,
        outcome: &Result<Turn, Trouble>,
        (era, reconnects): (Option<Era>, u64),
    ) {
        let is_down = matches!(outcome, Err(trouble) if trouble.is_disconnected());
        own.has_fed(!is_down, reconnects);
        let is_of_another =
            matches!(outcome, Err(Trouble::Halt(halt)) if halt.why == ConsumerHaltReason::EraChanged);
        if self.era != era || is_of_another {
            (self.at, self.era) = (None, era);
            own.forgets_head(is_of_another);
        }
        // Who has just not answered is not asked for more.
        let has_answered = matches!(outcome, Ok(_) | Err(Trouble::Pause(_) | Trouble::Suspended));
        if setting.plane.answers_at_once() || !has_answered {
            return;
        }
        let now = setting.clock.elapsed();
        if self.at.is_some_and(|at| now.saturating_sub(at) < HEAD_EVERY) {
            return;
        }
        self.at = Some(now);
        // A head that panics is none: the consumer goes on.
        if let Ok(Ok(head)) = guarded(|| setting.plane.head(setting.of.filter())) {
            own.sees_head(head.raw());
        }
    }
}
