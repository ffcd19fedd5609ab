//! Broadcasts as they come.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::backplane::name::closed;
use crate::backplane::waiting::wait_for;
use crate::error::Result;
use crate::feed::hub::{Heard, Hub, Listening};

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Broadcast {
    /// What was told.
    Message(Arc<[u8]>),
    /// It was too slow for so many messages.
    Missed(u64),
}

/// Hears what is told on one channel, until it is dropped: [`Backplane::listen`](super::Backplane::listen).
pub trait Listener: Send {
    /// What is next, if there is something now. Else the waker is woken as that of a [`Feed`](super::Feed) is.
    ///
    /// # Errors
    ///
    /// `Closed`, `Disconnected`.
    fn poll(&mut self, waker: &Waker) -> Result<Option<Broadcast>>;

    /// What is next, if there is something now. Never waits.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll).
    fn try_next(&mut self) -> Result<Option<Broadcast>> {
        self.poll(Waker::noop())
    }

    /// Waits for what is next, at most so long; `None`: the time is over.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll).
    fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Broadcast>> {
        wait_for(Instant::now().checked_add(timeout), |waker| self.poll(waker))
    }
}

impl Listener for Listening {
    fn poll(&mut self, waker: &Waker) -> Result<Option<Broadcast>> {
        match Listening::poll(self, waker) {
            Heard::Message(bytes) => Ok(Some(Broadcast::Message(bytes))),
            Heard::Missed(count) => Ok(Some(Broadcast::Missed(count))),
            Heard::Nothing => Ok(None),
            Heard::Closed => Err(closed("listen")),
        }
    }
}

pub(super) fn send(hub: &Hub, channel: &str, bytes: &[u8]) -> Result<usize> {
    hub.send(channel, bytes).ok_or_else(|| closed("broadcast"))
}

pub(super) fn listen(hub: &Arc<Hub>, channel: &str, ended: &Arc<AtomicBool>) -> Result<Box<dyn Listener>> {
    let listening = hub.listen(channel, ended).ok_or_else(|| closed("listen"))?;
    Ok(Box::new(listening))
}
