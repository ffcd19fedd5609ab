//! A feed: what stands in the stream already, by a consumer of its own, and then what the tail gives.
//!
//! The feed is attached to the tail first, and told behind which number that is; up to there it reads for itself, and what
//! comes twice is left out. So there is no moment at which a record goes to neither.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::backplane::feed::{Feed, has_ended};
use crate::backplane::name::{Filter, Offset};
use crate::backplane::nats::consumer::Consumer;
use crate::backplane::nats::floor::Floors;
use crate::backplane::nats::server::{Consume, Server, unreachable};
use crate::backplane::nats::tail::{Queue, Tail};
use crate::backplane::record::StreamRecord;
use crate::error::Result;

/// So many records are read ahead of a feed that catches up.
const AHEAD: usize = 256;

pub(super) struct NatsFeed {
    stream: String,
    key: Option<Vec<u8>>,
    position: Offset,
    floors: Arc<Floors>,
    tail: Arc<Tail>,
    queue: Arc<Queue>,
    behind: Option<CatchUp>,
    ended: bool,
}

/// Reads up to where the tail begins.
#[derive(Debug)]
pub(super) struct CatchUp {
    records: mpsc::Receiver<Caught>,
    task: AbortHandle,
}

/// What a catch-up comes to.
enum Caught {
    Record(Result<StreamRecord>),
    /// All that stands before the beginning of the tail has come.
    Whole,
}

impl Drop for CatchUp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl CatchUp {
    /// Begins to read behind a position, unless there is nothing up to `until`.
    pub(super) async fn start(
        server: &Server,
        subject: &str,
        position: Offset,
        until: u64,
    ) -> Result<Option<Self>> {
        let from = position.raw() + 1;
        if from > until {
            return Ok(None);
        }
        let first = server.next(&server.names.stream, subject, from).await?;
        let Some(first) = first.filter(|first| first.sequence <= until) else { return Ok(None) };
        let consume = Consume { from: first.sequence, headers_only: false };
        let consumer = server.consume(subject, consume).await?;
        let (sender, records) = mpsc::channel(AHEAD);
        let task = tokio::spawn(catch_up(consumer, until, sender)).abort_handle();
        Ok(Some(Self { records, task }))
    }
}

async fn catch_up(mut consumer: Consumer, until: u64, sender: mpsc::Sender<Caught>) {
    let end = read_until(&mut consumer, until, &sender).await;
    // Whoever is gone needs no end.
    let _ = sender.send(end.map_or_else(|error| Caught::Record(Err(error)), |()| Caught::Whole)).await;
    drop(sender);
    consumer.forget().await;
}

async fn read_until(consumer: &mut Consumer, until: u64, sender: &mpsc::Sender<Caught>) -> Result<()> {
    let mut end = consumer.behind();
    while consumer.pending > 0 {
        let delivered = consumer.next().await?;
        if delivered.sequence > until {
            break;
        }
        end = delivered.sequence;
        if sender.send(Caught::Record(Ok(delivered.record?))).await.is_err() || delivered.sequence == until {
            return Ok(());
        }
    }
    // There is nothing more, as the server has it: also where it has left out the rest.
    consumer.check_nothing_left_out(end + 1, until + 1).await
}

impl NatsFeed {
    pub(super) fn new(
        filter: Filter<'_>,
        position: Offset,
        floors: Arc<Floors>,
        tail: Arc<Tail>,
        queue: Arc<Queue>,
    ) -> Self {
        let (stream, key) = (filter.stream.to_owned(), filter.key.map(<[u8]>::to_vec));
        Self { stream, key, position, floors, tail, queue, behind: None, ended: false }
    }

    pub(super) fn catching_up(mut self, behind: Option<CatchUp>) -> Self {
        self.behind = behind;
        self
    }

    fn filter(&self) -> Filter<'_> {
        Filter { stream: &self.stream, key: self.key.as_deref() }
    }

    fn step(&mut self, waker: &Waker) -> Result<Option<StreamRecord>> {
        let found = self.find(waker)?;
        // Behind the waker that is kept now: whoever raises a floor later than this wakes it.
        self.floors.check_not_lost(self.tail.era(), self.filter(), self.position)?;
        let Some(record) = found else { return Ok(None) };
        self.position = record.offset();
        Ok(Some(record))
    }

    /// The next record that is shown.
    fn find(&mut self, waker: &Waker) -> Result<Option<StreamRecord>> {
        loop {
            let next = match &mut self.behind {
                Some(behind) => {
                    self.queue.watch(waker).map_err(|end| end.error())?;
                    match behind.records.poll_recv(&mut Context::from_waker(waker)) {
                        Poll::Pending => return Ok(None),
                        Poll::Ready(Some(Caught::Whole)) => {
                            self.behind = None;
                            continue;
                        }
                        Poll::Ready(Some(Caught::Record(next))) => next?,
                        // Of a task that ended before its time.
                        Poll::Ready(None) => return Err(unreachable("read on", "a catch-up without an end")),
                    }
                }
                None => match self.queue.poll(waker).map_err(|end| end.error())? {
                    Some(next) => next,
                    None => return Ok(None),
                },
            };
            if next.offset() > self.position && !self.is_hidden(&next) {
                return Ok(Some(next));
            }
        }
    }

    /// For a whole stream: below the floor of its topic a record is passed over.
    fn is_hidden(&self, record: &StreamRecord) -> bool {
        record.offset().raw() < self.floors.of(self.tail.era(), &self.stream, record.key()).first
    }
}

impl Feed for NatsFeed {
    fn poll(&mut self, waker: &Waker) -> Result<Option<StreamRecord>> {
        if self.ended {
            return Err(has_ended());
        }
        let found = self.step(waker);
        self.ended = found.is_err();
        found
    }

    fn position(&self) -> Offset {
        self.position
    }
}

impl Drop for NatsFeed {
    fn drop(&mut self) {
        self.tail.detach(self.key.as_deref(), &self.queue);
    }
}

impl fmt::Debug for NatsFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NatsFeed({}, behind {})", self.filter(), self.position)
    }
}
