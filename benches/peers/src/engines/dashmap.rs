//! A `DashMap` and a channel: nothing is durable, and nothing is coalesced. It is the upper bound of whoever tells a
//! consumer of every upsert; who tells what a group came to has less to tell, and can be faster.
//!
//! Configuration: a map of shards as it comes, and a bounded crossbeam-channel of 8,192 changes, each with its key and
//! payload in it. A full channel makes whoever accepts wait, so that nothing is lost. A scan locks one shard after
//! the other: it is of one moment only while nobody writes.

use std::path::Path;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use dashmap::DashMap;

use crate::engine::Outcome;
use crate::feed::QUEUE_ENTRIES;
use crate::state::{Consumer, LiveState, Payload, payload_of};
use crate::workload::{Event, Key};

pub struct MapAndChannel {
    rows: DashMap<Key, (u64, Payload)>,
    changes: Sender<(Key, Payload)>,
}

impl LiveState for MapAndChannel {
    const CRATE: &'static str = "dashmap";

    type Consumer = Receiver<(Key, Payload)>;

    fn open(_dir: &Path) -> Outcome<(Self, Self::Consumer)> {
        let (changes, consumer) = crossbeam_channel::bounded(QUEUE_ENTRIES);
        Ok((Self { rows: DashMap::new(), changes }, consumer))
    }

    fn accept<'a>(&self, upserts: impl Iterator<Item = Event<'a>>) -> Outcome {
        for event in upserts {
            let payload = payload_of(&event);
            // The shard is unlocked again before the channel may make this thread wait.
            self.rows.entry(event.key).and_modify(|row| *row = (row.0 + 1, payload)).or_insert((1, payload));
            self.changes.send((event.key, payload))?;
        }
        Ok(())
    }

    fn flush(&self) -> Outcome {
        Ok(())
    }

    fn get(&self, key: &Key, see: impl FnOnce(&[u8])) -> Outcome {
        see(&self.rows.get(key).ok_or("no such row")?.1);
        Ok(())
    }

    fn scan(&self, mut see: impl FnMut(&[u8], &[u8])) -> Outcome {
        self.rows.iter().for_each(|row| see(row.key(), &row.value().1));
        Ok(())
    }

    fn close(self) -> Outcome {
        Ok(())
    }
}

impl Consumer for Receiver<(Key, Payload)> {
    fn next(&mut self, patience: Duration, mut see: impl FnMut(&[u8], &[u8])) -> Outcome<bool> {
        match self.recv_timeout(patience) {
            Ok((key, payload)) => see(&key, &payload),
            Err(RecvTimeoutError::Timeout) => return Ok(false),
            Err(RecvTimeoutError::Disconnected) => return Err("the store is gone".into()),
        }
        Ok(true)
    }
}
