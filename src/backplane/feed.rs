//! Records as they come.

use std::task::Waker;
use std::time::{Duration, Instant};

use crate::backplane::name::Offset;
use crate::backplane::record::StreamRecord;
use crate::backplane::waiting::wait_for;
use crate::error::{Error, ErrorKind, Result};

/// Delivers records of a stream in their order: [`Backplane::subscribe`](super::Backplane::subscribe).
///
/// Each record behind the place at which the feed began comes, none is left out, and none of another stream or topic is
/// among them. A record that came may come again, unchanged, together with those behind it: whoever reads leaves out what
/// is not behind the last that it has seen ([`position`](Self::position) does not go back).
///
/// An error ends the feed. `Disconnected`: subscribe again from where it stood. `EraChanged`: what offsets mean has
/// changed. `Lost`: what would come next was dropped. `Closed`. Other kinds (`Corrupt`, `Io`): the next record cannot be read.
pub trait Feed: Send {
    /// The next record, if there is one now. Else the waker is woken, once, when another call may be worth it, also if
    /// that only tells an error. Only the last waker that was given is woken; that may happen in any thread, and under
    /// locks of the backplane, so a waker must not call back into it.
    ///
    /// # Errors
    ///
    /// See [`Feed`].
    fn poll(&mut self, waker: &Waker) -> Result<Option<StreamRecord>>;

    /// The greatest offset that was delivered; where nothing was yet, the one that the feed began behind.
    fn position(&self) -> Offset;

    /// The next record, if there is one now. Never waits.
    ///
    /// # Errors
    ///
    /// See [`Feed`].
    fn try_next(&mut self) -> Result<Option<StreamRecord>> {
        self.poll(Waker::noop())
    }

    /// Waits for the next record.
    ///
    /// # Errors
    ///
    /// See [`Feed`].
    fn next(&mut self) -> Result<StreamRecord> {
        loop {
            if let Some(record) = wait_for(None, |waker| self.poll(waker))? {
                return Ok(record);
            }
        }
    }

    /// Waits for the next record, at most so long; `None`: the time is over.
    ///
    /// # Errors
    ///
    /// See [`Feed`].
    fn next_timeout(&mut self, timeout: Duration) -> Result<Option<StreamRecord>> {
        wait_for(Instant::now().checked_add(timeout), |waker| self.poll(waker))
    }
}

/// What a feed answers behind the error that ended it.
pub(super) fn has_ended() -> Error {
    Error::new(ErrorKind::Closed, "read on behind an error")
        .sides("a subscription anew, from the position of this one", "this one")
}
