//! disruptor: one ring for all readers, which the publisher does not overwrite before all have read.
//!
//! Configuration: a single producer and 8,192 slots, into which the payload is copied in place. Readers
//! are event pollers in threads of their own. It has no way to sleep until there is something: readers
//! that find nothing give their time away, or spin where the work says so, and so does the publisher that
//! finds no room; its own blocking `publish` spins, which starves the readers where cores are fewer.

use std::path::Path;

use disruptor::{
    BusySpin, EventPoller, Polling, Producer, RingBufferFull, SingleProducerBarrier, build_single_producer,
};

use crate::engine::Outcome;
use crate::feed::{Feed, QUEUE_ENTRIES, Reader, Told, Waiting};
use crate::workload::{Event, PAYLOAD_BYTES};
use crate::works::Work;

type Slot = [u8; PAYLOAD_BYTES];

/// Puts a payload into a slot, if there is one. The producer's type depends on how many readers there are.
type Publish = Box<dyn FnMut(&[u8]) -> Result<(), RingBufferFull> + Send>;

pub struct Disruptor(Publish);

pub struct DisruptorReader {
    poller: EventPoller<Slot, SingleProducerBarrier>,
    waiting: Waiting,
}

impl Feed for Disruptor {
    const CRATE: &'static str = "disruptor";

    type Reader = DisruptorReader;

    fn offers(work: Work) -> bool {
        !matches!(work, Work::FeedLatencyOne | Work::FeedLatencyEight)
    }

    fn open(_dir: &Path, readers: usize, waiting: Waiting) -> Outcome<(Self, Vec<DisruptorReader>)> {
        let builder = build_single_producer(QUEUE_ENTRIES, || [0; PAYLOAD_BYTES], BusySpin);
        let (first, builder) = builder.new_event_poller();
        let mut pollers = vec![first];
        let this = if readers == 1 {
            Self(publishing(builder.build()))
        } else {
            let (second, mut builder) = builder.new_event_poller();
            pollers.push(second);
            while pollers.len() < readers {
                let (next, same) = builder.new_event_poller();
                pollers.push(next);
                builder = same;
            }
            Self(publishing(builder.build()))
        };
        Ok((this, pollers.into_iter().map(|poller| DisruptorReader { poller, waiting }).collect()))
    }

    fn publish(&mut self, event: &Event<'_>) -> Outcome {
        while (self.0)(event.payload).is_err() {
            std::thread::yield_now();
        }
        Ok(())
    }

    fn close(self) -> Outcome {
        Ok(())
    }
}

fn publishing(mut producer: impl Producer<Slot> + Send + 'static) -> Publish {
    Box::new(move |payload| producer.try_publish(|slot| slot.copy_from_slice(payload)).map(drop))
}

impl Reader for DisruptorReader {
    fn next(&mut self, mut see: impl FnMut(&[u8])) -> Outcome<Told> {
        loop {
            match self.poller.poll() {
                Ok(mut slots) => {
                    (&mut slots).for_each(|slot| see(slot));
                    return Ok(Told::Entries);
                }
                Err(Polling::Shutdown) => return Ok(Told::Ended),
                Err(Polling::NoEvents) if self.waiting == Waiting::Spins => std::hint::spin_loop(),
                Err(Polling::NoEvents) => std::thread::yield_now(),
            }
        }
    }
}
