//! One who listens or follows, and for whom a double waits.

use std::sync::{Arc, Weak};
use std::task::Waker;

use parking_lot::{Condvar, Mutex};

use crate::backplane::{Broadcast, Listener};
use crate::error::Result;

/// So much may be on its way to one who listens.
const ROOM: usize = 8;

/// What was told to one, and not taken yet.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    state: Mutex<Held>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Held {
    count: usize,
    has_gone: bool,
}

impl Mailbox {
    /// Waits until there is room, or nobody is left to take it.
    pub(super) fn put(&self) {
        let mut held = self.state.lock();
        self.changed.wait_while(&mut held, |held| held.count >= ROOM && !held.has_gone);
        held.count += 1;
    }

    fn change(&self, change: impl FnOnce(&mut Held)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }
}

pub(super) struct Listening {
    inner: Box<dyn Listener>,
    mailbox: Arc<Mailbox>,
}

impl Listening {
    pub(super) fn around(inner: Box<dyn Listener>) -> (Weak<Mailbox>, Self) {
        let mailbox = Arc::new(Mailbox::default());
        (Arc::downgrade(&mailbox), Self { inner, mailbox })
    }
}

/// One who follows, and what was appended for it.
#[derive(Debug)]
pub(super) struct Follower(Arc<Mailbox>);

impl Follower {
    pub(super) fn new() -> (Weak<Mailbox>, Self) {
        let mailbox = Arc::new(Mailbox::default());
        (Arc::downgrade(&mailbox), Self(mailbox))
    }

    pub(super) fn takes(&self) {
        self.0.change(|held| held.count = held.count.saturating_sub(1));
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.change(|held| held.has_gone = true);
    }
}

impl Listener for Listening {
    fn poll(&mut self, waker: &Waker) -> Result<Option<Broadcast>> {
        let heard = self.inner.poll(waker)?;
        if heard.is_some() {
            self.mailbox.change(|held| held.count = held.count.saturating_sub(1));
        }
        Ok(heard)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.mailbox.change(|held| held.has_gone = true);
    }
}
