//! A backplane of which one thing at a time is not as it was: a record is gone, an image is damaged, the era is another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

use crate::backplane::{
    Backplane, CellState, Compactor, Done, Era, Feed, Filter, IMAGES_STREAM, Listener, Offset, Stamp, Step,
    StreamRecord,
};
use crate::error::{Error, ErrorKind, Result};

/// A backplane around another one, and what is not as it was.
#[derive(Debug)]
pub(super) struct Tampered {
    inner: Arc<dyn Backplane>,
    rules: Arc<Mutex<Rules>>,
}

#[derive(Debug, Default)]
pub(super) struct Rules {
    /// Added to the era.
    pub(super) era_shift: u128,
    /// Records that are not delivered.
    pub(super) without: BTreeSet<Offset>,
    /// Records that have another stamp.
    pub(super) stamps: BTreeMap<Offset, Stamp>,
    /// Nothing behind this is delivered yet.
    pub(super) hold_behind: Option<Offset>,
    /// One bit of each image is another.
    pub(super) flips_images: bool,
    /// So many reads of images fail, as this.
    pub(super) failing_images: Option<(u32, ErrorKind)>,
    sleeping: Vec<Waker>,
}

impl Tampered {
    pub(super) fn around(inner: Arc<dyn Backplane>) -> Arc<Self> {
        Arc::new(Self { inner, rules: Arc::default() })
    }

    /// What it is around.
    pub(super) fn untampered(&self) -> Arc<dyn Backplane> {
        Arc::clone(&self.inner)
    }

    /// Changes what is not as it was, and wakes whoever that concerns.
    pub(super) fn change(&self, change: impl FnOnce(&mut Rules)) {
        let mut rules = self.rules.lock();
        change(&mut rules);
        let sleeping = std::mem::take(&mut rules.sleeping);
        drop(rules);
        sleeping.into_iter().for_each(Waker::wake);
    }
}

impl Backplane for Tampered {
    fn atomic(&self) -> bool {
        self.inner.atomic()
    }

    fn commit(&self, steps: &[Step<'_>]) -> Result<Done> {
        self.inner.commit(steps)
    }

    fn subscribe(&self, filter: Filter<'_>, from: Offset) -> Result<Box<dyn Feed>> {
        Ok(Box::new(TamperedFeed {
            inner: self.inner.subscribe(filter, from)?,
            rules: Arc::clone(&self.rules),
            is_of_images: filter.stream == IMAGES_STREAM,
            era_shift: self.rules.lock().era_shift,
            held: None,
            position: from,
        }))
    }

    fn head(&self, filter: Filter<'_>) -> Result<Offset> {
        self.inner.head(filter)
    }

    fn lowest_retained(&self, filter: Filter<'_>) -> Result<Offset> {
        self.inner.lowest_retained(filter)
    }

    fn load(&self, cell: &[u8]) -> Result<CellState> {
        self.inner.load(cell)
    }

    fn broadcast(&self, channel: &str, bytes: &[u8]) -> Result<usize> {
        self.inner.broadcast(channel, bytes)
    }

    fn listen(&self, channel: &str) -> Result<Box<dyn Listener>> {
        self.inner.listen(channel)
    }

    fn era(&self) -> Result<Era> {
        let era = self.inner.era()?.raw();
        Ok(Era::from_raw(era.wrapping_add(self.rules.lock().era_shift)))
    }

    fn close(&self) -> Result<()> {
        self.inner.close()
    }

    fn compactor(&self) -> Option<&dyn Compactor> {
        self.inner.compactor()
    }
}

struct TamperedFeed {
    inner: Box<dyn Feed>,
    rules: Arc<Mutex<Rules>>,
    is_of_images: bool,
    era_shift: u128,
    held: Option<StreamRecord>,
    position: Offset,
}

impl TamperedFeed {
    fn failure(&self) -> Option<Error> {
        let mut rules = self.rules.lock();
        if rules.era_shift != self.era_shift {
            return Some(Error::new(ErrorKind::EraChanged, "read on"));
        }
        let (left, kind) =
            rules.failing_images.as_mut().filter(|(left, _)| self.is_of_images && *left > 0)?;
        *left -= 1;
        Some(Error::new(*kind, "read an image"))
    }

    /// What becomes of a record; `None`: it is not there.
    fn tampered(&self, record: &StreamRecord) -> Option<StreamRecord> {
        let rules = self.rules.lock();
        if self.is_of_images {
            let mut payload = record.payload().to_vec();
            if rules.flips_images
                && let Some(last) = payload.last_mut()
            {
                *last ^= 1;
            }
            return Some(again(record, record.stamp(), &payload));
        }
        match rules.stamps.get(&record.offset()) {
            _ if rules.without.contains(&record.offset()) => None,
            Some(stamp) => Some(again(record, Some(*stamp), record.payload())),
            None => Some(record.clone()),
        }
    }
}

fn again(record: &StreamRecord, stamp: Option<Stamp>, payload: &[u8]) -> StreamRecord {
    StreamRecord::new(record.offset(), stamp, record.time(), record.key(), payload)
        .with_schema(record.schema())
}

impl Feed for TamperedFeed {
    fn poll(&mut self, waker: &Waker) -> Result<Option<StreamRecord>> {
        // Before the look, so that whoever changes something behind it wakes.
        self.rules.lock().sleeping.push(waker.clone());
        loop {
            if let Some(failure) = self.failure() {
                return Err(failure);
            }
            if self.held.is_none() {
                self.held = self.inner.poll(waker)?;
            }
            let Some(record) = &self.held else { return Ok(None) };
            let hold_behind = self.rules.lock().hold_behind;
            if !self.is_of_images && hold_behind.is_some_and(|offset| record.offset() > offset) {
                return Ok(None);
            }
            self.position = self.position.max(record.offset());
            let tampered = self.tampered(record);
            self.held = None;
            if let Some(record) = tampered {
                return Ok(Some(record));
            }
        }
    }

    fn position(&self) -> Offset {
        self.position
    }
}
