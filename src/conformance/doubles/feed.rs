//! What a double delivers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use crate::backplane::{Feed, IMAGES_STREAM, Offset, StreamRecord};
use crate::conformance::doubles::listening::Follower;
use crate::conformance::doubles::{Fault, State};
use crate::conformance::random::Random;
use crate::error::{Error, ErrorKind, Result};

pub(super) struct DoubleFeed {
    pub(super) inner: Box<dyn Feed>,
    pub(super) fault: Fault,
    pub(super) random: Random,
    pub(super) state: Arc<State>,
    pub(super) stream: String,
    /// The last few that were delivered, oldest first.
    pub(super) recent: Vec<StreamRecord>,
    /// What is delivered next, last first.
    pub(super) ahead: Vec<StreamRecord>,
    pub(super) position: Offset,
    pub(super) first_waker: Option<Waker>,
    pub(super) follower: Option<Follower>,
}

impl DoubleFeed {
    /// The next one that the inner feed has and nothing hides.
    fn pull(&mut self, waker: &Waker) -> Result<Option<StreamRecord>> {
        loop {
            let record = match self.inner.poll(waker) {
                Err(error) if self.fault == Fault::SameEra && error.kind() == ErrorKind::EraChanged => {
                    return Err(Error::new(ErrorKind::Disconnected, "read on"));
                }
                polled => polled?,
            };
            let Some(record) = record else { return Ok(None) };
            if self.stream == IMAGES_STREAM && record.offset() <= self.state.images_before {
                continue;
            }
            let floors = self.state.floors.lock();
            let floor = floors.get(&(self.stream.clone(), record.key().to_vec())).copied();
            if floor.is_none_or(|floor| record.offset() >= floor) {
                return Ok(Some(record));
            }
        }
    }

    fn aliased(&self, record: &StreamRecord) -> StreamRecord {
        let newest = self.state.newest_payload.lock().clone();
        StreamRecord::new(record.offset(), record.stamp(), record.time(), record.key(), newest)
            .with_schema(record.schema())
    }

    /// True if it stands further up too.
    fn is_repetition(&self, record: &StreamRecord) -> bool {
        let Some(stamp) = record.stamp() else { return false };
        let mut delivered = self.state.delivered.lock();
        let first = delivered.entry((record.key().to_vec(), stamp.writer, stamp.n));
        *first.or_insert(record.offset()) < record.offset()
    }
}

/// What it is made of, without what proves where it belongs.
fn unstamped(record: &StreamRecord) -> StreamRecord {
    StreamRecord::new(record.offset(), None, record.time(), record.key(), record.payload())
        .with_schema(record.schema())
}

impl Feed for DoubleFeed {
    fn poll(&mut self, waker: &Waker) -> Result<Option<StreamRecord>> {
        if let Some(record) = self.ahead.pop() {
            self.position = self.position.max(record.offset());
            return Ok(Some(record));
        }
        match self.fault {
            Fault::Delay if self.random.one_in(2) => {
                // It tells of an end at once: only what comes is late.
                waker.wake_by_ref();
                return Ok(None);
            }
            Fault::Disconnect if self.random.one_in(6) => {
                self.state.disconnects.fetch_add(1, Ordering::Relaxed);
                return Err(Error::new(ErrorKind::Disconnected, "read on"));
            }
            Fault::Redeliver if !self.recent.is_empty() && self.random.one_in(4) => {
                let from = self.random.below(self.recent.len());
                self.ahead.extend(self.recent.iter().skip(from).rev().cloned());
                return self.poll(waker);
            }
            _ => {}
        }
        let waker = match self.fault {
            Fault::FirstWaker => self.first_waker.get_or_insert_with(|| waker.clone()).clone(),
            _ => waker.clone(),
        };
        let waker = &waker;
        let Some(mut record) = self.pull(waker)? else { return Ok(None) };
        match self.fault {
            Fault::DropOne if self.random.one_in(5) => return self.poll(waker),
            Fault::Reorder => {
                if let Some(second) = self.pull(waker)? {
                    self.ahead.push(std::mem::replace(&mut record, second));
                }
            }
            Fault::Aliased => record = self.aliased(&record),
            Fault::Unstamped => record = unstamped(&record),
            Fault::RepeatsAsNew if self.is_repetition(&record) => record = unstamped(&record),
            _ => {}
        }
        self.follower.iter().for_each(Follower::takes);
        self.recent.push(record.clone());
        if self.recent.len() > 4 {
            self.recent.remove(0);
        }
        self.position = self.position.max(record.offset());
        Ok(Some(record))
    }

    fn position(&self) -> Offset {
        self.position
    }
}
