//! Reading a feed as a careful user does: what comes again is left out, a feed that ends is taken up where it stood.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::backplane::{Backplane, Feed, Filter, Offset, StreamRecord};
use crate::conformance::Broken;
use crate::conformance::trial::{Sent, careful};
use crate::error::{ErrorKind, Result};

pub(super) struct Reading {
    plane: Arc<dyn Backplane>,
    stream: String,
    key: Option<Vec<u8>>,
    feed: Option<Box<dyn Feed>>,
    last: Offset,
    seen: BTreeMap<Offset, StreamRecord>,
    patience: Duration,
}

impl Reading {
    pub(super) fn new(
        plane: Arc<dyn Backplane>,
        stream: String,
        key: Option<&[u8]>,
        from: Offset,
        patience: Duration,
    ) -> Self {
        let key = key.map(<[u8]>::to_vec);
        Self { plane, stream, key, feed: None, last: from, seen: BTreeMap::new(), patience }
    }

    fn filter(&self) -> Filter<'_> {
        Filter { stream: &self.stream, key: self.key.as_deref() }
    }

    /// Subscribes, if it has not yet.
    pub(super) fn subscribe(&mut self) -> Result<()> {
        if self.feed.is_none() {
            self.feed = Some(careful(|| self.plane.subscribe(self.filter(), self.last))?);
        }
        Ok(())
    }

    /// The next record that is new; the outer error is what the contract does not allow.
    pub(super) fn next(&mut self) -> Result<Result<StreamRecord>, Broken> {
        loop {
            if let Err(error) = self.subscribe() {
                return Ok(Err(error));
            }
            let Some(feed) = &mut self.feed else { continue };
            let record = match feed.next_timeout(self.patience) {
                Ok(Some(record)) => record,
                Ok(None) => {
                    let (filter, last, patience) = (self.filter(), self.last, self.patience);
                    return Err(Broken(format!("nothing of {filter} came behind {last} for {patience:?}")));
                }
                Err(error) if error.kind() == ErrorKind::Disconnected => {
                    self.feed = None;
                    continue;
                }
                Err(error) => return Ok(Err(error)),
            };
            if feed.position() < record.offset() {
                let (position, offset) = (feed.position(), record.offset());
                return Err(Broken(format!(
                    "a feed that delivered {offset} says that it stands at {position}"
                )));
            }
            if !self.filter().matches(record.key()) {
                return Err(Broken(format!("a feed of {} delivered {record:?}", self.filter())));
            }
            if record.offset() > self.last {
                self.last = record.offset();
                self.seen.insert(record.offset(), record.clone());
                return Ok(Ok(record));
            }
            if self.seen.get(&record.offset()) != Some(&record) {
                let (filter, last) = (self.filter(), self.last);
                return Err(Broken(format!(
                    "a feed of {filter} at {last} delivered {record:?}, which had not come before"
                )));
            }
        }
    }

    /// Demands that these come next, and nothing in between.
    pub(super) fn expect<'s>(&mut self, sent: impl IntoIterator<Item = &'s Sent>) -> Result<(), Broken> {
        for want in sent {
            let record = self.next()??;
            let found = Sent {
                offset: record.offset(),
                key: record.key().to_vec(),
                payload: record.payload().to_vec(),
                stamp: record.stamp().ok_or_else(|| Broken(format!("{record:?} has lost its stamp")))?,
            };
            if found != *want {
                return Err(Broken(format!("a feed of {} delivered {found:?} for {want:?}", self.filter())));
            }
        }
        Ok(())
    }
}
