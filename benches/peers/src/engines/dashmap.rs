//! A map in memory and a channel: nothing is durable, and nothing is coalesced. It is the upper bound of whoever tells a
//! consumer of every upsert; who tells what a group came to has less to tell, and can be faster.
//!
//! Configuration: a `HashMap` behind a mutex, and a bounded crossbeam-channel of 8,192 changes, each with its
//! key and payload in it. A full channel makes whoever accepts wait, so that nothing is lost.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use parking_lot::Mutex;

use crate::engine::Outcome;
use crate::feed::QUEUE_ENTRIES;
use crate::state::{Consumer, LiveState, Payload, payload_of};
use crate::workload::{Event, Key};

pub struct MapChannel {
    rows: Mutex<HashMap<Key, (u64, Payload)>>,
    changes: Sender<(Key, Payload)>,
}

impl LiveState for MapChannel {
    const CRATE: &'static str = "crossbeam-channel";

    type Consumer = Receiver<(Key, Payload)>;

    fn open(_dir: &Path) -> Outcome<(Self, Self::Consumer)> {
        let (changes, consumer) = crossbeam_channel::bounded(QUEUE_ENTRIES);
        Ok((Self { rows: Mutex::default(), changes }, consumer))
    }

    fn accept<'a>(&mut self, upserts: impl Iterator<Item = Event<'a>>) -> Outcome {
        for event in upserts {
            let payload = payload_of(&event);
            {
                let mut rows = self.rows.lock();
                let row = rows.entry(event.key).or_insert((0, payload));
                *row = (row.0 + 1, payload);
            }
            self.changes.send((event.key, payload))?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Outcome {
        Ok(())
    }

    fn get(&self, key: &Key, see: impl FnOnce(&[u8])) -> Outcome {
        see(&self.rows.lock().get(key).ok_or("no such row")?.1);
        Ok(())
    }

    fn scan(&self, mut see: impl FnMut(&[u8], &[u8])) -> Outcome {
        self.rows.lock().iter().for_each(|(key, (_, payload))| see(key, payload));
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
