//! esker, followed by subscribers and by a watcher.
//!
//! Configuration of the feed: `Durability::Os`, and subscribers `Until::Visible` without a capacity, so
//! that nothing is lost. They pull from the mapped segments: a payload is copied once, into the log, and a
//! reader borrows it. A watcher is as it comes: it sees what is durable.
//!
//! `esker-spin` is the same with subscribers that look for 20 us before they sleep.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use esker::{ErrorKind, Item, Region, SubscribeOptions, Subscriber, Until};

use super::esker::Esker;
use crate::engine::{Durability, Engine, Keyed, Outcome, Setup};
use crate::feed::{Feed, Followed, Reader, Told, Waiting};
use crate::workload::{Event, Key};
use crate::works::Work;

/// Longer than any pause of a work between two events.
const SPIN: Duration = Duration::from_millis(100);

/// Before subscribers sleep, they look for so many microseconds.
pub struct EskerFeed<const SPIN_MICROS: u64>(Esker);

impl<const SPIN_MICROS: u64> Feed for EskerFeed<SPIN_MICROS> {
    const CRATE: &'static str = Esker::CRATE;
    const IS_STORE: bool = true;

    type Reader = Subscriber;

    /// With a budget it is a row of its own where it matters for throughput.
    fn offers(work: Work) -> bool {
        SPIN_MICROS == 0
            || matches!(
                work,
                Work::FeedThroughputOne | Work::FeedThroughputEight | Work::FeedThroughputSixtyFour
            )
    }

    fn open(dir: &Path, readers: usize, waiting: Waiting) -> Outcome<(Self, Vec<Subscriber>)> {
        let (durability, keyed) = (Durability::None, Keyed::BySequence);
        let esker = Esker::open(&Setup { dir: dir.into(), durability, keyed, pipelined: false })?;
        let spin = if waiting == Waiting::Spins { SPIN } else { Duration::from_micros(SPIN_MICROS) };
        let options = SubscribeOptions::new().until(Until::Visible).spin(spin);
        let subscribe = |_| Ok(esker.journal().subscribe_with(Region::all(), options.clone())?);
        let readers = (0..readers).map(subscribe).collect::<Outcome<_>>()?;
        Ok((Self(esker), readers))
    }

    fn publish(&mut self, event: &Event<'_>) -> Outcome {
        self.0.append(event)
    }

    fn close(self) -> Outcome {
        self.0.close()
    }
}

impl Reader for Subscriber {
    fn next(&mut self, mut see: impl FnMut(&[u8])) -> Outcome<Told> {
        match Subscriber::next(self) {
            Ok(Some(Item::Entry(entry))) => {
                see(entry.payload());
                Ok(Told::Entries)
            }
            Ok(Some(Item::Missed(missed))) => Ok(Told::Lost(missed.count)),
            Ok(Some(_)) => Err("esker tells something new".into()),
            Ok(None) => Ok(Told::Ended),
            Err(error) if error.kind() == ErrorKind::Closed => Ok(Told::Ended),
            Err(error) => Err(error.into()),
        }
    }
}

impl Followed for Esker {
    const DRAINS_ONE_BY_ONE: bool = true;

    type Sleeper = Subscriber;

    fn drain(&self, name: &str, batch: Option<usize>, mut see: impl FnMut(&[u8])) -> Outcome {
        let mut watcher = self.journal().watch(name, Region::all())?;
        let Some(batch) = batch else {
            while watcher.advance()? {
                see(watcher.entry().payload());
            }
            return Ok(());
        };
        loop {
            let entries = watcher.next_batch(batch)?;
            if entries.is_empty() {
                return Ok(());
            }
            entries.iter().for_each(|entry| see(entry.payload()));
        }
    }

    fn sleeper(&self, key: &Key) -> Outcome<Subscriber> {
        let options = SubscribeOptions::new().until(Until::Visible);
        Ok(self.journal().subscribe_with(Region::entity(self.kind(), key), options)?)
    }

    fn sleep(mut sleeper: Subscriber) -> Outcome {
        match Reader::next(&mut sleeper, |_| {})? {
            Told::Ended => Ok(()),
            told => Err(format!("a reader of an entity that does not move was told {told:?}").into()),
        }
    }

    fn checkpoint_each(&self, stop: &AtomicBool) -> Outcome<u64> {
        let mut watcher = self.journal().watch("checkpoints", Region::all())?;
        let mut checkpoints = 0;
        while !stop.load(Ordering::Relaxed) {
            if watcher.next_timeout(Duration::from_millis(10))?.is_some() {
                watcher.checkpoint()?;
                checkpoints += 1;
            }
        }
        Ok(checkpoints)
    }

    fn syncs(&self) -> Option<u64> {
        Some(self.journal().stats().syncs)
    }
}
