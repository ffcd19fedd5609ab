//! batpak, followed by its lossy subscriptions and by its cursors.
//!
//! Configuration: as in `batpak.rs`, and as many notifications for each subscription as the queues hold.
//! Neither brings the payload: a notification and an index entry name the event, which is then read from
//! the store, because that is what the others hand over. A subscription that is full ends, and all that
//! comes behind is lost to it. A cursor waits in `pull_batch`, for up to 64 entries at once. Cursors that
//! keep a place are the store's own workers; the place is a file that is replaced and synced each time,
//! and no count of syncs is told.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use batpak::prelude::*;
use batpak::store::{
    Canal, CanalBatch, CheckpointId, Cursor, CursorWorkerAction, CursorWorkerConfig, IndexEntry, Subscription,
};

use super::batpak::{Batpak, all, show};
use crate::engine::{Durability, Engine, Keyed, Outcome, Setup};
use crate::feed::{Feed, Followed, Reader, Told, Waiting};
use crate::workload::{Event as Given, Key};
use crate::works::Work;

const PULLED: usize = 64;

pub struct Subscribed(Batpak);

pub struct SubscriptionReader {
    subscription: Subscription,
    store: Arc<Store<Open>>,
}

fn open_store(dir: &Path) -> Outcome<Batpak> {
    let (durability, keyed) = (Durability::None, Keyed::BySequence);
    Batpak::open(&Setup { dir: dir.into(), durability, keyed, pipelined: true })
}

fn most_events(work: Work) -> u64 {
    match work {
        Work::FeedThroughputOne | Work::FeedThroughputEight => 20_000,
        Work::FeedThroughputSixtyFour => 4_000,
        _ => 50_000,
    }
}

impl Feed for Subscribed {
    const CRATE: &'static str = Batpak::CRATE;
    const IS_STORE: bool = true;
    const LOSES: bool = true;

    type Reader = SubscriptionReader;

    /// There is nothing to spin on.
    fn offers(work: Work) -> bool {
        work != Work::FeedLatencySpinning
    }

    fn most_events(work: Work) -> u64 {
        most_events(work)
    }

    fn open(dir: &Path, readers: usize, _waiting: Waiting) -> Outcome<(Self, Vec<SubscriptionReader>)> {
        let batpak = open_store(dir)?;
        let store = batpak.store();
        let subscribe =
            |_| SubscriptionReader { subscription: store.subscribe_lossy(&all()), store: Arc::clone(store) };
        let readers = (0..readers).map(subscribe).collect();
        Ok((Self(batpak), readers))
    }

    fn publish(&mut self, event: &Given<'_>) -> Outcome {
        self.0.append(event)
    }

    fn settle(&mut self) -> Outcome {
        self.0.settle()
    }

    fn close(self) -> Outcome {
        self.0.close()
    }
}

impl Reader for SubscriptionReader {
    fn next(&mut self, mut see: impl FnMut(&[u8])) -> Outcome<Told> {
        let Some(notification) = self.subscription.recv() else { return Ok(Told::Ended) };
        show(&self.store, notification.event_id, &mut see)?;
        Ok(Told::Entries)
    }
}

pub struct Cursored(Batpak);

pub struct CursorReader {
    cursor: Cursor,
    store: Arc<Store<Open>>,
}

impl Feed for Cursored {
    const CRATE: &'static str = Batpak::CRATE;
    const IS_STORE: bool = true;

    type Reader = CursorReader;

    fn offers(work: Work) -> bool {
        Subscribed::offers(work)
    }

    fn most_events(work: Work) -> u64 {
        most_events(work)
    }

    fn open(dir: &Path, readers: usize, _waiting: Waiting) -> Outcome<(Self, Vec<CursorReader>)> {
        let batpak = open_store(dir)?;
        let store = batpak.store();
        let read = |_| CursorReader { cursor: store.cursor_guaranteed(&all()), store: Arc::clone(store) };
        let readers = (0..readers).map(read).collect();
        Ok((Self(batpak), readers))
    }

    fn publish(&mut self, event: &Given<'_>) -> Outcome {
        self.0.append(event)
    }

    fn settle(&mut self) -> Outcome {
        self.0.settle()
    }

    fn close(self) -> Outcome {
        self.0.close()
    }
}

impl Reader for CursorReader {
    fn next(&mut self, mut see: impl FnMut(&[u8])) -> Outcome<Told> {
        let mut show_it = |entry: &IndexEntry| show(&self.store, entry.event_id(), &mut see);
        match self.cursor.pull_batch(PULLED, Duration::from_secs(1))? {
            CanalBatch::Empty => {}
            CanalBatch::One(entry) => show_it(&entry)?,
            CanalBatch::Many(entries) => entries.iter().try_for_each(show_it)?,
        }
        Ok(Told::Entries)
    }
}

impl Followed for Batpak {
    const DRAINS_ONE_BY_ONE: bool = false;

    type Sleeper = Subscription;

    fn most_drained() -> u64 {
        20_000
    }

    /// A cursor without a place to keep has no name.
    fn drain(&self, _name: &str, batch: Option<usize>, mut see: impl FnMut(&[u8])) -> Outcome {
        let mut cursor = self.store().cursor_guaranteed(&all());
        loop {
            let entries = cursor.poll_batch(batch.unwrap_or(1));
            if entries.is_empty() {
                return Ok(());
            }
            for entry in &entries {
                show(self.store(), entry.event_id(), &mut see)?;
            }
        }
    }

    fn sleeper(&self, key: &Key) -> Outcome<Subscription> {
        Ok(self.store().subscribe_lossy(&Region::entity(std::str::from_utf8(key)?)))
    }

    fn sleep(sleeper: Subscription) -> Outcome {
        match sleeper.recv() {
            None => Ok(()),
            Some(_) => Err("a reader of an entity that does not move was told of something".into()),
        }
    }

    fn checkpoint_each(&self, stop: &AtomicBool) -> Outcome<u64> {
        let checkpoints = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&checkpoints);
        let mut config = CursorWorkerConfig::default();
        config.batch_size = 1;
        config.checkpoint_id = Some(CheckpointId::new("checkpoints")?);
        let worker = self.store().cursor_worker(&all(), config, move |_, _, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            CursorWorkerAction::Continue
        })?;
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        worker.stop_and_join()?;
        Ok(checkpoints.load(Ordering::Relaxed))
    }

    /// It does not count them.
    fn syncs(&self) -> Option<u64> {
        None
    }
}
