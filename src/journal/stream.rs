//! Readers as streams of a runtime's task instead of a thread that sleeps.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_core::stream::FusedStream;

use crate::error::{Error, ErrorKind, Result};
use crate::journal::entry::OwnedEntry;
use crate::journal::subscriber::{Item, Missed, Subscriber};
use crate::journal::waiting::{Place, Reading};
use crate::journal::watcher::Watcher;

/// What a subscriber's stream gives.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum OwnedItem {
    /// An entry, with a share in the mapped segment.
    Entry(OwnedEntry),
    /// Entries that it was not fast enough for.
    Missed(Missed),
}

/// A reader as a [`Stream`], for any runtime: it needs no timer, no thread and no reactor, only to be
/// polled when it says so.
///
/// Whoever appends or syncs calls the task's waker, and may hold the journal's locks meanwhile: a waker must
/// not call back into the journal. Those of the usual runtimes only put the task into a queue.
///
/// A reader of another process's store cannot be woken, and is refused by the first poll.
///
/// The stream ends with the log, when the reader is stopped, and behind an error that would come again.
/// Polling reads mapped memory and may wait for the disk as any read of it may. Where nobody syncs (a
/// journal with `background(false)`), a reader of what is durable syncs in `poll_next`.
///
/// ```
/// use esker::{Journal, Record, Region};
/// # use std::future::{Future, poll_fn};
/// # use std::pin::{Pin, pin};
/// # use futures_core::Stream;
/// # fn block_on<F: Future>(future: F) -> F::Output {
/// #     let mut future = pin!(future);
/// #     let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
/// #     loop { if let std::task::Poll::Ready(out) = future.as_mut().poll(&mut cx) { return out; } }
/// # }
/// # fn main() -> esker::Result<()> {
/// let journal = Journal::in_memory()?;
/// let order = journal.kind("order")?;
/// journal.append(Record::new(order, b"8812", b"placed"))?;
/// let mut orders = journal.watch("orders", Region::kind(order))?.into_stream();
/// block_on(async {
///     // `while let Some(entry) = orders.next().await`, with the `StreamExt` of your choice
///     let next = poll_fn(|cx| Pin::new(&mut orders).poll_next(cx)).await;
///     let entry = next.unwrap()?;
///     assert_eq!(entry.payload(), b"placed");
///     Ok::<_, esker::Error>(())
/// })?;
/// orders.reader_mut().checkpoint()
/// # }
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct ReaderStream<R: Reading> {
    reader: R,
    ended: bool,
}

impl Watcher {
    /// This watcher as a stream of entries.
    pub fn into_stream(self) -> ReaderStream<Self> {
        ReaderStream { reader: self, ended: false }
    }
}

impl Subscriber {
    /// This subscriber as a stream of entries, and of what it missed in between.
    pub fn into_stream(self) -> ReaderStream<Self> {
        ReaderStream { reader: self, ended: false }
    }
}

impl<R: Reading> ReaderStream<R> {
    /// The reader, to checkpoint or to look at. What is read through it the stream does not give.
    pub fn reader_mut(&mut self) -> &mut R {
        // It may be read on, and then waits for something else.
        self.place().get_up();
        &mut self.reader
    }

    fn place(&self) -> Place<'_> {
        self.reader.place()
    }

    fn poll_step<T>(
        &mut self,
        cx: &Context<'_>,
        mut step: impl FnMut(&mut R) -> Result<Option<T>>,
        goes_on_behind: impl Fn(&Error) -> bool,
    ) -> Poll<Option<Result<T>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.place().is_polled() {
            self.ended = true;
            let doing = "read a store of another process as a stream";
            return Poll::Ready(Some(Err(Error::new(ErrorKind::InvalidInput, doing)
                .sides("a reader that can be woken", "one that has to look again and again"))));
        }
        self.place().get_up();
        loop {
            if self.place().waiting.is_stopped() {
                return self.end();
            }
            match step(&mut self.reader) {
                Ok(Some(item)) => return Poll::Ready(Some(Ok(item))),
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::Closed => return self.end(),
                Err(error) => {
                    self.ended = !goes_on_behind(&error);
                    return Poll::Ready(Some(Err(error)));
                }
            }
            // The bell before the bed: who wakes us finds it.
            self.place().give_bell(Some(Arc::new(cx.waker().clone())));
            match self.place().lie_down() {
                Ok(true) => return Poll::Pending,
                Ok(false) => {}
                Err(error) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn end<T>(&mut self) -> Poll<Option<Result<T>>> {
        self.ended = true;
        Poll::Ready(None)
    }
}

// Nothing in it is pinned.
impl<R: Reading> Unpin for ReaderStream<R> {}

impl Stream for ReaderStream<Watcher> {
    type Item = Result<OwnedEntry>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let step = |watcher: &mut Watcher| Ok(watcher.try_next()?.map(|entry| entry.to_owned()));
        // It stays before what it cannot read.
        self.poll_step(cx, step, |_| false)
    }
}

impl Stream for ReaderStream<Subscriber> {
    type Item = Result<OwnedItem>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let step = |subscriber: &mut Subscriber| {
            Ok(subscriber.try_next()?.map(|item| match item {
                Item::Entry(entry) => OwnedItem::Entry(entry.to_owned()),
                Item::Missed(missed) => OwnedItem::Missed(missed),
            }))
        };
        self.poll_step(cx, step, |error| matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Io))
    }
}

impl FusedStream for ReaderStream<Watcher> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl FusedStream for ReaderStream<Subscriber> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<R: Reading> Drop for ReaderStream<R> {
    fn drop(&mut self) {
        self.place().give_bell(None);
        self.place().get_up();
    }
}

impl<R: Reading + fmt::Debug> fmt::Debug for ReaderStream<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReaderStream").field("reader", &self.reader).field("ended", &self.ended).finish()
    }
}
