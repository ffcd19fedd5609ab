//! A hand-made group commit around an engine that has durable batches: what an application would write.
//!
//! Whoever comes while nobody leads takes all that waits, appends it as one durable batch and wakes the
//! others; who comes meanwhile waits for the next round.

use parking_lot::{Condvar, Mutex};

use crate::engine::{Engine, Outcome};
use crate::workload::{Event, Key};

pub struct GroupCommit<E> {
    engine: Mutex<E>,
    queue: Mutex<Queue>,
    finished: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Owned>,
    /// The round that takes what waits now.
    next_round: u64,
    /// Rounds below this one are on the disk.
    durable_rounds: u64,
    led: bool,
}

struct Owned {
    entity: u32,
    generation: u32,
    key: Key,
    payload: Vec<u8>,
}

impl<E: Engine> GroupCommit<E> {
    pub fn around(engine: E) -> Self {
        Self { engine: Mutex::new(engine), queue: Mutex::default(), finished: Condvar::new() }
    }

    pub fn append(&self, event: &Event<'_>) -> Outcome {
        let owned = Owned {
            entity: event.entity,
            generation: event.generation,
            key: event.key,
            payload: event.payload.to_vec(),
        };
        let mut queue = self.queue.lock();
        queue.waiting.push(owned);
        let round = queue.next_round;
        while queue.durable_rounds <= round {
            if queue.led {
                self.finished.wait(&mut queue);
                continue;
            }
            queue.led = true;
            queue.next_round += 1;
            let taken = std::mem::take(&mut queue.waiting);
            drop(queue);
            let done = self.write(&taken);
            queue = self.queue.lock();
            queue.led = false;
            queue.durable_rounds += 1;
            self.finished.notify_all();
            done?;
        }
        Ok(())
    }

    pub fn into_inner(self) -> E {
        self.engine.into_inner()
    }

    fn write(&self, taken: &[Owned]) -> Outcome {
        let events: Vec<_> = taken
            .iter()
            .map(|o| Event { entity: o.entity, generation: o.generation, key: o.key, payload: &o.payload })
            .collect();
        self.engine.lock().append_batch(&events)
    }
}
